/* Archives: what is written is read again, and what no archive may say is refused. */
#include <errno.h>

#include "base/error.h"
#include "base/tar.h"

#include "unit.h"

struct memory {
	struct buffer b;
	size_t at;
};

static ssize_t memory_read(void *arg, void *buf, size_t len)
{
	struct memory *m = arg;
	size_t n = MIN_OF(MIN_OF(len, m->b.len - m->at), (size_t)100);

	memcpy(buf, m->b.data + m->at, n);
	m->at += n;
	return (ssize_t)n;
}

static void add(struct memory *m, const struct tar_entry *e, const char *content)
{
	static const char zeros[TAR_BLOCK];

	assert_int_equal(tar_header(&m->b, e), 0);
	assert_int_equal(buffer_append(&m->b, content, e->size), 0);
	assert_int_equal(buffer_append(&m->b, zeros, tar_padding(e->size)), 0);
}

/* Reads all entries: 0 or the code, and how many there were. */
static int read_all(struct memory *m, size_t *n)
{
	struct tar_reader r = { .read = memory_read, .arg = m };
	struct tar_entry e = { 0 };
	char buf[300];
	ssize_t got;
	int code;

	*n = 0;
	m->at = 0;
	while ((code = tar_next(&r, &e)) == 1) {
		tar_entry_done(&e);
		(*n)++;
		while ((got = tar_read(&r, buf, sizeof(buf))) > 0) {
		}
		if (got < 0)
			return (int)got;
	}
	assert_null(e.path);
	return code;
}

static void entries_come_back_as_they_were(void **state)
{
	char deep[3000], name[256];
	struct tar_entry in[] = {
		{ TAR_DIR, (char[]){ "d" }, NULL, 0755, 0, 1700000000123456789 },
		{ TAR_FILE, (char[]){ "d/empty" }, NULL, 04600, 0, 0 },
		{ TAR_FILE, deep, NULL, 0644, 513, -1 },
		{ TAR_FILE, name, NULL, 0644, 512, -1500000000 },
		{ TAR_SYMLINK, (char[]){ "d/link" }, deep, 0777, 0, 1 },
		{ TAR_FILE, (char[]){ "not\xffutf8\n=" }, NULL, 0, 3, INT64_MAX / 2 },
	};
	static const char content[600] = "some content";
	struct memory m = { .at = 0 };
	struct tar_reader r = { .read = memory_read, .arg = &m };

	memset(deep, 'x', sizeof(deep));
	for (size_t i = 90; i < sizeof(deep); i += 90)
		deep[i] = '/';
	deep[sizeof(deep) - 1] = '\0';
	memset(name, 'n', sizeof(name) - 1);
	name[255] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(in); i++)
		add(&m, &in[i], content);
	assert_int_equal(tar_end(&m.b), 0);
	for (size_t i = 0; i < ARRAY_SIZE(in); i++) {
		struct tar_entry e;
		char buf[600];

		assert_int_equal(tar_next(&r, &e), 1);
		assert_int_equal(e.type, in[i].type);
		assert_string_equal(e.path, in[i].path);
		if (in[i].target)
			assert_string_equal(e.target, in[i].target);
		else
			assert_null(e.target);
		assert_int_equal(e.mode, in[i].mode);
		assert_int_equal(e.size, in[i].size);
		assert_int_equal(e.mtime_ns, in[i].mtime_ns);
		/* some of the content is left for tar_next to skip */
		if (e.size && i % 2) {
			assert_true(tar_read(&r, buf, 2) > 0);
			assert_int_equal(buf[0], 's');
		}
		tar_entry_done(&e);
	}
	assert_int_equal(read_all(&m, &(size_t){ 0 }), 0);
	buffer_done(&m.b);
}

static void a_size_beyond_the_header_is_kept(void **state)
{
	struct tar_entry in = { TAR_FILE, (char[]){ "f" }, NULL, 0600, UINT64_C(5) << 40, 0 }, out;
	struct memory m = { .at = 0 };
	struct tar_reader r = { .read = memory_read, .arg = &m };
	char buf[10];

	assert_int_equal(tar_header(&m.b, &in), 0);
	assert_int_equal(buffer_append(&m.b, "content", 7), 0);
	assert_int_equal(tar_next(&r, &out), 1);
	assert_int_equal(out.size, in.size);
	tar_entry_done(&out);
	assert_int_equal(tar_read(&r, buf, sizeof(buf)), 7);
	assert_int_equal(tar_read(&r, buf, sizeof(buf)), CE_CORRUPT);
	buffer_done(&m.b);
}

static void a_path_that_leads_elsewhere_is_refused(void **state)
{
	static const char *const bad[] = { "/etc/passwd", "..", "a/../b", "a/..", "a//b", ".",
		"./a", "a/.", "", "/", "../x" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct tar_entry e = { TAR_FILE, (char *)bad[i], NULL, 0600, 0, 0 };
		struct memory m = { .at = 0 };
		size_t n;

		add(&m, &e, "");
		assert_int_equal(tar_end(&m.b), 0);
		assert_int_equal(read_all(&m, &n), CE_CORRUPT);
		assert_int_equal(n, 0);
		buffer_done(&m.b);
	}
}

