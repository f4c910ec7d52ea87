/*
 * What a volume can be asked, by the control socket of its daemon or, when it is not mounted,
 * directly.
 *
 *     ping                      pid, mountpoint
 *     status                    all that `cachet status` shows
 *     journal                   "operations": every operation not yet acknowledged
 *     explain {seq}             "waits": why an operation is not sent now
 *     find {store, record}      path, based_on, pending of a record; nothing if it is not here
 *     retry, drop {seq}         of a refused or held operation
 *     conflicts {all?}          "conflicts"
 *     resolve {id, pick?, content?}  a conflict is settled (daemon/resolving.h)
 *     stat {path}               one object; the path is relative to the mount's root
 *     sync {wait?, timeout_ms?} probe, poll and replay now *
 *     online {upload_rate?, download_rate?}   bytes a second; what is not said stays *
 *     offline                   *
 *     allow-deletes             a person confirms held deletions *
 *     accept-restored           a person says that a restored or replaced server is the one *
 *     operation {seq}           "operation": one of the journal, with its content
 *     rekey {start?, force?, wait_ms?}   daemon/rekeying.h
 *     keys                      "keys": purpose, store, kid and age of each, never bytes
 *     rotate                    the server makes a new KEK: "kid"
 *     check-device              "agrees": has the server our public key?
 *     token {token}             another token, which a FIFO of that name gives; used at once
 *     lock                      "kept", "uncommitted" *
 *     unlock {key?}             by the key source, or by the key that a FIFO of that name gives *
 *     wiping                    "pending"; if it is 0, a wipe may begin and the event log has it
 *     exported {files, bytes}   the event log gets a row of an export
 *     job-run {type, payload}   a payload (base64) for a worker of the origin: "job"
 *     jobs                      "jobs"
 *     job-result {job}          "result", base64 *
 *     pin {paths}               they and what appears below are kept here: "files", …
 *     unpin {paths? | set}      not any more; the content stays until there is need of room
 *     pins                      "pins", "sets", and the sum
 *     free {path}               drops clean content: "files", "bytes", "pinned", "kept"
 *     warm {path, skip?}        fetches for a second: "files", "bytes", "failed", "left_files" *
 *     ready {for_ms?}           "ready", "problems": what is missing
 *     watch {after?, path?, …}  "events" since then, daemon/watch.h *
 *     record-begin {pid}        remembers what that process and its descendants open *
 *     record-end {pid, set?}    pins it as a set, or forgets it *
 *     umount                    the daemon ends *
 *
 * Those with * need the daemon; without it they answer "not-mounted". Numbers of operations and
 * conflicts are JSON numbers (decimal strings from 2^53 on). An answer is {"ok":true, …} or
 * {"ok":false,"code":NAME,"error":SENTENCE}, NAME as exit_code_name().
 */
#ifndef CACHET_DAEMON_REQUESTS_H
#define CACHET_DAEMON_REQUESTS_H

#include <stdbool.h>

#include "base/json.h"
#include "base/macros.h"
#include "daemon/config.h"
#include "daemon/exit_code.h"

struct daemon_state;

/* Of a request that waits, now and then. */
struct requests_caller {
	bool (*gone)(void *arg); /* nobody wants the answer any more */
	void *arg;
	void (*progress)(const struct json *answer); /* as it would be now; NULL: not asked for */
};

/* Never NULL unless memory is out. The caller frees. */
struct json *requests_answer(
	struct daemon_state *d, const struct json *request, const struct requests_caller *caller);

/* {"ok":false, …} */
struct json *requests_failure(enum exit_code code, const char *sentence);

/* Opens the volume (which needs its key), answers, closes it. A failure to open is an answer too.
 */
struct json *requests_direct(const struct config *config, const struct json *request,
	void (*progress)(const struct json *answer));

#endif
