#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_security.h>

#include "fw/esp.h"
#include "fw/link.h"
#include "fw/macsec_link.h"
#include "fw/mesh_link.h"
#include "fw/options.h"
#include "fw/posture.h"
#include "fw/sadb_link.h"
#include "fw/show.h"
#include "fw/signatures.h"
#include "fw/tls_plane.h"
#include "fw/worker.h"
#include "lib/log.h"
#include "lib/priv.h"
#include "lib/program.h"

#define EAL_ARGS_MAX 64
#define MBUF_CACHE   256

struct options {
	char *instance, *run_dir, *user, *lcores;
	struct pk_conf_list wires, macsec, eal, ipsec_addresses, tls_ports;
	uint64_t ipsec_sas, buffers, memory, idle_sleep, trace_records;
	bool huge, session_records, ipsec_mesh;
	char *session_dir;
	char *signatures, *signatures_key, *event_log;
	int software_rss;
	struct fw_path_options path;
};

static const char *const software_rss_words[] = { [FW_SOFTWARE_RSS_AUTO] = "auto",
	[FW_SOFTWARE_RSS_NO] = "no",
	[FW_SOFTWARE_RSS_YES] = "yes",
	NULL };

#define AT(member) offsetof(struct options, member)

/* clang-format off */
static const struct pk_conf_option options[] = {
	{ "instance", PK_CONF_STRING, NULL, "dpu", 0, 0, NULL, false,
	    "Name of this DPU.", AT(instance) },
	{ "run-dir", PK_CONF_STRING, NULL, "/run/picket", 0, 0, NULL, false,
	    "Directory of the local sockets.", AT(run_dir) },
	{ "user", PK_CONF_STRING, NULL, NULL, 0, 0, NULL, false,
	    "User to become once ports are open.  Without it the user stays, but loses its privileges.", AT(user) },
	{ "wire", PK_CONF_LIST, NULL, NULL, 0, 0, NULL, false,
	    "A wire: the inside port, a space, the outside port.  Ports are af_packet:IFACE, af_xdp:IFACE, "
	    "tap:NAME, pci:ADDRESS, vdev:DEVARGS or name:PORT.", AT(wires) },
	{ "macsec", PK_CONF_LIST, NULL, NULL, 0, 0, NULL, false,
	    "MACsec on the outside port of a wire: its number, counted from 0; required (nothing passes in clear) or preferred "
	    "(until key agreement has succeeded, then as required); and, if wanted: replay-window N (64 packets), replay-standard "
	    "(also let through what comes twice within the window), replay-off, no-sci, end-station, clear-vlans N (tags before the "
	    "SecTAG), engine (the port's own or none at all).  Keys come from picket-mkad.", AT(macsec) },
	{ "lcores", PK_CONF_STRING, NULL, "0,1", 0, 0, NULL, false,
	    "Cores in the words of DPDK's --lcores.  The first is for control, each other runs packets.", AT(lcores) },
	{ "software-rss", PK_CONF_WORD, NULL, "auto", 0, 0, software_rss_words, false,
	    "Whether lcores spread the packets of ports that have no receive-side scaling of their own: auto, if there are "
	    "fewer such wires than lcores.", AT(software_rss) },
	{ "buffers", PK_CONF_NUMBER, "packets", "32767", 1023, 1u << 24, NULL, false,
	    "Packet buffers; the best numbers are a power of two less one.", AT(buffers) },
	{ "huge", PK_CONF_BOOL, NULL, "yes", 0, 0, NULL, false,
	    "Use huge pages.  Without them everything works, and large session tables are half as fast.", AT(huge) },
	{ "memory", PK_CONF_SIZE, "bytes", "256m", 64u << 20, UINT64_C(1) << 40, NULL, false,
	    "Memory for packet buffers and ports.", AT(memory) },
	{ "ipsec-sas", PK_CONF_NUMBER, "SAs", "0", 0, (1u << ESP_INDEX_BITS) - 1, NULL, false,
	    "Security associations of both directions together, 1.7 KB each.  0: no IPsec, so that what policy wants "
	    "encrypted does not pass.", AT(ipsec_sas) },
	{ "ipsec-address", PK_CONF_LIST, NULL, NULL, 0, 0, NULL, false,
	    "An address of the DPU itself on the outside of a wire, where tunnels end and IKE is spoken: "
	    "WIRE ADDRESS/LENGTH [vlan ID] [gateway ADDRESS].", AT(ipsec_addresses) },
	{ "ipsec-mesh", PK_CONF_BOOL, NULL, "yes", 0, 0, NULL, false,
	  "Take keys for other DPUs from the policy server (mesh mode), if there is an ipsec-address.", AT(ipsec_mesh) },
	{ "tls-port", PK_CONF_LIST, NULL, NULL, 0, 0, NULL, false,
	    "The port by which flows that want mutual TLS go to picket-tlsd: the number of a wire, a space, and a port as of a "
	    "wire's.  Without one such flows do not pass.", AT(tls_ports) },
	{ "eal", PK_CONF_LIST, NULL, NULL, 0, 0, NULL, false,
	    "A further argument for DPDK's environment.", AT(eal) },
	{ "idle-sleep", PK_CONF_DURATION, NULL, "200us", 0, PK_NS_PER_S, NULL, false,
	    "Longest sleep of an lcore that finds no packets; it is the price of the first packet after a pause.  "
	    "0 polls without end.", AT(idle_sleep) },
	{ "trace-records", PK_CONF_NUMBER, "records", "16384", 64, 1u << 24, NULL, false,
	    "Records of verdicts each lcore keeps for logs and monitor.", AT(trace_records) },
	{ "session-dir", PK_CONF_STRING, NULL, NULL, 0, 0, NULL, false,
	    "Directory in which sessions outlive picketd: a hugetlbfs of the user's own, which is fast, or a tmpfs such as "
	    "/dev/shm.  Without it they end with the program.  A session that comes back passes nothing before there is a "
	    "policy that allows it.", AT(session_dir) },
	{ "session-records", PK_CONF_BOOL, NULL, "yes", 0, 0, NULL, false,
	    "On a clean stop also write sessions to session-dir (run-dir, if that is a hugetlbfs) as records, which any later "
	    "version can read; that takes "
	    "about a third of a second and 220 MB per million.", AT(session_records) },
	{ "signatures", PK_CONF_STRING, NULL, NULL, 0, 0, NULL, false,
	    "File of signatures: a bundle of picketctl dpi compile, or rules.  Sessions whose rules say inspect are held "
	    "against them.", AT(signatures) },
	{ "signatures-key", PK_CONF_STRING, NULL, NULL, 0, 0, NULL, false,
	    "File with the public key, in PEM, that has to have signed the bundle.  Without it whoever can write the file is "
	    "believed.", AT(signatures_key) },
	{ "event-log", PK_CONF_STRING, NULL, NULL, 0, 0, NULL, false,
	    "File to which alerts, and the ends of sessions that were inspected or that rules log, are appended as JSON lines "
	    "in the shape of EVE.", AT(event_log) },
	FW_PATH_OPTION_ROWS(struct options, path),
};
/* clang-format on */

