#include "tls-offload/options.h"

#include "config.h"
#include "lib/svid.h"

#define O(member) offsetof(struct tlso_conf, member)

/* In the order of enum tlso_mode. */
static const char *const modes[] = { "both", "direct", "hbone", NULL };

/* clang-format off */
const struct pk_conf_option tlso_options[] = {
	{ "user", PK_CONF_STRING, NULL, "", 0, 0, NULL, false,
	  "Run as this user when started by root.  Empty: stay.", O(user) },
	{ "run-dir", PK_CONF_STRING, NULL, PK_RUNDIR, 0, 0, NULL, false,
	  "Directory of the control socket.", O(run_dir) },
	{ "plane", PK_CONF_STRING, NULL, PK_RUNDIR "/tls.sock", 0, 0, NULL, false,
	  "Socket of picketd, which hands flows over.", O(plane) },
	{ "agent", PK_CONF_STRING, NULL, PK_RUNDIR "/picket-agentd.svid", 0, 0, NULL, false,
	  "Socket of picket-agentd, which has the workloads' identities.", O(agent) },
	{ "port", PK_CONF_LIST, NULL, NULL, 0, 0, NULL, false,
	  "The interface by which picketd hands over the flows of a wire: the wire's number, a space, the interface's name.  It "
	  "is the other end of picketd's tls-port.", O(ports) },
	{ "workers", PK_CONF_NUMBER, "threads", "1", 1, 64, NULL, false,
	  "Threads that move bytes.", O(workers) },
	{ "handshake-workers", PK_CONF_NUMBER, "threads", "1", 1, 64, NULL, false,
	  "Threads that shake hands.", O(handshake_workers) },
	{ "cpu", PK_CONF_LIST, NULL, NULL, 0, 0, NULL, false,
	  "A processor for one worker, in their order.  Workers without are where the kernel puts them.", O(cpus) },
	{ "mode", PK_CONF_WORD, NULL, "both", 0, 0, modes, false,
	  "How flows are carried: direct, each in a TLS connection of its own, which only Picket speaks; hbone, in HTTP/2 as "
	  "in Istio's ambient mesh; or both, direct where the peer can.", O(mode) },
	{ "plain-port", PK_CONF_NUMBER, NULL, "15001", 1, 65535, NULL, false,
	  "Local port that plain flows are redirected to, whatever port they are for.", O(plain_port) },
	{ "flows", PK_CONF_NUMBER, "flows", "65536", 1, 1u << 20, NULL, false,
	  "Flows at a time, of all workers together.", O(flows) },
	{ "handshake-timeout", PK_CONF_DURATION, NULL, "10s", 10 * PK_NS_PER_MS, 600 * PK_NS_PER_S, NULL, false,
	  "Time for connecting and shaking hands.", O(handshake_ns) },
	{ "idle", PK_CONF_DURATION, NULL, "5m", PK_NS_PER_S, 86400 * PK_NS_PER_S, NULL, false,
	  "How long an HTTP/2 connection without flows is kept.", O(idle_ns) },
	{ "drain", PK_CONF_DURATION, NULL, "5s", 0, 3600 * PK_NS_PER_S, NULL, false,
	  "When told to stop, how long flows may go on; new ones are not taken meanwhile.", O(drain_ns) },
	{ "rekey-records", PK_CONF_NUMBER, "records", "8388608", 16, 1u << 24, NULL, false,
	  "After so many records the key is changed (RFC 8446, sections 4.6.3 and 5.5).", O(rekey_records) },
};
/* clang-format on */
const size_t tlso_nb_options = PK_COUNT(tlso_options);
