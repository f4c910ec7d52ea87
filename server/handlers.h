/* The handlers of the routes (routes.c): read.c, write.c, batch.c, feed.c. */
#ifndef CACHET_SERVER_HANDLERS_H
#define CACHET_SERVER_HANDLERS_H

#include "server/http.h"

void server_read_capabilities(struct request *r);
void server_read_stores(struct request *r);
void server_read_record(struct request *r);
void server_read_many(struct request *r);
/* The text as JSON under the request's conditions and range; takes it. */
void server_read_text(struct request *r, struct buffer *text, const char *etag);

/* What PUT, PATCH and DELETE have in common: precondition, key, device; and PUT's headers. */
void server_write_begin(struct request *r);
void server_write_put(struct request *r);
void server_write_patch(struct request *r);
void server_write_delete(struct request *r);
void server_write_answer(struct request *r);

/* upload_http.c; {id} is a key. */
/* Of a PUT whose header is in `c`: its body goes into r->upload when it can be cut off, or goes on. */
void server_upload_accept(struct request *r, struct change *c);
void server_upload_get(struct request *r);
void server_upload_part_begin(struct request *r);
void server_upload_part(struct request *r);
void server_upload_drop(struct request *r);

void server_batch_finish(struct request *r);
void server_batch_answer(struct request *r);

/* admin_calls.c; {id} is the number of a token, or a store. All are resumed in
 * server_call_answer(). */
void server_admin_tokens(struct request *r);
void server_admin_token_add(struct request *r);
void server_admin_token_revoke(struct request *r);
void server_admin_accounts(struct request *r);
void server_admin_account_add(struct request *r);
void server_admin_account_close(struct request *r);
void server_admin_stores(struct request *r);
void server_admin_grant(struct request *r);
void server_admin_audit(struct request *r);

/* page.c: the administration page. */
void server_page_get(struct request *r);

/* device_calls.c; {id} is a dkid. Resumed in server_call_answer() likewise. */
void server_device_enrol(struct request *r);
void server_device_list(struct request *r);
void server_device_kek(struct request *r);
void server_device_rotate(struct request *r);
void server_device_revoke(struct request *r);
void server_device_trust(struct request *r);
void server_admin_rotate(struct request *r);

void server_feed_begin(struct request *r);
void server_feed_answer(struct request *r);

/* export_http.c */
void server_export_begin(struct request *r);
void server_export_answer(struct request *r);

/* job_http.c; {id} is a job. */
void server_job_begin(struct request *r);
void server_job_queue(struct request *r);
void server_job_queued(struct request *r);
void server_job_list(struct request *r);
void server_job_get(struct request *r);
void server_job_result(struct request *r);
void server_job_delete(struct request *r);
void server_job_deleted(struct request *r);

void server_query_list(struct request *r);
void server_query_get_one(struct request *r);
void server_query_answer(struct request *r);

#endif
