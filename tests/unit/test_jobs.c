/* Goal: jobs (cache/jobs.h) wait in order, over restarts, within their bounds, and are settled
 * once. */
#include "tree_fixture.h"

#include "cache/jobs.h"

static void add(
	struct tree_fixture *f, const char *type, const char *data, char key[static JOBS_KEY_SIZE])
{
	ok(jobs_add(f->v, type, data, strlen(data), key));
	assert_int_equal(strlen(key), JOBS_KEY_SIZE - 1);
}

/* The next one is this. */
static void expect(struct tree_fixture *f, const char *key, const char *type, const char *data)
{
	struct jobs_waiting job;

	ok(jobs_next(f->v, &job));
	assert_string_equal(job.key, key);
	assert_string_equal(job.type, type);
	assert_int_equal(job.len, strlen(data));
	assert_memory_equal(job.data, data, job.len);
	free(job.data);
}

static size_t listed(struct tree_fixture *f)
{
	_cleanup_json_ struct json *list = NULL;

	ok(jobs_list(f->v, &list));
	return json_count(list);
}

static void the_oldest_goes_first_and_none_twice(void **state)
{
	struct tree_fixture *f = *state;
	char a[JOBS_KEY_SIZE], b[JOBS_KEY_SIZE];
	struct jobs_waiting job;

	assert_int_equal(jobs_next(f->v, &job), -ENOENT);
	assert_int_equal(listed(f), 0);
	add(f, "report", "{\"n\":1}", a);
	add(f, "mail", "", b);
	assert_string_not_equal(a, b);
	expect(f, a, "report", "{\"n\":1}");
	expect(f, a, "report", "{\"n\":1}"); /* until it is settled */
	ok(jobs_settle(f->v, a, "job-17", NULL));
	expect(f, b, "mail", "");
	ok(jobs_settle(f->v, b, NULL, "no such type"));
	assert_int_equal(jobs_next(f->v, &job), -ENOENT);
	assert_int_equal(listed(f), 2);
}

static void what_waits_survives_a_restart(void **state)
{
	struct tree_fixture *f = *state;
	char a[JOBS_KEY_SIZE];

	add(f, "report", "payload", a);
	tf_reopen(f);
	expect(f, a, "report", "payload");
}

static void the_outcome_is_remembered_and_the_payload_is_not(void **state)
{
	struct tree_fixture *f = *state;
	_cleanup_json_ struct json *list = NULL;
	const char *text;
	char a[JOBS_KEY_SIZE], b[JOBS_KEY_SIZE], name[48], rest[16];
	size_t len;

	add(f, "report", "secret", a);
	add(f, "report", "other", b);
	ok(jobs_settle(f->v, a, "job-17", NULL));
	ok(jobs_settle(f->v, b, NULL, "it is \xff not text"));
	ok(jobs_list(f->v, &list));
	ok(json_get_string(json_first(list), "state", &text));
	assert_string_equal(text, "sent");
	ok(json_get_string(json_first(list), "job_id", &text));
	assert_string_equal(text, "job-17");
	ok(json_get_string(json_next(json_first(list)), "state", &text));
	assert_string_equal(text, "refused");
	/* What is no UTF-8 does not go into the list, and does not break it. */
	assert_int_not_equal(json_get_string(json_next(json_first(list)), "error", &text), 0);
	snprintf(name, sizeof(name), "job.%s", a);
	db_read(f->v->db);
	assert_int_equal(setting_get(f->v->db, name, rest, sizeof(rest), &len), -ENOENT);
	db_unlock(f->v->db);
}

/* A reason of any length comes from the origin. */
static void a_long_reason_is_cut(void **state)
{
	struct tree_fixture *f = *state;
	_cleanup_json_ struct json *list = NULL;
	char a[JOBS_KEY_SIZE], why[5000];
	const char *text;

	memset(why, 'x', sizeof(why) - 1);
	why[sizeof(why) - 1] = 0;
	add(f, "report", "{}", a);
	ok(jobs_settle(f->v, a, NULL, why));
	ok(jobs_list(f->v, &list));
	ok(json_get_string(json_first(list), "error", &text));
	assert_true(strlen(text) < 200);
}

static void settling_what_is_not_there_changes_nothing(void **state)
{
	struct tree_fixture *f = *state;
	char a[JOBS_KEY_SIZE];

	add(f, "report", "x", a);
	ok(jobs_settle(f->v, "ffffffffffffffffffffffffffffffff", "j", NULL));
	assert_int_equal(listed(f), 1);
	expect(f, a, "report", "x");
}

