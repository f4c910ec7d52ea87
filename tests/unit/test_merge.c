/*
 * Goal: a conflict is settled as a person or a rule says, in one step, from what both looked at:
 * nothing when one side changed meanwhile, nothing lost whatever is picked; and a merge gets the
 * base that both sides had.
 */
#include "origin_model.h"

#include "cache/merge.h"

struct conflicted {
	struct origin_model *m;
	uint64_t cursor, id;
	char copy[256]; /* our side's name */
};

static int note_id(void *arg, const struct outbox_conflict *c)
{
	*(uint64_t *)arg = c->id;
	return 0;
}

/* The last open conflict, 0: none. */
static uint64_t open_conflict(struct tree_fixture *f)
{
	uint64_t id = 0;

	ok(outbox_conflicts(f->v, true, note_id, &id));
	return id;
}

static void change_there(struct conflicted *c, const char *name, const char *content)
{
	struct om_record *r = om_at(c->m, "root", name);

	assert_non_null(r);
	snprintf(r->content, sizeof(r->content), "%s", content);
	om_changed(c->m, r, NULL);
}

static int find_copy(void *arg, const char *name, uint64_t cookie, const struct tree_attr *a)
{
	if (strstr(name, " (conflict test "))
		snprintf(arg, 256, "%s", name);
	return 0;
}

/* doc.txt was "base", there it is "theirs" and here "ours". */
static void begin(struct tree_fixture *f, struct conflicted *c)
{
	*c = (struct conflicted){ .m = om_new(1) };
	ok(tf_write(f, "doc.txt", "base"));
	om_sync(f, c->m, &c->cursor, 10);
	change_there(c, "doc.txt", "theirs");
	ok(tf_write(f, "doc.txt", "ours"));
	om_sync(f, c->m, &c->cursor, 10);
	c->id = open_conflict(f);
	assert_int_not_equal(c->id, 0);
	ok(tree_readdir(f->v, f->root, 0, find_copy, c->copy));
	assert_true(c->copy[0]);
}

static void end(struct tree_fixture *f, struct conflicted *c)
{
	om_sync(f, c->m, &c->cursor, 10);
	om_compare(f, c->m);
	om_free(c->m);
}

static int take(struct tree_fixture *f, uint64_t id, enum merge_pick pick, const char *content)
{
	struct merge *m;
	int r;

	ok(merge_open(f->v, id, &m));
	r = merge_take(m, pick, content, content ? strlen(content) : 0);
	merge_free(m);
	return r;
}

static void expect_one(struct tree_fixture *f, struct conflicted *c, const char *content)
{
	assert_int_equal(open_conflict(f), 0);
	assert_int_equal(tf_at(f, c->copy), 0);
	om_sync(f, c->m, &c->cursor, 10);
	assert_string_equal(om_at(c->m, "root", "doc.txt")->content, content);
	assert_null(om_at(c->m, "root", c->copy));
}

static void picks_have_names(void **state)
{
	enum merge_pick pick;

	for (int i = 0; i < MERGE_PICKS; i++) {
		ok(merge_pick(merge_pick_name((enum merge_pick)i), &pick));
		assert_int_equal(pick, i);
	}
	assert_int_equal(merge_pick("neither", &pick), -ENOENT);
	assert_int_equal(pick, MERGE_PICKS - 1);
}

static void ours_gets_the_name(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c;

	begin(f, &c);
	ok(take(f, c.id, MERGE_PICK_OURS, NULL));
	expect_one(f, &c, "ours");
	end(f, &c);
}

static void theirs_keeps_the_name(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c;

	begin(f, &c);
	ok(take(f, c.id, MERGE_PICK_THEIRS, NULL));
	expect_one(f, &c, "theirs");
	end(f, &c);
}

/* Ours has another name, older than the one that gave way: only the copy goes. */
static void a_hard_links_other_name_stays(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c = { .m = om_new(1) };
	struct tree_attr a;

	ok(tf_write(f, "other.txt", "ours"));
	ok(tree_link(f->v, tf_at(f, "other.txt"), f->root, "doc.txt", &a));
	om_make(c.m, "r", REMOTE_FILE, "root", "doc.txt", "theirs", NULL);
	om_sync(f, c.m, &c.cursor, 10);
	c.id = open_conflict(f);
	ok(tree_readdir(f->v, f->root, 0, find_copy, c.copy));
	assert_true(c.copy[0]);
	ok(take(f, c.id, MERGE_PICK_THEIRS, NULL));
	expect_one(f, &c, "theirs");
	assert_string_equal(om_at(c.m, "root", "other.txt")->content, "ours");
	end(f, &c);
}

