/* POSIX rules of the namespace, as pjdfstest asks for them, and what only this tree has. */
#include <sys/xattr.h>

#include "tree_fixture.h"

/* File times come from a clock that ticks every 1 to 10 ms. */
#define TICK_US 20000

static void a_new_name_has_its_attributes(void **state)
{
	struct tree_fixture *f = *state;
	struct tree_attr a, dir = tf_attr(f, "");

	usleep(TICK_US);
	ok(tree_mknod(f->v, f->root, "a", S_IFREG | 0640, 0, &tf_cred, &a));
	assert_int_equal(a.mode, S_IFREG | 0640);
	assert_int_equal(a.nlink, 1);
	assert_int_equal(a.uid, 1000);
	assert_int_equal(a.size, 0);
	assert_true(tf_attr(f, "").mtime_ns > dir.mtime_ns);
	assert_true(tf_attr(f, "").ctime_ns > dir.ctime_ns);
	ok(tree_mknod(f->v, f->root, "dev", S_IFCHR | 0600, 259, &tf_cred, &a));
	assert_int_equal(a.rdev, 259);
}

static void names_that_may_not_be(void **state)
{
	struct tree_fixture *f = *state;
	char name[258];
	struct tree_attr a;

	memset(name, 'x', sizeof(name));
	name[256] = 0;
	assert_int_equal(tf_create(f, name), -ENAMETOOLONG);
	assert_int_equal(tree_lookup(f->v, f->root, name, &a), -ENAMETOOLONG);
	assert_int_equal(tree_rename(f->v, f->root, "a", f->root, name, 0), -ENAMETOOLONG);
	name[255] = 0;
	ok(tf_create(f, name));
	assert_int_equal(tree_mkdir(f->v, f->root, "", 0755, &tf_cred, &a), -ENOENT);
	assert_int_equal(tree_mkdir(f->v, f->root, "a/b", 0755, &tf_cred, &a), -EINVAL);
	assert_int_equal(tree_mkdir(f->v, f->root, "..", 0755, &tf_cred, &a), -EINVAL);
}

static void what_exists_is_not_made_again(void **state)
{
	struct tree_fixture *f = *state;

	ok(tf_create(f, "a"));
	ok(tf_mkdir(f, "d"));
	assert_int_equal(tf_create(f, "a"), -EEXIST);
	assert_int_equal(tf_mkdir(f, "a"), -EEXIST);
	assert_int_equal(tf_symlink(f, "d", "x"), -EEXIST);
	assert_int_equal(tf_link(f, "a", "d"), -EEXIST);
}

static void a_file_is_no_directory(void **state)
{
	struct tree_fixture *f = *state;
	struct tree_attr a;

	ok(tf_create(f, "a"));
	assert_int_equal(tree_mkdir(f->v, tf_at(f, "a"), "b", 0755, &tf_cred, &a), -ENOTDIR);
	assert_int_equal(tree_lookup(f->v, tf_at(f, "a"), "b", &a), -ENOTDIR);
	assert_int_equal(tf_rmdir(f, "a"), -ENOTDIR);
	ok(tf_mkdir(f, "d"));
	assert_int_equal(tf_unlink(f, "d"), -EISDIR);
	assert_int_equal(tf_link(f, "d", "e"), -EPERM);
}

static void directories_count_their_directories(void **state)
{
	struct tree_fixture *f = *state;

	ok(tf_mkdir(f, "d"));
	ok(tf_mkdir(f, "d/1"));
	ok(tf_mkdir(f, "d/2"));
	ok(tf_create(f, "d/file"));
	assert_int_equal(tf_attr(f, "d").nlink, 4);
	ok(tf_rename(f, "d/1", "1", 0));
	assert_int_equal(tf_attr(f, "d").nlink, 3);
	assert_int_equal(tf_attr(f, "").nlink, 4);
	ok(tf_rmdir(f, "d/2"));
	assert_int_equal(tf_attr(f, "d").nlink, 2);
	assert_int_equal(tf_rmdir(f, "d"), -ENOTEMPTY);
}

static void a_setgid_directory_hands_its_group_on(void **state)
{
	struct tree_fixture *f = *state;
	struct tree_attr a, set = { .mode = 02755, .gid = 77 };

	ok(tf_mkdir(f, "d"));
	a = tf_attr(f, "d");
	ok(tree_setattr(f->v, a.object, a.version, &set, TREE_SET_MODE | TREE_SET_GID, &a));
	ok(tf_mkdir(f, "d/sub"));
	ok(tf_create(f, "d/file"));
	assert_int_equal(tf_attr(f, "d/sub").gid, 77);
	assert_int_equal(tf_attr(f, "d/sub").mode & S_ISGID, S_ISGID);
	assert_int_equal(tf_attr(f, "d/file").gid, 77);
	assert_int_equal(tf_attr(f, "d/file").mode & S_ISGID, 0);
}

