#include "server/range.h"

#include <stdio.h>
#include <string.h>

#include "server/wire.h"

static const char *const day_names[] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
static const char *const month_names[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug",
	"Sep", "Oct", "Nov", "Dec" };

void server_range_date(time_t t, char out[RANGE_DATE_LEN])
{
	struct tm tm;

	if (!gmtime_r(&t, &tm) || tm.tm_year < -1900 || tm.tm_year > 8099) {
		t = 0;
		gmtime_r(&t, &tm);
	}
	snprintf(out, RANGE_DATE_LEN, "%s, %02u %s %04u %02u:%02u:%02u GMT",
		day_names[tm.tm_wday % 7], (unsigned)tm.tm_mday % 100, month_names[tm.tm_mon % 12],
		(unsigned)(tm.tm_year + 1900) % 10000, (unsigned)tm.tm_hour % 100,
		(unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100);
}

/* Year, month ... of a date that is written as `form`; timegm() must not have to put it right. */
static bool parse_form(const char *text, const char *form, struct tm *tm, time_t *out)
{
	struct tm given;
	const char *end;

	*tm = (struct tm){ 0 };
	end = strptime(text, form, tm);
	if (!end || *end)
		return false;
	given = *tm;
	*out = timegm(tm);
	return given.tm_mday == tm->tm_mday && given.tm_sec == tm->tm_sec &&
	       given.tm_wday == tm->tm_wday;
}

static bool parse_fixdate(const char *text, time_t *out)
{
	char again[RANGE_DATE_LEN];
	struct tm tm;

	if (!parse_form(text, "%a, %d %b %Y %H:%M:%S GMT", &tm, out))
		return false;
	server_range_date(*out, again);
	return !strcmp(again, text);
}

/* "Sunday, 06-Nov-94 08:49:37 GMT": strptime() takes 69 to 99 for the century before. */
static bool parse_rfc850(const char *text, time_t *out)
{
	time_t now = time(NULL);
	char full[64];
	size_t at = strcspn(text, "-"), len = strlen(text);
	struct tm tm, today;
	int year;

	if (len >= sizeof(full) - 2 || len < at + 8 || !gmtime_r(&now, &today) ||
		sscanf(text + at + 5, "%2d", &year) != 1 || year < 0)
		return false;
	year += (today.tm_year + 1900) / 100 * 100;
	if (year > today.tm_year + 1900 + 50)
		year -= 100;
	snprintf(full, sizeof(full), "%.*s%04d%s", (int)at + 5, text, year, text + at + 7);
	return parse_form(full, "%A, %d-%b-%Y %H:%M:%S GMT", &tm, out);
}

bool server_range_parse_date(const char *text, time_t *out)
{
	struct tm tm;
	time_t t;

	if (!parse_fixdate(text, &t) && !parse_rfc850(text, &t) &&
		!parse_form(text, "%a %b %e %H:%M:%S %Y", &tm, &t))
		return false;
	*out = t;
	return true;
}

static bool unmodified_since(const char *date, time_t modified)
{
	time_t t;

	return !server_range_parse_date(date, &t) || modified <= t;
}

static bool digits(const char **p, uint64_t *out)
{
	char text[21];
	size_t n = 0;

	while ((*p)[n] >= '0' && (*p)[n] <= '9')
		if (++n == sizeof(text))
			return false;
	memcpy(text, *p, n);
	text[n] = 0;
	*p += n;
	return !server_wire_u64(text, out);
}

/* RANGE_WHOLE also when the header is not one byte range: such a header is ignored. */
static enum range_verdict parse(const char *text, uint64_t size, uint64_t *first, uint64_t *len)
{
	uint64_t from, to = UINT64_MAX;

	if (strncasecmp(text, "bytes=", 6) != 0)
		return RANGE_WHOLE;
	text += 6;
	if (*text == '-') {
		uint64_t suffix;

		text++;
		if (!digits(&text, &suffix) || *text)
			return RANGE_WHOLE;
		if (!suffix || !size)
			return RANGE_UNSATISFIABLE;
		*len = suffix < size ? suffix : size;
		*first = size - *len;
		return RANGE_PART;
	}
	if (!digits(&text, &from) || *text++ != '-')
		return RANGE_WHOLE;
	if (*text && (!digits(&text, &to) || *text || to < from))
		return RANGE_WHOLE;
	if (from >= size)
		return RANGE_UNSATISFIABLE;
	if (to >= size)
		to = size - 1;
	*first = from;
	*len = to - from + 1;
	return RANGE_PART;
}

enum range_verdict server_range_evaluate(const struct range_request *q, const char *etag,
	time_t modified, uint64_t size, uint64_t *first, uint64_t *len)
{
	time_t t;

	if (q->if_match) {
		if (!server_wire_etag_in(q->if_match, etag, false))
			return RANGE_FAILED;
	} else if (q->if_unmodified_since && !unmodified_since(q->if_unmodified_since, modified)) {
		return RANGE_FAILED;
	}
	if (q->if_none_match) {
		if (server_wire_etag_in(q->if_none_match, etag, true))
			return RANGE_NOT_MODIFIED;
	} else if (q->if_modified_since && server_range_parse_date(q->if_modified_since, &t) &&
		   modified <= t) {
		return RANGE_NOT_MODIFIED;
	}
	*first = 0;
	*len = size;
	if (!q->range)
		return RANGE_WHOLE;
	if (q->if_range && (strcmp(q->if_range, etag) != 0))
		return RANGE_WHOLE;
	return parse(q->range, size, first, len);
}
