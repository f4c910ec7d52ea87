/*
 * Theory of operation: the log.
 *
 * SQLite writes a frame in two calls, header (24 bytes) and payload (a page). The header carries a
 * checksum over plaintext, so it must not reach the disk in the clear: it is held until its payload
 * comes, checksum and page are sealed as one message, and the frame is written in one call.
 *
 * Two more patterns occur when a transaction is larger than SQLite's page cache:
 *   - a payload alone: a frame of this transaction is replaced in place. The old frame is opened,
 * its header kept.
 *   - a frame read whole and its header written again at once: checksums after such a replacement
 * are renewed when the transaction commits. The frame is opened and sealed with the new header at
 * once: nothing follows the last of them, so holding it would lose the commit.
 *
 * Reads: recovery reads frames whole. One that does not authenticate is returned with its salts
 * inverted, which SQLite takes for the end of the log, as it does with a wrong checksum. Any
 * other read is of a frame in use: failure is VFS_REFUSED.
 *
 * Syncs run beside writes: `state` guards the counters, `sync_lock` lets one sync at a time pass.
 * What a sync covers is what was counted before its hook began. A restart of the log in the middle
 * of a sync changes `log`, so that the old log's extent is not taken for the new one's. (SQLite
 * restarts a log only when all of it is in the main file, synced; the sync then had nothing left to
 * prove.)
 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/failpoint.h"
#include "meta/vfs_priv.h"

#define NOTHING UINT64_MAX

static uint64_t frame_at(uint32_t index)
{
	return PAGE_WAL_HEADER_LEN + (uint64_t)index * PAGE_FRAME_LEN;
}

static uint32_t frame_index(uint64_t at)
{
	return (uint32_t)((at - PAGE_WAL_HEADER_LEN) / PAGE_FRAME_LEN);
}

void vfs_wal_init(struct vfs_file *f)
{
	struct vfs *v = f->vfs;
	uint64_t bytes = atomic_load(&v->wal_bytes);

	f->whole_read = NOTHING;
	pthread_mutex_lock(&v->state);
	v->wal = f;
	v->written++;
	v->log++;
	/* The owner has cut what is behind the last commit (meta/walscan.h). */
	v->commit_end = bytes > PAGE_WAL_HEADER_LEN ? frame_index(bytes) : 0;
	v->durable = 0;
	if (v->commit_end > 0) /* nobody knows whether what is there was synced */
		v->frame_written = v->written;
	pthread_mutex_unlock(&v->state);
}

/* --- reading --- */

/* The frame at `at`, opened into `plain`. */
static int load_frame(struct vfs_file *f, uint64_t at, uint8_t *plain, bool *authentic)
{
	int r, rc = vfs_file_read(f, f->staged, PAGE_FRAME_LEN, at);

	if (rc != SQLITE_OK)
		return rc;
	r = page_frame_open(&f->vfs->keys, at, f->staged, plain);
	*authentic = r == 0;
	return r == CE_TAMPER ? SQLITE_OK : vfs_judge(f->vfs, r);
}

static int read_whole(struct vfs_file *f, uint8_t *buf, uint64_t at)
{
	bool authentic;
	int rc = load_frame(f, at, buf, &authentic);

	if (rc != SQLITE_OK)
		return rc;
	if (authentic)
		f->whole_read = at;
	else
		for (size_t i = PAGE_FRAME_SALT_OFFSET; i < PAGE_FRAME_SEALED_OFFSET; i++)
			buf[i] = (uint8_t)~f->staged[i];
	return SQLITE_OK;
}

static int read_part(struct vfs_file *f, uint8_t *buf, size_t len, uint64_t at)
{
	uint64_t frame = frame_at(frame_index(at));
	uint8_t plain[PAGE_FRAME_LEN];
	bool authentic;
	int rc;

	if (at - frame + len > PAGE_FRAME_LEN)
		return SQLITE_IOERR_READ;
	rc = load_frame(f, frame, plain, &authentic);
	if (rc == SQLITE_OK && !authentic)
		rc = vfs_refuse(f->vfs);
	if (rc == SQLITE_OK)
		memcpy(buf, plain + (at - frame), len);
	else
		memset(buf, 0, len);
	secret_wipe(plain, sizeof(plain));
	return rc;
}

static int wal_read(sqlite3_file *file, void *buf, int len, sqlite3_int64 at)
{
	struct vfs_file *f = vfs_file_of(file);

	f->whole_read = NOTHING;
	if (at + len <= PAGE_WAL_HEADER_LEN)
		return f->real->pMethods->xRead(f->real, buf, len, at);
	if (at < PAGE_WAL_HEADER_LEN)
		return SQLITE_IOERR_READ;
	if (len == PAGE_FRAME_LEN && (uint64_t)at == frame_at(frame_index((uint64_t)at)))
		return read_whole(f, buf, (uint64_t)at);
	return read_part(f, buf, (size_t)len, (uint64_t)at);
}

/* --- writing --- */

