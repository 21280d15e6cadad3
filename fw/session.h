#pragma once

#include <stdatomic.h>

#include <rte_branch_prediction.h>
#include <rte_common.h>
#include <rte_prefetch.h>

#include "fw/bits.h"
#include "fw/parse.h"
#include "fw/path.h"
#include "fw/simd.h"
#include "fw/timer.h"

/*
 * Sessions: what has been allowed, and how far it has got.
 *
 * Life.  The first packet of a flow that policy allows creates a session.  Every later packet, of
 * either direction, finds it by one normalised key, moves its state on, and notes the time.  It ends
 * when its connection has closed and rested (TIME_WAIT), when nothing was seen for the timeout of its
 * state, when a new connection takes over its ports, or at once when a change of policy no longer
 * allows it.  The record then returns to the free list under a new version.
 *
 * Records.  At 100 Gb/s a trip to memory is the whole budget of a packet, so a packet of an IPv4
 * session touches two lines of the table: a bucket, and the session's hot line.
 *
 *      hash -> bucket  [ 8 tags of 16 bits | 8 indices | chain ]   one SIMD compare finds the tag
 *                              |
 *      index ------------------+-> hot[index]   64 bytes: key, state, windows, time, small counters
 *                                  cold[index]  96 bytes: IPv6 addresses, counters, rule
 *
 * A key may live in two buckets (the second is the first, moved by the tag), so buckets fill evenly;
 * when both are full a chained bucket from a small reserve takes it.  An IPv6 key does not fit the
 * hot line: there stands a keyed 64-bit digest of the two addresses, and the addresses themselves,
 * always compared, in the first half line of the cold record.  All in all 169 bytes a session, with version,
 * timer and link header, and 10 to 21 for its share of the buckets.
 *
 * The hash is keyed with a secret drawn at start, so nobody outside can aim flows at one bucket.  It is
 * not a cryptographic hash; it does not have to be, since its output is never shown.
 *
 * Who may touch what.  The table belongs to one lcore, which alone writes.  Any thread may read
 * hot[] and cold[] as fw_path_walk() does: read `version` (odd: alive), copy, read `version` again.
 * Keys do not change under one version; counters and states may be a packet apart.
 *
 *      hot.key, cold.addr, cold.rule_id, opened_ns, selector, kin   written once, before version turns odd
 *      hot.generation, cold.rule_id                            again by a re-evaluation
 *      hot.state, side, win, seen, packets, bytes              by every packet
 *      cold.packets, cold.bytes                                when the small counters run over
 *
 * The end of an IPv4 session does not touch the cold record, and of the hot one it changes nothing if there is no
 * need: when millions end at once, memory is what they wait for, and each line counts twice that has to be written
 * back.  So which records are free is kept in bits beside them.
 *
 * A session's id is its version and index, so a reference kept elsewhere is checked before use.
 *
 * Shortage.  Capacity is fixed.  fw_sessions_create() returns FW_SESSION_NONE when it is exhausted; then
 * fw_sessions_victim() names who may go: a half-open session, and if there is none a closing one; never one
 * that both sides have spoken in.  Each class is a set of indices with a hand that goes round.  A newcomer
 * gets the record of the one that went for it, just behind the hand, so the hand comes to it last: among the
 * sessions of a flood the oldest goes first, and each has as long as all of them last.
 */
enum fw_state {
	FW_STATE_NONE = 0,
	/* TCP; F and R: the forward (opening) and reverse side.  The table is in fw/tcp.c. */
	FW_STATE_SYN_SENT,   /* SYN from F */
	FW_STATE_SYN_BOTH,   /* and SYN from R: simultaneous open */
	FW_STATE_SYN_BOTH_F, /* simultaneous open, F's SYN is acknowledged */
	FW_STATE_SYN_BOTH_R, /* simultaneous open, R's SYN is acknowledged */
	FW_STATE_SYN_RECV,   /* SYN-ACK from R */
	FW_STATE_ESTABLISHED,
	FW_STATE_FIN_F, /* FIN from F */
	FW_STATE_FIN_R,
	FW_STATE_HALF_F, /* FIN from F, acknowledged: F has closed, R may go on */
	FW_STATE_HALF_R,
	FW_STATE_CLOSING, /* FIN from both, neither acknowledged */
	FW_STATE_LAST_F,  /* FIN from both, F's is not yet acknowledged */
	FW_STATE_LAST_R,
	FW_STATE_TIME_WAIT,
	FW_STATE_CLOSED, /* reset */
	/* the others */
	FW_STATE_UDP_NEW, /* one direction seen */
	FW_STATE_UDP,
	FW_STATE_ICMP,
	FW_STATE_OTHER,
	FW_STATE_COUNT,
};
#define FW_STATE_TCP_COUNT (FW_STATE_CLOSED + 1)

