/*
 * A JSON array of record envelopes, written one after the other: `cachet export --records`,
 * `cachet journal export`. Each record is a JSON object of its own, sealed.
 */
#ifndef CACHET_CLI_ENVELOPE_LIST_H
#define CACHET_CLI_ENVELOPE_LIST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/macros.h"
#include "base/secret.h"
#include "cli/export_form.h"

/* Of a file: its content in base64 and the rest of the record must fit into an envelope. */
#define ENVELOPE_LIST_CONTENT_MAX (11u << 20)

struct envelope_list {
	struct export_form *form;
	const struct secret *key;
	uint64_t n;
};

/* `known` is what the daemon says of the record: store, record, object, version. CE_TOO_LARGE. */
int envelope_list_add(
	struct envelope_list *l, const struct json *known, const struct json *record) MUST_CHECK;
/* Once behind the last. */
int envelope_list_end(struct envelope_list *l) MUST_CHECK;

#endif
