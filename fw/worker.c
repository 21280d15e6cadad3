#include "fw/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_rcu_qsbr.h>

#include "fw/esp.h"
#include "fw/keep.h"
#include "fw/macsec.h"
#include "fw/relay.h"
#include "fw/shared.h"
#include "fw/steer.h"
#include "fw/tls.h"
#include "fw/wall.h"
#include "lib/clock.h"
#include "lib/log.h"

#define QUEUES_MAX (FW_EXIT_COUNT * FW_WIRES_MAX)
#define IDLE_SPINS 64 /* empty polls before the first sleep */
#define TX_RETRIES 8

/* One direction of one wire on one queue. */
struct poll {
	const struct fw_port *rx;
	uint16_t queue;
	uint16_t wire;
	uint8_t from;
};

/* How packets leave by one side of a wire. */
struct exit {
	uint16_t port, queue;
	uint16_t lcore; /* number of the one that has the queue: us, or whom to hand them to */
	struct fw_macsec *macsec;
};

struct worker {
	struct fw_workers *all;
	struct fw_path *path;
	struct fw_trace *trace;
	unsigned int lcore, index;
	unsigned int nb_polls;
	struct poll polls[QUEUES_MAX];
	struct exit exits[FW_WIRES_MAX][FW_EXIT_COUNT];
	struct fw_steering *steering; /* NULL: no wire is spread */
	_Atomic(struct fw_job *) job; /* from the control thread, back to NULL when done */
	pk_counter loops PK_CACHE_ALIGNED;
	pk_counter idle_loops, sleeps, busy_cycles, packets, handed_over, taken_over;
};

struct fw_workers {
	_Atomic(struct fw_rules *) rules;
	struct fw_posture posture;
	struct fw_shared *shared;
	struct fw_wall wall;
	_Atomic int quit;
	struct rte_rcu_qsbr *qsbr;
	uint64_t idle_sleep_max_ns;
	struct fw_keep *keep; /* NULL: sessions end with us */
	bool started;         /* the lcores run, or have run */
	uint16_t nb_wires;
	struct fw_steer steer;
	struct fw_relay *relay; /* NULL: no wire is spread */
	struct fw_esp *esp;     /* NULL: no IPsec */
	struct fw_tls *tls;     /* NULL: no mutual TLS */
	unsigned int nb;
	struct worker *worker[RTE_MAX_LCORE];
};

/* TSC to nanoseconds without a division: a 64.64 fixed-point factor, exact to a part in 2^32. */
static uint64_t
factor_of(uint64_t hz)
{
	return (uint64_t)(((unsigned __int128)PK_NS_PER_S << 32) / hz);
}

uint64_t
fw_workers_now_ns(void)
{
	static uint64_t factor;

	if (unlikely(factor == 0))
		factor = factor_of(rte_get_tsc_hz());
	return (uint64_t)(((unsigned __int128)rte_rdtsc() * factor) >> 32);
}

/* The same of a process that has measured another frequency. */
static uint64_t
now_ns_by(uint64_t hz)
{
	return (uint64_t)(((unsigned __int128)rte_rdtsc() * factor_of(hz)) >> 32);
}

/* What is sent to picket-tlsd is on its way outside. */
static enum fw_side
counted(enum fw_side side)
{
	return side == FW_TLS ? FW_OUTSIDE : side;
}

/* Send on a queue of our own. */
static void
send_here(struct worker *w, const struct exit *e, enum fw_side side, struct rte_mbuf **pkts,
    unsigned int n)
{
	uint16_t sent = 0;

	if (unlikely(side == FW_TLS)) {
		static const uint8_t mac[6] = FW_TLS_MAC;

		for (unsigned int i = 0; i < n; i++)
			memcpy(rte_pktmbuf_mtod(pkts[i], uint8_t *), mac, sizeof(mac));
	}
	if (unlikely(e->macsec != NULL)) {
		n = fw_macsec_tx(e->macsec, w->path, pkts, n);
		if (n == 0)
			return;
	}
	/* Virtual ports take what fits into their ring at this moment; a few tries let the
	 * other end catch up, more would stall every other flow of this lcore. */
	for (unsigned int tries = 0; sent < n && tries < TX_RETRIES; tries++)
		sent = (uint16_t)(sent +
		    rte_eth_tx_burst(e->port, e->queue, pkts + sent, (uint16_t)(n - sent)));
	if (unlikely(sent < n)) {
		rte_pktmbuf_free_bulk(pkts + sent, n - sent);
		fw_path_not_sent(w->path, counted(side), n - sent, FW_DROP_TX_FULL);
	}
}

