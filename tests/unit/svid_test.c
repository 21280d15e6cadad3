#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "lib/svid_trust.h"
#include "lib/svid_wire.h"
#include "policy/server/ca.h"
#include "policy/server/issuer.h"

/*
 * Whom to believe (X509-SVID, SPIFFE-ID): leaves of every wrong shape, made here with openssl's own functions by the
 * authority's own key, so that nothing but their shape is against them; and what the issuer makes of requests.
 */
#define DOMAIN "demo.example"
#define NOW    1800000000

static char dir[] = "/tmp/picket-svid-XXXXXX";
static char ca_dir[128];
static struct server_issuer *issuer;
static struct pk_svid_trust *trust;
static X509 *root;
static EVP_PKEY *root_key;

static void *
pem(const char *file, bool key)
{
	char path[256];
	void *out;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", ca_dir, file);
	f = fopen(path, "re");
	assert_non_null(f);
	out = key ? (void *)PEM_read_PrivateKey(f, NULL, NULL, NULL)
	          : (void *)PEM_read_X509(f, NULL, NULL, NULL);
	fclose(f);
	assert_non_null(out);
	return out;
}

static int
setup(void **state)
{
	const char *names[] = { "localhost" };
	const uint8_t *bundle;
	struct pk_diag diag;
	char ca[256];
	size_t len;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(ca_dir, sizeof(ca_dir), "%s/ca", dir);
	assert_int_equal(server_ca_init(ca_dir, DOMAIN, names, 1, NULL, &diag), 0);
	assert_int_equal(server_ca_init_gm(ca_dir, NULL, &diag), 0);
	snprintf(ca, sizeof(ca), "%s/ca.crt", ca_dir);
	assert_int_equal(server_issuer_open(&issuer, ca_dir, ca, DOMAIN, &diag), 0);
	assert_int_equal(pk_svid_trust_create(&trust), 0);
	bundle = server_issuer_bundle(issuer, &len);
	assert_int_equal(pk_svid_trust_set_bundle(trust, DOMAIN, bundle, len, &diag), 0);
	root = pem("ca.crt", false);
	root_key = pem("ca.key", true);
	return 0;
}

static int
teardown(void **state)
{
	char command[256];

	(void)state;
	X509_free(root);
	EVP_PKEY_free(root_key);
	pk_svid_trust_destroy(trust);
	server_issuer_close(issuer);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

/* ---- leaves of any shape ---- */

struct shape {
	const char *what;
	const char *san, *basic, *usage, *extended, *binding;
	long from, to; /* seconds around now */
	enum pk_svid_verdict want;
	const char *says;
};

#define SAN     "critical,URI:spiffe://" DOMAIN "/ns/shop/sa/web"
#define BASIC   "critical,CA:FALSE"
#define USAGE   "critical,digitalSignature"
#define BOTH    "serverAuth,clientAuth"
#define BINDING "dpu=dpu1,epoch=7,issued=1700000000"

static void
extend(X509 *cert, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;

	if (value == NULL)
		return;
	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, root, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(ext);
	assert_int_equal(X509_add_ext(cert, ext, -1), 1);
	X509_EXTENSION_free(ext);
}

static void
bind(X509 *cert, const char *text)
{
	ASN1_OBJECT *oid = OBJ_txt2obj(PK_SVID_BINDING_OID, 1);
	ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
	ASN1_UTF8STRING *s = ASN1_UTF8STRING_new();
	X509_EXTENSION *ext;
	uint8_t *der = NULL;
	int len;

	if (text != NULL) {
		assert_int_equal(ASN1_STRING_set(s, text, -1), 1);
		len = i2d_ASN1_UTF8STRING(s, &der);
		assert_true(len > 0);
		assert_int_equal(ASN1_OCTET_STRING_set(value, der, len), 1);
		ext = X509_EXTENSION_create_by_OBJ(NULL, oid, 0, value);
		assert_int_equal(X509_add_ext(cert, ext, -1), 1);
		X509_EXTENSION_free(ext);
	}
	OPENSSL_free(der);
	ASN1_UTF8STRING_free(s);
	ASN1_OCTET_STRING_free(value);
	ASN1_OBJECT_free(oid);
}

static X509 *
leaf_of(const struct shape *s, EVP_PKEY *signer)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_NAME *name = X509_NAME_new();

	assert_true(key != NULL && cert != NULL && name != NULL);
	X509_set_version(cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 4711);
	ASN1_TIME_set(X509_getm_notBefore(cert), NOW + s->from);
	ASN1_TIME_set(X509_getm_notAfter(cert), NOW + s->to);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const uint8_t *)"leaf", -1, -1, 0);
	X509_set_subject_name(cert, name);
	X509_set_issuer_name(cert, X509_get_subject_name(root));
	X509_set_pubkey(cert, key);
	extend(cert, NID_basic_constraints, s->basic);
	extend(cert, NID_key_usage, s->usage);
	extend(cert, NID_ext_key_usage, s->extended);
	extend(cert, NID_subject_key_identifier, "hash");
	extend(cert, NID_authority_key_identifier, "keyid:always");
	extend(cert, NID_subject_alt_name, s->san);
	bind(cert, s->binding);
	assert_true(X509_sign(cert, signer, EVP_sha256()) > 0);
	X509_NAME_free(name);
	EVP_PKEY_free(key);
	return cert;
}

