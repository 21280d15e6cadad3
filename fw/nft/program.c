/*
 * A program as chains: one per tier, which the program's own jumps to in turn.  A tier that has no opinion, or says
 * pass, returns; so the kernel, which follows every jump when it checks a ruleset, meets each rule once.
 *
 * Each set of peers of a rule is a rule of nftables.  The peer's identity is looked up once, at the start, and
 * stands in the mark.
 */
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fw/nft/ruleset_priv.h"

void
nft_program_name(uint64_t program, char name[24])
{
	snprintf(name, 24, "p%016" PRIx64, program);
}

static void
identity_set_name(uint64_t set, char name[NFT_NAME_LEN])
{
	snprintf(name, NFT_NAME_LEN, "s%016" PRIx64, set);
}

/* ---- services ---- */

/* Conntrack's selectors of other protocols are not those of policy, which has none for them. */
static bool
has_selector(uint8_t proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP ||
	    proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6;
}

static int
service_compare(const void *a, const void *b)
{
	const struct pk_service *x = a, *y = b;

	if (x->proto != y->proto)
		return x->proto < y->proto ? -1 : 1;
	return x->low != y->low ? (x->low < y->low ? -1 : 1) : 0;
}

/* As disjoint spans, in order, at out[0 .. n - 1], which the caller frees.  *any: it is all traffic. */
static struct pk_service *
disjoint(struct nft_making *m, const struct fw_view_rule *r, uint32_t *n, bool *any)
{
	struct pk_service *out = calloc(r->nb_services + 1, sizeof(*out));
	uint32_t to = 0;

	*n = 0;
	*any = r->any_service;
	if (out == NULL) {
		m->plan->failed = true;
		return NULL;
	}
	for (uint32_t i = 0; i < r->nb_services; i++) {
		out[i] = r->services[i];
		if (!has_selector(out[i].proto)) {
			/* Policy's selector of these is 0. */
			*any |= out[i].proto == PK_PROTO_ANY;
			if (out[i].low != 0)
				out[i].proto = PK_PROTO_ANY; /* never found */
			out[i].high = UINT16_MAX;
		}
	}
	qsort(out, r->nb_services, sizeof(*out), service_compare);
	for (uint32_t i = 0; i < r->nb_services; i++) {
		if (out[i].proto == PK_PROTO_ANY)
			continue;
		if (to > 0 && out[to - 1].proto == out[i].proto &&
		    (uint32_t)out[i].low <= out[to - 1].high + 1u)
			out[to - 1].high = PK_MAX(out[to - 1].high, out[i].high);
		else
			out[to++] = out[i];
	}
	*n = to;
	return out;
}

/* A set for several spans, of a name that says what is in it, so that rules share it. */
static void
service_set(struct nft_making *m, const struct pk_service *s, uint32_t n, char name[NFT_NAME_LEN])
{
	uint64_t a = UINT64_C(0xcbf29ce484222325), b = n;
	struct nft_set *set;

	for (uint32_t i = 0; i < n; i++) {
		uint64_t v = (uint64_t)s[i].proto << 32 | (uint64_t)s[i].low << 16 | s[i].high;

		a = (a ^ v) * UINT64_C(0x100000001b3);
		b = (b + v) * UINT64_C(0x9e3779b97f4a7c15);
		b ^= b >> 29;
	}
	snprintf(name, NFT_NAME_LEN, "v%016" PRIx64 "%08" PRIx32, a ^ a >> 31, (uint32_t)b);
	set = nft_plan_set(m->plan, NFT_TABLE_INET, name, NFT_SET_BOXES, NFT_SET_KEYS,
	    NFT_TYPES(NFT_TYPE_PROTOCOL, NFT_TYPE_PORT), 8);
	if (set == NULL)
		return;
	set->part_len[0] = 1;
	set->part_len[1] = 2;
	for (uint32_t i = 0; i < n; i++) {
		uint8_t key[8] = { s[i].proto, 0, 0, 0, (uint8_t)(s[i].low >> 8),
			(uint8_t)s[i].low };
		uint8_t end[8] = { s[i].proto, 0, 0, 0, (uint8_t)(s[i].high >> 8),
			(uint8_t)s[i].high };

		memcpy(nft_plan_element(m->plan, set, key, sizeof(key))->end, end, sizeof(end));
	}
}

