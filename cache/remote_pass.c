#include "cache/remote_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/array.h"
#include "base/clock.h"
#include "cache/tree_priv.h"

static int any_op(void *arg, const struct op_row *op)
{
	*(bool *)arg = true;
	return 1;
}

int remote_ids_add(struct remote_ids *ids, uint64_t id)
{
	if (ARRAY_ROOM(ids->id, ids->n, ids->cap))
		return -ENOMEM;
	ids->id[ids->n++] = id;
	return 0;
}

int remote_pass_begin(struct remote_pass *p, struct volume *v, uint64_t store)
{
	uint64_t parents, busy, held;
	int r;

	*p = (struct remote_pass){ .v = v, .now = clock_wall_ns() };
	r = store_get(v->db, store, &p->store);
	if (!r)
		r = deferred_count(v->db, DEFERRED_PARENT, &parents);
	if (!r)
		r = deferred_count(v->db, DEFERRED_BUSY, &busy);
	if (!r)
		r = deferred_count(v->db, DEFERRED_HELD, &held);
	if (r)
		return r;
	p->any_deferred = parents || busy || held;
	r = op_each(v->db, 0, any_op, &p->any_ops);
	return MIN_OF(r, 0);
}

static struct remote_change *new_change(struct remote_pass *p)
{
	if (ARRAY_ROOM(p->changes, p->n_changes, p->cap_changes))
		return NULL;
	return memset(&p->changes[p->n_changes++], 0, sizeof(*p->changes));
}

int remote_pass_entry(struct remote_pass *p, uint64_t parent, const struct row_filename *name,
	const struct object_row *o)
{
	struct remote_change *c;

	if (parent == TREE_NOWHERE)
		return 0;
	c = new_change(p);
	if (!c)
		return -ENOMEM;
	c->change.what = CHANGE_ENTRY;
	c->change.parent = parent;
	c->change.name_len = name->len;
	c->change.object = o->id;
	c->change.version = o->version;
	memcpy(c->name, name->bytes, name->len);
	return 0;
}

int remote_pass_object(struct remote_pass *p, int what, const struct object_row *o)
{
	struct remote_change *c = new_change(p);

	if (!c)
		return -ENOMEM;
	c->change.what = what;
	c->change.object = o->id;
	c->change.version = o->version;
	return 0;
}

int remote_pass_touch(struct remote_pass *p, uint64_t dir, int nlink)
{
	struct remote_touched *t;

	HASH_FIND(hh, p->touched, &dir, sizeof(dir), t);
	if (!t) {
		t = calloc(1, sizeof(*t));
		if (!t)
			return -ENOMEM;
		t->dir = dir;
		if (TABLE_ADD(hh, p->touched, dir, t)) {
			free(t);
			return -ENOMEM;
		}
	}
	t->nlink += nlink;
	return 0;
}

int remote_pass_arrived(struct remote_pass *p, const char *rid)
{
	void *bigger;

	if (!p->any_deferred)
		return 0;
	bigger = reallocarray(p->arrived, p->n_arrived + 1, sizeof(*p->arrived));
	if (!bigger)
		return -ENOMEM;
	p->arrived = bigger;
	snprintf(p->arrived[p->n_arrived++].text, sizeof(p->arrived->text), "%s", rid);
	return 0;
}

/* A listing under way must know that the record is still there. */
static int mark_seen(struct remote_pass *p, const char *rid)
{
	struct name_row n;
	int r = name_by_rid(p->v->db, p->store.id, rid, &n);

	if (r || n.seen == p->store.listing)
		return r == -ENOENT ? 0 : r;
	n.seen = p->store.listing;
	return name_update(p->v->db, &n);
}

int remote_pass_defer(
	struct remote_pass *p, const struct remote_record *rec, enum deferred_reason reason)
{
	_cleanup_free_ char *text = NULL;
	int r = remote_record_print(rec, &text);

	if (!r && !rec->deleted)
		r = mark_seen(p, rec->id);
	if (!r)
		r = deferred_put(p->v->db, p->store.id, rec->id, reason, rec->parent, text);
	if (r)
		return r;
	p->any_deferred = true;
	p->report.deferred++;
	return 0;
}

