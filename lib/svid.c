#include "lib/svid.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>
#include <openssl/err.h>
#include <openssl/x509.h>

#include "lib/local.h"
#include "lib/log.h"
#include "lib/svid_wire.h"

#define RETRY_MS 200

struct held {
	struct pk_svid s;
	bool good; /* neither gone nor never served */
};

struct pk_svid_source {
	struct event_base *base;
	const struct pk_svid_ops *ops;
	void *arg;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int fd;
	struct event *readable, *retry;
	struct pk_svid_trust *trust;
	char domain[PK_SVID_DOMAIN_MAX]; /* of a bundle that waits for its revocations */
	uint8_t *bundle;
	size_t bundle_len;
	char (*watch)[PK_SVID_WORKLOAD_MAX];
	size_t nb_watch;
	struct held **held;
	size_t nb_held;
	uint8_t bytes[PK_SVID_WIRE_MAX];
};

static void
drop(struct held *h)
{
	X509_free(h->s.leaf);
	sk_X509_pop_free(h->s.chain, X509_free);
	EVP_PKEY_free(h->s.key);
	h->s.leaf = NULL;
	h->s.chain = NULL;
	h->s.key = NULL;
	h->good = false;
}

static struct held *
find(const struct pk_svid_source *s, const char *workload)
{
	for (size_t i = 0; i < s->nb_held; i++)
		if (strcmp(s->held[i]->s.workload, workload) == 0)
			return s->held[i];
	return NULL;
}

static struct held *
find_or_add(struct pk_svid_source *s, const char *workload)
{
	struct held *h = find(s, workload), **wider;

	if (h != NULL)
		return h;
	wider = realloc(s->held, (s->nb_held + 1) * sizeof(*wider));
	if (wider == NULL)
		return NULL;
	s->held = wider;
	h = calloc(1, sizeof(*h));
	if (h == NULL)
		return NULL;
	snprintf(h->s.workload, sizeof(h->s.workload), "%s", workload);
	s->held[s->nb_held++] = h;
	return h;
}

static void
lose(struct pk_svid_source *s, const char *why)
{
	static const struct timeval retry = { .tv_usec = RETRY_MS * 1000 };

	if (s->fd >= 0) {
		pk_notice("%s: disconnected: %s", s->path, why);
		event_free(s->readable);
		s->readable = NULL;
		close(s->fd);
		s->fd = -1;
	}
	event_add(s->retry, &retry);
}

static void
send_watch(struct pk_svid_source *s, const char *workload)
{
	struct pk_svid_message m = { .type = PK_SVID_MESSAGE_WATCH };
	ssize_t n;

	if (s->fd < 0)
		return;
	snprintf(m.workload, sizeof(m.workload), "%s", workload);
	n = pk_local_send(s->fd, s->bytes, pk_svid_message_pack(s->bytes, &m), -1);
	if (n < 0)
		lose(s, strerror((int)-n));
}

/* ---- what comes ---- */

/* The key in a memory file that cannot change its size under us. */
static EVP_PKEY *
read_key(int fd)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW;
	struct stat st;
	EVP_PKEY *key = NULL;
	const uint8_t *p;
	void *map;

	if (fd < 0 || fstat(fd, &st) != 0 || st.st_size <= 0 || st.st_size > PK_SVID_KEY_MAX ||
	    (fcntl(fd, F_GET_SEALS) & seals) != seals)
		return NULL;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return NULL;
	p = map;
	key = d2i_AutoPrivateKey(NULL, &p, st.st_size);
	munmap(map, (size_t)st.st_size);
	return key;
}

static int
take_svid(struct pk_svid_source *s, const struct pk_svid_message *m, int fd)
{
	struct held *h = find_or_add(s, m->workload);
	const uint8_t *p = m->bytes, *end = m->bytes + m->len;
	X509 *leaf = d2i_X509(NULL, &p, end - p);
	STACK_OF(X509) *chain = sk_X509_new_null();
	EVP_PKEY *key = read_key(fd);

	while (leaf != NULL && chain != NULL && p < end) {
		X509 *next = d2i_X509(NULL, &p, end - p);

		if (next == NULL || sk_X509_push(chain, next) <= 0) {
			X509_free(next);
			break;
		}
	}
	ERR_clear_error();
	if (h == NULL || leaf == NULL || chain == NULL || p != end || key == NULL ||
	    X509_check_private_key(leaf, key) != 1) {
		ERR_clear_error();
		X509_free(leaf);
		sk_X509_pop_free(chain, X509_free);
		EVP_PKEY_free(key);
		return -EPROTO;
	}
	drop(h);
	h->s.leaf = leaf;
	h->s.chain = chain;
	h->s.key = key;
	h->s.not_after_s = m->not_after_s;
	h->s.epoch = m->epoch;
	snprintf(h->s.id, sizeof(h->s.id), "%s", m->id);
	h->good = true;
	s->ops->svid(s->arg, &h->s);
	return 0;
}

