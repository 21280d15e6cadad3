#include "ipsec/mka/mkad.h"

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

#include "ipsec/mka/mkad_priv.h"
#include "lib/clock.h"
#include "lib/secret.h"

#define RETRY_MS 200

static void lose(struct mkad *d, const char *why);

/* ---- what KaYs ask for --------------------------------------------------------------------------- */

static void
say(struct mkad *d, struct macsec_msg *m)
{
	size_t len = macsec_msg_len(m);

	m->h.seq = ++d->seq;
	if (d->fd >= 0 && send(d->fd, m, len, MSG_NOSIGNAL) != (ssize_t)len)
		lose(d, strerror(errno));
}

static void
say_which(struct mkad_port *p, enum macsec_msg_type type, bool receive, uint64_t sci, uint8_t an,
    uint64_t pn)
{
	struct macsec_msg m;

	macsec_msg_init(&m, type, p->wire);
	m.which = (struct macsec_msg_which){ .sci = sci, .pn = pn, .receive = receive, .an = an };
	say(p->d, &m);
}

static void
op_send(void *arg, const uint8_t *frame, size_t len)
{
	struct mkad_port *p = arg;
	struct macsec_msg m;

	macsec_msg_init(&m, MACSEC_MSG_EAPOL, p->wire);
	m.eapol.len = (uint16_t)len;
	memcpy(m.eapol.frame, frame, len);
	say(p->d, &m);
}

static int
op_random(void *arg, void *bytes, size_t len)
{
	(void)arg;
	return getrandom(bytes, len, 0) == (ssize_t)len ? 0 : -EIO;
}

static void
op_rx_sc_add(void *arg, uint64_t sci)
{
	say_which(arg, MACSEC_MSG_SC_ADD, true, sci, 0, 0);
}

static void
op_rx_sc_delete(void *arg, uint64_t sci)
{
	say_which(arg, MACSEC_MSG_SC_DELETE, true, sci, 0, 0);
}

static void
ki_bytes(const struct mka_ki *ki, uint8_t out[16])
{
	memcpy(out, ki->mi, MKA_MI);
	for (unsigned int i = 0; i < 4; i++)
		out[MKA_MI + i] = (uint8_t)(ki->kn >> (24 - 8 * i));
}

static void
op_sa_add(void *arg, const struct mka_sa *sa)
{
	struct mkad_port *p = arg;
	struct macsec_msg m;

	macsec_msg_init(&m, MACSEC_MSG_SA_ADD, p->wire);
	m.sa_add.which =
	    (struct macsec_msg_which){ .sci = sa->sci, .receive = sa->receive, .an = sa->an };
	m.sa_add.suite = sa->suite;
	m.sa_add.confidentiality = sa->confidentiality;
	m.sa_add.ssci = sa->ssci;
	m.sa_add.pn = sa->pn;
	memcpy(m.sa_add.key, sa->key, macsec_suite_key_len(sa->suite));
	memcpy(m.sa_add.salt, sa->salt, sizeof(m.sa_add.salt));
	ki_bytes(&sa->ki, m.sa_add.ki);
	say(p->d, &m);
	pk_wipe(&m, sizeof(m));
}

static void
op_sa_delete(void *arg, bool receive, uint64_t sci, uint8_t an)
{
	say_which(arg, MACSEC_MSG_SA_DELETE, receive, sci, an, 0);
}

static void
op_sa_use(void *arg, uint8_t an)
{
	say_which(arg, MACSEC_MSG_SA_USE, false, 0, an, 0);
}

static void
op_sa_floor(void *arg, uint64_t sci, uint8_t an, uint64_t pn)
{
	say_which(arg, MACSEC_MSG_SA_FLOOR, true, sci, an, pn);
}

static void
say_port(struct mkad_port *p)
{
	struct macsec_msg m;

	macsec_msg_init(&m, MACSEC_MSG_PORT_SET, p->wire);
	m.port_set.enabled = p->enabled;
	memcpy(m.port_set.state, p->state, sizeof(m.port_set.state));
	say(p->d, &m);
}

static void
op_enable(void *arg, bool enabled)
{
	struct mkad_port *p = arg;

	p->enabled = enabled;
	say_port(p);
}

