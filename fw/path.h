#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "fw/drop.h"
#include "fw/rule.h"
#include "fw/trace.h"
#include "lib/counter.h"

struct fw_overlay;
struct fw_esp;
struct fw_samples;
struct fw_tls;
struct fw_session_mem;
struct fw_shared;
struct fw_wall;
struct rte_mbuf;
struct rte_mempool;

/*
 * The packet path of one lcore: everything between receiving and sending, and nothing else.  It
 * owns a session table and counters, and is handed packets, rules and the time; so the worker on a
 * live port, the replay of a capture and the fuzzer all run the very same code.
 *
 * A wire joins an inside (the host's workloads) with an outside (the data centre).  What enters on
 * one side leaves on the other, or is dropped with a reason, or is answered to where it came from.
 *
 *     parse -> guard -> session -> [miss: policy -> create] -> tcp | udp | icmp -> verdict
 *
 * Stages run over the whole burst, one after the other.
 */
#define FW_BURST            32
#define FW_WIRES_MAX        64
#define FW_DHCP_SERVERS_MAX 16
#define FW_DNS_SERVERS_MAX  16

enum fw_side {
	FW_INSIDE = 0,
	FW_OUTSIDE,
	FW_SIDE_COUNT,
	/* A packet may also leave to picket-tlsd (fw/tls.h).  What comes from there counts as coming from outside. */
	FW_TLS = FW_SIDE_COUNT,
	FW_EXIT_COUNT,
};

/* Idle time after which a session is forgotten, by state; nanoseconds. */
enum fw_timeout {
	FW_TIMEOUT_TCP_SYN_SENT = 0, /* SYN seen, no answer */
	FW_TIMEOUT_TCP_SYN_RECV,     /* SYN-ACK seen */
	FW_TIMEOUT_TCP_ESTABLISHED,
	FW_TIMEOUT_TCP_FIN_WAIT,  /* one side has closed */
	FW_TIMEOUT_TCP_TIME_WAIT, /* both have */
	FW_TIMEOUT_TCP_CLOSED,    /* after an exact RST */
	FW_TIMEOUT_UDP_NEW,       /* one direction seen */
	FW_TIMEOUT_UDP,
	FW_TIMEOUT_ICMP,
	FW_TIMEOUT_OTHER,    /* SCTP and protocols without ports */
	FW_TIMEOUT_FRAGMENT, /* no session: a packet of which not all fragments have come */
	FW_TIMEOUT_COUNT,
};

/* Whose a session is; see fw/path_limit.c. */
enum fw_owner {
	FW_OWNER_WORKLOAD = 0,
	FW_OWNER_TENANT,
	FW_OWNER_SOURCE,
	FW_OWNER_COUNT,
};

/* What one of them may have; 0: any number. */
struct fw_limits {
	uint32_t sessions;
	uint32_t half_open; /* of these */
	uint32_t rate;      /* new ones a second */
};

