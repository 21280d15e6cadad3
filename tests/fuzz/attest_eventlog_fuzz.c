/* A boot log as a host could send it: parse, replay in every bank, look for what is wrong. */
#include <stdint.h>
#include <stdlib.h>

#include "attest/eventlog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct attest_reasons reasons;
	static struct attest_bank bank;
	struct attest_eventlog *log;
	struct attest_boot boot;
	struct attest_image image;
	struct attest_tag tag;
	struct pk_diag diag;

	if (attest_eventlog_parse(&log, data, len, &diag) < 0)
		return 0;
	for (unsigned int b = 0; b < log->nb_banks; b++)
		(void)attest_eventlog_replay(log, log->bank[b].alg, &bank);
	reasons.nb = reasons.lost = 0;
	attest_eventlog_check(log, log->bank[0].alg, 0xffffff, &boot, &reasons);
	for (uint32_t i = 0; i < log->nb_events; i++) {
		struct attest_variable v;

		(void)attest_event_variable(log->event[i].data, &v);
		(void)attest_event_image(log->event[i].data, &image);
		(void)attest_event_tag(log->event[i].data, &tag);
	}
	attest_eventlog_destroy(log);
	return 0;
}