static void count_header(struct vfs *v)
{
	pthread_mutex_lock(&v->state);
	v->written++;
	v->log++;
	v->commit_end = v->durable = 0;
	pthread_mutex_unlock(&v->state);
}

static void count_frame(struct vfs *v, uint64_t at, const uint8_t *header)
{
	uint32_t index = frame_index(at);

	pthread_mutex_lock(&v->state);
	v->frame_written = ++v->written;
	/* Frames of a transaction that was rolled back are written over. */
	v->durable = MIN_OF(v->durable, index);
	v->commit_end = MIN_OF(v->commit_end, index);
	if (page_load_be32(header + 4) != 0) {
		v->commit_end = index + 1;
		atomic_store(&v->logical_bytes,
			(uint64_t)page_load_be32(header + 4) * PAGE_SIZE_BYTES);
	}
	pthread_mutex_unlock(&v->state);
	if (at + PAGE_FRAME_LEN > atomic_load(&v->wal_bytes))
		atomic_store(&v->wal_bytes, at + PAGE_FRAME_LEN);
}

static int put_frame(struct vfs_file *f, uint64_t at, const uint8_t *header, const uint8_t *page)
{
	uint32_t durable;
	int rc;

	/* Recovery sees zeros in the reserved bytes: with others the checksum would end the log
	 * here. */
	if (!page_reserve_clear(page))
		return SQLITE_IOERR_WRITE;
	pthread_mutex_lock(&f->vfs->state);
	durable = f->vfs->durable;
	pthread_mutex_unlock(&f->vfs->state);
	if (page_frame_seal(&f->vfs->keys, at, durable, header, page, f->staged) < 0)
		return SQLITE_IOERR_WRITE;
	rc = FAILPOINT("index-frame-write") ? SQLITE_FULL : SQLITE_OK;
	if (rc == SQLITE_OK)
		rc = f->real->pMethods->xWrite(
			f->real, f->staged, PAGE_FRAME_LEN, (sqlite3_int64)at);
	/* Counted also when it failed: it may be there in part. */
	count_frame(f->vfs, at, header);
	return rc;
}

/* Seals the frame at `at` again with a new header, a new page, or both. */
static int put_again(struct vfs_file *f, uint64_t at, const uint8_t *header, const uint8_t *page)
{
	uint8_t plain[PAGE_FRAME_LEN];
	bool authentic;
	int rc = load_frame(f, at, plain, &authentic);

	if (rc == SQLITE_OK && !authentic)
		rc = vfs_refuse(f->vfs);
	if (rc == SQLITE_OK)
		rc = put_frame(f, at, header ? header : plain,
			page ? page : plain + PAGE_FRAME_HEADER_LEN);
	secret_wipe(plain, sizeof(plain));
	return rc;
}

static int put_log_header(struct vfs_file *f, const void *buf)
{
	struct vfs *v = f->vfs;
	int rc = f->real->pMethods->xWrite(f->real, buf, PAGE_WAL_HEADER_LEN, 0);

	count_header(v);
	if (rc == SQLITE_OK && atomic_load(&v->wal_bytes) < PAGE_WAL_HEADER_LEN)
		atomic_store(&v->wal_bytes, PAGE_WAL_HEADER_LEN);
	return rc;
}

static int put_header(struct vfs_file *f, const uint8_t *header, uint64_t at)
{
	if (f->whole_read == at) {
		f->whole_read = NOTHING;
		return put_again(f, at, header, NULL);
	}
	memcpy(f->held_header, header, PAGE_FRAME_HEADER_LEN);
	f->held_offset = at;
	f->held = true;
	return SQLITE_OK;
}

static int put_payload(struct vfs_file *f, const uint8_t *page, uint64_t at)
{
	bool mine = f->held && f->held_offset == at;

	f->held = false;
	return mine ? put_frame(f, at, f->held_header, page) : put_again(f, at, NULL, page);
}

static int wal_write(sqlite3_file *file, const void *buf, int len, sqlite3_int64 at)
{
	struct vfs_file *f = vfs_file_of(file);
	uint64_t frame;

	if (at == 0 && len == PAGE_WAL_HEADER_LEN)
		return put_log_header(f, buf);
	if (at < PAGE_WAL_HEADER_LEN)
		return SQLITE_IOERR_WRITE;
	frame = frame_at(frame_index((uint64_t)at));
	if (len == PAGE_FRAME_HEADER_LEN && (uint64_t)at == frame)
		return put_header(f, buf, frame);
	if (len == PAGE_SIZE_BYTES && (uint64_t)at == frame + PAGE_FRAME_HEADER_LEN)
		return put_payload(f, buf, frame);
	return SQLITE_IOERR_WRITE;
}

static int wal_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	struct vfs_file *f = vfs_file_of(file);
	int rc = f->real->pMethods->xTruncate(f->real, size);

	if (rc != SQLITE_OK)
		return rc;
	atomic_store(&f->vfs->wal_bytes, (uint64_t)size);
	count_header(f->vfs);
	return SQLITE_OK;
}

/* --- syncing --- */

/* Writes the log up to its last commit again: what a failed sync left clean but lost becomes dirty.
 */
