#pragma once

#include "fw/parse.h"
#include "fw/path.h"
#include "fw/port.h"

/*
 * The lcores: each polls its share of the queues and runs one packet path over what comes in.
 *
 * Rules are published, never locked: fw_workers_publish() swaps one pointer and waits until every
 * lcore has passed the end of a loop, at which it holds nothing.  From then on no packet is judged
 * by the older generation, and the older one may be freed.
 */
struct fw_wire {
	struct fw_port port[FW_SIDE_COUNT];
	struct fw_port tls; /* to picket-tlsd, if the path's conf.tls says that the wire has one */
};

/* Whether lcores spread the packets of ports that cannot. */
enum fw_software_rss {
	FW_SOFTWARE_RSS_AUTO = 0, /* if lcores would have nothing to do otherwise */
	FW_SOFTWARE_RSS_NO,
	FW_SOFTWARE_RSS_YES,
};

struct fw_workers_conf {
	const struct fw_wire *wires; /* borrowed while the workers run */
	uint16_t nb_wires;
	struct fw_path_conf path;   /* nb_sessions is for all lcores together; trace is ignored */
	int software_rss;           /* enum fw_software_rss */
	uint64_t idle_sleep_max_ns; /* longest sleep of an idle lcore; 0: it never sleeps */
	uint32_t trace_records;     /* per lcore */
	/* Where sessions outlive us (fw/keep.h), under which name, and whether also as records; NULL: they
	 * do not. */
	const char *session_dir, *run_dir, *instance;
	bool session_records;
};

struct fw_workers;

/*
 * One path per worker lcore of the DPDK environment, started.  Wires whose ports have a queue for
 * every lcore are served by all of them.  The others are dealt out one by one; and if there are fewer of them
 * than lcores, or if that is wanted, port by port, and each lcore spreads over all what it polls (fw/steer.h).
 * Context: control thread.  Returns 0 or negative errno with *diag.
 */
int fw_workers_start(
    struct fw_workers **out, const struct fw_workers_conf *conf, struct pk_diag *diag);
void fw_workers_stop(struct fw_workers *w); /* waits for the lcores; NULL is allowed */

/*
 * Make `rules` (taken) the generation in force, and free the one before.  Returns when no lcore
 * judges by the older one any more: within one burst, or one idle sleep.
 * Context: control thread.
 */
void fw_workers_publish(struct fw_workers *w, struct fw_rules *rules);

/* Return when each lcore has been at the end of a loop, where it holds nothing.  Context: control thread. */
void fw_workers_wait(struct fw_workers *w);

/* A worker that has a queue of that port.  Context: any. */
unsigned int fw_workers_sender(const struct fw_workers *w, uint16_t wire, enum fw_side side);
/* Look at the clock on the wall, for rules with a schedule: once a second.  Context: control thread. */
void fw_workers_wall(struct fw_workers *w);

/*
 * The host is attested for another `lease_ns`; 0: it is not.  Returns when no packet is judged otherwise
 * any more.  Context: control thread.
 */
void fw_workers_posture(struct fw_workers *w, uint64_t lease_ns);
uint64_t fw_workers_lease_ns(const struct fw_workers *w); /* what is left of it */

/* The generation in force, or NULL.  Context: control thread. */
const struct fw_rules *fw_workers_rules(const struct fw_workers *w);

unsigned int fw_workers_count(const struct fw_workers *w);
const struct fw_path *fw_workers_path(const struct fw_workers *w, unsigned int i);
struct fw_trace *fw_workers_trace(const struct fw_workers *w, unsigned int i);

/*
 * Work for an lcore to do on its own path, since nobody else may write there: a bounded slice in each loop, so
 * that no packet waits for long.  An lcore has one at a time.
 */
struct fw_job {
	/* Do some; true when all is done.  *made is empty.  Context: the lcore. */
	bool (*slice)(struct fw_job *job, struct fw_path *p, const struct fw_rules *rules,
	    uint64_t now_ns, struct fw_made *made);
	_Atomic bool busy; /* the lcore has it */
};

/* Hand `job` to lcore i; it is the lcore's until !job->busy.  Returns 0, or -EBUSY: it has another one.
 * Context: control thread. */
int fw_workers_post(struct fw_workers *w, unsigned int i, struct fw_job *job);

/* The lcore that has the session of pk->key, for IPv6 with pk->addr; -1: there is no such wire.  Context: any. */
int fw_workers_owner(const struct fw_workers *w, const struct fw_pkt *pk);

struct fw_worker_stats {
	unsigned int lcore;
	uint64_t loops, idle_loops, sleeps;
	uint64_t busy_cycles;             /* spent in loops that found packets */
	uint64_t packets;                 /* judged here */
	uint64_t handed_over, taken_over; /* to other lcores, from them: to be judged */
};

void fw_workers_stats(const struct fw_workers *w, unsigned int i, struct fw_worker_stats *out);

/* Clock of the lcores: what they call now_ns.  Context: any. */
uint64_t fw_workers_now_ns(void);