static void
test_shapes(void **state)
{
	char longest[2200] = "critical,URI:spiffe://" DOMAIN "/ns/shop/sa/";
	struct shape shapes[] = {
		{ "one of ours", SAN, BASIC, USAGE, BOTH, BINDING, -60, 600, PK_SVID_TRUSTED, "" },
		{ "without extended usages (X509-SVID, 4.4)", SAN, BASIC, USAGE, NULL, BINDING, -60,
		    600, PK_SVID_TRUSTED, "" },
		{ "no URI", "critical,DNS:web.example", BASIC, USAGE, BOTH, BINDING, -60, 600,
		    PK_SVID_REFUSED, "exactly one URI" },
		{ "two URIs (X509-SVID, 2)", SAN ",URI:spiffe://" DOMAIN "/ns/shop/sa/db", BASIC,
		    USAGE, BOTH, BINDING, -60, 600, PK_SVID_REFUSED, "exactly one URI" },
		{ "a DNS name beside it", SAN ",DNS:web.example", BASIC, USAGE, BOTH, BINDING, -60,
		    600, PK_SVID_TRUSTED, "" },
		{ "an authority (X509-SVID, 4.1)", SAN, "critical,CA:TRUE",
		    "critical,digitalSignature", BOTH, BINDING, -60, 600, PK_SVID_REFUSED,
		    "authority" },
		{ "keyCertSign (X509-SVID, 4.3)", SAN, BASIC,
		    "critical,digitalSignature,keyCertSign", BOTH, BINDING, -60, 600,
		    PK_SVID_REFUSED, "may sign certificates" },
		{ "cRLSign", SAN, BASIC, "critical,digitalSignature,cRLSign", BOTH, BINDING, -60,
		    600, PK_SVID_REFUSED, "may sign certificates" },
		{ "no digitalSignature", SAN, BASIC, "critical,keyAgreement", BOTH, BINDING, -60,
		    600, PK_SVID_REFUSED, "not be used for signatures" },
		{ "no key usage at all", SAN, BASIC, NULL, BOTH, BINDING, -60, 600, PK_SVID_REFUSED,
		    "not be used for signatures" },
		{ "for servers only", SAN, BASIC, USAGE, "serverAuth", BINDING, -60, 600,
		    PK_SVID_REFUSED, "both ends" },
		{ "for mail", SAN, BASIC, USAGE, "emailProtection", BINDING, -60, 600,
		    PK_SVID_REFUSED, "both ends" },
		{ "another domain", "critical,URI:spiffe://other.example/ns/shop/sa/web", BASIC,
		    USAGE, BOTH, BINDING, -60, 600, PK_SVID_REFUSED, "neither" },
		{ "the domain as a prefix", "critical,URI:spiffe://" DOMAIN ".evil/ns/shop/sa/web",
		    BASIC, USAGE, BOTH, BINDING, -60, 600, PK_SVID_REFUSED, "neither" },
		{ "an upper-case domain (SPIFFE-ID, 2.1)",
		    "critical,URI:spiffe://Demo.example/ns/shop/sa/web", BASIC, USAGE, BOTH,
		    BINDING, -60, 600, PK_SVID_REFUSED, "neither" },
		{ "an upper-case scheme", "critical,URI:SPIFFE://" DOMAIN "/ns/shop/sa/web", BASIC,
		    USAGE, BOTH, BINDING, -60, 600, PK_SVID_REFUSED, "neither" },
		{ "percent-encoding (SPIFFE-ID, 2.2)",
		    "critical,URI:spiffe://" DOMAIN "/ns/shop/sa/w%65b", BASIC, USAGE, BOTH,
		    BINDING, -60, 600, PK_SVID_REFUSED, "neither" },
		{ "a slash at the end", "critical,URI:spiffe://" DOMAIN "/ns/shop/sa/web/", BASIC,
		    USAGE, BOTH, BINDING, -60, 600, PK_SVID_REFUSED, "neither" },
		{ "an empty segment", "critical,URI:spiffe://" DOMAIN "/ns//sa/web", BASIC, USAGE,
		    BOTH, BINDING, -60, 600, PK_SVID_REFUSED, "neither" },
		{ "dots", "critical,URI:spiffe://" DOMAIN "/ns/../sa/web", BASIC, USAGE, BOTH,
		    BINDING, -60, 600, PK_SVID_REFUSED, "neither" },
		{ "a query", "critical,URI:spiffe://" DOMAIN "/ns/shop/sa/web?x", BASIC, USAGE,
		    BOTH, BINDING, -60, 600, PK_SVID_REFUSED, "neither" },
		{ "the domain alone", "critical,URI:spiffe://" DOMAIN, BASIC, USAGE, BOTH, BINDING,
		    -60, 600, PK_SVID_REFUSED, "neither" },
		{ "an operator", "critical,URI:spiffe://" DOMAIN "/operator/admin", BASIC, USAGE,
		    BOTH, BINDING, -60, 600, PK_SVID_REFUSED, "neither" },
		{ "longer than 2048 bytes (SPIFFE-ID, 2.3)", longest, BASIC, USAGE, BOTH, BINDING,
		    -60, 600, PK_SVID_REFUSED, "" },
		{ "expired", SAN, BASIC, USAGE, BOTH, BINDING, -600, -1, PK_SVID_UNTRUSTED,
		    "expired" },
		{ "not yet", SAN, BASIC, USAGE, BOTH, BINDING, 60, 600, PK_SVID_UNTRUSTED,
		    "not yet" },
		{ "no binding", SAN, BASIC, USAGE, BOTH, NULL, -60, 600, PK_SVID_REFUSED,
		    "which DPU" },
		{ "a binding with more", SAN, BASIC, USAGE, BOTH, BINDING ",x=1", -60, 600,
		    PK_SVID_REFUSED, "which DPU" },
		{ "a binding with other numbers", SAN, BASIC, USAGE, BOTH,
		    "dpu=dpu1,epoch=07,issued=1", -60, 600, PK_SVID_REFUSED, "which DPU" },
		{ "a DPU's own", "critical,URI:spiffe://" DOMAIN "/dpu/dpu1", BASIC, USAGE, BOTH,
		    BINDING, -60, 600, PK_SVID_TRUSTED, "" },
		{ "a DPU's own, issued to another", "critical,URI:spiffe://" DOMAIN "/dpu/dpu2",
		    BASIC, USAGE, BOTH, BINDING, -60, 600, PK_SVID_REFUSED, "which DPU" },
	};

	(void)state;
	for (size_t n = strlen(longest); n < sizeof(longest) - 1; n++)
		longest[n] = n % 50 == 0 ? '.' : 'a';
	for (size_t i = 0; i < PK_COUNT(shapes); i++) {
		X509 *leaf = leaf_of(&shapes[i], root_key);
		struct pk_diag diag = { "" };
		struct pk_svid_peer peer;
		enum pk_svid_verdict got = pk_svid_verify(trust, leaf, NULL, NOW, &peer, &diag);

		if (got != shapes[i].want || strstr(diag.text, shapes[i].says) == NULL)
			fail_msg("%s: verdict %d: %s", shapes[i].what, (int)got, diag.text);
		X509_free(leaf);
	}
}

