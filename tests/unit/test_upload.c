/* Goal: what an upload sends is the file, whole, in whatever pieces it is asked for, and its digest
 * that of what was sent. */
#include "content_fixture.h"

#include <poll.h>

#include "crypto/kdf.h"
#include "sync/upload.h"

#define SIZE ((size_t)(3u << 20) + 12345) /* several pieces and a part */
#define DEADLINE_MS 60000

struct rig {
	struct content_fixture f;
	struct worker *worker;
	struct upload *u;
	uint8_t *want, *got;
	int pipe[2]; /* a byte for each job that ended */
	unsigned resumed;
};

static void wake(void *arg)
{
	struct rig *r = arg;

	assert_int_equal(write(r->pipe[1], "", 1), 1);
}

static void resume(void *arg)
{
	struct rig *r = arg;

	r->resumed++;
}

static struct file_reader *start_reader(struct rig *r)
{
	struct file_reader *reader;
	struct file *file;
	uint64_t object;

	memset(r, 0, sizeof(*r));
	cf_init(&r->f);
	ok(pipe(r->pipe));
	r->want = malloc(SIZE);
	r->got = calloc(1, SIZE);
	cf_pattern(r->want, SIZE, 0, 7);
	object = cf_object(&r->f);
	file = cf_file(&r->f, object);
	ok(file_write(file, r->want, SIZE, 0));
	ok(file_commit(file));
	file_unref(file, true);
	ok(file_open(r->f.v, object, 0, false, &file));
	ok(worker_new(wake, r, &r->worker));
	ok(file_reader_new(file, &reader));
	return reader;
}

static void start_from(struct rig *r, uint64_t said, uint64_t from)
{
	struct file_reader *reader = start_reader(r);

	ok(upload_new(r->worker, reader, said, from, resume, r, &r->u));
}

static void start(struct rig *r, uint64_t said)
{
	start_from(r, said, 0);
}

static void stop(struct rig *r)
{
	upload_free(r->u);
	worker_free(r->worker);
	close(r->pipe[0]);
	close(r->pipe[1]);
	free(r->want);
	free(r->got);
	cf_done(&r->f);
}

/* A job has ended: what the loop does then. */
static void wait_job(struct rig *r)
{
	struct pollfd p = { .fd = r->pipe[0], .events = POLLIN };
	char byte;

	assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
	assert_int_equal(read(r->pipe[0], &byte, 1), 1);
	worker_reap(r->worker);
}

/* Sends from `off` to `end` in steps of `step`; the first error ends it. */
static ssize_t send_part(struct rig *r, size_t off, size_t end, size_t step)
{
	ssize_t n = 0;

	while (off < end) {
		n = upload_source(r->u, r->got + off, MIN_OF(step, end - off), off);
		if (n < 0)
			return n;
		if (n == 0)
			wait_job(r);
		off += (size_t)n;
	}
	return (ssize_t)off;
}

static void assert_sent(struct rig *r)
{
	uint8_t digest[32], want[32];

	assert_memory_equal(r->got, r->want, SIZE);
	assert_true(upload_sha256(r->u, digest));
	ok(kdf_sha256(r->want, SIZE, want));
	assert_memory_equal(digest, want, 32);
}

static void the_whole_file_is_sent_whatever_is_asked_for(void **state)
{
	static const size_t steps[] = { 4093, 65536, SIZE };

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		struct rig r;

		start(&r, SIZE);
		assert_int_equal(send_part(&r, 0, SIZE, steps[i]), SIZE);
		assert_sent(&r);
		stop(&r);
	}
}

static void who_was_told_to_wait_is_called(void **state)
{
	struct rig r;

	start(&r, SIZE);
	assert_int_equal(upload_source(r.u, r.got, SIZE, 0), 0); /* nothing is reaped yet */
	wait_job(&r);
	assert_int_equal(r.resumed, 1);
	assert_true(upload_source(r.u, r.got, SIZE, 0) > 0);
	stop(&r);
}

/* libcurl does so on a connection that turns out to be closed: after the first bytes, in the
 * middle, at the end. */
