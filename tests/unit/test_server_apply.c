/*
 * The rules of the protocol on the real database, without HTTP: idempotency, preconditions, places,
 * loops, replaces, swap, the order of the feed, forgetting; and a long random run against a plain
 * model.
 */
#include "unit.h"

#include <errno.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/secret.h"
#include "server/apply.h"
#include "server/house.h"
#include "server/server.h"

#define INSTANCE "00112233445566778899aabbccddeeff"

struct fixture {
	struct unit_dir dir;
	struct body_dirs dirs;
	struct store_db *db;
	struct tx tx;
	int64_t store;
	struct change c; /* the last one */
	unsigned keys;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct store_row row;
	char *error = NULL;

	unit_dir_init(&f->dir);
	assert_int_equal(server_store_add(f->dir.path, "s", &error), 0);
	assert_int_equal(server_body_open_dirs(f->dir.fd, &f->dirs), 0);
	assert_int_equal(server_store_open(f->dir.path, &f->db), 0);
	assert_int_equal(server_records_store_by_id(f->db, "s", &row), 0);
	f->store = row.n;
	server_tx_init(&f->tx, f->db, INSTANCE, 0xabcd);
	server_change_init(&f->c, &f->dirs, UINT64_MAX);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	server_change_done(&f->c);
	server_tx_done(&f->tx);
	server_store_close(f->db);
	server_body_close_dirs(&f->dirs);
	unit_dir_done(&f->dir);
	free(f);
	return 0;
}

/* A new change in f->c with a key of its own. */
static struct change *begin(struct fixture *f, enum change_op op, const char *id)
{
	struct change *c = &f->c;

	server_change_done(c);
	server_change_init(c, &f->dirs, UINT64_MAX);
	c->op = op;
	c->account = 1;
	c->store = f->store;
	c->has_key = true;
	store_le32(c->key, ++f->keys);
	snprintf(c->id, sizeof(c->id), "%s", id);
	return c;
}

static void at(struct change *c, const char *parent, const char *name)
{
	c->has_parent = c->has_name = true;
	snprintf(c->parent, sizeof(c->parent), "%s", parent);
	snprintf(c->name, sizeof(c->name), "%s", name);
}

static void etag_of(struct fixture *f, const char *id, char *out)
{
	struct record r;

	assert_int_equal(server_records_by_id(f->db, f->store, id, &r), 0);
	server_records_etag(&r, out);
}

static void match(struct fixture *f, struct change *c)
{
	etag_of(f, c->id, c->if_match);
}

static void other(struct fixture *f, struct change_other *o, const char *id)
{
	o->set = true;
	snprintf(o->id, sizeof(o->id), "%s", id);
	etag_of(f, id, o->etag);
}

/* Applies f->c in a transaction of its own; its status. */
static unsigned apply(struct fixture *f)
{
	struct change *c = &f->c;

	assert_int_equal(server_body_finish(&c->body), 0);
	assert_int_equal(server_change_seal(c), 0);
	assert_int_equal(server_tx_begin(&f->tx), 0);
	assert_int_equal(server_apply(&f->tx, c), 0);
	assert_int_equal(server_tx_commit(&f->tx), 0);
	return c->out.status;
}

static unsigned make(struct fixture *f, const char *id, enum record_kind kind, const char *parent,
	const char *name)
{
	struct change *c = begin(f, CHANGE_PUT, id);

	c->create = true;
	c->kind = kind;
	at(c, parent, name);
	if (kind == RECORD_FILE)
		assert_int_equal(server_body_write(&c->body, id, strlen(id)), 0);
	return apply(f);
}

static unsigned move(struct fixture *f, const char *id, const char *parent, const char *name)
{
	struct change *c = begin(f, CHANGE_PATCH, id);

	match(f, c);
	at(c, parent, name);
	return apply(f);
}

static unsigned erase(struct fixture *f, const char *id)
{
	match(f, begin(f, CHANGE_DELETE, id));
	return apply(f);
}

