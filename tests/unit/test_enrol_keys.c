/* Goal: the keys of a volume whose key the server holds follow its rotations, and its lease ends
 * when it says, whatever the clock and an old keyring say. */
#include "enrol_fixture.h"

/* --- rotation --- */

static void a_rotation_met_at_the_open_is_followed(void **state)
{
	struct volume_keys_status s;
	struct fixture *x = *state;

	cf_close(&x->f);
	enrol_server.kek = 4;
	reopen(x, &enrol_server_link);
	volume_keys_status(x->f.v, &s);
	assert_string_equal(s.kid, "kek-4");
	assert_int_equal(s.rotation, 1);
	reopen(x, NULL);
}

static void a_rotation_met_while_it_is_open_is_followed(void **state)
{
	struct volume_keys_status s;
	struct fixture *x = *state;
	char *error;

	enrol_server.kek = 2;
	ok(renew(x, false, &error));
	volume_keys_status(x->f.v, &s);
	assert_string_equal(s.kid, "kek-2");
	assert_int_equal(s.rotation, 1);
	enrol_server.kek = 3;
	enrol_server.silent = CE_OFFLINE;
	reopen(x, &enrol_server_link); /* by the lease of the second */
}

static void a_forgotten_key_is_taken_from_the_lease_while_there_is_one(void **state)
{
	struct volume_keys_status s;
	struct fixture *x = *state;
	char *error;

	enrol_server.forgot = true;
	cf_close(&x->f);
	enrol_server.kek = 3;
	reopen(x, &enrol_server_link);
	volume_keys_status(x->f.v, &s);
	assert_string_equal(s.kid, "kek-3");
	enrol_server.no_lease = true;
	ok(renew(x, false, &error));
	enrol_server.kek = 4;
	refuses_to_open(x, &enrol_server_link, CE_GONE, "does not have the key");
	enrol_server.kek = 3;
	reopen(x, &enrol_server_link);
}

/* True, signed, and not what was asked for. */
static void a_server_that_gives_another_key_than_asked_for_is_refused(void **state)
{
	_cleanup_(enrol_wire_kek_done) struct enrol_wire_kek got = { 0 };
	struct fixture *x = *state;
	char *error = NULL;

	expect(enrol_wire_ask(x->f.v->enrolment->device, &enrol_server_link, ENROL_WIRE_KEK,
		       "kek-00", &got, &error),
		&error, CE_TAMPER, "another key than the one asked for");
	assert_null(got.kek);
}

static void another_key_under_the_same_name_opens_nothing(void **state)
{
	struct fixture *x = *state;
	char *error;

	enrol_server.other = true;
	assert_int_equal(renew(x, false, &error), CE_WRONG_KEY);
	free(error);
	refuses_to_open(x, &enrol_server_link, CE_WRONG_KEY, "nothing was changed");
	enrol_server.other = false;
	reopen(x, &enrol_server_link);
}

