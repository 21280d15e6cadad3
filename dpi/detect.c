#include "dpi/detect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dpi/heap.h"
#include "dpi/sig_memory.h"
#include "lib/wire.h"

#define CANDIDATES_MAX 4096 /* of a stream direction or a transaction */
#define QUEUE_MAX      1024 /* matches in one packet */

struct match {
	const struct dpi_sig *sig;
	const struct dpi_tx *tx;
	unsigned int dir;
	bool whole; /* pass: the session, not the packet */
};

struct dpi_detect {
	const struct dpi_set *set;
	struct dpi_detect_options options;
	struct dpi_scan_room *scan;
	struct dpi_scopes *scopes;
	bool choosy; /* buffers that nobody looks into are not kept */
	struct dpi_look look;
	struct dpi_memory *memory;
	uint32_t *stamp, generation; /* per rule: seen in this packet already */
	uint32_t *candidate, nb_candidates;
	unsigned int confirms;
	struct match queue[QUEUE_MAX];
	unsigned int nb_queue;
	/* of the packet in hand */
	struct dpi_session *session;
	const struct dpi_frame *frame;
	unsigned int dir;
	bool new_bytes;
	struct dpi_tx *scanning;
};

int
dpi_detect_create(
    struct dpi_detect **out, const struct dpi_set *set, const struct dpi_detect_options *o)
{
	struct dpi_detect *k = calloc(1, sizeof(*k));

	if (k == NULL)
		return -ENOMEM;
	k->set = set;
	k->options = *o;
	k->options.told = NULL;
	k->choosy = o->told != NULL;
	k->stamp = calloc(dpi_set_nb(set) + 1u, sizeof(*k->stamp));
	k->candidate = calloc(dpi_set_nb(set) + 1u, sizeof(*k->candidate));
	if (k->stamp == NULL || k->candidate == NULL || dpi_look_init(&k->look) < 0 ||
	    dpi_scan_room_create(&k->scan, set) < 0 || dpi_memory_create(&k->memory) < 0 ||
	    dpi_scopes_create(&k->scopes, set, o->told) < 0) {
		dpi_detect_destroy(k);
		return -ENOMEM;
	}
	*out = k;
	return 0;
}

void
dpi_detect_destroy(struct dpi_detect *k)
{
	if (k == NULL)
		return;
	dpi_scopes_destroy(k->scopes);
	dpi_memory_destroy(k->memory);
	dpi_scan_room_destroy(k->scan);
	dpi_look_fini(&k->look);
	free(k->stamp);
	free(k->candidate);
	free(k);
}

void
dpi_detect_begin(struct dpi_detect *k, struct dpi_session *s)
{
	s->scope = dpi_scope_of(k->scopes, s->addr, s->port, s->proto);
	if (k->choosy)
		s->wanted = &s->scope->wanted;
}

bool
dpi_detect_over(const struct dpi_session *s)
{
	const struct dpi_scope *c = s->scope;

	if (c == NULL || (c->nb != 0 && (c->raw || s->layer == DPI_LAYER_NONE)))
		return false;
	return c->nb == 0 || (s->proto == 6 ? s->ops == NULL : s->layer != DPI_LAYER_DNS);
}

const struct dpi_counts *
dpi_detect_counts(const struct dpi_detect *k)
{
	return &k->look.counts;
}

/* ---- header and state ---- */

