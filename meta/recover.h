/*
 * What is done to the files of the index before SQLite sees them.
 *
 * recover_prepare() proves that the key is right (CE_WRONG_KEY; nothing was touched), looks for
 * damage in the log (meta/walscan.h), copies index and log to quarantine/ when there is some, and
 * cuts off the log what lies behind its last whole commit: SQLite would not read it, and what it
 * writes there later must not have stale commits behind it.
 *
 * The key: every page and frame authenticates under it alone, so one that opens proves it. When
 * page 1 does not, but the log holds a committed page 1, a checkpoint was torn and nothing is lost;
 * when neither, another page or frame that opens tells CE_TAMPER from CE_WRONG_KEY.
 *
 * A crash in between: the same again at the next open. Threads: the caller holds the lock on the
 * index.
 */
#ifndef CACHET_META_RECOVER_H
#define CACHET_META_RECOVER_H

#include <stdbool.h>

#include "base/macros.h"
#include "base/secret.h"
#include "meta/db.h"

#define RECOVER_LOSS_FILE "index.loss" /* empty: that it is there says all */

/* `main_fd`: index.db, open and locked. *page1_in_wal: for struct vfs_options. */
int recover_prepare(int dirfd, int main_fd, const struct secret *key, struct db_recovery *rec,
	bool *page1_in_wal) MUST_CHECK;
/* Copies index, WAL and redo log to quarantine/ and names the place in `rec`, unless that was done;
 * what was durable and is lost is noted beside the index, before the caller strikes out the damage
 * that tells it. */
int recover_quarantine(int dirfd, int main_fd, struct db_recovery *rec) MUST_CHECK;
/* db_settle_loss() */
int recover_settle_loss(int dirfd) MUST_CHECK;

#endif
