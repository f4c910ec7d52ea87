/*
 * A sealed bundle in a file, in any form an export has: as it is, as base64 in a page
 * (`cachet export --html`), as the hexadecimal member encrypted_data of a JSON object
 * (`cachet export --json`, the server's export). The form is seen from the file.
 *
 *     sealed_file_open(path, &f)
 *     sealed_file_each(f, key, fn, arg)  // as often as wanted; from the beginning each time
 *     sealed_file_close(f)
 *
 * sealed_file_each() hands out entries before it knows that the end is there: one that must not
 * act on part of a bundle calls it twice, first with a function that only looks.
 *
 * CE_FORMAT: no sealed bundle in this file. Else as crypto/bundle.h and base/tar.h.
 */
#ifndef CACHET_CLI_SEALED_FILE_H
#define CACHET_CLI_SEALED_FILE_H

#include "base/macros.h"
#include "base/secret.h"
#include "base/tar.h"

/* What opens and closes the text of the bundle in a page and in a JSON object. */
#define SEALED_FILE_PAGE_MARK "<script id=\"sealed\" type=\"text/plain\">"
#define SEALED_FILE_JSON_MARK "\"encrypted_data\""

struct sealed_file;

int sealed_file_open(const char *path, struct sealed_file **out) MUST_CHECK;
void sealed_file_close(struct sealed_file *f);
void sealed_file_closep(struct sealed_file **f);

/* The content of the entry at hand: as read(2). */
struct sealed_content;
ssize_t sealed_file_read(struct sealed_content *c, void *buf, size_t len) MUST_CHECK;

/* 0 to go on; anything else ends the walk and is returned. The size of the one entry of a bundle
 * that is no archive is that of its content. */
typedef int sealed_file_fn(void *arg, const struct tar_entry *e, struct sealed_content *c);
int sealed_file_each(
	struct sealed_file *f, const struct secret *key, sealed_file_fn *fn, void *arg) MUST_CHECK;

#endif
