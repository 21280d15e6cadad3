#pragma once

#include <string.h>

#include "ipsec/crypto.h"
#include "ipsec/macsec/secy.h"

/* What the files of the SecY share: secy.c (the control thread's), secy_protect.c and secy_validate.c. */

#define WINDOW_WORDS \
	(MACSEC_STRICT_MAX / 64 + 1) /* one more, so that a full window never meets its own end */

struct sa {
	/* First line: what each frame needs.  The lcore writes next_pn, the control thread floor. */
	_Atomic uint64_t
	    next_pn; /* to use next; receiving: one above the highest accepted; 0: none is left */
	_Atomic uint64_t floor; /* receiving: lowest acceptable, whatever the window says */
	uint64_t pn_max;
	uint8_t alg;    /* enum ipsec_alg */
	uint8_t offset; /* octets in clear behind the SecTAG */
	bool encrypt, xpn;
	uint8_t an, suite, confidentiality;
	uint8_t tci_an;                                        /* to transmit */
	uint8_t salt[MACSEC_SALT] __attribute__((aligned(4))); /* with SSCI in: see make_iv() */
	uint32_t window;
	bool protect, strict;
	uint8_t ki[16] PK_CACHE_ALIGNED;
	struct sa *next_garbage;
	uint64_t *seen; /* receiving: bit pn % (64 * WINDOW_WORDS) */
	uint8_t key[IPSEC_KEY_STRIDE] PK_CACHE_ALIGNED;
};

struct rx_sc {
	uint64_t sci;
	struct macsec_rx_stats stats PK_CACHE_ALIGNED;
	struct sa *sa[MACSEC_ANS];
	struct rx_sc *next_garbage;
};

/* What the lcore sees: immutable once published. */
struct view {
	struct sa *tx; /* NULL: none to transmit with */
	unsigned int nb_rx;
	uint64_t sci[MACSEC_RX_SC_MAX];
	struct {
		struct rx_sc *sc;
		struct sa *sa[MACSEC_ANS];
	} rx[MACSEC_RX_SC_MAX];
	struct view *next_garbage;
};

struct macsec_secy {
	_Atomic(struct view *) view;
	struct macsec_secy_conf conf;
	/* The lcore's. */
	struct macsec_secy_stats stats PK_CACHE_ALIGNED;
	struct macsec_tx_stats tx_stats;
	/* The control thread's. */
	struct sa *tx[MACSEC_ANS] PK_CACHE_ALIGNED;
	struct sa *encoding; /* one of tx[], or NULL */
	struct rx_sc *rx[MACSEC_RX_SC_MAX];
	unsigned int nb_rx;
	/* Taken out; and of these what the lcore cannot know any more once it is quiescent. */
	struct sa *sa_out, *sa_garbage;
	struct rx_sc *sc_out, *sc_garbage;
	struct view *view_garbage;
};

/*
 * 14.5 and 14.7: the IV is the SCI and the PN; with extended packet numbers SSCI and PN of 64 bits, both xored with the salt.
 * The SSCI has been worked into the salt when the SA was made.
 */
static inline void
make_iv(const struct sa *sa, uint64_t sci, uint64_t pn, uint8_t iv[12])
{
	if (sa->xpn) {
		uint64_t low;

		memcpy(iv, sa->salt, 4);
		memcpy(&low, sa->salt + 4, 8);
		low ^= __builtin_bswap64(pn);
		memcpy(iv + 4, &low, 8);
	} else {
		uint64_t sci_be = __builtin_bswap64(sci);
		uint32_t pn_be = __builtin_bswap32((uint32_t)pn);

		memcpy(iv, &sci_be, 8);
		memcpy(iv + 8, &pn_be, 4);
	}
}

/* Octets of VLAN tags at the start of the user data, as many as stay in clear. */
static inline uint32_t
clear_tags(const struct macsec_secy *s, const uint8_t *frame, uint32_t len)
{
	uint32_t off = 0;

	for (unsigned int i = 0; i < s->conf.clear_vlans && len >= 12 + off + 6; i++) {
		const uint8_t *t = frame + 12 + off;

		if (!(t[0] == 0x81 && t[1] == 0x00) && !(t[0] == 0x88 && t[1] == 0xa8))
			break;
		off += 4;
	}
	return off;
}

/*
 * Tags in clear stand between addresses and SecTAG on the wire, and outside of what is authenticated.  So they are
 * lifted out, the addresses moved up to what follows, and put back in when the cryptography is done.
 */
static inline uint8_t *
lift_tags(uint8_t *frame, uint32_t tags, uint8_t saved[4 * MACSEC_VLANS_MAX])
{
	memcpy(saved, frame + 12, tags);
	memmove(frame + tags, frame, 12);
	return frame + tags;
}

static inline uint8_t *
drop_tags_in(uint8_t *frame, uint32_t tags, const uint8_t saved[4 * MACSEC_VLANS_MAX])
{
	memmove(frame - tags, frame, 12);
	memcpy(frame - tags + 12, saved, tags);
	return frame - tags;
}
