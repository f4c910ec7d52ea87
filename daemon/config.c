/*
 * A configuration is one small JSON file; see config.h. Everything a person may type by hand is
 * checked when it is read, with the member named in the sentence.
 */
#include "daemon/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/io.h"
#include "base/json.h"
#include "cache/rekey.h"
#include "daemon/config_priv.h"
#include "sync/freshness.h"
#include "sync/sync.h"
#include "daemon/session.h"

#define CONFIG_MAX_BYTES 65536
#define CONFIG_NAME_MAX 64
#define CONFIG_DEADLINE_MAX_MS 3600000

int config_say(char **error, int code, const char *fmt, ...)
{
	va_list args;
	char *text;
	int r;

	va_start(args, fmt);
	r = bytes_vprint(&text, fmt, args);
	va_end(args);
	if (r)
		return r;
	free(*error);
	*error = text;
	return code;
}

void config_free(struct config *c)
{
	if (!c)
		return;
	free(c->name);
	free(c->id);
	free(c->origin);
	free(c->store);
	free(c->key_source);
	free(c->mountpoint);
	free(c->ca_file);
	free(c->trust_check);
	free(c->freshness);
	free(c->no_download);
	free(c->lock_on);
	free(c->volume_dir);
	merge_rules_done(&c->conflicts);
	free(c);
}

void config_freep(struct config **c)
{
	config_free(*c);
}

int config_check_name(const char *name, char **error)
{
	size_t len = strlen(name);

	if (len && len <= CONFIG_NAME_MAX && name[0] != '.' && name[0] != '-' &&
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
			len)
		return 0;
	return config_say(error, CE_USAGE,
		"'%.64s' cannot be the name of a volume: use up to %d letters, digits, '.', '_' "
		"and '-', "
		"beginning with a letter or digit",
		name, CONFIG_NAME_MAX);
}

/* The members of the file, in the order they are written. */
enum member_type { MEMBER_TEXT, MEMBER_TEXT_OPTIONAL, MEMBER_NUMBER, MEMBER_FLAG, MEMBER_RULES };

static const struct member {
	const char *key;
	enum member_type type;
	size_t offset;
} members[] = {
	{ "id", MEMBER_TEXT, offsetof(struct config, id) },
	{ "origin", MEMBER_TEXT, offsetof(struct config, origin) },
	{ "store", MEMBER_TEXT_OPTIONAL, offsetof(struct config, store) },
	{ "key_source", MEMBER_TEXT, offsetof(struct config, key_source) },
	{ "mountpoint", MEMBER_TEXT_OPTIONAL, offsetof(struct config, mountpoint) },
	{ "ca_file", MEMBER_TEXT_OPTIONAL, offsetof(struct config, ca_file) },
	{ "trust_check", MEMBER_TEXT_OPTIONAL, offsetof(struct config, trust_check) },
	{ "freshness", MEMBER_TEXT_OPTIONAL, offsetof(struct config, freshness) },
	{ "no_download", MEMBER_TEXT_OPTIONAL, offsetof(struct config, no_download) },
	{ "lock_on", MEMBER_TEXT_OPTIONAL, offsetof(struct config, lock_on) },
	{ "replace_lost", MEMBER_FLAG, offsetof(struct config, replace_lost) },
	{ "allow_raw_kek", MEMBER_FLAG, offsetof(struct config, allow_raw_kek) },
	{ "limit_bytes", MEMBER_NUMBER, offsetof(struct config, limit_bytes) },
	{ "deadline_ms", MEMBER_NUMBER, offsetof(struct config, deadline_ms) },
	{ "scrub_rate", MEMBER_NUMBER, offsetof(struct config, scrub_rate) },
	{ "upload_rate", MEMBER_NUMBER, offsetof(struct config, upload_rate) },
	{ "download_rate", MEMBER_NUMBER, offsetof(struct config, download_rate) },
	{ "rekey_days", MEMBER_NUMBER, offsetof(struct config, rekey_days) },
	{ "lock_idle_ms", MEMBER_NUMBER, offsetof(struct config, lock_idle_ms) },
	{ "conflicts", MEMBER_RULES, offsetof(struct config, conflicts) },
};

