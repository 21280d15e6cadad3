#include "fw/own.h"

#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <rte_ether.h>
#include <rte_mbuf.h>
#include <uthash.h>

#include "fw/relay.h"
#include "lib/clock.h"
#include "lib/log.h"

#define DRAIN_MS     2
#define DRAIN_FRAMES 256                /* in a turn */
#define ASK_NS       PK_NS_PER_S        /* between two questions about one neighbour */
#define KNOWN_NS     (60 * PK_NS_PER_S) /* then it is asked again, and believed until it answers */
#define SAS_NS       PK_NS_PER_S        /* between two looks at where SAs go */
#define NEIGHBOURS   4096
#define WAITING      4 /* frames for one neighbour */

struct neighbour_key {
	struct pk_addr addr;
	uint32_t vrf;
	uint16_t wire, zero;
};

struct neighbour {
	struct neighbour_key key;
	uint8_t mac[6];
	bool known;
	uint64_t known_ns, asked_ns;
	unsigned int nb_waiting;
	struct rte_mbuf *waiting[WAITING];
	UT_hash_handle hh;
};

struct fw_own {
	struct fw_esp *esp;
	struct fw_workers *workers;
	struct rte_mempool *pool;
	fw_own_ike *ike;
	void *arg;
	struct event *timer;
	struct neighbour *neighbours;
	uint64_t sas_ns;
	uint16_t id; /* of IPv4 packets */
};

static uint16_t
be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void
put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* ---- frames ---- */

static void
send_frame(struct fw_own *o, const struct fw_local *l, struct rte_mbuf *m)
{
	unsigned int w = fw_workers_sender(o->workers, l->wire, FW_OUTSIDE);

	m->port = fw_relay_mark(l->wire, FW_OUTSIDE);
	if (rte_ring_sp_enqueue(o->esp->down[w], m) != 0)
		rte_pktmbuf_free(m);
}

/* A frame from `l` to `mac` with room for `len` bytes behind its link header, which *at points to. */
static struct rte_mbuf *
make_frame(struct fw_own *o, const struct fw_local *l, const uint8_t *mac, uint16_t type,
    uint32_t len, uint8_t **at)
{
	uint32_t link = l->vrf != 0 ? 18 : 14;
	struct rte_mbuf *m = rte_pktmbuf_alloc(o->pool);
	uint8_t *f;

	if (m == NULL)
		return NULL;
	f = len + link <= rte_pktmbuf_tailroom(m)
	    ? (uint8_t *)rte_pktmbuf_append(m, (uint16_t)(link + len))
	    : NULL;
	if (f == NULL) {
		rte_pktmbuf_free(m);
		return NULL;
	}
	memset(f, 0, link + len);
	memcpy(f, mac, 6);
	memcpy(f + 6, l->mac, 6);
	if (l->vrf != 0) {
		put16(f + 12, RTE_ETHER_TYPE_VLAN);
		put16(f + 14, l->vrf);
	}
	put16(f + link - 2, type);
	*at = f + link;
	return m;
}

/* An IP packet of `len` bytes behind its header. */
static struct rte_mbuf *
make_ip(struct fw_own *o, const struct fw_local *l, const uint8_t *mac, const struct pk_addr *dst,
    uint8_t proto, uint8_t tos, uint8_t hops, uint32_t len, uint8_t **l4)
{
	bool v4 = dst->family == 4;
	uint32_t head = v4 ? 20 : 40;
	uint8_t *ip;
	struct rte_mbuf *m =
	    make_frame(o, l, mac, v4 ? RTE_ETHER_TYPE_IPV4 : RTE_ETHER_TYPE_IPV6, head + len, &ip);
	uint16_t sum;

	if (m == NULL)
		return NULL;
	if (v4) {
		ip[0] = 0x45;
		ip[1] = tos;
		put16(ip + 2, head + len);
		put16(ip + 4, ++o->id);
		ip[8] = hops;
		ip[9] = proto;
		memcpy(ip + 12, l->addr.bytes, 4);
		memcpy(ip + 16, dst->bytes, 4);
		sum = (uint16_t)~fw_sum_fold(fw_sum(ip, 20, 0));
		memcpy(ip + 10, &sum, 2);
	} else {
		put16(ip, 0x6000u | (uint32_t)tos << 4);
		put16(ip + 4, len);
		ip[6] = proto;
		ip[7] = hops;
		memcpy(ip + 8, l->addr.bytes, 16);
		memcpy(ip + 24, dst->bytes, 16);
	}
	*l4 = ip + head;
	return m;
}

