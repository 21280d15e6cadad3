/* picketctl dpi: deep inspection of recorded packets. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "ctl/ctl.h"
#include "ctl/dpi_rules.h"
#include "ctl/layers.h"
#include "dpi/app.h"

#define POOL_BYTES (16u << 20)

struct key {
	struct pk_addr addr[2];
	uint16_t port[2];
	uint32_t proto;
};

struct flow {
	struct key key; /* lower address and port first */
	UT_hash_handle hh;
	struct flow *next; /* in order of appearance */
	struct pk_addr src, dst;
	uint16_t sport, dport;
	bool lower_first; /* the side that opened it is key.addr[0] */
	bool inspected, closed;
	uint64_t packets[2], bytes[2], conflicts;
	uint32_t fin;
	struct dpi_flow dpi;
	json_t *fields;
};

struct inspection {
	struct ctl_context *ctx;
	struct dpi *dpi;
	struct flow *table, *first, *last;
	struct ctl_fragments *fragments;
};

/* Bytes as JSON text: printable ASCII as it is, the rest as \xHH. */
static json_t *
safe_text(const uint8_t *bytes, uint32_t len)
{
	char text[2048];
	size_t n = 0;

	for (uint32_t i = 0; i < len && n + 5 < sizeof(text); i++)
		if (bytes[i] >= 0x20 && bytes[i] < 0x7f)
			text[n++] = (char)bytes[i];
		else
			n += (size_t)snprintf(text + n, sizeof(text) - n, "\\x%02x", bytes[i]);
	return json_stringn(text, n);
}

/* A Name of X.501 as "CN=www.example.org, O=Example": attributes of the usual kinds in their order. */
static json_t *
name_text(const uint8_t *der, uint32_t len)
{
	static const char *const kinds[] = {
		[3] = "CN", [6] = "C", [7] = "L", [8] = "ST", [10] = "O", [11] = "OU"
	};
	char text[1024];
	size_t n = 0;

	/* Each attribute: OID 2.5.4.x (06 03 55 04 x), then a string of its kind. */
	for (uint32_t i = 0; i + 7 < len; i++) {
		uint32_t value;

		if (memcmp(der + i, "\x06\x03\x55\x04", 4) != 0 || der[i + 4] >= PK_COUNT(kinds) ||
		    kinds[der[i + 4]] == NULL || der[i + 6] >= 0x80)
			continue;
		value = PK_MIN((uint32_t)der[i + 6], len - i - 7);
		if (n + value + 8 >= sizeof(text))
			break;
		n += (size_t)snprintf(
		    text + n, sizeof(text) - n, "%s%s=", n > 0 ? ", " : "", kinds[der[i + 4]]);
		for (uint32_t k = 0; k < value; k++) {
			uint8_t c = der[i + 7 + k];

			text[n++] = (char)(c >= 0x20 && c < 0x7f ? c : '?');
		}
		i += 6 + value;
	}
	return json_stringn(text, n);
}

static void
on_field(void *arg, enum dpi_field field, unsigned int dir, uint32_t offset, const uint8_t *bytes,
    uint32_t len)
{
	struct flow *f = arg;
	const char *name = dpi_field_name(field);
	struct pk_addr a = { .family = 0 };
	char buf[PK_ADDR_TEXT];
	json_t *list;

	(void)dir;
	(void)offset;
	if (field == DPI_FIELD_CERT_SUBJECT) {
		json_object_set_new(f->fields, name, name_text(bytes, len));
		return;
	}
	if (field != DPI_FIELD_DNS_ANSWER) {
		json_object_set_new(f->fields, name, safe_text(bytes, len));
		return;
	}
	list = json_object_get(f->fields, name);
	if (list == NULL) {
		list = json_array();
		json_object_set_new(f->fields, name, list);
	}
	a.family = len == 4 ? 4 : 6;
	memcpy(a.bytes, bytes, PK_MIN(len, (uint32_t)sizeof(a.bytes)));
	json_array_append_new(list, json_string(pk_addr_text(&a, buf)));
}

static const char *
proto_name(uint32_t proto, char buf[8])
{
	switch (proto) {
	case 1:
		return "icmp";
	case 2:
		return "igmp";
	case 6:
		return "tcp";
	case 17:
		return "udp";
	case 47:
		return "gre";
	case 50:
		return "esp";
	case 51:
		return "ah";
	case 58:
		return "icmpv6";
	case 103:
		return "pim";
	case 132:
		return "sctp";
	default:
		snprintf(buf, 8, "%u", proto);
		return buf;
	}
}