static struct pk_program program = {
	.name = "picketd",
	.summary = "the data plane: decides about every packet between inside and outside",
	.options = options,
	.nb_options = PK_COUNT(options),
};

struct picketd {
	struct options options;
	struct event_base *base;
	struct rte_mempool *pool;
	struct fw_wire wires[FW_WIRES_MAX];
	uint16_t nb_wires;
	struct fw_esp *esp;
	struct fw_tls *tls;
	struct fw_macsec *macsec[FW_WIRES_MAX]; /* nb_macsec of them */
	unsigned int nb_macsec;
	struct fw_overlay overlay;
	struct fw_workers *workers;
	struct fw_sadb_link *sadb;
	struct fw_mesh_link *mesh;
	char grants[512]; /* path of the agent's socket */
	struct fw_tls_plane *tls_plane;
	struct fw_link *link;
	struct fw_macsec_link *macsec_link;
	struct fw_posture_link *posture;
	struct fw_show *show;
	struct fw_signatures *signatures;
	struct fw_eve *eve;
};

static int
start_eal(const struct options *o, struct pk_diag *diag)
{
	char lcores[256], memory[32], prefix[64];
	char *argv[EAL_ARGS_MAX] = {
		(char *)"picketd",
		(char *)"--no-telemetry",
		(char *)"--log-level=lib.*:warning",
		(char *)"--log-level=pmd.*:warning",
		(char *)"--iova-mode=va",
	};
	int argc = 5;

	/* With neither a hugetlbfs mount nor files left behind; and no PCI scan unless a wire asks. */
	snprintf(lcores, sizeof(lcores), "--lcores=%s", o->lcores);
	snprintf(memory, sizeof(memory), "%u", (unsigned int)(o->memory >> 20));
	snprintf(prefix, sizeof(prefix), "--file-prefix=picket%d", (int)getpid());
	argv[argc++] = lcores;
	argv[argc++] = prefix;
	argv[argc++] = (char *)(o->huge ? "--in-memory" : "--no-huge");
	argv[argc++] = (char *)"-m";
	argv[argc++] = memory;
	for (size_t i = 0; i < o->eal.nb && argc < EAL_ARGS_MAX - 2; i++)
		argv[argc++] = o->eal.item[i];
	for (size_t i = 0; i < o->wires.nb; i++) {
		if (strstr(o->wires.item[i], "pci:") != NULL)
			break;
		if (i + 1 == o->wires.nb)
			argv[argc++] = (char *)"--no-pci";
	}
	if (rte_eal_init(argc, argv) < 0) {
		pk_diag_set(diag,
		    "DPDK does not start: %s (huge pages are reserved with sysctl vm.nr_hugepages=N, or try huge = no)",
		    rte_strerror(rte_errno));
		return -EIO;
	}
	return 0;
}

