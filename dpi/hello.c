/* ClientHello and Certificate, for TLS, DTLS and QUIC: what they say, and their fingerprints. */
#include <stdio.h>
#include <stdlib.h>

#include <openssl/evp.h>

#include "dpi/proto.h"

#define LIST_MAX 128

enum {
	EXT_SERVER_NAME = 0,
	EXT_GROUPS = 10,
	EXT_POINT_FORMATS = 11,
	EXT_SIGNATURES = 13,
	EXT_ALPN = 16,
	EXT_SUPPORTED_VERSIONS = 43,
};

struct hello {
	uint16_t version, best_version;
	uint16_t cipher[LIST_MAX], ext[LIST_MAX], group[LIST_MAX], sig[LIST_MAX];
	unsigned int nb_ciphers, nb_exts, nb_groups, nb_sigs;
	struct dpi_bytes formats, sni, alpn;
};

/* RFC 8701: values that mean nothing, 0x0a0a, 0x1a1a ... 0xfafa. */
static bool
is_grease(uint16_t v)
{
	return (v & 0x0f0f) == 0x0a0a && v >> 8 == (v & 0xff);
}

static void
list(struct pk_wire *w, uint32_t len, uint16_t *out, unsigned int *nb)
{
	for (; len >= 2; len -= 2) {
		uint16_t v = pk_wire_be16(w);

		if (!is_grease(v) && *nb < LIST_MAX)
			out[(*nb)++] = v;
	}
}

static bool
extension(struct hello *h, uint16_t type, const uint8_t *at, uint16_t len)
{
	struct pk_wire w = pk_wire_from(at, len);
	uint16_t n;

	if (!is_grease(type) && h->nb_exts < LIST_MAX)
		h->ext[h->nb_exts++] = type;
	switch (type) {
	case EXT_SERVER_NAME:
		if (len == 0)
			return true;
		(void)pk_wire_be16(&w);
		if (pk_wire_u8(&w) != 0)
			return true;
		n = pk_wire_be16(&w);
		h->sni.at = pk_wire_bytes(&w, n);
		h->sni.len = n;
		if (h->sni.at == NULL)
			h->sni.len = 0;
		return true;
	case EXT_GROUPS:
	case EXT_SIGNATURES:
		n = pk_wire_be16(&w);
		if (pk_wire_left(&w) != n)
			return false;
		if (type == EXT_GROUPS)
			list(&w, n, h->group, &h->nb_groups);
		else
			list(&w, n, h->sig, &h->nb_sigs);
		return true;
	case EXT_POINT_FORMATS:
		n = pk_wire_u8(&w);
		h->formats.at = pk_wire_bytes(&w, n);
		h->formats.len = h->formats.at != NULL ? n : 0;
		return true;
	case EXT_ALPN:
		(void)pk_wire_be16(&w);
		n = pk_wire_u8(&w);
		h->alpn.at = pk_wire_bytes(&w, n);
		h->alpn.len = h->alpn.at != NULL ? n : 0;
		return true;
	case EXT_SUPPORTED_VERSIONS:
		for (n = pk_wire_u8(&w); n >= 2; n = (uint16_t)(n - 2)) {
			uint16_t v = pk_wire_be16(&w);

			/* DTLS counts downwards. */
			if (pk_wire_ok(&w) && !is_grease(v) &&
			    (h->best_version == 0 ||
			        (v >> 8 == 0xfe ? v < h->best_version : v > h->best_version)))
				h->best_version = v;
		}
		return true;
	default:
		return true;
	}
}

