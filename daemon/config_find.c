/* Which configuration is meant: by name, by being the only one, or by a path. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/io.h"
#include "daemon/config_priv.h"
#include "daemon/control.h"

#define PING_TIMEOUT_MS 2000
#define SUFFIX ".json"

void config_names_free(char **names, size_t n)
{
	for (size_t i = 0; names && i < n; i++)
		free(names[i]);
	free(names);
}

static int is_config(const struct dirent *e)
{
	size_t len = strlen(e->d_name);

	return e->d_name[0] != '.' && len > strlen(SUFFIX) &&
	       !strcmp(e->d_name + len - strlen(SUFFIX), SUFFIX);
}

int config_names(char ***out, size_t *n)
{
	_cleanup_free_ char *dir = NULL;
	struct dirent **entries;
	char **names;
	int count, r = io_dir_config(&dir);

	if (r)
		return r;
	count = scandir(dir, &entries, is_config, alphasort);
	if (count < 0)
		return -errno;
	names = calloc((size_t)count + 1, sizeof(*names));
	for (int i = 0; i < count; i++) {
		if (names) {
			names[i] = strndup(
				entries[i]->d_name, strlen(entries[i]->d_name) - strlen(SUFFIX));
			if (!names[i])
				r = -ENOMEM;
		}
		free(entries[i]);
	}
	free(entries);
	if (!names || r) {
		config_names_free(names, (size_t)count);
		return -ENOMEM;
	}
	*out = names;
	*n = (size_t)count;
	return 0;
}

static int pick(char **names, size_t n, struct config **out, char **error)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(names[i], CONFIG_NAME_DEFAULT))
			return config_read(names[i], out, error);
	if (!n)
		return config_say(
			error, CE_USAGE, "no volume is configured; `cachet init URL` makes one");
	if (n > 1)
		return config_say(error, CE_USAGE,
			"there are %zu volumes and none is named '%s': say which (`cachet status "
			"--all` lists them)",
			n, CONFIG_NAME_DEFAULT);
	return config_read(names[0], out, error);
}

int config_load(const char *name, struct config **out, char **error)
{
	char **names = NULL;
	size_t n = 0;
	int r;

	if (name)
		return config_read(name, out, error);
	r = config_names(&names, &n);
	if (r)
		return config_say(
			error, r, "the configuration directory cannot be read: %s", error_text(r));
	r = pick(names, n, out, error);
	config_names_free(names, n);
	return r;
}

/* How much of `path` the directory `dir` covers: its length, 0 if it is not above it. */
static size_t covers(const char *dir, const char *path)
{
	size_t len = strlen(dir);

	while (len > 1 && dir[len - 1] == '/')
		len--;
	if (strncmp(dir, path, len) != 0)
		return 0;
	return len == 1 || path[len] == '/' || !path[len] ? len : 0;
}

/* Where the daemon of `c` has it mounted; NULL when none runs. */
static char *running_mountpoint(const struct config *c)
{
	_cleanup_json_ struct json *ping = json_new_object(), *reply = NULL;
	_cleanup_free_ char *socket = NULL;
	const char *mountpoint;

	json_set_string(ping, "do", "ping");
	if (config_socket(c, &socket) || control_call(socket, ping, PING_TIMEOUT_MS, &reply))
		return NULL;
	return json_get_string(reply, "mountpoint", &mountpoint) ? NULL : strdup(mountpoint);
}

struct best {
	struct config *config;
	char *mountpoint;
	size_t len;
	bool running;
};

/* A running mount wins over a configured place, a deeper one over one above it. Takes both. */
static void consider(
	struct best *b, struct config *c, char *mountpoint, bool running, const char *path)
{
	size_t len = mountpoint ? covers(mountpoint, path) : 0;

	if (len && (len > b->len || (len == b->len && running && !b->running))) {
		config_free(b->config);
		free(b->mountpoint);
		*b = (struct best){ c, mountpoint, len, running };
		return;
	}
	config_free(c);
	free(mountpoint);
}

static void consider_name(struct best *b, const char *name, const char *path)
{
	_cleanup_free_ char *ignored = NULL;
	struct config *c;
	char *mountpoint;

	/* One broken file must not hide the volumes beside it. */
	if (config_read(name, &c, &ignored))
		return;
	mountpoint = running_mountpoint(c);
	if (mountpoint)
		consider(b, c, mountpoint, true, path);
	else
		consider(b, c, c->mountpoint ? strdup(c->mountpoint) : NULL, false, path);
}

int config_find(const char *path, struct config **out, char **mountpoint, char **error)
{
	struct best best = { 0 };
	char **names = NULL;
	size_t n = 0;
	int r = config_names(&names, &n);

	if (r)
		return config_say(
			error, r, "the configuration directory cannot be read: %s", error_text(r));
	for (size_t i = 0; i < n; i++)
		consider_name(&best, names[i], path);
	config_names_free(names, n);
	if (!best.config)
		return config_say(error, CE_USAGE,
			"no volume of yours is mounted at or above that path; `cachet status "
			"--all` lists them");
	if (mountpoint)
		*mountpoint = steal_ptr(&best.mountpoint);
	free(best.mountpoint);
	*out = best.config;
	return 0;
}
