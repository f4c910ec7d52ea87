/* Goal: the log: nothing in clear, exact recovery from any cut or flip, damage in the middle
 * reported and kept. */
#include "meta_fixture.h"

#include <sqlite3.h>

#include "base/bytes.h"
#include "meta/db_priv.h"
#include "meta/page.h"
#include "meta/walscan.h"

#define FRAME_AT(i) (PAGE_WAL_HEADER_LEN + (size_t)(i)*PAGE_FRAME_LEN)

static struct page_keys keys_of(struct fixture *f)
{
	struct page_keys k = { 0 };

	assert_int_equal(page_keys_init(&k, f->key), 0);
	return k;
}

/* The counter after each frame's commit: counters[i] when i frames are whole. */
struct history {
	struct image image;
	uint64_t counters[64]; /* by number of whole frames */
	size_t frames;
};

/* A log of three to six commits, as SIGKILL leaves it. `synced`: each was followed by db_sync. */
static void make_history(struct fixture *f, struct history *h, bool synced)
{
	struct db *db;
	uint64_t n;

	fixture_init(f);
	memset(h, 0, sizeof(*h));
	db = fixture_create(f);
	for (n = 1; n <= 5; n++) {
		size_t before = h->frames;

		assert_int_equal(counter_commit(db, n), 0);
		if (synced)
			assert_int_equal(db_sync(db), 0);
		h->frames = (db_wal_bytes(db) - PAGE_WAL_HEADER_LEN) / PAGE_FRAME_LEN;
		assert_true(h->frames > before && h->frames < 63);
		for (size_t i = before; i < h->frames; i++)
			h->counters[i] = n - 1;
	}
	h->counters[h->frames] = n - 1;
	h->image = fixture_image(f);
	db_close(db);
}

static void history_done(struct fixture *f, struct history *h)
{
	image_done(&h->image);
	fixture_done(f);
}

static void assert_recovers(struct fixture *f, uint64_t want, struct db_recovery *rec)
{
	struct db *db = fixture_open(f, rec);

	assert_int_equal(counter_read(db), want);
	db_close(db);
}

/* What SQLite itself makes of the log, without schema and statements: 24,000 openings must be
 * affordable. */
