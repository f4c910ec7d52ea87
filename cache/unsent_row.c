/*
 * One walk over the fields serves both directions: a `coder` either appends what the fields hold or
 * fills them, so the two cannot come apart. Its first error stays.
 */
#include "cache/unsent_row.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/secret.h"

#define CHUNK_BYTES_MIN (8 + 8 + 4 + 8 + CONTENT_NONCE_MAX + CONTENT_TAG_LEN)
#define TAGS_SHIFT 28 /* how many tags beyond the first, above the length */
#define OP_BYTES_MIN 84

void unsent_record_done(struct unsent_record *r)
{
	free(r->target);
	free(r->ops);
}

void unsent_content_done(struct unsent_content *c)
{
	free(c->puts);
	free(c->drops);
}

struct coder {
	struct buffer *out; /* writing; else `in` is read */
	struct unsent_bytes in;
	int error;
};

static void raw(struct coder *c, void *p, size_t n)
{
	if (c->error)
		return;
	if (c->out) {
		c->error = buffer_append(c->out, p, n);
	} else if (c->in.len < n) {
		c->error = CE_CORRUPT;
	} else {
		memcpy(p, c->in.p, n);
		c->in.p += n;
		c->in.len -= n;
	}
}

static void u64(struct coder *c, uint64_t *v)
{
	uint8_t b[8];

	store_le64(b, *v);
	raw(c, b, sizeof(b));
	*v = load_le64(b);
}

static void i64(struct coder *c, int64_t *v)
{
	uint64_t u = (uint64_t)*v;

	u64(c, &u);
	*v = (int64_t)u;
}

static void u32(struct coder *c, uint32_t *v)
{
	uint8_t b[4];

	store_le32(b, *v);
	raw(c, b, sizeof(b));
	*v = load_le32(b);
}

static void flag(struct coder *c, bool *v)
{
	uint8_t b = *v;

	raw(c, &b, 1);
	*v = b == 1;
	if (b > 1)
		c->error = CE_CORRUPT;
}

static void length(struct coder *c, size_t *n, size_t max)
{
	uint8_t b[2];

	store_le16(b, (uint16_t)*n);
	raw(c, b, sizeof(b));
	*n = load_le16(b);
	if (!c->error && *n > max)
		c->error = CE_CORRUPT;
}

/* A text in an array of `size` bytes. */
static void text(struct coder *c, char *s, size_t size)
{
	size_t n = c->out ? strlen(s) : 0;

	length(c, &n, size - 1);
	raw(c, s, c->error ? 0 : n);
	if (c->out || c->error)
		return;
	s[n] = 0;
	if (strlen(s) != n)
		c->error = CE_CORRUPT;
}

static void filename(struct coder *c, struct row_filename *f)
{
	uint8_t bytes[ROW_NAME_MAX];
	size_t n = f->len;

	length(c, &n, ROW_NAME_MAX);
	if (c->error)
		return;
	if (c->out) {
		raw(c, f->bytes, n);
		return;
	}
	*f = (struct row_filename){ 0 };
	raw(c, bytes, n);
	if (n && !c->error && !row_filename_set(f, bytes, n))
		c->error = CE_CORRUPT;
}

/* Bytes that reading borrows. */
static void borrow(struct coder *c, struct unsent_bytes *b)
{
	length(c, &b->len, UINT16_MAX);
	if (c->error)
		return;
	if (c->out) {
		c->error = buffer_append(c->out, b->p, b->len);
		return;
	}
	if (b->len > c->in.len) {
		c->error = CE_CORRUPT;
		return;
	}
	b->p = c->in.p;
	c->in.p += b->len;
	c->in.len -= b->len;
}

/* --- the records --- */

static void code_volume(struct coder *c, struct unsent_volume *v)
{
	u64(c, &v->opened);
	u64(c, &v->op_seq);
	u64(c, &v->durable_seq);
	borrow(c, &v->device);
	borrow(c, &v->origin);
	borrow(c, &v->token);
	borrow(c, &v->store);
}

static void code_store(struct coder *c, struct store_row *s)
{
	uint32_t mode = (uint32_t)s->mode;

	u64(c, &s->id);
	text(c, s->ref, sizeof(s->ref));
	text(c, s->name, sizeof(s->name));
	u32(c, &mode);
	s->mode = (enum store_mode)mode;
	if (mode > STORE_LOCAL)
		c->error = CE_CORRUPT;
}

static void code_key(struct coder *c, uint64_t *store, struct row_rid *rid)
{
	u64(c, store);
	text(c, rid->text, sizeof(rid->text));
}

static void code_object(struct coder *c, struct object_row *o)
{
	u64(c, &o->id);
	u32(c, &o->mode);
	u32(c, &o->uid);
	u32(c, &o->gid);
	u64(c, &o->rdev);
	u64(c, &o->size);
	i64(c, &o->atime_ns);
	i64(c, &o->mtime_ns);
	i64(c, &o->ctime_ns);
	i64(c, &o->btime_ns);
	u64(c, &o->map);
}