/* The member "type" of the last problem, without its prefix. */
static void problem_is(struct fixture *f, const char *type)
{
	_cleanup_json_ struct json *root = NULL;
	const char *text;

	assert_int_equal(json_parse(f->c.out.text.data, f->c.out.text.len, &root), 0);
	assert_int_equal(json_get_string(root, "type", &text), 0);
	assert_string_equal(text + strlen("urn:cachet:"), type);
}

static struct store_row counters(struct fixture *f)
{
	struct store_row row;

	assert_int_equal(server_records_store_by_n(f->db, f->store, &row), 0);
	return row;
}

static void a_key_is_answered_once_and_repeated(void **state)
{
	struct fixture *f = *state;
	char first[4096];

	assert_int_equal(make(f, "a", RECORD_FILE, "root", "a"), 201);
	assert_false(f->c.out.replayed);
	snprintf(first, sizeof(first), "%s", f->c.out.text.data);
	f->keys--;
	assert_int_equal(make(f, "a", RECORD_FILE, "root", "a"), 201);
	assert_true(f->c.out.replayed);
	assert_string_equal(f->c.out.text.data, first);
	assert_int_equal(counters(f).seq, 1);
}

static void a_key_of_another_request_is_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(make(f, "a", RECORD_FILE, "root", "a"), 201);
	f->keys--;
	assert_int_equal(make(f, "a", RECORD_FILE, "root", "b"), 422);
	problem_is(f, "key-reused");
	f->keys--;
	assert_int_equal(make(f, "a", RECORD_DIR, "root", "a"), 422);
	f->keys--;
	assert_int_equal(erase(f, "a"), 422);
	assert_int_equal(counters(f).seq, 1);
}

static void a_key_of_another_account_is_another_key(void **state)
{
	struct fixture *f = *state;
	struct change *c;

	assert_int_equal(make(f, "a", RECORD_FILE, "root", "a"), 201);
	f->keys--;
	c = begin(f, CHANGE_PUT, "b");
	c->account = 2;
	c->create = true;
	at(c, "root", "b");
	assert_int_equal(apply(f), 201);
	assert_false(c->out.replayed);
}

static void only_success_and_412_are_remembered(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(make(f, "a", RECORD_FILE, "nowhere", "a"), 409);
	f->keys--;
	assert_int_equal(make(f, "nowhere", RECORD_DIR, "root", "d"), 201);
	assert_int_equal(make(f, "nowhere", RECORD_DIR, "root", "d"), 412);
	assert_int_equal(erase(f, "nowhere"), 200);
	f->keys -= 2;
	assert_int_equal(make(f, "nowhere", RECORD_DIR, "root", "d"), 412);
	assert_true(f->c.out.replayed);
}

static void a_rolled_back_transaction_leaves_no_trace(void **state)
{
	struct fixture *f = *state;
	struct change *c = begin(f, CHANGE_PUT, "a");

	c->create = true;
	at(c, "root", "a");
	assert_int_equal(server_body_finish(&c->body), 0);
	assert_int_equal(server_change_seal(c), 0);
	assert_int_equal(server_tx_begin(&f->tx), 0);
	assert_int_equal(server_apply(&f->tx, c), 0);
	assert_int_equal(c->out.status, 201);
	server_tx_rollback(&f->tx);
	assert_int_equal(counters(f).seq, 0);
	assert_int_equal(apply(f), 201);
	assert_false(c->out.replayed);
	assert_int_equal(counters(f).records, 1);
}

static void the_feed_is_in_order_with_each_record_once(void **state)
{
	struct fixture *f = *state;
	static const char *const expected[] = { "c", "d", "a", "b" };
	sqlite3_stmt *q = server_store_statement(f->db, SQL_RECORD_FEED);
	struct record r;
	uint64_t last = 0;
	size_t n = 0;

	make(f, "a", RECORD_FILE, "root", "a");
	make(f, "b", RECORD_FILE, "root", "b");
	make(f, "c", RECORD_FILE, "root", "c");
	make(f, "d", RECORD_FILE, "root", "d");
	move(f, "a", "root", "a2");
	erase(f, "b");
	sqlite3_bind_int64(q, 1, f->store);
	sqlite3_bind_int64(q, 2, 0);
	sqlite3_bind_int64(q, 3, 100);
	while (server_store_step(f->db, q) == 1) {
		server_records_read(q, &r);
		assert_true(r.seq > last);
		last = r.seq;
		assert_string_equal(r.id, expected[n++]);
	}
	server_store_reset(q);
	assert_int_equal(n, 4);
	assert_true(r.deleted);
	assert_int_equal(last, counters(f).seq);
}

