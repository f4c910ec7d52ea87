/*
 * JSON, the only door to cJSON.
 *
 * Reading is strict: json_parse() refuses trailing bytes, duplicate keys in one object, invalid
 * UTF-8, \u0000 in strings, and more than `JSON_DEPTH_MAX` levels. Getters return CE_FORMAT when
 * the key is missing or of another type; strings they return are borrowed from the tree.
 * Integers are exact below 2^53; larger ones travel as decimal strings (json_get_u64 takes both,
 * json_set_u64 writes a string from 2^53 on).
 *
 * Writing: json_new_object(), json_set_*(), json_print(). A failed allocation inside json_set_*, or
 * a string that is not UTF-8 (CE_FORMAT), is remembered in the tree and makes json_print() fail, so
 * callers check once.
 *
 * Threads: a tree belongs to one thread at a time.
 */
#ifndef CACHET_BASE_JSON_H
#define CACHET_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

#define JSON_DEPTH_MAX 32

struct json; /* a value; children are borrowed from their root */

int json_parse(const char *text, size_t len, struct json **out) MUST_CHECK;
void json_free(struct json *root);
void json_freep(struct json **root);
#define _cleanup_json_ _cleanup_(json_freep)

bool json_is_object(const struct json *v);
bool json_is_array(const struct json *v);
bool json_is_string(const struct json *v);
bool json_has(const struct json *obj, const char *key);

int json_get(const struct json *obj, const char *key, const struct json **out) MUST_CHECK;
int json_get_string(const struct json *obj, const char *key, const char **out) MUST_CHECK;
int json_get_u64(const struct json *obj, const char *key, uint64_t *out) MUST_CHECK;
int json_get_i64(const struct json *obj, const char *key, int64_t *out) MUST_CHECK;
int json_get_bool(const struct json *obj, const char *key, bool *out) MUST_CHECK;
int json_get_array(const struct json *obj, const char *key, const struct json **out) MUST_CHECK;
/* Base64 member of exactly `len` bytes. */
int json_get_bytes(const struct json *obj, const char *key, uint8_t *out, size_t len) MUST_CHECK;

/*
 * Iteration over an array or the members of an object, without quadratic cost:
 * json_first(array), json_next(element), NULL at the end.
 */
const struct json *json_first(const struct json *array);
const struct json *json_next(const struct json *element);
size_t json_count(const struct json *array);
/* The string of a string value, the key of an object member; NULL if it is none. */
const char *json_string(const struct json *v);
const char *json_key(const struct json *member);

struct json *json_new_object(void);
struct json *json_new_array(void);
/* Setters replace nothing: setting a key twice is a bug. `obj` may be NULL (allocation failed). */
/* NULL is written as null. */
void json_set_string(struct json *obj, const char *key, const char *value);
void json_set_u64(struct json *obj, const char *key, uint64_t value);
void json_set_i64(struct json *obj, const char *key, int64_t value);
void json_set_bool(struct json *obj, const char *key, bool value);
void json_set_null(struct json *obj, const char *key);
void json_set_bytes(struct json *obj, const char *key, const uint8_t *value, size_t len);
/* New child, owned by `obj`. */
struct json *json_set_object(struct json *obj, const char *key);
struct json *json_set_array(struct json *obj, const char *key);
struct json *json_append_object(struct json *array);
void json_append_string(struct json *array, const char *value);

/* Whole copies, of any value: a new root at *out, or a new child of `obj`. */
int json_copy(const struct json *v, struct json **out) MUST_CHECK;
void json_set_copy(struct json *obj, const char *key, const struct json *v);

/* Text of the tree, compact or indented; the caller frees *out. */
int json_print(const struct json *root, bool indented, char **out) MUST_CHECK;

#endif
