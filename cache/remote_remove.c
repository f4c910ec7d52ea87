/* A record is gone at the origin, on the origin's own word. */
#include "cache/remote_priv.h"

#include <errno.h>
#include <sys/stat.h>

#include "cache/tree_priv.h"

struct inside {
	struct remote_pass *p;
	bool any, ours;
};

static int look_inside(void *arg, const struct name_row *n, const struct object_row *o)
{
	struct inside *in = arg;
	bool pending = false;
	int r = 0;

	in->any = true;
	if (n->rid.text[0] && n->etag.text[0])
		r = fold_pending(in->p->v, n->store, n->rid.text, &pending);
	in->ours = pending || !n->rid.text[0] || !n->etag.text[0];
	return r ? r : in->ours;
}

static int revive(struct remote_pass *p, const struct name_row *n, const struct object_row *o)
{
	struct name_row again = *n;

	return remote_park_revive(p, &again, o);
}

int remote_remove_name(struct remote_pass *p, const struct name_row *n, bool *done)
{
	struct inside in = { .p = p };
	struct object_row o;
	int r = object_get(p->v->db, n->object, &o);

	if (r)
		return r;
	*done = true;
	if (S_ISDIR(o.mode))
		r = name_each(p->v->db, o.id, 0, look_inside, &in);
	if (r < 0)
		return r;
	if (in.ours)
		return revive(p, n, &o);
	if (in.any || filetab_busy(p->v, o.id)) {
		*done = false;
		return 0;
	}
	p->parent_rid.text[0] = 0;
	r = remote_pass_entry(p, n->parent, &n->name, &o);
	if (!r && n->parent != TREE_NOWHERE)
		r = remote_pass_touch(p, n->parent, S_ISDIR(o.mode) ? -1 : 0);
	if (!r)
		r = tree_row_unname(p->v, n, &o, p->now);
	if (!r)
		p->report.removed++;
	return r;
}
