#include "origin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/macros.h"
#include "cache/outbox.h"
#include "crypto/kdf.h"
#include "oracle.h"

#define RECORDS 400

struct held {
	struct remote_record r;
	uint8_t content[ORACLE_BYTES];
};

struct origin {
	size_t n;
	struct held held[RECORDS];
};

struct origin *origin_new(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct origin *o;

	if (fd < 0 || ftruncate(fd, sizeof(*o)))
		abort();
	o = mmap(NULL, sizeof(*o), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (o == MAP_FAILED)
		abort();
	close(fd);
	return o;
}

void origin_reset(struct origin *o)
{
	o->n = 0;
}

size_t origin_mark(const struct origin *o)
{
	return o->n;
}

void origin_back(struct origin *o, size_t mark)
{
	o->n = mark;
}

bool origin_has_room(const struct origin *o)
{
	return o->n < RECORDS - 40;
}

void origin_free(struct origin *o)
{
	munmap(o, sizeof(*o));
}

/* The newest version of a record, or the one with this ETag. Versions are added, never changed, so
 * that a kill anywhere leaves a whole one. */
static struct held *find(struct origin *o, const char *rid, const char *etag)
{
	for (size_t i = o->n; i--;)
		if (!strcmp(o->held[i].r.id, rid) && (!etag || !strcmp(o->held[i].r.etag, etag)))
			return &o->held[i];
	return NULL;
}

/* The `nth` version that is not yet published: as the last, or new. */
static struct held *draft(struct origin *o, const char *rid, size_t nth)
{
	struct held *h = &o->held[o->n + nth], *old = find(o, rid, NULL);

	if (old)
		memcpy(h, old, sizeof(*h));
	else
		memset(&h->r, 0, sizeof(h->r));
	snprintf(h->r.id, sizeof(h->r.id), "%s", rid);
	return h;
}

static int wrong(const struct outbox_op *op, const struct held *h, const char *what)
{
	fprintf(stderr,
		"operation %llu of kind %d on %s: %s; based on \"%s\", the origin has \"%s\"\n",
		(unsigned long long)op->seq, op->kind, op->rid, what, op->if_match,
		h ? h->r.etag : "none");
	return -1;
}

static int read_snapshot(struct volume *v, const struct outbox_op *op, uint8_t *out)
{
	struct file *f;
	size_t got = 0;
	int r;

	if (!op->map || op->size > ORACLE_BYTES)
		return op->size ? -EINVAL : 0;
	r = file_open_map(v, op->map, &f);
	if (r)
		return r;
	r = file_read(f, out, ORACLE_BYTES, 0, &got);
	file_unref(f, false);
	return r ? r : got == op->size ? 0 : CE_CORRUPT;
}

int origin_look(struct volume *v)
{
	static uint8_t bytes[ORACLE_BYTES];
	struct outbox_op ops[16];
	uint64_t wait;
	size_t n = 0;
	int r = outbox_next(v, clock_wall_ns() / NS_PER_MS, 0, ops, ARRAY_SIZE(ops), &n, &wait);

	for (size_t i = 0; i < n; i++) {
		if (!r && ops[i].kind == OUTBOX_PUT && ops[i].node_kind == REMOTE_FILE &&
			ops[i].map)
			r = read_snapshot(v, &ops[i], bytes);
		outbox_op_done(&ops[i]);
	}
	return r;
}

static int put(struct volume *v, const struct outbox_op *op, struct held *h)
{
	int r = op->node_kind == REMOTE_FILE ? read_snapshot(v, op, h->content) : 0;

	if (r)
		return r;
	h->r.kind = op->node_kind;
	h->r.mode = op->mode;
	h->r.mtime_ns = op->mtime_ns;
	if (!op->if_match[0]) {
		snprintf(h->r.parent, sizeof(h->r.parent), "%s", op->parent);
		snprintf(h->r.name, sizeof(h->r.name), "%s", op->name);
	}
	if (h->r.kind == REMOTE_DIR)
		return 0;
	h->r.size = op->size;
	h->r.has_sha256 = true;
	return kdf_sha256(h->content, op->size, h->r.sha256);
}

static int apply(struct origin *o, struct volume *v, const struct outbox_op *op, const char *etag)
{
	struct held *h = draft(o, op->rid, 0);
	size_t made = 1;
	int r = 0;

	memcpy(h->r.etag, etag, sizeof(h->r.etag));
	if (op->kind == OUTBOX_PUT) {
		r = put(v, op, h);
	} else if (op->kind == OUTBOX_ATTR) {
		h->r.mode = op->mode;
		h->r.mtime_ns = op->mtime_ns;
	} else if (op->kind == OUTBOX_MOVE) {
		snprintf(h->r.parent, sizeof(h->r.parent), "%s", op->parent);
		snprintf(h->r.name, sizeof(h->r.name), "%s", op->name);
		if (op->other_rid[0])
			draft(o, op->other_rid, made++)->r.deleted = true;
	} else {
		h->r.deleted = true;
	}
	if (!r)
		o->n += made;
	return r;
}

/* The ETag is the key, so what was done before is known by it. */
static int take_one(struct origin *o, struct volume *v, const struct outbox_op *op)
{
	struct outbox_answer ack = { .seq = op->seq };
	struct held *h = find(o, op->rid, NULL);
	char etag[65] = "";
	int r;

	for (unsigned i = 0; i < sizeof(op->key); i++)
		sprintf(etag + (size_t)2 * i, "%02x", op->key[i]);
	if (!h || strcmp(h->r.etag, etag)) {
		if (op->if_match[0] ? !h || h->r.deleted || strcmp(h->r.etag, op->if_match)
				    : h != NULL)
			return wrong(op, h, "not the version that stands there");
		r = apply(o, v, op, etag);
		if (r)
			return r;
		h = find(o, op->rid, NULL);
	}
	ack.record = op->kind == OUTBOX_DELETE ? NULL : &h->r;
	return outbox_ack(v, &ack, 1);
}

int origin_take(struct origin *o, struct volume *v, size_t max)
{
	struct outbox_op ops[16];
	uint64_t wait;
	size_t n = 0;
	int r = outbox_next(
		v, clock_wall_ns() / NS_PER_MS, 0, ops, MIN_OF(max, ARRAY_SIZE(ops)), &n, &wait);

	if (!r && n)
		r = outbox_begin(v, ops, n);
	for (size_t i = 0; i < n; i++) {
		bool can = ops[i].seq && (ops[i].after < 0 || ops[ops[i].after].seq);

		if (!r && can)
			r = take_one(o, v, &ops[i]);
		outbox_op_done(&ops[i]);
	}
	return r;
}

const struct remote_record *origin_publish(struct origin *o, const char *rid, const uint8_t *content,
	size_t size, uint64_t version)
{
	struct held *h = draft(o, rid, 0);

	memcpy(h->content, content, size);
	if (!h->r.name[0]) {
		snprintf(h->r.parent, sizeof(h->r.parent), "root");
		snprintf(h->r.name, sizeof(h->r.name), "%s", rid);
	}
	h->r.has_sha256 = false;
	snprintf(h->r.etag, sizeof(h->r.etag), "e%llu", (unsigned long long)version);
	h->r.kind = REMOTE_FILE;
	h->r.mode = 0644;
	h->r.size = size;
	o->n++;
	return &h->r;
}

int origin_change(struct origin *o, struct volume *v, uint64_t store, const char *rid,
	const uint8_t *content, size_t size, uint64_t version)
{
	const struct remote_record *r = origin_publish(o, rid, content, size, version);
	struct remote_report report;
	char cursor[32];

	snprintf(cursor, sizeof(cursor), "%llu", (unsigned long long)version);
	return remote_apply(v, store, r, 1, cursor, true, &report);
}

int origin_fill(struct origin *o, struct file *f)
{
	struct file_range range;

	for (;;) {
		const struct held *h;
		int r = file_missing(f, 0, UINT64_MAX, UINT64_MAX, &range);

		if (r || !range.len)
			return r;
		h = find(o, range.rid, range.etag);
		if (!h) {
			fprintf(stderr, "record %s: the origin never had version \"%s\"\n",
				range.rid, range.etag);
			return CE_STALE;
		}
		r = file_fill(f, range.etag, h->content + range.off, range.len, range.off);
		if (r)
			return r;
	}
}
