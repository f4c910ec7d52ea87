/*
 * Which objects the kernel knows: who mounts the volume counts them (tree_held_by) and is asked. An
 * object that loses its last name while it is known is marked there, and goes with tree_dropped();
 * one that is still marked when the daemon dies has nlink 0 in the index and is removed at the next
 * open (recover.c).
 *
 * live_unlinked() runs inside the transaction that writes nlink 0. The kernel forgets the object
 * before it (nobody knows it, the transaction removes it) or after it (the mark stands, and the
 * removal waits for the index lock).
 */
#include "cache/tree_priv.h"

void tree_held_by(struct volume *v, tree_held_fn *fn, void *arg)
{
	pthread_mutex_lock(&v->held_lock);
	v->held = fn;
	v->held_arg = arg;
	pthread_mutex_unlock(&v->held_lock);
}

static bool is_held(struct volume *v, uint64_t object, bool unlinked)
{
	bool held;

	pthread_mutex_lock(&v->held_lock);
	held = v->held && v->held(v->held_arg, object, unlinked);
	pthread_mutex_unlock(&v->held_lock);
	return held;
}

bool live_unlinked(struct volume *v, uint64_t object)
{
	return is_held(v, object, true);
}

void tree_dropped(struct volume *v, uint64_t object)
{
	struct object_row o;
	int r;

	/* Locked: the next open of the volume removes it. */
	if (!v->db || db_begin(v->db))
		return;
	r = object_get(v->db, object, &o);
	if (!r && !o.nlink && !is_held(v, object, false))
		r = tree_row_remove(v, &o);
	/* On failure the next open of the volume removes it. */
	(void)!tree_row_end(v, r);
}
