/*
 * The unsent changes of another machine of the same user, made here: each as an ordinary change
 * through the mount, in their order, and only where this machine has what the change was based on.
 * So it is sent as any change of this machine; that the other machine sends it too, later, does no
 * harm: the origin's version then has the same content, which is adopted, and what is deleted stays
 * deleted.
 *
 * What cannot be made so is not forced: content becomes a file of its own beside the other,
 * everything else is left and counted. Twice imported is once imported.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/io.h"
#include "cli/commands.h"
#include "cli/import_envelopes.h"
#include "cli/sealed_key.h"
#include "cli/show.h"
#include "cli/target.h"
#include "cli/view_extract.h"

#define TRIES_MAX 1000

struct args {
	struct command_common common;
	const char *key_file;
};

static const struct option_def options[] = {
	{ "key-file", 'k', OPTION_STRING, offsetof(struct args, key_file), .arg = "FILE",
		.help = "read the key from FILE, - for standard input (default: ask)" },
	COMMAND_COMMON,
	OPTION_END,
};

static int run(int argc, char **argv);

const struct command command_journal_import = {
	.name = "journal import",
	.usage = "[OPTIONS] FILE [NAME|PATH]",
	.summary = "Make the unsent changes of another machine here",
	.details = "FILE is what `cachet journal export` wrote there; the volume is of the same "
		   "account, "
		   "and mounted.\n"
		   "A change is made where this machine has the version it was based on, and sent "
		   "from "
		   "here. Content\n"
		   "that meets another version becomes a file `NAME (imported)`; a deletion, a "
		   "move or "
		   "attributes\n"
		   "that do are left. Exit code 9: something was left or kept beside.\n",
	.options = options,
	.run = run,
};

/* A record as it is here. */
struct here {
	bool known, pending;
	char *path;
	char etag[65];
};

struct import {
	struct args *args;
	struct target target;
	int root;    /* of the mount */
	char **mine; /* records changed by this import: their being unsent is no obstacle */
	size_t n_mine;
	uint64_t made, there, beside, left;
};

static void import_done(struct import *m)
{
	target_done(&m->target);
	if (m->root >= 0)
		close(m->root);
	for (size_t i = 0; i < m->n_mine; i++)
		free(m->mine[i]);
	free(m->mine);
}

static void here_done(struct here *h)
{
	free(h->path);
}

static const char *record_of(const struct import_record *r)
{
	const char *id = show_string(r->meta, "id");

	return id ? id : "";
}

static bool is_mine(const struct import *m, const char *record)
{
	for (size_t i = 0; i < m->n_mine; i++)
		if (!strcmp(m->mine[i], record))
			return true;
	return false;
}

static int remember(struct import *m, const char *record)
{
	char **more = reallocarray(m->mine, m->n_mine + 1, sizeof(char *));

	if (!more)
		return -ENOMEM;
	m->mine = more;
	m->mine[m->n_mine] = strdup(record);
	return m->mine[m->n_mine] ? (m->n_mine++, 0) : -ENOMEM;
}

static int find(struct import *m, const struct import_record *r, struct here *out)
{
	_cleanup_json_ struct json *request = json_new_object(), *reply = NULL;
	const char *store = show_string(r->meta, "table"), *path, *etag;

	json_set_string(request, "do", "find");
	json_set_string(request, "store", store ? store : "");
	json_set_string(request, "record", record_of(r));
	if (target_ask(&m->args->common, &m->target, request, TARGET_DAEMON, TARGET_TIMEOUT_MS,
		    &reply) != COMMAND_GO)
		return -ECANCELED;
	path = show_string(reply, "path");
	if (!path)
		return 0;
	etag = show_string(reply, "based_on");
	out->known = true;
	out->pending = show_bool(reply, "pending") && !is_mine(m, record_of(r));
	snprintf(out->etag, sizeof(out->etag), "%s", etag ? etag : "");
	out->path = strdup(path);
	return out->path ? 0 : -ENOMEM;
}

/* It is what the change was based on, and nobody here has changed it. */
static bool is_base(const struct import_record *r, const struct here *h)
{
	const char *based_on = show_string(r->tree, "based_on");

	return h->known && !h->pending && based_on && !strcmp(based_on, h->etag);
}

