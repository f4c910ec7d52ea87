/*
 * A hostile origin before a real volume: pages of the feed, listings and answers that are
 * well-formed (remote_record_parse lets them through) and make no sense together: records below
 * themselves, two on one place, kinds that change, versions that come back, answers to operations
 * that say what they like. Between them a program writes, renames and removes.
 *
 * Whatever comes, the tree stays one: every name leads to its object and no directory lies below
 * itself. What the program wrote and no answer confirmed is in the tree, or in the journal. A
 * second opening finds the same.
 */
#include "../unit/origin_model.h"
#include "cache/remote_listing.h"
#include "fuzz.h"

#define FILES_MAX 512
#define HELD_MAX 8
#define WRITES_MAX 64
#define PAGE_MAX 4
#define DEPTH_MAX 40
#define STEPS_MAX 200
#define HOUR_MS (3600 * INT64_C(1000))

static struct {
	char path[300];
	bool is_dir;
	struct fuzz_bytes content;
} files[FILES_MAX];
static size_t n_files;

struct world {
	struct tree_fixture f;
	struct fuzz_input in;
	struct outbox_op held[HELD_MAX]; /* in flight */
	size_t n_held;
	/* The object that a program wrote "own N" into; 0: replaced, removed or confirmed since. */
	uint64_t own[WRITES_MAX];
	bool seen[WRITES_MAX];
	unsigned n_own, entries, version;
	int64_t later_ms;
};

#define OK(call) check(#call, call)

static void check(const char *what, int code)
{
	if (code)
		fprintf(stderr, "%s: %s\n", what, error_text(code));
	FUZZ_CHECK(code == 0);
}

/* --- the volume, the same for every input --- */

static int keep_file(const char *path, const struct stat *st, int type, struct FTW *at)
{
	if (!at->level)
		return 0;
	FUZZ_CHECK(n_files < FILES_MAX);
	snprintf(files[n_files].path, sizeof(files[0].path), "%s", path);
	files[n_files].is_dir = type == FTW_D;
	if (type != FTW_D)
		files[n_files].content = fuzz_load(path);
	n_files++;
	return 0;
}

static void name_paths(struct tree_fixture *f)
{
	snprintf(f->dir, sizeof(f->dir), "%s/volume", fuzz_dir());
	snprintf(f->source, sizeof(f->source), "file:%s/key", fuzz_dir());
}

static void prepare(void)
{
	struct volume_create_options o = { .origin = "https://records.example/" };
	struct tree_fixture f = { .store = 0 };
	char *error = NULL;

	if (n_files)
		return;
	secret_allow_unlocked();
	name_paths(&f);
	o.dir = f.dir;
	o.key_source = f.source;
	OK(volume_create(&o, &error));
	tf_open(&f);
	tf_store(&f, "records");
	volume_close(f.v);
	FUZZ_CHECK(nftw(fuzz_dir(), keep_file, 8, FTW_PHYS) == 0);
}

static void begin(struct world *w)
{
	fuzz_clear();
	for (size_t i = 0; i < n_files; i++) {
		if (files[i].is_dir)
			FUZZ_CHECK(mkdir(files[i].path, 0700) == 0);
		else
			fuzz_store(files[i].path, &files[i].content);
	}
	name_paths(&w->f);
	tf_open(&w->f);
	tf_find_store(&w->f);
}

/* --- the program --- */

static const char *take_path(struct world *w)
{
	static const char *const paths[] = { "a", "b", "c", "d", "a/b", "a/c", "b/a", "b/c", "d/a",
		"a/b/c", "a/b/a", "d/d" };

	return paths[fuzz_take(&w->in, 1) % ARRAY_SIZE(paths)];
}

static void forget(struct world *w, uint64_t object)
{
	for (unsigned i = 0; i < w->n_own; i++)
		if (w->own[i] == object)
			w->own[i] = 0;
}

