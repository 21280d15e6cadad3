#include "fw/filter.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *
fw_proto_name(uint8_t proto, char buf[8])
{
	switch (proto) {
	case IPPROTO_TCP:
		return "tcp";
	case IPPROTO_UDP:
		return "udp";
	case IPPROTO_ICMP:
		return "icmp";
	case IPPROTO_ICMPV6:
		return "icmp6";
	case IPPROTO_SCTP:
		return "sctp";
	default:
		snprintf(buf, 8, "%u", proto);
		return buf;
	}
}

static int
parse_proto(const char *text)
{
	char buf[8];

	for (unsigned int p = 0; p < 256; p++)
		if (strcmp(fw_proto_name((uint8_t)p, buf), text) == 0)
			return (int)p;
	return -1;
}

static int64_t
parse_number(const char *text, int64_t max)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);

	return *text < '0' || *text > '9' || *end != '\0' || n > (unsigned long long)max
	    ? -1
	    : (int64_t)n;
}

/* "90", "90s", "5m", "2h", "1d". */
static int
parse_span(const char *text, uint64_t *ns)
{
	static const struct {
		const char *unit;
		uint64_t ns;
	} units[] = { { "", PK_NS_PER_S }, { "s", PK_NS_PER_S }, { "ms", PK_NS_PER_MS },
		{ "m", 60 * PK_NS_PER_S }, { "h", 3600 * PK_NS_PER_S },
		{ "d", 86400 * PK_NS_PER_S } };
	char *end;
	unsigned long long n = strtoull(text, &end, 10);

	if (*text < '0' || *text > '9' || n > 1000000)
		return -EINVAL;
	for (size_t i = 0; i < PK_COUNT(units); i++) {
		if (strcmp(end, units[i].unit) != 0)
			continue;
		*ns = n * units[i].ns;
		return 0;
	}
	return -EINVAL;
}

enum kind {
	WORD, /* no value */
	PREFIX,
	NUMBER, /* int, up to `max` */
	TEXT,   /* char[max] */
	SPAN,
	OWN, /* parse_own() */
};

static const struct word {
	const char *name;
	enum kind kind;
	size_t offset;
	int64_t max;
	bool sessions_only;
} words[] = {
	{ "all", WORD, 0, 0, false },
	{ "drops", WORD, 0, 0, false },
	{ "src", PREFIX, offsetof(struct fw_filter, src), 0, false },
	{ "dst", PREFIX, offsetof(struct fw_filter, dst), 0, false },
	{ "host", PREFIX, offsetof(struct fw_filter, any), 0, false },
	{ "sport", NUMBER, offsetof(struct fw_filter, sport), UINT16_MAX, false },
	{ "dport", NUMBER, offsetof(struct fw_filter, dport), UINT16_MAX, false },
	{ "port", NUMBER, offsetof(struct fw_filter, port), UINT16_MAX, false },
	{ "wire", NUMBER, offsetof(struct fw_filter, wire), UINT16_MAX, false },
	{ "proto", OWN, 0, 0, false },
	{ "direction", OWN, 0, 0, true },
	{ "vrf", OWN, 0, 0, true },
	{ "workload", OWN, 0, 0, true },
	{ "rule", OWN, 0, 0, true },
	{ "state", TEXT, offsetof(struct fw_filter, state), 32, true },
	{ "app", OWN, 0, 0, true },
	{ "tenant", TEXT, offsetof(struct fw_filter, tenant), 128, true },
	{ "older", SPAN, offsetof(struct fw_filter, older_ns), 0, true },
	{ "idle", SPAN, offsetof(struct fw_filter, idle_ns), 0, true },
};

