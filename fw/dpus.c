#include "fw/dpus.h"

#include <stdlib.h>
#include <string.h>

#include <uthash.h>

struct dpu {
	uint32_t number;
	UT_hash_handle hh;
	char name[];
};

static struct dpu *dpus;

uint32_t
fw_dpu_number(const char *name)
{
	size_t len = strlen(name);
	struct dpu *d;

	if (len == 0)
		return 0;
	HASH_FIND(hh, dpus, name, len, d);
	if (d != NULL)
		return d->number;
	if (HASH_COUNT(dpus) >= FW_DPUS_MAX - 1 || (d = malloc(sizeof(*d) + len + 1)) == NULL)
		return 0;
	memcpy(d->name, name, len + 1);
	d->number = HASH_COUNT(dpus) + 1;
	HASH_ADD(hh, dpus, name, len, d);
	return d->number;
}
