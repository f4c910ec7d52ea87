/*
 * What the program frees is wiped, whoever frees it: itself, libcurl, libfuse, SQLite, libcrypto.
 * Content and names pass through all of them, and a core or the memory of a locked daemon is not to
 * have them (docs/threat-model.md).
 *
 * free and realloc of the C library are replaced by name (glibc manual, "Replacing malloc") and its
 * own do the work. A block that grows is copied rather than moved, since moving it frees the old
 * place inside the library. Not in builds with a sanitizer, which replace them likewise.
 */
#include <errno.h>
#include <malloc.h>
#include <string.h>

#include "base/macros.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

void __libc_free(void *p);
void *__libc_realloc(void *p, size_t len);

void free(void *p)
{
	int saved = errno;

	if (p)
		explicit_bzero(p, malloc_usable_size(p));
	__libc_free(p);
	errno = saved;
}

void *realloc(void *p, size_t len)
{
	size_t old = p ? malloc_usable_size(p) : 0;
	void *bigger;

	if (p && len && len <= old) {
		explicit_bzero((char *)p + len, old - len);
		return __libc_realloc(p, len);
	}
	if (p && !len) {
		free(p);
		return NULL;
	}
	bigger = malloc(len);
	if (bigger && p) {
		memcpy(bigger, p, old);
		free(p);
	}
	return bigger;
}

#endif