static bool
parse_hello(struct hello *h, const uint8_t *at, uint32_t len, bool dtls)
{
	struct pk_wire w = pk_wire_from(at, len);
	uint16_t n;

	memset(h, 0, sizeof(*h));
	h->version = pk_wire_be16(&w);
	if (dtls ? h->version >> 8 != 0xfe && h->version != 0x100 : h->version >> 8 != 3)
		return false;
	pk_wire_skip(&w, 32);
	n = pk_wire_u8(&w);
	if (n > 32)
		return false;
	pk_wire_skip(&w, n);
	if (dtls)
		pk_wire_skip(&w, pk_wire_u8(&w));
	n = pk_wire_be16(&w);
	if (n < 2 || n % 2 != 0)
		return false;
	list(&w, n, h->cipher, &h->nb_ciphers);
	n = pk_wire_u8(&w);
	if (n == 0)
		return false;
	pk_wire_skip(&w, n);
	if (pk_wire_left(&w) == 0)
		return pk_wire_ok(&w);
	n = pk_wire_be16(&w);
	if (!pk_wire_ok(&w) || n != pk_wire_left(&w))
		return false;
	while (pk_wire_left(&w) > 0) {
		uint16_t type = pk_wire_be16(&w), ext_len = pk_wire_be16(&w);
		const uint8_t *body = pk_wire_bytes(&w, ext_len);

		if (body == NULL || !extension(h, type, body, ext_len))
			return false;
	}
	return pk_wire_ok(&w);
}

static void
hex(char *out, const uint8_t *in, size_t n)
{
	for (size_t i = 0; i < n; i++)
		snprintf(out + 2 * i, 3, "%02x", in[i]);
}

static size_t
join(char *out, size_t at, size_t room, const uint16_t *v, unsigned int n, const char *fmt,
    const char *between)
{
	for (unsigned int i = 0; i < n && at + 8 < room; i++) {
		at += (size_t)snprintf(out + at, room - at, "%s", i > 0 ? between : "");
		at += (size_t)snprintf(out + at, room - at, fmt, v[i]);
	}
	return at;
}

static void
say_ja3(struct dpi_view *v, const struct hello *h)
{
	char text[4096], out[33];
	uint8_t md[EVP_MAX_MD_SIZE];
	unsigned int md_len = 0;
	size_t n = (size_t)snprintf(text, sizeof(text), "%u,", h->version);

	n = join(text, n, sizeof(text), h->cipher, h->nb_ciphers, "%u", "-");
	text[n++] = ',';
	n = join(text, n, sizeof(text), h->ext, h->nb_exts, "%u", "-");
	text[n++] = ',';
	n = join(text, n, sizeof(text), h->group, h->nb_groups, "%u", "-");
	text[n++] = ',';
	for (uint32_t i = 0; i < h->formats.len && n + 8 < sizeof(text); i++)
		n += (size_t)snprintf(
		    text + n, sizeof(text) - n, "%s%u", i > 0 ? "-" : "", h->formats.at[i]);
	if (EVP_Digest(text, n, md, &md_len, EVP_md5(), NULL) != 1)
		return;
	hex(out, md, 16);
	dpi_say(v, DPI_FIELD_JA3, -1, out, 32);
}

static int
ascending(const void *a, const void *b)
{
	return (int)*(const uint16_t *)a - (int)*(const uint16_t *)b;
}

static void
hash12(char out[13], const char *text, size_t n)
{
	uint8_t md[EVP_MAX_MD_SIZE];

	strcpy(out, "000000000000");
	if (n > 0 && EVP_Digest(text, n, md, NULL, EVP_sha256(), NULL) == 1)
		hex(out, md, 6);
}

static bool
is_alnum(uint8_t c)
{
	return dpi_is_digit(c) || dpi_is_alpha(c);
}

static const char *
ja4_version(uint16_t v)
{
	switch (v) {
	case 0x0304:
		return "13";
	case 0x0303:
		return "12";
	case 0x0302:
		return "11";
	case 0x0301:
		return "10";
	case 0x0300:
		return "s3";
	case 0xfeff:
		return "d1";
	case 0xfefd:
		return "d2";
	case 0xfefc:
		return "d3";
	default:
		return "00";
	}
}

