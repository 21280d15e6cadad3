#include "fw/kept_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_TRIES 400 /* of 5 ms: a killed process with much memory takes a while to go */

void
fw_kept_boot_id(uint8_t out[FW_BOOT_ID])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memset(out, 0, FW_BOOT_ID);
	if (fd < 0 || read(fd, out, FW_BOOT_ID) != FW_BOOT_ID)
		memset(out, 0, FW_BOOT_ID);
	if (fd >= 0)
		close(fd);
}

int
fw_kept_open(const char *path, bool create, int *out, struct pk_diag *diag)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0600),
	    tries = 0;
	struct stat st;

	if (fd < 0) {
		pk_diag_set(diag, "%s: cannot be opened: %s", path, strerror(errno));
		return -errno;
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
	    (st.st_mode & 077) != 0 || st.st_nlink != 1) {
		pk_diag_set(diag, "%s: want a file of our own with mode 0600, or none", path);
		close(fd);
		return -EPERM;
	}
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (++tries < LOCK_TRIES) {
			usleep(5000);
			continue;
		}
		pk_diag_set(diag, "%s: another picketd is at work on it", path);
		close(fd);
		return -EBUSY;
	}
	*out = fd;
	return 0;
}
