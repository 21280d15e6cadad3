#pragma once

#include "fw/nft/code.h"

/*
 * A ruleset of nftables as data: what is to be in the kernel.  Two of them, the one in force and the one wanted,
 * make a transaction (fw/nft/kernel.h); nothing here talks to a kernel.
 *
 * There are two tables of one name: `netdev`, where frames come in, and `inet`, where sessions are judged.
 */
enum nft_table {
	NFT_TABLE_NETDEV = 0,
	NFT_TABLE_INET,
	NFT_TABLE_COUNT,
};

#define NFT_NAME_LEN 40 /* bytes with the NUL: of chains, sets, counters */

/* Types of keys as nft(8) numbers them, so that it can print our sets; a concatenation is of 6 bits each. */
enum nft_type {
	NFT_TYPE_IPV4 = 7,
	NFT_TYPE_IPV6 = 8,
	NFT_TYPE_ETHER = 9,
	NFT_TYPE_PROTOCOL = 12,
	NFT_TYPE_PORT = 13,
	NFT_TYPE_MARK = 19,
};
#define NFT_TYPES(a, b) ((a) << 6 | (b))

enum nft_set_kind {
	NFT_SET_HASH = 0, /* of keys */
	NFT_SET_RANGES,   /* of ranges of keys, which must not overlap */
	NFT_SET_BOXES,    /* of concatenations of two ranges */
	NFT_SET_METER,    /* filled by rules: nft_more_sessions_than() */
};

enum nft_set_data {
	NFT_SET_KEYS = 0, /* no map */
	NFT_SET_NUMBERS,  /* 32 bits, host order */
	NFT_SET_CHAINS,   /* a verdict: go to the chain */
};

#define NFT_KEY_LEN 28 /* bytes, at most: mark, IPv6 address and MAC address */

struct nft_element {
	uint8_t key[NFT_KEY_LEN]; /* the first of a range; zero beyond the key's length */
	uint8_t end[16];          /* the last of a range */
	uint32_t number;
	char chain[NFT_NAME_LEN - 16];
};

struct nft_set {
	char name[NFT_NAME_LEN];
	enum nft_table table;
	enum nft_set_kind kind;
	enum nft_set_data data;
	uint32_t key_type, key_len;
	uint8_t part_len[2]; /* of NFT_SET_BOXES, in bytes without padding */
	struct nft_element *element;
	uint32_t nb, room;
};

struct nft_hook {
	bool is;
	uint32_t number; /* enum nf_inet_hooks, or NF_NETDEV_INGRESS */
	int32_t priority;
	bool drops;      /* at its end */
	char device[16]; /* netdev */
};

struct nft_chain {
	char name[NFT_NAME_LEN];
	enum nft_table table;
	struct nft_hook hook;
	uint8_t *bytes; /* of struct nft_code */
	size_t len;
	uint32_t nb_rules;
};

#define NFT_TIMEOUTS 11 /* states of TCP, as the kernel counts them: enum ctattr_timeout_tcp */

struct nft_object {
	char name[NFT_NAME_LEN];
	enum nft_table table;
	uint8_t timeout_of; /* IP protocol: it is a policy of timeouts; 0: a counter */
	uint8_t family;     /* of these: AF_INET or AF_INET6 */
	uint32_t seconds[NFT_TIMEOUTS];
};

struct nft_plan {
	struct nft_set **sets;
	struct nft_chain **chains;
	struct nft_object **objects;
	uint32_t nb_sets, room_sets, nb_chains, room_chains, nb_objects, room_objects;
	bool failed, sealed;
};

/* Context of all: control thread.  Without memory the plan has failed, which nft_plan_seal() tells; the results
 * of the others can be used all the same. */
struct nft_plan *nft_plan_create(void); /* NULL without memory */
void nft_plan_destroy(struct nft_plan *p);

struct nft_set *nft_plan_set(struct nft_plan *p, enum nft_table table, const char *name,
    enum nft_set_kind kind, enum nft_set_data data, uint32_t key_type, uint32_t key_len);
struct nft_element *nft_plan_element(
    struct nft_plan *p, struct nft_set *s, const void *key, uint32_t key_len);
/* Takes c->bytes, and ends *c. */
void nft_plan_chain(
    struct nft_plan *p, enum nft_table table, struct nft_code *c, const struct nft_hook *hook);
void nft_plan_counter(struct nft_plan *p, enum nft_table table, const char *name);
struct nft_object *nft_plan_timeout(
    struct nft_plan *p, const char *name, uint8_t proto, uint8_t family);
bool nft_plan_has_set(const struct nft_plan *p, enum nft_table table,
    const char *name); /* before it is sealed: slow */

/* Put everything in order, once; of equal names and keys one stays.  Returns 0 or -ENOMEM. */
int nft_plan_seal(struct nft_plan *p);

/* Whether what two definitions say is the same, elements and rules left out. */
bool nft_set_same(const struct nft_set *a, const struct nft_set *b);
bool nft_chain_same_hook(const struct nft_chain *a, const struct nft_chain *b);
int nft_element_compare(const void *a, const void *b); /* of keys, for qsort */
