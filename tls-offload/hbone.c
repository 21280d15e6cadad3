#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <nghttp2/nghttp2.h>

#include "lib/log.h"
#include "tls-offload/tlsd_priv.h"

/*
 * HBONE: flows as streams of HTTP/2, each opened by CONNECT (RFC 9113, section 8.5) with the original destination as its
 * :authority, on one TLS connection to port 15008 between the addresses of two workloads.
 *
 * A flow's bytes are read from its socket when HTTP/2 has room to send them, and not before; so there is no buffer on that
 * way.  On the other way they go to the socket as they come, and what does not fit waits, up to the stream's window, which is
 * opened by what the workload has taken.  The connection's window is opened at once, so a workload that reads slowly holds
 * up nobody else.
 */
#define STREAM_WINDOW (1 << 20)
#define WINDOW        (16 << 20)
#define DATA_MAX      (TLSO_CHUNK - 9) /* a DATA frame with its header is one record */
#define HEADERS_MAX   65536
#define READS         16                 /* of TLSO_CHUNK in a turn */
#define PING_NS       (10 * PK_NS_PER_S) /* of silence before somebody is asked */
#define PING_LOST_NS  (20 * PK_NS_PER_S)
#define RESETS        200 /* streams a peer may reset in RESETS_NS (CVE-2023-44487) */
#define RESETS_NS     PK_NS_PER_S

struct tlso_hbone {
	struct tlso_tunnel *tunnel;
	struct tlso_hbone *next, *prev; /* of the worker */
	nghttp2_session *session;
	struct tlso_flow *flows;
	unsigned int nb;
	bool over, busy, leaving; /* leaving: takes no more flows */
	uint64_t heard_ns, pinged_ns,
	    idle_ns; /* idle_ns: since when it has no flows; 0: it has some */
	uint64_t resets_ns;
	unsigned int resets;
	size_t out_off, out_len;
	uint8_t out[2 * TLSO_CHUNK];
};

static nghttp2_nv
header(const char *name, const char *value)
{
	return (nghttp2_nv){ .name = (uint8_t *)(uintptr_t)name,
		.namelen = strlen(name),
		.value = (uint8_t *)(uintptr_t)value,
		.valuelen = strlen(value) };
}

int
tlso_authority_parse(const uint8_t *s, size_t len, struct pk_addr *addr, uint16_t *port)
{
	char text[PK_ADDR_TEXT], *end;
	const uint8_t *colon = memrchr(s, ':', len);
	size_t host = colon != NULL ? (size_t)(colon - s) : 0, digits = len - host - 1;
	bool bracketed = host > 2 && s[0] == '[' && s[host - 1] == ']';
	char number[6];
	unsigned long p;

	if (colon == NULL || digits == 0 || digits >= sizeof(number) || host == 0)
		return -EINVAL;
	memcpy(number, colon + 1, digits);
	number[digits] = '\0';
	if (strspn(number, "0123456789") != digits)
		return -EINVAL;
	p = strtoul(number, &end, 10);
	if (p == 0 || p > 65535)
		return -EINVAL;
	if (bracketed) {
		s++;
		host -= 2;
	}
	if (host >= sizeof(text) || memchr(s, '\0', host) != NULL)
		return -EINVAL;
	memcpy(text, s, host);
	text[host] = '\0';
	if (pk_addr_parse(addr, text, NULL) < 0 || (addr->family == 6) != bracketed)
		return -EINVAL;
	*port = (uint16_t)p;
	return 0;
}

/* ---- flows of a connection ---- */

static void
attach(struct tlso_hbone *h, struct tlso_flow *f)
{
	f->hbone = h;
	f->peer_prev = NULL;
	f->peer_next = h->flows;
	if (h->flows != NULL)
		h->flows->peer_prev = f;
	h->flows = f;
	h->nb++;
	h->idle_ns = 0;
}

static void
detach(struct tlso_flow *f)
{
	struct tlso_hbone *h = f->hbone;

	if (f->peer_prev != NULL)
		f->peer_prev->peer_next = f->peer_next;
	else
		h->flows = f->peer_next;
	if (f->peer_next != NULL)
		f->peer_next->peer_prev = f->peer_prev;
	f->hbone = NULL;
	if (--h->nb == 0)
		h->idle_ns = h->tunnel->worker->now_ns;
}

unsigned int
tlso_hbone_streams(const struct tlso_hbone *h)
{
	return h->nb;
}