/* The checksum of an L4 message of `len` bytes over IPv6, or UDP over either, into `field`. */
static void
finish(const struct rte_mbuf *m, uint8_t family, uint8_t proto, uint8_t *l4, uint32_t len,
    uint8_t *field)
{
	const uint8_t *f = rte_pktmbuf_mtod(m, const uint8_t *);
	struct fw_pkt pk = { .data = f,
		.l3 = (uint16_t)(l4 - f - (family == 4 ? 20 : 40)),
		.key = { .family = family } };
	uint16_t sum = (uint16_t)~fw_sum_fold(fw_sum(l4, len, fw_sum_pseudo(&pk, proto, len)));

	if (sum == 0 && proto == IPPROTO_UDP)
		sum = 0xffff;
	memcpy(field, &sum, 2);
}

/* ---- neighbours ---- */

static struct neighbour *
find_neighbour(struct fw_own *o, const struct fw_local *l, const struct pk_addr *addr, bool make)
{
	struct neighbour_key key;
	struct neighbour *n;

	memset(&key, 0, sizeof(key));
	key.addr = *addr;
	key.vrf = l->vrf;
	key.wire = l->wire;
	HASH_FIND(hh, o->neighbours, &key, sizeof(key), n);
	if (n != NULL || !make || HASH_COUNT(o->neighbours) >= NEIGHBOURS)
		return n;
	n = calloc(1, sizeof(*n));
	if (n == NULL)
		return NULL;
	n->key = key;
	HASH_ADD(hh, o->neighbours, key, sizeof(key), n);
	return n;
}

