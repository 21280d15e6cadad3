#pragma once

#include "fw/record.h"

/*
 * A file of session records: the header of fw/record.h and then one record after the other.  What is faulty
 * is left out and counted, as long as it is known where the next one begins.
 */
struct fw_record_file;

/* Write to `fd`, which stays the caller's, from where it stands.  Returns 0 or -ENOMEM. */
int fw_record_file_begin(struct fw_record_file **out, int fd);

/* Buffered; errors show at the end. */
void fw_record_file_add(struct fw_record_file *f, const struct fw_record *r);

/* Write what is buffered, and free.  Returns 0, or negative errno with *diag. */
int fw_record_file_end(struct fw_record_file *f, struct pk_diag *diag);

/*
 * Read in pieces: begin with an empty reader, then call fw_record_file_next() until it returns 0.
 * It returns 1 with a record, -EPROTO with *diag for one that is faulty (go on), or another negative errno
 * with *diag when nothing more can be read.
 */
struct fw_record_reader {
	int fd; /* borrowed */
	bool begun, ended;
	uint8_t *buffer;
	size_t at, len;
};

int fw_record_reader_init(struct fw_record_reader *f, int fd); /* 0 or -ENOMEM */
void fw_record_reader_fini(struct fw_record_reader *f);
int fw_record_file_next(struct fw_record_reader *f, struct fw_record *out, struct pk_diag *diag);

/* All of it.  *faulty grows by those left out.  Returns 0, or negative errno with *diag. */
int fw_record_file_read(int fd, void (*each)(void *arg, struct fw_record *r), void *arg,
    uint32_t *faulty, struct pk_diag *diag);
