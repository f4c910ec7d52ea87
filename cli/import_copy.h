/*
 * Plain files into a mounted volume, and out of where they were.
 *
 * Copying: each file under a name of its own (.cachet-import) in the directory it is for, whole
 * and synced, then renamed to its own name, which must be free. What is there already with the same
 * content counts as copied: so a copy that was killed goes on where it was. What is there with
 * another content is left alone, and so is its original.
 *
 * Removing: an original goes when `confirmed` says that its copy is at the origin and the two are
 * compared, byte by byte, once more; a directory when it is empty. Killed anywhere, each file is in
 * one place or in both.
 */
#ifndef CACHET_CLI_IMPORT_COPY_H
#define CACHET_CLI_IMPORT_COPY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

struct import_totals {
	uint64_t files, bytes; /* copied, or there already */
	uint64_t left;         /* files: another content is there, or no file */
	uint64_t removed;      /* originals */
	char *first_left;      /* path of the first */
};

struct import_copy {
	const char *from; /* absolute */
	const char *to;   /* absolute: what `from` becomes */
	/* 1: `path`, a copy, is at the origin; 0: not yet; or a code that ends it all. */
	int (*confirmed)(void *arg, const char *path);
	/* The volume is full of what is not sent: 0 when it was sent, then it is tried again. */
	int (*full)(void *arg);
	void *arg;
	struct import_totals totals;
	char *failed; /* the path of an error; owned */
};

int import_copy_in(struct import_copy *c) MUST_CHECK;
int import_copy_remove(struct import_copy *c) MUST_CHECK;
void import_copy_done(struct import_copy *c);

#endif
