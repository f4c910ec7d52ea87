/*
 * CEKs stay unwrapped from their first use to volume_close (while it is locked they are zeros; who
 * borrows one keeps its address), one per store, found by the store's row id or by its opaque id. A
 * blob's key is derived for each use (BLAKE2b of 60 bytes, under 1 us) and wiped: kept per blob in
 * locked memory it would cost a page each, and RLIMIT_MEMLOCK is small.
 */
#include <errno.h>
#include <string.h>

#include <uthash.h>

#include "base/bytes.h"
#include "base/error.h"
#include "cache/volume_priv.h"
#include "crypto/kdf.h"

struct cek {
	uint64_t store;
	uint8_t ref[16];
	struct secret *key;
	UT_hash_handle hh;
};

struct ceks {
	pthread_mutex_t lock; /* leaf; also serialises the keyring */
	struct cek *by_store;
};

int keys_init(struct volume *v)
{
	struct ceks *ceks = calloc(1, sizeof(*ceks));

	if (!ceks)
		return -ENOMEM;
	pthread_mutex_init(&ceks->lock, NULL);
	v->ceks = ceks;
	return 0;
}

void keys_lock(struct volume *v)
{
	pthread_mutex_lock(&v->ceks->lock);
}

void keys_unlock(struct volume *v)
{
	pthread_mutex_unlock(&v->ceks->lock);
}

void keys_forget(struct volume *v)
{
	for (struct cek *c = v->ceks->by_store; c; c = c->hh.next)
		secret_wipe(secret_bytes(c->key), secret_len(c->key));
}

int keys_recall(struct volume *v)
{
	int r = 0;

	for (struct cek *c = v->ceks->by_store; c && !r; c = c->hh.next) {
		_cleanup_secret_ struct secret *key = NULL;
		char ref[2 * sizeof(c->ref) + 1];

		bytes_to_hex(c->ref, sizeof(c->ref), ref);
		r = keyring_get(v->keyring, KEYRING_PURPOSE_CEK, ref, &key);
		if (!r)
			memcpy(secret_bytes(c->key), secret_cbytes(key), secret_len(key));
	}
	return r;
}

void keys_free(struct volume *v)
{
	struct cek *c, *next;

	if (!v->ceks)
		return;
	HASH_ITER (hh, v->ceks->by_store, c, next) {
		HASH_DEL(v->ceks->by_store, c);
		secret_free(c->key);
		free(c);
	}
	pthread_mutex_destroy(&v->ceks->lock);
	free(v->ceks);
	v->ceks = NULL;
}

static struct cek *find(struct volume *v, uint64_t store)
{
	struct cek *c;

	HASH_FIND(hh, v->ceks->by_store, &store, sizeof(store), c);
	return c;
}

/* Keyring first, index second: a key whose store row is lost again costs nothing. */
static int load(struct volume *v, const char *ref, struct secret **out)
{
	struct secret *key;
	int r = keyring_get(v->keyring, KEYRING_PURPOSE_CEK, ref, &key);

	if (r == -ENOENT) {
		r = keyring_make(v->keyring, KEYRING_PURPOSE_CEK, ref, &key);
		if (r)
			return r;
		r = keyring_save(v->keyring, v->dirfd);
		if (r) {
			secret_free(key);
			return r;
		}
	}
	if (!r)
		*out = key;
	return r;
}

static int add(struct volume *v, uint64_t store, const char *ref, struct cek **out)
{
	struct cek *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->store = store;
	r = bytes_from_hex(ref, c->ref, sizeof(c->ref));
	if (!r)
		r = load(v, ref, &c->key);
	if (r) {
		free(c);
		return r;
	}
	HASH_ADD(hh, v->ceks->by_store, store, sizeof(c->store), c);
	*out = c;
	return 0;
}

int keys_cek(struct volume *v, uint64_t store, const char *ref, const struct secret **out)
{
	struct cek *c;
	int r = 0;

	pthread_mutex_lock(&v->ceks->lock);
	c = find(v, store);
	if (!c)
		r = add(v, store, ref, &c);
	pthread_mutex_unlock(&v->ceks->lock);
	if (!r)
		*out = c->key;
	return r;
}

int keys_store(struct volume *v, uint64_t store, uint8_t ref[static 16], const struct secret **out)
{
	struct store_row row;
	struct cek *c;
	int r;

	pthread_mutex_lock(&v->ceks->lock);
	c = find(v, store);
	pthread_mutex_unlock(&v->ceks->lock);
	if (!c) {
		r = store_get(v->db, store, &row);
		if (r)
			return r;
		pthread_mutex_lock(&v->ceks->lock);
		c = find(v, store);
		r = c ? 0 : add(v, store, row.ref, &c);
		pthread_mutex_unlock(&v->ceks->lock);
		if (r)
			return r;
	}
	memcpy(ref, c->ref, sizeof(c->ref));
	*out = c->key;
	return 0;
}

int keys_blob(const struct secret *cek, const uint8_t uuid[static 16], uint64_t epoch,
	uint8_t key[static 32])
{
	uint8_t epoch_le[8];
	const struct kdf_field fields[] = { { uuid, 16 }, { epoch_le, sizeof(epoch_le) } };

	store_le64(epoch_le, epoch);
	return kdf_blake2b(secret_cbytes(cek), KDF_LABEL_BLOB, fields, ARRAY_SIZE(fields), key);
}
