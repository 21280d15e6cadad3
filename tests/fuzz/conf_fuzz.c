/* Configuration files: refused or read, and what is read prints back to itself. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct values {
	bool loose;
	uint64_t sessions, memory, idle;
	char *name;
	struct pk_conf_list wires;
};

static const struct pk_conf_option options[] = {
	{ "loose", PK_CONF_BOOL, NULL, "no", 0, 0, NULL, false, "",
	    offsetof(struct values, loose) },
	{ "sessions", PK_CONF_NUMBER, NULL, "1000", 10, 100000, NULL, false, "",
	    offsetof(struct values, sessions) },
	{ "memory", PK_CONF_SIZE, NULL, "64m", 0, 0, NULL, false, "",
	    offsetof(struct values, memory) },
	{ "idle", PK_CONF_DURATION, NULL, "200us", 0, 0, NULL, false, "",
	    offsetof(struct values, idle) },
	{ "name", PK_CONF_STRING, NULL, "dpu", 0, 0, NULL, false, "",
	    offsetof(struct values, name) },
	{ "wire", PK_CONF_LIST, NULL, NULL, 0, 0, NULL, false, "", offsetof(struct values, wires) },
};

#define N PK_COUNT(options)

static int
load(struct values *v, const void *text, size_t len)
{
	int fd = memfd_create("conf", 0), rc = -1;
	struct pk_diag diag;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fd >= 0 && write(fd, text, len) == (ssize_t)len)
		rc = pk_conf_load(options, N, v, path, &diag);
	close(fd);
	return rc;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct values v;

	pk_conf_init(options, N, &v);
	/* A zero byte ends a line early for C, but not for the comparison below. */
	if (memchr(data, 0, len) == NULL && load(&v, data, len) == 0) {
		char *first = NULL, *second = NULL;
		size_t first_len, second_len;
		FILE *f = open_memstream(&first, &first_len);

		pk_conf_print(options, N, &v, f);
		fclose(f);
		PK_ASSERT(load(&v, first, first_len) == 0);
		f = open_memstream(&second, &second_len);
		pk_conf_print(options, N, &v, f);
		fclose(f);
		PK_ASSERT(strcmp(first, second) == 0);
		free(first);
		free(second);
	}
	pk_conf_fini(options, N, &v);
	return 0;
}
