#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/ike.h"
#include "policy/model.h"
#include "tests/unit/test.h"

#define HEAD "apiVersion: picket.io/v1\nkind: IkePeer\nmetadata: {name: p}\nspec:\n"
#define ENDS                                                           \
	"  local: {addresses: [192.0.2.1], identity: a, auth: psk}\n"  \
	"  remote: {addresses: [192.0.2.2], identity: b, auth: psk}\n" \
	"  secret: s\n"
#define CHILDREN "  children: [{name: c, local: [10.0.0.0/8], remote: [\"2001:db8::/32\"]}]\n"

static int
read_text(struct policy_ike **out, const char *text, struct pk_diag *diag)
{
	struct policy_findings *f;
	int rc;

	assert_int_equal(policy_findings_create(&f), 0);
	rc = policy_ike_read(out, "f", text, strlen(text), f);
	if (rc == -EINVAL)
		policy_findings_first(f, diag);
	policy_findings_destroy(f);
	return rc;
}

static void
defaults(void **state)
{
	const struct policy_ike_peer *p;
	const struct policy_ike_child *c;
	struct policy_ike *ike;
	struct pk_diag diag;

	(void)state;
	assert_int_equal(read_text(&ike, HEAD ENDS CHILDREN, &diag), 0);
	assert_int_equal(policy_ike_count(ike), 1);
	p = policy_ike_get(ike, 0);
	assert_string_equal(p->name, "p");
	assert_string_equal(p->secret, "s");
	assert_string_equal(p->remote.addresses.at[0], "192.0.2.2");
	assert_int_equal(p->local.auth, POLICY_IKE_AUTH_PSK);
	assert_int_equal(p->rekey_ns, 4 * 3600 * PK_NS_PER_S);
	assert_int_equal(p->dpd_ns, 30 * PK_NS_PER_S);
	assert_int_equal(p->fragmentation, POLICY_IKE_FRAGMENTATION_YES);
	assert_true(p->mobike);
	assert_int_equal(p->nb_children, 1);
	c = &p->children[0];
	assert_int_equal(c->mode, POLICY_IKE_TUNNEL);
	assert_int_equal(c->replay_window, 1024);
	assert_int_equal(c->local.at[0].prefix.len, 8);
	assert_int_equal(c->remote.at[0].prefix.addr.family, 6);
	assert_int_equal(c->remote.at[0].high, UINT16_MAX);
	policy_ike_destroy(ike);
}

static void
everything(void **state)
{
	static const char text[] = HEAD
	    "  local: {addresses: [192.0.2.1, \"2001:db8::1\"], identity: \"C=CH, CN=a\", auth: certificate, "
	    "certificate: a.crt, key: a.key}\n"
	    "  remote: {addresses: any, identity: \"*.example.org\", auth: certificate, authorities: [ca.crt, b.crt]}\n"
	    "  proposals: [aes256gcm16-prfsha384-ecp384]\n"
	    "  rekey: 90m\n  reauthenticate: 1d\n  dpd: 0\n  keyingTries: 3\n  fragmentation: accept\n"
	    "  unique: keep\n  mobike: false\n  encapsulate: true\n"
	    "  children:\n"
	    "    - name: one\n      mode: transport\n      local: [dynamic tcp/443]\n"
	    "      remote: [192.0.2.0/24 udp/500-600, 198.51.100.7 icmp]\n"
	    "      start: none\n      onDpd: trap\n      onClose: start\n      rekey: 10m\n      life: 11m\n"
	    "      rekeyBytes: 64g\n      lifeBytes: 65g\n      rekeyPackets: 10\n      lifePackets: 11\n"
	    "      inactivity: 5m\n      replayWindow: 0\n      tfc: 1400\n      copyDf: false\n"
	    "      copyEcn: false\n      copyDscp: both\n"
	    "    - {name: two, local: [0.0.0.0/0], remote: [0.0.0.0/0]}\n";
	const struct policy_ike_peer *p;
	const struct policy_ike_child *c;
	struct policy_ike *ike;
	struct pk_diag diag;

	(void)state;
	assert_int_equal(read_text(&ike, text, &diag), 0);
	p = policy_ike_get(ike, 0);
	assert_int_equal(p->remote.addresses.nb, 0);
	assert_int_equal(p->remote.authorities.nb, 2);
	assert_string_equal(p->local.key, "a.key");
	assert_int_equal(p->rekey_ns, 5400 * PK_NS_PER_S);
	assert_int_equal(p->dpd_ns, 0);
	assert_int_equal(p->unique, POLICY_IKE_UNIQUE_KEEP);
	assert_false(p->mobike);
	assert_true(p->encapsulate);
	assert_int_equal(p->nb_children, 2);
	c = &p->children[0];
	assert_int_equal(c->mode, POLICY_IKE_TRANSPORT);
	assert_int_equal(c->local.at[0].prefix.addr.family, 0);
	assert_int_equal(c->local.at[0].proto, IPPROTO_TCP);
	assert_int_equal(c->local.at[0].low, 443);
	assert_int_equal(c->local.at[0].high, 443);
	assert_int_equal(c->remote.at[0].low, 500);
	assert_int_equal(c->remote.at[0].high, 600);
	assert_int_equal(c->remote.at[1].proto, IPPROTO_ICMP);
	assert_int_equal(c->remote.at[1].prefix.len, 32);
	assert_int_equal(c->on_dpd, POLICY_IKE_START_TRAP);
	assert_int_equal(c->on_close, POLICY_IKE_START_NOW);
	assert_int_equal(c->rekey_bytes, UINT64_C(64) << 30);
	assert_int_equal(c->replay_window, 0);
	assert_int_equal(c->copy_dscp, POLICY_IKE_COPY_BOTH);
	policy_ike_destroy(ike);
}