/* The right shape by the wrong key, under the right name. */
static void
test_foreign(void **state)
{
	const struct shape s = { "", SAN, BASIC, USAGE, BOTH, BINDING, -60, 600, 0, "" };
	EVP_PKEY *other = EVP_EC_gen("P-256");
	X509 *leaf = leaf_of(&s, other);
	struct pk_svid_trust *empty;
	struct pk_svid_peer peer;
	struct pk_diag diag;

	(void)state;
	assert_int_equal(pk_svid_verify(trust, leaf, NULL, NOW, &peer, &diag), PK_SVID_UNTRUSTED);
	X509_free(leaf);
	leaf = leaf_of(&s, root_key);
	assert_int_equal(pk_svid_trust_create(&empty), 0);
	assert_int_equal(pk_svid_verify(empty, leaf, NULL, NOW, &peer, &diag), PK_SVID_UNTRUSTED);
	assert_int_equal(
	    pk_svid_trust_set_bundle(empty, DOMAIN, (const uint8_t *)"\x30\x03", 2, &diag),
	    -EINVAL);
	pk_svid_trust_destroy(empty);
	X509_free(leaf);
	EVP_PKEY_free(other);
}

/* Below an intermediate that came with the leaf and is none of the bundle's: pathlen 0 forbids it. */
static void
test_intermediate(void **state)
{
	const struct shape middle = { "", "critical,URI:spiffe://" DOMAIN, "critical,CA:TRUE",
		"critical,keyCertSign", NULL, NULL, -60, 600, 0, "" };
	const struct shape s = { "", SAN, BASIC, USAGE, BOTH, BINDING, -60, 600, 0, "" };
	STACK_OF(X509) *chain = sk_X509_new_null();
	X509 *between = leaf_of(&middle, root_key), *kept = root, *leaf;
	EVP_PKEY *key = EVP_EC_gen("P-256");
	struct pk_svid_peer peer;
	struct pk_diag diag;

	(void)state;
	X509_set_pubkey(between, key);
	assert_true(X509_sign(between, root_key, EVP_sha256()) > 0);
	root = between;
	leaf = leaf_of(&s, key);
	root = kept;
	sk_X509_push(chain, between);
	assert_int_equal(pk_svid_verify(trust, leaf, chain, NOW, &peer, &diag), PK_SVID_UNTRUSTED);
	sk_X509_free(chain);
	X509_free(leaf);
	X509_free(between);
	EVP_PKEY_free(key);
}

