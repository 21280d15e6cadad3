#include "dpi/http1.h"

#include <htp/htp.h>
#include <stdlib.h>
#include <string.h>

#include "dpi/heap.h"
#include "dpi/session.h"

struct http {
	htp_connp_t *parser;
	bool failed[2];
	bool tunnel; /* CONNECT, or an upgrade: what follows may be anything */
};

static htp_cfg_t *config;

static struct dpi_tx *
tx_of(htp_tx_t *h)
{
	struct dpi_tx *tx = htp_tx_get_user_data(h);

	if (tx == NULL) {
		tx = dpi_tx_new(htp_connp_get_user_data(h->connp), DPI_LAYER_HTTP);
		htp_tx_set_user_data(h, tx);
		if (tx != NULL)
			tx->of = h;
	}
	return tx;
}

static void
put(struct dpi_tx *tx, enum dpi_buf buf, unsigned int dir, const bstr *b)
{
	if (b != NULL)
		dpi_tx_put(tx, buf, dir, bstr_ptr(b), bstr_len(b));
}

/* Text that is put together from pieces. */
static void
join(struct dpi_pending *p, const void *bytes, size_t len)
{
	dpi_pending_add(p, bytes, (uint32_t)len, 1u << 18);
}

static void
join_bstr(struct dpi_pending *p, const bstr *b)
{
	if (b != NULL)
		join(p, bstr_ptr(b), bstr_len(b));
}

static void
put_joined(struct dpi_tx *tx, enum dpi_buf buf, unsigned int dir, struct dpi_pending *p)
{
	dpi_tx_put(tx, buf, dir, p->bytes, p->len);
	dpi_free(p->bytes);
	memset(p, 0, sizeof(*p));
}

/* ---- request ---- */

static int
on_request_line(htp_tx_t *h)
{
	struct dpi_tx *tx = tx_of(h);
	static const char hex[] = "0123456789abcdefABCDEF";
	struct dpi_pending uri = { 0 };
	const htp_uri_t *u = h->parsed_uri;

	/* It comes twice: when the line is read, and with the headers. */
	if (tx == NULL || dpi_tx_slot(tx, DPI_HTTP_METHOD, 0) != NULL)
		return HTP_OK;
	put(tx, DPI_HTTP_REQUEST_LINE, 0, h->request_line);
	put(tx, DPI_HTTP_METHOD, 0, h->request_method);
	put(tx, DPI_HTTP_URI_RAW, 0, h->request_uri);
	put(tx, DPI_HTTP_PROTOCOL, 0, h->request_protocol);
	if (u != NULL) {
		join_bstr(&uri, u->path);
		if (u->query != NULL) {
			join(&uri, "?", 1);
			join_bstr(&uri, u->query);
		}
		if (u->fragment != NULL) {
			join(&uri, "#", 1);
			join_bstr(&uri, u->fragment);
		}
	}
	for (uint32_t i = 0; i + 2 < uri.len; i++)
		if (uri.bytes[i] == '%' && strchr(hex, uri.bytes[i + 1]) != NULL &&
		    strchr(hex, uri.bytes[i + 2]) != NULL)
			dpi_tx_event(tx, DPI_EV_HTTP_DOUBLE, 0);
	if (h->request_uri != NULL)
		put_joined(tx, DPI_HTTP_URI, 0, &uri);
	dpi_free(uri.bytes);
	return HTP_OK;
}

/* libhtp leaves the query as it came; rules expect it decoded once. */
static int
on_uri_normalize(htp_tx_t *h)
{
	uint64_t flags = 0;

	if (h->parsed_uri != NULL && h->parsed_uri->query != NULL)
		htp_urldecode_inplace(h->cfg, HTP_DECODER_URL_PATH, h->parsed_uri->query, &flags);
	return HTP_OK;
}

