#include "fs/gate.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "fs/fs_priv.h"
#include "fs/loop.h"

static int64_t coarse_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return t.tv_sec * 1000 + t.tv_nsec / NS_PER_MS;
}

void gate_init(struct gate *g)
{
	pthread_rwlock_init(&g->lock, NULL); /* glibc's default prefers readers: see LOCKING */
	atomic_store(&g->used_ms, coarse_ms());
}

void gate_done(struct gate *g)
{
	pthread_rwlock_destroy(&g->lock);
}

static bool lets(const struct gate *g, enum gate_class class)
{
	return (int)class >= atomic_load(&g->state);
}

bool gate_enter(struct gate *g, enum gate_class class)
{
	if (!lets(g, class))
		return false;
	pthread_rwlock_rdlock(&g->lock);
	if (!lets(g, class)) {
		pthread_rwlock_unlock(&g->lock);
		return false;
	}
	if (class == GATE_PROGRAM)
		atomic_store_explicit(&g->used_ms, coarse_ms(), memory_order_relaxed);
	return true;
}

void gate_leave(struct gate *g)
{
	pthread_rwlock_unlock(&g->lock);
}

/* --- before each operation --- */

/* The operations themselves; the same for every mount. */
static struct fuse_lowlevel_ops real;

#define GATED(class, call)                                                                         \
	do {                                                                                       \
		struct gate *g_ = &fs_of(req)->gate;                                               \
		if (!gate_enter(g_, (class))) {                                                    \
			fuse_reply_err(req, EACCES);                                               \
			break;                                                                     \
		}                                                                                  \
		real.call;                                                                         \
		gate_leave(g_);                                                                    \
	} while (0)

/* OP(name, class, parameters, arguments) of every operation that has no rule of its own. */
#define OPS(OP)                                                                                    \
	OP(lookup, (fuse_req_t req, fuse_ino_t a, const char *b), (req, a, b))                     \
	OP(getattr, (fuse_req_t req, fuse_ino_t a, struct fuse_file_info * b), (req, a, b))        \
	OP(setattr,                                                                                \
		(fuse_req_t req, fuse_ino_t a, struct stat * b, int c, struct fuse_file_info *d),  \
		(req, a, b, c, d))                                                                 \
	OP(readlink, (fuse_req_t req, fuse_ino_t a), (req, a))                                     \
	OP(mknod, (fuse_req_t req, fuse_ino_t a, const char *b, mode_t c, dev_t d),                \
		(req, a, b, c, d))                                                                 \
	OP(mkdir, (fuse_req_t req, fuse_ino_t a, const char *b, mode_t c), (req, a, b, c))         \
	OP(unlink, (fuse_req_t req, fuse_ino_t a, const char *b), (req, a, b))                     \
	OP(rmdir, (fuse_req_t req, fuse_ino_t a, const char *b), (req, a, b))                      \
	OP(symlink, (fuse_req_t req, const char *a, fuse_ino_t b, const char *c), (req, a, b, c))  \
	OP(rename,                                                                                 \
		(fuse_req_t req, fuse_ino_t a, const char *b, fuse_ino_t c, const char *d,         \
			unsigned e),                                                               \
		(req, a, b, c, d, e))                                                              \
	OP(link, (fuse_req_t req, fuse_ino_t a, fuse_ino_t b, const char *c), (req, a, b, c))      \
	OP(open, (fuse_req_t req, fuse_ino_t a, struct fuse_file_info * b), (req, a, b))           \
	OP(create,                                                                                 \
		(fuse_req_t req, fuse_ino_t a, const char *b, mode_t c, struct fuse_file_info *d), \
		(req, a, b, c, d))                                                                 \
	OP(read, (fuse_req_t req, fuse_ino_t a, size_t b, off_t c, struct fuse_file_info * d),     \
		(req, a, b, c, d))                                                                 \
	OP(fallocate,                                                                              \
		(fuse_req_t req, fuse_ino_t a, int b, off_t c, off_t d, struct fuse_file_info *e), \
		(req, a, b, c, d, e))                                                              \
	OP(lseek, (fuse_req_t req, fuse_ino_t a, off_t b, int c, struct fuse_file_info *d),        \
		(req, a, b, c, d))                                                                 \
	OP(opendir, (fuse_req_t req, fuse_ino_t a, struct fuse_file_info * b), (req, a, b))        \
	OP(readdir, (fuse_req_t req, fuse_ino_t a, size_t b, off_t c, struct fuse_file_info * d),  \
		(req, a, b, c, d))                                                                 \
	OP(readdirplus,                                                                            \
		(fuse_req_t req, fuse_ino_t a, size_t b, off_t c, struct fuse_file_info * d),      \
		(req, a, b, c, d))                                                                 \
	OP(statfs, (fuse_req_t req, fuse_ino_t a), (req, a))                                       \
	OP(setxattr,                                                                               \
		(fuse_req_t req, fuse_ino_t a, const char *b, const char *c, size_t d, int e),     \
		(req, a, b, c, d, e))                                                              \
	OP(getxattr, (fuse_req_t req, fuse_ino_t a, const char *b, size_t c), (req, a, b, c))      \
	OP(listxattr, (fuse_req_t req, fuse_ino_t a, size_t b), (req, a, b))                       \
	OP(removexattr, (fuse_req_t req, fuse_ino_t a, const char *b), (req, a, b))