const struct tlso_tunnel *
tlso_hbone_tunnel(const struct tlso_hbone *h)
{
	return h->tunnel;
}

/* ---- sending ---- */

static void
finish(struct tlso_hbone *h, enum tlso_end end)
{
	if (!h->over)
		tlso_tunnel_end(h->tunnel, end);
}

/* As much as HTTP/2 has and the socket takes. */
static void
send_out(struct tlso_hbone *h)
{
	struct tlso_tunnel *t = h->tunnel;

	if (h->busy || h->over)
		return;
	h->busy = true;
	while (!h->over) {
		const uint8_t *frame;
		ssize_t n;
		int sent;

		if (h->out_len > 0) {
			sent = tlso_tunnel_write(t, h->out + h->out_off, h->out_len);
			if (sent < 0)
				finish(h, TLSO_END_RESET);
			if (sent <= 0)
				break;
			h->out_off += (size_t)sent;
			h->out_len -= (size_t)sent;
			continue;
		}
		h->out_off = 0;
		/* Small frames share a record; nobody makes one longer than this. */
		while (h->out_len < TLSO_CHUNK &&
		    (n = nghttp2_session_mem_send(h->session, &frame)) > 0) {
			if ((size_t)n > sizeof(h->out) - h->out_len) {
				n = -1;
				break;
			}
			memcpy(h->out + h->out_len, frame, (size_t)n);
			h->out_len += (size_t)n;
		}
		if (n < 0)
			finish(h, TLSO_END_H2);
		if (h->out_len == 0)
			break;
	}
	h->busy = false;
	if (!h->over && h->out_len == 0 && nghttp2_session_want_read(h->session) == 0 &&
	    nghttp2_session_want_write(h->session) == 0)
		finish(h, h->leaving ? TLSO_END_DONE : TLSO_END_RESET);
}

/* Bytes of the workload, as many as HTTP/2 has room for. */
static ssize_t
read_plain(nghttp2_session *session, int32_t stream, uint8_t *buf, size_t len, uint32_t *flags,
    nghttp2_data_source *source, void *arg)
{
	struct tlso_flow *f = source->ptr;
	ssize_t n;

	(void)session;
	(void)stream;
	(void)arg;
	f->deferred = f->state != TLSO_FLOW_OPEN || !f->answered;
	if (f->deferred)
		return f->state == TLSO_FLOW_OVER ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
		                                  : NGHTTP2_ERR_DEFERRED;
	n = recv(f->ev.fd, buf, len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		f->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	if (n < 0)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	if (n == 0) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		f->plain_eof = f->tunnel_shut = true;
		return 0;
	}
	f->tx += (uint64_t)n;
	pk_counter_add(&f->worker->stats.tx, (uint64_t)n);
	return n;
}

static ssize_t
data_len(nghttp2_session *session, uint8_t type, int32_t stream, int32_t window,
    int32_t stream_window, uint32_t max, void *arg)
{
	(void)session;
	(void)type;
	(void)stream;
	(void)arg;
	return PK_MIN(PK_MIN((uint32_t)PK_MIN(window, stream_window), max), (uint32_t)DATA_MAX);
}

void
tlso_hbone_resume(struct tlso_flow *f)
{
	struct tlso_hbone *h = f->hbone;

	if (f->deferred && f->stream >= 0) {
		f->deferred = false;
		(void)nghttp2_session_resume_data(h->session, f->stream);
	}
	send_out(h);
}

void
tlso_hbone_written(struct tlso_flow *f, size_t n)
{
	if (f->stream >= 0)
		(void)nghttp2_session_consume_stream(f->hbone->session, f->stream, n);
}

/* ---- requests and responses ---- */

static int
respond(struct tlso_hbone *h, struct tlso_flow *f, const char *status, bool open)
{
	nghttp2_nv nv = header(":status", status);
	nghttp2_data_provider data = { .source.ptr = f, .read_callback = read_plain };

	f->answered = open;
	return nghttp2_submit_response(h->session, f->stream, &nv, 1, open ? &data : NULL);
}

/* One that will never be open: the stream ends with its response. */
static void
turn_down(struct tlso_hbone *h, struct tlso_flow *f, const char *status, enum tlso_end end)
{
	(void)respond(h, f, status, false);
	(void)nghttp2_session_set_stream_user_data(h->session, f->stream, NULL);
	f->stream = -1;
	tlso_flow_end(f, end);
}

