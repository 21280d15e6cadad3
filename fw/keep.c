#include "fw/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_lcore.h>

#include "fw/hand_over.h"
#include "fw/record_file.h"
#include "fw/session_mem.h"
#include "lib/clock.h"
#include "lib/log.h"

struct fw_keep {
	struct fw_keep_conf conf;
	bool readable; /* there was a table to take sessions from */
	struct fw_session_mem *mem[RTE_MAX_LCORE];
};

struct tally {
	uint32_t done, left_out;
	uint32_t result[FW_INSTALL_COUNT];
};

static void
table_path(const struct fw_keep *k, unsigned int i, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/picket-%s.%u.table", k->conf.dir, k->conf.instance, i);
}

static void
records_path(const struct fw_keep *k, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/picket-%s.records",
	    fw_session_mem_is_huge(k->mem[0]) ? k->conf.records_dir : k->conf.dir,
	    k->conf.instance);
}

int
fw_keep_open(struct fw_keep **out, const struct fw_keep_conf *conf, struct pk_diag *diag)
{
	struct fw_keep *k = calloc(1, sizeof(*k));
	char path[PATH_MAX], old[PATH_MAX + 8];
	int rc = 0;

	if (k == NULL)
		return -ENOMEM;
	PK_ASSERT(conf->count > 0 && conf->count <= RTE_MAX_LCORE);
	k->conf = *conf;
	if (strchr(conf->instance, '/') != NULL ||
	    strlen(conf->dir) + strlen(conf->instance) > 400) {
		pk_diag_set(diag,
		    "instance %.64s: files are named after it, so want no \"/\" and fewer letters",
		    conf->instance);
		rc = -EINVAL;
	}
	for (uint16_t i = 0; rc == 0 && i < conf->count; i++) {
		struct fw_session_mem_conf mem = {
			.path = path,
			.capacity = conf->nb_sessions,
			.index = i,
			.count = conf->count,
			.seed = { conf->seed[0], conf->seed[1] },
			.hz = conf->hz,
		};
		enum fw_session_mem_found found;

		table_path(k, i, path);
		rc = fw_session_mem_open(&k->mem[i], &mem, &found, diag);
		k->readable |= found != FW_SESSION_MEM_NONE;
	}
	/* Those of lcores that there are no more. */
	for (unsigned int i = conf->count; rc == 0 && i < RTE_MAX_LCORE; i++) {
		table_path(k, i, path);
		snprintf(old, sizeof(old), "%s.old", path);
		if (rename(path, old) == 0)
			k->readable = true;
	}
	if (rc < 0) {
		fw_keep_close(k, false);
		return rc;
	}
	*out = k;
	return 0;
}

struct fw_session_mem *
fw_keep_mem(struct fw_keep *k, uint16_t i)
{
	return k->mem[i];
}

void
fw_keep_seed(const struct fw_keep *k, uint64_t seed[2])
{
	fw_session_mem_seed(k->mem[0], seed);
}

/* By how much our clock is ahead of the one with `hz`. */
static int64_t
ahead(const struct fw_keep *k, uint64_t hz, uint64_t now_ns)
{
	uint64_t ours, theirs;

	if (k->conf.clock == NULL || hz == 0 || hz == k->conf.hz)
		return 0;
	theirs = k->conf.clock(hz);
	ours = k->conf.clock(k->conf.hz);
	(void)now_ns;
	return (int64_t)(ours - theirs);
}

/* Put a record where its packets will come. */
static void
install(struct fw_keep *k, struct fw_path *const *paths, const struct fw_record *r, uint64_t now_ns,
    struct tally *t)
{
	enum fw_install result = FW_INSTALL_FAULTY;
	enum fw_drop why;
	struct fw_pkt pk;
	int owner = -1;

	if (r->wire < FW_WIRES_MAX) {
		fw_record_key(r, r->wire, &pk);
		owner = k->conf.owner(k->conf.arg, &pk);
	}
	if (owner >= 0)
		result = fw_path_install(paths[owner], NULL, r, now_ns, &why);
	t->result[result]++;
}