static const struct {
	const char *name;
	uint8_t len, buf, dirs;
} headers[] = {
	{ "user-agent", 10, DPI_HTTP_USER_AGENT, 1 },
	{ "referer", 7, DPI_HTTP_REFERER, 1 },
	{ "accept", 6, DPI_HTTP_ACCEPT, 1 },
	{ "accept-encoding", 15, DPI_HTTP_ACCEPT_ENC, 1 },
	{ "accept-language", 15, DPI_HTTP_ACCEPT_LANG, 1 },
	{ "connection", 10, DPI_HTTP_CONNECTION, 3 },
	{ "content-length", 14, DPI_HTTP_CONTENT_LEN, 3 },
	{ "content-type", 12, DPI_HTTP_CONTENT_TYPE, 3 },
	{ "cookie", 6, DPI_HTTP_COOKIE, 1 },
	{ "set-cookie", 10, DPI_HTTP_COOKIE, 2 },
	{ "location", 8, DPI_HTTP_LOCATION, 2 },
	{ "server", 6, DPI_HTTP_SERVER, 2 },
};

static void
put_named(struct dpi_tx *tx, unsigned int dir, htp_table_t *table)
{
	size_t n = table != NULL ? htp_table_size(table) : 0;

	for (size_t j = 0; j < n; j++) {
		const htp_header_t *h = htp_table_get_index(table, j, NULL);

		for (size_t i = 0; i < PK_COUNT(headers); i++)
			if (headers[i].dirs >> dir & 1 && bstr_len(h->name) == headers[i].len &&
			    dpi_tx_wants(tx, headers[i].buf) &&
			    bstr_cmp_c_nocase(h->name, headers[i].name) == 0)
				put(tx, headers[i].buf, dir, h->value);
	}
}

static void
put_headers(struct dpi_tx *tx, unsigned int dir, htp_table_t *table, const bstr *line)
{
	struct dpi_pending all = { 0 }, names = { 0 }, start = { 0 }, one = { 0 };
	enum dpi_buf each = dir == 0 ? DPI_HTTP_REQUEST_HEADER : DPI_HTTP_RESPONSE_HEADER;
	size_t n = table != NULL ? htp_table_size(table) : 0;
	bool lines;

	if (tx == NULL)
		return;
	put_named(tx, dir, table);
	lines = dpi_tx_wants(tx, DPI_HTTP_HEADER) || dpi_tx_wants(tx, DPI_HTTP_START) ||
	    dpi_tx_wants(tx, each);
	if (!lines && !dpi_tx_wants(tx, DPI_HTTP_HEADER_NAMES))
		return;
	join_bstr(&start, line);
	join(&start, "\r\n", 2);
	join(&names, "\r\n", 2);
	for (size_t i = 0; i < n; i++) {
		const htp_header_t *h = htp_table_get_index(table, i, NULL);
		bool cookie = bstr_cmp_c_nocase(h->name, dir == 0 ? "cookie" : "set-cookie") == 0;

		join_bstr(&names, h->name);
		join(&names, "\r\n", 2);
		if (!lines)
			continue;
		join_bstr(&one, h->name);
		join(&one, ": ", 2);
		join_bstr(&one, h->value);
		dpi_tx_put(tx, each, dir, one.bytes, one.len);
		join(&one, "\r\n", 2);
		if (!cookie)
			join(&all, one.bytes, one.len);
		join(&start, one.bytes, one.len);
		one.len = 0;
	}
	join(&names, "\r\n", 2);
	join(&start, "\r\n", 2);
	dpi_free(one.bytes);
	if (n > 0) {
		put_joined(tx, DPI_HTTP_HEADER, dir, &all);
		put_joined(tx, DPI_HTTP_HEADER_NAMES, dir, &names);
	}
	dpi_free(all.bytes);
	dpi_free(names.bytes);
	put_joined(tx, DPI_HTTP_START, dir, &start);
}

static int
on_request_headers(htp_tx_t *h)
{
	struct dpi_tx *tx = tx_of(h);
	const htp_header_t *host = htp_table_get_c(h->request_headers, "host");

	on_request_line(h);
	put(tx, DPI_HTTP_HOST, 0, h->request_hostname);
	if (h->parsed_uri != NULL && h->parsed_uri->hostname != NULL)
		put(tx, DPI_HTTP_HOST_RAW, 0, h->parsed_uri->hostname);
	else if (host != NULL)
		put(tx, DPI_HTTP_HOST_RAW, 0, host->value);
	put_headers(tx, 0, h->request_headers, h->request_line);
	return HTP_OK;
}

