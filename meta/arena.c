#include "meta/arena.h"

#include <pthread.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/log.h"
#include "base/macros.h"
#include "meta/page_format.h"

static void lock_part(void *p, size_t len)
{
	struct rlimit lim;
	size_t part = len;

	if (getrlimit(RLIMIT_MEMLOCK, &lim) == 0 && lim.rlim_cur != RLIM_INFINITY)
		part = MIN_OF(len, (size_t)lim.rlim_cur / 2);
	if (mlock2(p, part, MLOCK_ONFAULT) < 0)
		log_debug("page cache of the index is not locked in memory");
}

/* Process-wide by nature: SQLite has one such arena. Never freed. */
static void *memory;
static size_t memory_len, slot_len;

static void setup(void)
{
	int header = 0, slot;
	size_t len;
	void *p;

	if (sqlite3_config(SQLITE_CONFIG_PCACHE_HDRSZ, &header) != SQLITE_OK)
		return; /* SQLite runs already */
	/* Statistics of memory take a mutex for each small allocation. */
	if (sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0) != SQLITE_OK)
		log_debug("SQLite goes on counting its memory");
	slot = (PAGE_SIZE_BYTES + header + 7) / 8 * 8;
	len = (size_t)slot * ARENA_PAGES;
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return;
	madvise(p, len, MADV_DONTDUMP);
	lock_part(p, len);
	if (sqlite3_config(SQLITE_CONFIG_PAGECACHE, p, slot, ARENA_PAGES) != SQLITE_OK) {
		munmap(p, len);
		return;
	}
	memory = p;
	memory_len = len;
	slot_len = (size_t)slot;
}

void arena_setup(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, setup);
}

/* A free slot begins with SQLite's link to the next. */
void arena_wipe(void)
{
	int used = 0, most = 0;

	if (sqlite3_status(SQLITE_STATUS_PAGECACHE_USED, &used, &most, 0) != SQLITE_OK || used)
		return;
	for (size_t at = 0; at < memory_len; at += slot_len)
		explicit_bzero((char *)memory + at + sizeof(void *), slot_len - sizeof(void *));
}

const void *arena_memory(size_t *len)
{
	*len = memory_len;
	return memory;
}