static void write_file(struct world *w, const char *path)
{
	char text[OM_CONTENT];

	if (w->n_own == WRITES_MAX)
		return;
	snprintf(text, sizeof(text), "own %u", w->n_own);
	if (tf_write(&w->f, path, text))
		return;
	forget(w, tf_at(&w->f, path));
	w->own[w->n_own++] = tf_at(&w->f, path);
}

static void rename_path(struct world *w, const char *from, const char *to)
{
	uint64_t object = tf_at(&w->f, from), over = tf_at(&w->f, to);

	if (object && object != over && !tf_rename(&w->f, from, to, 0))
		forget(w, over);
}

static void unlink_path(struct world *w, const char *path)
{
	uint64_t object = tf_at(&w->f, path);

	if (object && !tf_unlink(&w->f, path))
		forget(w, object);
}

static void reopen(struct world *w)
{
	for (; w->n_held; w->n_held--)
		outbox_op_done(&w->held[w->n_held - 1]);
	tf_reopen(&w->f);
}

/* --- the origin --- */

static void take_id(struct world *w, char out[static 65])
{
	unsigned n = (unsigned)fuzz_take(&w->in, 1);

	if (n % 4 == 0 && w->n_held)
		snprintf(out, 65, "%s", w->held[n / 4 % w->n_held].rid);
	else
		snprintf(out, 65, "r%u", n % 7);
}

static void take_place(struct world *w, bool top, unsigned name, struct remote_record *r)
{
	static const char *const names[] = { "a", "b", "c", "d", "A", "a (conflict test)" };

	strcpy(r->parent, "root");
	if (!top)
		take_id(w, r->parent);
	if (!strcmp(r->id, r->parent))
		strcpy(r->parent, "root");
	snprintf(r->name, sizeof(r->name), "%s", names[name % ARRAY_SIZE(names)]);
}

static struct remote_record take_record(struct world *w)
{
	static char target[] = "away";
	unsigned what = (unsigned)fuzz_take(&w->in, 1), how = (unsigned)fuzz_take(&w->in, 1);
	struct remote_record r = { .seq = ++w->version, .deleted = what % 8 == 0 };

	take_id(w, r.id);
	take_place(w, how & 1, what / 8, &r);
	snprintf(r.etag, sizeof(r.etag), "\"e%u\"", how & 2 ? w->version : how / 64);
	r.kind = how & 4 ? REMOTE_FILE : how & 8 ? REMOTE_DIR : REMOTE_SYMLINK;
	r.mode = how & 16 ? 0 : 0755;
	if (r.kind != REMOTE_DIR)
		r.size = 3 + what / 64;
	r.has_sha256 = how & 32;
	memset(r.sha256, (int)(what / 64), sizeof(r.sha256));
	if (r.kind == REMOTE_SYMLINK) /* sync/feed.c gets it first, of this size */
		r.size = strlen(r.target = target);
	r.has_key = w->n_held && what % 3 == 0;
	if (r.has_key)
		memcpy(r.key, w->held[how % w->n_held].key, sizeof(r.key));
	return r;
}

static void confirmed(struct world *w, const struct outbox_op *op)
{
	char content[OM_CONTENT] = "";
	struct op_row row;
	unsigned own;
	int r;

	db_read(w->f.v->db);
	r = op_get(w->f.v->db, op->seq, &row);
	db_unlock(w->f.v->db);
	if (r) /* confirmed before */
		return;
	om_content(&w->f, op, content);
	if (sscanf(content, "own %u", &own) == 1)
		w->own[own] = 0;
}

/* The feed, too, may say that an operation was carried out. */
static void echo(struct world *w, const struct remote_record *r)
{
	for (size_t i = 0; r->has_key && i < w->n_held; i++) {
		const struct outbox_op *op = &w->held[i];

		if (op->kind == OUTBOX_PUT && op->node_kind == REMOTE_FILE &&
			!memcmp(op->key, r->key, sizeof(r->key)) && !strcmp(op->rid, r->id) &&
			!r->deleted && r->kind == REMOTE_FILE && r->size == op->size)
			confirmed(w, op);
	}
}

