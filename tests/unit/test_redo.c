/*
 * Goal: the redo log: SIGKILL at any byte of it costs no answered transaction, damage is told from
 * a torn tail and set aside, stale records never come back, and any program can replay it.
 * (Power loss and failing disks: test_vfs_crash.c.)
 */
#include "meta_fixture.h"

#include <ctype.h>
#include <sqlite3.h>

#include "base/bytes.h"
#include "meta/db_priv.h"
#include "meta/redo_format.h"
#include "meta/redo_run.h"

static uint64_t get(struct db *db)
{
	uint64_t n = 0;
	int r;

	db_read(db);
	r = setting_get_u64(db, "n", &n);
	db_unlock(db);
	assert_true(r == 0 || r == -ENOENT);
	return n;
}

static void put(struct db *db, uint64_t n)
{
	assert_int_equal(db_begin(db), 0);
	assert_int_equal(setting_set_u64(db, "n", n), 0);
	assert_int_equal(db_commit(db), 0);
}

/* What was answered after record `i` ended at ends[i]. */
struct history {
	struct fixture f;
	struct image image;
	size_t ends[16], n;
};

/* As SIGKILL leaves it after `n` transactions, of which the last ones are equally long. */
static void make_history(struct history *h, size_t n, bool synced)
{
	struct db *db;

	memset(h, 0, sizeof(*h));
	fixture_init(&h->f);
	db = fixture_create(&h->f);
	for (h->n = 1; h->n <= n; h->n++) {
		put(db, h->n);
		h->ends[h->n] = redo_used(db->redo);
		if (synced)
			assert_int_equal(db_sync(db), 0);
	}
	h->n = n;
	h->image = fixture_image(&h->f);
	db_close(db);
}

static void history_done(struct history *h)
{
	image_done(&h->image);
	fixture_done(&h->f);
}

static uint64_t reopen(struct fixture *f, struct db_recovery *rec)
{
	struct db *db = fixture_open(f, rec);
	uint64_t n = get(db);

	db_close(db);
	return n;
}

/* The transactions whole in the first `len` bytes. */
static uint64_t whole(const struct history *h, size_t len)
{
	uint64_t n = 0;

	while (n < h->n && h->ends[n + 1] <= len)
		n++;
	return n;
}

static void test_a_log_torn_at_any_byte_gives_the_last_whole_transaction(void **state)
{
	struct db_recovery rec;
	struct history h;

	make_history(&h, 5, false);
	for (size_t cut = h.ends[2]; cut <= h.ends[5]; cut++) {
		uint64_t want = whole(&h, cut), got;
		uint8_t *torn = malloc(h.image.redo.len);

		memcpy(torn, h.image.redo.data, h.image.redo.len);
		memset(torn + cut, 0, h.image.redo.len - cut);
		fixture_restore(&h.f, &h.image);
		fixture_write(&h.f, REDO_FILE, torn, h.image.redo.len);
		free(torn);
		got = reopen(&h.f, &rec);
		/* Padding is zeros: without it the record is whole. */
		assert_true(
			got == want || (got == want + 1 && h.ends[want + 1] - cut < REDO_ALIGN));
		assert_false(rec.wal_damaged);
	}
	history_done(&h);
}

static void test_a_log_cut_short_is_no_damage(void **state)
{
	struct db_recovery rec;
	struct history h;

	make_history(&h, 4, false);
	for (size_t cut = 0; cut < h.ends[4]; cut += 13) {
		fixture_restore(&h.f, &h.image);
		assert_int_equal(truncate(fixture_path(&h.f, REDO_FILE), (off_t)cut), 0);
		(void)!reopen(&h.f, &rec);
		assert_false(rec.wal_damaged);
	}
	fixture_restore(&h.f, &h.image);
	unlink(fixture_path(&h.f, REDO_FILE));
	assert_int_equal(reopen(&h.f, &rec), 0);
	history_done(&h);
}

