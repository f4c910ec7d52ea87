/*
 * Crash campaigns against the volume library, without mount and network:
 *
 *     volume_crash kills  --rounds N --seed S     a writer is killed N times
 *     volume_crash states --rounds N --seed S     N disks as power cuts may leave them
 *     volume_crash lost   --rounds N --seed S     as kills, and now and then the index is lost
 *     volume_crash stories --seed S               short stories of what was lost once, cut after
 * each sync
 *     volume_crash tales  --rounds N --seed S     N disks out of such stories, made of words that
 * are drawn
 *
 * A volume lives until SIGKILL, at a chosen call to the disk (also in the middle of a write) or
 * after a random time; the next life must find all that was answered. It is made in the first, so
 * making it is interrupted, too. For power cuts the log of some lives, each killed, is one story,
 * and nothing that was not synced is forgotten by the kill alone: a cut after a restart meets what
 * the life before had written (a double crash). Disks are made at moments of the whole story, more
 * of them just after a restart.
 *
 * A cut that was wrong can be looked at again while its log is kept (--keep):
 *
 *     volume_crash again DIRECTORY ENTRY PERCENT RANDOM
 *
 * Everything is below a directory in memory, removed at the end unless something failed and --keep.
 * The last line tells the sums; exit status 0 only if nothing was wrong.
 */
#include <dirent.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "disk.h"
#include "life.h"
#include "record.h"

#define LIVES_OF_A_VOLUME 12
#define LIVES_OF_A_STORY 3
#define STATES_OF_A_STORY 60
#define WORDS_OF_A_LIFE 16
#define STEPS_MAX 100000

struct campaign {
	char base[64], top[80], log[80], cut[80];
	uint64_t seed, random;
	struct origin *origin;
	const char *late; /* record_delay() */
	unsigned long kills, states, answered, lost, bad;
};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	return remove(path);
}

static void clear(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void fresh(struct campaign *c)
{
	clear(c->top);
	unlink(c->log);
	if (mkdir(c->top, 0700))
		abort();
	origin_reset(c->origin);
}

static uint64_t inode_of(const char *path)
{
	struct stat st;

	if (lstat(path, &st))
		abort();
	return st.st_ino;
}

/* --- lives --- */

/* Early calls more often: they are making, opening, recovery. */
enum death { DEATH_AT_CALL, DEATH_AFTER_TIME, DEATH_AT_END };

static pid_t begin_life(struct campaign *c, struct life *l, enum death death)
{
	const unsigned long few = 150, many = l->words ? 500 : 3000;
	unsigned long call =
		1 + disk_random(&c->random) % (disk_random(&c->random) % 3 ? many : few);
	pid_t pid = fork();

	if (pid)
		return pid;
	record_begin(c->log, c->top);
	record_delay(c->late);
	if (death == DEATH_AT_CALL)
		record_kill_at(call);
	life_lead(l);
}

/* True if nothing was wrong in it. */
static bool one_life(struct campaign *c, struct life *l, enum death death)
{
	pid_t pid = begin_life(c, l, death);
	int status;

	if (death == DEATH_AFTER_TIME) {
		usleep((useconds_t)(disk_random(&c->random) % 60000));
		kill(pid, SIGKILL);
	}
	if (waitpid(pid, &status, 0) != pid)
		abort();
	c->kills += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	return WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0;
}

static void take_notes(struct disk *d, struct oracle *o)
{
	const uint8_t *bytes;
	struct note n;
	size_t len;

	while (disk_next(d, &bytes, &len))
		if (bytes && len == sizeof(n)) {
			memcpy(&n, bytes, sizeof(n));
			oracle_take(o, &n);
		}
	disk_cut(d);
}

/* With it go extended attributes: an origin never sees them (docs/format-unsent.md). */
static void lose_index(struct campaign *c, struct oracle *o)
{
	struct note n = { .kind = NOTE_FOUND, .n = 1, .states = { { .absent = true } } };
	static const char *const parts[] = { "index.db", "index.db-wal", "index.redo" };
	char path[128];

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		snprintf(path, sizeof(path), "%s/volume/%s", c->top, parts[i]);
		unlink(path);
	}
	for (n.subject = SUBJECT_XATTR; n.subject < SUBJECT_MODE; n.subject++)
		oracle_take(o, &n);
	c->lost++;
}

