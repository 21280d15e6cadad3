#pragma once

#include "dpi/app.h"
#include "lib/counter.h"

/*
 * Sessions whose application is being looked for.
 *
 * A rule that names applications allows a session for as long as nobody knows what it speaks; until then every
 * packet of it comes here, and not through the fast lane (FW_SESSION_EXTRA).  Its first bytes are put in order and
 * before the parsers of dpi/app.h.  Once they have an answer the session carries it as one byte (enum fw_app), policy
 * is asked again with it, and nothing is left here.
 *
 *      first packet:  rule names applications -> app SOUGHT, allowed for now
 *      payload:       a place here; what is inspected is what is forwarded
 *      answer:        app = ..., place given back -> allowed: fast lane.  Not allowed: FW_DROP_APP_DENIED, the end
 *      spent budget:  app UNKNOWN, which no rule can name -> the same question
 *
 * A place is taken with the first payload and not with the handshake, so a flood of SYNs takes none.  When there is
 * none left, the session that has been looked at longest has to be content with what it has shown, if it had
 * FW_INSPECT_PATIENCE_NS; else the newcomer's packet is dropped (or with inspect-fail = open the session passes).
 *
 * One per lcore, of fixed size, on huge pages where there are any.  All of it in the context of the owner.
 */
#define FW_INSPECT_PATIENCE_NS (2 * PK_NS_PER_S)
#define FW_INSPECT_BLOCKS      2 /* of DPI_BLOCK bytes for each place: most need none, some need many */
#define FW_INSPECT_NONE        UINT32_MAX

struct fw_inspected {
	uint32_t session;      /* index */
	uint32_t next;         /* in its chain, or in the list of free ones */
	uint32_t older, newer; /* in the order in which they began */
	uint64_t since_ns;
	struct dpi_flow flow;
};
_Static_assert(sizeof(struct fw_inspected) + FW_INSPECT_BLOCKS * DPI_BLOCK + 8 <= 1088,
    "1 KB for a session, and its links");

struct fw_inspect_conf {
	uint32_t nb_sessions;    /* places; 0: none is ever looked at */
	uint16_t bytes, packets; /* as struct dpi_limits */
	uint64_t seed;
};

struct fw_inspect {
	struct dpi *dpi;
	struct fw_inspected *at;
	uint32_t *head; /* of chains, mask + 1 of them */
	uint32_t capacity, mask, nb, fresh, free, oldest, newest;
	uint64_t seed;
	void *memory;
	size_t bytes;
	pk_counter found[256], denied[256]; /* by enum fw_app */
	uint8_t scratch[UINT16_MAX + 1];    /* payload that lies in several segments */
};

/* Context: control thread.  The caller owns *out.  Returns 0, -EINVAL or -ENOMEM. */
int fw_inspect_create(struct fw_inspect **out, const struct fw_inspect_conf *conf);
void fw_inspect_destroy(struct fw_inspect *t);

/* The place of a session, NULL for none; fw_inspect_get() takes one, and returns NULL when all are taken.  Its flow
 * is the caller's to begin.  Borrowed until it is dropped. */
struct fw_inspected *fw_inspect_find(const struct fw_inspect *t, uint32_t session);
struct fw_inspected *fw_inspect_get(struct fw_inspect *t, uint32_t session, uint64_t now_ns);
void fw_inspect_drop(struct fw_inspect *t, struct fw_inspected *e);

/* Who began first; NULL: nobody has. */
struct fw_inspected *fw_inspect_oldest(const struct fw_inspect *t);

static inline const pk_counter *
fw_inspect_found(const struct fw_inspect *t)
{
	return t->found;
}

static inline const pk_counter *
fw_inspect_denied(const struct fw_inspect *t)
{
	return t->denied;
}
