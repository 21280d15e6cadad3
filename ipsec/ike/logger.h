/*
 * What libcharon logs, in Picket's log.  Its levels 0 and 1 are info (-v), level 2 is debug (-vv); beyond, where it
 * shows packets and keys, nothing is ever asked for.  What an operator should see without either comes from events.h.
 */
#ifndef LOGGER_H_PICKET_
#define LOGGER_H_PICKET_

#include "ipsec/ike/swan.h"

#include <bus/listeners/logger.h>

/**
 * Take over what is logged before there is a bus, and after it.
 */
void logger_hook_library();

/**
 * Register with the bus; the logger stays for good.
 */
void logger_register();

#endif /* LOGGER_H_PICKET_ */
