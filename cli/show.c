#include "cli/show.h"

#include <inttypes.h>
#include <stdbool.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"

int show_json(const struct json *o)
{
	_cleanup_free_ char *text = NULL;
	int r = json_print(o, true, &text);

	if (r)
		return command_fail(
			NULL, EXIT_CODE_FAILED, "the result cannot be printed: %s", error_text(r));
	printf("%s\n", text);
	return EXIT_CODE_OK;
}

/* How many bytes the character at `p` has; 0: it is none. */
static size_t character(const unsigned char *p)
{
	size_t left = strnlen((const char *)p, 4);

	for (size_t n = 1; n <= left; n++)
		if (bytes_is_utf8(p, n))
			return n;
	return 0;
}

void show_text(FILE *out, const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		/* C1 controls arrive as U+0080 to U+009F: two bytes in UTF-8. */
		bool c1 = *p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0;

		if (*p < ' ' || *p == 0x7f) {
			fprintf(out, "\\x%02x", *p);
		} else if (c1) {
			fprintf(out, "\\x%02x\\x%02x", *p, p[1]);
			p++;
		} else {
			size_t n = character(p);

			if (!n)
				fprintf(out, "\\x%02x", *p);
			fwrite(p, 1, n, out);
			p += n ? n - 1 : 0;
		}
	}
}

const char *show_bytes(uint64_t bytes, char out[static SHOW_MAX])
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes / 1024;
	size_t i = 0;

	if (bytes < 1024) {
		snprintf(out, SHOW_MAX, "%" PRIu64 " B", bytes);
		return out;
	}
	for (; value >= 1024 && i + 1 < ARRAY_SIZE(units); i++)
		value /= 1024;
	snprintf(out, SHOW_MAX, "%.1f %s", value, units[i]);
	return out;
}

const char *show_age(int64_t wall_ns, char out[static SHOW_MAX])
{
	int64_t s = MAX_OF((clock_wall_ns() - wall_ns) / NS_PER_SEC, 0);

	if (!wall_ns)
		snprintf(out, SHOW_MAX, "never");
	else if (s < 2)
		snprintf(out, SHOW_MAX, "just now");
	else if (s < 120)
		snprintf(out, SHOW_MAX, "%" PRId64 " s ago", s);
	else if (s < 7200)
		snprintf(out, SHOW_MAX, "%" PRId64 " min ago", s / 60);
	else if (s < 172800)
		snprintf(out, SHOW_MAX, "%" PRId64 " h ago", s / 3600);
	else
		snprintf(out, SHOW_MAX, "%" PRId64 " days ago", s / 86400);
	return out;
}

const char *show_count(uint64_t n, const char *one, const char *many, char out[static SHOW_MAX])
{
	snprintf(out, SHOW_MAX, "%" PRIu64 " %s", n, n == 1 ? one : many);
	return out;
}

void show_bar(uint64_t done_bytes, uint64_t of_bytes, bool over)
{
	static const char full[] = "##############################";
	int width = (int)sizeof(full) - 1, filled = over ? width : 0;
	char bytes[SHOW_MAX];

	if (!over && of_bytes)
		filled = (int)(MIN_OF(done_bytes, of_bytes) * (uint64_t)width / of_bytes);
	fprintf(stderr, "\r[%.*s%*s] %s %s", filled, full, width - filled, "",
		show_bytes(done_bytes, bytes), over ? "\n" : "");
}

uint64_t show_u64(const struct json *o, const char *key)
{
	uint64_t v = 0;

	return o && !json_get_u64(o, key, &v) ? v : 0;
}

int64_t show_i64(const struct json *o, const char *key)
{
	int64_t v = 0;

	return o && !json_get_i64(o, key, &v) ? v : 0;
}

bool show_bool(const struct json *o, const char *key)
{
	bool v = false;

	return o && !json_get_bool(o, key, &v) && v;
}

const char *show_string(const struct json *o, const char *key)
{
	const char *v = NULL;

	return o && !json_get_string(o, key, &v) ? v : NULL;
}

const struct json *show_member(const struct json *o, const char *key)
{
	const struct json *v = NULL;

	return o && !json_get(o, key, &v) ? v : NULL;
}
