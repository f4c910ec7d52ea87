#include "meta/walscan.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/io.h"

struct scan {
	int fd;
	const struct page_keys *keys;
	bool big_endian;
	bool have_salts;
	uint8_t salts[8];
	uint32_t sum[2];
	bool chain;      /* unbroken up to here */
	bool page1_seen; /* in the chain, committed or not */
	uint8_t sealed[PAGE_FRAME_LEN], plain[PAGE_FRAME_LEN];
	struct walscan out;
};

static uint64_t frame_at(uint32_t index)
{
	return PAGE_WAL_HEADER_LEN + (uint64_t)index * PAGE_FRAME_LEN;
}

/* As SQLite checks it (walIndexRecover). */
static int scan_header(struct scan *s)
{
	uint8_t h[PAGE_WAL_HEADER_LEN];
	uint32_t magic;
	int r;

	if (s->out.bytes < sizeof(h))
		return 0;
	r = io_pread_full(s->fd, h, sizeof(h), 0);
	if (r < 0)
		return r;
	magic = page_load_be32(h);
	s->big_endian = magic & 1;
	page_checksum(s->big_endian, h, PAGE_WAL_CKSUM_OFFSET, s->sum);
	if ((magic & ~1u) != PAGE_WAL_MAGIC || page_load_be32(h + 4) != PAGE_WAL_VERSION ||
		page_load_be32(h + 8) != PAGE_SIZE_BYTES ||
		page_load_be32(h + PAGE_WAL_CKSUM_OFFSET) != s->sum[0] ||
		page_load_be32(h + PAGE_WAL_CKSUM_OFFSET + 4) != s->sum[1])
		return 0;
	memcpy(s->salts, h + PAGE_WAL_SALT_OFFSET, sizeof(s->salts));
	s->out.header_ok = s->chain = s->have_salts = true;
	return 0;
}

/* Whether the frame in `plain` goes on from the one before it (walDecodeFrame). */
static bool continues(struct scan *s)
{
	const uint8_t *h = s->plain;

	page_checksum(s->big_endian, h, 8, s->sum);
	page_checksum(s->big_endian, h + PAGE_FRAME_HEADER_LEN, PAGE_SIZE_BYTES, s->sum);
	return page_load_be32(h) != 0 && page_load_be32(h + 16) == s->sum[0] &&
	       page_load_be32(h + 20) == s->sum[1];
}

static int scan_frame(struct scan *s, uint32_t index)
{
	int r = page_frame_open(s->keys, frame_at(index), s->sealed, s->plain);
	bool authentic = r == 0, commit = page_load_be32(s->plain + 4) != 0;
	const uint8_t *salts = s->plain + PAGE_FRAME_SALT_OFFSET;

	if (r < 0 && r != CE_TAMPER)
		return r;
	if (authentic)
		s->out.any_authentic = true;
	if (authentic && !s->have_salts) { /* the log's header is bad: its frames still name it */
		memcpy(s->salts, salts, sizeof(s->salts));
		s->have_salts = true;
	}
	if (!authentic || memcmp(salts, s->salts, sizeof(s->salts)) != 0) {
		s->chain = false;
		return 0;
	}
	s->chain = s->chain && continues(s);
	if (s->chain) {
		s->page1_seen = s->page1_seen || page_load_be32(s->plain) == 1;
		if (commit) {
			s->out.committed = index + 1;
			s->out.page1 = s->page1_seen;
		}
		return 0;
	}
	if (!commit) /* may be left from a transaction that was rolled back */
		return 0;
	s->out.damaged = true;
	if (page_frame_durable(s->sealed) > s->out.committed)
		s->out.durable_lost = true;
	return 0;
}

int walscan_run(int fd, const struct page_keys *keys, struct walscan *out)
{
	struct scan s = { .fd = fd, .keys = keys };
	struct stat st;
	int r;

	*out = (struct walscan){ 0 };
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	s.out.bytes = (uint64_t)st.st_size;
	r = scan_header(&s);
	for (uint32_t i = 0; r == 0 && frame_at(i) + PAGE_FRAME_LEN <= s.out.bytes; i++) {
		r = io_pread_full(fd, s.sealed, PAGE_FRAME_LEN, (off_t)frame_at(i));
		if (r == 0)
			r = scan_frame(&s, i);
	}
	secret_wipe(s.plain, sizeof(s.plain));
	if (r < 0)
		return r;
	if (s.out.header_ok)
		s.out.keep_bytes = frame_at(s.out.committed);
	*out = s.out;
	return 0;
}
