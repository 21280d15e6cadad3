#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/model.h"
#include "policy/resource.h"
#include "policy/terms.h"
#include "tests/unit/test.h"

/*
 * The terms of rules, from the words in a file to the messages that a data plane gets, by both ways that
 * lead there: from the table, as offline, and through the resources of a server.
 */

static const char head[] = "apiVersion: picket.io/v1\n"
                           "kind: Workload\n"
                           "metadata: {name: db, tenant: t, labels: {app: db}}\n"
                           "spec: {addresses: [192.0.2.1]}\n"
                           "---\n"
                           "apiVersion: picket.io/v1\n"
                           "kind: Policy\n"
                           "metadata: {name: db, tenant: t}\n"
                           "spec:\n"
                           "  tier: application\n"
                           "  priority: 1\n"
                           "  ingress:\n";

static const struct {
	const char *words;
	struct pk_rule_terms want;
} cases[] = {
	{ "", { 0 } },
	{ "encryption: required", { .encryption = PK_ENCRYPTION_REQUIRED } },
	{ "encryption: ipsec", { .encryption = PK_ENCRYPTION_IPSEC } },
	{ "encryption: mtls", { .encryption = PK_ENCRYPTION_MTLS } },
	{ "inspect: standard", { .inspect = PK_INSPECT_STANDARD, .fail_open = 1 } },
	{ "inspect: strict", { .inspect = PK_INSPECT_STRICT } },
	{ "dscp: EF", { .dscp = PK_DSCP | 46 } },
	{ "dscp: 0", { .dscp = PK_DSCP } },
	{ "dscp: AF41", { .dscp = PK_DSCP | 34 } },
	{ "limit: {newConnections: 20/s}", { .sessions_per_s = 20 } },
	{ "limit: {packets: 50k/s, bytes: 10MB/s}",
	    { .packets_per_s = 50000, .bytes_per_s = 10000000 } },
	{ "limit: {newConnections: 4294M/s, bytes: 1000GB/s}",
	    { .sessions_per_s = 4294000000, .bytes_per_s = UINT64_C(1000000000000) } },
	{ "inspect: standard, fail: closed", { .inspect = PK_INSPECT_STANDARD } },
	{ "inspect: strict, fail: open, encryption: ipsec",
	    { .encryption = PK_ENCRYPTION_IPSEC, .inspect = PK_INSPECT_STRICT, .fail_open = 1 } },
};

#define MESSAGES_MAX 64

struct messages {
	unsigned int nb;
	struct pk_msg at[MESSAGES_MAX];
};

static int
collect(void *arg, const struct pk_msg *m)
{
	struct messages *all = arg;
	struct pk_diag diag;

	assert_true(all->nb < MESSAGES_MAX);
	assert_int_equal(pk_msg_check(m, sizeof(*m), &diag), 0);
	all->at[all->nb++] = *m;
	return 0;
}

/* The terms of the rule called `name`, wherever it stands. */
static const struct pk_rule_terms *
terms_of(const struct messages *all, const char *name)
{
	for (unsigned int i = 0; i < all->nb; i++)
		if (all->at[i].h.type == PK_MSG_RULE && strcmp(all->at[i].rule.name, name) == 0)
			return &all->at[i].rule.terms;
	fail_msg("no rule \"%s\"", name);
	return NULL;
}

static void
by_table(const struct policy_table *t, struct messages *all)
{
	for (uint32_t i = 0; i < t->nb_programs; i++)
		assert_int_equal(policy_emit_program(&t->programs[i], collect, all), 0);
}

static void
by_resources(const struct policy_table *t, struct messages *all)
{
	struct policy_resource *sent, *come;
	struct pk_diag diag;

	for (uint32_t i = 0; i < t->nb_programs; i++) {
		sent = policy_resource_of_program(&t->programs[i]);
		assert_non_null(sent);
		assert_int_equal(policy_resource_create(&come, sent->type, sent->key, sent->key_len,
		                     sent->body, sent->len, &diag),
		    0);
		assert_int_equal(policy_resource_emit(NULL, come, "", collect, all), 0);
		policy_resource_put(sent);
		policy_resource_put(come);
	}
}

