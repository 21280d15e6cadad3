#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipsec/macsec/secy_priv.h"
#include "lib/secret.h"

static const char *const verdict_names[MACSEC_VERDICT_COUNT] = {
	[MACSEC_DOWN] = "down",
	[MACSEC_PASS] = "pass",
	[MACSEC_UNTAGGED] = "untagged",
	[MACSEC_BAD_TAG] = "bad-tag",
	[MACSEC_UNKNOWN_SCI] = "unknown-sci",
	[MACSEC_NO_SA] = "no-sa",
	[MACSEC_LATE] = "late",
	[MACSEC_REPLAYED] = "replayed",
	[MACSEC_NOT_VALID] = "not-valid",
	[MACSEC_PN_EXHAUSTED] = "pn-exhausted",
	[MACSEC_TOO_LONG] = "too-long",
};

const char *
macsec_verdict_name(unsigned int verdict)
{
	return verdict < MACSEC_VERDICT_COUNT ? verdict_names[verdict] : "unknown";
}

/* ---- associations ------------------------------------------------------------------------------- */

static void
sa_destroy(struct sa *sa)
{
	if (sa == NULL)
		return;
	free(sa->seen);
	pk_wipe(sa, sizeof(*sa));
	free(sa);
}

static int
sa_create(struct sa **out, const struct macsec_secy *s, const struct macsec_sa_conf *conf,
    bool receive, struct pk_diag *diag)
{
	static const uint8_t algs[MACSEC_SUITE_COUNT] = {
		[MACSEC_GCM_AES_128] = IPSEC_AES_GCM_128,
		[MACSEC_GCM_AES_256] = IPSEC_AES_GCM_256,
		[MACSEC_GCM_AES_XPN_128] = IPSEC_AES_GCM_128,
		[MACSEC_GCM_AES_XPN_256] = IPSEC_AES_GCM_256,
	};
	struct sa *sa;
	uint64_t pn = conf->pn != 0 ? conf->pn : 1;
	int rc;

	if (macsec_suite_key_len(conf->suite) == 0 || conf->an >= MACSEC_ANS ||
	    conf->confidentiality >= MACSEC_CONFIDENTIALITY_COUNT) {
		pk_diag_set(diag,
		    "an association wants a cipher suite, an AN of 0 to 3 and a confidentiality offset of 0, 30 or 50");
		return -EINVAL;
	}
	sa = aligned_alloc(
	    PK_CACHE_LINE, (sizeof(*sa) + PK_CACHE_LINE - 1) & ~(size_t)(PK_CACHE_LINE - 1));
	if (sa == NULL)
		return -ENOMEM;
	memset(sa, 0, sizeof(*sa));
	sa->alg = algs[conf->suite];
	sa->xpn = macsec_suite_xpn(conf->suite);
	sa->pn_max = sa->xpn ? UINT64_MAX : UINT32_MAX;
	sa->an = conf->an;
	sa->suite = conf->suite;
	sa->confidentiality = conf->confidentiality;
	sa->encrypt = conf->confidentiality != MACSEC_INTEGRITY_ONLY;
	sa->offset = macsec_confidentiality_offset(conf->confidentiality);
	sa->tci_an = (uint8_t)(conf->an | (s->conf.include_sci ? 0x20 : 0) |
	    (s->conf.end_station ? 0x40 : 0) | (s->conf.scb ? 0x10 : 0) | (sa->encrypt ? 0x0c : 0));
	if (sa->xpn) {
		uint32_t ssci_be = __builtin_bswap32(conf->ssci), high;

		memcpy(sa->salt, conf->salt, sizeof(sa->salt));
		memcpy(&high, sa->salt, 4);
		high ^= ssci_be;
		memcpy(sa->salt, &high, 4);
	}
	memcpy(sa->ki, conf->ki, sizeof(sa->ki));
	sa->window = s->conf.replay_window;
	sa->protect = s->conf.replay_protect;
	sa->strict = s->conf.replay_strict && s->conf.replay_protect;
	atomic_init(&sa->next_pn, pn <= sa->pn_max ? pn : 0);
	atomic_init(&sa->floor, receive ? pn : 0);
	rc = ipsec_key_prepare(sa->key, (enum ipsec_alg)sa->alg, conf->key,
	    macsec_suite_key_len(conf->suite), NULL, 0, diag);
	if (rc == 0 && receive) {
		sa->seen = calloc(WINDOW_WORDS, sizeof(*sa->seen));
		rc = sa->seen != NULL ? 0 : -ENOMEM;
	}
	if (rc < 0) {
		sa_destroy(sa);
		return rc;
	}
	*out = sa;
	return 0;
}

/* Take an association out of its place; it is freed when no lcore can know it. */
static int
put_out(struct macsec_secy *s, struct sa **place)
{
	if (*place == NULL)
		return -ENOENT;
	(*place)->next_garbage = s->sa_out;
	s->sa_out = *place;
	*place = NULL;
	return 0;
}

static struct rx_sc *
find(const struct macsec_secy *s, uint64_t sci, unsigned int *at)
{
	for (unsigned int i = 0; i < s->nb_rx; i++) {
		if (s->rx[i]->sci == sci) {
			if (at != NULL)
				*at = i;
			return s->rx[i];
		}
	}
	return NULL;
}

