#include "cli/export_records.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/io.h"
#include "base/secret.h"

#define LINK_MAX_LEN 4096

static int set_content(struct json *record, const char *path)
{
	char *content;
	size_t len;
	int r = io_read_file(AT_FDCWD, path, ENVELOPE_LIST_CONTENT_MAX, &content, &len);

	if (r)
		return r == -EFBIG ? CE_TOO_LARGE : r;
	json_set_bytes(record, "content", (const uint8_t *)content, len);
	secret_wipe(content, len);
	free(content);
	return 0;
}

static int set_target(struct json *record, const char *path)
{
	char target[LINK_MAX_LEN];
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = '\0';
	json_set_string(record, "target", target);
	return 0;
}

static int put(const struct export_records *x, const FTSENT *e, struct export_totals *totals)
{
	_cleanup_json_ struct json *record = json_new_object(), *known = NULL;
	const struct stat *st = e->fts_statp;
	const char *below = e->fts_path + strlen(x->mountpoint);
	int r;

	below += strspn(below, "/");
	if (!bytes_is_utf8((const uint8_t *)below, strlen(below)))
		return CE_FORMAT;
	r = x->ask(x->arg, e->fts_path, &known);
	if (r)
		return r;
	json_set_string(record, "path", below);
	json_set_string(record, "type",
		S_ISREG(st->st_mode)   ? "file"
		: S_ISDIR(st->st_mode) ? "directory"
				       : "symlink");
	json_set_u64(record, "mode", st->st_mode & 07777);
	json_set_i64(
		record, "mtime_ns", st->st_mtim.tv_sec * INT64_C(1000000000) + st->st_mtim.tv_nsec);
	if (S_ISREG(st->st_mode))
		r = set_content(record, e->fts_path);
	else if (S_ISLNK(st->st_mode))
		r = set_target(record, e->fts_path);
	if (!r)
		r = envelope_list_add(x->list, known, record);
	if (!r && S_ISREG(st->st_mode)) {
		totals->files++;
		totals->bytes += (uint64_t)st->st_size;
	}
	return r;
}

static int put_entry(const struct export_records *x, const FTSENT *e, struct export_totals *totals)
{
	switch (e->fts_info) {
	case FTS_D:
		/* The top of the mount is no record. */
		return strcmp(e->fts_path, x->mountpoint) ? put(x, e, totals) : 0;
	case FTS_F:
	case FTS_SL:
	case FTS_SLNONE:
		return put(x, e, totals);
	case FTS_DP:
		return 0;
	case FTS_DEFAULT:
		totals->skipped++;
		return 0;
	default:
		return e->fts_errno ? -e->fts_errno : -EIO;
	}
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

static int put_root(const struct export_records *x, const struct export_root *root,
	struct export_totals *totals, char **error)
{
	char *const paths[] = { root->path, NULL };
	FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, by_name);
	FTSENT *e;
	int r = 0;

	if (!fts)
		return -errno;
	while (!r && (errno = 0, e = fts_read(fts))) {
		r = put_entry(x, e, totals);
		if (r)
			*error = strdup(e->fts_path);
	}
	if (!r && errno)
		r = -errno;
	fts_close(fts);
	return r;
}

int export_records(const struct export_records *x, const struct export_root *roots, size_t n,
	struct export_totals *totals, char **error)
{
	int r = 0;

	for (size_t i = 0; !r && i < n; i++)
		r = put_root(x, &roots[i], totals, error);
	return r ? r : envelope_list_end(x->list);
}
