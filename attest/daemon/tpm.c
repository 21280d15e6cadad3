#include "attest/daemon/tpm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tss2/tss2_esys.h>
#include <tss2/tss2_mu.h>
#include <tss2/tss2_rc.h>
#include <tss2/tss2_tctildr.h>

#include "attest/pcr.h"
#include "attest/tpm.h"

#define EK_HANDLE   0x81010001 /* TCG TPM v2.0 Provisioning Guidance, section 7.8 */
#define EK_CERT_NV  0x01c00002 /* TCG EK Credential Profile, section 2.2.1.4 */
#define CERT_MAX    16384
#define QUOTE_TRIES 8
#define DEFAULT_NV  512 /* bytes of one NV read, when the TPM does not say */

struct attest_tpm {
	const struct attest_tpm_conf *conf;
	TSS2_TCTI_CONTEXT *tcti;
	ESYS_CONTEXT *esys; /* NULL: not reached */
	ESYS_TR ek, ak;
	bool ek_transient;
	uint8_t ek_public[1024], ak_public[1024];
	size_t ek_len, ak_len;
	uint8_t *cert;
	size_t cert_len;
};

/* TCG EK Credential Profile, annex B.3.3, template L-1: PolicySecret(TPM_RH_ENDORSEMENT). */
static const TPM2B_PUBLIC ek_template = {
	.publicArea = {
		.type = TPM2_ALG_RSA,
		.nameAlg = TPM2_ALG_SHA256,
		.objectAttributes = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT |
		    TPMA_OBJECT_SENSITIVEDATAORIGIN | TPMA_OBJECT_ADMINWITHPOLICY |
		    TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT,
		.authPolicy = { .size = 32, .buffer = { 0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3,
		    0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7, 0x6e,
		    0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa } },
		.parameters.rsaDetail = {
			.symmetric = { .algorithm = TPM2_ALG_AES, .keyBits.aes = 128,
			    .mode.aes = TPM2_ALG_CFB },
			.scheme.scheme = TPM2_ALG_NULL,
			.keyBits = 2048,
		},
		.unique.rsa.size = 256,
	},
};

#define AK_ATTRIBUTES                                                                       \
	(TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN | \
	    TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED |          \
	    TPMA_OBJECT_SIGN_ENCRYPT)

/* `unique` sets ours apart from anybody else's primary key of the same kind. */
static const char ak_unique[] = "picket attestation key 1";

static void
ak_template(TPM2B_PUBLIC *t, enum attest_ak_kind kind)
{
	memset(t, 0, sizeof(*t));
	t->publicArea.nameAlg = TPM2_ALG_SHA256;
	t->publicArea.objectAttributes = AK_ATTRIBUTES;
	if (kind == ATTEST_AK_RSA) {
		TPMS_RSA_PARMS *p = &t->publicArea.parameters.rsaDetail;

		t->publicArea.type = TPM2_ALG_RSA;
		p->symmetric.algorithm = TPM2_ALG_NULL;
		p->scheme.scheme = TPM2_ALG_RSASSA;
		p->scheme.details.rsassa.hashAlg = TPM2_ALG_SHA256;
		p->keyBits = 2048;
		t->publicArea.unique.rsa.size = 256;
		memcpy(t->publicArea.unique.rsa.buffer, ak_unique, sizeof(ak_unique));
	} else {
		TPMS_ECC_PARMS *p = &t->publicArea.parameters.eccDetail;

		t->publicArea.type = TPM2_ALG_ECC;
		p->symmetric.algorithm = TPM2_ALG_NULL;
		p->scheme.scheme = TPM2_ALG_ECDSA;
		p->scheme.details.ecdsa.hashAlg = TPM2_ALG_SHA256;
		p->curveID = TPM2_ECC_NIST_P256;
		p->kdf.scheme = TPM2_ALG_NULL;
		t->publicArea.unique.ecc.x.size = 32;
		t->publicArea.unique.ecc.y.size = 32;
		memcpy(t->publicArea.unique.ecc.x.buffer, ak_unique, sizeof(ak_unique));
	}
}

