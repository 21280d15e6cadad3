#pragma once

#include <stdbool.h>

#include "lib/base.h"
#include "lib/diag.h"

struct event_base;

/*
 * gRPC over HTTP/2 with mutual TLS, on gRPC Core.  This module is the only one that knows gRPC Core;
 * above it there are messages of bytes, streams and calls.
 *
 * Threads.  gRPC completes operations on threads of its own.  One poller thread takes the
 * completions and chains them to a queue; an eventfd wakes the event loop, which runs them.  So every
 * callback below comes on the loop's thread, and every function is called there: a program's control
 * code stays single-threaded, and no lock is held when it is called back.
 *
 * Life of a stream.  A server's stream begins with `open`, a client's with pk_rpc_client_stream().
 * It ends once: by pk_rpc_stream_close(), after which no callback comes, or by `closed`, which is the
 * last one.  After either the pointer is dead.  In between, messages sent are queued (their bytes
 * are shared between queues, never copied) up to a bound, and `writable` says that the queue has
 * run empty.  Who has more to say than the bound waits for it, and by then perhaps has something
 * newer to say: that is how a slow peer is given the latest state instead of all states.
 */
struct pk_rpc;
struct pk_rpc_server;
struct pk_rpc_client;
struct pk_rpc_stream;
struct pk_rpc_call;
struct pk_rpc_buffer;

#define PK_RPC_PEER_MAX 256 /* bytes of a SPIFFE id with the final NUL; longer ones are refused */

/* The numbers of gRPC (grpc/status.h), which go over the wire. */
enum pk_rpc_status {
	PK_RPC_OK = 0,
	PK_RPC_CANCELLED = 1,
	PK_RPC_UNKNOWN = 2,
	PK_RPC_INVALID_ARGUMENT = 3,
	PK_RPC_DEADLINE_EXCEEDED = 4,
	PK_RPC_NOT_FOUND = 5,
	PK_RPC_ALREADY_EXISTS = 6,
	PK_RPC_PERMISSION_DENIED = 7,
	PK_RPC_RESOURCE_EXHAUSTED = 8,
	PK_RPC_FAILED_PRECONDITION = 9,
	PK_RPC_ABORTED = 10,
	PK_RPC_UNIMPLEMENTED = 12,
	PK_RPC_INTERNAL = 13,
	PK_RPC_UNAVAILABLE = 14,
	PK_RPC_UNAUTHENTICATED = 16,
};

/* "PERMISSION_DENIED" and so on; never NULL. */
const char *pk_rpc_status_name(unsigned int status);

/*
 * PEM files: our certificate (with its chain), its key, and the authority both ends trust.  They are
 * watched, and a renewed pair is used for the next connection without a restart.
 */
struct pk_rpc_tls {
	const char *cert;
	const char *key;
	const char *ca;
	bool fixed; /* of a client: read once and not watched, which costs a thread each */
};

/* Zero in any member: the default in brackets. */
struct pk_rpc_limits {
	uint64_t keepalive_ns;         /* ping a silent connection after this long [20 s] */
	uint64_t keepalive_timeout_ns; /* and give it up after this much more [20 s] */
	uint32_t message_max;          /* bytes of one message received [4 MiB] */
	uint32_t streams_max;          /* per connection [128] */
	uint32_t queue_max;            /* bytes a stream's send queue may hold [8 MiB] */
};

/* Start the poller.  One per process.  Returns 0 or negative errno with *diag. */
int pk_rpc_create(struct pk_rpc **out, struct event_base *base, struct pk_diag *diag);

/*
 * Stop.  Servers and clients must have been destroyed.  Waits for gRPC's threads to let go, which
 * takes as long as the slowest operation under way: milliseconds.
 */
void pk_rpc_destroy(struct pk_rpc *r);

/* ---- bytes to send ---- */

/* Room for `len` bytes at *bytes, to be filled before the first send.  Starts with one reference.
 * NULL when there is no memory. */
struct pk_rpc_buffer *pk_rpc_buffer_create(size_t len, uint8_t **bytes);
struct pk_rpc_buffer *pk_rpc_buffer_get(struct pk_rpc_buffer *b);
/* One message of three pieces, each made by pk_rpc_buffer_create(): bytes that many share stand between
 * some of one's own.  Takes the references, also on failure and of NULL, which is one. */
struct pk_rpc_buffer *pk_rpc_buffer_chain(
    struct pk_rpc_buffer *head, struct pk_rpc_buffer *middle, struct pk_rpc_buffer *tail);
size_t pk_rpc_buffer_len(const struct pk_rpc_buffer *b);
void pk_rpc_buffer_put(struct pk_rpc_buffer *b); /* NULL is allowed */

/* ---- streams ---- */

struct pk_rpc_stream_ops {
	/* bytes[0 .. len - 1] are borrowed for the call. */
	void (*message)(struct pk_rpc_stream *s, const uint8_t *bytes, size_t len, void *state);
	void (*writable)(struct pk_rpc_stream *s, void *state); /* may be NULL */
	void (*closed)(struct pk_rpc_stream *s, unsigned int status, const char *text, void *state);
};

