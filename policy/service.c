#include "policy/service.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Short names for what is asked for every day.  Sorted, for bsearch() and for people. */
static const struct {
	const char *name;
	struct pk_service at[POLICY_SERVICE_LITERALS];
} builtin[] = {
#define TCP(port)                                  \
	{                                          \
		{                                  \
			IPPROTO_TCP, 0, port, port \
		}                                  \
	}
#define UDP(port)                                  \
	{                                          \
		{                                  \
			IPPROTO_UDP, 0, port, port \
		}                                  \
	}
#define BOTH(port)                                 \
	{                                          \
		{ IPPROTO_TCP, 0, port, port },    \
		{                                  \
			IPPROTO_UDP, 0, port, port \
		}                                  \
	}
#define PROTOCOL(proto)                    \
	{                                  \
		{                          \
			proto, 0, 0, 65535 \
		}                          \
	}
	{ "ah", PROTOCOL(IPPROTO_AH) },
	{ "amqp", TCP(5672) },
	{ "amqps", TCP(5671) },
	{ "bgp", TCP(179) },
	{ "cassandra", TCP(9042) },
	{ "dhcp", { { IPPROTO_UDP, 0, 67, 68 } } },
	{ "dhcpv6", { { IPPROTO_UDP, 0, 546, 547 } } },
	{ "dns", BOTH(53) },
	{ "dns-over-tls", TCP(853) },
	{ "docker", TCP(2376) },
	{ "elasticsearch", TCP(9200) },
	{ "esp", PROTOCOL(IPPROTO_ESP) },
	{ "etcd", { { IPPROTO_TCP, 0, 2379, 2380 } } },
	{ "ftp", TCP(21) },
	{ "git", TCP(9418) },
	{ "gre", PROTOCOL(IPPROTO_GRE) },
	{ "http", TCP(80) },
	{ "https", TCP(443) },
	{ "ike", { { IPPROTO_UDP, 0, 500, 500 }, { IPPROTO_UDP, 0, 4500, 4500 } } },
	{ "imap", TCP(143) },
	{ "imaps", TCP(993) },
	{ "ipp", TCP(631) },
	{ "iscsi", TCP(3260) },
	{ "kafka", TCP(9092) },
	{ "kerberos", BOTH(88) },
	{ "kubernetes-api", TCP(6443) },
	{ "ldap", BOTH(389) },
	{ "ldaps", TCP(636) },
	{ "memcached", TCP(11211) },
	{ "mongodb", TCP(27017) },
	{ "mqtt", TCP(1883) },
	{ "mqtts", TCP(8883) },
	{ "mssql", TCP(1433) },
	{ "mysql", TCP(3306) },
	{ "nats", TCP(4222) },
	{ "nfs", TCP(2049) },
	{ "ntp", UDP(123) },
	{ "oracle", TCP(1521) },
	{ "pop3", TCP(110) },
	{ "pop3s", TCP(995) },
	{ "postgres", TCP(5432) },
	{ "prometheus", TCP(9090) },
	{ "radius", { { IPPROTO_UDP, 0, 1812, 1813 } } },
	{ "rdp", BOTH(3389) },
	{ "redis", TCP(6379) },
	{ "rsync", TCP(873) },
	{ "sip", BOTH(5060) },
	{ "smb", TCP(445) },
	{ "smtp", TCP(25) },
	{ "smtps", TCP(465) },
	{ "snmp", UDP(161) },
	{ "snmptrap", UDP(162) },
	{ "ssh", TCP(22) },
	{ "submission", TCP(587) },
	{ "syslog", UDP(514) },
	{ "syslog-tls", TCP(6514) },
	{ "telnet", TCP(23) },
	{ "tftp", UDP(69) },
	{ "vnc", TCP(5900) },
	{ "vxlan", UDP(4789) },
	{ "wireguard", UDP(51820) },
	{ "zookeeper", TCP(2181) },
#undef TCP
#undef UDP
#undef BOTH
#undef PROTOCOL
};