static void types_and_payloads_have_bounds(void **state)
{
	struct tree_fixture *f = *state;
	char type[JOBS_TYPE_MAX + 2], key[JOBS_KEY_SIZE], *big = calloc(1, JOBS_PAYLOAD_MAX + 1);
	struct jobs_waiting job;

	memset(type, 't', sizeof(type) - 1);
	type[sizeof(type) - 1] = 0;
	assert_int_equal(jobs_add(f->v, type, "", 0, key), -EINVAL);
	assert_int_equal(jobs_add(f->v, "", "", 0, key), -EINVAL);
	assert_int_equal(jobs_add(f->v, "t", big, JOBS_PAYLOAD_MAX + 1, key), CE_TOO_LARGE);
	assert_int_equal(listed(f), 0);
	ok(jobs_add(f->v, type + 1, big, JOBS_PAYLOAD_MAX, key));
	ok(jobs_next(f->v, &job));
	assert_int_equal(job.len, JOBS_PAYLOAD_MAX);
	assert_string_equal(job.type, type + 1);
	free(job.data);
	free(big);
}

static void what_waits_together_has_a_bound_and_leaves_room_when_it_is_sent(void **state)
{
	struct tree_fixture *f = *state;
	const size_t n = JOBS_WAITING_MAX / JOBS_PAYLOAD_MAX;
	char first[JOBS_KEY_SIZE], key[JOBS_KEY_SIZE], *big = calloc(1, JOBS_PAYLOAD_MAX);

	ok(jobs_add(f->v, "t", big, JOBS_PAYLOAD_MAX, first));
	for (size_t i = 1; i < n; i++)
		ok(jobs_add(f->v, "t", big, JOBS_PAYLOAD_MAX, key));
	assert_int_equal(jobs_add(f->v, "t", big, 1, key), -ENOSPC);
	assert_int_equal(listed(f), n);
	ok(jobs_settle(f->v, first, "j", NULL));
	ok(jobs_add(f->v, "t", big, JOBS_PAYLOAD_MAX, key));
	free(big);
}

/* The oldest that are over are forgotten, and none that waits: it is beside them. */
static void the_list_forgets_what_is_over(void **state)
{
	struct tree_fixture *f = *state;
	char waits[JOBS_KEY_SIZE], key[JOBS_KEY_SIZE];

	add(f, "t", "it waits", waits);
	for (unsigned i = 0; i < JOBS_KEPT + 5; i++) {
		add(f, "t", "x", key);
		ok(jobs_settle(f->v, key, "j", NULL));
	}
	assert_int_equal(listed(f), JOBS_KEPT + 1);
	expect(f, waits, "t", "it waits");
}

static void put_list(struct tree_fixture *f, const char *text)
{
	ok(db_begin(f->v->db));
	ok(setting_set(f->v->db, "jobs", text, strlen(text)));
	ok(db_commit(f->v->db));
}

static void a_list_that_is_none_is_told_and_not_written_over(void **state)
{
	struct tree_fixture *f = *state;
	static const char *const bad[] = { "[{\"job\":\"1\",\"state\":\"waiting\"}]",
		"[{\"job\":\"00112233445566778899aabbccddeeff\",\"type\":\"t\",\"state\":"
		"\"waiting\"}]",
		"[{\"job\":\"00112233445566778899aabbccddeeff00\",\"type\":\"t\",\"state\":"
		"\"waiting\"}]" };
	char key[JOBS_KEY_SIZE];
	struct jobs_waiting job;

	put_list(f, "[{");
	assert_int_equal(jobs_next(f->v, &job), CE_CORRUPT);
	assert_int_equal(jobs_add(f->v, "t", "", 0, key), CE_CORRUPT);
	assert_int_equal(jobs_settle(f->v, "x", "j", NULL), CE_CORRUPT);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		put_list(f, bad[i]);
		assert_int_equal(jobs_next(f->v, &job), CE_CORRUPT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tf_test(the_oldest_goes_first_and_none_twice),
		tf_test(what_waits_survives_a_restart),
		tf_test(the_outcome_is_remembered_and_the_payload_is_not),
		tf_test(a_long_reason_is_cut),
		tf_test(settling_what_is_not_there_changes_nothing),
		tf_test(types_and_payloads_have_bounds),
		tf_test(what_waits_together_has_a_bound_and_leaves_room_when_it_is_sent),
		tf_test(the_list_forgets_what_is_over),
		tf_test(a_list_that_is_none_is_told_and_not_written_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
