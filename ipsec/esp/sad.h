#pragma once

#include "ipsec/esp/sa.h"

/*
 * The SAD and what is around it: all SAs, their keys, and tunnels (lib/sadb.h says what a tunnel is).
 *
 * The control thread adds and removes; lcores read.  Whatever an lcore might still be looking at is given back only
 * after the function that was given at creation has waited for all of them.
 * Context: control thread, where nothing else is said.
 */
struct esp_sad;

struct esp_sad_conf {
	uint32_t nb_sas;     /* capacity, both directions, below 2^20 */
	uint32_t nb_tunnels; /* capacity */
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

/*
 * Look after lifetimes of all SAs at now_ns, and of SPIs that nobody came back for; `expired` is told of each soft and
 * hard end once.  Call it some times a second.
 */
void esp_sad_tick(struct esp_sad *sad, uint64_t now_ns,
    void (*expired)(void *arg, const struct pk_sadb_expire *e), void *arg);

/* The link addresses of outer packets of `sa` (destination, then source); NULL: the frame keeps its own. */
void esp_sad_set_mac(struct esp_sad *sad, uint32_t sa, const uint8_t mac[12]);

/* A router said that packets of an outbound SA may have at most `mtu` bytes: learnt if it is less than what is known. */
void esp_sad_learn_mtu(struct esp_sad *sad, uint32_t sa, uint16_t mtu);

/* ---- what lcores ask.  Context: lcore. -------------------------------------------------------- */

/* SA of an SPI of ours, as it stands in the packet, with its state still to be asked; NULL: cannot be one. */
struct esp_sa *esp_sad_by_spi(struct esp_sad *sad, uint32_t spi_be);
struct esp_sa *esp_sad_at(struct esp_sad *sad, uint32_t index);
uint32_t esp_sad_index(const struct esp_sad *sad, const struct esp_sa *sa);
const void *esp_sad_key(const struct esp_sad *sad, const struct esp_sa *sa);

/* A flow, as its packets have it. */
struct esp_flow {
	struct pk_addr src, dst;
	uint32_t vrf;
	uint16_t sport, dport; /* 0 for protocols without */
	uint8_t proto;
};

#define ESP_TUNNEL_NONE 0

/*
 * The tunnel by which a flow that leaves has to go: of those whose out selectors match the one of the smallest
 * priority; ESP_TUNNEL_NONE: there is none.
 */
uint32_t esp_sad_tunnel_out(const struct esp_sad *sad, const struct esp_flow *flow);

/* Whether a flow may have come in by `tunnel`, by its in selectors (RFC 4301, section 5.2, step 4). */
bool esp_sad_tunnel_in(const struct esp_sad *sad, uint32_t tunnel, const struct esp_flow *flow);

/* The outbound SA in use by a tunnel, ESP_SA_NONE: it has none. */
uint32_t esp_sad_tunnel_sa(const struct esp_sad *sad, uint32_t tunnel);

/* Its reqid; 0: there is no such tunnel any more.  Numbers of tunnels are used anew when they have gone, so `version` of
 * a tunnel tells whether it is still that one. */
uint32_t esp_sad_tunnel_reqid(const struct esp_sad *sad, uint32_t tunnel);
