/* A record of docs/protocol.md: read strictly, for what an origin says becomes names and sizes
 * here. */
#include "cache/remote_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/error.h"

static bool id_ok(const char *id)
{
	size_t len = strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");

	return len && len <= ROW_RID_MAX && !id[len];
}

static bool name_ok(const char *name)
{
	struct row_filename f;
	size_t len = strlen(name);

	return row_filename_set(&f, name, len) && bytes_is_utf8((const uint8_t *)name, len);
}

/* Strong, quoted, printable ASCII. */
static bool etag_ok(const char *etag)
{
	size_t len = strlen(etag);

	if (len < 2 || len > ROW_ETAG_MAX || etag[0] != '"' || etag[len - 1] != '"')
		return false;
	for (size_t i = 1; i + 1 < len; i++)
		if (etag[i] <= 0x20 || etag[i] >= 0x7f || etag[i] == '"')
			return false;
	return true;
}

static int get_text(const struct json *in, const char *key, bool (*ok)(const char *text),
	bool needed, char *out, size_t size)
{
	const char *text;

	if (!needed && !json_has(in, key))
		return 0;
	if (json_get_string(in, key, &text) || !ok(text) || strlen(text) >= size)
		return CE_PROTOCOL;
	memcpy(out, text, strlen(text) + 1);
	return 0;
}

static int get_kind(const struct json *in, bool needed, struct remote_record *out)
{
	const char *text;

	if (!needed && !json_has(in, "kind"))
		return 0;
	if (json_get_string(in, "kind", &text))
		return CE_PROTOCOL;
	if (!strcmp(text, "file"))
		out->kind = REMOTE_FILE;
	else if (!strcmp(text, "dir"))
		out->kind = REMOTE_DIR;
	else if (!strcmp(text, "symlink"))
		out->kind = REMOTE_SYMLINK;
	else
		return CE_PROTOCOL;
	return 0;
}

static int get_hex(const struct json *in, const char *key, uint8_t *out, size_t len, bool *has)
{
	const char *text;

	if (!json_has(in, key))
		return 0;
	if (json_get_string(in, key, &text) || bytes_from_hex(text, out, len))
		return CE_PROTOCOL;
	*has = true;
	return 0;
}

static int get_attributes(const struct json *in, struct remote_record *out)
{
	uint64_t mode = out->kind == REMOTE_DIR ? 0755 : 0644, size_max = FILE_SIZE_MAX;
	int r;

	if (json_has(in, "mode") && (json_get_u64(in, "mode", &mode) || mode > 07777))
		return CE_PROTOCOL;
	out->mode = (uint32_t)mode;
	if (json_has(in, "mtime_ns") && json_get_i64(in, "mtime_ns", &out->mtime_ns))
		return CE_PROTOCOL;
	if (out->kind == REMOTE_DIR)
		return 0;
	if (out->kind == REMOTE_SYMLINK)
		size_max = 4095;
	if (json_get_u64(in, "size", &out->size) || out->size > size_max)
		return CE_PROTOCOL;
	r = get_hex(in, "sha256", out->sha256, sizeof(out->sha256), &out->has_sha256);
	return r;
}

int remote_record_parse(const struct json *in, struct remote_record *out)
{
	struct remote_record rec = { 0 };
	bool live;
	int r;

	if (!json_is_object(in) ||
		(json_has(in, "deleted") && json_get_bool(in, "deleted", &rec.deleted)))
		return CE_PROTOCOL;
	live = !rec.deleted;
	if (json_has(in, "seq") && json_get_u64(in, "seq", &rec.seq))
		return CE_PROTOCOL;
	r = get_text(in, "id", id_ok, true, rec.id, sizeof(rec.id));
	if (!r)
		r = get_text(in, "parent", id_ok, live, rec.parent, sizeof(rec.parent));
	if (!r)
		r = get_text(in, "name", name_ok, live, rec.name, sizeof(rec.name));
	if (!r)
		r = get_text(in, "etag", etag_ok, live, rec.etag, sizeof(rec.etag));
	if (!r)
		r = get_kind(in, live, &rec);
	if (!r)
		r = get_hex(in, "key", rec.key, sizeof(rec.key), &rec.has_key);
	if (!r && live)
		r = get_attributes(in, &rec);
	if (!r && (!strcmp(rec.id, "root") || !strcmp(rec.id, rec.parent)))
		r = CE_PROTOCOL;
	if (!r)
		*out = rec;
	return r;
}