static void chown_takes_the_set_id_bits_away(void **state)
{
	struct tree_fixture *f = *state;
	struct tree_attr a, set = { .mode = 06755, .uid = 5 };

	ok(tf_create(f, "a"));
	a = tf_attr(f, "a");
	ok(tree_setattr(f->v, a.object, a.version, &set, TREE_SET_MODE, &a));
	assert_int_equal(a.mode & 07777, 06755);
	ok(tree_setattr(f->v, a.object, a.version, &set, TREE_SET_UID, &a));
	assert_int_equal(a.mode & 07777, 0755);
}

static void links_share_an_object(void **state)
{
	struct tree_fixture *f = *state;
	struct tree_attr a;

	ok(tf_write(f, "a", "text"));
	a = tf_attr(f, "a");
	usleep(TICK_US);
	ok(tf_link(f, "a", "b"));
	assert_int_equal(tf_at(f, "a"), tf_at(f, "b"));
	assert_int_equal(tf_attr(f, "b").nlink, 2);
	assert_true(tf_attr(f, "b").ctime_ns > a.ctime_ns);
	ok(tf_unlink(f, "a"));
	assert_int_equal(tf_attr(f, "b").nlink, 1);
}

static void the_number_of_links_has_a_bound(void **state)
{
	struct tree_fixture *f = *state;
	struct object_row o;
	uint64_t object;

	ok(tf_create(f, "a"));
	object = tf_at(f, "a");
	ok(db_begin(f->v->db));
	ok(object_get(f->v->db, object, &o));
	o.nlink = TREE_LINK_MAX;
	ok(object_update(f->v->db, &o));
	ok(db_commit(f->v->db));
	assert_int_equal(tf_link(f, "a", "b"), -EMLINK);
}

static void rename_onto_the_same_inode_does_nothing(void **state)
{
	struct tree_fixture *f = *state;

	ok(tf_create(f, "a"));
	ok(tf_link(f, "a", "b"));
	ok(tf_rename(f, "a", "b", 0));
	assert_int_not_equal(tf_at(f, "a"), 0);
	assert_int_equal(tf_attr(f, "a").nlink, 2);
	ok(tf_rename(f, "a", "a", 0));
	assert_int_equal(tf_rename(f, "a", "b", RENAME_NOREPLACE), -EEXIST);
}

static void rename_replaces_by_the_rules(void **state)
{
	struct tree_fixture *f = *state;
	struct tree_attr a, b;

	ok(tf_create(f, "a"));
	ok(tf_create(f, "b"));
	ok(tf_mkdir(f, "d"));
	ok(tf_mkdir(f, "e"));
	ok(tf_create(f, "e/x"));
	assert_int_equal(tf_rename(f, "a", "d", 0), -EISDIR);
	assert_int_equal(tf_rename(f, "d", "a", 0), -ENOTDIR);
	assert_int_equal(tf_rename(f, "d", "e", 0), -ENOTEMPTY);
	assert_int_equal(tf_rename(f, "none", "e", 0), -ENOENT);
	assert_int_equal(tf_rename(f, "a", "b", RENAME_NOREPLACE), -EEXIST);
	a = tf_attr(f, "a");
	usleep(TICK_US);
	ok(tf_rename(f, "a", "b", 0));
	b = tf_attr(f, "b");
	assert_int_equal(a.object, b.object);
	assert_true(b.ctime_ns > a.ctime_ns);
	assert_int_equal(tf_at(f, "a"), 0);
	ok(tf_rename(f, "e", "d", 0));
	assert_int_not_equal(tf_at(f, "d/x"), 0);
}

static void a_directory_does_not_move_below_itself(void **state)
{
	struct tree_fixture *f = *state;

	ok(tf_mkdir(f, "d"));
	ok(tf_mkdir(f, "d/e"));
	assert_int_equal(tf_rename(f, "d", "d/x", 0), -EINVAL);
	assert_int_equal(tf_rename(f, "d", "d/e/x", 0), -EINVAL);
	assert_int_equal(tf_rename(f, "d", "d/e", RENAME_EXCHANGE), -EINVAL);
	assert_int_equal(tf_rename(f, "d/e", "d", RENAME_EXCHANGE), -EINVAL);
}

