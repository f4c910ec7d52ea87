/*
 * What an export says when it is done: where it is and its key, which exists nowhere else. The key
 * passes through no buffer that is not wiped.
 */
#ifndef CACHET_CLI_EXPORT_RESULT_H
#define CACHET_CLI_EXPORT_RESULT_H

#include "base/macros.h"
#include "base/secret.h"
#include "cli/command.h"
#include "cli/export_form.h"
#include "cli/export_pack.h"

struct export_result {
	const struct command_common *common;
	const struct export_form *form;
	const struct secret *key;
	const char *name; /* of the file it would have, without --output */
	const struct export_totals *totals;
	enum {
		EXPORT_RESULT_SEALED,  /* --json has encrypted_data, in hexadecimal */
		EXPORT_RESULT_RECORDS, /* --json has records, the array of envelopes */
		EXPORT_RESULT_KEY,     /* --json has neither */
	} content;
};

int export_result_print(const struct export_result *x) MUST_CHECK;

#endif
