/*
 * Between libcharon's words and those of lib/sadb.h.
 */
#ifndef CONVERT_H_
#define CONVERT_H_

#include "ipsec/ike/swan.h"

#include <selectors/traffic_selector.h>

#include "lib/sadb.h"

/** Prefixes that one range of addresses may need: 2 * 128 - 2 is the worst, and nobody asks for that */
#define CONVERT_PREFIXES 64

/**
 * Convert an address.
 *
 * @param host		address; NULL or %any gives family 0
 */
struct pk_addr convert_host(host_t *host);

/**
 * Convert an address back.
 *
 * @param addr		address of family 4 or 6
 * @param port		port to attach
 * @return			host, to be destroyed
 */
host_t *convert_addr(const struct pk_addr *addr, uint16_t port);

/**
 * Convert the addresses of a traffic selector, which are a range, into prefixes.
 *
 * @param ts		traffic selector
 * @param out		room for CONVERT_PREFIXES
 * @return			number of prefixes, 0 if they do not fit
 */
int convert_selector(traffic_selector_t *ts, struct pk_prefix out[CONVERT_PREFIXES]);

#endif /* CONVERT_H_ */
