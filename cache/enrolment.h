/*
 * Volumes whose KEK the server holds (key source "server:…"): what this machine says to the server,
 * what it believes of the answers, and what follows for the keyring. No network here: somebody
 * else's `post` carries the messages (sync/carry.h). The messages are in docs/protocol.md.
 *
 *   volume_create ─ enrolment_create     key pair, device upsert, KEK, new keyring
 *   volume_open   ─ enrolment_open       KEK from the server; else from the lease; rotation
 *                   enrolment_check      the clock and the keyring against the index
 *   mounted       ─ volume_renew_keys    every now and then: lease, rotation, revocation
 *
 * A device that has a dkid asks for its KEK first and upserts only when the server does not know
 * it: the upsert of a revoked device would enrol it anew, which is a person's decision (`cachet
 * enroll`, enrolment_renew).
 *
 * Rotation: the server names another kid. The old KEK is in memory, or asked for by preferKid;
 * every wrap is made anew and keyring, device record and lease are replaced in one rename; then the
 * index notes the number of the rotation, a lower bound for every later keyring. Killed anywhere:
 * the keyring is wholly old or wholly new, and the next contact goes on from there.
 *
 * Errors: CE_OFFLINE, CE_PROTOCOL, CE_AUTH, -EAGAIN (no answer that counts: the lease is used),
 * CE_REVOKED and CE_UNTRUSTED (the server's signed word only), CE_TAMPER (a signature, another
 * device's or a replayed answer), CE_FORMAT (sizes, points). *error names the stage.
 * Threads: volume_renew_keys one at a time; it takes no lock while it waits for the server.
 */
#ifndef CACHET_CACHE_ENROLMENT_H
#define CACHET_CACHE_ENROLMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/macros.h"
#include "base/secret.h"

#define ENROLMENT_TTL_DEFAULT_S (72 * 3600)
#define ENROLMENT_TTL_MAX_S (30 * 24 * 3600)

struct volume;

struct enrolment_post {
	const char *device_id;
	const struct secret *token; /* or NULL */
	const char *path;           /* behind the base */
	const char *body;
	unsigned deadline_ms;
};
struct enrolment_link {
	/* 0 when the origin answered: *status, and *answer, an object (its problem, from 400 on),
	 * which the caller frees. *error is a sentence on failure (the caller frees). */
	int (*post)(void *arg, const struct enrolment_post *p, int *status, struct json **answer,
		char **error);
	void *arg;
	bool allow_raw; /* the configuration lets a server send rawKEK: development only */
};

/* True for a key source whose KEK the server holds. */
bool volume_needs_server(const char *key_source);

struct volume_keys_status {
	bool server; /* key source server: the rest is set */
	char device_id[65], dkid[129], kid[129];
	char pub_sha256[65]; /* hex: of the raw point */
	uint64_t rotation;
	int64_t lease_until_s; /* 0 = no lease */
	bool from_lease, revoked;
};
void volume_keys_status(struct volume *v, struct volume_keys_status *out);

/*
 * Asks the server for the current KEK of an open volume, and does what follows: lease, rotation,
 * revocation. `rotate`: the server is to make a new KEK first. CE_REVOKED: what can be erased is.
 */
int volume_renew_keys(
	struct volume *v, const struct enrolment_link *link, bool rotate, char **error) MUST_CHECK;
/* Does the server have the public key that we have? *error says what is wrong. */
int volume_check_device(
	struct volume *v, const struct enrolment_link *link, char **error) MUST_CHECK;
/* When that is next worth doing, Unix seconds; INT64_MAX = never. */
int64_t volume_renew_keys_at_s(struct volume *v);
/* Seconds the lease still holds by a clock that is never set back; INT64_MAX: no lease limits. */
int64_t volume_lease_left_s(struct volume *v);

/* One wrapped key, for `cachet keys`; never its bytes. */
struct volume_key_info {
	const char *purpose, *store, *kid; /* borrowed during the call; store: its name, or "" */
	uint64_t epoch;
	int64_t created_at_s;
};
int volume_keys_each(struct volume *v, int (*fn)(void *arg, const struct volume_key_info *k),
	void *arg) MUST_CHECK;

/*
 * A person's word: enrols this machine anew (a new key pair when the old one is gone) and brings
 * the keyring of a closed volume under the current KEK. `token` replaces the stored one, may be
 * NULL.
 */
struct volume_enrol_options {
	const char *dir, *key_source;
	const struct enrolment_link *link;
	const struct secret *token;
};
int volume_enrol(const struct volume_enrol_options *o, char **error) MUST_CHECK;

#endif
