#include "ctl/policy_offline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/test.h"

/* The commands as a script sees them: words in, lines and an exit status out. */

/* picketctl.c has these beside its main(). */
int
ctl_usage(const struct ctl_context *ctx, const char *fmt, ...)
{
	(void)ctx;
	(void)fmt;
	return CTL_USAGE;
}

int
ctl_refused(const struct ctl_context *ctx, const char *fmt, ...)
{
	(void)ctx;
	(void)fmt;
	return CTL_REFUSED;
}

static char dir[] = "/tmp/picket-policy-XXXXXX";

static const char inventory[] =
    "apiVersion: picket.io/v1\n"
    "kind: Workload\n"
    "metadata: {name: web, tenant: t, labels: {app: web}}\n"
    "spec: {addresses: [192.0.2.1, \"2001:db8::1\"], ports: {http: tcp/8080}}\n"
    "---\n"
    "apiVersion: picket.io/v1\n"
    "kind: Workload\n"
    "metadata: {name: client, tenant: t, labels: {app: client}}\n"
    "spec: {addresses: [192.0.2.2, \"2001:db8::2\"]}\n";

static const char policy[] =
    "apiVersion: picket.io/v1\n"
    "kind: Policy\n"
    "metadata: {name: web, tenant: t}\n"
    "spec:\n"
    "  tier: application\n"
    "  priority: 1\n"
    "  appliesTo: {workloads: {app: web}}\n"
    "  ingress:\n"
    "    - {name: in, action: allow, services: [port/http, icmp/echo-request]}\n"
    "    - {name: no, action: reject, from: any, services: [ssh]}\n"
    "---\n"
    "apiVersion: picket.io/v1\n"
    "kind: Policy\n"
    "metadata: {name: client, tenant: t}\n"
    "spec:\n"
    "  tier: application\n"
    "  priority: 2\n"
    "  appliesTo: {workloads: {app: client}}\n"
    "  egress: [{name: out, action: allow}]\n"
    "tests:\n"
    "  - {from: {app: client}, to: {app: web}, service: port/http, expect: allow}\n";

static const char probes[] =
    "{\"id\":1,\"src\":\"t/client\",\"dst\":\"t/web\",\"proto\":\"tcp\",\"port\":\"http\"}\n"
    "{\"id\":\"b\",\"src\":\"t/client\",\"dst\":\"192.0.2.1\",\"proto\":\"tcp\",\"port\":22}\n"
    "\n"
    "{\"id\":3,\"src\":\"2001:db8::2\",\"dst\":\"t/web\",\"proto\":\"icmp\"}\n"
    "{\"id\":4,\"src\":\"t/client\",\"dst\":\"t/web\",\"proto\":\"icmp\",\"type\":0,\"code\":0}\n"
    "{\"id\":5,\"src\":\"198.51.100.1\",\"dst\":\"t/web\",\"proto\":\"udp\",\"port\":8080}\n";

static const char *
write_file(const char *name, const char *text)
{
	static char paths[8][128];
	static int next;
	char *path = paths[next++ % 8];
	FILE *f;

	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	f = fopen(path, "we");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	return path;
}

