#pragma once

#include "fw/nft/ruleset.h"

/* Shared between fw/nft/ruleset.c, frame.c, judge.c and program.c. */
struct nft_making {
	const struct nft_ruleset_conf *conf;
	const struct fw_rules_state *state;
	struct nft_plan *plan;
	bool attested;
	int64_t at_s;
	uint16_t stamp;
	struct pk_diag *diag;
	int rc;
	/* maps that identities and endpoints go into */
	struct nft_set *identity[2], *subject[PK_DIRECTION_COUNT]; /* [0] IPv4, [1] IPv6 */
	struct nft_set *guard_local[2], *guard_bare[2], *guard_mac[2], *judge_local[2];
	struct nft_set *tenant;
	uint8_t vrfs[(NFT_VRF_MAX + 1) / 8]; /* in which there are workloads here: a bit each */
};

#define NFT_NEXT_ARP  0x0806
#define NFT_NEXT_IP4  0x0800
#define NFT_NEXT_IP6  0x86dd
#define NFT_NEXT_VLAN 0x8100
#define NFT_NEXT_QINQ 0x88a8

void nft_frame_make(struct nft_making *m);
void nft_judge_sets(struct nft_making *m);
void nft_judge_make(struct nft_making *m); /* once endpoints are known */
void nft_program_make(struct nft_making *m, const struct fw_view_program *p);
void nft_program_name(uint64_t program, char name[24]);

/* A chain of ours, and its end. */
void nft_begin(struct nft_making *m, struct nft_code *c, const char *chain);
void nft_end(
    struct nft_making *m, struct nft_code *c, enum nft_table table, const struct nft_hook *hook);

/* Where a rule that allows leads to. */
const char *nft_allow_chain(enum pk_direction d, bool logs);

/* Count the packet, drop it, and end the rule. */
void nft_refuse(struct nft_code *c, enum nft_drop why);

/* The packet's mark, where it came in. */
static inline uint32_t
nft_mark(uint16_t wire, bool outside, uint32_t vrf)
{
	return NFT_MARK_OURS | (outside ? NFT_MARK_OUTSIDE : 0) | nft_zone(wire, vrf);
}
