/*
 * Conflicts. Which rule applies is read from what the origin says about the record (settle_*.c);
 * what was sent is compared with the origin's content before the transaction, because reading a
 * file takes its lock.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "cache/settle_priv.h"
#include "cache/tree_priv.h"
#include "crypto/kdf.h"

#define LATER_MS 1000

static int compare_file(struct volume *v, const struct outbox_op *sent,
	const struct remote_record *rec, bool *equal)
{
	uint8_t digest[32];
	struct file *f;
	int r;

	if (!rec->has_sha256 || rec->size != sent->size)
		return 0;
	if (!sent->size) {
		*equal = true;
		return 0;
	}
	r = file_open_map(v, sent->map, &f);
	if (r)
		return r;
	r = file_sha256(f, digest);
	file_unref(f, false);
	if (!r)
		*equal = !memcmp(digest, rec->sha256, sizeof(digest));
	return r;
}

static int compare_target(
	const struct outbox_op *sent, const struct remote_record *rec, bool *equal)
{
	uint8_t digest[32];
	int r;

	if (!sent->target || !rec->has_sha256)
		return 0;
	r = kdf_sha256(sent->target, strlen(sent->target), digest);
	if (!r)
		*equal = !memcmp(digest, rec->sha256, sizeof(digest));
	return r;
}

static int compare(struct volume *v, uint64_t seq, const struct remote_record *rec, bool *equal)
{
	struct outbox_op sent = { 0 };
	struct op_row row;
	int r;

	*equal = false;
	if (!rec || rec->deleted)
		return 0;
	db_read(v->db);
	r = op_get(v->db, seq, &row);
	if (!r)
		r = outbox_fill(v, &row, &sent);
	db_unlock(v->db);
	if (!r && sent.kind == OUTBOX_PUT && sent.node_kind == (int)rec->kind) {
		if (rec->kind == REMOTE_SYMLINK)
			r = compare_target(&sent, rec, equal);
		else if (rec->kind == REMOTE_FILE)
			r = compare_file(v, &sent, rec, equal);
		else
			*equal = true;
	}
	outbox_op_done(&sent);
	return r == -ENOENT ? 0 : r;
}

int settle_load(struct settle *s)
{
	struct volume *v = s->v;
	int r = name_by_rid(v->db, s->op.store, s->op.rid.text, &s->name);

	if (!r)
		r = object_get(v->db, s->name.object, &s->object);
	else if (r == -ENOENT)
		r = 0;
	if (!r)
		r = fold_rows_get(v, s->op.store, s->op.rid.text, &s->rows);
	for (size_t i = 0; !r && i < s->rows.n; i++) {
		const struct op_row *row = &s->rows.rows[i];

		s->doubled |= fold_row_is_double(row) && !fold_row_is_shadow(row);
		s->has_put |= row->kind == OP_PUT;
		s->has_attr |= row->kind == OP_ATTR;
		s->has_mode |= fold_row_has_mode(row);
		s->has_move |= row->kind == OP_MOVE && !fold_row_is_double(row);
		s->has_delete |= row->kind == OP_DELETE;
	}
	return r;
}

int settle_clear(struct settle *s)
{
	return fold_rows_give_up(s->v, &s->rows);
}

int settle_path(struct settle *s, const struct name_row *n, char **out)
{
	_cleanup_free_ char *dir = NULL;
	int r = tree_path_locked(s->v, n->parent, &dir);

	if (r && r != -ENOENT)
		return r;
	return bytes_print(
		out, "%s%s%s", dir ? dir : "", dir && *dir ? "/" : "", (const char *)n->name.bytes);
}

int settle_note(struct settle *s, enum conflict_kind kind, uint64_t object, const char *path)
{
	_cleanup_free_ char *other = NULL;
	struct name_row n;
	int r = name_by_rid(s->v->db, s->op.store, s->op.rid.text, &n);

	if (!r)
		r = settle_path(s, &n, &other);
	if (r && r != -ENOENT)
		return r;
	return conflict_note(&s->pass, kind, object, s->op.rid.text, path, other ? other : path);
}

int settle_later(struct settle *s)
{
	s->op.next_try_ms = clock_wall_ns() / NS_PER_MS + LATER_MS;
	return op_update(s->v->db, &s->op);
}

int settle_in_place(struct settle *s, bool *out)
{
	struct row_rid parent;
	int r = tree_row_rid(s->v, s->name.store, s->name.parent, &parent);

	if (!r)
		*out = !strcmp(parent.text, s->op.r_parent.text) &&
		       tree_row_same_name(&s->name.name, &s->op.r_name);
	return r;
}

/* The origin's own words about it are no news any more when the feed brings them. */
static int heard(struct settle *s, const struct remote_record *rec)
{
	if (!rec)
		return 0;
	remote_stale_note(s->v, s->op.store, rec->id, rec->seq);
	return remote_stale_drop(s->v, s->op.store, rec->id, rec->seq);
}

/* An answer that is repeated tells what was; the feed may have told since what is. */
static int prefer_newer(struct settle *s)
{
	_cleanup_free_ char *entry = NULL;
	_cleanup_record_ struct remote_record rec = { 0 };
	int r;

	if (!s->current || strcmp(s->current->id, s->op.rid.text))
		return 0;
	r = deferred_get(s->v->db, s->op.store, s->op.rid.text, &entry);
	if (!r)
		r = remote_record_load(entry, &rec);
	if (r)
		return r == -ENOENT ? 0 : r;
	if (rec.seq <= s->current->seq || rec.seq == REMOTE_PARK_SEQ)
		return 0;
	s->equal &= !rec.deleted && rec.has_sha256 && s->current->has_sha256 &&
		    !memcmp(rec.sha256, s->current->sha256, sizeof(rec.sha256));
	s->newer = rec;
	rec.target = NULL;
	s->current = &s->newer;
	return 0;
}

