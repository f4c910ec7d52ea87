/*
 * Answers of an origin's queries, as read-only files of a store's directory `queries`:
 *
 *     STORE/queries/NAME/subjectId=42.json      several parameters: a=1&b=2.json; none: all.json
 *
 * They are no records. Each store that has queries gets a store of its own beside it, called
 * "STORE/queries" (no origin can name one so), read-only, without a feed and never `listed`; its
 * root is the entry `queries` at the top of STORE. So names, attributes, content, eviction and
 * sealing are those of any file; no journal row can come of it, no listing of STORE removes it, and
 * a name that is not there is CE_ABSENT: to be asked for.
 *
 * A record (or a local file) called `queries` keeps its name: the directory is then `queries~`.
 *
 *     queries_set(v, "notes", names, n);          // what the origin says the store has
 *     queries_find(v, dir, "a=1.json", &q);       // -ENOENT: no answer can have this name
 *     queries_put(v, &q, etag, data, len);        // the origin's answer, in one commit
 *     queries_gone(v, &q);                        // the origin's word: there is none
 *
 * Threads: any for find, of, is; one for the others (they are appliers, as of cache/remote.h).
 */
#ifndef CACHET_CACHE_QUERIES_H
#define CACHET_CACHE_QUERIES_H

#include "base/macros.h"
#include "cache/volume.h"

#define QUERIES_ADDRESS_MAX 324 /* a name of 64 characters, '?', a file name */

struct queries_one {
	uint64_t store;                    /* the one beside */
	char store_name[256];              /* the origin's */
	char query[65], file[256];         /* names of the directory and the file */
	char address[QUERIES_ADDRESS_MAX]; /* "NAME?a=1&b=2" */
	char etag[65];                     /* of the answer that is here; "" = none */
};

int queries_set(struct volume *v, const char *store, const char *const *names, size_t n) MUST_CHECK;
int queries_find(
	struct volume *v, uint64_t dir, const char *name, struct queries_one *out) MUST_CHECK;
/* The answer an object is; -ENOENT. */
int queries_of(struct volume *v, uint64_t object, struct queries_one *out) MUST_CHECK;
/* Is it such a store? */
bool queries_is(struct volume *v, uint64_t store);
int queries_put(struct volume *v, const struct queries_one *q, const char *etag, const void *data,
	size_t len) MUST_CHECK;
int queries_gone(struct volume *v, const struct queries_one *q) MUST_CHECK;

#endif
