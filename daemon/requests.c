#include "daemon/requests.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/secret.h"
#include "cache/jobs.h"
#include "cache/outbox.h"
#include "cache/tree.h"
#include "cache/verify.h"
#include "daemon/daemon_priv.h"
#include "daemon/locking.h"
#include "daemon/opening.h"
#include "daemon/report.h"
#include "daemon/requests_priv.h"
#include "daemon/resolving.h"

#define CHECK_MS 20000
#define VERIFY_SLICE_BYTES (UINT64_C(32) << 20)

static int do_ping(struct request *q)
{
	json_set_string(q->out, "version", CACHET_VERSION);
	json_set_u64(q->out, "pid", (uint64_t)getpid());
	report_text(q->out, "mountpoint", q->d->mountpoint);
	return 0;
}

static int do_status(struct request *q)
{
	return report_status(q->d, q->out);
}

static int do_journal(struct request *q)
{
	return report_journal(q->d, q->out);
}

static int do_conflicts(struct request *q)
{
	bool all = false;

	if (json_has(q->in, "all") && json_get_bool(q->in, "all", &all))
		return say(q, CE_USAGE, "'all' is true or false");
	return report_conflicts(q->d, !all, q->out);
}

static int do_events(struct request *q)
{
	bool verify = false;

	if (json_has(q->in, "verify") && json_get_bool(q->in, "verify", &verify))
		return say(q, CE_USAGE, "'verify' is true or false");
	return report_events(q->d, verify, q->out);
}

/* One slice of a verification: the caller asks again with what "map" and "chunk" say until "done".
 */
static int do_verify(struct request *q)
{
	struct verify_report report = { 0 };
	struct tree_attr a = { 0 };
	const char *path = NULL;
	struct verify_at at = { 0 };
	bool done;
	int r = 0;

	if (json_has(q->in, "path") && json_get_string(q->in, "path", &path))
		return say(q, CE_USAGE, "'path' is a text");
	if ((json_has(q->in, "map") && json_get_u64(q->in, "map", &at.map)) ||
		(json_has(q->in, "chunk") && json_get_u64(q->in, "chunk", &at.chunk)))
		return say(q, CE_USAGE, "'map' and 'chunk' are numbers");
	if (path && *path)
		r = tree_resolve(q->d->volume, path, &a);
	if (r == -ENOENT)
		return say(q, r, "there is no such file in the volume");
	if (!r && path && *path && !S_ISREG(a.mode))
		return say(q, CE_USAGE, "only a file, or the whole volume, can be verified");
	if (!r && !at.map && verify_index(q->d->volume))
		return say(q, CE_TAMPER,
			"the index is damaged: unmount, remove index.db of the volume, mount "
			"again; "
			"it is made anew and unsent work is put back");
	if (!r)
		r = verify_slice(q->d->volume, a.object, &at, VERIFY_SLICE_BYTES, &done, &report);
	return r ? r : report_verify(q->d, &report, &at, done, q->out);
}

static int do_stat(struct request *q)
{
	const char *path;
	bool check = false;
	int r;

	if (json_get_string(q->in, "path", &path))
		return say(q, CE_USAGE, "'path' is missing");
	if (json_has(q->in, "check") && json_get_bool(q->in, "check", &check))
		return say(q, CE_USAGE, "'check' is true or false");
	r = report_stat(q->d, path, check ? CHECK_MS : 0, q->out);
	if (check && r == CE_OFFLINE)
		return say(q, r,
			"the origin cannot be asked now; without --check what is known here is "
			"shown");
	if (r == -ENOENT)
		return say(q, r, "there is no such file in the volume");
	if (r == CE_ABSENT)
		return say(
			q, r, "the origin has not been listed yet; connect once, then ask again");
	return r;
}

struct wanted {
	uint64_t seq;
	bool found, stopped;
};

static int look_at(void *arg, const struct outbox_op *op, const char *path)
{
	struct wanted *w = arg;

	if (op->seq != w->seq)
		return 0;
	w->found = true;
	w->stopped = op->state == OUTBOX_REFUSED || op->state == OUTBOX_HELD;
	return 1;
}

/* `stopped`: only what does not go on by itself: work that will be sent is not given up by a slip
 * of the finger. */
