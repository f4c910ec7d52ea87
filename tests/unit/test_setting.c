/*
 * Goal: what is asked of a volume as a whole: its settings, that it is an old copy, whether its key
 * is lost, what is known of one object, and that a wipe leaves nothing that opens.
 */
#include "origin_model.h"

#include "cache/about.h"
#include "cache/file_priv.h"
#include "cache/setup_priv.h"
#include "crypto/keyring.h"

/* --- settings --- */

static void a_setting_has_a_bound(void **state)
{
	struct tree_fixture *f = *state;
	char value[VOLUME_SETTING_MAX + 1], out[VOLUME_SETTING_MAX];

	memset(value, 'x', sizeof(value) - 1);
	value[sizeof(value) - 1] = 0;
	assert_int_equal(volume_setting_get(f->v, "sync.test", out, sizeof(out)), -ENOENT);
	assert_int_equal(volume_setting_set(f->v, "sync.test", value), -EINVAL);
	assert_int_equal(volume_setting_get(f->v, "sync.test", out, sizeof(out)), -ENOENT);
	ok(volume_setting_set(f->v, "sync.test", value + 1));
	tf_reopen(f);
	ok(volume_setting_get(f->v, "sync.test", out, sizeof(out)));
	assert_string_equal(out, value + 1);
	memset(out, 'o', 8);
	assert_int_equal(volume_setting_get(f->v, "sync.test", out, 8), CE_CORRUPT);
	assert_memory_equal(out, "oooooooo", 8);
}

static void a_setting_with_a_nul_is_no_text(void **state)
{
	struct tree_fixture *f = *state;
	char out[16];

	ok(db_begin(f->v->db));
	ok(setting_set(f->v->db, "sync.test", "a\0b", 3));
	ok(db_commit(f->v->db));
	assert_int_equal(volume_setting_get(f->v, "sync.test", out, sizeof(out)), CE_CORRUPT);
}

static void another_token_replaces_the_first(void **state)
{
	struct tree_fixture *f = *state;
	struct secret *token, *got = NULL;

	ok(volume_token(f->v, &got));
	assert_null(got);
	ok(secret_new_copy("first", 5, &token));
	ok(volume_set_token(f->v, token));
	secret_free(token);
	ok(secret_new_copy("second", 6, &token));
	ok(volume_set_token(f->v, token));
	tf_reopen(f);
	ok(volume_token(f->v, &got));
	assert_true(secret_equal(token, got));
	secret_free(got);
	secret_free(token);
}

/* --- an old copy --- */

/* Nothing is made, changed, renamed or removed. */
static void refuses_changes(struct tree_fixture *f)
{
	assert_int_equal(tf_create(f, "new"), -EROFS);
	assert_int_equal(tf_mkdir(f, "dir"), -EROFS);
	assert_int_equal(tf_write(f, "a", "2"), -EROFS);
	assert_int_equal(tf_rename(f, "a", "b", 0), -EROFS);
	assert_int_equal(tf_unlink(f, "a"), -EROFS);
}

static void an_old_copy_takes_no_changes_until_somebody_says_so(void **state)
{
	struct tree_fixture *f = *state;
	uint64_t last;
	int64_t op;

	ok(tf_write(f, "a", "1"));
	assert_false(volume_is_old(f->v));
	ok(volume_last_seq(f->v, &last));
	op = (int64_t)last + 1000;
	ok(volume_set_old(f->v, (uint64_t)op));
	ok(volume_set_old(f->v, (uint64_t)op)); /* told at every contact */
	refuses_changes(f);
	tf_reopen(f);
	assert_true(volume_is_old(f->v));
	refuses_changes(f);
	ok(volume_accept_old(f->v));
	assert_false(volume_is_old(f->v));
	ok(tf_write(f, "a", "2"));
	tf_reopen(f);
	assert_false(volume_is_old(f->v));
	ok(tf_create(f, "new"));
	ok(volume_last_seq(f->v, &last));
	assert_true((int64_t)last > op); /* a number of the other life is never given twice */
}

