/*
 * A small model of an origin: a table of records with the rules of docs/protocol.md (conditions,
 * places, idempotency keys, feed), and a client that sends the outbox to it and applies its feed.
 * Failures of the network are drawn from a seed.
 */
#ifndef CACHET_TESTS_UNIT_ORIGIN_MODEL_H
#define CACHET_TESTS_UNIT_ORIGIN_MODEL_H

#include "tree_fixture.h"

#include "crypto/kdf.h"

#define OM_MAX 4096
#define OM_CONTENT 64

struct om_record {
	struct remote_record r;
	char content[OM_CONTENT];
	uint64_t version;
};

struct om_answer {
	int status;
	const char *type;
	bool has_record;
	struct om_record record;
};

struct om_key {
	uint8_t key[16];
	struct om_answer answer;
};

struct origin_model {
	struct om_record rec[OM_MAX];
	size_t n;
	uint64_t seq;
	struct om_key *keys;
	size_t n_keys;
	struct om_past {
		char id[65], etag[65], content[OM_CONTENT];
	} * past; /* every state of every file */
	size_t n_past;
	uint64_t random;
	bool folds;          /* names that differ in case only are one place */
	const char *refuses; /* characters that no name may have */
	bool forgetful; /* an answer may be forgotten: what is sent again meets its own state */
	unsigned lossy; /* per cent of requests whose request or answer is lost */
	bool slow;      /* answers and pages arrive when other things have happened since */
	struct om_held {
		struct outbox_op op;
		struct om_answer answer;
	} held[16];
	size_t n_held;
	struct remote_record page[16];
	size_t n_page;
	char page_cursor[32];
	unsigned conflicts, refused, sent;
};

static inline uint64_t om_rand(struct origin_model *m)
{
	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	return m->random;
}

static inline struct origin_model *om_new(uint64_t seed)
{
	struct origin_model *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	m->random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	for (int i = 0; i < 8; i++)
		om_rand(m);
	return m;
}

static inline void om_free(struct origin_model *m)
{
	free(m->keys);
	free(m->past);
	free(m);
}

static inline struct om_record *om_find(struct origin_model *m, const char *id)
{
	for (size_t i = 0; i < m->n; i++)
		if (!strcmp(m->rec[i].r.id, id))
			return &m->rec[i];
	return NULL;
}

static inline struct om_record *om_live(struct origin_model *m, const char *id)
{
	struct om_record *r = om_find(m, id);

	return r && !r->r.deleted ? r : NULL;
}

/* Not inline: GCC would warn of the NULL that a test knows it does not get. */
__attribute__((noinline, unused)) static struct om_record *om_at(
	struct origin_model *m, const char *parent, const char *name)
{
	for (size_t i = 0; i < m->n; i++)
		if (!m->rec[i].r.deleted && !strcmp(m->rec[i].r.parent, parent) &&
			!(m->folds ? strcasecmp : strcmp)(m->rec[i].r.name, name))
			return &m->rec[i];
	return NULL;
}

static inline bool om_refuses(const struct origin_model *m, const struct outbox_op *op)
{
	return m->refuses && strpbrk(op->name, m->refuses);
}

static inline bool om_has_children(struct origin_model *m, const char *id)
{
	for (size_t i = 0; i < m->n; i++)
		if (!m->rec[i].r.deleted && !strcmp(m->rec[i].r.parent, id))
			return true;
	return false;
}

static inline bool om_is_dir(struct origin_model *m, const char *id)
{
	struct om_record *r = om_live(m, id);

	return !strcmp(id, "root") || (r && r->r.kind == REMOTE_DIR);
}

static inline bool om_below(struct origin_model *m, const char *id, const char *ancestor)
{
	for (int i = 0; i < 1000 && strcmp(id, "root"); i++) {
		struct om_record *r = om_live(m, id);

		if (!strcmp(id, ancestor))
			return true;
		if (!r)
			return false;
		id = r->r.parent;
	}
	return false;
}

