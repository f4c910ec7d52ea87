/*
 * Theory of operation.
 *
 * The file is reached through the VFS beneath the sealed one, as index and WAL are, so that a test
 * that makes that one fail or forget does it to all three.
 *
 * The record being made is gathered as plaintext behind room for its header and sealed where it
 * stands. A statement's text goes in with its first use behind the last mark: known[id] is the
 * number of the record that has it; with the next mark or a dropped transaction it is forgotten.
 *
 * Behind the last good record any place whose number follows it may be the head of a record: it is
 * tried. Nothing else can pass for one, because all records of older epochs have smaller numbers.
 */
#include "meta/redo.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/array.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/io.h"
#include "crypto/kdf.h"
#include "meta/vfs_priv.h"

#define PIECE ((size_t)64 << 10)
#define ALG AEAD_XCHACHA20POLY1305
#define BLOCK (UINT64_C(64) << 10)
#define NUMBERS_AHEAD (UINT64_C(1) << 24)
#define BLANK_LEN ((size_t)4096)

struct redo {
	sqlite3_file *file;
	char *path; /* the VFS borrows it */
	struct secret *key;
	uint64_t room; /* bytes laid out in advance */
	uint8_t salt[REDO_SALT_LEN], next[REDO_SALT_LEN];
	uint64_t marked; /* number of the last mark */
	_Atomic uint64_t number, at, bytes, synced;
	_Atomic bool suspect;
	pthread_mutex_t flushing; /* leaf: the kernel tells an error to one of two who sync */

	uint8_t *image; /* while it is replayed: the file */
	uint64_t image_len;
	int unread; /* redo_unread */
	uint8_t *opened;

	uint8_t *record; /* being made: room for the header, payload */
	size_t len, cap; /* of the payload */
	bool over;       /* does not fit */
	uint64_t known[REDO_IDS_MAX];
};

static int code(int rc)
{
	switch (rc) {
	case SQLITE_OK:
		return 0;
	case SQLITE_FULL:
		return -ENOSPC;
	default:
		return (rc & 0xff) == SQLITE_NOMEM ? -ENOMEM : -EIO;
	}
}

static uint64_t aligned(uint64_t n)
{
	return (n + REDO_ALIGN - 1) / REDO_ALIGN * REDO_ALIGN;
}

/* --- the file --- */

/* SQLite's unix VFS takes the length modulo 128 KiB. */
static int write_pieces(struct redo *r, const uint8_t *data, size_t len, uint64_t at)
{
	int rc = SQLITE_OK;

	while (len && rc == SQLITE_OK) {
		size_t n = MIN_OF(len, PIECE);

		rc = r->file->pMethods->xWrite(r->file, data, (int)n, (sqlite3_int64)at);
		data += n;
		at += n;
		len -= n;
	}
	return rc;
}

static int read_pieces(struct redo *r, uint8_t *data, size_t len)
{
	int rc = SQLITE_OK;

	for (size_t at = 0; at < len && rc == SQLITE_OK; at += PIECE)
		rc = r->file->pMethods->xRead(
			r->file, data + at, (int)MIN_OF(len - at, PIECE), (sqlite3_int64)at);
	return rc;
}

static int write_at(struct redo *r, const void *data, size_t len, uint64_t at)
{
	int rc = write_pieces(r, data, len, at);

	/* What a failed write left counts too. */
	if (rc != SQLITE_OK) {
		sqlite3_int64 size;

		if (r->file->pMethods->xFileSize(r->file, &size) == SQLITE_OK)
			atomic_store(&r->bytes, (uint64_t)size);
	} else if (at + len > atomic_load(&r->bytes)) {
		atomic_store(&r->bytes, at + len);
	}
	return code(rc);
}

static int write_zeros(struct redo *r, uint64_t from, uint64_t to)
{
	static const uint8_t zeros[BLOCK];
	int c = 0;

	while (from < to && c == 0) {
		uint64_t n = MIN_OF(to - from, BLOCK - from % BLOCK);

		c = write_at(r, zeros, n, from);
		from += n;
	}
	return c;
}