/* ---- revocation ---- */

static void
test_revocation(void **state)
{
	struct pk_svid_trust *t;
	struct pk_svid_peer web = { .workload = "shop/web",
		.binding = { .dpu = "dpu1", .epoch = 7, .issued_s = 1000 } };
	struct pk_svid_peer own = { .workload = "",
		.binding = { .dpu = "dpu1", .issued_s = 1000 } };
	struct pk_svid_revocation host = { PK_SVID_REVOKED_HOST, "dpu1", 1000, 5000 };
	struct pk_svid_revocation dpu = { PK_SVID_REVOKED_DPU, "dpu1", 2000, 5000 };
	struct pk_svid_revocation other = { PK_SVID_REVOKED_WORKLOAD, "shop/db", 9000, 9000 };
	static uint8_t bytes[PK_SVID_BYTES_MAX];
	struct pk_svid_trust *copy;
	size_t at = 0, len;

	(void)state;
	assert_int_equal(pk_svid_trust_create(&t), 0);
	assert_int_equal(pk_svid_trust_revoke(t, &other), 0);
	assert_false(pk_svid_is_revoked(t, &web));
	assert_int_equal(pk_svid_trust_revoke(t, &host), 0);
	assert_true(pk_svid_is_revoked(t, &web)); /* issued in that very second */
	assert_false(pk_svid_is_revoked(t, &own));
	web.binding.issued_s = 1001;
	assert_false(pk_svid_is_revoked(t, &web));
	host.issued_until_s = 900; /* what was said once is not taken back */
	assert_int_equal(pk_svid_trust_revoke(t, &host), 0);
	web.binding.issued_s = 1000;
	assert_true(pk_svid_is_revoked(t, &web));
	assert_int_equal(pk_svid_trust_count(t), 2);
	assert_int_equal(pk_svid_trust_revoke(t, &dpu), 0);
	assert_true(pk_svid_is_revoked(t, &own));
	web.binding.issued_s = 2000;
	assert_true(pk_svid_is_revoked(t, &web));
	strcpy(web.binding.dpu, "dpu2");
	assert_false(pk_svid_is_revoked(t, &web));
	/* Over the wire and back. */
	len = pk_svid_revocations_pack(bytes, t, &at);
	assert_int_equal(at, 3);
	assert_int_equal(pk_svid_trust_create(&copy), 0);
	assert_int_equal(pk_svid_revocations_take(copy, bytes, len), 0);
	assert_int_equal(pk_svid_trust_count(copy), 3);
	assert_true(pk_svid_is_revoked(copy, &own));
	for (size_t cut = 1; cut < len; cut++) {
		struct pk_svid_trust *part;
		int err;

		assert_int_equal(pk_svid_trust_create(&part), 0);
		err = pk_svid_revocations_take(part, bytes, cut);
		assert_true(err == -EPROTO || pk_svid_trust_count(part) < 3);
		pk_svid_trust_destroy(part);
	}
	pk_svid_trust_expire(copy, 5000);
	assert_int_equal(pk_svid_trust_count(copy), 1);
	pk_svid_trust_destroy(copy);
	/* Ten thousand hosts, in any order. */
	for (int i = 0; i < 10000; i++) {
		struct pk_svid_revocation r = { PK_SVID_REVOKED_HOST, "", 1, 9000 };

		snprintf(r.name, sizeof(r.name), "h%d", i * 7919 % 10000);
		assert_int_equal(pk_svid_trust_revoke(t, &r), 0);
	}
	assert_int_equal(pk_svid_trust_count(t), 10003);
	snprintf(own.binding.dpu, sizeof(own.binding.dpu), "h4711");
	strcpy(own.workload, "a/b");
	own.binding.issued_s = 1;
	assert_true(pk_svid_is_revoked(t, &own));
	pk_svid_trust_destroy(t);
}

