#pragma once

#include <string.h>

#include "dpi/watch.h"
#include "fw/esp.h"
#include "fw/ether.h"
#include "fw/extra.h"
#include "fw/frag.h"
#include "fw/guard.h"
#include "fw/host.h"
#include "fw/inspect.h"
#include "fw/meter.h"
#include "fw/path.h"
#include "fw/reject.h"
#include "fw/related.h"
#include "fw/session.h"
#include "fw/shared.h"
#include "fw/wall.h"

/*
 * What the files of the path share.  Each is one stage, or one piece of what several stages do:
 *
 *      path.c          the order of the stages, and the clockwork beside them
 *      lane.c          the stages in short, for data and ACKs of established TCP
 *      path_admit.c    from mbuf to struct fw_pkt: parse, guard, checksums
 *      path_dhcp.c     DHCP, if it is snooped
 *      path_judge.c    what its session says to a packet: TCP, UDP, ICMP errors, fragments
 *      path_open.c     no session: policy, limits, a new one
 *      path_inspect.c  sessions whose application is looked for
 *      path_watch.c    sessions held against signatures
 *      path_terms.c    what rules ask of each packet: limits, marks
 *      path_helper.c   sessions that announce others: FTP, TFTP
 *      path_names.c    answers of DNS, for policy that has names
 *      path_proxy.c    SYN cookies, and the sessions that began with one
 *      path_protect.c  sessions that go by ESP: out
 *      path_unprotect.c  what comes in for the DPU itself, ESP above all
 *      path_limit.c    who holds how many sessions, and may
 *      path_life.c     how sessions move on, make room and end
 *      path_policy.c   asking policy, and asking again when it has changed
 *      path_trace.c    records of all this
 *      path_walk.c     reading sessions along, from another thread
 *      path_restore.c  bringing back what the last process has left in the table's memory
 *      hand_over.c     sessions as records, and records as sessions
 *
 * A stage takes a packet in good standing and puts a reason into pk->drop, or leaves it be.  A new one has its
 * place in path.c: before the session in fw_admit(), after it in fw_judge(); and it says in fw/lane.h which
 * packets may not take the lane on its account.
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
	bool attested;               /* the host, as far as the last burst saw */
	uint32_t turns;              /* of schedules, likewise */
	uint32_t flips;              /* of both */
	struct fw_guard guard;
	struct fw_ethers ethers;
	struct fw_hosts hosts; /* workloads */
	struct fw_hosts tenants, sources;
	bool counting; /* there are limits to sessions, so hosts are kept */
	struct fw_frags frags;
	struct fw_inspect *inspect;
	struct fw_shared *shared;
	struct dpi_watches *watches; /* NULL: no session is held against signatures */
	uint8_t *watching;           /* by session: path_watch.c */
	_Atomic(struct dpi_watch_set *) watch_offered;
	struct fw_batch *watch_batch; /* of the packet in hand, for its alerts */
	uint32_t *
	    tunnel; /* by which each session goes, conf.nb_sessions of them; NULL: neither IPsec nor TLS */
	struct esp_engine engine;
	uint32_t refused_spi; /* of the packet that is being refused, for its record */
	struct fw_extras extras;
	struct fw_cookies cookies;
	uint32_t half_open;                    /* TCP sessions without a whole handshake */
	uint32_t cookies_at;                   /* as many of these switch cookies on; 0: never */
	pk_counter *hits;                      /* FW_RULE_SLOTS */
	struct fw_samples *samples;            /* of what is dropped */
	uint8_t head[FW_BURST][FW_PARSE_HEAD]; /* starts of packets that lie in several segments */
};

/* What all packets of a burst have in common. */
struct fw_batch {
	struct fw_path *p;
	const struct fw_rules *rules;
	struct fw_burst *out;
	uint64_t now_ns;
	uint64_t generation; /* of rules and posture: fw_path_stamp() */
	uint64_t packet;     /* running number of the packet being judged */
	uint32_t seen;
	enum fw_side from;
	uint16_t wire;
	int level;  /* of the trace; -1 without one */
	bool names; /* policy has names, and answers of DNS are read for them */
	/* of the packet being judged, IPsec */
	uint32_t tunnel;   /* it came by, or goes by; ESP_TUNNEL_NONE */
	struct esp_sa *sa; /* it goes out by; NULL: as it is */
	uint16_t cut;      /* in pieces of so many IP bytes; 0: whole */
	uint32_t spi;      /* for its record, if there is no sa */
	bool tls;          /* it goes out to picket-tlsd */
};

