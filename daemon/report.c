#include "daemon/report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "cache/about.h"
#include "cache/file.h"
#include "cache/outbox.h"
#include "cache/remote.h"
#include "cache/space.h"
#include "cache/tree.h"
#include "cache/verify.h"
#include "daemon/daemon_priv.h"
#include "daemon/rekeying.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

void report_text(struct json *o, const char *key, const char *text)
{
	size_t len = text ? strlen(text) : 0;
	struct buffer b = { 0 };
	int r = 0;

	if (!text || bytes_is_utf8((const uint8_t *)text, len)) {
		json_set_string(o, key, text);
		return;
	}
	for (size_t i = 0, n; !r && i < len; i += n) {
		for (n = MIN_OF(len - i, 4u); n && !bytes_is_utf8((const uint8_t *)text + i, n);
			n--) {
		}
		r = n ? buffer_append(&b, text + i, n)
		      : buffer_append(&b, REPLACEMENT, strlen(REPLACEMENT));
		n = MAX_OF(n, 1u);
	}
	json_set_string(o, key, r ? REPLACEMENT : b.data);
	buffer_done(&b);
}

static void add_link(struct sync *sync, struct json *o, bool *feed_holds)
{
	struct sync_status s;

	if (!sync) {
		json_set_string(o, "state", "not-mounted");
		return;
	}
	sync_status(sync, &s);
	json_set_string(o, "state", sync_state_name(s.state));
	json_set_i64(o, "last_contact_ns", s.last_contact_ns);
	report_text(o, "last_error", s.last_error ? s.last_error_text : NULL);
	json_set_bool(o, "feed_live", s.feed_live);
	*feed_holds = s.deletes_held;
	json_set_bool(o, "restored_server", s.restored_server);
	json_set_bool(o, "rolled_back_volume", s.rolled_back_volume);
	json_set_u64(o, "fetched_bytes", s.fetched_bytes);
	json_set_u64(o, "sent_bytes", s.sent_bytes);
	json_set_u64(o, "requests", s.requests);
	json_set_i64(o, "paused_ms",
		s.paused_until_ms ? MAX_OF((int64_t)s.paused_until_ms - clock_boot_ms(), 0) : 0);
	json_set_bool(o, "origin_full", s.origin_full);
	json_set_u64(o, "upload_rate", s.upload_rate);
	json_set_u64(o, "download_rate", s.download_rate);
}

static int add_pending(struct volume *v, struct json *o, bool feed_holds)
{
	struct outbox_counts n;
	int r = outbox_counts(v, &n);

	if (r)
		return r;
	json_set_u64(o, "pending", n.queued + n.inflight + n.refused + n.held);
	json_set_u64(o, "pending_bytes", n.bytes);
	json_set_u64(o, "queued", n.queued);
	json_set_u64(o, "inflight", n.inflight);
	json_set_u64(o, "refused", n.refused);
	json_set_u64(o, "held", n.held);
	json_set_bool(o, "deletes_held", feed_holds || n.braked);
	json_set_i64(o, "oldest_ns", n.oldest_ns);
	return 0;
}

static int count_conflict(void *arg, const struct outbox_conflict *c)
{
	uint64_t *n = arg;

	(*n)++;
	return 0;
}

static int add_store(void *arg, const struct remote_store *s)
{
	struct json *o = json_append_object(arg);

	report_text(o, "name", s->name);
	json_set_string(o, "mode", s->local ? "local" : s->read_only ? "ro" : "rw");
	json_set_bool(o, "listed", s->listed);
	return 0;
}

static int add_cache(struct volume *v, struct json *o)
{
	struct volume_status s;
	struct space_info space;
	uint64_t objects = 0;
	int r = volume_status(v, &s);

	if (!r)
		r = volume_objects(v, &objects);
	if (r)
		return r;
	space_info(v, &space);
	json_set_u64(o, "used_bytes", space.used);
	json_set_u64(o, "limit_bytes", space.limit);
	json_set_u64(o, "unfreeable_bytes", space.unsent);
	json_set_u64(o, "objects", objects);
	json_set_u64(o, "damaged_chunks", s.damaged);
	json_set_bool(o, "wal_damaged", s.wal_damaged);
	json_set_u64(o, "rolled_back_files", s.rolled_back);
	json_set_bool(o, "unclean_start", s.unclean);
	json_set_bool(o, "index_lost", s.index_lost);
	json_set_u64(o, "restored", s.restored);
	json_set_u64(o, "restored_damaged", s.restored_damaged);
	json_set_bool(o, "log_damaged", s.log_damaged);
	json_set_string(o, "aside", s.aside[0] ? s.aside : NULL);
	json_set_u64(o, "aside_bytes", s.aside_bytes);
	return 0;
}

