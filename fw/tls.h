#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include <rte_mbuf.h>

#include "lib/addr.h"
#include "lib/diag.h"
#include "lib/tls_msg.h"

/*
 * What all lcores and the control thread share of mutual TLS.
 *
 * A wire may have a third port, beside inside and outside, behind which picket-tlsd takes TCP from and to everybody's
 * addresses.  Two kinds of frames pass there:
 *
 *     plain    between a workload inside and picket-tlsd, in the place of the far end
 *     cipher   between picket-tlsd, in the place of that workload, and the far end's DPU: one port is PK_TLS_PORT
 *
 *      inside <== plain ==> path, session, policy <== plain ==> port <== cipher ==> outside
 *
 * To the path a plain frame from this port comes from outside, marked as authenticated; and what a session of such frames
 * sends outwards leaves by this port.  Cipher frames belong to no session: they are the DPU's own, as IKE is.
 *
 * picket-tlsd knows no link addresses.  Each pair of workload and far end has its own, learned from frames that come from
 * inside and from outside, and put into those that come from this port.
 */
#define FW_TLS_BUCKETS 16384 /* of 4 pairs each; the one that has been quiet longest makes room */

/* Of the interface that picket-tlsd listens on, whichever DPU and wire (conf/tls-port.sh): a kernel takes nothing in that
 * is addressed to others. */
#define FW_TLS_MAC                                 \
	{                                          \
		0x02, 0x70, 0x6b, 0x74, 0x6c, 0x73 \
	}

struct fw_tls_links;

struct fw_tls {
	uint64_t wires;     /* bit i: wire i has a port for TLS */
	uint64_t mark_flag; /* of ol_flags: a plain frame from that port */
	_Atomic bool alive; /* picket-tlsd serves; written by the control thread */
	struct fw_tls_links *links;
};

/* Context: control thread, before lcores run.  Returns 0 or -ENOMEM with *diag; the caller owns *out. */
int fw_tls_create(struct fw_tls **out, uint64_t wires, struct pk_diag *diag);
void fw_tls_destroy(struct fw_tls *t); /* NULL is allowed */

struct fw_tls_link {
	uint8_t inside[6], outside[6];
};

/* Addresses are of `len` bytes, 4 or 16.  Context of both: any lcore; `now_s` says what is old. */
void fw_tls_learn(struct fw_tls *t, uint16_t wire, const uint8_t *inside, const uint8_t *outside,
    unsigned int len, const struct fw_tls_link *link, uint32_t now_s);
bool fw_tls_find(struct fw_tls *t, uint16_t wire, const uint8_t *inside, const uint8_t *outside,
    unsigned int len, struct fw_tls_link *link, uint32_t now_s);

static inline bool
fw_tls_has(const struct fw_tls *t, uint16_t wire)
{
	return t != NULL && wire < 64 && (t->wires >> wire & 1) != 0;
}
