#pragma once

#include <stdatomic.h>

#include "ipsec/crypto.h"
#include "ipsec/esp/error.h"
#include "ipsec/esp/replay.h"
#include "lib/addr.h"
#include "lib/sadb.h"

/*
 * Security associations, as lcores see them (RFC 4301, section 4.4.2; RFC 4303).
 *
 * There is one table for all lcores, and any lcore may use any SA: numbers are taken from atomic counters, so one
 * tunnel's packets may be spread over lcores, and nobody owns anything.  With 100,000 SAs in random order what a
 * packet costs is the cache lines it touches, so these are few, and known before the first is needed:
 *
 *      SPI or tunnel -> index -> line 0  read by each packet, written by the control thread
 *                                line 1  written by each packet: numbers, window, counters
 *                                line 2  outbound: outer headers, ready to be copied
 *                       index -> key     ipsec/crypto.h, in a table of its own
 *                       index -> cold    what only the control thread asks
 *
 * An SPI of ours is 0xc0000000 | generation << 20 | index: looking an SA up is reading an array, and an SPI whose SA
 * has gone finds another generation.
 *
 * Life: FREE -> LARVAL (an SPI has been given away, RFC 2367) -> ALIVE -> DEAD (expired: each packet drops) -> FREE.
 * The control thread alone moves it.  An entry is written while it is not alive, published by `state` with release
 * order, and reused when all lcores have been quiescent since it was taken out.
 */
#define ESP_SPI_BASE   UINT32_C(0xc0000000)
#define ESP_INDEX_BITS 20 /* at most 2^20 SAs, of both directions */
#define ESP_SA_NONE    0  /* index 0 is never used */

enum esp_state {
	ESP_STATE_FREE = 0,
	ESP_STATE_LARVAL,
	ESP_STATE_ALIVE,
	ESP_STATE_DEAD,
};

enum esp_sa_flags {
	ESP_SA_OUT = 1 << 0,
	ESP_SA_TUNNEL = 1 << 1,
	ESP_SA_ESN = 1 << 2,
	ESP_SA_ENCAP = 1 << 3,
	ESP_SA_OUTER6 = 1 << 4, /* outer header is IPv6 */
	ESP_SA_NO_ECN = 1 << 5,
	ESP_SA_NO_DSCP_COPY = 1 << 6,
	ESP_SA_DSCP_DECAP = 1 << 7,
};

struct esp_sa {
	/* line 0 */
	_Atomic uint32_t state; /* enum esp_state */
	uint32_t spi_be;
	uint32_t salt;  /* as in memory */
	uint16_t flags; /* enum esp_sa_flags */
	uint8_t alg;    /* enum ipsec_alg */
	uint8_t kind;   /* enum ipsec_alg_kind */
	uint8_t iv_len, icv_len, block;
	uint8_t df;        /* enum pk_sadb_df */
	uint8_t dscp;      /* shifted to its place in the header */
	uint8_t outer_len; /* outbound: bytes of outer headers; in transport mode of UDP alone */
	uint16_t wire;
	uint32_t vrf;
	uint16_t tfc;
	_Atomic uint16_t mtu; /* outbound: IP bytes that the path takes */
	uint32_t tunnel;      /* see sad.h */
	uint64_t seq_max; /* outbound: the last number that may be used; inbound: so many packets */
	uint64_t hard_ns; /* end of life, in the clock of now_ns; UINT64_MAX: none */
	uint64_t hard_bytes; /* likewise */

	/* line 1 */
	_Atomic uint64_t bytes PK_CACHE_ALIGNED;
	_Atomic uint64_t packets;
	_Atomic uint64_t used_ns; /* 0: never */
	union {
		_Atomic uint64_t seq; /* outbound: the last number given away */
		struct esp_replay replay;
	};
	_Atomic uint64_t refused; /* inbound: packets with an error */

	/* line 2 */
	/* Link addresses of outer packets, 6 bytes as in memory, written while lcores read them; to 0: the frame keeps
	 * its own. */
	_Atomic uint64_t mac_to PK_CACHE_ALIGNED;
	_Atomic uint64_t mac_from;
	union {
		uint8_t outer[48]; /* outbound: headers from IP to UDP, or UDP alone */
		struct {
			uint8_t addr[32]; /* inbound: source, destination, 4 or 16 bytes each */
			uint16_t sport_be;
			uint16_t nat_delta; /* transport through NAT: what to add to checksums */
		} from;
	};

	/* line 3: the words of windows up to 96 packets; line 1 says where those of others are */
	_Atomic uint64_t near_word[4] PK_CACHE_ALIGNED;
	/* An lcore writes `moved` between ESP_MOVED_NO -> BUSY -> YES, the control thread reads it at YES. */
	_Atomic uint32_t moved_state;
	uint16_t moved_port_be;
	uint8_t moved[16];
};
_Static_assert(sizeof(struct esp_sa) == 4 * PK_CACHE_LINE, "the lines that are drawn above");

enum esp_moved {
	ESP_MOVED_NO = 0,
	ESP_MOVED_BUSY,
	ESP_MOVED_YES,
};
