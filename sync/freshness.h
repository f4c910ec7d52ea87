/*
 * How old what is served may be, store by store. Rules are a text:
 *
 *     STORE: strict, max-age=5m, max-stale=30d; *: max-stale=7d
 *
 *   max-age    a store validated so long ago at most, or whose feed is live, is fresh: no request
 *   (default)  stale is served at once and validated in the background, as soon as there is a link
 *   strict     each open asks the origin whether the version is the current one, unless the store
 * was validated within max-age; a live feed is not enough max-stale  what was not validated for so
 * long is not served: open fails, unless the origin answers
 *
 * `*` is for all stores without a rule. Only opening a file is held up: names and attributes that
 * were ever listed are always answered (promise P6).
 */
#ifndef CACHET_SYNC_FRESHNESS_H
#define CACHET_SYNC_FRESHNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct freshness_rule {
	char store[256];                   /* "*": all others */
	uint64_t max_age_ms, max_stale_ms; /* max_stale 0 = no bound */
	bool strict;
};

/* The caller frees *out. CE_USAGE and *error, a sentence. text NULL: no rules. */
int freshness_parse(
	const char *text, struct freshness_rule **out, size_t *n, char **error) MUST_CHECK;
struct freshness_rule freshness_of(const struct freshness_rule *rules, size_t n, const char *store);

#endif
