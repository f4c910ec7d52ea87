/*
 * The configuration of one volume: $XDG_CONFIG_HOME/cachet/NAME.json. Nothing in it is secret: origin, store, key source
 * specification, limits, mount point. The state lives under an opaque id in $XDG_STATE_HOME/cachet/ID.
 *
 * Unknown members are refused with their name (a typo must not be a silent default).
 */
#ifndef CACHET_DAEMON_CONFIG_H
#define CACHET_DAEMON_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

#define CONFIG_NAME_DEFAULT "default"

struct config {
	char *name;
	char *id;          /* 32 hex digits: directory of the volume */
	char *origin;
	char *store;       /* or NULL */
	char *key_source;
	char *mountpoint;  /* default for `mount` and fstab, or NULL */
	char *ca_file;     /* or NULL */
	uint64_t limit_bytes;
	uint64_t deadline_ms;
};

/* NULL name: the only configuration there is, or "default"; CE_USAGE with a sentence when that is ambiguous. */
int config_load(const char *name, struct config **out, char **error) MUST_CHECK;
/* By the absolute path of a mount point or a path below it (looks at the control sockets of running daemons and at the configured mount points). */
int config_find(const char *path, struct config **out, char **error) MUST_CHECK;
int config_save(const struct config *c, char **error) MUST_CHECK;
void config_free(struct config *c);
/* Absolute directory of the volume, and of its control socket; the caller frees. */
int config_volume_dir(const struct config *c, char **out) MUST_CHECK;
int config_socket(const struct config *c, char **out) MUST_CHECK;

#endif
