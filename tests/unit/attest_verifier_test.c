/*
 * The verifier as it runs, with hosts whose TPMs are keys made here: enrolment by many at once, and what it asks.
 * Messages are carried in memory, as the policy server carries those of DPUs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "attest/credential.h"
#include "attest/daemon/channel.h"
#include "attest/daemon/dpu.h"
#include "attest/state.h"
#include "lib/clock.h"
#include "lib/helper.h"
#include "lib/msg.h"
#include "tests/unit/test.h"

#define BOUND                                                                           \
	(ATTEST_OBJ_FIXED_TPM | ATTEST_OBJ_FIXED_PARENT | ATTEST_OBJ_SENSITIVE_ORIGIN | \
	    ATTEST_OBJ_RESTRICTED)

struct buf {
	uint8_t bytes[2048];
	size_t len;
};

static void
put(struct buf *b, const void *bytes, size_t len)
{
	assert_true(b->len + len <= sizeof(b->bytes));
	memcpy(b->bytes + b->len, bytes, len);
	b->len += len;
}

static void
be(struct buf *b, uint64_t v, unsigned int bytes)
{
	while (bytes-- > 0)
		put(b, &(uint8_t){ (uint8_t)(v >> 8 * bytes) }, 1);
}

static void
be_2b(struct buf *b, const void *bytes, size_t len)
{
	be(b, len, 2);
	put(b, bytes, len);
}

/* ---- a TPM -------------------------------------------------------------------------------------- */

/* EK and AK are P-256 keys; the EK stores with AES-128-CFB, the AK signs with SHA-256. */
struct tpm {
	EVP_PKEY *ek, *ak;
	struct buf ek_area, ak_area; /* TPM2B_PUBLIC */
	uint64_t clock;
};

static void
make_area(struct buf *out, EVP_PKEY *key, bool stores)
{
	struct buf b = { .len = 0 };
	uint8_t point[65];
	size_t len = 0;

	be(&b, ATTEST_ALG_ECC, 2);
	be(&b, ATTEST_ALG_SHA256, 2);
	be(&b, BOUND | (stores ? ATTEST_OBJ_DECRYPT : ATTEST_OBJ_SIGN), 4);
	be(&b, 0, 2);
	be(&b, stores ? ATTEST_ALG_AES : ATTEST_ALG_NULL, 2);
	if (stores) {
		be(&b, 128, 2);
		be(&b, ATTEST_ALG_CFB, 2);
		be(&b, ATTEST_ALG_NULL, 2);
	} else {
		be(&b, ATTEST_ALG_ECDSA, 2);
		be(&b, ATTEST_ALG_SHA256, 2);
	}
	be(&b, ATTEST_CURVE_P256, 2);
	be(&b, ATTEST_ALG_NULL, 2);
	assert_int_equal(EVP_PKEY_get_octet_string_param(
	                     key, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, point, sizeof(point), &len),
	    1);
	be_2b(&b, point + 1, 32);
	be_2b(&b, point + 33, 32);
	out->len = 0;
	be_2b(out, b.bytes, b.len);
}

static void
tpm_make(struct tpm *t)
{
	t->ek = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	t->ak = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	t->clock = 1000;
	make_area(&t->ek_area, t->ek, true);
	make_area(&t->ak_area, t->ak, false);
}

static void
tpm_free(struct tpm *t)
{
	EVP_PKEY_free(t->ek);
	EVP_PKEY_free(t->ak);
}

/* TPM2_ActivateCredential (Part 1, 24 and C.6.4).  False: it was not made for this EK, or for another name. */
static bool
tpm_activate(const struct tpm *t, struct attest_bytes id, struct attest_bytes encrypted,
    struct attest_bytes name, uint8_t secret[32])
{
	const uint8_t *enc = id.at + 36;
	size_t enc_len = id.len - 36, z_len = 32;
	uint8_t point[65] = { 4 }, z[32], seed[32], k[32], mac[32], in[256], plain[64];
	EVP_PKEY *peer = EVP_PKEY_new();
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(t->ek, NULL);
	EVP_CIPHER_CTX *aes;
	unsigned int n = 0;
	int len = 0;

