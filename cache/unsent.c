/*
 * Theory of operation.
 *
 * During a transaction the records whose journal rows change are noted (`touched`), and what a
 * commit of content changes in its map (`deltas`). At its end each noted record is read back from
 * the index and written down as it is: a frame says what is, not what was done, so a lost frame
 * costs only what it says. Content is the exception: of a map that is in the log only the change is
 * written, with the number of the frame it continues.
 *
 * `records` and `maps` say what the log has. They change while a frame is put together; if that or
 * the write fails, or the transaction is rolled back afterwards, they and the log no longer agree
 * with the index: `broken`, and the log is made anew by the next commit, in its transaction, or by
 * the keeper.
 *
 * Live bytes are estimated by what was last written of each record and map.
 */
#include "cache/unsent.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "cache/chunkmap.h"
#include "cache/logged.h"
#include "cache/setup_priv.h"
#include "cache/unsent_format.h"
#include "cache/unsent_model.h"
#include "cache/unsent_priv.h"
#include "crypto/kdf.h"
#include "meta/db_note.h"

#define TIDY_MIN_BYTES (UINT64_C(1) << 20)
#define FRAME_BYTES ((size_t)256 << 10) /* of one that is made of many records */

int unsent_new(struct volume *v)
{
	struct unsent *u = calloc(1, sizeof(*u));

	if (!u)
		return -ENOMEM;
	pthread_mutex_init(&u->sync_lock, NULL);
	pthread_mutex_init(&u->lock, NULL);
	v->unsent = u;
	return 0;
}

static void forget_deltas(struct unsent *u)
{
	struct unsent_delta *d;

	while ((d = u->deltas)) {
		u->deltas = d->next;
		unsent_content_done(&d->c);
		free(d);
	}
}

static void forget_touched(struct unsent *u)
{
	struct unsent_touched *t, *next;

	HASH_ITER (hh, u->touched, t, next) {
		HASH_DEL(u->touched, t);
		free(t);
	}
}

static void forget_logged(struct unsent *u)
{
	struct unsent_logged *l, *next;
	struct unsent_logged_map *m, *next_map;

	HASH_ITER (hh, u->records, l, next) {
		HASH_DEL(u->records, l);
		free(l);
	}
	HASH_ITER (hh, u->maps, m, next_map) {
		HASH_DEL(u->maps, m);
		free(m);
	}
	u->n_stores = 0;
	u->live = 0;
}

void unsent_free(struct volume *v)
{
	struct unsent *u = v->unsent;

	if (!u)
		return;
	forget_deltas(u);
	forget_touched(u);
	forget_logged(u);
	unsent_log_free(u->log);
	secret_free(u->key);
	secret_free(u->other);
	pthread_mutex_destroy(&u->sync_lock);
	pthread_mutex_destroy(&u->lock);
	free(u);
	v->unsent = NULL;
}

static int derive(const struct secret *index_key, struct secret **out)
{
	_cleanup_secret_ struct secret *key = NULL;
	int r = secret_new(KDF_KEY_LEN, &key);

	if (!r)
		r = kdf_blake2b(
			secret_cbytes(index_key), KDF_LABEL_UNSENT, NULL, 0, secret_bytes(key));
	if (!r)
		*out = steal_ptr(&key);
	return r;
}

int unsent_set_key(
	struct volume *v, const struct secret *index_key, const struct secret *other_key)
{
	struct secret *key = NULL, *other = NULL;
	int r = derive(index_key, &key);

	if (!r && other_key)
		r = derive(other_key, &other);
	if (r) {
		secret_free(key);
		return r;
	}
	secret_free(v->unsent->key);
	secret_free(v->unsent->other);
	v->unsent->key = key;
	v->unsent->other = other;
	return 0;
}

int unsent_load(struct volume *v, struct model *out)
{
	struct unsent *u = v->unsent;
	const struct unsent_copies copies = { logged_frame, v->logged };
	int r = unsent_model_load(v->dirfd, u->key, &copies, out);

	return r == CE_TAMPER && u->other ? unsent_model_load(v->dirfd, u->other, &copies, out) : r;
}

