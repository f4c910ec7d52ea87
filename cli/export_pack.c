#include "cli/export_pack.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/secret.h"
#include "base/tar.h"

#define COPY_LEN (1u << 20)
#define LINK_MAX_LEN 4096

struct pack {
	struct bundle_writer *w;
	struct export_totals *totals;
	struct buffer header;
	char *path; /* of the entry, in the archive */
	uint8_t *copy;
};

static void pack_done(struct pack *p)
{
	buffer_done(&p->header);
	free(p->path);
	if (p->copy)
		secret_wipe(p->copy, COPY_LEN);
	free(p->copy);
}

static int put_header(struct pack *p, const struct stat *st, enum tar_type type, char *target)
{
	struct tar_entry e = {
		.type = type,
		.path = p->path,
		.target = target,
		.mode = st->st_mode & 07777,
		.size = type == TAR_FILE ? (uint64_t)st->st_size : 0,
		.mtime_ns = st->st_mtim.tv_sec * INT64_C(1000000000) + st->st_mtim.tv_nsec,
	};
	int r;

	p->header.len = 0;
	r = tar_header(&p->header, &e);
	return r ? r : bundle_write(p->w, p->header.data, p->header.len);
}

/* Exactly `size` bytes, as the header said. */
static int put_content(struct pack *p, int fd, uint64_t size)
{
	static const char zeros[TAR_BLOCK];
	uint64_t left = size;

	while (left) {
		ssize_t n = read(fd, p->copy, (size_t)MIN_OF(left, COPY_LEN));
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : CE_STALE;
		r = bundle_write(p->w, p->copy, (size_t)n);
		if (r)
			return r;
		left -= (uint64_t)n;
	}
	return bundle_write(p->w, zeros, tar_padding(size));
}

static int put_file(struct pack *p, const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return CE_STALE;
	r = put_header(p, &st, TAR_FILE, NULL);
	if (!r)
		r = put_content(p, fd, (uint64_t)st.st_size);
	p->totals->files++;
	p->totals->bytes += (uint64_t)st.st_size;
	return r;
}

static int put_symlink(struct pack *p, const FTSENT *e)
{
	char target[LINK_MAX_LEN];
	ssize_t n = readlink(e->fts_accpath, target, sizeof(target));

	if (n < 0 || n == sizeof(target))
		return n < 0 ? -errno : -ENAMETOOLONG;
	target[n] = '\0';
	return put_header(p, e->fts_statp, TAR_SYMLINK, target);
}

static int put_entry(struct pack *p, const FTSENT *e)
{
	switch (e->fts_info) {
	case FTS_D:
		return put_header(p, e->fts_statp, TAR_DIR, NULL);
	case FTS_DP:
		return 0;
	case FTS_F:
		return put_file(p, e->fts_accpath);
	case FTS_SL:
	case FTS_SLNONE:
		return put_symlink(p, e);
	case FTS_DEFAULT:
		p->totals->skipped++;
		return 0;
	case FTS_DC:
		return -ELOOP;
	default:
		return e->fts_errno ? -e->fts_errno : -EIO;
	}
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

static int pack_root(struct pack *p, const struct export_root *root, char **error)
{
	char *const paths[] = { root->path, NULL };
	FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, by_name);
	FTSENT *e;
	int r = 0;

	if (!fts)
		return -errno;
	while (!r && (errno = 0, e = fts_read(fts))) {
		free(steal_ptr(&p->path));
		r = bytes_print(&p->path, "%s%s", root->name, e->fts_path + strlen(root->path));
		if (r)
			break;
		r = put_entry(p, e);
		if (r)
			*error = strdup(e->fts_path);
	}
	if (!r && errno)
		r = -errno;
	fts_close(fts);
	return r;
}

int export_pack(struct bundle_writer *w, const struct export_root *roots, size_t n,
	struct export_totals *totals, char **error)
{
	_cleanup_(pack_done) struct pack p = { .w = w, .totals = totals, .copy = malloc(COPY_LEN) };
	int r = p.copy ? 0 : -ENOMEM;

	for (size_t i = 0; !r && i < n; i++)
		r = pack_root(&p, &roots[i], error);
	p.header.len = 0;
	if (!r)
		r = tar_end(&p.header);
	return r ? r : bundle_write(w, p.header.data, p.header.len);
}
