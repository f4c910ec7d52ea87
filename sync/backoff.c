#include "sync/backoff.h"

#include <stdlib.h>

#include <curl/curl.h>

#include "base/clock.h"
#include "base/macros.h"
#include "base/secret.h"

uint64_t backoff_ceiling_ms(unsigned attempts, uint64_t first_ms, uint64_t max_ms)
{
	uint64_t ceiling = first_ms;

	for (unsigned i = 1; i < attempts && ceiling < max_ms; i++)
		ceiling *= 2;
	return MIN_OF(ceiling, max_ms);
}

uint64_t backoff_jitter_ms(uint64_t ceiling_ms, uint64_t random)
{
	return ceiling_ms ? 1 + random % ceiling_ms : 0;
}

uint64_t backoff_ms(unsigned attempts, uint64_t first_ms, uint64_t max_ms)
{
	uint64_t random;

	secret_random(&random, sizeof(random));
	return backoff_jitter_ms(backoff_ceiling_ms(attempts, first_ms, max_ms), random);
}

uint64_t backoff_retry_after_ms(const char *value, int64_t now_wall_ns)
{
	int64_t ms;
	time_t when;
	char *end;

	if (!*value)
		return 0;
	if (*value >= '0' && *value <= '9') {
		unsigned long long seconds = strtoull(value, &end, 10);

		if (!*end)
			return MIN_OF(seconds, BACKOFF_RETRY_AFTER_MAX_MS / 1000ULL) * 1000;
	}
	when = curl_getdate(value, NULL);
	if (when < 0)
		return 0;
	ms = (int64_t)when * 1000 - now_wall_ns / NS_PER_MS;
	return ms <= 0 ? 0 : (uint64_t)MIN_OF(ms, (int64_t)BACKOFF_RETRY_AFTER_MAX_MS);
}
