/*
 * A look at the log before SQLite sees it, because SQLite ends the log at the first bad frame
 * without a word, drops the commits behind it, and writes over the evidence.
 *
 * walscan_run() opens every frame and follows SQLite's checksums, so that `committed` is exactly
 * what SQLite will recover. A torn tail is normal: power loss, a full disk. When an authentic
 * commit of the same log lies behind a bad frame, something was lost:
 *
 *   damaged       so it is. After power loss that can be commits that nobody had synced.
 *   durable_lost  a lost commit had been synced: the disk or somebody changed it. Every frame says,
 * in its nonce, how many frames were durable when it was written.
 *
 * Only the last commits of the log, with nothing behind them, can vanish unseen (the log cut
 * short): that is a roll-back, which no local file can tell; the origin's last_seq does.
 *
 * Threads: the caller holds the volume; nothing writes the log.
 */
#ifndef CACHET_META_WALSCAN_H
#define CACHET_META_WALSCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "meta/page.h"

struct walscan {
	uint64_t bytes; /* of the file */
	bool header_ok;
	bool any_authentic; /* at least one frame opens under the key */
	uint32_t committed; /* frames up to the last recoverable commit */
	bool page1;         /* one of those is of page 1 */
	bool damaged;
	bool durable_lost;
	uint64_t keep_bytes; /* the file up to the last recoverable commit */
};

/* `fd` of the log, or -1 when there is none (all zeros then). */
int walscan_run(int fd, const struct page_keys *keys, struct walscan *out) MUST_CHECK;

#endif
