#include "ctl/layers.h"

#include <stdlib.h>
#include <string.h>

#include "lib/wire.h"

#define TUNNELS_MAX 4
#define DATAGRAM    65536

/* LINKTYPE_* of tcpdump.org. */
enum {
	LINK_NULL = 0,
	LINK_ETHERNET = 1,
	LINK_PPP = 9,
	LINK_RAW_BSD = 12,
	LINK_RAW_OPENBSD = 14,
	LINK_PPP_HDLC = 50,
	LINK_RAW = 101,
	LINK_C_HDLC = 104,
	LINK_LOOP = 108,
	LINK_LINUX_SLL = 113,
	LINK_IPV4 = 228,
	LINK_IPV6 = 229,
	LINK_LINUX_SLL2 = 276,
};

struct fragment {
	struct pk_addr src, dst;
	uint32_t id;
	uint8_t proto;
	bool used;
	uint64_t order;
	uint32_t total;                 /* 0: the last piece has not come */
	uint8_t have[DATAGRAM / 8 / 8]; /* a bit for eight bytes */
	uint8_t bytes[DATAGRAM];
};

struct ctl_fragments {
	uint64_t order;
	struct fragment slot[CTL_FRAGMENTS];
};

struct ctl_fragments *
ctl_fragments_create(void)
{
	struct ctl_fragments *f = calloc(1, sizeof(*f));

	PK_ASSERT(f != NULL);
	return f;
}

void
ctl_fragments_destroy(struct ctl_fragments *f)
{
	free(f);
}

/* Enter a piece; true when the datagram is whole, and then *w reads it. */
static bool
reassemble(struct ctl_fragments *f, const struct ctl_layers *l, uint32_t id, uint32_t off,
    bool more, struct pk_wire *w)
{
	uint32_t len = (uint32_t)pk_wire_left(w);
	struct fragment *s = NULL;

	if (off + len > DATAGRAM || (more && len % 8 != 0) || len == 0)
		return false;
	for (unsigned int i = 0; i < CTL_FRAGMENTS; i++) {
		struct fragment *c = &f->slot[i];

		if (c->used && c->id == id && c->proto == l->proto &&
		    memcmp(&c->src, &l->src, sizeof(c->src)) == 0 &&
		    memcmp(&c->dst, &l->dst, sizeof(c->dst)) == 0) {
			s = c;
			break;
		}
		if (s == NULL || !c->used || (s->used && c->order < s->order))
			s = c;
	}
	if (!s->used || s->id != id || s->proto != l->proto ||
	    memcmp(&s->src, &l->src, sizeof(s->src)) != 0 ||
	    memcmp(&s->dst, &l->dst, sizeof(s->dst)) != 0) {
		memset(s->have, 0, sizeof(s->have));
		*s = (struct fragment){
			.src = l->src, .dst = l->dst, .id = id, .proto = l->proto, .used = true
		};
		s->order = ++f->order;
	}
	/* The first byte to come stands. */
	for (uint32_t at = off; at < off + len; at += 8) {
		uint32_t n = PK_MIN(8u, off + len - at);

		if ((s->have[at / 64] >> (at / 8 % 8) & 1) != 0)
			continue;
		memcpy(s->bytes + at, w->at + (at - off), n);
		s->have[at / 64] |= (uint8_t)(1 << (at / 8 % 8));
	}
	if (!more)
		s->total = off + len;
	if (s->total == 0)
		return false;
	for (uint32_t at = 0; at < s->total; at += 8)
		if ((s->have[at / 64] >> (at / 8 % 8) & 1) == 0)
			return false;
	*w = pk_wire_from(s->bytes, s->total);
	s->used = false;
	return true;
}

