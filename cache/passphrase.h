/*
 * Changing the passphrase of a volume. Nothing inside is sealed anew: with the source `passphrase:`
 * the few keys of the keyring are wrapped by the key of the new one, behind `server:` the device
 * record is sealed by it.
 *
 * The old one must open the volume before the new one is asked for; the new keyring is written as
 * text, read back and opened with the new key before it replaces the old, in one rename. Killed
 * anywhere the keyring is wholly old or wholly new.
 * What it cannot do: copies of keyring.json made earlier open with the old passphrase, and the
 * keys inside are the same.
 * Errors: CE_INUSE while mounted, CE_WRONG_KEY, CE_USAGE when the source is not a passphrase.
 */
#ifndef CACHET_CACHE_PASSPHRASE_H
#define CACHET_CACHE_PASSPHRASE_H

#include <stdbool.h>

#include "base/macros.h"

/* True when what opens a volume of this key source is typed by a person. */
bool passphrase_is_asked(const char *key_source);

/* *error: a sentence for the user (caller frees). */
int passphrase_change(const char *dir, const char *key_source, char **error) MUST_CHECK;

#endif
