#include "server/wire.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"

static bool is_id_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-';
}

bool server_wire_is_id(const char *text)
{
	size_t n = 0;

	while (n <= WIRE_ID_MAX && is_id_char(text[n]))
		n++;
	return n >= 1 && n <= WIRE_ID_MAX && !text[n];
}

bool server_wire_is_name(const char *text, size_t len)
{
	if (len < 1 || len > WIRE_NAME_MAX || memchr(text, '/', len))
		return false;
	if ((len == 1 && text[0] == '.') || (len == 2 && text[0] == '.' && text[1] == '.'))
		return false;
	return bytes_is_utf8((const uint8_t *)text, len);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int server_wire_percent_decode(const char *in, char *out, size_t size, size_t *out_len)
{
	size_t n = 0;

	for (; *in; n++) {
		int c;

		if (n + 1 >= size)
			return CE_TOO_LARGE;
		if (*in == '%') {
			int hi = hex_digit(in[1]);
			int lo = hi < 0 ? -1 : hex_digit(in[2]);

			if (lo < 0)
				return CE_FORMAT;
			c = hi << 4 | lo;
			in += 3;
		} else if (is_id_char(*in) || *in == '.' || *in == '~') {
			c = *in++;
		} else {
			return CE_FORMAT;
		}
		out[n] = (char)c;
	}
	out[n] = 0;
	*out_len = n;
	return 0;
}

int server_wire_u64(const char *text, uint64_t *out)
{
	uint64_t v = 0;

	if (!*text)
		return CE_FORMAT;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return CE_FORMAT;
		if (__builtin_mul_overflow(v, 10, &v) ||
			__builtin_add_overflow(v, (uint64_t)(*text - '0'), &v))
			return CE_FORMAT;
	}
	*out = v;
	return 0;
}

int server_wire_i64(const char *text, int64_t *out)
{
	bool negative = *text == '-';
	uint64_t v;
	int r = server_wire_u64(text + negative, &v);

	if (r)
		return r;
	if (v > (uint64_t)INT64_MAX)
		return CE_FORMAT;
	*out = negative ? -(int64_t)v : (int64_t)v;
	return 0;
}

/* One tag of the list at *p: its opaque part with quotes, and whether it is weak. Advances behind
 * it. */
static bool next_tag(const char **p, const char **tag, size_t *len, bool *weak)
{
	const char *s = *p, *end;

	*weak = s[0] == 'W' && s[1] == '/';
	if (*weak)
		s += 2;
	if (*s != '"')
		return false;
	for (end = s + 1; *end && *end != '"'; end++)
		if ((unsigned char)*end < 0x21 || *end == 0x7f)
			return false;
	if (*end != '"')
		return false;
	*tag = s;
	*len = (size_t)(end + 1 - s);
	*p = end + 1;
	return true;
}

static const char *skip_blanks(const char *p)
{
	while (*p == ' ' || *p == '\t')
		p++;
	return p;
}

/* Walks the list; with `etag`, *found says whether it is in it. False when the text is not a list
 * of tags. */
static bool walk(const char *list, const char *etag, bool weak_ok, bool *found)
{
	const char *p = skip_blanks(list);

	for (;;) {
		const char *tag;
		size_t len;
		bool weak;

		if (!next_tag(&p, &tag, &len, &weak))
			return false;
		if (etag && (!weak || weak_ok) && strlen(etag) == len && !memcmp(tag, etag, len))
			*found = true;
		p = skip_blanks(p);
		if (!*p)
			return true;
		if (*p++ != ',')
			return false;
		p = skip_blanks(p);
	}
}

bool server_wire_is_etag_list(const char *list)
{
	bool found = false;

	return !strcmp(list, "*") || walk(list, NULL, false, &found);
}

bool server_wire_etag_in(const char *list, const char *etag, bool weak)
{
	bool found = false;

	if (!strcmp(list, "*"))
		return true;
	return walk(list, etag, weak, &found) && found;
}
