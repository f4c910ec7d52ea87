/* Stories of pins, jobs, queries, settings, events and verification. */
#include "stories.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/json.h"
#include "base/macros.h"
#include "cache/about.h"
#include "cache/jobs.h"
#include "cache/pin.h"
#include "cache/queries.h"
#include "cache/remote.h"
#include "cache/verify.h"
#include "meta/object.h"

/* --- pins --- */

static void prepare_pins(struct told *t)
{
	assert_int_equal(told_origin(t, 5, 9000), 0);
	assert_int_equal(told_put(t, 0, 300, true), 0);
}

static int no_file(void *arg, const struct walk_file *f)
{
	return 0;
}

static int no_pin(void *arg, const char *set, const char *pattern)
{
	return 0;
}

static int tell_pins(struct told *t)
{
	static const char *const some[] = { "records/canary-*", "**/*.json" }, *const one[] = {
		"records"
	};
	struct pin_state s;
	uint64_t need, matched;
	bool any = true;
	int r;

	TRY(pin_add(t->v, "canary-set", some, 2, &need));
	TRY(pin_apply(t->v, &s, &any));
	TRY(pin_missing(t->v, no_file, NULL));
	TRY(pin_replace(t->v, "canary-set", one, 1, &need));
	TRY(pin_apply(t->v, &s, &any));
	TRY(pin_look(t->v, "canary-set", NULL, &s));
	TRY(pin_each(t->v, no_pin, NULL));
	TRY(walk_pattern(t->v, "records/**", no_file, NULL, &matched));
	TRY(told_put(t, 1, 300, false));
	r = pin_remove(t->v, "canary-set", NULL);
	TRY(r == -ENOENT ? 0 : r);
	return pin_apply(t->v, &s, &any);
}

const struct story story_pins = { .name = "pins", .prepare = prepare_pins, .tell = tell_pins };

/* --- jobs, settings, events --- */

static int no_event(void *arg, uint64_t id, int64_t time_ns, const char *kind, const char *detail)
{
	return 0;
}

static int settle_jobs(struct told *t)
{
	struct jobs_waiting w;
	int r;

	while (!(r = jobs_next(t->v, &w))) {
		free(w.data);
		TRY(jobs_settle(t->v, w.key, "canary-job", NULL));
	}
	return r == -ENOENT ? 0 : r;
}

static int tell_jobs(struct told *t)
{
	char key[JOBS_KEY_SIZE], text[VOLUME_SETTING_MAX], *origin = NULL;
	_cleanup_secret_ struct secret *token = NULL;
	struct json *list = NULL;
	uint64_t bad;

	TRY(jobs_add(t->v, "report", "canary-payload", 14, key));
	TRY(jobs_list(t->v, &list));
	json_free(list);
	TRY(settle_jobs(t));
	TRY(volume_setting_set(t->v, "sync.canary", "canary-value"));
	TRY(volume_setting_get(t->v, "sync.canary", text, sizeof(text)));
	TRY(volume_event(t->v, "export", "{}"));
	TRY(volume_event_each(t->v, 0, no_event, NULL));
	TRY(volume_event_verify(t->v, &bad));
	TRY(volume_origin(t->v, &origin));
	free(origin);
	TRY(secret_new_copy("canary-token", 12, &token));
	return volume_set_token(t->v, token);
}

const struct story story_jobs = { .name = "jobs", .tell = tell_jobs };

/* --- queries --- */

static int tell_queries(struct told *t)
{
	static const char *const names[] = { "canary-q", "canary-r" };
	struct tree_attr dir, a;
	struct queries_one q;
	struct about about;

	TRY(queries_set(t->v, "records", names, 2));
	TRY(tree_resolve(t->v, "records/queries/canary-q", &dir));
	TRY(queries_find(t->v, dir.object, "a=1.json", &q));
	TRY(queries_put(t->v, &q, "\"1\"", "canary-answer", 13));
	TRY(tree_resolve(t->v, "records/queries/canary-q/a=1.json", &a));
	TRY(queries_of(t->v, a.object, &q));
	TRY(about_object(t->v, a.object, &about));
	TRY(queries_put(t->v, &q, "\"2\"", "canary-other", 12));
	TRY(queries_gone(t->v, &q));
	return queries_set(t->v, "records", names, 1);
}

const struct story story_queries = { .name = "queries", .tell = tell_queries };

/* --- damage found --- */

static int flip_large(const char *path, const struct stat *st, int type, struct FTW *at)
{
	int fd = type == FTW_F && st->st_size > 100000 ? open(path, O_RDWR | O_CLOEXEC) : -1;
	uint8_t b;

	if (fd < 0)
		return 0;
	assert_int_equal(pread(fd, &b, 1, 70000), 1);
	b ^= 1;
	assert_int_equal(pwrite(fd, &b, 1, 70000), 1);
	close(fd);
	return 0;
}

/* A chunk of what the origin has is changed on the disk; what is unsent is whole. */
static void prepare_damage(struct told *t)
{
	char blobs[128];
	struct file *f;

	assert_int_equal(told_put(t, 0, 5000, true), 0);
	assert_int_equal(told_origin(t, 5, 150000), 0);
	assert_int_equal(told_file(t, 5, &f), 0);
	assert_int_equal(origin_fill(t->origin, f), 0);
	file_unref(f, true);
	told_close(t);
	snprintf(blobs, sizeof(blobs), "%s/blobs", t->dir);
	nftw(blobs, flip_large, 16, FTW_PHYS);
}

static struct verify_report report;

static int tell_damage(struct told *t)
{
	struct verify_at at = { 0 };
	bool done = false;
	struct file *f;
	int r;

	memset(&report, 0, sizeof(report));
	while (!done)
		TRY(verify_slice(t->v, 0, &at, 1 << 20, &done, &report));
	TRY(verify_index(t->v));
	TRY(told_file(t, 5, &f));
	r = origin_fill(t->origin, f);
	file_unref(f, true);
	return r;
}

static bool damage_holds(struct told *t)
{
	return !report.damaged;
}

const struct story story_damage = { .name = "damage",
	.prepare = prepare_damage,
	.tell = tell_damage,
	.holds = damage_holds,
	.damaged = true };
