#include "dpi/watch.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "dpi/heap.h"
#include "dpi/http1.h"

#define RESERVE      (1u << 20) /* what one packet may need at the very most */
#define ROOM_TRIES   8
#define SESSION_TYPE 1024 /* bytes: for the size of the table */
#define LOOKBACK     DPI_FAST_MAX

struct dpi_watch {
	struct dpi_watch *next;          /* in its chain */
	struct dpi_watch *older, *newer; /* in the order of their last packets */
	struct dpi_watch_set *set;
	uint32_t index;
	uint32_t held; /* bytes of the heap */
	bool strict, rested;
	uint64_t last_ns;
	struct dpi_session s;
};
_Static_assert(sizeof(struct dpi_watch) <= 768, "a session at rest is below 1 KB");

struct dpi_watch_set {
	struct dpi_watches *w;
	struct dpi_detect *detect;
	_Atomic uint32_t users; /* sessions, and 1 while it is for new ones; the lcore writes */
};

struct dpi_watches {
	struct dpi_watch_conf conf;
	struct dpi_heap *heap;
	size_t room;
	struct dpi_watch **head;
	uint32_t mask;
	struct dpi_watch *oldest, *newest, *awake; /* awake: the oldest that has not rested */
	struct dpi_watch *current;
	struct dpi_watch_set *set;
	struct dpi_expect expect;
	struct dpi_watch_stats stats;
};

int
dpi_watches_create(struct dpi_watches **out, const struct dpi_watch_conf *conf)
{
	struct dpi_watches *w;
	uint32_t heads = 64;
	int rc;

	if (conf->memory < 4 * RESERVE || conf->bytes == 0)
		return -EINVAL;
	w = calloc(1, sizeof(*w));
	if (w == NULL)
		return -ENOMEM;
	w->conf = *conf;
	while (heads < conf->memory / SESSION_TYPE && heads < 1u << 24)
		heads *= 2;
	w->mask = heads - 1;
	w->head = calloc(heads, sizeof(struct dpi_watch *));
	rc = w->head == NULL ? -ENOMEM : dpi_heap_create(&w->heap, conf->memory);
	/* What all sessions share is made now, and not out of what belongs to one. */
	if (rc == 0 && dpi_http1_init(DPI_HTTP1_LAYERS) < 0)
		rc = -ENOMEM;
	if (rc < 0) {
		dpi_watches_destroy(w);
		return rc;
	}
	w->room = dpi_heap_free(w->heap);
	*out = w;
	return 0;
}

void
dpi_watches_destroy(struct dpi_watches *w)
{
	if (w == NULL)
		return;
	while (w->oldest != NULL)
		dpi_watch_forget(w, w->oldest);
	dpi_watches_use(w, NULL);
	dpi_heap_destroy(w->heap);
	free(w->head);
	free(w);
}

/* ---- sets ---- */

static void
on_alert(void *arg, const struct dpi_alert *a)
{
	struct dpi_watches *w = arg;

	if (w->conf.alert != NULL && w->current != NULL)
		w->conf.alert(w->conf.arg, a, w->current->index);
}

int
dpi_watch_set_create(struct dpi_watch_set **out, struct dpi_watches *w, const struct dpi_set *set)
{
	static const uint8_t told[] = { DPI_HTTP_HOST, DPI_HTTP_URI_RAW, DPI_HTTP_METHOD,
		DPI_HTTP_STAT_CODE, DPI_DNS_QUERY, DPI_TLS_SNI, DPI_FILE_NAME };
	struct dpi_watch_set *k = calloc(1, sizeof(*k));
	struct dpi_bufs besides = { { 0 } }; /* what events tell beside what rules look into */
	int rc;

	if (k == NULL)
		return -ENOMEM;
	k->w = w;
	for (size_t i = 0; i < PK_COUNT(told); i++)
		dpi_bufs_add(&besides, told[i]);
	rc = dpi_detect_create(&k->detect, set,
	    &(struct dpi_detect_options){
	        .ips = true, .told = &besides, .alert = on_alert, .arg = w });
	if (rc < 0) {
		free(k);
		return rc;
	}
	*out = k;
	return 0;
}

bool
dpi_watch_set_over(const struct dpi_watch_set *k)
{
	return atomic_load_explicit(
	           &((struct dpi_watch_set *)(uintptr_t)k)->users, memory_order_acquire) == 0;
}

void
dpi_watch_set_destroy(struct dpi_watch_set *k)
{
	if (k == NULL)
		return;
	dpi_detect_destroy(k->detect);
	free(k);
}

static void
hold(struct dpi_watch_set *k, int more)
{
	/* One writer: the lcore. */
	uint32_t n = atomic_load_explicit(&k->users, memory_order_relaxed);

	atomic_store_explicit(&k->users, n + (uint32_t)more, memory_order_release);
}