static void
op_event(void *arg, enum mka_event event, const char *text)
{
	struct mkad_port *p = arg;
	struct mkad_event *e = &p->d->event[p->d->nb_events % MKAD_EVENTS];
	uint32_t left_out = 0;

	/* What anybody on the link can provoke neither fills the log nor pushes out what has happened. */
	if (event == MKA_REFUSED) {
		if (!pk_log_limit(&p->refused_limit, pk_clock_mono_ns(), &left_out))
			return;
		pk_warn("wire %u: refused: %s (%u more not logged)", p->wire, text, left_out);
	} else {
		pk_notice("wire %u: %s: %s", p->wire, mka_event_name(event), text);
	}
	p->d->nb_events++;
	*e = (struct mkad_event){
		.wall_ns = pk_clock_wall_ns(), .wire = p->wire, .event = (uint8_t)event
	};
	snprintf(e->text, sizeof(e->text), "%s", text);
}

static const struct mka_kay_ops ops = {
	.send = op_send,
	.random = op_random,
	.rx_sc_add = op_rx_sc_add,
	.rx_sc_delete = op_rx_sc_delete,
	.sa_add = op_sa_add,
	.sa_delete = op_sa_delete,
	.sa_use = op_sa_use,
	.sa_floor = op_sa_floor,
	.enable = op_enable,
	.event = op_event,
};

/* ---- ports ---------------------------------------------------------------------------------------- */

static int
make_kay(struct mkad_port *p)
{
	const struct mkad_conf *c = p->d->conf;
	uint64_t now = pk_clock_mono_ns();
	struct mka_kay_conf conf;
	struct pk_diag diag;
	int rc;

	mka_kay_conf_init(&conf);
	memcpy(conf.mac, p->port.mac, sizeof(conf.mac));
	conf.sci = p->port.sci;
	conf.priority = (uint8_t)c->priority;
	conf.suite = (uint8_t)(c->suite + 1);
	conf.confidentiality = (uint8_t)c->confidentiality;
	conf.delay_protect = c->delay_protect;
	conf.hello_ns = c->hello_ns;
	conf.life_ns = c->life_ns;
	conf.retire_ns = c->retire_ns;
	conf.rekey_ns = c->rekey_ns;
	conf.pn_limit = c->pn_limit;
	rc = mka_kay_create(&p->kay, &conf, &ops, p, &diag);
	for (int i = 0; rc == 0 && i < p->keys.nb; i++) {
		const struct mka_cak *key = &p->keys.cak[i];

		rc =
		    mka_kay_add(p->kay, key->cak, key->cak_len, key->ckn, key->ckn_len, now, &diag);
	}
	if (rc < 0) {
		pk_error("wire %u: no key agreement: %s", p->wire, diag.text);
		mka_kay_destroy(p->kay);
		p->kay = NULL;
	}
	return rc;
}

/* The associations that picketd has are known: go on with them, or begin afresh without. */
static void
begin(struct mkad_port *p)
{
	struct mka_saved saved;
	bool go_on = false;

	p->asked = false;
	snprintf(p->state, sizeof(p->state), "no key");
	/* The agent may be about to bring some: what there is goes on until it has said so. */
	if (p->keys.nb == 0 && !p->d->granted)
		return;
	if (p->keys.nb > 0 && make_kay(p) < 0)
		return;
	if (p->kay != NULL && mkad_state_load(p, &saved)) {
		uint8_t ki[16];

		ki_bytes(&saved.ki, ki);
		for (unsigned int i = 0; i < p->nb_sa; i++)
			go_on |= !p->sa[i].which.receive && p->sa[i].in_use &&
			    p->sa[i].which.an == saved.an &&
			    memcmp(p->sa[i].ki, ki, sizeof(ki)) == 0;
		go_on = go_on && mka_kay_resume(p->kay, &saved, pk_clock_mono_ns()) == 0;
	}
	for (unsigned int i = 0; !go_on && i < p->nb_sa; i++)
		say_which(p, p->sa[i].which.receive ? MACSEC_MSG_SC_DELETE : MACSEC_MSG_SA_DELETE,
		    p->sa[i].which.receive, p->sa[i].which.sci, p->sa[i].which.an, 0);
	if (!go_on)
		op_enable(p, false);
	mkad_wake(p->d);
}

