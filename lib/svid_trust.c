#include "lib/svid_trust.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "lib/spiffe.h"

#define SCHEME "spiffe://"

struct pk_svid_trust {
	char domain[PK_SVID_DOMAIN_MAX];
	X509_STORE *store;
	struct pk_svid_revocation *revoked;
	size_t nb, room;
};

int
pk_svid_trust_create(struct pk_svid_trust **out)
{
	*out = calloc(1, sizeof(**out));
	return *out != NULL ? 0 : -ENOMEM;
}

void
pk_svid_trust_destroy(struct pk_svid_trust *t)
{
	if (t == NULL)
		return;
	X509_STORE_free(t->store);
	free(t->revoked);
	free(t);
}

int
pk_svid_trust_copy(struct pk_svid_trust **out, const struct pk_svid_trust *t)
{
	struct pk_svid_trust *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return -ENOMEM;
	memcpy(c->domain, t->domain, sizeof(c->domain));
	if (t->nb > 0) {
		c->revoked = malloc(t->nb * sizeof(c->revoked[0]));
		if (c->revoked == NULL) {
			free(c);
			return -ENOMEM;
		}
		memcpy(c->revoked, t->revoked, t->nb * sizeof(c->revoked[0]));
		c->nb = c->room = t->nb;
	}
	/* A store is made whole and replaced whole. */
	if (t->store != NULL && X509_STORE_up_ref(t->store) == 1)
		c->store = t->store;
	*out = c;
	return 0;
}

/* ---- names ---- */

static bool
domain_ok(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789.-_");

	return n > 0 && n < PK_SVID_DOMAIN_MAX && s[n] == '\0';
}

int
pk_svid_id(char out[PK_SVID_ID_MAX], const char *domain, const char *workload, const char *dpu)
{
	const char *slash = strchr(workload, '/');
	char tenant[PK_SVID_WORKLOAD_MAX];
	int n;

	if (!domain_ok(domain))
		return -EINVAL;
	if (workload[0] == '\0') {
		if (!pk_spiffe_name_ok(dpu))
			return -EINVAL;
		n = snprintf(out, PK_SVID_ID_MAX, SCHEME "%s/dpu/%s", domain, dpu);
		return n > 0 && n < PK_SVID_ID_MAX ? 0 : -EINVAL;
	}
	if (slash == NULL || strlen(workload) >= sizeof(tenant))
		return -EINVAL;
	memcpy(tenant, workload, (size_t)(slash - workload));
	tenant[slash - workload] = '\0';
	if (!pk_spiffe_name_ok(tenant) || !pk_spiffe_name_ok(slash + 1))
		return -EINVAL;
	n = snprintf(out, PK_SVID_ID_MAX, SCHEME "%s/ns/%s/sa/%s", domain, tenant, slash + 1);
	return n > 0 && n < PK_SVID_ID_MAX ? 0 : -EINVAL;
}

int
pk_svid_id_parse(const char *id, const char *domain, char workload[PK_SVID_WORKLOAD_MAX],
    char dpu[PK_SVID_DPU_MAX])
{
	size_t scheme = strlen(SCHEME), len = strlen(domain);
	char whole[PK_SVID_ID_MAX], *at, *sa;
	struct pk_spiffe s;

	workload[0] = dpu[0] = '\0';
	if (strlen(id) >= sizeof(whole) || !domain_ok(domain) || strncmp(id, SCHEME, scheme) != 0 ||
	    strncmp(id + scheme, domain, len) != 0 || id[scheme + len] != '/')
		return -EINVAL;
	if (pk_spiffe_parse(&s, id) == 0 && strcmp(s.kind, "dpu") == 0) {
		snprintf(dpu, PK_SVID_DPU_MAX, "%s", s.name);
		return 0;
	}
	strcpy(whole, id + scheme + len + 1);
	if (strncmp(whole, "ns/", 3) != 0 || (sa = strstr(whole + 3, "/sa/")) == NULL)
		return -EINVAL;
	at = whole + 3;
	*sa = '\0';
	if (!pk_spiffe_name_ok(at) || !pk_spiffe_name_ok(sa + 4) ||
	    (size_t)snprintf(workload, PK_SVID_WORKLOAD_MAX, "%s/%s", at, sa + 4) >=
	        PK_SVID_WORKLOAD_MAX)
		return -EINVAL;
	return 0;
}