	memcpy(point + 1, encrypted.at + 4, 32);
	memcpy(point + 33, encrypted.at + 38, 32);
	EVP_PKEY_copy_parameters(peer, t->ek);
	assert_int_equal(EVP_PKEY_set1_encoded_public_key(peer, point, 65), 1);
	EVP_PKEY_derive_init(ctx);
	EVP_PKEY_derive_set_peer(ctx, peer);
	assert_true(EVP_PKEY_derive(ctx, z, &z_len) > 0);
	attest_kdfe(ATTEST_ALG_SHA256, (struct attest_bytes){ z, 32 }, "IDENTITY",
	    (struct attest_bytes){ point + 1, 32 },
	    (struct attest_bytes){ t->ek_area.bytes + t->ek_area.len - 66, 32 }, seed);
	EVP_PKEY_free(peer);
	EVP_PKEY_CTX_free(ctx);
	attest_kdfa(
	    ATTEST_ALG_SHA256, seed, 32, "INTEGRITY", (struct attest_bytes){ NULL, 0 }, 256, k);
	memcpy(in, enc, enc_len);
	memcpy(in + enc_len, name.at, name.len);
	HMAC(EVP_sha256(), k, 32, in, enc_len + name.len, mac, &n);
	if (memcmp(mac, id.at + 4, 32) != 0)
		return false;
	attest_kdfa(ATTEST_ALG_SHA256, seed, 32, "STORAGE", name, 128, k);
	aes = EVP_CIPHER_CTX_new();
	EVP_DecryptInit_ex(aes, EVP_aes_128_cfb128(), NULL, k, (const uint8_t[16]){ 0 });
	EVP_DecryptUpdate(aes, plain, &len, enc, (int)enc_len);
	EVP_CIPHER_CTX_free(aes);
	memcpy(secret, plain + 2, 32);
	return true;
}

/* TPM2_Quote over the PCRs of the SHA-256 bank in `mask`, which all hold zeroes. */
static void
tpm_quote(struct tpm *t, const uint8_t extra[32], uint32_t mask, struct buf *message,
    struct buf *signature, struct buf *values)
{
	static const uint8_t zero[32];
	struct attest_bytes part[ATTEST_NB_PCRS];
	uint8_t digest[ATTEST_DIGEST_MAX], signer[34] = { 0, 11 }, raw[80], number[32];
	size_t n = 0, len = sizeof(raw);
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(t->ak, NULL);
	const uint8_t *p = raw;
	ECDSA_SIG *s;

	*values = (struct buf){ .len = 0 };
	put(values, "{\"sha256\":{", 11);
	for (unsigned int i = 0; i < ATTEST_NB_PCRS; i++) {
		char text[100];

		if ((mask >> i & 1) == 0)
			continue;
		put(values, text,
		    (size_t)snprintf(
		        text, sizeof(text), "%s\"%u\":\"%064d\"", n > 0 ? "," : "", i, 0));
		part[n++] = (struct attest_bytes){ zero, 32 };
	}
	put(values, "}}", 2);
	attest_hash(NULL, ATTEST_ALG_SHA256, part, n, digest);
	*message = (struct buf){ .len = 0 };
	be(message, ATTEST_TPM_GENERATED, 4);
	be(message, ATTEST_TPM_ST_QUOTE, 2);
	be_2b(message, signer, sizeof(signer));
	be_2b(message, extra, 32);
	be(message, ++t->clock, 8);
	be(message, 1, 4);
	be(message, 0, 4);
	be(message, 1, 1);
	be(message, 1, 8);
	be(message, 1, 4);
	be(message, ATTEST_ALG_SHA256, 2);
	be(message, 3, 1);
	for (unsigned int i = 0; i < 3; i++)
		be(message, mask >> 8 * i & 0xff, 1);
	be_2b(message, digest, 32);
	attest_hash(NULL, ATTEST_ALG_SHA256, &(struct attest_bytes){ message->bytes, message->len },
	    1, digest);
	assert_true(EVP_PKEY_sign_init(ctx) > 0 && EVP_PKEY_sign(ctx, raw, &len, digest, 32) > 0);
	EVP_PKEY_CTX_free(ctx);
	s = d2i_ECDSA_SIG(NULL, &p, (long)len);
	*signature = (struct buf){ .len = 0 };
	be(signature, ATTEST_ALG_ECDSA, 2);
	be(signature, ATTEST_ALG_SHA256, 2);
	BN_bn2binpad(ECDSA_SIG_get0_r(s), number, 32);
	be_2b(signature, number, 32);
	BN_bn2binpad(ECDSA_SIG_get0_s(s), number, 32);
	be_2b(signature, number, 32);
	ECDSA_SIG_free(s);
}