/* A port with MACsec: send what key agreement has to say, and receive what is for the path. */
static __rte_noinline unsigned int
receive_macsec(
    struct worker *w, const struct poll *p, struct rte_mbuf **pkts, unsigned int n, uint64_t now_ns)
{
	struct rte_mbuf *eapol[FW_BURST];
	unsigned int nb = fw_macsec_injected(p->rx->macsec, eapol, FW_BURST), sent = 0;

	if (unlikely(nb > 0))
		sent = rte_eth_tx_burst(p->rx->id, p->queue, eapol, (uint16_t)nb);
	rte_pktmbuf_free_bulk(eapol + sent, nb - sent);
	return n > 0 ? fw_macsec_rx(p->rx->macsec, w->path, pkts, n, now_ns) : 0;
}

static void
transmit(struct worker *w, uint16_t wire, struct fw_burst *out)
{
	for (unsigned int side = 0; side < FW_EXIT_COUNT; side++) {
		const struct exit *e = &w->exits[wire][side];
		unsigned int n = out->nb[side], put;

		if (n == 0)
			continue;
		if (likely(e->lcore == w->index)) {
			send_here(w, e, (enum fw_side)side, out->pkt[side], n);
			continue;
		}
		put = fw_relay_put(w->all->relay, FW_RELAY_SEND, (uint16_t)w->index, e->lcore,
		    fw_relay_mark(wire, (enum fw_side)side), out->pkt[side], n);
		if (unlikely(put < n)) {
			rte_pktmbuf_free_bulk(out->pkt[side] + put, n - put);
			fw_path_not_sent(
			    w->path, counted((enum fw_side)side), n - put, FW_DROP_TX_FULL);
		}
	}
}

static void
send_made(struct worker *w, const struct fw_made *made)
{
	for (unsigned int k = 0; k < made->nb; k++) {
		struct fw_burst out = { .nb = { 0 } };
		unsigned int side = made->pkt[k].side;

		if (made->pkt[k].wire >= w->all->nb_wires) {
			/* A session of before a restart, whose wire is no more. */
			rte_pktmbuf_free(made->pkt[k].m);
			continue;
		}
		out.pkt[side][out.nb[side]++] = made->pkt[k].m;
		transmit(w, made->pkt[k].wire, &out);
	}
}

/* What other lcores have handed over: packets to judge, and judged ones to send.  Returns how many. */
static __rte_noinline unsigned int
take_over(struct worker *w, const struct fw_rules *rules, uint64_t now_ns)
{
	struct fw_relay *relay = w->all->relay;
	struct rte_mbuf *pkts[FW_BURST], **next;
	struct fw_burst out;
	unsigned int got = 0, n, nb;

	for (uint16_t from = 0; from < w->all->nb; from++) {
		if (from == w->index)
			continue;
		n = fw_relay_take(relay, FW_RELAY_JUDGE, from, (uint16_t)w->index, pkts, FW_BURST);
		got += n;
		pk_counter_add(&w->taken_over, n);
		for (next = pkts; n > 0; next += nb, n -= nb) {
			uint16_t mark = next[0]->port;

			nb = fw_relay_group(next, n);
			fw_path_burst(w->path, rules, fw_relay_wire(mark), fw_relay_side(mark),
			    next, nb, now_ns, &out);
			transmit(w, fw_relay_wire(mark), &out);
		}
		n = fw_relay_take(relay, FW_RELAY_SEND, from, (uint16_t)w->index, pkts, FW_BURST);
		for (next = pkts; n > 0; next += nb, n -= nb) {
			uint16_t mark = next[0]->port;
			enum fw_side side = fw_relay_side(mark);

			nb = fw_relay_group(next, n);
			send_here(w, &w->exits[fw_relay_wire(mark)][side], side, next, nb);
		}
	}
	return got;
}