static inline uint32_t
fw_units(uint64_t ns)
{
	return (uint32_t)(ns >> FW_SEEN_SHIFT);
}

static inline enum fw_side
fw_session_origin(const struct fw_session *s)
{
	return (s->flags & FW_SESSION_FROM_OUTSIDE) != 0 ? FW_OUTSIDE : FW_INSIDE;
}

/* ---- path_admit.c ---- */

/* Fill in *pk from packet n of the batch, and ask all that is asked before its session. */
void fw_admit(struct fw_batch *b, struct rte_mbuf *m, unsigned int n, struct fw_pkt *pk);

/* Write over bytes of a packet, whichever segments they lie in. */
void fw_overwrite(struct rte_mbuf *m, uint32_t off, const uint8_t *bytes, uint32_t len);

/* The general stages take over a packet that leaves the lane: fill in what it has not. */
void fw_admit_again(struct fw_pkt *pk);

/* ---- path_dhcp.c ---- */

/* Whether a packet is judged by fw_dhcp_judge() alone, as ARP is by the guard: without a session and policy. */
bool fw_dhcp_wants(const struct fw_path *p, const struct fw_pkt *pk);
enum fw_drop fw_dhcp_judge(struct fw_batch *b, const struct fw_pkt *pk);

/* ---- path_judge.c ---- */

/* From the session on; pk->session is a guess.  The outcome is in pk->drop. */
void fw_judge(struct fw_batch *b, struct fw_pkt *pk);

/* ---- path_open.c ---- */

/*
 * No session: guard, policy, and if both agree a new session.  The packet's record, if one is due, is
 * written there, where the decision is known.  Returns pk->drop.
 */
enum fw_drop fw_session_open(struct fw_batch *b, struct fw_pkt *pk);

/* ---- path_inspect.c ---- */

/* Whether the packets of a session have to be shown to fw_inspect_packet().  It has FW_SESSION_EXTRA as well, to
 * be kept out of the lane. */
bool fw_watch_wants(const struct fw_path *p, uint32_t i); /* path_watch.c */

static inline bool
fw_app_wanted(const struct fw_session *s)
{
	return s->app == FW_APP_JOINED || s->app == FW_APP_SOUGHT || s->app == FW_APP_CUT;
}

static inline bool
fw_inspect_wants(const struct fw_path *p, uint32_t i)
{
	const struct fw_session *s = &p->sessions.hot[i];

	return unlikely((s->flags & FW_SESSION_EXTRA) != 0) &&
	    (fw_app_wanted(s) || fw_watch_wants(p, i));
}

/* Policy has been asked about session i: begin to look for its application if the answer hangs on it, go on
 * doing so, or cease. */
void fw_inspect_mark(struct fw_path *p, uint32_t i, const struct fw_decision *d, bool from_start);

/*
 * A packet from side d of session i, which has accepted it; `before` is the session as it was until then, and what
 * it has to be again if the packet is refused.  FW_DROP_APP_DENIED: the application is known, and *decision says who
 * does not want it; the session has to end.
 */
enum fw_drop fw_inspect_packet(struct fw_batch *b, struct fw_pkt *pk, uint32_t i, unsigned int d,
    const struct fw_session *before, struct fw_decision *decision);

/* Session i ends. */
void fw_inspect_forget(struct fw_path *p, uint32_t i);

/* One reason less for session i to be kept out of the lane; the last one gone, it may go there. */
static inline void
fw_session_settled(struct fw_path *p, uint32_t i)
{
	if (p->sessions.cold[i].care == 0 && !fw_app_wanted(&p->sessions.hot[i]))
		p->sessions.hot[i].flags &= (uint8_t)~FW_SESSION_EXTRA;
}

/*
 * Whether all there is of a session is in its records, or can be begun anew from them wherever it is taken on: not
 * the numbers of its proxy, nor how far it has been inspected.
 */
static inline bool
fw_session_portable(const struct fw_session *s, const struct fw_session_cold *c)
{
	return (c->care & FW_CARE_PROXY) == 0 && !fw_app_wanted(s);
}

/* ---- path_watch.c ---- */

int fw_watch_init(struct fw_path *p, const struct fw_path_conf *conf);
void fw_watch_fini(struct fw_path *p);

