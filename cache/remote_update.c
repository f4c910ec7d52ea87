/* Objects as the origin wants them. Content that changed is a new version: a map that says that
 * nothing is here yet. */
#include "cache/remote_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/tree_priv.h"

static int new_map(struct volume *v, const struct remote_record *rec, uint64_t object, bool pinned,
	uint64_t *out)
{
	struct content_map m = { .object = object,
		.size = rec->size,
		.whole = false,
		.state = CONTENT_MAP_CURRENT,
		.pinned = pinned };
	int r;

	*out = 0;
	if (rec->kind != REMOTE_FILE || !rec->size)
		return 0;
	memcpy(m.etag.text, rec->etag, sizeof(m.etag.text));
	r = content_map_insert(v->db, &m);
	if (!r)
		*out = m.id;
	return r;
}

static int make_object(struct remote_pass *p, const struct remote_record *rec, struct object_row *o)
{
	const char *target = rec->kind == REMOTE_SYMLINK ? rec->target : NULL;
	int r;

	if (rec->kind == REMOTE_SYMLINK && !target)
		return -EINVAL;
	*o = (struct object_row){
		.store = p->store.id,
		.version = 1,
		.mode = remote_record_mode(rec),
		.uid = p->v->uid,
		.gid = p->v->gid,
		.nlink = rec->kind == REMOTE_DIR ? 2 : 1,
		.size = target                     ? strlen(target)
			: rec->kind == REMOTE_FILE ? rec->size
						   : 0,
		.atime_ns = rec->mtime_ns,
		.mtime_ns = rec->mtime_ns,
		.ctime_ns = p->now,
		.btime_ns = p->now,
	};
	r = object_insert(p->v->db, o, target, target ? strlen(target) : 0);
	if (r || !o->size || target)
		return r;
	r = new_map(p->v, rec, o->id, false, &o->map);
	return r ? r : object_update(p->v->db, o);
}

int remote_update_insert(struct remote_pass *p, const struct remote_record *rec, struct name_row *n)
{
	struct object_row o;
	int r = make_object(p, rec, &o);

	if (r)
		return r;
	n->object = o.id;
	r = name_insert(p->v->db, n);
	if (!r)
		r = remote_pass_touch(p, n->parent, S_ISDIR(o.mode) ? 1 : 0);
	return r ? r : remote_pass_entry(p, n->parent, &n->name, &o);
}

/* The name gets an object of its own; the old one goes on under its other names, or goes. */
int remote_update_replace(struct remote_pass *p, const struct remote_record *rec,
	struct name_row *n, struct object_row *old)
{
	struct object_row o;
	int dir = S_ISDIR(old->mode) ? 1 : 0;
	int r = make_object(p, rec, &o);

	if (r)
		return r;
	n->object = o.id;
	r = name_update(p->v->db, n);
	if (!r)
		r = remote_pass_entry(p, n->parent, &n->name, old);
	if (!r)
		r = remote_pass_touch(p, n->parent, (S_ISDIR(o.mode) ? 1 : 0) - dir);
	return r ? r : tree_row_unlinked(p->v, n, old, p->now);
}

static int same_target(struct remote_pass *p, const struct remote_record *rec,
	const struct object_row *o, bool *out)
{
	_cleanup_free_ char *target = NULL;
	size_t len;
	int r;

	*out = true;
	if (!rec->target)
		return 0;
	r = object_target(p->v->db, o->id, &target, &len);
	if (!r)
		*out = !strcmp(target, rec->target);
	return r;
}

static int same_content(struct remote_pass *p, const struct remote_record *rec,
	const struct name_row *n, const struct object_row *o, bool *out)
{
	switch (rec->kind) {
	case REMOTE_DIR:
		*out = true;
		return 0;
	case REMOTE_SYMLINK:
		return same_target(p, rec, o, out);
	default:
		*out = n->has_sha256 && rec->has_sha256 &&
		       !memcmp(n->sha256, rec->sha256, ROW_SHA256_LEN);
		return 0;
	}
}

static int replace_content(struct remote_pass *p, const struct remote_record *rec,
	const struct name_row *n, struct object_row *o)
{
	struct content_map old = { .pinned = false };
	int r = remote_pass_object(p, CHANGE_CONTENT, o);

	if (!r)
		r = remote_pass_entry(p, n->parent, &n->name, o);
	if (!r && rec->kind == REMOTE_SYMLINK)
		r = object_set_target(p->v->db, o->id, rec->target, strlen(rec->target));
	if (!r && o->map)
		r = content_map_get(p->v->db, o->map, &old);
	if (!r && o->map)
		r = gc_drop_map(p->v, o->map);
	if (!r)
		r = new_map(p->v, rec, o->id, old.pinned, &o->map);
	if (r)
		return r;
	o->version++;
	o->size = rec->kind == REMOTE_SYMLINK ? strlen(rec->target) : rec->size;
	return 0;
}

/* Of a name that waits for its place the ETag says only that; its content's is that of its map. */
int remote_update_kept(
	struct volume *v, const struct object_row *o, const struct name_row *n, const char *etag)
{
	struct content_map m = { .id = 0 };
	int r = 0;

	if (!remote_record_is_unplaced(n))
		return tree_row_map_etag(v, o, n->etag.text, etag);
	if (S_ISREG(o->mode) && o->map && o->nlink == 1)
		r = content_map_get(v->db, o->map, &m);
	return r || !m.etag.text[0] ? r : tree_row_map_etag(v, o, m.etag.text, etag);
}

int remote_update_object(struct remote_pass *p, const struct remote_record *rec, struct name_row *n)
{
	const uint32_t mode = remote_record_mode(rec);
	struct object_row o;
	bool same_attr, same = true;
	int r = object_get(p->v->db, n->object, &o);

	if (r)
		return r;
	if ((o.mode ^ mode) & S_IFMT)
		return S_ISDIR(o.mode) && name_any(p->v->db, o.id)
			       ? -ENOTEMPTY
			       : remote_update_replace(p, rec, n, &o);
	r = same_content(p, rec, n, &o, &same);
	if (r)
		return r;
	same_attr = o.mode == mode && (o.mtime_ns == rec->mtime_ns || rec->kind == REMOTE_DIR);
	if (!S_ISDIR(o.mode) && o.nlink > 1 && !(same && same_attr))
		return remote_update_replace(p, rec, n, &o);
	if (!same)
		r = replace_content(p, rec, n, &o);
	else
		r = remote_update_kept(p->v, &o, n, rec->etag);
	if (r || (same && o.mode == mode && o.mtime_ns == rec->mtime_ns))
		return r;
	o.mode = mode;
	o.mtime_ns = rec->mtime_ns;
	o.ctime_ns = p->now;
	r = object_update(p->v->db, &o);
	return r ? r : remote_pass_object(p, CHANGE_ATTR, &o);
}

int remote_update_move(
	struct remote_pass *p, struct name_row *n, uint64_t parent, const struct row_filename *name)
{
	struct object_row o;
	int dir, r = object_get(p->v->db, n->object, &o);

	if (r)
		return r;
	dir = S_ISDIR(o.mode) ? 1 : 0;
	r = remote_pass_entry(p, n->parent, &n->name, &o);
	if (!r)
		r = remote_pass_entry(p, parent, name, &o);
	if (!r && n->parent != TREE_NOWHERE)
		r = remote_pass_touch(p, n->parent, -dir);
	if (!r)
		r = remote_pass_touch(p, parent, dir);
	n->parent = parent;
	n->name = *name;
	return r;
}
