/*
 * A key of the kernel's keyrings (keyrings(7)), type "user". Four system calls: no library is
 * needed. The user keyring is looked at first, then the session's. Whoever may read the key could
 * copy it, so one that group or others have any right to is refused.
 */
#include "crypto/keysource_priv.h"

#include <errno.h>
#include <linux/keyctl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"

#define KEY_TYPE "user"
#define RIGHTS_OF_OTHERS 0x0000ffffu /* keyctl_setperm(3): group and others */
#define DESCRIPTION_MAX 4400         /* a name has at most 4095 characters */

static long find(const char *name)
{
	static const int rings[] = { KEY_SPEC_USER_KEYRING, KEY_SPEC_SESSION_KEYRING };
	long id = -1;

	for (size_t i = 0; id < 0 && i < ARRAY_SIZE(rings); i++)
		id = syscall(SYS_keyctl, KEYCTL_SEARCH, rings[i], KEY_TYPE, name, 0);
	return id < 0 ? -errno : id;
}

static int fail(const char *name, int code, char **error)
{
	if (code == -ENOKEY)
		return keysource_fail(error, -ENOENT,
			"there is no key '%s' in the kernel's user keyring (it is empty after a "
			"restart); put it there: keyctl padd user '%s' @u < FILE",
			name, name);
	if (code == -EKEYEXPIRED || code == -EKEYREVOKED)
		return keysource_fail(error, -ENOENT,
			"the key '%s' in the kernel's keyring is expired or revoked", name);
	if (code == -EACCES)
		return keysource_fail(error, CE_USAGE,
			"this session may not read the key '%s' of the kernel's keyring; let its "
			"owner: keyctl setperm KEY 0x3f0b0000",
			name);
	return keysource_fail(
		error, code, "the key '%s' of the kernel's keyring: %s", name, error_text(code));
}

/* "user;uid;gid;rights;name" */
static int check_private(long id, const char *name, char **error)
{
	char text[DESCRIPTION_MAX] = "";
	unsigned int uid, rights;

	if (syscall(SYS_keyctl, KEYCTL_DESCRIBE, id, text, sizeof(text) - 1, 0) < 0)
		return fail(name, -errno, error);
	if (sscanf(text, KEY_TYPE ";%u;%*u;%x;", &uid, &rights) != 2)
		return fail(name, CE_FORMAT, error);
	if (uid != geteuid())
		return keysource_fail(error, CE_USAGE,
			"the key '%s' of the kernel's keyring belongs to another user", name);
	if (rights & RIGHTS_OF_OTHERS)
		return keysource_fail(error, CE_USAGE,
			"the key '%s' of the kernel's keyring is open to others (rights %08x); "
			"run: keyctl setperm %ld 0x3f0b0000",
			name, rights, id);
	return 0;
}

int keysource_kernel_fetch(
	const char *name, const struct json *params, struct secret **kek, char **error)
{
	_cleanup_secret_ struct secret *text = NULL;
	long id = find(name), len;
	int r;

	if (id < 0)
		return fail(name, (int)id, error);
	r = check_private(id, name, error);
	if (r)
		return r;
	r = secret_new(KEYSOURCE_KEY_TEXT_MAX, &text);
	if (r)
		return keysource_fail(error, r, "no locked memory for the key (%s)", error_text(r));
	len = syscall(SYS_keyctl, KEYCTL_READ, id, secret_bytes(text), secret_len(text), 0);
	if (len < 0)
		return fail(name, -errno, error);
	/* The kernel answers how long it is; what does not fit is not copied. */
	r = (size_t)len <= secret_len(text) ? keysource_decode(text, (size_t)len, kek) : CE_FORMAT;
	if (r == CE_FORMAT)
		return keysource_fail(error, CE_USAGE,
			"the key '%s' of the kernel's keyring is neither 32 bytes nor 64 "
			"hexadecimal digits",
			name);
	return r ? fail(name, r, error) : 0;
}
