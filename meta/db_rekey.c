/*
 * Theory of operation: the index under another key.
 *
 * A page of the main file cannot be sealed anew where it lies: a torn write would lose it, and no
 * log has it. So the main file is copied, page by page, to index.db.rekey, each page opened with
 * the old key and sealed with the new. The copy takes the index lock for SLICE_PAGES at a time.
 * What checkpoints write meanwhile goes to both files (vfs_mirror), so a page that was copied never
 * gets old, and one that was not yet is copied later or written twice.
 *
 * At the end both locks are held: a checkpoint puts everything into the main file and its mirror
 * and empties WAL and redo log. The copy is synced, the redo log removed (nothing is in it; its
 * records are sealed under the old key), the connection closed, the copy renamed over index.db, and
 * the connection opened again with the new key. The rename is the one moment that counts: before
 * it the old key opens index.db, after it the new one, and whoever opens the volume tries both.
 *
 * Should the opening fail (no memory, no descriptor) it is tried again for some seconds; then the
 * process ends, as by SIGKILL: everything that was answered is durable.
 *
 * What a crash leaves of index.db.rekey is overwritten by the next try, and removed by db_open.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "meta/db_priv.h"
#include "meta/page.h"

#define SLICE_PAGES 64
#define REOPEN_TRIES 50
#define REOPEN_PAUSE_US 100000

struct copy {
	struct db *db;
	const struct secret *key;
	struct page_keys keys;
	int fd;
};

/* Index lock held. */
static int copy_page(struct copy *c, uint32_t pgno)
{
	off_t at = (off_t)(pgno - 1) * PAGE_SIZE_BYTES;
	uint8_t page[PAGE_SIZE_BYTES], sealed[PAGE_SIZE_BYTES];
	int r = io_pread_full(c->db->lock_fd, page, sizeof(page), at);

	if (r == 0)
		r = page_open(vfs_keys(c->db->vfs), pgno, page, page);
	if (r == 0)
		r = page_seal(&c->keys, pgno, page, sealed);
	secret_wipe(page, sizeof(page));
	return r ? r : io_pwrite_full(c->fd, sealed, sizeof(sealed), at);
}

/* From page *next on; *next 0: there is no other. */
static int copy_slice(struct copy *c, uint32_t *next)
{
	struct db *db = c->db;
	uint32_t last, pgno = *next;
	int r = FAILPOINT("rekey-index-copy");

	db_read(db);
	if (r == 0 && db_group_lost(db))
		r = db->lost ? db->lost : -EIO;
	last = r ? 0 : (uint32_t)(vfs_main_bytes(db->vfs) / PAGE_SIZE_BYTES);
	for (uint32_t n = 0; r == 0 && pgno <= last && n < SLICE_PAGES; n++)
		r = copy_page(c, pgno++);
	*next = pgno <= last ? pgno : 0;
	db_unlock(db);
	return r;
}

static int copy_all(struct copy *c, bool (*stop)(void *arg), void *arg)
{
	uint32_t next = 1;
	int r = 0;

	while (r == 0 && next) {
		r = stop && stop(arg) ? -EINTR : copy_slice(c, &next);
	}
	/* What is left to the sync under the locks is little. */
	return r == 0 && fdatasync(c->fd) < 0 ? -errno : r;
}

/* Both locks held, all of the index in the main file. */
static int finish_copy(struct copy *c)
{
	struct db *db = c->db;
	int r = vfs_mirror_error(db->vfs);

	if (r == 0 && ftruncate(c->fd, (off_t)vfs_main_bytes(db->vfs)) < 0)
		r = -errno;
	if (r == 0)
		r = FAILPOINT("rekey-index-sync");
	return r == 0 && fsync(c->fd) < 0 ? -errno : r;
}

/* Nothing is in the redo log, so nobody misses it. *done: the copy is index.db, durable or not. */
static int exchange(struct db *db, bool *done)
{
	int r = FAILPOINT("rekey-index-rename");

	if (r == 0 && unlinkat(db->dirfd, REDO_FILE, 0) < 0 && errno != ENOENT)
		r = -errno;
	if (r == 0 && renameat(db->dirfd, DB_REKEY_FILE, db->dirfd, DB_FILE) < 0)
		r = -errno;
	*done = r == 0;
	if (r == 0)
		r = io_fsync_dir(db->dirfd);
	return r ? r : FAILPOINT("rekey-index-renamed");
}

static void reopen(struct db *db)
{
	struct db_recovery rec;
	int r = -EIO;

	db->group = false;
	atomic_store(&db->group_bytes, 0);
	atomic_store(&db->logical_bytes, 0);
	atomic_store(&db->wal_needed, false);
	for (int i = 0; i < REOPEN_TRIES && r < 0; i++) {
		rec = (struct db_recovery){ 0 };
		r = db_open_handle(db, &db->options, &rec);
		if (r == 0)
			return;
		db_close_handle(db);
		usleep(REOPEN_PAUSE_US);
	}
	fprintf(stderr, "cachet: the index cannot be opened again: %s\n", error_text(r));
	abort();
}

static int swap(struct copy *c)
{
	struct db *db = c->db;
	struct secret *key = NULL;
	bool done = false;
	int r = finish_copy(c);

	if (r == 0)
		r = secret_new_copy(secret_cbytes(c->key), secret_len(c->key), &key);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&db->swap);
	db_close_handle(db);
	r = exchange(db, &done);
	if (done) {
		secret_free((struct secret *)db->options.key);
		db->options.key = steal_ptr(&key);
	}
	reopen(db);
	pthread_rwlock_unlock(&db->swap);
	secret_free(key);
	return r;
}

static void give_up(struct copy *c)
{
	db_read(c->db);
	vfs_mirror(c->db->vfs, -1, NULL);
	db_unlock(c->db);
	unlinkat(c->db->dirfd, DB_REKEY_FILE, 0);
}

static int run(struct copy *c, bool (*stop)(void *arg), void *arg)
{
	struct db *db = c->db;
	int r;

	db_read(db);
	r = db_group_lost(db) ? -EIO : 0;
	if (r == 0)
		vfs_mirror(db->vfs, c->fd, &c->keys);
	db_unlock(db);
	if (r == 0)
		r = copy_all(c, stop, arg);
	if (r == 0)
		r = db_checkpoint_enter(db);
	if (r == 0) {
		r = swap(c);
		db_checkpoint_leave(db);
	}
	return r;
}

int db_rekey(struct db *db, const struct secret *key, bool (*stop)(void *arg), void *arg)
{
	struct copy c = { .db = db, .key = key };
	int r = page_keys_init(&c.keys, key);

	if (r < 0)
		return r;
	c.fd = openat(db->dirfd, DB_REKEY_FILE, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
		0600);
	r = c.fd < 0 ? -errno : run(&c, stop, arg);
	if (r < 0 && c.fd >= 0)
		give_up(&c);
	if (c.fd >= 0)
		close(c.fd);
	page_keys_done(&c.keys);
	return r;
}
