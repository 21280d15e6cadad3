#pragma once

#include <stdbool.h>

#include "lib/addr.h"

/*
 * Flows that sessions have announced: the data connection of an FTP transfer, the answer of a TFTP server.
 *
 * Ports of such flows are chosen as they go, so no rule can name them.  Policy is asked about each as if it were
 * another flow of the session that has announced it, when it comes and ever after; so it may do what that session
 * may do, and ends when that one would.
 *
 * One table for all lcores, because the announced flow may belong to another than the one that announces it.  An
 * announcement holds for one flow, and for a minute.  Writers and takers hold a lock, and a packet that begins a
 * session looks into the table only while something is announced.
 */
#define FW_RELATED_MAX   4096
#define FW_RELATED_NS    (60 * UINT64_C(1000000000))
#define FW_RELATED_PORTS 1024 /* ports below are services': no announcement names one */

struct fw_related_flow {
	struct pk_addr src, dst; /* src will open it, from any port */
	uint32_t vrf;
	uint16_t wire;
	uint16_t dport; /* host order */
	uint8_t proto;
	/* What policy is asked: */
	uint16_t selector; /* of the session that has announced it */
	uint8_t app;       /* enum fw_app of that */
	bool reversed;     /* as if dst were to open it: in the direction of that session */
};

struct fw_related;

/* `seed`: secret and random.  Context: control thread.  Returns 0 or -ENOMEM. */
int fw_related_create(struct fw_related **out, const uint64_t seed[2]);
void fw_related_destroy(struct fw_related *t);

/* Announce a flow; the same again holds anew.  False: there is no room.  Context: any lcore. */
bool fw_related_announce(struct fw_related *t, const struct fw_related_flow *f, uint64_t now_ns);

/*
 * Whether `f`, of which src to proto are set, has been announced: fills in the rest, and forgets the announcement.
 * Context: any lcore.
 */
bool fw_related_take(struct fw_related *t, struct fw_related_flow *f, uint64_t now_ns);

/* Announcements that wait.  Context: any. */
uint32_t fw_related_nb(const struct fw_related *t);
