/*
 * After a failed fdatasync: the chunks concerned are read back, verified and written to other slots, rows and open files follow
 * (invariant I6 of durable.c). Called by the leader of a sync, with no lock held.
 * -EIO when a chunk cannot be read back: it is lost and reported once; the other chunks were moved.
 */
#ifndef CACHET_CACHE_RESCUE_H
#define CACHET_CACHE_RESCUE_H

#include "base/macros.h"

struct blob;
struct volume;

int rescue_blob(struct volume *v, struct blob *b) MUST_CHECK;

#endif
