/*
 * The chains of table `inet` that all programs share: from a packet with a mark to the program of its session's
 * subject, and from a rule's verdict to the end of the packet.
 */
#include <arpa/inet.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "fw/nft/ruleset_priv.h"

#define STATE_INVALID   1u /* as `ct state` has them: 1, and 1 << (enum ip_conntrack_info + 1) */
#define STATE_NEW       8u
#define STATE_UNTRACKED 64u

#define REFUSED_PER_SECOND 1000 /* answers, and records: as in fw/reject.h and fw/path_open.c */
#define REFUSED_BURST      256

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

static void
is_ours(struct nft_code *c, bool yes)
{
	nft_meta(c, NFT_META_MARK, 0);
	nft_mask(c, 0, NFT_MARK_OURS_MASK, 0);
	nft_test32(c, 0, yes ? NFT_CMP_EQ : NFT_CMP_NEQ, NFT_MARK_OURS);
}

static void
has_state(struct nft_code *c, uint32_t bit)
{
	nft_ct(c, NFT_CT_STATE, 0);
	nft_mask(c, 0, bit, 0);
	nft_test32(c, 0, NFT_CMP_NEQ, 0);
}

static void
is_stamped(struct nft_code *c, bool yes)
{
	nft_ct(c, NFT_CT_MARK, 0);
	nft_test32(c, 0, yes ? NFT_CMP_NEQ : NFT_CMP_EQ, 0);
}

static void
is_session_of(struct nft_code *c, uint8_t proto)
{
	nft_ct_dir(c, NFT_CT_PROTOCOL, false, 0);
	nft_test8(c, 0, NFT_CMP_EQ, proto);
}

/* Before conntrack looks: sessions of a wire's VLAN are a zone of their own. */
static void
make_zone(struct nft_making *m)
{
	struct nft_hook hook = { .is = true, .number = NF_INET_PRE_ROUTING, .priority = -300 };
	struct nft_code c;

	nft_begin(m, &c, "zone");
	is_ours(&c, true);
	nft_meta(&c, NFT_META_MARK, 0);
	nft_mask(&c, 0, 0xffff, 0);
	nft_ct_set(&c, NFT_CT_ZONE, 0);
	nft_rule_end(&c);
	nft_end(m, &c, NFT_TABLE_INET, &hook);
}

/* What the bridge hands up to this machine is not for it. */
static void
make_host(struct nft_making *m)
{
	struct nft_hook hook = {
		.is = true, .number = NF_INET_LOCAL_IN, .priority = INT_MIN + 100
	};
	struct nft_code c;

	nft_begin(m, &c, "host");
	/* A router has neighbours, too; what they say has been judged where it came in. */
	is_ours(&c, true);
	has_state(&c, STATE_UNTRACKED);
	nft_meta(&c, NFT_META_L4PROTO, 0);
	nft_test8(&c, 0, NFT_CMP_EQ, IPPROTO_ICMPV6);
	nft_accept(&c);
	nft_rule_end(&c);
	is_ours(&c, true);
	nft_meta(&c, NFT_META_PKTTYPE, 0);
	nft_test8(&c, 0, NFT_CMP_EQ, 0); /* PACKET_HOST; of the others it is a copy */
	nft_refuse(&c, NFT_DROP_HOST);
	is_ours(&c, true);
	nft_drop(&c);
	nft_rule_end(&c);
	nft_end(m, &c, NFT_TABLE_INET, &hook);
}

/* A packet from inside (or outside) that goes the way its session was opened (or back). */
static void
is_way(struct nft_code *c, bool outside, bool reply)
{
	nft_meta(c, NFT_META_MARK, 0);
	nft_mask(c, 0, NFT_MARK_OUTSIDE, 0);
	nft_test32(c, 0, NFT_CMP_EQ, outside ? NFT_MARK_OUTSIDE : 0);
	nft_ct(c, NFT_CT_DIRECTION, 0);
	nft_test8(c, 0, NFT_CMP_EQ, reply);
}

