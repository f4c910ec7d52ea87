/* The sealed bundle: every length comes back, no change of it does. */
#include <errno.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/io.h"
#include "crypto/bundle.h"
#include "crypto/bundle_format.h"
#include "crypto/kdf.h"

#include "unit.h"

#define HEADER sizeof(struct bundle_header)
#define CHUNK ((size_t)BUNDLE_CHUNK_LEN)
#define SEALED ((size_t)BUNDLE_SEALED_LEN)

static const uint8_t key[32] = "0123456789abcdef0123456789abcde";

/* A bundle in memory, and a place in it; `step` bounds what one read gives. */
struct memory {
	struct buffer b;
	size_t at, step;
	int fail; /* what a read beyond `at` gives instead, or 0 */
};

static int memory_write(void *arg, const void *data, size_t len)
{
	return buffer_append(&((struct memory *)arg)->b, data, len);
}

static ssize_t memory_read(void *arg, void *buf, size_t len)
{
	struct memory *m = arg;
	size_t n = MIN_OF(len, m->b.len - m->at);

	if (m->step)
		n = MIN_OF(n, m->step);
	if (!n && m->fail)
		return m->fail;
	memcpy(buf, m->b.data + m->at, n);
	m->at += n;
	return (ssize_t)n;
}

static uint8_t *content(size_t len)
{
	uint8_t *p = malloc(len + 1);

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(i * 31 + i / CHUNK);
	return p;
}

/* `len` bytes of content(), in writes of `piece`. */
static void seal(struct memory *m, size_t len, size_t piece)
{
	struct bundle_sink sink = { memory_write, m };
	_cleanup_free_ uint8_t *plain = content(len);
	struct bundle_writer *w;

	*m = (struct memory){ 0 };
	assert_int_equal(bundle_writer_new(key, BUNDLE_TAR, &sink, &w), 0);
	for (size_t at = 0; at < len; at += piece)
		assert_int_equal(bundle_write(w, plain + at, MIN_OF(piece, len - at)), 0);
	assert_int_equal(bundle_finish(w), 0);
	bundle_writer_free(w);
}

/* Opens all of it: the code, and how much was handed out. What is handed out must be right. */
static int open_all(struct memory *m, const uint8_t *with, size_t *got)
{
	struct bundle_source source = { memory_read, m };
	_cleanup_free_ uint8_t *plain = content(4 * CHUNK);
	struct bundle_reader *r;
	uint8_t buf[3000];
	size_t n;
	int e;

	*got = 0;
	m->at = 0;
	e = bundle_reader_new(with, &source, &r);
	if (e)
		return e;
	while (!(e = bundle_read(r, buf, sizeof(buf), &n)) && n) {
		assert_true(*got + n <= 4 * CHUNK);
		assert_memory_equal(buf, plain + *got, n);
		*got += n;
	}
	if (e) /* a reader that failed goes on failing */
		assert_int_equal(bundle_read(r, buf, sizeof(buf), &n), e);
	bundle_reader_free(r);
	m->at = 0;
	assert_int_equal(bundle_verify(with, &source), e);
	return e;
}

static void any_length_in_any_pieces_comes_back(void **state)
{
	const size_t lens[] = { 0, 1, 100, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK - 7 };
	const size_t pieces[] = { 1000, CHUNK, 4 * CHUNK };
	struct memory m;
	size_t got;

	for (size_t i = 0; i < ARRAY_SIZE(lens); i++)
		for (size_t j = 0; j < ARRAY_SIZE(pieces); j++) {
			size_t chunks = lens[i] ? (lens[i] + CHUNK - 1) / CHUNK : 1;

			seal(&m, lens[i], pieces[j]);
			assert_int_equal(m.b.len, HEADER + lens[i] + chunks * AEAD_TAG_LEN);
			m.step = pieces[j] + 1;
			assert_int_equal(open_all(&m, key, &got), 0);
			assert_int_equal(got, lens[i]);
			buffer_done(&m.b);
		}
}

static void two_bundles_of_one_key_share_nothing(void **state)
{
	struct memory a, b;

	seal(&a, 1000, 1000);
	seal(&b, 1000, 1000);
	assert_memory_not_equal(a.b.data + 16, b.b.data + 16, BUNDLE_SALT_LEN);
	assert_memory_not_equal(a.b.data + HEADER, b.b.data + HEADER, 64);
	buffer_done(&a.b);
	buffer_done(&b.b);
}

