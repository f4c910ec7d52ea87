/* Goal: rows of op, store, setting, deferred, conflict and event. */
#include "meta_fixture.h"

#include <sqlite3.h>

#include "meta/db_priv.h"
#include "meta/op.h"

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

static void test_op_round_trips_every_column(void **state)
{
	struct env *e = *state;
	struct op_row op = { .store = 1,
		.kind = OP_MOVE,
		.state = OP_HELD,
		.name = 2,
		.object = 3,
		.map = 4,
		.attempts = 5,
		.next_try_ms = 6,
		.status = -7,
		.created_ns = 8 },
		      got;

	strcpy(op.rid.text, "rid");
	memset(op.key, 0x77, sizeof(op.key));
	strcpy(op.base_etag.text, "\"b\"");
	strcpy(op.r_parent.text, "par");
	assert_true(row_filename_set(&op.r_name, "n\xff", 2));
	strcpy(op.other_rid.text, "oth");
	strcpy(op.other_etag.text, "\"o\"");
	memset(op.error, 'e', OP_ERROR_MAX);
	assert_int_equal(op_insert(e->db, &op), 0);
	memset(&got, 0, sizeof(got));
	assert_int_equal(op_get(e->db, op.seq, &got), 0);
	assert_memory_equal(&got, &op, sizeof(op));
	memset(&got, 0, sizeof(got));
	assert_int_equal(op_by_key(e->db, op.key, &got), 0);
	assert_memory_equal(&got, &op, sizeof(op));
	op.state = OP_QUEUED;
	op.attempts = 9;
	assert_int_equal(op_update(e->db, &op), 0);
	assert_int_equal(op_get(e->db, op.seq, &got), 0);
	assert_int_equal(got.attempts, 9);
	op.seq++;
	assert_int_equal(op_update(e->db, &op), -ENOENT);
	assert_int_equal(op_delete(e->db, op.seq), -ENOENT);
}

static void test_op_sequence_never_goes_back(void **state)
{
	struct env *e = *state;
	struct op_row op = { .kind = OP_PUT };
	uint64_t seq, last = 9;

	assert_int_equal(op_last_seq(e->db, &last), 0);
	assert_int_equal(last, 0);
	assert_int_equal(op_insert(e->db, &op), 0);
	seq = op.seq;
	assert_int_equal(op_delete(e->db, seq), 0);
	assert_int_equal(op_last_seq(e->db, &last), 0);
	assert_int_equal(last, seq);
	assert_int_equal(op_insert(e->db, &op), 0);
	assert_true(op.seq > seq);
}

static int sum_seq(void *arg, const struct op_row *op)
{
	*(uint64_t *)arg += op->seq;
	return 0;
}

static void test_ops_are_found_by_record_object_and_order(void **state)
{
	struct env *e = *state;
	uint64_t sum = 0, seqs[3];

	for (int i = 0; i < 3; i++) {
		struct op_row op = {
			.kind = OP_PUT, .store = 1, .object = i == 2 ? 9 : 8, .created_ns = 50 - i
		};

		strcpy(op.rid.text, i == 1 ? "b" : "a");
		op.state = i == 2 ? OP_REFUSED : OP_QUEUED;
		assert_int_equal(op_insert(e->db, &op), 0);
		seqs[i] = op.seq;
	}
	assert_int_equal(op_each(e->db, seqs[0], sum_seq, &sum), 0);
	assert_int_equal(sum, seqs[1] + seqs[2]);
	sum = 0;
	assert_int_equal(op_each_of_rid(e->db, 1, "a", sum_seq, &sum), 0);
	assert_int_equal(sum, seqs[0] + seqs[2]);
	sum = 0;
	assert_int_equal(op_each_of_rid(e->db, 2, "a", sum_seq, &sum), 0);
	assert_int_equal(sum, 0);
	assert_int_equal(op_each_of_object(e->db, 8, sum_seq, &sum), 0);
	assert_int_equal(sum, seqs[0] + seqs[1]);
}