/* What the options say of MACsec on wire i.  Returns 1, 0 (nothing), or -EINVAL with *diag. */
static int
macsec_of(const struct options *o, size_t i, struct fw_macsec_conf *conf, struct pk_diag *diag)
{
	bool found = false;

	for (size_t k = 0; k < o->macsec.nb; k++) {
		struct fw_macsec_conf c;

		if (fw_macsec_parse(o->macsec.item[k], &c, diag) < 0)
			return -EINVAL;
		if (c.wire >= o->wires.nb || (c.wire == i && found)) {
			pk_diag_set(diag, "macsec = %.100s: %s", o->macsec.item[k],
			    found ? "this wire has another one"
			          : "there is no such wire; they are counted from 0");
			return -EINVAL;
		}
		if (c.wire == i) {
			*conf = c;
			found = true;
		}
	}
	return found;
}

/* Whether a port has an engine for MACsec.  No driver of DPDK 22.11 says so. */
static bool
has_macsec_engine(uint16_t port)
{
	const struct rte_security_capability *c;
	struct rte_security_ctx *ctx = rte_eth_dev_get_sec_ctx(port);

	c = ctx != NULL ? rte_security_capabilities_get(ctx) : NULL;
	for (; c != NULL && c->action != RTE_SECURITY_ACTION_TYPE_NONE; c++)
		if (c->protocol == RTE_SECURITY_PROTOCOL_MACSEC)
			return true;
	return false;
}

