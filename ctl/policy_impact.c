#include "ctl/policy_offline.h"
int
ctl_policy_impact(struct ctl_context *ctx, int argc, char **argv)
{ (void)argc; (void)argv; return ctl_usage(ctx, "x"); }