/* "syn-sent", "established"; "none" for 0, "unknown" beyond the end.  Context: any. */
const char *fw_session_state_name(unsigned int state);

/* How much is lost with a session. */
enum fw_session_class {
	FW_CLASS_HALF_OPEN = 0, /* a request without an answer, a handshake under way, a ping */
	FW_CLASS_CLOSING,       /* both have said goodbye, or one has reset */
	FW_CLASS_LIVE,          /* both sides have spoken */
	FW_CLASS_VICTIMS = FW_CLASS_LIVE,
};
enum fw_timeout fw_session_timeout(unsigned int state);

enum fw_session_flags {
	FW_SESSION_HI = 1 << 0,           /* the opener has the greater address */
	FW_SESSION_FROM_OUTSIDE = 1 << 1, /* the opener is outside: policy was asked for ingress */
	FW_SESSION_WSCALE = 1 << 2,       /* the opener offered window scaling */
	FW_SESSION_CHALLENGED = 1 << 3, /* SYN_SENT: R answered with an ACK of another connection */
	FW_SESSION_LOOSE = 1 << 4,      /* picked up in mid-stream */
	FW_SESSION_SYN_R = 1 << 5,      /* R's SYN has been seen, so side[1] counts */
	FW_SESSION_LOG_END = 1 << 6,    /* its rule logs how sessions end */
	FW_SESSION_EXTRA = 1 << 7,      /* not for the lane: enum fw_care, fw/inspect.h */
};

/* Sessions that announce others, and those announced (fw/related.h). */
enum fw_kin {
	FW_KIN_RELATED =
	    1 << 0, /* policy is asked by the selector of the one that has announced it, */
	FW_KIN_REVERSED = 1 << 1, /* and as if its other side had opened it */
};

struct fw_tcp_side {
	uint32_t end; /* one past the highest sequence number sent, SYN and FIN counted */
	uint32_t ack; /* highest acknowledgement sent: what the other side knows has arrived */
};

#define FW_SEEN_SHIFT \
	20 /* hot times count in 2^20 ns, about a millisecond, and wrap after 52 days */

/* What each packet of a session is to be held to, but for its application.  Such sessions have FW_SESSION_EXTRA. */
enum fw_care {
	FW_CARE_TERMS = 1 << 0,  /* its rule meters packets, or marks them: path_terms.c */
	FW_CARE_PROXY = 1 << 1,  /* its handshake was done in the server's place: path_proxy.c */
	FW_CARE_HELPED = 1 << 2, /* it may announce others: path_helper.c */
	FW_CARE_WATCH = 1 << 3,  /* it is held against signatures: path_watch.c */
	FW_CARE_ESP = 1 << 4,    /* it goes by ESP: path_protect.c */
	FW_CARE_NAMES = 1 << 5,  /* DNS over TCP, whose answers are read: path_names.c */
	FW_CARE_TLS = 1 << 6,    /* it goes by mutual TLS: path_tls.c */
};
#define FW_CARE_ALL                                                                     \
	(FW_CARE_TERMS | FW_CARE_PROXY | FW_CARE_HELPED | FW_CARE_WATCH | FW_CARE_ESP | \
	    FW_CARE_NAMES | FW_CARE_TLS)

/* The line that every packet touches. */
struct fw_session {
	struct fw_key key;
	uint8_t state;       /* enum fw_state */
	uint8_t flags;       /* enum fw_session_flags */
	uint8_t scale;       /* TCP window shifts: F in the low four bits, R in the high */
	uint8_t app;         /* enum fw_app */
	uint32_t generation; /* of the policy that allowed it, low 32 bits */
	uint32_t seen;       /* last packet that counted */
	struct fw_tcp_side side[2];
	uint16_t win[2]; /* greatest window each side has advertised, shifted down by its scale */
	uint16_t packets[2]; /* small counters, carried over to the cold record before they wrap */
	uint32_t bytes[2];
} PK_CACHE_ALIGNED;
_Static_assert(sizeof(struct fw_session) == PK_CACHE_LINE, "the hot line is one cache line");

