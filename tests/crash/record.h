/* The recorder (record.c), linked into a program of the tests instead of preloaded. */
#ifndef CACHET_TESTS_CRASH_RECORD_H
#define CACHET_TESTS_CRASH_RECORD_H

#include <stddef.h>

/* From now on all below `dir` is recorded; `log` is appended to, so a second life goes on in it. */
void record_begin(const char *log, const char *dir);
/* This process dies by SIGKILL at its n-th call that is recorded: before it, or in the middle of a
 * write. */
void record_kill_at(unsigned long call);
/* This process dies now, between two entries. */
_Noreturn void record_die(void);
/* Each sync of what has `part` in its path comes late, so that others beside it come first. */
void record_delay(const char *part);
/* An entry between those of the disk. */
void record_note(const void *data, size_t len);

#endif
