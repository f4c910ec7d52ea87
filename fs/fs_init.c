/*
 * What is agreed with the kernel at INIT.
 *
 * No write-back caching. With it a small file costs more requests than its data: times after each
 * close, rename and unlink (SETATTR, waited for), FLUSH at the close of every reader, and creates,
 * rewrites and random writes were half as fast (docs/architecture.md). Shared mappings are written
 * back all the same.
 *
 * The one thing libfuse 3.14 cannot agree:
 * FUSE_HANDLE_KILLPRIV_V2. Without it the kernel asks for security.capability at every write(2) and
 * sends two requests more for a chown, so the flag is put into libfuse's answer on its way.
 */
#include "fs/fs_init.h"

#include <string.h>
#include <sys/uio.h>

#include <linux/fuse.h>

#include "base/log.h"

#define INIT_MAX_WRITE (1u << 20)
#define INIT_MAX_BACKGROUND 64

static void init_want(struct fuse_conn_info *conn, unsigned caps)
{
	conn->want |= conn->capable & caps;
}

void fs_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fs *f = userdata;

	conn->max_write = INIT_MAX_WRITE;
	conn->max_readahead = INIT_MAX_WRITE;
	conn->max_background = INIT_MAX_BACKGROUND;
	conn->time_gran = 1;
	/* Content is sealed in memory: nothing can be spliced. Locks are the kernel's own. */
	conn->want &=
		~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
			    FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS | FUSE_CAP_AUTO_INVAL_DATA |
			    FUSE_CAP_HANDLE_KILLPRIV);
	init_want(conn, FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_READDIRPLUS |
				 FUSE_CAP_READDIRPLUS_AUTO |
				FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ASYNC_DIO |
				FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_NO_OPENDIR_SUPPORT |
				FUSE_CAP_EXPLICIT_INVAL_DATA);
	f->no_opendir = conn->want & FUSE_CAP_NO_OPENDIR_SUPPORT;
	f->answering_init = true;
}

static ssize_t init_read(int fd, void *buf, size_t len, void *userdata)
{
	return read(fd, buf, len);
}

/* The answer to INIT is the first after fs_init, in the same thread, and of two parts: header and
 * struct fuse_init_out. */
static ssize_t init_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct fs *f = userdata;

	if (f->answering_init) {
		f->answering_init = false;
		if (count == 2 && iov[1].iov_len >= offsetof(struct fuse_init_out, unused)) {
			struct fuse_init_out *out = iov[1].iov_base;

			out->flags |= FUSE_HANDLE_KILLPRIV_V2;
			f->kill_priv = true;
		}
	}
	return writev(fd, iov, count);
}

int fs_init_io(struct fs *f)
{
	static const struct fuse_custom_io io = {.read = init_read, .writev = init_writev};

	return fuse_session_custom_io(f->session, &io, fuse_session_fd(f->session));
}
