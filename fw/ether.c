#include "fw/ether.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int
fw_ethers_init(struct fw_ethers *t, struct fw_ether *memory)
{
	memset(t, 0, sizeof(*t));
	t->borrowed = memory != NULL;
	t->ether = memory != NULL ? memory : calloc(FW_ETHERS_MAX + 1, sizeof(t->ether[0]));
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
	if (!t->borrowed)
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

	if (pk->l3 > sizeof(key.bytes))
		return 0;
	memcpy(key.bytes, pk->data, pk->l3);
	if (pk->m != NULL && (pk->m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0) {
		key.stripped = 1;
		key.tci = pk->m->vlan_tci;
	}
	return fw_ethers_get_same(t, &key);
}

uint16_t
fw_ethers_get_same(struct fw_ethers *t, const struct fw_ether *e)
{
	uint16_t *head = chain_of(t, e), i;

	for (i = *head; i != 0 && !same(&t->ether[i], e); i = t->ether[i].next)
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
		t->ether[i] = *e;
		t->ether[i].refs = 0;
		t->ether[i].next = *head;
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

void
fw_ethers_restore_begin(struct fw_ethers *t)
{
	for (unsigned int i = 0; i <= FW_ETHERS_MAX; i++)
		t->ether[i].refs = 0;
}

bool
fw_ethers_restore(struct fw_ethers *t, uint16_t i)
{
	unsigned int len;

	if (i == 0 || i > FW_ETHERS_MAX)
		return false;
	len = t->ether[i].len;
	if ((len != 14 && len != 18 && len != 22) || t->ether[i].stripped > 1)
		return false;
	t->ether[i].refs++;
	return true;
}

void
fw_ethers_restore_end(struct fw_ethers *t)
{
	t->free = t->last = 0;
	t->fresh = FW_ETHERS_MAX + 1;
	memset(t->head, 0, FW_ETHERS_MAX * sizeof(t->head[0]));
	for (uint16_t i = FW_ETHERS_MAX; i > 0; i--) {
		struct fw_ether *e = &t->ether[i];
		uint16_t *list = &t->free;

		if (e->refs != 0)
			list = chain_of(t, e);
		else
			memset(e, 0, sizeof(*e));
		e->next = *list;
		*list = i;
	}
}
