/* Frames as they come from a link with MACsec: no key fits, so nothing may pass, and nothing may be read beyond its end. */
#include <stdlib.h>
#include <string.h>

#include "ipsec/crypto.h"
#include "ipsec/macsec/secy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define ROOM 64

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct macsec_secy *s[3];
	static struct ipsec_crypto *crypto;
	struct macsec_frame f;
	uint8_t *buf;

	if (crypto == NULL) {
		struct macsec_sa_conf sa = { .suite = MACSEC_GCM_AES_128,
			.confidentiality = MACSEC_CONFIDENTIAL_30 };
		struct macsec_secy_conf conf = { .include_sci = true,
			.replay_protect = true,
			.replay_strict = true,
			.replay_window = 64,
			.sci = 5 };
		struct pk_diag diag;

		if (ipsec_crypto_create(&crypto, &diag) < 0)
			exit(0);
		for (unsigned int i = 0; i < 3; i++) {
			conf.clear_vlans = (uint8_t)i;
			PK_ASSERT(macsec_secy_create(&s[i], &conf, &diag) == 0);
			for (uint8_t an = 0; an < 3; an++) {
				sa.an = an;
				sa.suite = (uint8_t)(1 + an + i % 2);
				PK_ASSERT(macsec_rx_sc_add(
				              s[i], UINT64_C(0x0200000000010001), &diag) == 0);
				PK_ASSERT(macsec_rx_sa_add(
				              s[i], UINT64_C(0x0200000000010001), &sa, &diag) == 0);
			}
			macsec_secy_commit(s[i]);
			macsec_secy_reclaim(s[i]);
		}
	}
	/* A buffer that ends with the frame: nothing behind it may be read. */
	for (unsigned int i = 0; i < 3; i++) {
		buf = malloc(ROOM + len);
		PK_ASSERT(buf != NULL);
		memcpy(buf + ROOM, data, len);
		f = (struct macsec_frame){ .data = buf + ROOM, .len = (uint32_t)len };
		macsec_validate(s[i], crypto, &f, 1);
		PK_ASSERT(f.verdict != MACSEC_PASS);
		free(buf);
	}
	return 0;
}