static struct policy_table *
compile(const char *text)
{
	struct policy_table *t = NULL;
	struct policy_findings *f;
	struct policy_model *m;
	struct policy_ids *ids;
	struct pk_diag first = { .text = "" };

	assert_int_equal(policy_findings_create(&f), 0);
	assert_int_equal(policy_model_create(&m), 0);
	assert_int_equal(policy_ids_create(&ids), 0);
	if (policy_model_add_text(m, "p.yaml", text, strlen(text), f) < 0 ||
	    policy_compile(m, ids, &t, f) < 0)
		policy_findings_first(f, &first);
	assert_string_equal(first.text, "");
	policy_findings_destroy(f);
	policy_model_destroy(m);
	policy_ids_destroy(ids);
	return t;
}

static void
test_way(void **state)
{
	static struct messages offline, served;
	static char text[65536];
	size_t used = (size_t)snprintf(text, sizeof(text), "%s", head);
	struct policy_table *t;
	char name[16];

	(void)state;
	for (size_t i = 0; i < PK_COUNT(cases); i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
		    "    - {name: r%zu, action: allow, services: [tcp/%zu], %s}\n", i, i + 1,
		    cases[i].words);
	t = compile(text);
	by_table(t, &offline);
	by_resources(t, &served);
	assert_int_equal(offline.nb, served.nb);
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		snprintf(name, sizeof(name), "r%zu", i);
		assert_memory_equal(
		    terms_of(&offline, name), &cases[i].want, sizeof(cases[i].want));
		assert_memory_equal(terms_of(&served, name), &cases[i].want, sizeof(cases[i].want));
	}
	policy_table_destroy(t);
}

/* Rules that differ in their terms alone are two, and programs of two numbers. */
static void
test_terms_tell_programs_apart(void **state)
{
	static const char *const words[] = { "", ", encryption: ipsec", ", encryption: mtls",
		", inspect: strict", ", inspect: standard", ", inspect: standard, fail: closed",
		", dscp: EF", ", dscp: 0", ", limit: {bytes: 1/s}", ", limit: {packets: 1/s}",
		", limit: {newConnections: 1/s}" };
	struct policy_table *t[PK_COUNT(words)];
	char text[2048];

	(void)state;
	for (size_t i = 0; i < PK_COUNT(words); i++) {
		snprintf(
		    text, sizeof(text), "%s    - {name: r, action: allow%s}\n", head, words[i]);
		t[i] = compile(text);
		assert_int_equal(t[i]->nb_identities, 1);
		for (size_t k = 0; k < i; k++)
			assert_true(t[i]->identities[0].program[PK_INGRESS] !=
			    t[k]->identities[0].program[PK_INGRESS]);
	}
	for (size_t i = 0; i < PK_COUNT(words); i++)
		policy_table_destroy(t[i]);
}

/* A schedule is with the rule, whatever that says, by both ways. */
static void
test_schedule(void **state)
{
	static struct messages offline, served;
	static const struct pk_schedule want = { .days = 31,
		.start_min = 480,
		.end_min = 1080,
		.zone = { .standard_min = 60,
		    .summer_min = 120,
		    .to_summer = { .month = 3, .week = 5, .day = 0, .at_min = 120 },
		    .to_standard = { .month = 10, .week = 5, .day = 0, .at_min = 180 } },
		.from_day = PK_DAY_FIRST,
		.until_day = 20818 };
	struct policy_table *t;
	char text[2048];
	unsigned int nb = 0;

	(void)state;
	snprintf(text, sizeof(text),
	    "%s    - {name: r, action: deny, schedule: {days: mon-fri, hours: \"08:00-18:00\", "
	    "timezone: Europe/Berlin, until: 2026-12-31}}\n",
	    head);
	t = compile(text);
	by_table(t, &offline);
	by_resources(t, &served);
	assert_int_equal(offline.nb, served.nb);
	for (unsigned int i = 0; i < served.nb; i++) {
		if (served.at[i].h.type != PK_MSG_RULE || served.at[i].rule.line == 0)
			continue;
		nb++;
		assert_memory_equal(&served.at[i].rule.schedule, &want, sizeof(want));
		assert_memory_equal(&offline.at[i].rule.schedule, &want, sizeof(want));
	}
	assert_int_equal(nb, 1);
	policy_table_destroy(t);
}

