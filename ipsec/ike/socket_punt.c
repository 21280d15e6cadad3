#include "ipsec/ike/socket_punt.h"

#include "ipsec/ike/plane.h"

typedef struct private_socket_punt_t private_socket_punt_t;

struct private_socket_punt_t {
	socket_t public;
};

/**
 * Four octets that tell IKE from ESP on port 4500 (RFC 3948, section 2.2).  libcharon's sender and receiver deal with
 * them wherever neither port is 500; picketd does too, so here they come off and on.
 */
static chunk_t marker = chunk_from_chars(0x00, 0x00, 0x00, 0x00);

static bool has_marker(packet_t *packet)
{
	host_t *src = packet->get_source(packet), *dst = packet->get_destination(packet);

	return src->get_port(src) != IKEV2_UDP_PORT && dst->get_port(dst) != IKEV2_UDP_PORT;
}

METHOD(socket_t, receive_packet, status_t,
	private_socket_punt_t *this, packet_t **out)
{
	packet_t *packet = picket_plane->receive_packet(picket_plane);

	if (!packet)
	{
		return FAILED;
	}
	if (has_marker(packet))
	{
		packet->set_data(packet, chunk_cat("cc", marker, packet->get_data(packet)));
	}
	*out = packet;
	return SUCCESS;
}

METHOD(socket_t, send_packet, status_t,
	private_socket_punt_t *this, packet_t *packet)
{
	chunk_t data = packet->get_data(packet);

	/* one without is a keepalive for NAT (RFC 3948, section 2.3), to which picketd adds none */
	if (has_marker(packet) && data.len > marker.len && memeq(data.ptr, marker.ptr, marker.len))
	{
		packet->skip_bytes(packet, marker.len);
	}
	return picket_plane->send_packet(picket_plane, packet) ? SUCCESS : FAILED;
}

METHOD(socket_t, get_port, uint16_t,
	private_socket_punt_t *this, bool nat_t)
{
	return nat_t ? IKEV2_NATT_PORT : IKEV2_UDP_PORT;
}

METHOD(socket_t, supported_families, socket_family_t,
	private_socket_punt_t *this)
{
	return SOCKET_FAMILY_BOTH;
}

METHOD(socket_t, destroy, void,
	private_socket_punt_t *this)
{
	free(this);
}

socket_t *socket_punt_create()
{
	private_socket_punt_t *this;

	INIT(this,
		.public = {
			.receive = _receive_packet,
			.send = _send_packet,
			.get_port = _get_port,
			.supported_families = _supported_families,
			.destroy = _destroy,
		},
	);
	return &this->public;
}
