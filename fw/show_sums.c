#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "fw/show_priv.h"

/*
 * Sums over all sessions that there are: who talks most, and what each tenant holds.  They are made when
 * somebody asks, from a walk that no lcore notices, and cost the packet path nothing.
 */
#define TALKERS_MAX (1 << 20) /* addresses remembered; the rest goes into one row */

struct talker {
	struct {
		struct pk_addr addr;
		uint32_t vrf;
	} key;
	uint64_t sessions, packets, bytes;
	UT_hash_handle hh;
};

struct top {
	struct fw_show_walk walk;
	struct talker *talkers, others;
	uint32_t nb;
	uint64_t limit;
	char by;
};

static void
top_each(struct fw_show_walk *w, const struct fw_session_info *i)
{
	struct top *t = (struct top *)w;
	struct talker key, *k;

	memset(&key, 0, sizeof(key));
	key.key.addr = i->direction == PK_EGRESS ? i->src : i->dst;
	key.key.vrf = i->vrf;
	HASH_FIND(hh, t->talkers, &key.key, sizeof(key.key), k);
	if (k == NULL && t->nb < TALKERS_MAX && (k = calloc(1, sizeof(*k))) != NULL) {
		k->key = key.key;
		HASH_ADD(hh, t->talkers, key, sizeof(k->key), k);
		t->nb++;
	}
	if (k == NULL)
		k = &t->others;
	k->sessions++;
	k->packets += i->packets[0] + i->packets[1];
	k->bytes += i->bytes[0] + i->bytes[1];
}

static char sort_by; /* qsort() takes no argument; there is one thread */

static uint64_t
weight(const struct talker *t)
{
	return sort_by == 'p' ? t->packets : sort_by == 's' ? t->sessions : t->bytes;
}

static int
heavier(const struct talker *a, const struct talker *b)
{
	uint64_t x = weight(a), y = weight(b);

	return x > y ? -1 : x < y;
}

static bool
top_turn(struct fw_show_walk *w)
{
	struct top *t = (struct top *)w;
	const struct fw_rules *rules = fw_workers_rules(w->show->conf.workers);
	uint64_t n = 0;

	if (!w->walked)
		return false;
	sort_by = t->by;
	HASH_SORT(t->talkers, heavier);
	for (const struct talker *k = t->talkers; k != NULL && n < t->limit; k = k->hh.next, n++) {
		const struct fw_endpoint *e =
		    rules != NULL ? fw_rules_endpoint(rules, k->key.vrf, &k->key.addr) : NULL;
		char addr[PK_ADDR_TEXT], name[2 * PK_NAME_MAX];

		pk_control_rowf(w->request,
		    "{\"address\":\"%s\",\"vrf\":%u,\"workload\":%s,\"sessions\":%" PRIu64
		    ",\"packets\":%" PRIu64 ",\"bytes\":%" PRIu64 "}",
		    pk_addr_text(&k->key.addr, addr), k->key.vrf,
		    pk_json_string(e != NULL ? e->name : "", name, sizeof(name)), k->sessions,
		    k->packets, k->bytes);
	}
	if (t->others.sessions > 0)
		pk_control_rowf(w->request,
		    "{\"address\":\"others\",\"vrf\":0,\"workload\":\"\",\"sessions\":%" PRIu64
		    ",\"packets\":%" PRIu64 ",\"bytes\":%" PRIu64 "}",
		    t->others.sessions, t->others.packets, t->others.bytes);
	pk_control_done(w->request);
	return true;
}

static void
top_fini(struct fw_show_walk *w)
{
	struct top *t = (struct top *)w;
	struct talker *k, *next;

	HASH_ITER(hh, t->talkers, k, next)
	{
		HASH_DEL(t->talkers, k);
		free(k);
	}
}

