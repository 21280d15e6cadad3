/*
 * How sure App-ID is: bytes that are no protocol must stay unknown, no vector may satisfy another protocol's
 * parser, and every parser must rest on enough evidence.
 *
 * Evidence is measured, not declared.  For each byte of a session that a parser matches, all 256 values are tried
 * with the rest as it was: a byte of which k values still match contributes log2(256 / k) bits.  Their sum is how
 * improbable the session is among random ones, as far as its bytes can be varied one at a time.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dpi/proto.h"
#include "tests/unit/dpi_vectors.h"
#include "tests/unit/test.h"

#define POOL          (1 << 20)
#define EVIDENCE_BITS 24.0
#define EVIDENCE_HEAD 256 /* bytes of a message that are varied */

static const struct dpi_family *const families[] = {
#define ROW(name) &dpi_family_##name,
	DPI_FAMILIES(ROW)
#undef ROW
};

static struct dpi *dpi;
static uint8_t *pool;
static uint64_t rng;

static uint32_t
rnd(uint32_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 16) % below);
}

static int
setup(void **state)
{
	static const struct dpi_limits limits = { DPI_STREAM_MAX, 9000, 12 };

	(void)state;
	rng = 88172645463325252u;
	pool = malloc(POOL);
	return dpi_create(&dpi, pool, POOL, &limits);
}

static int
teardown(void **state)
{
	(void)state;
	dpi_destroy(dpi);
	free(pool);
	return 0;
}

static unsigned int
nb_rows(void)
{
	unsigned int n = 0;

	for (size_t f = 0; f < PK_COUNT(families); f++)
		n += families[f]->nb;
	return n;
}

static const struct dpi_proto *
row(unsigned int i)
{
	for (size_t f = 0; f < PK_COUNT(families); f++) {
		if (i < families[f]->nb)
			return &families[f]->proto[i];
		i -= families[f]->nb;
	}
	return NULL;
}

/* What the messages are taken for, by all parsers (`only` < 0) or by one row of the table; *sure: certain. */
static enum dpi_app
ask(enum dpi_transport transport, const struct dpi_message *m, unsigned int nb, int only,
    bool handshake, bool *sure)
{
	static const uint16_t port[2] = { 40000, 4444 };
	uint32_t next[2] = { 1, 1 };
	struct dpi_flow f;
	enum dpi_app app;

	dpi_flow_init(&f, transport, port);
	for (int i = 0; i < 2 && transport == DPI_TCP && handshake; i++) {
		struct dpi_packet p = { .dir = (uint8_t)i, .syn = true, .seq = 0 };

		dpi_flow_feed(dpi, &f, &p, NULL);
	}
	if (only >= 0) {
		struct dpi_packet p = { .dir = 0 };

		dpi_flow_feed(dpi, &f, &p, NULL); /* no payload: it begins */
		memset(f.live, 0, sizeof(f.live));
		f.live[0][only / 64] = 1ULL << only % 64;
		if (transport == DPI_TCP && !handshake)
			f.live[1][only / 64] = f.live[0][only / 64];
		f.restarts = UINT8_MAX;
	}
	for (unsigned int i = 0; i < nb; i++) {
		struct dpi_packet p = { .bytes = m[i].bytes,
			.len = m[i].len,
			.dir = (uint8_t)m[i].dir,
			.seq = next[m[i].dir] };

		next[m[i].dir] += m[i].len;
		dpi_flow_feed(dpi, &f, &p, NULL);
	}
	dpi_flow_finish(dpi, &f, NULL);
	dpi_flow_fini(dpi, &f);
	app = (enum dpi_app)f.app;
	*sure = f.confidence == DPI_CERTAIN;
	return app;
}

/* ---- bytes that are nothing ---- */

static const char *const words[] = { "hello", "the", "state", "update", "node", "id=", "value",
	"player", "42", "true", "GETX", "ping", "error", "{\"a\":1}", "key:", "login", "Sensor",
	"temperature", "OK", "data" };

