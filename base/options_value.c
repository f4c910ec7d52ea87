/* Numbers with units, as people write them. */
#include "base/options.h"

#include <stdbool.h>
#include <string.h>

#include "base/error.h"
#include "base/options_priv.h"

struct unit {
	const char *suffix;
	uint64_t factor;
};

static const struct unit byte_units[] = {
	{ "", 1 },
	{ "K", UINT64_C(1) << 10 },
	{ "M", UINT64_C(1) << 20 },
	{ "G", UINT64_C(1) << 30 },
	{ "T", UINT64_C(1) << 40 },
	{ "KB", 1000 },
	{ "MB", 1000000 },
	{ "GB", 1000000000 },
};

static const struct unit duration_units[] = {
	{ "", 1000 },
	{ "ms", 1 },
	{ "s", 1000 },
	{ "m", 60000 },
	{ "h", 3600000 },
	{ "d", 86400000 },
};

/* Decimal digits, then one of the suffixes, then the end. */
static int parse_with_unit(
	const char *text, const struct unit *units, size_t n_units, uint64_t *out)
{
	uint64_t value = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(value, 10, &value) ||
			__builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
			return CE_USAGE;
	if (p == text)
		return CE_USAGE;
	for (size_t i = 0; i < n_units; i++) {
		if (strcmp(p, units[i].suffix) != 0)
			continue;
		if (__builtin_mul_overflow(value, units[i].factor, &value))
			return CE_USAGE;
		*out = value;
		return 0;
	}
	return CE_USAGE;
}

int options_parse_bytes(const char *text, uint64_t *out)
{
	return parse_with_unit(text, byte_units, ARRAY_SIZE(byte_units), out);
}

int options_parse_duration_ms(const char *text, uint64_t *out)
{
	return parse_with_unit(text, duration_units, ARRAY_SIZE(duration_units), out);
}

int options_value_u64(const char *text, uint64_t *out)
{
	return parse_with_unit(text, byte_units, 1, out);
}
