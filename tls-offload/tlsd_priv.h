#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

#include <openssl/ssl.h>

#include "lib/counter.h"
#include "lib/tls_msg.h"
#include "tls-offload/direct.h"
#include "tls-offload/identity.h"
#include "tls-offload/options.h"
#include "tls-offload/trust.h"

/*
 * What the files of picket-tlsd share.
 *
 *      workload ==plain== [worker: flow] ==TLS, port 15008== [worker: flow] ==plain== workload
 *               original addresses     DPU            DPU    original addresses
 *
 *     tlsd.c       control thread: identities, trust, who has which address; tells the others
 *     worker.c     data workers: a thread with a loop each, which owns its sockets and all that hangs on them
 *     flow.c       one TCP connection of a workload, and how it gets to its tunnel
 *     tunnel.c     one TLS connection, and the bytes of a flow through it in direct mode
 *     hbone.c      HTTP/2 on a TLS connection: many flows on one
 *     handshake.c  threads that shake hands, so that a storm of new connections does not hold up those that stand
 *     socket.c     sockets with other people's addresses
 *
 * An object belongs to one thread at a time.  A tunnel goes to a handshake thread and comes back; questions about addresses
 * go to the control thread and come back; both by mail (struct tlso_mail), which is a part of the object, and as long as one
 * is under way (`away`) the object stays, even if it is over.  Everything else is freed at the end of the loop in which it
 * ended, for events of the same loop may still name it.
 */
struct tlso;
struct tlso_worker;
struct tlso_flow;
struct tlso_tunnel;
struct tlso_hbone;
struct event_base;
struct pk_control_request;

#define TLSO_WORKERS_MAX 64
#define TLSO_WIRES_MAX   64
#define TLSO_CHUNK       16384 /* bytes of a record at most (RFC 8446, section 5.1), and of a read */

/* ---- mail ---- */

struct tlso_mail {
	void (*deliver)(struct tlso_mail *m); /* context: the thread whose box it is */
	struct tlso_mail *next;
};

struct tlso_box {
	pthread_mutex_t lock; /* of the list */
	struct tlso_mail *first, **last;
	int fd; /* eventfd, readable when there is mail */
};

int tlso_box_init(struct tlso_box *b);
void tlso_box_fini(struct tlso_box *b);
void tlso_box_put(struct tlso_box *b, struct tlso_mail *m); /* context: any */
unsigned int tlso_box_open(
    struct tlso_box *b); /* deliver what is there; how many.  Context: the owner */

/* ---- events ---- */

/* Edge-triggered: whoever is called goes on until the socket would block, or asks to be called again (tlso_again()). */
struct tlso_event {
	int fd; /* -1: none */
	void (*ready)(struct tlso_event *e, uint32_t events);
};

/* ---- questions ---- */

/* Who has two addresses.  The answer comes to the worker.  Context: the worker that asks. */
struct tlso_ask {
	struct tlso_mail mail;
	struct tlso_worker *worker;
	struct pk_tls_who who[2]; /* .addr is the question */
	bool failed;              /* nobody could be asked */
	void (*answered)(struct tlso_ask *a);
	/* The control thread's: */
	struct tlso_ask *next[2];
	bool done[2];
	unsigned int missing;
};

void tlso_ask(struct tlso *all, struct tlso_ask *a);

/* ---- why something ended ---- */

#define TLSO_ENDS(X)                                                                          \
	X(DONE, "done", "-")                                                                  \
	X(REFUSED, "policy", "DENY")                 /* the inventory or policy says no */    \
	X(NO_IDENTITY, "identity", "IDENTITY_ERROR") /* no SVID for who it is */              \
	X(CONNECT, "connect", "CONNECT")             /* no TCP connection to the other end */ \
	X(TLS, "tls", "TLS_FAILURE")                 /* handshake, or a broken record */      \
	X(H2, "h2", "H2_HANDSHAKE_FAILURE")          /* HTTP/2 or a header says no */         \
	X(REVOKED, "revoked", "CERT_REVOKED")        /* identity, issuer or host fell */      \
	X(RESET, "reset", "CONNECTION_RESET")        /* by a workload, or its peer */         \
	X(LIMIT, "limit", "OVERFLOW")                /* as many as there may be */            \
	X(TIMEOUT, "timeout", "TIMEOUT")                                                      \
	X(STOP, "stop", "DRAIN")