struct mkad_port *
mkad_port_of(struct mkad *d, uint16_t wire)
{
	for (unsigned int i = 0; i < d->nb_ports; i++)
		if (d->port[i].wire == wire)
			return &d->port[i];
	return NULL;
}

struct mkad_port *
mkad_port_add(struct mkad *d, uint16_t wire)
{
	struct mkad_port *p = wire < MACSEC_PORTS_MAX ? &d->port[d->nb_ports++] : NULL;

	if (p == NULL)
		return NULL;
	p->d = d;
	p->wire = wire;
	p->refused_limit = (struct pk_log_limit)PK_LOG_LIMIT(1, 10);
	return p;
}

/* Ask for the associations of the next port.  One at a time, so that the answers of many fit into the socket. */
static void
ask_next(struct mkad *d)
{
	struct macsec_msg m;

	for (; d->get_seq == 0 && d->turn < d->nb_ports; d->turn++) {
		const struct mkad_port *p = &d->port[d->turn];

		if (!p->known || (!p->asked && p->kay == NULL))
			continue;
		macsec_msg_init(&m, MACSEC_MSG_GET, p->wire);
		say(d, &m);
		d->get_seq = d->fd >= 0 ? d->seq : 0;
	}
}

static void
take_port(struct mkad *d, const struct macsec_msg *m)
{
	struct mkad_port *p = mkad_port_of(d, m->h.port);

	if (p == NULL)
		p = mkad_port_add(d, m->h.port);
	if (p == NULL)
		return;
	if (p->keys.nb == 0)
		pk_notice("wire %u: picketd has MACsec on it, and there is no key for it %s",
		    p->wire, d->granted ? "here" : "yet");
	p->port = m->port;
	p->known = true;
	mkad_begin_anew(p);
}

void
mkad_begin_anew(struct mkad_port *p)
{
	mka_kay_destroy(p->kay);
	p->kay = NULL;
	if (!p->known)
		return;
	p->asked = true;
	p->nb_sa = 0;
	p->d->turn = PK_MIN(p->d->turn, (unsigned int)(p - p->d->port));
	ask_next(p->d);
}

static void
take_sa(struct mkad *d, const struct macsec_msg *m)
{
	struct mkad_port *p = mkad_port_of(d, m->h.port);
	struct mka_ki ki;

	if (p == NULL)
		return;
	if (p->asked) {
		if (p->nb_sa < PK_COUNT(p->sa))
			p->sa[p->nb_sa++] = m->sa;
		return;
	}
	if (p->kay == NULL || m->sa.which.receive)
		return;
	memcpy(ki.mi, m->sa.ki, MKA_MI);
	ki.kn = (uint32_t)m->sa.ki[12] << 24 | (uint32_t)m->sa.ki[13] << 16 |
	    (uint32_t)m->sa.ki[14] << 8 | m->sa.ki[15];
	mka_kay_pn(p->kay, m->sa.which.an, &ki, m->sa.which.pn);
}

static void
take_status(struct mkad *d, const struct macsec_msg *m)
{
	struct mkad_port *p = mkad_port_of(d, m->h.port);

	if (m->h.seq == d->get_seq) {
		d->get_seq = 0;
		if (p != NULL && p->asked)
			begin(p);
		ask_next(d);
	}
	/* Deleting what has gone with its channel is the ordinary case. */
	if (m->status.error < 0 && m->status.error != -ENOENT)
		pk_warn("wire %u: picketd refuses: %s", m->h.port, m->status.text);
}

/* ---- the connection to picketd -------------------------------------------------------------------- */

static void
retry_soon(struct mkad *d)
{
	static const struct timeval soon = { .tv_usec = RETRY_MS * 1000 };

	event_add(d->retry, &soon);
}

