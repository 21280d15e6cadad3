#include "fw/record_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUFFER ((size_t)1 << 18) /* bytes; holds the longest record that is read, several times */
_Static_assert(BUFFER > 2 * (FW_RECORD_LEN_MAX + 4), "a record fits the buffer");

struct fw_record_file {
	int fd, error;
	size_t len;
	uint8_t buffer[BUFFER];
};

static void
flush(struct fw_record_file *f)
{
	for (size_t at = 0; at < f->len && f->error == 0;) {
		ssize_t n = write(f->fd, f->buffer + at, f->len - at);

		if (n > 0)
			at += (size_t)n;
		else if (errno != EINTR)
			f->error = errno;
	}
	f->len = 0;
}

int
fw_record_file_begin(struct fw_record_file **out, int fd)
{
	struct fw_record_file *f = malloc(sizeof(*f));

	if (f == NULL)
		return -ENOMEM;
	f->fd = fd;
	f->error = 0;
	fw_record_header(f->buffer);
	f->len = FW_RECORD_HEADER_LEN;
	*out = f;
	return 0;
}

void
fw_record_file_add(struct fw_record_file *f, const struct fw_record *r)
{
	if (BUFFER - f->len < FW_RECORD_MAX)
		flush(f);
	f->len += fw_record_encode(r, f->buffer + f->len, BUFFER - f->len);
}

int
fw_record_file_end(struct fw_record_file *f, struct pk_diag *diag)
{
	int error;

	flush(f);
	error = f->error;
	free(f);
	if (error != 0)
		pk_diag_set(diag, "session records cannot be written: %s", strerror(error));
	return -error;
}

/* ---- reading ---- */

int
fw_record_reader_init(struct fw_record_reader *f, int fd)
{
	*f = (struct fw_record_reader){ .fd = fd, .buffer = malloc(BUFFER) };
	return f->buffer != NULL ? 0 : -ENOMEM;
}

void
fw_record_reader_fini(struct fw_record_reader *f)
{
	free(f->buffer);
	f->buffer = NULL;
}

/* Have more in the buffer, or find that there is no more. */
static int
refill(struct fw_record_reader *f, struct pk_diag *diag)
{
	ssize_t n;

	memmove(f->buffer, f->buffer + f->at, f->len - f->at);
	f->len -= f->at;
	f->at = 0;
	do
		n = read(f->fd, f->buffer + f->len, BUFFER - f->len);
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		pk_diag_set(diag, "session records cannot be read: %s", strerror(errno));
		return -errno;
	}
	f->ended = n == 0;
	f->len += (size_t)n;
	return 0;
}

int
fw_record_file_next(struct fw_record_reader *f, struct fw_record *out, struct pk_diag *diag)
{
	int rc;

	while (!f->begun) {
		if (f->len - f->at >= FW_RECORD_HEADER_LEN) {
			if (fw_record_header_check(f->buffer + f->at, diag) < 0)
				return -EINVAL;
			f->at += FW_RECORD_HEADER_LEN;
			f->begun = true;
		} else if (f->ended) {
			pk_diag_set(
			    diag, "these are no session records; want a file of `sessions export`");
			return -EINVAL;
		} else if ((rc = refill(f, diag)) < 0) {
			return rc;
		}
	}
	for (;;) {
		size_t skip;
		long n;

		if (f->at == f->len && f->ended)
			return 0;
		n = fw_record_decode(out, f->buffer + f->at, f->len - f->at, &skip, diag);
		if (n > 0) {
			f->at += (size_t)n;
			return 1;
		}
		if (n == -EPROTO) {
			f->at += skip;
			return skip != 0 ? -EPROTO : -EINVAL;
		}
		if (f->ended) {
			pk_diag_set(diag, "the file ends within a record");
			return -EINVAL;
		}
		rc = refill(f, diag);
		if (rc < 0)
			return rc;
	}
}

int
fw_record_file_read(int fd, void (*each)(void *arg, struct fw_record *r), void *arg,
    uint32_t *faulty, struct pk_diag *diag)
{
	struct fw_record_reader f;
	struct fw_record r;
	int rc = fw_record_reader_init(&f, fd);

	if (rc < 0) {
		pk_diag_set(diag, "out of memory");
		return rc;
	}
	while ((rc = fw_record_file_next(&f, &r, diag)) != 0) {
		if (rc == 1)
			each(arg, &r);
		else if (rc == -EPROTO)
			(*faulty)++;
		else
			break;
	}
	fw_record_reader_fini(&f);
	return rc;
}
