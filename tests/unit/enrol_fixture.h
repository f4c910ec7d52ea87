/*
 * For tests of a volume whose key the server holds: one in a temporary directory, enrolled at
 * enrol_server.h, with a store and a file in it.
 */
#ifndef CACHET_TESTS_UNIT_ENROL_FIXTURE_H
#define CACHET_TESTS_UNIT_ENROL_FIXTURE_H

#include "content_fixture.h"

#include "enrol_server.h"

#include "base/io.h"
#include "cache/enrolment_priv.h"

#define SIZE 5000u

struct fixture {
	struct content_fixture f;
	uint64_t object;
};

static inline int try_open(struct fixture *x, const struct enrolment_link *link, char **error)
{
	const struct volume_options o = {
		.dir = x->f.dir, .key_source = x->f.source, .host = "test", .link = link
	};

	*error = NULL;
	return volume_open(&o, &x->f.v, error);
}

static inline void reopen(struct fixture *x, const struct enrolment_link *link)
{
	char *error;

	if (x->f.v)
		cf_close(&x->f);
	ok(try_open(x, link, &error));
	assert_true(cf_is(&x->f, x->object, SIZE, 7));
}

/* The code, the words, and no volume. */
static inline void refuses_to_open(
	struct fixture *x, const struct enrolment_link *link, int code, const char *words)
{
	_cleanup_free_ char *error = NULL;

	if (x->f.v)
		cf_close(&x->f);
	assert_int_equal(try_open(x, link, &error), code);
	assert_null(x->f.v);
	if (!error || !strstr(error, words))
		fail_msg("no \"%s\": %s", words, error ? error : "no word");
}

static inline int create(struct fixture *x, const struct enrolment_link *link, char **error)
{
	const struct volume_create_options o = { .dir = x->f.dir,
		.key_source = x->f.source,
		.origin = "https://records.example/",
		.link = link };

	*error = NULL;
	return volume_create(&o, error);
}

static inline void be_honest(void)
{
	struct secret *seed = enrol_server.seed;
	uint8_t key[ENROLL_SERVER_KEY_LEN];

	memcpy(key, enrol_server.key, sizeof(key));
	memset(&enrol_server, 0, sizeof(enrol_server));
	memcpy(enrol_server.key, key, sizeof(key));
	enrol_server.seed = seed;
}

static inline int setup_paths(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	enrol_server_start();
	be_honest();
	cf_paths(&x->f);
	snprintf(x->f.source, sizeof(x->f.source), "server:file:%s", x->f.key);
	*state = x;
	return 0;
}

static inline int setup(void **state)
{
	struct fixture *x;
	char *error;

	setup_paths(state);
	x = *state;
	ok(create(x, &enrol_server_link, &error));
	ok(try_open(x, &enrol_server_link, &error));
	cf_store(&x->f);
	x->object = cf_make(&x->f, SIZE, 7);
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *x = *state;

	cf_done(&x->f);
	free(x);
	be_honest();
	return 0;
}

/* Asks for the key of an open volume. */
static inline int renew(struct fixture *x, bool rotate, char **error)
{
	*error = NULL;
	return volume_renew_keys(x->f.v, &enrol_server_link, rotate, error);
}

/* Frees the words. */
static inline void expect(int got, char **error, int code, const char *words)
{
	if (got != code || !*error || !strstr(*error, words))
		fail_msg("%d, not %d \"%s\": %s", got, code, words, *error ? *error : "no word");
	free(*error);
	*error = NULL;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TEST_NEW(f) cmocka_unit_test_setup_teardown(f, setup_paths, teardown)

#endif
