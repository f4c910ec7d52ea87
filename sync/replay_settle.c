/*
 * What an answer means for an operation (FACTS: status codes), and telling the journal.
 *
 * - 2xx: acknowledged, if the record has the content that was sent.
 * - 412: another version is there: settle. Unless it is our own earlier sending: its key says so;
 *   of a record without a key, a put that was sent before is compared with all that is there.
 * - 409 place-taken, no-parent: settle, with the record that stands there.
 * - 409 not-empty, loop, not-a-directory: settle with the record as it is, which comes back;
 *   without it not-empty is tried a few times, then refused.
 * - 404, 410 of a DELETE: acknowledged.
 * - 409 in-progress, 424, 429, 5xx, 507: later, with the same key.
 * - 401: left as it is: the link waits for credentials, no attempt is counted.
 * - 403 and every other 4xx: refused: shown, kept, the rest goes on.
 */
#include "sync/replay_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cache/verify.h"
#include "sync/backoff.h"

#define IN_PROGRESS_MS 500
#define DEPENDENCY_MS 200
#define NOT_EMPTY_TRIES 5
#define NO_SPACE_MAX_MS 60000

static void decide(struct replay_op *o, enum replay_verdict v, const struct origin_result *r)
{
	o->verdict = v;
	o->status = r->status;
	snprintf(o->text, sizeof(o->text), "%s", r->text);
}

static void retry(struct replay_op *o, const struct origin_result *r, uint64_t least_ms)
{
	uint64_t jitter = backoff_ms(o->op.attempts, BACKOFF_FIRST_MS, BACKOFF_MAX_MS);

	decide(o, REPLAY_RETRY, r);
	o->delay_ms = least_ms ? least_ms : jitter;
	if (r->status == 507)
		o->delay_ms = MIN_OF(o->delay_ms, (uint64_t)NO_SPACE_MAX_MS);
	if (r->retry_after_ms)
		o->delay_ms = r->retry_after_ms + jitter / 4;
}

/* The digest of what was sent: a large content's was made on the way. */
static void digest(struct replay_op *o)
{
	if (o->has_sha256 || !o->content)
		return;
	crypto_hash_sha256(o->sha256, (const unsigned char *)o->content, o->op.size);
	o->has_sha256 = true;
}

static bool has_content(struct replay_op *o, const struct remote_record *r)
{
	if (!replay_has_content(&o->op))
		return true;
	digest(o);
	return r->size == o->op.size && o->has_sha256 && r->has_sha256 &&
	       !memcmp(r->sha256, o->sha256, sizeof(r->sha256));
}

static bool is_there(const struct outbox_op *op, const struct remote_record *r)
{
	return !*op->parent || (!strcmp(r->parent, op->parent) && !strcmp(r->name, op->name));
}

static bool has_attributes(const struct outbox_op *op, const struct remote_record *r)
{
	return (r->mode & 07777) == (op->mode & 07777) && r->mtime_ns == op->mtime_ns;
}

/* Is this what the operation was to bring about? */
static bool is_ours(struct replay_op *o, const struct remote_record *r)
{
	const struct outbox_op *op = &o->op;

	if (strcmp(r->id, op->rid))
		return false;
	if (r->has_key)
		return !memcmp(r->key, op->key, sizeof(r->key));
	if (op->kind == OUTBOX_DELETE)
		return r->deleted;
	/* A place or a mode says nothing of the rest, which another may have changed. */
	return op->kind == OUTBOX_PUT && !r->deleted && has_content(o, r) && is_there(op, r) &&
	       has_attributes(op, r);
}

static void keep_records(struct replay_op *o, const struct origin_outcome *outcome)
{
	o->has_record = outcome->record != NULL;
	if (outcome->record)
		o->record = *outcome->record;
	o->has_standing = outcome->standing != NULL;
	if (outcome->standing)
		o->standing = *outcome->standing;
}

static void confirmed(struct replay_op *o, const struct origin_result *r)
{
	if (!o->has_record || strcmp(o->record.id, o->op.rid) ||
		o->record.deleted != (o->op.kind == OUTBOX_DELETE) ||
		(o->op.kind == OUTBOX_PUT && (int)o->record.kind != o->op.node_kind)) {
		struct origin_result bad = *r;

		snprintf(bad.text, sizeof(bad.text), "the confirmation is of another record");
		retry(o, &bad, 0);
	} else if (o->op.kind == OUTBOX_PUT && !has_content(o, &o->record)) {
		decide(o, REPLAY_REFUSE, r);
		snprintf(o->text, sizeof(o->text),
			"the server stored another content than was sent");
	} else {
		decide(o, REPLAY_ACK, r);
	}
}

static void conflict(struct replay_op *o, const struct origin_result *r)
{
	bool again = o->op.attempts > 1;

	if (o->has_record && (again || o->record.has_key) && is_ours(o, &o->record))
		decide(o, REPLAY_ACK, r);
	else
		decide(o, REPLAY_SETTLE, r);
}

static void gone(struct replay_op *o, const struct origin_result *r)
{
	if (!strcmp(r->type, "no-store"))
		retry(o, r, BACKOFF_MAX_MS);
	else if (o->op.kind == OUTBOX_DELETE)
		decide(o, REPLAY_ACK, r);
	else
		decide(o, REPLAY_SETTLE, r);
}

