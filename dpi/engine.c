#include "dpi/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dpi/defrag.h"

#define BUCKETS     65536
#define TUNNELS_MAX 4
#define IDLE_TCP_S  3600
#define IDLE_S      300

struct dpi_engine {
	struct dpi_engine_options options;
	struct dpi_engine_counts counts;
	struct dpi_detect *detect;
	struct dpi_defrag *defrag;
	struct dpi_expect expect;
	struct dpi_session *bucket[BUCKETS];
};

int
dpi_engine_create(
    struct dpi_engine **out, const struct dpi_set *set, const struct dpi_engine_options *o)
{
	struct dpi_engine *e = calloc(1, sizeof(*e));

	if (e == NULL)
		return -ENOMEM;
	e->options = *o;
	if (dpi_detect_create(&e->detect, set, &o->detect) < 0 ||
	    dpi_defrag_create(&e->defrag) < 0) {
		dpi_engine_destroy(e);
		return -ENOMEM;
	}
	*out = e;
	return 0;
}

void
dpi_engine_destroy(struct dpi_engine *e)
{
	if (e == NULL)
		return;
	for (unsigned int b = 0; b < BUCKETS; b++) {
		while (e->bucket[b] != NULL) {
			struct dpi_session *s = e->bucket[b];

			e->bucket[b] = s->next;
			dpi_session_fini(s);
			free(s);
		}
	}
	dpi_detect_destroy(e->detect);
	dpi_defrag_destroy(e->defrag);
	free(e);
}

const struct dpi_engine_counts *
dpi_engine_counts(const struct dpi_engine *e)
{
	return &e->counts;
}

const struct dpi_counts *
dpi_engine_detect_counts(const struct dpi_engine *e)
{
	return dpi_detect_counts(e->detect);
}

/* ---- sessions ---- */

static uint64_t
mix(uint64_t h, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;

	while (len-- > 0)
		h = (h ^ *p++) * 0x100000001b3u;
	return h;
}

static unsigned int
bucket_of(const struct dpi_frame *f)
{
	uint64_t a = mix(mix(1, f->src.bytes, 16), &f->sport, 2),
	         b = mix(mix(1, f->dst.bytes, 16), &f->dport, 2);
	uint64_t h = (a + b) ^ (a ^ b) << 7 ^ f->proto;

	h ^= h >> 32;
	return (unsigned int)((h ^ h >> 16) % BUCKETS);
}

static int
direction(const struct dpi_session *s, const struct dpi_frame *f, uint16_t sport, uint16_t dport)
{
	if (s->proto != f->proto || s->vlan != f->vlan)
		return -1;
	for (int d = 0; d < 2; d++)
		if (s->port[d] == sport && s->port[!d] == dport &&
		    pk_addr_compare(&s->addr[d], &f->src) == 0 &&
		    pk_addr_compare(&s->addr[!d], &f->dst) == 0)
			return d;
	return -1;
}

static struct dpi_session *
session_new(struct dpi_engine *e, const struct dpi_frame *f, unsigned int bucket, bool reversed)
{
	struct dpi_session *s = malloc(sizeof(*s));
	struct pk_addr addr[2];
	uint16_t port[2];

	if (s == NULL)
		return NULL;
	addr[reversed] = f->src;
	addr[!reversed] = f->dst;
	port[reversed] = f->sport;
	port[!reversed] = f->dport;
	dpi_session_init(s, addr, port, f->proto, &e->expect);
	dpi_detect_begin(e->detect, s);
	s->vlan = f->vlan;
	s->next = e->bucket[bucket];
	e->bucket[bucket] = s;
	e->counts.sessions++;
	return s;
}

static struct dpi_session *
session_of(struct dpi_engine *e, const struct dpi_frame *f, unsigned int *dir)
{
	unsigned int b = bucket_of(f);
	struct dpi_session **at = &e->bucket[b], *s;
	bool reversed;

	for (; *at != NULL; at = &(*at)->next) {
		int d;

		s = *at;
		d = direction(s, f, f->sport, f->dport);
		if (d < 0)
			continue;
		if (f->time_ns > s->last_ns + (s->tcp ? IDLE_TCP_S : IDLE_S) * PK_NS_PER_S ||
		    (f->proto == 6 && (f->tcp_flags & (DPI_TCP_SYN | DPI_TCP_ACK)) == DPI_TCP_SYN &&
		        s->side[0].closed && s->side[1].closed)) {
			dpi_detect_end(e->detect, s, f->n, f->time_ns);
			*at = s->next;
			dpi_session_fini(s);
			free(s);
			break;
		}
		*dir = (unsigned int)d;
		return s;
	}
	reversed = f->proto == 6 &&
	    ((f->tcp_flags & (DPI_TCP_SYN | DPI_TCP_ACK)) == (DPI_TCP_SYN | DPI_TCP_ACK) ||
	        (f->payload_len >= 7 && memcmp(f->payload, "HTTP/1.", 7) == 0));
	*dir = reversed;
	return session_new(e, f, b, reversed);
}

