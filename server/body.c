#include "server/body.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "base/secret.h"
#include "server/backup.h"

/* Write-back of a long upload is started on the way, so that its sync at the end is short. */
#define WRITE_BACK_STEP (8ULL << 20)
#define NAME_SIZE (2 * RECORD_FILE_LEN + 1)
#define PATH_SIZE (3 + NAME_SIZE)

static int open_dir(int dir_fd, const char *name, int *out)
{
	int fd;

	if (mkdirat(dir_fd, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	*out = fd;
	return 0;
}

/* All 256 directories are made at once, so that none has to be synced into its parent later. */
static int make_fan_out(int content_fd)
{
	char name[3];

	for (unsigned i = 0; i < 256; i++) {
		snprintf(name, sizeof(name), "%02x", i);
		if (mkdirat(content_fd, name, 0700) < 0 && errno != EEXIST)
			return -errno;
	}
	return io_fsync_dir(content_fd);
}

int server_body_open_dirs(int dir_fd, struct body_dirs *out)
{
	struct body_dirs dirs = { -1, -1 };
	int r = open_dir(dir_fd, "tmp", &dirs.tmp_fd);

	if (!r)
		r = open_dir(dir_fd, "content", &dirs.content_fd);
	if (!r)
		r = make_fan_out(dirs.content_fd);
	if (!r)
		r = io_fsync_dir(dir_fd);
	if (r) {
		server_body_close_dirs(&dirs);
		return r;
	}
	*out = dirs;
	return 0;
}

void server_body_close_dirs(struct body_dirs *dirs)
{
	cleanup_fd(&dirs->tmp_fd);
	cleanup_fd(&dirs->content_fd);
	dirs->tmp_fd = dirs->content_fd = -1;
}

static void file_path(const uint8_t *file, char out[static PATH_SIZE])
{
	bytes_to_hex(file, 1, out);
	out[2] = '/';
	bytes_to_hex(file, RECORD_FILE_LEN, out + 3);
}

void server_body_init(struct body *b, const struct body_dirs *dirs, uint64_t max)
{
	*b = (struct body){ .dirs = dirs, .max = max, .fd = -1 };
}

static int spill(struct body *b)
{
	char name[NAME_SIZE];

	secret_random(b->file, sizeof(b->file));
	bytes_to_hex(b->file, sizeof(b->file), name);
	b->fd = openat(b->dirs->tmp_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (b->fd < 0)
		return -errno;
	b->in_file = true;
	return io_write_full(b->fd, b->small.data, b->small.len);
}

static void start_write_back(struct body *b)
{
	if (b->len - b->written_back < WRITE_BACK_STEP)
		return;
	/* A hint: whether it works does not matter, the sync at the end decides. */
	(void)sync_file_range(b->fd, (off_t)b->written_back, (off_t)(b->len - b->written_back),
		SYNC_FILE_RANGE_WRITE);
	b->written_back = b->len;
}

int server_body_write(struct body *b, const void *data, size_t len)
{
	int r = 0;

	if (len > b->max - b->len)
		return CE_TOO_LARGE;
	if (!b->hash)
		r = kdf_sha256_new(&b->hash);
	if (!r)
		r = kdf_sha256_update(b->hash, data, len);
	if (!r && !b->in_file && b->len + len > RECORD_INLINE_MAX) {
		r = spill(b);
		buffer_done(&b->small);
	}
	if (!r)
		r = FAILPOINT("server-body-write");
	if (!r)
		r = b->in_file ? io_write_full(b->fd, data, len)
			       : buffer_append(&b->small, data, len);
	if (r)
		return r;
	b->len += len;
	if (b->in_file)
		start_write_back(b);
	return 0;
}

int server_body_finish(struct body *b)
{
	if (!b->hash)
		return kdf_sha256("", 0, b->sha256);
	return kdf_sha256_final(steal_ptr(&b->hash), b->sha256);
}

static int sync_fan_out(const struct body *b)
{
	_cleanup_fd_ int fd = -1;
	char name[3];

	bytes_to_hex(b->file, 1, name);
	fd = openat(b->dirs->content_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return io_fsync_dir(fd);
}

int server_body_sync(struct body *b)
{
	char from[NAME_SIZE], to[PATH_SIZE];
	int r;

	if (!b->in_file || b->in_place)
		return 0;
	r = FAILPOINT("server-body-sync");
	if (!r && fdatasync(b->fd) < 0)
		r = -errno;
	if (r)
		return r;
	bytes_to_hex(b->file, sizeof(b->file), from);
	file_path(b->file, to);
	if (renameat(b->dirs->tmp_fd, from, b->dirs->content_fd, to) < 0)
		return -errno;
	b->in_place = true;
	close(steal_fd(&b->fd));
	return sync_fan_out(b);
}

void server_body_keep(struct body *b)
{
	b->kept = true;
}

void server_body_done(struct body *b)
{
	char name[NAME_SIZE];

	cleanup_fd(&b->fd);
	b->fd = -1;
	if (b->in_file && b->in_place && !b->kept) {
		server_body_unlink(b->dirs, b->file);
	} else if (b->in_file && !b->in_place) {
		bytes_to_hex(b->file, sizeof(b->file), name);
		unlinkat(b->dirs->tmp_fd, name, 0);
	}
	b->in_file = false;
	kdf_sha256_free(steal_ptr(&b->hash));
	buffer_done(&b->small);
}

int server_body_open(
	const struct body_dirs *dirs, const uint8_t file[static RECORD_FILE_LEN], int *out_fd)
{
	char path[PATH_SIZE];
	int fd;

	file_path(file, path);
	fd = openat(dirs->content_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	*out_fd = fd;
	return 0;
}

void server_body_unlink(const struct body_dirs *dirs, const uint8_t file[static RECORD_FILE_LEN])
{
	char path[PATH_SIZE];

	file_path(file, path);
	unlinkat(dirs->content_fd, path, 0);
}

int server_body_release(
	const struct body_dirs *dirs, const uint8_t file[static RECORD_FILE_LEN])
{
	_cleanup_fd_ int lock = openat(dirs->content_fd, "../" BACKUP_LOCK_NAME,
		O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (lock < 0)
		return -errno;
	if (flock(lock, LOCK_SH | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	server_body_unlink(dirs, file);
	return 0;
}

static int copy_bytes(int from, int to, uint64_t *bytes)
{
	ssize_t n;

	while ((n = copy_file_range(from, NULL, to, NULL, 1u << 30, 0)) > 0)
		*bytes += (uint64_t)n;
	return n < 0 ? -errno : 0;
}

int server_body_copy(const struct body_dirs *from, const struct body_dirs *to,
	const uint8_t file[static RECORD_FILE_LEN], uint64_t *bytes)
{
	_cleanup_fd_ int in = -1, out = -1;
	char path[PATH_SIZE];
	int r = server_body_open(from, file, &in);

	if (r)
		return r == -ENOENT ? CE_CORRUPT : r;
	file_path(file, path);
	out = openat(to->content_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return out < 0 ? -errno : copy_bytes(in, out, bytes);
}

/* The names of all content files that rows name, sorted. */
static int load_named(struct store_db *db, struct buffer *out)
{
	sqlite3_stmt *q = server_store_statement(db, SQL_RECORD_BY_FILE);
	int r;

	while ((r = server_store_step(db, q)) == 1) {
		if (sqlite3_column_bytes(q, 0) != RECORD_FILE_LEN)
			continue;
		r = buffer_append(out, sqlite3_column_blob(q, 0), RECORD_FILE_LEN);
		if (r)
			break;
	}
	server_store_reset(q);
	return r;
}

static int compare_files(const void *a, const void *b)
{
	return memcmp(a, b, RECORD_FILE_LEN);
}

/* Removes the files of one directory that `named` does not have (all of them when it is NULL). */
static int sweep_dir(int parent_fd, const char *name, const struct buffer *named, uint64_t *removed)
{
	int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	uint8_t file[RECORD_FILE_LEN];

	if (!dir) {
		int r = -errno;

		cleanup_fd(&fd);
		return r;
	}
	while ((e = readdir(dir))) {
		/* What does not look like one of ours is not ours to remove. */
		if (bytes_from_hex(e->d_name, file, sizeof(file)))
			continue;
		if (named && named->len &&
			bsearch(file, named->data, named->len / RECORD_FILE_LEN, RECORD_FILE_LEN,
				compare_files))
			continue;
		if (!unlinkat(fd, e->d_name, 0))
			(*removed)++;
	}
	closedir(dir);
	return 0;
}

int server_body_sweep(const struct body_dirs *dirs, struct store_db *db, uint64_t *removed)
{
	struct buffer named = { 0 };
	uint64_t n = 0;
	char name[3];
	int r = load_named(db, &named);

	if (!r && named.len)
		qsort(named.data, named.len / RECORD_FILE_LEN, RECORD_FILE_LEN, compare_files);
	for (unsigned i = 0; !r && i < 256; i++) {
		snprintf(name, sizeof(name), "%02x", i);
		r = sweep_dir(dirs->content_fd, name, &named, &n);
	}
	if (!r)
		r = sweep_dir(dirs->tmp_fd, ".", NULL, &n);
	buffer_done(&named);
	if (!r)
		*removed = n;
	return r;
}
