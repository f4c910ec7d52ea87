/*
 * Rows of `event`, a hash chain: hash = SHA-256(previous hash ‖ u64 LE id ‖ i64 LE time_ns ‖
 * u32 LE length ‖ kind ‖ u32 LE length ‖ detail); 32 zeros stand before the first. Ids run without
 * gaps from 1, and the highest ever given is kept by SQLite, so rows cut from the end are missed
 * too.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "crypto/kdf.h"
#include "meta/stmt_priv.h"
#include "meta/store.h"

static int hash_text(struct kdf_sha256 *h, const char *text)
{
	uint8_t len[4];
	int r;

	store_le32(len, (uint32_t)strlen(text));
	r = kdf_sha256_update(h, len, sizeof(len));
	return r < 0 ? r : kdf_sha256_update(h, text, strlen(text));
}

/* Replaces `hash`, the one before, by that of this event. */
static int chain(uint8_t hash[static KDF_SHA256_LEN], uint64_t id, int64_t time_ns,
	const char *kind, const char *detail)
{
	struct kdf_sha256 *h;
	uint8_t numbers[16];
	int r = kdf_sha256_new(&h);

	if (r < 0)
		return r;
	store_le64(numbers, id);
	store_le64(numbers + 8, (uint64_t)time_ns);
	r = kdf_sha256_update(h, hash, KDF_SHA256_LEN);
	if (r == 0)
		r = kdf_sha256_update(h, numbers, sizeof(numbers));
	if (r == 0)
		r = hash_text(h, kind);
	if (r == 0)
		r = hash_text(h, detail);
	if (r < 0) {
		kdf_sha256_free(h);
		return r;
	}
	return kdf_sha256_final(h, hash);
}

static int last(struct db *db, uint64_t *id, uint8_t hash[static KDF_SHA256_LEN])
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_EVENT_LAST);
	int r = stmt_row(&s);

	if (r == 1) {
		*id = stmt_u64(&s);
		stmt_blob(&s, hash, KDF_SHA256_LEN);
		return s.error;
	}
	return r;
}

int event_append(struct db *db, int64_t time_ns, const char *kind, const char *detail)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_EVENT_APPEND);
	uint8_t hash[KDF_SHA256_LEN] = { 0 };
	uint64_t id = 0;
	int r = last(db, &id, hash);

	if (r == 0)
		r = chain(hash, ++id, time_ns, kind, detail);
	if (r < 0)
		return r;
	stmt_bind_u64(&s, id);
	stmt_bind_i64(&s, time_ns);
	stmt_bind_text(&s, kind);
	stmt_bind_text(&s, detail);
	stmt_bind_blob(&s, hash, sizeof(hash));
	return stmt_run(&s);
}

struct event_row {
	uint64_t id;
	int64_t time_ns;
	char *kind, *detail;
	uint8_t hash[KDF_SHA256_LEN];
};

static void event_row_done(struct event_row *e)
{
	free(e->kind);
	free(e->detail);
}

static int event_read(struct stmt *s, struct event_row *e)
{
	e->id = stmt_u64(s);
	e->time_ns = stmt_i64(s);
	e->kind = stmt_dup(s, NULL);
	e->detail = stmt_dup(s, NULL);
	stmt_blob(s, e->hash, sizeof(e->hash));
	if (s->error)
		return s->error;
	return e->kind && e->detail ? 0 : CE_CORRUPT;
}

int event_each(struct db *db, uint64_t after, event_fn *fn, void *arg)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_EVENT_EACH);
	int r;

	stmt_bind_u64(&s, after);
	while ((r = stmt_row(&s)) == 1) {
		_cleanup_(event_row_done) struct event_row e = { 0 };

		r = event_read(&s, &e);
		if (r == 0)
			r = fn(arg, e.id, e.time_ns, e.kind, e.detail);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return r;
}

static int verify_rows(struct db *db, uint64_t *id)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_EVENT_EACH);
	uint8_t hash[KDF_SHA256_LEN] = { 0 };
	int r;

	stmt_bind_u64(&s, 0);
	while ((r = stmt_row(&s)) == 1) {
		_cleanup_(event_row_done) struct event_row e = { 0 };

		++*id;
		r = event_read(&s, &e);
		if (r == 0)
			r = chain(hash, *id, e.time_ns, e.kind, e.detail);
		if (r == 0 && (e.id != *id || memcmp(hash, e.hash, sizeof(hash)) != 0))
			r = CE_TAMPER;
		if (r < 0)
			return r;
	}
	return r;
}

int event_verify(struct db *db, uint64_t *bad_id)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_EVENT_LAST_ID);
	uint64_t id = 0, highest = 0;
	int r = verify_rows(db, &id);

	if (r == 0)
		r = stmt_count(&s, &highest);
	if (r == 0 && highest != id) {
		id++;
		r = CE_TAMPER;
	}
	if (r == CE_TAMPER)
		*bad_id = id;
	return r;
}