static void sample(struct memory *m)
{
	struct tar_entry a = { TAR_FILE, (char[]){ "a" }, NULL, 0600, 5, 0 };
	struct tar_entry b = { TAR_SYMLINK, (char[]){ "b" }, (char[]){ "a" }, 0777, 0, 0 };

	*m = (struct memory){ .at = 0 };
	add(m, &a, "hello");
	add(m, &b, "");
	assert_int_equal(tar_end(&m->b), 0);
}

static void a_cut_archive_is_refused(void **state)
{
	struct memory m;
	size_t whole, n;

	sample(&m);
	whole = m.b.len;
	/* Without the second block of zeros it still ends in one. */
	for (size_t len = 0; len < whole - TAR_BLOCK; len += 7) {
		m.b.len = len;
		assert_int_equal(read_all(&m, &n), CE_CORRUPT);
	}
	buffer_done(&m.b);
}

static void data_behind_the_end_is_refused(void **state)
{
	struct memory m;
	size_t n;

	sample(&m);
	assert_int_equal(buffer_append(&m.b, "x", 1), 0);
	assert_int_equal(read_all(&m, &n), CE_CORRUPT);
	buffer_done(&m.b);
}

/* A new sum over a header that was changed. */
static void sum_up(char *h)
{
	uint32_t sum = 0;

	memset(h + 148, ' ', 8);
	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += (uint8_t)h[i];
	snprintf(h + 148, 7, "%06o", sum);
}

static void a_changed_header_is_refused(void **state)
{
	struct memory m;
	size_t n;

	sample(&m);
	for (size_t i = 0; i < TAR_BLOCK; i++) {
		if (i == 155) /* behind the sum's NUL */
			continue;
		m.b.data[i] ^= 1;
		assert_int_equal(read_all(&m, &n), CE_CORRUPT);
		m.b.data[i] ^= 1;
	}
	buffer_done(&m.b);
}

static void other_types_are_refused(void **state)
{
	struct memory m;
	size_t n;

	for (const char *type = "1346gKLSV"; *type; type++) {
		sample(&m);
		m.b.data[2 * TAR_BLOCK + 156] = *type;
		sum_up(m.b.data + 2 * TAR_BLOCK);
		assert_int_equal(read_all(&m, &n), CE_CORRUPT);
		buffer_done(&m.b);
	}
}

/* An extended header with these records, and a file behind it. */
static int read_records(const char *records, size_t len, struct tar_entry *out)
{
	struct memory m;
	struct tar_reader r = { .read = memory_read, .arg = &m };
	int code;

	sample(&m);
	memset(m.b.data + TAR_BLOCK, 0, TAR_BLOCK);
	memcpy(m.b.data + TAR_BLOCK, records, len);
	snprintf(m.b.data + 124, 12, "%011o", (unsigned)len & 0xffff);
	sum_up(m.b.data);
	code = tar_next(&r, out);
	buffer_done(&m.b);
	return code;
}

static void malformed_records_are_refused(void **state)
{
	static const char *const bad[] = { "x", "5 ab\n", "99 path=a\n", "4 =\n",
		"9 path=a\nx", /* the rest is no record */

		"9 path=ab", "-9 path=a\n", "99999999999999999999 path=a\n", "11 size=-1\n",
		"11 size=1x\n", "13 mtime=1.x\n", "13 mtime=--1\n",
		"29 size=18446744073709551615\n", "27 mtime=99999999999999999\n", "8 path=\n",
		"0 path=a\n", "9 mtime=\n" };
	struct tar_entry e = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(read_records(bad[i], strlen(bad[i]), &e), CE_CORRUPT);
	assert_int_equal(read_records("10 path=\0a\n", 10, &e), CE_CORRUPT);
	assert_null(e.path);
	assert_int_equal(read_records("19 comment=unknown\n11 path=ab\n", 30, &e), 1);
	assert_string_equal(e.path, "ab");
	tar_entry_done(&e);
}

static void the_ustar_header_alone_is_enough(void **state)
{
	struct memory m;
	struct tar_reader r = { .read = memory_read, .arg = &m };
	struct tar_entry e;
	char *h;

	sample(&m);
	m.at = 2 * TAR_BLOCK; /* without the records */
	h = m.b.data + m.at;
	memcpy(h + 345, "the/prefix", 11);
	sum_up(h);
	assert_int_equal(tar_next(&r, &e), 1);
	assert_string_equal(e.path, "the/prefix/a");
	assert_int_equal(e.size, 5);
	tar_entry_done(&e);
	buffer_done(&m.b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries_come_back_as_they_were),
		cmocka_unit_test(a_size_beyond_the_header_is_kept),
		cmocka_unit_test(a_path_that_leads_elsewhere_is_refused),
		cmocka_unit_test(a_cut_archive_is_refused),
		cmocka_unit_test(data_behind_the_end_is_refused),
		cmocka_unit_test(a_changed_header_is_refused),
		cmocka_unit_test(other_types_are_refused),
		cmocka_unit_test(malformed_records_are_refused),
		cmocka_unit_test(the_ustar_header_alone_is_enough),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
