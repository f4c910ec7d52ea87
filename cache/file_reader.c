#include "cache/file_reader.h"

#include <errno.h>

#include "crypto/kdf.h"

struct file_reader {
	struct file *f;
	struct kdf_sha256 *hash; /* NULL after an error, and when it was taken */
	uint64_t off;
};

int file_reader_new(struct file *f, struct file_reader **out)
{
	struct file_reader *r = calloc(1, sizeof(*r));
	int e;

	if (!r) {
		file_unref(f, false);
		return -ENOMEM;
	}
	r->f = f;
	e = file_reader_rewind(r);
	if (e) {
		file_reader_free(r);
		return e;
	}
	*out = r;
	return 0;
}

void file_reader_free(struct file_reader *r)
{
	if (!r)
		return;
	kdf_sha256_free(r->hash);
	file_unref(r->f, false);
	free(r);
}

int file_reader_rewind(struct file_reader *r)
{
	kdf_sha256_free(steal_ptr(&r->hash));
	r->off = 0;
	return kdf_sha256_new(&r->hash);
}

int file_reader_next(struct file_reader *r, void *buf, size_t len, size_t *got)
{
	size_t n = 0;
	int e = r->hash ? file_read(r->f, buf, len, r->off, &n) : -EINVAL;

	if (!e)
		e = kdf_sha256_update(r->hash, buf, n);
	if (e) {
		kdf_sha256_free(steal_ptr(&r->hash));
		return e;
	}
	r->off += n;
	*got = n;
	return 0;
}

int file_reader_sha256(struct file_reader *r, uint8_t out[static 32])
{
	return r->hash ? kdf_sha256_final(steal_ptr(&r->hash), out) : -EINVAL;
}