int
pk_svid_binding_text(char *out, size_t size, const struct pk_svid_binding *b)
{
	int n = snprintf(out, size, "dpu=%s,epoch=%llu,issued=%llu", b->dpu,
	    (unsigned long long)b->epoch, (unsigned long long)b->issued_s);

	return n > 0 && (size_t)n < size && pk_spiffe_name_ok(b->dpu) ? 0 : -EINVAL;
}

int
pk_svid_binding_parse(struct pk_svid_binding *out, const char *text, size_t len)
{
	char copy[PK_SVID_DPU_MAX + 64], again[PK_SVID_DPU_MAX + 64];
	unsigned long long epoch, issued;

	if (len == 0 || len >= sizeof(copy) || memchr(text, '\0', len) != NULL)
		return -EINVAL;
	memcpy(copy, text, len);
	copy[len] = '\0';
	memset(out, 0, sizeof(*out));
	if (sscanf(copy, "dpu=%63[^,],epoch=%llu,issued=%llu", out->dpu, &epoch, &issued) != 3)
		return -EINVAL;
	out->epoch = epoch;
	out->issued_s = issued;
	/* One form, and no other that would read the same. */
	if (pk_svid_binding_text(again, sizeof(again), out) != 0 || strcmp(copy, again) != 0)
		return -EINVAL;
	return 0;
}

/* ---- the bundle ---- */

int
pk_svid_trust_set_bundle(struct pk_svid_trust *t, const char *domain, const uint8_t *der,
    size_t len, struct pk_diag *diag)
{
	const uint8_t *at = der, *end = der + len;
	X509_STORE *store;
	size_t nb = 0;

	if (!domain_ok(domain)) {
		pk_diag_set(diag,
		    "\"%s\" is no trust domain: want lower-case letters, digits, '.', '-' and '_'",
		    domain);
		return -EINVAL;
	}
	store = X509_STORE_new();
	if (store == NULL)
		return -ENOMEM;
	while (at < end && nb < PK_SVID_ROOTS_MAX) {
		X509 *root = d2i_X509(NULL, &at, end - at);
		bool added = root != NULL && X509_check_ca(root) == 1 &&
		    X509_STORE_add_cert(store, root) == 1;

		X509_free(root);
		if (!added)
			break;
		nb++;
	}
	ERR_clear_error();
	if (nb == 0 || at != end) {
		pk_diag_set(diag,
		    "the bundle of %s: want 1 to %d certificates of authorities; number %zu is none",
		    domain, PK_SVID_ROOTS_MAX, nb + 1);
		X509_STORE_free(store);
		return -EINVAL;
	}
	/* Our leaves hang directly below a root; a root that is an intermediate elsewhere is one here too. */
	X509_STORE_set_flags(store, X509_V_FLAG_X509_STRICT | X509_V_FLAG_PARTIAL_CHAIN);
	X509_STORE_free(t->store);
	t->store = store;
	snprintf(t->domain, sizeof(t->domain), "%s", domain);
	return 0;
}

const char *
pk_svid_trust_domain(const struct pk_svid_trust *t)
{
	return t->domain;
}

/* ---- revocations ---- */

