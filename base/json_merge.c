/*
 * Each text is read twice: by json_parse(), which judges it and decodes the names of members, and
 * here into spans, which remember how it was written. The spans of a text follow its tree node by
 * node. A merged object is a list of members, each from one of the sides, with the value that won;
 * what stands between them comes along with the member.
 */
#include "base/json_merge.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"

struct span {
	const char *at;
	size_t len;
};

struct member;

struct value {
	struct span text;
	bool is_object;
	struct member *members; /* in their order */
	struct member **sorted; /* by name */
	size_t n;
	struct span close; /* white space before the closing bracket */
};

struct member {
	const char *name; /* of the tree */
	struct span lead; /* white space, name, colon, white space */
	struct value value;
	struct span trail; /* white space before a comma */

	/* While its object is merged: */
	struct member *next; /* in the result */
	struct value *base, *ours, *theirs;
	bool stays, from_other;
};

enum { BASE, OURS, THEIRS, SIDES };

struct merge {
	struct json *trees[SIDES];
	struct value roots[SIDES];
	struct buffer out;
};

/* --- spans; the text is known to be valid --- */

static void skip_space(const char **p)
{
	while (**p == ' ' || **p == '\t' || **p == '\n' || **p == '\r')
		(*p)++;
}

static void skip_string(const char **p)
{
	for ((*p)++; **p != '"'; (*p)++)
		if (**p == '\\')
			(*p)++;
	(*p)++;
}

/* An array or object whole, by its brackets; a scalar to its end. */
static void skip_value(const char **p)
{
	unsigned depth = 0;

	do {
		if (**p == '"') {
			skip_string(p);
		} else if (**p == '[' || **p == '{') {
			depth++;
			(*p)++;
		} else if (**p == ']' || **p == '}') {
			depth--;
			(*p)++;
		} else {
			*p += depth ? 1 : strcspn(*p, " \t\r\n,]}");
		}
	} while (depth);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp((*(struct member *const *)a)->name, (*(struct member *const *)b)->name);
}

static int read_value(const char **p, const struct json *tree, struct value *v);

static int read_member(const char **p, const struct json *tree, struct member *m)
{
	const char *from = *p;
	int r;

	skip_space(p);
	skip_string(p);
	skip_space(p);
	(*p)++;
	skip_space(p);
	m->name = json_key(tree);
	m->lead = (struct span){ from, (size_t)(*p - from) };
	r = read_value(p, tree, &m->value);
	from = *p;
	skip_space(p);
	m->trail = (struct span){ from, (size_t)(*p - from) };
	return r;
}

static int read_members(const char **p, const struct json *tree, struct value *v)
{
	const char *from = ++*p;
	size_t n = json_count(tree);
	int r = 0;

	if (n) {
		v->members = calloc(n, sizeof(*v->members));
		v->sorted = calloc(n, sizeof(struct member *));
		if (!v->members || !v->sorted)
			return -ENOMEM;
	}
	for (const struct json *child = json_first(tree); !r && child; child = json_next(child)) {
		struct member *m = &v->members[v->n];

		v->sorted[v->n++] = m;
		r = read_member(p, child, m);
		if (json_next(child))
			(*p)++;
		else
			v->close = m->trail;
	}
	if (!n) {
		skip_space(p);
		v->close = (struct span){ from, (size_t)(*p - from) };
	} else if (!r) {
		v->members[n - 1].trail.len = 0;
		qsort(v->sorted, n, sizeof(struct member *), compare_names);
	}
	(*p)++;
	return r;
}

static int read_value(const char **p, const struct json *tree, struct value *v)
{
	int r = 0;

	v->text.at = *p;
	v->is_object = json_is_object(tree);
	if (v->is_object)
		r = read_members(p, tree, v);
	else
		skip_value(p);
	v->text.len = (size_t)(*p - v->text.at);
	return r;
}

static void value_done(struct value *v)
{
	for (size_t i = 0; i < v->n; i++)
		value_done(&v->members[i].value);
	free(v->members);
	free(v->sorted);
}

static int read_side(struct merge *m, int side, const struct json_text *t)
{
	const char *p = t->text;
	int r;

	if (t->len > JSON_MERGE_MAX_BYTES)
		return CE_TOO_LARGE;
	r = json_parse(t->text, t->len, &m->trees[side]);
	if (r)
		return r;
	skip_space(&p);
	return read_value(&p, m->trees[side], &m->roots[side]);
}

static struct member *find(const struct value *v, const char *name)
{
	struct member key = { .name = name }, *k = &key, **found;

	found = v->n ? bsearch(&k, v->sorted, v->n, sizeof(struct member *), compare_names) : NULL;
	return found ? *found : NULL;
}

static bool same(const struct value *a, const struct value *b)
{
	const char *p = a->text.at, *q = b->text.at;
	const char *p_end = p + a->text.len, *q_end = q + b->text.len;
	bool quoted = false;

	for (;; p++, q++) {
		if (!quoted) {
			skip_space(&p);
			skip_space(&q);
		}
		if (p >= p_end || q >= q_end)
			return p >= p_end && q >= q_end;
		if (*p != *q)
			return false;
		if (quoted && *p == '\\') {
			p++;
			q++;
			if (*p != *q)
				return false;
		} else if (*p == '"') {
			quoted = !quoted;
		}
	}
}

/* --- merging --- */

static int put(struct merge *m, const struct span *s)
{
	return buffer_append(&m->out, s->at, s->len);
}

static int merge_value(
	struct merge *m, const struct value *base, struct value *ours, struct value *theirs);