/* A wire with a port for TLS: pass on what is between picket-tlsd and the outside.  Returns how many are for the path. */
static __rte_noinline unsigned int
tls_frames(struct worker *w, const struct fw_rules *rules, const struct poll *p,
    struct rte_mbuf **pkts, unsigned int n, uint64_t now_ns)
{
	struct fw_burst out;

	n = p->from == FW_TLS
	    ? fw_path_tls_back(w->path, rules, p->wire, pkts, n, now_ns, &out)
	    : fw_path_tls_in(w->path, rules, p->wire, (enum fw_side)p->from, pkts, n, now_ns, &out);
	transmit(w, p->wire, &out);
	return n;
}

/* Frames of the DPU itself, from the control thread, for ports whose queues are ours. */
static __rte_noinline void
send_own(struct worker *w, struct rte_ring *down)
{
	struct rte_mbuf *pkts[FW_BURST], **next;
	unsigned int n = rte_ring_sc_dequeue_burst(down, (void **)pkts, FW_BURST, NULL), nb;
	struct fw_burst out;

	for (next = pkts; n > 0; next += nb, n -= nb) {
		uint16_t mark = next[0]->port;
		enum fw_side side = fw_relay_side(mark);

		nb = fw_relay_group(next, n);
		out.nb[FW_INSIDE] = out.nb[FW_OUTSIDE] = out.nb[FW_TLS] = 0;
		out.nb[side] = (uint16_t)nb;
		memcpy(out.pkt[side], next, nb * sizeof(next[0]));
		fw_path_count_made(w->path, nb);
		transmit(w, fw_relay_wire(mark), &out);
	}
}

static __rte_noinline void
run_job(struct worker *w, struct fw_job *job, const struct fw_rules *rules)
{
	struct fw_made made = { .nb = 0 };
	bool done = job->slice(job, w->path, rules, fw_workers_now_ns(), &made);

	send_made(w, &made);
	if (!done)
		return;
	/* From the second line on it is the control thread's, which may free it. */
	atomic_store_explicit(&w->job, NULL, memory_order_relaxed);
	atomic_store_explicit(&job->busy, false, memory_order_release);
}

static void
sleep_ns(uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / PK_NS_PER_S),
		.tv_nsec = (long)(ns % PK_NS_PER_S) };

	nanosleep(&ts, NULL);
}

static int
run(void *arg)
{
	struct worker *w = arg;
	struct fw_workers *all = w->all;
	struct rte_mbuf *pkts[FW_BURST];
	struct fw_burst out;
	struct fw_made made;
	unsigned int idle = 0;

	/* Without this a sleep of 20 us takes 70. */
	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
	rte_rcu_qsbr_thread_register(all->qsbr, w->index);
	rte_rcu_qsbr_thread_online(all->qsbr, w->index);
	while (!atomic_load_explicit(&all->quit, memory_order_relaxed)) {
		/* One generation from the start of the loop to its end. */
		const struct fw_rules *rules =
		    atomic_load_explicit(&all->rules, memory_order_acquire);
		struct fw_job *job = atomic_load_explicit(&w->job, memory_order_acquire);
		uint64_t start = rte_rdtsc(), now_ns = fw_workers_now_ns();
		unsigned int got = 0, forwarded = 0, most = 0;
		bool more;
		uint64_t handed;

		for (unsigned int i = 0; i < w->nb_polls; i++) {
			const struct poll *p = &w->polls[i];
			unsigned int n = fw_port_rx(p->rx, p->queue, pkts, FW_BURST);
			enum fw_side from;

			if (unlikely(p->rx->macsec != NULL))
				n = receive_macsec(w, p, pkts, n, now_ns);
			if (n == 0)
				continue;
			if (unlikely(all->esp != NULL) && p->from != FW_TLS) {
				got += n;
				n = fw_path_unprotect(w->path, rules, p->wire,
				    (enum fw_side)p->from, pkts, n, now_ns);
				got -= n;
				if (n == 0)
					continue;
			}
			from = (enum fw_side)p->from;
			if (unlikely(fw_tls_has(all->tls, p->wire))) {
				unsigned int left = tls_frames(w, rules, p, pkts, n, now_ns);

				got += n - left;
				n = left;
				from = counted(from);
				if (n == 0)
					continue;
			}
			if (w->steering != NULL) {
				n = fw_relay_sort(all->relay, w->steering, w->path,
				    (uint16_t)w->index, p->wire, from, pkts, n, now_ns, &handed);
				pk_counter_add(&w->handed_over, handed);
				got += (unsigned int)handed;
				forwarded += (unsigned int)handed;
				if (n == 0)
					continue;
			}
			got += n;
			most = PK_MAX(most, n);
			fw_path_burst(w->path, rules, p->wire, from, pkts, n, now_ns, &out);
			transmit(w, p->wire, &out);
		}
		if (w->steering != NULL)
			got += take_over(w, rules, now_ns);
		more = fw_path_tick(w->path, rules, now_ns, fw_tick_budget(most), &made);
		if (unlikely(made.nb > 0))
			send_made(w, &made);
		if (unlikely(all->esp != NULL) && !rte_ring_empty(all->esp->down[w->index]))
			send_own(w, all->esp->down[w->index]);
		if (unlikely(job != NULL)) {
			run_job(w, job, rules);
			idle = 0;
		}
		rte_rcu_qsbr_quiescent(all->qsbr, w->index);
		pk_counter_add(&w->loops, 1);
		if (likely(got > 0) || more) {
			pk_counter_add(&w->busy_cycles, rte_rdtsc() - start);
			pk_counter_add(&w->packets, got - forwarded);
			idle = 0;
			continue;
		}
		pk_counter_add(&w->idle_loops, 1);
		if (++idle <= IDLE_SPINS || all->idle_sleep_max_ns == 0) {
			rte_pause();
			continue;
		}
		/* The longer it has been quiet, the longer the sleep, from 10 us up to the limit. */
		pk_counter_add(&w->sleeps, 1);
		sleep_ns(PK_MIN(
		    all->idle_sleep_max_ns, (uint64_t)(idle - IDLE_SPINS) * 10 * PK_NS_PER_US));
	}
	rte_rcu_qsbr_thread_offline(all->qsbr, w->index);
	rte_rcu_qsbr_thread_unregister(all->qsbr, w->index);
	return 0;
}

