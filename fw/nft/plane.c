#include "fw/nft/plane.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/log.h"

struct nft_plane {
	struct nft_plane_conf conf;
	struct nft_kernel *kernel;
	struct nft_plan *plan;              /* in the kernel; NULL: not known */
	struct fw_rules *rules;             /* in force */
	bool lent;                          /* they are somebody else's */
	const struct fw_rules_state *state; /* that the plan was made of; NULL: none */
	uint16_t stamp;
	bool attested;
	int64_t at_s; /* when schedules were looked at */
	struct nft_plane_status status;
};

static uint16_t
stamp_after(uint16_t stamp)
{
	return stamp == NFT_STAMP_MAX ? 1 : (uint16_t)(stamp + 1);
}

/* Bring the kernel to what `s` says, under a stamp of its own. */
static int
change(struct nft_plane *p, const struct fw_rules_state *s, bool attested, struct pk_diag *diag)
{
	uint16_t stamp = stamp_after(p->stamp);
	uint64_t start = pk_clock_mono_ns();
	int64_t at_s = (int64_t)(pk_clock_wall_ns() / PK_NS_PER_S);
	struct nft_plan *plan;
	int rc = nft_ruleset_make(&plan, &p->conf.ruleset, s, attested, at_s, stamp, diag);

	if (rc < 0)
		return rc;
	rc = nft_kernel_apply(p->kernel, p->plan, plan, &p->status.cost, diag);
	if (rc < 0) {
		nft_plan_destroy(plan);
		return rc;
	}
	nft_plan_destroy(p->plan);
	p->plan = plan;
	p->stamp = stamp;
	p->attested = attested;
	p->at_s = at_s;
	p->state = s;
	p->status.kept = false;
	p->status.apply_ns = pk_clock_mono_ns() - start;
	return 0;
}

/* Names of ports and bridges, as a number: rules for some wires are none for others. */
static uint64_t
wires_of(const struct nft_ruleset_conf *conf)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (uint16_t w = 0; w < conf->nb_wires; w++) {
		const char *const names[] = { conf->wires[w].port[0], conf->wires[w].port[1],
			conf->wires[w].bridge };

		for (unsigned int i = 0; i < PK_COUNT(names); i++)
			for (size_t at = 0; at <= strlen(names[i]); at++)
				h = (h ^ (uint8_t)names[i][at]) * UINT64_C(0x100000001b3);
		h = (h ^ conf->wires[w].bridge_index) * UINT64_C(0x100000001b3);
	}
	return h;
}

int
nft_plane_create(struct nft_plane **out, const struct nft_plane_conf *conf, struct pk_diag *diag)
{
	struct nft_plane *p = calloc(1, sizeof(*p));
	int rc;

	if (p == NULL)
		return -ENOMEM;
	p->conf = *conf;
	p->stamp = conf->first_stamp;
	rc = nft_kernel_open(&p->kernel, conf->ruleset.table, wires_of(&conf->ruleset), diag);
	if (rc == 0)
		rc = nft_kernel_there(p->kernel, diag);
	if (rc == NFT_KERNEL_OTHER)
		pk_notice(
		    "the ruleset there is of other wires: nothing passes until a policy is accepted");
	if (rc == NFT_KERNEL_SAME) {
		p->status.kept = true;
		rc = 0;
	} else if (rc >= 0) {
		rc = change(p, NULL, false, diag);
	}
	if (rc < 0) {
		nft_plane_destroy(p);
		return rc;
	}
	*out = p;
	return 0;
}

void
nft_plane_destroy(struct nft_plane *p)
{
	if (p == NULL)
		return;
	nft_plan_destroy(p->plan);
	nft_kernel_close(p->kernel);
	if (!p->lent)
		fw_rules_destroy(p->rules);
	free(p);
}

int
nft_plane_ready(void *arg, const struct fw_rules_state *s, struct pk_diag *diag)
{
	struct nft_plane *p = arg;

	return change(p, s, p->attested, diag);
}

void
nft_plane_publish(void *arg, struct fw_rules *rules)
{
	struct nft_plane *p = arg;

	fw_rules_destroy(p->rules);
	p->rules = rules;
	p->conf.changed(p->conf.arg);
}

void
nft_plane_lend(struct nft_plane *p, struct fw_rules *rules)
{
	PK_ASSERT(p->lent || p->rules == NULL);
	p->lent = true;
	p->rules = rules;
}

int
nft_plane_posture(struct nft_plane *p, bool attested, struct pk_diag *diag)
{
	int rc;

	if (attested == p->attested)
		return 0;
	if (p->state == NULL) {
		p->attested = attested;
		return 0;
	}
	rc = change(p, p->state, attested, diag);
	if (rc < 0 && !attested) {
		struct pk_diag worse;

		/* Doubt is refusal. */
		pk_error("posture: %s; nothing passes until a policy is accepted", diag->text);
		p->attested = false;
		return change(p, NULL, false, &worse);
	}
	if (rc == 0)
		p->conf.changed(p->conf.arg);
	return rc;
}

void
nft_plane_clock(void *arg)
{
	struct nft_plane *p = arg;
	int64_t now_s = (int64_t)(pk_clock_wall_ns() / PK_NS_PER_S);
	struct pk_diag diag;

	if (p->state == NULL || !fw_rules_turned(p->rules, p->at_s, now_s))
		return;
	if (change(p, p->state, p->attested, &diag) < 0) {
		pk_error("schedules: %s", diag.text);
		return;
	}
	pk_notice("schedules: rules have come or gone");
	p->conf.changed(p->conf.arg);
}

int64_t
nft_plane_at(const struct nft_plane *p)
{
	return p->at_s;
}

const struct fw_rules *
nft_plane_rules(const struct nft_plane *p)
{
	return p->rules;
}

bool
nft_plane_attested(const struct nft_plane *p)
{
	return p->attested;
}

uint16_t
nft_plane_stamp(const struct nft_plane *p)
{
	return p->stamp;
}

void
nft_plane_status(const struct nft_plane *p, struct nft_plane_status *out)
{
	*out = p->status;
}

int
nft_plane_counters(struct nft_plane *p,
    void (*each)(void *arg, const char *name, uint64_t packets, uint64_t bytes), void *arg)
{
	for (unsigned int t = 0; t < NFT_TABLE_COUNT; t++) {
		int rc = nft_kernel_counters(p->kernel, (enum nft_table)t, each, arg);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static void
add_refusals(void *arg, const char *name, uint64_t packets, uint64_t bytes)
{
	struct pk_msg_policy_counts *out = arg;

	(void)bytes;
	if (strcmp(name, nft_drop_name(NFT_DROP_RULE_DENY)) == 0 ||
	    strcmp(name, nft_drop_name(NFT_DROP_RULE_REJECT)) == 0)
		out->refused += packets;
	else if (strcmp(name, nft_drop_name(NFT_DROP_REVOKED)) == 0)
		out->revoked += packets;
}

void
nft_plane_counts(void *arg, struct pk_msg_policy_counts *out)
{
	(void)nft_plane_counters(arg, add_refusals, out);
}