/* Whoever sends messages may be taken over. */
static void
test_messages_are_checked(void **state)
{
	struct pk_diag diag;
	struct pk_msg m;

	(void)state;
	pk_msg_init(&m, PK_MSG_RULE, 1);
	m.rule.program = 1;
	m.rule.id = 1;
	m.rule.match.any_peer = m.rule.match.any_service = 1;
	m.rule.verdict = PK_VERDICT_ALLOW;
	m.rule.terms.encryption = PK_ENCRYPTION_MTLS;
	assert_int_equal(pk_msg_check(&m, sizeof(m), &diag), 0);
	m.rule.verdict = PK_VERDICT_DENY;
	assert_int_equal(pk_msg_check(&m, sizeof(m), &diag), -EPROTO);
	m.rule.verdict = PK_VERDICT_ALLOW;
	m.rule.terms.encryption = PK_ENCRYPTION_COUNT;
	assert_int_equal(pk_msg_check(&m, sizeof(m), &diag), -EPROTO);
	memset(&m.rule.terms, 0, sizeof(m.rule.terms));
	m.rule.terms.inspect = PK_INSPECT_COUNT;
	assert_int_equal(pk_msg_check(&m, sizeof(m), &diag), -EPROTO);
	memset(&m.rule.terms, 0, sizeof(m.rule.terms));
	m.rule.terms.dscp = 46;
	assert_int_equal(pk_msg_check(&m, sizeof(m), &diag), -EPROTO);
	m.rule.terms.dscp = PK_DSCP | 64;
	assert_int_equal(pk_msg_check(&m, sizeof(m), &diag), -EPROTO);
	memset(&m.rule.terms, 0, sizeof(m.rule.terms));
	m.rule.terms.fail_open = 1;
	assert_int_equal(pk_msg_check(&m, sizeof(m), &diag), -EPROTO);
	memset(&m.rule.terms, 0, sizeof(m.rule.terms));
	m.rule.terms.zero[PK_COUNT(m.rule.terms.zero) - 1] = 1;
	assert_int_equal(pk_msg_check(&m, sizeof(m), &diag), -EPROTO);
}

static void
test_merge(void **state)
{
	enum {
		NONE = PK_ENCRYPTION_NONE,
		REQUIRED = PK_ENCRYPTION_REQUIRED,
		IPSEC = PK_ENCRYPTION_IPSEC,
		MTLS = PK_ENCRYPTION_MTLS,
		CONFLICT = PK_ENCRYPTION_COUNT
	};
	static const unsigned int want[PK_ENCRYPTION_COUNT][PK_ENCRYPTION_COUNT] = {
		[NONE] = { NONE, REQUIRED, IPSEC, MTLS },
		[REQUIRED] = { REQUIRED, REQUIRED, IPSEC, MTLS },
		[IPSEC] = { IPSEC, IPSEC, IPSEC, CONFLICT },
		[MTLS] = { MTLS, MTLS, CONFLICT, MTLS },
	};

	(void)state;
	for (unsigned int a = 0; a < PK_ENCRYPTION_COUNT; a++)
		for (unsigned int b = 0; b < PK_ENCRYPTION_COUNT; b++)
			assert_int_equal(policy_encryption_merge(a, b), want[a][b]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_way),
		cmocka_unit_test(test_terms_tell_programs_apart),
		cmocka_unit_test(test_schedule),
		cmocka_unit_test(test_messages_are_checked),
		cmocka_unit_test(test_merge),
	};

	return cmocka_run_group_tests_name("policy/terms", tests, NULL, NULL);
}
