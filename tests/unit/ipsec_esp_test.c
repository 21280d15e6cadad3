/* ESP by its table of cases: published packets, what is refused and by which name, windows, ECN, lifetimes, selectors. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "ipsec/esp/esp.h"
#include "tests/unit/fw_world.h"
#include "tests/unit/test.h"

#define NOW (1000 * PK_NS_PER_S)
/* The SPI of both, since each knows the other by it. */
#define SPI_IN (ESP_SPI_BASE | 1)
#define OUT_SA 2 /* index that the second SA of a pair gets */
#define NB_SAS 64
#define FRAME  1600

static struct rte_mempool *pool;

struct pair {
	struct esp_engine engine;
	struct esp_sa *in, *out; /* the same key, so that what goes out comes in */
};

static struct pk_addr
addr(const char *text)
{
	struct pk_addr a;
	struct pk_diag diag;

	assert_int_equal(pk_addr_parse(&a, text, &diag), 0);
	return a;
}

/* AES-128-GCM from .1 to .2 by default; `change` may alter both. */
static void
sa_default(struct pk_sadb_add_sa *a, bool in)
{
	memset(a, 0, sizeof(*a));
	a->id.src = addr("192.0.2.1");
	a->id.dst = addr("192.0.2.2");
	a->id.spi = SPI_IN;
	a->reqid = 5;
	a->direction = in ? PK_SADB_IN : PK_SADB_OUT;
	a->mode = PK_SADB_TUNNEL;
	a->encr = 20;
	a->encr_bits = 128;
	a->encr_key_len = 20;
	memset(a->encr_key, 0x5a, 20);
	a->replay_window = in ? 64 : 0;
}

static void
begin(struct pair *p, void (*change)(struct pk_sadb_add_sa *a))
{
	struct esp_sad_conf conf = { .nb_sas = NB_SAS };
	struct pk_sadb_add_sa a;
	struct pk_diag diag;

	memset(p, 0, sizeof(*p));
	assert_int_equal(esp_sad_create(&p->engine.sad, &conf, &diag), 0);
	assert_int_equal(ipsec_crypto_create(&p->engine.crypto, &diag), 0);
	for (unsigned int in = 1; in < 2; in--) {
		sa_default(&a, in);
		if (change != NULL)
			change(&a);
		assert_int_equal(esp_sad_add(p->engine.sad, &a, NOW, &diag), 0);
	}
	p->in = esp_sad_at(p->engine.sad, 1);
	p->out = esp_sad_at(p->engine.sad, OUT_SA);
}

static void
end(struct pair *p)
{
	ipsec_crypto_destroy(p->engine.crypto);
	esp_sad_destroy(p->engine.sad);
}

/* An IPv4 packet of `len` bytes, in a frame. */
static struct rte_mbuf *
packet(uint32_t len, uint8_t tos, bool df)
{
	uint8_t f[FRAME] = { 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, tos };
	uint16_t sum;

	world_put(f + 16, len, 2);
	f[20] = df ? 0x40 : 0;
	f[22] = 64;
	f[23] = IPPROTO_UDP;
	memcpy(f + 26, (uint8_t[]){ 10, 0, 0, 1, 10, 0, 0, 2 }, 8);
	sum = (uint16_t)~fw_sum_fold(fw_sum(f + 14, 20, 0));
	memcpy(f + 24, &sum, 2);
	for (uint32_t i = 34; i < 14 + len; i++)
		f[i] = (uint8_t)(i * 7);
	return world_mbuf(pool, f, 14 + len);
}

static enum esp_error
protect(struct pair *p, struct rte_mbuf *m, uint64_t now_ns)
{
	struct esp_pkt e = { .m = m, .sa = p->out, .l3 = 14 };

	esp_protect(&p->engine, &e, 1, now_ns);
	return (enum esp_error)e.error;
}

static enum esp_error
unprotect(struct pair *p, struct rte_mbuf *m, uint64_t now_ns)
{
	const uint8_t *ip = rte_pktmbuf_mtod_offset(m, const uint8_t *, 14);
	bool v6 = ip[0] >> 4 == 6;
	struct esp_pkt e = { .m = m, .sa = p->in, .l3 = 14, .l4 = v6 ? 54 : 34 };

	e.udp = (v6 ? ip[6] : ip[9]) == IPPROTO_UDP;
	esp_unprotect(&p->engine, &e, 1, now_ns);
	return (enum esp_error)e.error;
}

