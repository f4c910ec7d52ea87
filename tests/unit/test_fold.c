/* Each folding rule of cache/fold.c, by the journal it leaves. */
#include "origin_model.h"

static void queued_writes_are_one_put(void **state)
{
	struct tree_fixture *f = *state;

	ok(tf_write(f, "a", "1"));
	ok(tf_write(f, "a", "2"));
	assert_journal(f, "PUT+:a");
}

static void made_and_deleted_leaves_nothing(void **state)
{
	struct tree_fixture *f = *state;

	ok(tf_mkdir(f, "d"));
	ok(tf_write(f, "d/a", "1"));
	ok(tf_symlink(f, "d/l", "x"));
	ok(tf_unlink(f, "d/a"));
	ok(tf_unlink(f, "d/l"));
	ok(tf_rmdir(f, "d"));
	assert_journal(f, "");
}

static void a_row_in_flight_is_frozen(void **state)
{
	struct tree_fixture *f = *state;
	struct outbox_op op;
	uint64_t wait;
	size_t n;

	ok(tf_write(f, "a", "one"));
	ok(outbox_next(f->v, clock_wall_ns() / NS_PER_MS, 0, &op, 1, &n, &wait));
	ok(outbox_begin(f->v, &op, 1));
	ok(tf_write(f, "a", "longer"));
	assert_journal(f, "PUT+:a! PUT");
	outbox_op_done(&op);
	ok(outbox_next(f->v, clock_wall_ns() / NS_PER_MS, 0, &op, 1, &n, &wait));
	assert_int_equal(op.size, 3);
	assert_int_equal(op.state, OUTBOX_INFLIGHT);
	outbox_op_done(&op);
}

static void deleting_what_is_in_flight_sends_the_deletion_behind(void **state)
{
	struct tree_fixture *f = *state;
	struct outbox_op op;
	uint64_t wait;
	size_t n;

	ok(tf_write(f, "a", "one"));
	ok(outbox_next(f->v, clock_wall_ns() / NS_PER_MS, 0, &op, 1, &n, &wait));
	ok(outbox_begin(f->v, &op, 1));
	outbox_op_done(&op);
	ok(tf_write(f, "a", "two"));
	ok(tf_unlink(f, "a"));
	assert_journal(f, "PUT+:a! DELETE");
}

static void renaming_what_was_never_sent_changes_its_place(void **state)
{
	struct tree_fixture *f = *state;

	ok(tf_create(f, "a"));
	ok(tf_create(f, "x"));
	ok(tf_rename(f, "a", "b", 0));
	assert_journal(f, "PUT+:b PUT+:x");
}

static void a_place_that_is_freed_later_is_not_taken_earlier(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;

	ok(tf_create(f, "old"));
	om_sync(f, m, &cursor, 10);
	ok(tf_create(f, "a"));
	ok(tf_unlink(f, "old"));
	ok(tf_rename(f, "a", "old", 0));
	assert_journal(f, "PUT+:a DELETE MOVE:old");
	om_sync(f, m, &cursor, 10);
	om_compare(f, m);
	om_free(m);
}

static void a_temporary_file_becomes_the_content_of_what_it_replaces(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;
	struct om_record *r;

	ok(tf_write(f, "doc", "one"));
	om_sync(f, m, &cursor, 10);
	ok(tf_write(f, "doc.tmp", "two"));
	ok(tf_rename(f, "doc.tmp", "doc", 0));
	assert_journal(f, "PUT");
	om_sync(f, m, &cursor, 10);
	r = om_at(m, "root", "doc");
	assert_string_equal(r->content, "two");
	assert_int_equal(r->version, 2);
	assert_int_equal(m->n, 1);
	om_free(m);
}

static void a_temporary_file_that_was_sent_replaces_in_one_step(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;

	ok(tf_write(f, "doc", "one"));
	ok(tf_write(f, "tmp", "two"));
	om_sync(f, m, &cursor, 10);
	ok(tf_rename(f, "tmp", "doc", 0));
	assert_journal(f, "MOVE*:doc");
	om_sync(f, m, &cursor, 10);
	om_compare(f, m);
	om_free(m);
}