void
dpi_watches_use(struct dpi_watches *w, struct dpi_watch_set *k)
{
	struct dpi_watch_set *old = w->set;

	if (k != NULL)
		hold(k, 1);
	w->set = k;
	if (old != NULL)
		hold(old, -1);
}

const struct dpi_watch_set *
dpi_watches_in_use(const struct dpi_watches *w)
{
	return w->set;
}

/* ---- the table, and the order of last packets ---- */

static struct dpi_watch **
chain(const struct dpi_watches *w, uint32_t index)
{
	return &w->head[(uint32_t)((index ^ w->conf.seed) * UINT64_C(0x9e3779b97f4a7c15) >> 32) &
	    w->mask];
}

struct dpi_watch *
dpi_watch_find(const struct dpi_watches *w, uint32_t index)
{
	struct dpi_watch *e = *chain(w, index);

	while (e != NULL && e->index != index)
		e = e->next;
	return e;
}

static void
order_add(struct dpi_watches *w, struct dpi_watch *e)
{
	e->older = w->newest;
	e->newer = NULL;
	*(w->newest != NULL ? &w->newest->newer : &w->oldest) = e;
	w->newest = e;
	if (w->awake == NULL)
		w->awake = e;
}

static void
order_remove(struct dpi_watches *w, struct dpi_watch *e)
{
	*(e->older != NULL ? &e->older->newer : &w->oldest) = e->newer;
	*(e->newer != NULL ? &e->newer->older : &w->newest) = e->older;
	if (w->awake == e)
		w->awake = e->newer;
}

static void
rest(struct dpi_watches *w, struct dpi_watch *e)
{
	size_t before = dpi_heap_used(w->heap);

	dpi_session_rest(&e->s, LOOKBACK);
	e->held -= (uint32_t)PK_MIN((size_t)e->held, before - dpi_heap_used(w->heap));
	e->rested = true;
	w->stats.rested++;
}

/* Enough for one more packet, whatever is in it?  Otherwise take from those who have been silent for longest. */
static bool
make_room(struct dpi_watches *w, const struct dpi_watch *not_this, uint64_t now_ns)
{
	for (unsigned int i = 0; i < ROOM_TRIES; i++) {
		struct dpi_watch *e = w->oldest;

		if (dpi_heap_free(w->heap) >= RESERVE)
			return true;
		if (w->awake != NULL && w->awake != not_this) {
			e = w->awake;
			w->awake = e->newer;
			rest(w, e);
			continue;
		}
		while (e != NULL && (e->strict || e == not_this))
			e = e->newer;
		if (e == NULL || now_ns < e->last_ns + DPI_WATCH_PATIENCE_NS)
			break;
		w->stats.evicted++;
		if (w->conf.gone != NULL)
			w->conf.gone(w->conf.arg, e->index);
		dpi_watch_forget(w, e);
	}
	return dpi_heap_free(w->heap) >= RESERVE;
}

/* ---- sessions ---- */

struct dpi_watch *
dpi_watch_begin(struct dpi_watches *w, uint32_t index, const struct pk_addr addr[2],
    const uint16_t port[2], uint8_t proto, bool strict, uint64_t now_ns)
{
	struct dpi_heap *outside = dpi_heap_enter(w->heap);
	struct dpi_watch *e = NULL;
	size_t before = dpi_heap_used(w->heap);

	if (w->set != NULL && make_room(w, NULL, now_ns))
		e = dpi_malloc(sizeof(*e));
	else
		w->stats.full += w->set != NULL;
	if (e != NULL) {
		struct dpi_watch **head = chain(w, index);

		memset(e, 0, sizeof(*e));
		e->index = index;
		e->strict = strict;
		e->last_ns = now_ns;
		e->set = w->set;
		hold(e->set, 1);
		e->next = *head;
		*head = e;
		order_add(w, e);
		dpi_session_init(&e->s, addr, port, proto, &w->expect);
		dpi_detect_begin(e->set->detect, &e->s);
		e->s.tcp = proto == 6;
		e->held = (uint32_t)(dpi_heap_used(w->heap) - before);
		w->stats.sessions++;
		w->stats.begun++;
	}
	dpi_heap_enter(outside);
	return e;
}

void
dpi_watch_start(struct dpi_watch *e, unsigned int dir, uint32_t seq)
{
	dpi_assembly_start(&e->s.side[dir].stream, seq);
	e->s.side[dir].syn = true;
}

