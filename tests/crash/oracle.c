#include "oracle.h"

#include <stdlib.h>
#include <string.h>

void oracle_init(struct oracle *o)
{
	static const struct state absent = { .absent = true };
	struct note n = { .kind = NOTE_FOUND, .n = 1, .states = { absent } };

	memset(o, 0, sizeof(*o));
	for (unsigned i = 0; i < SUBJECTS; i++) {
		n.subject = (uint8_t)i;
		oracle_take(o, &n);
	}
}

void oracle_done(struct oracle *o)
{
	for (unsigned i = 0; i < SUBJECTS; i++)
		free(o->subjects[i].states);
}

static void add(struct oracle *o, unsigned subject, const struct state *s)
{
	if (o->subjects[subject].n == o->subjects[subject].room) {
		o->subjects[subject].room = o->subjects[subject].room * 2 + 16;
		o->subjects[subject].states = reallocarray(
			o->subjects[subject].states, o->subjects[subject].room, sizeof(*s));
		if (!o->subjects[subject].states)
			abort();
	}
	o->subjects[subject].states[o->subjects[subject].n++] = *s;
}

/* A file may fall back to what it was under its old name; only a kill forgets nothing. */
static void inherit(struct oracle *o, unsigned to, unsigned from)
{
	struct state now = o->subjects[to].states[o->subjects[to].n - 1];

	for (size_t i = o->subjects[from].durable; i + 1 < o->subjects[from].n; i++)
		if (!o->subjects[from].states[i].absent)
			add(o, to, &o->subjects[from].states[i]);
	add(o, to, &now);
	o->subjects[to].answered = o->subjects[to].n - 1;
}

static void begin_swap(struct oracle *o, const struct note *n)
{
	inherit(o, n->subject, n->other);
	inherit(o, n->other, n->subject);
	add(o, n->subject, &n->states[0]);
	add(o, n->other, &n->states[1]);
	o->subjects[n->subject].begun = o->subjects[n->other].begun = true;
	o->subjects[n->subject].swapping_with = n->other;
}

static void begin(struct oracle *o, const struct note *n)
{
	static const struct state absent = { .absent = true };

	if (n->kind == NOTE_MOVE)
		inherit(o, n->subject, n->other);
	for (unsigned i = 0; i < n->n; i++)
		add(o, n->subject, &n->states[i]);
	o->subjects[n->subject].begun = true;
	o->subjects[n->subject].moving_to = o->subjects[n->subject].swapping_with = -1;
	if (n->kind == NOTE_MOVE) {
		add(o, n->other, &absent);
		o->subjects[n->other].begun = true;
		o->subjects[n->other].moving_to = n->subject;
	}
}

static void end(struct oracle *o, unsigned subject, bool durable)
{
	o->subjects[subject].begun = false;
	o->subjects[subject].moving_to = o->subjects[subject].swapping_with = -1;
	o->subjects[subject].answered = o->subjects[subject].n - 1;
	if (durable)
		o->subjects[subject].durable = o->subjects[subject].answered;
}

static void found(struct oracle *o, const struct note *n)
{
	add(o, n->subject, &n->states[0]);
	end(o, n->subject, false);
}

void oracle_take(struct oracle *o, const struct note *n)
{
	switch (n->kind) {
	case NOTE_MADE:
		o->made = true;
		break;
	case NOTE_BEGIN:
	case NOTE_MOVE:
		begin(o, n);
		break;
	case NOTE_SWAP:
		begin_swap(o, n);
		break;
	case NOTE_END:
		end(o, n->subject, n->durable);
		if (n->other < SUBJECTS)
			end(o, n->other, n->durable);
		o->answered_steps++;
		break;
	case NOTE_SYNC:
		for (unsigned i = 0; i < SUBJECTS; i++)
			o->subjects[i].syncing = o->subjects[i].answered;
		break;
	case NOTE_SYNCED:
		for (unsigned i = 0; i < SUBJECTS; i++)
			if (o->subjects[i].syncing > o->subjects[i].durable)
				o->subjects[i].durable = o->subjects[i].syncing;
		break;
	default:
		found(o, n);
	}
}

size_t oracle_allowed(
	const struct oracle *o, unsigned subject, bool power, const struct state **first)
{
	size_t from = power ? o->subjects[subject].durable : o->subjects[subject].answered;

	*first = o->subjects[subject].states + from;
	return o->subjects[subject].n - from;
}

void oracle_fill(uint8_t page[static ORACLE_PAGE], unsigned page_number, uint32_t tag)
{
	uint64_t word = ((uint64_t)tag << 32 | page_number) * UINT64_C(0x9e3779b97f4a7c15);

	for (size_t i = 0; i < ORACLE_PAGE; i += sizeof(word)) {
		word = tag ? word + i : 0;
		memcpy(page + i, &word, sizeof(word));
	}
}

bool oracle_is(const struct state *s, const uint8_t *bytes, size_t size)
{
	uint8_t page[ORACLE_PAGE];

	if (s->absent || s->size != size)
		return false;
	for (unsigned p = 0; p * (size_t)ORACLE_PAGE < size; p++) {
		size_t at = p * (size_t)ORACLE_PAGE;

		oracle_fill(page, p, s->pages[p]);
		if (memcmp(page, bytes + at, size - at < ORACLE_PAGE ? size - at : ORACLE_PAGE))
			return false;
	}
	return true;
}