struct fw_session_cold {
	uint8_t addr[2][16]; /* IPv6: lower, higher */
	uint64_t packets[2], bytes[2];
	uint64_t rule_id;
	uint64_t opened_ns;
	uint32_t next;              /* free ones */
	uint16_t ether;             /* the link header, see fw/ether.h */
	uint8_t care;               /* enum fw_care */
	uint8_t kin;                /* enum fw_kin */
	uint32_t slot_and_selector; /* rule slot << 16 | service selector of the opening packet */
} __attribute__((aligned(32)));

/* Kept apart from the cold records, so that the walker reads 16 versions in a line. */
typedef _Atomic uint32_t fw_version;

#define FW_SESSION_NONE UINT32_MAX
#define FW_BUCKET_WAYS  8

struct fw_bucket {
	uint16_t tag[FW_BUCKET_WAYS]; /* 0: free */
	uint32_t index[FW_BUCKET_WAYS];
	uint32_t next; /* chained bucket, 0 for none */
	uint32_t nb;   /* ways in use */
	uint32_t zero[2];
} PK_CACHE_ALIGNED;
_Static_assert(sizeof(struct fw_bucket) == PK_CACHE_LINE, "a bucket is one cache line");

struct fw_sessions {
	struct fw_bucket *bucket; /* mask + 1 of them, then the reserve for chains */
	struct fw_session *hot;
	struct fw_session_cold *cold;
	fw_version *version;
	uint16_t *ether; /* link headers, see fw/ether.h */
	uint32_t mask;
	uint32_t capacity;
	uint64_t key[4];        /* of the hash */
	uint32_t nb;            /* alive */
	_Atomic uint32_t fresh; /* indices from here on have never been used */
	struct fw_bits free;    /* of those below, the ones that may be used again */
	uint32_t free_near;     /* where one of them is */
	uint32_t chain_free;    /* list of reserve buckets, linked by next; 0 for none */
	uint32_t chain_fresh, chain_end;
	size_t bytes; /* of memory behind all of it */
	bool huge;
	bool borrowed; /* the memory is somebody else's */
	struct fw_timer timer;
	struct fw_bits class[FW_CLASS_VICTIMS];
	uint32_t hand[FW_CLASS_VICTIMS];
};

/*
 * Make room for `capacity` sessions.  With `huge` in huge pages if the kernel has any to give, and in
 * transparent ones otherwise.  All memory is touched here, so no packet ever waits for a page.
 * Context: control thread, on the NUMA node of the lcore.  Returns 0, -EINVAL or -ENOMEM.
 */
int fw_sessions_init(
    struct fw_sessions *t, uint32_t capacity, const uint64_t seed[2], bool huge, uint64_t now_ns);
void fw_sessions_fini(struct fw_sessions *t);

/* The same in memory of the caller's (fw/session_mem.h), fw_sessions_bytes() of it, in multiples of a cache
 * line and aligned to one.  What stands there stays, and counts as nothing until it is restored. */
size_t fw_sessions_bytes(uint32_t capacity); /* 0: no such capacity */
int fw_sessions_init_at(struct fw_sessions *t, void *memory, uint32_t capacity,
    const uint64_t seed[2], uint64_t now_ns);

/*
 * Make the index, timers, classes and the list of free records anew, out of the records: nothing else is
 * believed.  fw_sessions_restore_begin() empties them.  Then for each index below what it returns, in
 * rising order, fw_sessions_restore() puts a record back: -ENOENT: there is none alive; -EINVAL: it cannot
 * be a session, and has been freed.  0: its timer is not filed yet.  Context: control thread.
 */
uint32_t fw_sessions_restore_begin(struct fw_sessions *t, uint64_t now_ns);
int fw_sessions_restore(struct fw_sessions *t, uint32_t i);

