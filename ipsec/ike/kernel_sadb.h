/*
 * What libcharon takes for the kernel: SAs and policies go to picketd (lib/sadb.h).
 *
 * SPIs of inbound SAs are picketd's to choose, since they are indexes into its tables.  Rekeying is make before
 * break, and picketd is told explicitly: the outbound policy names the SPI that is used from then on.
 */
#ifndef KERNEL_SADB_H_
#define KERNEL_SADB_H_

#include "ipsec/ike/swan.h"

#include <kernel/kernel_ipsec.h>

/**
 * A constructor for kernel_ipsec_register(); uses picket_plane.
 */
kernel_ipsec_t *kernel_sadb_create();

/**
 * Tell a picketd that knows nothing the policies that are in force: those of outbound SAs, which it does not have any
 * more, as traps, until their CHILD SAs are rekeyed.
 */
void kernel_sadb_resync();

#endif /* KERNEL_SADB_H_ */
