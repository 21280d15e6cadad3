#include "dpi/eve.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

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

/* Printable ASCII as it is, the rest as \xHH. */
static json_t *
text(const uint8_t *bytes, uint32_t len)
{
	char out[1024];
	size_t n = 0;

	for (uint32_t i = 0; i < len && n + 5 < sizeof(out); i++) {
		if (bytes[i] >= 0x20 && bytes[i] < 0x7f)
			out[n++] = (char)bytes[i];
		else
			n += (size_t)snprintf(out + n, sizeof(out) - n, "\\x%02x", bytes[i]);
	}
	return json_stringn(out, n);
}

static void
add_layer(json_t *row, const struct dpi_tx *tx)
{
	static const struct {
		uint8_t buf;
		const char *object, *key;
	} shown[] = { { DPI_HTTP_HOST, "http", "hostname" }, { DPI_HTTP_URI_RAW, "http", "url" },
		{ DPI_HTTP_USER_AGENT, "http", "http_user_agent" },
		{ DPI_HTTP_METHOD, "http", "http_method" },
		{ DPI_HTTP_STAT_CODE, "http", "status" }, { DPI_DNS_QUERY, "dns", "rrname" },
		{ DPI_TLS_SNI, "tls", "sni" }, { DPI_TLS_SUBJECT, "tls", "subject" },
		{ DPI_TLS_ISSUER, "tls", "issuerdn" }, { DPI_FILE_NAME, "fileinfo", "filename" } };

	for (unsigned int i = 0; i < tx->nb_slots; i++) {
		const struct dpi_slot *s = &tx->slot[i];

		for (size_t k = 0; k < PK_COUNT(shown); k++) {
			json_t *object;

			if (shown[k].buf != s->buf)
				continue;
			object = json_object_get(row, shown[k].object);
			if (object == NULL) {
				object = json_object();
				json_object_set_new(row, shown[k].object, object);
			}
			json_object_set_new(object, shown[k].key, text(s->bytes, s->len));
		}
	}
}

json_t *
dpi_eve_alert(const struct dpi_alert *a)
{
	const struct dpi_frame *f = a->frame;
	char src[PK_ADDR_TEXT] = "", dst[PK_ADDR_TEXT] = "", when[64], number[8];
	time_t s = (time_t)(f->time_ns / PK_NS_PER_S);
	struct tm tm;
	size_t n;
	json_t *row, *alert;

	gmtime_r(&s, &tm);
	n = strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(when + n, sizeof(when) - n, ".%06u+0000",
	    (unsigned int)(f->time_ns % PK_NS_PER_S / PK_NS_PER_US));
	row = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "type", "alert", "event_type",
	    "alert", "timestamp", when, "sid", (json_int_t)a->sig->sid, "gid",
	    (json_int_t)a->sig->gid, "packet", (json_int_t)f->n, "pcap_cnt", (json_int_t)f->n);
	alert = json_pack("{s:s, s:I, s:I, s:I, s:i}", "action", a->dropped ? "blocked" : "allowed",
	    "gid", (json_int_t)a->sig->gid, "signature_id", (json_int_t)a->sig->sid, "rev",
	    (json_int_t)a->sig->rev, "severity", (int)a->sig->priority);
	if (row == NULL || alert == NULL) {
		json_decref(row);
		json_decref(alert);
		return NULL;
	}
	if (a->sig->msg != NULL)
		json_object_set_new(alert, "signature",
		    text((const uint8_t *)a->sig->msg, (uint32_t)strlen(a->sig->msg)));
	if (a->sig->classtype != NULL)
		json_object_set_new(alert, "category",
		    text((const uint8_t *)a->sig->classtype, (uint32_t)strlen(a->sig->classtype)));
	json_object_set_new(row, "alert", alert);
	if (f->family != 0 && f->src.family != 0) {
		json_object_set_new(row, "src_ip", json_string(pk_addr_text(&f->src, src)));
		json_object_set_new(row, "dest_ip", json_string(pk_addr_text(&f->dst, dst)));
		json_object_set_new(row, "proto", json_string(proto_name(f->proto, number)));
		if (f->proto == 6 || f->proto == 17 || f->proto == 132) {
			json_object_set_new(row, "src_port", json_integer(f->sport));
			json_object_set_new(row, "dest_port", json_integer(f->dport));
		}
	}
	json_object_set_new(row, "direction", json_string(a->dir == 0 ? "to_server" : "to_client"));
	if (a->session != NULL && a->session->layer != DPI_LAYER_NONE)
		json_object_set_new(
		    row, "app_proto", json_string(dpi_layer_name(a->session->layer)));
	if (a->tx != NULL) {
		json_object_set_new(row, "tx_id", json_integer((json_int_t)a->tx->id));
		add_layer(row, a->tx);
	}
	return row;
}