/* --- notes during a transaction --- */
static void touch(struct unsent *u, uint64_t store, const char *rid)
{
	struct unsent_id k = unsent_id_of(store, rid);
	struct unsent_touched *t;

	HASH_FIND(hh, u->touched, &k, sizeof(k), t);
	if (t)
		return;
	t = malloc(sizeof(*t));
	if (!t) {
		u->failed = true;
		return;
	}
	t->key = k;
	if (TABLE_ADD(hh, u->touched, key, t)) {
		free(t);
		u->failed = true;
	}
}

void unsent_note(struct volume *v, uint64_t store, const char *rid)
{
	if (v->unsent->on && *rid)
		touch(v->unsent, store, rid);
}

void unsent_op_changed(void *arg, uint64_t store, const char *rid)
{
	unsent_note(arg, store, rid);
}

static int add_change(void *arg, struct chunk_entry *e)
{
	struct unsent_content *c = arg;

	if (e->state == CHUNK_SEALED)
		c->puts[c->n_puts++] = e->c;
	else
		c->drops[c->n_drops++] = e->c.idx;
	return 0;
}

/* With room for `n` changes; NULL: not wanted, or no memory. */
static struct unsent_content *add_delta(struct unsent *u, uint64_t map, uint64_t cut, size_t n)
{
	struct unsent_delta *d;

	if (!u->on)
		return NULL;
	d = calloc(1, sizeof(*d));
	if (d) {
		d->c = (struct unsent_content){ .map = map, .cut = cut };
		d->c.puts = calloc(n + 1, sizeof(*d->c.puts));
		d->c.drops = calloc(n + 1, sizeof(*d->c.drops));
		d->next = u->deltas;
		u->deltas = d;
	}
	u->failed = u->failed || !d || !d->c.puts || !d->c.drops;
	return u->failed ? NULL : &d->c;
}

void unsent_content(struct volume *v, const struct content_map *m, struct chunkmap *changes)
{
	struct unsent_content *c = add_delta(v->unsent, m->id, changes->cut, changes->n_pending);

	if (c && chunkmap_each_pending(changes, add_change, c))
		v->unsent->failed = true;
}

void unsent_moved(struct volume *v, uint64_t map, const struct content_chunk *puts, size_t n)
{
	struct unsent_content *c = add_delta(v->unsent, map, CHUNKMAP_NO_CUT, n);

	if (c) {
		memcpy(c->puts, puts, n * sizeof(*puts));
		c->n_puts = n;
	}
}

/* A copy in the record of the transaction: a sync of that is then one of the frame. */
static void note(struct volume *v, struct unsent_log *log, const struct buffer *b, uint64_t seq)
{
	uint8_t head[LOGGED_FRAME_HEAD];

	memcpy(head, unsent_log_id(log), UNSENT_ID_LEN);
	store_le64(head + UNSENT_ID_LEN, seq);
	if (db_note(v->db, DB_NOTE_FRAME, head, sizeof(head), b->data, b->len))
		unsent_log_set_loose(log);
}

/* A log that is made anew is synced when it is published. */
static int append(struct volume *v, struct unsent_log *log, struct buffer *b)
{
	struct unsent *u = v->unsent;
	uint64_t seq;
	int r = b->len ? unsent_log_append(log, b->data, b->len, &seq) : 0;

	if (b->len && !r) {
		u->seq = seq + 1;
		if (log == u->log)
			note(v, log, b, seq);
	}
	if (b->data)
		secret_wipe(b->data, b->len);
	b->len = 0;
	return r;
}

static int put_touched(struct volume *v, struct unsent_log *log, struct buffer *b, size_t most)
{
	struct unsent *u = v->unsent;
	struct unsent_touched *t, *next;
	int r = 0;

	HASH_ITER (hh, u->touched, t, next) {
		if (!r)
			r = unsent_frame_record(v, b, &t->key);
		if (!r && b->len > most)
			r = append(v, log, b);
	}
	return r ? r : append(v, log, b);
}