static void accepting_what_is_not_old_changes_nothing(void **state)
{
	struct tree_fixture *f = *state;
	uint64_t before, after;

	ok(tf_create(f, "a"));
	ok(volume_last_seq(f->v, &before));
	ok(volume_accept_old(f->v));
	ok(volume_last_seq(f->v, &after));
	assert_int_equal(before, after);
}

/* What is unsent in it is kept, and goes when it is accepted. */
static void unsent_work_of_an_old_copy_is_sent_later(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0, last;

	ok(tf_write(f, "a", "1"));
	ok(volume_last_seq(f->v, &last));
	ok(volume_set_old(f->v, last + 5));
	tf_reopen(f);
	ok(volume_accept_old(f->v));
	om_sync(f, m, &cursor, 10);
	assert_int_equal(om_compare(f, m), 1);
	om_free(m);
}

/* --- one object --- */

static struct about about(struct tree_fixture *f, const char *path)
{
	struct about a;

	ok(about_object(f->v, tf_at(f, path), &a));
	return a;
}

static void what_is_known_of_a_file_follows_its_life(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;
	char text[OM_CONTENT];
	struct about a;

	ok(tf_write(f, "mine", "1"));
	a = about(f, "mine");
	assert_string_equal(a.state, "full");
	assert_string_equal(a.etag, "");
	assert_int_equal(a.pending, 1);
	assert_int_equal(a.store, f->store);
	om_make(m, "r", REMOTE_FILE, "root", "theirs", "text", NULL);
	om_sync(f, m, &cursor, 10);
	a = about(f, "mine");
	assert_int_equal(a.pending, 0);
	assert_string_equal(a.etag, om_at(m, "root", "mine")->r.etag);
	a = about(f, "theirs");
	assert_string_equal(a.state, "none");
	assert_false(a.pinned);
	om_read(f, m, tf_at(f, "theirs"), text);
	assert_string_equal(about(f, "theirs").state, "full");
	om_free(m);
}

static void a_file_of_which_a_part_is_here_is_partial(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record r = { .id = "r",
		.parent = "root",
		.name = "big",
		.etag = "\"1\"",
		.size = 300000,
		.seq = 1 };
	struct remote_report report;
	uint8_t *buf = calloc(1, 65536);
	struct tree_attr a;
	struct file *file;

	ok(remote_apply(f->v, f->store, &r, 1, "c", false, &report));
	a = tf_attr(f, "big");
	ok(file_open(f->v, a.object, a.version, false, &file));
	ok(file_fill(file, "\"1\"", buf, 65536, 65536));
	assert_string_equal(about(f, "big").state, "partial");
	file_unref(file, false);
	free(buf);
}

static void a_directory_is_listed_or_not(void **state)
{
	struct tree_fixture *f = *state;
	struct tree_attr top;
	struct about a;
	uint64_t other;

	ok(about_object(f->v, f->root, &a));
	assert_string_equal(a.state, "listed");
	ok(remote_store_add(f->v, "other", false, &other));
	ok(tree_lookup(f->v, OBJECT_ROOT, "other", &top));
	ok(about_object(f->v, top.object, &a));
	assert_string_equal(a.state, "unlisted");
	ok(about_object(f->v, OBJECT_ROOT, &a));
	assert_int_equal(a.store, 0);
	assert_int_equal(about_object(f->v, 99999, &a), CE_STALE);
	assert_int_equal(a.store, 0);
}

/* --- the key --- */

static void damage_key(struct tree_fixture *f, const char *text)
{
	char path[160];
	int fd;

	snprintf(path, sizeof(path), "%s/key", f->top);
	fd = open(path, O_WRONLY | O_TRUNC);
	assert_int_equal(write(fd, text, strlen(text)), (int)strlen(text));
	close(fd);
}

