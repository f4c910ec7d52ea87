/* Pins, recorded working sets, and content that is brought here or dropped by request. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/array.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "cache/pin.h"
#include "cache/space.h"
#include "cache/tree.h"
#include "daemon/report.h"
#include "daemon/requests_priv.h"

#define WARM_LOT 256
#define WARM_SLICE_MS 1000
#define WARM_REQUEST_MS 60000
#define WILDCARDS "*?["

/* --- patterns from what a person typed --- */

struct patterns {
	char **texts;
	size_t n;
};

static void patterns_done(struct patterns *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->texts[i]);
	free(p->texts);
}

/* A name that is there is meant as it is, whatever characters it has. */
static int pattern_of(struct request *q, const char *path, bool must_match, char **out)
{
	struct tree_attr a;
	int r = tree_resolve(q->d->volume, path, &a);

	if (r == CE_ABSENT)
		return say(
			q, r, "the origin has not been listed yet; connect once, then ask again");
	if (r && r != -ENOENT && r != -ENOTDIR && r != -ENAMETOOLONG)
		return r;
	if (r && must_match && !strpbrk(path, WILDCARDS))
		return say(q, -ENOENT, "there is no such file in the volume");
	*out = r ? strdup(path) : walk_escape(path);
	return *out ? 0 : -ENOMEM;
}

static int read_patterns(struct request *q, bool must_match, struct patterns *out)
{
	const struct json *list;
	int r = 0;

	if (json_get_array(q->in, "paths", &list))
		return say(q, CE_USAGE, "'paths' is a list of texts");
	out->texts = calloc(json_count(list) + 1, sizeof(*out->texts));
	if (!out->texts)
		return -ENOMEM;
	for (const struct json *e = json_first(list); e && !r; e = json_next(e)) {
		if (!json_is_string(e))
			return say(q, CE_USAGE, "'paths' is a list of texts");
		r = pattern_of(q, json_string(e), must_match, &out->texts[out->n]);
		out->n += !r;
	}
	return r;
}

/* "" = the set of `cachet pin`. */
static int read_set(struct request *q, const char **out)
{
	*out = "";
	if (!json_has(q->in, "set"))
		return 0;
	if (json_get_string(q->in, "set", out) || strlen(*out) > PIN_SET_MAX)
		return say(q, CE_USAGE, "'set' is a name of at most 64 characters");
	return 0;
}

/* --- pins --- */

static void add_state(struct json *o, const struct pin_state *s)
{
	json_set_u64(o, "files", s->files);
	json_set_u64(o, "bytes", s->bytes);
	json_set_u64(o, "missing_files", s->missing_files);
	json_set_u64(o, "missing_bytes", s->missing_bytes);
}

static int too_large(struct request *q, uint64_t need)
{
	char text[160];

	snprintf(text, sizeof(text),
		"that would pin %" PRIu64 " bytes, and the bound of the volume leaves room for "
		"%" PRIu64 "; pin less, or unpin something",
		need, space_content_max(q->d->volume));
	return say(q, -ENOSPC, text);
}

/* The marks change at once, whatever the link; what is missing is fetched in the background. */
static int follow(struct request *q)
{
	struct pin_state state;
	bool any = true;
	int r = pin_apply(q->d->volume, &state, &any);

	if (q->d->sync)
		sync_pins_changed(q->d->sync);
	return r;
}

int requests_warm_pin(struct request *q)
{
	_cleanup_(patterns_done) struct patterns p = { 0 };
	struct pin_state state;
	uint64_t need = 0;
	int r = read_patterns(q, true, &p);

	if (!r)
		r = pin_add(q->d->volume, "", (const char *const *)p.texts, p.n, &need);
	if (r == -ENOSPC && need)
		return too_large(q, need);
	if (r == CE_TOO_LARGE)
		return say(q, r, "there are too many patterns; pin directories instead");
	if (!r)
		r = pin_look(q->d->volume, NULL, NULL, &state);
	if (r)
		return r;
	add_state(q->out, &state);
	return follow(q);
}

