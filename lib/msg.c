#include "lib/msg.h"

#include <errno.h>
#include <string.h>

#include "lib/name.h"

static const char *const type_names[PK_MSG_TYPE_COUNT] = {
	[PK_MSG_NONE] = "none",
	[PK_MSG_HELLO] = "hello",
	[PK_MSG_POLICY_BEGIN] = "policy-begin",
	[PK_MSG_IDENTITY] = "identity",
	[PK_MSG_ENDPOINT] = "endpoint",
	[PK_MSG_SET] = "set",
	[PK_MSG_SET_MEMBERS] = "set-members",
	[PK_MSG_PROGRAM] = "program",
	[PK_MSG_RULE] = "rule",
	[PK_MSG_RULE_MORE] = "rule-more",
	[PK_MSG_POLICY_COMMIT] = "policy-commit",
	[PK_MSG_POLICY_ABORT] = "policy-abort",
	[PK_MSG_POLICY_STATUS] = "policy-status",
	[PK_MSG_POLICY_COUNTS] = "policy-counts",
	[PK_MSG_POSTURE] = "posture",
	[PK_MSG_POSTURE_STATUS] = "posture-status",
};

static const char *const verdict_names[PK_VERDICT_COUNT] = { "deny", "reject", "allow", "pass" };
static const char *const direction_names[PK_DIRECTION_COUNT] = { "egress", "ingress" };
static const char *const stage_names[PK_STAGE_COUNT] = { "none", "received", "accepted", "realised",
	"rejected" };
static const char *const log_mode_names[PK_RULE_LOG_COUNT] = { "none", "new", "all" };

static const char *const encryption_names[PK_ENCRYPTION_COUNT] = { "none", "required", "ipsec",
	"mtls" };

static const char *const inspect_names[PK_INSPECT_COUNT] = { "none", "standard", "strict" };

static const char *
name_of(const char *const *names, size_t n, unsigned int value)
{
	return value < n ? names[value] : "unknown";
}

const char *
pk_msg_type_name(unsigned int type)
{
	return name_of(type_names, PK_COUNT(type_names), type);
}

const char *
pk_verdict_name(unsigned int verdict)
{
	return name_of(verdict_names, PK_COUNT(verdict_names), verdict);
}

const char *
pk_direction_name(unsigned int direction)
{
	return name_of(direction_names, PK_COUNT(direction_names), direction);
}

const char *
pk_stage_name(unsigned int stage)
{
	return name_of(stage_names, PK_COUNT(stage_names), stage);
}

const char *
pk_log_mode_name(unsigned int mode)
{
	return name_of(log_mode_names, PK_COUNT(log_mode_names), mode);
}

const char *
pk_encryption_name(unsigned int encryption)
{
	return name_of(encryption_names, PK_COUNT(encryption_names), encryption);
}

const char *
pk_inspect_name(unsigned int inspect)
{
	return name_of(inspect_names, PK_COUNT(inspect_names), inspect);
}

const char *
pk_rule_terms_check(const struct pk_rule_terms *t, unsigned int verdict)
{
	static const uint8_t zero[sizeof(t->zero)];

	if (verdict != PK_VERDICT_ALLOW && pk_rule_terms_any(t))
		return "terms in a rule that allows";
	if (t->encryption >= PK_ENCRYPTION_COUNT)
		return "a known encryption";
	if (t->inspect >= PK_INSPECT_COUNT || t->fail_open > 1)
		return "a known way of inspection";
	if (t->fail_open && t->inspect == PK_INSPECT_NONE)
		return "something to fail, where it may";
	if (t->dscp != 0 && (t->dscp & ~PK_DSCP_MAX) != PK_DSCP)
		return "a codepoint below 64, marked as one";
	if (memcmp(t->zero, zero, sizeof(zero)) != 0)
		return "terms of this version alone";
	return NULL;
}

void
pk_msg_init(struct pk_msg *m, enum pk_msg_type type, uint64_t generation)
{
	memset(m, 0, sizeof(*m));
	m->h.version = PK_MSG_VERSION;
	m->h.type = (uint16_t)type;
	m->h.generation = generation;
}

/* Each check returns NULL, or what would have been right. */

static const char *
check_string(const char *s, size_t size)
{
	return memchr(s, '\0', size) != NULL ? NULL : "a name that ends inside its field";
}