static void an_upload_that_begins_again_is_whole(void **state)
{
	static const size_t ends[] = { 1, 700000, (2u << 20) + 1, SIZE };

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		struct rig r;

		start(&r, SIZE);
		assert_int_equal(send_part(&r, 0, ends[i], 65536), ends[i]);
		memset(r.got, 0, SIZE);
		assert_int_equal(send_part(&r, 0, SIZE, 65536), SIZE);
		assert_sent(&r);
		stop(&r);
	}
}

/* The origin has the beginning already: at the edges of pieces and between, also when libcurl begins
 * again there. */
static void one_that_goes_on_sends_the_rest_and_hashes_the_whole(void **state)
{
	static const size_t froms[] = { 1, 524287, 524288, 524289, 2u << 20, SIZE - 1 };

	for (size_t i = 0; i < ARRAY_SIZE(froms); i++) {
		struct rig r;

		start_from(&r, SIZE, froms[i]);
		assert_false(upload_ready(r.u));
		while (!upload_ready(r.u))
			wait_job(&r);
		memcpy(r.got, r.want, froms[i]);
		assert_int_equal(send_part(&r, froms[i], SIZE, 65536), SIZE);
		assert_sent(&r);
		memset(r.got + froms[i], 0, SIZE - froms[i]);
		assert_int_equal(send_part(&r, froms[i], SIZE, 65536), SIZE);
		assert_sent(&r);
		stop(&r);
	}
}

/* Parts, one after the other, then the rest, which may be nothing; libcurl begins some of them again. */
static void what_is_sent_in_parts_is_whole_and_so_is_its_digest(void **state)
{
	static const size_t ends[] = { 65536, 1u << 20, (1u << 20) + 655360 }, lasts[] = { 3u << 20, SIZE };

	for (size_t k = 0; k < ARRAY_SIZE(lasts); k++) {
		struct rig r;
		struct file_reader *reader = start_reader(&r);
		size_t from = 0;

		for (size_t i = 0; i <= ARRAY_SIZE(ends); i++) {
			size_t end = i < ARRAY_SIZE(ends) ? ends[i] : lasts[k];

			ok(upload_new_part(r.worker, reader, end, from, resume, &r, &r.u));
			assert_null(upload_take_reader(r.u));
			if (i % 2)
				send_part(&r, from, from + 1, 65536);
			assert_int_equal(send_part(&r, from, end, 65536), end);
			reader = upload_take_reader(r.u);
			assert_non_null(reader);
			upload_free(r.u);
			from = end;
		}
		ok(upload_new(r.worker, reader, SIZE, from, resume, &r, &r.u));
		while (!upload_ready(r.u))
			wait_job(&r);
		assert_int_equal(send_part(&r, from, SIZE, 65536), SIZE);
		assert_sent(&r);
		stop(&r);
	}
}

static void what_was_not_sent_whole_has_no_digest(void **state)
{
	uint8_t digest[32];
	struct rig r;

	start(&r, SIZE);
	assert_int_equal(send_part(&r, 0, SIZE - 1, 65536), SIZE - 1);
	assert_false(upload_sha256(r.u, digest));
	stop(&r);
}

static void a_file_that_is_shorter_than_was_said_is_an_error(void **state)
{
	struct rig r;

	start(&r, SIZE + 1);
	assert_int_equal(send_part(&r, 0, SIZE + 1, 65536), -EIO);
	stop(&r);
}

static void one_that_is_dropped_while_it_reads_is_freed(void **state)
{
	struct rig r;

	start(&r, SIZE);
	upload_free(r.u);
	r.u = NULL;
	wait_job(&r);
	stop(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_whole_file_is_sent_whatever_is_asked_for),
		cmocka_unit_test(who_was_told_to_wait_is_called),
		cmocka_unit_test(an_upload_that_begins_again_is_whole),
		cmocka_unit_test(one_that_goes_on_sends_the_rest_and_hashes_the_whole),
		cmocka_unit_test(what_is_sent_in_parts_is_whole_and_so_is_its_digest),
		cmocka_unit_test(what_was_not_sent_whole_has_no_digest),
		cmocka_unit_test(a_file_that_is_shorter_than_was_said_is_an_error),
		cmocka_unit_test(one_that_is_dropped_while_it_reads_is_freed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
