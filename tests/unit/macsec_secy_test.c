/* SecY, IEEE 802.1AE-2018: published vectors, every way a frame can be refused, packet numbers, roll-over. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipsec/crypto.h"
#include "ipsec/macsec/sectag.h"
#include "ipsec/macsec/secy.h"
#include "tests/unit/test.h"

#define SCI_A UINT64_C(0x0200000000010001)
#define SCI_B UINT64_C(0x0200000000020001)
#define ROOM  64

static struct ipsec_crypto *crypto;

struct buf {
	uint8_t bytes[4096];
	struct macsec_frame f;
};

static void
put(struct buf *b, const void *frame, uint32_t len)
{
	memset(b->bytes, 0xaa, sizeof(b->bytes));
	memcpy(b->bytes + ROOM, frame, len);
	b->f = (struct macsec_frame){ .data = b->bytes + ROOM, .len = len };
}

static enum macsec_verdict
protect(struct macsec_secy *s, struct buf *b)
{
	macsec_protect(s, crypto, &b->f, 1);
	return (enum macsec_verdict)b->f.verdict;
}

static enum macsec_verdict
validate(struct macsec_secy *s, struct buf *b)
{
	macsec_validate(s, crypto, &b->f, 1);
	return (enum macsec_verdict)b->f.verdict;
}

static void
publish(struct macsec_secy *s)
{
	macsec_secy_commit(s);
	macsec_secy_reclaim(s);
}

static struct macsec_secy *
make_secy(const struct macsec_secy_conf *conf)
{
	struct macsec_secy *s;
	struct pk_diag diag;

	assert_int_equal(macsec_secy_create(&s, conf, &diag), 0);
	return s;
}

static struct macsec_sa_conf
key(uint8_t suite, uint8_t an, uint64_t pn)
{
	struct macsec_sa_conf c = { .suite = suite,
		.an = an,
		.confidentiality = MACSEC_CONFIDENTIAL,
		.pn = pn,
		.ssci = 1 };

	for (unsigned int i = 0; i < sizeof(c.key); i++)
		c.key[i] = (uint8_t)(i * 7 + an);
	for (unsigned int i = 0; i < sizeof(c.salt); i++)
		c.salt[i] = (uint8_t)(0xe0 + i);
	return c;
}

static uint32_t
plain(uint8_t *frame, uint32_t len)
{
	memcpy(frame, "\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0", 14);
	for (uint32_t i = 14; i < len; i++)
		frame[i] = (uint8_t)(i * 3);
	return len;
}

/* Two ends of a link with the same key. */
struct pair {
	struct macsec_secy *tx, *rx;
};

static struct pair
make_pair(const struct macsec_secy_conf *conf, const struct macsec_sa_conf *sa)
{
	struct macsec_secy_conf c = *conf;
	struct pair p;
	struct pk_diag diag;

	c.sci = SCI_A;
	p.tx = make_secy(&c);
	c.sci = SCI_B;
	p.rx = make_secy(&c);
	assert_int_equal(macsec_tx_sa_add(p.tx, sa, &diag), 0);
	assert_int_equal(macsec_tx_sa_use(p.tx, sa->an), 0);
	assert_int_equal(macsec_rx_sc_add(p.rx, SCI_A, &diag), 0);
	assert_int_equal(macsec_rx_sa_add(p.rx, SCI_A, sa, &diag), 0);
	publish(p.tx);
	publish(p.rx);
	return p;
}

static void
end_pair(struct pair *p)
{
	macsec_secy_destroy(p->tx);
	macsec_secy_destroy(p->rx);
}

static const struct macsec_secy_conf usual = {
	.include_sci = true, .replay_protect = true, .replay_strict = true, .replay_window = 64
};

/* ---- vectors ---- */

static uint32_t
unhex(const char *text, uint8_t *out)
{
	uint32_t n = 0;

	for (; text[0] != '\0' && text[1] != '\0'; text += 2, n++) {
		unsigned int v;

		assert_int_equal(sscanf(text, "%2x", &v), 1);
		out[n] = (uint8_t)v;
	}
	return n;
}