static int change_operation(
	struct request *q, bool stopped, int (*change)(struct volume *v, uint64_t seq))
{
	struct wanted w = { 0 };
	int r;

	if (json_get_u64(q->in, "seq", &w.seq))
		return say(q, CE_USAGE, "'seq' is missing: the number of an operation");
	r = outbox_each(q->d->volume, look_at, &w);
	if (r < 0)
		return r;
	if (w.found && stopped && !w.stopped)
		return say(q, -EINVAL,
			"that operation is queued or on its way; only refused and held ones can be "
			"changed");
	r = w.found ? change(q->d->volume, w.seq) : -ENOENT;
	if (r == -ENOENT)
		return say(q, r, "no operation has that number; it may have been sent already");
	if (!r && q->d->sync)
		sync_poke(q->d->sync);
	return r;
}

static int do_explain(struct request *q)
{
	uint64_t seq;
	int r;

	if (json_get_u64(q->in, "seq", &seq))
		return say(q, CE_USAGE, "'seq' is missing: the number of an operation");
	r = report_explain(q->d, seq, q->out);
	return r == -ENOENT
		       ? say(q, r, "no operation has that number; it may have been sent already")
		       : r;
}

static int do_find(struct request *q)
{
	const char *store, *record;
	int r;

	if (json_get_string(q->in, "store", &store) || json_get_string(q->in, "record", &record))
		return say(q, CE_USAGE, "'store' and 'record' are texts");
	r = report_find(q->d, store, record, q->out);
	return r == -ENOENT ? 0 : r;
}

static int do_retry(struct request *q)
{
	return change_operation(q, true, outbox_requeue);
}

static int do_hold(struct request *q)
{
	int r = change_operation(q, false, outbox_hold);

	if (r == -EBUSY)
		return say(q, r, "that operation is on its way already");
	return r == -EINVAL ? say(q, r, "that operation waits for a person already") : r;
}

static int do_drop(struct request *q)
{
	return change_operation(q, true, outbox_drop);
}

static int do_resolve(struct request *q)
{
	const char *sentence = NULL;
	int r = resolving_run(q->d, q->in, &sentence);

	return sentence ? say(q, r, sentence) : r;
}

/* One that was sent meanwhile is no failure: it is not in the journal any more. */
static int do_operation(struct request *q)
{
	_cleanup_json_ struct json *found = json_new_object();
	uint64_t seq;
	int r;

	if (json_get_u64(q->in, "seq", &seq))
		return say(q, CE_USAGE, "'seq' is missing: the number of an operation");
	r = report_operation(q->d, seq, found);
	if (r == CE_TOO_LARGE)
		return say(q, r, "a changed file is larger than an envelope holds");
	if (r)
		return r == -ENOENT ? 0 : r;
	json_set_bool(found, "ok", true);
	json_free(q->out);
	q->out = steal_ptr(&found);
	return 0;
}

static int note_transfer(struct request *q, const char *kind)
{
	uint64_t files, bytes;
	char detail[96];
	int r;

	if (json_get_u64(q->in, "files", &files) || json_get_u64(q->in, "bytes", &bytes))
		return say(q, CE_USAGE, "'files' and 'bytes' are numbers");
	snprintf(detail, sizeof(detail), "{\"files\":%" PRIu64 ",\"bytes\":%" PRIu64 "}", files,
		bytes);
	r = volume_event(q->d->volume, kind, detail);
	return r ? r : volume_sync(q->d->volume);
}

static int do_exported(struct request *q)
{
	return note_transfer(q, "export");
}

static int do_imported(struct request *q)
{
	return note_transfer(q, "import");
}

/* Goes with the volume, unless the wipe does not get as far as its keys. */
static int do_wiping(struct request *q)
{
	struct outbox_counts n;
	int r = outbox_counts(q->d->volume, &n);
	uint64_t pending = r ? 0 : n.queued + n.inflight + n.refused + n.held;

	json_set_u64(q->out, "pending", pending);
	if (!r && !pending)
		r = volume_event(q->d->volume, "wipe", "{\"result\":\"begun\"}");
	return r ? r : volume_sync(q->d->volume);
}