static bool
test_holds(const struct dpi_detect *k, const struct dpi_test *t)
{
	const struct dpi_frame *f = k->frame;
	const struct dpi_session *s = k->session;
	bool tcp = f->proto == 6 && f->l4_header_len != 0, icmp = f->proto == 1 || f->proto == 58;
	uint64_t size[2];
	uint8_t bits;

	switch (t->kind) {
	case DPI_TEST_DSIZE:
		return (f->proto == 6 || f->proto == 17 || f->proto == 132 || icmp) &&
		    dpi_range_has(&t->range, f->payload_len) != t->negated;
	case DPI_TEST_TTL:
		return f->family != 0 && dpi_range_has(&t->range, f->ttl);
	case DPI_TEST_ITYPE:
		return icmp && dpi_range_has(&t->range, f->icmp_type);
	case DPI_TEST_ICODE:
		return icmp && dpi_range_has(&t->range, f->icmp_code);
	case DPI_TEST_ICMP_ID:
		return icmp && f->has_icmp_id && dpi_range_has(&t->range, f->icmp_id);
	case DPI_TEST_ICMP_SEQ:
		return icmp && f->has_icmp_id && dpi_range_has(&t->range, f->icmp_seq);
	case DPI_TEST_IP_ID:
		return f->family == 4 && dpi_range_has(&t->range, f->ip_id);
	case DPI_TEST_TOS:
		return f->family == 4 && dpi_range_has(&t->range, f->tos) != t->negated;
	case DPI_TEST_IP_PROTO:
		return f->family != 0 && dpi_range_has(&t->range, f->proto) != t->negated;
	case DPI_TEST_FRAGBITS:
		bits = f->fragbits;
		if (f->family != 4)
			return false;
		return (t->mode == '+'          ? (bits & t->range.a) == t->range.a
		               : t->mode == '*' ? (bits & t->range.a) != 0
		                                : bits == t->range.a) != t->negated;
	case DPI_TEST_FRAGOFFSET:
		return f->family == 4 &&
		    dpi_range_has(&t->range, f->fragment.offset / 8) != t->negated;
	case DPI_TEST_TCP_FLAGS:
		bits = f->tcp_flags & (uint8_t)~t->mask;
		if (!tcp)
			return false;
		return (t->mode == '+'          ? (bits & t->range.a) == t->range.a
		               : t->mode == '*' ? (bits & t->range.a) != 0
		                                : bits == t->range.a) != t->negated;
	case DPI_TEST_SEQ:
		return tcp && dpi_range_has(&t->range, f->seq);
	case DPI_TEST_ACK:
		return tcp && dpi_range_has(&t->range, f->ack);
	case DPI_TEST_WINDOW:
		return tcp && dpi_range_has(&t->range, f->window) != t->negated;
	case DPI_TEST_TCP_MSS:
		return tcp && f->mss != 0 && dpi_range_has(&t->range, f->mss);
	case DPI_TEST_SAMEIP:
		return f->family != 0 && pk_addr_compare(&f->src, &f->dst) == 0;
	case DPI_TEST_STREAM_SIZE:
		if (s == NULL || !s->tcp)
			return false;
		size[0] = s->side[0].stream.next;
		size[1] = s->side[1].stream.next;
		if (t->mode == 'b')
			return dpi_range_has(&t->range, (int64_t)size[0]) &&
			    dpi_range_has(&t->range, (int64_t)size[1]);
		if (t->mode == 'e')
			return dpi_range_has(&t->range, (int64_t)size[0]) ||
			    dpi_range_has(&t->range, (int64_t)size[1]);
		return dpi_range_has(&t->range, (int64_t)size[t->mode == 's']);
	case DPI_TEST_EVENT:
		return (dpi_event_get(&f->events, t->event) ||
		           (s != NULL && dpi_event_get(&s->events, t->event))) != t->negated;
	case DPI_TEST_LAYER:
		if (s == NULL || s->layer == DPI_LAYER_NONE ||
		    (s->layer == DPI_LAYER_FAILED && !t->negated && t->range.a != DPI_LAYER_FAILED))
			return false;
		return (s->layer == t->range.a) != t->negated;
	default:
		return false;
	}
}

static uint8_t
proto_bit(uint8_t proto)
{
	return proto == 6  ? 1
	    : proto == 17  ? 2
	    : proto == 1   ? 4
	    : proto == 58  ? 8
	    : proto == 132 ? 16
	                   : 32;
}

static bool
one_way(const struct dpi_sig *g, const struct pk_addr *src, uint16_t sport,
    const struct pk_addr *dst, uint16_t dport)
{
	return dpi_ports_has(g->dport, dport) && dpi_ports_has(g->sport, sport) &&
	    dpi_nets_has(g->src, src) && dpi_nets_has(g->dst, dst);
}