/* The sentence for a response code; what layer said it decides whether the TPM was reached. */
static int
refuse(struct pk_diag *d, const char *what, TSS2_RC rc)
{
	TSS2_RC layer = rc & TSS2_RC_LAYER_MASK;

	if (rc == TPM2_RC_LOCKOUT)
		pk_diag_set(d,
		    "TPM: %s: it is in dictionary attack lockout (0x921); wait, or clear it with tpm2_dictionarylockout -c",
		    what);
	else
		pk_diag_set(d, "TPM: %s: %s (0x%x)", what, Tss2_RC_Decode(rc), rc);
	return layer == TSS2_TPM_RC_LAYER || layer == TSS2_RESMGR_TPM_RC_LAYER ? -EACCES : -EIO;
}

#define TRANSIENT_FIRST \
	((TPM2_HANDLE)TPM2_HT_TRANSIENT << TPM2_HR_SHIFT) /* theirs overflows an int */

/*
 * Objects that a program before us, or ourselves before a crash, left in the TPM.  Behind a resource
 * manager we only see our own; without one the TPM has three places, and a fourth key does not load.
 */
static void
flush_strays(ESYS_CONTEXT *esys)
{
	TPMS_CAPABILITY_DATA *cap = NULL;
	TPMI_YES_NO more;

	if (Esys_GetCapability(esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, TPM2_CAP_HANDLES,
	        TRANSIENT_FIRST, TPM2_MAX_CAP_HANDLES, &more, &cap) != TSS2_RC_SUCCESS)
		return;
	for (UINT32 i = 0; i < cap->data.handles.count; i++) {
		ESYS_TR object;

		if (Esys_TR_FromTPMPublic(esys, cap->data.handles.handle[i], ESYS_TR_NONE,
		        ESYS_TR_NONE, ESYS_TR_NONE, &object) == TSS2_RC_SUCCESS)
			(void)Esys_FlushContext(esys, object);
	}
	Esys_Free(cap);
}

static int
primary(ESYS_CONTEXT *esys, const TPM2B_PUBLIC *template, ESYS_TR *key, TPM2B_PUBLIC **public,
    const char *what, struct pk_diag *d)
{
	static const TPM2B_SENSITIVE_CREATE sensitive;
	static const TPM2B_DATA outside;
	static const TPML_PCR_SELECTION creation;
	TSS2_RC rc = Esys_CreatePrimary(esys, ESYS_TR_RH_ENDORSEMENT, ESYS_TR_PASSWORD,
	    ESYS_TR_NONE, ESYS_TR_NONE, &sensitive, template, &outside, &creation, key, public,
	    NULL, NULL, NULL);

	return rc == TSS2_RC_SUCCESS ? 0 : refuse(d, what, rc);
}

/* Whether it is the RSA EK of the template, and not something else that was put there. */
static bool
is_ek(const TPM2B_PUBLIC *p)
{
	const TPMT_PUBLIC *a = &p->publicArea, *want = &ek_template.publicArea;

	return a->type == want->type && a->nameAlg == want->nameAlg &&
	    a->objectAttributes == want->objectAttributes &&
	    a->authPolicy.size == want->authPolicy.size &&
	    memcmp(a->authPolicy.buffer, want->authPolicy.buffer, want->authPolicy.size) == 0;
}

static int
find_ek(struct attest_tpm *t, TPM2B_PUBLIC **public, struct pk_diag *d)
{
	TPM2B_PUBLIC *there = NULL;

	t->ek_transient = false;
	if (Esys_TR_FromTPMPublic(t->esys, EK_HANDLE, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
	        &t->ek) == TSS2_RC_SUCCESS) {
		if (Esys_ReadPublic(t->esys, t->ek, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
		        &there, NULL, NULL) == TSS2_RC_SUCCESS &&
		    is_ek(there)) {
			*public = there;
			return 0;
		}
		Esys_Free(there);
		(void)Esys_TR_Close(t->esys, &t->ek);
	}
	t->ek_transient = true;
	return primary(t->esys, &ek_template, &t->ek, public, "making the EK", d);
}

static int
marshal(const TPM2B_PUBLIC *p, uint8_t *to, size_t size, size_t *len, struct pk_diag *d)
{
	TSS2_RC rc;

	*len = 0;
	rc = Tss2_MU_TPM2B_PUBLIC_Marshal(p, to, size, len);
	return rc == TSS2_RC_SUCCESS ? 0 : refuse(d, "reading a public area", rc);
}