/* Policy has been asked about session i: begin with it, go on, or cease. */
void fw_watch_mark(struct fw_path *p, uint32_t i, const struct fw_decision *d, bool from_start);

/* As fw_inspect_packet().  FW_DROP_SIG_DROP and _REJECT: nothing of the session passes any more. */
enum fw_drop fw_watch_packet(struct fw_batch *b, struct fw_pkt *pk, uint32_t i, unsigned int d,
    const struct fw_session *before);

/* Session i ends. */
void fw_watch_forget(struct fw_path *p, uint32_t i, uint64_t now_ns);
void fw_watch_tick(struct fw_path *p, uint64_t now_ns, unsigned int budget);

/* What dpi/watch.h calls. */
void fw_watch_gone(void *arg, uint32_t i);
void fw_watch_alert(void *arg, const struct dpi_alert *a, uint32_t i); /* path_trace.c */

/* ---- path_terms.c ---- */

/* Session i is now judged by the rule of *d: whether its packets have to come by fw_terms_packet(). */
void fw_terms_note(struct fw_path *p, uint32_t i, const struct fw_decision *d);

/* A session would begin by the rule of *d, with `pk`.  Takes a token of its limit, if it has one. */
enum fw_drop fw_terms_open(struct fw_batch *b, const struct fw_decision *d);

/* Whether session i, which has FW_SESSION_EXTRA, is to be held to terms. */
static inline bool
fw_terms_wanted(const struct fw_path *p, uint32_t i)
{
	return (p->sessions.cold[i].care & FW_CARE_TERMS) != 0;
}

/* A packet that session i, whose policy is of this generation, has accepted: hold it to the limits of the rule, and
 * mark it if it passes. */
enum fw_drop fw_terms_packet(struct fw_batch *b, struct fw_pkt *pk, uint32_t i);

/* ---- path_helper.c ---- */

/* Whether `pk` from src to dst, which has no session, begins a flow that another session has announced.  *flow: what
 * policy is to be asked about it. */
bool fw_helper_allows(struct fw_batch *b, const struct fw_pkt *pk, const struct pk_addr *src,
    const struct pk_addr *dst, struct fw_related_flow *flow);

/* Session i was opened by `pk`; and it is there, however it came: it may announce others. */
void fw_helper_opened(struct fw_batch *b, const struct fw_pkt *pk, uint32_t i);
void fw_helper_begin(struct fw_path *p, uint32_t i);

/* A packet from side d of session i, which has accepted it.  `e` is FW_EXTRA_FTP. */
void fw_helper_packet(
    struct fw_batch *b, const struct fw_pkt *pk, uint32_t i, unsigned int d, struct fw_extra *e);

/* ---- path_protect.c ---- */

#define FW_TUNNEL_ANY UINT32_MAX       /* of a session: protected, but nobody knows yet by which */
#define FW_TUNNEL_TLS (UINT32_MAX - 1) /* by no SA, but by picket-tlsd */

/* Whether a packet without a session, allowed by *d, may open one: FW_DROP_NONE, and then b->tunnel is that of
 * the session, ESP_TUNNEL_NONE for none.  Only with conf.esp or conf.tls, as all of these but fw_protect_mark() and end(). */
enum fw_drop fw_protect_open(
    struct fw_batch *b, const struct fw_pkt *pk, const struct fw_decision *d);

/* Session i goes by `tunnel` from now on. */
void fw_protect_set(struct fw_path *p, uint32_t i, uint32_t tunnel);

/* Policy has been asked again about session i. */
void fw_protect_mark(struct fw_path *p, uint32_t i, const struct fw_decision *d);
void fw_protect_end(struct fw_path *p, uint32_t i);

/* Whether `pk`, of session i, comes as it has to; and what it goes out by. */
enum fw_drop fw_protect_check(struct fw_batch *b, const struct fw_pkt *pk, uint32_t i);

/* Protect a packet that was made here, other than by TLS; false: there is no SA, so nobody may see it. */
bool fw_protect_made(
    struct fw_path *p, struct rte_mbuf *m, uint16_t l3, uint32_t tunnel, uint64_t now_ns);

/* Packets of a burst that go out by SAs. */
#define FW_PROTECT_MAX (3 * FW_BURST)
struct fw_protect_out {
	unsigned int nb;
	struct esp_pkt pkt[FW_PROTECT_MAX];
	bool piece[FW_PROTECT_MAX]; /* not the first of a packet that was cut */
};

