/* The driver; its calls are in records_read.c and records_send.c. */
#include "sync/records.h"

#include <errno.h>
#include <stdio.h>

#include "sync/records_call.h"

static int records_open(const struct origin_options *o, struct origin **out)
{
	struct records *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->origin.ops = &records_ops;
	r->http = o->http;
	r->device_id = o->device_id;
	*out = &r->origin;
	return 0;
}

static void records_close(struct origin *o)
{
	free(o);
}

static void records_expect(struct origin *o, const char *instance)
{
	snprintf(
		records_call_of(o)->instance, sizeof(records_call_of(o)->instance), "%s", instance);
}

static void records_abort(struct origin_call *c)
{
	http_abort(c->transfer);
	free(c);
}

static void records_resume(struct origin_call *c)
{
	http_resume(c->transfer);
}

const struct origin_ops records_ops = {
	.name = "records",
	.batch_supported = true,
	.open = records_open,
	.close = records_close,
	.expect = records_expect,
	.capabilities = records_read_capabilities,
	.stores = records_read_stores,
	.changes = records_read_changes,
	.get_small = records_read_get_small,
	.check = records_read_check,
	.query = records_read_query,
	.job = records_send_job,
	.get = records_read_get,
	.put_offset = records_send_put_offset,
	.put = records_send_put,
	.put_part = records_send_put_part,
	.drop_parts = records_send_drop_parts,
	.patch = records_send_patch,
	.remove = records_send_remove,
	.batch = records_send_batch,
	.abort = records_abort,
	.resume = records_resume,
};
