#include "base/error.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/macros.h"

#define ERRNO_END 134 /* Linux errnos are below */

struct own_error {
	int parent;
	const char *text;
};

static const struct own_error own_errors[CE_LAST - CE_FIRST] = {
	[CE_TAMPER - CE_FIRST] = { EIO, "authentication failed" },
	[CE_CORRUPT - CE_FIRST] = { EIO, "authentic but malformed data" },
	[CE_FORMAT - CE_FIRST] = { EINVAL, "not in a format this version reads" },
	[CE_WRONG_KEY - CE_FIRST] = { EACCES, "wrong key" },
	[CE_LOCKED - CE_FIRST] = { EACCES, "locked" },
	[CE_OFFLINE - CE_FIRST] = { EHOSTUNREACH, "the origin cannot be reached" },
	[CE_ABSENT - CE_FIRST] = { EHOSTUNREACH, "content is not here yet" },
	[CE_STALE - CE_FIRST] = { ESTALE, "the origin no longer has this version" },
	[CE_GONE - CE_FIRST] = { ENOENT, "gone at the origin" },
	[CE_AUTH - CE_FIRST] = { EACCES, "the origin refused the credentials" },
	[CE_REFUSED - CE_FIRST] = { EIO, "the origin refused the operation" },
	[CE_CONFLICT - CE_FIRST] = { ESTALE, "changed at the origin meanwhile" },
	[CE_PROTOCOL - CE_FIRST] = { EPROTO, "the answer is not of the protocol" },
	[CE_TOO_LARGE - CE_FIRST] = { EFBIG, "beyond a limit" },
	[CE_HELD - CE_FIRST] = { EBUSY, "held until confirmed" },
	[CE_INUSE - CE_FIRST] = { EBUSY, "in use by another process" },
	[CE_REVOKED - CE_FIRST] = { EACCES, "the server revoked this device" },
	[CE_UNTRUSTED - CE_FIRST] = { EACCES, "the server does not trust this machine" },
	[CE_USAGE - CE_FIRST] = { EINVAL, "wrong usage or configuration" },
};

static pthread_once_t errno_once = PTHREAD_ONCE_INIT;
static char errno_texts[ERRNO_END][64];

/* The C library's descriptions, begun in lower case: they stand in the middle of our sentences. */
static void errno_texts_init(void)
{
	for (int i = 0; i < ERRNO_END; i++) {
		const char *text = strerrordesc_np(i);

		snprintf(errno_texts[i], sizeof(errno_texts[i]), "%s",
			text ? text : "unknown error");
		if (!isupper((unsigned char)errno_texts[i][1]))
			errno_texts[i][0] = (char)tolower((unsigned char)errno_texts[i][0]);
	}
}

int error_errno(int code)
{
	if (code >= 0)
		return 0;
	if (code >= CE_FIRST && code < CE_LAST)
		return own_errors[code - CE_FIRST].parent;
	return code > -ERRNO_END ? -code : EIO;
}

const char *error_text(int code)
{
	if (code >= CE_FIRST && code < CE_LAST)
		return own_errors[code - CE_FIRST].text;
	if (code > 0 || code <= -ERRNO_END)
		return "unknown error";
	pthread_once(&errno_once, errno_texts_init);
	return errno_texts[-code];
}
