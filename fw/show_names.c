#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "fw/names.h"
#include "fw/path.h"
#include "fw/show_priv.h"
#include "fw/worker.h"
#include "lib/name.h"

#define TEXT_MAX (FW_NAMED_MAX * (PK_NAME_PATTERN_MAX + 4) + 1)

/* The patterns an address is known by, as far as policy has them still, and for how long the last of them. */
static uint64_t
patterns(const struct fw_names_entry *e, const struct fw_rules *rules, char text[TEXT_MAX])
{
	uint64_t until_ns = 0;
	size_t at = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < e->nb; i++) {
		const char *pattern = fw_rules_pattern(rules, e->in[i].pattern);

		if (pattern == NULL)
			continue;
		at += (size_t)snprintf(
		    text + at, TEXT_MAX - at, "%s\"%s\"", at > 0 ? "," : "", pattern);
		until_ns = PK_MAX(until_ns, e->in[i].until_ns);
	}
	return until_ns;
}

void
fw_show_names(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct fw_show *s = arg;
	struct fw_names *names = fw_path_names(fw_workers_path(s->conf.workers, 0));
	const struct fw_rules *rules = fw_workers_rules(s->conf.workers);
	uint64_t limit = 1000, now_ns = fw_workers_now_ns();
	struct fw_names_entry e;

	if (argc == 2 && strcmp(argv[0], "limit") == 0)
		limit = strtoull(argv[1], NULL, 10);
	if (argc != 0 && (argc != 2 || limit == 0)) {
		pk_control_refuse(r, "%s %.32s: want nothing, or a limit above 0", argv[0],
		    argc > 1 ? argv[1] : "");
		return;
	}
	for (uint32_t at = 0; names != NULL && limit > 0 && fw_names_next(names, &at, &e); at++) {
		char text[TEXT_MAX], addr[PK_ADDR_TEXT], asker[PK_ADDR_TEXT + 2] = "null";
		uint64_t until_ns = patterns(&e, rules, text);

		if (until_ns == 0)
			continue;
		if (e.asker.family != 0)
			snprintf(asker, sizeof(asker), "\"%s\"", pk_addr_text(&e.asker, addr));
		pk_control_rowf(r,
		    "{\"address\":\"%s\",\"vrf\":%" PRIu32
		    ",\"names\":[%s],\"asker\":%s,\"lasts_s\":%" PRIu64 "}",
		    pk_addr_text(&e.addr, addr), e.vrf, text, asker,
		    until_ns > now_ns ? (until_ns - now_ns) / PK_NS_PER_S : 0);
		limit--;
	}
	pk_control_done(r);
}