/* What is known without the index. */
static int do_locked_status(struct request *q)
{
	json_set_string(q->out, "name", q->d->config->name);
	json_set_string(q->out, "origin", q->d->config->origin);
	json_set_string(q->out, "store", q->d->config->store);
	json_set_bool(q->out, "mounted", true);
	report_text(q->out, "mountpoint", q->d->mountpoint);
	json_set_u64(q->out, "pid", (uint64_t)getpid());
	json_set_string(q->out, "state", "locked");
	json_set_string(q->out, "last_error", locking_reason(q->d->locking));
	json_set_bool(q->out, "locked", true);
	return 0;
}

static int do_umount(struct request *q)
{
	struct locking *l = q->d->locking;
	int r = 0;

	if (!locking_enter(l)) {
		fs_stop(q->d->fs);
		return do_locked_status(q);
	}
	daemon_send_last(q->d);
	r = report_status(q->d, q->out);
	locking_leave(l);
	if (!r)
		fs_stop(q->d->fs);
	return r;
}

static int do_job_run(struct request *q)
{
	char key[JOBS_KEY_SIZE];
	const char *type, *text;
	uint8_t *data;
	size_t len;
	int r;

	if (json_get_string(q->in, "type", &type) || json_get_string(q->in, "payload", &text))
		return say(q, CE_USAGE, "a job has a type and a payload");
	data = malloc(JOBS_PAYLOAD_MAX + 1);
	if (!data)
		return -ENOMEM;
	r = bytes_from_base64(text, data, JOBS_PAYLOAD_MAX, &len);
	if (!r)
		r = jobs_add(q->d->volume, type, data, len, key);
	secret_wipe(data, JOBS_PAYLOAD_MAX);
	free(data);
	/* Handed in is handed in: also when the power fails. */
	if (!r)
		r = volume_sync(q->d->volume);
	if (r == -ENOSPC)
		return say(q, r, "too much waits already: at most 16 MiB of payloads");
	if (r)
		return r;
	if (q->d->sync)
		sync_jobs_changed(q->d->sync);
	json_set_string(q->out, "job", key);
	return 0;
}

static int do_jobs(struct request *q)
{
	_cleanup_json_ struct json *list = NULL;
	int r = jobs_list(q->d->volume, &list);

	if (!r)
		json_set_copy(q->out, "jobs", list);
	return r;
}

/* By the name it was given here. */
static int find_job(
	struct request *q, const struct json *list, const char *name, const char **job_id)
{
	const char *key, *why;
	char sentence[256];

	for (const struct json *e = json_first(list); e; e = json_next(e)) {
		if (json_get_string(e, "job", &key) || strcmp(key, name) != 0)
			continue;
		if (!json_get_string(e, "job_id", job_id))
			return 0;
		if (!json_get_string(e, "error", &why)) {
			snprintf(sentence, sizeof(sentence), "the origin refused the job: %s", why);
			return say(q, CE_REFUSED, sentence);
		}
		return requests_sync_explain(q, say(q, -EAGAIN, "the job waits to be sent"));
	}
	return say(q, -ENOENT, "there is no such job");
}

static int do_job_result(struct request *q)
{
	_cleanup_json_ struct json *list = NULL;
	_cleanup_free_ void *data = NULL;
	const char *name, *job_id;
	size_t len;
	int r = jobs_list(q->d->volume, &list);

	if (!r && json_get_string(q->in, "job", &name))
		r = CE_USAGE;
	if (!r)
		r = find_job(q, list, name, &job_id);
	if (r)
		return r;
	r = sync_job_result(q->d->sync, job_id, SYNC_FETCH_DEADLINE_MS, &data, &len);
	if (r == -EAGAIN)
		return say(q, r, "the job has no result yet");
	if (r == CE_GONE)
		return say(q, r, "the job has no result any more, or failed");
	if (!r)
		json_set_bytes(q->out, "result", data, len);
	return r;
}

