#pragma once

#include <stdbool.h>

#include "fw/nft/kernel.h"
#include "fw/nft/ruleset.h"
#include "fw/rule.h"

/*
 * The kernel as a data plane: holds the generation in force, as rules (for questions and for conntrack's sessions)
 * and as the plan that is in nftables.
 *
 * A generation is put into the kernel while its commit can still be refused, so that what the agent is told is
 * true; nothing passes by an older one when nft_plane_ready() has returned.  Whether the host is attested changes
 * the plan as a generation does.
 * Context of all: control thread.
 */
struct nft_plane;

struct nft_plane_conf {
	struct nft_ruleset_conf ruleset;
	uint16_t first_stamp; /* of those that no session has */
	/* A generation or a posture has come into force: sessions have to be judged anew. */
	void (*changed)(void *arg);
	void *arg;
};

/*
 * Install the ruleset that passes nothing, unless a ruleset of ours about the same wires is in force already: then
 * that stays until the first generation comes.  Returns 0 or negative errno with *diag.
 */
int nft_plane_create(
    struct nft_plane **out, const struct nft_plane_conf *conf, struct pk_diag *diag);
void nft_plane_destroy(struct nft_plane *p); /* the kernel goes on with what it has */

/* As fw_link_plane wants them (fw/link.h); `arg` is the plane. */
int nft_plane_ready(void *arg, const struct fw_rules_state *s, struct pk_diag *diag);
void nft_plane_publish(void *arg, struct fw_rules *rules);
void nft_plane_counts(void *arg, struct pk_msg_policy_counts *out);

/* For who holds the rules himself: as nft_plane_publish(), but they stay his, and nobody is told. */
void nft_plane_lend(struct nft_plane *p, struct fw_rules *rules);

/* The host is, or is not, attested from now on.  Returns 0, or negative errno with *diag: nothing passes then. */
int nft_plane_posture(struct nft_plane *p, bool attested, struct pk_diag *diag);

/* Look at the clock on the wall, for rules with a schedule: once a second, by fw_link; `arg` is the plane. */
void nft_plane_clock(void *arg);
int64_t nft_plane_at(const struct nft_plane *p); /* the moment that the ruleset in force is of */

const struct fw_rules *nft_plane_rules(const struct nft_plane *p); /* NULL: none yet */
bool nft_plane_attested(const struct nft_plane *p);
uint16_t nft_plane_stamp(const struct nft_plane *p);

struct nft_plane_status {
	struct nft_kernel_cost cost; /* of the last change */
	uint64_t apply_ns;           /* it took */
	bool kept;                   /* still the ruleset of the process before */
};
void nft_plane_status(const struct nft_plane *p, struct nft_plane_status *out);

/* Every counter of both tables; equal names come twice. */
int nft_plane_counters(struct nft_plane *p,
    void (*each)(void *arg, const char *name, uint64_t packets, uint64_t bytes), void *arg);