/* Sessions of path i that belong to another lcore: other wires are spread, or in another manner. */
static uint32_t
move_misplaced(struct fw_keep *k, struct fw_path *const *paths, unsigned int i, uint64_t now_ns)
{
	struct fw_path *p = paths[i];
	struct fw_sessions *t = &p->sessions;
	uint32_t fresh = t->fresh, moved = 0;

	for (uint32_t s = 0; s < fresh; s++) {
		struct fw_pkt pk;
		struct fw_record r;
		enum fw_drop why;
		int owner;

		if (t->version[s] % 2 == 0)
			continue;
		pk.key = t->hot[s].key;
		memcpy(pk.addr, t->cold[s].addr, sizeof(pk.addr));
		owner = k->conf.owner(k->conf.arg, &pk);
		if (owner < 0 || owner == (int)i || !fw_path_record(p, s, now_ns, &r))
			continue;
		if (fw_path_install(paths[owner], NULL, &r, now_ns, &why) == FW_INSTALL_DONE)
			moved++;
		/* It has not ended: whoever logs ends has nothing to hear. */
		t->hot[s].flags &= (uint8_t)~FW_SESSION_LOG_END;
		pk_counter_add(&p->stats.sessions_ended, 1);
		fw_session_end(p, s, now_ns, FW_DROP_NONE);
	}
	return moved;
}

static void
log_tally(const char *what, const struct tally *t, uint64_t start_ns)
{
	uint32_t others = 0;

	for (unsigned int i = FW_INSTALL_REFUSED; i < FW_INSTALL_COUNT; i++)
		others += t->result[i];
	pk_notice("sessions: %u taken over from %s, %u left out (%u for want of room), in %.3f s",
	    t->result[FW_INSTALL_DONE], what, others + t->left_out, t->result[FW_INSTALL_FULL],
	    (double)(pk_clock_mono_ns() - start_ns) / 1e9);
}

/* Read a table of another size out, record by record. */
static void
read_old(struct fw_keep *k, struct fw_path *const *paths, unsigned int i, uint64_t now_ns)
{
	uint64_t start = pk_clock_mono_ns();
	char path[PATH_MAX], old[PATH_MAX + 8];
	struct fw_session_mem *m;
	struct fw_path *from;
	struct tally t = { 0 };

	table_path(k, i, path);
	snprintf(old, sizeof(old), "%s.old", path);
	if (fw_session_mem_open_old(&m, path) < 0) {
		unlink(old);
		return;
	}
	/* As much of a path as reading takes: a table, link headers, timeouts. */
	from = calloc(1, sizeof(*from));
	if (from != NULL && fw_session_mem_lay_out(m, &from->sessions) == 0) {
		int64_t ahead_ns = ahead(k, fw_session_mem_hz(m), now_ns);

		from->ethers.ether = fw_session_mem_ethers(m);
		memcpy(from->timeout, paths[0]->timeout, sizeof(from->timeout));
		for (uint32_t s = 0; s < from->sessions.capacity; s++) {
			struct fw_record r;

			if (from->sessions.version[s] % 2 == 0)
				continue;
			if (fw_path_record(from, s, now_ns - (uint64_t)ahead_ns, &r) &&
			    fw_record_fault(&r) == NULL)
				install(k, paths, &r, now_ns, &t);
			else
				t.left_out++;
		}
	}
	free(from);
	fw_session_mem_close(m, false);
	unlink(old);
	log_tally("a table of another size", &t, start);
}

struct reading {
	struct fw_keep *k;
	struct fw_path *const *paths;
	uint64_t now_ns, elapsed_ms;
	struct tally tally;
};

static void
take_record(void *arg, struct fw_record *r)
{
	struct reading *g = arg;

	if (r->left_ms <= g->elapsed_ms) {
		g->tally.left_out++;
		return;
	}
	r->left_ms -= g->elapsed_ms;
	r->idle_ms += g->elapsed_ms;
	r->age_ms += g->elapsed_ms;
	install(g->k, g->paths, r, g->now_ns, &g->tally);
}

