#include "sync/upload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/file_reader.h"

#define PIECE_BYTES ((size_t)512 << 10)

struct piece {
	uint8_t *data;
	size_t len, sent;
};

struct upload {
	struct worker_job job;
	struct worker *worker;
	void (*resume)(void *arg);
	void *arg;
	uint64_t size, from, given;
	struct piece pieces[2];
	unsigned now; /* the piece that is sent; the other is the one that is read */
	bool reading; /* the job runs: what follows and the other piece are its own */
	bool paused;  /* HTTP waits for `resume` */
	bool again;   /* from the front, when the job has ended */
	bool orphaned;
	bool part; /* more of the file follows: no digest yet */

	struct file_reader *reader;
	uint64_t read;
	bool rewind;
	int error;
	uint8_t sha256[32];
};

static struct upload *upload_of(struct worker_job *j)
{
	return (struct upload *)((char *)j - offsetof(struct upload, job));
}

static int read_piece(struct upload *u)
{
	struct piece *p = &u->pieces[!u->now];
	size_t want = (size_t)MIN_OF(u->size - u->read, (uint64_t)PIECE_BYTES), got = 0;
	int r = u->rewind ? file_reader_rewind(u->reader) : 0;

	u->rewind = false;
	if (!r)
		r = file_reader_next(u->reader, p->data, want, &got);
	if (!r && got != want)
		r = -EIO;
	if (!r && u->read + got == u->size && !u->part)
		r = file_reader_sha256(u->reader, u->sha256);
	if (r)
		return r;
	p->sent = u->from > u->read ? (size_t)MIN_OF(u->from - u->read, (uint64_t)got) : 0;
	u->read += got;
	p->len = p->sent < got ? got : 0;
	return 0;
}

static void read_work(struct worker_job *j)
{
	struct upload *u = upload_of(j);

	u->error = read_piece(u);
}

static void free_all(struct upload *u)
{
	file_reader_free(u->reader);
	free(u->pieces[0].data);
	free(u->pieces[1].data);
	free(u);
}

static void start_reading(struct upload *u)
{
	if (u->read == u->size || u->error)
		return;
	u->reading = true;
	worker_run(u->worker, &u->job);
}

static void begin_again(struct upload *u)
{
	for (unsigned i = 0; i < 2; i++)
		u->pieces[i].len = u->pieces[i].sent = 0;
	u->read = 0;
	u->given = u->from;
	u->again = false;
	u->rewind = true;
	u->error = 0;
	start_reading(u);
}

static void read_done(struct worker_job *j, bool dropped)
{
	struct upload *u = upload_of(j);

	u->reading = false;
	if (u->orphaned) {
		free_all(u);
		return;
	}
	if (dropped)
		return;
	if (u->again) {
		begin_again(u);
	} else if (!u->error && u->read <= u->from && u->from) {
		start_reading(u);
	} else if (u->paused) {
		u->paused = false;
		u->resume(u->arg);
	}
}

static int begin(
	struct worker *w, struct file_reader *reader, struct upload like, struct upload **out)
{
	struct upload *u = calloc(1, sizeof(*u));
	int r = 0;

	if (!u) {
		file_reader_free(reader);
		return -ENOMEM;
	}
	*u = like;
	u->reader = reader;
	for (unsigned i = 0; i < 2 && !r; i++) {
		u->pieces[i].data = malloc(PIECE_BYTES);
		if (!u->pieces[i].data)
			r = -ENOMEM;
	}
	u->read = file_reader_offset(reader);
	if (!r && u->read == u->size && !u->part)
		r = file_reader_sha256(reader, u->sha256);
	if (r) {
		free_all(u);
		return r;
	}
	u->worker = w;
	u->given = u->from;
	u->job.work = read_work;
	u->job.done = read_done;
	start_reading(u);
	*out = u;
	return 0;
}

int upload_new(struct worker *w, struct file_reader *reader, uint64_t size, uint64_t from,
	void (*resume)(void *arg), void *arg, struct upload **out)
{
	return begin(w, reader,
		(struct upload){ .size = size, .from = from, .resume = resume, .arg = arg }, out);
}

int upload_new_part(struct worker *w, struct file_reader *reader, uint64_t end, uint64_t from,
	void (*resume)(void *arg), void *arg, struct upload **out)
{
	return begin(w, reader,
		(struct upload){
			.size = end, .from = from, .resume = resume, .arg = arg, .part = true },
		out);
}

/* Whether there is something to send: of this piece, or of the next, when that was read. */
static bool turn(struct upload *u)
{
	struct piece *p = &u->pieces[u->now];

	if (p->sent < p->len)
		return true;
	if (u->reading || !u->pieces[!u->now].len)
		return false;
	p->len = p->sent = 0;
	u->now = !u->now;
	start_reading(u);
	return true;
}

bool upload_ready(struct upload *u)
{
	u->paused = !turn(u) && u->given < u->size && (u->reading || !u->error);
	return !u->paused;
}

ssize_t upload_source(struct upload *u, void *buf, size_t len, uint64_t off)
{
	struct piece *p;

	if (off == u->from && u->given > off) {
		u->again = u->reading;
		if (!u->again)
			begin_again(u);
	}
	if (u->again || !turn(u)) {
		if (u->error && !u->reading)
			return u->error;
		u->paused = true;
		return 0;
	}
	if (off != u->given)
		return -EIO;
	p = &u->pieces[u->now];
	len = MIN_OF(len, p->len - p->sent);
	memcpy(buf, p->data + p->sent, len);
	p->sent += len;
	u->given += len;
	return (ssize_t)len;
}

struct file_reader *upload_take_reader(struct upload *u)
{
	return u->given == u->size && !u->reading && !u->again ? steal_ptr(&u->reader) : NULL;
}

bool upload_sha256(const struct upload *u, uint8_t out[static 32])
{
	if (u->given != u->size || u->again)
		return false;
	memcpy(out, u->sha256, sizeof(u->sha256));
	return true;
}

void upload_free(struct upload *u)
{
	if (!u)
		return;
	u->orphaned = true;
	if (!u->reading)
		free_all(u);
}
