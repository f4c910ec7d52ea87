/* What the sender is given, and when; what people may do with the journal. */
#include "origin_model.h"
#include "outbox_batch.h"

#include "cache/merge.h"
#include "cache/space.h"

static void chmod_here(struct tree_fixture *f, const char *path, uint32_t mode)
{
	struct tree_attr a = tf_attr(f, path), set = { .mode = mode };

	ok(tree_setattr(f->v, a.object, a.version, &set, TREE_SET_MODE, &a));
}

static void a_child_goes_behind_its_directory(void **state)
{
	struct tree_fixture *f = *state;
	struct batch b;

	ok(tf_mkdir(f, "d"));
	ok(tf_mkdir(f, "d/e"));
	ok(tf_create(f, "d/e/a"));
	ok(tf_create(f, "x"));
	next(f, &b);
	assert_int_equal(b.n, 4);
	assert_int_equal(b.ops[0].after, -1);
	assert_int_equal(b.ops[1].after, 0);
	assert_int_equal(b.ops[2].after, 1);
	assert_int_equal(b.ops[3].after, -1);
	assert_string_equal(b.ops[0].parent, "root");
	assert_string_equal(b.ops[1].parent, b.ops[0].rid);
	ok(outbox_begin(f->v, b.ops, 1));
	done(&b);
	/* The directory is on its way: what is made in it now waits for its answer. */
	next(f, &b);
	assert_int_equal(b.n, 2);
	assert_int_equal(b.ops[0].state, OUTBOX_INFLIGHT);
	assert_string_equal(b.ops[1].name, "x");
	done(&b);
}

static void a_place_is_filled_after_it_was_left(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;
	struct batch b;

	ok(tf_create(f, "a"));
	om_sync(f, m, &cursor, 10);
	ok(tf_rename(f, "a", "b", 0));
	ok(tf_create(f, "a"));
	next(f, &b);
	assert_int_equal(b.n, 1);
	assert_int_equal(b.ops[0].kind, OUTBOX_MOVE);
	done(&b);
	om_sync(f, m, &cursor, 10);
	assert_int_equal(m->conflicts, 0);
	om_compare(f, m);
	om_free(m);
}

static void a_directory_is_deleted_after_what_was_in_it(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;
	struct batch b;

	ok(tf_mkdir(f, "d"));
	ok(tf_create(f, "d/a"));
	ok(tf_create(f, "d/b"));
	om_sync(f, m, &cursor, 10);
	ok(tf_unlink(f, "d/a"));
	ok(tf_rename(f, "d/b", "b", 0));
	ok(tf_rmdir(f, "d"));
	next(f, &b);
	assert_int_equal(b.n, 2);
	done(&b);
	om_sync(f, m, &cursor, 10);
	assert_int_equal(m->conflicts, 0);
	om_compare(f, m);
	om_free(m);
}

/* Else it would be moved into its own child, which is still to leave it. */
static void a_directory_that_is_gone_here_moves_behind_the_others(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;

	ok(tf_mkdir(f, "x"));
	ok(tf_mkdir(f, "b"));
	ok(tf_mkdir(f, "b/a"));
	om_sync(f, m, &cursor, 10);
	ok(tf_rename(f, "x", "y", 0));
	ok(tf_rename(f, "b/a", "a", 0));
	ok(tf_rename(f, "b", "a/b", 0));
	ok(tf_rmdir(f, "a/b"));
	om_sync(f, m, &cursor, 10);
	assert_int_equal(m->conflicts, 0);
	om_compare(f, m);
	om_free(m);
}

