#include "cache/merge.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "cache/file_priv.h"
#include "cache/merge_base.h"
#include "cache/remote_priv.h"
#include "cache/tree_priv.h"

/* One of the two files; name.id 0: it is not there. */
struct side {
	struct name_row name;
	struct object_row object;
	struct file *file;
	uint64_t write_seq; /* of file, when the merge was opened */
};

struct merge {
	struct volume *v;
	struct conflict_row row;
	struct side ours, theirs;
	struct file *base;
	const struct merge_rule *rule;
};

static const char *const pick_names[MERGE_PICKS + 1] = { "both", "ours", "theirs", "merged",
	"elsewhere" };

const char *merge_pick_name(enum merge_pick pick)
{
	return (size_t)pick < ARRAY_SIZE(pick_names) ? pick_names[pick] : "both";
}

int merge_pick(const char *name, enum merge_pick *out)
{
	for (size_t i = 0; i < MERGE_PICKS; i++)
		if (!strcmp(pick_names[i], name)) {
			*out = (enum merge_pick)i;
			return 0;
		}
	return -ENOENT;
}

uint64_t merge_noted(struct volume *v)
{
	return atomic_load(&v->conflicts);
}

/* --- finding the two files --- */

static int load_object(struct volume *v, struct side *s, int r)
{
	if (!r)
		r = object_get(v->db, s->name.object, &s->object);
	if (r)
		s->name.id = 0;
	return r == -ENOENT ? 0 : r;
}

/* Of the names of a hard link the one that gave way: by its record, or by the name it got. */
static bool is_ours(const struct merge *m, const struct name_row *n, bool by_record)
{
	const char *slash = strrchr(m->row.path, '/');

	if (by_record)
		return !strcmp(n->rid.text, m->row.rid.text);
	return !strcmp((const char *)n->name.bytes, slash ? slash + 1 : m->row.path);
}

static int load_ours(struct merge *m)
{
	_cleanup_free_ struct name_row *names = NULL;
	const struct name_row *found = NULL;
	size_t n = 0;
	int r = m->row.object ? tree_row_names_of(m->v, m->row.object, &names, &n) : -ENOENT;

	for (int by_record = 1; by_record >= 0; by_record--)
		for (size_t i = 0; !r && !found && i < n; i++)
			if (is_ours(m, &names[i], by_record))
				found = &names[i];
	if (!found && n == 1)
		found = names; /* a person renamed it */
	if (found)
		m->ours.name = *found;
	return load_object(m->v, &m->ours, r ? r : found ? 0 : -ENOENT);
}

/* Two records wanted one place, or ours gave way: the other is what stands at that path. */
static int load_at_path(struct merge *m)
{
	struct volume *v = m->v;
	struct name_row dir = { .object = OBJECT_ROOT };
	_cleanup_free_ char *path = strdup(m->row.other_path ? m->row.other_path : "");
	char *rest = path;
	int r = path ? 0 : -ENOMEM;

	if (!r && v->only_store) {
		struct store_row s;

		r = store_get(v->db, m->row.store, &s);
		dir.object = s.root;
	}
	for (char *part; !r && (part = strsep(&rest, "/"));)
		r = name_find(v->db, dir.object, part, strlen(part), &dir);
	m->theirs.name = dir;
	return load_object(v, &m->theirs, r);
}

static int load_theirs(struct merge *m)
{
	struct side *s = &m->theirs;
	int r = name_by_rid(m->v->db, m->row.store, m->row.rid.text, &s->name);

	r = load_object(m->v, s, r);
	if (r || !s->name.id || s->name.object != m->row.object)
		return r;
	return m->row.kind == CONFLICT_MOVE && !strcmp(m->row.path, m->row.other_path)
		       ? 0
		       : load_at_path(m);
}

static bool is_there(const struct side *s)
{
	return s->name.id && s->name.parent != TREE_NOWHERE;
}

static bool has_two(const struct merge *m)
{
	return is_there(&m->ours) && is_there(&m->theirs) &&
	       m->ours.object.id != m->theirs.object.id && S_ISREG(m->ours.object.mode) &&
	       S_ISREG(m->theirs.object.mode);
}

