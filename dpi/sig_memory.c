#include "dpi/sig_memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES 65536
#define PROBES  16

enum {
	KIND_NONE = 0,
	KIND_BIT,
	KIND_COUNT
};

struct key {
	uint32_t kind, id;
	struct pk_addr a, b;
};

struct entry {
	struct key key;
	uint64_t since_ns, until_ns;
	uint32_t count;
};

struct dpi_memory {
	uint64_t lost;
	struct entry entry[ENTRIES];
};

int
dpi_memory_create(struct dpi_memory **out)
{
	*out = calloc(1, sizeof(**out));
	return *out != NULL ? 0 : -ENOMEM;
}

void
dpi_memory_destroy(struct dpi_memory *m)
{
	free(m);
}

static struct entry *
find(struct dpi_memory *m, const struct key *k, bool make, uint64_t now_ns)
{
	const uint8_t *p = (const uint8_t *)k;
	struct entry *room = NULL;
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < sizeof(*k); i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	h ^= h >> 29;
	for (unsigned int i = 0; i < PROBES; i++) {
		struct entry *e = &m->entry[(h + i) % ENTRIES];

		if (e->key.kind != KIND_NONE && memcmp(&e->key, k, sizeof(*k)) == 0)
			return e;
		if (room == NULL && (e->key.kind == KIND_NONE || e->until_ns < now_ns))
			room = e;
	}
	if (!make)
		return NULL;
	if (room == NULL) {
		room = &m->entry[h % ENTRIES];
		m->lost++;
	}
	memset(room, 0, sizeof(*room));
	room->key = *k;
	return room;
}

bool
dpi_memory_bits(struct dpi_memory *m, const struct dpi_bits *b, const struct pk_addr *src,
    const struct pk_addr *dst, uint64_t now_ns, bool ask)
{
	bool any = false, asks = b->op == DPI_BITS_ISSET || b->op == DPI_BITS_ISNOTSET;

	if (asks != ask)
		return true;
	for (unsigned int i = 0; i < b->nb; i++) {
		struct key k;
		struct entry *e;
		bool set;

		memset(&k, 0, sizeof(k));
		k.kind = KIND_BIT;
		k.id = b->id[i];
		if (b->of == DPI_BITS_SRC) {
			k.a = *src;
		} else if (b->of == DPI_BITS_DST) {
			k.a = *dst;
		} else {
			k.a = pk_addr_compare(src, dst) < 0 ? *src : *dst;
			k.b = pk_addr_compare(src, dst) < 0 ? *dst : *src;
		}
		e = find(m, &k, !asks, now_ns);
		set = e != NULL && e->count != 0 && e->until_ns >= now_ns;
		any |= set;
		if (asks)
			continue;
		e->count = b->op == DPI_BITS_SET ? 1 : b->op == DPI_BITS_UNSET ? 0 : !set;
		e->until_ns = now_ns + (b->expire_s != 0 ? b->expire_s : 300) * PK_NS_PER_S;
	}
	return !asks || any == (b->op == DPI_BITS_ISSET);
}

bool
dpi_memory_threshold(struct dpi_memory *m, const struct dpi_sig *s, const struct pk_addr *src,
    const struct pk_addr *dst, const void *session, uint64_t now_ns)
{
	const struct dpi_threshold *t = &s->threshold;
	uint64_t window = t->seconds * PK_NS_PER_S;
	struct entry *e;
	struct key k;

	if (t->kind == DPI_TH_NONE)
		return true;
	memset(&k, 0, sizeof(k));
	k.kind = KIND_COUNT;
	k.id = s->index;
	if (t->by == DPI_BY_SRC || t->by == DPI_BY_BOTH)
		k.a = *src;
	if (t->by == DPI_BY_DST || t->by == DPI_BY_BOTH)
		k.b = *dst;
	if (t->by == DPI_BY_FLOW)
		memcpy(k.a.bytes, &session, sizeof(session));
	e = find(m, &k, true, now_ns);
	if (e->count == 0 || now_ns > e->since_ns + window) {
		e->since_ns = now_ns;
		e->until_ns = now_ns + window;
		e->count = 0;
	}
	e->count++;
	switch (t->kind) {
	case DPI_TH_LIMIT:
		return e->count <= t->count;
	case DPI_TH_THRESHOLD:
		if (e->count < t->count)
			return false;
		e->count = 0;
		return true;
	case DPI_TH_BOTH:
		return e->count == t->count;
	default:
		return e->count > t->count;
	}
}