static void
make_forward(struct nft_making *m)
{
	struct nft_hook hook = { .is = true, .number = NF_INET_FORWARD, .priority = 0 };
	struct nft_code c;

	nft_begin(m, &c, "forward");
	for (uint16_t w = 0; w < m->conf->nb_wires; w++) {
		if (m->conf->wires[w].bridge_index == 0)
			continue;
		is_ours(&c, false);
		nft_meta(&c, NFT_META_IIF, 0);
		nft_test32(&c, 0, NFT_CMP_EQ, m->conf->wires[w].bridge_index);
		nft_refuse(&c, NFT_DROP_UNMARKED);
	}
	is_ours(&c, false);
	nft_accept(&c); /* others' */
	nft_rule_end(&c);
	if (m->state == NULL) {
		nft_refuse(&c, NFT_DROP_NO_POLICY);
		nft_end(m, &c, NFT_TABLE_INET, &hook);
		return;
	}
	has_state(&c, STATE_INVALID);
	nft_refuse(&c, NFT_DROP_CT_INVALID);
	nft_ct(&c, NFT_CT_MARK, 0);
	nft_mask(&c, 0, 0xffff0000, 0);
	nft_test32(&c, 0, NFT_CMP_EQ, (uint32_t)m->stamp << 16);
	nft_count(&c, "sent");
	nft_accept(&c);
	nft_rule_end(&c);
	has_state(&c, STATE_UNTRACKED);
	nft_goto(&c, "untracked");
	nft_rule_end(&c);
	is_way(&c, false, false);
	nft_goto(&c, "egress");
	nft_rule_end(&c);
	is_way(&c, true, true);
	nft_goto(&c, "egress");
	nft_rule_end(&c);
	nft_goto(&c, "ingress");
	nft_rule_end(&c);
	nft_end(m, &c, NFT_TABLE_INET, &hook);

	/* Neighbour discovery and MLD: the frame's chains have judged them, and counted. */
	nft_begin(m, &c, "untracked");
	nft_meta(&c, NFT_META_L4PROTO, 0);
	nft_test8(&c, 0, NFT_CMP_EQ, IPPROTO_ICMPV6);
	nft_accept(&c);
	nft_rule_end(&c);
	nft_refuse(&c, NFT_DROP_CT_INVALID);
	nft_end(m, &c, NFT_TABLE_INET, NULL);
}

/* The address space and an address of the session's opener (or the other end), in registers 0 and on. */
static void
load_party(struct nft_code *c, bool v6, bool opener)
{
	nft_ct(c, NFT_CT_ZONE, 0);
	nft_mask(c, 0, NFT_VRF_MAX, 0);
	nft_ct_dir(c,
	    v6 ? (opener ? NFT_CT_SRC_IP6 : NFT_CT_DST_IP6)
	       : (opener ? NFT_CT_SRC_IP : NFT_CT_DST_IP),
	    false, 1);
}

static void
make_direction(struct nft_making *m, enum pk_direction d)
{
	const char *name = d == PK_EGRESS ? "egress" : "ingress";
	struct nft_code c;

	nft_begin(m, &c, name);
	has_state(&c, STATE_NEW);
	nft_jump(&c, d == PK_EGRESS ? "open-inside" : "open");
	nft_rule_end(&c);
	for (unsigned int f = 0; f < 2; f++) {
		load_party(&c, f == 1, d == PK_EGRESS);
		nft_map(&c, 0, f == 0 ? "identity4" : "identity6", 0);
		nft_map(
		    &c, 0, d == PK_EGRESS ? "subject-egress" : "subject-ingress", NFT_R_VERDICT);
		nft_rule_end(&c);
	}
	nft_refuse(&c, NFT_DROP_NO_SUBJECT);
	nft_end(m, &c, NFT_TABLE_INET, NULL);
}

static void
port_is_zero(struct nft_code *c, uint8_t proto, uint32_t off)
{
	is_session_of(c, proto);
	nft_payload(c, NFT_PAYLOAD_TRANSPORT_HEADER, off, 2, 0);
	nft_test16(c, 0, NFT_CMP_EQ, 0);
	nft_refuse(c, NFT_DROP_PORT_ZERO);
}

