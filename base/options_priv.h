/* Between options.c and options_value.c. */
#ifndef CACHET_BASE_OPTIONS_PRIV_H
#define CACHET_BASE_OPTIONS_PRIV_H

#include <stdint.h>

#include "base/macros.h"

/* Decimal digits only, else CE_USAGE. */
int options_value_u64(const char *text, uint64_t *out) MUST_CHECK;

#endif
