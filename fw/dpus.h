#pragma once

#include <stdint.h>

/*
 * Names of DPUs as small numbers: the same for the same name as long as the process lives.  0 is no name, and whatever
 * comes when there are FW_DPUS_MAX.  Context: control thread.
 */
#define FW_DPUS_MAX 65536

uint32_t fw_dpu_number(const char *name);
