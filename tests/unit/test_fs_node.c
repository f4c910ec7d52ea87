/* The kernel's nodes, on a real volume: what is counted, what is held, what goes when. */
#include <pthread.h>
#include <sched.h>

#include "tree_fixture.h"

#include "fs/node.h"

struct node_fixture {
	struct tree_fixture tree;
	struct node_table *nodes;
};

static int setup(void **state)
{
	struct node_fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	tf_init(&f->tree);
	ok(node_table_new(f->tree.v, &f->nodes));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct node_fixture *f = *state;

	node_table_free(f->nodes);
	tf_done(&f->tree);
	free(f);
	return 0;
}

#define node_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

static struct node *get(struct node_fixture *f, uint64_t object, uint64_t version)
{
	struct node *n = NULL;

	ok(node_get(f->nodes, object, version, &n));
	assert_non_null(n);
	assert_int_equal(n->object, object);
	assert_int_equal(n->version, version);
	return n;
}

static size_t ids(struct node_fixture *f, uint64_t object)
{
	uint64_t found[8];

	return node_ids(f->nodes, object, found, 8);
}

static bool has_id(struct node_fixture *f, uint64_t object, const struct node *n)
{
	uint64_t found[8];
	size_t count = node_ids(f->nodes, object, found, 8);

	for (size_t i = 0; i < count; i++) {
		if (found[i] == (uintptr_t)n)
			return true;
	}
	return false;
}

static uint64_t make(struct node_fixture *f, const char *name)
{
	ok(tf_write(&f->tree, name, "text"));
	return tf_at(&f->tree, name);
}

static bool exists(struct node_fixture *f, uint64_t object)
{
	struct object_row o;
	int r;

	db_read(f->tree.v->db);
	r = object_get(f->tree.v->db, object, &o);
	db_unlock(f->tree.v->db);
	return r == 0;
}

static bool held(struct node_fixture *f, uint64_t object)
{
	return ids(f, object) > 0;
}

/* --- lookups --- */

static void the_same_pair_is_the_same_node(void **state)
{
	struct node_fixture *f = *state;
	uint64_t object = make(f, "a"), other = make(f, "b");
	struct node *n = get(f, object, 0), *m = get(f, other, 0);

	assert_ptr_equal(get(f, object, 0), n);
	assert_ptr_not_equal(m, n);
	assert_int_equal(n->lookups, 2);
	assert_int_equal(m->lookups, 1);
	assert_int_equal(ids(f, object), 1);
	assert_true(has_id(f, object, n));
	assert_false(has_id(f, object, m));
}

static void a_node_lives_until_its_last_lookup_is_forgotten(void **state)
{
	struct node_fixture *f = *state;
	uint64_t object = make(f, "a");
	struct node *n = get(f, object, 0);

	for (int i = 0; i < 4; i++)
		assert_ptr_equal(get(f, object, 0), n);
	node_forget(f->nodes, n, 1);
	assert_int_equal(n->lookups, 4);
	node_forget(f->nodes, n, 3);
	assert_int_equal(n->lookups, 1);
	assert_true(has_id(f, object, n));
	assert_true(held(f, object));
	node_forget(f->nodes, n, 1);
	assert_int_equal(ids(f, object), 0);
	assert_false(held(f, object));
	assert_true(exists(f, object));
}

static void forgetting_more_than_was_looked_up_ends_one_node_and_nothing_else(void **state)
{
	struct node_fixture *f = *state;
	uint64_t object = make(f, "a");
	struct node *n = get(f, object, 0), *other = get(f, object, 1);

	node_forget(f->nodes, n, UINT64_MAX);
	assert_int_equal(ids(f, object), 1);
	assert_true(has_id(f, object, other));
	assert_int_equal(other->lookups, 1);
	assert_true(held(f, object));
}

static void a_forgotten_pair_begins_again_at_one_lookup(void **state)
{
	struct node_fixture *f = *state;
	uint64_t object = make(f, "a");
	struct node *n = get(f, object, 0);

	get(f, object, 0);
	node_no_xattrs(n);
	node_forget(f->nodes, n, 2);
	n = get(f, object, 0);
	assert_int_equal(n->lookups, 1);
	assert_int_equal(atomic_load(&n->xattrs), NODE_XATTRS_UNKNOWN);
}

