/*
 * POST …/export. A thread of the pool makes the sealed file and writes the audit row; the answer is
 * then put together as it is sent: the sealed file in hexadecimal, never whole in memory.
 *
 * The key is in one piece of secret memory. It comes first in the answer, so that what
 * libmicrohttpd puts it into is overwritten by what follows.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/io.h"
#include "base/secret.h"
#include "server/audit.h"
#include "server/export.h"
#include "server/handlers.h"
#include "server/tasks.h"

#define WARNING "Store this key securely. Without it, the encrypted data cannot be decrypted."
#define HEAD_SIZE (256 + WIRE_ID_MAX)
#define TAIL "\"}\n"
#define BLOCK 4096 /* less than the hexadecimal of the smallest SQLite file */

struct exporting {
	struct task task;
	struct request *r;
	struct secret *head; /* the answer up to the hexadecimal digits */
	size_t head_len;
	int fd;
	uint64_t sealed;
	int code;
};

static void free_exporting(void *own)
{
	struct exporting *x = own;

	secret_free(x->head);
	cleanup_fd(&x->fd);
	free(x);
}

static int write_audit(struct request *r, struct store_db *db)
{
	char who[TOKENS_WHO_SIZE];
	int rc = server_store_run(db, SQL_BEGIN_WRITE);

	if (!rc)
		rc = server_tokens_who(db, &r->access, who);
	if (!rc)
		rc = server_audit_add(db, who, "export", "store %s", r->store.id);
	if (!rc)
		rc = server_store_run(db, SQL_COMMIT);
	if (rc)
		server_store_rollback(db);
	return rc;
}

static int make_head(struct exporting *x, struct secret *key)
{
	char *text;
	int n, rc = secret_new(HEAD_SIZE + 2 * BUNDLE_KEY_LEN, &x->head);

	if (rc)
		return rc;
	text = (char *)secret_bytes(x->head);
	n = snprintf(text, HEAD_SIZE, "{\"encryption_key\":\"");
	bytes_to_hex(secret_cbytes(key), BUNDLE_KEY_LEN, text + n);
	n += 2 * BUNDLE_KEY_LEN;
	n += snprintf(text + n, HEAD_SIZE,
		"\",\"filename\":\"%s.db.enc\",\"warning\":\"" WARNING "\",\"encrypted_data\":\"",
		x->r->store.id);
	x->head_len = (size_t)n;
	return 0;
}

static int make(struct exporting *x)
{
	const struct server *s = x->r->s;
	const struct export_place place = { s->dir, &s->dirs, s->instance };
	_cleanup_secret_ struct secret *key = NULL;
	struct store_db *db;
	int rc = secret_new_random(BUNDLE_KEY_LEN, &key);

	if (!rc)
		rc = make_head(x, key);
	if (!rc)
		rc = server_pool_take(s->pool, &db);
	if (rc)
		return rc;
	rc = server_export_make(&place, db, &x->r->store, secret_cbytes(key), &x->fd, &x->sealed);
	if (!rc)
		rc = write_audit(x->r, db);
	server_pool_give(s->pool, db);
	return rc;
}

static void run(struct task *t, int code)
{
	struct exporting *x = (struct exporting *)t;

	x->code = code ? code : make(x);
	server_http_resume(x->r);
}

void server_export_begin(struct request *r)
{
	struct exporting *x = calloc(1, sizeof(*x));

	if (!x) {
		server_http_fail(r, -ENOMEM);
		return;
	}
	x->fd = -1;
	x->r = r;
	x->task.run = run;
	server_http_own(r, x, free_exporting);
	server_http_run(r, r->s->tasks, &x->task);
}

/* Two digits for each byte of the sealed file. */
static ssize_t read_hex(const struct exporting *x, uint64_t at, char *out, size_t max)
{
	uint8_t data[BLOCK / 2];
	char text[BLOCK + 1];
	size_t n = MIN_OF(MIN_OF(sizeof(data), max / 2 + 1), x->sealed - at / 2), skip = at & 1;

	if (io_pread_full(x->fd, data, n, at / 2))
		return MHD_CONTENT_READER_END_WITH_ERROR;
	bytes_to_hex(data, n, text);
	n = MIN_OF(2 * n - skip, max);
	memcpy(out, text + skip, n);
	return (ssize_t)n;
}

static ssize_t read_answer(void *own, uint64_t at, char *out, size_t max)
{
	const struct exporting *x = own;
	const char *from;
	uint64_t end = x->head_len + 2 * x->sealed;
	size_t n;

	if (at >= x->head_len && at < end)
		return read_hex(x, at - x->head_len, out, max);
	from = at < end ? (const char *)secret_cbytes(x->head) + at : TAIL + (at - end);
	n = at < end ? x->head_len - at : sizeof(TAIL) - 1 - (at - end);
	n = MIN_OF(n, max);
	memcpy(out, from, n);
	return (ssize_t)n;
}

void server_export_answer(struct request *r)
{
	struct exporting *x = r->own;

	if (x->code) {
		server_http_fail(r, x->code);
		return;
	}
	r->answer.status = 200;
	r->answer.type = ANSWER_JSON;
	server_answer_stream(&r->answer, x->head_len + 2 * x->sealed + sizeof(TAIL) - 1, BLOCK,
		read_answer, x, free_exporting);
	server_http_own(r, NULL, NULL);
}
