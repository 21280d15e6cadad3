#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <rte_mbuf.h>

#include "fw/path_priv.h"

/*
 * Signatures: sessions whose rule asks for inspection go through dpi/watch.h until it has no more to learn.
 * How a session stands with it is one byte beside its record (fw_path.watching): what its rule asks for, and
 * whether that has been done.
 */

/* The byte of a session: what its rule asks for, as struct fw_decision has it, and these. */
#define DONE  0x80 /* there is no more to learn */
#define FRESH 0x40 /* asked for since its first packet, so none with payload has passed unseen */
#define ASKED (FW_INSPECT_MODE | FW_INSPECT_OPEN)

int
fw_watch_init(struct fw_path *p, const struct fw_path_conf *conf)
{
	struct dpi_watch_conf c = {
		.memory = conf->watch_memory,
		.bytes = conf->watch_bytes,
		.seed = conf->seed[1],
		.alert = fw_watch_alert,
		.gone = fw_watch_gone,
		.arg = p,
	};

	if (conf->watch_memory == 0)
		return 0;
	p->watching = calloc(conf->nb_sessions, sizeof(p->watching[0]));
	return p->watching == NULL ? -ENOMEM : dpi_watches_create(&p->watches, &c);
}

void
fw_watch_fini(struct fw_path *p)
{
	dpi_watches_destroy(p->watches);
	free(p->watching);
}

/* ---- what a session's rule asks for ---- */

/* Nothing of it is to be shown here any more. */
static void
over(struct fw_path *p, uint32_t i)
{
	p->watching[i] |= DONE;
	p->sessions.cold[i].care &= (uint8_t)~FW_CARE_WATCH;
	fw_session_settled(p, i);
}

void
fw_watch_mark(struct fw_path *p, uint32_t i, const struct fw_decision *d, bool from_start)
{
	struct dpi_watch *e;

	if (likely(p->watching == NULL || (p->watching[i] & ASKED) == d->inspect))
		return;
	e = p->watching[i] != 0 ? dpi_watch_find(p->watches, i) : NULL;
	if (e != NULL)
		dpi_watch_forget(p->watches, e);
	over(p, i);
	p->watching[i] = (uint8_t)(d->inspect | (from_start ? FRESH : 0));
	if (d->inspect != PK_INSPECT_NONE) {
		p->sessions.cold[i].care |= FW_CARE_WATCH;
		p->sessions.hot[i].flags |= FW_SESSION_EXTRA;
	}
}

bool
fw_watch_wants(const struct fw_path *p, uint32_t i)
{
	return p->watching != NULL && (p->watching[i] & FW_INSPECT_MODE) != PK_INSPECT_NONE &&
	    (p->watching[i] & DONE) == 0;
}

void
fw_watch_forget(struct fw_path *p, uint32_t i, uint64_t now_ns)
{
	struct dpi_watch *e;

	if (likely(p->watching == NULL || p->watching[i] == 0))
		return;
	e = dpi_watch_find(p->watches, i);
	if (e != NULL)
		dpi_watch_end(p->watches, e, now_ns);
	p->watching[i] = 0;
}

void
fw_watch_gone(void *arg, uint32_t i)
{
	over(arg, i);
}

/* ---- packets ---- */

/*
 * Begin with session i.  Its streams begin where its sides had got to: with their first bytes, if it is FRESH.  Of
 * one that was joined with the very packet that opened it here, the packet has to tell.
 */