/* Add `pk` by b->sa; false: there was no room, and pk->drop says so. */
bool fw_protect_add(struct fw_batch *b, struct fw_pkt *pk, struct fw_protect_out *o);

/* Protect them all and put them to b->out; those that fail to refused[]. */
void fw_protect_flush(struct fw_batch *b, struct fw_protect_out *o, struct rte_mbuf **refused,
    unsigned int *nb_refused, uint64_t *refused_bytes);

/* ---- path_tls.c ---- */

/* Whether what is asked for is TLS, on this wire. */
bool fw_tls_wants(const struct fw_path *p, uint16_t wire, uint8_t encryption);

/* A packet from inside that goes by TLS: sets b->tls and b->tunnel, or says why it cannot. */
enum fw_drop fw_tls_go(struct fw_batch *b, const struct fw_pkt *pk);

/* A packet from outside, without a session, that comes by TLS or should: whether that is as the rule wants it. */
enum fw_drop fw_tls_came(const struct fw_batch *b, const struct fw_decision *d);

/* ---- path_proxy.c ---- */

/* Whether `pk`, which would open a session but for `limit` (none: it may), is to be answered with a cookie. */
bool fw_proxy_wants(struct fw_batch *b, const struct fw_pkt *pk, enum fw_drop limit);

/* Answer it.  Returns why it goes no further, FW_DROP_SYN_COOKIE if all is well. */
enum fw_drop fw_proxy_answer(struct fw_batch *b, const struct fw_pkt *pk);

/* Whether `pk` brings back a cookie; then session i may be begun for it, and the server is asked.  False: no
 * room for what has to be known of it. */
bool fw_proxy_accepts(const struct fw_batch *b, const struct fw_pkt *pk, struct fw_hello *h);
bool fw_proxy_begin(
    struct fw_batch *b, const struct fw_pkt *pk, uint32_t i, const struct fw_hello *h);

/* Whether `pk`, a SYN, begins anew what waits for the server. */
bool fw_proxy_restarts(
    const struct fw_path *p, const struct fw_pkt *pk, uint32_t i, unsigned int d);

/* Before its session judges a packet, from side d: put its numbers into the session's terms.  Returns
 * FW_DROP_SYN_PROXY if it goes no further.  And when it passes: put the receiver's numbers into the packet. */
enum fw_drop fw_proxy_enter(
    struct fw_batch *b, struct fw_pkt *pk, uint32_t i, unsigned int d, struct fw_extra *e);
void fw_proxy_leave(
    struct fw_batch *b, struct fw_pkt *pk, uint32_t i, unsigned int d, struct fw_extra *e);

/* Likewise for ICMP errors about a packet from side d. */
void fw_proxy_error_enter(struct fw_pkt *pk, unsigned int d, const struct fw_extra *e);
void fw_proxy_error_leave(struct fw_pkt *pk, unsigned int d, const struct fw_extra *e);

/* The number that the opener of session i expects next from the other side. */
uint32_t fw_proxy_shown(const struct fw_path *p, uint32_t i);

/* Switch cookies off when it is time; ask servers again that have not answered; tell clients of those that never did. */
void fw_proxy_tick(struct fw_path *p, const struct fw_rules *rules, uint64_t now_ns,
    unsigned int budget, struct fw_made *made);

/* ---- path_life.c ---- */

/* Count session i, which has just begun here; `tenant` is not looked at without limits. */
void fw_session_held(struct fw_path *p, uint32_t i, uint32_t tenant, uint64_t now_ns);

/* Count session i, which has come from elsewhere.  False: there is no room for its workload or tenant. */
bool fw_session_hold(struct fw_path *p, uint32_t i, uint32_t tenant);

/* `why` is for the record: FW_DROP_NONE when it has run its course. */
void fw_session_end(struct fw_path *p, uint32_t i, uint64_t now_ns, enum fw_drop why);

/* Look at sessions due[0 .. n - 1], n <= FW_REMOVE_BURST, whose timers have come up: those that have been seen since
 * are filed anew, the others end.  Between bursts. */
void fw_sessions_expire(struct fw_path *p, const uint32_t *due, unsigned int n, uint64_t now_ns);

/* The table is full: end the session that will be missed least, if there is one. */
bool fw_session_make_room(struct fw_batch *b);

