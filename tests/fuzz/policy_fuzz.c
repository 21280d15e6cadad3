#include <stdlib.h>

#include "policy/query.h"

/*
 * Policy sources are written by people and sent by clients; whatever they hold, the compiler refuses
 * or compiles, and what it compiled the packet path takes.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy_findings *f = NULL;
	struct policy_table *t = NULL;
	struct policy_query *q = NULL;
	struct policy_model *m = NULL;
	struct policy_ids *ids = NULL;
	unsigned int passed, failed;
	struct pk_diag diag;
	int rc;

	if (policy_findings_create(&f) < 0 || policy_model_create(&m) < 0 ||
	    policy_ids_create(&ids) < 0)
		abort();
	rc = policy_model_add_text(m, "fuzz", (const char *)data, size, f);
	/* A refusal says why, and nothing else does. */
	PK_ASSERT((rc == -22) == (policy_findings_count(f, POLICY_ERROR) > 0));
	if (rc == 0)
		rc = policy_compile(m, ids, &t, f);
	PK_ASSERT((rc == 0) == (t != NULL) || policy_findings_count(f, POLICY_ERROR) > 0);
	if (rc == 0) {
		PK_ASSERT(policy_findings_count(f, POLICY_ERROR) == 0);
		if (policy_query_create(&q, m, t, &diag) < 0)
			pk_bug(__FILE__, __LINE__, diag.text);
		policy_run_tests(m, t, f, &passed, &failed);
	}
	policy_query_destroy(q);
	policy_table_destroy(t);
	policy_ids_destroy(ids);
	policy_model_destroy(m);
	policy_findings_destroy(f);
	return 0;
}
