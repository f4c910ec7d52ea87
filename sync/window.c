#include "sync/window.h"

#include "base/macros.h"

uint64_t window_next(struct window *w, uint64_t off, uint64_t demand, uint64_t size)
{
	uint64_t bytes = demand > off ? demand - off : 0, read;

	if (!w->bytes || off + WINDOW_MIN < w->begin || off > w->next + WINDOW_MIN ||
		off + 2 * MAX_OF(bytes, WINDOW_MIN) < w->last) {
		w->begin = w->next = off;
	} else {
		w->begin = MIN_OF(w->begin, off);
		read = off - w->begin;
		bytes = MAX_OF(bytes, MAX_OF(read / (read < WINDOW_SURE ? 4 : 2), WINDOW_MIN));
		if (size <= WINDOW_MAX)
			bytes = WINDOW_MAX;
	}
	w->last = off;
	w->bytes = MIN_OF(bytes, WINDOW_MAX);
	return w->bytes;
}

void window_asked(struct window *w, uint64_t end)
{
	w->next = MAX_OF(w->next, end);
}