static int64_t raw_counter(struct fixture *f)
{
	struct vfs_options o = { .key = f->key };
	int64_t n = -2;
	struct vfs *v;
	sqlite3 *h;
	sqlite3_stmt *q = NULL;

	assert_int_equal(vfs_new(&o, &v), 0);
	(void)!sqlite3_open_v2(fixture_path(f, DB_FILE), &h, SQLITE_OPEN_READWRITE, vfs_name(v));
	sqlite3_db_config(h, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	if (sqlite3_prepare_v2(h, "SELECT value FROM setting WHERE key = 'counter'", -1, &q,
		    NULL) == SQLITE_OK) {
		int rc = sqlite3_step(q);

		n = rc == SQLITE_ROW    ? (int64_t)load_le64(sqlite3_column_blob(q, 0))
		    : rc == SQLITE_DONE ? 0
					: -3;
	}
	sqlite3_finalize(q);
	assert_int_equal(sqlite3_close(h), SQLITE_OK);
	vfs_free(v);
	return n;
}

static struct walscan scan(struct fixture *f, struct page_keys *k)
{
	int fd = open(fixture_path(f, DB_WAL_FILE), O_RDONLY);
	struct walscan s;

	assert_int_equal(walscan_run(fd, k, &s), 0);
	close(fd);
	return s;
}

static void test_log_cut_at_every_byte_of_the_last_frames_gives_the_last_whole_commit(void **state)
{
	struct history h;
	struct fixture f;
	struct page_keys k;

	make_history(&f, &h, true);
	k = keys_of(&f);
	fixture_restore(&f, &h.image);
	for (size_t cut = h.image.wal.len; cut >= FRAME_AT(h.frames - 3); cut--) {
		uint64_t want = h.counters[(cut - PAGE_WAL_HEADER_LEN) / PAGE_FRAME_LEN];

		assert_int_equal(truncate(fixture_path(&f, DB_WAL_FILE), (off_t)cut), 0);
		assert_int_equal(raw_counter(&f), want);
		assert_false(scan(&f, &k).damaged);
	}
	for (size_t cut = h.image.wal.len; cut >= FRAME_AT(h.frames - 3); cut -= 256) {
		struct db_recovery rec;

		h.image.wal.len = cut;
		fixture_restore(&f, &h.image);
		assert_recovers(&f, h.counters[(cut - PAGE_WAL_HEADER_LEN) / PAGE_FRAME_LEN], &rec);
		assert_false(rec.wal_damaged);
	}
	page_keys_done(&k);
	history_done(&f, &h);
}

static void test_log_flipped_in_every_byte_of_the_last_frames_gives_the_commit_before(void **state)
{
	struct history h;
	struct fixture f;
	struct page_keys k;

	make_history(&f, &h, false);
	k = keys_of(&f);
	fixture_restore(&f, &h.image);
	for (size_t at = FRAME_AT(h.frames - 3); at < h.image.wal.len; at++) {
		uint64_t want = h.counters[(at - PAGE_WAL_HEADER_LEN) / PAGE_FRAME_LEN];
		struct walscan s;

		fixture_flip(&f, DB_WAL_FILE, at);
		assert_int_equal(raw_counter(&f), want);
		s = scan(&f, &k);
		assert_int_equal(h.counters[s.committed], want);
		/* Told whenever a commit behind it is lost. */
		assert_int_equal(
			s.damaged, (at - PAGE_WAL_HEADER_LEN) / PAGE_FRAME_LEN + 1 < h.frames);
		assert_false(s.durable_lost);
		fixture_flip(&f, DB_WAL_FILE, at);
	}
	page_keys_done(&k);
	history_done(&f, &h);
}

static void test_garbage_behind_the_last_commit_is_no_damage(void **state)
{
	struct history h;
	struct fixture f;
	struct db_recovery rec;
	uint8_t *more;

	make_history(&f, &h, true);
	more = calloc(1, h.image.wal.len + 3 * PAGE_FRAME_LEN);
	memcpy(more, h.image.wal.data, h.image.wal.len);
	secret_random(more + h.image.wal.len, 512);
	fixture_restore(&f, &h.image);
	fixture_write(&f, DB_WAL_FILE, more, h.image.wal.len + 3 * PAGE_FRAME_LEN);
	assert_recovers(&f, 5, &rec);
	assert_false(rec.wal_damaged);
	free(more);
	history_done(&f, &h);
}

static void test_damage_in_the_middle_is_reported_and_kept(void **state)
{
	struct history h;
	struct fixture f;
	struct db_recovery rec;
	struct bytes kept;
	char name[300];

	make_history(&f, &h, true);
	for (size_t frame = 0; frame + 1 < h.frames; frame++) {
		fixture_restore(&f, &h.image);
		fixture_flip(&f, DB_WAL_FILE, FRAME_AT(frame) + 3000);
		assert_recovers(&f, h.counters[frame], &rec);
		assert_true(rec.wal_damaged);
		assert_true(rec.durable_lost || h.counters[h.frames - 1] == h.counters[frame]);
		snprintf(name, sizeof(name), "%s/%s", rec.quarantine, DB_WAL_FILE);
		kept = fixture_read(&f, name);
		assert_int_equal(kept.len, h.image.wal.len);
		kept.data[FRAME_AT(frame) + 3000] ^= 0x10;
		assert_memory_equal(kept.data, h.image.wal.data, kept.len);
		free(kept.data);
		snprintf(name, sizeof(name), "%s/%s", rec.quarantine, DB_FILE);
		kept = fixture_read(&f, name);
		assert_int_equal(kept.len, h.image.main.len);
		free(kept.data);
		/* Once: what was written after it is not taken for damage. */
		assert_recovers(&f, h.counters[frame], &rec);
		assert_false(rec.wal_damaged);
	}
	history_done(&f, &h);
}

static void test_damage_among_unsynced_commits_is_not_called_loss_of_durable_ones(void **state)
{
	struct history h;
	struct fixture f;
	struct db_recovery rec;

	make_history(&f, &h, false);
	fixture_restore(&f, &h.image);
	fixture_flip(&f, DB_WAL_FILE, FRAME_AT(0) + 100);
	assert_recovers(&f, 0, &rec);
	assert_true(rec.wal_damaged);
	assert_false(rec.durable_lost);
	history_done(&f, &h);
}

static void test_flipped_header_of_the_log_is_reported_and_kept(void **state)
{
	struct history h;
	struct fixture f;
	struct db_recovery rec;

	make_history(&f, &h, true);
	for (size_t at = 0; at < PAGE_WAL_HEADER_LEN; at++) {
		fixture_restore(&f, &h.image);
		fixture_flip(&f, DB_WAL_FILE, at);
		assert_recovers(&f, 0, &rec);
		assert_true(rec.wal_damaged);
		assert_true(rec.durable_lost);
		assert_true(rec.quarantine[0]);
	}
	history_done(&f, &h);
}

static void test_moved_replayed_and_forged_frames_end_the_log(void **state)
{
	uint8_t frame[PAGE_FRAME_LEN];
	struct history h;
	struct fixture f;

	make_history(&f, &h, false);
	fixture_restore(&f, &h.image);
	assert_true(h.frames >= 4);
	/* frame 1 put where frame 2 was */
	memcpy(frame, h.image.wal.data + FRAME_AT(2), PAGE_FRAME_LEN);
	memcpy(h.image.wal.data + FRAME_AT(2), h.image.wal.data + FRAME_AT(1), PAGE_FRAME_LEN);
	fixture_restore(&f, &h.image);
	assert_int_equal(raw_counter(&f), h.counters[2]);
	memcpy(h.image.wal.data + FRAME_AT(2), frame, PAGE_FRAME_LEN);
	/* a commit mark taken off, and one put on */
	for (size_t i = 0; i < h.frames; i++) {
		uint8_t *mark = h.image.wal.data + FRAME_AT(i) + 7;

		*mark ^= 0x11;
		fixture_restore(&f, &h.image);
		assert_int_equal(raw_counter(&f), h.counters[i]);
		*mark ^= 0x11;
	}
	history_done(&f, &h);
}

static void test_frames_of_an_older_log_are_not_taken(void **state)
{
	struct image old, now;
	struct fixture f;
	struct db *db;
	uint8_t salts[8];

	fixture_init(&f);
	db = fixture_create(&f);
	for (uint64_t n = 1; n <= 3; n++)
		assert_int_equal(counter_commit(db, n), 0);
	old = fixture_image(&f);
	assert_int_equal(db_checkpoint(db, true), 0);
	assert_int_equal(counter_commit(db, 4), 0);
	now = fixture_image(&f);
	db_close(db);
	/* Frames of the old log behind the new one's, their salts made the new ones'. */
	memcpy(salts, now.wal.data + PAGE_WAL_SALT_OFFSET, 8);
	assert_true(now.wal.len < old.wal.len);
	memcpy(old.wal.data, now.wal.data, now.wal.len);
	for (size_t at = now.wal.len; at + PAGE_FRAME_LEN <= old.wal.len; at += PAGE_FRAME_LEN)
		memcpy(old.wal.data + at + PAGE_FRAME_SALT_OFFSET, salts, 8);
	fixture_write(&f, DB_FILE, now.main.data, now.main.len);
	fixture_write(&f, DB_WAL_FILE, old.wal.data, old.wal.len);
	assert_recovers(&f, 4, NULL);
	image_done(&old);
	image_done(&now);
	fixture_done(&f);
}

static void test_torn_tail_is_cut_so_that_stale_commits_never_follow_new_ones(void **state)
{
	struct history h;
	struct fixture f;
	struct db_recovery rec;
	struct image killed;
	struct db *db;

	make_history(&f, &h, false);
	fixture_restore(&f, &h.image);
	fixture_flip(&f, DB_WAL_FILE, FRAME_AT(1) + 500);
	db = fixture_open(&f, &rec);
	assert_true(rec.wal_damaged);
	assert_int_equal(counter_commit(db, 77), 0);
	killed = fixture_image(&f);
	db_close(db);
	fixture_restore(&f, &killed);
	assert_recovers(&f, 77, &rec);
	assert_false(rec.wal_damaged);
	image_done(&killed);
	history_done(&f, &h);
}

/* Any number of changes anywhere in the log, of any kind. */
static void mutate(struct image *i, const struct image *origin)
{
	memcpy(i->wal.data, origin->wal.data, origin->wal.len);
	i->wal.len = origin->wal.len;
	for (int n = rand() % 4; n >= 0; n--) {
		size_t at = (size_t)rand() % i->wal.len, to = (size_t)rand() % i->wal.len;
		size_t want = (size_t)1 << rand() % 13;
		size_t len = MIN_OF(want, i->wal.len - MAX_OF(at, to));

		switch (rand() % 5) {
		case 0:
			i->wal.data[at] ^= (uint8_t)(1 + rand() % 255);
			break;
		case 1:
			memmove(i->wal.data + to, i->wal.data + at, len);
			break;
		case 2:
			memset(i->wal.data + at, rand() % 2 ? 0 : 0xff, len);
			break;
		case 3:
			secret_random(i->wal.data + at, len);
			break;
		default:
			i->wal.len = MAX_OF(at, 1U);
			break;
		}
	}
}

static void test_whatever_is_done_to_the_log_a_whole_commit_comes_back(void **state)
{
	unsigned rounds = fixture_times("CACHET_TEST_MUTATIONS", 300);
	struct image i;
	struct history h;
	struct fixture f;

	make_history(&f, &h, true);
	srand(fixture_times("CACHET_TEST_SEED", 1));
	i = (struct image){ .main = h.image.main, .wal = { malloc(h.image.wal.len), 0 } };
	for (unsigned n = 0; n < rounds; n++) {
		struct db_recovery rec;
		int64_t there;
		struct db *db;

		mutate(&i, &h.image);
		fixture_restore(&f, &i);
		db = fixture_open(&f, &rec);
		there = counter_read(db);
		assert_true(there >= 0 && there <= 5);
		assert_true(!rec.wal_damaged == !rec.quarantine[0]);
		db_read(db);
		assert_int_equal(db_integrity_check(db), 0);
		db_unlock(db);
		db_close(db);
	}
	free(i.wal.data);
	history_done(&f, &h);
}

static void assert_absent(const struct bytes *b, const char *text)
{
	assert_null(memmem(b->data, b->len, text, strlen(text)));
}

static void test_texts_of_rows_are_in_no_file_while_the_log_is_live(void **state)
{
	static const char *const texts[] = { "CANARY-in-a-row", "SQLite format", "CREATE TABLE",
		"canary-key" };
	struct fixture f;
	struct image i;
	struct db *db;
	char big[9000];

	fixture_init(&f);
	for (size_t n = 0; n + 16 < sizeof(big); n += 15)
		memcpy(big + n, texts[0], 15);
	db = fixture_create(&f);
	for (int round = 0; round < 3; round++) {
		for (size_t n = 500; n < sizeof(big);
			n += 1000) /* SQLite does not write what is unchanged */
			big[n] = (char)('a' + round);
		assert_int_equal(db_begin(db), 0);
		assert_int_equal(setting_set(db, "canary-key", big, sizeof(big)), 0);
		assert_int_equal(db_commit(db), 0);
		i = fixture_image(&f);
		assert_true(i.wal.len > 9000);
		for (size_t t = 0; t < ARRAY_SIZE(texts); t++) {
			assert_absent(&i.main, texts[t]);
			assert_absent(&i.wal, texts[t]);
		}
		image_done(&i);
		assert_int_equal(db_checkpoint(db, round == 1), 0);
	}
	i = fixture_image(&f);
	for (size_t t = 0; t < ARRAY_SIZE(texts); t++)
		assert_absent(&i.main, texts[t]);
	image_done(&i);
	db_close(db);
	fixture_done(&f);
}

/* The attack of the trial: a four-digit number in a known row, guessed from the frame's checksum.
 */
static void test_frame_header_does_not_confirm_a_guess_of_the_page(void **state)
{
	uint8_t plain[PAGE_FRAME_LEN], *sealed, *place;
	unsigned hits_on_disk = 0, hits_on_plain = 0;
	struct fixture f;
	struct page_keys k;
	struct image i;
	struct db *db;

	fixture_init(&f);
	k = keys_of(&f);
	db = fixture_create(&f);
	assert_int_equal(db_begin(db), 0);
	assert_int_equal(setting_set(db, "pin", "PIN=4217", 8), 0);
	assert_int_equal(db_commit(db), 0);
	i = fixture_image(&f);
	db_close(db);
	sealed = i.wal.data + FRAME_AT(0);
	assert_int_equal(page_frame_open(&k, FRAME_AT(0), sealed, plain), 0);
	place = memmem(plain, sizeof(plain), "PIN=4217", 8);
	assert_non_null(place);
	for (int pin = 0; pin < 10000; pin++) {
		uint32_t sum[2] = { page_load_be32(i.wal.data + 24),
			page_load_be32(i.wal.data + 28) };
		char text[16];

		snprintf(text, sizeof(text), "%04d", pin);
		memcpy(place + 4, text, 4);
		page_checksum(false, plain, 8, sum);
		page_checksum(false, plain + PAGE_FRAME_HEADER_LEN, PAGE_SIZE_BYTES, sum);
		hits_on_disk += page_load_be32(sealed + 16) == sum[0] ||
				page_load_be32(sealed + 20) == sum[1];
		hits_on_plain += page_load_be32(plain + 16) == sum[0] &&
				 page_load_be32(plain + 20) == sum[1];
	}
	assert_int_equal(hits_on_disk, 0);
	assert_int_equal(hits_on_plain, 1); /* the attack works where the checksum is in clear */
	page_keys_done(&k);
	image_done(&i);
	fixture_done(&f);
}

static void test_no_plaintext_checksum_is_anywhere_in_the_log(void **state)
{
	uint8_t plain[PAGE_FRAME_LEN];
	struct history h;
	struct fixture f;
	struct page_keys k;

	make_history(&f, &h, true);
	k = keys_of(&f);
	for (size_t n = 0; n < h.frames; n++) {
		assert_int_equal(
			page_frame_open(&k, FRAME_AT(n), h.image.wal.data + FRAME_AT(n), plain), 0);
		assert_null(memmem(h.image.wal.data + PAGE_WAL_HEADER_LEN,
			h.image.wal.len - PAGE_WAL_HEADER_LEN, plain + 16, 8));
	}
	page_keys_done(&k);
	history_done(&f, &h);
}

/* A transaction larger than the page cache: frames replaced in place, checksums renewed at its end.
 */
static void spill(struct db *db, uint64_t n)
{
	char key[16], value[1500];

	assert_int_equal(db_begin(db), 0);
	for (int pass = 0; pass < 3; pass++)
		for (int row = 0; row < 120; row++) {
			snprintf(key, sizeof(key), "row-%d", row);
			memset(value, 'A' + (int)((n + (uint64_t)row + (uint64_t)pass) % 26),
				sizeof(value));
			assert_int_equal(setting_set(db, key, value, sizeof(value)), 0);
		}
	assert_int_equal(setting_set_u64(db, "spilled", n), 0);
}

static void assert_spilled(struct db *db, uint64_t n)
{
	char key[16], value[1500];
	uint64_t got = 0;
	size_t len;

	db_read(db);
	assert_int_equal(db_integrity_check(db), 0);
	assert_int_equal(setting_get_u64(db, "spilled", &got), 0);
	assert_int_equal(got, n);
	for (int row = 0; row < 120; row++) {
		snprintf(key, sizeof(key), "row-%d", row);
		assert_int_equal(setting_get(db, key, value, sizeof(value), &len), 0);
		for (size_t i = 0; i < len; i++)
			assert_int_equal(value[i], 'A' + (int)((n + (uint64_t)row + 2) % 26));
	}
	db_unlock(db);
}

static void test_transactions_larger_than_the_page_cache_commit_and_recover(void **state)
{
	struct fixture f;
	struct image i;
	struct db *db;

	fixture_init(&f);
	db = fixture_create(&f);
	assert_int_equal(db_exec(db, "PRAGMA cache_size = 10"), 0);
	for (uint64_t n = 1; n <= 4; n++) {
		spill(db, n);
		assert_int_equal(db_commit(db), 0);
		assert_spilled(db, n);
	}
	i = fixture_image(&f);
	db_close(db);
	fixture_restore(&f, &i);
	db = fixture_open(&f, NULL);
	assert_spilled(db, 4);
	db_close(db);
	image_done(&i);
	fixture_done(&f);
}

static void test_spilled_transaction_rolled_back_leaves_no_false_alarm(void **state)
{
	struct fixture f;
	struct image i;
	struct db *db;
	struct db_recovery rec;
	size_t frames;

	fixture_init(&f);
	db = fixture_create(&f);
	assert_int_equal(db_exec(db, "PRAGMA cache_size = 10"), 0);
	spill(db, 1);
	assert_int_equal(db_commit(db), 0);
	frames = (db_wal_bytes(db) - PAGE_WAL_HEADER_LEN) / PAGE_FRAME_LEN;
	spill(db, 2);
	db_rollback(db);
	assert_true(db_wal_bytes(db) > FRAME_AT(frames + 3));
	assert_int_equal(counter_commit(db, 9), 0); /* over the first of the frames left behind */
	assert_spilled(db, 1);
	i = fixture_image(&f);
	db_close(db);
	fixture_restore(&f, &i);
	db = fixture_open(&f, &rec);
	assert_false(rec.wal_damaged);
	assert_int_equal(counter_read(db), 9);
	assert_spilled(db, 1);
	db_close(db);
	/* The same with the new commit torn: what was rolled back is not mistaken for lost commits.
	 */
	fixture_restore(&f, &i);
	fixture_flip(&f, DB_WAL_FILE, FRAME_AT(frames) + 1000);
	db = fixture_open(&f, &rec);
	assert_int_equal(counter_read(db), 0);
	assert_spilled(db, 1);
	db_close(db);
	image_done(&i);
	fixture_done(&f);
}

static void test_damaged_frame_in_use_is_an_error_not_data(void **state)
{
	struct fixture f;
	struct db *db;

	fixture_init(&f);
	db = fixture_create(&f);
	assert_int_equal(counter_commit(db, 3), 0);
	for (size_t at = FRAME_AT(0) + 40; at < db_wal_bytes(db); at += PAGE_FRAME_LEN)
		fixture_flip(&f, DB_WAL_FILE, at);
	/* SQLite forgets its pages, so that the next read goes to the log. */
	assert_int_equal(sqlite3_db_release_memory(db->handle), SQLITE_OK);
	assert_int_equal(counter_read(db), -1);
	assert_int_equal(db_checkpoint(db, true), CE_TAMPER);
	db_close(db);
	fixture_done(&f);
}

static void test_ranges_of_a_frame_are_served_as_sqlite_wrote_them(void **state)
{
	uint8_t whole[PAGE_FRAME_LEN], part[64];
	struct fixture f;
	sqlite3_file *file = NULL;
	struct db *db;

	fixture_init(&f);
	db = fixture_create(&f);
	assert_int_equal(counter_commit(db, 3), 0);
	assert_int_equal(counter_commit(db, 4), 0);
	assert_int_equal(
		sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file),
		SQLITE_OK);
	assert_int_equal(
		file->pMethods->xRead(file, whole, PAGE_FRAME_LEN, FRAME_AT(1)), SQLITE_OK);
	assert_int_equal(file->pMethods->xRead(file, part, 8, FRAME_AT(1) + 16), SQLITE_OK);
	assert_memory_equal(part, whole + 16, 8);
	assert_int_equal(file->pMethods->xRead(file, part, 64, FRAME_AT(1) + 777), SQLITE_OK);
	assert_memory_equal(part, whole + 777, 64);
	assert_int_not_equal(
		file->pMethods->xRead(file, part, 64, FRAME_AT(1) + PAGE_FRAME_LEN - 8), SQLITE_OK);
	assert_int_not_equal(file->pMethods->xWrite(file, part, 64, FRAME_AT(1)), SQLITE_OK);
	db_close(db);
	fixture_done(&f);
}

