/*
 * Theory of operation.
 *
 * Each of put, patch and delete goes the same way: load the record and check its precondition; work
 * out the place the record is to have and check that (parent, loop, the record it replaces, who
 * stands there); then write. `struct work` carries what was found. A check that refuses fills the
 * outcome and returns REFUSED, which unwinds to server_apply() and becomes 0 there: an answer, not
 * an error.
 *
 * Every row written takes the next number of the store's feed, so a change that replaces or swaps
 * takes two.
 */
#include "server/apply.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

#define REFUSED 1
#define DEPTH_MAX 4096

struct work {
	struct tx *tx;
	struct change *c;
	struct store_row *store;
	struct record record; /* the subject: as it is, then as it will be */
	struct record other;  /* replaced or swapped; n == 0: none */
	bool old_in_file;
	uint8_t old_file[RECORD_FILE_LEN];
	uint64_t old_size;
};

int server_apply_refuse(const char *instance, struct change *c, enum problem p, const char *detail,
	const struct record *record)
{
	server_change_reset_outcome(c);
	c->out.status = server_problem_status(p);
	return server_problem_print(&c->out.text, p, detail, instance, record);
}

static int refuse(struct work *w, enum problem p, const char *detail, const struct record *record)
{
	int r = server_apply_refuse(w->tx->instance, w->c, p, detail, record);

	return r ? r : REFUSED;
}

/* The record of `id` if it still has the ETag (list) `match`. */
static int load_matching(struct work *w, const char *id, const char *match, struct record *out)
{
	char etag[RECORD_ETAG_SIZE];
	int r = server_records_by_id(w->tx->db, w->c->store, id, out);

	if (r == -ENOENT)
		return refuse(w, PROBLEM_NO_RECORD, NULL, NULL);
	if (r)
		return r;
	server_records_etag(out, etag);
	if (out->deleted || !server_wire_etag_in(match, etag, false))
		return refuse(w, PROBLEM_PRECONDITION, NULL, out);
	return 0;
}

/* The directory a record is to stand in. */
static int load_parent(struct work *w, const char *id, struct record *out)
{
	int r;

	if (!strcmp(id, RECORD_ROOT_ID)) {
		server_records_root(w->c->store, out);
		return 0;
	}
	r = server_records_by_id(w->tx->db, w->c->store, id, out);
	if (r == -ENOENT || (!r && out->deleted))
		return refuse(w, PROBLEM_NO_PARENT, NULL, NULL);
	if (!r && out->kind != RECORD_DIR)
		return refuse(w, PROBLEM_NOT_A_DIRECTORY, "the parent is not a directory", out);
	return r;
}

/* The record the request names, as it is. */
static int refuse_loop(struct work *w, const char *detail)
{
	struct record now;
	int r = server_records_by_id(w->tx->db, w->c->store, w->c->id, &now);

	return r ? r : refuse(w, PROBLEM_LOOP, detail, &now);
}

/* Is row `dir` on the way from row `n` up to the root? */
static int check_no_loop(struct work *w, int64_t dir, int64_t n)
{
	int r;

	for (unsigned depth = 0; n; depth++) {
		if (n == dir || depth == DEPTH_MAX)
			return refuse_loop(w, n == dir ? NULL : "the tree is too deep");
		r = server_records_parent(w->tx->db, n, &n);
		if (r)
			return r;
	}
	return 0;
}

static int check_replaced(struct work *w)
{
	struct record *o = &w->other;
	int r = load_matching(w, w->c->replaces.id, w->c->replaces.etag, o);

	if (r)
		return r;
	if (o->parent_n != w->record.parent_n || strcmp(o->name, w->record.name) != 0)
		return refuse(w, PROBLEM_PRECONDITION, "the record to replace stands elsewhere", o);
	if (o->kind == RECORD_DIR && w->record.kind != RECORD_DIR)
		return refuse(
			w, PROBLEM_PLACE_TAKEN, "a directory is replaced by a directory only", o);
	if (o->kind != RECORD_DIR && w->record.kind == RECORD_DIR)
		return refuse(
			w, PROBLEM_NOT_A_DIRECTORY, "a directory replaces a directory only", o);
	if (o->kind != RECORD_DIR)
		return 0;
	r = server_records_has_child(w->tx->db, o->store, o->n);
	return r > 0 ? refuse(w, PROBLEM_NOT_EMPTY, NULL, o) : r;
}

