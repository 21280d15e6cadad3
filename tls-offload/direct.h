#pragma once

#include <stdbool.h>

#include "lib/addr.h"
#include "lib/diag.h"

/*
 * Direct mode (ALPN "picket/1"): one connection of TLS 1.3 for each flow.
 *
 * Who opened the connection says first what the flow is; all bytes behind that are the flow's own, and so are all in the
 * other direction.  close_notify ends a direction as FIN does; a connection that ends without is a reset.
 *
 *      0               1               2               3
 *     +---------------+---------------+---------------+---------------+
 *     | magic: 'P' 'K'                | version       | reserved: 0   |
 *     +---------------+---------------+---------------+---------------+
 *     | length of what follows        | then fields:                  |
 *     +---------------+---------------+---------------+---------------+
 *     | type          | length        | value ...                       each once, ascending by type
 *
 *     1  DESTINATION  port (2), address (4 or 16)     where the flow was going; the port is not 0
 *     2  SOURCE       port (2), address (4 or 16)     where it came from; same family
 *     3  TRACE        1 to 64 printable characters    of RFC 9110 `traceparent` form or any other; optional
 *     128 - 255       ignored by who does not know them; other unknown types are refused
 *
 * Numbers are big-endian.  The receiver believes neither address: the destination has to be the one the connection came
 * to, and the source the one it came from.
 */
#define TLSO_DIRECT_ALPN    "picket/1"
#define TLSO_DIRECT_VERSION 1
#define TLSO_DIRECT_FIXED   6   /* bytes before the fields */
#define TLSO_DIRECT_MAX     512 /* bytes of the whole header; a longer one is refused */
#define TLSO_TRACE_MAX      65  /* with the final NUL */

struct tlso_direct {
	struct pk_addr dst, src;
	uint16_t dport, sport;      /* host order */
	char trace[TLSO_TRACE_MAX]; /* "": none */
};

/* Write it into out[TLSO_DIRECT_MAX].  Returns the length, or 0 when addresses are of no or two families.  Context: any. */
size_t tlso_direct_pack(uint8_t *out, const struct tlso_direct *d);

/*
 * Read the header at the start of bytes[0 .. len - 1].  Returns its length; 0: there is more to come; or -EPROTO with
 * *diag.  It never asks for more than TLSO_DIRECT_MAX bytes.  Context: any.
 */
int tlso_direct_parse(
    struct tlso_direct *out, const uint8_t *bytes, size_t len, struct pk_diag *diag);
