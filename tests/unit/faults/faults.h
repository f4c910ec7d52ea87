/*
 * Faults in turn: a story is told again and again, and each time another one of the calls below it
 * fails: the first, the second, ... until it ends without a failure. What may fail is the
 * injector's (test_faults_*.c: memory, statements of the index, libcrypto, the disk), what is told
 * is the story's (story_*.c); each injector runs all stories.
 *
 * A round: the volume is as the story's `prepare` left it, `tell` runs with one fault, then without
 * (it must succeed now, on whatever the first left), then the volume is opened anew. Before,
 * between and after, every file is as the notes allow: what was answered is there, what was refused
 * is old or new, page by page. Nothing was leaked (under ASan), nothing was taken for tampering,
 * nothing is on the disk in the clear.
 *
 * `tell` stops at its first error and returns it, takes up what it finds half done, and uses no
 * memory of its own: it runs under the injector. So does nothing else.
 *
 * Without more said a few calls of each story fail, those by which errors come through most places
 * that none came through before (places.h), in one way, another way each day. By environment:
 *     CACHET_TEST_FAULTS_ROUNDS=N          that many calls of each story
 *     CACHET_TEST_FAULTS=all               every call (by hand: minutes, or an hour)
 *     CACHET_TEST_FAULTS=STORY[:FROM[-TO]] these calls of a story, with the stack of a single one
 *     CACHET_TEST_FAULTS_DAY=N             the choice of that day (since 1970)
 */
#ifndef CACHET_TESTS_UNIT_FAULTS_H
#define CACHET_TESTS_UNIT_FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../crash/oracle.h"
#include "../../crash/origin.h"
#include "base/secret.h"
#include "cache/file.h"
#include "cache/tree.h"
#include "cache/volume.h"

#define TOLD_FILES 8
#define TOLD_STATES 8

/* A file of the store, and all it may be. */
struct told_file {
	const char *name;
	struct state may[TOLD_STATES];
	unsigned n;
	bool split; /* refused once: pages of different states may stand together */
};

struct enrolment_link;

struct told {
	char top[64], dir[96], source[160];
	const struct enrolment_link *link;
	struct volume *v;
	uint64_t store, root;
	struct origin *origin;
	struct told_file files[TOLD_FILES];
	uint32_t tag;
	bool wrong;     /* set by `tell`: something that no fault excuses */
	char note[160]; /* by `tell`, for the message of a failure */
};

struct story {
	const char *name;
	/* Once, on a fresh volume that is open; may close it. cmocka's asserts. NULL: nothing. */
	void (*prepare)(struct told *t);
	int (*tell)(struct told *t);
	/* When it was told without a fault: more than the files. May be NULL. */
	bool (*holds)(struct told *t);
	bool from_nothing; /* no volume yet: `prepare` is given none, and `tell` makes it */
	bool closed;       /* `tell` opens it, and may leave it open */
	bool damaged;      /* the volume is damaged from the beginning */
};

extern const struct story *const stories[]; /* NULL ends */

struct fault_kind {
	const char *name;
	int code;
	bool lies; /* may be taken for tampering: an answer "not authentic" */
};

/* Of the injector: which calls count, and what they answer. `kinds` ends with a NULL name. */
int faults_run(const char *injector, const struct fault_kind *kinds);
/* In each call that can fail: must it? Any thread. */
bool fault_due(const char *call);
const struct fault_kind *fault_kind(void);

/* --- for stories: told.c --- */

#define TRY(expr)                                                                                  \
	do {                                                                                       \
		int try_r = (expr);                                                                \
		if (try_r)                                                                         \
			return told_failed(t, try_r, #expr);                                       \
	} while (0)
int told_failed(struct told *t, int r, const char *what);

int told_open(struct told *t);
int told_create(struct told *t);
void told_close(struct told *t);
/* The store, listed once; t->store and t->root. */
int told_store(struct told *t);
int told_find(struct told *t, const char *name, struct tree_attr *a);

/* The content a file gets next: `size` bytes that nothing else has. */
struct state told_state(struct told *t, uint32_t size);
/* From now on it may be `s` as well; when the step was answered it is `s` and nothing else. */
void told_begin(struct told *t, unsigned file, const struct state *s);
void told_end(struct told *t, unsigned file);
/* Makes the file, if need be. */
int told_make(struct told *t, unsigned file);
/* Makes it, writes all of a new content of this size. */
int told_put(struct told *t, unsigned file, uint32_t size, bool sync);
int told_gone(struct told *t, unsigned file);
int told_move(struct told *t, unsigned from, unsigned to);
/* Pages [from, to) of an open file, as the state has them. */
int told_write(struct file *f, const struct state *s, unsigned from, unsigned to);
/* The origin gets a new content of the file, a record of its own, and the feed says so. */
int told_origin(struct told *t, unsigned file, uint32_t size);
/* The same of the record `rid`, without a word. */
const struct remote_record *told_publish(
	struct told *t, unsigned file, uint32_t size, const char *rid);
/* Sends what waits, until nothing does. */
int told_send(struct told *t);
/* Opens for writing. */
int told_file(struct told *t, unsigned file, struct file **out);

/* Are all files what they may be? Says what is not. */
bool told_holds(struct told *t);
/* Nothing of what was written stands in a file of the volume. */
bool told_sealed(struct told *t);

#endif