/* The file a URI names: what follows its last slash. */
static void
put_file_name(struct dpi_tx *tx, unsigned int dir, const htp_tx_t *h)
{
	const bstr *path = h->parsed_uri != NULL ? h->parsed_uri->path : NULL;
	const htp_header_t *d = dir == 1 && h->response_headers != NULL
	    ? htp_table_get_c(h->response_headers, "content-disposition")
	    : NULL;

	if (dpi_tx_slot(tx, DPI_FILE_NAME, dir) != NULL)
		return;
	if (d != NULL) {
		const uint8_t *v = bstr_ptr(d->value), *end = v + bstr_len(d->value);
		int at = bstr_index_of_c_nocase(d->value, "filename=");

		if (at >= 0) {
			v += at + 9;
			if (v < end && *v == '"') {
				const uint8_t *quote = memchr(v + 1, '"', (size_t)(end - v - 1));

				v++;
				end = quote != NULL ? quote : end;
			}
			dpi_tx_put(tx, DPI_FILE_NAME, dir, v, (size_t)(end - v));
			return;
		}
	}
	if (path != NULL) {
		const uint8_t *p = bstr_ptr(path), *end = p + bstr_len(path), *from = end;

		while (from > p && from[-1] != '/')
			from--;
		dpi_tx_put(tx, DPI_FILE_NAME, dir, from, (size_t)(end - from));
	}
}

static int
on_request_body(htp_tx_data_t *d)
{
	struct dpi_session *s = htp_connp_get_user_data(d->tx->connp);
	struct dpi_tx *tx = tx_of(d->tx);
	enum htp_method_t m = d->tx->request_method_number;

	if (d->data == NULL || d->len == 0)
		return HTP_OK;
	dpi_tx_lend(s, tx, DPI_HTTP_REQUEST_BODY, 0, d->data, d->len, DPI_BODY_MAX);
	if ((m == HTP_M_PUT || m == HTP_M_POST) && d->tx->request_mpartp == NULL) {
		put_file_name(tx, 0, d->tx);
		dpi_tx_lend(s, tx, DPI_FILE_DATA, 0, d->data, d->len, DPI_BODY_MAX);
	}
	return HTP_OK;
}

static int
on_request_complete(htp_tx_t *h)
{
	struct dpi_tx *tx = tx_of(h);

	if (h->request_mpartp != NULL) {
		htp_multipart_t *m = htp_mpartp_get_multipart(h->request_mpartp);
		size_t n = m != NULL && m->parts != NULL ? htp_list_size(m->parts) : 0;

		for (size_t i = 0; i < n; i++) {
			const htp_multipart_part_t *part = htp_list_get(m->parts, i);

			if (part == NULL || part->type != MULTIPART_PART_FILE || part->file == NULL)
				continue;
			put(tx, DPI_FILE_NAME, 0, part->file->filename);
		}
	}
	dpi_tx_done(tx, 0);
	return HTP_OK;
}

/* ---- response ---- */

static int
on_response_line(htp_tx_t *h)
{
	struct dpi_tx *tx = tx_of(h);

	put(tx, DPI_HTTP_RESPONSE_LINE, 1, h->response_line);
	put(tx, DPI_HTTP_PROTOCOL, 1, h->response_protocol);
	put(tx, DPI_HTTP_STAT_CODE, 1, h->response_status);
	put(tx, DPI_HTTP_STAT_MSG, 1, h->response_message);
	return HTP_OK;
}

static int
on_response_headers(htp_tx_t *h)
{
	struct http *state = ((struct dpi_session *)htp_connp_get_user_data(h->connp))->state;

	state->tunnel |= h->request_method_number == HTP_M_CONNECT ||
	    h->response_status_number == 101;
	on_response_line(h);
	put_headers(tx_of(h), 1, h->response_headers, h->response_line);
	return HTP_OK;
}

