#include "tests/unit/packet.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/wire.h"

#define UNSET        (-1)
#define EXT_MAX      24
#define ETHER_IPV4   0x0800
#define ETHER_ARP    0x0806
#define ETHER_VLAN   0x8100
#define ETHER_QINQ   0x88a8
#define ETHER_IPV6   0x86dd
#define PROTO_ICMP   1
#define PROTO_TCP    6
#define PROTO_UDP    17
#define PROTO_GRE    47
#define PROTO_ICMP6  58
#define PROTO_SCTP   132
#define INNER_MAX_V4 548  /* RFC 1812, section 4.3.2.3: at most 576 bytes with the new headers */
#define INNER_MAX_V6 1232 /* RFC 4443, section 2.4 (c): as much as fits the minimum MTU */

const uint8_t packet_workload_mac[6] = { 0x02, 0, 0, 0, 0, 0x10 };
const uint8_t packet_gateway_mac[6] = { 0x02, 0, 0, 0, 0, 0xfe };

static const struct {
	const char *name, *v4, *v6;
} people[] = {
	{ "workload", "192.0.2.10", "2001:db8::10" },
	{ "neighbour", "192.0.2.11", "2001:db8::11" },
	{ "idle", "192.0.2.12", "2001:db8::12" },        /* a workload without programs */
	{ "elsewhere", "192.0.2.13", "2001:db8::13" },   /* a workload of wire 1 */
	{ "stranger", "192.0.2.99", "2001:db8::99" },    /* nobody's address */
	{ "peer", "198.51.100.20", "2001:db8:1::20" },   /* outside, not in the inventory */
	{ "known", "198.51.100.30", "2001:db8:1::30" },  /* outside, in the inventory */
	{ "router", "203.0.113.1", "2001:db8:2::1" },    /* on the way to the peer */
	{ "vtep-in", "203.0.113.10", "2001:db8:2::10" }, /* tunnel endpoints */
	{ "vtep-out", "203.0.113.20", "2001:db8:2::20" },
	{ "workload-ll", "169.254.0.10", "fe80::10" },
	{ "router-ll", "169.254.0.1", "fe80::1" },
	{ "all-nodes", "224.0.0.1", "ff02::1" },
	{ "everybody", "255.255.255.255", "ff02::1:2" }, /* DHCP servers and relays */
	{ "all-routers", "224.0.0.2", "ff02::2" },
	{ "group", "233.252.0.1", "ff0e::db8:1" },
	{ "unspecified", "0.0.0.0", "::" },
	{ "loopback", "127.0.0.1", "::1" },
};

static const struct {
	const char *name;
	int v4, v6; /* type << 8 | code; UNSET: not in this family */
} icmp_names[] = {
	{ "echo", 8 << 8, 128 << 8 },
	{ "echo-reply", 0, 129 << 8 },
	{ "unreach-net", 3 << 8 | 0, 1 << 8 | 0 },
	{ "unreach-host", 3 << 8 | 1, 1 << 8 | 3 },
	{ "unreach-proto", 3 << 8 | 2, 4 << 8 | 1 },
	{ "unreach-port", 3 << 8 | 3, 1 << 8 | 4 },
	{ "unreach-admin", 3 << 8 | 13, 1 << 8 | 1 },
	{ "too-big", 3 << 8 | 4, 2 << 8 },
	{ "time-exceeded", 11 << 8, 3 << 8 },
	{ "reassembly-time", 11 << 8 | 1, 3 << 8 | 1 },
	{ "param", 12 << 8, 4 << 8 },
	{ "quench", 4 << 8, UNSET },
	{ "redirect", 5 << 8 | 1, UNSET },
	{ "timestamp", 13 << 8, UNSET },
	{ "timestamp-reply", 14 << 8, UNSET },
	{ "mask-request", 17 << 8, UNSET },
	{ "mld-query", UNSET, 130 << 8 },
	{ "mld-report", UNSET, 143 << 8 },
	{ "node-query", UNSET, 139 << 8 },
};

enum kind {
	KIND_TCP,
	KIND_UDP,
	KIND_ICMP,
	KIND_ICMP_ERROR,
	KIND_ARP,
	KIND_ND,
	KIND_SCTP,
	KIND_GRE,
	KIND_PROTO,
	KIND_RAW,
};

/* A described packet: -1 is "as usual". */
struct spec {
	enum kind kind;
	enum packet_side side;
	unsigned int family;
	struct pk_addr src, dst, target;
	uint8_t smac[6], dmac[6], hwaddr[6];
	uint8_t flags, icmp_type, icmp_code, nd_type;
	bool mf, df, badsum, nosum, badipsum, sackok, noopt, partial, outer_mf;
	const char *dhcp;           /* message; NULL: none */
	const char *dns, *dns_name; /* records of an answer, "": of a query; NULL: none */
	uint32_t dns_id;
	struct pk_addr yiaddr, ciaddr;
	uint8_t chaddr[6];
	int64_t lease;
	struct pk_addr vtep; /* outer source; family 0: as usual */
	unsigned int outer;  /* family of the tunnel; 0: IPv4 */
	uint8_t tunnel[8];   /* its header, to the bytes as they usually are: xor */
	int64_t seq, ack, win, len, mss, ws, tsval, tsecr, urg, doff, sport, dport, vlan, vlan2,
	    vlan3, ttl, tos, ihl, iplen, version, frag, id, mtu, code, type, cut, udplen, next,
	    wire, op, hlen, plen, htype, optlen, ethertype, pad, res, outer_tos, vxlan, geneve;
	uint32_t sack[8];
	unsigned int nb_sack;
	uint8_t opt[64], ipopt[64], raw[512], data[512], ext_count;
	unsigned int opt_len, ipopt_len, raw_len, data_len;
	const char *ext[EXT_MAX];
	uint8_t inner[PACKET_MAX];
	size_t inner_len;
};

struct words {
	char *const *at;
	unsigned int n;
	char *err;
	size_t err_len;
	char ext_text[256];
};