static inline void om_changed(struct origin_model *m, struct om_record *r, const uint8_t *key)
{
	r->r.seq = ++m->seq;
	r->version++;
	snprintf(r->r.etag, sizeof(r->r.etag), "\"%llx-%llx\"", (unsigned long long)(r - m->rec),
		(unsigned long long)r->version);
	r->r.has_key = key != NULL;
	if (key)
		memcpy(r->r.key, key, sizeof(r->r.key));
	if (r->r.kind != REMOTE_DIR) {
		r->r.size = strlen(r->content);
		r->r.has_sha256 = true;
		ok(kdf_sha256(r->content, r->r.size, r->r.sha256));
	}
	r->r.target = r->r.kind == REMOTE_SYMLINK ? r->content : NULL;
	m->past = reallocarray(m->past, m->n_past + 1, sizeof(*m->past));
	assert_non_null(m->past);
	memcpy(m->past[m->n_past].id, r->r.id, sizeof(r->r.id));
	memcpy(m->past[m->n_past].etag, r->r.etag, sizeof(r->r.etag));
	memcpy(m->past[m->n_past++].content, r->content, OM_CONTENT);
}

static inline struct om_record *om_make(struct origin_model *m, const char *id, int kind,
	const char *parent, const char *name, const char *content, const uint8_t *key)
{
	struct om_record *r = &m->rec[m->n++];

	assert_true(m->n < OM_MAX);
	snprintf(r->r.id, sizeof(r->r.id), "%s", id);
	snprintf(r->r.parent, sizeof(r->r.parent), "%s", parent);
	snprintf(r->r.name, sizeof(r->r.name), "%s", name);
	snprintf(r->content, sizeof(r->content), "%s", content ? content : "");
	r->r.kind = kind;
	r->r.mode = kind == REMOTE_DIR ? 0755 : 0644;
	r->r.mtime_ns = (int64_t)m->seq * 1000;
	om_changed(m, r, key);
	return r;
}

static inline void om_delete(struct origin_model *m, struct om_record *r, const uint8_t *key)
{
	r->r.deleted = true;
	om_changed(m, r, key);
}

static inline struct om_answer om_say(int status, const char *type, const struct om_record *r)
{
	struct om_answer a = { .status = status, .type = type, .has_record = r != NULL };

	if (r)
		a.record = *r;
	return a;
}

static inline struct om_answer om_put(
	struct origin_model *m, const struct outbox_op *op, const char *content)
{
	struct om_record *r = om_find(m, op->rid), *there;

	if (om_refuses(m, op))
		return om_say(422, "bad-name", NULL);
	if (!op->if_match[0]) {
		if (r)
			return om_say(412, "precondition", r);
		if (!om_is_dir(m, op->parent))
			return om_say(409, "no-parent", NULL);
		there = om_at(m, op->parent, op->name);
		if (there)
			return om_say(409, "place-taken", there);
		r = om_make(m, op->rid, op->node_kind, op->parent, op->name, content, op->key);
	} else {
		if (!r)
			return om_say(404, "no-record", NULL);
		if (r->r.deleted || strcmp(r->r.etag, op->if_match))
			return om_say(412, "precondition", r);
		assert_int_equal(op->node_kind, r->r.kind);
		snprintf(r->content, sizeof(r->content), "%s", content);
		om_changed(m, r, op->key);
	}
	r->r.mode = op->mode;
	r->r.mtime_ns = op->mtime_ns;
	return om_say(op->if_match[0] ? 200 : 201, "", r);
}

static inline struct om_answer om_move(
	struct origin_model *m, const struct outbox_op *op, struct om_record *r)
{
	struct om_record *there = om_at(m, op->parent, op->name), *other = NULL;

	if (om_refuses(m, op))
		return om_say(422, "bad-name", NULL);
	if (!om_is_dir(m, op->parent))
		return om_say(409, "no-parent", NULL);
	if (r->r.kind == REMOTE_DIR && om_below(m, op->parent, r->r.id))
		return om_say(409, "loop", r);
	if (op->other_rid[0]) {
		other = om_find(m, op->other_rid);
		if (!other || other->r.deleted || strcmp(other->r.etag, op->other_etag) ||
			other != there)
			return om_say(412, "precondition", other);
		if (om_has_children(m, other->r.id))
			return om_say(409, "not-empty", other);
		om_delete(m, other, op->key);
	} else if (there && there != r) {
		return om_say(409, "place-taken", there);
	}
	snprintf(r->r.parent, sizeof(r->r.parent), "%s", op->parent);
	snprintf(r->r.name, sizeof(r->r.name), "%s", op->name);
	om_changed(m, r, op->key);
	return om_say(200, "", r);
}

static inline struct om_answer om_swap(
	struct origin_model *m, const struct outbox_op *op, struct om_record *r)
{
	struct om_record *other = om_find(m, op->other_rid);
	char parent[65], name[256];

