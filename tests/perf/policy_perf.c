/*
 * What policy costs at scale: 25,000 tenants with 100,000 workloads and 75,000 policies, behind 1,000
 * DPUs, each tenant's policies and each workload a source of their own, as a server has them.
 *
 *   policy_perf               prints the names of the figures
 *   policy_perf NAME...       a JSON line for each
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "lib/base.h"
#include "policy/query.h"
#include "policy/server/pack.h"
#include "policy/server/span.h"

#ifndef NB_TENANTS
#define NB_TENANTS 25000
#endif
#define PER_TENANT   4 /* workloads */
#define POLICIES     3
#define NB_DPUS      1000
#define NB_APPLIED   10000
#define NB_RELABELS  2000
#define NB_QUESTIONS 2000

static double
seconds(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void
say(const char *name, double value, const char *unit)
{
	printf(
	    "{\"name\":\"%s\",\"value\":%.*f,\"unit\":\"%s\",\"better\":\"lower\",\"runs\":[]}\n",
	    name, value < 10 ? 2 : 0, value, unit);
	fflush(stdout);
}

/* ---- sources ---- */

struct sources {
	struct policy_change *at;
	size_t nb, room;
};

static void
add(struct sources *s, char *name, char *text)
{
	if (s->nb == s->room) {
		s->room = s->room != 0 ? 2 * s->room : 1024;
		s->at = realloc(s->at, s->room * sizeof(s->at[0]));
	}
	PK_ASSERT(name != NULL && text != NULL && s->at != NULL);
	s->at[s->nb++] = (struct policy_change){ name, text, strlen(text) };
}

static void
fini(struct sources *s)
{
	for (size_t i = 0; i < s->nb; i++) {
		free((char *)(uintptr_t)s->at[i].name);
		free((char *)(uintptr_t)s->at[i].text);
	}
	free(s->at);
}

static char *
workload(int tenant, int i, int label)
{
	char *text;
	int n = tenant * PER_TENANT + i;

	PK_ASSERT(asprintf(&text,
	              "apiVersion: picket.io/v1\nkind: Workload\n"
	              "metadata: {name: w%d, tenant: n%d, labels: {app: a%d, env: prod}}\n"
	              "spec: {addresses: [10.%d.%d.%d], dpu: dpu%d}\n",
	              i, tenant, label, n >> 16, n >> 8 & 255, n & 255, n % NB_DPUS) > 0);
	return text;
}

static char *
policies(int tenant)
{
	size_t len;
	char *text;
	FILE *f = open_memstream(&text, &len);

	PK_ASSERT(f != NULL);
	for (int p = 0; p < POLICIES; p++)
		fprintf(f,
		    "%sapiVersion: picket.io/v1\nkind: Policy\nmetadata: {name: p%d, tenant: n%d}\n"
		    "spec:\n  tier: application\n  priority: %d\n"
		    "  appliesTo: {workloads: {app: a%d}}\n  ingress:\n"
		    "    - {name: in, action: allow, from: [{workloads: {app: a%d}}], services: [tcp/%d]}\n"
		    "  egress:\n"
		    "    - {name: out, action: allow, to: [{networks: [10.%d.0.0/16]}], services: [tcp/443]}\n",
		    p == 0 ? "" : "---\n", p, tenant, 100 + p, p, p + 1, 8000 + p, tenant % 8);
	fclose(f);
	return text;
}

static struct sources
make_sources(void)
{
	struct sources s = { 0 };
	char *name;

	for (int t = 0; t < NB_TENANTS; t++) {
		PK_ASSERT(asprintf(&name, "n%d.yaml", t) > 0);
		add(&s, name, policies(t));
		for (int i = 0; i < PER_TENANT; i++) {
			PK_ASSERT(asprintf(&name, "workload/n%d/w%d", t, i) > 0);
			add(&s, name, workload(t, i, i));
		}
	}
	return s;
}

/* ---- the server, as far as it is not about streams ---- */

struct server {
	struct policy_ids *ids;
	struct policy_compiler *pc;
	struct policy_touched touched;
	struct server_shadow *shadow;
	struct server_spans *spans;
	unsigned int nb_changed;
	POLICY_VECTOR(struct server_step) steps; /* of the change under way, by DPU */
	POLICY_VECTOR(struct server_span *) concerned;
};

/* What gRPC, HTTP/2 and TLS 1.3 add to a small message: 5 + 9 + 22 bytes. */
#define FRAMING 36

/* A span is changed once for each resource, and all of that is one message. */
static size_t
sent_to(const struct server *s, const struct server_span *span)
{
	Picket__V1__Begin begin = PICKET__V1__BEGIN__INIT;
	Picket__V1__Commit commit = PICKET__V1__COMMIT__INIT;
	struct server_out changes = { 0 }, head = { 0 }, tail = { 0 };
	struct server_step *own = calloc(s->steps.nb, sizeof(*own));
	size_t at = 0, offset = 0, nb = 0, len;

	PK_ASSERT(own != NULL);
	for (size_t i = 0; i < s->steps.nb; i++)
		if (s->concerned.at[i] == span)
			own[nb++] = s->steps.at[i];
	server_pack_changes(&changes, own, nb, &at, &offset);
	begin.generation = commit.generation = begin.base_generation = 1000000;
	commit.state_hash = UINT64_MAX;
	server_pack_update(&head, &tail, 1000000, &begin, changes.len, &commit);
	PK_ASSERT(at == nb && !changes.failed && !head.failed && !tail.failed);
	len = head.len + changes.len + tail.len + FRAMING;
	free(own);
	free(changes.bytes);
	free(head.bytes);
	free(tail.bytes);
	return len;
}

static void
forget_steps(struct server *s)
{
	for (size_t i = 0; i < s->steps.nb; i++) {
		policy_resource_put(s->steps.at[i].old);
		policy_resource_put(s->steps.at[i].now);
	}
	s->steps.nb = s->concerned.nb = 0;
}

static void
on_changed(
    void *arg, struct server_span *span, struct policy_resource *old, struct policy_resource *now)
{
	struct server *s = arg;
	struct server_span **to;
	struct server_step *step;

	if (s->nb_changed++ >= 1000 || span->name[0] == '\0')
		return; /* the first generation */
	to = POLICY_PUSH(&s->concerned);
	step = POLICY_PUSH(&s->steps);
	PK_ASSERT(to != NULL && step != NULL);
	*to = span;
	*step = (struct server_step){ old != NULL ? policy_resource_get(old) : NULL,
		now != NULL ? policy_resource_get(now) : NULL };
}

static void
change(struct server *s, const struct policy_change *at, size_t nb)
{
	struct policy_findings *f;
	struct pk_diag diag;

	PK_ASSERT(policy_findings_create(&f) == 0);
	if (policy_compiler_change(s->pc, at, nb, &s->touched, f) != 0) {
		policy_findings_first(f, &diag);
		fprintf(stderr, "policy_perf: %s\n", diag.text);
		exit(1);
	}
	policy_findings_destroy(f);
	policy_compiler_keep(s->pc);
}

static void
follow(struct server *s)
{
	struct server_change c = { 0 };

	PK_ASSERT(
	    server_shadow_follow(s->shadow, policy_compiler_table(s->pc), &s->touched, &c) == 0);
	policy_touched_clear(&s->touched);
	forget_steps(s);
	s->nb_changed = 0;
	PK_ASSERT(server_spans_apply(s->spans, &c, on_changed, s) == 0);
}

/* Now, not ever: the texts of the test count, too. */
static double
memory_mb(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)u.ru_maxrss / 1024;
}

