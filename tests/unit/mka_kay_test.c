/* Key agreement, IEEE 802.1X-2020: stations on a simulated link, with a clock and random octets of the test's own. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipsec/macsec/msg.h"
#include "ipsec/mka/kay.h"
#include "tests/unit/test.h"

#define S        PK_NS_PER_S
#define MS       PK_NS_PER_MS
#define STATIONS 6

/* What a SecY would have. */
struct sa {
	bool there;
	uint64_t sci;
	uint8_t an, suite, key[32], salt[12];
	uint32_t ssci;
	uint64_t floor;
};

struct station {
	struct mka_kay *kay;
	struct mka_kay_conf conf;
	bool off, deaf, mute; /* off: as if unplugged */
	bool enabled;
	struct sa tx[4], rx[STATIONS + 1][4];
	int using; /* -1: none */
	unsigned int events[MKA_EVENT_COUNT];
	char last[160];
};

struct frame {
	unsigned int from;
	size_t len;
	uint8_t bytes[MKA_FRAME_MAX];
};

static struct station st[STATIONS];
static struct frame queue[256];
static unsigned int nb_queue, nb_frames;
static uint64_t now, rng;
static struct frame last_frame;
static unsigned int lost_per_cent; /* of the frames that anybody might hear */
static const uint8_t cak128[16] = { 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa,
	0xbb, 0xcc, 0xdd, 0xee, 0xff };
static const uint8_t ckn[16] = { 1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 1, 0x23, 0x45, 0x67,
	0x89, 0xab, 0xcd, 0xef };

static int
op_random(void *arg, void *bytes, size_t len)
{
	(void)arg;
	for (size_t i = 0; i < len; i++) {
		rng ^= rng << 13;
		rng ^= rng >> 7;
		rng ^= rng << 17;
		((uint8_t *)bytes)[i] = (uint8_t)(rng >> 24);
	}
	return 0;
}

static void
op_send(void *arg, const uint8_t *frame, size_t len)
{
	struct station *s = arg;

	assert_true(nb_queue < PK_COUNT(queue) && len <= sizeof(queue[0].bytes));
	queue[nb_queue].from = (unsigned int)(s - st);
	queue[nb_queue].len = len;
	memcpy(queue[nb_queue++].bytes, frame, len);
	nb_frames++;
}

/* SCIs end in the station's number. */
static unsigned int
number(uint64_t sci)
{
	unsigned int n = (unsigned int)(sci >> 16 & 0xff);

	assert_true(n >= 1 && n <= STATIONS);
	return n;
}

static void
op_rx_sc_add(void *arg, uint64_t sci)
{
	(void)arg;
	(void)number(sci);
}

static void
op_rx_sc_delete(void *arg, uint64_t sci)
{
	struct station *s = arg;

	memset(s->rx[number(sci)], 0, sizeof(s->rx[0]));
}

static void
op_sa_add(void *arg, const struct mka_sa *sa)
{
	struct station *s = arg;
	struct sa *at = sa->receive ? &s->rx[number(sa->sci)][sa->an] : &s->tx[sa->an];

	assert_false(at->there); /* a key is never replaced under its AN */
	*at = (struct sa){
		.there = true, .sci = sa->sci, .an = sa->an, .suite = sa->suite, .ssci = sa->ssci
	};
	memcpy(at->key, sa->key, macsec_suite_key_len(sa->suite));
	memcpy(at->salt, sa->salt, sizeof(at->salt));
}

static void
op_sa_delete(void *arg, bool receive, uint64_t sci, uint8_t an)
{
	struct station *s = arg;

	if (!receive && s->using == an)
		s->using = -1;
	memset(receive ? &s->rx[number(sci)][an] : &s->tx[an], 0, sizeof(s->tx[0]));
}

static void
op_sa_use(void *arg, uint8_t an)
{
	struct station *s = arg;

	assert_true(s->tx[an].there);
	s->using = an;
}

static void
op_sa_floor(void *arg, uint64_t sci, uint8_t an, uint64_t pn)
{
	struct station *s = arg;

	assert_true(pn >= s->rx[number(sci)][an].floor);
	s->rx[number(sci)][an].floor = pn;
}

static void
op_enable(void *arg, bool enabled)
{
	((struct station *)arg)->enabled = enabled;
}

