/* Sequential readers ask for more and more, others for what they read. */
#include "sync/window.h"

#include "base/macros.h"
#include "unit.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define LARGE (1024 * MIB)
#define READ (128 * KIB) /* what the kernel asks for at a time */

/* A reader at `off`; what it does not have is asked for. How much that was. */
static uint64_t read_at(struct window *w, uint64_t *have, uint64_t off, uint64_t size)
{
	uint64_t bytes;

	if (off + READ <= *have)
		return 0;
	bytes = window_next(w, off, off + READ, size);
	*have = MIN_OF(off + bytes, size);
	window_asked(w, *have);
	return bytes;
}

static void a_sequential_reader_asks_for_more_each_time(void **state)
{
	struct window w = { 0 };
	uint64_t have = 0, last = 0;
	unsigned asked = 0;

	for (uint64_t off = 0; off < LARGE; off += READ) {
		uint64_t bytes = read_at(&w, &have, off, LARGE);

		if (!bytes)
			continue;
		asked++;
		assert_true(bytes >= last || have == LARGE);
		/* What stopping now would waste. */
		assert_true(bytes <= MAX_OF(WINDOW_MIN, off / (off < WINDOW_SURE ? 4 : 2)));
		last = bytes;
	}
	assert_int_equal(last, WINDOW_MAX);
	assert_in_range(asked, LARGE / WINDOW_MAX, LARGE / WINDOW_MAX + 30);
}

static void a_reader_that_jumps_gets_what_it_asked_for(void **state)
{
	struct window w = { 0 };
	uint64_t have = 0;

	for (unsigned i = 1; i < 50; i++) {
		have = 0;
		assert_int_equal(read_at(&w, &have, i * 7 % 50 * 20 * MIB, LARGE), READ);
	}
}

static void a_jump_ends_what_was_sequential(void **state)
{
	struct window w = { 0 };
	uint64_t have = 0;

	for (uint64_t off = 0; off < 64 * MIB; off += READ)
		read_at(&w, &have, off, LARGE);
	assert_true(w.bytes > 4 * MIB);
	have = 0;
	assert_int_equal(read_at(&w, &have, 500 * MIB, LARGE), READ);
	assert_int_equal(read_at(&w, &have, 500 * MIB + READ, LARGE), WINDOW_MIN);
}

static void what_was_evicted_is_read_anew(void **state)
{
	struct window w = { 0 };
	uint64_t have = 0;

	for (uint64_t off = 0; off < 64 * MIB; off += READ)
		read_at(&w, &have, off, 64 * MIB);
	have = 0;
	assert_int_equal(read_at(&w, &have, 0, 64 * MIB), READ);
	assert_int_equal(w.next, READ);
	for (uint64_t off = READ; off < 16 * MIB; off += READ)
		read_at(&w, &have, off, 64 * MIB);
	assert_true(w.bytes > 2 * MIB);
}

/* As several threads of the kernel send them. */
static void requests_out_of_order_are_sequential(void **state)
{
	struct window w = { 0 };
	uint64_t off = 0;

	(void)window_next(&w, 0, READ, LARGE);
	window_asked(&w, READ);
	for (; off < 16 * MIB; off += 2 * READ) {
		assert_true(window_next(&w, off + READ, off + 2 * READ, LARGE) >= WINDOW_MIN);
		window_asked(&w, off + 2 * READ);
		assert_true(window_next(&w, off, off + READ, LARGE) >= WINDOW_MIN);
	}
	assert_true(w.bytes > 2 * MIB);
}

static void of_a_small_file_the_second_ask_is_for_the_rest(void **state)
{
	struct window w = { 0 };
	uint64_t have = 0;

	assert_int_equal(read_at(&w, &have, 0, 4 * MIB), READ);
	assert_true(read_at(&w, &have, READ, 4 * MIB) >= 4 * MIB - READ);
}

static void what_is_certain_to_be_read_is_asked_for_at_once(void **state)
{
	struct window w = { 0 };

	assert_int_equal(window_next(&w, 0, 3 * MIB, LARGE), 3 * MIB);
	assert_int_equal(window_next(&w, 0, LARGE, LARGE), WINDOW_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sequential_reader_asks_for_more_each_time),
		cmocka_unit_test(a_reader_that_jumps_gets_what_it_asked_for),
		cmocka_unit_test(a_jump_ends_what_was_sequential),
		cmocka_unit_test(what_was_evicted_is_read_anew),
		cmocka_unit_test(requests_out_of_order_are_sequential),
		cmocka_unit_test(of_a_small_file_the_second_ask_is_for_the_rest),
		cmocka_unit_test(what_is_certain_to_be_read_is_asked_for_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
