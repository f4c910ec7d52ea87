#include "cli/envelope_list.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/io.h"
#include "cli/show.h"
#include "crypto/envelope.h"

/* What the origin never saw has no record there; the object's number names it on this device. */
static struct json *meta_of(const struct json *known)
{
	const char *store = show_string(known, "store"), *record = show_string(known, "record");
	struct json *meta = json_new_object();
	char local[40];

	snprintf(local, sizeof(local), "local-%" PRIu64, show_u64(known, "object"));
	json_set_string(meta, "table", store ? store : "");
	json_set_string(meta, "id", record ? record : local);
	json_set_u64(meta, "version", show_u64(known, "version"));
	return meta;
}

int envelope_list_add(struct envelope_list *l, const struct json *known, const struct json *record)
{
	_cleanup_json_ struct json *meta = meta_of(known), *env = NULL;
	_cleanup_free_ char *text = NULL, *plain = NULL;
	int r = json_print(record, false, &plain);

	if (r)
		return r;
	r = envelope_seal(secret_cbytes(l->key), meta, plain, strlen(plain), &env);
	secret_wipe(plain, strlen(plain));
	if (!r)
		r = json_print(env, false, &text);
	if (!r)
		r = io_write_full(l->form->fd, l->n++ ? ",\n" : "[\n", 2);
	return r ? r : io_write_full(l->form->fd, text, strlen(text));
}

int envelope_list_end(struct envelope_list *l)
{
	const char *end = l->n ? "\n]\n" : "[]\n";

	return io_write_full(l->form->fd, end, strlen(end));
}
