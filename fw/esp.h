#pragma once

#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>
#include <rte_ring.h>

#include "fw/path.h"
#include "ipsec/esp/esp.h"

/*
 * What all lcores and the control thread share of IPsec: the SAD, the DPU's own addresses, and rings between them.
 *
 *      lcores --- asks: no SA, unknown SPI ----------------> control thread (fw/sadb_link.c)
 *      lcores --- frames for the DPU itself: ARP, IKE -----> control thread (fw/own.c)
 *      control thread --- frames of the DPU ---------------> the lcore that has the port
 *
 * A ring that is full loses what does not fit, which is counted.
 *
 * A packet that came by ESP says so in its mbuf, from the moment its ICV was right until it leaves or is
 * dropped, on its way through rings between lcores as well: a flag, and beside it the tunnel.  The flag is
 * taken off whatever a port hands over.
 */
#define FW_LOCALS_MAX 16
#define FW_UP_FRAMES  1024
#define FW_ASKS       1024

struct fw_local {
	struct pk_addr addr, gateway; /* gateway.family 0: none */
	uint8_t prefix_len;
	uint8_t mac[6]; /* of the outside port */
	uint16_t wire;
	uint32_t vrf;
	uint16_t mtu;
};

enum fw_ask_kind {
	FW_ASK_ACQUIRE = 1, /* flow: as the packet has it; tunnel: of the trap, or none */
	FW_ASK_BAD_SPI,     /* flow: outer addresses */
};

struct fw_ask {
	uint32_t kind;
	uint32_t tunnel, spi;
	uint16_t wire, zero;
	struct esp_flow flow;
};

struct fw_esp {
	struct esp_sad *sad;
	int mark_at;        /* of the tunnel in an mbuf */
	uint64_t mark_flag; /* of ol_flags */
	unsigned int nb_locals;
	struct fw_local local[FW_LOCALS_MAX];
	/* The tunnel of mesh mode to each DPU, by fw_dpu_number(); ESP_TUNNEL_NONE.  FW_DPUS_MAX of them. */
	_Atomic uint32_t *mesh;
	struct rte_ring *up, *asks;
	struct rte_ring *down[RTE_MAX_LCORE]; /* for worker i */
	unsigned int nb_down;
};

/* `sad` is taken over; nb_workers rings down.  Context: control thread, before lcores run.
 * Returns 0 or negative errno with *diag; the caller owns *out. */
int fw_esp_create(
    struct fw_esp **out, struct esp_sad *sad, unsigned int nb_workers, struct pk_diag *diag);
void fw_esp_destroy(struct fw_esp *e); /* frees the packets in the rings; NULL is allowed */

/* Tunnel that a packet has come by; ESP_TUNNEL_NONE: it came as it is. */
static inline uint32_t
fw_esp_mark(const struct fw_esp *e, const struct rte_mbuf *m)
{
	return (m->ol_flags & e->mark_flag) != 0
	    ? *RTE_MBUF_DYNFIELD(m, e->mark_at, const uint32_t *)
	    : ESP_TUNNEL_NONE;
}

static inline void
fw_esp_set_mark(const struct fw_esp *e, struct rte_mbuf *m, uint32_t tunnel)
{
	m->ol_flags |= e->mark_flag;
	*RTE_MBUF_DYNFIELD(m, e->mark_at, uint32_t *) = tunnel;
}

/* The DPU's own address `addr` on that wire, or NULL.  Context: any. */
const struct fw_local *fw_esp_local(
    const struct fw_esp *e, uint16_t wire, uint32_t vrf, uint8_t family, const uint8_t *addr);
