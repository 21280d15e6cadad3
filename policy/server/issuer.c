#include "policy/server/issuer.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "policy/server/ca_priv.h"

struct pair {
	X509 *cert;
	EVP_PKEY *key; /* NULL: it cannot sign */
};

struct server_issuer {
	char domain[PK_SVID_DOMAIN_MAX];
	char dir[PATH_MAX / 2];
	struct pair ecdsa, gm;
	uint8_t *bundle;
	size_t bundle_len;
};

static int
no_openssl(const char *what, struct pk_diag *diag)
{
	unsigned long code = ERR_get_error();

	pk_diag_set(diag, "%s: %s", what, code != 0 ? ERR_reason_error_string(code) : "no memory");
	ERR_clear_error();
	return -EIO;
}

/* Either may be missing; what is there has to be readable and belong together. */
static int
load_pair(struct pair *p, const char *dir, const char *name, struct pk_diag *diag)
{
	char path[PATH_MAX];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.crt", dir, name);
	if ((f = fopen(path, "re")) == NULL)
		return 0;
	p->cert = PEM_read_X509(f, NULL, NULL, NULL);
	fclose(f);
	if (p->cert == NULL)
		return no_openssl(path, diag);
	snprintf(path, sizeof(path), "%s/%s.key", dir, name);
	if ((f = fopen(path, "re")) == NULL)
		return 0;
	p->key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
	fclose(f);
	if (p->key == NULL)
		return no_openssl(path, diag);
	if (X509_check_private_key(p->cert, p->key) != 1) {
		ERR_clear_error();
		pk_diag_set(diag, "%s: is not the key of the certificate beside it", path);
		return -EINVAL;
	}
	return 0;
}

static int
add_root(struct server_issuer *is, X509 *cert)
{
	uint8_t *der = NULL, *wider;
	int len = i2d_X509(cert, &der);

	wider = len > 0 ? realloc(is->bundle, is->bundle_len + (size_t)len) : NULL;
	if (wider == NULL) {
		OPENSSL_free(der);
		return -ENOMEM;
	}
	memcpy(wider + is->bundle_len, der, (size_t)len);
	is->bundle = wider;
	is->bundle_len += (size_t)len;
	OPENSSL_free(der);
	return 0;
}

/* All of `ca`: while an authority is exchanged, that is the old and the new. */
static int
load_roots(struct server_issuer *is, const char *ca, struct pk_diag *diag)
{
	FILE *f = fopen(ca, "re");
	bool own = false;
	int err = 0;
	X509 *cert;

	while (f != NULL && err == 0 && (cert = PEM_read_X509(f, NULL, NULL, NULL)) != NULL) {
		own = own || (is->ecdsa.cert != NULL && X509_cmp(cert, is->ecdsa.cert) == 0);
		err = add_root(is, cert);
		X509_free(cert);
	}
	if (f != NULL)
		fclose(f);
	ERR_clear_error();
	if (err == 0 && !own && is->ecdsa.cert != NULL)
		err = add_root(is, is->ecdsa.cert);
	if (err == 0 && is->gm.cert != NULL)
		err = add_root(is, is->gm.cert);
	if (err != 0)
		pk_diag_set(diag, "no memory");
	return err;
}

int
server_issuer_open(struct server_issuer **out, const char *dir, const char *ca, const char *domain,
    struct pk_diag *diag)
{
	struct server_issuer *is = calloc(1, sizeof(*is));
	int err;

	pk_diag_set(diag, "no memory");
	if (is == NULL)
		return -ENOMEM;
	snprintf(is->domain, sizeof(is->domain), "%s", domain);
	snprintf(is->dir, sizeof(is->dir), "%s", dir);
	if ((err = load_pair(&is->ecdsa, dir, "ca", diag)) != 0 ||
	    (err = load_pair(&is->gm, dir, "ca-gm", diag)) != 0 ||
	    (err = load_roots(is, ca, diag)) != 0) {
		server_issuer_close(is);
		return err;
	}
	*out = is;
	return 0;
}