int requests_warm_unpin(struct request *q)
{
	_cleanup_(patterns_done) struct patterns p = { 0 };
	const char *set;
	int r = read_set(q, &set);

	if (!r && json_has(q->in, "paths"))
		r = read_patterns(q, false, &p);
	else if (!r)
		r = pin_remove(q->d->volume, set, NULL);
	for (size_t i = 0; i < p.n && !r; i++)
		r = pin_remove(q->d->volume, set, p.texts[i]);
	if (r == -ENOENT)
		return say(q, r, "that is not pinned; `cachet pin --list` shows what is");
	return r ? r : follow(q);
}

struct listing {
	struct request *q;
	struct json *pins, *sets;
	char last[PIN_SET_MAX + 1];
};

/* The patterns of a recorded set are many: it is told as one. A set's patterns stand together. */
static int list_one(void *arg, const char *set, const char *pattern)
{
	struct listing *l = arg;
	struct pin_state state;
	struct json *o;
	int r;

	if (*set && !strcmp(l->last, set))
		return 0;
	snprintf(l->last, sizeof(l->last), "%s", set);
	r = pin_look(l->q->d->volume, set, *set ? NULL : pattern, &state);
	if (r)
		return r;
	o = json_append_object(*set ? l->sets : l->pins);
	report_text(o, *set ? "set" : "pattern", *set ? set : pattern);
	add_state(o, &state);
	json_set_u64(o, "idle_patterns", state.idle);
	return 0;
}

int requests_warm_pins(struct request *q)
{
	struct listing l = { .q = q,
		.pins = json_set_array(q->out, "pins"),
		.sets = json_set_array(q->out, "sets") };
	struct pin_state state;
	int r = pin_look(q->d->volume, NULL, NULL, &state);

	if (!r)
		r = pin_each(q->d->volume, list_one, &l);
	if (r)
		return r;
	add_state(q->out, &state);
	json_set_u64(q->out, "most_bytes", space_content_max(q->d->volume));
	return 0;
}

/* --- free --- */

struct drop {
	struct volume *v;
	uint64_t files, bytes, pinned, kept;
};

static int drop_one(void *arg, const struct walk_file *f)
{
	struct drop *d = arg;
	int r = space_drop(d->v, f->object, &d->bytes);

	if (r == -EBUSY) {
		if (pin_is(d->v, f->object))
			d->pinned++;
		else
			d->kept++;
		return 0;
	}
	d->files += !r;
	return r == -ENOENT ? 0 : r;
}

int requests_warm_free(struct request *q)
{
	_cleanup_free_ char *pattern = NULL;
	struct drop d = { .v = q->d->volume };
	const char *path;
	int r;

	if (json_get_string(q->in, "path", &path))
		return say(q, CE_USAGE, "'path' is missing");
	r = pattern_of(q, path, true, &pattern);
	/* What was fetched a moment ago may go only when it is durable. */
	if (!r)
		r = volume_sync(d.v);
	if (!r)
		r = walk_pattern(d.v, pattern, drop_one, &d, NULL);
	if (!r && d.files)
		r = space_dropped(d.v);
	if (r)
		return r;
	json_set_u64(q->out, "files", d.files);
	json_set_u64(q->out, "bytes", d.bytes);
	json_set_u64(q->out, "pinned", d.pinned);
	json_set_u64(q->out, "kept", d.kept);
	return 0;
}

/* --- warm --- */

struct warm {
	struct sync_item *items;
	size_t n, cap;
	uint64_t skip, bytes;
};

static int gather(void *arg, const struct walk_file *f)
{
	struct warm *w = arg;

	if (f->whole || !f->map)
		return 0;
	if (w->skip) {
		w->skip--;
		return 0;
	}
	if (ARRAY_ROOM(w->items, w->n, w->cap))
		return -ENOMEM;
	w->items[w->n++] = (struct sync_item){ f->object, f->version, f->size, 0 };
	w->bytes += f->size;
	return 0;
}

static int warm_lots(struct request *q, struct warm *w, size_t *tried)
{
	int64_t end_ms = clock_boot_ms() + WARM_SLICE_MS;
	int r = 0;

	for (*tried = 0; *tried < w->n && !r && clock_boot_ms() < end_ms;) {
		size_t n = MIN_OF(w->n - *tried, (size_t)WARM_LOT);

		/* A large file is a lot of its own: it is asked now and then whether anybody waits.
		 */
		for (size_t i = 0; i < n; i++)
			if (w->items[*tried + i].size > SYNC_FETCH_UNIT_BYTES)
				n = MAX_OF(i, (size_t)1);
		if (q->caller->gone(q->caller->arg))
			return -EINTR;
		r = sync_warm(q->d->sync, w->items + *tried, n, WARM_REQUEST_MS, NULL);
		*tried += r ? 0 : n;
	}
	return r;
}