static void
op_event(void *arg, enum mka_event event, const char *text)
{
	struct station *s = arg;

	s->events[event]++;
	snprintf(s->last, sizeof(s->last), "%s", text);
}

static const struct mka_kay_ops ops = { op_send, op_random, op_rx_sc_add, op_rx_sc_delete,
	op_sa_add, op_sa_delete, op_sa_use, op_sa_floor, op_enable, op_event };

static void
start(unsigned int i, uint8_t priority, uint8_t suite)
{
	struct station *s = &st[i];
	struct pk_diag diag;

	memset(s, 0, sizeof(*s));
	s->using = -1;
	mka_kay_conf_init(&s->conf);
	memcpy(s->conf.mac, (uint8_t[]){ 2, 0, 0, 0, 0, (uint8_t)(i + 1) }, 6);
	s->conf.sci = macsec_sci_of(s->conf.mac, 1);
	s->conf.priority = priority;
	s->conf.suite = suite;
	assert_int_equal(mka_kay_create(&s->kay, &s->conf, &ops, s, &diag), 0);
	assert_int_equal(mka_kay_add(s->kay, cak128, 16, ckn, 16, now, &diag), 0);
}

/* No frame of a station that is up would be refused by another that is up. */
static void
check(unsigned int nb)
{
	for (unsigned int a = 0; a < nb; a++) {
		if (st[a].kay == NULL || st[a].off || !st[a].enabled)
			continue;
		assert_true(st[a].using >= 0);
		for (unsigned int b = 0; b < nb; b++) {
			const struct sa *tx = &st[a].tx[st[a].using],
			                *rx = &st[b].rx[a + 1][tx->an];

			if (a == b || st[b].kay == NULL || st[b].off || st[b].deaf || st[a].deaf ||
			    !st[b].enabled)
				continue;
			assert_true(rx->there);
			assert_memory_equal(rx->key, tx->key, sizeof(rx->key));
			assert_memory_equal(rx->salt, tx->salt, sizeof(rx->salt));
			assert_int_equal(rx->suite, tx->suite);
			if (macsec_suite_xpn(tx->suite))
				assert_int_equal(rx->ssci, tx->ssci);
		}
	}
}

static bool
is_lost(void)
{
	uint8_t dice[4];
	uint32_t n;

	if (lost_per_cent == 0)
		return false;
	op_random(NULL, dice, sizeof(dice));
	memcpy(&n, dice, sizeof(n));
	return n % 100 < lost_per_cent;
}

static void
deliver(void)
{
	static struct frame f;

	/* What answers a frame comes after it. */
	while (nb_queue > 0) {
		f = queue[0];
		memmove(queue, queue + 1, --nb_queue * sizeof(queue[0]));
		last_frame = f;
		if (st[f.from].off || st[f.from].mute)
			continue;
		for (unsigned int i = 0; i < STATIONS; i++)
			if (i != f.from && st[i].kay != NULL && !st[i].off && !st[i].deaf &&
			    !is_lost())
				mka_kay_receive(st[i].kay, f.bytes, f.len, now);
	}
}

/* Let time go by; `lossless`: at no moment would a frame get lost. */
static void
run(uint64_t ns, unsigned int nb, bool lossless)
{
	for (uint64_t end = now + ns; now < end; now += 5 * MS) {
		for (unsigned int i = 0; i < STATIONS; i++)
			if (st[i].kay != NULL && !st[i].off) {
				uint64_t due = mka_kay_tick(st[i].kay, now);

				assert_true(due > now);
				if (lossless)
					check(nb);
			}
		deliver();
		if (lossless)
			check(nb);
	}
}

static bool
all_up(unsigned int nb)
{
	for (unsigned int i = 0; i < nb; i++)
		if (!st[i].enabled)
			return false;
	check(nb);
	return true;
}

static struct mka_kay_info
info(unsigned int i)
{
	struct mka_kay_info k;

	mka_kay_info(st[i].kay, &k);
	return k;
}

static int
setup(void **state)
{
	(void)state;
	memset(st, 0, sizeof(st));
	nb_queue = nb_frames = 0;
	now = 1000 * S;
	rng = 88172645463325252u;
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < STATIONS; i++) {
		mka_kay_destroy(st[i].kay);
		st[i].kay = NULL;
	}
	return 0;
}

