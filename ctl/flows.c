#include "ctl/flows.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
	const char *name;
	uint8_t proto;
} protocols[] = { { "tcp", IPPROTO_TCP }, { "udp", IPPROTO_UDP }, { "sctp", IPPROTO_SCTP },
	{ "icmp", IPPROTO_ICMP }, { "icmpv4", IPPROTO_ICMP }, { "icmpv6", IPPROTO_ICMPV6 },
	{ "icmp6", IPPROTO_ICMPV6 } };

/* What one line says, before it is looked up. */
struct line {
	char src[160], dst[160];
	int proto, selector;
	enum ctl_recorded recorded;
};

void
ctl_flows_fini(struct ctl_flows *f)
{
	policy_map_fini(&f->index);
	policy_arena_fini(&f->arena);
	free(f->at);
	memset(f, 0, sizeof(*f));
}

/* A whole number up to `max`, or -1. */
static int
number(const char *text, int max)
{
	char *end;
	long v = strtol(text, &end, 10);

	return end == text || *end != '\0' || v < 0 || v > max ? -1 : (int)v;
}

static int
protocol(const char *text, struct pk_diag *why)
{
	int n = number(text, 254);

	for (size_t i = 0; i < PK_COUNT(protocols); i++)
		if (strcasecmp(protocols[i].name, text) == 0)
			return protocols[i].proto;
	/* picketd calls those without a name by "proto-47". */
	if (n < 0 && strncmp(text, "proto-", 6) == 0)
		n = number(text + 6, 254);
	if (n < 0)
		pk_diag_set(why,
		    "unknown protocol \"%.32s\"; want tcp, udp, sctp, icmp, icmpv6 or a number",
		    text);
	return n;
}

static int
has_selector(int proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP ||
	    proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6;
}

/* ---- JSON ---------------------------------------------------------------------------------------- */

static int
text_at(const json_t *row, const char *key, char *out, size_t size, struct pk_diag *why)
{
	const char *s = json_string_value(json_object_get(row, key));

	if (s == NULL || strlen(s) >= size) {
		pk_diag_set(why, "a flow needs \"%s\", a text", key);
		return -EINVAL;
	}
	snprintf(out, size, "%s", s);
	return 0;
}

/* Returns 1, 0 if the row is none that opens a flow, or -EINVAL with *why. */
static int
read_json(const char *text, size_t len, struct line *out, struct pk_diag *why)
{
	json_error_t error;
	json_t *row = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error), *port, *proto;
	const char *kind = json_string_value(json_object_get(row, "kind"));
	const char *verdict = json_string_value(json_object_get(row, "verdict"));
	const char *reason = json_string_value(json_object_get(row, "reason"));
	int rc = -EINVAL;

	memset(out, 0, sizeof(*out));
	if (!json_is_object(row)) {
		pk_diag_set(why, "%s", row == NULL ? error.text : "not a JSON object");
		goto out;
	}
	if (verdict != NULL)
		out->recorded = strcmp(verdict, "pass") == 0 || strcmp(verdict, "allow") == 0
		    ? CTL_RECORDED_ALLOWED
		    : CTL_RECORDED_REFUSED;
	/* Of picketd's rows: sessions as they open, and what rules refuse.  What is dropped for another
	 * reason was no matter of policy. */
	if (kind != NULL && strcmp(kind, "opened") != 0 &&
	    (strcmp(kind, "packet") != 0 || out->recorded != CTL_RECORDED_REFUSED ||
	        (reason != NULL && strncmp(reason, "rule-", 5) != 0))) {
		rc = 0;
		goto out;
	}
	if ((rc = text_at(row, "src", out->src, sizeof(out->src), why)) < 0 ||
	    (rc = text_at(row, "dst", out->dst, sizeof(out->dst), why)) < 0)
		goto out;
	rc = -EINVAL;
	proto = json_object_get(row, "proto");
	if (json_is_integer(proto) && json_integer_value(proto) >= 0 &&
	    json_integer_value(proto) < 255)
		out->proto = (int)json_integer_value(proto);
	else if (json_is_string(proto))
		out->proto = protocol(json_string_value(proto), why);
	else
		pk_diag_set(why, "a flow needs \"proto\", a name or number"), out->proto = -1;
	if (out->proto < 0)
		goto out;
	port = json_object_get(row, "dport");
	if (port == NULL)
		port = json_object_get(row, "port");
	if (has_selector(out->proto)) {
		if (!json_is_integer(port) || json_integer_value(port) < 0 ||
		    json_integer_value(port) > 65535) {
			pk_diag_set(why, "a flow needs \"dport\", a number from 0 to 65535");
			goto out;
		}
		out->selector = (int)json_integer_value(port);
	}
	rc = 1;
