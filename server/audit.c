#include "server/audit.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"

#define LABEL "cachet audit v1"

static int hash_text(struct kdf_sha256 *h, const char *text)
{
	size_t len = strlen(text);
	uint8_t prefix[2];
	int r;

	if (len > UINT16_MAX)
		return CE_TAMPER; /* this program wrote none that long */
	store_le16(prefix, (uint16_t)len);
	r = kdf_sha256_update(h, prefix, sizeof(prefix));
	return r ? r : kdf_sha256_update(h, text, len);
}

int server_audit_hash(const struct audit_row *row, const uint8_t before[static KDF_SHA256_LEN],
	uint8_t out[static KDF_SHA256_LEN])
{
	struct kdf_sha256 *h;
	uint8_t numbers[16];
	int r = kdf_sha256_new(&h);

	if (r)
		return r;
	store_le64(numbers, row->n);
	store_le64(numbers + 8, (uint64_t)row->at_ns);
	r = kdf_sha256_update(h, LABEL, sizeof(LABEL) - 1);
	if (!r)
		r = kdf_sha256_update(h, before, KDF_SHA256_LEN);
	if (!r)
		r = kdf_sha256_update(h, numbers, sizeof(numbers));
	if (!r)
		r = hash_text(h, row->who);
	if (!r)
		r = hash_text(h, row->what);
	if (!r)
		r = hash_text(h, row->subject);
	if (!r)
		return kdf_sha256_final(h, out);
	kdf_sha256_free(h);
	return r;
}

/* Where the chain ends, or with `base` begins. */
static int read_head(struct store_db *db, bool base, struct audit_head *out)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_AUDIT_HEAD);
	int r = server_store_step(db, q), column = base ? 2 : 0;

	if (r == 1 && sqlite3_column_bytes(q, column + 1) == KDF_SHA256_LEN) {
		out->n = (uint64_t)sqlite3_column_int64(q, column);
		memcpy(out->hash, sqlite3_column_blob(q, column + 1), KDF_SHA256_LEN);
		r = 0;
	} else if (r >= 0) {
		r = CE_TAMPER;
	}
	server_store_reset(q);
	return r;
}

static int set_head(struct store_db *db, enum sql which, uint64_t n, const uint8_t *hash)
{
	sqlite3_stmt *q = server_store_statement(db, which);

	sqlite3_bind_int64(q, 1, (int64_t)n);
	sqlite3_bind_blob(q, 2, hash, KDF_SHA256_LEN, SQLITE_STATIC);
	return server_store_once(db, q);
}

static int insert(
	struct store_db *db, const struct audit_row *row, const uint8_t hash[KDF_SHA256_LEN])
{
	sqlite3_stmt *q = server_store_statement(db, SQL_AUDIT_ADD);
	int r;

	sqlite3_bind_int64(q, 1, (int64_t)row->n);
	sqlite3_bind_int64(q, 2, row->at_ns);
	sqlite3_bind_text(q, 3, row->who, -1, SQLITE_STATIC);
	sqlite3_bind_text(q, 4, row->what, -1, SQLITE_STATIC);
	sqlite3_bind_text(q, 5, row->subject, -1, SQLITE_STATIC);
	sqlite3_bind_blob(q, 6, hash, KDF_SHA256_LEN, SQLITE_STATIC);
	r = server_store_once(db, q);
	return r ? r : set_head(db, SQL_AUDIT_SET_HEAD, row->n, hash);
}

int server_audit_add(struct store_db *db, const char *who, const char *what, const char *fmt, ...)
{
	char subject[AUDIT_TEXT_MAX];
	uint8_t hash[KDF_SHA256_LEN];
	struct audit_head head;
	struct audit_row row = { .who = who, .what = what, .subject = subject };
	va_list ap;
	int r = read_head(db, false, &head);

	if (r)
		return r;
	va_start(ap, fmt);
	vsnprintf(subject, sizeof(subject), fmt, ap);
	va_end(ap);
	row.n = head.n + 1;
	row.at_ns = clock_wall_ns();
	r = server_audit_hash(&row, head.hash, hash);
	return r ? r : insert(db, &row, hash);
}

static const char *text_of(sqlite3_stmt *q, int column)
{
	const char *text = (const char *)sqlite3_column_text(q, column);

	return text ? text : "";
}

static struct audit_row row_of(sqlite3_stmt *q)
{
	return (struct audit_row){
		.n = (uint64_t)sqlite3_column_int64(q, 0),
		.at_ns = sqlite3_column_int64(q, 1),
		.who = text_of(q, 2),
		.what = text_of(q, 3),
		.subject = text_of(q, 4),
	};
}

/* A text with a NUL inside would be hashed only up to it. */
static bool is_whole(sqlite3_stmt *q)
{
	for (int i = 2; i <= 4; i++)
		if (strlen(text_of(q, i)) != (size_t)sqlite3_column_bytes(q, i))
			return false;
	return sqlite3_column_bytes(q, 5) == KDF_SHA256_LEN;
}

void server_audit_print(
	const struct audit_row *row, const uint8_t hash[static KDF_SHA256_LEN], struct json *o)
{
	char hex[2 * KDF_SHA256_LEN + 1];

	bytes_to_hex(hash, KDF_SHA256_LEN, hex);
	json_set_u64(o, "n", row->n);
	json_set_i64(o, "at", row->at_ns / NS_PER_SEC);
	json_set_u64(o, "at_ns", (uint64_t)row->at_ns);
	json_set_string(o, "who", row->who);
	json_set_string(o, "what", row->what);
	json_set_string(o, "subject", row->subject);
	json_set_string(o, "hash", hex);
}

