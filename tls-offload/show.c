#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/control.h"
#include "tls-offload/plane.h"
#include "tls-offload/tlsd.h"
#include "tls-offload/tlsd_priv.h"

static const char *const flow_states[] = { "asking", "tunnel", "header", "connecting", "open",
	"over" };
static const char *const tunnel_states[] = { "asking", "handshake", "open", "over" };

/* The connection that carries it, or NULL. */
static const struct tlso_tunnel *
tunnel_of(const struct tlso_flow *f)
{
	return f->hbone != NULL ? tlso_hbone_tunnel(f->hbone) : f->tunnel;
}

static void
show_flow(struct pk_control_request *r, const struct tlso_flow *f, uint64_t now_ns)
{
	const struct tlso_tunnel *t = tunnel_of(f);
	bool open = t != NULL && t->state == TLSO_TUNNEL_OPEN;
	char src[PK_ADDR_TEXT], dst[PK_ADDR_TEXT];

	pk_control_rowf(r,
	    "{\"direction\":\"%s\",\"wire\":%u,\"src\":\"%s\",\"sport\":%u,\"dst\":\"%s\",\"dport\":%u,\"local\":\"%s\""
	    ",\"peer\":\"%s\",\"peer_id\":\"%.400s\",\"state\":\"%s\",\"mode\":\"%s\",\"version\":\"%s\",\"cipher\":\"%s\""
	    ",\"ktls\":false,\"tx\":%" PRIu64 ",\"rx\":%" PRIu64 ",\"age_s\":%" PRIu64 "}",
	    f->ingress ? "ingress" : "egress", f->wire, pk_addr_text(&f->src, src), f->sport,
	    pk_addr_text(&f->dst, dst), f->dport, f->local, f->remote, open ? t->check.peer.id : "",
	    flow_states[f->state],
	    !open                  ? ""
	        : f->hbone != NULL ? "hbone"
	                           : "direct",
	    open ? SSL_get_version(t->ssl) : "", open ? SSL_get_cipher_name(t->ssl) : "", f->tx,
	    f->rx, (now_ns - f->born_ns) / PK_NS_PER_S);
}

static void
show_tunnel(struct pk_control_request *r, const struct tlso_tunnel *t, uint64_t now_ns)
{
	bool open = t->state == TLSO_TUNNEL_OPEN;
	char local[PK_ADDR_TEXT], remote[PK_ADDR_TEXT];

	pk_control_rowf(r,
	    "{\"side\":\"%s\",\"wire\":%u,\"local_addr\":\"%s\",\"remote_addr\":\"%s\",\"remote_port\":%u,\"local\":\"%s\""
	    ",\"peer_id\":\"%.400s\",\"peer_dpu\":\"%s\",\"state\":\"%s\",\"mode\":\"%s\",\"version\":\"%s\",\"cipher\":\"%s\""
	    ",\"flows\":%u,\"key_updates\":%" PRIu64 ",\"age_s\":%" PRIu64 "}",
	    t->server ? "server" : "client", t->wire, pk_addr_text(&t->local, local),
	    pk_addr_text(&t->remote, remote), t->remote_port,
	    t->identity != NULL ? t->identity->workload : "", open ? t->check.peer.id : "",
	    open ? t->check.peer.binding.dpu : "", tunnel_states[t->state],
	    !open           ? ""
	        : t->direct ? "direct"
	                    : "hbone",
	    open ? SSL_get_version(t->ssl) : "", open ? SSL_get_cipher_name(t->ssl) : "",
	    t->hbone != NULL ? tlso_hbone_streams(t->hbone) : t->flow != NULL, t->key_updates,
	    (now_ns - t->born_ns) / PK_NS_PER_S);
}

void
tlso_show(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct tlso *all = arg;
	uint64_t now_ns = pk_clock_mono_ns();

	(void)argc;
	(void)argv;
	for (unsigned int i = 0; i < all->nb_workers; i++) {
		struct tlso_worker *w = all->worker[i];

		pthread_mutex_lock(&w->lock);
		for (const struct tlso_flow *f = w->flows; f != NULL; f = f->next)
			show_flow(r, f, now_ns);
		pthread_mutex_unlock(&w->lock);
	}
	pk_control_done(r);
}