/* --- the log made anew --- */
static int touch_op(void *arg, const struct op_row *op)
{
	touch(arg, op->store, op->rid.text);
	return 0;
}

static int fill_log(struct volume *v, struct unsent_log *log)
{
	struct unsent *u = v->unsent;
	struct buffer b = { 0 };
	int r;

	forget_logged(u);
	forget_deltas(u); /* the rows have them */
	u->failed = false;
	u->seq = 1;
	r = unsent_frame_volume(v, &b);
	if (!r)
		r = op_each(v->db, 0, touch_op, u);
	if (!r && u->failed)
		r = -ENOMEM;
	if (r >= 0)
		r = put_touched(v, log, &b, FRAME_BYTES);
	buffer_done(&b);
	return r;
}

static void set_beside(struct unsent *u, uint64_t bytes)
{
	pthread_mutex_lock(&u->lock);
	u->beside = bytes;
	pthread_mutex_unlock(&u->lock);
}

static void use(struct unsent *u, struct unsent_log *log)
{
	struct unsent_log *old;

	pthread_mutex_lock(&u->sync_lock);
	pthread_mutex_lock(&u->lock);
	old = u->log;
	u->log = log;
	u->broken = false;
	u->beside = 0;
	pthread_mutex_unlock(&u->lock);
	pthread_mutex_unlock(&u->sync_lock);
	unsent_log_free(old);
}

/* From what the index says now; its lock is held. */
static int make_anew(struct volume *v)
{
	struct unsent *u = v->unsent;
	struct unsent_log *log = NULL;
	int r;

	set_beside(u, u->live);
	r = unsent_log_make(v->dirfd, u->key, &log);
	if (!r)
		r = fill_log(v, log);
	if (!r)
		r = unsent_log_publish(log, v->dirfd);
	if (!r) {
		use(u, log);
		return 0;
	}
	unsent_log_free(log);
	unlinkat(v->dirfd, UNSENT_NEW_FILE, 0);
	set_beside(u, 0);
	return r;
}

/* --- hooks --- */

static void set_broken(struct unsent *u)
{
	pthread_mutex_lock(&u->lock);
	u->broken = true;
	pthread_mutex_unlock(&u->lock);
}

static bool is_broken(struct unsent *u)
{
	bool broken;

	pthread_mutex_lock(&u->lock);
	broken = u->broken;
	pthread_mutex_unlock(&u->lock);
	return broken;
}

static int append_touched(struct volume *v)
{
	struct unsent *u = v->unsent;
	struct buffer b = { 0 };
	int r = put_touched(v, u->log, &b, SIZE_MAX);

	buffer_done(&b);
	return r;
}

static int any_op(void *arg, const struct op_row *op)
{
	*(bool *)arg = true;
	return 1;
}

/* The transaction only takes work off: without room for the log it may go on, for that is how room
 * is made. What the log then says too much is found done. */
static bool nothing_left(struct volume *v)
{
	struct unsent_touched *t, *next;
	bool any = false;

	HASH_ITER (hh, v->unsent->touched, t, next)
		if (op_each_of_rid(v->db, t->key.store, t->key.rid.text, any_op, &any) < 0)
			any = true;
	return !any;
}

int unsent_before_commit(void *arg)
{
	struct volume *v = arg;
	struct unsent *u = v->unsent;
	int r;

	if (!u->on || (!u->touched && !u->failed))
		return 0;
	u->appended = true;
	if (is_broken(u) || u->failed)
		r = make_anew(v);
	else
		r = append_touched(v);
	if (r)
		set_broken(u);
	return (r == -ENOSPC || r == -EDQUOT) && nothing_left(v) ? 0 : r;
}

void unsent_ended(void *arg, bool committed)
{
	struct volume *v = arg;
	struct unsent *u = v->unsent;

	if (!committed && u->appended)
		set_broken(u);
	u->appended = u->failed = false;
	forget_touched(u);
	forget_deltas(u);
}

