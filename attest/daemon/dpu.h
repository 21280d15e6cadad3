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
struct attest_binding;
struct attest_carrier;
struct attest_channel;
struct event_base;
struct pk_control_request;
struct pk_helper;
struct pk_msg_posture;
struct attest_dpu;

/* `conf` is borrowed.  Context: control thread, as for all here. */
int attest_dpu_create(struct attest_dpu **out, struct event_base *base,
    const struct attestd_conf *conf, struct pk_diag *diag);
void attest_dpu_destroy(struct attest_dpu *d);

/*
 * The same as a part of another program: the policy server, which judges the DPUs themselves.  It listens nowhere and
 * signs no results; who is judged comes by attest_dpu_carried(), and what has become of it goes to `posture`.
 */
struct attest_dpu_within {
	const char *name; /* of the DPU in the binding of answers; conf->host is who may answer */
	struct pk_helper
	    *helper; /* borrowed; its jobs end before attest_dpu_destroy(), and after _stop() */
	void (*posture)(void *arg, const struct pk_msg_posture *p);
	void *arg;
};
int attest_dpu_create_within(struct attest_dpu **out, struct event_base *base,
    const struct attestd_conf *conf, const struct attest_dpu_within *within, struct pk_diag *diag);
/* What is being judged has no consequences any more. */
void attest_dpu_stop(struct attest_dpu *d);

/* Somebody has come by a channel that `by` carries.  Deliver to what is returned until by->hang_up is called; NULL:
 * there is no place for him. */
struct attest_channel *attest_dpu_carried(
    struct attest_dpu *d, const struct attest_carrier *by, const struct attest_binding *b);
/* He has gone. */
void attest_dpu_went(struct attest_dpu *d, struct attest_channel *c);

/* For the control socket. */
void attest_dpu_show(struct attest_dpu *d, struct pk_control_request *r);
void attest_dpu_show_reasons(struct attest_dpu *d, struct pk_control_request *r);
void attest_dpu_show_ear(struct attest_dpu *d, struct pk_control_request *r);
void attest_dpu_release(struct attest_dpu *d, struct pk_control_request *r);
void attest_dpu_forget(struct attest_dpu *d, struct pk_control_request *r);
/* Write the last evidence as files that `picketctl attest check` and `learn` read; "" when there is none. */
void attest_dpu_learn(struct attest_dpu *d, struct pk_control_request *r,
    const char *const *excludes, size_t nb_excludes);
void attest_dpu_save_evidence(struct attest_dpu *d, struct pk_control_request *r, const char *dir);