static struct dpi_watch *
begin(struct fw_batch *b, const struct fw_pkt *pk, uint32_t i, unsigned int d,
    const struct fw_session *before)
{
	struct fw_path *p = b->p;
	const struct fw_session *s = &p->sessions.hot[i];
	struct pk_addr addr[2];
	uint16_t port[2];
	struct dpi_watch *e;

	fw_session_names(s, &p->sessions.cold[i], &addr[0], &addr[1], &port[0], &port[1]);
	e = dpi_watch_begin(p->watches, i, addr, port, pk->l4_proto,
	    (p->watching[i] & FW_INSPECT_MODE) == PK_INSPECT_STRICT, b->now_ns);
	if (e == NULL || pk->l4_proto != IPPROTO_TCP)
		return e;
	for (unsigned int k = 0; k < 2; k++) {
		if (k == d && (pk->tcp_flags & FW_TCP_SYN) != 0)
			dpi_watch_start(e, k, pk->seq + 1); /* RFC 7413: data in the SYN */
		else if (before != s && (k == 0 || (before->flags & FW_SESSION_SYN_R) != 0))
			dpi_watch_start(e, k, before->side[k].end);
	}
	return e;
}

/* No room to read the packet. */
static enum fw_drop
no_room(struct fw_path *p, uint32_t i, struct dpi_watch *e)
{
	if ((p->watching[i] & FW_INSPECT_OPEN) == 0)
		return FW_DROP_SIG_FULL;
	if (e != NULL)
		dpi_watch_forget(p->watches, e);
	over(p, i);
	return FW_DROP_NONE;
}

enum fw_drop
fw_watch_packet(struct fw_batch *b, struct fw_pkt *pk, uint32_t i, unsigned int d,
    const struct fw_session *before)
{
	struct fw_path *p = b->p;
	struct fw_session *s = &p->sessions.hot[i];
	struct dpi_watch *e = dpi_watch_find(p->watches, i);
	struct dpi_watch_packet in = { .len = pk->l3_end - pk->l3,
		.dir = (uint8_t)d,
		.tcp_flags = pk->tcp_flags,
		.seq = pk->seq,
		.ack = pk->ack,
		.payload = pk->payload,
		.n = b->packet };

	enum dpi_watch_fate fate;

	if (e == NULL && pk->payload == 0)
		return FW_DROP_NONE;
	if (e == NULL && dpi_watches_in_use(p->watches) == NULL) {
		/* There are no signatures yet. */
		if ((p->watching[i] & FW_INSPECT_OPEN) == 0)
			return FW_DROP_INSPECT_MISSING;
		over(p, i);
		return FW_DROP_NONE;
	}
	if (e == NULL && (e = begin(b, pk, i, d, before)) == NULL)
		return no_room(p, i, NULL);
	in.ip = rte_pktmbuf_read(pk->m, pk->l3, in.len, p->inspect->scratch);
	if (unlikely(in.ip == NULL))
		return FW_DROP_SIG_FULL;
	p->watch_batch = b;
	fate = dpi_watch_packet(p->watches, e, &in, b->now_ns);
	p->watch_batch = NULL;
	switch (fate) {
	case DPI_WATCH_PASS:
		return FW_DROP_NONE;
	case DPI_WATCH_DONE:
		over(p, i);
		return FW_DROP_NONE;
	case DPI_WATCH_OVERLAP:
		return FW_DROP_SIG_OVERLAP;
	case DPI_WATCH_FULL:
		return no_room(p, i, e);
	case DPI_WATCH_REJECT:
		pk->session = i;
		fw_policy_tell(b, pk, s, d);
		p->watching[i] |= DONE;
		return FW_DROP_SIG_REJECT;
	case DPI_WATCH_DROP:
	default:
		p->watching[i] |= DONE;
		return FW_DROP_SIG_DROP;
	}
}

/* ---- sets of signatures ---- */

struct dpi_watches *
fw_path_watches(struct fw_path *p)
{
	return p->watches;
}

void
fw_path_offer_signatures(struct fw_path *p, struct dpi_watch_set *set)
{
	atomic_store_explicit(&p->watch_offered, set, memory_order_release);
}

void
fw_watch_tick(struct fw_path *p, uint64_t now_ns, unsigned int budget)
{
	struct dpi_watch_set *set = atomic_load_explicit(&p->watch_offered, memory_order_acquire);

	if (unlikely(set != dpi_watches_in_use(p->watches)))
		dpi_watches_use(p->watches, set);
	dpi_watches_tick(p->watches, now_ns, budget);
}