/* --- the rest --- */

int unsent_ahead(struct volume *v, bool *ahead)
{
	uint64_t opened = 0, op_seq = 0, logged_opened, logged_seq;
	int r = unsent_model_peek(v->dirfd, v->unsent->key, &logged_opened, &logged_seq);

	if (r == CE_TAMPER && v->unsent->other)
		r = unsent_model_peek(v->dirfd, v->unsent->other, &logged_opened, &logged_seq);
	if (r)
		return r;
	db_read(v->db);
	r = setting_get_u64(v->db, SETUP_OPENED, &opened);
	if (!r || r == -ENOENT)
		r = op_last_seq(v->db, &op_seq);
	db_unlock(v->db);
	if (!r)
		*ahead = logged_opened > opened || logged_seq > op_seq;
	return r;
}

int unsent_start(struct volume *v)
{
	struct unsent *u = v->unsent;
	int r;

	db_read(v->db);
	r = op_last_seq(v->db, &u->op_seq);
	if (!r)
		r = make_anew(v);
	if (!r)
		logged_done(v);
	else if (r == -ENOENT) /* a row names one that is not there */
		r = CE_CORRUPT;
	forget_touched(u);
	/* Without room there is the log of before, and the next commit makes it anew or fails. */
	if (r == -ENOSPC || r == -EDQUOT) {
		set_broken(u);
		r = 0;
	}
	u->on = !r;
	db_unlock(v->db);
	return r;
}

int unsent_rekey(struct volume *v, const struct secret *index_key)
{
	int r = FAILPOINT("rekey-unsent");

	if (r)
		return r;
	db_read(v->db);
	r = unsent_set_key(v, index_key, NULL);
	if (!r)
		r = make_anew(v);
	if (r) /* the next commit does it */
		set_broken(v->unsent);
	forget_touched(v->unsent);
	db_unlock(v->db);
	return r;
}

int unsent_sync(struct volume *v)
{
	struct unsent *u = v->unsent;
	int r = 0;

	pthread_mutex_lock(&u->sync_lock);
	if (u->log)
		r = unsent_log_sync(u->log);
	pthread_mutex_unlock(&u->sync_lock);
	if (r)
		set_broken(u);
	return r;
}

bool unsent_needs_sync(struct volume *v)
{
	struct unsent *u = v->unsent;
	bool loose;

	pthread_mutex_lock(&u->lock);
	loose = u->log && unsent_log_is_loose(u->log);
	pthread_mutex_unlock(&u->lock);
	return loose;
}

void unsent_synced(struct volume *v, uint64_t op_seq)
{
	struct unsent *u = v->unsent;
	struct buffer b = { 0 };
	uint64_t seq;

	db_read(v->db);
	if (u->on && !is_broken(u) && op_seq > u->op_seq) {
		if (unsent_row_put_synced(&b, op_seq) ||
			unsent_log_append(u->log, b.data, b.len, &seq))
			set_broken(u);
		else
			u->seq = seq + 1;
		u->op_seq = op_seq;
	}
	db_unlock(v->db);
	buffer_done(&b);
}

void unsent_tidy(struct volume *v)
{
	struct unsent *u = v->unsent;
	uint64_t bytes = unsent_bytes(v);
	int r = 0;

	if (!is_broken(u) && bytes < TIDY_MIN_BYTES)
		return;
	db_read(v->db);
	if (u->on && (is_broken(u) || u->live < bytes / 4))
		r = make_anew(v);
	forget_touched(u);
	db_unlock(v->db);
	if (r)
		log_debug("unsent.log was not made anew: %s", error_text(r));
}

uint64_t unsent_bytes(struct volume *v)
{
	struct unsent *u = v->unsent;
	uint64_t bytes;

	pthread_mutex_lock(&u->lock);
	bytes = u->beside + (u->log ? unsent_log_bytes(u->log) : 0);
	pthread_mutex_unlock(&u->lock);
	return bytes;
}
