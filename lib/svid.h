#pragma once

#include <stdbool.h>

#include <openssl/x509.h>

#include "lib/svid_trust.h"

struct event_base;

/*
 * The identities of the workloads behind this DPU, and of the DPU itself, for the programs beside the agent that
 * speak in their names (picket-tlsd, picket-iked).
 *
 *     pk_svid_source_create(&s, base, RUN_DIR "/picket-agentd.svid", &ops, arg, &diag);
 *     pk_svid_source_watch(s, "shop/web");     or PK_SVID_ALL, or "" for the DPU's own
 *     ...
 *     ops.svid(arg, svid)                      use this from now on: certificate, chain, key
 *     ops.gone(arg, "shop/web", why)           end what uses it, now: the host is not trusted any more
 *     ops.trust(arg, trust)                    bundle or revocations have changed: judge live peers again,
 *                                              pk_svid_is_revoked(), and forget verdicts that were kept
 *
 * The agent makes the keys, has the policy server sign them as long as the host's attestation is good, and renews
 * them halfway; so `svid` comes again and again, and connections made with the one before last as long as their
 * owner lets them.  A key stays on the DPU: it comes in a sealed memory file that the agent empties when the SVID is
 * revoked, so no copy should be kept beyond the EVP_PKEY.
 *
 * Without the agent, what was served lasts until it expires.  The connection is made again, and all that was
 * watched is asked for again; `trust` is then said anew, as it is when nothing has changed.
 * Context: control thread, all of it; callbacks come from the event loop.
 */
#define PK_SVID_ALL \
	"*" /* all workloads behind this DPU, those to come too; without the DPU's own */

struct pk_svid_source;

struct pk_svid {
	char workload[PK_SVID_WORKLOAD_MAX]; /* "tenant/name", or "" for the DPU itself */
	char id[PK_SVID_ID_MAX];
	X509 *leaf;
	STACK_OF(X509) * chain; /* to be sent after the leaf; may be empty, without the root */
	EVP_PKEY *key;
	uint64_t not_after_s; /* seconds since 1970 */
	uint64_t epoch;       /* of the host's posture by which it was issued */
};

struct pk_svid_ops {
	/* Borrowed; take references (X509_up_ref, EVP_PKEY_up_ref) of what is to outlast the call. */
	void (*svid)(void *arg, const struct pk_svid *s);
	/* There is none at present, for the reason given; what was served stays good until it expires.  May be NULL. */
	void (*waiting)(void *arg, const char *workload, const char *why);
	void (*gone)(void *arg, const char *workload, const char *why);
	/* `t` is the source's own, and lasts as long as it. */
	void (*trust)(void *arg, const struct pk_svid_trust *t);
};

/* Connect to the agent, for as long as it takes.  Returns 0, or negative errno with *diag. */
int pk_svid_source_create(struct pk_svid_source **out, struct event_base *base, const char *path,
    const struct pk_svid_ops *ops, void *arg, struct pk_diag *diag);
void pk_svid_source_destroy(struct pk_svid_source *s); /* NULL is allowed */

/* Ask for one more workload.  Returns 0, -EINVAL for what cannot be a name, or -ENOMEM. */
int pk_svid_source_watch(struct pk_svid_source *s, const char *workload);

/* The newest of a workload that was served and is neither gone nor expired at `now`; borrowed, or NULL. */
const struct pk_svid *pk_svid_source_find(
    const struct pk_svid_source *s, const char *workload, time_t now);
/* Borrowed; it trusts nobody before the agent has said whom. */
const struct pk_svid_trust *pk_svid_source_trust(const struct pk_svid_source *s);
bool pk_svid_source_connected(const struct pk_svid_source *s);
