#include "policy/server/ca.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "lib/spiffe.h"
#include "lib/svid_trust.h"
#include "policy/server/ca_priv.h"

#define SERIAL_BITS 127 /* RFC 5280, section 4.1.2.2: positive, at most 20 bytes */
#define SAN_MAX     2048

struct owner {
	uid_t uid;
	gid_t gid;
	bool set;
};

static int
path_join(char *out, size_t size, const char *dir, const char *file, struct pk_diag *diag)
{
	int n = snprintf(out, size, "%s/%s", dir, file);

	if (n >= 0 && (size_t)n < size)
		return 0;
	pk_diag_set(diag, "%s: the path is too long", dir);
	return -ENAMETOOLONG;
}

static int
no_openssl(const char *what, struct pk_diag *diag)
{
	unsigned long code = ERR_get_error();

	pk_diag_set(diag, "%s could not be made: %s", what,
	    code != 0 ? ERR_reason_error_string(code) : "no memory");
	ERR_clear_error();
	return -EIO;
}

static int
find_owner(const char *user, struct owner *out, struct pk_diag *diag)
{
	struct passwd *pw;

	memset(out, 0, sizeof(*out));
	if (user == NULL || user[0] == '\0' || geteuid() != 0)
		return 0;
	pw = getpwnam(user);
	if (pw == NULL) {
		pk_diag_set(
		    diag, "there is no user \"%s\" to give the files to; see option user", user);
		return -ENOENT;
	}
	*out = (struct owner){ .uid = pw->pw_uid, .gid = pw->pw_gid, .set = true };
	return 0;
}

static int
make_dir(const char *path, const struct owner *o, struct pk_diag *diag)
{
	if (mkdir(path, 0700) != 0 && errno != EEXIST) {
		pk_diag_set(diag, "%s: %s", path, strerror(errno));
		return -errno;
	}
	if (o != NULL && o->set && chown(path, o->uid, o->gid) != 0) {
		pk_diag_set(diag, "%s: %s", path, strerror(errno));
		return -errno;
	}
	return 0;
}

/* A new file, never an old one. */
static FILE *
create_file(const char *path, mode_t mode, const struct owner *o, struct pk_diag *diag, int *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	FILE *f = NULL;

	if (fd < 0)
		goto fail;
	if (fchmod(fd, mode) != 0 || (o != NULL && o->set && fchown(fd, o->uid, o->gid) != 0) ||
	    (f = fdopen(fd, "w")) == NULL)
		goto fail;
	return f;
fail:
	*err = -errno;
	pk_diag_set(diag, "%s: %s", path,
	    errno == EEXIST ? "exists already, and is never overwritten; move it away first"
	                    : strerror(errno));
	if (fd >= 0) {
		close(fd);
		unlink(path);
	}
	return NULL;
}

static int
close_file(FILE *f, bool ok, const char *path, struct pk_diag *diag)
{
	ok = ok && fflush(f) == 0 && fsync(fileno(f)) == 0;
	if (fclose(f) != 0)
		ok = false;
	if (ok)
		return 0;
	pk_diag_set(diag, "%s: could not be written", path);
	unlink(path);
	return -EIO;
}

static int
write_key(
    const char *dir, const char *file, EVP_PKEY *key, const struct owner *o, struct pk_diag *diag)
{
	char path[PATH_MAX];
	int err = path_join(path, sizeof(path), dir, file, diag);
	FILE *f;

	if (err != 0 || (f = create_file(path, 0600, o, diag, &err)) == NULL)
		return err;
	return close_file(
	    f, PEM_write_PKCS8PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1, path, diag);
}

static int
write_cert(
    const char *dir, const char *file, X509 *cert, const struct owner *o, struct pk_diag *diag)
{
	char path[PATH_MAX];
	int err = path_join(path, sizeof(path), dir, file, diag);
	FILE *f;

	if (err != 0 || (f = create_file(path, 0644, o, diag, &err)) == NULL)
		return err;
	return close_file(f, PEM_write_X509(f, cert) == 1, path, diag);
}

int
ca_add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;
	int ok;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	if (ext == NULL)
		return 0;
	ok = X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
	return ok;
}

int
ca_random_serial(X509 *cert)
{
	BIGNUM *n = BN_new();
	int ok = n != NULL && BN_rand(n, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
	    BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert)) != NULL;

	BN_free(n);
	return ok;
}

