#pragma once

#include "attest/appraise.h"

/*
 * A reference from a machine that is taken to be good: what a host has to look like is what this one did.
 *
 * Only what the evidence vouches for is learnt: PCR values that are quoted, events and entries that replay to
 * them.  So the evidence is judged under what was learnt from it, and must be trusted; a log that does not
 * lead to its PCRs, a violation in the list, or a quote by a key that is no AK teaches nothing.  Whether the
 * machine was good is for whoever asked to know: a reference learnt from a tampered one lets that in.
 *
 * It has: the bank; the quoted PCRs but 10 and those a program may reset (16 and up); where the log tells
 * them, that Secure Boot is on, the variables PK, KEK, db and dbx, and the command line; and the files, keys
 * and buffers that IMA measured, but for what `excludes` matches.  Nothing binds it to this one TPM.
 *
 * `excludes` are globs, as in a policy's "exclude_globs"; of the nb_excludes texts none is kept.
 * Returns 0, and *out is the caller's; or -EINVAL with the reasons in `r`, or -ENOMEM.  Context: any, also a helper.
 */
int attest_learn(const struct attest_evidence *ev, uint16_t bank, struct attest_bytes nonce,
    const char *const *excludes, size_t nb_excludes, time_t now, json_t **out,
    struct attest_reasons *r);
