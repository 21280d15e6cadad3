#include "fw/link.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "lib/clock.h"
#include "lib/local.h"
#include "lib/log.h"

#define MESSAGES_PER_TURN 256 /* then other events get a chance */

struct fw_link {
	struct event_base *base;
	struct fw_link_plane plane;
	struct fw_rules_state *state;
	uint64_t epoch;
	uint32_t seq;
	int fd;
	struct pk_listener *listener;
	struct event *read_event, *second_event;
	struct pk_msg_policy_counts told; /* what the agent was told last */
	struct fw_link_status status;
};

static void
hang_up(struct fw_link *l, const char *why)
{
	if (l->fd < 0)
		return;
	pk_notice("agent: connection ended: %s", why);
	event_free(l->read_event);
	close(l->fd);
	l->fd = -1;
	l->status.connected = false;
	/* Half a transaction is no transaction. */
	fw_rules_state_abort(l->state);
}

static void
say(struct fw_link *l, struct pk_msg *m)
{
	m->h.seq = ++l->seq;
	if (l->fd >= 0 && send(l->fd, m, sizeof(*m), MSG_NOSIGNAL) != (ssize_t)sizeof(*m))
		hang_up(l, strerror(errno));
}

static void
say_hello(struct fw_link *l)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_HELLO, fw_rules_state_generation(l->state));
	snprintf(m.hello.program, sizeof(m.hello.program), "%s", l->plane.program);
	snprintf(m.hello.instance, sizeof(m.hello.instance), "%s", l->plane.instance);
	m.hello.in_force = fw_rules_state_generation(l->state);
	m.hello.epoch = l->epoch;
	m.hello.pid = (uint32_t)getpid();
	m.hello.nb_sessions_max = l->plane.nb_sessions_max;
	say(l, &m);
}

static void
say_status(struct fw_link *l, uint64_t generation, enum pk_stage stage, int error, const char *text)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_POLICY_STATUS, generation);
	m.status.stage = (uint8_t)stage;
	m.status.error = error;
	m.status.at_mono_ns = pk_clock_mono_ns();
	snprintf(m.status.text, sizeof(m.status.text), "%s", text);
	say(l, &m);
}

static void
say_counts(struct fw_link *l)
{
	struct pk_msg m;

	pk_msg_init(&m, PK_MSG_POLICY_COUNTS, fw_rules_state_generation(l->state));
	l->plane.counts(l->plane.arg, &m.counts);
	if (memcmp(&m.counts, &l->told, sizeof(l->told)) == 0)
		return;
	l->told = m.counts;
	say(l, &m);
}

static void
on_second(evutil_socket_t fd, short what, void *arg)
{
	struct fw_link *l = arg;

	(void)fd;
	(void)what;
	l->plane.clock(l->plane.arg);
	if (l->fd >= 0)
		say_counts(l);
}

static void
take(struct fw_link *l, const struct pk_msg *m)
{
	uint64_t generation = m->h.generation, start = pk_clock_mono_ns();
	struct fw_rules *rules;
	struct pk_diag diag;
	uint32_t nb_rules;
	int rc;

	if (m->h.type == PK_MSG_HELLO) {
		pk_notice("agent: connected: %s, pid %u", m->hello.program, m->hello.pid);
		say_hello(l);
		memset(&l->told, 0xff, sizeof(l->told));
		say_counts(l);
		return;
	}
	if (m->h.type == PK_MSG_POLICY_COMMIT)
		say_status(l, generation, PK_STAGE_RECEIVED, 0, "");
	rc = fw_rules_state_apply(l->state, m, &rules, &diag);
	if (rc < 0) {
		l->status.rejected++;
		pk_warn("policy: generation %" PRIu64 " refused: %s; generation %" PRIu64
		        " stays in force",
		    generation, diag.text, fw_rules_state_generation(l->state));
		say_status(l, generation, PK_STAGE_REJECTED, rc, diag.text);
		return;
	}
	if (rules == NULL)
		return;
	say_status(l, generation, PK_STAGE_ACCEPTED, 0, "");
	nb_rules = fw_rules_count(rules);
	l->plane.publish(l->plane.arg, rules);
	l->status.generation = generation;
	l->status.since_wall_ns = pk_clock_wall_ns();
	l->status.last_commit_ns = pk_clock_mono_ns() - start;
	l->status.commits++;
	say_status(l, generation, PK_STAGE_REALISED, 0, "");
	pk_notice("policy: generation %" PRIu64 " in force (%" PRIu64 " us, %u rules)", generation,
	    l->status.last_commit_ns / 1000, nb_rules);
}

static void
on_read(evutil_socket_t fd, short what, void *arg)
{
	struct fw_link *l = arg;
	struct pk_diag diag;
	struct pk_msg m;

	(void)what;
	for (unsigned int i = 0; i < MESSAGES_PER_TURN && l->fd == fd; i++) {
		ssize_t n = recv(fd, &m, sizeof(m), MSG_DONTWAIT | MSG_TRUNC);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			hang_up(l, n == 0 ? "closed by the agent" : strerror(errno));
			return;
		}
		if (pk_msg_check(&m, (size_t)n, &diag) < 0) {
			pk_warn("agent: %s", diag.text);
			hang_up(l, "it does not speak our protocol");
			return;
		}
		take(l, &m);
	}
}

static void
on_accept(void *arg, int client)
{
	struct fw_link *l = arg;
	int size = 4 << 20;

	/* An answer waits for the agent to read the one before. */
	(void)fcntl(client, F_SETFL, 0);
	hang_up(l, "another agent took its place");
	(void)setsockopt(client, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	l->fd = client;
	l->status.connected = true;
	l->read_event = event_new(l->base, client, EV_READ | EV_PERSIST, on_read, l);
	PK_ASSERT(l->read_event != NULL && event_add(l->read_event, NULL) == 0);
}

int
fw_link_create(struct fw_link **out, struct event_base *base, const char *path,
    const struct fw_link_plane *plane, struct pk_diag *diag)
{
	static const struct timeval second = { .tv_sec = 1 };
	struct fw_link *l = calloc(1, sizeof(*l));
	int rc;

	if (l == NULL)
		return -ENOMEM;
	l->base = base;
	l->plane = *plane;
	l->fd = -1;
	(void)!getrandom(&l->epoch, sizeof(l->epoch), 0);
	rc = pk_listener_create(&l->listener, base, path, SOCK_SEQPACKET, on_accept, l, diag);
	if (rc < 0) {
		fw_link_destroy(l);
		return rc;
	}
	rc = fw_rules_state_create(&l->state);
	if (rc == 0 && plane->ready != NULL)
		fw_rules_state_on_commit(l->state, plane->ready, plane->arg);
	if (rc == 0) {
		l->second_event = event_new(base, -1, EV_PERSIST, on_second, l);
		rc = l->second_event != NULL && event_add(l->second_event, &second) == 0 ? 0
		                                                                         : -ENOMEM;
	}
	if (rc < 0) {
		pk_diag_set(diag, "%s: no memory to listen", path);
		fw_link_destroy(l);
		return rc;
	}
	*out = l;
	return 0;
}

void
fw_link_destroy(struct fw_link *l)
{
	if (l == NULL)
		return;
	hang_up(l, "stopping");
	if (l->second_event != NULL)
		event_free(l->second_event);
	pk_listener_destroy(l->listener);
	fw_rules_state_destroy(l->state);
	free(l);
}

void
fw_link_status(const struct fw_link *l, struct fw_link_status *out)
{
	*out = l->status;
}