static void the_merged_content_gets_the_name(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c;

	begin(f, &c);
	ok(take(f, c.id, MERGE_PICK_MERGED, "both of us"));
	expect_one(f, &c, "both of us");
	end(f, &c);
}

static void an_outcome_survives_a_restart(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c;

	begin(f, &c);
	ok(take(f, c.id, MERGE_PICK_MERGED, "both of us"));
	tf_reopen(f);
	expect_one(f, &c, "both of us");
	end(f, &c);
}

static void what_is_settled_is_not_settled_again(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c;
	struct merge *m;

	begin(f, &c);
	ok(take(f, c.id, MERGE_PICK_BOTH, NULL));
	assert_int_equal(merge_open(f->v, c.id, &m), -ENOENT);
	assert_int_equal(merge_open(f->v, 12345, &m), -ENOENT);
	end(f, &c);
}

/* --- copies: any device may have made one, any may settle it --- */

#define COPY "doc (conflict other 2026-11-22 14-03).txt"

static void feed(struct tree_fixture *f, struct conflicted *c)
{
	om_sync(f, c->m, &c->cursor, 10);
}

/* Another device met it: the original and its copy come with the feed. */
static void begin_elsewhere(struct tree_fixture *f, struct conflicted *c)
{
	*c = (struct conflicted){ .m = om_new(1) };
	om_make(c->m, "theirs", REMOTE_FILE, "root", "doc.txt", "theirs", NULL);
	om_make(c->m, "copy", REMOTE_FILE, "root", COPY, "ours", NULL);
	feed(f, c);
	c->id = open_conflict(f);
	assert_int_not_equal(c->id, 0);
	snprintf(c->copy, sizeof(c->copy), COPY);
}

static void settle_elsewhere(
	struct tree_fixture *f, enum merge_pick pick, const char *content, const char *want)
{
	struct conflicted c;
	struct merge *m;

	begin_elsewhere(f, &c);
	ok(merge_open(f->v, c.id, &m));
	om_fill(f, c.m, merge_ours_of(m));
	merge_free(m);
	ok(take(f, c.id, pick, content));
	expect_one(f, &c, want);
	end(f, &c);
}

static void another_devices_copy_gets_the_name(void **state)
{
	settle_elsewhere(*state, MERGE_PICK_OURS, NULL, "ours");
}

static void another_devices_copy_goes(void **state)
{
	settle_elsewhere(*state, MERGE_PICK_THEIRS, NULL, "theirs");
}

static void another_devices_copy_is_merged(void **state)
{
	settle_elsewhere(*state, MERGE_PICK_MERGED, "both of us", "both of us");
}

static int note_row(void *arg, const struct outbox_conflict *c)
{
	snprintf(arg, 600, "%s %s|%s %s", c->kind, c->path, c->other_path,
		c->outcome ? c->outcome : "open");
	return 0;
}

/* The last one. */
static void expect_row(struct tree_fixture *f, const char *want)
{
	char row[600] = "";

	ok(outbox_conflicts(f->v, false, note_row, row));
	assert_string_equal(row, want);
}

static void a_copy_of_another_device_is_listed_until_it_goes(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c;

	begin_elsewhere(f, &c);
	expect_row(f, "elsewhere records/" COPY "|records/doc.txt open");
	om_delete(c.m, om_at(c.m, "root", COPY), NULL);
	feed(f, &c);
	expect_row(f, "elsewhere records/" COPY "|records/doc.txt elsewhere");
	end(f, &c);
}

static void a_copy_that_gets_another_name_is_settled(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c;

	begin(f, &c);
	ok(tf_rename(f, c.copy, "mine.txt", 0));
	assert_int_equal(open_conflict(f), 0);
	end(f, &c);
}

static void a_row_follows_its_copy(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c;

	begin_elsewhere(f, &c);
	ok(tf_mkdir(f, "d"));
	ok(tf_rename(f, COPY, "d/" COPY, 0));
	expect_row(f, "elsewhere records/d/" COPY "|records/doc.txt open");
	assert_int_equal(open_conflict(f), c.id);
	ok(tf_rename(f, "doc.txt", "d/doc.txt", 0));
	ok(tf_rename(f, "d", "e", 0));
	expect_row(f, "elsewhere records/e/" COPY "|records/e/doc.txt open");
	end(f, &c);
}

