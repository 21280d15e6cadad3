#pragma once

#include <errno.h>

#include "fw/names.h"
#include "fw/overlay.h"
#include "fw/path.h"
#include "lib/conf.h"
#include "lib/diag.h"

/*
 * The options that shape a packet path, in one place for all programs that run one: picketd on live
 * ports and `picketctl replay` on a capture.
 *
 * RFC 5382 REQ-5 asks for at least 2 h 4 min for established connections and 4 min for others that may
 * still carry data; the shorter times are what stateful firewalls have found to work under attack.
 */
struct fw_path_options {
	uint64_t sessions;
	bool tcp_loose, verify_checksums;
	uint64_t reevaluate_rate;
	uint64_t limit[FW_OWNER_COUNT][3]; /* sessions, half open, new a second */
	uint64_t syn_cookies;
	uint64_t inspect_sessions, inspect_bytes, inspect_packets;
	int inspect_fail; /* index into fw_inspect_fail_words */
	int inspect_all;  /* enum pk_inspect */
	uint64_t signatures_memory, signatures_bytes;
	bool ftp, tftp;
	uint64_t vxlan, geneve;
	struct pk_conf_list overlay_peers;
	struct pk_conf_list dhcp_servers, dns_servers;
	uint64_t names;
	uint64_t timeout[FW_TIMEOUT_COUNT];
};

static const char *const fw_inspect_fail_words[] = { "closed", "open", NULL };
static const char *const fw_inspect_all_words[] = { [PK_INSPECT_NONE] = "no",
	[PK_INSPECT_STANDARD] = "standard",
	[PK_INSPECT_STRICT] = "strict",
	NULL };