static void a_directory_does_not_move_into_its_own_tree(void **state)
{
	struct fixture *f = *state;

	make(f, "a", RECORD_DIR, "root", "a");
	make(f, "b", RECORD_DIR, "a", "b");
	make(f, "c", RECORD_DIR, "b", "c");
	assert_int_equal(move(f, "a", "a", "x"), 409);
	problem_is(f, "loop");
	assert_int_equal(move(f, "a", "c", "x"), 409);
	assert_int_equal(move(f, "b", "c", "x"), 409);
	assert_int_equal(move(f, "c", "root", "c"), 200);
	assert_int_equal(move(f, "a", "c", "a"), 200);
	assert_int_equal(move(f, "c", "b", "x"), 409);
}

static void swapping_never_makes_a_loop(void **state)
{
	struct fixture *f = *state;
	struct change *c;

	make(f, "a", RECORD_DIR, "root", "a");
	make(f, "b", RECORD_DIR, "a", "b");
	c = begin(f, CHANGE_PATCH, "a");
	match(f, c);
	other(f, &c->swap, "b");
	assert_int_equal(apply(f), 409);
	problem_is(f, "loop");
	c = begin(f, CHANGE_PATCH, "b");
	match(f, c);
	other(f, &c->swap, "a");
	assert_int_equal(apply(f), 409);
}

static void swap_exchanges_and_counts_nothing(void **state)
{
	struct fixture *f = *state;
	struct record a, b;
	struct change *c;

	make(f, "d", RECORD_DIR, "root", "d");
	make(f, "a", RECORD_FILE, "d", "x");
	make(f, "b", RECORD_DIR, "root", "y");
	c = begin(f, CHANGE_PATCH, "a");
	match(f, c);
	other(f, &c->swap, "b");
	assert_int_equal(apply(f), 200);
	assert_int_equal(server_records_by_id(f->db, f->store, "a", &a), 0);
	assert_int_equal(server_records_by_id(f->db, f->store, "b", &b), 0);
	assert_string_equal(a.parent, "root");
	assert_string_equal(a.name, "y");
	assert_string_equal(b.parent, "d");
	assert_string_equal(b.name, "x");
	assert_int_equal(counters(f).records, 3);
	assert_int_equal(counters(f).seq, 5);
	/* Both at once: the pair is two entries of the feed under one key. */
	assert_memory_equal(a.key, b.key, sizeof(a.key));
}

static void swap_needs_both_etags(void **state)
{
	struct fixture *f = *state;
	struct change *c;

	make(f, "a", RECORD_FILE, "root", "a");
	make(f, "b", RECORD_FILE, "root", "b");
	c = begin(f, CHANGE_PATCH, "a");
	match(f, c);
	other(f, &c->swap, "b");
	snprintf(c->swap.etag, sizeof(c->swap.etag), "\"0-0\"");
	assert_int_equal(apply(f), 412);
	assert_int_equal(counters(f).seq, 2);
}

static void replacing_buries_the_old_record(void **state)
{
	struct fixture *f = *state;
	struct record old;
	struct change *c;

	make(f, "old", RECORD_FILE, "root", "doc");
	make(f, "new", RECORD_FILE, "root", "tmp");
	c = begin(f, CHANGE_PATCH, "new");
	match(f, c);
	at(c, "root", "doc");
	other(f, &c->replaces, "old");
	assert_int_equal(apply(f), 200);
	assert_int_equal(server_records_by_id(f->db, f->store, "old", &old), 0);
	assert_true(old.deleted);
	assert_int_equal(counters(f).records, 1);
	assert_int_equal(counters(f).bytes, 3);
}

