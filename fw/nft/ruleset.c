#include "fw/nft/ruleset.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fw/nft/ruleset_priv.h"

const char *
nft_drop_name(unsigned int drop)
{
	static const char *const names[] = { "none",
#define NAME(name, text, help) text,
		NFT_DROPS(NAME)
#undef NAME
	};

	return drop < NFT_DROP_COUNT ? names[drop] : "unknown";
}

const char *
nft_drop_help(unsigned int drop)
{
	static const char *const helps[] = { "",
#define HELP(name, text, help) help,
		NFT_DROPS(HELP)
#undef HELP
	};

	return drop < NFT_DROP_COUNT ? helps[drop] : "";
}

enum nft_drop
nft_terms_missing(const struct pk_rule_terms *t)
{
	if (t->encryption != PK_ENCRYPTION_NONE)
		return NFT_DROP_ENCRYPTION_MISSING;
	if (t->inspect != PK_INSPECT_NONE && !t->fail_open)
		return NFT_DROP_INSPECT_MISSING;
	if (t->sessions_per_s != 0 || t->bytes_per_s != 0 || t->packets_per_s != 0 || t->dscp != 0)
		return NFT_DROP_TERMS_MISSING;
	return NFT_DROP_NONE;
}

void
nft_begin(struct nft_making *m, struct nft_code *c, const char *chain)
{
	nft_code_begin(c, m->conf->table, chain);
}

void
nft_end(struct nft_making *m, struct nft_code *c, enum nft_table table, const struct nft_hook *hook)
{
	nft_plan_chain(m->plan, table, c, hook);
}

void
nft_refuse(struct nft_code *c, enum nft_drop why)
{
	nft_count(c, nft_drop_name(why));
	nft_drop(c);
	nft_rule_end(c);
}

/* ---- who is where ---- */

/* At out[0 .. ], the number before the address as in `concat` of nftables. */
static uint32_t
key_of(uint32_t number, const struct pk_addr *a, uint8_t out[NFT_KEY_LEN])
{
	uint32_t len = a->family == 4 ? 4 : 16;

	memset(out, 0, NFT_KEY_LEN);
	memcpy(out, &number, sizeof(number));
	memcpy(out + sizeof(number), a->bytes, len);
	return (uint32_t)sizeof(number) + len;
}

static void
each_endpoint(void *arg, const struct fw_view_endpoint *e)
{
	struct nft_making *m = arg;
	unsigned int f = e->addr.family == 6;
	uint8_t key[NFT_KEY_LEN];
	uint32_t len;

	if (e->vrf > NFT_VRF_MAX)
		return; /* no frame on our wires is of that address space */
	len = key_of(e->vrf, &e->addr, key);
	nft_plan_element(m->plan, m->identity[f], key, len)->number =
	    m->attested ? e->is.identity : e->is.unattested;
	if (!e->is.local || e->is.wire >= m->conf->nb_wires)
		return;
	m->vrfs[e->vrf / 8] |= (uint8_t)(1 << e->vrf % 8);
	len = key_of(nft_mark(e->is.wire, false, e->vrf), &e->addr, key);
	(void)nft_plan_element(m->plan, m->judge_local[f], key, len);
	(void)nft_plan_element(m->plan, m->guard_local[f], key, len);
	if (!e->is.has_mac) {
		(void)nft_plan_element(m->plan, m->guard_bare[f], key, len);
	} else {
		memcpy(key + len, e->is.mac, sizeof(e->is.mac));
		(void)nft_plan_element(m->plan, m->guard_mac[f], key, len + 8);
	}
	len = key_of(nft_mark(e->is.wire, true, e->vrf), &e->addr, key);
	(void)nft_plan_element(m->plan, m->guard_local[f], key, len);
}

static void
each_identity(void *arg, const struct fw_view_identity *i)
{
	struct nft_making *m = arg;

	if (i->identity > NFT_IDENTITY_MAX && m->rc == 0) {
		pk_diag_set(m->diag, "identity %u: this data plane has numbers up to %u",
		    i->identity, NFT_IDENTITY_MAX);
		m->rc = -ERANGE;
	}
	for (unsigned int d = 0; d < PK_DIRECTION_COUNT; d++) {
		struct nft_element *e;

		if (i->program[d] == 0)
			continue;
		e = nft_plan_element(m->plan, m->subject[d], &i->identity, sizeof(i->identity));
		nft_program_name(i->program[d], e->chain);
	}
	if (m->tenant != NULL)
		nft_plan_element(m->plan, m->tenant, &i->identity, sizeof(i->identity))->number =
		    i->tenant;
}

/* ---- sets of peers ---- */

struct range {
	uint8_t first[16], last[16];
};