static void two_versions_are_two_nodes_that_both_hold(void **state)
{
	struct node_fixture *f = *state;
	uint64_t object = make(f, "a");
	struct node *old = get(f, object, 0), *new = get(f, object, 1);

	assert_ptr_not_equal(old, new);
	assert_ptr_equal(get(f, object, 1), new);
	assert_int_equal(old->lookups, 1);
	assert_int_equal(ids(f, object), 2);
	node_forget(f->nodes, old, 1);
	assert_int_equal(ids(f, object), 1);
	assert_true(held(f, object));
	node_forget(f->nodes, new, 2);
	assert_false(held(f, object));
}

/* More than the buckets the table begins with, several times, and then few again. */
static void a_table_that_grew_and_shrank_still_finds_every_node(void **state)
{
	enum { N = 40000 };
	struct node_fixture *f = *state;
	struct node **n = calloc(N, sizeof(struct node *));

	assert_non_null(n);
	for (uint64_t i = 0; i < N; i++)
		n[i] = get(f, 1000 + i, i % 3);
	for (uint64_t i = 0; i < N; i++) {
		assert_ptr_equal(get(f, 1000 + i, i % 3), n[i]);
		assert_int_equal(ids(f, 1000 + i), 1);
	}
	for (uint64_t i = 0; i < N; i++)
		if (i % 16)
			node_forget(f->nodes, n[i], 2);
	for (uint64_t i = 0; i < N; i++) {
		assert_int_equal(ids(f, 1000 + i), i % 16 == 0);
		if (i % 16 == 0)
			assert_ptr_equal(get(f, 1000 + i, i % 3), n[i]);
	}
	free(n);
}

static void ids_are_at_most_as_many_as_there_is_room_for(void **state)
{
	struct node_fixture *f = *state;
	uint64_t object = make(f, "a"), found[3] = { 7, 7, 7 };

	for (uint64_t version = 0; version < 3; version++)
		get(f, object, version);
	assert_int_equal(node_ids(f->nodes, object, found, 0), 0);
	assert_int_equal(found[0], 7);
	assert_int_equal(node_ids(f->nodes, object, found, 2), 2);
	assert_int_not_equal(found[0], found[1]);
	assert_int_equal(found[2], 7);
	assert_int_equal(node_ids(f->nodes, object, found, 3), 3);
	assert_int_equal(node_ids(f->nodes, object + 1, found, 3), 0);
}

/* --- objects --- */

static void an_unlinked_object_goes_at_the_last_forget(void **state)
{
	struct node_fixture *f = *state;
	uint64_t object = make(f, "a");
	struct tree_attr a = tf_attr(&f->tree, "a");
	struct node *n = get(f, object, a.version);

	get(f, object, a.version);
	ok(tf_unlink(&f->tree, "a"));
	ok(tree_getattr(f->tree.v, object, a.version, &a));
	assert_int_equal(a.nlink, 0);
	assert_int_equal(a.size, 4);
	node_forget(f->nodes, n, 1);
	assert_true(exists(f, object));
	node_forget(f->nodes, n, 1);
	assert_false(exists(f, object));
}

static void an_unlinked_object_lives_while_another_version_has_a_node(void **state)
{
	struct node_fixture *f = *state;
	uint64_t object = make(f, "a");
	struct node *old = get(f, object, 0), *new = get(f, object, 1);

	ok(tf_unlink(&f->tree, "a"));
	node_forget(f->nodes, old, 1);
	assert_true(exists(f, object));
	node_forget(f->nodes, new, 1);
	assert_false(exists(f, object));
}

/* The kernel got a node of it while the last name went. */
static void a_node_made_after_the_unlink_is_the_last_to_hold(void **state)
{
	struct node_fixture *f = *state;
	uint64_t object = make(f, "a");
	struct node *old = get(f, object, 0), *late;

	ok(tf_unlink(&f->tree, "a"));
	late = get(f, object, 1);
	node_forget(f->nodes, old, 1);
	assert_true(exists(f, object));
	node_forget(f->nodes, late, 1);
	assert_false(exists(f, object));
}