/* A frame with number `seq` that will be accepted, if that one may. */
static struct rte_mbuf *
numbered(struct pair *p, uint64_t seq)
{
	struct rte_mbuf *m = packet(60, 0, false);

	atomic_store(&p->out->seq, seq - 1);
	assert_int_equal(protect(p, m, NOW), ESP_OK);
	return m;
}

static enum esp_error
come(struct pair *p, uint64_t seq)
{
	struct rte_mbuf *m = numbered(p, seq);
	enum esp_error e = unprotect(p, m, NOW);

	rte_pktmbuf_free(m);
	return e;
}

/* ---- published packets --------------------------------------------------------------------------- */

static size_t
unhex(uint8_t *out, const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	size_t n = 0;
	unsigned int byte;

	if (s == NULL)
		return 0;
	for (; sscanf(s + 2 * n, "%2x", &byte) == 1; n++)
		out[n] = (uint8_t)byte;
	return n;
}

/* The bytes of the packet are sealed from its contents, and it is opened, and comes out of its tunnel. */
static void
one_vector(const json_t *v)
{
	enum ipsec_alg alg = ipsec_alg_by_name(json_string_value(json_object_get(v, "alg")));
	const struct ipsec_alg_info *info = ipsec_alg_info(alg);
	uint8_t key[IPSEC_KEY_STRIDE] __attribute__((aligned(64))), nonce[12], icv[32];
	uint8_t raw[64], integ[64] = { 0 }, clear[512], esp[512], work[512],
	                 f[600] = { 2, 0, 0, 0, 0, 2 };
	size_t raw_len = unhex(raw, v, "key"), clear_len = unhex(clear, v, "clear");
	size_t esp_len = unhex(esp, v, "esp"), head = esp[0] >> 4 == 4 ? 20 : 40, len;
	bool cipher_only = json_is_true(json_object_get(v, "cipher_only"));
	struct ipsec_op op = { .key = key, .alg = (uint8_t)alg };
	uint8_t *packet_esp = work + head;
	struct ipsec_crypto *c;
	struct pk_diag diag;

	assert_non_null(info);
	unhex(integ, v, "integ");
	assert_int_equal(raw_len, info->encr_len + info->salt_len);
	assert_int_equal(
	    ipsec_key_prepare(key, alg, raw, info->encr_len, integ, info->integ_len, &diag), 0);
	assert_int_equal(ipsec_crypto_create(&c, &diag), 0);
	len = esp_len - head - 8 - info->iv_len - (cipher_only ? 0 : info->icv_len);
	memcpy(work, esp, esp_len);
	op.data = packet_esp + 8 + info->iv_len;
	op.len = (uint32_t)len;
	op.aad = packet_esp;
	op.iv = packet_esp + 8;
	op.aad_len = 8;
	if (info->kind == IPSEC_KIND_MAC) {
		op.aad_len = (uint32_t)(8 + info->iv_len + len);
	} else {
		memcpy(nonce, raw + info->encr_len, 4);
		memcpy(nonce + 4, packet_esp + 8, 8);
		op.iv = nonce;
	}
	op.icv = cipher_only ? icv : packet_esp + 8 + info->iv_len + len;
	if (cipher_only) {
		/* Its ICV is ours to make: over the ciphertext that is then opened and sealed again. */
		memcpy(op.data, clear, PK_MIN(len, clear_len));
		ipsec_seal(c, &op, 1);
		assert_memory_equal(work, esp, esp_len);
	}
	ipsec_open(c, &op, 1);
	assert_true(op.ok);
	assert_memory_equal(op.data, clear, PK_MIN(len, clear_len));
	ipsec_seal(c, &op, 1);
	assert_true(op.ok);
	assert_memory_equal(work, esp, esp_len);
	ipsec_crypto_destroy(c);
	if (!cipher_only) {
		struct pair p;
		struct rte_mbuf *m;

		/* An SA of its key, name and addresses. */
		begin(&p, NULL);
		memcpy((void *)(uintptr_t)esp_sad_key(p.engine.sad, p.in), key, IPSEC_KEY_STRIDE);
		memcpy(&p.in->spi_be, packet_esp, 4);
		memcpy(&p.in->salt, raw + info->encr_len, 4);
		p.in->alg = (uint8_t)alg;
		p.in->kind = info->kind;
		p.in->iv_len = info->iv_len;
		p.in->icv_len = info->icv_len;
		p.in->block = info->block;
		p.in->flags = (uint16_t)(p.in->flags | (head == 40 ? ESP_SA_OUTER6 : 0));
		memcpy(p.in->from.addr, esp + (head == 20 ? 12 : 8), head == 20 ? 8 : 32);
		world_put(f + 12, head == 20 ? 0x0800 : 0x86dd, 2);
		memcpy(f + 14, esp, esp_len);
		m = world_mbuf(pool, f, (uint32_t)(14 + esp_len));
		assert_int_equal(unprotect(&p, m, NOW), ESP_OK);
		assert_int_equal(m->data_len, 14 + clear_len);
		assert_memory_equal(
		    rte_pktmbuf_mtod_offset(m, const uint8_t *, 14), clear, clear_len);
		rte_pktmbuf_free(m);
		end(&p);
	}
}