/* IPv4 or IPv6 at w, down to its payload in *w; 1: there is one, 0: none now. */
static int
ip(struct ctl_fragments *f, struct pk_wire *w, struct ctl_layers *out)
{
	struct pk_wire whole = *w;
	uint8_t first = pk_wire_u8(w);
	uint32_t len, id, off;
	bool more;

	memset(&out->src, 0, sizeof(out->src));
	memset(&out->dst, 0, sizeof(out->dst));
	if (first >> 4 == 4) {
		const uint8_t *a;

		pk_wire_skip(w, 1);
		len = pk_wire_be16(w);
		id = pk_wire_be16(w);
		off = pk_wire_be16(w);
		pk_wire_skip(w, 1);
		out->proto = pk_wire_u8(w);
		pk_wire_skip(w, 2);
		a = pk_wire_bytes(w, 8);
		if (a == NULL || (first & 15) < 5)
			return 0;
		out->src.family = out->dst.family = 4;
		memcpy(out->src.bytes, a, 4);
		memcpy(out->dst.bytes, a + 4, 4);
		pk_wire_skip(w, ((first & 15) - 5u) * 4);
		if (!pk_wire_ok(w))
			return 0;
		/* 0: cut by segmentation offload.  Bytes beyond are padding. */
		if (len != 0 && len < pk_wire_left(&whole))
			w->end = PK_MAX(w->at, whole.at + len);
		more = (off & 0x2000) != 0;
		off = (off & 0x1fff) * 8;
		return more || off != 0 ? reassemble(f, out, id, off, more, w) : 1;
	}
	if (first >> 4 != 6)
		return 0;
	pk_wire_skip(w, 3);
	len = pk_wire_be16(w);
	out->proto = pk_wire_u8(w);
	pk_wire_skip(w, 1);
	if (pk_wire_left(w) < 32)
		return 0;
	out->src.family = out->dst.family = 6;
	memcpy(out->src.bytes, w->at, 16);
	memcpy(out->dst.bytes, w->at + 16, 16);
	pk_wire_skip(w, 32);
	if (len != 0 && len < pk_wire_left(w))
		w->end = w->at + len;
	for (int n = 0; n < 16; n++) {
		uint8_t next;

		switch (out->proto) {
		case 0: /* hop by hop, routing, destination options, mobility */
		case 43:
		case 60:
		case 135:
			next = pk_wire_u8(w);
			pk_wire_skip(w, pk_wire_u8(w) * 8u + 6);
			break;
		case 44:
			next = pk_wire_u8(w);
			pk_wire_skip(w, 1);
			off = pk_wire_be16(w);
			id = pk_wire_be32(w);
			more = (off & 1) != 0;
			off &= ~7u;
			if (!pk_wire_ok(w))
				return 0;
			out->proto = next;
			if ((more || off != 0) && !reassemble(f, out, id, off, more, w))
				return 0;
			continue;
		default:
			return 1;
		}
		if (!pk_wire_ok(w))
			return 0;
		out->proto = next;
	}
	return 0;
}

/* What an Ethernet type announces; leaves *w at an IP header.  False: no IP. */
static bool
ether_type(struct pk_wire *w, uint16_t type)
{
	for (int n = 0; n < 8 && pk_wire_ok(w); n++)
		switch (type) {
		case 0x0800:
		case 0x86dd:
			return true;
		case 0x8100:
		case 0x88a8:
		case 0x9100:
			pk_wire_skip(w, 2);
			type = pk_wire_be16(w);
			break;
		case 0x8847:
		case 0x8848: /* MPLS: to the bottom of the stack, then the version tells */
			while (pk_wire_left(w) >= 4 && (w->at[2] & 1) == 0)
				pk_wire_skip(w, 4);
			pk_wire_skip(w, 4);
			return pk_wire_left(w) > 0;
		case 0x8864: /* PPPoE session */
			pk_wire_skip(w, 6);
			type = pk_wire_be16(w) == 0x57 ? 0x86dd : 0x0800;
			break;
		default:
			return false;
		}
	return false;
}

