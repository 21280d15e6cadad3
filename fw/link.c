#include "fw/link.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "lib/clock.h"
#include "lib/log.h"

#define MESSAGES_PER_TURN 256 /* then other events get a chance */

struct fw_link {
	struct event_base *base;
	struct fw_workers *workers;
	struct fw_rules_state *state;
	const char *instance;
	uint32_t nb_sessions_max;
	uint64_t epoch;
	uint32_t seq;
	int listen_fd, fd;
	struct event *accept_event, *read_event, *second_event;
	struct pk_msg_policy_counts told; /* what the agent was told last */
	struct fw_link_status status;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
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
	snprintf(m.hello.program, sizeof(m.hello.program), "picketd");
	snprintf(m.hello.instance, sizeof(m.hello.instance), "%s", l->instance);
	m.hello.in_force = fw_rules_state_generation(l->state);
	m.hello.epoch = l->epoch;
	m.hello.pid = (uint32_t)getpid();
	m.hello.nb_sessions_max = l->nb_sessions_max;
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
	for (unsigned int i = 0; i < fw_workers_count(l->workers); i++) {
		const struct fw_path_stats *s = fw_path_stats(fw_workers_path(l->workers, i));

		m.counts.refused += pk_counter_read(&s->drop[FW_DROP_RULE_DENY]) +
		    pk_counter_read(&s->drop[FW_DROP_RULE_REJECT]) +
		    pk_counter_read(&s->drop[FW_DROP_ENCRYPTION_MISSING]) +
		    pk_counter_read(&s->drop[FW_DROP_INSPECT_MISSING]);
		m.counts.revoked += pk_counter_read(&s->revoked);
	}
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
	fw_workers_wall(l->workers);
	if (l->fd >= 0)
		say_counts(l);
}

static void
take(struct fw_link *l, const struct pk_msg *m)
{
	uint64_t generation = m->h.generation, start = pk_clock_mono_ns();
	struct fw_rules *rules;
	struct pk_diag diag;
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
	fw_workers_publish(l->workers, rules);
	l->status.generation = generation;
	l->status.since_wall_ns = pk_clock_wall_ns();
	l->status.last_commit_ns = pk_clock_mono_ns() - start;
	l->status.commits++;
	say_status(l, generation, PK_STAGE_REALISED, 0, "");
	pk_notice("policy: generation %" PRIu64 " in force (%" PRIu64 " us, %u rules)", generation,
	    l->status.last_commit_ns / 1000, fw_rules_count(rules));
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
on_accept(evutil_socket_t fd, short what, void *arg)
{
	struct fw_link *l = arg;
	int size = 4 << 20, client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

	(void)what;
	if (client < 0)
		return;
	hang_up(l, "another agent took its place");
	(void)setsockopt(client, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	l->fd = client;
	l->status.connected = true;
	l->read_event = event_new(l->base, client, EV_READ | EV_PERSIST, on_read, l);
	PK_ASSERT(l->read_event != NULL && event_add(l->read_event, NULL) == 0);
}

int
fw_link_create(struct fw_link **out, struct event_base *base, const char *path,
    const char *instance, struct fw_workers *workers, uint32_t nb_sessions_max,
    struct pk_diag *diag)
{
	static const struct timeval second = { .tv_sec = 1 };
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct fw_link *l;
	mode_t mask;
	int rc;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		pk_diag_set(diag, "%s: a socket's path has at most %zu bytes", path,
		    sizeof(addr.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	strcpy(addr.sun_path, path);
	l = calloc(1, sizeof(*l));
	if (l == NULL)
		return -ENOMEM;
	strcpy(l->path, path);
	l->base = base;
	l->workers = workers;
	l->instance = instance;
	l->nb_sessions_max = nb_sessions_max;
	l->fd = -1;
	(void)!getrandom(&l->epoch, sizeof(l->epoch), 0);
	unlink(path);
	l->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mask = umask(0117);
	rc = l->listen_fd < 0 || bind(l->listen_fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	        listen(l->listen_fd, 4) < 0
	    ? -errno
	    : 0;
	umask(mask);
	if (rc == 0)
		rc = fw_rules_state_create(&l->state);
	if (rc == 0) {
		l->accept_event = event_new(base, l->listen_fd, EV_READ | EV_PERSIST, on_accept, l);
		l->second_event = event_new(base, -1, EV_PERSIST, on_second, l);
		rc = l->accept_event != NULL && event_add(l->accept_event, NULL) == 0 &&
		        l->second_event != NULL && event_add(l->second_event, &second) == 0
		    ? 0
		    : -ENOMEM;
	}
	if (rc < 0) {
		pk_diag_set(diag, "%s: cannot listen: %s", path, strerror(-rc));
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
	if (l->accept_event != NULL)
		event_free(l->accept_event);
	if (l->second_event != NULL)
		event_free(l->second_event);
	if (l->listen_fd >= 0) {
		close(l->listen_fd);
		unlink(l->path);
	}
	fw_rules_state_destroy(l->state);
	free(l);
}

void
fw_link_status(const struct fw_link *l, struct fw_link_status *out)
{
	*out = l->status;
}