/*
 * ICMP messages by the names RFC 792 and RFC 4443 share.  One word means the same in both families,
 * or is missing in one (-1), so that a rule for "echo-request" holds whatever a host speaks.
 */
static const struct {
	const char *name;
	int16_t v4_type, v4_code; /* code -1: all */
	int16_t v6_type;
} icmp[] = {
	{ "destination-unreachable", 3, -1, 1 },
	{ "echo-reply", 0, -1, 129 },
	{ "echo-request", 8, -1, 128 },
	{ "neighbor-advertisement", -1, -1, 136 },
	{ "neighbor-solicitation", -1, -1, 135 },
	{ "packet-too-big", 3, 4, 2 }, /* RFC 1191: unreachable, fragmentation needed */
	{ "parameter-problem", 12, -1, 4 },
	{ "redirect", 5, -1, 137 },
	{ "router-advertisement", 9, -1, 134 },
	{ "router-solicitation", 10, -1, 133 },
	{ "time-exceeded", 11, -1, 3 },
	{ "timestamp-reply", 14, -1, -1 },
	{ "timestamp-request", 13, -1, -1 },
};

static const struct {
	const char *name;
	uint8_t proto;
} protocols[] = {
	{ "icmp", IPPROTO_ICMP },
	{ "icmpv4", IPPROTO_ICMP },
	{ "icmpv6", IPPROTO_ICMPV6 },
	{ "port", PK_PROTO_ANY },
	{ "proto", 0 },
	{ "sctp", IPPROTO_SCTP },
	{ "tcp", IPPROTO_TCP },
	{ "udp", IPPROTO_UDP },
};

const char *const *
policy_service_names(size_t *nb)
{
	static const char *names[PK_COUNT(builtin)];

	/* Always the same words, so it does not matter who writes them, nor how often. */
	for (size_t i = 0; i < PK_COUNT(builtin); i++)
		__atomic_store_n(&names[i], builtin[i].name, __ATOMIC_RELAXED);
	*nb = PK_COUNT(builtin);
	return names;
}

static int
find_builtin(const char *name)
{
	for (size_t i = 0; i < PK_COUNT(builtin); i++)
		if (strcmp(builtin[i].name, name) == 0)
			return (int)i;
	return -1;
}

int
policy_service_builtin(const char *name)
{
	if (strcmp(name, "any") == 0 || find_builtin(name) >= 0)
		return 1;
	for (size_t i = 0; i < PK_COUNT(protocols); i++)
		if (strcmp(protocols[i].name, name) == 0)
			return 1;
	return 0;
}

/* A decimal number up to `max` that ends at `end`; -1 if it is none. */
static int
number(const char *s, const char *end, int max)
{
	int value = 0;

	if (s == end)
		return -1;
	for (; s < end; s++) {
		if (*s < '0' || *s > '9')
			return -1;
		value = value * 10 + (*s - '0');
		if (value > max)
			return -1;
	}
	return value;
}

static void
add(struct policy_service_ref *out, uint8_t proto, int low, int high)
{
	out->at[out->nb++] =
	    (struct pk_service){ .proto = proto, .low = (uint16_t)low, .high = (uint16_t)high };
}

static void
add_icmp(struct policy_service_ref *out, uint8_t proto, int type, int code)
{
	add(out, proto, type << 8 | (code < 0 ? 0 : code), type << 8 | (code < 0 ? 255 : code));
}

static int
parse_icmp(struct policy_service_ref *out, const char *text, const char *rest, int v4, int v6,
    struct pk_diag *diag)
{
	const char *slash = strchr(rest, '/');
	const char *end = slash != NULL ? slash : rest + strlen(rest);
	const char *names[PK_COUNT(icmp)], *near;
	int type = number(rest, end, 255), code = -1;

