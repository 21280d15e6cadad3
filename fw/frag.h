#pragma once

#include "fw/host.h"
#include "fw/session.h"

/*
 * Fragments: virtual reassembly.  Nothing is held back and put together; it is written down which pieces
 * of a packet have passed, and each piece passes or drops as it comes.
 *
 *      first fragment --> judged like any packet, by session or policy; it has the L4 header
 *            |                passes: an entry is opened, tied to its session by id and version
 *      later fragments --> follow the entry's session, once each byte
 *            |
 *      the last missing byte, or the timeout, or the end of the session, ends the entry
 *
 * Key.  IPv4: addresses, protocol, identification (RFC 791 section 3.2).  IPv6: addresses and
 * identification alone, since what later fragments say about the protocol does not count (RFC 8200
 * section 4.5).  Both with wire, address space, and the side the packet came in on.
 *
 * What drops.
 *   frag-stray    A later fragment without an entry: its first has not come yet, or was refused.  To keep
 *                 it until the first comes would be memory for the asking (FragmentSmack, 2018); senders
 *                 send the first one first.
 *   frag-overlap  A byte for the second time.  What the receiver then reads is up to the receiver, so
 *                 the whole packet is given up: the entry is poisoned until it times out (RFC 5722 section
 *                 4; for IPv4 likewise, RFC 1858 and RFC 3128 are about nothing else).  Without the bytes
 *                 at hand a copy made by the network cannot be told from an attack; it costs one packet.
 *   frag-tiny     A first fragment without the whole L4 header (fw/parse.c).
 *   frag-size     No packet is so long (fw/parse.c).
 *   frag-holes    More than FW_FRAG_PIECES loose pieces at a time: nobody's network reorders like that.
 *   frag-limit    The inside address has FW_FRAG_PER_HOST entries.
 *   frag-full     The table is full.
 *
 * Time.  All entries live equally long and none is renewed, so they end in the order in which they
 * began, and a list of them is the timer.
 *
 * There is one struct fw_frags per lcore, and fragments are brought to the lcore that has their session: the
 * first by its ports, the later ones after it (fw/steer.h).
 */
#define FW_FRAG_TABLE    4096 /* packets in pieces at a time */
#define FW_FRAG_PER_HOST 256  /* of one inside address */
#define FW_FRAG_PIECES   8

struct fw_frag {
	uint8_t addr[2][16]; /* source, destination; IPv4: in the first four bytes */
	uint32_t id, vrf;
	uint16_t wire;
	uint8_t proto; /* IPv6: 0 */
	uint8_t family;
	uint8_t from;     /* side it comes in on */
	uint8_t poisoned; /* enum fw_drop, of all that follow */
	bool error;       /* an ICMP error about the session, no packet of it */
	bool numbered;    /* a TCP segment */
	uint8_t nb_pieces;
	uint64_t session; /* fw_session_id() */
	uint64_t until_ns;
	uint32_t
	    seq; /* numbered: what byte 0 would have, so that the end of a piece has the right one */
	uint32_t total;               /* bytes in all; 0 until the last one has come */
	uint32_t chain, older, newer; /* chain: also the list of free ones */
	struct {
		uint32_t from, to; /* bytes, in ascending order, never touching */
	} piece[FW_FRAG_PIECES];
};

struct fw_frags {
	struct fw_frag *frag; /* [0] stands for none */
	uint32_t *head;
	uint32_t capacity, mask, nb, free, fresh;
	uint32_t oldest, newest;
	uint64_t timeout_ns;
	uint64_t key[2];
	struct fw_hosts *hosts;
};

/* `hosts` is borrowed, and counts the entries.  Context: control thread.  Returns 0 or -ENOMEM. */
int fw_frags_init(struct fw_frags *t, uint32_t capacity, uint64_t timeout_ns,
    const uint64_t seed[2], struct fw_hosts *hosts);
void fw_frags_fini(struct fw_frags *t);

/* The entry that fragment `pk`, which came in on side `from`, belongs to, or NULL.  Context of this and
 * what follows: the owning lcore. */
struct fw_frag *fw_frags_find(
    const struct fw_frags *t, const struct fw_pkt *pk, unsigned int from, uint64_t now_ns);

/* Whether an entry for this first fragment could be opened. */
enum fw_drop fw_frags_room(const struct fw_frags *t, const struct fw_pkt *pk, unsigned int from);

/* Open an entry for a first fragment that has passed.  NULL if there is no room. */
struct fw_frag *fw_frags_open(struct fw_frags *t, const struct fw_pkt *pk, unsigned int from,
    uint64_t session, uint64_t now_ns);

/* Note that `pk` has come.  FW_DROP_FRAG_OVERLAP, _HOLES or _SIZE poison the entry, and are returned for
 * all that follow. */
enum fw_drop fw_frag_add(struct fw_frag *f, const struct fw_pkt *pk);

/* Whether each byte has come. */
static inline bool
fw_frag_complete(const struct fw_frag *f)
{
	return f->total != 0 && f->nb_pieces == 1 && f->piece[0].from == 0 &&
	    f->piece[0].to == f->total && !f->poisoned;
}

void fw_frags_remove(struct fw_frags *t, struct fw_frag *f);

/* End what has timed out, at most n of them.  Returns how many. */
unsigned int fw_frags_expire(struct fw_frags *t, uint64_t now_ns, unsigned int n);
