#include "dpi/app.h"

#include "fw/path.h"

const char *
fw_app_name(uint8_t app)
{
	if (app == FW_APP_NONE)
		return "none";
	if (app == FW_APP_CUT)
		return "cut";
	if (!fw_app_known(app))
		return "looking";
	return app == FW_APP_UNKNOWN ? "unknown" : dpi_app_name((enum dpi_app)app);
}
