/*
 * Bringing whole files here, behind whatever readers ask for: small ones many at a time, two
 * requests on their way; others one after the other in windows as wide as a reader's widest.
 */
#include "sync/sync_priv.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/error.h"

#define WARM_SLICE_BYTES ((uint64_t)8 << 20)
#define WARM_BULKS 2

struct warm {
	struct sync *s;
	struct bulk *making, *sent[WARM_BULKS];
	size_t n_sent;
	unsigned deadline_ms;
	struct sync_cancel *cancel;
};

/* What ends all of it, not one file alone. */
static bool is_final(int code)
{
	return code == CE_OFFLINE || code == CE_AUTH || code == -EINTR || code == -ENOSPC ||
	       code == -ENOMEM;
}

static int wait_first(struct warm *w)
{
	struct timespec deadline;
	int r;

	sync_deadline(w->deadline_ms, &deadline);
	r = bulk_wait(w->sent[0], &deadline, w->cancel);
	w->n_sent--;
	memmove(w->sent, w->sent + 1, w->n_sent * sizeof(*w->sent));
	return r;
}

static int send(struct warm *w)
{
	struct bulk *b = steal_ptr(&w->making);
	int r = 0;

	if (!b || !bulk_count(b)) {
		bulk_drop(b);
		return 0;
	}
	if (w->n_sent == WARM_BULKS)
		r = wait_first(w);
	if (r) {
		bulk_drop(b);
		return r;
	}
	r = bulk_submit(b, false);
	if (!r)
		w->sent[w->n_sent++] = b;
	return r;
}

/* Each slice has the whole deadline: a large file is given up only when nothing comes. */
static int fetch_alone(struct warm *w, struct sync_item *item)
{
	struct file *f;
	int r = file_open(w->s->volume, item->object, item->version, false, &f);

	item->code = r;
	if (r)
		return is_final(r) ? r : 0;
	for (uint64_t off = 0; !r && off < file_size(f); off += WARM_SLICE_BYTES)
		r = fetch_behind(w->s, f, off, WARM_SLICE_BYTES, w->deadline_ms, w->cancel);
	file_unref(f, false);
	item->code = r;
	return is_final(r) ? r : 0;
}

static int take(struct warm *w, struct sync_item *item)
{
	int r;

	if (item->size > BULK_FILE_BYTES_MAX)
		return fetch_alone(w, item);
	if (w->making && !bulk_has_room(w->making, item->size)) {
		r = send(w);
		if (r)
			return r;
	}
	if (!w->making)
		w->making = bulk_make(w->s);
	if (!w->making)
		return -ENOMEM;
	r = bulk_add(w->making, item);
	if (r == CE_REFUSED)
		return fetch_alone(w, item);
	item->code = r > 0 ? 0 : r;
	return 0;
}

/* What a bulk could not bring for a reason of its own. */
static int take_again(struct warm *w, struct sync_item *items, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && !r; i++) {
		if (is_final(items[i].code))
			r = items[i].code;
		else if (items[i].code && items[i].code != CE_STALE && items[i].code != CE_GONE)
			r = fetch_alone(w, &items[i]);
	}
	return r;
}

int sync_warm(struct sync *s, struct sync_item *items, size_t n, unsigned deadline_ms,
	struct sync_cancel *cancel)
{
	struct warm w = { .s = s, .deadline_ms = deadline_ms, .cancel = cancel };
	int r = 0, one;

	sync_entered(s);
	for (size_t i = 0; i < n && !r; i++)
		r = take(&w, &items[i]);
	if (!r)
		r = send(&w);
	bulk_drop(w.making);
	while (w.n_sent) {
		one = wait_first(&w);
		r = r ? r : one;
	}
	if (!r)
		r = take_again(&w, items, n);
	sync_left(s);
	return r;
}
