#pragma once

#include "fw/nft/plan.h"
#include "fw/rule_view.h"

/*
 * The policy of a generation as a ruleset of nftables.  docs/nft.md draws it.
 *
 * Frames come in through `netdev` chains, one per port, which mark each with where it came in, and check who sent
 * it (frame.c).  Sessions are conntrack's, in a zone for each wire and VLAN.  The `inet` chain `forward` lets pass
 * what belongs to a session that this generation has allowed; all else is judged, by the direction in which its
 * session was opened, in the chains of its program (program.c), and the session is stamped (judge.c).
 *
 *   packet mark, on the way to its verdict        connection mark
 *     31..24  NFT_MARK_OURS                         31..16  stamp: of the generation that allowed it, never 0
 *         16  came from outside                      15..0  number of the rule
 *      15..0  zone: wire + 1 << 12 | VLAN ID
 *   and while a program is asked: the peer's identity, with NFT_MARK_AUDITED
 */
#define NFT_MARK_OURS      UINT32_C(0x9b000000)
#define NFT_MARK_OURS_MASK UINT32_C(0xff000000)
#define NFT_MARK_OUTSIDE   UINT32_C(0x00010000)
#define NFT_MARK_AUDITED   UINT32_C(0x80000000)
#define NFT_IDENTITY_MAX   (NFT_MARK_AUDITED - 1)
#define NFT_STAMP_MAX      65535
#define NFT_SLOT_NONE      0xffff /* in a mark: the end of a program, which is no rule */
#define NFT_VRF_MAX        4095
#define NFT_WIRES_MAX      14

static inline uint16_t
nft_zone(uint16_t wire, uint32_t vrf)
{
	return (uint16_t)((wire + 1u) << 12 | vrf);
}

/* Why the kernel plane drops: names that picketd has too mean the same.  X(NAME, "name", "help") */
#define NFT_DROPS(X)                                                                               \
	X(NO_POLICY, "no-policy", "no policy has been accepted yet: nothing passes")               \
	X(MAC_SOURCE, "mac-source", "the source MAC address is a group address")                   \
	X(ETHERTYPE, "ethertype", "neither IPv4, IPv6 nor ARP")                                    \
	X(VLAN_DEPTH, "vlan-depth", "more than one VLAN tag")                                      \
	X(ARP, "arp", "an ARP message that is not well-formed IPv4 over Ethernet")                 \
	X(IP_OPTION, "ip-option", "source routing")                                                \
	X(IP_EXTENSION, "ip-extension", "an IPv6 routing header")                                  \
	X(IP_SOURCE, "ip-source", "the source address cannot be a sender")                         \
	X(IP_DESTINATION, "ip-destination", "the destination address cannot be a receiver")        \
	X(SPOOF, "spoof", "from inside: the source address is no workload of this wire")           \
	X(SPOOF_MAC, "spoof-mac", "from inside: the source MAC is not that of the workload")       \
	X(SPOOF_OUTSIDE, "spoof-outside", "from outside: claims the address of a workload inside") \
	X(LINK_LOCAL, "link-local", "link-local addresses carry neighbour discovery only")         \
	X(ND, "nd", "a neighbour discovery message that breaks RFC 4861")                          \
	X(RA_INSIDE, "ra-inside", "a workload poses as a router")                                  \
	X(ICMP_TYPE, "icmp-type", "an ICMP type that nobody needs across a firewall")              \
	X(HOST, "host", "to the machine itself, not across the wire")                              \
	X(CT_INVALID, "ct-invalid", "no session, or not possible in its state (conntrack)")        \
	X(UNMARKED, "unmarked", "on a bridge of ours, but not come in by a port of ours")          \
	X(TCP_NO_SESSION, "tcp-no-session", "in the middle of a TCP connection nobody has opened") \
	X(PORT_ZERO, "port-zero", "port 0")                                                        \
	X(WRONG_SIDE, "wrong-side", "to a workload on its own side of the wire")                   \
	X(LIMIT_SESSIONS, "limit-sessions", "its workload has as many sessions as it may")         \
	X(TENANT_SESSIONS, "tenant-sessions", "its tenant has as many sessions as it may")         \
	X(NO_SUBJECT, "no-subject", "the inside address belongs to no workload with policy")       \
	X(RULE_DENY, "rule-deny", "a rule, or the default at the end of the rules, says deny")     \
	X(RULE_REJECT, "rule-reject", "a rule says reject; the sender was told")                   \
	X(ENCRYPTION_MISSING, "encryption-missing",                                                \
	    "its rule asks for encryption, and this data plane has none")                          \
	X(INSPECT_MISSING, "inspect-missing",                                                      \
	    "its rule asks for signatures, and this data plane has none")                          \
	X(TERMS_MISSING, "terms-missing",                                                          \
	    "its rule asks for a rate or a codepoint, and this data plane has neither")            \
	X(REVOKED, "revoked", "its session was allowed once, and is no longer")