static void add_mount(struct daemon_state *d, struct json *out)
{
	json_set_string(out, "name", d->config->name);
	json_set_string(out, "origin", d->config->origin);
	json_set_bool(out, "memory_only", d->config->volume_dir);
	json_set_string(out, "store", d->config->store);
	json_set_bool(out, "mounted", d->fs != NULL);
	report_text(out, "mountpoint", d->mountpoint);
	if (!d->fs)
		return;
	json_set_u64(out, "pid", (uint64_t)getpid());
	json_set_bool(out, "read_only", d->read_only);
	json_set_i64(out, "since_ns", d->started_ns);
}

/* Files whose unsent content does not open: refused for that reason, or seen by a restore. */
static int add_damaged(void *arg, const struct outbox_op *op, const char *path)
{
	if (op->state == OUTBOX_REFUSED && !strcmp(op->error, VERIFY_DAMAGED_TEXT)) {
		struct json *o = json_append_object(arg);

		report_text(o, "path", path);
	}
	return 0;
}

int report_status(struct daemon_state *d, struct json *out)
{
	uint64_t conflicts = 0;
	bool feed_holds = false;
	int r;

	add_mount(d, out);
	add_link(d->sync, out, &feed_holds);
	r = add_pending(d->volume, out, feed_holds);
	if (!r)
		r = outbox_conflicts(d->volume, true, count_conflict, &conflicts);
	if (r)
		return r;
	json_set_u64(out, "conflicts", conflicts);
	r = outbox_each(d->volume, add_damaged, json_set_array(out, "damaged_files"));
	if (r)
		return r;
	r = remote_stores(d->volume, add_store, json_set_array(out, "stores"));
	rekeying_report(d->volume, out);
	return r ? r : add_cache(d->volume, out);
}

const char *report_kind_name(int kind)
{
	static const char *const names[] = {
		[OUTBOX_PUT] = "put",
		[OUTBOX_ATTR] = "attributes",
		[OUTBOX_MOVE] = "move",
		[OUTBOX_SWAP] = "exchange",
		[OUTBOX_DELETE] = "delete",
	};

	return kind >= 0 && (size_t)kind < ARRAY_SIZE(names) && names[kind] ? names[kind]
									    : "unknown";
}

static const char *state_name(enum outbox_state state)
{
	static const char *const names[] = {
		[OUTBOX_QUEUED] = "queued",
		[OUTBOX_INFLIGHT] = "inflight",
		[OUTBOX_REFUSED] = "refused",
		[OUTBOX_HELD] = "held",
	};

	return (size_t)state < ARRAY_SIZE(names) ? names[state] : "unknown";
}

static int add_operation(void *arg, const struct outbox_op *op, const char *path)
{
	struct json *o = json_append_object(arg);

	json_set_u64(o, "seq", op->seq);
	json_set_string(o, "kind", report_kind_name((int)op->kind));
	json_set_string(o, "state", state_name(op->state));
	report_text(o, "store", op->store_name);
	report_text(o, "path", path);
	report_text(o, "name", op->name);
	json_set_u64(o, "size", op->size);
	json_set_i64(o, "created_ns", op->created_ns);
	json_set_u64(o, "attempts", op->attempts);
	json_set_i64(o, "next_try_ms", op->next_try_ms);
	json_set_i64(o, "status", MAX_OF(op->status, 0));
	if (op->state == OUTBOX_HELD)
		json_set_string(o, "held_by", op->status == OUTBOX_BRAKED ? "brake" : "person");
	report_text(o, "error", op->error[0] ? op->error : NULL);
	return 0;
}