/* What may begin a session; conntrack has judged of ICMP which of it asks. */
static void
make_open(struct nft_making *m)
{
	static const struct {
		uint8_t proto;
		uint32_t off;
	} ports[] = { { IPPROTO_TCP, 0 }, { IPPROTO_TCP, 2 }, { IPPROTO_UDP, 2 },
		{ IPPROTO_SCTP, 0 }, { IPPROTO_SCTP, 2 } };
	struct nft_code c;

	nft_begin(m, &c, "open-inside");
	/* A workload inside as the far end would be answered from inside, past the wire. */
	for (unsigned int f = 0; f < 2; f++) {
		nft_meta(&c, NFT_META_NFPROTO, 0);
		nft_test8(&c, 0, NFT_CMP_EQ, f == 0 ? NFPROTO_IPV4 : NFPROTO_IPV6);
		nft_meta(&c, NFT_META_MARK, 0);
		nft_payload(&c, NFT_PAYLOAD_NETWORK_HEADER, f == 0 ? 16 : 24, f == 0 ? 4 : 16, 1);
		nft_in_set(&c, 0, f == 0 ? "inside4" : "inside6");
		nft_refuse(&c, NFT_DROP_WRONG_SIDE);
	}
	nft_goto(&c, "open");
	nft_rule_end(&c);
	nft_end(m, &c, NFT_TABLE_INET, NULL);

	nft_begin(m, &c, "open");
	for (unsigned int i = 0; i < PK_COUNT(ports); i++)
		port_is_zero(&c, ports[i].proto, ports[i].off);
	if (!m->conf->tcp_loose) {
		is_session_of(&c, IPPROTO_TCP);
		nft_meta(&c, NFT_META_L4PROTO, 0);
		nft_test8(&c, 0, NFT_CMP_EQ, IPPROTO_TCP);
		nft_payload(&c, NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1, 0);
		nft_mask(&c, 0, htonl((uint32_t)(TCP_SYN | TCP_ACK | TCP_RST) << 24), 0);
		nft_test8(&c, 0, NFT_CMP_NEQ, TCP_SYN);
		nft_refuse(&c, NFT_DROP_TCP_NO_SESSION);
	}
	nft_end(m, &c, NFT_TABLE_INET, NULL);
}

/* ---- after the verdict; the mark is the number of the rule ---- */

static const struct {
	const char *name;
	uint8_t proto, family;
} timeouts[] = {
	{ "timeout-tcp4", IPPROTO_TCP, AF_INET },
	{ "timeout-tcp6", IPPROTO_TCP, AF_INET6 },
	{ "timeout-udp4", IPPROTO_UDP, AF_INET },
	{ "timeout-udp6", IPPROTO_UDP, AF_INET6 },
};

static void
make_timeouts(struct nft_making *m)
{
	const uint32_t *s = m->conf->seconds;

	for (unsigned int i = 0; i < PK_COUNT(timeouts); i++) {
		struct nft_object *o = nft_plan_timeout(
		    m->plan, timeouts[i].name, timeouts[i].proto, timeouts[i].family);

		/* enum ctattr_timeout_tcp and its like of linux/netfilter/nfnetlink_cttimeout.h, less one */
		if (timeouts[i].proto == IPPROTO_TCP) {
			const uint32_t tcp[] = { s[NFT_TIMEOUT_SYN_SENT], s[NFT_TIMEOUT_SYN_RECV],
				s[NFT_TIMEOUT_ESTABLISHED], s[NFT_TIMEOUT_FIN_WAIT],
				s[NFT_TIMEOUT_FIN_WAIT], s[NFT_TIMEOUT_FIN_WAIT],
				s[NFT_TIMEOUT_TIME_WAIT], s[NFT_TIMEOUT_CLOSED],
				s[NFT_TIMEOUT_SYN_SENT], s[NFT_TIMEOUT_FIN_WAIT],
				s[NFT_TIMEOUT_FIN_WAIT] };

			memcpy(o->seconds, tcp, sizeof(tcp));
		} else {
			o->seconds[0] = s[NFT_TIMEOUT_UDP_NEW];
			o->seconds[1] = s[NFT_TIMEOUT_UDP];
		}
	}
}

