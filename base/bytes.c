#include "base/bytes.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"

void bytes_to_hex(const uint8_t *in, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[in[i] >> 4];
		out[2 * i + 1] = digits[in[i] & 15];
	}
	out[2 * len] = '\0';
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

int bytes_from_hex(const char *in, uint8_t *out, size_t len)
{
	if (strlen(in) != 2 * len)
		return CE_FORMAT;
	for (size_t i = 0; i < 2 * len; i++)
		if (hex_digit(in[i]) < 0)
			return CE_FORMAT;
	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)(hex_digit(in[2 * i]) * 16 + hex_digit(in[2 * i + 1]));
	return 0;
}

static const char base64_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int bytes_to_base64(const uint8_t *in, size_t len, char **out)
{
	char *text, *p;

	if (len > (SIZE_MAX - 1) / 4 * 3 - 3)
		return CE_TOO_LARGE;
	text = malloc((len + 2) / 3 * 4 + 1);
	if (!text)
		return -ENOMEM;
	p = text;
	for (size_t i = 0; i < len; i += 3) {
		size_t n = MIN_OF(len - i, 3u);
		uint32_t v = (uint32_t)in[i] << 16;

		v |= n > 1 ? (uint32_t)in[i + 1] << 8 : 0;
		v |= n > 2 ? (uint32_t)in[i + 2] : 0;
		*p++ = base64_digits[v >> 18];
		*p++ = base64_digits[v >> 12 & 63];
		*p++ = n > 1 ? base64_digits[v >> 6 & 63] : '=';
		*p++ = n > 2 ? base64_digits[v & 63] : '=';
	}
	*p = '\0';
	*out = text;
	return 0;
}

/* clang-format off */
static const uint8_t base64_values[256] = { /* one more than the digit's value: 0 is no digit */
	['A'] = 1, ['B'] = 2, ['C'] = 3, ['D'] = 4, ['E'] = 5, ['F'] = 6, ['G'] = 7, ['H'] = 8,
	['I'] = 9, ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
	['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
	['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
	['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
	['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
	['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
	['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63, ['/'] = 64,
};
/* clang-format on */

static int base64_value(char c)
{
	return base64_values[(uint8_t)c] - 1;
}

/*
 * The decoded length of `n` characters, or CE_FORMAT. Canonical: whole groups of four, no other
 * characters, and the bits that do not belong to a byte are zero, so one value has one text.
 */
static int base64_check(const char *in, size_t n, size_t *len)
{
	size_t pad = 0;

	if (n % 4)
		return CE_FORMAT;
	while (pad < 2 && pad < n && in[n - 1 - pad] == '=')
		pad++;
	for (size_t i = 0; i < n - pad; i++)
		if (base64_value(in[i]) < 0)
			return CE_FORMAT;
	if (pad && base64_value(in[n - 1 - pad]) & (pad == 1 ? 3 : 15))
		return CE_FORMAT;
	*len = n / 4 * 3 - pad;
	return 0;
}

int bytes_from_base64(const char *in, uint8_t *out, size_t max, size_t *out_len)
{
	size_t n = strlen(in), len, done = 0;
	int r = base64_check(in, n, &len);

	if (r)
		return r;
	if (len > max)
		return CE_TOO_LARGE;
	for (size_t i = 0; i < n; i += 4) {
		uint32_t group = 0;

		for (size_t j = i; j < i + 4; j++)
			group = group << 6 | (uint32_t)(in[j] == '=' ? 0 : base64_value(in[j]));
		for (int shift = 16; shift >= 0 && done < len; shift -= 8)
			out[done++] = (uint8_t)(group >> shift);
	}
	*out_len = len;
	return 0;
}

/* Length of the sequence that begins at `p`, 0 when it is not well-formed (RFC 3629 section 4). */
static size_t utf8_sequence(const uint8_t *p, size_t left)
{
	uint8_t lo = 0x80, hi = 0xbf;
	size_t n;

	if (p[0] >= 0x01 && p[0] <= 0x7f)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		n = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		n = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		n = 4;
	else
		return 0;
	/* Overlong forms, surrogates and what is beyond U+10FFFF show in the second byte. */
	if (p[0] == 0xe0)
		lo = 0xa0;
	else if (p[0] == 0xed)
		hi = 0x9f;
	else if (p[0] == 0xf0)
		lo = 0x90;
	else if (p[0] == 0xf4)
		hi = 0x8f;
	if (left < n || p[1] < lo || p[1] > hi)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

bool bytes_is_utf8(const uint8_t *in, size_t len)
{
	size_t n;

	for (size_t i = 0; i < len; i += n) {
		n = utf8_sequence(in + i, len - i);
		if (!n)
			return false;
	}
	return true;
}

void buffer_done(struct buffer *b)
{
	free(b->data);
	b->data = NULL;
	b->len = 0;
	b->cap = 0;
}

/* Room for `more` bytes and the NUL. */
static int buffer_reserve(struct buffer *b, size_t more)
{
	size_t need, cap;
	char *data;

	if (more > SIZE_MAX / 2 - 1 - b->len)
		return CE_TOO_LARGE;
	if (b->max && (b->len > b->max || more > b->max - b->len))
		return CE_TOO_LARGE;
	need = b->len + more + 1;
	if (need <= b->cap)
		return 0;
	cap = MAX_OF(b->cap ? b->cap : 64u, need);
	if (b->cap && cap < b->cap * 2)
		cap = b->cap * 2;
	data = realloc(b->data, cap);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->cap = cap;
	return 0;
}

int buffer_append(struct buffer *b, const void *data, size_t len)
{
	int r = buffer_reserve(b, len);

	if (r)
		return r;
	if (len)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
	return 0;
}

int bytes_vprint(char **out, const char *fmt, va_list args)
{
	char *text;

	if (vasprintf(&text, fmt, args) < 0)
		return -ENOMEM;
	*out = text;
	return 0;
}

int bytes_print(char **out, const char *fmt, ...)
{
	va_list args;
	int r;

	va_start(args, fmt);
	r = bytes_vprint(out, fmt, args);
	va_end(args);
	return r;
}

int buffer_printf(struct buffer *b, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list args;
	int n;

	va_start(args, fmt);
	n = vasprintf(&text, fmt, args);
	va_end(args);
	if (n < 0) {
		text = NULL;
		return -ENOMEM;
	}
	return buffer_append(b, text, (size_t)n);
}