/* RFC 4493 section 4, RFC 3394 sections 4.1 and 4.6. */
static void
test_crypto(void **state)
{
	static const uint8_t key[16] = { 0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7,
		0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c };
	static const uint8_t text[16] = { 0x6b, 0xc1, 0xbe, 0xe2, 0x2e, 0x40, 0x9f, 0x96, 0xe9,
		0x3d, 0x7e, 0x11, 0x73, 0x93, 0x17, 0x2a };
	static const uint8_t want[16] = { 0x07, 0x0a, 0x16, 0xb4, 0x6b, 0x4d, 0x41, 0x44, 0xf7,
		0x9b, 0xdd, 0x9d, 0xd0, 0x4a, 0x28, 0x7c };
	static const uint8_t wrap128[24] = { 0x1f, 0xa6, 0x8b, 0x0a, 0x81, 0x12, 0xb4, 0x47, 0xae,
		0xf3, 0x4b, 0xd8, 0xfb, 0x5a, 0x7b, 0x82, 0x9d, 0x3e, 0x86, 0x23, 0x71, 0xd2, 0xcf,
		0xe5 };
	static const uint8_t wrap256[40] = { 0x28, 0xc9, 0xf4, 0x04, 0xc4, 0xb8, 0x10, 0xf4, 0xcb,
		0xcc, 0xb3, 0x5c, 0xfb, 0x87, 0xf8, 0x26, 0x3f, 0x57, 0x86, 0xe2, 0xd8, 0x0e, 0xd3,
		0x26, 0xcb, 0xc7, 0xf0, 0xe7, 0x1a, 0x99, 0xf4, 0x3b, 0xfb, 0x98, 0x8b, 0x9b, 0x7a,
		0x02, 0xdd, 0x21 };
	uint8_t kek[32], data[32], out[48], back[32], mac[16];

	(void)state;
	assert_int_equal(mka_cmac(key, 16, text, 16, mac), 0);
	assert_memory_equal(mac, want, 16);
	for (unsigned int i = 0; i < 32; i++) {
		kek[i] = (uint8_t)i;
		data[i] = (uint8_t)(i < 16 ? i * 0x11 : i - 16);
	}
	assert_int_equal(mka_wrap(kek, 16, data, 16, out), 0);
	assert_memory_equal(out, wrap128, 24);
	assert_int_equal(mka_wrap(kek, 32, data, 32, out), 0);
	assert_memory_equal(out, wrap256, 40);
	assert_int_equal(mka_unwrap(kek, 32, out, 40, back), 0);
	assert_memory_equal(back, data, 32);
	out[3] ^= 1;
	assert_int_equal(mka_unwrap(kek, 32, out, 40, back), -EBADMSG);
	assert_int_equal(mka_unwrap(kek, 32, out, 41, back), -EBADMSG);
}

static void
test_two(void **state)
{
	(void)state;
	for (uint8_t suite = MACSEC_GCM_AES_128; suite < MACSEC_SUITE_COUNT; suite++) {
		setup(state);
		start(0, 10, suite);
		start(1, 20, MACSEC_GCM_AES_128);
		run(200 * MS, 2, true);
		assert_true(all_up(2));
		assert_true(info(0).server_self && !info(1).server_self);
		assert_int_equal(info(1).server_sci, st[0].conf.sci);
		assert_int_equal(info(1).suite, suite);
		run(20 * S, 2, true);
		assert_int_equal(info(0).keys, 1);
		assert_string_equal(info(0).state, "retire");
		/* A hello in two seconds each, and what there was to say. */
		assert_true(nb_frames < 50);
		teardown(state);
	}
}

