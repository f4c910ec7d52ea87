#include "meta/recover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/error.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "meta/page.h"
#include "meta/redo.h"
#include "meta/walscan.h"

#define QUARANTINE_DIR "quarantine"
/* Pages tried for a proof of the key when page 1 gives none. */
#define PROOF_PAGES 1024

/* 0, CE_TAMPER when it does not open, or why that is not known. */
static int try_page(int fd, const struct page_keys *keys, uint32_t pgno)
{
	uint8_t page[PAGE_SIZE_BYTES];
	int r = io_pread_full(fd, page, sizeof(page), (off_t)(pgno - 1) * PAGE_SIZE_BYTES);

	if (r == 0)
		r = page_open(keys, pgno, page, page);
	secret_wipe(page, sizeof(page));
	return r;
}

static int check_key(int main_fd, const struct page_keys *keys, const struct walscan *scan)
{
	struct stat st;
	int r;

	if (fstat(main_fd, &st) < 0)
		return -errno;
	/* SQLite would take a log beside an empty file for a stale one and delete it. */
	if (st.st_size < PAGE_SIZE_BYTES)
		return CE_TAMPER;
	r = scan->page1 ? 0 : try_page(main_fd, keys, 1);
	if (r != CE_TAMPER || scan->any_authentic)
		return r;
	for (uint32_t pgno = 2; pgno < PROOF_PAGES && (off_t)pgno * PAGE_SIZE_BYTES <= st.st_size;
		pgno++) {
		r = try_page(main_fd, keys, pgno);
		if (r != CE_TAMPER)
			return r < 0 ? r : CE_TAMPER;
	}
	return CE_WRONG_KEY;
}

static int copy_bytes(int from, int to)
{
	off_t at = 0;

	for (;;) {
		char buf[16384];
		ssize_t n;
		int r;

		/* Shares the blocks where the file system can. */
		n = copy_file_range(from, &at, to, NULL, 1 << 30, 0);
		if (n > 0)
			continue;
		n = pread(from, buf, sizeof(buf), at);
		if (n <= 0)
			return n < 0 ? -errno : 0;
		r = io_write_full(to, buf, (size_t)n);
		if (r < 0)
			return r;
		at += n;
	}
}

static int copy_into(int from, int dirfd, const char *name)
{
	_cleanup_fd_ int to = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r;

	if (to < 0)
		return -errno;
	r = copy_bytes(from, to);
	if (r < 0)
		return r;
	return fsync(to) < 0 ? -errno : 0;
}

/* A new directory quarantine/index-<UTC>[-n]; its path relative to dirfd at `path`. */
static int make_quarantine(int dirfd, char *path, size_t size, int *out)
{
	time_t now = time(NULL);
	struct tm tm;
	char stamp[32];
	int n = 0, fd;

	if (mkdirat(dirfd, QUARANTINE_DIR, 0700) < 0 && errno != EEXIST)
		return -errno;
	gmtime_r(&now, &tm);
	strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
	do
		snprintf(path, size, QUARANTINE_DIR "/index-%s-%d", stamp, n);
	while (mkdirat(dirfd, path, 0700) < 0 && errno == EEXIST && n++ < 1000);
	fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*out = fd;
	return 0;
}

/* A file that is not there is not copied. */
static int copy_named(int dirfd, const char *name, int to)
{
	_cleanup_fd_ int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	return copy_into(fd, to, name);
}

static int note_loss(int dirfd)
{
	_cleanup_fd_ int fd =
		openat(dirfd, RECOVER_LOSS_FILE, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : io_fsync_dir(dirfd);
}

int recover_settle_loss(int dirfd)
{
	if (unlinkat(dirfd, RECOVER_LOSS_FILE, 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	return io_fsync_dir(dirfd);
}

static int quarantine(int dirfd, int main_fd, struct db_recovery *rec)
{
	_cleanup_fd_ int parent = -1;
	_cleanup_fd_ int fd = -1;
	char path[sizeof(rec->quarantine)];
	int r = make_quarantine(dirfd, path, sizeof(path), &fd);
	if (r == 0)
		r = copy_into(main_fd, fd, DB_FILE);
	if (r == 0)
		r = copy_named(dirfd, DB_WAL_FILE, fd);
	if (r == 0)
		r = copy_named(dirfd, REDO_FILE, fd);
	if (r == 0)
		r = io_fsync_dir(fd);
	if (r < 0)
		return r;
	parent = openat(dirfd, QUARANTINE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (parent < 0)
		return -errno;
	r = io_fsync_dir(parent);
	if (r == 0)
		r = io_fsync_dir(dirfd);
	if (r == 0)
		memcpy(rec->quarantine, path, sizeof(path));
	return r;
}

int recover_quarantine(int dirfd, int main_fd, struct db_recovery *rec)
{
	int r = rec->quarantine[0] ? 0 : quarantine(dirfd, main_fd, rec);

	return r || !rec->durable_lost ? r : note_loss(dirfd);
}

static int cut_log(int wal_fd, const struct walscan *scan)
{
	int r;

	if (wal_fd < 0 || scan->bytes <= scan->keep_bytes)
		return 0;
	r = FAILPOINT("index-cut-log");
	if (r < 0)
		return r;
	if (ftruncate(wal_fd, (off_t)scan->keep_bytes) < 0 || fdatasync(wal_fd) < 0)
		return -errno;
	return 0;
}

int recover_prepare(int dirfd, int main_fd, const struct secret *key, struct db_recovery *rec,
	bool *page1_in_wal)
{
	_cleanup_fd_ int wal_fd = openat(dirfd, DB_WAL_FILE, O_RDWR | O_CLOEXEC);
	_cleanup_(page_keys_done) struct page_keys keys = { 0 };
	struct walscan scan = { 0 };
	int r;

	if (wal_fd < 0 && errno != ENOENT)
		return -errno;
	r = page_keys_init(&keys, key);
	if (r == 0)
		r = walscan_run(wal_fd, &keys, &scan);
	if (r == 0)
		r = check_key(main_fd, &keys, &scan);
	if (r < 0)
		return r;
	rec->wal_damaged = scan.damaged;
	rec->durable_lost = scan.durable_lost ||
			    faccessat(dirfd, RECOVER_LOSS_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	if (scan.damaged)
		r = recover_quarantine(dirfd, main_fd, rec);
	if (r == 0)
		r = cut_log(wal_fd, &scan);
	if (r == 0)
		*page1_in_wal = scan.page1;
	return r;
}