static void
test_vectors(void **state)
{
	const char *dir = getenv("SRCDIR");
	char path[512];
	json_t *all, *v;
	size_t i;

	(void)state;
	snprintf(path, sizeof(path), "%s/tests/data/ipsec/esp.json", dir != NULL ? dir : "..");
	all = json_load_file(path, 0, NULL);
	assert_non_null(all);
	assert_true(json_array_size(json_object_get(all, "vectors")) >= 7);
	json_array_foreach(json_object_get(all, "vectors"), i, v) one_vector(v);
	json_decref(all);
}

/* ---- what is refused ------------------------------------------------------------------------------ */

static void
test_refusals(void **state)
{
	static const struct {
		const char *what;
		int at;         /* byte of the frame, or from its end if negative */
		uint8_t change; /* xor */
		int cut;        /* bytes off the end; the IP length follows */
		enum esp_error error;
	} cases[] = {
		{ "as it is", 0, 0, 0, ESP_OK },
		{ "SPI", 14 + 20 + 3, 1, 0, ESP_SPI },
		{ "sequence number", 14 + 20 + 7, 1, 0, ESP_ICV },
		{ "IV", 14 + 20 + 8, 1, 0, ESP_ICV },
		{ "data", 14 + 20 + 20, 0x80, 0, ESP_ICV },
		{ "trailer", -17, 1, 0, ESP_ICV },
		{ "ICV", -1, 1, 0, ESP_ICV },
		{ "source", 14 + 15, 3, 0, ESP_ADDRESS },
		{ "destination", 14 + 19, 4, 0, ESP_ADDRESS },
		{ "a byte short: no whole block", 0, 0, 1, ESP_TRUNCATED },
		{ "a block short", 0, 0, 4, ESP_ICV },
		{ "an ICV and no more", 0, 0, 60 + 4, ESP_TRUNCATED },
		{ "half a header", 0, 0, 60 + 4 + 16 + 8 + 4, ESP_TRUNCATED },
	};
	struct pair p;

	(void)state;
	begin(&p, NULL);
	for (unsigned int i = 0; i < PK_COUNT(cases); i++) {
		struct rte_mbuf *m = numbered(&p, 100 + i);
		uint8_t *f = rte_pktmbuf_mtod(m, uint8_t *);
		enum esp_error e;

		f[cases[i].at >= 0 ? cases[i].at : m->data_len + cases[i].at] ^= cases[i].change;
		if (cases[i].cut != 0) {
			rte_pktmbuf_trim(m, (uint16_t)cases[i].cut);
			world_put(f + 16, m->data_len - 14u, 2);
		}
		e = unprotect(&p, m, NOW);
		if (e != cases[i].error)
			fail_msg("%s: want %s, not %s", cases[i].what,
			    esp_error_name(cases[i].error), esp_error_name(e));
		rte_pktmbuf_free(m);
	}
	/* What was refused has taken no number. */
	assert_int_equal(atomic_load(&p.in->replay.top), 100);
	assert_int_equal(atomic_load(&p.in->packets), 1);
	assert_int_equal(atomic_load(&p.in->refused), PK_COUNT(cases) - 1);
	end(&p);
}

