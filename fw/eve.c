#include "fw/eve.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "dpi/buffer.h"
#include "dpi/sig_rule.h"
#include "fw/inspect.h"
#include "fw/path.h"
#include "fw/session.h"

struct fw_eve {
	FILE *file;
	uint64_t lost;
};

int
fw_eve_open(struct fw_eve **out, const char *path, struct pk_diag *diag)
{
	struct fw_eve *e = calloc(1, sizeof(*e));

	if (e == NULL)
		return -ENOMEM;
	e->file = fopen(path, "ae");
	if (e->file == NULL) {
		pk_diag_set(diag, "event-log = %s: %s", path, strerror(errno));
		free(e);
		return -errno;
	}
	*out = e;
	return 0;
}

void
fw_eve_close(struct fw_eve *e)
{
	if (e == NULL)
		return;
	fclose(e->file);
	free(e);
}

void
fw_eve_flush(struct fw_eve *e)
{
	if (fflush(e->file) != 0)
		e->lost++;
}

uint64_t
fw_eve_lost(const struct fw_eve *e)
{
	return e->lost;
}

/* Printable ASCII as it is, the rest as \xHH: it came from a network. */
static json_t *
safe(const char *bytes, size_t len)
{
	char out[4 * 256 + 1];
	size_t n = 0;

	for (size_t i = 0; i < len && n + 5 < sizeof(out); i++) {
		unsigned char c = (unsigned char)bytes[i];

		if (c >= 0x20 && c < 0x7f)
			out[n++] = (char)c;
		else
			n += (size_t)snprintf(out + n, sizeof(out) - n, "\\x%02x", c);
	}
	return json_stringn(out, n);
}

static json_t *
safe_text(const char *text)
{
	return safe(text, strlen(text));
}

static const char *
proto_name(uint8_t proto, char buf[8])
{
	switch (proto) {
	case 1:
		return "ICMP";
	case 6:
		return "TCP";
	case 17:
		return "UDP";
	case 58:
		return "IPv6-ICMP";
	case 132:
		return "SCTP";
	default:
		snprintf(buf, 8, "%u", proto);
		return buf;
	}
}

static json_t *
common(const struct fw_trace_record *t, const char *type, const struct fw_rule_info *info,
    uint64_t ahead_ns)
{
	uint64_t wall = t->time_ns + ahead_ns;
	time_t s = (time_t)(wall / PK_NS_PER_S);
	char when[64], src[PK_ADDR_TEXT], dst[PK_ADDR_TEXT], number[8];
	struct tm tm;
	json_t *row, *ours;
	size_t n;

	gmtime_r(&s, &tm);
	n = strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(when + n, sizeof(when) - n, ".%06u+0000",
	    (unsigned int)(wall % PK_NS_PER_S / PK_NS_PER_US));
	row = json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:s}", "timestamp", when, "event_type",
	    type, "flow_id", (json_int_t)(t->session & INT64_MAX), "src_ip",
	    pk_addr_text(&t->src, src), "dest_ip", pk_addr_text(&t->dst, dst), "proto",
	    proto_name(t->proto, number), "direction", t->to_client ? "to_client" : "to_server");
	ours = json_pack("{s:I, s:I, s:I}", "session", (json_int_t)t->session, "generation",
	    (json_int_t)t->generation, "wire", (json_int_t)t->wire);
	if (row == NULL || ours == NULL) {
		json_decref(row);
		json_decref(ours);
		return NULL;
	}
	if (t->proto == 6 || t->proto == 17 || t->proto == 132) {
		json_object_set_new(row, "src_port", json_integer(t->sport));
		json_object_set_new(row, "dest_port", json_integer(t->dport));
	}
	if (t->layer != DPI_LAYER_NONE)
		json_object_set_new(row, "app_proto", json_string(dpi_layer_name(t->layer)));
	if (t->app != FW_APP_NONE)
		json_object_set_new(ours, "app", json_string(fw_app_name(t->app)));
	if (info != NULL) {
		json_object_set_new(ours, "policy", safe_text(info->policy));
		json_object_set_new(ours, "rule", safe_text(info->name));
		json_object_set_new(ours, "file", safe_text(info->file));
		json_object_set_new(ours, "line", json_integer(info->line));
	}
	json_object_set_new(row, "picket", ours);
	return row;
}

static void
add_about(json_t *row, const struct fw_trace_record *t)
{
	static const struct {
		uint8_t buf;
		const char *object, *key;
	} names[] = { { DPI_HTTP_HOST, "http", "hostname" }, { DPI_HTTP_URI_RAW, "http", "url" },
		{ DPI_HTTP_METHOD, "http", "http_method" },
		{ DPI_HTTP_STAT_CODE, "http", "status" }, { DPI_DNS_QUERY, "dns", "rrname" },
		{ DPI_TLS_SNI, "tls", "sni" }, { DPI_FILE_NAME, "fileinfo", "filename" } };

	for (unsigned int i = 0; i < FW_TRACE_ABOUT; i++) {
		for (size_t k = 0; k < PK_COUNT(names); k++) {
			json_t *object;

			if (t->about[i].buf == 0 || names[k].buf != t->about[i].buf)
				continue;
			object = json_object_get(row, names[k].object);
			if (object == NULL) {
				object = json_object();
				json_object_set_new(row, names[k].object, object);
			}
			json_object_set_new(
			    object, names[k].key, safe(t->about[i].text, t->about[i].len));
		}
	}
}

static json_t *
alert(const struct fw_trace_record *t, const struct fw_rule_info *info, uint64_t ahead_ns)
{
	const struct dpi_sig *g = t->sig;
	json_t *row = common(t, "alert", info, ahead_ns), *a;

	if (row == NULL || g == NULL)
		return row;
	a = json_pack("{s:s, s:I, s:I, s:I, s:i}", "action",
	    t->drop != FW_DROP_NONE ? "blocked" : "allowed", "gid", (json_int_t)g->gid,
	    "signature_id", (json_int_t)g->sid, "rev", (json_int_t)g->rev, "severity",
	    (int)g->priority);
	if (g->msg != NULL)
		json_object_set_new(a, "signature", safe_text(g->msg));
	if (g->classtype != NULL)
		json_object_set_new(a, "category", safe_text(g->classtype));
	json_object_set_new(row, "alert", a);
	add_about(row, t);
	return row;
}

static json_t *
flow(const struct fw_trace_record *t, const struct fw_rule_info *info, uint64_t ahead_ns)
{
	json_t *row = common(t, "flow", info, ahead_ns);

	if (row != NULL)
		json_object_set_new(row, "flow",
		    json_pack("{s:I, s:I, s:s, s:s}", "pkts", (json_int_t)t->packets, "bytes",
		        (json_int_t)t->bytes, "state", fw_session_state_name(t->state), "reason",
		        t->drop != FW_DROP_NONE ? fw_drop_name(t->drop) : "ended"));
	return row;
}

void
fw_eve_record(struct fw_eve *e, const struct fw_trace_record *t, const struct fw_rule_info *info,
    uint64_t ahead_ns)
{
	json_t *row = t->kind == FW_TRACE_ALERT ? alert(t, info, ahead_ns)
	    : t->kind == FW_TRACE_CLOSED        ? flow(t, info, ahead_ns)
	                                        : NULL;

	if (row == NULL)
		return;
	if (json_dumpf(row, e->file, JSON_COMPACT) < 0 || fputc('\n', e->file) == EOF)
		e->lost++;
	json_decref(row);
}