static int write_again(struct vfs_file *f, uint32_t frames)
{
	uint8_t sealed[PAGE_FRAME_LEN], plain[PAGE_FRAME_LEN];
	const sqlite3_io_methods *m = f->real->pMethods;
	int rc = SQLITE_OK;

	if (atomic_load(&f->vfs->wal_bytes) >= PAGE_WAL_HEADER_LEN) {
		rc = m->xRead(f->real, sealed, PAGE_WAL_HEADER_LEN, 0);
		if (rc == SQLITE_OK)
			rc = m->xWrite(f->real, sealed, PAGE_WAL_HEADER_LEN, 0);
	}
	for (uint32_t i = 0; rc == SQLITE_OK && i < frames; i++) {
		rc = m->xRead(f->real, sealed, PAGE_FRAME_LEN, (sqlite3_int64)frame_at(i));
		if (rc == SQLITE_OK) /* refused: the kernel has dropped it, it is lost */
			rc = vfs_judge(f->vfs,
				page_frame_open(&f->vfs->keys, frame_at(i), sealed, plain));
		if (rc == SQLITE_OK)
			rc = m->xWrite(f->real, sealed, PAGE_FRAME_LEN, (sqlite3_int64)frame_at(i));
	}
	secret_wipe(plain, sizeof(plain));
	return rc;
}

struct covered {
	uint64_t written, log;
	uint32_t commit_end;
	bool frames, suspect;
};

static struct covered cover(struct vfs *v)
{
	struct covered c;

	pthread_mutex_lock(&v->state);
	c = (struct covered){
		.written = v->written,
		.log = v->log,
		.commit_end = v->commit_end,
		.frames = v->frame_written > v->synced,
		.suspect = v->suspect,
	};
	pthread_mutex_unlock(&v->state);
	return c;
}

static void covered_end(struct vfs *v, const struct covered *c, bool ok)
{
	pthread_mutex_lock(&v->state);
	v->suspect = !ok;
	if (ok) {
		v->synced = MAX_OF(v->synced, c->written);
		if (v->log == c->log)
			v->durable = MIN_OF(c->commit_end, v->commit_end);
	}
	pthread_mutex_unlock(&v->state);
}

static int sync_covered(struct vfs_file *f, const struct covered *c, int flags)
{
	struct vfs *v = f->vfs;
	int rc = SQLITE_OK;

	pthread_mutex_lock(&v->sync_lock);
	if (c->suspect)
		rc = write_again(f, c->commit_end);
	if (rc == SQLITE_OK)
		rc = FAILPOINT("index-wal-sync") ? SQLITE_IOERR_FSYNC : SQLITE_OK;
	if (rc == SQLITE_OK)
		rc = f->real->pMethods->xSync(f->real, flags);
	covered_end(v, c, rc == SQLITE_OK);
	pthread_mutex_unlock(&v->sync_lock);
	return rc;
}

int vfs_before_sync(struct vfs *v)
{
	return v->before_sync && !v->hook_has_run ? v->before_sync(v->before_sync_arg) : 0;
}

void vfs_hook_has_run(struct vfs *v, bool yes)
{
	v->hook_has_run = yes;
}

static int wal_sync(sqlite3_file *file, int flags)
{
	struct vfs_file *f = vfs_file_of(file);
	struct covered c = cover(f->vfs);
	/* A sync of a fresh log header makes no commit durable, and comes in the middle of a
	 * transaction. */
	int r = c.frames ? vfs_before_sync(f->vfs) : 0;

	if (r < 0) {
		atomic_store(&f->vfs->hook_error, r);
		return SQLITE_IOERR_FSYNC;
	}
	return sync_covered(f, &c, flags);
}

int vfs_wal_sync(struct vfs *v)
{
	struct covered c = cover(v);
	int r = vfs_before_sync(v);

	if (r < 0 || !v->wal || !c.frames)
		return r < 0 ? r : 0;
	switch (sync_covered(v->wal, &c, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY)) {
	case SQLITE_OK:
		return 0;
	case SQLITE_FULL:
		return -ENOSPC;
	case VFS_REFUSED:
		return CE_TAMPER;
	default:
		return -EIO;
	}
}

bool vfs_wal_suspect(const struct vfs *v)
{
	return cover((struct vfs *)v).suspect;
}

bool vfs_wal_dirty(const struct vfs *v)
{
	return cover((struct vfs *)v).frames;
}

const sqlite3_io_methods vfs_wal_methods = {
	.iVersion = 1,
	.xClose = vfs_file_close,
	.xRead = wal_read,
	.xWrite = wal_write,
	.xTruncate = wal_truncate,
	.xSync = wal_sync,
	.xFileSize = vfs_file_size,
	.xLock = vfs_file_lock,
	.xUnlock = vfs_file_unlock,
	.xCheckReservedLock = vfs_file_check_reserved,
	.xFileControl = vfs_file_control,
	.xSectorSize = vfs_file_sector_size,
	.xDeviceCharacteristics = vfs_file_characteristics,
};