static const struct member *find_member(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(members); i++)
		if (!strcmp(members[i].key, key))
			return &members[i];
	return NULL;
}

static int refuse_unknown(const struct json *o, const char *name, char **error)
{
	for (const struct json *m = json_first(o); m; m = json_next(m))
		if (!find_member(json_key(m)))
			return config_say(error, CE_USAGE,
				"the configuration %s.json has a member '%.64s' that this version "
				"does not "
				"know; correct or remove it",
				name, json_key(m));
	return 0;
}

static int read_member(const struct json *o, const struct member *m, struct config *c, char **error)
{
	void *field = (char *)c + m->offset;
	const char *text;
	int r;

	if (!json_has(o, m->key) && m->type != MEMBER_TEXT)
		return 0;
	if (m->type == MEMBER_RULES)
		return config_rules_read(o, m->key, c, error);
	if (m->type == MEMBER_NUMBER) {
		r = json_get_u64(o, m->key, field);
	} else if (m->type == MEMBER_FLAG) {
		r = json_get_bool(o, m->key, field);
	} else {
		r = json_get_string(o, m->key, &text);
		if (!r) {
			*(char **)field = strdup(text);
			r = *(char **)field ? 0 : -ENOMEM;
		}
	}
	if (r == CE_FORMAT)
		return config_say(error, CE_USAGE,
			"the member '%s' of the configuration %s.json is %s", m->key, c->name,
			json_has(o, m->key) ? "of the wrong type" : "missing");
	return r;
}

static int check_values(const struct config *c, char **error)
{
	unsigned lock_on;
	const struct {
		bool wrong;
		const char *member, *want;
	} checks[] = {
		{ strlen(c->id) != 32 || strspn(c->id, "0123456789abcdef") != 32, "id",
			"32 lower-case hex digits" },
		{ !c->origin[0], "origin", "the URL of the server" },
		{ c->store && !c->store[0], "store", "the name of a store" },
		{ !c->key_source[0], "key_source", "a key source, for example file:/path" },
		{ c->mountpoint && c->mountpoint[0] != '/', "mountpoint", "an absolute path" },
		{ c->ca_file && c->ca_file[0] != '/', "ca_file", "an absolute path" },
		{ c->trust_check && !c->trust_check[0], "trust_check", "a command" },
		{ session_parse(c->lock_on, &lock_on) != 0, "lock_on",
			"screen, sleep or screen,sleep" },
		{ c->deadline_ms > CONFIG_DEADLINE_MAX_MS, "deadline_ms", "at most 3600000" },
		{ c->scrub_rate > CONFIG_SCRUB_RATE_MAX, "scrub_rate", "at most 1000000000" },
		{ !sync_rate_valid(c->upload_rate), "upload_rate", SYNC_RATE_WANTED },
		{ !sync_rate_valid(c->download_rate), "download_rate", SYNC_RATE_WANTED },
		{ c->rekey_days > CONFIG_REKEY_DAYS_MAX, "rekey_days", "at most 36500" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(checks); i++)
		if (checks[i].wrong)
			return config_say(error, CE_USAGE,
				"the member '%s' of the configuration %s.json must be %s",
				checks[i].member, c->name, checks[i].want);
	return 0;
}

static int check_freshness(const struct config *c, char **error)
{
	_cleanup_free_ struct freshness_rule *rules = NULL;
	_cleanup_free_ char *why = NULL;
	size_t n;
	int r = freshness_parse(c->freshness, &rules, &n, &why);

	return r && why ? config_say(error, r, "%s (configuration %s.json)", why, c->name) : r;
}

static int parse_config(
	const char *name, const char *text, size_t len, struct config **out, char **error)
{
	_cleanup_(config_freep) struct config *c = calloc(1, sizeof(*c));
	_cleanup_json_ struct json *o = NULL;
	int r;

	if (!c || !(c->name = strdup(name)))
		return -ENOMEM;
	c->rekey_days = REKEY_DAYS_DEFAULT;
	if (json_parse(text, len, &o) || !json_is_object(o))
		return config_say(error, CE_USAGE,
			"the configuration %s.json is not a JSON object; correct it or take it "
			"away",
			name);
	r = refuse_unknown(o, name, error);
	for (size_t i = 0; !r && i < ARRAY_SIZE(members); i++)
		r = read_member(o, &members[i], c, error);
	if (!r)
		r = check_values(c, error);
	if (!r)
		r = check_freshness(c, error);
	if (!r)
		*out = steal_ptr(&c);
	return r;
}

int config_read(const char *name, struct config **out, char **error)
{
	_cleanup_free_ char *dir = NULL, *path = NULL, *text = NULL;
	size_t len;
	int r;

	r = config_check_name(name, error);
	if (!r)
		r = io_dir_config(&dir);
	if (r)
		return r;
	if (bytes_print(&path, "%s/%s.json", dir, name))
		return -ENOMEM;
	r = io_read_file(AT_FDCWD, path, CONFIG_MAX_BYTES, &text, &len);
	if (r == -ENOENT)
		return config_say(error, CE_USAGE,
			"there is no volume named '%s'; `cachet init` makes one, `cachet status "
			"--all` lists them",
			name);
	if (r)
		return config_say(error, r, "the configuration %s.json cannot be read: %s", name,
			error_text(r));
	return parse_config(name, text, len, out, error);
}

static struct json *to_json(const struct config *c)
{
	struct json *o = json_new_object();

	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		const void *field = (const char *)c + members[i].offset;

		if (members[i].type == MEMBER_NUMBER)
			json_set_u64(o, members[i].key, *(const uint64_t *)field);
		else if (members[i].type == MEMBER_FLAG)
			json_set_bool(o, members[i].key, *(const bool *)field);
		else if (members[i].type == MEMBER_RULES)
			config_rules_write(o, members[i].key, &c->conflicts);
		else if (*(char *const *)field)
			json_set_string(o, members[i].key, *(char *const *)field);
	}
	return o;
}

