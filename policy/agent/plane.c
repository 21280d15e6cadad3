#include "policy/agent/plane.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "lib/log.h"

#define RETRY_MS  100  /* the socket is local; a plane that restarts is back within a second */
#define BATCH_MAX 1024 /* messages prepared ahead of the socket */

/*
 *   DOWN       not connected
 *   HELLO      connected, the plane has not said who it is
 *   IDLE       nothing under way
 *   SENDING    a transaction is being sent
 *   COMMITTED  all of it is sent
 *   ACCEPTED   the plane can enforce it, and is about to
 */
enum state {
	S_DOWN,
	S_HELLO,
	S_IDLE,
	S_SENDING,
	S_COMMITTED,
	S_ACCEPTED,
	S_COUNT,
	S_NONE = S_COUNT
};

enum plane_event {
	E_UP,
	E_LOST,
	E_HELLO,
	E_WANT, /* there is something to be sent */
	E_SENT,
	E_RECEIVED,
	E_ACCEPTED,
	E_REALISED,
	E_REJECTED,
	E_COUNT,
};

static const char *const state_names[] = { "down", "hello", "idle", "sending", "committed",
	"accepted", "none" };
static const char *const event_names[] = { "up", "lost", "hello", "want", "sent", "received",
	"accepted", "realised", "rejected" };

/* clang-format off */
/* Where it says NONE the plane has broken the protocol, and is disconnected. */
static const uint8_t next[S_COUNT][E_COUNT] = {
	/*                UP       LOST    HELLO   WANT         SENT         RECEIVED     ACCEPTED    REALISED REJECTED */
	[S_DOWN]      = { S_HELLO, S_DOWN, S_NONE, S_DOWN,      S_NONE,      S_NONE,      S_NONE,     S_NONE,  S_NONE },
	[S_HELLO]     = { S_NONE,  S_DOWN, S_IDLE, S_HELLO,     S_NONE,      S_NONE,      S_NONE,     S_NONE,  S_NONE },
	[S_IDLE]      = { S_NONE,  S_DOWN, S_NONE, S_SENDING,   S_NONE,      S_NONE,      S_NONE,     S_NONE,  S_NONE },
	[S_SENDING]   = { S_NONE,  S_DOWN, S_NONE, S_SENDING,   S_COMMITTED, S_NONE,      S_NONE,     S_NONE,  S_DOWN },
	[S_COMMITTED] = { S_NONE,  S_DOWN, S_NONE, S_COMMITTED, S_NONE,      S_COMMITTED, S_ACCEPTED, S_IDLE,  S_IDLE },
	[S_ACCEPTED]  = { S_NONE,  S_DOWN, S_NONE, S_ACCEPTED,  S_NONE,      S_NONE,      S_NONE,     S_IDLE,  S_IDLE },
};
/* clang-format on */

struct change {
	struct policy_resource *old, *now; /* counted */
};

struct agent_plane {
	struct event_base *base;
	const struct agent_plane_ops *ops;
	void *arg;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char dpu[64];
	enum state state;
	int fd;
	struct event *readable, *writable, *retry;
	uint32_t seq;
	uint64_t epoch; /* of the plane connected, or last connected */
	struct pk_addr tunnel;
	/* what the plane enforces, as far as we know; NULL: unknown */
	struct policy_state *in_force;
	uint64_t in_force_generation;
	/* what it is being given */
	struct policy_state *under_way;
	uint64_t under_way_generation;
	struct change *change;
	size_t nb_changes, room_changes, at_change;
	struct pk_msg *batch; /* prepared, not yet taken by the socket */
	size_t nb_batch, room_batch, at_batch;
	uint32_t nb_in_transaction;
	bool committed; /* the commit is in the batch */
	/* what it is to enforce in the end */
	struct policy_state *wanted;
	uint64_t wanted_generation;
	uint64_t rejected_generation; /* not to be tried again */
	uint64_t theirs;              /* what the plane said it enforces */
	bool confirmed;               /* by the server, since we began */
	uint64_t nb_messages, nb_full, nb_delta;
};