/* Flips one bit in every byte of the last three records; `synced`: each was durable. */
static void flip_all(bool synced)
{
	struct db_recovery rec;
	struct history h;

	make_history(&h, 5, synced);
	for (size_t at = h.ends[2]; at < h.ends[5]; at++) {
		uint64_t hit = whole(&h, at) + 1;
		uint64_t n;

		fixture_restore(&h.f, &h.image);
		fixture_flip(&h.f, REDO_FILE, at);
		n = reopen(&h.f, &rec);
		if (n == 5 && h.ends[hit] - at < REDO_ALIGN)
			continue; /* padding */
		assert_int_equal(n, hit - 1);
		assert_int_equal(rec.wal_damaged, hit < 5);
		assert_int_equal(rec.durable_lost, synced && hit < 5);
		assert_int_equal(rec.wal_damaged, rec.quarantine[0] != 0);
	}
	history_done(&h);
}

static void test_a_flipped_bit_in_any_byte_ends_the_log_and_is_told(void **state)
{
	flip_all(false);
	flip_all(true);
}

/* A record of `len` bytes and more stands at `from`, and one of another transaction at `to`. */
static void make_long_history(struct history *h, size_t len, size_t *from, size_t *to)
{
	_cleanup_free_ char *big = calloc(1, len);
	struct db *db;

	memset(h, 0, sizeof(*h));
	fixture_init(&h->f);
	db = fixture_create(&h->f);
	put(db, 1);
	*from = redo_used(db->redo);
	assert_int_equal(db_begin(db), 0);
	assert_int_equal(setting_set(db, "big", big, len), 0);
	assert_int_equal(db_commit(db), 0);
	*to = redo_used(db->redo);
	put(db, 2);
	h->image = fixture_image(&h->f);
	db_close(db);
}

/* The long one is lost; the head behind it stands at `want`. */
static void behind_blank_pages(size_t want)
{
	struct db_recovery rec;
	struct history h;
	size_t from, to;

	make_long_history(&h, 4096, &from, &to);
	history_done(&h);
	make_long_history(&h, 4096 + want - to, &from, &to);
	assert_int_equal(to, want);
	memset(h.image.redo.data + from, 0, to - from);
	fixture_restore(&h.f, &h.image);
	assert_int_equal(reopen(&h.f, &rec), 1);
	assert_true(rec.wal_damaged);
	history_done(&h);
}

static void test_a_record_behind_blank_pages_is_seen(void **state)
{
	static const int beside[] = { -80, -72, -16, -8, 0, 8, 16 };

	for (size_t i = 0; i < ARRAY_SIZE(beside); i++)
		behind_blank_pages(8192 + (size_t)beside[i]);
}

static void test_damage_is_set_aside_and_told_once(void **state)
{
	struct db_recovery rec;
	struct history h;
	struct bytes kept;
	char name[300];

	make_history(&h, 5, true);
	fixture_restore(&h.f, &h.image);
	fixture_flip(&h.f, REDO_FILE, h.ends[2] + 80);
	assert_int_equal(reopen(&h.f, &rec), 2);
	assert_true(rec.wal_damaged && rec.durable_lost);
	snprintf(name, sizeof(name), "%s/%s", rec.quarantine, REDO_FILE);
	kept = fixture_read(&h.f, name);
	assert_int_equal(kept.len, h.image.redo.len);
	free(kept.data);
	assert_int_equal(reopen(&h.f, &rec), 2);
	assert_false(rec.wal_damaged);
	history_done(&h);
}

/* The opening that strikes the damage out may be the last thing that its process did. */
static void test_a_loss_is_told_until_it_is_settled(void **state)
{
	struct db_recovery rec;
	struct history h;
	struct db *db;

	make_history(&h, 5, true);
	fixture_restore(&h.f, &h.image);
	fixture_flip(&h.f, REDO_FILE, h.ends[2] + 80);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(reopen(&h.f, &rec), 2);
		assert_true(rec.durable_lost);
	}
	db = fixture_open(&h.f, &rec);
	assert_int_equal(db_settle_loss(db), 0);
	db_close(db);
	assert_int_equal(reopen(&h.f, &rec), 2);
	assert_false(rec.durable_lost);
	history_done(&h);
}