static void
match_service(struct nft_code *c, const struct pk_service *s, uint32_t n, const char *set)
{
	nft_ct_dir(c, NFT_CT_PROTOCOL, false, 0);
	if (n > 1) {
		nft_ct_dir(c, NFT_CT_PROTO_DST, false, 1);
		nft_in_set(c, 0, set);
		return;
	}
	nft_test8(c, 0, NFT_CMP_EQ, s->proto);
	if (s->low == 0 && s->high == UINT16_MAX)
		return;
	nft_ct_dir(c, NFT_CT_PROTO_DST, false, 0);
	if (s->low == s->high) {
		nft_test16(c, 0, NFT_CMP_EQ, s->low);
		return;
	}
	nft_test16(c, 0, NFT_CMP_GTE, s->low);
	nft_test16(c, 0, NFT_CMP_LTE, s->high);
}

/* ---- rules ---- */

struct writing {
	struct nft_making *m;
	struct nft_code c;
	bool has_audit;
	enum pk_direction direction;
};

enum peer_kind {
	PEER_ANY,
	PEER_IDENTITY,
	PEER_IP4,
	PEER_IP6,
	PEER_KINDS,
};

static void
match_peer(struct writing *w, enum peer_kind kind, uint64_t set)
{
	bool opener = w->direction == PK_INGRESS;
	char name[NFT_NAME_LEN];

	identity_set_name(set, name);
	switch (kind) {
	case PEER_ANY:
	case PEER_KINDS:
		return;
	case PEER_IDENTITY:
		nft_meta(&w->c, NFT_META_MARK, 0);
		if (w->has_audit)
			nft_mask(&w->c, 0, ~NFT_MARK_AUDITED, 0);
		break;
	case PEER_IP4:
		strcat(name, "-4");
		nft_ct_dir(&w->c, opener ? NFT_CT_SRC_IP : NFT_CT_DST_IP, false, 0);
		break;
	case PEER_IP6:
		strcat(name, "-6");
		nft_ct_dir(&w->c, opener ? NFT_CT_SRC_IP6 : NFT_CT_DST_IP6, false, 0);
		break;
	}
	nft_in_set(&w->c, 0, name);
}

static const char *
end_of(enum pk_direction d, enum pk_verdict v, enum pk_log_mode log)
{
	switch (v) {
	case PK_VERDICT_ALLOW:
		return nft_allow_chain(d, log != PK_RULE_LOG_NONE);
	case PK_VERDICT_REJECT:
		return log != PK_RULE_LOG_NONE ? "reject-log" : "reject";
	default:
		return log != PK_RULE_LOG_NONE ? "deny-log" : "deny";
	}
}

static void
act(struct writing *w, const struct fw_view_rule *r)
{
	char counter[NFT_NAME_LEN], prefix[64];

	snprintf(counter, sizeof(counter), "r%016" PRIx64, r->id);
	if ((r->flags & PK_RULE_AUDIT) != 0) {
		nft_count(&w->c, counter);
		nft_meta(&w->c, NFT_META_MARK, 0);
		nft_mask(&w->c, 0, ~NFT_MARK_AUDITED, NFT_MARK_AUDITED);
		nft_meta_set(&w->c, NFT_META_MARK, 0);
		if (r->log != PK_RULE_LOG_NONE) {
			snprintf(prefix, sizeof(prefix), NFT_LOG_AUDIT "%016" PRIx64, r->id);
			nft_limit(&w->c, 1000, 256);
			nft_log(&w->c, w->m->conf->log_group, prefix, NFT_LOG_SNAP);
		}
	} else if (r->verdict == PK_VERDICT_PASS) {
		nft_return(&w->c);
	} else if (r->verdict == PK_VERDICT_ALLOW && nft_terms_missing(r->terms) != NFT_DROP_NONE) {
		nft_count(&w->c, counter);
		nft_refuse(&w->c, nft_terms_missing(r->terms));
		return;
	} else {
		nft_count(&w->c, counter);
		nft_number(&w->c, 0, r->slot);
		nft_meta_set(&w->c, NFT_META_MARK, 0);
		nft_goto(&w->c, end_of(w->direction, r->verdict, r->log));
	}
	nft_rule_end(&w->c);
}

static void
write_term(struct writing *w, const struct fw_view_rule *r, enum peer_kind kind, uint64_t set,
    const struct pk_service *services, uint32_t nb_services, bool any_service,
    const char *service_set_name)
{
	if ((r->flags & PK_RULE_AUDIT) != 0) {
		nft_meta(&w->c, NFT_META_MARK, 0);
		nft_mask(&w->c, 0, NFT_MARK_AUDITED, 0);
		nft_test32(&w->c, 0, NFT_CMP_EQ, 0);
	}
	if (!any_service)
		match_service(&w->c, services, nb_services, service_set_name);
	match_peer(w, kind, set);
	act(w, r);
}