	if (!other || other->r.deleted || strcmp(other->r.etag, op->other_etag))
		return om_say(412, "precondition", other);
	if (om_below(m, other->r.parent, r->r.id) || om_below(m, r->r.parent, other->r.id))
		return om_say(409, "loop", r);
	memcpy(parent, r->r.parent, sizeof(parent));
	memcpy(name, r->r.name, sizeof(name));
	memcpy(r->r.parent, other->r.parent, sizeof(parent));
	memcpy(r->r.name, other->r.name, sizeof(name));
	memcpy(other->r.parent, parent, sizeof(parent));
	memcpy(other->r.name, name, sizeof(name));
	om_changed(m, r, op->key);
	om_changed(m, other, op->key);
	return om_say(200, "", r);
}

static inline struct om_answer om_change(struct origin_model *m, const struct outbox_op *op)
{
	struct om_record *r = om_find(m, op->rid);

	assert_true(op->if_match[0]);
	if (!r)
		return om_say(404, "no-record", NULL);
	if (r->r.deleted || strcmp(r->r.etag, op->if_match))
		return om_say(412, "precondition", r);
	switch (op->kind) {
	case OUTBOX_ATTR:
		r->r.mode = op->mode;
		r->r.mtime_ns = op->mtime_ns;
		om_changed(m, r, op->key);
		return om_say(200, "", r);
	case OUTBOX_MOVE:
		return om_move(m, op, r);
	case OUTBOX_SWAP:
		return om_swap(m, op, r);
	default:
		if (om_has_children(m, r->r.id))
			return om_say(409, "not-empty", r);
		om_delete(m, r, op->key);
		return om_say(200, "", r);
	}
}

static inline struct om_answer om_send(
	struct origin_model *m, const struct outbox_op *op, const char *content)
{
	struct om_answer a;

	for (size_t i = 0; i < m->n_keys; i++)
		if (!memcmp(m->keys[i].key, op->key, sizeof(op->key)) &&
			!(m->forgetful && om_rand(m) % 2))
			return m->keys[i].answer;
	m->sent++;
	a = op->kind == OUTBOX_PUT ? om_put(m, op, content) : om_change(m, op);
	if (a.status < 300 || a.status == 412) {
		m->keys = reallocarray(m->keys, m->n_keys + 1, sizeof(*m->keys));
		assert_non_null(m->keys);
		memcpy(m->keys[m->n_keys].key, op->key, sizeof(op->key));
		m->keys[m->n_keys++].answer = a;
	}
	return a;
}

/* The snapshot an operation carries. */
static inline void om_content(
	struct tree_fixture *f, const struct outbox_op *op, char out[static OM_CONTENT])
{
	struct file *file;
	size_t got = 0;

	memset(out, 0, OM_CONTENT);
	if (op->target)
		snprintf(out, OM_CONTENT, "%s", op->target);
	if (!op->map)
		return;
	ok(file_open_map(f->v, op->map, &file));
	ok(file_read(file, out, OM_CONTENT - 1, 0, &got));
	file_unref(file, false);
	assert_int_equal(got, op->size);
}

static inline int om_settle(struct tree_fixture *f, struct origin_model *m,
	const struct outbox_op *op, struct om_answer *a)
{
	const struct remote_record *current = NULL, *standing = NULL;
	bool conflict = false;

	if (getenv("CACHET_TEST_VERBOSE"))
		print_message("%d %s: seq %llu kind %d %.6s to %.6s/%s other %.6s, there %s; "
			      "journal %s\n",
			a->status, a->type, (unsigned long long)op->seq, op->kind, op->rid,
			op->parent, op->name, op->other_rid, a->has_record ? a->record.r.name : "-",
			tf_journal(f));

	if (a->has_record) {
		a->record.r.target = a->record.r.kind == REMOTE_SYMLINK && !a->record.r.deleted
					     ? a->record.content
					     : NULL;
		if (!strcmp(a->type, "place-taken"))
			standing = &a->record.r;
		else
			current = &a->record.r;
	}
	ok(outbox_settle(f->v, op->seq, current, standing, &conflict));
	m->conflicts += conflict;
	return 0;
}

static inline bool om_take(struct tree_fixture *f, struct origin_model *m,
	const struct outbox_op *op, struct om_answer *a)
{
	struct outbox_answer ack = { .seq = op->seq };

	if (a->status == 422) {
		m->refused++;
		ok(outbox_refuse(f->v, op->seq, a->status, a->type));
		return false;
	}
	if (a->status >= 300) {
		ok(om_settle(f, m, op, a));
		return false;
	}
	if (op->kind != OUTBOX_DELETE)
		ack.record = &a->record.r;
	ok(outbox_ack(f->v, &ack, 1));
	return true;
}