/* ---- a host, and the verifier in front of it ----------------------------------------------------- */

struct verifier {
	struct attestd_conf conf;
	char name[32], dir[64], reference[96], any[1];
	struct attest_dpu *dpu;
	unsigned int state;
	bool attested;
};

struct host {
	struct tpm tpm;
	struct verifier *v;
	struct attest_channel *channel; /* NULL: turned away, or hung up */
	struct attest_binding binding;
	uint8_t *inbox; /* the last message; answered when the test says so */
	size_t inbox_len;
	uint8_t (*nonces)[ATTEST_NONCE_LEN]; /* of challenges, when they are kept */
	size_t nb_nonces, room;
	unsigned int verdicts;
};

static struct event_base *base;
static struct pk_helper *helper;
static char top[64];

static void
on_posture(void *arg, const struct pk_msg_posture *p)
{
	struct verifier *v = arg;

	v->state = p->state;
	v->attested = p->attested != 0;
}

static void
verifier_make(struct verifier *v, unsigned int number, uint64_t interval_ns)
{
	struct attest_dpu_within within = { .posture = on_posture, .arg = v };
	struct pk_diag diag = { .text = "" };
	FILE *f;

	if (helper == NULL)
		assert_int_equal(pk_helper_create(&helper, base, "appraisal", &diag), 0);
	within.helper = helper;

	*v = (struct verifier){ 0 };
	snprintf(v->name, sizeof(v->name), "dpu%u", number);
	snprintf(v->dir, sizeof(v->dir), "%.40s/%u", top, number);
	snprintf(v->reference, sizeof(v->reference), "%s/reference.json", v->dir);
	assert_int_equal(mkdir(v->dir, 0700), 0);
	f = fopen(v->reference, "w");
	assert_non_null(f);
	fputs("{\"version\": 1, \"layers\": [\"quote\"]}", f);
	fclose(f);
	v->conf = (struct attestd_conf){ .state_dir = v->dir,
		.host = v->any,
		.reference = v->reference,
		.enrol = ATTESTD_ENROL_FIRST,
		.interval_ns = interval_ns,
		.answer_ns = 60 * PK_NS_PER_S,
		.lease_ns = 120 * PK_NS_PER_S,
		.missed_max = 3,
		.recover_rounds = 2,
		.evidence_max = 1 << 20 };
	within.name = v->name;
	if (attest_dpu_create_within(&v->dpu, base, &v->conf, &within, &diag) != 0)
		fail_msg("%s", diag.text);
}

/* In the order in which a server ends: what is being judged has no consequences, then ends, then goes. */
static void
verifiers_end(struct verifier *v, unsigned int nb)
{
	for (unsigned int i = 0; i < nb; i++)
		attest_dpu_stop(v[i].dpu);
	pk_helper_destroy(helper);
	helper = NULL;
	for (unsigned int i = 0; i < nb; i++)
		attest_dpu_destroy(v[i].dpu);
}