static void a_refused_operation_stops_only_what_depends_on_it(void **state)
{
	struct tree_fixture *f = *state;
	struct outbox_counts c;
	struct batch b;
	uint64_t refused;

	ok(tf_mkdir(f, "d"));
	ok(tf_create(f, "d/a"));
	ok(tf_create(f, "x"));
	next(f, &b);
	ok(outbox_begin(f->v, b.ops, b.n));
	refused = b.ops[0].seq;
	ok(outbox_refuse(f->v, refused, 400, "no such name"));
	ok(outbox_refuse(f->v, b.ops[1].seq, 424, "dependency"));
	ok(outbox_requeue(f->v, b.ops[1].seq));
	done(&b);
	next(f, &b);
	assert_int_equal(b.n, 1);
	assert_string_equal(b.ops[0].name, "x");
	done(&b);
	ok(outbox_counts(f->v, &c));
	assert_int_equal(c.refused, 1);
	assert_int_equal(c.inflight, 1);
	ok(outbox_requeue(f->v, refused));
	assert_int_equal(outbox_requeue(f->v, refused), -EINVAL);
	next(f, &b);
	assert_int_equal(b.n, 3);
	done(&b);
}

static void a_refused_write_is_tried_again_with_the_next_one(void **state)
{
	struct tree_fixture *f = *state;
	struct batch b;
	uint8_t key[16];

	ok(tf_write(f, "a", "too large"));
	next(f, &b);
	ok(outbox_begin(f->v, b.ops, 1));
	memcpy(key, b.ops[0].key, sizeof(key));
	ok(outbox_refuse(f->v, b.ops[0].seq, 413, "too large"));
	done(&b);
	ok(tf_write(f, "a", "small"));
	next(f, &b);
	assert_int_equal(b.n, 1);
	assert_int_not_equal(memcmp(key, b.ops[0].key, sizeof(key)), 0);
	done(&b);
}

static void a_held_operation_stops_only_what_depends_on_it(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0, seq;
	struct batch b;

	ok(tf_mkdir(f, "d"));
	next(f, &b);
	seq = b.ops[0].seq;
	done(&b);
	ok(outbox_hold(f->v, seq));
	ok(tf_create(f, "d/in"));
	ok(tf_create(f, "x"));
	next(f, &b);
	assert_int_equal(b.n, 1);
	assert_string_equal(b.ops[0].name, "x");
	done(&b);
	assert_int_equal(outbox_hold(f->v, seq), -EINVAL);
	ok(outbox_requeue(f->v, seq));
	om_sync(f, m, &cursor, 10);
	assert_int_equal(om_compare(f, m), 3);
	om_free(m);
}

static void a_held_write_stays_held_and_takes_the_next_one_in(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0, seq;
	struct batch b;

	ok(tf_create(f, "a"));
	next(f, &b);
	seq = b.ops[0].seq;
	done(&b);
	ok(outbox_hold(f->v, seq));
	ok(tf_write_object(f, tf_at(f, "a"), "later"));
	ok(tf_rename(f, "a", "b", 0));
	next(f, &b);
	assert_int_equal(b.n, 0);
	done(&b);
	ok(outbox_requeue(f->v, seq));
	om_sync(f, m, &cursor, 10);
	assert_int_equal(om_compare(f, m), 1);
	assert_string_equal(om_at(m, "root", "b")->content, "later");
	om_free(m);
}

static void what_is_in_flight_cannot_be_held(void **state)
{
	struct tree_fixture *f = *state;
	struct batch b;

	ok(tf_create(f, "a"));
	next(f, &b);
	ok(outbox_begin(f->v, b.ops, b.n));
	assert_int_equal(outbox_hold(f->v, b.ops[0].seq), -EBUSY);
	done(&b);
}

static void young_rows_wait(void **state)
{
	struct tree_fixture *f = *state;
	struct batch b;

	ok(tf_create(f, "a"));
	ok(outbox_next(f->v, NOW, 60000, b.ops, 8, &b.n, &b.wait));
	assert_int_equal(b.n, 0);
	assert_true(b.wait > 50000 && b.wait <= 60000);
	ok(outbox_next(f->v, NOW + 60000, 60000, b.ops, 8, &b.n, &b.wait));
	assert_int_equal(b.n, 1);
	done(&b);
	/* A clock that was set back does not hold them up. */
	ok(outbox_next(f->v, NOW - 86400000, 60000, b.ops, 8, &b.n, &b.wait));
	assert_int_equal(b.n, 1);
	done(&b);
}