out:
	json_decref(row);
	return rc;
}

/* ---- CSV ----------------------------------------------------------------------------------------- */

static int
read_csv(char *text, struct line *out, struct pk_diag *why)
{
	char *field[5] = { text }, *slash;
	size_t nb = 1;
	int type, code;

	memset(out, 0, sizeof(*out));
	for (char *p = text; *p != '\0'; p++) {
		if (*p != ',')
			continue;
		*p = '\0';
		if (nb < PK_COUNT(field))
			field[nb] = p + 1;
		nb++;
	}
	if (strcmp(field[0], "src") == 0)
		return 0;
	if (nb < 3 || nb > 5 || strlen(field[0]) >= sizeof(out->src) ||
	    strlen(field[1]) >= sizeof(out->dst)) {
		pk_diag_set(why, "want src,dst,proto,port");
		return -EINVAL;
	}
	snprintf(out->src, sizeof(out->src), "%s", field[0]);
	snprintf(out->dst, sizeof(out->dst), "%s", field[1]);
	if ((out->proto = protocol(field[2], why)) < 0)
		return -EINVAL;
	if (nb == 5)
		out->recorded = strcmp(field[4], "allow") == 0 || strcmp(field[4], "pass") == 0
		    ? CTL_RECORDED_ALLOWED
		    : CTL_RECORDED_REFUSED;
	if (!has_selector(out->proto))
		return 1;
	slash = nb > 3 ? strchr(field[3], '/') : NULL;
	if (slash != NULL) {
		*slash = '\0';
		type = number(field[3], 255);
		code = number(slash + 1, 255);
		out->selector = type < 0 || code < 0 ? -1 : type << 8 | code;
	} else {
		out->selector = nb > 3 ? number(field[3], 65535) : -1;
	}
	if (out->selector >= 0)
		return 1;
	pk_diag_set(why, "the port must be a number from 0 to 65535, or type/code of ICMP");
	return -EINVAL;
}

/* ---- files --------------------------------------------------------------------------------------- */

static int
file_line(struct ctl_flows *out, const struct ctl_offline *o, const struct line *l,
    unsigned int number, struct pk_diag *why)
{
	struct policy_flow flow = { .point = { (uint8_t)l->proto, (uint16_t)l->selector } };
	struct ctl_flow *f;
	uint32_t i;
	char *key;

	if (policy_query_end(o->query, l->src, &flow.src, why) < 0 ||
	    policy_query_end(o->query, l->dst, &flow.dst, why) < 0)
		return -EINVAL;
	key = policy_arena_printf(
	    &out->arena, "%s,%s,%d,%d,%d", l->src, l->dst, l->proto, l->selector, (int)l->recorded);
	if (key == NULL)
		return -ENOMEM;
	i = policy_map_get_text(&out->index, key);
	if (i != POLICY_MAP_NONE) {
		out->at[i].count++;
		return 0;
	}
	if (policy_grow(&out->at, &out->cap, out->nb + 1, sizeof(out->at[0])) < 0 ||
	    policy_map_put_text(&out->index, key, (uint32_t)out->nb) < 0)
		return -ENOMEM;
	f = &out->at[out->nb++];
	*f = (struct ctl_flow){ .flow = flow, .recorded = l->recorded, .count = 1, .line = number };
	snprintf(f->src, sizeof(f->src), "%s", l->src);
	snprintf(f->dst, sizeof(f->dst), "%s", l->dst);
	return 0;
}

int
ctl_flows_read(
    struct ctl_context *ctx, const struct ctl_offline *o, const char *path, struct ctl_flows *out)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	struct pk_diag why = { "out of memory" };
	unsigned int number = 0;
	char *text = NULL;
	size_t room = 0;
	ssize_t len;
	int rc = 0;

	memset(out, 0, sizeof(*out));
	if (f == NULL)
		return ctl_refused(ctx, "%s: %s", path, strerror(errno));
	while (rc >= 0 && (len = getline(&text, &room, f)) >= 0) {
		struct line l;

		number++;
		while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL)
			text[--len] = '\0';
		if (len == 0 || text[0] == '#')
			continue;
		rc = text[0] == '{' ? read_json(text, (size_t)len, &l, &why)
		                    : read_csv(text, &l, &why);
		if (rc > 0)
			rc = file_line(out, o, &l, number, &why);
	}
	if (rc >= 0 && ferror(f)) {
		pk_diag_set(&why, "%s", strerror(errno));
		rc = -EIO;
	}
	if (f != stdin)
		fclose(f);
	free(text);
	if (rc >= 0)
		return 0;
	ctl_flows_fini(out);
	return ctl_refused(ctx, "%s:%u: %s", path, number, why.text);
}
