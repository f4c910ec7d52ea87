/*
 * JSON of a record, written by hand: a feed page has ten thousand of them, and a tree of nodes for
 * each costs five times as much as the rows themselves. ASCII only, so that the same text can be a
 * header value.
 */
#include "server/records.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Each byte of a name becomes at most 6 (\u0001); longer sequences become fewer per byte. */
#define STRING_MAX(len) (6 * (len) + 3)

static const char hex[] = "0123456789abcdef";

static char *put_unit(char *out, unsigned unit)
{
	*out++ = '\\';
	*out++ = 'u';
	*out++ = hex[unit >> 12 & 15];
	*out++ = hex[unit >> 8 & 15];
	*out++ = hex[unit >> 4 & 15];
	*out++ = hex[unit & 15];
	return out;
}

/* One character above 0x7f of valid UTF-8. */
static char *put_wide(char *out, const uint8_t **in)
{
	const uint8_t *p = *in;
	uint32_t c;

	if (p[0] < 0xe0) {
		c = (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
		*in += 2;
	} else if (p[0] < 0xf0) {
		c = (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
		*in += 3;
	} else {
		c = (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 |
		    (uint32_t)(p[2] & 0x3f) << 6 | (p[3] & 0x3f);
		*in += 4;
		c -= 0x10000;
		out = put_unit(out, 0xd800 + (c >> 10));
		return put_unit(out, 0xdc00 + (c & 0x3ff));
	}
	return put_unit(out, c);
}

static char *put_string(char *out, const char *text)
{
	const uint8_t *in = (const uint8_t *)text;

	*out++ = '"';
	while (*in) {
		if (*in >= 0x80) {
			out = put_wide(out, &in);
		} else if (*in < 0x20 || *in == 0x7f) {
			out = put_unit(out, *in++);
		} else {
			if (*in == '"' || *in == '\\')
				*out++ = '\\';
			*out++ = (char)*in++;
		}
	}
	*out++ = '"';
	return out;
}

static char *put_raw(char *out, const char *text)
{
	size_t len = strlen(text);

	memcpy(out, text, len);
	return out + len;
}

static char *put_number(char *out, uint64_t v)
{
	char digits[20];
	size_t n = 0;

	do
		digits[n++] = (char)('0' + v % 10);
	while (v /= 10);
	while (n)
		*out++ = digits[--n];
	return out;
}

static char *put_hex(char *out, const uint8_t *data, size_t len)
{
	*out++ = '"';
	for (size_t i = 0; i < len; i++) {
		*out++ = hex[data[i] >> 4];
		*out++ = hex[data[i] & 15];
	}
	*out++ = '"';
	return out;
}

static char *put_place(char *out, const struct record *r)
{
	char etag[RECORD_ETAG_SIZE];

	server_records_etag(r, etag);
	out = put_string(put_raw(out, "{\"id\":"), r->id);
	out = put_string(put_raw(out, ",\"parent\":"), r->parent);
	out = put_string(put_raw(out, ",\"name\":"), r->name);
	out = put_string(put_raw(out, ",\"kind\":"), server_records_kind_name(r->kind));
	out = put_string(put_raw(out, ",\"etag\":"), etag);
	return put_number(put_raw(out, ",\"seq\":"), r->seq);
}

static char *put_state(char *out, const struct record *r)
{
	if (r->kind != RECORD_DIR) {
		out = put_number(put_raw(out, ",\"size\":"), r->size);
		out = put_hex(put_raw(out, ",\"sha256\":"), r->sha256, sizeof(r->sha256));
	}
	out = put_number(put_raw(out, ",\"mode\":"), r->mode);
	out = put_raw(out, ",\"mtime_ns\":\"");
	if (r->mtime_ns < 0)
		*out++ = '-';
	out = put_number(out, r->mtime_ns < 0 ? 0 - (uint64_t)r->mtime_ns : (uint64_t)r->mtime_ns);
	*out++ = '"';
	return out;
}

int server_records_print(struct buffer *b, const struct record *r, bool with_key)
{
	char text[STRING_MAX(WIRE_NAME_MAX) + 2 * STRING_MAX(WIRE_ID_MAX) + 512];
	char *end = put_place(text, r);

	if (r->deleted)
		end = put_raw(end, ",\"deleted\":true");
	else
		end = put_state(end, r);
	if (with_key && r->has_key)
		end = put_hex(put_raw(end, ",\"key\":"), r->key, sizeof(r->key));
	*end++ = '}';
	return buffer_append(b, text, (size_t)(end - text));
}

int server_records_print_string(struct buffer *b, const char *text)
{
	_cleanup_free_ char *out = malloc(STRING_MAX(strlen(text)));

	if (!out)
		return -ENOMEM;
	return buffer_append(b, out, (size_t)(put_string(out, text) - out));
}
