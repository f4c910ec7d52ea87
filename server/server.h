/*
 * The reference Records server (docs/protocol.md): `cachet serve`.
 *
 * A data directory belongs to one server at a time (flock). server_open() opens or makes it;
 * server_start() listens and serves in its own threads; server_stop() answers what is under way,
 * commits, closes. Every 2xx is sent after file, directory and row are synced, one sync per batch:
 * SIGKILL or power loss at any instant loses no acknowledged write, and what was not acknowledged
 * is wholly there or not at all.
 *
 * *error is a sentence for the user (the caller frees), set on failure.
 * Threads: one caller for open/start/stop; the administration calls may run while it serves, also
 * from another process (SQLite's own locking).
 */
#ifndef CACHET_SERVER_SERVER_H
#define CACHET_SERVER_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

struct json;
struct server;

struct server_options {
	const char *dir;      /* data directory; made if missing */
	const char *listen;   /* "127.0.0.1:8080", "[::1]:0"; port 0 = a free one */
	const char *tls_cert; /* PEM files, or NULL: then only loopback addresses are accepted */
	const char *tls_key;
	const char *jobs_file; /* types of jobs (docs/protocol.md), or NULL */
	uint64_t max_record_bytes;  /* 0 = default 16 GiB */
	uint64_t max_request_bytes; /* bound of JSON bodies; 0 = default 8 MiB */
	unsigned threads;           /* 0 = default */
	/* Where the master key comes from (crypto/keysource.h); NULL = the file master.key in dir,
	 * made at the first start. */
	const char *key_source;
	int64_t kek_ttl_s;     /* a device's key is good for so long; 0 = default 90 days */
	int64_t offline_ttl_s; /* and so long without asking; 0 = default 72 h, negative: never */
	/* Days, 30 or more; 0 = default 30, 90 and 400. */
	int64_t keys_kept_days, tombstones_kept_days, keks_kept_days;
	/* A connection may be silent this long, and take this long to bring a request's header; 0
	 * = 75. */
	unsigned header_timeout_s;
	/* After this long a body must have come at 8 KB/s or more; 0 = 60. */
	unsigned body_grace_s;
};

int server_open(const struct server_options *o, struct server **out, char **error) MUST_CHECK;
int server_start(struct server *s, char **error) MUST_CHECK;
/* Reads certificate and key again (SIGHUP); no connection is dropped. On failure those before stay
 * in force. */
int server_reload(struct server *s, char **error) MUST_CHECK;
/* The port it listens on, after server_start. */
uint16_t server_port(const struct server *s);
/* Waits at most `grace_ms` for what is under way. */
void server_stop(struct server *s, unsigned grace_ms);
void server_free(struct server *s);

/* Administration, on a data directory that may be in use by a running server. */

struct server_token_options {
	const char *account;
	const char *stores;  /* ids with commas: it opens these only; NULL: all of the account */
	bool read_only;
	bool admin;         /* administers over HTTP; opens no store */
	int64_t expires_at; /* Unix seconds, 0: never */
};

/* A new token, printable, stored hashed only. The account is made if needed. The caller wipes and
 * frees *token. */
int server_token_add(const char *dir, const struct server_token_options *o, char **token,
	char **error) MUST_CHECK;
int server_token_revoke(const char *dir, int64_t id, char **error) MUST_CHECK;
/* Revokes the account's tokens and takes its stores away. */
int server_account_close(const char *dir, const char *name, char **error) MUST_CHECK;

enum server_list { SERVER_LIST_TOKENS, SERVER_LIST_ACCOUNTS, SERVER_LIST_DEVICES, SERVER_LIST_STORES };
/* The same objects as the calls of docs/protocol.md answer; the caller frees *out. */
int server_list(
	const char *dir, enum server_list what, struct json **out, char **error) MUST_CHECK;

enum server_device_verb { SERVER_DEVICE_REVOKE, SERVER_DEVICE_TRUST, SERVER_DEVICE_UNTRUST };
/* -ENOENT: no such device; -EBUSY: it is revoked, for ever. */
int server_device_do(const char *dir, enum server_device_verb verb, const char *dkid,
	char **error) MUST_CHECK;
/* New current keys, made when the devices ask for them: of one device, of an account's, or (both
 * NULL) of all. */
int server_rotate(const char *dir, const char *dkid, const char *account, uint64_t *n,
	char **error) MUST_CHECK;

/* Entries of the audit log behind number `since`. */
int server_audit_page(const char *dir, uint64_t since, uint64_t limit, struct json **out,
	char **error) MUST_CHECK;
#define SERVER_AUDIT_HEAD_SIZE (20 + 1 + 64 + 1)
struct server_audit_report {
	uint64_t entries;
	char head[SERVER_AUDIT_HEAD_SIZE]; /* number and hash of the last, NUMBER:HASH */
};
/* CE_TAMPER: *error says where. `noted`: a head of earlier, "NUMBER:HASH", or NULL. */
int server_audit_check(const char *dir, const char *noted, struct server_audit_report *report,
	char **error) MUST_CHECK;

/* Makes a store if it is not there. */
int server_store_add(const char *dir, const char *store, char **error) MUST_CHECK;
/* From now on only accounts it was given to open it, this one among them. */
int server_store_grant(const char *dir, const char *store, const char *account,
	char **error) MUST_CHECK;

struct server_backup_report {
	uint64_t files, bytes; /* of content beside the database */
};
/* A consistent copy at `dest`, which must not exist; also beside a running server, whose deletions
 * keep their space meanwhile. The master key is not in it. -EEXIST. */
int server_backup(const char *dir, const char *dest, struct server_backup_report *report,
	char **error) MUST_CHECK;
/* The data went back some other way than by a backup: clients are to see a new epoch. CE_INUSE while
 * a server runs. */
int server_restored(const char *dir, char **error) MUST_CHECK;

struct server_import_report {
	uint64_t files, dirs, symlinks, bytes, skipped;
};
/* Copies the plain tree `from` into `store` (made if missing), durable on return; other kinds of
 * file are skipped and counted. Importing the same tree again changes only what differs, and only
 * that is in the report. Nothing is removed from the store, except what stands in the way as
 * another kind of file. */
int server_import(const char *dir, const char *store, const char *from,
	struct server_import_report *report, char **error) MUST_CHECK;

#endif
