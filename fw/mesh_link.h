#pragma once

#include "fw/esp.h"

struct event_base;

/*
 * Keys of mesh mode (lib/mesh.h), as the policy server has given them to the agent and the agent gives them to us: a set
 * of grants of program "mesh" (lib/grant.h).  SAs are made and ended so that they are what the set says; what changes
 * costs no packet:
 *
 *      what others will send by next is received already, one key ahead, so a sender switches when it likes;
 *      a new SA to send by is there before it is switched to, and the one before goes when no lcore uses it;
 *      an inbound SA that is not in the set any more stays for FW_MESH_OVERLAP_NS, for packets under way;
 *      a DPU that is not in the set any more loses all, at once.
 *
 * A set for another run of picketd than this one (`epoch`) is none: its keys have been used, with numbers that are not known
 * any more.
 *
 * Context of all: control thread.
 */
#define FW_MESH_OVERLAP_NS (30 * PK_NS_PER_S)

struct fw_mesh_link;

/* `path` is that of the agent's socket.  All pointers are borrowed.  Returns 0 or negative errno. */
int fw_mesh_link_create(struct fw_mesh_link **out, struct event_base *base, const char *path,
    struct fw_esp *esp, uint64_t epoch, uint64_t (*now_ns)(void));
void fw_mesh_link_destroy(struct fw_mesh_link *l);

struct fw_mesh_status {
	bool connected; /* to the agent */
	unsigned int nb_peers;
	uint64_t sets, installed, ended; /* SAs */
};
void fw_mesh_link_status(const struct fw_mesh_link *l, struct fw_mesh_status *out);

/* The name of the DPU at the other end of the tunnel of this reqid; NULL: it is not of mesh mode. */
const char *fw_mesh_link_peer(const struct fw_mesh_link *l, uint32_t reqid);