/* Run a command from inside `dir`; what it prints goes to out. */
static int
run(int (*command)(struct ctl_context *, int, char **), bool json, char *out, size_t size,
    const char *words)
{
	struct ctl_context ctx = { .json = json };
	char copy[256], *argv[16], *save = NULL;
	int argc = 0, saved, status;
	FILE *f = tmpfile();
	size_t n;

	assert_non_null(f);
	snprintf(copy, sizeof(copy), "%s", words);
	for (char *w = strtok_r(copy, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	fflush(stdout);
	saved = dup(STDOUT_FILENO);
	dup2(fileno(f), STDOUT_FILENO);
	status = command(&ctx, argc, argv);
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	rewind(f);
	n = fread(out, 1, size - 1, f);
	out[n] = '\0';
	fclose(f);
	return status;
}

static void
test_check(void **state)
{
	char out[4096];

	(void)state;
	assert_int_equal(
	    run(ctl_policy_check, false, out, sizeof(out), "--inventory inv.yaml p.yaml"), 0);
	assert_string_equal(out,
	    "p.yaml:19:12: note: rule \"out\" allows everything to the whole world\n"
	    "0 errors, 0 warnings, 1 note, 1 of 1 test passed\n");
	/* The same file twice is one source. */
	assert_int_equal(
	    run(ctl_policy_check, false, out, sizeof(out), "--inventory=inv.yaml ."), 1);
	assert_string_equal(out,
	    "./slip.yaml:2:7: unknown kind \"Polcy\"; did you mean \"Policy\"?\n"
	    "1 error, 0 warnings, 0 of 0 tests passed\n");
	assert_int_equal(run(ctl_policy_check, true, out, sizeof(out), "slip.yaml"), 1);
	assert_string_equal(out,
	    "{\"type\":\"finding\",\"severity\":\"error\",\"file\":\"slip.yaml\",\"line\":2,\"column\":7,"
	    "\"code\":\"unknown-kind\",\"text\":\"unknown kind \\\"Polcy\\\"; did you mean \\\"Policy\\\"?\"}\n"
	    "{\"type\":\"summary\",\"errors\":1,\"warnings\":0,\"notes\":0,\"tests\":{\"passed\":0,\"failed\":0}}\n");
	assert_int_equal(run(ctl_policy_check, false, out, sizeof(out), "nowhere.yaml"), 1);
	assert_string_equal(out,
	    "nowhere.yaml: No such file or directory\n1 error, 0 warnings, 0 of 0 tests passed\n");
	assert_int_equal(run(ctl_policy_check, false, out, sizeof(out), ""), CTL_USAGE);
	assert_int_equal(
	    run(ctl_policy_check, false, out, sizeof(out), "--inventry x p.yaml"), CTL_USAGE);
	assert_int_equal(
	    run(ctl_policy_check, false, out, sizeof(out), "p.yaml --inventory"), CTL_USAGE);
}

#define RULE(policy, name, line) \
	"{\"policy\":\"" policy "\",\"name\":\"" name "\",\"file\":\"p.yaml\",\"line\":" #line "}"

static void
test_eval(void **state)
{
	char out[4096];

	(void)state;
	assert_int_equal(run(ctl_policy_eval, true, out, sizeof(out),
	                     "--inventory inv.yaml --policy p.yaml --probes probes.jsonl"),
	    0);
	assert_string_equal(out,
	    "{\"id\":1,\"egress\":\"allow\",\"ingress\":\"allow\",\"verdict\":\"allow\",\"rule\":" RULE(
	        "web", "in",
	        9) "}\n"
	           "{\"id\":\"b\",\"egress\":\"allow\",\"ingress\":\"reject\",\"verdict\":\"reject\",\"rule\":" RULE(
	               "web", "no",
	               10) "}\n"
	                   "{\"id\":3,\"egress\":\"allow\",\"ingress\":\"allow\",\"verdict\":\"allow\",\"rule\":" RULE(
	                       "web", "in",
	                       9) "}\n"
	                          "{\"id\":4,\"egress\":\"allow\",\"ingress\":\"deny\",\"verdict\":\"deny\",\"rule\":"
	                          "{\"policy\":\"default\",\"name\":\"tier application\",\"file\":\"\",\"line\":0}}\n"
	                          "{\"id\":5,\"egress\":\"allow\",\"ingress\":\"deny\",\"verdict\":\"deny\",\"rule\":"
	                          "{\"policy\":\"default\",\"name\":\"tier application\",\"file\":\"\",\"line\":0}}\n");
	assert_int_equal(
	    run(ctl_policy_eval, true, out, sizeof(out), "--policy p.yaml"), CTL_USAGE);
	assert_int_equal(run(ctl_policy_eval, true, out, sizeof(out),
	                     "--policy slip.yaml --probes probes.jsonl"),
	    1);
	assert_string_equal(out, "");
}

/* Both ends ask for encryption: what they come to together stands beside the verdict. */
static void
test_encryption(void **state)
{
	static const struct {
		const char *egress, *ingress, *json, *text;
	} cases[] = {
		{ "", "", "\"line\":7}}", "tcp/80: allow\n" },
		{ ", encryption: required", "", "\"encryption\":\"required\"}",
		    "tcp/80: allow, encrypted\n" },
		{ ", encryption: required", ", encryption: ipsec", "\"encryption\":\"ipsec\"}",
		    "tcp/80: allow, inside IPsec\n" },
		{ ", encryption: mtls", ", encryption: mtls", "\"encryption\":\"mtls\"}",
		    "tcp/80: allow, inside mutual TLS\n" },
		{ ", encryption: mtls", ", encryption: ipsec", "\"encryption\":\"conflict\"}",
		    "one side wants IPsec and the other mutual TLS, so it drops\n" },
	};
	char text[1024], out[4096];

	(void)state;
	write_file("one.jsonl",
	    "{\"id\":1,\"src\":\"t/client\",\"dst\":\"t/web\",\"proto\":\"tcp\",\"port\":80}\n");
	for (size_t i = 0; i < PK_COUNT(cases); i++) {
		snprintf(text, sizeof(text),
		    "apiVersion: picket.io/v1\n"
		    "kind: Policy\n"
		    "metadata: {name: p, tenant: t}\n"
		    "spec:\n"
		    "  tier: application\n"
		    "  priority: 1\n"
		    "  ingress: [{name: in, action: allow%s}]\n"
		    "  egress: [{name: out, action: allow%s}]\n",
		    cases[i].ingress, cases[i].egress);
		write_file("encryption.yaml", text);
		assert_int_equal(
		    run(ctl_policy_eval, true, out, sizeof(out),
		        "--inventory inv.yaml --policy encryption.yaml --probes one.jsonl"),
		    0);
		assert_non_null(strstr(out, cases[i].json));
		assert_int_equal(
		    run(ctl_policy_explain, false, out, sizeof(out),
		        "--inventory inv.yaml --policy encryption.yaml t/client t/web tcp/80"),
		    0);
		assert_non_null(strstr(out, cases[i].text));
	}
}

static void
test_explain(void **state)
{
	char out[4096];

	(void)state;
	assert_int_equal(run(ctl_policy_explain, false, out, sizeof(out),
	                     "--inventory inv.yaml --policy p.yaml t/client t/web ssh"),
	    0);
	assert_string_equal(out,
	    "t/client -> t/web tcp/22: reject\n"
	    "  egress   allow   rule \"out\" of policy \"client\"  p.yaml:19\n"
	    "  ingress  reject  rule \"no\" of policy \"web\"  p.yaml:10\n");
	assert_int_equal(run(ctl_policy_explain, false, out, sizeof(out),
	                     "--inventory inv.yaml --policy p.yaml t/client t/wbe ssh"),
	    1);
	assert_int_equal(
	    run(ctl_policy_explain, false, out, sizeof(out), "t/client t/web ssh"), CTL_USAGE);
}

/* Exit statuses are what scripts go by. */
static void
test_analysis(void **state)
{
	char out[8192];

	(void)state;
	assert_int_equal(
	    run(ctl_policy_reach, false, out, sizeof(out), "--inventory inv.yaml --policy p.yaml"),
	    0);
	assert_non_null(strstr(out, "t/client  "));
	assert_int_equal(run(ctl_policy_reach, true, out, sizeof(out),
	                     "--inventory inv.yaml --policy p.yaml --from t/client --to t/web"),
	    0);
	assert_string_equal(out,
	    "{\"src\":\"t/client\",\"dst\":\"t/web\",\"conn\":\"TCP 8080\","
	    "\"other\":\"icmpv4/8 icmpv6/128\",\"family\":\"both\"}\n");
	assert_int_equal(run(ctl_policy_reach, false, out, sizeof(out),
	                     "--inventory inv.yaml --policy p.yaml --from t/cleint"),
	    1);
	assert_int_equal(run(ctl_policy_reach, false, out, sizeof(out), "p.yaml -o tabel"), 2);
	assert_int_equal(run(ctl_policy_reach, false, out, sizeof(out), "p.yaml -o dot"), 0);
	assert_non_null(strstr(out, "digraph {"));
	assert_int_equal(
	    run(ctl_policy_diff, false, out, sizeof(out), "--inventory inv.yaml p.yaml p.yaml"), 0);
	assert_string_equal(out, "no change of connectivity\n");
	assert_int_equal(run(ctl_policy_diff, false, out, sizeof(out), "inv.yaml p.yaml"), 1);
	assert_int_equal(run(ctl_policy_diff, false, out, sizeof(out), "slip.yaml p.yaml"), 2);
	assert_int_equal(run(ctl_policy_diff, false, out, sizeof(out), "p.yaml"), 2);
	assert_int_equal(run(ctl_policy_exposure, false, out, sizeof(out), "inv.yaml p.yaml"), 0);
	assert_non_null(strstr(out, "t/web     ingress"));
	assert_int_equal(run(ctl_policy_impact, false, out, sizeof(out),
	                     "--inventory inv.yaml --policy p.yaml --flows flows.csv"),
	    1);
	assert_non_null(strstr(out, "1 of 2 flows would be treated otherwise\n"));
	assert_int_equal(run(ctl_policy_impact, false, out, sizeof(out),
	                     "--inventory inv.yaml --policy p.yaml --flows monitor.log"),
	    0);
	assert_non_null(strstr(out, "0 of 2 flows would be treated otherwise\n"));
	assert_int_equal(run(ctl_policy_impact, false, out, sizeof(out),
	                     "--inventory inv.yaml --policy p.yaml --flows bad.csv"),
	    1);
	assert_int_equal(run(ctl_policy_recommend, false, out, sizeof(out),
	                     "--inventory inv.yaml --flows flows.csv"),
	    0);
	assert_non_null(strstr(out, "appliesTo: {workloads: {\"app\": \"web\"}}"));
	assert_int_equal(
	    run(ctl_policy_recommend, false, out, sizeof(out), "--inventory inv.yaml"), 2);
}

static int
setup(void **state)
{
	(void)state;
	if (mkdtemp(dir) == NULL || chdir(dir) < 0)
		return -1;
	write_file("inv.yaml", inventory);
	write_file("p.yaml", policy);
	write_file("probes.jsonl", probes);
	write_file(
	    "flows.csv", "t/client,t/web,tcp,8080,allow\n192.0.2.2,192.0.2.1,udp,53,allow\n");
	/* The same flow in four rows; what is dropped for other reasons is no flow. */
	write_file("monitor.log",
	    "{\"kind\":\"opened\",\"verdict\":\"pass\",\"proto\":\"tcp\",\"src\":\"192.0.2.2\",\"dst\":\"192.0.2.1\",\"sport\":1,\"dport\":8080}\n"
	    "{\"kind\":\"packet\",\"verdict\":\"pass\",\"proto\":\"tcp\",\"src\":\"192.0.2.1\",\"dst\":\"192.0.2.2\",\"sport\":8080,\"dport\":1}\n"
	    "{\"kind\":\"packet\",\"verdict\":\"drop\",\"reason\":\"rule-deny\",\"proto\":\"udp\",\"src\":\"192.0.2.2\",\"dst\":\"192.0.2.1\",\"dport\":9}\n"
	    "{\"kind\":\"packet\",\"verdict\":\"drop\",\"reason\":\"ip-checksum\",\"proto\":\"tcp\",\"src\":\"192.0.2.2\",\"dst\":\"192.0.2.1\",\"dport\":8080}\n");
	write_file("bad.csv", "t/client,t/web,tcp,http,allow\n");
	write_file("slip.yaml", "apiVersion: picket.io/v1\nkind: Polcy\n");
	return 0;
}

static int
teardown(void **state)
{
	static const char *const names[] = { "inv.yaml", "p.yaml", "probes.jsonl", "slip.yaml",
		"flows.csv", "monitor.log", "bad.csv", "one.jsonl", "encryption.yaml" };

	(void)state;
	for (size_t i = 0; i < PK_COUNT(names); i++)
		unlink(names[i]);
	return chdir("/") < 0 ? -1 : rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_eval),
		cmocka_unit_test(test_encryption),
		cmocka_unit_test(test_explain),
		cmocka_unit_test(test_analysis),
	};

	return cmocka_run_group_tests_name("policy/offline", tests, setup, teardown);
}