/* One volume, killed again and again. */
static void one_volume(struct campaign *c, unsigned lives, bool lossy)
{
	struct oracle o;
	struct disk *d;
	bool good = true, drawn = disk_random(&c->random) % 2;

	fresh(c);
	d = disk_new(c->log, 0);
	oracle_init(&o);
	for (unsigned i = 0; i < lives && good; i++) {
		struct life l = { .top = c->top,
			.oracle = &o,
			.origin = c->origin,
			.seed = disk_random(&c->random),
			.steps = STEPS_MAX,
			.words = drawn ? 1 + (unsigned)(disk_random(&c->random) % WORDS_OF_A_LIFE)
				       : 0,
			.note = true,
			.online = !lossy };

		good = one_life(c, &l,
			!drawn && disk_random(&c->random) % 3 == 0 ? DEATH_AFTER_TIME
								   : DEATH_AT_CALL);
		take_notes(d, &o);
		if (lossy && o.made && disk_random(&c->random) % 3 == 0)
			lose_index(c, &o);
	}
	c->answered += o.answered_steps;
	c->bad += !good;
	oracle_done(&o);
	disk_free(d);
}

/* --- power cuts --- */

static bool check_cut(struct campaign *c, const struct oracle *o, bool power)
{
	struct life l = { .top = c->cut, .oracle = o, .origin = c->origin, .power = power };
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(life_check(&l) != 0);
	if (waitpid(pid, &status, 0) != pid)
		abort();
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void one_state(
	struct campaign *c, struct disk *d, const struct oracle *o, size_t at, unsigned percent)
{
	uint64_t random = c->random;
	bool good;

	disk_crash(d, c->cut, percent, &c->random);
	good = check_cut(c, o, true);
	if (good && disk_random(&c->random) % 4 == 0)
		good = check_cut(c, o, true); /* what recovery left is whole, too */
	if (!good)
		fprintf(stderr, "volume_crash again %s %zu %u %llu\n", c->base, at, percent,
			(unsigned long long)random);
	c->states++;
	c->bad += !good;
	if (good)
		clear(c->cut);
}

static int by_size(const void *a, const void *b)
{
	size_t x = *(const size_t *)a, y = *(const size_t *)b;

	return (x > y) - (x < y);
}

static void again(struct campaign *c, size_t at, unsigned percent)
{
	struct disk *d = disk_new(c->log, inode_of(c->top));
	const uint8_t *bytes;
	struct oracle o;
	struct note note;
	size_t len;

	oracle_init(&o);
	while (at-- && disk_next(d, &bytes, &len))
		if (bytes) {
			memcpy(&note, bytes, sizeof(note));
			oracle_take(&o, &note);
		}
	clear(c->cut);
	disk_crash(d, c->cut, percent, &c->random);
	c->states++;
	c->bad = !check_cut(c, &o, true);
	oracle_done(&o);
	disk_free(d);
}

/* Entries of the log at which the lives ended; they are random, of scripts, or of words. */
static size_t live(struct campaign *c, size_t ends[static LIVES_OF_A_STORY],
	const char *const *scripts, unsigned words)
{
	struct disk *d = disk_new(c->log, inode_of(c->top));
	const uint8_t *bytes;
	struct oracle o;
	size_t n = 0, len;

	oracle_init(&o);
	for (unsigned i = 0; i < LIVES_OF_A_STORY && (!scripts || scripts[i]); i++) {
		struct life l = { .top = c->top,
			.script = scripts ? scripts[i] : NULL,
			.words = words ? 1 + (unsigned)(disk_random(&c->random) % words) : 0,
			.oracle = &o,
			.origin = c->origin,
			.seed = disk_random(&c->random),
			.steps = STEPS_MAX,
			.note = true,
			.online = c->seed % 2 };

		c->bad += !one_life(c, &l, scripts || words ? DEATH_AT_END : DEATH_AT_CALL);
		while (disk_next(d, &bytes, &len)) {
			struct note note;

			n++;
			if (!bytes)
				continue;
			memcpy(&note, bytes, sizeof(note));
			oracle_take(&o, &note);
		}
		ends[i] = n;
	}
	c->answered += o.answered_steps;
	oracle_done(&o);
	disk_free(d);
	return n;
}

static void one_story(struct campaign *c, unsigned states)
{
	static const unsigned percents[] = { 0, 0, 30, 60, 90, 100 };
	size_t ends[LIVES_OF_A_STORY], cuts[STATES_OF_A_STORY], n, at = 0, len;
	uint64_t root;
	struct oracle o;
	struct disk *d;

	fresh(c);
	root = inode_of(c->top);
	n = live(c, ends, NULL, 0);
	for (unsigned i = 0; i < states; i++) {
		size_t from = i % 3 ? 0 : ends[i / 3 % (LIVES_OF_A_STORY - 1)];

		cuts[i] = from + disk_random(&c->random) % (i % 3 ? n + 1 : 60);
	}
	qsort(cuts, states, sizeof(*cuts), by_size);
	d = disk_new(c->log, root);
	oracle_init(&o);
	for (unsigned i = 0; i < states && !c->bad; i++) {
		const uint8_t *bytes;
		struct note note;

		for (; at < cuts[i] && disk_next(d, &bytes, &len); at++)
			if (bytes) {
				memcpy(&note, bytes, sizeof(note));
				oracle_take(&o, &note);
			}
		one_state(c, d, &o, at, percents[disk_random(&c->random) % 6]);
	}
	oracle_done(&o);
	disk_free(d);
}

/* --- stories --- */

/* Each lost something once, or nearly: lives, as life.h has their words. Of each the last is cut,
 * the others end by a kill. */
static const char *const stories[][LIVES_OF_A_STORY] = {
	/* the kill leaves a pack whose name was not synced; the next life syncs what it puts there
	 */
	{ "put 1 9000 remove 1", "puts 2 700 puts 1 4096" },
	/* recovery finds chunks whole in the page cache and forgets what they replaced */
	{ "puts 0 9000 put 0 150000", "sync put 1 700" },
	/* fetched and changed, all within a sync */
	{ "puts 0 5 sync", "origin 16 70000 over 16 3 overs 0 1" },
	{ "puts 0 5 sync", "origin 16 163840 over 16 1 sync over 16 2 put 1 700 overs 0 1" },
	/* renamed over another, then changed in place */
	{ "puts 0 70000 puts 1 9000 sync", "put 2 70000 move 2 0 over 0 2 overs 1 1 over 0 1" },
	{ "puts 0 4096 sync", "save 0 9000 over 0 1 sync save 0 700 over 0 1" },
	/* clean, and the same chunk changed in two generations */
	{ "puts 0 70000 puts 1 70000 put 2 5 put 3 5 sync",
		"over 0 2 move 2 3 over 0 1 send overs 1 1 over 0 1 send" },
	/* being sent, written over meanwhile, or removed */
	{ "puts 0 5 sync", "put 1 9000 begin puts 1 150000 put 1 70000 begin" },
	{ "puts 0 5 put 1 70000 sync", "put 1 9000 begin remove 1 puts 0 700" },
	/* being sent, another renamed over it: the operation is of an object that its snapshot is
	   not */
	{ "puts 0 5 sync", "put 1 9000 begin save 1 700 puts 0 700" },
	/* from a pack to a blob of its own and back */
	{ "puts 0 9000 sync", "put 0 150000 puts 1 5 put 0 700 overs 1 1 put 0 70000" },
};

/* After each sync of the last life: what is there at least, and some of what may be. */
static void cut_everywhere(struct campaign *c, size_t from)
{
	static const unsigned percents[] = { 0, 50 };
	struct disk *d = disk_new(c->log, inode_of(c->top));
	const uint8_t *bytes;
	struct oracle o;
	size_t len;

	oracle_init(&o);
	for (size_t at = 0; !c->bad && disk_next(d, &bytes, &len); at++) {
		if (bytes) {
			struct note note;

			memcpy(&note, bytes, sizeof(note));
			oracle_take(&o, &note);
		}
		if (at < from || !disk_has_synced(d))
			continue;
		for (size_t i = 0; !c->bad && i < sizeof(percents) / sizeof(*percents); i++)
			one_state(c, d, &o, at + 1, percents[i]);
	}
	oracle_done(&o);
	disk_free(d);
}

static void play_stories(struct campaign *c)
{
	static const char *const late[] = { "blobs/", "index.redo" };

	c->random = c->seed;
	for (size_t k = 0; !c->bad && k < 2 * sizeof(stories) / sizeof(*stories); k++) {
		const char *const *story = stories[k / 2];
		size_t ends[LIVES_OF_A_STORY];
		size_t last = 0;

		c->late = late[k % 2];

		fresh(c);
		live(c, ends, story, 0);
		while (last + 1 < LIVES_OF_A_STORY && story[last + 1])
			last++;
		cut_everywhere(c, last ? ends[last - 1] : 0);
		if (c->bad)
			fprintf(stderr, "story with late %s: %s\n", c->late, story[last]);
	}
}

/* --- tales --- */

static void one_tale(struct campaign *c)
{
	static const char *const late[] = { NULL, "blobs/", "index.redo" };
	size_t ends[LIVES_OF_A_STORY];

	c->late = late[disk_random(&c->random) % 3];
	fresh(c);
	live(c, ends, NULL, WORDS_OF_A_LIFE);
	cut_everywhere(c, ends[0]);
}

/* --- */

static void run(struct campaign *c, const char *what, unsigned long rounds)
{
	const bool tales = !strcmp(what, "tales"), states = !strcmp(what, "states");
	const unsigned long most = tales ? 1 : states ? STATES_OF_A_STORY : LIVES_OF_A_VOLUME;
	const unsigned long *done = tales || states ? &c->states : &c->kills;

	while (!c->bad && *done < rounds) {
		unsigned n = (unsigned)(rounds - *done < most ? rounds - *done : most);

		c->seed++;
		c->random = c->seed;
		if (tales)
			one_tale(c);
		else if (states)
			one_story(c, n);
		else
			one_volume(c, n, !strcmp(what, "lost"));
		if (c->bad)
			fprintf(stderr, "again: volume_crash %s --rounds %lu --seed %llu\n", what,
				most, (unsigned long long)c->seed);
	}
}

static void paths(struct campaign *c)
{
	char origin[80];

	snprintf(c->top, sizeof(c->top), "%s/t", c->base);
	snprintf(c->log, sizeof(c->log), "%s/log", c->base);
	snprintf(c->cut, sizeof(c->cut), "%s/cut", c->base);
	snprintf(origin, sizeof(origin), "%s/origin", c->base);
	c->origin = origin_new(origin);
}

static int report(struct campaign *c)
{
	origin_free(c->origin);
	printf("kills=%lu states=%lu lost=%lu answered=%lu violations=%lu\n", c->kills, c->states,
		c->lost, c->answered, c->bad);
	return c->bad != 0;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: volume_crash kills|states|lost|stories|tales [--rounds N] [--seed S] [--keep]\n"
		"       volume_crash again DIRECTORY ENTRY PERCENT RANDOM\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct campaign c = { .seed = 0 };
	unsigned long rounds = 100;
	bool keep = false;

	if (argc == 6 && !strcmp(argv[1], "again")) {
		snprintf(c.base, sizeof(c.base), "%s", argv[2]);
		paths(&c);
		c.random = strtoull(argv[5], NULL, 10);
		again(&c, strtoul(argv[3], NULL, 10), (unsigned)strtoul(argv[4], NULL, 10));
		return report(&c);
	}
	for (int i = 2; i < argc; i++) {
		if (!strcmp(argv[i], "--rounds") && i + 1 < argc)
			rounds = strtoul(argv[++i], NULL, 10);
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			c.seed = strtoull(argv[++i], NULL, 10) - 1;
		else if (!strcmp(argv[i], "--keep"))
			keep = true;
		else
			return usage();
	}
	if (argc < 2 || (strcmp(argv[1], "kills") && strcmp(argv[1], "states") &&
				strcmp(argv[1], "lost") && strcmp(argv[1], "stories") &&
				strcmp(argv[1], "tales")))
		return usage();
	snprintf(c.base, sizeof(c.base), "%s/cachet-crash-XXXXXX",
		access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	if (!mkdtemp(c.base))
		abort();
	paths(&c);
	if (!strcmp(argv[1], "stories"))
		play_stories(&c);
	else
		run(&c, argv[1], rounds);
	if (!keep || !c.bad)
		clear(c.base);
	return report(&c);
}