/* Settled here, it came back: an edit elsewhere beats the deletion. */
static void a_copy_that_comes_back_is_listed_again(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c;

	begin(f, &c);
	ok(take(f, c.id, MERGE_PICK_THEIRS, NULL));
	change_there(&c, c.copy, "edited elsewhere");
	feed(f, &c);
	assert_int_not_equal(tf_at(f, c.copy), 0);
	assert_true(open_conflict(f) > c.id);
	end(f, &c);
}

/* The list of every device empties: that the copy is kept can be seen from its name. */
static void keeping_both_ends_the_conflict_everywhere(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c;

	begin_elsewhere(f, &c);
	ok(tf_write(f, "doc (other 2026-11-22 14-03).txt", "in the way"));
	ok(take(f, c.id, MERGE_PICK_BOTH, NULL));
	assert_int_equal(open_conflict(f), 0);
	feed(f, &c);
	assert_null(om_at(c.m, "root", COPY));
	assert_string_equal(
		om_at(c.m, "root", "doc (other 2026-11-22 14-03)-2.txt")->content, "ours");
	assert_string_equal(om_at(c.m, "root", "doc.txt")->content, "theirs");
	end(f, &c);
}

static void no_rule_settles_what_another_device_met(void **state)
{
	static struct merge_rule rule = { .policy = MERGE_OURS };
	static const struct merge_rules rules = { .rules = &rule, .n = 1 };
	struct tree_fixture *f = *state;
	struct conflicted c;
	uint64_t id;

	f->v->rules = &rules;
	begin_elsewhere(f, &c);
	assert_int_equal(merge_next(f->v, 0, &id), -ENOENT);
	f->v->rules = NULL;
	end(f, &c);
}

static void names_that_are_no_copies(void **state)
{
	static const char *const names[] = { " (conflict other 2026-11-22 14-03).txt",
		"doc (conflict other 2026-11-22 14-03", "doc (conflict other 2026-11-22).txt",
		"doc (conflict two words 2026-11-22 14-03).txt",
		"doc (conflict other 2026-11-22 14-03)txt", "doc (conflict ).txt", "doc.txt" };
	struct tree_fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		ok(tf_write(f, names[i], "x"));
	assert_int_equal(open_conflict(f), 0);
	ok(tf_write(
		f, "a (conflict h 2026-11-22 14-03)-12.txt (conflict g 2026-11-22 14-04)", "x"));
	expect_row(f,
		"elsewhere records/a (conflict h 2026-11-22 14-03)-12.txt (conflict g 2026-11-22 "
		"14-04)|records/a (conflict h 2026-11-22 14-03)-12.txt open");
}

/* Of the two readers looked at, one is not what it was: nobody decided about this content. */
static void a_side_that_changed_meanwhile_is_not_touched(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c;
	struct merge *m;

	begin(f, &c);
	ok(merge_open(f->v, c.id, &m));
	ok(tf_write(f, c.copy, "ours, better"));
	assert_int_equal(merge_take(m, MERGE_PICK_THEIRS, NULL, 0), -EBUSY);
	merge_free(m);
	assert_int_equal(open_conflict(f), c.id);
	ok(take(f, c.id, MERGE_PICK_OURS, NULL));
	expect_one(f, &c, "ours, better");
	end(f, &c);
}

static void a_side_that_was_renamed_meanwhile_is_not_touched(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c;
	struct merge *m;

	begin(f, &c);
	ok(merge_open(f->v, c.id, &m));
	ok(tf_rename(f, c.copy, "mine.txt", 0));
	assert_int_equal(merge_take(m, MERGE_PICK_THEIRS, NULL, 0), -EBUSY);
	merge_free(m);
	assert_int_not_equal(tf_at(f, "mine.txt"), 0);
	end(f, &c);
}

static void a_file_with_a_writer_waits(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c;
	struct tree_attr a;
	struct file *writer;

	begin(f, &c);
	a = tf_attr(f, c.copy);
	ok(file_open(f->v, a.object, a.version, true, &writer));
	assert_int_equal(take(f, c.id, MERGE_PICK_THEIRS, NULL), -EBUSY);
	ok(file_write(writer, "OURS", 4, 0));
	ok(file_commit(writer));
	file_unref(writer, true);
	ok(take(f, c.id, MERGE_PICK_OURS, NULL));
	expect_one(f, &c, "OURS");
	end(f, &c);
}