static void
add_poll(struct worker *w, const struct fw_wire *wire, uint16_t number, enum fw_side side,
    uint16_t queue)
{
	PK_ASSERT(w->nb_polls < QUEUES_MAX);
	w->polls[w->nb_polls++] = (struct poll){
		.rx = side == FW_TLS ? &wire->tls : &wire->port[side],
		.queue = queue,
		.wire = number,
		.from = (uint8_t)side,
	};
}

static void
add_exit(struct worker *w, const struct fw_wire *wire, uint16_t number, enum fw_side side,
    uint16_t queue, unsigned int lcore)
{
	w->exits[number][side] = (struct exit){
		.port = side == FW_TLS ? wire->tls.id : wire->port[side].id,
		.queue = queue,
		.lcore = (uint16_t)lcore,
		.macsec = side == FW_TLS ? NULL : wire->port[side].macsec,
	};
}

static bool
has_queues(const struct fw_wire *wire, unsigned int nb)
{
	return wire->port[FW_INSIDE].nb_queues == nb && wire->port[FW_OUTSIDE].nb_queues == nb;
}

/* Whether both ports of a wire choose the same queue for every hash. */
static bool
tables_agree(const struct fw_wire *wire)
{
	const struct fw_port *a = &wire->port[FW_INSIDE], *b = &wire->port[FW_OUTSIDE];

	for (unsigned int h = 0; h <= PK_MAX(a->reta_mask, b->reta_mask); h++)
		if (a->reta[h & a->reta_mask] != b->reta[h & b->reta_mask])
			return false;
	return true;
}