static const struct verb {
	const char *name;
	int (*run)(struct request *q);
	bool needs_daemon;
} table[] = {
	{ "ping", do_ping, true },
	{ "status", do_status, false },
	{ "journal", do_journal, false },
	{ "explain", do_explain, false },
	{ "find", do_find, false },
	{ "retry", do_retry, false },
	{ "hold", do_hold, false },
	{ "drop", do_drop, false },
	{ "conflicts", do_conflicts, false },
	{ "resolve", do_resolve, false },
	{ "events", do_events, false },
	{ "verify", do_verify, false },
	{ "stat", do_stat, false },
	{ "keys", requests_keys_keys, false },
	{ "rotate", requests_keys_rotate, false },
	{ "rekey", requests_keys_rekey, false },
	{ "check-device", requests_keys_check_device, false },
	{ "sync", requests_sync, true },
	{ "online", requests_sync_online, true },
	{ "offline", requests_sync_offline, true },
	{ "allow-deletes", requests_sync_allow_deletes, true },
	{ "accept-restored", requests_sync_accept_restored, true },
	{ "accept-old", requests_sync_accept_old, true },
	{ "operation", do_operation, false },
	{ "exported", do_exported, false },
	{ "imported", do_imported, false },
	{ "wiping", do_wiping, false },
	{ "job-run", do_job_run, false },
	{ "jobs", do_jobs, false },
	{ "job-result", do_job_result, true },
	{ "pin", requests_warm_pin, false },
	{ "unpin", requests_warm_unpin, false },
	{ "pins", requests_warm_pins, false },
	{ "free", requests_warm_free, false },
	{ "warm", requests_warm_warm, true },
	{ "ready", requests_ready, false },
	{ "watch", requests_watch, true },
	{ "record-begin", requests_warm_record_begin, true },
	{ "record-end", requests_warm_record_end, true },
	{ "lock", requests_keys_lock, true },
	{ "unlock", requests_keys_unlock, true },
	{ "token", requests_keys_token, true },
	{ "umount", do_umount, true },
};

struct json *requests_failure(enum exit_code code, const char *sentence)
{
	struct json *o = json_new_object();

	json_set_bool(o, "ok", false);
	json_set_string(o, "code", exit_code_name(code));
	json_set_string(o, "error", sentence);
	return o;
}

static struct json *failure_of(int r, const char *sentence)
{
	return requests_failure(exit_code_of(r), sentence ? sentence : error_text(r));
}

static struct json *answer(struct request *q, int (*run)(struct request *q))
{
	struct json *reply;
	int r;

	q->out = json_new_object();
	json_set_bool(q->out, "ok", true);
	r = run(q);
	if (!r)
		return q->out;
	json_free(q->out);
	reply = failure_of(r, q->error);
	free(q->error);
	return reply;
}

/* Those that may run while the volume is locked: they take care of that themselves. */
static bool runs_locked(const char *name)
{
	static const char *const names[] = { "ping", "lock", "unlock", "umount" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(names[i], name))
			return true;
	return false;
}

static struct json *run_one(struct request *q, const struct verb *verb)
{
	struct locking *l = q->d->locking;
	struct json *reply;

	if (verb->needs_daemon && !l && !q->d->sync)
		return requests_failure(EXIT_CODE_NOT_MOUNTED,
			"the volume is not mounted; `cachet mount` mounts it");
	if (!l || runs_locked(verb->name))
		return answer(q, verb->run);
	if (!locking_enter(l))
		return !strcmp(verb->name, "status")
			       ? answer(q, do_locked_status)
			       : requests_failure(EXIT_CODE_KEY,
					 "the volume is locked; `cachet unlock` opens it");
	reply = answer(q, verb->run);
	locking_leave(l);
	return reply;
}

struct json *requests_answer(
	struct daemon_state *d, const struct json *request, const struct requests_caller *caller)
{
	struct request q = { .d = d, .in = request, .caller = caller };
	const char *name;

	if (!json_is_object(request) || json_get_string(request, "do", &name))
		return requests_failure(
			EXIT_CODE_USAGE, "a request is an object with the member 'do'");
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (!strcmp(table[i].name, name))
			return run_one(&q, &table[i]);
	return requests_failure(EXIT_CODE_USAGE, "this daemon does not know that request");
}

static bool never_gone(void *arg)
{
	return false;
}

struct json *requests_direct(const struct config *config, const struct json *request,
	void (*progress)(const struct json *answer))
{
	const struct requests_caller caller = { .gone = never_gone, .progress = progress };
	struct daemon_state d = { .config = config };
	_cleanup_free_ char *error = NULL;
	struct json *reply;
	int r = opening_volume(config, NULL, OPENING_IF_NEEDED, &d.volume, &error);

	if (r)
		return failure_of(r, error);
	reply = requests_answer(&d, request, &caller);
	volume_close(d.volume);
	return reply;
}
