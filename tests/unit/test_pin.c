/* Goal: what a pattern means, and that marks follow patterns and names: what is pinned is marked, nothing
 * else is, and no more is pinned than the volume can hold. */
#include "origin_model.h"

#include "cache/pin.h"
#include "cache/space.h"

static void remote(struct tree_fixture *f, const char *id, const char *parent, const char *name,
	uint64_t size, uint64_t seq)
{
	struct remote_record r = { .kind = size ? REMOTE_FILE : REMOTE_DIR, .mode = 0755, .size = size, .seq = seq };
	struct remote_report report;

	snprintf(r.id, sizeof(r.id), "%s", id);
	snprintf(r.parent, sizeof(r.parent), "%s", parent);
	snprintf(r.name, sizeof(r.name), "%s", name);
	snprintf(r.etag, sizeof(r.etag), "\"%llu\"", (unsigned long long)seq);
	ok(remote_apply(f->v, f->store, &r, 1, "cursor", false, &report));
}

/* records/{a.txt, .hidden, [x], d/{b.txt, e/c.txt}} */
static void make_tree(struct tree_fixture *f)
{
	remote(f, "a", "root", "a.txt", 10, 1);
	remote(f, "h", "root", ".hidden", 10, 2);
	remote(f, "x", "root", "[x]", 10, 3);
	remote(f, "d", "root", "d", 0, 4);
	remote(f, "b", "d", "b.txt", 10, 5);
	remote(f, "e", "d", "e", 0, 6);
	remote(f, "c", "e", "c.txt", 10, 7);
}

struct seen {
	uint64_t objects[32];
	size_t n;
};

static int see(void *arg, const struct walk_file *w)
{
	struct seen *s = arg;

	assert_true(s->n < ARRAY_SIZE(s->objects));
	s->objects[s->n++] = w->object;
	return 0;
}

/* The pattern means these files of the store, and no others. */
static void means(struct tree_fixture *f, const char *pattern, const char *const *paths)
{
	struct seen s = { .n = 0 };
	size_t n = 0;

	ok(walk_pattern(f->v, pattern, see, &s, NULL));
	for (; paths[n]; n++) {
		uint64_t object = tf_at(f, paths[n]);
		size_t i = 0;

		while (i < s.n && s.objects[i] != object)
			i++;
		if (i == s.n)
			fail_msg("%s does not mean %s", pattern, paths[n]);
	}
	assert_int_equal(s.n, n);
}

#define MEANS(pattern, ...) means(f, pattern, (const char *const[]){ __VA_ARGS__, NULL })

static void a_pattern_means_what_the_shell_would(void **state)
{
	struct tree_fixture *f = *state;

	make_tree(f);
	MEANS("", "a.txt", ".hidden", "[x]", "d/b.txt", "d/e/c.txt");
	MEANS("records/d", "d/b.txt", "d/e/c.txt");
	MEANS("records/a.txt", "a.txt");
	MEANS("records/*", "a.txt", "[x]", "d/b.txt", "d/e/c.txt");
	MEANS("records/*.txt", "a.txt");
	MEANS("records/**/*.txt", "a.txt", "d/b.txt", "d/e/c.txt");
	MEANS("records/*/[ab].txt", "d/b.txt");
	MEANS("*/d/?", "d/e/c.txt");
	MEANS("records/nothing", NULL);
	MEANS("records/a.txt/below", NULL);
}

static void an_escaped_name_means_itself_alone(void **state)
{
	struct tree_fixture *f = *state;
	char *pattern = walk_escape("records/[x]");

	make_tree(f);
	remote(f, "y", "root", "x", 10, 8);
	MEANS(pattern, "[x]");
	free(pattern);
}

#define MANY 400 /* more than a walk reads at once */

struct told {
	struct tree_fixture *f;
	unsigned names[2 * MANY];
	uint64_t object[MANY]; /* by name */
	size_t n;
};

static int tell(void *arg, const struct walk_file *w)
{
	struct told *t = arg;
	unsigned name = 0;

	while (t->object[name] != w->object)
		name++;
	assert_true(t->n < ARRAY_SIZE(t->names));
	t->names[t->n++] = name;
	return 0;
}

/* 7 and 400 have no common divisor: the i-th that was made is called 7 i. */
static unsigned made(unsigned i)
{
	return i * 7 % MANY;
}

static void siblings_come_in_either_order_those_behind_first(void **state)
{
	struct told t = { .f = *state };
	char name[16];

	for (unsigned i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "%03u", made(i));
		remote(t.f, name, "root", name, 10, i + 1);
		t.object[made(i)] = tf_at(t.f, name);
	}
	for (unsigned at = 0; at < MANY; at += 57) {
		t.n = 0;
		ok(walk_siblings(t.f->v, t.object[made(at)], WALK_BY_AGE, tell, &t));
		assert_true(t.n >= MANY - 1);
		for (unsigned i = 0; i < MANY - 1; i++)
			assert_int_equal(t.names[i], made((at + 1 + i) % MANY));
		t.n = 0;
		ok(walk_siblings(t.f->v, t.object[at], WALK_BY_NAME, tell, &t));
		assert_true(t.n >= MANY - 1);
		for (unsigned i = 0; i < MANY - 1; i++)
			assert_int_equal(t.names[i], (at + 1 + i) % MANY);
	}
}

static bool is_pinned(struct tree_fixture *f, const char *path)
{
	return pin_is(f->v, tf_at(f, path));
}

static struct pin_state apply(struct tree_fixture *f)
{
	struct pin_state state;
	bool any = true;

	ok(pin_apply(f->v, &state, &any));
	return state;
}

static void pin(struct tree_fixture *f, const char *set, const char *pattern)
{
	ok(pin_add(f->v, set, &pattern, 1, NULL));
}

