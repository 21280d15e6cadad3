#include "fw/frag.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int
fw_frags_init(struct fw_frags *t, uint32_t capacity, uint64_t timeout_ns, const uint64_t seed[2],
    struct fw_hosts *hosts)
{
	uint32_t chains = 16;

	memset(t, 0, sizeof(*t));
	while (chains < capacity)
		chains *= 2;
	t->frag = calloc((size_t)capacity + 1, sizeof(t->frag[0]));
	t->head = calloc(chains, sizeof(t->head[0]));
	if (t->frag == NULL || t->head == NULL) {
		fw_frags_fini(t);
		return -ENOMEM;
	}
	t->capacity = capacity;
	t->mask = chains - 1;
	t->fresh = 1;
	t->timeout_ns = timeout_ns;
	t->key[0] = seed[0] ^ UINT64_C(0xc2b2ae3d27d4eb4f);
	t->key[1] = seed[1] | 1;
	t->hosts = hosts;
	return 0;
}

void
fw_frags_fini(struct fw_frags *t)
{
	free(t->frag);
	free(t->head);
	memset(t, 0, sizeof(*t));
}

/* Write the key of `pk` into *f, all else zero. */
static void
key_of(struct fw_frag *f, const struct fw_pkt *pk, unsigned int from)
{
	memset(f, 0, sizeof(*f));
	if (pk->key.family == 4) {
		struct pk_addr a[2];

		/* Of the packet itself: an ICMP error's key is another's. */
		fw_pkt_addrs(pk, &a[0], &a[1]);
		memcpy(f->addr[0], a[0].bytes, 4);
		memcpy(f->addr[1], a[1].bytes, 4);
		f->proto = pk->l4_proto;
	} else {
		memcpy(f->addr[0], pk->data + pk->l3 + 8, 16);
		memcpy(f->addr[1], pk->data + pk->l3 + 24, 16);
		f->proto = 0;
	}
	f->id = pk->frag_id;
	f->vrf = pk->key.vrf;
	f->wire = pk->key.wire;
	f->family = pk->key.family;
	f->from = (uint8_t)from;
}

static uint32_t *
chain_of(const struct fw_frags *t, const struct fw_frag *f)
{
	uint64_t q[4], h;

	memcpy(q, f->addr, sizeof(q));
	h = fw_hash_mix(q[0] ^ t->key[0], q[1] ^ t->key[1]);
	h = fw_hash_mix(q[2] ^ t->key[1] ^ h, q[3] ^ t->key[0] ^ (h << 32 | h >> 32));
	h = fw_hash_mix(h ^ ((uint64_t)f->id << 32 | f->vrf),
	    t->key[1] ^ ((uint64_t)f->wire << 16 | (uint64_t)f->proto << 8 | f->from));
	return &t->head[h & t->mask];
}

struct fw_frag *
fw_frags_find(const struct fw_frags *t, const struct fw_pkt *pk, unsigned int from, uint64_t now_ns)
{
	struct fw_frag key;

	key_of(&key, pk, from);
	for (uint32_t i = *chain_of(t, &key); i != 0; i = t->frag[i].chain) {
		struct fw_frag *f = &t->frag[i];

		if (f->id == key.id && f->vrf == key.vrf && f->wire == key.wire &&
		    f->proto == key.proto && f->family == key.family && f->from == key.from &&
		    f->until_ns > now_ns && memcmp(f->addr, key.addr, sizeof(f->addr)) == 0)
			return f;
	}
	return NULL;
}

/* The inside address is the source of what comes from inside, and the destination of all else. */
static struct pk_addr
inside_of(const struct fw_frag *f)
{
	struct pk_addr a = { .family = f->family };

	memcpy(a.bytes, f->addr[f->from == FW_INSIDE ? 0 : 1], sizeof(a.bytes));
	return a;
}

enum fw_drop
fw_frags_room(const struct fw_frags *t, const struct fw_pkt *pk, unsigned int from)
{
	const struct fw_host *h;
	struct pk_addr inside;
	struct fw_frag key;

	if (t->nb == t->capacity)
		return FW_DROP_FRAG_FULL;
	key_of(&key, pk, from);
	inside = inside_of(&key);
	h = fw_hosts_find(t->hosts, key.wire, key.vrf, &inside);
	if (h == NULL ? t->hosts->nb == t->hosts->capacity
	              : h->held[FW_HELD_FRAGMENTED] >= FW_FRAG_PER_HOST)
		return FW_DROP_FRAG_LIMIT;
	return FW_DROP_NONE;
}

