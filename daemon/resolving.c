#include "daemon/resolving.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/secret.h"
#include "cache/merge.h"
#include "daemon/daemon_priv.h"

struct wanted {
	uint64_t id;
	enum merge_pick pick;
	uint8_t *content;
	size_t len;
};

static void wanted_done(struct wanted *w)
{
	if (w->content)
		secret_wipe(w->content, w->len);
	free(w->content);
}

static int read_content(const struct json *in, struct wanted *w)
{
	const char *text;
	int r = json_get_string(in, "content", &text);

	if (r)
		return r;
	w->content = malloc(MERGE_MAX_BYTES + 1);
	return w->content ? bytes_from_base64(text, w->content, MERGE_MAX_BYTES, &w->len) : -ENOMEM;
}

static int read_wanted(const struct json *in, struct wanted *w, const char **sentence)
{
	const char *pick;
	int r;

	*sentence = "'id' is missing: the number of a conflict";
	if (json_get_u64(in, "id", &w->id))
		return CE_USAGE;
	*sentence = "'pick' is both, ours, theirs or merged";
	if (json_has(in, "pick") &&
		(json_get_string(in, "pick", &pick) || merge_pick(pick, &w->pick)))
		return CE_USAGE;
	*sentence = "'content' is what the file is to have, in base64, with the pick merged only; "
		    "at most 4 MiB";
	if (json_has(in, "content") != (w->pick == MERGE_PICK_MERGED))
		return CE_USAGE;
	r = w->pick == MERGE_PICK_MERGED ? read_content(in, w) : 0;
	if (r == CE_FORMAT || r == CE_TOO_LARGE)
		return CE_USAGE;
	*sentence = NULL;
	return r;
}

/* Ours may have been sent and its chunks evicted since. */
static int fetch_ours(struct daemon_state *d, struct merge *m)
{
	struct file *f = merge_ours_of(m);

	return f && d->sync ? sync_fetch(d->sync, f, 0, UINT64_MAX, SYNC_FETCH_DEADLINE_MS, NULL)
			    : 0;
}

static const char *sentence_of(int r)
{
	switch (r) {
	case -ENOENT:
		return "no open conflict has that number";
	case -EBUSY:
		return "one of the two files is open for writing or on its way to the origin; try "
		       "again in a moment";
	case -EINVAL:
		return "this conflict has no such side; `cachet conflicts show` says what it is";
	case -EROFS:
		return "the store is read-only here; another device has to settle it";
	case CE_ABSENT:
		return "the content of your side is not all here; mount the volume and connect "
		       "first";
	default:
		return NULL;
	}
}

int resolving_run(struct daemon_state *d, const struct json *in, const char **sentence)
{
	_cleanup_(wanted_done) struct wanted w = { 0 };
	_cleanup_(merge_freep) struct merge *m = NULL;
	int r = read_wanted(in, &w, sentence);

	if (r)
		return r;
	r = merge_open(d->volume, w.id, &m);
	if (!r && w.pick == MERGE_PICK_OURS)
		r = fetch_ours(d, m);
	if (!r)
		r = merge_take(m, w.pick, w.content, w.len);
	*sentence = sentence_of(r);
	return r;
}
