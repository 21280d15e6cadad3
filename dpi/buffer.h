#pragma once

#include <stdbool.h>

#include "lib/base.h"

/*
 * What a signature can look into.
 *
 * A sticky buffer (`http.uri`, `dns.query`) names one normalised part of a transaction.  A transaction
 * has at most one of most buffers and several of some (a DNS message with two questions), and a body
 * grows while the transaction lasts.  The raw ones are no part of any transaction: the payload of a
 * packet, and the stream of one direction of a session.
 */
enum dpi_layer {
	DPI_LAYER_NONE = 0, /* not known, or not yet */
	DPI_LAYER_HTTP,
	DPI_LAYER_HTTP2,
	DPI_LAYER_DNS,
	DPI_LAYER_TLS,
	DPI_LAYER_SSH,
	DPI_LAYER_SMTP,
	DPI_LAYER_FTP,
	DPI_LAYER_FTP_DATA,
	DPI_LAYER_SMB,
	DPI_LAYER_DCERPC,
	DPI_LAYER_MQTT,
	DPI_LAYER_OTHER, /* a protocol rules may name in their header, that is recognised and not parsed */
	DPI_LAYER_FAILED, /* no protocol of ours */
	DPI_NB_LAYERS
};

enum dpi_dirs {
	DPI_TO_SERVER = 1 << 0,
	DPI_TO_CLIENT = 1 << 1,
	DPI_BOTH = DPI_TO_SERVER | DPI_TO_CLIENT,
};

enum dpi_buf_flags {
	DPI_BUF_GROWS = 1 << 0, /* inspected while it grows */
	DPI_BUF_SEVERAL =
	    1 << 1, /* a transaction may have more than one; each is inspected alone */
	DPI_BUF_LOWERCASE = 1 << 2, /* hexadecimal or a name that is kept in lower case */
	DPI_BUF_PACKET = 1 << 3,    /* a header of the packet, not of a transaction */
};

