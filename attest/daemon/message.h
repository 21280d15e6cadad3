#pragma once

#include "attest/pcr.h"
#include "lib/diag.h"

/*
 * What a host and its DPU say to each other, inside TLS 1.3.
 *
 *     host  HELLO                             who I am: EK with its certificate, AK
 *     DPU           ACTIVATE                  a secret that only this EK opens, for this AK
 *     host  ACTIVATED                         the secret
 *     DPU           CHALLENGE                 nonce, banks and PCRs, from which entry of the IMA list on
 *     host  EVIDENCE                          quote, PCR values, logs
 *     DPU           VERDICT                   what has become of it
 *     host  NUDGE                             my list has grown: ask me
 *
 * A message is
 *
 *     length (4)  of all that follows, version (1), type (1), zero (2), then fields
 *     field:      tag (2), zero (2), length (4), bytes                  numbers are big-endian
 *
 * with each tag once, ascending: equal messages are equal bytes.  A tag a type does not know, a field
 * that is lacking or longer than its bound, anything after the last field: malformed, and the
 * connection ends.  Every field has its bound, so a message has one (attest_message_max()).
 */
#define ATTEST_MESSAGE_VERSION 1
#define ATTEST_MESSAGE_HEADER  8 /* bytes, the length field among them */
#define ATTEST_NONCE_LEN       32
#define ATTEST_HOST_MAX        64 /* bytes of a host's name with the final NUL */

enum attest_message_type {
	ATTEST_MESSAGE_NONE = 0,
	ATTEST_MESSAGE_HELLO,
	ATTEST_MESSAGE_ACTIVATE,
	ATTEST_MESSAGE_ACTIVATED,
	ATTEST_MESSAGE_CHALLENGE,
	ATTEST_MESSAGE_EVIDENCE,
	ATTEST_MESSAGE_VERDICT,
	ATTEST_MESSAGE_NUDGE,
	ATTEST_MESSAGE_COUNT,
};

enum attest_field {
	ATTEST_FIELD_HOST = 0,  /* name: letters, digits, '.', '-', '_' */
	ATTEST_FIELD_EK_PUBLIC, /* TPM2B_PUBLIC */
	ATTEST_FIELD_EK_CERT,   /* DER; absent when the TPM holds none */
	ATTEST_FIELD_EK_CHAIN,  /* PEM of intermediates; may be absent */
	ATTEST_FIELD_AK_PUBLIC, /* TPM2B_PUBLIC */
	ATTEST_FIELD_ID_OBJECT, /* TPM2B_ID_OBJECT */
	ATTEST_FIELD_ENCRYPTED, /* TPM2B_ENCRYPTED_SECRET */
	ATTEST_FIELD_SECRET,    /* what ID_OBJECT wraps */
	ATTEST_FIELD_NONCE,     /* ATTEST_NONCE_LEN bytes */
	ATTEST_FIELD_SELECTION, /* banks to be quoted: hash (2) and PCRs (4, bit i asks for PCR i) of each */
	ATTEST_FIELD_IMA_FROM,   /* number, 4: entries the DPU has judged already */
	ATTEST_FIELD_WANT_LOG,   /* number, 1: the event log is wanted too */
	ATTEST_FIELD_QUOTE,      /* TPMS_ATTEST */
	ATTEST_FIELD_SIGNATURE,  /* TPMT_SIGNATURE */
	ATTEST_FIELD_PCR_VALUES, /* JSON, see attest_pcrs_parse() */
	ATTEST_FIELD_EVENTLOG,
	ATTEST_FIELD_IMA,     /* binary list from entry IMA_FROM on */
	ATTEST_FIELD_STATE,   /* number, 1: enum attest_state */
	ATTEST_FIELD_EPOCH,   /* number, 8 */
	ATTEST_FIELD_NEXT_MS, /* number, 4: when the next challenge is due */
	ATTEST_FIELD_TEXT,    /* UTF-8, one reason a line */
	ATTEST_FIELD_COUNT,
};

/* Fields that are not there have .at == NULL.  All are borrowed from the bytes parsed. */
struct attest_message {
	enum attest_message_type type;
	struct attest_bytes field[ATTEST_FIELD_COUNT];
};

/* "evidence"; never NULL. */
const char *attest_message_name(unsigned int type);

/* The longest message of a type, header and all; 0 for no type.  Context: any, as for all here. */
size_t attest_message_max(unsigned int type);

/*
 * The length of the message that begins with head[0 .. ATTEST_MESSAGE_HEADER - 1].  Returns -EPROTO with
 * the sentence in `d` when it is no message, or longer than its type may be or than `limit`.
 */
int attest_message_length(const uint8_t *head, size_t limit, size_t *len, struct pk_diag *d);

/* Read one whole message.  Returns 0 or -EPROTO. */
int attest_message_parse(
    struct attest_message *out, const uint8_t *bytes, size_t len, struct pk_diag *d);

/* A numeric field, which has to be there. */
uint64_t attest_message_number(const struct attest_message *m, enum attest_field f);

/* Set a numeric field from `store`, which has to outlive the message. */
void attest_message_set_number(
    struct attest_message *m, enum attest_field f, uint64_t value, uint8_t store[8]);

/* The banks of a CHALLENGE: each once, of a hash we know, and with a PCR from 0 to 23 at least. */
#define ATTEST_SELECTION_MAX (6 * ATTEST_BANKS_MAX) /* bytes */
void attest_message_selection(const struct attest_message *m, struct attest_selection *out);
/* Set it from `store`, which has to outlive the message. */
void attest_message_set_selection(struct attest_message *m, const struct attest_selection *s,
    uint8_t store[ATTEST_SELECTION_MAX]);

/*
 * Make the bytes of a message; malloc()ed into *out, the caller's.
 * Returns 0, -EPROTO with the sentence when it would not be parsed, or -ENOMEM.
 */
int attest_message_pack(
    uint8_t **out, size_t *len, const struct attest_message *m, struct pk_diag *d);

/*
 * What a host has its TPM sign in answer to a challenge (TPM2_Quote, qualifyingData): SHA-256 over
 *
 *     "picket-attest-v1" 0, nonce (32), length (2) and name of the DPU, of the host,
 *     TLS exporter (32), SHA-256 of the DPU's SubjectPublicKeyInfo (32), length (2) and name of the AK
 *
 * so that an answer serves this challenge alone, on this connection, between these two.
 * Returns 0, -ENOTSUP or -ENOMEM.
 */
struct attest_binding {
	char dpu[ATTEST_HOST_MAX], host[ATTEST_HOST_MAX];
	uint8_t exporter[32], dpu_key[32];
	uint8_t ak_name[66];
	size_t ak_name_len;
};
#define ATTEST_EXPORTER_LABEL "EXPORTER-picket-attest-v1"

int attest_qualifying_data(
    const struct attest_binding *b, const uint8_t nonce[ATTEST_NONCE_LEN], uint8_t out[32]);