static void
read_records(struct fw_keep *k, struct fw_path *const *paths, uint64_t now_ns)
{
	struct reading g = { .k = k, .paths = paths, .now_ns = now_ns };
	uint64_t start = pk_clock_mono_ns(), wall = pk_clock_wall_ns(), written;
	char path[PATH_MAX];
	struct pk_diag diag;
	struct stat st;
	int fd;

	records_path(k, path);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return;
	if (!k->readable && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
	    (st.st_mode & 077) == 0) {
		written = (uint64_t)st.st_mtim.tv_sec * PK_NS_PER_S + (uint64_t)st.st_mtim.tv_nsec;
		g.elapsed_ms = wall > written ? (wall - written) / PK_NS_PER_MS : 0;
		if (fw_record_file_read(fd, take_record, &g, &g.tally.left_out, &diag) < 0)
			pk_warn("%s: %s", path, diag.text);
		log_tally("the records of the last stop", &g.tally, start);
	}
	close(fd);
	unlink(path);
}

void
fw_keep_restore(struct fw_keep *k, struct fw_path *const *paths, uint64_t now_ns)
{
	uint64_t start = pk_clock_mono_ns();
	uint32_t nb = 0, refused = 0, moved = 0;
	bool clean = true, kept = false;

	for (uint16_t i = 0; i < k->conf.count; i++) {
		const struct fw_session_mem *m = k->mem[i];
		uint32_t faulty;

		if (fw_session_mem_found(m) != FW_SESSION_MEM_KEPT)
			continue;
		kept = true;
		clean &= fw_session_mem_was_clean(m);
		nb += fw_path_restore(
		    paths[i], now_ns, ahead(k, fw_session_mem_hz(m), now_ns), &faulty);
		refused += faulty;
	}
	for (uint16_t i = 0; kept && k->conf.count > 1 && i < k->conf.count; i++)
		moved += move_misplaced(k, paths, i, now_ns);
	if (moved != 0)
		pk_notice(
		    "sessions: %u belong to another lcore than before, and were moved", moved);
	if (kept)
		pk_notice("sessions: %u taken over after %s, %u left out as faulty, in %.3f s", nb,
		    clean ? "a clean stop" : "a crash", refused,
		    (double)(pk_clock_mono_ns() - start) / 1e9);
	for (unsigned int i = 0; i < RTE_MAX_LCORE; i++)
		read_old(k, paths, i, now_ns);
	read_records(k, paths, now_ns);
}

void
fw_keep_save(struct fw_keep *k, struct fw_path *const *paths, uint64_t now_ns)
{
	uint64_t start = pk_clock_mono_ns(), nb = 0;
	struct fw_record_file *f;
	char path[PATH_MAX];
	struct pk_diag diag;
	int fd, rc;

	if (k == NULL || !k->conf.records)
		return;
	records_path(k, path);
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || fw_record_file_begin(&f, fd) < 0) {
		pk_warn("%s: sessions cannot be written: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return;
	}
	for (uint16_t i = 0; i < k->conf.count; i++) {
		for (uint32_t s = 0; s < paths[i]->sessions.fresh; s++) {
			struct fw_record r;

			if (fw_path_record(paths[i], s, now_ns, &r)) {
				fw_record_file_add(f, &r);
				nb++;
			}
		}
	}
	rc = fw_record_file_end(f, &diag);
	close(fd);
	if (rc < 0) {
		pk_warn("%s: %s", path, diag.text);
		unlink(path);
	} else {
		pk_notice("sessions: %llu written as records, in %.3f s", (unsigned long long)nb,
		    (double)(pk_clock_mono_ns() - start) / 1e9);
	}
}

void
fw_keep_close(struct fw_keep *k, bool clean)
{
	if (k == NULL)
		return;
	for (unsigned int i = 0; i < RTE_MAX_LCORE; i++)
		fw_session_mem_close(k->mem[i], clean);
	free(k);
}
