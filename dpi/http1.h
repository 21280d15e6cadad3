#pragma once

/*
 * HTTP/1 (RFC 9112) through libhtp, the parser that the rules were written against: its normalised URIs, its
 * ideas of broken messages and of servers that read them anyway.  Nothing outside of dpi/http1.c sees it.
 */
#define DPI_HTTP1_LAYERS 3 /* of Content-Encoding that are undone */

/* Set the parser up for the process; again: change the number of layers.  Context: control thread, before any
 * session.  Returns 0, or -1 without memory. */
int dpi_http1_init(unsigned int layers);
void dpi_http1_fini(void);
