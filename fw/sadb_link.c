#include "fw/sadb_link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "fw/reject.h"
#include "lib/log.h"
#include "lib/secret.h"

#define MESSAGES_PER_TURN   64 /* then other events get a chance */
#define TICK_MS             10
#define SAD_NS              (200 * PK_NS_PER_MS) /* between two looks at all lifetimes */
#define ACQUIRE_SLOTS       4096
#define ACQUIRES_PER_SECOND 1000
#define BAD_SPIS_PER_SECOND 10
#define SOCKET_BUFFER       (4 << 20)

struct fw_sadb_link {
	struct fw_sadb_conf conf;
	struct fw_own *own; /* NULL: no addresses */
	struct event *accept_event, *read_event, *tick_event;
	int listen_fd, fd;
	uint64_t epoch, sad_ns;
	struct fw_limit acquire_limit, bad_spi_limit;
	/* who has been asked for lately: a hash of the two addresses, and when; what shares a slot waits for its turn */
	struct {
		uint64_t name, at_ns;
	} acquired[ACQUIRE_SLOTS];
	struct fw_sadb_status status;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

static void
hang_up(struct fw_sadb_link *l, const char *why)
{
	if (l->fd < 0)
		return;
	pk_notice("key maker: connection ended: %s", why);
	event_free(l->read_event);
	close(l->fd);
	l->fd = -1;
	l->status.connected = false;
}

/* Events are worth nothing to one who does not read them. */
static void
tell(struct fw_sadb_link *l, const struct pk_sadb *m, const void *more, size_t len)
{
	struct iovec iov[2] = { { (void *)(uintptr_t)m, sizeof(*m) },
		{ (void *)(uintptr_t)more, len } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = len != 0 ? 2 : 1 };

	if (l->fd < 0)
		return;
	if (sendmsg(l->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
		return;
	if (errno == EAGAIN)
		l->status.events_lost++;
	else
		hang_up(l, strerror(errno));
}

static void
say_hello(struct fw_sadb_link *l)
{
	struct pk_sadb m;

	pk_sadb_init(&m, PK_SADB_HELLO, 0);
	snprintf(m.hello.program, sizeof(m.hello.program), "picketd");
	snprintf(m.hello.instance, sizeof(m.hello.instance), "%s", l->conf.instance);
	m.hello.epoch = l->epoch;
	m.hello.pid = (uint32_t)getpid();
	m.hello.nb_sas_max = esp_sad_capacity(l->conf.esp->sad);
	tell(l, &m, NULL, 0);
	for (unsigned int i = 0; i < l->conf.esp->nb_locals; i++) {
		const struct fw_local *a = &l->conf.esp->local[i];

		pk_sadb_init(&m, PK_SADB_LOCAL, 0);
		m.local.addr = a->addr;
		m.local.gateway = a->gateway;
		m.local.prefix_len = a->prefix_len;
		m.local.wire = a->wire;
		m.local.vrf = a->vrf;
		m.local.mtu = a->mtu;
		tell(l, &m, NULL, 0);
	}
}

/* What a request asks for.  *removed: something that lcores may still be using. */
static int
serve(struct fw_sadb_link *l, const struct pk_sadb *m, struct pk_sadb_answer *answer, bool *removed,
    struct pk_diag *diag)
{
	struct esp_sad *sad = l->conf.esp->sad;
	uint64_t now_ns = fw_workers_now_ns();

	switch (m->h.type) {
	case PK_SADB_GET_SPI:
		return esp_sad_get_spi(sad, &m->get_spi, now_ns, &answer->spi, diag);
	case PK_SADB_ADD_SA:
		return esp_sad_add(sad, &m->add_sa, now_ns, diag);
	case PK_SADB_UPDATE_SA:
		return esp_sad_update(sad, &m->update_sa, diag);
	case PK_SADB_DEL_SA:
		*removed = true;
		return esp_sad_delete(sad, &m->sa.id, diag);
	case PK_SADB_QUERY_SA:
		return esp_sad_query(sad, &m->sa.id, now_ns, answer, diag);
	case PK_SADB_ADD_POLICY:
		*removed = true;
		return esp_sad_add_policy(sad, &m->policy, diag);
	case PK_SADB_DEL_POLICY:
		*removed = true;
		return esp_sad_delete_policy(sad, &m->policy, diag);
	case PK_SADB_FLUSH:
		*removed = true;
		esp_sad_flush(sad, m->flush.what);
		return 0;
	default:
		pk_diag_set(
		    diag, "SADB %s is nothing to ask picketd for", pk_sadb_type_name(m->h.type));
		return -EPROTO;
	}
}

static void
take_ike(struct fw_sadb_link *l, const struct pk_sadb *m, const uint8_t *bytes)
{
	static uint64_t last_ns, suppressed;
	int rc = l->own != NULL ? fw_own_send_ike(l->own, &m->ike, bytes, m->h.more)
	                        : -EADDRNOTAVAIL;
	uint64_t now_ns = fw_workers_now_ns();

	l->status.ike_out += rc == 0;
	if (rc == 0 || rc == -ENOBUFS)
		return;
	suppressed++;
	if (now_ns - last_ns < PK_NS_PER_S)
		return;
	pk_warn("IKE packet of %u bytes not sent (%llu of them): %s", m->h.more,
	    (unsigned long long)suppressed,
	    rc == -EMSGSIZE ? "longer than the link" : "not from an ipsec-address of that wire");
	last_ns = now_ns;
	suppressed = 0;
}

static void
on_message(evutil_socket_t fd, short what, void *arg)
{
	static struct pk_sadb answers[MESSAGES_PER_TURN];
	static struct {
		struct pk_sadb m;
		uint8_t more[PK_SADB_IKE_MAX];
	} in;
	struct fw_sadb_link *l = arg;
	const char *gone = NULL;
	unsigned int nb = 0;
	bool removed = false;

	(void)what;
	for (unsigned int k = 0; k < MESSAGES_PER_TURN && gone == NULL; k++) {
		ssize_t n = recv(fd, &in, sizeof(in), MSG_DONTWAIT | MSG_TRUNC);
		struct pk_diag diag = { .text = "" };
		struct pk_sadb *a = &answers[nb];
		int rc;

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n <= 0) {
			gone = n == 0 ? "closed by the key maker" : strerror(errno);
			break;
		}
		if ((size_t)n > sizeof(in) || pk_sadb_check(&in.m, (size_t)n, &diag) < 0) {
			pk_warn("key maker: %s",
			    (size_t)n > sizeof(in) ? "message too long" : diag.text);
			gone = "it does not speak our protocol";
			break;
		}
		if (in.m.h.type == PK_SADB_HELLO) {
			memcpy(l->status.program, in.m.hello.program, sizeof(l->status.program));
			say_hello(l);
			continue;
		}
		if (in.m.h.type == PK_SADB_IKE) {
			take_ike(l, &in.m, in.more);
			continue;
		}
		pk_sadb_init(a, PK_SADB_ANSWER, in.m.h.seq);
		rc = serve(l, &in.m, &a->answer, &removed, &diag);
		pk_wipe(&in, sizeof(in.m)); /* there may have been keys in it */
		a->answer.error = rc;
		l->status.requests++;
		l->status.refused += rc < 0;
		if (rc < 0)
			snprintf(a->answer.text, sizeof(a->answer.text), "%.255s", diag.text);
		nb++;
	}
	pk_wipe(&in, sizeof(in.m));
	/* One wait for all that was asked for in this turn; only then is it true what the answers say. */
	if (removed)
		esp_sad_settle(l->conf.esp->sad);
	for (unsigned int i = 0; i < nb && l->fd >= 0; i++)
		tell(l, &answers[i], NULL, 0);
	if (gone != NULL)
		hang_up(l, gone);
}

static void
on_accept(evutil_socket_t fd, short what, void *arg)
{
	struct fw_sadb_link *l = arg;
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), size = SOCKET_BUFFER;

	(void)what;
	if (client < 0)
		return;
	hang_up(l, "another took its place");
	(void)setsockopt(client, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	l->fd = client;
	l->status.connected = true;
	l->status.program[0] = '\0';
	l->read_event = event_new(l->conf.base, client, EV_READ | EV_PERSIST, on_message, l);
	PK_ASSERT(l->read_event != NULL && event_add(l->read_event, NULL) == 0);
	pk_notice("key maker: connected");
}

/* ---- what happens by itself ---- */

static uint64_t
name_of(const struct esp_flow *f)
{
	uint64_t h = f->vrf, w[4];

	memcpy(w, f->src.bytes, 16);
	memcpy(w + 2, f->dst.bytes, 16);
	for (unsigned int i = 0; i < 4; i++) {
		h = (h ^ w[i]) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 29;
	}
	return h | 1;
}

static void
acquire(struct fw_sadb_link *l, const struct fw_ask *ask, uint64_t now_ns)
{
	uint64_t name = name_of(&ask->flow);
	unsigned int slot = (unsigned int)(name >> 20) % ACQUIRE_SLOTS;
	struct pk_sadb m;

	if (l->acquired[slot].name != 0 && now_ns - l->acquired[slot].at_ns < PK_NS_PER_S)
		return;
	if (!fw_limit_take(&l->acquire_limit, now_ns, ACQUIRES_PER_SECOND, ACQUIRES_PER_SECOND))
		return;
	l->acquired[slot].name = name;
	l->acquired[slot].at_ns = now_ns;
	l->status.acquires++;
	pk_sadb_init(&m, PK_SADB_ACQUIRE, 0);
	m.acquire.reqid = esp_sad_tunnel_reqid(l->conf.esp->sad, ask->tunnel);
	m.acquire.wire = ask->wire;
	m.acquire.proto = ask->flow.proto;
	m.acquire.vrf = ask->flow.vrf;
	m.acquire.src = ask->flow.src;
	m.acquire.dst = ask->flow.dst;
	m.acquire.sport = ask->flow.sport;
	m.acquire.dport = ask->flow.dport;
	tell(l, &m, NULL, 0);
}

static void
bad_spi(struct fw_sadb_link *l, const struct fw_ask *ask, uint64_t now_ns)
{
	struct pk_sadb m;

	if (!fw_limit_take(&l->bad_spi_limit, now_ns, BAD_SPIS_PER_SECOND, BAD_SPIS_PER_SECOND))
		return;
	pk_sadb_init(&m, PK_SADB_BAD_SPI, 0);
	m.bad_spi.id.src = ask->flow.src;
	m.bad_spi.id.dst = ask->flow.dst;
	m.bad_spi.id.spi = ask->spi;
	m.bad_spi.wire = ask->wire;
	m.bad_spi.vrf = ask->flow.vrf;
	tell(l, &m, NULL, 0);
}

static void
on_expired(void *arg, const struct pk_sadb_expire *e)
{
	struct fw_sadb_link *l = arg;
	char dst[PK_ADDR_TEXT];
	struct pk_sadb m;

	l->status.expires++;
	pk_sadb_init(&m, PK_SADB_EXPIRE, 0);
	m.expire = *e;
	tell(l, &m, NULL, 0);
	if (e->hard)
		pk_notice("SA to %s, SPI 0x%08x, reqid %u: has ended by %s",
		    pk_addr_text(&e->id.dst, dst), e->id.spi, e->reqid,
		    pk_sadb_expire_name(e->what));
}

static void
on_moved(void *arg, const struct pk_sadb_mapping *mapping)
{
	struct fw_sadb_link *l = arg;
	struct pk_sadb m;

	pk_sadb_init(&m, PK_SADB_MAPPING, 0);
	m.mapping = *mapping;
	tell(l, &m, NULL, 0);
}

static void
on_ike(void *arg, const struct pk_sadb_ike *ike, const uint8_t *bytes, uint32_t len)
{
	struct fw_sadb_link *l = arg;
	struct pk_sadb m;

	if (len == 0 || len > PK_SADB_IKE_MAX)
		return;
	pk_sadb_init(&m, PK_SADB_IKE, 0);
	m.h.more = len;
	m.ike = *ike;
	l->status.ike_in++;
	tell(l, &m, bytes, len);
}

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct fw_sadb_link *l = arg;
	struct esp_sad_events events = { .expired = on_expired, .moved = on_moved, .arg = l };
	uint64_t now_ns = fw_workers_now_ns();
	struct fw_ask ask;

	(void)fd;
	(void)what;
	for (unsigned int k = 0; k < FW_ASKS; k++) {
		if (rte_ring_sc_dequeue_elem(l->conf.esp->asks, &ask, sizeof(ask)) != 0)
			break;
		if (ask.kind == FW_ASK_ACQUIRE)
			acquire(l, &ask, now_ns);
		else
			bad_spi(l, &ask, now_ns);
	}
	if (now_ns - l->sad_ns < SAD_NS)
		return;
	l->sad_ns = now_ns;
	esp_sad_tick(l->conf.esp->sad, now_ns, &events);
}

static int
listen_at(struct fw_sadb_link *l, const char *path, struct pk_diag *diag)
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
fw_sadb_link_create(
    struct fw_sadb_link **out, const struct fw_sadb_conf *conf, struct pk_diag *diag)
{
	static const struct timeval period = { .tv_usec = TICK_MS * 1000 };
	struct fw_sadb_link *l = calloc(1, sizeof(*l));
	int rc;

