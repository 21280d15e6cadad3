#pragma once

#include "fw/parse.h"
#include "fw/path.h"
#include "lib/diag.h"

/*
 * What the lcores' session tables go through when picketd ends and comes again.
 *
 *      same layout, number of lcores and sizes    taken over where they lie          (fw/session_mem.h)
 *      some sessions belong to other lcores now   these are moved, as records
 *      other number of lcores or other sizes      read out, and put into new tables as records
 *      another version's layout                   from the records that a clean stop has written
 *
 *      DIR/picket-INSTANCE.K.table                of lcore K
 *      DIR/picket-INSTANCE.K.table.old            to be read out
 *      DIR/picket-INSTANCE.records                of the last clean stop (fw/record.h); read or not, it goes
 *
 * Nothing of it passes a packet before there are rules, and all of it is asked when there are.  What cannot be
 * taken over is logged and left out: it never keeps picketd from starting.
 *
 * Context of all: control thread, while no lcore runs.
 */
struct fw_keep;

struct fw_keep_conf {
	const char *dir, *instance;
	const char *
	    records_dir; /* for the records if dir is a hugetlbfs, where nothing can be written to files */
	bool records;         /* write them at a clean stop */
	uint16_t count;       /* lcores */
	uint32_t nb_sessions; /* of each */
	uint64_t seed[2];
	uint64_t
	    hz; /* of the clock behind now_ns, and that clock for another hz; NULL: there is but one */
	uint64_t (*clock)(uint64_t hz);
	/* Which lcore a session belongs to: 0 .. count - 1, or -1 if there is no such wire.  pk->key, and for
	 * IPv6 pk->addr, are filled in. */
	int (*owner)(void *arg, const struct fw_pkt *pk);
	void *arg;
};

/* Open or make the tables.  The caller owns *out.  Returns 0 or negative errno with *diag. */
int fw_keep_open(struct fw_keep **out, const struct fw_keep_conf *conf, struct pk_diag *diag);

/* For path number k, in its fw_path_conf.  Borrowed. */
struct fw_session_mem *fw_keep_mem(struct fw_keep *k, uint16_t i);

/* What sessions are spread over lcores by: that of the process before, if its tables are taken over. */
void fw_keep_seed(const struct fw_keep *k, uint64_t seed[2]);

/* Fill the paths, which have just been made with these memories.  Says in the log what it has done. */
void fw_keep_restore(struct fw_keep *k, struct fw_path *const *paths, uint64_t now_ns);

/* At a clean stop, before the paths are destroyed.  NULL is allowed. */
void fw_keep_save(struct fw_keep *k, struct fw_path *const *paths, uint64_t now_ns);

/* After that.  `clean`: the lcores had been stopped in order.  NULL is allowed. */
void fw_keep_close(struct fw_keep *k, bool clean);