void
server_issuer_close(struct server_issuer *is)
{
	if (is == NULL)
		return;
	X509_free(is->ecdsa.cert);
	EVP_PKEY_free(is->ecdsa.key);
	X509_free(is->gm.cert);
	EVP_PKEY_free(is->gm.key);
	free(is->bundle);
	free(is);
}

const uint8_t *
server_issuer_bundle(const struct server_issuer *is, size_t *len)
{
	*len = is->bundle_len;
	return is->bundle;
}

EVP_PKEY *
server_issuer_key(const struct server_issuer *is)
{
	return is->ecdsa.key;
}

/* ---- requests ---- */

static const char *
curve_of(EVP_PKEY *key, char *out, size_t size)
{
	size_t n = 0;

	if (EVP_PKEY_is_a(key, "SM2"))
		return "SM2";
	if (!EVP_PKEY_is_a(key, "EC") || EVP_PKEY_get_group_name(key, out, size, &n) != 1)
		return "";
	return out;
}

/* The key of a request that is signed by it.  NULL with *diag. */
static EVP_PKEY *
key_of(const uint8_t *csr, size_t len, bool *gm, struct pk_diag *diag)
{
	const uint8_t *p = csr;
	X509_REQ *req = len <= SERVER_CSR_MAX ? d2i_X509_REQ(NULL, &p, (long)len) : NULL;
	EVP_PKEY *key = NULL;
	const char *curve;
	char group[64];

	if (req == NULL || p != csr + len || (key = X509_REQ_get_pubkey(req)) == NULL) {
		pk_diag_set(diag, "the request is no PKCS #10 certification request");
		goto fail;
	}
	curve = curve_of(key, group, sizeof(group));
	*gm = strcmp(curve, "SM2") == 0;
	if (!*gm && strcmp(curve, "prime256v1") != 0 && strcmp(curve, "secp384r1") != 0) {
		pk_diag_set(diag, "the request's key is not on P-256, P-384 or SM2");
		goto fail;
	}
	if (*gm) {
		ASN1_OCTET_STRING *id = ASN1_OCTET_STRING_new();

		if (id == NULL ||
		    ASN1_OCTET_STRING_set(id, (const uint8_t *)PK_SVID_SM2_ID, -1) != 1) {
			ASN1_OCTET_STRING_free(id);
			goto fail;
		}
		X509_REQ_set0_distinguishing_id(req, id);
	}
	if (X509_REQ_verify(req, key) != 1) {
		pk_diag_set(diag, "the request is not signed by the key it names");
		goto fail;
	}
	X509_REQ_free(req);
	return key;
fail:
	ERR_clear_error();
	X509_REQ_free(req);
	EVP_PKEY_free(key);
	return NULL;
}

static bool
add_binding(X509 *cert, const struct pk_svid_binding *b)
{
	ASN1_OBJECT *oid = OBJ_txt2obj(PK_SVID_BINDING_OID, 1);
	ASN1_UTF8STRING *text = ASN1_UTF8STRING_new();
	ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
	X509_EXTENSION *ext = NULL;
	uint8_t *der = NULL;
	char said[PK_SVID_DPU_MAX + 64];
	int len;
	bool ok = oid != NULL && text != NULL && value != NULL &&
	    pk_svid_binding_text(said, sizeof(said), b) == 0 &&
	    ASN1_STRING_set(text, said, -1) == 1 && (len = i2d_ASN1_UTF8STRING(text, &der)) > 0 &&
	    ASN1_OCTET_STRING_set(value, der, len) == 1 &&
	    (ext = X509_EXTENSION_create_by_OBJ(NULL, oid, 0, value)) != NULL &&
	    X509_add_ext(cert, ext, -1) == 1;

	OPENSSL_free(der);
	X509_EXTENSION_free(ext);
	ASN1_OCTET_STRING_free(value);
	ASN1_UTF8STRING_free(text);
	ASN1_OBJECT_free(oid);
	return ok;
}

