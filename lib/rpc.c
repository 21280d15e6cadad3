#include "lib/rpc.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/event.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <grpc/support/log.h>

#include "lib/log.h"
#include "lib/rpc_priv.h"
#include "lib/spiffe.h"

/*
 * What gRPC Core demands, and where it is kept:
 *  - one SEND_MESSAGE and one RECV_MESSAGE at a time per call: `write.busy`, `read.busy`;
 *  - a call lives until its last operation has completed: every started operation holds a reference;
 *  - no operation may be started once the completion queue is shut down (it aborts): the queue is
 *    shut down in pk_rpc_destroy(), after nb_calls has fallen to 0;
 *  - a server learns of a cancelled call only through RECV_CLOSE_ON_SERVER, so each call has one.
 */
#define ACCEPTS      32 /* calls asked for in advance, so that a burst of newcomers does not wait */
#define CERT_WATCH_S 10
#define HANDSHAKE_MS 20000

struct op {
	void (*done)(struct op *op, bool ok);
	struct pk_rpc_stream *stream;
	struct op *next;
	bool ok;
	bool busy;
};

struct pk_rpc {
	grpc_completion_queue *cq;
	pthread_t poller;
	pthread_mutex_t lock; /* guards first, last */
	struct op *first;
	struct op **last;
	int wake; /* eventfd: the chain is no longer empty */
	struct event *event;
	unsigned int nb_calls; /* objects that gRPC may still complete an operation of */
};

#define SLICES_MAX 3

struct pk_rpc_buffer {
	unsigned int refs;
	unsigned int nb;
	size_t len;
	grpc_slice slice[SLICES_MAX];
};

struct pk_rpc_server {
	struct pk_rpc *rpc;
	grpc_server *server;
	const struct pk_rpc_method *methods;
	void *arg;
	uint32_t queue_max;
	int port;
	bool stopping;
	struct op shutdown;
	unsigned int nb_calls;
};

struct pk_rpc_client {
	struct pk_rpc *rpc;
	char *target;
	grpc_channel_credentials *creds;
	struct pk_rpc_limits limits;
};

struct item {
	struct item *next;
	struct pk_rpc_buffer *b;
};

/* A call of either kind, at either end. */
struct pk_rpc_stream {
	struct pk_rpc *rpc;
	struct pk_rpc_server *server; /* NULL at the client's end */
	grpc_channel *channel;        /* client: its own */
	grpc_call *call;
	grpc_call_details details;
	grpc_metadata_array md_in, md_end;
	struct op accept, start, read, write, over, status;
	unsigned int refs; /* operations under way, and one while the application knows us */
	bool attached;     /* the application may be called back */
	bool ending;       /* nothing more is sent */
	bool started;      /* initial metadata has gone out */
	int cancelled;
	grpc_byte_buffer *rx, *tx;
	grpc_status_code status_code;
	grpc_slice status_text;
	const struct pk_rpc_method *method;
	const struct pk_rpc_stream_ops *ops;
	void *state;
	void (*gone)(struct pk_rpc_call *c, void *state);
	struct item *first, **last; /* to be sent */
	size_t queued, queue_max;   /* bytes */
	char peer[PK_RPC_PEER_MAX];
};

/* A unary call at the server: the same object under the name its users know. */
struct pk_rpc_call {
	struct pk_rpc_stream s;
};

const char *
pk_rpc_status_name(unsigned int status)
{
	static const char *const names[] = { "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT",
		"DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
		"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
		"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED" };

	return status < PK_COUNT(names) ? names[status] : "UNKNOWN";
}

/* ---- the way from gRPC's threads into the loop ---- */

static void *
poller_main(void *arg)
{
	struct pk_rpc *r = arg;
	uint64_t one = 1;

	for (;;) {
		grpc_event e =
		    grpc_completion_queue_next(r->cq, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
		struct op *op = e.tag;
		bool was_empty;

		if (e.type == GRPC_QUEUE_SHUTDOWN)
			return NULL;
		op->ok = e.success;
		op->next = NULL;
		pthread_mutex_lock(&r->lock);
		was_empty = r->first == NULL;
		*r->last = op;
		r->last = &op->next;
		pthread_mutex_unlock(&r->lock);
		if (was_empty)
			(void)!write(r->wake, &one, sizeof(one));
	}
}

/* Run what has completed.  A callback may start more, which then comes with a later wake. */
static void
run_completions(struct pk_rpc *r)
{
	struct op *op, *next;

	pthread_mutex_lock(&r->lock);
	op = r->first;
	r->first = NULL;
	r->last = &r->first;
	pthread_mutex_unlock(&r->lock);
	for (; op != NULL; op = next) {
		next = op->next; /* `op` may be freed by its own completion */
		op->busy = false;
		op->done(op, op->ok);
	}
}

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	uint64_t count;

	(void)what;
	(void)!read(fd, &count, sizeof(count));
	run_completions(arg);
}