	for (size_t i = 0; i < PK_COUNT(icmp); i++) {
		names[i] = icmp[i].name;
		if (strcmp(icmp[i].name, rest) != 0)
			continue;
		if (v4 && icmp[i].v4_type >= 0)
			add_icmp(out, IPPROTO_ICMP, icmp[i].v4_type, icmp[i].v4_code);
		if (v6 && icmp[i].v6_type >= 0)
			add_icmp(out, IPPROTO_ICMPV6, icmp[i].v6_type, -1);
		if (out->nb > 0)
			return 0;
		pk_diag_set(
		    diag, "\"%.64s\": there is no such message in this version of ICMP", text);
		return -EINVAL;
	}
	if (type < 0) {
		near = pk_suggest(rest, names, PK_COUNT(names));
		if (near != NULL)
			pk_diag_set(diag, "unknown ICMP message \"%.64s\"; did you mean \"%s\"?",
			    rest, near);
		else
			pk_diag_set(diag,
			    "unknown ICMP message \"%.64s\"; want a name such as echo-request, or a type from 0 to 255",
			    rest);
		return -EINVAL;
	}
	if (v4 && v6) {
		/* The numbers mean different things: type 3 is "unreachable" in one, "time exceeded"
		 * in the other. */
		pk_diag_set(diag,
		    "\"%.64s\": numbers differ between ICMP and ICMPv6; write icmpv4/%s or icmpv6/%s",
		    text, rest, rest);
		return -EINVAL;
	}
	if (slash != NULL && (code = number(slash + 1, rest + strlen(rest), 255)) < 0) {
		pk_diag_set(diag, "\"%.64s\": an ICMP code is a number from 0 to 255", text);
		return -EINVAL;
	}
	add_icmp(out, v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, type, code);
	return 0;
}

