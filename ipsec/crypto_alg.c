#include <string.h>

#include "ipsec/crypto.h"

#define GCM(bits)                                                              \
	{                                                                      \
		"aes-" #bits "-gcm", IPSEC_KIND_AEAD, bits / 8, 4, 0, 8, 16, 4 \
	}
#define GMAC(bits)                                                              \
	{                                                                       \
		"aes-" #bits "-gmac", IPSEC_KIND_GMAC, bits / 8, 4, 0, 8, 16, 4 \
	}
#define CBC(bits, sha, icv)                                                                      \
	{                                                                                        \
		"aes-" #bits "-cbc-sha-" #sha, IPSEC_KIND_MAC, bits / 8, 0, sha / 8, 16, icv, 16 \
	}
#define PLAIN(sha, icv)                                                    \
	{                                                                  \
		"null-sha-" #sha, IPSEC_KIND_MAC, 0, 0, sha / 8, 0, icv, 4 \
	}

/* name, kind, key, salt, integrity key, IV, ICV, block */
static const struct ipsec_alg_info infos[IPSEC_ALG_COUNT] = {
	[IPSEC_AES_GCM_128] = GCM(128),
	[IPSEC_AES_GCM_192] = GCM(192),
	[IPSEC_AES_GCM_256] = GCM(256),
	[IPSEC_AES_GMAC_128] = GMAC(128),
	[IPSEC_AES_GMAC_192] = GMAC(192),
	[IPSEC_AES_GMAC_256] = GMAC(256),
	[IPSEC_CHACHA20_POLY1305] = { "chacha20-poly1305", IPSEC_KIND_AEAD, 32, 4, 0, 8, 16, 4 },
	[IPSEC_AES_CBC_128_SHA_256_128] = CBC(128, 256, 16),
	[IPSEC_AES_CBC_192_SHA_256_128] = CBC(192, 256, 16),
	[IPSEC_AES_CBC_256_SHA_256_128] = CBC(256, 256, 16),
	[IPSEC_AES_CBC_128_SHA_384_192] = CBC(128, 384, 24),
	[IPSEC_AES_CBC_192_SHA_384_192] = CBC(192, 384, 24),
	[IPSEC_AES_CBC_256_SHA_384_192] = CBC(256, 384, 24),
	[IPSEC_AES_CBC_128_SHA_512_256] = CBC(128, 512, 32),
	[IPSEC_AES_CBC_192_SHA_512_256] = CBC(192, 512, 32),
	[IPSEC_AES_CBC_256_SHA_512_256] = CBC(256, 512, 32),
	[IPSEC_NULL_SHA_256_128] = PLAIN(256, 16),
	[IPSEC_NULL_SHA_384_192] = PLAIN(384, 24),
	[IPSEC_NULL_SHA_512_256] = PLAIN(512, 32),
	[IPSEC_SM4_CBC_SM3_128] = { "sm4-cbc-sm3", IPSEC_KIND_MAC, 16, 0, 32, 16, 16, 16 },
};

const struct ipsec_alg_info *
ipsec_alg_info(unsigned int alg)
{
	return alg > IPSEC_ALG_NONE && alg < IPSEC_ALG_COUNT ? &infos[alg] : NULL;
}

const char *
ipsec_alg_name(unsigned int alg)
{
	const struct ipsec_alg_info *info = ipsec_alg_info(alg);

	return info != NULL ? info->name : "none";
}

enum ipsec_alg
ipsec_alg_by_name(const char *name)
{
	for (unsigned int a = IPSEC_ALG_NONE + 1; a < IPSEC_ALG_COUNT; a++)
		if (strcmp(infos[a].name, name) == 0)
			return (enum ipsec_alg)a;
	return IPSEC_ALG_NONE;
}