/* Contents that have the right key, and are wrong all the same: RFC 4303, sections 2.4 to 2.6. */
static void
test_contents(void **state)
{
	static const struct {
		const char *what;
		uint8_t pad, next, first; /* first byte of padding */
		uint8_t version;          /* of the inner packet */
		uint16_t inner_len;
		enum esp_error error;
	} cases[] = {
		{ "as it has to be", 2, 4, 1, 0x45, 60, ESP_OK },
		{ "padding that does not count", 2, 4, 9, 0x45, 60, ESP_PADDING },
		{ "padding longer than the packet", 200, 4, 1, 0x45, 60, ESP_PADDING },
		{ "no tunnelled packet", 2, IPPROTO_TCP, 1, 0x45, 60, ESP_NEXT_HEADER },
		{ "a dummy", 2, IPPROTO_NONE, 1, 0x45, 60, ESP_DUMMY },
		{ "another version than said", 2, IPPROTO_IPV6, 1, 0x45, 60, ESP_INNER },
		{ "longer than it is", 2, 4, 1, 0x45, 61, ESP_INNER },
		{ "TFC padding behind it", 2, 4, 1, 0x45, 48, ESP_OK },
	};
	struct pair p;

	(void)state;
	begin(&p, NULL);
	for (unsigned int i = 0; i < PK_COUNT(cases); i++) {
		struct rte_mbuf *m = packet(60, 0, false);
		uint8_t f[14 + 20 + 8 + 8 + 64 + 16] = { 0 }, aad[8], nonce[12], *c = f + 14 + 36;
		struct ipsec_op op = { .key = esp_sad_key(p.engine.sad, p.in),
			.data = c,
			.aad = aad,
			.iv = nonce,
			.icv = c + 64,
			.len = 64,
			.aad_len = 8,
			.alg = IPSEC_AES_GCM_128 };
		enum esp_error e;

		memcpy(f, rte_pktmbuf_mtod(m, uint8_t *), 14);
		rte_pktmbuf_free(m);
		f[14] = 0x45;
		world_put(f + 16, sizeof(f) - 14, 2);
		f[23] = IPPROTO_ESP;
		memcpy(f + 26, (uint8_t[]){ 192, 0, 2, 1, 192, 0, 2, 2 }, 8);
		memcpy(f + 34, &p.in->spi_be, 4);
		world_put(f + 38, i + 1, 4);
		memcpy(aad, f + 34, 8);
		memcpy(nonce, &p.in->salt, 4);
		memcpy(nonce + 4, f + 42, 8);
		c[0] = cases[i].version;
		world_put(c + 2, cases[i].inner_len, 2);
		c[60] = cases[i].first;
		c[61] = 2;
		c[62] = cases[i].pad;
		c[63] = cases[i].next;
		ipsec_seal(p.engine.crypto, &op, 1);
		m = world_mbuf(pool, f, sizeof(f));
		e = unprotect(&p, m, NOW);
		if (e != cases[i].error)
			fail_msg("%s: want %s, not %s", cases[i].what,
			    esp_error_name(cases[i].error), esp_error_name(e));
		if (e == ESP_OK)
			assert_int_equal(m->data_len, 14 + cases[i].inner_len);
		rte_pktmbuf_free(m);
	}
	end(&p);
}

/* ---- windows -------------------------------------------------------------------------------------- */

static uint32_t wanted_window;

static void
with_window(struct pk_sadb_add_sa *a)
{
	if (a->direction == PK_SADB_IN)
		a->replay_window = wanted_window;
}

/* RFC 4303, section 3.4.3: exact at every size, against a list of what has come. */
static void
test_windows(void **state)
{
	static const uint32_t sizes[] = { 64, 128, 192, 1024, 2048, 4096 };

	(void)state;
	for (unsigned int k = 0; k < PK_COUNT(sizes); k++) {
		static uint8_t seen[40000];
		uint64_t top = 0, r = 12345 + k;
		struct pair p;

		wanted_window = sizes[k];
		begin(&p, with_window);
		memset(seen, 0, sizeof(seen));
		for (unsigned int i = 0; i < 6000; i++) {
			uint64_t seq;
			enum esp_replay_answer want;

			r = r * 6364136223846793005u + 1442695040888963407u;
			/* Mostly near the top, at both sides of the window's edge, sometimes far ahead. */
			seq = r >> 62 == 0 ? top + (r >> 33) % 3
			    : r >> 62 == 1 ? top + 1 - PK_MIN(top, sizes[k] - 2 + (r >> 33) % 5)
			    : r >> 62 == 2 ? top - PK_MIN(top, (r >> 33) % sizes[k])
			                   : top + (r >> 33) % (i % 50 == 0 ? 200 : 2);
			if (seq == 0 || seq >= sizeof(seen))
				continue;
			want = seq + sizes[k] <= top ? ESP_REPLAY_LATE
			    : seen[seq]              ? ESP_REPLAY_SEEN
			                             : ESP_REPLAY_NEW;
			assert_int_equal(esp_replay_check(&p.in->replay, seq), want);
			assert_int_equal(esp_replay_take(&p.in->replay, seq), want);
			if (want == ESP_REPLAY_NEW) {
				seen[seq] = 1;
				top = PK_MAX(top, seq);
			}
			assert_int_equal(atomic_load(&p.in->replay.top), top);
		}
		end(&p);
	}
}

