/*
 * A record that an answer shows has no target when it is a symlink: that is content. What stands in
 * our way has often come with the feed and is here; what we had already and took away is not, and
 * the feed does not tell it again. So it is fetched before the operation is settled.
 */
#include "sync/replay_priv.h"

#include <string.h>

static bool needs_target(const struct replay_op *o, bool has, const struct remote_record *rec)
{
	return o->verdict == REPLAY_SETTLE && has && rec->kind == REMOTE_SYMLINK && !rec->deleted &&
	       !rec->target;
}

/* Those that lack one; `out` has room for two of each operation. */
static size_t collect(const struct replay_send *send, struct remote_record **out)
{
	size_t n = 0;

	for (size_t i = 0; i < send->n; i++) {
		struct replay_op *o = send->ops[i];

		if (needs_target(o, o->has_record, &o->record))
			out[n++] = &o->record;
		if (needs_target(o, o->has_standing, &o->standing))
			out[n++] = &o->standing;
	}
	return n;
}

/* Of another state it is not taken: the operation is tried again later, and gets a new answer. */
static void take(struct remote_record *rec, const struct origin_content *c)
{
	if (!c->code && !strcmp(c->record.id, rec->id) && !strcmp(c->record.etag, rec->etag) &&
		c->len && strlen(c->data) == c->len)
		rec->target = strdup(c->data);
}

static void on_targets(
	void *arg, const struct origin_result *r, const struct origin_content *contents, size_t n)
{
	struct replay_send *send = arg;
	_cleanup_free_ struct remote_record **asked = calloc(2 * send->n, sizeof(*asked));
	size_t wanted = asked ? collect(send, asked) : 0;

	replay_call_over(send);
	sync_judge(send->s, r);
	for (size_t i = 0; i < wanted && i < n; i++)
		take(asked[i], &contents[i]);
	replay_answered(send);
}

bool replay_target_ask(struct replay_send *send)
{
	_cleanup_free_ struct remote_record **lacking = calloc(2 * send->n, sizeof(*lacking));
	_cleanup_free_ const char **rids = calloc(2 * send->n, sizeof(*rids));
	struct origin *origin = send->s->origin;
	size_t n = lacking && rids && !send->asked ? collect(send, lacking) : 0;

	send->asked = true;
	for (size_t i = 0; i < n; i++)
		rids[i] = lacking[i]->id;
	return n && !origin->ops->get_small(origin, send->ops[0]->op.store_name, rids, n,
			    on_targets, send, &send->call);
}
