/*
 * The list is read from the environment at the first failpoint. Each rule counts for itself how
 * often it was reached, over all threads. A list that cannot be read ends the process: a test whose
 * failpoint was misspelt must not pass.
 */
#include "base/failpoint.h"

#ifdef CACHET_FAILPOINTS

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/macros.h"

#define RULES_MAX 16
#define EXIT_BAD_LIST 125
#define EXIT_FIRED 124

enum action { ACTION_FAIL, ACTION_KILL, ACTION_EXIT };

struct rule {
	char name[64]; /* "*" = every point */
	unsigned long at;
	enum action action;
	int code;
	atomic_ulong reached;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct rule rules[RULES_MAX];
static size_t n_rules;

static void refuse_list(const char *item)
{
	dprintf(STDERR_FILENO, "cachet: CACHET_FAILPOINTS: cannot read '%s'\n", item);
	_exit(EXIT_BAD_LIST);
}

/* name=N:action */
static void parse_rule(const char *item, struct rule *rule)
{
	const char *equals = strchr(item, '=');
	char *end;
	unsigned long code;

	if (!equals || equals == item || (size_t)(equals - item) >= sizeof(rule->name))
		refuse_list(item);
	memcpy(rule->name, item, (size_t)(equals - item));
	rule->at = strtoul(equals + 1, &end, 10);
	if (!rule->at || *end != ':')
		refuse_list(item);
	if (!strcmp(end, ":kill")) {
		rule->action = ACTION_KILL;
	} else if (!strcmp(end, ":exit")) {
		rule->action = ACTION_EXIT;
	} else {
		code = strtoul(end + 1, &end, 10);
		if (!code || code > 4095 || *end)
			refuse_list(item);
		rule->code = -(int)code;
	}
}

static void parse_list(void)
{
	const char *env = getenv("CACHET_FAILPOINTS");
	_cleanup_free_ char *list = env ? strdup(env) : NULL;
	char *save = NULL;

	if (!list)
		return;
	for (char *item = strtok_r(list, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
		if (n_rules == RULES_MAX)
			refuse_list(item);
		parse_rule(item, &rules[n_rules++]);
	}
}

static void note_fired(const char *name)
{
	const char *path = getenv("CACHET_FAILPOINTS_LOG");
	char line[80];
	int fd, n;

	if (!path)
		return;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	n = snprintf(line, sizeof(line), "%.64s\n", name);
	if (n < 0 || write(fd, line, (size_t)n) != n)
		dprintf(STDERR_FILENO, "cachet: CACHET_FAILPOINTS_LOG cannot be written\n");
	close(fd);
}

int failpoint_hit(const char *name)
{
	pthread_once(&once, parse_list);
	for (size_t i = 0; i < n_rules; i++) {
		struct rule *rule = &rules[i];

		if (strcmp(rule->name, "*") && strcmp(rule->name, name))
			continue;
		if (atomic_fetch_add(&rule->reached, 1) + 1 != rule->at)
			continue;
		note_fired(name);
		if (rule->action == ACTION_KILL)
			kill(getpid(), SIGKILL);
		if (rule->action == ACTION_EXIT)
			_exit(EXIT_FIRED);
		return rule->code;
	}
	return 0;
}

#endif
