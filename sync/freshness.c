#include "sync/freshness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/options.h"
#include "cache/tree.h"
#include "sync/sync_priv.h"

#define RULES_MAX 256

/* --- rules --- */

static char *trim(char *text)
{
	size_t len;

	text += strspn(text, " \t");
	len = strlen(text);
	while (len && strchr(" \t", text[len - 1]))
		text[--len] = 0;
	return text;
}

static bool set_word(struct freshness_rule *r, const char *word)
{
	if (!strcmp(word, "strict"))
		return r->strict = true;
	if (!strncmp(word, "max-age=", 8))
		return !options_parse_duration_ms(word + 8, &r->max_age_ms);
	if (!strncmp(word, "max-stale=", 10))
		return !options_parse_duration_ms(word + 10, &r->max_stale_ms) && r->max_stale_ms;
	return false;
}

static int wrong(char **error, const char *text)
{
	(void)!bytes_print(error,
		"the freshness rule '%.80s' is not STORE: strict, max-age=TIME, max-stale=TIME",
		text);
	return CE_USAGE;
}

static int parse_rule(char *text, struct freshness_rule *out, char **error)
{
	char *words = strrchr(text, ':'), *word;

	if (!words || strlen(text) >= sizeof(out->store))
		return wrong(error, text);
	*words++ = 0;
	snprintf(out->store, sizeof(out->store), "%s", trim(text));
	while ((word = strsep(&words, ",")))
		if (!set_word(out, trim(word)))
			return wrong(error, word);
	return *out->store ? 0 : wrong(error, "");
}

int freshness_parse(const char *text, struct freshness_rule **out, size_t *n, char **error)
{
	_cleanup_free_ char *copy = strdup(text ? text : "");
	_cleanup_free_ struct freshness_rule *rules = calloc(RULES_MAX, sizeof(*rules));
	char *at = copy, *one;
	size_t count = 0;
	int r = 0;

	if (!copy || !rules)
		return -ENOMEM;
	while (!r && (one = strsep(&at, ";"))) {
		one = trim(one);
		if (!*one)
			continue;
		r = count < RULES_MAX ? parse_rule(one, &rules[count++], error) : wrong(error, one);
	}
	if (r)
		return r;
	*n = count;
	*out = steal_ptr(&rules);
	return 0;
}

struct freshness_rule freshness_of(const struct freshness_rule *rules, size_t n, const char *store)
{
	struct freshness_rule found = { .strict = false };

	for (size_t i = 0; i < n; i++) {
		if (!strcmp(rules[i].store, store))
			return rules[i];
		if (!strcmp(rules[i].store, "*"))
			found = rules[i];
	}
	return found;
}

int freshness_load(struct sync *s, const struct sync_options *o, char **error)
{
	int r = freshness_parse(o->freshness, &s->rules, &s->n_rules, error);

	s->strict = o->strict;
	s->max_stale_ms = o->max_stale_ms;
	s->has_rules = s->n_rules || s->strict || s->max_stale_ms;
	return r;
}

struct freshness_rule freshness_rule_of(const struct sync *s, const char *store)
{
	struct freshness_rule r = freshness_of(s->rules, s->n_rules, store);

	r.strict = r.strict || s->strict;
	if (s->max_stale_ms && (!r.max_stale_ms || r.max_stale_ms > s->max_stale_ms))
		r.max_stale_ms = s->max_stale_ms;
	return r;
}

/* --- what is known --- */

/* Lock held. UINT64_MAX: never validated. */
static uint64_t age_ms(const struct feed *f)
{
	int64_t ms;

	if (f->live)
		return 0;
	if (f->valid_ms)
		return sync_now_ms() - f->valid_ms;
	ms = (clock_wall_ns() - f->validated_ns) / NS_PER_MS;
	return f->validated_ns ? (uint64_t)MAX_OF(ms, 0) : UINT64_MAX;
}

void sync_freshness(struct sync *s, uint64_t store, struct sync_freshness *out)
{
	const struct feed *f;

	*out = (struct sync_freshness){ .age_ms = UINT64_MAX };
	pthread_mutex_lock(&s->lock);
	f = feed_find(s, store);
	if (f) {
		out->live = f->live;
		out->strict = f->rule.strict;
		out->max_stale_ms = f->rule.max_stale_ms;
		out->age_ms = age_ms(f);
	}
	pthread_mutex_unlock(&s->lock);
}

enum need { NEED_NOTHING, NEED_RECORD, NEED_STORE };

static enum need needs(struct sync *s, uint64_t store)
{
	enum need need = NEED_NOTHING;
	const struct feed *f;
	uint64_t age;

	pthread_mutex_lock(&s->lock);
	f = feed_find(s, store);
	if (f) {
		age = f->live && f->rule.strict ? sync_now_ms() - f->valid_ms : age_ms(f);
		if (f->rule.max_stale_ms && age > f->rule.max_stale_ms)
			need = NEED_STORE;
		else if (f->rule.strict && age >= f->rule.max_age_ms)
			need = NEED_RECORD;
	}
	pthread_mutex_unlock(&s->lock);
	return need;
}

/* Until the feed of the store was asked once more, and what it said is applied. */
static int wait_store(
	struct sync *s, uint64_t store, unsigned deadline_ms, const struct sync_cancel *cancel)
{
	struct timespec deadline;
	const struct feed *f;
	uint64_t gen;
	int r = 0;

	sync_deadline(deadline_ms, &deadline);
	pthread_mutex_lock(&s->lock);
	gen = ++s->poke_gen;
	s->waiters++;
	http_wake(s->http);
	while (!r && (f = feed_find(s, store)) && f->seen_gen < gen) {
		r = s->verdict;
		if (!r)
			r = sync_wait_change(s, &deadline, cancel);
	}
	pthread_mutex_unlock(&s->lock);
	sync_left(s);
	return r == -ETIMEDOUT ? CE_OFFLINE : r;
}

/* A record that has changed is waited for; one that is the same after that (a writer holds it, or
 * it has unsent changes) is served as it is. */
static int check_record(
	struct sync *s, const struct tree_attr *a, unsigned deadline_ms, struct sync_cancel *cancel)
{
	struct remote_known known, now;
	int r = remote_known(s->volume, a->object, &known);

	if (r)
		return r == -ENODATA ? 0 : r;
	r = sync_check(s, known.store, known.rid, known.etag, deadline_ms, cancel);
	if (r != CE_STALE && r != CE_GONE)
		return r;
	r = wait_store(s, a->store, deadline_ms, cancel);
	if (!r)
		r = remote_known(s->volume, a->object, &now);
	if (r)
		return r == -ENODATA ? CE_STALE : r;
	return strcmp(now.etag, known.etag) ? CE_STALE : 0;
}

int sync_may_serve(struct sync *s, uint64_t object, uint64_t version, unsigned deadline_ms,
	struct sync_cancel *cancel)
{
	struct tree_attr a;
	int r;

	if (!s->has_rules)
		return 0;
	r = tree_getattr(s->volume, object, version, &a);
	if (r)
		return r;
	switch (needs(s, a.store)) {
	case NEED_RECORD:
		return check_record(s, &a, deadline_ms, cancel);
	case NEED_STORE:
		r = wait_store(s, a.store, deadline_ms, cancel);
		return r ? r : tree_getattr(s->volume, object, version, &a);
	default:
		return 0;
	}
}

bool sync_has_rules(const struct sync *s)
{
	return s->has_rules;
}
