/*
 * Certificates, keys and secrets of the peers, in memory.
 *
 * One object holds those of one set of peers.  A new set is a new object, and the old one goes when the new one is in
 * force.  Secrets are found by the peer's identity in a hash table, since with thousands of peers a list would be what
 * an IKE_AUTH waits for.
 */
#ifndef CREDS_H_
#define CREDS_H_

#include "ipsec/ike/swan.h"

#include <credentials/auth_cfg.h>

#include "lib/diag.h"
#include "policy/ike.h"

typedef struct creds_t creds_t;

struct creds_t {

	/**
	 * Take in what one peer needs, and say in its two auth_cfg_t what belongs to it.
	 *
	 * @param peer		peer
	 * @param local		gets our certificate
	 * @param remote	gets the authorities, one of which has to have issued the peer's certificate
	 * @param diag		sentence on failure
	 * @return		FALSE if something cannot be read or is not what it should be
	 */
	bool (*add)(creds_t *this, const struct policy_ike_peer *peer, auth_cfg_t *local,
				auth_cfg_t *remote, struct pk_diag *diag);

	/**
	 * Put in force, or take out again.
	 */
	void (*enable)(creds_t *this, bool on);

	/**
	 * Destroy, wiping all of it.
	 */
	void (*destroy)(creds_t *this);
};

/**
 * Create a creds_t.
 *
 * @param dir		directory of the files that peers name
 */
creds_t *creds_create(const char *dir);

#endif /* CREDS_H_ */
