#include "ipsec/mka/options.h"

#include "config.h"
#include "ipsec/mka/kay.h"

#define O(member) offsetof(struct mkad_conf, member)

/* In the order of enum macsec_suite, from its 1, and of enum macsec_confidentiality. */
static const char *const suites[] = { "gcm-aes-128", "gcm-aes-256", "gcm-aes-xpn-128",
	"gcm-aes-xpn-256", NULL };
static const char *const confidentialities[] = { "integrity", "0", "30", "50", NULL };

/* clang-format off */
const struct pk_conf_option mkad_options[] = {
	{ "user", PK_CONF_STRING, NULL, "", 0, 0, NULL, false,
	  "Run as this user when started by root.  Empty: stay.  Key files are read before, and again as this user by "
	  "`picketctl mka reload`.", O(user) },
	{ "run-dir", PK_CONF_STRING, NULL, PK_RUNDIR, 0, 0, NULL, false,
	  "Directory of the control socket.", O(run_dir) },
	{ "state-dir", PK_CONF_STRING, NULL, PK_RUNDIR "/mka", 0, 0, NULL, false,
	  "Directory of what is remembered over a restart of this program: who takes part, and message numbers, but no "
	  "keys.  Better lost with the machine's memory than kept.", O(state_dir) },
	{ "plane", PK_CONF_STRING, NULL, PK_RUNDIR "/macsec.sock", 0, 0, NULL, false,
	  "Socket of picketd, which has the ports.", O(plane) },
	{ "agent", PK_CONF_STRING, NULL, PK_RUNDIR "/picket-agentd.grants", 0, 0, NULL, false,
	  "Socket of picket-agentd, which has the CAKs of documents of kind Link.  Empty: ask nobody.", O(agent) },
	{ "port", PK_CONF_LIST, NULL, NULL, 0, 0, NULL, false,
	  "A port with CAKs from a file: the number of picketd's wire, and the file, mode 0600, with lines of a CKN of 1 to 32 octets "
	  "and a CAK of 16 or 32, both in hexadecimal.  Those from the policy server are used beside them.  Of several CAKs that "
	  "have live peers the one with the highest CKN counts.", O(ports) },
	{ "priority", PK_CONF_NUMBER, NULL, "16", 0, 255, NULL, false,
	  "Of becoming key server: the lowest wins.  255: never.", O(priority) },
	{ "cipher-suite", PK_CONF_WORD, NULL, "gcm-aes-xpn-256", 0, 0, suites, false,
	  "Of the keys that are made here as key server.  Peers without extended packet numbers, as wpa_supplicant, want "
	  "gcm-aes-128 or gcm-aes-256.", O(suite) },
	{ "confidentiality", PK_CONF_WORD, NULL, "0", 0, 0, confidentialities, false,
	  "What of frames stays in clear, of keys that are made here: 0, 30 or 50 octets behind the SecTAG, or with integrity all of it.  A "
	  "key for integrity alone is taken from others only if this says integrity, too.", O(confidentiality) },
	{ "delay-protect", PK_CONF_BOOL, NULL, "no", 0, 0, NULL, false,
	  "Bound the delay of frames: what is older than about two hellos is late.  Hellos go twice a second then.", O(delay_protect) },
	{ "rekey", PK_CONF_DURATION, NULL, "1h", 0, 0, NULL, false,
	  "As key server make a new key this often.  0: only when somebody joins or packet numbers run out.", O(rekey_ns) },
	{ "hello-time", PK_CONF_DURATION, NULL, "2s", 10 * PK_NS_PER_MS, 10 * PK_NS_PER_S, NULL, false,
	  "MKA Hello Time.  802.1X has 2s.", O(hello_ns) },
	{ "life-time", PK_CONF_DURATION, NULL, "6s", 30 * PK_NS_PER_MS, 60 * PK_NS_PER_S, NULL, false,
	  "MKA Life Time: who is silent for so long is gone.  802.1X has 6s.", O(life_ns) },
	{ "retire-time", PK_CONF_DURATION, NULL, "3s", 10 * PK_NS_PER_MS, 60 * PK_NS_PER_S, NULL, false,
	  "SAK Retire Time: how long the key before is received with.  802.1X has 3s.", O(retire_ns) },
	{ "suspend", PK_CONF_DURATION, NULL, "20s", 0, MKA_SUSPEND_MAX_S * PK_NS_PER_S, NULL, false,
	  "When this program is stopped, ask the others to stay as they are for so long.  0: do not ask.", O(suspend_ns) },
	{ "pn-limit", PK_CONF_NUMBER, NULL, "0", 0, 0, NULL, false,
	  "As key server make a new key from this packet number on.  0: from three quarters of all that there are.", O(pn_limit) },
};
/* clang-format on */
const size_t mkad_nb_options = PK_COUNT(mkad_options);
