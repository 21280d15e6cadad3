#include "policy/server/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/grant.h"
#include "lib/hex.h"
#include "policy/schema.h"

#define LINE_MAX_BYTES (2 * PK_GRANT_SECRET_MAX + 4) /* with "0x" and an end of line */

static int
decode(struct pk_secret *out, char *line, size_t len, enum policy_secret_form form,
    const char *path, struct pk_diag *diag)
{
	uint8_t bytes[PK_GRANT_SECRET_MAX];
	int n;

	if (len > 0 && line[len - 1] == '\n')
		len--;
	if (len > 0 && line[len - 1] == '\r')
		len--;
	if (memchr(line, '\n', len) != NULL || memchr(line, 0, len) != NULL) {
		pk_diag_set(diag, "%s: want one line", path);
		return -EINVAL;
	}
	if (form == POLICY_SECRET_CAK) {
		n = pk_unhex(line, len, bytes, sizeof(bytes));
		if (n != 16 && n != 32) {
			pk_diag_set(diag, "%s: want a CAK of 16 or 32 octets in hexadecimal", path);
			n = -EINVAL;
		}
	} else if (len > 2 && line[0] == '0' && line[1] == 'x') {
		n = pk_unhex(line + 2, len - 2, bytes, sizeof(bytes));
	} else {
		n = len <= sizeof(bytes) ? (int)len : 0;
		memcpy(bytes, line, (size_t)n);
	}
	if (form == POLICY_SECRET_PSK && n <= 0) {
		pk_diag_set(diag, "%s: want 1 to %d octets, as text or in hexadecimal behind 0x",
		    path, PK_GRANT_SECRET_MAX);
		n = -EINVAL;
	}
	n = n > 0 ? pk_secret_init(out, bytes, (size_t)n) : n;
	pk_wipe(bytes, sizeof(bytes));
	return n;
}

int
server_secret_read(struct pk_secret *out, const char *dir, const char *name,
    enum policy_secret_form form, struct pk_diag *diag)
{
	char path[PATH_MAX], line[LINE_MAX_BYTES + 1];
	struct stat st;
	ssize_t n;
	int fd, rc;

	PK_ASSERT(policy_name_ok(name)); /* no way out of the directory */
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0) {
		rc = -errno;
		pk_diag_set(diag, "%s: cannot be read: %s", path, strerror(-rc));
		if (fd >= 0)
			close(fd);
		return rc;
	}
	if (!S_ISREG(st.st_mode) || (st.st_mode & 077) != 0) {
		pk_diag_set(diag, "%s: want a file that only its owner may read (chmod 600)", path);
		close(fd);
		return -EACCES;
	}
	n = read(fd, line, sizeof(line));
	close(fd);
	if (n < 0 || n == (ssize_t)sizeof(line)) {
		pk_diag_set(diag, "%s: want one line of at most %d bytes", path, LINE_MAX_BYTES);
		rc = -EINVAL;
	} else {
		rc = decode(out, line, (size_t)n, form, path, diag);
	}
	pk_wipe(line, sizeof(line));
	return rc;
}

int
server_secret_make(
    const char *dir, const char *name, size_t octets, const char *user, struct pk_diag *diag)
{
	const struct passwd *pw = user != NULL && geteuid() == 0 ? getpwnam(user) : NULL;
	char path[PATH_MAX], line[2 * PK_GRANT_SECRET_MAX + 2];
	struct pk_secret s = { 0 };
	int fd = -1, rc;

	if (!policy_name_ok(name)) {
		pk_diag_set(diag,
		    "\"%.64s\": want a name of letters, digits and -_. inside, at most %d", name,
		    POLICY_NAME_MAX);
		return -EINVAL;
	}
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	rc = pk_secret_random(&s, octets);
	if (rc == 0 && mkdir(dir, 0700) != 0 && errno != EEXIST)
		rc = -errno;
	if (rc == 0 && pw != NULL && chown(dir, pw->pw_uid, pw->pw_gid) != 0)
		rc = -errno;
	if (rc == 0) {
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		rc = fd < 0 ? -errno : 0;
	}
	if (rc == 0) {
		size_t len = 0;

		for (size_t i = 0; i < s.len; i++)
			len += (size_t)snprintf(line + len, sizeof(line) - len, "%02x", s.bytes[i]);
		line[len++] = '\n';
		if ((pw != NULL && fchown(fd, pw->pw_uid, pw->pw_gid) != 0) ||
		    write(fd, line, len) != (ssize_t)len || fsync(fd) != 0) {
			rc = -errno;
			(void)unlink(path);
		}
		pk_wipe(line, sizeof(line));
	}
	if (fd >= 0)
		close(fd);
	pk_secret_fini(&s);
	if (rc != 0)
		pk_diag_set(diag, "%s: %s", path,
		    rc == -EEXIST ? "exists already, and is never overwritten; choose another name"
		                  : strerror(-rc));
	return rc;
}
