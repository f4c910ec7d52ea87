/*
 * Theory of operation: object, main file. (The log: vfs_wal.c.)
 *
 * SQLite reads and writes the main file in whole pages, with two exceptions on page 1: 100 bytes at
 * 0 when it opens the file, and 16 at 24 to see whether somebody changed it. Any range inside a
 * page is served by opening the whole page.
 *
 * SQLite reads those 100 bytes before it recovers the log. A checkpoint torn inside page 1 is
 * harmless in stock SQLite, because the log still has the page; here the torn page does not
 * authenticate. When the owner has seen a committed page 1 in the log (page1_in_wal), a header is
 * made up that says what is true of every index of ours; SQLite then reads page 1 itself, from the
 * log. Without that knowledge nothing is made up: a wrong key must not look like an empty log.
 *
 * A page of zeros is never accepted. Where SQLite would leave a hole (a write or truncate beyond
 * the end), sealed pages of zeros are put. A page beyond the end of a file that has pages is an
 * error, not zeros: stock SQLite takes it for zeros, which would turn a truncated file into wrong
 * data.
 */
#include "meta/vfs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "meta/vfs_priv.h"

static struct vfs *vfs_of(sqlite3_vfs *v)
{
	return v->pAppData;
}

int vfs_refuse(struct vfs *v)
{
	atomic_store(&v->tampered, true);
	return VFS_REFUSED;
}

int vfs_judge(struct vfs *v, int opened)
{
	if (opened == CE_TAMPER)
		return vfs_refuse(v);
	if (opened >= 0)
		return SQLITE_OK;
	errno = opened == -ENOMEM ? ENOMEM : EIO; /* SQLite asks; an old one may be ENOENT */
	return SQLITE_IOERR_READ;
}

/* --- methods of both kinds of file --- */

int vfs_file_read(struct vfs_file *f, void *buf, int len, uint64_t at)
{
	int rc = f->real->pMethods->xRead(f->real, buf, len, (sqlite3_int64)at);

	return rc == SQLITE_IOERR_CORRUPTFS ? VFS_REFUSED : rc;
}

int vfs_file_close(sqlite3_file *file)
{
	struct vfs_file *f = vfs_file_of(file);
	int rc = f->real->pMethods ? f->real->pMethods->xClose(f->real) : SQLITE_OK;

	if (f->vfs->wal == f)
		f->vfs->wal = NULL;
	secret_wipe(f->held_header, sizeof(f->held_header));
	return rc;
}

int vfs_file_size(sqlite3_file *file, sqlite3_int64 *size)
{
	struct vfs_file *f = vfs_file_of(file);

	return f->real->pMethods->xFileSize(f->real, size);
}

int vfs_file_lock(sqlite3_file *file, int level)
{
	struct vfs_file *f = vfs_file_of(file);

	return f->real->pMethods->xLock(f->real, level);
}

int vfs_file_unlock(sqlite3_file *file, int level)
{
	struct vfs_file *f = vfs_file_of(file);

	return f->real->pMethods->xUnlock(f->real, level);
}

int vfs_file_check_reserved(sqlite3_file *file, int *out)
{
	struct vfs_file *f = vfs_file_of(file);

	return f->real->pMethods->xCheckReservedLock(f->real, out);
}

/* `PRAGMA page_size` and `mmap_size` would change what the format fixes. */
static int refuse_pragma(char **args)
{
	static const char *const fixed[] = { "page_size", "mmap_size", "temp_store_directory" };

	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		if (args[2] && sqlite3_stricmp(args[1], fixed[i]) == 0) {
			args[0] = sqlite3_mprintf("%s is fixed in a sealed index", fixed[i]);
			return SQLITE_ERROR;
		}
	return SQLITE_NOTFOUND;
}

