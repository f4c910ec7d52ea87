/* Reading the columns of a chunk, shared by content_chunk.c and content_undo.c. */
#ifndef CACHET_META_CONTENT_PRIV_H
#define CACHET_META_CONTENT_PRIV_H

#include "meta/content.h"
#include "meta/db_priv.h"
#include "meta/stmt_priv.h"

/* idx, slot, len, seq, nonce, tag. NULLs read as 0. Errors stay in s->error. */
void content_chunk_read(struct stmt *s, struct content_chunk *c);

#endif