static int check_free(struct work *w)
{
	struct record there;
	int r = server_records_by_place(
		w->tx->db, w->c->store, w->record.parent_n, w->record.name, &there);

	if (r == -ENOENT)
		return 0;
	if (r)
		return r;
	if (there.n == w->record.n || there.n == w->other.n)
		return 0;
	return refuse(w, PROBLEM_PLACE_TAKEN, NULL, &there);
}

/* Gives w->record the place the change asks for, if it may have it. */
static int take_place(struct work *w)
{
	const struct change *c = w->c;
	struct record parent;
	int r;

	if (!c->has_parent && !c->has_name && !c->replaces.set)
		return 0;
	if (c->has_parent) {
		r = load_parent(w, c->parent, &parent);
		if (!r && w->record.kind == RECORD_DIR && w->record.n)
			r = check_no_loop(w, w->record.n, parent.n);
		if (r)
			return r;
		w->record.parent_n = parent.n;
		snprintf(w->record.parent, sizeof(w->record.parent), "%s", parent.id);
	}
	if (c->has_name)
		snprintf(w->record.name, sizeof(w->record.name), "%s", c->name);
	r = c->replaces.set ? check_replaced(w) : 0;
	return r ? r : check_free(w);
}

/* The next number of the feed, the time and the key of this change. */
static void stamp(struct work *w, struct record *r)
{
	r->seq = ++w->store->seq;
	r->tag = w->tx->tag;
	r->changed_at = w->tx->now_ns;
	r->has_key = w->c->has_key;
	memcpy(r->key, w->c->key, sizeof(r->key));
}

static int save(struct work *w, struct record *r)
{
	stamp(w, r);
	return server_records_save(w->tx->db, r);
}

static int bury(struct work *w, struct record *r)
{
	int rc = 0;

	w->store->records--;
	w->store->bytes -= r->size;
	if (r->in_file)
		rc = server_tx_release_file(w->tx, r->file);
	else if (r->kind != RECORD_DIR)
		rc = server_records_delete_data(w->tx->db, r->n);
	if (rc)
		return rc;
	r->deleted = true;
	r->in_file = false;
	r->size = 0;
	return save(w, r);
}

/* Success: the record as JSON, with the other one it touched. */
static int answer(struct work *w, unsigned status, const char *other_name)
{
	struct outcome *out = &w->c->out;
	int r = server_records_print(&out->text, &w->record, false);

	out->status = status;
	server_records_etag(&w->record, out->etag);
	if (r || !w->other.n)
		return r;
	out->text.len--; /* the closing brace */
	r = buffer_printf(&out->text, ",\"%s\":", other_name);
	if (!r)
		r = server_records_print(&out->text, &w->other, false);
	return r ? r : buffer_append(&out->text, "}", 1);
}

static int check_body(struct work *w)
{
	const struct body *b = &w->c->body;

	if (w->record.kind == RECORD_DIR && b->len)
		return refuse(w, PROBLEM_BAD_REQUEST, "a directory has no content", NULL);
	if (w->record.kind != RECORD_SYMLINK)
		return 0;
	if (b->len > WIRE_TARGET_MAX)
		return refuse(w, PROBLEM_TOO_LARGE,
			"the target of a symlink has at most 4095 bytes", NULL);
	if (!b->len || memchr(b->small.data, 0, b->len))
		return refuse(w, PROBLEM_BAD_REQUEST, "the target of a symlink is text", NULL);
	return 0;
}

static void take_attributes(struct work *w)
{
	const struct change *c = w->c;

	if (c->has_mode)
		w->record.mode = c->mode;
	if (c->has_mtime)
		w->record.mtime_ns = c->mtime_ns;
	else if (c->op == CHANGE_PUT)
		w->record.mtime_ns = w->tx->now_ns;
}