static void a_row_in_flight_is_sent_again_as_it_was(void **state)
{
	struct tree_fixture *f = *state;
	struct tree_attr a, set = { .mode = 0600 };
	struct batch b;
	uint8_t key[16];
	uint32_t mode;

	ok(tf_write(f, "a", "one"));
	next(f, &b);
	ok(outbox_begin(f->v, b.ops, 1));
	memcpy(key, b.ops[0].key, sizeof(key));
	mode = b.ops[0].mode;
	assert_int_equal(b.ops[0].attempts, 1);
	done(&b);
	a = tf_attr(f, "a");
	ok(tree_setattr(f->v, a.object, a.version, &set, TREE_SET_MODE, &a));
	ok(tf_unlink(f, "a"));
	tf_reopen(f);
	next(f, &b);
	assert_int_equal(b.n, 1);
	assert_memory_equal(key, b.ops[0].key, sizeof(key));
	assert_int_equal(b.ops[0].mode, mode);
	assert_int_equal(b.ops[0].size, 3);
	ok(outbox_begin(f->v, b.ops, 1));
	assert_int_equal(b.ops[0].attempts, 2);
	done(&b);
}

static void a_symlink_in_flight_is_sent_again_as_it_was(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0, ids[4];
	struct batch b;

	ok(tf_symlink(f, "l", "else/where"));
	next(f, &b);
	ok(outbox_begin(f->v, b.ops, b.n));
	(void)om_send(m, &b.ops[0], "else/where");
	done(&b);
	ok(tf_unlink(f, "l"));
	tf_reopen(f);
	next(f, &b);
	assert_int_equal(b.n, 1);
	assert_string_equal(b.ops[0].target, "else/where");
	done(&b);
	om_sync(f, m, &cursor, 10);
	assert_int_equal(om_compare(f, m), 0);
	/* Nothing of it is left here. */
	db_read(f->v->db);
	assert_int_equal(object_unlinked(f->v->db, ids, 4), 0);
	ok(object_count(f->v->db, f->store, ids));
	db_unlock(f->v->db);
	assert_int_equal(ids[0], 1);
	om_free(m);
}

/* The origin did it, the answer was lost, and the key with it: the 412 is met by our own change. */
static void a_swap_sent_twice_over_a_lost_key_ends_swapped(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;
	struct om_answer a;
	struct batch b;

	ok(tf_create(f, "a"));
	ok(tf_write_object(f, tf_at(f, "a"), "A"));
	ok(tf_create(f, "b"));
	ok(tf_write_object(f, tf_at(f, "b"), "B"));
	om_sync(f, m, &cursor, 10);
	ok(tf_rename(f, "a", "b", RENAME_EXCHANGE));
	next(f, &b);
	assert_int_equal(b.n, 1);
	assert_int_equal(b.ops[0].kind, OUTBOX_SWAP);
	ok(outbox_begin(f->v, b.ops, 1));
	assert_int_equal(om_send(m, &b.ops[0], "").status, 200);
	m->n_keys = 0;
	a = om_send(m, &b.ops[0], "");
	assert_int_equal(a.status, 412);
	ok(om_settle(f, m, &b.ops[0], &a));
	done(&b);
	om_sync(f, m, &cursor, 10);
	assert_int_equal(om_compare(f, m), 2);
	assert_string_equal(om_at(m, "root", "a")->content, "B");
	om_free(m);
}

/* The feed's page of the creations is late: what it says of a record in a swap waits, and is not
 * believed after a restart. */
static void a_late_page_does_not_undo_a_swap_after_a_restart(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;

	ok(tf_write(f, "a", "A"));
	ok(tf_write(f, "b", "B"));
	while (om_push_once(f, m, 64))
		;
	ok(tf_rename(f, "a", "b", RENAME_EXCHANGE));
	om_pull(f, m, &cursor, 10);
	om_push_once(f, m, 64);
	om_pull(f, m, &cursor, 10);
	tf_reopen(f);
	om_sync(f, m, &cursor, 10);
	assert_int_equal(om_compare(f, m), 2);
	assert_string_equal(om_at(m, "root", "a")->content, "B");
	assert_int_equal(m->conflicts, 0);
	om_free(m);
}

