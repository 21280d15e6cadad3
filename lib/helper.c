#include "lib/helper.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/event.h>

/* A chain with its end, so that order is kept. */
struct chain {
	struct pk_job *first;
	struct pk_job **last;
};

struct pk_helper {
	pthread_t thread;
	pthread_mutex_t lock; /* guards the members down to `stop` */
	pthread_cond_t work;
	struct chain given;
	struct chain done;
	bool stop;
	int wake; /* eventfd: something is in `done` */
	struct event *event;
};

static void
chain_init(struct chain *c)
{
	c->first = NULL;
	c->last = &c->first;
}

static void
chain_add(struct chain *c, struct pk_job *job)
{
	job->next = NULL;
	*c->last = job;
	c->last = &job->next;
}

static struct pk_job *
chain_take(struct chain *c)
{
	struct pk_job *job = c->first;

	if (job != NULL && (c->first = job->next) == NULL)
		c->last = &c->first;
	return job;
}

static void *
thread_main(void *arg)
{
	struct pk_helper *h = arg;
	uint64_t one = 1;

	pthread_mutex_lock(&h->lock);
	for (;;) {
		struct pk_job *job = chain_take(&h->given);

		if (job == NULL) {
			if (h->stop)
				break;
			pthread_cond_wait(&h->work, &h->lock);
			continue;
		}
		pthread_mutex_unlock(&h->lock);
		job->work(job);
		pthread_mutex_lock(&h->lock);
		chain_add(&h->done, job);
		(void)!write(h->wake, &one, sizeof(one)); /* a full counter wakes just as well */
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

static void
run_done(struct pk_helper *h)
{
	struct pk_job *job;

	do {
		pthread_mutex_lock(&h->lock);
		job = chain_take(&h->done);
		pthread_mutex_unlock(&h->lock);
		if (job != NULL)
			job->done(job);
	} while (job != NULL);
}

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	uint64_t count;

	(void)what;
	(void)!read(fd, &count, sizeof(count));
	run_done(arg);
}

int
pk_helper_create(
    struct pk_helper **out, struct event_base *base, const char *name, struct pk_diag *diag)
{
	struct pk_helper *h = calloc(1, sizeof(*h));
	int err;

	if (h == NULL) {
		pk_diag_set(diag, "no memory for a helper thread");
		return -ENOMEM;
	}
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->work, NULL);
	chain_init(&h->given);
	chain_init(&h->done);
	h->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (h->wake < 0) {
		err = -errno;
		goto fail;
	}
	h->event = event_new(base, h->wake, EV_READ | EV_PERSIST, on_wake, h);
	if (h->event == NULL || event_add(h->event, NULL) != 0) {
		err = -ENOMEM;
		goto fail;
	}
	err = -pthread_create(&h->thread, NULL, thread_main, h);
	if (err != 0)
		goto fail;
	pthread_setname_np(h->thread, name);
	*out = h;
	return 0;
fail:
	pk_diag_set(diag, "helper thread \"%s\" could not be started: %s", name, strerror(-err));
	if (h->event != NULL)
		event_free(h->event);
	if (h->wake >= 0)
		close(h->wake);
	pthread_cond_destroy(&h->work);
	pthread_mutex_destroy(&h->lock);
	free(h);
	return err;
}

void
pk_helper_destroy(struct pk_helper *h)
{
	if (h == NULL)
		return;
	pthread_mutex_lock(&h->lock);
	h->stop = true;
	pthread_cond_signal(&h->work);
	pthread_mutex_unlock(&h->lock);
	pthread_join(h->thread, NULL);
	run_done(h);
	event_free(h->event);
	close(h->wake);
	pthread_cond_destroy(&h->work);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

void
pk_helper_give(struct pk_helper *h, struct pk_job *job)
{
	pthread_mutex_lock(&h->lock);
	chain_add(&h->given, job);
	pthread_cond_signal(&h->work);
	pthread_mutex_unlock(&h->lock);
}
