/* Between requests.c (the table) and the files that answer some of it. */
#ifndef CACHET_DAEMON_REQUESTS_PRIV_H
#define CACHET_DAEMON_REQUESTS_PRIV_H

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "daemon/daemon_priv.h"
#include "daemon/requests.h"

struct request {
	struct daemon_state *d;
	const struct json *in;
	const struct requests_caller *caller;
	struct json *out;
	char *error; /* a sentence, where the code alone does not say it */
};

static inline int say(struct request *q, int code, const char *sentence)
{
	free(q->error);
	q->error = strdup(sentence);
	return code;
}

/* requests_warm.c */
int requests_warm_pin(struct request *q);
int requests_warm_unpin(struct request *q);
int requests_warm_pins(struct request *q);
int requests_warm_free(struct request *q);
int requests_warm_warm(struct request *q);
int requests_warm_record_begin(struct request *q);
int requests_warm_record_end(struct request *q);

/* requests_sync.c */
int requests_sync(struct request *q);
int requests_sync_online(struct request *q);
int requests_sync_offline(struct request *q);
int requests_sync_allow_deletes(struct request *q);
int requests_sync_accept_old(struct request *q);
int requests_sync_accept_restored(struct request *q);
/* The sentence for the reason why unsent work stays. */
int requests_sync_explain(struct request *q, int r);

/* requests_keys.c */
int requests_keys_keys(struct request *q);
int requests_keys_rotate(struct request *q);
int requests_keys_rekey(struct request *q);
int requests_keys_check_device(struct request *q);
int requests_keys_lock(struct request *q);
int requests_keys_unlock(struct request *q);
int requests_keys_token(struct request *q);

/* requests_watch.c */
int requests_watch(struct request *q);

/* requests_ready.c */
int requests_ready(struct request *q);

#endif
