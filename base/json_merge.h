/*
 * Three versions of one JSON text become one: field by field, or not at all.
 *
 * `base` is what both sides began with. json_merge() answers 0 with the merged text only when it is
 * certain what both sides wanted:
 *
 * - Two values are the same when their texts are, white space outside strings aside. So 1.0 is not
 * 1 and "\u0041" is not "A": what is not known to be the same counts as changed.
 * - A value that one side changed, added or removed is that side's; one that both made the same is
 * taken. Anything else that both touched is CE_CONFLICT.
 * - Where all three are objects, they are merged member by member, by name and to any depth.
 * - An array is one value, like a number: nobody can tell two elements inserted from two exchanged.
 * So is a value whose type was changed.
 * - A member added on both sides with different values, or removed on one side and changed on the
 * other, is CE_CONFLICT.
 *
 * Numbers, strings, white space and the order of members are copied from the texts, never printed
 * anew. The order is theirs; ours when only we changed it. New members of the other side stand
 * behind the member they stood behind there.
 *
 * CE_FORMAT: a text is not JSON as base/json.h reads it (duplicate names, lone surrogates, more
 * than JSON_DEPTH_MAX levels). CE_TOO_LARGE: beyond JSON_MERGE_MAX_BYTES. The result was read again
 * before it is handed out. Threads: any.
 */
#ifndef CACHET_BASE_JSON_MERGE_H
#define CACHET_BASE_JSON_MERGE_H

#include <stddef.h>

#include "base/macros.h"

#define JSON_MERGE_MAX_BYTES (4u << 20)

struct json_text {
	const char *text; /* NUL-terminated behind len */
	size_t len;
};

/* The caller frees *out, which is NUL-terminated behind *len. */
int json_merge(const struct json_text *base, const struct json_text *ours,
	const struct json_text *theirs, char **out, size_t *len) MUST_CHECK;

#endif
