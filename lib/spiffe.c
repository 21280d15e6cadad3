#include "lib/spiffe.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#define SCHEME "spiffe://"

static int
part_len(const char *s)
{
	return (int)strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");
}

int
pk_spiffe_name_ok(const char *name)
{
	size_t len = strlen(name);

	/* "." and ".." name no one, and would walk out of a directory. */
	return len > 0 && len < PK_SPIFFE_NAME_MAX && (size_t)part_len(name) == len &&
	    name[0] != '.';
}

/* Copy one part ended by `end`, and step over it. */
static int
take_part(const char **at, char end, char *out, size_t size)
{
	int len = part_len(*at);

	if (len == 0 || (size_t)len >= size || (*at)[len] != end || (*at)[0] == '.')
		return -EINVAL;
	memcpy(out, *at, (size_t)len);
	out[len] = '\0';
	*at += len + (end != '\0');
	return 0;
}

int
pk_spiffe_parse(struct pk_spiffe *out, const char *id)
{
	struct pk_spiffe s;
	const char *at = id + strlen(SCHEME);

	if (strncmp(id, SCHEME, strlen(SCHEME)) != 0 ||
	    take_part(&at, '/', s.domain, sizeof(s.domain)) != 0 ||
	    take_part(&at, '/', s.kind, sizeof(s.kind)) != 0 ||
	    take_part(&at, '\0', s.name, sizeof(s.name)) != 0)
		return -EINVAL;
	*out = s;
	return 0;
}

static int
spiffe_of(X509 *cert, struct pk_spiffe *out)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	int found = 0, err = -EINVAL;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, i);
		const char *text;

		if (n->type != GEN_URI)
			continue;
		text = (const char *)ASN1_STRING_get0_data(n->d.uniformResourceIdentifier);
		/* A NUL inside would show two readers two names. */
		if (strlen(text) != (size_t)ASN1_STRING_length(n->d.uniformResourceIdentifier))
			found = 2;
		else
			err = pk_spiffe_parse(out, text);
		found++;
	}
	GENERAL_NAMES_free(names);
	return found == 1 ? err : -EINVAL;
}

static X509 *
read_cert(const char *path, struct pk_diag *diag, int *err)
{
	FILE *f = fopen(path, "re");
	X509 *cert;

	if (f == NULL) {
		*err = -errno;
		pk_diag_set(diag, "%s: %s; picket-policyd init and issue make certificates", path,
		    strerror(errno));
		return NULL;
	}
	cert = PEM_read_X509(f, NULL, NULL, NULL);
	fclose(f);
	if (cert == NULL) {
		*err = -EINVAL;
		pk_diag_set(diag, "%s: holds no certificate in PEM form", path);
	}
	ERR_clear_error();
	return cert;
}

int
pk_spiffe_check_files(const char *cert_path, const char *key_path, const char *ca_path,
    struct pk_spiffe *out, struct pk_diag *diag)
{
	X509 *cert = NULL, *ca = NULL;
	EVP_PKEY *key = NULL;
	int err = -EINVAL;
	FILE *f;

	cert = read_cert(cert_path, diag, &err);
	if (cert == NULL)
		goto out;
	ca = read_cert(ca_path, diag, &err);
	if (ca == NULL)
		goto out;
	f = fopen(key_path, "re");
	if (f == NULL) {
		err = -errno;
		pk_diag_set(diag, "%s: %s", key_path, strerror(errno));
		goto out;
	}
	key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
	fclose(f);
	err = -EINVAL;
	if (key == NULL) {
		pk_diag_set(diag, "%s: holds no private key in PEM form", key_path);
		goto out;
	}
	if (X509_check_private_key(cert, key) != 1) {
		pk_diag_set(
		    diag, "%s: is not the key of the certificate in %s", key_path, cert_path);
		goto out;
	}
	if (X509_cmp_current_time(X509_get0_notAfter(cert)) < 0) {
		pk_diag_set(diag,
		    "%s: the certificate has expired; picket-policyd issue makes a new one",
		    cert_path);
		goto out;
	}
	if (X509_cmp_current_time(X509_get0_notAfter(ca)) < 0) {
		pk_diag_set(diag, "%s: the authority's certificate has expired", ca_path);
		goto out;
	}
	if (out != NULL && spiffe_of(cert, out) != 0) {
		pk_diag_set(diag,
		    "%s: the certificate must have one SPIFFE id, spiffe://DOMAIN/KIND/NAME",
		    cert_path);
		goto out;
	}
	err = 0;
out:
	ERR_clear_error();
	EVP_PKEY_free(key);
	X509_free(ca);
	X509_free(cert);
	return err;
}