static int
on_response_body(htp_tx_data_t *d)
{
	struct dpi_session *s = htp_connp_get_user_data(d->tx->connp);
	struct dpi_tx *tx = tx_of(d->tx);

	if (d->data == NULL || d->len == 0)
		return HTP_OK;
	put_file_name(tx, 1, d->tx);
	dpi_tx_lend(s, tx, DPI_HTTP_RESPONSE_BODY, 1, d->data, d->len, DPI_BODY_MAX);
	dpi_tx_lend(s, tx, DPI_FILE_DATA, 1, d->data, d->len, DPI_BODY_MAX);
	return HTP_OK;
}

static int
on_response_complete(htp_tx_t *h)
{
	struct dpi_tx *tx = tx_of(h);

	dpi_tx_done(tx, 0);
	dpi_tx_done(tx, 1);
	return HTP_OK;
}

/* The blocks of headers as they came. */
static int
on_request_raw(htp_tx_data_t *d)
{
	if (d->len > 0)
		dpi_tx_put(tx_of(d->tx), DPI_HTTP_HEADER_RAW, 0, d->data, d->len);
	return HTP_OK;
}

static int
on_response_raw(htp_tx_data_t *d)
{
	if (d->len > 0)
		dpi_tx_put(tx_of(d->tx), DPI_HTTP_HEADER_RAW, 1, d->data, d->len);
	return HTP_OK;
}

/* What the parser complains of, by the front of its sentence. */
static const struct {
	const char *says;
	uint16_t event;
	uint8_t dir;
} complaints[] = {
	{ "GZip decompressor:", DPI_EV_HTTP_GZIP, 1 },
	{ "Request field invalid: colon missing", DPI_EV_HTTP_FIELD_COLON, 0 },
	{ "Response field invalid: missing colon", DPI_EV_HTTP_RFIELD_COLON, 1 },
	{ "Request chunk encoding: Invalid chunk length", DPI_EV_HTTP_CHUNK_LEN, 0 },
	{ "Response chunk encoding: Invalid chunk length", DPI_EV_HTTP_RCHUNK_LEN, 1 },
	{ "Invalid T-E value in request", DPI_EV_HTTP_TE_REQ, 0 },
	{ "Invalid T-E value in response", DPI_EV_HTTP_TE_RESP, 1 },
	{ "Invalid C-L field in request", DPI_EV_HTTP_CL_REQ, 0 },
	{ "Invalid C-L field in response", DPI_EV_HTTP_CL_RESP, 1 },
	{ "Already seen 100-Continue", DPI_EV_HTTP_100, 1 },
	{ "Unable to match response to request", DPI_EV_HTTP_MATCH, 1 },
	{ "Invalid server port information in request", DPI_EV_HTTP_PORT, 0 },
	{ "Invalid authority port", DPI_EV_HTTP_AUTHORITY, 0 },
	{ "Request buffer over", DPI_EV_HTTP_FIELD_LONG, 0 },
	{ "Response the buffer limit", DPI_EV_HTTP_RFIELD_LONG, 1 },
	{ "C-T multipart/byteranges in responses", DPI_EV_HTTP_BYTERANGES, 1 },
	{ "Transfer-encoding has abnormal chunked", DPI_EV_HTTP_CHUNK_TE_ABNORMAL, 1 },
	{ "Chunked transfer-encoding on HTTP/0.9", DPI_EV_HTTP_CHUNK_OLD, 1 },
	{ "Invalid response line: invalid protocol", DPI_EV_HTTP_PROTOCOL_RESP, 1 },
	{ "Invalid response line: invalid response status", DPI_EV_HTTP_STATUS, 1 },
	{ "Request line incomplete", DPI_EV_HTTP_INCOMPLETE, 0 },
	{ "Unexpected request body", DPI_EV_HTTP_BODY_UNEXPECTED, 0 },
	{ "LZMA decompressor: memory limit reached", DPI_EV_HTTP_LZMA, 1 },
	{ "Compression bomb", DPI_EV_HTTP_BOMB, 1 },
	{ "Request line: missing protocol", DPI_EV_HTTP_NO_PROTOCOL, 0 },
	{ "Request line: leading whitespace", DPI_EV_HTTP_LEADING, 0 },
	{ "Request line: non-compliant delimiter", DPI_EV_HTTP_METHOD_DELIM, 0 },
	{ "Request line: URI contains non-compliant", DPI_EV_HTTP_URI_DELIM, 0 },
	{ "Too many response content encoding layers", DPI_EV_HTTP_LAYERS, 1 },
	{ "C-E gzip has abnormal value", DPI_EV_HTTP_GZIP_ABNORMAL, 1 },
	{ "C-E deflate has abnormal value", DPI_EV_HTTP_GZIP_ABNORMAL, 1 },
	{ "C-E unknown setting", DPI_EV_HTTP_GZIP_ABNORMAL, 1 },
	{ "Repetition for header", DPI_EV_HTTP_REPETITION, 0 },
	{ "Invalid request field folding", DPI_EV_HTTP_FOLDING, 0 },
	{ "Invalid response field folding", DPI_EV_HTTP_RFOLDING, 1 },
	{ "Too many request headers", DPI_EV_HTTP_MANY_HEADERS, 0 },
	{ "Too many response headers", DPI_EV_HTTP_MANY_HEADERS, 1 },
	{ "Request chunk extension", DPI_EV_HTTP_CHUNK_EXT, 0 },
	{ "Unexpected Response body", DPI_EV_HTTP_EXTRA_DATA, 1 },
	{ "Unexpected response body", DPI_EV_HTTP_EXTRA_DATA, 1 },
};

