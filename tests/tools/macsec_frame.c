/*
 * Frames through the SecY, for comparison with other implementations.  Reads lines of
 *
 *     protect|validate SUITE AN KEY SCI SSCI SALT PN CONFIDENTIALITY include|end|none FRAME
 *
 * with names as macsec_suite_name() has them, the rest in hexadecimal (CONFIDENTIALITY: integrity, 0, 30, 50), and
 * writes the frame that comes out, or the name of the verdict.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipsec/crypto.h"
#include "ipsec/macsec/secy.h"

#define ROOM 64

static size_t
unhex(const char *text, uint8_t *out, size_t max)
{
	size_t n = 0;
	unsigned int v;

	for (; text[0] != '\0' && text[1] != '\0' && n < max && sscanf(text, "%2x", &v) == 1;
	     text += 2)
		out[n++] = (uint8_t)v;
	return n;
}

int
main(void)
{
	static char line[9000], frame_hex[8200];
	static uint8_t buf[ROOM + 4096 + ROOM];
	char verb[16], suite[32], key[80], salt[40], conf_name[16], how[16];
	unsigned long long sci, pn;
	unsigned int an, ssci;
	struct ipsec_crypto *crypto;
	struct pk_diag diag;

	if (ipsec_crypto_create(&crypto, &diag) < 0) {
		fprintf(stderr, "macsec_frame: %s\n", diag.text);
		return 1;
	}
	while (fgets(line, sizeof(line), stdin) != NULL) {
		struct macsec_secy_conf conf = { .replay_protect = true, .replay_strict = true };
		struct macsec_sa_conf sa = { .an = 0 };
		struct macsec_frame f = { .data = buf + ROOM };
		struct macsec_secy *s;

		if (sscanf(line, "%15s %31s %u %79s %llx %x %39s %llx %15s %15s %8199s", verb,
		        suite, &an, key, &sci, &ssci, salt, &pn, conf_name, how, frame_hex) != 11) {
			fprintf(stderr, "macsec_frame: not a command: %.60s\n", line);
			return 2;
		}
		for (uint8_t i = 1; i < MACSEC_SUITE_COUNT; i++)
			if (strcmp(macsec_suite_name(i), suite) == 0)
				sa.suite = i;
		for (uint8_t i = 0; i < MACSEC_CONFIDENTIALITY_COUNT; i++)
			if (strcmp(macsec_confidentiality_name(i), conf_name) == 0)
				sa.confidentiality = i;
		sa.an = (uint8_t)an;
		sa.ssci = ssci;
		sa.pn = pn;
		unhex(key, sa.key, sizeof(sa.key));
		unhex(salt, sa.salt, sizeof(sa.salt));
		conf.sci = sci;
		conf.include_sci = strcmp(how, "include") == 0;
		conf.end_station = strcmp(how, "end") == 0;
		f.len = (uint32_t)unhex(frame_hex, f.data, 4096);
		if (macsec_secy_create(&s, &conf, &diag) < 0 ||
		    macsec_tx_sa_add(s, &sa, &diag) < 0 || macsec_tx_sa_use(s, sa.an) < 0 ||
		    macsec_rx_sc_add(s, sci, &diag) < 0 ||
		    macsec_rx_sa_add(s, sci, &sa, &diag) < 0) {
			fprintf(stderr, "macsec_frame: %s\n", diag.text);
			return 1;
		}
		macsec_secy_commit(s);
		if (verb[0] == 'p')
			macsec_protect(s, crypto, &f, 1);
		else
			macsec_validate(s, crypto, &f, 1);
		if (f.verdict == MACSEC_PASS)
			for (uint32_t i = 0; i < f.len; i++)
				printf("%02x", f.data[i]);
		else
			printf("%s", macsec_verdict_name(f.verdict));
		putchar('\n');
		fflush(stdout);
		macsec_secy_destroy(s);
	}
	ipsec_crypto_destroy(crypto);
	return 0;
}
