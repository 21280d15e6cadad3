/*
 * picket-iked: IKEv2 for picketd, by libcharon (see swan.h about its licence).
 *
 * libcharon's threads do the protocol; this thread has the control socket and the end of the program.  Privileges go
 * when the plugins are loaded and before anything of a network or an operator is read: what is left needs no
 * capability, no socket of the internet and no other program, since packets and keys go by picketd.
 */
#include "ipsec/ike/swan.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include <event2/event.h>

#include <processing/jobs/callback_job.h>

#include "ipsec/ike/abi.h"
#include "ipsec/ike/events.h"
#include "ipsec/ike/iked.h"
#include "ipsec/ike/kernel_addrs.h"
#include "ipsec/ike/kernel_sadb.h"
#include "ipsec/ike/load.h"
#include "ipsec/ike/logger.h"
#include "ipsec/ike/peers.h"
#include "ipsec/ike/plane.h"
#include "ipsec/ike/resync.h"
#include "ipsec/ike/show.h"
#include "ipsec/ike/socket_punt.h"
#include "lib/control.h"
#include "lib/log.h"
#include "lib/priv.h"
#include "lib/program.h"

/** openssl has all of the cryptography; the others what OpenSSL 3.0 is not asked for by 5.9.8 */
#define PLUGINS "random nonce openssl kdf pem pkcs1 pkcs8 x509 pubkey constraints hmac"

static struct iked_conf conf;
static struct pk_program program = {
	.name = "picket-iked",
	.summary = "IKEv2: agrees with peers on the keys of picketd's tunnels",
};
static peers_t *peers;
static struct pk_helper *loader;

static int refuse(const struct pk_diag *diag)
{
	fprintf(stderr, "%s: %s\n", program.name, diag->text);
	return 1;
}

/* ---- picketd comes, or comes back ------------------------------------------------------------------------ */

CALLBACK(take_up, job_requeue_t,
	void *fresh)
{
	if (fresh)
	{
		resync();
	}
	peers->start(peers);
	return JOB_REQUEUE_NONE;
}

METHOD(plane_listener_t, up, void,
	plane_listener_t *this, bool fresh)
{
	lib->processor->queue_job(lib->processor, (job_t*)callback_job_create(take_up,
								fresh ? (void*)this : NULL, NULL, NULL));
}

/* ---- peers ----------------------------------------------------------------------------------------------- */

static bool put_in_force(struct policy_ike *ike, peers_change_t *change, struct pk_diag *diag)
{
	bool ok = peers->replace(peers, ike, change, diag);

	policy_ike_destroy(ike);
	if (ok)
	{
		pk_notice("peers in force: %zu added, %zu changed, %zu removed, %zu as before", change->added,
				  change->changed, change->removed, change->kept);
	}
	else
	{
		pk_warn("peers refused: %s", diag->text);
	}
	return ok;
}

/**
 * `ipsec load` at work
 */
typedef struct {
	struct pk_job job;
	struct pk_control_request *request;
	int fd;
	bool over, ok;
	peers_change_t change;
	struct pk_diag diag;
} load_t;

static void work_load(struct pk_job *job)
{
	load_t *this = (load_t*)job;
	struct policy_ike *ike;
	plane_stats_t stats;
	int rc;

	rc = this->fd != -1 ? load_fd(&ike, this->fd, &this->diag) :
						  load_files(&ike, &conf.peers, &this->diag);
	this->ok = rc == 0 && put_in_force(ike, &this->change, &this->diag);
	picket_plane->get_stats(picket_plane, &stats);
	if (this->ok && stats.connected)
	{
		peers->start(peers);
	}
}

static void done_load(struct pk_job *job)
{
	load_t *this = (load_t*)job;
	struct pk_control_request *r = this->request;

	if (this->fd != -1)
	{
		close(this->fd);
	}
	this->request = NULL;
	if (this->over)
	{
		free(this);
	}
	else if (!this->ok)
	{
		pk_control_refuse(r, "%s", this->diag.text);
	}
	else
	{
		pk_control_rowf(r, "{\"added\":%zu,\"changed\":%zu,\"removed\":%zu,\"kept\":%zu}",
						this->change.added, this->change.changed, this->change.removed, this->change.kept);
		pk_control_done(r);
	}
}

static void gone_load(void *state)
{
	load_t *this = state;

	if (this->request)
	{
		this->over = TRUE;
		return;
	}
	free(this);
}

static void load(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	int fd = pk_control_fd(r);
	load_t *this;

	INIT(this,
		.job = {
			.work = work_load,
			.done = done_load,
		},
		.request = r,
		/* the request closes its own when the client is gone */
		.fd = fd >= 0 ? dup(fd) : -1,
	);
	pk_control_stream(r, NULL, gone_load, this);
	pk_helper_give(loader, &this->job);
}

