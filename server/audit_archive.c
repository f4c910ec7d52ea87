#include "server/audit_archive.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"
#include "server/admin.h"
#include "server/audit.h"

#define KIND "audit archive"

/* ---- making one ---- */

struct writing {
	FILE *out;
	int64_t before_ns;
	struct audit_head after, last; /* before the file, and what is in it so far */
	uint64_t entries;
};

static int write_line(FILE *out, const struct json *o)
{
	_cleanup_free_ char *text = NULL;
	int r = json_print(o, false, &text);

	return r ? r : fprintf(out, "%s\n", text) < 0 ? -EIO : 0;
}

static int write_row(
	void *arg, const struct audit_row *row, const uint8_t hash[static KDF_SHA256_LEN])
{
	struct writing *w = arg;
	_cleanup_json_ struct json *o = NULL;
	int r;

	if (row->at_ns >= w->before_ns)
		return 1;
	o = json_new_object();
	server_audit_print(row, hash, o);
	r = write_line(w->out, o);
	if (r)
		return r;
	w->last.n = row->n;
	memcpy(w->last.hash, hash, KDF_SHA256_LEN);
	w->entries++;
	return 0;
}

static int write_start(struct store_db *db, struct writing *w)
{
	_cleanup_json_ struct json *o = json_new_object();
	char after[SERVER_AUDIT_HEAD_SIZE];
	int r = server_audit_base(db, &w->after);

	if (r)
		return r;
	w->last = w->after;
	server_audit_print_head(&w->after, after);
	json_set_string(o, "cachet", KIND);
	json_set_string(o, "after", after);
	return write_line(w->out, o);
}

static int sync_file(FILE *out, const char *file)
{
	_cleanup_free_ char *copy = strdup(file);
	_cleanup_fd_ int dirfd = -1;

	if (!copy)
		return -ENOMEM;
	if (fflush(out) || fsync(fileno(out)))
		return -errno;
	dirfd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dirfd < 0 ? -errno : io_fsync_dir(dirfd);
}

static int forget(struct store_db *db, const char *who, void *arg)
{
	const struct writing *w = arg;
	char head[SERVER_AUDIT_HEAD_SIZE];
	struct audit_head base;
	int r = server_audit_base(db, &base);

	if (!r)
		r = base.n == w->after.n ? server_audit_forget(db, &w->last) : -EBUSY;
	server_audit_print_head(&w->last, head);
	return r ? r
		 : server_audit_add(db, who, "audit-archive", "%llu entries, head %s",
			   (unsigned long long)w->entries, head);
}

static int write_archive(struct store_db *db, const char *file, struct writing *w)
{
	struct audit_head at;
	int r = server_store_run(db, SQL_BEGIN_READ);

	if (!r)
		r = write_start(db, w);
	if (!r)
		r = server_audit_walk(db, write_row, w, &at);
	server_store_rollback(db);
	if (!r && !w->entries)
		r = -ENOENT;
	return r ? r : sync_file(w->out, file);
}

static int explain(char **error, int r)
{
	if (r == CE_TAMPER)
		return server_admin_explain(
			error, r, "the audit log is not as it was written: verify it");
	if (r == -ENOENT)
		return server_admin_explain(error, r, "there are no entries as old as that");
	return r ? server_admin_explain(error, r, "cannot archive the audit log") : 0;
}

int server_audit_archive(const char *dir, const char *file, int64_t before_ns,
	struct server_audit_report *report, char **error)
{
	_cleanup_store_ struct store_db *db = NULL;
	struct writing w = { .before_ns = before_ns };
	struct audit_head head;
	uint64_t bad;
	int fd, r;

	*error = NULL;
	r = server_admin_open_existing(dir, &db, error);
	if (r)
		return r;
	r = server_audit_verify(db, NULL, &head, &bad);
	if (r)
		return explain(error, r);
	fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return server_admin_explain(error, -errno, "cannot make the archive");
	w.out = fdopen(fd, "w");
	if (!w.out) {
		close(fd);
		r = -ENOMEM;
	} else {
		r = write_archive(db, file, &w);
		if (fclose(w.out) && !r)
			r = -EIO;
	}
	if (r)
		unlink(file);
	else
		r = server_admin_transact(db, forget, &w);
	if (r)
		return explain(error, r);
	*report = (struct server_audit_report){ .entries = w.entries };
	server_audit_print_head(&w.last, report->head);
	return 0;
}