/* 9.5: the lowest priority, then the lowest SCI; 255 never. */
static void
test_election(void **state)
{
	(void)state;
	start(0, 30, MACSEC_GCM_AES_128);
	start(1, 20, MACSEC_GCM_AES_XPN_128);
	start(2, 20, MACSEC_GCM_AES_128);
	start(3, MKA_PRIORITY_NEVER, MACSEC_GCM_AES_128);
	run(15 * S, 4, false);
	assert_true(all_up(4));
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(info(i).server_sci, st[1].conf.sci);
	/* A better one comes: it takes over, and nothing is lost. */
	start(4, 5, MACSEC_GCM_AES_XPN_256);
	run(500 * MS, 5, false);
	run(20 * S, 5, true);
	assert_true(all_up(5));
	for (unsigned int i = 0; i < 5; i++) {
		assert_int_equal(info(i).server_sci, st[4].conf.sci);
		assert_int_equal(info(i).suite, MACSEC_GCM_AES_XPN_256);
	}
	/* It goes: the next best has them all within its life time. */
	st[4].off = true;
	run(30 * S, 4, true);
	assert_true(all_up(4));
	assert_int_equal(info(0).server_sci, st[1].conf.sci);
	assert_int_equal(st[0].rx[5][0].there + st[0].rx[5][1].there + st[0].rx[5][2].there +
	        st[0].rx[5][3].there,
	    0);
	/* Nobody who may be server: no key. */
	for (unsigned int i = 0; i < 3; i++)
		st[i].off = true;
	run(10 * S, 0, false);
	assert_false(st[3].enabled);
}

/* 9.8: by request, by time, by packet numbers; nothing is lost on the way. */
static void
test_roll_over(void **state)
{
	struct mka_ki ki;

	(void)state;
	start(0, 10, MACSEC_GCM_AES_256);
	start(1, 20, MACSEC_GCM_AES_256);
	start(2, 20, MACSEC_GCM_AES_256);
	run(15 * S, 3, false);
	assert_true(all_up(3));
	for (unsigned int i = 0; i < 9; i++) {
		uint64_t keys = info(0).keys;

		assert_int_equal(mka_kay_rekey(st[1].kay, now), -EPERM);
		assert_int_equal(mka_kay_rekey(st[0].kay, now), 0);
		run(5 * S, 3, true);
		assert_int_equal(info(0).keys, keys + 1);
		assert_int_equal(info(2).an, info(0).an);
		assert_string_equal(info(1).state, "retire");
	}
	/* Ours are running out; then a member's are. */
	for (unsigned int who = 0; who < 2; who++) {
		uint64_t keys = info(0).keys;

		ki = info(who).old;
		mka_kay_pn(st[who].kay, info(who).an, &ki, 0xbfffffff);
		run(5 * S, 3, true);
		assert_int_equal(info(0).keys, keys);
		mka_kay_pn(st[who].kay, info(who).an, &ki, who == 0 ? 0xc0000000 : 0);
		run(10 * S, 3, true);
		assert_int_equal(info(0).keys, keys + 1);
	}
}

/* 9.4: silence ends it at both ends; the other comes back under another MI and gets a key. */
static void
test_liveness(void **state)
{
	(void)state;
	start(0, 10, MACSEC_GCM_AES_128);
	start(1, 20, MACSEC_GCM_AES_128);
	run(10 * S, 2, true);
	st[1].deaf = true; /* it is heard, and hears nothing: not live for long */
	run(5 * S, 2, false);
	assert_true(st[0].enabled);
	run(8 * S, 2, false); /* until the other leaves us out, and a life time after that */
	assert_false(st[0].enabled || st[1].enabled);
	for (unsigned int an = 0; an < 4; an++)
		assert_false(st[0].tx[an].there || st[0].rx[2][an].there);
	st[1].deaf = false;
	run(3 * S, 2, false);
	assert_true(all_up(2));
	/* Begun anew at once: the old key is used until there is a new one. */
	mka_kay_destroy(st[1].kay);
	start(1, 20, MACSEC_GCM_AES_128);
	run(300 * MS, 2, false);
	assert_true(st[0].enabled);
	assert_int_equal(st[0].events[MKA_DOWN], 1);
	run(5 * S, 2, false);
	assert_true(all_up(2));
}

