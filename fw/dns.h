#pragma once

#include <stdbool.h>

#include "lib/addr.h"
#include "lib/name.h"

/*
 * What the answer of a resolver says about the name that was asked for (RFC 1035; RFC 3596 for IPv6).
 *
 * Only records that belong to the question count: addresses of that name, or of one that a chain of CNAMEs in
 * the same message leads to.  Others a resolver may add as it likes, and are not believed.
 * Pure function over the message.  Context: any.
 */
#define FW_DNS_PORT  53
#define FW_DNS_ADDRS 64 /* more in one message are not read */
#define FW_DNS_CHAIN 9  /* names: the question's, and 8 behind it */

struct fw_dns {
	unsigned int nb_names;                 /* the question's first */
	char name[FW_DNS_CHAIN][PK_NAME_TEXT]; /* lower case, without the final dot */
	unsigned int nb_addrs;
	struct {
		struct pk_addr addr;
		uint32_t ttl_s; /* the least on the way to it */
	} at[FW_DNS_ADDRS];
	uint16_t id; /* of the message */
};

/* False: it is no answer with addresses, or a malformed message; *out is not to be read. */
bool fw_dns_read(const uint8_t *message, size_t len, struct fw_dns *out);