static void
lose(struct mkad *d, const char *why)
{
	if (d->fd < 0)
		return;
	pk_notice("picketd: connection ended: %s", why);
	event_free(d->readable);
	d->readable = NULL;
	close(d->fd);
	d->fd = -1;
	d->get_seq = 0;
	d->turn = 0;
	/* KaYs go on saying things into the void until their peers have gone; what counts is what picketd has when it
	 * is back. */
	for (unsigned int i = 0; i < d->nb_ports; i++)
		d->port[i].known = false;
	retry_soon(d);
}

static void
on_message(evutil_socket_t fd, short what, void *arg)
{
	struct mkad *d = arg;
	struct macsec_msg m;
	struct mkad_port *p;
	struct pk_diag diag;
	ssize_t n = recv(fd, &m, sizeof(m), MSG_DONTWAIT | MSG_TRUNC);

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		lose(d, n == 0 ? "it has gone" : strerror(errno));
		return;
	}
	if ((size_t)n > sizeof(m) || macsec_msg_check(&m, (size_t)n, &diag) < 0) {
		lose(d, (size_t)n > sizeof(m) ? "a message longer than any" : diag.text);
		return;
	}
	switch (m.h.type) {
	case MACSEC_MSG_HELLO:
		d->epoch = m.hello.epoch;
		break;
	case MACSEC_MSG_PORT:
		take_port(d, &m);
		break;
	case MACSEC_MSG_EAPOL:
		p = mkad_port_of(d, m.h.port);
		if (p != NULL && p->kay != NULL && p->known)
			mka_kay_receive(p->kay, m.eapol.frame, m.eapol.len, pk_clock_mono_ns());
		mkad_wake(d);
		break;
	case MACSEC_MSG_SA:
		take_sa(d, &m);
		break;
	case MACSEC_MSG_STATUS:
		take_status(d, &m);
		break;
	default:
		lose(d, "it asks for something, and that is for us to do");
		break;
	}
}

static void
on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct mkad *d = arg;
	struct macsec_msg m;

	(void)fd;
	(void)what;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", d->conf->plane);
	d->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (d->fd < 0 || connect(d->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		if (!d->told_unreachable)
			pk_notice("%s: %s; trying again every %d ms", d->conf->plane,
			    strerror(errno), RETRY_MS);
		d->told_unreachable = true;
		if (d->fd >= 0)
			close(d->fd);
		d->fd = -1;
		retry_soon(d);
		return;
	}
	d->told_unreachable = false;
	d->readable = event_new(d->base, d->fd, EV_READ | EV_PERSIST, on_message, d);
	PK_ASSERT(d->readable != NULL && event_add(d->readable, NULL) == 0);
	pk_notice("picketd: connected");
	macsec_msg_init(&m, MACSEC_MSG_HELLO, 0);
	snprintf(m.hello.program, sizeof(m.hello.program), "picket-mkad");
	say(d, &m);
}

/* ---- time ----------------------------------------------------------------------------------------- */

void
mkad_wake(struct mkad *d)
{
	uint64_t now = pk_clock_mono_ns(), due = now + PK_NS_PER_S;
	struct timeval tv;

	for (unsigned int i = 0; i < d->nb_ports; i++) {
		struct mkad_port *p = &d->port[i];
		struct mka_kay_info info;

		if (p->kay == NULL || !p->known)
			continue;
		due = PK_MIN(due, mka_kay_tick(p->kay, now));
		mka_kay_info(p->kay, &info);
		if (strncmp(p->state, info.state, sizeof(p->state)) != 0) {
			snprintf(p->state, sizeof(p->state), "%s", info.state);
			say_port(p);
		}
		mkad_state_save(p, false);
	}
	due = PK_MAX(due, now + PK_NS_PER_MS);
	tv.tv_sec = (time_t)((due - now) / PK_NS_PER_S);
	tv.tv_usec = (suseconds_t)((due - now) % PK_NS_PER_S / PK_NS_PER_US);
	event_add(d->timer, &tv);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	mkad_wake(arg);
}

/* Packet numbers are asked for oftener than anybody could use up what is left of them. */
static void
on_second(evutil_socket_t fd, short what, void *arg)
{
	struct mkad *d = arg;

	(void)fd;
	(void)what;
	if (d->get_seq == 0)
		d->turn = 0;
	ask_next(d);
}

