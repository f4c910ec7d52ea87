/*
 * unsent.log. As records: bytes behind the seal are decoded, and what decodes encodes to the same
 * bytes. As a model: frames of such bytes, sealed into a log, are read as a whole. As a file: a log
 * changed anywhere gives frames that were written, in order, and nothing else; what is missing
 * before one that opens is told.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "cache/unsent_log.h"
#include "cache/unsent_model.h"
#include "fuzz.h"

#define FRAMES 12
#define FRAME_MAX 600

static struct secret *key;
static struct fuzz_bytes
	whole; /* a log of FRAMES frames; frame i is i + 1 times the byte i, and more */

static size_t frame(uint8_t out[static FRAME_MAX], uint64_t seq)
{
	size_t len = 1 + seq * 47 % FRAME_MAX;

	memset(out, (int)seq, len);
	return len;
}

static void path(char out[static 300])
{
	snprintf(out, 300, "%s/%s", fuzz_dir(), UNSENT_FILE);
}

static void prepare(void)
{
	static const uint8_t bytes[32] = { 9 };
	uint8_t data[FRAME_MAX];
	struct unsent_log *l;
	char file[300];
	uint64_t seq;

	if (key)
		return;
	FUZZ_CHECK(secret_new_copy(bytes, sizeof(bytes), &key) == 0);
	FUZZ_CHECK(unsent_log_make(fuzz_dirfd(), key, &l) == 0);
	for (uint64_t i = 1; i <= FRAMES; i++) {
		FUZZ_CHECK(unsent_log_append(l, data, frame(data, i), &seq) == 0);
		FUZZ_CHECK(seq == i);
	}
	FUZZ_CHECK(unsent_log_publish(l, fuzz_dirfd()) == 0);
	unsent_log_free(l);
	path(file);
	whole = fuzz_load(file);
}

/* --- records --- */

static void same(struct unsent_bytes body, enum unsent_kind kind, const struct buffer *b)
{
	FUZZ_CHECK(b->len == body.len + 5);
	FUZZ_CHECK((uint8_t)b->data[0] == (uint8_t)kind);
	FUZZ_CHECK(!memcmp(b->data + 5, body.p, body.len));
}

static void record(struct unsent_bytes body)
{
	_cleanup_unsent_ struct unsent_record r = { 0 };
	struct buffer b = { 0 };

	if (unsent_row_get_record(body, &r))
		return;
	FUZZ_CHECK(unsent_row_put_record(&b, &r) == 0);
	same(body, UNSENT_RECORD, &b);
	free(b.data);
}

static void content(struct unsent_bytes body)
{
	_cleanup_(unsent_content_done) struct unsent_content c = { 0 };
	struct buffer b = { 0 };

	if (unsent_row_get_content(body, &c))
		return;
	FUZZ_CHECK(unsent_row_put_content(&b, &c) == 0);
	same(body, UNSENT_CONTENT, &b);
	free(b.data);
}

static void volume_and_store(enum unsent_kind kind, struct unsent_bytes body)
{
	struct unsent_volume v;
	struct store_row s;
	struct buffer b = { 0 };

	if (kind == UNSENT_VOLUME && !unsent_row_get_volume(body, &v))
		FUZZ_CHECK(unsent_row_put_volume(&b, &v) == 0);
	else if (kind == UNSENT_STORE && !unsent_row_get_store(body, &s))
		FUZZ_CHECK(unsent_row_put_store(&b, &s) == 0);
	if (b.len)
		same(body, kind, &b);
	free(b.data);
}

static void one(enum unsent_kind kind, struct unsent_bytes body)
{
	struct row_rid rid;
	uint64_t n;

	switch (kind) {
	case UNSENT_RECORD:
		record(body);
		break;
	case UNSENT_CONTENT:
		content(body);
		break;
	case UNSENT_GONE:
		(void)!unsent_row_get_key(body, &n, &rid);
		break;
	case UNSENT_SYNCED:
		(void)!unsent_row_get_synced(body, &n);
		break;
	default:
		volume_and_store(kind, body);
	}
}

static void records(struct fuzz_input *in)
{
	struct unsent_bytes f = { in->data, in->len }, body;
	enum unsent_kind kind;

	while (unsent_row_next(&f, &kind, &body) == 1)
		one(kind, body);
}

/* --- the model --- */

static void model(struct fuzz_input *in)
{
	struct unsent_log *l;
	struct model m;
	uint64_t seq;

	FUZZ_CHECK(unsent_log_make(fuzz_dirfd(), key, &l) == 0);
	do {
		size_t n = fuzz_take(in, 2);

		n %= in->len + 1;
		FUZZ_CHECK(unsent_log_append(l, in->data, n, &seq) == 0);
		in->data += n;
		in->len -= n;
	} while (in->len);
	FUZZ_CHECK(unsent_log_publish(l, fuzz_dirfd()) == 0);
	unsent_log_free(l);
	if (unsent_model_load(fuzz_dirfd(), key, NULL, &m) == 0)
		unsent_model_done(&m);
}

/* --- the file --- */

struct seen {
	uint64_t last, n;
};

static int take(void *arg, uint64_t seq, const uint8_t *data, size_t len)
{
	struct seen *s = arg;
	uint8_t want[FRAME_MAX];

	FUZZ_CHECK(seq > s->last && seq <= FRAMES);
	FUZZ_CHECK(len == frame(want, seq) && !memcmp(data, want, len));
	s->last = seq;
	s->n++;
	return 0;
}

static void file(struct fuzz_input *in)
{
	struct seen s = { 0 };
	bool damaged = false, changed;
	char name[300];
	int r;

	path(name);
	changed = fuzz_store_changed(name, &whole, in);
	r = unsent_log_read(fuzz_dirfd(), key, NULL, take, &s, &damaged);
	FUZZ_CHECK(changed || (r == 0 && s.n == FRAMES));
	if (r == 0 && s.n != s.last)
		FUZZ_CHECK(damaged);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };

	prepare();
	switch (fuzz_take(&in, 1) % 3) {
	case 0:
		records(&in);
		break;
	case 1:
		model(&in);
		break;
	default:
		file(&in);
	}
	return 0;
}