/* Without the loop: for ends, which wait until gRPC has let go of `*nb` objects. */
static void
drain(struct pk_rpc *r, const unsigned int *nb)
{
	while (*nb != 0) {
		struct pollfd p = { .fd = r->wake, .events = POLLIN };

		(void)poll(&p, 1, 1000);
		on_wake(r->wake, EV_READ, r);
	}
}

int
pk_rpc_create(struct pk_rpc **out, struct event_base *base, struct pk_diag *diag)
{
	struct pk_rpc *r = calloc(1, sizeof(*r));
	int err = -ENOMEM;

	if (r == NULL)
		goto fail;
	r->last = &r->first;
	r->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->wake < 0) {
		err = -errno;
		goto fail_alloc;
	}
	r->event = event_new(base, r->wake, EV_READ | EV_PERSIST, on_wake, r);
	if (r->event == NULL || event_add(r->event, NULL) != 0)
		goto fail_wake;
	pthread_mutex_init(&r->lock, NULL);
	gpr_set_log_function(rpc_log);
	grpc_init();
	r->cq = grpc_completion_queue_create_for_next(NULL);
	err = -pthread_create(&r->poller, NULL, poller_main, r);
	if (err != 0)
		goto fail_grpc;
	pthread_setname_np(r->poller, "rpc-poller");
	*out = r;
	return 0;
fail_grpc:
	grpc_completion_queue_shutdown(r->cq);
	grpc_completion_queue_destroy(r->cq);
	grpc_shutdown_blocking();
	pthread_mutex_destroy(&r->lock);
fail_wake:
	if (r->event != NULL)
		event_free(r->event);
	close(r->wake);
fail_alloc:
	free(r);
fail:
	pk_diag_set(diag, "gRPC could not be started: %s", strerror(-err));
	return err;
}