static int explain_warm(struct request *q, int r)
{
	if (r == CE_OFFLINE)
		return say(q, r,
			"the origin cannot be reached; what is here stays, and the same command "
			"goes on from there");
	if (r == -ENOSPC)
		return say(q, r,
			"the bound of the volume leaves no room: pinned and unsent files fill it");
	return r;
}

/* One slice; the caller asks again, with as many to skip as have failed, until nothing is left. */
int requests_warm_warm(struct request *q)
{
	_cleanup_free_ char *pattern = NULL;
	struct warm w = { 0 };
	uint64_t files = 0, bytes = 0, failed = 0;
	const char *path;
	size_t tried = 0;
	int r;

	if (json_get_string(q->in, "path", &path))
		return say(q, CE_USAGE, "'path' is missing");
	if (json_has(q->in, "skip") && json_get_u64(q->in, "skip", &w.skip))
		return say(q, CE_USAGE, "'skip' is a number");
	r = pattern_of(q, path, true, &pattern);
	if (!r)
		r = walk_pattern(q->d->volume, pattern, gather, &w, NULL);
	if (!r)
		r = explain_warm(q, warm_lots(q, &w, &tried));
	for (size_t i = 0; i < tried; i++) {
		if (w.items[i].code)
			failed++;
		else
			bytes += w.items[i].size;
		files += !w.items[i].code;
		w.bytes -= w.items[i].size;
	}
	json_set_u64(q->out, "files", files);
	json_set_u64(q->out, "bytes", bytes);
	json_set_u64(q->out, "failed", failed);
	json_set_u64(q->out, "left_files", w.n - tried);
	json_set_u64(q->out, "left_bytes", w.bytes);
	free(w.items);
	return r;
}

/* --- recorded working sets --- */

int requests_warm_record_begin(struct request *q)
{
	uint64_t pid;

	if (json_get_u64(q->in, "pid", &pid) || !pid || pid > INT32_MAX)
		return say(q, CE_USAGE, "'pid' is the number of a process");
	if (fs_record_begin(q->d->fs, (pid_t)pid))
		return say(q, -EBUSY, "another command is being recorded on this mount");
	return 0;
}

struct recorded {
	struct volume *v;
	struct patterns p;
	size_t cap;
};

/* What was made and removed again in between has no path. */
static int add_recorded(void *arg, uint64_t object)
{
	struct recorded *rec = arg;
	_cleanup_free_ char *path = NULL;
	int r = tree_path(rec->v, object, &path);

	if (r)
		return r == -ENOMEM ? r : 0;
	if (ARRAY_ROOM(rec->p.texts, rec->p.n, rec->cap))
		return -ENOMEM;
	rec->p.texts[rec->p.n] = walk_escape(path);
	return rec->p.texts[rec->p.n] ? (rec->p.n++, 0) : -ENOMEM;
}

static int save_recorded(struct request *q, struct recorded *rec, const char *set)
{
	uint64_t need = 0;
	struct pin_state state;
	int r = pin_replace(q->d->volume, set, (const char *const *)rec->p.texts, rec->p.n, &need);

	if (r == -ENOSPC && need)
		return too_large(q, need);
	if (r == CE_TOO_LARGE)
		return say(q, r, "the command opened too many files to keep their names");
	if (!r)
		r = pin_look(q->d->volume, set, NULL, &state);
	if (r)
		return r;
	add_state(q->out, &state);
	return follow(q);
}

int requests_warm_record_end(struct request *q)
{
	struct recorded rec = { .v = q->d->volume };
	const char *set;
	uint64_t pid;
	int r = read_set(q, &set);

	if (!r && json_get_u64(q->in, "pid", &pid))
		r = say(q, CE_USAGE, "'pid' is the number of a process");
	if (!r)
		r = fs_record_end(q->d->fs, (pid_t)pid, add_recorded, &rec);
	if (r == -ENOENT)
		r = say(q, r, "the recording was lost: the volume was mounted again meanwhile");
	if (!r && *set)
		r = save_recorded(q, &rec, set);
	patterns_done(&rec.p);
	return r;
}
