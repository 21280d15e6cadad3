#pragma once

#include "fw/worker.h"

struct event_base;
struct pk_control_request;

/*
 * The signatures in force, on the control side: reads a bundle (dpi/bundle.h) or files of rules, makes it ready for
 * each lcore, and has them use it for new sessions.  Sessions in flight finish on the set they began with; it is
 * freed when the last of them is over, and what the traces say of it has been read.
 *
 * Reading takes up to seconds, so a helper thread does it.  What cannot be loaded leaves what is in force alone.
 */
#define FW_SIGNATURES_LINGER_NS (2 * PK_NS_PER_S)

struct fw_signatures;

struct fw_signatures_conf {
	struct event_base *base;
	struct fw_workers *workers;
	const char *path; /* of the bundle or rules, NULL: none, and none is ever loaded */
	const char *key;  /* of who has to have signed the bundle, NULL: nobody has to */
};

/* Begins to load at once.  Pointers are borrowed.  Context: control thread.  The caller owns *out.  Returns 0 or
 * negative errno with *diag. */
int fw_signatures_create(
    struct fw_signatures **out, const struct fw_signatures_conf *conf, struct pk_diag *diag);
/* Once no lcore runs any more; NULL is allowed. */
void fw_signatures_destroy(struct fw_signatures *s);

/* Read the file anew.  Returns 0, -EBUSY: that is under way, or too many sets are still in use; -ENOENT: no file is
 * configured. */
int fw_signatures_load(struct fw_signatures *s, struct pk_diag *diag);

/* One row about what is in force, and one for each that sessions still finish on. */
void fw_signatures_show(const struct fw_signatures *s, struct pk_control_request *r);
