#pragma once

#include <stdbool.h>
#include <string.h>

#include "ipsec/macsec/suite.h"

/*
 * The SecTAG, IEEE 802.1AE-2018 clause 9:
 *
 *     0        2    3    4          8              16
 *     | 88 e5  | TCI| SL |    PN    |  SCI, if SC  |  secure data  |  ICV (16)  |
 *              |  AN|
 *     TCI: V ES SC SCB E C (from the top), AN: the two lowest bits
 *
 * It stands behind the two addresses, and behind VLAN tags that are to stay in clear (secy.h).
 */
#define MACSEC_TCI_V   0x80
#define MACSEC_TCI_ES  0x40
#define MACSEC_TCI_SC  0x20
#define MACSEC_TCI_SCB 0x10
#define MACSEC_TCI_E   0x08
#define MACSEC_TCI_C   0x04
#define MACSEC_AN_MASK 0x03

#define MACSEC_ADDRS    12 /* octets before the tag */
#define MACSEC_SL_BELOW 48 /* secure data shorter than this has its length in SL */

struct macsec_tag {
	uint64_t sci; /* only with MACSEC_TCI_SC */
	uint32_t pn;
	uint32_t data_len; /* octets of secure data */
	uint8_t tci;       /* without the AN */
	uint8_t an;
	uint8_t len; /* of the tag: 8 or 16 */
};

/*
 * Read the tag of a frame of `len` octets whose EtherType is at 12.  Ethernet pads short frames, so with SL the frame
 * may be longer than its ICV; without SL the ICV is its end.  Reads no octet beyond `len`.
 * False: clause 9.9 forbids it (version, SC with ES or SCB, E without C, SL or length).  PN 0 is left to the caller: the lower half of
 * an extended number may be 0.
 */
static inline bool
macsec_tag_read(const uint8_t *frame, uint32_t len, struct macsec_tag *t)
{
	uint32_t left, pn;
	uint8_t b, sl;

	if (len < MACSEC_ADDRS + 8 + MACSEC_ICV)
		return false;
	b = frame[14];
	sl = frame[15];
	t->tci = b & (uint8_t)~MACSEC_AN_MASK;
	t->an = b & MACSEC_AN_MASK;
	t->len = b & MACSEC_TCI_SC ? 16 : 8;
	memcpy(&pn, frame + 16, 4);
	t->pn = __builtin_bswap32(pn);
	t->sci = 0;
	if (len < MACSEC_ADDRS + (uint32_t)t->len + MACSEC_ICV)
		return false;
	left = len - MACSEC_ADDRS - t->len - MACSEC_ICV;
	if ((b & MACSEC_TCI_V) != 0 ||
	    ((b & MACSEC_TCI_SC) != 0 && (b & (MACSEC_TCI_ES | MACSEC_TCI_SCB)) != 0) ||
	    (b & (MACSEC_TCI_E | MACSEC_TCI_C)) == MACSEC_TCI_E || sl >= MACSEC_SL_BELOW)
		return false;
	if (sl != 0 ? left < sl : left < MACSEC_SL_BELOW)
		return false;
	t->data_len = sl != 0 ? sl : left;
	if (b & MACSEC_TCI_SC) {
		uint64_t sci;

		memcpy(&sci, frame + 20, 8);
		t->sci = __builtin_bswap64(sci);
	}
	return true;
}

/* Write a tag of 8 octets, or 16 with MACSEC_TCI_SC, at `at`; `data_len` is that of the secure data. */
static inline void
macsec_tag_write(uint8_t *at, uint8_t tci_an, uint32_t data_len, uint32_t pn, uint64_t sci)
{
	uint32_t pn_be = __builtin_bswap32(pn);
	uint64_t sci_be = __builtin_bswap64(sci);

	at[0] = MACSEC_ETHERTYPE >> 8;
	at[1] = MACSEC_ETHERTYPE & 0xff;
	at[2] = tci_an;
	at[3] = data_len < MACSEC_SL_BELOW ? (uint8_t)data_len : 0;
	memcpy(at + 4, &pn_be, 4);
	if (tci_an & MACSEC_TCI_SC)
		memcpy(at + 8, &sci_be, 8);
}
