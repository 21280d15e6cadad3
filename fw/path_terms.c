#include <rte_mbuf.h>

#include "fw/path_priv.h"

/*
 * On what terms a rule allows, as far as each packet is held to them: how many may pass, and what codepoint they
 * leave with.  Both are the rule's, for both directions of its sessions together.
 */

void
fw_terms_note(struct fw_path *p, uint32_t i, const struct fw_decision *d)
{
	struct fw_session *s = &p->sessions.hot[i];
	struct fw_session_cold *c = &p->sessions.cold[i];
	const struct pk_rule_terms *t = d->terms;

	if (unlikely(t != NULL && (t->packets_per_s != 0 || t->bytes_per_s != 0 || t->dscp != 0))) {
		c->care |= FW_CARE_TERMS;
		s->flags |= FW_SESSION_EXTRA;
	} else if (unlikely((c->care & FW_CARE_TERMS) != 0)) {
		c->care &= (uint8_t)~FW_CARE_TERMS;
		fw_session_settled(p, i);
	}
}

enum fw_drop
fw_terms_open(struct fw_batch *b, const struct fw_decision *d)
{
	if (d->terms->sessions_per_s != 0 &&
	    !fw_meter_take(b->p->shared->meters, d->rule, FW_METER_SESSIONS,
	        d->terms->sessions_per_s, 1, b->now_ns))
		return FW_DROP_RULE_SESSIONS;
	return FW_DROP_NONE;
}

/*
 * RFC 2474 section 3: the upper six bits of IPv4's second byte and of IPv6's traffic class.  The lower two are
 * the hosts' own (RFC 3168), and stay.
 */
static void
mark_header(struct fw_pkt *pk, uint32_t l3, uint8_t codepoint)
{
	const uint8_t *ip = pk->data + l3;
	uint8_t out[2] = { ip[0], 0 };
	uint16_t sum;

	if (ip[0] >> 4 == 6) {
		out[0] = (uint8_t)(6 << 4 | codepoint >> 2);
		out[1] = (uint8_t)((codepoint & 3) << 6 | (ip[1] & 0x3f));
	} else {
		out[1] = (uint8_t)(codepoint << 2 | (ip[1] & 3));
		memcpy(&sum, ip + 10, 2);
		sum = fw_sum_adjust(sum, fw_sum(ip, 2, 0), fw_sum(out, 2, 0));
		fw_overwrite(pk->m, l3 + 10, (const uint8_t *)&sum, 2);
	}
	fw_overwrite(pk->m, l3, out, 2);
}

/*
 * In a tunnel both headers (RFC 2983 section 3), for it is the outer one that switches see.  What has changed
 * inside is under the tunnel's UDP checksum, if it has one; but of IPv4 that makes no difference to it, for its
 * own checksum has changed the other way.
 */
static void
mark(struct fw_pkt *pk, uint8_t codepoint)
{
	uint8_t was[2], is[2];
	uint16_t sum;

	memcpy(was, pk->data + pk->l3, 2);
	mark_header(pk, pk->l3, codepoint);
	if (likely(pk->outer_l4 == 0))
		return;
	mark_header(pk, pk->outer_l3, codepoint);
	memcpy(&sum, pk->data + pk->outer_l4 + 6, 2);
	if (was[0] >> 4 != 6 || sum == 0)
		return;
	is[0] = (uint8_t)(6 << 4 | codepoint >> 2);
	is[1] = (uint8_t)((codepoint & 3) << 6 | (was[1] & 0x3f));
	sum = fw_sum_adjust(sum, fw_sum(was, 2, 0), fw_sum(is, 2, 0));
	if (sum == 0)
		sum = 0xffff; /* RFC 768: 0 would mean none */
	fw_overwrite(pk->m, pk->outer_l4 + 6u, (const uint8_t *)&sum, 2);
}

enum fw_drop
fw_terms_packet(struct fw_batch *b, struct fw_pkt *pk, uint32_t i)
{
	uint32_t rule = b->p->sessions.cold[i].slot_and_selector >> 16;
	const struct pk_rule_terms *t = fw_rules_terms(b->rules, rule);

	if (t == NULL)
		return FW_DROP_NONE;
	if (t->packets_per_s != 0 &&
	    !fw_meter_take(
	        b->p->shared->meters, rule, FW_METER_PACKETS, t->packets_per_s, 1, b->now_ns))
		return FW_DROP_RULE_PACKETS;
	if (t->bytes_per_s != 0 &&
	    !fw_meter_take(
	        b->p->shared->meters, rule, FW_METER_BYTES, t->bytes_per_s, pk->len, b->now_ns))
		return FW_DROP_RULE_BYTES;
	if (t->dscp != 0)
		mark(pk, t->dscp & PK_DSCP_MAX);
	return FW_DROP_NONE;
}
