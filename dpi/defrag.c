#include "dpi/defrag.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_MAX 256

struct entry {
	struct pk_addr src, dst;
	uint32_t id, vlan;
	uint8_t proto; /* IPv4: part of the key (RFC 791, section 3.2) */
	bool used, has_head;
	uint64_t time_ns;
	uint32_t total; /* bytes, 0: last fragment not seen */
	uint32_t have;
	uint8_t next;
	uint32_t head_len;
	uint8_t head[HEAD_MAX];
	uint8_t bytes[65536];
	uint8_t there[65536 / 8];
};

struct dpi_defrag {
	struct entry entry[DPI_DEFRAG_MAX];
	uint8_t packet[HEAD_MAX + 65536];
};

int
dpi_defrag_create(struct dpi_defrag **out)
{
	*out = calloc(1, sizeof(**out));
	return *out != NULL ? 0 : -ENOMEM;
}

void
dpi_defrag_destroy(struct dpi_defrag *d)
{
	free(d);
}

static struct entry *
find(struct dpi_defrag *d, const struct dpi_frame *f)
{
	struct entry *oldest = &d->entry[0];

	for (unsigned int i = 0; i < DPI_DEFRAG_MAX; i++) {
		struct entry *e = &d->entry[i];

		if (e->used && f->time_ns > e->time_ns + DPI_DEFRAG_TIMEOUT * PK_NS_PER_S)
			e->used = false;
		if (e->used && e->id == f->fragment.id && e->vlan == f->vlan &&
		    (f->family == 6 || e->proto == f->fragment.next) &&
		    pk_addr_compare(&e->src, &f->src) == 0 &&
		    pk_addr_compare(&e->dst, &f->dst) == 0)
			return e;
		if (!e->used || (oldest->used && e->time_ns < oldest->time_ns))
			oldest = e->used && !oldest->used ? oldest : e;
	}
	memset(oldest, 0, offsetof(struct entry, head));
	memset(oldest->there, 0, sizeof(oldest->there));
	oldest->used = true;
	oldest->id = f->fragment.id;
	oldest->vlan = f->vlan;
	oldest->proto = f->fragment.next;
	oldest->src = f->src;
	oldest->dst = f->dst;
	oldest->time_ns = f->time_ns;
	return oldest;
}

static const uint8_t *
whole(struct dpi_defrag *d, struct entry *e, uint8_t family, uint32_t *len)
{
	uint32_t total = e->head_len + e->total;

	memcpy(d->packet, e->head, e->head_len);
	memcpy(d->packet + e->head_len, e->bytes, e->total);
	if (family == 4) {
		uint32_t sum = 0;

		d->packet[2] = (uint8_t)(total >> 8);
		d->packet[3] = (uint8_t)total;
		d->packet[6] = d->packet[7] = d->packet[10] = d->packet[11] = 0;
		for (uint32_t i = 0; i < e->head_len; i += 2)
			sum += (uint32_t)d->packet[i] << 8 | d->packet[i + 1];
		while (sum >> 16 != 0)
			sum = (sum & 0xffff) + (sum >> 16);
		d->packet[10] = (uint8_t)(~sum >> 8);
		d->packet[11] = (uint8_t)~sum;
	} else {
		uint32_t at = 40, before = 6;

		/* The last header before the fragment header names what follows it now. */
		while (at < e->head_len) {
			before = at;
			at += (d->packet[at + 1] + 1u) * 8;
		}
		d->packet[before] = e->next;
		d->packet[4] = (uint8_t)((total - 40) >> 8);
		d->packet[5] = (uint8_t)(total - 40);
	}
	e->used = false;
	*len = total;
	return d->packet;
}

const uint8_t *
dpi_defrag_add(struct dpi_defrag *d, struct dpi_frame *f, uint32_t *len)
{
	const struct dpi_fragment *g = &f->fragment;
	bool six = f->family == 6, overlap = false;
	struct entry *e;

	if (g->offset + g->len + (six ? g->head_len - 40 : g->head_len) > 65535) {
		dpi_event_set(&f->events, six ? DPI_EV_IPV6_FRAG_LARGE : DPI_EV_IPV4_FRAG_LARGE);
		return NULL;
	}
	if (g->head_len > HEAD_MAX || f->invalid) {
		dpi_event_set(
		    &f->events, six ? DPI_EV_IPV6_FRAG_IGNORED : DPI_EV_IPV4_FRAG_IGNORED);
		return NULL;
	}
	e = find(d, f);
	for (uint32_t i = 0; i < g->len; i++) {
		uint32_t at = g->offset + i;

		if (e->there[at / 8] >> (at % 8) & 1) {
			overlap = true;
			continue;
		}
		e->there[at / 8] |= (uint8_t)(1 << (at % 8));
		e->bytes[at] = g->bytes[i];
		e->have++;
	}
	if (overlap)
		dpi_event_set(
		    &f->events, six ? DPI_EV_IPV6_FRAG_OVERLAP : DPI_EV_IPV4_FRAG_OVERLAP);
	if (!g->more && e->total == 0)
		e->total = g->offset + g->len;
	if (g->offset == 0 && !e->has_head) {
		e->has_head = true;
		e->head_len = g->head_len;
		e->next = g->next;
		memcpy(e->head, f->ip, g->head_len);
	}
	if (!e->has_head || e->total == 0)
		return NULL;
	for (uint32_t i = 0; i < e->total; i++)
		if (!(e->there[i / 8] >> (i % 8) & 1))
			return NULL;
	return whole(d, e, f->family, len);
}