static bool
link(struct pk_wire *w, uint16_t type)
{
	uint16_t proto;

	switch (type) {
	case LINK_ETHERNET:
		pk_wire_skip(w, 12);
		return ether_type(w, pk_wire_be16(w));
	case LINK_NULL:
	case LINK_LOOP:
		pk_wire_skip(w, 4);
		return true;
	case LINK_PPP:
	case LINK_PPP_HDLC:
		/* Cisco's framing goes by this type as well: address, zero, an Ethernet type. */
		if (pk_wire_left(w) >= 4 && (w->at[0] & 0x7f) == 0x0f && w->at[1] == 0) {
			pk_wire_skip(w, 2);
			return ether_type(w, pk_wire_be16(w));
		}
		if (pk_wire_left(w) >= 2 && w->at[0] == 0xff && w->at[1] == 3)
			pk_wire_skip(w, 2);
		proto = pk_wire_u8(w);
		if ((proto & 1) == 0)
			proto = (uint16_t)(proto << 8 | pk_wire_u8(w));
		return proto == 0x21 || proto == 0x57;
	case LINK_C_HDLC:
		pk_wire_skip(w, 2);
		return ether_type(w, pk_wire_be16(w));
	case LINK_LINUX_SLL:
		pk_wire_skip(w, 14);
		return ether_type(w, pk_wire_be16(w));
	case LINK_LINUX_SLL2:
		proto = pk_wire_be16(w);
		pk_wire_skip(w, 18);
		return ether_type(w, proto);
	case LINK_RAW:
	case LINK_RAW_BSD:
	case LINK_RAW_OPENBSD:
	case LINK_IPV4:
	case LINK_IPV6:
		return true;
	default:
		return false;
	}
}

bool
ctl_layers(struct ctl_fragments *f, const struct ctl_packet *p, struct ctl_layers *out)
{
	struct pk_wire w = pk_wire_from(p->bytes, p->len);
	uint16_t flags, len;

	memset(out, 0, sizeof(*out));
	if (!link(&w, p->link_type))
		return false;
	for (int n = 0; n < TUNNELS_MAX; n++) {
		if (ip(f, &w, out) == 0)
			return false;
		if (out->proto == 4 || out->proto == 41)
			continue;
		if (out->proto != 47)
			break;
		/* GRE (RFC 2784, 2890): checksum, key, sequence; IP or Ethernet inside. */
		flags = pk_wire_be16(&w);
		len = pk_wire_be16(&w);
		if ((flags & 7) == 1 && len == 0x880b) {
			/* PPTP (RFC 2637 section 4.1): length, call, sequence, acknowledgement; PPP inside. */
			pk_wire_skip(&w,
			    4u + ((flags & 0x1000) != 0 ? 4 : 0) + ((flags & 0x80) != 0 ? 4 : 0));
			if (!link(&w, LINK_PPP))
				return false;
			continue;
		}
		pk_wire_skip(&w,
		    ((flags & 0x8000) != 0 ? 4u : 0) + ((flags & 0x2000) != 0 ? 4 : 0) +
		        ((flags & 0x1000) != 0 ? 4 : 0));
		if (len == 0x6558) {
			pk_wire_skip(&w, 12);
			len = pk_wire_be16(&w);
		} else if (len == 0x88be && pk_wire_left(&w) > 8 + 14) { /* ERSPAN II */
			pk_wire_skip(&w, 8 + 12);
			len = pk_wire_be16(&w);
		}
		if ((flags & 7) != 0 || !ether_type(&w, len))
			return false;
	}
	if (out->proto == 6) {
		uint32_t head;

		out->sport = pk_wire_be16(&w);
		out->dport = pk_wire_be16(&w);
		out->seq = pk_wire_be32(&w);
		pk_wire_skip(&w, 4);
		head = (uint32_t)(pk_wire_u8(&w) >> 4) * 4;
		out->tcp_flags = pk_wire_u8(&w);
		pk_wire_skip(&w, 6);
		if (head < 20)
			return false;
		pk_wire_skip(&w, head - 20);
	} else if (out->proto == 17) {
		out->sport = pk_wire_be16(&w);
		out->dport = pk_wire_be16(&w);
		len = pk_wire_be16(&w);
		pk_wire_skip(&w, 2);
		if (len >= 8 && len - 8u < pk_wire_left(&w))
			w.end = w.at + (len - 8);
	}
	out->payload = w.at;
	out->len = (uint32_t)pk_wire_left(&w);
	return pk_wire_ok(&w);
}
