#include <string.h>

#include "ipsec/macsec/sectag.h"
#include "ipsec/macsec/secy_priv.h"

/*
 * 802.1AE-2018, 10.6: the secure frame verification.  A burst is read first, then all of it is opened by one call,
 * and then judged in its order; the replay check comes before the cryptography, which is dear, and again after it.
 */

struct seen {
	struct rx_sc *sc;
	struct sa *sa;
	uint64_t pn;
	uint32_t tags; /* octets in clear before the SecTAG */
	uint8_t saved[4 * MACSEC_VLANS_MAX];
	struct macsec_tag tag;
};

static bool
discard(struct macsec_frame *f, enum macsec_verdict why, pk_counter *counter)
{
	f->verdict = (uint8_t)why;
	pk_counter_add(counter, 1);
	return false;
}

/* 10.6.2: the first number with this lower half from the lowest acceptable one on, give or take 2^31. */
static uint64_t
recover(const struct sa *sa, uint32_t low)
{
	uint64_t next = atomic_load_explicit(&sa->next_pn, memory_order_relaxed);
	uint64_t lowest = next > sa->window ? next - sa->window : 0, high = lowest >> 32;

	if (((uint32_t)lowest & 0x80000000u) != 0 && (low & 0x80000000u) == 0)
		high++;
	return high << 32 | low;
}

/* Why this number is refused, or MACSEC_PASS. */
static enum macsec_verdict
replay_check(const struct sa *sa, uint64_t pn)
{
	uint64_t next = atomic_load_explicit(&sa->next_pn, memory_order_relaxed);

	if (pn < atomic_load_explicit(&sa->floor, memory_order_relaxed))
		return MACSEC_LATE;
	if (next != 0 && pn >= next)
		return MACSEC_PASS;
	/* With next == 0 the last number of all has come: the difference is right modulo 2^64, or 2^32. */
	if ((next != 0 ? next - pn : sa->pn_max - pn + 1) > sa->window)
		return MACSEC_LATE;
	if (sa->strict && (sa->seen[pn / 64 % WINDOW_WORDS] >> pn % 64 & 1) != 0)
		return MACSEC_REPLAYED;
	return MACSEC_PASS;
}

/* The frame of this number was good. */
static void
replay_note(struct sa *sa, uint64_t pn)
{
	uint64_t next = atomic_load_explicit(&sa->next_pn, memory_order_relaxed);

	if (next != 0 && pn >= next) {
		/* Words between the old and the new place hold bits of a window long past. */
		uint64_t from = (next - 1) / 64 + 1, to = pn / 64;

		if (to >= from && to - from >= WINDOW_WORDS)
			from = to - WINDOW_WORDS + 1;
		for (; from <= to; from++)
			sa->seen[from % WINDOW_WORDS] = 0;
		atomic_store_explicit(
		    &sa->next_pn, pn == sa->pn_max ? 0 : pn + 1, memory_order_relaxed);
	}
	sa->seen[pn / 64 % WINDOW_WORDS] |= UINT64_C(1) << pn % 64;
}

/* The frame as it was before protection, but for what is still to be deciphered. */
static void
strip(struct macsec_frame *f, const struct seen *seen)
{
	uint8_t *d = f->data;

	memmove(d + seen->tag.len, d, MACSEC_ADDRS);
	d += seen->tag.len;
	if (__builtin_expect(seen->tags != 0, 0))
		d = drop_tags_in(d, seen->tags, seen->saved);
	f->data = d;
	f->len = MACSEC_ADDRS + seen->tags + seen->tag.data_len;
	f->verdict = MACSEC_PASS;
}

/* A frame that cannot be verified: in clear it may be read if the mode says so. */
static bool
unverified(const struct macsec_secy *s, struct macsec_frame *f, const struct seen *seen,
    enum macsec_verdict why, pk_counter *discarded, pk_counter *passed)
{
	if (s->conf.validate == MACSEC_STRICT || (seen->tag.tci & MACSEC_TCI_C) != 0)
		return discard(f, why, discarded);
	pk_counter_add(passed, 1);
	strip(f, seen);
	return false;
}

/* Read the tag and find the key.  True: *op is to be done; false: f->verdict is final. */
static bool
prepare(struct macsec_secy *s, const struct view *v, struct macsec_frame *f, struct seen *seen,
    struct ipsec_op *op, uint8_t iv[12])
{
	uint8_t *d = f->data;
	uint32_t len = f->len, in_clear;
	enum macsec_verdict replay;
	unsigned int i;