static void
test_wire(void **state)
{
	static uint8_t bytes[PK_SVID_WIRE_MAX];
	struct pk_svid_message m = { .type = PK_SVID_MESSAGE_SVID,
		.not_after_s = 77,
		.epoch = 8,
		.workload = "shop/web",
		.id = "spiffe://x/y",
		.bytes = (const uint8_t *)"certificates",
		.len = 12 };
	struct pk_svid_message back;
	struct pk_diag diag;
	size_t len = pk_svid_message_pack(bytes, &m);

	(void)state;
	assert_int_equal(pk_svid_message_parse(&back, bytes, len, &diag), 0);
	assert_string_equal(back.workload, m.workload);
	assert_string_equal(back.id, m.id);
	assert_int_equal(back.len, 12);
	assert_int_equal(back.not_after_s, 77);
	for (size_t cut = 0; cut < len; cut++)
		assert_int_equal(pk_svid_message_parse(&back, bytes, cut, &diag), -EPROTO);
	assert_int_equal(pk_svid_message_parse(&back, bytes, len + 1, &diag), -EPROTO);
	bytes[0]++;
	assert_int_equal(pk_svid_message_parse(&back, bytes, len, &diag), -EPROTO);
	bytes[0]--;
	bytes[1] = PK_SVID_MESSAGE_COUNT;
	assert_int_equal(pk_svid_message_parse(&back, bytes, len, &diag), -EPROTO);
	m.len = PK_SVID_BYTES_MAX + 1;
	assert_int_equal(pk_svid_message_pack(bytes, &m), 0);
}