/* The place of what is revoked, in order of kind and name. */
static size_t
place_of(const struct pk_svid_trust *t, enum pk_svid_revoked kind, const char *name, bool *found)
{
	size_t low = 0, high = t->nb;

	*found = false;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct pk_svid_revocation *r = &t->revoked[mid];
		int c = r->kind != kind ? (int)r->kind - (int)kind : strcmp(r->name, name);

		if (c == 0) {
			*found = true;
			return mid;
		}
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int
pk_svid_trust_revoke(struct pk_svid_trust *t, const struct pk_svid_revocation *r)
{
	bool found;
	size_t at = place_of(t, r->kind, r->name, &found);
	struct pk_svid_revocation *o;

	if (!found && t->nb == t->room) {
		size_t room = t->room != 0 ? t->room * 2 : 16;
		struct pk_svid_revocation *wider = realloc(t->revoked, room * sizeof(*wider));

		if (wider == NULL)
			return -ENOMEM;
		t->revoked = wider;
		t->room = room;
	}
	o = &t->revoked[at];
	if (found) {
		o->issued_until_s = PK_MAX(o->issued_until_s, r->issued_until_s);
		o->forget_s = PK_MAX(o->forget_s, r->forget_s);
		return 0;
	}
	memmove(o + 1, o, (t->nb - at) * sizeof(*o));
	*o = *r;
	t->nb++;
	return 0;
}

void
pk_svid_trust_expire(struct pk_svid_trust *t, time_t now)
{
	size_t kept = 0;

	for (size_t i = 0; i < t->nb; i++)
		if (t->revoked[i].forget_s > (uint64_t)now)
			t->revoked[kept++] = t->revoked[i];
	t->nb = kept;
}

size_t
pk_svid_trust_count(const struct pk_svid_trust *t)
{
	return t->nb;
}

const struct pk_svid_revocation *
pk_svid_trust_get(const struct pk_svid_trust *t, size_t i)
{
	return &t->revoked[i];
}

bool
pk_svid_is_revoked(const struct pk_svid_trust *t, const struct pk_svid_peer *peer)
{
	for (int kind = PK_SVID_REVOKED_NONE + 1; kind < PK_SVID_REVOKED_COUNT; kind++) {
		const char *name = kind == PK_SVID_REVOKED_WORKLOAD ? peer->workload
		                                                    : peer->binding.dpu;
		bool found;
		size_t at;

		/* A DPU's own identity does not fall with its host. */
		if (peer->workload[0] == '\0' && kind != PK_SVID_REVOKED_DPU)
			continue;
		at = place_of(t, (enum pk_svid_revoked)kind, name, &found);
		if (found && peer->binding.issued_s <= t->revoked[at].issued_until_s)
			return true;
	}
	return false;
}

/* ---- a leaf ---- */

/* Its only URI.  0 or -EINVAL. */
static int
only_uri(X509 *leaf, char *out, size_t size)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
	int uris = 0, err = -EINVAL;

	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *n = sk_GENERAL_NAME_value(names, i);
		const ASN1_STRING *s;
		int len;

		if (n->type != GEN_URI)
			continue;
		uris++;
		s = n->d.uniformResourceIdentifier;
		len = ASN1_STRING_length(s);
		if (len <= 0 || (size_t)len >= size ||
		    memchr(ASN1_STRING_get0_data(s), '\0', (size_t)len) != NULL)
			continue;
		memcpy(out, ASN1_STRING_get0_data(s), (size_t)len);
		out[len] = '\0';
		err = 0;
	}
	GENERAL_NAMES_free(names);
	return uris == 1 ? err : -EINVAL;
}

static int
binding_of(X509 *leaf, struct pk_svid_binding *out)
{
	ASN1_OBJECT *oid = OBJ_txt2obj(PK_SVID_BINDING_OID, 1);
	int at = oid != NULL ? X509_get_ext_by_OBJ(leaf, oid, -1) : -1;
	ASN1_UTF8STRING *text = NULL;
	int err = -EINVAL;

	if (at >= 0 && X509_get_ext_by_OBJ(leaf, oid, at) < 0) {
		const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(X509_get_ext(leaf, at));
		const uint8_t *p = ASN1_STRING_get0_data(value);
		const uint8_t *end = p + ASN1_STRING_length(value);

		text = d2i_ASN1_UTF8STRING(NULL, &p, ASN1_STRING_length(value));
		if (text != NULL && p == end)
			err = pk_svid_binding_parse(out, (const char *)ASN1_STRING_get0_data(text),
			    (size_t)ASN1_STRING_length(text));
	}
	ASN1_UTF8STRING_free(text);
	ASN1_OBJECT_free(oid);
	return err;
}