static void replacing_what_stands_elsewhere_is_refused(void **state)
{
	struct fixture *f = *state;
	struct change *c;

	make(f, "old", RECORD_FILE, "root", "elsewhere");
	make(f, "new", RECORD_FILE, "root", "tmp");
	c = begin(f, CHANGE_PATCH, "new");
	match(f, c);
	at(c, "root", "doc");
	other(f, &c->replaces, "old");
	assert_int_equal(apply(f), 412);
	assert_int_equal(counters(f).records, 2);
}

static void a_full_directory_is_neither_deleted_nor_replaced(void **state)
{
	struct fixture *f = *state;
	struct change *c;

	make(f, "d", RECORD_DIR, "root", "d");
	make(f, "in", RECORD_FILE, "d", "in");
	make(f, "e", RECORD_DIR, "root", "e");
	assert_int_equal(erase(f, "d"), 409);
	problem_is(f, "not-empty");
	c = begin(f, CHANGE_PATCH, "e");
	match(f, c);
	at(c, "root", "d");
	other(f, &c->replaces, "d");
	assert_int_equal(apply(f), 409);
	problem_is(f, "not-empty");
	assert_int_equal(erase(f, "in"), 200);
	assert_int_equal(erase(f, "d"), 200);
}

static void the_root_is_out_of_reach(void **state)
{
	struct fixture *f = *state;
	struct change *c = begin(f, CHANGE_DELETE, "root");

	snprintf(c->if_match, sizeof(c->if_match), "\"root\"");
	assert_int_equal(apply(f), 400);
	make(f, "a", RECORD_FILE, "root", "a");
	c = begin(f, CHANGE_PATCH, "a");
	match(f, c);
	c->swap = (struct change_other){ .set = true, .id = "root", .etag = "\"root\"" };
	assert_int_equal(apply(f), 400);
}

static void the_highest_number_of_a_device_stays(void **state)
{
	struct fixture *f = *state;
	sqlite3_stmt *q = server_store_statement(f->db, SQL_DEVICE_GET);
	static const uint64_t sent[] = { 5, 9, 3 };
	const uint8_t device[16] = { 0 };

	for (size_t i = 0; i < 3; i++) {
		struct change *c = begin(f, CHANGE_DELETE, "none");

		snprintf(c->if_match, sizeof(c->if_match), "\"1\"");
		c->has_device = true;
		c->seq = sent[i];
		assert_int_equal(apply(f), 404);
	}
	sqlite3_bind_int64(q, 1, 1);
	sqlite3_bind_blob(q, 2, device, sizeof(device), SQLITE_STATIC);
	assert_int_equal(server_store_step(f->db, q), 1);
	assert_int_equal(sqlite3_column_int64(q, 0), 9);
	server_store_reset(q);
}

static void old_tombstones_and_keys_are_forgotten_and_noted(void **state)
{
	struct fixture *f = *state;
	struct house_limits all = { INT64_MAX, INT64_MAX, INT64_MAX };
	struct house_limits none = { 0 };
	struct record r;
	bool more;

	make(f, "a", RECORD_FILE, "root", "a");
	make(f, "b", RECORD_FILE, "root", "b");
	erase(f, "a");
	assert_int_equal(server_tx_begin(&f->tx), 0);
	assert_int_equal(server_house_step(&f->tx, &none, &more), 0);
	assert_int_equal(server_tx_commit(&f->tx), 0);
	assert_int_equal(server_records_by_id(f->db, f->store, "a", &r), 0);
	assert_int_equal(counters(f).purged_seq, 0);
	assert_int_equal(server_tx_begin(&f->tx), 0);
	assert_int_equal(server_house_step(&f->tx, &all, &more), 0);
	assert_int_equal(server_tx_commit(&f->tx), 0);
	assert_int_equal(server_records_by_id(f->db, f->store, "a", &r), -ENOENT);
	assert_int_equal(server_records_by_id(f->db, f->store, "b", &r), 0);
	assert_int_equal(counters(f).purged_seq, 3);
	/* Its key is forgotten too: the same request is a new one, and finds its record there. */
	f->keys = 1;
	assert_int_equal(make(f, "b", RECORD_FILE, "root", "b"), 412);
	assert_false(f->c.out.replayed);
}

