#include <netinet/in.h>
#include <string.h>

#include <rte_mbuf.h>

#include "fw/dns.h"
#include "fw/names.h"
#include "fw/path_priv.h"

#define READ_MAX   2048 /* bytes of an answer; longer ones are not read */
#define HEADER_LEN 12

/*
 * Questions that wait for their answer, in what a UDP session has no other use for: the id of the message (RFC 1035
 * section 4.1.1) and 1 above it, so that 0 is none.  Whoever guesses an answer has to guess that too.
 */
#define QUESTIONS 4

static uint32_t *
question(struct fw_session *s, unsigned int i)
{
	return i % 2 == 0 ? &s->side[i / 2].end : &s->side[i / 2].ack;
}

static void
asked(struct fw_session *s, uint16_t id)
{
	for (unsigned int i = QUESTIONS - 1; i > 0; i--)
		*question(s, i) = *question(s, i - 1);
	*question(s, 0) = id + 1u;
}

static bool
was_asked(struct fw_session *s, uint16_t id)
{
	for (unsigned int i = 0; i < QUESTIONS; i++) {
		if (*question(s, i) != id + 1u)
			continue;
		*question(s, i) = 0;
		return true;
	}
	return false;
}

static bool
is_resolver(const struct fw_path_conf *conf, const struct pk_addr *a)
{
	for (unsigned int i = 0; i < conf->nb_dns_servers; i++)
		if (pk_prefix_contains(&conf->dns_server[i], a))
			return true;
	return false;
}

static void
learn(struct fw_batch *b, uint32_t i, const struct fw_dns *answer)
{
	struct fw_path *p = b->p;
	const struct fw_session *s = &p->sessions.hot[i];
	struct fw_named named = { 0 };
	struct pk_addr asker, server;
	uint16_t sport, dport;

	for (unsigned int k = 0; k < answer->nb_names; k++)
		fw_rules_name(b->rules, answer->name[k], &named);
	if (named.nb == 0)
		return; /* of no interest to policy */
	fw_session_names(s, &p->sessions.cold[i], &asker, &server, &sport, &dport);
	for (unsigned int k = 0; k < answer->nb_addrs; k++) {
		uint64_t ttl_s =
		    PK_MIN(PK_MAX(answer->at[k].ttl_s, FW_NAMES_TTL_MIN_S), FW_NAMES_TTL_MAX_S);

		if (fw_names_learn(p->shared->names, s->key.vrf,
		        is_resolver(&p->conf, &server) ? NULL : &asker, &answer->at[k].addr, &named,
		        b->now_ns, b->now_ns + ttl_s * PK_NS_PER_S))
			pk_counter_add(&p->stats.names_learnt, 1);
		else
			pk_counter_add(&p->stats.names_full, 1);
	}
}

void
fw_names_packet(struct fw_batch *b, const struct fw_pkt *pk, uint32_t i, unsigned int d)
{
	struct fw_session *s = &b->p->sessions.hot[i];
	struct fw_dns answer;
	uint8_t copy[READ_MAX];
	uint16_t sport, dport;
	const uint8_t *m;
	uint32_t len = pk->payload;

	if ((s->flags & FW_SESSION_FROM_OUTSIDE) != 0 || len == 0 ||
	    (pk->l4_proto != IPPROTO_UDP && pk->l4_proto != IPPROTO_TCP))
		return;
	fw_pkt_ports(pk, &sport, &dport);
	if ((d == 0 ? dport : sport) != FW_DNS_PORT)
		return;
	if (pk->fragment || len > READ_MAX) {
		pk_counter_add(&b->p->stats.names_unread, d == 1);
		return;
	}
	m = rte_pktmbuf_read(pk->m, (uint32_t)pk->l4 + pk->l4_len, len, copy);
	if (m == NULL)
		return;
	if (pk->l4_proto == IPPROTO_TCP) {
		/* RFC 1035 section 4.2.2.  A message in pieces is not put together: its addresses are those of a
		 * name that is not known. */
		if (d == 0)
			return;
		if (len < 2 + HEADER_LEN || (uint32_t)(m[0] << 8 | m[1]) != len - 2) {
			pk_counter_add(&b->p->stats.names_unread, 1);
			return;
		}
		m += 2;
		len -= 2;
	} else if (len < HEADER_LEN) {
		return;
	} else if (d == 0) {
		asked(s, (uint16_t)(m[0] << 8 | m[1]));
		return;
	} else if (!was_asked(s, (uint16_t)(m[0] << 8 | m[1]))) {
		return;
	}
	if (fw_dns_read(m, len, &answer))
		learn(b, i, &answer);
}

/* DNS over TCP stays out of the lane, so that its answers are seen; UDP never goes there. */
void
fw_names_opened(struct fw_batch *b, const struct fw_pkt *pk, uint32_t i)
{
	struct fw_path *p = b->p;

	if (pk->l4_proto == IPPROTO_UDP) {
		if (b->names)
			fw_names_packet(b, pk, i, 0);
		return;
	}
	if (pk->l4_proto != IPPROTO_TCP || b->from != FW_INSIDE ||
	    (uint16_t)p->sessions.cold[i].slot_and_selector != FW_DNS_PORT)
		return;
	p->sessions.hot[i].flags |= FW_SESSION_EXTRA;
	p->sessions.cold[i].care |= FW_CARE_NAMES;
}
