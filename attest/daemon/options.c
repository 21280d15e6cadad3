#include "attest/daemon/options.h"

#include "config.h"

#define O(member) offsetof(struct attestd_conf, member)

static const char *const roles[] = { "host", "dpu", NULL };
static const char *const aks[] = { "ecc", "rsa", NULL };
static const char *const enrols[] = { "listed", "first", NULL };
static const char *const recovers[] = { "alone", "by-hand", NULL };

/* clang-format off */
const struct pk_conf_option attestd_options[] = {
	{ "role", PK_CONF_WORD, NULL, "dpu", 0, 0, roles, false,
	  "host: hold this machine's TPM and answer the DPU in front of it.  dpu: judge the host behind.", O(role) },
	{ "user", PK_CONF_STRING, NULL, "", 0, 0, NULL, false,
	  "Run as this user when started by root.  Empty: stay.  On a host it has to be able to read the logs "
	  "below and to open the TPM.", O(user) },
	{ "run-dir", PK_CONF_STRING, NULL, PK_RUNDIR, 0, 0, NULL, false,
	  "Directory of the local sockets.", O(run_dir) },
	{ "state-dir", PK_CONF_STRING, NULL, PK_LOCALSTATEDIR "/attestd", 0, 0, NULL, false,
	  "dpu: directory of what is known of the host, the audit log and the last result.", O(state_dir) },
	{ "name", PK_CONF_STRING, NULL, "", 0, 0, NULL, false,
	  "host: its name.  Empty: that of the machine up to the first dot.", O(name) },
	{ "dpu", PK_CONF_STRING, NULL, "dpu", 0, 0, NULL, false,
	  "host: name of the DPU, as in its certificate.", O(dpu) },
	{ "dpu-address", PK_CONF_STRING, NULL, "vsock:2:7444", 0, 0, NULL, false,
	  "host: where the DPU listens: tcp:ADDRESS:PORT, vsock:CID:PORT or unix:PATH.", O(dpu_address) },
	{ "ca", PK_CONF_STRING, NULL, PK_SYSCONFDIR "/ca.crt", 0, 0, NULL, false,
	  "host: PEM of the authority that the DPU's certificate is of.", O(ca) },
	{ "tpm", PK_CONF_STRING, NULL, "device:/dev/tpmrm0", 0, 0, NULL, false,
	  "host: the TPM, in the words of tss2-tctildr: device:PATH, swtpm:host=ADDRESS,port=N, "
	  "cmd:COMMAND (a program that carries TPM commands on its standard input and output, over vsock for "
	  "example).", O(tpm) },
	{ "ak", PK_CONF_WORD, NULL, "ecc", 0, 0, aks, false,
	  "host: kind of the attestation key: ecc is ECDSA on P-256, rsa is RSASSA with 2048 bits.", O(ak) },
	{ "tpm-share", PK_CONF_BOOL, NULL, "no", 0, 0, NULL, false,
	  "host: let go of the TPM after each use.  For one without a resource manager that others use too, such as "
	  "swtpm on a socket; keys are then made anew each time.", O(tpm_share) },
	{ "eventlog", PK_CONF_STRING, NULL, "/sys/kernel/security/tpm0/binary_bios_measurements", 0, 0, NULL, false,
	  "host: the boot event log.", O(eventlog) },
	{ "ima", PK_CONF_STRING, NULL, "/sys/kernel/security/ima/binary_runtime_measurements", 0, 0, NULL, false,
	  "host: the binary list of measurements.", O(ima) },
	{ "ek-chain", PK_CONF_STRING, NULL, "", 0, 0, NULL, false,
	  "host: PEM of the certificates between the EK certificate and its root.", O(ek_chain) },
	{ "watch", PK_CONF_DURATION, NULL, "200ms", 10 * PK_NS_PER_MS, 60 * PK_NS_PER_S, NULL, false,
	  "host: look this often whether the list has grown, and tell the DPU at once when it has.", O(watch_ns) },
	{ "reconnect", PK_CONF_DURATION, NULL, "1s", 10 * PK_NS_PER_MS, 3600 * PK_NS_PER_S, NULL, false,
	  "host: wait between attempts to reach the DPU, or a TPM that went away.", O(reconnect_ns) },
	{ "listen", PK_CONF_LIST, NULL, NULL, 0, 0, NULL, false,
	  "dpu: where the host may connect to: tcp:ADDRESS:PORT, vsock:CID:PORT or unix:PATH.  Should be an address that "
	  "only the host can reach.", O(listen) },
	{ "identity", PK_CONF_STRING, NULL, PK_SYSCONFDIR "/dpu", 0, 0, NULL, false,
	  "dpu: directory of this DPU's identity, with identity.crt and identity.key.", O(identity) },
	{ "result-key", PK_CONF_STRING, NULL, "", 0, 0, NULL, false,
	  "dpu: PEM of the key that results are signed with, on P-256 (ES256) or SM2 (with SM3).  Empty: identity.key.",
	  O(result_key) },
	{ "host", PK_CONF_STRING, NULL, "", 0, 0, NULL, false,
	  "dpu: name of the host behind it.  Empty: whichever enrols first, and no other after it.", O(host) },
	{ "reference", PK_CONF_STRING, NULL, PK_SYSCONFDIR "/reference.json", 0, 0, NULL, false,
	  "dpu: what the host has to look like.  A changed file is taken up with the next evidence; one that "
	  "cannot be read leaves the last in force.", O(reference) },
	{ "reference-signed", PK_CONF_BOOL, NULL, "no", 0, 0, NULL, false,
	  "dpu: take up only references that the policy server has sent: signed by the authority in identity/ca.crt, for this "
	  "DPU, and none older than the last.  The agent keeps them as reference in its state-dir.", O(reference_signed) },
	{ "enrol", PK_CONF_WORD, NULL, "listed", 0, 0, enrols, false,
	  "dpu: which TPM may enrol: listed, one that the reference allows by ek_roots or ek_allow; or first, "
	  "the first that comes, whatever it is.  Either way no other afterwards.", O(enrol) },
	{ "interval", PK_CONF_DURATION, NULL, "5s", 100 * PK_NS_PER_MS, 3600 * PK_NS_PER_S, NULL, false,
	  "dpu: from one challenge to the next; a tenth of it is by chance.", O(interval_ns) },
	{ "answer", PK_CONF_DURATION, NULL, "3s", 10 * PK_NS_PER_MS, 600 * PK_NS_PER_S, NULL, false,
	  "dpu: how long the host may take over its evidence.", O(answer_ns) },
	{ "lease", PK_CONF_DURATION, NULL, "15s", 100 * PK_NS_PER_MS, 86400 * PK_NS_PER_S, NULL, false,
	  "dpu: how long good evidence lasts.  When it ends the data plane takes the host's workloads for "
	  "unattested by itself.", O(lease_ns) },
	{ "missed-max", PK_CONF_NUMBER, "deadlines", "3", 1, 1000, NULL, false,
	  "dpu: so many in a row without evidence are quarantine.", O(missed_max) },
	{ "recover-rounds", PK_CONF_NUMBER, "rounds", "2", 1, 1000, NULL, false,
	  "dpu: so many good rounds in a row, the first of them with all logs from their beginning, end a "
	  "quarantine.", O(recover_rounds) },
	{ "recover", PK_CONF_WORD, NULL, "alone", 0, 0, recovers, false,
	  "dpu: by-hand: a quarantine also wants an operator's `attest release`.", O(recover) },
	{ "evidence-max", PK_CONF_SIZE, "bytes", "64m", 1 << 20, 272u << 20, NULL, false,
	  "dpu: longest evidence taken from the enrolled host; logs beyond it are refused.", O(evidence_max) },
	{ "tell", PK_CONF_LIST, NULL, PK_RUNDIR "/posture.sock", 0, 0, NULL, false,
	  "dpu: sockets of those who act on the host's posture: the data plane's posture.sock, the agent's "
	  "picket-agentd.posture.", O(tell) },
};
/* clang-format on */
const size_t attestd_nb_options = PK_COUNT(attestd_options);
