/* Between outbox_settle.c and settle_*.c: one operation that met another state than it was based
 * on. */
#ifndef CACHET_CACHE_SETTLE_PRIV_H
#define CACHET_CACHE_SETTLE_PRIV_H

#include "cache/outbox_priv.h"
#include "cache/remote_priv.h"

struct settle {
	struct volume *v;
	struct remote_pass pass;
	struct op_row op;
	const struct remote_record *current, *standing;
	struct remote_record newer; /* current, when the feed knew more than the answer */
	struct remote_record whole[2]; /* current and standing with their targets */
	bool equal; /* what was sent has the content of current, or standing */

	/* The record here; name.id 0 when it was deleted since. */
	struct name_row name;
	struct object_row object;
	struct fold_rows rows; /* all of the record's, the operation among them */
	bool has_put, has_attr, has_mode, has_move, has_delete, doubled;
};

int settle_load(struct settle *s) MUST_CHECK;
/* The rows that are about two records: their other record's deletion goes on alone. Then all rows
 * go. */
int settle_clear(struct settle *s) MUST_CHECK;
int settle_note(
	struct settle *s, enum conflict_kind kind, uint64_t object, const char *path) MUST_CHECK;
/* The path of the record's name here. */
int settle_path(struct settle *s, const struct name_row *n, char **out) MUST_CHECK;
/* Nothing can be decided now. */
int settle_later(struct settle *s) MUST_CHECK;
/* Whether the name still stands where the operation put it. */
int settle_in_place(struct settle *s, bool *out) MUST_CHECK;

/* The record is alive, in another state (settle_live.c). */
int settle_live(struct settle *s) MUST_CHECK;
/* The record is gone (settle_gone.c). */
int settle_gone(struct settle *s) MUST_CHECK;
/* Its place is taken, its parent unknown, or the other record is another (settle_place.c). */
int settle_place_taken(struct settle *s) MUST_CHECK;
int settle_no_parent(struct settle *s) MUST_CHECK;
int settle_other(struct settle *s) MUST_CHECK;
int settle_swap(struct settle *s) MUST_CHECK;

#endif
