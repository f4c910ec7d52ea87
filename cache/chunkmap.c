#include "cache/chunkmap.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "cache/table.h"
#include "meta/db.h"

/* Beyond this many, pages without pending entries are dropped: 512 pages map 2 GiB of content. */
#define PAGES_KEPT 512

struct chunkmap_page {
	uint64_t number;
	unsigned n_pending;
	struct chunk_entry entries[CHUNKMAP_PAGE];
	UT_hash_handle hh;
};

void chunkmap_init(struct chunkmap *m, struct db *const *db, uint64_t map)
{
	*m = (struct chunkmap){ .db = db, .map = map, .cut = CHUNKMAP_NO_CUT };
	pthread_mutex_init(&m->lock, NULL);
}

static void drop_page(struct chunkmap *m, struct chunkmap_page *p)
{
	if (m->last == p)
		m->last = NULL;
	HASH_DEL(m->pages, p);
	m->n_pages--;
	free(p);
}

void chunkmap_done(struct chunkmap *m)
{
	struct chunkmap_page *p, *next;

	HASH_ITER (hh, m->pages, p, next)
		drop_page(m, p);
	pthread_mutex_destroy(&m->lock);
}

static void drop_clean(struct chunkmap *m)
{
	struct chunkmap_page *p, *next;

	HASH_ITER (hh, m->pages, p, next) {
		if (!p->n_pending)
			drop_page(m, p);
	}
}

static struct chunkmap_page *find_page(struct chunkmap *m, uint64_t number)
{
	struct chunkmap_page *p = m->last;

	if (!p || p->number != number)
		HASH_FIND(hh, m->pages, &number, sizeof(number), p);
	if (p)
		m->last = p;
	return p;
}

struct load {
	struct chunkmap_page *page;
	uint64_t cut;
};

static int load_row(void *arg, const struct content_chunk *c)
{
	struct load *l = arg;
	struct chunk_entry *e;

	if (c->idx / CHUNKMAP_PAGE != l->page->number || c->idx >= l->cut)
		return 1;
	e = &l->page->entries[c->idx % CHUNKMAP_PAGE];
	e->c = *c;
	e->state = CHUNK_ROW;
	return 0;
}

static int load_page(struct chunkmap *m, uint64_t number, struct chunkmap_page **out)
{
	struct chunkmap_page *p = calloc(1, sizeof(*p));
	struct load l = { p, m->cut };
	int r = 0;

	if (!p)
		return -ENOMEM;
	p->number = number;
	for (unsigned i = 0; i < CHUNKMAP_PAGE; i++)
		p->entries[i].c.idx = number * CHUNKMAP_PAGE + i;
	if (m->map && number * CHUNKMAP_PAGE < m->cut) {
		db_read(*m->db);
		r = content_chunk_each(*m->db, m->map, number * CHUNKMAP_PAGE, load_row, &l);
		db_unlock(*m->db);
	}
	if (!r && m->n_pages >= PAGES_KEPT)
		drop_clean(m);
	if (!r)
		r = TABLE_ADD(hh, m->pages, number, p);
	if (r) {
		free(p);
		return r;
	}
	m->n_pages++;
	m->last = p;
	*out = p;
	return 0;
}

static int page_of(struct chunkmap *m, uint64_t idx, struct chunkmap_page **out)
{
	struct chunkmap_page *p = find_page(m, idx / CHUNKMAP_PAGE);
	int r = p ? 0 : load_page(m, idx / CHUNKMAP_PAGE, &p);

	if (!r)
		*out = p;
	return r;
}

int chunkmap_get(struct chunkmap *m, uint64_t idx, struct chunk_entry *out)
{
	struct chunkmap_page *p;
	int r;

	pthread_mutex_lock(&m->lock);
	r = page_of(m, idx, &p);
	if (!r)
		*out = p->entries[idx % CHUNKMAP_PAGE];
	pthread_mutex_unlock(&m->lock);
	return r;
}