static void what_was_folded_away_meanwhile_is_not_begun(void **state)
{
	struct tree_fixture *f = *state;
	struct batch b;

	ok(tf_create(f, "a"));
	ok(tf_mkdir(f, "d"));
	ok(tf_create(f, "d/b"));
	next(f, &b);
	assert_int_equal(b.n, 3);
	ok(tf_unlink(f, "a"));
	ok(tf_rename(f, "d", "e", 0));
	ok(outbox_begin(f->v, b.ops, b.n));
	assert_int_equal(b.ops[0].seq, 0);
	assert_int_equal(b.ops[1].seq, 0);
	assert_int_equal(b.ops[2].seq, 0);
	done(&b);
	assert_journal(f, "PUT+:e PUT+:b");
}

static void an_answer_that_comes_twice_is_taken_once(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct outbox_answer ack;
	struct om_answer a;
	struct batch b;

	ok(tf_create(f, "a"));
	next(f, &b);
	ok(outbox_begin(f->v, b.ops, 1));
	a = om_send(m, &b.ops[0], "");
	ack = (struct outbox_answer){ .seq = b.ops[0].seq, .record = &a.record.r };
	ok(outbox_ack(f->v, &ack, 1));
	ok(outbox_ack(f->v, &ack, 1));
	done(&b);
	assert_journal(f, "");
	om_free(m);
}

static void a_dropped_creation_stays_local_with_all_inside(void **state)
{
	struct tree_fixture *f = *state;
	struct batch b;

	ok(tf_mkdir(f, "d"));
	ok(tf_create(f, "d/a"));
	next(f, &b);
	ok(outbox_drop(f->v, b.ops[0].seq));
	done(&b);
	assert_journal(f, "");
	assert_int_not_equal(tf_at(f, "d/a"), 0);
	ok(tf_write(f, "d/a", "1"));
	ok(tf_create(f, "d/b"));
	assert_journal(f, "");
}

static void what_is_in_flight_cannot_be_dropped(void **state)
{
	struct tree_fixture *f = *state;
	struct batch b;

	ok(tf_create(f, "a"));
	next(f, &b);
	ok(outbox_begin(f->v, b.ops, 1));
	assert_int_equal(outbox_drop(f->v, b.ops[0].seq), -EBUSY);
	assert_int_equal(outbox_drop(f->v, 999), -ENOENT);
	done(&b);
}

static int collect(void *arg, const struct outbox_op *op, const char *path)
{
	strcat(arg, path);
	strcat(arg, " ");
	return 0;
}

static void the_journal_tells_paths(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;
	char text[256] = "";

	ok(tf_mkdir(f, "d"));
	ok(tf_create(f, "d/gone"));
	om_sync(f, m, &cursor, 10);
	ok(tf_unlink(f, "d/gone"));
	ok(tf_create(f, "d/new"));
	ok(outbox_each(f->v, collect, text));
	assert_string_equal(text, "records/d/gone records/d/new ");
	om_free(m);
}

static int count_conflict(void *arg, const struct outbox_conflict *c)
{
	assert_string_equal(c->kind, "edit-edit");
	*(uint64_t *)arg = c->id;
	return 0;
}

static void both_edits_survive_and_are_listed(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0, id = 0;
	struct om_record *r;
	struct merge *merge;

	ok(tf_write(f, "doc.txt", "base"));
	om_sync(f, m, &cursor, 10);
	r = om_at(m, "root", "doc.txt");
	snprintf(r->content, sizeof(r->content), "theirs");
	om_changed(m, r, NULL);
	ok(tf_write(f, "doc.txt", "ours"));
	om_sync(f, m, &cursor, 10);
	om_compare(f, m);
	assert_string_equal(om_at(m, "root", "doc.txt")->content, "theirs");
	assert_int_equal(m->n, 2);
	assert_string_equal(m->rec[1].content, "ours");
	ok(outbox_conflicts(f->v, true, count_conflict, &id));
	assert_int_not_equal(id, 0);
	ok(merge_open(f->v, id, &merge));
	ok(merge_take(merge, MERGE_PICK_BOTH, NULL, 0));
	merge_free(merge);
	assert_int_equal(merge_open(f->v, id, &merge), -ENOENT);
	id = 0;
	ok(outbox_conflicts(f->v, true, count_conflict, &id));
	assert_int_equal(id, 0);
	om_free(m);
}

