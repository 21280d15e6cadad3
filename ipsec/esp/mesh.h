#pragma once

#include "ipsec/esp/sad.h"
#include "lib/mesh.h"

/*
 * SAs of mesh mode (lib/mesh.h), in the same SAD: with one DPU there is one tunnel, whose SAs are of AES-256-GCM, tunnel
 * mode, with ESN.  Selectors they have none: which flows go to which DPU, and may come from it, the inventory says.
 *
 * Context: control thread, where nothing else is said.
 */
#define ESP_MESH_WINDOW 1024

/* The way to another DPU. */
struct esp_mesh_peer {
	uint32_t number; /* of it */
	struct pk_addr us, addr;
	uint16_t wire;
	uint32_t vrf;
};

/*
 * Receive by spi[0 .. n - 1], any n, of one peer or several: peer[i] is of spi[i].  Keys are derived by `kdf`.
 * index[i] is the SA, ESP_SA_NONE where it could not be added.  Returns 0 or the first error with *diag.
 */
int esp_mesh_receive(struct esp_sad *sad, struct pk_mesh_kdf *kdf,
    const struct esp_mesh_peer *const *peer, const uint32_t *spi, uint32_t *index, unsigned int n,
    uint64_t now_ns, struct pk_diag *diag);

/*
 * Make an SA to send by; it is used from esp_mesh_switch() on, which lcores see with their next burst: let them be
 * quiescent before the one before goes.
 */
int esp_mesh_send(struct esp_sad *sad, const struct esp_mesh_peer *peer, uint32_t spi,
    const uint8_t key[PK_MESH_SA_KEY], uint64_t now_ns, uint32_t *index, struct pk_diag *diag);
void esp_mesh_switch(struct esp_sad *sad, uint32_t number, uint32_t index);

/* Take an SA out of sight at once: what comes by its SPI is unknown.  esp_sad_settle() gives it back. */
void esp_mesh_end(struct esp_sad *sad, uint32_t index);

/* The tunnel of a peer; ESP_TUNNEL_NONE: it has no SA. */
uint32_t esp_mesh_tunnel(struct esp_sad *sad, uint32_t number);