/* ---- TCP ---- */

/* Whether bytes that are missing before the loose ones can still come: the receiver has confirmed them, so the
 * capture has lost them. */
static void
skip_lost(struct dpi_session *s, unsigned int dir, uint32_t ack)
{
	struct dpi_assembly *a = &s->side[dir].stream;
	int64_t acked;
	uint64_t loose = dpi_assembly_loose(a);

	if (!a->started)
		return;
	acked = dpi_assembly_offset(a, ack);
	if (acked > 0 && (uint64_t)acked > s->side[dir].acked)
		s->side[dir].acked = (uint64_t)acked;
	if (loose == UINT64_MAX || acked < 0 || (uint64_t)acked <= loose)
		return;
	dpi_session_keep(s, dir);
	dpi_assembly_skip(a, loose);
	s->gap = true;
	dpi_event_set(&s->events, DPI_EV_S_GAP);
}

static void
pick_up(struct dpi_session *s, const struct dpi_frame *f, unsigned int dir)
{
	s->tcp = s->midstream = s->established = true;
	dpi_assembly_start(&s->side[dir].stream, f->seq + (f->tcp_flags & DPI_TCP_SYN ? 1 : 0));
	if (f->tcp_flags & DPI_TCP_ACK)
		dpi_assembly_start(&s->side[!dir].stream, f->ack);
}

/* Follow the segment; *new_bytes when its stream has moved.  False: it is no part of the session. */
static bool
follow(struct dpi_engine *e, struct dpi_session *s, const struct dpi_frame *f, unsigned int dir,
    bool *new_bytes)
{
	struct dpi_side *mine = &s->side[dir], *other = &s->side[!dir];
	uint8_t flags = f->tcp_flags;
	uint32_t seq = f->seq;
	unsigned int fate = 0;

	if (mine->has_timestamp && f->has_timestamp && s->established && f->payload_len > 0 &&
	    (int32_t)(f->timestamp - mine->timestamp) < 0 &&
	    !(flags & (DPI_TCP_SYN | DPI_TCP_RST))) {
		e->counts.old_timestamps++;
		dpi_event_set(&s->events, DPI_EV_S_TIMESTAMP);
		return false;
	}
	if (flags & DPI_TCP_SYN) {
		if (!(flags & DPI_TCP_ACK) && s->established && mine->syn)
			dpi_event_set(&s->events, DPI_EV_S_EST_SYN);
		if (!mine->syn && !s->midstream) {
			s->tcp = true;
			mine->syn = true;
			dpi_assembly_start(&mine->stream, seq + 1);
		} else if (!s->established && mine->stream.next == 0 &&
		    mine->stream.nb_loose == 0) {
			dpi_assembly_start(
			    &mine->stream, seq + 1); /* tried again with another number */
		}
		seq++;
	} else if (!s->tcp) {
		if (flags & DPI_TCP_RST)
			dpi_event_set(&s->events, DPI_EV_S_RST_NONE);
		else if (flags & DPI_TCP_FIN)
			dpi_event_set(&s->events, DPI_EV_S_FIN_NONE);
		if (!e->options.midstream || flags & DPI_TCP_RST)
			return false;
		pick_up(s, f, dir);
	}
	if (!mine->stream.started) {
		/* Of a session that began with the other side's SYN alone. */
		if (!e->options.midstream && !e->options.async && !(flags & DPI_TCP_ACK))
			return false;
		if (f->payload_len == 0 && !e->options.midstream && !e->options.async)
			return true;
		dpi_assembly_start(&mine->stream, seq);
	}
	if (flags & DPI_TCP_ACK && mine->syn && other->syn && !(flags & DPI_TCP_SYN))
		s->established = true;
	if (e->options.async && mine->syn && flags & DPI_TCP_ACK && !(flags & DPI_TCP_SYN))
		s->established = true;
	if (f->has_timestamp &&
	    (!mine->has_timestamp || (int32_t)(f->timestamp - mine->timestamp) >= 0)) {
		mine->has_timestamp = true;
		mine->timestamp = f->timestamp;
	}
	if (flags & DPI_TCP_RST) {
		int64_t at = dpi_assembly_offset(&mine->stream, seq);

		if (at >= (int64_t)mine->stream.next - 1 &&
		    at <= (int64_t)mine->stream.next + (1 << 20))
			mine->closed = other->closed = true;
		return true;
	}
	if (f->payload_len > 0 && (e->options.depth == 0 || mine->stream.next < e->options.depth)) {
		uint64_t before = mine->stream.next;

		if (dpi_assembly_may_slide(&mine->stream, f->payload_len))
			dpi_session_keep(s, dir);
		fate = dpi_assembly_add(&mine->stream, seq, f->payload, f->payload_len);
		*new_bytes = mine->stream.next != before;
		if (fate & DPI_ADD_CONFLICT) {
			e->counts.conflicts++;
			dpi_event_set(&s->events, DPI_EV_S_OVERLAP);
			return false;
		}
		if (fate & DPI_ADD_BEFORE)
			dpi_event_set(&s->events, DPI_EV_S_BEFORE);
		if (fate & DPI_ADD_DUPLICATE)
			dpi_event_set(&s->events, DPI_EV_S_RETRANSMISSION);
		if (fate & DPI_ADD_FAR)
			dpi_event_set(&s->events, DPI_EV_S_WINDOW);
		e->counts.full += (fate & DPI_ADD_FULL) != 0;
		if (e->options.depth != 0 && mine->stream.next >= e->options.depth &&
		    before < e->options.depth)
			dpi_event_set(&s->events, DPI_EV_S_DEPTH);
	}
	if (flags & DPI_TCP_FIN && !mine->fin) {
		int64_t at = dpi_assembly_offset(&mine->stream, seq) + f->payload_len;

		if (at >= (int64_t)mine->stream.next) {
			mine->fin = true;
			mine->fin_at = (uint64_t)at;
		}
	}
	if (flags & DPI_TCP_ACK)
		skip_lost(s, !dir, f->ack);
	if (mine->fin && other->fin)
		mine->closed = other->closed = true;
	return true;
}