int chunkmap_edit(struct chunkmap *m, uint64_t idx, struct chunk_entry **out)
{
	struct chunkmap_page *p;
	int r;

	pthread_mutex_lock(&m->lock);
	r = page_of(m, idx, &p);
	if (!r)
		*out = &p->entries[idx % CHUNKMAP_PAGE];
	pthread_mutex_unlock(&m->lock);
	return r;
}

static bool is_pending(enum chunk_state s)
{
	return s == CHUNK_SEALED || s == CHUNK_DROPPED;
}

void chunkmap_changed(struct chunkmap *m, uint64_t idx, enum chunk_state was, enum chunk_state is)
{
	struct chunkmap_page *p = find_page(m, idx / CHUNKMAP_PAGE);

	if (is_pending(was) && !is_pending(is)) {
		p->n_pending--;
		m->n_pending--;
	} else if (!is_pending(was) && is_pending(is)) {
		p->n_pending++;
		m->n_pending++;
	}
}

static bool has_content(const struct chunk_entry *e)
{
	return e->state == CHUNK_ROW || e->state == CHUNK_SEALED;
}

static int first_row(void *arg, const struct content_chunk *c)
{
	*(uint64_t *)arg = c->idx;
	return 1;
}

/* The first page >= number that is in memory or has rows; UINT64_MAX if none. */
static int next_page(struct chunkmap *m, uint64_t number, uint64_t *out)
{
	uint64_t best = UINT64_MAX, idx = UINT64_MAX;
	struct chunkmap_page *p, *next;
	int r = 0;

	HASH_ITER (hh, m->pages, p, next) {
		if (p->number >= number)
			best = MIN_OF(best, p->number);
	}
	if (m->map && number * CHUNKMAP_PAGE < m->cut) {
		db_read(*m->db);
		r = content_chunk_each(*m->db, m->map, number * CHUNKMAP_PAGE, first_row, &idx);
		db_unlock(*m->db);
	}
	if (!r && idx < m->cut)
		best = MIN_OF(best, idx / CHUNKMAP_PAGE);
	if (!r)
		*out = best;
	return r;
}

int chunkmap_next(struct chunkmap *m, uint64_t from, uint64_t *out)
{
	struct chunkmap_page *p;
	uint64_t number = from / CHUNKMAP_PAGE;
	int r;

	pthread_mutex_lock(&m->lock);
	for (;;) {
		r = next_page(m, number, &number);
		if (r || number == UINT64_MAX)
			break;
		r = page_of(m, number * CHUNKMAP_PAGE, &p);
		if (r)
			break;
		for (unsigned i = 0; i < CHUNKMAP_PAGE; i++) {
			if (p->entries[i].c.idx >= from && has_content(&p->entries[i])) {
				*out = p->entries[i].c.idx;
				goto found;
			}
		}
		number++;
	}
	if (!r)
		*out = UINT64_MAX;
found:
	pthread_mutex_unlock(&m->lock);
	return r;
}

int chunkmap_each_pending(struct chunkmap *m, chunkmap_fn *fn, void *arg)
{
	struct chunkmap_page *p, *next;

	if (!m->n_pending)
		return 0;
	HASH_ITER (hh, m->pages, p, next) {
		for (unsigned i = 0; i < CHUNKMAP_PAGE && p->n_pending; i++) {
			int r = is_pending(p->entries[i].state) ? fn(arg, &p->entries[i]) : 0;

			if (r)
				return r;
		}
	}
	return 0;
}

void chunkmap_cut(struct chunkmap *m, uint64_t idx,
	void (*sealed)(void *arg, const struct chunk_entry *e), void *arg)
{
	struct chunkmap_page *p, *next;

	m->cut = MIN_OF(m->cut, idx);
	HASH_ITER (hh, m->pages, p, next) {
		for (unsigned i = 0; i < CHUNKMAP_PAGE; i++) {
			struct chunk_entry *e = &p->entries[i];

			if (e->c.idx < idx || e->state == CHUNK_NONE)
				continue;
			if (e->state == CHUNK_SEALED)
				sealed(arg, e);
			if (is_pending(e->state)) {
				p->n_pending--;
				m->n_pending--;
			}
			e->state = CHUNK_NONE;
			e->has_old = false;
		}
	}
}
