#pragma once

#include "ipsec/esp/sa.h"

/*
 * The SAD and what is around it: all SAs, their keys, and tunnels with their selectors (lib/sadb.h says what a tunnel
 * is).  The control thread adds and removes, lcores read, nobody waits for the other: what is removed is unlinked at
 * once, and given back by esp_sad_settle(), which waits until all lcores have let go of it.
 *
 * Selectors are found by the pairs of prefix lengths that there are: for each pair the two addresses, cut to these
 * lengths, are looked up in one hash table.  That is asked once for a session, not for a packet.
 *
 * Context: control thread, where nothing else is said.
 */
struct esp_sad;

#define ESP_SHAPES_MAX 64 /* different pairs of prefix lengths among all selectors */

struct esp_sad_conf {
	uint32_t nb_sas; /* capacity, both directions, below 2^20; as many tunnels */
	void (*wait)(
	    void *arg); /* returns when each lcore has been quiescent; NULL: there are none */
	void *arg;
};

int esp_sad_create(struct esp_sad **out, const struct esp_sad_conf *conf, struct pk_diag *diag);
void esp_sad_destroy(struct esp_sad *sad);

/*
 * The requests of lib/sadb.h, checked already by pk_sadb_check().  Each returns 0 or a negative errno with *diag:
 * -EEXIST, -ENOENT, -ENOSPC (no room), -ENOTSUP (algorithm), -EINVAL.
 */
int esp_sad_get_spi(struct esp_sad *sad, const struct pk_sadb_get_spi *m, uint64_t now_ns,
    uint32_t *spi, struct pk_diag *diag);
int esp_sad_add(
    struct esp_sad *sad, const struct pk_sadb_add_sa *m, uint64_t now_ns, struct pk_diag *diag);
int esp_sad_update(struct esp_sad *sad, const struct pk_sadb_update_sa *m, struct pk_diag *diag);
int esp_sad_delete(struct esp_sad *sad, const struct pk_sadb_id *id, struct pk_diag *diag);
int esp_sad_query(struct esp_sad *sad, const struct pk_sadb_id *id, uint64_t now_ns,
    struct pk_sadb_answer *out, struct pk_diag *diag);
int esp_sad_add_policy(struct esp_sad *sad, const struct pk_sadb_policy *m, struct pk_diag *diag);
int esp_sad_delete_policy(
    struct esp_sad *sad, const struct pk_sadb_policy *m, struct pk_diag *diag);
void esp_sad_flush(struct esp_sad *sad, uint32_t what);

/* Wait until no lcore can be using what has been removed, and give it back. */
void esp_sad_settle(struct esp_sad *sad);

/* What happened by itself; NULL: nobody wants to know. */
struct esp_sad_events {
	void (*expired)(void *arg, const struct pk_sadb_expire *e);
	void (*moved)(void *arg, const struct pk_sadb_mapping *m);
	void *arg;
};

/*
 * Look after lifetimes of all SAs, those that were moved by NAT, and SPIs that nobody came back for: each soft and hard
 * end is told once.  Call it some times a second.
 */
void esp_sad_tick(struct esp_sad *sad, uint64_t now_ns, const struct esp_sad_events *events);

/*
 * The link addresses of outer packets of an outbound SA, destination, then source; NULL: the frame keeps its own.  Packets
 * go on meanwhile: each has the one or the other destination.
 */
void esp_sad_set_mac(struct esp_sad *sad, uint32_t sa, const uint8_t mac[12]);

/* For people, and for who resolves addresses. */
struct esp_sa_info {
	struct pk_sadb_id id;
	uint32_t index, reqid, state; /* enum esp_state */
	uint32_t wire, vrf;
	uint8_t direction, mode;  /* enum pk_sadb_direction, pk_sadb_mode */
	uint8_t alg;              /* enum ipsec_alg */
	bool esn, encap, current; /* current: outbound, and its tunnel uses it */
	uint16_t sport, dport;
	uint32_t replay_window, mtu;
	uint64_t packets, bytes, refused, seq;
	uint64_t idle_ns; /* UINT64_MAX: never used */
	uint64_t age_ns;
	struct pk_sadb_life life;
};

/* The next one at or behind *cursor that is not free, or -ENOENT; *cursor is 0 at first. */
int esp_sad_next(
    const struct esp_sad *sad, uint32_t *cursor, uint64_t now_ns, struct esp_sa_info *out);
uint32_t esp_sad_count(const struct esp_sad *sad); /* not free */
uint32_t esp_sad_capacity(const struct esp_sad *sad);
size_t esp_sad_bytes(const struct esp_sad *sad); /* memory of SAs and keys */

struct esp_tunnel_info {
	uint32_t tunnel, reqid;
	uint32_t nb_in; /* inbound SAs */
	uint32_t out;   /* index of the outbound SA in use; ESP_SA_NONE: a trap */
	uint32_t nb_selectors;
	struct pk_sadb_policy first; /* of its out selectors; reqid 0: it has none */
};
int esp_sad_next_tunnel(const struct esp_sad *sad, uint32_t *cursor, struct esp_tunnel_info *out);

/* ---- what lcores ask.  Context: lcore. -------------------------------------------------------- */

/* The SA of an SPI as it stands in a packet, alive or not; NULL: there is none. */
struct esp_sa *esp_sad_by_spi(const struct esp_sad *sad, uint32_t spi_be);
struct esp_sa *esp_sad_at(const struct esp_sad *sad, uint32_t index);
uint32_t esp_sad_index(const struct esp_sad *sad, const struct esp_sa *sa);
const void *esp_sad_key(const struct esp_sad *sad, const struct esp_sa *sa);

/* A router said that packets of an outbound SA may have at most `mtu` bytes: learnt if it is less than is known. */
void esp_sa_learn_mtu(struct esp_sa *sa, uint16_t mtu);

/* A flow, as its packets have it. */
struct esp_flow {
	struct pk_addr src, dst;
	uint32_t vrf;
	uint16_t sport, dport; /* 0 for protocols without */
	uint8_t proto;
};

/* Tunnels have numbers that are not used again soon, so one may be kept: 0 is none. */
#define ESP_TUNNEL_NONE 0

/*
 * The tunnel by which a flow that leaves has to go: of those whose out selectors match, the one of the smallest
 * priority; ESP_TUNNEL_NONE: there is none.
 */
uint32_t esp_sad_tunnel_out(const struct esp_sad *sad, const struct esp_flow *flow);

/* Whether a flow may have come in by `tunnel`: by its in selectors (RFC 4301, section 5.2, step 4). */
bool esp_sad_tunnel_in(const struct esp_sad *sad, uint32_t tunnel, const struct esp_flow *flow);

/* The outbound SA in use by a tunnel; NULL: it has none, or there is no such tunnel any more. */
struct esp_sa *esp_sad_tunnel_sa(const struct esp_sad *sad, uint32_t tunnel);
uint32_t esp_sad_tunnel_reqid(const struct esp_sad *sad, uint32_t tunnel); /* 0: it has gone */
