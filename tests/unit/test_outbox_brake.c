/*
 * Goal: a script that runs wild here does not empty the origin: deletions beyond both limits are
 * held, all of the store together and nothing else, over a restart, until a person confirms them.
 * And `outbox_explain`: why an operation is not sent; and that long contents are handed out as
 * there is room for them.
 */
#include "origin_model.h"
#include "outbox_batch.h"

#define RECORDS 60

static const char *numbered(unsigned i)
{
	static char name[16];

	snprintf(name, sizeof(name), "r%u", i);
	return name;
}

/* The origin has `n` files r0, r1, ... and the volume knows them; the cursor. */
static uint64_t fill(struct tree_fixture *f, struct origin_model *m, unsigned n)
{
	uint64_t cursor = 0;
	char id[32];

	for (unsigned i = 0; i < n; i++) {
		snprintf(id, sizeof(id), "id%u", i);
		om_make(m, id, REMOTE_FILE, "root", numbered(i), "x", NULL);
	}
	om_pull(f, m, &cursor, 100);
	return cursor;
}

static void unlink_first(struct tree_fixture *f, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		ok(tf_unlink(f, numbered(i)));
}

static uint64_t brake(struct tree_fixture *f)
{
	uint64_t held = 999;

	ok(outbox_brake(f->v, &held));
	return held;
}

static uint64_t braked(struct tree_fixture *f)
{
	struct outbox_counts c;

	ok(outbox_counts(f->v, &c));
	assert_int_equal(c.braked, c.held);
	return c.braked;
}

static void ten_deletions_pass_whatever_they_leave(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);

	fill(f, m, 10);
	unlink_first(f, 10);
	assert_int_equal(brake(f), 0);
	om_free(m);
}

/* 11 of 55 are 20 %: not more than that. */
static void a_fifth_of_the_store_passes(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);

	fill(f, m, 55);
	unlink_first(f, 11);
	assert_int_equal(brake(f), 0);
	ok(tf_unlink(f, numbered(11)));
	assert_int_equal(brake(f), 12);
	om_free(m);
}

static void more_is_held_and_nothing_of_it_is_sent(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = fill(f, m, RECORDS);
	struct batch b;

	unlink_first(f, 20);
	ok(tf_create(f, "new"));
	next(f, &b);
	assert_true(outbox_brake_wants(&b.ops[0]));
	done(&b);
	assert_int_equal(brake(f), 20);
	assert_int_equal(brake(f), 0); /* they are held already */
	assert_int_equal(braked(f), 20);
	om_push_once(f, m, 64);
	om_pull(f, m, &cursor, 100);
	assert_non_null(om_at(m, "root", "new"));
	for (unsigned i = 0; i < 20; i++)
		assert_non_null(om_at(m, "root", numbered(i)));
	assert_int_equal(tf_at(f, "r0"), 0); /* here it is deleted all the same */
	om_free(m);
}

/* The brake is no way round: a script that goes on slowly is held as well. */
static void those_held_count_for_the_next(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);

	fill(f, m, RECORDS);
	unlink_first(f, 20);
	assert_int_equal(brake(f), 20);
	ok(tf_unlink(f, "r30"));
	assert_int_equal(brake(f), 1);
	assert_int_equal(braked(f), 21);
	om_free(m);
}

static void what_was_never_sent_does_not_count(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);

	fill(f, m, 4);
	for (unsigned i = 10; i < 40; i++)
		ok(tf_create(f, numbered(i)));
	for (unsigned i = 10; i < 40; i++)
		ok(tf_unlink(f, numbered(i)));
	unlink_first(f, 4);
	assert_int_equal(brake(f), 0);
	om_free(m);
}

static void another_store_goes_on(void **state)
{
	struct tree_fixture *f = *state;
	struct tree_fixture other = *f;
	struct origin_model *m = om_new(1), *m2 = om_new(2);
	struct batch b;

	fill(f, m, RECORDS);
	tf_store(&other, "other");
	fill(&other, m2, RECORDS);
	unlink_first(f, 20);
	unlink_first(&other, 5);
	assert_int_equal(brake(f), 20);
	next(f, &b);
	assert_int_equal(b.n, 5);
	for (size_t i = 0; i < b.n; i++)
		assert_string_equal(b.ops[i].store_name, "other");
	done(&b);
	om_free(m);
	om_free(m2);
}

static void each_of_many_stores_is_counted(void **state)
{
	struct tree_fixture *f = *state;
	struct tree_fixture other = *f;
	struct origin_model *m = om_new(1);
	char name[16];

	fill(f, m, RECORDS);
	for (unsigned i = 0; i < 70; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		tf_store(&other, name);
		fill(&other, m, 1);
		unlink_first(&other, 1);
	}
	unlink_first(f, 20);
	assert_int_equal(brake(f), 20);
	om_free(m);
}