static int
carry(void *arg, const uint8_t *bytes, size_t len)
{
	struct host *h = arg;

	if (bytes[5] == ATTEST_MESSAGE_VERDICT) {
		h->verdicts++;
		return 0;
	}
	free(h->inbox);
	h->inbox = malloc(len);
	memcpy(h->inbox, bytes, len);
	h->inbox_len = len;
	return 0;
}

static void
hang_up(void *arg)
{
	struct host *h = arg;

	h->channel = NULL;
}

static void
say(struct host *h, const struct attest_message *m)
{
	struct pk_diag diag;
	uint8_t *bytes;
	size_t len;

	assert_int_equal(attest_message_pack(&bytes, &len, m, &diag), 0);
	if (h->channel != NULL)
		attest_channel_deliver(h->channel, bytes, len);
	free(bytes);
}

/* Connect to `v` under this name.  False: there is no place. */
static bool
host_connect(struct host *h, struct verifier *v, const char *name)
{
	struct attest_carrier by = { carry, hang_up, h };
	struct attest_message m = { .type = ATTEST_MESSAGE_HELLO };
	struct attest_public ak;
	struct pk_diag diag;

	*h = (struct host){ .v = v, .tpm = h->tpm };
	strcpy(h->binding.host, name);
	strcpy(h->binding.dpu, v->name);
	memset(h->binding.exporter, 7, 32);
	memset(h->binding.dpu_key, 9, 32);
	assert_int_equal(
	    attest_public_parse(&ak, h->tpm.ak_area.bytes, h->tpm.ak_area.len, &diag), 0);
	h->binding.ak_name_len = attest_public_name(&ak, h->binding.ak_name);
	h->channel = attest_dpu_carried(v->dpu, &by, &h->binding);
	if (h->channel == NULL)
		return false;
	m.field[ATTEST_FIELD_HOST] = (struct attest_bytes){ (const uint8_t *)name, strlen(name) };
	m.field[ATTEST_FIELD_EK_PUBLIC] =
	    (struct attest_bytes){ h->tpm.ek_area.bytes, h->tpm.ek_area.len };
	m.field[ATTEST_FIELD_AK_PUBLIC] =
	    (struct attest_bytes){ h->tpm.ak_area.bytes, h->tpm.ak_area.len };
	say(h, &m);
	return true;
}

/* Answer what has come, as a program that holds the TPM would.  False: nothing has. */
static bool
host_answer(struct host *h)
{
	struct attest_message in, m = { 0 };
	uint8_t *bytes = h->inbox, secret[32], qualifying[32], store[8];
	struct buf quote, sig, values;
	struct attest_selection s;
	struct pk_diag diag;

	if (bytes == NULL)
		return false;
	h->inbox = NULL;
	assert_int_equal(attest_message_parse(&in, bytes, h->inbox_len, &diag), 0);
	if (in.type == ATTEST_MESSAGE_ACTIVATE) {
		assert_true(tpm_activate(&h->tpm, in.field[ATTEST_FIELD_ID_OBJECT],
		    in.field[ATTEST_FIELD_ENCRYPTED],
		    (struct attest_bytes){ h->binding.ak_name, h->binding.ak_name_len }, secret));
		m.type = ATTEST_MESSAGE_ACTIVATED;
		m.field[ATTEST_FIELD_SECRET] = (struct attest_bytes){ secret, 32 };
	} else {
		assert_int_equal(in.type, ATTEST_MESSAGE_CHALLENGE);
		if (h->nb_nonces < h->room)
			memcpy(h->nonces[h->nb_nonces++], in.field[ATTEST_FIELD_NONCE].at,
			    ATTEST_NONCE_LEN);
		attest_message_selection(&in, &s);
		assert_int_equal(s.nb_banks, 1);
		assert_int_equal(attest_qualifying_data(
		                     &h->binding, in.field[ATTEST_FIELD_NONCE].at, qualifying),
		    0);
		tpm_quote(&h->tpm, qualifying, s.bank[0].mask, &quote, &sig, &values);
		m.type = ATTEST_MESSAGE_EVIDENCE;
		attest_message_set_number(&m, ATTEST_FIELD_IMA_FROM, 0, store);
		m.field[ATTEST_FIELD_QUOTE] = (struct attest_bytes){ quote.bytes, quote.len };
		m.field[ATTEST_FIELD_SIGNATURE] = (struct attest_bytes){ sig.bytes, sig.len };
		m.field[ATTEST_FIELD_PCR_VALUES] =
		    (struct attest_bytes){ values.bytes, values.len };
	}
	say(h, &m);
	free(bytes);
	return true;
}