static void copy(struct fixture *x, const char *from, const char *to)
{
	char a[200], b[200], buf[20000];
	ssize_t n;
	int fd;

	snprintf(a, sizeof(a), "%s/%s", x->f.dir, from);
	snprintf(b, sizeof(b), "%s/%s", x->f.dir, to);
	fd = open(a, O_RDONLY);
	n = read(fd, buf, sizeof(buf));
	assert_true(n > 0 && n < (ssize_t)sizeof(buf));
	close(fd);
	fd = open(b, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(write(fd, buf, (size_t)n), n);
	close(fd);
}

static void an_old_copy_of_the_keyring_is_noticed(void **state)
{
	struct fixture *x = *state;
	char *error;

	copy(x, KEYRING_FILE, "old");
	ok(renew(x, true, &error));
	cf_close(&x->f);
	copy(x, KEYRING_FILE, "new");
	copy(x, "old", KEYRING_FILE);
	refuses_to_open(x, NULL, CE_TAMPER, "older copy");
	copy(x, "new", KEYRING_FILE);
	reopen(x, NULL);
}

/* --- the lease --- */

static void without_a_lease_it_opens_only_with_the_server(void **state)
{
	struct fixture *x = *state;
	char *error;

	enrol_server.no_lease = true;
	ok(renew(x, false, &error));
	assert_true(volume_lease_left_s(x->f.v) == INT64_MAX);
	refuses_to_open(x, NULL, CE_LOCKED, "there is no contact");
	enrol_server.silent = -ETIMEDOUT;
	refuses_to_open(x, &enrol_server_link, -ETIMEDOUT, "does not exist");
	enrol_server.silent = CE_PROTOCOL;
	refuses_to_open(x, &enrol_server_link, CE_PROTOCOL, "does not exist");
	enrol_server.silent = 0;
	reopen(x, &enrol_server_link);
}

/* As if it had been given at `from_s`. */
static void seal_lease(struct fixture *x, int64_t from_s, int64_t until_s)
{
	struct enrolment *e = x->f.v->enrolment;
	_cleanup_secret_ struct secret *kek = NULL;

	ok(device_lease_open(e->device, e->local, &kek));
	ok(device_lease_seal(e->device, e->local, kek, from_s, until_s));
	ok(enrolment_put(e->device, e->local, x->f.v->keyring));
	ok(keyring_save(x->f.v->keyring, x->f.v->dirfd));
}

static void a_lease_that_is_over_opens_nothing(void **state)
{
	struct fixture *x = *state;

	seal_lease(x, 1000, 2000);
	refuses_to_open(x, NULL, CE_LOCKED, "the offline lease is over");
	enrol_server.silent = CE_OFFLINE;
	refuses_to_open(x, &enrol_server_link, CE_OFFLINE, "is over");
	enrol_server.silent = 0;
	enrol_server.status = 503;
	enrol_server.unsigned_refusal = true;
	refuses_to_open(x, &enrol_server_link, -EAGAIN, "answers 503");
	enrol_server.status = 0;
	reopen(x, &enrol_server_link);
	reopen(x, NULL);
}

static void while_a_lease_holds_the_server_need_not_be_asked(void **state)
{
	struct fixture *x = *state;
	struct volume_options o = { .dir = x->f.dir,
		.key_source = x->f.source,
		.host = "test",
		.link = &enrol_server_link,
		.lease_first = true };
	unsigned asked = enrol_server.asked;
	char *error = NULL;

	cf_close(&x->f);
	ok(volume_open(&o, &x->f.v, &error));
	assert_int_equal(enrol_server.asked, asked);
	seal_lease(x, 1000, 2000);
	cf_close(&x->f);
	ok(volume_open(&o, &x->f.v, &error));
	assert_true(enrol_server.asked > asked);
}

/* Two hours pass for the volume; then the clock is set back. */
static void a_clock_that_is_set_back_does_not_lengthen_a_lease(void **state)
{
	struct fixture *x = *state;

	assert_in_range(volume_lease_left_s(x->f.v), 1, 3600);
	x->f.v->enrolment->base_s += 7200;
	assert_int_equal(volume_lease_left_s(x->f.v), 0);
	refuses_to_open(x, NULL, CE_LOCKED, "the clock was set back");
	reopen(x, &enrol_server_link);
	refuses_to_open(x, NULL, CE_LOCKED, "connect once");
}

static void the_next_contact_is_before_half_of_the_lease(void **state)
{
	struct fixture *x = *state;
	struct enrolment *e = x->f.v->enrolment;
	int64_t contact = e->contact_s;
	char *error;

	assert_int_equal(volume_renew_keys_at_s(x->f.v), contact + 1800);
	e->device->expires_at_s = contact + 60;
	assert_int_equal(volume_renew_keys_at_s(x->f.v), contact + 60);
	e->device->expires_at_s = contact - 60; /* over: not again and again */
	assert_int_equal(volume_renew_keys_at_s(x->f.v), contact + 5);
	enrol_server.silent = CE_OFFLINE;
	assert_int_equal(renew(x, false, &error), CE_OFFLINE);
	free(error);
	assert_true(volume_renew_keys_at_s(x->f.v) >= contact + 60);
	reopen(x, NULL);
	assert_int_equal(volume_renew_keys_at_s(x->f.v), 0); /* no contact since it was opened */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_rotation_met_at_the_open_is_followed),
		TEST(a_rotation_met_while_it_is_open_is_followed),
		TEST(a_forgotten_key_is_taken_from_the_lease_while_there_is_one),
		TEST(a_server_that_gives_another_key_than_asked_for_is_refused),
		TEST(another_key_under_the_same_name_opens_nothing),
		TEST(an_old_copy_of_the_keyring_is_noticed),
		TEST(without_a_lease_it_opens_only_with_the_server),
		TEST(a_lease_that_is_over_opens_nothing),
		TEST(while_a_lease_holds_the_server_need_not_be_asked),
		TEST(a_clock_that_is_set_back_does_not_lengthen_a_lease),
		TEST(the_next_contact_is_before_half_of_the_lease),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
