/*
 * A volume and its sync without a mount, for tests and measurements: commands on standard input,
 * one answer line each, "ok ..." or "CODE text". It plays the part of fs/: CE_ABSENT means fetch
 * and try again.
 *
 *     sync_shell DIR ORIGIN TOKEN [offline]      DIR is made if it is not there; TOKEN - means none
 *
 *     listed MS | idle MS | status | offline | online | poke | allow | accept | token T | sleep MS
 * | counts ls DIR | cat FILE (size, FNV of content) | text FILE | put FILE TEXT | fill FILE BYTES
 * SEED | many DIR N BYTES mkdir P | rm P | rmdir P | mv A B | swap A B | ln TARGET P | readlink P |
 * sync | conflicts (open ones) | settled (all) | both (settles the open ones) | journal | stop, and
 * those of shell_model.h
 *
 * CACHET_SHELL_MERGE is the rule for all conflicts (cache/merge_rule.h), CACHET_SHELL_HOST is its
 * name in conflict copies, CACHET_SHELL_DEBOUNCE_MS and CACHET_SHELL_PROBE_MS are options of the
 * sync.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "cache/file.h"
#include "cache/merge.h"
#include "cache/outbox.h"
#include "cache/tree.h"
#include "cache/volume.h"
#include "sync/sync.h"

#include "shell_model.h"

#define DEADLINE_MS 30000
#define RENAME_EXCHANGE_FLAG 2

static struct volume *volume;
static struct sync *sync_;

static int64_t ms_since(int64_t began)
{
	return (clock_boot_ns() - began) / NS_PER_MS;
}

static int say(int r)
{
	if (r)
		printf("%d %s\n", r, error_text(r));
	return r;
}

/* --- names --- */

static int resolve(const char *path, struct tree_attr *a)
{
	int r = tree_resolve(volume, path, a);

	if (r != CE_ABSENT)
		return r;
	r = sync_wait_listed(sync_, DEADLINE_MS, NULL);
	return r ? r : tree_resolve(volume, path, a);
}

static int resolve_parent(const char *path, uint64_t *parent, const char **name)
{
	char dir[4096];
	struct tree_attr a;
	const char *slash = strrchr(path, '/');
	int r;

	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 0, path);
	r = resolve(dir, &a);
	if (r)
		return r;
	*parent = a.object;
	*name = slash ? slash + 1 : path;
	return 0;
}

static int print_entry(void *arg, const char *name, uint64_t cookie, const struct tree_attr *a)
{
	uint64_t *n = arg;

	printf("%s%s%s", (*n)++ ? " " : "", name,
		S_ISDIR(a->mode)   ? "/"
		: S_ISLNK(a->mode) ? "@"
				   : "");
	return 0;
}

static int do_ls(const char *path)
{
	struct tree_attr a;
	uint64_t n = 0;
	int r = resolve(path, &a);

	if (r)
		return say(r);
	printf("ok ");
	r = tree_readdir(volume, a.object, 0, print_entry, &n);
	printf("\n");
	return r;
}

/* --- contents --- */

static int read_at(struct file *f, void *buf, size_t len, uint64_t off, size_t *got)
{
	int r = file_read(f, buf, len, off, got);

	for (int i = 0; r == CE_ABSENT && i < 100; i++) {
		r = sync_fetch(sync_, f, off, len, DEADLINE_MS, NULL);
		if (!r)
			r = file_read(f, buf, len, off, got);
	}
	return r;
}

static int open_path(const char *path, bool writer, struct file **f)
{
	struct tree_attr a;
	int r = resolve(path, &a);

	return r ? r : file_open(volume, a.object, a.version, writer, f);
}

static int do_cat(const char *path, bool text)
{
	static uint8_t buf[1 << 17];
	uint64_t off = 0, sum = UINT64_C(0xcbf29ce484222325);
	int64_t began = clock_boot_ns();
	struct file *f;
	size_t got = 1;
	int r = open_path(path, false, &f);

	if (r)
		return say(r);
	while (!r && got) {
		r = read_at(f, buf, sizeof(buf), off, &got);
		for (size_t i = 0; !r && i < got && !text; i += 64)
			sum = (sum ^ buf[i]) * UINT64_C(0x100000001b3);
		if (text && !r && !off)
			printf("ok %.*s\n", (int)got, (char *)buf);
		off += r ? 0 : got;
	}
	file_unref(f, false);
	if (r)
		return say(r);
	if (!text)
		printf("ok %" PRIu64 " %016" PRIx64 " %" PRId64 " ms\n", off, sum, ms_since(began));
	return 0;
}

