#include "fw/macsec_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <rte_ethdev.h>

#include "ipsec/macsec/msg.h"
#include "lib/local.h"
#include "lib/log.h"
#include "lib/secret.h"

#define POLL_MS 5 /* how often EAPOL is fetched: key agreement has seconds */
#define POLL_MAX \
	16 /* frames of a port each time: what anybody on the link can send is bounded here */

struct fw_macsec_link {
	struct event_base *base;
	struct fw_workers *workers;
	struct macsec_msg_hello hello;
	int fd;
	struct pk_listener *listener;
	struct event *read_event, *poll;
	uint64_t requests, refused;
	unsigned int nb;
	struct {
		struct fw_macsec *m;
		char state[64];
	} port[MACSEC_PORTS_MAX];
};

static void
hang_up(struct fw_macsec_link *l, const char *why)
{
	if (l->fd < 0)
		return;
	pk_notice("mkad: connection ended: %s", why);
	event_free(l->read_event);
	close(l->fd);
	l->fd = -1;
}

static void
say(struct fw_macsec_link *l, const struct macsec_msg *m)
{
	size_t len = macsec_msg_len(m);

	/* Its queue holds more than anybody has to say in a moment; who does not read has stopped working. */
	if (l->fd >= 0 && send(l->fd, m, len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)len)
		hang_up(l, strerror(errno));
}

static struct fw_macsec *
port_of(struct fw_macsec_link *l, uint16_t wire, unsigned int *at)
{
	for (unsigned int i = 0; i < l->nb; i++) {
		if (fw_macsec_conf(l->port[i].m)->wire == wire) {
			*at = i;
			return l->port[i].m;
		}
	}
	return NULL;
}

static void
say_hello(struct fw_macsec_link *l)
{
	struct macsec_msg m;

	macsec_msg_init(&m, MACSEC_MSG_HELLO, 0);
	m.hello = l->hello;
	say(l, &m);
	for (unsigned int i = 0; i < l->nb; i++) {
		const struct fw_macsec_conf *conf = fw_macsec_conf(l->port[i].m);

		macsec_msg_init(&m, MACSEC_MSG_PORT, conf->wire);
		snprintf(m.port.name, sizeof(m.port.name), "wire %u", conf->wire);
		for (unsigned int k = 0; k < 6; k++)
			m.port.mac[k] = (uint8_t)(conf->secy.sci >> (56 - 8 * k));
		m.port.required = conf->required;
		m.port.sci = conf->secy.sci;
		say(l, &m);
	}
}

static void
say_sa(struct fw_macsec_link *l, const struct macsec_msg *request, bool receive, uint64_t sci,
    const struct macsec_sa_info *info)
{
	struct macsec_msg m;

	macsec_msg_init(&m, MACSEC_MSG_SA, request->h.port);
	m.h.seq = request->h.seq;
	m.sa.which = (struct macsec_msg_which){
		.sci = sci, .pn = info->next_pn, .receive = receive, .an = info->an
	};
	m.sa.lowest_pn = info->lowest_pn;
	m.sa.suite = info->suite;
	m.sa.confidentiality = info->confidentiality;
	m.sa.in_use = info->in_use;
	memcpy(m.sa.ki, info->ki, sizeof(m.sa.ki));
	say(l, &m);
}

static void
say_sas(struct fw_macsec_link *l, const struct macsec_msg *request, const struct fw_macsec *port,
    struct macsec_secy *s)
{
	struct macsec_sa_info info;
	uint64_t sci;

	for (uint8_t an = 0; an < MACSEC_ANS; an++)
		if (macsec_tx_sa_info(s, an, &info))
			say_sa(l, request, false, fw_macsec_conf(port)->secy.sci, &info);
	for (unsigned int i = 0; macsec_rx_sc_at(s, i, &sci); i++)
		for (uint8_t an = 0; an < MACSEC_ANS; an++)
			if (macsec_rx_sa_info(s, sci, an, &info))
				say_sa(l, request, true, sci, &info);
}

