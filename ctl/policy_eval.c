#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/policy_offline.h"
#include "policy/schedule.h"
#include "policy/terms.h"

/* Probes in, verdicts out, one JSON line each: what conformance suites are run with. */

static const char *
text_of(const json_t *probe, const char *key, struct pk_diag *why)
{
	const char *text = json_string_value(json_object_get(probe, key));

	if (text == NULL)
		pk_diag_set(why, "a probe needs \"%s\", a text", key);
	return text;
}

/* A whole number from 0 to `max`, `fallback` if it is not there, -1 if it is no such thing. */
static int
number_of(const json_t *probe, const char *key, int fallback, int max, struct pk_diag *why)
{
	const json_t *v = json_object_get(probe, key);

	if (v == NULL)
		return fallback;
	if (json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) <= max)
		return (int)json_integer_value(v);
	pk_diag_set(why, "\"%s\" must be a whole number from 0 to %d", key, max);
	return -1;
}

/* Whether the flow is IPv6: by its addresses, or by what the ends can speak. */
static int
is_v6(const struct policy_query *q, const struct policy_end *src, const struct policy_end *dst)
{
	struct policy_point point[POLICY_POINTS_MAX];

	return policy_query_service(q, src, dst, "icmp/echo-request", point, NULL) == 1 &&
	    point[0].proto == IPPROTO_ICMPV6;
}

static int
read_icmp(const struct policy_query *q, const json_t *probe, const struct policy_end *src,
    const struct policy_end *dst, struct policy_point *out, struct pk_diag *why)
{
	int v6 = is_v6(q, src, dst);
	int type = number_of(probe, "type", v6 ? 128 : 8, 255, why);
	int code = number_of(probe, "code", 0, 255, why);

	if (type < 0 || code < 0)
		return -EINVAL;
	*out = (struct policy_point){ v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP,
		(uint16_t)(type << 8 | code) };
	return 0;
}

static int
read_point(const struct policy_query *q, const json_t *probe, const struct policy_end *src,
    const struct policy_end *dst, struct policy_point *out, struct pk_diag *why)
{
	const char *proto = text_of(probe, "proto", why);
	const json_t *port = json_object_get(probe, "port");
	struct policy_point points[POLICY_POINTS_MAX];
	char service[160];
	int number, rc;

	if (proto == NULL)
		return -EINVAL;
	if (strcmp(proto, "icmp") == 0)
		return read_icmp(q, probe, src, dst, out, why);
	if (strcmp(proto, "tcp") != 0 && strcmp(proto, "udp") != 0 && strcmp(proto, "sctp") != 0) {
		pk_diag_set(why, "\"proto\" must be tcp, udp, sctp or icmp, not \"%.32s\"", proto);
		return -EINVAL;
	}
	if (json_is_string(port)) {
		snprintf(service, sizeof(service), "%s/%.64s", proto, json_string_value(port));
	} else {
		number = port != NULL ? number_of(probe, "port", -1, 65535, why) : -1;
		if (port == NULL)
			pk_diag_set(why, "a probe of %s needs \"port\", a number or a name", proto);
		if (number < 0)
			return -EINVAL;
		snprintf(service, sizeof(service), "%s/%d", proto, number);
	}
	rc = policy_query_service(q, src, dst, service, points, why);
	if (rc < 0)
		return rc;
	*out = points[0];
	return 0;
}

static int
judge(struct policy_query *q, const json_t *probe, struct policy_answer *out, struct pk_diag *why)
{
	const char *src = text_of(probe, "src", why), *dst;
	struct policy_end from, to;
	struct policy_point point;
	int64_t at_s = PK_TIME_ANY;
	int rc;

	if (json_object_get(probe, "at") != NULL) {
		const char *at = text_of(probe, "at", why);

		if (at == NULL || policy_schedule_moment(at, &at_s, why) < 0)
			return -EINVAL;
	}
	if (src == NULL || (dst = text_of(probe, "dst", why)) == NULL)
		return -EINVAL;
	if ((rc = policy_query_end(q, src, &from, why)) < 0 ||
	    (rc = policy_query_end(q, dst, &to, why)) < 0 ||
	    (rc = read_point(q, probe, &from, &to, &point, why)) < 0)
		return rc;
	policy_query_at(q, at_s);
	return policy_query_flow(q, &from, &to, point, out, why);
}

