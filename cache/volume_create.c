/*
 * Making a volume. The marker "creating" stands from the first step to the last: while it is there
 * volume_open refuses the directory, and volume_create, run again, removes what an earlier run left
 * and starts over. It never removes anything where the marker is not.
 */
#include "cache/volume.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "cache/setup_priv.h"
#include "cache/volume_priv.h"
#include "crypto/keysource.h"

int setup_fail(char **error, int code, const char *fmt, ...)
{
	va_list ap;

	if (error && !*error) {
		va_start(ap, fmt);
		(void)!bytes_vprint(error, fmt, ap);
		va_end(ap);
	}
	return code;
}

static bool is_dot(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

/* Removes the files of a directory, and with `depth` those of its directories. */
static int empty_dir(int dirfd, const char *name, int depth)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), r = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!dir) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (!r && (e = readdir(dir))) {
		if (is_dot(e->d_name) || !strcmp(e->d_name, SETUP_MARKER) ||
			!strcmp(e->d_name, SETUP_LOCK))
			continue;
		if (!unlinkat(fd, e->d_name, 0))
			continue;
		if (errno == EISDIR && depth) {
			r = empty_dir(fd, e->d_name, depth - 1);
			if (!r && unlinkat(fd, e->d_name, AT_REMOVEDIR) < 0)
				r = -errno;
		} else {
			r = -errno;
		}
	}
	closedir(dir);
	return r;
}

static int is_empty(int dirfd, bool *empty)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return -errno;
	}
	*empty = true;
	while ((e = readdir(dir))) {
		if (!is_dot(e->d_name) && strcmp(e->d_name, SETUP_LOCK))
			*empty = false;
	}
	closedir(dir);
	return 0;
}

