/* The member "conflicts": an array of {"store", "match", "policy", "command", "timeout_ms"}. */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "daemon/config_priv.h"

#define RULES_MAX 1000
#define TIMEOUT_MAX_MS 600000

static int get_text(const struct json *o, const char *key, char **out)
{
	const char *text;

	if (!json_has(o, key))
		return 0;
	if (json_get_string(o, key, &text) || !*text)
		return CE_FORMAT;
	*out = strdup(text);
	return *out ? 0 : -ENOMEM;
}

static bool is_known(const char *key)
{
	static const char *const keys[] = { "store", "match", "policy", "command", "timeout_ms" };

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (!strcmp(keys[i], key))
			return true;
	return false;
}

static int read_rule(const struct json *o, struct merge_rule *rule)
{
	const char *policy;
	int r;

	if (!json_is_object(o))
		return CE_FORMAT;
	for (const struct json *m = json_first(o); m; m = json_next(m))
		if (!is_known(json_key(m)))
			return CE_FORMAT;
	rule->timeout_ms = MERGE_RULE_TIMEOUT_MS;
	if (json_get_string(o, "policy", &policy) || merge_rule_policy(policy, &rule->policy))
		return CE_FORMAT;
	if (json_has(o, "timeout_ms") && json_get_u64(o, "timeout_ms", &rule->timeout_ms))
		return CE_FORMAT;
	r = get_text(o, "store", &rule->store);
	if (!r)
		r = get_text(o, "match", &rule->match);
	if (!r)
		r = get_text(o, "command", &rule->command);
	if (!r && ((rule->policy == MERGE_COMMAND) != (rule->command != NULL) ||
			  !rule->timeout_ms || rule->timeout_ms > TIMEOUT_MAX_MS))
		r = CE_FORMAT;
	return r;
}

int config_rules_read(const struct json *o, const char *key, struct config *c, char **error)
{
	const struct json *list;
	size_t n;
	int r = json_get_array(o, key, &list);

	n = r ? 0 : json_count(list);
	if (!r && n > RULES_MAX)
		r = CE_FORMAT;
	if (!r && n)
		c->conflicts.rules = calloc(n, sizeof(*c->conflicts.rules));
	if (!r && n && !c->conflicts.rules)
		r = -ENOMEM;
	for (const struct json *e = r ? NULL : json_first(list); e && !r; e = json_next(e))
		r = read_rule(e, &c->conflicts.rules[c->conflicts.n++]);
	if (r == CE_FORMAT)
		return config_say(error, CE_USAGE,
			"the member '%s' of the configuration %s.json must be an array of rules: "
			"\"policy\" is keep-both, merge, ours, theirs or command, with a "
			"\"command\" for "
			"the last only; \"store\", \"match\" and \"timeout_ms\" (at most %d) are "
			"optional; "
			"rule %zu is not like that",
			key, c->name, TIMEOUT_MAX_MS, c->conflicts.n);
	return r;
}

static void set_text(struct json *o, const char *key, const char *text)
{
	if (text)
		json_set_string(o, key, text);
}

void config_rules_write(struct json *o, const char *key, const struct merge_rules *rules)
{
	struct json *list = rules->n ? json_set_array(o, key) : NULL;

	for (size_t i = 0; i < rules->n; i++) {
		const struct merge_rule *rule = &rules->rules[i];
		struct json *e = json_append_object(list);

		set_text(e, "store", rule->store);
		set_text(e, "match", rule->match);
		json_set_string(e, "policy", merge_rule_policy_name(rule->policy));
		set_text(e, "command", rule->command);
		if (rule->timeout_ms != MERGE_RULE_TIMEOUT_MS)
			json_set_u64(e, "timeout_ms", rule->timeout_ms);
	}
}
