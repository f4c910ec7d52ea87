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

int opening_carry(const struct config *c, struct carry **out, char **error)
{
	int r;

	*out = NULL;
	if (!volume_needs_server(c->key_source))
		return 0;
	r = carry_new(c->origin, c->ca_file, c->allow_raw_kek, out, error);
	return r && !*error
		       ? config_say(error, r, "the connection cannot be set up: %s", error_text(r))
		       : r;
}

int opening_volume(const struct config *c, const struct secret *kek, enum opening_how how,
	struct volume **out, char **error)
{
	_cleanup_(carry_freep) struct carry *carry = NULL;
	_cleanup_free_ char *dir = NULL;
	char host[HOST_MAX + 1];
	struct volume_options o = {
		.key_source = c->key_source,
		.limit_bytes = c->limit_bytes,
		.scrub_rate = c->scrub_rate,
		.rekey_days = c->volume_dir ? 0 : c->rekey_days,
		.uid = getuid(),
		.gid = getgid(),
		.host = host,
		.rules = &c->conflicts,
		.kek = kek,
		.lease_first = how == OPENING_IF_NEEDED,
	};
	int r = config_volume_dir(c, &dir);

	if (r)
		return config_say(
			error, r, "the state directory cannot be used: %s", error_text(r));
	if (how != OPENING_OFFLINE)
		r = opening_carry(c, &carry, error);
	if (r)
		return r;
	if (carry)
		o.link = carry_link(carry);
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

int opening_unlock(const struct config *c, const struct secret *secret, bool offline,
	struct volume *v, char **error)
{
	_cleanup_(carry_freep) struct carry *carry = NULL;
	struct volume_options o = { .key_source = c->key_source, .secret = secret };
	int r = offline ? 0 : opening_carry(c, &carry, error);

	if (r)
		return r;
	if (carry)
		o.link = carry_link(carry);
	r = volume_unlock(v, &o, error);
	if (r && !*error)
		return config_say(
			error, r, "the volume '%s' cannot be unlocked: %s", c->name, error_text(r));
	return r;
}

int opening_sync(const struct config *c, struct volume *v, const struct opening_sync_options *how,
	struct sync **out, char **error)
{
	_cleanup_secret_ struct secret *token = NULL;
	struct sync_options o = {
		.volume = v,
		.origin = c->origin,
		.ca_file = c->ca_file,
		.offline = how->offline,
		.allow_raw_kek = c->allow_raw_kek,
		.upload_rate = c->upload_rate,
		.download_rate = c->download_rate,
		.freshness = c->freshness,
		.strict = c->strict,
		.max_stale_ms = c->max_stale_ms,
		.on_keys = how->on_keys,
		.on_keys_arg = how->arg,
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