static void another_key_opens_nothing(void **state)
{
	uint8_t other[32];
	struct memory m;
	size_t got;

	seal(&m, 1000, 1000);
	for (int bit = 0; bit < 256; bit += 17) {
		memcpy(other, key, sizeof(other));
		other[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(open_all(&m, other, &got), CE_WRONG_KEY);
	}
	buffer_done(&m.b);
}

/* Whatever byte is changed, the end is never reached, and what came before it was true. */
static void any_changed_byte_is_seen(void **state)
{
	struct memory m;
	size_t got;

	seal(&m, CHUNK + 300, CHUNK);
	for (size_t i = 0; i < m.b.len;
		i += i < HEADER + 20 || i > HEADER + SEALED - 20 ? 1 : 997) {
		int e;

		m.b.data[i] ^= 0x10;
		e = open_all(&m, key, &got);
		assert_true(
			e == CE_TAMPER || (i < HEADER && (e == CE_FORMAT || e == CE_WRONG_KEY)));
		assert_true(got <= CHUNK);
		if (i < HEADER + SEALED)
			assert_int_equal(got, 0);
		m.b.data[i] ^= 0x10;
	}
	assert_int_equal(open_all(&m, key, &got), 0);
	buffer_done(&m.b);
}

static void a_cut_at_any_byte_is_seen(void **state)
{
	struct memory m;
	size_t got, whole;

	seal(&m, 2 * CHUNK, CHUNK);
	whole = m.b.len;
	for (size_t len = 0; len < whole; len += len < HEADER + 20 ? 1 : 331) {
		m.b.len = len;
		assert_int_equal(open_all(&m, key, &got), len < 8 ? CE_FORMAT : CE_TAMPER);
	}
	/* at the borders of chunks */
	m.b.len = HEADER;
	assert_int_equal(open_all(&m, key, &got), CE_TAMPER);
	m.b.len = HEADER + SEALED;
	assert_int_equal(open_all(&m, key, &got), CE_TAMPER);
	assert_int_equal(got, 0);
	buffer_done(&m.b);
}

static void bytes_behind_the_end_are_seen(void **state)
{
	_cleanup_free_ char *zeros = calloc(1, 2 * SEALED);
	const size_t extra[] = { 1, AEAD_TAG_LEN, SEALED - 1, SEALED, SEALED + 1, 2 * SEALED };
	struct memory m;
	size_t got;

	for (size_t len = 0; len <= CHUNK; len += CHUNK / 2)
		for (size_t i = 0; i < ARRAY_SIZE(extra); i++) {
			seal(&m, len, CHUNK);
			assert_int_equal(buffer_append(&m.b, zeros, extra[i]), 0);
			assert_int_equal(open_all(&m, key, &got), CE_TAMPER);
			assert_int_equal(got, 0);
			buffer_done(&m.b);
		}
}

static void chunks_stay_where_they_were_sealed(void **state)
{
	struct memory a, b;
	char *first, *second, t[SEALED];
	size_t got;

	seal(&a, 3 * CHUNK, CHUNK);
	seal(&b, 3 * CHUNK, CHUNK);
	first = a.b.data + HEADER;
	second = first + SEALED;
	memcpy(t, first, SEALED); /* exchanged */
	memcpy(first, second, SEALED);
	memcpy(second, t, SEALED);
	assert_int_equal(open_all(&a, key, &got), CE_TAMPER);
	memcpy(first, t, SEALED); /* the first one twice */
	assert_int_equal(open_all(&a, key, &got), CE_TAMPER);
	assert_int_equal(got, CHUNK);
	memcpy(second, b.b.data + HEADER + SEALED, SEALED); /* of another bundle, same key */
	assert_int_equal(open_all(&a, key, &got), CE_TAMPER);
	/* one left out: the last moves up */
	memcpy(second, second + SEALED, SEALED);
	a.b.len -= SEALED;
	assert_int_equal(open_all(&a, key, &got), CE_TAMPER);
	buffer_done(&a.b);
	buffer_done(&b.b);
}

/* Sealed by hand with the true key: the reader knows one division into chunks only. */
static void an_empty_last_chunk_is_refused(void **state)
{
	struct memory m;
	uint8_t okm[64], nonce[12], tag[AEAD_TAG_LEN], sealed[SEALED];
	_cleanup_free_ uint8_t *plain = content(CHUNK);
	struct bundle_header h;
	size_t got;

	seal(&m, CHUNK, CHUNK);
	memcpy(&h, m.b.data, sizeof(h));
	assert_int_equal(kdf_hkdf_sha256(key, 32, h.salt, 32, (const uint8_t *)BUNDLE_INFO,
				 strlen(BUNDLE_INFO), okm, 64),
		0);
	memcpy(nonce, h.prefix, 7);
	memset(nonce + 7, 0, 5);
	assert_int_equal(aead_seal(AEAD_AES256GCM, okm, nonce, &h, sizeof(h), plain, CHUNK, sealed,
				 sealed + CHUNK),
		0);
	memcpy(m.b.data + HEADER, sealed, SEALED);
	nonce[10] = nonce[11] = 1;
	assert_int_equal(
		aead_seal(AEAD_AES256GCM, okm, nonce, &h, sizeof(h), "", 0, sealed, tag), 0);
	assert_int_equal(buffer_append(&m.b, tag, sizeof(tag)), 0);
	assert_int_equal(open_all(&m, key, &got), CE_TAMPER);
	assert_int_equal(got, CHUNK);
	buffer_done(&m.b);
}

static void another_kind_of_file_is_a_format_error(void **state)
{
	static const size_t fields[] = { 0, 7, 8, 9, 10, 11, 12, 15, 55 };
	struct memory m;
	size_t got;

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		seal(&m, 10, 10);
		m.b.data[fields[i]] ^= 4;
		assert_int_equal(open_all(&m, key, &got), CE_FORMAT);
		buffer_done(&m.b);
	}
}

