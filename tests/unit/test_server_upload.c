/* Goal: a body that was cut off is kept for a day from its last byte, and no longer. */
#include "unit.h"

#include <dirent.h>
#include <errno.h>

#include "base/clock.h"
#include "server/upload.h"

#define HALF ((size_t)RECORD_INLINE_MAX + 1) /* it has a file from the first half on */

struct fixture {
	struct unit_dir dir;
	struct body_dirs dirs;
	struct uploads *all;
	struct upload_name name;
	uint8_t data[HALF];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	unit_dir_init(&f->dir);
	assert_int_equal(server_body_open_dirs(f->dir.fd, &f->dirs), 0);
	assert_int_equal(server_uploads_new(&f->all), 0);
	f->name = (struct upload_name){ 1, 2, "a key" };
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	server_uploads_free(f->all);
	server_body_close_dirs(&f->dirs);
	unit_dir_done(&f->dir);
	free(f);
	return 0;
}

static struct upload_use begin_half(struct fixture *f)
{
	struct upload_use use;
	struct body body;

	server_body_init(&body, &f->dirs, UINT64_MAX);
	assert_int_equal(server_upload_begin(f->all, &f->name, &body, &use), 0);
	assert_int_equal(server_upload_write(&use, f->data, HALF), 0);
	return use;
}

static unsigned files(struct fixture *f)
{
	DIR *d = fdopendir(openat(f->dirs.tmp_fd, ".", O_RDONLY | O_DIRECTORY));
	struct dirent *e;
	unsigned n = 0;

	assert_non_null(d);
	while ((e = readdir(d)))
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static void it_is_kept_for_a_day_from_its_last_byte(void **state)
{
	struct fixture *f = *state;
	struct upload_use use = begin_half(f);
	int64_t heard_ms = clock_boot_ms(); /* or before */
	uint64_t offset = 0;

	server_upload_done(f->all, &use);
	server_uploads_tick(f->all, heard_ms + UPLOAD_KEEP_MS - 1000 * 60);
	assert_int_equal(server_upload_offset(f->all, &f->name, &offset), 0);
	assert_int_equal(offset, HALF);
}

static void after_that_it_is_gone_with_its_file(void **state)
{
	struct fixture *f = *state;
	struct upload_use use = begin_half(f);
	uint64_t offset = 7;

	server_upload_done(f->all, &use);
	assert_int_equal(files(f), 1);
	server_uploads_tick(f->all, clock_boot_ms() + UPLOAD_KEEP_MS + 1);
	assert_int_equal(server_upload_offset(f->all, &f->name, &offset), -ENOENT);
	assert_int_equal(server_upload_resume(f->all, &f->name, HALF, &use), -ENOENT);
	assert_int_equal(offset, 7);
	assert_int_equal(files(f), 0);
}

static void one_that_expires_under_its_sender_becomes_whole_all_the_same(void **state)
{
	struct fixture *f = *state;
	struct upload_use use = begin_half(f);
	struct body body;

	server_uploads_tick(f->all, clock_boot_ms() + UPLOAD_KEEP_MS + 1);
	assert_int_equal(server_upload_write(&use, f->data, HALF), 0);
	assert_int_equal(server_upload_take(f->all, &use, &body), 0);
	assert_int_equal(body.len, 2 * HALF);
	server_upload_done(f->all, &use);
	server_body_done(&body);
	assert_int_equal(files(f), 0);
}

/* The digest of `n` halves. */
static void digest_of(struct fixture *f, unsigned n, uint8_t out[static 32])
{
	struct kdf_sha256 *h;

	assert_int_equal(kdf_sha256_new(&h), 0);
	while (n--)
		assert_int_equal(kdf_sha256_update(h, f->data, HALF), 0);
	assert_int_equal(kdf_sha256_final(h, out), 0);
}

static void what_came_ahead_is_adopted_by_offset_and_digest_only(void **state)
{
	struct fixture *f = *state;
	struct upload_name put = { 1, 2, "the put" }, stranger = { 9, 2, "a key" };
	struct upload_use use = begin_half(f);
	uint64_t offset = 0;
	uint8_t sha256[32];
	struct body body;

	assert_int_equal(server_upload_pause(&use, &offset), 0);
	assert_int_equal(offset, HALF);
	server_upload_done(f->all, &use);
	digest_of(f, 1, sha256);
	assert_int_equal(server_upload_adopt(f->all, &f->name, sha256, &put, HALF - 1, &use), -ENOENT);
	assert_int_equal(server_upload_adopt(f->all, &stranger, sha256, &put, HALF, &use), -ENOENT);
	sha256[31] ^= 1;
	assert_int_equal(server_upload_adopt(f->all, &f->name, sha256, &put, HALF, &use), -ENOENT);
	sha256[31] ^= 1;
	assert_int_equal(server_upload_adopt(f->all, &f->name, sha256, &put, HALF, &use), 0);
	assert_int_equal(server_upload_write(&use, f->data, HALF), 0);
	server_upload_done(f->all, &use); /* it is cut off: from here on it goes by the key of the PUT */
	assert_int_equal(server_upload_offset(f->all, &f->name, &offset), -ENOENT);
	assert_int_equal(server_upload_resume(f->all, &put, 2 * HALF, &use), 0);
	assert_int_equal(server_upload_take(f->all, &use, &body), 0);
	assert_int_equal(server_body_finish(&body), 0);
	digest_of(f, 2, sha256);
	assert_memory_equal(body.sha256, sha256, 32);
	server_upload_done(f->all, &use);
	server_body_done(&body);
}

static void what_came_ahead_and_is_not_wanted_goes_with_its_file(void **state)
{
	struct fixture *f = *state;
	struct upload_use use = begin_half(f);
	uint64_t offset = 7;

	server_upload_done(f->all, &use);
	server_upload_forget(f->all, &f->name);
	assert_int_equal(server_upload_offset(f->all, &f->name, &offset), -ENOENT);
	assert_int_equal(files(f), 0);
	server_upload_forget(f->all, &f->name);
}

/* Another request took over while this one sent. */
static void a_part_whose_upload_another_took_over_is_not_confirmed(void **state)
{
	struct fixture *f = *state;
	struct upload_use old = begin_half(f), use;
	uint64_t offset = 7;

	assert_int_equal(server_upload_resume(f->all, &f->name, HALF, &use), 0);
	assert_int_equal(server_upload_pause(&old, &offset), -ESTALE);
	assert_int_equal(offset, 7);
	server_upload_done(f->all, &old);
	server_upload_done(f->all, &use);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			it_is_kept_for_a_day_from_its_last_byte, setup, teardown),
		cmocka_unit_test_setup_teardown(
			after_that_it_is_gone_with_its_file, setup, teardown),
		cmocka_unit_test_setup_teardown(
			one_that_expires_under_its_sender_becomes_whole_all_the_same, setup,
			teardown),
		cmocka_unit_test_setup_teardown(
			what_came_ahead_is_adopted_by_offset_and_digest_only, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_came_ahead_and_is_not_wanted_goes_with_its_file, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_part_whose_upload_another_took_over_is_not_confirmed, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