static void take_body(struct work *w)
{
	const struct body *b = &w->c->body;

	w->old_in_file = w->record.in_file;
	w->old_size = w->record.size;
	memcpy(w->old_file, w->record.file, sizeof(w->old_file));
	if (w->record.kind == RECORD_DIR)
		return;
	w->record.size = b->len;
	memcpy(w->record.sha256, b->sha256, sizeof(w->record.sha256));
	w->record.in_file = b->in_file;
	memcpy(w->record.file, b->file, sizeof(w->record.file));
}

/* After the row: the inline body, and the file of the body it had before. */
static int store_body(struct work *w, bool created)
{
	const struct body *b = &w->c->body;
	struct store_db *db = w->tx->db;
	int r = 0;

	if (w->record.kind == RECORD_DIR)
		return 0;
	if (!b->in_file)
		r = server_records_put_data(
			db, w->record.n, b->small.data ? b->small.data : "", b->len);
	else if (!created && !w->old_in_file)
		r = server_records_delete_data(db, w->record.n);
	if (!r && w->old_in_file)
		r = server_tx_release_file(w->tx, w->old_file);
	return r;
}

static int load_for_put(struct work *w)
{
	struct change *c = w->c;
	struct record *rec = &w->record;
	int r;

	if (!c->create) {
		r = load_matching(w, c->id, c->if_match, rec);
		if (!r && c->kind && c->kind != rec->kind)
			return refuse(w, PROBLEM_BAD_REQUEST,
				"the kind of a record does not change", NULL);
		return r;
	}
	r = server_records_by_id(w->tx->db, c->store, c->id, rec);
	if (!r)
		return refuse(w, PROBLEM_PRECONDITION, NULL, rec);
	if (r != -ENOENT)
		return r;
	*rec = (struct record){ .store = c->store, .kind = c->kind ? c->kind : RECORD_FILE };
	rec->mode = rec->kind == RECORD_DIR ? 0755 : 0644;
	snprintf(rec->id, sizeof(rec->id), "%s", c->id);
	return 0;
}

static int put(struct work *w)
{
	bool created = w->c->create;
	int r = load_for_put(w);

	if (!r)
		r = check_body(w);
	if (!r)
		r = take_place(w);
	if (r)
		return r;
	take_attributes(w);
	take_body(w);
	if (w->other.n)
		r = bury(w, &w->other);
	if (!r)
		r = save(w, &w->record);
	if (!r)
		r = store_body(w, created);
	if (r)
		return r;
	w->store->records += created;
	w->store->bytes += w->record.size - w->old_size;
	return answer(w, created ? 201 : 200, "replaced");
}

static int swap(struct work *w)
{
	struct record *a = &w->record, *b = &w->other, t;
	int r = load_matching(w, w->c->swap.id, w->c->swap.etag, b);

	if (!r && a->kind == RECORD_DIR)
		r = check_no_loop(w, a->n, b->parent_n);
	if (!r && b->kind == RECORD_DIR)
		r = check_no_loop(w, b->n, a->parent_n);
	if (!r)
		r = server_records_unplace(w->tx->db, a->n);
	if (r)
		return r;
	t = *a;
	a->parent_n = b->parent_n;
	memcpy(a->parent, b->parent, sizeof(a->parent));
	memcpy(a->name, b->name, sizeof(a->name));
	b->parent_n = t.parent_n;
	memcpy(b->parent, t.parent, sizeof(b->parent));
	memcpy(b->name, t.name, sizeof(b->name));
	take_attributes(w);
	r = save(w, b);
	if (!r)
		r = save(w, a);
	return r ? r : answer(w, 200, "swapped");
}

static int patch(struct work *w)
{
	int r = load_matching(w, w->c->id, w->c->if_match, &w->record);

	if (r)
		return r;
	if (w->c->swap.set)
		return swap(w);
	r = take_place(w);
	if (r)
		return r;
	take_attributes(w);
	if (w->other.n)
		r = bury(w, &w->other);
	if (!r)
		r = save(w, &w->record);
	return r ? r : answer(w, 200, "replaced");
}

static int remove_record(struct work *w)
{
	int r = load_matching(w, w->c->id, w->c->if_match, &w->record);

	if (!r && w->record.kind == RECORD_DIR) {
		r = server_records_has_child(w->tx->db, w->c->store, w->record.n);
		if (r > 0)
			return refuse(w, PROBLEM_NOT_EMPTY, NULL, &w->record);
	}
	if (!r)
		r = bury(w, &w->record);
	return r ? r : answer(w, 200, "");
}