#define DEFINE(name, params, args)                                                                 \
	static void gated_##name params                                                            \
	{                                                                                          \
		GATED(GATE_PROGRAM, name args);                                                    \
	}
OPS(DEFINE)
#undef DEFINE

/* Dirty pages that the kernel is made to hand over; a program's own write has to wait outside. */
static void gated_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	struct fuse_file_info *fi)
{
	GATED(fi->writepage ? GATE_KERNEL : GATE_PROGRAM, write(req, ino, buf, size, off, fi));
}

static bool is_locked(fuse_req_t req)
{
	return atomic_load(&fs_of(req)->gate.state) == GATE_LOCKED;
}

static void gated_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (is_locked(req))
		fuse_reply_err(req, 0);
	else
		GATED(GATE_KERNEL, flush(req, ino, fi));
}

static void gated_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	if (is_locked(req))
		fuse_reply_err(req, 0);
	else
		GATED(GATE_KERNEL, fsync(req, ino, datasync, fi));
}

/* While the volume is opened these wait: another thread goes on refusing. */
static void let_others_read(fuse_req_t req)
{
	if (is_locked(req) && !loop_yield())
		log_debug("gate: no other thread");
}

static void gated_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	let_others_read(req);
	GATED(GATE_END, release(req, ino, fi));
}

static void gated_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	struct gate *g = &fs_of(req)->gate;

	let_others_read(req);
	(void)gate_enter(g, GATE_END); /* always let through */
	real.forget(req, ino, n);
	gate_leave(g);
}

static void gated_forget_multi(fuse_req_t req, size_t n, struct fuse_forget_data *list)
{
	struct gate *g = &fs_of(req)->gate;

	let_others_read(req);
	(void)gate_enter(g, GATE_END);
	real.forget_multi(req, n, list);
	gate_leave(g);
}

void gate_fill(struct fuse_lowlevel_ops *ops)
{
	real = *ops;
#define PUT(name, params, args)                                                                    \
	if (ops->name)                                                                             \
		ops->name = gated_##name;
	OPS(PUT)
#undef PUT
	ops->write = gated_write;
	ops->flush = gated_flush;
	ops->fsync = gated_fsync;
	ops->release = gated_release;
	ops->forget = gated_forget;
	ops->forget_multi = gated_forget_multi;
}

/* --- locking --- */

unsigned fs_lock_begin(struct fs *f)
{
	_cleanup_free_ uint64_t *ids = NULL;
	unsigned kept = 0;
	size_t n = 0;

	atomic_store(&f->gate.state, GATE_LOCKING);
	fs_wait_cancel_all(f);
	ids = node_all(f->nodes, &n);
	if (!ids)
		return 1;
	for (size_t i = 0; i < n; i++) {
		uint64_t id = ids[i] == (uintptr_t)f->root ? FUSE_ROOT_ID : ids[i];
		int r = fuse_lowlevel_notify_inval_inode(f->session, id, 0, 0);

		kept += r && r != -ENOENT;
	}
	return kept;
}

void fs_lock(struct fs *f, void (*lock)(void *arg), void *arg)
{
	fs_wait_cancel_all(f);
	pthread_rwlock_wrlock(&f->gate.lock);
	atomic_store(&f->gate.state, GATE_LOCKED);
	f->sync = NULL;
	lock(arg);
	pthread_rwlock_unlock(&f->gate.lock);
}

int fs_unlock(struct fs *f, int (*unlock)(void *arg, struct sync **sync), void *arg)
{
	int r;

	pthread_rwlock_wrlock(&f->gate.lock);
	r = unlock(arg, &f->sync);
	if (!r) {
		atomic_store(&f->gate.used_ms, coarse_ms());
		atomic_store(&f->gate.state, GATE_OPEN);
	}
	pthread_rwlock_unlock(&f->gate.lock);
	return r;
}

int64_t fs_idle_ms(const struct fs *f)
{
	return coarse_ms() - atomic_load(&f->gate.used_ms);
}
