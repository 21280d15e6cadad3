/* HTTP/1 (RFC 9112), HTTP/2 (RFC 9113) and what is built on them. */
#include <stdlib.h>

#include <nghttp2/nghttp2.h>

#include "dpi/proto.h"

static const char *const methods[] = { "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT",
	"TRACE", "PATCH", "PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK",
	"SEARCH", "REPORT", "MKACTIVITY", "CHECKOUT", "MERGE", "SUBSCRIBE", "UNSUBSCRIBE", "NOTIFY",
	"M-SEARCH", "PURGE", "MKCALENDAR", "BITS_POST", "CCM_POST", "RPC_IN_DATA", "RPC_OUT_DATA",
	"RPC_CONNECT", "LINK", "UNLINK", "SOURCE", "ACL", "BIND", "REBIND", "VERSION-CONTROL" };

struct request {
	struct dpi_bytes method, target,
	    headers;   /* headers: up to the empty line, or all there is */
	uint32_t body; /* offset; 0 when the empty line has not come */
};

/* Length of the method at the front; 0: none of these; UINT32_MAX: too short to tell. */
static uint32_t
method_len(struct dpi_bytes b)
{
	bool can = false;

	for (size_t i = 0; i < PK_COUNT(methods); i++) {
		size_t n = strlen(methods[i]);

		switch (dpi_front(b, methods[i], n)) {
		case DPI_MATCH:
			if (b.len == n)
				can = true;
			else if (b.at[n] == ' ')
				return (uint32_t)n;
			break;
		case DPI_MORE:
			can = true;
			break;
		default:
			break;
		}
	}
	return can ? UINT32_MAX : 0;
}

static struct dpi_bytes
header_block(struct dpi_bytes b, uint32_t from, uint32_t *body)
{
	struct dpi_bytes all = { b.at + from, b.len - from };

	*body = 0;
	while (from < b.len) {
		uint32_t next = 0;
		struct dpi_bytes line =
		    dpi_line((struct dpi_bytes){ b.at + from, b.len - from }, &next);

		if (line.len == UINT32_MAX)
			break;
		if (line.len == 0) {
			all.len = (uint32_t)(b.at + from - all.at);
			*body = from + next;
			break;
		}
		from += next;
	}
	return all;
}

static enum dpi_match
read_request(struct dpi_bytes b, struct request *r)
{
	uint32_t n = method_len(b), next = 0;
	struct dpi_bytes line;
	const uint8_t *version;

	memset(r, 0, sizeof(*r));
	line = dpi_line(b, &next);
	if (n == 0) {
		/* Not one of ours: a token all the same (RFC 9110 section 9.1), if the line ends in the version. */
		while (n < b.len && n < 24 &&
		    ((b.at[n] >= 'A' && b.at[n] <= 'Z') || b.at[n] == '-' || b.at[n] == '_'))
			n++;
		if (n == b.len && n < 24)
			return DPI_MORE;
		if (n < 3 || b.at[n] != ' ')
			return DPI_NO;
		if (line.len == UINT32_MAX)
			return b.len < 1024 ? DPI_MORE : DPI_NO;
	}
	if (n == UINT32_MAX)
		return DPI_MORE;
	if (line.len == UINT32_MAX) {
		struct dpi_bytes part = b;

		while (part.len > 0 && part.at[part.len - 1] == '\r')
			part.len--;
		/* Octets beyond ASCII are not allowed in a target, and sent all the same. */
		for (uint32_t i = 0; i < part.len; i++)
			if (part.at[i] < 0x20)
				return DPI_NO;
		return b.len > n + 1 && (b.at[n + 1] == '/' || b.at[n + 1] == 'h') && b.len > 1024
		    ? DPI_LIKELY
		    : DPI_MORE;
	}
	version = memrchr(b.at, ' ', line.len);
	if (version == NULL || line.at + line.len - version != 9 ||
	    memcmp(version, " HTTP/1.", 8) != 0 || !dpi_is_digit(version[8]) || version <= b.at + n)
		return DPI_NO;
	r->method = (struct dpi_bytes){ b.at, n };
	r->target = (struct dpi_bytes){ b.at + n + 1, (uint32_t)(version - b.at) - n - 1 };
	r->headers = header_block(b, next, &r->body);
	return DPI_MATCH;
}

