/*
 * The session: made, mounted, served, stopped.
 *
 * Stopping. fs_stop lets every waiting operation go (fs_wait_cancel_all); from then on none waits.
 * While the loop still serves, a thread of its own ends the notification thread, which the kernel
 * may be holding until some operation is answered, and unmounts, so that the kernel sends its dirty
 * pages first; a mount in use is synced and detached. Is that not done after STOP_GRACE_MS the loop
 * ends all the same, and closing the device (fs_free) ends everything the kernel still waits for.
 */
#include "fs/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "fs/fs_init.h"
#include "fs/fs_priv.h"
#include "fs/hidden.h"
#include "fs/loop.h"
#include "fs/place.h"
#include "fs/notify.h"

#define LISTED_WAIT_MS 5000
#define STOP_GRACE_MS 1500

static double fs_seconds(unsigned ms)
{
	return ms ? ms / 1000.0 : -1;
}

int fs_new(const struct fs_options *o, struct fs **out, char **error)
{
	struct fs *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	gate_init(&f->gate);
	pthread_mutex_init(&f->waits_lock, NULL);
	pthread_mutex_init(&f->stop_lock, NULL);
	pthread_mutex_init(&f->record.lock, NULL);
	pthread_cond_init(&f->stop_done, NULL);
	f->volume = o->volume;
	f->sync = o->sync;
	f->allow_other = o->allow_other;
	f->read_only = o->read_only;
	f->hidden = o->hidden;
	f->n_hidden = o->n_hidden;
	f->hidden_arg = o->hidden_arg;
	clock_gettime(CLOCK_REALTIME, &f->mounted_at);
	f->no_download = o->no_download ? strdup(o->no_download) : NULL;
	f->threads = o->threads;
	f->deadline_ms = o->deadline_ms ? o->deadline_ms : SYNC_FETCH_DEADLINE_MS;
	f->entry_ttl = fs_seconds(o->entry_ttl_ms);
	f->attr_ttl = fs_seconds(o->attr_ttl_ms);
	atomic_init(&f->coherent_ms, INT64_MIN / 2);
	f->mountpoint = realpath(o->mountpoint, NULL);
	if (!f->mountpoint)
		f->mountpoint = strdup(o->mountpoint);
	r = f->mountpoint ? node_table_new(f->volume, &f->nodes) : -ENOMEM;
	if (r) {
		fs_free(f);
		return r;
	}
	*out = f;
	return 0;
}

static void fs_end_notify(struct fs *f)
{
	struct notify *q = f->notify;

	if (!q)
		return;
	f->notify = NULL;
	volume_observe(f->volume, VOLUME_KERNEL, NULL, NULL);
	notify_stop(q);
}

/*
 * Closes the device: the kernel lets go of whoever still waits. libfuse frees what it keeps of the
 * mount only in fuse_session_unmount, which unmounts whatever is at that path now unless the
 * descriptor says that the connection is gone; we have unmounted, so the descriptor becomes one
 * that says so: a pipe nobody reads.
 */
static void fs_close_session(struct fs *f)
{
	int pipe_fds[2];

	if (f->attached && pipe2(pipe_fds, O_CLOEXEC) == 0) {
		close(pipe_fds[0]);
		if (dup2(pipe_fds[1], fuse_session_fd(f->session)) >= 0)
			fuse_session_unmount(f->session);
		close(pipe_fds[1]);
	}
	fuse_session_destroy(f->session);
}

void fs_free(struct fs *f)
{
	if (!f)
		return;
	if (f->session)
		fs_close_session(f);
	if (f->stop_started)
		pthread_join(f->stopper, NULL);
	fs_end_notify(f);
	loop_free(f->loop);
	pthread_cond_destroy(&f->stop_done);
	pthread_mutex_destroy(&f->stop_lock);
	node_table_free(f->nodes);
	gate_done(&f->gate);
	pthread_mutex_destroy(&f->waits_lock);
	pthread_mutex_destroy(&f->record.lock);
	free(f->record.objects);
	free(f->no_download);
	free(f->mountpoint);
	free(f);
}

static void fs_log(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char text[256];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	vsnprintf(text, sizeof(text), fmt, ap);
#pragma GCC diagnostic pop
	text[strcspn(text, "\n")] = '\0';
	log_debug("libfuse: %s", text);
}

/* The root's node, which the kernel holds for ever. */
static int fs_find_root(struct fs *f, char **error)
{
	struct tree_attr a;
	int r = tree_root(f->volume, &a);

	if (r == CE_ABSENT && f->sync) {
		int listed = sync_wait_listed(f->sync, LISTED_WAIT_MS, NULL);

		if (listed)
			log_debug("mount: not listed: %s", error_text(listed));
		r = tree_root(f->volume, &a);
	}
	if (r == CE_ABSENT) {
		(void)!bytes_print(error,
			"nothing of the origin is known here yet: mount once while it "
			"can be reached");
		return CE_ABSENT;
	}
	return r ? r : node_get(f->nodes, a.object, a.version, &f->root);
}