enum tlso_end {
#define TLSO_END_ENUM(name, text, flag) TLSO_END_##name,
	TLSO_ENDS(TLSO_END_ENUM)
#undef TLSO_END_ENUM
	TLSO_END_COUNT,
};
const char *tlso_end_name(enum tlso_end e);
const char *tlso_end_flag(enum tlso_end e); /* in Istio's words */

/* ---- a tunnel ---- */

enum tlso_tunnel_state {
	TLSO_TUNNEL_ASKING = 0, /* for names */
	TLSO_TUNNEL_HANDSHAKE,  /* with a handshake thread */
	TLSO_TUNNEL_OPEN,
	TLSO_TUNNEL_OVER,
};

/* A TLS connection between two DPUs, between the addresses of two workloads. */
struct tlso_tunnel {
	struct tlso_event ev;
	struct tlso_worker *worker;
	struct tlso_tunnel *next, *prev; /* of the worker */
	enum tlso_tunnel_state state;
	enum tlso_end end;
	unsigned int away; /* mail that has not come back */
	bool server, direct;
	uint16_t wire;
	struct pk_addr local, remote; /* workloads' addresses; `local` is behind this DPU */
	uint16_t remote_port;         /* of its TCP connection */
	struct tlso_identity *identity;
	struct tlso_trust *trust; /* by which it was judged */
	struct tlso_check check;
	SSL *ssl;
	uint64_t born_ns;
	uint64_t records_tx; /* since the last key */
	uint64_t key_updates;
	bool write_waits;    /* a record could not be sent, and has to be offered again as it was */
	struct tlso_ask ask; /* whose the addresses are; asked again when policy changes */
	bool asking, ask_again;
	struct tlso_mail handshake;
	void (*hs_done)(struct tlso_mail *m); /* what the worker does with it when it comes back */
	struct tlso_handshaker *hs_handshaker;
	int hs_error; /* of the handshake thread: 0 or negative errno */
	uint64_t hs_deadline_ns;
	struct tlso_tunnel *hs_next, *hs_prev;
	/* what uses it: one of the two */
	struct tlso_flow *flow;
	struct tlso_hbone *hbone;
};

/* For `flow`, from its addresses.  Returns 0 or negative errno, and then nothing has happened. */
int tlso_tunnel_connect(struct tlso_flow *flow, struct tlso_identity *identity);
void tlso_tunnel_accept(struct tlso_worker *w, uint16_t wire, int fd);
/* Over, and all that it carries; `end` for those.  Context of all: the owning worker. */
void tlso_tunnel_end(struct tlso_tunnel *t, enum tlso_end end);
void tlso_tunnel_free(struct tlso_tunnel *t);
/* Trust, identities or policy have changed: end it, or leave it. */
void tlso_tunnel_recheck(struct tlso_tunnel *t);
void tlso_tunnel_reask(struct tlso_tunnel *t);
/* Write; returns bytes taken, 0: would block, or -1: it has ended.  Rekeys in time. */
int tlso_tunnel_write(struct tlso_tunnel *t, const void *bytes, size_t len);
/* Read; bytes, 0: would block, -1: it has ended, -2: the peer has ended its direction. */
int tlso_tunnel_read(struct tlso_tunnel *t, void *bytes, size_t len);

/* ---- a flow ---- */

enum tlso_flow_state {
	TLSO_FLOW_ASKING = 0, /* egress: for names */
	TLSO_FLOW_TUNNEL,     /* egress: waits for its tunnel */
	TLSO_FLOW_HEADER,     /* ingress: waits for what it is */
	TLSO_FLOW_CONNECT,    /* ingress: waits for the workload */
	TLSO_FLOW_OPEN,
	TLSO_FLOW_OVER,
};

struct tlso_pending {
	uint8_t *bytes;
	size_t off, len, room;
};