/* An SM2 signature is over a hash with the signer's id in it (GM/T 0009, section 10). */
int
ca_sign(X509 *cert, EVP_PKEY *key)
{
	EVP_MD_CTX *ctx;
	EVP_PKEY_CTX *by;
	int ok;

	if (!EVP_PKEY_is_a(key, "SM2"))
		return X509_sign(cert, key, EVP_sha256()) != 0;
	ctx = EVP_MD_CTX_new();
	by = EVP_PKEY_CTX_new(key, NULL);
	ok = ctx != NULL && by != NULL &&
	    EVP_PKEY_CTX_set1_id(by, PK_SVID_SM2_ID, (int)strlen(PK_SVID_SM2_ID)) == 1;
	if (ok) {
		EVP_MD_CTX_set_pkey_ctx(ctx, by);
		ok = EVP_DigestSignInit(ctx, NULL, EVP_sm3(), NULL, key) == 1 &&
		    X509_sign_ctx(cert, ctx) > 0;
	}
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_CTX_free(by);
	return ok;
}

/* Sign `key` as `subject`.  issuer NULL: by itself, as an authority. */
static X509 *
sign(EVP_PKEY *key, const char *subject, const char *san, const char *usage, X509 *issuer,
    EVP_PKEY *issuer_key, struct pk_diag *diag)
{
	X509 *cert = X509_new();
	X509_NAME *name = X509_NAME_new();
	bool authority = issuer == NULL;
	long days = authority ? SERVER_CA_DAYS : SERVER_CA_LEAF_DAYS;
	bool ok;

	ok = cert != NULL && name != NULL && X509_set_version(cert, X509_VERSION_3) == 1 &&
	    ca_random_serial(cert) &&
	    X509_gmtime_adj(X509_getm_notBefore(cert), -CA_BACKDATE_S) != NULL &&
	    X509_gmtime_adj(X509_getm_notAfter(cert), days * 24 * 3600) != NULL &&
	    X509_NAME_add_entry_by_txt(
	        name, "O", MBSTRING_UTF8, (const uint8_t *)"Picket", -1, -1, 0) &&
	    X509_NAME_add_entry_by_txt(
	        name, "CN", MBSTRING_UTF8, (const uint8_t *)subject, -1, -1, 0) &&
	    X509_set_subject_name(cert, name) &&
	    X509_set_issuer_name(cert, authority ? name : X509_get_subject_name(issuer)) &&
	    X509_set_pubkey(cert, key) &&
	    ca_add_extension(cert, authority ? cert : issuer, NID_basic_constraints,
	        authority ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE") &&
	    ca_add_extension(cert, authority ? cert : issuer, NID_key_usage,
	        authority ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature") &&
	    ca_add_extension(cert, authority ? cert : issuer, NID_subject_key_identifier, "hash") &&
	    (authority ||
	        ca_add_extension(cert, issuer, NID_authority_key_identifier, "keyid:always")) &&
	    (usage == NULL || ca_add_extension(cert, issuer, NID_ext_key_usage, usage)) &&
	    ca_add_extension(cert, authority ? cert : issuer, NID_subject_alt_name, san) &&
	    ca_sign(cert, authority ? key : issuer_key);
	X509_NAME_free(name);
	if (ok)
		return cert;
	(void)no_openssl(subject, diag);
	X509_free(cert);
	return NULL;
}

static bool
is_host(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-");

	return n > 0 && n < 254 && name[n] == '\0';
}

/* "URI:...,DNS:...,IP:..." for the server. */
static int
server_san(char *out, size_t size, const char *domain, const char *const *names, size_t n,
    struct pk_diag *diag)
{
	int len = snprintf(out, size, "URI:spiffe://%s/server/policyd", domain);

	for (size_t i = 0; i < n && len > 0 && (size_t)len < size; i++) {
		uint8_t addr[16];
		bool ip = inet_pton(AF_INET, names[i], addr) == 1 ||
		    inet_pton(AF_INET6, names[i], addr) == 1;

		if (!ip && !is_host(names[i])) {
			pk_diag_set(
			    diag, "\"%s\" is neither a host's name nor an address", names[i]);
			return -EINVAL;
		}
		len +=
		    snprintf(out + len, size - (size_t)len, ",%s:%s", ip ? "IP" : "DNS", names[i]);
	}
	if (len > 0 && (size_t)len < size)
		return 0;
	pk_diag_set(diag, "too many names for one certificate");
	return -EINVAL;
}

struct authority {
	X509 *cert;
	EVP_PKEY *key;
	struct pk_spiffe id; /* .domain */
};

static void
authority_fini(struct authority *a)
{
	X509_free(a->cert);
	EVP_PKEY_free(a->key);
}

/* The authority's own URI is spiffe://DOMAIN (SPIFFE-ID, section 2.1). */
static int
authority_domain(struct authority *a, const char *path, struct pk_diag *diag)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(a->cert, NID_subject_alt_name, NULL, NULL);
	const char *uri = "";
	int err = 0;

	if (sk_GENERAL_NAME_num(names) == 1 && sk_GENERAL_NAME_value(names, 0)->type == GEN_URI)
		uri = (const char *)ASN1_STRING_get0_data(
		    sk_GENERAL_NAME_value(names, 0)->d.uniformResourceIdentifier);
	if (strncmp(uri, "spiffe://", 9) != 0 || !is_host(uri + 9) ||
	    strlen(uri + 9) >= sizeof(a->id.domain)) {
		pk_diag_set(diag, "%s: is not an authority made by picket-policyd init", path);
		err = -EINVAL;
	} else {
		snprintf(a->id.domain, sizeof(a->id.domain), "%s", uri + 9);
	}
	GENERAL_NAMES_free(names);
	return err;
}

static int
authority_load(struct authority *a, const char *dir, struct pk_diag *diag)
{
	char cert_path[PATH_MAX], key_path[PATH_MAX];
	FILE *f;
	int err;

	memset(a, 0, sizeof(*a));
	if ((err = path_join(cert_path, sizeof(cert_path), dir, "ca.crt", diag)) != 0 ||
	    (err = path_join(key_path, sizeof(key_path), dir, "ca.key", diag)) != 0)
		return err;
	err = pk_spiffe_check_files(cert_path, key_path, cert_path, NULL, diag);
	if (err != 0)
		return err;
	if ((f = fopen(cert_path, "re")) != NULL) {
		a->cert = PEM_read_X509(f, NULL, NULL, NULL);
		fclose(f);
	}
	if ((f = fopen(key_path, "re")) != NULL) {
		a->key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
		fclose(f);
	}
	if (a->cert == NULL || a->key == NULL)
		err = no_openssl("the authority", diag);
	else
		err = authority_domain(a, cert_path, diag);
	if (err != 0)
		authority_fini(a);
	return err;
}

/* Key, certificate and authority of one identity, each a new file in `out`. */
static int
issue(const struct authority *a, const char *kind, const char *name, const char *out,
    const struct owner *o, struct pk_diag *diag)
{
	char san[SAN_MAX], subject[64 + 1];
	EVP_PKEY *key = NULL;
	X509 *cert = NULL;
	int err;

	snprintf(san, sizeof(san), "URI:spiffe://%s/%s/%s", a->id.domain, kind, name);
	snprintf(
	    subject, sizeof(subject), "%s", name); /* CN is bounded to 64 (RFC 5280, appendix A) */
	key = EVP_EC_gen("P-256");
	if (key == NULL)
		return no_openssl("a key", diag);
	/* A DPU is a client to this server, and a server to the host behind it (X509-SVID, appendix A). */
	cert = sign(key, subject, san,
	    strcmp(kind, "dpu") == 0 ? "serverAuth,clientAuth" : "clientAuth", a->cert, a->key,
	    diag);
	if (cert == NULL)
		err = -EIO;
	else if ((err = make_dir(out, o, diag)) == 0 &&
	    (err = write_key(out, "identity.key", key, o, diag)) == 0 &&
	    (err = write_cert(out, "identity.crt", cert, o, diag)) == 0)
		err = write_cert(out, "ca.crt", a->cert, o, diag);
	X509_free(cert);
	EVP_PKEY_free(key);
	return err;
}

int
server_ca_issue(
    const char *dir, const char *kind, const char *name, const char *out, struct pk_diag *diag)
{
	struct authority a;
	int err;

	if (strcmp(kind, "dpu") != 0 && strcmp(kind, "operator") != 0) {
		pk_diag_set(diag, "\"%s\" is no kind of identity: want dpu or operator", kind);
		return -EINVAL;
	}
	if (!pk_spiffe_name_ok(name)) {
		pk_diag_set(diag,
		    "\"%s\" is no name: want letters, digits, '.', '-' and '_', at most %d", name,
		    PK_SPIFFE_NAME_MAX - 1);
		return -EINVAL;
	}
	err = authority_load(&a, dir, diag);
	if (err != 0)
		return err;
	err = issue(&a, kind, name, out, NULL, diag);
	authority_fini(&a);
	return err;
}

int
server_ca_init(const char *dir, const char *domain, const char *const *names, size_t nb_names,
    const char *user, struct pk_diag *diag)
{
	char san[SAN_MAX], uri[SAN_MAX], admin[PATH_MAX];
	struct authority a = { 0 };
	EVP_PKEY *key = NULL;
	X509 *cert = NULL;
	struct owner o;
	int err;

	if (!is_host(domain) || strlen(domain) >= PK_SPIFFE_DOMAIN_MAX) {
		pk_diag_set(
		    diag, "\"%s\" is no trust domain: want a name like example.org", domain);
		return -EINVAL;
	}
	if ((err = server_san(san, sizeof(san), domain, names, nb_names, diag)) != 0 ||
	    (err = find_owner(user, &o, diag)) != 0 || (err = make_dir(dir, &o, diag)) != 0)
		return err;
	snprintf(a.id.domain, sizeof(a.id.domain), "%s", domain);
	snprintf(uri, sizeof(uri), "URI:spiffe://%s", domain);
	a.key = EVP_EC_gen("P-256");
	key = EVP_EC_gen("P-256");
	if (a.key == NULL || key == NULL) {
		err = no_openssl("a key", diag);
		goto out;
	}
	err = -EIO;
	a.cert = sign(a.key, "Picket authority", uri, NULL, NULL, NULL, diag);
	if (a.cert == NULL ||
	    (cert = sign(key, "policyd", san, "serverAuth", a.cert, a.key, diag)) == NULL)
		goto out;
	/* ca.key first: when there is an authority already, it is what must not be lost. */
	if ((err = write_key(dir, "ca.key", a.key, &o, diag)) != 0 ||
	    (err = write_cert(dir, "ca.crt", a.cert, &o, diag)) != 0 ||
	    (err = write_key(dir, "server.key", key, &o, diag)) != 0 ||
	    (err = write_cert(dir, "server.crt", cert, &o, diag)) != 0)
		goto out;
	if ((err = path_join(admin, sizeof(admin), dir, "operator", diag)) == 0 &&
	    (err = make_dir(admin, &o, diag)) == 0 &&
	    (err = path_join(admin, sizeof(admin), dir, "operator/admin", diag)) == 0)
		err = issue(&a, "operator", "admin", admin, &o, diag);
out:
	X509_free(cert);
	EVP_PKEY_free(key);
	authority_fini(&a);
	return err;
}

int
server_ca_init_gm(const char *dir, const char *user, struct pk_diag *diag)
{
	struct authority a;
	char uri[SAN_MAX];
	EVP_PKEY *key = NULL;
	X509 *cert = NULL;
	struct owner o;
	int err;

	if ((err = find_owner(user, &o, diag)) != 0 || (err = authority_load(&a, dir, diag)) != 0)
		return err;
	snprintf(uri, sizeof(uri), "URI:spiffe://%s", a.id.domain);
	key = EVP_PKEY_Q_keygen(NULL, NULL, "SM2");
	if (key == NULL)
		err = no_openssl("an SM2 key", diag);
	else if ((cert = sign(key, "Picket authority (SM2)", uri, NULL, NULL, NULL, diag)) == NULL)
		err = -EIO;
	else if ((err = write_key(dir, "ca-gm.key", key, &o, diag)) == 0)
		err = write_cert(dir, "ca-gm.crt", cert, &o, diag);
	X509_free(cert);
	EVP_PKEY_free(key);
	authority_fini(&a);
	return err;
}

int
server_ca_renew(const char *dir, const char *const *names, size_t nb_names, const char *user,
    struct pk_diag *diag)
{
	char san[SAN_MAX], path[PATH_MAX], made[PATH_MAX];
	struct authority a;
	EVP_PKEY *key = NULL;
	X509 *cert = NULL;
	struct owner o;
	FILE *f;
	int err;

	if ((err = find_owner(user, &o, diag)) != 0 || (err = authority_load(&a, dir, diag)) != 0)
		return err;
	if ((err = server_san(san, sizeof(san), a.id.domain, names, nb_names, diag)) != 0 ||
	    (err = path_join(path, sizeof(path), dir, "server.key", diag)) != 0)
		goto out;
	if ((f = fopen(path, "re")) != NULL) {
		key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
		fclose(f);
	}
	if (key == NULL) {
		pk_diag_set(diag, "%s: holds no private key", path);
		err = -EINVAL;
		goto out;
	}
	cert = sign(key, "policyd", san, "serverAuth", a.cert, a.key, diag);
	if (cert == NULL) {
		err = -EIO;
		goto out;
	}
	/* Beside it first, then in its place: the server reads either the old or the new. */
	if ((err = path_join(made, sizeof(made), dir, "server.crt.new", diag)) != 0 ||
	    (err = path_join(path, sizeof(path), dir, "server.crt", diag)) != 0)
		goto out;
	(void)unlink(made);
	err = write_cert(dir, "server.crt.new", cert, &o, diag);
	if (err == 0 && rename(made, path) != 0) {
		err = -errno;
		pk_diag_set(diag, "%s: %s", path, strerror(errno));
	}
out:
	X509_free(cert);
	EVP_PKEY_free(key);
	authority_fini(&a);
	return err;
}