/* ---- the whole ------------------------------------------------------------------------------------ */

int
mkad_create(
    struct mkad **out, struct event_base *base, const struct mkad_conf *conf, struct pk_diag *diag)
{
	struct mkad *d = calloc(1, sizeof(*d));
	int rc = 0;

	if (d == NULL)
		return -ENOMEM;
	d->base = base;
	d->conf = conf;
	d->fd = -1;
	if ((conf->ports.nb == 0 && conf->agent[0] == '\0') || conf->ports.nb > MACSEC_PORTS_MAX) {
		pk_diag_set(diag,
		    "%zu ports are configured; want 1 to %d lines such as port = 0 /etc/picket/mka0.key, or the agent's socket",
		    conf->ports.nb, MACSEC_PORTS_MAX);
		rc = -EINVAL;
	}
	if (conf->life_ns < 2 * conf->hello_ns) {
		pk_diag_set(diag, "life-time: want at least twice the hello-time");
		rc = -EINVAL;
	}
	for (size_t i = 0; rc == 0 && i < conf->ports.nb; i++) {
		struct mkad_port *p;
		char *end;
		unsigned long wire = strtoul(conf->ports.item[i], &end, 10);

		if (end == conf->ports.item[i] || wire >= MACSEC_PORTS_MAX ||
		    end[strspn(end, " \t")] != '/' || mkad_port_of(d, (uint16_t)wire) != NULL) {
			pk_diag_set(diag,
			    "port = %.200s: want the number of a wire, once each, and the absolute path of a key file",
			    conf->ports.item[i]);
			rc = -EINVAL;
			break;
		}
		p = mkad_port_add(d, (uint16_t)wire);
		p->key_file = end + strspn(end, " \t");
		p->file.nb = mka_keyfile_read(p->key_file, p->file.cak, diag);
		rc = p->file.nb < 0 ? p->file.nb : mkad_keys_follow(p, diag);
	}
	if (rc < 0) {
		mkad_destroy(d);
		return rc;
	}
	*out = d;
	return 0;
}

int
mkad_start(struct mkad *d, struct pk_diag *diag)
{
	static const struct timeval second = { .tv_sec = 1 }, now;

	if (mkdir(d->conf->state_dir, 0700) < 0 && errno != EEXIST) {
		pk_diag_set(diag, "%s: cannot be made: %s", d->conf->state_dir, strerror(errno));
		return -errno;
	}
	if (d->conf->agent[0] != '\0' &&
	    pk_grant_source_create(&d->grants, d->base, d->conf->agent, "mka", mkad_keys_take, d) !=
	        0) {
		pk_diag_set(diag, "out of memory");
		return -ENOMEM;
	}
	d->retry = evtimer_new(d->base, on_retry, d);
	d->timer = evtimer_new(d->base, on_timer, d);
	d->second = event_new(d->base, -1, EV_PERSIST, on_second, d);
	if (d->retry == NULL || d->timer == NULL || d->second == NULL ||
	    event_add(d->retry, &now) != 0 || event_add(d->second, &second) != 0) {
		pk_diag_set(diag, "out of memory");
		return -ENOMEM;
	}
	return 0;
}

void
mkad_destroy(struct mkad *d)
{
	unsigned int seconds;

	if (d == NULL)
		return;
	seconds = (unsigned int)(d->conf->suspend_ns / PK_NS_PER_S);
	for (unsigned int i = 0; i < d->nb_ports; i++) {
		struct mkad_port *p = &d->port[i];

		if (p->kay != NULL && p->known) {
			if (seconds > 0)
				(void)mka_kay_suspend(p->kay, seconds, pk_clock_mono_ns());
			mkad_state_save(p, true);
		}
		mka_kay_destroy(p->kay);
	}
	pk_grant_source_destroy(d->grants);
	if (d->readable != NULL)
		event_free(d->readable);
	if (d->fd >= 0)
		close(d->fd);
	if (d->retry != NULL)
		event_free(d->retry);
	if (d->timer != NULL)
		event_free(d->timer);
	if (d->second != NULL)
		event_free(d->second);
	pk_wipe(d, sizeof(*d));
	free(d);
}
