/*
 * The way to picketd: requests about SAs and policies, IKE packets, and what picketd has to tell (lib/sadb.h).
 *
 * One thread reads the socket and does nothing that waits: answers wake whoever asked, IKE packets go to a queue,
 * events become jobs of libcharon's.  It connects again for as long as there is a plane_t.  What was asked when the
 * connection ended fails.
 *
 * Any thread may call any method.
 */
#ifndef PLANE_H_
#define PLANE_H_

#include "ipsec/ike/swan.h"

#include <networking/packet.h>

#include "lib/sadb.h"

typedef struct plane_t plane_t;
typedef struct plane_listener_t plane_listener_t;
typedef struct plane_stats_t plane_stats_t;

/**
 * What picketd has to tell.  Context: the reading thread, so nothing here may ask picketd.
 */
struct plane_listener_t {

	/**
	 * picketd is there.
	 *
	 * @param fresh		TRUE if it holds no SA of ours: it is another process than before, or we are
	 */
	void (*up)(plane_listener_t *this, bool fresh);
};

/**
 * Figures for `show`
 */
struct plane_stats_t {
	bool connected;
	char instance[64];
	uint64_t epoch;
	uint32_t nb_sas_max;
	uint64_t connections;		/* ever made */
	uint64_t requests, refused;	/* of SAs and policies */
	uint64_t ike_in, ike_out;	/* packets */
	uint64_t ike_dropped;		/* no room, or no picketd */
	uint64_t malformed;		/* messages that are no messages */
};

struct plane_t {

	/**
	 * Ask picketd and wait for its answer.
	 *
	 * @param request	request; gets its number, and is wiped
	 * @param answer	answer, or NULL
	 * @return		0, what picketd refused it with, -ENOTCONN or -ETIMEDOUT
	 */
	int (*ask)(plane_t *this, struct pk_sadb *request, struct pk_sadb_answer *answer);

	/**
	 * Send an IKE packet; like any packet it may be lost.
	 *
	 * @param packet	packet, stays the caller's
	 * @return		FALSE if it could not be handed over
	 */
	bool (*send_packet)(plane_t *this, packet_t *packet);

	/**
	 * Wait for an IKE packet.  A cancellation point.
	 *
	 * @return		packet, or NULL when the plane_t comes to its end
	 */
	packet_t *(*receive_packet)(plane_t *this);

	/**
	 * Find an address of the DPU.
	 *
	 * @param addr		address, or one of family 4 or 6 without bytes for the first of that family
	 * @param out		all about it
	 * @return		FALSE if it is none
	 */
	bool (*get_local)(plane_t *this, const struct pk_addr *addr, struct pk_sadb_local *out);

	/**
	 * Enumerate the addresses of the DPU, over struct pk_sadb_local*, in a copy.
	 */
	enumerator_t *(*create_local_enumerator)(plane_t *this);

	/**
	 * Set the one listener, before the first `up` or after destroying it with NULL.
	 */
	void (*set_listener)(plane_t *this, plane_listener_t *listener);

	/**
	 * Start the reading thread.
	 */
	void (*start)(plane_t *this);

	/**
	 * Get figures.
	 */
	void (*get_stats)(plane_t *this, plane_stats_t *stats);

	/**
	 * Hang up, wake all who wait, end the thread.
	 */
	void (*destroy)(plane_t *this);
};

/**
 * Create a plane_t.
 *
 * @param path		picketd's socket
 * @param program	who we say we are
 */
plane_t *plane_create(const char *path, const char *program);

/**
 * The one of this process, which its owner sets: constructors of libcharon's backends take no argument.
 */
extern plane_t *picket_plane;

#endif /* PLANE_H_ */
