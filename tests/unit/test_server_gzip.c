/* Who takes gzip, after RFC 9110 section 12.5.3, and that what is coded is the text. */
#include "unit.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

#include "server/gzip.h"

static void who_names_it_or_everything_takes_it(void **state)
{
	static const char *const yes[] = { "gzip", "GZIP", "deflate, gzip", "gzip;q=0.5",
		"br , gzip ; q=1", "*", "identity;q=0, *;q=0.1", "gzip;q=0.001", ",,gzip",
		"gzip\t" };

	for (size_t i = 0; i < sizeof(yes) / sizeof(*yes); i++)
		assert_true(server_gzip_accepted(yes[i]));
}

static void who_refuses_it_does_not(void **state)
{
	static const char *const no[] = { "", "identity", "gzip;q=0", "gzip; q=0.000",
		"*, gzip;q=0", "gzip;q=0, *", "*;q=0", "gzipp", "xgzip", "br;gzip", "gzip;Q=0",
		"gzip;q=0 ", ",", "  " };

	assert_false(server_gzip_accepted(NULL));
	for (size_t i = 0; i < sizeof(no) / sizeof(*no); i++)
		assert_false(server_gzip_accepted(no[i]));
}

static void what_is_coded_is_the_text(void **state)
{
	struct buffer b = { 0 };
	uint8_t back[40000];
	z_stream z = { .next_out = back, .avail_out = sizeof(back) };

	for (int i = 0; i < 1000; i++)
		assert_int_equal(buffer_printf(&b, "{\"n\":%d},", i), 0);
	char *text = strdup(b.data);
	size_t len = b.len;

	assert_int_equal(server_gzip_pack(&b), 0);
	assert_true(b.len < len / 2);
	z.next_in = (Bytef *)b.data;
	z.avail_in = (uInt)b.len;
	assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
	assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
	inflateEnd(&z);
	assert_int_equal(z.total_out, len);
	assert_memory_equal(back, text, len);
	free(text);
	buffer_done(&b);
}

static void what_does_not_get_shorter_stays(void **state)
{
	struct buffer b = { 0 };
	uint32_t x = 1;

	for (int i = 0; i < 2000; i++) {
		x = x * 1664525 + 1013904223;
		assert_int_equal(buffer_append(&b, (uint8_t[]){ (uint8_t)(x >> 24) }, 1), 0);
	}
	assert_int_equal(server_gzip_pack(&b), -EMSGSIZE);
	assert_int_equal(b.len, 2000);
	buffer_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_names_it_or_everything_takes_it),
		cmocka_unit_test(who_refuses_it_does_not),
		cmocka_unit_test(what_is_coded_is_the_text),
		cmocka_unit_test(what_does_not_get_shorter_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
