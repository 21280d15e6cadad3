/*
 * The peers in force: libcharon's configuration backend, in memory.
 *
 * A set of peers replaces the one before as a whole, or not at all.  What has not changed keeps its SAs; peers that are
 * gone, or other than before, lose theirs.  Children that are to start do so when picketd is there.
 */
#ifndef PEERS_H_
#define PEERS_H_

#include "ipsec/ike/swan.h"

#include "lib/diag.h"
#include "policy/ike.h"

typedef struct peers_t peers_t;
typedef struct peers_change_t peers_change_t;

/**
 * What a replacement came to
 */
struct peers_change_t {
	size_t added, changed, removed, kept;
};

struct peers_t {

	/**
	 * Put another set of peers in force.
	 *
	 * @param ike		peers, stay the caller's
	 * @param change	what that came to
	 * @param diag		sentence on failure
	 * @return		FALSE if one of them is not usable; then nothing has changed
	 */
	bool (*replace)(peers_t *this, const struct policy_ike *ike, peers_change_t *change,
					struct pk_diag *diag);

	/**
	 * Begin what has `start` in its configuration, but for peers that have an SA; and install traps.
	 */
	void (*start)(peers_t *this);

	/**
	 * Bring up one child.
	 *
	 * @param peer		name of the peer
	 * @param child		name of the child, or NULL for all of the peer's
	 * @return		how many were begun
	 */
	int (*initiate)(peers_t *this, const char *peer, const char *child);

	/**
	 * Number of peers.
	 */
	size_t (*get_count)(peers_t *this);

	/**
	 * Destroy; SAs are another's to end.
	 */
	void (*destroy)(peers_t *this);
};

/**
 * Create a peers_t, registered with libcharon.
 *
 * @param dir		directory of the files that peers name
 */
peers_t *peers_create(const char *dir);

#endif /* PEERS_H_ */