/*
 * Create a session for pk->key, which must not be in the table.  Its state is FW_STATE_NONE, its
 * timer is not filed, and what the caller does not set is zero.
 * Context: the owner.  Returns its index, or FW_SESSION_NONE when there is no room.
 */
uint32_t fw_sessions_create(struct fw_sessions *t, const struct fw_pkt *pk);

/* Begin to show a created session to readers, once its fields are set.  Context: the owner. */
void fw_sessions_publish(struct fw_sessions *t, uint32_t i);

/* By state.  Protocols of one state only count as half open, and may turn out to have been answered. */
static inline enum fw_session_class
fw_session_class(unsigned int state)
{
	switch (state) {
	case FW_STATE_SYN_SENT:
	case FW_STATE_SYN_BOTH:
	case FW_STATE_SYN_BOTH_F:
	case FW_STATE_SYN_BOTH_R:
	case FW_STATE_SYN_RECV:
	case FW_STATE_UDP_NEW:
	case FW_STATE_ICMP:
	case FW_STATE_OTHER:
		return FW_CLASS_HALF_OPEN;
	case FW_STATE_CLOSING:
	case FW_STATE_LAST_F:
	case FW_STATE_LAST_R:
	case FW_STATE_TIME_WAIT:
	case FW_STATE_CLOSED:
		return FW_CLASS_CLOSING;
	default:
		return FW_CLASS_LIVE;
	}
}

/* Session i was in state `before`, FW_STATE_NONE when it is new, and is now in that of its record. */
static inline void
fw_sessions_moved(struct fw_sessions *t, uint32_t i, unsigned int before)
{
	enum fw_session_class old = fw_session_class(before),
	                      new = fw_session_class(t->hot[i].state);

	if (old == new)
		return;
	if (old != FW_CLASS_LIVE)
		fw_bits_clear(&t->class[old], i);
	if (new != FW_CLASS_LIVE)
		fw_bits_set(&t->class[new], i);
}

/* Who has to go so that another may come; FW_SESSION_NONE: nobody.  In a few steps: what is not in its class
 * any more leaves it, FW_VICTIM_TRIES at most.  Context: the owner. */
#define FW_VICTIM_TRIES 8
uint32_t fw_sessions_victim(struct fw_sessions *t);

/* Take a session out and free its record.  Context: the owner. */
void fw_sessions_remove(struct fw_sessions *t, uint32_t i);

/*
 * The same for sessions i[0 .. n - 1], n <= FW_REMOVE_BURST, whose timers are not filed, for little more than the time
 * their buckets take to come from memory, all at once.  Between bursts only: a guess made before may still match.
 */
#define FW_REMOVE_BURST 128
void fw_sessions_remove_burst(struct fw_sessions *t, const uint32_t *i, unsigned int n);

/* The way that needs no prefetch: find pk->key, hashed.  FW_SESSION_NONE if it is not there. */
uint32_t fw_sessions_find(const struct fw_sessions *t, const struct fw_pkt *pk);

static inline uint64_t
fw_session_id(const struct fw_sessions *t, uint32_t i)
{
	return (uint64_t)atomic_load_explicit(&t->version[i], memory_order_relaxed) << 32 | i;
}

/* Whether there is a session in record i, for readers to see.  Context: the owner. */
static inline bool
fw_session_alive(const struct fw_sessions *t, uint32_t i)
{
	return atomic_load_explicit(&t->version[i], memory_order_relaxed) % 2 != 0;
}

/* A key as three numbers: compared, hashed and stored as such, for narrow stores that a wide load follows
 * make the load wait. */
struct fw_words {
	uint64_t q[2];
	uint32_t tail;
};

static __rte_always_inline struct fw_words
fw_key_words(const struct fw_key *k)
{
	struct fw_words w;

	memcpy(&w.q[0], k, 8);
	memcpy(&w.q[1], (const char *)k + 8, 8);
	memcpy(&w.tail, (const char *)k + 16, 4);
	return w;
}

static __rte_always_inline bool
fw_words_equal(struct fw_words a, struct fw_words b)
{
	return ((a.q[0] ^ b.q[0]) | (a.q[1] ^ b.q[1]) | (a.tail ^ b.tail)) == 0;
}

