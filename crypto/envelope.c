#include "crypto/envelope.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/secret.h"

/* What an envelope holds beside its plaintext. `ct` is owned. */
struct parts {
	enum aead_alg alg;
	uint8_t iv[AEAD_NONCE_MAX];
	uint8_t tag[AEAD_TAG_LEN];
	uint8_t *ct;
	size_t len;
};

int envelope_seal(enum aead_alg alg, const uint8_t key[static AEAD_KEY_LEN], const void *aad,
	size_t aad_len, bool carry_aad, const void *plain, size_t len, struct json **out)
{
	_cleanup_json_ struct json *env = json_new_object();
	_cleanup_free_ uint8_t *ct = NULL;
	uint8_t iv[AEAD_NONCE_MAX], tag[AEAD_TAG_LEN];
	int r;

	if (!aead_name(alg))
		return -EINVAL;
	if (len > ENVELOPE_PLAIN_MAX)
		return CE_TOO_LARGE;
	ct = malloc(MAX_OF(len, 1u));
	if (!env || !ct)
		return -ENOMEM;
	aead_nonce(alg, iv);
	r = aead_seal(alg, key, iv, aad, aad_len, plain, len, ct, tag);
	if (r)
		return r;
	json_set_u64(env, "v", ENVELOPE_VERSION);
	json_set_string(env, "alg", aead_name(alg));
	json_set_bytes(env, "iv", iv, aead_nonce_len(alg));
	json_set_bytes(env, "ct", ct, len);
	json_set_bytes(env, "tag", tag, sizeof(tag));
	if (carry_aad)
		json_set_bytes(env, "aad", aad, aad_len);
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

/* The carried AAD, if any, must be the one the caller expects. */
static int check_aad(const struct json *env, const void *aad, size_t aad_len)
{
	_cleanup_free_ uint8_t *carried = NULL;
	size_t len;
	int r;

	if (!json_has(env, "aad"))
		return 0;
	r = get_blob(env, "aad", ENVELOPE_PLAIN_MAX, &carried, &len);
	if (r)
		return r;
	return len == aad_len && (!len || !memcmp(carried, aad, len)) ? 0 : CE_TAMPER;
}

static int read_parts(const struct json *env, struct parts *p)
{
	const char *name;
	uint64_t v;
	int r;

	if (!json_is_object(env) || json_get_u64(env, "v", &v) || v != ENVELOPE_VERSION)
		return CE_FORMAT;
	if (json_count(env) != (json_has(env, "aad") ? 6 : 5))
		return CE_FORMAT;
	r = json_get_string(env, "alg", &name);
	if (r)
		return r;
	p->alg = aead_by_name(name);
	if (!p->alg)
		return CE_FORMAT;
	r = json_get_bytes(env, "iv", p->iv, aead_nonce_len(p->alg));
	if (!r)
		r = json_get_bytes(env, "tag", p->tag, sizeof(p->tag));
	if (!r)
		r = get_blob(env, "ct", ENVELOPE_PLAIN_MAX, &p->ct, &p->len);
	return r;
}

int envelope_open(const struct json *env, const uint8_t key[static AEAD_KEY_LEN], const void *aad,
	size_t aad_len, uint8_t **plain, size_t *len)
{
	struct parts p = { 0 };
	int r = read_parts(env, &p);

	if (!r)
		r = check_aad(env, aad, aad_len);
	/* In place: what comes out is the buffer the caller wipes. */
	if (!r)
		r = aead_open(p.alg, key, p.iv, aad, aad_len, p.ct, p.len, p.tag, p.ct);
	if (r) {
		free(p.ct);
		return r;
	}
	*plain = p.ct;
	*len = p.len;
	return 0;
}