/* Who polls what, who owns what, and who sends what.  False: each wire is one lcore's. */
static bool
deal_out(struct fw_workers *all, const struct fw_workers_conf *conf)
{
	unsigned int nb_single = 0, next = 0;
	bool spread = false, soft;

	for (uint16_t i = 0; i < conf->nb_wires; i++)
		nb_single += !has_queues(&conf->wires[i], all->nb);
	soft = all->nb > 1 &&
	    (conf->software_rss == FW_SOFTWARE_RSS_YES ||
	        (conf->software_rss == FW_SOFTWARE_RSS_AUTO && nb_single < all->nb));
	for (uint16_t i = 0; i < conf->nb_wires; i++) {
		const struct fw_wire *wire = &conf->wires[i];
		struct fw_steer_wire *steer = &all->steer.wire[i];
		bool many = all->nb > 1 && has_queues(wire, all->nb);
		unsigned int at = next;

		steer->mode = many && tables_agree(wire) ? FW_STEER_RSS
		    : many || soft                       ? FW_STEER_SOFT
		                                         : FW_STEER_ONE;
		steer->mask = wire->port[FW_INSIDE].reta_mask;
		steer->queue = wire->port[FW_INSIDE].reta;
		if (!many && steer->mode == FW_STEER_ONE)
			steer->lcore = (uint16_t)(next++ % all->nb);
		spread |= steer->mode != FW_STEER_ONE;
		for (unsigned int side = 0; side < FW_SIDE_COUNT; side++) {
			/* A spread wire's two ports are two lcores' to poll, if they have a queue each. */
			at = steer->mode == FW_STEER_ONE ? steer->lcore
			    : many                       ? 0
			                                 : next++ % all->nb;
			for (unsigned int k = 0; k < all->nb; k++) {
				if (many || k == at)
					add_poll(all->worker[k], wire, i, (enum fw_side)side,
					    (uint16_t)(many ? k : 0));
				add_exit(all->worker[k], wire, i, (enum fw_side)side,
				    (uint16_t)(many ? k : 0), many ? k : at);
			}
		}
		if (!fw_tls_has(all->tls, i))
			continue;
		/* One queue, and whoever polls one of the others polls it too. */
		add_poll(all->worker[at], wire, i, FW_TLS, 0);
		for (unsigned int k = 0; k < all->nb; k++)
			add_exit(all->worker[k], wire, i, FW_TLS, 0, at);
	}
	return spread;
}

/* An lcore's part of a limit; none stays none. */
static uint32_t
share(uint32_t limit)
{
	uint32_t nb = rte_lcore_count() - 1;

	return limit / nb + (limit % nb != 0);
}

static uint32_t
sessions_each(const struct fw_workers_conf *conf)
{
	return PK_MAX(conf->path.nb_sessions / (rte_lcore_count() - 1), 1024u);
}

static int
worker_create(struct fw_workers *all, const struct fw_workers_conf *conf, unsigned int lcore)
{
	int socket = (int)rte_lcore_to_socket_id(lcore);
	struct worker *w = rte_zmalloc_socket("fw_worker", sizeof(*w), PK_CACHE_LINE, socket);
	struct fw_path_conf path = conf->path;
	int rc;

	if (w == NULL)
		return -ENOMEM;
	w->all = all;
	w->lcore = lcore;
	w->index = all->nb;
	all->worker[all->nb++] = w;
	rc = fw_trace_create(&w->trace, conf->trace_records);
	if (rc < 0)
		return rc;
	path.trace = w->trace;
	path.posture = &all->posture;
	path.shared = all->shared;
	path.wall = &all->wall;
	/* A workload's sessions are spread over the lcores, about evenly. */
	for (unsigned int o = 0; o < FW_OWNER_COUNT; o++) {
		path.limit[o].sessions = share(conf->path.limit[o].sessions);
		path.limit[o].half_open = share(conf->path.limit[o].half_open);
		path.limit[o].rate = share(conf->path.limit[o].rate);
	}
	path.nb_sessions = sessions_each(conf);
	if (all->keep != NULL)
		path.mem = fw_keep_mem(all->keep, (uint16_t)w->index);
	return fw_path_create(&w->path, &path);
}

int
fw_workers_owner(const struct fw_workers *all, const struct fw_pkt *pk)
{
	return pk->key.wire < all->nb_wires ? (int)fw_steer_owner(&all->steer, pk) : -1;
}

static int
owner_of(void *arg, const struct fw_pkt *pk)
{
	return fw_workers_owner(arg, pk);
}

static int
open_keep(struct fw_workers *all, const struct fw_workers_conf *conf, struct pk_diag *diag)
{
	struct fw_keep_conf keep = {
		.dir = conf->session_dir,
		.records_dir = conf->run_dir,
		.instance = conf->instance,
		.records = conf->session_records,
		.count = (uint16_t)(rte_lcore_count() - 1),
		.nb_sessions = sessions_each(conf),
		.seed = { conf->path.seed[0], conf->path.seed[1] },
		.hz = rte_get_tsc_hz(),
		.clock = now_ns_by,
		.owner = owner_of,
		.arg = all,
	};

	if (conf->session_dir == NULL || conf->session_dir[0] == '\0')
		return 0;
	return fw_keep_open(&all->keep, &keep, diag);
}

