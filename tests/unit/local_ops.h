/* Random operations on the tree, and checks that hold after any of them. */
#ifndef CACHET_TESTS_UNIT_LOCAL_OPS_H
#define CACHET_TESTS_UNIT_LOCAL_OPS_H

#include "origin_model.h"

/*
 * Contents that somebody wrote last and nobody who saw them has replaced or deleted: none of them
 * may be lost. Each is a word of its own.
 */
struct tokens {
	char (*word)[OM_CONTENT];
	size_t n, next;
};

static inline void tokens_drop(struct tokens *t, const char *word)
{
	if (t && getenv("CACHET_TEST_VERBOSE"))
		print_message("  -%s\n", word);
	for (size_t i = 0; t && i < t->n; i++)
		if (!strcmp(t->word[i], word)) {
			memcpy(t->word[i], t->word[--t->n], OM_CONTENT);
			return;
		}
}

static inline void tokens_add(struct tokens *t, const char *word)
{
	if (!t)
		return;
	if (getenv("CACHET_TEST_VERBOSE"))
		print_message("  +%s\n", word);
	t->word = reallocarray(t->word, t->n + 1, OM_CONTENT);
	assert_non_null(t->word);
	snprintf(t->word[t->n++], OM_CONTENT, "%s", word);
}

struct walk {
	struct {
		char path[1024];
		struct tree_attr a;
	} e[512];
	size_t n;
};

static inline void walk_dir(
	struct tree_fixture *f, uint64_t dir, const char *prefix, struct walk *w)
{
	struct om_listing *l = calloc(1, sizeof(*l));

	assert_non_null(l);
	ok(tree_readdir(f->v, dir, 0, om_entry, l));
	for (size_t i = 0; i < l->n && w->n < ARRAY_SIZE(w->e); i++) {
		char path[sizeof(w->e->path)];

		assert_true((size_t)snprintf(path, sizeof(path), "%s%s%s", prefix, *prefix ? "/" : "",
				    l->e[i].name) < sizeof(path));
		memcpy(w->e[w->n].path, path, sizeof(path));
		w->e[w->n++].a = l->e[i].a;
		if (S_ISDIR(l->e[i].a.mode))
			walk_dir(f, l->e[i].a.object, path, w);
	}
	free(l);
}

static inline struct walk *walk_all(struct tree_fixture *f)
{
	struct walk *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	walk_dir(f, f->root, "", w);
	return w;
}

/* A path in a directory that is there; few names, so that they meet. */
static inline void some_place(struct origin_model *m, const struct walk *w, char out[static 1100])
{
	static const char *const names[] = { "a", "b", "c", "d", "e.txt", "f.txt",
		"\xff"
		"raw",
		"g" };
	const char *name = names[om_rand(m) % ARRAY_SIZE(names)];

	snprintf(out, 1100, "%s", name);
	if (!w->n || om_rand(m) % 3 == 0)
		return;
	for (int i = 0; i < 8; i++) {
		size_t k = om_rand(m) % w->n;

		if (S_ISDIR(w->e[k].a.mode) && strlen(w->e[k].path) < 60) {
			snprintf(out, 1100, "%s/%s", w->e[k].path, name);
			return;
		}
	}
}

static inline void some_entry(struct origin_model *m, const struct walk *w, char out[static 1100])
{
	if (w->n && om_rand(m) % 10)
		snprintf(out, 1100, "%s", w->e[om_rand(m) % w->n].path);
	else
		some_place(m, w, out);
}

/* What the user sees at a path and destroys by replacing or deleting it; "" for no file, or one
 * with other names. */
static inline void content_at(struct tree_fixture *f, struct origin_model *m, const char *path,
	char out[static OM_CONTENT])
{
	uint64_t object = tf_at(f, path);
	struct tree_attr a;

	memset(out, 0, OM_CONTENT);
	if (!object)
		return;
	a = tf_attr(f, path);
	if (S_ISREG(a.mode) && a.nlink == 1)
		om_peek(f, m, object, out);
}

static inline void local_write(
	struct tree_fixture *f, struct origin_model *m, const char *path, struct tokens *t)
{
	static unsigned long word;
	char old[OM_CONTENT], text[OM_CONTENT];
	uint64_t object = tf_at(f, path);
	struct tree_attr a;

	if (object) {
		a = tf_attr(f, path);
		if (!S_ISREG(a.mode))
			return;
		om_peek(f, m, object, old);
	} else if (tf_create(f, path)) {
		return;
	}
	snprintf(text, sizeof(text), "local-%lu", ++word);
	ok(tf_write_object(f, tf_at(f, path), text));
	if (object)
		tokens_drop(t, old);
	tokens_add(t, text);
}