/* What comes twice, from ourselves, altered, or with another key changes nothing. */
static void
test_refused(void **state)
{
	static struct frame old, f;
	static const uint8_t other[16] = { 9 };
	struct pk_diag diag;
	uint64_t refused;

	(void)state;
	start(0, 10, MACSEC_GCM_AES_128);
	start(1, 20, MACSEC_GCM_AES_128);
	run(2 * S, 2, true);
	do
		run(5 * MS, 2, true);
	while (last_frame.from != 1);
	old = last_frame;
	refused = info(0).refused;
	mka_kay_receive(st[0].kay, old.bytes, old.len, now); /* 9.4.2: its number has come */
	assert_int_equal(info(0).refused, refused + 1);
	for (size_t at = 0; at < old.len; at++) {
		f = old;
		f.bytes[at] ^= 0x10;
		mka_kay_receive(st[0].kay, f.bytes, f.len, now);
		mka_kay_receive(st[0].kay, old.bytes, at, now);
	}
	assert_true(all_up(2));
	assert_int_equal(info(0).nb_live, 1);
	assert_int_equal(info(0).nb_potential, 0);
	/* Its MKPDUs of before a new beginning are good, and old: it takes more than one to be live. */
	mka_kay_destroy(st[1].kay);
	start(1, 20, MACSEC_GCM_AES_128);
	run(8 * S, 2, false);
	assert_true(all_up(2));
	for (unsigned int i = 0; i < 20; i++) {
		mka_kay_receive(st[0].kay, old.bytes, old.len, now);
		run(500 * MS, 2, true);
	}
	assert_true(all_up(2));
	/* Another CAK under this CKN. */
	mka_kay_destroy(st[2].kay);
	start(2, 1, MACSEC_GCM_AES_128);
	assert_int_equal(mka_kay_remove(st[2].kay, ckn, 16, now), 0);
	assert_int_equal(mka_kay_add(st[2].kay, other, 16, ckn, 16, now, &diag), 0);
	run(10 * S, 2, true);
	assert_false(st[2].enabled);
	assert_true(info(0).server_self);
}

/* Two CAKs on both ends: the higher CKN counts, and taking the other away changes nothing. */
static void
test_two_caks(void **state)
{
	static const uint8_t cak256[32] = { 7, 7, 7 }, ckn2[32] = { 0xff };
	struct pk_diag diag;

	(void)state;
	start(0, 10, MACSEC_GCM_AES_128);
	start(1, 20, MACSEC_GCM_AES_128);
	run(10 * S, 2, true);
	assert_int_equal(mka_kay_add(st[0].kay, cak256, 32, ckn2, 32, now, &diag), 0);
	assert_int_equal(mka_kay_add(st[0].kay, cak256, 32, ckn2, 32, now, &diag), -EEXIST);
	assert_int_equal(mka_kay_add(st[0].kay, cak256, 31, ckn2, 31, now, &diag), -EINVAL);
	run(5 * S, 2, true);
	assert_int_equal(mka_kay_add(st[1].kay, cak256, 32, ckn2, 32, now, &diag), 0);
	run(15 * S, 2, true);
	assert_int_equal(info(0).keys, 2);
	assert_int_equal(mka_kay_remove(st[0].kay, ckn, 16, now), 0);
	assert_int_equal(mka_kay_remove(st[1].kay, ckn, 16, now), 0);
	assert_int_equal(mka_kay_remove(st[1].kay, ckn, 16, now), -ENOENT);
	run(15 * S, 2, true);
	assert_true(all_up(2));
	assert_int_equal(mka_kay_remove(st[1].kay, ckn2, 32, now), 0);
	run(10 * S, 2, false);
	assert_false(st[0].enabled || st[1].enabled);
}

/*
 * The same with four, some of whose frames do not get to some of the others: members find each other later than the server
 * finds them, so that a key comes before all whom it is for are known to be there.
 */
static void
test_two_caks_of_four(void **state)
{
	static const uint8_t cak256[32] = { 7, 7, 7 }, ckn2[32] = { 0xff };
	struct pk_diag diag;

	(void)state;
	for (unsigned int round = 1; round <= 200; round++) {
		setup(state);
		rng += round;
		for (unsigned int i = 0; i < 4; i++)
			start(i, (uint8_t)(10 + i),
			    round % 2 != 0 ? MACSEC_GCM_AES_XPN_256 : MACSEC_GCM_AES_128);
		run(10 * S, 4, true);
		lost_per_cent = 40;
		for (unsigned int i = 0; i < 4; i++)
			assert_int_equal(
			    mka_kay_add(st[i].kay, cak256, 32, ckn2, 32, now, &diag), 0);
		run(500 * MS, 0, false);
		lost_per_cent = 0;
		run(8 * S, 0, false);
		assert_true(all_up(4));
		for (unsigned int i = 0; i < 4; i++)
			assert_int_equal(mka_kay_remove(st[i].kay, ckn, 16, now), 0);
		run(10 * S, 4, true);
		assert_true(all_up(4));
		teardown(state);
	}
}

