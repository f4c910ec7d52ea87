/*
 * Goal: answers of the origin that seldom come, each of which must end with both sides equal and
 * nothing lost, or with a refusal that people see: never with an operation that is sent for ever.
 */
#include "origin_model.h"

#include <fcntl.h>

#define NOW (clock_wall_ns() / NS_PER_MS)

/* Whether the origin's answer to it was a conflict. */
static bool settled(struct tree_fixture *f, struct outbox_op *op,
	const struct remote_record *current, const struct remote_record *standing)
{
	bool conflict;

	ok(outbox_settle(f->v, op->seq, current, standing, &conflict));
	outbox_op_done(op);
	return conflict;
}

static struct outbox_counts counts(struct tree_fixture *f)
{
	struct outbox_counts c;

	ok(outbox_counts(f->v, &c));
	return c;
}

static int first_error(void *arg, const struct outbox_op *op, const char *path)
{
	snprintf(arg, sizeof(op->error), "%s", op->error);
	return 1;
}

/* The root is always there: an origin that says it is not is refused, and not asked for ever. */
static void an_origin_without_a_root_is_refused(void **state)
{
	struct tree_fixture *f = *state;
	char text[sizeof(((struct outbox_op *)NULL)->error)];
	struct outbox_op op;
	bool conflict;

	ok(tf_create(f, "a"));
	op = tf_begun(f);
	ok(outbox_settle(f->v, op.seq, NULL, NULL, &conflict));
	assert_false(conflict);
	assert_int_equal(counts(f).refused, 1);
	ok(outbox_each(f->v, first_error, text));
	assert_non_null(strstr(text, "directory is unknown"));
	assert_int_not_equal(tf_at(f, "a"), 0);
	outbox_op_done(&op);
}

/* It says so each time, whatever it is told. */
static void an_origin_that_never_knows_the_directory_is_not_asked_for_ever(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;
	unsigned asked = 0;

	ok(tf_mkdir(f, "d"));
	om_sync(f, m, &cursor, 10);
	ok(tf_write(f, "d/a", "1"));
	while (!counts(f).refused) {
		struct outbox_op op = tf_begun(f);
		bool conflict;

		assert_true(asked++ < 100);
		if (op.node_kind == REMOTE_DIR)
			(void)om_deliver(f, m, &op);
		else
			ok(outbox_settle(f->v, op.seq, NULL, NULL, &conflict));
		outbox_op_done(&op);
	}
	assert_int_not_equal(tf_at(f, "d/a"), 0);
	om_free(m);
}

/* Attempts that failed on the way are none: after an outage the directory is made anew all the
 * same. */
static void an_outage_is_no_reason_to_refuse(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;

	ok(tf_mkdir(f, "d"));
	om_sync(f, m, &cursor, 10);
	ok(tf_write(f, "d/a", "1"));
	om_delete(m, om_at(m, "root", "d"), NULL);
	for (unsigned i = 0; i < 20; i++) {
		struct outbox_op op = tf_begun(f);

		ok(outbox_retry(f->v, op.seq, 0, 0, "lost"));
		outbox_op_done(&op);
	}
	om_sync(f, m, &cursor, 10);
	assert_int_equal(m->refused, 0);
	assert_int_equal(om_compare(f, m), 2);
	om_free(m);
}

