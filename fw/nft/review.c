#include "fw/nft/review.h"

#include <errno.h>
#include <stdlib.h>

#include "lib/log.h"

#define STAMP_AGE_MAX \
	1024 /* generations: older sessions lose theirs, before it can come round again */

struct nft_review {
	struct nft_track *track;
	struct nft_plane *plane;
	struct nft_walk *walk;
	bool again;
	struct nft_review_counts counts;
};

bool
nft_review_allows(const struct nft_plane *p, const struct nft_session *s, uint32_t *slot)
{
	const struct fw_rules *rules = nft_plane_rules(p);
	const struct fw_session_info *i = &s->info;
	bool egress = i->direction == PK_EGRESS, attested = nft_plane_attested(p);
	const struct fw_endpoint *far;
	struct fw_party subject, peer;
	struct fw_decision d;

	if (rules == NULL)
		return true; /* nobody has said; the ruleset passes nothing */
	fw_rules_party(rules, i->vrf, egress ? &i->src : &i->dst, attested, &subject);
	fw_rules_party(rules, i->vrf, egress ? &i->dst : &i->src, attested, &peer);
	fw_rules_decide(rules, (enum pk_direction)i->direction, &subject, &peer, i->proto,
	    s->selector, FW_APP_UNKNOWN, nft_plane_at(p), &d);
	if (slot != NULL)
		*slot = d.rule != FW_RULE_NONE ? d.rule : NFT_SLOT_NONE;
	if (d.verdict != PK_VERDICT_ALLOW ||
	    (d.terms != NULL && nft_terms_missing(d.terms) != NFT_DROP_NONE))
		return false;
	/* The inventory may have changed as well. */
	far = fw_rules_endpoint(rules, i->vrf, egress ? &i->dst : &i->src);
	return far == NULL || !far->local || far->wire != i->wire;
}

static const struct fw_rules *
rules_now(void *arg)
{
	const struct nft_review *r = arg;

	return nft_plane_rules(r->plane);
}

static enum nft_walk_next
each(void *arg, const struct nft_session *s)
{
	struct nft_review *r = arg;
	uint16_t stamp = (uint16_t)(s->mark >> 16);

	r->counts.reviewed++;
	if (!nft_review_allows(r->plane, s, NULL)) {
		nft_session_kill(r->track, s);
		r->counts.ended++;
	} else if (stamp != 0 && (uint16_t)(nft_plane_stamp(r->plane) - stamp) > STAMP_AGE_MAX) {
		nft_session_mark(r->track, s, s->mark & 0xffff);
	}
	return NFT_WALK_ON;
}

static void
done(void *arg, int rc)
{
	struct nft_review *r = arg;

	r->walk = NULL;
	/* -EINTR: entries came and went so fast that some may not have been shown. */
	if (rc == -EINTR || r->again)
		nft_review_start(r);
	else if (rc < 0)
		pk_warn("conntrack: review of sessions: %s", strerror(-rc));
}

void
nft_review_start(struct nft_review *r)
{
	r->again = r->walk != NULL;
	if (r->walk == NULL)
		r->walk = nft_walk_start(r->track, rules_now, each, done, r);
	if (r->walk == NULL)
		pk_warn("conntrack: no review of sessions: out of memory or sockets");
}

int
nft_review_create(struct nft_review **out, struct nft_track *t, struct nft_plane *p)
{
	struct nft_review *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return -ENOMEM;
	r->track = t;
	r->plane = p;
	*out = r;
	return 0;
}

void
nft_review_destroy(struct nft_review *r)
{
	if (r != NULL)
		nft_walk_cancel(r->walk);
	free(r);
}

void
nft_review_counts(const struct nft_review *r, struct nft_review_counts *out)
{
	*out = r->counts;
	out->under_way = r->walk != NULL;
}
