#pragma once

#include <stdbool.h>

#include "lib/base.h"
#include "lib/diag.h"

/*
 * Files of memory that outlives picketd.  Who can write to one decides what passes after a restart, so it is
 * ours alone: the owner's, with no rights for others, no link to it, and locked while it is in use.
 * Context of all: control thread.
 */
#define FW_BOOT_ID 36 /* bytes, as text */

/* Of this boot; all zero if there is none.  Times in such files are of a clock that starts with the machine. */
void fw_kept_boot_id(uint8_t out[FW_BOOT_ID]);

/* Open and lock; `create`: make it if there is none.  Waits for a process that is just ending, up to two seconds.
 * Returns 0, -EPERM for a file that others might have written to, -EBUSY or another negative errno, with *diag. */
int fw_kept_open(const char *path, bool create, int *out, struct pk_diag *diag);