/* Rows of an option table for a struct `s` that has a struct fw_path_options as its member `m`. */
/* clang-format off */
#define FW_PATH_OPTION_ROWS(s, m)                                                                  \
	{ "sessions", PK_CONF_NUMBER, "sessions", "1048576", 1024, 1u << 30, NULL, false,          \
	    "Sessions at any one time, over all lcores.", offsetof(s, m.sessions) },               \
	{ "tcp-loose", PK_CONF_BOOL, NULL, "no", 0, 0, NULL, false,                                \
	    "Pick up TCP connections in mid-stream.", offsetof(s, m.tcp_loose) },                  \
	{ "verify-checksums", PK_CONF_BOOL, NULL, "no", 0, 0, NULL, false,                         \
	    "Drop packets whose TCP, UDP or ICMP checksum is wrong, instead of leaving that to "   \
	    "the receiver.", offsetof(s, m.verify_checksums) },                                    \
	FW_PATH_LIMIT_ROWS(s, m, "workload", WORKLOAD, "one inside address, whoever began them"),      \
	FW_PATH_LIMIT_ROWS(s, m, "tenant", TENANT, "all workloads of a tenant"),                   \
	FW_PATH_LIMIT_ROWS(s, m, "source", SOURCE, "one outside address, that it began"),          \
	{ "syn-cookies", PK_CONF_NUMBER, "percent", "10", 0, 100, NULL, false,                     \
	    "SYNs are answered with cookies from when so much of the session table is TCP "        \
	    "handshakes under way, until it is half of that; and those from outside beyond a "     \
	    "limit of half-open sessions.  0: never.", offsetof(s, m.syn_cookies) },            \
	{ "inspect-sessions", PK_CONF_NUMBER, "sessions", "8192", 0, 1u << 24, NULL, false,        \
	    "Sessions whose application is looked for at any one time, on each lcore: about 1 KB " \
	    "each.", offsetof(s, m.inspect_sessions) },                                            \
	{ "inspect-bytes", PK_CONF_NUMBER, "bytes", "8192", 256, 8192, NULL, false,                \
	    "Of each direction of a TCP session, to find its application by.",                     \
	    offsetof(s, m.inspect_bytes) },                                                        \
	{ "inspect-packets", PK_CONF_NUMBER, "packets", "32", 1, 255, NULL, false,                 \
	    "With payload, of both directions, that pass before a session whose application has "  \
	    "not shown itself counts as unknown; UDP: at most 12.",                                \
	    offsetof(s, m.inspect_packets) },                                                      \
	{ "inspect-fail", PK_CONF_WORD, NULL, "closed", 0, 0, fw_inspect_fail_words, false,        \
	    "With no room to look for an application: refuse the packet (closed), or let the "     \
	    "session pass as if it spoke what its rule names (open).",                             \
	    offsetof(s, m.inspect_fail) },                                                         \
	{ "inspect-all", PK_CONF_WORD, NULL, "no", 0, 0, fw_inspect_all_words, false,              \
	    "Hold all sessions against signatures, whatever their rules ask for: as `inspect:` of a " \
	    "rule does.", offsetof(s, m.inspect_all) },                                            \
	{ "signatures-memory", PK_CONF_SIZE, "bytes", "32m", 0, UINT64_C(1) << 38, NULL, false,    \
	    "On each lcore, for the sessions that are held against signatures; some KB for each "  \
	    "that is talking, less than 1 KB for one that is silent.  0, or no `signatures`: none " \
	    "is, and strict rules let nothing pass.", offsetof(s, m.signatures_memory) },          \
	{ "signatures-bytes", PK_CONF_SIZE, "bytes", "16k", 1024, 1u << 24, NULL, false,           \
	    "Of each direction of a session, that are held against signatures.",                   \
	    offsetof(s, m.signatures_bytes) },                                                     \
	{ "dhcp-server", PK_CONF_LIST, NULL, NULL, 0, 0, NULL, false,                              \
	    "An address or network of DHCP servers or relays outside.  With one or more, DHCP "    \
	    "passes between these and workloads without a rule, from and to nobody else, and "     \
	    "what they give out binds addresses to MAC addresses.",                                \
	    offsetof(s, m.dhcp_servers) },                                                         \
	{ "dns-server", PK_CONF_LIST, NULL, NULL, 0, 0, NULL, false,                               \
	    "An address or network of resolvers whose answers are believed for all workloads of "  \
	    "their address space, where policy has `fqdns`.  Answers of any other count for the "  \
	    "workload that has asked.", offsetof(s, m.dns_servers) },                              \
	{ "learnt-names", PK_CONF_NUMBER, "addresses", "65536", 0, FW_NAMES_MAX, NULL, false,      \
	    "Addresses known by the names in policy at a time, over all lcores: 216 bytes each.  " \
	    "0: none, and rules with `fqdns` match nobody.", offsetof(s, m.names) },               \
	{ "overlay-vxlan", PK_CONF_NUMBER, "port", "0", 0, 65535, NULL, false,                     \
	    "Judge VXLAN on this UDP port by what is in it (RFC 7348: 4789).  0: it is UDP.",      \
	    offsetof(s, m.vxlan) },                                                                \
	{ "overlay-geneve", PK_CONF_NUMBER, "port", "0", 0, 65535, NULL, false,                    \
	    "Judge Geneve on this UDP port by what is in it (RFC 8926: 6081).  0: it is UDP.",     \
	    offsetof(s, m.geneve) },                                                               \
	{ "overlay-peer", PK_CONF_LIST, NULL, NULL, 0, 0, NULL, false,                             \
	    "A network of tunnel endpoints; both ends of a tunnel have to be in one of these.",    \
	    offsetof(s, m.overlay_peers) },                                                        \
	{ "ftp-helper", PK_CONF_BOOL, NULL, "no", 0, 0, NULL, false,                               \
	    "Read FTP control connections (TCP port 21), and let the data connections they "       \
	    "announce pass as their rule lets them.", offsetof(s, m.ftp) },                        \
	{ "tftp-helper", PK_CONF_BOOL, NULL, "no", 0, 0, NULL, false,                              \
	    "Let the answer to a TFTP request (UDP port 69) pass, from whichever port it comes.",  \
	    offsetof(s, m.tftp) },                                                                 \
	{ "reevaluate-rate", PK_CONF_NUMBER, "sessions/s", "200000", 0, 100000000, NULL, false,    \
	    "Idle sessions judged anew after a change of policy, on each lcore.  0: sessions wait "\
	    "for their next packet.", offsetof(s, m.reevaluate_rate) },                            \
	FW_PATH_TIMEOUT_ROW(s, m, "timeout-tcp-syn-sent", "30s", TCP_SYN_SENT,                     \
	    "TCP: a SYN without an answer."),                                                      \
	FW_PATH_TIMEOUT_ROW(s, m, "timeout-tcp-syn-recv", "30s", TCP_SYN_RECV,                     \
	    "TCP: a SYN-ACK without an answer."),                                                  \
	FW_PATH_TIMEOUT_ROW(s, m, "timeout-tcp-established", "1d", TCP_ESTABLISHED,                \
	    "TCP: established and silent."),                                                       \
	FW_PATH_TIMEOUT_ROW(s, m, "timeout-tcp-fin-wait", "4m", TCP_FIN_WAIT,                      \
	    "TCP: one side has closed."),                                                          \
	FW_PATH_TIMEOUT_ROW(s, m, "timeout-tcp-time-wait", "30s", TCP_TIME_WAIT,                   \
	    "TCP: both sides have closed."),                                                       \
	FW_PATH_TIMEOUT_ROW(s, m, "timeout-tcp-closed", "10s", TCP_CLOSED,                          \
	    "TCP: after a reset."),                                                                \
	FW_PATH_TIMEOUT_ROW(s, m, "timeout-udp-new", "30s", UDP_NEW,                               \
	    "UDP: one direction seen."),                                                           \
	FW_PATH_TIMEOUT_ROW(s, m, "timeout-udp", "2m", UDP,                                        \
	    "UDP: both directions seen."),                                                         \
	FW_PATH_TIMEOUT_ROW(s, m, "timeout-icmp", "30s", ICMP,                                     \
	    "ICMP echo."),                                                                         \
	FW_PATH_TIMEOUT_ROW(s, m, "timeout-other", "2m", OTHER,                                    \
	    "SCTP and protocols without ports."),                                                  \
	FW_PATH_TIMEOUT_ROW(s, m, "timeout-fragment", "5s", FRAGMENT,                              \
	    "All fragments of a packet have to come in this time.")