static void a_chain_of_renames_is_one_move_and_back_is_none(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;

	ok(tf_mkdir(f, "d"));
	ok(tf_create(f, "a"));
	om_sync(f, m, &cursor, 10);
	ok(tf_rename(f, "a", "b", 0));
	ok(tf_rename(f, "b", "d/c", 0));
	assert_journal(f, "MOVE:c");
	ok(tf_rename(f, "d/c", "a", 0));
	assert_journal(f, "");
	om_free(m);
}

static void a_directory_rename_is_one_move(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;

	ok(tf_mkdir(f, "d"));
	for (char name[] = "d/a"; name[2] < 'k'; name[2]++)
		ok(tf_create(f, name));
	om_sync(f, m, &cursor, 10);
	ok(tf_rename(f, "d", "e", 0));
	assert_journal(f, "MOVE:e");
	om_free(m);
}

static void attributes_go_with_a_put_and_a_put_takes_their_row(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct tree_attr a, set = { .mode = 0600 };
	uint64_t cursor = 0;

	ok(tf_write(f, "a", "1"));
	a = tf_attr(f, "a");
	ok(tree_setattr(f->v, a.object, a.version, &set, TREE_SET_MODE, &a));
	assert_journal(f, "PUT+:a");
	om_sync(f, m, &cursor, 10);
	set.mode = 0640;
	ok(tree_setattr(f->v, a.object, a.version, &set, TREE_SET_MODE, &a));
	ok(tree_setattr(f->v, a.object, a.version, &set, TREE_SET_MTIME, &a));
	assert_journal(f, "ATTR");
	ok(tf_write(f, "a", "2"));
	assert_journal(f, "PUT");
	om_sync(f, m, &cursor, 10);
	om_compare(f, m);
	om_free(m);
}

static void owners_and_access_times_are_not_journaled(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct tree_attr a, set = { .uid = 7, .atime_ns = 5 };
	uint64_t cursor = 0;

	ok(tf_mkdir(f, "d"));
	om_sync(f, m, &cursor, 10);
	a = tf_attr(f, "d");
	ok(tree_setattr(f->v, a.object, a.version, &set, TREE_SET_UID | TREE_SET_ATIME, &a));
	assert_journal(f, "");
	om_free(m);
}

static void what_no_origin_may_see_is_not_journaled(void **state)
{
	struct tree_fixture *f = *state;
	struct tree_attr a;

	ok(tree_mknod(f->v, f->root, "fifo", S_IFIFO | 0600, 0, &tf_cred, &a));
	ok(tree_mknod(f->v, f->root, "socket", S_IFSOCK | 0600, 0, &tf_cred, &a));
	ok(tf_mkdir(f, "\xff"));
	ok(tf_write(f, "\xff/inside", "1"));
	assert_journal(f, "");
	/* Renamed to what an origin may see, the directory comes with all that is in it. */
	ok(tf_rename(f, "\xff", "seen", 0));
	assert_journal(f, "PUT+:seen PUT+:inside");
	ok(tf_rename(f, "seen", "\xfe", 0));
	assert_journal(f, "");
}

static void an_exchange_is_one_swap(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;

	ok(tf_write(f, "a", "1"));
	ok(tf_mkdir(f, "b"));
	ok(tf_write(f, "b/c", "2"));
	om_sync(f, m, &cursor, 10);
	ok(tf_rename(f, "a", "b", RENAME_EXCHANGE));
	assert_journal(f, "SWAP:b");
	om_sync(f, m, &cursor, 10);
	om_compare(f, m);
	om_free(m);
}