static const char *
check_op(uint8_t op)
{
	return op == PK_OP_PUT || op == PK_OP_DELETE ? NULL : "operation put or delete";
}

static const char *
check_addr(const struct pk_addr *a)
{
	static const uint8_t zero[12];

	if (a->family != 4 && a->family != 6)
		return "address family 4 or 6";
	if (a->family == 4 && memcmp(a->bytes + 4, zero, sizeof(zero)) != 0)
		return "an IPv4 address with nothing behind it";
	/* Addresses are keys as they lie in memory. */
	if (memcmp(a->zero, zero, sizeof(a->zero)) != 0)
		return "an address with zeros where nothing is said";
	return NULL;
}

static const char *
check_prefix(const struct pk_prefix *p)
{
	const char *want = check_addr(&p->addr);

	if (want != NULL)
		return want;
	if (p->len > pk_addr_bits(&p->addr))
		return "a prefix length within the address";
	if (p->zero[0] != 0 || p->zero[1] != 0 || p->zero[2] != 0)
		return "a prefix with zeros where nothing is said";
	return pk_prefix_contains(p, &p->addr) ? NULL : "a prefix without bits beyond its length";
}

static const char *
check_match(const struct pk_msg_rule_match *m)
{
	if (m->nb_peers > PK_MSG_PEERS || m->nb_services > PK_MSG_SERVICES)
		return "at most 12 peers and 12 services in a message";
	if (m->any_peer > 1 || m->any_service > 1 || m->more > 1)
		return "flags of 0 or 1";
	if ((m->any_peer && m->nb_peers != 0) || (m->any_service && m->nb_services != 0))
		return "either a list or `any`";
	for (unsigned int i = 0; i < m->nb_peers; i++)
		if (m->peer[i] == 0)
			return "peer sets other than 0";
	for (unsigned int i = 0; i < m->nb_services; i++)
		if (m->service[i].low > m->service[i].high)
			return "a port range that does not run backwards";
	return NULL;
}

static const char *
check_rule(const struct pk_msg_rule *r)
{
	const char *want;

	if (r->program == 0)
		return "a program other than 0";
	if (r->verdict >= PK_VERDICT_COUNT || r->log >= PK_RULE_LOG_COUNT)
		return "a known verdict and log mode";
	if ((r->flags & ~PK_RULE_FLAGS_ALL) != 0)
		return "known rule flags";
	if ((want = check_string(r->policy, sizeof(r->policy))) != NULL ||
	    (want = check_string(r->name, sizeof(r->name))) != NULL ||
	    (want = check_string(r->file, sizeof(r->file))) != NULL)
		return want;
	if (r->app[0] != 0 && r->verdict != PK_VERDICT_ALLOW)
		return "applications in a rule that allows";
	for (unsigned int i = 1; i < PK_MSG_APPS; i++)
		if (r->app[i] != 0 && r->app[i] <= r->app[i - 1])
			return "applications in ascending order";
	for (unsigned int i = 1; i < PK_MSG_APPS; i++)
		if (r->app[i] != 0 && r->app[i - 1] == 0)
			return "no 0 among the applications";
	if ((want = pk_rule_terms_check(&r->terms, r->verdict)) != NULL ||
	    (want = pk_schedule_check(&r->schedule)) != NULL)
		return want;
	return check_match(&r->match);
}

static const char *
check_members(const struct pk_msg_set_members *s)
{
	const char *want = check_op(s->op);

	if (want != NULL)
		return want;
	if (s->set == 0)
		return "a set other than 0";
	if (s->kind == PK_SET_IDENTITY)
		return s->count <= PK_MSG_IDENTITIES ? NULL : "at most 112 identities in a message";
	if (s->kind != PK_SET_PREFIX)
		return "set kind identity or prefix";
	if (s->count > PK_MSG_PREFIXES)
		return "at most 19 prefixes in a message";
	for (unsigned int i = 0; i < s->count; i++)
		if ((want = check_prefix(&s->prefix[i])) != NULL)
			return want;
	return NULL;
}

