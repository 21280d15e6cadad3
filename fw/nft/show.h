#pragma once

#include "fw/link.h"
#include "fw/nft/notice.h"
#include "fw/nft/plane.h"
#include "fw/nft/review.h"
#include "fw/nft/track.h"

struct event_base;
struct pk_program;

/*
 * What picket-nftd answers on its control socket: the questions that picketd answers, in the same rows, as far as
 * the kernel knows the answer.
 */
struct nft_show;

struct nft_show_conf {
	struct event_base *base;
	struct nft_plane *plane;
	struct nft_track *track;
	struct nft_review *review;
	const struct nft_notice *notice;
	const struct fw_link *link;
	const struct nft_wire *wires;
	uint16_t nb_wires;
	const char *instance;
	const struct pk_program *program;
	const void *values;
	const char *path; /* of the socket */
};

/* All pointers are borrowed.  Context: control thread.  Returns 0 or negative errno with *diag. */
int nft_show_create(struct nft_show **out, const struct nft_show_conf *conf, struct pk_diag *diag);
void nft_show_destroy(struct nft_show *s);

/* To the log, and to who monitors. */
void nft_show_noticed(struct nft_show *s, const struct nft_noticed *n);