int remote_pass_late(struct remote_pass *p, const struct remote_record *rec)
{
	struct remote_record copy = *rec;
	void *bigger;

	if (p->last_try)
		return remote_pass_defer(p, rec, DEFERRED_BUSY);
	if (rec->target && !(copy.target = strdup(rec->target)))
		return -ENOMEM;
	bigger = reallocarray(p->late, p->n_late + 1, sizeof(*p->late));
	if (!bigger) {
		free(copy.target);
		return -ENOMEM;
	}
	p->late = bigger;
	p->late[p->n_late++] = copy;
	return 0;
}

int remote_pass_deferred(void *arg, const char *rid, const char *entry)
{
	struct remote_pass *p = arg;
	_cleanup_record_ struct remote_record rec = { 0 };
	int r = remote_record_load(entry, &rec);

	if (!r)
		r = deferred_delete(p->v->db, p->store.id, rid);
	if (r == -ENOENT)
		return 0;
	return r ? r : remote_apply_one(p, &rec);
}

/* Without recursion: a directory that arrives in turn is added behind. */
static int children_of_arrived(struct remote_pass *p)
{
	for (size_t i = 0; i < p->n_arrived; i++) {
		struct row_rid rid = p->arrived[i];
		int r = deferred_each(
			p->v->db, p->store.id, DEFERRED_PARENT, rid.text, remote_pass_deferred, p);

		if (r < 0)
			return r;
	}
	p->n_arrived = 0;
	return 0;
}

/* Rounds, as long as one gets something done. */
static int late_entries(struct remote_pass *p)
{
	size_t before = SIZE_MAX;
	int r = 0;

	while (!r && p->n_late) {
		struct remote_record *late = p->late;
		size_t n = p->n_late;

		p->last_try = n >= before;
		before = n;
		p->late = NULL;
		p->n_late = 0;
		for (size_t i = 0; i < n; i++) {
			if (!r)
				r = remote_apply_one(p, &late[i]);
			remote_record_done(&late[i]);
		}
		free(late);
		if (!r)
			r = children_of_arrived(p);
	}
	return r;
}

/* Times of directories follow what happens in them, but not while the store is being listed: then
 * they are the origin's. */
static int touch_dirs(struct remote_pass *p)
{
	struct remote_touched *t, *next;
	struct object_row o;
	int r = 0;

	HASH_ITER (hh, p->touched, t, next) {
		r = object_get(p->v->db, t->dir, &o);
		if (r == -ENOENT || (!r && !o.nlink)) {
			r = 0;
			continue;
		}
		if (r)
			break;
		o.nlink = (uint32_t)((int64_t)o.nlink + t->nlink);
		if (p->store.listed)
			o.mtime_ns = o.ctime_ns = p->now;
		r = object_update(p->v->db, &o);
		if (!r)
			r = remote_pass_object(p, CHANGE_ATTR, &o);
		if (r)
			break;
	}
	return r;
}

int remote_pass_finish(struct remote_pass *p)
{
	int r = children_of_arrived(p);

	if (!r)
		r = late_entries(p);
	return r ? r : touch_dirs(p);
}

static void tell(struct remote_pass *p)
{
	_cleanup_free_ struct volume_change *all = calloc(p->n_changes, sizeof(*all));

	for (size_t i = 0; i < p->n_changes; i++) {
		struct volume_change c = p->changes[i].change;

		if (c.what == CHANGE_ENTRY)
			c.name = p->changes[i].name;
		if (all)
			all[i] = c;
		else
			volume_tell(p->v, &c, 1);
	}
	if (all)
		volume_tell(p->v, all, p->n_changes);
}

void remote_pass_end(struct remote_pass *p, bool committed)
{
	struct remote_touched *t, *next;

	if (committed && p->n_changes)
		tell(p);
	free(p->changes);
	HASH_ITER (hh, p->touched, t, next) {
		HASH_DEL(p->touched, t);
		free(t);
	}
	free(p->arrived);
	for (size_t i = 0; i < p->n_late; i++)
		remote_record_done(&p->late[i]);
	free(p->late);
}
