/*
 * probe: openssl
 * for: certificates and digests
 * pkg: openssl
 * libs: 
 * debian: libssl-dev
 * required: yes
 */
#include <openssl/evp.h>
#include <openssl/x509v3.h>

int
main(void)
{
	return EVP_sha256() == NULL;
}