/* Session i has left the state `before`. */
void fw_session_moved(struct fw_path *p, uint32_t i, unsigned int before, uint64_t now_ns);

/* ---- path_limit.c: only if there are limits ---- */

/* Nobody has answered yet. */
bool fw_session_half_open(unsigned int state);

/* The tenant of a workload, FW_TENANT_UNKNOWN without rules. */
uint32_t fw_limit_tenant(const struct fw_rules *rules, uint32_t vrf, const struct pk_addr *inside);

/* Whether there may be one more session, for `pk`.  `source` is the outside address if it is from outside, or
 * NULL.  Not `begins`: it began elsewhere, so rates do not count. */
enum fw_drop fw_limits_allow(const struct fw_path *p, const struct fw_pkt *pk,
    const struct pk_addr *inside, const struct pk_addr *source, uint32_t tenant, bool begins,
    uint64_t now_ns);

/* Session i begins; now_ns is 0 if that was elsewhere.  Whether there is room for it.  And it is no longer half
 * open, or no longer there. */
void fw_limits_add(struct fw_path *p, uint32_t i, uint32_t tenant, uint64_t now_ns);
bool fw_limits_room(const struct fw_path *p, uint32_t i, uint32_t tenant);
void fw_limits_drop(struct fw_path *p, uint32_t i, bool half_open, bool whole);

/* Whether the link of this wire has what a rule asks for: MACsec protects whatever passes there, or nothing passes. */
static inline bool
fw_link_protects(const struct fw_path *p, uint16_t wire, uint8_t encryption)
{
	return encryption == PK_ENCRYPTION_REQUIRED && wire < FW_WIRES_MAX &&
	    (p->conf.secured_wires >> wire & 1) != 0;
}

/* ---- path_names.c ---- */

/* Session i has just begun with `pk`. */
void fw_names_opened(struct fw_batch *b, const struct fw_pkt *pk, uint32_t i);

/* A packet from side d of session i, which has accepted it; only with b->names. */
void fw_names_packet(struct fw_batch *b, const struct fw_pkt *pk, uint32_t i, unsigned int d);

/* ---- path_policy.c ---- */

/* Ask policy about a flow from src to dst that would begin; `kin` (enum fw_kin): by whom it is announced.  Returns
 * FW_DROP_NONE if it may be. */
enum fw_drop fw_policy_ask(struct fw_batch *b, enum fw_side opener, uint32_t vrf,
    const struct pk_addr *src, const struct pk_addr *dst, uint8_t proto, uint16_t selector,
    uint8_t app, uint8_t kin, struct fw_decision *d);

/* The same about session i, as it was opened. */
enum fw_drop fw_policy_ask_session(struct fw_batch *b, uint32_t i, struct fw_decision *d);

/* Count the hit and write the rule into the session, unless that is FW_SESSION_NONE. */
void fw_policy_note(struct fw_batch *b, uint32_t i, uint16_t selector, const struct fw_decision *d);

/* Ask again because of a packet of session i, from side d of it.  Not allowed any more: the session has
 * ended, whoever has to be told is told, and pk->drop says so. */
enum fw_drop fw_policy_reevaluate(
    struct fw_batch *b, struct fw_pkt *pk, uint32_t i, unsigned int d);

/* Tell both ends of session s, of whose side d `pk` is, that it is over. */
void fw_policy_tell(
    struct fw_batch *b, const struct fw_pkt *pk, const struct fw_session *s, unsigned int d);

/* End session i because of a packet of its side d, which drops as `why`; tell both ends if the decision is reject. */
enum fw_drop fw_policy_cut(struct fw_batch *b, struct fw_pkt *pk, uint32_t i, unsigned int d,
    enum fw_drop why, const struct fw_decision *decision);

/*
 * What a session was allowed by: the generation of the rules, and the posture of the host.  A change of
 * either has every session judged anew, so both are in the 32 bits that a session keeps: the posture as the
 * number of its changes, in the upper eight, never 0, which is what a session has that nobody has judged
 * here yet.  A session would have to be left alone by the walk for 255 changes of posture, or 16 million
 * generations, to be taken for judged.
 */
#define FW_FLIP_SHIFT      24
#define FW_GENERATION_MASK ((UINT32_C(1) << FW_FLIP_SHIFT) - 1)