/* A SecY on the outside port, which has been opened.  It makes frames longer than those of the inside. */
static int
add_macsec(struct picketd *d, struct fw_wire *w, struct fw_macsec_conf *conf, struct pk_diag *diag)
{
	struct rte_ether_addr mac;
	uint32_t inside, outside;
	int rc;

	conf->port = w->port[FW_OUTSIDE].id;
	conf->pool = d->pool;
	rc = rte_eth_macaddr_get(conf->port, &mac);
	if (rc < 0) {
		pk_diag_set(
		    diag, "port \"%s\": has no MAC address for MACsec", w->port[FW_OUTSIDE].spec);
		return rc;
	}
	if (conf->engine) {
		pk_diag_set(diag,
		    "macsec on port \"%s\": %s; leave `engine` out, and the CPU does it",
		    w->port[FW_OUTSIDE].spec,
		    has_macsec_engine(conf->port)
		        ? "its engine is one that this version does not drive"
		        : "it has no engine for it (rte_security)");
		return -ENOTSUP;
	}
	conf->secy.sci = macsec_sci_of(mac.addr_bytes, 1);
	inside = fw_port_mtu(&w->port[FW_INSIDE], 0);
	outside = fw_port_mtu(&w->port[FW_OUTSIDE], inside + MACSEC_GROWTH);
	if (outside < inside + MACSEC_GROWTH) {
		pk_warn(
		    "port \"%s\": takes %u octets, and MACsec adds %d to the %u of the inside; longer frames drop as macsec-too-long",
		    w->port[FW_OUTSIDE].spec, outside, MACSEC_GROWTH, inside);
		conf->secy.max_len = outside + RTE_ETHER_HDR_LEN + MACSEC_VLANS_MAX * 4;
	}
	rc = fw_macsec_create(&d->macsec[d->nb_macsec], conf, diag);
	if (rc == 0)
		w->port[FW_OUTSIDE].macsec = d->macsec[d->nb_macsec++];
	return rc;
}

