#include "fuzz.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RANGE_MAX 8192

void fuzz_fail(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
	abort();
}

static char directory[64];
static int directory_fd = -1;

static void remove_directory(void)
{
	fuzz_clear();
	rmdir(directory);
}

const char *fuzz_dir(void)
{
	if (directory_fd >= 0)
		return directory;
	strcpy(directory, access("/dev/shm", W_OK) ? "/tmp/cachet-fuzz-XXXXXX"
						   : "/dev/shm/cachet-fuzz-XXXXXX");
	FUZZ_CHECK(mkdtemp(directory));
	directory_fd = open(directory, O_DIRECTORY | O_CLOEXEC);
	FUZZ_CHECK(directory_fd >= 0);
	atexit(remove_directory);
	return directory;
}

int fuzz_dirfd(void)
{
	fuzz_dir();
	return directory_fd;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	return at->level ? remove(path) : 0;
}

void fuzz_clear(void)
{
	FUZZ_CHECK(nftw(fuzz_dir(), remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0);
}

struct fuzz_bytes fuzz_load(const char *path)
{
	struct fuzz_bytes b = { 0 };
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return b;
	FUZZ_CHECK(fstat(fd, &st) == 0);
	b.len = (size_t)st.st_size;
	b.data = malloc(b.len + 1);
	FUZZ_CHECK(b.data && read(fd, b.data, b.len) == (ssize_t)b.len);
	close(fd);
	return b;
}

void fuzz_store(const char *path, const struct fuzz_bytes *b)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	FUZZ_CHECK(fd >= 0 && write(fd, b->data, b->len) == (ssize_t)b->len);
	close(fd);
}

uint64_t fuzz_take(struct fuzz_input *in, unsigned bytes)
{
	uint64_t v = 0;

	for (; bytes; bytes--) {
		v = v << 8 | (in->len ? in->data[0] : 0);
		if (in->len) {
			in->data++;
			in->len--;
		}
	}
	return v;
}

static void resize(struct fuzz_bytes *b, size_t len)
{
	uint8_t *data = realloc(b->data, len + 1);

	FUZZ_CHECK(data);
	if (len > b->len)
		memset(data + b->len, 0, len - b->len);
	b->data = data;
	b->len = len;
}

static void insert(struct fuzz_bytes *b, size_t at, struct fuzz_input *in, size_t len)
{
	size_t old = b->len;

	resize(b, old + len);
	memmove(b->data + at + len, b->data + at, old - at);
	for (size_t i = 0; i < len; i++)
		b->data[at + i] = (uint8_t)fuzz_take(in, 1);
}

bool fuzz_mutate(struct fuzz_bytes *b, struct fuzz_input *in)
{
	struct fuzz_bytes old = { malloc(b->len + 1), b->len };
	unsigned what = (unsigned)fuzz_take(in, 1) % 7;
	size_t at = b->len ? fuzz_take(in, 3) % b->len : 0, len = fuzz_take(in, 2) % RANGE_MAX, to;
	bool changed;

	FUZZ_CHECK(old.data);
	if (b->len)
		memcpy(old.data, b->data, b->len);
	len = at + len > b->len ? b->len - at : len;
	switch (b->len ? what : 5) {
	case 0:
		b->data[at] ^= (uint8_t)(1u << (len & 7));
		break;
	case 1:
		b->data[at] = (uint8_t)len;
		break;
	case 2:
		resize(b, at);
		break;
	case 3:
		memset(b->data + at, 0, len);
		break;
	case 4:
		to = fuzz_take(in, 3) % b->len;
		memmove(b->data + to, b->data + at, to + len > b->len ? b->len - to : len);
		break;
	case 5:
		insert(b, at, in, len % 64 + 1);
		break;
	default:
		resize(b, b->len + len % 256 + 1);
	}
	changed = b->len != old.len || memcmp(b->data, old.data, b->len) != 0;
	free(old.data);
	return changed;
}

bool fuzz_store_changed(const char *path, const struct fuzz_bytes *whole, struct fuzz_input *in)
{
	struct fuzz_bytes b = { malloc(whole->len + 1), whole->len };
	bool changed = false;

	FUZZ_CHECK(b.data);
	memcpy(b.data, whole->data, whole->len);
	while (in->len)
		changed |= fuzz_mutate(&b, in);
	fuzz_store(path, &b);
	free(b.data);
	return changed;
}
