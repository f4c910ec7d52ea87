/* Goal: what a server's answer makes of keyring, device and lease is there whole, on the disk and
 * in memory, or not at all (cache/enrolment_adopt.c). */
#include <errno.h>

#include "base/error.h"
#include "base/io.h"
#include "cache/enrolment_priv.h"
#include "unit.h"

struct fixture {
	struct unit_dir dir;
	struct enrolment e;
	struct keyring *keyring;
	struct enrol_wire_kek first, second;
	struct secret *index_key;
};

static void make_kek(struct enrol_wire_kek *k, const char *kid)
{
	assert_int_equal(secret_new_random(32, &k->kek), 0);
	strcpy(k->kid, kid);
	k->ttl_s = 3600;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	unit_dir_init(&f->dir);
	make_kek(&f->first, "kek-1");
	make_kek(&f->second, "kek-2");
	enrolment_start_clock(&f->e);
	assert_int_equal(secret_new_random(32, &f->e.local), 0);
	assert_int_equal(device_new("0123456789abcdef", &f->e.device), 0);
	strcpy(f->e.device->dkid, "dk-1");
	assert_int_equal(keyring_new("kek-1", &f->keyring), 0);
	assert_int_equal(enrolment_unlock(f->keyring, &f->first), 0);
	assert_int_equal(keyring_make(f->keyring, KEYRING_PURPOSE_INDEX, "", &f->index_key), 0);
	assert_int_equal(enrolment_adopt(&f->e, f->keyring, &f->first, f->dir.fd), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	keyring_free(f->keyring);
	enrol_wire_kek_done(&f->first);
	enrol_wire_kek_done(&f->second);
	secret_free(f->index_key);
	secret_free(f->e.local);
	device_free(f->e.device);
	unit_dir_done(&f->dir);
	free(f);
	return 0;
}

/* The keyring gives the index key, wrapped under `got`; the record's lease opens to the same KEK.
 */
static void assert_under(const struct fixture *f, struct keyring *k, const struct device *d,
	const struct enrol_wire_kek *got)
{
	_cleanup_secret_ struct secret *key = NULL, *kek = NULL;

	assert_string_equal(keyring_kid(k), got->kid);
	assert_int_equal(enrolment_unlock(k, got), 0);
	assert_int_equal(keyring_get(k, KEYRING_PURPOSE_INDEX, "", &key), 0);
	assert_true(secret_equal(key, f->index_key));
	assert_string_equal(d->kid, got->kid);
	assert_int_equal(device_lease_open(d, f->e.local, &kek), 0);
	assert_true(secret_equal(kek, got->kek));
}

static void assert_both_under(const struct fixture *f, const struct enrol_wire_kek *got)
{
	_cleanup_(keyring_freep) struct keyring *disk = NULL;
	_cleanup_(device_freep) struct device *d = NULL;

	assert_under(f, f->keyring, f->e.device, got);
	assert_int_equal(keyring_load(f->dir.fd, &disk), 0);
	assert_int_equal(device_read(keyring_device(disk), f->e.local, &d), 0);
	assert_int_equal(d->rotation, f->e.device->rotation);
	assert_under(f, disk, d, got);
}

static void a_rotation_is_on_the_disk_and_in_memory(void **state)
{
	struct fixture *f = *state;

	assert_both_under(f, &f->first);
	assert_int_equal(enrolment_adopt(&f->e, f->keyring, &f->second, f->dir.fd), 0);
	assert_int_equal(f->e.device->rotation, 1);
	assert_both_under(f, &f->second);
}

/* A disk that takes no byte more. */
static int adopt_on_a_full_disk(struct fixture *f)
{
	const struct rlimit before = unit_disk_fill();
	int r = enrolment_adopt(&f->e, f->keyring, &f->second, f->dir.fd);

	unit_disk_free(before);
	return r;
}

static void a_save_that_fails_leaves_both_old(void **state)
{
	struct fixture *f = *state;
	struct device before = *f->e.device;

	assert_int_equal(adopt_on_a_full_disk(f), -EFBIG);
	assert_memory_equal(&before, f->e.device, sizeof(before));
	assert_both_under(f, &f->first);
	assert_int_equal(enrolment_adopt(&f->e, f->keyring, &f->second, -1), -EBADF);
	assert_memory_equal(&before, f->e.device, sizeof(before));
	assert_both_under(f, &f->first);
	assert_int_equal(enrolment_adopt(&f->e, f->keyring, &f->second, f->dir.fd), 0);
	assert_both_under(f, &f->second);
}

static void another_key_under_the_same_name_is_refused_and_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct device before = *f->e.device;

	strcpy(f->second.kid, "kek-1");
	assert_int_equal(enrolment_adopt(&f->e, f->keyring, &f->second, f->dir.fd), CE_WRONG_KEY);
	assert_memory_equal(&before, f->e.device, sizeof(before));
	assert_both_under(f, &f->first);
}

static void a_server_that_gives_no_lease_ends_the_old_one(void **state)
{
	struct fixture *f = *state;
	_cleanup_secret_ struct secret *kek = NULL;

	f->second.ttl_s = 0;
	assert_int_equal(enrolment_adopt(&f->e, f->keyring, &f->second, f->dir.fd), 0);
	assert_false(enrolment_lease_holds(&f->e));
	assert_int_equal(device_lease_open(f->e.device, f->e.local, &kek), -ENOENT);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_rotation_is_on_the_disk_and_in_memory),
		TEST(a_save_that_fails_leaves_both_old),
		TEST(another_key_under_the_same_name_is_refused_and_changes_nothing),
		TEST(a_server_that_gives_no_lease_ends_the_old_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
