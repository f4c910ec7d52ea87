#include "places.h"

#include <execinfo.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"

#define DEPTH 40     /* frames that are looked at, innermost first; SQLite's among them */
#define OWN 20       /* those of the program that are kept */
#define PLACES 16384 /* a power of two */
#define STACKS 4096

extern const char __executable_start[], etext[];

struct stack {
	long call;
	uint64_t hash;
	size_t n;
	uint16_t places[OWN];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uintptr_t places[PLACES]; /* by hash; what is full is passed over */
static bool passed[PLACES];
static struct stack stacks[STACKS];
static size_t n_stacks;

void places_begin(void)
{
	void *frame;

	backtrace(&frame, 1); /* the first call loads what it needs */
	n_stacks = 0;
}

/* PLACES: there is no room. */
static size_t place_of(uintptr_t at)
{
	size_t i = (at * UINT64_C(0x9e3779b97f4a7c15)) >> 50;

	for (size_t tries = 0; tries < PLACES; tries++, i = (i + 1) % PLACES) {
		if (!places[i])
			places[i] = at;
		if (places[i] == at)
			return i;
	}
	return PLACES;
}

static void add(struct stack *s, uintptr_t at)
{
	size_t place = place_of(at);

	if (place == PLACES)
		return;
	s->hash = (s->hash ^ place) * UINT64_C(0x100000001b3);
	s->places[s->n++] = (uint16_t)place;
}

static bool is_known(const struct stack *s)
{
	for (size_t i = 0; i < n_stacks; i++)
		if (stacks[i].hash == s->hash)
			return true;
	return false;
}

void places_note(long call)
{
	struct stack s = { .call = call };
	void *frames[DEPTH];
	int n = backtrace(frames, DEPTH);

	pthread_mutex_lock(&lock);
	for (int i = 0; i < n && s.n < OWN; i++)
		if ((const char *)frames[i] >= __executable_start &&
			(const char *)frames[i] < etext)
			add(&s, (uintptr_t)frames[i]);
	if (n_stacks < STACKS && !is_known(&s))
		stacks[n_stacks++] = s;
	pthread_mutex_unlock(&lock);
}

static size_t news(const struct stack *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++)
		n += !passed[s->places[i]];
	return n;
}

static const struct stack *best(size_t from)
{
	const struct stack *found = NULL;
	size_t most = 0;

	for (size_t i = 0; i < n_stacks; i++) {
		const struct stack *s = &stacks[(from + i) % n_stacks];
		size_t n = news(s);

		if (n > most) {
			most = n;
			found = s;
		}
	}
	return found;
}

static int in_order(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return (x > y) - (x < y);
}

size_t places_choose(long *calls, size_t max, size_t from)
{
	size_t n = 0;
	const struct stack *s;

	while (n < max && (s = best(from))) {
		for (size_t i = 0; i < s->n; i++)
			passed[s->places[i]] = true;
		calls[n++] = s->call;
	}
	qsort(calls, n, sizeof(*calls), in_order);
	return n;
}