/* 1: the key was answered before, and out holds that answer or key-reused. */
static int replay(struct tx *tx, struct change *c)
{
	sqlite3_stmt *q = server_store_statement(tx->db, SQL_REPLAY_GET);
	int r;

	sqlite3_bind_blob(q, 1, c->key, sizeof(c->key), SQLITE_STATIC);
	sqlite3_bind_int64(q, 2, c->account);
	r = server_store_step(tx->db, q);
	if (r == 1) {
		const void *digest = sqlite3_column_blob(q, 0);
		const char *etag = (const char *)sqlite3_column_text(q, 2);
		bool same = sqlite3_column_bytes(q, 0) == sizeof(c->digest) && digest &&
			    !memcmp(digest, c->digest, sizeof(c->digest));

		c->out.replayed = same;
		c->out.status = (unsigned)sqlite3_column_int(q, 1);
		snprintf(c->out.etag, sizeof(c->out.etag), "%s", etag ? etag : "");
		r = same ? buffer_append(&c->out.text, sqlite3_column_text(q, 3),
				   (size_t)sqlite3_column_bytes(q, 3))
			 : server_apply_refuse(tx->instance, c, PROBLEM_KEY_REUSED, NULL, NULL);
		r = r ? r : 1;
	}
	server_store_reset(q);
	return r;
}

static int remember(struct tx *tx, const struct change *c)
{
	sqlite3_stmt *q = server_store_statement(tx->db, SQL_REPLAY_ADD);

	sqlite3_bind_int64(q, 1, c->account);
	sqlite3_bind_blob(q, 2, c->key, sizeof(c->key), SQLITE_STATIC);
	sqlite3_bind_blob(q, 3, c->digest, sizeof(c->digest), SQLITE_STATIC);
	sqlite3_bind_int(q, 4, (int)c->out.status);
	sqlite3_bind_text(q, 5, c->out.etag, -1, SQLITE_STATIC);
	sqlite3_bind_text(q, 6, c->out.text.data, (int)c->out.text.len, SQLITE_STATIC);
	sqlite3_bind_int64(q, 7, tx->now_ns);
	return server_store_once(tx->db, q);
}

static int dispatch(struct tx *tx, struct change *c)
{
	struct work w = { .tx = tx, .c = c };
	int r = server_tx_store(tx, c->store, &w.store);

	if (r)
		return r;
	switch (c->op) {
	case CHANGE_PUT:
		r = put(&w);
		break;
	case CHANGE_PATCH:
		r = patch(&w);
		break;
	case CHANGE_DELETE:
		r = remove_record(&w);
		break;
	}
	return r == REFUSED ? 0 : r;
}

int server_apply(struct tx *tx, struct change *c)
{
	int r = 0;

	server_change_reset_outcome(c);
	if (c->has_device)
		r = server_tx_note_device(tx, c->account, c->device, c->seq);
	if (r)
		return r;
	if (c->refused)
		return server_apply_refuse(tx->instance, c, c->refused, c->detail, NULL);
	if (c->has_key)
		r = replay(tx, c);
	if (r)
		return r < 0 ? r : 0;
	r = dispatch(tx, c);
	if (r || !c->has_key)
		return r;
	if (c->out.status < 300 || c->out.status == server_problem_status(PROBLEM_PRECONDITION))
		r = remember(tx, c);
	return r;
}

static bool may_try(const struct change *changes, const struct change *c)
{
	for (size_t i = 0; i < c->n_after; i++)
		if (changes[c->after[i]].out.status >= 300)
			return false;
	return true;
}

int server_apply_list(struct tx *tx, struct change *changes, size_t n)
{
	int r = 0;

	for (size_t i = 0; !r && i < n; i++) {
		struct change *c = &changes[i];

		if (may_try(changes, c))
			r = server_apply(tx, c);
		else
			r = server_apply_refuse(tx->instance, c, PROBLEM_DEPENDENCY, NULL, NULL);
	}
	return r;
}