void
dpi_watch_forget(struct dpi_watches *w, struct dpi_watch *e)
{
	struct dpi_heap *outside = dpi_heap_enter(w->heap);
	struct dpi_watch **at = chain(w, e->index);

	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	order_remove(w, e);
	hold(e->set, -1);
	dpi_session_fini(&e->s);
	dpi_free(e);
	w->stats.sessions--;
	dpi_heap_enter(outside);
}

void
dpi_watch_end(struct dpi_watches *w, struct dpi_watch *e, uint64_t now_ns)
{
	struct dpi_heap *outside = dpi_heap_enter(w->heap);

	w->current = e;
	if (make_room(w, e, now_ns))
		dpi_detect_end(e->set->detect, &e->s, 0, now_ns);
	w->current = NULL;
	dpi_heap_enter(outside);
	dpi_watch_forget(w, e);
}

/* ---- packets ---- */

static void
acknowledged(struct dpi_side *d, uint32_t ack)
{
	int64_t at;

	if (!d->stream.started)
		return;
	at = dpi_assembly_offset(&d->stream, ack);
	if (at > 0 && (uint64_t)at > d->acked)
		d->acked = (uint64_t)at;
}

/* All that will be inspected of this direction has been. */
static bool
spent(const struct dpi_watches *w, const struct dpi_session *s, unsigned int d)
{
	return (s->tcp ? s->side[d].stream.next : s->side[d].bytes) >= w->conf.bytes;
}

static bool
arrived(const struct dpi_session *s, unsigned int d)
{
	return !s->tcp || s->side[d].acked >= s->side[d].stream.next;
}

static bool
is_done(const struct dpi_watches *w, const struct dpi_watch *e)
{
	const struct dpi_session *s = &e->s;
	bool a = spent(w, s, 0), b = spent(w, s, 1);

	return (s->finished || s->passed || dpi_detect_over(s) ||
	           (s->side[0].fin && s->side[1].fin) || (e->strict ? a && b : a || b)) &&
	    arrived(s, 0) && arrived(s, 1);
}

/* Put the segment into its stream.  *moved: it has grown. */
static enum dpi_watch_fate
take(struct dpi_watches *w, struct dpi_watch *e, const struct dpi_watch_packet *p,
    const struct dpi_frame *f, bool *moved)
{
	struct dpi_side *mine = &e->s.side[p->dir];
	uint32_t seq = p->seq + ((p->tcp_flags & DPI_TCP_SYN) != 0), len = f->payload_len;
	uint64_t before = mine->stream.next;
	unsigned int fate;
	int64_t from;

	if (!mine->stream.started)
		dpi_assembly_start(&mine->stream, seq);
	if (p->tcp_flags & DPI_TCP_RST) {
		/* RFC 5961 section 3.2: no other is believed. */
		if (dpi_assembly_offset(&mine->stream, p->seq) == (int64_t)mine->stream.next)
			mine->closed = e->s.side[!p->dir].closed = true;
		return DPI_WATCH_PASS; /* its payload is no data (RFC 9293 section 3.5.2) */
	}
	from = dpi_assembly_offset(&mine->stream, seq);
	/* Beyond the budget only what overlaps inspected bytes matters. */
	if (from >= (int64_t)w->conf.bytes || len == 0)
		return DPI_WATCH_PASS;
	if (from + len > (int64_t)w->conf.bytes)
		len = (uint32_t)((int64_t)w->conf.bytes - from);
	if (dpi_assembly_may_slide(&mine->stream, len))
		dpi_session_keep(&e->s, p->dir);
	fate = dpi_assembly_add(&mine->stream, seq, f->payload, len);
	if (fate & DPI_ADD_CONFLICT) {
		w->stats.overlaps++;
		return DPI_WATCH_OVERLAP;
	}
	if (fate & (DPI_ADD_FULL | DPI_ADD_FAR))
		return DPI_WATCH_FULL;
	*moved = mine->stream.next != before;
	return DPI_WATCH_PASS;
}

/* The stream ends where the segment does.  A FIN that bytes before it belie is none. */
static void
end_of(struct dpi_watch *e, const struct dpi_watch_packet *p, uint32_t len)
{
	struct dpi_side *mine = &e->s.side[p->dir];
	int64_t at =
	    dpi_assembly_offset(&mine->stream, p->seq) + ((p->tcp_flags & DPI_TCP_SYN) != 0) + len;

	if ((p->tcp_flags & DPI_TCP_FIN) && at == (int64_t)mine->stream.next &&
	    dpi_assembly_loose(&mine->stream) == UINT64_MAX) {
		mine->fin = true;
		mine->fin_at = (uint64_t)at;
	}
}

static enum dpi_watch_fate
inspect(
    struct dpi_watches *w, struct dpi_watch *e, const struct dpi_watch_packet *p, uint64_t now_ns)
{
	struct dpi_session *s = &e->s;
	struct dpi_frame f = { .n = p->n, .time_ns = now_ns };
	enum dpi_watch_fate fate = DPI_WATCH_PASS;
	enum dpi_action action;
	bool moved = false;

