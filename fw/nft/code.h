#pragma once

#include <netinet/in.h> /* before those of the kernel, which then leave its names alone */
#include <stdbool.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include "lib/base.h"

/*
 * Rules of nftables as the bytes in which the kernel takes them, made by libnftnl.
 *
 * A chain is what is compared and replaced: two chains are the same if their bytes are.  Registers are those of
 * 32 bits, called by their number from 0 on; a value of 16 bytes takes four.  NFT_R_VERDICT is the verdict.
 *
 * Whoever runs out of memory here learns of it from nft_code_end(); until then all calls may go on.
 * Context of all: control thread.
 */
#define NFT_R_VERDICT (-1)

struct nftnl_rule;

struct nft_code {
	const char *table, *chain; /* borrowed */
	struct nftnl_rule *rule;   /* under way, or NULL */
	uint8_t *bytes;            /* per rule: length (4, host order), netlink attributes */
	size_t len, room;
	uint32_t nb_rules;
	bool failed;
};

void nft_code_begin(struct nft_code *c, const char *table, const char *chain);
int nft_code_end(struct nft_code *c); /* 0 or -ENOMEM; `bytes` is the caller's */

/* Rules stand one after the other; the first begins with nft_code_begin(), and each ends here. */
void nft_rule_end(struct nft_code *c);

/* ---- what a rule does, in order; a test that fails ends the rule ---- */

void nft_meta(struct nft_code *c, enum nft_meta_keys key, unsigned int reg);
void nft_meta_set(struct nft_code *c, enum nft_meta_keys key, unsigned int reg);
void nft_payload(
    struct nft_code *c, enum nft_payload_bases base, uint32_t off, uint32_t len, unsigned int reg);
void nft_ct(struct nft_code *c, enum nft_ct_keys key, unsigned int reg);
void nft_ct_dir(struct nft_code *c, enum nft_ct_keys key, bool reply, unsigned int reg);
void nft_ct_set(struct nft_code *c, enum nft_ct_keys key, unsigned int reg);
void nft_number(struct nft_code *c, unsigned int reg, uint32_t value);
void nft_mask(struct nft_code *c, unsigned int reg, uint32_t mask, uint32_t flip); /* 32 bits */
void nft_ntoh16(struct nft_code *c, unsigned int reg);
void nft_test(
    struct nft_code *c, unsigned int reg, enum nft_cmp_ops op, const void *data, uint32_t len);
void nft_test8(struct nft_code *c, unsigned int reg, enum nft_cmp_ops op, uint8_t value);
void nft_test16(
    struct nft_code *c, unsigned int reg, enum nft_cmp_ops op, uint16_t value); /* as in packets */
void nft_test32(
    struct nft_code *c, unsigned int reg, enum nft_cmp_ops op, uint32_t value); /* host order */
void nft_between(
    struct nft_code *c, unsigned int reg, const void *from, const void *to, uint32_t len);
void nft_in_set(struct nft_code *c, unsigned int reg, const char *set);
void nft_not_in_set(struct nft_code *c, unsigned int reg, const char *set);
void nft_map(struct nft_code *c, unsigned int reg, const char *set, int to); /* or NFT_R_VERDICT */
void nft_option4(struct nft_code *c, uint8_t option); /* the IPv4 packet has it */
void nft_count(struct nft_code *c, const char *counter);
void nft_limit(struct nft_code *c, uint64_t per_second, uint32_t burst);
void nft_log(struct nft_code *c, uint16_t group, const char *prefix, uint32_t snaplen);
void nft_timeout(struct nft_code *c, const char *object);
void nft_offload(struct nft_code *c, const char *flowtable);
/* At most `max` sessions for each value of reg; the test is true beyond. */
void nft_more_sessions_than(struct nft_code *c, unsigned int reg, const char *set, uint32_t max);
void nft_accept(struct nft_code *c);
void nft_drop(struct nft_code *c);
void nft_return(struct nft_code *c);
void nft_goto(struct nft_code *c, const char *chain);
void nft_jump(struct nft_code *c, const char *chain);
