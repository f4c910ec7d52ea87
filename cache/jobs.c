/* The list is one setting, a JSON array in the order of time; each payload is one, too. */
#include "cache/jobs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/secret.h"
#include "cache/tree_priv.h"

#define LIST "jobs"
#define LIST_MAX (128u << 10)
#define WHY_MAX 200
#define STATE_WAITING "waiting"

static void payload_name(const char *key, char out[static 48])
{
	snprintf(out, 48, "job.%.32s", key);
}

/* Index lock held. */
static int read_list(struct volume *v, struct json **out)
{
	_cleanup_free_ char *text = malloc(LIST_MAX);
	size_t len;
	int r = text ? setting_get(v->db, LIST, text, LIST_MAX, &len) : -ENOMEM;

	if (r == -ENOENT) {
		*out = json_new_array();
		return *out ? 0 : -ENOMEM;
	}
	if (!r && json_parse(text, len, out))
		r = CE_CORRUPT;
	return r;
}

static int write_list(struct volume *v, const struct json *list)
{
	_cleanup_free_ char *text = NULL;
	int r = json_print(list, false, &text);

	if (!r && strlen(text) > LIST_MAX)
		r = -ENOSPC;
	return r ? r : setting_set(v->db, LIST, text, strlen(text));
}

static bool is_waiting(const struct json *job)
{
	const char *state;

	return !json_get_string(job, "state", &state) && !strcmp(state, STATE_WAITING);
}

static bool is_of(const struct json *job, const char *key)
{
	const char *text;

	return !json_get_string(job, "job", &text) && !strcmp(text, key);
}

static int add_entry(struct json *list, const char *key, const char *type, size_t len)
{
	struct json *o = json_append_object(list);

	json_set_string(o, "job", key);
	json_set_string(o, "type", type);
	json_set_u64(o, "size", len);
	json_set_i64(o, "at_s", clock_wall_ns() / NS_PER_SEC);
	json_set_string(o, "state", STATE_WAITING);
	return o ? 0 : -ENOMEM;
}

/* A copy of the list without the oldest that are over. */
static int trim(const struct json *list, struct json *out)
{
	size_t n = json_count(list);

	for (const struct json *e = json_first(list); e; e = json_next(e), n--) {
		struct json *copy;

		if (n >= JOBS_KEPT && !is_waiting(e))
			continue;
		copy = json_append_object(out);
		for (const struct json *m = json_first(e); m; m = json_next(m))
			json_set_copy(copy, json_key(m), m);
	}
	return 0;
}

static int add_txn(
	struct volume *v, const char *key, const char *type, const void *data, size_t len)
{
	_cleanup_json_ struct json *list = NULL, *kept = json_new_array();
	uint64_t waiting = len, size;
	char name[48];
	int r = read_list(v, &list);

	for (const struct json *e = r ? NULL : json_first(list); e; e = json_next(e))
		if (is_waiting(e) && !json_get_u64(e, "size", &size))
			waiting += size;
	if (!r && waiting > JOBS_WAITING_MAX)
		r = -ENOSPC;
	if (!r)
		r = trim(list, kept);
	if (!r)
		r = add_entry(kept, key, type, len);
	payload_name(key, name);
	if (!r)
		r = setting_set(v->db, name, data, len);
	return r ? r : write_list(v, kept);
}

int jobs_add(struct volume *v, const char *type, const void *data, size_t len,
	char key[static JOBS_KEY_SIZE])
{
	uint8_t random[16];
	int r;

	if (len > JOBS_PAYLOAD_MAX)
		return CE_TOO_LARGE;
	if (!*type || strlen(type) > JOBS_TYPE_MAX)
		return -EINVAL;
	secret_random(random, sizeof(random));
	bytes_to_hex(random, sizeof(random), key);
	r = db_begin(v->db);
	return r ? r : tree_row_end(v, add_txn(v, key, type, data, len));
}

static int take(struct volume *v, const struct json *job, struct jobs_waiting *out)
{
	const char *key, *type;
	char name[48];
	int r;

	if (json_get_string(job, "job", &key) || json_get_string(job, "type", &type) ||
		strlen(key) >= sizeof(out->key) || strlen(type) >= sizeof(out->type))
		return CE_CORRUPT;
	memcpy(out->key, key, strlen(key) + 1);
	memcpy(out->type, type, strlen(type) + 1);
	out->data = malloc(JOBS_PAYLOAD_MAX + 1);
	if (!out->data)
		return -ENOMEM;
	payload_name(key, name);
	r = setting_get(v->db, name, out->data, JOBS_PAYLOAD_MAX, &out->len);
	if (r)
		free(steal_ptr(&out->data));
	return r == -ENOENT ? CE_CORRUPT : r;
}

int jobs_next(struct volume *v, struct jobs_waiting *out)
{
	_cleanup_json_ struct json *list = NULL;
	int r;

	db_read(v->db);
	r = read_list(v, &list);
	if (!r) {
		const struct json *e = json_first(list);

		while (e && !is_waiting(e))
			e = json_next(e);
		r = e ? take(v, e, out) : -ENOENT;
	}
	db_unlock(v->db);
	return r;
}

static void copy_settled(
	struct json *list, const struct json *job, const char *job_id, const char *why)
{
	struct json *o = json_append_object(list);
	char text[WHY_MAX];

	for (const struct json *m = json_first(job); m; m = json_next(m))
		if (strcmp(json_key(m), "state") != 0)
			json_set_copy(o, json_key(m), m);
	json_set_string(o, "state", job_id ? "sent" : "refused");
	if (job_id)
		json_set_string(o, "job_id", job_id);
	snprintf(text, sizeof(text), "%s", why ? why : "");
	if (why && bytes_is_utf8((const uint8_t *)text, strlen(text)))
		json_set_string(o, "error", text);
}

static int settle_txn(struct volume *v, const char *key, const char *job_id, const char *why)
{
	_cleanup_json_ struct json *list = NULL, *settled = json_new_array();
	char name[48];
	int r = read_list(v, &list);

	if (r)
		return r;
	for (const struct json *e = json_first(list); e; e = json_next(e)) {
		struct json *o;

		if (is_of(e, key)) {
			copy_settled(settled, e, job_id, why);
			continue;
		}
		o = json_append_object(settled);
		for (const struct json *m = json_first(e); m; m = json_next(m))
			json_set_copy(o, json_key(m), m);
	}
	payload_name(key, name);
	r = setting_delete(v->db, name);
	return r ? r : write_list(v, settled);
}

int jobs_settle(struct volume *v, const char *key, const char *job_id, const char *why)
{
	int r = db_begin(v->db);

	return r ? r : tree_row_end(v, settle_txn(v, key, job_id, why));
}

int jobs_list(struct volume *v, struct json **out)
{
	int r;

	db_read(v->db);
	r = read_list(v, out);
	db_unlock(v->db);
	return r;
}
