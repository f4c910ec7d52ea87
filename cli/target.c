#include "cli/target.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "cli/show.h"
#include "daemon/control.h"
#include "daemon/requests.h"

#define PING_MS 5000

void target_done(struct target *t)
{
	config_free(t->config);
	free(t->socket);
	free(t->mountpoint);
	free(t->path);
	*t = (struct target){ 0 };
}

/* Drops "//", "/./", "/../" and the last slash of an absolute path, by the text alone. */
static void normalise(char *path)
{
	char *out = path, *in = path;

	while (*in) {
		size_t len = strcspn(in + 1, "/");

		if (len == 2 && !strncmp(in + 1, "..", 2)) {
			while (out > path && *--out != '/') {
			}
		} else if (len && !(len == 1 && in[1] == '.')) {
			memmove(out, in, len + 1);
			out += len + 1;
		}
		in += len + 1;
	}
	if (out == path)
		*out++ = '/';
	*out = '\0';
}

static int by_text(const char *path, char **out)
{
	_cleanup_free_ char *cwd = NULL;
	char *joined;

	if (path[0] != '/' && !(cwd = getcwd(NULL, 0)))
		return -errno;
	if (bytes_print(&joined, "%s/%s", cwd ? cwd : "", path))
		return -ENOMEM;
	normalise(joined);
	*out = joined;
	return 0;
}

int target_absolute(const char *path, char **out)
{
	_cleanup_free_ char *text = NULL, *parent = NULL;
	char *slash, *joined;
	int r = by_text(path, &text);

	if (r || !text)
		return r;
	slash = strrchr(text, '/');
	*slash = '\0';
	parent = realpath(*text ? text : "/", NULL);
	*slash = '/';
	if (!parent) {
		*out = steal_ptr(&text);
		return 0;
	}
	if (bytes_print(&joined, "%s%s", strcmp(parent, "/") ? parent : "", slash))
		return -ENOMEM;
	*out = joined;
	return 0;
}

static int fail(const struct command_common *common, int r, const char *error)
{
	return command_failed(common, r, error);
}

static int find_by_path(const char *path, struct target *t, char **error)
{
	_cleanup_free_ char *absolute = NULL;
	const char *below;
	int r = target_absolute(path, &absolute);

	if (!r)
		r = config_find(absolute, &t->config, &t->mountpoint, error);
	if (r || !t->mountpoint)
		return r;
	below = absolute + strlen(t->mountpoint);
	while (*below == '/')
		below++;
	t->path = strdup(below);
	return t->path ? 0 : -ENOMEM;
}

static int find(
	const struct command_common *common, const char *name, const char *path, struct target *out)
{
	_cleanup_free_ char *error = NULL;
	_cleanup_target_ struct target t = { 0 };
	int r = path ? find_by_path(path, &t, &error) : config_load(name, &t.config, &error);

	if (!r)
		r = config_socket(t.config, &t.socket);
	if (r)
		return fail(common, r, error);
	*out = t;
	t = (struct target){ 0 };
	return COMMAND_GO;
}

int target_find(const struct command_common *common, const char *word, struct target *out)
{
	bool is_path = word && (strchr(word, '/') || !strcmp(word, ".") || !strcmp(word, ".."));

	return find(common, is_path ? NULL : word, is_path ? word : NULL, out);
}

int target_find_path(const struct command_common *common, const char *path, struct target *out)
{
	return find(common, NULL, path, out);
}

bool target_is_mounted(const struct target *t)
{
	_cleanup_json_ struct json *ping = json_new_object(), *reply = NULL;

	json_set_string(ping, "do", "ping");
	return control_call(t->socket, ping, PING_MS, &reply) != CE_OFFLINE;
}

/* The failure an answer carries, or COMMAND_GO. */
static int judge(const struct command_common *common, const struct json *reply)
{
	const char *code = "failed",
		   *sentence = "the daemon's answer has no sense; is it of another version?";
	bool ok = false;

	if (!json_get_bool(reply, "ok", &ok) && ok)
		return COMMAND_GO;
	if (json_get_string(reply, "code", &code) || json_get_string(reply, "error", &sentence))
		return command_fail(common, EXIT_CODE_FAILED, "%s", sentence);
	return command_fail(common, exit_code_by_name(code), "%s", sentence);
}

static int call_failed(const struct command_common *common, const struct target *t, int r)
{
	if (r == CE_OFFLINE)
		return command_fail(common, EXIT_CODE_NOT_MOUNTED,
			"the volume '%s' is not mounted; `cachet mount %s` mounts it",
			t->config->name, t->config->name);
	if (r == -ETIMEDOUT)
		return command_fail(common, EXIT_CODE_TIMEOUT,
			"the daemon of '%s' did not answer in time", t->config->name);
	if (r == CE_PROTOCOL)
		return command_fail(common, EXIT_CODE_FAILED,
			"the daemon of '%s' ended before it answered", t->config->name);
	return command_fail(common, exit_code_of(r), "the daemon of '%s' cannot be asked: %s",
		t->config->name, error_text(r));
}

int target_ask(const struct command_common *common, const struct target *t,
	const struct json *request, enum target_how how, unsigned timeout_ms, struct json **reply)
{
	_cleanup_json_ struct json *answer = NULL;
	int r = control_call(t->socket, request, timeout_ms, &answer);

	if (r == CE_OFFLINE && how == TARGET_DIRECT) {
		answer = requests_direct(t->config, request, t->progress);
		r = answer ? 0 : -ENOMEM;
	}
	if (r)
		return call_failed(common, t, r);
	r = judge(common, answer);
	if (r == COMMAND_GO && reply)
		*reply = steal_ptr(&answer);
	return r;
}

int target_do(const struct command_common *common, const struct target *t, const char *request,
	enum target_how how, struct json **reply)
{
	_cleanup_json_ struct json *o = json_new_object();

	json_set_string(o, "do", request);
	return target_ask(common, t, o, how, TARGET_TIMEOUT_MS, reply);
}

int target_parse(const struct command *c, void *args, int argc, char **argv, struct target *out)
{
	int first, r = command_parse(c, args, argc, argv, 0, 1, &first);

	return r == COMMAND_GO ? target_find(args, first < argc ? argv[first] : NULL, out) : r;
}

int target_run(const struct command *c, int argc, char **argv, const char *request,
	enum target_how how, void (*print)(const struct json *reply))
{
	_cleanup_json_ struct json *reply = NULL;
	_cleanup_target_ struct target t = { 0 };
	struct command_common args = { 0 };
	int r = target_parse(c, &args, argc, argv, &t);

	if (r == COMMAND_GO)
		r = target_do(&args, &t, request, how, &reply);
	if (r != COMMAND_GO)
		return r;
	if (args.json)
		return show_json(reply);
	print(reply);
	return EXIT_CODE_OK;
}