static int sync_file(struct redo *r)
{
	int c = FAILPOINT("index-redo-sync");

	if (c == 0)
		c = code(r->file->pMethods->xSync(
			r->file, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY));
	return c;
}

static int lay_out(struct redo *r)
{
	uint64_t from = atomic_load(&r->bytes);
	int c = from < r->room ? write_zeros(r, from, r->room) : 0;

	return c == 0 && from < r->room ? sync_file(r) : c;
}

/* SQLite would make the file readable for all; what it is opened with tells it from the index. */
static int open_file(struct redo *r, const struct redo_options *o)
{
	int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (o->bytes ? O_CREAT : 0);
	const char *name = o->file ? o->file : REDO_FILE;
	_cleanup_fd_ int fd = openat(o->dirfd, name, flags, 0600);
	sqlite3_vfs *base = sqlite3_vfs_find(o->base_vfs ? o->base_vfs : "unix-excl");
	sqlite3_int64 size = 0;
	int rc;

	if (fd < 0)
		return -errno;
	if (!base)
		return -ENOTSUP;
	r->file = calloc(1, (size_t)base->szOsFile);
	if (!r->file || bytes_print(&r->path, "%s/%s", o->dir, name))
		return -ENOMEM;
	rc = vfs_open_real(base, r->path, r->file, SQLITE_OPEN_READWRITE | SQLITE_OPEN_WAL);
	if (rc == SQLITE_OK)
		rc = r->file->pMethods->xFileSize(r->file, &size);
	atomic_store(&r->bytes, (uint64_t)size);
	return code(rc);
}

static void redo_freep(struct redo **r)
{
	redo_free(*r);
}

int redo_open(const struct redo_options *o, struct redo **out)
{
	_cleanup_(redo_freep) struct redo *r = calloc(1, sizeof(*r));
	int c;

	if (!r)
		return -ENOMEM;
	pthread_mutex_init(&r->flushing, NULL);
	r->room = o->bytes;
	c = secret_new(AEAD_KEY_LEN, &r->key);
	if (c == 0)
		c = kdf_blake2b(
			secret_cbytes(o->key), KDF_LABEL_INDEX_REDO, NULL, 0, secret_bytes(r->key));
	if (c == 0)
		c = open_file(r, o);
	if (c == 0)
		c = lay_out(r);
	if (c < 0)
		return c;
	*out = steal_ptr(&r);
	return 0;
}

void redo_done_reading(struct redo *r)
{
	free(r->image);
	r->image = NULL;
	r->image_len = 0;
	if (r->opened)
		secret_wipe(r->opened, REDO_PAYLOAD_MAX);
	free(r->opened);
	r->opened = NULL;
}

void redo_free(struct redo *r)
{
	if (!r)
		return;
	redo_done_reading(r);
	if (r->record)
		secret_wipe(r->record, REDO_HEADER_LEN + r->cap);
	free(r->record);
	if (r->file && r->file->pMethods)
		r->file->pMethods->xClose(r->file);
	free(r->file);
	free(r->path);
	secret_free(r->key);
	pthread_mutex_destroy(&r->flushing);
	free(r);
}

/* --- one record --- */

static void record_aad(const uint8_t *header, uint64_t at, uint8_t aad[static REDO_AAD_LEN])
{
	memcpy(aad, REDO_AAD, sizeof(REDO_AAD) - 1);
	memcpy(aad + 4, header, REDO_CLEAR_LEN);
	store_le64(aad + 4 + REDO_CLEAR_LEN, at);
}