static void test_stale_records_never_follow_new_ones(void **state)
{
	struct db_recovery rec;
	struct history h;
	struct image killed;
	struct db *db;

	make_history(&h, 6, false);
	fixture_restore(&h.f, &h.image);
	fixture_flip(&h.f, REDO_FILE, h.ends[2] + 80);
	db = fixture_open(&h.f, &rec);
	assert_int_equal(get(db), 2);
	put(db, 103); /* as long as the one that was lost: 4, 5, 6 would follow */
	killed = fixture_image(&h.f);
	db_close(db);
	fixture_restore(&h.f, &killed);
	assert_int_equal(reopen(&h.f, &rec), 103);
	assert_false(rec.wal_damaged);
	image_done(&killed);
	history_done(&h);
}

static void test_an_older_log_put_back_is_not_replayed(void **state)
{
	struct db_recovery rec;
	struct fixture f;
	struct bytes old;
	struct image now;
	struct db *db;

	fixture_init(&f);
	db = fixture_create(&f);
	for (uint64_t n = 1; n <= 9; n++)
		put(db, n);
	old = fixture_read(&f, REDO_FILE);
	assert_int_equal(db_checkpoint(db, true), 0);
	put(db, 10);
	now = fixture_image(&f);
	db_close(db);
	fixture_restore(&f, &now);
	fixture_write(&f, REDO_FILE, old.data, old.len);
	assert_int_equal(reopen(&f, &rec), 9);
	free(old.data);
	image_done(&now);
	fixture_done(&f);
}

static void test_killed_after_any_transaction_that_one_is_there(void **state)
{
	struct fixture f, copy;
	struct db *db;

	fixture_init(&f);
	fixture_init(&copy);
	db = fixture_create(&f);
	for (uint64_t n = 1; n <= 120; n++) {
		struct db_recovery rec;
		struct image i;

		put(db, n);
		if (n % 5 == 0) {
			assert_int_equal(db_begin(db), 0);
			assert_int_equal(setting_set_u64(db, "n", 999), 0);
			db_rollback(db);
		}
		if (n % 7 == 0)
			assert_int_equal(db_sync(db), 0);
		if (n % 13 == 0)
			assert_int_equal(db_checkpoint(db, n % 2), 0);
		i = fixture_image(&f);
		fixture_restore(&copy, &i);
		assert_int_equal(reopen(&copy, &rec), n);
		assert_false(rec.wal_damaged);
		image_done(&i);
	}
	db_close(db);
	fixture_done(&f);
	fixture_done(&copy);
}

/* Each life goes on from the killed one before it, with what that left in log and WAL. */
static void test_killed_again_and_again_nothing_is_lost(void **state)
{
	struct fixture f;
	uint64_t n = 0;

	fixture_init(&f);
	db_close(fixture_create(&f));
	for (unsigned life = 0; life < 40; life++) {
		struct db *db = fixture_open(&f, NULL);
		struct image killed;

		assert_int_equal(get(db), n);
		for (unsigned i = 0; i < life % 4; i++)
			put(db, ++n);
		if (life % 3 == 0)
			assert_int_equal(db_checkpoint(db, life % 2), 0);
		for (unsigned i = 0; i < life % 3; i++)
			put(db, ++n);
		killed = fixture_image(&f);
		db_close(db);
		fixture_restore(&f, &killed);
		image_done(&killed);
	}
	assert_int_equal(reopen(&f, NULL), n);
	fixture_done(&f);
}