/* More look-ups than are counted: it stays until the unmount, and goes then. */
static void a_node_that_lost_count_lives_to_the_end(void **state)
{
	struct node_fixture *f = *state;
	uint64_t object = make(f, "a");
	struct node *n = get(f, object, 0);

	n->lookups = NODE_LOOKUPS_MAX - 1;
	get(f, object, 0);
	get(f, object, 0);
	node_forget(f->nodes, n, UINT64_MAX);
	assert_ptr_equal(get(f, object, 0), n);
	ok(tf_unlink(&f->tree, "a"));
	node_table_free(f->nodes);
	f->nodes = NULL;
	assert_false(exists(f, object));
}

static void the_end_of_the_table_drops_what_the_kernel_still_counted(void **state)
{
	struct node_fixture *f = *state;
	uint64_t gone = make(f, "gone"), stays = make(f, "stays");

	for (int i = 0; i < 5; i++)
		get(f, gone, 0);
	get(f, gone, 1);
	get(f, stays, 0);
	get(f, stays, 0);
	ok(tf_unlink(&f->tree, "gone"));
	assert_true(exists(f, gone));
	node_table_free(f->nodes);
	f->nodes = NULL;
	assert_false(exists(f, gone));
	assert_true(exists(f, stays));
}

/* --- handles and modes --- */

static void handles_are_counted_and_those_that_write_apart(void **state)
{
	struct node_fixture *f = *state;
	struct node *n = get(f, make(f, "a"), 0);

	node_open(n, false);
	node_open(n, true);
	assert_int_equal(atomic_load(&n->opens), 2);
	assert_int_equal(atomic_load(&n->writers), 1);
	node_close(n, true);
	assert_int_equal(atomic_load(&n->opens), 1);
	assert_int_equal(atomic_load(&n->writers), 0);
	node_close(n, false);
	assert_int_equal(atomic_load(&n->opens), 0);
}

static void a_doubted_mode_may_have_suid_in_every_version(void **state)
{
	struct node_fixture *f = *state;
	uint64_t object = make(f, "a");
	struct node *old = get(f, object, 0), *new = get(f, object, 1);
	struct node *other = get(f, make(f, "b"), 0);

	node_note_mode(new, S_IFREG | 0755);
	assert_false(atomic_load(&new->privileged));
	node_doubt_mode(f->nodes, object);
	assert_true(atomic_load(&old->privileged) && atomic_load(&new->privileged));
	assert_false(atomic_load(&other->privileged));
	node_note_mode(new, S_IFREG | S_ISGID | 0755);
	assert_true(atomic_load(&new->privileged));
}

/* --- extended attributes --- */

static void attributes_that_were_set_are_not_forgotten_for_an_older_empty_list(void **state)
{
	struct node_fixture *f = *state;
	uint64_t object = make(f, "a"), other = make(f, "b");
	struct node *n = get(f, object, 0), *new = get(f, object, 1), *m = get(f, other, 0);

	node_no_xattrs(n);
	assert_int_equal(atomic_load(&n->xattrs), NODE_XATTRS_NONE);
	assert_int_equal(atomic_load(&new->xattrs), NODE_XATTRS_UNKNOWN);
	node_set_xattrs(f->nodes, object);
	node_no_xattrs(n);
	assert_int_equal(atomic_load(&n->xattrs), NODE_XATTRS_SOME);
	assert_int_equal(atomic_load(&new->xattrs), NODE_XATTRS_SOME);
	assert_int_equal(atomic_load(&m->xattrs), NODE_XATTRS_UNKNOWN);
}

/* --- threads --- */

enum { THREADS = 6, ROUNDS = 4000, OBJECTS = 8, VERSIONS = 2 };

struct storm {
	struct node_fixture *f;
	uint64_t objects[OBJECTS];
	atomic_uint wrong;
};

/* A longjmp out of a thread is not an option: it counts, the test's own thread asserts. */
static void expect(struct storm *s, bool right)
{
	if (!right)
		atomic_fetch_add(&s->wrong, 1);
}

static uint32_t draw(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t)(*seed >> 33);
}

