#include "cli/import_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/io.h"
#include "base/secret.h"

#define TEMPORARY ".cachet-import"
#define BUF_LEN (1u << 18)
#define ATTR_MAX 65536
#define LINK_MAX_LEN 4096

struct pair {
	struct import_copy *c;
	const FTSENT *e;
	char *to; /* of this entry */
};

void import_copy_done(struct import_copy *c)
{
	free(c->totals.first_left);
	free(c->failed);
	c->totals.first_left = c->failed = NULL;
}

/* How much was read, less than `len` only at the end. */
static ssize_t read_block(int fd, uint8_t *buf, size_t len)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = read(fd, buf + have, len - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	return (ssize_t)have;
}

/* 1: both have the same bytes from where they are to the end. */
static int same_bytes(int a, int b)
{
	_cleanup_free_ uint8_t *buf = malloc(2 * BUF_LEN);
	int r = 1;

	if (!buf)
		return -ENOMEM;
	for (;;) {
		ssize_t n = read_block(a, buf, BUF_LEN), m = read_block(b, buf + BUF_LEN, BUF_LEN);

		if (n < 0 || m < 0)
			r = n < 0 ? (int)n : (int)m;
		else if (n != m || memcmp(buf, buf + BUF_LEN, (size_t)n))
			r = 0;
		if (r != 1 || n == 0)
			break;
	}
	secret_wipe(buf, 2 * BUF_LEN);
	return r;
}

static int open_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return -EEXIST;
	}
	return fd;
}

static int same_files(const char *a, const char *b)
{
	_cleanup_fd_ int fa = open_file(a), fb = -1;

	if (fa < 0)
		return fa;
	fb = open_file(b);
	if (fb == -ELOOP || fb == -EEXIST)
		return 0;
	return fb < 0 ? fb : same_bytes(fa, fb);
}

static int read_link(const char *path, char out[static LINK_MAX_LEN])
{
	ssize_t n = readlink(path, out, LINK_MAX_LEN - 1);

	if (n < 0)
		return -errno;
	out[n] = '\0';
	return 0;
}

static int same_links(const char *a, const char *b)
{
	char ta[LINK_MAX_LEN], tb[LINK_MAX_LEN];
	int r = read_link(a, ta);

	if (!r)
		r = read_link(b, tb);
	if (r == -EINVAL)
		return 0;
	return r ? r : !strcmp(ta, tb);
}

/* 1: the copy is the same, 0: it is not, -ENOENT: there is none. */
static int same(const struct pair *p)
{
	return p->e->fts_info == FTS_F ? same_files(p->e->fts_accpath, p->to)
				       : same_links(p->e->fts_accpath, p->to);
}

static int copy_bytes(int from, int to)
{
	_cleanup_free_ uint8_t *buf = malloc(BUF_LEN);
	ssize_t n;
	int r = 0;

	if (!buf)
		return -ENOMEM;
	while (!r && (n = read_block(from, buf, BUF_LEN)) != 0)
		r = n < 0 ? (int)n : io_write_full(to, buf, (size_t)n);
	secret_wipe(buf, BUF_LEN);
	return r;
}

/* The attributes that are the user's; the system's (labels, lists) belong to the place. */
static int copy_attributes(int from, int to)
{
	_cleanup_free_ char *names = malloc(ATTR_MAX), *value = malloc(ATTR_MAX);
	ssize_t len, n;

	if (!names || !value)
		return -ENOMEM;
	len = flistxattr(from, names, ATTR_MAX);
	if (len < 0)
		return errno == ENOTSUP ? 0 : -errno;
	for (const char *name = names; name < names + len; name += strlen(name) + 1) {
		if (strncmp(name, "user.", 5) != 0)
			continue;
		n = fgetxattr(from, name, value, ATTR_MAX);
		if (n < 0 || fsetxattr(to, name, value, (size_t)n, 0) < 0)
			return -errno;
	}
	return 0;
}

static int copy_to(int from, int to)
{
	struct timespec times[2];
	struct stat st;
	int r = copy_bytes(from, to);

	if (!r)
		r = copy_attributes(from, to);
	if (r)
		return r;
	if (fstat(from, &st) < 0)
		return -errno;
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	if (fchmod(to, st.st_mode & 07777) < 0 || futimens(to, times) < 0 || fsync(to) < 0)
		return -errno;
	return 0;
}