static void
host_free(struct host *h)
{
	if (h->channel != NULL)
		attest_dpu_went(h->v->dpu, h->channel);
	tpm_free(&h->tpm);
	free(h->inbox);
	free(h->nonces);
}

/* ---- tests -------------------------------------------------------------------------------------- */

#define HOSTS 100

static int
begin(void **state)
{
	(void)state;
	strcpy(top, "/tmp/attest-verifier-XXXXXX");
	assert_non_null(mkdtemp(top));
	base = event_base_new();
	return base != NULL ? 0 : -1;
}

static int
end(void **state)
{
	char command[128];

	(void)state;
	event_base_free(base);
	snprintf(command, sizeof(command), "rm -rf %s", top);
	return system(command);
}

/* A hundred TPMs claim to be the same host at the same time: one of them is, and stays it. */
static void
test_one_of_many(void **state)
{
	static struct host host[HOSTS];
	static struct verifier v;
	unsigned int waiting = 0, in = 0;
	int first = -1;

	(void)state;
	verifier_make(&v, 0, 3600 * PK_NS_PER_S);
	for (int i = 0; i < HOSTS; i++) {
		tpm_make(&host[i].tpm);
		/* A few have places; nobody else gets as far as a credential. */
		waiting += host_connect(&host[i], &v, "host") && host[i].inbox != NULL;
	}
	assert_true(waiting >= 2 && waiting < HOSTS);
	/* The last to come is the first to answer. */
	for (int i = HOSTS - 1; i >= 0; i--)
		if (host[i].inbox != NULL) {
			(void)host_answer(&host[i]);
			if (host[i].channel != NULL) {
				in++;
				first = i;
			}
		}
	assert_int_equal(in, 1);
	assert_int_equal(v.state, ATTEST_STATE_ENROLLED);
	/* Whoever comes later, and has another TPM, is not even sent a credential. */
	for (int i = 0; i < HOSTS; i++) {
		if (i == first)
			continue;
		free(host[i].inbox);
		(void)host_connect(&host[i], &v, "host");
		assert_null(host[i].channel);
		assert_null(host[i].inbox);
	}
	/* The one that enrolled may come back, and is who it was. */
	attest_dpu_went(v.dpu, host[first].channel);
	free(host[first].inbox);
	assert_true(host_connect(&host[first], &v, "host"));
	assert_true(host_answer(&host[first]));
	assert_non_null(host[first].channel);
	for (int i = 0; i < HOSTS; i++)
		host_free(&host[i]);
	verifiers_end(&v, 1);
}

