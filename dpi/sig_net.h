#pragma once

#include "dpi/sig_rule.h"
#include "lib/diag.h"

/*
 * Addresses and ports of a rule's header: `[192.0.2.0/24,!192.0.2.1]`, `!$HOME_NET`, `[80,8000:8080]`, with
 * the variables that stand in them.  Equal ones are shared.
 */
struct dpi_vars;

/* With Suricata's variables at their usual values.  The caller owns *out. */
int dpi_vars_create(struct dpi_vars **out);
void dpi_vars_destroy(struct dpi_vars *v); /* and all groups that were made */

/* Set "HOME_NET" and the like; the value is checked when a rule uses it.  Returns 0 or -ENOMEM. */
int dpi_vars_set(struct dpi_vars *v, const char *name, const char *value);

/* All that are set, in order. */
void dpi_vars_each(const struct dpi_vars *v,
    void (*each)(void *arg, const char *name, const char *value), void *arg);

/* Borrowed from `v`.  Return 0, -EINVAL with *diag, or -ENOMEM. */
int dpi_nets_parse(
    const struct dpi_nets **out, struct dpi_vars *v, const char *text, struct pk_diag *diag);
int dpi_ports_parse(
    const struct dpi_ports **out, struct dpi_vars *v, const char *text, struct pk_diag *diag);

static inline bool
dpi_ports_has(const struct dpi_ports *p, uint16_t port)
{
	return p->any || (p->bitmap[port >> 6] >> (port & 63) & 1);
}

bool dpi_nets_has(const struct dpi_nets *n, const struct pk_addr *a);