static void
relabel(struct server *s)
{
	double start, worst = 0, all = 0;
	size_t most = 0, bytes = 0, messages = 0;
	uint64_t whole = policy_compiler_nb_whole(s->pc);

	for (int i = 0; i < NB_RELABELS; i++) {
		int tenant = (int)((unsigned int)i * 7919U % NB_TENANTS);
		char name[64], *text = workload(tenant, i % PER_TENANT, (i + 1 + i / 4) % 5);
		struct policy_change ch = { name, text, strlen(text) };
		double took;

		snprintf(name, sizeof(name), "workload/n%d/w%d", tenant, i % PER_TENANT);
		start = seconds(CLOCK_THREAD_CPUTIME_ID);
		change(s, &ch, 1);
		follow(s);
		took = seconds(CLOCK_THREAD_CPUTIME_ID) - start;
		all += took;
		worst = PK_MAX(worst, took);
		free(text);
		for (size_t k = 0; k < s->steps.nb; k++) {
			size_t len, first = 0;

			while (s->concerned.at[first] != s->concerned.at[k])
				first++;
			if (first < k)
				continue; /* it has been counted */
			len = sent_to(s, s->concerned.at[k]);
			most = PK_MAX(most, len);
			bytes += len;
			messages++;
		}
	}
	PK_ASSERT(policy_compiler_nb_whole(s->pc) == whole && s->nb_changed > 0);
	say("policy.relabel.cpu_us", all / NB_RELABELS * 1e6, "us");
	say("policy.relabel.worst_us", worst * 1e6, "us");
	say("policy.relabel.bytes", (double)most, "B");
	say("policy.relabel.bytes_each", (double)bytes / (double)messages, "B");
	say("policy.relabel.dpus", (double)messages / NB_RELABELS, "DPUs");
}

static void
edit(struct server *s)
{
	double start = seconds(CLOCK_THREAD_CPUTIME_ID);

	for (int i = 0; i < NB_RELABELS; i++) {
		int tenant = (int)((unsigned int)i * 7907U % NB_TENANTS);
		char name[64], *text = policies(tenant);
		struct policy_change ch = { name, text, strlen(text) };

		memcpy(strstr(text, "tcp/443"), "tcp/444", 7);
		snprintf(name, sizeof(name), "n%d.yaml", tenant);
		change(s, &ch, 1);
		follow(s);
		free(text);
	}
	say("policy.edit.cpu_us", (seconds(CLOCK_THREAD_CPUTIME_ID) - start) / NB_RELABELS * 1e6,
	    "us");
}

