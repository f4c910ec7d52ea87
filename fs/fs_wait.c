/*
 * Operations that wait for the network: in their own thread, after another has become the reader
 * (fs/loop.h), with a deadline, and until the process is interrupted or the mount stops.
 */
#include <errno.h>

#include "fs/fs_priv.h"
#include "fs/loop.h"

static void wait_interrupted(fuse_req_t req, void *data)
{
	struct fs_wait *w = data;

	sync_cancel(w->sync, &w->cancel);
}

/* CE_OFFLINE when the mount is stopping: checked under the lock, so that fs_wait_cancel_all misses
 * nobody. */
static int wait_begin(struct fs *f, fuse_req_t req, struct fs_wait *w)
{
	if (!f->sync || !loop_yield())
		return CE_OFFLINE;
	*w = (struct fs_wait){.sync = f->sync};
	pthread_mutex_lock(&f->waits_lock);
	if (atomic_load(&f->stopping)) {
		pthread_mutex_unlock(&f->waits_lock);
		return CE_OFFLINE;
	}
	w->next = f->waits;
	w->link = &f->waits;
	if (w->next)
		w->next->link = &w->next;
	f->waits = w;
	pthread_mutex_unlock(&f->waits_lock);
	fuse_req_interrupt_func(req, wait_interrupted, w);
	return 0;
}

static void wait_end(struct fs *f, fuse_req_t req, struct fs_wait *w)
{
	fuse_req_interrupt_func(req, NULL, NULL);
	pthread_mutex_lock(&f->waits_lock);
	*w->link = w->next;
	if (w->next)
		w->next->link = w->link;
	pthread_mutex_unlock(&f->waits_lock);
}

void fs_wait_cancel_all(struct fs *f)
{
	pthread_mutex_lock(&f->waits_lock);
	for (struct fs_wait *w = f->waits; w; w = w->next)
		sync_cancel(f->sync, &w->cancel);
	pthread_mutex_unlock(&f->waits_lock);
}

int fs_wait_listed(fuse_req_t req)
{
	struct fs *f = fs_of(req);
	struct fs_wait w;
	int r = wait_begin(f, req, &w);

	if (r)
		return r;
	r = sync_wait_listed(f->sync, f->deadline_ms, &w.cancel);
	wait_end(f, req, &w);
	return r;
}

int fs_wait_content(fuse_req_t req, struct file *file, uint64_t off, uint64_t len)
{
	struct fs *f = fs_of(req);
	struct fs_wait w;
	int r = refuse_download(req) ? CE_OFFLINE : wait_begin(f, req, &w);

	if (r)
		return r;
	r = sync_fetch(f->sync, file, off, len, f->deadline_ms, &w.cancel);
	wait_end(f, req, &w);
	return r;
}

int fs_wait_query(fuse_req_t req, uint64_t dir, const char *name)
{
	struct fs *f = fs_of(req);
	struct fs_wait w;
	int r = wait_begin(f, req, &w);

	if (r)
		return r;
	r = sync_query(f->sync, dir, name, true, f->deadline_ms, &w.cancel);
	wait_end(f, req, &w);
	return r;
}

int fs_wait_fresh(fuse_req_t req, uint64_t object, uint64_t version)
{
	struct fs *f = fs_of(req);
	struct fs_wait w;
	int r;

	if (!f->sync || !sync_has_rules(f->sync))
		return 0;
	r = wait_begin(f, req, &w);
	if (r)
		return r;
	r = sync_may_serve(f->sync, object, version, f->deadline_ms, &w.cancel);
	wait_end(f, req, &w);
	return r;
}

int fs_wait_whole(fuse_req_t req, struct file *file)
{
	struct file_range missing;
	uint64_t size = file_size(file);
	int r;

	if (size == 0)
		return 0;
	r = file_missing(file, 0, size, UINT64_MAX, &missing);
	if (r || missing.len == 0)
		return r;
	return fs_wait_content(req, file, 0, size);
}
