/* A bundle opens whole as it was written or not at all, and what comes out on the way is a prefix.
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "crypto/bundle.h"
#include "fuzz.h"

#define CONTENT_LEN (3 * 65536 + 777)

static const uint8_t key[BUNDLE_KEY_LEN] = { 5, 6, 7 };
static uint8_t content[CONTENT_LEN];
static struct fuzz_bytes bundle;

static int append(void *arg, const void *data, size_t len)
{
	struct fuzz_bytes *b = arg;

	b->data = realloc(b->data, b->len + len);
	FUZZ_CHECK(b->data);
	memcpy(b->data + b->len, data, len);
	b->len += len;
	return 0;
}

static ssize_t from_memory(void *arg, void *buf, size_t len)
{
	struct fuzz_input *in = arg;

	len = len < in->len ? len : in->len;
	memcpy(buf, in->data, len);
	in->data += len;
	in->len -= len;
	return (ssize_t)len;
}

static void prepare(void)
{
	struct bundle_sink sink = { append, &bundle };
	struct bundle_writer *w;

	if (bundle.data)
		return;
	for (size_t i = 0; i < CONTENT_LEN; i++)
		content[i] = (uint8_t)(i * 131 >> 3);
	FUZZ_CHECK(bundle_writer_new(key, BUNDLE_TAR, &sink, &w) == 0);
	FUZZ_CHECK(bundle_write(w, content, CONTENT_LEN) == 0 && bundle_finish(w) == 0);
	bundle_writer_free(w);
}

/* Bytes read; *whole when the verified end was reached. */
static size_t read_all(struct fuzz_input in, bool *whole)
{
	struct bundle_source source = { from_memory, &in };
	struct bundle_reader *r;
	uint8_t buf[10000];
	size_t at = 0, n;

	*whole = false;
	if (bundle_reader_new(key, &source, &r))
		return 0;
	for (;;) {
		if (bundle_read(r, buf, sizeof(buf), &n))
			break;
		*whole = n == 0;
		if (*whole)
			break;
		FUZZ_CHECK(at + n <= CONTENT_LEN && !memcmp(buf, content + at, n));
		at += n;
	}
	bundle_reader_free(r);
	return at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct fuzz_bytes b;
	size_t n;
	bool whole;

	prepare();
	if (fuzz_take(&in, 1) & 1) {
		n = read_all(in, &whole);
		FUZZ_CHECK(!whole);
		return 0;
	}
	b = (struct fuzz_bytes){ malloc(bundle.len), bundle.len };
	FUZZ_CHECK(b.data);
	memcpy(b.data, bundle.data, b.len);
	for (unsigned i = 0; i < 3 && in.len; i++)
		fuzz_mutate(&b, &in);
	n = read_all((struct fuzz_input){ b.data, b.len }, &whole);
	if (whole)
		FUZZ_CHECK(n == CONTENT_LEN && b.len == bundle.len &&
			   !memcmp(b.data, bundle.data, b.len));
	free(b.data);
	return 0;
}
