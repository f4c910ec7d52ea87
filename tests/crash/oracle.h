/*
 * What each subject of a crash test may be: the states it was given, in order, from when on each
 * was begun, answered and durable. Notes of that stand in the log between the entries of the disk,
 * so that any point of the log has its own history.
 *
 * Subjects are files with content, extended attributes and modes. A content is told by one number a
 * page (0: zeros) and its size, so that a mixture of two states is none of them.
 */
#ifndef CACHET_TESTS_CRASH_ORACLE_H
#define CACHET_TESTS_CRASH_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ORACLE_PAGE 4096
#define ORACLE_PAGES 40
#define ORACLE_BYTES (ORACLE_PAGE * ORACLE_PAGES)

enum subject {
	SUBJECT_FILE = 0, /* made, overwritten, cut, renamed, removed */
	SUBJECT_XATTR = 12,
	SUBJECT_MODE = 14,
	SUBJECT_ORIGIN = 16, /* files that the origin changes */
	SUBJECTS = 20,
};

struct state {
	bool absent;
	uint32_t size;
	uint32_t pages[ORACLE_PAGES]; /* an attribute: its value is pages[0] */
};

enum note_kind {
	NOTE_MADE,   /* the volume is whole */
	NOTE_BEGIN,  /* `subject` goes through `states`, the last is what it is at the end */
	NOTE_MOVE,   /* and at once `other` becomes absent */
	NOTE_SWAP,   /* `subject` becomes states[0], and at once `other` states[1] */
	NOTE_END,    /* of both; `durable` */
	NOTE_SYNC,   /* what was answered for now … */
	NOTE_SYNCED, /* … is durable */
	NOTE_FOUND,  /* after a kill: states[0] */
};

struct note {
	uint8_t kind, subject, other, durable, n;
	struct state states[2];
};

struct oracle {
	bool made;
	unsigned long answered_steps;
	struct {
		struct state *states;
		size_t n, room, answered, durable, syncing;
		bool begun;
		int moving_to, swapping_with; /* -1 */
	} subjects[SUBJECTS];
};

void oracle_init(struct oracle *o);
void oracle_done(struct oracle *o);
void oracle_take(struct oracle *o, const struct note *n);
/* The states a subject may have after a kill, or after a power cut, oldest first. */
size_t oracle_allowed(
	const struct oracle *o, unsigned subject, bool power, const struct state **first);
/* Of a page of a file: what it says. */
void oracle_fill(uint8_t page[static ORACLE_PAGE], unsigned page_number, uint32_t tag);
/* The content of a file as a state; tags that no state of it has are none. */
bool oracle_is(const struct state *s, const uint8_t *bytes, size_t size);

#endif
