/*
 * Conditional and ranged requests on a record's content, after RFC 9110 sections 13 and 14. Pure
 * functions.
 *
 * What is deliberately simpler than the RFC allows: one range per request (several are answered
 * whole), and a date in If-Range never matches, because a time of one second is no strong
 * validator.
 */
#ifndef CACHET_SERVER_RANGE_H
#define CACHET_SERVER_RANGE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* Header values of the request, NULL where absent. */
struct range_request {
	const char *if_match;
	const char *if_none_match;
	const char *if_modified_since;
	const char *if_unmodified_since;
	const char *if_range;
	const char *range;
};

enum range_verdict {
	RANGE_WHOLE,         /* 200 */
	RANGE_PART,          /* 206 with first and len */
	RANGE_NOT_MODIFIED,  /* 304 */
	RANGE_FAILED,        /* 412 */
	RANGE_UNSATISFIABLE, /* 416 */
};

/* Order of evaluation: RFC 9110 section 13.2.2. `size` is that of the content, `modified` in
 * seconds since 1970. */
enum range_verdict server_range_evaluate(const struct range_request *q, const char *etag,
	time_t modified, uint64_t size, uint64_t *first, uint64_t *len);

#define RANGE_DATE_LEN 30
/* IMF-fixdate (RFC 9110 section 5.6.7), e.g. "Sun, 06 Nov 1994 08:49:37 GMT". */
void server_range_date(time_t t, char out[RANGE_DATE_LEN]);
/* Also the two obsolete forms (RFC 9110 section 5.6.7); a year of two digits is at most 50 years
 * ahead. */
bool server_range_parse_date(const char *text, time_t *out);

#endif
