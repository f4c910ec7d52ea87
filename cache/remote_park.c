/*
 * Records without a place. One that stands where another is to come, by the origin's word, is taken
 * out of every directory until its own entry comes and says where it went. Should none come (the
 * word about the other was an old one), it must not stay lost: its state as we know it waits among
 * the deferred entries, under a sequence number of its own, and brings it back as soon as its place
 * is free.
 */
#include "cache/remote_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/tree_priv.h"

static void describe(
	const struct name_row *n, const struct object_row *o, struct remote_record *rec)
{
	*rec = (struct remote_record){
		.kind = S_ISDIR(o->mode)   ? REMOTE_DIR
			: S_ISLNK(o->mode) ? REMOTE_SYMLINK
					   : REMOTE_FILE,
		.size = S_ISDIR(o->mode) ? 0 : o->size,
		.mode = o->mode & 07777,
		.mtime_ns = o->mtime_ns,
		.has_sha256 = n->has_sha256,
		.seq = REMOTE_PARK_SEQ,
	};
	memcpy(rec->id, n->rid.text, sizeof(rec->id));
	memcpy(rec->parent, n->r_parent.text, sizeof(rec->parent));
	memcpy(rec->name, n->r_name.bytes, n->r_name.len);
	memcpy(rec->etag, n->etag.text, sizeof(rec->etag));
	memcpy(rec->sha256, n->sha256, sizeof(rec->sha256));
}

int remote_park_name(struct remote_pass *p, struct name_row *n, const struct object_row *o)
{
	char text[ROW_RID_MAX + 32];
	const struct row_filename old = n->name;
	const uint64_t parent = n->parent;
	_cleanup_free_ char *waiting = NULL;
	struct remote_record rec;
	int r;

	describe(n, o, &rec);
	snprintf(text, sizeof(text), "%llu:%s", (unsigned long long)p->store.id, n->rid.text);
	if (!row_filename_set(&n->name, text, strlen(text)))
		return -EINVAL;
	n->parent = TREE_NOWHERE;
	r = name_update(p->v->db, n);
	if (!r)
		r = remote_pass_touch(p, parent, S_ISDIR(o->mode) ? -1 : 0);
	if (!r)
		r = remote_pass_entry(p, parent, &old, o);
	if (r)
		return r;
	/* An entry that waits already knows more than we do. */
	r = deferred_get(p->v->db, p->store.id, rec.id, &waiting);
	return r == -ENOENT ? remote_pass_defer(p, &rec, DEFERRED_BUSY) : r;
}

int remote_park_return(struct remote_pass *p, const struct remote_record *rec, struct name_row *n)
{
	struct row_filename name;
	struct name_row there;
	uint64_t parent;
	bool below = false;
	int r;

	if (n->parent != TREE_NOWHERE || strcmp(n->etag.text, rec->etag))
		return 0;
	r = remote_place_parent(p, rec, &parent);
	if (!r)
		r = tree_row_below(p->v, parent, n->object, &below);
	if (r)
		return r == -ENOENT ? remote_pass_defer(p, rec, DEFERRED_PARENT) : r;
	if (!row_filename_set(&name, rec->name, strlen(rec->name)))
		return -EINVAL;
	r = name_find(p->v->db, parent, name.bytes, name.len, &there);
	if (!r || below)
		return remote_pass_defer(p, rec, DEFERRED_BUSY);
	if (r != -ENOENT)
		return r;
	r = remote_update_move(p, n, parent, &name);
	if (!r)
		r = name_update(p->v->db, n);
	if (!r && rec->kind == REMOTE_DIR)
		r = remote_pass_arrived(p, rec->id);
	if (!r)
		p->report.applied++;
	return r;
}

int remote_park_near_home(struct remote_pass *p, struct name_row *n)
{
	struct remote_record home = { .kind = REMOTE_DIR };
	struct row_filename name = n->r_name;
	struct name_row there;
	uint64_t parent;
	bool below = false;
	int r;

	memcpy(home.parent, n->r_parent.text, sizeof(home.parent));
	r = remote_place_parent(p, &home, &parent);
	if (!r)
		r = tree_row_below(p->v, parent, n->object, &below);
	if (r == -ENOENT || below) {
		parent = p->store.root;
		r = 0;
	}
	if (r)
		return r;
	r = name_find(p->v->db, parent, name.bytes, name.len, &there);
	if (!r)
		r = conflict_name(p->v, parent, &n->r_name, p->now, &name);
	if (r && r != -ENOENT)
		return r;
	r = remote_update_move(p, n, parent, &name);
	return r ? r : name_update(p->v->db, n);
}

int remote_park_revive(struct remote_pass *p, struct name_row *n, const struct object_row *o)
{
	int r = n->parent == TREE_NOWHERE ? remote_park_near_home(p, n) : 0;

	p->any_ops = true;
	p->parent_rid.text[0] = 0;
	return r ? r : fold_revive(p->v, n, o);
}
