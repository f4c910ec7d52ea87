/*
 * Theory of operation.
 *
 *            ┌──────── request taken, run, answered ────────┐
 *            ▼                                              │
 *   PARKED ─────▶ READER ── loop_yield ──▶ SLOW OPERATION ──┘ (reader again)
 *      ▲             │
 *      └─ no request and another reader is there
 *
 * `readers` counts the threads in READER and is never 0 while the loop runs: who leaves the state
 * as the last one first wakes or starts another (loop_yield), or stays and sleeps in poll
 * (loop_idle). Changes are made under the lock; the path to a request that is already
 * there takes none.
 *
 * The descriptor is non-blocking, so that a reader can look for the next request before it sleeps
 * (loop_spin). Whether that pays depends on where the scheduler puts program and daemon: each on its
 * own core, it saves waking one; both on one core, it keeps the program from it. Nothing tells which,
 * so it is measured: some requests are taken one way and some the other, and the way with the shorter
 * pauses between an answer and the next request stays until it is tried again (loop_learn).
 */
#include "fs/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <fuse_lowlevel.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/secret.h"

#define LOOP_MAX_DEFAULT 512
#define LOOP_KEEP 4   /* parked threads that stay */
#define LOOP_IDLE_S 5 /* others go after this */
#define LOOP_STACK (256 * 1024)
#define LOOP_SPIN_NS 40000
#define LOOP_SPIN_MISSES 4 /* looks in vain in a row after which it is given up */
/* A stretch of pauses taken one way, of which the first do not count as threads may have to move; every
 * LOOP_TRY_OTHERth stretch is the other way. A longer pause than LOOP_PAUSE_MAX_NS is the program's. */
#define LOOP_STRETCH 128
#define LOOP_STRETCH_SKIP 32
#define LOOP_TRY_OTHER 32
#define LOOP_PAUSE_MAX_NS 500000
#define LOOP_DRAIN_MS 200  /* how long requests are still answered after loop_stop */
#define LOOP_STREAK 16     /* requests without a pause after which a further reader joins */

/* Two ways: 1 looks before sleeping, 0 does not. */
struct learning {
	atomic_uint way; /* read without the lock */
	unsigned pauses, stretches;
	int64_t sum_ns, mean_ns[2]; /* mean_ns: 0 = not tried yet */
};

struct loop {
	struct fuse_session *session;
	int fd, stop_fd;
	unsigned max, readers_max;
	int64_t spin_ns;
	atomic_llong stop_by_ms; /* 0: not stopping */

	pthread_mutex_t lock;                     /* leaf */
	pthread_cond_t wake;                      /* parked threads */
	pthread_cond_t ended;                     /* loop_run */
	unsigned threads, readers, parked, calls; /* calls: parked threads that are to read */
	struct learning learning;
	bool stopped;
	int error;
};

struct worker {
	struct loop *loop;
	bool reader;
	unsigned streak, misses;
	bool waited; /* for the disk, in this request */
	struct fuse_buf buf;
	size_t buf_used;
	void *scratch;
	size_t scratch_len, scratch_used;
};

static _Thread_local struct worker *loop_self;

static void *loop_thread(void *arg);

/* A thread that sleeps, or is gone, has nothing of what passed through it. */
static void loop_wipe(struct worker *w)
{
	secret_wipe(w->buf.mem, w->buf_used);
	secret_wipe(w->scratch, w->scratch_used);
	w->buf_used = w->scratch_used = 0;
	secret_wipe_registers();
}

int loop_new(struct fuse_session *se, unsigned threads, struct loop **out)
{
	struct loop *l = calloc(1, sizeof(*l));
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (!l)
		return -ENOMEM;
	l->session = se;
	l->fd = fuse_session_fd(se);
	l->max = threads ? threads : LOOP_MAX_DEFAULT;
	l->readers_max = cpus > 2 ? (unsigned)cpus / 2 : 1;
	l->spin_ns = cpus > 1 ? LOOP_SPIN_NS : 0;
	l->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->stop_fd < 0 || fcntl(l->fd, F_SETFL, fcntl(l->fd, F_GETFL) | O_NONBLOCK) < 0) {
		int r = -errno;

		if (l->stop_fd >= 0)
			close(l->stop_fd);
		free(l);
		return r;
	}
	l->learning.way = 1;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->wake, NULL);
	pthread_cond_init(&l->ended, NULL);
	*out = l;
	return 0;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	close(l->stop_fd);
	pthread_cond_destroy(&l->wake);
	pthread_cond_destroy(&l->ended);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