/* ---- commands -------------------------------------------------------------------------------------------- */

static void status(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	char instance[160];
	plane_stats_t s;

	picket_plane->get_stats(picket_plane, &s);
	pk_control_rowf(r, "{\"picketd\":\"%s\",\"instance\":%s,\"room\":%u,\"peers\":%zu,\"ike\":%u,\"half_open\":%u,"
		"\"up\":%ju,\"refused\":%ju,\"unreachable\":%ju,\"threads\":%u,\"jobs\":%u}",
		s.connected ? "connected" : "away", pk_json_string(s.instance, instance, sizeof(instance)),
		s.nb_sas_max, peers->get_count(peers), charon->ike_sa_manager->get_count(charon->ike_sa_manager),
		charon->ike_sa_manager->get_half_open_count(charon->ike_sa_manager, NULL, FALSE),
		(uintmax_t)events_read(EVENT_ike_up),
		(uintmax_t)(events_read(EVENT_auth_refused) + events_read(EVENT_certificate_refused) +
					events_read(EVENT_proposal_refused_ike) + events_read(EVENT_proposal_refused_child) +
					events_read(EVENT_selector_refused)),
		(uintmax_t)events_read(EVENT_unreachable), lib->processor->get_total_threads(lib->processor),
		lib->processor->get_job_load(lib->processor, JOB_PRIO_HIGH) +
		lib->processor->get_job_load(lib->processor, JOB_PRIO_MEDIUM) +
		lib->processor->get_job_load(lib->processor, JOB_PRIO_LOW));
	pk_control_done(r);
}

static void bring_up(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	if (argc < 1 || argc > 2)
	{
		pk_control_refuse(r, "want PEER [CHILD]");
	}
	else if (!peers->initiate(peers, argv[0], argc > 1 ? argv[1] : NULL))
	{
		pk_control_refuse(r, "there is no peer \"%.128s\"%s%.128s%s", argv[0],
						  argc > 1 ? " with a child \"" : "", argc > 1 ? argv[1] : "",
						  argc > 1 ? "\"" : "");
	}
	else
	{
		pk_control_done(r);
	}
}

static void show_config(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	pk_program_show_config(&program, &conf, r);
}

static const struct pk_control_command commands[] = {
	{ "show ike", "[PEER]", "IKE SAs", show_ike },
	{ "show children", "[PEER [CHILD]]", "CHILD SAs", show_children },
	{ "show counters", "", "what has happened since the start", show_counters },
	{ "show config", "", "the options and their values", show_config },
	{ "ipsec status", "", "picketd, peers and SAs in one line", status },
	{ "ipsec up", "PEER [CHILD]", "begin", bring_up },
	{ "ipsec rekey", "PEER [CHILD] [reauth]", "new keys, for the IKE SA or one of its children", show_rekey },
	{ "ipsec down", "PEER [CHILD]", "end an IKE SA, or one of its children", show_down },
	{ "ipsec load", "",
		"put the peers of the file that comes along in force, or those of the configured files", load },
	{ NULL, NULL, NULL, NULL },
};

/* ---- beginning and end ------------------------------------------------------------------------------------- */

static void apply_settings()
{
	settings_t *s = lib->settings;

	s->set_int(s, "%s.threads", (int)conf.threads, lib->ns);
	s->set_int(s, "%s.ikesa_table_size", (int)conf.table_size, lib->ns);
	s->set_int(s, "%s.ikesa_table_segments", 16, lib->ns);
	s->set_bool(s, "%s.dos_protection", conf.dos_protection, lib->ns);
	s->set_int(s, "%s.cookie_threshold", (int)conf.cookie_threshold, lib->ns);
	/* half way to being held back an address is asked whether it is there at all */
	s->set_int(s, "%s.cookie_threshold_ip", (int)min(conf.cookie_threshold, conf.block_threshold / 2), lib->ns);
	s->set_int(s, "%s.block_threshold", (int)conf.block_threshold, lib->ns);
	s->set_int(s, "%s.init_limit_half_open", (int)conf.half_open_max, lib->ns);
	s->set_double(s, "%s.retransmit_timeout", (double)conf.retransmit_ns / PK_NS_PER_S, lib->ns);
	s->set_int(s, "%s.retransmit_tries", (int)conf.retransmit_tries, lib->ns);
	s->set_int(s, "%s.fragment_size", (int)conf.fragment_size, lib->ns);
	s->set_int(s, "%s.delete_rekeyed_delay", (int)(conf.rekeyed_delay_ns / PK_NS_PER_S), lib->ns);
	s->set_int(s, "%s.keep_alive", (int)(conf.keepalive_ns / PK_NS_PER_S), lib->ns);
	s->set_bool(s, "%s.install_routes", FALSE, lib->ns);
	s->set_bool(s, "%s.install_virtual_ip", FALSE, lib->ns);
	/* new SAs before the old ones go, when authentication is repeated */
	s->set_bool(s, "%s.make_before_break", TRUE, lib->ns);
	/* receiver, sender and scheduler wait; a thread each for what is urgent */
	s->set_int(s, "%s.processor.priority_threads.critical", 2, lib->ns);
	s->set_int(s, "%s.processor.priority_threads.high", 1, lib->ns);
}

