#include "sync/origin.h"

#include <string.h>
#include <strings.h>

#include "sync/records.h"

const struct origin_ops *origin_driver(const char *url)
{
	if (!strncasecmp(url, "https://", 8) || !strncasecmp(url, "http://", 7))
		return &records_ops;
	return NULL;
}

void origin_abort(struct origin *o, struct origin_call **call)
{
	if (*call)
		o->ops->abort(steal_ptr(call));
}
