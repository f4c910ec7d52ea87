/* Goal: rekey (cache/rekey.h). When it is over nothing on the disk opens with an old key and all
 * content is what it was, whatever was written, read, shared, damaged or cut short meanwhile. */
#include "content_fixture.h"

#include <pthread.h>

#include "cache/rekey.h"
#include "cache/unsent_log.h"
#include "crypto/kdf.h"
#include "crypto/keysource.h"
#include "meta/page.h"

#define CHUNK 65536u
#define PIECE (UINT32_C(1) << BLOB_SHIFT_LARGE) /* a chunk of a large file */
#define LARGE (40 * CHUNK + 5000)
#define SMALL 3000u
#define WAIT_MS 60000

struct rekeyed {
	struct content_fixture f;
	uint64_t large, small;
	struct secret *old_cek, *old_index;
};

static void init(struct rekeyed *t)
{
	memset(t, 0, sizeof(*t));
	cf_init(&t->f);
	t->large = cf_make(&t->f, LARGE, 1);
	t->small = cf_make(&t->f, SMALL, 2);
	ok(keyring_get(t->f.v->keyring, KEYRING_PURPOSE_CEK, CF_STORE_REF, &t->old_cek));
	ok(keyring_get(t->f.v->keyring, KEYRING_PURPOSE_INDEX, "", &t->old_index));
}

static void done(struct rekeyed *t)
{
	secret_free(t->old_cek);
	secret_free(t->old_index);
	cf_done(&t->f);
}

static void start(struct volume *v)
{
	char *error = NULL;
	int r = rekey_start(v, false, &error);

	if (r)
		print_error("rekey_start: %s %s\n", error_text(r), error ? error : "");
	ok(r);
}

static void finish(struct volume *v)
{
	struct rekey_status s;

	rekey_wait(v, WAIT_MS);
	rekey_status(v, &s);
	if (s.active)
		print_error("not finished: %s, damaged %llu\n", error_text(s.code),
			(unsigned long long)s.damaged);
	assert_false(s.active);
}

/* --- what the old keys still open --- */

struct look {
	struct rekeyed *t;
	struct content_blob blob;
	struct blob *b;
	size_t chunks, opened;
};

static int try_chunk(void *arg, const struct content_chunk *c)
{
	struct look *l = arg;
	uint8_t epoch[8] = { 1 }, key[32], buf[CHUNK], out[CHUNK];
	const struct kdf_field fields[] = { { l->blob.uuid, 16 }, { epoch, 8 } };
	uint8_t aad[77], *p = aad, nonce[CONTENT_NONCE_MAX];
	size_t at = 0, opened = 0;
	char path[300], name[BLOB_NAME_LEN];
	int fd;

	blob_path(l->blob.uuid, name);
	snprintf(path, sizeof(path), "%s/blobs/%s", l->t->f.dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, buf, c->len, (off_t)(c->slot << 12)), c->len);
	close(fd);
	ok(kdf_blake2b(secret_cbytes(l->t->old_cek), KDF_LABEL_BLOB, fields, 2, key));
	memcpy(p, c->n_tags > 1 ? "cachet/block/v1" : "cachet/chunk/v1", 15);
	memcpy(p + 15, l->b->store_ref, 16);
	memcpy(p + 31, l->blob.uuid, 16);
	memcpy(p + 47, epoch, 8);
	for (int i = 0; i < 8; i++) {
		p[55 + i] = (uint8_t)(c->idx >> 8 * i);
		p[63 + i] = (uint8_t)(c->seq >> 8 * i);
	}
	for (int i = 0; i < 4; i++)
		p[71 + i] = (uint8_t)(c->len >> 8 * i);
	p[75] = (uint8_t)l->blob.alg;
	memcpy(nonce, c->nonce, sizeof(nonce));
	for (unsigned i = 0; i < c->n_tags; i++, at += BLOB_BLOCK) {
		p[76] = (uint8_t)i;
		nonce[aead_nonce_len(l->blob.alg) - 1] = (uint8_t)(c->nonce[aead_nonce_len(l->blob.alg) - 1] | i);
		opened += !aead_open(l->blob.alg, key, nonce, aad, c->n_tags > 1 ? 77 : 76,
			buf + at, c->n_tags > 1 ? MIN_OF(BLOB_BLOCK, c->len - at) : c->len,
			c->tags[i], out);
	}
	l->chunks++;
	l->opened += opened > 0;
	return 0;
}

