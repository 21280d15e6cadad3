/*
 * Signatures as the packet path runs them: a session of segments or datagrams, in a heap of fixed size, made small and
 * woken, ended at any moment; every buffer is looked into, so every parser is at work.
 *
 * Input: the protocol and the port, then pieces: what happens, two bytes of length, bytes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dpi/watch.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

enum {
	FROM_SERVER = 1 << 0,
	FIN = 1 << 1,
	RST = 1 << 2,
	AGAIN = 1 << 3,   /* begins some bytes before what has been sent */
	AHEAD = 1 << 4,   /* leaves a hole */
	SILENCE = 1 << 5, /* comes after the session has been made small */
	OLD_ACK = 1 << 6,
	FILL = 1 << 7, /* repeats its bytes up to a full segment */
};

#define MEMORY  (8u << 20)
#define SEGMENT 1448

static char *
rules(void)
{
	static const char contents[] = "content:\"e\"; content:\"vil\"; distance:0";
	size_t room = DPI_NB_BUFS * 256 + 1024, at = 0;
	char *text = malloc(room);

	PK_ASSERT(text != NULL);
	for (unsigned int b = 2; b < DPI_NB_BUFS; b++)
		if (strchr(dpi_buf_info[b].name, ' ') == NULL)
			at += (size_t)snprintf(text + at, room - at,
			    "alert ip any any -> any any (%s; content:\"evil\"; %s; sid:%u;)\n",
			    dpi_buf_info[b].name, contents, b);
	snprintf(text + at, room - at,
	    "alert tcp any any -> any any (content:\"evil\"; pcre:\"/e.*l/R\"; flowbits:set,x; sid:1000;)\n"
	    "drop tcp any any -> any any (flowbits:isset,x; content:\"worst\"; sid:1001;)\n"
	    "alert udp any any -> any any (content:\"evil\"; sid:1002;)\n");
	return text;
}

static struct dpi_watches *
start(void)
{
	struct dpi_watch_conf conf = { .memory = MEMORY, .bytes = 1 << 18, .seed = 1 };
	struct dpi_watch_set *k;
	struct dpi_watches *w;
	struct dpi_vars *vars;
	struct dpi_set *set;
	struct pk_diag diag;
	char *text = rules();

	PK_ASSERT(dpi_vars_create(&vars) == 0 && dpi_set_create(&set, vars) == 0 &&
	    dpi_set_add(set, "fuzz", text, strlen(text), NULL, &diag) > 20 &&
	    dpi_set_finish(set, &diag) == 0 && dpi_watches_create(&w, &conf) == 0 &&
	    dpi_watch_set_create(&k, w, set) == 0);
	dpi_watches_use(w, k);
	free(text);
	return w;
}

/* An IPv4 packet in one piece of the heap, so that a sanitizer sees a byte read beyond it. */
static uint8_t *
packet(
    const struct dpi_watch_packet *p, uint8_t proto, const uint16_t port[2], const uint8_t *payload)
{
	uint32_t head = proto == 6 ? 40 : 28;
	uint8_t *ip = calloc(1, head + p->payload);

	PK_ASSERT(ip != NULL);
	ip[0] = 0x45;
	ip[2] = (uint8_t)((head + p->payload) >> 8);
	ip[3] = (uint8_t)(head + p->payload);
	ip[8] = 64;
	ip[9] = proto;
	memcpy(ip + 12,
	    p->dir == 0 ? "\xc0\x00\x02\x01\xc6\x33\x64\x01" : "\xc6\x33\x64\x01\xc0\x00\x02\x01",
	    8);
	for (unsigned int i = 0; i < 2; i++) {
		ip[20 + 2 * i] = (uint8_t)(port[p->dir ^ i] >> 8);
		ip[21 + 2 * i] = (uint8_t)port[p->dir ^ i];
	}
	if (proto == 6) {
		for (unsigned int i = 0; i < 4; i++) {
			ip[24 + i] = (uint8_t)(p->seq >> 8 * (3 - i));
			ip[28 + i] = (uint8_t)(p->ack >> 8 * (3 - i));
		}
		ip[32] = 0x50;
		ip[33] = p->tcp_flags;
	} else {
		ip[24] = (uint8_t)((8 + p->payload) >> 8);
		ip[25] = (uint8_t)(8 + p->payload);
	}
	if (p->payload > 0)
		memcpy(ip + head, payload, p->payload);
	return ip;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static const uint16_t known[] = { 80, 443, 53, 25, 21, 22, 445, 135, 1883, 20 };
	static struct dpi_watches *w;
	static uint64_t now = PK_NS_PER_S;
	const struct pk_addr addr[2] = { { .family = 4, .bytes = { 192, 0, 2, 1 } },
		{ .family = 4, .bytes = { 198, 51, 100, 1 } } };
	uint16_t port[2] = { 40000, 80 };
	uint32_t next[2] = { 0xfffffff0, 7000 };
	struct dpi_watch_stats before, after;
	struct dpi_watch *e;
	uint8_t proto;

	if (len < 2)
		return 0;
	if (w == NULL)
		w = start();
	proto = bytes[0] & 1 ? 17 : 6;
	port[1] = known[bytes[1] % PK_COUNT(known)];
	bytes += 2;
	len -= 2;
	dpi_watches_stats(w, &before);
	e = dpi_watch_begin(w, 1, addr, port, proto, false, now);
	PK_ASSERT(e != NULL);
	for (unsigned int d = 0; d < 2 && proto == 6; d++)
		dpi_watch_start(e, d, next[d]);
	while (len > 3 && e != NULL) {
		uint8_t op = bytes[0], payload[SEGMENT], *ip;
		uint32_t n = (uint32_t)(bytes[1] << 8 | bytes[2]) % (SEGMENT + 1), back;
		struct dpi_watch_packet p = { .dir = op & FROM_SERVER };
		enum dpi_watch_fate fate;

		bytes += 3;
		len -= 3;
		n = (uint32_t)PK_MIN((size_t)n, len);
		p.payload = op & FILL && n > 0 ? SEGMENT : n;
		for (uint32_t i = 0; i < p.payload; i++)
			payload[i] = bytes[i % n];
		back = op & AGAIN ? PK_MIN(p.payload, 7u) : op & AHEAD ? -100u : 0;
		p.seq = next[p.dir] - back;
		p.ack = next[!p.dir] - (op & OLD_ACK ? 50 : 0);
		p.tcp_flags = (uint8_t)(DPI_TCP_ACK | (op & FIN ? DPI_TCP_FIN : 0) |
		    (op & RST ? DPI_TCP_RST : 0));
		p.len = p.payload + (proto == 6 ? 40 : 28);
		p.ip = ip = packet(&p, proto, port, payload);
		now += PK_NS_PER_MS;
		if (op & SILENCE) {
			now += 2 * DPI_WATCH_REST_NS;
			dpi_watches_tick(w, now, 4);
		}
		fate = dpi_watch_packet(w, e, &p, now);
		if (fate == DPI_WATCH_PASS && !(op & (AHEAD | RST)))
			next[p.dir] += p.payload - (op & AGAIN ? back : 0);
		if (fate == DPI_WATCH_DONE || fate == DPI_WATCH_DROP || fate == DPI_WATCH_REJECT)
			e = NULL;
		free(ip);
		bytes += n;
		len -= n;
	}
	if (e != NULL)
		dpi_watch_end(w, e, now);
	dpi_watches_stats(w, &after);
	PK_ASSERT(after.sessions == 0 && after.bytes == before.bytes);
	return 0;
}
