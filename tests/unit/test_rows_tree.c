/* Goal: rows of object, xattr and name keep what they were given and refuse what their contract
 * refuses. */
#include "meta_fixture.h"

#include "meta/name.h"

struct env {
	struct fixture f;
	struct db *db;
};

static int setup(void **state)
{
	struct env *e = calloc(1, sizeof(*e));

	fixture_init(&e->f);
	e->db = fixture_create(&e->f);
	assert_int_equal(db_begin(e->db), 0);
	*state = e;
	return 0;
}

static int teardown(void **state)
{
	struct env *e = *state;

	db_rollback(e->db);
	db_close(e->db);
	fixture_done(&e->f);
	free(e);
	return 0;
}

static uint64_t make_object(struct db *db, uint32_t mode)
{
	struct object_row o = { .store = 1, .version = 1, .mode = mode, .nlink = 1 };

	assert_int_equal(object_insert(db, &o, NULL, 0), 0);
	return o.id;
}

static struct name_row make_name(struct db *db, uint64_t parent, const char *text, uint64_t object)
{
	struct name_row n = { .store = 1, .parent = parent, .object = object };

	assert_true(row_filename_set(&n.name, text, strlen(text)));
	assert_int_equal(name_insert(db, &n), 0);
	return n;
}

static void test_object_round_trips_every_column(void **state)
{
	struct env *e = *state;
	struct object_row o = { .store = 3,
		.version = UINT64_MAX,
		.mode = 0100644,
		.uid = 0xfffffffe,
		.gid = 7,
		.rdev = UINT64_C(1) << 63,
		.nlink = 9,
		.size = INT64_MAX,
		.atime_ns = -1,
		.mtime_ns = INT64_MIN,
		.ctime_ns = 5,
		.btime_ns = 6,
		.map = 77 };
	struct object_row got;

	assert_int_equal(object_insert(e->db, &o, NULL, 0), 0);
	assert_true(o.id > OBJECT_ROOT);
	memset(&got, 0xee, sizeof(got));
	assert_int_equal(object_get(e->db, o.id, &got), 0);
	assert_int_equal(got.id, o.id);
	assert_int_equal(got.store, 3);
	assert_true(got.version == UINT64_MAX && got.rdev == UINT64_C(1) << 63);
	assert_int_equal(got.mode, 0100644);
	assert_int_equal(got.uid, 0xfffffffe);
	assert_int_equal(got.gid, 7);
	assert_int_equal(got.nlink, 9);
	assert_true(got.size == INT64_MAX && got.mtime_ns == INT64_MIN && got.atime_ns == -1);
	assert_int_equal(got.ctime_ns, 5);
	assert_int_equal(got.btime_ns, 6);
	assert_int_equal(got.map, 77);
}

static void test_object_update_keeps_id_store_and_birth(void **state)
{
	struct env *e = *state;
	struct object_row o = { .store = 3, .mode = 0100600, .btime_ns = 6 }, got;

	assert_int_equal(object_insert(e->db, &o, NULL, 0), 0);
	o.store = 4;
	o.btime_ns = 99;
	o.size = 12;
	o.map = 5;
	assert_int_equal(object_update(e->db, &o), 0);
	assert_int_equal(object_get(e->db, o.id, &got), 0);
	assert_int_equal(got.store, 3);
	assert_int_equal(got.btime_ns, 6);
	assert_int_equal(got.size, 12);
	assert_int_equal(got.map, 5);
}

static void test_absent_object_is_enoent_everywhere(void **state)
{
	struct env *e = *state;
	struct object_row o = { .id = 4711, .mode = 1 }, got = { .mode = 42 };
	char *target = (char *)1;
	size_t len;

	assert_int_equal(object_get(e->db, 4711, &got), -ENOENT);
	assert_int_equal(got.mode, 42);
	assert_int_equal(object_update(e->db, &o), -ENOENT);
	assert_int_equal(object_delete(e->db, 4711), -ENOENT);
	assert_int_equal(object_target(e->db, 4711, &target, &len), -ENOENT);
	assert_int_equal(object_set_target(e->db, 4711, "x", 1), -ENOENT);
	assert_ptr_equal(target, (char *)1);
}

static void test_object_id_is_never_given_twice(void **state)
{
	struct env *e = *state;
	uint64_t a = make_object(e->db, 0100644);

	assert_int_equal(object_delete(e->db, a), 0);
	assert_true(make_object(e->db, 0100644) > a);
}

