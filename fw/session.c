#include "fw/session.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE (UINT64_C(2) << 20)

#if defined(__SANITIZE_ADDRESS__)
#define PLAIN_MEMORY 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define PLAIN_MEMORY 1
#endif
#endif
#ifndef PLAIN_MEMORY
#define PLAIN_MEMORY 0
#endif

static const struct {
	const char *name;
	enum fw_timeout timeout;
} states[FW_STATE_COUNT] = {
	[FW_STATE_NONE] = { "none", FW_TIMEOUT_OTHER },
	[FW_STATE_SYN_SENT] = { "syn-sent", FW_TIMEOUT_TCP_SYN_SENT },
	[FW_STATE_SYN_BOTH] = { "syn-both", FW_TIMEOUT_TCP_SYN_SENT },
	[FW_STATE_SYN_BOTH_F] = { "syn-both-f", FW_TIMEOUT_TCP_SYN_RECV },
	[FW_STATE_SYN_BOTH_R] = { "syn-both-r", FW_TIMEOUT_TCP_SYN_RECV },
	[FW_STATE_SYN_RECV] = { "syn-recv", FW_TIMEOUT_TCP_SYN_RECV },
	[FW_STATE_ESTABLISHED] = { "established", FW_TIMEOUT_TCP_ESTABLISHED },
	[FW_STATE_FIN_F] = { "fin-f", FW_TIMEOUT_TCP_FIN_WAIT },
	[FW_STATE_FIN_R] = { "fin-r", FW_TIMEOUT_TCP_FIN_WAIT },
	[FW_STATE_HALF_F] = { "half-f", FW_TIMEOUT_TCP_FIN_WAIT },
	[FW_STATE_HALF_R] = { "half-r", FW_TIMEOUT_TCP_FIN_WAIT },
	[FW_STATE_CLOSING] = { "closing", FW_TIMEOUT_TCP_TIME_WAIT },
	[FW_STATE_LAST_F] = { "last-f", FW_TIMEOUT_TCP_TIME_WAIT },
	[FW_STATE_LAST_R] = { "last-r", FW_TIMEOUT_TCP_TIME_WAIT },
	[FW_STATE_TIME_WAIT] = { "time-wait", FW_TIMEOUT_TCP_TIME_WAIT },
	[FW_STATE_CLOSED] = { "closed", FW_TIMEOUT_TCP_CLOSED },
	[FW_STATE_UDP_NEW] = { "udp-new", FW_TIMEOUT_UDP_NEW },
	[FW_STATE_UDP] = { "udp", FW_TIMEOUT_UDP },
	[FW_STATE_ICMP] = { "icmp", FW_TIMEOUT_ICMP },
	[FW_STATE_OTHER] = { "other", FW_TIMEOUT_OTHER },
};

const char *
fw_session_state_name(unsigned int state)
{
	return state < FW_STATE_COUNT ? states[state].name : "unknown";
}

enum fw_timeout
fw_session_timeout(unsigned int state)
{
	return state < FW_STATE_COUNT ? states[state].timeout : FW_TIMEOUT_OTHER;
}