static int fs_session(struct fs *f)
{
	struct fuse_lowlevel_ops ops = { .init = fs_init };
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int r;

	ops_attr_fill(&ops);
	ops_dir_fill(&ops);
	ops_file_fill(&ops);
	ops_name_fill(&ops);
	ops_xattr_fill(&ops);
	hidden_fill(&ops);
	gate_fill(&ops);
	fuse_set_log_func(fs_log);
	r = fuse_opt_add_arg(&args, "cachet") ||
	    fuse_opt_add_arg(&args, "-odefault_permissions,fsname=cachet,subtype=cachet,noatime") ||
	    (f->allow_other && fuse_opt_add_arg(&args, "-oallow_other")) ||
	    (f->read_only && fuse_opt_add_arg(&args, "-oro"));
	if (!r)
		f->session = fuse_session_new(&args, &ops, sizeof(ops), f);
	fuse_opt_free_args(&args);
	return f->session ? 0 : -ENOMEM;
}

static int fs_attach(struct fs *f, char **error)
{
	int r = fs_session(f);

	if (r)
		return r;
	if (fuse_session_mount(f->session, f->mountpoint)) {
		(void)!bytes_print(error, "the kernel refused to mount on %s: %s", f->mountpoint,
			strerror(errno));
		return errno ? -errno : -EIO;
	}
	f->attached = true;
	atomic_store(&f->mounted, true);
	r = fs_init_io(f);
	return r ? r : loop_new(f->session, f->threads, &f->loop);
}

int fs_mount(struct fs *f, char **error)
{
	int r;

	*error = NULL;
	r = place_check(f->mountpoint, f->allow_other, error);
	if (r == 0)
		r = fs_find_root(f, error);
	if (r == 0)
		r = fs_attach(f, error);
	if (r == 0)
		r = notify_start(f, &f->notify);
	if (r == 0) {
		volume_observe(f->volume, VOLUME_KERNEL, notify_push, f->notify);
		return 0;
	}
	if (atomic_exchange(&f->mounted, false) && place_unmount(f->mountpoint, true))
		log_debug("mount: nothing to undo");
	if (!*error)
		(void)!bytes_print(error, "cannot mount on %s: %s", f->mountpoint, error_text(r));
	return r;
}

/* The kernel writes back what open files still hold; only what it has sent reaches the volume. */
static void fs_sync_kernel(const char *mountpoint)
{
	_cleanup_fd_ int fd = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || syncfs(fd))
		log_debug("stop: the kernel's pages are not all written");
}

static void fs_unmount(struct fs *f)
{
	_cleanup_free_ char *error = NULL;
	int r;

	/* Somebody else has unmounted, or cut the connection: whatever is there now is not ours,
	 * unless it is dead. */
	if (fuse_session_exited(f->session)) {
		if (place_detach_stale(f->mountpoint, &error))
			log_warning("a dead mount is left behind");
		return;
	}
	r = place_unmount(f->mountpoint, false);
	if (r == -EBUSY) {
		fs_sync_kernel(f->mountpoint);
		r = place_unmount(f->mountpoint, true);
	}
	if (r)
		log_debug("stop: not unmounted: %s", error_text(r));
}

static void *fs_stopper(void *arg)
{
	struct fs *f = arg;

	fs_end_notify(f);
	if (atomic_exchange(&f->mounted, false))
		fs_unmount(f);
	pthread_mutex_lock(&f->stop_lock);
	f->stop_ended = true;
	pthread_cond_broadcast(&f->stop_done);
	pthread_mutex_unlock(&f->stop_lock);
	return NULL;
}

/* stop_lock held. */
static void fs_stop_start(struct fs *f)
{
	f->stop_started = pthread_create(&f->stopper, NULL, fs_stopper, f) == 0;
	f->stop_ended = !f->stop_started;
}

void fs_stop(struct fs *f)
{
	struct timespec until;
	int r = 0;

	atomic_store(&f->stopping, true);
	fs_wait_cancel_all(f);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += STOP_GRACE_MS / 1000;
	until.tv_nsec += STOP_GRACE_MS % 1000 * NS_PER_MS;
	if (until.tv_nsec >= NS_PER_SEC) {
		until.tv_sec++;
		until.tv_nsec -= NS_PER_SEC;
	}
	pthread_mutex_lock(&f->stop_lock);
	if (!f->stop_started)
		fs_stop_start(f);
	while (!f->stop_ended && r == 0)
		r = pthread_cond_timedwait(&f->stop_done, &f->stop_lock, &until);
	pthread_mutex_unlock(&f->stop_lock);
	if (f->loop)
		loop_stop(f->loop);
}

/* Ends by itself when somebody unmounts; then the rest of the stop is left to do. */
int fs_run(struct fs *f)
{
	int r = loop_run(f->loop);

	fs_stop(f);
	return r;
}

bool fs_is_stale(const char *mountpoint)
{
	return place_is_stale(mountpoint);
}

int fs_detach_stale(const char *mountpoint, char **error)
{
	return place_detach_stale(mountpoint, error);
}