/* Annex C of 802.1AE-2018. */
static void
test_vectors(void **state)
{
	const char *dir = getenv("SRCDIR");
	char path[512], line[2048], suite[32], k[80], sci[32], pn[16], clear[512], secure[512];
	unsigned int nb = 0;
	FILE *f;

	(void)state;
	snprintf(path, sizeof(path), "%s/tests/data/macsec/vectors.txt", dir != NULL ? dir : "..");
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		struct macsec_sa_conf sa = { .ssci = 0x7a30c118 };
		struct macsec_secy_conf conf = { .replay_protect = true, .replay_strict = true };
		uint8_t want_clear[256], want_secure[256];
		uint32_t clear_len, secure_len;
		struct macsec_secy *tx, *rx;
		struct pk_diag diag;
		struct buf b;

		if (line[0] == '#')
			continue;
		assert_int_equal(sscanf(line, "%31s %79s %31s %15s %511s %511s", suite, k, sci, pn,
		                     clear, secure),
		    6);
		for (unsigned int i = 1; i < MACSEC_SUITE_COUNT; i++)
			if (strcmp(macsec_suite_name(i), suite) == 0)
				sa.suite = (uint8_t)i;
		assert_int_equal(unhex(k, sa.key), macsec_suite_key_len(sa.suite));
		unhex("e630e81a48de86a21c66fa6d", sa.salt);
		conf.sci = strtoull(sci, NULL, 16);
		sa.pn = strtoull(pn, NULL, 16) |
		    (macsec_suite_xpn(sa.suite) ? UINT64_C(0xb0df459c) << 32 : 0);
		clear_len = unhex(clear, want_clear);
		secure_len = unhex(secure, want_secure);
		conf.include_sci = (want_secure[14] & MACSEC_TCI_SC) != 0;
		conf.end_station = (want_secure[14] & MACSEC_TCI_ES) != 0;
		sa.an = want_secure[14] & MACSEC_AN_MASK;
		sa.confidentiality = (want_secure[14] & MACSEC_TCI_E) != 0 ? MACSEC_CONFIDENTIAL
		                                                           : MACSEC_INTEGRITY_ONLY;
		tx = make_secy(&conf);
		rx = make_secy(&conf);
		assert_int_equal(macsec_tx_sa_add(tx, &sa, &diag), 0);
		assert_int_equal(macsec_tx_sa_use(tx, sa.an), 0);
		assert_int_equal(macsec_rx_sc_add(rx, conf.sci, &diag), 0);
		assert_int_equal(macsec_rx_sa_add(rx, conf.sci, &sa, &diag), 0);
		publish(tx);
		publish(rx);
		put(&b, want_clear, clear_len);
		assert_int_equal(protect(tx, &b), MACSEC_PASS);
		assert_int_equal(b.f.len, secure_len);
		assert_memory_equal(b.f.data, want_secure, secure_len);
		put(&b, want_secure, secure_len);
		assert_int_equal(validate(rx, &b), MACSEC_PASS);
		assert_int_equal(b.f.len, clear_len);
		assert_memory_equal(b.f.data, want_clear, clear_len);
		macsec_secy_destroy(tx);
		macsec_secy_destroy(rx);
		nb++;
	}
	fclose(f);
	assert_int_equal(nb, 33);
}

/* Every suite, offset, length and way to name the channel: what goes in comes out, and only that. */
static void
test_round_trip(void **state)
{
	static const uint32_t lens[] = { 14, 15, 43, 44, 46, 59, 60, 61, 62, 64, 75, 128, 1514,
		2000 };
	uint8_t frame[2048];

	(void)state;
	for (unsigned int n = 0; n < 4u * MACSEC_CONFIDENTIALITY_COUNT * 4 * 3; n++) {
		struct macsec_secy_conf conf = usual;
		struct macsec_sa_conf sa = key((uint8_t)(1 + n % 4), (uint8_t)(n / 7 % 4), 1);
		unsigned int how = n / 16 % 4;
		struct pair p;

		sa.confidentiality = (uint8_t)(n / 4 % MACSEC_CONFIDENTIALITY_COUNT);
		conf.include_sci = how == 0;
		conf.end_station = how == 1 || how == 2;
		conf.clear_vlans = (uint8_t)(n / 64);
		p = make_pair(&conf, &sa);
		for (unsigned int l = 0; l < PK_COUNT(lens); l++) {
			uint32_t tag = how == 0 ? 16 : 8, tags = 0;
			struct buf b;

			plain(frame, lens[l]);
			if (conf.clear_vlans > 0 && l % 3 != 0 && lens[l] >= 28) {
				memcpy(frame + 12,
				    l % 3 == 1 ? "\x81\0\0\x07\x08\0"
				               : "\x88\xa8\0\x07\x81\0\0\x08\x08\0",
				    l % 3 == 1 ? 6 : 10);
				tags = PK_MIN(l % 3 == 1 ? 4u : 8u, 4u * conf.clear_vlans);
			}
			put(&b, frame, lens[l]);
			assert_int_equal(protect(p.tx, &b), MACSEC_PASS);
			assert_int_equal(b.f.len, lens[l] + tag + MACSEC_ICV);
			assert_memory_equal(b.f.data, frame, 12 + tags);
			assert_memory_equal(b.f.data + 12 + tags, "\x88\xe5", 2);
			if (sa.confidentiality == MACSEC_INTEGRITY_ONLY)
				assert_memory_equal(b.f.data + 12 + tags + tag, frame + 12 + tags,
				    lens[l] - 12 - tags);
			/* Ethernet fills up to 60 octets. */
			b.f.len = PK_MAX(b.f.len, 60u);
			assert_int_equal(validate(p.rx, &b), MACSEC_PASS);
			assert_int_equal(b.f.len, lens[l]);
			assert_memory_equal(b.f.data, frame, lens[l]);
		}
		end_pair(&p);
	}
}