/* One allocation for all arrays.  Sanitizers only watch memory of libc's. */
static void *
big_alloc(size_t *bytes, bool *huge)
{
	void *p;

	if (PLAIN_MEMORY) {
		*huge = false;
		*bytes = (*bytes + PK_CACHE_LINE - 1) & ~(size_t)(PK_CACHE_LINE - 1);
		p = aligned_alloc(PK_CACHE_LINE, *bytes);
		if (p != NULL)
			memset(p, 0, *bytes);
		return p;
	}
	*bytes = (*bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
	if (*huge) {
		p = mmap(NULL, *bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);
		if (p != MAP_FAILED)
			return p;
		*huge = false;
	}
	p = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	/* Advice may be ignored; touching each page may not.  A table that the machine has no memory
	 * for is found out now, and not by a packet. */
	(void)madvise(p, *bytes, MADV_HUGEPAGE);
#ifdef MADV_POPULATE_WRITE
	if (madvise(p, *bytes, MADV_POPULATE_WRITE) == 0)
		return p;
#endif
	for (size_t i = 0; i < *bytes; i += 4096)
		((volatile char *)p)[i] = 0;
	return p;
}

static uint64_t
splitmix(uint64_t *s)
{
	uint64_t z = (*s += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* Where the arrays lie in the memory of a table. */
struct plan {
	uint32_t nb_buckets, nb_chained;
	size_t cold_at, bucket_at, version_at, ether_at, timer_at, bits_at, bytes;
};

static int
plan(struct plan *p, uint32_t capacity)
{
	*p = (struct plan){ .nb_buckets = 16 };
	if (capacity == 0 || capacity > UINT32_C(1) << 30)
		return -EINVAL;
	/* At most 13 of 16 ways used: beyond that the chains grow, and they are what costs. */
	while ((uint64_t)p->nb_buckets * FW_BUCKET_WAYS * 13 / 16 < capacity)
		p->nb_buckets *= 2;
	p->nb_chained = p->nb_buckets / 16 + 8;
	p->cold_at = (size_t)capacity * sizeof(struct fw_session);
	p->bucket_at = p->cold_at + (size_t)capacity * sizeof(struct fw_session_cold);
	p->bucket_at = (p->bucket_at + PK_CACHE_LINE - 1) & ~(size_t)(PK_CACHE_LINE - 1);
	p->version_at =
	    p->bucket_at + (size_t)(p->nb_buckets + p->nb_chained) * sizeof(struct fw_bucket);
	p->ether_at = p->version_at + (size_t)capacity * sizeof(fw_version);
	p->timer_at = p->ether_at + (size_t)capacity * sizeof(uint16_t);
	p->timer_at = (p->timer_at + PK_CACHE_LINE - 1) & ~(size_t)(PK_CACHE_LINE - 1);
	p->bits_at = p->timer_at + fw_timer_bytes(capacity);
	p->bytes = p->bits_at + (FW_CLASS_VICTIMS + 1) * fw_bits_bytes(capacity);
	return 0;
}

size_t
fw_sessions_bytes(uint32_t capacity)
{
	struct plan p;

	return plan(&p, capacity) == 0 ? p.bytes : 0;
}

/* Timer, classes and the free ones, which lie one after the other. */
static void
init_clockwork(struct fw_sessions *t, void *memory, uint64_t now_ns)
{
	char *bits = (char *)memory + fw_timer_bytes(t->capacity);
	size_t each = fw_bits_bytes(t->capacity);

	fw_timer_init(&t->timer, memory, t->capacity, now_ns);
	for (unsigned int c = 0; c < FW_CLASS_VICTIMS; c++) {
		fw_bits_init(&t->class[c], bits + c * each, t->capacity);
		t->hand[c] = 0;
	}
	fw_bits_init(&t->free, bits + FW_CLASS_VICTIMS * each, t->capacity);
	t->free_near = 0;
}

int
fw_sessions_init_at(
    struct fw_sessions *t, void *memory, uint32_t capacity, const uint64_t seed[2], uint64_t now_ns)
{
	uint64_t a = seed[0], b = seed[1];
	char *base = memory;
	struct plan p;
	int rc = plan(&p, capacity);

	memset(t, 0, sizeof(*t));
	if (rc < 0)
		return rc;
	t->bytes = p.bytes;
	t->borrowed = true;
	t->hot = (struct fw_session *)base;
	t->cold = (struct fw_session_cold *)(base + p.cold_at);
	t->bucket = (struct fw_bucket *)(base + p.bucket_at);
	t->version = (fw_version *)(base + p.version_at);
	t->ether = (uint16_t *)(base + p.ether_at);
	t->mask = p.nb_buckets - 1;
	t->capacity = capacity;
	t->chain_fresh = p.nb_buckets;
	t->chain_end = p.nb_buckets + p.nb_chained;
	for (unsigned int i = 0; i < PK_COUNT(t->key); i++)
		t->key[i] = splitmix(&a) ^ splitmix(&b) * (2 * i + 1);
	t->key[2] |= 1;
	init_clockwork(t, base + p.timer_at, now_ns);
	return 0;
}

int
fw_sessions_init(
    struct fw_sessions *t, uint32_t capacity, const uint64_t seed[2], bool huge, uint64_t now_ns)
{
	size_t bytes = fw_sessions_bytes(capacity);
	void *memory;

	memset(t, 0, sizeof(*t));
	if (bytes == 0)
		return -EINVAL;
	memory = big_alloc(&bytes, &huge);
	if (memory == NULL)
		return -ENOMEM;
	(void)fw_sessions_init_at(t, memory, capacity, seed, now_ns);
	t->bytes = bytes;
	t->huge = huge;
	t->borrowed = false;
	return 0;
}

void
fw_sessions_fini(struct fw_sessions *t)
{
	if (t->hot == NULL)
		return;
	if (t->borrowed)
		;
	else if (PLAIN_MEMORY)
		free(t->hot);
	else
		munmap(t->hot, t->bytes);
	memset(t, 0, sizeof(*t));
}

static uint32_t
find_in_chain(const struct fw_sessions *t, uint32_t b, uint16_t tag, const struct fw_pkt *pk)
{
	do {
		unsigned int m = fw_bucket_match(&t->bucket[b], tag);

		for (; m != 0; m &= m - 1) {
			uint32_t i = t->bucket[b].index[__builtin_ctz(m)];

			if (fw_session_is(t, i, pk))
				return i;
		}
		b = t->bucket[b].next;
	} while (b != 0);
	return FW_SESSION_NONE;
}

/* By the first tag that matches in bucket b; also asks for the session's line, and that of its IPv6 addresses. */
static __rte_always_inline uint32_t
guess_in(const struct fw_sessions *t, uint32_t b, uint16_t tag, const struct fw_pkt *pk)
{
	unsigned int m = fw_bucket_match(&t->bucket[b], tag);
	uint32_t i;

	if (unlikely(m == 0))
		return FW_SESSION_NONE;
	i = t->bucket[b].index[__builtin_ctz(m)];
	__builtin_prefetch(&t->hot[i], 1); /* to be written */
	if (pk->key.family == 6)
		rte_prefetch0(&t->cold[i]);
	return i;
}

/*
 * A prefetch is a hint, and where pages are translated twice, in virtual machines, many are not taken: then
 * each packet would later wait for its line alone.  So the end of it is a loop of loads with nothing between
 * them, which are all under way together.
 */
void
fw_sessions_guess(const struct fw_sessions *t, struct fw_pkt *pkt, unsigned int n)
{
	uint32_t guess[FW_BURST], missed = 0;

	for (unsigned int k = 0; k < n; k++) {
		uint32_t b = (uint32_t)pkt[k].hash & t->mask;
		uint16_t tag = fw_hash_tag(pkt[k].hash);

		guess[k] = guess_in(t, b, tag, &pkt[k]);
		if (unlikely(guess[k] == FW_SESSION_NONE)) {
			rte_prefetch0(&t->bucket[fw_hash_other(t, b, tag)]);
			missed |= UINT32_C(1) << k;
		}
		pkt[k].session = guess[k];
	}
	/* Those that are not in their first bucket may be in the second.  Any line will do for the rest. */
	for (; missed != 0; missed &= missed - 1) {
		unsigned int k = (unsigned int)__builtin_ctz(missed);
		uint16_t tag = fw_hash_tag(pkt[k].hash);

		pkt[k].session = guess_in(
		    t, fw_hash_other(t, (uint32_t)pkt[k].hash & t->mask, tag), tag, &pkt[k]);
		guess[k] = pkt[k].session != FW_SESSION_NONE ? pkt[k].session : 0;
	}
	for (unsigned int k = 0; k < n; k++)
		(void)*(const volatile uint32_t *)&t->hot[guess[k]].generation;
}

uint32_t
fw_sessions_find(const struct fw_sessions *t, const struct fw_pkt *pk)
{
	uint16_t tag = fw_hash_tag(pk->hash);
	uint32_t b = (uint32_t)pk->hash & t->mask;
	uint32_t i = find_in_chain(t, b, tag, pk);

	return i != FW_SESSION_NONE ? i : find_in_chain(t, fw_hash_other(t, b, tag), tag, pk);
}

static void
put_in(struct fw_bucket *b, uint16_t tag, uint32_t i)
{
	unsigned int way = (unsigned int)__builtin_ctz(fw_bucket_match(b, 0));

	b->tag[way] = tag;
	b->index[way] = i;
	b->nb++;
}

/* The emptier of the two buckets, or else a link of the first one's chain. */
static int
insert(struct fw_sessions *t, uint64_t hash, uint32_t i)
{
	uint16_t tag = fw_hash_tag(hash);
	uint32_t first = (uint32_t)hash & t->mask, other = fw_hash_other(t, first, tag);
	struct fw_bucket *b = &t->bucket[first];
	uint32_t at;

	/* The first is where a lookup begins, so it is left only when it has got full. */
	if (b->nb >= FW_BUCKET_WAYS - 2 && t->bucket[other].nb < b->nb)
		b = &t->bucket[other];
	if (b->nb < FW_BUCKET_WAYS) {
		put_in(b, tag, i);
		return 0;
	}
	for (at = t->bucket[first].next; at != 0; at = t->bucket[at].next) {
		if (t->bucket[at].nb < FW_BUCKET_WAYS) {
			put_in(&t->bucket[at], tag, i);
			return 0;
		}
	}
	if (t->chain_free != 0) {
		at = t->chain_free;
		t->chain_free = t->bucket[at].next;
	} else if (t->chain_fresh < t->chain_end) {
		at = t->chain_fresh++;
	} else {
		return -ENOSPC;
	}
	t->bucket[at].next = t->bucket[first].next;
	t->bucket[first].next = at;
	put_in(&t->bucket[at], tag, i);
	return 0;
}

/* Clear the way of *b that holds session i. */
static __rte_always_inline bool
take_out_of(struct fw_bucket *b, uint16_t tag, uint32_t i)
{
	for (unsigned int m = fw_bucket_match(b, tag); m != 0; m &= m - 1) {
		unsigned int way = (unsigned int)__builtin_ctz(m);

		if (unlikely(b->index[way] != i))
			continue;
		b->tag[way] = 0;
		b->nb--;
		return true;
	}
	return false;
}

/* The same in bucket `head` and what is chained to it.  An empty link goes back to the reserve. */
static bool
take_out(struct fw_sessions *t, uint32_t head, uint16_t tag, uint32_t i)
{
	uint32_t at = head, before = head;

	do {
		struct fw_bucket *b = &t->bucket[at];

		if (take_out_of(b, tag, i)) {
			if (b->nb == 0 && at != head) {
				t->bucket[before].next = b->next;
				b->next = t->chain_free;
				t->chain_free = at;
			}
			return true;
		}
		before = at;
		at = b->next;
	} while (at != 0);
	return false;
}

/* Wherever session i is that begins to be looked for in bucket b. */
static void
drop_key(struct fw_sessions *t, uint32_t b, uint16_t tag, uint32_t i)
{
	if (!take_out(t, b, tag, i))
		PK_ASSERT(take_out(t, fw_hash_other(t, b, tag), tag, i));
}

/* Whether both sides have spoken in a session of a protocol that has but one state. */
static bool
is_answered(const struct fw_sessions *t, uint32_t i)
{
	return t->hot[i].state == FW_STATE_OTHER &&
	    (t->hot[i].packets[1] != 0 || t->cold[i].packets[1] != 0);
}

uint32_t
fw_sessions_victim(struct fw_sessions *t)
{
	for (unsigned int c = 0; c < FW_CLASS_VICTIMS; c++) {
		for (unsigned int k = 0; k < FW_VICTIM_TRIES; k++) {
			uint32_t i = fw_bits_next(&t->class[c], t -> hand[c]);

			if (i == FW_BITS_NONE)
				i = fw_bits_next(&t->class[c], 0);
			if (i == FW_BITS_NONE)
				break;
			t->hand[c] = i + 1 < t->capacity ? i + 1 : 0;
			if (!is_answered(t, i))
				return i;
			fw_bits_clear(&t->class[c], i);
		}
	}
	return FW_SESSION_NONE;
}

/* A record for a new session: the one that was freed last, or one beside it. */
static uint32_t
free_one(const struct fw_sessions *t, uint32_t fresh)
{
	uint32_t i;

	if (t->nb == fresh)
		return fresh < t->capacity ? fresh : FW_SESSION_NONE;
	i = fw_bits_next(&t->free, t->free_near);
	return i != FW_BITS_NONE ? i : fw_bits_next(&t->free, 0);
}

uint32_t
fw_sessions_create(struct fw_sessions *t, const struct fw_pkt *pk)
{
	uint32_t fresh = atomic_load_explicit(&t->fresh, memory_order_relaxed);
	uint32_t i = free_one(t, fresh);
	struct fw_session_cold *c;

	if (i == FW_SESSION_NONE || insert(t, pk->hash, i) < 0)
		return FW_SESSION_NONE;
	c = &t->cold[i];
	t->ether[i] = 0;
	if (i == fresh) {
		atomic_store_explicit(&t->fresh, fresh + 1, memory_order_release);
	} else {
		fw_bits_clear(&t->free, i);
		t->free_near = i;
	}
	memset(&t->hot[i], 0, sizeof(t->hot[i]));
	memset(c, 0, sizeof(*c));
	t->hot[i].key = pk->key;
	if (pk->key.family == 6)
		memcpy(c->addr, pk->addr, sizeof(c->addr));
	t->nb++;
	return i;
}

void
fw_sessions_publish(struct fw_sessions *t, uint32_t i)
{
	uint32_t v = atomic_load_explicit(&t->version[i], memory_order_relaxed);

	atomic_store_explicit(&t->version[i], v + 1, memory_order_release);
}

/* The key of record i as a packet would have it, with its hash, which is not kept: computing it anew costs less than
 * eight bytes more would. */
static __rte_always_inline void
hash_record(const struct fw_sessions *t, uint32_t i, struct fw_pkt *pk)
{
	pk->key = t->hot[i].key;
	if (unlikely(pk->key.family == 6))
		memcpy(pk->addr, t->cold[i].addr, sizeof(pk->addr));
	fw_sessions_hash(t, pk);
}

/* What else there is of session i, once it is out of the index. */
static __rte_always_inline void
let_go(struct fw_sessions *t, uint32_t i)
{
	enum fw_session_class class = fw_session_class(t->hot[i].state);
	uint32_t v = atomic_load_explicit(&t->version[i], memory_order_relaxed);

	if (class != FW_CLASS_LIVE)
		fw_bits_clear(&t->class[class], i);
	if (likely(v % 2 == 1)) /* published */
		atomic_store_explicit(&t->version[i], v + 1, memory_order_release);
	fw_bits_set(&t->free, i);
	t->free_near = i;
	t->nb--;
}

void
fw_sessions_remove(struct fw_sessions *t, uint32_t i)
{
	struct fw_pkt pk;

	hash_record(t, i, &pk);
	drop_key(t, (uint32_t)pk.hash & t->mask, fw_hash_tag(pk.hash), i);
	fw_timer_remove(&t->timer, i);
	let_go(t, i);
	atomic_thread_fence(
	    memory_order_release); /* readers see the version go before what follows */
	t->hot[i].state = FW_STATE_NONE;
	t->hot[i].key.family = 0; /* a guess made before matches no more */
}

void
fw_sessions_remove_burst(struct fw_sessions *t, const uint32_t *i, unsigned int n)
{
	struct {
		uint32_t bucket;
		uint16_t tag;
	} at[FW_REMOVE_BURST];

	PK_ASSERT(n <= FW_REMOVE_BURST);
	for (unsigned int k = 0; k < n; k++) {
		struct fw_pkt pk;

		hash_record(t, i[k], &pk);
		at[k].bucket = (uint32_t)pk.hash & t->mask;
		at[k].tag = fw_hash_tag(pk.hash);
		/* Into the second cache: more lines can be on their way to that than to the first. */
		__builtin_prefetch(&t->bucket[at[k].bucket], 0, 2);
	}
	/* Loads, as in fw_sessions_guess().  Every eighth session of a full table is in its second bucket. */
	for (unsigned int k = 0; k < n; k++)
		if (unlikely(fw_bucket_match(&t->bucket[at[k].bucket], at[k].tag) == 0))
			__builtin_prefetch(
			    &t->bucket[fw_hash_other(t, at[k].bucket, at[k].tag)], 1);
	for (unsigned int k = 0; k < n; k++) {
		if (unlikely(!take_out_of(&t->bucket[at[k].bucket], at[k].tag, i[k])))
			drop_key(t, at[k].bucket, at[k].tag, i[k]);
		let_go(t, i[k]);
	}
	atomic_thread_fence(memory_order_release);
}

/* ---- out of the records alone ---- */

#define RESTORE_AHEAD 16 /* records whose buckets are on their way */

uint32_t
fw_sessions_restore_begin(struct fw_sessions *t, uint64_t now_ns)
{
	uint32_t fresh = t->capacity;

	/* What has been used has a version; those made last and never shown are found to be free. */
	while (fresh > 0 && atomic_load_explicit(&t->version[fresh - 1], memory_order_relaxed) == 0)
		fresh--;
	memset(t->bucket, 0, (size_t)t->chain_end * sizeof(t->bucket[0]));
	t->chain_free = 0;
	t->chain_fresh = t->mask + 1;
	t->nb = 0;
	atomic_store_explicit(&t->fresh, fresh, memory_order_relaxed);
	init_clockwork(t, t->timer.due, now_ns);
	return fresh;
}

static bool
is_sound(const struct fw_session *s, const struct fw_session_cold *c)
{
	const struct fw_key *k = &s->key;
	bool tcp = s->state > FW_STATE_NONE && s->state < FW_STATE_TCP_COUNT;

	if (s->state == FW_STATE_NONE || s->state >= FW_STATE_COUNT || k->wire >= FW_WIRES_MAX ||
	    tcp != (k->proto == IPPROTO_TCP) ||
	    (s->state == FW_STATE_UDP_NEW || s->state == FW_STATE_UDP) !=
	        (k->proto == IPPROTO_UDP) ||
	    (c->care & ~FW_CARE_ALL) != 0 || (s->scale & 15) > 14 || s->scale >> 4 > 14 ||
	    (fw_app_known(s->app) && s->app != FW_APP_UNKNOWN && s->app > FW_APP_LAST))
		return false;
	if (k->family == 4)
		return k->v4[0] <= k->v4[1]; /* as the parser orders them: as they lie in memory */
	return k->family == 6 && memcmp(c->addr[0], c->addr[1], 16) <= 0;
}

static void
free_record(struct fw_sessions *t, uint32_t i)
{
	uint32_t v = atomic_load_explicit(&t->version[i], memory_order_relaxed);

	if (v % 2 == 1)
		atomic_store_explicit(&t->version[i], v + 1, memory_order_relaxed);
	fw_bits_set(&t->free, i);
}

int
fw_sessions_restore(struct fw_sessions *t, uint32_t i)
{
	uint32_t v = atomic_load_explicit(&t->version[i], memory_order_relaxed), ahead;
	struct fw_pkt pk;

	ahead = i + 2 * RESTORE_AHEAD < t->capacity ? i + 2 * RESTORE_AHEAD : i;
	rte_prefetch0(&t->hot[ahead]);
	rte_prefetch0(&t->cold[ahead]);
	ahead = i + RESTORE_AHEAD;
	if (ahead < t->capacity && t->version[ahead] % 2 == 1) {
		hash_record(t, ahead, &pk);
		__builtin_prefetch(&t->bucket[(uint32_t)pk.hash & t->mask], 1);
	}
	if (v % 2 == 0) {
		free_record(t, i);
		return -ENOENT;
	}
	if (is_sound(&t->hot[i], &t->cold[i])) {
		hash_record(t, i, &pk);
		if (memcmp(&pk.key, &t->hot[i].key, sizeof(pk.key)) == 0 &&
		    fw_sessions_find(t, &pk) == FW_SESSION_NONE && insert(t, pk.hash, i) == 0) {
			fw_sessions_moved(t, i, FW_STATE_NONE);
			t->nb++;
			return 0;
		}
	}
	free_record(t, i);
	return -EINVAL;
}