static void
let_go(struct attest_tpm *t)
{
	if (t->esys != NULL) {
		if (t->ak != ESYS_TR_NONE)
			(void)Esys_FlushContext(t->esys, t->ak);
		if (t->ek != ESYS_TR_NONE && t->ek_transient)
			(void)Esys_FlushContext(t->esys, t->ek);
		Esys_Finalize(&t->esys);
	}
	if (t->tcti != NULL)
		Tss2_TctiLdr_Finalize(&t->tcti);
	t->ek = t->ak = ESYS_TR_NONE;
}

/* Reach the TPM, and have EK (if asked for) and AK loaded. */
static int
take(struct attest_tpm *t, bool with_ek, struct pk_diag *d)
{
	TPM2B_PUBLIC template, *ek = NULL, *ak = NULL;
	TSS2_RC rc;
	int err = 0;

	if (t->esys == NULL) {
		rc = Tss2_TctiLdr_Initialize(t->conf->tcti, &t->tcti);
		if (rc == TSS2_RC_SUCCESS)
			rc = Esys_Initialize(&t->esys, t->tcti, NULL);
		if (rc == TSS2_RC_SUCCESS) {
			/* Firmware has done it long ago, but a TPM without a machine waits for it. */
			rc = Esys_Startup(t->esys, TPM2_SU_CLEAR);
			if (rc == TPM2_RC_INITIALIZE)
				rc = TSS2_RC_SUCCESS;
		}
		if (rc != TSS2_RC_SUCCESS) {
			err = refuse(d, t->conf->tcti, rc);
			let_go(t);
			return err;
		}
		flush_strays(t->esys);
	}
	if (t->ak == ESYS_TR_NONE) {
		ak_template(&template, t->conf->ak);
		err = primary(t->esys, &template, &t->ak, &ak, "making the AK", d);
		if (err == 0)
			err = marshal(ak, t->ak_public, sizeof(t->ak_public), &t->ak_len, d);
		Esys_Free(ak);
	}
	if (err == 0 && with_ek && t->ek == ESYS_TR_NONE) {
		err = find_ek(t, &ek, d);
		if (err == 0)
			err = marshal(ek, t->ek_public, sizeof(t->ek_public), &t->ek_len, d);
		Esys_Free(ek);
	}
	if (err != 0)
		let_go(t);
	return err;
}

/* After each use: an error may mean that the other end is another TPM now. */
static void
done(struct attest_tpm *t, int err)
{
	if (err != 0 || t->conf->share)
		let_go(t);
}

/* The EK certificate, if the TPM was made with one.  That there is none is no error here. */
static void
read_cert(struct attest_tpm *t)
{
	TPM2B_NV_PUBLIC *public = NULL;
	ESYS_TR nv;
	UINT16 size, at = 0;

	if (Esys_TR_FromTPMPublic(t->esys, EK_CERT_NV, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
	        &nv) != TSS2_RC_SUCCESS)
		return;
	if (Esys_NV_ReadPublic(t->esys, nv, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &public,
	        NULL) != TSS2_RC_SUCCESS)
		goto out;
	size = public->nvPublic.dataSize;
	if (size == 0 || size > CERT_MAX || (t->cert = malloc(size)) == NULL)
		goto out;
	while (at < size) {
		UINT16 n = (UINT16)PK_MIN(size - at, DEFAULT_NV);
		TPM2B_MAX_NV_BUFFER *piece = NULL;

		/* Readable by its own empty auth, as the profile has it. */
		if (Esys_NV_Read(t->esys, nv, nv, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, n,
		        at, &piece) != TSS2_RC_SUCCESS ||
		    piece->size != n) {
			Esys_Free(piece);
			free(t->cert);
			t->cert = NULL;
			goto out;
		}
		memcpy(t->cert + at, piece->buffer, n);
		Esys_Free(piece);
		at = (UINT16)(at + n);
	}
	t->cert_len = size;
	/* The index may be longer than the certificate in it. */
	if (size >= 4 && t->cert[0] == 0x30 && t->cert[1] == 0x82) {
		size_t der = 4 + ((size_t)t->cert[2] << 8 | t->cert[3]);

		t->cert_len = PK_MIN(der, (size_t)size);
	}
out:
	Esys_Free(public);
	(void)Esys_TR_Close(t->esys, &nv);
}

