/* A row of the journal as an operation. */
#include "cache/outbox_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/tree_priv.h"

_Static_assert((int)OUTBOX_PUT == (int)OP_PUT && (int)OUTBOX_ATTR == (int)OP_ATTR, "kinds");
_Static_assert((int)OUTBOX_MOVE == (int)OP_MOVE && (int)OUTBOX_SWAP == (int)OP_SWAP, "kinds");
_Static_assert((int)OUTBOX_DELETE == (int)OP_DELETE, "kinds");
_Static_assert(
	(int)OUTBOX_QUEUED == (int)OP_QUEUED && (int)OUTBOX_INFLIGHT == (int)OP_INFLIGHT, "states");
_Static_assert(
	(int)OUTBOX_REFUSED == (int)OP_REFUSED && (int)OUTBOX_HELD == (int)OP_HELD, "states");

void outbox_op_done(struct outbox_op *op)
{
	free(op->target);
	op->target = NULL;
}

void outbox_freeze(struct op_row *row, const struct object_row *o)
{
	const bool mode = fold_row_has_mode(row);

	snprintf(row->other_etag.text, sizeof(row->other_etag.text), "%o:%" PRId64, o->mode,
		o->mtime_ns);
	if (mode)
		fold_row_mark_mode(row);
}

bool outbox_thaw(const struct op_row *row, struct outbox_frozen *out)
{
	struct outbox_frozen f;

	if (sscanf(row->other_etag.text, "%o:%" SCNd64, &f.mode, &f.mtime_ns) != 2)
		return false;
	*out = f;
	return true;
}

static void fill_fixed(const struct op_row *row, struct outbox_op *op)
{
	*op = (struct outbox_op){
		.seq = row->seq,
		.store = row->store,
		.kind = (enum outbox_kind)row->kind,
		.state = (enum outbox_state)row->state,
		.map = row->map,
		.attempts = row->attempts,
		.next_try_ms = row->next_try_ms,
		.created_ns = row->created_ns,
		.status = row->status,
		.after = -1,
	};
	memcpy(op->key, row->key, sizeof(op->key));
	memcpy(op->rid, row->rid.text, sizeof(op->rid));
	memcpy(op->if_match, row->base_etag.text, sizeof(op->if_match));
	memcpy(op->parent, row->r_parent.text, sizeof(op->parent));
	memcpy(op->name, row->r_name.bytes, row->r_name.len);
	memcpy(op->error, row->error, sizeof(op->error));
	if (row->kind == OP_MOVE || row->kind == OP_SWAP) {
		memcpy(op->other_rid, row->other_rid.text, sizeof(op->other_rid));
		memcpy(op->other_etag, row->other_etag.text, sizeof(op->other_etag));
	}
}

static int node_kind(uint32_t mode)
{
	return S_ISDIR(mode) ? REMOTE_DIR : S_ISLNK(mode) ? REMOTE_SYMLINK : REMOTE_FILE;
}

/* Of what was sent the size is the snapshot's. */
static int fill_size(struct volume *v, const struct op_row *row, const struct object_row *o,
	struct outbox_op *op)
{
	struct content_map m;
	int r;

	op->size = 0;
	if (op->node_kind == REMOTE_SYMLINK)
		op->size = op->target ? strlen(op->target) : 0;
	if (op->node_kind != REMOTE_FILE)
		return 0;
	if (row->state != OP_INFLIGHT) {
		op->size = o->size;
		return 0;
	}
	r = row->map ? content_map_get(v->db, row->map, &m) : 0;
	if (!r && row->map)
		op->size = m.size;
	return r;
}

static int fill_target(struct volume *v, const struct op_row *row, struct outbox_op *op)
{
	size_t len;
	int r = object_target(v->db, row->object, &op->target, &len);

	if (r != -ENOENT)
		return r;
	/* Queued, and gone here: whatever is made of it now, its DELETE follows. */
	op->target = strdup(".");
	return op->target ? 0 : -ENOMEM;
}

int outbox_fill(struct volume *v, const struct op_row *row, struct outbox_op *op)
{
	/* A directory whose row outlived it (fold.c) has no object any more. */
	struct object_row o = { .mode = S_IFDIR | 0755, .mtime_ns = row->created_ns };
	struct outbox_frozen f;
	struct store_row s;
	int r = store_get(v->db, row->store, &s);

	if (r)
		return r;
	fill_fixed(row, op);
	memcpy(op->store_name, s.name, sizeof(op->store_name));
	r = object_get(v->db, row->object, &o);
	if (r && r != -ENOENT)
		return r;
	if (row->state == OP_INFLIGHT && (row->kind == OP_PUT || row->kind == OP_ATTR) &&
		outbox_thaw(row, &f)) {
		o.mode = f.mode;
		o.mtime_ns = f.mtime_ns;
	}
	op->node_kind = node_kind(o.mode);
	op->mode = o.mode & 07777;
	op->mtime_ns = o.mtime_ns;
	if (row->kind != OP_PUT)
		return 0;
	r = op->node_kind == REMOTE_SYMLINK ? fill_target(v, row, op) : 0;
	if (!r)
		r = fill_size(v, row, &o, op);
	if (r)
		outbox_op_done(op);
	return r;
}
