/*
 * When to try again: exponential with full jitter (a random part of the whole interval), or when
 * the server says so.
 */
#ifndef CACHET_SYNC_BACKOFF_H
#define CACHET_SYNC_BACKOFF_H

#include <stdint.h>

#define BACKOFF_FIRST_MS 1000
#define BACKOFF_MAX_MS (5 * 60 * 1000)
#define BACKOFF_RETRY_AFTER_MAX_MS (60 * 60 * 1000)

/* The interval after `attempts` failures (from 1): first doubled attempts - 1 times, at most max.
 */
uint64_t backoff_ceiling_ms(unsigned attempts, uint64_t first_ms, uint64_t max_ms);
/* Between 1 and that, `random` uniformly distributed. */
uint64_t backoff_jitter_ms(uint64_t ceiling_ms, uint64_t random);
/* Both, with the system's random numbers. */
uint64_t backoff_ms(unsigned attempts, uint64_t first_ms, uint64_t max_ms);
/* Retry-After, seconds or a date, at most an hour; 0 when there is none or it is past. */
uint64_t backoff_retry_after_ms(const char *value, int64_t now_wall_ns);

#endif
