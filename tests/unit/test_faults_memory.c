/*
 * Goal: memory runs out at the first allocation, the second, ... of every story (faults/faults.h):
 * nothing is lost, nothing leaks, nothing is taken for damage. The linker sends the allocations of
 * our own folders here (--wrap), not those of the libraries.
 */
#include "faults/faults.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cjson/cJSON.h>
#include <sodium.h>

#define WRAP(type, name, params, args, bad)                                                        \
	type __real_##name params;                                                                 \
	type __wrap_##name params;                                                                 \
	type __wrap_##name params                                                                  \
	{                                                                                          \
		if (fault_due(#name)) {                                                            \
			errno = ENOMEM;                                                            \
			return bad;                                                                \
		}                                                                                  \
		return __real_##name args;                                                         \
	}

WRAP(void *, malloc, (size_t n), (n), NULL)
WRAP(void *, calloc, (size_t n, size_t size), (n, size), NULL)
WRAP(void *, realloc, (void *p, size_t n), (p, n), NULL)
WRAP(void *, reallocarray, (void *p, size_t n, size_t size), (p, n, size), NULL)
WRAP(char *, strdup, (const char *s), (s), NULL)
WRAP(char *, strndup, (const char *s, size_t n), (s, n), NULL)
WRAP(void *, sodium_malloc, (size_t n), (n), NULL)
WRAP(void *, mmap64, (void *p, size_t n, int prot, int flags, int fd, off_t off),
	(p, n, prot, flags, fd, off), MAP_FAILED)

int __real_vasprintf(char **out, const char *format, va_list args);
int __wrap_vasprintf(char **out, const char *format, va_list args);
int __wrap_vasprintf(char **out, const char *format, va_list args)
{
	if (!fault_due("vasprintf"))
		return __real_vasprintf(out, format, args);
	*out = (char *)1; /* undefined, says the manual */
	return -1;
}

int __wrap_asprintf(char **out, const char *format, ...);
int __wrap_asprintf(char **out, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = __wrap_vasprintf(out, format, args);
	va_end(args);
	return n;
}

/* With _FORTIFY_SOURCE. */
int __wrap___vasprintf_chk(char **out, int flag, const char *format, va_list args);
int __wrap___vasprintf_chk(char **out, int flag, const char *format, va_list args)
{
	return __wrap_vasprintf(out, format, args);
}

int __wrap___asprintf_chk(char **out, int flag, const char *format, ...);
int __wrap___asprintf_chk(char **out, int flag, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = __wrap_vasprintf(out, format, args);
	va_end(args);
	return n;
}

WRAP(cJSON *, cJSON_CreateArray, (void), (), NULL)
WRAP(cJSON *, cJSON_CreateObject, (void), (), NULL)
WRAP(cJSON *, cJSON_CreateNull, (void), (), NULL)
WRAP(cJSON *, cJSON_CreateBool, (cJSON_bool v), (v), NULL)
WRAP(cJSON *, cJSON_CreateNumber, (double v), (v), NULL)
WRAP(cJSON *, cJSON_CreateString, (const char *v), (v), NULL)
WRAP(cJSON *, cJSON_CreateRaw, (const char *v), (v), NULL)
WRAP(cJSON *, cJSON_Duplicate, (const cJSON *o, cJSON_bool deep), (o, deep), NULL)
WRAP(char *, cJSON_Print, (const cJSON *o), (o), NULL)
WRAP(char *, cJSON_PrintUnformatted, (const cJSON *o), (o), NULL)
WRAP(cJSON_bool, cJSON_AddItemToObject, (cJSON * o, const char *key, cJSON *item), (o, key, item),
	0)

int main(void)
{
	static const struct fault_kind kinds[] = { { .name = "ENOMEM" }, { 0 } };

	return faults_run("memory", kinds);
}