static void
put_random(uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)rnd(256);
}

static void
put_text(uint8_t *p, size_t len)
{
	size_t n = 0;

	while (n < len) {
		const char *w = words[rnd(PK_COUNT(words))];
		size_t k = PK_MIN(strlen(w), len - n);

		memcpy(p + n, w, k);
		n += k;
		if (n < len)
			p[n++] = (uint8_t) " \n,;\t"[rnd(5)];
	}
}

static void
put_number(uint8_t *p, int bytes, bool big, uint32_t value)
{
	for (int i = 0; i < bytes; i++)
		p[big ? bytes - 1 - i : i] = (uint8_t)(i < 4 ? value >> 8 * i : 0);
}

static const char *const shapes[] = { "random", "small numbers", "zeroes", "text", "be16 length",
	"be32 length", "le16 length", "le32 length", "magic and length", "type, length, value",
	"base64", "one byte repeated", "counter and time" };

/* One message of a private protocol: `seed` is what all its messages share. */
static size_t
make(unsigned int shape, uint8_t *p, uint32_t seed, uint32_t counter)
{
	static const char base64[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t len = 1 + rnd(rnd(4) == 0 ? 600 : 90), at = 0;

	put_random(p, len);
	switch (shape) {
	case 1: /* fields of four bytes with little in them */
		for (size_t i = 0; i < len; i++)
			p[i] = (uint8_t)(i % 4 == 3 || rnd(8) == 0 ? rnd(24) : 0);
		break;
	case 2:
		for (size_t i = 0; i < len; i++)
			p[i] = (uint8_t)(rnd(6) == 0 ? rnd(256) : 0);
		break;
	case 3:
		put_text(p, len);
		break;
	case 4:
	case 5:
	case 6:
	case 7: {
		int bytes = shape % 2 == 0 ? 2 : 4;

		len += 4;
		/* With the length field counted in or not. */
		put_number(
		    p, bytes, shape < 6, (uint32_t)(rnd(2) == 0 ? len : len - (size_t)bytes));
		if (rnd(2) == 0)
			put_number(p + bytes, 2, rnd(2) == 0, rnd(30));
		if (rnd(2) == 0 && len > 12)
			put_text(p + 8, len - 8);
		break;
	}
	case 8:
		len += 12;
		put_number(p, 4, true, seed);
		put_number(p + 4, 4, rnd(2) == 0, (uint32_t)len);
		put_number(p + 8, 4, rnd(2) == 0, counter);
		break;
	case 9:
		while (at + 4 < len) {
			size_t n = PK_MIN(rnd(20), len - at - 4);

			put_number(p + at, 2, true, rnd(40));
			put_number(p + at + 2, 2, true, (uint32_t)n);
			if (rnd(2) == 0)
				put_text(p + at + 4, n);
			at += 4 + n;
		}
		len = at > 0 ? at : len;
		break;
	case 10:
		for (size_t i = 0; i < len; i++)
			p[i] = (uint8_t)base64[p[i] & 63];
		break;
	case 11:
		memset(p, p[0], len);
		break;
	case 12:
		len += 16;
		put_number(p, 4, true, seed);
		put_number(p + 4, 4, rnd(2) == 0, counter);
		put_number(p + 8, 4, rnd(2) == 0, 1700000000 + counter);
		break;
	default:
		break;
	}
	return len;
}

/* A million sessions of no protocol, of one to six messages; the few that come out as something are counted per
 * application and shape. */
static void
test_nothing(void **state)
{
	static uint8_t bytes[6][1024];
	static unsigned int named[DPI_NB_APPS][PK_COUNT(shapes)][2];
	const char *env = getenv("DPI_FALSE_SESSIONS");
	unsigned int nb = env != NULL ? (unsigned int)strtoul(env, NULL, 10) : 250000, sure = 0,
	             likely = 0, messages = 0;
	bool certain;

	(void)state;
	for (unsigned int n = 0; n < nb; n++) {
		unsigned int shape = n % PK_COUNT(shapes), k = 1 + rnd(6);
		enum dpi_transport transport = rnd(2) == 0 ? DPI_TCP : DPI_UDP;
		uint32_t seed = rnd(1u << 31);
		struct dpi_message m[6];
		enum dpi_app app;

		for (unsigned int i = 0; i < k; i++) {
			m[i].dir = i == 0 ? 0 : rnd(2);
			m[i].bytes = bytes[i];
			m[i].len = (uint16_t)make(shape, bytes[i], seed, i);
		}
		messages += k;
		app = ask(transport, m, k, -1, rnd(3) != 0, &certain);
		if (app == DPI_APP_UNKNOWN)
			continue;
		named[app][shape][certain]++;
		if (certain)
			sure++;
		else
			likely++;
	}
	print_message("# %u sessions of %u messages: %u taken for something, %u likely\n", nb,
	    messages, sure, likely);
	for (unsigned int a = 0; a < DPI_NB_APPS; a++)
		for (unsigned int s = 0; s < PK_COUNT(shapes); s++)
			if (named[a][s][0] + named[a][s][1] > 0)
				print_message("#   %s: %u of \"%s\", %u more likely\n",
				    dpi_app_name((enum dpi_app)a), named[a][s][1], shapes[s],
				    named[a][s][0]);
	assert_true(sure <= nb / 5000);
	assert_true(likely <= nb / 5000);
}

/* ---- vectors ---- */

/* Names that may stand for one another: one is said when the other is seen inside, or before it. */
static bool
kin(enum dpi_app a, enum dpi_app b)
{
	static const uint8_t pairs[][2] = { { DPI_APP_HTTP, DPI_APP_WEBSOCKET },
		{ DPI_APP_HTTP, DPI_APP_ELASTICSEARCH }, { DPI_APP_HTTP, DPI_APP_JSONRPC },
		{ DPI_APP_HTTP2, DPI_APP_GRPC }, { DPI_APP_DNS, DPI_APP_NETBIOS },
		{ DPI_APP_SMB, DPI_APP_NETBIOS }, { DPI_APP_DNS, DPI_APP_MDNS },
		{ DPI_APP_POP3, DPI_APP_POP3S }, { DPI_APP_IMAP, DPI_APP_IMAPS },
		{ DPI_APP_HTTP, DPI_APP_SOAP } };

	if (a == b)
		return true;
	for (size_t i = 0; i < PK_COUNT(pairs); i++)
		if ((pairs[i][0] == a && pairs[i][1] == b) ||
		    (pairs[i][0] == b && pairs[i][1] == a))
			return true;
	return false;
}

static void
test_cross(void **state)
{
	size_t nb;
	struct dpi_vector *all = dpi_vectors_read(&nb);
	unsigned int wrong = 0;
	bool sure;

	(void)state;
	for (size_t i = 0; i < nb; i++)
		for (unsigned int r = 0; r < nb_rows(); r++) {
			enum dpi_app app;

			if (row(r)->transport != all[i].transport)
				continue;
			app = ask(all[i].transport, all[i].message, all[i].nb, (int)r, true, &sure);
			if (app == DPI_APP_UNKNOWN || !sure || kin(app, all[i].app))
				continue;
			print_message("# vectors.txt:%u: %s is taken for %s\n", all[i].line,
			    dpi_app_name(all[i].app), dpi_app_name(app));
			wrong++;
		}
	assert_int_equal(wrong, 0);
	dpi_vectors_free(all, nb);
}

/* Vectors that lost their front, or got bytes before it, or their tail: what they are then taken for is either
 * themselves or nothing. */
static void
test_shifted(void **state)
{
	size_t nb;
	struct dpi_vector *all = dpi_vectors_read(&nb);
	unsigned int wrong = 0, tries = 0;
	static uint8_t bytes[2048];
	bool sure;

	(void)state;
	for (size_t i = 0; i < nb; i++)
		for (int shift = -24; shift <= 24; shift++) {
			struct dpi_message m[16];
			enum dpi_app app;
			uint16_t len = all[i].message[0].len;

			memcpy(m, all[i].message, sizeof(m));
			if (shift == 0 || len > 1024)
				continue;
			put_random(bytes, sizeof(bytes));
			if (shift > 0) {
				memcpy(bytes + shift, m[0].bytes, len);
				m[0].len = (uint16_t)(len + shift);
			} else if (len > -shift) {
				memcpy(bytes, m[0].bytes - shift, (size_t)(len + shift));
				m[0].len = (uint16_t)(len + shift);
			} else {
				continue;
			}
			m[0].bytes = bytes;
			tries++;
			app = ask(all[i].transport, m, all[i].nb, -1, true, &sure);
			if (app == DPI_APP_UNKNOWN || !sure || kin(app, all[i].app))
				continue;
			print_message("# vectors.txt:%u: %s, shifted by %d, is taken for %s\n",
			    all[i].line, dpi_app_name(all[i].app), shift, dpi_app_name(app));
			wrong++;
		}
	print_message("# %u shifted sessions, %u of them taken for something else\n", tries, wrong);
	assert_true(wrong <= tries / 500);
	dpi_vectors_free(all, nb);
}

/* Bits of the shortest part of a vector that its own row is sure of; 0 when it never is. */
static double
evidence(const struct dpi_vector *v, unsigned int r)
{
	unsigned int nb = 0;
	double bits = 0;
	bool sure = false;

	while (nb < v->nb && !sure)
		if (ask(v->transport, v->message, ++nb, (int)r, true, &sure) == DPI_APP_UNKNOWN)
			sure = false;
	if (!sure)
		return 0;
	for (unsigned int i = 0; i < nb; i++) {
		const struct dpi_message *m = &v->message[i];

		for (uint16_t k = 0; k < PK_MIN(m->len, EVIDENCE_HEAD); k++) {
			uint8_t was = m->bytes[k];
			unsigned int ok = 0;

			for (unsigned int b = 0; b < 256; b++) {
				m->bytes[k] = (uint8_t)b;
				if (ask(v->transport, v->message, nb, (int)r, true, &sure) !=
				        DPI_APP_UNKNOWN &&
				    sure)
					ok++;
			}
			m->bytes[k] = was;
			bits += log2(256.0 / ok);
		}
	}
	return bits;
}

static void
test_evidence(void **state)
{
	size_t nb;
	struct dpi_vector *all = dpi_vectors_read(&nb);
	unsigned int weak = 0;
	double *least = calloc(nb_rows(), sizeof(*least));

	(void)state;
	assert_non_null(least);
	for (size_t i = 0; i < nb; i++)
		for (unsigned int r = 0; r < nb_rows(); r++) {
			double bits;

			if (row(r)->transport != all[i].transport || !kin(row(r)->app, all[i].app))
				continue;
			bits = evidence(&all[i], r);
			if (bits == 0)
				continue;
			if (least[r] == 0 || bits < least[r])
				least[r] = bits;
			if (bits < EVIDENCE_BITS) {
				print_message("# vectors.txt:%u: %s is certain with %.1f bits\n",
				    all[i].line, dpi_app_name(all[i].app), bits);
				weak++;
			}
		}
	if (getenv("DPI_EVIDENCE") != NULL)
		for (unsigned int r = 0; r < nb_rows(); r++)
			print_message("# %s/%s %.0f\n", dpi_app_name(row(r)->app),
			    row(r)->transport == DPI_TCP ? "tcp" : "udp", least[r]);
	free(least);
	assert_int_equal(weak, 0);
	dpi_vectors_free(all, nb);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_cross),
		cmocka_unit_test(test_shifted),
		cmocka_unit_test(test_evidence),
	};

	return cmocka_run_group_tests_name("dpi_false", tests, setup, teardown);
}
