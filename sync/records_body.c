/* Building request bodies. A batch's contents are spliced in as base64 without going through a JSON
 * tree. */
#include "sync/records_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

const char *records_body_kind(const struct outbox_op *op)
{
	if (op->node_kind == REMOTE_DIR)
		return "dir";
	return op->node_kind == REMOTE_SYMLINK ? "symlink" : "file";
}

static void set_pair(struct json *obj, const char *key, const struct outbox_op *op)
{
	struct json *pair = json_set_object(obj, key);

	json_set_string(pair, "id", op->other_rid);
	json_set_string(pair, "etag", op->other_etag);
}

static void set_mtime(struct json *obj, const struct outbox_op *op)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRId64, op->mtime_ns);
	json_set_string(obj, "mtime_ns", text);
}

static void set_place(struct json *obj, const struct outbox_op *op)
{
	if (*op->parent)
		json_set_string(obj, "parent", op->parent);
	if (*op->name && *op->parent)
		json_set_string(obj, "name", op->name);
}

static void set_attributes(struct json *obj, const struct outbox_op *op)
{
	json_set_u64(obj, "mode", op->mode & 07777);
	set_mtime(obj, op);
}

static void set_patch(struct json *obj, const struct outbox_op *op)
{
	switch (op->kind) {
	case OUTBOX_ATTR:
		set_attributes(obj, op);
		break;
	case OUTBOX_SWAP:
		set_pair(obj, "swap", op);
		break;
	default:
		set_place(obj, op);
		if (*op->other_rid)
			set_pair(obj, "replaces", op);
	}
}

int records_body_patch(const struct outbox_op *op, char **out)
{
	_cleanup_json_ struct json *obj = json_new_object();

	set_patch(obj, op);
	return json_print(obj, false, out);
}

int records_body_ids(const char *const *rids, size_t n, char **out)
{
	_cleanup_json_ struct json *obj = json_new_object();
	struct json *ids = json_set_array(obj, "ids");

	for (size_t i = 0; i < n; i++)
		json_append_string(ids, rids[i]);
	return json_print(obj, false, out);
}

static void set_put(struct json *obj, const struct outbox_op *op)
{
	set_place(obj, op);
	json_set_string(obj, "kind", records_body_kind(op));
	set_attributes(obj, op);
	if (*op->other_rid)
		set_pair(obj, "replaces", op);
}

static void set_envelope(struct json *obj, const struct outbox_op *op)
{
	char key[2 * sizeof(op->key) + 1];

	bytes_to_hex(op->key, sizeof(op->key), key);
	json_set_string(obj, "op",
		op->kind == OUTBOX_PUT      ? "put"
		: op->kind == OUTBOX_DELETE ? "delete"
					    : "patch");
	json_set_string(obj, "id", op->rid);
	json_set_string(obj, "key", key);
	json_set_u64(obj, "seq", op->seq);
	if (*op->if_match)
		json_set_string(obj, "if_match", op->if_match);
	else
		json_set_string(obj, "if_none_match", "*");
}

/* `"after":[1,2],` in front of the object's other members; indexes are plain numbers. */
static int append_after(struct buffer *out, const struct origin_op *o)
{
	int r = buffer_printf(out, "\"after\":[");

	for (size_t i = 0; i < o->after_n && !r; i++)
		r = buffer_printf(out, "%s%u", i ? "," : "", (unsigned)o->after[i]);
	return r ? r : buffer_printf(out, "],");
}

static int append_content(struct buffer *out, const struct origin_op *o)
{
	_cleanup_free_ char *text = NULL;
	int r = bytes_to_base64((const uint8_t *)o->content, o->op->size, &text);

	if (!r)
		r = buffer_printf(out, ",\"content\":\"");
	if (!r)
		r = buffer_append(out, text, strlen(text));
	return r ? r : buffer_append(out, "\"", 1);
}

static int append_op(struct buffer *out, const struct origin_op *o)
{
	_cleanup_json_ struct json *obj = json_new_object();
	_cleanup_free_ char *text = NULL;
	int r;

	set_envelope(obj, o->op);
	if (o->op->kind == OUTBOX_PUT)
		set_put(obj, o->op);
	else if (o->op->kind != OUTBOX_DELETE)
		set_patch(obj, o->op);
	r = json_print(obj, false, &text);
	if (!r)
		r = buffer_append(out, "{", 1);
	if (!r && o->after_n)
		r = append_after(out, o);
	if (!r)
		r = buffer_append(out, text + 1, strlen(text) - 2);
	if (!r && o->op->kind == OUTBOX_PUT && o->op->node_kind != REMOTE_DIR)
		r = append_content(out, o);
	return r ? r : buffer_append(out, "}", 1);
}

int records_body_batch(const struct origin_op *ops, size_t n, struct buffer *out)
{
	int r = buffer_printf(out, "{\"ops\":[");

	for (size_t i = 0; i < n && !r; i++) {
		if (i)
			r = buffer_append(out, ",", 1);
		if (!r)
			r = append_op(out, &ops[i]);
	}
	return r ? r : buffer_printf(out, "]}");
}