/* 9.18, and a restart that goes on where it was. */
static void
test_suspension(void **state)
{
	struct mka_saved saved;

	(void)state;
	for (unsigned int who = 0; who < 2; who++) {
		unsigned int other = who ^ 1;
		struct station kept;

		setup(state);
		start(0, 10, MACSEC_GCM_AES_XPN_256);
		start(1, 20, MACSEC_GCM_AES_XPN_256);
		run(10 * S, 2, true);
		assert_int_equal(mka_kay_suspend(st[who].kay, 500, now), -EINVAL);
		assert_int_equal(mka_kay_suspend(st[who].kay, 30, now), 0);
		assert_true(mka_kay_save(st[who].kay, &saved));
		deliver();
		mka_kay_destroy(st[who].kay);
		st[who].kay = NULL;
		run(25 * S, 2, true);
		assert_true(st[other].enabled);
		/* It is back, with its SecY as it was. */
		kept = st[who];
		start(who, who == 0 ? 10 : 20, MACSEC_GCM_AES_XPN_256);
		memcpy(st[who].tx, kept.tx, sizeof(kept.tx));
		memcpy(st[who].rx, kept.rx, sizeof(kept.rx));
		st[who].using = kept.using;
		assert_int_equal(mka_kay_resume(st[who].kay, &saved, now), 0);
		run(20 * S, 2, true);
		assert_true(all_up(2));
		assert_int_equal(st[other].events[MKA_DOWN] + st[who].events[MKA_DOWN], 0);
		assert_int_equal(info(other).keys, 1);
		/* And a new key comes as ever. */
		assert_int_equal(mka_kay_rekey(st[0].kay, now), 0);
		run(10 * S, 2, true);
		assert_int_equal(info(other).keys, 2);
		/* Gone for good, it is missed in the end. */
		assert_int_equal(mka_kay_suspend(st[who].kay, 10, now), 0);
		deliver();
		st[who].off = true;
		run(14 * S, 0, false);
		assert_true(st[other].enabled);
		run(5 * S, 0, false);
		assert_false(st[other].enabled);
		teardown(state);
	}
	setup(state);
	memset(&saved, 0, sizeof(saved));
	start(0, 10, MACSEC_GCM_AES_128);
	assert_int_equal(mka_kay_resume(st[0].kay, &saved, now), -EINVAL);
	assert_false(mka_kay_save(st[0].kay, &saved));
	assert_int_equal(mka_kay_suspend(st[0].kay, 5, now), -ENOTCONN);
}

/* Killed, and back with what was written down long ago: the numbers in it are old, and nobody is given up for it. */
static void
test_killed(void **state)
{
	struct mka_saved saved;

	(void)state;
	for (unsigned int k = 0; k < 8; k++) {
		unsigned int who = k % 2, other = who ^ 1;
		struct station kept;

		setup(state);
		start(0, 10, MACSEC_GCM_AES_XPN_256);
		start(1, 20, MACSEC_GCM_AES_XPN_256);
		run(10 * S, 2, true);
		assert_true(mka_kay_save(st[who].kay, &saved));
		run(20 * S + k * 250 * MS, 2, true);
		mka_kay_destroy(st[who].kay);
		st[who].kay = NULL;
		run(3500 * MS, 2, true);
		kept = st[who];
		start(who, who == 0 ? 10 : 20, MACSEC_GCM_AES_XPN_256);
		memcpy(st[who].tx, kept.tx, sizeof(kept.tx));
		memcpy(st[who].rx, kept.rx, sizeof(kept.rx));
		st[who].using = kept.using;
		assert_int_equal(mka_kay_resume(st[who].kay, &saved, now), 0);
		run(20 * S, 2, true);
		assert_true(all_up(2));
		assert_int_equal(st[other].events[MKA_DOWN] + st[who].events[MKA_DOWN], 0);
		assert_int_equal(st[other].events[MKA_PEER_LOST], 0);
		assert_int_equal(info(other).keys, 1);
		teardown(state);
	}
}

