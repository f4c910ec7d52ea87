/* The list of conflicts, for people. */
#include "cache/merge.h"
#include "cache/outbox_priv.h"
#include "cache/remote_priv.h"
#include "cache/tree_priv.h"


struct telling {
	outbox_conflict_fn *fn;
	void *arg;
};

static int tell(void *arg, const struct conflict_row *row)
{
	struct telling *t = arg;
	struct outbox_conflict c = {
		.id = row->id,
		.kind = conflict_kind_text(row->kind),
		.path = row->path ? row->path : "",
		.other_path = row->other_path ? row->other_path : "",
		.created_ns = row->created_ns,
		.resolved_ns = row->resolved_ns,
		.outcome = row->resolved_ns ? merge_pick_name(row->outcome) : NULL,
		.has_base = row->base != 0,
	};

	return t->fn(t->arg, &c);
}

int outbox_conflicts(struct volume *v, bool open_only, outbox_conflict_fn *fn, void *arg)
{
	struct telling t = { fn, arg };
	int r;

	db_read(v->db);
	r = conflict_each(v->db, open_only, tell, &t);
	db_unlock(v->db);
	return MIN_OF(r, 0);
}