void
pk_rpc_destroy(struct pk_rpc *r)
{
	if (r == NULL)
		return;
	drain(r, &r->nb_calls);
	grpc_completion_queue_shutdown(r->cq);
	pthread_join(r->poller, NULL);
	grpc_completion_queue_destroy(r->cq);
	grpc_shutdown_blocking();
	event_free(r->event);
	close(r->wake);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* ---- bytes ---- */

struct pk_rpc_buffer *
pk_rpc_buffer_create(size_t len, uint8_t **bytes)
{
	struct pk_rpc_buffer *b = malloc(sizeof(*b));

	if (b == NULL)
		return NULL;
	b->refs = 1;
	b->nb = 1;
	b->len = len;
	b->slice[0] = grpc_slice_malloc_large(len);
	*bytes = GRPC_SLICE_START_PTR(b->slice[0]);
	return b;
}

struct pk_rpc_buffer *
pk_rpc_buffer_chain(
    struct pk_rpc_buffer *head, struct pk_rpc_buffer *middle, struct pk_rpc_buffer *tail)
{
	struct pk_rpc_buffer *from[] = { head, middle, tail };
	struct pk_rpc_buffer *b = calloc(1, sizeof(*b));
	unsigned int nb = 0;

	for (size_t i = 0; i < PK_COUNT(from); i++)
		nb += from[i] != NULL ? from[i]->nb : SLICES_MAX + 1;
	if (b == NULL || nb > SLICES_MAX) {
		free(b);
		b = NULL;
	}
	for (size_t i = 0; i < PK_COUNT(from); i++) {
		for (unsigned int k = 0; b != NULL && k < from[i]->nb; k++)
			b->slice[b->nb++] = grpc_slice_ref(from[i]->slice[k]);
		if (b != NULL)
			b->len += from[i]->len;
		pk_rpc_buffer_put(from[i]);
	}
	if (b != NULL)
		b->refs = 1;
	return b;
}

size_t
pk_rpc_buffer_len(const struct pk_rpc_buffer *b)
{
	return b->len;
}

struct pk_rpc_buffer *
pk_rpc_buffer_get(struct pk_rpc_buffer *b)
{
	b->refs++;
	return b;
}

void
pk_rpc_buffer_put(struct pk_rpc_buffer *b)
{
	if (b == NULL || --b->refs != 0)
		return;
	for (unsigned int i = 0; i < b->nb; i++)
		grpc_slice_unref(b->slice[i]);
	free(b);
}

/* ---- calls, either kind, either end ---- */

static struct pk_rpc_stream *
stream_create(struct pk_rpc *r)
{
	/* The larger of the two views of one object; see struct pk_rpc_call. */
	struct pk_rpc_stream *s = calloc(1, sizeof(struct pk_rpc_call));
	struct op *ops[] = { &s->accept, &s->start, &s->read, &s->write, &s->over, &s->status };

	if (s == NULL)
		return NULL;
	for (size_t i = 0; i < PK_COUNT(ops); i++)
		ops[i]->stream = s;
	s->rpc = r;
	s->last = &s->first;
	s->status_text = grpc_empty_slice();
	grpc_call_details_init(&s->details);
	grpc_metadata_array_init(&s->md_in);
	grpc_metadata_array_init(&s->md_end);
	r->nb_calls++;
	return s;
}

static void
stream_put(struct pk_rpc_stream *s)
{
	struct item *item;

	if (--s->refs != 0)
		return;
	while ((item = s->first) != NULL) {
		s->first = item->next;
		pk_rpc_buffer_put(item->b);
		free(item);
	}
	if (s->rx != NULL)
		grpc_byte_buffer_destroy(s->rx);
	if (s->tx != NULL)
		grpc_byte_buffer_destroy(s->tx);
	if (s->call != NULL)
		grpc_call_unref(s->call);
	if (s->channel != NULL)
		grpc_channel_destroy(s->channel);
	grpc_slice_unref(s->status_text);
	grpc_call_details_destroy(&s->details);
	grpc_metadata_array_destroy(&s->md_in);
	grpc_metadata_array_destroy(&s->md_end);
	s->rpc->nb_calls--;
	if (s->server != NULL)
		s->server->nb_calls--;
	free(s);
}

static void
start_ops(struct pk_rpc_stream *s, const grpc_op *ops, size_t n, struct op *op,
    void (*done)(struct op *, bool))
{
	grpc_call_error err;

	PK_ASSERT(!op->busy);
	op->done = done;
	op->busy = true;
	s->refs++;
	err = grpc_call_start_batch(s->call, ops, n, op, NULL);
	/* Anything else is a batch that this file should not have put together. */
	PK_ASSERT(err == GRPC_CALL_OK);
}

/* The application hears of the end, and nothing after it. */
static void
detach(struct pk_rpc_stream *s, unsigned int status, const char *text)
{
	if (!s->attached)
		return;
	s->attached = false;
	if (s->ops != NULL)
		s->ops->closed(s, status, text, s->state);
	else if (s->gone != NULL)
		s->gone((struct pk_rpc_call *)s, s->state);
	stream_put(s);
}

static void
on_status_sent(struct op *op, bool ok)
{
	(void)ok;
	stream_put(op->stream);
}

static void
send_status(
    struct pk_rpc_stream *s, unsigned int status, const char *text, struct pk_rpc_buffer *message)
{
	grpc_slice details = grpc_slice_from_copied_string(text);
	grpc_op ops[3];
	size_t n = 0;

	s->ending = true;
	memset(ops, 0, sizeof(ops));
	if (!s->started)
		ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
	if (message != NULL) {
		s->tx = grpc_raw_byte_buffer_create(message->slice, message->nb);
		ops[n].op = GRPC_OP_SEND_MESSAGE;
		ops[n++].data.send_message.send_message = s->tx;
	}
	ops[n].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
	ops[n].data.send_status_from_server.status = (grpc_status_code)status;
	ops[n++].data.send_status_from_server.status_details = &details;
	start_ops(s, ops, n, &s->status, on_status_sent);
	grpc_slice_unref(details);
}

static void on_written(struct op *op, bool ok);

static void
write_next(struct pk_rpc_stream *s)
{
	struct item *item = s->first;
	grpc_op op = { .op = GRPC_OP_SEND_MESSAGE };

	if (item == NULL || s->write.busy || s->ending || !s->started)
		return;
	s->first = item->next;
	if (s->first == NULL)
		s->last = &s->first;
	s->queued -= item->b->len;
	s->tx = grpc_raw_byte_buffer_create(item->b->slice, item->b->nb);
	pk_rpc_buffer_put(item->b);
	free(item);
	op.data.send_message.send_message = s->tx;
	start_ops(s, &op, 1, &s->write, on_written);
}

static void
on_written(struct op *op, bool ok)
{
	struct pk_rpc_stream *s = op->stream;

	grpc_byte_buffer_destroy(s->tx);
	s->tx = NULL;
	/* A failed write is followed by the end of the call, which says why. */
	if (ok) {
		write_next(s);
		if (s->attached && !s->write.busy && s->ops->writable != NULL)
			s->ops->writable(s, s->state);
	}
	stream_put(s);
}

int
pk_rpc_stream_send(struct pk_rpc_stream *s, struct pk_rpc_buffer *b)
{
	size_t len = b->len;
	struct item *item;
	int err = 0;

	if (s->ending)
		err = -EPIPE;
	/* One message is always taken, however large: a bound below it would be a deadlock. */
	else if (s->first != NULL && s->queued + len > s->queue_max)
		err = -ENOBUFS;
	else if ((item = malloc(sizeof(*item))) == NULL)
		err = -ENOMEM;
	if (err != 0) {
		pk_rpc_buffer_put(b);
		return err;
	}
	item->b = b;
	item->next = NULL;
	*s->last = item;
	s->last = &item->next;
	s->queued += len;
	write_next(s);
	return 0;
}

size_t
pk_rpc_stream_queued(const struct pk_rpc_stream *s)
{
	return s->queued;
}

void
pk_rpc_stream_close(struct pk_rpc_stream *s, unsigned int status, const char *text)
{
	PK_ASSERT(s->attached);
	s->attached = false;
	if (s->server == NULL) {
		s->ending = true;
		grpc_call_cancel(s->call, NULL);
	} else if (!s->ending) {
		send_status(s, status, text, NULL);
	}
	stream_put(s);
}

static void on_read(struct op *op, bool ok);

static void
read_next(struct pk_rpc_stream *s)
{
	grpc_op op = { .op = GRPC_OP_RECV_MESSAGE };

	op.data.recv_message.recv_message = &s->rx;
	start_ops(s, &op, 1, &s->read, on_read);
}

static void
on_read(struct op *op, bool ok)
{
	struct pk_rpc_stream *s = op->stream;
	grpc_byte_buffer_reader reader;
	grpc_slice slice;

	if (!ok || s->rx == NULL) {
		/* Nothing more will come.  A client's status follows by itself; a server's client has
		 * said all it wanted, or is gone, and then `over` says so. */
		if (s->server != NULL && s->ops != NULL && !s->ending)
			send_status(s, GRPC_STATUS_OK, "", NULL);
		if (s->server != NULL && s->ops != NULL)
			detach(s, GRPC_STATUS_OK, "the peer ended the stream");
		stream_put(s);
		return;
	}
	if (s->attached && grpc_byte_buffer_reader_init(&reader, s->rx)) {
		slice = grpc_byte_buffer_reader_readall(&reader);
		grpc_byte_buffer_reader_destroy(&reader);
		grpc_byte_buffer_destroy(s->rx);
		s->rx = NULL;
		if (s->ops != NULL)
			s->ops->message(
			    s, GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice), s->state);
		else
			s->method->call((struct pk_rpc_call *)s, s->peer,
			    GRPC_SLICE_START_PTR(slice), GRPC_SLICE_LENGTH(slice), s->server->arg);
		grpc_slice_unref(slice);
	} else {
		grpc_byte_buffer_destroy(s->rx);
		s->rx = NULL;
	}
	/* A unary call has one message; `over` tells if its client goes away. */
	if (s->ops != NULL && s->attached)
		read_next(s);
	stream_put(s);
}