/* Of a server that is wrong, or hostile: what was written stays queued. */
static void an_answer_about_something_else_changes_nothing(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct om_record *other = om_make(m, "x", REMOTE_DIR, "root", "d", NULL, NULL);
	uint64_t cursor = 0;
	struct outbox_op op;
	bool conflict;

	ok(tf_write(f, "a", "one"));
	om_sync(f, m, &cursor, 10);
	ok(tf_write(f, "a", "two"));
	op = tf_begun(f);
	assert_int_equal(outbox_settle(f->v, op.seq, &other->r, NULL, &conflict), CE_PROTOCOL);
	assert_int_equal(outbox_settle(f->v, op.seq, NULL, &other->r, &conflict), CE_PROTOCOL);
	outbox_op_done(&op);
	assert_journal(f, "PUT!");
	ok(tf_unlink(f, "a"));
	ok(tf_write(f, "b", "three"));
	ok(outbox_retry(f->v, op.seq, NOW + 1000000, 0, ""));
	op = tf_begun(f);
	om_delete(m, other, NULL);
	assert_int_equal(outbox_settle(f->v, op.seq, NULL, &other->r, &conflict), CE_PROTOCOL);
	outbox_op_done(&op);
	assert_journal(f, "PUT! DELETE PUT+:b!");
	om_free(m);
}

/* Deleted here while the answer was on its way. */
static void what_is_deleted_by_now_is_not_made_elsewhere(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct om_record *standing = om_make(m, "s", REMOTE_FILE, "root", "a", "theirs", NULL);
	uint64_t cursor = 0;
	struct outbox_op op;

	ok(tf_write(f, "a", "ours"));
	op = tf_begun(f);
	ok(tf_unlink(f, "a"));
	assert_false(settled(f, &op, NULL, &standing->r));
	om_sync(f, m, &cursor, 10);
	assert_int_equal(om_compare(f, m), 1);
	assert_string_equal(om_at(m, "root", "a")->content, "theirs");
	om_free(m);
}

/* Renamed while the answer was on its way: the place that is taken is not the one it stands in now.
 */
static void what_was_renamed_meanwhile_is_made_where_it_is(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct om_record *standing = om_make(m, "s", REMOTE_FILE, "root", "a", "theirs", NULL);
	uint64_t cursor = 0;
	struct outbox_op op;

	ok(tf_write(f, "a", "ours"));
	op = tf_begun(f);
	ok(tf_rename(f, "a", "b", 0));
	assert_false(settled(f, &op, NULL, &standing->r));
	om_sync(f, m, &cursor, 10);
	assert_int_equal(om_compare(f, m), 2);
	assert_string_equal(om_at(m, "root", "b")->content, "ours");
	om_free(m);
}

/* A directory, too; but what stood there goes into it, and each would wait for the other. */
static void what_goes_into_a_directory_does_not_wait_for_its_place(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;

	ok(tf_mkdir(f, "x"));
	om_sync(f, m, &cursor, 10);
	om_make(m, "s", REMOTE_DIR, "root", "y", "", NULL);
	ok(tf_mkdir(f, "y"));
	ok(tf_rename(f, "y", "x", RENAME_EXCHANGE));
	ok(tf_rename(f, "y", "x/e", 0));
	om_sync(f, m, &cursor, 20);
	assert_int_equal(om_compare(f, m), 3);
	assert_int_not_equal(tf_at(f, "x/e"), 0);
	om_free(m);
}

/* What was to be made in it has left it and is gone: nobody knows what it leaves, and all that
 * comes later waits; but not the directory. */
static void a_directory_does_not_wait_for_what_waits_for_it(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct om_record *standing = om_make(m, "s", REMOTE_FILE, "root", "n", "theirs", NULL);
	uint64_t cursor = 0, wait;
	struct outbox_op ops[4];
	bool conflict;
	size_t n;

	ok(tf_mkdir(f, "n"));
	ok(tf_mkdir(f, "n/b"));
	ok(outbox_next(f->v, NOW, 0, ops, ARRAY_SIZE(ops), &n, &wait));
	assert_int_equal(n, 2);
	ok(outbox_begin(f->v, ops, n));
	ok(tf_rename(f, "n/b", "b", 0));
	ok(tf_rmdir(f, "b"));
	ok(tf_rename(f, "n", "m", 0));
	ok(outbox_settle(f->v, ops[0].seq, NULL, &standing->r, &conflict));
	om_sync(f, m, &cursor, 10);
	assert_int_equal(om_compare(f, m), 2);
	om_free(m);
}

