/* Rows of `chunk`. Nonces shorter than CONTENT_NONCE_MAX end in zeros, which are not stored. */
#include "meta/content.h"

#include <errno.h>

#include "base/error.h"
#include "meta/content_priv.h"

static void read_tags(struct stmt *s, struct content_chunk *c)
{
	size_t len = stmt_blob(s, c->tags, sizeof(c->tags));

	c->n_tags = (unsigned)(len / CONTENT_TAG_LEN);
	if (len % CONTENT_TAG_LEN)
		s->error = CE_CORRUPT;
}

void content_chunk_read(struct stmt *s, struct content_chunk *c)
{
	c->idx = stmt_u64(s);
	c->slot = stmt_u64(s);
	c->len = (uint32_t)stmt_u64(s);
	c->seq = stmt_u64(s);
	stmt_blob(s, c->nonce, CONTENT_NONCE_MAX);
	read_tags(s, c);
}

static size_t nonce_len(const struct content_chunk *c)
{
	size_t n = CONTENT_NONCE_MAX;

	while (n > 0 && c->nonce[n - 1] == 0)
		n--;
	return n;
}

int content_chunk_put(struct db *db, uint64_t map, const struct content_chunk *c)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_CHUNK_PUT);

	stmt_bind_u64(&s, map);
	stmt_bind_u64(&s, c->idx);
	stmt_bind_u64(&s, c->slot);
	stmt_bind_u64(&s, c->len);
	stmt_bind_u64(&s, c->seq);
	stmt_bind_blob(&s, c->nonce, nonce_len(c));
	stmt_bind_blob(&s, c->tags, (size_t)c->n_tags * CONTENT_TAG_LEN);
	return stmt_run(&s);
}

int content_chunk_get(struct db *db, uint64_t map, uint64_t idx, struct content_chunk *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_CHUNK_GET);
	struct content_chunk c;
	int r;

	stmt_bind_u64(&s, map);
	stmt_bind_u64(&s, idx);
	r = stmt_one(&s);
	if (r < 0)
		return r;
	content_chunk_read(&s, &c);
	if (s.error)
		return s.error;
	*out = c;
	return 0;
}

int content_chunk_delete(struct db *db, uint64_t map, uint64_t idx)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_CHUNK_DELETE);

	stmt_bind_u64(&s, map);
	stmt_bind_u64(&s, idx);
	return stmt_run_one(&s);
}

int content_chunk_delete_from(struct db *db, uint64_t map, uint64_t from)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_CHUNK_DELETE_FROM);

	stmt_bind_u64(&s, map);
	stmt_bind_u64(&s, from);
	return stmt_run(&s);
}

int content_chunk_oldest(
	struct db *db, uint64_t map, struct content_chunk *rows, size_t max, size_t *n)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_CHUNK_OLDEST);
	size_t count = 0;
	int r;

	stmt_bind_u64(&s, map);
	stmt_bind_u64(&s, max);
	while ((r = stmt_row(&s)) == 1 && count < max) {
		content_chunk_read(&s, &rows[count++]);
		if (s.error)
			return s.error;
	}
	if (r < 0)
		return r;
	*n = count;
	return 0;
}

int content_chunk_each(struct db *db, uint64_t map, uint64_t from, content_chunk_fn *fn, void *arg)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_CHUNK_EACH);
	struct content_chunk c;
	int r;

	stmt_bind_u64(&s, map);
	stmt_bind_u64(&s, from);
	while ((r = stmt_row(&s)) == 1) {
		content_chunk_read(&s, &c);
		r = s.error ? s.error : fn(arg, &c);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return r;
}

int content_chunk_count(struct db *db, uint64_t map, uint64_t most, uint64_t *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_CHUNK_COUNT);

	stmt_bind_u64(&s, map);
	stmt_bind_u64(&s, most);
	return stmt_count(&s, out);
}

int content_chunk_old(struct db *db, uint64_t seq, struct content_old *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_CHUNK_OLD);
	_cleanup_stmt_ struct stmt u = stmt_use(db, STMT_UNDO_OLD);
	struct content_old old = { 0 };
	int r;

	stmt_bind_u64(&s, seq);
	stmt_bind_u64(&u, seq);
	r = stmt_one(&s);
	if (r == 0) {
		old.chunks = stmt_u64(&s);
		old.bytes = stmt_u64(&s);
		r = stmt_count(&u, &old.undo);
	}
	if (r == 0)
		*out = old;
	return r;
}
