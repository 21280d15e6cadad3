#pragma once

#include "fw/nft/ruleset.h"
#include "fw/path.h"

struct event_base;

/*
 * Packets that rules log or reject, as the kernel tells of them (NFLOG): those to be told to people are handed on,
 * and who is to be told of a refusal is answered from here, since a bridge without an address has no way to.
 *
 * What the kernel could not hand over is counted and stays silent; the verdict does not wait for us.
 * Context of all: control thread.
 */
struct nft_notice;

struct nft_noticed {
	const char *verdict; /* "allow", "deny", "reject", "audit" */
	uint64_t rule_id;    /* of audit; else 0 and */
	uint32_t slot;       /* of the rule, NFT_SLOT_NONE for none */
	uint16_t wire;
	bool from_outside, revoked;
	uint8_t proto;
	uint16_t sport, dport, len;
	struct pk_addr src, dst;
};

struct nft_notice_conf {
	struct event_base *base;
	const struct nft_wire *wires;
	uint16_t nb_wires, group;
	void (*noticed)(void *arg, const struct nft_noticed *n);
	void *arg;
};

int nft_notice_create(
    struct nft_notice **out, const struct nft_notice_conf *conf, struct pk_diag *diag);
void nft_notice_destroy(struct nft_notice *n);

struct nft_notice_counts {
	uint64_t noticed, answered, lost;
};
void nft_notice_counts(const struct nft_notice *n, struct nft_notice_counts *out);
