#include "policy/agent/grants.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "lib/control.h"
#include "lib/grant.h"
#include "lib/helper.h"
#include "lib/local.h"
#include "lib/log.h"

#define USERS_MAX 8
#define NAME_MAX_ 128 /* of a DPU, with a newline */

struct user {
	struct agent_grants *all;
	int fd; /* -1: free place */
	struct event *readable;
	char program[PK_GRANT_PROGRAM_MAX]; /* "": has not said yet */
};

struct agent_grants {
	struct event_base *base;
	struct pk_helper *helper;
	struct pk_listener *listener;
	char file[PATH_MAX];
	char dpu[NAME_MAX_];
	struct pk_secret set;  /* in force; empty: none is known */
	struct pk_secret part; /* what is coming; have of part.len */
	size_t have;
	struct user user[USERS_MAX];
};

/* ---- for programs ---- */

struct mine {
	const char *program;
	struct pk_grant *at;
	size_t nb;
};

static void
count(void *arg, const struct pk_grant *g)
{
	struct mine *m = arg;

	m->nb += strcmp(g->program, m->program) == 0;
}

static void
collect(void *arg, const struct pk_grant *g)
{
	struct mine *m = arg;

	if (strcmp(g->program, m->program) == 0)
		m->at[m->nb++] = *g;
}

/* Those of one program as a sealed memory file.  Returns its descriptor or negative errno; *nb is their number. */
static int
seal(const struct agent_grants *g, const char *program, size_t *nb)
{
	struct mine m = { .program = program };
	struct pk_secret packed = { 0 };
	struct pk_diag diag;
	int fd = -1, err = pk_grants_parse(g->set.bytes, g->set.len, count, &m, &diag);

	m.at = err == 0 ? calloc(m.nb + 1, sizeof(m.at[0])) : NULL;
	if (m.at == NULL)
		return err != 0 ? err : -ENOMEM;
	m.nb = 0;
	(void)pk_grants_parse(g->set.bytes, g->set.len, collect, &m, &diag);
	*nb = m.nb;
	err = pk_grants_pack(&packed, m.at, m.nb);
	free(m.at);
	if (err == 0) {
		fd = memfd_create("picket-grants", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		if (fd < 0 || write(fd, packed.bytes, packed.len) != (ssize_t)packed.len ||
		    fcntl(fd, F_ADD_SEALS,
		        F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0) {
			err = -errno;
			if (fd >= 0)
				close(fd);
		}
	}
	pk_secret_fini(&packed);
	return err == 0 ? fd : err;
}

static void
hang_up(struct user *u, const char *why)
{
	pk_info("grants: connection of %s ended: %s",
	    u->program[0] != '\0' ? u->program : "a program", why);
	event_free(u->readable);
	close(u->fd);
	u->fd = -1;
	u->program[0] = '\0';
}

/* Who does not read is cut off, comes back, and is told then what is in force then. */
static void
tell(struct user *u)
{
	static const uint8_t version[4] = { 0, 0, 0, PK_GRANT_WIRE_VERSION };
	size_t nb = 0;
	ssize_t n;
	int fd;

	if (u->all->set.len == 0)
		return;
	fd = seal(u->all, u->program, &nb);
	n = fd >= 0 ? pk_local_send(u->fd, version, sizeof(version), fd) : fd;
	if (fd >= 0)
		close(fd);
	if (n < 0) {
		hang_up(u, strerror((int)-n));
		return;
	}
	pk_info("grants: %zu for %s", nb, u->program);
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct user *u = arg;
	char said[PK_GRANT_PROGRAM_MAX];
	int with;
	ssize_t n = pk_local_recv(fd, said, sizeof(said), &with);

	(void)what;
	if (with >= 0)
		close(with);
	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0) {
		hang_up(u, n == 0 ? "closed" : strerror((int)-n));
		return;
	}
	if (u->program[0] != '\0' || n < 2 || memchr(said, 0, (size_t)n) != said + n - 1) {
		hang_up(u, "it does not speak our protocol");
		return;
	}
	memcpy(u->program, said, (size_t)n);
	tell(u);
}

static void
on_accept(void *arg, int fd)
{
	struct agent_grants *g = arg;

	for (size_t i = 0; i < USERS_MAX; i++) {
		struct user *u = &g->user[i];

		if (u->fd >= 0)
			continue;
		u->fd = fd;
		u->readable = event_new(g->base, fd, EV_READ | EV_PERSIST, on_readable, u);
		PK_ASSERT(u->readable != NULL && event_add(u->readable, NULL) == 0);
		return;
	}
	pk_warn("grants: more than %d programs at a time: one is turned away", USERS_MAX);
	close(fd);
}

/* ---- the disk ---- */

struct save_job {
	struct pk_job job;
	char file[PATH_MAX], dpu[NAME_MAX_];
	struct pk_secret set;
	int err;
};

static void
save_work(struct pk_job *job)
{
	struct save_job *s = (struct save_job *)job;
	char beside[PATH_MAX + 8];
	size_t len = strlen(s->dpu);
	int fd;

	snprintf(beside, sizeof(beside), "%s.new", s->file);
	fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || write(fd, s->dpu, len) != (ssize_t)len ||
	    write(fd, s->set.bytes, s->set.len) != (ssize_t)s->set.len || fsync(fd) != 0)
		s->err = errno != 0 ? -errno : -EIO;
	if (fd >= 0)
		close(fd);
	if (s->err == 0 && rename(beside, s->file) != 0)
		s->err = -errno;
}

