#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_mbuf.h>

#include "fw/lane.h"
#include "fw/lease.h"
#include "fw/options.h"
#include "fw/path_priv.h"
#include "fw/sample.h"
#include "fw/session_mem.h"
#include "fw/tls.h"

#define TICK_HURRY 4  /* times the budget while less than a sixteenth of the table is free */
#define TICK_LINES 16 /* of the timer, looked at in each call at least */

/* The option table is where defaults are written, for programs and tests alike. */
struct holder {
	struct fw_path_options options;
};

void
fw_path_conf_init(struct fw_path_conf *conf)
{
	static const struct pk_conf_option rows[] = { FW_PATH_OPTION_ROWS(struct holder, options) };
	struct holder h;

	memset(conf, 0, sizeof(*conf));
	pk_conf_init(rows, PK_COUNT(rows), &h);
	fw_path_options_apply(&h.options, conf);
	conf->huge = true;
	conf->watch_memory = 0; /* for whoever has signatures */
}

int
fw_path_create(struct fw_path **out, const struct fw_path_conf *conf)
{
	struct fw_path *p;
	int rc;

	if (conf->nb_sessions == 0 || conf->pool == NULL)
		return -EINVAL;
	for (unsigned int t = 0; t < FW_TIMEOUT_COUNT; t++) {
		if (conf->timeout_ns[t] == 0 || conf->timeout_ns[t] >> FW_SEEN_SHIFT > INT32_MAX)
			return -EINVAL;
	}
	p = aligned_alloc(PK_CACHE_LINE, RTE_ALIGN_CEIL(sizeof(*p), (size_t)PK_CACHE_LINE));
	if (p == NULL)
		return -ENOMEM;
	memset(p, 0, sizeof(*p));
	p->conf = *conf;
	for (unsigned int s = 0; s < FW_STATE_COUNT; s++)
		p->timeout[s] =
		    (uint32_t)(conf->timeout_ns[fw_session_timeout(s)] >> FW_SEEN_SHIFT);
	rc = -ENOMEM;
	p->hits = calloc(FW_RULE_SLOTS, sizeof(p->hits[0]));
	if (p->hits == NULL || fw_samples_create(&p->samples, conf->overlay) < 0)
		goto fail;
	rc = conf->mem != NULL
	    ? fw_session_mem_lay_out(conf->mem, &p->sessions)
	    : fw_sessions_init(&p->sessions, conf->nb_sessions, conf->seed, conf->huge, 0);
	if (rc < 0)
		goto fail;
	rc =
	    fw_ethers_init(&p->ethers, conf->mem != NULL ? fw_session_mem_ethers(conf->mem) : NULL);
	if (rc < 0)
		goto fail;
	for (unsigned int o = 0; o < FW_OWNER_COUNT; o++)
		p->counting |= conf->limit[o].sessions != 0 || conf->limit[o].half_open != 0 ||
		    conf->limit[o].rate != 0;
	rc = fw_hosts_init(&p->hosts, FW_HOSTS_MAX, conf->seed);
	if (rc == 0 && p->counting)
		rc = fw_hosts_init(&p->tenants, FW_TENANTS_MAX, conf->seed);
	if (rc == 0 && p->counting)
		rc = fw_hosts_init(&p->sources, FW_SOURCES_MAX, conf->seed);
	if (rc < 0)
		goto fail;
	rc = fw_frags_init(
	    &p->frags, FW_FRAG_TABLE, conf->timeout_ns[FW_TIMEOUT_FRAGMENT], conf->seed, &p->hosts);
	if (rc < 0)
		goto fail;
	rc = fw_inspect_create(&p->inspect,
	    &(struct fw_inspect_conf){ .nb_sessions = conf->inspect_sessions,
	        .bytes = conf->inspect_bytes,
	        .packets = conf->inspect_packets,
	        .seed = conf->seed[0] });
	if (rc < 0)
		goto fail;
	rc = fw_watch_init(p, conf);
	if (rc < 0)
		goto fail;
	p->shared = conf->shared;
	if (p->shared == NULL)
		rc = fw_shared_create(&p->shared, conf);
	if (rc < 0)
		goto fail;
	if (conf->esp != NULL) {
		struct pk_diag diag;

		p->engine.sad = conf->esp->sad;
		rc = ipsec_crypto_create(&p->engine.crypto, &diag);
	}
	if (conf->esp != NULL || conf->tls != NULL) {
		p->tunnel = calloc(conf->nb_sessions, sizeof(p->tunnel[0]));
		if (p->tunnel == NULL)
			rc = -ENOMEM;
		if (rc < 0)
			goto fail;
	}
	rc = fw_extras_init(&p->extras, RTE_MAX(conf->nb_sessions / 4, 1024u));
	if (rc < 0)
		goto fail;
	fw_cookies_init(&p->cookies, conf->seed);
	if (conf->syn_cookies != 0)
		p->cookies_at =
		    RTE_MAX((uint32_t)((uint64_t)conf->nb_sessions * conf->syn_cookies / 100), 1u);
	*out = p;
	return 0;
fail:
	fw_path_destroy(p);
	return rc;
}