static int load(struct merge *m, uint64_t id)
{
	int r = conflict_get(m->v->db, id, &m->row);

	if (!r && m->row.resolved_ns)
		r = -ENOENT;
	if (!r)
		r = load_ours(m);
	if (!r)
		r = load_theirs(m);
	if (!r && is_there(&m->theirs))
		r = merge_base_rule(m->v, &m->theirs.name, &m->rule);
	return r;
}

static int open_side(struct merge *m, struct side *s)
{
	int r = file_open(m->v, s->object.id, s->object.version, false, &s->file);

	if (r)
		return r;
	file_lock(s->file);
	s->write_seq = s->file->write_seq;
	file_unlock(s->file);
	return 0;
}

int merge_open(struct volume *v, uint64_t id, struct merge **out)
{
	_cleanup_(merge_freep) struct merge *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	m->v = v;
	db_read(v->db);
	r = load(m, id);
	db_unlock(v->db);
	if (!r && has_two(m)) {
		r = open_side(m, &m->ours);
		if (!r)
			r = open_side(m, &m->theirs);
		if (!r && m->row.base)
			r = file_open_map(v, m->row.base, &m->base);
		if (r == -ENOENT || r == CE_STALE)
			r = -EBUSY; /* changed between the two steps */
	}
	if (!r)
		*out = steal_ptr(&m);
	return r;
}

void merge_free(struct merge *m)
{
	if (!m)
		return;
	if (m->base)
		file_unref(m->base, false);
	if (m->ours.file)
		file_unref(m->ours.file, false);
	if (m->theirs.file)
		file_unref(m->theirs.file, false);
	conflict_row_done(&m->row);
	free(m);
}

void merge_freep(struct merge **m)
{
	merge_free(*m);
}

const struct merge_rule *merge_rule_of(const struct merge *m)
{
	return m->rule;
}

const char *merge_name_of(const struct merge *m)
{
	return (const char *)m->theirs.name.name.bytes;
}

struct file *merge_base_of(const struct merge *m)
{
	return m->base;
}

struct file *merge_ours_of(const struct merge *m)
{
	return m->ours.file;
}

struct file *merge_theirs_of(const struct merge *m)
{
	return m->theirs.file;
}

/* --- carrying it out --- */

struct take {
	struct merge *m;
	struct remote_pass pass;
	enum merge_pick pick;
	struct object_row fresh; /* the merged content, without a name yet */
	struct file *file;
};

/* Still the file that was looked at, and nobody is about to change it. */
static int check_side(struct merge *m, struct side *s)
{
	const uint64_t version = s->object.version;
	struct name_row n;
	int r = name_find(m->v->db, s->name.parent, s->name.name.bytes, s->name.name.len, &n);

	if (!r)
		r = object_get(m->v->db, s->object.id, &s->object);
	if (r)
		return r == -ENOENT ? -EBUSY : r;
	if (n.id != s->name.id || n.object != s->name.object || s->object.version != version ||
		filetab_busy(m->v, s->object.id))
		return -EBUSY;
	s->name = n; /* it may have been sent meanwhile */
	return s->file && s->file->write_seq != s->write_seq ? -EBUSY : 0;
}

static int check(struct merge *m)
{
	bool pending = false;
	int r = is_there(&m->ours) ? check_side(m, &m->ours) : 0;

	if (!r && is_there(&m->theirs))
		r = check_side(m, &m->theirs);
	if (!r && m->theirs.file)
		r = fold_pending(m->v, m->theirs.name.store, m->theirs.name.rid.text, &pending);
	return r ? r : pending ? -EBUSY : 0;
}

static int delete_side(struct take *t, struct side *s)
{
	struct volume *v = t->m->v;
	int r = object_get(v->db, s->object.id, &s->object);

	if (!r)
		r = fold_delete(v, &s->name, &s->object);
	if (!r)
		r = remote_pass_entry(&t->pass, s->name.parent, &s->name.name, &s->object);
	if (!r)
		r = remote_pass_touch(&t->pass, s->name.parent, 0);
	return r ? r : tree_row_unname(v, &s->name, &s->object, t->pass.now);
}

