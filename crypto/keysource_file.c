/*
 * A key in a file. A new one is written whole under a temporary name and then given its name with
 * RENAME_NOREPLACE: two that make the same key file at once end up with the same key, and a crash
 * leaves no half key under the name.
 */
#include "crypto/keysource_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/io.h"

#define TEXT_LEN (2 * KEYSOURCE_KEY_LEN + 1) /* hex and an end of line */

static int check_private(int fd, const char *path, bool given, char **error)
{
	mode_t others = given ? 07 : 077;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return keysource_fail(error, -errno, "the key file %s cannot be examined", path);
	if (!S_ISREG(st.st_mode))
		return keysource_fail(
			error, CE_USAGE, "the key file %s is not a regular file", path);
	if (st.st_uid != geteuid() && !(given && st.st_uid == 0))
		return keysource_fail(
			error, CE_USAGE, "the key file %s belongs to another user", path);
	if (st.st_mode & others)
		return keysource_fail(error, CE_USAGE,
			"the key file %s can be read by others (mode %04o); run: chmod 600 %s",
			path, (unsigned int)(st.st_mode & 07777), path);
	return 0;
}

static int read_key(int fd, const char *path, struct secret **kek, char **error)
{
	_cleanup_secret_ struct secret *text = NULL;
	size_t len = 0;
	int r = secret_new(KEYSOURCE_KEY_TEXT_MAX, &text);

	if (r)
		return keysource_fail(error, r, "no locked memory for the key (%s)", error_text(r));
	while (len < KEYSOURCE_KEY_TEXT_MAX) {
		ssize_t n = read(fd, secret_bytes(text) + len, KEYSOURCE_KEY_TEXT_MAX - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return keysource_fail(error, -errno, "the key file %s cannot be read (%s)",
				path, error_text(-errno));
		if (n == 0)
			break;
		len += (size_t)n;
	}
	r = keysource_decode(text, len, kek);
	if (r == CE_FORMAT)
		return keysource_fail(error, CE_USAGE,
			"the key file %s holds neither 32 bytes nor 64 hexadecimal digits", path);
	if (r)
		return keysource_fail(error, r, "no locked memory for the key (%s)", error_text(r));
	return 0;
}

static int fetch(const char *path, bool given, struct secret **kek, char **error)
{
	/* Not blocking: opening a FIFO must not wait for a writer. */
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	int r;

	if (fd < 0 && errno == ENOENT)
		return keysource_fail(error, -ENOENT, "the key file %s is not there", path);
	if (fd < 0)
		return keysource_fail(error, -errno, "the key file %s cannot be opened (%s)", path,
			error_text(-errno));
	r = check_private(fd, path, given, error);
	return r ? r : read_key(fd, path, kek, error);
}

int keysource_file_fetch(
	const char *path, const struct json *params, struct secret **kek, char **error)
{
	return fetch(path, false, kek, error);
}

int keysource_file_fetch_given(const char *path, struct secret **kek, char **error)
{
	return fetch(path, true, kek, error);
}

static int write_key(int dirfd, const char *tmp, const struct secret *kek)
{
	_cleanup_fd_ int fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	_cleanup_secret_ struct secret *text = NULL;
	int r;

	if (fd < 0)
		return -errno;
	r = secret_new(TEXT_LEN + 1, &text);
	if (r)
		return r;
	bytes_to_hex(secret_cbytes(kek), KEYSOURCE_KEY_LEN, (char *)secret_bytes(text));
	secret_bytes(text)[TEXT_LEN - 1] = '\n';
	if (fchmod(fd, 0600) < 0)
		return -errno;
	r = io_write_full(fd, secret_cbytes(text), TEXT_LEN);
	if (!r && fsync(fd) < 0)
		r = -errno;
	return r;
}

/* -EEXIST when the name is taken. Some file systems know only the older call. */
static int rename_no_replace(int dirfd, const char *tmp, const char *name)
{
	if (renameat2(dirfd, tmp, dirfd, name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (linkat(dirfd, tmp, dirfd, name, 0) < 0)
		return -errno;
	return unlinkat(dirfd, tmp, 0) < 0 ? -errno : 0;
}

static int make_file(const char *path, const struct secret *kek)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *parent =
		slash ? strndup(path, (size_t)MAX_OF(slash - path, 1)) : strdup(".");
	_cleanup_fd_ int dirfd = -1;
	uint8_t random[8];
	char suffix[2 * sizeof(random) + 1], tmp[40];
	int r;

	if (!parent)
		return -ENOMEM;
	dirfd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return -errno;
	secret_random(random, sizeof(random));
	bytes_to_hex(random, sizeof(random), suffix);
	snprintf(tmp, sizeof(tmp), ".cachet-key.%s", suffix);
	r = write_key(dirfd, tmp, kek);
	if (!r)
		r = rename_no_replace(dirfd, tmp, slash ? slash + 1 : path);
	if (r) {
		unlinkat(dirfd, tmp, 0);
		return r;
	}
	return io_fsync_dir(dirfd);
}

int keysource_file_create(const char *path, struct secret **kek, struct json **params, char **error)
{
	_cleanup_secret_ struct secret *made = NULL;
	int r;

	if (access(path, F_OK) == 0)
		return fetch(path, false, kek, error);
	r = secret_new_random(KEYSOURCE_KEY_LEN, &made);
	if (r)
		return keysource_fail(error, r, "no locked memory for the key (%s)", error_text(r));
	r = make_file(path, made);
	if (r == -EEXIST)
		return fetch(path, false, kek, error);
	if (r)
		return keysource_fail(
			error, r, "the key file %s cannot be made (%s)", path, error_text(r));
	*kek = steal_ptr(&made);
	return 0;
}