/* One rule per VLAN, since what nfnetlink_log says of a bridged packet does not tell. */
static void
write_log(struct nft_making *m, struct nft_code *c, bool stamped, const char *what)
{
	for (uint32_t vrf = 0; vrf <= NFT_VRF_MAX; vrf++) {
		char prefix[32];

		if ((m->vrfs[vrf / 8] & 1 << vrf % 8) == 0)
			continue;
		is_stamped(c, stamped);
		nft_ct(c, NFT_CT_ZONE, 0);
		nft_mask(c, 0, NFT_VRF_MAX, 0);
		nft_test32(c, 0, NFT_CMP_EQ, vrf);
		nft_limit(c, REFUSED_PER_SECOND, REFUSED_BURST);
		snprintf(prefix, sizeof(prefix), "%s %u", what, vrf);
		nft_log(c, m->conf->log_group, prefix, NFT_LOG_SNAP);
		nft_rule_end(c);
	}
}

static const char *const limits_of[] = { "limits-egress", "limits-ingress" };
static const char *const created_of[] = { "created-egress", "created-ingress" };

/* Whose session it is: the inside address, and its identity's tenant. */
static void
make_limits(struct nft_making *m, enum pk_direction d)
{
	uint32_t workload = m->conf->workload_sessions, tenant = m->conf->tenant_sessions;
	struct nft_code c;

	nft_begin(m, &c, limits_of[d]);
	for (unsigned int f = 0; f < 2; f++) {
		uint32_t type = NFT_TYPES(NFT_TYPE_MARK, f == 0 ? NFT_TYPE_IPV4 : NFT_TYPE_IPV6);
		const char *meter = f == 0 ? "meter-workload4" : "meter-workload6";

		if (workload != 0) {
			(void)nft_plan_set(m->plan, NFT_TABLE_INET, meter, NFT_SET_METER,
			    NFT_SET_KEYS, type, f == 0 ? 8 : 20);
			load_party(&c, f == 1, d == PK_EGRESS);
			nft_more_sessions_than(&c, 0, meter, workload);
			nft_refuse(&c, NFT_DROP_LIMIT_SESSIONS);
		}
		if (tenant != 0) {
			(void)nft_plan_set(m->plan, NFT_TABLE_INET, "meter-tenant", NFT_SET_METER,
			    NFT_SET_KEYS, NFT_TYPE_MARK, 4);
			load_party(&c, f == 1, d == PK_EGRESS);
			nft_map(&c, 0, f == 0 ? "identity4" : "identity6", 0);
			nft_map(&c, 0, "tenant", 0);
			nft_more_sessions_than(&c, 0, "meter-tenant", tenant);
			nft_refuse(&c, NFT_DROP_TENANT_SESSIONS);
		}
	}
	nft_end(m, &c, NFT_TABLE_INET, NULL);
}

const char *
nft_allow_chain(enum pk_direction d, bool logs)
{
	static const char *const names[PK_DIRECTION_COUNT][2] = {
		{ "allow-egress", "allow-egress-log" }, { "allow-ingress", "allow-ingress-log" }
	};

	return names[d][logs];
}

static void
make_allow(struct nft_making *m, enum pk_direction d, bool logs)
{
	struct nft_code c;

	nft_begin(m, &c, nft_allow_chain(d, logs));
	is_stamped(&c, false);
	nft_jump(&c, created_of[d]);
	nft_rule_end(&c);
	if (logs)
		write_log(m, &c, false, NFT_LOG_ALLOW);
	nft_meta(&c, NFT_META_MARK, 0);
	nft_mask(&c, 0, 0xffff, (uint32_t)m->stamp << 16);
	nft_ct_set(&c, NFT_CT_MARK, 0);
	nft_count(&c, "sent");
	nft_accept(&c);
	nft_rule_end(&c);
	nft_end(m, &c, NFT_TABLE_INET, NULL);
}

