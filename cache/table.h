/*
 * uthash, told not to end the process when memory runs out: TABLE_ADD() says so instead, and the
 * element is not in the table.
 */
#ifndef CACHET_CACHE_TABLE_H
#define CACHET_CACHE_TABLE_H

#include <errno.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* 0 or -ENOMEM. `handle`: the element's UT_hash_handle; `field`: its key. */
#define TABLE_ADD(handle, head, field, e)                                                          \
	({                                                                                         \
		HASH_ADD(handle, head, field, sizeof((e)->field), e);                              \
		(e)->handle.tbl ? 0 : -ENOMEM;                                                     \
	})

#endif
