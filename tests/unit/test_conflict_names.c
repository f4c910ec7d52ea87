/* Goal: the name of a conflict copy is a name, whatever the file, the host and the directory are
 * called; it says what it is a copy of, and is never half a character. */
#include "tree_fixture.h"

#include "cache/outbox.h"
#include "cache/remote_priv.h"

#define NOW (INT64_C(1795356180) * NS_PER_SEC)
#define WHEN " 2026-11-22 14-03)"

static void set(struct row_filename *out, const char *text)
{
	assert_true(row_filename_set(out, text, strlen(text)));
}

static void copy_of(struct tree_fixture *f, const char *name, struct row_filename *out)
{
	struct row_filename n;

	set(&n, name);
	db_read(f->v->db);
	ok(conflict_name(f->v, f->root, &n, NOW, out));
	db_unlock(f->v->db);
}

static void is_named(struct tree_fixture *f, const char *name, const char *want)
{
	struct row_filename got, original;

	copy_of(f, name, &got);
	assert_string_equal((const char *)got.bytes, want);
	assert_true(conflict_is_copy(&got, &original));
	assert_string_equal((const char *)original.bytes, name);
}

static void the_extension_stays_at_the_end(void **state)
{
	struct tree_fixture *f = *state;

	is_named(f, "a.txt", "a (conflict test" WHEN ".txt");
	is_named(f, "a.tar.gz", "a.tar (conflict test" WHEN ".gz");
	is_named(f, "a", "a (conflict test" WHEN);
	is_named(f, ".profile", ".profile (conflict test" WHEN);
	is_named(f, "a.", "a. (conflict test" WHEN);
	is_named(f, "a.no extension, but the end of a text",
		"a.no extension, but the end of a text (conflict test" WHEN);
	is_named(f, "a.thirty-one characters of it, yes!",
		"a.thirty-one characters of it, yes! (conflict test" WHEN);
}

static void a_host_never_spoils_the_name(void **state)
{
	static const struct {
		const char *host, *in_name;
	} rows[] = { { "", "-" }, { "/", "-" }, { "my host\n", "my-host-" },
		{ "h\xc3\xb6st", "h--st" }, { "\x7f", "-" }, { "../../x", "..-..-x" },
		{ "a-host-whose-name-is-longer-than-forty-characters-are",
			"a-host-whose-name-is-longer-than-forty-c" } };
	struct tree_fixture *f = *state;
	char want[ROW_NAME_MAX + 1];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		snprintf(f->v->host, sizeof(f->v->host), "%s", rows[i].host);
		snprintf(want, sizeof(want), "a (conflict %s" WHEN ".txt", rows[i].in_name);
		is_named(f, "a.txt", want);
	}
}

/* Characters of UTF-8, none of them begun before or ended behind it. */
static bool is_whole_text(const struct row_filename *n)
{
	size_t i = 0;

	while (i < n->len) {
		size_t more = n->bytes[i] < 0x80    ? 0
			      : n->bytes[i] >= 0xf0 ? 3
			      : n->bytes[i] >= 0xe0 ? 2
						    : 1;

		if (n->bytes[i] >= 0x80 && n->bytes[i] < 0xc0)
			return false;
		for (i++; more; more--, i++)
			if (i >= n->len || (n->bytes[i] & 0xc0) != 0x80)
				return false;
	}
	return true;
}

static void a_long_name_is_cut_between_characters(void **state)
{
	static const char *const characters[] = { "x", "\xc3\xb6", "\xe2\x82\xac",
		"\xf0\x9f\x93\x84" };
	struct tree_fixture *f = *state;
	struct row_filename got, original;

	for (size_t i = 0; i < ARRAY_SIZE(characters); i++) {
		for (size_t before = 0; before < 4; before++) {
			char name[ROW_NAME_MAX + 1] = "aaa", ext[] = ".txt";

			name[before] = 0;
			while (strlen(name) + strlen(characters[i]) + strlen(ext) <= ROW_NAME_MAX)
				strcat(name, characters[i]);
			strcat(name, ext);
			copy_of(f, name, &got);
			assert_in_range(got.len, ROW_NAME_MAX - 3, ROW_NAME_MAX);
			assert_true(is_whole_text(&got));
			assert_string_equal((const char *)got.bytes + got.len - 4, ext);
			assert_true(conflict_is_copy(&got, &original));
		}
	}
}

