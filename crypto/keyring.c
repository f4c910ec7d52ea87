#include "crypto/keyring.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "crypto/keyring_priv.h"

#define WRAP_LABEL "cachet/wrap/v1"
#define NUMBER_MAX ((size_t)20) /* digits of a 64-bit integer, or 19 and a sign */
#define AAD_MAX                                                                                    \
	(sizeof(WRAP_LABEL) + KEYRING_PURPOSE_MAX + KEYRING_STORE_LEN + KEYRING_KID_MAX +          \
		3 * NUMBER_MAX + 6 * sizeof(uint16_t))

struct aad {
	uint8_t bytes[AAD_MAX];
	size_t len;
};

static void aad_field(struct aad *aad, const char *text)
{
	size_t len = strlen(text);

	store_le16(aad->bytes + aad->len, (uint16_t)len);
	memcpy(aad->bytes + aad->len + 2, text, len);
	aad->len += 2 + len;
}

/* Everything an entry says about its key: a key opens in the place it was wrapped for only. */
static void entry_aad(const struct keyring_entry *e, struct aad *aad)
{
	char number[24];

	aad->len = strlen(WRAP_LABEL);
	memcpy(aad->bytes, WRAP_LABEL, aad->len);
	aad_field(aad, e->purpose);
	aad_field(aad, e->store);
	aad_field(aad, e->kid);
	snprintf(number, sizeof(number), "%" PRIu64, e->epoch);
	aad_field(aad, number);
	snprintf(number, sizeof(number), "%" PRId64, e->created_at_s);
	aad_field(aad, number);
	if (!e->from)
		return;
	snprintf(number, sizeof(number), "%" PRIu64, e->from);
	aad_field(aad, number);
}

static int entry_commit(
	const struct keyring_entry *e, const struct secret *kek, uint8_t out[static KDF_COMMIT_LEN])
{
	return kdf_commit(secret_cbytes(kek), e->kid, strlen(e->kid), out);
}

static bool entry_committed_to(const struct keyring_entry *e, const struct secret *kek)
{
	uint8_t commit[KDF_COMMIT_LEN];

	return !entry_commit(e, kek, commit) &&
	       secret_equal_bytes(commit, e->commit, sizeof(commit));
}

/*
 * A cipher context keeps its last key. The KEK is used seldom and opens everything, so both ways
 * end with aead_thread_done(): it is not left behind in unlocked memory.
 *
 * Fills iv, ct and commit from what `e` says and `key`.
 */
static int entry_wrap(struct keyring_entry *e, const struct secret *kek, const struct secret *key)
{
	uint8_t iv[AEAD_NONCE_MAX];
	struct aad aad;
	int r;

	entry_aad(e, &aad);
	aead_nonce(AEAD_AES256GCM, iv);
	memcpy(e->iv, iv, sizeof(e->iv));
	r = entry_commit(e, kek, e->commit);
	if (r)
		return r;
	r = aead_seal(AEAD_AES256GCM, secret_cbytes(kek), e->iv, aad.bytes, aad.len,
		secret_cbytes(key), AEAD_KEY_LEN, e->ct, e->ct + AEAD_KEY_LEN);
	aead_thread_done();
	return r;
}

static int entry_unwrap(
	const struct keyring_entry *e, const struct secret *kek, struct secret **out)
{
	_cleanup_secret_ struct secret *key = NULL;
	struct aad aad;
	int r;

	/* The keyring is unlocked, so the KEK is right: this entry is what is wrong. */
	if (!entry_committed_to(e, kek))
		return CE_TAMPER;
	entry_aad(e, &aad);
	r = secret_new(AEAD_KEY_LEN, &key);
	if (!r)
		r = aead_open(AEAD_AES256GCM, secret_cbytes(kek), e->iv, aad.bytes, aad.len, e->ct,
			AEAD_KEY_LEN, e->ct + AEAD_KEY_LEN, secret_bytes(key));
	aead_thread_done();
	if (r)
		return r;
	*out = steal_ptr(&key);
	return 0;
}

/* The entry of that epoch, 0: of the highest; or NULL. */
static const struct keyring_entry *find_epoch(
	const struct keyring *k, const char *purpose, const char *store, uint64_t epoch)
{
	const struct keyring_entry *best = NULL;

	for (size_t i = 0; i < k->n_entries; i++) {
		const struct keyring_entry *e = &k->entries[i];

		if (strcmp(e->purpose, purpose) != 0 || strcmp(e->store, store) != 0)
			continue;
		if (epoch ? e->epoch == epoch : !best || e->epoch > best->epoch)
			best = e;
	}
	return best;
}