/* The name gets `object`, whose content is ours alone; what it had goes. */
static int put_under_name(struct take *t, uint64_t object)
{
	struct volume *v = t->m->v;
	struct side *s = &t->m->theirs;
	struct object_row o;
	int r = merge_base_keep(v, &s->object);

	s->name.object = object;
	if (!r)
		r = name_update(v->db, &s->name);
	if (!r)
		r = object_get(v->db, object, &o);
	if (r)
		return r;
	o.nlink++;
	r = object_update(v->db, &o);
	if (!r)
		r = remote_pass_entry(&t->pass, s->name.parent, &s->name.name, &s->object);
	return r ? r : tree_row_unlinked(v, &s->name, &s->object, t->pass.now);
}

static int send_name(struct take *t, uint64_t object)
{
	struct object_row o;
	int r = object_get(t->m->v->db, object, &o);

	if (!r)
		r = tree_row_own_content(t->m->v, &o);
	return r ? r : fold_put(t->m->v, &o);
}

/* What every device can see: the copy is called a copy no more. */
static int keep_copy(struct take *t)
{
	struct volume *v = t->m->v;
	struct side *s = &t->m->ours;
	const struct row_filename old = s->name.name;
	int r = conflict_kept_name(v, &s->name, &s->name.name);

	if (!r)
		r = fold_aside(v, &s->name);
	if (!r)
		r = name_update(v->db, &s->name);
	if (!r)
		r = remote_pass_entry(&t->pass, s->name.parent, &old, &s->object);
	if (!r)
		r = remote_pass_entry(&t->pass, s->name.parent, &s->name.name, &s->object);
	return r ? r : remote_pass_touch(&t->pass, s->name.parent, 0);
}

static int take_two(struct take *t)
{
	struct merge *m = t->m;
	const uint64_t object = t->pick == MERGE_PICK_OURS ? m->ours.object.id : t->fresh.id;
	bool whole = true;
	int r = 0;

	if (t->pick == MERGE_PICK_OURS)
		r = tree_row_whole(m->v, &m->ours.object, &whole);
	if (r || !whole)
		return r ? r : CE_ABSENT;
	if (t->pick != MERGE_PICK_THEIRS)
		r = put_under_name(t, object);
	if (!r)
		r = delete_side(t, &m->ours);
	return r || t->pick == MERGE_PICK_THEIRS ? r : send_name(t, object);
}

/* The other side was a deletion, or there is nothing to pick from. */
static int take_one(struct take *t)
{
	struct merge *m = t->m;
	struct side *loser = NULL;

	if (m->row.kind == CONFLICT_EDIT_DELETE && t->pick == MERGE_PICK_THEIRS)
		loser = &m->ours;
	else if (m->row.kind == CONFLICT_DELETE_EDIT && t->pick == MERGE_PICK_OURS)
		loser = &m->theirs;
	else if (m->row.kind == CONFLICT_EDIT_DELETE || m->row.kind == CONFLICT_DELETE_EDIT)
		return t->pick == MERGE_PICK_MERGED ? -EINVAL : 0;
	if (!loser || (is_there(loser) && S_ISDIR(loser->object.mode)))
		return -EINVAL;
	return is_there(loser) ? delete_side(t, loser) : 0;
}

static int take_any(struct take *t)
{
	struct merge *m = t->m;
	struct row_filename original;
	const bool both = t->pick == MERGE_PICK_BOTH;
	const bool copy = is_there(&m->ours) && conflict_is_copy(&m->ours.name.name, &original);

	if (both && !copy)
		return 0;
	if (t->pass.store.mode == STORE_RO)
		return -EROFS;
	return both ? keep_copy(t) : has_two(m) ? take_two(t) : take_one(t);
}

static int take_txn(struct take *t)
{
	struct merge *m = t->m;
	int r = remote_pass_begin(&t->pass, m->v, m->row.store);

	if (!r)
		r = check(m);
	if (!r)
		r = take_any(t);
	if (!r)
		r = conflict_close(m->v, &m->row, t->pass.now, t->pick);
	return r ? r : remote_pass_finish(&t->pass);
}

