#include "cli/sealed_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/io.h"
#include "base/secret.h"
#include "crypto/bundle.h"
#include "crypto/bundle_format.h"

#define HEAD_MAX (1u << 20) /* where a page or an object must have begun with the bundle */
#define TEXT_LEN 4096u      /* of which base64 and hexadecimal end at a whole byte */

enum form {
	FORM_RAW,
	FORM_BASE64,
	FORM_HEX,
};

struct sealed_file {
	int fd;
	enum form form;
	char *name; /* of the file, without .cachet or .enc */
	off_t start, at;
	uint64_t size; /* of a content that is no archive, once known */
	char text[TEXT_LEN + 1];
	uint8_t bytes[TEXT_LEN];
	size_t have, used; /* of bytes */
};

static int find_form(struct sealed_file *f)
{
	_cleanup_free_ char *head = malloc(HEAD_MAX + 1);
	const char *mark;
	size_t len = 0;
	ssize_t n;

	if (!head)
		return -ENOMEM;
	while ((n = pread(f->fd, head + len, HEAD_MAX - len, (off_t)len)) > 0)
		len += (size_t)n;
	if (n < 0)
		return -errno;
	head[len] = '\0';
	if (len >= strlen(BUNDLE_MAGIC) && !memcmp(head, BUNDLE_MAGIC, strlen(BUNDLE_MAGIC)))
		return 0;
	mark = strstr(head, SEALED_FILE_PAGE_MARK);
	if (mark) {
		f->form = FORM_BASE64;
		f->start = mark + strlen(SEALED_FILE_PAGE_MARK) - head;
		return 0;
	}
	mark = strstr(head, SEALED_FILE_JSON_MARK);
	if (!mark || head[strspn(head, " \t\r\n")] != '{')
		return CE_FORMAT;
	mark += strlen(SEALED_FILE_JSON_MARK);
	mark += strspn(mark, " \t\r\n:");
	if (*mark != '"')
		return CE_FORMAT;
	f->form = FORM_HEX;
	f->start = mark + 1 - head;
	return 0;
}

static int set_name(struct sealed_file *f, const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dot;

	f->name = strdup(slash ? slash + 1 : path);
	if (!f->name)
		return -ENOMEM;
	dot = strrchr(f->name, '.');
	if (dot && dot != f->name && (!strcmp(dot, ".enc") || !strcmp(dot, ".cachet")))
		*dot = '\0';
	return 0;
}

int sealed_file_open(const char *path, struct sealed_file **out)
{
	_cleanup_(sealed_file_closep) struct sealed_file *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (f->fd < 0)
		return -errno;
	r = find_form(f);
	if (!r)
		r = set_name(f, path);
	if (!r)
		*out = steal_ptr(&f);
	return r;
}

void sealed_file_close(struct sealed_file *f)
{
	if (!f)
		return;
	if (f->fd >= 0)
		close(f->fd);
	free(f->name);
	free(f);
}

void sealed_file_closep(struct sealed_file **f)
{
	sealed_file_close(*f);
}

static ssize_t read_at(struct sealed_file *f, void *buf, size_t len)
{
	ssize_t n;

	do
		n = pread(f->fd, buf, len, f->at);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	f->at += n;
	return n;
}

/* The next bytes of the text; none behind the mark that ends it, or when the file ends there. */
static int decode(struct sealed_file *f)
{
	size_t len = 0;
	ssize_t n = 1;
	int r;

	while (len < TEXT_LEN && (n = read_at(f, f->text + len, TEXT_LEN - len)) > 0)
		len += (size_t)n;
	if (n < 0)
		return (int)n;
	f->text[len] = '\0';
	n = (ssize_t)strcspn(f->text, "<\"");
	if ((size_t)n < len)
		f->at -= (off_t)(len - (size_t)n);
	f->text[n] = '\0';
	f->used = 0;
	f->have = (size_t)n / 2;
	if (f->form == FORM_HEX)
		r = bytes_from_hex(f->text, f->bytes, f->have);
	else
		r = bytes_from_base64(f->text, f->bytes, sizeof(f->bytes), &f->have);
	if (r == CE_FORMAT) {
		f->have = 0;
		return CE_TAMPER;
	}
	return r;
}

static ssize_t source_read(void *arg, void *buf, size_t len)
{
	struct sealed_file *f = arg;
	int r;

	if (f->form == FORM_RAW)
		return read_at(f, buf, len);
	if (f->used == f->have) {
		r = decode(f);
		if (r)
			return r;
	}
	len = MIN_OF(len, f->have - f->used);
	memcpy(buf, f->bytes + f->used, len);
	f->used += len;
	return (ssize_t)len;
}

struct sealed_content {
	struct bundle_reader *reader;
	struct tar_reader tar;
	bool archive;
};

static ssize_t reader_read(void *arg, void *buf, size_t len)
{
	struct sealed_content *c = arg;
	size_t n;
	int r = bundle_read(c->reader, buf, len, &n);

	return r ? r : (ssize_t)n;
}

ssize_t sealed_file_read(struct sealed_content *c, void *buf, size_t len)
{
	return c->archive ? tar_read(&c->tar, buf, len) : reader_read(c, buf, len);
}

static int each_entry(struct sealed_content *c, sealed_file_fn *fn, void *arg)
{
	struct tar_entry e;
	int r;

	while ((r = tar_next(&c->tar, &e)) == 1) {
		r = fn(arg, &e, c);
		tar_entry_done(&e);
		if (r)
			return r;
	}
	return r;
}

/* How long the content is, which is in no header. */
static int measure(struct sealed_file *f, struct sealed_content *c)
{
	char buf[4096];
	ssize_t n;

	f->size = 0;
	while ((n = reader_read(c, buf, sizeof(buf))) > 0)
		f->size += (uint64_t)n;
	secret_wipe(buf, sizeof(buf));
	return (int)n;
}

static int open_reader(struct sealed_file *f, const struct secret *key, struct sealed_content *c)
{
	struct bundle_source source = { source_read, f };
	int r;

	f->at = f->start;
	f->have = f->used = 0;
	r = bundle_reader_new(secret_cbytes(key), &source, &c->reader);
	if (r)
		return r;
	c->archive = bundle_content(c->reader) == BUNDLE_TAR;
	c->tar = (struct tar_reader){ .read = reader_read, .arg = c };
	return 0;
}

static int one_entry(struct sealed_file *f, struct sealed_content *c, sealed_file_fn *fn, void *arg)
{
	struct tar_entry e = { .type = TAR_FILE, .path = f->name, .mode = 0600, .size = f->size };
	char rest[4096];
	ssize_t n;
	int r = fn(arg, &e, c);

	if (r)
		return r;
	while ((n = reader_read(c, rest, sizeof(rest))) > 0) {
	}
	return (int)n;
}

int sealed_file_each(struct sealed_file *f, const struct secret *key, sealed_file_fn *fn, void *arg)
{
	struct sealed_content c = { 0 };
	int r = open_reader(f, key, &c);

	if (!r && c.archive) {
		r = each_entry(&c, fn, arg);
	} else if (!r) {
		r = measure(f, &c);
		bundle_reader_free(steal_ptr(&c.reader));
		if (!r)
			r = open_reader(f, key, &c);
		if (!r)
			r = one_entry(f, &c, fn, arg);
	}
	bundle_reader_free(c.reader);
	return r;
}
