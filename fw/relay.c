#include "fw/relay.h"

#include <errno.h>
#include <stdlib.h>

#include <rte_mbuf.h>
#include <rte_ring.h>

struct fw_relay {
	uint16_t nb;
	struct rte_ring *ring[]; /* [(kind * nb + from) * nb + to] */
};

static inline struct rte_ring *
ring_of(const struct fw_relay *r, enum fw_relay_kind kind, unsigned int from, unsigned int to)
{
	return r->ring[((unsigned int)kind * r->nb + from) * r->nb + to];
}

int
fw_relay_create(struct fw_relay **out, uint16_t nb_lcores)
{
	size_t nb = (size_t)FW_RELAY_KINDS * nb_lcores * nb_lcores;
	ssize_t bytes = rte_ring_get_memsize(FW_RELAY_ENTRIES);
	struct fw_relay *r = calloc(1, sizeof(*r) + nb * sizeof(r->ring[0]));

	if (r == NULL || bytes < 0) {
		free(r);
		return -ENOMEM;
	}
	r->nb = nb_lcores;
	for (size_t i = 0; i < nb; i++) {
		if (i / nb_lcores % nb_lcores == i % nb_lcores)
			continue; /* to oneself */
		r->ring[i] = aligned_alloc(
		    PK_CACHE_LINE, RTE_ALIGN_CEIL((size_t)bytes, (size_t)PK_CACHE_LINE));
		if (r->ring[i] == NULL ||
		    rte_ring_init(r->ring[i], "relay", FW_RELAY_ENTRIES,
		        RING_F_SP_ENQ | RING_F_SC_DEQ) != 0) {
			fw_relay_destroy(r);
			return -ENOMEM;
		}
	}
	*out = r;
	return 0;
}

void
fw_relay_destroy(struct fw_relay *r)
{
	struct rte_mbuf *m;

	if (r == NULL)
		return;
	for (size_t i = 0; i < (size_t)FW_RELAY_KINDS * r->nb * r->nb; i++) {
		while (r->ring[i] != NULL && rte_ring_sc_dequeue(r->ring[i], (void **)&m) == 0)
			rte_pktmbuf_free(m);
		free(r->ring[i]);
	}
	free(r);
}

unsigned int
fw_relay_put(struct fw_relay *r, enum fw_relay_kind kind, uint16_t from, uint16_t to, uint16_t mark,
    struct rte_mbuf **pkts, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		pkts[i]->port = mark;
	return rte_ring_sp_enqueue_burst(ring_of(r, kind, from, to), (void **)pkts, n, NULL);
}

unsigned int
fw_relay_take(struct fw_relay *r, enum fw_relay_kind kind, uint16_t from, uint16_t to,
    struct rte_mbuf **pkts, unsigned int n)
{
	return rte_ring_sc_dequeue_burst(ring_of(r, kind, from, to), (void **)pkts, n, NULL);
}

unsigned int
fw_relay_group(struct rte_mbuf **pkts, unsigned int n)
{
	struct rte_mbuf *rest[FW_BURST];
	unsigned int nb = 0, nb_rest = 0;
	uint16_t mark = pkts[0]->port;

	PK_ASSERT(n <= FW_BURST);
	for (unsigned int i = 0; i < n; i++) {
		if (pkts[i]->port == mark)
			pkts[nb++] = pkts[i];
		else
			rest[nb_rest++] = pkts[i];
	}
	memcpy(pkts + nb, rest, nb_rest * sizeof(rest[0]));
	return nb;
}

/* What is another's. */
static __rte_noinline unsigned int
hand_over(struct fw_relay *r, struct fw_path *p, uint16_t me, uint16_t wire, enum fw_side from,
    struct rte_mbuf **pkts, unsigned int n, uint16_t to[FW_BURST], uint64_t now_ns,
    uint64_t *handed)
{
	unsigned int kept = 0, left = n;

	/* As many rounds as there are lcores among them: two, as a rule. */
	while (left > 0) {
		struct rte_mbuf *out[FW_BURST];
		unsigned int nb = 0, rest = 0, done;
		uint16_t o = to[kept];

		for (unsigned int i = kept; i < kept + left; i++) {
			if (to[i] == o) {
				out[nb++] = pkts[i];
			} else {
				pkts[kept + rest] = pkts[i];
				to[kept + rest] = to[i];
				rest++;
			}
		}
		left = rest;
		if (o == me) {
			/* To the front of those that are still to be looked at. */
			memmove(pkts + kept + nb, pkts + kept, left * sizeof(pkts[0]));
			memmove(to + kept + nb, to + kept, left * sizeof(to[0]));
			memcpy(pkts + kept, out, nb * sizeof(out[0]));
			kept += nb;
			continue;
		}
		done = fw_relay_put(r, FW_RELAY_JUDGE, me, o, fw_relay_mark(wire, from), out, nb);
		*handed += done;
		if (unlikely(done < nb))
			fw_path_refuse(
			    p, wire, from, out + done, nb - done, FW_DROP_LCORE_FULL, now_ns);
	}
	return kept;
}

unsigned int
fw_relay_sort(struct fw_relay *r, struct fw_steering *g, struct fw_path *p, uint16_t me,
    uint16_t wire, enum fw_side from, struct rte_mbuf **pkts, unsigned int n, uint64_t now_ns,
    uint64_t *handed)
{
	uint16_t to[FW_BURST];

	*handed = 0;
	if (!fw_steering_sort(g, wire, from, pkts, n, now_ns, to))
		return n;
	return hand_over(r, p, me, wire, from, pkts, n, to, now_ns, handed);
}