static int make_or_open(const char *path, struct file **f)
{
	const struct tree_cred cred = { getuid(), getgid() };
	struct tree_attr a;
	const char *name;
	uint64_t parent;
	int r = resolve_parent(path, &parent, &name);

	if (r)
		return r;
	r = tree_mknod(volume, parent, name, S_IFREG | 0644, 0, &cred, &a);
	if (r == -EEXIST)
		r = tree_lookup(volume, parent, name, &a);
	return r ? r : file_open(volume, a.object, a.version, true, f);
}

static int put(const char *path, const void *data, size_t len)
{
	struct file *f;
	int r = make_or_open(path, &f);

	if (r)
		return r;
	r = file_truncate(f, 0);
	if (!r && len)
		r = file_write(f, data, len, 0);
	if (!r)
		r = file_commit(f);
	file_unref(f, true);
	return r;
}

static int fill(const char *path, uint64_t size, uint64_t seed)
{
	static uint8_t buf[1 << 20];
	struct file *f;
	int r = make_or_open(path, &f);

	if (r)
		return r;
	for (uint64_t off = 0; off < size && !r; off += sizeof(buf)) {
		for (size_t i = 0; i < sizeof(buf); i += 8) {
			seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
			memcpy(buf + i, &seed, 8);
		}
		r = file_write(f, buf, MIN_OF(sizeof(buf), size - off), off);
	}
	if (!r)
		r = file_commit(f);
	file_unref(f, true);
	return r;
}

static int do_many(const char *dir, unsigned n, size_t bytes)
{
	_cleanup_free_ char *data = calloc(1, bytes + 64);
	char path[4096];
	int r = 0;

	for (unsigned i = 0; i < n && !r; i++) {
		snprintf(data, bytes + 1, "%u content of a small file", i);
		snprintf(path, sizeof(path), "%s/f%05u", dir, i);
		r = put(path, data, bytes);
	}
	return r;
}

/* --- changes of names --- */

static int do_mkdir(const char *path)
{
	const struct tree_cred cred = { getuid(), getgid() };
	struct tree_attr a;
	const char *name;
	uint64_t parent;
	int r = resolve_parent(path, &parent, &name);

	return r ? r : tree_mkdir(volume, parent, name, 0755, &cred, &a);
}

static int do_remove(const char *path, bool dir)
{
	const char *name;
	uint64_t parent;
	int r = resolve_parent(path, &parent, &name);

	if (r)
		return r;
	return dir ? tree_rmdir(volume, parent, name) : tree_unlink(volume, parent, name);
}

static int do_rename(const char *from, const char *to, unsigned flags)
{
	const char *a_name, *b_name;
	uint64_t a, b;
	int r = resolve_parent(from, &a, &a_name);

	if (!r)
		r = resolve_parent(to, &b, &b_name);
	return r ? r : tree_rename(volume, a, a_name, b, b_name, flags);
}

static int do_symlink(const char *target, const char *path)
{
	const struct tree_cred cred = { getuid(), getgid() };
	struct tree_attr a;
	const char *name;
	uint64_t parent;
	int r = resolve_parent(path, &parent, &name);

	return r ? r : tree_symlink(volume, parent, name, target, &cred, &a);
}

static int do_readlink(const char *path)
{
	_cleanup_free_ char *target = NULL;
	struct tree_attr a;
	int r = resolve(path, &a);

	if (!r)
		r = tree_readlink(volume, a.object, &target);
	if (r)
		return say(r);
	printf("ok %s\n", target);
	return 0;
}

/* --- status --- */

static void do_status(void)
{
	struct sync_status st;

	sync_status(sync_, &st);
	printf("ok state=%s live=%d held=%d restored=%d rolledback=%d error=%d fetched=%" PRIu64
	       " sent=%" PRIu64 " requests=%" PRIu64 " text=%s\n",
		sync_state_name(st.state), st.feed_live, st.deletes_held, st.restored_server,
		st.rolled_back_volume, st.last_error, st.fetched_bytes, st.sent_bytes, st.requests,
		st.last_error_text);
}

