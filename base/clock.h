/* Clocks. Wall time is for people and for file times; intervals are measured on CLOCK_BOOTTIME;
 * waits for a condition end on CLOCK_MONOTONIC. */
#ifndef CACHET_BASE_CLOCK_H
#define CACHET_BASE_CLOCK_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

#define NS_PER_SEC 1000000000LL
#define NS_PER_MS 1000000LL

static inline int64_t clock_wall_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * NS_PER_SEC + t.tv_nsec;
}

/* The times of files, from the clock the kernel takes them from: what a tick holds has one time on
 * both sides. */
static inline int64_t clock_file_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME_COARSE, &t);
	return t.tv_sec * NS_PER_SEC + t.tv_nsec;
}

/* Does not jump; goes on while the machine sleeps. */
static inline int64_t clock_boot_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec * NS_PER_SEC + t.tv_nsec;
}

static inline int64_t clock_boot_ms(void)
{
	return clock_boot_ns() / NS_PER_MS;
}

/* For waits that end at clock_cond_in(). */
static inline void clock_cond_init(pthread_cond_t *c)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(c, &attr);
	pthread_condattr_destroy(&attr);
}

static inline struct timespec clock_cond_in(int64_t ns)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	ns += t.tv_nsec;
	return (struct timespec){ .tv_sec = t.tv_sec + ns / NS_PER_SEC,
		.tv_nsec = ns % NS_PER_SEC };
}

#endif