static inline void local_rename(struct tree_fixture *f, struct origin_model *m, const char *from,
	const char *to, struct tokens *t)
{
	static const unsigned flags[] = { 0, 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE };
	unsigned how = flags[om_rand(m) % ARRAY_SIZE(flags)];
	char old[OM_CONTENT] = "";
	bool same = tf_at(f, from) == tf_at(f, to);

	if (t && !how && !same)
		content_at(f, m, to, old);
	if (!tf_rename(f, from, to, how) && !how && !same && *old)
		tokens_drop(t, old);
}

/* One operation, drawn from the model's seed. Those that POSIX forbids just fail. */
static inline void local_op(struct tree_fixture *f, struct origin_model *m, struct tokens *t)
{
	struct walk *w = walk_all(f);
	char from[1100], to[1100], old[OM_CONTENT] = "";
	const char *name;
	struct tree_attr a, set = { .mode = 0600 + (uint32_t)(om_rand(m) % 64),
		.mtime_ns = (int64_t)(om_rand(m) % 1000) };
	uint64_t object, what = om_rand(m) % 16;
	int r = 0;

	some_entry(m, w, from);
	some_place(m, w, to);
	switch (what) {
	case 0:
	case 1:
	case 2:
		local_write(f, m, om_rand(m) % 2 ? from : to, t);
		break;
	case 3:
	case 4:
		r = tf_mkdir(f, to);
		break;
	case 5:
		r = tf_symlink(f, to, "over/there");
		break;
	case 6:
	case 7:
		if (t)
			content_at(f, m, from, old);
		if (!tf_unlink(f, from) && *old)
			tokens_drop(t, old);
		break;
	case 8:
		r = tf_rmdir(f, from);
		break;
	case 9:
	case 10:
	case 11:
	case 12:
		if (om_rand(m) % 2)
			some_entry(m, w, to);
		local_rename(f, m, from, to, t);
		break;
	case 13:
		object = tf_at(f, from);
		if (object) {
			a = tf_attr(f, from);
			r = tree_setattr(f->v, object, a.version, &set,
				om_rand(m) % 2 ? TREE_SET_MODE : TREE_SET_MTIME, &a);
			ok(r);
		}
		break;
	case 14:
		if (tf_at(f, from))
			r = tf_link(f, from, to);
		break;
	default:
		object = tf_split(f, to, &name);
		if (object && om_rand(m) % 2)
			r = tree_mknod(f->v, object, name, S_IFIFO | 0600, 0, &tf_cred, &a);
		break;
	}
	/* A link of, or a name no origin may have for, what is not here. */
	assert_true((r <= 0 && r > -200) || r == CE_ABSENT);
	if (getenv("CACHET_TEST_VERBOSE"))
		print_message(
			"op %d %s -> %s: %d; journal %s\n", (int)what, from, to, r, tf_journal(f));
	free(w);
}

/* Only directories, made and moved into each other, swapped and removed: an order that is not kept
 * shows as a loop, or as a directory that is not empty. */
static inline void local_dir_op(struct tree_fixture *f, struct origin_model *m)
{
	struct walk *w = walk_all(f);
	char from[1100], to[1100];
	uint64_t what = om_rand(m) % 8;

	some_entry(m, w, from);
	some_place(m, w, to);
	if (what < 2)
		tf_mkdir(f, to);
	else if (what < 4)
		tf_rmdir(f, from);
	else
		local_rename(f, m, from, to, NULL);
	if (getenv("CACHET_TEST_VERBOSE"))
		print_message(
			"op %d %s -> %s; journal %s\n", (int)what, from, to, tf_journal(f));
	free(w);
}

/* nlink of every object is the number of its names; of directories 2 and one for each directory
 * inside. */
static inline void check_links(struct tree_fixture *f)
{
	struct walk *w = walk_all(f);

	for (size_t i = 0; i < w->n; i++) {
		uint32_t links = S_ISDIR(w->e[i].a.mode) ? 2 : 0;
		size_t len = strlen(w->e[i].path);

		for (size_t k = 0; k < w->n; k++) {
			const char *p = w->e[k].path;

			if (!S_ISDIR(w->e[i].a.mode))
				links += w->e[k].a.object == w->e[i].a.object;
			else if (S_ISDIR(w->e[k].a.mode) && !strncmp(p, w->e[i].path, len) &&
				 p[len] == '/' && !strchr(p + len + 1, '/'))
				links++;
		}
		if (links != w->e[i].a.nlink)
			print_error(
				"%s: %u names, nlink %u\n", w->e[i].path, links, w->e[i].a.nlink);
		assert_int_equal(links, w->e[i].a.nlink);
	}
	free(w);
}

#endif