static int
parse_own(struct fw_filter *f, const char *word, const char *value, struct pk_diag *diag)
{
	const char *slash = strchr(value, '/');

	if (strcmp(word, "proto") == 0) {
		f->proto = parse_proto(value);
		if (f->proto >= 0)
			return 0;
		pk_diag_set(
		    diag, "proto %.32s: want tcp, udp, icmp, icmp6, sctp or a number", value);
	} else if (strcmp(word, "direction") == 0) {
		f->direction = strcmp(value, "egress") == 0 ? PK_EGRESS
		    : strcmp(value, "ingress") == 0         ? PK_INGRESS
		                                            : -1;
		if (f->direction >= 0)
			return 0;
		pk_diag_set(diag, "direction %.32s: want egress or ingress", value);
	} else if (strcmp(word, "app") == 0) {
		for (unsigned int a = 0; a < FW_APPS; a++) {
			if (strcmp(fw_app_name((uint8_t)a), value) != 0)
				continue;
			snprintf(f->app, sizeof(f->app), "%s", value);
			return 0;
		}
		pk_diag_set(diag,
		    "app %.32s: want an application such as tls, unknown, looking or none", value);
	} else if (strcmp(word, "vrf") == 0) {
		f->vrf = parse_number(value, UINT32_MAX);
		if (f->vrf >= 0)
			return 0;
		pk_diag_set(diag, "vrf %.32s: want a number", value);
	} else if (strcmp(word, "workload") == 0) {
		struct pk_diag ignored;

		if (pk_addr_parse(&f->inside, value, &ignored) == 0)
			return 0;
		if (slash != NULL) {
			snprintf(f->workload, sizeof(f->workload), "%s", value);
			return 0;
		}
		pk_diag_set(diag, "workload %.64s: want TENANT/NAME, or an address", value);
	} else {
		snprintf(f->policy, sizeof(f->policy), "%.*s",
		    (int)(slash != NULL ? (size_t)(slash - value) : strlen(value)), value);
		if (slash != NULL)
			snprintf(f->rule, sizeof(f->rule), "%s", slash + 1);
		return 0;
	}
	return -EINVAL;
}

static int
parse_value(struct fw_filter *f, const struct word *w, const char *value, struct pk_diag *diag)
{
	void *to = (char *)f + w->offset;

	switch (w->kind) {
	case PREFIX:
		return pk_prefix_parse(to, value, diag);
	case NUMBER: {
		int64_t n = parse_number(value, w->max);

		memcpy(to, &(int){ (int)n }, sizeof(int));
		if (n >= 0)
			return 0;
		pk_diag_set(diag, "%s %.32s: want a number up to %d", w->name, value, (int)w->max);
		return -EINVAL;
	}
	case TEXT:
		snprintf(to, (size_t)w->max, "%s", value);
		return 0;
	case SPAN:
		if (parse_span(value, to) == 0)
			return 0;
		pk_diag_set(diag, "%s %.32s: want a span such as 90s, 5m or 2h", w->name, value);
		return -EINVAL;
	default:
		return parse_own(f, w->name, value, diag);
	}
}

int
fw_filter_parse(
    struct fw_filter *f, enum fw_filter_use use, int n, char **said, struct pk_diag *diag)
{
	const char *names[PK_COUNT(words)];
	size_t nb_names = 0;

	*f = (struct fw_filter){ .proto = -1,
		.sport = -1,
		.dport = -1,
		.port = -1,
		.wire = -1,
		.direction = -1,
		.vrf = -1,
		.is_empty = n == 0 };
	for (size_t k = 0; k < PK_COUNT(words); k++)
		if (use == FW_FILTER_SESSIONS ? strcmp(words[k].name, "drops") != 0
		                              : !words[k].sessions_only)
			names[nb_names++] = words[k].name;
	for (int i = 0; i < n; i++) {
		const struct word *w = NULL;
		const char *near;

		for (size_t k = 0; k < PK_COUNT(words); k++)
			if (strcmp(words[k].name, said[i]) == 0)
				w = &words[k];
		if (w == NULL || (use == FW_FILTER_PACKETS && w->sessions_only) ||
		    (use == FW_FILTER_SESSIONS && strcmp(w->name, "drops") == 0)) {
			near = w == NULL ? pk_suggest(said[i], names, nb_names) : NULL;
			pk_diag_set(diag, "\"%.32s\" is no filter%s; %s%s", said[i],
			    w == NULL                      ? ""
			        : use == FW_FILTER_PACKETS ? " for packets"
			                                   : " for sessions",
			    near != NULL ? "did you mean "
			        : use == FW_FILTER_PACKETS
			        ? "there are src, dst, host, proto, sport, dport, port, wire, drops"
			        : "there are src, dst, host, proto, sport, dport, port, wire, vrf, "
			          "direction, state, app, tenant, workload, rule, older, idle",
			    near != NULL ? near : "");
			return -EINVAL;
		}
		if (w->kind == WORD) {
			f->drops_only |= strcmp(w->name, "drops") == 0;
			continue;
		}
		if (i + 1 == n) {
			pk_diag_set(diag, "%s wants a value", w->name);
			return -EINVAL;
		}
		if (parse_value(f, w, said[++i], diag) < 0)
			return -EINVAL;
	}
	return 0;
}