static bool
bits_hold(struct dpi_detect *k, const struct dpi_sig *g, const struct pk_addr *src,
    const struct pk_addr *dst)
{
	for (unsigned int i = 0; i < g->nb_bits; i++) {
		const struct dpi_bits *b = &g->bits[i];
		bool any = false;

		if (b->of != DPI_BITS_FLOW) {
			if (!dpi_memory_bits(k->memory, b, src, dst, k->frame->time_ns, true))
				return false;
			continue;
		}
		if (b->op != DPI_BITS_ISSET && b->op != DPI_BITS_ISNOTSET)
			continue;
		if (k->session == NULL)
			return false;
		for (unsigned int j = 0; j < b->nb; j++)
			any |= k->session->bits != NULL &&
			    (k->session->bits[b->id[j] / 64] >> (b->id[j] % 64) & 1);
		if (any != (b->op == DPI_BITS_ISSET))
			return false;
	}
	for (unsigned int i = 0; i < g->nb_flowints; i++) {
		const struct dpi_flowint *n = &g->flowint[i];
		const struct dpi_session *s = k->session;
		bool set = s != NULL && n->id < s->nb_ints && s->ints[n->id] != 0;
		uint32_t v = set ? s->ints[n->id] - 1 : 0, w = n->value;

		if (n->other >= 0)
			w = s != NULL && (uint32_t)n->other < s->nb_ints && s->ints[n->other] != 0
			    ? s->ints[n->other] - 1
			    : 0;
		if ((n->op == 'i' && !set) || (n->op == 'u' && set) ||
		    (n->op == 'e' && !(set && v == w)) || (n->op == 'n' && !(set && v != w)) ||
		    (n->op == '<' && !(set && v < w)) || (n->op == '>' && !(set && v > w)) ||
		    (n->op == 'l' && !(set && v <= w)) || (n->op == 'g' && !(set && v >= w)))
			return false;
	}
	return true;
}

static void
bits_do(struct dpi_detect *k, const struct dpi_sig *g, const struct pk_addr *src,
    const struct pk_addr *dst)
{
	struct dpi_session *s = k->session;

	for (unsigned int i = 0; i < g->nb_bits; i++) {
		const struct dpi_bits *b = &g->bits[i];

		if (b->of != DPI_BITS_FLOW) {
			dpi_memory_bits(k->memory, b, src, dst, k->frame->time_ns, false);
			continue;
		}
		if (b->op == DPI_BITS_ISSET || b->op == DPI_BITS_ISNOTSET || s == NULL)
			continue;
		if (s->bits == NULL &&
		    (s->bits = dpi_calloc(DPI_NAMES_MAX / 64, sizeof(*s->bits))) == NULL)
			continue;
		for (unsigned int j = 0; j < b->nb; j++) {
			uint64_t bit = UINT64_C(1) << (b->id[j] % 64),
			         *word = &s->bits[b->id[j] / 64];

			if (b->op == DPI_BITS_SET)
				*word |= bit;
			else if (b->op == DPI_BITS_UNSET)
				*word &= ~bit;
			else
				*word ^= bit;
		}
	}
	for (unsigned int i = 0; i < g->nb_flowints && s != NULL; i++) {
		const struct dpi_flowint *n = &g->flowint[i];
		uint32_t v;

		if (n->op != '+' && n->op != '-' && n->op != '=')
			continue;
		if (n->id >= s->nb_ints) {
			uint32_t *more = dpi_realloc(s->ints, (n->id + 1u) * sizeof(*more));

			if (more == NULL)
				continue;
			memset(more + s->nb_ints, 0, (n->id + 1u - s->nb_ints) * sizeof(*more));
			s->ints = more;
			s->nb_ints = n->id + 1u;
		}
		v = s->ints[n->id] != 0 ? s->ints[n->id] - 1 : 0;
		v = n->op == '+' ? v + n->value : n->op == '-' ? v - n->value : n->value;
		s->ints[n->id] = v + 1;
	}
}

