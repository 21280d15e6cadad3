#include "attest/daemon/logs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "attest/ima.h"

#define HEAD_MAX 256 /* bytes that tell one boot's list from another's */

/* Read to the end of the file into *bytes, which has *len and may grow to `max`. */
static int
read_rest(int fd, size_t max, uint8_t **bytes, size_t *len, size_t *room)
{
	for (;;) {
		ssize_t n;

		if (*len == *room) {
			size_t more = PK_MIN(PK_MAX(*room * 2, (size_t)65536), max + 1);
			uint8_t *wider = *len <= max ? realloc(*bytes, more) : NULL;

			if (*len > max)
				return -EFBIG;
			if (wider == NULL)
				return -ENOMEM;
			*bytes = wider;
			*room = more;
		}
		n = read(fd, *bytes + *len, *room - *len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return *len > max ? -EFBIG : 0;
		*len += (size_t)n;
	}
}

int
attest_file_read(const char *path, size_t max, uint8_t **bytes, size_t *len, struct pk_diag *d)
{
	size_t room = 0;
	int rc, fd = open(path, O_RDONLY | O_CLOEXEC);

	*bytes = NULL;
	*len = 0;
	rc = fd >= 0 ? read_rest(fd, max, bytes, len, &room) : -errno;
	if (fd >= 0)
		close(fd);
	if (rc < 0) {
		pk_diag_set(d, "%s: %s", path, strerror(-rc));
		free(*bytes);
		*bytes = NULL;
		*len = 0;
	}
	return rc;
}

static void
start_anew(struct attest_ima_file *f)
{
	f->len = f->parsed = 0;
	f->entries = 0;
}

/* Find where the entries begin in what is new.  An entry still being written is left for later. */
static int
find_entries(struct attest_ima_file *f)
{
	struct attest_ima_reader rd;
	struct attest_ima_entry e;
	size_t base = f->parsed;
	int rc = attest_ima_init(&rd, f->bytes + base, f->len - base, NULL);

	while (rc == 0 && attest_ima_next(&rd, &e, NULL) > 0) {
		if (f->entries == f->nb_start) {
			size_t room = PK_MAX(f->nb_start * 2, (size_t)4096);
			size_t *wider = realloc(f->start, room * sizeof(f->start[0]));

			if (wider == NULL) {
				rc = -ENOMEM;
				break;
			}
			f->start = wider;
			f->nb_start = room;
		}
		f->start[f->entries++] = base + e.off;
		f->parsed = (size_t)(rd.at - f->bytes);
	}
	attest_ima_fini(&rd);
	return rc;
}

int
attest_ima_file_read(struct attest_ima_file *f, const char *path, struct pk_diag *d)
{
	uint8_t head[HEAD_MAX];
	size_t known = PK_MIN(f->len, sizeof(head));
	int rc, fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		rc = -errno;
		pk_diag_set(d, "%s: %s", path, strerror(-rc));
		return rc;
	}
	if (known > 0 &&
	    (pread(fd, head, known, 0) != (ssize_t)known || memcmp(head, f->bytes, known) != 0))
		start_anew(f);
	rc = lseek(fd, (off_t)f->len, SEEK_SET) < 0
	    ? -errno
	    : read_rest(fd, ATTEST_IMA_LIST_MAX, &f->bytes, &f->len, &f->room);
	close(fd);
	if (rc == 0 && f->len > f->parsed)
		rc = find_entries(f);
	if (rc < 0)
		pk_diag_set(d, "%s: %s", path, strerror(-rc));
	return rc;
}

void
attest_ima_file_fini(struct attest_ima_file *f)
{
	free(f->bytes);
	free(f->start);
	memset(f, 0, sizeof(*f));
}

struct attest_bytes
attest_ima_file_from(const struct attest_ima_file *f, uint32_t from)
{
	static const uint8_t nothing[1];
	size_t at = from < f->entries ? f->start[from] : from == f->entries ? f->parsed : 0;

	/* A list without entries is still a list. */
	if (f->parsed == at)
		return (struct attest_bytes){ nothing, 0 };
	return (struct attest_bytes){ f->bytes + at, f->parsed - at };
}