static void move(struct agent_plane *p, enum plane_event event);

/* ---- a transaction, prepared as fast as the plane reads it ---- */

static int
queue(void *arg, const struct pk_msg *m)
{
	struct agent_plane *p = arg;
	struct pk_diag diag;
	struct pk_msg *to;

	/* What the server has sent was checked, and so is what we made of it. */
	if (pk_msg_check(m, sizeof(*m), &diag) != 0) {
		pk_error("plane: message not sent: %s", diag.text);
		return -EPROTO;
	}
	if (p->nb_batch == p->room_batch) {
		size_t room = p->room_batch != 0 ? p->room_batch * 2 : BATCH_MAX;
		struct pk_msg *wider = realloc(p->batch, room * sizeof(p->batch[0]));

		if (wider == NULL)
			return -ENOMEM;
		p->batch = wider;
		p->room_batch = room;
	}
	to = &p->batch[p->nb_batch++];
	*to = *m;
	to->h.seq = ++p->seq;
	to->h.generation = p->under_way_generation;
	if (m->h.type != PK_MSG_POLICY_BEGIN && m->h.type != PK_MSG_POLICY_COMMIT &&
	    m->h.type != PK_MSG_HELLO)
		p->nb_in_transaction++;
	return 0;
}

static void
forget_changes(struct agent_plane *p)
{
	for (size_t i = 0; i < p->nb_changes; i++) {
		policy_resource_put(p->change[i].old);
		policy_resource_put(p->change[i].now);
	}
	p->nb_changes = p->at_change = 0;
}

static void
forget_transaction(struct agent_plane *p)
{
	forget_changes(p);
	p->nb_batch = p->at_batch = 0;
	p->committed = false;
	policy_state_destroy(p->under_way);
	p->under_way = NULL;
}

static int
add_change(struct agent_plane *p, struct policy_resource *old, struct policy_resource *now)
{
	if (p->nb_changes == p->room_changes) {
		size_t room = p->room_changes != 0 ? p->room_changes * 2 : 256;
		struct change *wider = realloc(p->change, room * sizeof(p->change[0]));

		if (wider == NULL)
			return -ENOMEM;
		p->change = wider;
		p->room_changes = room;
	}
	p->change[p->nb_changes++] =
	    (struct change){ .old = old != NULL ? policy_resource_get(old) : NULL,
		    .now = now != NULL ? policy_resource_get(now) : NULL };
	return 0;
}

/* From what is in force to what is wanted. */
static int
begin(struct agent_plane *p)
{
	struct policy_resource *r;
	struct pk_msg m;
	size_t at = 0;
	int err = 0;

	forget_transaction(p);
	p->under_way = policy_state_clone(p->wanted);
	if (p->under_way == NULL)
		return -ENOMEM;
	p->under_way_generation = p->wanted_generation;
	p->nb_in_transaction = 0;
	while (err == 0 && (r = policy_state_next(p->under_way, &at)) != NULL) {
		struct policy_resource *old =
		    p->in_force != NULL ? policy_state_like(p->in_force, r) : NULL;

		if (old == NULL || old->version != r->version)
			err = add_change(p, old, r);
	}
	at = 0;
	while (err == 0 && p->in_force != NULL && (r = policy_state_next(p->in_force, &at)) != NULL)
		if (policy_state_like(p->under_way, r) == NULL)
			err = add_change(p, r, NULL);
	if (err != 0)
		return err;
	pk_msg_init(&m, PK_MSG_POLICY_BEGIN, 0);
	m.begin.full = p->in_force == NULL;
	m.begin.base = p->in_force != NULL ? p->in_force_generation : 0;
	if (p->in_force == NULL)
		p->nb_full++;
	else
		p->nb_delta++;
	pk_info("plane: generation %llu: %zu resources %s",
	    (unsigned long long)p->under_way_generation, p->nb_changes,
	    p->in_force == NULL ? "in full" : "changed");
	return queue(p, &m);
}