/* ---- one packet ---- */

static void
inspect(struct dpi_engine *e, struct dpi_frame *f)
{
	struct dpi_session *s = NULL;
	unsigned int dir = 0;
	bool new_bytes = false,
	     good = !(f->bad_checksum && e->options.checksums == DPI_CHECKSUM_VERIFY);

	e->counts.packets++;
	e->counts.invalid += f->invalid;
	e->counts.bad_checksums += !good;
	if (f->family == 0 || f->invalid || f->fragment.is) {
		dpi_detect(e->detect, NULL, f, 0, false);
		return;
	}
	s = session_of(e, f, &dir);
	if (s == NULL)
		return;
	s->last_ns = PK_MAX(s->last_ns, f->time_ns);
	if (s->dropped) {
		e->counts.dropped++;
		return;
	}
	s->packets[dir]++;
	s->side[dir].bytes += f->payload_len;
	if (s->proto == 6 && good) {
		bool part = follow(e, s, f, dir, &new_bytes);

		if (s->tcp && part)
			dpi_session_parse(s, s->side[0].closed && s->side[1].closed);
		if (!part && s->tcp && f->payload_len > 0) {
			/* Refused: it goes no further, so its bytes are nobody's. */
			f->payload_len = 0;
		}
	} else if (s->proto == 17) {
		s->established |= s->packets[0] > 0 && s->packets[1] > 0;
		if (good)
			dpi_session_datagram(s, dir, f->payload, f->payload_len);
	} else {
		s->established |= s->packets[0] > 0 && s->packets[1] > 0;
	}
	e->counts.dropped += dpi_detect(e->detect, s, f, dir, new_bytes) != DPI_ACT_ALERT;
	if (s->tcp && s->side[!dir].stream.next != s->side[!dir].scanned &&
	    s->side[!dir].stream.started && !s->dropped) {
		/* Bytes of the other side became readable: a hole in them was given up. */
		struct dpi_frame other = *f;

		other.payload_len = 0;
		other.pseudo = true;
		other.src = f->dst;
		other.dst = f->src;
		other.sport = f->dport;
		other.dport = f->sport;
		dpi_detect(e->detect, s, &other, !dir, true);
	}
	dpi_session_retire(s);
}

void
dpi_engine_packet(struct dpi_engine *e, uint64_t n, uint64_t time_ns, unsigned int link,
    const uint8_t *bytes, uint32_t len)
{
	struct dpi_frame f;

	memset(&f, 0, sizeof(f));
	f.n = n;
	f.time_ns = time_ns;
	dpi_decode_link(&f, link, bytes, len);
	for (unsigned int depth = 0;; depth++) {
		struct dpi_frame next;
		const uint8_t *inner = f.inner;
		uint32_t inner_len = f.inner_len;
		bool whole = false;

		if (f.fragment.is) {
			inner = dpi_defrag_add(e->defrag, &f, &inner_len);
			whole = inner != NULL;
		}
		inspect(e, &f);
		if (inner == NULL || depth >= TUNNELS_MAX)
			break;
		memset(&next, 0, sizeof(next));
		next.n = n;
		next.time_ns = time_ns;
		next.vlan = f.vlan;
		if (!whole && f.inner_family == DPI_INNER_ETHERNET)
			dpi_decode_link(&next, DPI_LINK_ETHERNET, inner, inner_len);
		else
			dpi_decode_ip(&next, inner, inner_len);
		next.reassembled = whole;
		if (whole && next.fragment.is)
			break;
		f = next;
	}
}

void
dpi_engine_end(struct dpi_engine *e)
{
	for (unsigned int b = 0; b < BUCKETS; b++)
		for (struct dpi_session *s = e->bucket[b]; s != NULL; s = s->next)
			dpi_detect_end(e->detect, s, e->counts.packets, s->last_ns);
}
