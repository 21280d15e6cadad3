/*
 * From documents of peers to libcharon's configurations.
 */
#ifndef PEER_MAKE_H_
#define PEER_MAKE_H_

#include "ipsec/ike/swan.h"

#include <collections/array.h>

#include "ipsec/ike/creds.h"
#include "policy/ike.h"

/**
 * A peer as libcharon has it, and how its children begin
 */
typedef struct {
	peer_cfg_t *cfg;
	array_t *starts;		/* start_t */
} peer_t;

typedef struct {
	child_cfg_t *cfg;
	enum policy_ike_start start;
} start_t;

/**
 * Make a peer.
 *
 * @param creds		gets its certificates, keys and secrets
 * @param doc		document, stays the caller's
 * @param diag		sentence on failure
 * @return			peer, or NULL if it cannot be used
 */
peer_t *peer_make(creds_t *creds, const struct policy_ike_peer *doc, struct pk_diag *diag);

void peer_destroy(peer_t *peer);

#endif /* PEER_MAKE_H_ */
