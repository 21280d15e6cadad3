#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "tls-offload/tlsd_priv.h"

#define BUDGET (16 * TLSO_CHUNK) /* bytes of each direction in a turn */

const char *
tlso_end_name(enum tlso_end e)
{
	static const char *const names[] = {
#define TLSO_END_NAME(name, text, flag) text,
		TLSO_ENDS(TLSO_END_NAME)
#undef TLSO_END_NAME
	};

	return names[e];
}

const char *
tlso_end_flag(enum tlso_end e)
{
	static const char *const flags[] = {
#define TLSO_END_FLAG(name, text, flag) flag,
		TLSO_ENDS(TLSO_END_FLAG)
#undef TLSO_END_FLAG
	};

	return flags[e];
}

static void on_plain(struct tlso_event *e, uint32_t events);

/* ---- bytes that wait ---- */

static int
pend(struct tlso_pending *p, const uint8_t *bytes, size_t len)
{
	if (p->off + p->len + len > p->room) {
		size_t room = PK_MAX(p->len + len, (size_t)2048);
		uint8_t *wider = malloc(room);

		if (wider == NULL)
			return -ENOMEM;
		if (p->len > 0)
			memcpy(wider, p->bytes + p->off, p->len);
		free(p->bytes);
		p->bytes = wider;
		p->off = 0;
		p->room = room;
	}
	memcpy(p->bytes + p->off + p->len, bytes, len);
	p->len += len;
	return 0;
}

/* Idle flows hold no memory for bytes. */
static void
taken(struct tlso_pending *p, size_t n)
{
	p->off += n;
	p->len -= n;
	if (p->len > 0)
		return;
	free(p->bytes);
	memset(p, 0, sizeof(*p));
}

/* ---- beginnings ---- */

static struct tlso_flow *
create(struct tlso_worker *w, uint16_t wire, bool ingress)
{
	struct tlso_flow *f;

	if (w->nb_flows >= w->all->conf->flows / w->all->nb_workers + 1 ||
	    (f = calloc(1, sizeof(*f))) == NULL)
		return NULL;
	f->ev.fd = -1;
	f->ev.ready = on_plain;
	f->worker = w;
	f->wire = wire;
	f->ingress = ingress;
	f->stream = -1;
	f->born_ns = w->now_ns;
	f->deadline_ns = w->now_ns + 2 * w->all->conf->handshake_ns;
	f->next = w->flows;
	if (w->flows != NULL)
		w->flows->prev = f;
	w->flows = f;
	w->nb_flows++;
	pk_counter_add(&w->stats.flows[ingress], 1);
	return f;
}

/* Egress: names are known. */
static void
answered(struct tlso_ask *a)
{
	struct tlso_flow *f = (struct tlso_flow *)((char *)a - offsetof(struct tlso_flow, ask));
	const struct pk_tls_who *src = &a->who[0], *dst = &a->who[1];
	struct tlso *all = f->worker->all;
	struct tlso_identity *identity;
	struct tlso_hbone *h;

	f->away--;
	if (f->state == TLSO_FLOW_OVER)
		return;
	if (a->failed || !src->known || !src->local || src->wire != f->wire || !dst->known) {
		tlso_flow_end(f, TLSO_END_REFUSED);
		return;
	}
	snprintf(f->local, sizeof(f->local), "%s", src->name);
	snprintf(f->remote, sizeof(f->remote), "%s", dst->name);
	f->state = TLSO_FLOW_TUNNEL;
	h = tlso_hbone_find(f->worker, f);
	if (h != NULL) {
		if (tlso_hbone_open(h, f) < 0)
			tlso_flow_end(f, TLSO_END_H2);
		return;
	}
	identity = tlso_identities_get(all->identities, f->local, (uint64_t)time(NULL));
	if (identity == NULL)
		tlso_flow_end(f, TLSO_END_NO_IDENTITY);
	else if (tlso_tunnel_connect(f, identity) < 0)
		tlso_flow_end(f, TLSO_END_CONNECT);
}

