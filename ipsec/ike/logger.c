#include "ipsec/ike/logger.h"

#include <stdarg.h>
#include <stdio.h>

#include "lib/log.h"

static enum pk_log_level to_level(level_t level)
{
	return level <= LEVEL_CTRL ? PK_LOG_INFO : PK_LOG_DEBUG;
}

static level_t max_level()
{
	switch (pk_log_get_level())
	{
		case PK_LOG_DEBUG:
			return LEVEL_DIAG;
		case PK_LOG_INFO:
			return LEVEL_CTRL;
		default:
			return LEVEL_SILENT;
	}
}

METHOD(logger_t, log_message, void,
	logger_t *this, debug_t group, level_t level, int thread, ike_sa_t *ike_sa, const char *message)
{
	if (ike_sa)
	{
		pk_log(to_level(level), "%s[%u] %s", ike_sa->get_name(ike_sa),
			   ike_sa->get_unique_id(ike_sa), message);
	}
	else
	{
		pk_log(to_level(level), "%s", message);
	}
}

METHOD(logger_t, get_level, level_t,
	logger_t *this, debug_t group)
{
	return max_level();
}

static void log_library(debug_t group, level_t level, char *fmt, ...)
{
	char text[1024];
	va_list args;

	if (level <= max_level())
	{
		va_start(args, fmt);
		vsnprintf(text, sizeof(text), fmt, args);
		va_end(args);
		pk_log(to_level(level), "%s", text);
	}
}

void logger_hook_library()
{
	dbg = log_library;
}

void logger_register()
{
	static logger_t logger;

	logger.log = _log_message;
	logger.get_level = _get_level;
	charon->bus->add_logger(charon->bus, &logger);
}