static void what_is_held_stays_so_over_a_restart(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct batch b;

	fill(f, m, RECORDS);
	unlink_first(f, 20);
	assert_int_equal(brake(f), 20);
	tf_reopen(f);
	assert_int_equal(braked(f), 20);
	next(f, &b);
	assert_int_equal(b.n, 0);
	om_free(m);
}

static void only_the_same_names_wait(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct batch b;

	fill(f, m, RECORDS);
	unlink_first(f, 20);
	assert_int_equal(brake(f), 20);
	ok(tf_write(f, "r3", "again")); /* its place is taken by the record that is held */
	ok(tf_write(f, "r40", "edit"));
	next(f, &b);
	assert_int_equal(b.n, 1);
	assert_string_equal(b.ops[0].rid, "id40");
	done(&b);
	om_free(m);
}

static void a_word_lets_all_of_them_go_and_the_brake_lets_them_pass(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = fill(f, m, RECORDS);

	unlink_first(f, 20);
	assert_int_equal(brake(f), 20);
	ok(tf_unlink(f, "r20")); /* not looked at yet: meant, too */
	ok(outbox_allow_deletes(f->v));
	assert_int_equal(brake(f), 0);
	assert_int_equal(braked(f), 0);
	om_sync(f, m, &cursor, 100);
	assert_int_equal(om_compare(f, m), RECORDS - 21);
	om_free(m);
}

static int first_held(void *arg, const struct outbox_op *op, const char *path)
{
	*(uint64_t *)arg = op->seq;
	return op->state == OUTBOX_HELD;
}

/* The word of a person about one is about one. */
static void one_is_confirmed_alone(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct batch b;
	uint64_t seq;

	fill(f, m, RECORDS);
	unlink_first(f, 20);
	assert_int_equal(brake(f), 20);
	ok(outbox_each(f->v, first_held, &seq));
	ok(outbox_requeue(f->v, seq));
	assert_int_equal(brake(f), 0);
	assert_int_equal(braked(f), 19);
	next(f, &b);
	assert_int_equal(b.n, 1);
	assert_int_equal(b.ops[0].seq, seq);
	assert_false(outbox_brake_wants(&b.ops[0]));
	done(&b);
	om_free(m);
}

/* What a person holds is not let go by a word about deletions. */
static void a_deletion_that_a_person_holds_stays(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct outbox_counts c;
	struct batch b;

	fill(f, m, 3);
	unlink_first(f, 1);
	next(f, &b);
	ok(outbox_hold(f->v, b.ops[0].seq));
	done(&b);
	ok(outbox_allow_deletes(f->v));
	ok(outbox_counts(f->v, &c));
	assert_int_equal(c.held, 1);
	assert_int_equal(c.braked, 0);
	om_free(m);
}

/* --- why --- */

static struct outbox_reason why(struct tree_fixture *f, uint64_t seq)
{
	struct outbox_reason reason;

	ok(outbox_explain(f->v, seq, NOW, &reason));
	return reason;
}

struct search {
	const char *path;
	uint64_t seq;
};

static int is_path(void *arg, const struct outbox_op *op, const char *path)
{
	struct search *s = arg;

	if (!strcmp(path, s->path))
		s->seq = op->seq;
	return 0;
}

/* The last operation on a path below the store. */
static uint64_t seq_of(struct tree_fixture *f, const char *path)
{
	char full[64];
	struct search s = { .path = full };

	snprintf(full, sizeof(full), "records/%s", path);
	ok(outbox_each(f->v, is_path, &s));
	assert_int_not_equal(s.seq, 0);
	return s.seq;
}

static void what_may_go_is_said_to_go(void **state)
{
	struct tree_fixture *f = *state;
	struct outbox_reason reason;

	ok(tf_create(f, "a"));
	assert_int_equal(why(f, seq_of(f, "a")).wait, OUTBOX_WAIT_NONE);
	assert_int_equal(outbox_explain(f->v, 12345, NOW, &reason), -ENOENT);
}

static void each_kind_of_stop_is_named(void **state)
{
	struct tree_fixture *f = *state;
	const int64_t later = NOW + 3600000;
	struct outbox_reason reason;
	struct batch b;

	for (unsigned i = 0; i < 4; i++)
		ok(tf_create(f, numbered(i)));
	next(f, &b);
	ok(outbox_hold(f->v, b.ops[3].seq));
	ok(outbox_begin(f->v, b.ops, 3));
	ok(outbox_refuse(f->v, b.ops[1].seq, 400, "no such name"));
	ok(outbox_retry(f->v, b.ops[2].seq, later, 503, "busy"));
	assert_int_equal(why(f, b.ops[0].seq).wait, OUTBOX_WAIT_ANSWER);
	assert_int_equal(why(f, b.ops[1].seq).wait, OUTBOX_WAIT_REFUSED);
	reason = why(f, b.ops[2].seq);
	assert_int_equal(reason.wait, OUTBOX_WAIT_RETRY);
	assert_int_equal(reason.until_ms, later);
	assert_int_equal(why(f, b.ops[3].seq).wait, OUTBOX_WAIT_PERSON);
	done(&b);
}

