/*
 * One request of a watcher: what happened after a number, or as soon as something does. Changes are
 * put into words here, by what the tree says now: a name that is there with an object whose content
 * changed is "changed", another that is there "created", one that is not "removed". Changes of this
 * device are not told: inotify has them.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "cache/outbox.h"
#include "cache/tree.h"
#include "daemon/locking.h"
#include "daemon/report.h"
#include "daemon/requests_priv.h"
#include "daemon/watch.h"

#define TAKE_MAX 512
#define TICK_MS 100
#define CONFLICT_TICKS 10
#define WAIT_MAX_MS 30000

struct watching {
	struct request *q;
	const char *path; /* what lies at or below it; "" = all */
	struct json *events;
	struct watch_entry *all;
	size_t n;
	uint64_t after, conflict;
	const char *state;
};

static bool is_below(const char *path, const char *top)
{
	size_t len = strlen(top);

	return !len || (!strncmp(path, top, len) && (!path[len] || path[len] == '/'));
}

static struct json *add(struct watching *w, const char *event, int64_t time_ns)
{
	struct json *o = json_append_object(w->events);

	json_set_string(o, "event", event);
	json_set_i64(o, "time_ns", time_ns);
	return o;
}

static void add_path(struct watching *w, const char *event, const struct watch_entry *e,
	const char *path, const struct tree_attr *a)
{
	struct json *o;

	if (!is_below(path, w->path))
		return;
	o = add(w, event, e->time_ns);
	report_text(o, "path", path);
	if (!a)
		return;
	json_set_string(o, "type", report_type_name(a->mode));
	if (S_ISREG(a->mode))
		json_set_u64(o, "size", a->size);
}

/* Did something of the object's own change, and was that not told before entry `i`? */
static bool object_changed(const struct watching *w, uint64_t object, size_t before)
{
	for (size_t i = 0; i < before; i++)
		if (!w->all[i].entry && w->all[i].object == object)
			return true;
	return false;
}

static int tell_object(struct watching *w, size_t i)
{
	_cleanup_free_ char *path = NULL;
	struct tree_attr a;

	if (object_changed(w, w->all[i].object, i))
		return 0;
	if (tree_path(w->q->d->volume, w->all[i].object, &path) ||
		tree_resolve(w->q->d->volume, path, &a))
		return 0; /* gone again: its name tells */
	if (S_ISDIR(a.mode))
		return 0; /* by what was made or removed in it */
	add_path(w, "changed", &w->all[i], path, &a);
	return 0;
}

static int tell_name(struct watching *w, size_t i)
{
	_cleanup_free_ char *dir = NULL, *path = NULL;
	const struct watch_entry *e = &w->all[i];
	struct tree_attr a;
	int r;

	if (tree_path(w->q->d->volume, e->parent, &dir))
		return 0; /* the directory is gone, which is told, too */
	if (bytes_print(&path, "%s%s%s", dir, *dir ? "/" : "", e->name))
		return -ENOMEM;
	r = tree_lookup(w->q->d->volume, e->parent, e->name, &a);
	if (r)
		add_path(w, "removed", e, path, NULL);
	else if (!object_changed(w, a.object, w->n))
		add_path(w, "created", e, path, &a);
	return 0;
}

static int tell_changes(struct watching *w)
{
	int r = 0;

	for (size_t i = 0; i < w->n && !r; i++)
		r = w->all[i].entry ? tell_name(w, i) : tell_object(w, i);
	return r;
}

static void tell_link(struct watching *w)
{
	struct sync_status s;
	const char *state;
	struct json *o;

	sync_status(w->q->d->sync, &s);
	state = sync_state_name(s.state);
	if (!strcmp(state, w->state))
		return;
	w->state = state;
	o = add(w, "link", clock_wall_ns());
	json_set_string(o, "state", state);
}

static int tell_conflict(void *arg, const struct outbox_conflict *c)
{
	struct watching *w = arg;
	struct json *o;

	if (c->id <= w->conflict)
		return 0;
	w->conflict = c->id;
	o = add(w, "conflict", c->created_ns);
	json_set_u64(o, "id", c->id);
	json_set_string(o, "kind", c->kind);
	report_text(o, "path", c->path);
	report_text(o, "origin_path", c->other_path);
	return 0;
}

static int last_conflict(void *arg, const struct outbox_conflict *c)
{
	uint64_t *last = arg;

	*last = MAX_OF(*last, c->id);
	return 0;
}

static bool must_end(const struct watching *w)
{
	return w->q->caller->gone(w->q->caller->arg) ||
	       (w->q->d->locking && locking_is_wanted(w->q->d->locking));
}

static int look_once(struct watching *w, unsigned wait_ms, bool conflicts)
{
	int r = watch_take(w->q->d->watch, &w->after, wait_ms, w->all, TAKE_MAX, &w->n);

	if (r == -EOVERFLOW) {
		add(w, "overflow", clock_wall_ns());
		r = 0;
	}
	if (!r)
		r = tell_changes(w);
	tell_link(w);
	if (!r && (conflicts || w->n))
		r = outbox_conflicts(w->q->d->volume, true, tell_conflict, w);
	return r;
}

static int look(struct watching *w, uint64_t wait_ms)
{
	int64_t end_ms = clock_boot_ms() + (int64_t)MIN_OF(wait_ms, (uint64_t)WAIT_MAX_MS);
	int r = 0;

	for (unsigned tick = 0; !r && !json_count(w->events) && !must_end(w); tick++) {
		r = look_once(w, wait_ms ? TICK_MS : 0, tick % CONFLICT_TICKS == 0);
		if (clock_boot_ms() >= end_ms)
			break;
	}
	return r;
}

/* Without "after" the caller gets the numbers to begin with. */
int requests_watch(struct request *q)
{
	struct watching w = { .q = q, .path = "", .state = "" };
	uint64_t wait_ms = 0;
	int r = 0;

	if ((json_has(q->in, "path") && json_get_string(q->in, "path", &w.path)) ||
		(json_has(q->in, "state") && json_get_string(q->in, "state", &w.state)) ||
		(json_has(q->in, "wait_ms") && json_get_u64(q->in, "wait_ms", &wait_ms)) ||
		(json_has(q->in, "conflict") && json_get_u64(q->in, "conflict", &w.conflict)))
		return say(q, CE_USAGE,
			"'path' and 'state' are texts, 'wait_ms' and 'conflict' numbers");
	w.events = json_set_array(q->out, "events");
	w.all = calloc(TAKE_MAX, sizeof(*w.all));
	if (!w.all)
		return -ENOMEM;
	if (!json_has(q->in, "after")) {
		w.after = watch_now(q->d->watch);
		r = outbox_conflicts(q->d->volume, true, last_conflict, &w.conflict);
		tell_link(&w);
	} else if (json_get_u64(q->in, "after", &w.after)) {
		r = say(q, CE_USAGE, "'after' is a number");
	} else {
		r = look(&w, wait_ms);
	}
	free(w.all);
	json_set_u64(q->out, "after", w.after);
	json_set_u64(q->out, "conflict", w.conflict);
	json_set_string(q->out, "state", w.state);
	return r;
}
