#include "fw/nft/code.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <libmnl/libmnl.h>
#include <libnftnl/expr.h>
#include <libnftnl/object.h>
#include <libnftnl/rule.h>

#define RULE_MAX 16384 /* bytes of one */

void
nft_code_begin(struct nft_code *c, const char *table, const char *chain)
{
	*c = (struct nft_code){ .table = table, .chain = chain };
}

int
nft_code_end(struct nft_code *c)
{
	PK_ASSERT(c->rule == NULL);
	if (!c->failed)
		return 0;
	free(c->bytes);
	c->bytes = NULL;
	c->len = 0;
	return -ENOMEM;
}

void
nft_rule_end(struct nft_code *c)
{
	/* Zero, since libmnl leaves the padding of attributes as it finds it: equal rules have to be equal byte for byte,
	 * or each change of policy would write all of them anew. */
	char buffer[RULE_MAX] __attribute__((aligned(8))) = { 0 };
	struct nlmsghdr *h = mnl_nlmsg_put_header(buffer);
	uint32_t len;

	if (c->rule == NULL || c->failed) {
		c->failed = true;
		nftnl_rule_free(c->rule);
		c->rule = NULL;
		return;
	}
	nftnl_rule_nlmsg_build_payload(h, c->rule);
	nftnl_rule_free(c->rule);
	c->rule = NULL;
	len = h->nlmsg_len - MNL_NLMSG_HDRLEN;
	PK_ASSERT(h->nlmsg_len <= sizeof(buffer));
	if (c->len + sizeof(len) + len > c->room) {
		size_t room = PK_MAX(2 * c->room, c->len + sizeof(len) + len + 1024);
		uint8_t *bytes = realloc(c->bytes, room);

		if (bytes == NULL) {
			c->failed = true;
			return;
		}
		c->bytes = bytes;
		c->room = room;
	}
	memcpy(c->bytes + c->len, &len, sizeof(len));
	memcpy(c->bytes + c->len + sizeof(len), buffer + MNL_NLMSG_HDRLEN, len);
	c->len += sizeof(len) + len;
	c->nb_rules++;
}

/* A further expression of the rule under way; NULL without memory. */
static struct nftnl_expr *
expr(struct nft_code *c, const char *name)
{
	struct nftnl_expr *e;

	if (c->rule == NULL && !c->failed) {
		c->rule = nftnl_rule_alloc();
		if (c->rule != NULL) {
			nftnl_rule_set_str(c->rule, NFTNL_RULE_TABLE, c->table);
			nftnl_rule_set_str(c->rule, NFTNL_RULE_CHAIN, c->chain);
		}
	}
	e = c->rule != NULL ? nftnl_expr_alloc(name) : NULL;
	if (e == NULL)
		c->failed = true;
	else
		nftnl_rule_add_expr(c->rule, e);
	return e;
}

static uint32_t
number_of(unsigned int reg)
{
	return NFT_REG32_00 + reg;
}

static void
u32(struct nftnl_expr *e, uint16_t attr, uint32_t value)
{
	if (e != NULL)
		nftnl_expr_set_u32(e, attr, value);
}

static void
str(struct nftnl_expr *e, uint16_t attr, const char *value)
{
	if (e != NULL)
		nftnl_expr_set_str(e, attr, value);
}

static void
bytes(struct nftnl_expr *e, uint16_t attr, const void *data, uint32_t len)
{
	if (e != NULL)
		nftnl_expr_set(e, attr, data, len);
}

void
nft_meta(struct nft_code *c, enum nft_meta_keys key, unsigned int reg)
{
	struct nftnl_expr *e = expr(c, "meta");

	u32(e, NFTNL_EXPR_META_KEY, key);
	u32(e, NFTNL_EXPR_META_DREG, number_of(reg));
}

void
nft_meta_set(struct nft_code *c, enum nft_meta_keys key, unsigned int reg)
{
	struct nftnl_expr *e = expr(c, "meta");

	u32(e, NFTNL_EXPR_META_KEY, key);
	u32(e, NFTNL_EXPR_META_SREG, number_of(reg));
}

void
nft_payload(
    struct nft_code *c, enum nft_payload_bases base, uint32_t off, uint32_t len, unsigned int reg)
{
	struct nftnl_expr *e = expr(c, "payload");

	u32(e, NFTNL_EXPR_PAYLOAD_BASE, base);
	u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, off);
	u32(e, NFTNL_EXPR_PAYLOAD_LEN, len);
	u32(e, NFTNL_EXPR_PAYLOAD_DREG, number_of(reg));
}

void
nft_ct(struct nft_code *c, enum nft_ct_keys key, unsigned int reg)
{
	struct nftnl_expr *e = expr(c, "ct");

	u32(e, NFTNL_EXPR_CT_KEY, key);
	u32(e, NFTNL_EXPR_CT_DREG, number_of(reg));
}