static int do_counts(void)
{
	struct outbox_counts c;
	int r = outbox_counts(volume, &c);

	if (r)
		return say(r);
	printf("ok queued=%" PRIu64 " inflight=%" PRIu64 " refused=%" PRIu64 " held=%" PRIu64 "\n",
		c.queued, c.inflight, c.refused, c.held);
	return 0;
}

static int print_conflict(void *arg, const struct outbox_conflict *c)
{
	printf(" [%s %s|%s|%s]", c->kind, c->path, c->other_path ? c->other_path : "",
		c->outcome ? c->outcome : "open");
	return 0;
}

static int print_op(void *arg, const struct outbox_op *op, const char *path)
{
	printf(" [%" PRIu64 " kind=%d state=%d attempts=%u status=%d %s %s]", op->seq, op->kind,
		op->state, op->attempts, op->status, path, op->error);
	return 0;
}

/* --- commands --- */

struct ids {
	uint64_t id[256];
	size_t n;
};

static int take_id(void *arg, const struct outbox_conflict *c)
{
	struct ids *ids = arg;

	if (ids->n < ARRAY_SIZE(ids->id))
		ids->id[ids->n++] = c->id;
	return 0;
}

/* Not those that a rule has settled meanwhile. */
static int keep_both(uint64_t id)
{
	_cleanup_(merge_freep) struct merge *m = NULL;
	int r = merge_open(volume, id, &m);

	if (!r)
		r = merge_take(m, MERGE_PICK_BOTH, NULL, 0);
	return r == -ENOENT ? 0 : r;
}

static int keep_all(void)
{
	struct ids ids = { .n = 0 };
	int r = outbox_conflicts(volume, true, take_id, &ids);

	for (size_t i = 0; !r && i < ids.n; i++)
		r = keep_both(ids.id[i]);
	return r;
}

static int run_plain(char **w)
{
	if (!strcmp(w[0], "listed"))
		return sync_wait_listed(sync_, (unsigned)atoi(w[1]), NULL);
	if (!strcmp(w[0], "idle"))
		return sync_wait_idle(sync_, (unsigned)atoi(w[1]));
	if (!strcmp(w[0], "put"))
		return put(w[1], w[2], strlen(w[2]));
	if (!strcmp(w[0], "fill"))
		return fill(w[1], strtoull(w[2], NULL, 10), strtoull(w[3], NULL, 10));
	if (!strcmp(w[0], "many"))
		return do_many(w[1], (unsigned)atoi(w[2]), strtoull(w[3], NULL, 10));
	if (!strcmp(w[0], "mkdir"))
		return do_mkdir(w[1]);
	if (!strcmp(w[0], "rm"))
		return do_remove(w[1], false);
	if (!strcmp(w[0], "rmdir"))
		return do_remove(w[1], true);
	if (!strcmp(w[0], "mv"))
		return do_rename(w[1], w[2], 0);
	if (!strcmp(w[0], "swap"))
		return do_rename(w[1], w[2], RENAME_EXCHANGE_FLAG);
	if (!strcmp(w[0], "ln"))
		return do_symlink(w[1], w[2]);
	if (!strcmp(w[0], "sync"))
		return volume_sync(volume);
	if (!strcmp(w[0], "both"))
		return keep_all();
	return -ENOSYS;
}

static int run_ask(char **w)
{
	struct secret *token = NULL;
	int r = 0;

	if (!strcmp(w[0], "offline"))
		sync_set_offline(sync_, true);
	else if (!strcmp(w[0], "online"))
		sync_set_offline(sync_, false);
	else if (!strcmp(w[0], "poke"))
		sync_poke(sync_);
	else if (!strcmp(w[0], "allow"))
		r = sync_allow_deletes(sync_);
	else if (!strcmp(w[0], "accept"))
		sync_accept_restored(sync_);
	else if (!strcmp(w[0], "sleep"))
		usleep((useconds_t)atoi(w[1]) * 1000);
	else if (!strcmp(w[0], "token"))
		r = secret_new_copy(w[1], strlen(w[1]), &token);
	else
		return -ENOSYS;
	if (token)
		sync_set_token(sync_, token);
	return r;
}

