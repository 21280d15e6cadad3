#include "ipsec/ike/iked.h"

#include "config.h"

#define OPTION(name, type, unit, value, min, max, help, member) \
	{ name, type, unit, value, min, max, NULL, false, help, offsetof(struct iked_conf, member) }

const struct pk_conf_option iked_options[] = {
	OPTION("user", PK_CONF_STRING, NULL, "", 0, 0,
		"Run as this user when started by root. Empty: stay.", user),
	OPTION("run-dir", PK_CONF_STRING, NULL, PK_RUNDIR, 0, 0,
		"Directory of the local sockets, picketd's sadb.sock among them.", run_dir),
	OPTION("peers", PK_CONF_LIST, NULL, NULL, 0, 0,
		"File with peers, documents of kind IkePeer; read at start and by `picketctl ipsec load`. "
		"None: they come from picket-agentd, or by that command.", peers),
	OPTION("credentials-dir", PK_CONF_STRING, NULL, PK_SYSCONFDIR "/ike", 0, 0,
		"Directory of the certificates, keys and secrets that peers name by file. Nothing outside of it "
		"is read.", credentials_dir),
	OPTION("threads", PK_CONF_NUMBER, "threads", "16", 8, 256,
		"Threads that work. Four of them always wait for something.", threads),
	OPTION("table-size", PK_CONF_NUMBER, "buckets", "16384", 64, 4194304,
		"Buckets of the table of IKE SAs: about as many as there are peers.", table_size),
	OPTION("dos-protection", PK_CONF_BOOL, NULL, "yes", 0, 0,
		"Answer with cookies (RFC 7296, section 2.6) when too many IKE SAs are half open, and hold back those "
		"who open too many.", dos_protection),
	OPTION("cookie-threshold", PK_CONF_NUMBER, "IKE SAs", "128", 1, 1000000,
		"Half-open IKE SAs, of all peers together, from which on there are cookies.", cookie_threshold),
	OPTION("block-threshold", PK_CONF_NUMBER, "IKE SAs", "16", 2, 1000000,
		"Half-open IKE SAs of one address from which on it is held back.", block_threshold),
	OPTION("half-open-max", PK_CONF_NUMBER, "IKE SAs", "10000", 0, 1000000,
		"Half-open IKE SAs from which on no more are begun by others. 0: no bound.", half_open_max),
	OPTION("retransmit", PK_CONF_DURATION, NULL, "2s", PK_NS_PER_MS * 50, PK_NS_PER_S * 60,
		"Wait for an answer before a request is sent again; 1.8 times longer with each time.", retransmit_ns),
	OPTION("retransmit-tries", PK_CONF_NUMBER, "times", "5", 1, 20,
		"Send a request again so many times before the peer counts as dead.", retransmit_tries),
	OPTION("fragment-size", PK_CONF_NUMBER, "bytes", "1280", 576, 9000,
		"Longest IP packet for a fragment of IKE (RFC 7383).", fragment_size),
	OPTION("rekeyed-delay", PK_CONF_DURATION, NULL, "5s", 0, PK_NS_PER_S * 3600,
		"Keep the inbound half of an SA so long after it was rekeyed, for packets that are under way.",
		rekeyed_delay_ns),
	OPTION("keepalive", PK_CONF_DURATION, NULL, "20s", 0, PK_NS_PER_S * 600,
		"Behind a NAT, send a byte to a peer to which nothing was sent for so long (RFC 3948, section 4). 0: never.",
		keepalive_ns),
};
const size_t iked_nb_options = PK_COUNT(iked_options);
