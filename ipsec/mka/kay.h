#pragma once

#include "ipsec/mka/mkpdu.h"
#include "lib/diag.h"

/*
 * A KaY: MACsec key agreement on one port, IEEE 802.1X-2020, clauses 9 and 12.4.
 *
 * It has one participant for each CAK; of those with live peers the one with the highest CKN is the principal, and its SAKs
 * count.  A participant knows the others who hold that CAK by their MKPDUs: potential
 * peers, and live ones, who have shown that they hear us.  The best of all live ones is key server.  It makes SAKs,
 * gives them to the others under AES key wrap, and begins to transmit with one when all of them receive.
 *
 *     CHANGE ---> SECURED ---> RECEIVE ---> TRANSMIT ---> RETIRE        (kay_key.c has the table)
 *    no live peer   wait       new key:      all others     the old key
 *                   for a key  receive       receive it     is gone
 *
 * All of it is a function of what comes in: frames, the time, random octets, packet numbers.  What goes out goes
 * through operations.  Context: control thread, of everything here.
 */
#define MKA_PEERS_MAX        30
#define MKA_PARTICIPANTS_MAX 4
#define MKA_HELLO_NS         (2 * PK_NS_PER_S) /* table 9-3: MKA Hello Time */
#define MKA_BOUNDED_HELLO_NS (PK_NS_PER_S / 2)
#define MKA_LIFE_NS          (6 * PK_NS_PER_S) /* MKA Life Time */
#define MKA_RETIRE_NS        (3 * PK_NS_PER_S) /* SAK Retire Time */
#define MKA_SUSPEND_MAX_S    120               /* MKA Suspension Limit */
#define MKA_PRIORITY_NEVER   255               /* never key server */

struct mka_kay_conf {
	uint8_t mac[6];
	uint64_t sci;
	uint8_t priority; /* of becoming key server: the lowest wins */
	uint8_t suite;    /* enum macsec_suite: of SAKs that we distribute */
	uint8_t
	    confidentiality; /* enum macsec_confidentiality: likewise; integrity alone is taken from others only if it is ours too */
	bool delay_protect;  /* bounded receive delay: hello twice a second */
	uint64_t hello_ns, life_ns, retire_ns;
	uint64_t rekey_ns; /* a new SAK this often; 0: only when needed */
	uint64_t pn_limit; /* a new SAK from this packet number on; 0: three quarters of all */
};

void mka_kay_conf_init(
    struct mka_kay_conf *conf); /* the standard's values; mac and sci are the caller's */

/* An association for the SecY. */
struct mka_sa {
	bool receive;
	uint64_t sci; /* of its channel */
	uint8_t an, suite, confidentiality;
	uint32_t ssci;
	uint64_t pn;
	const uint8_t *key; /* of the suite's length */
	uint8_t salt[MACSEC_SALT];
	struct mka_ki ki;
};

/* What people want to know. */
enum mka_event {
	MKA_PEER_NEW = 0, /* potential */
	MKA_PEER_LIVE,
	MKA_PEER_LOST,
	MKA_SERVER,   /* another key server was elected, or we were */
	MKA_KEY,      /* a SAK was made or received */
	MKA_TRANSMIT, /* we transmit with it */
	MKA_RETIRED,  /* the one before is gone */
	MKA_UP,
	MKA_DOWN,    /* the controlled port */
	MKA_REFUSED, /* a MKPDU was refused */
	MKA_EVENT_COUNT,
};
const char *mka_event_name(unsigned int event);

struct mka_kay_ops {
	void (*send)(void *arg, const uint8_t *frame, size_t len);
	/* Fill with random octets.  Returns 0, or negative: nothing is done then that needs them. */
	int (*random)(void *arg, void *bytes, size_t len);
	void (*rx_sc_add)(void *arg, uint64_t sci);
	void (*rx_sc_delete)(void *arg, uint64_t sci); /* with its associations */
	void (*sa_add)(void *arg, const struct mka_sa *sa);
	void (*sa_delete)(void *arg, bool receive, uint64_t sci, uint8_t an);
	void (*sa_use)(void *arg, uint8_t an);
	void (*sa_floor)(void *arg, uint64_t sci, uint8_t an, uint64_t pn);
	void (*enable)(void *arg, bool enabled); /* the controlled port */
	void (*event)(void *arg, enum mka_event event, const char *text);
};

struct mka_kay;