static void
explain(struct server *s)
{
	double start = seconds(CLOCK_MONOTONIC);

	for (int i = 0; i < NB_QUESTIONS; i++) {
		char src[64], dst[64];
		struct policy_query *q;
		struct policy_end a, b;
		struct policy_answer out;
		struct pk_diag diag;
		int t = (int)((unsigned int)i * 7901U % NB_TENANTS);

		snprintf(src, sizeof(src), "n%d/w%d", t, i % PER_TENANT);
		snprintf(dst, sizeof(dst), "n%d/w%d", t, (i + 1) % PER_TENANT);
		if (policy_query_create_live(&q, s->pc, &diag) != 0 ||
		    policy_query_end(q, src, &a, &diag) != 0 ||
		    policy_query_end(q, dst, &b, &diag) != 0 ||
		    policy_query_flow(q, &a, &b, (struct policy_point){ 6, 8000 }, &out, &diag) !=
		        0) {
			fprintf(stderr, "policy_perf: %s\n", diag.text);
			exit(1);
		}
		PK_ASSERT(out.side[PK_EGRESS].judged && out.side[PK_INGRESS].judged);
		policy_query_destroy(q);
	}
	say("policy.explain_us", (seconds(CLOCK_MONOTONIC) - start) / NB_QUESTIONS * 1e6, "us");
}

static void
count_one(void *arg, const char *tenant, const char *name, const char *tier)
{
	(void)tenant;
	(void)name;
	(void)tier;
	++*(unsigned int *)arg;
}

/* Ten thousand policies for one workload. */
static void
applied(void)
{
	struct server s = { 0 };
	struct sources all = { 0 };
	unsigned int n = 0;
	double start;

	PK_ASSERT(policy_ids_create(&s.ids) == 0 && policy_compiler_create(&s.pc, s.ids) == 0);
	for (int i = 0; i < NB_APPLIED; i++) {
		char *name, *text;

		PK_ASSERT(asprintf(&name, "p%d", i) > 0 &&
		    asprintf(&text,
		        "apiVersion: picket.io/v1\nkind: Policy\nmetadata: {name: p%d, tenant: n0}\n"
		        "spec:\n  tier: application\n  priority: %d\n"
		        "  ingress: [{action: allow, services: [tcp/%d]}]\n",
		        i, i, 1 + i) > 0);
		add(&all, name, text);
	}
	add(&all, strdup("w"), workload(0, 0, 0));
	change(&s, all.at, all.nb);
	start = seconds(CLOCK_MONOTONIC);
	for (int i = 0; i < 100; i++)
		PK_ASSERT(policy_compiler_applied(s.pc, "n0/w0", count_one, &n) == NB_APPLIED);
	PK_ASSERT(n == 100 * NB_APPLIED);
	say("policy.applied.10k_us", (seconds(CLOCK_MONOTONIC) - start) / 100 * 1e6, "us");
	policy_compiler_destroy(s.pc);
	policy_ids_destroy(s.ids);
	policy_touched_fini(&s.touched);
	fini(&all);
}

static void
world(void)
{
	struct sources all = make_sources();
	struct server s = { 0 };
	double start, texts = memory_mb();

	PK_ASSERT(policy_ids_create(&s.ids) == 0 && policy_compiler_create(&s.pc, s.ids) == 0);
	s.shadow = server_shadow_create();
	s.spans = server_spans_create();
	PK_ASSERT(s.shadow != NULL && s.spans != NULL);
	start = seconds(CLOCK_MONOTONIC);
	change(&s, all.at, all.nb);
	say("policy.compile.100k_s", seconds(CLOCK_MONOTONIC) - start, "s");
	say("policy.compile.100k_mb", memory_mb() - texts, "MB");
	fini(&all);
	start = seconds(CLOCK_MONOTONIC);
	follow(&s);
	say("policy.spans.100k_s", seconds(CLOCK_MONOTONIC) - start, "s");
	say("policy.server.100k_mb", memory_mb() - texts, "MB");
	relabel(&s);
	edit(&s);
	explain(&s);
	forget_steps(&s);
	free(s.steps.at);
	free(s.concerned.at);
	server_spans_destroy(s.spans);
	server_shadow_destroy(s.shadow);
	policy_compiler_destroy(s.pc);
	policy_ids_destroy(s.ids);
	policy_touched_fini(&s.touched);
}

int
main(int argc, char **argv)
{
	policy_arena_keep_memory(); /* as the server does */
	/* One world serves for all figures of it. */
	if (argc == 1)
		puts("policy.compile\npolicy.applied");
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "policy.compile") == 0)
			world();
		else if (strcmp(argv[i], "policy.applied") == 0)
			applied();
	}
	return 0;
}