static int seal(struct redo *r, uint64_t at)
{
	uint8_t *h = r->record, aad[REDO_AAD_LEN];

	memcpy(h, r->salt, REDO_SALT_LEN);
	store_le64(h + REDO_NUMBER_OFFSET, atomic_load(&r->number) + 1);
	store_le64(h + REDO_DURABLE_OFFSET, atomic_load(&r->synced));
	store_le32(h + REDO_LENGTH_OFFSET, (uint32_t)r->len);
	store_le32(h + REDO_LENGTH_OFFSET + 4, 0);
	record_aad(h, at, aad);
	aead_nonce(ALG, h + REDO_NONCE_OFFSET);
	return aead_seal(ALG, secret_cbytes(r->key), h + REDO_NONCE_OFFSET, aad, sizeof(aad),
		h + REDO_HEADER_LEN, r->len, h + REDO_HEADER_LEN, h + REDO_TAG_OFFSET);
}

/* The record at `at` of the image, if it is one, opened into r->opened. */
static bool open_at(struct redo *r, uint64_t at, size_t *len)
{
	const uint8_t *h = r->image + at;
	uint8_t aad[REDO_AAD_LEN];
	int c;

	if (at > r->image_len || r->image_len - at < REDO_HEADER_LEN)
		return false;
	*len = load_le32(h + REDO_LENGTH_OFFSET);
	if (*len > REDO_PAYLOAD_MAX || *len > r->image_len - at - REDO_HEADER_LEN)
		return false;
	record_aad(h, at, aad);
	c = aead_open(ALG, secret_cbytes(r->key), h + REDO_NONCE_OFFSET, aad, sizeof(aad),
		h + REDO_HEADER_LEN, *len, h + REDO_TAG_OFFSET, r->opened);
	if (c < 0 && c != CE_TAMPER)
		r->unread = c;
	return c == 0;
}

/* Whether the record `number` of the epoch lies there. */
static bool is_at(struct redo *r, uint64_t at, const uint8_t *salt, uint64_t number, size_t *len)
{
	const uint8_t *h = r->image + at;

	return at <= r->image_len && r->image_len - at >= REDO_HEADER_LEN &&
	       memcmp(h, salt, REDO_SALT_LEN) == 0 && load_le64(h + REDO_NUMBER_OFFSET) == number &&
	       open_at(r, at, len);
}

/* --- reading --- */

static int read_image(struct redo *r)
{
	redo_done_reading(r);
	r->unread = 0;
	r->image_len = atomic_load(&r->bytes);
	r->image = malloc(r->image_len + 1);
	r->opened = malloc(REDO_PAYLOAD_MAX);
	if (!r->image || !r->opened)
		return -ENOMEM;
	return r->image_len ? code(read_pieces(r, r->image, r->image_len)) : 0;
}

int redo_locate(struct redo *r, const struct redo_mark *m, struct redo_place *p)
{
	size_t len;
	int c = read_image(r);

	if (c < 0) {
		redo_done_reading(r);
		return c;
	}
	*p = (struct redo_place){ .number = m->number, .at = m->at, .marked = m->number };
	memcpy(p->salt, m->salt, REDO_SALT_LEN);
	memcpy(p->next, m->next, REDO_SALT_LEN);
	if (is_at(r, 0, m->next, m->number + 1, &len)) {
		memcpy(p->salt, m->next, REDO_SALT_LEN);
		p->at = 0;
	}
	return r->unread;
}

int redo_unread(const struct redo *r)
{
	return r->unread;
}

bool redo_next(struct redo *r, struct redo_place *p, const uint8_t **payload, size_t *len)
{
	if (!is_at(r, p->at, p->salt, p->number + 1, len))
		return false;
	p->at += aligned(REDO_HEADER_LEN + *len);
	p->number++;
	*payload = r->opened;
	return true;
}

/* Is the number 0 at all places of a page's length from `at` on? Most of a log was never written.
 */
static bool is_blank(const struct redo *r, uint64_t at)
{
	static const uint8_t zeros[BLANK_LEN];

	return at + REDO_HEADER_LEN + BLANK_LEN <= r->image_len &&
	       memcmp(r->image + at + REDO_NUMBER_OFFSET, zeros, BLANK_LEN) == 0;
}

