#pragma once

#include "fw/reject.h"
#include "fw/session.h"

/*
 * What each workload holds of what all share; and each tenant, and each outside address (fw/path_limit.c).
 *
 * Tables are of fixed size, and one workload that fills them takes them from its neighbours.  So it is
 * counted by inside address what is held on its behalf, whichever side began it: a workload under attack
 * pays for that alone.
 *
 * An address has an entry as long as one of its counts is not zero.  A table belongs to one lcore.
 */
#define FW_TENANTS_MAX    8192
#define FW_SOURCES_MAX    65536
#define FW_TENANT_UNKNOWN UINT32_MAX /* policy has not said yet */
#define FW_HOSTS_MAX      16384      /* inside addresses that hold something at a time, per lcore */

enum fw_held {
	FW_HELD_SESSIONS = 0,
	FW_HELD_HALF_OPEN,  /* of these: no answer yet, or no handshake */
	FW_HELD_FRAGMENTED, /* packets of which not all fragments have come */
	FW_HELD_COUNT,
};

struct fw_host {
	uint8_t addr[16];
	uint32_t vrf;
	uint16_t wire;
	uint8_t family;
	uint8_t zero;
	uint32_t held[FW_HELD_COUNT];
	uint32_t tenant;      /* of a workload that holds sessions: whose they count for, too */
	struct fw_limit rate; /* of new sessions */
	uint32_t next;        /* in its chain, or in the list of free ones */
};

struct fw_hosts {
	struct fw_host *host; /* [0] stands for none */
	uint32_t *head;       /* chains */
	uint32_t capacity, mask, nb, free, fresh;
	uint64_t key[2];
};

/* Context: control thread.  Returns 0 or -ENOMEM. */
int fw_hosts_init(struct fw_hosts *t, uint32_t capacity, const uint64_t seed[2]);
void fw_hosts_fini(struct fw_hosts *t);

/*
 * The entry of an address, NULL if it holds nothing; fw_hosts_get() makes one then, and returns NULL only
 * when there is no room.  Borrowed until the next fw_hosts_take().  Context of all: the owning lcore.
 */
struct fw_host *fw_hosts_find(
    const struct fw_hosts *t, uint16_t wire, uint32_t vrf, const struct pk_addr *a);
struct fw_host *fw_hosts_get(
    struct fw_hosts *t, uint16_t wire, uint32_t vrf, const struct pk_addr *a);

/* So many less of `what`, of which there are as many.  The entry goes with its last count. */
void fw_hosts_take(struct fw_hosts *t, struct fw_host *h, enum fw_held what, uint32_t n);
