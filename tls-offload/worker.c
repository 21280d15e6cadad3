#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "tls-offload/tlsd_priv.h"

#define EVENTS  256
#define ACCEPTS 64 /* in a turn, then those that stand get theirs */
#define TICK_MS 250
#define TICK_NS (TICK_MS * PK_NS_PER_MS)

/* ---- mail ---- */

int
tlso_box_init(struct tlso_box *b)
{
	b->first = NULL;
	b->last = &b->first;
	pthread_mutex_init(&b->lock, NULL);
	b->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return b->fd >= 0 ? 0 : -errno;
}

void
tlso_box_fini(struct tlso_box *b)
{
	if (b->last == NULL)
		return;
	if (b->fd >= 0)
		close(b->fd);
	pthread_mutex_destroy(&b->lock);
}

void
tlso_box_put(struct tlso_box *b, struct tlso_mail *m)
{
	uint64_t one = 1;
	bool was_empty;

	m->next = NULL;
	pthread_mutex_lock(&b->lock);
	was_empty = b->first == NULL;
	*b->last = m;
	b->last = &m->next;
	pthread_mutex_unlock(&b->lock);
	if (was_empty)
		(void)!write(b->fd, &one, sizeof(one));
}

unsigned int
tlso_box_open(struct tlso_box *b)
{
	struct tlso_mail *m, *next;
	unsigned int nb = 0;
	uint64_t count;

	(void)!read(b->fd, &count, sizeof(count));
	pthread_mutex_lock(&b->lock);
	m = b->first;
	b->first = NULL;
	b->last = &b->first;
	pthread_mutex_unlock(&b->lock);
	for (; m != NULL; m = next, nb++) {
		next = m->next;
		m->deliver(m);
	}
	return nb;
}

static void
on_box(struct tlso_event *e, uint32_t events)
{
	struct tlso_worker *w =
	    (struct tlso_worker *)((char *)e - offsetof(struct tlso_worker, box_event));

	(void)events;
	(void)tlso_box_open(&w->box);
}

/* ---- events ---- */

int
tlso_worker_watch(struct tlso_worker *w, struct tlso_event *e)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
		.data.ptr = e };

	return epoll_ctl(w->epoll, EPOLL_CTL_ADD, e->fd, &ev) < 0 ? -errno : 0;
}

void
tlso_worker_unwatch(struct tlso_worker *w, struct tlso_event *e)
{
	if (e->fd >= 0)
		(void)epoll_ctl(w->epoll, EPOLL_CTL_DEL, e->fd, NULL);
}