static int
on_log(htp_log_t *log)
{
	if (log->tx == NULL || log->msg == NULL)
		return HTP_OK;
	for (size_t i = 0; i < PK_COUNT(complaints); i++) {
		if (strncmp(log->msg, complaints[i].says, strlen(complaints[i].says)) == 0) {
			dpi_tx_event(tx_of(log->tx), complaints[i].event, complaints[i].dir);
			break;
		}
	}
	return HTP_OK;
}

int
dpi_http1_init(unsigned int layers)
{
	if (config != NULL) {
		htp_config_set_response_decompression_layer_limit(config, (int)layers);
		return 0;
	}
	config = htp_config_create();
	if (config == NULL)
		return -1;
	htp_config_set_server_personality(config, HTP_SERVER_IDS);
	/* That personality turns paths into lower case, which no rule expects. */
	htp_config_set_convert_lowercase(config, HTP_DECODER_URL_PATH, 0);
	htp_config_set_log_level(config, HTP_LOG_INFO);
	htp_config_set_tx_auto_destroy(config, 0);
	htp_config_set_parse_request_cookies(config, 0);
	htp_config_set_allow_space_uri(config, 1);
	htp_config_set_plusspace_decode(config, HTP_DECODER_URLENCODED, 0);
	htp_config_set_request_decompression(config, 1);
	htp_config_set_lzma_layers(config, 0);
	htp_config_set_compression_bomb_limit(config, 1048576);
	htp_config_set_field_limits(config, 9000, 18000);
	htp_config_set_response_decompression_layer_limit(config, (int)layers);
	htp_config_register_multipart_parser(config);
	htp_config_register_log(config, on_log);
	htp_config_register_request_uri_normalize(config, on_uri_normalize);
	htp_config_register_request_line(config, on_request_line);
	htp_config_register_request_headers(config, on_request_headers);
	htp_config_register_request_header_data(config, on_request_raw);
	htp_config_register_request_body_data(config, on_request_body);
	htp_config_register_request_complete(config, on_request_complete);
	htp_config_register_response_line(config, on_response_line);
	htp_config_register_response_headers(config, on_response_headers);
	htp_config_register_response_header_data(config, on_response_raw);
	htp_config_register_response_body_data(config, on_response_body);
	htp_config_register_response_complete(config, on_response_complete);
	return 0;
}