/* It waits for its place while another changes its mode: its content can still be fetched. */
static void the_content_of_what_waits_for_its_place_follows_its_record(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct om_record *g = om_make(m, "g", REMOTE_FILE, "root", "g", "A", NULL);
	uint64_t cursor = 0;
	struct outbox_op op;

	om_sync(f, m, &cursor, 10);
	ok(tf_write(f, "g", "ours"));
	op = tf_begun(f);
	om_make(m, "n", REMOTE_DIR, "root", "n", NULL, NULL);
	snprintf(g->r.parent, sizeof(g->r.parent), "n");
	snprintf(g->content, sizeof(g->content), "theirs");
	om_changed(m, g, NULL);
	(void)settled(f, &op, &g->r, NULL);
	g->r.mode = 0600;
	om_changed(m, g, NULL);
	om_sync(f, m, &cursor, 10);
	assert_int_equal(om_compare(f, m), 3);
	om_free(m);
}

/* Made, and renamed over a record before the answer came: the place it was to be made in is taken.
 */
static void what_replaces_a_record_by_now_is_made_apart(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct om_record *standing;
	uint64_t cursor = 0;
	struct outbox_op op;

	ok(tf_mkdir(f, "over"));
	om_sync(f, m, &cursor, 10);
	ok(tf_mkdir(f, "new"));
	op = tf_begun(f);
	standing = om_make(m, "s", REMOTE_FILE, "root", "new", "theirs", NULL);
	ok(tf_rename(f, "new", "over", 0));
	(void)settled(f, &op, NULL, &standing->r);
	om_sync(f, m, &cursor, 10);
	assert_int_equal(om_compare(f, m), 2);
	assert_int_equal(om_at(m, "root", "over")->r.kind, REMOTE_DIR);
	assert_string_equal(om_at(m, "root", "new")->content, "theirs");
	om_free(m);
}

/* Both moved it to one place, and the other changed its mode before: no conflict, and the mode
 * counts. */
static void a_move_to_where_another_moved_it_takes_the_rest(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct om_record *a = om_make(m, "r", REMOTE_FILE, "root", "a", "A", NULL);
	uint64_t cursor = 0;
	struct outbox_op op;

	om_sync(f, m, &cursor, 10);
	ok(tf_rename(f, "a", "b", 0));
	snprintf(a->r.name, sizeof(a->r.name), "b");
	a->r.mode = 0600;
	om_changed(m, a, NULL);
	op = tf_begun(f);
	assert_false(settled(f, &op, &a->r, NULL));
	om_sync(f, m, &cursor, 10);
	assert_int_equal(om_compare(f, m), 1);
	om_free(m);
}

/* Our move was done and its answer lost, the origin has forgotten its key, another changed the
 * mode, and here it was renamed on: that is no conflict of two moves, and the last name counts. */
static void a_move_whose_answer_was_lost_does_not_undo_the_next(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct om_record *a = om_make(m, "r", REMOTE_FILE, "root", "a", "A", NULL);
	uint64_t cursor = 0;
	struct outbox_op op;
	bool conflict;

	om_sync(f, m, &cursor, 10);
	ok(tf_rename(f, "a", "b", 0));
	op = tf_begun(f);
	snprintf(a->r.name, sizeof(a->r.name), "b");
	om_changed(m, a, op.key);
	a->r.mode = 0600;
	om_changed(m, a, NULL);
	ok(tf_rename(f, "b", "c", 0));
	ok(outbox_settle(f->v, op.seq, &a->r, NULL, &conflict));
	assert_false(conflict);
	outbox_op_done(&op);
	om_sync(f, m, &cursor, 10);
	assert_int_equal(om_compare(f, m), 1);
	assert_non_null(om_at(m, "root", "c"));
	om_free(m);
}

/* What was edited, or touched, here was made private there: it stays private. What was set here
 * counts. */