enum nft_drop {
	NFT_DROP_NONE = 0,
#define NFT_DROP_ENUM(name, text, help) NFT_DROP_##name,
	NFT_DROPS(NFT_DROP_ENUM)
#undef NFT_DROP_ENUM
	NFT_DROP_COUNT,
};
const char *nft_drop_name(unsigned int drop);
const char *nft_drop_help(unsigned int drop);

/* What a rule that allows asks for besides, and is not to be had here; NFT_DROP_NONE: nothing. */
enum nft_drop nft_terms_missing(const struct pk_rule_terms *t);

struct nft_wire {
	char port[2][16]; /* interfaces: inside, outside */
	char bridge[16];  /* that has both; "": packets are routed between them */
	uint32_t bridge_index;
};

enum nft_timeout {
	NFT_TIMEOUT_SYN_SENT = 0,
	NFT_TIMEOUT_SYN_RECV,
	NFT_TIMEOUT_ESTABLISHED,
	NFT_TIMEOUT_FIN_WAIT,
	NFT_TIMEOUT_TIME_WAIT,
	NFT_TIMEOUT_CLOSED,
	NFT_TIMEOUT_UDP_NEW,
	NFT_TIMEOUT_UDP,
	NFT_TIMEOUT_ICMP,
	NFT_TIMEOUT_OTHER,
	NFT_TIMEOUT_COUNT,
};

struct nft_ruleset_conf {
	const struct nft_wire *wires;
	uint16_t nb_wires;
	uint16_t log_group; /* of NFLOG: what rules log and reject */
	bool tcp_loose;
	uint32_t workload_sessions, tenant_sessions; /* 0: any number */
	uint32_t seconds[NFT_TIMEOUT_COUNT];
	const char *table; /* their name; lives as long as the plans do */
};

/* What the log says of a packet: the prefix, and in it the VLAN.  The mark is the number of the rule; of audit rules the
 * prefix has the id. */
#define NFT_LOG_ALLOW  "allow"
#define NFT_LOG_DENY   "deny"
#define NFT_LOG_REJECT "reject"
#define NFT_LOG_REVOKE "revoke" /* of a session that was allowed: its rule says reject now */
#define NFT_LOG_AUDIT  "audit "
#define NFT_LOG_SNAP   1400 /* bytes */

/*
 * Make the plan of what `s` says (NULL: nothing, which passes nothing), to be stamped with `stamp`.
 * `at_s`: now, in seconds since 1970-01-01 UTC, for rules with a schedule.
 * Context: control thread.  Returns 0, -ENOMEM, or -ERANGE with *diag: numbers that do not fit here.
 */
int nft_ruleset_make(struct nft_plan **out, const struct nft_ruleset_conf *conf,
    const struct fw_rules_state *s, bool attested, int64_t at_s, uint16_t stamp,
    struct pk_diag *diag);
