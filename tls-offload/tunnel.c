#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "tls-offload/tlsd_priv.h"

static void handshake_done(struct tlso_mail *m);

/* One line for a tunnel that was refused; who dials in can provoke many. */
static void
complain(const struct tlso_tunnel *t, const char *what, const char *why)
{
	static struct pk_log_limit limit = PK_LOG_LIMIT(2, 20);
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	char local[PK_ADDR_TEXT], remote[PK_ADDR_TEXT];
	uint32_t suppressed;
	int may;

	pthread_mutex_lock(&lock);
	may = pk_log_limit(&limit, t->worker->now_ns, &suppressed);
	pthread_mutex_unlock(&lock);
	if (may)
		pk_warn("tunnel %s %s %s: %s: %s (%u more not said)",
		    pk_addr_text(&t->local, local), t->server ? "from" : "to",
		    pk_addr_text(&t->remote, remote), what, why, suppressed);
}

static struct tlso_tunnel *
create(struct tlso_worker *w, uint16_t wire, bool server)
{
	struct tlso_tunnel *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->ev.fd = -1;
	t->worker = w;
	t->wire = wire;
	t->server = server;
	t->born_ns = w->now_ns;
	t->hs_done = handshake_done;
	t->next = w->tunnels;
	if (w->tunnels != NULL)
		w->tunnels->prev = t;
	w->tunnels = t;
	w->nb_tunnels++;
	pk_counter_add(&w->stats.tunnels, 1);
	return t;
}

/* In the name of t->identity, with whom `want` says. */
static int
begin(struct tlso_tunnel *t, const char *want)
{
	struct tlso *all = t->worker->all;

	t->trust = tlso_trust_now(all);
	if (t->trust == NULL)
		return -ENOKEY;
	t->check.trust = t->trust;
	snprintf(t->check.want, sizeof(t->check.want), "%s", want);
	t->ssl = SSL_new(t->server ? t->identity->server : t->identity->client);
	if (t->ssl == NULL || SSL_set_fd(t->ssl, t->ev.fd) != 1)
		return -ENOMEM;
	tlso_check_attach(t->ssl, &t->check);
	if (t->server)
		SSL_set_accept_state(t->ssl);
	else
		SSL_set_connect_state(t->ssl);
	t->state = TLSO_TUNNEL_HANDSHAKE;
	t->hs_deadline_ns = pk_clock_mono_ns() + all->conf->handshake_ns;
	t->away++;
	tlso_handshake(all, t);
	return 0;
}

int
tlso_tunnel_connect(struct tlso_flow *f, struct tlso_identity *identity)
{
	struct tlso_tunnel *t = create(f->worker, f->wire, false);
	int rc;

	if (t == NULL) {
		tlso_identity_put(identity);
		return -ENOMEM;
	}
	t->identity = identity;
	t->local = f->src;
	t->remote = f->dst;
	t->remote_port = PK_TLS_PORT;
	t->ask.worker = f->worker;
	rc = tlso_connect(tlso_wire(f->worker->all, f->wire), &f->src, 0, &f->dst, PK_TLS_PORT);
	if (rc >= 0) {
		t->ev.fd = rc;
		rc = begin(t, f->remote);
	}
	if (rc < 0) {
		tlso_tunnel_end(t, TLSO_END_CONNECT);
		return rc;
	}
	t->flow = f;
	f->tunnel = t;
	return 0;
}

/* ---- who it is ---- */

/* Still those it was made for?  NULL, or what has changed. */
static const char *
names_differ(const struct tlso_tunnel *t)
{
	const struct pk_tls_who *local = &t->ask.who[0], *remote = &t->ask.who[1];

	if (!local->known || !local->local || strcmp(local->name, t->identity->workload) != 0)
		return "the address behind this DPU is another's now";
	if (!remote->known || strcmp(remote->name, t->check.peer.workload) != 0)
		return "the peer's address is another's now";
	return NULL;
}