	if (l == NULL)
		return -ENOMEM;
	l->conf = *conf;
	l->listen_fd = l->fd = -1;
	rc = getrandom(&l->epoch, sizeof(l->epoch), 0) == (ssize_t)sizeof(l->epoch) ? 0 : -EIO;
	if (rc == 0)
		rc = listen_at(l, conf->path, diag);
	if (rc == 0 && conf->esp->nb_locals > 0)
		rc = fw_own_create(
		    &l->own, conf->base, conf->esp, conf->workers, conf->pool, on_ike, l);
	if (rc == 0) {
		l->accept_event =
		    event_new(conf->base, l->listen_fd, EV_READ | EV_PERSIST, on_accept, l);
		l->tick_event = event_new(conf->base, -1, EV_PERSIST, on_tick, l);
		if (l->accept_event == NULL || event_add(l->accept_event, NULL) != 0 ||
		    l->tick_event == NULL || event_add(l->tick_event, &period) != 0)
			rc = -ENOMEM;
	}
	if (rc < 0) {
		fw_sadb_link_destroy(l);
		return rc;
	}
	*out = l;
	return 0;
}

void
fw_sadb_link_destroy(struct fw_sadb_link *l)
{
	if (l == NULL)
		return;
	hang_up(l, "stopping");
	fw_own_destroy(l->own);
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

void
fw_sadb_link_status(const struct fw_sadb_link *l, struct fw_sadb_status *out)
{
	*out = l->status;
}