static int copy_file(const struct pair *p)
{
	_cleanup_free_ char *temporary = NULL;
	_cleanup_fd_ int from = open_file(p->e->fts_accpath), to = -1;
	int r;

	if (from < 0)
		return from;
	if (bytes_print(
		    &temporary, "%.*s" TEMPORARY, (int)(strrchr(p->to, '/') + 1 - p->to), p->to))
		return -ENOMEM;
	to = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0)
		return -errno;
	r = copy_to(from, to);
	if (close(steal_fd(&to)) < 0 && !r)
		r = -errno;
	if (!r && renameat2(AT_FDCWD, temporary, AT_FDCWD, p->to, RENAME_NOREPLACE) < 0)
		r = -errno;
	if (r)
		unlink(temporary);
	return r;
}

static int copy_link(const struct pair *p)
{
	char target[LINK_MAX_LEN];
	int r = read_link(p->e->fts_accpath, target);

	if (!r && symlink(target, p->to) < 0)
		r = -errno;
	return r;
}

static int leave(struct pair *p)
{
	p->c->totals.left++;
	if (!p->c->totals.first_left)
		p->c->totals.first_left = strdup(p->e->fts_path);
	return 0;
}

static int put(struct pair *p)
{
	int r = p->e->fts_info == FTS_F ? copy_file(p) : copy_link(p);

	if (r != -ENOSPC)
		return r;
	r = p->c->full(p->c->arg);
	if (r)
		return r;
	return p->e->fts_info == FTS_F ? copy_file(p) : copy_link(p);
}

static int in_file(struct pair *p)
{
	int r = same(p);

	if (r == 0)
		return leave(p);
	if (r == -ENOENT)
		r = put(p);
	if (r < 0)
		return r;
	p->c->totals.files++;
	p->c->totals.bytes += (uint64_t)p->e->fts_statp->st_size;
	return 0;
}

static int in_dir(struct pair *p)
{
	struct stat st;

	if (mkdir(p->to, 0700) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	return lstat(p->to, &st) == 0 && S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

/* Its mode and times last: it is written to until then. */
static int in_dir_end(struct pair *p)
{
	const struct stat *st = p->e->fts_statp;
	const struct timespec times[] = { st->st_atim, st->st_mtim };

	if (chmod(p->to, st->st_mode & 07777) < 0 ||
		utimensat(AT_FDCWD, p->to, times, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return 0;
}

static int in(struct pair *p)
{
	switch (p->e->fts_info) {
	case FTS_D:
		return in_dir(p);
	case FTS_DP:
		return in_dir_end(p);
	case FTS_F:
	case FTS_SL:
	case FTS_SLNONE:
		return in_file(p);
	case FTS_DEFAULT:
		return leave(p);
	default:
		return p->e->fts_errno ? -p->e->fts_errno : -EIO;
	}
}

static int out_file(struct pair *p)
{
	int r = p->c->confirmed(p->c->arg, p->to);

	if (r == 1)
		r = same(p);
	if (r == -ENOENT || r == 0)
		return leave(p);
	if (r < 0)
		return r;
	if (unlink(p->e->fts_accpath) < 0)
		return -errno;
	p->c->totals.removed++;
	return 0;
}

static int out(struct pair *p)
{
	switch (p->e->fts_info) {
	case FTS_F:
	case FTS_SL:
	case FTS_SLNONE:
		return out_file(p);
	case FTS_DP:
		/* What was left keeps its directories; "." cannot be removed by that name. */
		rmdir(p->e->fts_accpath);
		return 0;
	case FTS_DEFAULT:
		return leave(p);
	default:
		return 0;
	}
}

static int walk(struct import_copy *c, int (*each)(struct pair *p))
{
	char *const roots[] = { (char *)c->from, NULL };
	FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
	int r = 0;
	FTSENT *e;

	if (!fts)
		return -errno;
	while (!r && (errno = 0, e = fts_read(fts))) {
		struct pair p = { .c = c, .e = e };

		r = bytes_print(&p.to, "%s%s", c->to, e->fts_path + strlen(c->from));
		if (r)
			break;
		r = each(&p);
		free(p.to);
		if (r)
			c->failed = strdup(e->fts_path);
	}
	if (!r && errno)
		r = -errno;
	fts_close(fts);
	return r;
}

int import_copy_in(struct import_copy *c)
{
	return walk(c, in);
}

int import_copy_remove(struct import_copy *c)
{
	c->totals.left = 0;
	free(steal_ptr(&c->totals.first_left));
	return walk(c, out);
}