/* Whether a rule is about the sender and the receiver of what goes in that direction. */
static bool
ends_hold(const struct dpi_detect *k, const struct dpi_sig *g, unsigned int dir)
{
	const struct dpi_session *s = k->session;
	const struct dpi_frame *f = k->frame;
	const struct pk_addr *src = &f->src, *dst = &f->dst;
	uint16_t sport = f->sport, dport = f->dport;

	if (s != NULL && dir != k->dir) { /* what this packet has completed went the other way */
		src = &s->addr[dir];
		dst = &s->addr[!dir];
		sport = s->port[dir];
		dport = s->port[!dir];
	}
	return one_way(g, src, sport, dst, dport) ||
	    (g->flags & DPI_SIG_BOTH_WAYS && one_way(g, dst, dport, src, sport));
}

/* All of a rule but its bytes. */
static bool
header_holds(struct dpi_detect *k, const struct dpi_sig *g, unsigned int dir)
{
	const struct dpi_session *s = k->session;
	const struct dpi_frame *f = k->frame;
	const struct pk_addr *src = &f->src, *dst = &f->dst;

	if (f->family == 0)
		return g->flags & DPI_SIG_PKTHDR && g->src->any && g->dst->any;
	if (g->family != 0 && g->family != f->family)
		return false;
	if (g->protos != 0x3f && (f->fragment.is || !(g->protos & proto_bit(f->proto))))
		return false;
	if (s != NULL && dir != k->dir) {
		src = &s->addr[dir];
		dst = &s->addr[!dir];
	}
	if (g->layer != DPI_LAYER_NONE &&
	    (s == NULL ||
	        (s->layer != g->layer &&
	            !(g->layer == DPI_LAYER_DCERPC && s->layer == DPI_LAYER_SMB &&
	                g->flags & DPI_SIG_TX))))
		return false;
	if (g->flow & (DPI_FLOW_TO_SERVER | DPI_FLOW_TO_CLIENT) &&
	    (s == NULL || !(g->flow & (dir == 0 ? DPI_FLOW_TO_SERVER : DPI_FLOW_TO_CLIENT))))
		return false;
	if (g->flow & DPI_FLOW_ESTABLISHED && (s == NULL || !s->established))
		return false;
	if (g->flow & DPI_FLOW_NOT_ESTABLISHED && s != NULL && s->established)
		return false;
	if (g->flow & DPI_FLOW_ONLY_FRAG && !f->reassembled)
		return false;
	if (g->flow & DPI_FLOW_NO_FRAG && f->reassembled)
		return false;
	if (!ends_hold(k, g, dir))
		return false;
	for (unsigned int i = 0; i < g->nb_tests; i++)
		if (!test_holds(k, &g->test[i]))
			return false;
	return bits_hold(k, g, src, dst);
}

static void
matched(struct dpi_detect *k, const struct dpi_sig *g, const struct dpi_tx *tx, unsigned int dir,
    bool whole)
{
	bits_do(k, g, &k->frame->src, &k->frame->dst);
	if (k->nb_queue < QUEUE_MAX)
		k->queue[k->nb_queue++] = (struct match){ g, tx, dir, whole };
}

/* ---- packets and streams ---- */

static struct pk_wire
packet_header(const struct dpi_frame *f, enum dpi_buf buf)
{
	const uint8_t *p = NULL;
	uint32_t len = 0;

	if ((buf == DPI_IPV4_HDR && f->family == 4) || (buf == DPI_IPV6_HDR && f->family == 6)) {
		p = f->ip;
		len = f->ip_header_len;
	} else if ((buf == DPI_TCP_HDR && f->proto == 6) ||
	    (buf == DPI_UDP_HDR && f->proto == 17)) {
		p = f->l4;
		len = f->l4_header_len;
	} else if ((buf == DPI_ICMPV4_HDR && f->proto == 1) ||
	    (buf == DPI_ICMPV6_HDR && f->proto == 58)) {
		p = f->l4;
		len = f->l4_len; /* with the message, as Suricata has it */
	}
	return (struct pk_wire){ .at = p, .end = p + len };
}

/* The entry of a rule among a direction's candidates, or -1. */
static int
side_find(const struct dpi_side *d, uint32_t rule)
{
	for (uint32_t i = 0; i < d->nb_candidates; i++)
		if ((d->candidate[i] & ~DPI_CANDIDATE_OPEN) == rule)
			return (int)i;
	return -1;
}

