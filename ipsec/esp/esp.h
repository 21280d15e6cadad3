#pragma once

#include "ipsec/esp/sad.h"

struct rte_mbuf;

/*
 * ESP over bursts (RFC 4303): from a packet to a protected one, and back.
 *
 *      transport   | Ethernet | IP  | ESP header | IV | upper layer           | padding, length, next | ICV |
 *      tunnel      | Ethernet | IP' | ESP header | IV | IP | upper layer      | padding, length, next | ICV |
 *      in UDP      | Ethernet | IP' | UDP | ESP header | ...
 *
 * Stages go over the whole burst, one after the other: fetch the SAs; look at them, take numbers, fetch the keys
 * by what the packets' lengths need; write or check headers; all the cryptography; the rest.
 *
 * An engine per lcore (ipsec/crypto.h); the SAD is everybody's.  Packets keep the link header they came
 * with, VLAN tags and all, but for the EtherType, and link addresses if the SA has some.
 */
#define ESP_BURST 32

struct esp_pkt {
	struct rte_mbuf *m; /* in one segment, with room before and behind it */
	struct esp_sa *sa; /* protect: by the caller; unprotect: looked up, NULL if there is none */
	uint16_t l3;       /* offset of the IP header */
	uint16_t
	    l4; /* protect, transport: of what follows the headers that stay in front; unprotect: of ESP, or of
	                         the UDP header in front of it */
	uint8_t udp;      /* unprotect: UDP encapsulated */
	uint8_t error;    /* enum esp_error; packets with an error take no part */
	uint16_t port_be; /* unprotect: UDP source port, when udp */
	uint64_t seq;     /* afterwards: its number */
	uint16_t mtu;     /* ESP_TOO_BIG: what would have fitted, IP bytes */
};

struct esp_engine {
	struct esp_sad *sad;
	struct ipsec_crypto *crypto;
};

/*
 * Protect pkt[0 .. n - 1], n <= ESP_BURST, by their SAs.  Lengths are whole IP packets without link padding;
 * checksums inside are done.  Afterwards each is a frame to be sent, or has an error and is garbage.
 * Context: lcore.
 */
void esp_protect(struct esp_engine *e, struct esp_pkt *pkt, unsigned int n, uint64_t now_ns);

/*
 * Check and reveal pkt[0 .. n - 1].  Afterwards each is the frame that was protected, with the link header of the
 * one that brought it, or has an error and is garbage.  Selectors are not asked.
 * Context: lcore.
 */
void esp_unprotect(struct esp_engine *e, struct esp_pkt *pkt, unsigned int n, uint64_t now_ns);

/*
 * What becomes of ECN when a tunnel ends, RFC 6040 figure 4; 4: drop.  inner and outer are 0 - 3.  Context: any.
 */
unsigned int esp_ecn_decap(unsigned int inner, unsigned int outer);

/* IP bytes that a packet of `inner` bytes becomes; and the largest that stays within `mtu`.  Context: any. */
uint32_t esp_size(const struct esp_sa *sa, uint32_t inner);
uint32_t esp_fits(const struct esp_sa *sa, uint32_t mtu);