static void
with_esn(struct pk_sadb_add_sa *a)
{
	a->flags = PK_SADB_ESN;
}

/* RFC 4303, appendix A, and section 3.3.3 at the end of all numbers. */
static void
test_numbers(void **state)
{
	struct pair p;

	(void)state;
	begin(&p, NULL);
	assert_int_equal(come(&p, 1), ESP_OK);
	assert_int_equal(come(&p, 1), ESP_REPLAY);
	assert_int_equal(come(&p, 100), ESP_OK);
	assert_int_equal(come(&p, 37), ESP_OK); /* the last of 64 */
	assert_int_equal(come(&p, 36), ESP_OLD);
	assert_int_equal(come(&p, UINT32_MAX), ESP_OK);
	atomic_store(&p.out->seq, UINT32_MAX);
	{
		struct rte_mbuf *m = packet(60, 0, false);

		assert_int_equal(protect(&p, m, NOW), ESP_SEQ);
		assert_int_equal(protect(&p, m, NOW), ESP_SEQ);
		rte_pktmbuf_free(m);
	}
	end(&p);
	begin(&p, with_esn);
	assert_int_equal(come(&p, UINT32_MAX - 1), ESP_OK);
	assert_int_equal(come(&p, UINT64_C(1) << 32), ESP_OK);
	assert_int_equal(come(&p, UINT32_MAX), ESP_OK); /* from before the carry */
	assert_int_equal(come(&p, UINT32_MAX), ESP_REPLAY);
	assert_int_equal(come(&p, (UINT64_C(1) << 32) + 70), ESP_OK);
	/* Below the window it is taken for one of the next half, whose ICV it has not. */
	assert_int_equal(come(&p, UINT32_MAX - 1), ESP_ICV);
	assert_int_equal(atomic_load(&p.in->replay.top), (UINT64_C(1) << 32) + 70);
	atomic_store(&p.out->seq, UINT64_MAX);
	{
		struct rte_mbuf *m = packet(60, 0, false);

		assert_int_equal(protect(&p, m, NOW), ESP_SEQ);
		rte_pktmbuf_free(m);
	}
	end(&p);
}

/* ---- headers -------------------------------------------------------------------------------------- */

static uint8_t wanted_df, wanted_dscp;
static uint16_t wanted_flags, wanted_tfc;

static void
with_headers(struct pk_sadb_add_sa *a)
{
	a->df = wanted_df;
	a->dscp = wanted_dscp;
	a->flags = wanted_flags;
	a->tfc = a->direction == PK_SADB_OUT ? wanted_tfc : 0;
}

/* RFC 4301, sections 5.1.2.1 and 8.1; RFC 6040, section 4.1. */
static void
test_outer(void **state)
{
	static const struct {
		uint8_t df, dscp;
		uint16_t flags;
		uint8_t tos;
		bool inner_df;
		uint8_t outer_tos;
		bool outer_df;
	} cases[] = {
		{ PK_SADB_DF_COPY, 0, 0, 0xb9, true, 0xb9, true },
		{ PK_SADB_DF_COPY, 0, 0, 0x02, false, 0x02, false },
		{ PK_SADB_DF_SET, 0, 0, 0, false, 0, true },
		{ PK_SADB_DF_CLEAR, 0, 0, 0, true, 0, false },
		{ PK_SADB_DF_COPY, 46, PK_SADB_NO_DSCP_COPY, 0x03, false, 46 << 2 | 3, false },
		{ PK_SADB_DF_COPY, 0, PK_SADB_NO_ECN, 0xbb, false, 0xb8, false },
	};

	(void)state;
	for (unsigned int i = 0; i < PK_COUNT(cases); i++) {
		struct rte_mbuf *m = packet(100, cases[i].tos, cases[i].inner_df);
		const uint8_t *f;
		struct pair p;

		wanted_df = cases[i].df;
		wanted_dscp = cases[i].dscp;
		wanted_flags = cases[i].flags;
		wanted_tfc = 0;
		begin(&p, with_headers);
		assert_int_equal(protect(&p, m, NOW), ESP_OK);
		f = rte_pktmbuf_mtod(m, const uint8_t *);
		assert_int_equal(f[15], cases[i].outer_tos);
		assert_int_equal((f[20] & 0x40) != 0, cases[i].outer_df);
		assert_int_equal(fw_sum_fold(fw_sum(f + 14, 20, 0)), 0xffff);
		assert_int_equal(unprotect(&p, m, NOW), ESP_OK);
		f = rte_pktmbuf_mtod(m, const uint8_t *);
		assert_int_equal(f[15], cases[i].tos);
		rte_pktmbuf_free(m);
		end(&p);
	}
}