/* "HTTP/1.1 200 ", the reason and its line end matter to nobody. */
static enum dpi_match
read_status(struct dpi_bytes b)
{
	enum dpi_match m = DPI_FRONT(b, "HTTP/1.");

	if (m != DPI_MATCH || b.len < 13)
		return m == DPI_NO ? DPI_NO : DPI_MORE;
	return dpi_is_digit(b.at[7]) && b.at[8] == ' ' && dpi_is_digit(b.at[9]) &&
	        dpi_is_digit(b.at[10]) && dpi_is_digit(b.at[11]) &&
	        (b.at[12] == ' ' || b.at[12] == '\r' || b.at[12] == '\n')
	    ? DPI_MATCH
	    : DPI_NO;
}

/* The value of a field; `upper` is its name in upper case.  len 0: not there. */
static struct dpi_bytes
field(struct dpi_bytes headers, const char *upper)
{
	size_t n = strlen(upper);

	while (headers.len > 0) {
		uint32_t next = 0;
		struct dpi_bytes line = dpi_line(headers, &next);

		if (line.len == UINT32_MAX)
			break;
		if (line.len > n && line.at[n] == ':' && dpi_equal_nocase(line.at, upper, n)) {
			line.at += n + 1;
			line.len -= (uint32_t)n + 1;
			while (line.len > 0 && (line.at[0] == ' ' || line.at[0] == '\t'))
				line.at++, line.len--;
			return line;
		}
		headers.at += next;
		headers.len -= next;
	}
	return (struct dpi_bytes){ headers.at, 0 };
}

#define HAS(b, literal) (dpi_find(b, literal, sizeof(literal) - 1) != NULL)

/* What a request is for, by its path: a name for DPI_FIELD_SERVICE, or NULL. */
static const char *
service_of(struct dpi_bytes path)
{
	if (DPI_FRONT(path, "/api/v1/") == DPI_MATCH || DPI_FRONT(path, "/apis/") == DPI_MATCH)
		return "kubernetes";
	if (path.len > 6 && DPI_FRONT(path, "/v1.") == DPI_MATCH && dpi_is_digit(path.at[4]) &&
	    (HAS(path, "/containers/") || HAS(path, "/images/") || HAS(path, "/exec/") ||
	        HAS(path, "/networks") || HAS(path, "/volumes")))
		return "docker";
	if (DPI_FRONT(path, "/v2/keys/") == DPI_MATCH || DPI_FRONT(path, "/v3/kv/") == DPI_MATCH)
		return "etcd";
	return NULL;
}

/* Elasticsearch names its own calls with an underscore; that alone is a hint, its answer is proof. */
static bool
may_be_elastic(struct dpi_bytes path)
{
	return HAS(path, "/_search") || HAS(path, "/_bulk") || HAS(path, "/_cluster") ||
	    HAS(path, "/_cat/") || HAS(path, "/_doc") || HAS(path, "/_mapping") ||
	    HAS(path, "/_nodes") || HAS(path, "/_msearch") || HAS(path, "/_mget") ||
	    HAS(path, "/_create/") || HAS(path, "/_update");
}

static enum dpi_match
parse_http(struct dpi_view *v)
{
	struct request r;
	enum dpi_match c = DPI_MORE, s = DPI_MORE;
	struct dpi_bytes upgrade, answer = v->side[1];
	uint32_t body;

	if (v->side[0].len > 0 && (c = read_request(v->side[0], &r)) == DPI_NO)
		return DPI_NO;
	if (v->side[1].len > 0 && (s = read_status(v->side[1])) == DPI_NO && v->side[0].len == 0)
		return DPI_NO;
	if (c < DPI_MATCH)
		return PK_MAX(c, s);
	/* A request line is proof enough.  Only what could be something on top waits for its answer. */
	if (v->last)
		return DPI_MATCH;
	if (r.body == 0)
		return v->end[0] || v->side[0].len > 4096 ? DPI_MATCH : DPI_LIKELY;
	upgrade = field(r.headers, "UPGRADE");
	if (dpi_find(field(r.headers, "CONTENT-TYPE"), "application/json-rpc", 20) != NULL)
		v->app = DPI_APP_JSONRPC;
	if (upgrade.len >= 9 && dpi_equal_nocase(upgrade.at, "WEBSOCKET", 9)) {
		if (s == DPI_MORE && !v->end[1])
			return DPI_LIKELY;
		if (s == DPI_MATCH && memcmp(answer.at + 9, "101", 3) == 0)
			v->app = DPI_APP_WEBSOCKET;
		return DPI_MATCH;
	}
	if (may_be_elastic(r.target)) {
		struct dpi_bytes h;

		if (s == DPI_MORE && !v->end[1])
			return DPI_LIKELY;
		h = header_block(answer, 0, &body);
		if (s == DPI_MATCH && body == 0 && !v->end[1] && answer.len < 4096)
			return DPI_LIKELY;
		if (field(h, "X-ELASTIC-PRODUCT").len > 0 ||
		    (body != 0 &&
		        (HAS(((struct dpi_bytes){ answer.at + body, answer.len - body }),
		             "\"_shards\"") ||
		            HAS(((struct dpi_bytes){ answer.at + body, answer.len - body }),
		                "\"cluster_name\""))))
			v->app = DPI_APP_ELASTICSEARCH;
	}
	return DPI_MATCH;
}

