#pragma once

#include "ipsec/esp/error.h"
#include "lib/base.h"

/*
 * Why a packet went no further.  Each refused packet adds to exactly one of these counters, so that
 * received = sent + held + the sum of drops, always.
 *
 *   X(NAME, "name", "what an operator should know")
 *
 * The order is not an interface, the names are.
 */
#define FW_DROPS(X)                                                                                \
	X(NO_POLICY, "no-policy", "no policy has been accepted yet: nothing passes")               \
	/* macsec: before the path sees the frame, and after it has let it pass */                 \
	X(MACSEC_DOWN, "macsec-down", "MACsec is required on this link, and not up")               \
	X(MACSEC_UNTAGGED, "macsec-untagged", "in clear on a link with MACsec")                    \
	X(MACSEC_BAD_TAG, "macsec-bad-tag", "a SecTAG that is cut short or impossible")            \
	X(MACSEC_UNKNOWN_SCI, "macsec-unknown-sci", "MACsec of a channel that nobody has")         \
	X(MACSEC_NO_SA, "macsec-no-sa", "MACsec under an association number without a key")        \
	X(MACSEC_LATE, "macsec-late", "MACsec: the packet number is before the replay window")     \
	X(MACSEC_REPLAYED, "macsec-replayed", "MACsec: this packet number has come before")        \
	X(MACSEC_NOT_VALID, "macsec-not-valid", "MACsec: the integrity check value is wrong")      \
	X(MACSEC_PN_EXHAUSTED, "macsec-pn-exhausted",                                              \
	    "MACsec: no packet number is left under this key")                                     \
	X(MACSEC_TOO_LONG, "macsec-too-long", "longer with MACsec than the port takes")            \
	/* parse: what the frame itself shows */                                                   \
	X(TRUNCATED, "truncated", "the frame ends before its headers do")                          \
	X(MAC_SOURCE, "mac-source", "the source MAC address is a group address")                   \
	X(ETHERTYPE, "ethertype", "neither IPv4, IPv6 nor ARP")                                    \
	X(VLAN_DEPTH, "vlan-depth", "more than two VLAN tags")                                     \
	X(ARP, "arp", "an ARP message that is not well-formed IPv4 over Ethernet")                 \
	X(IP_VERSION, "ip-version", "the IP version disagrees with the EtherType")                 \
	X(IP_HEADER, "ip-header", "the IP header length is impossible")                            \
	X(IP_LENGTH, "ip-length", "the IP packet claims to be longer than its frame")              \
	X(IP_CHECKSUM, "ip-checksum", "the IPv4 header checksum is wrong")                         \
	X(IP_OPTION, "ip-option", "malformed IPv4 options, or source routing")                     \
	X(IP_EXTENSION, "ip-extension", "IPv6 extension headers: too many, malformed or steering") \
	X(IP_SOURCE, "ip-source", "the source address cannot be a sender")                         \
	X(IP_DESTINATION, "ip-destination", "the destination address cannot be a receiver")        \
	X(LAND, "land", "source and destination address are the same")                             \
	X(FRAG_SIZE, "frag-size", "a fragment of a size or offset that no packet has")             \
	X(FRAG_TINY, "frag-tiny", "a first fragment without all headers")                          \
	X(L4_HEADER, "l4-header",                                                                  \
	    "the transport header is cut short or contradicts the IP length")                      \
	X(L4_CHECKSUM, "l4-checksum", "the transport checksum is wrong")                           \
	X(PORT_ZERO, "port-zero", "port 0")                                                        \
	X(TCP_FLAGS, "tcp-flags", "TCP flags that no connection can contain")                      \
	X(TCP_OPTIONS, "tcp-options", "TCP options that run over the end of the header")           \
	X(OVERSIZED, "oversized",                                                                  \
	    "a coalesced segment, and the port it leaves by cannot split it")                      \
	X(OVERLAY, "overlay",                                                                      \
	    "a tunnel's packet in pieces, or without a whole frame of a virtual network")          \
	X(OVERLAY_PEER, "overlay-peer", "a tunnel between addresses that are no tunnel endpoints") \
	/* guard: whether the sender may be who it says */                                         \
	X(SPOOF, "spoof", "from inside: the source address is no workload of this wire")           \
	X(SPOOF_MAC, "spoof-mac", "from inside: the source MAC is not that of the workload")       \
	X(SPOOF_OUTSIDE, "spoof-outside", "from outside: claims the address of a workload inside") \
	X(LINK_LOCAL, "link-local", "link-local addresses carry neighbour discovery only")         \
	X(ND, "nd", "a neighbour discovery message that breaks RFC 4861")                          \
	X(DHCP, "dhcp", "a malformed DHCP message, or one that contradicts the inventory")         \
	X(DHCP_SERVER, "dhcp-server", "DHCP from or to a server that is not in dhcp-server")       \
	X(RA_INSIDE, "ra-inside", "a workload poses as a router")                                  \
	/* fragments */                                                                            \
	X(FRAG_STRAY, "frag-stray", "a fragment whose first one did not come, or did not pass")    \
	X(FRAG_OVERLAP, "frag-overlap", "a fragment that overlaps another, or one of that packet") \
	X(FRAG_HOLES, "frag-holes", "a fragment of a packet that comes in too many loose pieces")  \
	X(FRAG_LIMIT, "frag-limit", "its workload has as many fragmented packets open as it may")  \
	X(FRAG_FULL, "frag-full", "the table of fragmented packets is full")                       \
	/* session */                                                                              \
	X(WRONG_SIDE, "wrong-side", "belongs to a session, but came in on the wrong side")         \
	X(SESSIONS_FULL, "sessions-full", "the session table is full of sessions in use")          \
	X(LIMIT_SESSIONS, "limit-sessions", "its workload has as many sessions as it may")         \
	X(LIMIT_HALF_OPEN, "limit-half-open",                                                      \
	    "its workload has as many unanswered sessions as it may")                              \
	X(LIMIT_RATE, "limit-rate",                                                                \
	    "its workload has begun as many sessions this second as it may")                       \
	X(TENANT_SESSIONS, "tenant-sessions", "its tenant has as many sessions as it may")         \
	X(TENANT_HALF_OPEN, "tenant-half-open",                                                    \
	    "its tenant has as many unanswered sessions as it may")                                \
	X(TENANT_RATE, "tenant-rate",                                                              \
	    "its tenant has begun as many sessions this second as it may")                         \
	X(SOURCE_SESSIONS, "source-sessions",                                                      \
	    "its outside address has as many sessions as it may")                                  \
	X(SOURCE_HALF_OPEN, "source-half-open",                                                    \
	    "its outside address has as many unanswered sessions as it may")                       \
	X(SOURCE_RATE, "source-rate",                                                              \
	    "its outside address has begun as many sessions this second as it may")                \
	X(SYN_COOKIE, "syn-cookie", "a SYN that was answered with a cookie: connections are many") \
	X(SYN_PROXY, "syn-proxy", "of a handshake that is done in the server's place")             \
	X(TCP_NO_SESSION, "tcp-no-session", "in the middle of a TCP connection nobody has opened") \
	X(TCP_STATE, "tcp-state", "TCP: not possible in this state")                               \
	X(TCP_WINDOW, "tcp-window", "TCP: sequence number outside the window")                     \
	X(TCP_ACK, "tcp-ack", "TCP: acknowledges what was not sent, or what is long past")         \
	X(TCP_RST, "tcp-rst", "TCP: reset outside the window")                                     \
	X(ICMP_TYPE, "icmp-type", "an ICMP type that nobody needs across a firewall")              \
	X(ICMP_CODE, "icmp-code", "an ICMP query of a code that its session was not opened with")  \
	X(ICMP_INNER, "icmp-inner", "an ICMP error whose embedded packet is unusable")             \
	X(ICMP_NO_SESSION, "icmp-no-session", "an ICMP error or reply to nothing that was sent")   \
	X(ICMP_WINDOW, "icmp-window", "an ICMP error about TCP data that is not in flight")        \
	/* policy */                                                                               \
	X(NO_SUBJECT, "no-subject", "the inside address belongs to no workload with policy")       \
	X(RULE_DENY, "rule-deny", "a rule, or the default at the end of the rules, says deny")     \
	X(RULE_REJECT, "rule-reject", "a rule says reject; the sender was told")                   \
	X(REVOKED, "revoked", "its session was allowed once, and is no longer")                    \
	X(ENCRYPTION_MISSING, "encryption-missing",                                                \
	    "its rule asks for encryption that the way to the other end does not have")            \
	X(INSPECT_MISSING, "inspect-missing",                                                      \
	    "its rule asks for inspection that there is none of, and fails closed")                \
	X(RULE_SESSIONS, "rule-sessions",                                                          \
	    "its rule has let in as many sessions this second as it may")                          \
	X(RULE_PACKETS, "rule-packets", "its rule has let through as many packets as it may")      \
	X(RULE_BYTES, "rule-bytes", "its rule has let through as many bytes as it may")            \
	X(APP_DENIED, "app-denied",                                                                \
	    "its application is none that a rule allows; the session is cut")                      \
	X(APP_OVERLAP, "app-overlap",                                                              \
	    "contradicts bytes that came first, while the application is looked for")              \
	X(APP_FRAGMENT, "app-fragment", "in pieces, while its application is looked for")          \
	X(SIG_DROP, "sig-drop", "a signature that says drop has matched its session")              \
	X(SIG_REJECT, "sig-reject",                                                                \
	    "a signature that says reject has matched; both sides were told")                      \
	X(SIG_OVERLAP, "sig-overlap",                                                              \
	    "contradicts bytes that came first, while its session is inspected")                   \
	X(SIG_FRAGMENT, "sig-fragment", "in pieces, while its session is inspected")               \
	X(SIG_FULL, "sig-full", "no room to inspect it, and its rule or inspect-fail says closed") \
	X(APP_FULL, "app-full", "no room to look for its application, and inspect-fail is closed") \
	ESP_ERRORS(X)                                                                              \
	X(ESP_NEIGHBOUR, "esp-neighbour",                                                          \
	    "out of a tunnel, for a workload whose MAC address is not known")                      \
	X(OWN_ADDRESS, "own-address", "for the DPU itself, which has no use for it")               \
	X(TLS_PLAIN, "tls-plain", "in clear, and its rule wants mutual TLS")                       \
	X(TLS_GONE, "tls-gone", "goes by mutual TLS, and picket-tlsd is not there")                \
	X(TLS_PORT, "tls-port", "from inside: uses the port that DPUs speak TLS by")               \
	X(TLS_ADDRESS, "tls-address",                                                              \
	    "from picket-tlsd: TCP of no workload here, or with whom nobody has spoken")           \
	/* resources */                                                                            \
	X(NO_BUFFER, "no-buffer", "the packet buffers ran out")                                    \
	X(LCORE_FULL, "lcore-full", "the lcore that has its session does not keep up")             \
	X(TX_FULL, "tx-full", "the port did not take the packet")

enum fw_drop {
	FW_DROP_NONE = 0, /* not dropped */
#define FW_DROP_ENUM(name, text, help) FW_DROP_##name,
	FW_DROPS(FW_DROP_ENUM)
#undef FW_DROP_ENUM
	FW_DROP_COUNT,
};

/* The reason for what ipsec/esp refuses. */
static inline enum fw_drop
fw_drop_of_esp(enum esp_error e)
{
	return (enum fw_drop)(FW_DROP_ESP_TRUNCATED + (unsigned int)e - ESP_TRUNCATED);
}

/* "rule-deny"; "none" for FW_DROP_NONE, "unknown" beyond the end. */
const char *fw_drop_name(unsigned int drop);
const char *fw_drop_help(unsigned int drop);
