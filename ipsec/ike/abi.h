/*
 * Whether the libcharon that runs is the one that the headers describe.
 *
 * Its objects are structs of function pointers, so another layout means calling something else, with whatever that
 * does.  Nothing in the libraries says their version; so it is asked of the package manager where there is one, and
 * objects are made and asked for what was put into them, which no other layout answers correctly.
 */
#ifndef ABI_H_
#define ABI_H_

#include "ipsec/ike/swan.h"

#include "lib/diag.h"

/**
 * Check, after libcharon_init() and before anything else.
 *
 * @param diag		sentence on failure
 * @return		FALSE if this process must not go on
 */
bool abi_check(struct pk_diag *diag);

#endif /* ABI_H_ */