/* ---- checking one ---- */

static int take_start(const struct json *o, struct audit_head *at)
{
	const char *kind, *after;

	if (json_get_string(o, "cachet", &kind) || strcmp(kind, KIND) != 0 ||
		json_get_string(o, "after", &after) || server_admin_parse_head(after, at))
		return CE_FORMAT;
	return 0;
}

static int take_row(const struct json *o, struct audit_head *at)
{
	struct audit_row row;
	uint8_t hash[KDF_SHA256_LEN], said[KDF_SHA256_LEN];
	const char *hex;
	uint64_t at_ns;
	int64_t at_s;
	int r;

	if (json_get_u64(o, "n", &row.n) || json_get_u64(o, "at_ns", &at_ns) ||
		json_get_i64(o, "at", &at_s) || at_s != (int64_t)at_ns / NS_PER_SEC ||
		json_get_string(o, "who", &row.who) || json_get_string(o, "what", &row.what) ||
		json_get_string(o, "subject", &row.subject) || json_get_string(o, "hash", &hex) ||
		bytes_from_hex(hex, said, sizeof(said)) || row.n != at->n + 1)
		return CE_TAMPER;
	row.at_ns = (int64_t)at_ns;
	r = server_audit_hash(&row, at->hash, hash);
	if (!r && memcmp(hash, said, sizeof(hash)) != 0)
		r = CE_TAMPER;
	if (r)
		return r;
	at->n = row.n;
	memcpy(at->hash, hash, sizeof(hash));
	return 0;
}

/* CE_FORMAT: no archive. CE_TAMPER: at->n is the last good one. */
static int check_lines(FILE *in, const struct audit_head *noted, struct audit_head *at,
	uint64_t *entries, bool *met)
{
	_cleanup_free_ char *line = NULL;
	size_t size = 0;
	ssize_t n;
	int r = CE_FORMAT;

	for (bool first = true; (n = getline(&line, &size, in)) > 0; first = false) {
		_cleanup_json_ struct json *o = NULL;

		r = line[n - 1] == '\n' ? json_parse(line, (size_t)n - 1, &o) : CE_FORMAT;
		if (first)
			r = r ? CE_FORMAT : take_start(o, at);
		else
			r = r ? CE_TAMPER : take_row(o, at);
		if (r)
			return r;
		*entries += !first;
		if (noted && noted->n == at->n)
			*met = !memcmp(noted->hash, at->hash, sizeof(at->hash));
	}
	return ferror(in) ? -EIO : r;
}

int server_audit_archive_check(
	const char *file, const char *noted, struct server_audit_report *report, char **error)
{
	struct audit_head before, at = { 0 };
	bool met = !noted;
	uint64_t entries = 0;
	FILE *in;
	int r;

	*error = NULL;
	if (noted && server_admin_parse_head(noted, &before))
		return server_admin_explain(
			error, CE_USAGE, "a head of the audit log is NUMBER:64 hex digits");
	in = fopen(file, "re");
	if (!in)
		return server_admin_explain(error, -errno, "cannot open the archive");
	r = check_lines(in, noted ? &before : NULL, &at, &entries, &met);
	fclose(in);
	if (r == CE_FORMAT)
		return server_admin_explain(error, r, "this is no archive of an audit log");
	if (!r && !met)
		r = CE_TAMPER;
	if (r == CE_TAMPER)
		(void)!bytes_print(error, "the archive was changed at entry %llu",
			(unsigned long long)(met ? at.n + 1 : before.n));
	if (r)
		return r == CE_TAMPER ? r
				      : server_admin_explain(error, r, "cannot read the archive");
	*report = (struct server_audit_report){ .entries = entries };
	server_audit_print_head(&at, report->head);
	return 0;
}
