/*
 * The loop over the calls. How many there are is counted in a round without a fault; other threads
 * work beside, so the number of a call is not the same each time, and a round in which nothing
 * failed is no mistake.
 */
#include "faults.h"
#include "places.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/macros.h"
#include "cache/verify.h"
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif

#define ROUNDS 3 /* of a story, when nothing is said */
#define ROUNDS_MAX 1000
#define CALLS_MAX 1000000L

static atomic_long calls; /* until the fault; <= 0: it was */
static atomic_bool armed, fired, counting;
static bool show;
static const char *_Atomic where;
static const struct fault_kind *kind;
static const char *injector;

static void show_stack(const char *call)
{
	fprintf(stderr, "fails: %s\n", call);
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_print_stack_trace();
#endif
}

bool fault_due(const char *call)
{
	long left;

	if (!atomic_load(&armed))
		return false;
	left = atomic_fetch_sub(&calls, 1);
	if (atomic_load(&counting))
		places_note(CALLS_MAX - left + 1);
	if (left != 1)
		return false;
	atomic_store(&where, call);
	atomic_store(&fired, true);
	if (show) {
		atomic_store(&armed, false);
		show_stack(call);
		atomic_store(&armed, true);
	}
	return true;
}

const struct fault_kind *fault_kind(void)
{
	return kind;
}

static void arm(long n)
{
	atomic_store(&where, "");
	atomic_store(&fired, false);
	atomic_store(&calls, n);
	atomic_store(&armed, true);
}

static bool disarm(void)
{
	atomic_store(&armed, false);
	return atomic_load(&fired);
}

/* --- the volume as it was --- */

static char *copy_from, *copy_to;

static int copy_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	char to[512];
	int in, out;

	snprintf(to, sizeof(to), "%s%s", copy_to, path + strlen(copy_from));
	if (type == FTW_D)
		return mkdir(to, st->st_mode & 0777);
	if (type != FTW_F)
		return 0;
	in = open(path, O_RDONLY | O_CLOEXEC);
	out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, st->st_mode & 0777);
	for (off_t left = st->st_size; in >= 0 && out >= 0 && left > 0;) {
		ssize_t n = sendfile(out, in, NULL, (size_t)left);

		if (n <= 0)
			return 1;
		left -= n;
	}
	close(in);
	close(out);
	return in < 0 || out < 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	return remove(path);
}