	dpi_decode_checked(&f, p->ip, p->len);
	s->packets[p->dir]++;
	s->side[p->dir].bytes += f.payload_len;
	s->last_ns = now_ns;
	/* The path has seen its handshake. */
	s->established = s->tcp || (s->packets[0] > 0 && s->packets[1] > 0);
	if (s->tcp) {
		fate = take(w, e, p, &f, &moved);
		if (fate != DPI_WATCH_PASS)
			return fate;
		end_of(e, p, f.payload_len);
		dpi_session_parse(s, s->side[0].closed && s->side[1].closed);
	} else if (s->proto == 17) {
		dpi_session_datagram(s, p->dir, f.payload, f.payload_len);
	}
	action = dpi_detect(e->set->detect, s, &f, p->dir, moved);
	dpi_session_retire(s);
	return action == DPI_ACT_DROP  ? DPI_WATCH_DROP
	    : action == DPI_ACT_REJECT ? DPI_WATCH_REJECT
	                               : DPI_WATCH_PASS;
}

enum dpi_watch_fate
dpi_watch_packet(
    struct dpi_watches *w, struct dpi_watch *e, const struct dpi_watch_packet *p, uint64_t now_ns)
{
	struct dpi_session *s = &e->s;
	struct dpi_side *mine = &s->side[p->dir];
	enum dpi_watch_fate fate = DPI_WATCH_PASS;
	struct dpi_heap *outside;
	bool beyond;

	w->stats.packets++;
	if (s->scope->nb == 0) { /* no rule is about such sessions */
		w->stats.done++;
		dpi_watch_forget(w, e);
		return DPI_WATCH_DONE;
	}
	e->last_ns = now_ns;
	if (w->newest != e) {
		order_remove(w, e);
		order_add(w, e);
	}
	if (e->rested) {
		e->rested = false;
		if (w->awake == NULL)
			w->awake = e;
	}
	if (s->tcp && (p->tcp_flags & DPI_TCP_ACK))
		acknowledged(&s->side[!p->dir], p->ack);
	/* An elephant whose front has been inspected, and an ACK of it, cost no more than this. */
	beyond = s->tcp && mine->stream.started && spent(w, s, p->dir) &&
	    dpi_assembly_offset(&mine->stream, p->seq) >= (int64_t)w->conf.bytes;
	if ((!beyond && p->payload != 0) || (p->tcp_flags & (DPI_TCP_FIN | DPI_TCP_RST))) {
		size_t before;

		outside = dpi_heap_enter(w->heap);
		before = dpi_heap_used(w->heap);
		w->current = e;
		if (!make_room(w, e, now_ns) || e->held > DPI_WATCH_MAX) {
			fate = DPI_WATCH_FULL;
		} else {
			before = dpi_heap_used(w->heap);
			fate = inspect(w, e, p, now_ns);
			e->held += (uint32_t)(dpi_heap_used(w->heap) - before);
		}
		w->current = NULL;
		dpi_heap_enter(outside);
	}
	switch (fate) {
	case DPI_WATCH_PASS:
		if (!is_done(w, e))
			return DPI_WATCH_PASS;
		w->stats.done++;
		dpi_watch_forget(w, e);
		return DPI_WATCH_DONE;
	case DPI_WATCH_DROP:
	case DPI_WATCH_REJECT:
		dpi_watch_forget(w, e);
		return fate;
	case DPI_WATCH_FULL:
		w->stats.full++;
		return fate;
	default:
		return fate;
	}
}

void
dpi_watches_tick(struct dpi_watches *w, uint64_t now_ns, unsigned int budget)
{
	struct dpi_heap *outside;

	if (w->awake == NULL || now_ns < w->awake->last_ns + DPI_WATCH_REST_NS)
		return;
	outside = dpi_heap_enter(w->heap);
	for (; budget > 0 && w->awake != NULL && now_ns >= w->awake->last_ns + DPI_WATCH_REST_NS;
	     budget--) {
		struct dpi_watch *e = w->awake;

		w->awake = e->newer;
		rest(w, e);
	}
	dpi_heap_enter(outside);
}

void
dpi_watches_stats(const struct dpi_watches *w, struct dpi_watch_stats *out)
{
	*out = w->stats;
	out->bytes = dpi_heap_used(w->heap);
	out->room = w->room;
	if (w->set != NULL)
		out->counts = *dpi_detect_counts(w->set->detect);
}

uint8_t
dpi_watch_layer(const struct dpi_watch *e)
{
	return e->s.layer;
}
