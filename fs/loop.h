/*
 * The threads that read requests from the kernel and run the operations.
 *
 *     loop_new → loop_run (returns when unmounted or stopped) → loop_free
 *
 * Normally one thread, the reader, takes a request, answers it and takes the next: no hand-over
 * between threads, so a small request costs two context switches and no more. An operation that may
 * take long (network, fsync, large data) first calls loop_yield(), which makes another thread the
 * reader; so does a read that has to wait for the disk while another request is there. So the
 * number of waiting operations bounds the number of threads and nothing else waits behind them.
 * After a run of requests without a pause a further reader joins, up to the number of
 * processors.
 *
 * The reader looks for the next request a few tens of microseconds before it sleeps, as long as
 * that has been of use lately: a wake-up of a sleeping thread costs more than the request. Idle, it
 * sleeps in poll(2).
 *
 * Threads: loop_stop from any; loop_yield and loop_scratch from an operation.
 */
#ifndef CACHET_FS_LOOP_H
#define CACHET_FS_LOOP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

struct fuse_session;
struct loop;

/* `threads`: 0 = default; the most that may wait at the same time. */
int loop_new(struct fuse_session *se, unsigned threads, struct loop **out) MUST_CHECK;
/* 0 when unmounted or stopped; a negative code when the device failed. */
int loop_run(struct loop *l) MUST_CHECK;
void loop_stop(struct loop *l);
/* After loop_run has returned. */
void loop_free(struct loop *l);

/* The calling operation may take long. False when no other thread can read: then it must not wait.
 */
bool loop_yield(void);
/* A buffer of the calling thread, valid to the end of the operation; NULL without memory. */
void *loop_scratch(size_t len);

#endif
