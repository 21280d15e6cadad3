#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "lib/local.h"
#include "lib/log.h"
#include "policy/agent/identity_priv.h"

/*
 * The programs that use identities, each on a connection to the agent's socket.  What is said to one waits in its
 * queue while it does not read; one that does not read for too long is cut off, comes back, and is told everything anew.
 */
#define USERS_MAX 16
#define WATCH_MAX 4096
#define QUEUE_MAX 1024 /* messages */

struct queued {
	struct queued *next;
	int key; /* our own descriptor, or -1 */
	size_t len;
	uint8_t bytes[];
};

struct svid_user {
	struct svid_users *all;
	int fd; /* -1: free place */
	struct event *readable, *writable;
	char (*watch)[PK_SVID_WORKLOAD_MAX];
	size_t nb_watch;
	struct queued *first, **last;
	size_t nb_queued;
};

struct svid_users {
	struct event_base *base;
	struct agent_identities *a;
	struct pk_listener *listener;
	struct svid_user user[USERS_MAX];
	uint8_t bytes[PK_SVID_WIRE_MAX];
};

static void
free_queued(struct queued *q)
{
	if (q->key >= 0)
		close(q->key);
	free(q);
}

static void
hang_up(struct svid_user *u, const char *why)
{
	struct queued *q;

	if (u->fd < 0)
		return;
	pk_info("identities: a program's connection ended: %s", why);
	event_free(u->readable);
	event_free(u->writable);
	close(u->fd);
	u->fd = -1;
	while ((q = u->first) != NULL) {
		u->first = q->next;
		free_queued(q);
	}
	free(u->watch);
	u->watch = NULL;
	u->nb_watch = u->nb_queued = 0;
	identities_user_went(u->all->a);
}

/* ---- out ---- */

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct svid_user *u = arg;
	struct queued *q;

	(void)what;
	while ((q = u->first) != NULL) {
		ssize_t n = pk_local_send(fd, q->bytes, q->len, q->key);

		if (n == -EAGAIN || n == -EINTR) {
			event_add(u->writable, NULL);
			return;
		}
		if (n < 0) {
			hang_up(u, strerror((int)-n));
			return;
		}
		u->first = q->next;
		if (u->first == NULL)
			u->last = &u->first;
		u->nb_queued--;
		free_queued(q);
	}
}

static bool
watches(const struct svid_user *u, const char *workload)
{
	for (size_t i = 0; i < u->nb_watch; i++)
		if (strcmp(u->watch[i], workload) == 0 ||
		    (workload[0] != '\0' && strcmp(u->watch[i], PK_SVID_ALL) == 0))
			return true;
	return false;
}

void
svid_users_tell(
    struct svid_users *s, const struct pk_svid_message *m, int key, struct svid_user *only)
{
	bool all = m->type == PK_SVID_MESSAGE_BUNDLE || m->type == PK_SVID_MESSAGE_REVOKED;
	size_t len;

	if (s == NULL || (len = pk_svid_message_pack(s->bytes, m)) == 0)
		return;
	for (size_t i = 0; i < USERS_MAX; i++) {
		struct svid_user *u = &s->user[i];
		struct queued *q;

		if (u->fd < 0 || (only != NULL && u != only) ||
		    (only == NULL && !all && !watches(u, m->workload)))
			continue;
		q = u->nb_queued < QUEUE_MAX ? malloc(sizeof(*q) + len) : NULL;
		if (q == NULL) {
			hang_up(u, "it does not read");
			continue;
		}
		q->next = NULL;
		q->key = key >= 0 ? fcntl(key, F_DUPFD_CLOEXEC, 0) : -1;
		q->len = len;
		memcpy(q->bytes, s->bytes, len);
		*u->last = q;
		u->last = &q->next;
		/* From the loop: whoever tells is not called back from here. */
		if (u->nb_queued++ == 0)
			event_active(u->writable, EV_WRITE, 0);
	}
}