void
tlso_show_tunnels(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct tlso *all = arg;
	uint64_t now_ns = pk_clock_mono_ns();

	(void)argc;
	(void)argv;
	for (unsigned int i = 0; i < all->nb_workers; i++) {
		struct tlso_worker *w = all->worker[i];

		pthread_mutex_lock(&w->lock);
		for (const struct tlso_tunnel *t = w->tunnels; t != NULL; t = t->next)
			show_tunnel(r, t, now_ns);
		pthread_mutex_unlock(&w->lock);
	}
	pk_control_done(r);
}

void
tlso_show_status(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct tlso *all = arg;
	struct tlso_plane_status p;
	struct tlso_trust *trust = tlso_trust_now(all);
	struct tlso_trust_stats s = { 0 };
	unsigned int flows = 0, tunnels = 0;

	(void)argc;
	(void)argv;
	tlso_plane_status(all->plane, &p);
	if (trust != NULL)
		tlso_trust_stats(trust, &s);
	for (unsigned int i = 0; i < all->nb_workers; i++) {
		pthread_mutex_lock(&all->worker[i]->lock);
		flows += all->worker[i]->nb_flows;
		tunnels += all->worker[i]->nb_tunnels;
		pthread_mutex_unlock(&all->worker[i]->lock);
	}
	pk_control_rowf(r,
	    "{\"plane\":%s,\"generation\":%" PRIu64
	    ",\"agent\":%s,\"trust\":%s,\"identities\":%u,\"flows\":%u,\"tunnels\":%u"
	    ",\"addresses\":%u,\"asked\":%" PRIu64 ",\"chains_verified\":%" PRIu64
	    ",\"chains_cached\":%" PRIu64 "}",
	    p.connected ? "true" : "false", p.generation,
	    pk_svid_source_connected(all->source) ? "true" : "false",
	    trust != NULL ? "true" : "false", tlso_identities_count(all->identities), flows,
	    tunnels, p.nb_known, p.asked, s.verified, s.cached);
	tlso_trust_put(trust);
	pk_control_done(r);
}

static uint64_t
sum(const struct tlso *all, size_t offset)
{
	uint64_t n = 0;

	for (unsigned int i = 0; i < all->nb_workers; i++)
		n += pk_counter_read(
		    (const pk_counter *)((const char *)&all->worker[i]->stats + offset));
	return n;
}

void
tlso_show_counters(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	static const struct {
		const char *name;
		size_t offset;
	} counters[] = {
#define AT(member) offsetof(struct tlso_worker_stats, member)
		{ "flows-egress", AT(flows[0]) },
		{ "flows-ingress", AT(flows[1]) },
		{ "bytes-to-tunnel", AT(tx) },
		{ "bytes-to-workload", AT(rx) },
		{ "tunnels", AT(tunnels) },
		{ "handshakes", AT(handshakes) },
		{ "handshakes-failed", AT(handshake_failed) },
		{ "direct", AT(direct) },
		{ "streams", AT(streams) },
		{ "key-updates", AT(key_updates) },
#undef AT
	};
	const struct tlso *all = arg;

	(void)argc;
	(void)argv;
	for (size_t i = 0; i < PK_COUNT(counters); i++)
		pk_control_rowf(r, "{\"counter\":\"%s\",\"value\":%" PRIu64 "}", counters[i].name,
		    sum(all, counters[i].offset));
	for (unsigned int e = 0; e < TLSO_END_COUNT; e++)
		pk_control_rowf(r,
		    "{\"counter\":\"ended-%s\",\"value\":%" PRIu64 ",\"response_flags\":\"%s\"}",
		    tlso_end_name(e),
		    sum(all, offsetof(struct tlso_worker_stats, ends) + e * sizeof(pk_counter)),
		    tlso_end_flag(e));
	pk_control_done(r);
}
