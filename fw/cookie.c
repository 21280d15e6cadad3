#include "fw/cookie.h"

#include "fw/siphash.h"

/* Smallest first; what falls between is rounded down.  Below the first nobody segments. */
static const uint16_t mss_table[8] = { 88, 536, 1220, 1360, 1400, 1440, 1460, 8940 };
static const int8_t scale_table[8] = { FW_COOKIE_NO_SCALE, 0, 2, 4, 6, 7, 8, 10 };

void
fw_cookies_init(struct fw_cookies *c, const uint64_t seed[2])
{
	/* Names the use, so that what is shown here says nothing of other keys made from the seed. */
	static const char name[16] = "picket syncookie";
	uint64_t in[3];

	*c = (struct fw_cookies){ .on = false };
	memcpy(in, name, sizeof(name));
	for (in[2] = 0; in[2] < 2; in[2]++)
		c->key[in[2]] = fw_siphash(seed, in, 3);
}

static uint32_t
be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

bool
fw_hello_read(const struct fw_pkt *pk, struct fw_hello *h)
{
	const uint8_t *o = pk->data + pk->l4 + 20, *end = pk->data + pk->l4 + pk->l4_len;

	*h = (struct fw_hello){ .mss = pk->key.family == 4 ? 536 : 1220,
		.scale = FW_COOKIE_NO_SCALE };
	while (o < end && o[0] != 0) {
		if (o[0] == 1) {
			o++;
			continue;
		}
		if (end - o < 2 || o[1] < 2 || o[1] > end - o)
			return false;
		if (o[0] == 2 && o[1] == 4)
			h->mss = (uint16_t)(o[2] << 8 | o[3]);
		else if (o[0] == 3 && o[1] == 3)
			h->scale = (int8_t)RTE_MIN(o[2], 14); /* RFC 7323 section 2.3 */
		else if (o[0] == 4 && o[1] == 2)
			h->sack = true;
		else if (o[0] == 8 && o[1] == 10) {
			h->timestamps = true;
			h->ts_val = be32(o + 2);
			h->ts_ecr = be32(o + 6);
		}
		o += o[1];
	}
	return true;
}

/* `seq` is the number of the client's SYN. */
static uint64_t
mac(const struct fw_cookies *c, const struct fw_pkt *pk, uint32_t seq, uint8_t bits,
    bool timestamps, uint64_t period)
{
	uint64_t in[8] = { 0 };
	struct pk_addr src, dst;
	uint16_t sport, dport;

	fw_pkt_addrs(pk, &src, &dst);
	fw_pkt_ports(pk, &sport, &dport);
	memcpy(&in[0], src.bytes, 16);
	memcpy(&in[2], dst.bytes, 16);
	in[4] = (uint64_t)sport << 48 | (uint64_t)dport << 32 | seq;
	in[5] = (uint64_t)pk->key.vrf << 32 | (uint64_t)pk->key.wire << 16 | pk->key.family;
	in[6] = (uint64_t)bits << 8 | timestamps;
	in[7] = period;
	return fw_siphash(c->key, in, 8);
}

struct fw_cookie
fw_cookie_make(struct fw_cookies *c, const struct fw_pkt *pk, struct fw_hello *h, uint64_t now_ns)
{
	uint64_t period = now_ns / FW_COOKIE_PERIOD_NS, m;
	unsigned int mss = 7, scale = 7;
	uint8_t bits;

	while (mss > 0 && mss_table[mss] > h->mss)
		mss--;
	while (scale_table[scale] > h->scale)
		scale--;
	h->mss = mss_table[mss];
	h->scale = scale_table[scale];
	bits = (uint8_t)(mss << 5 | scale << 2 | (unsigned int)h->sack << 1 | (period & 1));
	m = mac(c, pk, pk->seq, bits, h->timestamps, period);
	c->used_ns = (period + 2) * FW_COOKIE_PERIOD_NS;
	return (struct fw_cookie){ .seq = (uint32_t)(m >> 40) << 8 | bits, .ts = (uint32_t)m };
}

bool
fw_cookie_check(
    const struct fw_cookies *c, const struct fw_pkt *pk, struct fw_hello *h, uint64_t now_ns)
{
	uint64_t period = now_ns / FW_COOKIE_PERIOD_NS, m;
	uint32_t cookie = pk->ack - 1;
	uint8_t bits = (uint8_t)cookie;

	if (now_ns >= c->used_ns || !fw_hello_read(pk, h))
		return false;
	if ((bits & 1) != (period & 1))
		period--;
	m = mac(c, pk, pk->seq - 1, bits, h->timestamps, period);
	if ((uint32_t)(m >> 40) != cookie >> 8 || (h->timestamps && h->ts_ecr != (uint32_t)m))
		return false;
	h->mss = mss_table[bits >> 5];
	h->scale = scale_table[bits >> 2 & 7];
	h->sack = (bits & 2) != 0;
	return true;
}
