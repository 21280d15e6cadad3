/*
 * libstrongswan-picket.so: picketd as the kernel of a charon that an operator runs and configures himself.
 *
 *     charon { load_modular = yes
 *       plugins { picket { load = 10
 *                          socket = /run/picket/sadb.sock
 *                          punt = yes } } }
 *
 * With `punt` addresses and IKE packets are picketd's too, which is what a DPU needs; without it charon keeps its own
 * sockets and kernel-net, for hosts where it sees the packets itself.  The first who registers wins, so it stands before
 * kernel-netlink and socket-default.
 */
#include "ipsec/ike/swan.h"

#include <processing/jobs/callback_job.h>

#include "config.h"
#include "ipsec/ike/abi.h"
#include "ipsec/ike/kernel_addrs.h"
#include "ipsec/ike/kernel_sadb.h"
#include "ipsec/ike/plane.h"
#include "ipsec/ike/resync.h"
#include "ipsec/ike/socket_punt.h"

typedef struct private_picket_plugin_t private_picket_plugin_t;

struct private_picket_plugin_t {
	plugin_t public;
	plane_listener_t listener;
	bool seen;
};

METHOD(plugin_t, get_name, char*,
	private_picket_plugin_t *this)
{
	return "picket";
}

METHOD(plugin_t, get_features, int,
	private_picket_plugin_t *this, plugin_feature_t *features[])
{
	static plugin_feature_t f[] = {
		PLUGIN_CALLBACK(kernel_ipsec_register, kernel_sadb_create),
			PLUGIN_PROVIDE(CUSTOM, "kernel-ipsec"),
		PLUGIN_CALLBACK(kernel_net_register, kernel_addrs_create),
			PLUGIN_PROVIDE(CUSTOM, "kernel-net"),
		PLUGIN_CALLBACK(socket_register, socket_punt_create),
			PLUGIN_PROVIDE(CUSTOM, "socket"),
	};

	*features = f;
	return lib->settings->get_bool(lib->settings, "%s.plugins.picket.punt", TRUE, lib->ns) ?
				countof(f) : 2;
}

CALLBACK(take_up, job_requeue_t,
	void *unused)
{
	resync();
	return JOB_REQUEUE_NONE;
}

METHOD(plane_listener_t, up, void,
	plane_listener_t *listener, bool fresh)
{
	private_picket_plugin_t *this = (private_picket_plugin_t*)((char*)listener -
									offsetof(private_picket_plugin_t, listener));

	if (fresh && this->seen)
	{
		lib->processor->queue_job(lib->processor,
								  (job_t*)callback_job_create(take_up, NULL, NULL, NULL));
	}
	this->seen = TRUE;
}

METHOD(plugin_t, destroy, void,
	private_picket_plugin_t *this)
{
	picket_plane->destroy(picket_plane);
	picket_plane = NULL;
	free(this);
}

/** what plugin_loader looks for */
__attribute__((visibility("default"))) plugin_t *picket_plugin_create();

plugin_t *picket_plugin_create()
{
	private_picket_plugin_t *this;
	struct pk_diag diag;

	if (!abi_check(&diag))
	{
		DBG1(DBG_LIB, "picket: %s", diag.text);
		return NULL;
	}
	INIT(this,
		.public = {
			.get_name = _get_name,
			.get_features = _get_features,
			.destroy = _destroy,
		},
		.listener = {
			.up = _up,
		},
	);
	picket_plane = plane_create(lib->settings->get_str(lib->settings, "%s.plugins.picket.socket",
									PK_RUNDIR "/" PK_SADB_SOCKET, lib->ns), "charon");
	picket_plane->set_listener(picket_plane, &this->listener);
	picket_plane->start(picket_plane);
	return &this->public;
}
