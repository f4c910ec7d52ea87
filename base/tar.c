/*
 * Every entry is written as two: an extended header ('x') with the records path, mtime, linkpath
 * and, from 8 GiB on, size, and the ustar header with as much of them as it can hold. A reader
 * takes the records where they are and the header's fields where not, so that an archive of another
 * tar opens too, as long as it has nothing else in it.
 */
#include "base/tar.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"

#define OCTAL_SIZE_MAX UINT64_C(077777777777)
#define NS_PER_S INT64_C(1000000000)
#define PAX_NAME "pax-record"

struct ustar {
	char name[100];
	char mode[8], uid[8], gid[8];
	char size[12], mtime[12];
	char checksum[8];
	char type;
	char linkname[100];
	char magic[6], version[2];
	char uname[32], gname[32];
	char devmajor[8], devminor[8];
	char prefix[155];
	char rest[12];
};

static_assert(sizeof(struct ustar) == TAR_BLOCK, "a header is a block");

void tar_entry_done(struct tar_entry *e)
{
	free(e->path);
	free(e->target);
	*e = (struct tar_entry){ 0 };
}

size_t tar_padding(uint64_t size)
{
	return (size_t)(-size % TAR_BLOCK);
}

static uint32_t checksum(const struct ustar *h)
{
	const uint8_t *p = (const uint8_t *)h;
	uint32_t sum = 0;

	for (size_t i = 0; i < sizeof(*h); i++) {
		bool field =
			i >= offsetof(struct ustar, checksum) && i < offsetof(struct ustar, type);

		sum += field ? ' ' : p[i];
	}
	return sum;
}

/* As much of `text` as the field holds; a full field has no NUL. */
static void set_text(char *field, size_t max, const char *text)
{
	memcpy(field, text, MIN_OF(strlen(text), max));
}

static void set_octal(char *field, size_t max, uint64_t value)
{
	snprintf(field, max, "%0*" PRIo64, (int)max - 1, value);
}

static int append_header(struct buffer *out, char type, const char *name, const char *link,
	uint32_t mode, uint64_t size, int64_t mtime_s)
{
	struct ustar h = { .type = type, .magic = "ustar", .version = { '0', '0' } };

	set_text(h.name, sizeof(h.name), name);
	set_text(h.linkname, sizeof(h.linkname), link);
	set_octal(h.mode, sizeof(h.mode), mode & 07777);
	set_octal(h.uid, sizeof(h.uid), 0);
	set_octal(h.gid, sizeof(h.gid), 0);
	set_octal(h.size, sizeof(h.size), MIN_OF(size, OCTAL_SIZE_MAX));
	set_octal(h.mtime, sizeof(h.mtime),
		mtime_s < 0 ? 0 : MIN_OF((uint64_t)mtime_s, OCTAL_SIZE_MAX));
	snprintf(h.checksum, 7, "%06" PRIo32, checksum(&h));
	h.checksum[7] = ' ';
	return buffer_append(out, &h, sizeof(h));
}

static size_t digits(size_t n)
{
	size_t d = 1;

	for (; n >= 10; n /= 10)
		d++;
	return d;
}

/* "LENGTH key=value\n", where LENGTH counts itself. */
static int append_record(struct buffer *out, const char *key, const char *value)
{
	size_t rest = strlen(key) + strlen(value) + 3, len = rest + digits(rest);

	len = rest + digits(len);
	return buffer_printf(out, "%zu %s=%s\n", len, key, value);
}

static int append_records(struct buffer *out, const struct tar_entry *e)
{
	/* The fraction counts upwards from the second below, also before 1970. */
	int64_t ns = ((e->mtime_ns % NS_PER_S) + NS_PER_S) % NS_PER_S;
	int64_t s = (e->mtime_ns - ns) / NS_PER_S;
	char text[40];
	int r = append_record(out, "path", e->path);

	if (s < 0 && ns)
		snprintf(text, sizeof(text), "-%" PRId64 ".%09" PRId64, -(s + 1), NS_PER_S - ns);
	else
		snprintf(text, sizeof(text), "%" PRId64 ".%09" PRId64, s, ns);
	if (!r)
		r = append_record(out, "mtime", text);
	if (!r && e->target)
		r = append_record(out, "linkpath", e->target);
	if (!r && e->size > OCTAL_SIZE_MAX) {
		snprintf(text, sizeof(text), "%" PRIu64, e->size);
		r = append_record(out, "size", text);
	}
	return r;
}

static int append_zeros(struct buffer *out, size_t n)
{
	static const char zeros[2 * TAR_BLOCK];

	return buffer_append(out, zeros, n);
}

