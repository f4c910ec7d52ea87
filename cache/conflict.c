/*
 * Conflict copies: their names, the rows that tell people of them.
 *
 * A copy is told by its name, `stem (conflict HOST YYYY-MM-DD HH-MM)[-N].ext`: that is what every
 * origin carries, so every device knows it (outbox_conflict.c), and that it is settled when no file
 * is called so any more.
 */
#include "cache/remote_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "cache/merge.h"
#include "cache/tree_priv.h"

#define SUFFIX_MAX 160
#define EXTENSION_MAX 32 /* what is longer is no extension */
#define TRIES_MAX 10000

const char *conflict_kind_text(uint32_t kind)
{
	static const char *const texts[] = { "edit-edit", "edit-delete", "delete-edit",
		"create-create", "move", "elsewhere" };

	return kind >= 1 && kind <= ARRAY_SIZE(texts) ? texts[kind - 1] : "edit-edit";
}

/* Host names go into file names: what may not stand there, or would be confusing, becomes '-'. */
static void clean_host(const char *host, char *out, size_t size)
{
	size_t n = 0;

	for (; *host && n + 1 < size && n < 40; host++) {
		unsigned char c = (unsigned char)*host;

		out[n++] = c <= 0x20 || c == '/' || c >= 0x7f ? '-' : (char)c;
	}
	if (!n)
		out[n++] = '-';
	out[n] = 0;
}

/* The last dot with something short behind and something before it. */
static size_t stem_len(const struct row_filename *name)
{
	for (size_t i = name->len; i-- > 1;)
		if (name->bytes[i] == '.')
			return name->len - i <= EXTENSION_MAX && i + 1 < name->len ? i : name->len;
	return name->len;
}

/* At most `max` bytes, never half a character. */
static size_t cut(const struct row_filename *name, size_t len, size_t max)
{
	if (len <= max)
		return len;
	len = max;
	while (len && (name->bytes[len] & 0xc0) == 0x80)
		len--;
	return len;
}

static bool build(const struct row_filename *name, const char *suffix, struct row_filename *out)
{
	size_t stem = stem_len(name), ext = name->len - stem, n = strlen(suffix);
	char text[ROW_NAME_MAX + 1];

	stem = cut(name, stem, ROW_NAME_MAX - n - ext);
	memcpy(text, name->bytes, stem);
	memcpy(text + stem, suffix, n);
	memcpy(text + stem + n, name->bytes + name->len - ext, ext);
	return row_filename_set(out, text, stem + n + ext);
}

int conflict_name(struct volume *v, uint64_t parent, const struct row_filename *name, int64_t now,
	struct row_filename *out)
{
	char suffix[SUFFIX_MAX], host[48], when[32], again[16] = "";
	time_t seconds = (time_t)(now / NS_PER_SEC);
	struct row_filename tried;
	struct name_row there;
	struct tm tm;

	clean_host(v->host, host, sizeof(host));
	if (!localtime_r(&seconds, &tm) || !strftime(when, sizeof(when), "%Y-%m-%d %H-%M", &tm))
		return -EOVERFLOW;
	for (int i = 2; i < TRIES_MAX; i++) {
		int r;

		snprintf(suffix, sizeof(suffix), " (conflict %s %s)%s", host, when, again);
		if (!build(name, suffix, &tried))
			return -EINVAL;
		r = name_find(v->db, parent, tried.bytes, tried.len, &there);
		if (r == -ENOENT)
			*out = tried;
		if (r)
			return r == -ENOENT ? 0 : r;
		snprintf(again, sizeof(again), "-%d", i);
	}
	return -EEXIST;
}

/* What of `s` stands in the pattern, where 'd' is any digit; NULL: it does not. */
static const char *skip(const char *s, const char *pattern)
{
	for (; *pattern; pattern++, s++)
		if (*pattern == 'd' ? *s < '0' || *s > '9' : *s != *pattern)
			return NULL;
	return s;
}

/* The last tag of a name is bytes `at` to `end`. */
static bool find_tag(const struct row_filename *name, size_t *at, size_t *end)
{
	const char *text = (const char *)name->bytes, *tag = NULL, *s;

	for (s = text; (s = strstr(s, NAME_COPY_MARK)); s++)
		tag = s;
	if (!tag || tag == text)
		return false;
	s = tag + strlen(NAME_COPY_MARK);
	s += strcspn(s, " ");
	s = skip(s, " dddd-dd-dd dd-dd)");
	if (s && *s == '-')
		s += 1 + strspn(s + 1, "0123456789");
	if (!s || (*s && (*s != '.' || strlen(s) > EXTENSION_MAX)))
		return false;
	*at = (size_t)(tag - text);
	*end = (size_t)(s - text);
	return true;
}