static int64_t count_pages(struct fixture *f)
{
	sqlite3_stmt *q = server_store_statement(f->db, SQL_PAGES);
	int64_t n;

	assert_int_equal(server_store_step(f->db, q), 1);
	n = sqlite3_column_int64(q, 0);
	server_store_reset(q);
	return n;
}

static void exec(struct fixture *f, const char *sql)
{
	assert_int_equal(
		sqlite3_exec(server_store_handle(f->db), sql, NULL, NULL, NULL), SQLITE_OK);
}

/* What was deleted gives its pages back, step by step; what is left stays readable. */
static void free_pages_go_back_to_the_file_system(void **state)
{
	struct fixture *f = *state;
	struct house_limits none = { 0 };
	int64_t empty = count_pages(f), full;
	bool more = true;
	unsigned steps = 0;

	make(f, "before", RECORD_FILE, "root", "before");
	exec(f, "WITH RECURSIVE c(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM c WHERE i < 1400)"
		" INSERT INTO contents SELECT i, randomblob(16000) FROM c");
	make(f, "after", RECORD_FILE, "root", "after");
	full = count_pages(f);
	assert_true(full > 5000);
	exec(f, "DELETE FROM contents WHERE n BETWEEN 100 AND 1400");
	assert_int_equal(count_pages(f), full);
	for (; more; steps++) {
		assert_int_equal(server_tx_begin(&f->tx), 0);
		assert_int_equal(server_house_step(&f->tx, &none, &more), 0);
		assert_int_equal(server_tx_commit(&f->tx), 0);
	}
	assert_true(steps > 1);
	assert_true(count_pages(f) < empty + 4000);
	assert_true(count_pages(f) < full);
	exec(f, "PRAGMA integrity_check");
	assert_int_equal(make(f, "before", RECORD_FILE, "root", "again"), 412);
}

static void has_keks(struct fixture *f, int64_t before_ns, const char *expected)
{
	struct house_limits limits = { .keks_before_ns = before_ns };
	sqlite3_stmt *q;
	bool more;

	assert_int_equal(server_tx_begin(&f->tx), 0);
	assert_int_equal(server_house_step(&f->tx, &limits, &more), 0);
	assert_int_equal(server_tx_commit(&f->tx), 0);
	assert_int_equal(sqlite3_prepare_v2(server_store_handle(f->db),
				 "SELECT group_concat(kid, ' ') FROM (SELECT kid FROM keks ORDER BY "
				 "kid)",
				 -1, &q, NULL),
		SQLITE_OK);
	assert_int_equal(sqlite3_step(q), SQLITE_ROW);
	assert_string_equal((const char *)sqlite3_column_text(q, 0), expected);
	sqlite3_finalize(q);
}

/*
 * Each device had keys 1 to 4 and has 5, made at 10, 20 ... and over 5 later; 3 was never given
 * out. "a" was here long after, "b" not since 2 was over, "r" is revoked.
 */
static void keys_that_no_device_needs_are_forgotten(void **state)
{
	static const char *const over[] = { "15", "25", "NULL", "45", "55" };
	struct fixture *f = *state;

	for (const char *d = "abr"; *d; d++) {
		char sql[256];

		snprintf(sql, sizeof(sql),
			"INSERT INTO enrolled (dkid, account, device_id, dk_pub, kid, state, "
			"created_at, seen_at) VALUES ('%c', 1, '%c', x'', '%c5', %d, 0, %d)",
			*d, *d, *d, *d == 'r' ? 2 : 0, *d == 'b' ? 25 : 1000);
		exec(f, sql);
		for (int n = 1; n <= 5; n++) {
			snprintf(sql, sizeof(sql),
				"INSERT INTO keks (kid, account, dkid, wrapped, version, "
				"rotated_at, expires_at) VALUES ('%c%d', 1, '%c', %s, 1, %d, %s)",
				*d, n, *d, n == 3 ? "NULL" : "x'00'", n * 10, over[n - 1]);
			exec(f, sql);
		}
	}
	has_keks(f, 0, "a1 a2 a4 a5 b1 b2 b4 b5 r1 r2 r4 r5");
	/* 1 was followed by 2, which was over at 25. */
	has_keks(f, 26, "a2 a4 a5 b1 b2 b4 b5 r1 r2 r4 r5");
	has_keks(f, INT64_MAX, "a5 b1 b2 b4 b5 r1 r2 r4 r5");
	exec(f, "UPDATE enrolled SET seen_at = 26 WHERE dkid = 'b'");
	has_keks(f, INT64_MAX, "a5 b2 b4 b5 r1 r2 r4 r5");
}

