#include "fw/hand_over.h"

#include <netinet/in.h>
#include <string.h>

#define MS_PER_UNIT_SHIFT 20 /* `seen` counts in 2^20 ns */
_Static_assert(FW_SEEN_SHIFT == MS_PER_UNIT_SHIFT, "spans below are in these units");

/* Numbers of states on the wire, by those of the table.  They are equal for now, TCP's at least; nothing else
 * may rely on that. */
static const uint8_t record_states[FW_STATE_COUNT] = {
	[FW_STATE_SYN_SENT] = FW_RECORD_SYN_SENT,
	[FW_STATE_SYN_BOTH] = FW_RECORD_SYN_BOTH,
	[FW_STATE_SYN_BOTH_F] = FW_RECORD_SYN_BOTH_F,
	[FW_STATE_SYN_BOTH_R] = FW_RECORD_SYN_BOTH_R,
	[FW_STATE_SYN_RECV] = FW_RECORD_SYN_RECV,
	[FW_STATE_ESTABLISHED] = FW_RECORD_ESTABLISHED,
	[FW_STATE_FIN_F] = FW_RECORD_FIN_F,
	[FW_STATE_FIN_R] = FW_RECORD_FIN_R,
	[FW_STATE_HALF_F] = FW_RECORD_HALF_F,
	[FW_STATE_HALF_R] = FW_RECORD_HALF_R,
	[FW_STATE_CLOSING] = FW_RECORD_CLOSING,
	[FW_STATE_LAST_F] = FW_RECORD_LAST_F,
	[FW_STATE_LAST_R] = FW_RECORD_LAST_R,
	[FW_STATE_TIME_WAIT] = FW_RECORD_TIME_WAIT,
	[FW_STATE_CLOSED] = FW_RECORD_CLOSED,
	[FW_STATE_UDP_NEW] = FW_RECORD_UDP_NEW,
	[FW_STATE_UDP] = FW_RECORD_UDP,
	[FW_STATE_ICMP] = FW_RECORD_ICMP,
	[FW_STATE_OTHER] = FW_RECORD_OTHER,
};

static const struct {
	uint8_t table;
	uint16_t record;
} flags[] = {
	{ FW_SESSION_WSCALE, FW_RECORD_WSCALE },
	{ FW_SESSION_CHALLENGED, FW_RECORD_CHALLENGED },
	{ FW_SESSION_LOOSE, FW_RECORD_LOOSE },
	{ FW_SESSION_SYN_R, FW_RECORD_SYN_R },
	{ FW_SESSION_LOG_END, FW_RECORD_LOG_END },
};

const char *
fw_install_name(unsigned int result)
{
	static const char *const names[FW_INSTALL_COUNT] = { "installed", "there", "refused",
		"full", "faulty" };

	return result < FW_INSTALL_COUNT ? names[result] : "unknown";
}

static bool
is_icmp(uint8_t proto)
{
	return proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6;
}

