#include "server/devices.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "crypto/kdf.h"
#include "server/audit.h"
#include "server/tokens.h"

const char *server_devices_state_name(enum device_state state)
{
	static const char *const names[] = { "ok", "untrusted", "revoked" };

	return names[state];
}

bool server_devices_is_id(const char *text)
{
	size_t n =
		strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

	return n >= 1 && n <= DEVICES_ID_MAX && !text[n];
}

static void copy_text(sqlite3_stmt *q, int column, char *out, size_t size)
{
	const char *text = (const char *)sqlite3_column_text(q, column);

	snprintf(out, size, "%s", text ? text : "");
}

static void new_name(char out[DEVICES_KID_SIZE])
{
	uint8_t random[16];

	secret_random(random, sizeof(random));
	bytes_to_hex(random, sizeof(random), out);
}

/* ---- looking up ---- */

/* The row of a bound statement; ends it. */
static int read_device(struct store_db *db, sqlite3_stmt *q, struct device *out)
{
	int r = server_store_step(db, q);

	if (r == 1) {
		int state = sqlite3_column_int(q, 6);

		out->n = sqlite3_column_int64(q, 0);
		copy_text(q, 1, out->dkid, sizeof(out->dkid));
		out->account = sqlite3_column_int64(q, 2);
		copy_text(q, 3, out->id, sizeof(out->id));
		copy_text(q, 5, out->kid, sizeof(out->kid));
		out->state = state == DEVICE_OK || state == DEVICE_UNTRUSTED
				     ? (enum device_state)state
				     : DEVICE_REVOKED;
		out->seen_at_ns = sqlite3_column_int64(q, 7);
		r = sqlite3_column_bytes(q, 4) == ENROLL_POINT_LEN ? 0 : CE_CORRUPT;
		if (!r)
			memcpy(out->dk_pub, sqlite3_column_blob(q, 4), ENROLL_POINT_LEN);
	} else if (!r) {
		r = -ENOENT;
	}
	server_store_reset(q);
	return r;
}

int server_devices_by_dkid(struct store_db *db, const char *dkid, struct device *out)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_ENROLLED_BY_DKID);

	sqlite3_bind_text(q, 1, dkid, -1, SQLITE_STATIC);
	return read_device(db, q, out);
}

int server_devices_by_id(struct store_db *db, int64_t account, const char *id, struct device *out)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_ENROLLED_BY_ID);

	sqlite3_bind_int64(q, 1, account);
	sqlite3_bind_text(q, 2, id, -1, SQLITE_STATIC);
	return read_device(db, q, out);
}

/* ---- enrolment and state ---- */

static int insert(struct store_db *db, const struct device_enrolment *e, const char *dkid)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_ENROLLED_ADD);

	sqlite3_bind_text(q, 1, dkid, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 2, e->account);
	sqlite3_bind_text(q, 3, e->id, -1, SQLITE_STATIC);
	if (e->name)
		sqlite3_bind_text(q, 4, e->name, -1, SQLITE_STATIC);
	sqlite3_bind_blob(q, 5, e->dk_pub, ENROLL_POINT_LEN, SQLITE_STATIC);
	sqlite3_bind_int64(q, 6, e->token);
	sqlite3_bind_int64(q, 7, clock_wall_ns());
	return server_store_once(db, q);
}

static int update(struct store_db *db, const struct device_enrolment *e, int64_t n)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_ENROLLED_UPDATE);

	sqlite3_bind_int64(q, 1, n);
	sqlite3_bind_blob(q, 2, e->dk_pub, ENROLL_POINT_LEN, SQLITE_STATIC);
	if (e->name)
		sqlite3_bind_text(q, 3, e->name, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 4, e->token);
	sqlite3_bind_int64(q, 5, clock_wall_ns());
	return server_store_once(db, q);
}

int server_devices_enrol(
	struct store_db *db, const char *who, const struct device_enrolment *e, struct device *out)
{
	struct device d;
	int r = server_devices_by_id(db, e->account, e->id, &d);

	if (r && r != -ENOENT)
		return r;
	if (r || d.state == DEVICE_REVOKED) {
		new_name(d.dkid);
		r = insert(db, e, d.dkid);
		if (!r)
			r = server_audit_add(
				db, who, "device-enrol", "device %s, id %s", d.dkid, e->id);
	} else {
		bool same = !memcmp(d.dk_pub, e->dk_pub, ENROLL_POINT_LEN);

		r = update(db, e, d.n);
		if (!r && !same)
			r = server_audit_add(
				db, who, "device-key", "device %s has a new public key", d.dkid);
	}
	return r ? r : server_devices_by_id(db, e->account, e->id, out);
}

int server_devices_set_state(
	struct store_db *db, const char *who, const struct device *d, enum device_state state)
{
	static const char *const what[] = { "device-trust", "device-untrust", "device-revoke" };
	sqlite3_stmt *q = server_store_statement(db, SQL_ENROLLED_SET_STATE);
	int r;

	sqlite3_bind_int64(q, 1, d->n);
	sqlite3_bind_int(q, 2, state);
	r = server_store_once(db, q);
	return r ? r : server_audit_add(db, who, what[state], "device %s", d->dkid);
}

int server_devices_seen(struct store_db *db, int64_t n)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_ENROLLED_SEEN);

	sqlite3_bind_int64(q, 1, n);
	sqlite3_bind_int64(q, 2, clock_wall_ns());
	return server_store_once(db, q);
}