static void
accept_answered(struct tlso_tunnel *t)
{
	const struct pk_tls_who *local = &t->ask.who[0], *remote = &t->ask.who[1];

	if (t->ask.failed || !local->known || !local->local || local->wire != t->wire ||
	    !remote->known) {
		complain(t, "refused",
		    t->ask.failed ? "picketd does not say whose the addresses are"
		        : !local->known || !local->local || local->wire != t->wire
		        ? "no workload behind this port has the address"
		        : "the peer's address is nobody's we know");
		tlso_tunnel_end(t, TLSO_END_REFUSED);
		return;
	}
	t->identity =
	    tlso_identities_get(t->worker->all->identities, local->name, (uint64_t)time(NULL));
	if (t->identity == NULL) {
		complain(t, "refused", "there is no SVID for the workload");
		tlso_tunnel_end(t, TLSO_END_NO_IDENTITY);
		return;
	}
	if (begin(t, remote->name) < 0)
		tlso_tunnel_end(t, TLSO_END_NO_IDENTITY);
}

static void
answered(struct tlso_ask *a)
{
	struct tlso_tunnel *t =
	    (struct tlso_tunnel *)((char *)a - offsetof(struct tlso_tunnel, ask));
	const char *why;

	t->away--;
	t->asking = false;
	if (t->state == TLSO_TUNNEL_OVER)
		return;
	if (t->state == TLSO_TUNNEL_ASKING) {
		accept_answered(t);
		return;
	}
	if (t->ask_again) {
		t->ask_again = false;
		tlso_tunnel_reask(t);
		return;
	}
	/* Without picketd no packet passes; it is asked again when that is back. */
	if (!t->ask.failed && (why = names_differ(t)) != NULL) {
		complain(t, "ended", why);
		tlso_tunnel_end(t, TLSO_END_REFUSED);
	}
}

void
tlso_tunnel_reask(struct tlso_tunnel *t)
{
	if (t->asking) {
		t->ask_again = true;
		return;
	}
	t->asking = true;
	t->away++;
	memset(t->ask.who, 0, sizeof(t->ask.who));
	t->ask.who[0].addr = t->local;
	t->ask.who[1].addr = t->remote;
	t->ask.worker = t->worker;
	t->ask.answered = answered;
	tlso_ask(t->worker->all, &t->ask);
}

void
tlso_tunnel_accept(struct tlso_worker *w, uint16_t wire, int fd)
{
	struct sockaddr_storage local, remote;
	socklen_t local_len = sizeof(local), remote_len = sizeof(remote);
	struct tlso_tunnel *t = create(w, wire, true);
	uint16_t port;

	if (t == NULL) {
		tlso_reset_close(fd);
		return;
	}
	t->ev.fd = fd;
	if (getsockname(fd, (struct sockaddr *)&local, &local_len) < 0 ||
	    getpeername(fd, (struct sockaddr *)&remote, &remote_len) < 0 ||
	    tlso_sockaddr_read(&local, &t->local, &port) < 0 ||
	    tlso_sockaddr_read(&remote, &t->remote, &t->remote_port) < 0 ||
	    w->nb_tunnels > w->all->conf->flows) {
		tlso_tunnel_end(t, TLSO_END_LIMIT);
		return;
	}
	tlso_tunnel_reask(t);
}

void
tlso_tunnel_recheck(struct tlso_tunnel *t)
{
	struct tlso_trust *trust;
	struct tlso_identity *own;

	if (t->state != TLSO_TUNNEL_OPEN)
		return; /* looked at when its handshake is done */
	trust = tlso_trust_now(t->worker->all);
	if (trust == NULL || tlso_trust_is_revoked(trust, &t->check.peer)) {
		complain(t, "ended", "the peer's identity has been revoked");
		tlso_tunnel_end(t, TLSO_END_REVOKED);
	}
	tlso_trust_put(trust);
	if (t->state != TLSO_TUNNEL_OPEN)
		return;
	own = tlso_identities_get(t->worker->all->identities, t->identity->workload, 0);
	if (own == NULL) {
		complain(t, "ended", "the workload behind this DPU has lost its identity");
		tlso_tunnel_end(t, TLSO_END_REVOKED);
	}
	tlso_identity_put(own);
}