/* Lock held. */
static int loop_spawn(struct loop *l)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	if (l->threads >= l->max)
		return -EAGAIN;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, LOOP_STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&thread, &attr, loop_thread, l);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r == 0)
		l->threads++;
	return r;
}

/* Lock held: one reader more, woken or started. */
static int loop_add_reader(struct loop *l)
{
	int r = 0;

	if (l->parked > l->calls) {
		l->calls++;
		pthread_cond_signal(&l->wake);
	} else {
		r = loop_spawn(l);
	}
	if (r == 0)
		l->readers++;
	return r;
}

static void loop_end(struct loop *l, int error)
{
	uint64_t one = 1;

	pthread_mutex_lock(&l->lock);
	l->stopped = true;
	if (error && !l->error)
		l->error = error;
	pthread_cond_broadcast(&l->wake);
	pthread_mutex_unlock(&l->lock);
	if (write(l->stop_fd, &one, sizeof(one)) < 0)
		log_debug("loop: the stop event is already set");
}

/* What is already asked is still answered: it may be the kernel's last dirty pages. */
void loop_stop(struct loop *l)
{
	atomic_store(&l->stop_by_ms, clock_boot_ms() + LOOP_DRAIN_MS);
	loop_end(l, 0);
}

static bool loop_must_end(struct loop *l)
{
	int64_t by = atomic_load_explicit(&l->stop_by_ms, memory_order_relaxed);

	return fuse_session_exited(l->session) || (by && clock_boot_ms() > by);
}

int loop_run(struct loop *l)
{
	int r;

	pthread_mutex_lock(&l->lock);
	r = l->stopped ? 0 : loop_add_reader(l);
	if (r)
		l->error = r;
	while (l->threads > 0)
		pthread_cond_wait(&l->ended, &l->lock);
	r = l->error;
	pthread_mutex_unlock(&l->lock);
	return r;
}

bool loop_yield(void)
{
	struct worker *w = loop_self;
	struct loop *l;
	bool ok = true;

	if (!w || !w->reader)
		return true;
	l = w->loop;
	pthread_mutex_lock(&l->lock);
	if (l->readers == 1 && !l->stopped)
		ok = loop_add_reader(l) == 0;
	if (ok) {
		l->readers--;
		w->reader = false;
	}
	pthread_mutex_unlock(&l->lock);
	return ok;
}

/* A read of the disk is short mostly: handed over only when somebody waits. */
static void loop_before_wait(void)
{
	struct pollfd p = {.fd = loop_self->loop->fd, .events = POLLIN};

	loop_self->waited = true;
	if (loop_self->reader && poll(&p, 1, 0) > 0 && !loop_yield())
		log_debug("loop: no other thread");
}

void *loop_scratch(size_t len)
{
	struct worker *w = loop_self;
	void *bigger;

	if (len > w->scratch_len) {
		bigger = malloc(len);
		if (!bigger)
			return NULL;
		secret_wipe(w->scratch, w->scratch_used);
		free(w->scratch);
		w->scratch = bigger;
		w->scratch_len = len;
	}
	w->scratch_used = MAX_OF(w->scratch_used, len);
	return w->scratch;
}

/* Lock held. Sleeps until called or stopped; false when the thread is to end. */
static bool loop_park(struct loop *l)
{
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += LOOP_IDLE_S;
	l->parked++;
	while (!l->stopped && l->calls == 0 && r == 0)
		r = pthread_cond_timedwait(&l->wake, &l->lock, &until);
	if (l->calls == 0 && !l->stopped && l->parked <= LOOP_KEEP) {
		while (!l->stopped && l->calls == 0)
			pthread_cond_wait(&l->wake, &l->lock);
	}
	l->parked--;
	if (l->calls == 0)
		return false;
	l->calls--;
	return !l->stopped;
}

/* Lock held. */
static void loop_end_stretch(struct learning *g)
{
	int64_t mean_ns = g->sum_ns / (LOOP_STRETCH - LOOP_STRETCH_SKIP);
	unsigned better;

	g->mean_ns[g->way] = g->mean_ns[g->way] ? (g->mean_ns[g->way] + mean_ns) / 2 : mean_ns;
	/* Looking is left for a clear gain only. */
	better = g->mean_ns[1] <= g->mean_ns[0] + g->mean_ns[0] / 8;
	if (!g->mean_ns[!g->way])
		g->way = !g->way;
	else
		g->way = ++g->stretches % LOOP_TRY_OTHER ? better : !better;
	g->sum_ns = 0;
	g->pauses = 0;
}