static void
report(struct ctl_rows *rows, const struct flow *f)
{
	static const char *const sure[] = { "", "likely", "certain" };
	char src[PK_ADDR_TEXT], dst[PK_ADDR_TEXT], number[8];
	enum dpi_app app = f->inspected ? (enum dpi_app)f->dpi.app : DPI_APP_UNKNOWN;
	json_t *row;

	/* What has no ports is known by its number. */
	if (f->key.proto == 50 || f->key.proto == 51)
		app = DPI_APP_IPSEC;
	row = json_pack("{s:s, s:s, s:s, s:i, s:s, s:i, s:s, s:s, s:i, s:I, s:I}", "type", "flow",
	    "proto", proto_name(f->key.proto, number), "src", pk_addr_text(&f->src, src), "sport",
	    (int)f->sport, "dst", pk_addr_text(&f->dst, dst), "dport", (int)f->dport, "app",
	    dpi_app_name(app), "confidence",
	    app == DPI_APP_UNKNOWN ? "none"
	        : !f->inspected    ? "certain"
	                           : sure[f->dpi.confidence],
	    "packets_needed", f->inspected ? (int)f->dpi.needed : 0, "packets",
	    (json_int_t)(f->packets[0] + f->packets[1]), "bytes",
	    (json_int_t)(f->bytes[0] + f->bytes[1]));
	if (f->conflicts > 0)
		json_object_set_new(row, "conflicts", json_integer((json_int_t)f->conflicts));
	json_object_update(row, f->fields);
	ctl_rows_add(rows, row);
}

/* A new connection between the same ports: SYN without ACK after the old one has ended. */
static bool
begins_anew(const struct flow *f, const struct ctl_layers *l)
{
	return f->closed && l->proto == 6 && (l->tcp_flags & 0x12) == 0x02;
}

static struct flow *
flow_of(struct inspection *n, const struct ctl_layers *l)
{
	struct key key;
	struct flow *f;
	int order = pk_addr_compare(&l->src, &l->dst);
	bool lower = order < 0 || (order == 0 && l->sport <= l->dport);
	bool answer = l->proto == 6 && (l->tcp_flags & 0x12) == 0x12;
	uint16_t ports[2];

	memset(&key, 0, sizeof(key));
	key.addr[!lower] = l->src;
	key.addr[lower] = l->dst;
	key.port[!lower] = l->sport;
	key.port[lower] = l->dport;
	key.proto = l->proto;
	HASH_FIND(hh, n->table, &key, sizeof(key), f);
	if (f != NULL && begins_anew(f, l)) {
		HASH_DEL(n->table, f);
		if (f->inspected)
			dpi_flow_finish(n->dpi, &f->dpi, &(struct dpi_sink){ on_field, f });
		f = NULL;
	}
	if (f != NULL)
		return f;
	f = calloc(1, sizeof(*f));
	PK_ASSERT(f != NULL);
	f->key = key;
	/* What answers a SYN is not the side that opened. */
	f->src = answer ? l->dst : l->src;
	f->dst = answer ? l->src : l->dst;
	f->sport = answer ? l->dport : l->sport;
	f->dport = answer ? l->sport : l->dport;
	f->lower_first = lower != answer;
	f->fields = json_object();
	f->inspected = l->proto == 6 || l->proto == 17;
	ports[0] = f->sport;
	ports[1] = f->dport;
	if (f->inspected)
		dpi_flow_init(&f->dpi, l->proto == 6 ? DPI_TCP : DPI_UDP, ports);
	HASH_ADD(hh, n->table, key, sizeof(f->key), f);
	if (n->last != NULL)
		n->last->next = f;
	else
		n->first = f;
	n->last = f;
	return f;
}

static void
on_packet(struct inspection *n, const struct ctl_packet *packet)
{
	struct ctl_layers l;
	struct dpi_packet p;
	struct flow *f;
	int order;
	bool lower;

	if (!ctl_layers(n->fragments, packet, &l))
		return;
	f = flow_of(n, &l);
	order = pk_addr_compare(&l.src, &l.dst);
	lower = order < 0 || (order == 0 && l.sport <= l.dport);
	p = (struct dpi_packet){ .bytes = l.payload,
		.len = (uint16_t)PK_MIN(l.len, 65535u),
		.dir = lower == f->lower_first ? 0 : 1,
		.syn = (l.tcp_flags & 2) != 0,
		.fin = (l.tcp_flags & 1) != 0,
		.seq = l.seq };
	f->packets[p.dir]++;
	f->bytes[p.dir] += l.len;
	if (l.proto == 6) {
		f->fin |= p.fin ? 1u << p.dir : 0;
		f->closed |= f->fin == 3 || (l.tcp_flags & 4) != 0;
	}
	/* A reset's payload is no data (RFC 9293 section 3.5.2). */
	if (!f->inspected || (l.proto == 6 && (l.tcp_flags & 4) != 0))
		return;
	if (dpi_flow_feed(n->dpi, &f->dpi, &p, &(struct dpi_sink){ on_field, f }) == DPI_CONFLICT)
		f->conflicts++;
}