bool
fw_path_record(const struct fw_path *p, uint32_t i, uint64_t now_ns, struct fw_record *out)
{
	const struct fw_sessions *t = &p->sessions;
	struct fw_ether ether = { .len = 0 };
	struct fw_session_cold c;
	struct fw_session s;
	uint64_t idle, timeout;
	uint16_t link;
	uint32_t v;

	v = atomic_load_explicit(&t->version[i], memory_order_acquire);
	if (v % 2 == 0)
		return false;
	memcpy(&s, &t->hot[i], sizeof(s));
	memcpy(&c, &t->cold[i], sizeof(c));
	link = t->ether[i];
	if (link != 0 && link <= FW_ETHERS_MAX)
		ether = p->ethers.ether[link];
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&t->version[i], memory_order_relaxed) != v ||
	    s.state == FW_STATE_NONE || s.state >= FW_STATE_COUNT)
		return false;
	/* Without the numbers of its proxy it is of no use to anybody, nor half inspected. */
	if (!fw_session_portable(&s, &c))
		return false;

	memset(out, 0, sizeof(*out));
	fw_session_names(&s, &c, &out->src, &out->dst, &out->sport, &out->dport);
	if (is_icmp(s.key.proto))
		out->dport = 0;
	out->selector = (uint16_t)c.slot_and_selector;
	out->wire = s.key.wire;
	out->vrf = s.key.vrf;
	out->proto = s.key.proto;
	out->direction = fw_session_origin(&s) == FW_INSIDE ? PK_EGRESS : PK_INGRESS;
	out->state = record_states[s.state];
	for (unsigned int k = 0; k < PK_COUNT(flags); k++)
		if ((s.flags & flags[k].table) != 0)
			out->flags |= flags[k].record;
	if ((c.kin & FW_KIN_RELATED) != 0)
		out->flags |= FW_RECORD_RELATED;
	if ((c.kin & FW_KIN_REVERSED) != 0)
		out->flags |= FW_RECORD_REVERSED;
	/* The reader's clock may be a burst behind the lcore's. */
	idle = (uint64_t)(uint32_t)PK_MAX((int32_t)(fw_units(now_ns) - s.seen), 0);
	timeout = p->timeout[s.state];
	out->age_ms = now_ns > c.opened_ns ? (now_ns - c.opened_ns) / PK_NS_PER_MS : 0;
	out->idle_ms = PK_MIN((idle << FW_SEEN_SHIFT) / PK_NS_PER_MS, out->age_ms);
	out->left_ms =
	    (timeout > idle ? timeout - idle : 0) * (UINT64_C(1) << FW_SEEN_SHIFT) / PK_NS_PER_MS;
	if (s.key.proto == IPPROTO_TCP) {
		for (unsigned int d = 0; d < 2; d++)
			out->side[d] = (struct fw_record_side){
				.end = s.side[d].end,
				.ack = s.side[d].ack,
				.win = s.win[d],
				.scale = s.scale >> 4 * d & 15,
			};
	} else {
		out->flags &= FW_RECORD_FLAGS_OTHERS;
	}
	for (unsigned int d = 0; d < 2; d++) {
		out->packets[d] = c.packets[d] + s.packets[d];
		out->bytes[d] = c.bytes[d] + s.bytes[d];
	}
	out->rule_id = c.rule_id;
	out->generation = s.generation & FW_GENERATION_MASK;
	if (ether.len == 14 || ether.len == 18 || ether.len == 22) {
		memcpy(out->link, ether.bytes, ether.len);
		out->link_len = ether.len;
		out->link_stripped = ether.stripped != 0;
		out->link_tci = ether.tci;
	}
	out->version = v;
	return true;
}

/* ---- the other way ---- */

void
fw_record_key(const struct fw_record *r, uint16_t wire, struct fw_pkt *pk)
{
	memset(pk, 0, sizeof(*pk));
	pk->key.family = r->src.family;
	pk->key.proto = r->proto;
	pk->key.vrf = r->vrf;
	pk->key.wire = wire;
	pk->l4_proto = r->proto;
	pk->selector = r->selector;
	if (r->src.family == 4) {
		uint32_t src, dst;

		memcpy(&src, r->src.bytes, 4);
		memcpy(&dst, r->dst.bytes, 4);
		pk->hi = src > dst;
		pk->key.v4[pk->hi] = src;
		pk->key.v4[pk->hi ^ 1] = dst;
	} else {
		pk->hi = memcmp(r->src.bytes, r->dst.bytes, 16) > 0;
		memcpy(pk->addr[pk->hi], r->src.bytes, 16);
		memcpy(pk->addr[pk->hi ^ 1], r->dst.bytes, 16);
	}
	if (is_icmp(r->proto)) {
		bool own = (r->proto == IPPROTO_ICMP) == (r->src.family == 4);

		/* The other version's ICMP is a protocol without ports: fw/parse.c. */
		pk->key.port[0] = own ? r->sport : 0;
		pk->key.port[1] = own ? (uint16_t)(r->selector >> 8 << 1 | pk->hi) : 0;
	} else {
		pk->key.port[pk->hi] = r->sport;
		pk->key.port[pk->hi ^ 1] = r->dport;
	}
	if (r->proto == IPPROTO_TCP && r->state <= FW_RECORD_SYN_RECV)
		pk->tcp_flags = FW_TCP_SYN;
}

static unsigned int
state_of(uint8_t record_state)
{
	for (unsigned int s = 1; s < FW_STATE_COUNT; s++)
		if (record_states[s] == record_state)
			return s;
	return FW_STATE_NONE;
}