struct fw_frag *
fw_frags_open(struct fw_frags *t, const struct fw_pkt *pk, unsigned int from, uint64_t session,
    uint64_t now_ns)
{
	uint32_t i = t->free, *head;
	struct pk_addr inside;
	struct fw_frag *f, key;
	struct fw_host *h;

	key_of(&key, pk, from);
	inside = inside_of(&key);
	if (t->nb == t->capacity)
		return NULL;
	h = fw_hosts_get(t->hosts, key.wire, key.vrf, &inside);
	if (h == NULL)
		return NULL;
	h->held[FW_HELD_FRAGMENTED]++;
	if (i != 0)
		t->free = t->frag[i].chain;
	else
		i = t->fresh++;
	f = &t->frag[i];
	*f = key;
	f->session = session;
	f->until_ns = now_ns + t->timeout_ns;
	head = chain_of(t, f);
	f->chain = *head;
	*head = i;
	f->older = t->newest;
	if (t->newest != 0)
		t->frag[t->newest].newer = i;
	else
		t->oldest = i;
	t->newest = i;
	t->nb++;
	return f;
}

static enum fw_drop
poison(struct fw_frag *f, enum fw_drop why)
{
	f->poisoned = (uint8_t)why;
	return why;
}

enum fw_drop
fw_frag_add(struct fw_frag *f, const struct fw_pkt *pk)
{
	uint32_t from = pk->frag_off, to = from + pk->frag_len;
	unsigned int k = 0;

	if (f->poisoned != 0)
		return (enum fw_drop)f->poisoned;
	/* There is one end, and nothing beyond it. */
	if (!pk->frag_more) {
		if (f->total != 0 || (f->nb_pieces != 0 && f->piece[f->nb_pieces - 1].to > to))
			return poison(f, FW_DROP_FRAG_OVERLAP);
		f->total = to;
	} else if (f->total != 0 && to > f->total) {
		return poison(f, FW_DROP_FRAG_OVERLAP);
	}
	while (k < f->nb_pieces && f->piece[k].to < from)
		k++;
	/* Piece k is the first that ends at or behind our beginning. */
	if (k < f->nb_pieces && f->piece[k].to == from) {
		if (k + 1u < f->nb_pieces && f->piece[k + 1].from < to)
			return poison(f, FW_DROP_FRAG_OVERLAP);
		f->piece[k].to = to;
		if (k + 1u < f->nb_pieces && f->piece[k + 1].from == to) {
			f->piece[k].to = f->piece[k + 1].to;
			f->nb_pieces--;
			memmove(&f->piece[k + 1], &f->piece[k + 2],
			    (f->nb_pieces - k - 1u) * sizeof(f->piece[0]));
		}
		return FW_DROP_NONE;
	}
	if (k < f->nb_pieces && f->piece[k].from < to)
		return poison(f, FW_DROP_FRAG_OVERLAP);
	if (k < f->nb_pieces && f->piece[k].from == to) {
		f->piece[k].from = from;
		return FW_DROP_NONE;
	}
	if (f->nb_pieces == FW_FRAG_PIECES)
		return poison(f, FW_DROP_FRAG_HOLES);
	memmove(&f->piece[k + 1], &f->piece[k], (f->nb_pieces - k) * sizeof(f->piece[0]));
	f->piece[k].from = from;
	f->piece[k].to = to;
	f->nb_pieces++;
	return FW_DROP_NONE;
}

void
fw_frags_remove(struct fw_frags *t, struct fw_frag *f)
{
	uint32_t i = (uint32_t)(f - t->frag), *link = chain_of(t, f);
	struct pk_addr inside = inside_of(f);
	struct fw_host *h;

	while (*link != i)
		link = &t->frag[*link].chain;
	*link = f->chain;
	if (f->older != 0)
		t->frag[f->older].newer = f->newer;
	else
		t->oldest = f->newer;
	if (f->newer != 0)
		t->frag[f->newer].older = f->older;
	else
		t->newest = f->older;
	h = fw_hosts_find(t->hosts, f->wire, f->vrf, &inside);
	PK_ASSERT(h != NULL);
	fw_hosts_take(t->hosts, h, FW_HELD_FRAGMENTED, 1);
	f->chain = t->free;
	t->free = i;
	t->nb--;
}

unsigned int
fw_frags_expire(struct fw_frags *t, uint64_t now_ns, unsigned int n)
{
	unsigned int done = 0;

	while (done < n && t->oldest != 0 && t->frag[t->oldest].until_ns <= now_ns) {
		fw_frags_remove(t, &t->frag[t->oldest]);
		done++;
	}
	return done;
}
