/* The driver for origins that speak the Records protocol (docs/protocol.md) over https, or http on
 * loopback. */
#ifndef CACHET_SYNC_RECORDS_H
#define CACHET_SYNC_RECORDS_H

#include "sync/origin.h"

extern const struct origin_ops records_ops;

#endif
