/*
 * The socket of libcharon's IKE packets: picketd hands over what comes to ports 500 and 4500 of the DPU's addresses,
 * and sends what comes back.  So no port is open in any kernel.
 */
#ifndef SOCKET_PUNT_H_
#define SOCKET_PUNT_H_

#include "ipsec/ike/swan.h"

#include <network/socket.h>

/**
 * A constructor for socket_register(); uses picket_plane.
 */
socket_t *socket_punt_create();

#endif /* SOCKET_PUNT_H_ */
