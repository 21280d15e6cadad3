#include "ipsec/mka/mkpdu.h"

#include <string.h>

#include "lib/wire.h"

enum parameter_set {
	SET_LIVE = 1,
	SET_POTENTIAL = 2,
	SET_SAK_USE = 3,
	SET_DISTRIBUTED_SAK = 4,
	SET_DISTRIBUTED_CAK = 5,
	SET_XPN = 8,
	SET_ICV = 255,
};

#define HEADERS   18 /* Ethernet and EAPOL */
#define TYPE_MKA  5
#define BASIC_LEN 28 /* of the basic parameter set's body, without CKN */

static const uint8_t pae_group[6] = { 0x01, 0x80, 0xc2, 0x00, 0x00, 0x03 };

bool
mka_ki_equal(const struct mka_ki *a, const struct mka_ki *b)
{
	return a->kn == b->kn && memcmp(a->mi, b->mi, sizeof(a->mi)) == 0;
}

/* ---- reading ------------------------------------------------------------------------------------ */

static void
read_mi(struct pk_wire *w, uint8_t mi[MKA_MI])
{
	const uint8_t *p = pk_wire_bytes(w, MKA_MI);

	if (p != NULL)
		memcpy(mi, p, MKA_MI);
}

static const char *
read_list(struct pk_wire body, struct mka_peer_id *list, unsigned int *nb)
{
	if (pk_wire_left(&body) % 16 != 0)
		return "a peer list of an impossible length";
	while (pk_wire_left(&body) > 0 && *nb < MKA_LIST_MAX) {
		read_mi(&body, list[*nb].mi);
		list[*nb].mn = pk_wire_be32(&body);
		(*nb)++;
	}
	return NULL;
}

static void
read_use(struct pk_wire *body, struct mka_use *use)
{
	read_mi(body, use->ki.mi);
	use->ki.kn = pk_wire_be32(body);
	use->lpn = pk_wire_be32(body);
}

static const char *
read_sak_use(struct mkpdu *m, struct pk_wire body, uint8_t b1, uint8_t b2)
{
	m->has_use = true;
	m->plain_tx = (b2 & 0x80) != 0;
	m->plain_rx = (b2 & 0x40) != 0;
	m->delay_protect = (b2 & 0x10) != 0;
	/* 11.11.2: nothing to say without MACsec. */
	if (pk_wire_left(&body) == 0)
		return NULL;
	if (pk_wire_left(&body) != 40)
		return "a SAK use of an impossible length";
	m->latest =
	    (struct mka_use){ .an = b1 >> 6, .tx = (b1 & 0x20) != 0, .rx = (b1 & 0x10) != 0 };
	m->old =
	    (struct mka_use){ .an = b1 >> 2 & 3, .tx = (b1 & 0x02) != 0, .rx = (b1 & 0x01) != 0 };
	read_use(&body, &m->latest);
	read_use(&body, &m->old);
	return NULL;
}

static const char *
read_distributed_sak(struct mkpdu *m, struct pk_wire body, uint8_t b1)
{
	size_t len = pk_wire_left(&body);

	if (m->has_sak)
		return "two distributed SAKs";
	m->has_sak = true;
	m->sak_an = b1 >> 6;
	m->confidentiality = b1 >> 4 & 3;
	if (len == 0)
		return NULL;
	if (len != 28 && len != 36 && len != 52)
		return "a distributed SAK of an impossible length";
	m->kn = pk_wire_be32(&body);
	m->suite = len == 28 ? macsec_suite_id(MACSEC_GCM_AES_128) : pk_wire_be64(&body);
	m->wrapped_len = (uint8_t)pk_wire_left(&body);
	m->wrapped = pk_wire_bytes(&body, m->wrapped_len);
	return m->kn != 0 ? NULL : "a distributed SAK with key number 0";
}

