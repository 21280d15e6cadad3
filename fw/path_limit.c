#include <netinet/in.h>

#include "fw/path_priv.h"

/*
 * Limits: whose sessions they are, and how many each may have.
 *
 *      workload   the inside address, whoever began the session
 *      tenant     of that workload, as policy says.  A workload's sessions are counted for the tenant that it had
 *                 when the last of them was asked for; if policy moves it, they move along
 *      source     the outside address, of sessions that it began.  Anybody can invent those, so when there is no
 *                 room to count one more it goes uncounted, and is bound by the workload's limit alone
 *
 * A rate is a token bucket of one second.  It is forgotten with the last session counted beside it; none ends
 * sooner than that but by eviction, when nobody's rate is the question any more.
 */

static const uint8_t reasons[FW_OWNER_COUNT][3] = {
	[FW_OWNER_WORKLOAD] = { FW_DROP_LIMIT_SESSIONS, FW_DROP_LIMIT_HALF_OPEN,
	    FW_DROP_LIMIT_RATE },
	[FW_OWNER_TENANT] = { FW_DROP_TENANT_SESSIONS, FW_DROP_TENANT_HALF_OPEN,
	    FW_DROP_TENANT_RATE },
	[FW_OWNER_SOURCE] = { FW_DROP_SOURCE_SESSIONS, FW_DROP_SOURCE_HALF_OPEN,
	    FW_DROP_SOURCE_RATE },
};

/* Whom session i is counted for. */
static void
owners(const struct fw_path *p, uint32_t i, struct pk_addr *inside, struct pk_addr *source)
{
	const struct fw_session *s = &p->sessions.hot[i];
	struct pk_addr src, dst;
	uint16_t sport, dport;

	fw_session_names(s, &p->sessions.cold[i], &src, &dst, &sport, &dport);
	*inside = fw_session_origin(s) == FW_INSIDE ? src : dst;
	*source = src;
	if (fw_session_origin(s) == FW_INSIDE)
		source->family = 0; /* nobody outside has begun it */
}

/* Tenants are kept as if their numbers were addresses. */
static struct pk_addr
tenant_addr(uint32_t tenant)
{
	struct pk_addr a = { .family = 0 };

	memcpy(a.bytes, &tenant, sizeof(tenant));
	return a;
}

static struct fw_host *
tenant_find(const struct fw_path *p, uint32_t tenant)
{
	struct pk_addr a = tenant_addr(tenant);

	return fw_hosts_find(&p->tenants, 0, 0, &a);
}

bool
fw_session_half_open(unsigned int state)
{
	return (state >= FW_STATE_SYN_SENT && state <= FW_STATE_SYN_RECV) ||
	    state == FW_STATE_UDP_NEW;
}

uint32_t
fw_limit_tenant(const struct fw_rules *rules, uint32_t vrf, const struct pk_addr *inside)
{
	struct fw_party party;

	if (rules == NULL)
		return FW_TENANT_UNKNOWN;
	fw_rules_party(rules, vrf, inside, false, &party); /* the tenant is the same in either posture */
	return fw_rules_tenant(rules, party.identity);
}

/* `begins`: the session is new here, and half open if its packet says so. */
static enum fw_drop
ask(const struct fw_path *p, enum fw_owner owner, const struct fw_host *h, bool half_open,
    bool begins, uint64_t now_ns)
{
	const struct fw_limits *l = &p->conf.limit[owner];

	if (h == NULL)
		return FW_DROP_NONE;
	if (l->sessions != 0 && h->held[FW_HELD_SESSIONS] >= l->sessions)
		return (enum fw_drop)reasons[owner][0];
	if (half_open && l->half_open != 0 && h->held[FW_HELD_HALF_OPEN] >= l->half_open)
		return (enum fw_drop)reasons[owner][1];
	if (begins && l->rate != 0 && !fw_limit_has(&h->rate, now_ns, l->rate, l->rate))
		return (enum fw_drop)reasons[owner][2];
	return FW_DROP_NONE;
}

enum fw_drop
fw_limits_allow(const struct fw_path *p, const struct fw_pkt *pk, const struct pk_addr *inside,
    const struct pk_addr *source, uint32_t tenant, bool begins, uint64_t now_ns)
{
	const struct fw_host *h = fw_hosts_find(&p->hosts, pk->key.wire, pk->key.vrf, inside);
	const struct fw_host *t = tenant_find(p, tenant);
	bool half_open = pk->l4_proto == IPPROTO_UDP ||
	    (pk->l4_proto == IPPROTO_TCP && (pk->tcp_flags & FW_TCP_SYN) != 0);
	enum fw_drop why;

	if ((h == NULL && p->hosts.nb == p->hosts.capacity) ||
	    (t == NULL && p->tenants.nb == p->tenants.capacity))
		return FW_DROP_LIMIT_SESSIONS;
	why = ask(p, FW_OWNER_WORKLOAD, h, half_open, begins, now_ns);
	if (why == FW_DROP_NONE)
		why = ask(p, FW_OWNER_TENANT, t, half_open, begins, now_ns);
	if (why == FW_DROP_NONE && source != NULL)
		why = ask(p, FW_OWNER_SOURCE,
		    fw_hosts_find(&p->sources, pk->key.wire, pk->key.vrf, source), half_open,
		    begins, now_ns);
	return why;
}