static void exchange_keeps_both(void **state)
{
	struct tree_fixture *f = *state;
	uint64_t a, d;

	ok(tf_create(f, "a"));
	ok(tf_mkdir(f, "d"));
	ok(tf_mkdir(f, "d/e"));
	a = tf_at(f, "a");
	d = tf_at(f, "d/e");
	ok(tf_rename(f, "a", "d/e", RENAME_EXCHANGE));
	assert_int_equal(tf_at(f, "d/e"), a);
	assert_int_equal(tf_at(f, "a"), d);
	assert_int_equal(tf_attr(f, "d").nlink, 2);
	assert_int_equal(tf_attr(f, "").nlink, 4);
	assert_int_equal(tf_rename(f, "a", "none", RENAME_EXCHANGE), -ENOENT);
}

static void rename_commits_what_was_only_written(void **state)
{
	struct tree_fixture *f = *state;
	struct tree_attr a;
	struct file *file;
	char text[8];
	size_t got;

	ok(tf_write(f, "doc", "old"));
	ok(tf_create(f, "tmp"));
	a = tf_attr(f, "tmp");
	ok(file_open(f->v, a.object, a.version, true, &file));
	ok(file_write(file, "new!", 4, 0));
	ok(tf_rename(f, "tmp", "doc", 0));
	a = tf_attr(f, "doc");
	assert_int_equal(a.size, 4);
	file_unref(file, true);
	tf_reopen(f);
	a = tf_attr(f, "doc");
	assert_int_equal(a.size, 4);
	ok(file_open(f->v, a.object, a.version, false, &file));
	ok(file_read(file, text, sizeof(text), 0, &got));
	assert_memory_equal(text, "new!", 4);
	file_unref(file, false);
}

/* A kernel that knows one object. */
struct holder {
	uint64_t object;
	bool unlinked;
};

static bool holds(void *arg, uint64_t object, bool unlinked)
{
	struct holder *h = arg;

	if (object != h->object)
		return false;
	h->unlinked |= unlinked;
	return true;
}

static void an_unlinked_object_lives_while_it_is_held(void **state)
{
	struct tree_fixture *f = *state;
	struct holder h = { 0 };
	struct tree_attr a;

	ok(tf_write(f, "a", "text"));
	a = tf_attr(f, "a");
	h.object = a.object;
	tree_held_by(f->v, holds, &h);
	ok(tf_unlink(f, "a"));
	assert_true(h.unlinked);
	ok(tree_getattr(f->v, a.object, a.version, &a));
	assert_int_equal(a.nlink, 0);
	assert_int_equal(tree_link(f->v, a.object, f->root, "again", &a), -ENOENT);
	tree_dropped(f->v, a.object); /* one of two that hold it */
	ok(tree_getattr(f->v, a.object, a.version, &a));
	tree_held_by(f->v, NULL, NULL);
	tree_dropped(f->v, a.object);
	assert_int_equal(tree_getattr(f->v, a.object, a.version, &a), CE_STALE);
}

static void what_is_dropped_with_a_name_stays(void **state)
{
	struct tree_fixture *f = *state;
	struct tree_attr a;

	ok(tf_write(f, "a", "text"));
	a = tf_attr(f, "a");
	tree_dropped(f->v, a.object);
	ok(tree_getattr(f->v, a.object, a.version, &a));
}

static void a_removed_directory_takes_nothing_in(void **state)
{
	struct tree_fixture *f = *state;
	struct tree_attr a;
	uint64_t d;

	ok(tf_mkdir(f, "d"));
	d = tf_at(f, "d");
	tree_held_by(f->v, holds, &(struct holder){ .object = d });
	ok(tf_rmdir(f, "d"));
	assert_int_equal(tree_mkdir(f->v, d, "x", 0755, &tf_cred, &a), -ENOENT);
	ok(tf_create(f, "y"));
	assert_int_equal(tree_rename(f->v, f->root, "y", d, "y", 0), -ENOENT);
	tree_held_by(f->v, NULL, NULL);
}

static void stores_are_borders(void **state)
{
	struct tree_fixture *f = *state;
	struct tree_attr a;
	uint64_t first = f->root, id;

	ok(tf_create(f, "a"));
	tf_store(f, "second");
	assert_int_equal(tree_rename(f->v, first, "a", f->root, "a", 0), -EXDEV);
	ok(tree_lookup(f->v, first, "a", &a));
	assert_int_equal(tree_link(f->v, a.object, f->root, "a", &a), -EXDEV);
	assert_int_equal(tree_mkdir(f->v, OBJECT_ROOT, "third", 0755, &tf_cred, &a), -EPERM);
	assert_int_equal(tree_rmdir(f->v, OBJECT_ROOT, "second"), -EPERM);
	assert_int_equal(tree_rename(f->v, OBJECT_ROOT, "second", OBJECT_ROOT, "other", 0), -EPERM);
	ok(remote_store_add(f->v, "second", true, &id));
	assert_int_equal(tf_create(f, "b"), -EROFS);
}