/* A key server that is not heard for a while hears all the others, who take another key without it: it has to notice. */
static void
test_unheard(void **state)
{
	(void)state;
	for (uint8_t suite = MACSEC_GCM_AES_128; suite < MACSEC_SUITE_COUNT; suite++) {
		setup(state);
		for (unsigned int i = 0; i < 3; i++)
			start(i, (uint8_t)(10 + i), suite);
		run(15 * S, 3, true);
		st[0].mute = true;
		run(8 * S, 0, false);
		assert_true(info(1).server_self);
		st[0].mute = false;
		run(25 * S, 0, false);
		assert_true(all_up(3));
		assert_true(info(0).server_self);
		run(20 * S, 3, true);
		teardown(state);
	}
}

/* A key for integrity alone is not taken by who wants confidentiality. */
static void
test_confidentiality(void **state)
{
	struct pk_diag diag;

	(void)state;
	start(0, 10, MACSEC_GCM_AES_128);
	mka_kay_destroy(st[0].kay);
	st[0].conf.confidentiality = MACSEC_INTEGRITY_ONLY;
	assert_int_equal(mka_kay_create(&st[0].kay, &st[0].conf, &ops, &st[0], &diag), 0);
	assert_int_equal(mka_kay_add(st[0].kay, cak128, 16, ckn, 16, now, &diag), 0);
	start(1, 20, MACSEC_GCM_AES_128);
	run(5 * S, 2, false);
	assert_false(st[1].enabled);
	assert_true(info(1).refused > 0);
}

/* 9.10.1: the floor follows what the other said it had transmitted with. */
static void
test_bounded_delay(void **state)
{
	struct pk_diag diag;
	struct mka_ki ki;

	(void)state;
	start(0, 10, MACSEC_GCM_AES_XPN_128);
	mka_kay_destroy(st[0].kay);
	st[0].conf.delay_protect = true;
	assert_int_equal(mka_kay_create(&st[0].kay, &st[0].conf, &ops, &st[0], &diag), 0);
	assert_int_equal(mka_kay_add(st[0].kay, cak128, 16, ckn, 16, now, &diag), 0);
	start(1, 20, MACSEC_GCM_AES_XPN_128);
	run(10 * S, 2, true);
	ki = info(0).old;
	mka_kay_pn(st[0].kay, info(0).an, &ki, UINT64_C(0x500000003));
	run(2 * S, 2, true);
	assert_true(st[1].rx[1][info(0).an].floor == UINT64_C(0x500000003));
	assert_true(st[0].rx[2][info(0).an].floor == 1);
}

/* Frames lost at random: they come together all the same. */
static void
test_loss(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i++)
		start(i, (uint8_t)(10 + i), MACSEC_GCM_AES_XPN_256);
	for (unsigned int k = 0; k < 4000; k++) {
		for (unsigned int i = 0; i < 4; i++) {
			rng ^= rng << 13;
			rng ^= rng >> 7;
			rng ^= rng << 17;
			st[i].deaf = (rng >> 40) % 100 < 20;
		}
		run(10 * MS, 4, false);
	}
	for (unsigned int i = 0; i < 4; i++)
		st[i].deaf = false;
	run(20 * S, 4, false);
	assert_true(all_up(4));
}

