/* The content coding gzip (RFC 9110 sections 8.4 and 12.5.3) of larger JSON answers. Pure
 * functions. */
#ifndef CACHET_SERVER_GZIP_H
#define CACHET_SERVER_GZIP_H

#include <stdbool.h>

#include "base/bytes.h"

/* Whether a client that sent this Accept-Encoding (NULL: none) takes gzip. */
bool server_gzip_accepted(const char *accept_encoding);
/* Replaces the text by its coded form; -EMSGSIZE, and the text as it was, when that is no shorter.
 */
int server_gzip_pack(struct buffer *text) MUST_CHECK;

#endif