int tar_header(struct buffer *out, const struct tar_entry *e)
{
	static const char types[] = { [TAR_FILE] = '0', [TAR_DIR] = '5', [TAR_SYMLINK] = '2' };
	_cleanup_(buffer_done) struct buffer records = { .max = TAR_RECORDS_MAX };
	int r = append_records(&records, e);

	if (!r)
		r = append_header(out, 'x', PAX_NAME, "", 0644, records.len, 0);
	if (!r)
		r = buffer_append(out, records.data, records.len);
	if (!r)
		r = append_zeros(out, tar_padding(records.len));
	if (!r)
		r = append_header(out, types[e->type], e->path, e->target ? e->target : "", e->mode,
			e->size, e->mtime_ns / NS_PER_S);
	return r;
}

int tar_end(struct buffer *out)
{
	return append_zeros(out, 2 * TAR_BLOCK);
}

/* Exactly `len` bytes. */
static int read_full(struct tar_reader *r, void *buf, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t n = r->read(r->arg, (char *)buf + at, len - at);

		if (n <= 0)
			return n < 0 ? (int)n : CE_CORRUPT;
		at += (size_t)n;
	}
	return 0;
}

static int skip(struct tar_reader *r, uint64_t len)
{
	char buf[4096];

	while (len) {
		size_t n = (size_t)MIN_OF(len, sizeof(buf));
		int e = read_full(r, buf, n);

		if (e)
			return e;
		len -= n;
	}
	return 0;
}

/* Octal digits up to a blank, a NUL or the end of the field. */
static int get_octal(const char *field, size_t max, uint64_t *out)
{
	uint64_t v = 0;
	size_t i = 0;

	while (i < max && field[i] == ' ')
		i++;
	for (; i < max && field[i] && field[i] != ' '; i++) {
		if (field[i] < '0' || field[i] > '7')
			return CE_CORRUPT;
		v = v << 3 | (uint64_t)(field[i] - '0');
	}
	*out = v;
	return 0;
}

static int get_decimal(const char *text, size_t len, uint64_t max, uint64_t *out)
{
	uint64_t v = 0;

	if (!len || len > 19)
		return CE_CORRUPT;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return CE_CORRUPT;
		v = v * 10 + (uint64_t)(text[i] - '0');
	}
	if (v > max)
		return CE_CORRUPT;
	*out = v;
	return 0;
}

/* "-12.5": up to nine digits behind the point are kept. */
static int get_time(const char *text, size_t len, int64_t *out_ns)
{
	bool negative = len && *text == '-';
	const char *point = memchr(text, '.', len);
	size_t whole = point ? (size_t)(point - text) : len;
	uint64_t s, ns = 0;
	int r = get_decimal(text + negative, whole - negative, INT64_MAX / NS_PER_S - 1, &s);

	for (size_t i = 1, scale = NS_PER_S / 10; !r && whole + i < len; i++, scale /= 10) {
		char c = point[i];

		if (c < '0' || c > '9')
			return CE_CORRUPT;
		ns += (uint64_t)(c - '0') * scale;
	}
	if (r)
		return r;
	*out_ns = (int64_t)(s * NS_PER_S + ns);
	if (negative)
		*out_ns = -*out_ns;
	return 0;
}

/* Text without a NUL. */
static int get_text(const char *text, size_t len, char **out)
{
	char *copy;

	if (memchr(text, 0, len))
		return CE_CORRUPT;
	copy = strndup(text, len);
	if (!copy)
		return -ENOMEM;
	free(*out);
	*out = copy;
	return 0;
}

/* What the records said. */
struct records {
	struct tar_entry e;
	bool has_size, has_mtime;
};

static void records_done(struct records *p)
{
	tar_entry_done(&p->e);
}

/* Other keys (owners, comments, attributes) are not for us. */
static int take_record(
	struct records *p, const char *key, size_t key_len, const char *v, size_t len)
{
	if (key_len == 4 && !memcmp(key, "path", 4))
		return get_text(v, len, &p->e.path);
	if (key_len == 8 && !memcmp(key, "linkpath", 8))
		return get_text(v, len, &p->e.target);
	if (key_len == 5 && !memcmp(key, "mtime", 5)) {
		p->has_mtime = true;
		return get_time(v, len, &p->e.mtime_ns);
	}
	if (key_len == 4 && !memcmp(key, "size", 4)) {
		p->has_size = true;
		return get_decimal(v, len, INT64_MAX, &p->e.size);
	}
	return 0;
}

static int parse_records(struct records *p, const char *text, size_t len)
{
	while (len) {
		const char *blank = memchr(text, ' ', len), *equals;
		uint64_t n;
		int r;

		if (!blank || get_decimal(text, (size_t)(blank - text), len, &n) ||
			n < (size_t)(blank - text) + 4 || text[n - 1] != '\n')
			return CE_CORRUPT;
		blank++;
		equals = memchr(blank, '=', (size_t)(text + n - blank));
		if (!equals)
			return CE_CORRUPT;
		r = take_record(p, blank, (size_t)(equals - blank), equals + 1,
			(size_t)(text + n - 1 - (equals + 1)));
		if (r)
			return r;
		text += n;
		len -= n;
	}
	return 0;
}