/* RFC 6040, figure 4, as it stands there: rows Not-ECT, ECT(0), ECT(1), CE, columns likewise. */
static void
test_ecn(void **state)
{
	static const uint8_t bits[4] = { 0, 2, 1, 3 };
	static const uint8_t want[4][4] = { { 0, 0, 0, ESP_ECN_DROP }, { 2, 2, 1, 3 },
		{ 1, 1, 1, 3 }, { 3, 3, 3, 3 } };

	(void)state;
	for (unsigned int inner = 0; inner < 4; inner++)
		for (unsigned int outer = 0; outer < 4; outer++)
			assert_int_equal(
			    esp_ecn_decap(bits[inner], bits[outer]), want[inner][outer]);
}

/* RFC 4303, section 2.7; and what fits is what comes out. */
static void
test_lengths(void **state)
{
	struct rte_mbuf *m;
	struct pair p;

	(void)state;
	wanted_df = wanted_dscp = 0;
	wanted_flags = 0;
	wanted_tfc = 600;
	begin(&p, with_headers);
	m = packet(100, 0, false);
	assert_int_equal(protect(&p, m, NOW), ESP_OK);
	assert_int_equal(m->data_len, 14 + 20 + 8 + 8 + 604 + 16);
	assert_int_equal(unprotect(&p, m, NOW), ESP_OK);
	assert_int_equal(m->data_len, 114);
	rte_pktmbuf_free(m);
	end(&p);
	begin(&p, NULL);
	for (uint32_t mtu = 600; mtu < 640; mtu++) {
		uint32_t fits = esp_fits(p.out, mtu, 20);

		assert_true(esp_size(p.out, fits, 20) <= mtu);
		assert_true(esp_size(p.out, fits + 1, 20) > mtu);
	}
	esp_sa_learn_mtu(p.out, 600);
	m = packet(esp_fits(p.out, 600, 20), 0, false);
	assert_int_equal(protect(&p, m, NOW), ESP_OK);
	assert_true(m->data_len <= 14 + 600);
	rte_pktmbuf_free(m);
	m = packet(esp_fits(p.out, 600, 20) + 1, 0, false);
	assert_int_equal(protect(&p, m, NOW), ESP_TOO_BIG);
	rte_pktmbuf_free(m);
	/* Nobody has to believe less than every link can do. */
	esp_sa_learn_mtu(p.out, 68);
	assert_int_equal(atomic_load(&p.out->mtu), 576);
	end(&p);
}

/* ---- lives ---------------------------------------------------------------------------------------- */

static struct pk_sadb_life wanted_life;
static unsigned int told_soft, told_hard;
static uint8_t told_what;

static void
with_life(struct pk_sadb_add_sa *a)
{
	a->life = wanted_life;
}

static void
on_expired(void *arg, const struct pk_sadb_expire *e)
{
	(void)arg;
	if (e->direction != PK_SADB_OUT)
		return;
	told_soft += !e->hard;
	told_hard += e->hard;
	told_what = e->what;
}

static void
test_lives(void **state)
{
	static const struct esp_sad_events events = { .expired = on_expired };
	struct pk_sadb_life lives[] = {
		{ .soft_packets = 3, .hard_packets = 5 },
		{ .soft_bytes = 3 * 64, .hard_bytes = 5 * 64 },
		{ .soft_ns = 3 * PK_NS_PER_S, .hard_ns = 5 * PK_NS_PER_S },
	};
	static const uint8_t what[] = { PK_SADB_EXPIRE_PACKETS, PK_SADB_EXPIRE_BYTES,
		PK_SADB_EXPIRE_TIME };

	(void)state;
	for (unsigned int k = 0; k < PK_COUNT(lives); k++) {
		struct pair p;

		wanted_life = lives[k];
		begin(&p, with_life);
		told_soft = told_hard = 0;
		for (unsigned int i = 0; i < 8; i++) {
			struct rte_mbuf *m = packet(60, 0, false);
			uint64_t now = NOW + (k == 2 ? i * PK_NS_PER_S : 0);

			/* Time ends with its fifth second, the others with the fifth packet. */
			assert_int_equal(protect(&p, m, now) == ESP_OK, i < 5);
			if (i >= 5 && k == 2)
				assert_int_equal(protect(&p, m, now), ESP_EXPIRED);
			rte_pktmbuf_free(m);
			esp_sad_tick(p.engine.sad, now, &events);
			assert_int_equal(told_soft, i >= (k == 2 ? 3 : 2) ? 1 : 0);
			assert_int_equal(told_hard, i >= (k == 2 ? 5 : 4) ? 1 : 0);
		}
		assert_int_equal(told_what, what[k]);
		end(&p);
	}
}

