/*
 * Readers that go through a directory (grep -r, a build, a photo viewer) ask for one small file
 * after another, each a round trip. From the second miss in a directory within MISS_MS on, files
 * that follow are fetched with it, many in a request: WINDOW_FIRST of them, which costs hardly more
 * than the round trip, and eight times as many with each further miss that is where a reader would
 * go on who read them all, in the order of readdir or in that of names. Who jumps about gets a few,
 * and some more the longer it goes on: at most JUMP_MAX times what was asked for comes in vain, and
 * twice that when it happens to jump to where it would have gone on.
 */
#include "sync/sync_priv.h"

#include <string.h>

#include "base/log.h"

#define MISS_MS 2000
#define WINDOW_FIRST 4
#define JUMP_MAX 16
#define JUMPS_FEW 4
#define LOOK_MAX 8192
#define LOOK_OTHER 64

/* Several readers go on side by side, each a little further than the other. */
static bool is_among(const uint64_t *list, uint64_t object)
{
	for (size_t i = 0; i < AHEAD_NEXT; i++)
		if (list[i] == object)
			return true;
	return false;
}

/*
 * Lock held. Whether a reader of all comes here next, who has read the last lot, or waits for it.
 * That a file is somewhere in a lot on its way says little: who jumps about meets one in any lot
 * that is large or late.
 */
static bool goes_on(struct ahead *a, uint64_t object)
{
	if (is_among(a->next[a->order], object) || is_among(a->lot, object))
		return true;
	if (!is_among(a->next[!a->order], object))
		return false;
	a->order = !a->order;
	return true;
}

/* Lock held. */
static struct ahead *find(struct sync *s, uint64_t dir)
{
	for (size_t i = 0; i < ARRAY_SIZE(s->fetch.ahead); i++)
		if (s->fetch.ahead[i].dir == dir)
			return &s->fetch.ahead[i];
	return NULL;
}

/* How many files to fetch ahead, and in which order; 0 = none. */
static unsigned note_miss(struct sync *s, uint64_t dir, const struct file *f, enum walk_order *order)
{
	int64_t now = clock_boot_ms();
	struct ahead *a;
	unsigned window = 0;

	pthread_mutex_lock(&s->lock);
	a = find(s, dir);
	if (a && now - a->last_ms < MISS_MS) {
		if (a->window && goes_on(a, file_object(f))) {
			window = MIN_OF(a->window * (a->jumps > JUMPS_FEW ? 2 : 8), BULK_FILES_MAX);
			a->jumps /= 2;
		} else if (!bulk_covers(s, file_object(f), file_version(f), false)) {
			window = MIN_OF(WINDOW_FIRST + a->jumps++ / 2, JUMP_MAX);
		}
	} else {
		if (!a)
			a = &s->fetch.ahead[s->fetch.ahead_hand++ % ARRAY_SIZE(s->fetch.ahead)];
		*a = (struct ahead){ .dir = dir };
	}
	if (window)
		a->window = window;
	a->last_ms = now;
	*order = a->order;
	pthread_mutex_unlock(&s->lock);
	return window;
}

/* A walk that fills the lot first, and then `next`. */
struct look {
	struct sync *s;
	struct bulk *bulk; /* NULL: none */
	unsigned window, looked;
	uint64_t lot[AHEAD_NEXT], next[AHEAD_NEXT];
	size_t next_n;
};

static bool is_coming(struct sync *s, const struct walk_file *f)
{
	bool coming;

	pthread_mutex_lock(&s->lock);
	coming = bulk_covers(s, f->object, f->version, false);
	pthread_mutex_unlock(&s->lock);
	return coming;
}

static int add(struct look *l, struct sync_item *item)
{
	size_t n = bulk_count(l->bulk);
	int r = bulk_add(l->bulk, item);

	if (!r && n < AHEAD_NEXT)
		l->lot[n] = item->object;
	return r < 0 && !n;
}

/* Files that cannot be fetched this way are left to who reads them. */
static int look_at(void *arg, const struct walk_file *f)
{
	struct look *l = arg;
	struct sync_item item = { .object = f->object, .version = f->version, .size = f->size };

	if (++l->looked > LOOK_MAX)
		return 1;
	if (f->whole || f->size > BULK_FILE_BYTES_MAX || is_coming(l->s, f))
		return 0;
	if (!l->next_n && l->bulk && bulk_count(l->bulk) < l->window &&
		bulk_has_room(l->bulk, f->size))
		return add(l, &item);
	l->next[l->next_n++] = f->object;
	return l->next_n == AHEAD_NEXT;
}

static void keep(struct sync *s, uint64_t dir, enum walk_order order, const struct look *l)
{
	struct ahead *a;

	pthread_mutex_lock(&s->lock);
	a = find(s, dir);
	if (a)
		memcpy(a->next[order], l->next, sizeof(l->next));
	if (a && l->bulk)
		memcpy(a->lot, l->lot, sizeof(l->lot));
	pthread_mutex_unlock(&s->lock);
}

void ahead_missed(struct sync *s, const struct file *f)
{
	struct look l = { .s = s }, other = { .s = s, .looked = LOOK_MAX - LOOK_OTHER };
	enum walk_order order;
	uint64_t dir;

	if (walk_parent(s->volume, file_object(f), &dir))
		return;
	l.window = note_miss(s, dir, f, &order);
	l.bulk = l.window ? bulk_make(s) : NULL;
	if (!l.bulk)
		return;
	/* Only speed is lost when it fails. */
	if (walk_siblings(s->volume, file_object(f), order, look_at, &l) || !bulk_count(l.bulk)) {
		bulk_drop(l.bulk);
		return;
	}
	keep(s, dir, order, &l);
	if (l.window <= JUMP_MAX &&
		!walk_siblings(s->volume, file_object(f), !order, look_at, &other))
		keep(s, dir, !order, &other);
	if (bulk_submit(l.bulk, true))
		log_debug("fetching ahead has no link");
}
