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
	struct esp_sa *sa;
	uint16_t
	    l3; /* offset of the IP header, here and afterwards that of the one which is then the first */
	uint16_t l4;   /* unprotect: of the ESP header, or of the UDP header in front of it */
	bool udp;      /* unprotect: there is one */
	uint8_t error; /* enum esp_error; packets with an error take no part */
	uint16_t mtu;  /* ESP_TOO_BIG: what would have fitted, IP bytes */
	uint64_t seq;  /* afterwards: its number */
};

/* What an lcore needs for it. */
struct esp_engine {
	struct esp_sad *sad;
	struct ipsec_crypto *crypto;
	/* IVs of CBC have to be such as nobody can foresee (RFC 3602, section 3); NULL: by OpenSSL. */
	void (*random)(uint8_t *bytes, size_t len);
	uint8_t pool[1024]; /* of it */
	uint32_t pool_left;
};

/*
 * Protect pkt[0 .. n - 1], n <= ESP_BURST, by their SAs.  Checksums inside are done.  What is behind the IP packet is
 * cut off.  Afterwards each is a frame to be sent, or has an error and is as it was.
 * Context: lcore.
 */
void esp_protect(struct esp_engine *e, struct esp_pkt *pkt, unsigned int n, uint64_t now_ns);

/*
 * Check and reveal pkt[0 .. n - 1], whose SAs esp_sad_by_spi() has found.  Afterwards each is the frame that was
 * protected, with the link header of the one that brought it, or has an error and is garbage.  Selectors are not
 * asked.  ESP in UDP is taken whether or not the SA is for it (RFC 7296, section 2.23).
 * Context: lcore.
 */
void esp_unprotect(struct esp_engine *e, struct esp_pkt *pkt, unsigned int n, uint64_t now_ns);

/* What ECN becomes when a tunnel ends (RFC 6040, figure 4), of the two bits each; or ESP_ECN_DROP.  Context: any. */
#define ESP_ECN_DROP 4
unsigned int esp_ecn_decap(unsigned int inner, unsigned int outer);

/* IP bytes that an IP packet of `len` bytes becomes, of which transport mode leaves `head` bytes in front;
 * and the largest that stays within `mtu`, 0: none does.  Context: any. */
uint32_t esp_size(const struct esp_sa *sa, uint32_t len, uint32_t head);
uint32_t esp_fits(const struct esp_sa *sa, uint32_t mtu, uint32_t head);
