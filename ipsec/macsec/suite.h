#pragma once

#include <stdbool.h>

#include "lib/base.h"

/*
 * Words that SecY (the packets) and KaY (the keys) share.  IEEE 802.1AE-2018, clause 14; the identifiers on the wire
 * are table 14-1.
 *
 * An SCI is a number in host order here: the station's MAC address in its upper 48 bits, the port identifier below.
 */
enum macsec_suite {
	MACSEC_SUITE_NONE = 0,
	MACSEC_GCM_AES_128,
	MACSEC_GCM_AES_256,
	MACSEC_GCM_AES_XPN_128, /* extended packet numbers: 64 bits, of which the lower half travels */
	MACSEC_GCM_AES_XPN_256,
	MACSEC_SUITE_COUNT,
};

/* What of the user data is encrypted.  All of the frame is protected in any case. */
enum macsec_confidentiality {
	MACSEC_INTEGRITY_ONLY = 0,
	MACSEC_CONFIDENTIAL, /* everything behind the SecTAG */
	MACSEC_CONFIDENTIAL_30, /* but the first 30 octets, so that IPv4 headers can be read on the way */
	MACSEC_CONFIDENTIAL_50, /* but the first 50, IPv6 */
	MACSEC_CONFIDENTIALITY_COUNT,
};

#define MACSEC_KEY_MAX 32
#define MACSEC_SALT    12
#define MACSEC_ICV     16
#define MACSEC_TAG_MAX 16 /* SecTAG with SCI, and its EtherType */
#define MACSEC_ANS     4
#define MACSEC_GROWTH  (MACSEC_TAG_MAX + MACSEC_ICV) /* of a frame, at most */

#define MACSEC_ETHERTYPE 0x88e5
#define EAPOL_ETHERTYPE  0x888e

/* "gcm-aes-256"; "none" beyond.  Context: any, for all here. */
const char *macsec_suite_name(unsigned int suite);
const char *macsec_confidentiality_name(unsigned int c); /* "integrity", "0", "30", "50" */
uint8_t macsec_suite_key_len(unsigned int suite);        /* 0 for none */
bool macsec_suite_xpn(unsigned int suite);
uint64_t macsec_suite_id(unsigned int suite);          /* 00-80-C2-00-01-00-00-0x */
enum macsec_suite macsec_suite_of_id(uint64_t id);     /* MACSEC_SUITE_NONE: not one of ours */
uint8_t macsec_confidentiality_offset(unsigned int c); /* octets */

/* "02:00:00:00:00:01/1".  Returns buf. */
#define MACSEC_SCI_TEXT 24
const char *macsec_sci_text(uint64_t sci, char buf[MACSEC_SCI_TEXT]);
uint64_t macsec_sci_of(const uint8_t mac[6], uint16_t port);
