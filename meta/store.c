/* Rows of `store`. The others that meta/store.h names: setting.c, deferred.c, conflict.c, event.c.
 */
#include "meta/store.h"

#include <errno.h>

#include "base/error.h"
#include "meta/db_priv.h"
#include "meta/stmt_priv.h"

static int store_read(struct stmt *s, struct store_row *out)
{
	struct store_row row;

	row.id = stmt_u64(s);
	stmt_text(s, row.ref, sizeof(row.ref));
	stmt_text(s, row.name, sizeof(row.name));
	row.mode = (enum store_mode)stmt_u64(s);
	row.root = stmt_u64(s);
	stmt_text(s, row.cursor, sizeof(row.cursor));
	row.listed = stmt_u64(s) != 0;
	row.listing = stmt_u64(s);
	row.validated_ns = stmt_i64(s);
	if (s->error)
		return s->error;
	*out = row;
	return 0;
}

static void store_bind(struct stmt *s, const struct store_row *row)
{
	stmt_bind_text(s, row->ref);
	stmt_bind_text(s, row->name);
	stmt_bind_u64(s, row->mode);
	stmt_bind_u64(s, row->root);
	stmt_bind_text(s, row->cursor);
	stmt_bind_u64(s, row->listed);
	stmt_bind_u64(s, row->listing);
	stmt_bind_i64(s, row->validated_ns);
}

int store_insert(struct db *db, struct store_row *row)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_STORE_INSERT);
	int r;

	store_bind(&s, row);
	r = stmt_run(&s);
	if (r == 0)
		row->id = stmt_last_id(&s);
	return r;
}

int store_update(struct db *db, const struct store_row *row)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_STORE_UPDATE);

	memo_drop_stores(db->memo);
	store_bind(&s, row);
	stmt_bind_u64(&s, row->id);
	return stmt_run_one(&s);
}

static int query_store(struct db *db, uint64_t id, struct store_row *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_STORE_GET);
	int r;

	stmt_bind_u64(&s, id);
	r = stmt_one(&s);
	if (r == 0)
		r = store_read(&s, out);
	if (r == 0)
		memo_put_store(db_memo(db), out);
	return r;
}

int store_get(struct db *db, uint64_t id, struct store_row *out)
{
	db_assert_locked(db);
	if (memo_store(db_memo(db), id, out))
		return 0;
	return query_store(db, id, out);
}

int store_by_name(struct db *db, const char *name, struct store_row *out)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_STORE_BY_NAME);
	int r;

	stmt_bind_text(&s, name);
	r = stmt_one(&s);
	return r < 0 ? r : store_read(&s, out);
}

int store_each(struct db *db, store_fn *fn, void *arg)
{
	_cleanup_stmt_ struct stmt s = stmt_use(db, STMT_STORE_EACH);
	struct store_row row;
	int r;

	while ((r = stmt_row(&s)) == 1) {
		r = store_read(&s, &row);
		if (r == 0)
			r = fn(arg, &row);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return r;
}