#define FW_PATH_LIMIT_ROWS(s, m, name, owner, whose)                                               \
	{ "sessions-per-" name, PK_CONF_NUMBER, "sessions", "0", 0, 1u << 30, NULL, false,         \
	    "Sessions of " whose ", over all lcores.  0: as many as there are.",                   \
	    offsetof(s, m.limit[FW_OWNER_##owner][0]) },                                           \
	{ "half-open-per-" name, PK_CONF_NUMBER, "sessions", "0", 0, 1u << 30, NULL, false,        \
	    "Of these, such as wait for an answer: TCP handshakes, UDP seen in one direction.  "   \
	    "0: as many as there are.", offsetof(s, m.limit[FW_OWNER_##owner][1]) },               \
	{ "new-per-" name, PK_CONF_NUMBER, "sessions/s", "0", 0, 100000000, NULL, false,           \
	    "New sessions a second of " whose ".  0: any number.",                                 \
	    offsetof(s, m.limit[FW_OWNER_##owner][2]) }

#define FW_PATH_TIMEOUT_ROW(s, m, name, value, which, help)                                        \
	{ name, PK_CONF_DURATION, NULL, value, PK_NS_PER_S, 0, NULL, false, help,                  \
	    offsetof(s, m.timeout[FW_TIMEOUT_##which]) }
/* clang-format on */

/* Put the options into a path's configuration, all but those that are lists of networks. */
static inline void
fw_path_options_apply(const struct fw_path_options *o, struct fw_path_conf *conf)
{
	conf->nb_sessions = (uint32_t)o->sessions;
	conf->tcp_loose = o->tcp_loose;
	conf->verify_checksums = o->verify_checksums;
	conf->reevaluate_rate = (uint32_t)o->reevaluate_rate;
	for (unsigned int i = 0; i < FW_OWNER_COUNT; i++)
		conf->limit[i] = (struct fw_limits){
			.sessions = (uint32_t)o->limit[i][0],
			.half_open = (uint32_t)o->limit[i][1],
			.rate = (uint32_t)o->limit[i][2],
		};
	conf->syn_cookies = (uint32_t)o->syn_cookies;
	conf->inspect_sessions = (uint32_t)o->inspect_sessions;
	conf->inspect_bytes = (uint16_t)o->inspect_bytes;
	conf->inspect_packets = (uint16_t)o->inspect_packets;
	conf->inspect_open = o->inspect_fail == 1;
	conf->inspect_all = (uint8_t)o->inspect_all;
	conf->watch_memory = o->signatures_memory;
	conf->watch_bytes = (uint32_t)o->signatures_bytes;
	conf->ftp = o->ftp;
	conf->tftp = o->tftp;
	conf->nb_names = (uint32_t)o->names;
	for (unsigned int i = 0; i < FW_TIMEOUT_COUNT; i++)
		conf->timeout_ns[i] = o->timeout[i];
}

/* A list of addresses and networks; *nb is how many there are. */
static inline int
fw_path_options_servers(const char *name, const struct pk_conf_list *list, struct pk_prefix *out,
    unsigned int max, unsigned int *nb, struct pk_diag *diag)
{
	if (list->nb > max) {
		pk_diag_set(diag, "%zu %s lines; want at most %u", list->nb, name, max);
		return -EINVAL;
	}
	for (size_t i = 0; i < list->nb; i++) {
		struct pk_diag why;

		if (pk_prefix_parse(&out[i], list->item[i], &why) < 0) {
			pk_diag_set(diag, "%s %s: %s", name, list->item[i], why.text);
			return -EINVAL;
		}
	}
	*nb = (unsigned int)list->nb;
	return 0;
}

/* And those; *overlay is the caller's, and has to outlive the path.  Returns 0, or -EINVAL with *diag. */
static inline int
fw_path_options_networks(const struct fw_path_options *o, struct fw_path_conf *conf,
    struct fw_overlay *overlay, struct pk_diag *diag)
{
	int rc = fw_path_options_servers("dhcp-server", &o->dhcp_servers, conf->dhcp_server,
	    FW_DHCP_SERVERS_MAX, &conf->nb_dhcp_servers, diag);

	if (rc == 0)
		rc = fw_path_options_servers("dns-server", &o->dns_servers, conf->dns_server,
		    FW_DNS_SERVERS_MAX, &conf->nb_dns_servers, diag);
	if (rc < 0)
		return rc;
	conf->overlay = o->vxlan != 0 || o->geneve != 0 ? overlay : NULL;
	return fw_overlay_init(overlay, (uint16_t)o->vxlan, (uint16_t)o->geneve,
	    (const char *const *)o->overlay_peers.item, o->overlay_peers.nb, diag);
}
