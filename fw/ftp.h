#pragma once

#include <stdbool.h>

#include "lib/addr.h"

/*
 * What the two ends of an FTP control connection say about data connections (RFC 959 section 4.1.2, RFC 2428
 * sections 2 and 3).  Pure functions over one line, without its CR LF.  Context: any.
 */
enum fw_ftp_line {
	FW_FTP_OTHER = 0,
	FW_FTP_ACTIVE,  /* client: PORT, EPRT; the server is to connect to address and port */
	FW_FTP_PASSIVE, /* client: PASV, EPSV; asks the server for a port */
	FW_FTP_PORT, /* server: 227, 229; the client is to connect to the port, 227 names an address too */
	FW_FTP_REPLY, /* server: the last line of any other reply, which is the answer to what was asked */
};

struct fw_ftp_port {
	struct pk_addr addr; /* family 0: it was not named, and is the speaker's */
	uint16_t port;       /* host order */
};

/* Read a line from the client or the server.  FW_FTP_ACTIVE and FW_FTP_PORT fill in *out; a line that begins like
 * one and is malformed is FW_FTP_OTHER from the client and FW_FTP_REPLY from the server. */
enum fw_ftp_line fw_ftp_read(
    const uint8_t *line, size_t len, bool from_client, struct fw_ftp_port *out);
