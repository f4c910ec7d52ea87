/*
 * Mounts a volume of its own, without an origin: for tests of the file system alone.
 *
 *     fsmount DIRECTORY MOUNTPOINT [LIMIT_BYTES]
 *
 * DIRECTORY/volume and DIRECTORY/key are made at the first run and opened again later. Prints
 * "ready" when mounted; SIGTERM and SIGINT end it. Exit code 0, or 1 with a sentence on standard
 * error.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/secret.h"
#include "cache/remote.h"
#include "cache/volume.h"
#include "fs/fs.h"

#define STORE "local"

struct run {
	char *dir, *key_source, *error;
	struct volume *volume;
	struct fs *fs;
	sigset_t signals;
};

static int create(struct run *r)
{
	struct volume_create_options o = { .dir = r->dir,
		.key_source = r->key_source,
		.origin = "http://127.0.0.1:1",
		.store = STORE };
	struct stat st;

	return stat(r->dir, &st) == 0 ? 0 : volume_create(&o, &r->error);
}

/* The one store counts as listed: what it does not have does not exist. */
static int know_store(struct volume *v)
{
	struct remote_report report;
	uint64_t store;
	int r = remote_store_add(v, STORE, false, &store);

	if (r == 0)
		r = remote_listing_begin(v, store);
	return r ? r : remote_listing_end(v, store, false, &report);
}

static int open_volume(struct run *r, uint64_t limit)
{
	struct volume_options o = { .dir = r->dir,
		.key_source = r->key_source,
		.limit_bytes = limit,
		.uid = getuid(),
		.gid = getgid(),
		.host = "test" };
	struct stat st;
	bool first = stat(r->dir, &st) != 0;
	int code = create(r);

	if (code == 0)
		code = volume_open(&o, &r->volume, &r->error);
	return code || !first ? code : know_store(r->volume);
}

static void *wait_signal(void *arg)
{
	struct run *r = arg;
	int which;

	sigwait(&r->signals, &which);
	fs_stop(r->fs);
	return NULL;
}

static int serve(struct run *r, const char *mountpoint)
{
	struct fs_options o = {
		.volume = r->volume, .mountpoint = mountpoint, .allow_other = getuid() == 0
	};
	pthread_t waiter;
	int code = fs_new(&o, &r->fs, &r->error);

	if (code == 0)
		code = fs_mount(r->fs, &r->error);
	if (code)
		return code;
	code = -pthread_create(&waiter, NULL, wait_signal, r);
	if (code)
		return code;
	puts("ready");
	fflush(stdout);
	code = fs_run(r->fs);
	pthread_cancel(waiter);
	pthread_join(waiter, NULL);
	return code;
}

int main(int argc, char **argv)
{
	struct run r = { 0 };
	int code;

	if (argc < 3 || asprintf(&r.dir, "%s/volume", argv[1]) < 0 ||
		asprintf(&r.key_source, "file:%s/key", argv[1]) < 0) {
		fprintf(stderr, "usage: fsmount DIRECTORY MOUNTPOINT [LIMIT_BYTES]\n");
		return 1;
	}
	sigemptyset(&r.signals);
	sigaddset(&r.signals, SIGTERM);
	sigaddset(&r.signals, SIGINT);
	pthread_sigmask(SIG_BLOCK, &r.signals, NULL);
	code = secret_init(true);
	if (code == 0)
		code = open_volume(&r, argc > 3 ? strtoull(argv[3], NULL, 10) : 0);
	if (code == 0)
		code = serve(&r, argv[2]);
	fs_free(r.fs);
	volume_close(r.volume);
	if (code)
		fprintf(stderr, "fsmount: %s\n", r.error ? r.error : error_text(code));
	free(r.error);
	free(r.key_source);
	free(r.dir);
	return code ? 1 : 0;
}