/* id, sticky name, other sticky name, modifier after a content, letter in pcre, layer, directions, flags */
// clang-format off
#define DPI_BUFFERS(X) \
	X(HTTP_URI, "http.uri", NULL, "http_uri", 'U', HTTP, DPI_TO_SERVER, 0) \
	X(HTTP_URI_RAW, "http.uri.raw", NULL, "http_raw_uri", 'I', HTTP, DPI_TO_SERVER, 0) \
	X(HTTP_METHOD, "http.method", NULL, "http_method", 'M', HTTP, DPI_TO_SERVER, 0) \
	X(HTTP_HOST, "http.host", NULL, "http_host", 'W', HTTP, DPI_TO_SERVER, DPI_BUF_LOWERCASE) \
	X(HTTP_HOST_RAW, "http.host.raw", NULL, "http_raw_host", 'Z', HTTP, DPI_TO_SERVER, 0) \
	X(HTTP_USER_AGENT, "http.user_agent", NULL, "http_user_agent", 'V', HTTP, DPI_TO_SERVER, 0) \
	X(HTTP_REFERER, "http.referer", "http_referer", NULL, 0, HTTP, DPI_TO_SERVER, 0) \
	X(HTTP_ACCEPT, "http.accept", "http_accept", NULL, 0, HTTP, DPI_TO_SERVER, 0) \
	X(HTTP_ACCEPT_ENC, "http.accept_enc", "http_accept_enc", NULL, 0, HTTP, DPI_TO_SERVER, 0) \
	X(HTTP_ACCEPT_LANG, "http.accept_lang", "http_accept_lang", NULL, 0, HTTP, DPI_TO_SERVER, 0) \
	X(HTTP_CONNECTION, "http.connection", "http_connection", NULL, 0, HTTP, DPI_BOTH, 0) \
	X(HTTP_CONTENT_LEN, "http.content_len", "http_content_len", NULL, 0, HTTP, DPI_BOTH, 0) \
	X(HTTP_CONTENT_TYPE, "http.content_type", "http_content_type", NULL, 0, HTTP, DPI_BOTH, 0) \
	X(HTTP_COOKIE, "http.cookie", NULL, "http_cookie", 'C', HTTP, DPI_BOTH, 0) \
	X(HTTP_HEADER, "http.header", NULL, "http_header", 'H', HTTP, DPI_BOTH, 0) \
	X(HTTP_HEADER_RAW, "http.header.raw", NULL, "http_raw_header", 'D', HTTP, DPI_BOTH, 0) \
	X(HTTP_HEADER_NAMES, "http.header_names", "http_header_names", NULL, 0, HTTP, DPI_BOTH, 0) \
	X(HTTP_REQUEST_HEADER, "http.request_header", NULL, NULL, 0, HTTP, DPI_TO_SERVER, DPI_BUF_SEVERAL) \
	X(HTTP_RESPONSE_HEADER, "http.response_header", NULL, NULL, 0, HTTP, DPI_TO_CLIENT, DPI_BUF_SEVERAL) \
	X(HTTP_REQUEST_LINE, "http.request_line", "http_request_line", NULL, 0, HTTP, DPI_TO_SERVER, 0) \
	X(HTTP_RESPONSE_LINE, "http.response_line", "http_response_line", NULL, 0, HTTP, DPI_TO_CLIENT, 0) \
	X(HTTP_PROTOCOL, "http.protocol", "http_protocol", NULL, 0, HTTP, DPI_BOTH, 0) \
	X(HTTP_START, "http.start", "http_start", NULL, 0, HTTP, DPI_BOTH, 0) \
	X(HTTP_REQUEST_BODY, "http.request_body", NULL, "http_client_body", 'P', HTTP, DPI_TO_SERVER, DPI_BUF_GROWS) \
	X(HTTP_RESPONSE_BODY, "http.response_body", NULL, "http_server_body", 'Q', HTTP, DPI_TO_CLIENT, DPI_BUF_GROWS) \
	X(HTTP_STAT_CODE, "http.stat_code", NULL, "http_stat_code", 'S', HTTP, DPI_TO_CLIENT, 0) \
	X(HTTP_STAT_MSG, "http.stat_msg", NULL, "http_stat_msg", 'Y', HTTP, DPI_TO_CLIENT, 0) \
	X(HTTP_LOCATION, "http.location", NULL, NULL, 0, HTTP, DPI_TO_CLIENT, 0) \
	X(HTTP_SERVER, "http.server", NULL, NULL, 0, HTTP, DPI_TO_CLIENT, 0) \
	X(FILE_DATA, "file.data", "file_data", NULL, 0, NONE, DPI_BOTH, DPI_BUF_GROWS | DPI_BUF_SEVERAL) \
	X(FILE_NAME, "file.name", NULL, NULL, 0, NONE, DPI_BOTH, DPI_BUF_SEVERAL) \
	X(DNS_QUERY, "dns.query", "dns_query", NULL, 0, DNS, DPI_TO_SERVER, DPI_BUF_SEVERAL) \
	X(DNS_QUERY_NAME, "dns.query.name", NULL, NULL, 0, DNS, DPI_BOTH, DPI_BUF_SEVERAL) \
	X(DNS_ANSWER_NAME, "dns.answer.name", NULL, NULL, 0, DNS, DPI_BOTH, DPI_BUF_SEVERAL) \
	X(TLS_SNI, "tls.sni", "tls_sni", NULL, 0, TLS, DPI_TO_SERVER, 0) \
	X(TLS_SUBJECT, "tls.cert_subject", "tls_cert_subject", NULL, 0, TLS, DPI_TO_CLIENT, 0) \
	X(TLS_ISSUER, "tls.cert_issuer", "tls_cert_issuer", NULL, 0, TLS, DPI_TO_CLIENT, 0) \
	X(TLS_SERIAL, "tls.cert_serial", "tls_cert_serial", NULL, 0, TLS, DPI_TO_CLIENT, 0) \
	X(TLS_FINGERPRINT, "tls.cert_fingerprint", "tls_cert_fingerprint", NULL, 0, TLS, DPI_TO_CLIENT, DPI_BUF_LOWERCASE) \
	X(TLS_CERTS, "tls.certs", NULL, NULL, 0, TLS, DPI_TO_CLIENT, DPI_BUF_SEVERAL) \
	X(TLS_VERSION, "tls.version number", NULL, NULL, 0, TLS, DPI_BOTH, 0) \
	X(TLS_RANDOM, "tls.random", NULL, NULL, 0, TLS, DPI_BOTH, 0) \
	X(TLS_RANDOM_TIME, "tls.random_time", NULL, NULL, 0, TLS, DPI_BOTH, 0) \
	X(TLS_RANDOM_BYTES, "tls.random_bytes", NULL, NULL, 0, TLS, DPI_BOTH, 0) \
	X(JA3_HASH, "ja3.hash", "ja3_hash", NULL, 0, TLS, DPI_TO_SERVER, DPI_BUF_LOWERCASE) \
	X(JA3_STRING, "ja3.string", "ja3_string", NULL, 0, TLS, DPI_TO_SERVER, 0) \
	X(JA3S_HASH, "ja3s.hash", NULL, NULL, 0, TLS, DPI_TO_CLIENT, DPI_BUF_LOWERCASE) \
	X(JA3S_STRING, "ja3s.string", NULL, NULL, 0, TLS, DPI_TO_CLIENT, 0) \
	X(JA4_HASH, "ja4.hash", NULL, NULL, 0, TLS, DPI_TO_SERVER, 0) \
	X(SSH_PROTO, "ssh.proto", "ssh_proto", NULL, 0, SSH, DPI_BOTH, 0) \
	X(SSH_SOFTWARE, "ssh.software", "ssh_software", NULL, 0, SSH, DPI_BOTH, 0) \
	X(SSH_HASSH, "ssh.hassh", NULL, NULL, 0, SSH, DPI_TO_SERVER, DPI_BUF_LOWERCASE) \
	X(SSH_HASSH_STRING, "ssh.hassh.string", NULL, NULL, 0, SSH, DPI_TO_SERVER, 0) \
	X(SSH_HASSH_SERVER, "ssh.hassh.server", NULL, NULL, 0, SSH, DPI_TO_CLIENT, DPI_BUF_LOWERCASE) \
	X(SSH_HASSH_SERVER_STRING, "ssh.hassh.server.string", NULL, NULL, 0, SSH, DPI_TO_CLIENT, 0) \
	X(SMTP_HELO, "smtp.helo", NULL, NULL, 0, SMTP, DPI_TO_SERVER, 0) \
	X(SMTP_MAIL_FROM, "smtp.mail_from", NULL, NULL, 0, SMTP, DPI_TO_SERVER, 0) \
	X(SMTP_RCPT_TO, "smtp.rcpt_to", NULL, NULL, 0, SMTP, DPI_TO_SERVER, DPI_BUF_SEVERAL) \
	X(FTPDATA_COMMAND, "ftpdata command", NULL, NULL, 0, FTP_DATA, DPI_BOTH, 0) \
	X(SMB_SHARE, "smb.share", NULL, NULL, 0, SMB, DPI_TO_SERVER, 0) \
	X(SMB_NAMED_PIPE, "smb.named_pipe", NULL, NULL, 0, SMB, DPI_TO_SERVER, 0) \
	X(DCE_STUB, "dcerpc.stub_data", "dce_stub_data", NULL, 0, NONE, DPI_BOTH, 0) \
	X(MQTT_TYPE, "mqtt type", NULL, NULL, 0, MQTT, DPI_BOTH, 0) \
	X(MQTT_REASON, "mqtt reason", NULL, NULL, 0, MQTT, DPI_BOTH, 0) \
	X(TCP_HDR, "tcp.hdr", NULL, NULL, 0, NONE, DPI_BOTH, DPI_BUF_PACKET) \
	X(UDP_HDR, "udp.hdr", NULL, NULL, 0, NONE, DPI_BOTH, DPI_BUF_PACKET) \
	X(IPV4_HDR, "ipv4.hdr", NULL, NULL, 0, NONE, DPI_BOTH, DPI_BUF_PACKET) \
	X(IPV6_HDR, "ipv6.hdr", NULL, NULL, 0, NONE, DPI_BOTH, DPI_BUF_PACKET) \
	X(ICMPV4_HDR, "icmpv4.hdr", NULL, NULL, 0, NONE, DPI_BOTH, DPI_BUF_PACKET) \
	X(ICMPV6_HDR, "icmpv6.hdr", NULL, NULL, 0, NONE, DPI_BOTH, DPI_BUF_PACKET)
