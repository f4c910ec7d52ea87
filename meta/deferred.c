#include <errno.h>

#include "base/array.h"
#include "base/error.h"
#include "meta/stmt_priv.h"
#include "meta/store.h"

int deferred_put(struct db *db, uint64_t store, const char *rid, enum deferred_reason reason,
	const char *parent_rid, const char *entry)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_DEFERRED_PUT);

	stmt_bind_u64(&s, store);
	stmt_bind_text(&s, rid);
	stmt_bind_u64(&s, reason);
	stmt_bind_text_or_null(&s, parent_rid);
	stmt_bind_text(&s, entry);
	return stmt_run(&s);
}

int deferred_delete(struct db *db, uint64_t store, const char *rid)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_DEFERRED_DELETE);

	stmt_bind_u64(&s, store);
	stmt_bind_text(&s, rid);
	return stmt_run_one(&s);
}

int deferred_get(struct db *db, uint64_t store, const char *rid, char **entry)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_DEFERRED_GET);
	char *copy;
	int r;

	stmt_bind_u64(&s, store);
	stmt_bind_text(&s, rid);
	r = stmt_one(&s);
	if (r < 0)
		return r;
	copy = stmt_dup(&s, NULL);
	if (!copy)
		return s.error ? s.error : CE_CORRUPT;
	*entry = copy;
	return 0;
}

/* The rows read before the callback sees the first: it may change the table. */
struct list {
	struct item {
		char *rid, *entry;
	} * items;
	size_t n, room;
};

static void list_done(struct list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->items[i].rid);
		free(l->items[i].entry);
	}
	free(l->items);
}

static int list_add(struct list *l, struct stmt *s)
{
	struct item *it;

	if (ARRAY_ROOM(l->items, l->n, l->room))
		return -ENOMEM;
	it = &l->items[l->n++];
	it->rid = stmt_dup(s, NULL);
	it->entry = stmt_dup(s, NULL);
	if (s->error)
		return s->error;
	return it->rid && it->entry ? 0 : CE_CORRUPT;
}

static int list_read(struct db *db, uint64_t store, enum deferred_reason reason,
	const char *parent_rid, struct list *l)
{
	_cleanup_stmt_ struct stmt s =
		stmt_use(db, parent_rid ? STMT_DEFERRED_OF_PARENT : STMT_DEFERRED_OF_REASON);
	int r;

	stmt_bind_u64(&s, store);
	stmt_bind_u64(&s, reason);
	if (parent_rid)
		stmt_bind_text(&s, parent_rid);
	while ((r = stmt_row(&s)) == 1) {
		r = list_add(l, &s);
		if (r < 0)
			return r;
	}
	return r;
}

int deferred_each(struct db *db, uint64_t store, enum deferred_reason reason,
	const char *parent_rid, deferred_fn *fn, void *arg)
{
	_cleanup_(list_done) struct list l = { 0 };
	int r = list_read(db, store, reason, parent_rid, &l);

	for (size_t i = 0; i < l.n && r == 0; i++)
		r = fn(arg, l.items[i].rid, l.items[i].entry);
	return r < 0 ? r : 0;
}

int deferred_count(struct db *db, enum deferred_reason reason, uint64_t *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_DEFERRED_COUNT);

	stmt_bind_u64(&s, reason);
	return stmt_count(&s, out);
}
