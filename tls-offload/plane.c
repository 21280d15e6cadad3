#include "tls-offload/plane.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>
#include <uthash.h>

#include "lib/log.h"

#define ALIVE_MS  500
#define KNOWN_MAX 65536 /* addresses */
#define PER_TURN  256

/* An address, and who waits to hear whose it is. */
struct entry {
	struct pk_addr addr;
	bool known; /* `who` is picketd's answer */
	struct pk_tls_who who;
	struct tlso_ask *waiting;
	UT_hash_handle hh;
};

struct tlso_plane {
	struct tlso *all;
	struct entry *entries;
	struct event *box_event, *read_event, *timer;
	int fd;
	bool leaving, said;
	uint32_t seq;
	struct tlso_plane_status status;
};

static struct tlso_plane
    *the_plane; /* of the one tlso there is in a process; mail has no other way to it */

static void
answer(struct tlso_ask *a)
{
	if (--a->missing == 0)
		tlso_box_put(&a->worker->box, &a->mail);
}

static void
deliver_answer(struct tlso_mail *m)
{
	struct tlso_ask *a = (struct tlso_ask *)((char *)m - offsetof(struct tlso_ask, mail));

	a->answered(a);
}

/* Of those that wait for `e`: each has it as one of its two, or both. */
static void
resolve(struct entry *e, bool failed)
{
	struct tlso_ask *a = e->waiting, *next;

	e->waiting = NULL;
	for (; a != NULL; a = next) {
		unsigned int k = pk_addr_compare(&a->who[0].addr, &e->addr) == 0 && !a->done[0] ? 0
		                                                                                : 1;

		next = a->next[k];
		a->done[k] = true;
		a->failed |= failed;
		if (!failed)
			a->who[k] = e->who;
		answer(a);
	}
}

static void
forget(struct tlso_plane *p, bool failed)
{
	struct entry *e, *tmp;

	HASH_ITER(hh, p->entries, e, tmp)
	{
		/* Those that still wait are answered by the new policy, if there is anybody to. */
		if (e->waiting != NULL && !failed)
			continue;
		resolve(e, true);
		HASH_DEL(p->entries, e);
		free(e);
	}
}

static void
hang_up(struct tlso_plane *p, const char *why)
{
	if (p->fd < 0)
		return;
	pk_warn("picketd: connection ended: %s", why);
	event_free(p->read_event);
	p->read_event = NULL;
	close(p->fd);
	p->fd = -1;
	p->status.connected = false;
	forget(p, true);
}

static void
tell(struct tlso_plane *p, const struct pk_tls_msg *m)
{
	if (p->fd >= 0 && send(p->fd, m, sizeof(*m), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		hang_up(p, strerror(errno));
}

static void
tell_workers(struct tlso *all, unsigned int what)
{
	for (unsigned int i = 0; i < all->nb_workers; i++)
		tlso_worker_tell(all->worker[i], what);
}

static void
take(struct tlso_plane *p, const struct pk_tls_msg *m)
{
	struct entry *e;

	switch (m->type) {
	case PK_TLS_HELLO:
		memcpy(p->status.instance, m->hello.instance, sizeof(p->status.instance));
		p->status.wires = m->hello.wires;
		p->status.connected = true;
		pk_notice("picketd of %s: connected", p->status.instance);
		for (unsigned int i = 0; i < p->all->nb_wires; i++)
			if (p->all->wire[i].wire < 64 &&
			    (m->hello.wires >> p->all->wire[i].wire & 1) == 0)
				pk_warn("port = %u %s: picketd has no tls-port for wire %u",
				    p->all->wire[i].wire, p->all->wire[i].iface,
				    p->all->wire[i].wire);
		/* It may be another one, with another policy. */
		forget(p, false);
		tell_workers(p->all, TLSO_RECHECK_POLICY);
		break;
	case PK_TLS_CHANGED:
		p->status.generation = m->changed.generation;
		forget(p, false);
		tell_workers(p->all, TLSO_RECHECK_POLICY);
		break;
	case PK_TLS_IS:
		HASH_FIND(hh, p->entries, &m->who.addr, sizeof(m->who.addr), e);
		/* An answer by a policy that has been superseded is asked for again. */
		if (e == NULL || e->known)
			break;
		if (m->who.generation < p->status.generation) {
			struct pk_tls_msg again;

			pk_tls_msg_init(&again, PK_TLS_WHO, ++p->seq);
			again.who.addr = e->addr;
			tell(p, &again);
			break;
		}
		e->who = m->who;
		e->known = true;
		resolve(e, false);
		break;
	default:
		break;
	}
}

static void
on_read(evutil_socket_t fd, short what, void *arg)
{
	struct tlso_plane *p = arg;

	(void)what;
	for (unsigned int i = 0; i < PER_TURN && p->fd >= 0; i++) {
		struct pk_tls_msg m;
		ssize_t n = recv(fd, &m, sizeof(m), MSG_DONTWAIT | MSG_TRUNC);
		struct pk_diag diag;

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0)
			hang_up(p, n == 0 ? "closed by picketd" : strerror(errno));
		else if (pk_tls_msg_check(&m, (size_t)n, &diag) < 0)
			hang_up(p, diag.text);
		else
			take(p, &m);
	}
}

static void
dial(struct tlso_plane *p)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const char *path = p->all->conf->plane;
	struct pk_tls_msg m;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return;
	strncpy(addr.sun_path, path, sizeof(addr.sun_path) - 1);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		if (!p->said)
			pk_notice("picketd: %s: %s; no flow is given to us until then", path,
			    strerror(errno));
		p->said = true;
		close(fd);
		return;
	}
	p->said = false;
	p->fd = fd;
	p->status.generation = 0;
	p->read_event = event_new(p->all->base, fd, EV_READ | EV_PERSIST, on_read, p);
	PK_ASSERT(p->read_event != NULL && event_add(p->read_event, NULL) == 0);
	pk_tls_msg_init(&m, PK_TLS_HELLO, ++p->seq);
	snprintf(m.hello.program, sizeof(m.hello.program), "picket-tlsd");
	m.hello.pid = (uint32_t)getpid();
	tell(p, &m);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct tlso_plane *p = arg;
	struct pk_tls_msg m;

	(void)fd;
	(void)what;
	if (p->leaving)
		return;
	if (p->fd < 0)
		dial(p);
	pk_tls_msg_init(&m, PK_TLS_ALIVE, ++p->seq);
	tell(p, &m);
}

