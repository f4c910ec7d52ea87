#include "sync/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/secret.h"

struct queue {
	struct worker_job *first, **last;
};

struct worker {
	pthread_t thread;
	pthread_mutex_t lock; /* leaf; guards what follows */
	pthread_cond_t more;
	struct queue todo, ended;
	bool stop;
	void (*wake)(void *arg);
	void *arg;
};

static void queue_init(struct queue *q)
{
	q->first = NULL;
	q->last = &q->first;
}

static void queue_add(struct queue *q, struct worker_job *j)
{
	j->next = NULL;
	*q->last = j;
	q->last = &j->next;
}

static struct worker_job *queue_pop(struct queue *q)
{
	struct worker_job *j = q->first;

	if (!j)
		return NULL;
	q->first = j->next;
	if (!q->first)
		q->last = &q->first;
	return j;
}

struct beginning {
	void *(*main)(void *arg);
	void *arg;
};

/* Names and more went through the calls of a thread that ends. */
static void *begin(void *arg)
{
	struct beginning b = *(struct beginning *)arg;
	void *out;

	free(arg);
	out = b.main(b.arg);
	secret_wipe_stack();
	return out;
}

int worker_thread(pthread_t *thread, void *(*main)(void *arg), void *arg)
{
	struct beginning *b = malloc(sizeof(*b));
	sigset_t all, before;
	int r;

	if (!b)
		return -EAGAIN;
	*b = (struct beginning){ main, arg };
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	r = pthread_create(thread, NULL, begin, b);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r)
		free(b);
	return r ? -EAGAIN : 0;
}

static struct worker_job *next_job(struct worker *w)
{
	struct worker_job *j = NULL;

	pthread_mutex_lock(&w->lock);
	while (!w->stop && !w->todo.first)
		pthread_cond_wait(&w->more, &w->lock);
	if (!w->stop)
		j = queue_pop(&w->todo);
	pthread_mutex_unlock(&w->lock);
	return j;
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct worker_job *j;

	while ((j = next_job(w))) {
		j->work(j);
		pthread_mutex_lock(&w->lock);
		queue_add(&w->ended, j);
		pthread_mutex_unlock(&w->lock);
		w->wake(w->arg);
	}
	return NULL;
}

int worker_new(void (*wake)(void *arg), void *arg, struct worker **out)
{
	struct worker *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	queue_init(&w->todo);
	queue_init(&w->ended);
	w->wake = wake;
	w->arg = arg;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->more, NULL);
	if (worker_thread(&w->thread, worker_main, w)) {
		pthread_cond_destroy(&w->more);
		pthread_mutex_destroy(&w->lock);
		free(w);
		return -EAGAIN;
	}
	*out = w;
	return 0;
}

void worker_run(struct worker *w, struct worker_job *j)
{
	pthread_mutex_lock(&w->lock);
	queue_add(&w->todo, j);
	pthread_cond_signal(&w->more);
	pthread_mutex_unlock(&w->lock);
}

static struct worker_job *pop_locked(struct worker *w, struct queue *q)
{
	struct worker_job *j;

	pthread_mutex_lock(&w->lock);
	j = queue_pop(q);
	pthread_mutex_unlock(&w->lock);
	return j;
}

void worker_reap(struct worker *w)
{
	struct worker_job *j;

	while ((j = pop_locked(w, &w->ended)))
		j->done(j, false);
}

void worker_free(struct worker *w)
{
	struct worker_job *j;

	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->more);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	while ((j = pop_locked(w, &w->ended)))
		j->done(j, false);
	while ((j = pop_locked(w, &w->todo)))
		j->done(j, true);
	pthread_cond_destroy(&w->more);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
