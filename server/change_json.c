#include "server/change_json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

static void bad(struct change *c, const char *detail)
{
	server_change_refuse(c, PROBLEM_BAD_REQUEST, detail);
}

/* True when the member is there and a text shorter than `size`, which is copied. */
static bool take_text(struct change *c, const struct json *o, const char *key, char *out,
	size_t size, const char *detail)
{
	const char *text;

	if (!json_has(o, key))
		return false;
	if (json_get_string(o, key, &text) || strlen(text) >= size) {
		bad(c, detail);
		return false;
	}
	memcpy(out, text, strlen(text) + 1);
	return true;
}

static void take_name(struct change *c, const struct json *o)
{
	const char *name;

	if (!json_has(o, "name"))
		return;
	if (json_get_string(o, "name", &name) || !server_wire_is_name(name, strlen(name))) {
		server_change_refuse(c, PROBLEM_BAD_NAME,
			"a name is 1 to 255 bytes of UTF-8 without / and NUL, not . or ..");
		return;
	}
	c->has_name = true;
	memcpy(c->name, name, strlen(name) + 1);
}

static void take_other(
	struct change *c, const struct json *o, const char *key, struct change_other *out)
{
	static const char detail[] = "replaces and swap are {\"id\", \"etag\"}";
	const struct json *other;

	if (!json_has(o, key))
		return;
	if (json_get(o, key, &other) || !json_is_object(other)) {
		bad(c, detail);
		return;
	}
	out->set = true;
	if (!take_text(c, other, "id", out->id, sizeof(out->id), detail) ||
		!take_text(c, other, "etag", out->etag, sizeof(out->etag), detail) ||
		!server_wire_is_id(out->id) || !server_wire_is_etag_list(out->etag))
		bad(c, detail);
}

void server_change_json_attributes(struct change *c, const struct json *o)
{
	uint64_t mode;

	c->has_parent = take_text(
		c, o, "parent", c->parent, sizeof(c->parent), "parent is not a record id");
	if (c->has_parent && !server_wire_is_id(c->parent))
		bad(c, "parent is not a record id");
	take_name(c, o);
	if (json_has(o, "mode")) {
		c->has_mode = true;
		if (json_get_u64(o, "mode", &mode) || mode > WIRE_MODE_MAX)
			bad(c, "mode is 0 to 4095");
		else
			c->mode = (unsigned)mode;
	}
	if (json_has(o, "mtime_ns")) {
		c->has_mtime = true;
		if (json_get_i64(o, "mtime_ns", &c->mtime_ns))
			bad(c, "mtime_ns is a decimal number");
	}
	take_other(c, o, "replaces", &c->replaces);
	take_other(c, o, "swap", &c->swap);
}

static void take_op(struct change *c, const struct json *o)
{
	static const char *const names[] = {
		[CHANGE_PUT] = "put",
		[CHANGE_PATCH] = "patch",
		[CHANGE_DELETE] = "delete",
	};
	char name[8];

	if (take_text(c, o, "op", name, sizeof(name), "op is put, patch or delete"))
		for (size_t i = 0; i < ARRAY_SIZE(names); i++)
			if (!strcmp(name, names[i])) {
				c->op = (enum change_op)i;
				return;
			}
	bad(c, "op is put, patch or delete");
}

static void take_identity(struct change *c, const struct json *o)
{
	char key[2 * WIRE_KEY_LEN + 1];

	if (!take_text(c, o, "id", c->id, sizeof(c->id), "id is not a record id") ||
		!server_wire_is_id(c->id))
		bad(c, "id is not a record id");
	c->has_key = take_text(c, o, "key", key, sizeof(key), "key is 32 hex digits");
	if (c->has_key && bytes_from_hex(key, c->key, sizeof(c->key)))
		bad(c, "key is 32 hex digits");
	if (json_has(o, "seq") && (json_get_u64(o, "seq", &c->seq) || c->seq > (uint64_t)INT64_MAX))
		bad(c, "seq is a number");
	c->has_device = c->has_device && json_has(o, "seq") && c->seq <= (uint64_t)INT64_MAX;
}

static void take_precondition(struct change *c, const struct json *o)
{
	char star[2] = "";

	if (take_text(c, o, "if_match", c->if_match, sizeof(c->if_match),
		    "if_match is a list of entity tags") &&
		!server_wire_is_etag_list(c->if_match))
		bad(c, "if_match is a list of entity tags");
	if (!take_text(c, o, "if_none_match", star, sizeof(star), "if_none_match is *"))
		return;
	c->create = !strcmp(star, "*");
	if (!c->create)
		bad(c, "if_none_match is *");
}

/* The number an element of an array is. */
static int element_number(const struct json *e, uint64_t *out)
{
	_cleanup_free_ char *text = NULL;
	int r = json_print(e, false, &text);

	return r ? r : server_wire_u64(text, out);
}

static int take_after(struct change *c, const struct json *o, size_t index)
{
	const struct json *list;
	uint64_t n;
	size_t count;

	if (!json_has(o, "after"))
		return 0;
	if (json_get_array(o, "after", &list)) {
		bad(c, "after is a list of indexes");
		return 0;
	}
	count = json_count(list);
	c->after = calloc(count + 1, sizeof(*c->after));
	if (!c->after)
		return -ENOMEM;
	for (const struct json *e = json_first(list); e; e = json_next(e)) {
		if (element_number(e, &n) || n >= index) {
			bad(c, "after names operations before this one, by index");
			return 0;
		}
		c->after[c->n_after++] = (uint32_t)n;
	}
	return 0;
}

static int take_content(struct change *c, const struct json *o)
{
	_cleanup_free_ uint8_t *data = NULL;
	const char *text;
	size_t max, len;
	int r;

	if (!json_has(o, "content"))
		return server_body_finish(&c->body);
	if (json_get_string(o, "content", &text)) {
		bad(c, "content is base64");
		return 0;
	}
	max = strlen(text) / 4 * 3 + 3;
	data = malloc(max);
	if (!data)
		return -ENOMEM;
	if (bytes_from_base64(text, data, max, &len)) {
		bad(c, "content is base64");
		return 0;
	}
	r = len ? server_body_write(&c->body, data, len) : 0;
	if (r == CE_TOO_LARGE) {
		server_change_refuse(c, PROBLEM_TOO_LARGE, "max_record_bytes");
		return 0;
	}
	return r ? r : server_body_finish(&c->body);
}

int server_change_json_operation(struct change *c, const struct json *o, size_t index)
{
	char kind[8];
	int r;

	if (!json_is_object(o)) {
		bad(c, "an operation is an object");
		c->has_device = false;
		return 0;
	}
	take_op(c, o);
	take_identity(c, o);
	take_precondition(c, o);
	server_change_json_attributes(c, o);
	r = take_after(c, o, index);
	if (r || c->op != CHANGE_PUT)
		return r;
	if (take_text(c, o, "kind", kind, sizeof(kind), "kind is file, dir or symlink")) {
		c->kind = server_records_kind(kind);
		if (!c->kind)
			bad(c, "kind is file, dir or symlink");
	}
	if (c->swap.set)
		bad(c, "swap is for patch");
	return c->refused ? 0 : take_content(c, o);
}
