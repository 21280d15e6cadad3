#pragma once

#include "lib/base.h"
#include "lib/diag.h"

/*
 * Captures: pcapng files (draft-ietf-opsawg-pcapng) with any number of interfaces, which it names, and
 * classic pcap files, whose one interface is called "inside0".
 */
enum {
	CTL_LINK_ETHERNET = 1
}; /* link types are LINKTYPE_* of the registry at tcpdump.org */

struct ctl_packet {
	uint64_t time_ns; /* since 1970 */
	const char *interface;
	const uint8_t *bytes; /* borrowed from the capture */
	uint32_t len;         /* captured */
	uint32_t wire_len;    /* as it was on the wire */
	uint16_t link_type;
};

struct ctl_capture;

/* Map a file.  The caller owns *out.  Returns 0, or negative errno with *diag. */
int ctl_capture_open(struct ctl_capture **out, const char *path, struct pk_diag *diag);
void ctl_capture_close(struct ctl_capture *c);

/* The next packet: 1, 0 at the end, or -EINVAL with *diag where the file is broken. */
int ctl_capture_next(struct ctl_capture *c, struct ctl_packet *out, struct pk_diag *diag);

struct ctl_capture_writer;

/* Make a pcapng file with interfaces names[0 .. n - 1].  Returns 0 or negative errno with *diag. */
int ctl_capture_create(struct ctl_capture_writer **out, const char *path, const char *const *names,
    unsigned int n, struct pk_diag *diag);

/* Add a packet of `wire_len` bytes, of which the first `len` are here, on interface `i`, with a comment or NULL.
 * Errors show in finish. */
void ctl_capture_write(struct ctl_capture_writer *w, unsigned int i, uint64_t time_ns,
    const void *bytes, uint32_t len, uint32_t wire_len, const char *comment);

/* Close the file.  Returns 0, or negative errno when not all of it could be written. */
int ctl_capture_finish(struct ctl_capture_writer *w);
