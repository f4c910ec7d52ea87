/*
 * How a verb ended: the exit codes of the program and their names on the control socket. A stable
 * interface (man cachet): scripts may rely on the numbers and on the names.
 */
#ifndef CACHET_DAEMON_EXIT_CODE_H
#define CACHET_DAEMON_EXIT_CODE_H

enum exit_code {
	EXIT_CODE_OK = 0,
	EXIT_CODE_FAILED = 1,      /* the operation failed; the message says why */
	EXIT_CODE_USAGE = 2,       /* wrong flag, argument or configuration */
	EXIT_CODE_NOT_MOUNTED = 3, /* no daemon serves this volume */
	EXIT_CODE_OFFLINE = 4,     /* the origin cannot be reached */
	EXIT_CODE_AUTH = 5,        /* the origin refused the credentials */
	EXIT_CODE_KEY = 6,         /* wrong or missing key */
	EXIT_CODE_DAMAGED = 7,     /* index, keyring or content fails authentication */
	EXIT_CODE_IN_USE = 8,      /* another process has the volume, or the mount point is taken */
	EXIT_CODE_PENDING = 9,     /* work is left: unsent, refused, held or in conflict */
	EXIT_CODE_TIMEOUT = 10,
	EXIT_CODE_END
};

/* The exit code for a code of base/error.h (0 or negative). */
enum exit_code exit_code_of(int error);

/* "offline", "damaged" ... and back; an unknown name is EXIT_CODE_FAILED. */
const char *exit_code_name(enum exit_code code);
enum exit_code exit_code_by_name(const char *name);

#endif
