/* keyring.json as anybody may have written it: no crash, and what opens is the key that was made.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/secret.h"
#include "crypto/keyring.h"
#include "fuzz.h"

static struct fuzz_bytes text;
static struct secret *index_key;
static char path[128];

static struct secret *kek(void)
{
	uint8_t bytes[32];
	struct secret *s;

	memset(bytes, 9, sizeof(bytes));
	FUZZ_CHECK(secret_new_copy(bytes, sizeof(bytes), &s) == 0);
	return s;
}

static void prepare(void)
{
	struct keyring *k;

	if (text.data)
		return;
	snprintf(path, sizeof(path), "%s/" KEYRING_FILE, fuzz_dir());
	FUZZ_CHECK(keyring_new("kek-1", &k) == 0);
	FUZZ_CHECK(keyring_unlock(k, kek()) == 0);
	FUZZ_CHECK(keyring_make(k, KEYRING_PURPOSE_INDEX, "", &index_key) == 0);
	FUZZ_CHECK(keyring_save(k, fuzz_dirfd()) == 0);
	keyring_free(k);
	text = fuzz_load(path);
}

static void use(struct keyring *k)
{
	struct keyring_entry_info info;
	struct secret *s = kek(), *got;

	for (size_t i = 0; keyring_entry(k, i, &info) == 0; i++)
		FUZZ_CHECK(info.purpose && info.store && info.kid);
	if (keyring_unlock(k, s)) {
		secret_free(s);
		return;
	}
	if (keyring_get(k, KEYRING_PURPOSE_INDEX, "", &got))
		return;
	FUZZ_CHECK(!memcmp(secret_bytes(got), secret_bytes(index_key), 32));
	secret_free(got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct fuzz_bytes b = { 0 };
	struct keyring *k = NULL;

	prepare();
	if (fuzz_take(&in, 1) & 1) {
		b.data = malloc(in.len + 1);
		FUZZ_CHECK(b.data);
		memcpy(b.data, in.data, in.len);
		b.len = in.len;
	} else {
		b.data = malloc(text.len);
		FUZZ_CHECK(b.data);
		memcpy(b.data, text.data, text.len);
		b.len = text.len;
		while (in.len)
			fuzz_mutate(&b, &in);
	}
	fuzz_store(path, &b);
	free(b.data);
	if (keyring_load(fuzz_dirfd(), &k) == 0) {
		use(k);
		keyring_free(k);
	}
	return 0;
}
