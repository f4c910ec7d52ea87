/*
 * Conflicts that a rule settles (cache/merge_rule.h): one after another on a worker of their own,
 * because the origin's version may have to be fetched and a command of the user's may take its
 * time.
 *
 *   conflict noted ──▶ read base, ours, theirs ──▶ certain ──▶ merge_take: one file again
 *                        │ offline, in use: later     │ not certain: merge_leave, both files stay,
 * a person decides
 *
 * What was left once is not tried again before the next start. Nothing is lost at any point: until
 * merge_take's transaction there are two files.
 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/json_merge.h"
#include "base/secret.h"
#include "cache/merge.h"
#include "sync/merge_command.h"
#include "sync/sync_priv.h"

#define AGAIN_MS 2000

struct merge_run {
	struct worker_job job;
	struct sync *s;
	uint64_t noted; /* before it began */
	uint64_t gen;   /* all else was through then, as asked for; 0: it was not */
	bool later;     /* some could not be looked at yet */
	bool took;      /* the journal has something new */
};

static void text_done(struct json_text *t)
{
	if (t->text)
		secret_wipe((char *)t->text, t->len);
	free((char *)t->text);
}

static int read_side(struct sync *s, struct file *f, struct json_text *out)
{
	const uint64_t size = file_size(f);
	size_t got = 0;
	char *buf;
	int r;

	if (size > MERGE_MAX_BYTES)
		return CE_TOO_LARGE;
	r = sync_fetch(s, f, 0, size, SYNC_FETCH_DEADLINE_MS, NULL);
	if (r)
		return r;
	buf = calloc(1, size + 1);
	if (!buf)
		return -ENOMEM;
	*out = (struct json_text){ buf, size };
	r = file_read(f, buf, size, 0, &got);
	return r ? r : got == size ? 0 : -EBUSY;
}

static int merge_texts(struct sync *s, const struct merge *m, const struct json_text sides[3],
	char **out, size_t *len)
{
	const struct merge_rule *rule = merge_rule_of(m);

	if (rule->policy == MERGE_FIELDS)
		return json_merge(&sides[0], &sides[1], &sides[2], out, len);
	return merge_command_run(rule, merge_name_of(m), sides, &s->stop, out, len);
}

static int merge_files(struct sync *s, struct merge *m)
{
	struct file *files[3] = { merge_base_of(m), merge_ours_of(m), merge_theirs_of(m) };
	struct json_text sides[3] = { 0 };
	_cleanup_free_ char *out = NULL;
	size_t len = 0;
	int r = files[0] ? 0 : CE_CONFLICT;

	for (size_t i = 0; !r && i < ARRAY_SIZE(sides); i++)
		r = read_side(s, files[i], &sides[i]);
	if (!r)
		r = merge_texts(s, m, sides, &out, &len);
	if (!r)
		r = merge_take(m, MERGE_PICK_MERGED, out, len);
	for (size_t i = 0; i < ARRAY_SIZE(sides); i++)
		text_done(&sides[i]);
	if (out)
		secret_wipe(out, len);
	return r;
}

static int carry_out(struct sync *s, struct merge *m)
{
	int r;

	switch (merge_rule_of(m)->policy) {
	case MERGE_OURS:
		r = sync_fetch(s, merge_ours_of(m), 0, UINT64_MAX, SYNC_FETCH_DEADLINE_MS, NULL);
		return r ? r : merge_take(m, MERGE_PICK_OURS, NULL, 0);
	case MERGE_THEIRS:
		return merge_take(m, MERGE_PICK_THEIRS, NULL, 0);
	default:
		return merge_files(s, m);
	}
}

static bool may_pass(int r)
{
	return r == -EBUSY || r == -EAGAIN || r == CE_OFFLINE || r == CE_ABSENT || r == CE_STALE ||
	       r == CE_AUTH || r == -ENOSPC || r == -ENOMEM;
}

static bool was_left(const struct sync *s, uint64_t id)
{
	for (size_t i = 0; i < s->merge.n_left; i++)
		if (s->merge.left[i] == id)
			return true;
	return false;
}

static void leave(struct sync *s, struct merge *m, uint64_t id)
{
	uint64_t *more = reallocarray(s->merge.left, s->merge.n_left + 1, sizeof(*more));

	if (!more)
		return;
	s->merge.left = more;
	s->merge.left[s->merge.n_left++] = id;
	(void)!merge_leave(m); /* the copy is sent all the same, only later */
}

static void try_one(struct merge_run *run, uint64_t id)
{
	_cleanup_(merge_freep) struct merge *m = NULL;
	struct sync *s = run->s;
	int r = merge_open(s->volume, id, &m);

	if (r == -ENOENT || (!r && (!merge_rule_of(m) || !merge_ours_of(m))))
		return; /* a person was faster */
	if (!r)
		r = carry_out(s, m);
	if (r && m && !may_pass(r))
		leave(s, m, id);
	run->later |= r && may_pass(r);
	run->took |= !r || !may_pass(r);
}

static void work(struct worker_job *j)
{
	struct merge_run *run = (struct merge_run *)j;
	struct sync *s = run->s;
	uint64_t id = 0;

	while (!atomic_load(&s->stop) && !merge_next(s->volume, id, &id))
		if (!was_left(s, id))
			try_one(run, id);
}

static void done(struct worker_job *j, bool dropped)
{
	struct merge_run *run = (struct merge_run *)j;
	struct sync *s = run->s;

	s->merge.running = false;
	s->merge.later = run->later;
	s->merge.due_ms = run->later ? sync_now_ms() + AGAIN_MS : SYNC_NEVER;
	pthread_mutex_lock(&s->lock);
	s->merge.ran = true;
	s->merge.seen = run->noted;
	pthread_mutex_unlock(&s->lock);
	if (run->took)
		sync_moved_on(s);
	else
		sync_calm(s, &s->merge.calm_gen, run->gen);
	free(run);
}

uint64_t merge_step(struct sync *s, uint64_t now_ms)
{
	const uint64_t noted = merge_noted(s->volume), gen = sync_through_gen(s);
	const bool fresh = !s->merge.ran || noted != s->merge.seen;
	struct merge_run *run;

	if (s->merge.running)
		return SYNC_NEVER;
	if (!fresh && !s->merge.later)
		sync_calm(s, &s->merge.calm_gen, gen);
	if (!fresh && s->merge.due_ms > now_ms && s->merge.calm_gen >= gen)
		return s->merge.due_ms;
	run = calloc(1, sizeof(*run));
	if (!run)
		return now_ms + AGAIN_MS;
	*run = (struct merge_run){
		.job = { .work = work, .done = done }, .s = s, .noted = noted, .gen = gen
	};
	s->merge.running = true;
	worker_run(s->merge.worker, &run->job);
	return SYNC_NEVER;
}

/* What waits for a writer is tried when all else is through, and then waited for no longer. */
bool merge_is_quiet(const struct sync *s)
{
	return s->merge.ran && !s->merge.running;
}

void merge_free_all(struct sync *s)
{
	free(s->merge.left);
}
