/*
 * probe: event
 * for: the event loops of the control threads, and TLS on them
 * pkg: libevent_core libevent_pthreads libevent_openssl
 * libs: 
 * debian: libevent-dev
 * required: yes
 */
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>

int
main(void)
{
	struct event_base *base = event_base_new();
	struct bufferevent *b =
	    bufferevent_openssl_socket_new(base, -1, NULL, BUFFEREVENT_SSL_CONNECTING, 0);

	event_base_free(base);
	return base == NULL || b != NULL;
}