/* 802.1AE-2018, 10.6: each way to be refused has its verdict and its counter. */
static void
test_refused(void **state)
{
	struct macsec_sa_conf sa = key(MACSEC_GCM_AES_128, 1, 1);
	struct pair p = make_pair(&usual, &sa);
	const struct macsec_secy_stats *s = macsec_secy_stats(p.rx);
	const struct macsec_rx_stats *r = macsec_rx_stats(p.rx, SCI_A);
	uint8_t frame[200], good[300];
	uint32_t good_len;
	struct buf b;

	(void)state;
	plain(frame, sizeof(frame));
	put(&b, frame, sizeof(frame));
	assert_int_equal(validate(p.rx, &b), MACSEC_UNTAGGED);
	assert_int_equal(pk_counter_read(&s->in_pkts_no_tag), 1);
	assert_int_equal(protect(p.tx, &b), MACSEC_PASS);
	good_len = b.f.len;
	memcpy(good, b.f.data, good_len);
	/* Any bit that is authenticated; the SCI names another channel, the AN another key. */
	for (uint32_t at = 0; at < good_len; at++) {
		enum macsec_verdict want = MACSEC_NOT_VALID, got;

		put(&b, good, good_len);
		b.f.data[at] ^= 1;
		got = validate(p.rx, &b);
		if (at == 12 || at == 13)
			want = MACSEC_UNTAGGED;
		else if (at == 14)
			want = MACSEC_NO_SA;
		else if (at == 15)
			want = MACSEC_NOT_VALID; /* SL 1: a length, of another frame */
		else if (at == 19)
			want = MACSEC_LATE; /* PN 0 */
		else if (at >= 20 && at < 28)
			want = MACSEC_UNKNOWN_SCI;
		if (at == 19)
			want = MACSEC_BAD_TAG;
		assert_int_equal(got, want);
	}
	assert_int_equal(pk_counter_read(&s->in_pkts_no_sci), 8);
	assert_int_equal(pk_counter_read(&r->in_pkts_not_using_sa), 1);
	assert_true(pk_counter_read(&r->in_pkts_not_valid) > 150);
	/* Cut off anywhere. */
	for (uint32_t len = 14; len < good_len; len++) {
		put(&b, good, len);
		assert_int_equal(validate(p.rx, &b),
		    len < 12 + 16 + 16 + 48 ? MACSEC_BAD_TAG : MACSEC_NOT_VALID);
	}
	/* 9.9: version, SC with ES or SCB, E without C, SL of 48 and more. */
	for (unsigned int k = 0; k < 5; k++) {
		static const uint8_t tci[] = { 0x80 | 0x2d, 0x40 | 0x2d, 0x10 | 0x2d, 0x29, 0x2d };

		put(&b, good, good_len);
		b.f.data[14] = tci[k];
		b.f.data[15] = k == 4 ? 48 : 0;
		assert_int_equal(validate(p.rx, &b), MACSEC_BAD_TAG);
	}
	put(&b, good, good_len);
	assert_int_equal(validate(p.rx, &b), MACSEC_PASS);
	assert_memory_equal(b.f.data, frame, sizeof(frame));
	put(&b, good, good_len);
	assert_int_equal(validate(p.rx, &b), MACSEC_REPLAYED);
	assert_int_equal(pk_counter_read(&r->in_pkts_replayed), 1);
	assert_int_equal(pk_counter_read(&r->in_pkts_ok), 1);
	for (unsigned int i = 0; i < 200; i++) {
		put(&b, frame, sizeof(frame));
		assert_int_equal(protect(p.tx, &b), MACSEC_PASS);
	}
	assert_int_equal(validate(p.rx, &b), MACSEC_PASS);
	put(&b, good, good_len);
	assert_int_equal(validate(p.rx, &b), MACSEC_LATE);
	assert_int_equal(pk_counter_read(&r->in_pkts_late), 1);
	end_pair(&p);
}

