#pragma once

#include <uthash.h>

#include "ipsec/esp/sad.h"
#include "lib/mesh.h"

/*
 * Inside the SAD.  Selectors and tunnels are linked by pointers that lcores follow: each is written whole before a
 * store with release order shows it, and when it is unlinked it goes to a list of what the next
 * esp_sad_settle() may free.
 */

#define LARVAL_NS        (120 * PK_NS_PER_S)
#define TUNNEL_GEN_SHIFT ESP_INDEX_BITS

/* What only the control thread asks of an SA. */
struct cold {
	struct pk_sadb_id id;
	uint32_t reqid;
	uint8_t direction;
	uint8_t told;  /* bits: soft and hard ends that have been told */
	uint8_t gen;   /* of the SPI, see sa.h */
	uint32_t next; /* in the list of free ones, or of those that wait for esp_sad_settle() */
	uint32_t window;
	uint64_t born_ns, start_seq; /* outbound: no number up to it has been used by us */
	struct pk_sadb_life life;
	uint16_t sport, dport;
	_Atomic uint64_t *words; /* of long replay windows, ours */
	UT_hash_handle by_name;  /* outbound: by id */
};

struct name {
	struct pk_addr dst;
	uint32_t spi;
};

/* One pair of selectors. */
struct selector {
	_Atomic(struct selector *) next; /* out: in its bucket; in: of its tunnel */
	struct pk_sadb_policy p;
	uint32_t tunnel;
	struct selector *all_prev, *all_next; /* of its tunnel, control thread */
	struct selector *retired;
};

struct tunnel {
	_Atomic uint32_t reqid; /* 0: free */
	_Atomic uint32_t out;   /* SA in use */
	_Atomic(struct selector *) first_in;
	_Atomic uint32_t gen; /* part of its number, so that an old number finds nothing */
	/* control thread */
	struct selector *all;
	uint32_t nb_sas, nb_in, nb_selectors;
	uint32_t index, next;
	uint32_t key; /* reqid, for the hash */
	UT_hash_handle by_reqid;
};

/* Pairs of prefix lengths among out selectors. */
struct shape {
	uint8_t family, src, dst;
	uint32_t nb;
};

struct shapes {
	unsigned int nb;
	struct shape shape[ESP_SHAPES_MAX];
	struct shapes *retired;
};

struct esp_sad {
	struct esp_sad_conf conf;
	uint32_t nb; /* capacity and 1 */
	/* Of inbound SPIs of mesh mode, by the last bits of generation, then sender: their SAs. */
	_Atomic uint32_t *mesh;
	struct esp_sa *sa;
	struct cold *cold;
	struct ipsec_keys *keys;
	const uint8_t *key_base;
	struct tunnel *tunnel;
	size_t sa_bytes, cold_bytes, tunnel_bytes;
	uint32_t nb_used;
	uint32_t fresh;                 /* indices from here on have never been used */
	uint32_t free_first, free_last; /* first in, first out: SPIs rest before they come back */
	uint32_t retired;               /* SAs */
	uint32_t nb_tunnels, tunnel_fresh, tunnel_free, tunnel_retired;
	struct cold *by_name;
	struct tunnel *by_reqid;
	/* out selectors */
	_Atomic(struct selector *) *bucket;
	uint32_t bucket_mask;
	_Atomic(struct shapes *) shapes;
	struct selector *retired_selectors;
	struct shapes *retired_shapes;
};

/* ---- spd.c ---- */

int esp_spd_init(struct esp_sad *sad);
void esp_spd_fini(struct esp_sad *sad);
void esp_spd_flush(struct esp_sad *sad);
void esp_spd_settle(struct esp_sad *sad);

/* The tunnel of `reqid`, made if it is not there; NULL: no room.  It goes when it has neither SAs nor selectors:
 * whoever has taken one of these away says so. */
struct tunnel *esp_tunnel_get(struct esp_sad *sad, uint32_t reqid);
struct tunnel *esp_tunnel_find(struct esp_sad *sad, uint32_t reqid);
void esp_tunnel_put(struct esp_sad *sad, struct tunnel *t);

static inline uint32_t
esp_tunnel_number(const struct tunnel *t)
{
	return atomic_load_explicit(&t->gen, memory_order_relaxed) << TUNNEL_GEN_SHIFT | t->index;
}

/* ---- mesh.c ---- */

/* Where an SPI of mesh mode has its SA.  Neighbouring generations do not share. */
#define MESH_SLOTS (4 * (size_t)PK_MESH_NUMBERS)

static inline _Atomic uint32_t *
esp_mesh_slot(const struct esp_sad *sad, uint32_t spi)
{
	return &sad->mesh[((spi >> 20) & 3) * (size_t)PK_MESH_NUMBERS + pk_mesh_number(spi)];
}

/* ---- sad.c ---- */

/* Outbound SA by name, SA of either direction by name; ESP_SA_NONE: there is none. */
uint32_t esp_sad_find_out(const struct esp_sad *sad, const struct pk_addr *dst, uint32_t spi);
uint32_t esp_sad_find(const struct esp_sad *sad, const struct pk_sadb_id *id);
int esp_sad_no_such(const struct pk_sadb_id *id, struct pk_diag *diag); /* -ENOENT */

/* Take an SA out of sight.  It is free when all lcores have let go. */
void esp_sad_retire(struct esp_sad *sad, uint32_t i);
