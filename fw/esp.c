#include "fw/esp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fw/dpus.h"

static struct rte_ring *
make_ring(unsigned int element, unsigned int nb, unsigned int flags)
{
	ssize_t bytes = rte_ring_get_memsize_elem(element, nb);
	struct rte_ring *r;

	if (bytes < 0)
		return NULL;
	r = aligned_alloc(PK_CACHE_LINE, RTE_ALIGN_CEIL((size_t)bytes, (size_t)PK_CACHE_LINE));
	if (r != NULL && rte_ring_init(r, "esp", nb, flags) != 0) {
		free(r);
		return NULL;
	}
	return r;
}

int
fw_esp_create(
    struct fw_esp **out, struct esp_sad *sad, unsigned int nb_workers, struct pk_diag *diag)
{
	static const struct rte_mbuf_dynfield field = {
		.name = "picket_esp_tunnel", .size = sizeof(uint32_t), .align = _Alignof(uint32_t)
	};
	static const struct rte_mbuf_dynflag flag = { .name = "picket_esp_came" };
	struct fw_esp *e = calloc(1, sizeof(*e));
	int bit;

	if (e == NULL) {
		esp_sad_destroy(sad);
		return -ENOMEM;
	}
	e->sad = sad;
	e->mesh = calloc(FW_DPUS_MAX, sizeof(e->mesh[0]));
	e->mark_at = rte_mbuf_dynfield_register(&field);
	bit = rte_mbuf_dynflag_register(&flag);
	e->up = make_ring(sizeof(void *), FW_UP_FRAMES, RING_F_SC_DEQ);
	e->asks = make_ring(sizeof(struct fw_ask), FW_ASKS, RING_F_SC_DEQ);
	for (; e->nb_down < nb_workers; e->nb_down++)
		if ((e->down[e->nb_down] = make_ring(
		         sizeof(void *), FW_UP_FRAMES, RING_F_SP_ENQ | RING_F_SC_DEQ)) == NULL)
			break;
	if (e->mark_at < 0 || bit < 0 || e->mesh == NULL || e->up == NULL || e->asks == NULL ||
	    e->nb_down < nb_workers) {
		pk_diag_set(
		    diag, "IPsec: no memory, or no room in packet buffers, for what lcores share");
		fw_esp_destroy(e);
		return -ENOMEM;
	}
	e->mark_flag = UINT64_C(1) << bit;
	*out = e;
	return 0;
}

static void
drain(struct rte_ring *r)
{
	struct rte_mbuf *m;

	while (r != NULL && rte_ring_sc_dequeue(r, (void **)&m) == 0)
		rte_pktmbuf_free(m);
	free(r);
}

void
fw_esp_destroy(struct fw_esp *e)
{
	if (e == NULL)
		return;
	drain(e->up);
	for (unsigned int i = 0; i < e->nb_down; i++)
		drain(e->down[i]);
	free(e->asks);
	free((void *)e->mesh);
	esp_sad_destroy(e->sad);
	free(e);
}

const struct fw_local *
fw_esp_local(
    const struct fw_esp *e, uint16_t wire, uint32_t vrf, uint8_t family, const uint8_t *addr)
{
	for (unsigned int i = 0; i < e->nb_locals; i++) {
		const struct fw_local *l = &e->local[i];

		if (l->wire == wire && l->vrf == vrf && l->addr.family == family &&
		    memcmp(l->addr.bytes, addr, family == 4 ? 4 : 16) == 0)
			return l;
	}
	return NULL;
}
