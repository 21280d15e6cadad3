#pragma once

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/log.h>

#include "lib/rpc.h"

/* What the two parts of lib/rpc.h share: rpc.c with a loop, rpc_ask.c without. */
#define RPC_METADATA_MAX 16384
#define RPC_CONNECT_MS   5000

static inline int
rpc_arg_ms(uint64_t ns, uint64_t default_ns)
{
	uint64_t ms = (ns != 0 ? ns : default_ns) / PK_NS_PER_MS;

	return (int)PK_MIN(ms, (uint64_t)INT32_MAX);
}

static inline grpc_arg
rpc_arg_int(const char *key, int value)
{
	return (grpc_arg){
		.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value
	};
}

static inline int
rpc_or_default(uint32_t value, uint32_t fallback)
{
	return (int)PK_MIN(value != 0 ? value : fallback, (uint32_t)INT32_MAX);
}

void rpc_log(gpr_log_func_args *args);

/* Files read once.  NULL with *diag. */
grpc_channel_credentials *rpc_read_credentials(const struct pk_rpc_tls *tls, struct pk_diag *diag);

grpc_channel *rpc_channel_create(
    const char *target, grpc_channel_credentials *creds, const struct pk_rpc_limits *l);