static void what_was_never_listed_is_unknown_not_absent(void **state)
{
	struct tree_fixture *f = *state;
	struct tree_attr a;
	uint64_t id;

	assert_int_equal(tree_lookup(f->v, f->root, "none", &a), -ENOENT);
	ok(remote_store_add(f->v, "unlisted", false, &id));
	ok(tree_lookup(f->v, OBJECT_ROOT, "unlisted", &a));
	assert_int_equal(tree_readdir(f->v, a.object, 0, NULL, NULL), CE_ABSENT);
	assert_int_equal(tree_lookup(f->v, a.object, "none", &a), CE_ABSENT);
}

static void paths_go_both_ways(void **state)
{
	struct tree_fixture *f = *state;
	struct tree_attr a;
	char *path;

	ok(tf_mkdir(f, "d"));
	ok(tf_create(f, "d/a"));
	ok(tree_path(f->v, tf_at(f, "d/a"), &path));
	assert_string_equal(path, "records/d/a");
	ok(tree_resolve(f->v, path, &a));
	assert_int_equal(a.object, tf_at(f, "d/a"));
	free(path);
	ok(tree_resolve(f->v, "", &a));
	assert_int_equal(a.object, OBJECT_ROOT);
	assert_int_equal(tree_resolve(f->v, "records/d/a/x", &a), -ENOTDIR);
}

static void extended_attributes_follow_their_flags(void **state)
{
	struct tree_fixture *f = *state;
	void *value;
	size_t len;
	uint64_t a;

	ok(tf_create(f, "a"));
	a = tf_at(f, "a");
	assert_int_equal(tree_setxattr(f->v, a, "user.x", "1", 1, XATTR_REPLACE), -ENODATA);
	ok(tree_setxattr(f->v, a, "user.x", "1", 1, XATTR_CREATE));
	assert_int_equal(tree_setxattr(f->v, a, "user.x", "2", 1, XATTR_CREATE), -EEXIST);
	ok(tree_setxattr(f->v, a, "user.x", "22", 2, 0));
	ok(tree_getxattr(f->v, a, "user.x", &value, &len));
	assert_int_equal(len, 2);
	free(value);
	ok(tree_removexattr(f->v, a, "user.x"));
	assert_int_equal(tree_removexattr(f->v, a, "user.x"), -ENODATA);
	assert_int_equal(tree_getxattr(f->v, a, "user.x", &value, &len), -ENODATA);
}

struct seen {
	char names[256];
	uint64_t cookie;
	unsigned n, stop;
};

static int see(void *arg, const char *name, uint64_t cookie, const struct tree_attr *a)
{
	struct seen *s = arg;

	strcat(s->names, name);
	s->cookie = cookie;
	return ++s->n == s->stop;
}

static void a_directory_is_read_in_pieces(void **state)
{
	struct tree_fixture *f = *state;
	struct seen s = { .stop = 2 };

	for (char name[] = "a"; *name < 'f'; ++*name)
		ok(tf_create(f, name));
	ok(tree_readdir(f->v, f->root, 0, see, &s));
	assert_string_equal(s.names, "ab");
	/* What goes meanwhile does not shift what comes. */
	ok(tf_unlink(f, "a"));
	s.stop = 100;
	ok(tree_readdir(f->v, f->root, s.cookie, see, &s));
	assert_string_equal(s.names, "abcde");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tf_test(a_new_name_has_its_attributes),
		tf_test(names_that_may_not_be),
		tf_test(what_exists_is_not_made_again),
		tf_test(a_file_is_no_directory),
		tf_test(directories_count_their_directories),
		tf_test(a_setgid_directory_hands_its_group_on),
		tf_test(chown_takes_the_set_id_bits_away),
		tf_test(links_share_an_object),
		tf_test(the_number_of_links_has_a_bound),
		tf_test(rename_onto_the_same_inode_does_nothing),
		tf_test(rename_replaces_by_the_rules),
		tf_test(a_directory_does_not_move_below_itself),
		tf_test(exchange_keeps_both),
		tf_test(rename_commits_what_was_only_written),
		tf_test(an_unlinked_object_lives_while_it_is_held),
		tf_test(what_is_dropped_with_a_name_stays),
		tf_test(a_removed_directory_takes_nothing_in),
		tf_test(stores_are_borders),
		tf_test(what_was_never_listed_is_unknown_not_absent),
		tf_test(paths_go_both_ways),
		tf_test(extended_attributes_follow_their_flags),
		tf_test(a_directory_is_read_in_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