/* A hundred hosts, each with a verifier of its own in one server, enrol at the same time and are trusted. */
static void
test_many(void **state)
{
	static struct verifier v[HOSTS];
	static struct host host[HOSTS];
	uint64_t until = pk_clock_mono_ns() + 100 * PK_NS_PER_S;
	unsigned int trusted = 0;

	(void)state;
	for (unsigned int i = 0; i < HOSTS; i++) {
		char name[32];

		verifier_make(&v[i], i + 1, 3600 * PK_NS_PER_S);
		tpm_make(&host[i].tpm);
		snprintf(name, sizeof(name), "host%u", i);
		assert_true(host_connect(&host[i], &v[i], name));
	}
	while (trusted < HOSTS && pk_clock_mono_ns() < until) {
		trusted = 0;
		for (unsigned int i = 0; i < HOSTS; i++) {
			(void)host_answer(&host[i]);
			trusted += v[i].attested && v[i].state == ATTEST_STATE_TRUSTED;
		}
		event_base_loop(base, EVLOOP_NONBLOCK);
	}
	assert_int_equal(trusted, HOSTS);
	for (unsigned int i = 0; i < HOSTS; i++) {
		assert_int_equal(host[i].verdicts, 1);
		host_free(&host[i]);
	}
	verifiers_end(v, HOSTS);
}

/* A TPM that takes longer than the interval is asked again when it has answered, and stays trusted. */
static void
test_slow(void **state)
{
	static struct verifier v;
	static struct host h;
	uint64_t until = pk_clock_mono_ns() + 20 * PK_NS_PER_S, came = 0;

	(void)state;
	verifier_make(&v, HOSTS + 2, 10 * PK_NS_PER_MS);
	tpm_make(&h.tpm);
	assert_true(host_connect(&h, &v, "host"));
	while (h.verdicts < 5 && pk_clock_mono_ns() < until) {
		uint64_t now = pk_clock_mono_ns();

		if (h.inbox == NULL) {
			came = now;
		} else if (now - came > 40 * PK_NS_PER_MS) {
			assert_true(host_answer(&h));
			came = now;
		}
		event_base_loop(base, EVLOOP_NONBLOCK);
		usleep(1000);
	}
	assert_true(h.verdicts >= 5);
	assert_int_equal(v.state, ATTEST_STATE_TRUSTED);
	assert_true(v.attested);
	host_free(&h);
	verifiers_end(&v, 1);
}

static int
by_bytes(const void *a, const void *b)
{
	return memcmp(a, b, ATTEST_NONCE_LEN);
}

/* Ten thousand challenges: no nonce twice, and none with bytes that stay the same. */
static void
test_nonces(void **state)
{
	enum {
		NONCES = 10000
	};
	uint64_t until = pk_clock_mono_ns() + 100 * PK_NS_PER_S;
	unsigned int bits[8 * ATTEST_NONCE_LEN] = { 0 };
	static struct verifier v;
	static struct host h;

	(void)state;
	verifier_make(&v, HOSTS + 1, PK_NS_PER_US);
	tpm_make(&h.tpm);
	assert_true(host_connect(&h, &v, "host"));
	h.nonces = calloc(NONCES, sizeof(h.nonces[0]));
	h.room = NONCES;
	while (h.nb_nonces < NONCES && pk_clock_mono_ns() < until) {
		if (!host_answer(&h))
			event_base_loop(base, EVLOOP_ONCE);
	}
	assert_int_equal(h.nb_nonces, NONCES);
	assert_true(v.attested); /* every answer was good for its challenge */
	qsort(h.nonces, NONCES, sizeof(h.nonces[0]), by_bytes);
	for (unsigned int i = 0; i < NONCES; i++) {
		assert_true(i == 0 || by_bytes(h.nonces[i - 1], h.nonces[i]) != 0);
		for (unsigned int b = 0; b < 8 * ATTEST_NONCE_LEN; b++)
			bits[b] += h.nonces[i][b / 8] >> b % 8 & 1;
	}
	/* Each bit is set in half of them, give or take six standard deviations. */
	for (unsigned int b = 0; b < 8 * ATTEST_NONCE_LEN; b++)
		assert_true(bits[b] > NONCES / 2 - 300 && bits[b] < NONCES / 2 + 300);
	host_free(&h);
	verifiers_end(&v, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_of_many),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_slow),
		cmocka_unit_test(test_nonces),
	};

	return cmocka_run_group_tests_name("attest_verifier", tests, begin, end);
}