static const char *
read_set(struct mkpdu *m, uint8_t type, struct pk_wire body, uint8_t b1, uint8_t b2)
{
	switch (type) {
	case SET_LIVE:
		return read_list(body, m->live, &m->nb_live);
	case SET_POTENTIAL:
		return read_list(body, m->potential, &m->nb_potential);
	case SET_SAK_USE:
		return m->has_use ? "two SAK uses" : read_sak_use(m, body, b1, b2);
	case SET_DISTRIBUTED_SAK:
		return read_distributed_sak(m, body, b1);
	case SET_XPN:
		/* 11.11.7; it follows the SAK use whose numbers it has the upper halves of. */
		if (pk_wire_left(&body) != 8)
			return "extended packet numbers of an impossible length";
		m->has_xpn = true;
		m->suspend_s = b1;
		m->latest.lpn |= (uint64_t)pk_wire_be32(&body) << 32;
		m->old.lpn |= (uint64_t)pk_wire_be32(&body) << 32;
		return NULL;
	default:
		/* 11.11.3: sets of types that are not known are skipped. */
		return NULL;
	}
}

static const char *
read_basic(struct mkpdu *m, struct pk_wire *w)
{
	uint8_t b2;
	size_t len;

	m->version = pk_wire_u8(w);
	m->priority = pk_wire_u8(w);
	b2 = pk_wire_u8(w);
	len = (size_t)(b2 & 0x0f) << 8 | pk_wire_u8(w);
	m->key_server = (b2 & 0x80) != 0;
	m->desired = (b2 & 0x40) != 0;
	m->capability = b2 >> 4 & 3;
	m->sci = pk_wire_be64(w);
	read_mi(w, m->actor.mi);
	m->actor.mn = pk_wire_be32(w);
	m->algorithm = pk_wire_be32(w);
	if (len <= BASIC_LEN || len > BASIC_LEN + MKA_CKN_MAX)
		return "a CKN of an impossible length";
	m->ckn_len = (uint8_t)(len - BASIC_LEN);
	m->ckn = pk_wire_bytes(w, m->ckn_len);
	pk_wire_skip(w, -len & 3);
	return pk_wire_ok(w) ? NULL : "truncated";
}

/* The parameter sets of a frame, and where its ICV begins. */
static const char *
open_frame(const uint8_t *frame, size_t len, struct pk_wire *w, size_t *body_len)
{
	size_t body;

	if (len < HEADERS)
		return "truncated";
	if (frame[12] != EAPOL_ETHERTYPE >> 8 || frame[13] != (EAPOL_ETHERTYPE & 0xff) ||
	    frame[15] != TYPE_MKA)
		return "not EAPOL-MKA";
	body = (size_t)frame[16] << 8 | frame[17];
	/* 11.11: a whole number of quartets, with an ICV. */
	if (body > len - HEADERS)
		return "truncated";
	if (body % 4 != 0 || body < 4 + BASIC_LEN + MKA_ICV)
		return "of an impossible length";
	*body_len = HEADERS + body - MKA_ICV;
	*w = pk_wire_from(frame + HEADERS, body - MKA_ICV);
	return NULL;
}

const uint8_t *
mkpdu_ckn(const uint8_t *frame, size_t len, uint8_t *ckn_len)
{
	struct mkpdu m;
	struct pk_wire w;
	size_t body_len;

	if (open_frame(frame, len, &w, &body_len) != NULL || read_basic(&m, &w) != NULL)
		return NULL;
	*ckn_len = m.ckn_len;
	return m.ckn;
}

const char *
mkpdu_decode(struct mkpdu *m, const uint8_t *frame, size_t len, size_t *body_len)
{
	const char *why;
	struct pk_wire w;

	memset(m, 0, sizeof(*m));
	why = open_frame(frame, len, &w, body_len);
	if (why == NULL)
		why = read_basic(m, &w);
	if (why == NULL && m->actor.mn == 0)
		why = "message number 0";
	while (why == NULL && pk_wire_left(&w) > 0) {
		uint8_t type = pk_wire_u8(&w), b1 = pk_wire_u8(&w), b2 = pk_wire_u8(&w);
		size_t n = (size_t)(b2 & 0x0f) << 8 | pk_wire_u8(&w);
		const uint8_t *body;

		if (type == SET_ICV)
			break;
		body = pk_wire_bytes(&w, n);
		pk_wire_skip(&w, -n & 3);
		if (!pk_wire_ok(&w))
			return "truncated";
		why = read_set(m, type, pk_wire_from(body, n), b1, b2);
	}
	return why;
}

/* ---- writing ------------------------------------------------------------------------------------ */

struct pen {
	uint8_t *at,
	    *end; /* what is written beyond `end` is not, so sets that do not fit are not begun */
};

static void
put(struct pen *p, const void *bytes, size_t len)
{
	PK_ASSERT((size_t)(p->end - p->at) >= len);
	memcpy(p->at, bytes, len);
	p->at += len;
}

