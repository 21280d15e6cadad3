#include "dpi/event.h"

static const char *const names[DPI_NB_EVENTS] = { [DPI_EV_NONE] = "none",
#define DPI_EVENT_NAME(id, name) [DPI_EV_##id] = name,
	DPI_EVENTS(DPI_EVENT_NAME)
#undef DPI_EVENT_NAME
};

const char *
dpi_event_name(enum dpi_event event)
{
	return event < DPI_NB_EVENTS ? names[event] : "none";
}

enum dpi_event
dpi_event_find(const char *name)
{
	for (unsigned int i = 1; i < DPI_NB_EVENTS; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return DPI_EV_NONE;
}
