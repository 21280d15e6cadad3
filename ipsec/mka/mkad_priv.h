#pragma once

#include <event2/event.h>

#include "ipsec/macsec/msg.h"
#include "ipsec/mka/kay.h"
#include "ipsec/mka/keyfile.h"
#include "ipsec/mka/mkad.h"
#include "lib/log.h"

#define MKAD_EVENTS 128 /* remembered for people */

struct mkad_port {
	struct mkad *d;
	uint16_t wire;
	const char *key_file;
	struct mka_cak cak[MKA_PARTICIPANTS_MAX];
	int nb_cak;
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
	bool told_unreachable;
	unsigned int nb_ports;
	struct mkad_port port[MACSEC_PORTS_MAX];
	struct mkad_event event[MKAD_EVENTS];
	uint64_t nb_events;
};

/* mkad.c */
void mkad_wake(struct mkad *d); /* something has happened: see what is due */

/* mkad_state.c: what is remembered over a restart. */
void mkad_state_save(struct mkad_port *p, bool going);
bool mkad_state_load(
    const struct mkad_port *p, struct mka_saved *out); /* of this picketd, and well-formed */