static const struct keyring_entry *find(
	const struct keyring *k, const char *purpose, const char *store)
{
	return find_epoch(k, purpose, store, 0);
}

int keyring_new(const char *kid, struct keyring **out)
{
	struct keyring *k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return -ENOMEM;
	r = keyring_file_set_kid(k->kid, kid);
	if (r) {
		keyring_free(k);
		return r;
	}
	*out = k;
	return 0;
}

void keyring_free(struct keyring *k)
{
	if (!k)
		return;
	keyring_lock(k);
	json_free(k->source);
	json_free(k->device);
	free(k->entries);
	free(k);
}

void keyring_freep(struct keyring **k)
{
	keyring_free(*k);
}

int keyring_copy(const struct keyring *k, struct keyring **out)
{
	_cleanup_(keyring_freep) struct keyring *copy = NULL;
	int r = keyring_reread(k, &copy);

	if (!r && k->kek)
		r = secret_new_copy(secret_cbytes(k->kek), secret_len(k->kek), &copy->kek);
	if (!r)
		*out = steal_ptr(&copy);
	return r;
}

void keyring_swap(struct keyring *a, struct keyring *b)
{
	struct keyring was = *a;

	*a = *b;
	*b = was;
}

int keyring_unlock(struct keyring *k, struct secret *kek)
{
	bool new = !k->n_entries; /* a new keyring takes the first key it is given */
	bool committed = new, named = new;

	if (secret_len(kek) != AEAD_KEY_LEN)
		return -EINVAL;
	for (size_t i = 0; i < k->n_entries; i++) {
		if (!entry_committed_to(&k->entries[i], kek))
			continue;
		committed = true;
		named = named || !strcmp(k->entries[i].kid, k->kid);
	}
	if (!committed)
		return CE_WRONG_KEY;
	/* The name at the top is authentic through the entries only. */
	if (!named)
		return CE_TAMPER;
	keyring_lock(k);
	k->kek = kek;
	return 0;
}

void keyring_lock(struct keyring *k)
{
	secret_free(k->kek);
	k->kek = NULL;
}

const char *keyring_kid(const struct keyring *k)
{
	return k->kid;
}

static int append(struct keyring *k, const struct keyring_entry *e)
{
	struct keyring_entry *grown =
		reallocarray(k->entries, k->n_entries + 1, sizeof(*k->entries));

	if (!grown)
		return -ENOMEM;
	k->entries = grown;
	k->entries[k->n_entries++] = *e;
	return 0;
}

/* A fresh key for what `e` says; *out is the caller's also on failure. */
static int add_key(struct keyring *k, struct keyring_entry *e, struct secret **out)
{
	int r = keyring_file_set_kid(e->kid, k->kid);

	if (!r)
		r = secret_new_random(AEAD_KEY_LEN, out);
	if (!r)
		r = entry_wrap(e, k->kek, *out);
	return r ? r : append(k, e);
}

int keyring_make(struct keyring *k, const char *purpose, const char *store, struct secret **out)
{
	struct keyring_entry e = { .epoch = 1, .created_at_s = clock_wall_ns() / NS_PER_SEC };
	_cleanup_secret_ struct secret *key = NULL;
	int r;

	if (!k->kek)
		return CE_LOCKED;
	if (find(k, purpose, store))
		return -EEXIST;
	r = keyring_file_set_names(&e, purpose, store);
	if (!r)
		r = add_key(k, &e, &key);
	if (r)
		return r;
	*out = steal_ptr(&key);
	return 0;
}

int keyring_get_epoch(struct keyring *k, const char *purpose, const char *store, uint64_t epoch,
	struct secret **out)
{
	const struct keyring_entry *e = find_epoch(k, purpose, store, epoch);

	if (!k->kek)
		return CE_LOCKED;
	return e ? entry_unwrap(e, k->kek, out) : -ENOENT;
}

int keyring_get(struct keyring *k, const char *purpose, const char *store, struct secret **out)
{
	return keyring_get_epoch(k, purpose, store, 0, out);
}