void
tlso_flow_accept(struct tlso_worker *w, uint16_t wire, int fd)
{
	struct sockaddr_storage local, remote;
	socklen_t local_len = sizeof(local), remote_len = sizeof(remote);
	struct tlso_flow *f = create(w, wire, false);

	if (f == NULL) {
		tlso_reset_close(fd);
		pk_counter_add(&w->stats.ends[TLSO_END_LIMIT], 1);
		return;
	}
	f->ev.fd = fd;
	/* The local end is where the workload wanted to go. */
	if (getsockname(fd, (struct sockaddr *)&local, &local_len) < 0 ||
	    getpeername(fd, (struct sockaddr *)&remote, &remote_len) < 0 ||
	    tlso_sockaddr_read(&local, &f->dst, &f->dport) < 0 ||
	    tlso_sockaddr_read(&remote, &f->src, &f->sport) < 0) {
		tlso_flow_end(f, TLSO_END_RESET);
		return;
	}
	f->ask.who[0].addr = f->src;
	f->ask.who[1].addr = f->dst;
	f->ask.worker = w;
	f->ask.answered = answered;
	f->away++;
	tlso_ask(w->all, &f->ask);
}

struct tlso_flow *
tlso_flow_arrived(struct tlso_tunnel *t)
{
	struct tlso_flow *f = create(t->worker, t->wire, true);

	if (f == NULL)
		return NULL;
	f->state = TLSO_FLOW_HEADER;
	f->src = t->remote;
	f->dst = t->local;
	snprintf(f->local, sizeof(f->local), "%s", t->identity->workload);
	snprintf(f->remote, sizeof(f->remote), "%s", t->check.peer.workload);
	if (t->direct) {
		t->flow = f;
		f->tunnel = t;
	}
	return f;
}

static void
open_plain(struct tlso_flow *f)
{
	f->state = TLSO_FLOW_OPEN;
	f->deadline_ns = 0;
	if (f->hbone != NULL)
		pk_counter_add(&f->worker->stats.streams, 1);
}

void
tlso_flow_tunnel_open(struct tlso_flow *f)
{
	struct tlso_direct d = {
		.dst = f->dst, .src = f->src, .dport = f->dport, .sport = f->sport
	};
	uint8_t header[TLSO_DIRECT_MAX];
	size_t len;

	if (f->hbone == NULL) {
		len = tlso_direct_pack(header, &d);
		if (len == 0 || pend(&f->to_tunnel, header, len) < 0) {
			tlso_flow_end(f, TLSO_END_H2);
			return;
		}
	}
	open_plain(f);
	if (tlso_worker_watch(f->worker, &f->ev) < 0)
		tlso_flow_end(f, TLSO_END_LIMIT);
	else if (f->hbone == NULL)
		tlso_flow_pump(f);
}

int
tlso_flow_connect(struct tlso_flow *f)
{
	int fd =
	    tlso_connect(tlso_wire(f->worker->all, f->wire), &f->src, f->sport, &f->dst, f->dport);

	if (fd < 0)
		return fd;
	f->ev.fd = fd;
	f->state = TLSO_FLOW_CONNECT;
	return tlso_worker_watch(f->worker, &f->ev);
}

/* The workload has answered, or not. */
static void
connected(struct tlso_flow *f, uint32_t events)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(f->ev.fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		err = errno;
	if (err == 0 && (events & (EPOLLOUT | EPOLLIN)) == 0)
		return;
	/* Of a connection that is still on its way epoll says that it has hung up. */
	if (err == 0 && (events & EPOLLHUP) != 0 && (events & EPOLLIN) == 0)
		return;
	if (err == 0)
		open_plain(f);
	if (f->hbone != NULL)
		tlso_hbone_answer(f, -err);
	else if (err != 0)
		tlso_flow_end(f, TLSO_END_CONNECT);
	else
		tlso_flow_pump(f);
}

