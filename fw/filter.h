#pragma once

#include "fw/path.h"
#include "lib/addr.h"
#include "lib/diag.h"

/*
 * Which sessions or packets somebody means, in words:
 *
 *      src|dst|host PREFIX   proto P   sport|dport|port N   wire N   vrf N   direction egress|ingress
 *      state S   tenant T   workload T/W|ADDRESS   rule POLICY[/NAME]   older|idle DURATION   drops   all
 *
 * All of them have to be true.  A session has all of that; of a packet the words of the last line are not
 * known, except `drops`, and a filter with them is refused where packets are meant.
 */
struct fw_filter {
	struct pk_prefix src, dst, any;                 /* family 0: any */
	struct pk_addr inside;                          /* of the workload, family 0: any */
	int proto, sport, dport, port, wire, direction; /* -1: any */
	int64_t vrf;                                    /* -1: any */
	char state[32], tenant[128], workload[160], policy[160], rule[128]; /* "": any */
	uint64_t older_ns, idle_ns;
	bool drops_only;
	bool is_empty; /* nobody said anything, not even `all` */
};

enum fw_filter_use {
	FW_FILTER_SESSIONS,
	FW_FILTER_PACKETS,
};

/* Read words[0 .. n - 1].  Returns 0, or -EINVAL with *diag. */
int fw_filter_parse(
    struct fw_filter *f, enum fw_filter_use use, int n, char **words, struct pk_diag *diag);

/* `rules`: those in force, for names; NULL: nothing has a name.  Context: control thread. */
bool fw_filter_session(
    const struct fw_filter *f, const struct fw_rules *rules, const struct fw_session_info *i);
bool fw_filter_packet(const struct fw_filter *f, const struct fw_trace_record *t);

/* "tcp", or the number.  Returns a constant or buf. */
const char *fw_proto_name(uint8_t proto, char buf[8]);