static void marks_follow_patterns(void **state)
{
	struct tree_fixture *f = *state;
	struct pin_state s;

	make_tree(f);
	pin(f, "", "records/d");
	pin(f, "other", "records/d/b.txt");
	s = apply(f);
	assert_int_equal(s.files, 2);
	assert_int_equal(s.bytes, 8192);
	assert_int_equal(s.missing_bytes, 20);
	assert_true(is_pinned(f, "d/b.txt") && is_pinned(f, "d/e/c.txt"));
	assert_false(is_pinned(f, "a.txt"));
	ok(pin_remove(f->v, "", "records/d"));
	assert_int_equal(pin_remove(f->v, "", "records/d"), -ENOENT);
	assert_int_equal(apply(f).files, 1);
	assert_true(is_pinned(f, "d/b.txt"));
	assert_false(is_pinned(f, "d/e/c.txt"));
	ok(pin_remove(f->v, "other", NULL));
	apply(f);
	assert_false(is_pinned(f, "d/b.txt"));
}

static void what_appears_below_a_pin_is_pinned_and_what_leaves_is_not(void **state)
{
	struct tree_fixture *f = *state;

	make_tree(f);
	pin(f, "", "records/d");
	apply(f);
	remote(f, "n", "e", "new", 10, 9);
	ok(tf_rename(f, "d/b.txt", "b.txt", 0));
	apply(f);
	assert_true(is_pinned(f, "d/e/new"));
	assert_false(is_pinned(f, "b.txt"));
}

static void a_new_version_is_pinned_before_anybody_looks(void **state)
{
	struct tree_fixture *f = *state;

	make_tree(f);
	pin(f, "", "records/d");
	apply(f);
	remote(f, "b", "d", "b.txt", 99, 9);
	assert_int_equal(tf_attr(f, "d/b.txt").size, 99);
	assert_true(is_pinned(f, "d/b.txt"));
}

static void more_than_the_volume_holds_is_refused_whole(void **state)
{
	struct tree_fixture *f = *state;
	const char *both[] = { "records/a.txt", "records/huge" };
	uint64_t need = 0;
	struct pin_state s;

	make_tree(f);
	remote(f, "g", "root", "huge", VOLUME_LIMIT_DEFAULT_BYTES, 8);
	assert_int_equal(pin_add(f->v, "", both, 2, &need), -ENOSPC);
	assert_true(need > VOLUME_LIMIT_DEFAULT_BYTES);
	ok(pin_look(f->v, NULL, NULL, &s));
	assert_int_equal(s.files, 0);
	ok(pin_add(f->v, "", both, 1, &need));
	assert_int_equal(apply(f).files, 1);
}

static void a_set_is_replaced_whole_and_others_stay(void **state)
{
	struct tree_fixture *f = *state;
	const char *first[] = { "records/a.txt", "records/d/b.txt" }, *second[] = { "records/d/e/c.txt" };
	struct pin_state s;

	make_tree(f);
	pin(f, "", "records/[[]x]");
	ok(pin_replace(f->v, "make", first, 2, NULL));
	ok(pin_replace(f->v, "make", second, 1, NULL));
	apply(f);
	assert_true(is_pinned(f, "[x]") && is_pinned(f, "d/e/c.txt"));
	assert_false(is_pinned(f, "a.txt") || is_pinned(f, "d/b.txt"));
	ok(pin_look(f->v, "make", NULL, &s));
	assert_int_equal(s.files, 1);
}

static void pins_survive_a_new_start(void **state)
{
	struct tree_fixture *f = *state;
	struct pin_state s;

	make_tree(f);
	pin(f, "", "records/d/*.txt");
	pin(f, "", "records/none");
	apply(f);
	tf_reopen(f);
	assert_true(is_pinned(f, "d/b.txt"));
	ok(pin_look(f->v, NULL, NULL, &s));
	assert_int_equal(s.files, 1);
	assert_int_equal(s.idle, 1);
}

static void unsent_and_pinned_files_are_not_dropped(void **state)
{
	struct tree_fixture *f = *state;
	uint64_t freed = 0;
	struct tree_attr a;
	struct file *file;

	make_tree(f);
	ok(tf_create(f, "mine"));
	ok(tf_write(f, "mine", "text"));
	a = tf_attr(f, "d/b.txt");
	ok(file_open(f->v, a.object, a.version, false, &file));
	ok(file_fill(file, "\"5\"", "0123456789", 10, 0));
	file_unref(file, false);
	ok(volume_sync(f->v));
	pin(f, "", "records/d");
	apply(f);
	assert_int_equal(space_drop(f->v, tf_at(f, "mine"), &freed), -EBUSY);
	assert_int_equal(space_drop(f->v, a.object, &freed), -EBUSY);
	assert_int_equal(space_drop(f->v, tf_at(f, "a.txt"), &freed), -ENOENT);
	ok(pin_remove(f->v, "", NULL));
	apply(f);
	ok(space_drop(f->v, a.object, &freed));
	assert_true(freed >= 10);
	assert_int_equal(space_drop(f->v, a.object, &freed), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tf_test(a_pattern_means_what_the_shell_would),
		tf_test(an_escaped_name_means_itself_alone),
		tf_test(siblings_come_in_either_order_those_behind_first),
		tf_test(marks_follow_patterns),
		tf_test(what_appears_below_a_pin_is_pinned_and_what_leaves_is_not),
		tf_test(a_new_version_is_pinned_before_anybody_looks),
		tf_test(more_than_the_volume_holds_is_refused_whole),
		tf_test(a_set_is_replaced_whole_and_others_stay),
		tf_test(pins_survive_a_new_start),
		tf_test(unsent_and_pinned_files_are_not_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