static void
fill(struct fw_path *p, uint32_t i, const struct fw_record *r, const struct fw_pkt *pk,
    uint64_t now_ns)
{
	struct fw_session *s = &p->sessions.hot[i];
	struct fw_session_cold *c = &p->sessions.cold[i];
	uint64_t idle_ns = PK_MIN(r->idle_ms, (uint64_t)INT32_MAX) * PK_NS_PER_MS;
	uint64_t age_ns = PK_MIN(r->age_ms, now_ns / PK_NS_PER_MS) * PK_NS_PER_MS;
	uint64_t left_units = (PK_MIN(r->left_ms, (uint64_t)INT32_MAX) * PK_NS_PER_MS) >>
	    FW_SEEN_SHIFT;
	unsigned int state = state_of(r->state);

	s->state = (uint8_t)state;
	s->flags = (uint8_t)((pk->hi ? FW_SESSION_HI : 0) |
	    (r->direction == PK_INGRESS ? FW_SESSION_FROM_OUTSIDE : 0));
	for (unsigned int k = 0; k < PK_COUNT(flags); k++)
		if ((r->flags & flags[k].record) != 0)
			s->flags |= flags[k].table;
	/* It lives as long as it had left, or by the timeouts here if these are shorter. */
	s->seen = fw_units(now_ns) - fw_units(idle_ns);
	if (left_units < p->timeout[state])
		s->seen = fw_units(now_ns) - (p->timeout[state] - (uint32_t)left_units);
	for (unsigned int d = 0; d < 2; d++) {
		s->side[d].end = r->side[d].end;
		s->side[d].ack = r->side[d].ack;
		s->win[d] = r->side[d].win;
		s->scale |= (uint8_t)(r->side[d].scale << 4 * d);
		c->packets[d] = r->packets[d];
		c->bytes[d] = r->bytes[d];
	}
	c->rule_id = r->rule_id;
	c->slot_and_selector = r->selector;
	c->opened_ns = now_ns - age_ns;
	c->kin = (uint8_t)(((r->flags & FW_RECORD_RELATED) != 0 ? FW_KIN_RELATED : 0) |
	    ((r->flags & FW_RECORD_REVERSED) != 0 ? FW_KIN_REVERSED : 0));
	fw_helper_begin(p, i);
	if (r->link_len != 0) {
		struct fw_ether e = {
			.len = r->link_len, .stripped = r->link_stripped, .tci = r->link_tci
		};

		memcpy(e.bytes, r->link, r->link_len);
		p->sessions.ether[i] = fw_ethers_get_same(&p->ethers, &e);
	}
}

enum fw_install
fw_path_install(struct fw_path *p, const struct fw_rules *rules, const struct fw_record *r,
    uint64_t now_ns, enum fw_drop *why)
{
	const struct pk_addr *inside = r->direction == PK_EGRESS ? &r->src : &r->dst;
	struct fw_sessions *t = &p->sessions;
	uint16_t wire = r->wire;
	struct fw_pkt pk;
	uint32_t i, tenant = FW_TENANT_UNKNOWN;

	*why = FW_DROP_NONE;
	if (rules != NULL) {
		const struct fw_endpoint *e = fw_rules_endpoint(rules, r->vrf, inside);

		if (e == NULL || !e->local) {
			*why = FW_DROP_NO_SUBJECT;
			return FW_INSTALL_REFUSED;
		}
		wire = e->wire;
	}
	if (wire >= FW_WIRES_MAX || state_of(r->state) == FW_STATE_NONE)
		return FW_INSTALL_FAULTY;
	fw_record_key(r, wire, &pk);
	fw_sessions_hash(t, &pk);
	if (fw_sessions_find(t, &pk) != FW_SESSION_NONE)
		return FW_INSTALL_THERE;
	if (p->counting) {
		tenant = fw_limit_tenant(rules, r->vrf, inside);
		*why = fw_limits_allow(p, &pk, inside, r->direction == PK_INGRESS ? &r->src : NULL,
		    tenant, false, now_ns);
	}
	if (*why != FW_DROP_NONE)
		return FW_INSTALL_REFUSED;
	i = fw_sessions_create(t, &pk);
	if (i == FW_SESSION_NONE)
		return FW_INSTALL_FULL;
	fill(p, i, r, &pk, now_ns);
	if (!fw_session_hold(p, i, tenant)) {
		fw_ethers_put(&p->ethers, t->ether[i]);
		fw_sessions_remove(t, i);
		return FW_INSTALL_FULL;
	}
	fw_sessions_moved(t, i, FW_STATE_NONE);
	fw_timer_file(&t->timer, i,
	    now_ns +
	        ((uint64_t)(p->timeout[t->hot[i].state] - (fw_units(now_ns) - t->hot[i].seen))
	            << FW_SEEN_SHIFT));
	pk_counter_add(&p->stats.sessions_created, 1);
	if (rules != NULL) {
		*why = fw_policy_ask_again(p, rules, i, now_ns);
		if (*why != FW_DROP_NONE) {
			t->hot[i].flags &=
			    (uint8_t)~FW_SESSION_LOG_END; /* it has never been here */
			fw_policy_end(p, i, now_ns, *why, NULL);
			return FW_INSTALL_REFUSED;
		}
	}
	fw_sessions_publish(t, i);
	return FW_INSTALL_DONE;
}