bool
svid_users_watch(const struct svid_users *s, const char *workload)
{
	for (size_t i = 0; i < USERS_MAX; i++)
		if (s->user[i].fd >= 0 && watches(&s->user[i], workload))
			return true;
	return false;
}

bool
svid_users_watch_any(const struct svid_users *s)
{
	for (size_t i = 0; i < USERS_MAX; i++)
		if (s->user[i].fd >= 0 && s->user[i].nb_watch > 0)
			return true;
	return false;
}

/* ---- in ---- */

static int
add_watch(struct svid_user *u, const char *workload)
{
	char(*wider)[PK_SVID_WORKLOAD_MAX];

	for (size_t i = 0; i < u->nb_watch; i++)
		if (strcmp(u->watch[i], workload) == 0)
			return 0;
	if (u->nb_watch == WATCH_MAX)
		return -ENOSPC;
	wider = realloc(u->watch, (u->nb_watch + 1) * sizeof(*wider));
	if (wider == NULL)
		return -ENOMEM;
	u->watch = wider;
	snprintf(u->watch[u->nb_watch++], PK_SVID_WORKLOAD_MAX, "%s", workload);
	return 0;
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct svid_user *u = arg;
	struct svid_users *s = u->all;
	struct pk_svid_message m;
	struct pk_diag diag;
	ssize_t n;
	int key;

	(void)what;
	n = pk_local_recv(fd, s->bytes, sizeof(s->bytes), &key);
	if (key >= 0)
		close(key);
	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0)
		hang_up(u, n == 0 ? "closed" : strerror((int)-n));
	else if (pk_svid_message_parse(&m, s->bytes, (size_t)n, &diag) != 0 ||
	    m.type != PK_SVID_MESSAGE_WATCH)
		hang_up(u, "it does not speak our protocol");
	else if (add_watch(u, m.workload) != 0)
		hang_up(u, "it watches too many workloads");
	else
		identities_user_watches(s->a, u, m.workload);
}

static void
on_accept(void *arg, int client)
{
	struct svid_users *s = arg;
	struct svid_user *u = NULL;

	for (size_t i = 0; i < USERS_MAX && u == NULL; i++)
		if (s->user[i].fd < 0)
			u = &s->user[i];
	if (u == NULL) {
		pk_warn(
		    "identities: more than %d programs at a time: one is turned away", USERS_MAX);
		close(client);
		return;
	}
	u->fd = client;
	u->last = &u->first;
	u->readable = event_new(s->base, client, EV_READ | EV_PERSIST, on_readable, u);
	u->writable = event_new(s->base, client, EV_WRITE, on_writable, u);
	PK_ASSERT(u->readable != NULL && u->writable != NULL && event_add(u->readable, NULL) == 0);
	identities_user_came(s->a, u);
}

/* ---- beginning and end ---- */

int
svid_users_create(struct svid_users **out, struct event_base *base, const char *path,
    struct agent_identities *a, struct pk_diag *diag)
{
	struct svid_users *s = calloc(1, sizeof(*s));
	int rc;

	if (s == NULL)
		return -ENOMEM;
	s->base = base;
	s->a = a;
	for (size_t i = 0; i < USERS_MAX; i++) {
		s->user[i].all = s;
		s->user[i].fd = -1;
	}
	/* Keys come out of it: whoever may connect speaks in the workloads' names. */
	rc = pk_listener_create(&s->listener, base, path, SOCK_SEQPACKET, on_accept, s, diag);
	if (rc < 0) {
		svid_users_destroy(s);
		return rc;
	}
	*out = s;
	return 0;
}

void
svid_users_destroy(struct svid_users *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < USERS_MAX; i++) {
		struct svid_user *u = &s->user[i];
		struct queued *q;

		if (u->fd < 0)
			continue;
		event_free(u->readable);
		event_free(u->writable);
		close(u->fd);
		while ((q = u->first) != NULL) {
			u->first = q->next;
			free_queued(q);
		}
		free(u->watch);
	}
	pk_listener_destroy(s->listener);
	free(s);
}
