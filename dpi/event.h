#pragma once

#include <string.h>

#include "lib/base.h"

/*
 * What decoding, reassembly and the parsers find strange, by the names that rules call it
 * (`decode-event:ipv4.trunc_pkt`, `stream-event:...`, `app-layer-event:http.request_chunk_extension`).
 * Only events that something here can raise are known; a rule that names another is refused.
 */
// clang-format off
#define DPI_EVENTS(X) \
	X(IPV4_SMALL, "ipv4.pkt_too_small") X(IPV4_HLEN, "ipv4.hlen_too_small") \
	X(IPV4_IPLEN, "ipv4.iplen_smaller_than_hlen") X(IPV4_TRUNC, "ipv4.trunc_pkt") \
	X(IPV4_OPT_LEN, "ipv4.opt_invalid_len") \
	X(IPV4_OPT_EOL, "ipv4.opt_eol_required") \
	X(IPV4_OPT_DUPLICATE, "ipv4.opt_duplicate") \
	X(IPV4_VERSION, "ipv4.wrong_ip_version") X(IPV4_ICMPV6, "ipv4.icmpv6") \
	X(IPV4_FRAG_LARGE, "ipv4.frag_pkt_too_large") X(IPV4_FRAG_OVERLAP, "ipv4.frag_overlap") \
	X(IPV4_FRAG_IGNORED, "ipv4.frag_ignored") \
	X(IPV6_SMALL, "ipv6.pkt_too_small") X(IPV6_TRUNC, "ipv6.trunc_pkt") \
	X(IPV6_EXT_TRUNC, "ipv6.trunc_exthdr") X(IPV6_DUPL_FH, "ipv6.exthdr_dupl_fh") \
	X(IPV6_USELESS_FH, "ipv6.exthdr_useless_fh") X(IPV6_DUPL_RH, "ipv6.exthdr_dupl_rh") \
	X(IPV6_DUPL_HH, "ipv6.exthdr_dupl_hh") X(IPV6_DUPL_DH, "ipv6.exthdr_dupl_dh") \
	X(IPV6_DUPL_AH, "ipv6.exthdr_dupl_ah") \
	X(IPV6_OPTLEN, "ipv6.exthdr_invalid_optlen") X(IPV6_VERSION, "ipv6.wrong_ip_version") \
	X(IPV6_AH_RES, "ipv6.exthdr_ah_res_not_null") X(IPV6_HOP_UNKNOWN, "ipv6.hopopts_unknown_opt") \
	X(IPV6_HOP_PADDING, "ipv6.hopopts_only_padding") X(IPV6_DST_UNKNOWN, "ipv6.dstopts_unknown_opt") \
	X(IPV6_DST_PADDING, "ipv6.dstopts_only_padding") X(IPV6_RH0, "ipv6.rh_type_0") \
	X(IPV6_ZERO_PADN, "ipv6.zero_len_padn") X(IPV6_FH_RESERVED, "ipv6.fh_non_zero_reserved_field") \
	X(IPV6_AFTER_NONE, "ipv6.data_after_none_header") X(IPV6_NEXT_UNKNOWN, "ipv6.unknown_next_header") \
	X(IPV6_ICMPV4, "ipv6.icmpv4") X(IPV6_FRAG_LARGE, "ipv6.frag_pkt_too_large") \
	X(IPV6_FRAG_OVERLAP, "ipv6.frag_overlap") X(IPV6_FRAG_IGNORED, "ipv6.frag_ignored") \
	X(IPV6_FRAG_LEN, "ipv6.frag_invalid_length") \
	X(IPV4_IN_IPV6_SMALL, "ipv6.ipv4_in_ipv6_too_small") \
	X(IPV4_IN_IPV6_VERSION, "ipv6.ipv4_in_ipv6_wrong_version") \
	X(IPV6_IN_IPV6_SMALL, "ipv6.ipv6_in_ipv6_too_small") \
	X(IPV6_IN_IPV6_VERSION, "ipv6.ipv6_in_ipv6_wrong_version") \
	X(ICMPV4_SMALL, "icmpv4.pkt_too_small") X(ICMPV4_TYPE, "icmpv4.unknown_type") \
	X(ICMPV4_CODE, "icmpv4.unknown_code") X(ICMPV4_TRUNC, "icmpv4.ipv4_trunc_pkt") \
	X(ICMPV4_VERSION, "icmpv4.ipv4_unknown_ver") \
	X(ICMPV6_SMALL, "icmpv6.pkt_too_small") X(ICMPV6_TYPE, "icmpv6.unknown_type") \
	X(ICMPV6_CODE, "icmpv6.unknown_code") X(ICMPV6_TRUNC, "icmpv6.ipv6_trunc_pkt") \
	X(ICMPV6_VERSION, "icmpv6.ipv6_unknown_version") \
	X(ICMPV6_MLD_HL, "icmpv6.mld_message_with_invalid_hl") \
	X(ICMPV6_UNASSIGNED, "icmpv6.unassigned_type") \
	X(ICMPV6_EXPERIMENT, "icmpv6.experimentation_type") \
	X(TCP_SMALL, "tcp.pkt_too_small") X(TCP_HLEN, "tcp.hlen_too_small") \
	X(TCP_OPT_LEN, "tcp.opt_invalid_len") \
	X(TCP_OPT_DUPLICATE, "tcp.opt_duplicate") \
	X(UDP_SMALL, "udp.pkt_too_small") X(UDP_HLEN, "udp.hlen_too_small") \
	X(UDP_LEN, "udp.len_invalid") X(UDP_HLEN_INVALID, "udp.hlen_invalid") \
	X(ETHERNET_SMALL, "ethernet.pkt_too_small") X(SLL_SMALL, "sll.pkt_too_small") \
	X(PPP_SMALL, "ppp.pkt_too_small") X(PPP_UNSUP, "ppp.unsup_proto") \
	X(GRE_SMALL, "gre.pkt_too_small") X(GRE_VERSION, "gre.wrong_version") \
	X(VLAN_SMALL, "vlan.header_too_small") X(VLAN_LAYERS, "vlan.too_many_layers") \
	X(RAW_VERSION, "ipraw.invalid_ip_version") \
	X(CHDLC_SMALL, "chdlc.pkt_too_small") X(SCTP_SMALL, "sctp.pkt_too_small") \
	X(LTNULL_SMALL, "ltnull.pkt_too_small") \
	X(S_TIMESTAMP, "stream.pkt_invalid_timestamp") X(S_OVERLAP, "stream.reassembly_overlap_different_data") \
	X(S_GAP, "stream.reassembly_seq_gap") X(S_BEFORE, "stream.reassembly_segment_before_base_seq") \
	X(S_DEPTH, "stream.reassembly_depth_reached") X(S_WINDOW, "stream.est_packet_out_of_window") \
	X(S_RETRANSMISSION, "stream.pkt_retransmission") \
	X(S_RST_NONE, "stream.rst_but_no_session") X(S_FIN_NONE, "stream.fin_but_no_session") \
	X(S_EST_SYN, "stream.est_syn_resend") \
	X(A_MISMATCH, "applayer_mismatch_protocol_both_directions") \
	X(HTTP_GZIP, "http.gzip_decompression_failed") \
	X(HTTP_FIELD_COLON, "http.request_field_missing_colon") \
	X(HTTP_RFIELD_COLON, "http.response_field_missing_colon") \
	X(HTTP_CHUNK_LEN, "http.invalid_request_chunk_len") \
	X(HTTP_RCHUNK_LEN, "http.invalid_response_chunk_len") \
	X(HTTP_TE_REQ, "http.invalid_transfer_encoding_value_in_request") \
	X(HTTP_TE_RESP, "http.invalid_transfer_encoding_value_in_response") \
	X(HTTP_CL_REQ, "http.invalid_content_length_field_in_request") \
	X(HTTP_CL_RESP, "http.invalid_content_length_field_in_response") \
	X(HTTP_100, "http.100_continue_already_seen") \
	X(HTTP_MATCH, "http.unable_to_match_response_to_request") \
	X(HTTP_PORT, "http.invalid_server_port_in_request") \
	X(HTTP_AUTHORITY, "http.invalid_authority_port") \
	X(HTTP_FOLDING, "http.invalid_request_field_folding") \
	X(HTTP_RFOLDING, "http.invalid_response_field_folding") \
	X(HTTP_FIELD_LONG, "http.request_field_too_long") X(HTTP_RFIELD_LONG, "http.response_field_too_long") \
	X(HTTP_BODY_UNEXPECTED, "http.request_body_unexpected") \
	X(HTTP_METHOD_DELIM, "http.method_delim_non_compliant") X(HTTP_URI_DELIM, "http.uri_delim_non_compliant") \
	X(HTTP_LEADING, "http.request_line_leading_whitespace") \
	X(HTTP_LAYERS, "http.too_many_encoding_layers") X(HTTP_GZIP_ABNORMAL, "http.abnormal_ce_header") \
	X(HTTP_REPETITION, "http.request_header_repetition") \
	X(HTTP_BYTERANGES, "http.response_multipart_byteranges") \
	X(HTTP_CHUNK_TE_ABNORMAL, "http.response_abnormal_transfer_encoding") \
	X(HTTP_CHUNK_OLD, "http.response_chunked_old_proto") \
	X(HTTP_PROTOCOL_RESP, "http.response_invalid_protocol") \
	X(HTTP_STATUS, "http.response_invalid_status") \
	X(HTTP_INCOMPLETE, "http.request_line_incomplete") X(HTTP_DOUBLE, "http.double_encoded_uri") \
	X(HTTP_NO_PROTOCOL, "http.request_missing_protocol") \
	X(HTTP_BOMB, "http.compression_bomb") X(HTTP_LZMA, "http.lzma_memlimit_reached") \
	X(HTTP_MANY_HEADERS, "http.too_many_headers") \
	X(HTTP_CHUNK_EXT, "http.request_chunk_extension") X(HTTP_EXTRA_DATA, "http.response_body_unexpected") \
	X(DNS_MALFORMED, "dns.malformed_data") \
	X(DNS_Z, "dns.z_flag_set") X(DNS_OPCODE, "dns.invalid_opcode") \
	X(DNS_NAME_LONG, "dns.name_too_long") X(DNS_LOOP, "dns.infinite_loop") \
	X(DNS_LABELS, "dns.too_many_labels") \
	X(TLS_HEADER, "tls.invalid_tls_header") \
	X(TLS_RECORD_VERSION, "tls.invalid_record_version") X(TLS_RECORD_TYPE, "tls.invalid_record_type") \
	X(TLS_HANDSHAKE, "tls.invalid_handshake_message") \
	X(TLS_CERT_LEN, "tls.certificate_invalid_length") X(TLS_CERTIFICATE, "tls.invalid_certificate") \
	X(TLS_SSL_RECORD, "tls.invalid_ssl_record") \
	X(TLS_SNI_MANY, "tls.multiple_sni_extensions") X(TLS_SNI_TYPE, "tls.invalid_sni_type") \
	X(TLS_SNI_LEN, "tls.invalid_sni_length") \
	X(SSH_BANNER, "ssh.invalid_banner") X(SSH_LONG, "ssh.long_banner") \
	X(SMTP_REPLY, "smtp.invalid_reply") \
	X(SMTP_COMMAND_LONG, "smtp.max_command_line_len_exceeded") \
	X(SMTP_NO_WELCOME, "smtp.no_server_welcome_message") \
	X(SMTP_MIME_BOUNDARY, "smtp.mime_long_boundary") \
	X(MQTT_MISSING_CONNECT, "mqtt.missing_connect") \
	X(MQTT_DOUBLE_CONNECT, "mqtt.double_connect") X(MQTT_UNINTRODUCED, "mqtt.unintroduced_message") \
	X(MQTT_QOS, "mqtt.invalid_qos_level") \
	X(MQTT_UNASSIGNED, "mqtt.unassigned_msg_type")
// clang-format on

enum dpi_event {
	DPI_EV_NONE = 0,
#define DPI_EVENT_ENUM(id, name) DPI_EV_##id,
	DPI_EVENTS(DPI_EVENT_ENUM)
#undef DPI_EVENT_ENUM
	DPI_NB_EVENTS
};

struct dpi_events {
	uint64_t word[(DPI_NB_EVENTS + 63) / 64];
};

static inline void
dpi_event_set(struct dpi_events *e, enum dpi_event event)
{
	e->word[event / 64] |= UINT64_C(1) << (event % 64);
}

static inline int
dpi_event_get(const struct dpi_events *e, enum dpi_event event)
{
	return e->word[event / 64] >> (event % 64) & 1;
}

static inline int
dpi_event_any(const struct dpi_events *e)
{
	for (size_t i = 0; i < PK_COUNT(e->word); i++)
		if (e->word[i] != 0)
			return 1;
	return 0;
}

/* "ipv4.trunc_pkt"; DPI_EV_NONE when there is no such name. */
const char *dpi_event_name(enum dpi_event event);
enum dpi_event dpi_event_find(const char *name);