static void a_mode_that_was_set_there_survives_what_was_not_about_it(void **state)
{
	static const struct {
		const char *content;
		bool touch;
		uint32_t mode, result;
	} cases[] = { { "ours", false, 0, 0600 }, { "ours", true, 0, 0600 },
		{ NULL, true, 0, 0600 }, { "ours", false, 0640, 0640 },
		{ NULL, true, 0640, 0640 } };
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct tree_attr a, set = { .mtime_ns = 7000 };
	uint64_t cursor = 0;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char name[2] = { (char)('a' + i), 0 };
		struct om_record *rec = om_make(m, name, REMOTE_FILE, "root", name, "base", NULL);

		om_sync(f, m, &cursor, 10);
		set.mode = cases[i].mode;
		a = tf_attr(f, name);
		if (set.mode)
			ok(tree_setattr(f->v, a.object, a.version, &set, TREE_SET_MODE, &a));
		if (cases[i].content)
			ok(tf_write(f, name, cases[i].content));
		if (cases[i].touch)
			ok(tree_setattr(f->v, a.object, a.version, &set, TREE_SET_MTIME, &a));
		rec->r.mode = 0600;
		om_changed(m, rec, NULL);
		om_sync(f, m, &cursor, 10);
		assert_int_equal(rec->r.mode, cases[i].result);
		assert_int_equal(tf_attr(f, name).mode & 07777, cases[i].result);
		assert_string_equal(rec->content, cases[i].content ? cases[i].content : "base");
	}
	assert_int_equal(m->conflicts, 0);
	assert_int_equal(om_compare(f, m), ARRAY_SIZE(cases));
	om_free(m);
}

/* Saved as an editor does, by a new file renamed over the old one: its mode is news only if it is
 * another. A second 412 does not forget whose it is. */
static void a_mode_survives_a_file_that_is_saved_anew(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct tree_attr a, set = { .mode = 0640 };
	uint64_t cursor = 0;

	for (int own = 0; own < 2; own++) {
		const char *name = own ? "b" : "a";
		struct om_record *rec = om_make(m, name, REMOTE_FILE, "root", name, "base", NULL);

		om_sync(f, m, &cursor, 10);
		ok(tf_write(f, "new", "ours"));
		a = tf_attr(f, "new");
		if (own)
			ok(tree_setattr(f->v, a.object, a.version, &set, TREE_SET_MODE, &a));
		ok(tf_rename(f, "new", name, 0));
		for (uint32_t mode = 0604; mode != 0600; mode -= 2) {
			rec->r.mode = mode - 2;
			om_changed(m, rec, NULL);
			om_push_once(f, m, 1);
		}
		om_sync(f, m, &cursor, 10);
		assert_int_equal(rec->r.mode, own ? 0640 : 0600);
		assert_string_equal(rec->content, "ours");
	}
	assert_int_equal(om_compare(f, m), 2);
	om_free(m);
}

/* Both wrote the same, and each set a mode: the content is there already, ours is still to be sent.
 */
static void a_mode_outlives_the_edit_it_came_with(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct om_record *rec = om_make(m, "r", REMOTE_FILE, "root", "a", "base", NULL);
	struct tree_attr a, set = { .mode = 0640 };
	uint64_t cursor = 0;

	om_sync(f, m, &cursor, 10);
	ok(tf_write(f, "a", "same"));
	a = tf_attr(f, "a");
	ok(tree_setattr(f->v, a.object, a.version, &set, TREE_SET_MODE, &a));
	snprintf(rec->content, sizeof(rec->content), "same");
	rec->r.mode = 0600;
	om_changed(m, rec, NULL);
	om_sync(f, m, &cursor, 10);
	assert_int_equal(rec->r.mode, 0640);
	assert_int_equal(om_compare(f, m), 1);
	assert_int_equal(m->conflicts, 0);
	om_free(m);
}

