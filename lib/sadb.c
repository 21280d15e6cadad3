#include "lib/sadb.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

static const char *const type_names[PK_SADB_TYPE_COUNT] = {
	[PK_SADB_NONE] = "none",
	[PK_SADB_HELLO] = "hello",
	[PK_SADB_LOCAL] = "local",
	[PK_SADB_GET_SPI] = "get-spi",
	[PK_SADB_ADD_SA] = "add-sa",
	[PK_SADB_UPDATE_SA] = "update-sa",
	[PK_SADB_DEL_SA] = "del-sa",
	[PK_SADB_QUERY_SA] = "query-sa",
	[PK_SADB_ADD_POLICY] = "add-policy",
	[PK_SADB_DEL_POLICY] = "del-policy",
	[PK_SADB_FLUSH] = "flush",
	[PK_SADB_ANSWER] = "answer",
	[PK_SADB_ACQUIRE] = "acquire",
	[PK_SADB_EXPIRE] = "expire",
	[PK_SADB_MAPPING] = "mapping",
	[PK_SADB_BAD_SPI] = "bad-spi",
	[PK_SADB_IKE] = "ike",
};

const char *
pk_sadb_type_name(unsigned int type)
{
	return type < PK_SADB_TYPE_COUNT ? type_names[type] : "unknown";
}

const char *
pk_sadb_mode_name(unsigned int mode)
{
	return mode == PK_SADB_TRANSPORT ? "transport"
	    : mode == PK_SADB_TUNNEL     ? "tunnel"
	                                 : "unknown";
}

const char *
pk_sadb_expire_name(unsigned int what)
{
	static const char *const names[] = { "unknown", "time", "bytes", "packets",
		"sequence numbers" };

	return names[what < PK_COUNT(names) ? what : 0];
}

void
pk_sadb_init(struct pk_sadb *m, enum pk_sadb_type type, uint32_t seq)
{
	memset(m, 0, sizeof(*m));
	m->h.version = PK_SADB_VERSION;
	m->h.type = (uint16_t)type;
	m->h.seq = seq;
}

/* Each check returns NULL, or what would have been right. */

static bool
is_zero(const void *bytes, size_t len)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < len; i++)
		if (p[i] != 0)
			return false;
	return true;
}

static const char *
check_string(const char *s, size_t size)
{
	return memchr(s, '\0', size) != NULL ? NULL : "a name that ends inside its field";
}

/* Any address, or none at all where `none` allows it. */
static const char *
check_addr(const struct pk_addr *a, bool none)
{
	if (a->family == 0 && none)
		return is_zero(a, sizeof(*a)) ? NULL : "no address without a family";
	if (a->family != 4 && a->family != 6)
		return "address family 4 or 6";
	if (!is_zero(a->zero, sizeof(a->zero)) ||
	    (a->family == 4 && !is_zero(a->bytes + 4, sizeof(a->bytes) - 4)))
		return "an address with zeros where nothing is said";
	return NULL;
}

static const char *
check_prefix(const struct pk_prefix *p)
{
	const char *want = check_addr(&p->addr, false);

	if (want != NULL)
		return want;
	if (p->len > pk_addr_bits(&p->addr))
		return "a prefix length within the address";
	if (!is_zero(p->zero, sizeof(p->zero)))
		return "a prefix with zeros where nothing is said";
	return pk_prefix_contains(p, &p->addr) ? NULL : "a prefix without bits beyond its length";
}

/* Two addresses of one family. */
static const char *
check_pair(const struct pk_addr *src, const struct pk_addr *dst)
{
	const char *want;

	if ((want = check_addr(src, false)) != NULL || (want = check_addr(dst, false)) != NULL)
		return want;
	return src->family == dst->family ? NULL : "two addresses of one family";
}

static const char *
check_id(const struct pk_sadb_id *id)
{
	if (id->zero != 0)
		return "zeros where nothing is said";
	return check_pair(&id->src, &id->dst);
}

/* RFC 4303, section 2.1: 0 is local use, 1 - 255 are reserved. */
static const char *
check_named(const struct pk_sadb_id *id)
{
	const char *want = check_id(id);

	if (want != NULL)
		return want;
	return id->spi > 255 ? NULL : "an SPI above 255";
}

