#include "crypto/envelope.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/secret.h"

#define IV_LEN 12
#define BARE_VERSION 1 /* of {"v", "iv", "ct"} */

/* What an envelope holds. Both pointers are owned. */
struct parts {
	uint8_t iv[IV_LEN];
	uint8_t tag[AEAD_TAG_LEN];
	uint8_t *ct;
	size_t len;
	char *aad; /* NULL: none */
};

static void parts_done(struct parts *p)
{
	free(p->ct);
	free(p->aad);
}

static bool is_version(const struct json *meta)
{
	const char *text;
	uint64_t number;

	return !json_get_string(meta, "version", &text) || !json_get_u64(meta, "version", &number);
}

/* In the order of RFC 8785, by the names. */
static int canonical(const struct json *meta, char **out)
{
	static const struct {
		const char *name;
		bool required;
	} members[] = { { "id", true }, { "table", true }, { "tenant", false }, { "user", false },
		{ "version", true } };
	_cleanup_json_ struct json *o = json_new_object();
	const struct json *value;
	const char *text;

	if (!json_is_object(meta) || !is_version(meta))
		return CE_FORMAT;
	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		const char *name = members[i].name;

		if (!json_has(meta, name) && !members[i].required)
			continue;
		if (json_get(meta, name, &value) ||
			(strcmp(name, "version") != 0 && json_get_string(meta, name, &text)))
			return CE_FORMAT;
		json_set_copy(o, name, value);
	}
	return json_print(o, false, out);
}

int envelope_seal(const uint8_t key[static AEAD_KEY_LEN], const struct json *meta,
	const void *plain, size_t len, struct json **out)
{
	_cleanup_json_ struct json *env = json_new_object();
	_cleanup_(parts_done) struct parts p = { .len = len };
	uint8_t nonce[AEAD_NONCE_MAX];
	struct json *enc;
	int r = canonical(meta, &p.aad);

	if (r)
		return r;
	if (len > ENVELOPE_PLAIN_MAX)
		return CE_TOO_LARGE;
	p.ct = malloc(MAX_OF(len, 1u));
	if (!env || !p.ct)
		return -ENOMEM;
	aead_nonce(AEAD_AES256GCM, nonce);
	r = aead_seal(AEAD_AES256GCM, key, nonce, p.aad, strlen(p.aad), plain, len, p.ct, p.tag);
	if (r)
		return r;
	enc = json_set_object(env, "enc");
	json_set_string(enc, "alg", aead_name(AEAD_AES256GCM));
	json_set_bytes(enc, "iv", nonce, IV_LEN);
	json_set_bytes(enc, "ct", p.ct, len);
	json_set_bytes(enc, "tag", p.tag, sizeof(p.tag));
	json_set_bytes(enc, "aad", (const uint8_t *)p.aad, strlen(p.aad));
	json_set_copy(env, "meta", meta);
	*out = steal_ptr(&env);
	return 0;
}

/* A base64 member of any length up to `max`. The caller frees *out. */
static int get_blob(const struct json *env, const char *key, size_t max, uint8_t **out, size_t *len)
{
	_cleanup_free_ uint8_t *data = NULL;
	const char *text;
	size_t room;
	int r = json_get_string(env, key, &text);

	if (r)
		return r;
	room = strlen(text) / 4 * 3;
	if (room > max + 2)
		return CE_TOO_LARGE;
	data = malloc(room + 1);
	if (!data)
		return -ENOMEM;
	r = bytes_from_base64(text, data, max, len);
	if (r)
		return r;
	*out = steal_ptr(&data);
	return 0;
}

/* The carried additional data, if any, must be that of the record. */
static int check_aad(const struct json *enc, const char *aad)
{
	_cleanup_free_ uint8_t *carried = NULL;
	size_t len;
	int r;

	if (!json_has(enc, "aad"))
		return 0;
	r = get_blob(enc, "aad", ENVELOPE_PLAIN_MAX, &carried, &len);
	if (r)
		return r;
	return len == strlen(aad) && !memcmp(carried, aad, len) ? 0 : CE_TAMPER;
}

static int read_record(const struct json *env, struct parts *p)
{
	const struct json *enc, *meta;
	const char *alg;
	int r = json_get(env, "enc", &enc);

	if (!r)
		r = json_get(env, "meta", &meta);
	if (r || !json_is_object(enc) || json_count(enc) != (json_has(enc, "aad") ? 5 : 4))
		return CE_FORMAT;
	r = json_get_string(enc, "alg", &alg);
	if (r || aead_by_name(alg) != AEAD_AES256GCM)
		return CE_FORMAT;
	r = canonical(meta, &p->aad);
	if (!r)
		r = check_aad(enc, p->aad);
	if (!r)
		r = json_get_bytes(enc, "iv", p->iv, sizeof(p->iv));
	if (!r)
		r = json_get_bytes(enc, "tag", p->tag, sizeof(p->tag));
	return r ? r : get_blob(enc, "ct", ENVELOPE_PLAIN_MAX, &p->ct, &p->len);
}

static int read_bare(const struct json *env, struct parts *p)
{
	uint64_t v;
	int r;

	if (json_get_u64(env, "v", &v) || v != BARE_VERSION || json_count(env) != 3)
		return CE_FORMAT;
	r = json_get_bytes(env, "iv", p->iv, sizeof(p->iv));
	if (!r)
		r = get_blob(env, "ct", ENVELOPE_PLAIN_MAX + AEAD_TAG_LEN, &p->ct, &p->len);
	if (!r && p->len < AEAD_TAG_LEN)
		r = CE_FORMAT;
	if (r)
		return r;
	p->len -= AEAD_TAG_LEN;
	memcpy(p->tag, p->ct + p->len, AEAD_TAG_LEN);
	return 0;
}

int envelope_open(const struct json *env, const uint8_t key[static AEAD_KEY_LEN], uint8_t **plain,
	size_t *len)
{
	_cleanup_(parts_done) struct parts p = { .len = 0 };
	int r;

	if (!json_is_object(env))
		return CE_FORMAT;
	r = json_has(env, "v") ? read_bare(env, &p) : read_record(env, &p);
	/* In place: what comes out is the buffer the caller wipes. */
	if (!r)
		r = aead_open(AEAD_AES256GCM, key, p.iv, p.aad, p.aad ? strlen(p.aad) : 0, p.ct,
			p.len, p.tag, p.ct);
	if (r)
		return r;
	*plain = steal_ptr(&p.ct);
	*len = p.len;
	return 0;
}