static void empty(char *dir)
{
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void copy(char *from, char *to)
{
	copy_from = from;
	copy_to = to;
	empty(to);
	assert_int_equal(nftw(from, copy_one, 16, FTW_PHYS), 0);
}

/* --- a round --- */

struct run {
	const struct story *story;
	struct told first, t;    /* as prepared, as it is */
	char work[80], kept[80]; /* directories: of the volume and its key, and a copy of both */
	size_t origin;
	long n;
	bool bad;
	unsigned failures, rounds;
};

#define FAILURES_MAX 8 /* of a story and a kind, then the rest is left out */

static void complain(struct run *r, const char *what)
{
	fprintf(stderr,
		"%s: %s (%s)\n  the call that failed: %s, number %ld; again: "
		"CACHET_TEST_FAULTS=%s:%ld test_faults_%s, kind %s\n",
		r->story->name, what, r->t.note, atomic_load(&where), r->n, r->story->name, r->n,
		injector, kind->name);
	r->bad = true;
	r->failures++;
}

static bool check(struct run *r, bool clean)
{
	struct volume_status s;
	int e;

	if (!told_holds(&r->t))
		return false;
	e = verify_index(r->t.v);
	if (!e)
		e = volume_status(r->t.v, &s);
	if (e)
		return false;
	if (clean && (s.damaged || s.rolled_back || s.index_lost || s.wal_damaged)) {
		fprintf(stderr, "damaged %llu, rolled back %llu, index lost %d, log damaged %d\n",
			(unsigned long long)s.damaged, (unsigned long long)s.rolled_back,
			s.index_lost, s.wal_damaged);
		return false;
	}
	return true;
}

static void check_open(struct run *r, const char *when)
{
	bool clean = !r->story->damaged && !kind->lies;

	if (!r->t.v && told_open(&r->t))
		complain(r, "cannot be opened");
	else if (!r->t.root && told_store(&r->t))
		complain(r, "has no store");
	else if (!check(r, clean))
		complain(r, when);
}

static void tell_again(struct run *r)
{
	r->t.note[0] = 0;
	if (r->story->closed || r->story->from_nothing)
		told_close(&r->t);
	if (r->story->tell(&r->t))
		complain(r, "cannot be told again");
	else if (r->story->holds && !r->story->holds(&r->t))
		complain(r, "is not what it tells");
}

static void restore(struct run *r)
{
	copy(r->kept, r->work);
	origin_back(r->t.origin, r->origin);
	r->t = r->first;
	if (!r->story->closed && !r->story->from_nothing) {
		assert_int_equal(told_open(&r->t), 0);
		assert_int_equal(told_store(&r->t), 0);
	}
}

/* False: nothing failed. */
static bool round_once(struct run *r, long n)
{
	int e;

	r->n = n;
	r->bad = false;
	restore(r);
	arm(n);
	e = r->story->tell(&r->t);
	if (!disarm() && e)
		complain(r, "fails without a fault");
	if (r->t.wrong)
		complain(r, "breaks a promise");
	if (r->t.v)
		check_open(r, "is not what was answered");
	if (!r->bad)
		tell_again(r);
	if (!r->bad)
		check_open(r, "told again, is not what was answered");
	told_close(&r->t);
	if (!r->bad)
		check_open(r, "opened again, is not what was answered");
	told_close(&r->t);
	if (!told_sealed(&r->t))
		complain(r, "is not sealed");
	return atomic_load(&fired);
}

/* It takes longer than a round: at the end of some. */
static void check_leaks(struct run *r, bool now)
{
#ifdef __SANITIZE_ADDRESS__
	if ((now || ++r->rounds % 32 == 0) && __lsan_do_recoverable_leak_check()) {
		complain(r, "leaks, or one of the 32 rounds before does");
		r->failures += FAILURES_MAX; /* it would in all that follow */
	}
#endif
}

static void prepare(struct run *r)
{
	static const char *const names[TOLD_FILES] = { "canary-0", "canary-1", "canary-2",
		"canary-3", "canary-4.json", "canary-5", "canary-6", "canary-7" };
	const char *base = getenv("TMPDIR");
	struct told *t = &r->first;
	char path[96];

	memset(r, 0, sizeof(*r));
	snprintf(t->top, sizeof(t->top), "%.40s/cachet-faults-XXXXXX", base ? base : "/tmp");
	assert_non_null(mkdtemp(t->top));
	snprintf(r->work, sizeof(r->work), "%s/live", t->top);
	snprintf(r->kept, sizeof(r->kept), "%s/kept", t->top);
	snprintf(t->dir, sizeof(t->dir), "%s/volume", r->work);
	snprintf(t->source, sizeof(t->source), "file:%s/key", r->work);
	for (unsigned i = 0; i < TOLD_FILES; i++)
		t->files[i].name = names[i];
	assert_int_equal(mkdir(r->work, 0700), 0);
	snprintf(path, sizeof(path), "%s/origin", t->top);
	t->origin = origin_new(path);
}

static void begin(struct run *r, const struct story *story)
{
	struct told *t = &r->first;

	prepare(r);
	r->story = story;
	if (!story->from_nothing) {
		assert_int_equal(told_create(t), 0);
		assert_int_equal(told_open(t), 0);
		assert_int_equal(told_store(t), 0);
	}
	if (story->prepare)
		story->prepare(t);
	told_close(t);
	t->store = t->root = 0;
	r->origin = origin_mark(t->origin);
	copy(r->work, r->kept);
	r->t = *t;
}

static void end(struct run *r)
{
	origin_free(r->first.origin);
	empty(r->first.top);
}

/* --- which calls --- */

struct choice {
	const char *story;     /* NULL: all */
	long from, to, rounds; /* rounds 0: all */
	long day;
};
static struct choice choice;

static void choose(void)
{
	const char *set = getenv("CACHET_TEST_FAULTS"), *day = getenv("CACHET_TEST_FAULTS_DAY");
	const char *rounds = getenv("CACHET_TEST_FAULTS_ROUNDS");
	static char story[64];

	choice = (struct choice){ .from = 1, .to = CALLS_MAX, .rounds = ROUNDS };
	choice.day = day ? atol(day) : time(NULL) / 86400;
	if (rounds)
		choice.rounds = MIN_OF(MAX_OF(atol(rounds), 1L), (long)ROUNDS_MAX);
	if (!set)
		return;
	choice.rounds = 0;
	if (!strcmp(set, "all"))
		return;
	choice.story = story;
	show = sscanf(set, "%63[^:]:%ld-%ld", story, &choice.from, &choice.to) == 2;
	if (show)
		choice.to = choice.from;
}

/* False when nothing failed. */
static bool run_one(struct run *r, long n, unsigned *with_fault)
{
	bool was = round_once(r, n);

	*with_fault += was;
	check_leaks(r, show);
	return was;
}

/* Those through which most has not been failed yet. */
static void run_chosen(struct run *r, unsigned *rounds, unsigned *with_fault)
{
	long chosen[ROUNDS_MAX];
	size_t n = places_choose(chosen, (size_t)choice.rounds, (size_t)choice.day);

	for (*rounds = 0; *rounds < n && r->failures < FAILURES_MAX; ++*rounds)
		run_one(r, chosen[*rounds], with_fault);
}

/* There may be a few more, next time: until three in a row find nothing to fail. */
static void run_all(struct run *r, unsigned *rounds, unsigned *with_fault)
{
	unsigned quiet = 0;

	for (long n = choice.from; n <= choice.to && quiet < 3 && r->failures < FAILURES_MAX; n++) {
		quiet = run_one(r, n, with_fault) ? 0 : quiet + 1;
		++*rounds;
	}
}

static bool run_kind(struct run *r)
{
	unsigned rounds = 0, with_fault = 0;
	long count;

	places_begin();
	atomic_store(&counting, choice.rounds != 0);
	round_once(r, CALLS_MAX);
	atomic_store(&counting, false);
	count = CALLS_MAX - atomic_load(&calls);
	if (choice.rounds)
		run_chosen(r, &rounds, &with_fault);
	else
		run_all(r, &rounds, &with_fault);
	check_leaks(r, true);
	print_message("  %-12s %-9s %6ld calls, %u rounds, %u with a fault\n", r->story->name,
		kind->name, count, rounds, with_fault);
	return !r->failures;
}

static const struct fault_kind *all_kinds;

/* All kinds, or when few rounds are wanted one, another each day. */
static bool run_story(const struct story *story, size_t number)
{
	size_t n = 0, only;
	struct run r;
	bool good = true;

	while (all_kinds[n].name)
		n++;
	only = ((size_t)choice.day + number) % n;
	kind = NULL;
	begin(&r, story);
	for (size_t i = 0; i < n; i++) {
		if (choice.rounds && i != only)
			continue;
		kind = &all_kinds[i];
		r.failures = 0;
		good = run_kind(&r) && good;
	}
	end(&r);
	return good;
}

static void test_stories(void **state)
{
	bool good = true;

	for (size_t i = 0; stories[i]; i++)
		if (!choice.story || !strcmp(choice.story, stories[i]->name))
			good = run_story(stories[i], i) && good;
	assert_true(good);
}

int faults_run(const char *name, const struct fault_kind *kinds)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_stories) };

	injector = name;
	all_kinds = kinds;
	choose();
	secret_allow_unlocked();
	print_message("day %ld\n", choice.day);
	return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}