struct fw_path_conf {
	uint32_t nb_sessions;  /* capacity of the table */
	uint64_t seed[2];      /* of the session hash: secret and random, but fixed in tests */
	bool huge;             /* table in huge pages if there are any */
	bool tcp_loose;        /* pick up TCP connections in mid-stream */
	bool verify_checksums; /* drop packets with wrong L4 checksums (the NIC may have done so) */
	bool tx_checksum; /* all ports compute L4 checksums; otherwise missing ones are made here */
	bool tx_tso; /* all ports split coalesced segments; otherwise those drop, `oversized` */
	bool general_only; /* no packet takes the fast lane (fw/lane.h): for tests, which compare */
	struct fw_limits limit[FW_OWNER_COUNT];
	uint32_t
	    syn_cookies; /* per cent of the table that may be half open without; 0: never any */
	uint32_t inspect_sessions; /* whose application is being looked for at a time; 0: none */
	uint16_t inspect_bytes, inspect_packets; /* to show it: in each direction; in both */
	size_t watch_memory;  /* to hold sessions against signatures; 0: none is */
	uint32_t watch_bytes; /* of each direction that are */
	uint8_t inspect_all;  /* enum pk_inspect: at least, whatever the rule asks for */
	bool inspect_open; /* no room: let the session pass unlooked at, instead of refusing it */
	uint32_t reevaluate_rate; /* idle sessions a second that are judged anew; 0: none */
	uint64_t timeout_ns[FW_TIMEOUT_COUNT];
	struct rte_mempool *pool; /* for packets the path makes; borrowed */
	struct fw_trace *trace;   /* where records go; borrowed, NULL for nowhere */
	struct fw_session_mem
	    *mem;           /* of the table, which outlives us; borrowed, NULL: private memory */
	struct fw_esp *esp; /* IPsec, shared by all lcores; borrowed, NULL: there is none */
	struct fw_tls *tls; /* mutual TLS, likewise; NULL: there is none */
	uint64_t secured_wires; /* bit i: nothing passes the outside of wire i but under MACsec */
	const struct fw_wall *wall;       /* borrowed, NULL: now_ns is UTC, and nothing turns */
	const struct fw_posture *posture; /* of the host; borrowed, NULL: it is not attested */
	const struct fw_overlay *overlay; /* tunnels to look into; borrowed, NULL: none */
	bool ftp, tftp;                   /* sessions of these may announce others: fw/related.h */
	struct pk_prefix dhcp_server[FW_DHCP_SERVERS_MAX]; /* who may answer DHCP */
	unsigned int nb_dhcp_servers;                      /* 0: DHCP is UDP like any other */
	struct pk_prefix dns_server[FW_DNS_SERVERS_MAX];   /* whose answers count for all who ask */
	unsigned int nb_dns_servers;
	uint32_t nb_names; /* addresses that are known by name at a time (fw/names.h); 0: none */
	const char *names_path;   /* of the file they are kept in; borrowed, NULL: none */
	struct fw_shared *shared; /* with other lcores (fw/shared.h); borrowed, NULL: its own */
};

/*
 * Whether the host is attested, for all lcores in one word: the end of its lease, in the clock of `now_ns`.
 * The control thread writes it, each burst reads it; so a host is cut off, by a message or by a lease that
 * runs out, between one burst and the next, whatever else is going on.
 */
struct fw_posture {
	_Atomic uint64_t until_ns; /* 0: not attested */
};

void fw_path_conf_init(struct fw_path_conf *conf); /* defaults; seed and pool are the caller's */

/* Counters of one lcore.  One writer; summed by whoever asks. */
struct fw_path_stats {
	pk_counter rx[FW_SIDE_COUNT], rx_bytes[FW_SIDE_COUNT];
	pk_counter sent[FW_SIDE_COUNT], sent_bytes[FW_SIDE_COUNT]; /* by the side they leave on */
	pk_counter made; /* RST, ICMP: these are in neither rx nor sent */
	pk_counter own;  /* for the DPU itself: received, and neither sent nor dropped */
	pk_counter drop[FW_DROP_COUNT];
	pk_counter sessions_created, sessions_ended, sessions_expired;
	pk_counter sessions_evicted; /* cut short to make room: half-open ones, then closing ones */
	pk_counter syn_cookies_sent,
	    syn_cookies_accepted; /* SYNs answered; ACKs that brought one back */
	pk_counter syn_cookies_switched, syn_cookies_on; /* how often; 1: now */
	pk_counter policy_lookups, reevaluated, revoked; /* revoked: cut by a change of policy */
	pk_counter inspect_packets, inspect_evicted, inspect_full;     /* fw/inspect.h */
	pk_counter leases_full;                                        /* fw/lease.h */
	pk_counter names_learnt, names_full, names_unread;             /* fw/names.h */
	pk_counter sig_alerts;                                         /* signatures that matched */
	pk_counter related_announced, related_refused, related_opened; /* fw/related.h */
} PK_CACHE_ALIGNED;

