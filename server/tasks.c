#include "server/tasks.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct tasks {
	pthread_mutex_t lock; /* guards what follows; a leaf */
	pthread_cond_t wake;
	struct task *first, **last;
	unsigned queued, max;
	bool stopping;
	unsigned n_threads;
	pthread_t threads[];
};

static void *worker(void *arg)
{
	struct tasks *t = arg;
	struct task *task;

	pthread_mutex_lock(&t->lock);
	while (!t->stopping) {
		task = t->first;
		if (!task) {
			pthread_cond_wait(&t->wake, &t->lock);
			continue;
		}
		t->first = task->next;
		if (!t->first)
			t->last = &t->first;
		t->queued--;
		pthread_mutex_unlock(&t->lock);
		task->run(task, 0);
		pthread_mutex_lock(&t->lock);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

int server_tasks_new(unsigned threads, unsigned queued, struct tasks **out)
{
	struct tasks *t = calloc(1, sizeof(*t) + threads * sizeof(t->threads[0]));
	int r = 0;

	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->wake, NULL);
	t->last = &t->first;
	t->max = queued;
	while (!r && t->n_threads < threads) {
		r = -pthread_create(&t->threads[t->n_threads], NULL, worker, t);
		if (!r)
			t->n_threads++;
	}
	if (r) {
		server_tasks_stop(t);
		server_tasks_free(t);
		return r;
	}
	*out = t;
	return 0;
}

int server_tasks_submit(struct tasks *t, struct task *task)
{
	int r = -EBUSY;

	pthread_mutex_lock(&t->lock);
	if (!t->stopping && t->queued < t->max) {
		task->next = NULL;
		*t->last = task;
		t->last = &task->next;
		t->queued++;
		pthread_cond_signal(&t->wake);
		r = 0;
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

void server_tasks_stop(struct tasks *t)
{
	struct task *left;

	pthread_mutex_lock(&t->lock);
	t->stopping = true;
	left = t->first;
	t->first = NULL;
	t->last = &t->first;
	t->queued = 0;
	pthread_cond_broadcast(&t->wake);
	pthread_mutex_unlock(&t->lock);
	while (left) {
		struct task *task = left;

		left = task->next;
		task->run(task, -EBUSY);
	}
	for (; t->n_threads; t->n_threads--)
		pthread_join(t->threads[t->n_threads - 1], NULL);
}

void server_tasks_free(struct tasks *t)
{
	if (!t)
		return;
	pthread_cond_destroy(&t->wake);
	pthread_mutex_destroy(&t->lock);
	free(t);
}
