#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "tests/unit/test.h"
#include "tls-offload/direct.h"
#include "tls-offload/identity.h"
#include "tls-offload/trust.h"

/*
 * Handshakes in memory between our own contexts, and between ours and peers whose certificates are wrong in one way each.
 * Each of these is refused by the server, for the reason it should be, and the client gets an alert and no connection.
 */
#define DOMAIN  "demo.example"
#define SAN     "critical,URI:spiffe://" DOMAIN "/ns/shop/sa/web"
#define BASIC   "critical,CA:FALSE"
#define USAGE   "critical,digitalSignature"
#define BOTH    "serverAuth,clientAuth"
#define BINDING "dpu=dpu1,epoch=7,issued=1700000000"

#define NONE SIZE_MAX

static EVP_PKEY *root_key, *other_key;
static X509 *root;
static struct pk_svid_trust *source;

struct shape {
	const char *san, *basic, *usage, *extended, *binding;
	long from, to;
	bool foreign; /* signed by a key nobody knows */
};

static const struct shape good = { .san = SAN,
	.basic = BASIC,
	.usage = USAGE,
	.extended = BOTH,
	.binding = BINDING,
	.from = -60,
	.to = 600 };

static void
extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;

	if (value == NULL)
		return;
	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(ext);
	assert_int_equal(X509_add_ext(cert, ext, -1), 1);
	X509_EXTENSION_free(ext);
}

static void
bind_to(X509 *cert, const char *text)
{
	ASN1_OBJECT *oid = OBJ_txt2obj(PK_SVID_BINDING_OID, 1);
	ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
	uint8_t der[256] = { V_ASN1_UTF8STRING, (uint8_t)strlen(text) };
	X509_EXTENSION *ext;

	assert_true(strlen(text) < 128);
	memcpy(der + 2, text, strlen(text));
	assert_int_equal(ASN1_OCTET_STRING_set(value, der, (int)strlen(text) + 2), 1);
	ext = X509_EXTENSION_create_by_OBJ(NULL, oid, 0, value);
	assert_int_equal(X509_add_ext(cert, ext, -1), 1);
	X509_EXTENSION_free(ext);
	ASN1_OCTET_STRING_free(value);
	ASN1_OBJECT_free(oid);
}

static X509 *
make(const struct shape *s, EVP_PKEY *key, const char *cn)
{
	X509 *cert = X509_new(), *issuer = root != NULL ? root : cert;
	X509_NAME *name = X509_NAME_new();
	time_t now = time(NULL);

	X509_set_version(cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), root != NULL ? 2 : 1);
	ASN1_TIME_set(X509_getm_notBefore(cert), now + s->from);
	ASN1_TIME_set(X509_getm_notAfter(cert), now + s->to);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const uint8_t *)cn, -1, -1, 0);
	X509_set_subject_name(cert, name);
	X509_set_issuer_name(cert, X509_get_subject_name(issuer));
	X509_set_pubkey(cert, key);
	extend(cert, issuer, NID_basic_constraints, s->basic);
	extend(cert, issuer, NID_key_usage, s->usage);
	extend(cert, issuer, NID_ext_key_usage, s->extended);
	extend(cert, issuer, NID_subject_key_identifier, "hash");
	extend(cert, issuer, NID_authority_key_identifier, "keyid:always");
	extend(cert, issuer, NID_subject_alt_name, s->san);
	if (s->binding != NULL)
		bind_to(cert, s->binding);
	assert_true(X509_sign(cert, s->foreign ? other_key : root_key, EVP_sha256()) > 0);
	X509_NAME_free(name);
	return cert;
}

static int
setup(void **state)
{
	const struct shape authority = { .san = "URI:spiffe://" DOMAIN,
		.basic = "critical,CA:TRUE,pathlen:0",
		.usage = "critical,keyCertSign,cRLSign",
		.from = -60,
		.to = 600 };
	struct pk_diag diag;
	uint8_t *der = NULL;
	int len;

	(void)state;
	root_key = EVP_EC_gen("P-256");
	other_key = EVP_EC_gen("P-256");
	root = make(&authority, root_key, "root");
	len = i2d_X509(root, &der);
	assert_int_equal(pk_svid_trust_create(&source), 0);
	assert_int_equal(pk_svid_trust_set_bundle(source, DOMAIN, der, (size_t)len, &diag), 0);
	OPENSSL_free(der);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	pk_svid_trust_destroy(source);
	X509_free(root);
	EVP_PKEY_free(root_key);
	EVP_PKEY_free(other_key);
	return 0;
}