/* IANA, "IKEv2 Parameters", transform types 1 and 3: those that can be asked for, here or elsewhere. */
static const struct {
	uint16_t number;
	bool integ;
	const char *name;
} transforms[] = {
	{ 2, false, "ENCR_DES" },
	{ 3, false, "ENCR_3DES" },
	{ 11, false, "ENCR_NULL" },
	{ 12, false, "ENCR_AES_CBC" },
	{ 13, false, "ENCR_AES_CTR" },
	{ 14, false, "ENCR_AES_CCM_8" },
	{ 15, false, "ENCR_AES_CCM_12" },
	{ 16, false, "ENCR_AES_CCM_16" },
	{ 18, false, "ENCR_AES_GCM_8" },
	{ 19, false, "ENCR_AES_GCM_12" },
	{ 20, false, "ENCR_AES_GCM_16" },
	{ 21, false, "ENCR_NULL_AUTH_AES_GMAC" },
	{ 23, false, "ENCR_CAMELLIA_CBC" },
	{ 28, false, "ENCR_CHACHA20_POLY1305" },
	{ IPSEC_ENCR_SM4_CBC, false, "ENCR_SM4_CBC" },
	{ 0, true, "no integrity algorithm" },
	{ 2, true, "AUTH_HMAC_SHA1_96" },
	{ 5, true, "AUTH_AES_XCBC_96" },
	{ 8, true, "AUTH_AES_CMAC_96" },
	{ 12, true, "AUTH_HMAC_SHA2_256_128" },
	{ 13, true, "AUTH_HMAC_SHA2_384_192" },
	{ 14, true, "AUTH_HMAC_SHA2_512_256" },
	{ IPSEC_AUTH_HMAC_SM3_128, true, "AUTH_HMAC_SM3_128" },
};

static const char *
transform_name(uint16_t number, bool integ)
{
	for (unsigned int i = 0; i < PK_COUNT(transforms); i++)
		if (transforms[i].number == number && transforms[i].integ == integ)
			return transforms[i].name;
	return "unknown";
}

static const struct {
	uint16_t encr, bits, integ;
	uint8_t alg;
} suites[] = {
	{ 20, 128, 0, IPSEC_AES_GCM_128 },
	{ 20, 192, 0, IPSEC_AES_GCM_192 },
	{ 20, 256, 0, IPSEC_AES_GCM_256 },
	{ 21, 128, 0, IPSEC_AES_GMAC_128 },
	{ 21, 192, 0, IPSEC_AES_GMAC_192 },
	{ 21, 256, 0, IPSEC_AES_GMAC_256 },
	{ 28, 0, 0, IPSEC_CHACHA20_POLY1305 },
	{ 28, 256, 0, IPSEC_CHACHA20_POLY1305 },
	{ 12, 128, 12, IPSEC_AES_CBC_128_SHA_256_128 },
	{ 12, 192, 12, IPSEC_AES_CBC_192_SHA_256_128 },
	{ 12, 256, 12, IPSEC_AES_CBC_256_SHA_256_128 },
	{ 12, 128, 13, IPSEC_AES_CBC_128_SHA_384_192 },
	{ 12, 192, 13, IPSEC_AES_CBC_192_SHA_384_192 },
	{ 12, 256, 13, IPSEC_AES_CBC_256_SHA_384_192 },
	{ 12, 128, 14, IPSEC_AES_CBC_128_SHA_512_256 },
	{ 12, 192, 14, IPSEC_AES_CBC_192_SHA_512_256 },
	{ 12, 256, 14, IPSEC_AES_CBC_256_SHA_512_256 },
	{ 11, 0, 12, IPSEC_NULL_SHA_256_128 },
	{ 11, 0, 13, IPSEC_NULL_SHA_384_192 },
	{ 11, 0, 14, IPSEC_NULL_SHA_512_256 },
	{ IPSEC_ENCR_SM4_CBC, 0, IPSEC_AUTH_HMAC_SM3_128, IPSEC_SM4_CBC_SM3_128 },
	{ IPSEC_ENCR_SM4_CBC, 128, IPSEC_AUTH_HMAC_SM3_128, IPSEC_SM4_CBC_SM3_128 },
};

enum ipsec_alg
ipsec_alg_from_ike(uint16_t encr, uint16_t encr_bits, uint16_t integ, struct pk_diag *diag)
{
	for (unsigned int i = 0; i < PK_COUNT(suites); i++)
		if (suites[i].encr == encr && suites[i].bits == encr_bits &&
		    suites[i].integ == integ)
			return (enum ipsec_alg)suites[i].alg;
	pk_diag_set(diag,
	    "%s (%u) with %u bits and %s (%u): not supported; want AES-GCM or AES-GMAC with an ICV of 16 "
	    "bytes, ChaCha20-Poly1305, AES-CBC or NULL with HMAC-SHA2, or SM4-CBC with HMAC-SM3",
	    transform_name(encr, false), encr, encr_bits, transform_name(integ, true), integ);
	return IPSEC_ALG_NONE;
}
