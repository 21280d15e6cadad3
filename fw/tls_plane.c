#include "fw/tls_plane.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "lib/clock.h"
#include "lib/log.h"

#define MESSAGES_PER_TURN 256
#define TICK_MS           20

struct fw_tls_plane {
	struct fw_tls_plane_conf conf;
	struct event *accept_event, *read_event, *tick_event;
	int listen_fd, fd;
	uint32_t seq;
	uint64_t alive_ns;   /* of the last ALIVE; 0: none yet */
	uint64_t generation; /* that it knows of */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

static void
set_alive(struct fw_tls_plane *l, bool alive)
{
	if (atomic_exchange_explicit(&l->conf.tls->alive, alive, memory_order_relaxed) != alive)
		pk_notice("picket-tlsd: %s",
		    alive ? "serves" : "is not there: flows that want mutual TLS stop");
}

static void
hang_up(struct fw_tls_plane *l, const char *why)
{
	if (l->fd < 0)
		return;
	pk_notice("picket-tlsd: connection ended: %s", why);
	event_free(l->read_event);
	close(l->fd);
	l->fd = -1;
	l->alive_ns = 0;
}

static void
tell(struct fw_tls_plane *l, const struct pk_tls_msg *m)
{
	/* Who does not read what it has asked for is of no use. */
	if (l->fd >= 0 && send(l->fd, m, sizeof(*m), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		hang_up(l, strerror(errno));
}

static uint64_t
generation(const struct fw_tls_plane *l)
{
	const struct fw_rules *rules = fw_workers_rules(l->conf.workers);

	return rules != NULL ? fw_rules_generation(rules) : 0;
}

static void
answer(struct fw_tls_plane *l, const struct pk_tls_msg *q)
{
	const struct fw_rules *rules = fw_workers_rules(l->conf.workers);
	const struct fw_endpoint *e = rules != NULL ? fw_rules_endpoint(rules, 0, &q->who.addr)
	                                            : NULL;
	struct pk_tls_msg m;

	pk_tls_msg_init(&m, PK_TLS_IS, q->seq);
	m.who.addr = q->who.addr;
	m.who.generation = generation(l);
	if (e != NULL && e->name[0] != '\0') {
		m.who.known = 1;
		m.who.local = e->local;
		m.who.wire = e->local ? e->wire : 0;
		snprintf(m.who.name, sizeof(m.who.name), "%s", e->name);
	}
	tell(l, &m);
}

static void
take(struct fw_tls_plane *l, const struct pk_tls_msg *m)
{
	struct pk_tls_msg hello;

	switch (m->type) {
	case PK_TLS_HELLO:
		pk_tls_msg_init(&hello, PK_TLS_HELLO, ++l->seq);
		snprintf(hello.hello.program, sizeof(hello.hello.program), "picketd");
		snprintf(
		    hello.hello.instance, sizeof(hello.hello.instance), "%s", l->conf.instance);
		hello.hello.wires = l->conf.tls->wires;
		hello.hello.pid = (uint32_t)getpid();
		tell(l, &hello);
		break;
	case PK_TLS_ALIVE:
		l->alive_ns = pk_clock_mono_ns();
		set_alive(l, true);
		break;
	case PK_TLS_WHO:
		answer(l, m);
		break;
	default:
		hang_up(l, "it says what is picketd's to say");
	}
}

static void
on_message(evutil_socket_t fd, short what, void *arg)
{
	struct fw_tls_plane *l = arg;

	(void)what;
	for (unsigned int i = 0; i < MESSAGES_PER_TURN && l->fd >= 0; i++) {
		struct pk_tls_msg m;
		ssize_t n = recv(fd, &m, sizeof(m), MSG_DONTWAIT | MSG_TRUNC);
		struct pk_diag diag;

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0)
			hang_up(l, n == 0 ? "closed" : strerror(errno));
		else if (pk_tls_msg_check(&m, (size_t)n, &diag) < 0)
			hang_up(l, diag.text);
		else
			take(l, &m);
	}
	if (l->fd < 0)
		set_alive(l, false);
}

static void
on_accept(evutil_socket_t fd, short what, void *arg)
{
	struct fw_tls_plane *l = arg;
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)what;
	if (client < 0)
		return;
	/* Flows go on to be handed over meanwhile, as long as the newcomer says soon that it serves. */
	hang_up(l, "another took its place");
	l->fd = client;
	l->alive_ns = pk_clock_mono_ns();
	l->generation = generation(l);
	l->read_event = event_new(l->conf.base, client, EV_READ | EV_PERSIST, on_message, l);
	PK_ASSERT(l->read_event != NULL && event_add(l->read_event, NULL) == 0);
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct fw_tls_plane *l = arg;
	uint64_t now = generation(l);

	(void)fd;
	(void)what;
	if (l->fd < 0 || pk_clock_mono_ns() - l->alive_ns > PK_TLS_LEASE_NS)
		set_alive(l, false);
	if (l->fd >= 0 && now != l->generation) {
		struct pk_tls_msg m;

		l->generation = now;
		pk_tls_msg_init(&m, PK_TLS_CHANGED, ++l->seq);
		m.changed.generation = now;
		tell(l, &m);
	}
}

static int
listen_at(struct fw_tls_plane *l, const char *path, struct pk_diag *diag)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	mode_t mask;
	int rc;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		pk_diag_set(diag, "%s: a socket's path has at most %zu bytes", path,
		    sizeof(addr.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	strcpy(addr.sun_path, path);
	strcpy(l->path, path);
	unlink(path);
	l->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mask = umask(0117);
	rc = l->listen_fd < 0 || bind(l->listen_fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	        listen(l->listen_fd, 4) < 0
	    ? -errno
	    : 0;
	umask(mask);
	if (rc < 0)
		pk_diag_set(diag, "%s: cannot listen: %s", path, strerror(-rc));
	return rc;
}

int
fw_tls_plane_create(
    struct fw_tls_plane **out, const struct fw_tls_plane_conf *conf, struct pk_diag *diag)
{
	static const struct timeval period = { .tv_usec = TICK_MS * 1000 };
	struct fw_tls_plane *l = calloc(1, sizeof(*l));
	int rc;

	if (l == NULL)
		return -ENOMEM;
	l->conf = *conf;
	l->listen_fd = l->fd = -1;
	rc = listen_at(l, conf->path, diag);
	if (rc == 0) {
		l->accept_event =
		    event_new(conf->base, l->listen_fd, EV_READ | EV_PERSIST, on_accept, l);
		l->tick_event = event_new(conf->base, -1, EV_PERSIST, on_tick, l);
		if (l->accept_event == NULL || event_add(l->accept_event, NULL) != 0 ||
		    l->tick_event == NULL || event_add(l->tick_event, &period) != 0)
			rc = -ENOMEM;
	}
	if (rc < 0) {
		fw_tls_plane_destroy(l);
		return rc;
	}
	*out = l;
	return 0;
}

void
fw_tls_plane_destroy(struct fw_tls_plane *l)
{
	if (l == NULL)
		return;
	hang_up(l, "stopping");
	if (l->tick_event != NULL)
		event_free(l->tick_event);
	if (l->accept_event != NULL)
		event_free(l->accept_event);
	if (l->listen_fd >= 0) {
		close(l->listen_fd);
		unlink(l->path);
	}
	free(l);
}
