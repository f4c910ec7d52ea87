#include "sync/link.h"

#include <errno.h>

#include "base/error.h"
#include "unit.h"

static struct link online(void)
{
	struct link l;

	link_init(&l, 0, false);
	link_probe_begun(&l);
	link_good(&l, true, 1);
	assert_int_equal(l.state, SYNC_ONLINE);
	return l;
}

static void a_new_link_probes_at_once_and_lets_readers_wait(void **state)
{
	struct link l;

	link_init(&l, 0, false);
	assert_int_equal(l.state, SYNC_OFFLINE);
	assert_int_equal(link_probe_due_ms(&l), 0);
	assert_int_equal(link_verdict(&l), 0);
	assert_false(link_usable(&l));
}

static void a_failed_first_probe_is_known_offline(void **state)
{
	struct link l;

	link_init(&l, 0, false);
	link_probe_begun(&l);
	assert_int_equal(link_probe_due_ms(&l), UINT64_MAX);
	assert_false(link_fault(&l, 1000, CE_OFFLINE, "refused"));
	assert_int_equal(l.state, SYNC_OFFLINE);
	assert_int_equal(link_verdict(&l), CE_OFFLINE);
	assert_true(link_probe_due_ms(&l) > 1000);
}

static void one_fault_degrades_and_two_are_offline(void **state)
{
	struct link l = online();

	assert_false(link_fault(&l, 1000, CE_OFFLINE, "reset"));
	assert_int_equal(l.state, SYNC_DEGRADED);
	assert_int_equal(link_verdict(&l), 0);
	assert_true(link_fault(&l, 1001, CE_PROTOCOL, "html"));
	assert_int_equal(l.state, SYNC_OFFLINE);
	assert_int_equal(link_verdict(&l), CE_OFFLINE);
	assert_int_equal(l.last_error, CE_PROTOCOL);
	assert_string_equal(l.last_error_text, "html");
}

static void a_good_answer_between_two_faults_keeps_the_link(void **state)
{
	struct link l = online();

	for (int i = 0; i < 10; i++) {
		assert_false(link_fault(&l, 1000, CE_OFFLINE, "reset"));
		link_good(&l, false, 2);
		assert_int_equal(l.state, SYNC_ONLINE);
	}
}

/* Only the probe works: that is no link, or it would be asked for ever without a pause. */
static void a_probe_between_two_faults_does_not_count(void **state)
{
	struct link l = online();

	assert_false(link_fault(&l, 1000, CE_PROTOCOL, "html"));
	link_probe_begun(&l);
	link_good(&l, true, 2);
	assert_int_equal(l.state, SYNC_DEGRADED);
	assert_true(link_fault(&l, 1000, CE_PROTOCOL, "html"));
	assert_int_equal(l.state, SYNC_OFFLINE);
}

static void trouble_of_the_origin_never_goes_offline(void **state)
{
	struct link l = online();

	for (int i = 0; i < 10; i++)
		link_trouble(&l, -EAGAIN, "500");
	assert_int_equal(l.state, SYNC_DEGRADED);
	assert_string_equal(l.last_error_text, "500");
}

static void the_probe_backs_off_to_its_ceiling(void **state)
{
	struct link l;
	uint64_t now = 0, wait = 0;

	link_init(&l, 60000, false);
	for (int i = 0; i < 12; i++) {
		link_probe_begun(&l);
		assert_false(link_fault(&l, now, CE_OFFLINE, "refused"));
		wait = link_probe_due_ms(&l) - now;
		assert_true(wait >= (i == 0 ? 1000 : 1500));
		assert_true(wait <= 60001);
		now += wait;
	}
	assert_true(wait >= 30000);
}

static void an_origin_of_which_only_the_probe_works_is_not_asked_without_end(void **state)
{
	struct link l;
	uint64_t now = 0;

	link_init(&l, 60000, false);
	for (int i = 0; i < 12; i++) {
		link_probe_begun(&l);
		link_good(&l, true, 1);
		assert_false(link_fault(&l, now, CE_PROTOCOL, "html"));
		assert_true(link_fault(&l, now, CE_PROTOCOL, "html"));
		now = link_probe_due_ms(&l);
	}
	assert_true(now > 60000);
}

static void unauthorised_fails_readers_at_once_until_there_is_a_token(void **state)
{
	struct link l = online();

	assert_true(link_unauthorised(&l, 1000, "401"));
	assert_int_equal(l.state, SYNC_AUTH_NEEDED);
	assert_int_equal(link_verdict(&l), CE_AUTH);
	link_good(&l, false, 2); /* a call that was under way */
	assert_int_equal(l.state, SYNC_AUTH_NEEDED);
	link_authorise(&l, 5000);
	assert_int_equal(link_verdict(&l), 0);
	assert_int_equal(link_probe_due_ms(&l), 5000);
	link_probe_begun(&l);
	link_good(&l, true, 3);
	assert_int_equal(l.state, SYNC_ONLINE);
}

static void forced_offline_hears_nothing(void **state)
{
	struct link l = online();

	link_force(&l, true, 1000);
	assert_int_equal(link_verdict(&l), CE_OFFLINE);
	assert_int_equal(link_probe_due_ms(&l), UINT64_MAX);
	link_good(&l, false, 2);
	link_good(&l, true, 2);
	assert_false(link_fault(&l, 1, CE_OFFLINE, "x"));
	link_trouble(&l, -EAGAIN, "x");
	assert_false(link_unauthorised(&l, 1, "x"));
	link_poke(&l, 1);
	link_authorise(&l, 1);
	assert_int_equal(l.state, SYNC_FORCED);
}

static void leaving_forced_offline_probes_at_once(void **state)
{
	struct link l;

	link_init(&l, 0, true);
	assert_int_equal(l.state, SYNC_FORCED);
	link_force(&l, false, 7000);
	assert_int_equal(l.state, SYNC_OFFLINE);
	assert_int_equal(link_probe_due_ms(&l), 7000);
	assert_int_equal(link_verdict(&l), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_link_probes_at_once_and_lets_readers_wait),
		cmocka_unit_test(a_failed_first_probe_is_known_offline),
		cmocka_unit_test(one_fault_degrades_and_two_are_offline),
		cmocka_unit_test(a_good_answer_between_two_faults_keeps_the_link),
		cmocka_unit_test(a_probe_between_two_faults_does_not_count),
		cmocka_unit_test(trouble_of_the_origin_never_goes_offline),
		cmocka_unit_test(the_probe_backs_off_to_its_ceiling),
		cmocka_unit_test(an_origin_of_which_only_the_probe_works_is_not_asked_without_end),
		cmocka_unit_test(unauthorised_fails_readers_at_once_until_there_is_a_token),
		cmocka_unit_test(forced_offline_hears_nothing),
		cmocka_unit_test(leaving_forced_offline_probes_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
