/*
 * A secret of a person for the daemon, which has no terminal: through a FIFO beside the control
 * socket, which only this user can open. The request carries the FIFO's name, in `member`.
 */
#ifndef CACHET_CLI_HANDOVER_H
#define CACHET_CLI_HANDOVER_H

#include "base/secret.h"
#include "cli/target.h"

/* As target_ask of a daemon, by `request`, which gets the member. Nothing is left of the FIFO. */
int handover_ask(const struct command_common *common, const struct target *t, struct json *request,
	const char *member, const struct secret *secret, struct json **reply) MUST_CHECK;

#endif