int vfs_file_control(sqlite3_file *file, int op, void *arg)
{
	struct vfs_file *f = vfs_file_of(file);

	switch (op) {
	case SQLITE_FCNTL_PRAGMA:
		return refuse_pragma(arg);
	case SQLITE_FCNTL_LOCKSTATE:
	case SQLITE_FCNTL_LAST_ERRNO:
	case SQLITE_FCNTL_PERSIST_WAL:
	case SQLITE_FCNTL_HAS_MOVED:
		return f->real->pMethods->xFileControl(f->real, op, arg);
	default: /* chunk size, size hint, mmap size and the rest: not here */
		return SQLITE_NOTFOUND;
	}
}

int vfs_file_sector_size(sqlite3_file *file)
{
	struct vfs_file *f = vfs_file_of(file);

	return f->real->pMethods->xSectorSize(f->real);
}

/* Without it SQLite would split log writes at a sync point; no flag beyond it holds for sealed
 * pages. */
int vfs_file_characteristics(sqlite3_file *file)
{
	return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

/* --- main file --- */

static int main_read_page(struct vfs_file *f, uint32_t pgno, uint8_t *plain)
{
	sqlite3_int64 at = (sqlite3_int64)(pgno - 1) * PAGE_SIZE_BYTES;
	int rc = vfs_file_read(f, f->staged, PAGE_SIZE_BYTES, (uint64_t)at);

	if (rc == SQLITE_IOERR_SHORT_READ)
		return atomic_load(&f->vfs->main_bytes) == 0 ? rc : vfs_refuse(f->vfs);
	if (rc != SQLITE_OK)
		return rc;
	return vfs_judge(f->vfs, page_open(&f->vfs->keys, pgno, f->staged, plain));
}

/* The first 100 bytes of any index of ours, as far as SQLite believes them at that point. */
static void make_up_header(uint8_t *page)
{
	memset(page, 0, PAGE_SIZE_BYTES);
	memcpy(page, "SQLite format 3", 16);
	page[16] = PAGE_SIZE_BYTES >> 8;
	page[18] = page[19] = 2; /* write-ahead log */
	page[20] = PAGE_RESERVE;
	page[21] = 64;
	page[22] = page[23] = 32;
}

static int main_read_part(struct vfs_file *f, uint8_t *buf, int len, sqlite3_int64 at)
{
	uint32_t pgno = (uint32_t)(at / PAGE_SIZE_BYTES) + 1;
	size_t from = (size_t)(at % PAGE_SIZE_BYTES);
	uint8_t plain[PAGE_SIZE_BYTES];
	bool was_tampered = atomic_load(&f->vfs->tampered);
	int rc;

	if (from + (size_t)len > PAGE_SIZE_BYTES)
		return SQLITE_IOERR_READ;
	rc = main_read_page(f, pgno, plain);
	if (rc == VFS_REFUSED && at == 0 && len == 100 && f->vfs->page1_in_wal) {
		make_up_header(plain);
		atomic_store(&f->vfs->tampered, was_tampered);
		rc = SQLITE_OK;
	}
	if (rc == SQLITE_OK)
		memcpy(buf, plain + from, (size_t)len);
	else
		memset(buf, 0, (size_t)len);
	secret_wipe(plain, sizeof(plain));
	return rc;
}

static int main_read(sqlite3_file *file, void *buf, int len, sqlite3_int64 at)
{
	struct vfs_file *f = vfs_file_of(file);
	int rc;

	if (len != PAGE_SIZE_BYTES || at % PAGE_SIZE_BYTES != 0)
		return main_read_part(f, buf, len, at);
	rc = main_read_page(f, (uint32_t)(at / PAGE_SIZE_BYTES) + 1, buf);
	if (rc != SQLITE_OK)
		memset(buf, 0, (size_t)len);
	return rc;
}

static void mirror_page(struct vfs *v, uint32_t pgno, const uint8_t *plain)
{
	uint8_t sealed[PAGE_SIZE_BYTES];
	int r = page_seal(v->mirror_keys, pgno, plain, sealed);

	if (!r)
		r = io_pwrite_full(v->mirror_fd, sealed, sizeof(sealed),
			(off_t)(pgno - 1) * PAGE_SIZE_BYTES);
	if (r && !v->mirror_error)
		v->mirror_error = r;
}

static int main_write_page(struct vfs_file *f, uint32_t pgno, const uint8_t *plain)
{
	sqlite3_int64 at = (sqlite3_int64)(pgno - 1) * PAGE_SIZE_BYTES;
	int rc;

	if (page_seal(&f->vfs->keys, pgno, plain, f->staged) < 0)
		return SQLITE_IOERR_WRITE;
	rc = FAILPOINT("index-page-write") ? SQLITE_FULL : SQLITE_OK;
	if (rc == SQLITE_OK)
		rc = f->real->pMethods->xWrite(f->real, f->staged, PAGE_SIZE_BYTES, at);
	if (rc == SQLITE_OK && (uint64_t)at + PAGE_SIZE_BYTES > atomic_load(&f->vfs->main_bytes))
		atomic_store(&f->vfs->main_bytes, (uint64_t)at + PAGE_SIZE_BYTES);
	if (rc == SQLITE_OK && f->vfs->mirror_fd >= 0)
		mirror_page(f->vfs, pgno, plain);
	return rc;
}

/* Sealed zeros from the end of the file (a page cut there included) to `to`. */
static int main_fill(struct vfs_file *f, uint64_t to)
{
	static const uint8_t zeros[PAGE_SIZE_BYTES];
	uint64_t at = atomic_load(&f->vfs->main_bytes) / PAGE_SIZE_BYTES * PAGE_SIZE_BYTES;
	int rc = SQLITE_OK;

	for (; at < to && rc == SQLITE_OK; at += PAGE_SIZE_BYTES)
		rc = main_write_page(f, (uint32_t)(at / PAGE_SIZE_BYTES) + 1, zeros);
	return rc;
}

/* Page 1 says how all others are laid out: one without our reserve would put text where the tag
 * goes. */
static bool page1_is_ours(const uint8_t *plain)
{
	return plain[16] == PAGE_SIZE_BYTES >> 8 && plain[17] == 0 && plain[20] == PAGE_RESERVE;
}

static int main_write(sqlite3_file *file, const void *buf, int len, sqlite3_int64 at)
{
	struct vfs_file *f = vfs_file_of(file);
	int rc;

	if (len != PAGE_SIZE_BYTES || at % PAGE_SIZE_BYTES != 0)
		return SQLITE_IOERR_WRITE;
	if (at == 0 && !page1_is_ours(buf))
		return SQLITE_IOERR_WRITE;
	rc = main_fill(f, (uint64_t)at);
	return rc ? rc : main_write_page(f, (uint32_t)(at / PAGE_SIZE_BYTES) + 1, buf);
}

static int main_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	struct vfs_file *f = vfs_file_of(file);
	int rc;

	if (size % PAGE_SIZE_BYTES != 0)
		return SQLITE_IOERR_TRUNCATE;
	if ((uint64_t)size > atomic_load(&f->vfs->main_bytes))
		return main_fill(f, (uint64_t)size);
	rc = f->real->pMethods->xTruncate(f->real, size);
	if (rc == SQLITE_OK)
		atomic_store(&f->vfs->main_bytes, (uint64_t)size);
	return rc;
}