static void a_hard_link_is_a_record_of_its_own(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;

	ok(tf_write(f, "a", "1"));
	ok(tf_link(f, "a", "b"));
	ok(tf_write(f, "b", "2"));
	assert_journal(f, "PUT+:a PUT+:b");
	om_sync(f, m, &cursor, 10);
	ok(tf_write(f, "a", "3"));
	assert_journal(f, "PUT PUT");
	ok(tf_unlink(f, "a"));
	assert_journal(f, "PUT DELETE");
	om_sync(f, m, &cursor, 10);
	om_compare(f, m);
	om_free(m);
}

static void a_directory_that_something_left_is_still_made(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;

	ok(tf_create(f, "x"));
	om_sync(f, m, &cursor, 10);
	ok(tf_mkdir(f, "d"));
	ok(tf_create(f, "d/a"));
	ok(tf_rename(f, "x", "y", 0));
	ok(tf_rename(f, "d/a", "x", 0));
	ok(tf_rmdir(f, "d"));
	assert_journal(f, "PUT+:d PUT+:a MOVE:y MOVE:x DELETE");
	om_sync(f, m, &cursor, 10);
	assert_int_equal(m->conflicts, 0);
	om_compare(f, m);
	om_free(m);
}

/* The moved one still goes there before it is deleted: both new ones are made for it. */
static void directories_that_something_moved_into_are_still_made(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;

	ok(tf_mkdir(f, "old"));
	om_sync(f, m, &cursor, 10);
	ok(tf_mkdir(f, "new"));
	ok(tf_mkdir(f, "new/er"));
	ok(tf_rename(f, "old", "new/er/old", 0));
	ok(tf_rmdir(f, "new/er/old"));
	ok(tf_rmdir(f, "new/er"));
	ok(tf_rmdir(f, "new"));
	assert_journal(f, "PUT+:new PUT+:er MOVE:old DELETE DELETE DELETE");
	om_sync(f, m, &cursor, 10);
	assert_int_equal(m->conflicts, 0);
	om_compare(f, m);
	om_free(m);
}

static void a_local_store_has_no_journal(void **state)
{
	struct tree_fixture *f = *state;
	struct store_row s;

	ok(db_begin(f->v->db));
	ok(store_get(f->v->db, f->store, &s));
	s.mode = STORE_LOCAL;
	ok(store_update(f->v->db, &s));
	ok(db_commit(f->v->db));
	ok(tf_write(f, "a", "1"));
	ok(tf_rename(f, "a", "b", 0));
	ok(tf_unlink(f, "b"));
	assert_journal(f, "");
}

static void the_journal_survives_reopening(void **state)
{
	struct tree_fixture *f = *state;

	ok(tf_write(f, "a", "1"));
	ok(tf_mkdir(f, "d"));
	tf_reopen(f);
	assert_journal(f, "PUT+:a PUT+:d");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tf_test(queued_writes_are_one_put),
		tf_test(made_and_deleted_leaves_nothing),
		tf_test(a_row_in_flight_is_frozen),
		tf_test(deleting_what_is_in_flight_sends_the_deletion_behind),
		tf_test(renaming_what_was_never_sent_changes_its_place),
		tf_test(a_place_that_is_freed_later_is_not_taken_earlier),
		tf_test(a_temporary_file_becomes_the_content_of_what_it_replaces),
		tf_test(a_temporary_file_that_was_sent_replaces_in_one_step),
		tf_test(a_chain_of_renames_is_one_move_and_back_is_none),
		tf_test(a_directory_rename_is_one_move),
		tf_test(attributes_go_with_a_put_and_a_put_takes_their_row),
		tf_test(owners_and_access_times_are_not_journaled),
		tf_test(what_no_origin_may_see_is_not_journaled),
		tf_test(an_exchange_is_one_swap),
		tf_test(a_hard_link_is_a_record_of_its_own),
		tf_test(a_directory_that_something_left_is_still_made),
		tf_test(directories_that_something_moved_into_are_still_made),
		tf_test(a_local_store_has_no_journal),
		tf_test(the_journal_survives_reopening),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
