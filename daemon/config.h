/*
 * The configuration of one volume: $XDG_CONFIG_HOME/cachet/NAME.json. Nothing in it is secret:
 * origin, store, key source specification, limits, mount point. The state lives under an opaque id
 * in $XDG_STATE_HOME/cachet/ID, the control socket in $XDG_RUNTIME_DIR/cachet/ID.sock.
 *
 * Unknown members are refused with their name (a typo must not be a silent default). Every *error
 * is a sentence for the user (the caller frees), set on failure unless memory is out. The file is
 * replaced whole: a crash leaves the old or the new one.
 *
 * Threads: any; a struct config belongs to one thread at a time.
 */
#ifndef CACHET_DAEMON_CONFIG_H
#define CACHET_DAEMON_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "cache/merge_rule.h"

#define CONFIG_NAME_DEFAULT "default"
#define CONFIG_REKEY_DAYS_MAX 36500
#define CONFIG_SCRUB_RATE_MAX UINT64_C(1000000000)

struct config {
	char *name;
	char *id; /* 32 hex digits: directory of the volume */
	char *origin;
	char *store; /* or NULL: all */
	char *key_source;
	char *mountpoint;      /* default for `mount` and fstab, or NULL */
	char *ca_file;         /* or NULL */
	bool replace_lost;     /* a volume whose key is lost is replaced without asking */
	bool allow_raw_kek;    /* development: a server may send its key unwrapped */
	char *trust_check;     /* command: is this machine trusted? or NULL (daemon/memory.h) */
	char *freshness;       /* rules (sync/freshness.h), or NULL */
	char *no_download;     /* names of programs, separated by commas, or NULL (fs/refuse.c) */
	bool strict;           /* not of the file: given at mount, as the next */
	uint64_t max_stale_ms; /* 0 = none */
	char *lock_on;         /* screen,sleep; or NULL (daemon/session.h) */
	char *volume_dir;      /* not of the file: where a memory-only mount is (daemon/memory.h) */
	uint64_t limit_bytes;  /* 0 = default */
	uint64_t deadline_ms;  /* 0 = default */
	uint64_t scrub_rate;   /* bytes a second verified in the background; 0 = none */
	uint64_t upload_rate, download_rate; /* bytes a second; 0 = no bound */
	uint64_t rekey_days;          /* age at which the keys inside are replaced; 0 = never */
	struct merge_rules conflicts; /* what becomes of two versions of one file */
	uint64_t lock_idle_ms;        /* lock when nothing was asked for so long; 0 = never */
};

/* CE_USAGE unless `name` can be a file name here and a word on a command line. */
int config_check_name(const char *name, char **error) MUST_CHECK;
/* NULL name: the one named "default", or the only one there is; CE_USAGE with a sentence when that
 * is ambiguous. */
int config_load(const char *name, struct config **out, char **error) MUST_CHECK;
/*
 * By the absolute path of a mount point or a path below it: the mount points of running daemons
 * first, then the configured ones. *mountpoint (may be NULL; the caller frees) is the one it lies
 * under.
 */
int config_find(const char *path, struct config **out, char **mountpoint, char **error) MUST_CHECK;
int config_save(const struct config *c, char **error) MUST_CHECK;
int config_remove(const char *name) MUST_CHECK;
void config_free(struct config *c);
void config_freep(struct config **c);

/* Names of all configurations, sorted; the caller frees with config_names_free. */
int config_names(char ***out, size_t *n) MUST_CHECK;
void config_names_free(char **names, size_t n);

/* Absolute directory of the volume, and of its control socket; the caller frees. */
int config_volume_dir(const struct config *c, char **out) MUST_CHECK;
int config_socket(const struct config *c, char **out) MUST_CHECK;

#endif