static void test_a_rollback_takes_back_its_own_changes_alone(void **state)
{
	struct fixture f;
	uint64_t v;
	struct db *db;

	fixture_init(&f);
	db = fixture_create(&f);
	put(db, 1);
	/* The first is made good from the log, the second by a savepoint, the third from the log.
	 */
	for (unsigned i = 0; i < 3; i++) {
		if (i == 2)
			db->careful = 0;
		assert_int_equal(db_begin(db), 0);
		assert_int_equal(setting_set_u64(db, "n", 2), 0);
		assert_int_equal(setting_set_u64(db, "other", 2), 0);
		assert_int_equal(db->saved, i == 1);
		db_rollback(db);
		assert_int_equal(get(db), i ? 2 + i : 1);
		db_read(db);
		assert_int_equal(setting_get_u64(db, "other", &v), -ENOENT);
		db_unlock(db);
		put(db, 3 + i);
	}
	db_close(db);
	assert_int_equal(reopen(&f, NULL), 5);
	fixture_done(&f);
}

static void test_what_only_reads_leaves_the_log_alone(void **state)
{
	struct fixture f;
	uint64_t used, v;
	struct db *db;

	fixture_init(&f);
	db = fixture_create(&f);
	put(db, 1);
	used = redo_used(db->redo);
	assert_int_equal(db_begin(db), 0);
	assert_int_equal(setting_get_u64(db, "n", &v), 0);
	assert_int_equal(db_commit(db), 0);
	assert_int_equal(db_begin(db), 0);
	db_rollback(db);
	assert_int_equal(redo_used(db->redo), used);
	db_close(db);
	fixture_done(&f);
}

/* SQLite's unix VFS takes lengths modulo 128 KiB. */
static void test_a_long_record_is_there_after_a_kill(void **state)
{
	static const size_t sizes[] = { 65000, 131000, 131072, 200000, 262144, 900000 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		_cleanup_free_ char *big = malloc(sizes[i]);
		struct fixture f;
		struct image killed;
		struct db *db;

		memset(big, 'x', sizes[i]);
		fixture_init(&f);
		db = fixture_create(&f);
		assert_int_equal(db_begin(db), 0);
		assert_int_equal(setting_set(db, "big", big, sizes[i]), 0);
		assert_int_equal(setting_set_u64(db, "n", 1), 0);
		assert_int_equal(db_commit(db), 0);
		put(db, 2);
		killed = fixture_image(&f);
		db_close(db);
		fixture_restore(&f, &killed);
		assert_int_equal(reopen(&f, NULL), 2);
		image_done(&killed);
		fixture_done(&f);
	}
}

/* The transaction is longer than a record may be: SQLite commits it, and it is as safe. */
static void test_a_huge_transaction_is_there_after_a_kill(void **state)
{
	size_t size = REDO_PAYLOAD_MAX + 4096;
	char *big = malloc(size);
	struct fixture f;
	struct image killed;
	struct db *db;

	memset(big, 'x', size);
	fixture_init(&f);
	db = fixture_create(&f);
	put(db, 1);
	assert_int_equal(db_begin(db), 0);
	assert_int_equal(setting_set(db, "big", big, size), 0);
	assert_int_equal(setting_set_u64(db, "n", 2), 0);
	assert_int_equal(db_commit(db), 0);
	killed = fixture_image(&f);
	put(db, 3);
	image_done(&killed);
	killed = fixture_image(&f);
	db_close(db);
	fixture_restore(&f, &killed);
	assert_int_equal(reopen(&f, NULL), 3);
	image_done(&killed);
	fixture_done(&f);
	free(big);
}

/* A record that no statement of this program made, on the open index's log; then a kill. */
static void foreign(struct fixture *f, const char *text, uint64_t changes)
{
	struct db *db = fixture_open(f, NULL);
	uint8_t number[8];
	struct redo_value_ref v[2] = {
		{ .type = REDO_BLOB, .bytes = number, .len = sizeof(number) },
		{ .type = REDO_TEXT, .bytes = "n", .len = 1 },
	};
	struct image killed;

	store_le64(number, 42);
	put(db, 7);
	redo_run(db->redo, 777, text, v, 2, changes, 0);
	assert_int_equal(redo_append(db->redo), 0);
	redo_run(db->redo, 777, text, v, 2, changes, 0);
	assert_int_equal(redo_append(db->redo), 0);
	killed = fixture_image(f);
	db_close(db);
	fixture_restore(f, &killed);
	image_done(&killed);
}