static int
open_wires(struct picketd *d, struct pk_diag *diag)
{
	const struct options *o = &d->options;

	if (o->wires.nb == 0 || o->wires.nb > FW_WIRES_MAX) {
		pk_diag_set(diag,
		    "%zu wires are configured; want 1 to %d lines such as wire = af_packet:eth0 af_packet:eth1",
		    o->wires.nb, FW_WIRES_MAX);
		return -EINVAL;
	}
	for (size_t i = 0; i < o->wires.nb; i++) {
		struct fw_wire *w = &d->wires[i];
		uint16_t nb_queues = (uint16_t)(rte_lcore_count() - 1);
		char inside[256], outside[256];
		struct fw_macsec_conf macsec;
		int rc, has_macsec;

		if (sscanf(o->wires.item[i], "%255s %255s", inside, outside) != 2) {
			pk_diag_set(diag, "wire = %s: want an inside port and an outside port",
			    o->wires.item[i]);
			return -EINVAL;
		}
		has_macsec = macsec_of(o, i, &macsec, diag);
		if (has_macsec < 0)
			return has_macsec;
		/* A SecY is one lcore's, so that packet numbers have one writer. */
		if (has_macsec)
			nb_queues = 1;
		rc = fw_port_open(&w->port[FW_INSIDE], inside, nb_queues, d->pool, diag);
		if (rc == 0)
			rc = fw_port_open(&w->port[FW_OUTSIDE], outside, nb_queues, d->pool, diag);
		if (rc < 0)
			return rc;
		d->nb_wires++;
		if (has_macsec)
			rc = add_macsec(d, w, &macsec, diag);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void
wait_for_lcores(void *arg)
{
	struct picketd *d = arg;

	if (d->workers != NULL)
		fw_workers_wait(d->workers);
}

/* IPsec, if it is configured: the tables, and the addresses that tunnels end at. */
static int
open_ipsec(struct picketd *d, struct pk_diag *diag)
{
	const struct options *o = &d->options;
	struct esp_sad_conf conf = {
		.nb_sas = (uint32_t)o->ipsec_sas, .wait = wait_for_lcores, .arg = d
	};
	struct esp_sad *sad;
	int rc;

	if (o->ipsec_sas == 0) {
		if (o->ipsec_addresses.nb == 0)
			return 0;
		pk_diag_set(diag, "ipsec-address without ipsec-sas: want room for SAs");
		return -EINVAL;
	}
	rc = esp_sad_create(&sad, &conf, diag);
	if (rc == 0)
		rc = fw_esp_create(&d->esp, sad, rte_lcore_count() - 1, diag);
	for (size_t i = 0; rc == 0 && i < o->ipsec_addresses.nb; i++) {
		struct fw_local *l = &d->esp->local[i];
		const struct fw_port *port;
		struct rte_ether_addr mac;

		if (i == FW_LOCALS_MAX) {
			pk_diag_set(diag, "%zu times ipsec-address: want at most %d",
			    o->ipsec_addresses.nb, FW_LOCALS_MAX);
			return -EINVAL;
		}
		rc = fw_local_parse(l, o->ipsec_addresses.item[i], diag);
		if (rc < 0)
			return rc;
		if (l->wire >= d->nb_wires) {
			pk_diag_set(diag, "ipsec-address = %s: there are %u wires, counted from 0",
			    o->ipsec_addresses.item[i], d->nb_wires);
			return -EINVAL;
		}
		port = &d->wires[l->wire].port[FW_OUTSIDE];
		if (rte_eth_macaddr_get(port->id, &mac) != 0 ||
		    rte_eth_dev_get_mtu(port->id, &l->mtu) != 0) {
			pk_diag_set(diag, "%s: the port has no MAC address", port->spec);
			return -ENODEV;
		}
		memcpy(l->mac, mac.addr_bytes, sizeof(l->mac));
		d->esp->nb_locals++;
	}
	return rc;
}

/* The ports to picket-tlsd, if there are any. */
static int
open_tls(struct picketd *d, struct pk_diag *diag)
{
	const struct options *o = &d->options;
	uint64_t wires = 0;

	for (size_t i = 0; i < o->tls_ports.nb; i++) {
		unsigned int wire;
		char spec[256];
		int rc;

		if (sscanf(o->tls_ports.item[i], "%u %255s", &wire, spec) != 2 ||
		    wire >= d->nb_wires || (wires >> wire & 1) != 0) {
			pk_diag_set(diag,
			    "tls-port = %s: want the number of a wire, counted from 0, that has no other, and a port",
			    o->tls_ports.item[i]);
			return -EINVAL;
		}
		rc = fw_port_open(&d->wires[wire].tls, spec, 1, d->pool, diag);
		if (rc < 0)
			return rc;
		wires |= UINT64_C(1) << wire;
	}
	return wires != 0 ? fw_tls_create(&d->tls, wires, diag) : 0;
}

/* The sockets are made by the user we shall be by then. */
static int
give_run_dir(const struct options *o, struct pk_diag *diag)
{
	const struct passwd *pw;

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

static void
publish(void *arg, struct fw_rules *rules)
{
	struct picketd *d = arg;

	fw_workers_publish(d->workers, rules);
}

static void
wall_clock(void *arg)
{
	struct picketd *d = arg;

	fw_workers_wall(d->workers);
}

static void
policy_counts(void *arg, struct pk_msg_policy_counts *out)
{
	struct picketd *d = arg;

	for (unsigned int i = 0; i < fw_workers_count(d->workers); i++) {
		const struct fw_path_stats *s = fw_path_stats(fw_workers_path(d->workers, i));

		out->refused += pk_counter_read(&s->drop[FW_DROP_RULE_DENY]) +
		    pk_counter_read(&s->drop[FW_DROP_RULE_REJECT]) +
		    pk_counter_read(&s->drop[FW_DROP_ENCRYPTION_MISSING]) +
		    pk_counter_read(&s->drop[FW_DROP_TLS_PLAIN]) +
		    pk_counter_read(&s->drop[FW_DROP_INSPECT_MISSING]);
		out->revoked += pk_counter_read(&s->revoked);
	}
}

static int
start(struct picketd *d, struct pk_diag *diag)
{
	const struct options *o = &d->options;
	struct fw_workers_conf workers = {
		.wires = d->wires,
		.software_rss = o->software_rss,
		.idle_sleep_max_ns = o->idle_sleep,
		.trace_records = (uint32_t)o->trace_records,
		.session_dir = o->session_dir,
		.run_dir = o->run_dir,
		.instance = o->instance,
		.session_records = o->session_records,
	};
	struct fw_show_conf show = {
		.wires = d->wires,
		.instance = o->instance,
		.program = &program,
		.values = o,
	};
	struct fw_link_plane plane = {
		.program = "picketd",
		.instance = o->instance,
		.nb_sessions_max = (uint32_t)o->path.sessions,
		.publish = publish,
		.counts = policy_counts,
		.clock = wall_clock,
		.arg = d,
	};
	char path[512];
	int rc;

	if (mkdir(o->run_dir, 0755) < 0 && errno != EEXIST) {
		pk_diag_set(diag, "%s: cannot be made: %s", o->run_dir, strerror(errno));
		return -errno;
	}
	rc = give_run_dir(o, diag);
	if (rc == 0)
		rc = start_eal(o, diag);
	if (rc < 0)
		return rc;
	d->pool = rte_pktmbuf_pool_create("packets", (unsigned int)o->buffers, MBUF_CACHE, 0,
	    RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	if (d->pool == NULL) {
		pk_diag_set(diag, "no room for %u packet buffers in %u MB; want more `memory`",
		    (unsigned int)o->buffers, (unsigned int)(o->memory >> 20));
		return -ENOMEM;
	}
	rc = open_wires(d, diag);
	if (rc < 0)
		return rc;
	rc = open_ipsec(d, diag);
	if (rc == 0)
		rc = open_tls(d, diag);
	if (rc < 0)
		return rc;
	fw_path_conf_init(&workers.path);
	workers.nb_wires = d->nb_wires;
	fw_path_options_apply(&o->path, &workers.path);
	rc = fw_path_options_networks(&o->path, &workers.path, &d->overlay, diag);
	if (rc < 0)
		return rc;
	for (unsigned int i = 0; i < d->nb_macsec; i++)
		if (fw_macsec_conf(d->macsec[i])->required)
			workers.path.secured_wires |= UINT64_C(1)
			    << fw_macsec_conf(d->macsec[i])->wire;
	workers.path.huge = o->huge;
	workers.path.pool = d->pool;
	workers.path.esp = d->esp;
	workers.path.tls = d->tls;
	if (getrandom(workers.path.seed, sizeof(workers.path.seed), 0) !=
	    (ssize_t)sizeof(workers.path.seed)) {
		pk_diag_set(diag, "no random numbers for the session table");
		return -EIO;
	}
	if (o->signatures == NULL)
		workers.path.watch_memory = 0;
	if (o->event_log != NULL) {
		rc = fw_eve_open(&d->eve, o->event_log, diag);
		if (rc < 0)
			return rc;
	}
	/* The ports are open and not yet polled: this is the moment before the first byte. */
	rc = pk_priv_drop(&(struct pk_priv){ .user = o->user, .no_exec = true }, diag);
	if (rc < 0)
		return rc;
	rc = fw_workers_start(&d->workers, &workers, diag);
	if (rc < 0)
		return rc;
	snprintf(path, sizeof(path), "%s/picketd.sock", o->run_dir);
	if (d->esp != NULL && d->esp->nb_locals > 0 && o->ipsec_mesh)
		plane.tunnel = d->esp->local[0].addr;
	rc = fw_link_create(&d->link, d->base, path, &plane, diag);
	if (rc < 0)
		return rc;
	snprintf(path, sizeof(path), "%s/posture.sock", o->run_dir);
	rc = fw_posture_link_create(&d->posture, d->base, path, d->workers, diag);
	if (rc < 0)
		return rc;
	if (d->esp != NULL) {
		struct fw_sadb_conf sadb = { .base = d->base,
			.esp = d->esp,
			.workers = d->workers,
			.pool = d->pool,
			.path = path,
			.instance = o->instance };

		snprintf(path, sizeof(path), "%s/" PK_SADB_SOCKET, o->run_dir);
		rc = fw_sadb_link_create(&d->sadb, &sadb, diag);
		if (rc < 0)
			return rc;
		if (d->esp->nb_locals > 0 && o->ipsec_mesh) {
			snprintf(
			    d->grants, sizeof(d->grants), "%s/picket-agentd.grants", o->run_dir);
			rc = fw_mesh_link_create(&d->mesh, d->base, d->grants, d->esp,
			    fw_link_epoch(d->link), fw_workers_now_ns);
			if (rc < 0)
				return rc;
		}
		show.esp = d->esp;
		show.sadb = d->sadb;
		show.mesh = d->mesh;
	}
	if (d->tls != NULL) {
		struct fw_tls_plane_conf tls = { .base = d->base,
			.tls = d->tls,
			.workers = d->workers,
			.path = path,
			.instance = o->instance };

		snprintf(path, sizeof(path), "%s/" PK_TLS_SOCKET, o->run_dir);
		rc = fw_tls_plane_create(&d->tls_plane, &tls, diag);
		if (rc < 0)
			return rc;
	}
	if (d->nb_macsec > 0) {
		snprintf(path, sizeof(path), "%s/macsec.sock", o->run_dir);
		rc = fw_macsec_link_create(&d->macsec_link, d->base, path, o->instance, d->workers,
		    d->macsec, d->nb_macsec, diag);
		if (rc < 0)
			return rc;
	}
	snprintf(path, sizeof(path), "%s/picketd.ctl", o->run_dir);
	rc = fw_signatures_create(&d->signatures,
	    &(struct fw_signatures_conf){ .base = d->base,
	        .workers = d->workers,
	        .path = workers.path.watch_memory != 0 ? o->signatures : NULL,
	        .key = o->signatures_key },
	    diag);
	if (rc < 0)
		return rc;
	show.signatures = d->signatures;
	show.eve = d->eve;
	show.base = d->base;
	show.workers = d->workers;
	show.link = d->link;
	show.posture = d->posture;
	show.macsec = d->macsec_link;
	show.nb_wires = d->nb_wires;
	show.path = path;
	return fw_show_create(&d->show, &show, diag);
}

static void
stop(struct picketd *d)
{
	fw_show_destroy(d->show);
	fw_macsec_link_destroy(d->macsec_link);
	fw_posture_link_destroy(d->posture);
	fw_link_destroy(d->link);
	fw_mesh_link_destroy(d->mesh);
	fw_tls_plane_destroy(d->tls_plane);
	fw_sadb_link_destroy(d->sadb);
	fw_workers_stop(d->workers);
	d->workers = NULL;
	fw_esp_destroy(d->esp);
	for (uint16_t i = 0; i < d->nb_wires; i++)
		if (fw_tls_has(d->tls, i))
			fw_port_close(&d->wires[i].tls);
	fw_tls_destroy(d->tls);
	for (unsigned int i = 0; i < d->nb_macsec; i++)
		fw_macsec_destroy(d->macsec[i]);
	fw_signatures_destroy(d->signatures);
	fw_eve_close(d->eve);
	for (uint16_t i = 0; i < d->nb_wires; i++)
		for (unsigned int side = 0; side < FW_SIDE_COUNT; side++)
			fw_port_close(&d->wires[i].port[side]);
	rte_eal_cleanup();
}

static int
run(void *arg, struct event_base *base, struct pk_diag *diag)
{
	struct picketd *d = arg;
	int rc;

	d->base = base;
	rc = start(d, diag);
	if (rc == 0)
		rc = pk_program_serve(base);
	stop(d);
	return rc;
}

int
main(int argc, char **argv)
{
	struct picketd d = { 0 };

	return pk_program_main(&program, &d.options, argc, argv, run, &d);
}