void
fw_path_destroy(struct fw_path *p)
{
	if (p == NULL)
		return;
	fw_watch_fini(p);
	fw_inspect_destroy(p->inspect);
	if (p->shared != p->conf.shared)
		fw_shared_destroy(p->shared);
	ipsec_crypto_destroy(p->engine.crypto);
	free(p->tunnel);
	fw_extras_fini(&p->extras);
	fw_frags_fini(&p->frags);
	fw_hosts_fini(&p->sources);
	fw_hosts_fini(&p->tenants);
	fw_hosts_fini(&p->hosts);
	fw_ethers_fini(&p->ethers);
	fw_sessions_fini(&p->sessions);
	fw_samples_destroy(p->samples);
	free(p->hits);
	free(p);
}

void
fw_path_burst(struct fw_path *p, const struct fw_rules *rules, uint16_t wire, enum fw_side from,
    struct rte_mbuf **pkts, unsigned int n, uint64_t now_ns, struct fw_burst *out)
{
	const enum fw_side to = from == FW_INSIDE ? FW_OUTSIDE : FW_INSIDE;
	struct fw_pkt pkt[FW_BURST];
	struct rte_mbuf *refused[FW_BURST];
	unsigned int nb_refused = 0;
	uint64_t rx_bytes = 0, refused_bytes = 0;
	struct fw_sessions *t = &p->sessions;
	struct fw_batch b = {
		.p = p,
		.rules = rules,
		.out = out,
		.now_ns = now_ns,
		.generation = fw_path_stamp(p, rules, now_ns),
		.seen = fw_units(now_ns),
		.from = from,
		.wire = wire,
		.level = p->conf.trace != NULL ? (int)fw_trace_level(p->conf.trace) : -1,
		.names = p->shared->names != NULL && fw_rules_has_names(rules),
	};

	const bool lane = rules != NULL && b.level < (int)FW_TRACE_ALL && !p->conf.general_only;
	struct fw_esp *esp = p->conf.esp;
	const uint64_t tls = p->conf.tls != NULL ? p->conf.tls->mark_flag : 0;
	struct fw_protect_out protect;
	struct fw_lane l;
	uint32_t others; /* bit i: packet i is not in the lane */

	PK_ASSERT(n <= FW_BURST);
	protect.nb = 0;
	if (unlikely(p->shared->leases != NULL))
		fw_guard_follow(&p->guard, p->shared->leases);
	fw_lane_init(&l, lane, t, &p->guard, wire, from, b.generation, b.seen,
	    p->conf.verify_checksums, (esp != NULL ? esp->mark_flag : 0) | tls);
	out->nb[FW_INSIDE] = out->nb[FW_OUTSIDE] = out->nb[FW_TLS] = 0;
	for (unsigned int i = 0; i < n; i++)
		rte_prefetch0(rte_pktmbuf_mtod(pkts[i], const void *));