/* What one writes the other reads, whatever it is. */
static void
test_mkpdu(void **state)
{
	uint8_t frame[MKA_FRAME_MAX], wrapped[40] = { 5 };
	size_t body;

	(void)state;
	for (unsigned int n = 0; n < 200; n++) {
		struct mkpdu m = { .version = 3,
			.priority = (uint8_t)n,
			.key_server = n & 1,
			.desired = true,
			.capability = 3,
			.sci = 77,
			.actor = { .mn = n + 1 },
			.algorithm = MKA_ALGORITHM,
			.ckn = ckn,
			.ckn_len = (uint8_t)(1 + n % 16),
			.nb_live = n % 31,
			.nb_potential = n / 31,
			.has_use = n % 3 != 0,
			.has_sak = n % 5 == 0,
			.sak_an = n % 4,
			.confidentiality = n % 4,
			.kn = n + 1,
			.wrapped = wrapped,
			.wrapped_len = n % 2 ? 24 : 40,
			.has_xpn = n % 3 == 1,
			.suspend_s = n % 3 == 1 ? 9 : 0 },
		             back;

		m.suite = macsec_suite_id(n % 2 ? MACSEC_GCM_AES_128 : MACSEC_GCM_AES_XPN_256);
		m.latest = (struct mka_use){ .ki.kn = n,
			.an = n % 4,
			.tx = true,
			.lpn = m.has_xpn ? UINT64_C(0x1234567890) : 9 };
		for (unsigned int i = 0; i < MKA_LIST_MAX; i++)
			m.live[i].mn = m.potential[i].mn = i + 1;
		memset(frame + mkpdu_encode(&m, cak128, frame), 0, MKA_ICV);
		assert_null(mkpdu_decode(&back, frame, sizeof(frame), &body));
		assert_int_equal(body, mkpdu_encode(&m, cak128, frame));
		assert_int_equal(back.priority, m.priority);
		assert_int_equal(back.ckn_len, m.ckn_len);
		assert_int_equal(back.nb_live, m.nb_live);
		assert_int_equal(back.nb_potential, m.nb_potential);
		if (m.has_use)
			assert_true(back.latest.lpn == m.latest.lpn &&
			    back.latest.an == m.latest.an && back.latest.tx);
		if (m.has_sak) {
			assert_int_equal(back.wrapped_len, m.wrapped_len);
			assert_true(
			    back.suite == m.suite && back.kn == m.kn && back.sak_an == m.sak_an);
			assert_memory_equal(back.wrapped, wrapped, m.wrapped_len);
		}
		assert_int_equal(back.suspend_s, m.suspend_s);
	}
}

/* The messages between mkad and picketd. */
static void
test_msg(void **state)
{
	struct macsec_msg m;
	struct pk_diag diag;

	(void)state;
	for (unsigned int t = MACSEC_MSG_HELLO; t < MACSEC_MSG_TYPE_COUNT; t++) {
		macsec_msg_init(&m, (enum macsec_msg_type)t, 3);
		if (t == MACSEC_MSG_EAPOL) {
			m.eapol.len = 60;
			m.eapol.frame[12] = 0x88;
			m.eapol.frame[13] = 0x8e;
		}
		if (t == MACSEC_MSG_SA_ADD)
			m.sa_add.suite = MACSEC_GCM_AES_128;
		assert_int_equal(macsec_msg_check(&m, macsec_msg_len(&m), &diag), 0);
		assert_int_equal(macsec_msg_check(&m, macsec_msg_len(&m) - 1, &diag), -EPROTO);
		assert_int_equal(macsec_msg_check(&m, macsec_msg_len(&m) + 1, &diag), -EPROTO);
		m.h.port = MACSEC_PORTS_MAX;
		assert_int_equal(macsec_msg_check(&m, macsec_msg_len(&m), &diag), -EPROTO);
		m.h.port = 0;
		m.h.version++;
		assert_int_equal(macsec_msg_check(&m, macsec_msg_len(&m), &diag), -EPROTO);
	}
	macsec_msg_init(&m, MACSEC_MSG_SA_ADD, 0);
	m.sa_add.suite = MACSEC_GCM_AES_128;
	m.sa_add.key[16] = 1;
	assert_int_equal(macsec_msg_check(&m, macsec_msg_len(&m), &diag), -EPROTO);
	m.sa_add.suite = MACSEC_GCM_AES_256;
	assert_int_equal(macsec_msg_check(&m, macsec_msg_len(&m), &diag), 0);
	m.sa_add.pn = UINT64_C(1) << 32;
	assert_int_equal(macsec_msg_check(&m, macsec_msg_len(&m), &diag), -EPROTO);
	m.sa_add.pn = 1;
	m.sa_add.which.an = 4;
	assert_int_equal(macsec_msg_check(&m, macsec_msg_len(&m), &diag), -EPROTO);
	macsec_msg_init(&m, MACSEC_MSG_EAPOL, 0);
	m.eapol.len = 60;
	assert_int_equal(macsec_msg_check(&m, macsec_msg_len(&m), &diag), -EPROTO);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_crypto),
		T(test_two),
		T(test_election),
		T(test_roll_over),
		T(test_liveness),
		T(test_refused),
		T(test_two_caks),
		T(test_two_caks_of_four),
		T(test_suspension),
		T(test_killed),
		T(test_unheard),
		T(test_confidentiality),
		T(test_bounded_delay),
		T(test_loss),
		T(test_mkpdu),
		T(test_msg),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
