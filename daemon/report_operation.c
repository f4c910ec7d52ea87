/* One unsent operation with its content: what a journal export seals. */
#include "daemon/report.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/secret.h"
#include "cache/file.h"
#include "cache/outbox.h"
#include "cache/tree.h"
#include "daemon/daemon_priv.h"

struct found {
	uint64_t seq;
	struct outbox_op op; /* its target is a copy of our own */
	char *path;
};

static void found_done(struct found *f)
{
	outbox_op_done(&f->op);
	free(f->path);
}

static int look(void *arg, const struct outbox_op *op, const char *path)
{
	struct found *f = arg;

	if (op->seq != f->seq)
		return 0;
	f->op = *op;
	f->op.target = op->target ? strdup(op->target) : NULL;
	f->path = path ? strdup(path) : NULL;
	return (op->target && !f->op.target) || (path && !f->path) ? -ENOMEM : 1;
}

/* Of what was sent, the content that was frozen; else what the file has now. */
static int open_content(struct volume *v, const struct found *f, struct file **out)
{
	struct tree_attr a;
	int r;

	if (f->op.map)
		return file_open_map(v, f->op.map, out);
	if (!f->path)
		return -ENOENT;
	r = tree_resolve(v, f->path, &a);
	return r ? r : file_open(v, a.object, a.version, false, out);
}

static int add_content(struct volume *v, const struct found *f, struct json *record)
{
	_cleanup_free_ uint8_t *buf = NULL;
	struct file *file = NULL;
	size_t got = 0;
	uint64_t size;
	int r = open_content(v, f, &file);

	if (r)
		return r;
	size = file_size(file);
	if (size > REPORT_CONTENT_MAX)
		r = CE_TOO_LARGE;
	else if (!(buf = malloc(size + 1)))
		r = -ENOMEM;
	else
		r = file_read(file, buf, (size_t)size, 0, &got);
	file_unref(file, false);
	if (r)
		return r;
	json_set_bytes(record, "content", buf, got);
	secret_wipe(buf, got);
	return 0;
}

static const char *type_of(int node_kind)
{
	return node_kind == REMOTE_DIR       ? "directory"
	       : node_kind == REMOTE_SYMLINK ? "symlink"
					     : "file";
}

int report_operation(struct daemon_state *d, uint64_t seq, struct json *out)
{
	_cleanup_(found_done) struct found f = { .seq = seq };
	struct json *record = json_set_object(out, "operation");
	int r = outbox_each(d->volume, look, &f);

	if (r < 0)
		return r;
	if (!f.op.seq)
		return -ENOENT;
	report_text(out, "store", f.op.store_name);
	json_set_string(out, "record", f.op.rid);
	json_set_u64(out, "version", seq);
	report_text(record, "path", f.path ? f.path : f.op.name);
	json_set_string(record, "kind", report_kind_name((int)f.op.kind));
	json_set_string(record, "type", type_of(f.op.node_kind));
	json_set_u64(record, "mode", f.op.mode);
	json_set_i64(record, "mtime_ns", f.op.mtime_ns);
	json_set_string(record, "based_on", f.op.if_match);
	if (f.op.kind != OUTBOX_PUT)
		return 0;
	if (f.op.node_kind == REMOTE_SYMLINK)
		report_text(record, "target", f.op.target);
	return f.op.node_kind == REMOTE_FILE ? add_content(d->volume, &f, record) : 0;
}

struct pending {
	const char *record;
	bool any;
};

static int is_pending(void *arg, const struct outbox_op *op, const char *path)
{
	struct pending *p = arg;

	p->any |= !strcmp(op->rid, p->record) || !strcmp(op->other_rid, p->record);
	return p->any;
}

int report_find(struct daemon_state *d, const char *store, const char *record, struct json *out)
{
	struct pending pending = { .record = record };
	_cleanup_free_ char *path = NULL;
	char etag[65];
	int r = remote_find(d->volume, store, record, &path, etag);

	if (!r)
		r = outbox_each(d->volume, is_pending, &pending);
	if (r < 0)
		return r;
	report_text(out, "path", path);
	json_set_string(out, "based_on", etag);
	json_set_bool(out, "pending", pending.any);
	return 0;
}