static void test_symlink_target_keeps_any_bytes(void **state)
{
	struct env *e = *state;
	struct object_row o = { .mode = 0120777 };
	const char bytes[] = "../\xff\xfe\x01 \n";
	char *target;
	size_t len;

	assert_int_equal(object_insert(e->db, &o, bytes, sizeof(bytes) - 1), 0);
	assert_int_equal(object_target(e->db, o.id, &target, &len), 0);
	assert_int_equal(len, sizeof(bytes) - 1);
	assert_string_equal(target, bytes);
	free(target);
	assert_int_equal(object_set_target(e->db, o.id, "b", 1), 0);
	assert_int_equal(object_target(e->db, o.id, &target, &len), 0);
	assert_string_equal(target, "b");
	free(target);
}

static void test_xattrs_are_set_replaced_listed_and_removed(void **state)
{
	struct env *e = *state;
	uint64_t id = make_object(e->db, 0100644);
	void *value;
	char *list;
	size_t len;

	assert_int_equal(object_xattr_list(e->db, id, &list, &len), 0);
	assert_int_equal(len, 0);
	free(list);
	assert_int_equal(object_xattr_set(e->db, id, "user.b", "1\0002", 3), 0);
	assert_int_equal(object_xattr_set(e->db, id, "user.a", "", 0), 0);
	assert_int_equal(object_xattr_set(e->db, id, "user.b", "\0", 1), 0);
	assert_int_equal(object_xattr_get(e->db, id, "user.b", &value, &len), 0);
	assert_int_equal(len, 1);
	free(value);
	assert_int_equal(object_xattr_get(e->db, id, "user.a", &value, &len), 0);
	assert_int_equal(len, 0);
	free(value);
	assert_int_equal(object_xattr_list(e->db, id, &list, &len), 0);
	assert_int_equal(len, 14);
	assert_memory_equal(list, "user.a\0user.b", 14);
	free(list);
	assert_int_equal(object_xattr_remove(e->db, id, "user.a"), 0);
	assert_int_equal(object_xattr_remove(e->db, id, "user.a"), -ENOENT);
	assert_int_equal(object_xattr_get(e->db, id, "user.a", &value, &len), -ENOENT);
}

static void test_deleting_an_object_takes_its_xattrs_only(void **state)
{
	struct env *e = *state;
	uint64_t a = make_object(e->db, 0100644), b = make_object(e->db, 0100644);
	void *value;
	size_t len;

	assert_int_equal(object_xattr_set(e->db, a, "user.x", "a", 1), 0);
	assert_int_equal(object_xattr_set(e->db, b, "user.x", "b", 1), 0);
	assert_int_equal(object_delete(e->db, a), 0);
	assert_int_equal(object_xattr_get(e->db, a, "user.x", &value, &len), -ENOENT);
	assert_int_equal(object_xattr_get(e->db, b, "user.x", &value, &len), 0);
	free(value);
}

static void test_unlinked_objects_are_found(void **state)
{
	struct env *e = *state;
	uint64_t ids[4], a = make_object(e->db, 0100644);
	struct object_row o;

	assert_int_equal(object_unlinked(e->db, ids, 4), 0);
	assert_int_equal(object_get(e->db, a, &o), 0);
	o.nlink = 0;
	assert_int_equal(object_update(e->db, &o), 0);
	assert_int_equal(object_unlinked(e->db, ids, 4), 1);
	assert_int_equal(ids[0], a);
	assert_int_equal(object_unlinked(e->db, ids, 0), 0);
}

static void test_filename_refuses_what_no_directory_can_hold(void **state)
{
	struct row_filename f;
	char long_name[257];

	memset(long_name, 'n', sizeof(long_name));
	assert_false(row_filename_set(&f, "", 0));
	assert_false(row_filename_set(&f, ".", 1));
	assert_false(row_filename_set(&f, "..", 2));
	assert_false(row_filename_set(&f, "a/b", 3));
	assert_false(row_filename_set(&f, "a\0b", 3));
	assert_false(row_filename_set(&f, long_name, 256));
	assert_true(row_filename_set(&f, long_name, 255));
	assert_int_equal(f.len, 255);
	assert_int_equal(f.bytes[255], 0);
	assert_true(row_filename_set(&f, "...", 3));
	assert_true(row_filename_set(&f, "\xff\xfe", 2));
}