static void test_the_log_of_another_program_is_replayed(void **state)
{
	struct db_recovery rec;
	struct fixture f;

	fixture_init(&f);
	db_close(fixture_create(&f));
	foreign(&f, "UPDATE setting SET value = ?1 WHERE key = ?2", 1);
	assert_int_equal(reopen(&f, &rec), 42);
	assert_false(rec.wal_damaged);
	fixture_done(&f);
}

static void refused(const char *text, uint64_t changes)
{
	struct db_recovery rec;
	struct fixture f;

	fixture_init(&f);
	db_close(fixture_create(&f));
	foreign(&f, text, changes);
	assert_int_equal(reopen(&f, &rec), 7);
	assert_true(rec.wal_damaged && rec.durable_lost && rec.quarantine[0]);
	assert_int_equal(reopen(&f, &rec), 7);
	assert_false(rec.wal_damaged);
	fixture_done(&f);
}

static void test_a_record_that_does_not_fit_is_set_aside(void **state)
{
	refused("UPDATE nothing SET value = ?1 WHERE key = ?2", 1);
	refused("UPDATE setting SET value = ?1 WHERE key = ?2", 2);
	refused("INSERT INTO setting(value, key) VALUES(?1, ?2)", 1);
	refused("not SQL at all", 1);
}

static void test_an_opening_without_a_log_keeps_what_is_in_it(void **state)
{
	struct history h;
	struct image killed;
	struct db *db;

	make_history(&h, 5, false);
	fixture_restore(&h.f, &h.image);
	h.f.options.log_bytes = 0;
	db = fixture_open(&h.f, NULL);
	assert_int_equal(get(db), 5);
	put(db, 6);
	killed = fixture_image(&h.f);
	db_close(db);
	fixture_restore(&h.f, &killed);
	image_done(&killed);
	h.f.options.log_bytes = fixture_log_bytes;
	db = fixture_open(&h.f, NULL);
	assert_int_equal(get(db), 6);
	put(db, 7);
	killed = fixture_image(&h.f);
	db_close(db);
	fixture_restore(&h.f, &killed);
	assert_int_equal(reopen(&h.f, NULL), 7);
	image_done(&killed);
	history_done(&h);
}

static void test_an_index_from_before_the_log_is_brought_up(void **state)
{
	struct fixture f;
	struct image killed;
	struct db *db;

	fixture_init(&f);
	f.options.log_bytes = 0;
	db = fixture_create(&f);
	put(db, 3);
	assert_int_equal(db_exec(db, "DROP TABLE redo; DROP TABLE base; DROP INDEX conflict_base;"
				     "DROP INDEX conflict_open; DROP INDEX name_copy;"
				     "ALTER TABLE conflict DROP COLUMN base;"
				     "ALTER TABLE conflict DROP COLUMN outcome;"
				     "PRAGMA user_version = 1"),
		0);
	db_close(db);
	f.options.log_bytes = fixture_log_bytes;
	db = fixture_open(&f, NULL);
	assert_int_equal(get(db), 3);
	put(db, 4);
	killed = fixture_image(&f);
	db_close(db);
	fixture_restore(&f, &killed);
	assert_int_equal(reopen(&f, NULL), 4);
	image_done(&killed);
	fixture_done(&f);
}

