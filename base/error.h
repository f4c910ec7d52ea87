/*
 * Errors.
 *
 * A function that can fail returns 0 (or a count) or a negative code. The code is a negative errno
 * where errno says what happened, and one of the CE_* codes below where it cannot: a reader must
 * know tampering from a broken disk from an absent network. Each code of ours has one parent
 * errno, mapped once, by error_errno(), at the FUSE edge and nowhere else.
 *
 * Outputs are untouched when a function fails, unless it says otherwise.
 * Library folders do not log errors; whoever decides what to do about one logs it, once.
 */
#ifndef CACHET_BASE_ERROR_H
#define CACHET_BASE_ERROR_H

enum {
	CE_FIRST = -10000,
	CE_TAMPER = CE_FIRST, /* authentication failed: changed, moved or truncated bytes. EIO */
	CE_CORRUPT,           /* authentic, but not what the format allows. EIO */
	CE_FORMAT,            /* not a file of ours, or of a newer version. EINVAL */
	CE_WRONG_KEY,         /* the key does not match its commitment. EACCES */
	CE_LOCKED,            /* keys are not in memory. EACCES */
	CE_OFFLINE,           /* the origin cannot be reached. EHOSTUNREACH */
	CE_ABSENT,            /* content that is not here yet and must be fetched. EHOSTUNREACH */
	CE_STALE,             /* a chunk of a version that the origin no longer has. ESTALE */
	CE_GONE,              /* the origin's own word: it does not exist. ENOENT */
	CE_AUTH,              /* the origin refused the credentials. EACCES */
	CE_REFUSED,           /* the origin refused the operation (4xx). EIO */
	CE_CONFLICT,          /* the origin's version is not the one this was based on. ESTALE */
	CE_PROTOCOL,          /* an answer that is not of the protocol (HTML, cut off). EPROTO */
	CE_TOO_LARGE,         /* beyond a stated limit. EFBIG */
	CE_HELD,              /* held back until a person confirms it. EBUSY */
	CE_INUSE,             /* another process has the volume. EBUSY */
	CE_REVOKED,           /* the server's signed word: this device may not. EACCES */
	CE_UNTRUSTED,         /* likewise: this machine is not to be trusted now. EACCES */
	CE_USAGE,             /* the command line or the configuration is wrong. EINVAL */
	CE_LAST
};

/* The errno a program sees for `code` (0 or negative; own or errno): always >= 0. */
int error_errno(int code);

/* A short lower-case text for `code`, e.g. "authentication failed". Static storage. */
const char *error_text(int code);

#endif