static void
put_be(struct pen *p, uint64_t value, unsigned int len)
{
	for (unsigned int i = len; i-- > 0;)
		put(p, &(uint8_t){ (uint8_t)(value >> 8 * i) }, 1);
}

static void
put_set(struct pen *p, uint8_t b0, uint8_t b1, uint8_t b2, size_t len)
{
	put_be(p, b0, 1);
	put_be(p, b1, 1);
	put_be(p, b2 | len >> 8, 1);
	put_be(p, len & 0xff, 1);
}

static void
put_list(struct pen *p, uint8_t type, const struct mka_peer_id *list, unsigned int nb)
{
	size_t room = (size_t)(p->end - p->at);

	/* What else there may be takes 128 octets at most. */
	nb = PK_MIN(nb, room > 160 ? (unsigned int)((room - 160) / 16) : 0);
	if (nb == 0)
		return;
	put_set(p, type, 0, 0, 16 * (size_t)nb);
	for (unsigned int i = 0; i < nb; i++) {
		put(p, list[i].mi, MKA_MI);
		put_be(p, list[i].mn, 4);
	}
}

static void
put_use(struct pen *p, const struct mka_use *u)
{
	put(p, u->ki.mi, MKA_MI);
	put_be(p, u->ki.kn, 4);
	/* Numbers of 32 bits that have run out stay at their end. */
	put_be(p, u->lpn & 0xffffffff, 4);
}

size_t
mkpdu_encode(const struct mkpdu *m, const uint8_t source[6], uint8_t *frame)
{
	struct pen p = { .at = frame, .end = frame + MKA_FRAME_MAX - MKA_ICV };
	size_t len = BASIC_LEN + m->ckn_len, total;

	put(&p, pae_group, 6);
	put(&p, source, 6);
	put_be(&p, EAPOL_ETHERTYPE, 2);
	put_be(&p, MKA_EAPOL, 1);
	put_be(&p, TYPE_MKA, 1);
	put_be(&p, 0, 2);
	put_set(&p, m->version, m->priority,
	    (uint8_t)((m->key_server ? 0x80 : 0) | (m->desired ? 0x40 : 0) | m->capability << 4),
	    len);
	put_be(&p, m->sci, 8);
	put(&p, m->actor.mi, MKA_MI);
	put_be(&p, m->actor.mn, 4);
	put_be(&p, m->algorithm, 4);
	put(&p, m->ckn, m->ckn_len);
	put(&p, "\0\0\0", -len & 3);
	put_list(&p, SET_LIVE, m->live, m->nb_live);
	put_list(&p, SET_POTENTIAL, m->potential, m->nb_potential);
	if (m->has_use) {
		put_set(&p, SET_SAK_USE,
		    (uint8_t)(m->latest.an << 6 | (m->latest.tx ? 0x20 : 0) |
		        (m->latest.rx ? 0x10 : 0) | m->old.an << 2 | (m->old.tx ? 0x02 : 0) |
		        (m->old.rx ? 0x01 : 0)),
		    (uint8_t)((m->plain_tx ? 0x80 : 0) | (m->plain_rx ? 0x40 : 0) |
		        (m->delay_protect ? 0x10 : 0)),
		    40);
		put_use(&p, &m->latest);
		put_use(&p, &m->old);
	}
	if (m->has_sak) {
		bool plain = m->suite == macsec_suite_id(MACSEC_GCM_AES_128);

		put_set(&p, SET_DISTRIBUTED_SAK,
		    (uint8_t)(m->sak_an << 6 | m->confidentiality << 4), 0,
		    4 + (plain ? 0u : 8u) + m->wrapped_len);
		put_be(&p, m->kn, 4);
		if (!plain)
			put_be(&p, m->suite, 8);
		put(&p, m->wrapped, m->wrapped_len);
	}
	if (m->has_xpn) {
		put_set(&p, SET_XPN, m->suspend_s, 0, 8);
		put_be(&p, m->latest.lpn >> 32, 4);
		put_be(&p, m->old.lpn >> 32, 4);
	}
	total = (size_t)(p.at - frame);
	frame[16] = (uint8_t)((total - HEADERS + MKA_ICV) >> 8);
	frame[17] = (uint8_t)(total - HEADERS + MKA_ICV);
	return total;
}
