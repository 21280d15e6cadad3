#include "fw/macsec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_mbuf.h>
#include <rte_ring.h>

#include "ipsec/crypto.h"

#define RING 64 /* EAPOL frames in flight each way */

struct fw_macsec {
	struct fw_macsec_conf conf;
	struct macsec_secy *secy;
	struct ipsec_crypto *crypto; /* the lcore's */
	_Atomic bool enabled;
	struct rte_ring *in, *out;
	struct fw_macsec_stats stats;
};

static const enum fw_drop drops[MACSEC_VERDICT_COUNT] = {
	[MACSEC_DOWN] = FW_DROP_MACSEC_DOWN,
	[MACSEC_PASS] = FW_DROP_NONE,
	[MACSEC_UNTAGGED] = FW_DROP_MACSEC_UNTAGGED,
	[MACSEC_BAD_TAG] = FW_DROP_MACSEC_BAD_TAG,
	[MACSEC_UNKNOWN_SCI] = FW_DROP_MACSEC_UNKNOWN_SCI,
	[MACSEC_NO_SA] = FW_DROP_MACSEC_NO_SA,
	[MACSEC_LATE] = FW_DROP_MACSEC_LATE,
	[MACSEC_REPLAYED] = FW_DROP_MACSEC_REPLAYED,
	[MACSEC_NOT_VALID] = FW_DROP_MACSEC_NOT_VALID,
	[MACSEC_PN_EXHAUSTED] = FW_DROP_MACSEC_PN_EXHAUSTED,
	[MACSEC_TOO_LONG] = FW_DROP_MACSEC_TOO_LONG,
};

/* ---- the control thread's ------------------------------------------------------------------------- */

static bool
number(const char *text, unsigned long max, unsigned long *out)
{
	char *end;

	if (text == NULL)
		return false;
	errno = 0;
	*out = strtoul(text, &end, 10);
	return errno == 0 && end != text && *end == '\0' && *out <= max;
}

int
fw_macsec_parse(const char *words, struct fw_macsec_conf *conf, struct pk_diag *diag)
{
	char copy[256], *save = NULL, *word;
	unsigned long n;

	*conf = (struct fw_macsec_conf){
		.secy = { .validate = MACSEC_STRICT,
		    .include_sci = true,
		    .replay_protect = true,
		    .replay_strict = true,
		    .replay_window = 64 },
	};
	snprintf(copy, sizeof(copy), "%s", words);
	word = strtok_r(copy, " \t", &save);
	if (!number(word, FW_WIRES_MAX - 1, &n))
		goto bad;
	conf->wire = (uint16_t)n;
	word = strtok_r(NULL, " \t", &save);
	if (word == NULL || (strcmp(word, "required") != 0 && strcmp(word, "preferred") != 0))
		goto bad;
	conf->required = word[0] == 'r';
	while ((word = strtok_r(NULL, " \t", &save)) != NULL) {
		if (strcmp(word, "replay-window") == 0) {
			if (!number(strtok_r(NULL, " \t", &save), UINT32_MAX, &n))
				goto bad;
			conf->secy.replay_window = (uint32_t)n;
		} else if (strcmp(word, "replay-standard") == 0) {
			conf->secy.replay_strict = false;
		} else if (strcmp(word, "replay-off") == 0) {
			conf->secy.replay_protect = conf->secy.replay_strict = false;
		} else if (strcmp(word, "no-sci") == 0) {
			conf->secy.include_sci = false;
		} else if (strcmp(word, "end-station") == 0) {
			conf->secy.include_sci = false;
			conf->secy.end_station = true;
		} else if (strcmp(word, "engine") == 0) {
			conf->engine = true;
		} else if (strcmp(word, "clear-vlans") == 0) {
			if (!number(strtok_r(NULL, " \t", &save), MACSEC_VLANS_MAX, &n))
				goto bad;
			conf->secy.clear_vlans = (uint8_t)n;
		} else {
			goto bad;
		}
	}
	return 0;

bad:
	pk_diag_set(diag,
	    "macsec = %.160s: want the number of a wire, `required` or `preferred`, and of: replay-window N, replay-standard, "
	    "replay-off, no-sci, end-station, clear-vlans N, engine",
	    words);
	return -EINVAL;
}

