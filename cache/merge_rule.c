#include "cache/merge_rule.h"

#include <errno.h>
#include <fnmatch.h>
#include <string.h>

static const char *const names[MERGE_POLICIES] = {
	[MERGE_KEEP_BOTH] = "keep-both",
	[MERGE_FIELDS] = "merge",
	[MERGE_OURS] = "ours",
	[MERGE_THEIRS] = "theirs",
	[MERGE_COMMAND] = "command",
};

void merge_rules_done(struct merge_rules *rules)
{
	for (size_t i = 0; i < rules->n; i++) {
		free(rules->rules[i].store);
		free(rules->rules[i].match);
		free(rules->rules[i].command);
	}
	free(steal_ptr(&rules->rules));
	rules->n = 0;
}

const char *merge_rule_policy_name(enum merge_policy policy)
{
	return names[policy];
}

int merge_rule_policy(const char *name, enum merge_policy *out)
{
	for (size_t i = 0; i < MERGE_POLICIES; i++)
		if (!strcmp(names[i], name)) {
			*out = (enum merge_policy)i;
			return 0;
		}
	return -ENOENT;
}

static bool fits(const struct merge_rule *rule, const char *store, const char *path)
{
	const char *slash = strrchr(path, '/');

	if (rule->store && strcmp(rule->store, store))
		return false;
	if (!rule->match)
		return true;
	if (strchr(rule->match, '/'))
		return !fnmatch(rule->match[0] == '/' ? rule->match + 1 : rule->match, path, 0);
	return !fnmatch(rule->match, slash ? slash + 1 : path, 0);
}

const struct merge_rule *merge_rule_find(
	const struct merge_rules *rules, const char *store, const char *path)
{
	for (size_t i = 0; i < rules->n; i++)
		if (fits(&rules->rules[i], store, path))
			return rules->rules[i].policy == MERGE_KEEP_BOTH ? NULL : &rules->rules[i];
	return NULL;
}