static const char *
check_body(const struct pk_msg *m)
{
	const char *want;

	switch (m->h.type) {
	case PK_MSG_HELLO:
		if ((want = check_string(m->hello.program, sizeof(m->hello.program))) != NULL)
			return want;
		return check_string(m->hello.instance, sizeof(m->hello.instance));
	case PK_MSG_POLICY_BEGIN:
		if (m->begin.full > 1)
			return "flags of 0 or 1";
		return m->begin.full && m->begin.base != 0 ? "base 0 with a full policy" : NULL;
	case PK_MSG_IDENTITY:
		if ((want = check_op(m->identity.op)) != NULL)
			return want;
		if (m->identity.identity == PK_IDENTITY_NONE)
			return "an identity other than 0";
		if ((want = check_string(m->identity.labels, sizeof(m->identity.labels))) != NULL)
			return want;
		return check_string(m->identity.tenant_name, sizeof(m->identity.tenant_name));
	case PK_MSG_ENDPOINT:
		if ((want = check_op(m->endpoint.op)) != NULL ||
		    (want = check_addr(&m->endpoint.addr)) != NULL)
			return want;
		if (m->endpoint.local > 1 || m->endpoint.has_mac > 1)
			return "flags of 0 or 1";
		if (m->endpoint.unattested != 0 && !m->endpoint.local)
			return "no unattested identity for an endpoint of another DPU";
		return check_string(m->endpoint.name, sizeof(m->endpoint.name));
	case PK_MSG_SET:
		if ((want = check_op(m->set.op)) != NULL)
			return want;
		if (m->set.set == 0)
			return "a set other than 0";
		if (m->set.kind == PK_SET_NONE || m->set.kind >= PK_SET_KIND_COUNT)
			return "set kind identity, prefix or name";
		if ((want = check_string(m->set.name, sizeof(m->set.name))) != NULL)
			return want;
		return m->set.op != PK_OP_PUT || m->set.kind != PK_SET_NAME ||
		        pk_name_is_pattern(m->set.name)
		    ? NULL
		    : "a pattern of DNS names";
	case PK_MSG_SET_MEMBERS:
		return check_members(&m->members);
	case PK_MSG_PROGRAM:
		if ((want = check_op(m->program.op)) != NULL)
			return want;
		if (m->program.direction >= PK_DIRECTION_COUNT)
			return "direction egress or ingress";
		return m->program.program != 0 ? NULL : "a program other than 0";
	case PK_MSG_RULE:
		return check_rule(&m->rule);
	case PK_MSG_RULE_MORE:
		if (m->more.program == 0)
			return "a program other than 0";
		return check_match(&m->more.match);
	case PK_MSG_POLICY_STATUS:
		if (m->status.stage == PK_STAGE_NONE || m->status.stage >= PK_STAGE_COUNT)
			return "a known stage";
		return check_string(m->status.text, sizeof(m->status.text));
	case PK_MSG_POSTURE:
		if (m->posture.attested > 1 || m->posture.fresh > m->posture.attested)
			return "flags of 0 or 1, and nothing fresh that is not attested";
		if (!m->posture.attested && m->posture.until_mono_ns != 0)
			return "no lease for a host that is not attested";
		if ((want = check_string(m->posture.host, sizeof(m->posture.host))) != NULL ||
		    (want = check_string(m->posture.reference, sizeof(m->posture.reference))) !=
		        NULL)
			return want;
		return check_string(m->posture.text, sizeof(m->posture.text));
	case PK_MSG_POSTURE_STATUS:
		return m->posture_status.attested <= 1 ? NULL : "flags of 0 or 1";
	case PK_MSG_POLICY_COUNTS:
	case PK_MSG_POLICY_COMMIT:
	case PK_MSG_POLICY_ABORT:
		return NULL;
	default:
		return "a known message type";
	}
}

int
pk_msg_check(const struct pk_msg *m, size_t len, struct pk_diag *diag)
{
	const char *want;

	if (len != PK_MSG_SIZE) {
		pk_diag_set(diag, "message of %zu bytes: want %d", len, PK_MSG_SIZE);
		return -EPROTO;
	}
	if (m->h.version != PK_MSG_VERSION) {
		pk_diag_set(diag, "message version %u: want %d", m->h.version, PK_MSG_VERSION);
		return -EPROTO;
	}
	want = check_body(m);
	if (want != NULL) {
		pk_diag_set(diag, "%s message (type %u): want %s", pk_msg_type_name(m->h.type),
		    m->h.type, want);
		return -EPROTO;
	}
	return 0;
}
