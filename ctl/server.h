#pragma once

#include "ctl/ctl.h"
#include "policy/proto/picket.pb-c.h"

/* For commands that ask the policy server. */
#define CTL_ASK_NS (30 * PK_NS_PER_S)

/* The answer to PolicyAdmin's `method` unpacked as `type`, or NULL after saying why not. */
void *ctl_server_ask(struct ctl_context *ctx, const char *method, const ProtobufCMessage *request,
    const ProtobufCMessageDescriptor *type, uint64_t timeout_ns);

/* "2026-11-21 14:03:12", local time; "-" for 0. */
const char *ctl_time_text(uint64_t unix_ns, char *buf, size_t size);

/* Say what has become of a change; `wait`: that DPUs have not realised it is a failure. */
int ctl_print_applied(
    struct ctl_context *ctx, const Picket__V1__ApplyReply *m, bool dry, bool wait);
