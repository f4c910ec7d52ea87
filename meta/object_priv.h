/* Reading the columns of an object out of a joined row. */
#ifndef CACHET_META_OBJECT_PRIV_H
#define CACHET_META_OBJECT_PRIV_H

#include "meta/object.h"
#include "meta/stmt_priv.h"

/* STMT_OBJECT_COLUMNS. */
void object_read(struct stmt *s, struct object_row *o);

#endif