/* *stays: the member is part of the result. */
static int judge(
	const struct value *base, const struct value *ours, const struct value *theirs, bool *stays)
{
	*stays = true;
	if (ours && theirs)
		return base || same(ours, theirs) ? 0 : CE_CONFLICT;
	if (!base)
		return 0;
	*stays = false;
	if (!ours && !theirs)
		return 0;
	return same(base, ours ? ours : theirs) ? 0 : CE_CONFLICT;
}

/* The members both objects have come in another order. */
static bool reordered(const struct value *base, const struct value *side)
{
	size_t i = 0, k = 0;

	for (;; i++, k++) {
		while (i < base->n && !find(side, base->members[i].name))
			i++;
		while (k < side->n && !find(base, side->members[k].name))
			k++;
		if (i == base->n || k == side->n)
			return false;
		if (strcmp(base->members[i].name, side->members[k].name))
			return true;
	}
}

static struct value *value_of(const struct value *object, const char *name)
{
	struct member *x = find(object, name);

	return x ? &x->value : NULL;
}

/* What becomes of each member of `side`. */
static int judge_members(struct value *side, const struct value *base, const struct value *ours,
	const struct value *theirs)
{
	for (size_t i = 0; i < side->n; i++) {
		struct member *x = &side->members[i];
		int r;

		x->base = value_of(base, x->name);
		x->ours = value_of(ours, x->name);
		x->theirs = value_of(theirs, x->name);
		r = judge(x->base, x->ours, x->theirs, &x->stays);
		if (r)
			return r;
	}
	return 0;
}

/* The members that stay: those of `first` in their order, the others of `second` each behind the
 * one it stood behind. */
static struct member *chain(struct value *first, struct value *second)
{
	struct member head = { 0 }, *last = &head;

	for (size_t i = 0; i < first->n; i++)
		if (first->members[i].stays)
			last = last->next = &first->members[i];
	last = &head;
	for (size_t i = 0; i < second->n; i++) {
		struct member *x = &second->members[i], *there = find(first, x->name);

		if (!x->stays)
			continue;
		if (there) {
			last = there;
			continue;
		}
		x->from_other = true;
		x->next = last->next;
		last = last->next = x;
	}
	return head.next;
}

static int put_members(struct merge *m, const struct member *x, const struct value *first,
	const struct value *second)
{
	const struct value *side = first;
	int r = buffer_append(&m->out, "{", 1);

	for (; !r && x; x = x->next) {
		side = x->from_other ? second : first;
		r = put(m, &x->lead);
		if (!r && x->ours && x->theirs && x->base)
			r = merge_value(m, x->base, x->ours, x->theirs);
		else if (!r)
			r = put(m, &x->value.text);
		if (!r && x->next)
			r = put(m, &x->trail);
		if (!r && x->next)
			r = buffer_append(&m->out, ",", 1);
	}
	if (!r)
		r = put(m, &side->close);
	return r ? r : buffer_append(&m->out, "}", 1);
}

static int merge_object(
	struct merge *m, const struct value *base, struct value *ours, struct value *theirs)
{
	const bool as_ours = reordered(base, ours) && !reordered(base, theirs);
	struct value *first = as_ours ? ours : theirs, *second = as_ours ? theirs : ours;
	int r = judge_members(ours, base, ours, theirs);

	if (!r)
		r = judge_members(theirs, base, ours, theirs);
	return r ? r : put_members(m, chain(first, second), first, second);
}

/* Recursion bounded by JSON_DEPTH_MAX. The members of `ours` and `theirs` carry the result. */
static int merge_value(
	struct merge *m, const struct value *base, struct value *ours, struct value *theirs)
{
	if (same(base, theirs))
		return put(m, same(ours, theirs) ? &theirs->text : &ours->text);
	if (same(base, ours) || same(ours, theirs))
		return put(m, &theirs->text);
	if (!base->is_object || !ours->is_object || !theirs->is_object)
		return CE_CONFLICT;
	return merge_object(m, base, ours, theirs);
}

static int merge_texts(struct merge *m, const struct json_text *theirs)
{
	struct value *root = &m->roots[THEIRS];
	const struct span before = { theirs->text, (size_t)(root->text.at - theirs->text) };
	const char *end = root->text.at + root->text.len;
	const struct span behind = { end, theirs->len - (size_t)(end - theirs->text) };
	int r = put(m, &before);

	if (!r)
		r = merge_value(m, &m->roots[BASE], &m->roots[OURS], root);
	return r ? r : put(m, &behind);
}

/* Nothing is handed out that could not be read. */
static int check_result(const struct merge *m)
{
	_cleanup_json_ struct json *tree = NULL;
	int r = json_parse(m->out.data, m->out.len, &tree);

	return r == CE_FORMAT ? CE_CONFLICT : r;
}

int json_merge(const struct json_text *base, const struct json_text *ours,
	const struct json_text *theirs, char **out, size_t *len)
{
	struct merge m = { .out.max = 2 * (size_t)JSON_MERGE_MAX_BYTES };
	int r = read_side(&m, BASE, base);

	if (!r)
		r = read_side(&m, OURS, ours);
	if (!r)
		r = read_side(&m, THEIRS, theirs);
	if (!r)
		r = merge_texts(&m, theirs);
	if (!r)
		r = check_result(&m);
	if (!r) {
		*len = m.out.len;
		*out = steal_ptr(&m.out.data);
	}
	buffer_done(&m.out);
	for (int i = 0; i < SIDES; i++) {
		value_done(&m.roots[i]);
		json_free(m.trees[i]);
	}
	return r;
}