int
policy_port_name_ok(const char *text)
{
	int letter = 0;

	for (const char *s = text; *s != '\0'; s++)
		letter |= (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z');
	return letter && policy_name_ok(text);
}

static int
parse_port(struct policy_service_ref *out, const char *text, const char *rest, uint8_t proto,
    struct pk_diag *diag)
{
	const char *dash = strchr(rest, '-'), *end = rest + strlen(rest);
	int low, high;

	if (proto != PK_PROTO_ANY) {
		low = number(rest, dash != NULL ? dash : end, 65535);
		high = dash != NULL ? number(dash + 1, end, 65535) : low;
		if (low > high && high >= 0) {
			pk_diag_set(diag, "\"%.64s\": the range runs backwards", text);
			return -EINVAL;
		}
		if (low >= 0 && high >= 0) {
			add(out, proto, low, high);
			return 0;
		}
	}
	if (!policy_port_name_ok(rest)) {
		pk_diag_set(diag,
		    proto == PK_PROTO_ANY
		        ? "\"%.64s\": want the name of a port, such as port/metrics"
		        : "\"%.64s\": want a port from 0 to 65535, a range such as 8000-8010, or the name of a port",
		    text);
		return -EINVAL;
	}
	out->kind = POLICY_SERVICE_PORT;
	out->proto = proto;
	out->name = rest;
	return 0;
}

/* What stands before the slash, or alone. */
static int
parse_protocol(
    struct policy_service_ref *out, const char *text, const char *slash, struct pk_diag *diag)
{
	size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
	const char *names[PK_COUNT(protocols)], *near;
	char word[POLICY_NAME_MAX + 1];
	int value;

	for (size_t i = 0; i < PK_COUNT(protocols); i++) {
		uint8_t proto = protocols[i].proto;
		int v4 = proto == IPPROTO_ICMP;
		int v6 = proto == IPPROTO_ICMPV6 || strcmp(protocols[i].name, "icmp") == 0;

		names[i] = protocols[i].name;
		if (strlen(names[i]) != len || memcmp(names[i], text, len) != 0)
			continue;
		if (v4 || v6) {
			if (slash != NULL)
				return parse_icmp(out, text, slash + 1, v4, v6, diag);
			if (v4)
				add(out, IPPROTO_ICMP, 0, 65535);
			if (v6)
				add(out, IPPROTO_ICMPV6, 0, 65535);
			return 0;
		}
		if (proto == 0 || proto == PK_PROTO_ANY) {
			if (slash == NULL)
				break;
			if (proto == PK_PROTO_ANY)
				return parse_port(out, text, slash + 1, proto, diag);
			/* 255 is reserved (RFC 5237), and our mark for "any". */
			value = number(slash + 1, slash + strlen(slash), 254);
			if (value >= 0) {
				add(out, (uint8_t)value, 0, 65535);
				return 0;
			}
			pk_diag_set(
			    diag, "\"%.64s\": an IP protocol is a number from 0 to 254", text);
			return -EINVAL;
		}
		if (slash != NULL)
			return parse_port(out, text, slash + 1, proto, diag);
		add(out, proto, 0, 65535);
		return 0;
	}
	if (slash == NULL)
		return -ENOENT;
	snprintf(word, sizeof(word), "%.*s", (int)PK_MIN(len, sizeof(word) - 1), text);
	near = pk_suggest(word, names, PK_COUNT(names));
	if (near != NULL)
		pk_diag_set(diag, "unknown protocol \"%s\" in \"%.64s\"; did you mean \"%s\"?",
		    word, text, near);
	else
		pk_diag_set(diag,
		    "unknown protocol \"%s\" in \"%.64s\"; want tcp, udp, sctp, icmp, icmpv4, icmpv6, proto or port",
		    word, text);
	return -EINVAL;
}

int
policy_service_parse(struct policy_service_ref *out, const char *text, struct pk_diag *diag)
{
	int rc, i = find_builtin(text);

	out->kind = POLICY_SERVICE_LITERAL;
	out->nb = 0;
	out->name = NULL;
	if (i >= 0) {
		for (size_t k = 0; k < POLICY_SERVICE_LITERALS && builtin[i].at[k].high != 0; k++)
			out->at[out->nb++] = builtin[i].at[k];
		return 0;
	}
	rc = parse_protocol(out, text, strchr(text, '/'), diag);
	if (rc != -ENOENT)
		return rc;
	if (!policy_name_ok(text)) {
		pk_diag_set(diag,
		    "\"%.64s\" is not a service; want a name such as https, or a port such as tcp/8443",
		    text);
		return -EINVAL;
	}
	out->kind = POLICY_SERVICE_NAME;
	out->name = text;
	return 0;
}

const char *
policy_service_text(char *buf, size_t size, const struct pk_service *s)
{
	const char *name = NULL;

	for (size_t i = 0; i < PK_COUNT(protocols); i++)
		if (protocols[i].proto == s->proto && s->proto != 0)
			name = strcmp(protocols[i].name, "icmp") == 0 ? "icmpv4"
			                                              : protocols[i].name;
	if (s->proto == PK_PROTO_ANY)
		snprintf(buf, size, "all");
	else if (name == NULL)
		snprintf(buf, size, "proto/%u", s->proto);
	else if (s->low == 0 && s->high == 65535)
		snprintf(buf, size, "%s", name);
	else if (s->proto == IPPROTO_ICMP || s->proto == IPPROTO_ICMPV6) {
		if (s->low == s->high)
			snprintf(buf, size, "%s/%u/%u", name, s->low >> 8, s->low & 255);
		else
			snprintf(buf, size, "%s/%u", name, s->low >> 8);
	} else if (s->low == s->high)
		snprintf(buf, size, "%s/%u", name, s->low);
	else
		snprintf(buf, size, "%s/%u-%u", name, s->low, s->high);
	return buf;
}

static int
by_range(const void *va, const void *vb)
{
	const struct pk_service *a = va, *b = vb;

	if (a->proto != b->proto)
		return a->proto < b->proto ? -1 : 1;
	if (a->low != b->low)
		return a->low < b->low ? -1 : 1;
	return (a->high > b->high) - (a->high < b->high);
}

uint32_t
policy_services_normalise(struct pk_service *s, uint32_t nb)
{
	uint32_t kept = 0;

	if (nb < 2)
		return nb;
	qsort(s, nb, sizeof(s[0]), by_range);
	for (uint32_t i = 0; i < nb; i++) {
		struct pk_service *last = kept > 0 ? &s[kept - 1] : NULL;

		if (last != NULL && last->proto == s[i].proto &&
		    s[i].low <= (uint32_t)last->high + 1)
			last->high = PK_MAX(last->high, s[i].high);
		else
			s[kept++] = s[i];
	}
	return kept;
}

int
policy_services_cover(const struct pk_service *outer, uint32_t nb_outer,
    const struct pk_service *inner, uint32_t nb_inner)
{
	for (uint32_t i = 0; i < nb_inner; i++) {
		uint32_t o = 0;

		/* Normalised, so a range lies in one of the outer ones or is not covered. */
		while (o < nb_outer &&
		    !(outer[o].proto == inner[i].proto && outer[o].low <= inner[i].low &&
		        outer[o].high >= inner[i].high))
			o++;
		if (o == nb_outer)
			return 0;
	}
	return 1;
}

void
policy_read_services(
    struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_services *s = out;

	(void)arg;
	if (n->kind == POLICY_SCALAR && strcmp(n->text, "any") == 0) {
		s->any = 1;
		return;
	}
	if (n->kind != POLICY_LIST || n->nb == 0) {
		policy_reader_mismatch(r, n);
		return;
	}
	s->at = policy_reader_alloc(r, n->nb, sizeof(s->at[0]));
	for (uint32_t i = 0; s->at != NULL && i < n->nb; i++) {
		const struct policy_node *item = n->items[i];
		struct policy_service_ref *ref = &s->at[s->nb];
		struct pk_diag diag;

		if (item->kind != POLICY_SCALAR || policy_node_is_null(item)) {
			r->want = "a list of services such as https or tcp/8443-8444, or any";
			policy_reader_mismatch(r, item);
		} else if (strcmp(item->text, "any") == 0) {
			s->any = 1;
		} else if (policy_service_parse(ref, item->text, &diag) < 0) {
			policy_reader_error(r, item, "bad-service", "%s", diag.text);
		} else {
			ref->line = item->line;
			ref->column = item->column;
			s->nb++;
		}
	}
}

static int
by_port_name(const void *a, const void *b)
{
	return strcmp(((const struct policy_port *)a)->name, ((const struct policy_port *)b)->name);
}

void
policy_read_ports(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_ports *ports = out;

	(void)arg;
	if (n->kind != POLICY_MAP) {
		policy_reader_mismatch(r, n);
		return;
	}
	ports->at = policy_reader_alloc(r, n->nb, sizeof(ports->at[0]));
	for (uint32_t i = 0; ports->at != NULL && i < n->nb; i++) {
		const struct policy_node *key = n->pairs[i].key, *value = n->pairs[i].value;
		struct policy_service_ref ref = { 0 };

		if (!policy_port_name_ok(key->text)) {
			policy_reader_error(r, key, "bad-value",
			    "\"%.64s\" is not a name for a port: letters and digits with - _ . between them, and a letter among them",
			    key->text);
			continue;
		}
		if (value->kind != POLICY_SCALAR || strchr(value->text, '/') == NULL ||
		    policy_service_parse(&ref, value->text, NULL) < 0 ||
		    ref.kind != POLICY_SERVICE_LITERAL || ref.at[0].low != ref.at[0].high ||
		    (ref.at[0].proto != IPPROTO_TCP && ref.at[0].proto != IPPROTO_UDP &&
		        ref.at[0].proto != IPPROTO_SCTP)) {
			r->key = key->text;
			r->want = "one port such as tcp/8080";
			policy_reader_mismatch(r, value);
			continue;
		}
		ports->at[ports->nb++] = (struct policy_port){
			.name = key->text, .proto = ref.at[0].proto, .port = ref.at[0].low
		};
	}
	if (ports->nb > 1)
		qsort(ports->at, ports->nb, sizeof(ports->at[0]), by_port_name);
}
