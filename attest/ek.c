#include "attest/ek.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "attest/credential.h"

#define CERTS_MAX 64
#define DEPTH_MAX 6
#define EKU_EK    "2.23.133.8.1"

struct attest_roots {
	X509_STORE *store;
	unsigned int nb;
};

static STACK_OF(X509) * read_pem(const uint8_t *pem, size_t len)
{
	STACK_OF(X509) *certs = sk_X509_new_null();
	BIO *bio = len > 0 && len < (1U << 20) ? BIO_new_mem_buf(pem, (int)len) : NULL;
	X509 *cert;

	while (certs != NULL && bio != NULL && sk_X509_num(certs) < CERTS_MAX &&
	    (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
		if (sk_X509_push(certs, cert) == 0)
			X509_free(cert);
	BIO_free(bio);
	ERR_clear_error();
	return certs;
}

int
attest_roots_parse(struct attest_roots **out, const uint8_t *pem, size_t len, struct pk_diag *d)
{
	struct attest_roots *r = calloc(1, sizeof(*r));
	STACK_OF(X509) *certs = read_pem(pem, len);

	*out = NULL;
	if (r == NULL || certs == NULL || (r->store = X509_STORE_new()) == NULL) {
		sk_X509_pop_free(certs, X509_free);
		free(r);
		return -ENOMEM;
	}
	for (int i = 0; i < sk_X509_num(certs); i++)
		r->nb += X509_STORE_add_cert(r->store, sk_X509_value(certs, i)) == 1;
	sk_X509_pop_free(certs, X509_free);
	ERR_clear_error();
	if (r->nb == 0) {
		pk_diag_set(d, "EK roots: no certificate in PEM");
		attest_roots_destroy(r);
		return -EINVAL;
	}
	*out = r;
	return 0;
}

void
attest_roots_destroy(struct attest_roots *r)
{
	if (r == NULL)
		return;
	X509_STORE_free(r->store);
	free(r);
}

/* The critical extensions of EK certificates that we understand and OpenSSL may not. */
static int
only_known_critical(X509 *cert)
{
	static const int known[] = { NID_subject_alt_name, NID_basic_constraints, NID_key_usage,
		NID_ext_key_usage, NID_subject_directory_attributes, NID_certificate_policies,
		NID_authority_key_identifier, NID_subject_key_identifier, NID_name_constraints };

	for (int i = 0; i < X509_get_ext_count(cert); i++) {
		X509_EXTENSION *ext = X509_get_ext(cert, i);
		int nid = OBJ_obj2nid(X509_EXTENSION_get_object(ext));
		size_t k = 0;

		if (!X509_EXTENSION_get_critical(ext))
			continue;
		while (k < PK_COUNT(known) && known[k] != nid)
			k++;
		if (k == PK_COUNT(known))
			return 0;
	}
	return 1;
}

static int
on_verify(int ok, X509_STORE_CTX *ctx)
{
	if (!ok && X509_STORE_CTX_get_error(ctx) == X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION &&
	    only_known_critical(X509_STORE_CTX_get_current_cert(ctx))) {
		X509_STORE_CTX_set_error(ctx, X509_V_OK);
		return 1;
	}
	return ok;
}

static void
check_chain(X509 *cert, struct attest_bytes intermediates, const struct attest_roots *roots,
    time_t now, struct attest_reasons *r)
{
	STACK_OF(X509) *chain = read_pem(intermediates.at, intermediates.len);
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	X509_VERIFY_PARAM *param;

	if (chain == NULL || ctx == NULL ||
	    X509_STORE_CTX_init(ctx, roots->store, cert, chain) != 1) {
		attest_reason(r, ATTEST_INTERNAL, "EK certificate: out of memory");
		goto out;
	}
	param = X509_STORE_CTX_get0_param(ctx);
	X509_VERIFY_PARAM_set_time(param, now);
	X509_VERIFY_PARAM_set_depth(param, DEPTH_MAX);
	/* A listed intermediate is trust enough: some makers' roots are not theirs alone. */
	X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
	X509_STORE_CTX_set_verify_cb(ctx, on_verify);
	if (X509_verify_cert(ctx) != 1)
		attest_reason(r, ATTEST_EK_CERT_UNTRUSTED, "EK certificate: %s at depth %d",
		    X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)),
		    X509_STORE_CTX_get_error_depth(ctx));
out:
	X509_STORE_CTX_free(ctx);
	sk_X509_pop_free(chain, X509_free);
	ERR_clear_error();
}

