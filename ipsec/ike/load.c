#include "ipsec/ike/load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/secret.h"
#include "policy/model.h"

#define TEXT_MAX (16 << 20)	/* bytes of all texts together */

/**
 * A text that grows
 */
typedef struct {
	char *at;
	size_t len;
} text_t;

/**
 * Append a file.  A document ends where the next file begins.
 */
static int append(text_t *text, int fd, const char *name, struct pk_diag *diag)
{
	static const char separator[] = "\n---\n";
	size_t room, got = 0;
	struct stat st;
	ssize_t n;
	char *new;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < 0 ||
		(size_t)st.st_size > TEXT_MAX - text->len)
	{
		pk_diag_set(diag, "%s: want files of at most %d bytes in all", name, TEXT_MAX);
		return -EINVAL;
	}
	room = (size_t)st.st_size;
	/* not realloc(), which would leave a copy of a secret behind */
	new = malloc(text->len + sizeof(separator) + room);
	if (!new)
	{
		pk_diag_set(diag, "%s: no memory", name);
		return -ENOMEM;
	}
	if (text->len)
	{
		memcpy(new, text->at, text->len);
		memcpy(new + text->len, separator, sizeof(separator) - 1);
		pk_wipe(text->at, text->len);
		text->len += sizeof(separator) - 1;
	}
	free(text->at);
	text->at = new;
	while (got < room && (n = pread(fd, new + text->len + got, room - got, (off_t)got)) > 0)
	{
		got += (size_t)n;
	}
	text->len += got;
	if (got < room)
	{
		pk_diag_set(diag, "%s: cannot be read: %s", name, strerror(errno));
		return -EIO;
	}
	return 0;
}

/**
 * Read the peers, and wipe the text
 */
static int parse(struct policy_ike **out, text_t *text, const char *name, struct pk_diag *diag)
{
	struct policy_findings *findings;
	int rc;

	rc = policy_findings_create(&findings);
	if (rc == 0)
	{
		rc = policy_ike_read(out, name, text->at ? text->at : "", text->len, findings);
		if (rc == -EINVAL)
		{
			policy_findings_first(findings, diag);
		}
		policy_findings_destroy(findings);
	}
	if (rc == -ENOMEM)
	{
		pk_diag_set(diag, "%s: no memory", name);
	}
	if (text->at)
	{
		pk_wipe(text->at, text->len);
	}
	free(text->at);
	return rc;
}

int load_files(struct policy_ike **out, const struct pk_conf_list *files, struct pk_diag *diag)
{
	text_t text = {};
	size_t i;
	int fd, rc = 0;

	for (i = 0; rc == 0 && i < files->nb; i++)
	{
		fd = open(files->item[i], O_RDONLY | O_CLOEXEC);
		if (fd == -1)
		{
			rc = -errno;
			pk_diag_set(diag, "%s: cannot be opened: %s", files->item[i], strerror(errno));
			break;
		}
		rc = append(&text, fd, files->item[i], diag);
		close(fd);
	}
	if (rc == 0)
	{
		return parse(out, &text, files->nb == 1 ? files->item[0] : "peers", diag);
	}
	if (text.at)
	{
		pk_wipe(text.at, text.len);
	}
	free(text.at);
	return rc;
}

int load_fd(struct policy_ike **out, int fd, struct pk_diag *diag)
{
	text_t text = {};
	int rc = append(&text, fd, "peers", diag);

	if (rc == 0)
	{
		return parse(out, &text, "peers", diag);
	}
	free(text.at);
	return rc;
}
