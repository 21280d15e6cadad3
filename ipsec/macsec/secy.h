#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "ipsec/macsec/suite.h"
#include "lib/counter.h"
#include "lib/diag.h"

struct ipsec_crypto;

/*
 * A SecY: MACsec on one port, IEEE 802.1AE-2018.
 *
 * It has one transmit channel and some receive channels, each named by an SCI; a channel has up to four secure
 * associations, told apart by their AN, and each of these is a key with its packet numbers.
 *
 * Two threads know it.  The control thread adds and deletes; nothing of that is seen by the lcore before
 * macsec_secy_commit(), which publishes a new view by one pointer.  What has been deleted lives on until
 * macsec_secy_reclaim(), which is called when the lcore is known to have passed the end of a burst since.
 * The lcore, one alone, protects and validates bursts, and writes packet numbers and counters.
 *
 *      control thread                               the port's lcore
 *      macsec_tx_sa_add(), macsec_rx_sa_add() ...
 *      macsec_secy_commit()          -- view -->    macsec_protect(), macsec_validate()
 *      (lcore quiescent)
 *      macsec_secy_reclaim()
 *
 * Configuration and SAs hold what rte_security wants to know of a MACsec session (struct rte_security_macsec_sa, _sc,
 * _xform), in the same units, so that a port with an engine of its own can be told the same.
 */
#define MACSEC_BURST      32
#define MACSEC_RX_SC_MAX  32   /* receive channels of a SecY */
#define MACSEC_STRICT_MAX 4096 /* widest strict replay window */
#define MACSEC_VLANS_MAX  2    /* tags in clear */

/* What becomes of frames that are not valid: 802.1AE, 10.7.8.  Zero is closed. */
enum macsec_validate_frames {
	MACSEC_STRICT = 0, /* they are discarded */
	MACSEC_CHECK,      /* they are counted, and pass if nothing of them is encrypted */
	MACSEC_DISABLED,   /* nothing is checked; encrypted frames are discarded */
};

struct macsec_secy_conf {
	uint64_t sci;          /* of the transmit channel */
	uint8_t validate;      /* enum macsec_validate_frames */
	bool include_sci;      /* in each SecTAG; needed with more than two stations */
	bool end_station, scb; /* ES: the SCI is the source address and port 1.  SCB: EPON */
	bool replay_protect;   /* refuse late frames; otherwise they are counted as delayed */
	bool
	    replay_strict; /* also refuse what has come before within the window, which the standard lets pass */
	uint32_t replay_window; /* packet numbers; strict: up to MACSEC_STRICT_MAX */
	uint8_t
	    clear_vlans; /* so many VLAN tags stay before the SecTAG, neither encrypted nor authenticated */
	uint32_t max_len; /* octets of a protected frame that the port takes; 0: any */
};

struct macsec_sa_conf {
	uint8_t suite; /* enum macsec_suite */
	uint8_t an;    /* 0 .. 3 */
	uint8_t
	    confidentiality; /* enum macsec_confidentiality; receiving: its offset, the tag says whether */
	uint8_t key[MACSEC_KEY_MAX];
	uint8_t salt[MACSEC_SALT]; /* XPN */
	uint32_t ssci;             /* XPN: of the sender */
	uint64_t pn;               /* first to use, or lowest to accept; 0 stands for 1 */
	uint8_t ki[16];            /* which key it is, for the KaY */
};

/* What becomes of a frame.  Zero is closed. */
enum macsec_verdict {
	MACSEC_DOWN = 0, /* no SA to transmit with */
	MACSEC_PASS,
	MACSEC_UNTAGGED, /* no SecTAG, and frames have to have one */
	MACSEC_BAD_TAG,
	MACSEC_UNKNOWN_SCI,
	MACSEC_NO_SA,        /* its channel has no key under this AN */
	MACSEC_LATE,         /* before the replay window */
	MACSEC_REPLAYED,     /* in the window, and seen already */
	MACSEC_NOT_VALID,    /* the ICV is wrong */
	MACSEC_PN_EXHAUSTED, /* no packet number is left under this key */
	MACSEC_TOO_LONG,
	MACSEC_VERDICT_COUNT,
};

/* "late"; never NULL. */
const char *macsec_verdict_name(unsigned int verdict);

/* Counters under the standard's names (10.7.9, 10.7.18, table 10-1), of the SecY and of each channel. */
#define MACSEC_SECY_STATS(X)                           \
	X(out_pkts_too_long, "OutPktsTooLong")         \
	X(out_pkts_no_sa, "OutPktsNoSA")               \
	X(out_pkts_pn_exhausted, "OutPktsPNExhausted") \
	X(in_pkts_no_tag, "InPktsNoTag")               \
	X(in_pkts_bad_tag, "InPktsBadTag")             \
	X(in_pkts_no_sci, "InPktsNoSCI")               \
	X(in_pkts_unknown_sci, "InPktsUnknownSCI")     \
	X(in_octets_validated, "InOctetsValidated")    \
	X(in_octets_decrypted, "InOctetsDecrypted")    \
	X(out_octets_protected, "OutOctetsProtected")  \
	X(out_octets_encrypted, "OutOctetsEncrypted")
#define MACSEC_TX_STATS(X)                        \
	X(out_pkts_protected, "OutPktsProtected") \
	X(out_pkts_encrypted, "OutPktsEncrypted")