int report_journal(struct daemon_state *d, struct json *out)
{
	return outbox_each(d->volume, add_operation, json_set_array(out, "operations"));
}

/* What could go, or is tried again at some time, goes nowhere without one. */
static bool waits_for_link(const struct daemon_state *d, enum outbox_wait wait)
{
	struct sync_status s = { .state = SYNC_OFFLINE };

	if (d->sync)
		sync_status(d->sync, &s);
	return s.state != SYNC_ONLINE && s.state != SYNC_DEGRADED &&
	       (wait == OUTBOX_WAIT_NONE || wait == OUTBOX_WAIT_ANSWER ||
		       wait == OUTBOX_WAIT_RETRY);
}

int report_explain(struct daemon_state *d, uint64_t seq, struct json *out)
{
	static const char *const why[] = {
		[OUTBOX_WAIT_NONE] = "next",
		[OUTBOX_WAIT_ANSWER] = "answer",
		[OUTBOX_WAIT_RETRY] = "retry",
		[OUTBOX_WAIT_BEHIND] = "behind",
		[OUTBOX_WAIT_DIRECTORY] = "directory",
		[OUTBOX_WAIT_REFUSED] = "refused",
		[OUTBOX_WAIT_PERSON] = "held",
		[OUTBOX_WAIT_BRAKE] = "brake",
	};
	struct outbox_reason reason;
	struct json *o;
	int r = outbox_explain(d->volume, seq, clock_wall_ns() / NS_PER_MS, &reason);

	if (r)
		return r;
	o = json_set_object(out, "waits");
	json_set_string(o, "why", waits_for_link(d, reason.wait) ? "link" : why[reason.wait]);
	if (reason.behind)
		json_set_u64(o, "behind", reason.behind);
	if (reason.until_ms)
		json_set_i64(o, "until_ms", reason.until_ms);
	return 0;
}

static int add_conflict(void *arg, const struct outbox_conflict *c)
{
	struct json *o = json_append_object(arg);

	json_set_u64(o, "id", c->id);
	json_set_string(o, "kind", c->kind);
	report_text(o, "local_path", c->path);
	report_text(o, "origin_path", c->other_path);
	json_set_i64(o, "created_ns", c->created_ns);
	json_set_bool(o, "has_base", c->has_base);
	json_set_bool(o, "resolved", c->resolved_ns != 0);
	if (c->resolved_ns) {
		json_set_i64(o, "resolved_ns", c->resolved_ns);
		json_set_string(o, "outcome", c->outcome);
	}
	return 0;
}

int report_conflicts(struct daemon_state *d, bool open_only, struct json *out)
{
	return outbox_conflicts(
		d->volume, open_only, add_conflict, json_set_array(out, "conflicts"));
}

int report_verify(struct daemon_state *d, const struct verify_report *v, const struct verify_at *at,
	bool done, struct json *out)
{
	struct volume_status s;
	int r = volume_status(d->volume, &s);

	if (r)
		return r;
	json_set_u64(out, "map", at->map);
	json_set_u64(out, "chunk", at->chunk);
	json_set_bool(out, "done", done);
	json_set_u64(out, "files", v->files);
	json_set_u64(out, "chunks", v->chunks);
	json_set_u64(out, "bytes", v->bytes);
	json_set_u64(out, "healed", v->healed);
	json_set_u64(out, "damaged", v->damaged);
	json_set_u64(out, "total_bytes", s.used_bytes);
	return 0;
}

static int add_event(void *arg, uint64_t id, int64_t time_ns, const char *kind, const char *detail)
{
	struct json *o = json_append_object(arg);

	json_set_u64(o, "id", id);
	json_set_i64(o, "time_ns", time_ns);
	report_text(o, "kind", kind);
	report_text(o, "detail", detail);
	return 0;
}

int report_events(struct daemon_state *d, bool verify, struct json *out)
{
	uint64_t bad_id = 0;
	int r = volume_event_each(d->volume, 0, add_event, json_set_array(out, "events"));

	if (r || !verify)
		return r;
	r = volume_event_verify(d->volume, &bad_id);
	json_set_u64(out, "bad_id", bad_id);
	return r == CE_TAMPER ? 0 : r;
}