/* The origin's version here is about to be another. */
static void an_unsent_edit_of_theirs_waits(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c;

	begin(f, &c);
	ok(tf_write(f, "doc.txt", "theirs, edited here"));
	assert_int_equal(take(f, c.id, MERGE_PICK_OURS, NULL), -EBUSY);
	om_sync(f, c.m, &c.cursor, 10);
	ok(take(f, c.id, MERGE_PICK_OURS, NULL));
	expect_one(f, &c, "ours");
	end(f, &c);
}

static void the_two_files_of_a_merge_can_be_read(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c;
	char text[16] = "";
	struct merge *m;
	size_t got;

	begin(f, &c);
	ok(merge_open(f->v, c.id, &m));
	assert_null(merge_rule_of(m));
	assert_null(merge_base_of(m));
	assert_string_equal(merge_name_of(m), "doc.txt");
	ok(file_read(merge_ours_of(m), text, sizeof(text) - 1, 0, &got));
	assert_string_equal(text, "ours");
	om_fill(f, c.m, merge_theirs_of(m));
	memset(text, 0, sizeof(text));
	ok(file_read(merge_theirs_of(m), text, sizeof(text) - 1, 0, &got));
	assert_string_equal(text, "theirs");
	merge_free(m);
	end(f, &c);
}

/* --- one side only --- */

static void edit_here_delete_there(struct tree_fixture *f, struct conflicted *c)
{
	*c = (struct conflicted){ .m = om_new(1) };
	ok(tf_write(f, "doc.txt", "base"));
	om_sync(f, c->m, &c->cursor, 10);
	om_delete(c->m, om_at(c->m, "root", "doc.txt"), NULL);
	ok(tf_write(f, "doc.txt", "ours"));
	om_sync(f, c->m, &c->cursor, 10);
	c->id = open_conflict(f);
	assert_int_not_equal(c->id, 0);
}

static void a_deletion_there_can_be_carried_out(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c;

	edit_here_delete_there(f, &c);
	assert_int_equal(take(f, c.id, MERGE_PICK_MERGED, "x"), -EINVAL);
	assert_int_not_equal(tf_at(f, "doc.txt"), 0);
	ok(take(f, c.id, MERGE_PICK_THEIRS, NULL));
	assert_int_equal(tf_at(f, "doc.txt"), 0);
	om_sync(f, c.m, &c.cursor, 10);
	assert_null(om_at(c.m, "root", "doc.txt"));
	end(f, &c);
}

static void an_edit_here_outlives_a_deletion_there(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c;

	edit_here_delete_there(f, &c);
	ok(take(f, c.id, MERGE_PICK_OURS, NULL));
	assert_int_equal(open_conflict(f), 0);
	om_sync(f, c.m, &c.cursor, 10);
	assert_string_equal(om_at(c.m, "root", "doc.txt")->content, "ours");
	end(f, &c);
}

static void a_deletion_here_can_be_carried_out(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c = { .m = om_new(1) };

	ok(tf_write(f, "doc.txt", "base"));
	om_sync(f, c.m, &c.cursor, 10);
	change_there(&c, "doc.txt", "theirs");
	ok(tf_unlink(f, "doc.txt"));
	om_sync(f, c.m, &c.cursor, 10);
	c.id = open_conflict(f);
	assert_int_not_equal(c.id, 0);
	assert_int_not_equal(tf_at(f, "doc.txt"), 0);
	ok(take(f, c.id, MERGE_PICK_OURS, NULL));
	assert_int_equal(tf_at(f, "doc.txt"), 0);
	om_sync(f, c.m, &c.cursor, 10);
	assert_null(om_at(c.m, "root", "doc.txt"));
	end(f, &c);
}

/* --- rules and bases --- */

