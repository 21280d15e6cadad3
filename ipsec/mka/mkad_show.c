#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipsec/mka/mkad_priv.h"
#include "lib/clock.h"
#include "lib/control.h"

static const char *
hex(const uint8_t *bytes, size_t len, char *out)
{
	out[0] = '\0';
	for (size_t i = 0; i < len; i++)
		sprintf(out + 2 * i, "%02x", bytes[i]);
	return out;
}

void
mkad_show(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct mkad *d = arg;

	(void)argc;
	(void)argv;
	for (unsigned int i = 0; i < d->nb_ports; i++) {
		const struct mkad_port *p = &d->port[i];
		struct mka_kay_info k = { .state = p->known ? "starting" : "no port" };
		char sci[MACSEC_SCI_TEXT], server[MACSEC_SCI_TEXT];

		if (p->kay != NULL)
			mka_kay_info(p->kay, &k);
		pk_control_rowf(r,
		    "{\"wire\":%u,\"sci\":\"%s\",\"state\":\"%s\",\"up\":%s,\"server\":\"%s\",\"self\":%s,\"suite\":\"%s\""
		    ",\"confidentiality\":\"%s\",\"an\":%u,\"key\":%u,\"live\":%u,\"potential\":%u,\"caks\":%u,\"keys\":%" PRIu64
		    ",\"rx\":%" PRIu64 ",\"tx\":%" PRIu64 ",\"refused\":%" PRIu64 "}",
		    p->wire, macsec_sci_text(p->port.sci, sci), k.state, k.up ? "true" : "false",
		    k.server_sci != 0 ? macsec_sci_text(k.server_sci, server) : "",
		    k.server_self ? "true" : "false", macsec_suite_name(k.suite),
		    macsec_confidentiality_name(k.confidentiality), k.an,
		    k.latest.kn != 0 ? k.latest.kn : k.old.kn, k.nb_live, k.nb_potential,
		    k.nb_participants, k.keys, k.rx, k.tx, k.refused);
	}
	pk_control_done(r);
}

void
mkad_show_peers(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct mkad *d = arg;
	uint64_t now = pk_clock_mono_ns();

	(void)argc;
	(void)argv;
	for (unsigned int i = 0; i < d->nb_ports; i++) {
		const struct mkad_port *p = &d->port[i];
		struct mka_peer_info peer;

		for (unsigned int k = 0; p->kay != NULL && mka_peer_info(p->kay, k, now, &peer);
		     k++) {
			char sci[MACSEC_SCI_TEXT], mi[2 * MKA_MI + 1], ckn[2 * MKA_CKN_MAX + 1];

			pk_control_rowf(r,
			    "{\"wire\":%u,\"sci\":\"%s\",\"mi\":\"%s\",\"mn\":%u,\"priority\":%u,\"live\":%s,\"server\":%s"
			    ",\"receives\":%s,\"transmits\":%s,\"ckn\":\"%s\",\"expires_ms\":%" PRIu64
			    "}",
			    p->wire, macsec_sci_text(peer.sci, sci), hex(peer.mi, MKA_MI, mi),
			    peer.mn, peer.priority, peer.live ? "true" : "false",
			    peer.server ? "true" : "false", peer.receives ? "true" : "false",
			    peer.transmits ? "true" : "false", hex(peer.ckn, peer.ckn_len, ckn),
			    peer.expires_in_ns / PK_NS_PER_MS);
		}
	}
	pk_control_done(r);
}

void
mkad_show_events(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	const struct mkad *d = arg;
	uint64_t from = d->nb_events > MKAD_EVENTS ? d->nb_events - MKAD_EVENTS : 0;
	char text[400];

	(void)argc;
	(void)argv;
	for (uint64_t i = from; i < d->nb_events; i++) {
		const struct mkad_event *e = &d->event[i % MKAD_EVENTS];

		pk_control_rowf(r, "{\"at\":%.3f,\"wire\":%u,\"event\":\"%s\",\"text\":%s}",
		    (double)e->wall_ns / 1e9, e->wire, mka_event_name(e->event),
		    pk_json_string(e->text, text, sizeof(text)));
	}
	pk_control_done(r);
}

void
mkad_rekey(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct mkad *d = arg;
	char *end = NULL;
	unsigned long wire = argc == 1 ? strtoul(argv[0], &end, 10) : 0;

	if (argc > 1 || (argc == 1 && (*end != '\0' || end == argv[0]))) {
		pk_control_refuse(r, "want the number of a wire, or nothing for all");
		return;
	}
	for (unsigned int i = 0; i < d->nb_ports; i++) {
		struct mkad_port *p = &d->port[i];

		if (argc == 1 && p->wire != wire)
			continue;
		if (p->kay == NULL || mka_kay_rekey(p->kay, pk_clock_mono_ns()) < 0) {
			pk_control_refuse(r,
			    "wire %u: the key server is another, or there is nobody on the link",
			    p->wire);
			return;
		}
	}
	mkad_wake(d);
	pk_control_done(r);
}