static void apply(struct world *w)
{
	size_t n = fuzz_take(&w->in, 1) % PAGE_MAX + 1;
	struct remote_record page[PAGE_MAX];
	struct remote_report report;
	char cursor[32];

	for (size_t i = 0; i < n; i++) {
		page[i] = take_record(w);
		echo(w, &page[i]);
	}
	snprintf(cursor, sizeof(cursor), "%u", w->version);
	OK(remote_apply(w->f.v, w->f.store, page, n, cursor, true, &report));
}

static void list(struct world *w)
{
	struct remote_report report;

	OK(remote_listing_begin(w->f.v, w->f.store));
	for (unsigned n = fuzz_take(&w->in, 1) % 3; n; n--)
		apply(w);
	if (fuzz_take(&w->in, 1) % 4)
		OK(remote_listing_end(w->f.v, w->f.store, true, &report));
}

/* Whatever may be sent is on its way. */
static void send(struct world *w)
{
	struct outbox_op ops[HELD_MAX];
	uint64_t wait;
	size_t n;

	w->later_ms += HOUR_MS;
	OK(outbox_next(
		w->f.v, clock_wall_ns() / NS_PER_MS + w->later_ms, 0, ops, HELD_MAX, &n, &wait));
	OK(outbox_begin(w->f.v, ops, n));
	for (size_t i = 0; i < n; i++) {
		bool known = !ops[i].seq || w->n_held == HELD_MAX;

		for (size_t k = 0; k < w->n_held; k++)
			known |= w->held[k].seq == ops[i].seq;
		if (known)
			outbox_op_done(&ops[i]);
		else
			w->held[w->n_held++] = ops[i];
	}
}

/* 2xx, as sync/ lets it through: the record that was sent, of its kind, with its content. */
static void confirm(struct world *w, const struct outbox_op *op)
{
	struct remote_record r = take_record(w);
	struct outbox_answer ack = { op->seq, op->kind == OUTBOX_DELETE ? NULL : &r };

	snprintf(r.id, sizeof(r.id), "%s", op->rid);
	if (!strcmp(r.id, r.parent))
		strcpy(r.parent, "root");
	r.deleted = op->kind == OUTBOX_DELETE;
	r.kind = op->node_kind;
	if (op->kind == OUTBOX_PUT && op->node_kind == REMOTE_FILE) {
		r.size = op->size;
		r.has_sha256 = true;
		confirmed(w, op);
	}
	OK(outbox_ack(w->f.v, &ack, 1));
}

static void settle(struct world *w, const struct outbox_op *op, const struct remote_record *current,
	const struct remote_record *standing)
{
	bool conflict;
	int r = outbox_settle(w->f.v, op->seq, current, standing, &conflict);

	if (r != CE_PROTOCOL)
		check("outbox_settle", r);
}

static void answer(struct world *w)
{
	unsigned what = (unsigned)fuzz_take(&w->in, 1);
	struct remote_record current, standing;
	struct outbox_op op;
	size_t at;

	if (!w->n_held)
		return;
	at = what / 8 % w->n_held;
	op = w->held[at];
	w->held[at] = w->held[--w->n_held];
	current = take_record(w);
	standing = take_record(w);
	if (what & 128)
		snprintf(current.id, sizeof(current.id), "%s", op.rid);
	if (!strcmp(current.id, current.parent))
		strcpy(current.parent, "root");
	if (what & 64)
		current.target = NULL;
	if (what % 8 < 2)
		confirm(w, &op);
	else if (what % 8 == 2)
		OK(outbox_refuse(w->f.v, op.seq, 422, "bad-name"));
	else if (what % 8 == 3)
		OK(outbox_retry(w->f.v, op.seq, 0, 0, "lost"));
	else
		settle(w, &op, what & 1 ? &current : NULL, what & 2 ? &standing : NULL);
	outbox_op_done(&op);
}

/* --- what must hold --- */