/* Prepare the next messages.  Returns 0 or negative errno. */
static int
prepare(struct agent_plane *p)
{
	int err = 0;

	p->nb_batch = p->at_batch = 0;
	while (err == 0 && p->at_change < p->nb_changes && p->nb_batch < BATCH_MAX) {
		struct change *c = &p->change[p->at_change++];

		err = policy_resource_emit(c->old, c->now, p->dpu, queue, p);
	}
	if (err == 0 && p->at_change == p->nb_changes && !p->committed) {
		struct pk_msg m;

		pk_msg_init(&m, PK_MSG_POLICY_COMMIT, 0);
		m.commit.nb_messages = p->nb_in_transaction;
		err = queue(p, &m);
		p->committed = true;
	}
	return err;
}

static void
lose(struct agent_plane *p, const char *why)
{
	pk_notice("plane %s: disconnected: %s", p->path, why);
	move(p, E_LOST);
}

/* Send what is prepared, prepare more, until the socket is full or all is sent. */
static void
pump(struct agent_plane *p)
{
	for (;;) {
		ssize_t n;

		if (p->at_batch == p->nb_batch) {
			int err;

			if (p->state != S_SENDING) {
				p->nb_batch = p->at_batch = 0;
				event_del(p->writable);
				return;
			}
			if (p->committed) {
				event_del(p->writable);
				forget_changes(p);
				move(p, E_SENT);
				return;
			}
			err = prepare(p);
			if (err != 0) {
				lose(p, strerror(-err));
				return;
			}
		}
		n = send(p->fd, &p->batch[p->at_batch], sizeof(p->batch[0]),
		    MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n == (ssize_t)sizeof(p->batch[0])) {
			p->at_batch++;
			p->nb_messages++;
			continue;
		}
		if (n < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
			event_add(p->writable, NULL);
			return;
		}
		if (n < 0 && errno == EINTR)
			continue;
		lose(p, n < 0 ? strerror(errno) : "a message was cut");
		return;
	}
}

/* ---- the state machine ---- */

static void
enter(struct agent_plane *p, enum state old)
{
	static const struct timeval retry = { .tv_usec = RETRY_MS * 1000 };
	int err;

	switch (p->state) {
	case S_DOWN:
		if (p->fd >= 0) {
			event_del(p->readable);
			event_del(p->writable);
			close(p->fd);
			p->fd = -1;
			forget_transaction(p);
			p->ops->connected(p->arg, false);
		}
		event_add(p->retry, &retry);
		break;
	case S_IDLE:
		if (p->wanted != NULL && p->wanted_generation != p->rejected_generation &&
		    (p->in_force == NULL ? p->confirmed || p->wanted_generation >= p->theirs
		                         : p->in_force_generation != p->wanted_generation))
			move(p, E_WANT);
		break;
	case S_SENDING:
		if (old == S_SENDING)
			break;
		err = begin(p);
		if (err != 0)
			lose(p, strerror(-err));
		else
			pump(p);
		break;
	default:
		break;
	}
}

static void
move(struct agent_plane *p, enum plane_event event)
{
	enum state old = p->state, now = (enum state)next[old][event];

	pk_debug("plane: %s: %s -> %s", state_names[old], event_names[event], state_names[now]);
	if (now == S_NONE) {
		pk_warn("plane %s: unexpected %s in state %s", p->path, event_names[event],
		    state_names[old]);
		now = S_DOWN;
	}
	p->state = now;
	enter(p, old);
}

/* ---- what the plane says ---- */

