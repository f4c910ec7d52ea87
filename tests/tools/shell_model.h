/*
 * Commands of sync_shell for the model test (tests/model). A file's content is a word without
 * spaces, repeated with ';' behind each to the size asked for: half of one version and half of
 * another shows. Those that destroy a content say which: "=WORD", "@ETAG" when it is not here, "-"
 * for none, "?" when the name had got another meanwhile.
 *
 *     write P WORD BYTES    makes or replaces
 *     trim P BYTES          shorter, the same word, which it says
 *     jset P FIELD WORD     a JSON object of words; its text counts as one word
 *     peek P OFFSET BYTES   reads a part, says its word
 *     evict [PATTERN]       drops what the server can give again
 *     unlink P | rename A B | exchange A B | link A B | chmod P MODE
 *     tree                  "PATH KIND MODE CONTENT" of everything, separated by tabs
 *     versions              "RID ETAG CONTENT-ETAG" of every name; of content that no version of the
 *                           origin gave, "-"
 */
#ifndef CACHET_TESTS_SHELL_MODEL_H
#define CACHET_TESTS_SHELL_MODEL_H

#include "cache/volume.h"
#include "sync/sync.h"

/* -ENOSYS: no such command; else it has printed its answer line. */
int shell_model_run(struct volume *v, struct sync *s, char **words);

#endif
