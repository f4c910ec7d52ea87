#include "meta/db_note.h"

#include <errno.h>

#include "meta/db_priv.h"
#include "meta/redo_run.h"

int db_note(struct db *db, enum db_note_kind kind, const void *head, size_t head_len,
	const void *bytes, size_t len)
{
	db_assert_txn(db);
	if (!db->redo || !redo_note(db->redo, kind, head, head_len, bytes, len))
		return -EMSGSIZE;
	db->noted = db->noted || kind == DB_NOTE_CHUNK;
	return 0;
}

struct walk {
	db_note_fn *fn;
	void *arg;
};

static int give(void *arg, unsigned kind, const uint8_t *bytes, size_t len)
{
	const struct walk *w = arg;

	return w->fn(w->arg, (enum db_note_kind)kind, bytes, len);
}

static int look_into(void *arg, const uint8_t *payload, size_t len)
{
	return redo_run_notes(payload, len, give, arg);
}

int db_notes(const char *dir, int dirfd, const char *file, const struct secret *key, db_note_fn *fn,
	void *arg)
{
	const struct redo_options o = { .dir = dir, .dirfd = dirfd, .file = file, .key = key };
	struct walk w = { fn, arg };
	struct redo *log = NULL;
	int r = redo_open(&o, &log);

	if (r == 0)
		r = redo_each(log, look_into, &w);
	redo_free(log);
	return r == -ENOENT ? 0 : r;
}
