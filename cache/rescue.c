#include "cache/rescue.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "cache/file_priv.h"
#include "cache/unsent.h"

#define FILES_MAX 32
#define MAPS_MAX 64

/* Where the content of a slot is now. */
struct move {
	uint64_t from;
	uint64_t to;
	uint32_t len;
	bool moved;
	UT_hash_handle hh;
};

struct row {
	uint64_t map;
	struct content_chunk c;
};

struct rescue {
	struct volume *v;
	struct blob *b;
	struct move *moves; /* uthash by `from` */
	struct row *rows;
	size_t n_rows, cap_rows;
	uint64_t map;
	struct file *files[FILES_MAX];
	size_t n_files;
	int error; /* of chunks that are lost */
};

static struct move *find_move(struct rescue *s, uint64_t slot)
{
	struct move *m;

	HASH_FIND(hh, s->moves, &slot, sizeof(slot), m);
	return m;
}

static int add_moves(struct rescue *s, const uint64_t *slots, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct move *m;

		if (find_move(s, slots[i]))
			continue;
		m = calloc(1, sizeof(*m));
		if (!m)
			return -ENOMEM;
		m->from = slots[i];
		HASH_ADD(hh, s->moves, from, sizeof(m->from), m);
	}
	return 0;
}

/* Chunks cost one move each, however many rows name the slot. */
static int move_chunk(struct rescue *s, struct content_chunk *c)
{
	struct move *m = find_move(s, c->slot);
	int r;

	if (!m)
		return 0;
	if (!m->moved) {
		struct content_chunk moved = *c;

		r = space_try_reserve(s->v, blob_bytes(c->len));
		if (r)
			return r;
		r = blob_move(s->b, &moved);
		if (r) {
			space_release(s->v, blob_bytes(c->len));
			return r;
		}
		m->to = moved.slot;
		m->len = c->len;
		m->moved = true;
	}
	c->slot = m->to;
	return 0;
}

/* Sealed, not committed: nobody but the file names it. */
static int move_pending(void *arg, struct chunk_entry *e)
{
	struct rescue *s = arg;
	uint64_t old = e->c.slot;
	int r = e->state == CHUNK_SEALED ? move_chunk(s, &e->c) : 0;

	if (r)
		s->error = r;
	else if (e->state == CHUNK_SEALED && e->c.slot != old)
		blob_slot_free(s->b, old, blob_bytes(e->c.len));
	return 0;
}

static int collect_row(void *arg, const struct content_chunk *c)
{
	struct rescue *s = arg;

	if (!find_move(s, c->slot))
		return 0;
	if (s->n_rows == s->cap_rows) {
		size_t cap = s->cap_rows ? s->cap_rows * 2 : 64;
		struct row *rows = realloc(s->rows, cap * sizeof(*rows));

		if (!rows)
			return -ENOMEM;
		s->rows = rows;
		s->cap_rows = cap;
	}
	s->rows[s->n_rows++] = (struct row){ s->map, *c };
	return 0;
}

static int collect_rows(struct rescue *s)
{
	uint64_t maps[MAPS_MAX];
	size_t n = 0;
	int r = 0;

	if (!s->b->id)
		return 0;
	db_read(s->v->db);
	r = content_map_of_blob(s->v->db, s->b->id, maps, MAPS_MAX, &n);
	for (size_t i = 0; i < n && !r; i++) {
		s->map = maps[i];
		r = content_chunk_each(s->v->db, maps[i], 0, collect_row, s);
	}
	db_unlock(s->v->db);
	return r;
}

static void move_rows(struct rescue *s)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->n_rows; i++) {
		int r = move_chunk(s, &s->rows[i].c);

		if (r)
			s->error = r;
		else
			s->rows[kept++] = s->rows[i];
	}
	s->n_rows = kept;
}

/* The content is the same and synced, so there is nothing to undo (I2). */
static int commit_rows(struct rescue *s)
{
	int r;

	if (!s->n_rows)
		return 0;
	r = db_begin(s->v->db);
	if (r)
		return r;
	for (size_t i = 0; i < s->n_rows && !r; i++) {
		unsent_moved(s->v, s->rows[i].map);
		r = content_chunk_put(s->v->db, s->rows[i].map, &s->rows[i].c);
	}
	if (r)
		db_rollback(s->v->db);
	else
		r = db_commit(s->v->db);
	return r;
}

static void follow(struct rescue *s, struct file *f)
{
	for (size_t i = 0; i < s->n_rows; i++) {
		struct chunk_entry *e;
		struct move *m;

		if (s->rows[i].map != f->map || chunkmap_edit(&f->chunks, s->rows[i].c.idx, &e))
			continue;
		m = e->state == CHUNK_ROW ? find_move(s, e->c.slot) : NULL;
		if (m && m->moved)
			e->c.slot = m->to;
		m = e->has_old ? find_move(s, e->old_slot) : NULL;
		if (m && m->moved)
			e->old_slot = m->to;
	}
}

static void release_old(struct rescue *s)
{
	uint64_t gen = atomic_load(&s->v->undo_gen);

	for (size_t i = 0; i < s->n_rows; i++) {
		struct move *m, *next;

		HASH_ITER (hh, s->moves, m, next) {
			if (m->moved && m->to == s->rows[i].c.slot) {
				blob_slot_release(s->b, m->from, blob_bytes(m->len), gen);
				m->moved = false;
			}
		}
	}
}

static int by_age(const void *a, const void *b)
{
	const struct file *x = *(struct file *const *)a, *y = *(struct file *const *)b;

	if (x->object != y->object)
		return x->object < y->object ? -1 : 1;
	return x->map < y->map ? -1 : x->map > y->map;
}

static int rescue_locked(struct rescue *s, size_t n_suspects)
{
	int r = collect_rows(s);

	if (r)
		return r;
	for (size_t i = 0; i < s->n_files; i++) {
		if (chunkmap_each_pending(&s->files[i]->chunks, move_pending, s))
			return -EIO;
	}
	move_rows(s);
	blob_sync_rescued(s->b, n_suspects);
	r = blob_sync(s->b);
	if (!r)
		r = commit_rows(s);
	if (r)
		return r;
	for (size_t i = 0; i < s->n_files; i++)
		follow(s, s->files[i]);
	release_old(s);
	return s->error ? -EIO : 0;
}

static void rescue_done(struct rescue *s)
{
	struct move *m, *next;

	HASH_ITER (hh, s->moves, m, next) {
		HASH_DEL(s->moves, m);
		free(m);
	}
	free(s->rows);
}

int rescue_blob(struct volume *v, struct blob *b)
{
	struct rescue s = { .v = v, .b = b };
	_cleanup_free_ uint64_t *slots = NULL;
	size_t n = 0;
	int r;

	s.n_files = filetab_of_blob(v, b, s.files, FILES_MAX);
	qsort(s.files, s.n_files, sizeof(struct file *), by_age);
	for (size_t i = 0; i < s.n_files; i++)
		pthread_rwlock_wrlock(&s.files[i]->lock);
	r = blob_sync_suspects(b, &slots, &n);
	if (!r)
		r = add_moves(&s, slots, n);
	if (!r)
		r = rescue_locked(&s, n);
	for (size_t i = s.n_files; i-- > 0;)
		pthread_rwlock_unlock(&s.files[i]->lock);
	for (size_t i = 0; i < s.n_files; i++)
		file_unref(s.files[i], false);
	rescue_done(&s);
	return r;
}