static void equal_edits_are_adopted(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;
	struct om_record *r;

	ok(tf_write(f, "doc", "base"));
	om_sync(f, m, &cursor, 10);
	r = om_at(m, "root", "doc");
	snprintf(r->content, sizeof(r->content), "same");
	om_changed(m, r, NULL);
	om_make(m, "r2", REMOTE_FILE, "root", "new", "same too", NULL);
	ok(tf_write(f, "doc", "same"));
	ok(tf_write(f, "new", "same too"));
	om_sync(f, m, &cursor, 10);
	assert_int_equal(m->conflicts, 0);
	assert_int_equal(m->n, 2);
	om_compare(f, m);
	om_free(m);
}

static void an_edit_beats_a_deletion_on_either_side(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;
	struct om_record *r;

	ok(tf_write(f, "mine", "base"));
	ok(tf_write(f, "theirs", "base"));
	om_sync(f, m, &cursor, 10);
	om_delete(m, om_at(m, "root", "mine"), NULL);
	r = om_at(m, "root", "theirs");
	snprintf(r->content, sizeof(r->content), "edited");
	om_changed(m, r, NULL);
	ok(tf_write(f, "mine", "edited"));
	ok(tf_unlink(f, "theirs"));
	om_sync(f, m, &cursor, 10);
	assert_int_equal(m->conflicts, 2);
	om_compare(f, m);
	assert_string_equal(om_at(m, "root", "mine")->content, "edited");
	assert_string_equal(om_at(m, "root", "theirs")->content, "edited");
	om_free(m);
}

/* The answer to the making of "a", where `r` stands. It is not told to the outbox yet. */
static struct om_answer refused_place(struct tree_fixture *f, struct origin_model *m, uint64_t *seq)
{
	struct om_answer a;
	struct batch b;

	ok(tf_create(f, "a"));
	ok(tf_write_object(f, tf_at(f, "a"), "ours"));
	next(f, &b);
	ok(outbox_begin(f->v, b.ops, b.n));
	a = om_send(m, &b.ops[0], "ours");
	*seq = b.ops[0].seq;
	done(&b);
	assert_string_equal(a.type, "place-taken");
	return a;
}

static void an_old_refusal_does_not_bring_back_what_is_gone(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct om_record *r = om_make(m, "r", REMOTE_FILE, "root", "a", "theirs", NULL);
	uint64_t cursor = 0, seq;
	struct om_answer a = refused_place(f, m, &seq);
	bool conflict;

	om_delete(m, r, NULL);
	om_pull(f, m, &cursor, 10);
	ok(outbox_settle(f->v, seq, NULL, &a.record.r, &conflict));
	assert_false(conflict);
	om_sync(f, m, &cursor, 10);
	assert_int_equal(om_compare(f, m), 1);
	om_free(m);
}

static void a_symlink_in_the_way_waits_for_its_target(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0, seq;
	struct om_answer a;
	bool conflict;

	om_make(m, "r", REMOTE_SYMLINK, "root", "a", "else/where", NULL);
	a = refused_place(f, m, &seq);
	a.record.r.target = NULL; /* answers have none */
	ok(outbox_settle(f->v, seq, NULL, &a.record.r, &conflict));
	assert_false(conflict);
	om_sync(f, m, &cursor, 10);
	assert_int_equal(om_compare(f, m), 2);
	om_free(m);
}

static void a_directory_deleted_there_is_made_again_for_unsent_work(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;

	ok(tf_mkdir(f, "d"));
	ok(tf_mkdir(f, "d/e"));
	om_sync(f, m, &cursor, 10);
	om_delete(m, om_at(m, om_at(m, "root", "d")->r.id, "e"), NULL);
	om_delete(m, om_at(m, "root", "d"), NULL);
	ok(tf_write(f, "d/e/a", "work"));
	/* The origin's answer comes before its feed. */
	for (int i = 0; i < 10; i++)
		om_push_once(f, m, 10);
	om_sync(f, m, &cursor, 10);
	om_compare(f, m);
	assert_int_not_equal(tf_at(f, "d/e/a"), 0);
	om_free(m);
}

