/* What the files of stories share. */
#ifndef CACHET_TESTS_UNIT_STORIES_H
#define CACHET_TESTS_UNIT_STORIES_H

#include "faults.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct story story_files, story_shapes, story_parts, story_names, story_opening,
	story_unclean, story_lost, story_making, story_sending, story_fetching, story_feed,
	story_answers, story_conflicts, story_enrolment, story_rekey, story_lock, story_bundle,
	story_pins, story_jobs, story_queries, story_damage;

#endif
