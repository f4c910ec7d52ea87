/*
 * Goal: answers of queries (cache/queries.h) are files beside the records and never among them:
 * nothing of them is sent, no listing removes them, a record of the same name keeps it, and only
 * names that can be an address are asked.
 */
#include "origin_model.h"

#include "cache/queries.h"

static const char *const two[] = { "by-subject", "latest" };

/* A directory at the top of the store, 0: it is not there. */
static uint64_t below(struct tree_fixture *f, uint64_t dir, const char *name)
{
	struct tree_attr a;

	return tree_lookup(f->v, dir, name, &a) ? 0 : a.object;
}

static uint64_t query_dir(struct tree_fixture *f, const char *queries, const char *query)
{
	uint64_t top = below(f, f->root, queries);

	return top ? below(f, top, query) : 0;
}

static void put(struct tree_fixture *f, const char *query, const char *file, const char *text)
{
	struct queries_one q;

	ok(queries_find(f->v, query_dir(f, "queries", query), file, &q));
	ok(queries_put(f->v, &q, "\"1\"", text, strlen(text)));
}

static void expect(struct tree_fixture *f, uint64_t object, const char *text)
{
	struct object_row o;
	struct file *file;
	char got[64] = "";
	size_t n;

	db_read(f->v->db);
	ok(object_get(f->v->db, object, &o));
	db_unlock(f->v->db);
	ok(file_open(f->v, object, o.version, false, &file));
	ok(file_read(file, got, sizeof(got) - 1, 0, &n));
	assert_string_equal(got, text);
	file_unref(file, false);
}

static void an_answer_is_a_file_that_is_not_sent(void **state)
{
	struct tree_fixture *f = *state;
	struct queries_one q;
	uint64_t dir, file;

	ok(queries_set(f->v, "records", two, 2));
	dir = query_dir(f, "queries", "by-subject");
	assert_int_not_equal(dir, 0);
	ok(queries_find(f->v, dir, "subjectId=42&from=7.json", &q));
	assert_string_equal(q.address, "by-subject?subjectId=42&from=7");
	assert_string_equal(q.store_name, "records");
	assert_string_equal(q.etag, "");
	put(f, "by-subject", "subjectId=42&from=7.json", "[1,2]");
	file = below(f, dir, "subjectId=42&from=7.json");
	expect(f, file, "[1,2]");
	ok(queries_of(f->v, file, &q));
	assert_string_equal(q.address, "by-subject?subjectId=42&from=7");
	assert_string_equal(q.etag, "\"1\"");
	assert_true(queries_is(f->v, q.store));
	assert_false(queries_is(f->v, f->store));
	assert_journal(f, "");
	tf_reopen(f);
	assert_true(queries_is(f->v, q.store));
	expect(f, below(f, query_dir(f, "queries", "by-subject"), "subjectId=42&from=7.json"),
		"[1,2]");
}

static void without_parameters_it_is_all(void **state)
{
	struct tree_fixture *f = *state;
	struct queries_one q;

	ok(queries_set(f->v, "records", two, 2));
	ok(queries_find(f->v, query_dir(f, "queries", "latest"), "all.json", &q));
	assert_string_equal(q.address, "latest");
	ok(queries_put(f->v, &q, "\"1\"", "", 0));
	expect(f, below(f, query_dir(f, "queries", "latest"), "all.json"), "");
}

static void a_name_that_is_no_address_is_not_asked_for(void **state)
{
	struct tree_fixture *f = *state;
	static const char *const bad[] = { ".json", "x.json", "a=1", "a=1.jsonx", "=1.json",
		"a=\xff.json", "all", "ALL.json", ".a.json.swp" };
	char longest[400];
	struct queries_one q;
	uint64_t dir;

	ok(queries_set(f->v, "records", two, 2));
	dir = query_dir(f, "queries", "latest");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(queries_find(f->v, dir, bad[i], &q), -ENOENT);
	memset(longest, 'x', sizeof(longest) - 1);
	memcpy(longest, "a=", 2);
	strcpy(longest + sizeof(longest) - 6, ".json");
	assert_int_equal(queries_find(f->v, dir, longest, &q), -ENOENT);
	/* Only in a directory of a query: not at the top, not in the store. */
	assert_int_equal(queries_find(f->v, below(f, f->root, "queries"), "a=1.json", &q), -ENOENT);
	assert_int_equal(queries_find(f->v, f->root, "a=1.json", &q), -ENOENT);
}

static void nothing_is_made_or_changed_there(void **state)
{
	struct tree_fixture *f = *state;

	ok(queries_set(f->v, "records", two, 2));
	put(f, "latest", "all.json", "[]");
	assert_int_equal(tf_create(f, "queries/latest/a=1.json"), -EROFS);
	assert_int_equal(tf_unlink(f, "queries/latest/all.json"), -EROFS);
	assert_int_equal(tf_mkdir(f, "queries/mine"), -EROFS);
}