/* c moved into y, another c was made, and the two directories changed places: the one that is gone
 * there would be made where the file leaves, which waits for the directory. */
static void a_directory_made_again_waits_for_nobody_who_waits_for_it(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;

	ok(tf_mkdir(f, "y"));
	ok(tf_write(f, "c", "file"));
	om_sync(f, m, &cursor, 10);
	om_delete(m, om_at(m, "root", "y"), NULL);
	ok(tf_rename(f, "c", "y/a", 0));
	ok(tf_write(f, "y/e", "new"));
	ok(tf_mkdir(f, "c"));
	ok(tf_rename(f, "y", "c", RENAME_EXCHANGE));
	om_sync(f, m, &cursor, 10);
	assert_int_not_equal(tf_at(f, "c/a"), 0);
	assert_int_not_equal(tf_at(f, "c/e"), 0);
	om_compare(f, m);
	om_free(m);
}

/* The name waits for its place in a directory that was deleted here. Its mode is changed, and while
 * the answer is on its way the feed brings what another device did since: that is the last word. */
static void an_answer_does_not_overtake_an_entry_that_waits(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct outbox_answer answer;
	uint64_t cursor = 0;
	struct om_record *r, was;
	struct batch b;

	ok(tf_mkdir(f, "y"));
	ok(tf_write(f, "c", "first"));
	om_sync(f, m, &cursor, 10);
	r = om_at(m, "root", "c");
	snprintf(r->r.parent, sizeof(r->r.parent), "%s", om_at(m, "root", "y")->r.id);
	snprintf(r->r.name, sizeof(r->r.name), "a");
	om_changed(m, r, NULL);
	chmod_here(f, "c", 0640);
	ok(tf_rmdir(f, "y"));
	om_push_once(f, m, 64);
	next(f, &b);
	assert_int_equal(b.n, 1);
	assert_int_equal(b.ops[0].kind, OUTBOX_ATTR);
	ok(outbox_begin(f->v, b.ops, b.n));
	r->r.mode = 0640;
	om_changed(m, r, b.ops[0].key);
	was = *r;
	snprintf(r->content, sizeof(r->content), "second");
	om_changed(m, r, NULL);
	om_pull(f, m, &cursor, 10);
	answer = (struct outbox_answer){ b.ops[0].seq, &was.r };
	ok(outbox_ack(f->v, &answer, 1));
	done(&b);
	om_sync(f, m, &cursor, 10);
	om_compare(f, m);
	om_free(m);
}

/* Nothing is lost by it, so it is no conflict: the one that is sent later counts. */
static void of_two_modes_the_later_counts(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct om_record *r;
	uint64_t cursor = 0;

	ok(tf_write(f, "a", "text"));
	om_sync(f, m, &cursor, 10);
	r = om_at(m, "root", "a");
	r->r.mode = 0600;
	om_changed(m, r, NULL);
	chmod_here(f, "a", 0640);
	om_sync(f, m, &cursor, 10);
	assert_int_equal(m->conflicts, 0);
	assert_int_equal(r->r.mode, 0640);
	assert_int_equal(tf_attr(f, "a").mode & 07777, 0640);
	om_compare(f, m);
	om_free(m);
}

/* A line that loses much is no reason to give up: what counts is that the directory is made again.
 */
static void many_attempts_do_not_refuse_work_in_a_deleted_directory(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;
	struct batch b;

	ok(tf_mkdir(f, "d"));
	om_sync(f, m, &cursor, 10);
	om_delete(m, om_at(m, "root", "d"), NULL);
	ok(tf_write(f, "d/a", "work"));
	for (int i = 0; i < 30; i++) {
		next(f, &b);
		ok(outbox_begin(f->v, b.ops, b.n));
		ok(outbox_retry(f->v, b.ops[0].seq, 0, 0, "lost"));
		done(&b);
	}
	for (int i = 0; i < 10; i++)
		om_push_once(f, m, 10);
	om_sync(f, m, &cursor, 10);
	om_compare(f, m);
	assert_int_not_equal(tf_at(f, "d/a"), 0);
	om_free(m);
}

