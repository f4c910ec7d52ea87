/*
 * Results for people: sizes, ages, names, counts; and JSON for programs. Names come from a server:
 * control characters, and bytes that are no character, are shown as \xNN, so that none can speak to
 * the terminal.
 */
#ifndef CACHET_CLI_SHOW_H
#define CACHET_CLI_SHOW_H

#include <stdint.h>
#include <stdio.h>

#include "base/json.h"
#include "cli/command.h"

/* The object, indented, on standard output. Returns the exit code. */
int show_json(const struct json *o);

void show_text(FILE *out, const char *text);

/* Texts in the caller's buffer, which is returned. */
#define SHOW_MAX 48
const char *show_bytes(uint64_t bytes, char out[static SHOW_MAX]); /* "12.4 MiB" */
const char *show_age(int64_t wall_ns, char out[static SHOW_MAX]);  /* "3 min ago"; 0 = "never" */
const char *show_count(uint64_t n, const char *one, const char *many, char out[static SHOW_MAX]);

/* A line on standard error of how far it is, drawn again in place, and left when it is over. */
void show_bar(uint64_t done_bytes, uint64_t of_bytes, bool over);

/* Members with a fall-back, for answers of a daemon that may be older. `o` may be NULL. */
uint64_t show_u64(const struct json *o, const char *key);
int64_t show_i64(const struct json *o, const char *key);
bool show_bool(const struct json *o, const char *key);
const char *show_string(const struct json *o, const char *key); /* NULL if absent */
const struct json *show_member(const struct json *o, const char *key);

#endif