/* Direct mode, ingress: what flow is it?  What comes behind the header is kept for the workload. */
static void
read_header(struct tlso_flow *f)
{
	struct tlso_tunnel *t = f->tunnel;
	struct tlso_direct d;
	struct pk_diag diag;

	for (;;) {
		uint8_t bytes[TLSO_DIRECT_MAX];
		int n = tlso_tunnel_read(t, bytes, TLSO_DIRECT_MAX - f->to_plain.len), used;

		if (n == 0)
			return;
		if (n < 0 || pend(&f->to_plain, bytes, (size_t)n) < 0) {
			tlso_flow_end(f, TLSO_END_RESET);
			return;
		}
		used = tlso_direct_parse(
		    &d, f->to_plain.bytes + f->to_plain.off, f->to_plain.len, &diag);
		if (used < 0) {
			tlso_flow_end(f, TLSO_END_H2);
			return;
		}
		if (used == 0)
			continue;
		/* Neither address is believed: the one that has been authenticated is that of the connection. */
		if (pk_addr_compare(&d.dst, &t->local) != 0 ||
		    pk_addr_compare(&d.src, &t->remote) != 0) {
			tlso_flow_end(f, TLSO_END_REFUSED);
			return;
		}
		taken(&f->to_plain, (size_t)used);
		f->dport = d.dport;
		f->sport = d.sport;
		if (tlso_flow_connect(f) < 0)
			tlso_flow_end(f, TLSO_END_CONNECT);
		return;
	}
}

/* ---- bytes ---- */