bool conflict_is_copy(const struct row_filename *name, struct row_filename *original)
{
	char text[ROW_NAME_MAX + 1];
	size_t at, end;

	if (!find_tag(name, &at, &end))
		return false;
	memcpy(text, name->bytes, at);
	memcpy(text + at, name->bytes + end, name->len - end);
	return row_filename_set(original, text, at + name->len - end);
}

int conflict_kept_name(struct volume *v, const struct name_row *copy, struct row_filename *out)
{
	const char *text = (const char *)copy->name.bytes;
	const int word = (int)strlen(NAME_COPY_MARK);
	char kept[ROW_NAME_MAX + 16], again[16] = "";
	struct row_filename tried;
	struct name_row there;
	size_t at, end;

	if (!find_tag(&copy->name, &at, &end))
		return -EINVAL;
	for (int i = 2; i < TRIES_MAX; i++) {
		int n = snprintf(kept, sizeof(kept), "%.*s (%.*s%s%s", (int)at, text,
			(int)end - (int)at - word, text + at + word, again, text + end);
		int r = row_filename_set(&tried, kept, (size_t)n) ? 0 : -EINVAL;

		if (!r)
			r = name_find(v->db, copy->parent, tried.bytes, tried.len, &there);
		if (r == -ENOENT)
			*out = tried;
		if (r)
			return r == -ENOENT ? 0 : r;
		snprintf(again, sizeof(again), "-%d", i);
	}
	return -EEXIST;
}

static int log_event(
	struct volume *v, int64_t now, uint64_t id, const char *what, const char *value)
{
	char detail[80];

	snprintf(detail, sizeof(detail), "{\"id\":%" PRIu64 ",\"%s\":\"%s\"}", id, what, value);
	return event_append(v->db, now, "conflict", detail);
}

int conflict_add(struct volume *v, struct conflict_row *c)
{
	int r = conflict_insert(v->db, c);

	return r ? r : log_event(v, c->created_ns, c->id, "kind", conflict_kind_text(c->kind));
}

int conflict_close(
	struct volume *v, const struct conflict_row *c, int64_t now, enum merge_pick outcome)
{
	int r = conflict_resolve(v->db, c->id, now, outcome);

	if (!r && c->base)
		r = gc_drop_map(v, c->base);
	return r ? r : log_event(v, now, c->id, "outcome", merge_pick_name(outcome));
}

int conflict_note(struct remote_pass *p, enum conflict_kind kind, uint64_t object, const char *rid,
	const char *path, const char *other_path)
{
	struct conflict_row c = {
		.store = p->store.id,
		.object = object,
		.kind = kind,
		.path = strdup(path),
		.other_path = strdup(other_path),
		.created_ns = p->now,
		.base = p->base,
	};
	int r = -ENOMEM;

	snprintf(c.rid.text, sizeof(c.rid.text), "%s", rid);
	if (c.path && c.other_path)
		r = conflict_add(p->v, &c);
	conflict_row_done(&c);
	if (r)
		return r;
	p->base = 0;
	p->report.conflicts++;
	atomic_fetch_add(&p->v->conflicts, 1);
	return 0;
}

int conflict_path(struct volume *v, uint64_t dir, const struct row_filename *name, char **out)
{
	_cleanup_free_ char *path = NULL;
	int r = tree_path_locked(v, dir, &path);

	if (r && r != -ENOENT)
		return r;
	return bytes_print(out, "%s%s%s", path ? path : "", path && *path ? "/" : "",
		(const char *)name->bytes);
}

int conflict_step_aside(struct remote_pass *p, struct name_row *n, enum conflict_kind kind)
{
	_cleanup_free_ char *from = NULL, *to = NULL;
	struct row_filename old = n->name;
	struct object_row o;
	int r = object_get(p->v->db, n->object, &o);

	if (!r)
		r = conflict_name(p->v, n->parent, &old, p->now, &n->name);
	if (!r)
		r = fold_aside(p->v, n);
	if (!r)
		r = name_update(p->v->db, n);
	if (!r)
		r = remote_pass_entry(p, n->parent, &old, &o);
	if (!r)
		r = remote_pass_entry(p, n->parent, &n->name, &o);
	if (!r)
		r = conflict_path(p->v, n->parent, &n->name, &to);
	if (!r)
		r = conflict_path(p->v, n->parent, &old, &from);
	return r ? r : conflict_note(p, kind, n->object, n->rid.text, to, from);
}
