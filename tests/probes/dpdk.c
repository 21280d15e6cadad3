/*
 * probe: dpdk
 * for: ports, memory and lcores of the packet path
 * pkg: libdpdk
 * libs: 
 * debian: libdpdk-dev
 * required: yes
 */
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_rcu_qsbr.h>

int
main(void)
{
	return rte_eth_dev_count_avail() != 0 && sizeof(struct rte_rcu_qsbr) == 0;
}