int
attest_tpm_create(struct attest_tpm **out, const struct attest_tpm_conf *conf, struct pk_diag *d)
{
	struct attest_tpm *t = calloc(1, sizeof(*t));
	int err;

	if (t == NULL) {
		pk_diag_set(d, "no memory");
		return -ENOMEM;
	}
	t->conf = conf;
	t->ek = t->ak = ESYS_TR_NONE;
	err = take(t, true, d);
	if (err != 0) {
		attest_tpm_destroy(t);
		return err;
	}
	read_cert(t);
	done(t, 0);
	*out = t;
	return 0;
}

void
attest_tpm_destroy(struct attest_tpm *t)
{
	if (t == NULL)
		return;
	let_go(t);
	free(t->cert);
	free(t);
}

struct attest_bytes
attest_tpm_ek_public(const struct attest_tpm *t)
{
	return (struct attest_bytes){ t->ek_public, t->ek_len };
}

struct attest_bytes
attest_tpm_ek_cert(const struct attest_tpm *t)
{
	return (struct attest_bytes){ t->cert, t->cert_len };
}

struct attest_bytes
attest_tpm_ak_public(const struct attest_tpm *t)
{
	return (struct attest_bytes){ t->ak_public, t->ak_len };
}

/* ---- activation --------------------------------------------------------------------------------- */

/* A policy session in which the EK may be used: PolicySecret(endorsement), as its template says. */
static TSS2_RC
ek_session(ESYS_CONTEXT *esys, ESYS_TR *session)
{
	static const TPMT_SYM_DEF none = { .algorithm = TPM2_ALG_NULL };
	TSS2_RC rc = Esys_StartAuthSession(esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE,
	    ESYS_TR_NONE, ESYS_TR_NONE, NULL, TPM2_SE_POLICY, &none, TPM2_ALG_SHA256, session);

	if (rc != TSS2_RC_SUCCESS)
		return rc;
	rc = Esys_PolicySecret(esys, ESYS_TR_RH_ENDORSEMENT, *session, ESYS_TR_PASSWORD,
	    ESYS_TR_NONE, ESYS_TR_NONE, NULL, NULL, NULL, 0, NULL, NULL);
	if (rc != TSS2_RC_SUCCESS)
		(void)Esys_FlushContext(esys, *session);
	return rc;
}

static int
activate(struct attest_tpm *t, const TPM2B_ID_OBJECT *id, const TPM2B_ENCRYPTED_SECRET *encrypted,
    struct pk_secret *secret, struct pk_diag *d)
{
	TPM2B_DIGEST *cert = NULL;
	ESYS_TR session;
	TSS2_RC rc = ek_session(t->esys, &session);
	int err;

	if (rc != TSS2_RC_SUCCESS)
		return refuse(d, "opening the EK", rc);
	rc = Esys_ActivateCredential(
	    t->esys, t->ak, t->ek, ESYS_TR_PASSWORD, session, ESYS_TR_NONE, id, encrypted, &cert);
	if (rc != TSS2_RC_SUCCESS) {
		(void)Esys_FlushContext(t->esys, session);
		return refuse(d, "activating the credential", rc);
	}
	(void)Esys_FlushContext(t->esys, session);
	err = pk_secret_init(secret, cert->buffer, cert->size);
	pk_wipe(cert->buffer, cert->size);
	Esys_Free(cert);
	return err;
}

int
attest_tpm_activate(struct attest_tpm *t, struct attest_bytes id_object,
    struct attest_bytes encrypted, struct pk_secret *secret, struct pk_diag *d)
{
	TPM2B_ID_OBJECT id = { 0 };
	TPM2B_ENCRYPTED_SECRET enc = { 0 };
	size_t at = 0, at2 = 0;
	int err;

