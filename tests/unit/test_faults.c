/*
 * Goal: ENOSPC, EIO, EDQUOT, EMFILE and short writes of the disk below, at the first call, the
 * second, ... until none fires: what was answered is there afterwards, what was refused is there
 * wholly or not at all, and the volume goes on.
 */
#include "fault.h"

#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "unit.h"

#include "base/error.h"
#include "base/secret.h"
#include "cache/file.h"
#include "cache/remote.h"
#include "cache/tree.h"
#include "cache/volume.h"
#include "cache/volume_priv.h"

/* The names a program compiled with 64-bit offsets calls, and those of other libraries. */
#undef open
#undef openat
#undef pread
#undef pwrite
#undef ftruncate
#undef fallocate
FAULT_OPEN(open64)
FAULT_OPENAT(openat64)
FAULT_PWRITE(pwrite64, off64_t)
FAULT_PREAD(pread64, off64_t)
FAULT_CALL(ssize_t, write, (int fd, const void *buf, size_t len), (fd, buf, len), true)
FAULT_CALL(int, unlink, (const char *path), (path), false)
FAULT_CALL(int, ftruncate64, (int fd, off64_t len), (fd, len), true)
FAULT_CALL(
	int, fallocate64, (int fd, int mode, off64_t off, off64_t len), (fd, mode, off, len), true)
FAULT_CALL(int, fsync, (int fd), (fd), true)
FAULT_CALL(int, fdatasync, (int fd), (fd), true)
FAULT_CALL(int, renameat, (int from, const char *a, int to, const char *b), (from, a, to, b), true)
FAULT_CALL(int, rename, (const char *a, const char *b), (a, b), true)
FAULT_CALL(int, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode), true)
FAULT_CALL(int, unlinkat, (int dir, const char *path, int flags), (dir, path, flags), false)

#define FILES 3
#define VERSIONS 12
#define ROUNDS_MAX 20000

/* What a file may hold: its last answered version, or one of those tried after it. */
struct expectation {
	char name[16];
	bool made;      /* its creation was answered */
	bool gone;      /* its removal was answered */
	bool doubt;     /* a creation, removal or rename was refused: both is right */
	unsigned acked; /* version; 0 = empty */
	unsigned tried;
};

static struct {
	char top[64], dir[96], source[160];
	struct volume *v;
	uint64_t store, root;
	struct expectation files[FILES];
} t;
static unsigned refusals; /* rounds in which a call answered with an error */

static const struct tree_cred cred = { 0, 0 };

static size_t version_len(unsigned file, unsigned version)
{
	static const size_t sizes[] = { 100, 5000, 70000, 200000 };

	return version ? sizes[(file + version) % ARRAY_SIZE(sizes)] + version : 0;
}

static void version_bytes(uint8_t *buf, size_t len, unsigned file, unsigned version)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)((i >> 3) * 31 + i + file * 7 + version * 13);
}

static int volume_up(void)
{
	const struct volume_options o = { .dir = t.dir, .key_source = t.source, .host = "test" };
	char *error = NULL;
	int r = volume_open(&o, &t.v, &error);

	free(error);
	return r;
}

static void fresh(void)
{
	struct volume_create_options o = { .origin = "https://records.example/" };
	struct remote_report report;
	struct tree_attr a;
	char *error = NULL;

	memset(&t, 0, sizeof(t));
	strcpy(t.top, "/dev/shm/cachet-fault-XXXXXX");
	assert_non_null(mkdtemp(t.top));
	snprintf(t.dir, sizeof(t.dir), "%s/volume", t.top);
	snprintf(t.source, sizeof(t.source), "file:%s/key", t.top);
	o.dir = t.dir;
	o.key_source = t.source;
	assert_int_equal(volume_create(&o, &error), 0);
	assert_int_equal(volume_up(), 0);
	assert_int_equal(remote_store_add(t.v, "records", false, &t.store), 0);
	assert_int_equal(remote_listing_begin(t.v, t.store), 0);
	assert_int_equal(remote_listing_end(t.v, t.store, false, &report), 0);
	assert_int_equal(tree_lookup(t.v, OBJECT_ROOT, "records", &a), 0);
	t.root = a.object;
	for (unsigned i = 0; i < FILES; i++)
		snprintf(t.files[i].name, sizeof(t.files[i].name), "file%u", i);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	return remove(path);
}

