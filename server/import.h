/* Private to server/: see server_import() in server/server.h. */
#ifndef CACHET_SERVER_IMPORT_H
#define CACHET_SERVER_IMPORT_H

/* Held (flock) by an import, so that a server starting meanwhile does not take its files for
 * rubbish. */
#define IMPORT_LOCK_NAME "import.lock"

#endif
