#pragma once

#include <stdbool.h>

#include "ipsec/macsec/suite.h"
#include "ipsec/mka/crypto.h"
#include "lib/base.h"

/*
 * MKPDUs: EAPOL-MKA, IEEE 802.1X-2020, 11.11.
 *
 *     DA SA 88 8e | version, 5, length | basic parameter set | other parameter sets ... | ICV
 *
 * A decoded MKPDU points into the bytes it was read from.  Decoding judges form alone: whose it is, whether its ICV
 * is right and what it means is the KaY's (kay.h).
 */
#define MKA_VERSION   3 /* of MKA, as 802.1X-2020 has it */
#define MKA_EAPOL     3 /* of EAPOL */
#define MKA_CKN_MAX   32
#define MKA_LIST_MAX  64                   /* peers in one list that are read */
#define MKA_FRAME_MAX 1514                 /* octets of a frame that we make */
#define MKA_ALGORITHM UINT32_C(0x0080c201) /* agility: CMAC, AES key wrap */

struct mka_ki {
	uint8_t mi[MKA_MI]; /* of the key server */
	uint32_t kn;        /* 0: no key */
};

struct mka_peer_id {
	uint8_t mi[MKA_MI];
	uint32_t mn;
};

/* How its sender uses a key. */
struct mka_use {
	struct mka_ki ki;
	uint8_t an;
	bool tx, rx;
	uint64_t lpn; /* lowest number it transmitted with lately */
};

struct mkpdu {
	/* Basic */
	uint8_t version, priority;
	bool key_server, desired;
	uint8_t capability; /* 0 none .. 3 with offsets */
	uint64_t sci;
	struct mka_peer_id actor;
	uint32_t algorithm;
	const uint8_t *ckn;
	uint8_t ckn_len;
	/* Peer lists; live ones first */
	unsigned int nb_live, nb_potential;
	struct mka_peer_id live[MKA_LIST_MAX], potential[MKA_LIST_MAX];
	/* SAK use */
	bool has_use, plain_tx, plain_rx, delay_protect;
	struct mka_use latest, old;
	/* Distributed SAK */
	bool has_sak;
	uint8_t sak_an, confidentiality;
	uint32_t kn;    /* 0: MACsec is not to be used */
	uint64_t suite; /* identifier; the default when it did not say */
	const uint8_t *wrapped;
	uint8_t wrapped_len;
	/* Extended packet numbers and suspension */
	bool has_xpn;
	uint8_t suspend_s; /* seconds */
};

/*
 * Read a frame of `len` octets from its destination address on.  *body_len: octets that the ICV covers; the ICV
 * follows them.  Padding behind is ignored.  Returns NULL, or what is wrong with it ("truncated").  Context: any.
 */
const char *mkpdu_decode(struct mkpdu *m, const uint8_t *frame, size_t len, size_t *body_len);

/* The CKN of a frame alone, or NULL: to find the participant whose key its ICV is checked with. */
const uint8_t *mkpdu_ckn(const uint8_t *frame, size_t len, uint8_t *ckn_len);

/*
 * Write a frame with room for its ICV into frame[0 .. MKA_FRAME_MAX - 1].  Lists longer than there is room for are cut.
 * Returns octets before the ICV.  Context: any.
 */
size_t mkpdu_encode(const struct mkpdu *m, const uint8_t source[6], uint8_t *frame);

bool mka_ki_equal(const struct mka_ki *a, const struct mka_ki *b);