/* ---- the issuer ---- */

static uint8_t *
request(EVP_PKEY *key, EVP_PKEY *signer, const EVP_MD *md, int *len)
{
	X509_REQ *req = X509_REQ_new();
	uint8_t *der = NULL;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *by = EVP_PKEY_CTX_new(signer, NULL);

	X509_REQ_set_version(req, X509_REQ_VERSION_1);
	X509_REQ_set_pubkey(req, key);
	if (EVP_PKEY_is_a(signer, "SM2")) {
		EVP_PKEY_CTX_set1_id(by, PK_SVID_SM2_ID, (int)strlen(PK_SVID_SM2_ID));
		EVP_MD_CTX_set_pkey_ctx(ctx, by);
	}
	assert_int_equal(EVP_DigestSignInit(ctx, NULL, md, NULL, signer), 1);
	assert_true(X509_REQ_sign_ctx(req, ctx) > 0);
	*len = i2d_X509_REQ(req, &der);
	assert_true(*len > 0);
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_CTX_free(by);
	X509_REQ_free(req);
	return der;
}

static X509 *
issued(EVP_PKEY *key, EVP_PKEY *signer, const EVP_MD *md, const char *workload, int want,
    struct pk_diag *diag)
{
	const struct pk_svid_binding b = { "dpu1", 7, NOW };
	uint8_t *der = NULL;
	const uint8_t *p;
	size_t der_len = 0;
	X509 *cert = NULL;
	int len;
	uint8_t *csr = request(key, signer, md, &len);

	assert_int_equal(
	    server_issuer_sign(issuer, csr, (size_t)len, workload, &b, 600, &der, &der_len, diag),
	    want);
	if (want == 0) {
		p = der;
		cert = d2i_X509(NULL, &p, (long)der_len);
		assert_non_null(cert);
		free(der);
	}
	OPENSSL_free(csr);
	return cert;
}

