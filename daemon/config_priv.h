/* Between config*.c. */
#ifndef CACHET_DAEMON_CONFIG_PRIV_H
#define CACHET_DAEMON_CONFIG_PRIV_H

#include "base/json.h"
#include "daemon/config.h"

/* The configuration of that name; CE_USAGE when there is none. */
int config_read(const char *name, struct config **out, char **error) MUST_CHECK;

/* Sets *error (an earlier text is freed) and returns `code`. */
int config_say(char **error, int code, const char *fmt, ...) MUST_CHECK PRINTF_LIKE(3, 4);

/* config_rules.c: the rules about conflicts; `o` is the configuration. */
int config_rules_read(
	const struct json *o, const char *key, struct config *c, char **error) MUST_CHECK;
void config_rules_write(struct json *o, const char *key, const struct merge_rules *rules);

#endif