static int
create_shared(struct fw_workers *all, const struct fw_workers_conf *conf)
{
	struct fw_path_conf path = conf->path;
	char names[512];

	if (all->keep != NULL) {
		snprintf(
		    names, sizeof(names), "%s/picket-%s.names", conf->session_dir, conf->instance);
		path.names_path = names;
	}
	return fw_shared_create(&all->shared, &path);
}

static void
paths_of(const struct fw_workers *all, struct fw_path *paths[RTE_MAX_LCORE])
{
	for (unsigned int i = 0; i < all->nb; i++)
		paths[i] = all->worker[i]->path;
}

/* Distribute wires, ports and sessions over the lcores, which are there. */
static int
spread(struct fw_workers *all, const struct fw_workers_conf *conf)
{
	uint64_t seed[2] = { conf->path.seed[0], conf->path.seed[1] };
	int rc = 0;

	if (all->keep != NULL)
		fw_keep_seed(all->keep, seed);
	fw_steer_init(&all->steer, (uint16_t)all->nb, seed);
	all->steer.overlay = conf->path.overlay;
	all->nb_wires = conf->nb_wires;
	if (all->esp != NULL)
		all->steer.marks = all->esp->mark_flag;
	if (all->tls != NULL)
		all->steer.marks |= all->tls->mark_flag;
	if (!deal_out(all, conf))
		return 0;
	rc = fw_relay_create(&all->relay, (uint16_t)all->nb);
	for (unsigned int i = 0; rc == 0 && i < all->nb; i++)
		rc = fw_steering_create(&all->worker[i]->steering, &all->steer, (uint16_t)i);
	return rc;
}

int
fw_workers_start(struct fw_workers **out, const struct fw_workers_conf *conf, struct pk_diag *diag)
{
	unsigned int nb_lcores = rte_lcore_count() - 1, lcore;
	struct fw_workers *all = calloc(1, sizeof(*all));
	struct fw_path *paths[RTE_MAX_LCORE];
	int rc = -ENOMEM;

	if (all == NULL)
		return -ENOMEM;
	if (nb_lcores == 0) {
		pk_diag_set(diag,
		    "no lcore is left for packets: want one for control and one or more for them");
		free(all);
		return -EINVAL;
	}
	rc = open_keep(all, conf, diag);
	if (rc < 0) {
		free(all);
		return rc;
	}
	rc = -ENOMEM;
	pk_diag_set(diag, "no memory for %u sessions; want a smaller `sessions` or more huge pages",
	    conf->path.nb_sessions);
	all->idle_sleep_max_ns = conf->idle_sleep_max_ns;
	all->esp = conf->path.esp;
	all->tls = conf->path.tls;
	all->qsbr = rte_zmalloc("fw_qsbr", rte_rcu_qsbr_get_memsize(nb_lcores), PK_CACHE_LINE);
	if (all->qsbr == NULL || rte_rcu_qsbr_init(all->qsbr, nb_lcores) != 0)
		goto fail;
	rc = create_shared(all, conf);
	if (rc < 0)
		goto fail;
	RTE_LCORE_FOREACH_WORKER(lcore) {
		rc = worker_create(all, conf, lcore);
		if (rc < 0)
			goto fail;
	}
	rc = spread(all, conf);
	if (rc < 0)
		goto fail;
	fw_workers_now_ns(); /* fixes the factor before several threads ask */
	fw_workers_wall(all);
	paths_of(all, paths);
	if (all->keep != NULL)
		fw_keep_restore(all->keep, paths, fw_workers_now_ns());
	for (unsigned int i = 0; i < all->nb; i++)
		rte_eal_remote_launch(run, all->worker[i], all->worker[i]->lcore);
	all->started = true;
	*out = all;
	return 0;
fail:
	fw_workers_stop(all);
	return rc;
}