static void
on_started(struct op *op, bool ok)
{
	struct pk_rpc_stream *s = op->stream;

	if (ok && !s->ending) {
		s->started = true;
		write_next(s);
	}
	stream_put(s);
}

/* ---- server ---- */

static void on_accept(struct op *op, bool ok);

static int
accept_next(struct pk_rpc_server *server)
{
	struct pk_rpc *r = server->rpc;
	struct pk_rpc_stream *s = stream_create(r);
	grpc_call_error err;

	if (s == NULL)
		return -ENOMEM;
	s->server = server;
	s->queue_max = server->queue_max;
	server->nb_calls++;
	s->refs = 1; /* the operation's */
	s->accept.done = on_accept;
	s->accept.busy = true;
	err = grpc_server_request_call(
	    server->server, &s->call, &s->details, &s->md_in, r->cq, r->cq, &s->accept);
	PK_ASSERT(err == GRPC_CALL_OK);
	return 0;
}

static void
on_over(struct op *op, bool ok)
{
	struct pk_rpc_stream *s = op->stream;

	(void)ok;
	detach(s, s->cancelled ? GRPC_STATUS_CANCELLED : GRPC_STATUS_OK,
	    s->cancelled ? "the connection is gone" : "");
	s->ending = true;
	stream_put(s);
}