static int
sa_add(struct macsec_secy *s, const struct macsec_msg_sa_add *add, struct pk_diag *diag)
{
	struct macsec_sa_conf conf = { .suite = add->suite,
		.an = add->which.an,
		.confidentiality = add->confidentiality,
		.ssci = add->ssci,
		.pn = add->pn };
	int rc;

	memcpy(conf.key, add->key, sizeof(conf.key));
	memcpy(conf.salt, add->salt, sizeof(conf.salt));
	memcpy(conf.ki, add->ki, sizeof(conf.ki));
	rc = add->which.receive ? macsec_rx_sa_add(s, add->which.sci, &conf, diag)
	                        : macsec_tx_sa_add(s, &conf, diag);
	pk_wipe(&conf, sizeof(conf));
	return rc;
}

/* What a request asks for.  Returns 0 or a negative errno with *diag. */
static int
obey(struct fw_macsec_link *l, const struct macsec_msg *m, struct pk_diag *diag)
{
	unsigned int at;
	struct fw_macsec *port = port_of(l, m->h.port, &at);
	struct macsec_secy *s;
	bool changes = true;
	int rc = 0;

	pk_diag_set(diag, "there is no such association");
	if (port == NULL) {
		pk_diag_set(diag, "wire %u has no MACsec", m->h.port);
		return -ENODEV;
	}
	s = fw_macsec_secy(port);
	switch (m->h.type) {
	case MACSEC_MSG_SC_ADD:
		rc = macsec_rx_sc_add(s, m->which.sci, diag);
		break;
	case MACSEC_MSG_SC_DELETE:
		rc = macsec_rx_sc_delete(s, m->which.sci);
		break;
	case MACSEC_MSG_SA_ADD:
		rc = sa_add(s, &m->sa_add, diag);
		break;
	case MACSEC_MSG_SA_DELETE:
		rc = m->which.receive ? macsec_rx_sa_delete(s, m->which.sci, m->which.an)
		                      : macsec_tx_sa_delete(s, m->which.an);
		break;
	case MACSEC_MSG_SA_USE:
		rc = macsec_tx_sa_use(s, m->which.an);
		break;
	case MACSEC_MSG_SA_FLOOR:
		rc = macsec_rx_sa_floor(s, m->which.sci, m->which.an, m->which.pn);
		changes = false;
		break;
	case MACSEC_MSG_PORT_SET:
		fw_macsec_enable(port, m->port_set.enabled);
		memcpy(l->port[at].state, m->port_set.state, sizeof(l->port[at].state));
		changes = false;
		break;
	case MACSEC_MSG_GET:
		say_sas(l, m, port, s);
		changes = false;
		break;
	default:
		pk_diag_set(diag, "a message %s is not a request", macsec_msg_type_name(m->h.type));
		return -EPROTO;
	}
	if (rc == 0 && changes) {
		macsec_secy_commit(s);
		if (m->h.type == MACSEC_MSG_SC_DELETE || m->h.type == MACSEC_MSG_SA_DELETE)
			fw_workers_wait(l->workers);
		else
			return 0; /* what has gone out of view is freed with the next one */
		macsec_secy_reclaim(s);
	}
	return rc;
}

static void
on_message(evutil_socket_t fd, short what, void *arg)
{
	struct fw_macsec_link *l = arg;
	struct macsec_msg m, answer;
	struct pk_diag diag;
	unsigned int at;
	ssize_t n = recv(fd, &m, sizeof(m), MSG_DONTWAIT | MSG_TRUNC);
	int rc;

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		hang_up(l, n == 0 ? "closed by mkad" : strerror(errno));
		return;
	}
	if ((size_t)n > sizeof(m) || macsec_msg_check(&m, (size_t)n, &diag) < 0) {
		hang_up(l, (size_t)n > sizeof(m) ? "a message longer than any" : diag.text);
		return;
	}
	if (m.h.type == MACSEC_MSG_HELLO) {
		say_hello(l);
		return;
	}
	if (m.h.type == MACSEC_MSG_EAPOL) {
		struct fw_macsec *port = port_of(l, m.h.port, &at);

		if (port != NULL)
			(void)fw_macsec_inject(port, m.eapol.frame, m.eapol.len);
		return;
	}
	l->requests++;
	rc = obey(l, &m, &diag);
	l->refused += rc < 0;
	macsec_msg_init(&answer, MACSEC_MSG_STATUS, m.h.port);
	answer.h.seq = m.h.seq;
	answer.status.error = rc;
	if (rc < 0)
		snprintf(answer.status.text, sizeof(answer.status.text), "%.187s", diag.text);
	pk_wipe(&m, sizeof(m));
	say(l, &answer);
}