static void set_hex(struct json *o, const char *key, const uint8_t *data, size_t len)
{
	char text[2 * 32 + 1];

	bytes_to_hex(data, len, text);
	json_set_string(o, key, text);
}

int remote_record_print(const struct remote_record *r, char **out)
{
	static const char *const kinds[] = { "file", "dir", "symlink" };
	_cleanup_json_ struct json *o = json_new_object();

	json_set_string(o, "id", r->id);
	if (r->parent[0])
		json_set_string(o, "parent", r->parent);
	if (r->name[0])
		json_set_string(o, "name", r->name);
	if (r->etag[0])
		json_set_string(o, "etag", r->etag);
	json_set_string(o, "kind", kinds[r->kind]);
	json_set_u64(o, "seq", r->seq);
	if (r->has_key)
		set_hex(o, "key", r->key, sizeof(r->key));
	if (r->deleted) {
		json_set_bool(o, "deleted", true);
		return json_print(o, false, out);
	}
	json_set_u64(o, "mode", r->mode);
	json_set_i64(o, "mtime_ns", r->mtime_ns);
	if (r->kind != REMOTE_DIR)
		json_set_u64(o, "size", r->size);
	if (r->has_sha256)
		set_hex(o, "sha256", r->sha256, sizeof(r->sha256));
	if (r->target)
		json_set_bytes(o, "target", (const uint8_t *)r->target, strlen(r->target));
	return json_print(o, false, out);
}

static int load_target(const struct json *in, struct remote_record *out)
{
	char target[4096];
	const char *text;
	size_t len;
	int r;

	if (!json_has(in, "target"))
		return 0;
	r = json_get_string(in, "target", &text);
	if (!r)
		r = bytes_from_base64(text, (uint8_t *)target, sizeof(target) - 1, &len);
	if (r)
		return r;
	out->target = strndup(target, len);
	return out->target ? 0 : -ENOMEM;
}

int remote_record_load(const char *text, struct remote_record *out)
{
	_cleanup_json_ struct json *in = NULL;
	struct remote_record rec;
	int r = json_parse(text, strlen(text), &in);

	if (!r)
		r = remote_record_parse(in, &rec);
	if (!r)
		r = load_target(in, &rec);
	if (!r)
		*out = rec;
	return r;
}

void remote_record_done(struct remote_record *r)
{
	free(r->target);
	r->target = NULL;
}

void remote_record_onto_name(const struct remote_record *rec, struct name_row *n)
{
	snprintf(n->etag.text, sizeof(n->etag.text), "%s", rec->etag);
	snprintf(n->r_parent.text, sizeof(n->r_parent.text), "%s", rec->parent);
	n->has_sha256 = rec->has_sha256;
	memcpy(n->sha256, rec->sha256, sizeof(n->sha256));
	/* The name was checked when the record was read. */
	(void)!row_filename_set(&n->r_name, rec->name, strlen(rec->name));
}

#define ETAG_UNPLACED "\"unplaced\""

void remote_record_unplaced(struct name_row *n)
{
	memcpy(n->etag.text, ETAG_UNPLACED, sizeof(ETAG_UNPLACED));
}

bool remote_record_is_unplaced(const struct name_row *n)
{
	return !strcmp(n->etag.text, ETAG_UNPLACED);
}

uint32_t remote_record_mode(const struct remote_record *rec)
{
	switch (rec->kind) {
	case REMOTE_DIR:
		return S_IFDIR | rec->mode;
	case REMOTE_SYMLINK:
		return S_IFLNK | 0777;
	default:
		return S_IFREG | rec->mode;
	}
}
