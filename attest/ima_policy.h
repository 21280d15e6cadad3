#pragma once

#include <jansson.h>

#include "attest/ima.h"
#include "attest/reason.h"

/*
 * What a host may run: digests per path, signing keys, excluded paths, keyrings and buffers.
 *
 * Three forms are read: a runtime policy of Keylime (version 1), the same members inside a reference
 * file of ours, and the output of sha256sum.  Excludes come as "exclude_globs" ('*' stays within a
 * directory, '**' does not, '?' is one character) that have to match the whole path, or as Keylime's
 * "excludes": POSIX extended regular expressions tied to the start; what only Python understands in
 * them is refused.  "dm_policy" is refused.
 */
struct attest_ima_policy;

/* Returns 0, -EINVAL with the sentence in `d`, or -ENOMEM.  The caller owns *out.  Context: any. */
int attest_ima_policy_parse(
    struct attest_ima_policy **out, const uint8_t *bytes, size_t len, struct pk_diag *d);

/* The same from JSON already read; `json` stays the caller's. */
int attest_ima_policy_load(struct attest_ima_policy **out, const json_t *json, struct pk_diag *d);
void attest_ima_policy_destroy(struct attest_ima_policy *p);

/* Allow another signing key: DER SubjectPublicKeyInfo or certificate, or PEM of either. */
int attest_ima_policy_add_key(
    struct attest_ima_policy *p, const uint8_t *bytes, size_t len, struct pk_diag *d);

/* Whether violations are let pass ("violations": "allow"); the default is that they are not. */
int attest_ima_policy_allows_violations(const struct attest_ima_policy *p);

/* Whether digest[0 .. len - 1] is listed for `path`; 0 also when the path is not. */
int attest_ima_policy_lists(
    const struct attest_ima_policy *p, const char *path, const uint8_t *digest, size_t len);

/*
 * One host's entries under one policy.  Keys that the host loaded, and the policy allows, are
 * remembered from entry to entry, so a judge lives as long as the replay state does.
 * `policy` may be NULL: then only violations and broken entries are refused.  It is borrowed.
 */
struct attest_ima_judge;

int attest_ima_judge_create(struct attest_ima_judge **out, const struct attest_ima_policy *policy);
void attest_ima_judge_destroy(struct attest_ima_judge *j);

/* Add a reason for all that is wrong with `e`.  Nothing is added for an entry in order. */
void attest_ima_judge_entry(
    struct attest_ima_judge *j, const struct attest_ima_entry *e, struct attest_reasons *r);

/* Whether the buffer of an ima-buf entry is a key or certificate, and so goes with keyrings. */
int attest_ima_is_key(const struct attest_ima_entry *e);

/* Glob over a whole text: '*' stops at '/', '**' does not, '?' is one character. */
int attest_glob(const char *glob, const char *text, size_t len);
