#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <openssl/evp.h>

#include "attest/daemon/record.h"
#include "attest/reference.h"
#include "config.h"
#include "lib/jws.h"

/* AR4SI tiers (draft-ietf-rats-ar4si, section 2.3.2). */
enum {
	TIER_NONE = 0,
	TIER_AFFIRMING = 2,
	TIER_WARNING = 32,
	TIER_CONTRAINDICATED = 96,
};

static const char *
tier_name(int tier)
{
	return tier == TIER_AFFIRMING ? "affirming"
	    : tier == TIER_WARNING    ? "warning"
	    : tier == TIER_NONE       ? "none"
	                              : "contraindicated";
}

/* How a claim stands: bad if one of the codes in [first, last] is among the reasons. */
static int
claim(const struct attest_ear *e, enum attest_code first, enum attest_code last, unsigned int layer)
{
	if (!e->judged || (e->unchecked & layer) != 0)
		return TIER_NONE;
	for (unsigned int i = 0; e->reasons != NULL && i < e->reasons->nb; i++)
		if (e->reasons->reason[i].code >= first && e->reasons->reason[i].code <= last)
			return TIER_CONTRAINDICATED;
	return TIER_AFFIRMING;
}

static int
status_of(enum attest_state s)
{
	switch (s) {
	case ATTEST_STATE_TRUSTED:
		return TIER_AFFIRMING;
	case ATTEST_STATE_SUSPECT:
	case ATTEST_STATE_RECOVERING:
		return TIER_WARNING;
	case ATTEST_STATE_QUARANTINED:
		return TIER_CONTRAINDICATED;
	default:
		return TIER_NONE;
	}
}

static json_t *
claims(const struct attest_ear *e)
{
	json_t *vector = json_pack("{s:i, s:i, s:i, s:i}", "instance-identity",
	    claim(e, ATTEST_EK_CERT_UNTRUSTED, ATTEST_QUOTE_SIGNATURE, 0), "hardware",
	    claim(e, ATTEST_EK_CERT_UNTRUSTED, ATTEST_EK_ATTRIBUTES, ATTEST_LAYER_ENROLMENT),
	    "configuration",
	    claim(e, ATTEST_PCR_POLICY, ATTEST_CMDLINE_UNKNOWN, ATTEST_LAYER_EVENTLOG),
	    "executables", claim(e, ATTEST_IMA_MALFORMED, ATTEST_BOOT_AGGREGATE, ATTEST_LAYER_IMA));
	json_t *host = json_pack("{s:s, s:o, s:s, s:I}", "ear.status",
	    tier_name(status_of(e->state)), "ear.trustworthiness-vector", vector, "picket.state",
	    attest_state_name(e->state), "picket.epoch", (json_int_t)e->epoch);
	json_t *codes = json_array(), *all;
	char hex[65];

	for (unsigned int i = 0; e->reasons != NULL && i < e->reasons->nb; i++)
		json_array_append_new(
		    codes, json_string(attest_code_name(e->reasons->reason[i].code)));
	json_object_set_new(host, "picket.reasons", codes);
	if (e->reference != NULL) {
		char id[80];

		attest_hex(e->reference, 32, hex);
		snprintf(id, sizeof(id), "sha-256:%s", hex);
		json_object_set_new(host, "ear.appraisal-policy-id", json_string(id));
	}
	all = json_pack("{s:s, s:I, s:I, s:s, s:s, s:{s:s, s:s}, s:{s:o}}", "eat_profile",
	    "tag:github.com,2023:veraison/ear", "iat", (json_int_t)e->iat, "exp",
	    (json_int_t)e->exp, "iss", e->dpu, "sub", e->host, "ear.verifier-id", "developer",
	    "picket", "build", PK_VERSION, "submods", e->host[0] != '\0' ? e->host : "host", host);
	if (all != NULL && e->nonce != NULL) {
		char *nonce = pk_base64url(e->nonce, ATTEST_NONCE_LEN);

		if (nonce != NULL)
			json_object_set_new(all, "eat_nonce", json_string(nonce));
		free(nonce);
	}
	return all;
}

char *
attest_ear_make(const struct attest_ear *e, EVP_PKEY *key, struct pk_diag *d)
{
	json_t *body = claims(e);
	char *text = body != NULL ? json_dumps(body, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
	char *token = NULL;

	pk_diag_set(d, "no memory");
	if (text != NULL)
		token = pk_jws_sign("JWT", text, key, d);
	json_decref(body);
	free(text);
	return token;
}