/* True: it printed its own answer. */
static bool run_show(char **w)
{
	if (!strcmp(w[0], "ls"))
		do_ls(w[1] ? w[1] : "");
	else if (!strcmp(w[0], "cat"))
		do_cat(w[1], false);
	else if (!strcmp(w[0], "text"))
		do_cat(w[1], true);
	else if (!strcmp(w[0], "readlink"))
		do_readlink(w[1]);
	else if (!strcmp(w[0], "status"))
		do_status();
	else if (!strcmp(w[0], "counts"))
		do_counts();
	else if (!strcmp(w[0], "conflicts")) {
		printf("ok");
		if (outbox_conflicts(volume, true, print_conflict, NULL))
			printf(" failed");
		printf("\n");
	} else if (!strcmp(w[0], "settled")) {
		printf("ok");
		if (outbox_conflicts(volume, false, print_conflict, NULL))
			printf(" failed");
		printf("\n");
	} else if (!strcmp(w[0], "journal")) {
		printf("ok");
		if (outbox_each(volume, print_op, NULL))
			printf(" failed");
		printf("\n");
	} else
		return false;
	return true;
}

static void command(char *line)
{
	char *w[5] = { NULL }, *save, *word = strtok_r(line, " \n", &save);
	int64_t began = clock_boot_ns();
	int r;

	for (int n = 0; n < 4 && word; word = strtok_r(NULL, n == 3 ? "\n" : " \n", &save))
		w[n++] = word;
	if (!w[0] || run_show(w) || !shell_model_run(volume, sync_, w))
		return;
	r = run_plain(w);
	if (r == -ENOSYS)
		r = run_ask(w);
	if (!say(r))
		printf("ok %" PRId64 " ms\n", ms_since(began));
}

/* --- life --- */

static int open_volume(const char *dir, const char *origin)
{
	static struct merge_rule rule;
	static const struct merge_rules rules = { &rule, 1 };
	const char *policy = getenv("CACHET_SHELL_MERGE");
	_cleanup_free_ char *error = NULL, *key = NULL;
	struct volume_options o = { .dir = dir,
		.rules = policy ? &rules : NULL,
		.uid = getuid(),
		.gid = getgid(),
		.host = getenv("CACHET_SHELL_HOST") ? getenv("CACHET_SHELL_HOST") : "shell",
		.limit_bytes = UINT64_C(2) << 30 };
	struct stat st;
	int r = policy ? merge_rule_policy(policy, &rule.policy) : 0;

	if (r)
		return r;
	if (asprintf(&key, "file:%s.key", dir) < 0)
		return -ENOMEM;
	o.key_source = key;
	if (stat(dir, &st)) {
		struct volume_create_options c = {
			.dir = dir, .key_source = key, .origin = origin
		};

		r = volume_create(&c, &error);
	}
	if (!r)
		r = volume_open(&o, &volume, &error);
	if (error)
		fprintf(stderr, "%s\n", error);
	return r;
}

static unsigned number(const char *variable)
{
	const char *text = getenv(variable);

	return text ? (unsigned)atoi(text) : 0;
}

static int start(const char *origin, const char *token, bool offline)
{
	_cleanup_free_ char *error = NULL;
	struct sync_options o = { .volume = volume,
		.origin = origin,
		.offline = offline,
		.debounce_ms = number("CACHET_SHELL_DEBOUNCE_MS"),
		.probe_max_ms = number("CACHET_SHELL_PROBE_MS") };
	int r = strcmp(token, "-") ? secret_new_copy(token, strlen(token), &o.token) : 0;

	if (!r)
		r = sync_new(&o, &sync_, &error);
	if (!r)
		r = sync_start(sync_);
	if (error)
		fprintf(stderr, "%s\n", error);
	return r;
}

int main(int argc, char **argv)
{
	static char line[1 << 16];
	int64_t began;
	int r;

	if (argc < 4)
		return 2;
	r = secret_init(true);
	if (!r)
		r = open_volume(argv[1], argv[2]);
	if (!r)
		r = start(argv[2], argv[3], argc > 4);
	printf("%s %s\n", r ? "failed" : "ready", r ? error_text(r) : "");
	fflush(stdout);
	while (!r && fgets(line, sizeof(line), stdin) && strcmp(line, "stop\n")) {
		command(line);
		fflush(stdout);
	}
	began = clock_boot_ns();
	sync_free(sync_);
	printf("stopped %" PRId64 " ms\n", ms_since(began));
	if (volume)
		volume_close(volume);
	return r ? 1 : 0;
}