static void
test_issue(void **state)
{
	EVP_PKEY *key = EVP_EC_gen("P-256"), *other = EVP_EC_gen("P-256");
	EVP_PKEY *rsa = EVP_RSA_gen(2048), *sm2 = EVP_PKEY_Q_keygen(NULL, NULL, "SM2");
	const struct pk_svid_binding b = { "dpu1", 7, NOW };
	struct pk_svid_peer peer;
	struct pk_diag diag;
	uint8_t *der = NULL, *csr;
	size_t der_len;
	X509 *cert;
	int len;

	(void)state;
	cert = issued(key, key, EVP_sha256(), "shop/web", 0, &diag);
	assert_int_equal(
	    pk_svid_verify(trust, cert, NULL, NOW + 599, &peer, &diag), PK_SVID_TRUSTED);
	assert_string_equal(peer.id, "spiffe://" DOMAIN "/ns/shop/sa/web");
	assert_string_equal(peer.workload, "shop/web");
	assert_string_equal(peer.binding.dpu, "dpu1");
	assert_int_equal(peer.binding.epoch, 7);
	assert_int_equal(peer.not_after_s, NOW + 600);
	assert_int_equal(
	    pk_svid_verify(trust, cert, NULL, NOW + 601, &peer, &diag), PK_SVID_UNTRUSTED);
	assert_int_equal(EVP_PKEY_eq(X509_get0_pubkey(cert), key), 1);
	X509_free(cert);
	cert = issued(key, key, EVP_sha256(), "", 0, &diag);
	assert_int_equal(pk_svid_verify(trust, cert, NULL, NOW, &peer, &diag), PK_SVID_TRUSTED);
	assert_string_equal(peer.id, "spiffe://" DOMAIN "/dpu/dpu1");
	X509_free(cert);
	/* Somebody else's key, a kind of key that is not taken, names that are none, rubbish. */
	(void)issued(key, other, EVP_sha256(), "shop/web", -EINVAL, &diag);
	assert_non_null(strstr(diag.text, "not signed by the key"));
	(void)issued(rsa, rsa, EVP_sha256(), "shop/web", -EINVAL, &diag);
	(void)issued(key, key, EVP_sha256(), "shop", -EINVAL, &diag);
	(void)issued(key, key, EVP_sha256(), "shop/web/x", -EINVAL, &diag);
	(void)issued(key, key, EVP_sha256(), "shop/w b", -EINVAL, &diag);
	csr = request(key, key, EVP_sha256(), &len);
	for (int cut = 0; cut < len; cut++)
		assert_int_equal(server_issuer_sign(issuer, csr, (size_t)cut, "shop/web", &b, 600,
		                     &der, &der_len, &diag),
		    -EINVAL);
	OPENSSL_free(csr);
	/* GB/T 32918, GM/T 0009: SM2 with SM3, to the root on SM2. */
	cert = issued(sm2, sm2, EVP_sm3(), "shop/web", 0, &diag);
	assert_int_equal(X509_get_signature_nid(cert), NID_SM2_with_SM3);
	assert_int_equal(pk_svid_verify(trust, cert, NULL, NOW, &peer, &diag), PK_SVID_TRUSTED);
	X509_free(cert);
	EVP_PKEY_free(key);
	EVP_PKEY_free(other);
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(sm2);
}

/* Without the second authority, and without any key. */
static void
test_issue_refused(void **state)
{
	EVP_PKEY *sm2 = EVP_PKEY_Q_keygen(NULL, NULL, "SM2"), *key = EVP_EC_gen("P-256");
	struct server_issuer *kept = issuer;
	struct pk_diag diag;
	char path[300], aside[320], ca[300];

	(void)state;
	snprintf(ca, sizeof(ca), "%s/ca.crt", ca_dir);
	snprintf(path, sizeof(path), "%s/ca-gm.key", ca_dir);
	snprintf(aside, sizeof(aside), "%s.aside", path);
	assert_int_equal(rename(path, aside), 0);
	assert_int_equal(server_issuer_open(&issuer, ca_dir, ca, DOMAIN, &diag), 0);
	(void)issued(sm2, sm2, EVP_sm3(), "shop/web", -ENOTSUP, &diag);
	assert_non_null(strstr(diag.text, "init-gm"));
	server_issuer_close(issuer);
	assert_int_equal(rename(aside, path), 0);
	snprintf(path, sizeof(path), "%s/ca.key", ca_dir);
	snprintf(aside, sizeof(aside), "%s.aside", path);
	assert_int_equal(rename(path, aside), 0);
	assert_int_equal(server_issuer_open(&issuer, ca_dir, ca, DOMAIN, &diag), 0);
	(void)issued(key, key, EVP_sha256(), "shop/web", -EACCES, &diag);
	assert_non_null(strstr(diag.text, "ca.key"));
	server_issuer_close(issuer);
	assert_int_equal(rename(aside, path), 0);
	issuer = kept;
	EVP_PKEY_free(sm2);
	EVP_PKEY_free(key);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_intermediate),
		cmocka_unit_test(test_revocation),
		cmocka_unit_test(test_wire),
		cmocka_unit_test(test_issue),
		cmocka_unit_test(test_issue_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