static void what_waits_behind_another_names_it(void **state)
{
	struct tree_fixture *f = *state;
	struct outbox_reason reason;
	uint64_t dir;
	struct batch b;

	ok(tf_mkdir(f, "d"));
	dir = seq_of(f, "d");
	next(f, &b);
	ok(outbox_begin(f->v, b.ops, b.n));
	done(&b);
	ok(tf_create(f, "d/a"));
	reason = why(f, seq_of(f, "d/a"));
	assert_int_equal(reason.wait, OUTBOX_WAIT_BEHIND);
	assert_int_equal(reason.behind, dir);
}

static void the_brake_is_named(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t seq;

	fill(f, m, RECORDS);
	unlink_first(f, 20);
	assert_int_equal(brake(f), 20);
	ok(outbox_each(f->v, first_held, &seq));
	assert_int_equal(why(f, seq).wait, OUTBOX_WAIT_BRAKE);
	om_free(m);
}

/* Rows are held in a table that grows: the answer is that of a short journal. */
static void a_long_journal_is_explained_too(void **state)
{
	struct tree_fixture *f = *state;
	uint64_t dir;
	struct batch b;
	char name[32];

	ok(tf_mkdir(f, "d"));
	dir = seq_of(f, "d");
	next(f, &b);
	ok(outbox_begin(f->v, b.ops, b.n));
	done(&b);
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "%s%u", i % 2 ? "d/n" : "n", i);
		ok(tf_create(f, name));
	}
	assert_int_equal(why(f, seq_of(f, "n998")).wait, OUTBOX_WAIT_NONE);
	assert_int_equal(why(f, seq_of(f, "d/n999")).behind, dir);
}

static void only_a_long_content_needs_room(void **state)
{
	struct outbox_room rooms[] = { { 9, 1 }, { 4, 1 }, { 0, 0 } };
	struct outbox_op op = { .kind = OUTBOX_PUT, .node_kind = REMOTE_FILE, .size = 10 };

	assert_ptr_equal(outbox_room_of(rooms, &op), &rooms[0]);
	op.size = 9;
	assert_ptr_equal(outbox_room_of(rooms, &op), &rooms[1]);
	op.size = 4;
	assert_null(outbox_room_of(rooms, &op));
	op.size = 10;
	op.kind = OUTBOX_MOVE;
	assert_null(outbox_room_of(rooms, &op));
}

/* What there is no room for waits, and holds up only what is about the same record. */
static void long_contents_have_their_room(void **state)
{
	static const char *const files[][2] = { { "long1", "0123456789" }, { "mid1", "01234" },
		{ "long2", "0123456789" }, { "long3", "0123456789" }, { "mid2", "01234" },
		{ "short", "0" } };
	static const char *const want[] = { "long1", "mid1", "short" };
	struct outbox_room rooms[] = { { 9, 1 }, { 4, 1 }, { 0, 0 } };
	struct tree_fixture *f = *state;
	struct batch b;

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		ok(tf_create(f, files[i][0]));
		ok(tf_write(f, files[i][0], files[i][1]));
	}
	ok(tf_rename(f, "long2", "renamed", 0));
	ok(outbox_next_within(f->v, NOW, 0, rooms, b.ops, ARRAY_SIZE(b.ops), &b.n, &b.wait));
	assert_int_equal(b.n, ARRAY_SIZE(want));
	for (size_t i = 0; i < b.n; i++)
		assert_string_equal(b.ops[i].name, want[i]);
	done(&b);
	next(f, &b);
	assert_int_equal(b.n, ARRAY_SIZE(files));
	done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tf_test(ten_deletions_pass_whatever_they_leave),
		tf_test(a_fifth_of_the_store_passes),
		tf_test(more_is_held_and_nothing_of_it_is_sent),
		tf_test(those_held_count_for_the_next),
		tf_test(what_was_never_sent_does_not_count),
		tf_test(another_store_goes_on),
		tf_test(each_of_many_stores_is_counted),
		tf_test(what_is_held_stays_so_over_a_restart),
		tf_test(only_the_same_names_wait),
		tf_test(a_word_lets_all_of_them_go_and_the_brake_lets_them_pass),
		tf_test(one_is_confirmed_alone),
		tf_test(a_deletion_that_a_person_holds_stays),
		tf_test(what_may_go_is_said_to_go),
		tf_test(each_kind_of_stop_is_named),
		tf_test(what_waits_behind_another_names_it),
		tf_test(the_brake_is_named),
		tf_test(a_long_journal_is_explained_too),
		tf_test(only_a_long_content_needs_room),
		tf_test(long_contents_have_their_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
