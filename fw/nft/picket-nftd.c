#include <errno.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "fw/link.h"
#include "fw/nft/kernel.h"
#include "fw/nft/notice.h"
#include "fw/nft/plane.h"
#include "fw/nft/review.h"
#include "fw/nft/show.h"
#include "fw/nft/track.h"
#include "fw/nft/wire.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/posture.h"
#include "lib/priv.h"
#include "lib/program.h"

struct options {
	char *instance, *run_dir, *user, *table;
	struct pk_conf_list wires;
	uint64_t log_group, workload_sessions, tenant_sessions;
	bool tcp_loose;
	uint64_t timeout[NFT_TIMEOUT_COUNT];
};

#define AT(member) offsetof(struct options, member)
#define TIMEOUT(name, value, which, help)                                  \
	{                                                                  \
		name, PK_CONF_DURATION, NULL, value, PK_NS_PER_S,          \
		    UINT64_C(30) * 86400 * PK_NS_PER_S, NULL, false, help, \
		    AT(timeout[NFT_TIMEOUT_##which])                       \
	}

/* clang-format off */
static const struct pk_conf_option options[] = {
	{ "instance", PK_CONF_STRING, NULL, "dpu", 0, 0, NULL, false,
	    "Name of this DPU.", AT(instance) },
	{ "run-dir", PK_CONF_STRING, NULL, "/run/picket", 0, 0, NULL, false,
	    "Directory of the local sockets.", AT(run_dir) },
	{ "user", PK_CONF_STRING, NULL, NULL, 0, 0, NULL, false,
	    "User to become once wires are made.  Without it the user stays, but keeps the network's capabilities only.",
	    AT(user) },
	{ "wire", PK_CONF_LIST, NULL, NULL, 0, 0, NULL, false,
	    "A wire: the inside interface, a space, the outside interface.  Both are put into a bridge of our own, unless "
	    "`routed` follows: then this machine routes between them.", AT(wires) },
	{ "table", PK_CONF_STRING, NULL, "picket", 0, 0, NULL, false,
	    "Name of our tables in nftables.  All others are left alone.", AT(table) },
	{ "log-group", PK_CONF_NUMBER, NULL, "9035", 1, 65535, NULL, false,
	    "Group of nfnetlink_log by which the kernel tells of packets that rules log or reject.", AT(log_group) },
	{ "tcp-loose", PK_CONF_BOOL, NULL, "no", 0, 0, NULL, false,
	    "Pick up TCP connections in mid-stream.  Holds for conntrack in the whole network namespace.", AT(tcp_loose) },
	{ "sessions-per-workload", PK_CONF_NUMBER, "sessions", "0", 0, UINT32_MAX, NULL, false,
	    "Sessions of one inside address, whoever began them.  0: as many as conntrack has.", AT(workload_sessions) },
	{ "sessions-per-tenant", PK_CONF_NUMBER, "sessions", "0", 0, UINT32_MAX, NULL, false,
	    "Sessions of all workloads of a tenant.  0: as many as conntrack has.", AT(tenant_sessions) },
	TIMEOUT("timeout-tcp-syn-sent", "30s", SYN_SENT, "TCP: a SYN without an answer."),
	TIMEOUT("timeout-tcp-syn-recv", "30s", SYN_RECV, "TCP: a SYN-ACK without an answer."),
	TIMEOUT("timeout-tcp-established", "1d", ESTABLISHED, "TCP: established and silent."),
	TIMEOUT("timeout-tcp-fin-wait", "4m", FIN_WAIT, "TCP: one side has closed."),
	TIMEOUT("timeout-tcp-time-wait", "30s", TIME_WAIT, "TCP: both sides have closed."),
	TIMEOUT("timeout-tcp-closed", "10s", CLOSED, "TCP: after a reset."),
	TIMEOUT("timeout-udp-new", "30s", UDP_NEW, "UDP: one direction seen."),
	TIMEOUT("timeout-udp", "2m", UDP, "UDP: both directions seen."),
};
/* clang-format on */

static struct pk_program program = {
	.name = "picket-nftd",
	.summary = "the data plane in the kernel: nftables and conntrack decide about every packet",
	.options = options,
	.nb_options = PK_COUNT(options),
};

struct nftd {
	struct options options;
	struct event_base *base;
	struct nft_wire wires[NFT_WIRES_MAX];
	uint16_t nb_wires;
	uint32_t seconds[NFT_TIMEOUT_COUNT];
	struct nft_plane *plane;
	struct nft_track *track;
	struct nft_review *review;
	struct nft_notice *notice;
	struct fw_link *link;
	struct nft_show *show;
	struct pk_posture_ear *ear;
	struct event *lease; /* when it ends */
};

static void
on_changed(void *arg)
{
	struct nftd *d = arg;

	if (d->review != NULL)
		nft_review_start(d->review);
}

static void
on_noticed(void *arg, const struct nft_noticed *n)
{
	struct nftd *d = arg;

	if (d->show != NULL)
		nft_show_noticed(d->show, n);
}

/* ---- posture ---- */

static void
set_posture(struct nftd *d, bool attested, const char *host, const char *why)
{
	uint64_t start = pk_clock_mono_ns();
	bool was = nft_plane_attested(d->plane);
	struct pk_diag diag;
	int rc = nft_plane_posture(d->plane, attested, &diag);

	if (rc < 0)
		pk_error("posture: %s", diag.text);
	else if (was != attested)
		pk_notice("host %s: %s (in force after %lu us): %s", host,
		    attested ? "attested" : "not attested",
		    (unsigned long)((pk_clock_mono_ns() - start) / PK_NS_PER_US), why);
}

static void
on_lease_end(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	set_posture(arg, false, "behind this DPU", "the lease has run out");
}

static void
on_posture(void *arg, const struct pk_msg_posture *p)
{
	uint64_t now = pk_clock_mono_ns();
	struct nftd *d = arg;
	bool attested = p->attested && p->until_mono_ns > now;

	event_del(d->lease);
	if (attested) {
		uint64_t left = p->until_mono_ns - now;
		struct timeval until = { .tv_sec = (time_t)(left / PK_NS_PER_S),
			.tv_usec = (suseconds_t)(left % PK_NS_PER_S / PK_NS_PER_US) };

		event_add(d->lease, &until);
	}
	set_posture(d, attested, p->host, p->text);
}

/* ---- begin and end ---- */

static int
make_wires(struct nftd *d, struct pk_diag *diag)
{
	const struct options *o = &d->options;

	if (o->wires.nb == 0 || o->wires.nb > NFT_WIRES_MAX) {
		pk_diag_set(diag,
		    "%zu wires are configured; want 1 to %d lines such as wire = eth0 eth1",
		    o->wires.nb, NFT_WIRES_MAX);
		return -EINVAL;
	}
	for (size_t i = 0; i < o->wires.nb; i++) {
		struct nft_wire *w = &d->wires[i];
		int rc = nft_wire_parse(w, (uint16_t)i, o->wires.item[i], diag);

		if (rc == 0)
			rc = nft_wire_open(w, diag);
		if (rc < 0)
			return rc;
		d->nb_wires++;
	}
	return 0;
}

/* The sockets are made by the user we shall be by then. */
static int
make_run_dir(const struct options *o, struct pk_diag *diag)
{
	const struct passwd *pw = NULL;

	if (mkdir(o->run_dir, 0755) < 0 && errno != EEXIST) {
		pk_diag_set(diag, "%s: cannot be made: %s", o->run_dir, strerror(errno));
		return -errno;
	}
	if (o->user == NULL || o->user[0] == '\0' || geteuid() != 0)
		return 0;
	pw = getpwnam(o->user);
	if (pw == NULL || chown(o->run_dir, pw->pw_uid, pw->pw_gid) < 0) {
		pk_diag_set(diag, "%s: cannot be given to user \"%s\": %s", o->run_dir, o->user,
		    pw == NULL ? "no such user" : strerror(errno));
		return pw == NULL ? -ENOENT : -errno;
	}
	return 0;
}

/* One that no session has, nor any of the next thousand. */
static int
free_stamp(uint16_t nb_wires, uint16_t *out, struct pk_diag *diag)
{
	uint8_t *bits = calloc((NFT_STAMP_MAX + 1) / 8, 1);
	uint32_t run = 0;
	int rc = bits != NULL ? nft_track_stamps(nb_wires, bits) : -ENOMEM;

	*out = 0;
	for (uint32_t s = 1; rc == 0 && s <= NFT_STAMP_MAX && run < 1024; s++) {
		run = (bits[s / 8] & 1 << s % 8) == 0 ? run + 1 : 0;
		*out = (uint16_t)(s - run);
	}
	if (rc < 0)
		pk_diag_set(diag, "conntrack cannot be read: %s", strerror(-rc));
	free(bits);
	return rc;
}

static int
start_kernel(struct nftd *d, struct pk_diag *diag)
{
	const struct options *o = &d->options;
	struct nft_plane_conf conf = {
		.ruleset = { .wires = d->wires,
		    .nb_wires = d->nb_wires,
		    .log_group = (uint16_t)o->log_group,
		    .tcp_loose = o->tcp_loose,
		    .workload_sessions = (uint32_t)o->workload_sessions,
		    .tenant_sessions = (uint32_t)o->tenant_sessions,
		    .table = o->table },
		.changed = on_changed,
		.arg = d,
	};
	int rc;

	for (unsigned int i = 0; i < NFT_TIMEOUT_COUNT; i++)
		d->seconds[i] = (uint32_t)(o->timeout[i] / PK_NS_PER_S);
	memcpy(conf.ruleset.seconds, d->seconds, sizeof(d->seconds));
	rc = free_stamp(d->nb_wires, &conf.first_stamp, diag);
	/* The gates first: until they are there no port is in a bridge. */
	if (rc == 0)
		rc = nft_plane_create(&d->plane, &conf, diag);
	if (rc == 0)
		rc = nft_conntrack_setup(o->tcp_loose, diag);
	for (uint16_t i = 0; rc == 0 && i < d->nb_wires; i++)
		rc = nft_wire_join(&d->wires[i], diag);
	return rc;
}

static int
start(struct nftd *d, struct pk_diag *diag)
{
	static const int keep[] = { CAP_NET_ADMIN, CAP_NET_RAW };
	const struct options *o = &d->options;
	struct nft_track_conf track = { .base = d->base, .seconds = d->seconds };
	struct nft_notice_conf notice = { .base = d->base,
		.wires = d->wires,
		.group = (uint16_t)o->log_group,
		.noticed = on_noticed,
		.arg = d };
	struct nft_show_conf show = { .base = d->base,
		.wires = d->wires,
		.instance = o->instance,
		.program = &program,
		.values = o };
	struct fw_link_plane plane = { .program = "picket-nftd",
		.instance = o->instance,
		.ready = nft_plane_ready,
		.publish = nft_plane_publish,
		.counts = nft_plane_counts,
		.clock = nft_plane_clock };
	uint64_t nb, max;
	char path[512];
	int rc = make_run_dir(o, diag);

	if (rc == 0)
		rc = make_wires(d, diag);
	if (rc == 0)
		rc = start_kernel(d, diag);
	if (rc < 0)
		return rc;
	track.nb_wires = notice.nb_wires = show.nb_wires = d->nb_wires;
	rc = pk_priv_drop(
	    &(struct pk_priv){
	        .user = o->user, .keep = keep, .nb_keep = PK_COUNT(keep), .no_exec = true },
	    diag);
	if (rc == 0)
		rc = nft_track_create(&d->track, &track, diag);
	if (rc == 0)
		rc = nft_review_create(&d->review, d->track, d->plane);
	if (rc == 0)
		rc = nft_notice_create(&d->notice, &notice, diag);
	if (rc < 0)
		return rc;
	nft_track_count(&nb, &max);
	plane.nb_sessions_max = (uint32_t)PK_MIN(max, (uint64_t)UINT32_MAX);
	plane.arg = d->plane;
	snprintf(path, sizeof(path), "%s/picket-nftd.sock", o->run_dir);
	rc = fw_link_create(&d->link, d->base, path, &plane, diag);
	if (rc < 0)
		return rc;
	d->lease = evtimer_new(d->base, on_lease_end, d);
	PK_ASSERT(d->lease != NULL);
	snprintf(path, sizeof(path), "%s/posture.sock", o->run_dir);
	rc = pk_posture_listen(&d->ear, d->base, path, on_posture, d, diag);
	if (rc < 0)
		return rc;
	show.plane = d->plane;
	show.track = d->track;
	show.review = d->review;
	show.notice = d->notice;
	show.link = d->link;
	snprintf(path, sizeof(path), "%s/picket-nftd.ctl", o->run_dir);
	show.path = path;
	return nft_show_create(&d->show, &show, diag);
}

/* The kernel goes on: with no process there is nobody to change the policy, and nobody without one. */
static void
stop(struct nftd *d)
{
	nft_show_destroy(d->show);
	pk_posture_ear_destroy(d->ear);
	if (d->lease != NULL)
		event_free(d->lease);
	fw_link_destroy(d->link);
	nft_notice_destroy(d->notice);
	nft_review_destroy(d->review);
	nft_track_destroy(d->track);
	nft_plane_destroy(d->plane);
}

/* A program that holds the tables would put back what we take away. */
static bool
is_running(const struct options *o)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool is;

	snprintf(at.sun_path, sizeof(at.sun_path), "%s/picket-nftd.ctl", o->run_dir);
	is = fd >= 0 && connect(fd, (const struct sockaddr *)&at, sizeof(at)) == 0;
	if (fd >= 0)
		close(fd);
	return is;
}

/* Bridges first: from then on nothing passes, so that the rules can go. */
static int
remove_all(struct nftd *d, struct pk_diag *diag)
{
	const struct options *o = &d->options;
	struct nft_track_conf track = { .base = d->base, .seconds = d->seconds };
	struct nft_kernel *kernel = NULL;
	int rc = 0;

	if (is_running(o)) {
		pk_diag_set(diag,
		    "picket-nftd is running (%s/picket-nftd.ctl answers): stop it first",
		    o->run_dir);
		return -EBUSY;
	}
	for (size_t i = 0; rc == 0 && i < o->wires.nb && i < NFT_WIRES_MAX; i++) {
		rc = nft_wire_parse(&d->wires[i], (uint16_t)i, o->wires.item[i], diag);
		if (rc == 0)
			rc = nft_wire_remove(&d->wires[i], diag);
		track.nb_wires++;
	}
	if (rc == 0)
		rc = nft_kernel_open(&kernel, o->table, 0, diag);
	if (rc == 0)
		rc = nft_kernel_there(kernel, diag);
	if (rc > 0)
		rc = nft_kernel_remove(kernel, diag);
	nft_kernel_close(kernel);
	if (rc == 0)
		rc = nft_track_create(&d->track, &track, diag);
	if (rc == 0) {
		rc = nft_track_clear(d->track);
		if (rc < 0)
			pk_diag_set(diag, "conntrack cannot be read: %s", strerror(-rc));
	}
	return rc;
}

int
main(int argc, char **argv)
{
	struct nftd d = { 0 };
	struct pk_diag diag;
	bool removes;
	int at, rc;

	at = pk_program_start(&program, &d.options, argc, argv);
	removes = at + 1 == argc && strcmp(argv[at], "remove") == 0;
	if (at != argc && !removes) {
		fprintf(
		    stderr, "picket-nftd: takes options, and the word `remove`; -h lists them\n");
		return 2;
	}
	d.base = event_base_new();
	PK_ASSERT(d.base != NULL);
	rc = removes ? remove_all(&d, &diag) : start(&d, &diag);
	if (rc < 0)
		pk_error("%s", diag.text);
	else if (!removes)
		rc = pk_program_serve(d.base);
	stop(&d);
	event_base_free(d.base);
	pk_conf_fini(options, PK_COUNT(options), &d.options);
	return rc == 0 ? 0 : 1;
}
