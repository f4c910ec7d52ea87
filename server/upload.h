/*
 * Bodies of PUTs that can be cut off and go on.
 *
 *     server_upload_begin, _resume or _adopt → server_upload_write ... → server_upload_take or _pause
 *     server_upload_done, on every path
 *
 * The body of a large PUT belongs to its account, store and idempotency key, not to its connection:
 * when that ends, what has come is kept, and the same PUT with its offset goes on there. Who asks
 * for the offset, or goes on, ends what an older connection may still be sending: the answer holds
 * until the next request.
 *
 * A body can also come ahead of its PUT, under a key of its own, in one request or several (each begun
 * or resumed, written and paused). The PUT then adopts it: from there on it is the PUT's, under the
 * idempotency key, and can be cut off like any. It names the digest of what is there, so that what is
 * published is what the sender committed, whatever was sent before.
 *
 * Kept for UPLOAD_KEEP_MS since its last byte, UPLOADS_PER_ACCOUNT of an account (the one that was
 * silent longest goes); on the disk in tmp/, so a restart of the server forgets them. Nothing that
 * is kept was ever acknowledged.
 *
 * Threads: any. The table has a lock, each upload one for its body; both leaves, in this order.
 */
#ifndef CACHET_SERVER_UPLOAD_H
#define CACHET_SERVER_UPLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "server/body.h"
#include "server/wire.h"

#define UPLOAD_MIN_BYTES (1u << 20) /* shorter ones are sent again */
#define UPLOAD_KEEP_MS (24 * 3600 * 1000LL)
#define UPLOADS_PER_ACCOUNT 16

struct uploads;
struct upload;

/* Whose body it is. */
struct upload_name {
	int64_t account, store;
	uint8_t key[WIRE_KEY_LEN];
};

/* One request's hold on it; upload NULL: none. */
struct upload_use {
	struct upload *upload;
	unsigned turn;
};

int server_uploads_new(struct uploads **out) MUST_CHECK;
/* Nobody uses one any more. NULL-safe. */
void server_uploads_free(struct uploads *all);
/* Forgets what is too old. */
void server_uploads_tick(struct uploads *all, int64_t now_ms);

/* From the front. `body`: as server_body_init made it; taken. */
int server_upload_begin(struct uploads *all, const struct upload_name *name, struct body *body,
	struct upload_use *out) MUST_CHECK;
/* -ENOENT unless there is one with exactly `offset` bytes. */
int server_upload_resume(struct uploads *all, const struct upload_name *name, uint64_t offset,
	struct upload_use *out) MUST_CHECK;
/* What came under `ahead` is `name`'s now. -ENOENT unless it has exactly `offset` bytes with this digest. */
int server_upload_adopt(struct uploads *all, const struct upload_name *ahead,
	const uint8_t sha256[static KDF_SHA256_LEN], const struct upload_name *name, uint64_t offset,
	struct upload_use *out) MUST_CHECK;
/* How much has come; -ENOENT. */
int server_upload_offset(
	struct uploads *all, const struct upload_name *name, uint64_t *offset) MUST_CHECK;

/* As server_body_write; -ESTALE when another request goes on with it. */
int server_upload_write(struct upload_use *use, const void *data, size_t len) MUST_CHECK;
/* So far for now: how much there is. -ESTALE as above. */
int server_upload_pause(struct upload_use *use, uint64_t *offset) MUST_CHECK;
/* It will not be wanted. */
void server_upload_forget(struct uploads *all, const struct upload_name *name);
/* All has come: the body moves to `out`, and the upload is gone. -ESTALE as above. */
int server_upload_take(struct uploads *all, struct upload_use *use, struct body *out) MUST_CHECK;
/* The request is over; what was not taken stays for the next. */
void server_upload_done(struct uploads *all, struct upload_use *use);

#endif
