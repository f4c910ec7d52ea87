/*
 * Which objects the kernel knows: a count per object, taken with tree_hold for every entry that is
 * answered and given back by FORGET. An object that loses its last name while it is held is marked,
 * and goes with the last count; one that is still marked when the daemon dies has nlink 0 in the
 * index and is removed at the next open (recover.c).
 *
 * live_unlinked() runs inside the transaction that writes nlink 0. The last tree_drop comes before
 * it (the object is not held, the transaction removes it) or after it (the mark stands, and the
 * removal waits for the index lock).
 */
#include "cache/tree_priv.h"

#include <errno.h>

#include <uthash.h>

struct live_object {
	uint64_t object, count;
	bool unlinked;
	UT_hash_handle hh;
};

/* Out of memory, the object is not counted: should it be unlinked, the kernel's calls find it
 * stale. */
void tree_hold(struct volume *v, uint64_t object)
{
	struct live_object *l;

	pthread_mutex_lock(&v->live_lock);
	HASH_FIND(hh, v->live, &object, sizeof(object), l);
	if (!l && (l = calloc(1, sizeof(*l)))) {
		l->object = object;
		HASH_ADD(hh, v->live, object, sizeof(l->object), l);
	}
	if (l)
		l->count++;
	pthread_mutex_unlock(&v->live_lock);
}

static void remove_unlinked(struct volume *v, uint64_t object)
{
	struct object_row o;
	int r = db_begin(v->db);

	if (r)
		return;
	r = object_get(v->db, object, &o);
	if (!r && !o.nlink && !live_is_held(v, object))
		r = tree_row_remove(v, &o);
	/* On failure the next open of the volume removes it. */
	(void)!tree_row_end(v, r);
}

void tree_drop(struct volume *v, uint64_t object, uint64_t n)
{
	struct live_object *l;
	bool unlinked = false;

	pthread_mutex_lock(&v->live_lock);
	HASH_FIND(hh, v->live, &object, sizeof(object), l);
	if (l) {
		l->count -= MIN_OF(n, l->count);
		if (!l->count) {
			unlinked = l->unlinked;
			HASH_DEL(v->live, l);
			free(l);
		}
	}
	pthread_mutex_unlock(&v->live_lock);
	/* Locked: the next open of the volume removes it. */
	if (unlinked && v->db)
		remove_unlinked(v, object);
}

bool live_is_held(struct volume *v, uint64_t object)
{
	struct live_object *l;

	pthread_mutex_lock(&v->live_lock);
	HASH_FIND(hh, v->live, &object, sizeof(object), l);
	pthread_mutex_unlock(&v->live_lock);
	return l != NULL;
}

bool live_unlinked(struct volume *v, uint64_t object)
{
	struct live_object *l;

	pthread_mutex_lock(&v->live_lock);
	HASH_FIND(hh, v->live, &object, sizeof(object), l);
	if (l)
		l->unlinked = true;
	pthread_mutex_unlock(&v->live_lock);
	return l != NULL;
}

void live_free(struct volume *v)
{
	struct live_object *l, *next;

	HASH_ITER (hh, v->live, l, next) {
		HASH_DEL(v->live, l);
		free(l);
	}
}