static void lock_sides(struct merge *m, void (*fn)(struct file *f))
{
	struct file *a = m->ours.file, *b = m->theirs.file;

	if (!a)
		return;
	fn(a->object < b->object ? a : b);
	fn(a->object < b->object ? b : a);
}

static int take_locked(struct take *t)
{
	struct volume *v = t->m->v;
	int r = db_begin(v->db);

	return r ? r : tree_row_end(v, take_txn(t));
}

static int insert_fresh(struct take *t)
{
	struct volume *v = t->m->v;
	const struct object_row *like = &t->m->theirs.object;
	const int64_t now = clock_file_ns();
	int r = db_begin(v->db);

	if (r)
		return r;
	t->fresh = (struct object_row){
		.store = like->store,
		.version = 1,
		.mode = like->mode,
		.uid = like->uid,
		.gid = like->gid,
		.atime_ns = now,
		.mtime_ns = now,
		.ctime_ns = now,
		.btime_ns = now,
	};
	r = tree_row_end(v, object_insert(v->db, &t->fresh, NULL, 0));
	if (r)
		t->fresh.id = 0;
	return r;
}

/* On the disk before it replaces anything; without a name it goes by itself after a crash. */
static int make_fresh(struct take *t, const void *content, size_t len)
{
	int r = insert_fresh(t);

	if (!r)
		r = file_open(t->m->v, t->fresh.id, 1, true, &t->file);
	if (!r)
		r = file_write(t->file, content, len, 0);
	return r ? r : file_sync(t->file);
}

static void take_end(struct take *t)
{
	if (t->file)
		file_unref(t->file, true);
	if (t->fresh.id)
		tree_dropped(t->m->v, t->fresh.id); /* if it got no name */
}

int merge_take(struct merge *m, enum merge_pick pick, const void *content, size_t len)
{
	struct take t = { .m = m, .pick = pick };
	int r = space_begin(m->v, true);

	if (r)
		return r;
	if (pick == MERGE_PICK_MERGED)
		r = has_two(m) ? make_fresh(&t, content, len) : -EINVAL;
	if (!r) {
		lock_sides(m, file_lock);
		r = take_locked(&t);
		lock_sides(m, file_unlock);
		remote_pass_end(&t.pass, !r);
	}
	take_end(&t);
	space_end(m->v);
	if (!r)
		volume_tell_outbox(m->v);
	return r;
}

int merge_leave(struct merge *m)
{
	_cleanup_rows_ struct fold_rows rows = { 0 };
	int r = db_begin(m->v->db);

	if (r)
		return r;
	r = fold_rows_get(m->v, m->row.store, m->ours.name.rid.text, &rows);
	for (size_t i = 0; !r && i < rows.n; i++)
		if (rows.rows[i].state == OP_QUEUED) {
			rows.rows[i].next_try_ms = 0;
			r = op_update(m->v->db, &rows.rows[i]);
		}
	r = tree_row_end(m->v, r);
	if (!r)
		volume_tell_outbox(m->v);
	return r;
}

/* --- what there is to do --- */

struct look {
	struct volume *v;
	uint64_t after, found;
};

static int look_at(void *arg, const struct conflict_row *c)
{
	struct look *l = arg;
	struct merge m = { .v = l->v };
	int r;

	if (c->id <= l->after || c->kind == CONFLICT_ELSEWHERE)
		return 0;
	r = load(&m, c->id);
	if (!r && m.rule && has_two(&m))
		l->found = c->id;
	conflict_row_done(&m.row);
	return r ? r : l->found != 0;
}

int merge_next(struct volume *v, uint64_t after, uint64_t *id)
{
	struct look l = { .v = v, .after = after };
	int r;

	db_read(v->db);
	r = conflict_each(v->db, true, look_at, &l);
	db_unlock(v->db);
	if (r < 0)
		return r;
	if (!l.found)
		return -ENOENT;
	*id = l.found;
	return 0;
}