static void
on_hello(struct agent_plane *p, const struct pk_msg_hello *m)
{
	if (p->state != S_HELLO) {
		move(p, E_HELLO);
		return;
	}
	/* Another epoch is another process: it knows nothing of what the last one was told. */
	if (p->in_force != NULL &&
	    (m->epoch != p->epoch || m->in_force != p->in_force_generation)) {
		policy_state_destroy(p->in_force);
		p->in_force = NULL;
	}
	if (m->in_force == 0) {
		policy_state_destroy(p->in_force);
		p->in_force = NULL;
	}
	/* The same process would refuse the same again. */
	if (m->epoch != p->epoch)
		p->rejected_generation = 0;
	p->epoch = m->epoch;
	p->theirs = m->in_force;
	p->tunnel = m->tunnel;
	pk_notice("plane %s: connected: %.31s enforces generation %llu%s", p->path, m->program,
	    (unsigned long long)m->in_force,
	    p->in_force == NULL && m->in_force != 0 ? ", which is not ours" : "");
	p->ops->connected(p->arg, true);
	if (p->in_force != NULL)
		p->ops->stage(p->arg, p->in_force_generation, PK_STAGE_REALISED, p->in_force, "");
	move(p, E_HELLO);
}

static void
on_status(struct agent_plane *p, const struct pk_msg *m)
{
	static const enum plane_event events[PK_STAGE_COUNT] = {
		[PK_STAGE_RECEIVED] = E_RECEIVED,
		[PK_STAGE_ACCEPTED] = E_ACCEPTED,
		[PK_STAGE_REALISED] = E_REALISED,
		[PK_STAGE_REJECTED] = E_REJECTED,
	};
	enum plane_event event = events[m->status.stage];
	bool expected = p->under_way != NULL && m->h.generation == p->under_way_generation &&
	    next[p->state][event] != S_NONE;

	if (!expected) {
		pk_warn("plane %s: %s of generation %llu was not asked for", p->path,
		    pk_stage_name(m->status.stage), (unsigned long long)m->h.generation);
		lose(p, "it answers out of order");
		return;
	}
	switch (m->status.stage) {
	case PK_STAGE_ACCEPTED:
		p->ops->stage(p->arg, p->under_way_generation, PK_STAGE_ACCEPTED, p->under_way, "");
		break;
	case PK_STAGE_REALISED:
		policy_state_destroy(p->in_force);
		p->in_force = p->under_way;
		p->in_force_generation = p->under_way_generation;
		p->under_way = NULL;
		if (p->state == S_COMMITTED)
			p->ops->stage(
			    p->arg, p->in_force_generation, PK_STAGE_ACCEPTED, p->in_force, "");
		p->ops->stage(p->arg, p->in_force_generation, PK_STAGE_REALISED, p->in_force, "");
		break;
	case PK_STAGE_REJECTED:
		p->rejected_generation = p->under_way_generation;
		policy_state_destroy(p->under_way);
		p->under_way = NULL;
		p->ops->stage(
		    p->arg, p->rejected_generation, PK_STAGE_REJECTED, NULL, m->status.text);
		break;
	default:
		break;
	}
	move(p, event);
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct agent_plane *p = arg;

	(void)what;
	while (p->fd == fd) {
		struct pk_msg m;
		struct pk_diag diag;
		ssize_t n = recv(fd, &m, sizeof(m), MSG_DONTWAIT | MSG_TRUNC);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN))
			return;
		if (n <= 0) {
			lose(p, n < 0 ? strerror(errno) : "it has gone");
			return;
		}
		if (pk_msg_check(&m, (size_t)n, &diag) != 0) {
			lose(p, diag.text);
			return;
		}
		if (m.h.type == PK_MSG_HELLO) {
			on_hello(p, &m.hello);
		} else if (m.h.type == PK_MSG_POLICY_STATUS) {
			on_status(p, &m);
		} else if (m.h.type == PK_MSG_POLICY_COUNTS) {
			p->ops->counts(p->arg, &m.counts);
		} else {
			lose(p, "it says what only we may");
			return;
		}
	}
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	pump(arg);
}