/* What cannot go as the tree is there. With the record as it is the journal knows what to do. */
static bool is_in_the_way(const char *type)
{
	return !strcmp(type, "not-empty") || !strcmp(type, "loop") ||
	       !strcmp(type, "not-a-directory");
}

static void refused(struct replay_op *o, const struct origin_result *r)
{
	if (o->has_record && is_in_the_way(r->type) &&
		(!strcmp(o->record.id, o->op.rid) || !strcmp(o->record.id, o->op.other_rid)))
		decide(o, REPLAY_SETTLE, r);
	else if (!strcmp(r->type, "not-empty") && o->op.attempts < NOT_EMPTY_TRIES)
		retry(o, r, 0);
	else
		decide(o, REPLAY_REFUSE, r);
}

void replay_settle_judge(struct replay_op *o, const struct origin_outcome *outcome)
{
	const struct origin_result *r = &outcome->result;

	keep_records(o, outcome);
	switch (r->code) {
	case 0:
		confirmed(o, r);
		break;
	case CE_CONFLICT:
		conflict(o, r);
		break;
	case CE_GONE:
		gone(o, r);
		break;
	case CE_REFUSED:
	case CE_TOO_LARGE:
	case CE_STALE:
		refused(o, r);
		break;
	default:
		replay_settle_judge_request(o, r);
	}
}

void replay_settle_judge_request(struct replay_op *o, const struct origin_result *r)
{
	switch (r->code) {
	case CE_AUTH:
		decide(o, REPLAY_LEAVE, r);
		break;
	case CE_REFUSED:
	case CE_TOO_LARGE:
		decide(o, REPLAY_REFUSE, r);
		break;
	case CE_TAMPER:
	case CE_CORRUPT:
		/* Our own content: it will not get better by waiting, and is named in the status.
		 */
		decide(o, REPLAY_REFUSE, r);
		snprintf(o->text, sizeof(o->text), VERIFY_DAMAGED_TEXT);
		break;
	case -EBUSY:
		retry(o, r, r->status == 409 ? IN_PROGRESS_MS : 0);
		break;
	case -EAGAIN:
		retry(o, r, r->status == 424 ? DEPENDENCY_MS : 0);
		break;
	default:
		retry(o, r, 0);
	}
}

/* --- on the index worker --- */

static int carry_out(struct volume *v, struct replay_op *o)
{
	const struct remote_record *record = o->has_record ? &o->record : NULL;
	bool conflicting;

	switch (o->verdict) {
	case REPLAY_SETTLE:
		return outbox_settle(
			v, o->op.seq, record, o->has_standing ? &o->standing : NULL, &conflicting);
	case REPLAY_RETRY:
		return outbox_retry(v, o->op.seq,
			clock_wall_ns() / NS_PER_MS + (int64_t)o->delay_ms, o->status, o->text);
	case REPLAY_REFUSE:
		return outbox_refuse(v, o->op.seq, o->status, o->text);
	default:
		return 0;
	}
}

/* The verdict could not be carried out: not again at once. */
static void put_off(struct volume *v, struct replay_op *o, int code)
{
	uint64_t ms = backoff_ms(o->op.attempts, BACKOFF_FIRST_MS, BACKOFF_MAX_MS);

	(void)!outbox_retry(v, o->op.seq, clock_wall_ns() / NS_PER_MS + (int64_t)ms, o->status,
		error_text(code));
}

/* Acknowledgements in one transaction. */
static int acknowledge(struct replay_send *send)
{
	_cleanup_free_ struct outbox_answer *answers = calloc(send->n, sizeof(*answers));
	size_t n = 0;

	if (!answers)
		return -ENOMEM;
	for (size_t i = 0; i < send->n; i++) {
		const struct replay_op *o = send->ops[i];

		if (o->verdict != REPLAY_ACK)
			continue;
		answers[n].seq = o->op.seq;
		answers[n++].record = o->has_record ? &o->record : NULL;
	}
	return n ? outbox_ack(send->s->volume, answers, n) : 0;
}

static void settle_work(struct worker_job *j)
{
	struct replay_send *send =
		(struct replay_send *)((char *)j - offsetof(struct replay_send, job));
	int r = acknowledge(send), one;

	for (size_t i = 0; i < send->n; i++) {
		one = carry_out(send->s->volume, send->ops[i]);
		if (one == -ENOENT) /* gone meanwhile: its echo in the feed acknowledged it */
			one = 0;
		if (one)
			put_off(send->s->volume, send->ops[i], one);
		r = r ? r : one;
	}
	send->settle_error = r;
}

static void settle_done(struct worker_job *j, bool dropped)
{
	struct replay_send *send =
		(struct replay_send *)((char *)j - offsetof(struct replay_send, job));

	send->s->deferred.any = true; /* entries of the feed may have waited for these operations */
	if (!dropped && send->settle_error)
		sync_note(send->s, send->settle_error, error_text(send->settle_error));
	replay_send_over(send);
}

void replay_settle_start(struct replay_send *send)
{
	send->job.work = settle_work;
	send->job.done = settle_done;
	worker_run(send->s->index, &send->job);
}
