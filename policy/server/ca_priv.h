#pragma once

#include <openssl/x509v3.h>

#include "policy/server/ca.h"

/* Shared by ca.c (certificates that last, made before the server serves) and issuer.c (SVIDs).  1 or 0. */
#define CA_BACKDATE_S 300 /* clocks of peers may be a little behind ours */

int ca_add_extension(X509 *cert, X509 *issuer, int nid, const char *value);
int ca_random_serial(X509 *cert);
/* With SHA-256, or SM3 where `key` is on SM2. */
int ca_sign(X509 *cert, EVP_PKEY *key);
