/*
 * CEKs stay unwrapped from their first use to volume_close (while it is locked they are zeros; who
 * borrows one keeps its address), a chain per store, found by the store's row id or by its opaque
 * id. A blob's key is derived for each use (BLAKE2b of 60 bytes, under 1 us) and wiped: kept per
 * blob in locked memory it would cost a page each, and RLIMIT_MEMLOCK is small.
 *
 * Epochs. Which CEK seals a chunk follows from its sequence number alone: the newest whose `from`
 * is not above it. So two epochs live side by side in one blob, and each row says which is its own.
 * A new epoch begins at a number that no seal has yet: keys_renew() takes one ahead of the counter
 * and has the keyring saved; keys_advance() hangs the new keys into the chains, and only then lets
 * the counter jump there. Who seals meanwhile has a number below, and the old key for it.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "cache/table.h"
#include "cache/volume_priv.h"
#include "crypto/kdf.h"

/* Seals that may take a number while the keyring is being saved. */
#define AHEAD (UINT64_C(1) << 20)

struct cek {
	uint64_t epoch, from;
	struct secret *key; /* zeros while locked, and for ever when it is retired */
	struct cek *older;
};

struct keys_store {
	uint64_t store;
	uint8_t ref[16];
	_Atomic(struct cek *) newest;
	UT_hash_handle hh;
};

struct ceks {
	pthread_mutex_t lock; /* leaf; also serialises the keyring */
	struct keys_store *by_store;
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

static void cek_free(struct cek *c)
{
	struct cek *older;

	for (; c; c = older) {
		older = c->older;
		secret_free(c->key);
		free(c);
	}
}

static void keys_store_free(struct keys_store *s)
{
	cek_free(atomic_load(&s->newest));
	free(s);
}

void keys_forget(struct volume *v)
{
	for (struct keys_store *s = v->ceks->by_store; s; s = s->hh.next)
		for (struct cek *c = atomic_load(&s->newest); c; c = c->older)
			secret_wipe(secret_bytes(c->key), secret_len(c->key));
}

/* What is not in the keyring was retired: its zeros stay. */
static int recall(struct volume *v, const char *ref, struct cek *c)
{
	_cleanup_secret_ struct secret *key = NULL;
	int r = keyring_get_epoch(v->keyring, KEYRING_PURPOSE_CEK, ref, c->epoch, &key);

	if (!r)
		memcpy(secret_bytes(c->key), secret_cbytes(key), secret_len(key));
	return r == -ENOENT && atomic_load(&v->rekeyed) ? 0 : r;
}

int keys_recall(struct volume *v)
{
	int r = 0;

	for (struct keys_store *s = v->ceks->by_store; s && !r; s = s->hh.next) {
		char ref[2 * sizeof(s->ref) + 1];

		bytes_to_hex(s->ref, sizeof(s->ref), ref);
		for (struct cek *c = atomic_load(&s->newest); c && !r; c = c->older)
			r = recall(v, ref, c);
	}
	return r;
}

void keys_free(struct volume *v)
{
	struct keys_store *s, *next;

	if (!v->ceks)
		return;
	HASH_ITER (hh, v->ceks->by_store, s, next) {
		HASH_DEL(v->ceks->by_store, s);
		keys_store_free(s);
	}
	pthread_mutex_destroy(&v->ceks->lock);
	free(v->ceks);
	v->ceks = NULL;
}

static struct keys_store *find(struct volume *v, uint64_t store)
{
	struct keys_store *s;

	HASH_FIND(hh, v->ceks->by_store, &store, sizeof(store), s);
	return s;
}

/* Takes its place at the head of the chain if it is the newest there, else behind newer ones. */
static void hang(struct keys_store *s, struct cek *c)
{
	struct cek *at = atomic_load(&s->newest);

	if (!at || at->epoch < c->epoch) {
		c->older = at;
		atomic_store(&s->newest, c);
		return;
	}
	while (at->older && at->older->epoch > c->epoch)
		at = at->older;
	c->older = at->older;
	at->older = c;
}

static bool has_epoch(const struct keys_store *s, uint64_t epoch)
{
	const struct cek *c = atomic_load(&s->newest);

	while (c && c->epoch != epoch)
		c = c->older;
	return c;
}

/* The epochs of the store that are in the keyring and not in the chain. */
static int load(struct volume *v, struct keys_store *s, const char *ref)
{
	struct keyring_entry_info e;
	int r = 0;

	for (size_t i = 0; !r && !keyring_entry(v->keyring, i, &e); i++) {
		struct cek *c;

		if (strcmp(e.purpose, KEYRING_PURPOSE_CEK) != 0 || strcmp(e.store, ref) != 0 ||
			has_epoch(s, e.epoch))
			continue;
		c = calloc(1, sizeof(*c));
		if (!c)
			return -ENOMEM;
		c->epoch = e.epoch;
		c->from = e.from;
		r = keyring_get_epoch(v->keyring, e.purpose, ref, e.epoch, &c->key);
		if (r)
			free(c);
		else
			hang(s, c);
	}
	return r;
}

/* Keyring first, index second: a key whose store row is lost again costs nothing. */
static int make(struct volume *v, const char *ref)
{
	_cleanup_secret_ struct secret *key = NULL;
	int r = keyring_make(v->keyring, KEYRING_PURPOSE_CEK, ref, &key);

	return r ? r : keyring_save(v->keyring, v->dirfd);
}

static int add(struct volume *v, uint64_t store, const char *ref, struct keys_store **out)
{
	struct keys_store *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->store = store;
	r = bytes_from_hex(ref, s->ref, sizeof(s->ref));
	if (!r)
		r = load(v, s, ref);
	if (!r && !atomic_load(&s->newest)) {
		r = make(v, ref);
		if (!r)
			r = load(v, s, ref);
	}
	if (!r)
		r = TABLE_ADD(hh, v->ceks->by_store, store, s);
	if (r) {
		keys_store_free(s);
		return r;
	}
	*out = s;
	return 0;
}

int keys_make(struct volume *v, uint64_t store, const char *ref)
{
	struct keys_store *s;
	int r = 0;

	pthread_mutex_lock(&v->ceks->lock);
	if (!find(v, store))
		r = add(v, store, ref, &s);
	pthread_mutex_unlock(&v->ceks->lock);
	return r;
}

int keys_store(
	struct volume *v, uint64_t store, uint8_t ref[static 16], const struct keys_store **out)
{
	struct store_row row;
	struct keys_store *s;
	int r;