/* Count the sessions of workload `h` for `tenant`. */
static struct fw_host *
bind_tenant(struct fw_path *p, struct fw_host *h, uint32_t tenant)
{
	struct pk_addr a = tenant_addr(tenant);
	struct fw_host *t = fw_hosts_get(&p->tenants, 0, 0, &a);

	if (h->held[FW_HELD_SESSIONS] != 0 && h->tenant != tenant && t != NULL) {
		struct fw_host *was = tenant_find(p, h->tenant);

		PK_ASSERT(was != NULL);
		for (unsigned int k = FW_HELD_SESSIONS; k <= FW_HELD_HALF_OPEN; k++)
			t->held[k] += h->held[k];
		fw_hosts_take(&p->tenants, was, FW_HELD_HALF_OPEN, h->held[FW_HELD_HALF_OPEN]);
		fw_hosts_take(&p->tenants, was, FW_HELD_SESSIONS, h->held[FW_HELD_SESSIONS]);
	}
	if (t != NULL)
		h->tenant = tenant;
	return t;
}

static void
count_up(struct fw_host *h, uint32_t rate, bool half_open, uint64_t now_ns)
{
	if (h == NULL)
		return;
	h->held[FW_HELD_SESSIONS]++;
	h->held[FW_HELD_HALF_OPEN] += half_open;
	if (rate != 0 && now_ns != 0)
		(void)fw_limit_take(&h->rate, now_ns, rate, rate);
}

void
fw_limits_add(struct fw_path *p, uint32_t i, uint32_t tenant, uint64_t now_ns)
{
	const struct fw_session *s = &p->sessions.hot[i];
	bool half_open = fw_session_half_open(s->state);
	struct pk_addr inside, source;
	struct fw_host *h, *t;

	owners(p, i, &inside, &source);
	h = fw_hosts_get(&p->hosts, s->key.wire, s->key.vrf, &inside);
	PK_ASSERT(h != NULL); /* fw_limits_allow() has seen to it */
	t = bind_tenant(p, h, tenant);
	PK_ASSERT(t != NULL);
	count_up(h, p->conf.limit[FW_OWNER_WORKLOAD].rate, half_open, now_ns);
	count_up(t, p->conf.limit[FW_OWNER_TENANT].rate, half_open, now_ns);
	if (source.family != 0)
		count_up(fw_hosts_get(&p->sources, s->key.wire, s->key.vrf, &source),
		    p->conf.limit[FW_OWNER_SOURCE].rate, half_open, now_ns);
}

bool
fw_limits_room(const struct fw_path *p, uint32_t i, uint32_t tenant)
{
	const struct fw_key *k = &p->sessions.hot[i].key;
	struct pk_addr inside, source;

	owners(p, i, &inside, &source);
	return (p->hosts.nb < p->hosts.capacity ||
	           fw_hosts_find(&p->hosts, k->wire, k->vrf, &inside) != NULL) &&
	    (p->tenants.nb < p->tenants.capacity || tenant_find(p, tenant) != NULL);
}

static void
count_down(struct fw_hosts *t, struct fw_host *h, bool half_open, bool whole)
{
	/* Not the whole first: the entry goes with its last count. */
	if (half_open)
		fw_hosts_take(t, h, FW_HELD_HALF_OPEN, 1);
	if (whole)
		fw_hosts_take(t, h, FW_HELD_SESSIONS, 1);
}

void
fw_limits_drop(struct fw_path *p, uint32_t i, bool half_open, bool whole)
{
	const struct fw_key *k = &p->sessions.hot[i].key;
	struct pk_addr inside, source;
	struct fw_host *h, *t;

	owners(p, i, &inside, &source);
	h = fw_hosts_find(&p->hosts, k->wire, k->vrf, &inside);
	PK_ASSERT(h != NULL);
	t = tenant_find(p, h->tenant);
	PK_ASSERT(t != NULL);
	count_down(&p->tenants, t, half_open, whole);
	count_down(&p->hosts, h, half_open, whole);
	if (source.family == 0)
		return;
	/* One that was not counted may now share an entry with one that was. */
	h = fw_hosts_find(&p->sources, k->wire, k->vrf, &source);
	if (h != NULL)
		count_down(&p->sources, h, half_open && h->held[FW_HELD_HALF_OPEN] != 0, whole);
}