/* JA4 as its authors specify it (FoxIO, "JA4: TLS Client Fingerprinting"). */
static void
say_ja4(struct dpi_view *v, struct hello *h, char proto)
{
	char text[2048], b[13], c[13], out[40], alpn[3] = "00";
	uint16_t ext[LIST_MAX];
	unsigned int nb = 0;
	size_t n;

	if (h->alpn.len > 0) {
		uint8_t first = h->alpn.at[0], last = h->alpn.at[h->alpn.len - 1];

		if (is_alnum(first) && is_alnum(last))
			snprintf(alpn, sizeof(alpn), "%c%c", first, last);
		else
			snprintf(alpn, sizeof(alpn), "%x%x", first >> 4, last & 15);
	}
	qsort(h->cipher, h->nb_ciphers, sizeof(h->cipher[0]), ascending);
	n = join(text, 0, sizeof(text), h->cipher, h->nb_ciphers, "%04x", ",");
	hash12(b, text, n);
	for (unsigned int i = 0; i < h->nb_exts; i++)
		if (h->ext[i] != EXT_SERVER_NAME && h->ext[i] != EXT_ALPN)
			ext[nb++] = h->ext[i];
	qsort(ext, nb, sizeof(ext[0]), ascending);
	n = join(text, 0, sizeof(text), ext, nb, "%04x", ",");
	if (h->nb_sigs > 0) {
		text[n++] = '_';
		n = join(text, n, sizeof(text), h->sig, h->nb_sigs, "%04x", ",");
	}
	hash12(c, text, n);
	n = (size_t)snprintf(out, sizeof(out), "%c%s%c%02u%02u%s_%s_%s", proto,
	    ja4_version(h->best_version != 0 ? h->best_version : h->version),
	    h->sni.len > 0 ? 'd' : 'i', PK_MIN(h->nb_ciphers, 99U), PK_MIN(h->nb_exts, 99U), alpn,
	    b, c);
	dpi_say(v, DPI_FIELD_JA4, -1, out, n);
}

bool
dpi_client_hello(struct dpi_view *v, int side, const uint8_t *at, uint32_t len, char proto)
{
	struct hello h;

	if (!parse_hello(&h, at, len, proto == 'd'))
		return false;
	if (v == NULL)
		return true;
	if (h.sni.len > 0)
		dpi_say(v, DPI_FIELD_SNI, side, h.sni.at, h.sni.len);
	if (h.alpn.len > 0)
		dpi_say(v, DPI_FIELD_ALPN, side, h.alpn.at, h.alpn.len);
	say_ja3(v, &h);
	say_ja4(v, &h, proto);
	return true;
}

void
dpi_certificate(struct dpi_view *v, int side, const uint8_t *at, uint32_t len)
{
	struct pk_wire w = pk_wire_from(at, len), cert;
	const uint8_t *subject;
	uint32_t n;

	pk_wire_skip(&w, 3);
	n = (uint32_t)pk_wire_u8(&w) << 16;
	n |= pk_wire_be16(&w);
	cert = w;
	if (pk_wire_left(&cert) > n)
		cert.end = cert.at + n;
	/* Certificate, TBSCertificate, [0] version, serial, algorithm, issuer, validity, subject. */
	if (dpi_ber(&cert, &n) != 0x30 || dpi_ber(&cert, &n) != 0x30)
		return;
	if (pk_wire_left(&cert) > 0 && cert.at[0] == 0xa0) {
		(void)dpi_ber(&cert, &n);
		pk_wire_skip(&cert, n);
	}
	for (int i = 0; i < 4; i++) {
		if (dpi_ber(&cert, &n) == 0)
			return;
		pk_wire_skip(&cert, n);
	}
	subject = cert.at;
	if (dpi_ber(&cert, &n) != 0x30 || pk_wire_bytes(&cert, n) == NULL)
		return;
	dpi_say(v, DPI_FIELD_CERT_SUBJECT, side, subject, (size_t)(cert.at - subject));
}
