/*
 * Readers that go through a directory (grep -r, a build, a photo viewer) ask for one small file
 * after another, each a round trip. From the second miss in a directory within MISS_MS on, the
 * files that follow are fetched many in a request, and four times as many with each further miss: a
 * reader that waits for a file which is on its way so asks for the next lot before it needs it.
 * What is fetched in vain is at most one request of the size that the misses before have earned.
 */
#include "sync/sync_priv.h"

#include <string.h>

#include "base/log.h"
#include "cache/walk.h"

#define MISS_MS 2000
#define WINDOW_FIRST 16
#define LOOK_MAX 8192

/* How many files to fetch ahead; 0 = none yet. */
static unsigned note_miss(struct sync *s, uint64_t dir)
{
	int64_t now = clock_boot_ms();
	struct ahead *a;
	unsigned window;

	pthread_mutex_lock(&s->lock);
	for (a = s->fetch.ahead; a < s->fetch.ahead + ARRAY_SIZE(s->fetch.ahead); a++)
		if (a->dir == dir && now - a->last_ms < MISS_MS)
			break;
	if (a == s->fetch.ahead + ARRAY_SIZE(s->fetch.ahead)) {
		a = &s->fetch.ahead[s->fetch.ahead_hand++ % ARRAY_SIZE(s->fetch.ahead)];
		*a = (struct ahead){ .dir = dir };
	}
	window = a->window;
	a->window = MIN_OF(window ? window * 4 : WINDOW_FIRST, BULK_FILES_MAX);
	a->last_ms = now;
	pthread_mutex_unlock(&s->lock);
	return window;
}

struct look {
	struct sync *s;
	struct bulk *bulk;
	unsigned window, looked;
};

static bool is_coming(struct sync *s, const struct walk_file *f)
{
	bool coming;

	pthread_mutex_lock(&s->lock);
	coming = bulk_covers(s, f->object, f->version, false);
	pthread_mutex_unlock(&s->lock);
	return coming;
}

/* Files that cannot be fetched this way are left to who reads them. */
static int look_at(void *arg, const struct walk_file *f)
{
	struct look *l = arg;
	struct sync_item item = { .object = f->object, .version = f->version, .size = f->size };

	if (bulk_count(l->bulk) >= l->window || ++l->looked > LOOK_MAX)
		return 1;
	if (f->whole || f->size > BULK_FILE_BYTES_MAX || is_coming(l->s, f))
		return 0;
	if (!bulk_has_room(l->bulk, f->size))
		return 1;
	return bulk_add(l->bulk, &item) < 0 && !bulk_count(l->bulk) ? 1 : 0;
}

void ahead_missed(struct sync *s, uint64_t object)
{
	struct look l = { .s = s };
	uint64_t dir;

	if (walk_parent(s->volume, object, &dir))
		return;
	l.window = note_miss(s, dir);
	l.bulk = l.window ? bulk_make(s) : NULL;
	if (!l.bulk)
		return;
	/* Only speed is lost when it fails. */
	if (walk_siblings(s->volume, object, look_at, &l) || !bulk_count(l.bulk))
		bulk_drop(l.bulk);
	else if (bulk_submit(l.bulk, true))
		log_debug("fetching ahead has no link");
}
