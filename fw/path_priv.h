#pragma once

#include <netinet/in.h>
#include <string.h>

#include "fw/ether.h"
#include "fw/frag.h"
#include "fw/guard.h"
#include "fw/host.h"
#include "fw/path.h"
#include "fw/reject.h"
#include "fw/session.h"

/*
 * What the files of the packet path share: fw/path.c judges packets, the others hand sessions over, bring
 * them back and end them.  All of it belongs to one lcore; context, unless it says otherwise: the owner.
 */
struct fw_path {
	struct fw_path_stats stats;
	struct fw_sessions sessions;
	struct fw_path_conf conf;
	uint32_t timeout[FW_STATE_COUNT]; /* in units of `seen` */
	uint64_t packet;                  /* running number */
	struct fw_limit reject_limit, log_limit, walk_limit;
	uint64_t walk_generation;    /* that idle sessions are being brought to */
	uint32_t walk_at, walk_left; /* next record, and how many are still to be looked at */
	struct fw_guard guard;
	struct fw_ethers ethers;
	struct fw_hosts hosts;
	bool counting; /* there are limits to sessions, so hosts are kept */
	struct fw_frags frags;
	pk_counter *hits;                      /* FW_RULE_SLOTS */
	uint8_t head[FW_BURST][FW_PARSE_HEAD]; /* starts of packets that lie in several segments */
};

static inline uint32_t
units(uint64_t ns)
{
	return (uint32_t)(ns >> FW_SEEN_SHIFT);
}

static inline enum fw_side
origin(const struct fw_session *s)
{
	return (s->flags & FW_SESSION_FROM_OUTSIDE) != 0 ? FW_OUTSIDE : FW_INSIDE;
}

/* Addresses and ports of a session as its opener sees them; ICMP: identifier, type << 8 | code.
 * Context: any, on copies. */
static inline void
session_names(const struct fw_session *s, const struct fw_session_cold *c, struct pk_addr *src,
    struct pk_addr *dst, uint16_t *sport, uint16_t *dport)
{
	unsigned int hi = (s->flags & FW_SESSION_HI) != 0;

	memset(src, 0, sizeof(*src));
	memset(dst, 0, sizeof(*dst));
	src->family = dst->family = s->key.family;
	if (s->key.family == 4) {
		memcpy(src->bytes, &s->key.v4[hi], 4);
		memcpy(dst->bytes, &s->key.v4[hi ^ 1], 4);
	} else {
		memcpy(src->bytes, c->addr[hi], 16);
		memcpy(dst->bytes, c->addr[hi ^ 1], 16);
	}
	*sport = s->key.port[hi];
	*dport = s->key.port[hi ^ 1];
	if (s->key.proto == IPPROTO_ICMP || s->key.proto == IPPROTO_ICMPV6) {
		*sport = s->key.port[0];
		*dport = (uint16_t)c->slot_and_selector;
	}
}

/* Whether the workload of a session that is not there yet may have it.  pk: key, l4_proto, tcp_flags. */
enum fw_drop fw_path_may_hold(
    const struct fw_path *p, const struct fw_pkt *pk, const struct pk_addr *inside);

/* Count session i, which is complete, for its workload.  False: there is no room for another workload. */
bool fw_path_hold(struct fw_path *p, uint32_t i);

/* Ask policy about session i as if it were of an older generation.  FW_DROP_NONE: it goes on, under the
 * present one.  Otherwise nothing has happened to it yet. */
enum fw_drop fw_path_ask(
    struct fw_path *p, const struct fw_rules *rules, uint32_t i, uint64_t now_ns);

/* End session i.  `made`: tell its ends, if it is TCP; two packets at most.  NULL: without a word. */
void fw_path_end(
    struct fw_path *p, uint32_t i, uint64_t now_ns, enum fw_drop why, struct fw_made *made);

/*
 * Bring back what the last process has left in the table's memory: index, free list, timers, link headers
 * and counts are made anew out of the records, of which each is checked.  `now_ns` is the clock of
 * this process, and by `ahead_ns` ahead of the one the records were written by.
 * Returns how many sessions there are; *refused are the others.  Context: control thread, before the path runs.
 */
uint32_t fw_path_restore(struct fw_path *p, uint64_t now_ns, int64_t ahead_ns, uint32_t *refused);
