/* Captures for `picketctl replay`: whatever the file holds, packets lie inside it. */
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ctl/pcapng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static volatile uint8_t sum;
	struct ctl_capture *c;
	struct ctl_packet p;
	struct pk_diag diag;
	char path[64];
	int fd = memfd_create("capture", 0);

	if (fd < 0 || write(fd, data, len) != (ssize_t)len) {
		close(fd);
		return 0;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (ctl_capture_open(&c, path, &diag) == 0) {
		while (ctl_capture_next(c, &p, &diag) > 0)
			for (uint32_t i = 0; i < p.len; i++)
				sum = (uint8_t)(sum + p.bytes[i]);
		ctl_capture_close(c);
	}
	close(fd);
	return 0;
}