static void
identity_of(struct tlso_identities *t, const char *workload)
{
	char san[256];
	struct shape s = good;
	struct pk_svid svid = { .key = EVP_EC_gen("P-256"),
		.not_after_s = (uint64_t)time(NULL) + 600 };
	struct pk_diag diag;

	snprintf(svid.workload, sizeof(svid.workload), "%s", workload);
	assert_int_equal(pk_svid_id(svid.id, DOMAIN, workload, ""), 0);
	snprintf(san, sizeof(san), "critical,URI:%.200s", svid.id);
	s.san = san;
	svid.leaf = make(&s, svid.key, "leaf");
	assert_int_equal(tlso_identities_put(t, &svid, &diag), 0);
	X509_free(svid.leaf);
	EVP_PKEY_free(svid.key);
}

/* Until nobody has anything more to say.  True: both ends say the handshake is over. */
static bool
shake(SSL *client, SSL *server)
{
	BIO *c, *s;
	int a = 0, b = 0;

	assert_int_equal(BIO_new_bio_pair(&c, 0, &s, 0), 1);
	SSL_set_bio(client, c, c);
	SSL_set_bio(server, s, s);
	SSL_set_connect_state(client);
	SSL_set_accept_state(server);
	for (int i = 0; i < 20; i++) {
		ERR_clear_error();
		a = SSL_do_handshake(client);
		b = SSL_do_handshake(server);
	}
	/* TLS 1.3: a client learns that it was refused with its first read. */
	if (a == 1 && b != 1) {
		char byte;

		assert_true(SSL_read(client, &byte, 1) <= 0);
	}
	ERR_clear_error();
	return a == 1 && b == 1;
}

struct pair {
	struct tlso_identities *us;
	struct tlso_identity *server, *client;
	struct tlso_trust *trust;
	struct tlso_check at_server, at_client;
};

static void
open_pair(struct pair *p, enum tlso_mode mode)
{
	memset(p, 0, sizeof(*p));
	assert_int_equal(tlso_identities_create(&p->us, mode), 0);
	identity_of(p->us, "shop/web");
	identity_of(p->us, "shop/db");
	p->client = tlso_identities_get(p->us, "shop/web", (uint64_t)time(NULL));
	p->server = tlso_identities_get(p->us, "shop/db", (uint64_t)time(NULL));
	assert_true(p->client != NULL && p->server != NULL);
	assert_null(tlso_identities_get(p->us, "shop/nobody", 0));
	assert_null(tlso_identities_get(p->us, "shop/db", (uint64_t)time(NULL) + 601));
	assert_int_equal(tlso_trust_create(&p->trust, source), 0);
	p->at_server.trust = p->at_client.trust = p->trust;
	strcpy(p->at_server.want, "shop/web");
	strcpy(p->at_client.want, "shop/db");
}

static void
close_pair(struct pair *p)
{
	tlso_identity_put(p->client);
	tlso_identity_put(p->server);
	tlso_identities_destroy(p->us);
	tlso_trust_put(p->trust);
}

static bool
meet(struct pair *p, SSL_CTX *client_ctx, SSL **client, SSL **server)
{
	*client = SSL_new(client_ctx);
	*server = SSL_new(p->server->server);
	tlso_check_attach(*client, &p->at_client);
	tlso_check_attach(*server, &p->at_server);
	return shake(*client, *server);
}

static void
test_good(void **state)
{
	static const char *const want[] = { TLSO_DIRECT_ALPN, TLSO_DIRECT_ALPN, TLSO_ALPN_H2 };

	(void)state;
	for (int mode = TLSO_MODE_BOTH; mode <= TLSO_MODE_HBONE; mode++) {
		struct pair p;
		struct tlso_trust_stats stats;
		SSL *c, *s;
		const uint8_t *alpn;
		unsigned int len;

		open_pair(&p, (enum tlso_mode)mode);
		for (int i = 0; i < 3; i++) {
			assert_true(meet(&p, p.client->client, &c, &s));
			assert_int_equal(SSL_version(c), TLS1_3_VERSION);
			SSL_get0_alpn_selected(s, &alpn, &len);
			assert_int_equal(len, strlen(want[mode]));
			assert_memory_equal(alpn, want[mode], len);
			assert_string_equal(
			    p.at_server.peer.id, "spiffe://" DOMAIN "/ns/shop/sa/web");
			assert_string_equal(p.at_client.peer.workload, "shop/db");
			assert_int_equal(SSL_session_reused(c), 0);
			SSL_free(c);
			SSL_free(s);
		}
		/* Two chains were checked, once each. */
		tlso_trust_stats(p.trust, &stats);
		assert_int_equal(stats.verified, 2);
		assert_int_equal(stats.cached, 4);
		close_pair(&p);
	}
}