/* From `at` on, the next place that may be the head of a record behind the last. An epoch that
 * began at 0 behind a mark that is gone leaves its records before p->at, authentic or not ours. */
static bool trace(struct redo *r, const struct redo_place *p, uint64_t *at, bool *authentic)
{
	uint64_t number;
	size_t len;

	for (; *at + REDO_HEADER_LEN <= r->image_len; *at += REDO_ALIGN) {
		while (*at % BLANK_LEN == 0 && is_blank(r, *at))
			*at += BLANK_LEN;
		number = load_le64(r->image + *at + REDO_NUMBER_OFFSET);
		if (number <= p->number || number - p->number > NUMBERS_AHEAD)
			continue;
		*authentic = open_at(r, *at, &len);
		if (*authentic || *at >= p->at)
			return true;
	}
	return false;
}

void redo_tail(struct redo *r, const struct redo_place *p, struct redo_tail *t)
{
	bool authentic;

	*t = (struct redo_tail){ 0 };
	for (uint64_t at = 0; trace(r, p, &at, &authentic); at += REDO_ALIGN) {
		t->stale = true;
		t->damaged = t->damaged || authentic;
		if (authentic && load_le64(r->image + at + REDO_DURABLE_OFFSET) > p->number)
			t->durable_lost = true;
	}
}

struct found {
	uint64_t number, at;
};

static int by_number(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return (x->number > y->number) - (x->number < y->number);
}

static int find_records(struct redo *r, struct found **out, size_t *n)
{
	struct found *list = NULL;
	size_t cap = 0, len;

	*n = 0;
	for (uint64_t at = 0; at + REDO_HEADER_LEN <= r->image_len;) {
		const uint8_t *h = r->image + at;

		/* Most of what is laid out is zeros, and no record has the number 0. */
		if (!load_le64(h + REDO_NUMBER_OFFSET) || load_le32(h + REDO_LENGTH_OFFSET + 4) ||
			!open_at(r, at, &len)) {
			at += REDO_ALIGN;
			continue;
		}
		if (ARRAY_ROOM(list, *n, cap)) {
			free(list);
			return -ENOMEM;
		}
		list[(*n)++] = (struct found){ load_le64(h + REDO_NUMBER_OFFSET), at };
		at += aligned(REDO_HEADER_LEN + len);
	}
	if (*n)
		qsort(list, *n, sizeof(*list), by_number);
	*out = list;
	return 0;
}

int redo_each(struct redo *r, redo_record_fn *fn, void *arg)
{
	_cleanup_free_ struct found *list = NULL;
	size_t n, len;
	int c = read_image(r);

	if (c == 0)
		c = find_records(r, &list, &n);
	if (c == 0)
		c = r->unread;
	for (size_t i = 0; c == 0 && i < n; i++)
		if (open_at(r, list[i].at, &len))
			c = fn(arg, r->opened, len);
	if (c == 0)
		c = r->unread;
	redo_done_reading(r);
	return c;
}

int redo_wipe(struct redo *r, const struct redo_place *p)
{
	static const uint8_t zeros[REDO_HEADER_LEN];
	bool authentic, found = false;
	int c = 0;

	for (uint64_t at = 0; c == 0 && trace(r, p, &at, &authentic); at += REDO_ALIGN) {
		found = true;
		c = write_at(r, zeros, sizeof(zeros), at);
	}
	if (c == 0)
		c = r->unread;
	return c == 0 && found ? sync_file(r) : c;
}

void redo_go_on(struct redo *r, const struct redo_place *p)
{
	r->marked = p->marked;
	memcpy(r->salt, p->salt, REDO_SALT_LEN);
	memcpy(r->next, p->next, REDO_SALT_LEN);
	atomic_store(&r->number, p->number);
	atomic_store(&r->at, p->at);
}

