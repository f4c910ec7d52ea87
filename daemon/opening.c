#include "daemon/opening.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "daemon/config_priv.h"

#define HOST_MAX 32

/* The host's name as part of a file name: letters, digits, '-'. */
static void host_name(char out[static HOST_MAX + 1])
{
	char host[256] = "";

	if (gethostname(host, sizeof(host) - 1) < 0 || !host[0])
		strcpy(host, "here");
	snprintf(out, HOST_MAX + 1, "%.*s", HOST_MAX, host);
	out[strcspn(out, ".")] = '\0';
	for (char *p = out; *p; p++)
		if (!isalnum((unsigned char)*p) && *p != '-')
			*p = '-';
}

int opening_volume(
	const struct config *c, const struct secret *kek, struct volume **out, char **error)
{
	_cleanup_free_ char *dir = NULL;
	char host[HOST_MAX + 1];
	struct volume_options o = {
		.key_source = c->key_source,
		.limit_bytes = c->limit_bytes,
		.uid = getuid(),
		.gid = getgid(),
		.host = host,
		.kek = kek,
	};
	int r = config_volume_dir(c, &dir);

	if (r)
		return config_say(
			error, r, "the state directory cannot be used: %s", error_text(r));
	host_name(host);
	o.dir = dir;
	r = volume_open(&o, out, error);
	if (r == -ENOENT && !*error)
		return config_say(error, r,
			"the volume '%s' has no data at %s; restore it, or remove the "
			"configuration and run "
			"`cachet init` again",
			c->name, dir);
	if (r && !*error)
		return config_say(
			error, r, "the volume '%s' cannot be opened: %s", c->name, error_text(r));
	return r;
}

int opening_sync(
	const struct config *c, struct volume *v, bool offline, struct sync **out, char **error)
{
	_cleanup_secret_ struct secret *token = NULL;
	struct sync_options o = {
		.volume = v,
		.origin = c->origin,
		.ca_file = c->ca_file,
		.offline = offline,
	};
	int r = volume_token(v, &token);

	if (r)
		return config_say(
			error, r, "the token cannot be read from the volume: %s", error_text(r));
	o.token = steal_ptr(&token);
	r = sync_new(&o, out, error);
	if (r)
		secret_free(o.token);
	if (r && !*error)
		return config_say(error, r, "the connection cannot be set up: %s", error_text(r));
	return r;
}
