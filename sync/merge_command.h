/*
 * A merge command of the user's, as git's merge drivers: /bin/sh runs it with "$1" base, "$2" ours,
 * "$3" theirs, "$4" where the result is to be written; CACHET_NAME is the name of the file. Exit 0
 * says that the merge is clean.
 *
 * The four are memory: /proc/self/fd/N of memfds, never files on a disk; TMPDIR is memory, too,
 * where the machine has /dev/shm. At the time limit, or when *stop is set, the command is killed
 * with all it started in its process group.
 */
#ifndef CACHET_SYNC_MERGE_COMMAND_H
#define CACHET_SYNC_MERGE_COMMAND_H

#include <stdatomic.h>

#include "base/json_merge.h"
#include "base/macros.h"
#include "cache/merge_rule.h"

/* `sides`: base, ours, theirs. The caller frees *out. CE_CONFLICT: the command failed, wrote
 * nothing or too much, or took too long; -EAGAIN: stopped. */
int merge_command_run(const struct merge_rule *rule, const char *name,
	const struct json_text sides[3], const atomic_bool *stop, char **out,
	size_t *len) MUST_CHECK;

#endif