/* Of all chunks, how many open with the CEK of before. */
static size_t opened_by_old_cek(struct rekeyed *t, size_t *chunks)
{
	struct volume *v = t->f.v;
	uint64_t ids[64];
	struct look l = { .t = t };
	int n;

	db_read(v->db);
	n = content_map_after_any(v->db, 0, ids, 64);
	assert_in_range(n, 1, 63);
	for (int i = 0; i < n; i++) {
		struct content_map m;

		ok(content_map_get(v->db, ids[i], &m));
		ok(content_blob_get(v->db, m.blob, &l.blob));
		ok(blob_get(v, m.blob, &l.b));
		ok(content_chunk_each(v->db, ids[i], 0, try_chunk, &l));
		blob_unref(l.b);
	}
	db_unlock(v->db);
	*chunks = l.chunks;
	return l.opened;
}

static int any_frame(void *arg, uint64_t seq, const uint8_t *data, size_t len)
{
	return 0;
}

/* The files of the index; the volume is closed. */
static bool old_key_opens_index(struct rekeyed *t)
{
	struct page_keys keys = { 0 };
	uint8_t page[PAGE_SIZE_BYTES];
	_cleanup_secret_ struct secret *unsent = NULL;
	char path[200];
	bool opens = false, damaged;
	off_t at = 0;
	int fd, dirfd = open(t->f.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	snprintf(path, sizeof(path), "%s/index.db", t->f.dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0 && dirfd >= 0);
	ok(page_keys_init(&keys, t->old_index));
	for (; pread(fd, page, sizeof(page), at) == sizeof(page); at += (off_t)sizeof(page))
		opens = opens ||
			!page_open(&keys, (uint32_t)(at / (off_t)sizeof(page)) + 1, page, page);
	assert_true(at > 0);
	page_keys_done(&keys);
	close(fd);
	ok(secret_new(32, &unsent));
	ok(kdf_blake2b(
		secret_cbytes(t->old_index), KDF_LABEL_UNSENT, NULL, 0, secret_bytes(unsent)));
	opens = opens || unsent_log_read(dirfd, unsent, NULL, any_frame, NULL, &damaged) != CE_TAMPER;
	close(dirfd);
	return opens;
}

static size_t keyring_entries(struct volume *v, size_t *old)
{
	struct keyring_entry_info e;
	size_t n = 0;

	*old = 0;
	for (; !keyring_entry(v->keyring, n, &e); n++)
		*old += e.old;
	return n;
}

/* --- tests --- */

static void test_the_old_keys_open_nothing_afterwards(void **state)
{
	struct rekeyed t;
	size_t chunks, old;

	init(&t);
	assert_int_equal(
		opened_by_old_cek(&t, &chunks), LARGE / PIECE + 2); /* the check can tell */
	start(t.f.v);
	finish(t.f.v);
	assert_int_equal(opened_by_old_cek(&t, &chunks), 0);
	assert_int_equal(chunks, LARGE / PIECE + 2);
	assert_int_equal(keyring_entries(t.f.v, &old), 2);
	assert_int_equal(old, 0);
	cf_close(&t.f);
	assert_false(old_key_opens_index(&t));
	cf_open(&t.f);
	assert_true(cf_is(&t.f, t.large, LARGE, 1));
	assert_true(cf_is(&t.f, t.small, SMALL, 2));
	done(&t);
}

static void test_before_a_rekey_the_key_of_the_check_opens_the_index(void **state)
{
	struct rekeyed t;

	init(&t);
	cf_close(&t.f);
	assert_true(old_key_opens_index(&t));
	done(&t);
}

static void test_size_times_and_journal_stay(void **state)
{
	struct object_row before, after;
	uint64_t seq_before, seq_after;
	struct rekeyed t;

	init(&t);
	before = cf_row(&t.f, t.large);
	ok(volume_last_seq(t.f.v, &seq_before));
	start(t.f.v);
	finish(t.f.v);
	after = cf_row(&t.f, t.large);
	ok(volume_last_seq(t.f.v, &seq_after));
	assert_int_equal(before.mtime_ns, after.mtime_ns);
	assert_int_equal(before.ctime_ns, after.ctime_ns);
	assert_int_equal(before.size, after.size);
	assert_int_equal(before.version, after.version);
	assert_int_equal(seq_before, seq_after);
	done(&t);
}

static void test_clean_content_stays_clean(void **state)
{
	struct content_map m;
	struct rekeyed t;
	struct file *file;
	uint64_t object, map;
	uint8_t *buf = malloc(LARGE);
	size_t got = 0;

	init(&t);
	object = cf_remote(&t.f, LARGE, "\"e1\"");
	file = cf_file(&t.f, object);
	cf_pattern(buf, 10 * CHUNK, 0, 9);
	ok(file_fill(file, "\"e1\"", buf, 10 * CHUNK, 0)); /* partly here */
	file_unref(file, true);
	start(t.f.v);
	finish(t.f.v);
	map = cf_row(&t.f, object).map;
	db_read(t.f.v->db);
	ok(content_map_get(t.f.v->db, map, &m));
	db_unlock(t.f.v->db);
	assert_string_equal(m.etag.text, "\"e1\"");
	assert_false(m.whole);
	file = cf_file(&t.f, object);
	assert_true(cf_holds(file, 10 * CHUNK, 0, 9));
	assert_int_equal(file_read(file, buf, CHUNK, 10 * CHUNK, &got), CE_ABSENT);
	file_unref(file, true);
	free(buf);
	done(&t);
}

static void test_it_is_no_use_that_keeps_content_from_being_evicted(void **state)
{
	struct content_map m;
	struct rekeyed t;
	uint64_t map;

	init(&t);
	map = cf_row(&t.f, t.large).map;
	cf_reopen(&t.f);
	ok(db_begin(t.f.v->db));
	ok(content_map_get(t.f.v->db, map, &m));
	m.used_s = 1000;
	ok(content_map_update(t.f.v->db, &m));
	ok(db_commit(t.f.v->db));
	start(t.f.v);
	finish(t.f.v);
	cf_reopen(&t.f); /* times of use are written by then */
	db_read(t.f.v->db);
	ok(content_map_get(t.f.v->db, map, &m));
	db_unlock(t.f.v->db);
	assert_int_equal(m.used_s, 1000);
	done(&t);
}

static void test_a_snapshot_that_shares_slots_is_sealed_anew_too(void **state)
{
	struct file *snapshot;
	struct rekeyed t;
	uint64_t map;
	size_t chunks;

	init(&t);
	ok(db_begin(t.f.v->db));
	{
		struct object_row o;

		ok(object_get(t.f.v->db, t.large, &o));
		ok(content_map_clone(t.f.v->db, o.map, CONTENT_MAP_SNAPSHOT, &map));
	}
	ok(db_commit(t.f.v->db));
	start(t.f.v);
	finish(t.f.v);
	assert_int_equal(opened_by_old_cek(&t, &chunks), 0);
	assert_true(chunks > 2u * LARGE / PIECE);
	ok(file_open_map(t.f.v, map, &snapshot));
	assert_true(cf_holds(snapshot, LARGE, 0, 1));
	file_unref(snapshot, false);
	assert_true(cf_is(&t.f, t.large, LARGE, 1));
	done(&t);
}

static void test_chunks_sealed_before_and_committed_after_hold_the_old_keys(void **state)
{
	struct rekey_status s;
	struct file *file;
	struct rekeyed t;
	size_t chunks;

	init(&t);
	file = cf_file(&t.f, t.large);
	cf_write(file, CHUNK, 0, 77);
	file_lock(file);
	ok(file_commit_prepare(file)); /* sealed, as under memory pressure */
	start(t.f.v);
	rekey_wait(t.f.v, 300);
	rekey_status(t.f.v, &s);
	assert_true(s.active);
	file_unlock(file);
	ok(file_commit(file));
	finish(t.f.v);
	assert_int_equal(opened_by_old_cek(&t, &chunks), 0);
	assert_true(cf_holds(file, CHUNK, 0, 77));
	file_unref(file, true);
	done(&t);
}

struct worker {
	struct rekeyed *t;
	atomic_bool stop;
	uint32_t seed;
	pthread_t thread;
};

static void *write_and_read(void *arg)
{
	struct worker *w = arg;
	struct file *file;

	w->seed = 1000;
	if (file_open(w->t->f.v, w->t->large, 0, true, &file))
		return "open";
	while (!atomic_load(&w->stop)) {
		uint64_t at = w->seed % 40 * CHUNK;
		uint8_t buf[5000], back[5000];
		size_t got = 0;

		cf_pattern(buf, sizeof(buf), at, ++w->seed);
		if (file_write(file, buf, sizeof(buf), at) || file_commit(file) ||
			(w->seed % 16 == 0 && file_sync(file)))
			return "write";
		if (file_read(file, back, sizeof(back), at, &got) || memcmp(buf, back, sizeof(buf)))
			return "read";
	}
	file_unref(file, true);
	return NULL;
}

static void test_reads_and_writes_go_on(void **state)
{
	struct worker w = { 0 };
	struct rekeyed t;
	size_t chunks;
	void *failed;

	init(&t);
	w.t = &t;
	ok(pthread_create(&w.thread, NULL, write_and_read, &w));
	for (int i = 0; i < 5; i++) {
		start(t.f.v);
		finish(t.f.v);
	}
	atomic_store(&w.stop, true);
	ok(pthread_join(w.thread, &failed));
	assert_null(failed);
	assert_true(w.seed > 1000);
	assert_int_equal(opened_by_old_cek(&t, &chunks), 0);
	assert_true(cf_is(&t.f, t.small, SMALL, 2));
	cf_reopen(&t.f);
	assert_true(cf_is(&t.f, t.small, SMALL, 2));
	done(&t);
}

static void test_one_cut_short_goes_on_at_the_next_opening(void **state)
{
	struct rekey_status s;
	struct rekeyed t;
	size_t chunks;

	init(&t);
	start(t.f.v);
	cf_close(&t.f); /* at once: hardly anything is done */
	cf_open(&t.f);
	finish(t.f.v);
	assert_int_equal(opened_by_old_cek(&t, &chunks), 0);
	assert_true(cf_is(&t.f, t.large, LARGE, 1));
	rekey_status(t.f.v, &s);
	assert_int_equal(s.epoch, 2);
	done(&t);
}

static void test_a_second_start_is_refused_while_one_is_under_way(void **state)
{
	struct rekeyed t;
	char *error = NULL;

	init(&t);
	ok(keys_renew(t.f.v));
	assert_int_equal(rekey_start(t.f.v, false, &error), -EALREADY);
	free(error);
	done(&t);
}

static void test_the_keys_can_be_wrapped_anew_in_the_middle(void **state)
{
	struct secret *kek;
	struct rekeyed t;
	size_t chunks, old;

	init(&t);
	ok(keys_renew(t.f.v));
	ok(secret_new_copy(secret_cbytes(t.old_cek), 32, &kek)); /* any 32 bytes */
	keys_lock(t.f.v);
	ok(keyring_rewrap(t.f.v->keyring, kek, "kek-2"));
	ok(keyring_save(t.f.v->keyring, t.f.v->dirfd));
	keys_unlock(t.f.v);
	{
		FILE *key = fopen(t.f.key, "w");

		assert_non_null(key);
		for (size_t i = 0; i < 32; i++)
			fprintf(key, "%02x", secret_cbytes(t.old_cek)[i]);
		fclose(key);
	}
	cf_reopen(&t.f);
	finish(t.f.v);
	assert_int_equal(keyring_entries(t.f.v, &old), 2);
	assert_int_equal(opened_by_old_cek(&t, &chunks), 0);
	assert_true(cf_is(&t.f, t.large, LARGE, 1));
	done(&t);
}

static void test_a_lock_in_the_middle_stops_it_and_an_unlock_goes_on(void **state)
{
	struct volume_options o = { .dir = NULL };
	struct rekeyed t;
	struct file *file;
	char *error = NULL;
	size_t chunks;

	init(&t);
	o.key_source = t.f.source;
	file = cf_file(&t.f, t.large);
	start(t.f.v);
	ok(volume_lock(t.f.v));
	ok(volume_unlock(t.f.v, &o, &error));
	finish(t.f.v);
	assert_true(cf_holds(file, LARGE, 0, 1));
	file_unref(file, true);
	ok(volume_lock(t.f.v));
	ok(volume_unlock(t.f.v, &o, &error));
	assert_int_equal(opened_by_old_cek(&t, &chunks), 0);
	assert_true(cf_is(&t.f, t.large, LARGE, 1));
	done(&t);
}

static void test_damaged_unsent_content_keeps_the_old_keys(void **state)
{
	struct rekey_status s;
	struct rekeyed t;
	char path[512];
	size_t old;
	int fd;

	init(&t);
	cf_blob_path(&t.f, t.large, path, sizeof(path));
	cf_close(&t.f);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "damage", 6, 5000), 6);
	close(fd);
	cf_open(&t.f);
	start(t.f.v);
	for (int i = 0; i < 600; i++) {
		rekey_wait(t.f.v, 100);
		rekey_status(t.f.v, &s);
		if (s.damaged)
			break;
	}
	assert_int_equal(s.damaged, 1);
	assert_true(s.active);
	assert_true(keyring_entries(t.f.v, &old) == 4 && old == 2);
	assert_true(cf_is(&t.f, t.small, SMALL, 2));
	done(&t);
}

