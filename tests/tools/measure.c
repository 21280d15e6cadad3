/*
 * Firmware, boot loader and kernel for a TPM without a machine: extends PCRs and writes the logs of it,
 * in the order and form in which real ones do.
 *
 *     measure boot TCTI DIR CMDLINE       a boot: DIR/eventlog.bin, and DIR/ima.bin with its aggregate
 *     measure run TCTI DIR PATH HEX       a program of this SHA-256 runs: one more entry in DIR/ima.bin
 *     measure violate TCTI DIR PATH       a file is written while it is measured (ToMToU)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <tss2/tss2_esys.h>
#include <tss2/tss2_tctildr.h>

#include "attest/eventlog.h"
#include "attest/pcr.h"

static ESYS_CONTEXT *esys;
static FILE *out;
static uint8_t pcr[ATTEST_NB_PCRS][32];

static void
fail(const char *what)
{
	fprintf(stderr, "measure: %s\n", what);
	exit(1);
}

static void
connect_tpm(const char *name)
{
	TSS2_TCTI_CONTEXT *tcti;
	TSS2_RC rc = TSS2_TCTI_RC_IO_ERROR;

	setenv("TSS2_LOG", "all+none", 1);
	/* A TPM on a socket serves one at a time: whoever has it lets go in a moment. */
	for (int i = 0; i < 100 && rc != TSS2_RC_SUCCESS; i++) {
		rc = Tss2_TctiLdr_Initialize(name, &tcti);
		if (rc != TSS2_RC_SUCCESS)
			usleep(50000);
	}
	if (rc != TSS2_RC_SUCCESS || Esys_Initialize(&esys, tcti, NULL) != TSS2_RC_SUCCESS)
		fail("no TPM");
	rc = Esys_Startup(esys, TPM2_SU_CLEAR);
	if (rc != TSS2_RC_SUCCESS && rc != TPM2_RC_INITIALIZE)
		fail("the TPM does not start");
}

static void
sha256(const void *bytes, size_t len, uint8_t *digest)
{
	unsigned int n;

	if (EVP_Digest(bytes, len, digest, &n, EVP_sha256(), NULL) != 1)
		fail("no SHA-256");
}

static void
extend(unsigned int index, const uint8_t digest[32])
{
	TPML_DIGEST_VALUES v = { .count = 1, .digests[0] = { .hashAlg = TPM2_ALG_SHA256 } };
	uint8_t both[64];

	memcpy(v.digests[0].digest.sha256, digest, 32);
	if (Esys_PCR_Extend(esys, ESYS_TR_PCR0 + index, ESYS_TR_PASSWORD, ESYS_TR_NONE,
	        ESYS_TR_NONE, &v) != TSS2_RC_SUCCESS)
		fail("the TPM does not extend");
	memcpy(both, pcr[index], 32);
	memcpy(both + 32, digest, 32);
	sha256(both, 64, pcr[index]);
}

static void
le(uint64_t v, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		fputc((int)(v >> (8 * i) & 0xff), out);
}

/* TCG PC Client Platform Firmware Profile, section 10.2.2; one bank. */
static void
event(unsigned int index, uint32_t type, const void *data, size_t len)
{
	uint8_t digest[32];

	sha256(data, len, digest);
	extend(index, digest);
	le(index, 4);
	le(type, 4);
	le(1, 4);
	le(ATTEST_ALG_SHA256, 2);
	fwrite(digest, 1, 32, out);
	le(len, 4);
	fwrite(data, 1, len, out);
}

static void
spec_id(void)
{
	static const char zero[20];

	le(0, 4);
	le(ATTEST_EV_NO_ACTION, 4);
	fwrite(zero, 1, 20, out);
	le(33, 4);
	fwrite("Spec ID Event03", 1, 16, out);
	le(0, 4);                      /* platform class: client */
	fwrite("\0\2\0\2", 1, 4, out); /* 2.0, errata 0, uintn of 8 bytes */
	le(1, 4);
	le(ATTEST_ALG_SHA256, 2);
	le(32, 2);
	le(0, 1);
}

static FILE *
create(const char *dir, const char *name, const char *mode)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, mode);
	if (f == NULL)
		fail(path);
	return f;
}

static void
ima_head(const uint8_t *shown, size_t len)
{
	le(10, 4);
	fwrite(shown, 1, 20, out);
	le(6, 4);
	fwrite("ima-ng", 1, 6, out);
	le(len, 4);
}

/* linux/security/integrity/ima: first the list, then the PCR. */
static void
ima_entry(const char *path, const uint8_t digest[32], int violation)
{
	uint8_t data[4096], shown[EVP_MAX_MD_SIZE], value[32];
	size_t n = strlen(path) + 1, len = 0;
	unsigned int used;

	memcpy(data, "\x28\0\0\0sha256:\0", 12);
	memcpy(data + 12, digest, 32);
	len = 44;
	data[len++] = (uint8_t)n;
	data[len++] = (uint8_t)(n >> 8);
	data[len++] = 0;
	data[len++] = 0;
	memcpy(data + len, path, n);
	len += n;
	memset(shown, 0, sizeof(shown));
	if (!violation && EVP_Digest(data, len, shown, &used, EVP_sha1(), NULL) != 1)
		fail("no SHA-1");
	ima_head(shown, len);
	fwrite(data, 1, len, out);
	fflush(out);
	if (violation)
		memset(value, 0xff, 32);
	else
		sha256(data, len, value);
	extend(10, value);
}

static void
boot(const char *dir, const char *cmdline)
{
	static const char zero[4];
	uint8_t aggregate[32];
	char line[1024];

	out = create(dir, "eventlog.bin", "we");
	spec_id();
	event(0, ATTEST_EV_S_CRTM_VERSION, "1\0.\0000\0\0\0", 8);
	event(4, ATTEST_EV_ACTION, "Calling EFI Application from Boot Option", 40);
	for (unsigned int i = 0; i < 8; i++)
		event(i, ATTEST_EV_SEPARATOR, zero, 4);
	/* GRUB measures the text behind the word, and the NUL belongs to the event alone. */
	snprintf(line, sizeof(line), "kernel_cmdline: %s", cmdline);
	{
		size_t len = strlen(line) + 1, skip = strlen("kernel_cmdline: ");
		uint8_t digest[32];

		sha256(line + skip, strlen(line) - skip, digest);
		extend(8, digest);
		le(8, 4);
		le(ATTEST_EV_IPL, 4);
		le(1, 4);
		le(ATTEST_ALG_SHA256, 2);
		fwrite(digest, 1, 32, out);
		le(len, 4);
		fwrite(line, 1, len, out);
	}
	fclose(out);
	out = create(dir, "ima.bin", "we");
	sha256(pcr, 10 * 32, aggregate);
	ima_entry("boot_aggregate", aggregate, 0);
	fclose(out);
}

int
main(int argc, char **argv)
{
	uint8_t digest[32] = { 0 };

	if (argc < 5)
		fail("want boot, run or violate, a TPM, a directory and what");
	connect_tpm(argv[2]);
	if (strcmp(argv[1], "boot") == 0) {
		boot(argv[3], argv[4]);
	} else {
		if (strcmp(argv[1], "run") == 0 &&
		    (argc != 6 || attest_unhex(argv[5], strlen(argv[5]), digest, 32) < 0))
			fail("want a path and the SHA-256 of a file");
		out = create(argv[3], "ima.bin", "ae");
		ima_entry(argv[4], digest, strcmp(argv[1], "violate") == 0);
		fclose(out);
	}
	Esys_Finalize(&esys);
	return 0;
}