/* The one SPIFFE id of the peer.  Core sets the property only when there is exactly one. */
static void
peer_id(grpc_call *call, char *out, size_t size)
{
	grpc_auth_context *auth = grpc_call_auth_context(call);
	grpc_auth_property_iterator it;
	const grpc_auth_property *p;

	out[0] = '\0';
	if (auth == NULL)
		return;
	it = grpc_auth_context_find_properties_by_name(auth, GRPC_PEER_SPIFFE_ID_PROPERTY_NAME);
	p = grpc_auth_property_iterator_next(&it);
	if (p != NULL && p->value_length < size &&
	    memchr(p->value, '\0', p->value_length) == NULL) {
		memcpy(out, p->value, p->value_length);
		out[p->value_length] = '\0';
	}
	grpc_auth_context_release(auth);
}

static const struct pk_rpc_method *
find_method(const struct pk_rpc_method *m, grpc_slice path)
{
	for (; m->path != NULL; m++)
		if (grpc_slice_str_cmp(path, m->path) == 0)
			return m;
	return NULL;
}

static void
on_accept(struct op *op, bool ok)
{
	struct pk_rpc_stream *s = op->stream;
	struct pk_rpc_server *server = s->server;
	grpc_op ops = { .op = GRPC_OP_RECV_CLOSE_ON_SERVER };
	struct pk_diag diag = { "" };
	unsigned int status;

	if (!ok) { /* the server is stopping; there is no call */
		stream_put(s);
		return;
	}
	if (!server->stopping && accept_next(server) != 0)
		pk_error("no memory to accept another call");
	peer_id(s->call, s->peer, sizeof(s->peer));
	ops.data.recv_close_on_server.cancelled = &s->cancelled;
	start_ops(s, &ops, 1, &s->over, on_over);
	s->method = find_method(server->methods, s->details.method);
	if (s->method == NULL) {
		send_status(s, GRPC_STATUS_UNIMPLEMENTED, "no such method", NULL);
		goto out;
	}
	s->refs++; /* the application's */
	s->attached = true;
	if (s->method->open == NULL) {
		read_next(s);
		goto out;
	}
	s->ops = s->method->stream;
	memset(&ops, 0, sizeof(ops));
	ops.op = GRPC_OP_SEND_INITIAL_METADATA;
	s->started = true; /* in the order of batches: whatever is sent comes behind it */
	start_ops(s, &ops, 1, &s->start, on_started);
	status = s->method->open(s, s->peer, server->arg, &s->state, &diag);
	if (status == PK_RPC_OK) {
		if (s->attached)
			read_next(s);
	} else if (s->attached) {
		pk_rpc_stream_close(s, status, diag.text);
	}
out:
	stream_put(s);
}

/* Credentials that read their files again every CERT_WATCH_S. */
static grpc_tls_credentials_options *
tls_options(const struct pk_rpc_tls *tls)
{
	grpc_tls_credentials_options *o = grpc_tls_credentials_options_create();
	grpc_tls_certificate_provider *p = grpc_tls_certificate_provider_file_watcher_create(
	    tls->key, tls->cert, tls->ca, CERT_WATCH_S);

	grpc_tls_credentials_options_set_certificate_provider(o, p);
	grpc_tls_certificate_provider_release(p);
	grpc_tls_credentials_options_watch_root_certs(o);
	grpc_tls_credentials_options_watch_identity_key_cert_pairs(o);
	return o;
}

static void
on_shutdown(struct op *op, bool ok)
{
	struct pk_rpc_server *server =
	    (struct pk_rpc_server *)((char *)op - offsetof(struct pk_rpc_server, shutdown));

	(void)ok;
	server->nb_calls--; /* counted as one, so that drain() waits for it */
}