	/* Parse, guard, hash: all that needs no table but small ones, and ask for the buckets. */
	others = (uint32_t)((UINT64_C(1) << n) - 1) & ~fw_lane_read(&l, pkts, n, pkt, &rx_bytes);
	for (; unlikely(others != 0); others &= others - 1) {
		unsigned int i = (unsigned int)__builtin_ctz(others);

		fw_admit(&b, pkts[i], i, &pkt[i]);
		pkt[i].hash = 0; /* any does for those that are refused already */
		if (likely(pkt[i].drop == FW_DROP_NONE))
			fw_sessions_hash(t, &pkt[i]);
		fw_sessions_prefetch(t, &pkt[i]);
	}
	/* Guess each packet's session, and fetch its line. */
	fw_sessions_guess(t, pkt, n);
	/* One after the other, in the order they came. */
	for (unsigned int i = 0;; i++) {
		struct fw_pkt *pk;
		unsigned int at = i;

		i = fw_lane_run(&l, t, pkts, pkt, i, n, out->pkt[to] + out->nb[to]);
		out->nb[to] = (uint16_t)(out->nb[to] + (i - at));
		if (i == n)
			break;
		pk = &pkt[i];
		b.packet = p->packet + i + 1;
		if (unlikely(pk->lane))
			fw_admit_again(pk);
		if (unlikely(esp != NULL)) {
			b.tunnel = fw_esp_mark(esp, pk->m);
			b.sa = NULL;
			b.cut = 0;
		}
		if (unlikely(tls != 0)) {
			b.tls = false;
			if ((pk->m->ol_flags & tls) != 0)
				b.tunnel = FW_TUNNEL_TLS;
			else if (esp == NULL)
				b.tunnel = ESP_TUNNEL_NONE;
		}
		fw_judge(&b, pk);
		if (unlikely(b.sa != NULL) && pk->drop == FW_DROP_NONE &&
		    fw_protect_add(&b, pk, &protect))
			continue;
		if (unlikely(b.tls) && pk->drop == FW_DROP_NONE) {
			out->pkt[FW_TLS][out->nb[FW_TLS]++] = pk->m;
			continue;
		}
		if (likely(pk->drop == FW_DROP_NONE)) {
			out->pkt[to][out->nb[to]++] = pk->m;
			continue;
		}
		pk_counter_add(&p->stats.drop[pk->drop], 1);
		fw_samples_note(p->samples, (enum fw_drop)pk->drop, pk->m, wire, from, now_ns);
		refused_bytes += pk->len;
		refused[nb_refused++] = pk->m;
	}
	if (unlikely(protect.nb != 0))
		fw_protect_flush(&b, &protect, refused, &nb_refused, &refused_bytes);
	p->packet += n;
	pk_counter_add(&p->stats.rx[from], n);
	pk_counter_add(&p->stats.rx_bytes[from], rx_bytes);
	pk_counter_add(&p->stats.sent[to], n - nb_refused);
	pk_counter_add(&p->stats.sent_bytes[to], rx_bytes - refused_bytes);
	if (unlikely(nb_refused != 0))
		rte_pktmbuf_free_bulk(refused, nb_refused);
}

bool
fw_path_tick(struct fw_path *p, const struct fw_rules *rules, uint64_t now_ns, unsigned int budget,
    struct fw_made *made)
{
	/* What is asked anew or inspected costs more than an end. */
	const unsigned int few = RTE_MIN(budget, (unsigned int)FW_TICK_QUIET);
	struct fw_sessions *t = &p->sessions;
	unsigned int lines, left;