/* Strict against a model, the standard's against what it says: in any order, with any repetition. */
static void
test_window(void **state)
{
	uint64_t rng = 5;

	(void)state;
	for (unsigned int run = 0; run < 24; run++) {
		struct macsec_secy_conf conf = usual;
		struct macsec_sa_conf sa =
		    key(run % 2 ? MACSEC_GCM_AES_XPN_128 : MACSEC_GCM_AES_128, 0,
		        run % 4 == 1       ? UINT64_C(0x7fffffc00)
		            : run % 4 == 3 ? UINT64_C(0x3fffffc00)
		                           : 1);
		static uint8_t frames[3000][64];
		static bool seen[3000];
		struct pair p;
		unsigned int highest = 0;

		conf.replay_strict = run % 3 != 0;
		conf.replay_window = run % 5 == 0 ? 0
		    : run % 5 == 1                ? 1
		    : run % 5 == 2                ? 63
		    : run % 5 == 3                ? 64
		                                  : 1000;
		p = make_pair(&conf, &sa);
		for (unsigned int i = 1; i < 3000; i++) {
			struct buf b;

			seen[i] = false;
			put(&b, frames[0], plain(frames[0], 20));
			assert_int_equal(protect(p.tx, &b), MACSEC_PASS);
			assert_true(b.f.len <= sizeof(frames[i]));
			memcpy(frames[i], b.f.data, b.f.len);
		}
		for (unsigned int k = 0; k < 12000; k++) {
			enum macsec_verdict want, got;
			unsigned int i;
			struct buf b;

			rng ^= rng << 13;
			rng ^= rng >> 7;
			rng ^= rng << 17;
			i = highest + 8 - (unsigned int)(rng >> 20) % (2 * conf.replay_window + 16);
			if ((rng >> 50) % 64 == 0)
				i = highest + 200;
			if (i == 0 || i >= 3000)
				continue;
			want = i > highest || highest + 1 - i <= conf.replay_window ? MACSEC_PASS
			                                                            : MACSEC_LATE;
			if (want == MACSEC_PASS && seen[i] && conf.replay_strict)
				want = MACSEC_REPLAYED;
			put(&b, frames[i], 20 - 12 + 12 + 32);
			got = validate(p.rx, &b);
			/* An extended number that is late by a wrap of its lower half is taken for one to come. */
			if (got != MACSEC_NOT_VALID || want != MACSEC_LATE || run % 2 == 0)
				assert_int_equal(got, want);
			if (got == MACSEC_PASS) {
				seen[i] = true;
				highest = PK_MAX(highest, i);
			}
		}
		assert_true(highest > 1000);
		end_pair(&p);
	}
}

/* Two copies in one burst, which are both opened before the first is judged. */
static void
test_burst_replay(void **state)
{
	struct macsec_sa_conf sa = key(MACSEC_GCM_AES_256, 2, 1);
	struct pair p = make_pair(&usual, &sa);
	struct macsec_frame f[MACSEC_BURST];
	static struct buf b[MACSEC_BURST];
	uint8_t frame[100];

	(void)state;
	for (unsigned int i = 0; i < MACSEC_BURST; i++) {
		put(&b[i], frame, plain(frame, sizeof(frame)));
		f[i] = b[i].f;
	}
	macsec_protect(p.tx, crypto, f, MACSEC_BURST);
	for (unsigned int i = 1; i < MACSEC_BURST; i += 2)
		memcpy(f[i].data, f[i - 1].data, f[i].len);
	macsec_validate(p.rx, crypto, f, MACSEC_BURST);
	for (unsigned int i = 0; i < MACSEC_BURST; i++)
		assert_int_equal(f[i].verdict, i % 2 ? MACSEC_REPLAYED : MACSEC_PASS);
	end_pair(&p);
}

