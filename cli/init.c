/*
 * What init makes, in this order: key, volume, mount point, configuration. The configuration comes
 * last: until it is there nothing is, and a failure (or a kill) before leaves at most a directory
 * and a key that nobody refers to. unwind() takes away what this run made and nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"
#include "base/secret.h"
#include "cache/rekey.h"
#include "cache/volume.h"
#include "cli/commands.h"
#include "cli/target.h"
#include "cli/token.h"
#include "crypto/keysource.h"
#include "daemon/config.h"
#include "daemon/opening.h"
#include "sync/sync.h"

#define PROBE_MS 5000
#define PROBE_STEP_US 50000
#define FILE_SOURCE "file:"

struct args {
	struct command_common common;
	const char *name, *store, *key, *token_file, *mountpoint, *ca_file, *lock_on;
	uint64_t cache_bytes, deadline_ms, lock_idle_ms;
	bool no_check;
};

static const struct option_def options[] = {
	{ "name", 'n', OPTION_STRING, offsetof(struct args, name), .arg = "NAME",
		.help = "name of the volume on command lines (default: default)" },
	{ "store", 's', OPTION_STRING, offsetof(struct args, store), .arg = "STORE",
		.help = "mount only this store of the origin (default: all, one directory each)" },
	{ "key", 'k', OPTION_STRING, offsetof(struct args, key), .arg = "SPEC",
		.help = "key source: server[:SPEC], file:PATH, passphrase:, command:COMMAND, "
			"secret-service:NAME, systemd-creds:NAME or kernel:NAME" },
	{ "token-file", 0, OPTION_STRING, offsetof(struct args, token_file), .arg = "FILE",
		.help = "read the bearer token from FILE, or from standard input if -" },
	{ "cache-size", 0, OPTION_BYTES, offsetof(struct args, cache_bytes),
		.min = VOLUME_LIMIT_MIN_BYTES, .arg = "SIZE",
		.help = "bound of all that is kept on this disk (default: 500MB)" },
	{ "deadline", 0, OPTION_DURATION, offsetof(struct args, deadline_ms), .min = 100,
		.max = 3600000, .arg = "TIME",
		.help = "longest wait for content that is not here (default: 30s)" },
	{ "lock-idle", 0, OPTION_DURATION, offsetof(struct args, lock_idle_ms), .min = 1000,
		.max = 86400000, .arg = "TIME",
		.help = "lock the volume when nothing was asked of it for so long (default: "
			"never)" },
	{ "lock-on", 0, OPTION_STRING, offsetof(struct args, lock_on), .arg = "LIST",
		.help = "lock the volume when the screen is locked, before the machine sleeps: "
			"screen, sleep or screen,sleep (default: neither)" },
	{ "mountpoint", 'm', OPTION_STRING, offsetof(struct args, mountpoint), .arg = "DIR",
		.help = "where `cachet mount NAME` mounts it; made if missing" },
	{ "ca-file", 0, OPTION_STRING, offsetof(struct args, ca_file), .arg = "FILE",
		.help = "trust these certificates (PEM) instead of the system's" },
	{ "no-check", 0, OPTION_FLAG, offsetof(struct args, no_check),
		.help = "do not try whether the origin answers and takes the token" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_init = {
	.name = "init",
	.usage = "[OPTIONS] URL",
	.summary = "Make a volume: the sealed local copy of what a server keeps",
	.details = "URL is the origin, https://HOST[:PORT] (http:// only on this machine). The "
		   "token is asked on the\n"
		   "terminal unless --token-file is given; it is kept sealed in the volume.\n\n"
		   "The key source opens the volume. Default: "
		   "file:$XDG_CONFIG_HOME/cachet/NAME.key, made if missing.\n"
		   "A plain file is the weakest source: who reads it opens the volume. passphrase: "
		   "asks at each mount;\n"
		   "command:COMMAND takes the standard output of a program, for example of a "
		   "password store;\n"
		   "secret-service:NAME keeps it in the desktop's key ring; systemd-creds:NAME is "
		   "file NAME in\n"
		   "$CREDENTIALS_DIRECTORY; kernel:NAME is a key of type user in the kernel's user "
		   "keyring: these two must\n"
		   "be there, the one of the kernel after each restart. server: the\n"
		   "server holds the key and this machine is enrolled there; the source behind it "
		   "(default: the file) keeps\n"
		   "the device secret. The owner of the server can revoke the machine.\n\n"
		   "Exit codes: 4 the origin did not answer in a usable way, 5 it refuses the "
		   "token. Nothing is left\n"
		   "behind after a failure. An origin that cannot be reached now is no failure.\n",
	.options = options,
	.run = run,
};

/* What this run made. */
struct made {
	char *volume_dir, *key_file, *mountpoint;
};

