/* Goal: what is answered from the memo is what the connection would answer. */
#include "meta_fixture.h"

#include "meta/content.h"
#include "meta/db_priv.h"
#include "meta/memo.h"

#define OBJECTS 90 /* more than it has room for */
#define NAMED 25   /* of these; few, so that some have several names */
#define NAMES 40
#define STORES 6
#define RIDS 6
#define OPS 8
#define MAPS 30
#define BLOBS 8

struct env {
	struct fixture f;
	struct db *db;
	uint64_t objects[OBJECTS], names[NAMES], stores[STORES], ops[OPS], maps[MAPS], blobs[BLOBS];
	unsigned seed;
	unsigned turn; /* where answers begin: what comes first finds more in the memo */
};

static unsigned any(struct env *e, unsigned n)
{
	return (unsigned)rand_r(&e->seed) % n;
}

static char *answers(struct env *e);

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

static void some_name(struct env *e, struct name_row *n)
{
	char text[16];

	*n = (struct name_row){ .store = 1, .parent = 1 + any(e, 2), .object = 1 + any(e, NAMED) };
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

static int count_name(void *arg, const struct name_row *n, const struct object_row *o)
{
	++*(unsigned *)arg;
	return 0;
}

static int take_name(void *arg, const struct name_row *n, const struct object_row *o)
{
	*(struct name_row *)arg = *n;
	return 1;
}

/* As a file is made: with a first name, perhaps more. */
static void make_file(struct env *e)
{
	struct object_row o = some_object(e);
	unsigned made = 0, named = 0;
	struct name_row n;
	int r;

	assert_int_equal(object_insert(e->db, &o, NULL, 0), 0);
	e->objects[any(e, OBJECTS)] = o.id;
	for (unsigned left = any(e, 4); left; left--) {
		some_name(e, &n);
		n.object = o.id;
		r = name_insert(e->db, &n);
		assert_true(r == 0 || r == -EEXIST);
		made += !r;
	}
	assert_int_equal(name_each_of(e->db, o.id, count_name, &named), 0);
	assert_int_equal(named, made);
	/* Or there is no free name left soon. */
	while (made--) {
		assert_int_equal(name_each_of(e->db, o.id, take_name, &n), 0);
		assert_int_equal(name_delete(e->db, n.id), 0);
	}
}

static void some_op(struct env *e, struct op_row *op)
{
	*op = (struct op_row){ .store = 1 + any(e, 2),
		.kind = OP_PUT,
		.object = any(e, 100),
		.attempts = any(e, 100),
		.created_ns = any(e, 100) };
	snprintf(op->rid.text, sizeof(op->rid.text), "r%u", any(e, RIDS));
	snprintf(op->error, sizeof(op->error), "%u", any(e, 100));
	for (size_t i = 0; i < ROW_KEY_LEN; i++)
		op->key[i] = (uint8_t)any(e, 256);
}

static void change_op(struct env *e)
{
	uint64_t *seq = &e->ops[any(e, OPS)];
	struct op_row op;
	int r;

	some_op(e, &op);
	if (!*seq || any(e, 8) == 0) {
		assert_int_equal(op_insert(e->db, &op), 0);
		*seq = op.seq;
	} else if (any(e, 3) == 0) {
		r = op_delete(e->db, *seq);
		assert_true(r == 0 || r == -ENOENT);
		op.seq = *seq;
		if (any(e, 2)) {
			r = op_restore(e->db, &op);
			assert_true(r == 0 || r == -EEXIST);
		}
	} else {
		op.seq = *seq;
		r = op_update(e->db, &op);
		assert_true(r == 0 || r == -ENOENT);
	}
}

static void change_map(struct env *e)
{
	uint64_t *id = &e->maps[any(e, MAPS)];
	struct content_map m = { .blob = any(e, 3),
		.object = any(e, 9),
		.size = any(e, 3),
		.whole = any(e, 2),
		.used_s = any(e, 1000),
		.pinned = any(e, 2) };
	int r;

	snprintf(m.etag.text, sizeof(m.etag.text), "\"%u\"", any(e, 100));
	m.id = *id;
	if (!*id || any(e, 8) == 0) {
		r = content_map_insert(e->db, &m);
		*id = m.id;
	} else if (any(e, 8) == 0) {
		r = content_map_delete(e->db, *id);
	} else if (any(e, 8) == 0) {
		r = content_map_pin(e->db, *id, any(e, 2));
	} else if (any(e, 8) == 0) {
		r = content_map_used(e->db, *id, 1000 + any(e, 1000));
	} else if (any(e, 8) == 0) {
		r = content_undo_put(e->db,
			&(struct content_undo){ .map = *id, .gen = 1, .size = 7, .whole = true });
		if (r == 0 && content_map_update(e->db, &m) == 0)
			r = content_undo_apply(e->db, *id, 1);
	} else {
		r = content_map_update(e->db, &m);
	}
	assert_true(r == 0 || r == -ENOENT);
}

static void change_blob(struct env *e)
{
	uint64_t *id = &e->blobs[any(e, BLOBS)];
	struct content_blob b = { .store = 1,
		.alg = 1,
		.shift = 12,
		.seals = any(e, 1000),
		.alloc_bytes = any(e, 1000) };
	int r;

	b.id = *id;
	for (size_t i = 0; i < CONTENT_UUID_LEN; i++)
		b.uuid[i] = (uint8_t)any(e, 256);
	if (!*id || any(e, 8) == 0) {
		r = content_blob_insert(e->db, &b);
		*id = b.id;
	} else if (any(e, 8) == 0) {
		r = content_blob_delete(e->db, *id);
	} else {
		r = content_blob_update(e->db, &b);
	}
	assert_true(r == 0 || r == -ENOENT);
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

	for (unsigned i = 0; i < OBJECTS; i++) {
		uint64_t object = e->objects[(i + e->turn) % OBJECTS];

		fprintf(out, "of %ju", (uintmax_t)object);
		assert_int_equal(name_each_of(e->db, object, print_name, out), 0);
	}
	for (unsigned i = 0; i < 120; i++) {
		unsigned k = (i + e->turn) % 120;

		snprintf(rid, sizeof(rid), "n%u", k / 2);
		if (name_find(e->db, 1 + k % 2, rid, strlen(rid), &n) == 0)
			print_name(out, &n, NULL);
	}
	for (unsigned i = 0; i < 60; i++) {
		snprintf(rid, sizeof(rid), "r%u", (i + e->turn) % 60);
		if (name_by_rid(e->db, 1, rid, &n) == 0)
			print_name(out, &n, NULL);
		assert_int_equal(name_by_rid(e->db, 2, rid, &n), -ENOENT);
	}
}

static int print_op(void *arg, const struct op_row *op)
{
	fprintf(arg, " %ju:%ju/%s %ju %u %s %02x%02x", (uintmax_t)op->seq, (uintmax_t)op->store,
		op->rid.text, (uintmax_t)op->object, op->attempts, op->error, op->key[0],
		op->key[15]);
	return 0;
}

static void print_ops(struct env *e, FILE *out)
{
	struct op_row op;
	char rid[16];

	for (unsigned i = 0; i < 2 * RIDS; i++) {
		unsigned k = (i + e->turn) % (2 * RIDS);

		snprintf(rid, sizeof(rid), "r%u", k / 2);
		assert_int_equal(op_each_of_rid(e->db, 1 + k % 2, rid, print_op, out), 0);
	}
	for (size_t i = 0; i < OPS; i++)
		if (op_get(e->db, e->ops[i], &op) == 0)
			print_op(out, &op);
}

static void print_content(struct env *e, FILE *out)
{
	struct content_map m;
	struct content_blob b;

	for (size_t i = 0; i < MAPS; i++)
		if (content_map_get(e->db, e->maps[(i + e->turn) % MAPS], &m) == 0)
			fprintf(out, "m %ju %ju %ju %ju %d %s %jd %d\n", (uintmax_t)m.id,
				(uintmax_t)m.blob, (uintmax_t)m.object, (uintmax_t)m.size, m.whole,
				m.etag.text, (intmax_t)m.used_s, m.pinned);
	for (size_t i = 0; i < BLOBS; i++)
		if (content_blob_get(e->db, e->blobs[i], &b) == 0)
			fprintf(out, "b %ju %02x%02x %ju %ju\n", (uintmax_t)b.id, b.uuid[0],
				b.uuid[CONTENT_UUID_LEN - 1], (uintmax_t)b.seals,
				(uintmax_t)b.alloc_bytes);
}

static char *answers(struct env *e)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	struct store_row s;

	print_objects(e, out);
	print_names(e, out);
	print_ops(e, out);
	print_content(e, out);
	for (size_t i = 0; i < STORES; i++)
		if (store_get(e->db, e->stores[i], &s) == 0)
			fprintf(out, "s %s %s %ju\n", s.ref, s.name, (uintmax_t)s.listing);
	fclose(out);
	return text;
}

static void assert_truth(struct env *e)
{
	char *with, *without;

	e->turn = any(e, 1000);
	with = answers(e);

	memo_clear(e->db->memo);
	without = answers(e);
	assert_string_equal(with, without);
	free(with);
	free(without);
}

static void test_answers_are_those_of_the_connection(void **state)
{
	static void (*const changes[])(struct env * e) = { change_object, change_object,
		change_name, change_name, change_store, make_file, change_op, change_op, change_map,
		change_map, change_blob };
	struct env *e = *state;
	struct object_row o = some_object(e);

	assert_int_equal(db_begin(e->db), 0);
	for (size_t i = 0; i < NAMED; i++) {
		assert_int_equal(object_insert(e->db, &o, NULL, 0), 0);
		e->objects[i] = o.id;
	}
	assert_int_equal(db_commit(e->db), 0);
	for (unsigned round = 0; round < 600; round++) {
		if (any(e, 2))
			e->db->careful = 0; /* a rollback gives the group up */
		assert_int_equal(db_begin(e->db), 0);
		for (unsigned n = any(e, 12); n; n--) {
			changes[any(e, ARRAY_SIZE(changes))](e);
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