/* One operation with its content, over a bad line. False when it must be tried again. */
static inline bool om_deliver_content(struct tree_fixture *f, struct origin_model *m,
	const struct outbox_op *op, const char *content)
{
	const bool bad = om_rand(m) % 100 < m->lossy;
	struct om_answer a;

	if (bad && om_rand(m) % 2) {
		ok(outbox_retry(f->v, op->seq, 0, 0, "lost"));
		return false;
	}
	a = om_send(m, op, content);
	if (getenv("CACHET_TEST_VERBOSE"))
		print_message("sent %d seq %llu kind %d rid %.6s%s\n", a.status,
			(unsigned long long)op->seq, op->kind, op->rid,
			bad ? " (answer lost)" : "");
	if (bad) {
		ok(outbox_retry(f->v, op->seq, 0, 0, "lost"));
		return false;
	}
	if (m->slow && m->n_held < ARRAY_SIZE(m->held) && om_rand(m) % 2) {
		m->held[m->n_held] = (struct om_held){ .op = *op, .answer = a };
		m->held[m->n_held++].op.target = NULL;
		return false;
	}
	return om_take(f, m, op, &a);
}

static inline bool om_deliver(
	struct tree_fixture *f, struct origin_model *m, const struct outbox_op *op)
{
	char content[OM_CONTENT];

	om_content(f, op, content);
	return om_deliver_content(f, m, op, content);
}

static inline bool om_is_held(const struct origin_model *m, uint64_t seq)
{
	for (size_t i = 0; i < m->n_held; i++)
		if (m->held[i].op.seq == seq)
			return true;
	return false;
}

/* Answers that were on their way, in any order. */
static inline void om_arrive(struct tree_fixture *f, struct origin_model *m, bool all)
{
	for (size_t i = m->n_held; i-- > 0;) {
		struct om_held h = m->held[i];

		if (!all && om_rand(m) % 2)
			continue;
		m->held[i] = m->held[--m->n_held];
		(void)om_take(f, m, &h.op, &h.answer);
	}
}

/* One round; the number of operations it tried. Contents are read when they are begun: what becomes
 * of an earlier one may end a later one's snapshot. */
static inline size_t om_push_once(struct tree_fixture *f, struct origin_model *m, size_t max)
{
	static int64_t later; /* each round an hour after the last: whatever waits is due */
	char content[64][OM_CONTENT];
	struct outbox_op ops[64];
	bool failed[64] = { false };
	uint64_t wait;
	size_t n;

	later += 3600 * 1000;
	ok(outbox_next(f->v, clock_wall_ns() / NS_PER_MS + later, 0, ops,
		MIN_OF(max, ARRAY_SIZE(ops)), &n, &wait));
	ok(outbox_begin(f->v, ops, n));
	for (size_t i = 0; i < n; i++)
		if (ops[i].seq)
			om_content(f, &ops[i], content[i]);
	for (size_t i = 0; i < n; i++) {
		failed[i] = !ops[i].seq || om_is_held(m, ops[i].seq) ||
			    (ops[i].after >= 0 && failed[ops[i].after]);
		if (!failed[i])
			failed[i] = !om_deliver_content(f, m, &ops[i], content[i]);
		outbox_op_done(&ops[i]);
	}
	return n;
}

static inline void om_page_arrives(struct tree_fixture *f, struct origin_model *m)
{
	struct remote_report report;

	if (m->n_page)
		ok(remote_apply(f->v, f->store, m->page, m->n_page, m->page_cursor, true, &report));
	m->n_page = 0;
}

/* One page of the feed from *cursor. True when there is more. */
static inline bool om_pull_once(
	struct tree_fixture *f, struct origin_model *m, uint64_t *cursor, size_t limit)
{
	struct remote_record *page = calloc(limit, sizeof(*page));
	struct remote_report report;
	char text[32];
	size_t n = 0;

	assert_non_null(page);
	while (n < limit) {
		struct om_record *next = NULL;

		for (size_t i = 0; i < m->n; i++)
			if (m->rec[i].r.seq > *cursor && (!next || m->rec[i].r.seq < next->r.seq))
				next = &m->rec[i];
		if (!next)
			break;
		page[n] = next->r;
		page[n++].target = next->r.kind == REMOTE_SYMLINK ? next->content : NULL;
		*cursor = next->r.seq;
	}
	snprintf(text, sizeof(text), "%llu", (unsigned long long)*cursor);
	om_page_arrives(f, m);
	if (m->slow && n <= ARRAY_SIZE(m->page) && om_rand(m) % 2) {
		memcpy(m->page, page, n * sizeof(*page));
		m->n_page = n;
		memcpy(m->page_cursor, text, sizeof(text));
	} else {
		ok(remote_apply(f->v, f->store, page, n, text, true, &report));
	}
	free(page);
	return n == limit;
}