/* What one call hands back: packets to transmit, per side of the wire.  The caller owns them. */
struct fw_burst {
	uint16_t nb[FW_EXIT_COUNT];
	struct rte_mbuf *pkt[FW_EXIT_COUNT]
	                    [4 * FW_BURST]; /* a packet may be answered and passed on, in pieces */
};

struct fw_path;

/* Context: control thread.  Returns 0, -EINVAL or -ENOMEM; the caller owns *out. */
int fw_path_create(struct fw_path **out, const struct fw_path_conf *conf);
void fw_path_destroy(struct fw_path *p);

/*
 * Judge pkts[0 .. n - 1], n <= FW_BURST, received on the `from` side of `wire` at `now_ns`, by
 * `rules` (NULL: no policy yet, everything but nothing is dropped).  Takes the packets: each is in
 * *out, or freed and counted.
 * Context: the owning lcore.
 */
void fw_path_burst(struct fw_path *p, const struct fw_rules *rules, uint16_t wire,
    enum fw_side from, struct rte_mbuf **pkts, unsigned int n, uint64_t now_ns,
    struct fw_burst *out);

/*
 * Take the DPU's own out of pkts[0 .. n - 1], received on side `from` of `wire`: ESP is checked and revealed, and stays in
 * its place as the packet that was protected; ARP, neighbour discovery and IKE go to the control thread; what fails is
 * counted and freed.  Returns how many are left for fw_path_burst(), in order.  It comes before packets are spread over
 * lcores, for what is inside decides whose they are.  Without conf.esp it does nothing.
 * Context: the owning lcore.
 */
unsigned int fw_path_unprotect(struct fw_path *p, const struct fw_rules *rules, uint16_t wire,
    enum fw_side from, struct rte_mbuf **pkts, unsigned int n, uint64_t now_ns);

/*
 * With conf.tls, of a wire that has a port for TLS: take picket-tlsd's frames out of what has come in by `from`, and put them
 * to *out; and of what has come from that port put to *out what goes outside as it is.  What is left, the first as many as
 * they return, is for fw_path_burst(), of the second as from FW_OUTSIDE.
 * Context: the owning lcore.
 */
unsigned int fw_path_tls_in(struct fw_path *p, const struct fw_rules *rules, uint16_t wire,
    enum fw_side from, struct rte_mbuf **pkts, unsigned int n, uint64_t now_ns,
    struct fw_burst *out);
unsigned int fw_path_tls_back(struct fw_path *p, const struct fw_rules *rules, uint16_t wire,
    struct rte_mbuf **pkts, unsigned int n, uint64_t now_ns, struct fw_burst *out);

/* Packets that answer no packet, to be sent on `side` of `wire`.  The caller owns them. */
#define FW_MADE_MAX 64
struct fw_made {
	unsigned int nb;
	struct {
		struct rte_mbuf *m;
		uint16_t wire;
		uint8_t side; /* enum fw_side */
	} pkt[FW_MADE_MAX];
};

/*
 * Look after sessions whose time may have come at `now_ns`, about `budget` of them at most, each about a
 * hundred cycles; and when `rules` are of a newer generation than some sessions, judge idle ones anew, at most
 * `budget` of them.  Call it every loop, idle or not.
 * Who has to be told of a session's end is told in *made; NULL: nobody is.
 * True: there may be more to look after, so call it again soon.  Context: the owning lcore.
 */
#define FW_TICK_BUSY  16  /* a good budget when packets are waiting: those alive go first */
#define FW_TICK_QUIET 64  /* when few came, who wait for what is done meanwhile: 2 us */
#define FW_TICK_IDLE  128 /* when none came */
bool fw_path_tick(struct fw_path *p, const struct fw_rules *rules, uint64_t now_ns,
    unsigned int budget, struct fw_made *made);

/* The budget after a round in which a port gave `most` packets. */
static inline unsigned int
fw_tick_budget(unsigned int most)
{
	return most >= FW_BURST ? FW_TICK_BUSY : most > 0 ? FW_TICK_QUIET : FW_TICK_IDLE;
}

