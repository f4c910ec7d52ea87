/*
 * One life of a volume, to be ended by SIGKILL: it is opened, all that was answered in earlier
 * lives is looked for, then two threads change it.
 */
#ifndef CACHET_TESTS_CRASH_LIFE_H
#define CACHET_TESTS_CRASH_LIFE_H

#include <stdbool.h>
#include <stdint.h>

#include "oracle.h"
#include "origin.h"

struct life {
	const char *top;             /* the volume is in `volume` below it, its key in `key` */
	const struct oracle *oracle; /* of the log so far */
	struct origin *origin;
	uint64_t seed;
	unsigned steps; /* of each thread, at most */
	/* Instead of them: what a single thread does, as life_lead() knows it, then SIGKILL. */
	const char *script;
	unsigned words; /* or so many words that are drawn, about few files */
	bool power;  /* the disk forgot: what was synced must be there, what was answered may be */
	bool note;   /* write notes */
	bool online; /* send, hear, evict */
};

/* 0, or the number of things that are not as they must be, told on standard error. Closes. */
int life_check(const struct life *l);
/*
 * Checks, then works; does not return: exit status 0 when nothing was wrong until the end. Words of a
 * script, F and T are subjects:
 *
 *     put F SIZE, puts F SIZE      written from the start and closed; the second is synced
 *     over F N, overs F N          its first N pages overwritten
 *     save F SIZE                  a file beside it, renamed over it, nothing synced
 *     move F T                     renamed over T
 *     remove F
 *     origin F SIZE                the origin has a new version, which is fetched
 *     send                         all that can be, answered
 *     begin                        the same, without an answer
 *     sync
 */
_Noreturn void life_lead(const struct life *l);

#endif