static bool same_digest(const struct name_row *n, const struct remote_record *rec)
{
	return n->has_sha256 && rec->has_sha256 &&
	       !memcmp(n->sha256, rec->sha256, sizeof(n->sha256));
}

/* Of a symlink an answer has no target: it came with the feed's entry, which waits, or it is here.
 * -ENODATA: it is still to come. */
static int find_target(struct settle *s, const struct remote_record *rec, char **out)
{
	_cleanup_free_ char *entry = NULL;
	struct remote_record waiting;
	struct name_row n;
	size_t len;
	int r = deferred_get(s->v->db, s->op.store, rec->id, &entry);

	if (!r)
		r = remote_record_load(entry, &waiting);
	if (!r && waiting.target && !strcmp(waiting.etag, rec->etag)) {
		*out = waiting.target;
		return 0;
	}
	if (!r)
		remote_record_done(&waiting);
	else if (r != -ENOENT)
		return r;
	r = name_by_rid(s->v->db, s->op.store, rec->id, &n);
	if (!r && strcmp(n.etag.text, rec->etag) && !same_digest(&n, rec))
		r = -ENODATA;
	if (!r)
		r = object_target(s->v->db, n.object, out, &len);
	return r == -ENOENT ? -ENODATA : r;
}

/* *rec becomes *room, a copy with its target. */
static int complete(struct settle *s, const struct remote_record **rec, struct remote_record *room)
{
	char *target = NULL;
	int r;

	if (!*rec || (*rec)->deleted || (*rec)->kind != REMOTE_SYMLINK || (*rec)->target)
		return 0;
	r = find_target(s, *rec, &target);
	if (r)
		return r;
	*room = **rec;
	room->target = target;
	*rec = room;
	return 0;
}

static int decide(struct settle *s)
{
	const struct remote_record *c = s->current;

	if (s->op.kind == OP_SWAP)
		return settle_swap(s);
	if (c && strcmp(c->id, s->op.rid.text))
		return settle_other(s);
	if (s->standing)
		return settle_place_taken(s);
	if (c)
		return c->deleted ? settle_gone(s) : settle_live(s);
	if (fold_row_is_make(&s->op) || s->op.kind == OP_MOVE)
		return settle_no_parent(s);
	return settle_gone(s);
}

static int settle_now(struct settle *s)
{
	int r;

	/* The feed has told since that it went on: the place may be free. */
	if (s->standing && remote_stale_is(s->v, s->op.store, s->standing))
		return fold_row_renew(s->v, &s->op);
	r = heard(s, s->current);

	if (!r)
		r = heard(s, s->standing);
	return r ? r : decide(s);
}

/* An answer speaks of the operation's records; what stands in a place is alive, and in the way only
 * of what goes there. */
static bool is_about(const struct settle *s)
{
	const struct remote_record *c = s->current;
	const bool goes =
		fold_row_is_make(&s->op) || s->op.kind == OP_MOVE || s->op.kind == OP_SWAP;

	if (s->standing && (s->standing->deleted || !goes))
		return false;
	return !c || !strcmp(c->id, s->op.rid.text) || !strcmp(c->id, s->op.other_rid.text);
}

static int settle_txn(struct settle *s, uint64_t seq)
{
	int r = op_get(s->v->db, seq, &s->op);

	if (r)
		return r;
	if (!is_about(s))
		return CE_PROTOCOL;
	r = remote_pass_begin(&s->pass, s->v, s->op.store);
	s->pass.any_ops = true;
	if (!r)
		r = settle_load(s);
	if (!r && s->name.id && s->name.parent == TREE_NOWHERE)
		r = remote_park_near_home(&s->pass, &s->name);
	if (!r)
		r = prefer_newer(s);
	if (!r)
		r = complete(s, &s->current, &s->whole[0]);
	if (!r)
		r = complete(s, &s->standing, &s->whole[1]);
	if (r == -ENODATA)
		r = settle_later(s);
	else if (!r)
		r = settle_now(s);
	return r ? r : remote_pass_finish(&s->pass);
}

int outbox_settle(struct volume *v, uint64_t seq, const struct remote_record *current,
	const struct remote_record *standing, bool *conflict)
{
	struct settle s = { .v = v, .current = current, .standing = standing };
	int r = compare(v, seq, standing ? standing : current, &s.equal);

	if (!r)
		r = db_begin(v->db);
	if (r)
		return r;
	r = settle_txn(&s, seq);
	if (r == -ENOENT && !s.op.seq) {
		/* The feed has acknowledged it meanwhile. */
		db_rollback(v->db);
		*conflict = false;
		return 0;
	}
	r = tree_row_end(v, r);
	fold_rows_done(&s.rows);
	remote_record_done(&s.newer);
	remote_record_done(&s.whole[0]);
	remote_record_done(&s.whole[1]);
	remote_pass_end(&s.pass, !r);
	if (r)
		return r;
	*conflict = s.pass.report.conflicts != 0;
	return 0;
}
