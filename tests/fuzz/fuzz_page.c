/* A page or log frame opens only as it was sealed, at its place, and never crashes the opener. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "fuzz.h"
#include "meta/page.h"

static struct page_keys keys;

static void prepare(void)
{
	static const uint8_t bytes[32] = { 7 };
	struct secret *key;

	if (keys.page)
		return;
	FUZZ_CHECK(secret_new_copy(bytes, sizeof(bytes), &key) == 0);
	FUZZ_CHECK(page_keys_init(&keys, key) == 0);
	secret_free(key);
}

static void fill(uint8_t *out, size_t len, struct fuzz_input *in)
{
	memset(out, (int)fuzz_take(in, 1), len);
	for (size_t i = 0; i < 16; i++)
		out[fuzz_take(in, 2) % len] = (uint8_t)fuzz_take(in, 1);
}

static bool change(uint8_t *data, size_t len, struct fuzz_input *in)
{
	struct fuzz_bytes b = { malloc(len), len };
	bool changed;

	FUZZ_CHECK(b.data);
	memcpy(b.data, data, len);
	changed = fuzz_mutate(&b, in);
	if (b.len < len)
		memset(data, 0, len);
	memcpy(data, b.data, b.len < len ? b.len : len);
	free(b.data);
	return changed;
}

static void page(struct fuzz_input *in)
{
	uint8_t plain[PAGE_SIZE_BYTES], sealed[PAGE_SIZE_BYTES], before[PAGE_SIZE_BYTES],
		opened[PAGE_SIZE_BYTES];
	uint32_t pgno = (uint32_t)fuzz_take(in, 4), at;

	fill(plain, PAGE_BODY_LEN, in);
	memset(plain + PAGE_BODY_LEN, 0, PAGE_RESERVE);
	FUZZ_CHECK(page_seal(&keys, pgno, plain, sealed) == 0);
	memcpy(before, sealed, sizeof(before));
	change(sealed, sizeof(sealed), in);
	at = fuzz_take(in, 1) ? pgno : (uint32_t)fuzz_take(in, 4);
	if (page_open(&keys, at, sealed, opened) == 0) {
		FUZZ_CHECK(at == pgno && !memcmp(before, sealed, sizeof(before)));
		FUZZ_CHECK(!memcmp(opened, plain, sizeof(plain)));
	} else {
		FUZZ_CHECK(at != pgno || memcmp(before, sealed, sizeof(before)));
	}
}

static void frame(struct fuzz_input *in)
{
	uint8_t header[PAGE_FRAME_HEADER_LEN], plain[PAGE_SIZE_BYTES], sealed[PAGE_FRAME_LEN],
		before[PAGE_FRAME_LEN], opened[PAGE_FRAME_LEN];
	uint64_t offset = fuzz_take(in, 6), at;

	fill(header, sizeof(header), in);
	fill(plain, PAGE_BODY_LEN, in);
	memset(plain + PAGE_BODY_LEN, 0, PAGE_RESERVE);
	FUZZ_CHECK(page_frame_seal(
			   &keys, offset, (uint32_t)fuzz_take(in, 4), header, plain, sealed) == 0);
	memcpy(before, sealed, sizeof(before));
	change(sealed, sizeof(sealed), in);
	at = fuzz_take(in, 1) ? offset : fuzz_take(in, 6);
	if (page_frame_open(&keys, at, sealed, opened) == 0) {
		FUZZ_CHECK(at == offset && !memcmp(before, sealed, sizeof(before)));
		FUZZ_CHECK(!memcmp(opened, header, sizeof(header)));
		FUZZ_CHECK(!memcmp(opened + sizeof(header), plain, sizeof(plain)));
	} else {
		FUZZ_CHECK(at != offset || memcmp(before, sealed, sizeof(before)));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };

	prepare();
	if (fuzz_take(&in, 1) & 1)
		page(&in);
	else
		frame(&in);
	return 0;
}
