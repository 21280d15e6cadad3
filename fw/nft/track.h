#pragma once

#include "fw/nft/ruleset.h"
#include "fw/path.h"
#include "fw/record.h"

struct event_base;
struct nf_conntrack;

/*
 * Sessions of the kernel plane: entries of conntrack in the zones of our wires.
 *
 * They are read as the kernel hands them out, some dozens at a time, between other events; who walks sees each
 * entry that is there from begin to end at least once.
 * Context of all: control thread.
 */
struct nft_track;

struct nft_track_conf {
	struct event_base *base;
	uint16_t nb_wires;
	const uint32_t *
	    seconds; /* NFT_TIMEOUT_COUNT: of the states, which tell how long a session has been idle */
};

int nft_track_create(
    struct nft_track **out, const struct nft_track_conf *conf, struct pk_diag *diag);
void nft_track_destroy(struct nft_track *t); /* walks under way end without being done */

struct nft_session {
	struct fw_session_info info;      /* rule_id and generation are left 0: see `mark` */
	uint32_t mark;                    /* as in fw/nft/ruleset.h */
	uint16_t selector;                /* as in struct pk_service, of the opening packet */
	const struct nf_conntrack *entry; /* borrowed for the call */
};

enum nft_walk_next {
	NFT_WALK_ON = 0,
	NFT_WALK_STOP,  /* no more of them */
	NFT_WALK_PAUSE, /* until nft_walk_resume() */
};

struct nft_walk;

/*
 * Call `each` for every session, then `done` with 0 or a negative errno, after which the walk is gone.  Neither is
 * called from within.  `rules` are those in force (NULL: none), which tell the side that opened; they are asked
 * for anew in each turn.  Returns NULL without a socket or memory.
 */
struct nft_walk *nft_walk_start(struct nft_track *t, const struct fw_rules *(*rules)(void *arg),
    enum nft_walk_next (*each)(void *arg, const struct nft_session *s),
    void (*done)(void *arg, int rc), void *arg);
void nft_walk_cancel(struct nft_walk *w); /* without `done`; NULL is allowed */
void nft_walk_resume(struct nft_walk *w);

/* End it, or have its mark changed; the kernel is not waited for.  Within `each`. */
void nft_session_kill(struct nft_track *t, const struct nft_session *s);
void nft_session_mark(struct nft_track *t, const struct nft_session *s, uint32_t mark);

/* How many entries conntrack has, and may have, in this network namespace. */
void nft_track_count(uint64_t *nb, uint64_t *max);

/*
 * Stamps that sessions of our zones have, as a bit each.  Waits for the kernel; before anything runs.
 * Returns 0 or negative errno.
 */
int nft_track_stamps(uint16_t nb_wires, uint8_t bits[(NFT_STAMP_MAX + 1) / 8]);

/* End all sessions of our zones.  Waits for the kernel, likewise.  Returns 0 or negative errno. */
int nft_track_clear(struct nft_track *t);
