#include "tests/unit/policy_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t state_ = 20261;

int
world_pick(int n)
{
	state_ = state_ * 1664525u + 1013904223u;
	return (int)((state_ >> 8) % (uint32_t)n);
}

void
world_name(int i, char name[32])
{
	snprintf(name, 32, "%s%d",
	    i < NB_WORKLOADS                     ? "w"
	        : i < NB_WORKLOADS + NB_POLICIES ? "p"
	                                         : "o",
	    i);
}

static const char *
tenant(int all)
{
	static const char *const names[] = { "t0", "t1", "t2", "\"*\"" };

	return names[world_pick(all ? 4 : 3)];
}

static void
print_labels(FILE *f)
{
	const char *part = "";

	fputs("{", f);
	for (int k = 0; k < 3; k++) {
		if (world_pick(4) == 0)
			continue;
		fprintf(f, "%sk%d: v%d", part, k, world_pick(3));
		part = ", ";
	}
	fputs("}", f);
}

static void
print_selector(FILE *f)
{
	const char *part = "";

	fputs("{", f);
	for (int k = 0; k < 3; k++) {
		/* One key is named so seldom that it comes and goes. */
		if (world_pick(k == 2 ? 12 : 2) == 0 || (k == 2 && world_pick(6) != 0))
			continue;
		switch (world_pick(4)) {
		case 0:
			fprintf(f, "%sk%d: v%d", part, k, world_pick(3));
			break;
		case 1:
			fprintf(f, "%sk%d: [v%d, v%d]", part, k, world_pick(2), 2);
			break;
		case 2:
			fprintf(f, "%s\"!k%d\": v%d", part, k, world_pick(3));
			break;
		default:
			fprintf(f, "%s\"%sk%d\": ", part, world_pick(2) ? "!" : "", k);
			break;
		}
		part = ", ";
	}
	fputs("}", f);
}

/* Seldom enough that policy at times does not ask for posture at all. */
static void
print_attested(FILE *f)
{
	if (world_pick(8) == 0)
		fprintf(f, ", attested: %s", world_pick(2) ? "true" : "false");
}

static void
print_peers(FILE *f, int with_group)
{
	int low = 64 * world_pick(2);

	switch (world_pick(5)) {
	case 0:
		fprintf(f, "[{networks: [192.0.2.%d/26], except: [192.0.2.%d/28]}]", low,
		    low + 16 * world_pick(2));
		break;
	case 1:
		if (with_group) {
			fprintf(f, "[{group: g%d}]", world_pick(2));
			break;
		}
		/* fall through */
	default:
		fputs("[{workloads: ", f);
		print_selector(f);
		if (world_pick(3) == 0)
			fprintf(f, ", tenant: %s", tenant(1));
		print_attested(f);
		fputs("}]", f);
		break;
	}
}

static void
print_workload(FILE *f, int i)
{
	/* At times an address or a name that another has. */
	int same = world_pick(40) == 0 ? (i + 1) % NB_WORKLOADS : i;

	fprintf(f,
	    "apiVersion: picket.io/v1\nkind: Workload\nmetadata: {name: w%d, tenant: %s, labels: ",
	    world_pick(60) == 0 ? 0 : i, tenant(0));
	print_labels(f);
	fputs("}\nspec: {", f);
	if (world_pick(8) != 0)
		fprintf(f, "addresses: [192.0.2.%d], ", 1 + same * 5);
	if (world_pick(8) != 0)
		fprintf(f, "dpu: dpu%d", world_pick(3));
	else
		fputs("vrf: 0", f);
	if (world_pick(4) == 0)
		fprintf(f, ", ports: {http: tcp/%d}", 8080 + world_pick(2));
	fputs("}\n", f);
}

static void
print_policy(FILE *f, int i)
{
	static const char *const tiers[] = { "emergency", "application", "application",
		"baseline" };
	static const char *const verdicts[] = { "allow", "deny", "pass" };

	fprintf(f,
	    "apiVersion: picket.io/v1\nkind: Policy\nmetadata: {name: p%d, tenant: %s}\nspec:\n"
	    "  tier: %s\n  priority: %d\n",
	    world_pick(30) == 0 ? 0 : i, tenant(1), tiers[world_pick(4)],
	    world_pick(30) == 0 ? 5 : 100 + i);
	if (world_pick(6) == 0) {
		fprintf(f, "  appliesTo: {group: h}\n");
	} else if (world_pick(3) != 0) {
		fputs("  appliesTo: {workloads: ", f);
		print_selector(f);
		print_attested(f);
		fputs("}\n", f);
	}
	if (world_pick(5) == 0)
		fputs("  mode: audit\n", f);
	for (int d = 0; d < 2; d++) {
		int n = d == 0 ? 1 + world_pick(2) : world_pick(2);

		if (n == 0)
			continue;
		fprintf(f, "  %s:\n", d == 0 ? "ingress" : "egress");
		for (int r = 0; r < n; r++) {
			fprintf(f, "    - {name: r%d, action: %s, %s: ", r, verdicts[world_pick(3)],
			    d == 0 ? "from" : "to");
			print_peers(f, 1);
			if (world_pick(2) == 0)
				fprintf(f, ", services: [tcp/%d]", 80 + world_pick(3));
			else if (world_pick(d == 0 ? 5 : 40) == 0)
				fputs(", services: [port/http]", f);
			fputs("}\n", f);
		}
	}
}

/* Groups that policies name: g0, g1 with networks, h without.  At times one is missing. */
static void
print_group(FILE *f, int i)
{
	static const char *const names[] = { "g0", "g1", "h" };

	fprintf(f,
	    "apiVersion: picket.io/v1\nkind: Group\nmetadata: {name: %s, tenant: \"*\"}\nspec:\n"
	    "  members:\n    - {workloads: ",
	    names[i]);
	print_selector(f);
	fputs(", tenant: t0}\n    - {workloads: ", f);
	print_selector(f);
	fputs(", tenant: \"*\"}\n", f);
	if (i == 1)
		fputs("    - {networks: [198.51.100.0/24]}\n", f);
}

char *
world_text(int i)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (i < NB_WORKLOADS)
		print_workload(f, i);
	else if (i < NB_WORKLOADS + NB_POLICIES)
		print_policy(f, i - NB_WORKLOADS);
	else
		print_group(f, i - NB_WORKLOADS - NB_POLICIES);
	fclose(f);
	return text;
}

static int attested_[3];

int
world_attested(void *arg, const char *dpu)
{
	(void)arg;
	if (strlen(dpu) != 4 || dpu[3] < '0' || dpu[3] > '2')
		return 0; /* a workload behind no DPU */
	return attested_[dpu[3] - '0'];
}

const char *
world_flip(void)
{
	static const char *const dpus[] = { "dpu0", "dpu1", "dpu2" };
	int i = world_pick(3);

	attested_[i] = !attested_[i];
	return dpus[i];
}

int
world_choose(void)
{
	if (world_pick(20) == 0)
		return NB_WORKLOADS + NB_POLICIES + world_pick(NB_OTHERS);
	return world_pick(3) == 0 ? NB_WORKLOADS + world_pick(NB_POLICIES)
	                          : world_pick(NB_WORKLOADS);
}
