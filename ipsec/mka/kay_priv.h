#pragma once

#include "ipsec/mka/kay.h"

/* What the files of the KaY share: kay.c (participants, peers, frames), kay_key.c (keys) and kay_save.c. */

#define SENT_RING 32 /* message numbers whose age is known */

struct peer {
	uint64_t sci;
	struct mka_peer_id id; /* mn: highest that came */
	uint8_t priority, capability;
	bool desired, live;
	bool
	    resumed; /* from before a restart, and not heard since: its number here is an old one */
	bool suspending;   /* it has asked for suspension, or as server told of one */
	uint64_t until_ns; /* then it is gone */
	/* What it said last of its keys. */
	struct mka_use latest, old;
	bool delay_protect;
	/* Bounded delay: what the SecY has been told last. */
	struct mka_ki floor_ki;
	uint64_t floor;
};

struct participant {
	struct mka_kay *kay;
	uint8_t cak_len, ckn_len;
	uint8_t ckn[MKA_CKN_MAX];
	uint8_t cak[MKA_KEY_MAX], ick[MKA_KEY_MAX], kek[MKA_KEY_MAX];
	struct mka_peer_id self;
	uint32_t kn; /* of the last SAK we made under this MI */
	unsigned int nb_peers;
	struct peer peer[MKA_PEERS_MAX];
	struct {
		uint64_t at_ns;
		uint32_t mn;
	} sent[SENT_RING];
	unsigned int nb_sent;
	uint64_t hello_ns;   /* when the next one is due */
	uint64_t last_ns;    /* when the last one went */
	uint64_t not_before; /* answers wait until then */
	bool news;           /* there is something to say before the next hello is due */
};

/* Figure 12-2, for what MKA decides.  CHANGE is 0: nothing passes. */
enum cp_state {
	CP_CHANGE = 0, /* no live peer, no key */
	CP_SECURED,    /* live peers, no key */
	CP_RECEIVE,    /* the latest key is received with; waiting for others before we transmit */
	CP_TRANSMIT,   /* transmitting with the latest; the old one is received with for a while */
	CP_RETIRE,     /* one key, which is called old from now on */
	CP_STATE_COUNT,
};

enum cp_event {
	CP_ALONE = 0, /* the last live peer has gone */
	CP_PEERS,     /* there are live peers */
	CP_NEW_KEY,   /* a SAK has been made or received */
	CP_ALL_READY, /* server: all others receive; member: the server transmits; or the wait is over */
	CP_RETIRE_OLD, /* the time of the old key is over */
	CP_EVENT_COUNT,
};

struct key {
	struct mka_ki ki; /* kn 0: none */
	uint8_t an, suite, confidentiality;
	bool rx, tx;
	bool ours; /* we made it, and have it to distribute */
	uint8_t sak[MKA_KEY_MAX];
	uint64_t tx_pn;   /* next number to transmit with, as far as known */
	uint64_t told_pn; /* what the others are told: where it stood at the last hello */
	/* Who it was made for, by falling SCI: 802.1X-2020, 9.10.1 numbers their SSCIs from 1. */
	unsigned int nb_sci;
	uint64_t sci[MKA_PEERS_MAX + 1];
	/* From whom we receive with it: where there are SAs. */
	unsigned int nb_from;
	uint64_t from[MKA_PEERS_MAX];
};

struct mka_kay {
	struct mka_kay_conf conf;
	const struct mka_kay_ops *ops;
	void *arg;
	unsigned int nb;
	struct participant *participant[MKA_PARTICIPANTS_MAX];
	struct participant *principal; /* the one whose SAKs count; NULL: none has live peers */
	uint64_t server_sci;           /* key server elected among the principal's; 0: none */
	enum cp_state state;
	uint64_t state_ns; /* since when */
	struct key latest, old;
	uint8_t next_an;
	bool fresh_wanted;     /* server: something has changed since the last SAK */
	uint64_t made_ns;      /* when the last SAK was made or came */
	uint64_t suspended_ns; /* until then peers may be silent */
	uint8_t suspend_s;     /* what we ask for, or, as server, have granted */
	uint64_t suspend_until_ns;
	bool enabled;
	uint64_t rx, tx, refused, keys;
};

/* ---- kay.c ---- */
void kay_event(struct mka_kay *k, enum mka_event event, const char *fmt, ...) PK_PRINTF(3, 4);
bool kay_is_server(const struct mka_kay *k);
struct peer *kay_server(struct mka_kay *k); /* NULL: we are, or there is none */
unsigned int kay_nb_live(const struct participant *p);

/* ---- kay_key.c ---- */
void kay_step(struct mka_kay *k, enum cp_event event, uint64_t now_ns);
void kay_elect(struct mka_kay *k, uint64_t now_ns); /* after any change of live peers */
void kay_peer_gone(
    struct mka_kay *k, struct participant *p, const struct peer *peer, uint64_t now_ns);
void kay_peer_live(struct mka_kay *k, struct participant *p, const struct peer *peer, bool replaced,
    uint64_t now_ns);
void kay_take_sak(struct mka_kay *k, struct participant *p, struct peer *from,
    const struct mkpdu *m, uint64_t now_ns);
void kay_keys_tick(struct mka_kay *k, uint64_t now_ns);
uint64_t kay_keys_due(const struct mka_kay *k, uint64_t now_ns);
/* Fill in how we use keys, and the SAK while it is to be distributed; `wrapped` is room for it. */
void kay_say_keys(
    struct mka_kay *k, struct participant *p, struct mkpdu *m, uint8_t wrapped[MKA_KEY_MAX + 8]);
const char *kay_state_name(enum cp_state s);
