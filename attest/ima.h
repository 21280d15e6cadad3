#pragma once

#include "attest/alg.h"
#include "lib/diag.h"

/*
 * The list of the Integrity Measurement Architecture: each file the kernel measured since boot, in
 * the order in which it extended PCR 10 (linux/security/integrity/ima/ima_fs.c, ima_template.c).
 *
 * An entry is a template digest and template data.  The list shows one digest per entry, of SHA-1
 * unless it was read from a per-bank file; the TPM was given, for every bank, that bank's hash of the
 * data (since Linux 5.8), or the SHA-1 digest filled up with zeroes (before, and still where the
 * kernel lacks the hash).  A violation, shown with a digest of zeroes, extends ones.
 *
 * The list is read after the quote, so it may know more than the quote vouches for: replay finds the
 * prefix that leads to the quoted PCR, and what follows is not evidence yet, neither good nor bad.
 *
 * A template is a list of fields.  Those that the kernel knows by name are known here; one that a host was
 * started with (ima_template_fmt=d-ng|n-ng|...) is shown under its fields, and is read if it has exactly one
 * digest and one name of the file among them.
 */
#define ATTEST_PCR_IMA       10
#define ATTEST_IMA_ENTRY_MAX (1U << 20) /* bytes of one entry; a modsig is below 64 KiB */
#define ATTEST_IMA_LIST_MAX  (256U << 20)

enum attest_ima_template {
	ATTEST_IMA_TEMPLATE_NONE,
	ATTEST_IMA_IMA,    /* d|n: SHA-1 or MD5 without a name */
	ATTEST_IMA_NG,     /* d-ng|n-ng */
	ATTEST_IMA_NGV2,   /* d-ngv2|n-ng */
	ATTEST_IMA_SIG,    /* d-ng|n-ng|sig */
	ATTEST_IMA_SIGV2,  /* d-ngv2|n-ng|sig */
	ATTEST_IMA_BUF,    /* d-ng|n-ng|buf */
	ATTEST_IMA_MODSIG, /* d-ng|n-ng|sig|d-modsig|modsig */
	ATTEST_IMA_EVM_SIG, /* d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode */
	ATTEST_IMA_CUSTOM, /* ima_template_fmt=: its name is the list of its fields */
};

struct attest_ima_entry {
	uint32_t number; /* from 0 in this piece of the list */
	size_t off;
	uint32_t pcr;
	enum attest_ima_template template;
	uint16_t shown_alg;        /* of the digest in the list */
	struct attest_bytes shown; /* that digest */
	int violation;             /* it is all zeroes */
	struct attest_bytes data;  /* as the kernel hashes it */
	char file_alg[16];         /* "sha256", the kernel's names */
	struct attest_bytes file;  /* digest of the file, or of the buffer */
	struct attest_bytes path;  /* without NUL; any byte but NUL may occur */
	struct attest_bytes sig;   /* security.ima as it is, .len 0 when there is none */
	struct attest_bytes modsig;
	struct attest_bytes buf;
};

struct attest_ima_reader {
	const uint8_t *start, *at, *end;
	int ascii;
	uint16_t shown_alg; /* binary lists: found out from the first entry */
	uint32_t number;
	uint8_t shown[ATTEST_DIGEST_MAX];
	uint8_t *scratch; /* template data rebuilt from ASCII */
	size_t room;
};

/*
 * Start reading bytes[0 .. len - 1], borrowed until attest_ima_fini(); binary (little endian) and
 * ASCII are told apart by the first byte.  Returns 0 or -EINVAL.  Context: any.
 */
int attest_ima_init(
    struct attest_ima_reader *rd, const uint8_t *bytes, size_t len, struct pk_diag *d);
void attest_ima_fini(struct attest_ima_reader *rd);

/*
 * The next entry, borrowed until the next call.  Returns 1, 0 at the end, -EINVAL with entry and
 * byte in `d`, or -ENOMEM.
 */
int attest_ima_next(struct attest_ima_reader *rd, struct attest_ima_entry *e, struct pk_diag *d);

/* Whether the shown digest is that of the data; a violation shows none and passes. */
int attest_ima_digest_ok(EVP_MD_CTX *ctx, const struct attest_ima_entry *e);

/* "ima-sig"; "custom" for one that is made of its fields. */
const char *attest_ima_template_name(enum attest_ima_template t);

/* How a kernel extends a bank that is not SHA-1. */
enum attest_ima_mode {
	ATTEST_IMA_ANY,         /* not known yet */
	ATTEST_IMA_HASHED,      /* the bank's own hash; violations all ones */
	ATTEST_IMA_PADDED,      /* SHA-1 and zeroes; violations all ones */
	ATTEST_IMA_PADDED_ONES, /* SHA-1 and zeroes; violations 20 ones and zeroes */
};

/* Where a replay stands: the checkpoint of incremental attestation.  Plain data, to be kept. */
struct attest_ima_state {
	uint16_t alg;
	uint16_t mode; /* enum attest_ima_mode */
	uint32_t entries;
	uint8_t value[ATTEST_DIGEST_MAX];
};

/* Boot: no entries, PCR 10 zero.  Returns 0, or -ENOTSUP for a hash we lack. */
int attest_ima_state_init(struct attest_ima_state *st, uint16_t alg);

/*
 * Replay the piece of a list that begins at entry st->entries.  With `want` (a digest of st->alg)
 * stops after the entry that leads there; zero entries may do.  Without, goes to the end.
 * On success *st has moved and *used says how many entries of the piece count.
 * Returns 0, -ENOENT if no prefix leads to `want`, -EINVAL for a malformed list, -ENOMEM.
 */
int attest_ima_replay(struct attest_ima_state *st, const uint8_t *bytes, size_t len,
    const uint8_t *want, uint32_t *used, struct pk_diag *d);