/* SPIs, names, rekeying, and what comes back of it. */
static void
test_sad(void **state)
{
	struct pk_sadb_get_spi get = { .id = { .src = addr("192.0.2.1"), .dst = addr("192.0.2.2") },
		.reqid = 9 };
	struct pk_sadb_policy policy = { .direction = PK_SADB_POLICY_OUT,
		.mode = PK_SADB_TUNNEL,
		.reqid = 5,
		.sport_high = UINT16_MAX,
		.dport_high = UINT16_MAX,
		.spi = SPI_IN };
	struct esp_flow flow = {
		.src = addr("10.1.2.3"), .dst = addr("10.9.9.9"), .proto = IPPROTO_TCP, .dport = 80
	};
	struct pk_sadb_add_sa a;
	struct pk_diag diag;
	struct pair p;
	uint32_t spi[NB_SAS], tunnel, nb = 0, again;

	(void)state;
	begin(&p, NULL);
	while (nb < NB_SAS && esp_sad_get_spi(p.engine.sad, &get, NOW, &spi[nb], &diag) == 0)
		nb++;
	assert_int_equal(nb, NB_SAS - 2);
	assert_non_null(strstr(diag.text, "no more fit"));
	assert_null(esp_sad_by_spi(p.engine.sad, __builtin_bswap32(spi[0]))); /* larval */
	esp_sad_tick(p.engine.sad, NOW + 119 * PK_NS_PER_S, NULL);
	assert_int_equal(esp_sad_count(p.engine.sad), NB_SAS);
	esp_sad_tick(p.engine.sad, NOW + 120 * PK_NS_PER_S, NULL);
	assert_int_equal(esp_sad_count(p.engine.sad), 2);
	/* An index comes back under another SPI. */
	assert_int_equal(esp_sad_get_spi(p.engine.sad, &get, NOW, &again, &diag), 0);
	for (uint32_t i = 0; i < nb; i++)
		assert_int_not_equal(again, spi[i]);
	assert_true((again & 0xfffff) <= NB_SAS);

	/* Selectors: the tunnel is found by them, by priority, and not beyond them. */
	assert_int_equal(pk_prefix_parse(&policy.src, "10.1.0.0/16", &diag), 0);
	assert_int_equal(pk_prefix_parse(&policy.dst, "10.9.0.0/16", &diag), 0);
	policy.sa_dst = addr("192.0.2.2");
	assert_int_equal(esp_sad_tunnel_out(p.engine.sad, &flow), ESP_TUNNEL_NONE);
	policy.spi = 0x999;
	assert_int_equal(esp_sad_add_policy(p.engine.sad, &policy, &diag), -ENOENT);
	policy.spi = SPI_IN;
	policy.priority = 10;
	assert_int_equal(esp_sad_add_policy(p.engine.sad, &policy, &diag), 0);
	tunnel = esp_sad_tunnel_out(p.engine.sad, &flow);
	assert_int_equal(esp_sad_tunnel_reqid(p.engine.sad, tunnel), 5);
	assert_ptr_equal(esp_sad_tunnel_sa(p.engine.sad, tunnel), p.out);
	flow.dst = addr("10.8.9.9");
	assert_int_equal(esp_sad_tunnel_out(p.engine.sad, &flow), ESP_TUNNEL_NONE);
	flow.dst = addr("10.9.9.9");
	policy.reqid = 6;
	policy.spi = 0;
	policy.priority = 5;
	policy.proto = IPPROTO_TCP;
	policy.dport_low = policy.dport_high = 80;
	memset(&policy.sa_dst, 0, sizeof(policy.sa_dst));
	assert_int_equal(esp_sad_add_policy(p.engine.sad, &policy, &diag), 0);
	assert_int_equal(
	    esp_sad_tunnel_reqid(p.engine.sad, esp_sad_tunnel_out(p.engine.sad, &flow)), 6);
	flow.dport = 81;
	assert_int_equal(esp_sad_tunnel_out(p.engine.sad, &flow), tunnel);
	/* In selectors are asked of the tunnel that a packet came by. */
	assert_false(esp_sad_tunnel_in(p.engine.sad, tunnel, &flow));
	policy.direction = PK_SADB_POLICY_IN;
	policy.reqid = 5;
	policy.proto = 0;
	policy.dport_low = 0;
	policy.dport_high = UINT16_MAX;
	assert_int_equal(esp_sad_add_policy(p.engine.sad, &policy, &diag), 0);
	assert_true(esp_sad_tunnel_in(p.engine.sad, tunnel, &flow));
	assert_int_equal(esp_sad_delete_policy(p.engine.sad, &policy, &diag), 0);
	assert_int_equal(esp_sad_delete_policy(p.engine.sad, &policy, &diag), -ENOENT);

	/* The switch of a rekeying, and the end of the old one. */
	sa_default(&a, false);
	a.id.spi = 0x2000;
	assert_int_equal(esp_sad_add(p.engine.sad, &a, NOW, &diag), 0);
	assert_int_equal(esp_sad_add(p.engine.sad, &a, NOW, &diag), -EEXIST);
	assert_ptr_equal(esp_sad_tunnel_sa(p.engine.sad, tunnel), p.out);
	policy.direction = PK_SADB_POLICY_OUT;
	policy.spi = 0x2000;
	policy.sa_dst = addr("192.0.2.2");
	assert_int_equal(esp_sad_add_policy(p.engine.sad, &policy, &diag), 0);
	assert_int_not_equal(
	    esp_sad_index(p.engine.sad, esp_sad_tunnel_sa(p.engine.sad, tunnel)), OUT_SA);
	a.id.spi = SPI_IN;
	assert_int_equal(
	    esp_sad_delete(p.engine.sad,
	        &(struct pk_sadb_id){ .src = a.id.src, .dst = a.id.dst, .spi = SPI_IN }, &diag),
	    0);
	esp_sad_settle(p.engine.sad);
	assert_non_null(esp_sad_tunnel_sa(p.engine.sad, tunnel));
	/* All gone: the number of the tunnel finds nothing any more. */
	esp_sad_flush(p.engine.sad, PK_SADB_FLUSH_SAS | PK_SADB_FLUSH_POLICIES);
	esp_sad_settle(p.engine.sad);
	assert_int_equal(esp_sad_count(p.engine.sad), 0);
	assert_null(esp_sad_tunnel_sa(p.engine.sad, tunnel));
	assert_int_equal(esp_sad_tunnel_reqid(p.engine.sad, tunnel), 0);
	end(&p);
}