static void code_name(struct coder *c, struct name_row *n)
{
	filename(c, &n->name);
	text(c, n->etag.text, sizeof(n->etag.text));
	flag(c, &n->has_sha256);
	if (n->has_sha256)
		raw(c, n->sha256, sizeof(n->sha256));
	text(c, n->r_parent.text, sizeof(n->r_parent.text));
	filename(c, &n->r_name);
}

static void code_target(struct coder *c, struct unsent_record *r)
{
	struct unsent_bytes t = { (const uint8_t *)r->target, r->target_len };

	borrow(c, &t);
	if (c->out || c->error || !t.len)
		return;
	if (memchr(t.p, 0, t.len)) {
		c->error = CE_CORRUPT;
		return;
	}
	r->target = strndup((const char *)t.p, t.len);
	r->target_len = t.len;
	if (!r->target)
		c->error = -ENOMEM;
}

static void code_op(struct coder *c, struct op_row *op)
{
	uint32_t kind = op->kind, state = op->state, status = (uint32_t)op->status;

	u64(c, &op->seq);
	u32(c, &kind);
	u32(c, &state);
	u64(c, &op->name);
	u64(c, &op->object);
	raw(c, op->key, sizeof(op->key));
	text(c, op->base_etag.text, sizeof(op->base_etag.text));
	text(c, op->r_parent.text, sizeof(op->r_parent.text));
	filename(c, &op->r_name);
	text(c, op->other_rid.text, sizeof(op->other_rid.text));
	text(c, op->other_etag.text, sizeof(op->other_etag.text));
	u64(c, &op->map);
	u32(c, &op->attempts);
	u32(c, &status);
	text(c, op->error, sizeof(op->error));
	i64(c, &op->created_ns);
	op->kind = (enum op_kind)kind;
	op->state = (enum op_state)state;
	op->status = (int32_t)status;
	if (kind < OP_PUT || kind > OP_DELETE || state > OP_HELD)
		c->error = c->error ? c->error : CE_CORRUPT;
}

/* How many follow; room for them when reading. */
static void count(struct coder *c, size_t *n, size_t bytes_each, void **array, size_t size)
{
	uint32_t k = (uint32_t)*n;

	u32(c, &k);
	*n = c->error ? 0 : k;
	if (c->out || c->error)
		return;
	if (k > c->in.len / bytes_each) {
		*n = 0;
		c->error = CE_CORRUPT;
		return;
	}
	*array = calloc(k ? k : 1, size);
	if (!*array) {
		*n = 0;
		c->error = -ENOMEM;
	}
}

static void code_record(struct coder *c, struct unsent_record *r)
{
	code_key(c, &r->store, &r->rid);
	flag(c, &r->has_name);
	if (r->has_name) {
		text(c, r->parent.text, sizeof(r->parent.text));
		code_name(c, &r->n);
		code_object(c, &r->o);
		code_target(c, r);
	}
	count(c, &r->n_ops, OP_BYTES_MIN, (void **)&r->ops, sizeof(*r->ops));
	for (size_t i = 0; i < r->n_ops && !c->error; i++) {
		code_op(c, &r->ops[i]);
		r->ops[i].store = r->store;
		r->ops[i].rid = r->rid;
	}
}

static void code_chunk(struct coder *c, struct content_chunk *k)
{
	uint32_t len = c->out ? k->len | (k->n_tags - 1) << TAGS_SHIFT : 0;

	u64(c, &k->idx);
	u64(c, &k->slot);
	u32(c, &len);
	u64(c, &k->seq);
	raw(c, k->nonce, sizeof(k->nonce));
	k->len = len & ((UINT32_C(1) << TAGS_SHIFT) - 1);
	k->n_tags = (len >> TAGS_SHIFT) + 1;
	if (k->n_tags > CONTENT_TAGS_MAX)
		c->error = c->error ? c->error : CE_CORRUPT;
	else
		raw(c, k->tags, (size_t)k->n_tags * CONTENT_TAG_LEN);
}

static void code_content(struct coder *c, struct unsent_content *t)
{
	u64(c, &t->map);
	u64(c, &t->after);
	flag(c, &t->has_blob);
	if (t->has_blob) {
		raw(c, t->blob.uuid, sizeof(t->blob.uuid));
		u64(c, &t->blob.store);
		u32(c, &t->blob.alg);
		u32(c, &t->blob.shift);
		u64(c, &t->blob.epoch);
		u64(c, &t->blob.seals);
		flag(c, &t->blob.pack);
	}
	u64(c, &t->size);
	u64(c, &t->cut);
	count(c, &t->n_puts, CHUNK_BYTES_MIN, (void **)&t->puts, sizeof(*t->puts));
	for (size_t i = 0; i < t->n_puts; i++)
		code_chunk(c, &t->puts[i]);
	count(c, &t->n_drops, sizeof(uint64_t), (void **)&t->drops, sizeof(*t->drops));
	for (size_t i = 0; i < t->n_drops; i++)
		u64(c, &t->drops[i]);
}

