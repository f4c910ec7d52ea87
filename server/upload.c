#include "server/upload.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"

struct upload {
	struct upload *next; /* the table's lock, as are the next three */
	struct upload_name name;
	unsigned uses;
	bool listed;
	pthread_mutex_t lock; /* guards what follows */
	struct body body;
	unsigned turn; /* of the use that may write */
	int64_t heard_ms;
};

struct uploads {
	pthread_mutex_t lock; /* guards the list */
	struct upload *first;
};

int server_uploads_new(struct uploads **out)
{
	struct uploads *all = calloc(1, sizeof(*all));

	if (!all)
		return -ENOMEM;
	pthread_mutex_init(&all->lock, NULL);
	*out = all;
	return 0;
}

static void free_one(struct upload *u)
{
	server_body_done(&u->body);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

/* The table's lock is held. Whoever uses it still frees it. */
static void unlist(struct upload **at)
{
	struct upload *u = *at;

	*at = u->next;
	u->listed = false;
	if (!u->uses)
		free_one(u);
}

void server_uploads_free(struct uploads *all)
{
	if (!all)
		return;
	while (all->first)
		unlist(&all->first);
	pthread_mutex_destroy(&all->lock);
	free(all);
}

static int64_t heard_ms(struct upload *u)
{
	int64_t ms;

	pthread_mutex_lock(&u->lock);
	ms = u->heard_ms;
	pthread_mutex_unlock(&u->lock);
	return ms;
}

void server_uploads_tick(struct uploads *all, int64_t now_ms)
{
	struct upload **at = &all->first;

	pthread_mutex_lock(&all->lock);
	while (*at) {
		if (now_ms - heard_ms(*at) > UPLOAD_KEEP_MS)
			unlist(at);
		else
			at = &(*at)->next;
	}
	pthread_mutex_unlock(&all->lock);
}

static struct upload **find(struct uploads *all, const struct upload_name *name)
{
	struct upload **at = &all->first;

	while (*at && ((*at)->name.account != name->account || (*at)->name.store != name->store ||
			      memcmp((*at)->name.key, name->key, sizeof(name->key))))
		at = &(*at)->next;
	return at;
}

/* The table's lock is held. Makes room for one more of the account. */
static void drop_oldest(struct uploads *all, int64_t account)
{
	struct upload **oldest = NULL;
	int64_t least_ms = INT64_MAX;
	unsigned n = 0;

	for (struct upload **at = &all->first; *at; at = &(*at)->next) {
		int64_t ms = heard_ms(*at);

		if ((*at)->name.account != account)
			continue;
		n++;
		if (ms < least_ms) {
			least_ms = ms;
			oldest = at;
		}
	}
	if (n >= UPLOADS_PER_ACCOUNT)
		unlist(oldest);
}

/* The upload's lock is held: whoever used it until now is out. */
static struct upload_use take_over(struct upload *u)
{
	u->heard_ms = clock_boot_ms();
	return (struct upload_use){ u, ++u->turn };
}

int server_upload_begin(struct uploads *all, const struct upload_name *name, struct body *body,
	struct upload_use *out)
{
	struct upload *u = calloc(1, sizeof(*u)), **old;

	if (!u)
		return -ENOMEM;
	pthread_mutex_init(&u->lock, NULL);
	u->name = *name;
	u->body = *body;
	u->uses = 1;
	u->listed = true;
	*out = take_over(u);
	pthread_mutex_lock(&all->lock);
	old = find(all, name);
	if (*old)
		unlist(old);
	drop_oldest(all, name->account);
	u->next = all->first;
	all->first = u;
	pthread_mutex_unlock(&all->lock);
	return 0;
}

int server_upload_resume(struct uploads *all, const struct upload_name *name, uint64_t offset,
	struct upload_use *out)
{
	struct upload *u;
	int r = -ENOENT;

	pthread_mutex_lock(&all->lock);
	u = *find(all, name);
	if (u) {
		pthread_mutex_lock(&u->lock);
		if (u->body.len == offset) {
			*out = take_over(u);
			u->uses++;
			r = 0;
		}
		pthread_mutex_unlock(&u->lock);
	}
	pthread_mutex_unlock(&all->lock);
	return r;
}

/* The upload's lock is held. */
static bool has(struct upload *u, uint64_t offset, const uint8_t *sha256)
{
	uint8_t digest[KDF_SHA256_LEN];

	return u->body.len == offset && u->body.hash && !kdf_sha256_peek(u->body.hash, digest) &&
	       !memcmp(digest, sha256, sizeof(digest));
}

int server_upload_adopt(struct uploads *all, const struct upload_name *ahead,
	const uint8_t sha256[static KDF_SHA256_LEN], const struct upload_name *name,
	uint64_t offset, struct upload_use *out)
{
	struct upload *u, **old;
	int r = -ENOENT;

	pthread_mutex_lock(&all->lock);
	u = *find(all, ahead);
	if (u) {
		pthread_mutex_lock(&u->lock);
		if (has(u, offset, sha256)) {
			*out = take_over(u);
			u->uses++;
			r = 0;
		}
		pthread_mutex_unlock(&u->lock);
	}
	old = find(all, name);
	if (!r && *old && *old != u)
		unlist(old);
	if (!r)
		u->name = *name;
	pthread_mutex_unlock(&all->lock);
	return r;
}

int server_upload_offset(struct uploads *all, const struct upload_name *name, uint64_t *offset)
{
	struct upload *u;

	pthread_mutex_lock(&all->lock);
	u = *find(all, name);
	if (u) {
		pthread_mutex_lock(&u->lock);
		take_over(u);
		*offset = u->body.len;
		pthread_mutex_unlock(&u->lock);
	}
	pthread_mutex_unlock(&all->lock);
	return u ? 0 : -ENOENT;
}

/* Half a piece may be in the file: there is no going on behind it, and its room is wanted. */
static void start_over(struct upload *u)
{
	const struct body_dirs *dirs = u->body.dirs;
	uint64_t max = u->body.max;

	server_body_done(&u->body);
	server_body_init(&u->body, dirs, max);
	u->turn++;
}

int server_upload_write(struct upload_use *use, const void *data, size_t len)
{
	struct upload *u = use->upload;
	int r = -ESTALE;

	pthread_mutex_lock(&u->lock);
	if (u->turn == use->turn) {
		u->heard_ms = clock_boot_ms();
		r = server_body_write(&u->body, data, len);
		if (r)
			start_over(u);
	}
	pthread_mutex_unlock(&u->lock);
	return r;
}

int server_upload_pause(struct upload_use *use, uint64_t *offset)
{
	struct upload *u = use->upload;
	int r = -ESTALE;

	pthread_mutex_lock(&u->lock);
	if (u->turn == use->turn) {
		*offset = u->body.len;
		r = 0;
	}
	pthread_mutex_unlock(&u->lock);
	return r;
}

void server_upload_forget(struct uploads *all, const struct upload_name *name)
{
	struct upload **at;

	pthread_mutex_lock(&all->lock);
	at = find(all, name);
	if (*at)
		unlist(at);
	pthread_mutex_unlock(&all->lock);
}

int server_upload_take(struct uploads *all, struct upload_use *use, struct body *out)
{
	struct upload *u = use->upload, **at;
	int r = -ESTALE;

	pthread_mutex_lock(&all->lock);
	pthread_mutex_lock(&u->lock);
	if (u->turn == use->turn) {
		*out = u->body;
		server_body_init(&u->body, out->dirs, out->max);
		u->turn++;
		r = 0;
	}
	pthread_mutex_unlock(&u->lock);
	at = find(all, &u->name);
	if (!r && *at == u)
		unlist(at);
	pthread_mutex_unlock(&all->lock);
	return r;
}

void server_upload_done(struct uploads *all, struct upload_use *use)
{
	struct upload *u = steal_ptr(&use->upload);

	if (!u)
		return;
	pthread_mutex_lock(&all->lock);
	if (!--u->uses && !u->listed)
		free_one(u);
	pthread_mutex_unlock(&all->lock);
}