void
tlso_hbone_answer(struct tlso_flow *f, int error)
{
	struct tlso_hbone *h = f->hbone;

	if (error < 0)
		turn_down(h, f, "503", TLSO_END_CONNECT);
	else if (respond(h, f, "200", true) < 0)
		tlso_flow_end(f, TLSO_END_H2);
	else
		tlso_flow_pump(f);
	send_out(h);
}

int
tlso_hbone_open(struct tlso_hbone *h, struct tlso_flow *f)
{
	nghttp2_data_provider data = { .source.ptr = f, .read_callback = read_plain };
	char dst[PK_ADDR_TEXT], authority[PK_ADDR_TEXT + 8], src[PK_ADDR_TEXT],
	    forwarded[PK_ADDR_TEXT + 8];
	nghttp2_nv nv[3];

	pk_addr_text(&f->dst, dst);
	pk_addr_text(&f->src, src);
	snprintf(
	    authority, sizeof(authority), f->dst.family == 6 ? "[%s]:%u" : "%s:%u", dst, f->dport);
	snprintf(forwarded, sizeof(forwarded), f->src.family == 6 ? "for=\"[%s]\"" : "for=%s", src);
	nv[0] = header(":method", "CONNECT");
	nv[1] = header(":authority", authority);
	nv[2] = header("forwarded", forwarded);
	f->deferred = true;
	f->stream = nghttp2_submit_request(h->session, NULL, nv, PK_COUNT(nv), &data, f);
	if (f->stream < 0)
		return -ENOMEM;
	attach(h, f);
	send_out(h);
	return 0;
}

static void
request_is_whole(struct tlso_hbone *h, struct tlso_flow *f)
{
	/* As ztunnel does: 400 for what is no CONNECT, or not for the workload that the connection came to. */
	if (!f->is_connect || !f->goes_here)
		turn_down(h, f, "400", TLSO_END_H2);
	else if (h->tunnel->worker->draining)
		turn_down(h, f, "503", TLSO_END_STOP);
	else if (tlso_flow_connect(f) < 0)
		turn_down(h, f, "503", TLSO_END_CONNECT);
}

static void
response_is_whole(struct tlso_flow *f)
{
	if (f->status / 100 == 1)
		return;
	if (f->status != 200) {
		tlso_flow_end(f, f->status == 401 ? TLSO_END_REFUSED : TLSO_END_CONNECT);
		return;
	}
	f->answered = true;
	tlso_flow_tunnel_open(f);
}

/* ---- callbacks ---- */

static int
on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct tlso_hbone *h = arg;
	struct tlso_flow *f;

	if (!h->tunnel->server || frame->hd.type != NGHTTP2_HEADERS ||
	    frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	f = tlso_flow_arrived(h->tunnel);
	if (f == NULL)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	f->stream = frame->hd.stream_id;
	(void)nghttp2_session_set_stream_user_data(session, f->stream, f);
	attach(h, f);
	return 0;
}

static bool
is(const uint8_t *s, size_t len, const char *text)
{
	return len == strlen(text) && memcmp(s, text, len) == 0;
}

static int
on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
    size_t name_len, const uint8_t *value, size_t len, uint8_t flags, void *arg)
{
	struct tlso_hbone *h = arg;
	struct tlso_flow *f = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	struct pk_addr dst;
	uint16_t port;

	(void)flags;
	if (f == NULL || f->state == TLSO_FLOW_OVER || name_len == 0 || name[0] != ':')
		return 0;
	if (!h->tunnel->server) {
		/* nghttp2 lets three digits pass and nothing else. */
		if (is(name, name_len, ":status") && len == 3)
			f->status = (value[0] - '0') * 100 + (value[1] - '0') * 10 + value[2] - '0';
		return 0;
	}
	if (is(name, name_len, ":method"))
		f->is_connect = is(value, len, "CONNECT");
	if (is(name, name_len, ":authority") &&
	    tlso_authority_parse(value, len, &dst, &port) == 0) {
		f->dport = port;
		f->goes_here = pk_addr_compare(&dst, &h->tunnel->local) == 0;
	}
	return 0;
}

