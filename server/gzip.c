#include "server/gzip.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <zlib.h>

#define BLANK " \t"
#define LEVEL 1 /* already a quarter of a page of the feed; the others cost three times as much */
#define WINDOW (15 + 16) /* with the header and trailer of gzip */
#define MEMORY_LEVEL 8

/* "q=0", "q=0.0" and so on are a refusal; any other weight is consent. */
static bool weight_is_zero(const char *p, size_t len)
{
	if (len < 3 || strncasecmp(p, "q=0", 3) != 0)
		return false;
	for (size_t i = 3; i < len; i++)
		if (p[i] != '.' && p[i] != '0')
			return false;
	return true;
}

/* One element "CODING [; q=WEIGHT]" of `len` bytes: 1 takes it, 0 refuses it, -1 is of another. */
static int element(const char *p, size_t len, const char *coding)
{
	size_t name = strcspn(p, ";," BLANK), n = strlen(coding);
	const char *end = p + len, *q;

	if (name > len || name != n || strncasecmp(p, coding, n) != 0)
		return -1;
	q = memchr(p, ';', len);
	if (!q)
		return 1;
	q++;
	while (q < end && (*q == ' ' || *q == '\t'))
		q++;
	while (end > q && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	return !weight_is_zero(q, (size_t)(end - q));
}

static int find(const char *list, const char *coding)
{
	int found = -1;

	for (const char *p = list; *p && found < 0;) {
		size_t len;

		p += strspn(p, "," BLANK);
		len = strcspn(p, ",");
		found = len ? element(p, len, coding) : -1;
		p += len;
	}
	return found;
}

bool server_gzip_accepted(const char *accept_encoding)
{
	int r;

	if (!accept_encoding)
		return false;
	r = find(accept_encoding, "gzip");
	return (r < 0 ? find(accept_encoding, "*") : r) == 1;
}

int server_gzip_pack(struct buffer *text)
{
	z_stream z = { 0 };
	struct buffer out = { 0 };
	int r;

	if (text->len > UINT_MAX)
		return -EMSGSIZE;
	out.data = malloc(text->len);
	if (!out.data || deflateInit2(&z, LEVEL, Z_DEFLATED, WINDOW, MEMORY_LEVEL,
				 Z_DEFAULT_STRATEGY) != Z_OK) {
		buffer_done(&out);
		return -ENOMEM;
	}
	z.next_in = (Bytef *)text->data;
	z.avail_in = (uInt)text->len;
	z.next_out = (Bytef *)out.data;
	z.avail_out = (uInt)text->len - 1; /* the buffer's own NUL is behind */
	r = deflate(&z, Z_FINISH);
	out.len = z.total_out;
	out.cap = text->len;
	deflateEnd(&z);
	if (r != Z_STREAM_END) {
		buffer_done(&out);
		return -EMSGSIZE;
	}
	out.data[out.len] = 0;
	buffer_done(text);
	*text = out;
	return 0;
}