static void
print_row(json_t *row)
{
	json_dumpf(row, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
	putchar('\n');
	json_decref(row);
}

/* "app": what the flow has to speak for the rules of its two ends to allow it. */
static void
put_apps(json_t *row, const struct policy_answer *a)
{
	json_t *apps = json_object();

	for (int d = 0; d < PK_DIRECTION_COUNT; d++)
		if (a->side[d].rule != NULL && a->side[d].rule->nb_apps > 0)
			json_object_set_new(apps, pk_direction_name((unsigned int)d),
			    ctl_offline_apps(a->side[d].rule));
	if (json_object_size(apps) > 0)
		json_object_set(row, "app", apps);
	json_decref(apps);
}

/* Returns 0, or -1 when the probe could not be judged. */
static int
answer(const struct ctl_offline *o, const char *file, size_t line, const char *text, size_t len)
{
	struct pk_diag why = { .text = "not a JSON object" };
	struct policy_answer a;
	json_t *probe, *row, *id;
	json_error_t error;
	int rc = -EINVAL;

	probe = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	id = json_object_get(probe, "id");
	if (probe == NULL)
		pk_diag_set(&why, "%s", error.text);
	else if (json_is_object(probe))
		rc = judge(o->query, probe, &a, &why);
	row = json_object();
	json_object_set_new(row, "id", id != NULL ? json_incref(id) : json_null());
	if (rc < 0) {
		/* A flow that cannot exist is not allowed either. */
		json_object_set_new(row, "verdict", json_string("deny"));
		json_object_set_new(row, "error", json_string(why.text));
		fprintf(stderr, "%s:%zu: %s\n", file, line, why.text);
	} else {
		json_object_set_new(
		    row, "egress", json_string(pk_verdict_name(a.side[PK_EGRESS].verdict)));
		json_object_set_new(
		    row, "ingress", json_string(pk_verdict_name(a.side[PK_INGRESS].verdict)));
		json_object_set_new(row, "verdict", json_string(pk_verdict_name(a.verdict)));
		json_object_set_new(row, "rule", ctl_offline_rule(a.rule));
		put_apps(row, &a);
		if (a.encryption != PK_ENCRYPTION_NONE)
			json_object_set_new(
			    row, "encryption", json_string(policy_encryption_text(a.encryption)));
		if (a.audit_verdict != a.verdict)
			json_object_set_new(
			    row, "audit_verdict", json_string(pk_verdict_name(a.audit_verdict)));
	}
	print_row(row);
	json_decref(probe);
	return rc < 0 ? -1 : 0;
}

static int
run_probes(const struct ctl_offline *o, const char *path, FILE *f)
{
	char *text = NULL;
	size_t room = 0, line = 0;
	ssize_t len;
	int status = CTL_DONE;

	while ((len = getline(&text, &room, f)) >= 0) {
		line++;
		if (text[strspn(text, " \t\r\n")] == '\0')
			continue;
		if (answer(o, path, line, text, (size_t)len) < 0)
			status = CTL_REFUSED;
	}
	if (ferror(f)) {
		fprintf(stderr, "picketctl: %s: %s\n", path, strerror(errno));
		status = CTL_REFUSED;
	}
	free(text);
	return status;
}

int
ctl_policy_eval(struct ctl_context *ctx, int argc, char **argv)
{
	struct ctl_offline_args args;
	struct ctl_offline o;
	FILE *f = stdin;
	int rc = ctl_offline_args(ctx, argc, argv, CTL_OPT_POLICY | CTL_OPT_PROBES, &args);

	if (rc != 0)
		return rc;
	if (args.nb_words > 0)
		return ctl_usage(ctx, "unexpected \"%s\"", args.words[0]);
	if (args.nb_paths == 0 || args.probes == NULL)
		return ctl_usage(
		    ctx, "policy eval goes with --inventory or --policy, and --probes");
	if (ctl_offline_init(&o) < 0)
		return ctl_refused(ctx, "out of memory");
	rc = ctl_offline_ask(ctx, &o, args.paths, args.nb_paths);
	if (rc == 0 && strcmp(args.probes, "-") != 0 && (f = fopen(args.probes, "re")) == NULL)
		rc = ctl_refused(ctx, "%s: %s", args.probes, strerror(errno));
	if (rc == 0)
		rc = run_probes(&o, args.probes, f);
	if (f != NULL && f != stdin)
		fclose(f);
	ctl_offline_fini(&o);
	return rc;
}