static const char *
check_add_sa(const struct pk_sadb_add_sa *a)
{
	const struct pk_sadb_life *l = &a->life;
	const char *want = check_named(&a->id);

	if (want != NULL)
		return want;
	if (a->reqid == 0 || a->reqid >= PK_SADB_REQID_END)
		return "a reqid other than 0, below 0x80000000";
	if (a->direction != PK_SADB_IN && a->direction != PK_SADB_OUT)
		return "direction in or out";
	if (a->mode != PK_SADB_TRANSPORT && a->mode != PK_SADB_TUNNEL)
		return "mode transport or tunnel";
	if (a->df > PK_SADB_DF_CLEAR || a->dscp > 63)
		return "a known way with DF, and a DSCP of six bits";
	if ((a->flags & ~PK_SADB_FLAGS_ALL) != 0)
		return "known flags";
	if (a->replay_window != 0 && (a->replay_window < 32 || a->replay_window > 4096))
		return "a replay window of 0, or 32 to 4096";
	if ((a->flags & PK_SADB_ENCAP) != 0 ? a->sport == 0 || a->dport == 0
	                                    : a->sport != 0 || a->dport != 0)
		return "two UDP ports with encapsulation, and none without";
	if (a->encr_key_len > PK_SADB_KEY_MAX || a->integ_key_len > PK_SADB_KEY_MAX)
		return "keys of at most 68 bytes";
	if (!is_zero(a->encr_key + a->encr_key_len, PK_SADB_KEY_MAX - a->encr_key_len) ||
	    !is_zero(a->integ_key + a->integ_key_len, PK_SADB_KEY_MAX - a->integ_key_len))
		return "zeros behind keys";
	if (!is_zero(a->zero, sizeof(a->zero)))
		return "zeros where nothing is said";
	if ((l->soft_ns != 0 && l->hard_ns != 0 && l->soft_ns > l->hard_ns) ||
	    (l->soft_bytes != 0 && l->hard_bytes != 0 && l->soft_bytes > l->hard_bytes) ||
	    (l->soft_packets != 0 && l->hard_packets != 0 && l->soft_packets > l->hard_packets))
		return "soft lifetimes that end before hard ones";
	if ((want = check_addr(&a->original_src, true)) != NULL)
		return want;
	return check_addr(&a->original_dst, true);
}

static const char *
check_policy(const struct pk_sadb_policy *p, bool add)
{
	bool ports = p->sport_low != 0 || p->sport_high != UINT16_MAX || p->dport_low != 0 ||
	    p->dport_high != UINT16_MAX;
	const char *want;

	if (p->direction != PK_SADB_POLICY_IN && p->direction != PK_SADB_POLICY_OUT)
		return "direction in or out";
	if (p->mode != PK_SADB_TRANSPORT && p->mode != PK_SADB_TUNNEL)
		return "mode transport or tunnel";
	if (p->reqid == 0 || p->reqid >= PK_SADB_REQID_END)
		return "a reqid other than 0, below 0x80000000";
	if ((want = check_prefix(&p->src)) != NULL || (want = check_prefix(&p->dst)) != NULL)
		return want;
	if (p->src.addr.family != p->dst.addr.family)
		return "two prefixes of one family";
	if (p->sport_low > p->sport_high || p->dport_low > p->dport_high)
		return "a port range that does not run backwards";
	if (ports && p->proto != IPPROTO_TCP && p->proto != IPPROTO_UDP && p->proto != IPPROTO_SCTP)
		return "ports with TCP, UDP or SCTP alone";
	if (p->zero != 0 || p->zero2 != 0)
		return "zeros where nothing is said";
	if ((want = check_addr(&p->sa_dst, true)) != NULL)
		return want;
	if (!add)
		return NULL;
	if (p->spi != 0 && (p->direction == PK_SADB_POLICY_IN || p->spi <= 255))
		return "an SPI above 255, with an outbound policy";
	return (p->spi != 0) == (p->sa_dst.family != 0) ? NULL
	                                                : "an SPI with its receiver, or neither";
}

static const char *
check_ike(const struct pk_sadb *m)
{
	const struct pk_sadb_ike *k = &m->ike;

	if (m->h.more == 0 || m->h.more > PK_SADB_IKE_MAX)
		return "1 to 9000 bytes of IKE";
	if (k->sport == 0 || k->dport == 0)
		return "ports other than 0";
	if (k->dscp > 63 || k->ecn > 3)
		return "a DSCP of six bits and ECN of two";
	if (k->zero != 0)
		return "zeros where nothing is said";
	return check_pair(&k->src, &k->dst);
}