static void a_name_that_is_taken_is_numbered(void **state)
{
	struct tree_fixture *f = *state;

	ok(tf_write(f, "a (conflict test" WHEN ".txt", "x"));
	is_named(f, "a.txt", "a (conflict test" WHEN "-2.txt");
	ok(tf_write(f, "a (conflict test" WHEN "-2.txt", "x"));
	is_named(f, "a.txt", "a (conflict test" WHEN "-3.txt");
}

static void is_kept_as(struct tree_fixture *f, const char *copy, const char *want)
{
	struct name_row n = { .parent = f->root };
	struct row_filename got, original;

	set(&n.name, copy);
	db_read(f->v->db);
	ok(conflict_kept_name(f->v, &n, &got));
	db_unlock(f->v->db);
	assert_string_equal((const char *)got.bytes, want);
	assert_false(conflict_is_copy(&got, &original));
}

static void a_copy_that_is_kept_is_no_copy_any_more(void **state)
{
	struct tree_fixture *f = *state;
	struct name_row n = { .parent = f->root };
	struct row_filename got;

	is_kept_as(f, "a (conflict test" WHEN ".txt", "a (test" WHEN ".txt");
	ok(tf_write(f, "a (test" WHEN ".txt", "x"));
	is_kept_as(f, "a (conflict test" WHEN ".txt", "a (test" WHEN "-2.txt");
	ok(tf_write(f, "a (test" WHEN "-2.txt", "x"));
	is_kept_as(f, "a (conflict test" WHEN ".txt", "a (test" WHEN "-3.txt");
	is_kept_as(f, "a (conflict test" WHEN "-7.txt", "a (test" WHEN "-7.txt");
	set(&n.name, "a.txt");
	assert_int_equal(conflict_kept_name(f->v, &n, &got), -EINVAL);
}

static void kinds_have_names_and_an_unknown_one_too(void **state)
{
	assert_string_equal(conflict_kind_text(1), "edit-edit");
	assert_string_equal(conflict_kind_text(6), "elsewhere");
	assert_string_equal(conflict_kind_text(0), "edit-edit");
	assert_string_equal(conflict_kind_text(7), "edit-edit");
	assert_string_equal(conflict_kind_text(UINT32_MAX), "edit-edit");
}

struct listed {
	char paths[8][400];
	size_t n;
};

static int note_path(void *arg, const struct outbox_conflict *c)
{
	struct listed *l = arg;

	assert_true(l->n < ARRAY_SIZE(l->paths));
	snprintf(l->paths[l->n++], sizeof(l->paths[0]), "%s", c->path);
	return 0;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void lists(struct tree_fixture *f, const char *first, const char *second)
{
	struct listed l = { .n = 0 };

	ok(outbox_conflicts(f->v, true, note_path, &l));
	qsort(l.paths, l.n, sizeof(l.paths[0]), by_text);
	assert_int_equal(l.n, !!first + !!second);
	if (first)
		assert_string_equal(l.paths[0], first);
	if (second)
		assert_string_equal(l.paths[1], second);
}

/* Both names of a file met the same conflict, and their copies are called alike. */
static void each_hard_link_has_a_copy_of_its_own(void **state)
{
	struct tree_fixture *f = *state;

	ok(tf_mkdir(f, "d"));
	ok(tf_mkdir(f, "e"));
	ok(tf_write(f, "d/c (conflict x" WHEN, "text"));
	lists(f, "records/d/c (conflict x" WHEN, NULL);
	ok(tf_link(f, "d/c (conflict x" WHEN, "e/c (conflict x" WHEN));
	lists(f, "records/d/c (conflict x" WHEN, "records/e/c (conflict x" WHEN);
	lists(f, "records/d/c (conflict x" WHEN, "records/e/c (conflict x" WHEN);
	ok(tf_rename(f, "d", "g", 0));
	lists(f, "records/e/c (conflict x" WHEN, "records/g/c (conflict x" WHEN);
	ok(tf_unlink(f, "e/c (conflict x" WHEN));
	lists(f, "records/g/c (conflict x" WHEN, NULL);
	ok(tf_unlink(f, "g/c (conflict x" WHEN));
	lists(f, NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tf_test(each_hard_link_has_a_copy_of_its_own),
		tf_test(the_extension_stays_at_the_end),
		tf_test(a_host_never_spoils_the_name),
		tf_test(a_long_name_is_cut_between_characters),
		tf_test(a_name_that_is_taken_is_numbered),
		tf_test(a_copy_that_is_kept_is_no_copy_any_more),
		cmocka_unit_test(kinds_have_names_and_an_unknown_one_too),
	};

	setenv("TZ", "UTC", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