static int failing_write(void *arg, const void *data, size_t len)
{
	return (*(int *)arg)-- ? 0 : -ENOSPC;
}

static void an_error_of_sink_and_source_is_passed_on_and_stays(void **state)
{
	struct bundle_sink sink;
	struct bundle_writer *w;
	struct memory m;
	size_t got;
	int writes = 0;

	sink = (struct bundle_sink){ failing_write, &writes };
	assert_int_equal(bundle_writer_new(key, BUNDLE_TAR, &sink, &w), -ENOSPC);
	writes = 1;
	assert_int_equal(bundle_writer_new(key, BUNDLE_TAR, &sink, &w), 0);
	assert_int_equal(bundle_write(w, "x", 1), 0);
	assert_int_equal(bundle_finish(w), -ENOSPC);
	assert_int_equal(bundle_finish(w), -ENOSPC);
	assert_int_equal(bundle_write(w, "x", 1), -ENOSPC);
	bundle_writer_free(w);
	seal(&m, 2 * CHUNK, CHUNK);
	m.b.len -= 5;
	m.fail = -EIO; /* an unreadable end is not a missing end */
	assert_int_equal(open_all(&m, key, &got), -EIO);
	buffer_done(&m.b);
}

static void nothing_can_follow_the_last_chunk(void **state)
{
	struct memory m = { 0 };
	struct bundle_sink sink = { memory_write, &m };
	struct bundle_writer *w;

	assert_int_equal(bundle_writer_new(key, BUNDLE_TAR, &sink, &w), 0);
	assert_int_equal(bundle_finish(w), 0);
	assert_int_equal(bundle_write(w, "x", 1), -EINVAL);
	assert_int_equal(bundle_finish(w), -EINVAL);
	bundle_writer_free(w);
	buffer_done(&m.b);
}

static void descriptors_are_sinks_and_sources(void **state)
{
	struct bundle_source source;
	struct bundle_sink sink;
	struct bundle_writer *w;
	struct bundle_reader *r;
	struct unit_dir dir;
	char buf[100];
	size_t n;
	int fd;

	unit_dir_init(&dir);
	fd = openat(dir.fd, "b", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	sink = bundle_sink_fd(&fd);
	source = bundle_source_fd(&fd);
	assert_int_equal(bundle_writer_new(key, BUNDLE_TAR, &sink, &w), 0);
	assert_int_equal(bundle_write(w, "hello", 5), 0);
	assert_int_equal(bundle_finish(w), 0);
	bundle_writer_free(w);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(bundle_reader_new(key, &source, &r), 0);
	assert_int_equal(bundle_read(r, buf, sizeof(buf), &n), 0);
	assert_int_equal(n, 5);
	assert_memory_equal(buf, "hello", 5);
	assert_int_equal(bundle_content(r), BUNDLE_TAR);
	bundle_reader_free(r);
	close(fd);
	assert_int_equal(bundle_verify(key, &source), -EBADF);
	unit_dir_done(&dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_length_in_any_pieces_comes_back),
		cmocka_unit_test(two_bundles_of_one_key_share_nothing),
		cmocka_unit_test(another_key_opens_nothing),
		cmocka_unit_test(any_changed_byte_is_seen),
		cmocka_unit_test(a_cut_at_any_byte_is_seen),
		cmocka_unit_test(bytes_behind_the_end_are_seen),
		cmocka_unit_test(chunks_stay_where_they_were_sealed),
		cmocka_unit_test(an_empty_last_chunk_is_refused),
		cmocka_unit_test(another_kind_of_file_is_a_format_error),
		cmocka_unit_test(an_error_of_sink_and_source_is_passed_on_and_stays),
		cmocka_unit_test(nothing_can_follow_the_last_chunk),
		cmocka_unit_test(descriptors_are_sinks_and_sources),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