static const char *
check_body(const struct pk_sadb *m)
{
	const char *want;

	switch (m->h.type) {
	case PK_SADB_HELLO:
		if ((want = check_string(m->hello.program, sizeof(m->hello.program))) != NULL)
			return want;
		return check_string(m->hello.instance, sizeof(m->hello.instance));
	case PK_SADB_LOCAL:
		if ((want = check_addr(&m->local.addr, false)) != NULL ||
		    (want = check_addr(&m->local.gateway, true)) != NULL)
			return want;
		if (m->local.gateway.family != 0 && m->local.gateway.family != m->local.addr.family)
			return "a gateway of the address's family";
		return m->local.prefix_len <= pk_addr_bits(&m->local.addr)
		    ? NULL
		    : "a prefix length within the address";
	case PK_SADB_GET_SPI:
		if (m->get_spi.id.spi != 0)
			return "SPI 0";
		if (m->get_spi.reqid >= PK_SADB_REQID_END)
			return "a reqid below 0x80000000";
		return check_id(&m->get_spi.id);
	case PK_SADB_ADD_SA:
		return check_add_sa(&m->add_sa);
	case PK_SADB_UPDATE_SA:
		if ((want = check_named(&m->update_sa.id)) != NULL ||
		    (want = check_pair(&m->update_sa.src, &m->update_sa.dst)) != NULL)
			return want;
		if (m->update_sa.encap > 1)
			return "flags of 0 or 1";
		return (m->update_sa.encap != 0) == (m->update_sa.sport != 0) &&
		        (m->update_sa.encap != 0) == (m->update_sa.dport != 0)
		    ? NULL
		    : "two UDP ports with encapsulation, and none without";
	case PK_SADB_DEL_SA:
	case PK_SADB_QUERY_SA:
		return check_named(&m->sa.id);
	case PK_SADB_ADD_POLICY:
		return check_policy(&m->policy, true);
	case PK_SADB_DEL_POLICY:
		return check_policy(&m->policy, false);
	case PK_SADB_FLUSH:
		return m->flush.what != 0 &&
		        (m->flush.what & ~(uint32_t)(PK_SADB_FLUSH_SAS | PK_SADB_FLUSH_POLICIES)) ==
		            0
		    ? NULL
		    : "SAs, policies or both";
	case PK_SADB_ANSWER:
		if (m->answer.error > 0)
			return "an error of 0 or below";
		return check_string(m->answer.text, sizeof(m->answer.text));
	case PK_SADB_ACQUIRE:
		return check_pair(&m->acquire.src, &m->acquire.dst);
	case PK_SADB_EXPIRE:
		if (m->expire.hard > 1 || m->expire.what < PK_SADB_EXPIRE_TIME ||
		    m->expire.what > PK_SADB_EXPIRE_SEQ)
			return "a known kind of expiry";
		return check_named(&m->expire.id);
	case PK_SADB_MAPPING:
		if ((want = check_addr(&m->mapping.src, false)) != NULL)
			return want;
		return check_named(&m->mapping.id);
	case PK_SADB_BAD_SPI:
		return check_id(&m->bad_spi.id);
	case PK_SADB_IKE:
		return check_ike(m);
	default:
		return "a known message type";
	}
}

int
pk_sadb_check(const struct pk_sadb *m, size_t len, struct pk_diag *diag)
{
	const char *want;

	if (len < PK_SADB_SIZE) {
		pk_diag_set(diag, "SADB message of %zu bytes: want %d", len, PK_SADB_SIZE);
		return -EPROTO;
	}
	if (m->h.version != PK_SADB_VERSION) {
		pk_diag_set(
		    diag, "SADB message version %u: want %d", m->h.version, PK_SADB_VERSION);
		return -EPROTO;
	}
	if (len - PK_SADB_SIZE != m->h.more || (m->h.more != 0 && m->h.type != PK_SADB_IKE)) {
		pk_diag_set(diag,
		    "SADB message of %zu bytes: want %d, and behind IKE as many as it says", len,
		    PK_SADB_SIZE);
		return -EPROTO;
	}
	want = m->h.zero != 0 ? "zeros where nothing is said" : check_body(m);
	if (want != NULL) {
		pk_diag_set(diag, "SADB %s message (type %u): want %s",
		    pk_sadb_type_name(m->h.type), m->h.type, want);
		return -EPROTO;
	}
	return 0;
}