/* --- gathering --- */

static uint8_t *grow(struct redo *r, size_t more)
{
	size_t need = r->len + more, cap = MAX_OF(r->cap, (size_t)4096);
	uint8_t *bigger;

	if (r->over || need > REDO_PAYLOAD_MAX)
		return NULL;
	while (cap < need)
		cap *= 2;
	if (cap == r->cap)
		return r->record + REDO_HEADER_LEN + r->len;
	/* Padding needs room too. */
	bigger = malloc(REDO_HEADER_LEN + cap + REDO_ALIGN);
	if (!bigger)
		return NULL;
	if (r->record) {
		memcpy(bigger, r->record, REDO_HEADER_LEN + r->len);
		secret_wipe(r->record, REDO_HEADER_LEN + r->cap);
		free(r->record);
	}
	r->record = bigger;
	r->cap = cap;
	return r->record + REDO_HEADER_LEN + r->len;
}

static uint8_t *put_number(uint8_t *p, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		*p++ = (uint8_t)(v | 0x80);
	*p++ = (uint8_t)v;
	return p;
}

static uint8_t *put_bytes(uint8_t *p, const void *bytes, size_t len)
{
	p = put_number(p, len);
	if (len)
		memcpy(p, bytes, len);
	return p + len;
}

static uint8_t *put_value(uint8_t *p, const struct redo_value_ref *v)
{
	*p++ = (uint8_t)v->type;
	if (v->type == REDO_INTEGER)
		return put_number(p, (uint64_t)v->i << 1 ^ (v->i < 0 ? UINT64_MAX : 0));
	return v->type == REDO_NULL ? p : put_bytes(p, v->bytes, v->len);
}

#define NUMBER_MAX 10 /* bytes of a number */

static size_t most(const char *text, const struct redo_value_ref *v, unsigned n)
{
	size_t size = text ? strlen(text) : 0;

	for (unsigned i = 0; i < n; i++)
		size += v[i].len;
	return size + (n + 7) * (NUMBER_MAX + 1);
}

void redo_run(struct redo *r, unsigned id, const char *text, const struct redo_value_ref *v,
	unsigned n, uint64_t changes, int64_t rowid)
{
	bool knows = r->known[id] > r->marked;
	uint8_t *p = grow(r, most(knows ? NULL : text, v, n));

	if (!p) {
		r->over = true;
		return;
	}
	if (!knows) {
		*p++ = REDO_OP_TEXT;
		p = put_number(p, id);
		p = put_bytes(p, text, strlen(text));
		r->known[id] = atomic_load(&r->number) + 1;
	}
	*p++ = REDO_OP_RUN;
	p = put_number(p, id);
	p = put_number(p, n);
	for (unsigned i = 0; i < n; i++)
		p = put_value(p, &v[i]);
	p = put_number(p, changes);
	p = put_number(p, (uint64_t)rowid);
	r->len = (size_t)(p - r->record) - REDO_HEADER_LEN;
}

bool redo_note(struct redo *r, unsigned kind, const void *head, size_t head_len, const void *bytes,
	size_t len)
{
	size_t most = head_len + len + 3 * NUMBER_MAX, all = r->len + most;
	bool fits = all <= REDO_NOTES_MAX && atomic_load(&r->at) + all <= r->room;
	uint8_t *p = fits ? grow(r, most) : NULL;

	if (!p)
		return false;
	*p++ = REDO_OP_NOTE;
	p = put_number(p, kind);
	p = put_number(p, head_len + len);
	memcpy(p, head, head_len);
	p += head_len;
	if (len)
		memcpy(p, bytes, len);
	r->len = (size_t)(p + len - r->record) - REDO_HEADER_LEN;
	return true;
}

bool redo_fits(const struct redo *r)
{
	return !r->over;
}

bool redo_is_empty(const struct redo *r)
{
	return r->len == 0 && !r->over;
}