/* --- content --- */

/* Under a name of its own; once only. */
static int write_beside(struct import *m, int dir, const char *name, const struct import_record *r)
{
	char other[256];
	int e = -EEXIST;

	for (int i = 1; e == -EEXIST && i < TRIES_MAX; i++) {
		const char *dot = strrchr(name, '.');
		int stem = dot && dot != name ? (int)(dot - name) : (int)strlen(name);
		char again[16] = "";

		if (i > 1)
			snprintf(again, sizeof(again), "-%d", i);
		if (snprintf(other, sizeof(other), "%.*s (imported%s)%s", stem, name, again,
			    name + stem) >= (int)sizeof(other))
			return -ENAMETOOLONG;
		if (import_envelopes_same(dir, other, r) > 0) {
			m->there++;
			return 0;
		}
		e = import_envelopes_write(dir, other, r);
	}
	m->beside += !e;
	return e;
}

/* As editors do: the name has the old file or the new one. */
static int replace_file(int dir, const char *name, const struct import_record *r)
{
	char temporary[256];
	int e;

	if (snprintf(temporary, sizeof(temporary), ".%.200s.imported~", name) < 0)
		return -EINVAL;
	e = import_envelopes_write(dir, temporary, r);
	if (!e && renameat(dir, temporary, dir, name) < 0) {
		e = -errno;
		unlinkat(dir, temporary, 0);
	}
	return e;
}

static int put_file(struct import *m, int dir, const char *name, const struct import_record *r,
	const struct here *h)
{
	int e;

	if (import_envelopes_same(dir, name, r) > 0) {
		m->there++;
		return 0;
	}
	if (is_base(r, h)) {
		e = replace_file(dir, name, r);
		m->made += !e;
		return e;
	}
	e = h->known ? -EEXIST : import_envelopes_write(dir, name, r);
	m->made += !e;
	return e == -EEXIST ? write_beside(m, dir, name, r) : e;
}

static bool same_link(int dir, const char *name, const char *target)
{
	char there[4096];
	ssize_t n = readlinkat(dir, name, there, sizeof(there));

	return n >= 0 && (size_t)n == strlen(target) && !memcmp(there, target, (size_t)n);
}

static int put_other(struct import *m, int dir, const char *name, const struct import_record *r)
{
	const bool is_dir = !strcmp(r->type, "directory");
	const char *target = r->target ? r->target : "";
	int e = is_dir ? mkdirat(dir, name, r->mode | 0700) : symlinkat(target, dir, name);

	if (e == 0)
		m->made++;
	else if (errno != EEXIST)
		return -errno;
	else if (is_dir || same_link(dir, name, target))
		m->there++;
	else
		m->left++;
	return 0;
}

static int put(struct import *m, struct import_record *r, const struct here *h)
{
	_cleanup_free_ char *path = strdup(h->known ? h->path : r->path);
	_cleanup_fd_ int dir = -1;
	const char *name = NULL;
	int e = path ? view_extract_parent(m->root, path, &dir, &name) : -ENOMEM;

	if (e)
		return e;
	return !strcmp(r->type, "file") ? put_file(m, dir, name, r, h) : put_other(m, dir, name, r);
}

/* --- the rest --- */

static bool is_so(
	struct import *m, const struct import_record *r, const struct here *h, const char *kind)
{
	struct stat st;