struct tlso_flow {
	struct tlso_event ev; /* the plain side */
	struct tlso_worker *worker;
	struct tlso_flow *next, *prev;           /* of the worker */
	struct tlso_flow *peer_next, *peer_prev; /* of the HTTP/2 connection */
	struct tlso_flow *again; /* of the worker's list of those to be called again */
	bool queued;
	enum tlso_flow_state state;
	enum tlso_end end;
	unsigned int away;
	bool ingress;
	uint16_t wire;
	struct pk_addr src, dst; /* src opened it */
	uint16_t sport, dport;
	struct tlso_ask ask;
	struct tlso_tunnel *tunnel; /* direct mode */
	struct tlso_hbone *hbone;   /* else */
	int32_t stream;
	char local[PK_SVID_WORKLOAD_MAX], remote[PK_SVID_WORKLOAD_MAX];
	uint64_t born_ns, deadline_ns;
	uint64_t tx, rx; /* bytes of the workload's that went into the tunnel, and out of it */
	struct tlso_pending to_plain, to_tunnel;
	bool plain_eof, plain_shut;   /* its FIN was read; ours was sent */
	bool tunnel_eof, tunnel_shut; /* the same of the tunnel */
	bool deferred;                /* hbone: waits for bytes of the plain side */
	bool is_connect, goes_here;   /* hbone, ingress: of its request */
	bool answered;                /* its response has been sent, or has come */
	int status;                   /* hbone, egress: of the response */
};

void tlso_flow_accept(struct tlso_worker *w, uint16_t wire, int fd);
/* One that has come by a tunnel; in state HEADER.  NULL: no memory, or too many. */
struct tlso_flow *tlso_flow_arrived(struct tlso_tunnel *t);
/* The tunnel it waits for is there; or, in direct mode, its header has to be read first. */
void tlso_flow_tunnel_open(struct tlso_flow *f);
/* ingress: where it goes is known; connect to the workload. */
int tlso_flow_connect(struct tlso_flow *f);
void tlso_flow_end(struct tlso_flow *f, enum tlso_end end);
void tlso_flow_free(struct tlso_flow *f);
/* Move bytes in both directions, some. */
void tlso_flow_pump(struct tlso_flow *f);
void tlso_flow_again(struct tlso_flow *f); /* pump it once more in the next loop */
/* To the workload.  0, or -1: the flow has ended.  What does not fit waits in f->to_plain. */
int tlso_flow_to_plain(struct tlso_flow *f, const uint8_t *bytes, size_t len);
int tlso_flow_flush_plain(struct tlso_flow *f); /* 1: all out, 0: some is left, -1: ended */

/* ---- HTTP/2 ---- */

#define TLSO_STREAMS_OUT 100 /* flows that share a connection we have opened */
#define TLSO_STREAMS_IN  200 /* and one that a peer has */

int tlso_hbone_create(struct tlso_tunnel *t); /* takes the tunnel, which is open; 0 or -ENOMEM */
void tlso_hbone_ready(struct tlso_hbone *h);  /* its socket has something, or room */
void tlso_hbone_end(struct tlso_hbone *h, enum tlso_end end); /* called by the tunnel's end */
void tlso_hbone_free(struct tlso_hbone *h);
/* One that goes from and to these addresses and has room; NULL: none. */
struct tlso_hbone *tlso_hbone_find(struct tlso_worker *w, const struct tlso_flow *f);
int tlso_hbone_open(struct tlso_hbone *h, struct tlso_flow *f); /* egress: CONNECT; 0 or -errno */
void tlso_hbone_resume(struct tlso_flow *f);                    /* its plain side has bytes again */
void tlso_hbone_written(
    struct tlso_flow *f, size_t n); /* so many bytes have gone to the workload */
/* ingress: the workload has answered, or not (0 or negative errno). */
void tlso_hbone_answer(struct tlso_flow *f, int error);
void tlso_hbone_forget(struct tlso_flow *f, enum tlso_end end); /* the flow is over */
void tlso_hbone_tick(struct tlso_worker *w, uint64_t now_ns);
void tlso_hbone_drain(struct tlso_worker *w);
unsigned int tlso_hbone_streams(const struct tlso_hbone *h);
const struct tlso_tunnel *tlso_hbone_tunnel(const struct tlso_hbone *h);

/* "ip:port" or "[ip]:port" of an :authority.  Returns 0 or -EINVAL.  Context: any. */
int tlso_authority_parse(const uint8_t *s, size_t len, struct pk_addr *addr, uint16_t *port);

/* ---- sockets ---- */

struct tlso_wire {
	uint16_t wire;
	char iface[16];
};

void tlso_sockaddr(
    struct sockaddr_storage *out, socklen_t *len, const struct pk_addr *a, uint16_t port);
