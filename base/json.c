/*
 * struct json is cJSON under another name. Two fields of containers that cJSON does not use there
 * are ours: `valueint` of an object or array holds the first error that a setter met on it.
 *
 * cJSON keeps numbers as doubles and prints fifteen digits, then an exponent. Integers from 10^15
 * on are therefore written as raw text, which getters of a tree that was just built read as well.
 */
#include "base/json.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/json_priv.h"

#define EXACT_END (UINT64_C(1) << 53)        /* doubles below it are exact integers */
#define PLAIN_END UINT64_C(1000000000000000) /* cJSON prints integers below it digit by digit */

static cJSON *node(struct json *v)
{
	return (cJSON *)v;
}

static const cJSON *cnode(const struct json *v)
{
	return (const cJSON *)v;
}

static int compare_keys(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_keys(const cJSON *object)
{
	size_t n = (size_t)cJSON_GetArraySize(object), i = 0;
	_cleanup_free_ const char **keys = NULL;
	const cJSON *child;

	if (n < 2)
		return 0;
	keys = calloc(n, sizeof(*keys));
	if (!keys)
		return -ENOMEM;
	cJSON_ArrayForEach(child, object)
		keys[i++] = child->string;
	qsort(keys, n, sizeof(*keys), compare_keys);
	for (i = 1; i < n; i++)
		if (!strcmp(keys[i - 1], keys[i]))
			return CE_FORMAT;
	return 0;
}

/* Recursion bounded by JSON_DEPTH_MAX: the grammar was checked. */
static int check_duplicates(const cJSON *v)
{
	const cJSON *child;
	int r = cJSON_IsObject(v) ? check_keys(v) : 0;

	cJSON_ArrayForEach(child, v) {
		if (!r && child->child)
			r = check_duplicates(child);
	}
	return r;
}

int json_parse(const char *text, size_t len, struct json **out)
{
	cJSON *tree;
	int r;

	if (!json_grammar_ok(text, len))
		return CE_FORMAT;
	tree = cJSON_ParseWithLength(text, len);
	if (!tree)
		return CE_FORMAT;
	r = check_duplicates(tree);
	if (r) {
		cJSON_Delete(tree);
		return r;
	}
	*out = (struct json *)tree;
	return 0;
}

void json_free(struct json *root)
{
	cJSON_Delete(node(root));
}

void json_freep(struct json **root)
{
	json_free(*root);
}

bool json_is_object(const struct json *v)
{
	return cJSON_IsObject(cnode(v));
}

bool json_is_array(const struct json *v)
{
	return cJSON_IsArray(cnode(v));
}

bool json_is_string(const struct json *v)
{
	return cJSON_IsString(cnode(v));
}

static const cJSON *find(const struct json *obj, const char *key)
{
	return json_is_object(obj) ? cJSON_GetObjectItemCaseSensitive(cnode(obj), key) : NULL;
}

bool json_has(const struct json *obj, const char *key)
{
	return find(obj, key) != NULL;
}

int json_get(const struct json *obj, const char *key, const struct json **out)
{
	const cJSON *v = find(obj, key);

	if (!v)
		return CE_FORMAT;
	*out = (const struct json *)v;
	return 0;
}

int json_get_string(const struct json *obj, const char *key, const char **out)
{
	const cJSON *v = find(obj, key);

	if (!cJSON_IsString(v))
		return CE_FORMAT;
	*out = v->valuestring;
	return 0;
}

/* Canonical decimal digits: no sign, no leading zero, nothing behind. */
static int decimal(const char *text, uint64_t *out)
{
	uint64_t value = 0;

	if (!*text || (text[0] == '0' && text[1]))
		return CE_FORMAT;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return CE_FORMAT;
		if (__builtin_mul_overflow(value, 10, &value) ||
			__builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
			return CE_FORMAT;
	}
	*out = value;
	return 0;
}

/* Sign and magnitude of an integer in any of its forms. */
static int integer(const cJSON *v, bool *negative, uint64_t *magnitude)
{
	double d;

	if (cJSON_IsString(v) || cJSON_IsRaw(v)) {
		bool minus = v->valuestring[0] == '-';
		int r = decimal(v->valuestring + minus, magnitude);

		*negative = minus;
		return !r && minus && !*magnitude ? CE_FORMAT : r;
	}
	if (!cJSON_IsNumber(v))
		return CE_FORMAT;
	d = fabs(v->valuedouble);
	if (!(d < (double)EXACT_END) || d != floor(d))
		return CE_FORMAT;
	*magnitude = (uint64_t)d;
	*negative = v->valuedouble < 0;
	return 0;
}

int json_get_u64(const struct json *obj, const char *key, uint64_t *out)
{
	uint64_t magnitude;
	bool negative;
	int r = integer(find(obj, key), &negative, &magnitude);

	if (r)
		return r;
	if (negative)
		return CE_FORMAT;
	*out = magnitude;
	return 0;
}

int json_get_i64(const struct json *obj, const char *key, int64_t *out)
{
	uint64_t magnitude;
	bool negative;
	int r = integer(find(obj, key), &negative, &magnitude);

	if (r)
		return r;
	if (magnitude > (uint64_t)INT64_MAX + (negative ? 1 : 0))
		return CE_FORMAT;
	*out = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
	return 0;
}

int json_get_bool(const struct json *obj, const char *key, bool *out)
{
	const cJSON *v = find(obj, key);

	if (!cJSON_IsBool(v))
		return CE_FORMAT;
	*out = cJSON_IsTrue(v);
	return 0;
}

int json_get_array(const struct json *obj, const char *key, const struct json **out)
{
	const cJSON *v = find(obj, key);

	if (!cJSON_IsArray(v))
		return CE_FORMAT;
	*out = (const struct json *)v;
	return 0;
}

int json_get_bytes(const struct json *obj, const char *key, uint8_t *out, size_t len)
{
	_cleanup_free_ uint8_t *value = malloc(len + 1);
	const char *text;
	size_t n;
	int r;

	if (!value)
		return -ENOMEM;
	r = json_get_string(obj, key, &text);
	if (!r)
		r = bytes_from_base64(text, value, len, &n);
	if (r || n != len)
		return CE_FORMAT;
	memcpy(out, value, len);
	return 0;
}

const struct json *json_first(const struct json *array)
{
	return array ? (const struct json *)cnode(array)->child : NULL;
}

const struct json *json_next(const struct json *element)
{
	return (const struct json *)cnode(element)->next;
}

size_t json_count(const struct json *array)
{
	return array ? (size_t)cJSON_GetArraySize(cnode(array)) : 0;
}

const char *json_string(const struct json *v)
{
	return cJSON_IsString(cnode(v)) ? cnode(v)->valuestring : NULL;
}

const char *json_key(const struct json *member)
{
	return member ? cnode(member)->string : NULL;
}

struct json *json_new_object(void)
{
	return (struct json *)cJSON_CreateObject();
}

struct json *json_new_array(void)
{
	return (struct json *)cJSON_CreateArray();
}

static void remember(struct json *container, int error)
{
	if (container && !node(container)->valueint)
		node(container)->valueint = error;
}

/* Takes `v`, which may be NULL; returns it when it is in the tree. */
static struct json *attach(struct json *container, const char *key, cJSON *v)
{
	bool readable = !key || bytes_is_utf8((const uint8_t *)key, strlen(key));
	bool ok = container && v && readable;

	if (ok && key)
		ok = cJSON_AddItemToObject(node(container), key, v);
	else if (ok)
		ok = cJSON_AddItemToArray(node(container), v);
	if (ok)
		return (struct json *)v;
	cJSON_Delete(v);
	remember(container, readable ? -ENOMEM : CE_FORMAT);
	return NULL;
}

/* What is written must be readable again, by us and by everybody. */
static void attach_text(struct json *container, const char *key, const char *value)
{
	if (!value)
		attach(container, key, cJSON_CreateNull());
	else if (!bytes_is_utf8((const uint8_t *)value, strlen(value)))
		remember(container, CE_FORMAT);
	else
		attach(container, key, cJSON_CreateString(value));
}

void json_set_string(struct json *obj, const char *key, const char *value)
{
	attach_text(obj, key, value);
}

static void set_integer(struct json *obj, const char *key, bool negative, uint64_t magnitude)
{
	char text[24];

	snprintf(text, sizeof(text), "%s%" PRIu64, negative ? "-" : "", magnitude);
	if (magnitude < PLAIN_END)
		attach(obj, key,
			cJSON_CreateNumber(negative ? -(double)magnitude : (double)magnitude));
	else if (magnitude < EXACT_END)
		attach(obj, key, cJSON_CreateRaw(text));
	else
		attach(obj, key, cJSON_CreateString(text));
}

void json_set_u64(struct json *obj, const char *key, uint64_t value)
{
	set_integer(obj, key, false, value);
}

void json_set_i64(struct json *obj, const char *key, int64_t value)
{
	set_integer(obj, key, value < 0, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void json_set_bool(struct json *obj, const char *key, bool value)
{
	attach(obj, key, cJSON_CreateBool(value));
}

void json_set_null(struct json *obj, const char *key)
{
	attach(obj, key, cJSON_CreateNull());
}

void json_set_bytes(struct json *obj, const char *key, const uint8_t *value, size_t len)
{
	_cleanup_free_ char *text = NULL;
	int r = bytes_to_base64(value, len, &text);

	if (r)
		remember(obj, r);
	else
		attach_text(obj, key, text);
}

struct json *json_set_object(struct json *obj, const char *key)
{
	return attach(obj, key, cJSON_CreateObject());
}

struct json *json_set_array(struct json *obj, const char *key)
{
	return attach(obj, key, cJSON_CreateArray());
}

struct json *json_append_object(struct json *array)
{
	return attach(array, NULL, cJSON_CreateObject());
}

void json_append_string(struct json *array, const char *value)
{
	attach_text(array, NULL, value);
}

int json_copy(const struct json *v, struct json **out)
{
	cJSON *copy = cJSON_Duplicate(cnode(v), true);

	if (!copy)
		return -ENOMEM;
	*out = (struct json *)copy;
	return 0;
}

void json_set_copy(struct json *obj, const char *key, const struct json *v)
{
	attach(obj, key, cJSON_Duplicate(cnode(v), true));
}

/* Trees that are built are as deep as the code that builds them. */
static int remembered(const cJSON *v)
{
	const cJSON *child;
	int r = cJSON_IsObject(v) || cJSON_IsArray(v) ? v->valueint : 0;

	cJSON_ArrayForEach(child, v) {
		if (!r && (cJSON_IsObject(child) || cJSON_IsArray(child)))
			r = remembered(child);
	}
	return r;
}

int json_print(const struct json *root, bool indented, char **out)
{
	char *text;
	int r;

	if (!root)
		return -ENOMEM;
	r = remembered(cnode(root));
	if (r)
		return r;
	text = indented ? cJSON_Print(cnode(root)) : cJSON_PrintUnformatted(cnode(root));
	if (!text)
		return -ENOMEM;
	*out = text;
	return 0;
}