void
nft_ct_dir(struct nft_code *c, enum nft_ct_keys key, bool reply, unsigned int reg)
{
	struct nftnl_expr *e = expr(c, "ct");

	u32(e, NFTNL_EXPR_CT_KEY, key);
	u32(e, NFTNL_EXPR_CT_DREG, number_of(reg));
	if (e != NULL)
		nftnl_expr_set_u8(e, NFTNL_EXPR_CT_DIR, reply);
}

void
nft_ct_set(struct nft_code *c, enum nft_ct_keys key, unsigned int reg)
{
	struct nftnl_expr *e = expr(c, "ct");

	u32(e, NFTNL_EXPR_CT_KEY, key);
	u32(e, NFTNL_EXPR_CT_SREG, number_of(reg));
}

void
nft_number(struct nft_code *c, unsigned int reg, uint32_t value)
{
	struct nftnl_expr *e = expr(c, "immediate");

	u32(e, NFTNL_EXPR_IMM_DREG, number_of(reg));
	bytes(e, NFTNL_EXPR_IMM_DATA, &value, sizeof(value));
}

void
nft_mask(struct nft_code *c, unsigned int reg, uint32_t mask, uint32_t flip)
{
	struct nftnl_expr *e = expr(c, "bitwise");

	u32(e, NFTNL_EXPR_BITWISE_SREG, number_of(reg));
	u32(e, NFTNL_EXPR_BITWISE_DREG, number_of(reg));
	u32(e, NFTNL_EXPR_BITWISE_OP, NFT_BITWISE_BOOL);
	u32(e, NFTNL_EXPR_BITWISE_LEN, sizeof(mask));
	bytes(e, NFTNL_EXPR_BITWISE_MASK, &mask, sizeof(mask));
	bytes(e, NFTNL_EXPR_BITWISE_XOR, &flip, sizeof(flip));
}

void
nft_ntoh16(struct nft_code *c, unsigned int reg)
{
	struct nftnl_expr *e = expr(c, "byteorder");

	u32(e, NFTNL_EXPR_BYTEORDER_SREG, number_of(reg));
	u32(e, NFTNL_EXPR_BYTEORDER_DREG, number_of(reg));
	u32(e, NFTNL_EXPR_BYTEORDER_OP, NFT_BYTEORDER_NTOH);
	u32(e, NFTNL_EXPR_BYTEORDER_LEN, 2);
	u32(e, NFTNL_EXPR_BYTEORDER_SIZE, 2);
}

void
nft_test(struct nft_code *c, unsigned int reg, enum nft_cmp_ops op, const void *data, uint32_t len)
{
	struct nftnl_expr *e = expr(c, "cmp");

	u32(e, NFTNL_EXPR_CMP_SREG, number_of(reg));
	u32(e, NFTNL_EXPR_CMP_OP, op);
	bytes(e, NFTNL_EXPR_CMP_DATA, data, len);
}

void
nft_test8(struct nft_code *c, unsigned int reg, enum nft_cmp_ops op, uint8_t value)
{
	nft_test(c, reg, op, &value, sizeof(value));
}

void
nft_test16(struct nft_code *c, unsigned int reg, enum nft_cmp_ops op, uint16_t value)
{
	uint8_t be[2] = { (uint8_t)(value >> 8), (uint8_t)value };

	nft_test(c, reg, op, be, sizeof(be));
}

void
nft_test32(struct nft_code *c, unsigned int reg, enum nft_cmp_ops op, uint32_t value)
{
	nft_test(c, reg, op, &value, sizeof(value));
}

void
nft_between(struct nft_code *c, unsigned int reg, const void *from, const void *to, uint32_t len)
{
	/* Two comparisons and not `range`: what nft(8) prints for them is what they do. */
	nft_test(c, reg, NFT_CMP_GTE, from, len);
	nft_test(c, reg, NFT_CMP_LTE, to, len);
}

