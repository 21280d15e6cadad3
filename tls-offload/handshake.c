#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <openssl/err.h>

#include "lib/clock.h"
#include "tls-offload/tlsd_priv.h"

#define EVENTS  128
#define TICK_MS 100

/*
 * A thread that shakes hands.  A tunnel comes by mail with its socket, connecting or accepted, and goes back when the
 * handshake is over, one way or the other.
 */
static void
finish(struct tlso_handshaker *h, struct tlso_tunnel *t, int error)
{
	(void)epoll_ctl(h->epoll, EPOLL_CTL_DEL, t->ev.fd, NULL);
	if (t->hs_prev != NULL)
		t->hs_prev->hs_next = t->hs_next;
	else
		h->first = t->hs_next;
	if (t->hs_next != NULL)
		t->hs_next->hs_prev = t->hs_prev;
	t->hs_error = error;
	tlso_box_put(&t->worker->box, &t->handshake);
}

static int
tcp_error(int fd)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		return -errno;
	return -err;
}

static void
step(struct tlso_handshaker *h, struct tlso_tunnel *t)
{
	int rc;

	ERR_clear_error();
	rc = SSL_do_handshake(t->ssl);
	if (rc == 1) {
		/* What it holds beside us is for the handshake, and the worker's next loop. */
		finish(h, t, 0);
		return;
	}
	switch (SSL_get_error(t->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return;
	case SSL_ERROR_SYSCALL:
		if (t->check.why.text[0] == '\0')
			pk_diag_set(&t->check.why, "the connection ended: %s",
			    errno != 0 ? strerror(errno) : "closed by the peer");
		break;
	default:
		if (t->check.why.text[0] == '\0') {
			const char *why = ERR_reason_error_string(ERR_peek_last_error());

			pk_diag_set(&t->check.why, "%s", why != NULL ? why : "handshake failed");
		}
	}
	ERR_clear_error();
	finish(h, t, -EPROTO);
}

static void
take(struct tlso_mail *m)
{
	struct tlso_tunnel *t =
	    (struct tlso_tunnel *)((char *)m - offsetof(struct tlso_tunnel, handshake));
	struct tlso_handshaker *h = t->hs_handshaker;
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
		.data.ptr = t };

	t->hs_prev = NULL;
	t->hs_next = h->first;
	if (h->first != NULL)
		h->first->hs_prev = t;
	h->first = t;
	/* From here on it is delivered to the worker. */
	t->handshake.deliver = t->hs_done;
	if (epoll_ctl(h->epoll, EPOLL_CTL_ADD, t->ev.fd, &ev) < 0)
		finish(h, t, -errno);
}

static void
on_ready(struct tlso_handshaker *h, struct tlso_tunnel *t, uint32_t events)
{
	int rc;

	if (!t->server && !SSL_in_before(t->ssl)) {
		step(h, t);
		return;
	}
	if (!t->server) {
		rc = tcp_error(t->ev.fd);
		if (rc < 0) {
			pk_diag_set(&t->check.why, "no connection: %s", strerror(-rc));
			finish(h, t, rc);
			return;
		}
		if ((events & EPOLLOUT) == 0)
			return;
	}
	step(h, t);
}

static void *
run(void *arg)
{
	struct tlso_handshaker *h = arg;
	struct epoll_event events[EVENTS];

	while (!h->stop) {
		int n = epoll_wait(h->epoll, events, EVENTS, TICK_MS);
		uint64_t now;

		for (int i = 0; i < n; i++)
			if (events[i].data.ptr != h)
				on_ready(h, events[i].data.ptr, events[i].events);
		/* Not before: what is taken now may be named by no event of this turn. */
		(void)tlso_box_open(&h->box);
		now = pk_clock_mono_ns();
		for (struct tlso_tunnel *t = h->first, *next; t != NULL; t = next) {
			next = t->hs_next;
			if (now >= t->hs_deadline_ns) {
				pk_diag_set(&t->check.why, "no answer in time");
				finish(h, t, -ETIMEDOUT);
			}
		}
	}
	while (h->first != NULL)
		finish(h, h->first, -ECANCELED);
	return NULL;
}

int
tlso_handshaker_start(struct tlso_handshaker *h, struct tlso *all, struct pk_diag *diag)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = h };
	int rc;

	h->all = all;
	h->epoll = epoll_create1(EPOLL_CLOEXEC);
	rc = h->epoll < 0 ? -errno : tlso_box_init(&h->box);
	if (rc == 0 && epoll_ctl(h->epoll, EPOLL_CTL_ADD, h->box.fd, &ev) < 0)
		rc = -errno;
	if (rc == 0)
		rc = -pthread_create(&h->thread, NULL, run, h);
	h->running = rc == 0;
	if (rc < 0)
		pk_diag_set(diag, "handshake worker: %s", strerror(-rc));
	return rc;
}

static void
on_stop(struct tlso_mail *m)
{
	struct tlso_handshaker *h =
	    (struct tlso_handshaker *)((char *)m - offsetof(struct tlso_handshaker, stop_mail));

	h->stop = true;
}

void
tlso_handshaker_stop(struct tlso_handshaker *h)
{
	if (h->running) {
		h->stop_mail.deliver = on_stop;
		tlso_box_put(&h->box, &h->stop_mail);
		pthread_join(h->thread, NULL);
	}
	if (h->epoll > 0)
		close(h->epoll);
	tlso_box_fini(&h->box);
}

void
tlso_handshake(struct tlso *all, struct tlso_tunnel *t)
{
	unsigned int k = atomic_fetch_add_explicit(&all->next_handshaker, 1, memory_order_relaxed);
	struct tlso_handshaker *h = &all->handshaker[k % all->nb_handshakers];

	t->hs_handshaker = h;
	t->handshake.deliver = take;
	tlso_box_put(&h->box, &t->handshake);
}