static int PK_PRINTF(2, 3) bad(struct words *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->err, w->err_len, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static const char *
next_word(struct words *w)
{
	if (w->n == 0)
		return "";
	w->n--;
	return *w->at++;
}

/* Numbers that a test has seen and names. */
static struct {
	char name[16];
	uint32_t value;
} variables[16];
static unsigned int nb_variables;

int
packet_set(const char *name, uint32_t value)
{
	unsigned int i = 0;

	while (i < nb_variables && strcmp(variables[i].name, name) != 0)
		i++;
	if (i == PK_COUNT(variables) || strlen(name) >= sizeof(variables[0].name))
		return -EINVAL;
	nb_variables = PK_MAX(nb_variables, i + 1);
	strcpy(variables[i].name, name);
	variables[i].value = value;
	return 0;
}

static bool
variable(const char **word, uint32_t *value)
{
	size_t n = strcspn(*word, "+");

	for (unsigned int i = 0; i < nb_variables; i++) {
		if (strlen(variables[i].name) != n || strncmp(variables[i].name, *word, n) != 0)
			continue;
		*value = variables[i].value;
		*word += n;
		return true;
	}
	return false;
}

int
packet_number(uint32_t *out, const char *word)
{
	uint32_t sum = 0;

	do {
		char *end;
		unsigned long long v;

		uint32_t named;

		if (variable(&word, &named)) {
			v = named;
			end = (char *)word;
		} else {
			if (!isdigit((unsigned char)*word))
				return -EINVAL;
			v = strtoull(word, &end, 0);
			if (end == word)
				return -EINVAL;
		}
		if (v > UINT32_MAX || (*end != '\0' && *end != '+'))
			return -EINVAL;
		sum += (uint32_t)v;
		word = *end == '+' ? end + 1 : end;
		if (*end == '+' && *word == '\0')
			return -EINVAL;
	} while (*word != '\0');
	*out = sum;
	return 0;
}

int
packet_addr(struct pk_addr *out, unsigned int family, const char *word)
{
	struct pk_diag diag;

	for (unsigned int i = 0; i < PK_COUNT(people); i++)
		if (strcmp(people[i].name, word) == 0)
			word = family == 4 ? people[i].v4 : people[i].v6;
	if (pk_addr_parse(out, word, &diag) < 0 || out->family != family)
		return -EINVAL;
	return 0;
}

int
packet_icmp(unsigned int family, const char *name, uint8_t *type, uint8_t *code)
{
	for (unsigned int i = 0; i < PK_COUNT(icmp_names); i++) {
		int v = family == 4 ? icmp_names[i].v4 : icmp_names[i].v6;

		if (strcmp(icmp_names[i].name, name) != 0 || v == UNSET)
			continue;
		*type = (uint8_t)(v >> 8);
		*code = (uint8_t)v;
		return 0;
	}
	return -EINVAL;
}

static int
hex(const char *word, uint8_t *out, unsigned int max, unsigned int *len)
{
	size_t n = strlen(word);

	if (n == 0 || n % 2 != 0 || n / 2 > max)
		return -EINVAL;
	for (size_t i = 0; i < n; i += 2) {
		char two[3] = { word[i], word[i + 1], '\0' }, *end;

		out[i / 2] = (uint8_t)strtoul(two, &end, 16);
		if (end != two + 2)
			return -EINVAL;
	}
	*len = (unsigned int)(n / 2);
	return 0;
}

static int
mac(const char *word, uint8_t out[6])
{
	unsigned int b[6];
	char rest;

	if (sscanf(word, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
	        &rest) != 6)
		return -EINVAL;
	for (unsigned int i = 0; i < 6; i++)
		out[i] = (uint8_t)b[i];
	return 0;
}

/* ---- words to spec ---- */

static int parse_spec(
    struct words *w, struct spec *s, const struct packet_stage *stage, bool is_inner);
static size_t build_ip(const struct spec *s, uint8_t *b);

static int
tcp_flags(const char *word, uint8_t *flags)
{
	static const char letters[] = "FSRPAUEW"; /* bit 0 .. 7 */

	*flags = 0;
	if (strcmp(word, "none") == 0)
		return 0;
	for (; *word != '\0'; word++) {
		const char *p = strchr(letters, *word);

		if (p == NULL)
			return -EINVAL;
		*flags |= (uint8_t)(1 << (p - letters));
	}
	return 0;
}

static int
parse_kind(struct words *w, struct spec *s)
{
	const char *kind = next_word(w);
	const char *what;

	if (strcmp(kind, "tcp") == 0) {
		s->kind = KIND_TCP;
		what = next_word(w);
		return tcp_flags(what, &s->flags) < 0 ? bad(w, "TCP flags \"%s\"", what) : 0;
	}
	if (strcmp(kind, "udp") == 0) {
		s->kind = KIND_UDP;
		return 0;
	}
	if (strcmp(kind, "sctp") == 0) {
		s->kind = KIND_SCTP;
		return 0;
	}
	if (strcmp(kind, "gre") == 0) {
		s->kind = KIND_GRE;
		return 0;
	}
	if (strcmp(kind, "ip") == 0) { /* with `next N`: a protocol without ports */
		s->kind = KIND_PROTO;
		return 0;
	}
	if (strcmp(kind, "icmp") == 0) {
		uint8_t echo, echo_reply, ignored;

		s->kind = KIND_ICMP_ERROR;
		if (w->n > 0 && strcmp(w->at[0], "type") == 0)
			return 0; /* and `code`, among the fields */
		what = next_word(w);
		if (packet_icmp(s->family, what, &s->icmp_type, &s->icmp_code) < 0)
			return bad(w, "ICMP message \"%s\"", what);
		(void)packet_icmp(s->family, "echo", &echo, &ignored);
		(void)packet_icmp(s->family, "echo-reply", &echo_reply, &ignored);
		if (s->icmp_type == echo || s->icmp_type == echo_reply ||
		    strncmp(what, "timestamp", 9) == 0)
			s->kind = KIND_ICMP;
		return 0;
	}
	if (strcmp(kind, "arp") == 0) {
		s->kind = KIND_ARP;
		what = next_word(w);
		s->op = strcmp(what, "request") == 0 ? 1 : strcmp(what, "reply") == 0 ? 2 : UNSET;
		return s->op == UNSET ? bad(w, "arp request or reply, not \"%s\"", what) : 0;
	}
	if (strcmp(kind, "nd") == 0) {
		static const char *const names[] = { "rs", "ra", "ns", "na", "redirect" };

		s->kind = KIND_ND;
		what = next_word(w);
		for (unsigned int i = 0; i < PK_COUNT(names); i++)
			if (strcmp(names[i], what) == 0)
				s->nd_type = (uint8_t)(133 + i);
		return s->nd_type == 0 ? bad(w, "nd rs, ra, ns, na or redirect, not \"%s\"", what)
		                       : 0;
	}
	if (strcmp(kind, "raw") == 0) {
		s->kind = KIND_RAW;
		if (hex(next_word(w), s->raw, sizeof(s->raw), &s->raw_len) < 0)
			return bad(w, "raw wants bytes in hex");
		return 0;
	}
	return bad(w, "no such kind of packet: \"%s\"", kind);
}

/* Who speaks to whom unless the line says otherwise. */
static void
usual(struct spec *s, const struct packet_stage *stage, bool is_inner)
{
	bool in = s->side == PACKET_IN, from_client = in != stage->client_outside;
	const char *src = in ? "workload" : "peer", *dst = in ? "peer" : "workload";

	memcpy(s->smac, in ? packet_workload_mac : packet_gateway_mac, 6);
	memcpy(s->dmac, in ? packet_gateway_mac : packet_workload_mac, 6);
	memcpy(s->hwaddr, s->smac, 6);
	if (s->kind == KIND_ICMP_ERROR && !in)
		src = "router";
	if (s->kind == KIND_ND) {
		src = in ? "workload-ll" : "router-ll";
		dst = s->nd_type == 133 ? "all-routers"
		    : s->nd_type == 136 ? (in ? "router-ll" : "workload-ll")
		                        : "all-nodes";
	}
	(void)packet_addr(&s->src, s->family, src);
	(void)packet_addr(&s->dst, s->family, dst);
	(void)packet_addr(
	    &s->target, s->family, in == (s->nd_type == 136) ? "workload" : "router-ll");
	if (s->kind == KIND_TCP || s->kind == KIND_UDP || s->kind == KIND_SCTP) {
		s->sport = from_client ? stage->client_port : stage->server_port;
		s->dport = from_client ? stage->server_port : stage->client_port;
	}
	s->tos = 0;
	s->ttl = s->kind == KIND_ND ? 255 : is_inner ? 60 : 64;
	s->win = 65535;
}

static int
parse_inner(struct words *w, struct spec *s, const struct packet_stage *stage)
{
	struct spec *inner = calloc(1, sizeof(*inner));
	struct words iw = *w;
	unsigned int depth = 1, n = 0;
	int rc;

	if (inner == NULL)
		return -ENOMEM;
	if (strcmp(next_word(w), "(") != 0) {
		free(inner);
		return bad(w, "inner wants ( ... )");
	}
	iw.at = w->at;
	for (; n < w->n; n++) {
		if (strcmp(w->at[n], "(") == 0)
			depth++;
		if (strcmp(w->at[n], ")") == 0 && --depth == 0)
			break;
	}
	if (depth != 0) {
		free(inner);
		return bad(w, "inner ( has no )");
	}
	iw.n = n;
	w->at += n + 1;
	w->n -= n + 1;
	/* An error goes back to who sent what it is about. */
	inner->side = s->side == PACKET_IN ? PACKET_OUT : PACKET_IN;
	inner->family = s->family;
	if (n > 0 && (strcmp(iw.at[0], "in") == 0 || strcmp(iw.at[0], "out") == 0))
		inner->side = strcmp(next_word(&iw), "in") == 0 ? PACKET_IN : PACKET_OUT;
	if (n > 1 && strcmp(iw.at[0], "family") == 0) {
		next_word(&iw);
		inner->family = strcmp(next_word(&iw), "6") == 0 ? 6 : 4;
	}
	rc = parse_spec(&iw, inner, stage, true);
	if (rc == 0) {
		size_t max = inner->cut != UNSET ? (size_t)inner->cut
		    : s->family == 4             ? INNER_MAX_V4
		                                 : INNER_MAX_V6;

		if (inner->kind == KIND_RAW) {
			memcpy(s->inner, inner->raw, inner->raw_len);
			s->inner_len = inner->raw_len;
		} else {
			s->inner_len = build_ip(inner, s->inner);
			if (inner->family == s->family)
				s->dst = inner->src;
		}
		s->inner_len = PK_MIN(s->inner_len, max);
	}
	free(inner);
	return rc;
}

static int
parse_sack(struct words *w, struct spec *s)
{
	char text[128], *save = NULL;

	snprintf(text, sizeof(text), "%s", next_word(w));
	for (char *p = strtok_r(text, ",", &save); p != NULL; p = strtok_r(NULL, ",", &save)) {
		char *dash = strchr(p, '-');

		if (dash == NULL || s->nb_sack + 2 > PK_COUNT(s->sack))
			return bad(w, "sack wants LEFT-RIGHT[,...], at most 4");
		*dash = '\0';
		if (packet_number(&s->sack[s->nb_sack], p) < 0 ||
		    packet_number(&s->sack[s->nb_sack + 1], dash + 1) < 0)
			return bad(w, "sack wants numbers");
		s->nb_sack += 2;
	}
	return 0;
}

static int
parse_ext(struct words *w, struct spec *s)
{
	char *save = NULL;

	snprintf(w->ext_text, sizeof(w->ext_text), "%s", next_word(w));
	for (char *p = strtok_r(w->ext_text, ",", &save); p != NULL;
	     p = strtok_r(NULL, ",", &save)) {
		static const char *const known[] = { "hbh", "dst", "rt0", "rt0-done", "rt4", "frag",
			"ah", "none", "long" };
		unsigned int i;

		for (i = 0; i < PK_COUNT(known); i++)
			if (strcmp(known[i], p) == 0)
				break;
		if (i == PK_COUNT(known) || s->ext_count == EXT_MAX)
			return bad(w, "extension header \"%s\"", p);
		s->ext[s->ext_count++] = known[i];
	}
	return 0;
}

/* Payload in letters: `~` is a space, `|` the end of a line. */
static int
say(const char *text, struct spec *s)
{
	s->data_len = 0;
	for (; *text != '\0'; text++) {
		if (s->data_len + 2 > sizeof(s->data))
			return -EINVAL;
		if (*text == '|')
			s->data[s->data_len++] = '\r';
		s->data[s->data_len++] = (uint8_t)(*text == '~' ? ' '
		        : *text == '|'                          ? '\n'
		                                                : *text);
	}
	s->len = s->data_len;
	return 0;
}

/* Of RFC 2131 section 4.1 and RFC 8415 section 7.2; words that follow may say otherwise. */
static void
dhcp_ports(struct spec *s)
{
	bool server = strcmp(s->dhcp, "offer") == 0 || strcmp(s->dhcp, "ack") == 0 ||
	    strcmp(s->dhcp, "nak") == 0;
	int64_t client_port = s->family == 4 ? 68 : 546, server_port = s->family == 4 ? 67 : 547;

	s->sport = server ? server_port : client_port;
	s->dport = server ? client_port : server_port;
}

/* A DHCP message as payload (RFC 2131, RFC 8415). */
static int
build_dhcp(struct spec *s)
{
	static const struct {
		const char *name;
		uint8_t op, v4, v6;
	} messages[] = {
		{ "discover", 1, 1, 1 },
		{ "offer", 2, 2, 2 },
		{ "request", 1, 3, 3 },
		{ "decline", 1, 4, 9 },
		{ "ack", 2, 5, 7 },
		{ "nak", 2, 6, 10 },
		{ "release", 1, 7, 8 },
		{ "inform", 1, 8, 11 },
	};
	uint8_t *b = s->data;
	size_t i = 0;

	while (i < PK_COUNT(messages) && strcmp(messages[i].name, s->dhcp) != 0)
		i++;
	if (i == PK_COUNT(messages))
		return -EINVAL;
	memset(b, 0, sizeof(s->data));
	if (s->family == 4) {
		b[0] = messages[i].op;
		b[1] = 1;
		b[2] = 6;
		memcpy(b + 12, s->ciaddr.bytes, 4);
		memcpy(b + 16, s->yiaddr.bytes, 4);
		memcpy(b + 28, s->chaddr, 6);
		memcpy(b + 236, (uint8_t[]){ 99, 130, 83, 99, 53, 1, messages[i].v4 }, 7);
		s->data_len = 243;
		if (s->lease != UNSET) {
			memcpy(b + s->data_len, (uint8_t[]){ 51, 4 }, 2);
			for (unsigned int k = 0; k < 4; k++)
				b[s->data_len + 2 + k] = (uint8_t)(s->lease >> (24 - 8 * k));
			s->data_len += 6;
		}
		b[s->data_len++] = 255;
	} else {
		b[0] = messages[i].v6;
		s->data_len = 4;
		if (s->yiaddr.family != 0) {
			/* one identity association with one address */
			memcpy(b + 4, (uint8_t[]){ 0, 3, 0, 40 }, 4);
			memcpy(b + 20, (uint8_t[]){ 0, 5, 0, 24 }, 4);
			memcpy(b + 24, s->yiaddr.bytes, 16);
			for (unsigned int k = 0; k < 4; k++)
				b[44 + k] =
				    (uint8_t)((s->lease != UNSET ? s->lease : 0) >> (24 - 8 * k));
			s->data_len = 48;
		}
	}
	s->len = s->data_len;
	return 0;
}

static void
dns_bytes(struct spec *s, uint64_t v, unsigned int n)
{
	while (n-- > 0)
		s->data[s->data_len++] = (uint8_t)(v >> 8 * n);
}

static void
dns_name(struct spec *s, const char *name)
{
	while (*name != '\0') {
		size_t n = strcspn(name, ".");

		s->data[s->data_len++] = (uint8_t)n;
		memcpy(s->data + s->data_len, name, n);
		s->data_len += (unsigned int)n;
		name += n + (name[n] == '.');
	}
	s->data[s->data_len++] = 0;
}

/*
 * A DNS message as payload (RFC 1035): the question, of the family's addresses, and records "WHO/TTL" or
 * "cname:NAME/TTL" with commas between.  Each belongs to the question's name or to the last CNAME, but for those that
 * say "OWNER=" first.
 */
static int
build_dns(struct spec *s)
{
	const char *owner = s->dns_name;
	char text[512], kept[512], *save = NULL;
	unsigned int answers, type = s->family == 4 ? 1 : 28, start;

	s->data_len = s->kind == KIND_TCP ? 2 : 0;
	start = s->data_len;
	dns_bytes(s, s->dns_id, 2);
	dns_bytes(s, s->dns[0] != '\0' ? 0x8180 : 0x0100, 2);
	dns_bytes(s, 1, 2);
	answers = s->data_len;
	dns_bytes(s, 0, 6);
	dns_name(s, s->dns_name);
	dns_bytes(s, type, 2);
	dns_bytes(s, 1, 2);
	snprintf(text, sizeof(text), "%s", s->dns);
	for (char *r = strtok_r(text, ",", &save); r != NULL; r = strtok_r(NULL, ",", &save)) {
		char *ttl = strchr(r, '/'), *of = strchr(r, '=');
		struct pk_addr a;
		unsigned int at;

		if (ttl == NULL)
			return -EINVAL;
		*ttl++ = '\0';
		if (of != NULL)
			*of++ = '\0';
		dns_name(s, of != NULL ? r : owner);
		if (of != NULL)
			r = of;
		if (strncmp(r, "cname:", 6) == 0) {
			dns_bytes(s, 5, 2);
			dns_bytes(s, 1, 2);
			dns_bytes(s, strtoul(ttl, NULL, 10), 4);
			at = s->data_len;
			dns_bytes(s, 0, 2);
			dns_name(s, r + 6);
			s->data[at + 1] = (uint8_t)(s->data_len - at - 2);
			if (of == NULL) {
				snprintf(kept, sizeof(kept), "%s", r + 6);
				owner = kept;
			}
		} else {
			if (packet_addr(&a, s->family, r) < 0)
				return -EINVAL;
			dns_bytes(s, type, 2);
			dns_bytes(s, 1, 2);
			dns_bytes(s, strtoul(ttl, NULL, 10), 4);
			dns_bytes(s, s->family == 4 ? 4 : 16, 2);
			memcpy(s->data + s->data_len, a.bytes, s->family == 4 ? 4 : 16);
			s->data_len += s->family == 4 ? 4 : 16;
		}
		s->data[answers + 1]++;
	}
	if (s->kind == KIND_TCP) {
		s->data[0] = (uint8_t)((s->data_len - start) >> 8);
		s->data[1] = (uint8_t)(s->data_len - start);
	}
	s->len = s->data_len;
	return 0;
}

static int
parse_spec(struct words *w, struct spec *s, const struct packet_stage *stage, bool is_inner)
{
	struct {
		const char *name;
		int64_t *to;
	} numbers[] = {
		{ "seq", &s->seq },
		{ "ack", &s->ack },
		{ "win", &s->win },
		{ "len", &s->len },
		{ "mss", &s->mss },
		{ "ws", &s->ws },
		{ "urg", &s->urg },
		{ "doff", &s->doff },
		{ "sport", &s->sport },
		{ "dport", &s->dport },
		{ "vlan", &s->vlan },
		{ "vlan2", &s->vlan2 },
		{ "vlan3", &s->vlan3 },
		{ "ttl", &s->ttl },
		{ "tos", &s->tos },
		{ "ihl", &s->ihl },
		{ "iplen", &s->iplen },
		{ "version", &s->version },
		{ "frag", &s->frag },
		{ "id", &s->id },
		{ "mtu", &s->mtu },
		{ "code", &s->code },
		{ "type", &s->type },
		{ "cut", &s->cut },
		{ "udplen", &s->udplen },
		{ "next", &s->next },
		{ "wire", &s->wire },
		{ "op", &s->op },
		{ "hlen", &s->hlen },
		{ "plen", &s->plen },
		{ "htype", &s->htype },
		{ "optlen", &s->optlen },
		{ "ethertype", &s->ethertype },
		{ "pad", &s->pad },
		{ "reserved", &s->res },
		{ "vxlan", &s->vxlan },
		{ "lease", &s->lease },
		{ "outer-tos", &s->outer_tos },
		{ "geneve", &s->geneve },
	};
	struct {
		const char *name;
		bool *to;
	} flags[] = {
		{ "mf", &s->mf },
		{ "df", &s->df },
		{ "badsum", &s->badsum },
		{ "nosum", &s->nosum },
		{ "badipsum", &s->badipsum },
		{ "sackok", &s->sackok },
		{ "noopt", &s->noopt },
		{ "partial", &s->partial },
		{ "outer-mf", &s->outer_mf },
	};
	struct {
		const char *name;
		struct pk_addr *to;
	} addrs[] = { { "from", &s->src }, { "to", &s->dst }, { "target", &s->target },
		{ "yiaddr", &s->yiaddr }, { "ciaddr", &s->ciaddr } };
	struct {
		const char *name;
		uint8_t *to;
	} macs[] = { { "smac", s->smac }, { "dmac", s->dmac }, { "hwaddr", s->hwaddr },
		{ "chaddr", s->chaddr } };
	int rc;

	for (unsigned int i = 0; i < PK_COUNT(numbers); i++)
		*numbers[i].to = UNSET;
	s->tsval = s->tsecr = UNSET;
	memcpy(s->chaddr, packet_workload_mac, 6);
	rc = parse_kind(w, s);
	if (rc < 0)
		return rc;
	usual(s, stage, is_inner);
	while (w->n > 0) {
		const char *word = next_word(w);
		bool found = false;
		uint32_t v, v2;

		for (unsigned int i = 0; i < PK_COUNT(numbers) && !found; i++) {
			if (strcmp(numbers[i].name, word) != 0)
				continue;
			if (packet_number(&v, next_word(w)) < 0)
				return bad(w, "%s wants a number", word);
			*numbers[i].to = v;
			found = true;
		}
		for (unsigned int i = 0; i < PK_COUNT(flags) && !found; i++)
			if (strcmp(flags[i].name, word) == 0)
				*flags[i].to = found = true;
		for (unsigned int i = 0; i < PK_COUNT(addrs) && !found; i++) {
			if (strcmp(addrs[i].name, word) != 0)
				continue;
			if (packet_addr(addrs[i].to, s->family, next_word(w)) < 0)
				return bad(w, "%s wants an address of this family", word);
			found = true;
		}
		for (unsigned int i = 0; i < PK_COUNT(macs) && !found; i++) {
			if (strcmp(macs[i].name, word) != 0)
				continue;
			if (mac(next_word(w), macs[i].to) < 0)
				return bad(w, "%s wants a MAC address", word);
			found = true;
		}
		if (found)
			continue;
		if (strcmp(word, "ts") == 0) {
			if (packet_number(&v, next_word(w)) < 0 ||
			    packet_number(&v2, next_word(w)) < 0)
				return bad(w, "ts wants two numbers");
			s->tsval = v;
			s->tsecr = v2;
		} else if (strcmp(word, "sack") == 0) {
			rc = parse_sack(w, s);
		} else if (strcmp(word, "ext") == 0) {
			rc = parse_ext(w, s);
		} else if (strcmp(word, "inner") == 0) {
			rc = parse_inner(w, s, stage);
		} else if (strcmp(word, "opt") == 0) {
			if (hex(next_word(w), s->opt, 40, &s->opt_len) < 0)
				return bad(w, "opt wants bytes in hex");
		} else if (strcmp(word, "data") == 0) {
			if (hex(next_word(w), s->data, sizeof(s->data), &s->data_len) < 0)
				return bad(w, "data wants bytes in hex");
			s->len = s->data_len;
		} else if (strcmp(word, "say") == 0) {
			if (say(next_word(w), s) < 0)
				return bad(w, "say wants at most %zu bytes", sizeof(s->data));
		} else if (strcmp(word, "dhcp") == 0) {
			s->dhcp = next_word(w);
			dhcp_ports(s);
		} else if (strcmp(word, "dns") == 0) {
			const char *kind = next_word(w);
			const char *id = next_word(w);

			s->dns_name = next_word(w);
			s->dns = kind != NULL && strcmp(kind, "answer") == 0 ? next_word(w) : "";
			if (kind == NULL || s->dns == NULL || s->dns_name == NULL ||
			    packet_number(&s->dns_id, id) < 0)
				return bad(w, "dns wants query ID NAME, or answer ID NAME RECORDS");
		} else if (strcmp(word, "outer6") == 0) {
			s->outer = 6;
		} else if (strcmp(word, "vtep") == 0) {
			if (packet_addr(&s->vtep, s->outer != 0 ? s->outer : 4, next_word(w)) < 0)
				return bad(w, "vtep wants an address of the tunnel's family");
		} else if (strcmp(word, "tunnel-xor") == 0) {
			unsigned int got;

			if (hex(next_word(w), s->tunnel, sizeof(s->tunnel), &got) < 0)
				return bad(w, "tunnel-xor wants at most 8 bytes in hex");
		} else if (strcmp(word, "ipopt") == 0) {
			if (hex(next_word(w), s->ipopt, 40, &s->ipopt_len) < 0)
				return bad(w, "ipopt wants bytes in hex");
		} else {
			return bad(w, "do not know the word \"%s\"", word);
		}
		if (rc < 0)
			return rc;
	}
	if (s->dns != NULL && build_dns(s) < 0)
		return bad(w, "do not know the DNS records \"%s\"", s->dns);
	if (s->dhcp != NULL && build_dhcp(s) < 0)
		return bad(w, "do not know the DHCP message \"%s\"", s->dhcp);
	if (s->type != UNSET)
		s->icmp_type = (uint8_t)s->type;
	if (s->code != UNSET)
		s->icmp_code = (uint8_t)s->code;
	if (s->len > 8192)
		return bad(w, "len is too long");
	return 0;
}

/* ---- spec to bytes ---- */

static void
put16(uint8_t *b, int64_t v)
{
	b[0] = (uint8_t)(v >> 8);
	b[1] = (uint8_t)v;
}

static void
put32(uint8_t *b, int64_t v)
{
	put16(b, v >> 16);
	put16(b + 2, v);
}

static int64_t
or_else(int64_t v, int64_t otherwise)
{
	return v == UNSET ? otherwise : v;
}

/* RFC 1071 */
static uint32_t
sum(uint32_t acc, const uint8_t *b, size_t len)
{
	for (size_t i = 0; i + 1 < len; i += 2)
		acc += (uint32_t)(b[i] << 8 | b[i + 1]);
	if (len % 2 != 0)
		acc += (uint32_t)(b[len - 1] << 8);
	return acc;
}

static uint16_t
fold(uint32_t acc)
{
	while (acc >> 16 != 0)
		acc = (acc & 0xffff) + (acc >> 16);
	return (uint16_t)acc;
}

static uint32_t
pseudo(const struct pk_addr *src, const struct pk_addr *dst, uint8_t proto, size_t len)
{
	size_t n = src->family == 4 ? 4 : 16;

	return sum(
	    sum((uint32_t)(proto + (len & 0xffff) + (len >> 16)), src->bytes, n), dst->bytes, n);
}

static void
set_checksum(const struct spec *s, uint8_t *at, const uint8_t *b, size_t len, uint32_t acc)
{
	uint16_t c;

	put16(at, 0);
	c = (uint16_t)~fold(sum(acc, b, len));
	if (c == 0 && s->kind == KIND_UDP)
		c = 0xffff; /* RFC 768: zero means that there is none */
	if (s->badsum)
		c ^= 0x5555;
	put16(at, s->nosum ? 0 : c);
}

static void
fill(uint8_t *b, size_t len, uint32_t from)
{
	for (size_t i = 0; i < len; i++)
		b[i] = (uint8_t)((from + i) * 7);
}

static size_t
build_tcp(const struct spec *s, uint8_t *b)
{
	size_t n = 20, len = (size_t)or_else(s->len, 0);

	put16(b, s->sport);
	put16(b + 2, s->dport);
	put32(b + 4, or_else(s->seq, 0));
	put32(b + 8, or_else(s->ack, 0));
	b[13] = s->flags;
	put16(b + 14, s->win);
	put16(b + 16, 0);
	put16(b + 18, or_else(s->urg, 0));
	if (s->mss != UNSET) {
		memcpy(b + n, (uint8_t[]){ 2, 4 }, 2);
		put16(b + n + 2, s->mss);
		n += 4;
	}
	if (s->sackok) {
		memcpy(b + n, (uint8_t[]){ 4, 2 }, 2);
		n += 2;
	}
	if (s->tsval != UNSET) {
		memcpy(b + n, (uint8_t[]){ 8, 10 }, 2);
		put32(b + n + 2, s->tsval);
		put32(b + n + 6, s->tsecr);
		n += 10;
	}
	if (s->ws != UNSET) {
		memcpy(b + n, (uint8_t[]){ 3, 3, (uint8_t)s->ws }, 3);
		n += 3;
	}
	if (s->nb_sack > 0) {
		memcpy(b + n, (uint8_t[]){ 5, (uint8_t)(2 + 4 * s->nb_sack) }, 2);
		n += 2;
		for (unsigned int i = 0; i < s->nb_sack; i++, n += 4)
			put32(b + n, s->sack[i]);
	}
	memcpy(b + n, s->opt, s->opt_len);
	n += s->opt_len;
	while (n % 4 != 0)
		b[n++] = 1; /* NOP */
	b[12] = (uint8_t)(or_else(s->doff, (int64_t)n / 4) << 4 | or_else(s->res, 0));
	if (s->data_len > 0)
		memcpy(b + n, s->data, len);
	else
		fill(b + n, len, (uint32_t)or_else(s->seq, 0));
	return n + len;
}

static size_t
build_udp(const struct spec *s, uint8_t *b)
{
	size_t len = (size_t)or_else(s->len, 8);

	put16(b, s->sport);
	put16(b + 2, s->dport);
	put16(b + 4, or_else(s->udplen, (int64_t)(8 + len)));
	if (s->data_len > 0)
		memcpy(b + 8, s->data, len);
	else
		fill(b + 8, len, 1);
	return 8 + len;
}

static size_t
build_icmp(const struct spec *s, uint8_t *b)
{
	size_t len = (size_t)or_else(s->len, s->kind == KIND_ICMP ? 16 : 0);

	b[0] = s->icmp_type;
	b[1] = s->icmp_code;
	put32(b + 4, 0);
	if (s->kind == KIND_ICMP) {
		put16(b + 4, or_else(s->id, 1));
		put16(b + 6, or_else(s->seq, 1));
		fill(b + 8, len, 3);
		return 8 + len;
	}
	if (s->mtu != UNSET)
		put32(b + 4, s->mtu); /* RFC 1191: the low half; RFC 4443: all of it */
	memcpy(b + 8, s->inner, s->inner_len);
	fill(b + 8 + s->inner_len, len, 5);
	return 8 + s->inner_len + len;
}

static size_t
build_nd(const struct spec *s, uint8_t *b)
{
	size_t n = 8;

	b[0] = s->nd_type;
	b[1] = s->icmp_code;
	put32(b + 4, s->nd_type == 136 ? 0x60000000 : s->nd_type == 134 ? 0x40000708 : 0);
	if (s->nd_type == 134) { /* reachable and retransmission time */
		put32(b + n, 0);
		put32(b + n + 4, 0);
		n += 8;
	} else if (s->nd_type != 133) {
		memcpy(b + n, s->target.bytes, 16);
		n += 16;
	}
	if (s->nd_type == 137) {
		(void)memcpy(b + n, s->target.bytes, 16);
		n += 16;
	}
	if (!s->noopt) {
		b[n] = s->nd_type == 136 || s->nd_type == 137 ? 2 : 1;
		b[n + 1] = (uint8_t)or_else(s->optlen, 1);
		memcpy(b + n + 2, s->hwaddr, 6);
		n += 8;
	}
	return n;
}

static size_t
build_l4(const struct spec *s, uint8_t *b, uint8_t *proto)
{
	size_t n = (size_t)or_else(s->len, 16);

	switch (s->kind) {
	case KIND_TCP:
		*proto = PROTO_TCP;
		n = build_tcp(s, b);
		set_checksum(s, b + 16, b, n, pseudo(&s->src, &s->dst, *proto, n));
		return n;
	case KIND_UDP:
		*proto = PROTO_UDP;
		n = build_udp(s, b);
		set_checksum(s, b + 6, b, n, pseudo(&s->src, &s->dst, *proto, n));
		return n;
	case KIND_ICMP:
	case KIND_ICMP_ERROR:
	case KIND_ND:
		*proto = s->family == 4 ? PROTO_ICMP : PROTO_ICMP6;
		n = s->kind == KIND_ND ? build_nd(s, b) : build_icmp(s, b);
		set_checksum(
		    s, b + 2, b, n, s->family == 4 ? 0 : pseudo(&s->src, &s->dst, *proto, n));
		return n;
	case KIND_SCTP:
		*proto = PROTO_SCTP;
		put16(b, s->sport);
		put16(b + 2, s->dport);
		put32(b + 4, 0x1234);
		put32(b + 8, 0); /* CRC32c: not computed, and not looked at on the way */
		fill(b + 12, n, 0);
		return 12 + n;
	case KIND_GRE:
		*proto = PROTO_GRE;
		memcpy(b, (uint8_t[]){ 0, 0, 0x08, 0 }, 4);
		fill(b + 4, n, 0);
		return 4 + n;
	default:
		*proto = (uint8_t)or_else(s->next, 253); /* RFC 3692: for experiments */
		fill(b, n, 0);
		return n;
	}
}

/* A chain of IPv6 extension headers that ends in *next; *next becomes the first of them. */
static size_t
build_ext(const struct spec *s, uint8_t *b, uint8_t *next)
{
	static const struct {
		const char *name;
		uint8_t number, len;
	} kinds[] = { { "hbh", 0, 8 }, { "dst", 60, 8 }, { "rt0", 43, 24 }, { "rt0-done", 43, 24 },
		{ "rt4", 43, 24 }, { "frag", 44, 8 }, { "ah", 51, 24 }, { "none", 59, 0 },
		{ "long", 60, 8 } };
	const char *chain[EXT_MAX + 1];
	unsigned int n = s->ext_count;
	uint8_t *link = next, last = *next;
	size_t off = 0;

	memcpy(chain, s->ext, n * sizeof(chain[0]));
	if (s->frag != UNSET || s->mf)
		chain[n++] = "frag";
	for (unsigned int i = 0; i < n; i++) {
		unsigned int k = 0;
		uint8_t *h = b + off;

		while (strcmp(kinds[k].name, chain[i]) != 0)
			k++;
		*link = kinds[k].number;
		if (kinds[k].len == 0)
			return off; /* no next header: what follows is nothing */
		memset(h, 0, kinds[k].len);
		h[1] = (uint8_t)(kinds[k].len / 8 - 1);
		if (kinds[k].number == 44) {
			h[1] = 0;
			put16(h + 2, (or_else(s->frag, 0) & ~7) | (s->mf ? 1 : 0));
			put32(h + 4, or_else(s->id, 0x77));
		} else if (kinds[k].number == 51) {
			h[1] = kinds[k].len / 4 - 2;
		} else if (kinds[k].number == 43) {
			h[2] = strcmp(chain[i], "rt4") == 0 ? 4 : 0;
			h[3] = strcmp(chain[i], "rt0-done") == 0 ? 0 : 1;
		} else {
			h[2] = 1; /* PadN over the rest */
			h[3] = 4;
		}
		if (strcmp(chain[i], "long") == 0)
			h[1] = 255;
		link = h;
		off += kinds[k].len;
	}
	*link = last;
	return off;
}

static size_t
build_ip(const struct spec *s, uint8_t *b)
{
	uint8_t *l4 = calloc(1, PACKET_MAX), proto = 0;
	size_t n, len, hdr;

	if (l4 == NULL)
		abort();
	len = build_l4(s, l4, &proto);
	if (s->next != UNSET)
		proto = (uint8_t)s->next;
	if (s->family == 4) {
		unsigned int opts = (s->ipopt_len + 3) & ~3u;
		int64_t off = or_else(s->frag, 0) / 8 | (s->mf ? 0x2000 : 0) | (s->df ? 0x4000 : 0);

		hdr = 20 + opts;
		memset(b, 0, hdr);
		b[0] = (uint8_t)(or_else(s->version, 4) << 4 | or_else(s->ihl, (int64_t)hdr / 4));
		b[1] = (uint8_t)s->tos;
		put16(b + 2, or_else(s->iplen, (int64_t)(hdr + len)));
		put16(b + 4, s->kind == KIND_ICMP ? 0x77 : or_else(s->id, 0x77));
		put16(b + 6, off);
		b[8] = (uint8_t)s->ttl;
		b[9] = proto;
		memcpy(b + 12, s->src.bytes, 4);
		memcpy(b + 16, s->dst.bytes, 4);
		memcpy(b + 20, s->ipopt, s->ipopt_len);
		put16(b + 10, (uint16_t)~fold(sum(0, b, hdr)) ^ (s->badipsum ? 0x5555 : 0));
		n = hdr;
	} else {
		uint8_t ext[EXT_MAX * 24 + 64];
		size_t ext_len = build_ext(s, ext, &proto);

		put32(b, or_else(s->version, 6) << 28 | s->tos << 20);
		put16(b + 4, or_else(s->iplen, (int64_t)(ext_len + len)));
		b[6] = proto;
		b[7] = (uint8_t)s->ttl;
		memcpy(b + 8, s->src.bytes, 16);
		memcpy(b + 24, s->dst.bytes, 16);
		memcpy(b + 40, ext, ext_len);
		n = 40 + ext_len;
	}
	memcpy(b + n, l4, len);
	free(l4);
	return n + len;
}

static size_t
build_arp(const struct spec *s, uint8_t *b)
{
	put16(b, or_else(s->htype, 1));
	put16(b + 2, ETHER_IPV4);
	b[4] = (uint8_t)or_else(s->hlen, 6);
	b[5] = (uint8_t)or_else(s->plen, 4);
	put16(b + 6, s->op);
	memcpy(b + 8, s->hwaddr, 6);
	memcpy(b + 14, s->src.bytes, 4);
	memset(b + 18, 0, 6);
	if (s->op == 2)
		memcpy(b + 18, s->dmac, 6);
	memcpy(b + 24, s->dst.bytes, 4);
	return 28;
}

/* Where the line leaves the destination open: groups, and their MAC addresses. */
static void
usual_group(struct spec *s)
{
	static const uint8_t all_nodes[16] = { 0xff, 2, [15] = 1 };

	/* A solicitation goes to the solicited-node group (RFC 4291, section 2.7.1). */
	if (s->kind == KIND_ND && s->nd_type == 135 && memcmp(s->dst.bytes, all_nodes, 16) == 0)
		memcpy(s->dst.bytes,
		    (uint8_t[]){ 0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, s->target.bytes[13],
		        s->target.bytes[14], s->target.bytes[15] },
		    16);
	if (s->kind == KIND_ARP && s->op == 1)
		memset(s->dmac, 0xff, 6);
	else if (s->family == 6 && s->dst.bytes[0] == 0xff)
		memcpy(s->dmac,
		    (uint8_t[]){ 0x33, 0x33, s->dst.bytes[12], s->dst.bytes[13], s->dst.bytes[14],
		        s->dst.bytes[15] },
		    6);
	else if (s->family == 4 && (s->dst.bytes[0] & 0xf0) == 0xe0)
		memcpy(s->dmac,
		    (uint8_t[]){ 0x01, 0x00, 0x5e, s->dst.bytes[1] & 0x7f, s->dst.bytes[2],
		        s->dst.bytes[3] },
		    6);
	else if (s->family == 4 && s->dst.bytes[0] == 255)
		memset(s->dmac, 0xff, 6);
}

/* Put the frame into a tunnel of the side it comes from: VXLAN (RFC 7348) or Geneve (RFC 8926) with one option. */
static void
wrap(const struct spec *s, struct packet *out)
{
	bool geneve = s->geneve != UNSET;
	unsigned int family = s->outer != 0 ? s->outer : 4;
	size_t tunnel = geneve ? 16 : 8, ip_len = family == 4 ? 20 : 40;
	size_t head = 14 + ip_len + 8 + tunnel;
	int64_t vni = geneve ? s->geneve : s->vxlan;
	uint8_t *ip = out->bytes + 14, *udp = ip + ip_len, *h = udp + 8;
	struct pk_addr src, dst;

	(void)packet_addr(&src, family, s->side == PACKET_IN ? "vtep-in" : "vtep-out");
	(void)packet_addr(&dst, family, s->side == PACKET_IN ? "vtep-out" : "vtep-in");
	if (s->vtep.family != 0)
		src = s->vtep;
	memmove(out->bytes + head, out->bytes, out->len);
	memset(out->bytes, 0, head);
	memcpy(out->bytes, s->side == PACKET_IN ? packet_gateway_mac : packet_workload_mac, 6);
	memcpy(out->bytes + 6, s->side == PACKET_IN ? packet_workload_mac : packet_gateway_mac, 6);
	put16(out->bytes + 12, family == 4 ? ETHER_IPV4 : ETHER_IPV6);
	if (family == 4) {
		ip[0] = 0x45;
		ip[1] = (uint8_t)or_else(s->outer_tos, 0);
		put16(ip + 2, (int64_t)(head - 14 + out->len));
		put16(ip + 6, s->outer_mf ? 0x2000 : 0x4000);
		ip[8] = 64;
		ip[9] = PROTO_UDP;
		memcpy(ip + 12, src.bytes, 4);
		memcpy(ip + 16, dst.bytes, 4);
		put16(ip + 10, (uint16_t)~fold(sum(0, ip, 20)));
	} else {
		put32(ip, UINT32_C(6) << 28 | or_else(s->outer_tos, 0) << 20);
		put16(ip + 4, (int64_t)(8 + tunnel + out->len));
		ip[6] = PROTO_UDP;
		ip[7] = 64;
		memcpy(ip + 8, src.bytes, 16);
		memcpy(ip + 24, dst.bytes, 16);
	}
	put16(udp, 50000);
	put16(udp + 2, geneve ? 6081 : 4789);
	put16(udp + 4, (int64_t)(8 + tunnel + out->len));
	if (geneve) {
		h[0] =
		    2; /* words of options: one of an experimental class, without data of its own to speak of */
		put16(h + 2, 0x6558);
		put16(h + 8, 0xffff);
		h[11] = 1;
	} else {
		h[0] = 0x08;
	}
	put32(h + 4, vni << 8);
	for (unsigned int i = 0; i < sizeof(s->tunnel); i++)
		h[i] ^= s->tunnel[i];
	out->len += head;
	if (family == 6)
		put16(udp + 6,
		    (uint16_t)~fold(
		        sum(pseudo(&src, &dst, PROTO_UDP, out->len - 54), udp, out->len - 54)));
}

int
packet_build(struct packet *out, const struct packet_stage *stage, char *const *words,
    unsigned int n, char *err, size_t err_len)
{
	struct spec *s = calloc(1, sizeof(*s));
	struct words w = { .at = words, .n = n, .err = err, .err_len = err_len };
	const char *side = next_word(&w);
	int64_t tags[3];
	unsigned int nb_tags = 0;
	int rc;

	if (s == NULL)
		return -ENOMEM;
	memset(out, 0, sizeof(*out));
	s->family = stage->family;
	s->side = strcmp(side, "in") == 0 ? PACKET_IN : PACKET_OUT;
	if (s->side != PACKET_IN && strcmp(side, "out") != 0) {
		rc = bad(&w, "a packet comes `in` or `out`, not \"%s\"", side);
		goto done;
	}
	rc = parse_spec(&w, s, stage, false);
	if (rc < 0)
		goto done;
	usual_group(s);
	out->side = s->side;
	out->wire = (uint16_t)or_else(s->wire, 0);
	if (s->kind == KIND_RAW) {
		memcpy(out->bytes, s->raw, s->raw_len);
		out->len = s->raw_len;
		goto done;
	}
	memcpy(out->bytes, s->dmac, 6);
	memcpy(out->bytes + 6, s->smac, 6);
	out->len = 12;
	tags[0] = s->vlan;
	tags[1] = s->vlan2;
	tags[2] = s->vlan3;
	while (nb_tags < 3 && tags[nb_tags] != UNSET)
		nb_tags++;
	for (unsigned int i = 0; i < nb_tags; i++, out->len += 4) {
		put16(out->bytes + out->len, nb_tags > 1 && i == 0 ? ETHER_QINQ : ETHER_VLAN);
		put16(out->bytes + out->len + 2, tags[i]);
	}
	put16(out->bytes + out->len,
	    or_else(s->ethertype,
	        s->kind == KIND_ARP  ? ETHER_ARP
	            : s->family == 4 ? ETHER_IPV4
	                             : ETHER_IPV6));
	out->len += 2;
	out->len += s->kind == KIND_ARP ? build_arp(s, out->bytes + out->len)
	                                : build_ip(s, out->bytes + out->len);
	out->len += (size_t)or_else(s->pad, 0); /* zero bytes that belong to no header */
	if (s->vxlan != UNSET || s->geneve != UNSET)
		wrap(s, out);
	if (s->cut != UNSET)
		out->len = PK_MIN(out->len, (size_t)s->cut);
	if (s->partial) {
		struct packet_view v;

		packet_read(&v, out->bytes, out->len);
		out->partial = true;
		out->partial_at = (size_t)(v.l4 - out->bytes) + (v.proto == PROTO_TCP ? 16 : 6);
		out->partial_sum = fold(pseudo(&v.src, &v.dst, v.proto, v.l4_len));
	}
done:
	free(s);
	return rc;
}

/* ---- bytes to what a receiver reads ---- */

static void
read_addr(struct pk_addr *a, unsigned int family, const uint8_t *bytes)
{
	memset(a, 0, sizeof(*a));
	a->family = (uint8_t)family;
	memcpy(a->bytes, bytes, family == 4 ? 4 : 16);
}

static uint32_t
get32(const uint8_t *b)
{
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void
read_tcp_options(struct packet_view *v, const uint8_t *o, const uint8_t *end)
{
	v->mss = v->scale = -1;
	for (; o < end && o[0] != 0; o += o[0] == 1 ? 1 : o[1]) {
		if (o[0] == 1)
			continue;
		if (end - o < 2 || o[1] < 2 || o[1] > end - o)
			return;
		switch (o[0]) {
		case 2:
			v->mss = o[2] << 8 | o[3];
			break;
		case 3:
			v->scale = o[2];
			break;
		case 4:
			v->sackok = true;
			break;
		case 5:
			for (unsigned int k = 2; k + 4 <= o[1] && v->nb_sack < 8; k += 4)
				v->sack[v->nb_sack++] = get32(o + k);
			break;
		case 8:
			v->timestamps = true;
			v->tsval = get32(o + 2);
			v->tsecr = get32(o + 6);
			break;
		default:
			break;
		}
	}
}

/* A tunnel's packet is read as what it carries; its outer header has to be right. */
static bool
read_inner(struct packet_view *v)
{
	const uint8_t *h = v->l4 + 8;
	size_t head;
	struct packet_view inner;
	bool ok;

	if (v->proto != PROTO_UDP || v->l4_len < 16 || (v->dport != 4789 && v->dport != 6081))
		return false;
	if (v->dport == 4789 ? (h[0] & 8) == 0 : h[0] >> 6 != 0 || h[2] != 0x65 || h[3] != 0x58)
		return false;
	head = 16 + (v->dport == 6081 ? (h[0] & 0x3fu) * 4 : 0);
	if (head > v->l4_len)
		return false;
	packet_read(&inner, v->l4 + head, v->l4_len - head);
	ok = (size_t)(v->l4[4] << 8 | v->l4[5]) == v->l4_len &&
	    ((v->family == 4 && v->l4[6] == 0 && v->l4[7] == 0) || v->checksums_ok);
	inner.tunnel_src = v->src;
	inner.tunnel_dst = v->dst;
	inner.vni = (uint32_t)h[4] << 16 | (uint32_t)h[5] << 8 | h[6];
	inner.checksums_ok = inner.checksums_ok && ok;
	*v = inner;
	return true;
}

void
packet_read(struct packet_view *v, const uint8_t *bytes, size_t len)
{
	struct pk_wire w = pk_wire_from(bytes, len);
	uint16_t type;
	bool ok = true;

	memset(v, 0, sizeof(*v));
	v->ether = bytes;
	v->ether_len = len;
	pk_wire_skip(&w, 12);
	for (type = pk_wire_be16(&w); type == ETHER_VLAN || type == ETHER_QINQ;
	     type = pk_wire_be16(&w))
		pk_wire_skip(&w, 2);
	v->ip = w.at;
	if (!pk_wire_ok(&w) || (type != ETHER_IPV4 && type != ETHER_IPV6))
		return;
	if (type == ETHER_IPV4 && pk_wire_left(&w) >= 20) {
		size_t hdr = (size_t)(v->ip[0] & 15) * 4,
		       total = (size_t)(v->ip[2] << 8 | v->ip[3]);

		if (hdr < 20 || total < hdr || total > pk_wire_left(&w))
			return;
		v->family = 4;
		v->ip_len = total;
		v->hops = v->ip[8];
		v->proto = v->ip[9];
		read_addr(&v->src, 4, v->ip + 12);
		read_addr(&v->dst, 4, v->ip + 16);
		ok = fold(sum(0, v->ip, hdr)) == 0xffff;
		v->l4 = v->ip + hdr;
		v->l4_len = total - hdr;
	} else if (type == ETHER_IPV6 && pk_wire_left(&w) >= 40) {
		size_t total = 40 + (size_t)(v->ip[4] << 8 | v->ip[5]);

		if (total > pk_wire_left(&w))
			return;
		v->family = 6;
		v->ip_len = total;
		v->proto = v->ip[6];
		v->hops = v->ip[7];
		read_addr(&v->src, 6, v->ip + 8);
		read_addr(&v->dst, 6, v->ip + 24);
		v->l4 = v->ip + 40;
		v->l4_len = total - 40;
		/* Hop-by-hop and destination options only: nothing else is answered. */
		while ((v->proto == 0 || v->proto == 60) && v->l4_len >= 8) {
			size_t ext = ((size_t)v->l4[1] + 1) * 8;

			if (ext > v->l4_len)
				return;
			v->proto = v->l4[0];
			v->l4 += ext;
			v->l4_len -= ext;
		}
	} else {
		return;
	}
	w = pk_wire_from(v->l4, v->l4_len);
	if (v->proto == PROTO_TCP || v->proto == PROTO_UDP || v->proto == PROTO_SCTP) {
		v->sport = pk_wire_be16(&w);
		v->dport = pk_wire_be16(&w);
	}
	if (v->proto == PROTO_TCP && v->l4_len >= 20) {
		size_t hdr = (size_t)(v->l4[12] >> 4) * 4;

		v->seq = pk_wire_be32(&w);
		v->ack = pk_wire_be32(&w);
		v->tcp_flags = v->l4[13];
		v->win = (uint16_t)(v->l4[14] << 8 | v->l4[15]);
		read_tcp_options(v, v->l4 + 20, v->l4 + PK_MIN(hdr, v->l4_len));
		v->payload = v->l4 + PK_MIN(hdr, v->l4_len);
		v->payload_len = hdr <= v->l4_len ? v->l4_len - hdr : 0;
	} else if ((v->proto == PROTO_ICMP || v->proto == PROTO_ICMP6) && v->l4_len >= 8) {
		v->icmp_type = v->l4[0];
		v->icmp_code = v->l4[1];
		v->payload = v->l4 + 8;
		v->payload_len = v->l4_len - 8;
	}
	if (v->proto == PROTO_ICMP)
		ok = ok && fold(sum(0, v->l4, v->l4_len)) == 0xffff;
	else if (v->proto == PROTO_TCP || v->proto == PROTO_UDP || v->proto == PROTO_ICMP6)
		ok = ok &&
		    fold(sum(pseudo(&v->src, &v->dst, v->proto, v->l4_len), v->l4, v->l4_len)) ==
		        0xffff;
	v->checksums_ok = ok && pk_wire_ok(&w);
	(void)read_inner(v);
}

const char *
packet_text(const uint8_t *bytes, size_t len, char *buf, size_t buf_len)
{
	struct packet_view v;
	char src[PK_ADDR_TEXT], dst[PK_ADDR_TEXT], flags[9] = "";
	unsigned int n = 0;

	packet_read(&v, bytes, len);
	if (v.family == 0) {
		snprintf(buf, buf_len, "%zu bytes, not IP", len);
		return buf;
	}
	pk_addr_text(&v.src, src);
	pk_addr_text(&v.dst, dst);
	for (unsigned int i = 0; i < 8; i++)
		if ((v.tcp_flags & 1 << i) != 0)
			flags[n++] = "FSRPAUEW"[i];
	if (v.proto == PROTO_TCP)
		snprintf(buf, buf_len,
		    "%s %u > %s %u tcp %s seq %" PRIu32 " ack %" PRIu32 " len %zu", src, v.sport,
		    dst, v.dport, n > 0 ? flags : "none", v.seq, v.ack, v.payload_len);
	else if (v.proto == PROTO_ICMP || v.proto == PROTO_ICMP6)
		snprintf(buf, buf_len, "%s > %s icmp type %u code %u, %zu bytes", src, dst,
		    v.icmp_type, v.icmp_code, v.payload_len);
	else
		snprintf(buf, buf_len, "%s %u > %s %u protocol %u, %zu bytes", src, v.sport, dst,
		    v.dport, v.proto, v.ip_len);
	return buf;
}