static int read_records(struct tar_reader *r, uint64_t size, struct records *p)
{
	_cleanup_free_ char *text = NULL;
	int e;

	if (size > TAR_RECORDS_MAX)
		return CE_CORRUPT;
	text = malloc(size + 1);
	if (!text)
		return -ENOMEM;
	e = read_full(r, text, (size_t)size);
	if (!e)
		e = skip(r, tar_padding(size));
	return e ? e : parse_records(p, text, (size_t)size);
}

/* Drops slashes at the end; every part must be a name. */
static int check_path(char *path)
{
	size_t len = strlen(path);

	while (len && path[len - 1] == '/')
		path[--len] = '\0';
	for (const char *p = path;; p++) {
		size_t n = strcspn(p, "/");

		if (!n || (n == 1 && *p == '.') || (n == 2 && !memcmp(p, "..", 2)))
			return CE_CORRUPT;
		p += n;
		if (!*p)
			return 0;
	}
}

static int header_text(const struct ustar *h, struct tar_entry *e)
{
	int r = 0;

	if (!e->path && h->prefix[0])
		r = bytes_print(&e->path, "%.155s/%.100s", h->prefix, h->name);
	else if (!e->path)
		r = get_text(h->name, strnlen(h->name, sizeof(h->name)), &e->path);
	if (!r && e->type == TAR_SYMLINK && !e->target)
		r = get_text(h->linkname, strnlen(h->linkname, sizeof(h->linkname)), &e->target);
	if (!r && e->type != TAR_SYMLINK) {
		free(e->target);
		e->target = NULL;
	}
	return r ? r : check_path(e->path);
}

static int header_type(const struct ustar *h, enum tar_type *out)
{
	switch (h->type) {
	case '0':
	case '\0':
		*out = TAR_FILE;
		return 0;
	case '2':
		*out = TAR_SYMLINK;
		return 0;
	case '5':
		*out = TAR_DIR;
		return 0;
	}
	return CE_CORRUPT;
}

/* The entry of a header and the records before it. */
static int make_entry(const struct ustar *h, uint64_t size, struct records *p)
{
	uint64_t mode, mtime_s;
	int r = header_type(h, &p->e.type);

	if (!r)
		r = header_text(h, &p->e);
	if (!r)
		r = get_octal(h->mode, sizeof(h->mode), &mode);
	if (!r)
		r = get_octal(h->mtime, sizeof(h->mtime), &mtime_s);
	if (r)
		return r;
	if (!p->has_mtime)
		p->e.mtime_ns = (int64_t)mtime_s * NS_PER_S;
	if (!p->has_size)
		p->e.size = size;
	if (p->e.type != TAR_FILE && p->e.size)
		return CE_CORRUPT;
	p->e.mode = (uint32_t)mode & 07777;
	return 0;
}

/* 1: a header, its sum checked. 0: the first of the zero blocks at the end. */
static int read_header(struct tar_reader *r, struct ustar *h, uint64_t *size)
{
	static const struct ustar zeros;
	uint64_t sum;
	int e = read_full(r, h, sizeof(*h));

	if (e)
		return e;
	if (!memcmp(h, &zeros, sizeof(zeros)))
		return 0;
	if (memcmp(h->magic, "ustar", 5) != 0 ||
		get_octal(h->checksum, sizeof(h->checksum), &sum) || sum != checksum(h))
		return CE_CORRUPT;
	e = get_octal(h->size, sizeof(h->size), size);
	return e ? e : 1;
}

static int read_end(struct tar_reader *r)
{
	char buf[TAR_BLOCK];
	ssize_t n;

	while ((n = r->read(r->arg, buf, sizeof(buf))) > 0)
		for (ssize_t i = 0; i < n; i++)
			if (buf[i])
				return CE_CORRUPT;
	return (int)n;
}

int tar_next(struct tar_reader *r, struct tar_entry *out)
{
	_cleanup_(records_done) struct records p = { .has_size = false };
	uint64_t size = 0;
	struct ustar h;
	int e = skip(r, r->left + r->pad);

	r->left = r->pad = 0;
	if (!e)
		e = read_header(r, &h, &size);
	if (e == 0)
		return read_end(r);
	if (e > 0 && h.type == 'x') {
		e = read_records(r, size, &p);
		if (!e)
			e = read_header(r, &h, &size);
		if (e == 0)
			return CE_CORRUPT;
	}
	if (e > 0)
		e = make_entry(&h, size, &p);
	if (e)
		return e;
	r->left = p.e.size;
	r->pad = tar_padding(p.e.size);
	*out = p.e;
	p.e = (struct tar_entry){ 0 };
	return 1;
}

ssize_t tar_read(struct tar_reader *r, void *buf, size_t len)
{
	ssize_t n;

	len = (size_t)MIN_OF(len, r->left);
	if (!len)
		return 0;
	n = r->read(r->arg, buf, len);
	if (n == 0)
		return CE_CORRUPT;
	if (n > 0)
		r->left -= (uint64_t)n;
	return n;
}
