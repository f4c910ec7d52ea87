/*
 * Jobs on their way to the origin: payloads that wait, sealed in the index, until it takes them.
 *
 *     jobs_add(v, type, data, len, key)      // durable as a commit; volume_sync() for the power
 *     jobs_next(v, &job)                     // the oldest that waits; -ENOENT
 *     jobs_settle(v, key, job_id, why)       // taken (job_id) or refused (why): its payload goes
 *     jobs_list(v, &list)                    // JSON: [{job, type, size, at_s, state, job_id?,
 * error?}]
 *
 * A job is named by its idempotency key, 32 hex digits, under which it is sent again and again
 * until there is an answer: the origin makes one job of it. At most JOBS_PAYLOAD_MAX each,
 * JOBS_WAITING_MAX together (CE_TOO_LARGE, -ENOSPC); the latest JOBS_KEPT are remembered.
 *
 * Threads: any; each call is one transaction.
 */
#ifndef CACHET_CACHE_JOBS_H
#define CACHET_CACHE_JOBS_H

#include "base/json.h"
#include "base/macros.h"
#include "cache/volume.h"

#define JOBS_PAYLOAD_MAX (4u << 20)
#define JOBS_WAITING_MAX (16u << 20)
#define JOBS_KEPT 100
#define JOBS_KEY_SIZE 33
#define JOBS_TYPE_MAX 64

struct jobs_waiting {
	char key[JOBS_KEY_SIZE], type[JOBS_TYPE_MAX + 1];
	char *data; /* the caller wipes and frees */
	size_t len;
};

int jobs_add(struct volume *v, const char *type, const void *data, size_t len,
	char key[static JOBS_KEY_SIZE]) MUST_CHECK;
int jobs_next(struct volume *v, struct jobs_waiting *out) MUST_CHECK;
/* One of job_id and why; the other is NULL. */
int jobs_settle(struct volume *v, const char *key, const char *job_id, const char *why) MUST_CHECK;
int jobs_list(struct volume *v, struct json **out) MUST_CHECK;

#endif