/* `ops` is borrowed.  Returns 0, -EINVAL with *diag, or -ENOMEM.  The caller owns *out. */
int mka_kay_create(struct mka_kay **out, const struct mka_kay_conf *conf,
    const struct mka_kay_ops *ops, void *arg, struct pk_diag *diag);
void mka_kay_destroy(struct mka_kay *k); /* says nothing to anybody; wipes keys */

/*
 * A participant with this CAK (16 or 32 octets) and CKN (1 to 32), which are copied.
 * Returns 0, -EINVAL or -EEXIST with *diag, -ENOSPC, -EIO or -ENOMEM.
 */
int mka_kay_add(struct mka_kay *k, const uint8_t *cak, size_t cak_len, const uint8_t *ckn,
    size_t ckn_len, uint64_t now_ns, struct pk_diag *diag);
int mka_kay_remove(
    struct mka_kay *k, const uint8_t *ckn, size_t ckn_len, uint64_t now_ns); /* 0 or -ENOENT */

/* A frame from the uncontrolled port. */
void mka_kay_receive(struct mka_kay *k, const uint8_t *frame, size_t len, uint64_t now_ns);

/* Do what is due, and return when to be called again at the latest. */
uint64_t mka_kay_tick(struct mka_kay *k, uint64_t now_ns);

/* Where the transmit association of this AN and key stands: its next number, 0 behind the last. */
void mka_kay_pn(struct mka_kay *k, uint8_t an, const struct mka_ki *ki, uint64_t next_pn);

/* Distribute a new SAK as soon as may be.  Returns 0, or -EPERM: another is key server. */
int mka_kay_rekey(struct mka_kay *k, uint64_t now_ns);

/*
 * Ask the others to stay as they are for `seconds` while we are away (9.18).  They are told at once.
 * Returns 0, -EINVAL (more than MKA_SUSPEND_MAX_S) or -ENOTCONN (no live peers).
 */
int mka_kay_suspend(struct mka_kay *k, unsigned int seconds, uint64_t now_ns);

/* ---- what is remembered over a restart ----------------------------------------------------------- */

/* No key is in it: those are in the SecY. */
#define MKA_SAVED_VERSION 1
struct mka_saved_peer {
	uint64_t sci;
	uint8_t mi[MKA_MI];
	uint32_t mn;
	uint8_t priority, zero[7];
};
struct mka_saved {
	uint32_t version, nb_peers;
	uint8_t ckn[MKA_CKN_MAX];
	uint8_t ckn_len, server_self, zero[6];
	uint8_t mi[MKA_MI];
	uint32_t mn; /* higher than any that was sent */
	uint64_t server_sci;
	struct mka_ki ki;
	uint8_t an, suite, confidentiality, zero2[5];
	struct mka_saved_peer peer[MKA_PEERS_MAX];
};

/* The principal participant, when it has settled on a key; otherwise false, and there is nothing to go on with. */
bool mka_kay_save(const struct mka_kay *k, struct mka_saved *out);

/*
 * Go on where *s ended, on a KaY that has just got its participants and sent nothing.  The caller has seen that the
 * SecY transmits with s->ki under s->an.  Returns 0, -EINVAL or -ENOENT (no such CKN).
 */
int mka_kay_resume(struct mka_kay *k, const struct mka_saved *s, uint64_t now_ns);

/* ---- questions ----------------------------------------------------------------------------------- */

struct mka_kay_info {
	const char *state; /* "change" "secured" "receive" "transmit" "retire" */
	bool up, server_self, suspended;
	uint64_t server_sci; /* 0: none */
	struct mka_ki latest, old;
	uint8_t an, suite, confidentiality;
	unsigned int nb_participants, nb_live, nb_potential;
	uint64_t rx, tx, refused, keys; /* MKPDUs; keys that were made or received */
};
void mka_kay_info(const struct mka_kay *k, struct mka_kay_info *out);

struct mka_peer_info {
	uint64_t sci;
	uint8_t mi[MKA_MI];
	uint32_t mn;
	uint8_t priority;
	bool live, server, receives, transmits; /* with the latest key */
	uint8_t ckn[MKA_CKN_MAX], ckn_len;
	uint64_t expires_in_ns;
};
/* i counts from 0 over all participants' peers; false beyond the last. */
bool mka_peer_info(
    const struct mka_kay *k, unsigned int i, uint64_t now_ns, struct mka_peer_info *out);