void
fw_workers_stop(struct fw_workers *all)
{
	struct fw_path *paths[RTE_MAX_LCORE];

	if (all == NULL)
		return;
	atomic_store(&all->quit, 1);
	for (unsigned int i = 0; i < all->nb; i++)
		rte_eal_wait_lcore(all->worker[i]->lcore);
	paths_of(all, paths);
	if (all->started)
		fw_keep_save(all->keep, paths, fw_workers_now_ns());
	for (unsigned int i = 0; i < all->nb; i++) {
		fw_path_destroy(all->worker[i]->path);
		fw_trace_destroy(all->worker[i]->trace);
		fw_steering_destroy(all->worker[i]->steering);
		rte_free(all->worker[i]);
	}
	fw_shared_destroy(all->shared);
	fw_relay_destroy(all->relay);
	fw_keep_close(all->keep, all->started);
	fw_rules_destroy(atomic_load(&all->rules));
	rte_free(all->qsbr);
	free(all);
}

/* At most one burst or one idle sleep long; the control thread has nothing better to do than to tell whoever
 * asked the moment it is over. */
void
fw_workers_wait(struct fw_workers *w)
{
	uint64_t token;

	if (!w->started)
		return;
	token = rte_rcu_qsbr_start(w->qsbr);

	while (rte_rcu_qsbr_check(w->qsbr, token, false) == 0)
		sleep_ns(5 * PK_NS_PER_US);
}

void
fw_workers_publish(struct fw_workers *w, struct fw_rules *rules)
{
	struct fw_rules *old = atomic_exchange_explicit(&w->rules, rules, memory_order_acq_rel);

	fw_workers_wait(w);
	fw_rules_destroy(old);
}

unsigned int
fw_workers_sender(const struct fw_workers *w, uint16_t wire, enum fw_side side)
{
	return w->worker[0]->exits[wire][side].lcore;
}

void
fw_workers_wall(struct fw_workers *w)
{
	fw_wall_tick(&w->wall, fw_workers_rules(w), fw_workers_now_ns(), pk_clock_wall_ns());
}

void
fw_workers_posture(struct fw_workers *w, uint64_t lease_ns)
{
	uint64_t now = fw_workers_now_ns(), old, until = lease_ns != 0 ? now + lease_ns : 0;

	old = atomic_exchange_explicit(&w->posture.until_ns, until, memory_order_acq_rel);
	/* A lease that goes on changes nothing for anybody. */
	if ((old > now) != (until > now))
		fw_workers_wait(w);
}

uint64_t
fw_workers_lease_ns(const struct fw_workers *w)
{
	uint64_t now = fw_workers_now_ns(),
	         until = atomic_load_explicit(&w->posture.until_ns, memory_order_relaxed);

	return until > now ? until - now : 0;
}

const struct fw_rules *
fw_workers_rules(const struct fw_workers *w)
{
	return atomic_load_explicit(
	    &((struct fw_workers *)(uintptr_t)w)->rules, memory_order_acquire);
}

unsigned int
fw_workers_count(const struct fw_workers *w)
{
	return w->nb;
}

const struct fw_path *
fw_workers_path(const struct fw_workers *w, unsigned int i)
{
	return w->worker[i]->path;
}

struct fw_trace *
fw_workers_trace(const struct fw_workers *w, unsigned int i)
{
	return w->worker[i]->trace;
}

void
fw_workers_stats(const struct fw_workers *all, unsigned int i, struct fw_worker_stats *out)
{
	const struct worker *w = all->worker[i];

	*out = (struct fw_worker_stats){
		.lcore = w->lcore,
		.loops = pk_counter_read(&w->loops),
		.idle_loops = pk_counter_read(&w->idle_loops),
		.sleeps = pk_counter_read(&w->sleeps),
		.busy_cycles = pk_counter_read(&w->busy_cycles),
		.packets = pk_counter_read(&w->packets),
		.handed_over = pk_counter_read(&w->handed_over),
		.taken_over = pk_counter_read(&w->taken_over),
	};
}

int
fw_workers_post(struct fw_workers *w, unsigned int i, struct fw_job *job)
{
	struct fw_job *none = NULL;

	atomic_store_explicit(&job->busy, true, memory_order_relaxed);
	if (atomic_compare_exchange_strong_explicit(
	        &w->worker[i]->job, &none, job, memory_order_release, memory_order_relaxed))
		return 0;
	atomic_store_explicit(&job->busy, false, memory_order_relaxed);
	return -EBUSY;
}
