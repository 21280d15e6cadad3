#pragma once

#include <stdint.h>

/*
 * Sources made up by chance, for tests that change one after the other: workloads, policies of one or
 * more rules, and the groups these name.  Some are wrong: a name, an address or a priority that another
 * has, a group that is not there.
 */
#define NB_WORKLOADS 24
#define NB_POLICIES  10
#define NB_OTHERS    3
#define NB_NAMES     (NB_WORKLOADS + NB_POLICIES + NB_OTHERS)

/* A number below n, the same sequence each time. */
int world_pick(int n);
void world_name(int i, char name[32]);
/* Text of source i, malloc()ed. */
char *world_text(int i);
/* Whether the host behind a DPU is attested, as a policy_attested function; and another answer for one. */
int world_attested(void *arg, const char *dpu);
const char *world_flip(void);
/* Which source to change next: mostly workloads, seldom a group. */
int world_choose(void);
