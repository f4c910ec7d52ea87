/* Configurations as people (and accidents) leave them. */
#include <sys/stat.h>

#include "base/error.h"
#include "base/io.h"
#include "daemon/config.h"
#include "tests/unit/unit.h"

#define ID "0123456789abcdef0123456789abcdef"
#define MINIMAL "{\"id\":\"" ID "\",\"origin\":\"https://example.org\",\"key_source\":\"file:/k\"}"

static struct unit_dir dir;

static int setup(void **state)
{
	unit_dir_init(&dir);
	setenv("XDG_CONFIG_HOME", dir.path, 1);
	setenv("XDG_STATE_HOME", dir.path, 1);
	setenv("XDG_RUNTIME_DIR", dir.path, 1);
	return 0;
}

static int teardown(void **state)
{
	unit_dir_done(&dir);
	return 0;
}

static void put(const char *file, const char *text)
{
	_cleanup_free_ char *config_dir = NULL, *path = NULL;
	FILE *f;

	assert_int_equal(io_dir_config(&config_dir), 0);
	assert_true(asprintf(&path, "%s/%s", config_dir, file) > 0);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void put_mounted(const char *file, const char *mountpoint)
{
	char text[512];

	snprintf(text, sizeof(text),
		"{\"id\":\"" ID
		"\",\"origin\":\"https://e\",\"key_source\":\"file:/k\",\"mountpoint\":\"%s\"}",
		mountpoint);
	put(file, text);
}

/* Loading fails with CE_USAGE and a sentence that has `word` in it. */
static void assert_refused(const char *name, const char *word)
{
	_cleanup_free_ char *error = NULL;
	struct config *c = NULL;

	assert_int_equal(config_load(name, &c, &error), CE_USAGE);
	assert_null(c);
	assert_non_null(error);
	if (!strstr(error, word))
		fail_msg("'%s' does not name '%s'", error, word);
}

static void what_is_saved_is_loaded(void **state)
{
	struct config c = {
		.name = "work",
		.id = ID,
		.origin = "https://records.example.org",
		.store = "notes",
		.key_source = "command:pass show x",
		.mountpoint = "/mnt/a b",
		.ca_file = "/etc/ca.pem",
		.limit_bytes = UINT64_C(1) << 60,
		.deadline_ms = 1234,
	};
	_cleanup_(config_freep) struct config *got = NULL;
	_cleanup_free_ char *error = NULL;

	assert_int_equal(config_save(&c, &error), 0);
	assert_int_equal(config_load("work", &got, &error), 0);
	assert_string_equal(got->name, "work");
	assert_string_equal(got->id, c.id);
	assert_string_equal(got->origin, c.origin);
	assert_string_equal(got->store, c.store);
	assert_string_equal(got->key_source, c.key_source);
	assert_string_equal(got->mountpoint, c.mountpoint);
	assert_string_equal(got->ca_file, c.ca_file);
	assert_true(got->limit_bytes == c.limit_bytes);
	assert_true(got->deadline_ms == c.deadline_ms);
}

static void the_file_is_private(void **state)
{
	struct config c = {.name = "p", .id = ID, .origin = "https://e", .key_source = "file:/k"};
	_cleanup_free_ char *error = NULL;
	char path[512];
	struct stat st;

	assert_int_equal(config_save(&c, &error), 0);
	snprintf(path, sizeof(path), "%s/cachet/p.json", dir.path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void optional_members_may_be_left_out(void **state)
{
	_cleanup_(config_freep) struct config *c = NULL;
	_cleanup_free_ char *error = NULL;

	put("m.json", MINIMAL);
	assert_int_equal(config_load("m", &c, &error), 0);
	assert_null(c->store);
	assert_null(c->mountpoint);
	assert_true(c->limit_bytes == 0);
	assert_int_equal(c->rekey_days, 180);
}

static void an_unknown_member_is_refused_by_name(void **state)
{
	put("u.json", "{\"id\":\"" ID
		      "\",\"origin\":\"https://e\",\"key_source\":\"file:/k\",\"cashe_size\":1}");
	assert_refused("u", "cashe_size");
}

static void a_member_of_the_wrong_type_is_refused_by_name(void **state)
{
	put("t.json",
		"{\"id\":\"" ID
		"\",\"origin\":\"https://e\",\"key_source\":\"file:/k\",\"limit_bytes\":true}");
	assert_refused("t", "limit_bytes");
	put("t.json", "{\"id\":\"" ID "\",\"origin\":7,\"key_source\":\"file:/k\"}");
	assert_refused("t", "origin");
}

static void a_missing_member_is_named(void **state)
{
	put("x.json", "{\"id\":\"" ID "\",\"origin\":\"https://e\"}");
	assert_refused("x", "key_source");
}

static void a_member_given_twice_is_refused(void **state)
{
	put("d.json",
		"{\"id\":\"" ID
		"\",\"origin\":\"https://e\",\"origin\":\"https://f\",\"key_source\":\"file:/k\"}");
	assert_refused("d", "not a JSON object");
}

static void damaged_files_are_refused(void **state)
{
	static const char *const texts[] = {
		"", "{", "[]", "null", "{\"id\":", "\x80\xff", MINIMAL " x"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		put("b.json", texts[i]);
		assert_refused("b", "b.json");
	}
}

static void an_id_that_is_a_path_is_refused(void **state)
{
	put("i.json", "{\"id\":\"../../../../../../etc/aaaaaaaaaaaaaa\",\"origin\":\"https://"
		      "e\",\"key_source\":\"file:/k\"}");
	assert_refused("i", "'id'");
}

static void a_relative_mount_point_is_refused(void **state)
{
	put_mounted("r.json", "here");
	assert_refused("r", "mountpoint");
}

static void a_name_that_is_a_path_is_refused(void **state)
{
	static const char *const names[] = {"", ".", "..", "../x", "a/b", "-x", ".hidden", "a b",
		"a\nb", "0123456789012345678901234567890123456789012345678901234567890123456789"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_refused(names[i], "cannot be the name");
}

static void nothing_configured_says_what_to_do(void **state)
{
	assert_refused(NULL, "cachet init");
}

static void the_only_volume_needs_no_name(void **state)
{
	_cleanup_(config_freep) struct config *c = NULL;
	_cleanup_free_ char *error = NULL;

	put("only.json", MINIMAL);
	assert_int_equal(config_load(NULL, &c, &error), 0);
	assert_string_equal(c->name, "only");
}

static void among_several_only_default_needs_no_name(void **state)
{
	_cleanup_(config_freep) struct config *c = NULL;
	_cleanup_free_ char *error = NULL;

	put("a.json", MINIMAL);
	put("b.json", MINIMAL);
	assert_refused(NULL, "say which");
	put("default.json", MINIMAL);
	assert_int_equal(config_load(NULL, &c, &error), 0);
	assert_string_equal(c->name, "default");
}

static void assert_found(const char *path, const char *name)
{
	_cleanup_(config_freep) struct config *c = NULL;
	_cleanup_free_ char *error = NULL;
	int r = config_find(path, &c, NULL, &error);

	if (!name) {
		assert_int_equal(r, CE_USAGE);
		return;
	}
	assert_int_equal(r, 0);
	assert_string_equal(c->name, name);
}

static void a_path_finds_the_volume_it_lies_under(void **state)
{
	put_mounted("outer.json", "/mnt/a");
	put_mounted("inner.json", "/mnt/a/deep/");
	put("unmounted.json", MINIMAL);
	assert_found("/mnt/a", "outer");
	assert_found("/mnt/a/x/y", "outer");
	assert_found("/mnt/a/deep", "inner");
	assert_found("/mnt/a/deep/er", "inner");
	assert_found("/mnt/ab", NULL);
	assert_found("/mnt", NULL);
	assert_found("/", NULL);
}

static void a_broken_configuration_does_not_hide_the_others(void **state)
{
	put("aa-broken.json", "{");
	put_mounted("good.json", "/mnt/good");
	assert_found("/mnt/good/x", "good");
}

static void the_mount_point_found_is_given_back(void **state)
{
	_cleanup_(config_freep) struct config *c = NULL;
	_cleanup_free_ char *error = NULL, *mountpoint = NULL;

	put_mounted("m.json", "/mnt/m");
	assert_int_equal(config_find("/mnt/m/a/b", &c, &mountpoint, &error), 0);
	assert_string_equal(mountpoint, "/mnt/m");
}

static void other_files_in_the_directory_are_not_volumes(void **state)
{
	_cleanup_(config_freep) struct config *c = NULL;
	_cleanup_free_ char *error = NULL;

	put("one.json", MINIMAL);
	put("one.key", "00");
	put(".json", MINIMAL);
	put("one.json~", MINIMAL);
	assert_int_equal(config_load(NULL, &c, &error), 0);
	assert_string_equal(c->name, "one");
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		EACH(what_is_saved_is_loaded),
		EACH(the_file_is_private),
		EACH(optional_members_may_be_left_out),
		EACH(an_unknown_member_is_refused_by_name),
		EACH(a_member_of_the_wrong_type_is_refused_by_name),
		EACH(a_missing_member_is_named),
		EACH(a_member_given_twice_is_refused),
		EACH(damaged_files_are_refused),
		EACH(an_id_that_is_a_path_is_refused),
		EACH(a_relative_mount_point_is_refused),
		EACH(a_name_that_is_a_path_is_refused),
		EACH(nothing_configured_says_what_to_do),
		EACH(the_only_volume_needs_no_name),
		EACH(among_several_only_default_needs_no_name),
		EACH(a_path_finds_the_volume_it_lies_under),
		EACH(a_broken_configuration_does_not_hide_the_others),
		EACH(the_mount_point_found_is_given_back),
		EACH(other_files_in_the_directory_are_not_volumes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