	pthread_mutex_lock(&v->ceks->lock);
	s = find(v, store);
	pthread_mutex_unlock(&v->ceks->lock);
	if (!s) {
		r = store_get(v->db, store, &row);
		if (r)
			return r;
		pthread_mutex_lock(&v->ceks->lock);
		s = find(v, store);
		r = s ? 0 : add(v, store, row.ref, &s);
		pthread_mutex_unlock(&v->ceks->lock);
		if (r)
			return r;
	}
	memcpy(ref, s->ref, sizeof(s->ref));
	*out = s;
	return 0;
}

static const struct cek *cek_of(const struct keys_store *s, uint64_t seq)
{
	const struct cek *c = atomic_load(&s->newest);

	while (c && seq < c->from)
		c = c->older;
	return c;
}

uint64_t keys_epoch(const struct keys_store *s, uint64_t seq)
{
	const struct cek *c = cek_of(s, seq);

	return c ? c->epoch : 0;
}

int keys_blob(const struct keys_store *s, const uint8_t uuid[static 16], uint64_t seq,
	uint8_t key[static 32])
{
	const struct cek *c = cek_of(s, seq);
	uint8_t epoch_le[8];
	const struct kdf_field fields[] = { { uuid, 16 }, { epoch_le, sizeof(epoch_le) } };

	if (!c)
		return CE_TAMPER; /* nothing is sealed under a key that is gone */
	store_le64(epoch_le, c->epoch);
	return kdf_blake2b(secret_cbytes(c->key), KDF_LABEL_BLOB, fields, ARRAY_SIZE(fields), key);
}

/* --- rekey --- */

static bool any_old(struct volume *v)
{
	struct keyring_entry_info e;
	bool old = false;

	for (size_t i = 0; !old && !keyring_entry(v->keyring, i, &e); i++)
		old = e.old;
	return old;
}

bool keys_are_old(struct volume *v)
{
	bool old;

	keys_lock(v);
	old = any_old(v);
	keys_unlock(v);
	return old;
}

uint64_t keys_from(struct volume *v)
{
	struct keyring_entry_info e;
	uint64_t from = 0;

	keys_lock(v);
	for (size_t i = 0; !keyring_entry(v->keyring, i, &e); i++)
		from = MAX_OF(from, e.from);
	keys_unlock(v);
	return from;
}

int64_t keys_made_at_s(struct volume *v, uint64_t *epoch)
{
	struct keyring_entry_info e;
	int64_t at = 0;

	*epoch = 0;
	keys_lock(v);
	for (size_t i = 0; !keyring_entry(v->keyring, i, &e); i++) {
		if (strcmp(e.purpose, KEYRING_PURPOSE_INDEX) != 0 || e.old)
			continue;
		at = e.created_at_s;
		*epoch = e.epoch;
	}
	keys_unlock(v);
	return at;
}

static int load_all(struct volume *v)
{
	int r = 0;

	for (struct keys_store *s = v->ceks->by_store; s && !r; s = s->hh.next) {
		char ref[2 * sizeof(s->ref) + 1];

		bytes_to_hex(s->ref, sizeof(s->ref), ref);
		r = load(v, s, ref);
	}
	return r;
}

int keys_renew(struct volume *v)
{
	int r = FAILPOINT("rekey-begin");

	keys_lock(v);
	if (!r && any_old(v))
		r = -EALREADY;
	if (!r)
		r = keyring_renew(v->keyring, atomic_load(&v->chunk_seq) + AHEAD, v->dirfd);
	keys_unlock(v);
	return r ? r : FAILPOINT("rekey-keyring");
}

int keys_advance(struct volume *v)
{
	uint64_t from = keys_from(v), seq = atomic_load(&v->chunk_seq);
	int r;

	keys_lock(v);
	r = load_all(v);
	while (!r && seq < from && !atomic_compare_exchange_weak(&v->chunk_seq, &seq, from))
		;
	keys_unlock(v);
	return r;
}

int keys_retire(struct volume *v)
{
	int r;

	keys_lock(v);
	r = keyring_retire(v->keyring, v->dirfd);
	if (!r)
		atomic_store(&v->rekeyed, true);
	for (struct keys_store *s = v->ceks->by_store; s && !r; s = s->hh.next)
		for (struct cek *c = atomic_load(&s->newest)->older; c; c = c->older)
			secret_wipe(secret_bytes(c->key), secret_len(c->key));
	keys_unlock(v);
	return r;
}