int
macsec_tx_sa_add(struct macsec_secy *s, const struct macsec_sa_conf *conf, struct pk_diag *diag)
{
	if (conf->an < MACSEC_ANS && s->tx[conf->an] != NULL) {
		pk_diag_set(diag, "AN %u already has a key to transmit with", conf->an);
		return -EEXIST;
	}
	return sa_create(&s->tx[conf->an & 3], s, conf, false, diag);
}

int
macsec_tx_sa_use(struct macsec_secy *s, uint8_t an)
{
	if (an >= MACSEC_ANS || s->tx[an] == NULL)
		return -ENOENT;
	s->encoding = s->tx[an];
	return 0;
}

int
macsec_tx_sa_delete(struct macsec_secy *s, uint8_t an)
{
	if (an >= MACSEC_ANS)
		return -ENOENT;
	if (s->encoding == s->tx[an])
		s->encoding = NULL;
	return put_out(s, &s->tx[an]);
}

int
macsec_rx_sc_add(struct macsec_secy *s, uint64_t sci, struct pk_diag *diag)
{
	struct rx_sc *sc;

	if (find(s, sci, NULL) != NULL)
		return 0;
	if (s->nb_rx == MACSEC_RX_SC_MAX) {
		pk_diag_set(diag, "a port has at most %d receive channels", MACSEC_RX_SC_MAX);
		return -ENOSPC;
	}
	sc = aligned_alloc(
	    PK_CACHE_LINE, (sizeof(*sc) + PK_CACHE_LINE - 1) & ~(size_t)(PK_CACHE_LINE - 1));
	if (sc == NULL)
		return -ENOMEM;
	memset(sc, 0, sizeof(*sc));
	sc->sci = sci;
	s->rx[s->nb_rx++] = sc;
	return 0;
}

int
macsec_rx_sc_delete(struct macsec_secy *s, uint64_t sci)
{
	unsigned int at;
	struct rx_sc *sc = find(s, sci, &at);

	if (sc == NULL)
		return -ENOENT;
	for (unsigned int an = 0; an < MACSEC_ANS; an++)
		(void)put_out(s, &sc->sa[an]);
	sc->next_garbage = s->sc_out;
	s->sc_out = sc;
	s->rx[at] = s->rx[--s->nb_rx];
	return 0;
}

int
macsec_rx_sa_add(
    struct macsec_secy *s, uint64_t sci, const struct macsec_sa_conf *conf, struct pk_diag *diag)
{
	struct rx_sc *sc = find(s, sci, NULL);
	char text[MACSEC_SCI_TEXT];

	if (sc == NULL) {
		pk_diag_set(diag, "there is no receive channel %s", macsec_sci_text(sci, text));
		return -ENOENT;
	}
	if (conf->an < MACSEC_ANS && sc->sa[conf->an] != NULL) {
		pk_diag_set(diag, "channel %s already has a key under AN %u",
		    macsec_sci_text(sci, text), conf->an);
		return -EEXIST;
	}
	return sa_create(&sc->sa[conf->an & 3], s, conf, true, diag);
}

int
macsec_rx_sa_delete(struct macsec_secy *s, uint64_t sci, uint8_t an)
{
	struct rx_sc *sc = find(s, sci, NULL);

	return sc != NULL && an < MACSEC_ANS ? put_out(s, &sc->sa[an]) : -ENOENT;
}

int
macsec_rx_sa_floor(struct macsec_secy *s, uint64_t sci, uint8_t an, uint64_t pn)
{
	struct rx_sc *sc = find(s, sci, NULL);
	struct sa *sa = sc != NULL && an < MACSEC_ANS ? sc->sa[an] : NULL;

	if (sa == NULL)
		return -ENOENT;
	if (pn > atomic_load_explicit(&sa->floor, memory_order_relaxed))
		atomic_store_explicit(&sa->floor, pn, memory_order_relaxed);
	return 0;
}

void
macsec_secy_clear(struct macsec_secy *s)
{
	for (uint8_t an = 0; an < MACSEC_ANS; an++)
		(void)macsec_tx_sa_delete(s, an);
	while (s->nb_rx > 0)
		(void)macsec_rx_sc_delete(s, s->rx[0]->sci);
}

/* ---- publication -------------------------------------------------------------------------------- */

void
macsec_secy_commit(struct macsec_secy *s)
{
	struct view *v = calloc(1, sizeof(*v)), *old;
	struct sa **sa = &s->sa_garbage;
	struct rx_sc **sc = &s->sc_garbage;

	/* A few kilobytes; without them there would be no way to take a key out of use. */
	PK_ASSERT(v != NULL);
	v->tx = s->encoding;
	v->nb_rx = s->nb_rx;
	for (unsigned int i = 0; i < s->nb_rx; i++) {
		v->sci[i] = s->rx[i]->sci;
		v->rx[i].sc = s->rx[i];
		memcpy(v->rx[i].sa, s->rx[i]->sa, sizeof(v->rx[i].sa));
	}
	old = atomic_exchange_explicit(&s->view, v, memory_order_acq_rel);
	if (old != NULL) {
		old->next_garbage = s->view_garbage;
		s->view_garbage = old;
	}
	while (*sa != NULL)
		sa = &(*sa)->next_garbage;
	*sa = s->sa_out;
	s->sa_out = NULL;
	while (*sc != NULL)
		sc = &(*sc)->next_garbage;
	*sc = s->sc_out;
	s->sc_out = NULL;
}

