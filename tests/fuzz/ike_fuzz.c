#include <errno.h>
#include <stdlib.h>

#include "policy/ike.h"
#include "policy/model.h"

/* Peers of IKE come from files and from the agent: refused with a reason, or read into something whole. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy_findings *f;
	struct policy_ike *ike = NULL;
	int rc;

	if (policy_findings_create(&f) < 0)
		abort();
	rc = policy_ike_read(&ike, "fuzz", (const char *)data, size, f);
	PK_ASSERT((rc == -EINVAL) == (policy_findings_count(f, POLICY_ERROR) > 0));
	PK_ASSERT((rc == 0) == (ike != NULL));
	for (size_t i = 0; rc == 0 && i < policy_ike_count(ike); i++) {
		const struct policy_ike_peer *p = policy_ike_get(ike, i);

		PK_ASSERT(
		    p->name != NULL && p->local.identity != NULL && p->remote.identity != NULL);
		PK_ASSERT(p->local.auth != POLICY_IKE_AUTH_NONE &&
		    p->remote.auth != POLICY_IKE_AUTH_NONE);
		PK_ASSERT(p->local.auth != POLICY_IKE_AUTH_CERTIFICATE || p->local.key != NULL);
		PK_ASSERT(p->nb_children > 0);
		for (size_t j = 0; j < p->nb_children; j++) {
			const struct policy_ike_child *c = &p->children[j];

			PK_ASSERT(c->name != NULL && c->local.nb > 0 && c->remote.nb > 0);
			PK_ASSERT(c->life_ns == 0 || c->life_ns > c->rekey_ns);
			for (size_t k = 0; k < c->local.nb; k++)
				PK_ASSERT(c->local.at[k].low <= c->local.at[k].high);
		}
	}
	policy_ike_destroy(ike);
	policy_findings_destroy(f);
	return 0;
}