	seen->tags = s->conf.clear_vlans != 0 ? clear_tags(s, d, len) : 0;
	if (len < MACSEC_ADDRS + seen->tags + 2 || d[12 + seen->tags] != MACSEC_ETHERTYPE >> 8 ||
	    d[13 + seen->tags] != (MACSEC_ETHERTYPE & 0xff)) {
		if (s->conf.validate == MACSEC_STRICT)
			return discard(f, MACSEC_UNTAGGED, &s->stats.in_pkts_no_tag);
		pk_counter_add(&s->stats.in_pkts_untagged, 1);
		f->verdict = MACSEC_PASS;
		return false;
	}
	if (__builtin_expect(seen->tags != 0, 0)) {
		d = lift_tags(d, seen->tags, seen->saved);
		len -= seen->tags;
		f->data = d;
		f->len = len;
	}
	if (!macsec_tag_read(d, len, &seen->tag))
		return discard(f, MACSEC_BAD_TAG, &s->stats.in_pkts_bad_tag);
	if ((seen->tag.tci & MACSEC_TCI_SC) != 0) {
		for (i = 0; i < v->nb_rx && v->sci[i] != seen->tag.sci; i++)
			;
	} else if ((seen->tag.tci & MACSEC_TCI_ES) != 0) {
		seen->tag.sci = macsec_sci_of(d + 6, (seen->tag.tci & MACSEC_TCI_SCB) != 0 ? 0 : 1);
		for (i = 0; i < v->nb_rx && v->sci[i] != seen->tag.sci; i++)
			;
	} else {
		/* 9.3: the sender need not say who it is to the only other station. */
		i = v->nb_rx == 1 ? 0 : v->nb_rx;
		if (v->nb_rx == 1)
			seen->tag.sci = v->sci[0];
	}
	if (__builtin_expect(i == v->nb_rx, 0))
		return unverified(s, f, seen, MACSEC_UNKNOWN_SCI, &s->stats.in_pkts_no_sci,
		    &s->stats.in_pkts_unknown_sci);
	seen->sc = v->rx[i].sc;
	seen->sa = v->rx[i].sa[seen->tag.an];
	if (__builtin_expect(seen->sa == NULL, 0))
		return unverified(s, f, seen, MACSEC_NO_SA, &seen->sc->stats.in_pkts_not_using_sa,
		    &seen->sc->stats.in_pkts_unused_sa);
	if (!seen->sa->xpn && seen->tag.pn == 0)
		return discard(f, MACSEC_BAD_TAG, &s->stats.in_pkts_bad_tag);
	if (__builtin_expect(s->conf.validate == MACSEC_DISABLED, 0)) {
		if ((seen->tag.tci & MACSEC_TCI_C) != 0)
			return discard(f, MACSEC_NOT_VALID, &seen->sc->stats.in_pkts_not_valid);
		pk_counter_add(&seen->sc->stats.in_pkts_unchecked, 1);
		strip(f, seen);
		return false;
	}
	seen->pn = seen->sa->xpn ? recover(seen->sa, seen->tag.pn) : seen->tag.pn;
	replay = replay_check(seen->sa, seen->pn);
	if (__builtin_expect(replay != MACSEC_PASS, 0) && seen->sa->protect)
		return discard(f, replay,
		    replay == MACSEC_REPLAYED ? &seen->sc->stats.in_pkts_replayed
		                              : &seen->sc->stats.in_pkts_late);
	make_iv(seen->sa, seen->tag.sci, seen->pn, iv);
	in_clear = (seen->tag.tci & MACSEC_TCI_E) != 0
	    ? PK_MIN((uint32_t)seen->sa->offset, seen->tag.data_len)
	    : seen->tag.data_len;
	*op = (struct ipsec_op){
		.key = seen->sa->key,
		.data = d + MACSEC_ADDRS + seen->tag.len + in_clear,
		.aad = d,
		.iv = iv,
		.icv = d + MACSEC_ADDRS + seen->tag.len + seen->tag.data_len,
		.len = seen->tag.data_len - in_clear,
		.aad_len = MACSEC_ADDRS + seen->tag.len + in_clear,
		.alg = seen->sa->alg,
	};
	return true;
}

/* The cryptography is done. */
static void
judge(struct macsec_secy *s, struct macsec_frame *f, struct seen *seen, const struct ipsec_op *op)
{
	struct macsec_rx_stats *stats = &seen->sc->stats;
	enum macsec_verdict replay;

	if (__builtin_expect(!op->ok, 0)) {
		(void)unverified(s, f, seen, MACSEC_NOT_VALID, &stats->in_pkts_not_valid,
		    &stats->in_pkts_invalid);
		return;
	}
	pk_counter_add((seen->tag.tci & MACSEC_TCI_E) != 0 ? &s->stats.in_octets_decrypted
	                                                   : &s->stats.in_octets_validated,
	    seen->tag.data_len);
	/* Frames before it in this burst have moved the window. */
	replay = replay_check(seen->sa, seen->pn);
	if (__builtin_expect(replay != MACSEC_PASS, 0)) {
		if (seen->sa->protect) {
			(void)discard(f, replay,
			    replay == MACSEC_REPLAYED ? &stats->in_pkts_replayed
			                              : &stats->in_pkts_late);
			return;
		}
		pk_counter_add(&stats->in_pkts_delayed, 1);
	} else {
		pk_counter_add(&stats->in_pkts_ok, 1);
	}
	replay_note(seen->sa, seen->pn);
	strip(f, seen);
}

void
macsec_validate(
    struct macsec_secy *s, struct ipsec_crypto *c, struct macsec_frame *f, unsigned int n)
{
	const struct view *v = atomic_load_explicit(&s->view, memory_order_acquire);
	struct ipsec_op op[MACSEC_BURST];
	uint8_t iv[MACSEC_BURST][12];
	struct seen seen[MACSEC_BURST];
	unsigned int who[MACSEC_BURST], nb = 0;

	PK_ASSERT(n <= MACSEC_BURST);
	for (unsigned int i = 0; i < n; i++)
		__builtin_prefetch(f[i].data);
	for (unsigned int i = 0; i < n; i++) {
		if (!prepare(s, v, &f[i], &seen[nb], &op[nb], iv[nb]))
			continue;
		who[nb++] = i;
	}
	ipsec_open(c, op, nb);
	for (unsigned int k = 0; k < nb; k++)
		judge(s, &f[who[k]], &seen[k], &op[k]);
}
