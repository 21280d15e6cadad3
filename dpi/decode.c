#include "dpi/decode.h"

#include <stdbool.h>
#include <string.h>

static uint16_t
be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t
be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void
invalid(struct dpi_frame *f, enum dpi_event e)
{
	if (e != DPI_EV_NONE)
		dpi_event_set(&f->events, e);
	f->invalid = true;
}

static uint32_t
sum16(uint32_t sum, const uint8_t *p, uint32_t len)
{
	for (; len > 1; p += 2, len -= 2)
		sum += be16(p);
	if (len != 0)
		sum += (uint32_t)*p << 8;
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static bool
l4_checksum_good(const struct dpi_frame *f)
{
	unsigned int n = f->family == 4 ? 4 : 16;
	uint32_t sum = sum16(sum16(0, f->src.bytes, n), f->dst.bytes, n);

	return sum16(sum + f->proto + (f->l4_len & 0xffff) + (f->l4_len >> 16), f->l4, f->l4_len) ==
	    0xffff;
}

/* ---- transport ---- */

static void
tcp_options(struct dpi_frame *f, const uint8_t *p, uint32_t len)
{
	uint32_t seen = 0;

	for (uint32_t i = 0; i < len && p[i] != 0;) {
		uint8_t kind = p[i], n;

		if (kind == 1) {
			i++;
			continue;
		}
		if (i + 1 >= len || p[i + 1] < 2 || p[i + 1] > len - i) {
			dpi_event_set(&f->events, DPI_EV_TCP_OPT_LEN);
			return;
		}
		n = p[i + 1];
		if (kind < 32 && seen >> kind & 1)
			dpi_event_set(&f->events, DPI_EV_TCP_OPT_DUPLICATE);
		if (kind < 32)
			seen |= 1u << kind;
		if ((kind == 2 && n != 4) || (kind == 3 && n != 3) || (kind == 8 && n != 10) ||
		    (kind == 4 && n != 2) || (kind == 5 && n != 2 && (n < 10 || (n - 2) % 8 != 0)))
			dpi_event_set(&f->events, DPI_EV_TCP_OPT_LEN);
		else if (kind == 2)
			f->mss = be16(p + i + 2);
		else if (kind == 3)
			f->wscale = (int8_t)PK_MIN(p[i + 2], 14);
		else if (kind == 8) {
			f->has_timestamp = true;
			f->timestamp = be32(p + i + 2);
		}
		i += n;
	}
}

static void
decode_tcp(struct dpi_frame *f)
{
	uint32_t hlen;

	if (f->l4_len < 20) {
		invalid(f, DPI_EV_TCP_SMALL);
		return;
	}
	hlen = (uint32_t)(f->l4[12] >> 4) * 4;
	if (hlen < 20 || hlen > f->l4_len) {
		invalid(f, DPI_EV_TCP_HLEN);
		return;
	}
	f->sport = be16(f->l4);
	f->dport = be16(f->l4 + 2);
	f->seq = be32(f->l4 + 4);
	f->ack = be32(f->l4 + 8);
	f->tcp_flags = f->l4[13];
	f->window = be16(f->l4 + 14);
	f->l4_header_len = hlen;
	tcp_options(f, f->l4 + 20, hlen - 20);
	f->bad_checksum |= !f->checked && !l4_checksum_good(f);
}

static void
decode_udp(struct dpi_frame *f)
{
	uint16_t len;

	if (f->l4_len < 8) {
		invalid(f, DPI_EV_UDP_HLEN);
		return;
	}
	len = be16(f->l4 + 4);
	if (len < 8) {
		invalid(f, DPI_EV_UDP_LEN);
		return;
	}
	if (len > f->l4_len) {
		invalid(f, DPI_EV_UDP_SMALL);
		return;
	}
	if (len != f->l4_len)
		dpi_event_set(&f->events, DPI_EV_UDP_HLEN_INVALID);
	f->l4_len = len;
	f->sport = be16(f->l4);
	f->dport = be16(f->l4 + 2);
	f->l4_header_len = 8;
	if (be16(f->l4 + 6) != 0)
		f->bad_checksum |= !f->checked && !l4_checksum_good(f);
}

static void
decode_icmp4(struct dpi_frame *f)
{
	uint8_t t;

	if (f->l4_len < 8) {
		invalid(f, DPI_EV_ICMPV4_SMALL);
		return;
	}
	t = f->icmp_type = f->l4[0];
	f->icmp_code = f->l4[1];
	f->l4_header_len = 8;
	if (t == 0 || t == 8 || (t >= 13 && t <= 18)) {
		f->has_icmp_id = true;
		f->icmp_id = be16(f->l4 + 4);
		f->icmp_seq = be16(f->l4 + 6);
		if (f->icmp_code != 0)
			dpi_event_set(&f->events, DPI_EV_ICMPV4_CODE);
	} else if (t == 3 || t == 4 || t == 5 || t == 11 || t == 12) {
		static const uint8_t last[] = { [3] = 15, [4] = 0, [5] = 3, [11] = 1, [12] = 2 };

		if (f->icmp_code > last[t])
			dpi_event_set(&f->events, DPI_EV_ICMPV4_CODE);
		if (f->l4_len >= 28 && f->l4[8] >> 4 != 4)
			dpi_event_set(&f->events, DPI_EV_ICMPV4_VERSION);
		else if (f->l4_len > 8 && f->l4_len < 28)
			dpi_event_set(&f->events, DPI_EV_ICMPV4_TRUNC);
	} else if (t != 9 && t != 10 && t != 30) {
		dpi_event_set(&f->events, DPI_EV_ICMPV4_TYPE);
	}
	f->bad_checksum |= !f->checked && sum16(0, f->l4, f->l4_len) != 0xffff;
}

static void
decode_icmp6(struct dpi_frame *f)
{
	static const int8_t last[] = { [1] = 7, [2] = 0, [3] = 1, [4] = 2 };
	uint8_t t;

	if (f->l4_len < 8) {
		invalid(f, DPI_EV_ICMPV6_SMALL);
		return;
	}
	t = f->icmp_type = f->l4[0];
	f->icmp_code = f->l4[1];
	f->l4_header_len = 8;
	if (t >= 1 && t <= 4) {
		if (f->icmp_code > last[t])
			dpi_event_set(&f->events, DPI_EV_ICMPV6_CODE);
		if (f->l4_len >= 48 && f->l4[8] >> 4 != 6)
			dpi_event_set(&f->events, DPI_EV_ICMPV6_VERSION);
		else if (f->l4_len < 48)
			dpi_event_set(&f->events, DPI_EV_ICMPV6_TRUNC);
	} else if (t == 128 || t == 129) {
		f->has_icmp_id = true;
		f->icmp_id = be16(f->l4 + 4);
		f->icmp_seq = be16(f->l4 + 6);
		if (f->icmp_code != 0)
			dpi_event_set(&f->events, DPI_EV_ICMPV6_CODE);
	} else if (t >= 130 && t <= 132) {
		if (f->ttl != 1)
			dpi_event_set(&f->events, DPI_EV_ICMPV6_MLD_HL);
		if (f->icmp_code != 0)
			dpi_event_set(&f->events, DPI_EV_ICMPV6_CODE);
	} else if ((t >= 133 && t <= 137) || (t >= 139 && t <= 149) || (t >= 151 && t <= 154)) {
		if (t <= 137 && f->icmp_code != 0)
			dpi_event_set(&f->events, DPI_EV_ICMPV6_CODE);
	} else if (t == 100 || t == 101 || t == 200 || t == 201) {
		dpi_event_set(&f->events, DPI_EV_ICMPV6_EXPERIMENT);
	} else if ((t >= 5 && t <= 99) || (t >= 102 && t <= 126) || (t >= 160 && t <= 199) ||
	    (t >= 202 && t <= 254)) {
		dpi_event_set(&f->events, DPI_EV_ICMPV6_UNASSIGNED);
	} else if (t != 127 && t != 138 && t != 150 && (t < 155 || t > 159)) {
		dpi_event_set(&f->events, DPI_EV_ICMPV6_TYPE);
	}
	f->bad_checksum |= !f->checked && !l4_checksum_good(f);
}

static void
inner(struct dpi_frame *f, uint8_t family, const uint8_t *p, uint32_t len)
{
	f->inner = p;
	f->inner_len = len;
	f->inner_family = family;
}

static void
decode_gre(struct dpi_frame *f)
{
	uint32_t hlen = 4;
	uint16_t flags, type;

	if (f->l4_len < 4) {
		invalid(f, DPI_EV_GRE_SMALL);
		return;
	}
	flags = be16(f->l4);
	type = be16(f->l4 + 2);
	if ((flags & 7) > 1) {
		invalid(f, DPI_EV_GRE_VERSION);
		return;
	}
	hlen += (flags & 0xc000 ? 4u : 0) + (flags & 0x2000 ? 4u : 0) + (flags & 0x1000 ? 4u : 0) +
	    ((flags & 7) == 1 && flags & 0x80 ? 4u : 0);
	if (hlen > f->l4_len) {
		invalid(f, DPI_EV_GRE_SMALL);
		return;
	}
	if (type == 0x880b && f->l4_len >= hlen + 4 && be16(f->l4 + hlen) == 0xff03) { /* PPP */
		type = be16(f->l4 + hlen + 2) == 0x21 ? 0x800 : 0;
		hlen += 4;
	}
	if (type == 0x800 || type == 0x86dd)
		inner(f, type == 0x800 ? 4 : 6, f->l4 + hlen, f->l4_len - hlen);
	else if (type == 0x6558 ||
	    (type == 0x88be && f->l4_len >= hlen + 8)) { /* bridged; ERSPAN II */
		hlen += type == 0x88be ? 8 : 0;
		inner(f, DPI_INNER_ETHERNET, f->l4 + hlen, f->l4_len - hlen);
	}
}

/* Overlays by their assigned ports (RFC 7348, RFC 8926), and Teredo (RFC 4380). */
static void
decode_overlay(struct dpi_frame *f)
{
	const uint8_t *p = f->l4 + 8;
	uint32_t len = f->l4_len - 8, skip;

	if (f->dport == 4789 && len >= 8 && p[0] & 0x08) {
		inner(f, DPI_INNER_ETHERNET, p + 8, len - 8);
	} else if (f->dport == 6081 && len >= 8 && p[0] >> 6 == 0) {
		skip = 8u + (p[0] & 0x3f) * 4u;
		if (be16(p + 2) == 0x6558 && len > skip)
			inner(f, DPI_INNER_ETHERNET, p + skip, len - skip);
	} else if ((f->dport == 3544 || f->sport == 3544) && len >= 40 && p[0] >> 4 == 6) {
		inner(f, 6, p, len);
	}
}

static void
decode_l4(struct dpi_frame *f, const uint8_t *p, uint32_t len)
{
	f->l4 = p;
	f->l4_len = len;
	switch (f->proto) {
	case 6:
		decode_tcp(f);
		break;
	case 17:
		decode_udp(f);
		if (!f->invalid)
			decode_overlay(f);
		break;
	case 1:
		if (f->family == 6)
			dpi_event_set(&f->events, DPI_EV_IPV6_ICMPV4);
		else
			decode_icmp4(f);
		break;
	case 58:
		if (f->family == 4)
			dpi_event_set(&f->events, DPI_EV_IPV4_ICMPV6);
		else
			decode_icmp6(f);
		break;
	case 132:
		if (len < 12) {
			invalid(f, DPI_EV_SCTP_SMALL);
			break;
		}
		f->sport = be16(p);
		f->dport = be16(p + 2);
		f->l4_header_len = 12;
		break;
	case 47:
		decode_gre(f);
		break;
	case 4:
		if (f->family == 6 && len < 20)
			invalid(f, DPI_EV_IPV4_IN_IPV6_SMALL);
		else if (f->family == 6 && p[0] >> 4 != 4)
			invalid(f, DPI_EV_IPV4_IN_IPV6_VERSION);
		else
			inner(f, 4, p, len);
		break;
	case 41:
		if (f->family == 6 && len < 40)
			invalid(f, DPI_EV_IPV6_IN_IPV6_SMALL);
		else if (f->family == 6 && p[0] >> 4 != 6)
			invalid(f, DPI_EV_IPV6_IN_IPV6_VERSION);
		else
			inner(f, 6, p, len);
		break;
	default:
		break;
	}
	f->payload = f->l4 + f->l4_header_len;
	f->payload_len = f->invalid ? 0 : f->l4_len - f->l4_header_len;
}

/* ---- IPv4 ---- */

static void
ip4_options(struct dpi_frame *f, const uint8_t *p, uint32_t len)
{
	uint64_t seen[4] = { 0 };

	for (uint32_t i = 0; i < len && p[i] != 0;) {
		uint8_t kind = p[i];

		if (kind == 1) {
			i++;
			continue;
		}
		if (i + 1 >= len) {
			dpi_event_set(&f->events, DPI_EV_IPV4_OPT_EOL);
			return;
		}
		if (p[i + 1] < 2 || p[i + 1] > len - i) {
			dpi_event_set(&f->events, DPI_EV_IPV4_OPT_LEN);
			return;
		}
		if (seen[kind >> 6] >> (kind & 63) & 1)
			dpi_event_set(&f->events, DPI_EV_IPV4_OPT_DUPLICATE);
		seen[kind >> 6] |= UINT64_C(1) << (kind & 63);
		i += p[i + 1];
	}
}

static void
decode_ip4(struct dpi_frame *f, const uint8_t *p, uint32_t len)
{
	uint32_t hlen, total;
	uint16_t frag;

	f->family = 4;
	if (len < 20) {
		invalid(f, DPI_EV_IPV4_SMALL);
		return;
	}
	if (p[0] >> 4 != 4) {
		invalid(f, DPI_EV_IPV4_VERSION);
		return;
	}
	hlen = (uint32_t)(p[0] & 15) * 4;
	total = be16(p + 2);
	if (hlen < 20 || hlen > len) {
		invalid(f, DPI_EV_IPV4_HLEN);
		return;
	}
	if (total < hlen) {
		invalid(f, DPI_EV_IPV4_IPLEN);
		return;
	}
	if (len < total) {
		invalid(f, DPI_EV_IPV4_TRUNC);
		return;
	}
	f->ip = p;
	f->ip_len = total;
	f->ip_header_len = hlen;
	f->src.family = f->dst.family = 4;
	memcpy(f->src.bytes, p + 12, 4);
	memcpy(f->dst.bytes, p + 16, 4);
	f->tos = p[1];
	f->ip_id = be16(p + 4);
	f->ttl = p[8];
	f->proto = p[9];
	ip4_options(f, p + 20, hlen - 20);
	f->bad_checksum |= !f->checked && sum16(0, p, hlen) != 0xffff;
	frag = be16(p + 6);
	f->fragbits =
	    (uint8_t)((frag & 0x2000 ? 1 : 0) | (frag & 0x4000 ? 2 : 0) | (frag & 0x8000 ? 4 : 0));
	if (frag & 0x3fff) {
		f->fragment = (struct dpi_fragment){ .is = true,
			.more = frag & 0x2000,
			.id = f->ip_id,
			.offset = (uint16_t)((frag & 0x1fff) * 8),
			.next = f->proto,
			.bytes = p + hlen,
			.len = total - hlen,
			.head_len = hlen };
		return;
	}
	decode_l4(f, p + hlen, total - hlen);
}

/* ---- IPv6 ---- */

static void
ip6_options(struct dpi_frame *f, bool hop, const uint8_t *p, uint32_t len)
{
	uint32_t padding = 0, others = 0;

	for (uint32_t i = 0; i < len;) {
		uint8_t kind = p[i], n;

		if (kind == 0) {
			padding++;
			i++;
			continue;
		}
		if (i + 1 >= len || i + 1u + p[i + 1] > len) {
			invalid(f, DPI_EV_IPV6_OPTLEN);
			break;
		}
		n = p[i + 1];
		if (kind == 1) {
			padding++;
			if (n == 0)
				dpi_event_set(&f->events, DPI_EV_IPV6_ZERO_PADN);
		} else if (kind == 5 || kind == 0xc2 ||
		    kind == 0xc9) { /* router alert, jumbo, home address */
			if (n < (kind == 5 ? 2 : kind == 0xc2 ? 4 : 16)) {
				invalid(f, DPI_EV_IPV6_OPTLEN);
				break;
			}
			others += kind != 0xc2;
		} else {
			dpi_event_set(
			    &f->events, hop ? DPI_EV_IPV6_HOP_UNKNOWN : DPI_EV_IPV6_DST_UNKNOWN);
			others++;
		}
		i += n + 2u;
	}
	if (padding > 0 && others == 0)
		dpi_event_set(&f->events, hop ? DPI_EV_IPV6_HOP_PADDING : DPI_EV_IPV6_DST_PADDING);
}

/* Walk the chain (RFC 8200, section 4).  Every header costs at least eight bytes, so it ends. */
static void
ip6_chain(struct dpi_frame *f, const uint8_t *p, uint32_t len, uint8_t next)
{
	unsigned int hop = 0, dst = 0, routing = 0, auth = 0, frags = 0;

	for (;;) {
		uint32_t hlen;

		if (next == 59) {
			if (len > 0)
				dpi_event_set(&f->events, DPI_EV_IPV6_AFTER_NONE);
			f->proto = 59;
			return;
		}
		if (len < 2) {
			invalid(f, DPI_EV_IPV6_EXT_TRUNC);
			return;
		}
		hlen = next == 51 ? (p[1] + 2u) * 4 : next == 44 ? 8 : (p[1] + 1u) * 8;
		f->proto = next;
		switch (next) {
		case 0:
		case 60:
		case 43:
		case 44:
		case 51:
			if (hlen > len) {
				invalid(f, DPI_EV_IPV6_EXT_TRUNC);
				return;
			}
			break;
		case 50: /* nothing behind it can be read */
			if (len < 8)
				invalid(f, DPI_EV_IPV6_EXT_TRUNC);
			return;
		case 139: /* HIP, shim6 */
		case 140:
			if (hlen > len) {
				invalid(f, DPI_EV_IPV6_EXT_TRUNC);
				return;
			}
			break;
		default:
			if (next != 6 && next != 17 && next != 58 && next != 132 && next != 4 &&
			    next != 41 && next != 47 && next != 1 && next != 135)
				dpi_event_set(&f->events, DPI_EV_IPV6_NEXT_UNKNOWN);
			decode_l4(f, p, len);
			return;
		}
		if (next == 0 && hop++ > 0)
			dpi_event_set(&f->events, DPI_EV_IPV6_DUPL_HH);
		else if (next == 60 && dst++ > 1)
			dpi_event_set(&f->events, DPI_EV_IPV6_DUPL_DH);
		else if (next == 0 || next == 60)
			ip6_options(f, next == 0, p + 2, hlen - 2);
		else if (next == 43 && routing++ > 0)
			dpi_event_set(&f->events, DPI_EV_IPV6_DUPL_RH);
		else if (next == 43 && p[2] == 0)
			dpi_event_set(&f->events, DPI_EV_IPV6_RH0);
		else if (next == 51 && auth++ > 0)
			dpi_event_set(&f->events, DPI_EV_IPV6_DUPL_AH);
		else if (next == 51 && be16(p + 2) != 0)
			dpi_event_set(&f->events, DPI_EV_IPV6_AH_RES);
		if (next == 44) {
			uint16_t word = be16(p + 2);

			if (p[1] != 0)
				dpi_event_set(&f->events, DPI_EV_IPV6_FH_RESERVED);
			if (frags++ > 0) {
				dpi_event_set(&f->events, DPI_EV_IPV6_DUPL_FH);
			} else if ((word & 0xfff9) == 0) {
				dpi_event_set(&f->events, DPI_EV_IPV6_USELESS_FH);
			} else {
				if (word & 1 && (len - 8) % 8 != 0) {
					dpi_event_set(&f->events, DPI_EV_IPV6_FRAG_LEN);
					f->invalid = true;
				}
				f->fragment = (struct dpi_fragment){ .is = true,
					.more = word & 1,
					.id = be32(p + 4),
					.offset = word & 0xfff8,
					.next = p[0],
					.bytes = p + 8,
					.len = len - 8,
					.head_len = (uint32_t)(p - f->ip) };
				return;
			}
		}
		next = p[0];
		p += hlen;
		len -= hlen;
	}
}

static void
decode_ip6(struct dpi_frame *f, const uint8_t *p, uint32_t len)
{
	uint32_t plen;

	f->family = 6;
	if (len < 40) {
		invalid(f, DPI_EV_IPV6_SMALL);
		return;
	}
	if (p[0] >> 4 != 6) {
		invalid(f, DPI_EV_IPV6_VERSION);
		return;
	}
	plen = be16(p + 4);
	if (len < 40 + plen) {
		invalid(f, DPI_EV_IPV6_TRUNC);
		return;
	}
	f->ip = p;
	f->ip_len = 40 + plen;
	f->ip_header_len = 40;
	f->src.family = f->dst.family = 6;
	memcpy(f->src.bytes, p + 8, 16);
	memcpy(f->dst.bytes, p + 24, 16);
	f->tos = (uint8_t)(p[0] << 4 | p[1] >> 4);
	f->ttl = p[7];
	ip6_chain(f, p + 40, plen, p[6]);
}

static void
from_ip(struct dpi_frame *f, const uint8_t *bytes, uint32_t len, bool checked)
{
	uint64_t n = f->n, time_ns = f->time_ns;
	uint32_t vlan = f->vlan;
	struct dpi_events events = f->events;

	memset(f, 0, sizeof(*f));
	f->n = n;
	f->time_ns = time_ns;
	f->vlan = vlan;
	f->events = events;
	f->checked = checked;
	f->wscale = -1;
	if (len == 0 || (bytes[0] >> 4 != 4 && bytes[0] >> 4 != 6))
		invalid(f, DPI_EV_RAW_VERSION);
	else if (bytes[0] >> 4 == 4)
		decode_ip4(f, bytes, len);
	else
		decode_ip6(f, bytes, len);
}

void
dpi_decode_ip(struct dpi_frame *f, const uint8_t *bytes, uint32_t len)
{
	from_ip(f, bytes, len, false);
}

void
dpi_decode_checked(struct dpi_frame *f, const uint8_t *bytes, uint32_t len)
{
	from_ip(f, bytes, len, true);
}

/* ---- link ---- */

static void
decode_ether_type(struct dpi_frame *f, uint16_t type, const uint8_t *p, uint32_t len)
{
	unsigned int layers = 0;

	while (type == 0x8100 || type == 0x88a8 || type == 0x9100) {
		if (len < 4) {
			invalid(f, DPI_EV_VLAN_SMALL);
			return;
		}
		if (++layers > 3) {
			invalid(f, DPI_EV_VLAN_LAYERS);
			return;
		}
		f->vlan = f->vlan << 12 | (be16(p) & 0xfff);
		type = be16(p + 2);
		p += 4;
		len -= 4;
	}
	if (type == 0x8864 && len >= 8) { /* PPPoE session */
		type = be16(p + 6) == 0x21 ? 0x800 : be16(p + 6) == 0x57 ? 0x86dd : 0;
		p += 8;
		len -= 8;
	}
	while ((type == 0x8847 || type == 0x8848) && len >= 4) { /* MPLS */
		bool bottom = p[2] & 1;

		p += 4;
		len -= 4;
		if (bottom)
			type = len > 0 && p[0] >> 4 == 4 ? 0x800
			    : len > 0 && p[0] >> 4 == 6  ? 0x86dd
			                                 : 0;
	}
	/* The link layer has said which version it is: another is an oddity of that version. */
	f->wscale = -1;
	if (type == 0x800)
		decode_ip4(f, p, len);
	else if (type == 0x86dd)
		decode_ip6(f, p, len);
	else
		invalid(f, DPI_EV_NONE);
}

static void
decode_ppp(struct dpi_frame *f, const uint8_t *p, uint32_t len)
{
	uint32_t skip = len >= 2 && p[0] == 0xff && p[1] == 0x03 ? 2 : 0;
	uint16_t type;

	if (len < skip + 2) {
		invalid(f, DPI_EV_PPP_SMALL);
		return;
	}
	type = p[skip] & 1 ? p[skip] : be16(p + skip);
	skip += p[skip] & 1 ? 1 : 2;
	if (type == 0x21 || type == 0x57)
		decode_ether_type(f, type == 0x21 ? 0x800 : 0x86dd, p + skip, len - skip);
	else
		invalid(f, DPI_EV_PPP_UNSUP);
}

void
dpi_decode_link(struct dpi_frame *f, unsigned int link, const uint8_t *p, uint32_t len)
{
	uint64_t n = f->n, time_ns = f->time_ns;

	memset(f, 0, sizeof(*f));
	f->n = n;
	f->time_ns = time_ns;
	f->wscale = -1;
	switch (link) {
	case DPI_LINK_ETHERNET:
		if (len < 14)
			invalid(f, DPI_EV_ETHERNET_SMALL);
		else
			decode_ether_type(f, be16(p + 12), p + 14, len - 14);
		break;
	case DPI_LINK_NULL:
	case DPI_LINK_LOOP:
		if (len < 4)
			invalid(f, DPI_EV_LTNULL_SMALL);
		else
			dpi_decode_ip(f, p + 4, len - 4);
		break;
	case DPI_LINK_RAW:
	case DPI_LINK_RAW_OLD:
	case DPI_LINK_IPV4:
	case DPI_LINK_IPV6:
		dpi_decode_ip(f, p, len);
		break;
	case DPI_LINK_PPP:
		decode_ppp(f, p, len);
		break;
	case DPI_LINK_CHDLC:
		if (len < 4)
			invalid(f, DPI_EV_CHDLC_SMALL);
		else
			decode_ether_type(f, be16(p + 2), p + 4, len - 4);
		break;
	case DPI_LINK_SLL:
		if (len < 16)
			invalid(f, DPI_EV_SLL_SMALL);
		else
			decode_ether_type(f, be16(p + 14), p + 16, len - 16);
		break;
	case DPI_LINK_SLL2:
		if (len < 20)
			invalid(f, DPI_EV_SLL_SMALL);
		else
			decode_ether_type(f, be16(p), p + 20, len - 20);
		break;
	default:
		invalid(f, DPI_EV_NONE);
	}
}