/* --- writing: the length is put in once it is known --- */

static size_t begin(struct coder *c, enum unsent_kind kind)
{
	uint8_t head[5] = { (uint8_t)kind };
	size_t at = c->out->len;

	c->error = buffer_append(c->out, head, sizeof(head));
	return at;
}

static int end(struct coder *c, size_t at)
{
	if (!c->error)
		store_le32((uint8_t *)c->out->data + at + 1, (uint32_t)(c->out->len - at - 5));
	return c->error;
}

#define PUT(kind, call)                                                                            \
	struct coder c = { .out = b };                                                             \
	size_t at = begin(&c, kind);                                                               \
	call;                                                                                      \
	return end(&c, at)

int unsent_row_put_volume(struct buffer *b, const struct unsent_volume *v)
{
	struct unsent_volume copy = *v;

	PUT(UNSENT_VOLUME, code_volume(&c, &copy));
}

int unsent_row_put_store(struct buffer *b, const struct store_row *s)
{
	struct store_row copy = *s;

	PUT(UNSENT_STORE, code_store(&c, &copy));
}

int unsent_row_put_record(struct buffer *b, const struct unsent_record *r)
{
	struct unsent_record copy = *r;

	PUT(UNSENT_RECORD, code_record(&c, &copy));
}

int unsent_row_put_gone(struct buffer *b, uint64_t store, const char *rid)
{
	struct row_rid copy = { "" };

	memcpy(copy.text, rid, strnlen(rid, ROW_RID_MAX));
	PUT(UNSENT_GONE, code_key(&c, &store, &copy));
}

int unsent_row_put_content(struct buffer *b, const struct unsent_content *t)
{
	struct unsent_content copy = *t;

	PUT(UNSENT_CONTENT, code_content(&c, &copy));
}

int unsent_row_put_synced(struct buffer *b, uint64_t op_seq)
{
	PUT(UNSENT_SYNCED, u64(&c, &op_seq));
}

/* --- reading --- */

int unsent_row_next(struct unsent_bytes *frame, enum unsent_kind *kind, struct unsent_bytes *body)
{
	uint32_t len;

	if (!frame->len)
		return 0;
	if (frame->len < 5)
		return CE_CORRUPT;
	len = load_le32(frame->p + 1);
	if (len > frame->len - 5)
		return CE_CORRUPT;
	*kind = (enum unsent_kind)frame->p[0];
	*body = (struct unsent_bytes){ frame->p + 5, len };
	frame->p += 5 + len;
	frame->len -= 5 + len;
	return 1;
}

static int over(const struct coder *c)
{
	return c->error ? c->error : c->in.len ? CE_CORRUPT : 0;
}

int unsent_row_get_volume(struct unsent_bytes body, struct unsent_volume *v)
{
	struct coder c = { .in = body };
	struct unsent_volume got = { 0 };

	code_volume(&c, &got);
	if (!over(&c))
		*v = got;
	return over(&c);
}

int unsent_row_get_store(struct unsent_bytes body, struct store_row *s)
{
	struct coder c = { .in = body };
	struct store_row got = { 0 };

	code_store(&c, &got);
	if (!over(&c))
		*s = got;
	return over(&c);
}

int unsent_row_get_key(struct unsent_bytes body, uint64_t *store, struct row_rid *rid)
{
	struct coder c = { .in = body };
	struct row_rid got = { "" };
	uint64_t id = 0;

	code_key(&c, &id, &got);
	if (c.error)
		return c.error;
	*store = id;
	*rid = got;
	return 0;
}

int unsent_row_get_record(struct unsent_bytes body, struct unsent_record *r)
{
	struct coder c = { .in = body };
	struct unsent_record got = { 0 };

	code_record(&c, &got);
	if (over(&c))
		unsent_record_done(&got);
	else
		*r = got;
	return over(&c);
}

int unsent_row_get_content(struct unsent_bytes body, struct unsent_content *t)
{
	struct coder c = { .in = body };
	struct unsent_content got = { 0 };

	code_content(&c, &got);
	if (over(&c))
		unsent_content_done(&got);
	else
		*t = got;
	return over(&c);
}

int unsent_row_get_synced(struct unsent_bytes body, uint64_t *op_seq)
{
	struct coder c = { .in = body };
	uint64_t seq = 0;

	u64(&c, &seq);
	if (!over(&c))
		*op_seq = seq;
	return over(&c);
}