static void only_conflicts_with_a_rule_are_to_be_merged(void **state)
{
	struct tree_fixture *f = *state;
	struct merge_rule texts = { .match = (char *)"*.txt", .policy = MERGE_THEIRS },
			  other = { .match = (char *)"*.json", .policy = MERGE_THEIRS },
			  elsewhere = { .store = (char *)"other", .policy = MERGE_OURS };
	struct merge_rules rules = { .rules = &other, .n = 1 };
	const uint64_t noted = merge_noted(f->v);
	struct conflicted c;
	uint64_t id = 0;

	begin(f, &c);
	assert_true(merge_noted(f->v) > noted);
	assert_int_equal(merge_next(f->v, 0, &id), -ENOENT);
	f->v->rules = &rules;
	assert_int_equal(merge_next(f->v, 0, &id), -ENOENT);
	rules.rules = &elsewhere;
	assert_int_equal(merge_next(f->v, 0, &id), -ENOENT);
	rules.rules = &texts;
	ok(merge_next(f->v, 0, &id));
	assert_int_equal(id, c.id);
	assert_int_equal(merge_next(f->v, id, &id), -ENOENT);
	f->v->rules = NULL;
	end(f, &c);
}

static struct merge_rule fields = { .policy = MERGE_FIELDS };
static const struct merge_rules by_fields = { .rules = &fields, .n = 1 };

/* "": there is none. */
static void expect_base(struct tree_fixture *f, uint64_t id, const char *content)
{
	char text[64] = "";
	struct merge *m;
	size_t got;

	ok(merge_open(f->v, id, &m));
	assert_int_equal(merge_base_of(m) != NULL, *content != 0);
	if (*content) {
		ok(file_read(merge_base_of(m), text, sizeof(text) - 1, 0, &got));
		assert_string_equal(text, content);
	}
	merge_free(m);
}

static void the_base_is_what_both_began_with(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c;

	f->v->rules = &by_fields;
	begin(f, &c);
	expect_base(f, c.id, "base");
	tf_reopen(f);
	expect_base(f, c.id, "base");
	ok(take(f, c.id, MERGE_PICK_MERGED, "merged"));
	expect_one(f, &c, "merged");
	end(f, &c);
}

/* Several writes, one base: the first of them met the clean content. */
static void a_second_write_keeps_the_base_of_the_first(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c = { .m = om_new(1) };

	f->v->rules = &by_fields;
	ok(tf_write(f, "doc.txt", "base"));
	om_sync(f, c.m, &c.cursor, 10);
	change_there(&c, "doc.txt", "theirs");
	ok(tf_write(f, "doc.txt", "once"));
	ok(tf_write(f, "doc.txt", "twice"));
	om_sync(f, c.m, &c.cursor, 10);
	expect_base(f, open_conflict(f), "base");
	end(f, &c);
}

/* The second write was made while the first was on its way, which arrived: that is the base. */
static void what_was_sent_is_the_base_of_what_was_not(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c = { .m = om_new(1) };
	struct outbox_op op;
	uint64_t wait;
	size_t n;

	f->v->rules = &by_fields;
	ok(tf_write(f, "doc.txt", "base"));
	om_sync(f, c.m, &c.cursor, 10);
	ok(tf_write(f, "doc.txt", "once"));
	ok(outbox_next(f->v, clock_wall_ns() / NS_PER_MS, 0, &op, 1, &n, &wait));
	assert_int_equal(n, 1);
	ok(outbox_begin(f->v, &op, 1));
	ok(tf_write(f, "doc.txt", "twice"));
	assert_true(om_deliver(f, c.m, &op));
	outbox_op_done(&op);
	change_there(&c, "doc.txt", "theirs");
	om_sync(f, c.m, &c.cursor, 10);
	expect_base(f, open_conflict(f), "once");
	end(f, &c);
}

/* Sent and taken: nobody needs it any more, and it takes no space. */
static void the_base_goes_when_the_edit_is_acknowledged(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c = { .m = om_new(1) };
	uint64_t map;

	f->v->rules = &by_fields;
	ok(tf_write(f, "doc.txt", "base"));
	om_sync(f, c.m, &c.cursor, 10);
	ok(tf_write(f, "doc.txt", "ours"));
	db_read(f->v->db);
	ok(conflict_base_get(f->v->db, f->store, c.m->rec[0].r.id, &map));
	db_unlock(f->v->db);
	om_sync(f, c.m, &c.cursor, 10);
	db_read(f->v->db);
	assert_int_equal(conflict_base_get(f->v->db, f->store, c.m->rec[0].r.id, &map), -ENOENT);
	db_unlock(f->v->db);
	end(f, &c);
}

