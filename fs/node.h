/*
 * The nodes the kernel knows: one per (object, version), with the kernel's count of lookups.
 *
 * The nodeid is the node's address: the kernel sends only ids it got from us and has not forgotten,
 * and a node lives until its last lookup is forgotten. Two versions of an object are two nodes with
 * the same st_ino.
 *
 * While an object has a node it is held (tree_held_by), so that an unlinked file lives while the
 * kernel has it.
 *
 * The kernel knows as many nodes as it has looked up and has memory for: a million after a `find`.
 * So a node is small, 48 bytes of malloc, and the table beside it a pointer or two for each.
 *
 * Threads: any; the table is in shards, each with a lock that is held for a few loads and calls
 * nothing.
 */
#ifndef CACHET_FS_NODE_H
#define CACHET_FS_NODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/macros.h"
#include "cache/volume.h"

enum node_xattrs { NODE_XATTRS_UNKNOWN, NODE_XATTRS_NONE, NODE_XATTRS_SOME };

struct node {
	struct node *next; /* shard lock */
	uint64_t object, version;
	uint32_t lookups;           /* shard lock; NODE_LOOKUPS_MAX: lost count, kept to the end */
	atomic_uint opens, writers; /* handles; those that write */
	/* enum node_xattrs: spares the index a question the kernel asks often */
	_Atomic uint8_t xattrs;
	atomic_bool privileged; /* may have suid or sgid, which a write has to clear */
	bool unlinked; /* shard lock: its object goes with the last of its nodes */
};
#define NODE_LOOKUPS_MAX UINT32_MAX
_Static_assert(sizeof(struct node) <= 40, "malloc rounds up to 16 n + 8");

struct node_table;

int node_table_new(struct volume *v, struct node_table **out) MUST_CHECK;
/* Drops every node, whatever the kernel still counts: after the unmount. */
void node_table_free(struct node_table *t);

/* The node, made if need be, with one lookup more; -ENOMEM. */
int node_get(struct node_table *t, uint64_t object, uint64_t version, struct node **out) MUST_CHECK;
/* The kernel forgets `count` lookups. The node may be gone then. */
void node_forget(struct node_table *t, struct node *n, uint64_t count);

/* Ids of all nodes of the object, at most `max`; for notifications: an id may be of another node by
 * the time it is used, which costs that node's cache and nothing else. */
size_t node_ids(struct node_table *t, uint64_t object, uint64_t *ids, size_t max);

/* Ids of all nodes: an array the caller frees, *n long; NULL without memory. */
uint64_t *node_all(struct node_table *t, size_t *n);

/* Counts a handle. */
void node_open(struct node *n, bool writer);
void node_close(struct node *n, bool writer);

static inline void node_note_mode(struct node *n, uint32_t mode)
{
	atomic_store_explicit(&n->privileged, mode & (S_ISUID | S_ISGID), memory_order_relaxed);
}
/* The origin changed the object's: nothing is known of its mode. */
void node_doubt_mode(struct node_table *t, uint64_t object);
/* All nodes of the object have attributes now. */
void node_set_xattrs(struct node_table *t, uint64_t object);
/* Remembers an empty list, unless somebody set one meanwhile. */
void node_no_xattrs(struct node *n);

#endif
