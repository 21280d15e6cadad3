#pragma once

#include "dpi/sig_set.h"

/*
 * What of a set can concern one session.
 *
 * The header of a rule says whose packets it is about: protocol, addresses, ports, direction.  Of the rules that are
 * published most are about the way out of a network or into it, or about a port; a session between two workloads
 * inside is out of reach of nearly all.  So when a session begins its scope is looked up: the databases that are
 * worth asking, the buffers worth keeping, the layers worth parsing, and the rules without a fast pattern.
 *
 * Groups of addresses and of ports that rules name are numbered; all ports that are in the same groups form a class,
 * and so do addresses.  A scope is made for the first session of its classes, and kept for the next.  It may hold
 * more than concerns the session, never less: the headers of rules are still compared when their pattern occurs.
 */
struct dpi_scope {
	struct dpi_bufs wanted; /* that rules look into, and those that were asked for besides */
	uint64_t group[DPI_NB_DIRS][(DPI_NB_GROUPS + 63) / 64];
	uint32_t layers;         /* 1 << enum dpi_layer: whose transactions rules look into */
	uint32_t nb;             /* rules */
	bool raw;                /* rules look at packets, or into streams */
	struct dpi_rules packet; /* those without a fast pattern, as dpi_set_packet_rules() */
	struct dpi_rules tx[DPI_NB_LAYERS];
};

struct dpi_scopes;

#define DPI_SCOPES_MAX 2048 /* later sessions of other classes have all of the set in theirs */

/* The scopes of one lcore, out of `set`, borrowed.  `told`: buffers that are wanted in every scope that parses their
 * layer, NULL for none.  It takes some milliseconds.  Context: control thread.  The caller owns *out.  Returns 0 or
 * -ENOMEM. */
int dpi_scopes_create(
    struct dpi_scopes **out, const struct dpi_set *set, const struct dpi_bufs *told);
void dpi_scopes_destroy(struct dpi_scopes *k);

/* Of a session between addr[0], the client, and addr[1], of IP protocol `proto`, ports in host order.  Never NULL, and
 * valid until dpi_scopes_destroy().  Context: the lcore. */
const struct dpi_scope *dpi_scope_of(
    struct dpi_scopes *k, const struct pk_addr addr[2], const uint16_t port[2], uint8_t proto);
/* All of the set. */
const struct dpi_scope *dpi_scope_all(const struct dpi_scopes *k);

static inline bool
dpi_scope_has(const struct dpi_scope *s, unsigned int group, unsigned int dir)
{
	return s->group[dir][group / 64] >> (group % 64) & 1;
}
