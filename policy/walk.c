#include "policy/walk.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

const char *
policy_step_text(enum policy_step_kind kind)
{
	static const char *const texts[] = { "decides", "passes on", "audit only",
		"peer does not match", "service does not match", "skipped by a pass" };

	return texts[kind];
}

const char *
policy_step_name(enum policy_step_kind kind)
{
	static const char *const names[] = { "decided", "passed", "audited", "peer", "service",
		"skipped" };

	return names[kind];
}

static int
covers(const struct policy_rule *r, uint8_t proto, uint16_t selector)
{
	if (r->any_service)
		return 1;
	for (uint32_t i = 0; i < r->nb_services; i++) {
		const struct pk_service *s = &r->services[i];

		if (s->proto == PK_PROTO_ANY ||
		    (s->proto == proto && s->low <= selector && selector <= s->high))
			return 1;
	}
	return 0;
}

int
policy_walk(struct policy_connect *c, enum pk_direction direction, uint32_t subject, uint32_t peer,
    uint8_t proto, uint16_t selector, struct policy_steps *out)
{
	const struct policy_program *p = policy_connect_program(c, direction, subject);
	int passed = -1; /* the tier that was left */

	out->nb = 0;
	for (uint32_t i = 0; p != NULL && i < p->nb_rules; i++) {
		const struct policy_rule *r = &p->rules[i];
		struct policy_step *s = POLICY_PUSH(out);

		if (s == NULL)
			return -ENOMEM;
		s->rule = r;
		if (passed == r->tier)
			s->kind = POLICY_STEP_SKIPPED;
		else if (!policy_connect_admits(c, r, peer))
			s->kind = POLICY_STEP_PEER;
		else if (!covers(r, proto, selector))
			s->kind = POLICY_STEP_SERVICE;
		else if (r->flags & PK_RULE_AUDIT)
			s->kind = POLICY_STEP_AUDITED;
		else if (r->verdict == PK_VERDICT_PASS)
			s->kind = POLICY_STEP_PASSED;
		else
			s->kind = POLICY_STEP_DECIDED;
		if (s->kind == POLICY_STEP_PASSED)
			passed = r->tier;
		if (s->kind == POLICY_STEP_DECIDED)
			break;
	}
	return 0;
}

/* ---- all traffic --------------------------------------------------------------------------------- */

void
policy_pieces_fini(struct policy_pieces *p)
{
	for (size_t i = 0; i < p->nb; i++)
		policy_traffic_fini(&p->at[i].traffic);
	free(p->at);
	*p = (struct policy_pieces){ 0 };
}

/* One side as parts; where there is no policy, one part that allows all. */
static int
side(struct policy_connect *c, enum pk_direction d, uint32_t subject, uint32_t peer,
    struct policy_parts *out)
{
	int rc = policy_connect_side(c, d, subject, peer, 0, out);
	struct policy_part *p;

	if (rc != -ENOENT)
		return rc;
	if ((p = POLICY_PUSH(out)) == NULL)
		return -ENOMEM;
	*p = (struct policy_part){ { 0, POLICY_LINE_LAST }, PK_VERDICT_ALLOW, NULL };
	return 0;
}

static int
file(struct policy_pieces *out, uint32_t low, uint32_t high, const struct policy_part *e,
    const struct policy_part *i)
{
	struct policy_piece *p;

	for (size_t k = 0; k < out->nb; k++) {
		p = &out->at[k];
		if (p->rule[PK_EGRESS] == e->rule && p->rule[PK_INGRESS] == i->rule &&
		    p->verdict[PK_EGRESS] == e->verdict && p->verdict[PK_INGRESS] == i->verdict)
			return policy_traffic_append(&p->traffic, low, high);
	}
	if ((p = POLICY_PUSH(out)) == NULL)
		return -ENOMEM;
	*p = (struct policy_piece){ .verdict = { e->verdict, i->verdict },
		.rule = { e->rule, i->rule } };
	return policy_traffic_append(&p->traffic, low, high);
}

int
policy_partition(struct policy_connect *c, uint32_t src, uint32_t dst, unsigned int family,
    struct policy_pieces *out)
{
	/* What this family has no packets of. */
	uint32_t gap = (uint32_t)(family == 4 ? IPPROTO_ICMPV6 : IPPROTO_ICMP) << 16;
	struct policy_parts e = { 0 }, in = { 0 };
	int rc = side(c, PK_EGRESS, src, dst, &e);

	if (rc == 0)
		rc = side(c, PK_INGRESS, dst, src, &in);
	for (size_t i = 0, k = 0; rc == 0 && i < e.nb && k < in.nb;) {
		uint32_t low = PK_MAX(e.at[i].span.low, in.at[k].span.low);
		uint32_t high = PK_MIN(e.at[i].span.high, in.at[k].span.high);

		if (low < gap && low <= high)
			rc = file(out, low, PK_MIN(high, gap - 1), &e.at[i], &in.at[k]);
		if (rc == 0 && high > (gap | 0xffff))
			rc = file(out, PK_MAX(low, (gap | 0xffff) + 1), high, &e.at[i], &in.at[k]);
		if (e.at[i].span.high < in.at[k].span.high)
			i++;
		else if (in.at[k].span.high < e.at[i].span.high)
			k++;
		else
			i++, k++;
	}
	free(e.at);
	free(in.at);
	return rc;
}