/* The right certificate, but not that of the workload whose address it is; and no check at all. */
static void
test_another(void **state)
{
	struct pair p;
	SSL *c, *s;

	(void)state;
	open_pair(&p, TLSO_MODE_BOTH);
	strcpy(p.at_server.want, "shop/cache");
	assert_false(meet(&p, p.client->client, &c, &s));
	assert_non_null(strstr(p.at_server.why.text, "its address is that of shop/cache"));
	assert_int_equal(p.at_server.verdict, PK_SVID_REFUSED);
	SSL_free(c);
	SSL_free(s);
	p.at_server.want[0] = '\0';
	assert_false(meet(&p, p.client->client, &c, &s));
	SSL_free(c);
	SSL_free(s);
	strcpy(p.at_server.want, "shop/web");
	strcpy(p.at_client.want, "shop/web");
	assert_false(meet(&p, p.client->client, &c, &s));
	SSL_free(c);
	SSL_free(s);
	strcpy(p.at_client.want, "shop/db");
	p.at_server.trust = NULL;
	assert_false(meet(&p, p.client->client, &c, &s));
	SSL_free(c);
	SSL_free(s);
	close_pair(&p);
}

/* What has been concluded does not outlive what it was concluded from. */
static void
test_revoked(void **state)
{
	const struct pk_svid_revocation host = { PK_SVID_REVOKED_HOST, "dpu1", 1700000000,
		UINT64_MAX };
	struct pk_svid_trust *later;
	struct tlso_trust *fresh;
	struct pair p;
	SSL *c, *s;

	(void)state;
	open_pair(&p, TLSO_MODE_BOTH);
	assert_true(meet(&p, p.client->client, &c, &s));
	assert_false(tlso_trust_is_revoked(p.trust, &p.at_server.peer));
	SSL_free(c);
	SSL_free(s);
	assert_int_equal(pk_svid_trust_copy(&later, source), 0);
	assert_int_equal(pk_svid_trust_revoke(later, &host), 0);
	assert_int_equal(tlso_trust_create(&fresh, later), 0);
	pk_svid_trust_destroy(later);
	assert_true(tlso_trust_is_revoked(fresh, &p.at_server.peer));
	p.at_server.trust = fresh;
	assert_false(meet(&p, p.client->client, &c, &s));
	assert_int_equal(p.at_server.verdict, PK_SVID_REVOKED);
	assert_non_null(strstr(p.at_server.why.text, "revoked"));
	SSL_free(c);
	SSL_free(s);
	tlso_trust_put(fresh);
	close_pair(&p);
}

static SSL_CTX *
client_with(X509 *leaf, EVP_PKEY *key)
{
	SSL_CTX *c = SSL_CTX_new(TLS_client_method());

	SSL_CTX_set_security_level(c, 0);
	if (leaf != NULL) {
		assert_int_equal(SSL_CTX_use_certificate(c, leaf), 1);
		assert_int_equal(SSL_CTX_use_PrivateKey(c, key), 1);
	}
	assert_int_equal(SSL_CTX_set_alpn_protos(c, (const uint8_t *)"\x08picket/1", 9), 0);
	return c;
}