/* Packets that were to leave on side `to` do not, because of `why`; the caller has freed them.  They leave `sent`
 * (not sent_bytes, which stays a little high) for that drop reason. */
void fw_path_not_sent(struct fw_path *p, enum fw_side to, unsigned int n, enum fw_drop why);

/* n packets go out that no packet was the cause of.  Context: the owning lcore. */
void fw_path_count_made(struct fw_path *p, unsigned int n);

/*
 * Packets that were received on side `from` of `wire` and have to go before anybody could judge them, for
 * reason `why`: counted as received and dropped, and freed.  n <= FW_BURST.  Context: the owning lcore.
 */
void fw_path_refuse(struct fw_path *p, uint16_t wire, enum fw_side from, struct rte_mbuf **pkts,
    unsigned int n, enum fw_drop why, uint64_t now_ns);

/* Borrowed; counters run on.  Context: any. */
const struct fw_path_stats *fw_path_stats(const struct fw_path *p);

/* What each reason has dropped lately (fw/sample.h).  Borrowed.  Context: any. */
const struct fw_samples *fw_path_samples(const struct fw_path *p);

/* How often each rule slot decided about a new session or refused a packet.  FW_RULE_SLOTS of them. */
const pk_counter *fw_path_rule_hits(const struct fw_path *p);

/* "http"; "unknown"; "looking" while it is looked for, "none" when nobody does.  Context: any. */
const char *fw_app_name(uint8_t app);

/* What its names have come to (fw/names.h), with other lcores; NULL: none is kept. */
struct fw_names *fw_path_names(const struct fw_path *p);

/* By enum fw_app, FW_APPS of each: sessions found to speak it, and of these such as were cut for it. */
#define FW_APPS 256
const pk_counter *fw_path_apps_found(const struct fw_path *p);
const pk_counter *fw_path_apps_denied(const struct fw_path *p);

/* Sessions whose application is being looked for. */
uint32_t fw_path_inspecting(const struct fw_path *p);

/*
 * Signatures (dpi/watch.h).  A set that was made for the watches of this path is for new sessions from the next
 * tick on, as dpi_watches_in_use() tells; sessions finish on the one they began with.  NULL: there are none.
 * Context: control thread.  The set stays the caller's, who has to wait until it is over.
 */
struct dpi_watches;
struct dpi_watch_set;
struct dpi_watches *fw_path_watches(struct fw_path *p); /* NULL: no memory was set aside */
void fw_path_offer_signatures(struct fw_path *p, struct dpi_watch_set *set);

uint32_t fw_path_nb_sessions(const struct fw_path *p);

/* Of memory behind the session table, used or not. */
size_t fw_path_session_bytes(const struct fw_path *p);

/* Workloads, tenants and outside addresses that hold something: see fw/host.h.  Sessions count only if there is a limit to them. */
uint32_t fw_path_nb_hosts(const struct fw_path *p);

/* A session for people, consistent enough to read while the lcore writes (checked by version). */
struct fw_session_info {
	uint64_t id;
	uint32_t vrf; /* address space */
	uint16_t wire;
	uint8_t proto;
	uint8_t direction; /* enum pk_direction of the side that opened it, seen from inside */
	struct pk_addr src, dst;       /* src opened it */
	uint16_t sport, dport;         /* ICMP: identifier and type << 8 | code */
	uint64_t packets[2], bytes[2]; /* forward, reverse */
	uint64_t age_ns, idle_ns, expires_in_ns;
	uint64_t rule_id;
	uint64_t generation;
	const char *state; /* "established" */
	uint8_t app;       /* enum fw_app */
};

/*
 * Walk the table from *cursor (0 at first), calling `each` for at most `n` sessions; false from
 * `each` stops.  *cursor is 0 again after the last.  Context: any thread.
 */
void fw_path_walk(const struct fw_path *p, uint64_t now_ns, uint32_t *cursor, unsigned int n,
    bool (*each)(void *arg, const struct fw_session_info *info), void *arg);