static void discard(void)
{
	nftw(t.top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* --- the work, which goes on after an error --- */

static void make(unsigned i)
{
	struct expectation *e = &t.files[i];
	struct tree_attr a;
	int r = tree_mknod(t.v, t.root, e->name, S_IFREG | 0644, 0, &cred, &a);

	e->made |= r == 0;
	e->doubt |= r != 0;
}

static struct file *get(unsigned i)
{
	struct tree_attr a;
	struct file *f;

	if (tree_lookup(t.v, t.root, t.files[i].name, &a) ||
		file_open(t.v, a.object, a.version, true, &f))
		return NULL;
	return f;
}

/* Replaces the content: truncated, written, committed or synced. */
static void put(unsigned i, unsigned version, bool sync)
{
	struct expectation *e = &t.files[i];
	size_t len = version_len(i, version);
	uint8_t *buf = malloc(len + 1);
	struct file *f = get(i);
	int r;

	if (!f) {
		free(buf);
		return;
	}
	version_bytes(buf, len, i, version);
	e->tried = version;
	r = file_write(f, buf, len, 0);
	if (r == 0)
		r = file_truncate(f, len);
	if (r == 0)
		r = sync ? file_sync(f) : file_commit(f);
	if (r == 0)
		e->acked = version;
	file_unref(f, true);
	free(buf);
}

static void move(unsigned i, const char *to)
{
	struct expectation *e = &t.files[i];
	struct tree_attr a;

	if (tree_rename(t.v, t.root, e->name, t.root, to, 0) == 0 ||
		tree_lookup(t.v, t.root, to, &a) == 0)
		snprintf(e->name, sizeof(e->name), "%s", to);
	else
		e->doubt = true; /* where it is cannot be asked just now */
}

static void drop(unsigned i)
{
	if (tree_unlink(t.v, t.root, t.files[i].name) == 0)
		t.files[i].gone = true;
	else
		t.files[i].doubt = true;
}

static void work(void)
{
	unsigned version = 0;

	for (unsigned i = 0; i < FILES; i++)
		make(i);
	put(0, ++version, false);
	put(1, ++version, true);
	put(0, ++version, false);
	put(2, ++version, false);
	move(2, "moved");
	put(2, ++version, true);
	put(1, ++version, false);
	drop(0);
	if (volume_sync(t.v))
		return;
	put(1, ++version, false);
}

/* --- what must hold --- */

static bool holds(struct file *f, unsigned i, unsigned version)
{
	size_t len = version_len(i, version), got = 0;
	uint8_t *want = malloc(len + 1), *buf = malloc(len + 1);
	bool same = file_size(f) == len;

	version_bytes(want, len, i, version);
	same = same && (!len || (file_read(f, buf, len, 0, &got) == 0 && got == len &&
					!memcmp(buf, want, len)));
	free(want);
	free(buf);
	return same;
}

/* Content and size of a version that was cut or written without the other half was never one
 * commit: put() writes and cuts in two. So any mix of two versions tried in a row is allowed by
 * length only when an error came between. */
static void check_file(unsigned i)
{
	struct expectation *e = &t.files[i];
	struct tree_attr a;
	struct file *f;
	bool ok = false;
	int r = tree_lookup(t.v, t.root, e->name, &a);

	if (r == -ENOENT) {
		if (!e->gone && !e->doubt && e->made)
			fail_msg("%s was answered and is not there (%s)", e->name, fault_where);
		return;
	}
	assert_int_equal(r, 0);
	if (e->gone)
		fail_msg("%s was removed and is there again (%s)", e->name, fault_where);
	assert_int_equal(file_open(t.v, a.object, a.version, false, &f), 0);
	if (e->tried == e->acked)
		ok = holds(f, i, e->acked);
	else /* refused: the bytes must be readable, whichever they are */
		for (uint64_t off = 0; off <= file_size(f); off += 65536) {
			uint8_t buf[65536];
			size_t got;

			ok = file_read(f, buf, sizeof(buf), off, &got) == 0;
			if (!ok)
				break;
		}
	if (!ok)
		fail_msg("%s is not what was answered (version %u, tried %u; %s)", e->name,
			e->acked, e->tried, fault_where);
	file_unref(f, false);
}

static void check_all(void)
{
	for (unsigned i = 0; i < FILES; i++)
		check_file(i);
	db_read(t.v->db);
	assert_int_equal(db_integrity_check(t.v->db), 0);
	db_unlock(t.v->db);
}

/* The fault is over: new work is taken, without opening anew. */
static void check_usable(void)
{
	struct expectation *e = &t.files[1];

	put(1, VERSIONS, true);
	if (e->made && !e->doubt && e->acked != VERSIONS)
		fail_msg("the volume takes no more work after a fault in %s", fault_where);
}

static bool round_once(long n, enum fault_kind kind, bool reopening)
{
	bool fired;

	fresh();
	if (!reopening) {
		fault_arm(n, kind);
		work();
	} else {
		work();
		volume_close(t.v);
		fault_arm(n, kind);
		if (volume_up()) {
			fired = fault_disarm();
			assert_int_equal(volume_up(), 0);
			fault_fired = fired;
		}
	}
	fired = fault_disarm();
	for (unsigned i = 0; i < FILES; i++)
		if (t.files[i].doubt || t.files[i].tried != t.files[i].acked) {
			refusals++;
			break;
		}
	check_usable();
	check_all();
	volume_close(t.v);
	assert_int_equal(volume_up(), 0);
	check_all();
	volume_close(t.v);
	discard();
	return fired;
}

/* Every call with CACHET_TEST_STRIDE=1; else each fifth, beginning at another one each day. */
static unsigned stride(void)
{
	const char *set = getenv("CACHET_TEST_STRIDE");

	return set && atoi(set) > 0 ? (unsigned)atoi(set) : 5;
}

/* The keeper works beside, so a call may come in another order: a few rounds without a fault end
 * it. */
static void every_call(enum fault_kind kind, bool reopening)
{
	unsigned quiet = 0;
	long n = 1 + time(NULL) / 86400 % stride();

	refusals = 0;
	for (; quiet < 3 && n < ROUNDS_MAX; n += stride())
		quiet = round_once(n, kind, reopening) ? 0 : quiet + 1;
	assert_true(n > 4);
	if (!reopening && kind != FAULT_SHORT)
		assert_true(refusals > 0); /* else nothing was tested */
	print_message(
		"up to call %ld, %u times an answer was an error\n", n, refusals);
}

static void test_no_space_at_every_call(void **state)
{
	every_call(FAULT_ENOSPC, false);
}
static void test_input_output_error_at_every_call(void **state)
{
	every_call(FAULT_EIO, false);
}
static void test_quota_at_every_call(void **state)
{
	every_call(FAULT_EDQUOT, false);
}
static void test_short_write_at_every_call(void **state)
{
	every_call(FAULT_SHORT, false);
}
static void test_no_descriptor_at_every_call(void **state)
{
	every_call(FAULT_EMFILE, false);
}
static void test_opening_with_an_error_at_every_call(void **state)
{
	every_call(FAULT_EIO, true);
}
static void test_opening_with_no_space_at_every_call(void **state)
{
	every_call(FAULT_ENOSPC, true);
}
static void test_opening_with_no_descriptor(void **state)
{
	every_call(FAULT_EMFILE, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_space_at_every_call),
		cmocka_unit_test(test_input_output_error_at_every_call),
		cmocka_unit_test(test_quota_at_every_call),
		cmocka_unit_test(test_short_write_at_every_call),
		cmocka_unit_test(test_no_descriptor_at_every_call),
		cmocka_unit_test(test_opening_with_an_error_at_every_call),
		cmocka_unit_test(test_opening_with_no_space_at_every_call),
		cmocka_unit_test(test_opening_with_no_descriptor),
	};

	secret_allow_unlocked();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
