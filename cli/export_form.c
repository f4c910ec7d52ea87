#include "cli/export_form.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/io.h"
#include "cli/viewer_page.h"

#define BLOCK_LEN ((size_t)3 * 1024) /* whole threes */

static int open_unnamed(void)
{
	const char *dir = getenv("TMPDIR");

	return open(dir && *dir ? dir : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

int export_form_open(struct export_form *f, const char *path, bool page)
{
	int r = 0;

	*f = (struct export_form){ .path = path, .page = page };
	f->fd = path ? open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : open_unnamed();
	if (f->fd < 0)
		return -errno;
	if (page)
		r = io_write_full(f->fd, viewer_page_head, strlen(viewer_page_head));
	if (r)
		export_form_discard(f);
	return r;
}

static int write_base64(struct export_form *f, const uint8_t *data, size_t len)
{
	_cleanup_free_ char *text = NULL;
	int r = bytes_to_base64(data, len, &text);

	return r ? r : io_write_full(f->fd, text, strlen(text));
}

/* Threes become fours; what is left of a three waits for the next call. */
static int page_write(struct export_form *f, const uint8_t *data, size_t len)
{
	int r = 0;

	while (!r && len) {
		size_t n;

		if (f->n_carry || len < 3) {
			f->carry[f->n_carry++] = *data;
			n = 1;
			if (f->n_carry == 3) {
				r = write_base64(f, f->carry, 3);
				f->n_carry = 0;
			}
		} else {
			n = MIN_OF(len - len % 3, BLOCK_LEN);
			r = write_base64(f, data, n);
		}
		data += n;
		len -= n;
	}
	return r;
}

static int sink_write(void *arg, const void *data, size_t len)
{
	struct export_form *f = arg;

	f->sealed += len;
	if (!f->page)
		return io_write_full(f->fd, data, len);
	return f->sealed > EXPORT_FORM_PAGE_MAX_BYTES ? CE_TOO_LARGE : page_write(f, data, len);
}

struct bundle_sink export_form_sink(struct export_form *f)
{
	return (struct bundle_sink){ sink_write, f };
}

int export_form_finish(struct export_form *f)
{
	int r = 0;

	if (f->page && f->n_carry)
		r = write_base64(f, f->carry, f->n_carry);
	if (f->page && !r)
		r = io_write_full(f->fd, viewer_page_tail, strlen(viewer_page_tail));
	if (!r && f->path && fsync(f->fd) < 0)
		r = -errno;
	return r;
}

void export_form_discard(struct export_form *f)
{
	if (f->path && f->fd >= 0)
		unlink(f->path);
	export_form_done(f);
}

void export_form_done(struct export_form *f)
{
	if (f->fd >= 0)
		close(steal_fd(&f->fd));
}
