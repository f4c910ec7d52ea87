#include "server/tx.h"

#include <string.h>

#include "base/clock.h"

void server_tx_init(struct tx *tx, struct store_db *db, const char *instance, uint32_t tag)
{
	*tx = (struct tx){ .db = db, .instance = instance, .tag = tag };
}

static void forget(struct tx *tx)
{
	tx->stores.len = tx->devices.len = tx->files.len = 0;
}

int server_tx_begin(struct tx *tx)
{
	forget(tx);
	tx->now_ns = clock_wall_ns();
	return server_store_run(tx->db, SQL_BEGIN_WRITE);
}

static int save_device(struct tx *tx, const struct tx_device *d)
{
	sqlite3_stmt *q = server_store_statement(tx->db, SQL_DEVICE_SAVE);

	sqlite3_bind_int64(q, 1, d->account);
	sqlite3_bind_blob(q, 2, d->device, sizeof(d->device), SQLITE_STATIC);
	sqlite3_bind_int64(q, 3, (int64_t)d->seq);
	sqlite3_bind_int64(q, 4, tx->now_ns);
	return server_store_once(tx->db, q);
}

int server_tx_commit(struct tx *tx)
{
	const struct tx_device *devices = (const struct tx_device *)tx->devices.data;
	size_t n;
	const struct store_row *stores = server_tx_stores(tx, &n);
	int r = 0;

	for (size_t i = 0; !r && i < n; i++)
		r = server_records_store_save(tx->db, &stores[i]);
	for (size_t i = 0; !r && i < tx->devices.len / sizeof(*devices); i++)
		r = save_device(tx, &devices[i]);
	return r ? r : server_store_run(tx->db, SQL_COMMIT);
}

void server_tx_rollback(struct tx *tx)
{
	server_store_rollback(tx->db);
	forget(tx);
}

void server_tx_done(struct tx *tx)
{
	buffer_done(&tx->stores);
	buffer_done(&tx->devices);
	buffer_done(&tx->files);
}

int server_tx_store(struct tx *tx, int64_t n, struct store_row **out)
{
	struct store_row *rows = (struct store_row *)tx->stores.data, row;
	size_t count = tx->stores.len / sizeof(row);
	int r;

	for (size_t i = 0; i < count; i++)
		if (rows[i].n == n) {
			*out = &rows[i];
			return 0;
		}
	r = server_records_store_by_n(tx->db, n, &row);
	if (!r)
		r = buffer_append(&tx->stores, &row, sizeof(row));
	if (r)
		return r;
	*out = (struct store_row *)tx->stores.data + count;
	return 0;
}

int server_tx_note_device(
	struct tx *tx, int64_t account, const uint8_t device[static WIRE_KEY_LEN], uint64_t seq)
{
	struct tx_device *known = (struct tx_device *)tx->devices.data,
			 d = { .account = account, .seq = seq };

	for (size_t i = 0; i < tx->devices.len / sizeof(d); i++) {
		if (known[i].account != account ||
			memcmp(known[i].device, device, WIRE_KEY_LEN) != 0)
			continue;
		known[i].seq = MAX_OF(known[i].seq, seq);
		return 0;
	}
	memcpy(d.device, device, sizeof(d.device));
	return buffer_append(&tx->devices, &d, sizeof(d));
}

int server_tx_release_file(struct tx *tx, const uint8_t file[static RECORD_FILE_LEN])
{
	return buffer_append(&tx->files, file, RECORD_FILE_LEN);
}

const struct store_row *server_tx_stores(const struct tx *tx, size_t *n)
{
	*n = tx->stores.len / sizeof(struct store_row);
	return (const struct store_row *)tx->stores.data;
}

const uint8_t *server_tx_files(const struct tx *tx, size_t *n)
{
	*n = tx->files.len / RECORD_FILE_LEN;
	return (const uint8_t *)tx->files.data;
}
