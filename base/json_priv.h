/* The grammar check behind json_parse(); see json_grammar.c. */
#ifndef CACHET_BASE_JSON_PRIV_H
#define CACHET_BASE_JSON_PRIV_H

#include <stdbool.h>
#include <stddef.h>

/* True when the text is one JSON value of RFC 8259 within our limits, white space around it. */
bool json_grammar_ok(const char *text, size_t len);

#endif
