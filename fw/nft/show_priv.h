#pragma once

#include "fw/nft/show.h"
#include "lib/control.h"

/* What the files behind the control socket of picket-nftd share. */
struct monitor;

struct nft_show {
	struct nft_show_conf conf;
	struct pk_control *control;
	struct monitor *monitors;
	uint64_t started_wall_ns;
};

#define NFT_SHOW_BACKLOG (256 * 1024) /* bytes of rows that wait for the client */

/* The id of the rule that has that number in marks, 0 for none. */
uint64_t nft_show_rule(const struct nft_show *s, uint32_t slot);

/* fw/nft/show_move.c */
void nft_show_export(struct pk_control_request *r, int argc, char **argv, void *arg);
void nft_show_import(struct pk_control_request *r, int argc, char **argv, void *arg);
