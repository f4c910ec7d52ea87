#include "server/change.h"

#include <string.h>

#include "crypto/kdf.h"

void server_change_init(struct change *c, const struct body_dirs *dirs, uint64_t max_bytes)
{
	*c = (struct change){ 0 };
	server_body_init(&c->body, dirs, max_bytes);
}

void server_change_refuse(struct change *c, enum problem p, const char *detail)
{
	if (c->refused)
		return;
	c->refused = p;
	c->detail = detail;
}

void server_change_check(struct change *c)
{
	bool changes_root = !strcmp(c->id, RECORD_ROOT_ID) ||
			    (c->replaces.set && !strcmp(c->replaces.id, RECORD_ROOT_ID)) ||
			    (c->swap.set && !strcmp(c->swap.id, RECORD_ROOT_ID));

	if (!c->has_key)
		server_change_refuse(c, PROBLEM_BAD_REQUEST,
			"a change needs an idempotency key of 32 hex digits");
	if (!c->create && !c->if_match[0])
		server_change_refuse(c, PROBLEM_PRECONDITION_REQUIRED, NULL);
	if (c->create && (c->if_match[0] || c->op != CHANGE_PUT))
		server_change_refuse(
			c, PROBLEM_BAD_REQUEST, "if-none-match is for making a record, alone");
	if (changes_root)
		server_change_refuse(
			c, PROBLEM_BAD_REQUEST, "the root directory cannot be changed");
	if (c->create && (!c->has_parent || !c->has_name))
		server_change_refuse(
			c, PROBLEM_BAD_REQUEST, "a new record needs its parent and name");
	if (c->swap.set && (c->has_parent || c->has_name || c->replaces.set))
		server_change_refuse(c, PROBLEM_BAD_REQUEST, "swap stands alone");
	if ((c->swap.set && !strcmp(c->swap.id, c->id)) ||
		(c->replaces.set && !strcmp(c->replaces.id, c->id)))
		server_change_refuse(
			c, PROBLEM_BAD_REQUEST, "a record cannot replace or swap itself");
	if (c->kind == RECORD_DIR && c->body.len)
		server_change_refuse(c, PROBLEM_BAD_REQUEST, "a directory has no content");
}

static int add(struct buffer *b, const void *data, size_t len)
{
	uint8_t size[8];
	int r;

	store_le64(size, len);
	r = buffer_append(b, size, sizeof(size));
	return r ? r : buffer_append(b, data, len);
}

static int add_text(struct buffer *b, const char *text)
{
	return add(b, text, strlen(text));
}

static int add_number(struct buffer *b, bool set, uint64_t value)
{
	uint8_t v[9] = { set };

	store_le64(v + 1, set ? value : 0);
	return add(b, v, sizeof(v));
}

static int add_other(struct buffer *b, const struct change_other *o)
{
	int r = add_text(b, o->set ? o->id : "");

	return r ? r : add_text(b, o->set ? o->etag : "");
}

/* Every field with its length, so that no two changes have one text. */
static int describe(const struct change *c, struct buffer *b)
{
	/* Said or not, a new record is a file and an old one stays what it is. */
	enum record_kind kind = !c->create ? RECORD_NONE : c->kind ? c->kind : RECORD_FILE;
	int r = add_number(b, true, c->op);

	if (!r)
		r = add_number(b, true, (uint64_t)c->store);
	if (!r)
		r = add_text(b, c->id);
	if (!r)
		r = add_text(b, c->create ? "*" : "");
	if (!r)
		r = add_text(b, c->if_match);
	if (!r)
		r = add_text(b, c->has_parent ? c->parent : "");
	if (!r)
		r = add_text(b, c->has_name ? c->name : "");
	if (!r)
		r = add_number(b, true, kind);
	if (!r)
		r = add_number(b, c->has_mode, c->mode);
	if (!r)
		r = add_number(b, c->has_mtime, (uint64_t)c->mtime_ns);
	if (!r)
		r = add_other(b, &c->replaces);
	if (!r)
		r = add_other(b, &c->swap);
	if (!r && c->op == CHANGE_PUT)
		r = add(b, c->body.sha256, sizeof(c->body.sha256));
	return r;
}

int server_change_seal(struct change *c)
{
	struct buffer text = { 0 };
	int r;

	server_change_check(c);
	r = describe(c, &text);
	if (!r)
		r = kdf_sha256(text.data, text.len, c->digest);
	buffer_done(&text);
	return r;
}

void server_change_reset_outcome(struct change *c)
{
	c->out.status = 0;
	c->out.replayed = false;
	c->out.etag[0] = 0;
	c->out.text.len = 0;
}

void server_change_done(struct change *c)
{
	server_body_done(&c->body);
	buffer_done(&c->out.text);
	free(steal_ptr(&c->after));
}
