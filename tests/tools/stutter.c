/*
 * Preloaded into a program with threads: any of them may sleep where it lets go of a lock, so that
 * interleavings which a busy machine shows once in a thousand runs are seen in a few.
 *
 *     CACHET_STUTTER="SEED ONE_IN MAX_US" LD_PRELOAD=stutter.so PROGRAM
 *
 * One unlock in ONE_IN sleeps, up to MAX_US. Which ones follows from the seed and the order in
 * which threads first come here: not the same run again, but the same kind of run.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/macros.h"

typedef int unlock_fn(pthread_mutex_t *m);

static unlock_fn *real_unlock;
static uint64_t seed, one_in, max_us;
static atomic_uint_fast64_t threads;
static _Thread_local uint64_t state;

__attribute__((constructor)) static void set_up(void)
{
	const char *text = getenv("CACHET_STUTTER");

	real_unlock = (unlock_fn *)dlsym(RTLD_NEXT, "pthread_mutex_unlock");
	if (!text || sscanf(text, "%lu %lu %lu", &seed, &one_in, &max_us) != 3)
		one_in = 0;
	unsetenv("LD_PRELOAD");
}

/* splitmix64 */
static uint64_t draw(void)
{
	uint64_t z;

	if (!state)
		state = seed + (atomic_fetch_add(&threads, 1) + 1) * UINT64_C(0x632be59bd9b4e019);
	z = state += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

__attribute__((visibility("default"))) int pthread_mutex_unlock(pthread_mutex_t *m)
{
	int r = real_unlock(m);

	if (one_in && draw() % one_in == 0)
		usleep((useconds_t)(draw() % max_us));
	return r;
}