static int
on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct tlso_hbone *h = arg;
	struct tlso_flow *f = NULL;
	uint64_t now = h->tunnel->worker->now_ns;

	h->heard_ns = now;
	h->pinged_ns = 0;
	if (frame->hd.stream_id > 0)
		f = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	switch (frame->hd.type) {
	case NGHTTP2_GOAWAY:
		h->leaving = true;
		break;
	case NGHTTP2_RST_STREAM:
		if (now - h->resets_ns > RESETS_NS) {
			h->resets_ns = now;
			h->resets = 0;
		}
		if (++h->resets > RESETS)
			(void)nghttp2_session_terminate_session(session, NGHTTP2_ENHANCE_YOUR_CALM);
		break;
	case NGHTTP2_HEADERS:
		if (f == NULL || f->state == TLSO_FLOW_OVER)
			break;
		if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
			request_is_whole(h, f);
		else if (!h->tunnel->server && !f->answered)
			response_is_whole(f);
		break;
	default:
		break;
	}
	if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) && f != NULL &&
	    f->state != TLSO_FLOW_OVER && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
		f->tunnel_eof = true;
		tlso_flow_again(f);
	}
	return 0;
}

static int
on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *bytes, size_t len,
    void *arg)
{
	struct tlso_flow *f = nghttp2_session_get_stream_user_data(session, stream);

	(void)flags;
	(void)arg;
	(void)nghttp2_session_consume_connection(session, len);
	if (f == NULL || f->state == TLSO_FLOW_OVER) {
		(void)nghttp2_session_consume_stream(session, stream, len);
		return 0;
	}
	if (tlso_flow_to_plain(f, bytes, len) < 0)
		tlso_flow_end(f, TLSO_END_RESET);
	return 0;
}

static int
on_stream_close(nghttp2_session *session, int32_t stream, uint32_t code, void *arg)
{
	struct tlso_flow *f = nghttp2_session_get_stream_user_data(session, stream);

	(void)arg;
	if (f == NULL || f->state == TLSO_FLOW_OVER)
		return 0;
	f->stream = -1;
	if (code != NGHTTP2_NO_ERROR || f->state != TLSO_FLOW_OPEN) {
		tlso_flow_end(f, code == NGHTTP2_NO_ERROR ? TLSO_END_CONNECT : TLSO_END_RESET);
		return 0;
	}
	/* Both directions have ended; what the workload has not taken yet it still gets. */
	detach(f);
	tlso_flow_again(f);
	return 0;
}

/* ---- a connection ---- */

static int
make_session(struct tlso_hbone *h)
{
	nghttp2_session_callbacks *cb = NULL;
	nghttp2_option *o = NULL;
	int rc = nghttp2_session_callbacks_new(&cb) != 0 || nghttp2_option_new(&o) != 0
	    ? NGHTTP2_ERR_NOMEM
	    : 0;

	if (rc == 0) {
		nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
		nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
		nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
		nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
		nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
		nghttp2_session_callbacks_set_data_source_read_length_callback(cb, data_len);
		nghttp2_option_set_no_auto_window_update(o, 1);
		nghttp2_option_set_peer_max_concurrent_streams(o, TLSO_STREAMS_OUT);
		rc = h->tunnel->server ? nghttp2_session_server_new2(&h->session, cb, h, o)
		                       : nghttp2_session_client_new2(&h->session, cb, h, o);
	}
	nghttp2_option_del(o);
	nghttp2_session_callbacks_del(cb);
	return rc;
}

int
tlso_hbone_create(struct tlso_tunnel *t)
{
	struct tlso_worker *w = t->worker;
	struct tlso_hbone *h = calloc(1, sizeof(*h));
	nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, TLSO_STREAMS_IN },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADERS_MAX },
		{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
	};

	if (h == NULL)
		return -ENOMEM;
	h->tunnel = t;
	/* RFC 9113, section 6.5.2: ENABLE_PUSH is a client's to say. */
	if (make_session(h) != 0 ||
	    nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings,
	        PK_COUNT(settings) - (t->server ? 1 : 0)) != 0 ||
	    nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, WINDOW) != 0) {
		nghttp2_session_del(h->session);
		free(h);
		return -ENOMEM;
	}
	h->heard_ns = h->idle_ns = w->now_ns;
	h->next = w->hbones;
	if (w->hbones != NULL)
		w->hbones->prev = h;
	w->hbones = h;
	t->hbone = h;
	return 0;
}