static int main_sync(sqlite3_file *file, int flags)
{
	struct vfs_file *f = vfs_file_of(file);

	if (FAILPOINT("index-sync"))
		return SQLITE_IOERR_FSYNC;
	return f->real->pMethods->xSync(f->real, flags);
}

/* The index of the log: `unix-excl` keeps it in memory, so it is no file of ours. */
static int main_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **out)
{
	struct vfs_file *f = vfs_file_of(file);

	return f->real->pMethods->xShmMap(f->real, page, size, extend, out);
}

static int main_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
	struct vfs_file *f = vfs_file_of(file);

	return f->real->pMethods->xShmLock(f->real, offset, n, flags);
}

static void main_shm_barrier(sqlite3_file *file)
{
	struct vfs_file *f = vfs_file_of(file);

	f->real->pMethods->xShmBarrier(f->real);
}

static int main_shm_unmap(sqlite3_file *file, int delete_flag)
{
	struct vfs_file *f = vfs_file_of(file);

	return f->real->pMethods->xShmUnmap(f->real, delete_flag);
}

/* Version 2: no xFetch, so nothing is ever mapped. */
static const sqlite3_io_methods main_methods = {
	.iVersion = 2,
	.xClose = vfs_file_close,
	.xRead = main_read,
	.xWrite = main_write,
	.xTruncate = main_truncate,
	.xSync = main_sync,
	.xFileSize = vfs_file_size,
	.xLock = vfs_file_lock,
	.xUnlock = vfs_file_unlock,
	.xCheckReservedLock = vfs_file_check_reserved,
	.xFileControl = vfs_file_control,
	.xSectorSize = vfs_file_sector_size,
	.xDeviceCharacteristics = vfs_file_characteristics,
	.xShmMap = main_shm_map,
	.xShmLock = main_shm_lock,
	.xShmBarrier = main_shm_barrier,
	.xShmUnmap = main_shm_unmap,
};