	if (!strcmp(kind, "delete"))
		return !h->known;
	if (!h->known || fstatat(m->root, h->path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	if (!strcmp(kind, "move"))
		return !strcmp(h->path, r->path);
	return !strcmp(kind, "attributes") && (st.st_mode & 07777) == r->mode &&
	       st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec == r->mtime_ns;
}

static int set_attributes(struct import *m, const struct import_record *r, const char *path)
{
	const struct timespec times[] = { { .tv_nsec = UTIME_OMIT },
		{ .tv_sec = r->mtime_ns / 1000000000, .tv_nsec = r->mtime_ns % 1000000000 } };

	return fchmodat(m->root, path, r->mode, 0) < 0
		       ? -1
		       : utimensat(m->root, path, times, AT_SYMLINK_NOFOLLOW);
}

static int remove_it(struct import *m, const char *path)
{
	if (unlinkat(m->root, path, 0) == 0)
		return 0;
	return errno == EISDIR ? unlinkat(m->root, path, AT_REMOVEDIR) : -1;
}

/* What cannot be done is left: the other machine still has it. */
static void change(
	struct import *m, struct import_record *r, const struct here *h, const char *kind)
{
	int e = -1;

	if (is_so(m, r, h, kind)) {
		m->there++;
		return;
	}
	if (!is_base(r, h))
		e = -1;
	else if (!strcmp(kind, "delete"))
		e = remove_it(m, h->path);
	else if (!strcmp(kind, "move"))
		e = renameat2(m->root, h->path, m->root, r->path, RENAME_NOREPLACE);
	else if (!strcmp(kind, "attributes"))
		e = set_attributes(m, r, h->path);
	m->made += e == 0;
	m->left += e != 0;
}

static int make(void *arg, struct import_record *r)
{
	_cleanup_(here_done) struct here h = { 0 };
	struct import *m = arg;
	const char *kind = show_string(r->tree, "kind");
	int e;

	if (!r->tree || !kind)
		return CE_FORMAT;
	e = find(m, r, &h);
	if (!e && !strcmp(kind, "put"))
		e = put(m, r, &h);
	else if (!e)
		change(m, r, &h, kind);
	return e ? e : remember(m, record_of(r));
}

static int fail(const struct import *m, const char *file, size_t at, int r)
{
	const struct command_common *c = &m->args->common;

	if (r == -ECANCELED)
		return EXIT_CODE_FAILED; /* said already */
	if (r == CE_TAMPER)
		return command_fail(c, EXIT_CODE_KEY,
			"change %zu of %s does not open: it was changed, or the key is another; "
			"nothing was made",
			at, file);
	if (r == CE_FORMAT || r == CE_CORRUPT)
		return command_fail(c, EXIT_CODE_DAMAGED, "%s is not an export of a journal", file);
	return command_fail(
		c, exit_code_of(r), "change %zu of %s cannot be made: %s", at, file, error_text(r));
}

static int print(const struct import *m)
{
	_cleanup_json_ struct json *o = json_new_object();

	if (m->args->common.json) {
		json_set_u64(o, "made", m->made);
		json_set_u64(o, "there", m->there);
		json_set_u64(o, "beside", m->beside);
		json_set_u64(o, "left", m->left);
		(void)!show_json(o);
	} else {
		printf("%" PRIu64 " made, %" PRIu64 " were there already, %" PRIu64
		       " kept beside another version, %" PRIu64 " left\n",
			m->made, m->there, m->beside, m->left);
	}
	return m->beside || m->left ? EXIT_CODE_PENDING : EXIT_CODE_OK;
}

static int open_root(struct import *m)
{
	_cleanup_json_ struct json *reply = NULL;
	const char *mountpoint;
	int r = target_do(&m->args->common, &m->target, "ping", TARGET_DAEMON, &reply);

	if (r != COMMAND_GO)
		return r;
	mountpoint = show_string(reply, "mountpoint");
	m->root = mountpoint ? open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	return m->root >= 0 ? COMMAND_GO
			    : command_fail(&m->args->common, EXIT_CODE_FAILED,
				      "the mount cannot be opened: %s", strerror(errno));
}

static int run(int argc, char **argv)
{
	struct args args = { 0 };
	_cleanup_(import_done) struct import m = { .args = &args, .root = -1 };
	_cleanup_secret_ struct secret *key = NULL;
	int first, r = command_parse(&command_journal_import, &args, argc, argv, 1, 2, &first);
	size_t at;

	if (r == COMMAND_GO)
		r = target_find(&args.common, first + 1 < argc ? argv[first + 1] : NULL, &m.target);
	if (r == COMMAND_GO)
		r = open_root(&m);
	if (r == COMMAND_GO)
		r = sealed_key_read(&args.common, args.key_file, &key);
	if (r != COMMAND_GO)
		return r;
	r = import_envelopes_each(argv[first], key, make, &m, &at);
	return r ? fail(&m, argv[first], at, r) : print(&m);
}
