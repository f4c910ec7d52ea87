/*
 * The text form of a keyring. Reading is strict: an unknown or missing member is CE_FORMAT, so that
 * no byte of the file can be changed and still be passed over.
 */
#include "crypto/keyring.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/io.h"
#include "crypto/keyring_priv.h"

#define ENTRY_MEMBERS 7u
#define WRAPPED_MEMBERS 2

int keyring_file_set_kid(char out[static KEYRING_KID_MAX + 1], const char *kid)
{
	size_t len = strlen(kid);

	if (!len || len > KEYRING_KID_MAX)
		return CE_FORMAT;
	for (size_t i = 0; i < len; i++)
		if (kid[i] <= ' ' || kid[i] > '~')
			return CE_FORMAT;
	memmove(out, kid, len + 1);
	return 0;
}

static bool is_purpose(const char *text)
{
	size_t len = strlen(text);

	return len && len <= KEYRING_PURPOSE_MAX &&
	       strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

static bool is_store(const char *text)
{
	size_t len = strlen(text);

	return !len || (len == KEYRING_STORE_LEN && strspn(text, "0123456789abcdef") == len);
}

int keyring_file_set_names(struct keyring_entry *e, const char *purpose, const char *store)
{
	if (!is_purpose(purpose) || !is_store(store))
		return CE_FORMAT;
	memcpy(e->purpose, purpose, strlen(purpose) + 1);
	memcpy(e->store, store, strlen(store) + 1);
	return 0;
}

static int read_names(const struct json *obj, struct keyring_entry *e)
{
	const char *purpose, *store, *kid;
	int r = json_get_string(obj, "purpose", &purpose);

	if (!r)
		r = json_get_string(obj, "store", &store);
	if (!r)
		r = json_get_string(obj, "kid", &kid);
	if (!r)
		r = keyring_file_set_names(e, purpose, store);
	return r ? r : keyring_file_set_kid(e->kid, kid);
}

static int read_entry(const struct json *obj, struct keyring_entry *e)
{
	const struct json *wrapped;
	int r;

	if (!json_is_object(obj) || json_count(obj) != ENTRY_MEMBERS + json_has(obj, "from"))
		return CE_FORMAT;
	r = read_names(obj, e);
	if (!r && json_has(obj, "from"))
		r = json_get_u64(obj, "from", &e->from);
	if (!r && json_has(obj, "from") && !e->from)
		r = CE_FORMAT;
	if (!r)
		r = json_get_u64(obj, "epoch", &e->epoch);
	if (!r)
		r = json_get_i64(obj, "createdAt", &e->created_at_s);
	if (!r)
		r = json_get_bytes(obj, "commit", e->commit, sizeof(e->commit));
	if (!r)
		r = json_get(obj, "wrappedCEK", &wrapped);
	if (r)
		return r;
	if (!json_is_object(wrapped) || json_count(wrapped) != WRAPPED_MEMBERS)
		return CE_FORMAT;
	r = json_get_bytes(wrapped, "iv", e->iv, sizeof(e->iv));
	return r ? r : json_get_bytes(wrapped, "ct", e->ct, sizeof(e->ct));
}

static bool same_place(const struct keyring_entry *a, const struct keyring_entry *b)
{
	return a->epoch == b->epoch && !strcmp(a->purpose, b->purpose) &&
	       !strcmp(a->store, b->store);
}

/* Entries are few: one per store. */
static int read_entries(const struct json *array, struct keyring *k)
{
	size_t n = json_count(array);

	k->entries = calloc(MAX_OF(n, 1u), sizeof(*k->entries));
	if (!k->entries)
		return -ENOMEM;
	for (const struct json *v = json_first(array); v; v = json_next(v)) {
		struct keyring_entry *e = &k->entries[k->n_entries];
		int r = read_entry(v, e);

		if (r)
			return r;
		for (size_t i = 0; i < k->n_entries; i++)
			if (same_place(&k->entries[i], e))
				return CE_FORMAT;
		k->n_entries++;
	}
	return 0;
}

static int read_header(const struct json *root, size_t members)
{
	const char *format;
	uint64_t v;

	if (!json_is_object(root) || json_count(root) != members)
		return CE_FORMAT;
	if (json_get_string(root, "format", &format) || strcmp(format, KEYRING_FORMAT) != 0)
		return CE_FORMAT;
	return json_get_u64(root, "v", &v) || v != KEYRING_VERSION ? CE_FORMAT : 0;
}

static int read_root(const struct json *root, struct keyring *k)
{
	const struct json *entries, *source = NULL, *device = NULL;
	const char *kid;
	int r = read_header(root, 4u + json_has(root, "source") + json_has(root, "device"));

	if (!r)
		r = json_get_string(root, "kid", &kid);
	if (!r)
		r = keyring_file_set_kid(k->kid, kid);
	if (!r)
		r = json_get_array(root, "entries", &entries);
	if (!r)
		r = read_entries(entries, k);
	if (!r && !json_get(root, "source", &source))
		r = json_is_object(source) ? json_copy(source, &k->source) : CE_FORMAT;
	if (!r && !json_get(root, "device", &device))
		r = json_is_object(device) ? json_copy(device, &k->device) : CE_FORMAT;
	return r;
}

static int from_text(const char *text, size_t len, struct keyring **out)
{
	_cleanup_json_ struct json *root = NULL;
	struct keyring *k;
	int r = json_parse(text, len, &root);

	if (r)
		return r;
	k = calloc(1, sizeof(*k));
	if (!k)
		return -ENOMEM;
	r = read_root(root, k);
	if (r) {
		keyring_free(k);
		return r;
	}
	*out = k;
	return 0;
}

int keyring_load(int dirfd, struct keyring **out)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = io_read_file(dirfd, KEYRING_FILE, KEYRING_FILE_MAX, &text, &len);

	if (r)
		return r == -EFBIG ? CE_FORMAT : r;
	return from_text(text, len, out);
}