static void test_an_unhealthy_volume_is_not_begun_with(void **state)
{
	struct rekeyed t;
	char *error = NULL;

	init(&t);
	atomic_store(&t.f.v->damaged, 1);
	assert_int_equal(rekey_start(t.f.v, false, &error), CE_USAGE);
	assert_non_null(strstr(error, "cachet verify"));
	free(steal_ptr(&error));
	ok(rekey_start(t.f.v, true, &error));
	finish(t.f.v);
	done(&t);
}

static void test_old_keys_are_replaced_by_themselves_and_young_ones_not(void **state)
{
	struct rekey_status s;
	struct rekeyed t;

	init(&t);
	t.f.v->rekey_age_s = 3600;
	rekey_tick(t.f.v);
	rekey_status(t.f.v, &s);
	assert_int_equal(s.epoch, 1);
	t.f.v->rekey_age_s = 0;
	rekey_tick(t.f.v);
	rekey_status(t.f.v, &s);
	assert_int_equal(s.epoch, 1);
	t.f.v->rekey_age_s = 1;
	while (clock_wall_ns() / NS_PER_SEC < s.made_at_s + 2)
		usleep(10000);
	rekey_tick(t.f.v);
	finish(t.f.v);
	rekey_status(t.f.v, &s);
	assert_int_equal(s.epoch, 2);
	done(&t);
}

