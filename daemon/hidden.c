#include "daemon/hidden.h"

#include <string.h>

#include "base/bytes.h"
#include "base/json.h"
#include "daemon/daemon_priv.h"
#include "daemon/report.h"

static int print_status(void *arg, char **text, size_t *len)
{
	_cleanup_json_ struct json *o = json_new_object();
	_cleanup_free_ char *printed = NULL;
	struct buffer b = { 0 };
	int r = report_status(arg, o);

	if (!r)
		r = json_print(o, true, &printed);
	if (!r)
		r = buffer_printf(&b, "%s\n", printed);
	if (r) {
		buffer_done(&b);
		return r;
	}
	*text = b.data;
	*len = b.len;
	return 0;
}

/* The one array of `o`, an element a line. */
static int print_lines(const struct json *o, const char *key, char **text, size_t *len)
{
	const struct json *list;
	struct buffer b = { 0 };
	int r = json_get_array(o, key, &list);

	for (const struct json *e = r ? NULL : json_first(list); e && !r; e = json_next(e)) {
		_cleanup_free_ char *line = NULL;

		r = json_print(e, false, &line);
		if (!r)
			r = buffer_printf(&b, "%s\n", line);
	}
	if (r) {
		buffer_done(&b);
		return r;
	}
	*text = b.data;
	*len = b.len;
	return 0;
}

static int print_journal(void *arg, char **text, size_t *len)
{
	_cleanup_json_ struct json *o = json_new_object();
	int r = report_journal(arg, o);

	return r ? r : print_lines(o, "operations", text, len);
}

static int print_conflicts(void *arg, char **text, size_t *len)
{
	_cleanup_json_ struct json *o = json_new_object();
	int r = report_conflicts(arg, true, o);

	return r ? r : print_lines(o, "conflicts", text, len);
}

static int print_events(void *arg, char **text, size_t *len)
{
	_cleanup_json_ struct json *o = json_new_object();
	int r = report_events(arg, false, o);

	return r ? r : print_lines(o, "events", text, len);
}

const struct fs_hidden_file hidden_files[HIDDEN_FILES] = {
	{ "status.json", print_status },
	{ "journal", print_journal },
	{ "conflicts", print_conflicts },
	{ "events", print_events },
};
