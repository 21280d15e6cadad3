#pragma once

#include "attest/daemon/options.h"
#include "lib/diag.h"

/*
 * The DPU's part: the verifier of the one host behind it.
 *
 *     guest    a connection; it becomes the host once its TPM has shown that it is the one enrolled
 *     round    challenge, evidence, appraisal (on a helper thread), verdict; one at a time
 *     machine  where the host stands (attest/state.h); each of its transitions goes out at once to the
 *              data plane and the agent, then to the disk and the audit log
 *
 * Whatever the host does or leaves undone ends in one of two ways: good evidence by the deadline, or not.
 */
struct event_base;
struct pk_control_request;
struct attest_dpu;

/* `conf` is borrowed.  Context: control thread, as for all here. */
int attest_dpu_create(struct attest_dpu **out, struct event_base *base,
    const struct attestd_conf *conf, struct pk_diag *diag);
void attest_dpu_destroy(struct attest_dpu *d);

/* For the control socket. */
void attest_dpu_show(struct attest_dpu *d, struct pk_control_request *r);
void attest_dpu_show_reasons(struct attest_dpu *d, struct pk_control_request *r);
void attest_dpu_show_ear(struct attest_dpu *d, struct pk_control_request *r);
void attest_dpu_release(struct attest_dpu *d, struct pk_control_request *r);
void attest_dpu_forget(struct attest_dpu *d, struct pk_control_request *r);
/* Write the last evidence as files that `picketctl attest check` and `learn` read; "" when there is none. */
void attest_dpu_save_evidence(struct attest_dpu *d, struct pk_control_request *r, const char *dir);
