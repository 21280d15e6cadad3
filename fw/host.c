#include "fw/host.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int
fw_hosts_init(struct fw_hosts *t, uint32_t capacity, const uint64_t seed[2])
{
	uint32_t chains = 16;

	memset(t, 0, sizeof(*t));
	while (chains < capacity)
		chains *= 2;
	t->host = calloc((size_t)capacity + 1, sizeof(t->host[0]));
	t->head = calloc(chains, sizeof(t->head[0]));
	if (t->host == NULL || t->head == NULL) {
		fw_hosts_fini(t);
		return -ENOMEM;
	}
	t->capacity = capacity;
	t->mask = chains - 1;
	t->fresh = 1;
	t->key[0] = seed[0] ^ UINT64_C(0x9e3779b97f4a7c15);
	t->key[1] = seed[1] | 1;
	return 0;
}

void
fw_hosts_fini(struct fw_hosts *t)
{
	free(t->host);
	free(t->head);
	memset(t, 0, sizeof(*t));
}

static uint32_t *
chain_of(const struct fw_hosts *t, uint16_t wire, uint32_t vrf, const uint8_t *addr)
{
	uint64_t q[2], h;

	memcpy(q, addr, sizeof(q));
	h = fw_hash_mix(q[0] ^ t->key[0], q[1] ^ t->key[1]);
	h = fw_hash_mix(h ^ ((uint64_t)wire << 32 | vrf), t->key[1]);
	return &t->head[h & t->mask];
}

static struct fw_host *
find(const struct fw_hosts *t, uint32_t i, uint16_t wire, uint32_t vrf, const struct pk_addr *a)
{
	for (; i != 0; i = t->host[i].next) {
		struct fw_host *h = &t->host[i];

		if (h->wire == wire && h->vrf == vrf && h->family == a->family &&
		    memcmp(h->addr, a->bytes, sizeof(h->addr)) == 0)
			return h;
	}
	return NULL;
}

struct fw_host *
fw_hosts_find(const struct fw_hosts *t, uint16_t wire, uint32_t vrf, const struct pk_addr *a)
{
	return find(t, *chain_of(t, wire, vrf, a->bytes), wire, vrf, a);
}

struct fw_host *
fw_hosts_get(struct fw_hosts *t, uint16_t wire, uint32_t vrf, const struct pk_addr *a)
{
	uint32_t *head = chain_of(t, wire, vrf, a->bytes), i = t->free;
	struct fw_host *h = find(t, *head, wire, vrf, a);

	if (h != NULL)
		return h;
	if (i != 0)
		t->free = t->host[i].next;
	else if (t->fresh <= t->capacity)
		i = t->fresh++;
	else
		return NULL;
	h = &t->host[i];
	memset(h, 0, sizeof(*h));
	memcpy(h->addr, a->bytes, sizeof(h->addr));
	h->vrf = vrf;
	h->wire = wire;
	h->family = a->family;
	h->next = *head;
	*head = i;
	t->nb++;
	return h;
}

void
fw_hosts_take(struct fw_hosts *t, struct fw_host *h, enum fw_held what, uint32_t n)
{
	uint32_t i = (uint32_t)(h - t->host), *link;

	PK_ASSERT(h->held[what] >= n);
	if (n == 0)
		return;
	h->held[what] -= n;
	for (unsigned int k = 0; k < FW_HELD_COUNT; k++)
		if (h->held[k] != 0)
			return;
	link = chain_of(t, h->wire, h->vrf, h->addr);
	while (*link != i)
		link = &t->host[*link].next;
	*link = h->next;
	h->next = t->free;
	t->free = i;
	t->nb--;
}