/* Each slip is refused, at its place, and the sentence says what was meant. */
static void
slips(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{ "kind: IkePeer\n", "lacks \"apiVersion\"" },
		{ "apiVersion: picket.io/v1\nkind: IkePear\nmetadata: {name: p}\nspec: {}\n",
		    "must be IkePeer" },
		{ HEAD ENDS, "lacks \"children\"" },
		{ HEAD CHILDREN, "lacks \"local\"" },
		{ HEAD ENDS CHILDREN "  dqd: 1s\n", "did you mean \"dpd\"" },
		{ HEAD ENDS CHILDREN "  dpd: 5\n", "must be a time" },
		{ HEAD ENDS CHILDREN "  dpd: 10ms\n", "must be a time" },
		{ HEAD ENDS "  children: [{name: c, local: [10.0.0.1/8], remote: [10.0.0.0/8]}]\n",
		    "10.0.0.1/8" },
		{ HEAD ENDS
		    "  children: [{name: c, local: [10.0.0.0/8 tcp/99999], remote: [10.0.0.0/8]}]\n",
		    "names no service" },
		{ HEAD ENDS
		    "  children: [{name: c, local: [10.0.0.0/8 tcp/9-8], remote: [10.0.0.0/8]}]\n",
		    "names no service" },
		{ HEAD ENDS
		    "  children: [{name: c, local: [10.0.0.0/8 icmp/8], remote: [10.0.0.0/8]}]\n",
		    "names no service" },
		{ HEAD ENDS "  children: [{name: c, local: [], remote: [10.0.0.0/8]}]\n",
		    "an empty list" },
		{ HEAD ENDS
		    "  children: [{name: c, local: [10.0.0.0/8], remote: [10.0.0.0/8], rekey: 2h, life: 1h}]\n",
		    "must be longer" },
		{ HEAD ENDS
		    "  children: [{name: c, local: [10.0.0.0/8], remote: [10.0.0.0/8], replayWindow: 16}]\n",
		    "from 32 packets on" },
		{ HEAD ENDS
		    "  children:\n    - {name: c, local: [10.0.0.0/8], remote: [10.0.0.0/8]}\n"
		    "    - {name: c, local: [10.0.0.0/8], remote: [10.0.0.0/8]}\n",
		    "a child \"c\" already" },
		{ HEAD
		    "  local: {identity: a, auth: psk}\n  remote: {identity: b, auth: psk}\n" CHILDREN,
		    "wants a \"secret\"" },
		{ HEAD
		    "  local: {identity: a, auth: certificate}\n  remote: {identity: b, auth: psk}\n  secret: s\n" CHILDREN,
		    "wants \"certificate\" and \"key\"" },
		{ HEAD
		    "  local: {identity: a, auth: psk}\n  remote: {identity: b, auth: certificate}\n  secret: s\n" CHILDREN,
		    "wants \"authorities\"" },
		{ HEAD
		    "  local: {identity: a, auth: psk}\n  remote: {identity: b, auth: psk}\n  secret: s\n"
		    "  children: [{name: c, local: [10.0.0.0/8], remote: [10.0.0.0/8], start: start}]\n",
		    "cannot start towards" },
		{ HEAD ENDS CHILDREN "---\n" HEAD ENDS CHILDREN, "a peer \"p\" already" },
	};

	(void)state;
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		struct policy_ike *ike = NULL;
		struct pk_diag diag = { "" };

		if (read_text(&ike, cases[i].text, &diag) != -EINVAL ||
		    strstr(diag.text, cases[i].want) == NULL)
			fail_msg("case %zu: \"%s\", want \"%s\"", i, diag.text, cases[i].want);
		assert_true(strncmp(diag.text, "f:", 2) == 0);
		assert_null(ike);
	}
}

/* A sentence about a secret does not hold it. */
static void
secrets_stay_secret(void **state)
{
	struct policy_ike *ike;
	struct pk_diag diag;

	(void)state;
	assert_int_equal(
	    read_text(&ike,
	        HEAD "  local: {identity: a, auth: psk}\n  remote: {identity: b, auth: psk}\n"
	             "  secret: [hushhush]\n" CHILDREN,
	        &diag),
	    -EINVAL);
	assert_null(strstr(diag.text, "hushhush"));
}

static void
none(void **state)
{
	struct policy_ike *ike;
	struct pk_diag diag;

	(void)state;
	assert_int_equal(read_text(&ike, "", &diag), 0);
	assert_int_equal(policy_ike_count(ike), 0);
	policy_ike_destroy(ike);
	policy_ike_destroy(NULL);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(everything),
		cmocka_unit_test(slips),
		cmocka_unit_test(secrets_stay_secret),
		cmocka_unit_test(none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
