#pragma once

#include <jansson.h>

#include "dpi/detect.h"

/*
 * Events as Suricata's EVE has them, so that what reads those reads ours: the same names at the same places,
 * and beside them `type`, `sid`, `gid` and `packet` for picketctl.
 */

/* The caller owns the result; NULL without memory.  Text from packets is made harmless. */
json_t *dpi_eve_alert(const struct dpi_alert *a);