static void the_origins_new_answer_replaces_and_its_no_removes(void **state)
{
	struct tree_fixture *f = *state;
	struct queries_one q;
	uint64_t dir;

	ok(queries_set(f->v, "records", two, 2));
	dir = query_dir(f, "queries", "latest");
	ok(queries_find(f->v, dir, "all.json", &q));
	ok(queries_put(f->v, &q, "\"1\"", "old", 3));
	ok(queries_put(f->v, &q, "\"2\"", "newer", 5));
	expect(f, below(f, dir, "all.json"), "newer");
	ok(queries_gone(f->v, &q));
	assert_int_equal(below(f, dir, "all.json"), 0);
	ok(queries_gone(f->v, &q)); /* said twice */
}

static void an_etag_without_end_is_refused(void **state)
{
	struct tree_fixture *f = *state;
	char etag[100];
	struct queries_one q;

	memset(etag, 'e', sizeof(etag) - 1);
	etag[sizeof(etag) - 1] = 0;
	ok(queries_set(f->v, "records", two, 2));
	ok(queries_find(f->v, query_dir(f, "queries", "latest"), "all.json", &q));
	assert_int_equal(queries_put(f->v, &q, etag, "x", 1), CE_PROTOCOL);
	assert_int_equal(below(f, query_dir(f, "queries", "latest"), "all.json"), 0);
}

static void a_query_that_is_gone_takes_its_answers_with_it(void **state)
{
	struct tree_fixture *f = *state;

	ok(queries_set(f->v, "records", two, 2));
	put(f, "latest", "all.json", "[]");
	put(f, "by-subject", "a=1.json", "[1]");
	ok(queries_set(f->v, "records", two, 1));
	assert_int_equal(query_dir(f, "queries", "latest"), 0);
	assert_int_not_equal(below(f, query_dir(f, "queries", "by-subject"), "a=1.json"), 0);
	ok(queries_set(f->v, "records", NULL, 0));
	assert_int_equal(query_dir(f, "queries", "by-subject"), 0);
}

/* Other stores, and stores that never had one, are none of it. */
static void a_store_without_queries_gets_no_directory(void **state)
{
	struct tree_fixture *f = *state;

	ok(queries_set(f->v, "records", NULL, 0));
	assert_int_equal(below(f, f->root, "queries"), 0);
	assert_int_equal(queries_set(f->v, "unknown", two, 2), -ENOENT);
}

static void a_listing_of_the_store_leaves_answers_alone(void **state)
{
	struct tree_fixture *f = *state;
	struct remote_report report;

	ok(queries_set(f->v, "records", two, 2));
	put(f, "latest", "all.json", "[]");
	ok(remote_listing_begin(f->v, f->store));
	ok(remote_listing_end(f->v, f->store, false, &report));
	assert_int_equal(report.removed, 0);
	expect(f, below(f, query_dir(f, "queries", "latest"), "all.json"), "[]");
}

static void a_record_called_queries_keeps_its_name(void **state)
{
	struct tree_fixture *f = *state;
	struct origin_model *m = om_new(1);
	uint64_t cursor = 0;

	ok(tf_mkdir(f, "queries~"));
	ok(queries_set(f->v, "records", two, 2));
	put(f, "latest", "all.json", "[]");
	om_make(m, "r", REMOTE_FILE, "root", "queries", "a record", NULL);
	om_sync(f, m, &cursor, 10);
	assert_string_equal(om_at(m, "root", "queries")->content, "a record");
	assert_true(S_ISREG(tf_attr(f, "queries").mode));
	expect(f, below(f, query_dir(f, "queries~~", "latest"), "all.json"), "[]");
	assert_int_equal(m->conflicts, 0);
	om_free(m);
}

static void a_local_file_called_queries_keeps_its_name(void **state)
{
	struct tree_fixture *f = *state;

	ok(tf_write(f, "queries", "mine"));
	ok(queries_set(f->v, "records", two, 2));
	assert_true(S_ISREG(tf_attr(f, "queries").mode));
	assert_int_not_equal(query_dir(f, "queries~", "latest"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tf_test(an_answer_is_a_file_that_is_not_sent),
		tf_test(without_parameters_it_is_all),
		tf_test(a_name_that_is_no_address_is_not_asked_for),
		tf_test(nothing_is_made_or_changed_there),
		tf_test(the_origins_new_answer_replaces_and_its_no_removes),
		tf_test(an_etag_without_end_is_refused),
		tf_test(a_query_that_is_gone_takes_its_answers_with_it),
		tf_test(a_store_without_queries_gets_no_directory),
		tf_test(a_listing_of_the_store_leaves_answers_alone),
		tf_test(a_record_called_queries_keeps_its_name),
		tf_test(a_local_file_called_queries_keeps_its_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