static bool
in(const struct pk_prefix *p, const struct pk_addr *a)
{
	return p->addr.family == 0 || pk_prefix_contains(p, a);
}

static bool
match(const struct fw_filter *f, const struct pk_addr *src, const struct pk_addr *dst,
    uint8_t proto, uint16_t sport, uint16_t dport, uint16_t wire)
{
	return (f->proto < 0 || f->proto == proto) && (f->sport < 0 || f->sport == sport) &&
	    (f->dport < 0 || f->dport == dport) &&
	    (f->port < 0 || f->port == sport || f->port == dport) &&
	    (f->wire < 0 || f->wire == wire) && in(&f->src, src) && in(&f->dst, dst) &&
	    (in(&f->any, src) || in(&f->any, dst));
}

bool
fw_filter_packet(const struct fw_filter *f, const struct fw_trace_record *t)
{
	return match(f, &t->src, &t->dst, t->proto, t->sport, t->dport, t->wire) &&
	    (!f->drops_only || t->drop != 0);
}

/* What needs the names of the policy in force. */
static bool
match_names(
    const struct fw_filter *f, const struct fw_rules *rules, const struct fw_session_info *i)
{
	const struct pk_addr *inside = i->direction == PK_EGRESS ? &i->src : &i->dst;
	const struct fw_endpoint *e;

	if (rules == NULL)
		return false;
	if (f->policy[0] != '\0') {
		struct fw_rule_info info;

		if (!fw_rules_info_by_id(rules, i->rule_id, &info) ||
		    strcmp(info.policy, f->policy) != 0 ||
		    (f->rule[0] != '\0' && strcmp(info.name, f->rule) != 0))
			return false;
	}
	if (f->tenant[0] == '\0' && f->workload[0] == '\0')
		return true;
	e = fw_rules_endpoint(rules, i->vrf, inside);
	if (e == NULL || (f->workload[0] != '\0' && strcmp(e->name, f->workload) != 0))
		return false;
	return f->tenant[0] == '\0' ||
	    strcmp(fw_rules_tenant_name(rules, e->identity), f->tenant) == 0;
}

bool
fw_filter_session(
    const struct fw_filter *f, const struct fw_rules *rules, const struct fw_session_info *i)
{
	if (!match(f, &i->src, &i->dst, i->proto, i->sport, i->dport, i->wire) ||
	    (f->direction >= 0 && f->direction != i->direction) ||
	    (f->vrf >= 0 && f->vrf != i->vrf) || i->age_ns < f->older_ns ||
	    i->idle_ns < f->idle_ns || (f->state[0] != '\0' && strcmp(f->state, i->state) != 0) ||
	    (f->app[0] != '\0' && strcmp(f->app, fw_app_name(i->app)) != 0))
		return false;
	if (f->inside.family != 0 &&
	    pk_addr_compare(&f->inside, i->direction == PK_EGRESS ? &i->src : &i->dst) != 0)
		return false;
	if (f->tenant[0] == '\0' && f->workload[0] == '\0' && f->policy[0] == '\0')
		return true;
	return match_names(f, rules, i);
}
