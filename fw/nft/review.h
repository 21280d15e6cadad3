#pragma once

#include "fw/nft/plane.h"
#include "fw/nft/track.h"

/*
 * What a change of policy does to the sessions there are.
 *
 * No packet passes by an older generation: the kernel's rules see to that.  But a session that is not allowed any
 * more would keep its place, and one without packets would not hear of it; so after each change all are looked at
 * here, asked about as picketd asks, and those refused are ended.
 * Context of all: control thread.
 */
struct nft_review;

int nft_review_create(struct nft_review **out, struct nft_track *t, struct nft_plane *p);
void nft_review_destroy(struct nft_review *r);

/* There has been a change: begin, anew if one is under way. */
void nft_review_start(struct nft_review *r);

/* May this session be, by the generation in force?  *slot becomes the number of its rule as marks have it; NULL is
 * allowed.  Of `s` the entry and the mark are not looked at. */
bool nft_review_allows(const struct nft_plane *p, const struct nft_session *s, uint32_t *slot);

struct nft_review_counts {
	uint64_t reviewed, ended;
	bool under_way;
};
void nft_review_counts(const struct nft_review *r, struct nft_review_counts *out);
