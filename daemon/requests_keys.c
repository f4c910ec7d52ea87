/*
 * Requests about keys and the token: shown, rotated, renewed, changed, taken and given.
 *
 * What a person gives (a key, a token) is in no message: the caller writes it into a FIFO that only
 * this user can open, and names that.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>

#include "base/error.h"
#include "base/secret.h"
#include "daemon/locking.h"
#include "daemon/opening.h"
#include "daemon/rekeying.h"
#include "daemon/report.h"
#include "daemon/requests_priv.h"

#define KEY_LEN ((size_t)32)
#define TOKEN_MAX ((size_t)4096)
#define HANDED_OVER_MS 5000

static int add_key(void *arg, const struct volume_key_info *k)
{
	struct json *o = json_append_object(arg);

	json_set_string(o, "purpose", k->purpose);
	report_text(o, "store", k->store);
	json_set_string(o, "kid", k->kid);
	json_set_u64(o, "epoch", k->epoch);
	json_set_i64(o, "created_at_s", k->created_at_s);
	return 0;
}

int requests_keys_keys(struct request *q)
{
	struct volume_keys_status s;

	volume_keys_status(q->d->volume, &s);
	json_set_string(q->out, "kid", s.kid);
	json_set_bool(q->out, "server", s.server);
	if (s.server) {
		json_set_string(q->out, "dkid", s.dkid);
		json_set_string(q->out, "device_id", s.device_id);
		json_set_string(q->out, "pub_sha256", s.pub_sha256);
		json_set_u64(q->out, "rotation", s.rotation);
		json_set_i64(q->out, "lease_until_s", s.lease_until_s);
		json_set_bool(q->out, "from_lease", s.from_lease);
	}
	return volume_keys_each(q->d->volume, add_key, json_set_array(q->out, "keys"));
}

/* With a connection of its own: the server makes the new key, this volume follows at once. */
static int talk_of_keys(struct request *q,
	int (*talk)(struct volume *v, const struct enrolment_link *link, char **error))
{
	_cleanup_(carry_freep) struct carry *carry = NULL;
	int r = opening_carry(q->d->config, &carry, &q->error);

	if (!r && !carry)
		return say(q, CE_USAGE,
			"the key of this volume is not one of the server's (key source server)");
	return r ? r : talk(q->d->volume, carry_link(carry), &q->error);
}

static int rotate(struct volume *v, const struct enrolment_link *link, char **error)
{
	return volume_renew_keys(v, link, true, error);
}

int requests_keys_rotate(struct request *q)
{
	struct volume_keys_status s;
	int r = talk_of_keys(q, rotate);

	if (q->d->locking && (r == CE_REVOKED || r == CE_UNTRUSTED))
		locking_on_keys(q->d->locking, r);
	if (r)
		return r;
	volume_keys_status(q->d->volume, &s);
	json_set_string(q->out, "kid", s.kid);
	json_set_u64(q->out, "rotation", s.rotation);
	return 0;
}

int requests_keys_rekey(struct request *q)
{
	return rekeying_answer(q->d, q->in, q->caller, q->out, &q->error);
}

/* A finding of doctor, not a failure of the request. */
int requests_keys_check_device(struct request *q)
{
	struct volume_keys_status s;
	int r = talk_of_keys(q, volume_check_device);

	volume_keys_status(q->d->volume, &s);
	json_set_bool(q->out, "agrees", !r);
	json_set_string(q->out, "pub_sha256", s.pub_sha256);
	json_set_string(q->out, "finding", r ? q->error ? q->error : error_text(r) : NULL);
	free(steal_ptr(&q->error));
	return 0;
}

int requests_keys_lock(struct request *q)
{
	struct locking_result result;
	int r;

	if (q->d->config->volume_dir)
		return say(q, -ENOTSUP,
			"a memory-only mount cannot be locked, its key is nowhere else; unmount "
			"it");
	r = locking_lock(q->d->locking, "asked for", &result);
	if (r)
		return r;
	json_set_u64(q->out, "kept", result.kept);
	if (result.code)
		json_set_string(q->out, "uncommitted", error_text(result.code));
	return 0;
}

/* min to max bytes, to the end of the FIFO or `max`. Nobody may come to write: a deadline. */
static int read_secret(const char *path, size_t min, size_t max, struct secret **out)
{
	_cleanup_secret_ struct secret *buf = NULL;
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t n = 0;
	int r = fd < 0 ? -errno : secret_new(max, &buf);

	while (!r && n < max) {
		ssize_t got =
			poll(&p, 1, HANDED_OVER_MS) ? read(fd, secret_bytes(buf) + n, max - n) : 0;

		if (got < 0 && errno != EINTR && errno != EAGAIN)
			r = -errno;
		if (got == 0)
			break;
		n += got > 0 ? (size_t)got : 0;
	}
	if (!r && n < min)
		r = -ENODATA;
	return r ? r : secret_new_copy(secret_cbytes(buf), n, out);
}

int requests_keys_unlock(struct request *q)
{
	_cleanup_secret_ struct secret *kek = NULL;
	const char *path;
	int r = 0;

	if (json_has(q->in, "key") && !json_get_string(q->in, "key", &path))
		r = read_secret(path, KEY_LEN, KEY_LEN, &kek);
	return r ? r : locking_unlock(q->d->locking, kek, &q->error);
}

/* Durable first; then what hangs for want of a token goes on. */
int requests_keys_token(struct request *q)
{
	_cleanup_secret_ struct secret *token = NULL, *copy = NULL;
	const char *path;
	int r;

	if (json_get_string(q->in, "token", &path))
		return say(q, CE_USAGE, "'token' is missing: the FIFO that gives it");
	r = read_secret(path, 1, TOKEN_MAX, &token);
	if (!r)
		r = secret_new_copy(secret_cbytes(token), secret_len(token), &copy);
	if (!r)
		r = volume_set_token(q->d->volume, token);
	if (r == -EBUSY)
		return say(q, r, "the server is being asked for the key just now; try again");
	if (!r && q->d->sync)
		sync_set_token(q->d->sync, steal_ptr(&copy));
	return r;
}
