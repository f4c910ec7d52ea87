/*
 * A change: one mutation of one record as a client asked for it, alone or in a batch, and its
 * answer.
 *
 * The same change has the same digest however it was sent, so a repeat in a batch of what was sent
 * alone is recognised.
 */
#ifndef CACHET_SERVER_CHANGE_H
#define CACHET_SERVER_CHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "server/body.h"
#include "server/problem.h"
#include "server/records.h"

enum change_op { CHANGE_PUT, CHANGE_PATCH, CHANGE_DELETE };

#define CHANGE_MATCH_SIZE 512

/* Another record the change touches, on condition of its ETag. */
struct change_other {
	bool set;
	char id[WIRE_ID_MAX + 1];
	char etag[WIRE_ETAG_MAX + 1];
};

/* What the change is answered: JSON of the record (2xx) or of the problem. */
struct outcome {
	unsigned status;
	bool replayed; /* the answer is that of an earlier time */
	char etag[RECORD_ETAG_SIZE];
	struct buffer text;
};

struct change {
	enum change_op op;
	int64_t account, store;
	bool has_device, has_key;
	uint8_t device[WIRE_KEY_LEN], key[WIRE_KEY_LEN];
	uint64_t seq;
	uint8_t digest[32];

	char id[WIRE_ID_MAX + 1];
	bool create;                      /* If-None-Match: * */
	char if_match[CHANGE_MATCH_SIZE]; /* or this list */
	bool has_parent, has_name, has_mode, has_mtime;
	char parent[WIRE_ID_MAX + 1];
	char name[WIRE_NAME_MAX + 1];
	enum record_kind kind; /* RECORD_NONE: not said */
	unsigned mode;
	int64_t mtime_ns;
	struct change_other replaces, swap;
	struct body body; /* PUT */

	/* Of a batch: indexes of operations that must have succeeded. */
	uint32_t *after;
	size_t n_after;
	/* Refused before it was tried. */
	enum problem refused;
	const char *detail; /* static */

	struct outcome out;
};

void server_change_init(struct change *c, const struct body_dirs *dirs, uint64_t max_bytes);
/* Refuses it, unless it already is. */
void server_change_refuse(struct change *c, enum problem p, const char *detail);
/* Refuses what no state of the store could make right. */
void server_change_check(struct change *c);
/* Checks, and fills the digest; the body is finished. */
int server_change_seal(struct change *c) MUST_CHECK;
void server_change_done(struct change *c);
void server_change_reset_outcome(struct change *c);

#endif
