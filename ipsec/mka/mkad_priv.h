#pragma once

#include <event2/event.h>

#include "ipsec/macsec/msg.h"
#include "ipsec/mka/kay.h"
#include "ipsec/mka/keyfile.h"
#include "ipsec/mka/mkad.h"
#include "lib/grant.h"
#include "lib/log.h"

#define MKAD_EVENTS 128 /* remembered for people */

struct mkad_keys {
	struct mka_cak cak[MKA_PARTICIPANTS_MAX];
	int nb;
};

struct mkad_port {
	struct mkad *d;
	uint16_t wire;
	const char *key_file; /* NULL: none */
	/* From the file and from the policy server, and those in force, which are both. */
	struct mkad_keys file, granted, keys;
	/* While picketd has the port. */
	bool known, asked; /* asked: the first list of associations is still to come */
	struct macsec_msg_port port;
	struct mka_kay *kay; /* NULL: no port, or not decided yet how to begin */
	bool enabled;
	char state[64];
	/* The first list: what of it is to go if we begin afresh. */
	struct macsec_msg_sa sa[MACSEC_ANS * 33];
	unsigned int nb_sa;
	struct mka_saved saved; /* as written last; version 0: nothing */
	struct pk_log_limit refused_limit;
};

struct mkad_event {
	uint64_t wall_ns;
	uint16_t wire;
	uint8_t event;
	char text[160];
};

struct mkad {
	struct event_base *base;
	const struct mkad_conf *conf;
	int fd;
	uint32_t seq;
	uint32_t get_seq;  /* of the GET that waits for its answer; 0: none */
	unsigned int turn; /* whose is next */
	uint64_t epoch;    /* picketd's */
	struct event *readable, *retry, *timer, *second;
	struct pk_grant_source *grants;
	bool granted; /* the agent has said what there is, be it nothing */
	bool told_unreachable;
	unsigned int nb_ports;
	struct mkad_port port[MACSEC_PORTS_MAX];
	struct mkad_event event[MKAD_EVENTS];
	uint64_t nb_events;
};

/* mkad.c */
void mkad_wake(struct mkad *d); /* something has happened: see what is due */

struct mkad_port *mkad_port_of(struct mkad *d, uint16_t wire);
struct mkad_port *mkad_port_add(
    struct mkad *d, uint16_t wire); /* there is none; NULL: no such wire */
/* Its keys have come, or the last has gone: ask picketd what it has, and begin with what there is. */
void mkad_begin_anew(struct mkad_port *p);

/* mkad_keys.c */
/* Have those of the file and those granted in force.  Returns 0, or negative errno with *diag when one could not be. */
int mkad_keys_follow(struct mkad_port *p, struct pk_diag *diag);
void mkad_keys_take(void *arg, const struct pk_grant *g, size_t nb); /* pk_grant_take */

/* mkad_state.c: what is remembered over a restart. */
void mkad_state_save(struct mkad_port *p, bool going);
bool mkad_state_load(
    const struct mkad_port *p, struct mka_saved *out); /* of this picketd, and well-formed */