static bool
describe_http(struct dpi_view *v)
{
	struct request r;
	struct dpi_bytes f;
	bool all = true;

	if (v->side[0].len > 0 && read_request(v->side[0], &r) == DPI_MATCH) {
		const char *service = service_of(r.target);

		dpi_say(v, DPI_FIELD_HTTP_METHOD, 0, r.method.at, r.method.len);
		dpi_say(v, DPI_FIELD_HTTP_PATH, 0, r.target.at, r.target.len);
		if (service != NULL)
			dpi_say(v, DPI_FIELD_SERVICE, -1, service, strlen(service));
		f = field(r.headers, "HOST");
		if (f.len > 0)
			dpi_say(v, DPI_FIELD_HTTP_HOST, 0, f.at, f.len);
		f = field(r.headers, "USER-AGENT");
		if (f.len > 0)
			dpi_say(v, DPI_FIELD_HTTP_USER_AGENT, 0, f.at, f.len);
		if (r.method.len == 7 && memcmp(r.method.at, "CONNECT", 7) == 0)
			dpi_say(v, DPI_FIELD_TUNNEL, -1, "http-connect", 12);
		if (v->app == DPI_APP_WEBSOCKET)
			dpi_say(v, DPI_FIELD_TUNNEL, -1, "websocket", 9);
		all = r.body != 0 || v->end[0];
	}
	if (v->side[1].len > 0 && read_status(v->side[1]) == DPI_MATCH)
		dpi_say(v, DPI_FIELD_HTTP_STATUS, 1, v->side[1].at + 9, 3);
	else
		all = all && v->end[1];
	return all;
}

/* ---- HTTP/2 ---- */

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
#define PREFACE_LEN (sizeof(preface) - 1)

enum {
	DATA = 0,
	HEADERS = 1,
	SETTINGS = 4,
	CONTINUATION = 9,
	PADDED = 8,
	PRIORITY = 0x20,
	END_HEADERS = 4
};

/* A frame header as RFC 9113 section 4.1 and 6 have it: stream 0 or not, fixed lengths. */
static bool
frame_ok(const uint8_t *p)
{
	uint32_t len = (uint32_t)p[0] << 16 | dpi_be16(p + 1), stream = dpi_be32(p + 5);

	/* Flags that have no meaning are left zero (section 4.1). */
	static const uint8_t flags[] = { 0x09, 0x2d, 0, 0, 0x01, 0x0c, 0x01, 0, 0, 0x04 };

	if (len > 1 << 20 || (stream & 0x80000000) != 0 || p[3] >= sizeof(flags) ||
	    (p[4] & ~flags[p[3]]) != 0)
		return false;
	switch (p[3]) {
	case DATA: /* an empty one ends the stream */
		return stream != 0 && (len > 0 || (p[4] & 1) != 0);
	case HEADERS:
		return stream != 0 && len > 0;
	case CONTINUATION:
		return stream != 0;
	case 2: /* PRIORITY */
		return stream != 0 && len == 5;
	case 3: /* RST_STREAM */
		return stream != 0 && len == 4;
	case SETTINGS:
		return stream == 0 && len % 6 == 0 && (p[4] & ~1) == 0 &&
		    ((p[4] & 1) == 0 || len == 0);
	case 5: /* PUSH_PROMISE */
		return stream != 0 && len >= 4;
	case 6: /* PING */
		return stream == 0 && len == 8;
	case 7: /* GOAWAY */
		return stream == 0 && len >= 8;
	case 8: /* WINDOW_UPDATE */
		return len == 4;
	default:
		return false;
	}
}