static void loop_learn(struct loop *l, int64_t pause_ns)
{
	struct learning *g = &l->learning;

	if (l->spin_ns == 0 || pause_ns > LOOP_PAUSE_MAX_NS)
		return;
	pthread_mutex_lock(&l->lock);
	if (++g->pauses > LOOP_STRETCH_SKIP)
		g->sum_ns += pause_ns;
	if (g->pauses == LOOP_STRETCH)
		loop_end_stretch(g);
	pthread_mutex_unlock(&l->lock);
}

/* Who waited for the disk sleeps at once: looking would hold the core that program and daemon share
 * then. */
static bool loop_looks(struct worker *w)
{
	struct loop *l = w->loop;

	if (l->spin_ns == 0 || w->misses >= LOOP_SPIN_MISSES || w->waited)
		return false;
	return atomic_load_explicit(&l->learning.way, memory_order_relaxed);
}

static bool loop_spin(struct worker *w)
{
	struct loop *l = w->loop;
	struct pollfd p = { .fd = l->fd, .events = POLLIN };
	int64_t end;

	if (!loop_looks(w))
		return false;
	end = clock_boot_ns() + l->spin_ns;
	do {
		if (poll(&p, 1, 0) != 0) {
			w->misses = 0;
			return true;
		}
	} while (clock_boot_ns() < end);
	w->misses++;
	return false;
}

static void loop_sleep(struct worker *w)
{
	struct pollfd p[2] = {
		{ .fd = w->loop->fd, .events = POLLIN },
		{ .fd = w->loop->stop_fd, .events = POLLIN },
	};

	if (poll(p, 2, -1) < 0 && errno != EINTR)
		log_debug("loop: poll failed");
}

/* No request is there, and who was to look has. False when the thread is to end. */
static bool loop_rest(struct worker *w)
{
	struct loop *l = w->loop;
	bool go = true;

	loop_wipe(w);
	pthread_mutex_lock(&l->lock);
	if (l->readers > 1) {
		l->readers--;
		w->reader = false;
		go = loop_park(l);
		w->reader = go;
		pthread_mutex_unlock(&l->lock);
		return go;
	}
	pthread_mutex_unlock(&l->lock);
	loop_sleep(w);
	return true;
}

/* No request is there. False when the thread is to end. */
static bool loop_idle(struct worker *w)
{
	int64_t start = clock_boot_ns(), pause_ns;
	bool go = true;

	w->streak = 0;
	if (atomic_load(&w->loop->stop_by_ms))
		return false;
	if (!loop_spin(w))
		go = loop_rest(w);
	pause_ns = clock_boot_ns() - start;
	/* Had it looked a little longer it would have found it: it may look again next time. */
	if (pause_ns < 2 * w->loop->spin_ns)
		w->misses = 0;
	if (go && !w->waited)
		loop_learn(w->loop, pause_ns);
	return go;
}

/* After a slow operation, or after many requests in a row. */
static void loop_balance(struct worker *w)
{
	struct loop *l = w->loop;

	if (w->reader && ++w->streak % LOOP_STREAK)
		return;
	pthread_mutex_lock(&l->lock);
	if (!w->reader) {
		l->readers++;
		w->reader = true;
	} else if (l->readers < l->readers_max && !l->stopped && loop_add_reader(l)) {
		log_debug("loop: no further reader");
	}
	pthread_mutex_unlock(&l->lock);
}

static void loop_work(struct worker *w)
{
	struct fuse_session *se = w->loop->session;
	bool go = true;
	int r = 0;

	while (go && !loop_must_end(w->loop)) {
		r = fuse_session_receive_buf(se, &w->buf);
		if (r > 0) {
			w->waited = false;
			w->buf_used = MAX_OF(w->buf_used, (size_t)r);
			fuse_session_process_buf(se, &w->buf);
			loop_balance(w);
		} else if (r == -EAGAIN) {
			go = loop_idle(w);
		} else if (r != -EINTR) {
			break;
		}
	}
	if (fuse_session_exited(se) || (r < 0 && r != -EAGAIN && r != -EINTR))
		loop_end(w->loop, fuse_session_exited(se) ? 0 : r);
}

static void *loop_thread(void *arg)
{
	struct loop *l = arg;
	struct worker w = { .loop = l, .reader = true };

	loop_self = &w;
	io_on_wait(loop_before_wait);
	loop_work(&w);
	loop_wipe(&w);
	free(w.buf.mem);
	free(w.scratch);
	pthread_mutex_lock(&l->lock);
	if (w.reader)
		l->readers--;
	l->threads--;
	if (l->threads == 0)
		pthread_cond_broadcast(&l->ended);
	pthread_mutex_unlock(&l->lock);
	return NULL;
}