int config_save(const struct config *c, char **error)
{
	_cleanup_json_ struct json *o = NULL;
	_cleanup_free_ char *dir = NULL, *file = NULL, *text = NULL;
	_cleanup_fd_ int dirfd = -1;
	int r;

	r = config_check_name(c->name, error);
	if (!r)
		r = check_values(c, error);
	if (r)
		return r;
	o = to_json(c);
	r = json_print(o, true, &text);
	if (!r)
		r = io_dir_config(&dir);
	if (!r && bytes_print(&file, "%s.json", c->name))
		r = -ENOMEM;
	if (!r && (dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		r = -errno;
	if (!r)
		r = io_publish(dirfd, file, text, strlen(text), 0600);
	if (r)
		return config_say(error, r, "the configuration %s.json cannot be written: %s",
			c->name, error_text(r));
	return 0;
}

int config_remove(const char *name)
{
	_cleanup_free_ char *dir = NULL, *path = NULL;
	int r = io_dir_config(&dir);

	if (r)
		return r;
	if (bytes_print(&path, "%s/%s.json", dir, name))
		return -ENOMEM;
	return unlink(path) < 0 ? -errno : 0;
}

int config_volume_dir(const struct config *c, char **out)
{
	_cleanup_free_ char *dir = NULL;
	char *path;
	int r = c->volume_dir ? 0 : io_dir_state(&dir);

	if (r)
		return r;
	if ((c->volume_dir ? bytes_print(&path, "%s", c->volume_dir)
			   : bytes_print(&path, "%s/%s", dir, c->id)))
		return -ENOMEM;
	*out = path;
	return 0;
}

int config_socket(const struct config *c, char **out)
{
	_cleanup_free_ char *dir = NULL;
	char *path;
	int r = io_dir_runtime(&dir);

	if (r)
		return r;
	if (bytes_print(&path, "%s/%s.sock", dir, c->id))
		return -ENOMEM;
	*out = path;
	return 0;
}