/* --- the VFS --- */

int vfs_open_real(sqlite3_vfs *base, const char *name, sqlite3_file *file, int flags)
{
	int got = flags;
	int rc = base->xOpen(base, name, file, flags, &got);

	if (rc == SQLITE_OK && got & SQLITE_OPEN_READONLY) {
		file->pMethods->xClose(file);
		file->pMethods = NULL;
		rc = SQLITE_CANTOPEN;
	}
	return rc;
}

static int x_open(sqlite3_vfs *sv, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
	struct vfs *v = vfs_of(sv);
	struct vfs_file *f = vfs_file_of(file);
	bool wal = flags & SQLITE_OPEN_WAL;
	sqlite3_int64 size;
	int rc;

	memset(f, 0, sizeof(*f));
	if (!name || !(flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)))
		return SQLITE_CANTOPEN; /* journals, temporary files: fails closed */
	f->vfs = v;
	f->real = (sqlite3_file *)(f + 1);
	rc = vfs_open_real(v->base, name, f->real, flags);
	if (rc == SQLITE_OK)
		rc = f->real->pMethods->xFileSize(f->real, &size);
	if (rc != SQLITE_OK) {
		if (f->real->pMethods)
			f->real->pMethods->xClose(f->real);
		return rc;
	}
	if (out_flags)
		*out_flags = flags;
	atomic_store(wal ? &v->wal_bytes : &v->main_bytes, (uint64_t)size);
	if (wal)
		vfs_wal_init(f);
	f->base.pMethods = wal ? &vfs_wal_methods : &main_methods;
	return SQLITE_OK;
}

static bool has_suffix(const char *name, const char *suffix)
{
	size_t n = strlen(name), s = strlen(suffix);

	return n >= s && strcmp(name + n - s, suffix) == 0;
}

static int x_delete(sqlite3_vfs *sv, const char *name, int sync_dir)
{
	struct vfs *v = vfs_of(sv);

	if (!has_suffix(name, "-wal"))
		return SQLITE_IOERR_DELETE_NOENT;
	return v->base->xDelete(v->base, name, sync_dir);
}

/* A rollback journal is never ours: one that somebody put there is not seen. */
static int x_access(sqlite3_vfs *sv, const char *name, int flags, int *out)
{
	struct vfs *v = vfs_of(sv);

	if (has_suffix(name, "-journal")) {
		*out = 0;
		return SQLITE_OK;
	}
	return v->base->xAccess(v->base, name, flags, out);
}

static int x_full_pathname(sqlite3_vfs *sv, const char *name, int len, char *out)
{
	struct vfs *v = vfs_of(sv);

	return v->base->xFullPathname(v->base, name, len, out);
}

static int x_randomness(sqlite3_vfs *sv, int len, char *out)
{
	struct vfs *v = vfs_of(sv);

	return v->base->xRandomness(v->base, len, out);
}

static int x_sleep(sqlite3_vfs *sv, int us)
{
	struct vfs *v = vfs_of(sv);

	return v->base->xSleep(v->base, us);
}