int
server_issuer_sign(const struct server_issuer *is, const uint8_t *csr, size_t len,
    const char *workload, const struct pk_svid_binding *b, uint64_t ttl_s, uint8_t **der,
    size_t *der_len, struct pk_diag *diag)
{
	const struct pair *by;
	char id[PK_SVID_ID_MAX], san[PK_SVID_ID_MAX + 16], cn[65];
	X509_NAME *name = NULL;
	X509 *cert = NULL;
	uint8_t *made = NULL;
	EVP_PKEY *key;
	bool gm = false;
	int n, err = 0;

	key = key_of(csr, len, &gm, diag);
	if (key == NULL)
		return -EINVAL;
	by = gm ? &is->gm : &is->ecdsa;
	if (by->key == NULL) {
		pk_diag_set(diag,
		    gm ? "the request has an SM2 key, and there is no authority for those: picket-policyd init-gm makes one (%s)"
		       : "no SVIDs are issued here: there is no ca.key in %s",
		    is->dir);
		EVP_PKEY_free(key);
		return gm ? -ENOTSUP : -EACCES;
	}
	if (pk_svid_id(id, is->domain, workload, b->dpu) != 0) {
		pk_diag_set(diag, "\"%.64s\" cannot be part of a SPIFFE id",
		    workload[0] != '\0' ? workload : b->dpu);
		EVP_PKEY_free(key);
		return -EINVAL;
	}
	snprintf(san, sizeof(san), "critical,URI:%s", id);
	snprintf(cn, sizeof(cn), "%.64s", workload[0] != '\0' ? workload : b->dpu);
	cert = X509_new();
	name = X509_NAME_new();
	if (cert == NULL || name == NULL || X509_set_version(cert, X509_VERSION_3) != 1 ||
	    !ca_random_serial(cert) ||
	    ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)b->issued_s - CA_BACKDATE_S) == NULL ||
	    ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)(b->issued_s + ttl_s)) == NULL ||
	    X509_NAME_add_entry_by_txt(
	        name, "O", MBSTRING_UTF8, (const uint8_t *)"Picket", -1, -1, 0) != 1 ||
	    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const uint8_t *)cn, -1, -1, 0) !=
	        1 ||
	    X509_set_subject_name(cert, name) != 1 ||
	    X509_set_issuer_name(cert, X509_get_subject_name(by->cert)) != 1 ||
	    X509_set_pubkey(cert, key) != 1 ||
	    !ca_add_extension(cert, by->cert, NID_basic_constraints, "critical,CA:FALSE") ||
	    !ca_add_extension(cert, by->cert, NID_key_usage, "critical,digitalSignature") ||
	    !ca_add_extension(cert, by->cert, NID_ext_key_usage, "serverAuth,clientAuth") ||
	    !ca_add_extension(cert, by->cert, NID_subject_key_identifier, "hash") ||
	    !ca_add_extension(cert, by->cert, NID_authority_key_identifier, "keyid:always") ||
	    !ca_add_extension(cert, by->cert, NID_subject_alt_name, san) || !add_binding(cert, b) ||
	    !ca_sign(cert, by->key) || (n = i2d_X509(cert, &made)) <= 0)
		err = no_openssl("the SVID could not be made", diag);
	if (err == 0 && (*der = malloc((size_t)n)) == NULL) {
		pk_diag_set(diag, "no memory");
		err = -ENOMEM;
	}
	if (err == 0) {
		memcpy(*der, made, (size_t)n);
		*der_len = (size_t)n;
	}
	OPENSSL_free(made);
	X509_NAME_free(name);
	X509_free(cert);
	EVP_PKEY_free(key);
	return err;
}
