/* Stories of what is told to the origin, and what it says. */
#include "stories.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/macros.h"
#include "cache/merge.h"
#include "cache/outbox.h"
#include "cache/remote.h"
#include "cache/space.h"
#include "cache/walk.h"

static const struct tree_cred cred = { 1000, 1000 };

/* --- sending --- */

static void prepare_sending(struct told *t)
{
	assert_int_equal(told_put(t, 0, 5000, true), 0);
	assert_int_equal(told_put(t, 1, 70000, true), 0);
	assert_int_equal(told_send(t), 0);
	assert_int_equal(told_put(t, 0, 300, true), 0);
}

static int tell_sending(struct told *t)
{
	struct tree_attr a;
	int r = tree_mkdir(t->v, t->root, "canary-dir", 0755, &cred, &a);

	if (r && r != -EEXIST)
		TRY(r);
	TRY(told_put(t, 2, 80000, false));
	TRY(told_send(t));
	TRY(told_put(t, 1, 9000, false));
	TRY(told_move(t, 2, 3));
	TRY(told_gone(t, 0));
	TRY(told_send(t));
	return 0;
}

const struct story story_sending = {
	.name = "sending", .prepare = prepare_sending, .tell = tell_sending
};

/* --- fetching, evicting --- */

static void prepare_fetching(struct told *t)
{
	assert_int_equal(told_origin(t, 5, 150000), 0);
	assert_int_equal(told_origin(t, 6, 300), 0);
	assert_int_equal(told_put(t, 0, 5000, true), 0);
}

static int fetch(struct told *t, unsigned file)
{
	uint8_t bytes[ORACLE_PAGE], sum[32];
	struct file *f;
	size_t got;
	int r;

	TRY(told_file(t, file, &f));
	r = origin_fill(t->origin, f);
	if (!r)
		r = file_read(f, bytes, sizeof(bytes), 0, &got);
	if (!r)
		r = file_sha256(f, sum);
	file_unref(f, true);
	return r;
}

static int no_file(void *arg, const struct walk_file *f)
{
	return 0;
}

static int tell_fetching(struct told *t)
{
	struct tree_attr a;
	uint64_t freed;

	TRY(fetch(t, 5));
	TRY(fetch(t, 6));
	TRY(volume_sync(t->v));
	TRY(space_evict(t->v, UINT64_C(1) << 40, &freed));
	TRY(fetch(t, 5));
	TRY(told_origin(t, 5, 70000));
	TRY(fetch(t, 5));
	TRY(told_find(t, t->files[6].name, &a));
	TRY(walk_siblings(t->v, a.object, WALK_BY_AGE, no_file, NULL));
	TRY(walk_siblings(t->v, a.object, WALK_BY_NAME, no_file, NULL));
	TRY(volume_sync(t->v));
	return 0;
}

const struct story story_fetching = {
	.name = "fetching", .prepare = prepare_fetching, .tell = tell_fetching
};

/* --- the feed --- */

static struct remote_record record(struct told *t, int kind, const char *id, const char *parent)
{
	struct remote_record r = { .kind = kind, .mode = 0755, .seq = ++t->tag };

	snprintf(r.id, sizeof(r.id), "%s", id);
	snprintf(r.parent, sizeof(r.parent), "%s", parent);
	snprintf(r.name, sizeof(r.name), "canary-%s", id);
	snprintf(r.etag, sizeof(r.etag), "\"%u\"", t->tag);
	return r;
}

static int apply(struct told *t, const struct remote_record *r, size_t n)
{
	struct remote_report report;
	char cursor[16];

	snprintf(cursor, sizeof(cursor), "%u", t->tag);
	return remote_apply(t->v, t->store, r, n, cursor, true, &report);
}

static int tell_pages(struct told *t)
{
	struct remote_record page[4] = { record(t, REMOTE_FILE, "f", "d"),
		record(t, REMOTE_DIR, "d", "root"), record(t, REMOTE_SYMLINK, "s", "d"),
		record(t, REMOTE_DIR, "e", "root") };
	struct remote_report report;

	page[2].target = "canary-to";
	page[2].size = 9;
	TRY(apply(t, page, 1)); /* waits for its parent */
	TRY(apply(t, page + 1, 3));
	TRY(remote_retry_deferred(t->v, &report));
	page[0] = record(t, REMOTE_FILE, "f", "e"); /* moves */
	page[0].size = 10;
	TRY(apply(t, page, 1));
	page[0] = record(t, REMOTE_SYMLINK, "s", "d");
	page[0].deleted = true;
	TRY(apply(t, page, 1));
	/* Where a file of ours stands that was never sent. */
	TRY(told_make(t, 0));
	return 0;
}