void redo_drop(struct redo *r)
{
	if (r->len)
		secret_wipe(r->record + REDO_HEADER_LEN, r->len);
	if (!redo_is_empty(r))
		for (size_t i = 0; i < REDO_IDS_MAX; i++)
			if (r->known[i] > atomic_load(&r->number))
				r->known[i] = 0;
	r->len = 0;
	r->over = false;
}

/* --- appending --- */

/* A whole record whose append was said to have failed must not come back after a crash. */
static void strike(struct redo *r, uint64_t at)
{
	static const uint8_t zeros[REDO_HEADER_LEN];

	if (atomic_load(&r->bytes) > at)
		(void)!write_at(r, zeros, MIN_OF(sizeof(zeros), atomic_load(&r->bytes) - at), at);
}

int redo_append(struct redo *r)
{
	uint64_t at = atomic_load(&r->at);
	size_t size = aligned(REDO_HEADER_LEN + r->len);
	int c = seal(r, at);

	if (c == 0) {
		memset(r->record + REDO_HEADER_LEN + r->len, 0, size - REDO_HEADER_LEN - r->len);
		c = FAILPOINT("index-redo-write");
	}
	if (c == 0)
		c = write_at(r, r->record, size, at);
	if (c < 0) {
		strike(r, at);
		return c;
	}
	r->len = 0;
	atomic_store(&r->at, at + size);
	atomic_fetch_add(&r->number, 1);
	return 0;
}

/* --- marks and syncs --- */

struct redo_mark redo_mark(const struct redo *r, bool unlogged)
{
	struct redo_mark m = { .number = atomic_load(&r->number) + unlogged,
		.at = atomic_load(&r->at) };

	memcpy(m.salt, r->salt, REDO_SALT_LEN);
	secret_random(m.next, REDO_SALT_LEN);
	return m;
}

void redo_marked(struct redo *r, const struct redo_mark *m)
{
	redo_drop(r);
	r->marked = m->number;
	memcpy(r->next, m->next, REDO_SALT_LEN);
	atomic_store(&r->number, m->number);
}

bool redo_unmarked(const struct redo *r)
{
	return atomic_load(&r->number) != r->marked;
}

void redo_restart(struct redo *r)
{
	memcpy(r->salt, r->next, REDO_SALT_LEN);
	atomic_store(&r->at, 0);
	atomic_store(&r->synced, atomic_load(&r->number));
	atomic_store(&r->suspect, false);
	/* What it grew by is given back; if not, it is only longer. */
	if (atomic_load(&r->bytes) > r->room && r->room &&
		r->file->pMethods->xTruncate(r->file, (sqlite3_int64)r->room) == SQLITE_OK)
		atomic_store(&r->bytes, r->room);
}

int redo_flush(struct redo *r)
{
	int c;

	pthread_mutex_lock(&r->flushing);
	c = atomic_load(&r->suspect) ? -EIO : sync_file(r);
	if (c < 0)
		atomic_store(&r->suspect, true);
	pthread_mutex_unlock(&r->flushing);
	return c;
}

void redo_covered(struct redo *r, uint64_t number)
{
	if (number > atomic_load(&r->synced))
		atomic_store(&r->synced, number);
}

int redo_sync(struct redo *r, uint64_t number)
{
	int c;

	if (number <= atomic_load(&r->synced))
		return 0;
	c = redo_flush(r);
	if (c == 0)
		redo_covered(r, number);
	return c;
}

bool redo_suspect(const struct redo *r)
{
	return atomic_load(&r->suspect);
}

uint64_t redo_number(const struct redo *r)
{
	return atomic_load(&r->number);
}

uint64_t redo_synced(const struct redo *r)
{
	return atomic_load(&r->synced);
}

uint64_t redo_bytes(const struct redo *r)
{
	return atomic_load(&r->bytes);
}

uint64_t redo_used(const struct redo *r)
{
	return atomic_load(&r->at);
}
