#pragma once

#include "dpi/sig_set.h"

/*
 * Signatures ready to be loaded: the rules, and the databases that were compiled of them for a kind of CPU, in one
 * file with a digest and a signature.
 *
 *      "PKSIGS2\n" | be32 length of the body | be16 length of the signature | SHA-256 of the body | signature | body
 *      body:  section ...           section:  be32 type | be32 length | bytes
 *
 * Signed is all that stands before the signature; with Ed25519 keys as they are, with others by SHA-256.  The rules
 * are in it as text, so that one parser, which is fuzzed, reads all rules there are; what takes time, the
 * databases, comes ready.  Each is compared with a plain search when it is loaded, like one made on the spot.
 */
#define DPI_BUNDLE_MAX (1u << 30)

/* "native", "sse4.2", "avx2", "avx512", "avx512vbmi"; *out is for hs_compile.  Returns 0 or -EINVAL. */
int dpi_bundle_cpu(hs_platform_info_t *out, const char *name);

/*
 * Write `set`, which is finished, to `path`, at once or not at all.  `key` is a file with a private key in PEM, NULL:
 * not signed.  Context: control thread or offline.  Returns 0 or negative errno with *diag.
 */
int dpi_bundle_write(
    const struct dpi_set *set, const char *path, const char *key, struct pk_diag *diag);

/*
 * Read a bundle: *out is finished.  `key` is a file with the public key that has to have signed it; NULL: whoever
 * could write the file is believed.  Returns 0; -EBADMSG: broken, or not what it was signed as; -EILSEQ: a database
 * that does not find what it should; or another negative errno.  *diag tells.
 */
int dpi_bundle_read(struct dpi_set **out, const char *path, const char *key, struct pk_diag *diag);
/* The same of bytes; `name` is for *diag. */
int dpi_bundle_read_bytes(struct dpi_set **out, const char *name, const uint8_t *bytes, size_t len,
    const char *key, struct pk_diag *diag);

/* Whether the file at `path` begins as a bundle does. */
bool dpi_bundle_is(const char *path);