static void test_name_round_trips_every_column(void **state)
{
	struct env *e = *state;
	struct name_row n = { .store = 2, .parent = 5, .object = 6, .has_sha256 = true, .seen = 8 },
			got;

	assert_true(row_filename_set(&n.name, "\xc3\xa4 \xff", 4));
	assert_true(row_filename_set(&n.r_name, "old", 3));
	strcpy(n.rid.text, "r-1");
	strcpy(n.etag.text, "\"e\"");
	strcpy(n.r_parent.text, "r-0");
	memset(n.sha256, 0x33, sizeof(n.sha256));
	assert_int_equal(name_insert(e->db, &n), 0);
	memset(&got, 0xee, sizeof(got));
	assert_int_equal(name_get(e->db, n.id, &got), 0);
	assert_int_equal(got.name.len, 4);
	assert_memory_equal(got.name.bytes, n.name.bytes, 5);
	assert_string_equal(got.rid.text, "r-1");
	assert_string_equal(got.etag.text, "\"e\"");
	assert_string_equal(got.r_parent.text, "r-0");
	assert_int_equal(got.r_name.len, 3);
	assert_true(got.has_sha256);
	assert_memory_equal(got.sha256, n.sha256, sizeof(n.sha256));
	assert_int_equal(got.seen, 8);
	assert_int_equal(name_by_rid(e->db, 2, "r-1", &got), 0);
	assert_int_equal(got.id, n.id);
	assert_int_equal(name_by_rid(e->db, 1, "r-1", &got), -ENOENT);
	assert_int_equal(name_by_rid(e->db, 2, "", &got), -ENOENT);
}

static void test_name_without_origin_reads_back_empty(void **state)
{
	struct env *e = *state;
	struct name_row n = make_name(e->db, OBJECT_ROOT, "local", 9), got;

	memset(&got, 0xee, sizeof(got));
	assert_int_equal(name_get(e->db, n.id, &got), 0);
	assert_string_equal(got.rid.text, "");
	assert_string_equal(got.etag.text, "");
	assert_int_equal(got.r_name.len, 0);
	assert_false(got.has_sha256);
}

static void test_taken_place_is_eexist_and_the_transaction_goes_on(void **state)
{
	struct env *e = *state;
	struct name_row a = make_name(e->db, OBJECT_ROOT, "a", 9),
			b = make_name(e->db, OBJECT_ROOT, "b", 10);
	struct name_row again = a, got;

	assert_int_equal(name_insert(e->db, &again), -EEXIST);
	b.name = a.name;
	assert_int_equal(name_update(e->db, &b), -EEXIST);
	assert_int_equal(name_find(e->db, OBJECT_ROOT, "b", 1, &got), 0);
	make_name(e->db, OBJECT_ROOT, "c", 11);
}

static void test_same_rid_twice_in_a_store_is_eexist(void **state)
{
	struct env *e = *state;
	struct name_row a = make_name(e->db, OBJECT_ROOT, "a", 9),
			b = make_name(e->db, OBJECT_ROOT, "b", 10);

	strcpy(a.rid.text, "same");
	strcpy(b.rid.text, "same");
	assert_int_equal(name_update(e->db, &a), 0);
	assert_int_equal(name_update(e->db, &b), -EEXIST);
	b.store = 2;
	assert_int_equal(name_update(e->db, &b), 0);
}

static void test_lookup_gives_the_object_of_the_entry(void **state)
{
	struct env *e = *state;
	uint64_t id = make_object(e->db, 0100640);
	struct object_row o;

	make_name(e->db, OBJECT_ROOT, "file", id);
	assert_int_equal(name_lookup(e->db, OBJECT_ROOT, "file", 4, &o), 0);
	assert_int_equal(o.id, id);
	assert_int_equal(o.mode, 0100640);
	assert_int_equal(name_lookup(e->db, OBJECT_ROOT, "FILE", 4, &o), -ENOENT);
	assert_int_equal(name_lookup(e->db, OBJECT_ROOT, "fil", 3, &o), -ENOENT);
	assert_int_equal(name_lookup(e->db, id, "file", 4, &o), -ENOENT);
}

struct seen {
	struct db *db;
	unsigned count;
	uint64_t last, stop_at;
	bool recurse, remove;
	int result;
};

static int see(void *arg, const struct name_row *n, const struct object_row *o)
{
	struct seen *s = arg;

	assert_true(n->id > s->last);
	s->last = n->id;
	s->count++;
	if (o)
		assert_int_equal(o->id, n->object);
	if (s->recurse && o && o->mode == 040755) {
		struct seen inner = { .db = s->db };

		assert_int_equal(name_each(s->db, o->id, 0, see, &inner), 0);
		s->count += inner.count;
	}
	if (s->remove)
		assert_int_equal(name_delete(s->db, n->id), 0);
	if (s->result)
		return s->result;
	return s->stop_at == n->id;
}

