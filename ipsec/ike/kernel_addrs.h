/*
 * What libcharon takes for the network of the kernel: the addresses picketd has given the DPU (PK_SADB_LOCAL).  There
 * is no netlink, no route and no interface here; a tunnel's packets never see a kernel.
 */
#ifndef KERNEL_ADDRS_H_
#define KERNEL_ADDRS_H_

#include "ipsec/ike/swan.h"

#include <kernel/kernel_net.h>

/**
 * A constructor for kernel_net_register(); uses picket_plane.
 */
kernel_net_t *kernel_addrs_create();

#endif /* KERNEL_ADDRS_H_ */