/* Frames end to end from `off`; how many headers were seen, or -1. */
static int
frame_chain(struct dpi_bytes b, uint32_t off, uint32_t *kinds)
{
	int n = 0;

	*kinds = 0;
	while (off < b.len && b.len - off >= 9) {
		if (!frame_ok(b.at + off))
			return -1;
		*kinds |= 1U << (b.at[off + 3] & 15);
		off += 9 + ((uint32_t)b.at[off] << 16 | dpi_be16(b.at + off + 1));
		n++;
	}
	return n;
}

/* The first header block, put together in `room`.  Its length; 0: not whole yet; UINT32_MAX: broken. */
static uint32_t
first_headers(struct dpi_bytes b, uint32_t off, uint8_t *room)
{
	uint32_t n = 0, stream = 0;

	while (b.len - off >= 9) {
		const uint8_t *p = b.at + off;
		uint32_t len = (uint32_t)p[0] << 16 | dpi_be16(p + 1), skip = 0, tail = 0;

		if (!frame_ok(p) ||
		    (stream != 0 && (p[3] != CONTINUATION || dpi_be32(p + 5) != stream)))
			return UINT32_MAX;
		if (b.len - off - 9 < len)
			return 0;
		if (p[3] == HEADERS || stream != 0) {
			if (p[3] == HEADERS) {
				stream = dpi_be32(p + 5);
				if ((p[4] & PADDED) != 0 && len > 0) {
					skip = 1;
					tail = p[9];
				}
				skip += (p[4] & PRIORITY) != 0 ? 5 : 0;
			}
			if (skip + tail > len || n + len > DPI_STREAM_MAX)
				return UINT32_MAX;
			memcpy(room + n, p + 9 + skip, len - skip - tail);
			n += len - skip - tail;
			if ((p[4] & END_HEADERS) != 0)
				return n > 0 ? n : UINT32_MAX;
		}
		off += 9 + len;
	}
	return 0;
}

/* HPACK (RFC 7541) of the first header block of a connection: calls `seen` for every field. */
static bool
inflate(const uint8_t *block, uint32_t len, void (*seen)(struct dpi_view *, const nghttp2_nv *),
    struct dpi_view *v)
{
	nghttp2_hd_inflater *hd;
	unsigned int nb = 0;
	bool ok = false;

	if (nghttp2_hd_inflate_new(&hd) != 0)
		return false;
	while (nb++ < 256) {
		nghttp2_nv nv;
		int flags = 0;
		ssize_t used = nghttp2_hd_inflate_hd2(hd, &nv, &flags, block, len, 1);

		if (used < 0)
			break;
		block += used;
		len -= (uint32_t)used;
		if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0)
			seen(v, &nv);
		if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0 || (used == 0 && len == 0)) {
			ok = true;
			break;
		}
	}
	nghttp2_hd_inflate_del(hd);
	return ok;
}

static bool
named(const nghttp2_nv *nv, const char *name)
{
	return nv->namelen == strlen(name) && memcmp(nv->name, name, nv->namelen) == 0;
}

static void
look_for_grpc(struct dpi_view *v, const nghttp2_nv *nv)
{
	if (named(nv, "content-type") && nv->valuelen >= 16 &&
	    memcmp(nv->value, "application/grpc", 16) == 0)
		v->app = DPI_APP_GRPC;
}

static void
say_header(struct dpi_view *v, const nghttp2_nv *nv)
{
	struct dpi_bytes value = { nv->value, (uint32_t)nv->valuelen };
	const char *service;
	const uint8_t *slash;

	if (named(nv, ":method")) {
		dpi_say(v, DPI_FIELD_HTTP_METHOD, -1, value.at, value.len);
	} else if (named(nv, ":authority")) {
		dpi_say(v, DPI_FIELD_HTTP_HOST, -1, value.at, value.len);
	} else if (named(nv, "user-agent")) {
		dpi_say(v, DPI_FIELD_HTTP_USER_AGENT, -1, value.at, value.len);
	} else if (named(nv, ":path")) {
		dpi_say(v, DPI_FIELD_HTTP_PATH, -1, value.at, value.len);
		if (v->app == DPI_APP_GRPC) {
			/* "/package.Service/Method" */
			slash = value.len > 1 ? memchr(value.at + 1, '/', value.len - 1) : NULL;
			if (DPI_FRONT(value, "/etcdserverpb.") == DPI_MATCH)
				dpi_say(v, DPI_FIELD_SERVICE, -1, "etcd", 4);
			else if (slash != NULL)
				dpi_say(v, DPI_FIELD_SERVICE, -1, value.at + 1,
				    (size_t)(slash - value.at) - 1);
		} else if ((service = service_of(value)) != NULL) {
			dpi_say(v, DPI_FIELD_SERVICE, -1, service, strlen(service));
		}
	}
}