void
dpi_http1_fini(void)
{
	if (config != NULL)
		htp_config_destroy(config);
	config = NULL;
}

static int
http_open(struct dpi_session *s)
{
	struct http *h = dpi_calloc(1, sizeof(*h));

	if (h == NULL || (config == NULL && dpi_http1_init(DPI_HTTP1_LAYERS) < 0) ||
	    (h->parser = htp_connp_create(config)) == NULL) {
		dpi_free(h);
		return -1;
	}
	htp_connp_set_user_data(h->parser, s);
	htp_connp_open(h->parser, NULL, s->port[0], NULL, s->port[1], NULL);
	s->state = h;
	return 0;
}

static void
http_bytes(struct dpi_session *s, unsigned int dir, const uint8_t *bytes, uint32_t len, bool end)
{
	struct http *h = s->state;
	htp_time_t now = { 0, 0 };

	while (len > 0 && !h->failed[dir]) {
		int rc = dir == 0 ? htp_connp_req_data(h->parser, &now, bytes, len)
		                  : htp_connp_res_data(h->parser, &now, bytes, len);
		size_t used = dir == 0 ? htp_connp_req_data_consumed(h->parser)
		                       : htp_connp_res_data_consumed(h->parser);

		h->failed[dir] = rc == HTP_STREAM_ERROR || rc == HTP_STREAM_STOP ||
		    rc == HTP_STREAM_CLOSED;
		if (rc != HTP_STREAM_DATA_OTHER || used >= len || used == 0)
			break;
		bytes += used;
		len -= (uint32_t)used;
	}
	if (end && !h->failed[dir] && dir == 0)
		htp_connp_req_close(h->parser, &now);
	else if (end && dir == 1)
		htp_connp_close(h->parser, &now);
}

static void
http_lost(struct dpi_session *s, unsigned int dir, uint64_t len)
{
	struct http *h = s->state;
	htp_time_t now = { 0, 0 };
	int rc;

	if (h->failed[dir] || len > SIZE_MAX)
		return;
	rc = dir == 0 ? htp_connp_req_data(h->parser, &now, NULL, len)
	              : htp_connp_res_data(h->parser, &now, NULL, len);
	h->failed[dir] = rc == HTP_STREAM_ERROR;
}

static void
http_close(struct dpi_session *s)
{
	struct http *h = s->state;

	htp_connp_destroy_all(h->parser);
	dpi_free(h);
}

static bool
is_complete(const htp_tx_t *h)
{
	return h->request_progress == HTP_REQUEST_COMPLETE &&
	    h->response_progress == HTP_RESPONSE_COMPLETE;
}

static void
http_forget(struct dpi_session *s, struct dpi_tx *tx)
{
	htp_tx_t *h = tx->of;

	(void)s;
	if (h == NULL)
		return;
	htp_tx_set_user_data(h, NULL);
	if (is_complete(h))
		htp_tx_destroy(h);
}

/* Between two messages a parser knows nothing that a new one would not; but for tunnels, and for what has failed. */
static void
http_rest(struct dpi_session *s)
{
	struct http *h = s->state;
	const htp_conn_t *conn = htp_connp_get_connection(h->parser);
	size_t n = conn != NULL ? htp_list_size(conn->transactions) : 0;

	if (h->failed[0] || h->failed[1] || h->tunnel || n == 0)
		return;
	for (size_t i = 0; i < n; i++) {
		const htp_tx_t *t = htp_list_get(conn->transactions, i);

		if (t != NULL && !is_complete(t))
			return;
	}
	for (struct dpi_tx *tx = s->tx; tx != NULL; tx = tx->next)
		tx->of = NULL;
	http_close(s);
	s->state = NULL;
}

const struct dpi_layer_ops dpi_http_ops = { .open = http_open,
	.bytes = http_bytes,
	.lost = http_lost,
	.close = http_close,
	.forget = http_forget,
	.rest = http_rest };