static int
take(struct pk_svid_source *s, const struct pk_svid_message *m, int key)
{
	struct pk_diag diag;
	struct held *h;
	int err;

	switch (m->type) {
	case PK_SVID_MESSAGE_SVID:
		return take_svid(s, m, key);
	case PK_SVID_MESSAGE_WAITING:
		if (s->ops->waiting != NULL)
			s->ops->waiting(s->arg, m->workload, m->text);
		return 0;
	case PK_SVID_MESSAGE_GONE:
		if ((h = find(s, m->workload)) != NULL)
			drop(h);
		s->ops->gone(s->arg, m->workload, m->text);
		return 0;
	case PK_SVID_MESSAGE_BUNDLE:
		free(s->bundle);
		s->bundle = malloc(m->len + 1);
		if (s->bundle == NULL || strlen(m->text) >= sizeof(s->domain))
			return -EPROTO;
		memcpy(s->bundle, m->bytes, m->len);
		s->bundle_len = m->len;
		strcpy(s->domain, m->text);
		return 0;
	case PK_SVID_MESSAGE_REVOKED:
		err = pk_svid_revocations_take(s->trust, m->bytes, m->len);
		if (err != 0 || (m->flags & PK_SVID_LAST) == 0)
			return err;
		if (s->bundle != NULL) {
			err = pk_svid_trust_set_bundle(
			    s->trust, s->domain, s->bundle, s->bundle_len, &diag);
			free(s->bundle);
			s->bundle = NULL;
			if (err != 0)
				return err;
		}
		pk_svid_trust_expire(s->trust, time(NULL));
		s->ops->trust(s->arg, s->trust);
		return 0;
	default:
		return -EPROTO;
	}
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct pk_svid_source *s = arg;
	struct pk_svid_message m;
	struct pk_diag diag;
	ssize_t n;
	int key, err;

	(void)what;
	n = pk_local_recv(fd, s->bytes, sizeof(s->bytes), &key);
	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0) {
		lose(s, n == 0 ? "the agent has gone" : strerror((int)-n));
		return;
	}
	err = pk_svid_message_parse(&m, s->bytes, (size_t)n, &diag);
	if (err == 0)
		err = take(s, &m, key);
	if (key >= 0)
		close(key);
	if (err != 0)
		lose(s, "the agent does not speak our protocol");
}

static void
on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct pk_svid_source *s = arg;

	(void)fd;
	(void)what;
	if (s->fd >= 0)
		return;
	strcpy(addr.sun_path, s->path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) != 0) {
		if (fd >= 0)
			close(fd);
		lose(s, "");
		return;
	}
	s->fd = fd;
	s->readable = event_new(s->base, fd, EV_READ | EV_PERSIST, on_readable, s);
	PK_ASSERT(s->readable != NULL && event_add(s->readable, NULL) == 0);
	pk_info("%s: connected", s->path);
	for (size_t i = 0; i < s->nb_watch; i++)
		send_watch(s, s->watch[i]);
}

/* ---- the caller's side ---- */

int
pk_svid_source_create(struct pk_svid_source **out, struct event_base *base, const char *path,
    const struct pk_svid_ops *ops, void *arg, struct pk_diag *diag)
{
	static const struct timeval now;
	struct pk_svid_source *s = calloc(1, sizeof(*s));

	pk_diag_set(diag, "no memory");
	if (s == NULL)
		return -ENOMEM;
	s->base = base;
	s->ops = ops;
	s->arg = arg;
	s->fd = -1;
	if ((size_t)snprintf(s->path, sizeof(s->path), "%s", path) >= sizeof(s->path)) {
		pk_diag_set(
		    diag, "%s: a socket's path has at most %zu bytes", path, sizeof(s->path) - 1);
		free(s);
		return -ENAMETOOLONG;
	}
	s->retry = evtimer_new(base, on_retry, s);
	if (s->retry == NULL || pk_svid_trust_create(&s->trust) != 0 ||
	    event_add(s->retry, &now) != 0) {
		pk_svid_source_destroy(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

void
pk_svid_source_destroy(struct pk_svid_source *s)
{
	if (s == NULL)
		return;
	if (s->readable != NULL)
		event_free(s->readable);
	if (s->fd >= 0)
		close(s->fd);
	if (s->retry != NULL)
		event_free(s->retry);
	for (size_t i = 0; i < s->nb_held; i++) {
		drop(s->held[i]);
		free(s->held[i]);
	}
	free(s->held);
	free(s->bundle);
	free(s->watch);
	pk_svid_trust_destroy(s->trust);
	free(s);
}

int
pk_svid_source_watch(struct pk_svid_source *s, const char *workload)
{
	char(*wider)[PK_SVID_WORKLOAD_MAX];

	if (strlen(workload) >= PK_SVID_WORKLOAD_MAX)
		return -EINVAL;
	for (size_t i = 0; i < s->nb_watch; i++)
		if (strcmp(s->watch[i], workload) == 0)
			return 0;
	wider = realloc(s->watch, (s->nb_watch + 1) * sizeof(*wider));
	if (wider == NULL)
		return -ENOMEM;
	s->watch = wider;
	strcpy(s->watch[s->nb_watch++], workload);
	send_watch(s, workload);
	return 0;
}

const struct pk_svid *
pk_svid_source_find(const struct pk_svid_source *s, const char *workload, time_t now)
{
	const struct held *h = find(s, workload);

	return h != NULL && h->good && h->s.not_after_s > (uint64_t)now ? &h->s : NULL;
}

const struct pk_svid_trust *
pk_svid_source_trust(const struct pk_svid_source *s)
{
	return s->trust;
}

bool
pk_svid_source_connected(const struct pk_svid_source *s)
{
	return s->fd >= 0;
}
