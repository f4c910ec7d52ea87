/* Between the files of the replay: replay.c (sending), replay_pick.c, replay_settle.c,
 * replay_order.c. See replay.c. */
#ifndef CACHET_SYNC_REPLAY_PRIV_H
#define CACHET_SYNC_REPLAY_PRIV_H

#include <sodium.h>

#include "cache/file.h"
#include "cache/outbox.h"
#include "sync/sync_priv.h"
#include "sync/upload.h"

#define REPLAY_LARGE_BYTES (256u << 10)
#define REPLAY_SOON_THROUGH_BYTES (4u << 20)

enum replay_verdict {
	REPLAY_LEAVE, /* stays INFLIGHT, sent again when there is a link */
	REPLAY_ACK,
	REPLAY_SETTLE,
	REPLAY_RETRY,
	REPLAY_REFUSE,
};

/* What it touches, by hash; 0 = nothing. */
struct replay_keys {
	uint64_t store, seq, rid, other, parent, place;
};

struct replay_op {
	struct replay_op *next;
	struct outbox_op op;
	struct replay_keys keys;
	bool loaded;
	int load_error;    /* why it cannot be sent */
	char *content;     /* small ones */
	struct file *file; /* large ones, until `upload` has it */
	struct upload *upload;
	uint64_t from; /* the origin has what is before */
	bool has_ahead; /* sent before it was committed */
	struct origin_ahead ahead;
	uint8_t sha256[32]; /* of what was sent */
	bool has_sha256;

	enum replay_verdict verdict;
	int status;
	uint64_t delay_ms;
	char text[ORIGIN_TEXT_MAX];
	bool has_record, has_standing;
	struct remote_record record, standing; /* their targets are ours */
};
void replay_op_free(struct replay_op *o);
void replay_ops_free(struct replay_op *list);

/* One request: one operation, or a batch. */
struct replay_send {
	struct replay_send *next;
	struct worker_job job;
	struct sync *s;
	struct replay_op **ops;
	size_t n;
	bool batch, upload;
	bool asked;   /* for targets, once */
	bool hashing; /* no call yet: what the origin has is read again, or compared (early.c) */
	struct origin_call *call; /* NULL: answered, being settled */
	int settle_error;
};

static inline bool replay_has_content(const struct outbox_op *op)
{
	return op->kind == OUTBOX_PUT && op->node_kind != REMOTE_DIR;
}

static inline bool replay_is_large(const struct outbox_op *op)
{
	return replay_has_content(op) && op->node_kind == REMOTE_FILE &&
	       op->size > REPLAY_LARGE_BYTES;
}

/* --- replay_order.c --- */
/* `later` may not be sent before `earlier` has been answered. Pure. */
bool replay_order_after(const struct replay_keys *later, const struct replay_keys *earlier);
/* `inner` is about what lies in the directory `outer`, and nothing else holds it up. */
bool replay_order_is_in(const struct replay_keys *inner, const struct replay_keys *outer);
struct replay_keys replay_order_keys(const struct outbox_op *op);

/* --- replay_pick.c --- */
/* `load`: not more operations but the contents of those that are ready. */
void replay_pick_start(struct sync *s, bool hurry, bool load);
void replay_pick_orphan(struct replay_pick *p);

/* --- replay_settle.c --- */
/* Pure but for the clock: what the outcome means for the operation. */
void replay_settle_judge(struct replay_op *o, const struct origin_outcome *outcome);
/* The request failed as a whole. */
void replay_settle_judge_request(struct replay_op *o, const struct origin_result *r);
/* Carries the verdicts out on the index worker, then frees the send. */
void replay_settle_start(struct replay_send *send);

/* --- replay_target.c --- */
/* Fetches the targets of symlinks that stand in the way; true: replay_answered() comes again. */
bool replay_target_ask(struct replay_send *send) MUST_CHECK;

/* --- replay.c --- */
/* In its callback, first. */
void replay_call_over(struct replay_send *send);
/* Every operation has its verdict. */
void replay_answered(struct replay_send *send);
void replay_send_over(struct replay_send *send);
/* A reader that has read what was sent ahead of the commit, and is of the committed content now: the rest goes. Without
 * one all of it does. */
void replay_go_on(struct replay_send *send, struct file_reader *reader, const struct origin_ahead *ahead, uint64_t from);

/* --- early.c --- */
/* Whether some of the operation's content may have been sent already: replay_go_on() follows, later. */
bool early_take(struct replay_send *send) MUST_CHECK;

#endif