static int write_marker(int dirfd)
{
	_cleanup_fd_ int fd = openat(dirfd, SETUP_MARKER, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	return fsync(fd) < 0 ? -errno : io_fsync_dir(dirfd);
}

static int make_blob_dirs(int dirfd)
{
	_cleanup_fd_ int fd = -1;
	char name[3];

	if (mkdirat(dirfd, "blobs", 0700) < 0 && errno != EEXIST)
		return -errno;
	if (mkdirat(dirfd, "quarantine", 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(dirfd, "blobs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (unsigned i = 0; i < 256; i++) {
		snprintf(name, sizeof(name), "%02x", i);
		if (mkdirat(fd, name, 0700) < 0 && errno != EEXIST)
			return -errno;
	}
	return io_fsync_dir(fd);
}

/* A keyring whose KEK the key source itself makes; unlocked. *kek is a copy. */
static int local_keyring(
	const struct volume_create_options *o, struct keyring **out, struct secret **kek, char **error)
{
	struct secret *made = NULL;
	struct json *params = NULL;
	struct keyring *k;
	uint8_t random[8];
	char kid[17];
	int r = o->with_kek ? secret_new_copy(secret_cbytes(o->with_kek), secret_len(o->with_kek), &made)
			    : keysource_create(o->key_source, &made, &params, error);

	if (r)
		return setup_fail(error, r, "the key source cannot make a key: %s", error_text(r));
	secret_random(random, sizeof(random));
	bytes_to_hex(random, sizeof(random), kid);
	r = keyring_new(kid, &k);
	if (r) {
		json_free(params);
		secret_free(made);
		return r;
	}
	if (params)
		keyring_set_source_params(k, params);
	r = secret_new_copy(secret_cbytes(made), secret_len(made), kek);
	if (!r)
		r = keyring_unlock(k, made);
	if (r) {
		secret_free(made);
		keyring_free(k);
		return r;
	}
	*out = k;
	return 0;
}

static int make_keyring(const struct volume_create_options *o, const char *device, int dirfd,
	struct secret **index_key, char **error)
{
	const struct enrolment_setup s = { .key_source = o->key_source, .link = o->link, .dirfd = dirfd };
	_cleanup_secret_ struct secret *kek = NULL;
	struct keyring *k = NULL;
	const char *local;
	int r;

	if (!o->with_kek && keysource_is_server(o->key_source, &local))
		r = enrolment_create(&s, device, o->token, &k, &kek, error);
	else
		r = local_keyring(o, &k, &kek, error);
	if (!r)
		r = keyring_make(k, KEYRING_PURPOSE_INDEX, "", index_key);
	if (!r)
		r = keyring_save(k, dirfd);
	keyring_free(k);
	if (!r && o->kek)
		*o->kek = steal_ptr(&kek);
	return r;
}

static int set_text(struct db *db, const char *key, const char *text)
{
	return text ? setting_set(db, key, text, strlen(text)) : 0;
}

static int fill_index(struct db *db, const struct volume_create_options *o, const char *device)
{
	int r = db_begin(db);

	if (r)
		return r;
	r = set_text(db, SETUP_DEVICE, device);
	if (!r)
		r = set_text(db, SETUP_ORIGIN, o->origin);
	if (!r)
		r = set_text(db, SETUP_STORE, o->store);
	if (!r && o->token)
		r = setting_set(db, SETUP_TOKEN, secret_cbytes(o->token), secret_len(o->token));
	if (r)
		db_rollback(db);
	else
		r = db_commit(db);
	return r;
}

static int make_index(
	const struct volume_create_options *o, const struct secret *key, const char *device)
{
	const struct db_options d = { .dir = o->dir, .key = key, .create = true };
	struct db_recovery rec;
	struct db *db;
	int r = db_open(&d, &db, &rec);

	if (r)
		return r;
	r = fill_index(db, o, device);
	if (!r)
		r = db_sync(db);
	db_close(db);
	return r;
}

static int prepare(const struct volume_create_options *o, int dirfd, char **error)
{
	bool empty = false;
	int r;

	if (!faccessat(dirfd, SETUP_MARKER, F_OK, 0)) {
		r = empty_dir(dirfd, ".", 2);
		return !r ? 0
			  : setup_fail(error, r,
				    "%s: what an earlier, interrupted run left cannot be removed: "
				    "%s",
				    o->dir, error_text(r));
	}
	r = is_empty(dirfd, &empty);
	if (!r && !empty)
		return setup_fail(error, -EEXIST,
			"%s: there is something in this directory; a new volume needs one that is "
			"empty or not there",
			o->dir);
	return r ? r : write_marker(dirfd);
}

static int build(const struct volume_create_options *o, int dirfd, char **error)
{
	_cleanup_secret_ struct secret *index_key = NULL;
	uint8_t id[16];
	char device[2 * sizeof(id) + 1];
	int r = make_blob_dirs(dirfd);

	secret_random(id, sizeof(id));
	bytes_to_hex(id, sizeof(id), device);

	if (!r)
		r = FAILPOINT("create-keyring");
	if (!r)
		r = make_keyring(o, device, dirfd, &index_key, error);
	if (!r)
		r = FAILPOINT("create-index");
	if (!r)
		r = make_index(o, index_key, device);
	if (!r)
		r = io_fsync_dir(dirfd);
	if (!r)
		r = FAILPOINT("create-done");
	if (!r && unlinkat(dirfd, SETUP_MARKER, 0) < 0)
		r = -errno;
	return r ? r : io_fsync_dir(dirfd);
}

/* So that the volume's own name survives a power cut. */
static int sync_parent(int dirfd)
{
	_cleanup_fd_ int fd = openat(dirfd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : io_fsync_dir(fd);
}

/* As far as the file system lets: its blocks are overwritten in place. */
static int erase_keyring(int dirfd)
{
	_cleanup_fd_ int fd = openat(dirfd, KEYRING_FILE, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	static const char zeros[4096];
	struct stat st;
	int r = 0;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	for (off_t at = 0; !r && at < st.st_size; at += (off_t)sizeof(zeros))
		r = io_pwrite_full(fd, zeros, sizeof(zeros), at);
	if (!r && fdatasync(fd) < 0)
		r = -errno;
	if (!r && unlinkat(dirfd, KEYRING_FILE, 0) < 0)
		r = -errno;
	return r ? r : io_fsync_dir(dirfd);
}

int volume_wipe(const char *dir)
{
	_cleanup_fd_ int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), lock_fd = -1;
	int r = dirfd < 0 ? -errno : io_lock_file(dirfd, SETUP_LOCK, &lock_fd);

	if (!r)
		r = FAILPOINT("wipe-begins");
	if (!r)
		r = write_marker(dirfd);
	if (!r)
		r = erase_keyring(dirfd);
	if (!r)
		r = FAILPOINT("wipe-erased");
	if (!r)
		r = empty_dir(dirfd, ".", 2);
	if (r)
		return r;
	(void)!unlinkat(dirfd, SETUP_MARKER, 0);
	(void)!unlinkat(dirfd, SETUP_LOCK, 0);
	return rmdir(dir) < 0 ? -errno : 0;
}

int volume_create(const struct volume_create_options *o, char **error)
{
	_cleanup_fd_ int dirfd = -1, lock_fd = -1;
	char *why = NULL;
	int r = o->with_kek ? 0 : keysource_check(o->key_source, &why);

	if (!r)
		r = io_mkdir_p(o->dir, 0700);
	if (!r) {
		dirfd = open(o->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = dirfd < 0 ? -errno : 0;
	}
	if (!r)
		r = io_lock_file(dirfd, SETUP_LOCK, &lock_fd);
	if (!r)
		r = prepare(o, dirfd, &why);
	if (!r)
		r = build(o, dirfd, &why);
	if (!r)
		r = sync_parent(dirfd);
	if (r)
		setup_fail(&why, r, "%s: the volume could not be made: %s", o->dir, error_text(r));
	if (r && error)
		*error = steal_ptr(&why);
	free(why);
	return r;
}
