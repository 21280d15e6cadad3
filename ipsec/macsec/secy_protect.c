#include <string.h>

#include "ipsec/macsec/sectag.h"
#include "ipsec/macsec/secy_priv.h"

/*
 * 802.1AE-2018, 10.5: the secure frame generation.  Frames of a burst get consecutive packet numbers, are written in
 * full but for the cryptography, which is then done for all of them by one call.
 */

struct clear {
	uint32_t tags; /* octets */
	uint8_t saved[4 * MACSEC_VLANS_MAX];
};

/* Take a packet number, put the tag in, and say what is to be done.  False: f->verdict has why not. */
static bool
prepare(struct macsec_secy *s, struct sa *sa, struct macsec_frame *f, struct clear *clear,
    struct ipsec_op *op, uint8_t iv[12])
{
	uint64_t pn = atomic_load_explicit(&sa->next_pn, memory_order_relaxed);
	uint32_t tag_len = s->conf.include_sci ? 16 : 8, user, in_clear;
	uint8_t *d = f->data, *tag;

	if (__builtin_expect(pn == 0, 0)) {
		/* 10.5.2: the frame is discarded, for a number is never used twice under one key. */
		f->verdict = MACSEC_PN_EXHAUSTED;
		pk_counter_add(&s->stats.out_pkts_pn_exhausted, 1);
		return false;
	}
	if (__builtin_expect(
	        s->conf.max_len != 0 && f->len + tag_len + MACSEC_ICV > s->conf.max_len, 0)) {
		f->verdict = MACSEC_TOO_LONG;
		pk_counter_add(&s->stats.out_pkts_too_long, 1);
		return false;
	}
	atomic_store_explicit(&sa->next_pn, pn == sa->pn_max ? 0 : pn + 1, memory_order_relaxed);
	clear->tags = s->conf.clear_vlans != 0 ? clear_tags(s, d, f->len) : 0;
	if (__builtin_expect(clear->tags != 0, 0))
		d = lift_tags(d, clear->tags, clear->saved);
	user = f->len - clear->tags - MACSEC_ADDRS;
	/* The addresses move down, rather than all else up. */
	{
		uint64_t first;
		uint32_t last;

		memcpy(&first, d, 8);
		memcpy(&last, d + 8, 4);
		d -= tag_len;
		memcpy(d, &first, 8);
		memcpy(d + 8, &last, 4);
	}
	tag = d + MACSEC_ADDRS;
	macsec_tag_write(tag, sa->tci_an, user, (uint32_t)pn, s->conf.sci);
	make_iv(sa, s->conf.sci, pn, iv);
	in_clear = sa->encrypt ? PK_MIN((uint32_t)sa->offset, user) : user;
	*op = (struct ipsec_op){
		.key = sa->key,
		.data = tag + tag_len + in_clear,
		.aad = d,
		.iv = iv,
		.icv = tag + tag_len + user,
		.len = user - in_clear,
		.aad_len = MACSEC_ADDRS + tag_len + in_clear,
		.alg = sa->alg,
	};
	f->data = d;
	f->len = MACSEC_ADDRS + tag_len + user + MACSEC_ICV;
	f->verdict = MACSEC_PASS;
	return true;
}

void
macsec_protect(
    struct macsec_secy *s, struct ipsec_crypto *c, struct macsec_frame *f, unsigned int n)
{
	const struct view *v = atomic_load_explicit(&s->view, memory_order_acquire);
	struct ipsec_op op[MACSEC_BURST];
	struct clear clear[MACSEC_BURST];
	uint8_t iv[MACSEC_BURST][12];
	unsigned int nb = 0;
	uint64_t octets = 0;

	PK_ASSERT(n <= MACSEC_BURST);
	if (__builtin_expect(v->tx == NULL, 0)) {
		for (unsigned int i = 0; i < n; i++)
			f[i].verdict = MACSEC_DOWN;
		pk_counter_add(&s->stats.out_pkts_no_sa, n);
		return;
	}
	for (unsigned int i = 0; i < n; i++) {
		if (!prepare(s, v->tx, &f[i], &clear[i], &op[nb], iv[nb]))
			continue;
		octets += v->tx->encrypt ? op[nb].len : f[i].len - MACSEC_ICV;
		nb++;
	}
	ipsec_seal(c, op, nb);
	if (__builtin_expect(s->conf.clear_vlans != 0, 0))
		for (unsigned int i = 0; i < n; i++)
			if (f[i].verdict == MACSEC_PASS && clear[i].tags != 0) {
				f[i].data = drop_tags_in(f[i].data, clear[i].tags, clear[i].saved);
				f[i].len += clear[i].tags;
			}
	pk_counter_add(
	    v->tx->encrypt ? &s->tx_stats.out_pkts_encrypted : &s->tx_stats.out_pkts_protected, nb);
	pk_counter_add(
	    v->tx->encrypt ? &s->stats.out_octets_encrypted : &s->stats.out_octets_protected,
	    octets);
}
