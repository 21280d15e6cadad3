#include "fw/record.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "lib/wire.h"

#define VERSION   1
#define SCALE_MAX 14 /* RFC 7323 section 2.3 */

static const uint8_t magic[8] = { 'P', 'K', 'S', 'E', 'S', 'S', '\r', '\n' };

/* ---- writing ---- */

/* The mirror of struct pk_wire.  What does not fit is not written, and `at` passes `end`. */
struct out {
	uint8_t *at, *end;
	bool full;
};

static void
put(struct out *o, const void *bytes, size_t len)
{
	if (o->full || (size_t)(o->end - o->at) < len) {
		o->full = true;
		return;
	}
	memcpy(o->at, bytes, len);
	o->at += len;
}

static void
put8(struct out *o, uint8_t v)
{
	put(o, &v, 1);
}

static void
put16(struct out *o, uint16_t v)
{
	v = __builtin_bswap16(v);
	put(o, &v, sizeof(v));
}

static void
put32(struct out *o, uint32_t v)
{
	v = __builtin_bswap32(v);
	put(o, &v, sizeof(v));
}

static void
put64(struct out *o, uint64_t v)
{
	v = __builtin_bswap64(v);
	put(o, &v, sizeof(v));
}

static void
put_tlv(struct out *o, enum fw_record_tlv type, uint16_t len)
{
	put16(o, (uint16_t)type);
	put16(o, len);
}

void
fw_record_header(uint8_t out[FW_RECORD_HEADER_LEN])
{
	struct out o = { out, out + FW_RECORD_HEADER_LEN, false };

	put(&o, magic, sizeof(magic));
	put16(&o, VERSION);
	put16(&o, 0);
	put32(&o, 0);
}

size_t
fw_record_encode(const struct fw_record *r, uint8_t *out, size_t room)
{
	struct out o = { out, out + room, false }, length = o;
	unsigned int addr_len = r->src.family == 4 ? 4 : 16;

	put32(&o, 0); /* the length, once it is known */
	put_tlv(&o, FW_RECORD_TLV_KEY, (uint16_t)(14 + 2 * addr_len));
	put8(&o, r->src.family);
	put8(&o, r->proto);
	put16(&o, r->wire);
	put32(&o, r->vrf);
	put16(&o, r->sport);
	put16(&o, r->dport);
	put16(&o, r->selector);
	put(&o, r->src.bytes, addr_len);
	put(&o, r->dst.bytes, addr_len);
	put_tlv(&o, FW_RECORD_TLV_STATE, 4);
	put8(&o, r->state);
	put8(&o, r->direction);
	put16(&o, r->flags);
	put_tlv(&o, FW_RECORD_TLV_TIMES, 24);
	put64(&o, r->age_ms);
	put64(&o, r->idle_ms);
	put64(&o, r->left_ms);
	if (r->proto == IPPROTO_TCP) {
		put_tlv(&o, FW_RECORD_TLV_TCP, 24);
		for (unsigned int d = 0; d < 2; d++) {
			put32(&o, r->side[d].end);
			put32(&o, r->side[d].ack);
			put16(&o, r->side[d].win);
			put8(&o, r->side[d].scale);
			put8(&o, 0);
		}
	}
	put_tlv(&o, FW_RECORD_TLV_COUNTERS, 32);
	for (unsigned int d = 0; d < 2; d++) {
		put64(&o, r->packets[d]);
		put64(&o, r->bytes[d]);
	}
	if (r->rule_id != 0 || r->generation != 0) {
		put_tlv(&o, FW_RECORD_TLV_POLICY, 16);
		put64(&o, r->rule_id);
		put64(&o, r->generation);
	}
	if (r->link_len != 0) {
		put_tlv(&o, FW_RECORD_TLV_LINK, (uint16_t)(4 + r->link_len));
		put8(&o, r->link_len);
		put8(&o, r->link_stripped);
		put16(&o, r->link_tci);
		put(&o, r->link, r->link_len);
	}
	if (r->sequence != 0 || r->version != 0) {
		put_tlv(&o, FW_RECORD_TLV_ORDER, 12);
		put64(&o, r->sequence);
		put32(&o, r->version);
	}
	if (o.full)
		return 0;
	put32(&length, (uint32_t)(o.at - out - 4));
	return (size_t)(o.at - out);
}

/* ---- reading ---- */