static void
test_bad_certificates(void **state)
{
	char longest[2300] = "critical,URI:spiffe://" DOMAIN "/ns/shop/sa/";
	/* What is different from one of ours: a part of it, or what it is signed by, and with. */
#define PART(field, text) .part = offsetof(struct shape, field), .value = text
	const struct {
		const char *what, *says;
		size_t part;
		const char *value;
		long from, to;
		bool foreign, rsa_short;
	} shapes[] = {
		{ "no URI", "exactly one URI", PART(san, "critical,DNS:web.example") },
		{ "no alternative name", "exactly one URI", PART(san, NULL) },
		{ "two URIs", "exactly one URI",
		    PART(san, SAN ",URI:spiffe://" DOMAIN "/ns/shop/sa/db") },
		{ "the same URI twice", "exactly one URI",
		    PART(san, SAN ",URI:spiffe://" DOMAIN "/ns/shop/sa/web") },
		{ "an authority", "authority", PART(basic, "critical,CA:TRUE") },
		{ "keyCertSign", "may sign certificates",
		    PART(usage, "critical,digitalSignature,keyCertSign") },
		{ "cRLSign", "may sign certificates",
		    PART(usage, "critical,digitalSignature,cRLSign") },
		{ "no digitalSignature", "not be used for signatures",
		    PART(usage, "critical,keyAgreement") },
		{ "keyEncipherment alone", "not be used for signatures",
		    PART(usage, "critical,keyEncipherment") },
		{ "no key usage", "not be used for signatures", PART(usage, NULL) },
		{ "for servers only", "both ends", PART(extended, "serverAuth") },
		{ "for clients only", "both ends", PART(extended, "clientAuth") },
		{ "for mail", "both ends", PART(extended, "emailProtection") },
		{ "for code", "both ends", PART(extended, "codeSigning") },
		{ "another domain", "neither",
		    PART(san, "critical,URI:spiffe://other.example/ns/shop/sa/web") },
		{ "the domain as a prefix", "neither",
		    PART(san, "critical,URI:spiffe://" DOMAIN ".evil/ns/shop/sa/web") },
		{ "an upper-case domain", "neither",
		    PART(san, "critical,URI:spiffe://Demo.example/ns/shop/sa/web") },
		{ "another scheme", "neither",
		    PART(san, "critical,URI:https://" DOMAIN "/ns/shop/sa/web") },
		{ "percent-encoding", "neither",
		    PART(san, "critical,URI:spiffe://" DOMAIN "/ns/shop/sa/w%65b") },
		{ "a slash at the end", "neither",
		    PART(san, "critical,URI:spiffe://" DOMAIN "/ns/shop/sa/web/") },
		{ "an empty segment", "neither",
		    PART(san, "critical,URI:spiffe://" DOMAIN "/ns//sa/web") },
		{ "dots", "neither", PART(san, "critical,URI:spiffe://" DOMAIN "/ns/../sa/web") },
		{ "a query", "neither",
		    PART(san, "critical,URI:spiffe://" DOMAIN "/ns/shop/sa/web?x=1") },
		{ "a port", "neither",
		    PART(san, "critical,URI:spiffe://" DOMAIN ":443/ns/shop/sa/web") },
		{ "a user", "neither",
		    PART(san, "critical,URI:spiffe://me@" DOMAIN "/ns/shop/sa/web") },
		{ "longer than 2048 bytes", "", PART(san, longest) },
		{ "expired", "expired", .part = NONE, .from = -540, .to = -610 },
		{ "not yet", "not yet", .part = NONE, .from = 360 },
		{ "no binding", "which DPU", PART(binding, NULL) },
		{ "a binding with more", "which DPU", PART(binding, BINDING ",x=1") },
		{ "signed by a stranger", "not believed", .part = NONE, .foreign = true },
		{ "an operator's", "neither",
		    PART(san, "critical,URI:spiffe://" DOMAIN "/operator/admin") },
		{ "a DPU's own", "its address is that of shop/web",
		    PART(san, "critical,URI:spiffe://" DOMAIN "/dpu/dpu1") },
		{ "another workload's", "its address is that of shop/web",
		    PART(san, "critical,URI:spiffe://" DOMAIN "/ns/shop/sa/db") },
		{ "a key too short", "key too weak", .part = NONE, .rsa_short = true },
	};
	unsigned int refused = 0;

	(void)state;
	for (size_t n = strlen(longest); n < sizeof(longest) - 1; n++)
		longest[n] = n % 50 == 0 ? '.' : 'a';
	for (size_t i = 0; i < PK_COUNT(shapes); i++) {
		struct shape shape = good;
		EVP_PKEY *key = shapes[i].rsa_short ? EVP_RSA_gen(1024) : EVP_EC_gen("P-256");
		struct pair p;
		SSL_CTX *ctx;
		X509 *leaf;
		SSL *c, *s;

		if (shapes[i].part != NONE)
			*(const char **)(void *)((char *)&shape + shapes[i].part) = shapes[i].value;
		shape.from += shapes[i].from;
		shape.to += shapes[i].to;
		shape.foreign = shapes[i].foreign;
		leaf = make(&shape, key, "leaf");
		ctx = client_with(leaf, key);

		open_pair(&p, TLSO_MODE_BOTH);
		if (meet(&p, ctx, &c, &s))
			fail_msg("%s: let in", shapes[i].what);
		if (strstr(p.at_server.why.text, shapes[i].says) == NULL)
			fail_msg("%s: %s", shapes[i].what, p.at_server.why.text);
		refused++;
		SSL_free(c);
		SSL_free(s);
		SSL_CTX_free(ctx);
		X509_free(leaf);
		EVP_PKEY_free(key);
		close_pair(&p);
	}
	assert_true(refused >= 25);
}

/* No certificate; TLS 1.2; no protocol, or one we do not have. */
static void
test_bad_handshakes(void **state)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *leaf = make(&good, key, "leaf");

	(void)state;
	for (int k = 0; k < 4; k++) {
		SSL_CTX *ctx = client_with(k == 1 ? NULL : leaf, key);
		struct pair p;
		SSL *c, *s;
		bool ok;

		open_pair(&p, TLSO_MODE_BOTH);
		if (k == 2)
			SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
		if (k == 3)
			SSL_CTX_set_alpn_protos(ctx, (const uint8_t *)"\x08http/1.1", 9);
		ok = meet(&p, ctx, &c, &s);
		assert_int_equal(ok, k == 0);
		SSL_free(c);
		SSL_free(s);
		SSL_CTX_free(ctx);
		close_pair(&p);
	}
	X509_free(leaf);
	EVP_PKEY_free(key);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_another),
		cmocka_unit_test(test_revoked),
		cmocka_unit_test(test_bad_certificates),
		cmocka_unit_test(test_bad_handshakes),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
