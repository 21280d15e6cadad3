#pragma once

#include <stdbool.h>

#include "fw/drop.h"
#include "lib/addr.h"

struct fw_overlay;
struct rte_mbuf;

/*
 * What later stages know about a packet.  The parser reads the headers once and writes down all that
 * is asked of them afterwards; only rare work (TCP options of a SYN, answers, traces) goes back to
 * the bytes.
 *
 *     | Ethernet | 802.1Q, 802.1ad | IPv4 + options      | TCP UDP SCTP ICMP | payload | padding |
 *                                  | IPv6 + extensions   |
 *     l2                           l3                    l4         l4 + header         len
 *
 * In a tunnel (fw/overlay.h) this is the inner frame, and l2 is where it begins; otherwise l2 is 0.
 */

/* The names by which both directions of a session are found: addresses in ascending order, ports
 * beside their addresses.  Compared and hashed as 20 bytes of memory, so there is no padding. */
struct fw_key {
	union {
		uint32_t v4[2]; /* network order */
		uint32_t digest
		    [2]; /* keyed digest of two IPv6 addresses; the session holds them whole */
	};
	uint16_t
	    port[2]; /* host order; ICMP: identifier, request type << 1 | who asks (see parse.c) */
	uint32_t
	    vrf; /* address space: the VLAN ID, or outer << 12 | inner; 0 untagged; or a VNI's */
	uint16_t wire;
	uint8_t proto;
	uint8_t family; /* 4 or 6 */
};
_Static_assert(sizeof(struct fw_key) == 20, "hashed and compared as memory");

enum fw_kind {
	FW_KIND_NONE = 0,
	FW_KIND_SESSION,    /* judged by its session, or by policy to open one */
	FW_KIND_ICMP_ERROR, /* the key is that of the embedded packet */
	FW_KIND_ARP,        /* without session and policy: see fw/guard.h */
	FW_KIND_ND,         /* likewise: ND and MLD */
	FW_KIND_DHCP,       /* likewise, if it is snooped: fw/path_dhcp.c */
	FW_KIND_FRAGMENT,   /* not the first: judged by what the first was; see fw/frag.h */
};

#define FW_TCP_FIN 0x01
#define FW_TCP_SYN 0x02
#define FW_TCP_RST 0x04
#define FW_TCP_PSH 0x08
#define FW_TCP_ACK 0x10
#define FW_TCP_URG 0x20

struct fw_pkt {
	/* One line: all that is asked of a packet of an established session. */
	struct fw_key key;
	uint16_t drop; /* enum fw_drop; FW_DROP_NONE while the packet is in good standing */
	uint8_t hi; /* 1: the source (ICMP error: of the embedded packet) is the greater address */
	bool lane;  /* read by fw/lane.h: the second line is not filled in yet */
	uint64_t hash;
	uint32_t session;  /* index, or FW_SESSION_NONE */
	uint32_t len;      /* bytes of the frame */
	uint32_t ack, seq; /* TCP; ICMP error: seq of the embedded segment */
	uint16_t win;
	uint16_t payload;  /* bytes after the L4 header, without padding */
	uint16_t selector; /* as in struct pk_service, of the packet as it stands */
	uint8_t tcp_flags;
	uint8_t l4_proto; /* of the packet itself; differs from key.proto in ICMP errors */
	struct rte_mbuf *m;

	const uint8_t *data; /* the frame, or a copy of its start when it is in several segments */
	uint8_t kind;        /* enum fw_kind */
	bool request;        /* ICMP: asks, so it may open a session */
	bool checksum_ok;    /* skip the IPv4 header checksum: the port has verified it */
	uint16_t l2, l3, l4; /* offsets into the frame */
	uint16_t outer_l3, outer_l4; /* of the tunnel it is in; both 0: in none */
	uint16_t l4_len;             /* bytes of the L4 header; 0 for protocols we do not know */
	uint16_t inner;              /* ICMP error: offset of the embedded IP header */
	uint16_t contiguous;         /* bytes that may be read at `data` */
	uint32_t l3_end;             /* offset one past the IP packet */
	bool fragment;               /* one of several; then the next four tell which */
	bool frag_more;              /* and not the last */
	uint16_t frag_off;           /* bytes of the original that lie before it */
	uint16_t frag_len;           /* bytes of the original that it carries, L4 header and all */
	uint32_t frag_id;
	uint8_t addr[2][16];    /* IPv6: lower, higher */
} __attribute__((aligned(64))); /* a burst of them in as few lines as can be */

#define FW_PARSE_HEAD 512 /* bytes copied from a segmented packet; longer headers are refused */

/*
 * Parse the frame whose first `contiguous` bytes are at `data` and which is `len` bytes in all.
 * Fills *pk, whose `wire` (in key) and `checksum_ok` the caller has set; reads no byte beyond data[contiguous - 1].
 * `tci` is a VLAN tag which the port has taken off, 0 for none.  `overlay`: the tunnels to look into, NULL for none.
 * Returns pk->drop.  Context: any.
 */
enum fw_drop fw_parse(struct fw_pkt *pk, const uint8_t *data, uint32_t contiguous, uint32_t len,
    uint16_t tci, const struct fw_overlay *overlay);

/* The addresses of the packet itself, and its ports, for policy, traces and people.  Zero family
 * when it has none.  Packets that fail to parse may be asked, too.  Context: any. */
void fw_pkt_addrs(const struct fw_pkt *pk, struct pk_addr *src, struct pk_addr *dst);
void fw_pkt_ports(const struct fw_pkt *pk, uint16_t *sport, uint16_t *dport);

/* Sum of 16-bit words as they lie in memory (RFC 1071); fold and complement when done.  Only the last
 * part of a sum may be of odd length. */
uint32_t fw_sum(const uint8_t *bytes, size_t len, uint32_t sum);
uint16_t fw_sum_fold(uint32_t sum);
/* RFC 1624 equation 3, for a checksum (as it lies in memory) whose data summed up to `old` and sums up to `new`. */
uint16_t fw_sum_adjust(uint16_t checksum, uint32_t old, uint32_t new);

/* Sum of the pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1) of a parsed packet's L4. */
uint32_t fw_sum_pseudo(const struct fw_pkt *pk, uint8_t proto, uint32_t l4_bytes);