static inline void om_pull(
	struct tree_fixture *f, struct origin_model *m, uint64_t *cursor, size_t limit)
{
	while (om_pull_once(f, m, cursor, limit))
		;
}

static inline void om_retry(struct tree_fixture *f)
{
	struct remote_report report;

	do
		ok(remote_retry_deferred(f->v, &report));
	while (report.applied || report.removed);
}

static inline int om_tell_row(void *arg, const struct op_row *op)
{
	struct tree_fixture *f = arg;
	struct name_row n;
	bool known = !name_by_rid(f->v->db, op->store, op->rid.text, &n);

	if (op->store == f->store)
		print_error(
			"  seq %llu kind %d state %d %.6s to %.6s/%.*s other %.6s base %s; here "
			"%llu/%.*s, at the origin %.6s/%.*s %s\n",
			(unsigned long long)op->seq, op->kind, op->state, op->rid.text,
			op->r_parent.text, op->r_name.len, op->r_name.bytes, op->other_rid.text,
			op->base_etag.text, known ? (unsigned long long)n.parent : 0,
			known ? n.name.len : 0, n.name.bytes, known ? n.r_parent.text : "-",
			known ? n.r_name.len : 0, n.r_name.bytes, known ? n.etag.text : "");
	return 0;
}

/* The journal, for the message of a failure. */
static inline void om_tell_journal(struct tree_fixture *f)
{
	db_read(f->v->db);
	ok(op_each(f->v->db, 0, om_tell_row, f));
	db_unlock(f->v->db);
}

/* Until nothing is left to send and nothing is deferred. */
static inline void om_sync(
	struct tree_fixture *f, struct origin_model *m, uint64_t *cursor, size_t page)
{
	m->slow = false;
	om_arrive(f, m, true);
	om_page_arrives(f, m);
	for (int round = 0; round < 400; round++) {
		size_t n = om_push_once(f, m, 64);

		om_pull(f, m, cursor, page);
		om_retry(f);
		if (!n && !*tf_journal(f))
			return;
	}
	print_error("still queued: %s\n", tf_journal(f));
	om_tell_journal(f);
	fail();
}

/* Fetches what is missing of a file, as the reader would. */
static inline void om_fill(struct tree_fixture *f, struct origin_model *m, struct file *file)
{
	struct file_range range;
	struct om_record *r;

	for (;;) {
		ok(file_missing(file, 0, UINT64_MAX, UINT64_MAX, &range));
		if (!range.len)
			return;
		r = om_live(m, range.rid);
		if (!r || strcmp(r->r.etag, range.etag))
			print_error("missing of rid %s etag %s, the origin has %s\n", range.rid,
				range.etag, r ? r->r.etag : "none");
		assert_non_null(r);
		assert_string_equal(r->r.etag, range.etag);
		ok(file_fill(file, range.etag, r->content + range.off, range.len, range.off));
	}
}

static inline void om_read(struct tree_fixture *f, struct origin_model *m, uint64_t object,
	char out[static OM_CONTENT])
{
	struct object_row o;
	struct file *file;
	size_t got;

	memset(out, 0, OM_CONTENT);
	db_read(f->v->db);
	ok(object_get(f->v->db, object, &o));
	db_unlock(f->v->db);
	ok(file_open(f->v, object, o.version, false, &file));
	om_fill(f, m, file);
	ok(file_read(file, out, OM_CONTENT - 1, 0, &got));
	file_unref(file, false);
}

/* What a reader of the file would have seen, had it been fetched in time. */
static inline void om_peek(struct tree_fixture *f, struct origin_model *m, uint64_t object,
	char out[static OM_CONTENT])
{
	struct file_range range;
	struct object_row o;
	struct om_record *r;
	struct file *file;

	db_read(f->v->db);
	ok(object_get(f->v->db, object, &o));
	db_unlock(f->v->db);
	ok(file_open(f->v, object, o.version, false, &file));
	ok(file_missing(file, 0, UINT64_MAX, UINT64_MAX, &range));
	file_unref(file, false);
	r = om_live(m, range.rid);
	if (!range.len || (r && !strcmp(r->r.etag, range.etag) && om_rand(m) % 2)) {
		om_read(f, m, object, out);
		return;
	}
	for (size_t i = 0; i < m->n_past; i++)
		if (!strcmp(m->past[i].id, range.rid) && !strcmp(m->past[i].etag, range.etag)) {
			memcpy(out, m->past[i].content, OM_CONTENT);
			return;
		}
	print_error("no state %s of %s\n", range.etag, range.rid);
	fail();
}

