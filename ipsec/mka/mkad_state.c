#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ipsec/mka/mkad_priv.h"

/* A file of this and no more.  It is believed only as far as picketd's associations say the same. */
struct file {
	uint64_t epoch;
	struct mka_saved saved;
};

static void
path_of(const struct mkad_port *p, char *path, size_t size, const char *suffix)
{
	snprintf(path, size, "%s/wire%u.mka%s", p->d->conf->state_dir, p->wire, suffix);
}

void
mkad_state_save(struct mkad_port *p, bool going)
{
	struct file f = { .epoch = p->d->epoch };
	struct mka_saved same;
	char path[512], fresh[512];
	int fd;

	if (p->kay == NULL || !mka_kay_save(p->kay, &f.saved))
		return;
	/* Message numbers alone have some time: more are set aside than are used in it. */
	same = f.saved;
	same.mn = p->saved.mn;
	for (unsigned int i = 0; i < same.nb_peers && i < p->saved.nb_peers; i++)
		same.peer[i].mn = p->saved.peer[i].mn;
	if (!going && memcmp(&same, &p->saved, sizeof(same)) == 0 && f.saved.mn - p->saved.mn < 512)
		return;
	path_of(p, path, sizeof(path), "");
	path_of(p, fresh, sizeof(fresh), ".new");
	fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, &f, sizeof(f)) != (ssize_t)sizeof(f) || rename(fresh, path) < 0)
		pk_warn("%s: cannot be written: %s; a restart will make a new key", fresh,
		    strerror(errno));
	else
		p->saved = f.saved;
	if (fd >= 0)
		close(fd);
}

bool
mkad_state_load(const struct mkad_port *p, struct mka_saved *out)
{
	struct file f, more;
	char path[512];
	bool ok;
	int fd;

	path_of(p, path, sizeof(path), "");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ok = read(fd, &f, sizeof(f)) == (ssize_t)sizeof(f) && read(fd, &more, 1) == 0 &&
	    f.epoch == p->d->epoch;
	close(fd);
	if (ok)
		*out = f.saved;
	return ok;
}