/* Multiply to 128 bits and fold: each output bit hangs on each input bit. */
static __rte_always_inline uint64_t
fw_hash_mix(uint64_t a, uint64_t b)
{
	unsigned __int128 m = (unsigned __int128)a * b;

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static __rte_always_inline uint64_t
fw_words_hash(const struct fw_sessions *t, struct fw_words w)
{
	return fw_hash_mix(fw_hash_mix(w.q[0] ^ t->key[0], w.q[1] ^ t->key[1]) ^ w.tail, t->key[2]);
}

/* What stands for two IPv6 addresses, as they lie in memory, in a key. */
static __rte_always_inline uint64_t
fw_addrs_digest(const struct fw_sessions *t, const uint64_t low[2], const uint64_t high[2])
{
	uint64_t h = fw_hash_mix(low[0] ^ t->key[2], low[1] ^ t->key[3]);

	return fw_hash_mix(high[0] ^ t->key[0] ^ h, high[1] ^ t->key[1] ^ (h << 32 | h >> 32));
}

/* Complete pk->key and compute pk->hash. */
static __rte_always_inline void
fw_sessions_hash(const struct fw_sessions *t, struct fw_pkt *pk)
{
	if (pk->key.family == 6) {
		uint64_t a[4], h;

		memcpy(a, pk->addr, sizeof(a));
		h = fw_addrs_digest(t, a, a + 2);
		memcpy(pk->key.digest, &h, sizeof(h));
	}
	pk->hash = fw_words_hash(t, fw_key_words(&pk->key));
}

static __rte_always_inline uint16_t
fw_hash_tag(uint64_t h)
{
	uint16_t tag = (uint16_t)(h >> 48);

	return tag != 0 ? tag : 1;
}

static __rte_always_inline uint32_t
fw_hash_other(const struct fw_sessions *t, uint32_t bucket, uint16_t tag)
{
	return (bucket ^ tag * UINT32_C(0x5bd1e995)) & t->mask;
}

/* Bit i: way i of the bucket has this tag. */
static __rte_always_inline unsigned int
fw_bucket_match(const struct fw_bucket *b, uint16_t tag)
{
	return fw_match8(b->tag, tag);
}

/* Whether session i is of this key; IPv6 addresses in full. */
static __rte_always_inline bool
fw_session_is(const struct fw_sessions *t, uint32_t i, const struct fw_pkt *pk)
{
	if (!fw_words_equal(fw_key_words(&t->hot[i].key), fw_key_words(&pk->key)))
		return false;
	return likely(pk->key.family == 4) ||
	    memcmp(t->cold[i].addr, pk->addr, sizeof(pk->addr)) == 0;
}

/*
 * The stages of a burst lookup, each over all packets before the next begins: prefetch the buckets;
 * guess sessions by their tags and fetch their lines; compare.  fw_sessions_settle() is right in all cases,
 * even when the table has changed in between; the guess only makes it quick.
 */
static __rte_always_inline void
fw_sessions_prefetch(const struct fw_sessions *t, const struct fw_pkt *pk)
{
	rte_prefetch0(&t->bucket[(uint32_t)pk->hash & t->mask]);
}

/* Guess the sessions of pkt[0 .. n - 1], n <= FW_BURST, whose hashes are set, into pkt[].session. */
void fw_sessions_guess(const struct fw_sessions *t, struct fw_pkt *pkt, unsigned int n);

static __rte_always_inline uint32_t
fw_sessions_settle(const struct fw_sessions *t, const struct fw_pkt *pk, uint32_t guess)
{
	if (likely(guess != FW_SESSION_NONE && fw_session_is(t, guess, pk)))
		return guess;
	return fw_sessions_find(t, pk);
}

/* Count a packet of `bytes` in direction d (0 forward) of *s, a session of *t.  The walker adds both parts up. */
static __rte_always_inline void
fw_session_count(struct fw_sessions *t, struct fw_session *s, unsigned int d, uint32_t bytes)
{
	s->packets[d]++;
	s->bytes[d] += bytes;
	/* 2^15 packets of at most 2^16 bytes: both are carried before either can wrap. */
	if (unlikely(s->packets[d] >= 1 << 15)) {
		struct fw_session_cold *c = &t->cold[s - t->hot];

		c->packets[d] += s->packets[d];
		c->bytes[d] += s->bytes[d];
		s->packets[d] = 0;
		s->bytes[d] = 0;
	}
}
