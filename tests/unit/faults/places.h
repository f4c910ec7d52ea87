/*
 * Which calls of a story are worth a failure: an error goes back through the places that its call
 * was reached by, so one call per place shows what thousands of calls do. While a round is
 * counted each call is noted; afterwards those are chosen whose stacks have the most places that no
 * failure chosen before, in any story of the program, has gone back through.
 *
 * Uses no memory but its own: the injector may be one of memory. Any thread notes.
 */
#ifndef CACHET_TESTS_UNIT_FAULTS_PLACES_H
#define CACHET_TESTS_UNIT_FAULTS_PLACES_H

#include <stddef.h>

/* Before the first note; `from` is where the search for the best begins, another each day. */
void places_begin(void);
void places_note(long call);
/* Returns how many: fewer than `max` when all places are passed. In order. */
size_t places_choose(long *calls, size_t max, size_t from);

#endif