static void
on_retry(evutil_socket_t fd, short what, void *arg)
{
	static const struct timeval retry = { .tv_usec = RETRY_MS * 1000 };
	struct agent_plane *p = arg;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct pk_msg m;

	(void)what;
	if (p->state != S_DOWN)
		return;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", p->path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
		if (fd >= 0)
			close(fd);
		event_add(p->retry, &retry);
		return;
	}
	p->fd = fd;
	event_assign(p->readable, p->base, fd, EV_READ | EV_PERSIST, on_readable, p);
	event_assign(p->writable, p->base, fd, EV_WRITE | EV_PERSIST, on_writable, p);
	event_add(p->readable, NULL);
	move(p, E_UP);
	p->under_way_generation = 0;
	pk_msg_init(&m, PK_MSG_HELLO, 0);
	snprintf(m.hello.program, sizeof(m.hello.program), "picket-agentd");
	snprintf(m.hello.instance, sizeof(m.hello.instance), "%s", p->dpu);
	m.hello.pid = (uint32_t)getpid();
	if (queue(p, &m) != 0)
		lose(p, "no memory");
	else
		pump(p);
}

int
agent_plane_create(struct agent_plane **out, struct event_base *base, const char *path,
    const char *dpu, const struct agent_plane_ops *ops, void *arg)
{
	static const struct timeval now;
	struct agent_plane *p;

	if (strlen(path) >= sizeof(p->path) || strlen(dpu) >= sizeof(p->dpu))
		return -ENAMETOOLONG;
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return -ENOMEM;
	p->base = base;
	p->ops = ops;
	p->arg = arg;
	p->fd = -1;
	snprintf(p->path, sizeof(p->path), "%s", path);
	snprintf(p->dpu, sizeof(p->dpu), "%s", dpu);
	p->retry = evtimer_new(base, on_retry, p);
	p->readable = event_new(base, -1, EV_READ, on_readable, p);
	p->writable = event_new(base, -1, EV_WRITE, on_writable, p);
	if (p->retry == NULL || p->readable == NULL || p->writable == NULL ||
	    event_add(p->retry, &now) != 0) {
		agent_plane_destroy(p);
		return -ENOMEM;
	}
	*out = p;
	return 0;
}

void
agent_plane_destroy(struct agent_plane *p)
{
	if (p == NULL)
		return;
	if (p->retry != NULL)
		event_free(p->retry);
	if (p->readable != NULL)
		event_free(p->readable);
	if (p->writable != NULL)
		event_free(p->writable);
	if (p->fd >= 0)
		close(p->fd);
	forget_transaction(p);
	policy_state_destroy(p->in_force);
	policy_state_destroy(p->wanted);
	free(p->change);
	free(p->batch);
	free(p);
}

int
agent_plane_known(
    struct agent_plane *p, uint64_t generation, uint64_t epoch, const struct policy_state *state)
{
	p->in_force = policy_state_clone(state);
	p->in_force_generation = generation;
	p->epoch = epoch;
	return p->in_force != NULL ? 0 : -ENOMEM;
}

int
agent_plane_want(struct agent_plane *p, uint64_t generation, const struct policy_state *state)
{
	struct policy_state *copy = policy_state_clone(state);

	if (copy == NULL)
		return -ENOMEM;
	policy_state_destroy(p->wanted);
	p->wanted = copy;
	p->wanted_generation = generation;
	if (generation != p->rejected_generation)
		p->rejected_generation = 0;
	if (p->state == S_IDLE)
		enter(p, S_IDLE);
	return 0;
}

void
agent_plane_confirm(struct agent_plane *p)
{
	p->confirmed = true;
	if (p->state == S_IDLE)
		enter(p, S_IDLE);
}

void
agent_plane_status(const struct agent_plane *p, struct agent_plane_status *out)
{
	*out = (struct agent_plane_status){
		.connected = p->state > S_HELLO,
		.state = state_names[p->state],
		.epoch = p->epoch,
		.tunnel = p->tunnel,
		.in_force = p->in_force != NULL ? p->in_force_generation : 0,
		.wanted = p->wanted != NULL ? p->wanted_generation : 0,
		.nb_messages = p->nb_messages,
		.full = p->nb_full,
		.delta = p->nb_delta,
	};
}