/* What the clock on the wall shows, in seconds since 1970-01-01 UTC. */
static inline int64_t
fw_path_unix_s(const struct fw_path *p, uint64_t now_ns)
{
	int64_t offset_ns = p->conf.wall != NULL
	    ? atomic_load_explicit(&p->conf.wall->offset_ns, memory_order_relaxed)
	    : 0;

	return ((int64_t)now_ns + offset_ns) / (int64_t)PK_NS_PER_S;
}

static inline uint64_t
fw_path_stamp(struct fw_path *p, const struct fw_rules *rules, uint64_t now_ns)
{
	const struct fw_posture *posture = p->conf.posture;
	bool attested = posture != NULL &&
	    now_ns < atomic_load_explicit(&posture->until_ns, memory_order_acquire);

	uint32_t turns = p->conf.wall != NULL
	    ? atomic_load_explicit(&p->conf.wall->turns, memory_order_acquire)
	    : 0;

	if (unlikely(attested != p->attested || turns != p->turns)) {
		p->attested = attested;
		p->turns = turns;
		p->flips++;
	}
	return rules == NULL ? 0
	                     : (fw_rules_generation(rules) & ~((uint64_t)0xff << FW_FLIP_SHIFT)) |
	        (uint64_t)(1 + p->flips % 255) << FW_FLIP_SHIFT;
}

/* Bring idle sessions to the generation of `rules`.  See fw_path_tick(). */
void fw_policy_walk(struct fw_path *p, const struct fw_rules *rules, uint64_t now_ns,
    unsigned int budget, struct fw_made *made);

/* Make a segment of session i without a packet at hand, as if its opener had just sent one.  There has to be room
 * in *made. */
void fw_made_add(struct fw_batch *b, struct fw_made *made, uint32_t i, bool back,
    const struct fw_segment *segment, enum fw_side side);

/* Ask about session i as if it were of an older generation.  FW_DROP_NONE: it goes on, under the present one.
 * Otherwise nothing has happened to it yet. */
enum fw_drop fw_policy_ask_again(
    struct fw_path *p, const struct fw_rules *rules, uint32_t i, uint64_t now_ns);

/* End session i because somebody says so.  `made`: tell its ends, if it is TCP; two packets at most.  NULL:
 * without a word. */
void fw_policy_end(
    struct fw_path *p, uint32_t i, uint64_t now_ns, enum fw_drop why, struct fw_made *made);

/* Whether one more answer may be made now; and sending it, NULL for one that there was no memory for. */
bool fw_made_may(struct fw_batch *b);
void fw_made_send(struct fw_batch *b, const struct fw_pkt *pk, struct rte_mbuf *m, enum fw_side to);

/* ---- path_trace.c ---- */

/* Addresses and ports of a session as its opener sees them. */
void fw_session_names(const struct fw_session *s, const struct fw_session_cold *c,
    struct pk_addr *src, struct pk_addr *dst, uint16_t *sport, uint16_t *dport);

void fw_trace_packet(struct fw_batch *b, const struct fw_pkt *pk, enum fw_trace_kind kind,
    uint8_t before, uint8_t after, const struct fw_decision *d);
void fw_trace_closed(struct fw_path *p, uint32_t i, uint64_t now_ns, enum fw_drop why);

/* A packet made to answer `pk`: as if the one it seems to come from had sent it. */
void fw_trace_made(struct fw_batch *b, const struct fw_pkt *pk, enum fw_side to);

/* A record for a packet of a session, or of none and without a decision. */
static inline void
fw_trace_judged(struct fw_batch *b, const struct fw_pkt *pk, uint8_t before, uint8_t after)
{
	if (unlikely(b->level >= FW_TRACE_DROPS) &&
	    (b->level == FW_TRACE_ALL || pk->drop != FW_DROP_NONE))
		fw_trace_packet(b, pk, FW_TRACE_PACKET, before, after, NULL);
}

/* ---- path_restore.c ---- */

/*
 * Bring back what the last process has left in the table's memory: index, free list, timers, link headers
 * and counts are made anew out of the records, of which each is checked.  `now_ns` is the clock of
 * this process, and by `ahead_ns` ahead of the one the records were written by.
 * Returns how many sessions there are; *refused are the others.  Context: control thread, before the path runs.
 */
uint32_t fw_path_restore(struct fw_path *p, uint64_t now_ns, int64_t ahead_ns, uint32_t *refused);
