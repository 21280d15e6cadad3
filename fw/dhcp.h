#pragma once

#include <stdbool.h>

#include "lib/addr.h"

/*
 * What the guard has to know of a DHCP message (RFC 2131, RFC 2132; RFC 8415 for IPv6): who speaks to whom, and which
 * addresses are given to whom for how long.  Pure functions over the UDP payload.  Context: any.
 */
#define FW_DHCP_SERVER_PORT  67
#define FW_DHCP_CLIENT_PORT  68
#define FW_DHCP6_CLIENT_PORT 546
#define FW_DHCP6_SERVER_PORT 547
#define FW_DHCP_ADDRS        4 /* more in one message are not kept */

enum fw_dhcp_kind {
	FW_DHCP_ASKS = 0, /* from a client: any other message */
	FW_DHCP_RETURNS,  /* from a client: RELEASE, DECLINE; the addresses are its no more */
	FW_DHCP_ANSWERS,  /* from a server: any other message */
	FW_DHCP_GIVES,    /* from a server: ACK, Reply; the addresses are the client's */
};

struct fw_dhcp {
	enum fw_dhcp_kind kind;
	bool has_mac; /* the message names the client's: IPv4 only */
	uint8_t mac[6];
	struct pk_addr client; /* IPv4: what the client says is its address; family 0: none yet */
	unsigned int nb_addrs;
	struct {
		struct pk_addr addr;
		uint32_t seconds; /* UINT32_MAX: for ever; 0: no more */
	} given[FW_DHCP_ADDRS];
};

/* Read the payload of UDP between the ports above, IPv4 or IPv6.  False: it is no DHCP message, or a malformed one. */
bool fw_dhcp_read(unsigned int family, const uint8_t *bytes, size_t len, struct fw_dhcp *out);