static void
write_rule(struct writing *w, const struct fw_view_rule *r)
{
	struct nft_making *m = w->m;
	struct pk_service *services;
	char name[NFT_NAME_LEN] = "";
	uint32_t n;
	bool any;

	/* The ruleset is made anew when a schedule turns. */
	if (r->schedule != NULL && !pk_schedule_on(r->schedule, m->at_s))
		return;
	/* What a session speaks is not seen here, so a rule that allows by it allows nothing.  One that refuses
	 * refuses what might speak it. */
	if (r->has_apps && (r->verdict == PK_VERDICT_ALLOW || r->verdict == PK_VERDICT_PASS))
		return;
	if ((r->flags & PK_RULE_AUDIT) != 0 && r->verdict == PK_VERDICT_PASS)
		return; /* an opinion about no packet */
	services = disjoint(m, r, &n, &any);
	if (services == NULL || (!any && n == 0))
		goto out;
	if (!any && n > 1)
		service_set(m, services, n, name);
	if ((r->flags & PK_RULE_AUDIT) != 0 || r->verdict != PK_VERDICT_PASS) {
		char counter[NFT_NAME_LEN];

		snprintf(counter, sizeof(counter), "r%016" PRIx64, r->id);
		nft_plan_counter(m->plan, NFT_TABLE_INET, counter);
	}
	if (r->any_peer)
		write_term(w, r, PEER_ANY, 0, services, n, any, name);
	for (uint32_t i = 0; !r->any_peer && i < r->nb_peers; i++) {
		switch (fw_view_set_kind(m->state, r->peers[i])) {
		case PK_SET_IDENTITY:
			write_term(w, r, PEER_IDENTITY, r->peers[i], services, n, any, name);
			break;
		case PK_SET_PREFIX:
			write_term(w, r, PEER_IP4, r->peers[i], services, n, any, name);
			write_term(w, r, PEER_IP6, r->peers[i], services, n, any, name);
			break;
		default:
			break;
		}
	}
out:
	free(services);
}

/* The peer's identity into the mark; 0: nobody in the inventory. */
static void
find_peer(struct writing *w)
{
	bool opener = w->direction == PK_INGRESS;

	nft_number(&w->c, 0, 0);
	nft_meta_set(&w->c, NFT_META_MARK, 0);
	nft_rule_end(&w->c);
	for (unsigned int f = 0; f < 2; f++) {
		nft_ct(&w->c, NFT_CT_ZONE, 0);
		nft_mask(&w->c, 0, NFT_VRF_MAX, 0);
		nft_ct_dir(&w->c,
		    f == 0 ? (opener ? NFT_CT_SRC_IP : NFT_CT_DST_IP)
		           : (opener ? NFT_CT_SRC_IP6 : NFT_CT_DST_IP6),
		    false, 1);
		nft_map(&w->c, 0, f == 0 ? "identity4" : "identity6", 0);
		nft_meta_set(&w->c, NFT_META_MARK, 0);
		nft_rule_end(&w->c);
	}
}

void
nft_program_make(struct nft_making *m, const struct fw_view_program *p)
{
	struct writing w = { .m = m, .direction = p->direction };
	char name[24], tier_name[NFT_NAME_LEN];
	struct fw_view_rule r;
	struct nft_code head;
	uint32_t i;

	for (i = 0; i < p->nb_rules; i++) {
		fw_view_rule(p, i, &r);
		w.has_audit |= (r.flags & PK_RULE_AUDIT) != 0;
	}
	nft_program_name(p->program, name);
	nft_begin(m, &w.c, name);
	find_peer(&w);
	head = w.c;
	for (i = 0; i < p->nb_rules;) {
		uint8_t tier;

		fw_view_rule(p, i, &r);
		tier = r.tier;
		snprintf(tier_name, sizeof(tier_name), "%s-%u", name, tier);
		nft_jump(&head, tier_name);
		nft_rule_end(&head);
		nft_begin(m, &w.c, tier_name);
		for (; i < p->nb_rules; i++) {
			fw_view_rule(p, i, &r);
			if (r.tier != tier)
				break;
			write_rule(&w, &r);
		}
		nft_end(m, &w.c, NFT_TABLE_INET, NULL);
	}
	nft_number(&head, 0, NFT_SLOT_NONE);
	nft_meta_set(&head, NFT_META_MARK, 0);
	nft_goto(&head, "deny");
	nft_rule_end(&head);
	nft_end(m, &head, NFT_TABLE_INET, NULL);
}
