#pragma once

#include "policy/model.h"

/*
 * What documents give to programs on DPUs beyond policy (kind Link): settings, and the name of the secret they are kept
 * with.  The secret itself is in no document, nor in anything that is made of one: the server has it in a file of that
 * name, and DPUs that need it are sent it (policy/server/grant.c, lib/grant.h).
 *
 * A kind that gives something has its reader, and a row in grant.c that says what.
 */
struct policy_grants;

enum policy_secret_form {
	POLICY_SECRET_CAK = 0, /* 16 or 32 octets, in hexadecimal */
	POLICY_SECRET_PSK,     /* 1 to 256 octets as they stand, or in hexadecimal behind 0x */
};

struct policy_grant {
	const char *dpu; /* the name of a DPU; * and ? stand for any */
	const char *program;
	const char *name;     /* "link rack-7, wire 0" */
	const char *settings; /* as the program reads them */
	const char *secret;   /* its name */
	uint8_t form;         /* enum policy_secret_form */
	const char *file;     /* of the document */
	unsigned int line, column;
};

/* All of a model, on their own; never changes.  `m` NULL: none.  Returns 0 or -ENOMEM.  Context: any. */
int policy_grants_create(struct policy_grants **out, const struct policy_model *m);
void policy_grants_destroy(struct policy_grants *g); /* NULL is allowed */
size_t policy_grants_count(const struct policy_grants *g);
const struct policy_grant *policy_grants_get(const struct policy_grants *g, size_t i);