/* A rename over a record, and a third stands there: that one keeps its name, ours and the deletion
 * of the other go on by themselves. */
static void a_rename_over_a_place_that_a_third_took(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct om_record *b, *third;
	uint64_t cursor = 0;
	struct outbox_op op;

	ok(tf_write(f, "a", "A"));
	ok(tf_write(f, "b", "B"));
	ok(tf_mkdir(f, "d"));
	ok(tf_mkdir(f, "e"));
	om_sync(f, m, &cursor, 10);
	ok(tf_rename(f, "d", "e", 0));
	b = om_at(m, "root", "e");
	snprintf(b->r.name, sizeof(b->r.name), "elsewhere");
	om_changed(m, b, NULL);
	third = om_make(m, "third", REMOTE_FILE, "root", "e", "third", NULL);
	op = tf_begun(f);
	assert_int_equal(op.kind, OUTBOX_MOVE);
	(void)settled(f, &op, NULL, &third->r);
	om_sync(f, m, &cursor, 10);
	om_compare(f, m);
	assert_string_equal(om_at(m, "root", "e")->content, "third");
	om_free(m);
}

/* Two names were exchanged here, and one of the records is deleted there: the exchange cannot be,
 * the other is where the origin has it, and people are told. */
static void half_of_an_exchange_goes_home(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;

	ok(tf_write(f, "a", "A"));
	ok(tf_write(f, "b", "B"));
	om_sync(f, m, &cursor, 10);
	ok(tf_rename(f, "a", "b", RENAME_EXCHANGE));
	om_delete(m, om_at(m, "root", "a"), NULL);
	om_pull(f, m, &cursor, 10);
	om_sync(f, m, &cursor, 10);
	assert_int_equal(om_compare(f, m), 1);
	assert_string_equal(om_at(m, "root", "b")->content, "B");
	assert_int_equal(m->conflicts, 1);
	om_free(m);
}

/* One of two exchanged records is written to, and deleted there: the edit is made anew, under the
 * name it has here, and the other follows its half of the exchange alone. */
static void an_edit_in_an_exchange_outlives_the_deletion(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;
	unsigned found = 0;

	ok(tf_write(f, "a", "A"));
	ok(tf_write(f, "b", "B"));
	om_sync(f, m, &cursor, 10);
	ok(tf_write(f, "a", "edited"));
	ok(tf_rename(f, "a", "b", RENAME_EXCHANGE));
	om_delete(m, om_at(m, "root", "a"), NULL);
	om_sync(f, m, &cursor, 10);
	assert_int_equal(om_compare(f, m), 2);
	for (size_t i = 0; i < m->n; i++)
		found += !m->rec[i].r.deleted &&
			 (!strcmp(m->rec[i].content, "edited") || !strcmp(m->rec[i].content, "B"));
	assert_int_equal(found, 2);
	om_free(m);
}

static int next_seq(void *arg, const struct outbox_op *op, const char *path)
{
	*(uint64_t *)arg = op->seq;
	return 1;
}

/* Given up by a person, an exchange stays here and goes nowhere. */
static void an_exchange_that_is_dropped_is_not_half_done_there(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0, seq;

	ok(tf_write(f, "a", "A"));
	ok(tf_write(f, "b", "B"));
	om_sync(f, m, &cursor, 10);
	ok(tf_rename(f, "a", "b", RENAME_EXCHANGE));
	ok(outbox_each(f->v, next_seq, &seq));
	ok(outbox_drop(f->v, seq));
	om_sync(f, m, &cursor, 10);
	assert_string_equal(om_at(m, "root", "a")->content, "A");
	assert_string_equal(om_at(m, "root", "b")->content, "B");
	om_free(m);
}

static void apply_one(struct tree_fixture *f, struct remote_record *r, struct remote_report *report)
{
	ok(remote_apply(f->v, f->store, r, 1, "c", false, report));
}

/* What waited for its parent belongs to the feed from before: what the listing does not say is not
 * there. */