/* ---- questions ---- */

static void
ask_one(struct tlso_plane *p, struct tlso_ask *a, unsigned int k)
{
	struct entry *e;
	struct pk_tls_msg m;

	HASH_FIND(hh, p->entries, &a->who[k].addr, sizeof(a->who[k].addr), e);
	if (e != NULL && e->known) {
		p->status.answered_by_cache++;
		a->who[k] = e->who;
		a->done[k] = true;
		answer(a);
		return;
	}
	if (e == NULL) {
		if (HASH_COUNT(p->entries) >= KNOWN_MAX)
			forget(p, false);
		e = p->fd >= 0 && !p->leaving ? calloc(1, sizeof(*e)) : NULL;
		if (e == NULL) {
			a->failed = true;
			answer(a);
			return;
		}
		e->addr = a->who[k].addr;
		HASH_ADD(hh, p->entries, addr, sizeof(e->addr), e);
		a->next[k] = NULL;
		e->waiting = a;
		p->status.asked++;
		pk_tls_msg_init(&m, PK_TLS_WHO, ++p->seq);
		m.who.addr = e->addr;
		tell(p, &m);
		return;
	}
	a->next[k] = e->waiting;
	e->waiting = a;
}

static void
deliver_question(struct tlso_mail *m)
{
	struct tlso_ask *a = (struct tlso_ask *)((char *)m - offsetof(struct tlso_ask, mail));

	a->mail.deliver = deliver_answer;
	a->failed = false;
	a->done[0] = a->done[1] = false;
	/* One more than questions, so that the answer goes out when both have been asked. */
	a->missing = 3;
	ask_one(the_plane, a, 0);
	ask_one(the_plane, a, 1);
	answer(a);
}

void
tlso_ask(struct tlso *all, struct tlso_ask *a)
{
	a->mail.deliver = deliver_question;
	tlso_box_put(&all->box, &a->mail);
}

static void
on_box(evutil_socket_t fd, short what, void *arg)
{
	struct tlso_plane *p = arg;

	(void)fd;
	(void)what;
	(void)tlso_box_open(&p->all->box);
}

/* ---- the whole ---- */

int
tlso_plane_create(struct tlso_plane **out, struct tlso *all, struct pk_diag *diag)
{
	static const struct timeval period = { .tv_usec = ALIVE_MS * 1000 };
	struct tlso_plane *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return -ENOMEM;
	if (strlen(all->conf->plane) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
		pk_diag_set(diag, "plane = %s: too long for a socket's path", all->conf->plane);
		free(p);
		return -ENAMETOOLONG;
	}
	p->all = all;
	p->fd = -1;
	the_plane = p;
	p->box_event = event_new(all->base, all->box.fd, EV_READ | EV_PERSIST, on_box, p);
	p->timer = event_new(all->base, -1, EV_PERSIST, on_timer, p);
	PK_ASSERT(p->box_event != NULL && event_add(p->box_event, NULL) == 0);
	PK_ASSERT(p->timer != NULL && event_add(p->timer, &period) == 0);
	on_timer(-1, 0, p);
	*out = p;
	return 0;
}

void
tlso_plane_leave(struct tlso_plane *p)
{
	p->leaving = true;
	hang_up(p, "stopping");
}

void
tlso_plane_destroy(struct tlso_plane *p)
{
	if (p == NULL)
		return;
	hang_up(p, "stopping");
	forget(p, true);
	event_free(p->box_event);
	event_free(p->timer);
	free(p);
	the_plane = NULL;
}

void
tlso_plane_status(const struct tlso_plane *p, struct tlso_plane_status *out)
{
	*out = p->status;
	out->nb_known = HASH_COUNT(p->entries);
}