	if (unlikely(p->shared->leases != NULL))
		fw_leases_expire(p->shared->leases, now_ns);
	if (unlikely(p->frags.nb != 0))
		fw_frags_expire(&p->frags, now_ns, few);
	if (made != NULL)
		made->nb = 0;
	if (unlikely(rules != NULL &&
	        (p->walk_left != 0 || p->walk_generation != fw_path_stamp(p, rules, now_ns))))
		fw_policy_walk(p, rules, now_ns, few, made);
	if (p->watches != NULL)
		fw_watch_tick(p, now_ns, few);
	if (unlikely(p->extras.oldest != 0 || p->cookies.on))
		fw_proxy_tick(p, rules, now_ns, few, made);
	/* Sessions that are over must not keep out new ones, so with a table that fills the balance shifts. */
	if (unlikely(t->nb > t->capacity - t->capacity / 16))
		budget *= TICK_HURRY;
	lines = TICK_LINES + budget / 2;
	for (left = budget; left > 0;) {
		uint32_t due[FW_REMOVE_BURST];
		unsigned int want = RTE_MIN(left, (unsigned int)RTE_DIM(due)),
		             n = fw_timer_take(&t->timer, now_ns, due, want, &lines);

		fw_sessions_expire(p, due, n, now_ns);
		left -= n;
		if (n < want)
			return lines == 0;
	}
	return true;
}

void
fw_path_not_sent(struct fw_path *p, enum fw_side to, unsigned int n, enum fw_drop why)
{
	pk_counter_add(&p->stats.sent[to], -(uint64_t)n);
	pk_counter_add(&p->stats.drop[why], n);
}

void
fw_path_count_made(struct fw_path *p, unsigned int n)
{
	pk_counter_add(&p->stats.made, n);
}

void
fw_path_refuse(struct fw_path *p, uint16_t wire, enum fw_side from, struct rte_mbuf **pkts,
    unsigned int n, enum fw_drop why, uint64_t now_ns)
{
	struct fw_batch b = {
		.p = p,
		.now_ns = now_ns,
		.from = from,
		.wire = wire,
		.level = p->conf.trace != NULL ? (int)fw_trace_level(p->conf.trace) : -1,
		.spi = p->refused_spi,
	};
	uint64_t bytes = 0;

	PK_ASSERT(n <= FW_BURST);
	for (unsigned int i = 0; i < n; i++) {
		bytes += pkts[i]->pkt_len;
		fw_samples_note(p->samples, why, pkts[i], wire, from, now_ns);
		if (b.level >= (int)FW_TRACE_DROPS) {
			struct fw_pkt pk;

			/* Without rules it is read, and no more. */
			fw_admit(&b, pkts[i], i, &pk);
			pk.drop = (uint16_t)why;
			b.packet = p->packet + i + 1;
			fw_trace_judged(&b, &pk, 0, 0);
		}
	}
	p->packet += n;
	pk_counter_add(&p->stats.rx[from], n);
	pk_counter_add(&p->stats.rx_bytes[from], bytes);
	pk_counter_add(&p->stats.drop[why], n);
	rte_pktmbuf_free_bulk(pkts, n);
}

const struct fw_path_stats *
fw_path_stats(const struct fw_path *p)
{
	return &p->stats;
}

const struct fw_samples *
fw_path_samples(const struct fw_path *p)
{
	return p->samples;
}

const pk_counter *
fw_path_rule_hits(const struct fw_path *p)
{
	return p->hits;
}

struct fw_names *
fw_path_names(const struct fw_path *p)
{
	return p->shared->names;
}

const pk_counter *
fw_path_apps_found(const struct fw_path *p)
{
	return fw_inspect_found(p->inspect);
}

const pk_counter *
fw_path_apps_denied(const struct fw_path *p)
{
	return fw_inspect_denied(p->inspect);
}

uint32_t
fw_path_inspecting(const struct fw_path *p)
{
	return p->inspect->nb;
}

uint32_t
fw_path_nb_sessions(const struct fw_path *p)
{
	return p->sessions.nb;
}

size_t
fw_path_session_bytes(const struct fw_path *p)
{
	return p->sessions.bytes;
}

uint32_t
fw_path_nb_hosts(const struct fw_path *p)
{
	return p->hosts.nb + p->tenants.nb + p->sources.nb;
}