static int
side_add(struct dpi_detect *k, struct dpi_side *d, uint32_t rule)
{
	int i = side_find(d, rule);

	if (i >= 0)
		return i;
	if (d->nb_candidates == CANDIDATES_MAX) {
		k->look.counts.candidates_lost++;
		return -1;
	}
	if ((d->nb_candidates & (d->nb_candidates + 1)) == 0) {
		uint32_t room = 2 * d->nb_candidates + 2;
		uint32_t *c = dpi_realloc(d->candidate, room * sizeof(*c));
		uint64_t *j;

		if (c == NULL)
			return -1;
		d->candidate = c;
		j = dpi_realloc(d->judged, room * sizeof(*j));
		if (j == NULL)
			return -1;
		d->judged = j;
	}
	d->candidate[d->nb_candidates] = rule;
	d->judged[d->nb_candidates] = 0;
	return (int)d->nb_candidates++;
}

static bool
stream_holds(struct dpi_detect *k, const struct dpi_list *l, unsigned int dir, uint64_t judged)
{
	struct dpi_assembly *a = &k->session->side[dir].stream;
	uint64_t from = PK_MAX(a->window_from, judged);

	if (from >= a->next)
		return false;
	return dpi_list_holds(&k->look, l, dpi_assembly_at(a, from), (uint32_t)(a->next - from));
}

static void
packet_rule(struct dpi_detect *k, uint32_t index)
{
	const struct dpi_sig *g = dpi_set_sig(k->set, index);
	struct dpi_side *d = k->session != NULL && k->session->tcp ? &k->session->side[k->dir]
	                                                           : NULL;
	bool in_stream = d != NULL && d->stream.started && k->new_bytes, by_stream = false;
	int at = -1;

	if (g->flags & DPI_SIG_TX)
		return;
	if (k->frame->invalid && !(g->flags & DPI_SIG_PKTHDR) &&
	    (k->frame->ip == NULL || g->protos != 0x3f))
		return;
	if (k->frame->pseudo && !(g->flags & DPI_SIG_STREAM))
		return;
	if (g->flags & DPI_SIG_IP_ONLY &&
	    (k->session == NULL || k->session->side[k->dir].ip_only_done) &&
	    !k->frame->fragment.is && k->session != NULL)
		return;
	if (!header_holds(k, g, k->dir))
		return;
	k->look.counts.confirms++;
	if (k->confirms++ > DPI_CONFIRMS_MAX) {
		k->look.counts.capped++;
		return;
	}
	if (d != NULL)
		at = side_find(d, index);
	for (unsigned int i = 0; i < g->nb_lists; i++) {
		const struct dpi_list *l = &g->list[i];

		if (l->nb == 0)
			continue;
		if (l->buf != DPI_RAW) {
			struct pk_wire w = packet_header(k->frame, l->buf);

			if (w.at == NULL ||
			    !dpi_list_holds(&k->look, l, w.at, (uint32_t)(w.end - w.at)))
				return;
			continue;
		}
		if (g->flags & DPI_SIG_STREAM && in_stream &&
		    stream_holds(k, l, k->dir, at >= 0 ? d->judged[at] : 0)) {
			by_stream = true;
			continue;
		}
		if (!(g->flags & DPI_SIG_PACKET) && in_stream)
			return;
		if (!(g->flags & DPI_SIG_PACKET) && d != NULL && d->stream.started &&
		    k->session->tcp)
			return; /* the stream has it, or has refused it */
		if (k->frame->payload_len == 0 ||
		    !dpi_list_holds(&k->look, l, k->frame->payload, k->frame->payload_len))
			return;
	}
	if (by_stream) {
		at = side_add(k, d, index);
		if (at >= 0) {
			d->judged[at] = d->stream.next;
			d->candidate[at] &= ~DPI_CANDIDATE_OPEN;
		}
	}
	matched(k, g, NULL, k->dir, by_stream || g->flags & DPI_SIG_IP_ONLY);
}

static void
packet_hit(void *arg, uint32_t rule)
{
	struct dpi_detect *k = arg;

	if (k->stamp[rule] == k->generation)
		return;
	k->stamp[rule] = k->generation;
	k->candidate[k->nb_candidates++] = rule;
}