int
pk_rpc_server_create(struct pk_rpc_server **out, struct pk_rpc *r, const char *address,
    const struct pk_rpc_tls *tls, const struct pk_rpc_limits *limits,
    const struct pk_rpc_method *methods, void *arg, struct pk_diag *diag)
{
	static const struct pk_rpc_limits defaults;
	const struct pk_rpc_limits *l = limits != NULL ? limits : &defaults;
	int ping_ms = rpc_arg_ms(l->keepalive_ns, 20 * PK_NS_PER_S);
	grpc_arg args[] = {
		rpc_arg_int(GRPC_ARG_KEEPALIVE_TIME_MS, ping_ms),
		rpc_arg_int(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
		    rpc_arg_ms(l->keepalive_timeout_ns, 20 * PK_NS_PER_S)),
		rpc_arg_int(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
		/* Without this a client that pings more often than every five minutes is cut. */
		rpc_arg_int(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 500),
		rpc_arg_int(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
		rpc_arg_int(
		    GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, rpc_or_default(l->message_max, 4 << 20)),
		rpc_arg_int(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, -1),
		rpc_arg_int(GRPC_ARG_MAX_CONCURRENT_STREAMS, rpc_or_default(l->streams_max, 128)),
		rpc_arg_int(GRPC_ARG_MAX_METADATA_SIZE, RPC_METADATA_MAX),
		rpc_arg_int(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, HANDSHAKE_MS),
		/* Two servers on one port would each see half of the DPUs. */
		rpc_arg_int(GRPC_ARG_ALLOW_REUSEPORT, 0),
	};
	grpc_channel_args channel_args = { PK_COUNT(args), args };
	grpc_tls_credentials_options *options;
	grpc_server_credentials *creds;
	struct pk_rpc_server *s;
	int err;

	err = pk_spiffe_check_files(tls->cert, tls->key, tls->ca, NULL, diag);
	if (err != 0)
		return err;
	s = calloc(1, sizeof(*s));
	if (s == NULL) {
		pk_diag_set(diag, "no memory for a server");
		return -ENOMEM;
	}
	s->rpc = r;
	s->methods = methods;
	s->arg = arg;
	s->queue_max = (uint32_t)rpc_or_default(l->queue_max, 8 << 20);
	s->server = grpc_server_create(&channel_args, NULL);
	grpc_server_register_completion_queue(s->server, r->cq, NULL);
	options = tls_options(tls);
	grpc_tls_credentials_options_set_cert_request_type(
	    options, GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
	creds = grpc_tls_server_credentials_create(options);
	s->port = grpc_server_add_http2_port(s->server, address, creds);
	grpc_server_credentials_release(creds);
	/* A server that was never started must all the same be shut down before it is destroyed. */
	grpc_server_start(s->server);
	if (s->port <= 0) {
		pk_diag_set(diag,
		    "\"%s\" cannot be listened on: want ADDRESS:PORT that is ours and free",
		    address);
		pk_rpc_server_destroy(s);
		return -EADDRINUSE;
	}
	for (unsigned int i = 0; i < ACCEPTS; i++) {
		err = accept_next(s);
		if (err != 0) {
			pk_diag_set(diag, "no memory for a server");
			pk_rpc_server_destroy(s);
			return err;
		}
	}
	*out = s;
	return 0;
}

unsigned int
pk_rpc_server_port(const struct pk_rpc_server *s)
{
	return (unsigned int)s->port;
}

void
pk_rpc_server_destroy(struct pk_rpc_server *s)
{
	if (s == NULL)
		return;
	s->stopping = true;
	s->nb_calls++;
	s->shutdown.done = on_shutdown;
	s->shutdown.busy = true;
	grpc_server_shutdown_and_notify(s->server, s->rpc->cq, &s->shutdown);
	grpc_server_cancel_all_calls(s->server);
	drain(s->rpc, &s->nb_calls);
	grpc_server_destroy(s->server);
	free(s);
}

void
pk_rpc_reply(struct pk_rpc_call *c, struct pk_rpc_buffer *b)
{
	struct pk_rpc_buffer *empty = NULL;
	uint8_t *bytes;

	PK_ASSERT(c->s.attached);
	c->s.attached = false;
	if (b == NULL)
		b = empty = pk_rpc_buffer_create(0, &bytes);
	if (!c->s.ending)
		send_status(
		    &c->s, b != NULL ? GRPC_STATUS_OK : GRPC_STATUS_RESOURCE_EXHAUSTED, "", b);
	pk_rpc_buffer_put(b);
	stream_put(&c->s);
}

void
pk_rpc_refuse(struct pk_rpc_call *c, unsigned int status, const char *fmt, ...)
{
	struct pk_diag diag;
	va_list ap;

	PK_ASSERT(c->s.attached);
	va_start(ap, fmt);
	pk_diag_vset(&diag, fmt, ap);
	va_end(ap);
	c->s.attached = false;
	if (!c->s.ending)
		send_status(&c->s, status, diag.text, NULL);
	stream_put(&c->s);
}

void
pk_rpc_call_on_gone(
    struct pk_rpc_call *c, void (*gone)(struct pk_rpc_call *c, void *state), void *state)
{
	c->s.gone = gone;
	c->s.state = state;
}

/* ---- client ---- */

int
pk_rpc_client_create(struct pk_rpc_client **out, struct pk_rpc *r, const char *target,
    const struct pk_rpc_tls *tls, const struct pk_rpc_limits *limits, struct pk_diag *diag)
{
	struct pk_rpc_client *c;
	int err = pk_spiffe_check_files(tls->cert, tls->key, tls->ca, NULL, diag);

	if (err != 0)
		return err;
	c = calloc(1, sizeof(*c));
	if (c == NULL || (c->target = strdup(target)) == NULL) {
		free(c);
		pk_diag_set(diag, "no memory for a client");
		return -ENOMEM;
	}
	c->rpc = r;
	if (limits != NULL)
		c->limits = *limits;
	c->creds = tls->fixed ? rpc_read_credentials(tls, diag)
	                      : grpc_tls_credentials_create(tls_options(tls));
	if (c->creds == NULL) {
		free(c->target);
		free(c);
		return -EINVAL;
	}
	*out = c;
	return 0;
}

void
pk_rpc_client_destroy(struct pk_rpc_client *c)
{
	if (c == NULL)
		return;
	grpc_channel_credentials_release(c->creds);
	free(c->target);
	free(c);
}

static void
on_client_status(struct op *op, bool ok)
{
	struct pk_rpc_stream *s = op->stream;
	struct pk_diag text;

	(void)ok;
	s->ending = true;
	snprintf(text.text, sizeof(text.text), "%.*s", (int)GRPC_SLICE_LENGTH(s->status_text),
	    (const char *)GRPC_SLICE_START_PTR(s->status_text));
	detach(s, s->status_code, text.text);
	stream_put(s);
}

int
pk_rpc_client_stream(struct pk_rpc_stream **out, struct pk_rpc_client *c, const char *path,
    const struct pk_rpc_stream_ops *ops, void *state)
{
	struct pk_rpc_stream *s = stream_create(c->rpc);
	grpc_op start[2], end = { .op = GRPC_OP_RECV_STATUS_ON_CLIENT };
	grpc_slice method;

	if (s == NULL)
		return -ENOMEM;
	s->channel = rpc_channel_create(c->target, c->creds, &c->limits);
	s->queue_max = (size_t)rpc_or_default(c->limits.queue_max, 8 << 20);
	s->ops = ops;
	s->state = state;
	s->attached = true;
	s->refs = 1;
	method = grpc_slice_from_copied_string(path);
	s->call = grpc_channel_create_call(s->channel, NULL, GRPC_PROPAGATE_DEFAULTS, c->rpc->cq,
	    method, NULL, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
	grpc_slice_unref(method); /* the call has its own reference */
	memset(start, 0, sizeof(start));
	start[0].op = GRPC_OP_SEND_INITIAL_METADATA;
	start[1].op = GRPC_OP_RECV_INITIAL_METADATA;
	start[1].data.recv_initial_metadata.recv_initial_metadata = &s->md_in;
	end.data.recv_status_on_client.trailing_metadata = &s->md_end;
	end.data.recv_status_on_client.status = &s->status_code;
	end.data.recv_status_on_client.status_details = &s->status_text;
	s->started = true; /* Core keeps the order; sends may follow at once */
	start_ops(s, start, 2, &s->start, on_started);
	start_ops(s, &end, 1, &s->over, on_client_status);
	read_next(s);
	*out = s;
	return 0;
}