static void names_are_ascii_json_that_reads_back(void **state)
{
	static const char *const names[] = { "plain", "\"\\/\b\f\n\r\t\x01\x7f", "\xc3\xa9",
		"\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xf4\x8f\xbf\xbf", "\xef\xbf\xbf" };
	struct record r = { .n = 1,
		.kind = RECORD_FILE,
		.id = "i",
		.parent = "root",
		.mtime_ns = INT64_MIN,
		.seq = UINT64_MAX >> 12 };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		_cleanup_json_ struct json *root = NULL;
		struct buffer b = { 0 };
		const char *back;
		int64_t mtime;

		snprintf(r.name, sizeof(r.name), "%s", names[i]);
		assert_int_equal(server_records_print(&b, &r, true), 0);
		for (size_t k = 0; k < b.len; k++)
			assert_true(b.data[k] >= 0x20 && b.data[k] < 0x7f);
		assert_int_equal(json_parse(b.data, b.len, &root), 0);
		assert_int_equal(json_get_string(root, "name", &back), 0);
		assert_string_equal(back, names[i]);
		assert_int_equal(json_get_i64(root, "mtime_ns", &mtime), 0);
		assert_true(mtime == INT64_MIN);
		buffer_done(&b);
	}
}

/* ---- a random run against a model ---- */

#define MODEL_IDS 12
#define MODEL_NAMES 5

struct model {
	bool there, deleted, dir;
	int parent; /* index, -1 = root */
	int name;
};

static bool below(const struct model *m, int a, int top)
{
	for (; a >= 0; a = m[a].parent)
		if (a == top)
			return true;
	return false;
}

static int standing(const struct model *m, int parent, int name)
{
	for (int i = 0; i < MODEL_IDS; i++)
		if (m[i].there && !m[i].deleted && m[i].parent == parent && m[i].name == name)
			return i;
	return -1;
}

static bool has_children(const struct model *m, int d)
{
	for (int i = 0; i < MODEL_IDS; i++)
		if (m[i].there && !m[i].deleted && m[i].parent == d)
			return true;
	return false;
}

static bool live(const struct model *m, int i)
{
	return m[i].there && !m[i].deleted;
}

static const char *id_of(int i, char out[16])
{
	if (i < 0)
		return "root";
	snprintf(out, 16, "r%d", i);
	return out;
}

static unsigned model_make(struct model *m, int i, bool dir, int parent, int name)
{
	if (m[i].there)
		return 412;
	if (parent >= 0 && (!live(m, parent) || !m[parent].dir))
		return 409;
	if (standing(m, parent, name) >= 0)
		return 409;
	m[i] = (struct model){ .there = true, .dir = dir, .parent = parent, .name = name };
	return 201;
}

static unsigned model_move(struct model *m, int i, int parent, int name)
{
	int s;

	if (parent >= 0 && (!live(m, parent) || !m[parent].dir))
		return 409;
	if (m[i].dir && below(m, parent, i))
		return 409;
	s = standing(m, parent, name);
	if (s >= 0 && s != i)
		return 409;
	m[i].parent = parent;
	m[i].name = name;
	return 200;
}

static unsigned model_swap(struct model *m, int a, int b)
{
	struct model t = m[a];

	if ((m[a].dir && below(m, m[b].parent, a)) || (m[b].dir && below(m, m[a].parent, b)))
		return 409;
	m[a].parent = m[b].parent;
	m[a].name = m[b].name;
	m[b].parent = t.parent;
	m[b].name = t.name;
	return 200;
}