static int
range_compare(const void *a, const void *b)
{
	return memcmp(((const struct range *)a)->first, ((const struct range *)b)->first, 16);
}

/* Whether `first` is at most one behind `last`, as numbers of `len` bytes. */
static bool
touches(const uint8_t *last, const uint8_t *first, uint32_t len)
{
	uint8_t next[16];

	if (memcmp(first, last, len) <= 0)
		return true;
	memcpy(next, last, sizeof(next));
	for (uint32_t i = len; i-- > 0;)
		if (++next[i] != 0)
			break;
	return memcmp(first, next, len) == 0;
}

/* The union of the prefixes of one family, as ranges that neither overlap nor touch. */
static void
make_ranges(struct nft_making *m, const struct fw_view_set *v, unsigned int f)
{
	uint32_t len = f == 0 ? 4 : 16, n = 0, to = 0;
	struct range *range = calloc(v->nb + 1, sizeof(*range));
	char name[NFT_NAME_LEN];
	struct nft_set *set;

	snprintf(name, sizeof(name), "s%016" PRIx64 "-%u", v->set, f == 0 ? 4 : 6);
	set = nft_plan_set(m->plan, NFT_TABLE_INET, name, NFT_SET_RANGES, NFT_SET_KEYS,
	    f == 0 ? NFT_TYPE_IPV4 : NFT_TYPE_IPV6, len);
	if (range == NULL || set == NULL) {
		m->plan->failed = true;
		free(range);
		return;
	}
	for (uint32_t i = 0; i < v->nb; i++) {
		const struct pk_prefix *p = fw_view_member(v, i);

		if (p == NULL || p->addr.family != (f == 0 ? 4 : 6))
			continue;
		memcpy(range[n].first, p->addr.bytes, len);
		memcpy(range[n].last, p->addr.bytes, len);
		for (uint32_t bit = p->len; bit < 8 * len; bit++)
			range[n].last[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
		n++;
	}
	qsort(range, n, sizeof(*range), range_compare);
	for (uint32_t i = 0; i < n; i++) {
		if (to > 0 && touches(range[to - 1].last, range[i].first, len)) {
			if (memcmp(range[to - 1].last, range[i].last, len) < 0)
				memcpy(range[to - 1].last, range[i].last, len);
		} else {
			range[to++] = range[i];
		}
	}
	for (uint32_t i = 0; i < to; i++)
		memcpy(
		    nft_plan_element(m->plan, set, range[i].first, len)->end, range[i].last, len);
	free(range);
}

static void
each_set(void *arg, const struct fw_view_set *v)
{
	struct nft_making *m = arg;
	char name[NFT_NAME_LEN];
	struct nft_set *set;

	if (v->kind == PK_SET_PREFIX) {
		make_ranges(m, v, 0);
		make_ranges(m, v, 1);
		return;
	}
	if (v->kind == PK_SET_NAME)
		return; /* the kernel reads no DNS: nobody is in it, so what only names allow is refused */
	snprintf(name, sizeof(name), "s%016" PRIx64, v->set);
	set = nft_plan_set(m->plan, NFT_TABLE_INET, name, NFT_SET_HASH, NFT_SET_KEYS, NFT_TYPE_MARK,
	    sizeof(uint32_t));
	for (uint32_t i = 0; i < v->nb; i++) {
		const uint32_t *identity = fw_view_member(v, i);

		if (identity != NULL)
			(void)nft_plan_element(m->plan, set, identity, sizeof(*identity));
	}
}

static void
each_program(void *arg, const struct fw_view_program *p)
{
	nft_program_make(arg, p);
}

int
nft_ruleset_make(struct nft_plan **out, const struct nft_ruleset_conf *conf,
    const struct fw_rules_state *s, bool attested, int64_t at_s, uint16_t stamp,
    struct pk_diag *diag)
{
	struct nft_making m = { .conf = conf,
		.state = s,
		.plan = nft_plan_create(),
		.attested = attested,
		.at_s = at_s,
		.stamp = stamp,
		.diag = diag };

	PK_ASSERT(conf->nb_wires <= NFT_WIRES_MAX);
	pk_diag_set(diag, "out of memory for the ruleset");
	if (m.plan == NULL)
		return -ENOMEM;
	nft_frame_make(&m);
	nft_judge_sets(&m);
	if (s != NULL) {
		fw_view_sets(s, each_set, &m);
		fw_view_programs(s, each_program, &m);
		fw_view_identities(s, each_identity, &m);
		fw_view_endpoints(s, each_endpoint, &m);
	}
	nft_judge_make(&m);
	if (m.rc == 0)
		m.rc = nft_plan_seal(m.plan);
	if (m.rc < 0) {
		nft_plan_destroy(m.plan);
		return m.rc;
	}
	*out = m.plan;
	return 0;
}
