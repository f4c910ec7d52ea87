/*
 * Property: whatever is done to the tree, and whenever operations are sent in between over a line
 * that loses requests and answers, sending the journal leaves the origin with exactly the local
 * tree, and without a conflict: we are alone.
 */
#include "local_ops.h"

#define RUNS 300 /* CACHET_TEST_RUNS: the last seed, CACHET_TEST_SEED: the first or only one */

static void one_run(struct tree_fixture *f, uint64_t seed, bool only_dirs)
{
	struct origin_model *m = om_new(seed);
	char name[32];
	uint64_t cursor = 0;
	int steps = 5 + (int)(om_rand(m) % (only_dirs ? 150 : 60));
	unsigned eager = (unsigned)(om_rand(m) % 40);

	m->lossy = om_rand(m) % 3 ? 0 : 30;
	snprintf(name, sizeof(name), "run-%llu", (unsigned long long)seed);
	tf_store(f, name);
	for (int i = 0; i < steps; i++) {
		if (only_dirs)
			local_dir_op(f, m);
		else
			local_op(f, m, NULL);
		if (om_rand(m) % 100 < eager)
			om_push_once(f, m, 1 + om_rand(m) % 8);
		if (om_rand(m) % 100 < eager / 2)
			om_pull_once(f, m, &cursor, 1 + om_rand(m) % 8);
	}
	om_sync(f, m, &cursor, 50);
	if (m->conflicts || m->refused) {
		print_error("seed %llu: %u conflicts, %u refused\n", (unsigned long long)seed,
			m->conflicts, m->refused);
		fail();
	}
	om_compare(f, m);
	check_links(f);
	om_free(m);
}

static void runs(struct tree_fixture *f, bool only_dirs)
{
	const char *only = getenv("CACHET_TEST_SEED");
	const char *last_text = getenv("CACHET_TEST_RUNS");
	uint64_t first = only ? strtoull(only, NULL, 10) : 1,
		 last = last_text ? strtoull(last_text, NULL, 10) : RUNS;

	if (only && !last_text)
		last = first;
	for (uint64_t seed = first; seed <= last; seed++) {
		if (getenv("CACHET_TEST_VERBOSE"))
			print_message("seed %llu\n", (unsigned long long)seed);
		one_run(f, seed, only_dirs);
	}
}

static void replay_gives_the_local_tree(void **state)
{
	runs(*state, false);
}

static void moved_and_removed_directories_are_no_conflict(void **state)
{
	runs(*state, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tf_test(replay_gives_the_local_tree),
		tf_test(moved_and_removed_directories_are_no_conflict),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