struct events {
	char kinds[200];
};

static int add_event(void *arg, uint64_t id, int64_t time_ns, const char *kind, const char *detail)
{
	struct events *e = arg;

	if (!strcmp(kind, "rekey"))
		strcat(e->kinds, strstr(detail, "begun")  ? "B"
				 : strstr(detail, "done") ? "D"
							  : "F");
	return 0;
}

static void test_the_event_log_tells_begin_and_end_once(void **state)
{
	struct events e = { "" };
	struct rekeyed t;
	uint64_t bad;

	init(&t);
	start(t.f.v);
	cf_reopen(&t.f);
	finish(t.f.v);
	cf_reopen(&t.f);
	ok(volume_event_each(t.f.v, 0, add_event, &e));
	assert_string_equal(e.kinds, "BD");
	ok(volume_event_verify(t.f.v, &bad));
	done(&t);
}

static void test_blocks_of_what_the_old_keys_sealed_are_given_back(void **state)
{
	struct rekeyed t;
	uint64_t before, after;

	init(&t);
	ok(volume_sync(t.f.v));
	before = cf_du(t.f.dir);
	start(t.f.v);
	finish(t.f.v);
	after = cf_du(t.f.dir);
	assert_true(after < before + CHUNK * 8);
	done(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_old_keys_open_nothing_afterwards),
		cmocka_unit_test(test_before_a_rekey_the_key_of_the_check_opens_the_index),
		cmocka_unit_test(test_size_times_and_journal_stay),
		cmocka_unit_test(test_clean_content_stays_clean),
		cmocka_unit_test(test_it_is_no_use_that_keeps_content_from_being_evicted),
		cmocka_unit_test(test_a_snapshot_that_shares_slots_is_sealed_anew_too),
		cmocka_unit_test(test_chunks_sealed_before_and_committed_after_hold_the_old_keys),
		cmocka_unit_test(test_reads_and_writes_go_on),
		cmocka_unit_test(test_one_cut_short_goes_on_at_the_next_opening),
		cmocka_unit_test(test_a_second_start_is_refused_while_one_is_under_way),
		cmocka_unit_test(test_the_keys_can_be_wrapped_anew_in_the_middle),
		cmocka_unit_test(test_a_lock_in_the_middle_stops_it_and_an_unlock_goes_on),
		cmocka_unit_test(test_damaged_unsent_content_keeps_the_old_keys),
		cmocka_unit_test(test_an_unhealthy_volume_is_not_begun_with),
		cmocka_unit_test(test_old_keys_are_replaced_by_themselves_and_young_ones_not),
		cmocka_unit_test(test_the_event_log_tells_begin_and_end_once),
		cmocka_unit_test(test_blocks_of_what_the_old_keys_sealed_are_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
