/* Private to server/: see server_backup() in server/server.h. */
#ifndef CACHET_SERVER_BACKUP_H
#define CACHET_SERVER_BACKUP_H

#include "server/store.h"

/* Held (flock) by a backup: a running server unlinks no content file meanwhile, since the copy of
 * the database may name it. */
#define BACKUP_LOCK_NAME "backup.lock"

/*
 * At the start of a server: data that were put back from a backup get a new epoch, whichever way
 * they came there, so that clients see that they went back. The copy carries the mark.
 */
int server_backup_note_restored(struct store_db *db) MUST_CHECK;

#endif