/* Who has it?  ARP (RFC 826), neighbour solicitation (RFC 4861 section 4.3). */
static void
ask(struct fw_own *o, const struct fw_local *l, struct neighbour *n, uint64_t now_ns)
{
	static const uint8_t everybody[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	const struct pk_addr *addr = &n->key.addr;
	struct rte_mbuf *m;
	uint8_t *p;

	if (n->asked_ns != 0 && now_ns - n->asked_ns < ASK_NS)
		return;
	n->asked_ns = now_ns;
	if (addr->family == 4) {
		static const uint8_t head[8] = { 0, 1, 8, 0, 6, 4, 0, 1 };

		m = make_frame(o, l, everybody, RTE_ETHER_TYPE_ARP, 28, &p);
		if (m == NULL)
			return;
		memcpy(p, head, sizeof(head));
		memcpy(p + 8, l->mac, 6);
		memcpy(p + 14, l->addr.bytes, 4);
		memcpy(p + 24, addr->bytes, 4);
	} else {
		uint8_t mac[6] = { 0x33, 0x33, 0xff, addr->bytes[13], addr->bytes[14],
			addr->bytes[15] };
		struct pk_addr group = { .family = 6, .bytes = { 0xff, 2 } };

		group.bytes[11] = 1;
		group.bytes[12] = 0xff;
		memcpy(group.bytes + 13, addr->bytes + 13, 3);
		m = make_ip(o, l, mac, &group, IPPROTO_ICMPV6, 0, 255, 32, &p);
		if (m == NULL)
			return;
		p[0] = ND_NEIGHBOR_SOLICIT;
		memcpy(p + 8, addr->bytes, 16);
		p[24] = ND_OPT_SOURCE_LINKADDR;
		p[25] = 1;
		memcpy(p + 26, l->mac, 6);
		finish(m, 6, IPPROTO_ICMPV6, p, 32, p + 2);
	}
	send_frame(o, l, m);
}

/* Where packets from `l` to `dst` go first. */
static const struct pk_addr *
next_hop(const struct fw_local *l, const struct pk_addr *dst)
{
	struct pk_prefix link = { .addr = l->addr, .len = l->prefix_len };

	for (unsigned int bit = link.len; bit < pk_addr_bits(&link.addr); bit++)
		link.addr.bytes[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
	if (l->gateway.family == 0 || pk_prefix_contains(&link, dst))
		return dst;
	return &l->gateway;
}

/* One that is known, or NULL, and then it is being asked for. */
static struct neighbour *
resolve(struct fw_own *o, const struct fw_local *l, const struct pk_addr *dst, uint64_t now_ns,
    struct neighbour **unknown)
{
	struct neighbour *n = find_neighbour(o, l, next_hop(l, dst), true);

	*unknown = n;
	if (n == NULL)
		return NULL;
	if (!n->known || now_ns - n->known_ns >= KNOWN_NS)
		ask(o, l, n, now_ns);
	return n->known ? n : NULL;
}

static void
learn(struct fw_own *o, const struct fw_local *l, const struct pk_addr *addr, const uint8_t *mac)
{
	/* Only what we have asked for: nobody fills our table, or takes another's place unasked. */
	struct neighbour *n = find_neighbour(o, l, addr, false);

	if (n == NULL || (mac[0] & 1) != 0)
		return;
	memcpy(n->mac, mac, 6);
	n->known = true;
	n->known_ns = pk_clock_mono_ns();
	for (unsigned int i = 0; i < n->nb_waiting; i++) {
		memcpy(rte_pktmbuf_mtod(n->waiting[i], uint8_t *), mac, 6);
		send_frame(o, l, n->waiting[i]);
	}
	n->nb_waiting = 0;
	o->sas_ns = 0;
}

static void
take_arp(struct fw_own *o, const struct fw_local *l, const uint8_t *p)
{
	struct pk_addr sender = { .family = 4 };
	struct rte_mbuf *m;
	uint8_t *q;

	if (be16(p) != 1 || be16(p + 2) != RTE_ETHER_TYPE_IPV4 || p[4] != 6 || p[5] != 4)
		return;
	memcpy(sender.bytes, p + 14, 4);
	learn(o, l, &sender, p + 8);
	if (be16(p + 6) != 1)
		return;
	m = make_frame(o, l, p + 8, RTE_ETHER_TYPE_ARP, 28, &q);
	if (m == NULL)
		return;
	memcpy(q, p, 6);
	put16(q + 6, 2);
	memcpy(q + 8, l->mac, 6);
	memcpy(q + 14, l->addr.bytes, 4);
	memcpy(q + 18, p + 8, 10);
	send_frame(o, l, m);
}

static void
take_nd(
    struct fw_own *o, const struct fw_local *l, const uint8_t *ip, const uint8_t *p, uint32_t len)
{
	struct pk_addr addr = { .family = 6 };
	const uint8_t *mac = NULL;
	struct rte_mbuf *m;
	uint8_t *q;

	/* RFC 4861, section 7.1: from the link, and of the right form. */
	if (ip[7] != 255 || len < 24 || p[1] != 0)
		return;
	for (uint32_t at = 24; at + 8 <= len && p[at + 1] != 0; at += p[at + 1] * 8u)
		if ((p[at] == ND_OPT_SOURCE_LINKADDR || p[at] == ND_OPT_TARGET_LINKADDR) &&
		    p[at + 1] == 1)
			mac = p + at + 2;
	if (mac == NULL)
		return;
	memcpy(addr.bytes, p[0] == ND_NEIGHBOR_SOLICIT ? ip + 8 : p + 8, 16);
	learn(o, l, &addr, mac);
	if (p[0] != ND_NEIGHBOR_SOLICIT)
		return;
	m = make_ip(o, l, mac, &addr, IPPROTO_ICMPV6, 0, 255, 32, &q);
	if (m == NULL)
		return;
	q[0] = ND_NEIGHBOR_ADVERT;
	q[4] = 0x60; /* solicited, override */
	memcpy(q + 8, l->addr.bytes, 16);
	q[24] = ND_OPT_TARGET_LINKADDR;
	q[25] = 1;
	memcpy(q + 26, l->mac, 6);
	finish(m, 6, IPPROTO_ICMPV6, q, 32, q + 2);
	send_frame(o, l, m);
}

/* ---- what else there is ---- */

static struct fw_local *
local_of(struct fw_own *o, uint16_t wire, uint32_t vrf, const struct pk_addr *addr)
{
	return (struct fw_local *)(uintptr_t)fw_esp_local(
	    o->esp, wire, vrf, addr->family, addr->bytes);
}

/*
 * A router could not pass on one of our ESP packets.  What it quotes has to name an outbound SA and its addresses; whoever
 * can make that up has seen the tunnel's packets, and can do no worse than make ours as short as any link takes.
 */
static void
take_too_big(
    struct fw_own *o, const struct pk_addr *us, const uint8_t *quote, uint32_t len, uint32_t mtu)
{
	struct pk_addr dst = { .family = us->family };
	uint32_t head, at, spi, cursor = 0;
	struct esp_sa_info info;
	uint8_t proto;

	if (len < (us->family == 4 ? 28u : 48u) || quote[0] >> 4 != us->family)
		return;
	head = us->family == 4 ? (uint32_t)(quote[0] & 15) * 4 : 40;
	proto = us->family == 4 ? quote[9] : quote[6];
	memcpy(dst.bytes, quote + (us->family == 4 ? 16 : 24), us->family == 4 ? 4 : 16);
	at = head + (proto == IPPROTO_UDP ? 8u : 0u);
	if ((proto != IPPROTO_ESP && proto != IPPROTO_UDP) || at + 4 > len)
		return;
	memcpy(&spi, quote + at, 4);
	spi = rte_be_to_cpu_32(spi);
	while (esp_sad_next(o->esp->sad, &cursor, 0, &info) == 0)
		if (info.direction == PK_SADB_OUT && info.id.spi == spi &&
		    pk_addr_compare(&info.id.dst, &dst) == 0 &&
		    pk_addr_compare(&info.id.src, us) == 0)
			esp_sa_learn_mtu(esp_sad_at(o->esp->sad, info.index),
			    (uint16_t)PK_MIN(mtu, (uint32_t)UINT16_MAX));
}

static void
take_udp(struct fw_own *o, const struct fw_local *l, const struct pk_addr *src, uint8_t tos,
    const uint8_t *udp, uint32_t len)
{
	struct pk_sadb_ike ike = { .src = *src,
		.dst = l->addr,
		.sport = be16(udp),
		.dport = be16(udp + 2),
		.wire = l->wire,
		.dscp = tos >> 2,
		.ecn = tos & 3,
		.vrf = l->vrf };
	uint32_t skip = ike.dport == 4500 ? 12 : 8;

	if (len < skip + 28 || be16(udp + 4) < skip || be16(udp + 4) > len || ike.sport == 0 ||
	    (ike.dport != 500 && ike.dport != 4500))
		return;
	o->ike(o->arg, &ike, udp + skip, be16(udp + 4) - skip);
}

static void
take_frame(struct fw_own *o, const struct rte_mbuf *m)
{
	const uint8_t *f = rte_pktmbuf_mtod(m, const uint8_t *), *ip, *l4;
	uint16_t wire = fw_relay_wire(m->port);
	uint32_t vrf = (m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0 ? m->vlan_tci & 0xfffu : 0;
	uint32_t l3 = 14, head, len;
	struct pk_addr src = { 0 }, dst = { 0 };
	const struct fw_local *l;
	uint8_t proto;

	/* Lengths have been looked at in fw/path_unprotect.c. */
	if (be16(f + 12) == RTE_ETHER_TYPE_VLAN) {
		vrf = be16(f + 14) & 0xfff;
		l3 = 18;
	}
	ip = f + l3;
	if (be16(ip - 2) == RTE_ETHER_TYPE_ARP) {
		dst.family = 4;
		memcpy(dst.bytes, ip + 24, 4);
		l = local_of(o, wire, vrf, &dst);
		if (l != NULL)
			take_arp(o, l, ip);
		return;
	}
	src.family = dst.family = ip[0] >> 4;
	if (dst.family == 4) {
		head = (uint32_t)(ip[0] & 15) * 4;
		len = be16(ip + 2) - head;
		proto = ip[9];
		memcpy(src.bytes, ip + 12, 4);
		memcpy(dst.bytes, ip + 16, 4);
	} else {
		head = 40;
		len = be16(ip + 4);
		proto = ip[6];
		memcpy(src.bytes, ip + 8, 16);
		memcpy(dst.bytes, ip + 24, 16);
	}
	l4 = ip + head;
	if (proto == IPPROTO_ICMPV6 && len >= 24 &&
	    (l4[0] == ND_NEIGHBOR_SOLICIT || l4[0] == ND_NEIGHBOR_ADVERT)) {
		if (l4[0] == ND_NEIGHBOR_SOLICIT)
			memcpy(dst.bytes, l4 + 8, 16);
		l = local_of(o, wire, vrf, &dst);
		if (l != NULL)
			take_nd(o, l, ip, l4, len);
		return;
	}
	l = local_of(o, wire, vrf, &dst);
	if (l == NULL)
		return;
	if (proto == IPPROTO_UDP && len >= 8)
		take_udp(o, l, &src, dst.family == 4 ? ip[1] : (uint8_t)(be16(ip) >> 4), l4, len);
	else if (proto == IPPROTO_ICMP && len >= 8 && l4[0] == ICMP_DEST_UNREACH &&
	    l4[1] == ICMP_FRAG_NEEDED)
		take_too_big(o, &dst, l4 + 8, len - 8, be16(l4 + 6));
	else if (proto == IPPROTO_ICMPV6 && len >= 8 && l4[0] == ICMP6_PACKET_TOO_BIG)
		take_too_big(o, &dst, l4 + 8, len - 8, (uint32_t)be16(l4 + 4) << 16 | be16(l4 + 6));
}

int
fw_own_send_ike(struct fw_own *o, const struct pk_sadb_ike *ike, const uint8_t *bytes, uint32_t len)
{
	static const uint8_t nowhere[6];
	const struct fw_local *l = local_of(o, ike->wire, ike->vrf, &ike->src);
	/* RFC 3948, section 2.3: a keepalive is a byte of ones, without a marker. */
	bool keepalive = len == 1 && bytes[0] == 0xff;
	uint32_t marker = ike->sport == 4500 && !keepalive ? 4 : 0;
	uint32_t around = ike->src.family == 4 ? 28 : 48;
	uint64_t now_ns = pk_clock_mono_ns();
	struct neighbour *n, *unknown;
	struct rte_mbuf *m;
	uint8_t *udp;

	if (l == NULL)
		return -EADDRNOTAVAIL;
	if (around + marker + len > l->mtu)
		return -EMSGSIZE;
	n = resolve(o, l, &ike->dst, now_ns, &unknown);
	m = make_ip(o, l, n != NULL ? n->mac : nowhere, &ike->dst, IPPROTO_UDP,
	    (uint8_t)(ike->dscp << 2 | ike->ecn), 64, 8 + marker + len, &udp);
	if (m == NULL)
		return -ENOBUFS;
	put16(udp, ike->sport);
	put16(udp + 2, ike->dport);
	put16(udp + 4, 8 + marker + len);
	memcpy(udp + 8 + marker, bytes, len);
	finish(m, ike->src.family, IPPROTO_UDP, udp, 8 + marker + len, udp + 6);
	if (n != NULL) {
		send_frame(o, l, m);
	} else if (unknown != NULL && unknown->nb_waiting < WAITING) {
		unknown->waiting[unknown->nb_waiting++] = m;
	} else {
		rte_pktmbuf_free(m);
		return -ENOBUFS;
	}
	return 0;
}

/* Outer packets go to the next hop's MAC address from ours; until that is known they keep those of what is inside,
 * which lead to the same place where both ends are on one link. */
static void
address_sas(struct fw_own *o, uint64_t now_ns)
{
	struct esp_sa_info info;
	uint32_t cursor = 0;

	while (esp_sad_next(o->esp->sad, &cursor, 0, &info) == 0) {
		const struct fw_local *l;
		struct neighbour *n, *unknown;
		uint8_t mac[12];

		if (info.direction != PK_SADB_OUT || info.state != ESP_STATE_ALIVE)
			continue;
		l = local_of(o, (uint16_t)info.wire, info.vrf, &info.id.src);
		if (l == NULL)
			continue;
		n = resolve(o, l, &info.id.dst, now_ns, &unknown);
		if (n == NULL)
			continue;
		memcpy(mac, n->mac, 6);
		memcpy(mac + 6, l->mac, 6);
		esp_sad_set_mac(o->esp->sad, info.index, mac);
	}
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct fw_own *o = arg;
	uint64_t now_ns = pk_clock_mono_ns();
	struct rte_mbuf *m;

	(void)fd;
	(void)what;
	for (unsigned int k = 0; k < DRAIN_FRAMES; k++) {
		if (rte_ring_sc_dequeue(o->esp->up, (void **)&m) != 0)
			break;
		take_frame(o, m);
		rte_pktmbuf_free(m);
	}
	if (now_ns - o->sas_ns >= SAS_NS) {
		o->sas_ns = now_ns;
		address_sas(o, now_ns);
	}
}

int
fw_own_create(struct fw_own **out, struct event_base *base, struct fw_esp *esp,
    struct fw_workers *workers, struct rte_mempool *pool, fw_own_ike *ike, void *arg)
{
	static const struct timeval period = { .tv_usec = DRAIN_MS * 1000 };
	struct fw_own *o = calloc(1, sizeof(*o));

	if (o == NULL)
		return -ENOMEM;
	*o =
	    (struct fw_own){ .esp = esp, .workers = workers, .pool = pool, .ike = ike, .arg = arg };
	o->timer = event_new(base, -1, EV_PERSIST, on_timer, o);
	if (o->timer == NULL || event_add(o->timer, &period) != 0) {
		fw_own_destroy(o);
		return -ENOMEM;
	}
	*out = o;
	return 0;
}

void
fw_own_destroy(struct fw_own *o)
{
	struct neighbour *n, *next;

	if (o == NULL)
		return;
	if (o->timer != NULL)
		event_free(o->timer);
	HASH_ITER(hh, o->neighbours, n, next)
	{
		rte_pktmbuf_free_bulk(n->waiting, n->nb_waiting);
		HASH_DEL(o->neighbours, n);
		free(n);
	}
	free(o);
}

int
fw_local_parse(struct fw_local *out, const char *text, struct pk_diag *diag)
{
	char addr[64], word[16], value[64];
	const char *at = text;
	struct pk_diag why;
	unsigned int wire, len;
	char *slash;
	int used = 0;

	memset(out, 0, sizeof(*out));
	if (sscanf(at, "%u %63s%n", &wire, addr, &used) != 2 || wire >= FW_WIRES_MAX ||
	    (slash = strchr(addr, '/')) == NULL || sscanf(slash + 1, "%u", &len) != 1)
		goto bad;
	*slash = '\0';
	if (pk_addr_parse(&out->addr, addr, &why) < 0 || len > pk_addr_bits(&out->addr))
		goto bad;
	out->wire = (uint16_t)wire;
	out->prefix_len = (uint8_t)len;
	for (at += used; sscanf(at, " %15s %63s%n", word, value, &used) == 2; at += used) {
		if (strcmp(word, "vlan") == 0 && sscanf(value, "%u", &out->vrf) == 1 &&
		    out->vrf > 0 && out->vrf < 4095)
			continue;
		if (strcmp(word, "gateway") == 0 &&
		    pk_addr_parse(&out->gateway, value, &why) == 0 &&
		    out->gateway.family == out->addr.family)
			continue;
		goto bad;
	}
	if (at[strspn(at, " ")] == '\0')
		return 0;
bad:
	pk_diag_set(diag,
	    "ipsec-address = %s: want WIRE ADDRESS/LENGTH [vlan ID] [gateway ADDRESS], such as 0 192.0.2.1/24 gateway 192.0.2.254",
	    text);
	return -EINVAL;
}
