/* What the files of `.cachet` in the mount say (fs/hidden.h): status.json is what `cachet status
 * --json` prints; journal, conflicts (the open ones) and events have one JSON object a line. */
#ifndef CACHET_DAEMON_HIDDEN_H
#define CACHET_DAEMON_HIDDEN_H

#include <stddef.h>

#include "fs/fs.h"

#define HIDDEN_FILES 4

/* Their print() takes a struct daemon_state. */
extern const struct fs_hidden_file hidden_files[HIDDEN_FILES];

#endif