int
fw_record_header_check(const uint8_t bytes[FW_RECORD_HEADER_LEN], struct pk_diag *diag)
{
	struct pk_wire w =
	    pk_wire_from(bytes + sizeof(magic), FW_RECORD_HEADER_LEN - sizeof(magic));
	uint16_t version = pk_wire_be16(&w);

	if (memcmp(bytes, magic, sizeof(magic)) != 0) {
		pk_diag_set(diag, "these are no session records; want a file of `sessions export`");
		return -EPROTO;
	}
	if (version != VERSION) {
		pk_diag_set(
		    diag, "session records of version %u; this program reads %u", version, VERSION);
		return -EPROTO;
	}
	return 0;
}

bool
fw_record_state_is_tcp(unsigned int state)
{
	return state >= FW_RECORD_SYN_SENT && state <= FW_RECORD_CLOSED;
}

static void
get_key(struct fw_record *r, struct pk_wire *w)
{
	unsigned int addr_len;
	const uint8_t *p;

	r->src.family = r->dst.family = pk_wire_u8(w);
	r->proto = pk_wire_u8(w);
	r->wire = pk_wire_be16(w);
	r->vrf = pk_wire_be32(w);
	r->sport = pk_wire_be16(w);
	r->dport = pk_wire_be16(w);
	r->selector = pk_wire_be16(w);
	addr_len = r->src.family == 4 ? 4 : 16;
	p = pk_wire_bytes(w, addr_len);
	if (p != NULL)
		memcpy(r->src.bytes, p, addr_len);
	p = pk_wire_bytes(w, addr_len);
	if (p != NULL)
		memcpy(r->dst.bytes, p, addr_len);
}

static void
get_link(struct fw_record *r, struct pk_wire *w)
{
	const uint8_t *p;

	r->link_len = pk_wire_u8(w);
	r->link_stripped = pk_wire_u8(w) != 0;
	r->link_tci = pk_wire_be16(w);
	if (r->link_len > sizeof(r->link)) {
		w->failed = 1;
		return;
	}
	p = pk_wire_bytes(w, r->link_len);
	if (p != NULL)
		memcpy(r->link, p, r->link_len);
	if (r->link_len == 0) {
		r->link_stripped = false;
		r->link_tci = 0;
	}
}

static void
get_value(struct fw_record *r, unsigned int type, struct pk_wire *w)
{
	switch (type) {
	case FW_RECORD_TLV_KEY:
		get_key(r, w);
		break;
	case FW_RECORD_TLV_STATE:
		r->state = pk_wire_u8(w);
		r->direction = pk_wire_u8(w);
		r->flags = pk_wire_be16(w);
		break;
	case FW_RECORD_TLV_TIMES:
		r->age_ms = pk_wire_be64(w);
		r->idle_ms = pk_wire_be64(w);
		r->left_ms = pk_wire_be64(w);
		break;
	case FW_RECORD_TLV_TCP:
		for (unsigned int d = 0; d < 2; d++) {
			r->side[d].end = pk_wire_be32(w);
			r->side[d].ack = pk_wire_be32(w);
			r->side[d].win = pk_wire_be16(w);
			r->side[d].scale = pk_wire_u8(w);
			pk_wire_skip(w, 1);
		}
		break;
	case FW_RECORD_TLV_COUNTERS:
		for (unsigned int d = 0; d < 2; d++) {
			r->packets[d] = pk_wire_be64(w);
			r->bytes[d] = pk_wire_be64(w);
		}
		break;
	case FW_RECORD_TLV_POLICY:
		r->rule_id = pk_wire_be64(w);
		r->generation = pk_wire_be64(w);
		break;
	case FW_RECORD_TLV_LINK:
		get_link(r, w);
		break;
	case FW_RECORD_TLV_ORDER:
		r->sequence = pk_wire_be64(w);
		r->version = pk_wire_be32(w);
		break;
	}
}