static int
has_eku(X509 *cert)
{
	EXTENDED_KEY_USAGE *eku = X509_get_ext_d2i(cert, NID_ext_key_usage, NULL, NULL);
	ASN1_OBJECT *want = OBJ_txt2obj(EKU_EK, 1);
	int found = 0;

	for (int i = 0; eku != NULL && want != NULL && i < sk_ASN1_OBJECT_num(eku); i++)
		found |= OBJ_cmp(sk_ASN1_OBJECT_value(eku, i), want) == 0;
	ASN1_OBJECT_free(want);
	EXTENDED_KEY_USAGE_free(eku);
	return found;
}

static void
check_allowed(EVP_PKEY *key, const uint8_t (*allow)[32], size_t nb_allow, struct attest_reasons *r)
{
	uint8_t digest[ATTEST_DIGEST_MAX], *der = NULL;
	int len = i2d_PUBKEY(key, &der);
	struct attest_bytes part = { der, len > 0 ? (size_t)len : 0 };
	int found = 0;

	if (len > 0 && attest_hash(NULL, ATTEST_ALG_SHA256, &part, 1, digest) == 0)
		for (size_t i = 0; i < nb_allow; i++)
			found |= memcmp(allow[i], digest, 32) == 0;
	OPENSSL_free(der);
	if (!found)
		attest_reason(r, ATTEST_EK_NOT_ALLOWED, "this EK is not on the list");
}

void
attest_ek_check(struct attest_bytes der, struct attest_bytes intermediates,
    const struct attest_public *ek, const struct attest_roots *roots, const uint8_t (*allow)[32],
    size_t nb_allow, time_t now, struct attest_reasons *r)
{
	const uint8_t *p = der.at;
	X509 *cert = der.len < (1U << 16) ? d2i_X509(NULL, &p, (long)der.len) : NULL;
	EVP_PKEY *key = NULL, *given = NULL;
	struct pk_diag why;
	uint32_t usage;

	ERR_clear_error();
	if (cert == NULL) {
		attest_reason(r, ATTEST_EK_CERT_MALFORMED, "EK certificate: not DER");
		return;
	}
	/* NV indices are larger than what is in them: TPMs pad with ones or zeroes. */
	for (; p < der.at + der.len; p++)
		if (*p != 0xff && *p != 0) {
			attest_reason(
			    r, ATTEST_EK_CERT_MALFORMED, "EK certificate: bytes after its end");
			break;
		}
	if (!attest_ek_public_ok(ek, &why))
		attest_reason(r, ATTEST_EK_ATTRIBUTES, "%s", why.text);
	key = X509_get_pubkey(cert);
	given = attest_public_key(ek, &why);
	if (key == NULL || given == NULL || EVP_PKEY_eq(key, given) != 1)
		attest_reason(r, ATTEST_EK_KEY_MISMATCH, "the EK certificate is for another key");
	if (X509_check_ca(cert) != 0)
		attest_reason(r, ATTEST_EK_CERT_MALFORMED, "EK certificate: it is a CA's");
	if (!has_eku(cert))
		attest_reason(
		    r, ATTEST_EK_CERT_MALFORMED, "EK certificate: no extended key usage " EKU_EK);
	usage = X509_get_key_usage(cert);
	if (usage != UINT32_MAX &&
	    (usage & (ek->type == ATTEST_ALG_RSA ? KU_KEY_ENCIPHERMENT : KU_KEY_AGREEMENT)) == 0)
		attest_reason(r, ATTEST_EK_CERT_MALFORMED,
		    "EK certificate: its key usage is not that of an EK");
	check_chain(cert, intermediates, roots, now, r);
	if (given != NULL && nb_allow > 0)
		check_allowed(given, allow, nb_allow, r);
	EVP_PKEY_free(key);
	EVP_PKEY_free(given);
	X509_free(cert);
	ERR_clear_error();
}
