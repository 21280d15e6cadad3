/*
 * An IMA list as a host could send it, binary or ASCII, under a policy that has something of everything.
 * What is read is also replayed, and each entry judged.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "attest/appraise.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const char policy_text[] =
    "{\"digests\":{\"boot_aggregate\":[\"00\"],\"/bin/sh\":[\"sha256:11\"]},"
    "\"excludes\":[\"/tmp/.*\"],\"exclude_globs\":[\"/var/**/l?g\"],"
    "\"keyrings\":{\".ima\":[\"22\"]},\"ima-buf\":{\"kexec-cmdline\":[\"33\"]}}";

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct attest_ima_policy *policy;
	static struct attest_reasons reasons;
	struct attest_ima_state state;
	struct pk_diag diag;
	uint32_t used, trailing;

	if (policy == NULL &&
	    attest_ima_policy_parse(
	        &policy, (const uint8_t *)policy_text, sizeof(policy_text) - 1, &diag) < 0)
		abort();
	reasons.nb = reasons.lost = 0;
	if (attest_ima_state_init(&state, ATTEST_ALG_SHA384) == 0)
		attest_appraise_ima((struct attest_bytes){ data, len }, &state, NULL, NULL, policy,
		    NULL, &used, &trailing, &reasons);
	return 0;
}