/* 10.5.2: the last number is used, and none after it.  XPN goes over the lower half. */
static void
test_exhaustion(void **state)
{
	uint8_t frame[60];
	struct buf b;

	(void)state;
	for (unsigned int xpn = 0; xpn < 2; xpn++) {
		struct macsec_sa_conf sa = key(xpn ? MACSEC_GCM_AES_XPN_256 : MACSEC_GCM_AES_256, 0,
		    xpn ? UINT64_MAX - 2 : UINT32_MAX - 2);
		struct pair p = make_pair(&usual, &sa);

		for (unsigned int i = 0; i < 5; i++) {
			put(&b, frame, plain(frame, sizeof(frame)));
			assert_int_equal(
			    protect(p.tx, &b), i < 3 ? MACSEC_PASS : MACSEC_PN_EXHAUSTED);
			if (i < 3)
				assert_int_equal(validate(p.rx, &b), MACSEC_PASS);
		}
		assert_int_equal(
		    pk_counter_read(&macsec_secy_stats(p.tx)->out_pkts_pn_exhausted), 2);
		end_pair(&p);
	}
	{
		struct macsec_sa_conf sa = key(MACSEC_GCM_AES_XPN_128, 0, 0xfffffff0);
		struct pair p = make_pair(&usual, &sa);
		static struct buf late;

		for (unsigned int i = 0; i < 64; i++) {
			put(&b, frame, plain(frame, sizeof(frame)));
			assert_int_equal(protect(p.tx, &b), MACSEC_PASS);
			/* One from before the wrap comes after it. */
			if (i == 10)
				put(&late, b.f.data, b.f.len);
			else
				assert_int_equal(validate(p.rx, &b), MACSEC_PASS);
		}
		assert_int_equal(validate(p.rx, &late), MACSEC_PASS);
		end_pair(&p);
	}
}

/* A new key under the next AN: both are received, one is transmitted with, and nothing is lost. */
static void
test_roll_over(void **state)
{
	struct macsec_sa_conf sa = key(MACSEC_GCM_AES_128, 0, 1);
	struct pair p = make_pair(&usual, &sa);
	uint8_t frame[90];
	struct pk_diag diag;
	struct macsec_sa_info info;

	(void)state;
	for (uint8_t an = 1; an < 12; an++) {
		static struct buf old, b;
		struct macsec_sa_conf next = key((uint8_t)(1 + an % 4), an % 4, 1);

		assert_int_equal(macsec_rx_sa_add(p.rx, SCI_A, &next, &diag), 0);
		assert_int_equal(macsec_rx_sa_add(p.rx, SCI_A, &next, &diag), -EEXIST);
		publish(p.rx);
		put(&old, frame, plain(frame, sizeof(frame)));
		assert_int_equal(protect(p.tx, &old), MACSEC_PASS);
		assert_int_equal(macsec_tx_sa_add(p.tx, &next, &diag), 0);
		assert_int_equal(macsec_tx_sa_use(p.tx, an % 4), 0);
		publish(p.tx);
		assert_true(
		    macsec_tx_sa_info(p.tx, an % 4, &info) && info.in_use && info.next_pn == 1);
		put(&b, frame, sizeof(frame));
		assert_int_equal(protect(p.tx, &b), MACSEC_PASS);
		assert_int_equal(b.f.data[14] & 3, an % 4);
		assert_int_equal(validate(p.rx, &b), MACSEC_PASS);
		assert_int_equal(validate(p.rx, &old), MACSEC_PASS);
		assert_int_equal(macsec_rx_sa_delete(p.rx, SCI_A, (an - 1) % 4), 0);
		assert_int_equal(macsec_tx_sa_delete(p.tx, (an - 1) % 4), 0);
		publish(p.rx);
		publish(p.tx);
		put(&old, old.f.data, old.f.len);
	}
	assert_int_equal(macsec_tx_sa_delete(p.tx, 3), 0);
	publish(p.tx);
	{
		static struct buf b;

		put(&b, frame, sizeof(frame));
		assert_int_equal(protect(p.tx, &b), MACSEC_DOWN);
		assert_false(macsec_secy_transmits(p.tx));
	}
	end_pair(&p);
}