static int x_current_time(sqlite3_vfs *sv, double *out)
{
	struct vfs *v = vfs_of(sv);

	return v->base->xCurrentTime(v->base, out);
}

static int x_current_time64(sqlite3_vfs *sv, sqlite3_int64 *out)
{
	struct vfs *v = vfs_of(sv);

	return v->base->xCurrentTimeInt64(v->base, out);
}

static int x_last_error(sqlite3_vfs *sv, int len, char *out)
{
	struct vfs *v = vfs_of(sv);

	return v->base->xGetLastError(v->base, len, out);
}

/* No xDlOpen: no extension is ever loaded through this VFS. */
static void describe(struct vfs *v)
{
	v->vfs = (sqlite3_vfs){
		.iVersion = 2,
		.szOsFile = (int)sizeof(struct vfs_file) + v->base->szOsFile,
		.mxPathname = v->base->mxPathname,
		.zName = v->name,
		.pAppData = v,
		.xOpen = x_open,
		.xDelete = x_delete,
		.xAccess = x_access,
		.xFullPathname = x_full_pathname,
		.xRandomness = x_randomness,
		.xSleep = x_sleep,
		.xCurrentTime = x_current_time,
		.xCurrentTimeInt64 = x_current_time64,
		.xGetLastError = x_last_error,
	};
}

int vfs_new(const struct vfs_options *o, struct vfs **out)
{
	_cleanup_free_ struct vfs *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return -ENOMEM;
	if (sqlite3_initialize() != SQLITE_OK)
		return -ENOMEM;
	v->base = sqlite3_vfs_find(o->base ? o->base : "unix-excl");
	if (!v->base)
		return -ENOTSUP;
	r = page_keys_init(&v->keys, o->key);
	if (r < 0)
		return r;
	v->page1_in_wal = o->page1_in_wal;
	v->mirror_fd = -1;
	v->before_sync = o->before_sync;
	v->before_sync_arg = o->before_sync_arg;
	pthread_mutex_init(&v->sync_lock, NULL);
	pthread_mutex_init(&v->state, NULL);
	/* The address makes the name unique in the process; the list of VFSs is SQLite's. */
	snprintf(v->name, sizeof(v->name), "sealed-%p", (void *)v);
	describe(v);
	if (sqlite3_vfs_register(&v->vfs, 0) != SQLITE_OK) {
		page_keys_done(&v->keys);
		return -ENOMEM;
	}
	*out = steal_ptr(&v);
	return 0;
}

void vfs_free(struct vfs *v)
{
	if (!v)
		return;
	sqlite3_vfs_unregister(&v->vfs);
	page_keys_done(&v->keys);
	pthread_mutex_destroy(&v->sync_lock);
	pthread_mutex_destroy(&v->state);
	free(v);
}

const char *vfs_name(const struct vfs *v)
{
	return v->name;
}

void vfs_mirror(struct vfs *v, int fd, const struct page_keys *keys)
{
	v->mirror_fd = fd;
	v->mirror_keys = keys;
	v->mirror_error = 0;
}

int vfs_mirror_error(const struct vfs *v)
{
	return v->mirror_error;
}

const struct page_keys *vfs_keys(const struct vfs *v)
{
	return &v->keys;
}

uint64_t vfs_main_bytes(const struct vfs *v)
{
	return atomic_load(&v->main_bytes);
}

uint64_t vfs_wal_bytes(const struct vfs *v)
{
	return atomic_load(&v->wal_bytes);
}

uint64_t vfs_main_bytes_bound(const struct vfs *v)
{
	uint64_t logical = atomic_load(&v->logical_bytes), now = atomic_load(&v->main_bytes);

	return MAX_OF(logical, now);
}

int vfs_tampered(const struct vfs *v)
{
	return atomic_load(&v->tampered) ? CE_TAMPER : 0;
}

int vfs_take_hook_error(struct vfs *v)
{
	return atomic_exchange(&v->hook_error, 0);
}
