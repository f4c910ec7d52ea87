/*
 * A SQLite VFS over unix-excl that records what reaches the files, for tests of crashes: which
 * bytes were written where, what was truncated, what was synced. It can also fail: a disk that
 * fills up after so many bytes, and a sync that fails and, as Linux does, forgets that the pages
 * were dirty.
 *
 * From the record a state after power loss is made: everything up to the last good sync of a file
 * before the crash is there; of each later write every 512-byte sector is there with the given
 * probability.
 */
#ifndef CACHET_TESTS_META_RECORD_H
#define CACHET_TESTS_META_RECORD_H

#include <sqlite3.h>

#include "meta_fixture.h"

#define RECORD_SECTOR 512

enum record_kind { RECORD_WRITE, RECORD_TRUNCATE, RECORD_SYNC, RECORD_SYNC_FAILED };

enum record_which { RECORD_MAIN, RECORD_WAL, RECORD_REDO };

struct record_op {
	enum record_kind kind;
	enum record_which which;
	uint64_t at;
	size_t len;
	uint8_t *data;
};

static struct {
	sqlite3_vfs vfs;
	sqlite3_vfs *real;
	struct record_op *ops;
	size_t n, room;
	bool on;
	int64_t budget;     /* bytes that may still be written; < 0: no limit */
	int fail_wal_syncs; /* how many of the next ones fail, of the WAL or the redo log */
	int fail_in;        /* the call that many from now fails, once; 0: none */
} record;

struct record_file {
	sqlite3_file base;
	enum record_which which;
	sqlite3_file *real;
};

static inline sqlite3_file *record_real(sqlite3_file *f)
{
	return ((struct record_file *)f)->real;
}

static void record_add(
	sqlite3_file *f, enum record_kind kind, const void *data, size_t len, uint64_t at)
{
	struct record_op *op;

	if (!record.on)
		return;
	if (record.n == record.room) {
		record.room = record.room ? record.room * 2 : 1024;
		record.ops = realloc(record.ops, record.room * sizeof(*record.ops));
		assert_non_null(record.ops);
	}
	op = &record.ops[record.n++];
	*op = (struct record_op){
		.kind = kind, .which = ((struct record_file *)f)->which, .at = at, .len = len
	};
	if (data) {
		op->data = malloc(len);
		memcpy(op->data, data, len);
	}
}

static inline bool record_fails(void)
{
	return record.fail_in > 0 && --record.fail_in == 0;
}

static int record_close(sqlite3_file *f)
{
	return record_real(f)->pMethods->xClose(record_real(f));
}

static int record_read(sqlite3_file *f, void *buf, int len, sqlite3_int64 at)
{
	if (record_fails())
		return SQLITE_IOERR_READ;
	return record_real(f)->pMethods->xRead(record_real(f), buf, len, at);
}

static int record_write(sqlite3_file *f, const void *buf, int len, sqlite3_int64 at)
{
	int fits = len;

	if (record_fails())
		return SQLITE_IOERR_WRITE;
	if (record.budget >= 0) {
		fits = (int)MIN_OF((int64_t)len, record.budget);
		record.budget -= fits;
	}
	if (fits) {
		record_add(f, RECORD_WRITE, buf, (size_t)fits, (uint64_t)at);
		int rc = record_real(f)->pMethods->xWrite(record_real(f), buf, fits, at);

		if (rc != SQLITE_OK)
			return rc;
	}
	return fits == len ? SQLITE_OK : SQLITE_FULL;
}

static int record_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	if (record_fails())
		return SQLITE_IOERR_TRUNCATE;
	record_add(f, RECORD_TRUNCATE, NULL, 0, (uint64_t)size);
	return record_real(f)->pMethods->xTruncate(record_real(f), size);
}

static int record_sync(sqlite3_file *f, int flags)
{
	if (record_fails()) {
		record_add(f, RECORD_SYNC_FAILED, NULL, 0, 0);
		return SQLITE_IOERR_FSYNC;
	}
	if (((struct record_file *)f)->which != RECORD_MAIN && record.fail_wal_syncs > 0) {
		record.fail_wal_syncs--;
		record_add(f, RECORD_SYNC_FAILED, NULL, 0, 0);
		return SQLITE_IOERR_FSYNC;
	}
	record_add(f, RECORD_SYNC, NULL, 0, 0);
	return SQLITE_OK; /* the disk is a model: no need to wait for the real one */
}

static int record_size(sqlite3_file *f, sqlite3_int64 *size)
{
	return record_real(f)->pMethods->xFileSize(record_real(f), size);
}

static int record_lock(sqlite3_file *f, int level)
{
	return record_real(f)->pMethods->xLock(record_real(f), level);
}

static int record_unlock(sqlite3_file *f, int level)
{
	return record_real(f)->pMethods->xUnlock(record_real(f), level);
}