static void
lookup(struct nft_code *c, unsigned int reg, const char *set, bool invert)
{
	struct nftnl_expr *e = expr(c, "lookup");

	u32(e, NFTNL_EXPR_LOOKUP_SREG, number_of(reg));
	str(e, NFTNL_EXPR_LOOKUP_SET, set);
	if (invert)
		u32(e, NFTNL_EXPR_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
}

void
nft_in_set(struct nft_code *c, unsigned int reg, const char *set)
{
	lookup(c, reg, set, false);
}

void
nft_not_in_set(struct nft_code *c, unsigned int reg, const char *set)
{
	lookup(c, reg, set, true);
}

void
nft_map(struct nft_code *c, unsigned int reg, const char *set, int to)
{
	struct nftnl_expr *e = expr(c, "lookup");

	u32(e, NFTNL_EXPR_LOOKUP_SREG, number_of(reg));
	u32(e, NFTNL_EXPR_LOOKUP_DREG,
	    to == NFT_R_VERDICT ? (uint32_t)NFT_REG_VERDICT : number_of((unsigned int)to));
	str(e, NFTNL_EXPR_LOOKUP_SET, set);
}

void
nft_option4(struct nft_code *c, uint8_t option)
{
	struct nftnl_expr *e = expr(c, "exthdr");

	u32(e, NFTNL_EXPR_EXTHDR_DREG, number_of(0));
	if (e != NULL)
		nftnl_expr_set_u8(e, NFTNL_EXPR_EXTHDR_TYPE, option);
	u32(e, NFTNL_EXPR_EXTHDR_OFFSET, 0);
	u32(e, NFTNL_EXPR_EXTHDR_LEN, 1);
	u32(e, NFTNL_EXPR_EXTHDR_OP, NFT_EXTHDR_OP_IPV4);
	u32(e, NFTNL_EXPR_EXTHDR_FLAGS, NFT_EXTHDR_F_PRESENT);
	nft_test8(c, 0, NFT_CMP_EQ, 1);
}

void
nft_count(struct nft_code *c, const char *counter)
{
	struct nftnl_expr *e = expr(c, "objref");

	u32(e, NFTNL_EXPR_OBJREF_IMM_TYPE, NFT_OBJECT_COUNTER);
	str(e, NFTNL_EXPR_OBJREF_IMM_NAME, counter);
}

void
nft_timeout(struct nft_code *c, const char *object)
{
	struct nftnl_expr *e = expr(c, "objref");

	u32(e, NFTNL_EXPR_OBJREF_IMM_TYPE, NFT_OBJECT_CT_TIMEOUT);
	str(e, NFTNL_EXPR_OBJREF_IMM_NAME, object);
}

void
nft_limit(struct nft_code *c, uint64_t per_second, uint32_t burst)
{
	struct nftnl_expr *e = expr(c, "limit");

	if (e != NULL) {
		nftnl_expr_set_u64(e, NFTNL_EXPR_LIMIT_RATE, per_second);
		nftnl_expr_set_u64(e, NFTNL_EXPR_LIMIT_UNIT, 1);
	}
	u32(e, NFTNL_EXPR_LIMIT_BURST, burst);
	u32(e, NFTNL_EXPR_LIMIT_TYPE, NFT_LIMIT_PKTS);
}

void
nft_log(struct nft_code *c, uint16_t group, const char *prefix, uint32_t snaplen)
{
	struct nftnl_expr *e = expr(c, "log");

	str(e, NFTNL_EXPR_LOG_PREFIX, prefix);
	if (e != NULL)
		nftnl_expr_set_u16(e, NFTNL_EXPR_LOG_GROUP, group);
	u32(e, NFTNL_EXPR_LOG_SNAPLEN, snaplen);
}

void
nft_offload(struct nft_code *c, const char *flowtable)
{
	str(expr(c, "flow_offload"), NFTNL_EXPR_FLOW_TABLE_NAME, flowtable);
}

void
nft_more_sessions_than(struct nft_code *c, unsigned int reg, const char *set, uint32_t max)
{
	struct nftnl_expr *e = expr(c, "dynset"), *limit = nftnl_expr_alloc("connlimit");

	u32(e, NFTNL_EXPR_DYNSET_SREG_KEY, number_of(reg));
	u32(e, NFTNL_EXPR_DYNSET_OP, NFT_DYNSET_OP_ADD);
	str(e, NFTNL_EXPR_DYNSET_SET_NAME, set);
	u32(limit, NFTNL_EXPR_CONNLIMIT_COUNT, max);
	u32(limit, NFTNL_EXPR_CONNLIMIT_FLAGS, NFT_LIMIT_F_INV);
	if (e != NULL && limit != NULL)
		nftnl_expr_set(e, NFTNL_EXPR_DYNSET_EXPR, limit, 0);
	else
		c->failed = true;
}

static void
verdict(struct nft_code *c, int code, const char *chain)
{
	struct nftnl_expr *e = expr(c, "immediate");

	u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	u32(e, NFTNL_EXPR_IMM_VERDICT, (uint32_t)code);
	if (chain != NULL)
		str(e, NFTNL_EXPR_IMM_CHAIN, chain);
}

void
nft_accept(struct nft_code *c)
{
	verdict(c, NF_ACCEPT, NULL);
}

void
nft_drop(struct nft_code *c)
{
	verdict(c, NF_DROP, NULL);
}

void
nft_return(struct nft_code *c)
{
	verdict(c, NFT_RETURN, NULL);
}

void
nft_goto(struct nft_code *c, const char *chain)
{
	verdict(c, NFT_GOTO, chain);
}

void
nft_jump(struct nft_code *c, const char *chain)
{
	verdict(c, NFT_JUMP, chain);
}