int
fw_macsec_create(struct fw_macsec **out, const struct fw_macsec_conf *conf, struct pk_diag *diag)
{
	struct fw_macsec *m = calloc(1, sizeof(*m));
	char name[RTE_RING_NAMESIZE];
	int rc;

	if (m == NULL)
		return -ENOMEM;
	m->conf = *conf;
	rc = macsec_secy_create(&m->secy, &conf->secy, diag);
	if (rc == 0)
		rc = ipsec_crypto_create(&m->crypto, diag);
	if (rc == 0) {
		snprintf(name, sizeof(name), "eapol_in_%u", conf->wire);
		m->in = rte_ring_create(name, RING, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
		snprintf(name, sizeof(name), "eapol_out_%u", conf->wire);
		m->out = rte_ring_create(name, RING, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
		if (m->in == NULL || m->out == NULL) {
			pk_diag_set(diag, "no memory for MACsec of wire %u", conf->wire);
			rc = -ENOMEM;
		}
	}
	if (rc < 0) {
		fw_macsec_destroy(m);
		return rc;
	}
	*out = m;
	return 0;
}

static void
empty(struct rte_ring *ring)
{
	struct rte_mbuf *m;

	while (ring != NULL && rte_ring_dequeue(ring, (void **)&m) == 0)
		rte_pktmbuf_free(m);
	rte_ring_free(ring);
}

void
fw_macsec_destroy(struct fw_macsec *m)
{
	if (m == NULL)
		return;
	empty(m->in);
	empty(m->out);
	ipsec_crypto_destroy(m->crypto);
	macsec_secy_destroy(m->secy);
	free(m);
}

const struct fw_macsec_conf *
fw_macsec_conf(const struct fw_macsec *m)
{
	return &m->conf;
}

struct macsec_secy *
fw_macsec_secy(struct fw_macsec *m)
{
	return m->secy;
}

void
fw_macsec_enable(struct fw_macsec *m, bool enabled)
{
	atomic_store_explicit(&m->enabled, enabled, memory_order_release);
}

bool
fw_macsec_up(const struct fw_macsec *m)
{
	return atomic_load_explicit(&m->enabled, memory_order_acquire) &&
	    macsec_secy_transmits(m->secy);
}

const struct fw_macsec_stats *
fw_macsec_stats(const struct fw_macsec *m)
{
	return &m->stats;
}

int
fw_macsec_inject(struct fw_macsec *m, const uint8_t *frame, size_t len)
{
	struct rte_mbuf *b = rte_pktmbuf_alloc(m->conf.pool);
	char *at = b != NULL && len <= UINT16_MAX ? rte_pktmbuf_append(b, (uint16_t)len) : NULL;

	if (at != NULL) {
		memcpy(at, frame, len);
		if (rte_ring_enqueue(m->out, b) == 0)
			return 0;
	}
	rte_pktmbuf_free(b);
	pk_counter_add(&m->stats.eapol_out_lost, 1);
	return b != NULL && at == NULL ? -EMSGSIZE : -ENOBUFS;
}

size_t
fw_macsec_eapol(struct fw_macsec *m, uint8_t *frame, size_t size)
{
	struct rte_mbuf *b;
	size_t len;

	if (rte_ring_dequeue(m->in, (void **)&b) != 0)
		return 0;
	len = PK_MIN((size_t)b->data_len, size);
	memcpy(frame, rte_pktmbuf_mtod(b, const void *), len);
	rte_pktmbuf_free(b);
	return len;
}

/* ---- the lcore's ---------------------------------------------------------------------------------- */

static bool
has_type(const struct rte_mbuf *m, uint16_t type)
{
	const uint8_t *d = rte_pktmbuf_mtod(m, const uint8_t *);

	return m->data_len >= 14 && d[12] == type >> 8 && d[13] == (type & 0xff);
}

/* A frame in one piece of its own with room on both sides: nearly always it is one already.  NULL: no buffer. */
static struct rte_mbuf *
in_place(struct fw_macsec *m, struct rte_mbuf *b)
{
	struct rte_mbuf *copy;

	if (likely(b->nb_segs == 1 && RTE_MBUF_DIRECT(b) && rte_mbuf_refcnt_read(b) == 1 &&
	        rte_pktmbuf_headroom(b) >= MACSEC_TAG_MAX && rte_pktmbuf_tailroom(b) >= MACSEC_ICV))
		return b;
	copy = b->pkt_len + MACSEC_ICV + RTE_PKTMBUF_HEADROOM <=
	        rte_pktmbuf_data_room_size(m->conf.pool)
	    ? rte_pktmbuf_copy(b, m->conf.pool, 0, UINT32_MAX)
	    : NULL;
	return copy;
}

static void
set_frame(struct rte_mbuf *b, const struct macsec_frame *f)
{
	b->data_off = (uint16_t)(f->data - (uint8_t *)b->buf_addr);
	b->data_len = (uint16_t)f->len;
	b->pkt_len = f->len;
}

static void
punt(struct fw_macsec *m, struct rte_mbuf *b)
{
	if (rte_ring_enqueue(m->in, b) == 0) {
		pk_counter_add(&m->stats.eapol_in, 1);
	} else {
		pk_counter_add(&m->stats.eapol_in_lost, 1);
		rte_pktmbuf_free(b);
	}
}

unsigned int
fw_macsec_rx(
    struct fw_macsec *m, struct fw_path *p, struct rte_mbuf **pkts, unsigned int n, uint64_t now_ns)
{
	struct macsec_frame f[FW_BURST];
	struct rte_mbuf *b[FW_BURST];
	unsigned int nb = 0, kept = 0;
	bool up = fw_macsec_up(m);

	for (unsigned int i = 0; i < n; i++)
		rte_prefetch0(rte_pktmbuf_mtod(pkts[i], void *));
	for (unsigned int i = 0; i < n; i++) {
		struct rte_mbuf *own;

		if (unlikely(has_type(pkts[i], EAPOL_ETHERTYPE))) {
			punt(m, pkts[i]);
			continue;
		}
		if (unlikely(!up && !m->conf.required && !has_type(pkts[i], MACSEC_ETHERTYPE))) {
			/* Order does not matter here: nothing else passes on this link now. */
			pk_counter_add(&m->stats.clear_in, 1);
			pkts[kept++] = pkts[i];
			continue;
		}
		own = in_place(m, pkts[i]);
		if (unlikely(own != pkts[i])) {
			if (own == NULL) {
				fw_path_refuse(p, m->conf.wire, FW_OUTSIDE, &pkts[i], 1,
				    FW_DROP_NO_BUFFER, now_ns);
				continue;
			}
			rte_pktmbuf_free(pkts[i]);
		}
		b[nb] = own;
		f[nb].data = rte_pktmbuf_mtod(own, uint8_t *);
		f[nb].len = own->data_len;
		nb++;
	}
	macsec_validate(m->secy, m->crypto, f, nb);
	for (unsigned int i = 0; i < nb; i++) {
		enum fw_drop why = drops[f[i].verdict];

		if (likely(f[i].verdict == MACSEC_PASS)) {
			set_frame(b[i], &f[i]);
			/* What the port knows is about what has been around it. */
			b[i]->ol_flags &= ~(RTE_MBUF_F_RX_IP_CKSUM_MASK |
			    RTE_MBUF_F_RX_L4_CKSUM_MASK | RTE_MBUF_F_RX_RSS_HASH);
			b[i]->packet_type = 0;
			pkts[kept++] = b[i];
			continue;
		}
		if (why == FW_DROP_MACSEC_UNTAGGED && !up)
			why = FW_DROP_MACSEC_DOWN;
		fw_path_refuse(p, m->conf.wire, FW_OUTSIDE, &b[i], 1, why, now_ns);
	}
	return kept;
}

unsigned int
fw_macsec_tx(struct fw_macsec *m, struct fw_path *p, struct rte_mbuf **pkts, unsigned int n)
{
	struct macsec_frame f[FW_BURST];
	struct rte_mbuf *b[FW_BURST];
	unsigned int kept = 0, done = 0;

	if (unlikely(!fw_macsec_up(m))) {
		if (!m->conf.required) {
			pk_counter_add(&m->stats.clear_out, n);
			return n;
		}
		rte_pktmbuf_free_bulk(pkts, n);
		fw_path_not_sent(p, FW_OUTSIDE, n, FW_DROP_MACSEC_DOWN);
		return 0;
	}
	/* A burst of the path may be twice as long as ours: packets, and answers to them. */
	while (done < n) {
		unsigned int nb = 0;

		for (; done < n && nb < FW_BURST; done++) {
			struct rte_mbuf *own = in_place(m, pkts[done]);

			if (unlikely(own != pkts[done])) {
				rte_pktmbuf_free(pkts[done]);
				if (own == NULL) {
					fw_path_not_sent(p, FW_OUTSIDE, 1, FW_DROP_NO_BUFFER);
					continue;
				}
			}
			b[nb] = own;
			f[nb].data = rte_pktmbuf_mtod(own, uint8_t *);
			f[nb].len = own->data_len;
			nb++;
		}
		macsec_protect(m->secy, m->crypto, f, nb);
		for (unsigned int i = 0; i < nb; i++) {
			if (likely(f[i].verdict == MACSEC_PASS)) {
				set_frame(b[i], &f[i]);
				pkts[kept++] = b[i];
				continue;
			}
			rte_pktmbuf_free(b[i]);
			fw_path_not_sent(p, FW_OUTSIDE, 1, drops[f[i].verdict]);
		}
	}
	return kept;
}

unsigned int
fw_macsec_injected(struct fw_macsec *m, struct rte_mbuf **pkts, unsigned int n)
{
	unsigned int got = rte_ring_dequeue_burst(m->out, (void **)pkts, n, NULL);

	pk_counter_add(&m->stats.eapol_out, got);
	return got;
}
