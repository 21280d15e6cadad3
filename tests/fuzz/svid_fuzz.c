#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509.h>

#include "attest/statement.h"
#include "lib/svid_trust.h"
#include "lib/svid_wire.h"

/* What comes over the agent's socket about identities, a peer's certificate, and a file with a statement. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static struct pk_svid_message m;
	static EVP_PKEY *key;
	struct attest_statement statement;
	struct pk_svid_trust *t;
	struct pk_svid_peer peer;
	struct pk_diag diag;
	const uint8_t *p;
	X509 *leaf;

	if (len == 0)
		return 0;
	if (key == NULL)
		key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	if (pk_svid_trust_create(&t) != 0)
		return 0;
	switch (bytes[0] % 3) {
	case 0:
		if (pk_svid_message_parse(&m, bytes + 1, len - 1, &diag) == 0 &&
		    m.type == PK_SVID_MESSAGE_REVOKED)
			(void)pk_svid_revocations_take(t, m.bytes, m.len);
		else
			(void)pk_svid_revocations_take(t, bytes + 1, len - 1);
		break;
	case 1:
		p = bytes + 1;
		leaf = d2i_X509(NULL, &p, (long)len - 1);
		/* A bundle of its own: what may be an authority is. */
		if (leaf != NULL &&
		    pk_svid_trust_set_bundle(t, "demo.example", bytes + 1, len - 1, &diag) == 0)
			(void)pk_svid_verify(t, leaf, NULL, 1800000000, &peer, &diag);
		X509_free(leaf);
		break;
	default:
		(void)attest_statement_check(
		    &statement, bytes + 1, len - 1, key, "host", "dpu1", 0, &diag);
		break;
	}
	pk_svid_trust_destroy(t);
	ERR_clear_error();
	return 0;
}