struct init {
	const struct args *args;
	struct config *config;
	struct made made;
	struct secret *kek;
	char *error;
	const char *note; /* about the origin */
};

static int say(struct init *in, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

static int say(struct init *in, int code, const char *fmt, ...)
{
	va_list list;
	char *text;
	int n;

	va_start(list, fmt);
	n = bytes_vprint(&text, fmt, list);
	va_end(list);
	if (n < 0)
		return -ENOMEM;
	free(in->error);
	in->error = text;
	return code;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *where)
{
	/* If one stays the rest goes all the same: it is sealed and belongs to nobody. */
	(void)remove(path);
	return 0;
}

static void unwind(struct made *m)
{
	if (m->volume_dir)
		nftw(m->volume_dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	if (m->key_file)
		unlink(m->key_file);
	if (m->mountpoint)
		rmdir(m->mountpoint);
}

static void init_done(struct init *in)
{
	config_free(in->config);
	free(in->made.volume_dir);
	free(in->made.key_file);
	free(in->made.mountpoint);
	secret_free(in->kek);
	free(in->error);
}

static int refuse_existing(struct init *in, const char *name)
{
	char **names;
	size_t n;
	bool exists = false;
	int r = config_check_name(name, &in->error);

	if (!r)
		r = config_names(&names, &n);
	if (r)
		return r;
	for (size_t i = 0; i < n; i++)
		exists = exists || !strcmp(names[i], name);
	config_names_free(names, n);
	if (exists)
		return say(in, CE_USAGE,
			"there is a volume named '%s' already; give another name with --name",
			name);
	return 0;
}

static int copy(const char *text, char **out)
{
	if (!text)
		return 0;
	*out = strdup(text);
	return *out ? 0 : -ENOMEM;
}

/* The daemon works in /: a file named relative to here is made absolute. */
static int key_spec(struct init *in, const char *name, char **out)
{
	_cleanup_free_ char *dir = NULL, *path = NULL;
	const char *spec = in->args->key, *local = spec;
	bool server = spec && keysource_is_server(spec, &local);
	int r;

	if (server || (spec && !strcmp(spec, "server"))) {
		server = true;
		spec = spec[strlen("server")] && *local ? local : NULL;
	}
	if (spec && strncmp(spec, FILE_SOURCE, strlen(FILE_SOURCE)) != 0)
		return bytes_print(out, "%s%s", server ? "server:" : "", spec);
	if (spec && !spec[strlen(FILE_SOURCE)])
		return say(in, CE_USAGE, "--key file: needs a path: file:PATH");
	r = spec ? target_absolute(spec + strlen(FILE_SOURCE), &path) : io_dir_config(&dir);
	if (r)
		return r;
	if (!spec && bytes_print(&path, "%s/%s.key", dir, name))
		return -ENOMEM;
	return bytes_print(out, "%s%s%s", server ? "server:" : "", FILE_SOURCE, path);
}

static int fill_config(struct init *in, const char *url)
{
	const struct args *a = in->args;
	struct config *c = in->config;
	uint8_t id[16];
	int r;

	c->id = malloc(2 * sizeof(id) + 1);
	if (!c->id)
		return -ENOMEM;
	secret_random(id, sizeof(id));
	bytes_to_hex(id, sizeof(id), c->id);
	c->limit_bytes = a->cache_bytes ? a->cache_bytes : VOLUME_LIMIT_DEFAULT_BYTES;
	c->deadline_ms = a->deadline_ms;
	c->lock_idle_ms = a->lock_idle_ms;
	c->rekey_days = REKEY_DAYS_DEFAULT;
	r = copy(a->name ? a->name : CONFIG_NAME_DEFAULT, &c->name);
	if (!r)
		r = copy(url, &c->origin);
	if (!r)
		r = copy(a->store, &c->store);
	if (!r)
		r = copy(a->lock_on, &c->lock_on);
	if (!r && a->mountpoint)
		r = target_absolute(a->mountpoint, &c->mountpoint);
	if (!r && a->ca_file)
		r = target_absolute(a->ca_file, &c->ca_file);
	if (!r)
		r = key_spec(in, c->name, &c->key_source);
	return r;
}

static int check_config(struct init *in)
{
	const struct config *c = in->config;
	int r = keysource_check(c->key_source, &in->error);

	if (r)
		return r;
	if (strncmp(c->origin, "https://", 8) != 0 && strncmp(c->origin, "http://", 7) != 0)
		return say(in, CE_USAGE,
			"'%.128s' is not the URL of a server: it begins with https:// (or http:// "
			"on this machine)",
			c->origin);
	if (c->ca_file && access(c->ca_file, R_OK) < 0)
		return say(in, CE_USAGE, "the certificates %s cannot be read: %s", c->ca_file,
			strerror(errno));
	return 0;
}

/* Remembers the key file as ours if it is not there yet. */
static int note_key_file(struct init *in)
{
	const char *spec;

	(void)keysource_is_server(in->config->key_source, &spec);
	if (strncmp(spec, FILE_SOURCE, strlen(FILE_SOURCE)) != 0)
		return 0;
	spec += strlen(FILE_SOURCE);
	return access(spec, F_OK) < 0 && errno == ENOENT ? copy(spec, &in->made.key_file) : 0;
}

static int make_volume(struct init *in, const struct secret *token)
{
	struct volume_create_options o = {
		.key_source = in->config->key_source,
		.origin = in->config->origin,
		.store = in->config->store,
		.token = token,
		.kek = &in->kek,
	};
	_cleanup_(carry_freep) struct carry *carry = NULL;
	int r = note_key_file(in);

	if (!r)
		r = opening_carry(in->config, &carry, &in->error);
	if (!r && carry)
		o.link = carry_link(carry);
	if (!r)
		r = config_volume_dir(in->config, &in->made.volume_dir);
	if (r)
		return r;
	o.dir = in->made.volume_dir;
	r = volume_create(&o, &in->error);
	if (r && !in->error)
		return say(in, r, "the volume cannot be made: %s", error_text(r));
	return r;
}

static void wait_contact(struct sync *s, struct sync_status *status)
{
	int64_t end_ms = clock_boot_ms() + PROBE_MS;

	do {
		usleep(PROBE_STEP_US);
		sync_status(s, status);
	} while (!status->last_contact_ns && !status->last_error &&
		 status->state != SYNC_AUTH_NEEDED && clock_boot_ms() < end_ms);
}

static int judge_contact(struct init *in, const struct sync_status *s)
{
	if (s->state == SYNC_AUTH_NEEDED || s->last_error == CE_AUTH)
		return say(in, CE_AUTH,
			"%s refuses the token; get another one from its administrator",
			in->config->origin);
	if (s->last_error == CE_PROTOCOL)
		return say(in, CE_OFFLINE, "what answers at %s is not a records server: %s",
			in->config->origin, s->last_error_text);
	in->note = s->last_contact_ns
			   ? "the origin answers and takes the token"
			   : "the origin cannot be reached now; it is tried again while mounted";
	return 0;
}

static int try_origin(struct init *in, struct sync *s)
{
	struct sync_status status = { 0 };
	int r;

	if (in->args->no_check)
		return 0;
	r = sync_start(s);
	if (r)
		return r;
	wait_contact(s, &status);
	/* Once the names are known the first mount may be offline; a store too large for that is
	 * listed then. */
	if (status.last_contact_ns)
		(void)!sync_wait_listed(s, PROBE_MS, NULL);
	sync_stop(s);
	return judge_contact(in, &status);
}

/* Opens what was made, as a mount will, and asks the origin once. */
static int try_volume(struct init *in)
{
	const struct opening_sync_options how = { 0 };
	struct volume *v;
	struct sync *s;
	int r = opening_volume(in->config, in->kek, OPENING_ASK, &v, &in->error);

	if (r)
		return r;
	r = opening_sync(in->config, v, &how, &s, &in->error);
	if (!r) {
		r = try_origin(in, s);
		sync_free(s);
	}
	volume_close(v);
	return r;
}

static int make_mountpoint(struct init *in)
{
	const char *path = in->config->mountpoint;
	struct stat st;
	int r;

	if (!path)
		return 0;
	if (stat(path, &st) == 0)
		return S_ISDIR(st.st_mode)
			       ? 0
			       : say(in, CE_USAGE,
					 "the mount point %s is not a directory; name another",
					 path);
	r = io_mkdir_p(path, 0700);
	if (r)
		return say(in, r, "the mount point %s cannot be made: %s", path, error_text(r));
	return copy(path, &in->made.mountpoint);
}

static int make_all(struct init *in, const char *url)
{
	_cleanup_secret_ struct secret *token = NULL;
	int r = refuse_existing(in, in->args->name ? in->args->name : CONFIG_NAME_DEFAULT);

	if (!r)
		r = fill_config(in, url);
	if (!r)
		r = check_config(in);
	if (!r)
		r = token_read("token", in->args->token_file, &token, &in->error);
	if (!r)
		r = make_volume(in, token);
	if (!r)
		r = try_volume(in);
	if (!r)
		r = make_mountpoint(in);
	return r ? r : config_save(in->config, &in->error);
}

static void print(const struct init *in)
{
	const struct config *c = in->config;
	const char *local;

	if (in->args->common.json) {
		_cleanup_json_ struct json *o = json_new_object();
		_cleanup_free_ char *text = NULL;

		json_set_bool(o, "ok", true);
		json_set_string(o, "name", c->name);
		json_set_string(o, "id", c->id);
		json_set_string(o, "key_source", c->key_source);
		json_set_string(o, "note", in->note);
		if (!json_print(o, true, &text))
			printf("%s\n", text);
		return;
	}
	printf("made the volume '%s' for %s\n", c->name, c->origin);
	if (in->note)
		printf("note: %s\n", in->note);
	if (keysource_is_server(c->key_source, &local))
		printf("note: the server holds the key; the device secret is %s\n", local);
	else if (!strncmp(c->key_source, FILE_SOURCE, strlen(FILE_SOURCE)))
		printf("note: its key is the plain file %s, the weakest key source:\n"
		       "      who reads that file opens the volume, who loses it loses unsent "
		       "work; keep a copy\n",
			c->key_source + strlen(FILE_SOURCE));
	printf("next: cachet mount %s%s\n", c->name, c->mountpoint ? "" : " MOUNTPOINT");
}

static int run(int argc, char **argv)
{
	struct args args = { 0 };
	struct init in = { .args = &args };
	int first, r = command_parse(&command_init, &args, argc, argv, 1, 1, &first);

	if (r != COMMAND_GO)
		return r;
	in.config = calloc(1, sizeof(*in.config));
	r = in.config ? make_all(&in, argv[first]) : -ENOMEM;
	if (r) {
		unwind(&in.made);
		r = command_fail(
			&args.common, exit_code_of(r), "%s", in.error ? in.error : error_text(r));
	} else {
		print(&in);
	}
	init_done(&in);
	return r;
}