static void write_entry(struct json *obj, const struct keyring_entry *e)
{
	struct json *wrapped;

	json_set_string(obj, "purpose", e->purpose);
	json_set_string(obj, "store", e->store);
	wrapped = json_set_object(obj, "wrappedCEK");
	json_set_bytes(wrapped, "iv", e->iv, sizeof(e->iv));
	json_set_bytes(wrapped, "ct", e->ct, sizeof(e->ct));
	json_set_string(obj, "kid", e->kid);
	json_set_u64(obj, "epoch", e->epoch);
	if (e->from)
		json_set_u64(obj, "from", e->from);
	json_set_bytes(obj, "commit", e->commit, sizeof(e->commit));
	json_set_i64(obj, "createdAt", e->created_at_s);
}

static int to_text(const struct keyring *k, char **out)
{
	_cleanup_json_ struct json *root = json_new_object();
	struct json *entries;

	json_set_string(root, "format", KEYRING_FORMAT);
	json_set_u64(root, "v", KEYRING_VERSION);
	json_set_string(root, "kid", k->kid);
	if (k->source)
		json_set_copy(root, "source", k->source);
	if (k->device)
		json_set_copy(root, "device", k->device);
	entries = json_set_array(root, "entries");
	for (size_t i = 0; i < k->n_entries; i++)
		write_entry(json_append_object(entries), &k->entries[i]);
	return json_print(root, true, out);
}

int keyring_save(const struct keyring *k, int dirfd)
{
	_cleanup_free_ char *text = NULL;
	int r = to_text(k, &text);

	return r ? r : io_publish(dirfd, KEYRING_FILE, text, strlen(text), 0600);
}

int keyring_reread(const struct keyring *k, struct keyring **out)
{
	_cleanup_free_ char *text = NULL;
	int r = to_text(k, &text);

	return r ? r : from_text(text, strlen(text), out);
}

int keyring_save_erasing(const struct keyring *k, int dirfd)
{
	_cleanup_fd_ int old = openat(dirfd, KEYRING_FILE, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	static const char zeros[4096];
	struct stat st;
	int r = keyring_save(k, dirfd);

	if (r || old < 0 || fstat(old, &st) < 0)
		return r;
	/* The old wraps are out of reach by name already; this is the best that can be done for
	 * their blocks, and its failure changes nothing. */
	for (off_t at = 0; at < st.st_size; at += (off_t)sizeof(zeros))
		if (io_pwrite_full(old, zeros, sizeof(zeros), at))
			break;
	(void)!fdatasync(old);
	return 0;
}