static enum dpi_match
parse_http2(struct dpi_view *v)
{
	enum dpi_match m = v->side[0].len > 0 ? dpi_front(v->side[0], preface, PREFACE_LEN)
	                                      : DPI_MORE;
	uint32_t n, kinds, other;
	int c, s;

	if (m == DPI_MATCH) {
		n = first_headers(v->side[0], PREFACE_LEN, dpi_room(v));
		if (n == UINT32_MAX || v->end[0] || v->last)
			return DPI_MATCH;
		if (n == 0)
			return DPI_LIKELY;
		(void)inflate(dpi_room(v), n, look_for_grpc, v);
		return DPI_MATCH;
	}
	if (m == DPI_MORE && v->side[0].len > 0)
		return DPI_MORE;
	/* Joined in the middle, or only the server is heard: frames on end. */
	c = frame_chain(v->side[0], 0, &kinds);
	s = frame_chain(v->side[1], 0, &other);
	if (c < 0 || s < 0 || (!v->midstream && v->side[0].len > 0))
		return DPI_NO;
	kinds |= other;
	if (c >= 1 && s >= 1 && c + s >= 4 && (kinds & ~1U) != 0) {
		n = first_headers(v->side[0], 0, dpi_room(v));
		if (n != 0 && n != UINT32_MAX)
			(void)inflate(dpi_room(v), n, look_for_grpc, v);
		return DPI_MATCH;
	}
	return DPI_MORE;
}

static bool
describe_http2(struct dpi_view *v)
{
	uint32_t off = dpi_front(v->side[0], preface, PREFACE_LEN) == DPI_MATCH ? PREFACE_LEN : 0;
	uint32_t n = first_headers(v->side[0], off, dpi_room(v));

	if (n == 0 && !v->end[0])
		return false;
	if (n != 0 && n != UINT32_MAX)
		(void)inflate(dpi_room(v), n, say_header, v);
	return true;
}

/* ---- PROXY protocol (haproxy, doc/proxy-protocol.txt), which comes before whatever is carried ---- */

static enum dpi_match
parse_proxy(struct dpi_view *v)
{
	static const uint8_t v2[12] = "\r\n\r\n\0\r\nQUIT\n";
	struct dpi_bytes b = v->side[0];

	if (b.len == 0)
		return DPI_MORE;
	if (b.at[0] == '\r') {
		enum dpi_match m = dpi_front(b, v2, sizeof(v2));

		if (m != DPI_MATCH || b.len < 14)
			return m == DPI_NO ? DPI_NO : DPI_MORE;
		return (b.at[12] & 0xfe) == 0x20 && b.at[13] <= 0x32 ? DPI_MATCH : DPI_NO;
	}
	if (DPI_FRONT(b, "PROXY TCP4 ") == DPI_NO && DPI_FRONT(b, "PROXY TCP6 ") == DPI_NO &&
	    DPI_FRONT(b, "PROXY UNKNOWN") == DPI_NO)
		return DPI_NO;
	return b.len >= 11 ? DPI_MATCH : DPI_MORE;
}

static const struct dpi_proto table[] = {
	{ DPI_APP_HAPROXY, DPI_TCP, { DPI_FIRST("\r\rPP"), DPI_ANY }, parse_proxy, NULL },
	{ DPI_APP_HTTP2, DPI_TCP, { DPI_ANY, DPI_FIRST("\x00\x0f") }, parse_http2, describe_http2 },
	{ DPI_APP_HTTP, DPI_TCP, { DPI_FIRST("AZ"), DPI_ANY }, parse_http, describe_http },
};
DPI_FAMILY_OF(http, table);