/* Several stations on one wire, and one that is nobody's. */
static void
test_channels(void **state)
{
	struct macsec_secy *rx = make_secy(&usual), *tx[4];
	struct macsec_sa_conf sa = key(MACSEC_GCM_AES_XPN_128, 0, 1);
	struct pk_diag diag;
	uint8_t frame[80];
	struct buf b;
	uint64_t sci;

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		struct macsec_secy_conf conf = usual;

		conf.sci = SCI_A + ((uint64_t)i << 16);
		sa.ssci = i + 1;
		tx[i] = make_secy(&conf);
		assert_int_equal(macsec_tx_sa_add(tx[i], &sa, &diag), 0);
		assert_int_equal(macsec_tx_sa_use(tx[i], 0), 0);
		publish(tx[i]);
		if (i == 3)
			break;
		assert_int_equal(macsec_rx_sa_add(rx, conf.sci, &sa, &diag), -ENOENT);
		assert_int_equal(macsec_rx_sc_add(rx, conf.sci, &diag), 0);
		assert_int_equal(macsec_rx_sc_add(rx, conf.sci, &diag), 0);
		assert_int_equal(macsec_rx_sa_add(rx, conf.sci, &sa, &diag), 0);
	}
	publish(rx);
	for (unsigned int i = 0; i < 12; i++) {
		put(&b, frame, plain(frame, sizeof(frame)));
		assert_int_equal(protect(tx[i % 4], &b), MACSEC_PASS);
		assert_int_equal(validate(rx, &b), i % 4 == 3 ? MACSEC_UNKNOWN_SCI : MACSEC_PASS);
	}
	assert_int_equal(macsec_rx_sc_delete(rx, SCI_A), 0);
	publish(rx);
	put(&b, frame, plain(frame, sizeof(frame)));
	assert_int_equal(protect(tx[0], &b), MACSEC_PASS);
	assert_int_equal(validate(rx, &b), MACSEC_UNKNOWN_SCI);
	assert_true(macsec_rx_sc_at(rx, 1, &sci) && !macsec_rx_sc_at(rx, 2, &sci));
	for (unsigned int i = 0; i < MACSEC_RX_SC_MAX - 2; i++)
		assert_int_equal(macsec_rx_sc_add(rx, 1000 + i, &diag), 0);
	assert_int_equal(macsec_rx_sc_add(rx, 1, &diag), -ENOSPC);
	for (unsigned int i = 0; i < 4; i++)
		macsec_secy_destroy(tx[i]);
	macsec_secy_destroy(rx);
}

/* 10.7.8: check lets through what can be read; disabled does not look. */
static void
test_modes(void **state)
{
	uint8_t frame[100], good[200];
	struct buf b;

	(void)state;
	for (uint8_t mode = MACSEC_CHECK; mode <= MACSEC_DISABLED; mode++)
		for (unsigned int secret = 0; secret < 2; secret++) {
			struct macsec_secy_conf conf = usual;
			struct macsec_sa_conf sa = key(MACSEC_GCM_AES_128, 0, 1);
			struct pair p;
			uint32_t len;

			conf.validate = mode;
			sa.confidentiality = secret ? MACSEC_CONFIDENTIAL : MACSEC_INTEGRITY_ONLY;
			p = make_pair(&conf, &sa);
			put(&b, frame, plain(frame, sizeof(frame)));
			assert_int_equal(validate(p.rx, &b), MACSEC_PASS);
			assert_int_equal(
			    pk_counter_read(&macsec_secy_stats(p.rx)->in_pkts_untagged), 1);
			assert_int_equal(protect(p.tx, &b), MACSEC_PASS);
			len = b.f.len;
			memcpy(good, b.f.data, len);
			b.f.data[len - 1] ^= 1; /* the ICV */
			assert_int_equal(
			    validate(p.rx, &b), secret ? MACSEC_NOT_VALID : MACSEC_PASS);
			if (!secret)
				assert_memory_equal(b.f.data, frame, sizeof(frame));
			put(&b, good, len);
			b.f.data[27] ^= 1; /* the SCI */
			assert_int_equal(
			    validate(p.rx, &b), secret ? MACSEC_UNKNOWN_SCI : MACSEC_PASS);
			put(&b, good, len);
			b.f.data[14] ^= 1; /* the AN */
			assert_int_equal(validate(p.rx, &b), secret ? MACSEC_NO_SA : MACSEC_PASS);
			end_pair(&p);
		}
	{
		/* Without replay protection what is late passes, and is counted. */
		struct macsec_secy_conf conf = usual;
		struct macsec_sa_conf sa = key(MACSEC_GCM_AES_128, 0, 1);
		struct pair p;

		conf.replay_protect = false;
		conf.replay_window = 0;
		p = make_pair(&conf, &sa);
		put(&b, frame, plain(frame, sizeof(frame)));
		assert_int_equal(protect(p.tx, &b), MACSEC_PASS);
		memcpy(good, b.f.data, b.f.len);
		assert_int_equal(validate(p.rx, &b), MACSEC_PASS);
		put(&b, good, 132);
		assert_int_equal(validate(p.rx, &b), MACSEC_PASS);
		assert_int_equal(
		    pk_counter_read(&macsec_rx_stats(p.rx, SCI_A)->in_pkts_delayed), 1);
		end_pair(&p);
	}
}

