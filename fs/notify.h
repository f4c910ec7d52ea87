/*
 * Tells the kernel what changed under its feet: the origin's changes, after they are committed.
 *
 * One thread does all of it and holds nothing, because the kernel makes it wait for the directory's
 * lock, which a process may hold that waits for an operation of ours. So no operation ever waits
 * for this thread, and pushing never blocks.
 *
 * The queue holds each name and each object once. Beyond NOTIFY_MAX entries the names of one
 * directory are folded into the directory itself: its own name is invalidated, which makes the
 * kernel drop everything below it.
 *
 * Crash: a new mount starts with an empty kernel cache.
 */
#ifndef CACHET_FS_NOTIFY_H
#define CACHET_FS_NOTIFY_H

#include "base/macros.h"
#include "cache/volume.h"

#define NOTIFY_MAX 65536

struct fs;
struct notify;

int notify_start(struct fs *f, struct notify **out) MUST_CHECK;
/* A volume_change_fn: `arg` is the struct notify. */
void notify_push(void *arg, const struct volume_change *changes, size_t n);
/* The listing that the kernel keeps of a directory is dropped before it returns. In a request's own thread, as no lock is
 * taken for it that a request holds: for what the request itself added. */
void notify_listing_now(struct fs *f, uint64_t dir);
/* Ends the thread and forgets the queue. After the session no longer answers, so that the thread
 * cannot be held in the kernel. */
void notify_stop(struct notify *q);

#endif