/* Whoever damaged it: the list shows what is there. */
static void print_row(sqlite3_stmt *q, struct json *list)
{
	static const uint8_t none[KDF_SHA256_LEN];
	struct audit_row row = row_of(q);
	bool whole = sqlite3_column_bytes(q, 5) == KDF_SHA256_LEN;

	server_audit_print(
		&row, whole ? sqlite3_column_blob(q, 5) : none, json_append_object(list));
}

int server_audit_base(struct store_db *db, struct audit_head *out)
{
	int r = read_head(db, true, out);

	/* Without a head nothing was archived; that it is missing, the end of the walk shows. */
	if (r != CE_TAMPER)
		return r;
	*out = (struct audit_head){ 0 };
	return 0;
}

void server_audit_print_head(const struct audit_head *head, char out[static SERVER_AUDIT_HEAD_SIZE])
{
	int n = snprintf(out, SERVER_AUDIT_HEAD_SIZE, "%llu:", (unsigned long long)head->n);

	bytes_to_hex(head->hash, sizeof(head->hash), out + n);
}

int server_audit_list(struct store_db *db, uint64_t since, uint64_t limit, struct json *out)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_AUDIT_LIST);
	struct json *list = json_set_array(out, "entries");
	char text[SERVER_AUDIT_HEAD_SIZE];
	struct audit_head base;
	uint64_t n = 0;
	int r;

	sqlite3_bind_int64(q, 1, (int64_t)since);
	sqlite3_bind_int64(q, 2, (int64_t)limit + 1);
	while ((r = server_store_step(db, q)) == 1 && n++ < limit)
		print_row(q, list);
	server_store_reset(q);
	json_set_bool(out, "more", r == 1);
	if (r >= 0)
		r = server_audit_base(db, &base);
	if (r)
		return r;
	server_audit_print_head(&base, text);
	json_set_string(out, "base", text);
	return 0;
}

static int check_row(sqlite3_stmt *q, const struct audit_row *row, const struct audit_head *before,
	uint8_t hash[static KDF_SHA256_LEN])
{
	int r = row->n == before->n + 1 && is_whole(q) ? server_audit_hash(row, before->hash, hash)
						       : CE_TAMPER;

	return r ? r : memcmp(sqlite3_column_blob(q, 5), hash, KDF_SHA256_LEN) ? CE_TAMPER : 0;
}

int server_audit_walk(struct store_db *db, server_audit_fn *fn, void *arg, struct audit_head *at)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_AUDIT_LIST);
	uint8_t hash[KDF_SHA256_LEN];
	int r = server_audit_base(db, at);

	if (r)
		return r;
	sqlite3_bind_int64(q, 1, INT64_MIN);
	sqlite3_bind_int64(q, 2, INT64_MAX);
	while ((r = server_store_step(db, q)) == 1) {
		struct audit_row row = row_of(q);

		r = check_row(q, &row, at, hash);
		if (!r && fn)
			r = fn(arg, &row, hash);
		if (r)
			break;
		at->n = row.n;
		memcpy(at->hash, hash, sizeof(hash));
	}
	server_store_reset(q);
	return r < 0 ? r : 0;
}

int server_audit_forget(struct store_db *db, const struct audit_head *last)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_AUDIT_FORGET);
	int r;

	sqlite3_bind_int64(q, 1, (int64_t)last->n);
	r = server_store_once(db, q);
	return r ? r : set_head(db, SQL_AUDIT_SET_BASE, last->n, last->hash);
}

struct search {
	const struct audit_head *noted;
	bool met;
};

static int look_for(
	void *arg, const struct audit_row *row, const uint8_t hash[static KDF_SHA256_LEN])
{
	struct search *s = arg;

	if (row->n != s->noted->n)
		return 0;
	s->met = !memcmp(s->noted->hash, hash, KDF_SHA256_LEN);
	return s->met ? 0 : CE_TAMPER;
}

/* What was noted may be where the chain begins, or before that. */
static int look_at_base(struct store_db *db, struct search *s)
{
	struct audit_head base;
	int r = server_audit_base(db, &base);

	if (r || s->noted->n > base.n)
		return r;
	if (s->noted->n && s->noted->n < base.n)
		return -ENOENT;
	s->met = !s->noted->n || !memcmp(s->noted->hash, base.hash, KDF_SHA256_LEN);
	return 0;
}

int server_audit_verify(
	struct store_db *db, const struct audit_head *noted, struct audit_head *head, uint64_t *bad)
{
	struct audit_head at = { 0 }, stored = { 0 };
	struct search search = { .noted = noted, .met = !noted };
	int r = server_store_run(db, SQL_BEGIN_READ);

	if (!r && noted)
		r = look_at_base(db, &search);
	if (!r)
		r = server_audit_walk(db, noted ? look_for : NULL, &search, &at);
	if (!r)
		r = search.met ? read_head(db, false, &stored) : CE_TAMPER;
	if (!r && (stored.n != at.n || memcmp(stored.hash, at.hash, sizeof(at.hash)) != 0))
		r = CE_TAMPER;
	server_store_rollback(db);
	if (r == CE_TAMPER)
		*bad = at.n + 1;
	if (!r)
		*head = at;
	return r;
}
