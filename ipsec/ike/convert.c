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
 * Number of low bits of from that are zero, and so the most a prefix there may leave open
 */
static int trailing_zeros(const uint8_t *from, int bytes)
{
	int i, bits = 0;

	for (i = bytes - 1; i >= 0; i--)
	{
		if (from[i])
		{
			return bits + __builtin_ctz(from[i]);
		}
		bits += 8;
	}
	return bits;
}

/**
 * Set the low bits of an address
 */
static void set_low_bits(uint8_t *addr, int bytes, int bits)
{
	int i;

	for (i = bytes - 1; i >= 0 && bits > 0; i--, bits -= 8)
	{
		addr[i] |= (uint8_t)((1 << min(bits, 8)) - 1);
	}
}

/**
 * Add one; FALSE if that was the last address
 */
static bool increment(uint8_t *addr, int bytes)
{
	int i;

	for (i = bytes - 1; i >= 0; i--)
	{
		if (++addr[i])
		{
			return TRUE;
		}
	}
	return FALSE;
}

int convert_selector(traffic_selector_t *ts, struct pk_prefix out[CONVERT_PREFIXES])
{
	bool v4 = ts->get_type(ts) == TS_IPV4_ADDR_RANGE;
	int bytes = v4 ? 4 : 16, open, nb = 0;
	uint8_t from[16] = {}, to[16] = {}, last[16];
	chunk_t chunk;

	chunk = ts->get_from_address(ts);
	memcpy(from, chunk.ptr, min(chunk.len, sizeof(from)));
	chunk = ts->get_to_address(ts);
	memcpy(to, chunk.ptr, min(chunk.len, sizeof(to)));

	while (memcmp(from, to, bytes) <= 0)
	{	/* the largest prefix that begins at from and ends at to or before */
		for (open = trailing_zeros(from, bytes); ; open--)
		{
			memcpy(last, from, sizeof(last));
			set_low_bits(last, bytes, open);
			if (memcmp(last, to, bytes) <= 0)
			{
				break;
			}
		}
		if (nb == CONVERT_PREFIXES)
		{
			return 0;
		}
		memset(&out[nb], 0, sizeof(out[nb]));
		out[nb].addr.family = v4 ? 4 : 6;
		memcpy(out[nb].addr.bytes, from, bytes);
		out[nb].len = (uint8_t)(bytes * 8 - open);
		nb++;
		memcpy(from, last, sizeof(from));
		if (!increment(from, bytes))
		{
			break;
		}
	}
	return nb;
}