/* Entries of one directory, copied. */
struct om_listing {
	struct {
		char name[256];
		struct tree_attr a;
	} e[512];
	size_t n;
};

static inline int om_entry(void *arg, const char *name, uint64_t cookie, const struct tree_attr *a)
{
	struct om_listing *l = arg;

	assert_true(l->n < ARRAY_SIZE(l->e));
	snprintf(l->e[l->n].name, sizeof(l->e[l->n].name), "%s", name);
	l->e[l->n++].a = *a;
	return 0;
}

static inline unsigned om_compare_dir(
	struct tree_fixture *f, struct origin_model *m, uint64_t dir, const char *rid);

static inline bool om_same(struct tree_fixture *f, struct origin_model *m, const char *name,
	const struct tree_attr *a, struct om_record *r)
{
	char content[OM_CONTENT] = "";
	_cleanup_free_ char *target = NULL;

	if ((remote_record_mode(&r->r) & S_IFMT) != (a->mode & S_IFMT))
		return false;
	if (S_ISLNK(a->mode)) {
		ok(tree_readlink(f->v, a->object, &target));
		return !strcmp(target, r->content);
	}
	if ((a->mode & 07777) != r->r.mode)
		return false;
	if (S_ISDIR(a->mode))
		return true;
	om_read(f, m, a->object, content);
	return a->mtime_ns == r->r.mtime_ns && !strcmp(content, r->content);
}

static inline int om_tell_deferred(void *arg, const char *rid, const char *entry)
{
	print_error("  deferred %d: %s\n", *(int *)arg, entry);
	return 0;
}

/* What waits, for the message of a failure. */
static inline void om_tell_all(struct tree_fixture *f)
{
	db_read(f->v->db);
	for (int reason = DEFERRED_PARENT; reason <= DEFERRED_HELD; reason++)
		ok(deferred_each(f->v->db, f->store, reason, NULL, om_tell_deferred, &reason));
	db_unlock(f->v->db);
}

/* Both trees, place by place; what no origin sees is left out. Returns the number of records. */
static inline unsigned om_compare_dir(
	struct tree_fixture *f, struct origin_model *m, uint64_t dir, const char *rid)
{
	struct om_listing *l = calloc(1, sizeof(*l));
	unsigned here = 0, there = 0, below = 0;

	assert_non_null(l);
	ok(tree_readdir(f->v, dir, 0, om_entry, l));
	for (size_t i = 0; i < m->n; i++)
		there += !m->rec[i].r.deleted && !strcmp(m->rec[i].r.parent, rid);
	for (size_t i = 0; i < l->n; i++) {
		const struct tree_attr *a = &l->e[i].a;
		struct om_record *r;

		if (S_ISFIFO(a->mode) || (uint8_t)l->e[i].name[0] == 0xff)
			continue;
		here++;
		r = om_at(m, rid, l->e[i].name);
		if (!r || !om_same(f, m, l->e[i].name, a, r)) {
			print_error(
				"%s in %s: here mode %o mtime %lld; there %s mode %o mtime %lld\n",
				l->e[i].name, rid, a->mode, (long long)a->mtime_ns,
				r ? r->content : "nothing", r ? r->r.mode : 0,
				r ? (long long)r->r.mtime_ns : 0);
			fail();
		}
		if (S_ISDIR(a->mode))
			below += om_compare_dir(f, m, a->object, r->r.id);
	}
	if (here != there) {
		print_error("%u entries here, %u there, in %s\n", here, there, rid);
		for (size_t i = 0; i < l->n; i++)
			print_error("  here %s\n", l->e[i].name);
		for (size_t i = 0; i < m->n; i++)
			if (!m->rec[i].r.deleted && !strcmp(m->rec[i].r.parent, rid))
				print_error("  there %s %s\n", m->rec[i].r.id, m->rec[i].r.name);
		om_tell_all(f);
		fail();
	}
	free(l);
	return here + below;
}

static inline unsigned om_compare(struct tree_fixture *f, struct origin_model *m)
{
	return om_compare_dir(f, m, f->root, "root");
}

#endif
