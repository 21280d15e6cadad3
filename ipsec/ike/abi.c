#include "ipsec/ike/abi.h"

#include <dlfcn.h>
#include <stdio.h>

#define DPKG_STATUS "/var/lib/dpkg/status"

/**
 * Whether a function is where libcharon is
 */
static bool in_libcharon(void *function)
{
	Dl_info info;

	return dladdr(function, &info) && info.dli_fname && strstr(info.dli_fname, "/libcharon.so.0");
}

/**
 * The functions of the daemon, which stand behind members that depend on how libcharon was configured
 */
static bool check_daemon()
{
	return in_libcharon(charon->initialize) && in_libcharon(charon->start) &&
		   in_libcharon(charon->load_loggers) && in_libcharon(charon->set_default_loggers) &&
		   in_libcharon(charon->set_level);
}

/**
 * Configurations tell what they were made with
 */
static bool check_configs()
{
	ike_cfg_create_t ike_data = {
		.version = IKEV2,
		.local = "192.0.2.1",
		.local_port = 501,
		.remote = "192.0.2.2",
		.remote_port = 502,
		.force_encap = TRUE,
		.fragmentation = FRAGMENTATION_FORCE,
		.childless = CHILDLESS_NEVER,
		.dscp = 46,
	};
	peer_cfg_create_t peer_data = {
		.cert_policy = CERT_NEVER_SEND,
		.unique = UNIQUE_KEEP,
		.keyingtries = 11,
		.rekey_time = 1012,
		.over_time = 13,
		.no_mobike = TRUE,
		.dpd = 14,
		.dpd_timeout = 15,
		.if_id_in = 16,
		.if_id_out = 17,
	};
	child_cfg_create_t child_data = {
		.reqid = 21,
		.mode = MODE_TRANSPORT,
		.tfc = 22,
		.priority = 23,
		.lifetime = {
			.time = { .life = 2400, .rekey = 2300 },
			.bytes = { .life = 26, .rekey = 25 },
			.packets = { .life = 28, .rekey = 27 },
		},
		.inactivity = 29,
		.dpd_action = ACTION_START,
		.close_action = ACTION_TRAP,
		.copy_dscp = DSCP_COPY_IN_ONLY,
	};
	lifetime_cfg_t *life;
	child_cfg_t *child;
	peer_cfg_t *peer;
	ike_cfg_t *ike;
	bool ok;

	ike = ike_cfg_create(&ike_data);
	peer = peer_cfg_create("abi", ike, &peer_data);
	child = child_cfg_create("abi-child", &child_data);
	ok = in_libcharon(ike->destroy) && in_libcharon(peer->destroy) && in_libcharon(child->destroy);
	ok = ok && ike->get_version(ike) == IKEV2 && ike->get_my_port(ike) == 501 &&
		 ike->get_other_port(ike) == 502 && ike->force_encap(ike) &&
		 ike->fragmentation(ike) == FRAGMENTATION_FORCE && ike->childless(ike) == CHILDLESS_NEVER &&
		 ike->get_dscp(ike) == 46;
	ok = ok && streq(peer->get_name(peer), "abi") && peer->get_ike_cfg(peer) == ike &&
		 peer->get_cert_policy(peer) == CERT_NEVER_SEND &&
		 peer->get_unique_policy(peer) == UNIQUE_KEEP && peer->get_keyingtries(peer) == 11 &&
		 peer->get_rekey_time(peer, FALSE) == 1012 && peer->get_over_time(peer) == 13 &&
		 !peer->use_mobike(peer) && peer->get_dpd(peer) == 14 &&
		 peer->get_if_id(peer, TRUE) == 16 && peer->get_if_id(peer, FALSE) == 17;
	if (ok)
	{
		life = child->get_lifetime(child, FALSE);
		ok = life->time.life == 2400 && life->time.rekey == 2300 && life->bytes.life == 26 &&
			 life->bytes.rekey == 25 && life->packets.life == 28 && life->packets.rekey == 27;
		free(life);
	}
	ok = ok && streq(child->get_name(child), "abi-child") && child->get_reqid(child) == 21 &&
		 child->get_mode(child) == MODE_TRANSPORT && child->get_tfc(child) == 22 &&
		 child->get_manual_prio(child) == 23 && child->get_inactivity(child) == 29 &&
		 child->get_dpd_action(child) == ACTION_START &&
		 child->get_close_action(child) == ACTION_TRAP &&
		 child->get_copy_dscp(child) == DSCP_COPY_IN_ONLY;
	if (in_libcharon(child->destroy) && in_libcharon(peer->destroy))
	{
		child->destroy(child);
		peer->destroy(peer);
	}
	return ok;
}

/**
 * The version of a package, as dpkg has it; FALSE if dpkg does not know
 */
static bool get_version(const char *package, char *version, size_t len)
{
	FILE *status = fopen(DPKG_STATUS, "re");
	bool within = FALSE, found = FALSE;
	char *line = NULL;
	size_t size = 0;

	while (status && !found && getline(&line, &size, status) > 0)
	{
		line[strcspn(line, "\n")] = '\0';
		if (strpfx(line, "Package: "))
		{
			within = streq(line + strlen("Package: "), package);
		}
		else if (within && strpfx(line, "Version: "))
		{
			snprintf(version, len, "%s", line + strlen("Version: "));
			found = TRUE;
		}
	}
	free(line);
	if (status)
	{
		fclose(status);
	}
	return found;
}

bool abi_check(struct pk_diag *diag)
{
	static const char *const packages[] = { "libstrongswan", "strongswan-libcharon" };
	char version[64];
	size_t i;

	for (i = 0; i < countof(packages); i++)
	{
		if (get_version(packages[i], version, sizeof(version)) && !strpfx(version, SWAN_VERSION "-"))
		{
			pk_diag_set(diag, "package %s is version %s, and this program is built for %s",
						packages[i], version, SWAN_VERSION);
			return FALSE;
		}
	}
	if (!check_daemon() || !check_configs())
	{
		pk_diag_set(diag, "libcharon is not version %s as Debian builds it: its objects have "
					"another layout", SWAN_VERSION);
		return FALSE;
	}
	return TRUE;
}
