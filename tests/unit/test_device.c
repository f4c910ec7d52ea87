#include "crypto/device.h"

#include <errno.h>

#include "base/error.h"
#include "unit.h"

static struct secret *random_secret(void)
{
	struct secret *s;

	assert_int_equal(secret_new_random(32, &s), 0);
	return s;
}

/* An enrolled device with token and lease, and the two secrets it was made with. */
struct fixture {
	struct secret *local, *kek;
	struct device *device;
	struct json *record;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->local = random_secret();
	f->kek = random_secret();
	assert_int_equal(device_new("0123456789abcdef", &f->device), 0);
	strcpy(f->device->dkid, "dk-1");
	strcpy(f->device->kid, "kek-1");
	f->device->rotation = 7;
	memset(f->device->server_key, 0x5a, sizeof(f->device->server_key));
	assert_int_equal(secret_new_copy("token", 5, &f->device->token), 0);
	assert_int_equal(device_lease_seal(f->device, f->local, f->kek, 1000, 2000), 0);
	assert_int_equal(device_write(f->device, f->local, &f->record), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	secret_free(f->local);
	secret_free(f->kek);
	device_free(f->device);
	json_free(f->record);
	free(f);
	return 0;
}

static void a_record_is_read_back(void **state)
{
	_cleanup_(device_freep) struct device *d = NULL;
	_cleanup_secret_ struct secret *kek = NULL;
	struct fixture *f = *state;

	assert_int_equal(device_read(f->record, f->local, &d), 0);
	assert_string_equal(d->dkid, "dk-1");
	assert_int_equal(d->rotation, 7);
	assert_true(secret_equal(d->priv, f->device->priv));
	assert_memory_equal(d->pub, f->device->pub, sizeof(d->pub));
	assert_int_equal(secret_len(d->token), 5);
	assert_memory_equal(secret_cbytes(d->token), "token", 5);
	assert_int_equal(d->lease.until_s, 2000);
	assert_int_equal(device_lease_open(d, f->local, &kek), 0);
	assert_true(secret_equal(kek, f->kek));
}

static void another_secret_is_a_wrong_key(void **state)
{
	_cleanup_secret_ struct secret *other = random_secret();
	struct fixture *f = *state;
	struct device *d = NULL;

	assert_int_equal(device_read(f->record, other, &d), CE_WRONG_KEY);
	assert_null(d);
}

/* Every digit, letter and base64 character of the text, one after the other: never believed. */
static void every_changed_byte_of_the_record_is_seen(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *text = NULL;
	size_t len, changed = 0;

	assert_int_equal(json_print(f->record, false, &text), 0);
	len = strlen(text);
	for (size_t i = 0; i < len; i++) {
		_cleanup_json_ struct json *record = NULL;
		_cleanup_(device_freep) struct device *d = NULL;
		_cleanup_secret_ struct secret *kek = NULL;
		char was = text[i];

		text[i] = was == '1' ? '2' : was == 'A' ? 'B' : (char)(was ^ 1);
		if (!json_parse(text, len, &record) && json_is_object(record)) {
			int r = device_read(record, f->local, &d);

			if (!r)
				r = device_lease_open(d, f->local, &kek);
			if (!r)
				fail_msg("byte %zu ('%c') was changed and nobody saw it", i, was);
			changed++;
		}
		text[i] = was;
	}
	assert_true(changed > 500);
}

/* The lease of one record does not fit another's: it names device and kid. */
static void a_lease_is_bound_to_its_device_and_kid(void **state)
{
	struct fixture *f = *state;
	struct secret *kek = NULL;

	strcpy(f->device->kid, "kek-2");
	assert_int_equal(device_lease_open(f->device, f->local, &kek), CE_TAMPER);
	strcpy(f->device->kid, "kek-1");
	f->device->lease.until_s++;
	assert_int_equal(device_lease_open(f->device, f->local, &kek), CE_TAMPER);
	assert_null(kek);
}

static void an_erased_record_has_no_key_token_or_lease(void **state)
{
	_cleanup_json_ struct json *record = NULL;
	_cleanup_(device_freep) struct device *d = NULL;
	struct fixture *f = *state;
	struct secret *kek;

	device_erase(f->device);
	assert_int_equal(device_write(f->device, f->local, &record), 0);
	assert_false(json_has(record, "deviceKeys"));
	assert_false(json_has(record, "token"));
	assert_false(json_has(record, "lease"));
	assert_int_equal(device_read(record, f->local, &d), 0);
	assert_null(d->priv);
	assert_null(d->token);
	assert_string_equal(d->kid, "kek-1");
	assert_int_equal(device_lease_open(d, f->local, &kek), -ENOENT);
	assert_int_equal(device_renew(d), 0);
	assert_string_equal(d->dkid, "");
	assert_memory_not_equal(d->pub, f->device->pub, sizeof(d->pub));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_record_is_read_back, setup, teardown),
		cmocka_unit_test_setup_teardown(another_secret_is_a_wrong_key, setup, teardown),
		cmocka_unit_test_setup_teardown(
			every_changed_byte_of_the_record_is_seen, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_lease_is_bound_to_its_device_and_kid, setup, teardown),
		cmocka_unit_test_setup_teardown(
			an_erased_record_has_no_key_token_or_lease, setup, teardown),
	};

	if (secret_init(false))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
