#include "lib/posture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "lib/clock.h"
#include "lib/local.h"
#include "lib/log.h"

#define RETRY_MS 100

/* ---- listening ------------------------------------------------------------------------------------ */

struct pk_posture_ear {
	struct event_base *base;
	pk_posture_take *take;
	void *arg;
	int fd;
	uint32_t seq;
	struct pk_listener *listener;
	struct event *read_event;
};

static void
hang_up(struct pk_posture_ear *e, const char *why)
{
	if (e->fd < 0)
		return;
	pk_notice("verifier: connection ended: %s", why);
	event_free(e->read_event);
	close(e->fd);
	e->fd = -1;
}

static void
on_message(evutil_socket_t fd, short what, void *arg)
{
	struct pk_posture_ear *e = arg;
	struct pk_diag diag;
	struct pk_msg m, answer;
	ssize_t n = recv(fd, &m, sizeof(m), MSG_DONTWAIT | MSG_TRUNC);

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		hang_up(e, n == 0 ? "closed by the verifier" : strerror(errno));
		return;
	}
	if (pk_msg_check(&m, (size_t)n, &diag) < 0 || m.h.type != PK_MSG_POSTURE) {
		hang_up(e, "it does not speak our protocol");
		return;
	}
	e->take(e->arg, &m.posture);
	pk_msg_init(&answer, PK_MSG_POSTURE_STATUS, 0);
	answer.h.seq = ++e->seq;
	answer.posture_status.epoch = m.posture.epoch;
	answer.posture_status.attested = m.posture.attested;
	answer.posture_status.at_mono_ns = pk_clock_mono_ns();
	if (send(fd, &answer, sizeof(answer), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN)
		hang_up(e, strerror(errno));
}

static void
on_accept(void *arg, int client)
{
	struct pk_posture_ear *e = arg;

	hang_up(e, "another took its place");
	e->fd = client;
	e->read_event = event_new(e->base, client, EV_READ | EV_PERSIST, on_message, e);
	PK_ASSERT(e->read_event != NULL && event_add(e->read_event, NULL) == 0);
	pk_notice("verifier: connected");
}

int
pk_posture_listen(struct pk_posture_ear **out, struct event_base *base, const char *path,
    pk_posture_take *take, void *arg, struct pk_diag *diag)
{
	struct pk_posture_ear *e = calloc(1, sizeof(*e));
	int rc;

	if (e == NULL)
		return -ENOMEM;
	e->base = base;
	e->take = take;
	e->arg = arg;
	e->fd = -1;
	rc = pk_listener_create(&e->listener, base, path, SOCK_SEQPACKET, on_accept, e, diag);
	if (rc < 0) {
		pk_posture_ear_destroy(e);
		return rc;
	}
	*out = e;
	return 0;
}

void
pk_posture_ear_destroy(struct pk_posture_ear *e)
{
	if (e == NULL)
		return;
	hang_up(e, "stopping");
	pk_listener_destroy(e->listener);
	free(e);
}

bool
pk_posture_ear_connected(const struct pk_posture_ear *e)
{
	return e->fd >= 0;
}

/* ---- telling -------------------------------------------------------------------------------------- */

struct mouth {
	struct pk_posture_mouth *all;
	const char *path;
	int fd;
	struct event *readable;
};

struct pk_posture_mouth {
	struct event_base *base;
	pk_posture_told *told;
	void *arg;
	struct event *retry;
	uint32_t seq;
	struct pk_msg last;
	bool said; /* `last` holds something */
	size_t nb;
	struct mouth mouth[];
};

static void
lose(struct mouth *m, const char *why)
{
	static const struct timeval retry = { .tv_usec = RETRY_MS * 1000 };

	pk_notice("%s: disconnected: %s", m->path, why);
	event_free(m->readable);
	m->readable = NULL;
	close(m->fd);
	m->fd = -1;
	event_add(m->all->retry, &retry);
}

static void
say(struct mouth *m)
{
	struct pk_posture_mouth *all = m->all;

	if (m->fd < 0 || !all->said)
		return;
	all->last.h.seq = ++all->seq;
	/* Its queue holds more than anybody has to say; who does not read is connected to anew. */
	if (send(m->fd, &all->last, sizeof(all->last), MSG_NOSIGNAL | MSG_DONTWAIT) !=
	    (ssize_t)sizeof(all->last))
		lose(m, strerror(errno));
}

static void
on_status(evutil_socket_t fd, short what, void *arg)
{
	struct mouth *m = arg;
	struct pk_msg s;
	struct pk_diag diag;
	ssize_t n = recv(fd, &s, sizeof(s), MSG_DONTWAIT | MSG_TRUNC);

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		lose(m, n == 0 ? "it has gone" : strerror(errno));
		return;
	}
	if (pk_msg_check(&s, (size_t)n, &diag) < 0 || s.h.type != PK_MSG_POSTURE_STATUS) {
		lose(m, "it does not speak our protocol");
		return;
	}
	if (m->all->told != NULL)
		m->all->told(m->all->arg, m->path, &s.posture_status);
}

static void
on_retry(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval retry = { .tv_usec = RETRY_MS * 1000 };
	struct pk_posture_mouth *all = arg;
	bool again = false;

	(void)fd;
	(void)what;
	for (size_t i = 0; i < all->nb; i++) {
		struct mouth *m = &all->mouth[i];

		if (m->fd >= 0)
			continue;
		m->fd = pk_local_connect(m->path, SOCK_SEQPACKET);
		if (m->fd >= 0) {
			m->readable =
			    event_new(all->base, m->fd, EV_READ | EV_PERSIST, on_status, m);
			PK_ASSERT(m->readable != NULL && event_add(m->readable, NULL) == 0);
			pk_notice("%s: connected", m->path);
			say(m);
			continue;
		}
		m->fd = -1;
		again = true;
	}
	if (again)
		event_add(all->retry, &retry);
}

int
pk_posture_mouth_create(struct pk_posture_mouth **out, struct event_base *base, char *const *paths,
    size_t n, pk_posture_told *told, void *arg)
{
	static const struct timeval now;
	struct pk_posture_mouth *m = calloc(1, sizeof(*m) + n * sizeof(m->mouth[0]));

	if (m == NULL)
		return -ENOMEM;
	m->base = base;
	m->told = told;
	m->arg = arg;
	m->nb = n;
	for (size_t i = 0; i < n; i++)
		m->mouth[i] = (struct mouth){ .all = m, .path = paths[i], .fd = -1 };
	m->retry = evtimer_new(base, on_retry, m);
	if (m->retry == NULL || event_add(m->retry, &now) != 0) {
		pk_posture_mouth_destroy(m);
		return -ENOMEM;
	}
	*out = m;
	return 0;
}

void
pk_posture_mouth_destroy(struct pk_posture_mouth *m)
{
	if (m == NULL)
		return;
	for (size_t i = 0; i < m->nb; i++) {
		if (m->mouth[i].readable != NULL)
			event_free(m->mouth[i].readable);
		if (m->mouth[i].fd >= 0)
			close(m->mouth[i].fd);
	}
	if (m->retry != NULL)
		event_free(m->retry);
	free(m);
}

void
pk_posture_tell(struct pk_posture_mouth *m, const struct pk_msg_posture *p)
{
	pk_msg_init(&m->last, PK_MSG_POSTURE, 0);
	m->last.posture = *p;
	m->said = true;
	for (size_t i = 0; i < m->nb; i++)
		say(&m->mouth[i]);
}