/* ---- after the handshake ---- */

static void
on_ready(struct tlso_event *e, uint32_t events)
{
	struct tlso_tunnel *t =
	    (struct tlso_tunnel *)((char *)e - offsetof(struct tlso_tunnel, ev));

	(void)events;
	if (t->state != TLSO_TUNNEL_OPEN)
		return;
	if (t->hbone != NULL)
		tlso_hbone_ready(t->hbone);
	else if (t->flow != NULL)
		tlso_flow_pump(t->flow);
}

/* By the protocol that was agreed. */
static void
use(struct tlso_tunnel *t)
{
	const uint8_t *alpn;
	unsigned int len;
	struct tlso_flow *f = t->flow;

	SSL_get0_alpn_selected(t->ssl, &alpn, &len);
	t->direct = len == strlen(TLSO_DIRECT_ALPN) && memcmp(alpn, TLSO_DIRECT_ALPN, len) == 0;
	if (!t->direct && (len != strlen(TLSO_ALPN_H2) || memcmp(alpn, TLSO_ALPN_H2, len) != 0)) {
		complain(t, "refused", "the peer agreed on no protocol (ALPN)");
		tlso_tunnel_end(t, TLSO_END_H2);
		return;
	}
	if (t->direct) {
		pk_counter_add(&t->worker->stats.direct, 1);
		if (t->server && (f = tlso_flow_arrived(t)) == NULL) {
			tlso_tunnel_end(t, TLSO_END_LIMIT);
			return;
		}
		if (!t->server)
			tlso_flow_tunnel_open(f);
	} else {
		if (f != NULL) {
			t->flow = NULL;
			f->tunnel = NULL;
		}
		if (tlso_hbone_create(t) < 0) {
			if (f != NULL)
				tlso_flow_end(f, TLSO_END_H2);
			tlso_tunnel_end(t, TLSO_END_H2);
			return;
		}
		if (f != NULL && tlso_hbone_open(t->hbone, f) < 0)
			tlso_flow_end(f, TLSO_END_H2);
	}
	if (t->state != TLSO_TUNNEL_OPEN)
		return;
	if (tlso_worker_watch(t->worker, &t->ev) < 0)
		tlso_tunnel_end(t, TLSO_END_LIMIT);
}

static void
handshake_done(struct tlso_mail *m)
{
	struct tlso_tunnel *t =
	    (struct tlso_tunnel *)((char *)m - offsetof(struct tlso_tunnel, handshake));
	struct tlso_worker_stats *s = &t->worker->stats;

	t->away--;
	if (t->state == TLSO_TUNNEL_OVER) {
		/* It could not be closed while somebody else had it. */
		tlso_reset_close(t->ev.fd);
		t->ev.fd = -1;
		return;
	}
	if (t->hs_error != 0) {
		pk_counter_add(&s->handshake_failed, 1);
		complain(t, "handshake failed", t->check.why.text);
		tlso_tunnel_end(t,
		    t->check.verdict == PK_SVID_REVOKED ? TLSO_END_REVOKED
		        : t->hs_error == -EPROTO        ? TLSO_END_TLS
		        : t->hs_error == -ETIMEDOUT     ? TLSO_END_TIMEOUT
		                                        : TLSO_END_CONNECT);
		return;
	}
	/* No handshake ends well without a verdict; this is the second look at the first question. */
	PK_ASSERT(t->check.verdict == PK_SVID_TRUSTED);
	pk_counter_add(&s->handshakes, 1);
	if (!t->server && t->flow == NULL) {
		tlso_tunnel_end(t, TLSO_END_DONE);
		return;
	}
	t->state = TLSO_TUNNEL_OPEN;
	t->ev.ready = on_ready;
	/* What has been revoked, or policy has changed, meanwhile. */
	tlso_tunnel_recheck(t);
	if (t->state == TLSO_TUNNEL_OPEN)
		use(t);
	if (t->state == TLSO_TUNNEL_OPEN)
		tlso_tunnel_reask(t);
}