/* Each name is a record with an ETag of its own; a request names one of them and its ETag. */
static void a_hard_link_is_fetched_by_the_name_its_etag_belongs_to(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0, bytes = 0;
	struct file_range range;
	const struct om_record *r;
	struct tree_attr a;
	struct file *file;

	ok(tf_write(f, "a", "content"));
	ok(tree_link(f->v, tf_at(f, "a"), f->root, "b", &a));
	om_sync(f, m, &cursor, 10);
	ok(volume_sync(f->v));
	ok(space_drop(f->v, a.object, &bytes));
	ok(file_open(f->v, a.object, a.version, false, &file));
	ok(file_missing(file, 0, UINT64_MAX, UINT64_MAX, &range));
	file_unref(file, false);
	r = om_at(m, "root", "a");
	if (strcmp(r->r.id, range.rid))
		r = om_at(m, "root", "b");
	assert_string_equal(r->r.id, range.rid);
	assert_string_equal(r->r.etag, range.etag);
	om_free(m);
}

static int count_created(void *arg, const struct outbox_conflict *c)
{
	*(unsigned *)arg += !strcmp(c->kind, "create-create");
	return 0;
}

/* The name that is there counts; the other file is kept under a conflict name, at the origin too.
 */
static void names_that_an_origin_folds_become_two(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	unsigned listed = 0;
	uint64_t cursor = 0;

	m->folds = true;
	ok(tf_write(f, "README", "one"));
	om_sync(f, m, &cursor, 10);
	ok(tf_write(f, "ReadMe", "two"));
	ok(tf_write(f, "other", "three"));
	om_sync(f, m, &cursor, 10);
	om_compare(f, m);
	assert_int_equal(m->n, 3);
	assert_string_equal(om_at(m, "root", "readme")->content, "one");
	assert_int_equal(tf_at(f, "ReadMe"), 0);
	ok(outbox_conflicts(f->v, true, count_created, &listed));
	assert_int_equal(listed, 1);
	/* One file may change the case of its name. */
	ok(tf_rename(f, "README", "readme", 0));
	om_sync(f, m, &cursor, 10);
	om_compare(f, m);
	assert_string_equal(om_at(m, "root", "readme")->r.name, "readme");
	om_free(m);
}

/* Equal content does not make them one: the names differ. */
static void a_folded_name_made_on_both_sides_is_not_adopted(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;

	m->folds = true;
	om_make(m, "theirs", REMOTE_FILE, "root", "README", "same", NULL);
	ok(tf_write(f, "Readme", "same"));
	om_sync(f, m, &cursor, 10);
	om_compare(f, m);
	assert_int_equal(m->n, 2);
	assert_int_equal(tf_at(f, "Readme"), 0);
	assert_int_not_equal(tf_at(f, "README"), 0);
	om_free(m);
}

/* It stays here, is shown with the origin's word, holds up nothing, and goes when it is renamed. */
static void a_name_an_origin_cannot_have_waits_for_another(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct outbox_counts c;
	uint64_t cursor = 0;

	m->refuses = ":?";
	ok(tf_write(f, "a:b", "mine"));
	ok(tf_mkdir(f, "what?"));
	ok(tf_write(f, "what?/in", "inside"));
	ok(tf_write(f, "fine", "goes"));
	for (int round = 0; round < 4; round++) {
		om_push_once(f, m, 64);
		om_pull(f, m, &cursor, 10);
	}
	ok(outbox_counts(f->v, &c));
	assert_int_equal(c.refused, 2);
	assert_int_equal(c.queued + c.inflight, 1);
	assert_non_null(om_at(m, "root", "fine"));
	assert_int_equal(m->n, 1);
	ok(tf_rename(f, "a:b", "a-b", 0));
	ok(tf_rename(f, "what?", "what", 0));
	om_sync(f, m, &cursor, 10);
	om_compare(f, m);
	assert_string_equal(om_at(m, "root", "a-b")->content, "mine");
	assert_int_equal(m->n, 4);
	om_free(m);
}