/* ---- keys ---- */

int server_devices_rotate(struct store_db *db, const char *who, struct device *d, const char *why)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_KEK_ADD);
	char kid[DEVICES_KID_SIZE];
	int r;

	new_name(kid);
	sqlite3_bind_text(q, 1, kid, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 2, d->account);
	sqlite3_bind_text(q, 3, d->dkid, -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 4, VAULT_VERSION);
	sqlite3_bind_int64(q, 5, clock_wall_ns());
	r = server_store_once(db, q);
	if (r)
		return r;
	q = server_store_statement(db, SQL_ENROLLED_SET_KID);
	sqlite3_bind_int64(q, 1, d->n);
	sqlite3_bind_text(q, 2, kid, -1, SQLITE_STATIC);
	r = server_store_once(db, q);
	if (!r)
		r = server_audit_add(db, who, "kek-rotate", "device %s, kid %s instead of %s, %s",
			d->dkid, kid, *d->kid ? d->kid : "none", why);
	if (!r)
		memcpy(d->kid, kid, sizeof(kid));
	return r;
}

/* The next device behind row *n that is not revoked; -ENOENT at the end. */
static int next_device(struct store_db *db, int64_t n, int64_t account, struct device *out)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_ENROLLED_NEXT);

	sqlite3_bind_int64(q, 1, n);
	sqlite3_bind_int64(q, 2, account);
	return read_device(db, q, out);
}

int server_devices_rotate_all(
	struct store_db *db, const char *who, const char *account, uint64_t *n)
{
	struct device d = { 0 };
	int64_t only = 0;
	uint64_t count = 0;
	int r = account ? server_tokens_account(db, account, &only) : 0;

	while (!r && !(r = next_device(db, d.n, only, &d))) {
		r = server_devices_rotate(db, who, &d, "asked for");
		count++;
	}
	if (r == -ENOENT && (!account || only)) {
		*n = count;
		r = 0;
	}
	return r;
}

int server_devices_kek(struct store_db *db, const char *kid, struct device_kek *out)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_KEK_GET);
	int r;

	sqlite3_bind_text(q, 1, kid, -1, SQLITE_STATIC);
	r = server_store_step(db, q);
	if (r == 1) {
		copy_text(q, 0, out->kid, sizeof(out->kid));
		out->account = sqlite3_column_int64(q, 1);
		out->expires_at_ns = sqlite3_column_int64(q, 3);
		out->is_made = sqlite3_column_type(q, 2) != SQLITE_NULL;
		r = 0;
		if (out->is_made && sqlite3_column_bytes(q, 2) != VAULT_SEALED_LEN)
			r = CE_CORRUPT;
		else if (out->is_made)
			memcpy(out->wrapped, sqlite3_column_blob(q, 2), VAULT_SEALED_LEN);
	} else if (!r) {
		r = -ENOENT;
	}
	server_store_reset(q);
	return r;
}

int server_devices_kek_made(struct store_db *db, const struct device_kek *k)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_KEK_MADE);

	sqlite3_bind_text(q, 1, k->kid, -1, SQLITE_STATIC);
	sqlite3_bind_blob(q, 2, k->wrapped, VAULT_SEALED_LEN, SQLITE_STATIC);
	sqlite3_bind_int64(q, 3, k->expires_at_ns);
	return server_store_once(db, q);
}

/* ---- the list ---- */

static void set_text(struct json *o, const char *key, sqlite3_stmt *q, int column)
{
	json_set_string(o, key, (const char *)sqlite3_column_text(q, column));
}

static void set_time(struct json *o, const char *key, sqlite3_stmt *q, int column)
{
	if (sqlite3_column_type(q, column) == SQLITE_NULL)
		json_set_null(o, key);
	else
		json_set_i64(o, key, sqlite3_column_int64(q, column) / NS_PER_SEC);
}

static int print_device(sqlite3_stmt *q, struct json *o)
{
	uint8_t digest[KDF_SHA256_LEN];
	char hex[2 * KDF_SHA256_LEN + 1];
	int state = sqlite3_column_int(q, 4),
	    r = kdf_sha256(sqlite3_column_blob(q, 5), (size_t)sqlite3_column_bytes(q, 5), digest);

	if (r)
		return r;
	bytes_to_hex(digest, sizeof(digest), hex);
	set_text(o, "dkid", q, 0);
	set_text(o, "device_id", q, 1);
	set_text(o, "account", q, 2);
	set_text(o, "name", q, 3);
	json_set_string(o, "state",
		server_devices_state_name(state >= 0 && state <= DEVICE_REVOKED
						  ? (enum device_state)state
						  : DEVICE_REVOKED));
	json_set_string(o, "dk_pub_sha256", hex);
	set_text(o, "kid", q, 6);
	set_time(o, "kekRotatedAt", q, 7);
	set_time(o, "expiresAt", q, 8);
	set_time(o, "createdAt", q, 9);
	set_time(o, "seenAt", q, 10);
	json_set_i64(o, "token", sqlite3_column_int64(q, 11));
	return 0;
}

int server_devices_list(struct store_db *db, int64_t account, struct json *out)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_ENROLLED_LIST);
	struct json *list = json_set_array(out, "devices");
	int r;

	sqlite3_bind_int64(q, 1, account);
	while ((r = server_store_step(db, q)) == 1) {
		r = print_device(q, json_append_object(list));
		if (r)
			break;
	}
	server_store_reset(q);
	return r;
}
