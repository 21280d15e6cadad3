/*
 * probe: event
 * for: the event loops of the control threads
 * pkg: libevent_core libevent_pthreads
 * libs: 
 * debian: libevent-dev
 * required: yes
 */
#include <event2/event.h>

int
main(void)
{
	struct event_base *base = event_base_new();

	event_base_free(base);
	return base == NULL;
}
