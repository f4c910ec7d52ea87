#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/io.h"
#include "base/secret.h"
#include "cli/commands.h"
#include "cli/sealed_file.h"
#include "cli/sealed_key.h"
#include "cli/show.h"
#include "cli/view_extract.h"

struct args {
	struct command_common common;
	bool cat;
	const char *extract, *key_file;
};

static const struct option_def options[] = {
	{ "cat", 'c', OPTION_FLAG, offsetof(struct args, cat),
		.help = "write the content of the files to standard output" },
	{ "extract", 'x', OPTION_STRING, offsetof(struct args, extract), .arg = "DIR",
		.help = "write the files below DIR, which is made if missing" },
	{ "key-file", 'k', OPTION_STRING, offsetof(struct args, key_file), .arg = "FILE",
		.help = "read the key from FILE, - for standard input (default: ask)" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_view = {
	.name = "view",
	.usage = "[OPTIONS] FILE [PATH...]",
	.summary = "Open a sealed export: list, show or extract what is in it",
	.details =
		"FILE is what `cachet export` or the export of a server wrote: a bundle, a page or "
		"a JSON object.\n"
		"Without --cat and --extract its entries are listed. PATHs are those of the list; "
		"a directory\n"
		"means all below it; none means all. Nothing is written before the whole of FILE "
		"has proved to\n"
		"be authentic. Extracting follows no link and replaces no file.\n\n"
		"Exit codes: 6 the key is not that of FILE, 7 FILE was changed or cut off, or is "
		"no "
		"sealed export.\n",
	.options = options,
	.run = run,
};

/* What was asked for, and what was found. */
struct view {
	const struct args *args;
	const char *file;
	char **paths;
	size_t n_paths;
	size_t *hits; /* of each path */
	uint64_t files, bytes;
	struct json *list; /* with --json */
	int dirfd;
	char *failed; /* the entry that could not be written */
};

static void view_done(struct view *v)
{
	free(v->hits);
	free(v->failed);
	json_free(v->list);
	if (v->dirfd >= 0)
		close(v->dirfd);
}

static bool is_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	while (len && dir[len - 1] == '/')
		len--;
	return !strncmp(path, dir, len) && (!path[len] || path[len] == '/');
}

static bool wanted(struct view *v, const struct tar_entry *e)
{
	bool any = !v->n_paths;

	for (size_t i = 0; i < v->n_paths; i++)
		if (is_below(e->path, v->paths[i])) {
			v->hits[i]++;
			any = true;
		}
	return any;
}

/* The first walk only looks: the end of it is the proof that all of the file is authentic. */
static int look(void *arg, const struct tar_entry *e, struct sealed_content *c)
{
	struct view *v = arg;

	if (wanted(v, e) && e->type == TAR_FILE) {
		v->files++;
		v->bytes += e->size;
	}
	return 0;
}

static const char *type_name(enum tar_type type)
{
	return type == TAR_DIR ? "directory" : type == TAR_SYMLINK ? "symlink" : "file";
}

static int list_json(struct view *v, const struct tar_entry *e)
{
	struct json *o = json_append_object(v->list);

	/* A name of other bytes cannot stand in JSON; its bytes in hexadecimal can. */
	if (bytes_is_utf8((const uint8_t *)e->path, strlen(e->path))) {
		json_set_string(o, "path", e->path);
	} else {
		_cleanup_free_ char *hex = malloc(2 * strlen(e->path) + 1);

		if (!hex)
			return -ENOMEM;
		bytes_to_hex((const uint8_t *)e->path, strlen(e->path), hex);
		json_set_string(o, "path_hex", hex);
	}
	json_set_string(o, "type", type_name(e->type));
	json_set_u64(o, "mode", e->mode);
	json_set_u64(o, "size", e->size);
	json_set_i64(o, "mtime_ns", e->mtime_ns);
	return 0;
}

static int list(void *arg, const struct tar_entry *e, struct sealed_content *c)
{
	char size[SHOW_MAX], age[SHOW_MAX];
	struct view *v = arg;

	if (!wanted(v, e))
		return 0;
	if (v->list)
		return list_json(v, e);
	printf("%-9s  %04o  %10s  %-14s  ", type_name(e->type), (unsigned)e->mode,
		e->type == TAR_FILE ? show_bytes(e->size, size) : "-",
		e->mtime_ns ? show_age(e->mtime_ns, age) : "-");
	show_text(stdout, e->path);
	if (e->target) {
		printf(" -> ");
		show_text(stdout, e->target);
	}
	putchar('\n');
	return 0;
}

static int cat(void *arg, const struct tar_entry *e, struct sealed_content *c)
{
	return wanted(arg, e) && e->type == TAR_FILE ? view_copy(c, STDOUT_FILENO) : 0;
}

static int extract(void *arg, const struct tar_entry *e, struct sealed_content *c)
{
	struct view *v = arg;
	int r = wanted(v, e) ? view_extract(v->dirfd, e, c) : 0;

	if (r)
		v->failed = strdup(e->path);
	return r;
}

static int fail(const struct view *v, int r)
{
	const struct command_common *c = &v->args->common;

	if (v->failed)
		return command_fail(c, exit_code_of(r), "%s cannot be written below %s: %s",
			v->failed, v->args->extract, error_text(r));
	switch (r) {
	case CE_WRONG_KEY:
		return command_fail(c, EXIT_CODE_KEY, "the key is not the one of %s", v->file);
	case CE_TAMPER:
		return command_fail(c, EXIT_CODE_DAMAGED,
			"%s was changed or cut off; nothing of it can be trusted", v->file);
	case CE_FORMAT:
		return command_fail(c, EXIT_CODE_DAMAGED,
			"%s is not a sealed export, or one of a newer version", v->file);
	case CE_CORRUPT:
		return command_fail(c, EXIT_CODE_DAMAGED,
			"%s opens, but what is in it is no archive that this version extracts",
			v->file);
	}
	return command_fail(c, exit_code_of(r), "%s cannot be opened: %s", v->file, error_text(r));
}

static int open_target(struct view *v)
{
	int r = io_mkdir_p(v->args->extract, 0700);

	if (!r) {
		v->dirfd = open(v->args->extract, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = v->dirfd < 0 ? -errno : 0;
	}
	if (r)
		return command_fail(&v->args->common, exit_code_of(r), "%s cannot be made: %s",
			v->args->extract, error_text(r));
	return COMMAND_GO;
}

static int check_paths(const struct view *v)
{
	for (size_t i = 0; i < v->n_paths; i++)
		if (!v->hits[i])
			return command_fail(&v->args->common, EXIT_CODE_FAILED,
				"%s has no %s in it", v->file, v->paths[i]);
	return COMMAND_GO;
}

static int print_json(struct view *v)
{
	_cleanup_json_ struct json *o = json_new_object();

	json_set_bool(o, "ok", true);
	if (v->list)
		json_set_copy(o, "entries", v->list);
	json_set_u64(o, "files", v->files);
	json_set_u64(o, "bytes", v->bytes);
	return show_json(o);
}

/* The second walk, which acts. */
static int act(struct view *v, struct sealed_file *f, const struct secret *key)
{
	sealed_file_fn *fn = v->args->extract ? extract : v->args->cat ? cat : list;
	int r = v->args->extract ? open_target(v) : COMMAND_GO;

	if (r != COMMAND_GO)
		return r;
	if (fn == list && v->args->common.json)
		v->list = json_new_array();
	r = sealed_file_each(f, key, fn, v);
	if (r)
		return fail(v, r);
	if (v->args->common.json && fn != cat)
		return print_json(v);
	if (fn == extract)
		printf("extracted %" PRIu64 " files below %s\n", v->files, v->args->extract);
	return EXIT_CODE_OK;
}

static int view(struct view *v)
{
	_cleanup_(sealed_file_closep) struct sealed_file *f = NULL;
	_cleanup_secret_ struct secret *key = NULL;
	int r = sealed_file_open(v->file, &f);

	if (r)
		return fail(v, r);
	r = sealed_key_read(&v->args->common, v->args->key_file, &key);
	if (r != COMMAND_GO)
		return r;
	r = sealed_file_each(f, key, look, v);
	if (r)
		return fail(v, r);
	r = check_paths(v);
	return r == COMMAND_GO ? act(v, f, key) : r;
}

static int run(int argc, char **argv)
{
	struct args args = { 0 };
	_cleanup_(view_done) struct view v = { .args = &args, .dirfd = -1 };
	int first, r = command_parse(&command_view, &args, argc, argv, 1, INT16_MAX, &first);

	if (r != COMMAND_GO)
		return r;
	if (args.cat && args.extract)
		return command_fail(&args.common, EXIT_CODE_USAGE,
			"--cat and --extract cannot be given together");
	v.file = argv[first];
	v.paths = argv + first + 1;
	v.n_paths = (size_t)(argc - first - 1);
	v.hits = calloc(v.n_paths + 1, sizeof(*v.hits));
	if (!v.hits)
		return command_fail(&args.common, EXIT_CODE_FAILED, "out of memory");
	return view(&v);
}