/* ---- bytes ---- */

static int
result_of(struct tlso_tunnel *t, int rc)
{
	int e = SSL_get_error(t->ssl, rc);

	if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE)
		return 0;
	ERR_clear_error();
	return e == SSL_ERROR_ZERO_RETURN ? -2 : -1;
}

/*
 * RFC 8446, section 5.5: with one key of AES-GCM at most 2^24.5 records.  The peer is asked to do likewise, so both
 * directions have new keys.  Not while a record waits to be written: that one has its key.
 */
static void
rekey_in_time(struct tlso_tunnel *t)
{
	if (t->records_tx < t->worker->all->conf->rekey_records)
		return;
	if (SSL_key_update(t->ssl, SSL_KEY_UPDATE_REQUESTED) != 1) {
		ERR_clear_error();
		return;
	}
	t->records_tx = 0;
	t->key_updates++;
	pk_counter_add(&t->worker->stats.key_updates, 1);
}

int
tlso_tunnel_write(struct tlso_tunnel *t, const void *bytes, size_t len)
{
	int rc;

	ERR_clear_error();
	if (!t->write_waits)
		rekey_in_time(t);
	rc = SSL_write(t->ssl, bytes, (int)PK_MIN(len, (size_t)TLSO_CHUNK));
	if (rc > 0) {
		t->records_tx++;
		t->write_waits = false;
		return rc;
	}
	rc = result_of(t, rc);
	t->write_waits = rc == 0;
	return rc == 0 ? 0 : -1;
}

int
tlso_tunnel_read(struct tlso_tunnel *t, void *bytes, size_t len)
{
	int rc;

	ERR_clear_error();
	rc = SSL_read(t->ssl, bytes, (int)len);
	return rc > 0 ? rc : result_of(t, rc);
}

/* ---- the end ---- */

void
tlso_tunnel_end(struct tlso_tunnel *t, enum tlso_end end)
{
	struct tlso_worker *w = t->worker;
	enum tlso_tunnel_state was = t->state;
	struct tlso_flow *f = t->flow;

	if (was == TLSO_TUNNEL_OVER)
		return;
	t->state = TLSO_TUNNEL_OVER;
	t->end = end;
	if (t->prev != NULL)
		t->prev->next = t->next;
	else
		w->tunnels = t->next;
	if (t->next != NULL)
		t->next->prev = t->prev;
	t->prev = NULL;
	t->next = w->dead_tunnels;
	w->dead_tunnels = t;
	w->nb_tunnels--;
	if (was == TLSO_TUNNEL_HANDSHAKE && t->away > 0) {
		/* Another thread has it; this wakes it up. */
		if (t->ev.fd >= 0)
			(void)shutdown(t->ev.fd, SHUT_RDWR);
	} else {
		if (was == TLSO_TUNNEL_OPEN)
			tlso_worker_unwatch(w, &t->ev);
		if (end == TLSO_END_DONE && t->ev.fd >= 0)
			close(t->ev.fd);
		else
			tlso_reset_close(t->ev.fd);
		t->ev.fd = -1;
	}
	t->flow = NULL;
	if (f != NULL) {
		f->tunnel = NULL;
		tlso_flow_end(f, end);
	}
	if (t->hbone != NULL)
		tlso_hbone_end(t->hbone, end);
}

void
tlso_tunnel_free(struct tlso_tunnel *t)
{
	if (t->ev.fd >= 0)
		tlso_reset_close(t->ev.fd);
	SSL_free(t->ssl);
	tlso_identity_put(t->identity);
	tlso_trust_put(t->trust);
	free(t);
}
