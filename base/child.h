/*
 * Starting another program. It has default signals, none blocked, a process group of its own, so
 * that kill(-pid) reaches what it starts in turn, and of our descriptors those that are named:
 * all others are close-on-exec.
 *
 *     const struct child_file files[] = { { -1, STDIN_FILENO }, { pipe_end, STDOUT_FILENO } };
 *     r = child_spawn(argv, environ, files, ARRAY_SIZE(files), &pid);
 *
 * The caller waits for it. Until it is reaped, its group is nobody else's.
 */
#ifndef CACHET_BASE_CHILD_H
#define CACHET_BASE_CHILD_H

#include <stddef.h>
#include <sys/types.h>

#include "base/macros.h"

struct child_file {
	int from; /* ours; -1: /dev/null */
	int to;   /* the child's; one put onto itself is handed on */
};

/* argv[0] is a path. Negative errno when it cannot be started. */
int child_spawn(const char *const *argv, char *const *env, const struct child_file *files,
	size_t n_files, pid_t *pid) MUST_CHECK;

#endif