static void
save_done(struct pk_job *job)
{
	struct save_job *s = (struct save_job *)job;

	if (s->err != 0)
		pk_error(
		    "%s: not saved: %s; after a restart the server is needed for what is in it",
		    s->file, strerror(-s->err));
	pk_secret_fini(&s->set);
	free(s);
}

static void
save(struct agent_grants *g)
{
	struct save_job *s = calloc(1, sizeof(*s));

	if (s == NULL || pk_secret_init(&s->set, g->set.bytes, g->set.len) != 0) {
		free(s);
		pk_error("%s: not saved: no memory", g->file);
		return;
	}
	s->job.work = save_work;
	s->job.done = save_done;
	strcpy(s->file, g->file);
	strcpy(s->dpu, g->dpu);
	pk_helper_give(g->helper, &s->job);
}

/* What is on disk, if it is ours and whole. */
static void
load(struct agent_grants *g)
{
	struct pk_secret all = { 0 };
	size_t name = strlen(g->dpu);
	struct pk_diag diag = { "it is of another DPU, or too long" };
	struct stat st;
	int fd = open(g->file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), err = -EPROTO;

	if (fd < 0) {
		if (errno != ENOENT)
			pk_error("%s: %s", g->file, strerror(errno));
		return;
	}
	if (fstat(fd, &st) == 0 && st.st_size > (off_t)name &&
	    st.st_size <= (off_t)(PK_GRANTS_MAX + name) &&
	    pk_secret_reserve(&all, (size_t)st.st_size) == 0 &&
	    read(fd, all.bytes, all.len) == (ssize_t)all.len &&
	    memcmp(all.bytes, g->dpu, name) == 0)
		err = pk_grants_parse(all.bytes + name, all.len - name, NULL, NULL, &diag);
	close(fd);
	if (err == 0 && pk_secret_init(&g->set, all.bytes + name, all.len - name) != 0)
		pk_diag_set(&diag, "no memory");
	if (g->set.len == 0)
		pk_warn("%s: not used: %s", g->file, diag.text);
	pk_secret_fini(&all);
}

/* ---- from the server ---- */

void
agent_grants_part(struct agent_grants *g, const Picket__V1__Grants *m)
{
	struct pk_diag diag = { "a part is missing, or too long" };

	if (m->offset == 0) {
		pk_secret_fini(&g->part);
		g->have = 0;
		if (m->size <= PK_GRANTS_MAX)
			(void)pk_secret_reserve(&g->part, m->size);
	}
	if (m->size != g->part.len || m->offset != g->have || m->set.len > g->part.len - g->have) {
		pk_error("grants not taken: %s", diag.text);
		return;
	}
	memcpy(g->part.bytes + g->have, m->set.data, m->set.len);
	g->have += m->set.len;
	if (g->have < g->part.len)
		return;
	if (pk_grants_parse(g->part.bytes, g->part.len, NULL, NULL, &diag) != 0) {
		pk_error("grants not taken: %s", diag.text);
	} else if (!pk_secret_equal(&g->part, &g->set)) {
		pk_secret_fini(&g->set);
		g->set = g->part;
		g->part = (struct pk_secret){ 0 };
		save(g);
		for (size_t i = 0; i < USERS_MAX; i++)
			if (g->user[i].fd >= 0 && g->user[i].program[0] != '\0')
				tell(&g->user[i]);
	}
	pk_secret_fini(&g->part);
	g->have = 0;
}

/* ---- beginning and end ---- */

int
agent_grants_create(struct agent_grants **out, struct event_base *base, const char *path,
    const char *file, const char *dpu, struct pk_helper *helper, struct pk_diag *diag)
{
	struct agent_grants *g = calloc(1, sizeof(*g));
	int err;

	if (g == NULL) {
		pk_diag_set(diag, "no memory to start with");
		return -ENOMEM;
	}
	g->base = base;
	g->helper = helper;
	snprintf(g->file, sizeof(g->file), "%s", file);
	snprintf(g->dpu, sizeof(g->dpu), "%.126s\n", dpu);
	for (size_t i = 0; i < USERS_MAX; i++)
		g->user[i] = (struct user){ .all = g, .fd = -1 };
	load(g);
	err = pk_listener_create(&g->listener, base, path, SOCK_SEQPACKET, on_accept, g, diag);
	if (err != 0) {
		agent_grants_destroy(g);
		return err;
	}
	*out = g;
	return 0;
}

void
agent_grants_destroy(struct agent_grants *g)
{
	if (g == NULL)
		return;
	for (size_t i = 0; i < USERS_MAX; i++)
		if (g->user[i].fd >= 0)
			hang_up(&g->user[i], "stopping");
	pk_listener_destroy(g->listener);
	pk_secret_fini(&g->set);
	pk_secret_fini(&g->part);
	free(g);
}

static void
show_one(void *arg, const struct pk_grant *g)
{
	char program[64], name[PK_GRANT_NAME_MAX * 2], settings[PK_GRANT_SETTINGS_MAX * 2];

	pk_control_rowf(arg, "{\"program\":%s,\"name\":%s,\"settings\":%s,\"secret\":%s}",
	    pk_json_string(g->program, program, sizeof(program)),
	    pk_json_string(g->name, name, sizeof(name)),
	    pk_json_string(g->settings, settings, sizeof(settings)),
	    g->secret_len != 0 ? "true" : "false");
}

void
agent_grants_show(const struct agent_grants *g, struct pk_control_request *r)
{
	struct pk_diag diag;

	if (g->set.len != 0)
		(void)pk_grants_parse(g->set.bytes, g->set.len, show_one, r, &diag);
}