static void compare_with_model(struct fixture *f, const struct model *m)
{
	uint64_t n = 0;

	for (int i = 0; i < MODEL_IDS; i++) {
		char id[16], parent[16], name[16];
		struct record r;
		int rc = server_records_by_id(f->db, f->store, id_of(i, id), &r);

		assert_int_equal(rc, m[i].there ? 0 : -ENOENT);
		if (!m[i].there)
			continue;
		assert_int_equal(r.deleted, m[i].deleted);
		snprintf(name, sizeof(name), "n%d", m[i].name);
		assert_string_equal(r.name, name);
		if (!m[i].deleted)
			assert_string_equal(r.parent, id_of(m[i].parent, parent));
		n += !m[i].deleted;
	}
	assert_int_equal(counters(f).records, n);
}

static void random_step(struct fixture *f, struct model *m)
{
	int i = rand() % MODEL_IDS, j = rand() % MODEL_IDS, parent = rand() % (MODEL_IDS + 3) - 3,
	    name = rand() % MODEL_NAMES;
	char id[16], id2[16], pid[16], text[16];
	unsigned expected;

	parent = parent < 0 ? -1 : parent;
	snprintf(text, sizeof(text), "n%d", name);
	switch (rand() % 5) {
	case 0:
	case 1: {
		bool dir = rand() % 2;

		expected = model_make(m, i, dir, parent, name);
		assert_int_equal(make(f, id_of(i, id), dir ? RECORD_DIR : RECORD_FILE,
					 id_of(parent, pid), text),
			expected);
		break;
	}
	case 2:
		if (!live(m, i))
			return;
		expected = model_move(m, i, parent, name);
		assert_int_equal(move(f, id_of(i, id), id_of(parent, pid), text), expected);
		break;
	case 3:
		if (!live(m, i) || !live(m, j) || i == j)
			return;
		expected = model_swap(m, i, j);
		match(f, begin(f, CHANGE_PATCH, id_of(i, id)));
		other(f, &f->c.swap, id_of(j, id2));
		assert_int_equal(apply(f), expected);
		break;
	default:
		if (!live(m, i))
			return;
		expected = m[i].dir && has_children(m, i) ? 409 : 200;
		m[i].deleted = expected == 200;
		assert_int_equal(erase(f, id_of(i, id)), expected);
	}
}

static void a_random_run_agrees_with_a_plain_model(void **state)
{
	struct fixture *f = *state;
	struct model m[MODEL_IDS] = { 0 };

	sqlite3_exec(server_store_handle(f->db), "PRAGMA synchronous = OFF", NULL, NULL, NULL);
	for (unsigned round = 0; round < 40; round++) {
		srand(round);
		memset(m, 0, sizeof(m));
		sqlite3_exec(server_store_handle(f->db),
			"DELETE FROM contents; DELETE FROM records; UPDATE stores SET records = 0, "
			"bytes = 0",
			NULL, NULL, NULL);
		for (unsigned step = 0; step < 60; step++) {
			random_step(f, m);
			compare_with_model(f, m);
		}
	}
}

static int group_setup(void **state)
{
	return secret_init(false);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_key_is_answered_once_and_repeated),
		TEST(a_key_of_another_request_is_refused),
		TEST(a_key_of_another_account_is_another_key),
		TEST(only_success_and_412_are_remembered),
		TEST(a_rolled_back_transaction_leaves_no_trace),
		TEST(the_feed_is_in_order_with_each_record_once),
		TEST(a_directory_does_not_move_into_its_own_tree),
		TEST(swapping_never_makes_a_loop),
		TEST(swap_exchanges_and_counts_nothing),
		TEST(swap_needs_both_etags),
		TEST(replacing_buries_the_old_record),
		TEST(replacing_what_stands_elsewhere_is_refused),
		TEST(a_full_directory_is_neither_deleted_nor_replaced),
		TEST(the_root_is_out_of_reach),
		TEST(the_highest_number_of_a_device_stays),
		TEST(keys_that_no_device_needs_are_forgotten),
		TEST(free_pages_go_back_to_the_file_system),
		TEST(old_tombstones_and_keys_are_forgotten_and_noted),
		TEST(names_are_ascii_json_that_reads_back),
		TEST(a_random_run_agrees_with_a_plain_model),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
