#include <inttypes.h>
#include <stdio.h>

#include "fw/show_priv.h"

/*
 * `show macsec`: a row for each port's transmit channel, with what concerns the SecY as a whole, and one for each of
 * its receive channels.  Counters have the names of 802.1AE.
 */
#define ROW_MAX 2048

struct row {
	char text[ROW_MAX];
	size_t len;
};

static void PK_PRINTF(2, 3) add(struct row *r, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(r->text + r->len, sizeof(r->text) - r->len, fmt, ap);
	va_end(ap);
	if (n > 0)
		r->len = PK_MIN(r->len + (size_t)n, sizeof(r->text) - 1);
}

static void
add_sa(struct row *r, const struct macsec_sa_info *sa, unsigned int nb)
{
	add(r,
	    "%s{\"an\":%u,\"suite\":\"%s\",\"confidentiality\":\"%s\",\"next_pn\":%" PRIu64
	    ",\"lowest_pn\":%" PRIu64 ",\"in_use\":%s}",
	    nb > 0 ? "," : "", sa->an, macsec_suite_name(sa->suite),
	    macsec_confidentiality_name(sa->confidentiality), sa->next_pn, sa->lowest_pn,
	    sa->in_use ? "true" : "false");
}

static void
show_transmit(struct pk_control_request *request, struct fw_macsec *m, const char *state, bool mkad)
{
	const struct fw_macsec_conf *conf = fw_macsec_conf(m);
	struct macsec_secy *s = fw_macsec_secy(m);
	const struct macsec_secy_stats *stats = macsec_secy_stats(s);
	const struct macsec_tx_stats *tx = macsec_tx_stats(s);
	const struct fw_macsec_stats *port = fw_macsec_stats(m);
	struct macsec_sa_info sa, used = { 0 };
	char sci[MACSEC_SCI_TEXT], text[160];
	struct row r = { .len = 0 };
	unsigned int nb = 0;

	for (uint8_t an = 0; an < MACSEC_ANS; an++)
		if (macsec_tx_sa_info(s, an, &sa) && sa.in_use)
			used = sa;
	add(&r,
	    "{\"wire\":%u,\"channel\":\"transmit\",\"sci\":\"%s\",\"mode\":\"%s\",\"up\":%s,\"mkad\":%s,\"state\":%s"
	    ",\"suite\":\"%s\",\"an\":%u,\"next_pn\":%" PRIu64,
	    conf->wire, macsec_sci_text(conf->secy.sci, sci),
	    conf->required ? "required" : "preferred", fw_macsec_up(m) ? "true" : "false",
	    mkad ? "true" : "false", pk_json_string(state, text, sizeof(text)),
	    macsec_suite_name(used.suite), used.an, used.next_pn);
	add(&r, ",\"packets\":%" PRIu64 ",\"refused\":%" PRIu64,
	    pk_counter_read(&tx->out_pkts_protected) + pk_counter_read(&tx->out_pkts_encrypted),
	    pk_counter_read(&stats->out_pkts_pn_exhausted) +
	        pk_counter_read(&stats->out_pkts_too_long) +
	        pk_counter_read(&stats->out_pkts_no_sa));
#define STAT(member, name) add(&r, ",\"" name "\":%" PRIu64, pk_counter_read(&stats->member));
	MACSEC_SECY_STATS(STAT)
#undef STAT
	add(&r, ",\"InPktsUntagged\":%" PRIu64 ",\"OutPktsUntagged\":%" PRIu64,
	    pk_counter_read(&stats->in_pkts_untagged) + pk_counter_read(&port->clear_in),
	    pk_counter_read(&port->clear_out));
#define STAT(member, name) add(&r, ",\"" name "\":%" PRIu64, pk_counter_read(&tx->member));
	MACSEC_TX_STATS(STAT)
#undef STAT
	add(&r,
	    ",\"eapol_in\":%" PRIu64 ",\"eapol_out\":%" PRIu64 ",\"eapol_lost\":%" PRIu64
	    ",\"sa\":[",
	    pk_counter_read(&port->eapol_in), pk_counter_read(&port->eapol_out),
	    pk_counter_read(&port->eapol_in_lost) + pk_counter_read(&port->eapol_out_lost));
	for (uint8_t an = 0; an < MACSEC_ANS; an++)
		if (macsec_tx_sa_info(s, an, &sa))
			add_sa(&r, &sa, nb++);
	add(&r, "]}");
	pk_control_row(request, r.text);
}

static void
show_receive(struct pk_control_request *request, struct fw_macsec *m, uint64_t sci)
{
	struct macsec_secy *s = fw_macsec_secy(m);
	const struct macsec_rx_stats *rx = macsec_rx_stats(s, sci);
	struct macsec_sa_info sa, newest = { 0 };
	struct row r = { .len = 0 };
	char text[MACSEC_SCI_TEXT];
	unsigned int nb = 0;

	for (uint8_t an = 0; an < MACSEC_ANS; an++)
		if (macsec_rx_sa_info(s, sci, an, &sa) && sa.next_pn >= newest.next_pn)
			newest = sa;
	add(&r,
	    "{\"wire\":%u,\"channel\":\"receive\",\"sci\":\"%s\",\"suite\":\"%s\",\"an\":%u,\"next_pn\":%" PRIu64,
	    fw_macsec_conf(m)->wire, macsec_sci_text(sci, text), macsec_suite_name(newest.suite),
	    newest.an, newest.next_pn);
	add(&r, ",\"packets\":%" PRIu64 ",\"refused\":%" PRIu64,
	    pk_counter_read(&rx->in_pkts_ok) + pk_counter_read(&rx->in_pkts_unchecked) +
	        pk_counter_read(&rx->in_pkts_delayed),
	    pk_counter_read(&rx->in_pkts_late) + pk_counter_read(&rx->in_pkts_replayed) +
	        pk_counter_read(&rx->in_pkts_not_valid) +
	        pk_counter_read(&rx->in_pkts_not_using_sa));
#define STAT(member, name) add(&r, ",\"" name "\":%" PRIu64, pk_counter_read(&rx->member));
	MACSEC_RX_STATS(STAT)
#undef STAT
	add(&r, ",\"sa\":[");
	for (uint8_t an = 0; an < MACSEC_ANS; an++)
		if (macsec_rx_sa_info(s, sci, an, &sa))
			add_sa(&r, &sa, nb++);
	add(&r, "]}");
	pk_control_row(request, r.text);
}

void
fw_show_macsec(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct fw_show *s = arg;
	struct fw_macsec_link_status status = { 0 };
	struct fw_macsec *m;
	const char *state;
	uint64_t sci;

	(void)argc;
	(void)argv;
	if (s->conf.macsec != NULL)
		fw_macsec_link_status(s->conf.macsec, &status);
	for (unsigned int i = 0; (m = fw_macsec_link_port(s->conf.macsec, i, &state)) != NULL;
	     i++) {
		show_transmit(r, m, state, status.connected);
		for (unsigned int k = 0; macsec_rx_sc_at(fw_macsec_secy(m), k, &sci); k++)
			show_receive(r, m, sci);
	}
	pk_control_done(r);
}
