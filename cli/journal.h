/* One change of the journal as a line: number, state, what is done, size, age, path. */
#ifndef CACHET_CLI_JOURNAL_H
#define CACHET_CLI_JOURNAL_H

#include "base/json.h"

void journal_print(const struct json *operation);

#endif