	if (Tss2_MU_TPM2B_ID_OBJECT_Unmarshal(id_object.at, id_object.len, &at, &id) !=
	        TSS2_RC_SUCCESS ||
	    Tss2_MU_TPM2B_ENCRYPTED_SECRET_Unmarshal(encrypted.at, encrypted.len, &at2, &enc) !=
	        TSS2_RC_SUCCESS ||
	    at != id_object.len || at2 != encrypted.len) {
		pk_diag_set(d, "the DPU's credential is not made as a TPM wants it");
		return -EPROTO;
	}
	err = take(t, true, d);
	if (err == 0)
		err = activate(t, &id, &enc, secret, d);
	done(t, err);
	return err;
}

/* ---- quotes ------------------------------------------------------------------------------------- */

static void
select_pcrs(TPML_PCR_SELECTION *s, uint16_t bank, uint32_t mask)
{
	TPMS_PCR_SELECTION *one = &s->pcrSelections[s->count++];

	one->hash = bank;
	one->sizeofSelect = 3;
	for (unsigned int i = 0; i < 3; i++)
		one->pcrSelect[i] = (BYTE)(mask >> (8 * i));
}

/* A TPM gives at most eight values at a time, and says which. */
static int
read_pcrs(struct attest_tpm *t, struct attest_bank *b, uint32_t mask, struct pk_diag *d)
{
	size_t size = attest_alg_size(b->alg);

	b->mask = 0;
	while ((mask & ~b->mask) != 0) {
		TPML_PCR_SELECTION want = { 0 }, *got = NULL;
		TPML_DIGEST *values = NULL;
		UINT32 n = 0;
		TSS2_RC rc;

		select_pcrs(&want, b->alg, mask & ~b->mask);
		rc = Esys_PCR_Read(
		    t->esys, ESYS_TR_NONE, ESYS_TR_NONE, ESYS_TR_NONE, &want, NULL, &got, &values);
		if (rc != TSS2_RC_SUCCESS)
			return refuse(d, "reading PCRs", rc);
		for (unsigned int i = 0; got->count == 1 && i < ATTEST_NB_PCRS; i++) {
			if ((got->pcrSelections[0].pcrSelect[i / 8] >> (i % 8) & 1) == 0 ||
			    n == values->count || values->digests[n].size != size)
				continue;
			memcpy(b->value[i], values->digests[n++].buffer, size);
			b->mask |= 1U << i;
		}
		Esys_Free(got);
		Esys_Free(values);
		if (n == 0) {
			pk_diag_set(d, "TPM: it has no %s bank; allocate it with tpm2_pcrallocate",
			    attest_alg_name(b->alg));
			return -EACCES;
		}
	}
	return 0;
}

/* Whether the values are those of the quote, bank by bank as it names them. */
static bool
agree(const struct attest_pcrs *pcrs, const uint8_t *message, size_t len)
{
	struct attest_bytes part[ATTEST_BANKS_MAX * ATTEST_NB_PCRS];
	struct attest_attest attest;
	uint8_t digest[ATTEST_DIGEST_MAX];
	size_t n = 0;

	if (attest_attest_parse(&attest, message, len, NULL) != 0)
		return false;
	for (unsigned int k = 0; k < attest.selection.nb_banks; k++) {
		const struct attest_bank *b = attest_pcrs_bank(pcrs, attest.selection.bank[k].alg);

		for (unsigned int i = 0; b != NULL && i < ATTEST_NB_PCRS; i++)
			if (attest.selection.bank[k].mask >> i & 1)
				part[n++] =
				    (struct attest_bytes){ b->value[i], attest_alg_size(b->alg) };
	}
	/* Both keys sign with SHA-256, so that is what the quote hashes values with. */
	return attest_hash(NULL, ATTEST_ALG_SHA256, part, n, digest) == 0 &&
	    attest.pcr_digest.len == 32 && memcmp(attest.pcr_digest.at, digest, 32) == 0;
}

static void
print_bank(FILE *f, const struct attest_bank *b)
{
	char hex[2 * ATTEST_DIGEST_MAX + 1];
	const char *comma = "";

	fprintf(f, "\"%s\":{", attest_alg_name(b->alg));
	for (unsigned int i = 0; i < ATTEST_NB_PCRS; i++) {
		if ((b->mask >> i & 1) == 0)
			continue;
		attest_hex(b->value[i], attest_alg_size(b->alg), hex);
		fprintf(f, "%s\"%u\":\"%s\"", comma, i, hex);
		comma = ",";
	}
	fputc('}', f);
}

