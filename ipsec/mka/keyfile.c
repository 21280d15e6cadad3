#include "ipsec/mka/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/hex.h"
#include "lib/secret.h"

#define FILE_MAX 4096

static int
read_line(const char *line, size_t len, struct mka_cak *out)
{
	static const char blank[] = " \t\r";
	char text[256];
	const char *ckn, *cak;
	size_t ckn_len, cak_len;
	int a, b;

	if (len >= sizeof(text))
		return -1;
	memcpy(text, line, len);
	text[len] = '\0';
	text[strcspn(text, "#")] = '\0';
	ckn = text + strspn(text, blank);
	ckn_len = strcspn(ckn, blank);
	cak = ckn + ckn_len + strspn(ckn + ckn_len, blank);
	cak_len = strcspn(cak, blank);
	if (ckn_len == 0)
		return 0;
	a = pk_unhex(ckn, ckn_len, out->ckn, sizeof(out->ckn));
	b = pk_unhex(cak, cak_len, out->cak, sizeof(out->cak));
	len = strlen(cak + cak_len + strspn(cak + cak_len, blank));
	pk_wipe(text, sizeof(text));
	if (a <= 0 || (b != 16 && b != 32) || len != 0)
		return -1;
	out->ckn_len = (uint8_t)a;
	out->cak_len = (uint8_t)b;
	return 1;
}

int
mka_keyfile_read(const char *path, struct mka_cak out[MKA_PARTICIPANTS_MAX], struct pk_diag *diag)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY), nb = 0, line = 0;
	char bytes[FILE_MAX];
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0) {
		int rc = -errno;

		pk_diag_set(diag, "%s: cannot be read: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return rc;
	}
	if (!S_ISREG(st.st_mode) || (st.st_mode & 077) != 0) {
		pk_diag_set(diag, "%s: want a file that only its owner may read (chmod 600)", path);
		close(fd);
		return -EACCES;
	}
	n = read(fd, bytes, sizeof(bytes));
	close(fd);
	if (n < 0 || n == (ssize_t)sizeof(bytes)) {
		pk_diag_set(diag, "%s: want at most %d bytes", path, FILE_MAX - 1);
		pk_wipe(bytes, sizeof(bytes));
		return -EINVAL;
	}
	for (ssize_t at = 0; at < n && nb >= 0; line++) {
		const char *end = memchr(bytes + at, '\n', (size_t)(n - at));
		size_t len = end != NULL ? (size_t)(end - (bytes + at)) : (size_t)(n - at);
		struct mka_cak one = { .cak_len = 0 };
		int got = read_line(bytes + at, len, &one);

		if (got < 0 || (got > 0 && nb == MKA_PARTICIPANTS_MAX)) {
			pk_diag_at(diag, path, (unsigned int)line + 1, 0,
			    "want a CKN of 1 to %d octets and a CAK of 16 or 32, both in hexadecimal, in at most %d lines",
			    MKA_CKN_MAX, MKA_PARTICIPANTS_MAX);
			nb = -EINVAL;
			break;
		}
		if (got > 0)
			out[nb++] = one;
		pk_wipe(&one, sizeof(one));
		at += (ssize_t)len + 1;
	}
	pk_wipe(bytes, sizeof(bytes));
	if (nb == 0) {
		pk_diag_set(diag, "%s: has no CAK", path);
		return -EINVAL;
	}
	return nb;
}
