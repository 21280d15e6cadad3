#include "fw/sample.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_mbuf.h>

#include "fw/bytes.h"
#include "fw/filter.h"
#include "fw/parse.h"

#define APART_SHIFT 20 /* samples of a reason are 2^20 ns apart at least */

struct entry {
	_Atomic uint32_t version; /* 0: there is none; odd: being written */
	struct fw_sample sample;
} PK_CACHE_ALIGNED;

struct fw_samples {
	const struct fw_overlay *overlay;
	struct entry entry[FW_DROP_COUNT];
};

int
fw_samples_create(struct fw_samples **out, const struct fw_overlay *overlay)
{
	*out = aligned_alloc(PK_CACHE_LINE, sizeof(**out));
	if (*out == NULL)
		return -ENOMEM;
	memset(*out, 0, sizeof(**out));
	(*out)->overlay = overlay;
	return 0;
}

void
fw_samples_destroy(struct fw_samples *t)
{
	free(t);
}

static void
write_sample(
    struct entry *e, const struct rte_mbuf *m, uint16_t wire, enum fw_side from, uint64_t now_ns)
{
	uint32_t v = atomic_load_explicit(&e->version, memory_order_relaxed);
	struct fw_sample *s = &e->sample;

	atomic_store_explicit(&e->version, v + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	s->time_ns = now_ns;
	s->len = m->pkt_len;
	s->nb = (uint16_t)RTE_MIN(m->data_len, FW_SAMPLE_BYTES);
	s->wire = wire;
	s->from = (uint8_t)from;
	memcpy(s->bytes, rte_pktmbuf_mtod(m, const void *), s->nb);
	/* 0 would be none. */
	atomic_store_explicit(&e->version, v + 2 != 0 ? v + 2 : 2, memory_order_release);
}

void
fw_samples_note(struct fw_samples *t, enum fw_drop why, const struct rte_mbuf *m, uint16_t wire,
    enum fw_side from, uint64_t now_ns)
{
	struct entry *e = &t->entry[why];

	if (likely(e->sample.time_ns >> APART_SHIFT == now_ns >> APART_SHIFT) &&
	    atomic_load_explicit(&e->version, memory_order_relaxed) != 0)
		return;
	write_sample(e, m, wire, from, now_ns);
}

bool
fw_samples_read(const struct fw_samples *t, enum fw_drop why, struct fw_sample *out)
{
	const struct entry *e = &t->entry[why];
	uint32_t v;

	/* It is written once in a millisecond, so the second try is as good as certain. */
	for (unsigned int tries = 0; tries < 100; tries++) {
		v = atomic_load_explicit(&e->version, memory_order_acquire);
		if (v == 0)
			return false;
		if (v % 2 != 0)
			continue;
		*out = e->sample;
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load_explicit(&e->version, memory_order_relaxed) == v)
			return true;
	}
	return false;
}

/* ---- in words ---- */

/* " SA" for SYN and ACK, in tcpdump's letters; nothing for other protocols. */
static const char *
flags_text(const struct fw_pkt *pk, char buf[8])
{
	static const char letters[] = "FSRPAU";
	unsigned int n = 0;

	if (pk->l4_proto == IPPROTO_TCP && pk->l4_len != 0) {
		buf[n++] = ' ';
		for (unsigned int i = 0; i < 6; i++)
			if ((pk->tcp_flags & 1u << i) != 0)
				buf[n++] = letters[i];
	}
	buf[n] = '\0';
	return buf;
}

/* An address with its port, if the protocol has some. */
static const char *
end_text(const struct pk_addr *a, uint16_t port, bool ported, char buf[PK_ADDR_TEXT + 8])
{
	char addr[PK_ADDR_TEXT];

	pk_addr_text(a, addr);
	if (!ported)
		snprintf(buf, PK_ADDR_TEXT + 8, "%s", addr);
	else if (a->family == 6)
		snprintf(buf, PK_ADDR_TEXT + 8, "[%s]:%u", addr, port);
	else
		snprintf(buf, PK_ADDR_TEXT + 8, "%s:%u", addr, port);
	return buf;
}

const char *
fw_sample_text(const struct fw_samples *t, const struct fw_sample *s, char buf[FW_SAMPLE_TEXT])
{
	const uint8_t *b = s->bytes;
	struct pk_addr src, dst;
	uint16_t sport, dport;
	struct fw_pkt pk;
	int n;

	n = snprintf(buf, FW_SAMPLE_TEXT,
	    "%s of wire %u: ", s->from == FW_INSIDE ? "inside" : "outside", s->wire);
	memset(&pk, 0, sizeof(pk));
	(void)fw_parse(&pk, b, s->nb, s->len, 0, t->overlay);
	fw_pkt_addrs(&pk, &src, &dst);
	fw_pkt_ports(&pk, &sport, &dport);
	if (pk.kind == FW_KIND_ARP) {
		char sender[PK_ADDR_TEXT], target[PK_ADDR_TEXT];

		snprintf(buf + n, FW_SAMPLE_TEXT - (size_t)n, "ARP, %s to %s, %u bytes",
		    pk_addr_text(&src, sender), pk_addr_text(&dst, target), s->len);
	} else if (src.family != 0) {
		bool ported = pk.l4_len != 0 && pk.l4_proto != IPPROTO_ICMP &&
		    pk.l4_proto != IPPROTO_ICMPV6;
		char from[PK_ADDR_TEXT + 8], to[PK_ADDR_TEXT + 8], proto[8], flags[8],
		    icmp[24] = "";

		if (!ported && pk.l4_len != 0)
			snprintf(icmp, sizeof(icmp), " type %u code %u", pk.selector >> 8,
			    pk.selector & 0xff);
		snprintf(buf + n, FW_SAMPLE_TEXT - (size_t)n, "%s > %s %s%s%s%s, %u bytes",
		    end_text(&src, sport, ported, from), end_text(&dst, dport, ported, to),
		    fw_proto_name(pk.l4_proto, proto), flags_text(&pk, flags), icmp,
		    pk.fragment ? " fragment" : "", s->len);
	} else if (s->nb >= 14) {
		snprintf(buf + n, FW_SAMPLE_TEXT - (size_t)n,
		    "%02x:%02x:%02x:%02x:%02x:%02x > %02x:%02x:%02x:%02x:%02x:%02x type 0x%04x, "
		    "%u bytes",
		    b[6], b[7], b[8], b[9], b[10], b[11], b[0], b[1], b[2], b[3], b[4], b[5],
		    fw_be16(b + 12), s->len);
	} else {
		snprintf(
		    buf + n, FW_SAMPLE_TEXT - (size_t)n, "%u bytes, less than a frame", s->len);
	}
	return buf;
}
