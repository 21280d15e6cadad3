#include "ipsec/ike/kernel_addrs.h"

#include "ipsec/ike/convert.h"
#include "ipsec/ike/plane.h"

typedef struct private_kernel_addrs_t private_kernel_addrs_t;

struct private_kernel_addrs_t {
	kernel_net_t public;
};

METHOD(kernel_net_t, get_features, kernel_feature_t,
	private_kernel_addrs_t *this)
{
	return 0;
}

METHOD(kernel_net_t, get_source_addr, host_t*,
	private_kernel_addrs_t *this, host_t *dest, host_t *src)
{
	struct pk_sadb_local local;
	struct pk_addr addr = {};

	if (src && !src->is_anyaddr(src))
	{
		addr = convert_host(src);
	}
	else
	{
		addr.family = dest->get_family(dest) == AF_INET ? 4 : 6;
	}
	if (!picket_plane->get_local(picket_plane, &addr, &local))
	{
		return NULL;
	}
	return convert_addr(&local.addr, 0);
}

METHOD(kernel_net_t, get_nexthop, host_t*,
	private_kernel_addrs_t *this, host_t *dest, int prefix, host_t *src, char **iface)
{
	if (iface)
	{
		*iface = NULL;
	}
	return dest->clone(dest);
}

METHOD(kernel_net_t, get_interface, bool,
	private_kernel_addrs_t *this, host_t *host, char **name)
{
	struct pk_addr addr = convert_host(host);
	struct pk_sadb_local local;

	if (!addr.family || !picket_plane->get_local(picket_plane, &addr, &local))
	{
		return FALSE;
	}
	if (name && asprintf(name, "wire%u", local.wire) < 0)
	{
		*name = NULL;
	}
	return TRUE;
}

CALLBACK(filter_addresses, bool,
	host_t **last, enumerator_t *orig, va_list args)
{
	struct pk_sadb_local *local;
	host_t **out;

	VA_ARGS_VGET(args, out);
	DESTROY_IF(*last);
	*last = NULL;
	if (!orig->enumerate(orig, &local))
	{
		return FALSE;
	}
	*out = *last = convert_addr(&local->addr, 0);
	return TRUE;
}

CALLBACK(filter_done, void,
	host_t **last)
{
	DESTROY_IF(*last);
	free(last);
}

METHOD(kernel_net_t, create_address_enumerator, enumerator_t*,
	private_kernel_addrs_t *this, kernel_address_type_t which)
{
	if (!(which & ADDR_TYPE_REGULAR))
	{
		return enumerator_create_empty();
	}
	return enumerator_create_filter(picket_plane->create_local_enumerator(picket_plane),
									filter_addresses, calloc(1, sizeof(host_t*)),
									(void*)filter_done);
}

METHOD(kernel_net_t, create_local_subnet_enumerator, enumerator_t*,
	private_kernel_addrs_t *this)
{
	return enumerator_create_empty();
}

METHOD(kernel_net_t, add_ip, status_t,
	private_kernel_addrs_t *this, host_t *virtual_ip, int prefix, char *iface)
{
	return NOT_SUPPORTED;
}

METHOD(kernel_net_t, del_ip, status_t,
	private_kernel_addrs_t *this, host_t *virtual_ip, int prefix, bool wait)
{
	return NOT_SUPPORTED;
}

METHOD(kernel_net_t, handle_route, status_t,
	private_kernel_addrs_t *this, chunk_t dst_net, uint8_t prefixlen, host_t *gateway,
	host_t *src_ip, char *if_name, bool pass)
{
	return NOT_SUPPORTED;
}

METHOD(kernel_net_t, destroy, void,
	private_kernel_addrs_t *this)
{
	free(this);
}

kernel_net_t *kernel_addrs_create()
{
	private_kernel_addrs_t *this;

	INIT(this,
		.public = {
			.get_features = _get_features,
			.get_source_addr = _get_source_addr,
			.get_nexthop = _get_nexthop,
			.get_interface = _get_interface,
			.create_address_enumerator = _create_address_enumerator,
			.create_local_subnet_enumerator = _create_local_subnet_enumerator,
			.add_ip = _add_ip,
			.del_ip = _del_ip,
			.add_route = _handle_route,
			.del_route = _handle_route,
			.destroy = _destroy,
		},
	);
	return &this->public;
}