static int record_reserved(sqlite3_file *f, int *out)
{
	return record_real(f)->pMethods->xCheckReservedLock(record_real(f), out);
}

static int record_control(sqlite3_file *f, int op, void *arg)
{
	return record_real(f)->pMethods->xFileControl(record_real(f), op, arg);
}

static int record_sector(sqlite3_file *f)
{
	return record_real(f)->pMethods->xSectorSize(record_real(f));
}

static int record_characteristics(sqlite3_file *f)
{
	return record_real(f)->pMethods->xDeviceCharacteristics(record_real(f));
}

static int record_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
	return record_real(f)->pMethods->xShmMap(record_real(f), page, size, extend, out);
}

static int record_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
	return record_real(f)->pMethods->xShmLock(record_real(f), offset, n, flags);
}

static void record_shm_barrier(sqlite3_file *f)
{
	record_real(f)->pMethods->xShmBarrier(record_real(f));
}

static int record_shm_unmap(sqlite3_file *f, int flag)
{
	return record_real(f)->pMethods->xShmUnmap(record_real(f), flag);
}

static const sqlite3_io_methods record_methods = { 2, record_close, record_read, record_write,
	record_truncate, record_sync, record_size, record_lock, record_unlock, record_reserved,
	record_control, record_sector, record_characteristics, record_shm_map, record_shm_lock,
	record_shm_barrier, record_shm_unmap, NULL, NULL };

static int record_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
	struct record_file *r = (struct record_file *)f;
	int rc;

	r->which = RECORD_MAIN;
	if (flags & SQLITE_OPEN_WAL)
		r->which = strstr(name, "/" REDO_FILE) ? RECORD_REDO : RECORD_WAL;
	r->real = (sqlite3_file *)(r + 1);
	rc = record.real->xOpen(record.real, name, r->real, flags, out);
	f->pMethods = rc == SQLITE_OK ? &record_methods : NULL;
	return rc;
}

/* Registers "record"; nothing is recorded before record_start(). */
static inline void record_register(void)
{
	if (record.real)
		return;
	record.real = sqlite3_vfs_find("unix-excl");
	record.vfs = *record.real;
	record.vfs.zName = "record";
	record.vfs.szOsFile = (int)sizeof(struct record_file) + record.real->szOsFile;
	record.vfs.xOpen = record_open;
	record.vfs.pNext = NULL;
	record.budget = -1;
	assert_int_equal(sqlite3_vfs_register(&record.vfs, 0), SQLITE_OK);
}

static inline void record_start(void)
{
	record.on = true;
}

static inline void record_stop(void)
{
	for (size_t i = 0; i < record.n; i++)
		free(record.ops[i].data);
	free(record.ops);
	record.ops = NULL;
	record.n = record.room = 0;
	record.on = false;
	record.budget = -1;
	record.fail_wal_syncs = 0;
	record.fail_in = 0;
}

static void record_extend(struct bytes *b, size_t len)
{
	if (len <= b->len)
		return;
	b->data = realloc(b->data, len + 1);
	memset(b->data + b->len, 0, len - b->len);
	b->len = len;
}

static void record_apply_write(struct bytes *b, const struct record_op *op, unsigned percent)
{
	for (size_t done = 0; done < op->len;) {
		uint64_t at = op->at + done;
		size_t n = MIN_OF(RECORD_SECTOR - at % RECORD_SECTOR, op->len - done);

		if ((unsigned)rand() % 100 < percent) {
			record_extend(b, at + n);
			memcpy(b->data + at, op->data + done, n);
		}
		done += n;
	}
}

/* The file after a power loss behind op `crash`; `b` starts as it was when recording began. */
static inline void record_replay(
	struct bytes *b, enum record_which which, size_t crash, unsigned percent)
{
	size_t synced = 0, lost_from = 0, lost_to = 0;

	for (size_t i = 0; i < crash; i++) {
		const struct record_op *op = &record.ops[i];

		if (op->which != which)
			continue;
		if (op->kind == RECORD_SYNC)
			synced = i;
		if (op->kind == RECORD_SYNC_FAILED) {
			lost_from = synced;
			lost_to = i;
		}
	}
	for (size_t i = 0; i < crash; i++) {
		const struct record_op *op = &record.ops[i];
		bool lost = i > lost_from &&
			    i < lost_to; /* clean but never written: only a new write helps */
		unsigned p = lost ? 0 : i < synced ? 100 : percent;

		if (op->which != which)
			continue;
		if (op->kind == RECORD_WRITE)
			record_apply_write(b, op, p);
		else if (op->kind == RECORD_TRUNCATE && op->at < b->len &&
			 (unsigned)rand() % 100 < p)
			b->len = op->at;
	}
}

#endif
