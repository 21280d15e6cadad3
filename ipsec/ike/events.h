/*
 * What happens to peers, for log and status: a listener on libcharon's bus.
 */
#ifndef EVENTS_H_
#define EVENTS_H_

#include "ipsec/ike/swan.h"

/** What is counted: name, sentence for people */
#define EVENTS(X) \
	X(ike_up, "IKE SAs established") \
	X(ike_down, "IKE SAs ended") \
	X(ike_rekeyed, "IKE SAs rekeyed") \
	X(ike_moved, "IKE SAs that went on from another address (MOBIKE, NAT)") \
	X(child_up, "CHILD SAs established") \
	X(child_down, "CHILD SAs ended") \
	X(child_rekeyed, "CHILD SAs rekeyed") \
	X(auth_refused, "peers that could not prove who they are") \
	X(auth_refused_there, "peers that did not take us for who we are") \
	X(proposal_refused_ike, "proposals for IKE without anything allowed in common") \
	X(proposal_refused_child, "proposals for ESP without anything allowed in common") \
	X(selector_refused, "traffic selectors without anything in common") \
	X(certificate_refused, "certificates refused") \
	X(install_failed, "SAs or policies that picketd refused") \
	X(unreachable, "IKE SAs given up because the peer did not answer") \
	X(half_open_timeout, "IKE SAs given up before they were established") \
	X(malformed, "IKE messages that could not be read")

typedef enum {
#define X(name, help) EVENT_##name,
	EVENTS(X)
#undef X
	EVENT_COUNT
} event_t;

/**
 * Register with the bus, for good.
 */
void events_register();

/**
 * Read a counter.  Any thread.
 */
uint64_t events_read(event_t event);

/**
 * "ike_up"; what it means.
 */
const char *events_name(event_t event);
const char *events_help(event_t event);

#endif /* EVENTS_H_ */
