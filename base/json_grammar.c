/*
 * cJSON is lenient: it takes control characters as white space and inside strings, leading zeros,
 * a byte order mark, whatever bytes pass for text, and 1000 levels; and it ends a string at \u0000.
 * So the text is held against the grammar of RFC 8259 before cJSON sees it. One pass, no memory;
 * the recursion is bounded by JSON_DEPTH_MAX. Lone surrogates are left to cJSON, which refuses
 * them.
 */
#include "base/json_priv.h"

#include <stdint.h>
#include <string.h>

#include "base/bytes.h"
#include "base/json.h"

struct cursor {
	const char *p, *end;
	unsigned int depth;
};

static bool value(struct cursor *c);

static bool at(const struct cursor *c, char ch)
{
	return c->p < c->end && *c->p == ch;
}

static bool take(struct cursor *c, char ch)
{
	if (!at(c, ch))
		return false;
	c->p++;
	return true;
}

static void white_space(struct cursor *c)
{
	while (at(c, ' ') || at(c, '\t') || at(c, '\n') || at(c, '\r'))
		c->p++;
}

static bool literal(struct cursor *c, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(c->end - c->p) < n || memcmp(c->p, word, n) != 0)
		return false;
	c->p += n;
	return true;
}

/* At least one digit. */
static bool digits(struct cursor *c)
{
	const char *from = c->p;

	while (c->p < c->end && *c->p >= '0' && *c->p <= '9')
		c->p++;
	return c->p > from;
}

static bool number(struct cursor *c)
{
	take(c, '-');
	if (!take(c, '0') && !digits(c))
		return false;
	if (take(c, '.') && !digits(c))
		return false;
	if (take(c, 'e') || take(c, 'E')) {
		if (!take(c, '+'))
			take(c, '-');
		return digits(c);
	}
	return true;
}

static bool escape(struct cursor *c)
{
	uint8_t unit[2];
	char hex[5] = "";

	if (c->p < c->end && *c->p != '\0' && strchr("\"\\/bfnrt", *c->p)) {
		c->p++;
		return true;
	}
	if (!take(c, 'u') || c->end - c->p < 4)
		return false;
	memcpy(hex, c->p, 4);
	c->p += 4;
	return bytes_from_hex(hex, unit, 2) == 0 && (unit[0] || unit[1]);
}

static bool string(struct cursor *c)
{
	if (!take(c, '"'))
		return false;
	while (c->p < c->end && *c->p != '"') {
		unsigned char ch = (unsigned char)*c->p++;

		if (ch < ' ' || (ch == '\\' && !escape(c)))
			return false;
	}
	return take(c, '"');
}

static bool member(struct cursor *c)
{
	white_space(c);
	if (!string(c))
		return false;
	white_space(c);
	return take(c, ':') && value(c);
}

/* What stands between the brackets, and the closing one. */
static bool list(struct cursor *c, bool (*element)(struct cursor *), char close)
{
	bool ok;

	if (++c->depth > JSON_DEPTH_MAX)
		return false;
	white_space(c);
	ok = take(c, close);
	if (!ok) {
		do
			ok = element(c);
		while (ok && take(c, ','));
		ok = ok && take(c, close);
	}
	c->depth--;
	return ok;
}

/* A value with white space around it. A member ends with one, so lists need none before a comma. */
static bool value(struct cursor *c)
{
	bool ok;

	white_space(c);
	if (take(c, '{'))
		ok = list(c, member, '}');
	else if (take(c, '['))
		ok = list(c, value, ']');
	else if (at(c, '"'))
		ok = string(c);
	else
		ok = literal(c, "true") || literal(c, "false") || literal(c, "null") || number(c);
	white_space(c);
	return ok;
}

bool json_grammar_ok(const char *text, size_t len)
{
	struct cursor c = { .p = text, .end = text + len };

	return bytes_is_utf8((const uint8_t *)text, len) && value(&c) && c.p == c.end;
}