static char *
to_json(const struct attest_pcrs *pcrs)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (f == NULL)
		return NULL;
	for (unsigned int k = 0; k < pcrs->nb_banks; k++) {
		fputc(k == 0 ? '{' : ',', f);
		print_bank(f, &pcrs->bank[k]);
	}
	fputc('}', f);
	return fclose(f) == 0 ? text : NULL;
}

static int
keep(struct attest_quoted *out, const TPM2B_ATTEST *quoted, const TPMT_SIGNATURE *signature)
{
	size_t at = 0;

	attest_quoted_fini(out);
	out->message = malloc(quoted->size);
	out->signature = malloc(sizeof(*signature));
	if (out->message == NULL || out->signature == NULL)
		return -ENOMEM;
	memcpy(out->message, quoted->attestationData, quoted->size);
	out->message_len = quoted->size;
	if (Tss2_MU_TPMT_SIGNATURE_Marshal(signature, out->signature, sizeof(*signature), &at) !=
	    TSS2_RC_SUCCESS)
		return -EPROTO;
	out->signature_len = at;
	return 0;
}

static int
quote_once(struct attest_tpm *t, const struct attest_selection *wanted, const uint8_t *qualifying,
    struct attest_pcrs *pcrs, struct attest_quoted *out, struct pk_diag *d)
{
	static const TPMT_SIG_SCHEME own = { .scheme = TPM2_ALG_NULL };
	TPM2B_DATA extra = { .size = 32 };
	TPML_PCR_SELECTION selection = { 0 };
	TPM2B_ATTEST *quoted = NULL;
	TPMT_SIGNATURE *signature = NULL;
	TSS2_RC rc;
	int err = 0;

	pcrs->nb_banks = wanted->nb_banks;
	for (unsigned int i = 0; err == 0 && i < wanted->nb_banks; i++) {
		pcrs->bank[i].alg = wanted->bank[i].alg;
		err = read_pcrs(t, &pcrs->bank[i], wanted->bank[i].mask, d);
		select_pcrs(&selection, wanted->bank[i].alg, wanted->bank[i].mask);
	}
	if (err != 0)
		return err;
	memcpy(extra.buffer, qualifying, 32);
	rc = Esys_Quote(t->esys, t->ak, ESYS_TR_PASSWORD, ESYS_TR_NONE, ESYS_TR_NONE, &extra, &own,
	    &selection, &quoted, &signature);
	if (rc != TSS2_RC_SUCCESS)
		return refuse(d, "quoting", rc);
	err = keep(out, quoted, signature);
	Esys_Free(quoted);
	Esys_Free(signature);
	if (err != 0) {
		pk_diag_set(d, "TPM: its quote could not be kept: %s", strerror(-err));
		return err;
	}
	return agree(pcrs, out->message, out->message_len) ? 0 : -EBUSY;
}

int
attest_tpm_quote(struct attest_tpm *t, const struct attest_selection *selection,
    const uint8_t qualifying[32], struct attest_quoted *out, struct pk_diag *d)
{
	struct attest_pcrs *pcrs = calloc(1, sizeof(*pcrs));
	int err = pcrs != NULL ? -EBUSY : -ENOMEM;

	memset(out, 0, sizeof(*out));
	for (unsigned int i = 0; err == -EBUSY && i < QUOTE_TRIES; i++) {
		pk_diag_set(d, "TPM: PCRs change faster than they can be quoted");
		err = take(t, false, d);
		if (err == 0)
			err = quote_once(t, selection, qualifying, pcrs, out, d);
	}
	if (err == 0 && (out->values = to_json(pcrs)) == NULL)
		err = -ENOMEM;
	free(pcrs);
	done(t, err);
	if (err != 0)
		attest_quoted_fini(out);
	return err;
}

void
attest_quoted_fini(struct attest_quoted *q)
{
	free(q->message);
	free(q->signature);
	free(q->values);
	memset(q, 0, sizeof(*q));
}
