/*
 * Goal: what eviction costs follows what it evicts, not what there is: the steps of SQLite's
 * machine are counted over all statements of the index, so nothing depends on the time of day.
 */
#include "content_fixture.h"

#include <sqlite3.h>

#include "meta/db_priv.h"

#define SIZE 5000u
#define FEW 160u /* more than are looked at in one go, and GONE twice */
#define MANY 1000u
#define GONE 8u
#define ETAG "\"v1\""

static void make_clean(struct content_fixture *f, uint32_t seed)
{
	struct file *file = cf_file(f, cf_remote(f, SIZE, ETAG));
	uint8_t buf[SIZE];

	cf_pattern(buf, SIZE, 0, seed);
	ok(file_fill(file, ETAG, buf, SIZE, 0));
	file_unref(file, true);
}

static void make_many(struct content_fixture *f, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		make_clean(f, i);
	ok(volume_sync(f->v));
}

/* Since the last time. */
static uint64_t steps(struct content_fixture *f)
{
	sqlite3_stmt *s = NULL;
	uint64_t sum = 0;

	db_read(f->v->db);
	while ((s = sqlite3_next_stmt(f->v->db->handle, s)))
		sum += (uint64_t)sqlite3_stmt_status(s, SQLITE_STMTSTATUS_VM_STEP, true);
	db_unlock(f->v->db);
	return sum;
}

/* What it costs to evict GONE files. */
static uint64_t cost(struct content_fixture *f)
{
	uint64_t freed;

	(void)steps(f);
	ok(space_evict(f->v, GONE * blob_bytes(SIZE), &freed));
	assert_int_equal(freed, GONE * blob_bytes(SIZE));
	return steps(f);
}

static void test_the_cost_is_that_of_what_goes(void **state)
{
	struct content_fixture f;
	uint64_t few, many;

	cf_init(&f);
	make_many(&f, FEW);
	few = cost(&f);
	make_many(&f, MANY);
	many = cost(&f);
	assert_true(few > 0);
	assert_in_range(many, 1, few * 3 / 2);
	cf_done(&f);
}

/* Used longer ago than all that may go. */
static void pin_all(struct content_fixture *f)
{
	uint64_t ids[FEW + MANY];
	size_t n;
	int got;

	db_read(f->v->db);
	got = content_map_after(f->v->db, 0, ids, ARRAY_SIZE(ids));
	db_unlock(f->v->db);
	assert_true(got > 0);
	ok(db_begin(f->v->db));
	for (n = 0; n < (size_t)got; n++)
		ok(content_map_pin(f->v->db, ids[n], true));
	ok(db_commit(f->v->db));
}

static void test_pinned_content_costs_nothing(void **state)
{
	struct content_fixture f;
	uint64_t few, many;

	cf_init(&f);
	make_many(&f, FEW);
	few = cost(&f);
	make_many(&f, MANY);
	pin_all(&f);
	make_many(&f, FEW);
	many = cost(&f);
	assert_true(few > 0);
	assert_in_range(many, 1, few * 3 / 2);
	cf_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_cost_is_that_of_what_goes),
		cmocka_unit_test(test_pinned_content_costs_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