const char *report_type_name(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	default:
		return "device";
	}
}

/* How many bytes of a file would have to be fetched to have it whole. */
static int missing_bytes(struct volume *v, const struct tree_attr *a, uint64_t *out)
{
	struct file_range range = { .len = 1 };
	uint64_t sum = 0, at = 0;
	struct file *f;
	int r = file_open(v, a->object, a->version, false, &f);

	if (r)
		return r;
	while (!r && at < a->size && range.len) {
		r = file_missing(f, at, UINT64_MAX - at, UINT64_MAX, &range);
		if (r || !range.len)
			break;
		sum += range.len;
		at = range.off + range.len;
	}
	file_unref(f, false);
	if (!r)
		*out = sum;
	return r;
}

/* As of when, which version, kept or not. */
static int add_about(struct daemon_state *d, uint64_t object, uint64_t *pending, struct json *out)
{
	struct sync_freshness fresh = { .age_ms = UINT64_MAX };
	struct about a;
	int r = about_object(d->volume, object, &a);

	if (r)
		return r;
	if (d->sync)
		sync_freshness(d->sync, a.store, &fresh);
	json_set_string(out, "etag", a.etag[0] ? a.etag : NULL);
	json_set_bool(out, "pinned", a.pinned);
	json_set_u64(out, "pending", a.pending);
	json_set_bool(out, "feed_live", fresh.live);
	json_set_i64(out, "validated_ns",
		fresh.age_ms > UINT64_MAX / NS_PER_SEC
			? a.validated_ns
			: clock_wall_ns() - (int64_t)fresh.age_ms * NS_PER_MS);
	json_set_u64(out, "max_stale_ms", fresh.max_stale_ms);
	json_set_bool(out, "strict", fresh.strict);
	*pending = a.pending;
	return 0;
}

static int add_content(struct daemon_state *d, const struct tree_attr *a, struct json *out)
{
	uint64_t missing = 0;
	int r;

	if (!S_ISREG(a->mode))
		return 0;
	r = missing_bytes(d->volume, a, &missing);
	if (r)
		return r;
	json_set_u64(out, "missing_bytes", missing);
	json_set_string(out, "state", !missing ? "full" : missing >= a->size ? "none" : "partial");
	return 0;
}

/* "current", "changed" (the feed brings it), "gone", or "unknown": the origin does not have it. */
static int add_check(struct daemon_state *d, uint64_t object, unsigned check_ms, struct json *out)
{
	struct remote_known known;
	int r = d->sync ? remote_known(d->volume, object, &known) : CE_OFFLINE;

	if (!r)
		r = sync_check(d->sync, known.store, known.rid, known.etag, check_ms, NULL);
	if (r && r != -ENODATA && r != CE_STALE && r != CE_GONE)
		return r;
	json_set_string(out, "origin",
		!r              ? "current"
		: r == CE_STALE ? "changed"
		: r == CE_GONE  ? "gone"
				: "unknown");
	return 0;
}

int report_stat(struct daemon_state *d, const char *path, unsigned check_ms, struct json *out)
{
	_cleanup_free_ char *canonical = NULL;
	uint64_t pending;
	struct remote_known known;
	struct tree_attr a;
	int r = tree_resolve(d->volume, path, &a);

	if (!r)
		r = tree_path(d->volume, a.object, &canonical);
	if (!r)
		r = add_content(d, &a, out);
	if (r)
		return r;
	r = add_about(d, a.object, &pending, out);
	if (r)
		return r;
	report_text(out, "path", canonical);
	json_set_string(out, "type", report_type_name(a.mode));
	json_set_u64(out, "object", a.object);
	json_set_u64(out, "version", a.version);
	json_set_u64(out, "mode", a.mode & 07777);
	json_set_u64(out, "links", a.nlink);
	json_set_u64(out, "size", a.size);
	json_set_i64(out, "mtime_ns", a.mtime_ns);
	r = remote_known(d->volume, a.object, &known);
	if (!r) {
		json_set_string(out, "store", known.store);
		json_set_string(out, "record", known.rid);
	}
	json_set_bool(out, "at_origin", !pending && !r);
	return check_ms ? add_check(d, a.object, check_ms, out) : 0;
}