static int setup(void **state)
{
	return secret_init(false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			test_log_cut_at_every_byte_of_the_last_frames_gives_the_last_whole_commit),
		cmocka_unit_test(
			test_log_flipped_in_every_byte_of_the_last_frames_gives_the_commit_before),
		cmocka_unit_test(test_garbage_behind_the_last_commit_is_no_damage),
		cmocka_unit_test(test_damage_in_the_middle_is_reported_and_kept),
		cmocka_unit_test(
			test_damage_among_unsynced_commits_is_not_called_loss_of_durable_ones),
		cmocka_unit_test(test_flipped_header_of_the_log_is_reported_and_kept),
		cmocka_unit_test(test_moved_replayed_and_forged_frames_end_the_log),
		cmocka_unit_test(test_frames_of_an_older_log_are_not_taken),
		cmocka_unit_test(test_torn_tail_is_cut_so_that_stale_commits_never_follow_new_ones),
		cmocka_unit_test(test_whatever_is_done_to_the_log_a_whole_commit_comes_back),
		cmocka_unit_test(test_texts_of_rows_are_in_no_file_while_the_log_is_live),
		cmocka_unit_test(test_frame_header_does_not_confirm_a_guess_of_the_page),
		cmocka_unit_test(test_no_plaintext_checksum_is_anywhere_in_the_log),
		cmocka_unit_test(test_transactions_larger_than_the_page_cache_commit_and_recover),
		cmocka_unit_test(test_spilled_transaction_rolled_back_leaves_no_false_alarm),
		cmocka_unit_test(test_damaged_frame_in_use_is_an_error_not_data),
		cmocka_unit_test(test_ranges_of_a_frame_are_served_as_sqlite_wrote_them),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