static void test_the_log_is_sealed_and_private(void **state)
{
	static const char secret[] = "a name that nobody may read";
	struct fixture f;
	struct bytes log;
	struct stat st;
	struct db *db;

	fixture_init(&f);
	db = fixture_create(&f);
	assert_int_equal(db_begin(db), 0);
	assert_int_equal(setting_set(db, "secret", secret, sizeof(secret)), 0);
	assert_int_equal(db_commit(db), 0);
	log = fixture_read(&f, REDO_FILE);
	assert_true(redo_used(db->redo) > sizeof(secret));
	assert_null(memmem(log.data, log.len, secret, 8));
	assert_null(memmem(log.data, log.len, "INSERT", 6));
	assert_int_equal(stat(fixture_path(&f, REDO_FILE), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	free(log.data);
	db_close(db);
	fixture_done(&f);
}

/* An open group and what the log takes are counted before they are written. */
static void test_the_bound_covers_what_a_checkpoint_takes(void **state)
{
	struct fixture f;
	struct db *db;
	uint64_t bound;

	fixture_init(&f);
	db = fixture_create(&f);
	for (uint64_t n = 1; n <= 300; n++) {
		char key[32];

		snprintf(key, sizeof(key), "key %llu", (unsigned long long)n * 7919 % 1000);
		assert_int_equal(db_begin(db), 0);
		assert_int_equal(setting_set(db, key, key, sizeof(key)), 0);
		assert_int_equal(db_commit(db), 0);
	}
	bound = db_bytes_bound(db);
	assert_int_equal(db_checkpoint(db, false), 0); /* the WAL stays */
	assert_true(db_bytes(db) <= bound);
	db_close(db);
	fixture_done(&f);
}

static void test_a_damaged_page_that_is_read_does_not_stop_other_changes(void **state)
{
	struct object_row o;
	struct db_recovery rec;
	struct fixture f;
	struct stat st;
	struct db *db;
	char *target = NULL;
	size_t len;

	fixture_init(&f);
	db = fixture_create(&f);
	assert_int_equal(db_exec(db, "UPDATE object SET target = zeroblob(40000) WHERE id = 1"), 0);
	db_close(db);
	assert_int_equal(stat(fixture_path(&f, DB_FILE), &st), 0);
	fixture_flip(&f, DB_FILE, (size_t)st.st_size - 4096 + 100); /* a page of the long value */
	db = fixture_open(&f, NULL);
	put(db, 1);
	db_read(db);
	assert_int_equal(object_target(db, OBJECT_ROOT, &target, &len), CE_TAMPER);
	assert_int_equal(object_get(db, OBJECT_ROOT, &o), 0);
	db_unlock(db);
	put(db, 2);
	assert_int_equal(db_begin(db), 0);
	assert_int_equal(setting_set_u64(db, "n", 3), 0);
	assert_int_equal(object_delete(db, OBJECT_ROOT), CE_TAMPER);
	assert_true(db_commit(db) < 0); /* half of a change may be there */
	assert_int_equal(get(db), 2);
	put(db, 4);
	db_close(db);
	assert_int_equal(reopen(&f, &rec), 4);
	fixture_done(&f);
}

static bool has(const char *text, const char *word)
{
	char low[2048];
	size_t i = 0;

	for (; text[i] && i < sizeof(low) - 1; i++)
		low[i] = (char)tolower((unsigned char)text[i]);
	low[i] = 0;
	return strstr(low, word);
}

/* Rows made from a query get their ids in its order: it makes one, or the table has no ids. */
static bool order_matters(const char *text)
{
	return has(text, "select") && strncmp(text, "INSERT", 6) == 0 &&
	       !has(text, "into chunk(") && !has(text, "into undo_chunk(") &&
	       !has(text, "where id = ?1");
}

static void test_every_change_does_the_same_when_it_is_replayed(void **state)
{
	static const char *const no[] = { "random", "date(", "time(", "julian", "'now'", "current_",
		"limit", "changes(", "last_insert", "returning", "pragma", "attach" };
	struct fixture f;
	unsigned changes = 0;
	struct db *db;

	fixture_init(&f);
	db = fixture_create(&f);
	for (unsigned id = 0; id < STMT_COUNT; id++) {
		const char *text = stmt_sql(id);

		if (sqlite3_stmt_readonly(db->stmts[id].q))
			continue;
		changes++;
		assert_true(sqlite3_bind_parameter_count(db->stmts[id].q) <= REDO_VALUES_MAX);
		for (size_t i = 0; i < ARRAY_SIZE(no); i++)
			assert_false(has(text, no[i]));
		assert_false(order_matters(text));
	}
	assert_true(changes > 40);
	db_close(db);
	fixture_done(&f);
}

static int setup(void **state)
{
	fixture_log_bytes = 32 << 10;
	return secret_init(false);
}

/* Behind an authentic seal, but never written by us: it would keep what a refused record has done.
 */
static void test_a_record_does_not_end_the_transaction(void **state)
{
	static const uint8_t payload[] = { REDO_OP_TEXT, 1, 26, 'D', 'E', 'L', 'E', 'T', 'E', ' ',
		'F', 'R', 'O', 'M', ' ', 's', 'e', 't', 't', 'i', 'n', 'g', ' ', ' ', ' ', ' ', ' ',
		' ', ' ', REDO_OP_RUN, 1, 0, 2, 0, REDO_OP_TEXT, 2, 6, 'C', 'O', 'M', 'M', 'I', 'T',
		REDO_OP_RUN, 2, 0, 2, 0 };
	struct redo_run *x = calloc(1, sizeof(*x));
	struct fixture f;

	fixture_init(&f);
	f.options.log_bytes = 0; /* as in a replay: a transaction is one of SQLite's */
	x->db = fixture_create(&f);
	assert_int_equal(counter_commit(x->db, 7), 0);
	assert_int_equal(db_begin(x->db), 0);
	assert_int_equal(redo_run_payload(x, payload, sizeof(payload)), CE_CORRUPT);
	redo_run_done(x);
	db_rollback(x->db);
	assert_int_equal(counter_read(x->db), 7);
	db_close(x->db);
	free(x);
	fixture_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_log_torn_at_any_byte_gives_the_last_whole_transaction),
		cmocka_unit_test(test_a_log_cut_short_is_no_damage),
		cmocka_unit_test(test_a_flipped_bit_in_any_byte_ends_the_log_and_is_told),
		cmocka_unit_test(test_damage_is_set_aside_and_told_once),
		cmocka_unit_test(test_a_loss_is_told_until_it_is_settled),
		cmocka_unit_test(test_a_record_behind_blank_pages_is_seen),
		cmocka_unit_test(test_stale_records_never_follow_new_ones),
		cmocka_unit_test(test_an_older_log_put_back_is_not_replayed),
		cmocka_unit_test(test_killed_after_any_transaction_that_one_is_there),
		cmocka_unit_test(test_killed_again_and_again_nothing_is_lost),
		cmocka_unit_test(test_a_rollback_takes_back_its_own_changes_alone),
		cmocka_unit_test(test_what_only_reads_leaves_the_log_alone),
		cmocka_unit_test(test_a_long_record_is_there_after_a_kill),
		cmocka_unit_test(test_a_huge_transaction_is_there_after_a_kill),
		cmocka_unit_test(test_the_log_of_another_program_is_replayed),
		cmocka_unit_test(test_a_record_that_does_not_fit_is_set_aside),
		cmocka_unit_test(test_an_opening_without_a_log_keeps_what_is_in_it),
		cmocka_unit_test(test_an_index_from_before_the_log_is_brought_up),
		cmocka_unit_test(test_the_log_is_sealed_and_private),
		cmocka_unit_test(test_the_bound_covers_what_a_checkpoint_takes),
		cmocka_unit_test(test_a_damaged_page_that_is_read_does_not_stop_other_changes),
		cmocka_unit_test(test_every_change_does_the_same_when_it_is_replayed),
		cmocka_unit_test(test_a_record_does_not_end_the_transaction),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