int tlso_sockaddr_read(const struct sockaddr_storage *s, struct pk_addr *a, uint16_t *port);
/* A listener on all addresses of `family`, bound to the interface.  Returns a descriptor or negative errno. */
int tlso_listen(const struct tlso_wire *w, int family, uint16_t port);
/* Connect from an address that is not ours; a source port of 0 is any.  Returns a descriptor, connecting, or negative errno. */
int tlso_connect(const struct tlso_wire *w, const struct pk_addr *src, uint16_t sport,
    const struct pk_addr *dst, uint16_t dport);
void tlso_reset_close(int fd); /* with a RST */

/* ---- threads ---- */

struct tlso_listener {
	struct tlso_event ev;
	struct tlso_worker *worker;
	uint16_t wire;
	bool tunnel;
};

struct tlso_worker_stats {
	pk_counter flows[2], ends[TLSO_END_COUNT]; /* flows: egress, ingress */
	pk_counter tx, rx;
	pk_counter tunnels, handshakes, handshake_failed, key_updates;
	pk_counter direct, streams;
};

struct tlso_worker {
	struct tlso *all;
	unsigned int index;
	pthread_t thread;
	bool running;
	int epoll;
	struct tlso_box box;
	struct tlso_event box_event;
	pthread_mutex_t lock; /* held while it works, and by whoever reads the lists */
	struct tlso_listener listener[TLSO_WIRES_MAX * 4];
	unsigned int nb_listeners;
	struct tlso_tunnel *tunnels, *dead_tunnels;
	struct tlso_flow *flows, *dead_flows, *again;
	unsigned int nb_flows, nb_tunnels;
	struct tlso_hbone *hbones;
	uint64_t now_ns, ticked_ns;
	bool draining, stop;
	_Atomic unsigned int recheck; /* bits of enum tlso_recheck */
	uint8_t scratch[TLSO_CHUNK];
	struct tlso_worker_stats stats;
};

enum tlso_recheck {
	TLSO_RECHECK_TRUST = 1 << 0,
	TLSO_RECHECK_POLICY = 1 << 1,
	TLSO_RECHECK_DRAIN = 1 << 2,
	TLSO_RECHECK_STOP = 1 << 3,
};

int tlso_worker_start(
    struct tlso_worker *w, struct tlso *all, unsigned int index, struct pk_diag *diag);
void tlso_worker_join(struct tlso_worker *w);    /* it stops; what it has stays as it is */
void tlso_worker_destroy(struct tlso_worker *w); /* joined, and nobody writes to its box any more */
void tlso_worker_tell(struct tlso_worker *w, unsigned int recheck); /* context: control thread */
/* Context of these: the worker. */
int tlso_worker_watch(struct tlso_worker *w, struct tlso_event *e);
void tlso_worker_unwatch(struct tlso_worker *w, struct tlso_event *e); /* and closes nothing */

struct tlso_handshaker {
	struct tlso *all;
	pthread_t thread;
	bool running, stop;
	int epoll;
	struct tlso_box box;
	struct tlso_tunnel *first; /* under way */
	struct tlso_mail stop_mail;
};

int tlso_handshaker_start(struct tlso_handshaker *h, struct tlso *all, struct pk_diag *diag);
void tlso_handshaker_stop(struct tlso_handshaker *h);
/* Shake hands on t; comes back by t->handshake with t->hs_error.  Context: the worker that has it. */
void tlso_handshake(struct tlso *all, struct tlso_tunnel *t);

/* ---- the whole ---- */

struct tlso {
	const struct tlso_conf *conf;
	struct event_base *base;
	struct tlso_wire wire[TLSO_WIRES_MAX];
	unsigned int nb_wires;
	struct tlso_identities *identities;
	pthread_mutex_t trust_lock; /* of the pointer */
	struct tlso_trust *trust;
	struct tlso_worker *worker[TLSO_WORKERS_MAX];
	unsigned int nb_workers;
	struct tlso_handshaker handshaker[TLSO_WORKERS_MAX];
	unsigned int nb_handshakers;
	_Atomic unsigned int next_handshaker;
	struct tlso_box box; /* of the control thread */
	struct tlso_plane *plane;
	struct pk_svid_source *source;
};

struct tlso_trust *tlso_trust_now(
    struct tlso *all); /* with a reference; NULL: nobody is believed yet */
const struct tlso_wire *tlso_wire(const struct tlso *all, uint16_t wire);