/* The age of a key does not go back with the clock. */
static int add_next(struct keyring *k, const struct keyring_entry *newest, uint64_t from)
{
	_cleanup_secret_ struct secret *key = NULL;
	struct keyring_entry e = *newest;

	e.epoch++;
	e.from = from;
	e.created_at_s = MAX_OF(e.created_at_s, clock_wall_ns() / NS_PER_SEC);
	return add_key(k, &e, &key);
}

int keyring_renew(struct keyring *k, uint64_t from, int dirfd)
{
	size_t n = k->n_entries;
	int r = k->kek ? 0 : CE_LOCKED;

	for (size_t i = 0; i < n && !r; i++) {
		struct keyring_entry e = k->entries[i];

		if (find(k, e.purpose, e.store)->epoch == e.epoch)
			r = add_next(k, &e, from);
	}
	if (!r)
		r = keyring_save(k, dirfd);
	if (r)
		k->n_entries = n;
	return r;
}

static bool is_old(const struct keyring *k, const struct keyring_entry *e)
{
	return find(k, e->purpose, e->store)->epoch != e->epoch;
}

/* The old ones wait behind the others until it is sure that they may go. */
int keyring_retire(struct keyring *k, int dirfd)
{
	size_t n = k->n_entries, kept = 0;
	int r;

	for (size_t i = 0; i < n; i++) {
		struct keyring_entry e = k->entries[i];

		if (is_old(k, &e))
			continue;
		k->entries[i] = k->entries[kept];
		k->entries[kept++] = e;
	}
	k->n_entries = kept;
	r = keyring_save_erasing(k, dirfd);
	if (r)
		k->n_entries = n;
	else
		memset(k->entries + kept, 0, (n - kept) * sizeof(*k->entries));
	return r;
}

static int entry_rewrap(struct keyring_entry *e, const struct secret *old_kek,
	const struct secret *kek, const char *kid)
{
	_cleanup_secret_ struct secret *key = NULL;
	int r = entry_unwrap(e, old_kek, &key);

	if (!r)
		r = keyring_file_set_kid(e->kid, kid);
	return r ? r : entry_wrap(e, kek, key);
}

int keyring_rewrap(struct keyring *k, struct secret *kek, const char *kid)
{
	_cleanup_free_ struct keyring_entry *entries = NULL;
	char new_kid[KEYRING_KID_MAX + 1];
	int r;

	if (!k->kek)
		return CE_LOCKED;
	if (secret_len(kek) != AEAD_KEY_LEN)
		return -EINVAL;
	r = keyring_file_set_kid(new_kid, kid);
	if (r)
		return r;
	entries = calloc(MAX_OF(k->n_entries, 1u), sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	for (size_t i = 0; i < k->n_entries; i++) {
		entries[i] = k->entries[i];
		r = entry_rewrap(&entries[i], k->kek, kek, new_kid);
		if (r)
			return r;
	}
	free(k->entries);
	k->entries = steal_ptr(&entries);
	memcpy(k->kid, new_kid, sizeof(new_kid));
	keyring_lock(k);
	k->kek = kek;
	return 0;
}

int keyring_entry(const struct keyring *k, size_t i, struct keyring_entry_info *out)
{
	const struct keyring_entry *e;

	if (i >= k->n_entries)
		return -ENOENT;
	e = &k->entries[i];
	*out = (struct keyring_entry_info){ .purpose = e->purpose,
		.store = e->store,
		.kid = e->kid,
		.epoch = e->epoch,
		.from = e->from,
		.created_at_s = e->created_at_s,
		.old = is_old(k, e) };
	return 0;
}

const struct json *keyring_source_params(const struct keyring *k)
{
	return k->source;
}

void keyring_set_source_params(struct keyring *k, struct json *params)
{
	json_free(k->source);
	k->source = params;
}

const struct json *keyring_device(const struct keyring *k)
{
	return k->device;
}

void keyring_set_device(struct keyring *k, struct json *record)
{
	json_free(k->device);
	k->device = record;
}

int keyring_drop(struct keyring *k, const char *purpose, const char *store)
{
	size_t kept = 0, n = k->n_entries;

	for (size_t i = 0; i < n; i++) {
		const struct keyring_entry *e = &k->entries[i];

		if (strcmp(e->purpose, purpose) != 0 || strcmp(e->store, store) != 0)
			k->entries[kept++] = *e;
	}
	k->n_entries = kept;
	return kept < n ? 0 : -ENOENT;
}