void
fw_show_top(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct top *t = calloc(1, sizeof(*t));
	struct pk_diag diag;

	PK_ASSERT(t != NULL);
	t->walk.each = top_each;
	t->walk.turn = top_turn;
	t->walk.fini = top_fini;
	t->limit = 10;
	t->by = 'b';
	while (argc >= 2 && (strcmp(argv[0], "by") == 0 || strcmp(argv[0], "limit") == 0)) {
		if (argv[0][0] == 'l')
			t->limit = strtoull(argv[1], NULL, 10);
		else if (strcmp(argv[1], "bytes") == 0 || strcmp(argv[1], "packets") == 0 ||
		    strcmp(argv[1], "sessions") == 0)
			t->by = argv[1][0];
		else
			t->limit = 0;
		if (t->limit == 0) {
			pk_control_refuse(r,
			    "%s %.32s: want by bytes, packets or sessions, and a limit above 0",
			    argv[0], argv[1]);
			free(t);
			return;
		}
		argc -= 2;
		argv += 2;
	}
	if (fw_filter_parse(&t->walk.filter, FW_FILTER_SESSIONS, argc, argv, &diag) < 0) {
		pk_control_refuse(r, "%s", diag.text);
		free(t);
		return;
	}
	fw_show_walk_start(&t->walk, arg, r);
}

/* ---- show tenants ---- */

enum {
	TCP,
	UDP,
	ICMP,
	OTHER,
	PROTOS
};

struct tenant {
	char name[PK_NAME_MAX];
	uint64_t sessions, half_open, proto[PROTOS], packets, bytes;
	UT_hash_handle hh;
};

struct tenants {
	struct fw_show_walk walk;
	struct tenant *tenants;
};

static void
tenants_each(struct fw_show_walk *w, const struct fw_session_info *i)
{
	struct tenants *t = (struct tenants *)w;
	const struct fw_rules *rules = fw_workers_rules(w->show->conf.workers);
	const struct fw_endpoint *e = rules == NULL
	    ? NULL
	    : fw_rules_endpoint(rules, i->vrf, i->direction == PK_EGRESS ? &i->src : &i->dst);
	const char *name = e != NULL ? fw_rules_tenant_name(rules, e->identity) : "";
	struct tenant *k;

	HASH_FIND_STR(t->tenants, name, k);
	if (k == NULL) {
		k = calloc(1, sizeof(*k));
		PK_ASSERT(k != NULL);
		snprintf(k->name, sizeof(k->name), "%s", name);
		HASH_ADD_STR(t->tenants, name, k);
	}
	k->sessions++;
	k->half_open += strncmp(i->state, "syn-", 4) == 0 || strcmp(i->state, "udp-new") == 0;
	k->proto[i->proto == IPPROTO_TCP                                 ? TCP
	        : i->proto == IPPROTO_UDP                                ? UDP
	        : i->proto == IPPROTO_ICMP || i->proto == IPPROTO_ICMPV6 ? ICMP
	                                                                 : OTHER]++;
	k->packets += i->packets[0] + i->packets[1];
	k->bytes += i->bytes[0] + i->bytes[1];
}

static bool
tenants_turn(struct fw_show_walk *w)
{
	const struct tenants *t = (const struct tenants *)w;

	if (!w->walked)
		return false;
	for (const struct tenant *k = t->tenants; k != NULL; k = k->hh.next) {
		char name[2 * PK_NAME_MAX];

		pk_control_rowf(w->request,
		    "{\"tenant\":%s,\"sessions\":%" PRIu64 ",\"half_open\":%" PRIu64
		    ",\"tcp\":%" PRIu64 ",\"udp\":%" PRIu64 ",\"icmp\":%" PRIu64
		    ",\"other\":%" PRIu64 ",\"packets\":%" PRIu64 ",\"bytes\":%" PRIu64 "}",
		    pk_json_string(k->name, name, sizeof(name)), k->sessions, k->half_open,
		    k->proto[TCP], k->proto[UDP], k->proto[ICMP], k->proto[OTHER], k->packets,
		    k->bytes);
	}
	pk_control_done(w->request);
	return true;
}

static void
tenants_fini(struct fw_show_walk *w)
{
	struct tenants *t = (struct tenants *)w;
	struct tenant *k, *next;

	HASH_ITER(hh, t->tenants, k, next)
	{
		HASH_DEL(t->tenants, k);
		free(k);
	}
}

void
fw_show_tenants(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct tenants *t = calloc(1, sizeof(*t));
	struct pk_diag diag;

	PK_ASSERT(t != NULL);
	t->walk.each = tenants_each;
	t->walk.turn = tenants_turn;
	t->walk.fini = tenants_fini;
	if (fw_filter_parse(&t->walk.filter, FW_FILTER_SESSIONS, argc, argv, &diag) < 0) {
		pk_control_refuse(r, "%s", diag.text);
		free(t);
		return;
	}
	fw_show_walk_start(&t->walk, arg, r);
}
