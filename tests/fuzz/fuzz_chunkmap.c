/*
 * The chunk map of an open file against a plain array: what the input says is done to both, rows of
 * the index beneath included, and every look-up must agree.
 */
#include <stdlib.h>
#include <string.h>

#include "cache/chunkmap.h"
#include "fuzz.h"
#include "meta/db.h"

#define CHUNKS (4 * CHUNKMAP_PAGE)
#define STEPS 400
#define RUNS_OF_A_LOG 1024 /* until the log of the index is emptied */

struct expected {
	enum chunk_state state[CHUNKS];
	size_t pending;
};

static struct secret *key;
static struct db *db;

static void prepare(void)
{
	static const uint8_t bytes[32] = { 13 };
	static unsigned runs;
	struct db_options o = { .dir = fuzz_dir(), .create = true };

	if (++runs % RUNS_OF_A_LOG == 0)
		FUZZ_CHECK(db_checkpoint(db, true) == 0);
	if (key)
		return;
	FUZZ_CHECK(secret_new_copy(bytes, sizeof(bytes), &key) == 0);
	o.key = key;
	FUZZ_CHECK(db_open(&o, &db, NULL) == 0);
}

/* Rows that stand before anything happens. */
static uint64_t make_rows(struct fuzz_input *in, struct expected *e)
{
	static struct content_map m = { .size = CHUNKS, .whole = true };

	FUZZ_CHECK(db_begin(db) == 0);
	if (m.id)
		FUZZ_CHECK(content_map_delete(db, m.id) == 0);
	FUZZ_CHECK(content_map_insert(db, &m) == 0);
	for (unsigned n = (unsigned)fuzz_take(in, 1) % 40; n; n--) {
		struct content_chunk c = { .idx = fuzz_take(in, 1) % CHUNKS, .len = 1 };

		c.slot = c.idx;
		FUZZ_CHECK(content_chunk_put(db, m.id, &c) == 0);
		e->state[c.idx] = CHUNK_ROW;
	}
	FUZZ_CHECK(db_commit(db) == 0);
	return m.id;
}

static bool is_pending(enum chunk_state s)
{
	return s == CHUNK_SEALED || s == CHUNK_DROPPED;
}

static void set(struct chunkmap *m, struct expected *e, uint64_t idx, enum chunk_state to)
{
	struct chunk_entry *p;
	enum chunk_state was;

	FUZZ_CHECK(chunkmap_edit(m, idx, &p) == 0);
	was = p->state;
	FUZZ_CHECK(was == e->state[idx] && p->c.idx == idx);
	p->state = to;
	chunkmap_changed(m, idx, was, to);
	e->pending += is_pending(to);
	e->pending -= is_pending(was);
	e->state[idx] = to;
}

static void count_sealed(void *arg, const struct chunk_entry *e)
{
	const struct expected *x = arg;

	FUZZ_CHECK(x->state[e->c.idx] == CHUNK_SEALED);
}

static void cut(struct chunkmap *m, struct expected *e, uint64_t idx)
{
	chunkmap_cut(m, idx, count_sealed, e);
	for (uint64_t i = idx; i < CHUNKS; i++) {
		e->pending -= is_pending(e->state[i]);
		e->state[i] = CHUNK_NONE;
	}
}

static void look(struct chunkmap *m, const struct expected *e, uint64_t from)
{
	struct chunk_entry got;
	uint64_t next, want = from;

	FUZZ_CHECK(chunkmap_get(m, from, &got) == 0);
	FUZZ_CHECK(got.state == e->state[from] && got.c.idx == from);
	while (want < CHUNKS && e->state[want] != CHUNK_ROW && e->state[want] != CHUNK_SEALED)
		want++;
	FUZZ_CHECK(chunkmap_next(m, from, &next) == 0);
	FUZZ_CHECK(next == (want < CHUNKS ? want : UINT64_MAX));
	FUZZ_CHECK(m->n_pending == e->pending);
}

static int count(void *arg, struct chunk_entry *e)
{
	FUZZ_CHECK(is_pending(e->state));
	++*(size_t *)arg;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct expected e = { .pending = 0 };
	struct chunkmap m;
	size_t pending = 0;

	prepare();
	chunkmap_init(&m, &db, make_rows(&in, &e));
	for (unsigned i = 0; i < STEPS && in.len; i++) {
		unsigned what = (unsigned)fuzz_take(&in, 1) % 8;
		uint64_t idx = fuzz_take(&in, 1) % CHUNKS;

		if (what < 3)
			set(&m, &e, idx, CHUNK_SEALED);
		else if (what < 4)
			set(&m, &e, idx, CHUNK_DROPPED);
		else if (what < 5)
			set(&m, &e, idx, CHUNK_NONE);
		else if (what < 6)
			cut(&m, &e, idx);
		look(&m, &e, idx);
	}
	FUZZ_CHECK(chunkmap_each_pending(&m, count, &pending) == 0);
	FUZZ_CHECK(pending == e.pending);
	chunkmap_done(&m);
	return 0;
}