/* What lcores do while the control thread waits for them. */
static void
meanwhile(void *arg)
{
	struct pair *p = arg;
	struct rte_mbuf *m = packet(60, 0, false);

	assert_int_equal(protect(p, m, NOW), ESP_OK);
	rte_pktmbuf_free(m);
}

/* The next hop answers, or changes, while packets go: none is lost by it. */
static void
test_next_hop(void **state)
{
	static const uint8_t own[12] = { 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1 };
	static const uint8_t hop[2][12] = { { 2, 1, 1, 1, 1, 1, 2, 9, 9, 9, 9, 9 },
		{ 2, 2, 2, 2, 2, 2, 2, 8, 8, 8, 8, 8 } };
	struct esp_sad_conf conf = { .nb_sas = NB_SAS, .wait = meanwhile };
	struct pair p = { 0 };
	struct pk_sadb_add_sa a;
	struct pk_diag diag;

	(void)state;
	conf.arg = &p;
	assert_int_equal(esp_sad_create(&p.engine.sad, &conf, &diag), 0);
	assert_int_equal(ipsec_crypto_create(&p.engine.crypto, &diag), 0);
	sa_default(&a, false);
	assert_int_equal(esp_sad_add(p.engine.sad, &a, NOW, &diag), 0);
	p.out = esp_sad_at(p.engine.sad, 1);
	for (unsigned int k = 0; k < 4; k++) {
		const uint8_t *want = k == 0 || k == 3 ? own : hop[k - 1];
		struct rte_mbuf *m = packet(60, 0, false);

		if (k > 0)
			esp_sad_set_mac(p.engine.sad, 1, k < 3 ? want : NULL);
		assert_int_equal(protect(&p, m, NOW), ESP_OK);
		assert_memory_equal(rte_pktmbuf_mtod(m, const void *), want, 12);
		rte_pktmbuf_free(m);
	}
	end(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_contents),
		cmocka_unit_test(test_windows),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_outer),
		cmocka_unit_test(test_ecn),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_lives),
		cmocka_unit_test(test_sad),
		cmocka_unit_test(test_next_hop),
	};

	pool = world_start(255);
	if (pool == NULL)
		return 1;
	return cmocka_run_group_tests_name("ipsec/esp", tests, NULL, NULL);
}