#define MACSEC_RX_STATS(X)                          \
	X(in_pkts_ok, "InPktsOK")                   \
	X(in_pkts_unchecked, "InPktsUnchecked")     \
	X(in_pkts_delayed, "InPktsDelayed")         \
	X(in_pkts_late, "InPktsLate")               \
	X(in_pkts_replayed, "InPktsReplayed")       \
	X(in_pkts_invalid, "InPktsInvalid")         \
	X(in_pkts_not_valid, "InPktsNotValid")      \
	X(in_pkts_not_using_sa, "InPktsNotUsingSA") \
	X(in_pkts_unused_sa, "InPktsUnusedSA")

#define MACSEC_STAT_MEMBER(member, name) pk_counter member;
struct macsec_secy_stats {
	pk_counter
	    in_pkts_untagged; /* "InPktsUntagged": passed in clear, while frames are not validated strictly */
	MACSEC_SECY_STATS(MACSEC_STAT_MEMBER)
};
struct macsec_tx_stats {
	MACSEC_TX_STATS(MACSEC_STAT_MEMBER)
};
struct macsec_rx_stats {
	MACSEC_RX_STATS(MACSEC_STAT_MEMBER)
};

struct macsec_secy;

/* Context: control thread, for all down to macsec_secy_reclaim().  Returns 0, -EINVAL with *diag, or -ENOMEM. */
int macsec_secy_create(
    struct macsec_secy **out, const struct macsec_secy_conf *conf, struct pk_diag *diag);
void macsec_secy_destroy(
    struct macsec_secy *s); /* wipes keys; NULL is allowed.  No lcore uses it any more. */

const struct macsec_secy_conf *macsec_secy_conf(const struct macsec_secy *s);

/*
 * `conf` is copied; the caller wipes its own.  An AN that is taken has to be deleted first: a key is never
 * replaced under its AN.  Return 0, -EINVAL, -ENOENT (no such channel), -EEXIST, -ENOSPC or -ENOMEM, with *diag.
 */
int macsec_tx_sa_add(
    struct macsec_secy *s, const struct macsec_sa_conf *conf, struct pk_diag *diag);
int macsec_rx_sc_add(
    struct macsec_secy *s, uint64_t sci, struct pk_diag *diag); /* 0 if it is there */
int macsec_rx_sa_add(
    struct macsec_secy *s, uint64_t sci, const struct macsec_sa_conf *conf, struct pk_diag *diag);

/* Transmit under this AN from now on.  Returns 0 or -ENOENT. */
int macsec_tx_sa_use(struct macsec_secy *s, uint8_t an);

/* Return 0 or -ENOENT. */
int macsec_tx_sa_delete(struct macsec_secy *s, uint8_t an);
int macsec_rx_sa_delete(struct macsec_secy *s, uint64_t sci, uint8_t an);
int macsec_rx_sc_delete(struct macsec_secy *s, uint64_t sci); /* with its SAs */
void macsec_secy_clear(struct macsec_secy *s);                /* all SAs and receive channels */

/*
 * Frames below this number are late from now on (802.1X-2020, 9.10.1: bounded delay); it never falls.  Takes effect
 * at once.  Returns 0 or -ENOENT.
 */
int macsec_rx_sa_floor(struct macsec_secy *s, uint64_t sci, uint8_t an, uint64_t pn);

void macsec_secy_commit(struct macsec_secy *s);
void macsec_secy_reclaim(struct macsec_secy *s);

/* What the control thread has set up.  Returns false when there is no such SA. */
struct macsec_sa_info {
	uint8_t suite, confidentiality, an;
	bool in_use; /* transmitting */
	uint64_t
	    next_pn; /* to be used next, or one above the highest accepted; 0 behind the last */
	uint64_t lowest_pn;
	uint8_t ki[16];
};
bool macsec_tx_sa_info(const struct macsec_secy *s, uint8_t an, struct macsec_sa_info *out);
bool macsec_rx_sa_info(
    const struct macsec_secy *s, uint64_t sci, uint8_t an, struct macsec_sa_info *out);

/* Receive channels: i counts from 0; false beyond the last. */
bool macsec_rx_sc_at(const struct macsec_secy *s, unsigned int i, uint64_t *sci);
const struct macsec_secy_stats *macsec_secy_stats(const struct macsec_secy *s);
const struct macsec_tx_stats *macsec_tx_stats(const struct macsec_secy *s);
const struct macsec_rx_stats *macsec_rx_stats(
    const struct macsec_secy *s, uint64_t sci); /* NULL: none */

/* Whether frames can be protected now.  Context: any. */
bool macsec_secy_transmits(const struct macsec_secy *s);

/* ---- the lcore's side --------------------------------------------------------------------------- */

/* A frame without preamble and FCS, in one piece. */
struct macsec_frame {
	uint8_t *data;   /* moves */
	uint32_t len;    /* changes */
	uint8_t verdict; /* enum macsec_verdict; data and len are of use with MACSEC_PASS alone */
};

/*
 * Protect frames f[0 .. n - 1], n <= MACSEC_BURST, in their order.  Before data and behind data + len there have to
 * be 16 octets of room each; frames are 14 octets at least.  Context: the lcore that owns the port; `c` is its engine.
 */
void macsec_protect(
    struct macsec_secy *s, struct ipsec_crypto *c, struct macsec_frame *f, unsigned int n);

/*
 * Validate: what passes is as its sender had it.  Any length, any bytes.
 * A burst is judged in its order, so two copies of a frame in one burst are told apart.
 */
void macsec_validate(
    struct macsec_secy *s, struct ipsec_crypto *c, struct macsec_frame *f, unsigned int n);
