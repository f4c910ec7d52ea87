/* Bodies that come in more than one request: PUTs that were cut off, and parts sent ahead. */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "server/handlers.h"

static void bad(struct request *r, const char *detail)
{
	server_http_refuse(r, PROBLEM_BAD_REQUEST, detail);
}

static struct upload_name name_of(const struct request *r, const uint8_t *key)
{
	struct upload_name name = { .account = r->access.account, .store = r->store.n };

	memcpy(name.key, key, sizeof(name.key));
	return name;
}

/* Where the body begins; an offset needs a length, without which nobody knows whether it came
 * whole. */
static void take_offset(struct request *r, uint64_t *offset)
{
	const char *text = r->headers[HEADER_OFFSET];

	if (text && (server_wire_u64(text, offset) || !r->headers[HEADER_CONTENT_LENGTH]))
		bad(r, "cachet-offset is a decimal number, and needs content-length");
}

static void judge(struct request *r, int rc)
{
	if (rc == -ENOENT)
		server_http_refuse(r, PROBLEM_NO_UPLOAD, NULL);
	else if (rc)
		server_http_fail(r, rc);
}

/* ---- the PUT of a record ---- */

/* "KEY SHA256": what was sent ahead under KEY, and the digest of it. */
static bool take_ahead(struct request *r, uint8_t *key, uint8_t *sha256)
{
	const char *text = r->headers[HEADER_AHEAD];
	char hex[2 * WIRE_KEY_LEN + 1];

	if (strlen(text) == sizeof(hex) + 2 * KDF_SHA256_LEN && text[sizeof(hex) - 1] == ' ') {
		memcpy(hex, text, sizeof(hex) - 1);
		hex[sizeof(hex) - 1] = 0;
		if (!bytes_from_hex(hex, key, WIRE_KEY_LEN) &&
			!bytes_from_hex(text + sizeof(hex), sha256, KDF_SHA256_LEN))
			return true;
	}
	bad(r, "cachet-ahead is a key and a sha-256, in hex");
	return false;
}

/* The body of a large PUT is kept when the connection ends before it does; with an offset it goes
 * on where it was, or where what was sent ahead ends. */
void server_upload_accept(struct request *r, struct change *c)
{
	struct upload_name name = name_of(r, c->key), ahead = name;
	const char *length = r->headers[HEADER_CONTENT_LENGTH];
	bool is_ahead = r->headers[HEADER_AHEAD] != NULL;
	uint8_t sha256[KDF_SHA256_LEN];
	uint64_t offset = 0, rest = 0;
	int rc = 0;

	take_offset(r, &offset);
	if (is_ahead && !offset)
		bad(r, "cachet-ahead needs a cachet-offset");
	if (is_ahead && !take_ahead(r, ahead.key, sha256))
		return;
	if (r->answer.status || c->refused || !length || server_wire_u64(length, &rest))
		return;
	if (offset && is_ahead)
		rc = server_upload_adopt(r->s->uploads, &ahead, sha256, &name, offset, &r->upload);
	else if (offset)
		rc = server_upload_resume(r->s->uploads, &name, offset, &r->upload);
	else if (rest >= UPLOAD_MIN_BYTES)
		rc = server_upload_begin(r->s->uploads, &name, &c->body, &r->upload);
	judge(r, rc);
}

/* ---- {id} is a key ---- */

static bool take_name(struct request *r, struct upload_name *name)
{
	uint8_t key[WIRE_KEY_LEN];

	if (bytes_from_hex(r->id, key, sizeof(key))) {
		bad(r, "an upload is named by a key, 32 hex digits");
		return false;
	}
	*name = name_of(r, key);
	return true;
}

static void answer_offset(struct request *r, const struct upload_name *name)
{
	uint64_t offset = 0;

	if (server_upload_offset(r->s->uploads, name, &offset))
		server_http_refuse(r, PROBLEM_NO_SUCH, NULL);
	else
		server_http_json(r, buffer_printf(&r->answer.text, "{\"offset\":%llu}",
					    (unsigned long long)offset));
}

void server_upload_get(struct request *r)
{
	struct upload_name name;

	if (take_name(r, &name))
		answer_offset(r, &name);
}

/* The body follows r->upload, and stays there. */
void server_upload_part_begin(struct request *r)
{
	struct upload_name name;
	struct body body;
	uint64_t offset = 0;

	take_offset(r, &offset);
	if (!r->headers[HEADER_CONTENT_LENGTH])
		server_http_refuse(r, PROBLEM_LENGTH_REQUIRED, "a part says its length beforehand");
	if (!take_name(r, &name) || r->answer.status)
		return;
	server_body_init(&body, &r->s->dirs, r->s->max_record_bytes);
	judge(r, offset ? server_upload_resume(r->s->uploads, &name, offset, &r->upload)
			: server_upload_begin(r->s->uploads, &name, &body, &r->upload));
}

/* Not through answer_offset(), which would answer for what another request began meanwhile. */
void server_upload_part(struct request *r)
{
	uint64_t offset = 0;

	if (server_upload_pause(&r->upload, &offset))
		server_http_refuse(r, PROBLEM_NO_UPLOAD, "another request goes on with it");
	else
		server_http_json(r, buffer_printf(&r->answer.text, "{\"offset\":%llu}",
					    (unsigned long long)offset));
}

void server_upload_drop(struct request *r)
{
	struct upload_name name;

	if (!take_name(r, &name))
		return;
	server_upload_forget(r->s->uploads, &name);
	server_http_json(r, buffer_printf(&r->answer.text, "{\"offset\":0}"));
}