static bool start_libcharon(plane_listener_t *listener, struct pk_diag *diag)
{
	static plugin_feature_t features[] = {
		PLUGIN_CALLBACK(kernel_ipsec_register, kernel_sadb_create),
			PLUGIN_PROVIDE(CUSTOM, "kernel-ipsec"),
		PLUGIN_CALLBACK(kernel_net_register, kernel_addrs_create),
			PLUGIN_PROVIDE(CUSTOM, "kernel-net"),
		PLUGIN_CALLBACK(socket_register, socket_punt_create),
			PLUGIN_PROVIDE(CUSTOM, "socket"),
	};
	char path[512];

	apply_settings();
	snprintf(path, sizeof(path), "%s/%s", conf.run_dir, PK_SADB_SOCKET);
	picket_plane = plane_create(path, program.name);
	picket_plane->set_listener(picket_plane, listener);
	logger_register();
	events_register();
	lib->plugins->add_static_features(lib->plugins, "picket", features, countof(features), TRUE, NULL,
									  NULL);
	if (!charon->initialize(charon, PLUGINS))
	{
		pk_diag_set(diag, "libcharon cannot start; are libstrongswan-standard-plugins installed?  -v says more");
		return FALSE;
	}
	return TRUE;
}

static int serve(struct event_base *base, struct pk_diag *diag)
{
	struct pk_control *control = NULL;
	struct policy_ike *ike = NULL;
	peers_change_t change;
	char path[512];
	int rc;

	rc = pk_priv_drop(&(struct pk_priv){ .user = conf.user, .no_exec = true, .no_inet = true }, diag);
	if (rc < 0)
	{
		return rc;
	}
	peers = peers_create(conf.credentials_dir);
	rc = load_files(&ike, &conf.peers, diag);
	if (rc == 0 && !put_in_force(ike, &change, diag))
	{
		rc = -EINVAL;
	}
	if (rc == 0)
	{
		rc = show_init(base, diag);
	}
	if (rc == 0)
	{
		rc = pk_helper_create(&loader, base, "load", diag);
	}
	if (rc == 0)
	{
		snprintf(path, sizeof(path), "%s/picket-iked.ctl", conf.run_dir);
		rc = pk_control_create(&control, base, path, commands, NULL, diag);
	}
	if (rc == 0)
	{
		picket_plane->start(picket_plane);
		charon->start(charon);
		rc = pk_program_serve(base);
	}
	pk_control_destroy(control);
	pk_helper_destroy(loader);
	show_fini();
	return rc;
}

int main(int argc, char **argv)
{
	static plane_listener_t listener;
	struct event_base *base;
	struct pk_diag diag;
	int rc = -EINVAL;

	program.options = iked_options;
	program.nb_options = iked_nb_options;
	if (pk_program_start(&program, &conf, argc, argv) != argc)
	{
		fprintf(stderr, "picket-iked: takes options only; -h lists them\n");
		return 2;
	}
	base = event_base_new();
	if (!base)
	{
		pk_diag_set(&diag, "the event loop could not be started");
		return refuse(&diag);
	}
	listener.up = _up;
	pk_diag_set(&diag, "libstrongswan cannot start");
	logger_hook_library();
	/* its settings are ours alone: no strongswan.conf is read */
	if (library_init("", "picket-iked") && libcharon_init() && abi_check(&diag))
	{
		if (start_libcharon(&listener, &diag))
		{
			rc = serve(base, &diag);
		}
		/* ends all IKE SAs, which tells the peers by the plane */
		if (peers)
		{
			peers->destroy(peers);
		}
		libcharon_deinit();
		if (picket_plane)
		{
			picket_plane->destroy(picket_plane);
		}
	}
	event_base_free(base);
	pk_conf_fini(iked_options, iked_nb_options, &conf);
	return rc == 0 ? 0 : refuse(&diag);
}
