/* The handlers of the routes (routes.c): read.c, write.c, batch.c, feed.c. */
#ifndef CACHET_SERVER_HANDLERS_H
#define CACHET_SERVER_HANDLERS_H

#include "server/http.h"

void server_read_capabilities(struct request *r);
void server_read_stores(struct request *r);
void server_read_record(struct request *r);
void server_read_many(struct request *r);

/* What PUT, PATCH and DELETE have in common: precondition, key, device; and PUT's headers. */
void server_write_begin(struct request *r);
void server_write_put(struct request *r);
void server_write_patch(struct request *r);
void server_write_delete(struct request *r);
void server_write_answer(struct request *r);

void server_batch_finish(struct request *r);
void server_batch_answer(struct request *r);

void server_feed_begin(struct request *r);
void server_feed_answer(struct request *r);

#endif