static void
make_created(struct nft_making *m, enum pk_direction d)
{
	struct nft_code c;

	nft_begin(m, &c, created_of[d]);
	if ((m->conf->workload_sessions | m->conf->tenant_sessions) != 0) {
		nft_jump(&c, limits_of[d]);
		nft_rule_end(&c);
	}
	nft_count(&c, "sessions-created");
	nft_rule_end(&c);
	for (unsigned int i = 0; i < PK_COUNT(timeouts); i++) {
		is_session_of(&c, timeouts[i].proto);
		nft_meta(&c, NFT_META_NFPROTO, 0);
		nft_test8(
		    &c, 0, NFT_CMP_EQ, timeouts[i].family == AF_INET ? NFPROTO_IPV4 : NFPROTO_IPV6);
		nft_timeout(&c, timeouts[i].name);
		nft_rule_end(&c);
	}
	nft_end(m, &c, NFT_TABLE_INET, NULL);
}

/* Refused: by what was never allowed, or by what a change of policy ends. */
static void
make_refusal(struct nft_making *m, const char *name, bool logs, bool rejects)
{
	struct nft_code c;

	nft_begin(m, &c, name);
	if (rejects) {
		write_log(m, &c, true, NFT_LOG_REVOKE);
		write_log(m, &c, false, NFT_LOG_REJECT);
	} else if (logs) {
		write_log(m, &c, true, NFT_LOG_DENY);
		write_log(m, &c, false, NFT_LOG_DENY);
	}
	is_stamped(&c, true);
	nft_refuse(&c, NFT_DROP_REVOKED);
	nft_refuse(&c, rejects ? NFT_DROP_RULE_REJECT : NFT_DROP_RULE_DENY);
	nft_end(m, &c, NFT_TABLE_INET, NULL);
}

void
nft_judge_sets(struct nft_making *m)
{
	static const char *const identity[] = { "identity4", "identity6" };
	static const char *const inside[] = { "inside4", "inside6" };

	if (m->state == NULL)
		return;
	for (unsigned int f = 0; f < 2; f++) {
		uint32_t type = NFT_TYPES(NFT_TYPE_MARK, f == 0 ? NFT_TYPE_IPV4 : NFT_TYPE_IPV6);
		uint32_t len = f == 0 ? 8 : 20;

		m->identity[f] = nft_plan_set(
		    m->plan, NFT_TABLE_INET, identity[f], NFT_SET_HASH, NFT_SET_NUMBERS, type, len);
		m->judge_local[f] = nft_plan_set(
		    m->plan, NFT_TABLE_INET, inside[f], NFT_SET_HASH, NFT_SET_KEYS, type, len);
	}
	m->subject[PK_EGRESS] = nft_plan_set(m->plan, NFT_TABLE_INET, "subject-egress",
	    NFT_SET_HASH, NFT_SET_CHAINS, NFT_TYPE_MARK, 4);
	m->subject[PK_INGRESS] = nft_plan_set(m->plan, NFT_TABLE_INET, "subject-ingress",
	    NFT_SET_HASH, NFT_SET_CHAINS, NFT_TYPE_MARK, 4);
	if (m->conf->tenant_sessions != 0)
		m->tenant = nft_plan_set(m->plan, NFT_TABLE_INET, "tenant", NFT_SET_HASH,
		    NFT_SET_NUMBERS, NFT_TYPE_MARK, 4);
}

void
nft_judge_make(struct nft_making *m)
{
	nft_plan_counter(m->plan, NFT_TABLE_INET, "sent");
	nft_plan_counter(m->plan, NFT_TABLE_INET, "sessions-created");
	for (unsigned int d = 1; d < NFT_DROP_COUNT; d++)
		nft_plan_counter(m->plan, NFT_TABLE_INET, nft_drop_name(d));
	make_zone(m);
	make_host(m);
	make_forward(m);
	if (m->state == NULL)
		return;
	make_direction(m, PK_EGRESS);
	make_direction(m, PK_INGRESS);
	make_open(m);
	make_timeouts(m);
	for (unsigned int d = 0; d < PK_DIRECTION_COUNT; d++) {
		if ((m->conf->workload_sessions | m->conf->tenant_sessions) != 0)
			make_limits(m, (enum pk_direction)d);
		make_created(m, (enum pk_direction)d);
		make_allow(m, (enum pk_direction)d, false);
		make_allow(m, (enum pk_direction)d, true);
	}
	make_refusal(m, "deny", false, false);
	make_refusal(m, "deny-log", true, false);
	make_refusal(m, "reject", false, true);
	make_refusal(m, "reject-log", true, true);
}
