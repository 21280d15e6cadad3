#include <netinet/in.h>
#include <string.h>

#include <rte_mbuf.h>

#include "fw/ftp.h"
#include "fw/path_priv.h"
#include "fw/related.h"

#define FTP_PORT  21
#define TFTP_PORT 69
#define READ_MAX  2048 /* bytes of a segment of a control connection that are read */

bool
fw_helper_allows(struct fw_batch *b, const struct fw_pkt *pk, const struct pk_addr *src,
    const struct pk_addr *dst, struct fw_related_flow *flow)
{
	struct fw_related *t = b->p->shared->related;
	uint16_t sport;

	if (likely(t == NULL) || (pk->l4_proto != IPPROTO_TCP && pk->l4_proto != IPPROTO_UDP))
		return false;
	*flow = (struct fw_related_flow){
		.src = *src,
		.dst = *dst,
		.vrf = pk->key.vrf,
		.wire = pk->key.wire,
		.proto = pk->l4_proto,
	};
	fw_pkt_ports(pk, &sport, &flow->dport);
	return fw_related_take(t, flow, b->now_ns);
}

/* Session i has been asked for a port, or has named one: whoever is to connect to it may. */
static void
announce(struct fw_batch *b, uint32_t i, const struct pk_addr *from, const struct pk_addr *to,
    uint16_t port, bool reversed)
{
	struct fw_path *p = b->p;
	const struct fw_session *s = &p->sessions.hot[i];
	struct fw_related_flow f = {
		.src = *from,
		.dst = *to,
		.vrf = s->key.vrf,
		.wire = s->key.wire,
		.dport = port,
		.proto = s->key.proto,
		.selector = (uint16_t)p->sessions.cold[i].slot_and_selector,
		.app = fw_app_known(s->app) ? s->app : FW_APP_NONE,
		.reversed = reversed,
	};

	if (port >= FW_RELATED_PORTS && fw_related_announce(p->shared->related, &f, b->now_ns))
		pk_counter_add(&p->stats.related_announced, 1);
	else
		pk_counter_add(&p->stats.related_refused, 1);
}

/* A line of the control connection of session i, from its opener or (d: 1) from the server. */
static void
read_line(struct fw_batch *b, uint32_t i, unsigned int d, struct fw_ftp *ftp, const uint8_t *line,
    size_t len)
{
	const struct fw_sessions *t = &b->p->sessions;
	struct fw_ftp_port named;
	struct pk_addr src, dst;
	uint16_t sport, dport;
	enum fw_ftp_line what = fw_ftp_read(line, len, d == 0, &named);

	if (what == FW_FTP_OTHER)
		return;
	fw_session_names(&t->hot[i], &t->cold[i], &src, &dst, &sport, &dport);
	switch (what) {
	case FW_FTP_PASSIVE:
		ftp->asked = true;
		break;
	case FW_FTP_ACTIVE:
		/* Nobody may name a third host (RFC 2577 section 3). */
		if (pk_addr_compare(&named.addr, &src) == 0)
			announce(b, i, &dst, &src, named.port, true);
		else
			pk_counter_add(&b->p->stats.related_refused, 1);
		break;
	case FW_FTP_PORT:
		/* Only as the answer to a request: a server can be made to say such a line in other replies. */
		if (ftp->asked &&
		    (named.addr.family == 0 || pk_addr_compare(&named.addr, &dst) == 0))
			announce(b, i, &src, &dst, named.port, false);
		else
			pk_counter_add(&b->p->stats.related_refused, 1);
		ftp->asked = false;
		break;
	default:
		ftp->asked = false;
	}
}

/*
 * The lines that begin and end in this segment.  A line in pieces is not read: clients and servers send each at
 * once, and what is not read announces nothing.
 */
void
fw_helper_packet(
    struct fw_batch *b, const struct fw_pkt *pk, uint32_t i, unsigned int d, struct fw_extra *e)
{
	struct fw_ftp_side *side = &e->ftp.side[d];
	uint8_t copy[READ_MAX];
	const uint8_t *at, *end, *lf;

