#pragma once

#include "fw/path.h"

/*
 * What the paths of all lcores have in common, besides rules: each guards itself, with a lock or an atomic word, and
 * is touched by few packets.  Made once, by whoever makes the paths; a path alone makes its own.
 */
struct fw_shared {
	struct fw_meters *meters;   /* fw/meter.h */
	struct fw_related *related; /* fw/related.h; NULL: no helper is on */
	struct fw_leases *leases;   /* fw/lease.h; NULL: nobody snoops DHCP */
	struct fw_names *names;     /* fw/names.h; NULL: no name is ever known */
};

/* By what `conf` asks for.  Context: control thread.  Returns 0 or -ENOMEM; the caller owns *out. */
int fw_shared_create(struct fw_shared **out, const struct fw_path_conf *conf);
void fw_shared_destroy(struct fw_shared *s); /* NULL is allowed */