static void
stream_hit(void *arg, uint32_t rule)
{
	struct dpi_detect *k = arg;
	const struct dpi_sig *g = dpi_set_sig(k->set, rule);
	struct dpi_side *d = &k->session->side[k->dir];
	int at;

	if (!ends_hold(k, g, k->dir))
		return;
	at = side_add(k, d, rule);
	if (at >= 0)
		d->candidate[at] |= DPI_CANDIDATE_OPEN;
	packet_hit(k, rule);
}

static int
by_number(const void *a, const void *b)
{
	uint32_t p = *(const uint32_t *)a, q = *(const uint32_t *)b;

	return p < q ? -1 : p > q;
}

static void
scan(struct dpi_detect *k, const struct dpi_scope *scope, unsigned int group, unsigned int dir,
    const uint8_t *bytes, uint32_t len, void (*hit)(void *arg, uint32_t rule))
{
	if (dpi_scope_has(scope, group, dir) &&
	    !dpi_set_scan(k->set, k->scan, group, dir, bytes, len, hit, k))
		k->look.counts.scan_errors++;
}

/* Rules about a stream see what is new of it, and as much before that as a pattern can begin in.  Where that has all of
 * the packet in it, rules that look at packets besides need no scan of their own. */
static bool
scan_stream(struct dpi_detect *k, const struct dpi_scope *scope, struct dpi_side *d)
{
	const struct dpi_frame *f = k->frame;
	struct dpi_assembly *a = &d->stream;
	uint32_t back = dpi_set_longest(k->set, DPI_GROUP_STREAM, k->dir);
	uint64_t from = d->scanned > back ? d->scanned - back : 0;
	int64_t at;

	from = PK_MAX(from, a->window_from);
	if (from < a->next)
		scan(k, scope, DPI_GROUP_STREAM, k->dir, dpi_assembly_at(a, from),
		    (uint32_t)(a->next - from), stream_hit);
	d->scanned = a->next;
	for (uint32_t i = 0; i < d->nb_candidates; i++)
		if (d->candidate[i] & DPI_CANDIDATE_OPEN)
			packet_hit(k, d->candidate[i] & ~DPI_CANDIDATE_OPEN);
	if (f->payload_len == 0)
		return true;
	at = dpi_assembly_offset(a, f->seq) + ((f->tcp_flags & DPI_TCP_SYN) != 0);
	return at >= 0 && (uint64_t)at >= from && (uint64_t)at + f->payload_len <= a->next;
}

static void
packet_rules(struct dpi_detect *k)
{
	const struct dpi_scope *scope = k->session != NULL && k->session->scope != NULL
	    ? k->session->scope
	    : dpi_scope_all(k->scopes);
	const struct dpi_frame *f = k->frame;
	struct dpi_side *d = k->session != NULL && k->session->tcp ? &k->session->side[k->dir]
	                                                           : NULL;

	if (!scope->raw) {
		if (d != NULL)
			d->scanned = d->stream.next;
		return;
	}
	k->generation++;
	k->nb_candidates = 0;
	for (uint32_t i = 0; i < scope->packet.nb; i++)
		packet_hit(k, scope->packet.at[i]);
	if (f->payload_len > 0 && !f->fragment.is)
		scan(k, scope,
		    f->proto == 6        ? DPI_GROUP_TCP
		        : f->proto == 17 ? DPI_GROUP_UDP
		                         : DPI_GROUP_OTHER,
		    k->dir, f->payload, f->payload_len, packet_hit);
	if (!(d != NULL && k->new_bytes && scan_stream(k, scope, d)) && f->proto == 6 &&
	    f->payload_len > 0 && !f->fragment.is)
		scan(k, scope, DPI_GROUP_STREAM, k->dir, f->payload, f->payload_len, packet_hit);
	if (k->nb_candidates > 1)
		qsort(k->candidate, k->nb_candidates, sizeof(*k->candidate), by_number);
	for (uint32_t i = 0, n = k->nb_candidates; i < n; i++)
		packet_rule(k, k->candidate[i]);
	if (k->session != NULL)
		k->session->side[k->dir].ip_only_done |= !k->frame->pseudo;
}

/* ---- transactions ---- */