/* Takes the caller's reference to `b`, also on failure.  Returns 0, -ENOBUFS when the queue is full
 * or -EPIPE when the stream is ending. */
int pk_rpc_stream_send(struct pk_rpc_stream *s, struct pk_rpc_buffer *b);
size_t pk_rpc_stream_queued(const struct pk_rpc_stream *s); /* bytes */
/* End it: a server tells the client `status` and `text`, a client cancels. */
void pk_rpc_stream_close(struct pk_rpc_stream *s, unsigned int status, const char *text);

/* ---- server ---- */

/*
 * One method.  Either `call`, for a unary one, which answers now or later with pk_rpc_reply(); or
 * `open` and `stream`.  `peer` is the SPIFFE id in the client's certificate, "" if it has none or
 * several; whoever it is has shown a certificate of our authority.
 */
struct pk_rpc_method {
	const char *path; /* "/picket.v1.PolicyAdmin/Apply" */
	void (*call)(
	    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg);
	/* Returns 0 with the stream's state in *state, or a status that refuses it, with *diag. */
	unsigned int (*open)(struct pk_rpc_stream *s, const char *peer, void *arg, void **state,
	    struct pk_diag *diag);
	const struct pk_rpc_stream_ops *stream;
};

/*
 * Serve methods[], which end with .path == NULL and are borrowed, on `address` ("192.0.2.1:7443",
 * "[::]:7443"; port 0 takes a free one).  Returns 0 or negative errno with *diag.
 */
int pk_rpc_server_create(struct pk_rpc_server **out, struct pk_rpc *r, const char *address,
    const struct pk_rpc_tls *tls, const struct pk_rpc_limits *limits,
    const struct pk_rpc_method *methods, void *arg, struct pk_diag *diag);
unsigned int pk_rpc_server_port(const struct pk_rpc_server *s);
/* Refuses newcomers, ends every call (callbacks `closed` and `gone` come from inside) and frees. */
void pk_rpc_server_destroy(struct pk_rpc_server *s);

/* Answer a unary call; `c` is dead afterwards.  Takes the reference to `b` (NULL: no message). */
void pk_rpc_reply(struct pk_rpc_call *c, struct pk_rpc_buffer *b);
void pk_rpc_refuse(struct pk_rpc_call *c, unsigned int status, const char *fmt, ...)
    PK_PRINTF(3, 4);
/* Tell me, once, if the client goes away before I answer; `c` is dead afterwards. */
void pk_rpc_call_on_gone(
    struct pk_rpc_call *c, void (*gone)(struct pk_rpc_call *c, void *state), void *state);

/* ---- client ---- */

/* Nothing is connected before the first stream.  Returns 0 or negative errno with *diag. */
int pk_rpc_client_create(struct pk_rpc_client **out, struct pk_rpc *r, const char *target,
    const struct pk_rpc_tls *tls, const struct pk_rpc_limits *limits, struct pk_diag *diag);
void pk_rpc_client_destroy(struct pk_rpc_client *c); /* its streams must be over */

/*
 * Connect anew and open a stream.  One attempt: when it fails, `closed` says why, and the caller
 * decides when to try again.  Returns 0 or -ENOMEM.
 */
int pk_rpc_client_stream(struct pk_rpc_stream **out, struct pk_rpc_client *c, const char *path,
    const struct pk_rpc_stream_ops *ops, void *state);

/*
 * One unary call, for programs without a loop: connects, asks, waits at most `timeout_ns`.
 * *answer is malloc()ed and the caller's.  Returns 0; -EREMOTEIO when the server answered with a
 * status, which is in *status and its sentence in *diag; other negative errno with *diag.
 * Context: one that may wait.
 */
int pk_rpc_ask(const char *target, const struct pk_rpc_tls *tls, const char *path,
    const void *bytes, size_t len, uint64_t timeout_ns, uint8_t **answer, size_t *answer_len,
    unsigned int *status, struct pk_diag *diag);

/*
 * The same several times over one connection, which is made with the first call and again after it was lost.
 * The files are read once.  Context: one thread at a time, which may wait; a program may have a pk_rpc beside it.
 */
struct pk_rpc_link;

int pk_rpc_link_create(struct pk_rpc_link **out, const char *target, const struct pk_rpc_tls *tls,
    struct pk_diag *diag);
void pk_rpc_link_destroy(struct pk_rpc_link *l);
/* As pk_rpc_ask().  -ECONNREFUSED and -ETIMEDOUT leave open whether the other end has done it. */
int pk_rpc_link_ask(struct pk_rpc_link *l, const char *path, const void *bytes, size_t len,
    uint64_t timeout_ns, uint8_t **answer, size_t *answer_len, unsigned int *status,
    struct pk_diag *diag);
