/*
 * The record is gone at the origin: by its own word, or unknown there.
 *
 * - deleted here, too: done;
 * - edited here: our edit becomes a new record;
 * - moved or with another mode here: the deletion counts; a directory with unsent work inside is
 *   made again.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/settle_priv.h"
#include "cache/tree_priv.h"

static int keep_edit(struct settle *s)
{
	_cleanup_free_ char *path = NULL;
	int r = settle_clear(s);

	if (!r)
		r = fold_revive(s->v, &s->name, &s->object);
	if (!r)
		r = settle_path(s, &s->name, &path);
	return r ? r : settle_note(s, CONFLICT_EDIT_DELETE, s->name.object, path);
}

static int accept(struct settle *s)
{
	struct remote_record gone = { .deleted = true };
	bool done;
	int r = settle_clear(s);

	if (!r)
		r = remote_remove_name(&s->pass, &s->name, &done);
	if (r || done)
		return r;
	/* Its children have not moved yet. */
	memcpy(gone.id, s->op.rid.text, sizeof(gone.id));
	gone.seq = s->current ? s->current->seq : UINT64_MAX;
	return remote_pass_late(&s->pass, &gone);
}

int settle_gone(struct settle *s)
{
	bool whole;
	int r;

	if (!s->name.id)
		return settle_clear(s);
	r = tree_row_whole(s->v, &s->object, &whole);
	if (r)
		return r;
	/* A name that took another record's place keeps it, if it can. */
	if (whole && !S_ISDIR(s->object.mode) &&
		(s->has_put || s->doubled || filetab_busy(s->v, s->object.id)))
		return keep_edit(s);
	return accept(s);
}