static void test_each_goes_by_cookie_and_stops_when_told(void **state)
{
	struct env *e = *state;
	struct seen s = { .db = e->db };
	uint64_t object = make_object(e->db, 0100644), third = 0;
	char name[8];

	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "%d", 9 - i);
		struct name_row n = make_name(e->db, OBJECT_ROOT, name, object);

		third = i == 2 ? n.id : third;
	}
	assert_int_equal(name_each(e->db, OBJECT_ROOT, 0, see, &s), 0);
	assert_int_equal(s.count, 10);
	s = (struct seen){ .db = e->db, .last = third };
	assert_int_equal(name_each(e->db, OBJECT_ROOT, third, see, &s), 0);
	assert_int_equal(s.count, 7);
	s = (struct seen){ .db = e->db, .stop_at = third };
	assert_int_equal(name_each(e->db, OBJECT_ROOT, 0, see, &s), 0);
	assert_int_equal(s.count, 3);
	s = (struct seen){ .db = e->db, .result = -EIO };
	assert_int_equal(name_each(e->db, OBJECT_ROOT, 0, see, &s), -EIO);
	assert_int_equal(s.count, 1);
	s = (struct seen){ .db = e->db };
	assert_int_equal(name_each_of(e->db, object, see, &s), 0);
	assert_int_equal(s.count, 10);
}

static void test_each_may_be_nested_and_its_entries_removed(void **state)
{
	struct env *e = *state;
	struct seen s = { .db = e->db, .recurse = true };
	uint64_t dir = make_object(e->db, 040755), file = make_object(e->db, 0100644);

	make_name(e->db, OBJECT_ROOT, "d1", dir);
	make_name(e->db, dir, "x", file);
	make_name(e->db, dir, "y", file);
	make_name(e->db, OBJECT_ROOT, "z", file);
	assert_int_equal(name_each(e->db, OBJECT_ROOT, 0, see, &s), 0);
	assert_int_equal(s.count, 4);
	s = (struct seen){ .db = e->db, .remove = true };
	assert_int_equal(name_each(e->db, OBJECT_ROOT, 0, see, &s), 0);
	assert_int_equal(s.count, 2);
	assert_int_equal(name_any(e->db, OBJECT_ROOT), 0);
	assert_int_equal(name_any(e->db, dir), 1);
}

static void test_unseen_are_known_names_of_the_store_not_listed(void **state)
{
	struct env *e = *state;
	struct name_row rows[4], n[4];
	static const char *const texts[4] = { "a", "b", "c", "d" };
	uint64_t count = 0;
	size_t found = 9;

	for (int i = 0; i < 4; i++) {
		n[i] = make_name(e->db, OBJECT_ROOT, texts[i], 9);
		if (i != 1)
			strcpy(n[i].etag.text, "\"e\"");
		n[i].store = i == 2 ? 2 : 1;
		n[i].seen = 4;
		assert_int_equal(name_update(e->db, &n[i]), 0);
	}
	assert_int_equal(name_unseen(e->db, 1, 5, 0, rows, 4, &found), 0);
	assert_int_equal(found, 2);
	assert_int_equal(rows[0].id, n[0].id);
	assert_int_equal(rows[1].id, n[3].id);
	assert_int_equal(name_unseen(e->db, 1, 5, n[0].id, rows, 4, &found), 0);
	assert_int_equal(found, 1);
	assert_int_equal(name_unseen(e->db, 1, 4, 0, rows, 4, &found), 0);
	assert_int_equal(found, 0);
	assert_int_equal(name_count(e->db, 1, &count), 0);
	assert_int_equal(count, 2);
}

static int group_setup(void **state)
{
	return secret_init(false);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_object_round_trips_every_column),
		T(test_object_update_keeps_id_store_and_birth),
		T(test_absent_object_is_enoent_everywhere),
		T(test_object_id_is_never_given_twice),
		T(test_symlink_target_keeps_any_bytes),
		T(test_xattrs_are_set_replaced_listed_and_removed),
		T(test_deleting_an_object_takes_its_xattrs_only),
		T(test_unlinked_objects_are_found),
		T(test_filename_refuses_what_no_directory_can_hold),
		T(test_name_round_trips_every_column),
		T(test_name_without_origin_reads_back_empty),
		T(test_taken_place_is_eexist_and_the_transaction_goes_on),
		T(test_same_rid_twice_in_a_store_is_eexist),
		T(test_lookup_gives_the_object_of_the_entry),
		T(test_each_goes_by_cookie_and_stops_when_told),
		T(test_each_may_be_nested_and_its_entries_removed),
		T(test_unseen_are_known_names_of_the_store_not_listed),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
