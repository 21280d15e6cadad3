#pragma once

#include <string.h>

#include "fw/path.h"
#include "fw/session.h"

/*
 * Which lcore a session belongs to, and so which one each packet goes to.
 *
 * A session lives on one lcore, which alone reads and writes it.  Its packets come from two ports, and may be
 * polled by any lcore.  Three ways to bring them together, by wire:
 *
 *      one    one lcore polls both ports: nothing has to be done, and nothing is.
 *      rss    the ports spread packets over queues, one for each lcore, by a Toeplitz hash that is the same in
 *             both directions.  What it cannot spread rightly is sorted here: an ICMP error belongs where the
 *             packet is that it quotes, a fragment where the whole ones are.
 *      soft   the ports cannot.  Whoever polls one of them hashes each packet, and hands it over.
 *
 *      port --> lcore that polls it --> fw_steering_sort() --+--> mine: fw_path_burst()
 *                                                            '--> another's: fw/relay.h --> its fw_path_burst()
 *
 * The hash is over the key of the session as the parser finds it (struct fw_key): both directions, and ICMP
 * errors, have the same key.  Address spaces are left out of it: two tenants' equal flows meet on one lcore, and
 * are two sessions there.
 *
 * Fragments.  The first has the headers, and goes where its session is.  The lcore that has polled it writes
 * down where that was, under addresses and identification, and sends the later ones after it, through the same
 * ring and so in order.  Whether they may pass is said there, by the session that the first one has named by id
 * and version (fw/frag.h); nothing here is believed for more than the choice of an lcore.  The memory for it is
 * fixed, and the oldest entry goes first, so a flood of first fragments has to put FW_STEER_FRAGS others between
 * two of ours.  Ports that hash for us do so with fragments by addresses alone, the first one included, so one
 * lcore sees them all.
 */
enum fw_steer_mode {
	FW_STEER_ONE = 0,
	FW_STEER_RSS,
	FW_STEER_SOFT,
};

struct fw_steer_wire {
	uint8_t mode;          /* enum fw_steer_mode */
	uint16_t lcore;        /* ONE */
	uint16_t mask;         /* RSS: of the hash, */
	const uint16_t *queue; /* and which queue it chooses: mask + 1 of them, borrowed; lcores are
	                        * numbered like queues */
};

/* One for all lcores; it does not change while they run. */
struct fw_steer {
	uint64_t key[3];
	uint16_t nb_lcores;
	const struct fw_overlay *overlay; /* tunnels, sorted by what they carry; borrowed or NULL */
	struct fw_steer_wire wire[FW_WIRES_MAX];
};

/* All wires are lcore 0's.  `seed` decides what SOFT chooses, so sessions that outlive us want the one they
 * were placed by.  Context: control thread. */
void fw_steer_init(struct fw_steer *s, uint16_t nb_lcores, const uint64_t seed[2]);

/*
 * The lcore that has the session of pk->key, for IPv6 with pk->addr: 0 .. nb_lcores - 1.
 * Context: any.
 */
unsigned int fw_steer_owner(const struct fw_steer *s, const struct fw_pkt *pk);

/* The same of a session in a table.  Context: the owner of the table. */
unsigned int fw_steer_session(const struct fw_steer *s, const struct fw_sessions *t, uint32_t i);

/*
 * The key for the hash of ports: of period 16 bits, so that swapping addresses and ports swaps equal terms (Woo
 * and Park, 2012).  So what matters of a packet are its 16-bit words, one xor the other: `folded`, host order.
 */
#define FW_STEER_RSS_KEY UINT16_C(0x6d5a)
uint32_t fw_steer_toeplitz(uint16_t folded);

/* ---- one lcore's part ---- */

#define FW_STEER_FRAGS 8192

struct fw_steering;

/* For lcore number `me`.  `s` is borrowed.  Context: control thread.  Returns 0 or -ENOMEM. */
int fw_steering_create(struct fw_steering **out, const struct fw_steer *s, uint16_t me);
void fw_steering_destroy(struct fw_steering *g);

/*
 * Write into to[i] which lcore pkts[i] goes to, for all i < n <= FW_BURST, received on side `from` of `wire` at
 * `now_ns`.  What belongs to no session stays here.  False: all of them are ours, and to[] says nothing.
 * Context: the lcore.
 */
bool fw_steering_sort(struct fw_steering *g, uint16_t wire, enum fw_side from,
    struct rte_mbuf *const *pkts, unsigned int n, uint64_t now_ns, uint16_t to[FW_BURST]);
