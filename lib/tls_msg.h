#pragma once

#include <stdbool.h>

#include "lib/addr.h"
#include "lib/diag.h"

/*
 * What picketd and picket-tlsd say to each other, on a Unix SOCK_SEQPACKET socket, tls.sock in the run-dir.
 *
 *     tlsd     HELLO       connects; picketd answers with its own
 *     tlsd     ALIVE       as long as it serves, more often than once in PK_TLS_LEASE_NS
 *     tlsd     WHO         whose is this address?
 *     picketd  IS          by the policy in force; said to WHO
 *     picketd  CHANGED     there is a newer policy: ask again about whatever is still in use
 *
 * Flows that want mutual TLS are handed to picket-tlsd from its first ALIVE on, and to nobody any more when the connection
 * ends, or nothing has been said for the time of the lease: then they drop.  Who connects takes the place of the one
 * before; that goes on with what it has and is given nothing new.
 *
 * Messages are PK_TLS_MSG_SIZE bytes in host byte order, addresses in network order; each end checks what arrives as if
 * the other had just been taken over.
 */
#define PK_TLS_MSG_VERSION 1
#define PK_TLS_MSG_SIZE    256
#define PK_TLS_SOCKET      "tls.sock"
#define PK_TLS_LEASE_NS    (3 * PK_NS_PER_S)
#define PK_TLS_NAME_MAX    128   /* "tenant/workload", with the final NUL */
#define PK_TLS_PORT        15008 /* of TCP, where the daemons meet: as in Istio's ambient mesh */

enum pk_tls_msg_type {
	PK_TLS_NONE = 0,
	PK_TLS_HELLO,
	PK_TLS_ALIVE,
	PK_TLS_WHO,
	PK_TLS_IS,
	PK_TLS_CHANGED,
	PK_TLS_MSG_COUNT,
};

struct pk_tls_hello {
	char program[32];
	char instance[64]; /* of the DPU; empty from picket-tlsd */
	uint64_t wires;    /* bit i: wire i has a port for TLS; 0 from picket-tlsd */
	uint32_t pid;
	uint32_t zero;
};

/* WHO has the address alone; IS all of it. */
struct pk_tls_who {
	struct pk_addr addr;
	uint8_t known; /* in the inventory, or what this DPU has of it */
	uint8_t local; /* behind this DPU, on the inside of `wire` */
	uint16_t wire;
	uint64_t generation; /* by which it was answered */
	char name[PK_TLS_NAME_MAX];
};

struct pk_tls_changed {
	uint64_t generation;
};

struct pk_tls_msg {
	uint16_t version, type;
	uint32_t seq; /* IS has that of WHO */
	union {
		struct pk_tls_hello hello;
		struct pk_tls_who who;
		struct pk_tls_changed changed;
		uint8_t raw[PK_TLS_MSG_SIZE - 8];
	};
};
_Static_assert(
    sizeof(struct pk_tls_msg) == PK_TLS_MSG_SIZE, "a message must fill its slot exactly");

/* Zero *m and set version and type.  Context: any. */
void pk_tls_msg_init(struct pk_tls_msg *m, enum pk_tls_msg_type type, uint32_t seq);

/* Check all that can be judged without state; `len` is what recv() returned.  Returns 0 or -EPROTO with *diag. */
int pk_tls_msg_check(const struct pk_tls_msg *m, size_t len, struct pk_diag *diag);
