/*
 * A volume whose key is lost: it is set aside and another one takes its place.
 *
 * Nothing is deleted or moved: whether something unsent is in the old one cannot be seen without
 * its key. Its configuration is saved under another name, NAME-aside-N, so that every verb works on
 * it when the key is found again; then a new volume is made under another id, and NAME points to
 * that, in one rename of its configuration. Killed anywhere, the next try goes on: the new id
 * follows from the old one, and what is half made is made anew.
 */
#ifndef CACHET_CLI_REPLACE_H
#define CACHET_CLI_REPLACE_H

#include "base/macros.h"
#include "base/secret.h"
#include "daemon/config.h"

/* The key source gives no key, or one that does not open the volume; or the keyring is gone. Asks
 * the key source. */
bool replace_is_needed(const struct config *c);

/* `c` gets the new id. *aside: the name the old one has now; *error: a sentence (the caller frees
 * both). The names are listed if the origin answers. */
int replace_volume(
	struct config *c, const struct secret *token, char **aside, char **error) MUST_CHECK;

#endif