// clang-format on

enum dpi_buf {
	DPI_RAW = 0, /* payload of the packet, or the stream: the rule's header says which */
	DPI_EVENT,   /* no bytes: events of the transaction */
#define DPI_BUFFER_ENUM(id, name, other, modifier, letter, layer, dirs, flags) DPI_##id,
	DPI_BUFFERS(DPI_BUFFER_ENUM)
#undef DPI_BUFFER_ENUM
	DPI_NB_BUFS
};

/* A set of buffers. */
struct dpi_bufs {
	uint64_t bit[(DPI_NB_BUFS + 63) / 64];
};

static inline void
dpi_bufs_add(struct dpi_bufs *b, unsigned int buf)
{
	b->bit[buf / 64] |= UINT64_C(1) << (buf % 64);
}

static inline bool
dpi_bufs_has(const struct dpi_bufs *b, unsigned int buf)
{
	return b->bit[buf / 64] >> (buf % 64) & 1;
}

struct dpi_buf_info {
	const char *name, *other, *modifier;
	char pcre;
	uint8_t layer; /* enum dpi_layer, DPI_LAYER_NONE: several have it */
	uint8_t dirs, flags;
};

extern const struct dpi_buf_info dpi_buf_info[DPI_NB_BUFS];

/* The buffer of a sticky keyword, of a content modifier, of a pcre letter; -1 for none.  Context: any. */
int dpi_buf_sticky(const char *name);
int dpi_buf_modifier(const char *name);
int dpi_buf_letter(char letter);

/* "http" ...; never NULL. */
const char *dpi_layer_name(enum dpi_layer layer);
/* -1 for none. */
int dpi_layer_find(const char *name);