static void what_waited_before_a_listing_does_not_come_back(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record child = { .id = "child",
		.parent = "dir",
		.name = "child",
		.etag = "\"1\"",
		.seq = 1 },
			     dir = { .id = "dir",
				     .parent = "root",
				     .name = "dir",
				     .etag = "\"2\"",
				     .kind = REMOTE_DIR,
				     .mode = 0755,
				     .seq = 2 };
	struct remote_report report;

	apply_one(f, &child, &report);
	assert_int_equal(report.deferred, 1);
	ok(remote_listing_begin(f->v, f->store));
	apply_one(f, &dir, &report);
	ok(remote_listing_end(f->v, f->store, false, &report));
	ok(remote_retry_deferred(f->v, &report));
	assert_int_not_equal(tf_at(f, "dir"), 0);
	assert_int_equal(tf_at(f, "dir/child"), 0);
}

/* Gone by a listing, and somebody is about to write: it goes when he has closed it, unless he
 * wrote. */
static void a_file_with_a_writer_goes_after_the_listing(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record r = {
		.id = "r", .parent = "root", .name = "a", .etag = "\"1\"", .mode = 0644, .seq = 1
	};
	struct remote_report report;
	struct tree_attr a;
	struct file *writer;

	apply_one(f, &r, &report);
	a = tf_attr(f, "a");
	ok(file_open(f->v, a.object, a.version, true, &writer));
	ok(remote_listing_begin(f->v, f->store));
	ok(remote_listing_end(f->v, f->store, false, &report));
	assert_int_not_equal(tf_at(f, "a"), 0);
	file_unref(writer, true);
	ok(remote_retry_deferred(f->v, &report));
	assert_int_equal(tf_at(f, "a"), 0);
}

/* A second name of a file whose content is at the origin alone: nothing to send it from. */
static void content_that_is_not_here_is_not_linked(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_record r = { .id = "r",
		.parent = "root",
		.name = "a",
		.etag = "\"1\"",
		.size = 300000,
		.mode = 0644,
		.seq = 1 };
	struct remote_report report;

	apply_one(f, &r, &report);
	assert_int_equal(tf_link(f, "a", "b"), CE_ABSENT);
	assert_int_equal(tf_at(f, "b"), 0);
	assert_journal(f, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tf_test(an_origin_without_a_root_is_refused),
		tf_test(an_origin_that_never_knows_the_directory_is_not_asked_for_ever),
		tf_test(an_answer_about_something_else_changes_nothing),
		tf_test(what_is_deleted_by_now_is_not_made_elsewhere),
		tf_test(what_was_renamed_meanwhile_is_made_where_it_is),
		tf_test(what_goes_into_a_directory_does_not_wait_for_its_place),
		tf_test(a_directory_does_not_wait_for_what_waits_for_it),
		tf_test(the_content_of_what_waits_for_its_place_follows_its_record),
		tf_test(what_replaces_a_record_by_now_is_made_apart),
		tf_test(a_move_to_where_another_moved_it_takes_the_rest),
		tf_test(a_move_whose_answer_was_lost_does_not_undo_the_next),
		tf_test(a_mode_that_was_set_there_survives_what_was_not_about_it),
		tf_test(a_mode_survives_a_file_that_is_saved_anew),
		tf_test(a_mode_outlives_the_edit_it_came_with),
		tf_test(a_rename_over_a_place_that_a_third_took),
		tf_test(half_of_an_exchange_goes_home),
		tf_test(an_edit_in_an_exchange_outlives_the_deletion),
		tf_test(an_outage_is_no_reason_to_refuse),
		tf_test(an_exchange_that_is_dropped_is_not_half_done_there),
		tf_test(what_waited_before_a_listing_does_not_come_back),
		tf_test(a_file_with_a_writer_goes_after_the_listing),
		tf_test(content_that_is_not_here_is_not_linked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