static void
on_accept(void *arg, int client)
{
	struct fw_macsec_link *l = arg;

	hang_up(l, "another took its place");
	l->fd = client;
	l->read_event = event_new(l->base, client, EV_READ | EV_PERSIST, on_message, l);
	PK_ASSERT(l->read_event != NULL && event_add(l->read_event, NULL) == 0);
	pk_notice("mkad: connected");
}

static void
on_poll(evutil_socket_t fd, short what, void *arg)
{
	struct fw_macsec_link *l = arg;
	struct macsec_msg m;

	(void)fd;
	(void)what;
	for (unsigned int i = 0; i < l->nb; i++) {
		uint16_t wire = fw_macsec_conf(l->port[i].m)->wire;
		size_t len;

		for (unsigned int k = 0; k < POLL_MAX; k++) {
			macsec_msg_init(&m, MACSEC_MSG_EAPOL, wire);
			len = fw_macsec_eapol(l->port[i].m, m.eapol.frame, sizeof(m.eapol.frame));
			if (len == 0)
				break;
			m.eapol.len = (uint16_t)len;
			/* A frame that finds no room is lost, as on a wire; a flood of them ends no connection. */
			if (len >= 18 && l->fd >= 0)
				(void)!send(
				    l->fd, &m, macsec_msg_len(&m), MSG_NOSIGNAL | MSG_DONTWAIT);
		}
	}
}

int
fw_macsec_link_create(struct fw_macsec_link **out, struct event_base *base, const char *path,
    const char *instance, struct fw_workers *workers, struct fw_macsec *const *ports,
    unsigned int nb, struct pk_diag *diag)
{
	static const struct timeval every = { .tv_usec = POLL_MS * 1000 };
	struct fw_macsec_link *l = calloc(1, sizeof(*l));
	int rc;

	PK_ASSERT(nb <= MACSEC_PORTS_MAX);
	if (l == NULL)
		return -ENOMEM;
	l->base = base;
	l->workers = workers;
	l->fd = -1;
	l->nb = nb;
	for (unsigned int i = 0; i < nb; i++)
		l->port[i].m = ports[i];
	snprintf(l->hello.program, sizeof(l->hello.program), "picketd");
	snprintf(l->hello.instance, sizeof(l->hello.instance), "%s", instance);
	if (getrandom(&l->hello.epoch, sizeof(l->hello.epoch), 0) !=
	    (ssize_t)sizeof(l->hello.epoch))
		l->hello.epoch = (uint64_t)getpid();
	rc = pk_listener_create(&l->listener, base, path, SOCK_SEQPACKET, on_accept, l, diag);
	if (rc == 0) {
		l->poll = event_new(base, -1, EV_PERSIST, on_poll, l);
		rc = l->poll != NULL && event_add(l->poll, &every) == 0 ? 0 : -ENOMEM;
	}
	if (rc < 0) {
		fw_macsec_link_destroy(l);
		return rc;
	}
	*out = l;
	return 0;
}

void
fw_macsec_link_destroy(struct fw_macsec_link *l)
{
	if (l == NULL)
		return;
	hang_up(l, "stopping");
	if (l->poll != NULL)
		event_free(l->poll);
	pk_listener_destroy(l->listener);
	free(l);
}

void
fw_macsec_link_status(const struct fw_macsec_link *l, struct fw_macsec_link_status *out)
{
	*out = (struct fw_macsec_link_status){
		.connected = l->fd >= 0, .requests = l->requests, .refused = l->refused
	};
}

struct fw_macsec *
fw_macsec_link_port(const struct fw_macsec_link *l, unsigned int i, const char **state)
{
	if (l == NULL || i >= l->nb)
		return NULL;
	*state = l->port[i].state;
	return l->port[i].m;
}