/* Replaced by another file over its name: the base is what the name had. */
static void a_file_renamed_over_it_has_its_base(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c = { .m = om_new(1) };

	f->v->rules = &by_fields;
	ok(tf_write(f, "doc.txt", "base"));
	om_sync(f, c.m, &c.cursor, 10);
	change_there(&c, "doc.txt", "theirs");
	ok(tf_write(f, ".doc.tmp", "ours"));
	ok(tf_rename(f, ".doc.tmp", "doc.txt", 0));
	om_sync(f, c.m, &c.cursor, 10);
	expect_base(f, open_conflict(f), "base");
	end(f, &c);
}

/* Only the attributes changed there: the base is that of the content, under its new ETag. */
static void a_new_etag_of_the_same_content_keeps_the_base(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c = { .m = om_new(1) };
	struct om_record *r;

	f->v->rules = &by_fields;
	ok(tf_write(f, "doc.txt", "base"));
	om_sync(f, c.m, &c.cursor, 10);
	ok(tf_write(f, "doc.txt", "ours"));
	r = om_at(c.m, "root", "doc.txt");
	r->r.mode = 0600;
	om_changed(c.m, r, NULL);
	om_pull(f, c.m, &c.cursor, 10);
	om_push_once(f, c.m, 1); /* 412, based anew */
	change_there(&c, "doc.txt", "theirs");
	om_sync(f, c.m, &c.cursor, 10);
	expect_base(f, open_conflict(f), "base");
	end(f, &c);
}

static void leaving_a_merge_sends_the_copy(void **state)
{
	struct tree_fixture *f = *state;
	struct conflicted c = { .m = om_new(1) };
	struct outbox_op ops[4];
	uint64_t wait;
	struct merge *m;
	size_t n;

	f->v->rules = &by_fields;
	ok(tf_write(f, "doc.txt", "base"));
	om_sync(f, c.m, &c.cursor, 10);
	change_there(&c, "doc.txt", "theirs");
	ok(tf_write(f, "doc.txt", "ours"));
	om_push_once(f, c.m, 64);
	c.id = open_conflict(f);
	assert_int_not_equal(c.id, 0);
	ok(outbox_next(f->v, clock_wall_ns() / NS_PER_MS, 0, ops, 4, &n, &wait));
	assert_int_equal(n, 0); /* it waits for the merge */
	ok(merge_open(f->v, c.id, &m));
	ok(merge_leave(m));
	merge_free(m);
	ok(outbox_next(f->v, clock_wall_ns() / NS_PER_MS, 0, ops, 4, &n, &wait));
	assert_int_equal(n, 1);
	outbox_op_done(&ops[0]);
	end(f, &c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(picks_have_names),
		tf_test(ours_gets_the_name),
		tf_test(theirs_keeps_the_name),
		tf_test(a_hard_links_other_name_stays),
		tf_test(the_merged_content_gets_the_name),
		tf_test(an_outcome_survives_a_restart),
		tf_test(what_is_settled_is_not_settled_again),
		tf_test(another_devices_copy_gets_the_name),
		tf_test(another_devices_copy_goes),
		tf_test(another_devices_copy_is_merged),
		tf_test(a_copy_of_another_device_is_listed_until_it_goes),
		tf_test(a_copy_that_gets_another_name_is_settled),
		tf_test(a_row_follows_its_copy),
		tf_test(a_copy_that_comes_back_is_listed_again),
		tf_test(keeping_both_ends_the_conflict_everywhere),
		tf_test(no_rule_settles_what_another_device_met),
		tf_test(names_that_are_no_copies),
		tf_test(a_side_that_changed_meanwhile_is_not_touched),
		tf_test(a_side_that_was_renamed_meanwhile_is_not_touched),
		tf_test(a_file_with_a_writer_waits),
		tf_test(an_unsent_edit_of_theirs_waits),
		tf_test(the_two_files_of_a_merge_can_be_read),
		tf_test(a_deletion_there_can_be_carried_out),
		tf_test(an_edit_here_outlives_a_deletion_there),
		tf_test(a_deletion_here_can_be_carried_out),
		tf_test(only_conflicts_with_a_rule_are_to_be_merged),
		tf_test(the_base_is_what_both_began_with),
		tf_test(a_second_write_keeps_the_base_of_the_first),
		tf_test(what_was_sent_is_the_base_of_what_was_not),
		tf_test(the_base_goes_when_the_edit_is_acknowledged),
		tf_test(a_file_renamed_over_it_has_its_base),
		tf_test(a_new_etag_of_the_same_content_keeps_the_base),
		tf_test(leaving_a_merge_sends_the_copy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