static void test_op_counts_by_state_and_age(void **state)
{
	struct env *e = *state;
	struct op_counts c = { .queued = 9 };

	assert_int_equal(op_counts(e->db, &c), 0);
	assert_int_equal(c.queued, 0);
	assert_int_equal(c.oldest_ns, 0);
	for (int i = 0; i < 5; i++) {
		struct op_row op = {
			.kind = OP_PUT, .state = (enum op_state)(i % 4), .created_ns = 100 - i
		};

		assert_int_equal(op_insert(e->db, &op), 0);
	}
	assert_int_equal(op_counts(e->db, &c), 0);
	assert_int_equal(c.queued, 2);
	assert_int_equal(c.inflight, 1);
	assert_int_equal(c.refused, 1);
	assert_int_equal(c.held, 1);
	assert_int_equal(c.oldest_ns, 96);
}

static int count_store(void *arg, const struct store_row *s)
{
	++*(int *)arg;
	return 0;
}

static void test_store_round_trips_and_names_are_unique(void **state)
{
	struct env *e = *state;
	struct store_row s = {
		.mode = STORE_LOCAL, .root = 5, .listed = true, .listing = 6, .validated_ns = 7
	};
	struct store_row got, again;
	int n = 0;

	memset(s.ref, 'a', STORE_REF_LEN);
	memset(s.name, 'n', STORE_NAME_MAX);
	memset(s.cursor, 'c', STORE_CURSOR_MAX);
	assert_int_equal(store_insert(e->db, &s), 0);
	memset(&got, 0xee, sizeof(got));
	assert_int_equal(store_by_name(e->db, s.name, &got), 0);
	assert_int_equal(got.id, s.id);
	assert_string_equal(got.cursor, s.cursor);
	assert_string_equal(got.ref, s.ref);
	assert_true(got.listed && got.mode == STORE_LOCAL);
	again = s;
	assert_int_equal(store_insert(e->db, &again), -EEXIST);
	s.cursor[0] = 0;
	assert_int_equal(store_update(e->db, &s), 0);
	assert_int_equal(store_get(e->db, s.id, &got), 0);
	assert_string_equal(got.cursor, "");
	assert_int_equal(store_get(e->db, 4711, &got), -ENOENT);
	assert_int_equal(store_each(e->db, count_store, &n), 0);
	assert_int_equal(n, 1);
}

static void test_settings_keep_bytes_and_their_limits(void **state)
{
	struct env *e = *state;
	uint8_t buf[8] = { 0 };
	size_t len = 99;
	uint64_t v = 1;

	assert_int_equal(setting_get(e->db, "k", buf, sizeof(buf), &len), -ENOENT);
	assert_int_equal(setting_set(e->db, "k", "\0\1\2", 3), 0);
	assert_int_equal(setting_get(e->db, "k", buf, 2, &len), CE_TOO_LARGE);
	assert_int_equal(len, 99);
	assert_int_equal(setting_get(e->db, "k", buf, 3, &len), 0);
	assert_int_equal(len, 3);
	assert_memory_equal(buf, "\0\1\2", 3);
	assert_int_equal(setting_get_u64(e->db, "k", &v), CE_CORRUPT);
	assert_int_equal(setting_set(e->db, "k", NULL, 0), 0);
	assert_int_equal(setting_get(e->db, "k", buf, 3, &len), 0);
	assert_int_equal(len, 0);
	assert_int_equal(setting_set_u64(e->db, "n", UINT64_MAX), 0);
	assert_int_equal(setting_get_u64(e->db, "n", &v), 0);
	assert_true(v == UINT64_MAX);
}

struct deferred_seen {
	struct db *db;
	char rids[32];
};

static int take_deferred(void *arg, const char *rid, const char *entry)
{
	struct deferred_seen *s = arg;

	strcat(s->rids, rid);
	assert_string_equal(entry, "{}");
	assert_int_equal(deferred_delete(s->db, 1, rid), 0);
	return 0;
}