static int tell_feed(struct told *t)
{
	struct remote_record one;
	struct remote_report report;
	char *path = NULL, etag[65];

	TRY(tell_pages(t));
	TRY(remote_listing_begin(t->v, t->store));
	one = record(t, REMOTE_DIR, "e", "root");
	TRY(apply(t, &one, 1));
	one = record(t, REMOTE_FILE, "g", "e");
	TRY(apply(t, &one, 1));
	TRY(remote_listing_end(t->v, t->store, true, &report));
	TRY(remote_validated(t->v, t->store));
	TRY(remote_find(t->v, "records", "g", &path, etag));
	free(path);
	return 0;
}

static bool feed_holds(struct told *t)
{
	struct tree_attr a;

	return !tree_resolve(t->v, "records/canary-e/canary-g", &a) &&
	       tree_resolve(t->v, "records/canary-e/canary-f", &a) == -ENOENT &&
	       tree_resolve(t->v, "records/canary-d", &a) == -ENOENT;
}

const struct story story_feed = { .name = "feed", .tell = tell_feed, .holds = feed_holds };

/* --- answers --- */

/* The first operation that may go now, begun; its `seq` (0: there is none) and record. */
static int begin_one(struct told *t, uint64_t *seq, char rid[static 65])
{
	struct outbox_op ops[8];
	uint64_t wait;
	size_t n = 0;
	int r = outbox_next(
		t->v, clock_wall_ns() / NS_PER_MS + 1000000, 0, ops, ARRAY_SIZE(ops), &n, &wait);

	*seq = 0;
	if (!r && n)
		r = outbox_begin(t->v, ops, 1);
	if (!r && n) {
		*seq = ops[0].seq;
		memcpy(rid, ops[0].rid, 65);
	}
	for (size_t i = 0; i < n; i++)
		outbox_op_done(&ops[i]);
	return r;
}

static int look_op(void *arg, const struct outbox_op *op, const char *path)
{
	*(uint64_t *)arg = op->seq;
	return 0;
}

/* Lost, refused, tried again, held, given up. */
static int tell_answers(struct told *t)
{
	struct outbox_reason why;
	uint64_t seq = 0;
	char rid[65];

	TRY(told_put(t, 0, 3000, false));
	TRY(begin_one(t, &seq, rid));
	if (seq) {
		TRY(outbox_retry(t->v, seq, 0, 500, "canary-lost"));
		TRY(begin_one(t, &seq, rid));
	}
	if (seq)
		TRY(outbox_refuse(t->v, seq, 422, "canary-refused"));
	TRY(outbox_each(t->v, look_op, &seq));
	if (seq) {
		TRY(outbox_explain(t->v, seq, 0, &why));
		if (why.wait == OUTBOX_WAIT_REFUSED)
			TRY(outbox_requeue(t->v, seq));
		if (why.wait != OUTBOX_WAIT_PERSON)
			TRY(outbox_hold(t->v, seq));
		TRY(outbox_drop(t->v, seq));
	}
	TRY(told_put(t, 1, 100, false));
	return told_send(t);
}

const struct story story_answers = { .name = "answers", .tell = tell_answers };

/* --- conflicts --- */

static void prepare_conflicts(struct told *t)
{
	assert_int_equal(told_put(t, 4, 5000, true), 0);
	assert_int_equal(told_send(t), 0);
}

static int open_conflict(void *arg, const struct outbox_conflict *c)
{
	*(uint64_t *)arg = c->id;
	return 0;
}

static int settle(struct told *t, uint64_t seq, const char *rid)
{
	const struct remote_record *theirs = told_publish(t, 4, 9000, rid);
	bool conflict;

	TRY(outbox_settle(t->v, seq, theirs, NULL, &conflict));
	told_end(t, 4);
	return 0;
}

static int merge(struct told *t, const struct state *ours)
{
	struct merge *m;
	uint64_t id = 0;
	int r;

	TRY(outbox_conflicts(t->v, true, open_conflict, &id));
	if (!id)
		return 0;
	TRY(merge_open(t->v, id, &m));
	told_begin(t, 4, ours);
	r = merge_take(m, MERGE_PICK_OURS, NULL, 0);
	merge_free(m);
	TRY(r);
	told_end(t, 4);
	return 0;
}

static int tell_conflicts(struct told *t)
{
	struct state ours;
	uint64_t seq;
	char rid[65];

	TRY(told_put(t, 4, 7000, false));
	ours = t->files[4].may[0];
	TRY(begin_one(t, &seq, rid));
	if (!seq)
		return 0;
	TRY(settle(t, seq, rid));
	TRY(merge(t, &ours));
	return told_send(t);
}

const struct story story_conflicts = {
	.name = "conflicts", .prepare = prepare_conflicts, .tell = tell_conflicts
};