static void *get_and_forget(void *arg)
{
	struct storm *s = arg;
	uint64_t seed = (uintptr_t)pthread_self();

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t object = s->objects[draw(&seed) % OBJECTS];
		uint64_t version = draw(&seed) % VERSIONS, more = draw(&seed) % 4;
		struct node *n = NULL, *again = NULL;

		expect(s, !node_get(s->f->nodes, object, version, &n));
		for (uint64_t k = 0; k < more; k++) {
			expect(s, !node_get(s->f->nodes, object, version, &again));
			expect(s, again == n);
		}
		expect(s, n->object == object && n->version == version);
		expect(s, has_id(s->f, object, n));
		expect(s, held(s->f, object));
		if (more)
			node_forget(s->f->nodes, n, more);
		node_forget(s->f->nodes, n, 1);
	}
	return NULL;
}

static void storm_make(struct storm *s, struct node_fixture *f)
{
	char name[16];

	*s = (struct storm){ .f = f };
	for (int i = 0; i < OBJECTS; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		s->objects[i] = make(f, name);
	}
}

static void storm_run(struct storm *s, void *(*fn)(void *))
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, fn, s), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(atomic_load(&s->wrong), 0);
}

/* Nothing is known any more, and nothing is held: an object that loses its name goes at once. */
static void assert_storm_left_nothing(struct storm *s)
{
	char name[16];

	for (int i = 0; i < OBJECTS; i++) {
		assert_int_equal(ids(s->f, s->objects[i]), 0);
		assert_false(held(s->f, s->objects[i]));
		snprintf(name, sizeof(name), "f%d", i);
		ok(tf_unlink(&s->f->tree, name));
		assert_false(exists(s->f, s->objects[i]));
	}
}

static void threads_that_get_and_forget_leave_an_empty_table(void **state)
{
	struct storm s;

	storm_make(&s, *state);
	storm_run(&s, get_and_forget);
	assert_storm_left_nothing(&s);
}

/* An object whose name is gone goes once, with the last of many forgets, whoever does it. */
static void *forget_some(void *arg)
{
	struct storm *s = arg;

	for (int i = 0; i < OBJECTS; i++) {
		uint64_t found[1];

		expect(s, node_ids(s->f->nodes, s->objects[i], found, 1) == 1);
		for (int k = 0; k < 50; k++) {
			expect(s, exists(s->f, s->objects[i]));
			node_forget(s->f->nodes, (struct node *)(uintptr_t)found[0], 1);
		}
	}
	return NULL;
}

static void an_unlinked_object_outlives_the_forgets_of_many_threads_but_the_last(void **state)
{
	struct storm s;
	char name[16];

	storm_make(&s, *state);
	for (int i = 0; i < OBJECTS; i++) {
		for (int k = 0; k < THREADS * 50; k++)
			get(s.f, s.objects[i], 0);
		snprintf(name, sizeof(name), "f%d", i);
		ok(tf_unlink(&s.f->tree, name));
	}
	storm_run(&s, forget_some);
	for (int i = 0; i < OBJECTS; i++) {
		assert_int_equal(ids(s.f, s.objects[i]), 0);
		assert_false(held(s.f, s.objects[i]));
		assert_false(exists(s.f, s.objects[i]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		node_test(the_same_pair_is_the_same_node),
		node_test(a_node_lives_until_its_last_lookup_is_forgotten),
		node_test(forgetting_more_than_was_looked_up_ends_one_node_and_nothing_else),
		node_test(a_forgotten_pair_begins_again_at_one_lookup),
		node_test(two_versions_are_two_nodes_that_both_hold),
		node_test(a_table_that_grew_and_shrank_still_finds_every_node),
		node_test(ids_are_at_most_as_many_as_there_is_room_for),
		node_test(an_unlinked_object_goes_at_the_last_forget),
		node_test(an_unlinked_object_lives_while_another_version_has_a_node),
		node_test(a_node_made_after_the_unlink_is_the_last_to_hold),
		node_test(a_node_that_lost_count_lives_to_the_end),
		node_test(the_end_of_the_table_drops_what_the_kernel_still_counted),
		node_test(handles_are_counted_and_those_that_write_apart),
		node_test(a_doubted_mode_may_have_suid_in_every_version),
		node_test(attributes_that_were_set_are_not_forgotten_for_an_older_empty_list),
		node_test(threads_that_get_and_forget_leave_an_empty_table),
		node_test(an_unlinked_object_outlives_the_forgets_of_many_threads_but_the_last),
	};

	return cmocka_run_group_tests_name("nodes of the kernel", tests, NULL, NULL);
}