static void
on_accept(struct tlso_event *e, uint32_t events)
{
	struct tlso_listener *l =
	    (struct tlso_listener *)((char *)e - offsetof(struct tlso_listener, ev));

	(void)events;
	/* Listeners are level-triggered: what is left is there in the next turn. */
	for (unsigned int i = 0; i < ACCEPTS; i++) {
		int fd = accept4(e->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
			return;
		if (l->tunnel)
			tlso_tunnel_accept(l->worker, l->wire, fd);
		else
			tlso_flow_accept(l->worker, l->wire, fd);
	}
}

static int
listen_on(struct tlso_worker *w, const struct tlso_wire *wire, int family, bool tunnel,
    struct pk_diag *diag)
{
	uint16_t port = tunnel ? PK_TLS_PORT : (uint16_t)w->all->conf->plain_port;
	struct tlso_listener *l = &w->listener[w->nb_listeners];
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &l->ev };
	int fd = tlso_listen(wire, family, port);

	if (fd == -EAFNOSUPPORT)
		return 0; /* a machine without IPv6 */
	if (fd < 0) {
		pk_diag_set(diag, "port = %u %s: cannot listen on port %u: %s", wire->wire,
		    wire->iface, port, strerror(-fd));
		return fd;
	}
	*l = (struct tlso_listener){ .ev = { .fd = fd, .ready = on_accept },
		.worker = w,
		.wire = wire->wire,
		.tunnel = tunnel };
	w->nb_listeners++;
	return epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

static void
stop_listening(struct tlso_worker *w)
{
	for (unsigned int i = 0; i < w->nb_listeners; i++)
		close(w->listener[i].ev.fd);
	w->nb_listeners = 0;
}

/* ---- the loop ---- */

static void
recheck(struct tlso_worker *w, unsigned int what)
{
	struct tlso_tunnel *t, *next;

	if ((what & TLSO_RECHECK_DRAIN) != 0 && !w->draining) {
		w->draining = true;
		stop_listening(w);
		tlso_hbone_drain(w);
	}
	if ((what & TLSO_RECHECK_STOP) != 0)
		w->stop = true;
	for (t = w->tunnels; t != NULL; t = next) {
		next = t->next;
		if ((what & TLSO_RECHECK_TRUST) != 0)
			tlso_tunnel_recheck(t);
		if ((what & TLSO_RECHECK_POLICY) != 0 && t->state == TLSO_TUNNEL_OPEN)
			tlso_tunnel_reask(t);
	}
}

static void
tick(struct tlso_worker *w)
{
	struct tlso_flow *f, *next;

	if (w->now_ns - w->ticked_ns < TICK_NS)
		return;
	w->ticked_ns = w->now_ns;
	for (f = w->flows; f != NULL; f = next) {
		next = f->next;
		if (f->deadline_ns != 0 && w->now_ns >= f->deadline_ns)
			tlso_flow_end(f, TLSO_END_TIMEOUT);
	}
	tlso_hbone_tick(w, w->now_ns);
}

static void
pump_again(struct tlso_worker *w)
{
	struct tlso_flow *f = w->again, *next;

	w->again = NULL;
	for (; f != NULL; f = next) {
		next = f->again;
		f->again = NULL;
		f->queued = false;
		if (f->state != TLSO_FLOW_OVER)
			tlso_flow_pump(f);
	}
}

/* What ended in this loop, but for what is still under way. */
static void
bury(struct tlso_worker *w)
{
	struct tlso_flow *f, **fp = &w->dead_flows;
	struct tlso_tunnel *t, **tp = &w->dead_tunnels;

	while ((f = *fp) != NULL) {
		if (f->away != 0 || f->queued) {
			fp = &f->next;
			continue;
		}
		*fp = f->next;
		tlso_flow_free(f);
	}
	while ((t = *tp) != NULL) {
		if (t->away != 0) {
			tp = &t->next;
			continue;
		}
		*tp = t->next;
		tlso_hbone_free(t->hbone);
		tlso_tunnel_free(t);
	}
}

static void
pin(const struct tlso_worker *w)
{
	const struct pk_conf_list *cpus = &w->all->conf->cpus;
	cpu_set_t set;
	int rc;

	if (w->index >= cpus->nb)
		return;
	CPU_ZERO(&set);
	CPU_SET(strtoul(cpus->item[w->index], NULL, 10), &set);
	rc = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
	if (rc != 0)
		pk_warn("worker %u: cpu %s: %s", w->index, cpus->item[w->index], strerror(rc));
}

static void *
run(void *arg)
{
	struct tlso_worker *w = arg;
	struct epoll_event events[EVENTS];

	pin(w);
	for (;;) {
		bool waiting = w->again != NULL;
		int n = epoll_wait(w->epoll, events, EVENTS, waiting ? 0 : TICK_MS);
		unsigned int what;

		pthread_mutex_lock(&w->lock);
		w->now_ns = pk_clock_mono_ns();
		for (int i = 0; i < n; i++) {
			struct tlso_event *e = events[i].data.ptr;

			if (e->fd >= 0)
				e->ready(e, events[i].events);
		}
		pump_again(w);
		what = atomic_exchange_explicit(&w->recheck, 0, memory_order_acq_rel);
		if (what != 0)
			recheck(w, what);
		tick(w);
		bury(w);
		pthread_mutex_unlock(&w->lock);
		if (w->stop || (w->draining && w->flows == NULL && w->dead_flows == NULL))
			return NULL;
	}
}

int
tlso_worker_start(struct tlso_worker *w, struct tlso *all, unsigned int index, struct pk_diag *diag)
{
	int rc;

	w->all = all;
	w->index = index;
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	w->box_event.ready = on_box;
	w->now_ns = pk_clock_mono_ns();
	pthread_mutex_init(&w->lock, NULL);
	rc = w->epoll < 0 ? -errno : tlso_box_init(&w->box);
	if (rc == 0) {
		w->box_event.fd = w->box.fd;
		rc = tlso_worker_watch(w, &w->box_event);
	}
	if (rc < 0) {
		pk_diag_set(diag, "worker %u: %s", index, strerror(-rc));
		return rc;
	}
	for (unsigned int i = 0; rc == 0 && i < all->nb_wires; i++)
		for (unsigned int k = 0; rc == 0 && k < 4; k++)
			rc = listen_on(
			    w, &all->wire[i], k < 2 ? AF_INET : AF_INET6, k % 2 == 0, diag);
	if (rc < 0)
		return rc;
	rc = -pthread_create(&w->thread, NULL, run, w);
	w->running = rc == 0;
	if (rc < 0)
		pk_diag_set(diag, "worker %u: %s", index, strerror(-rc));
	return rc;
}

void
tlso_worker_tell(struct tlso_worker *w, unsigned int what)
{
	uint64_t one = 1;

	atomic_fetch_or_explicit(&w->recheck, what, memory_order_acq_rel);
	(void)!write(w->box.fd, &one, sizeof(one));
}

void
tlso_worker_join(struct tlso_worker *w)
{
	if (!w->running)
		return;
	tlso_worker_tell(w, TLSO_RECHECK_STOP);
	pthread_join(w->thread, NULL);
	w->running = false;
}

void
tlso_worker_destroy(struct tlso_worker *w)
{
	stop_listening(w);
	while (w->flows != NULL)
		tlso_flow_end(w->flows, TLSO_END_STOP);
	while (w->tunnels != NULL)
		tlso_tunnel_end(w->tunnels, TLSO_END_STOP);
	/* Nobody is left who could send anything back. */
	for (struct tlso_flow *f = w->dead_flows; f != NULL; f = f->next) {
		f->away = 0;
		f->queued = false;
	}
	for (struct tlso_tunnel *t = w->dead_tunnels; t != NULL; t = t->next)
		t->away = 0;
	bury(w);
	if (w->epoll >= 0)
		close(w->epoll);
	tlso_box_fini(&w->box);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