int
tlso_flow_flush_plain(struct tlso_flow *f)
{
	while (f->to_plain.len > 0) {
		ssize_t n = send(f->ev.fd, f->to_plain.bytes + f->to_plain.off, f->to_plain.len,
		    MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (n < 0)
			return -1;
		f->rx += (uint64_t)n;
		pk_counter_add(&f->worker->stats.rx, (uint64_t)n);
		taken(&f->to_plain, (size_t)n);
		if (f->hbone != NULL)
			tlso_hbone_written(f, (size_t)n);
	}
	return 1;
}

int
tlso_flow_to_plain(struct tlso_flow *f, const uint8_t *bytes, size_t len)
{
	if (f->state == TLSO_FLOW_OPEN && f->to_plain.len == 0) {
		ssize_t n = send(f->ev.fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -1;
		if (n > 0) {
			f->rx += (uint64_t)n;
			pk_counter_add(&f->worker->stats.rx, (uint64_t)n);
			if (f->hbone != NULL)
				tlso_hbone_written(f, (size_t)n);
			bytes += n;
			len -= (size_t)n;
		}
	}
	return len == 0 ? 0 : pend(&f->to_plain, bytes, len);
}

/* From the workload into the tunnel.  false: the flow has ended. */
static bool
pump_up(struct tlso_flow *f, size_t *budget)
{
	struct tlso_worker *w = f->worker;
	struct tlso_pending *p = &f->to_tunnel;

	while (*budget > 0) {
		ssize_t n;
		int sent;

		if (p->len > 0) {
			sent = tlso_tunnel_write(f->tunnel, p->bytes + p->off, p->len);
			if (sent < 0) {
				tlso_flow_end(f, TLSO_END_RESET);
				return false;
			}
			if (sent == 0)
				return true;
			taken(p, (size_t)sent);
			continue;
		}
		if (f->plain_eof) {
			/* close_notify: this direction has ended, the other goes on (RFC 8446, section 6.1). */
			if (!f->tunnel_shut) {
				int rc = SSL_shutdown(f->tunnel->ssl);

				f->tunnel_shut = rc >= 0 ||
				    SSL_get_error(f->tunnel->ssl, rc) != SSL_ERROR_WANT_WRITE;
			}
			return true;
		}
		n = recv(f->ev.fd, w->scratch, sizeof(w->scratch), MSG_DONTWAIT);
		if (n == 0) {
			f->plain_eof = true;
			continue;
		}
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (n < 0) {
			tlso_flow_end(f, TLSO_END_RESET);
			return false;
		}
		f->tx += (uint64_t)n;
		pk_counter_add(&w->stats.tx, (uint64_t)n);
		*budget -= PK_MIN(*budget, (size_t)n);
		sent = tlso_tunnel_write(f->tunnel, w->scratch, (size_t)n);
		if (sent < 0 || (sent < n && pend(p, w->scratch + sent, (size_t)(n - sent)) < 0)) {
			tlso_flow_end(f, TLSO_END_RESET);
			return false;
		}
		if (sent < n)
			return true;
	}
	return true;
}

/* Out of the tunnel to the workload. */
static bool
pump_down(struct tlso_flow *f, size_t *budget)
{
	struct tlso_worker *w = f->worker;

	while (*budget > 0) {
		int n = tlso_flow_flush_plain(f);

		if (n < 0) {
			tlso_flow_end(f, TLSO_END_RESET);
			return false;
		}
		if (n == 0)
			return true;
		if (f->tunnel_eof) {
			if (!f->plain_shut)
				(void)shutdown(f->ev.fd, SHUT_WR);
			f->plain_shut = true;
			return true;
		}
		n = tlso_tunnel_read(f->tunnel, w->scratch, sizeof(w->scratch));
		if (n == 0)
			return true;
		if (n == -2) {
			f->tunnel_eof = true;
			continue;
		}
		/* Without close_notify it is no end but a reset: what has come may not be all. */
		if (n < 0 || tlso_flow_to_plain(f, w->scratch, (size_t)n) < 0) {
			tlso_flow_end(f, TLSO_END_RESET);
			return false;
		}
		*budget -= PK_MIN(*budget, (size_t)n);
	}
	return true;
}

static void
pump_direct(struct tlso_flow *f)
{
	size_t up = BUDGET, down = BUDGET;

	if (!pump_up(f, &up) || !pump_down(f, &down))
		return;
	if (f->tunnel_shut && f->plain_shut)
		tlso_flow_end(f, TLSO_END_DONE);
	else if (up == 0 || down == 0)
		tlso_flow_again(f);
}

/* The plain side of a stream: the other side is in hbone.c. */
static void
pump_stream(struct tlso_flow *f)
{
	int n = tlso_flow_flush_plain(f);

	if (n < 0) {
		tlso_flow_end(f, TLSO_END_RESET);
		return;
	}
	if (n == 1 && f->tunnel_eof && !f->plain_shut) {
		(void)shutdown(f->ev.fd, SHUT_WR);
		f->plain_shut = true;
	}
	if (f->hbone != NULL)
		tlso_hbone_resume(f);
	else if (f->plain_shut)
		tlso_flow_end(f, TLSO_END_DONE);
}

void
tlso_flow_pump(struct tlso_flow *f)
{
	if (f->state == TLSO_FLOW_HEADER && f->tunnel != NULL)
		read_header(f);
	else if (f->state == TLSO_FLOW_OPEN && f->tunnel != NULL)
		pump_direct(f);
	else if (f->state == TLSO_FLOW_OPEN)
		pump_stream(f);
}

void
tlso_flow_again(struct tlso_flow *f)
{
	if (f->queued)
		return;
	f->queued = true;
	f->again = f->worker->again;
	f->worker->again = f;
}

static void
on_plain(struct tlso_event *e, uint32_t events)
{
	struct tlso_flow *f = (struct tlso_flow *)((char *)e - offsetof(struct tlso_flow, ev));

	if (f->state == TLSO_FLOW_CONNECT)
		connected(f, events);
	else if (f->state == TLSO_FLOW_OPEN)
		tlso_flow_pump(f);
}

/* ---- the end ---- */

void
tlso_flow_end(struct tlso_flow *f, enum tlso_end end)
{
	struct tlso_worker *w = f->worker;
	struct tlso_tunnel *t = f->tunnel;

	if (f->state == TLSO_FLOW_OVER)
		return;
	f->state = TLSO_FLOW_OVER;
	f->end = end;
	pk_counter_add(&w->stats.ends[end], 1);
	if (f->prev != NULL)
		f->prev->next = f->next;
	else
		w->flows = f->next;
	if (f->next != NULL)
		f->next->prev = f->prev;
	f->prev = NULL;
	f->next = w->dead_flows;
	w->dead_flows = f;
	w->nb_flows--;
	if (end == TLSO_END_DONE && f->ev.fd >= 0)
		close(f->ev.fd);
	else
		tlso_reset_close(f->ev.fd);
	f->ev.fd = -1;
	if (f->hbone != NULL)
		tlso_hbone_forget(f, end);
	f->tunnel = NULL;
	if (t != NULL) {
		t->flow = NULL;
		tlso_tunnel_end(t, end);
	}
}

void
tlso_flow_free(struct tlso_flow *f)
{
	free(f->to_plain.bytes);
	free(f->to_tunnel.bytes);
	free(f);
}