/* 802.1X-2020, 9.10.1: the KaY takes back what is too old. */
static void
test_floor(void **state)
{
	struct macsec_sa_conf sa = key(MACSEC_GCM_AES_128, 0, 1);
	struct pair p = make_pair(&usual, &sa);
	uint8_t frame[60];
	struct buf b;
	struct macsec_sa_info info;

	(void)state;
	assert_int_equal(macsec_rx_sa_floor(p.rx, SCI_A, 0, 10), 0);
	assert_int_equal(macsec_rx_sa_floor(p.rx, SCI_A, 0, 5), 0);
	assert_int_equal(macsec_rx_sa_floor(p.rx, SCI_A, 1, 5), -ENOENT);
	for (unsigned int pn = 1; pn < 20; pn++) {
		put(&b, frame, plain(frame, sizeof(frame)));
		assert_int_equal(protect(p.tx, &b), MACSEC_PASS);
		assert_int_equal(validate(p.rx, &b), pn < 10 ? MACSEC_LATE : MACSEC_PASS);
	}
	assert_true(macsec_rx_sa_info(p.rx, SCI_A, 0, &info));
	assert_int_equal(info.next_pn, 20);
	assert_int_equal(info.lowest_pn, 10);
	end_pair(&p);
}

static void
test_conf(void **state)
{
	struct macsec_secy_conf conf = usual;
	struct macsec_sa_conf sa = key(MACSEC_SUITE_NONE, 0, 1);
	struct macsec_secy *s;
	struct pk_diag diag;

	(void)state;
	conf.replay_window = MACSEC_STRICT_MAX + 1;
	assert_int_equal(macsec_secy_create(&s, &conf, &diag), -EINVAL);
	conf.replay_strict = false;
	s = make_secy(&conf);
	assert_int_equal(macsec_tx_sa_add(s, &sa, &diag), -EINVAL);
	sa = key(MACSEC_GCM_AES_128, 4, 1);
	assert_int_equal(macsec_tx_sa_add(s, &sa, &diag), -EINVAL);
	sa = key(MACSEC_GCM_AES_128, 0, 1);
	sa.confidentiality = MACSEC_CONFIDENTIALITY_COUNT;
	assert_int_equal(macsec_tx_sa_add(s, &sa, &diag), -EINVAL);
	assert_int_equal(macsec_tx_sa_use(s, 0), -ENOENT);
	assert_int_equal(macsec_tx_sa_delete(s, 0), -ENOENT);
	macsec_secy_destroy(s);
	conf = usual;
	conf.end_station = true;
	assert_int_equal(macsec_secy_create(&s, &conf, &diag), -EINVAL);
	macsec_secy_destroy(NULL);
	for (unsigned int i = 0; i < MACSEC_SUITE_COUNT; i++)
		assert_int_equal(macsec_suite_of_id(macsec_suite_id(i)), i);
	assert_int_equal(macsec_suite_of_id(UINT64_C(0x0080c20001000005)), MACSEC_SUITE_NONE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_burst_replay),
		cmocka_unit_test(test_exhaustion),
		cmocka_unit_test(test_roll_over),
		cmocka_unit_test(test_channels),
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_floor),
		cmocka_unit_test(test_conf),
	};
	struct pk_diag diag;

	if (ipsec_crypto_create(&crypto, &diag) < 0) {
		printf("1..0 # SKIP %s\n", diag.text);
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
