#include "daemon/exit_code.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/macros.h"

static const char *const names[EXIT_CODE_END] = {
	[EXIT_CODE_OK] = "ok",
	[EXIT_CODE_FAILED] = "failed",
	[EXIT_CODE_USAGE] = "usage",
	[EXIT_CODE_NOT_MOUNTED] = "not-mounted",
	[EXIT_CODE_OFFLINE] = "offline",
	[EXIT_CODE_AUTH] = "auth",
	[EXIT_CODE_KEY] = "key",
	[EXIT_CODE_DAMAGED] = "damaged",
	[EXIT_CODE_IN_USE] = "in-use",
	[EXIT_CODE_PENDING] = "pending",
	[EXIT_CODE_TIMEOUT] = "timeout",
};

static const struct {
	int error;
	enum exit_code code;
} map[] = {
	{ 0, EXIT_CODE_OK },
	{ CE_TAMPER, EXIT_CODE_DAMAGED },
	{ CE_CORRUPT, EXIT_CODE_DAMAGED },
	{ CE_FORMAT, EXIT_CODE_DAMAGED },
	{ CE_WRONG_KEY, EXIT_CODE_KEY },
	{ CE_LOCKED, EXIT_CODE_KEY },
	{ CE_REVOKED, EXIT_CODE_KEY },
	{ CE_UNTRUSTED, EXIT_CODE_KEY },
	{ CE_OFFLINE, EXIT_CODE_OFFLINE },
	{ CE_ABSENT, EXIT_CODE_OFFLINE },
	{ CE_AUTH, EXIT_CODE_AUTH },
	{ CE_HELD, EXIT_CODE_PENDING },
	{ CE_CONFLICT, EXIT_CODE_PENDING },
	{ -EAGAIN, EXIT_CODE_PENDING },
	{ CE_INUSE, EXIT_CODE_IN_USE },
	{ -EBUSY, EXIT_CODE_IN_USE },
	{ -EADDRINUSE, EXIT_CODE_IN_USE },
	{ CE_USAGE, EXIT_CODE_USAGE },
	{ -ETIMEDOUT, EXIT_CODE_TIMEOUT },
};

enum exit_code exit_code_of(int error)
{
	for (size_t i = 0; i < ARRAY_SIZE(map); i++)
		if (map[i].error == error)
			return map[i].code;
	return EXIT_CODE_FAILED;
}

const char *exit_code_name(enum exit_code code)
{
	return code < EXIT_CODE_END ? names[code] : names[EXIT_CODE_FAILED];
}

enum exit_code exit_code_by_name(const char *name)
{
	for (int i = 0; i < EXIT_CODE_END; i++)
		if (!strcmp(names[i], name))
			return (enum exit_code)i;
	return EXIT_CODE_FAILED;
}