static void look_at_file(struct world *w, uint64_t object)
{
	char content[OM_CONTENT] = "";
	struct file_range missing;
	struct object_row o;
	struct file *file;
	unsigned own;
	size_t got;

	db_read(w->f.v->db);
	FUZZ_CHECK(object_get(w->f.v->db, object, &o) == 0);
	db_unlock(w->f.v->db);
	OK(file_open(w->f.v, object, o.version, false, &file));
	OK(file_missing(file, 0, UINT64_MAX, UINT64_MAX, &missing));
	if (!missing.len) {
		OK(file_read(file, content, OM_CONTENT - 1, 0, &got));
		if (sscanf(content, "own %u", &own) == 1 && own < WRITES_MAX)
			w->seen[own] = true;
	}
	file_unref(file, false);
}

static void look_at_dir(struct world *w, uint64_t dir, unsigned depth)
{
	struct om_listing *l = calloc(1, sizeof(*l));
	struct tree_attr a;

	FUZZ_CHECK(l && depth < DEPTH_MAX);
	OK(tree_readdir(w->f.v, dir, 0, om_entry, l));
	w->entries += (unsigned)l->n;
	for (size_t i = 0; i < l->n; i++) {
		OK(tree_lookup(w->f.v, dir, l->e[i].name, &a));
		FUZZ_CHECK(a.object == l->e[i].a.object && a.mode == l->e[i].a.mode);
		if (S_ISDIR(a.mode))
			look_at_dir(w, a.object, depth + 1);
		else if (S_ISREG(a.mode))
			look_at_file(w, a.object);
	}
	free(l);
}

struct unsent {
	uint64_t object[WRITES_MAX * 2];
	size_t n;
};

static int note_unsent(void *arg, const struct op_row *op)
{
	struct unsent *u = arg;

	if (op->kind == OP_PUT && op->object && u->n < ARRAY_SIZE(u->object))
		u->object[u->n++] = op->object;
	return 0;
}

/* A record that lost its place is in no directory until the origin names another one. */
static void look_at_journal(struct world *w)
{
	struct unsent u = { .n = 0 };
	struct object_row o;

	db_read(w->f.v->db);
	FUZZ_CHECK(op_each(w->f.v->db, 0, note_unsent, &u) == 0);
	db_unlock(w->f.v->db);
	for (size_t i = 0; i < u.n; i++) {
		int r;

		db_read(w->f.v->db);
		r = object_get(w->f.v->db, u.object[i], &o);
		db_unlock(w->f.v->db);
		FUZZ_CHECK(r == 0 || r == -ENOENT); /* on its way, and removed here since */
		if (!r && S_ISREG(o.mode))
			look_at_file(w, o.id);
	}
}

static void look(struct world *w)
{
	w->entries = 0;
	memset(w->seen, 0, sizeof(w->seen));
	look_at_dir(w, w->f.root, 0);
	look_at_journal(w);
	for (unsigned i = 0; i < w->n_own; i++)
		FUZZ_CHECK(!w->own[i] || w->seen[i]);
}

static void step(struct world *w)
{
	struct remote_report report;

	switch (fuzz_take(&w->in, 1) % 16) {
	case 0:
		list(w);
		break;
	case 1:
		OK(remote_retry_deferred(w->f.v, &report));
		break;
	case 2:
	case 3:
		write_file(w, take_path(w));
		break;
	case 4:
		(void)!tf_mkdir(&w->f, take_path(w));
		break;
	case 5:
	case 6:
		rename_path(w, take_path(w), take_path(w));
		break;
	case 7:
		unlink_path(w, take_path(w));
		break;
	case 8:
		(void)!tf_rmdir(&w->f, take_path(w));
		break;
	case 9:
	case 10:
		send(w);
		break;
	case 11:
	case 12:
		answer(w);
		break;
	case 13:
		reopen(w);
		break;
	default:
		apply(w);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = { .in = { data, size } };
	unsigned before;

	prepare();
	begin(&w);
	for (unsigned i = 0; w.in.len && i < STEPS_MAX; i++)
		step(&w);
	look(&w);
	before = w.entries;
	reopen(&w);
	look(&w);
	FUZZ_CHECK(w.entries == before);
	volume_close(w.f.v);
	return 0;
}
