/*
 * What an agent could send: messages one after the other, into the state that generations are built
 * from.  The first byte of each piece says how many bytes of a whole message follow.
 */
#include <stdint.h>
#include <string.h>

#include "fw/rule.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fw_rules *in_force = NULL;
	struct fw_rules_state *state;
	struct pk_diag diag;

	if (fw_rules_state_create(&state) < 0)
		return 0;
	while (len > 0) {
		struct fw_rules *rules = NULL;
		struct pk_msg m = { 0 };
		size_t n = 1 + (size_t)data[0] * 2;

		n = PK_MIN(n, len);
		memcpy(&m, data + 1, PK_MIN(n - 1, sizeof(m)));
		data += n;
		len -= n;
		/* Most inputs would die at the version; that check has a test of its own. */
		m.h.version = PK_MSG_VERSION;
		if (pk_msg_check(&m, sizeof(m), &diag) < 0)
			continue;
		if (m.h.type == PK_MSG_PROGRAM)
			m.program.nb_rules %= 64; /* what memory is for is not the question here */
		(void)fw_rules_state_apply(state, &m, &rules, &diag);
		if (rules != NULL) {
			struct pk_addr a = { .family = 4, .bytes = { 192, 0, 2, 1 } };
			struct fw_decision d;
			struct fw_rule_info info;
			struct fw_party party;

			fw_rules_destroy(in_force);
			in_force = rules;
			fw_rules_party(rules, 0, &a, true, &party);
			fw_rules_decide(
			    rules, PK_EGRESS, &party, &party, 6, 443, FW_APP_NONE, PK_TIME_ANY, &d);
			for (uint32_t i = 0; (i = fw_rules_next(rules, i)) != FW_RULE_NONE; i++)
				fw_rules_info(rules, i, &info);
		}
	}
	fw_rules_destroy(in_force);
	fw_rules_state_destroy(state);
	return 0;
}
