#include "meta/memo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

#define OBJECTS 64
#define NAMES 16
#define STORES 4

/* By id (a name by its object's), each in the one place where it can be; id 0: empty. */
struct rows {
	struct object_row objects[OBJECTS];
	struct name_row names[NAMES];
	struct store_row stores[STORES];
};

struct memo {
	struct secret *memory;
	struct rows *rows; /* there */
};

int memo_new(struct memo **out)
{
	struct memo *m = calloc(1, sizeof(*m));
	int r = m ? secret_new(sizeof(struct rows), &m->memory) : -ENOMEM;

	if (r) {
		free(m);
		return r;
	}
	m->rows = (struct rows *)secret_bytes(m->memory);
	*out = m;
	memo_clear(m);
	return 0;
}

void memo_free(struct memo *m)
{
	if (m)
		secret_free(m->memory);
	free(m);
}

void memo_clear(struct memo *m)
{
	if (m)
		secret_wipe(m->rows, sizeof(*m->rows));
}

/* --- objects --- */

bool memo_object(const struct memo *m, uint64_t id, struct object_row *out)
{
	if (!m || !id || m->rows->objects[id % OBJECTS].id != id)
		return false;
	*out = m->rows->objects[id % OBJECTS];
	return true;
}

void memo_put_object(struct memo *m, const struct object_row *o)
{
	if (m)
		m->rows->objects[o->id % OBJECTS] = *o;
}

void memo_update_object(struct memo *m, const struct object_row *o)
{
	struct object_row was;

	if (!memo_object(m, o->id, &was))
		return;
	m->rows->objects[o->id % OBJECTS] = *o;
	m->rows->objects[o->id % OBJECTS].store = was.store;
	m->rows->objects[o->id % OBJECTS].btime_ns = was.btime_ns;
}

void memo_drop_object(struct memo *m, uint64_t id)
{
	if (m && m->rows->objects[id % OBJECTS].id == id)
		m->rows->objects[id % OBJECTS].id = 0;
}

/* --- names --- */

bool memo_name_of(const struct memo *m, uint64_t object, struct name_row *out)
{
	if (!m || !m->rows->names[object % NAMES].id ||
		m->rows->names[object % NAMES].object != object)
		return false;
	*out = m->rows->names[object % NAMES];
	return true;
}

bool memo_name_by_rid(const struct memo *m, uint64_t store, const char *rid, struct name_row *out)
{
	for (size_t i = 0; m && *rid && i < NAMES; i++) {
		const struct name_row *n = &m->rows->names[i];

		if (n->id && n->store == store && !strcmp(n->rid.text, rid)) {
			*out = *n;
			return true;
		}
	}
	return false;
}

void memo_put_name(struct memo *m, const struct name_row *n)
{
	if (m)
		m->rows->names[n->object % NAMES] = *n;
}

void memo_drop_name(struct memo *m, uint64_t id, uint64_t object)
{
	for (size_t i = 0; m && i < NAMES; i++)
		if (m->rows->names[i].id == id || m->rows->names[i].object == object)
			m->rows->names[i].id = 0;
}

/* --- stores --- */

bool memo_store(const struct memo *m, uint64_t id, struct store_row *out)
{
	if (!m || !id || m->rows->stores[id % STORES].id != id)
		return false;
	*out = m->rows->stores[id % STORES];
	return true;
}

void memo_put_store(struct memo *m, const struct store_row *s)
{
	if (m)
		m->rows->stores[s->id % STORES] = *s;
}

void memo_drop_stores(struct memo *m)
{
	for (size_t i = 0; m && i < STORES; i++)
		m->rows->stores[i].id = 0;
}