	if ((pk->tcp_flags & FW_TCP_SYN) != 0)
		*side = (struct fw_ftp_side){ .next = pk->seq + 1, .known = true, .begins = true };
	if (pk->payload == 0 || pk->fragment || (pk->tcp_flags & FW_TCP_SYN) != 0)
		return;
	if (side->known && (int32_t)(pk->seq - side->next) < 0)
		return; /* it has come before */
	if (pk->payload > READ_MAX) {
		side->known = false;
		return;
	}
	at = rte_pktmbuf_read(pk->m, (uint32_t)pk->l4 + pk->l4_len, pk->payload, copy);
	if (at == NULL)
		return;
	end = at + pk->payload;
	if (!side->known || side->next != pk->seq || !side->begins) {
		/* The rest of a line whose beginning was elsewhere. */
		lf = memchr(at, '\n', (size_t)(end - at));
		at = lf != NULL ? lf + 1 : end;
	}
	for (; (lf = memchr(at, '\n', (size_t)(end - at))) != NULL; at = lf + 1) {
		size_t len = (size_t)(lf - at);

		read_line(b, i, d, &e->ftp, at, len > 0 && at[len - 1] == '\r' ? len - 1 : len);
	}
	side->known = true;
	side->next = pk->seq + pk->payload;
	side->begins = end[-1] == '\n';
}

void
fw_helper_begin(struct fw_path *p, uint32_t i)
{
	struct fw_session *s = &p->sessions.hot[i];
	struct fw_session_cold *c = &p->sessions.cold[i];
	struct fw_extra *e;

	if (likely(p->shared->related == NULL) || !p->conf.ftp || s->key.proto != IPPROTO_TCP ||
	    (uint16_t)c->slot_and_selector != FTP_PORT || (c->kin & FW_KIN_RELATED) != 0)
		return;
	e = fw_extras_get(&p->extras, i);
	if (e == NULL)
		return;
	s->flags |= FW_SESSION_EXTRA;
	c->care |= FW_CARE_HELPED;
	e->what |= FW_EXTRA_FTP;
}

void
fw_helper_opened(struct fw_batch *b, const struct fw_pkt *pk, uint32_t i)
{
	struct fw_path *p = b->p;
	struct pk_addr src, dst;
	uint8_t opcode[2];
	const uint8_t *at;
	uint16_t sport, dport;

	if (likely(p->shared->related == NULL))
		return;
	if (pk->l4_proto == IPPROTO_TCP) {
		struct fw_extra *e;

		fw_helper_begin(p, i);
		e = (p->sessions.hot[i].flags & FW_SESSION_EXTRA) != 0
		    ? fw_extras_find(&p->extras, i)
		    : NULL;
		/* The first byte after a SYN begins a line. */
		if (e != NULL && (e->what & FW_EXTRA_FTP) != 0 && (pk->tcp_flags & FW_TCP_SYN) != 0)
			e->ftp.side[0] = (struct fw_ftp_side){
				.next = pk->seq + 1, .known = true, .begins = true
			};
		return;
	}
	/* RFC 1350 section 4: the answer to a request comes from a port that the server chooses. */
	if (!p->conf.tftp || pk->l4_proto != IPPROTO_UDP || pk->payload < 4 ||
	    (p->sessions.cold[i].kin & FW_KIN_RELATED) != 0)
		return;
	fw_pkt_ports(pk, &sport, &dport);
	at = rte_pktmbuf_read(pk->m, (uint32_t)pk->l4 + pk->l4_len, sizeof(opcode), opcode);
	if (dport != TFTP_PORT || at == NULL || at[0] != 0 || (at[1] != 1 && at[1] != 2))
		return;
	fw_pkt_addrs(pk, &src, &dst);
	announce(b, i, &dst, &src, sport, true);
}
