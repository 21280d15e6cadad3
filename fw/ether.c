#include "fw/ether.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int
fw_ethers_init(struct fw_ethers *t)
{
	memset(t, 0, sizeof(*t));
	t->ether = calloc(FW_ETHERS_MAX + 1, sizeof(t->ether[0]));
	t->head = calloc(FW_ETHERS_MAX, sizeof(t->head[0]));
	if (t->ether == NULL || t->head == NULL) {
		fw_ethers_fini(t);
		return -ENOMEM;
	}
	t->fresh = 1;
	return 0;
}

void
fw_ethers_fini(struct fw_ethers *t)
{
	free(t->ether);
	free(t->head);
	memset(t, 0, sizeof(*t));
}

/* Who aims at one chain makes the making of sessions from that workload a little slower, 4,096 steps at
 * worst; so this need not be keyed. */
static uint16_t *
chain_of(const struct fw_ethers *t, const struct fw_ether *e)
{
	uint64_t h = 0;

	for (unsigned int i = 0; i < 16; i += 8) {
		uint64_t q;

		memcpy(&q, e->bytes + i, sizeof(q));
		h = (h ^ q) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 29;
	}
	return &t->head[h % FW_ETHERS_MAX];
}

static bool
same(const struct fw_ether *a, const struct fw_ether *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0 && a->len == b->len &&
	    a->stripped == b->stripped && a->tci == b->tci;
}

uint16_t
fw_ethers_get_other(struct fw_ethers *t, const struct fw_pkt *pk)
{
	struct fw_ether key = { .len = (uint8_t)pk->l3 };
	uint16_t *head, i;

	if (pk->l3 > sizeof(key.bytes))
		return 0;
	memcpy(key.bytes, pk->data, pk->l3);
	if (pk->m != NULL && (pk->m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0) {
		key.stripped = 1;
		key.tci = pk->m->vlan_tci;
	}
	head = chain_of(t, &key);
	for (i = *head; i != 0 && !same(&t->ether[i], &key); i = t->ether[i].next)
		;
	if (i == 0) {
		if (t->free != 0) {
			i = t->free;
			t->free = t->ether[i].next;
		} else if (t->fresh <= FW_ETHERS_MAX) {
			i = t->fresh++;
		} else {
			return 0;
		}
		key.next = *head;
		t->ether[i] = key;
		*head = i;
	}
	t->ether[i].refs++;
	t->last = i;
	return i;
}

void
fw_ethers_end(struct fw_ethers *t, uint16_t i)
{
	struct fw_ether *e = &t->ether[i];
	uint16_t *link;

	for (link = chain_of(t, e); *link != i; link = &t->ether[*link].next)
		;
	*link = e->next;
	e->next = t->free;
	t->free = i;
}