/* The directory gives way to a file of that name and is queued anew; what lies in it was sent with
 * it. */
static void what_is_in_flight_does_not_overtake_its_directory(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	struct om_record *r = om_make(m, "theirs", REMOTE_FILE, "root", "d", "file", NULL);
	struct outbox_op ops[8];
	uint64_t wait, cursor = 0;
	bool conflict, seen = false;
	size_t n;

	ok(tf_write(f, "first", "x"));
	ok(tf_mkdir(f, "d"));
	ok(tf_write(f, "d/in", "inside"));
	ok(outbox_next(f->v, clock_wall_ns() / NS_PER_MS, 0, ops, 8, &n, &wait));
	assert_int_equal(n, 3);
	ok(outbox_begin(f->v, ops, n));
	ok(outbox_settle(f->v, ops[1].seq, NULL, &r->r, &conflict));
	assert_true(conflict);
	for (size_t i = 0; i < n; i++)
		outbox_op_done(&ops[i]);
	ok(outbox_next(f->v, clock_wall_ns() / NS_PER_MS, 0, ops, 8, &n, &wait));
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(ops[i].name, "in")) {
			assert_true(ops[i].after >= 0 && (size_t)ops[i].after < i);
			assert_int_equal(ops[ops[i].after].node_kind, REMOTE_DIR);
			seen = true;
		}
		outbox_op_done(&ops[i]);
	}
	assert_true(seen);
	om_sync(f, m, &cursor, 10);
	om_compare(f, m);
	om_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tf_test(a_child_goes_behind_its_directory),
		tf_test(a_place_is_filled_after_it_was_left),
		tf_test(a_directory_is_deleted_after_what_was_in_it),
		tf_test(a_directory_that_is_gone_here_moves_behind_the_others),
		tf_test(a_refused_operation_stops_only_what_depends_on_it),
		tf_test(a_refused_write_is_tried_again_with_the_next_one),
		tf_test(a_held_operation_stops_only_what_depends_on_it),
		tf_test(a_held_write_stays_held_and_takes_the_next_one_in),
		tf_test(what_is_in_flight_cannot_be_held),
		tf_test(young_rows_wait),
		tf_test(a_row_in_flight_is_sent_again_as_it_was),
		tf_test(a_symlink_in_flight_is_sent_again_as_it_was),
		tf_test(a_swap_sent_twice_over_a_lost_key_ends_swapped),
		tf_test(a_late_page_does_not_undo_a_swap_after_a_restart),
		tf_test(what_was_folded_away_meanwhile_is_not_begun),
		tf_test(an_answer_that_comes_twice_is_taken_once),
		tf_test(a_dropped_creation_stays_local_with_all_inside),
		tf_test(what_is_in_flight_cannot_be_dropped),
		tf_test(the_journal_tells_paths),
		tf_test(both_edits_survive_and_are_listed),
		tf_test(equal_edits_are_adopted),
		tf_test(an_edit_beats_a_deletion_on_either_side),
		tf_test(an_old_refusal_does_not_bring_back_what_is_gone),
		tf_test(a_symlink_in_the_way_waits_for_its_target),
		tf_test(a_directory_deleted_there_is_made_again_for_unsent_work),
		tf_test(a_directory_made_again_waits_for_nobody_who_waits_for_it),
		tf_test(an_answer_does_not_overtake_an_entry_that_waits),
		tf_test(of_two_modes_the_later_counts),
		tf_test(many_attempts_do_not_refuse_work_in_a_deleted_directory),
		tf_test(a_hard_link_is_fetched_by_the_name_its_etag_belongs_to),
		tf_test(what_is_in_flight_does_not_overtake_its_directory),
		tf_test(names_that_an_origin_folds_become_two),
		tf_test(a_folded_name_made_on_both_sides_is_not_adopted),
		tf_test(a_name_an_origin_cannot_have_waits_for_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
