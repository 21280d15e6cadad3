#pragma once

#include "attest/daemon/options.h"
#include "lib/diag.h"

/*
 * The host's part: a small program that owns the TPM, reads the boot event log and the IMA list, and
 * dials the DPU in front of it.  It listens nowhere and decides nothing.  Whoever owns the host owns this
 * program too; what it sends is believed only as far as the TPM has signed for it.
 */
struct event_base;
struct attest_host;

/* Reach the TPM, then the DPU for as long as it takes.  `conf` is borrowed. */
int attest_host_create(struct attest_host **out, struct event_base *base,
    const struct attestd_conf *conf, struct pk_diag *diag);
void attest_host_destroy(struct attest_host *h);
