#pragma once

#include <jansson.h>

#include "attest/ek.h"
#include "attest/ima_policy.h"
#include "attest/pcr.h"

/*
 * Reference values: what a host has to look like to be trusted.  JSON; docs/attestation.md lists the
 * members.  An unknown member is refused, for it may be a misspelt restriction.
 */
enum attest_layer {
	ATTEST_LAYER_ENROLMENT = 1 << 0, /* EK certificate, AK, activation */
	ATTEST_LAYER_QUOTE = 1 << 1,     /* always on */
	ATTEST_LAYER_EVENTLOG = 1 << 2,
	ATTEST_LAYER_IMA = 1 << 3,
};

struct attest_reference {
	unsigned int layers;
	uint16_t bank; /* in which the logs are replayed; SHA-256 unless stated */
	struct attest_selection require;
	int superset_ok;
	const json_t *pcrs;      /* {"0": "hex" or ["hex", ...]} of `bank` */
	const json_t *events;    /* {"4": ["hex", ...]}: all that may be extended */
	const json_t *variables; /* {"db": ["sha256 of the value", ...]} */
	const json_t *cmdline;   /* ["glob", ...] */
	uint32_t unlogged;       /* PCRs extended after boot, not to be replayed from the log */
	int secure_boot;         /* has to be on */
	struct attest_ima_policy *ima; /* NULL: entries are not judged by file */
	struct attest_roots *roots;    /* NULL: EK certificates are not judged */
	uint8_t (*ek_allow)[32];
	size_t nb_ek_allow;
	uint8_t ak_name[ATTEST_NAME_MAX]; /* of the enrolled AK; ak_name_len 0: not pinned */
	size_t ak_name_len;
	uint8_t nonce[ATTEST_NAME_MAX]; /* nonce_given says whether there was one, even empty */
	size_t nonce_len;
	int nonce_given;
	json_t *root; /* owns the borrowed JSON above */
};

/*
 * Read a reference.  Members that name files ("ima", "ek_roots", as texts that are no PEM) are handed
 * to `read_file`, which returns bytes to be freed, or NULL with the sentence in `d`; it may be NULL,
 * then such members are refused.  Returns 0, -EINVAL or -ENOMEM.
 */
typedef uint8_t *attest_read_file(void *arg, const char *path, size_t *len, struct pk_diag *d);

int attest_reference_parse(struct attest_reference **out, const uint8_t *bytes, size_t len,
    attest_read_file *read_file, void *arg, struct pk_diag *d);
void attest_reference_destroy(struct attest_reference *ref);