/* The source gives nothing, or something that is no key or not this one; or the keyring is gone. */
static void which_keys_are_lost(void **state)
{
	struct tree_fixture *f = *state;
	char path[160], moved[160];

	volume_close(steal_ptr(&f->v));
	assert_false(volume_key_is_lost(f->dir, f->source));
	assert_false(volume_key_is_lost("/nowhere", f->source));
	damage_key(f, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n");
	assert_true(volume_key_is_lost(f->dir, f->source));
	damage_key(f, "short");
	assert_true(volume_key_is_lost(f->dir, f->source));
	snprintf(path, sizeof(path), "%s/key", f->top);
	ok(unlink(path));
	assert_true(volume_key_is_lost(f->dir, f->source));
	snprintf(path, sizeof(path), "%s/%s", f->dir, KEYRING_FILE);
	snprintf(moved, sizeof(moved), "%s/moved", f->top);
	ok(rename(path, moved));
	assert_true(volume_key_is_lost(f->dir, f->source));
	/* A volume that was never finished has no key to lose. */
	snprintf(path, sizeof(path), "%s/%s", f->dir, SETUP_MARKER);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	assert_false(volume_key_is_lost(f->dir, f->source));
}

/* --- the end --- */

static void a_wipe_leaves_nothing(void **state)
{
	struct tree_fixture *f = *state;

	ok(tf_write(f, "a", "unsent"));
	assert_int_equal(volume_wipe(f->dir), CE_INUSE);
	tf_reopen(f);
	assert_int_not_equal(tf_at(f, "a"), 0);
	volume_close(steal_ptr(&f->v));
	ok(volume_wipe(f->dir));
	assert_int_equal(access(f->dir, F_OK), -1);
	assert_int_equal(volume_wipe(f->dir), -ENOENT);
}

/* The keys go first, over their own blocks: a copy of the directory entry made before has zeros. */
static void a_wipe_overwrites_the_keys(void **state)
{
	struct tree_fixture *f = *state;
	static const char zeros[16];
	char path[160], kept[160], head[16];
	int fd;

	volume_close(steal_ptr(&f->v));
	snprintf(path, sizeof(path), "%s/%s", f->dir, KEYRING_FILE);
	snprintf(kept, sizeof(kept), "%s/kept", f->top);
	ok(link(path, kept));
	ok(volume_wipe(f->dir));
	fd = open(kept, O_RDONLY);
	assert_int_equal(read(fd, head, sizeof(head)), (int)sizeof(head));
	assert_memory_equal(head, zeros, sizeof(head));
	close(fd);
}

/* Cut off after the keys, and then no keyring: what is left is taken for a volume by nobody, and
 * goes at the next try. */
static void a_wipe_that_was_cut_off_is_finished_by_the_next(void **state)
{
	struct tree_fixture *f = *state;
	const struct volume_options o = { .dir = f->dir, .key_source = f->source };
	char path[160], *error = NULL;

	volume_close(steal_ptr(&f->v));
	snprintf(path, sizeof(path), "%s/%s", f->dir, SETUP_MARKER);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	snprintf(path, sizeof(path), "%s/%s", f->dir, KEYRING_FILE);
	ok(unlink(path));
	assert_int_not_equal(volume_open(&o, &f->v, &error), 0);
	assert_null(f->v);
	free(error);
	ok(volume_wipe(f->dir));
	assert_int_equal(access(f->dir, F_OK), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tf_test(a_setting_has_a_bound),
		tf_test(a_setting_with_a_nul_is_no_text),
		tf_test(another_token_replaces_the_first),
		tf_test(an_old_copy_takes_no_changes_until_somebody_says_so),
		tf_test(accepting_what_is_not_old_changes_nothing),
		tf_test(unsent_work_of_an_old_copy_is_sent_later),
		tf_test(what_is_known_of_a_file_follows_its_life),
		tf_test(a_file_of_which_a_part_is_here_is_partial),
		tf_test(a_directory_is_listed_or_not),
		tf_test(which_keys_are_lost),
		tf_test(a_wipe_leaves_nothing),
		tf_test(a_wipe_overwrites_the_keys),
		tf_test(a_wipe_that_was_cut_off_is_finished_by_the_next),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