static void
tx_hit(void *arg, uint32_t rule)
{
	struct dpi_detect *k = arg;
	const struct dpi_sig *g = dpi_set_sig(k->set, rule);
	struct dpi_tx *tx = k->scanning;

	for (uint32_t i = 0; i < tx->nb_candidates; i++)
		if (tx->candidate[i] == rule)
			return;
	if (!ends_hold(k, g, 0) && !ends_hold(k, g, 1))
		return;
	if (tx->nb_candidates == CANDIDATES_MAX) {
		k->look.counts.candidates_lost++;
		return;
	}
	if ((tx->nb_candidates & (tx->nb_candidates + 1)) == 0) {
		uint32_t *more =
		    dpi_realloc(tx->candidate, (2 * tx->nb_candidates + 2) * sizeof(*more));

		if (more == NULL)
			return;
		tx->candidate = more;
	}
	tx->candidate[tx->nb_candidates++] = rule;
}

static bool
list_in_tx(struct dpi_detect *k, const struct dpi_list *l, struct dpi_tx *tx, unsigned int dir)
{
	uint8_t dirs = dpi_buf_info[l->buf].dirs;

	if (l->nb == 0)
		return true;
	if (l->buf == DPI_RAW) {
		if (k->session->tcp)
			return stream_holds(k, l, dir, 0);
		return k->frame->payload_len > 0 &&
		    dpi_list_holds(&k->look, l, k->frame->payload, k->frame->payload_len);
	}
	k->look.events = &tx->events;
	k->look.dce = &tx->dce;
	k->look.little = true;
	if (l->buf == DPI_EVENT)
		return dpi_list_holds(&k->look, l, NULL, 0);
	for (unsigned int i = 0; i < tx->nb_slots; i++) {
		const struct dpi_slot *s = &tx->slot[i];

		if (s->buf != l->buf || (dirs == DPI_BOTH && s->dir != dir) ||
		    (l->needs_end && !s->complete))
			continue;
		if (dpi_list_holds(&k->look, l, dpi_slot_bytes(k->session, s), s->len))
			return true;
	}
	return false;
}

static bool
alerted(struct dpi_tx *tx, uint32_t key, bool add)
{
	for (uint32_t i = 0; i < tx->nb_alerted; i++)
		if (tx->alerted[i] == key)
			return true;
	if (add) {
		uint32_t *more = dpi_realloc(tx->alerted, (tx->nb_alerted + 1) * sizeof(*more));

		if (more != NULL) {
			tx->alerted = more;
			more[tx->nb_alerted++] = key;
		}
	}
	return false;
}

static void
tx_rule(struct dpi_detect *k, struct dpi_tx *tx, uint32_t index, unsigned int dir)
{
	const struct dpi_sig *g = dpi_set_sig(k->set, index);
	uint32_t key = index * 2 + dir;

	if (!(g->dirs >> dir & 1) || alerted(tx, key, false) || !header_holds(k, g, dir))
		return;
	k->look.counts.confirms++;
	if (k->confirms++ > DPI_CONFIRMS_MAX) {
		k->look.counts.capped++;
		return;
	}
	for (unsigned int i = 0; i < g->nb_lists; i++)
		if (!list_in_tx(k, &g->list[i], tx, dir))
			return;
	alerted(tx, key, true);
	if (g->nb_lists == 1 && g->list[0].buf == DPI_EVENT)
		alerted(tx, key ^ 1, true);
	matched(k, g, tx, dir, true);
}

static void
tx_rules(struct dpi_detect *k, struct dpi_tx *tx, unsigned int dir)
{
	const struct dpi_scope *scope = k->session->scope != NULL ? k->session->scope
	                                                          : dpi_scope_all(k->scopes);
	const struct dpi_rules *always = &scope->tx[tx->layer];

	k->scanning = tx;
	for (unsigned int i = 0; i < tx->nb_slots; i++) {
		struct dpi_slot *s = &tx->slot[i];
		uint32_t back, from;

		if (s->dir != dir || s->scanned >= s->len)
			continue;
		back = dpi_set_longest(k->set, s->buf, dir);
		from = s->scanned > back ? s->scanned - back : 0;
		scan(k, scope, s->buf, dir, dpi_slot_bytes(k->session, s) + from, s->len - from,
		    tx_hit);
		s->scanned = s->len;
	}
	for (uint32_t i = 0; i < always->nb; i++)
		tx_hit(k, always->at[i]);
	if (tx->nb_candidates > 1)
		qsort(tx->candidate, tx->nb_candidates, sizeof(*tx->candidate), by_number);
	for (uint32_t i = 0; i < tx->nb_candidates; i++)
		tx_rule(k, tx, tx->candidate[i], dir);
}

