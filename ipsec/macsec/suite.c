#include "ipsec/macsec/suite.h"

#include <stdio.h>

static const struct {
	const char *name;
	uint8_t key_len;
	bool xpn;
} suites[MACSEC_SUITE_COUNT] = {
	[MACSEC_SUITE_NONE] = { "none", 0, false },
	[MACSEC_GCM_AES_128] = { "gcm-aes-128", 16, false },
	[MACSEC_GCM_AES_256] = { "gcm-aes-256", 32, false },
	[MACSEC_GCM_AES_XPN_128] = { "gcm-aes-xpn-128", 16, true },
	[MACSEC_GCM_AES_XPN_256] = { "gcm-aes-xpn-256", 32, true },
};

static const struct {
	const char *name;
	uint8_t offset;
} confidentialities[MACSEC_CONFIDENTIALITY_COUNT] = {
	[MACSEC_INTEGRITY_ONLY] = { "integrity", 0 },
	[MACSEC_CONFIDENTIAL] = { "0", 0 },
	[MACSEC_CONFIDENTIAL_30] = { "30", 30 },
	[MACSEC_CONFIDENTIAL_50] = { "50", 50 },
};

/* Table 14-1: the suites are numbered from 1 below this. */
#define SUITE_ID_BASE UINT64_C(0x0080c20001000000)

const char *
macsec_suite_name(unsigned int suite)
{
	return suites[suite < MACSEC_SUITE_COUNT ? suite : MACSEC_SUITE_NONE].name;
}

const char *
macsec_confidentiality_name(unsigned int c)
{
	return c < MACSEC_CONFIDENTIALITY_COUNT ? confidentialities[c].name : "none";
}

uint8_t
macsec_suite_key_len(unsigned int suite)
{
	return suite < MACSEC_SUITE_COUNT ? suites[suite].key_len : 0;
}

bool
macsec_suite_xpn(unsigned int suite)
{
	return suite < MACSEC_SUITE_COUNT && suites[suite].xpn;
}

uint64_t
macsec_suite_id(unsigned int suite)
{
	return suite != MACSEC_SUITE_NONE && suite < MACSEC_SUITE_COUNT ? SUITE_ID_BASE + suite : 0;
}

enum macsec_suite
macsec_suite_of_id(uint64_t id)
{
	return id > SUITE_ID_BASE && id < SUITE_ID_BASE + MACSEC_SUITE_COUNT
	    ? (enum macsec_suite)(id - SUITE_ID_BASE)
	    : MACSEC_SUITE_NONE;
}

uint8_t
macsec_confidentiality_offset(unsigned int c)
{
	return c < MACSEC_CONFIDENTIALITY_COUNT ? confidentialities[c].offset : 0;
}

const char *
macsec_sci_text(uint64_t sci, char buf[MACSEC_SCI_TEXT])
{
	snprintf(buf, MACSEC_SCI_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x/%u",
	    (unsigned int)(sci >> 56 & 0xff), (unsigned int)(sci >> 48 & 0xff),
	    (unsigned int)(sci >> 40 & 0xff), (unsigned int)(sci >> 32 & 0xff),
	    (unsigned int)(sci >> 24 & 0xff), (unsigned int)(sci >> 16 & 0xff),
	    (unsigned int)(sci & 0xffff));
	return buf;
}

uint64_t
macsec_sci_of(const uint8_t mac[6], uint16_t port)
{
	uint64_t sci = 0;

	for (unsigned int i = 0; i < 6; i++)
		sci = sci << 8 | mac[i];
	return sci << 16 | port;
}
