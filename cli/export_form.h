/*
 * Where the sealed bytes of an export go: a file as they are, or base64 inside a page with its own
 * viewer. The file must not exist; it is there, whole and synced, after export_form_close, and
 * export_form_discard removes it.
 */
#ifndef CACHET_CLI_EXPORT_FORM_H
#define CACHET_CLI_EXPORT_FORM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "crypto/bundle.h"

/* A browser holds the page's text, the sealed and the opened bytes at once. */
#define EXPORT_FORM_PAGE_MAX_BYTES (UINT64_C(256) << 20)

struct export_form {
	const char *path; /* NULL: an unnamed file, for reading back */
	int fd;
	bool page;
	uint64_t sealed; /* bytes so far */
	uint8_t carry[3];
	size_t n_carry; /* that wait for the rest of their three */
};

int export_form_open(struct export_form *f, const char *path, bool page) MUST_CHECK;
/* CE_TOO_LARGE: beyond what a page may have. */
struct bundle_sink export_form_sink(struct export_form *f);
/* The file is whole and durable; its descriptor stays open. */
int export_form_finish(struct export_form *f) MUST_CHECK;
void export_form_discard(struct export_form *f);
void export_form_done(struct export_form *f);

#endif
