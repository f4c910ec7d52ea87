/*
 * What is to become of conflicts, by the name of the file: the rules of the configuration
 * (daemon/config.h).
 *
 * The first rule that fits counts; without one both sides are kept. A rule is about two versions of
 * one file. Whatever the rule, a deletion never beats an edit, and directories, symlinks and moves
 * are settled as cache/outbox.h says.
 *
 * Threads: any; rules are not changed while a volume has them.
 */
#ifndef CACHET_CACHE_MERGE_RULE_H
#define CACHET_CACHE_MERGE_RULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

enum merge_policy {
	MERGE_KEEP_BOTH, /* a conflict copy */
	MERGE_FIELDS,    /* JSON, base/json_merge.h; not certain: a conflict copy */
	MERGE_OURS,      /* what was written here replaces the origin's */
	MERGE_THEIRS,    /* the origin's replaces what was written here */
	MERGE_COMMAND,   /* a program of the user's merges; it fails: a conflict copy */
	MERGE_POLICIES,
};

struct merge_rule {
	char *store; /* its name, or NULL: any */
	char *match; /* a glob: of the last name, or with a '/' of the path in the store; NULL: any
		      */
	enum merge_policy policy;
	char *command; /* of MERGE_COMMAND */
	uint64_t timeout_ms;
};

#define MERGE_RULE_TIMEOUT_MS 60000

struct merge_rules {
	struct merge_rule *rules;
	size_t n;
};
void merge_rules_done(struct merge_rules *rules);

const char *merge_rule_policy_name(enum merge_policy policy); /* "keep-both", ... */
/* -ENOENT for a word that is none. */
int merge_rule_policy(const char *name, enum merge_policy *out) MUST_CHECK;
/* NULL: both sides are kept. */
const struct merge_rule *merge_rule_find(
	const struct merge_rules *rules, const char *store, const char *path);

#endif
