#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ipsec/crypto_priv.h"
#include "lib/secret.h"

#define HUGE_PAGE ((size_t)2 << 20)

struct ipsec_keys {
	uint8_t *slot;
	size_t bytes;
	uint32_t nb;
};

IMB_MGR *
ipsec_mb_create(struct pk_diag *diag)
{
	IMB_MGR *m = alloc_mb_mgr(0);

	if (m == NULL) {
		pk_diag_set(diag, "libipsec-mb: no memory for a manager");
		return NULL;
	}
	if ((m->features & IMB_FEATURE_AESNI) == 0 || (m->features & IMB_FEATURE_PCLMULQDQ) == 0) {
		pk_diag_set(
		    diag, "libipsec-mb: this CPU has no AES instructions, and IPsec wants them");
		free_mb_mgr(m);
		return NULL;
	}
	init_mb_mgr_auto(m, NULL);
	return m;
}

static IMB_MGR *shared;
static struct pk_diag shared_diag;

static void
make_shared(void)
{
	shared = ipsec_mb_create(&shared_diag);
}

IMB_MGR *
ipsec_mb_shared(struct pk_diag *diag)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, make_shared);
	if (shared == NULL && diag != NULL)
		*diag = shared_diag;
	return shared;
}

int
ipsec_keys_create(struct ipsec_keys **out, uint32_t nb, struct pk_diag *diag)
{
	struct ipsec_keys *k;
	void *p;

	if (nb == 0)
		return -EINVAL;
	if (ipsec_mb_shared(diag) == NULL)
		return -ENOTSUP;
	k = calloc(1, sizeof(*k));
	if (k == NULL)
		return -ENOMEM;
	k->nb = nb;
	k->bytes = ((size_t)nb * IPSEC_KEY_STRIDE + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
	p = mmap(NULL, k->bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);
	if (p == MAP_FAILED) {
		/* Transparent huge pages begin where a huge page may. */
		uint8_t *at = mmap(NULL, k->bytes + HUGE_PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		size_t ahead;

		if (at == MAP_FAILED) {
			pk_diag_set(diag, "no memory for %u keys of 1 KB", nb);
			free(k);
			return -ENOMEM;
		}
		ahead = -(uintptr_t)at & (HUGE_PAGE - 1);
		if (ahead != 0)
			munmap(at, ahead);
		if (ahead != HUGE_PAGE)
			munmap(at + ahead + k->bytes, HUGE_PAGE - ahead);
		p = at + ahead;
		(void)madvise(p, k->bytes, MADV_HUGEPAGE);
	}
	(void)madvise(p, k->bytes, MADV_DONTDUMP);
	/* What is not used yet need not be there; what is, must not be swapped out. */
	(void)mlock2(p, k->bytes, MLOCK_ONFAULT);
	k->slot = p;
	*out = k;
	return 0;
}

void
ipsec_keys_destroy(struct ipsec_keys *k)
{
	if (k == NULL)
		return;
	munmap(k->slot, k->bytes); /* the kernel hands out no page that it has not zeroed */
	free(k);
}

size_t
ipsec_keys_bytes(const struct ipsec_keys *k)
{
	return k->bytes;
}

const uint8_t *
ipsec_keys_base(const struct ipsec_keys *k)
{
	return k->slot;
}

/* RFC 2104: the hash's state behind the first block, for the key with one of the two pads. */
static void
hmac_pads(IMB_MGR *m, struct mac_key *k, unsigned int sha, const uint8_t *key, size_t len)
{
	uint8_t block[128];
	size_t size = sha == 256 ? 64 : 128;

	for (unsigned int outer = 0; outer < 2; outer++) {
		uint8_t *state = outer ? k->outer : k->inner;

		memset(block, outer ? 0x5c : 0x36, size);
		for (size_t i = 0; i < len; i++)
			block[i] ^= key[i];
		if (sha == 256)
			IMB_SHA256_ONE_BLOCK(m, block, state);
		else if (sha == 384)
			IMB_SHA384_ONE_BLOCK(m, block, state);
		else
			IMB_SHA512_ONE_BLOCK(m, block, state);
	}
	pk_wipe(block, sizeof(block));
}

int
ipsec_key_prepare(void *bytes, enum ipsec_alg alg, const uint8_t *encr, size_t encr_len,
    const uint8_t *integ, size_t integ_len, struct pk_diag *diag)
{
	const struct ipsec_alg_info *info = ipsec_alg_info(alg);
	IMB_MGR *m = ipsec_mb_shared(diag);

	if (m == NULL)
		return -ENOTSUP;
	if (info == NULL) {
		pk_diag_set(diag, "algorithm %d: not known", (int)alg);
		return -ENOTSUP;
	}
	if (encr_len != info->encr_len || integ_len != info->integ_len) {
		pk_diag_set(diag, "%s: keys of %zu and %zu bytes: want %u and %u", info->name,
		    encr_len, integ_len, info->encr_len, info->integ_len);
		return -EINVAL;
	}
	memset(bytes, 0, IPSEC_KEY_STRIDE);
	switch (alg) {
	case IPSEC_AES_GCM_128:
	case IPSEC_AES_GMAC_128:
		IMB_AES128_GCM_PRE(m, encr, (struct gcm_key_data *)bytes);
		return 0;
	case IPSEC_AES_GCM_192:
	case IPSEC_AES_GMAC_192:
		IMB_AES192_GCM_PRE(m, encr, (struct gcm_key_data *)bytes);
		return 0;
	case IPSEC_AES_GCM_256:
	case IPSEC_AES_GMAC_256:
		IMB_AES256_GCM_PRE(m, encr, (struct gcm_key_data *)bytes);
		return 0;
	case IPSEC_CHACHA20_POLY1305:
		memcpy(((struct chacha_key *)bytes)->key, encr, encr_len);
		return 0;
	case IPSEC_SM4_CBC_SM3_128:
		memcpy(((struct sm4_key *)bytes)->key, encr, encr_len);
		memcpy(((struct sm4_key *)bytes)->mac, integ, integ_len);
		return 0;
	default: {
		struct mac_key *k = bytes;

		if (encr_len == 16)
			IMB_AES_KEYEXP_128(m, encr, k->encrypt, k->decrypt);
		else if (encr_len == 24)
			IMB_AES_KEYEXP_192(m, encr, k->encrypt, k->decrypt);
		else if (encr_len == 32)
			IMB_AES_KEYEXP_256(m, encr, k->encrypt, k->decrypt);
		hmac_pads(m, k, info->integ_len * 8, integ, integ_len);
		return 0;
	}
	}
}

int
ipsec_key_set(struct ipsec_keys *k, uint32_t slot, enum ipsec_alg alg, const uint8_t *encr,
    size_t encr_len, const uint8_t *integ, size_t integ_len, struct pk_diag *diag)
{
	if (slot >= k->nb) {
		pk_diag_set(diag, "key slot %u: there are %u", slot, k->nb);
		return -ENOENT;
	}
	return ipsec_key_prepare(
	    k->slot + (size_t)slot * IPSEC_KEY_STRIDE, alg, encr, encr_len, integ, integ_len, diag);
}

void
ipsec_key_clear(struct ipsec_keys *k, uint32_t slot)
{
	PK_ASSERT(slot < k->nb);
	pk_wipe(k->slot + (size_t)slot * IPSEC_KEY_STRIDE, IPSEC_KEY_STRIDE);
}
