#pragma once

#include "attest/alg.h"
#include "lib/diag.h"

/*
 * Files of securityfs, as a host reads them.  They have no size to ask for, and are read to their end.
 */
#define ATTEST_LOG_MAX (16U << 20)

/*
 * Read a whole file of at most `max` bytes; malloc()ed, the caller's.
 * Returns 0, -EFBIG, or what opening and reading said, with the sentence.
 */
int attest_file_read(const char *path, size_t max, uint8_t **bytes, size_t *len, struct pk_diag *d);

/*
 * The binary IMA list, which only grows while the machine runs: what has been read stays, and of what
 * comes after it is known where each entry starts.  A list that begins otherwise than before is that of
 * another boot, and is taken up anew.
 */
struct attest_ima_file {
	uint8_t *bytes;
	size_t len, room;
	size_t parsed;    /* bytes in whole entries */
	uint32_t entries; /* in these */
	size_t *start;    /* of each entry */
	size_t nb_start;
};

/* Read what is new.  Returns 0, -ENOENT without a list, -EFBIG, -EINVAL when it is none, -ENOMEM. */
int attest_ima_file_read(struct attest_ima_file *f, const char *path, struct pk_diag *d);
void attest_ima_file_fini(struct attest_ima_file *f);

/* From entry `from` on, borrowed until the next reading; all of it when there are not so many. */
struct attest_bytes attest_ima_file_from(const struct attest_ima_file *f, uint32_t from);