/* X509-SVID, sections 4.1 to 4.4 and appendix A. */
static const char *
usage_wrong(X509 *leaf)
{
	uint32_t flags = X509_get_extension_flags(leaf), usage = X509_get_key_usage(leaf);

	if ((flags & EXFLAG_INVALID) != 0)
		return "has an extension that cannot be read";
	if ((flags & EXFLAG_CA) != 0)
		return "is that of an authority, not of a workload";
	if ((flags & EXFLAG_KUSAGE) == 0 || (usage & KU_DIGITAL_SIGNATURE) == 0)
		return "may not be used for signatures";
	if ((usage & (KU_KEY_CERT_SIGN | KU_CRL_SIGN)) != 0)
		return "may sign certificates, which no workload's may";
	if ((flags & EXFLAG_XKUSAGE) != 0 &&
	    (X509_get_extended_key_usage(leaf) & (XKU_SSL_SERVER | XKU_SSL_CLIENT)) !=
	        (XKU_SSL_SERVER | XKU_SSL_CLIENT))
		return "is not for both ends of a connection";
	return NULL;
}

/* OpenSSL has to be told the id that is part of what an SM2 signature is over. */
static bool
prepare_sm2(X509 *cert)
{
	ASN1_OCTET_STRING *id;

	if (X509_get_signature_nid(cert) != NID_SM2_with_SM3 ||
	    X509_get0_distinguishing_id(cert) != NULL)
		return true;
	id = ASN1_OCTET_STRING_new();
	if (id == NULL || ASN1_OCTET_STRING_set(id, (const uint8_t *)PK_SVID_SM2_ID, -1) != 1) {
		ASN1_OCTET_STRING_free(id);
		return false;
	}
	X509_set0_distinguishing_id(cert, id);
	return true;
}

static uint64_t
not_after(X509 *leaf)
{
	struct tm tm;

	if (ASN1_TIME_to_tm(X509_get0_notAfter(leaf), &tm) != 1)
		return 0;
	return (uint64_t)timegm(&tm);
}

enum pk_svid_verdict
pk_svid_verify(const struct pk_svid_trust *t, X509 *leaf, STACK_OF(X509) * chain, time_t now,
    struct pk_svid_peer *out, struct pk_diag *diag)
{
	enum pk_svid_verdict verdict = PK_SVID_REFUSED;
	X509_STORE_CTX *ctx = NULL;
	char dpu[PK_SVID_DPU_MAX];
	const char *why;

	memset(out, 0, sizeof(*out));
	if (t->store == NULL) {
		pk_diag_set(diag, "there is no trust bundle yet");
		return PK_SVID_UNTRUSTED;
	}
	if (only_uri(leaf, out->id, sizeof(out->id)) != 0) {
		out->id[0] = '\0';
		pk_diag_set(diag, "the peer's certificate has not exactly one URI, a SPIFFE id");
		goto out;
	}
	if (pk_svid_id_parse(out->id, t->domain, out->workload, dpu) != 0) {
		pk_diag_set(
		    diag, "%.200s: is neither a workload nor a DPU of %s", out->id, t->domain);
		goto out;
	}
	if ((why = usage_wrong(leaf)) != NULL) {
		pk_diag_set(diag, "%.200s: its certificate %s", out->id, why);
		goto out;
	}
	if (binding_of(leaf, &out->binding) != 0 ||
	    (dpu[0] != '\0' && strcmp(dpu, out->binding.dpu) != 0)) {
		pk_diag_set(diag, "%.200s: its certificate does not say to which DPU it was issued",
		    out->id);
		goto out;
	}
	verdict = PK_SVID_UNTRUSTED;
	ctx = X509_STORE_CTX_new();
	if (ctx == NULL || !prepare_sm2(leaf) ||
	    X509_STORE_CTX_init(ctx, t->store, leaf, chain) != 1) {
		pk_diag_set(diag, "no memory");
		goto out;
	}
	X509_STORE_CTX_set_time(ctx, 0, now);
	/* Keys and signatures of 112 bits at least, for instance no RSA below 2048. */
	X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(ctx), 2);
	if (X509_verify_cert(ctx) != 1) {
		pk_diag_set(diag, "%.200s: its certificate is not believed: %s", out->id,
		    X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
		goto out;
	}
	out->not_after_s = not_after(leaf);
	verdict = PK_SVID_TRUSTED;
	if (pk_svid_is_revoked(t, out)) {
		pk_diag_set(diag,
		    "%.200s: revoked: it was issued to DPU %s before that lost its trust", out->id,
		    out->binding.dpu);
		verdict = PK_SVID_REVOKED;
	}
out:
	ERR_clear_error();
	X509_STORE_CTX_free(ctx);
	return verdict;
}