void
tlso_hbone_ready(struct tlso_hbone *h)
{
	struct tlso_tunnel *t = h->tunnel;
	unsigned int k;

	for (k = 0; k < READS && !h->over; k++) {
		/* What a callback reads of another socket goes elsewhere: it is HTTP/2's own memory. */
		uint8_t *in = t->worker->scratch;
		int n = tlso_tunnel_read(t, in, TLSO_CHUNK);
		ssize_t used;

		if (n == 0)
			break;
		if (n < 0) {
			finish(h, h->nb == 0 ? TLSO_END_DONE : TLSO_END_RESET);
			return;
		}
		h->busy = true;
		used = nghttp2_session_mem_recv(h->session, in, (size_t)n);
		h->busy = false;
		if (used < 0) {
			finish(h, TLSO_END_H2);
			return;
		}
	}
	if (h->over)
		return;
	send_out(h);
	if (k == READS && !h->over) {
		/* There may be more: have it said again, after the others. */
		struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
			.data.ptr = &t->ev };

		(void)epoll_ctl(t->worker->epoll, EPOLL_CTL_MOD, t->ev.fd, &ev);
	}
}

struct tlso_hbone *
tlso_hbone_find(struct tlso_worker *w, const struct tlso_flow *f)
{
	for (struct tlso_hbone *h = w->hbones; h != NULL; h = h->next) {
		const struct tlso_tunnel *t = h->tunnel;
		uint32_t max = nghttp2_session_get_remote_settings(
		    h->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);

		if (!t->server && !h->leaving && t->wire == f->wire &&
		    h->nb < PK_MIN(max, (uint32_t)TLSO_STREAMS_OUT) &&
		    pk_addr_compare(&t->local, &f->src) == 0 &&
		    pk_addr_compare(&t->remote, &f->dst) == 0 &&
		    strcmp(t->identity->workload, f->local) == 0 &&
		    strcmp(t->check.peer.workload, f->remote) == 0)
			return h;
	}
	return NULL;
}

void
tlso_hbone_forget(struct tlso_flow *f, enum tlso_end end)
{
	struct tlso_hbone *h = f->hbone;

	detach(f);
	if (h->over || f->stream < 0)
		return;
	(void)nghttp2_session_set_stream_user_data(h->session, f->stream, NULL);
	(void)nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, f->stream,
	    end == TLSO_END_RESET ? NGHTTP2_CONNECT_ERROR : NGHTTP2_CANCEL);
	send_out(h);
}

static void
leave(struct tlso_hbone *h)
{
	if (!h->leaving)
		(void)nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
		    nghttp2_session_get_last_proc_stream_id(h->session), NGHTTP2_NO_ERROR, NULL, 0);
	h->leaving = true;
	send_out(h);
}

void
tlso_hbone_drain(struct tlso_worker *w)
{
	for (struct tlso_hbone *h = w->hbones, *next; h != NULL; h = next) {
		next = h->next;
		leave(h);
	}
}

void
tlso_hbone_tick(struct tlso_worker *w, uint64_t now_ns)
{
	for (struct tlso_hbone *h = w->hbones, *next; h != NULL; h = next) {
		next = h->next;
		if (h->pinged_ns != 0 && now_ns - h->pinged_ns > PING_LOST_NS) {
			finish(h, TLSO_END_TIMEOUT);
			continue;
		}
		if (h->pinged_ns == 0 && now_ns - h->heard_ns > PING_NS) {
			(void)nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, NULL);
			h->pinged_ns = now_ns;
			send_out(h);
		}
		if (h->over || h->nb > 0)
			continue;
		if (h->leaving || now_ns - h->idle_ns > w->all->conf->idle_ns) {
			(void)nghttp2_session_terminate_session(h->session, NGHTTP2_NO_ERROR);
			h->leaving = true;
			send_out(h);
		}
	}
}

void
tlso_hbone_end(struct tlso_hbone *h, enum tlso_end end)
{
	struct tlso_worker *w = h->tunnel->worker;

	if (h->over)
		return;
	h->over = true;
	if (h->prev != NULL)
		h->prev->next = h->next;
	else
		w->hbones = h->next;
	if (h->next != NULL)
		h->next->prev = h->prev;
	while (h->flows != NULL)
		tlso_flow_end(h->flows, end == TLSO_END_DONE ? TLSO_END_RESET : end);
}

void
tlso_hbone_free(struct tlso_hbone *h)
{
	if (h == NULL)
		return;
	nghttp2_session_del(h->session);
	free(h);
}
