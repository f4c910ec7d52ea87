/* Goal: what is answered from the memo is what the connection would answer. */
#include "meta_fixture.h"

#include "meta/db_priv.h"
#include "meta/memo.h"

#define OBJECTS 90 /* more than it has room for */
#define NAMES 40
#define STORES 6

struct env {
	struct fixture f;
	struct db *db;
	uint64_t objects[OBJECTS], names[NAMES], stores[STORES];
	unsigned seed;
};

static unsigned any(struct env *e, unsigned n)
{
	return (unsigned)rand_r(&e->seed) % n;
}

/* --- random changes; most of them of rows that are there --- */

static struct object_row some_object(struct env *e)
{
	return (struct object_row){ .store = any(e, 3),
		.version = any(e, 100),
		.mode = 0100644,
		.nlink = 1,
		.size = any(e, 1000),
		.mtime_ns = any(e, 1000),
		.btime_ns = any(e, 1000),
		.map = any(e, 10) };
}

static void change_object(struct env *e)
{
	uint64_t *id = &e->objects[any(e, OBJECTS)];
	struct object_row o = some_object(e);
	int r;

	if (!*id || any(e, 8) == 0) {
		assert_int_equal(object_insert(e->db, &o, NULL, 0), 0);
		*id = o.id;
	} else if (any(e, 8) == 0) {
		r = object_delete(e->db, *id);
		assert_true(r == 0 || r == -ENOENT);
	} else {
		o.id = *id;
		r = object_update(e->db, &o);
		assert_true(r == 0 || r == -ENOENT);
	}
}

/* Few objects, so that some have several names. */
static void some_name(struct env *e, struct name_row *n)
{
	char text[16];

	*n = (struct name_row){ .store = 1, .parent = 1 + any(e, 2), .object = 1 + any(e, 25) };
	snprintf(text, sizeof(text), "n%u", any(e, 60));
	assert_true(row_filename_set(&n->name, text, strlen(text)));
	if (any(e, 4))
		snprintf(n->rid.text, sizeof(n->rid.text), "r%u", any(e, 60));
}

static void change_name(struct env *e)
{
	uint64_t *id = &e->names[any(e, NAMES)];
	struct name_row n;
	int r;

	some_name(e, &n);
	if (!*id || any(e, 8) == 0) {
		r = name_insert(e->db, &n);
		if (r == 0)
			*id = n.id;
		assert_true(r == 0 || r == -EEXIST);
	} else if (any(e, 8) == 0) {
		r = name_delete(e->db, *id);
		assert_true(r == 0 || r == -ENOENT);
	} else {
		n.id = *id;
		r = name_update(e->db, &n);
		assert_true(r == 0 || r == -EEXIST || r == -ENOENT);
	}
}

static void change_store(struct env *e)
{
	unsigned i = any(e, STORES);
	struct store_row s = { .id = e->stores[i], .mode = STORE_RW, .listing = any(e, 100) };

	snprintf(s.ref, sizeof(s.ref), "%032u", i + 1);
	snprintf(s.name, sizeof(s.name), "s%u", i);
	if (s.id && store_update(e->db, &s) == 0)
		return;
	assert_int_equal(store_insert(e->db, &s), 0);
	e->stores[i] = s.id;
}

/* --- what is answered, as text --- */

static int print_name(void *arg, const struct name_row *n, const struct object_row *o)
{
	fprintf(arg, " %ju:%ju/%s=%s", (uintmax_t)n->id, (uintmax_t)n->parent,
		(const char *)n->name.bytes, n->rid.text);
	return 0;
}

static void print_objects(struct env *e, FILE *out)
{
	struct object_row o;

	for (size_t i = 0; i < OBJECTS; i++)
		if (object_get(e->db, e->objects[i], &o) == 0)
			fprintf(out, "o %ju %ju %ju %ju %jd %jd %ju\n", (uintmax_t)o.id,
				(uintmax_t)o.store, (uintmax_t)o.version, (uintmax_t)o.size,
				(intmax_t)o.mtime_ns, (intmax_t)o.btime_ns, (uintmax_t)o.map);
}

static void print_names(struct env *e, FILE *out)
{
	struct name_row n;
	char rid[16];

	for (uint64_t object = 0; object < 27; object++) {
		fprintf(out, "of %ju", (uintmax_t)object);
		assert_int_equal(name_each_of(e->db, object, print_name, out), 0);
	}
	for (unsigned i = 0; i < 60; i++) {
		snprintf(rid, sizeof(rid), "r%u", i);
		if (name_by_rid(e->db, 1, rid, &n) == 0)
			print_name(out, &n, NULL);
		assert_int_equal(name_by_rid(e->db, 2, rid, &n), -ENOENT);
	}
}

static char *answers(struct env *e)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	struct store_row s;

	print_objects(e, out);
	print_names(e, out);
	for (size_t i = 0; i < STORES; i++)
		if (store_get(e->db, e->stores[i], &s) == 0)
			fprintf(out, "s %s %s %ju\n", s.ref, s.name, (uintmax_t)s.listing);
	fclose(out);
	return text;
}

static void assert_truth(struct env *e)
{
	char *with = answers(e), *without;

	memo_clear(e->db->memo);
	without = answers(e);
	assert_string_equal(with, without);
	free(with);
	free(without);
}

static void test_answers_are_those_of_the_connection(void **state)
{
	struct env *e = *state;

	for (unsigned round = 0; round < 300; round++) {
		assert_int_equal(db_begin(e->db), 0);
		for (unsigned n = any(e, 12); n; n--) {
			(any(e, 5) ? any(e, 2) ? change_object : change_name : change_store)(e);
			if (any(e, 3) == 0)
				free(answers(e)); /* and so it has something to be wrong about */
		}
		if (any(e, 3))
			assert_int_equal(db_commit(e->db), 0);
		else
			db_rollback(e->db);
		db_read(e->db);
		assert_truth(e);
		db_unlock(e->db);
	}
}

/* SQLite has given the group up: it is made again from the log, and the memo goes with it. */
static void test_nothing_is_answered_of_a_group_that_is_lost(void **state)
{
	struct env *e = *state;
	struct object_row o = some_object(e);

	assert_int_equal(db_begin(e->db), 0);
	assert_int_equal(object_insert(e->db, &o, NULL, 0), 0);
	assert_int_equal(db_exec(e->db, "ROLLBACK"), 0);
	assert_true(object_get(e->db, o.id, &o) < 0);
	db_rollback(e->db);
	db_read(e->db);
	assert_int_equal(object_get(e->db, o.id, &o), -ENOENT);
	db_unlock(e->db);
}

static int setup(void **state)
{
	struct env *e = calloc(1, sizeof(*e));

	fixture_log_bytes = 1 << 20;
	fixture_init(&e->f);
	e->db = fixture_create(&e->f);
	e->seed = 7;
	*state = e;
	return 0;
}

static int teardown(void **state)
{
	struct env *e = *state;

	db_close(e->db);
	fixture_done(&e->f);
	free(e);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_answers_are_those_of_the_connection, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_nothing_is_answered_of_a_group_that_is_lost, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
