/* Between config.c and config_find.c. */
#ifndef CACHET_DAEMON_CONFIG_PRIV_H
#define CACHET_DAEMON_CONFIG_PRIV_H

#include "daemon/config.h"

/* The configuration of that name; CE_USAGE when there is none. */
int config_read(const char *name, struct config **out, char **error) MUST_CHECK;

/* Sets *error (an earlier text is freed) and returns `code`. */
int config_say(char **error, int code, const char *fmt, ...) MUST_CHECK PRINTF_LIKE(3, 4);

#endif
