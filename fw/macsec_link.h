#pragma once

#include "fw/macsec.h"
#include "fw/worker.h"

struct event_base;

/*
 * The way between SecYs and picket-mkad: ipsec/macsec/msg.h, on a socket that picketd listens on.  One mkad at a
 * time; a new connection ends the one before.  Context: control thread.
 */
struct fw_macsec_link;

/* ports[0 .. nb - 1] (the array is copied) are borrowed.  Returns 0, -ENAMETOOLONG, -ENOMEM or another negative errno, with *diag. */
int fw_macsec_link_create(struct fw_macsec_link **out, struct event_base *base, const char *path,
    const char *instance, struct fw_workers *workers, struct fw_macsec *const *ports,
    unsigned int nb, struct pk_diag *diag);
void fw_macsec_link_destroy(struct fw_macsec_link *l);

struct fw_macsec_link_status {
	bool connected;
	uint64_t requests, refused;
};
void fw_macsec_link_status(const struct fw_macsec_link *l, struct fw_macsec_link_status *out);

/* Ports with a SecY, and what mkad says of one, for people.  NULL beyond the last. */
struct fw_macsec *fw_macsec_link_port(
    const struct fw_macsec_link *l, unsigned int i, const char **state);