const char *
fw_record_fault(const struct fw_record *r)
{
	bool tcp = r->proto == IPPROTO_TCP;
	bool icmp = r->proto == IPPROTO_ICMP || r->proto == IPPROTO_ICMPV6;

	if (r->src.family != 4 && r->src.family != 6)
		return "an address that is neither IPv4 nor IPv6";
	if (r->direction >= PK_DIRECTION_COUNT)
		return "a direction that there is not";
	if (tcp != fw_record_state_is_tcp(r->state) ||
	    (r->proto == IPPROTO_UDP) !=
	        (r->state == FW_RECORD_UDP_NEW || r->state == FW_RECORD_UDP) ||
	    icmp != (r->state == FW_RECORD_ICMP) ||
	    (!fw_record_state_is_tcp(r->state) && r->state < FW_RECORD_UDP_NEW) ||
	    r->state > FW_RECORD_OTHER)
		return "a state that its protocol does not have";
	if ((r->flags & ~FW_RECORD_FLAGS_ALL) != 0 ||
	    (!tcp && (r->flags & ~FW_RECORD_FLAGS_OTHERS) != 0) ||
	    (r->flags & (FW_RECORD_RELATED | FW_RECORD_REVERSED)) == FW_RECORD_REVERSED)
		return "flags that it cannot have";
	if (icmp && r->dport != 0)
		return "an ICMP identifier on both sides";
	if (!tcp && !icmp && r->proto != IPPROTO_UDP && r->proto != IPPROTO_SCTP &&
	    (r->sport != 0 || r->dport != 0))
		return "ports that its protocol does not have";
	if ((tcp || r->proto == IPPROTO_UDP || r->proto == IPPROTO_SCTP) &&
	    (r->flags & FW_RECORD_RELATED) == 0 && r->selector != r->dport)
		return "a selector that is not its destination port";
	if (r->side[0].scale > SCALE_MAX || r->side[1].scale > SCALE_MAX)
		return "a window shift above 14";
	if (r->link_len != 0 && r->link_len != 14 && r->link_len != 18 && r->link_len != 22)
		return "a link header of a length that there is not";
	if (r->idle_ms > r->age_ms)
		return "more idle time than age";
	return NULL;
}

long
fw_record_decode(
    struct fw_record *out, const uint8_t *bytes, size_t len, size_t *skip, struct pk_diag *diag)
{
	static const char *const required[] = { [FW_RECORD_TLV_KEY] = "key",
		[FW_RECORD_TLV_STATE] = "state",
		[FW_RECORD_TLV_TIMES] = "times" };
	struct pk_wire w = pk_wire_from(bytes, len);
	uint32_t length = pk_wire_be32(&w), seen = 0;
	const char *why;

	*skip = 0;
	if (!pk_wire_ok(&w))
		return -EAGAIN;
	if (length > FW_RECORD_LEN_MAX) {
		pk_diag_set(diag, "a record of %u bytes; there are none above %u", length,
		    FW_RECORD_LEN_MAX);
		return -EPROTO;
	}
	if (pk_wire_left(&w) < length)
		return -EAGAIN;
	*skip = 4 + (size_t)length;
	w = pk_wire_from(bytes + 4, length);
	memset(out, 0, sizeof(*out));
	while (pk_wire_left(&w) > 0) {
		uint16_t type = pk_wire_be16(&w), value_len = pk_wire_be16(&w);
		const uint8_t *value = pk_wire_bytes(&w, value_len);
		struct pk_wire v;

		if (value == NULL) {
			pk_diag_set(diag, "a part of type %u goes on beyond the record", type);
			return -EPROTO;
		}
		if (type == 0 || type >= FW_RECORD_TLV_COUNT) {
			if ((type & FW_RECORD_CRITICAL) == 0)
				continue;
			pk_diag_set(diag, "a part of type %u, which has to be understood", type);
			return -EPROTO;
		}
		if ((seen & 1u << type) != 0) {
			pk_diag_set(diag, "two parts of type %u", type);
			return -EPROTO;
		}
		seen |= 1u << type;
		v = pk_wire_from(value, value_len);
		get_value(out, type, &v);
		if (!pk_wire_ok(&v)) {
			pk_diag_set(
			    diag, "a part of type %u of %u bytes: too short", type, value_len);
			return -EPROTO;
		}
	}
	for (unsigned int t = FW_RECORD_TLV_KEY; t <= FW_RECORD_TLV_TIMES; t++) {
		if ((seen & 1u << t) == 0) {
			pk_diag_set(diag, "a record without %s", required[t]);
			return -EPROTO;
		}
	}
	why = fw_record_fault(out);
	if ((out->proto == IPPROTO_TCP) != ((seen & 1u << FW_RECORD_TLV_TCP) != 0))
		why = out->proto == IPPROTO_TCP ? "no TCP part" : "a TCP part without TCP";
	if (why != NULL) {
		pk_diag_set(diag, "a record with %s", why);
		return -EPROTO;
	}
	return (long)(4 + (size_t)length);
}
