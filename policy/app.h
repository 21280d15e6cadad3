#pragma once

#include "policy/schema.h"

/*
 * Applications in rules: `app: postgresql` or `app: [http, tls]`, by the names of dpi/apps.h.
 *
 * A rule with `app` matches a session that speaks one of them.  What a session speaks is seen only once it
 * speaks, so to ask about a flow without its bytes is to be told "provided that it speaks one of these".
 */
struct policy_apps {
	uint32_t nb;
	const uint32_t *at; /* dpi_app_id(), ascending */
};

policy_decode policy_read_apps; /* out: struct policy_apps; a name, or a list of 1 to PK_MSG_APPS */

/* The name behind a number of dpi_app_id(), or "unknown".  Context: any. */
const char *policy_app_name(uint32_t id);

/* "http, tls" into buf; "" for none.  Returns buf. */
const char *policy_apps_text(char *buf, size_t size, const uint32_t *apps, uint32_t nb);