void
macsec_secy_reclaim(struct macsec_secy *s)
{
	while (s->view_garbage != NULL) {
		struct view *v = s->view_garbage;

		s->view_garbage = v->next_garbage;
		free(v);
	}
	while (s->sa_garbage != NULL) {
		struct sa *sa = s->sa_garbage;

		s->sa_garbage = sa->next_garbage;
		sa_destroy(sa);
	}
	while (s->sc_garbage != NULL) {
		struct rx_sc *sc = s->sc_garbage;

		s->sc_garbage = sc->next_garbage;
		free(sc);
	}
}

/* ---- the whole ---------------------------------------------------------------------------------- */

int
macsec_secy_create(
    struct macsec_secy **out, const struct macsec_secy_conf *conf, struct pk_diag *diag)
{
	struct macsec_secy *s;

	if (conf->validate > MACSEC_DISABLED || conf->clear_vlans > MACSEC_VLANS_MAX ||
	    (conf->include_sci && (conf->end_station || conf->scb))) {
		pk_diag_set(diag,
		    "a SecTAG has an SCI or one of the bits ES and SCB, and at most %d VLAN tags before it",
		    MACSEC_VLANS_MAX);
		return -EINVAL;
	}
	if (conf->replay_strict && conf->replay_window > MACSEC_STRICT_MAX) {
		pk_diag_set(diag,
		    "a strict replay window has at most %d packets; want a smaller one, or the standard's",
		    MACSEC_STRICT_MAX);
		return -EINVAL;
	}
	s = aligned_alloc(
	    PK_CACHE_LINE, (sizeof(*s) + PK_CACHE_LINE - 1) & ~(size_t)(PK_CACHE_LINE - 1));
	if (s == NULL)
		return -ENOMEM;
	memset(s, 0, sizeof(*s));
	s->conf = *conf;
	macsec_secy_commit(s);
	*out = s;
	return 0;
}

void
macsec_secy_destroy(struct macsec_secy *s)
{
	if (s == NULL)
		return;
	macsec_secy_clear(s);
	macsec_secy_commit(s);
	macsec_secy_reclaim(s);
	free(atomic_load(&s->view));
	free(s);
}

/* ---- questions ---------------------------------------------------------------------------------- */

const struct macsec_secy_conf *
macsec_secy_conf(const struct macsec_secy *s)
{
	return &s->conf;
}

static bool
info(const struct sa *sa, struct macsec_sa_info *out)
{
	uint64_t next, floor;

	if (sa == NULL)
		return false;
	next = atomic_load_explicit(&sa->next_pn, memory_order_relaxed);
	floor = atomic_load_explicit(&sa->floor, memory_order_relaxed);
	*out = (struct macsec_sa_info){ .suite = sa->suite,
		.confidentiality = sa->confidentiality,
		.an = sa->an,
		.next_pn = next };
	out->lowest_pn = !sa->protect ? floor
	    : next == 0               ? sa->pn_max
	    : next - 1 < sa->window   ? floor
	                              : PK_MAX(floor, next - sa->window);
	memcpy(out->ki, sa->ki, sizeof(out->ki));
	return true;
}

bool
macsec_tx_sa_info(const struct macsec_secy *s, uint8_t an, struct macsec_sa_info *out)
{
	if (an >= MACSEC_ANS || !info(s->tx[an], out))
		return false;
	out->in_use = s->tx[an] == s->encoding;
	out->lowest_pn = 0;
	return true;
}

bool
macsec_rx_sa_info(const struct macsec_secy *s, uint64_t sci, uint8_t an, struct macsec_sa_info *out)
{
	const struct rx_sc *sc = find(s, sci, NULL);

	return sc != NULL && an < MACSEC_ANS && info(sc->sa[an], out);
}

bool
macsec_rx_sc_at(const struct macsec_secy *s, unsigned int i, uint64_t *sci)
{
	if (i >= s->nb_rx)
		return false;
	*sci = s->rx[i]->sci;
	return true;
}

const struct macsec_secy_stats *
macsec_secy_stats(const struct macsec_secy *s)
{
	return &s->stats;
}

const struct macsec_tx_stats *
macsec_tx_stats(const struct macsec_secy *s)
{
	return &s->tx_stats;
}

const struct macsec_rx_stats *
macsec_rx_stats(const struct macsec_secy *s, uint64_t sci)
{
	const struct rx_sc *sc = find(s, sci, NULL);

	return sc != NULL ? &sc->stats : NULL;
}

bool
macsec_secy_transmits(const struct macsec_secy *s)
{
	return atomic_load_explicit(&s->view, memory_order_acquire)->tx != NULL;
}