static void test_deferred_entries_wait_for_parent_or_reason_and_may_be_taken(void **state)
{
	struct env *e = *state;
	struct deferred_seen s = { .db = e->db };
	uint64_t n;
	char *entry;

	assert_int_equal(deferred_put(e->db, 1, "a", DEFERRED_PARENT, "p", "old"), 0);
	assert_int_equal(deferred_put(e->db, 1, "a", DEFERRED_PARENT, "p", "{}"), 0);
	assert_int_equal(deferred_put(e->db, 1, "b", DEFERRED_PARENT, "q", "{}"), 0);
	assert_int_equal(deferred_put(e->db, 1, "c", DEFERRED_PARENT, "p", "{}"), 0);
	assert_int_equal(deferred_put(e->db, 1, "d", DEFERRED_HELD, NULL, "{}"), 0);
	assert_int_equal(deferred_put(e->db, 2, "a", DEFERRED_PARENT, "p", "other"), 0);
	assert_int_equal(deferred_get(e->db, 2, "a", &entry), 0);
	assert_string_equal(entry, "other");
	free(entry);
	assert_int_equal(deferred_each(e->db, 1, DEFERRED_PARENT, "p", take_deferred, &s), 0);
	assert_string_equal(s.rids, "ac");
	assert_int_equal(deferred_each(e->db, 1, DEFERRED_HELD, NULL, take_deferred, &s), 0);
	assert_string_equal(s.rids, "acd");
	assert_int_equal(deferred_count(e->db, DEFERRED_PARENT, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(deferred_get(e->db, 1, "a", &entry), -ENOENT);
}

static int see_conflict(void *arg, const struct conflict_row *c)
{
	int *n = arg;

	++*n;
	assert_string_equal(c->path, "a/b");
	assert_null(c->other_path);
	assert_string_equal(c->rid.text, "r");
	return 0;
}

static void test_conflicts_are_listed_until_resolved(void **state)
{
	struct env *e = *state;
	struct conflict_row c = { .store = 1, .kind = 2, .object = 3, .created_ns = 4 };
	char path[] = "a/b";
	int n = 0;

	strcpy(c.rid.text, "r");
	c.path = path;
	assert_int_equal(conflict_insert(e->db, &c), 0);
	assert_int_equal(conflict_each(e->db, true, see_conflict, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(conflict_resolve(e->db, c.id, 9, 2), 0);
	assert_int_equal(conflict_each(e->db, true, see_conflict, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(conflict_each(e->db, false, see_conflict, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(conflict_resolve(e->db, c.id + 1, 9, 2), -ENOENT);
}

static void append_three(struct db *db)
{
	assert_int_equal(event_append(db, 1, "rotate", "{}"), 0);
	assert_int_equal(event_append(db, 2, "lock", "{\"n\":1}"), 0);
	assert_int_equal(event_append(db, 3, "wipe", "{}"), 0);
}

static int count_event(
	void *arg, uint64_t id, int64_t time_ns, const char *kind, const char *detail)
{
	assert_int_equal(id, time_ns);
	++*(int *)arg;
	return 0;
}

static void test_event_chain_verifies(void **state)
{
	struct env *e = *state;
	uint64_t bad = 0;
	int n = 0;

	assert_int_equal(event_verify(e->db, &bad), 0);
	append_three(e->db);
	assert_int_equal(event_verify(e->db, &bad), 0);
	assert_int_equal(event_each(e->db, 1, count_event, &n), 0);
	assert_int_equal(n, 2);
}

static void assert_seen(struct db *db, const char *sql, uint64_t id)
{
	uint64_t bad = 0;

	append_three(db);
	assert_int_equal(db_exec(db, sql), 0);
	assert_int_equal(event_verify(db, &bad), CE_TAMPER);
	assert_int_equal(bad, id);
}

static void test_changed_event_is_seen(void **state)
{
	assert_seen(((struct env *)*state)->db, "UPDATE event SET detail = '{}' WHERE id = 2", 2);
}

static void test_removed_event_is_seen(void **state)
{
	assert_seen(((struct env *)*state)->db, "DELETE FROM event WHERE id = 2", 2);
}

static void test_events_cut_from_the_end_are_seen(void **state)
{
	assert_seen(((struct env *)*state)->db, "DELETE FROM event WHERE id = 3", 3);
}

static int group_setup(void **state)
{
	return secret_init(false);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_op_round_trips_every_column),
		T(test_op_sequence_never_goes_back),
		T(test_ops_are_found_by_record_object_and_order),
		T(test_op_counts_by_state_and_age),
		T(test_store_round_trips_and_names_are_unique),
		T(test_settings_keep_bytes_and_their_limits),
		T(test_deferred_entries_wait_for_parent_or_reason_and_may_be_taken),
		T(test_conflicts_are_listed_until_resolved),
		T(test_event_chain_verifies),
		T(test_changed_event_is_seen),
		T(test_removed_event_is_seen),
		T(test_events_cut_from_the_end_are_seen),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
