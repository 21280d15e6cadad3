#include "ipsec/ike/convert.h"

struct pk_addr convert_host(host_t *host)
{
	struct pk_addr addr = {};
	chunk_t bytes;

	if (!host || host->is_anyaddr(host))
	{
		return addr;
	}
	bytes = host->get_address(host);
	addr.family = host->get_family(host) == AF_INET ? 4 : 6;
	memcpy(addr.bytes, bytes.ptr, min(bytes.len, sizeof(addr.bytes)));
	return addr;
}

host_t *convert_addr(const struct pk_addr *addr, uint16_t port)
{
	return host_create_from_chunk(addr->family == 4 ? AF_INET : AF_INET6,
			chunk_create((u_char*)addr->bytes, addr->family == 4 ? 4 : 16), port);
}

/**
 * One end of a range
 */
static struct pk_addr convert_bytes(traffic_selector_t *ts, chunk_t bytes)
{
	struct pk_addr addr = {
		.family = ts->get_type(ts) == TS_IPV4_ADDR_RANGE ? 4 : 6,
	};

	memcpy(addr.bytes, bytes.ptr, min(bytes.len, sizeof(addr.bytes)));
	return addr;
}

int convert_selector(traffic_selector_t *ts, struct pk_prefix out[CONVERT_PREFIXES])
{
	struct pk_addr low = convert_bytes(ts, ts->get_from_address(ts));
	struct pk_addr high = convert_bytes(ts, ts->get_to_address(ts));

	return pk_prefixes_of_range(out, CONVERT_PREFIXES, &low, &high);
}
