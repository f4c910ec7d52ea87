/*
 * The content of a small file in the record of its commit (cache/logged.h), instead of a sync of
 * its pack before. It is read back as it was sealed, before the transaction, and noted inside.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io.h"
#include "cache/file_priv.h"
#include "cache/logged.h"
#include "meta/db_note.h"

/* Beyond it a sync of the pack costs less than sealing and writing twice. */
#define LOGGED_MAX_BYTES (32u << 10)

struct file_note {
	struct blob *blob; /* referenced */
	uint8_t head[LOGGED_CHUNK_HEAD];
	size_t len;
	uint8_t bytes[];
};

static struct file_note *read_note(struct blob *b, const struct content_chunk *c)
{
	struct file_note *n = malloc(sizeof(*n) + c->len);
	int fd, r = n ? blob_fd(b, false, &fd) : -ENOMEM;

	if (!r)
		r = io_pread_full(fd, n->bytes, c->len, (off_t)(c->slot << BLOB_UNIT_SHIFT));
	if (r) {
		free(n);
		return NULL;
	}
	n->blob = blob_ref(b);
	memcpy(n->head, b->uuid, CONTENT_UUID_LEN);
	store_le64(n->head + 16, c->slot);
	store_le64(n->head + 24, c->seq);
	n->len = c->len;
	return n;
}

bool file_log_prepare(struct file *f)
{
	struct chunk_entry e;
	struct blob *b;

	file_log_drop(f);
	if (file_is_large(f) || f->size > UINT64_C(1) << file_shift(f) ||
		chunkmap_get(&f->chunks, 0, &e) ||
		(e.state != CHUNK_ROW && e.state != CHUNK_SEALED) || e.c.len > LOGGED_MAX_BYTES)
		return false;
	b = file_blob_of(f, &e);
	if (b && b->pack)
		f->note = read_note(b, &e.c);
	return f->note;
}

int file_log_note(struct file *f)
{
	int r = db_note(f->v->db, DB_NOTE_CHUNK, f->note->head, sizeof(f->note->head),
		f->note->bytes, f->note->len);

	if (!r)
		blob_sync_logged(f->note->blob, load_le64(f->note->head + 16));
	return r;
}

void file_log_drop(struct file *f)
{
	if (f->note)
		blob_unref(f->note->blob);
	free(f->note);
	f->note = NULL;
}
