#include "server/house.h"

#include "base/error.h"

#define STEP 2000
#define FREE_PAGES_MIN 4000

static int forget_old(struct tx *tx, enum sql which, int64_t before_ns, bool *more)
{
	sqlite3_stmt *q = server_store_statement(tx->db, which);
	int r;

	sqlite3_bind_int64(q, 1, before_ns);
	sqlite3_bind_int64(q, 2, STEP);
	r = server_store_once(tx->db, q);
	if (!r && sqlite3_changes(server_store_handle(tx->db)) > STEP / 2)
		*more = true;
	return r;
}

/* The highest number of the store's oldest tombstones, 0 when none is old enough. */
static int oldest_tombstones(
	struct tx *tx, int64_t store, int64_t before_ns, uint64_t *top, bool *more)
{
	sqlite3_stmt *q = server_store_statement(tx->db, SQL_TOMBSTONE_PURGE_TOP);
	int r;

	sqlite3_bind_int64(q, 1, store);
	sqlite3_bind_int64(q, 2, before_ns);
	sqlite3_bind_int64(q, 3, STEP);
	r = server_store_step(tx->db, q);
	*top = r == 1 ? (uint64_t)sqlite3_column_int64(q, 0) : 0;
	if (r == 1 && sqlite3_column_int(q, 1) == STEP)
		*more = true;
	server_store_reset(q);
	return r < 0 ? r : 0;
}

static int forget_tombstones(struct tx *tx, int64_t store, int64_t before_ns, bool *more)
{
	struct store_row *row;
	sqlite3_stmt *q;
	uint64_t top;
	int r = oldest_tombstones(tx, store, before_ns, &top, more);

	if (r || !top)
		return r;
	r = server_tx_store(tx, store, &row);
	if (r)
		return r;
	row->purged_seq = MAX_OF(row->purged_seq, top);
	q = server_store_statement(tx->db, SQL_TOMBSTONE_PURGE);
	sqlite3_bind_int64(q, 1, store);
	sqlite3_bind_int64(q, 2, (int64_t)top);
	return server_store_once(tx->db, q);
}

static int read_count(struct store_db *db, enum sql which, int64_t *out)
{
	sqlite3_stmt *q = server_store_statement(db, which);
	int r = server_store_step(db, q);

	if (r == 1)
		*out = sqlite3_column_int64(q, 0);
	server_store_reset(q);
	return r == 1 ? 0 : r ? r : CE_CORRUPT;
}

/* Gives free pages back to the file system once they are many; a row a page. */
static int compact(struct store_db *db, bool *more)
{
	sqlite3_stmt *q;
	int64_t free_pages = 0, pages = 0, left = 0;
	int r = read_count(db, SQL_FREE_PAGES, &free_pages);

	if (!r)
		r = read_count(db, SQL_PAGES, &pages);
	if (r || free_pages < FREE_PAGES_MIN || free_pages < pages / 4)
		return r;
	q = server_store_statement(db, SQL_COMPACT);
	while ((r = server_store_step(db, q)) == 1)
		;
	server_store_reset(q);
	/* A database made without incremental vacuum has as many as before: then it stays so. */
	if (!r)
		r = read_count(db, SQL_FREE_PAGES, &left);
	*more = !r && left < free_pages;
	return r;
}

int server_house_step(struct tx *tx, const struct house_limits *limits, bool *more)
{
	sqlite3_stmt *q = server_store_statement(tx->db, SQL_STORE_LIST);
	struct buffer stores = { 0 };
	struct store_row row;
	int r;

	*more = false;
	while ((r = server_store_step(tx->db, q)) == 1) {
		server_records_read_store(q, &row);
		r = buffer_append(&stores, &row, sizeof(row));
		if (r)
			break;
	}
	server_store_reset(q);
	if (!r)
		r = forget_old(tx, SQL_REPLAY_PURGE, limits->keys_before_ns, more);
	if (!r)
		r = forget_old(tx, SQL_KEK_PURGE, limits->keks_before_ns, more);
	for (size_t i = 0; !r && i < stores.len / sizeof(row); i++)
		r = forget_tombstones(tx, ((struct store_row *)stores.data)[i].n,
			limits->tombstones_before_ns, more);
	buffer_done(&stores);
	return r || *more ? r : compact(tx->db, more);
}