/* ---- the verdict ---- */

static int
by_index(const void *a, const void *b)
{
	const struct match *p = a, *q = b;

	return p->sig->index < q->sig->index ? -1 : p->sig->index > q->sig->index;
}

static enum dpi_action
conclude(struct dpi_detect *k)
{
	enum dpi_action verdict = DPI_ACT_ALERT;

	qsort(k->queue, k->nb_queue, sizeof(*k->queue), by_index);
	for (unsigned int i = 0; i < k->nb_queue; i++) {
		struct match *m = &k->queue[i];
		bool tell = dpi_memory_threshold(k->memory, m->sig, &k->frame->src, &k->frame->dst,
		    k->session, k->frame->time_ns);

		if (tell && k->options.ips && verdict == DPI_ACT_ALERT &&
		    (m->sig->action == DPI_ACT_DROP || m->sig->action == DPI_ACT_REJECT))
			verdict = m->sig->action;
		if (tell && !(m->sig->flags & DPI_SIG_NOALERT) &&
		    (m->sig->action != DPI_ACT_PASS || m->sig->flags & DPI_SIG_ALERT) &&
		    k->options.alert != NULL)
			k->options.alert(k->options.arg,
			    &(struct dpi_alert){ m->sig, k->frame, k->session, m->tx, m->dir,
			        verdict != DPI_ACT_ALERT });
		if (m->sig->action == DPI_ACT_PASS) {
			if (m->whole && k->session != NULL)
				k->session->passed = true;
			break;
		}
	}
	if (verdict != DPI_ACT_ALERT && k->session != NULL)
		k->session->dropped = true;
	return verdict;
}

enum dpi_action
dpi_detect(struct dpi_detect *k, struct dpi_session *s, const struct dpi_frame *f, unsigned int dir,
    bool new_bytes)
{
	enum dpi_action verdict;

	k->session = s;
	k->frame = f;
	k->dir = dir;
	k->new_bytes = new_bytes;
	k->nb_queue = 0;
	k->confirms = 0;
	if (s == NULL || !s->passed) {
		packet_rules(k);
		for (struct dpi_tx *tx = s != NULL ? s->tx : NULL; tx != NULL; tx = tx->next) {
			/* What the packet itself brought comes first. */
			for (unsigned int n = 0; n < 2; n++) {
				unsigned int d = n == 0 ? dir : !dir;

				if (tx->touched[d])
					tx_rules(k, tx, d);
				tx->touched[d] = false;
			}
		}
	}
	verdict = conclude(k);
	if (s != NULL)
		memset(&s->events, 0, sizeof(s->events));
	return verdict;
}

void
dpi_detect_end(struct dpi_detect *k, struct dpi_session *s, uint64_t n, uint64_t now_ns)
{
	if (s->dropped || s->passed)
		return;
	for (unsigned int d = 0; d < 2; d++) {
		struct dpi_assembly *a = &s->side[d].stream;
		struct dpi_frame f;
		bool moved = false;

		memset(&f, 0, sizeof(f));
		f.pseudo = true;
		f.n = n;
		f.time_ns = now_ns;
		f.family = s->addr[0].family;
		f.proto = s->proto;
		f.src = s->addr[d];
		f.dst = s->addr[!d];
		f.sport = s->port[d];
		f.dport = s->port[!d];
		while (s->tcp && dpi_assembly_loose(a) != UINT64_MAX) {
			dpi_session_keep(s, d);
			dpi_assembly_skip(a, dpi_assembly_loose(a));
			s->gap = moved = true;
		}
		if (s->tcp)
			dpi_session_parse(s, d == 1);
		(void)dpi_detect(k, s, &f, d, moved);
	}
}