static int
run_file(struct inspection *n, const char *path, struct ctl_rows *rows)
{
	struct ctl_capture *capture;
	struct ctl_packet packet;
	struct pk_diag diag;
	int rc, status = CTL_DONE;

	if (ctl_capture_open(&capture, path, &diag) < 0)
		return ctl_refused(n->ctx, "%s", diag.text);
	while ((rc = ctl_capture_next(capture, &packet, &diag)) > 0)
		on_packet(n, &packet);
	ctl_capture_close(capture);
	/* What could be read of a broken file is told all the same. */
	if (rc < 0)
		status = ctl_refused(n->ctx, "%s", diag.text);
	for (struct flow *f = n->first, *next; f != NULL; f = next) {
		next = f->next;
		if (f->inspected)
			dpi_flow_finish(n->dpi, &f->dpi, &(struct dpi_sink){ on_field, f });
		report(rows, f);
		json_decref(f->fields);
		if (f->inspected)
			dpi_flow_fini(n->dpi, &f->dpi);
	}
	HASH_CLEAR(hh, n->table);
	for (struct flow *f = n->first, *next; f != NULL; f = next) {
		next = f->next;
		free(f);
	}
	n->first = n->last = NULL;
	return status;
}

static int
test_pcap(struct ctl_context *ctx, int argc, char **argv)
{
	static const struct ctl_column columns[] = { { "proto", "PROTO" }, { "src", "SRC" },
		{ "sport", "SPORT" }, { "dst", "DST" }, { "dport", "DPORT" }, { "app", "APP" },
		{ "confidence", "CONFIDENCE" }, { "packets_needed", "NEEDED" }, { "sni", "SNI" },
		{ "http_host", "HOST" }, { "dns_query", "QUERY" }, { "service", "SERVICE" } };
	struct inspection n = { .ctx = ctx };
	struct ctl_dpi_rules rules = { .nb = 0 };
	struct ctl_rows *rows;
	const char *path = NULL;
	void *blocks;
	int status, matched = CTL_DONE;

	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "-j") == 0)
			ctx->json = true;
		else if (strcmp(argv[i], "--rules") == 0 || strcmp(argv[i], "--set") == 0)
			i += ctl_dpi_rules_take(&rules, argv + i);
		else if (argv[i][0] != '-' && path != NULL && rules.nb > 0 &&
		    rules.nb < CTL_DPI_RULES_MAX)
			rules.file[rules.nb++] = argv[i];
		else if (argv[i][0] == '-' || path != NULL)
			return ctl_usage(ctx, "dpi test-pcap: \"%s\" is not understood", argv[i]);
		else
			path = argv[i];
	}
	if (path == NULL)
		return ctl_usage(ctx, "dpi test-pcap takes a capture");
	if (rules.wrong != NULL)
		return ctl_usage(ctx, "dpi test-pcap: %s", rules.wrong);
	blocks = malloc(POOL_BYTES);
	if (blocks == NULL || dpi_create(&n.dpi, blocks, POOL_BYTES, &DPI_LIMITS_DEFAULT) < 0) {
		free(blocks);
		return ctl_refused(ctx, "out of memory");
	}
	n.fragments = ctl_fragments_create();
	rows = ctl_rows_begin(ctx, columns, PK_COUNT(columns));
	/* A capture that breaks off is refused, and still told of as far as it goes. */
	status = run_file(&n, path, rows);
	if (rules.nb > 0 && ctx->json)
		matched = ctl_dpi_alerts(ctx, &rules, path, rows);
	ctl_rows_end(rows);
	if (rules.nb > 0 && !ctx->json)
		matched = ctl_dpi_alerts(ctx, &rules, path, NULL);
	ctl_fragments_destroy(n.fragments);
	dpi_destroy(n.dpi);
	free(blocks);
	return PK_MAX(status, matched);
}

const struct ctl_command ctl_dpi_commands[] = {
	{ "dpi test-pcap", "FILE [--rules FILE...] [--set NAME=VALUE]...",
	    "say of every flow in a capture its application, and which signatures match",
	    test_pcap },
	{ "dpi compile", "FILE... -o BUNDLE [--key PRIVATE] [--cpu KIND] [--set NAME=VALUE]...",
	    "compile signatures into a bundle for picketd, with a digest and a signature",
	    ctl_dpi_compile },
	{ "dpi check", "FILE... [--set NAME=VALUE]...",
	    "read and compile signatures, and say which are refused", ctl_dpi_check },
	{ NULL, NULL, NULL, NULL },
};
