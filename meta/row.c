#include "meta/row.h"

#include <string.h>

bool row_filename_set(struct row_filename *f, const void *bytes, size_t len)
{
	const char *p = bytes;

	if (len == 0 || len > ROW_NAME_MAX || memchr(p, '/', len) || memchr(p, 0, len))
		return false;
	if (p[0] == '.' && (len == 1 || (len == 2 && p[1] == '.')))
		return false;
	memcpy(f->bytes, p, len);
	f->bytes[len] = 0;
	f->len = (uint16_t)len;
	return true;
}
