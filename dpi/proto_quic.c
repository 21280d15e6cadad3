/*
 * QUIC versions 1 and 2 (RFC 9000, 9001, 9369) and the drafts still met, and Google's QUIC.  A client's
 * Initial packets are encrypted by keys that follow from the connection id they carry, so the
 * ClientHello inside can be read; it may lie in any order over several packets.
 */
#include <errno.h>
#include <stdlib.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "dpi/proto.h"

#define V1 0x00000001u
#define V2 0x6b3343cfu

struct dpi_crypt {
	EVP_CIPHER_CTX *ecb, *gcm;
	uint8_t plain[2048];
};

int
dpi_crypt_create(struct dpi_crypt **out)
{
	struct dpi_crypt *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return -ENOMEM;
	c->ecb = EVP_CIPHER_CTX_new();
	c->gcm = EVP_CIPHER_CTX_new();
	if (c->ecb == NULL || c->gcm == NULL ||
	    EVP_EncryptInit_ex(c->ecb, EVP_aes_128_ecb(), NULL, NULL, NULL) != 1 ||
	    EVP_DecryptInit_ex(c->gcm, EVP_aes_128_gcm(), NULL, NULL, NULL) != 1) {
		dpi_crypt_destroy(c);
		return -ENOMEM;
	}
	*out = c;
	return 0;
}

void
dpi_crypt_destroy(struct dpi_crypt *c)
{
	if (c == NULL)
		return;
	EVP_CIPHER_CTX_free(c->ecb);
	EVP_CIPHER_CTX_free(c->gcm);
	free(c);
}

/* RFC 9000 section 16. */
static uint64_t
varint(struct pk_wire *w)
{
	uint8_t first = pk_wire_u8(w);
	uint64_t n = first & 0x3f;

	for (int i = 1; i < 1 << (first >> 6); i++)
		n = n << 8 | pk_wire_u8(w);
	return n;
}

/* ---- headers ---- */

enum kind {
	NOT_QUIC,
	UNKNOWN_VERSION,
	NEGOTIATION,
	INITIAL,
	OTHER_LONG,
	GOOGLE
};

struct header {
	uint32_t version;
	const uint8_t *dcid, *payload; /* payload: packet number and all */
	uint32_t dcid_len, payload_off, payload_len;
	uint32_t end; /* of the packet, in the datagram */
};

static bool
known_version(uint32_t v)
{
	return v == V1 || v == V2 || (v >= 0xff000016 && v <= 0xff000022) ||
	    (v & 0xfffffff0) == 0xfaceb000 || v == 0x51303530 || v == 0x54303530 || v == 0x54303531;
}

/* The type bits mean the same in all versions but 2 (RFC 9369 section 3.2). */
static int
packet_type(uint8_t first, uint32_t version)
{
	return version == V2 ? ((first >> 4) + 3) & 3 : first >> 4 & 3;
}

static enum kind
read_header(struct dpi_bytes b, struct header *h)
{
	struct pk_wire w = dpi_cursor(b);
	uint8_t first = pk_wire_u8(&w);
	uint64_t payload_len;
	uint32_t n;

	h->version = pk_wire_be32(&w);
	if ((first & 0x80) == 0)
		return NOT_QUIC;
	h->dcid_len = pk_wire_u8(&w);
	if (h->dcid_len > 20)
		return NOT_QUIC;
	h->dcid = pk_wire_bytes(&w, h->dcid_len);
	n = pk_wire_u8(&w);
	pk_wire_skip(&w, n);
	/* RFC 9000 section 7.2: one side's id is chosen to be hard to guess. */
	if (!pk_wire_ok(&w) || n > 20 || (h->dcid_len < 4 && n < 4))
		return NOT_QUIC;
	if (h->version == 0) { /* RFC 9000 section 17.2.1 */
		bool known = false;

		if (pk_wire_left(&w) < 4 || pk_wire_left(&w) % 4 != 0)
			return NOT_QUIC;
		while (pk_wire_left(&w) > 0)
			known |= known_version(pk_wire_be32(&w));
		return known ? NEGOTIATION : NOT_QUIC;
	}
	if ((first & 0x40) == 0)
		return NOT_QUIC;
	/* RFC 9000 section 15: versions for exercise, 0x?a?a?a?a. */
	if (!known_version(h->version))
		return (h->version & 0x0f0f0f0f) == 0x0a0a0a0a && b.len >= 1200 && h->dcid_len >= 8
		    ? UNKNOWN_VERSION
		    : NOT_QUIC;
	if (packet_type(first, h->version) == 3) /* Retry: token and a tag of 16 bytes */
		return pk_wire_left(&w) >= 16 ? OTHER_LONG : NOT_QUIC;
	if (packet_type(first, h->version) == 0)
		pk_wire_skip(&w, (size_t)varint(&w));
	payload_len = varint(&w);
	h->payload_len = (uint32_t)PK_MIN(payload_len, UINT64_C(65536));
	h->payload = w.at;
	h->payload_off = (uint32_t)(w.at - b.at);
	if (pk_wire_bytes(&w, h->payload_len) == NULL || h->payload_len < 20)
		return NOT_QUIC;
	h->end = (uint32_t)(w.at - b.at);
	return packet_type(first, h->version) == 0 ? INITIAL : OTHER_LONG;
}

/* Google's own framing: flags with a version, an 8 byte connection id, "Q0" and two digits; and Q046, which
 * has the long header with one byte for both lengths. */
static bool
is_google(struct dpi_bytes b)
{
	const uint8_t *p = b.at;

	if (b.len >= 30 && (p[0] & 0xc9) == 0x09 && (p[9] == 'Q' || p[9] == 'T') && p[10] == '0' &&
	    dpi_is_digit(p[11]) && dpi_is_digit(p[12]))
		return true;
	return b.len >= 30 && (p[0] & 0xc0) == 0xc0 && p[1] == 'Q' && p[2] == '0' && p[3] == '4' &&
	    dpi_is_digit(p[4]) && (p[5] == 0x50 || p[5] == 0x05);
}

static enum dpi_match
parse_quic(struct dpi_view *v)
{
	struct header h;

	if (is_google(v->side[0]))
		return DPI_MATCH;
	switch (read_header(v->side[0], &h)) {
	case NEGOTIATION:
	case INITIAL:
	case OTHER_LONG:
		return DPI_MATCH;
	case UNKNOWN_VERSION:
		return DPI_LIKELY;
	default:
		return DPI_NO;
	}
}

/* ---- reading Initial packets ---- */

static bool
expand(uint8_t *out, uint8_t len, const uint8_t secret[32], const char *label)
{
	uint8_t info[64], md[32];
	size_t n = strlen(label);
	unsigned int md_len = sizeof(md);

	/* HkdfLabel of RFC 8446 section 7.1 with an empty context, then the counter of RFC 5869. */
	info[0] = 0;
	info[1] = len;
	info[2] = (uint8_t)(6 + n);
	memcpy(info + 3, "tls13 ", 6);
	memcpy(info + 9, label, n);
	info[9 + n] = 0;
	info[10 + n] = 1;
	if (HMAC(EVP_sha256(), secret, 32, info, 11 + n, md, &md_len) == NULL)
		return false;
	memcpy(out, md, len);
	return true;
}

static bool
client_keys(uint32_t version, const uint8_t *dcid, uint32_t dcid_len, uint8_t key[16],
    uint8_t iv[12], uint8_t hp[16])
{
	static const uint8_t salt_v1[20] =
	    "\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c"
	    "\xad\xcc\xbb\x7f\x0a",
	                     salt_v2[20] =
	                         "\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d"
	                         "\xcb\xf9\xbd\x2e\xd9",
	                     salt_29[20] =
	                         "\xaf\xbf\xec\x28\x99\x93\xd2\x4c\x9e\x97\x86\xf1\x9c\x61\x11"
	                         "\xe0\x43\x90\xa8\x99",
	                     salt_23[20] =
	                         "\xc3\xee\xf7\x12\xc7\x2e\xbb\x5a\x11\xa7\xd2\x43\x2b\xb4\x63"
	                         "\x65\xbe\xf9\xf5\x02",
	                     salt_q050[20] =
	                         "\x50\x45\x74\xef\xd0\x66\xfe\x2f\x9d\x94\x5c\xfc\xdb\xd3\xa7"
	                         "\xf0\xd3\xb5\x6b\x45";
	const uint8_t *salt = salt_v1;
	uint8_t initial[32], client[32];
	unsigned int n = sizeof(initial);
	bool v2 = version == V2;

	if (v2)
		salt = salt_v2;
	else if (version >> 8 == 0xff0000)
		salt = (version & 0xff) <= 28 ? salt_23
		    : (version & 0xff) <= 32  ? salt_29
		                              : salt_v1;
	else if ((version & 0xfffffff0) == 0xfaceb000)
		salt = version == 0xfaceb001 ? salt_23 : salt_29;
	else if (version == 0x51303530 || version == 0x54303530)
		salt = salt_q050;
	return HMAC(EVP_sha256(), salt, 20, dcid, dcid_len, initial, &n) != NULL &&
	    expand(client, 32, initial, "client in") &&
	    expand(key, 16, client, v2 ? "quicv2 key" : "quic key") &&
	    expand(iv, 12, client, v2 ? "quicv2 iv" : "quic iv") &&
	    expand(hp, 16, client, v2 ? "quicv2 hp" : "quic hp");
}

/* RFC 9001 section 5.4 and 5.3.  Plain text in c->plain; its length, or 0. */
static uint32_t
decrypt(struct dpi_crypt *c, const struct header *h, const uint8_t *packet, const uint8_t *dcid,
    uint32_t dcid_len)
{
	uint8_t key[16], iv[12], hp[16], mask[16], head[1600];
	uint32_t pn = 0, pn_len, head_len, body_len;
	int n = 0, last = 0;

	if (!client_keys(h->version, dcid, dcid_len, key, iv, hp) ||
	    EVP_EncryptInit_ex(c->ecb, NULL, NULL, hp, NULL) != 1 ||
	    EVP_EncryptUpdate(c->ecb, mask, &n, h->payload + 4, 16) != 1)
		return 0;
	pn_len = ((packet[0] ^ mask[0]) & 3) + 1U;
	head_len = h->payload_off + pn_len;
	if (head_len > sizeof(head) || h->payload_len < pn_len + 17 ||
	    h->payload_len - pn_len - 16 > sizeof(c->plain))
		return 0;
	memcpy(head, packet, head_len);
	head[0] ^= mask[0] & 0x0f;
	for (uint32_t i = 0; i < pn_len; i++) {
		head[h->payload_off + i] ^= mask[1 + i];
		pn = pn << 8 | head[h->payload_off + i];
	}
	for (int i = 0; i < 4; i++)
		iv[11 - i] ^= (uint8_t)(pn >> 8 * i);
	body_len = h->payload_len - pn_len - 16;
	if (EVP_DecryptInit_ex(c->gcm, NULL, NULL, key, iv) != 1 ||
	    EVP_DecryptUpdate(c->gcm, NULL, &n, head, (int)head_len) != 1 ||
	    EVP_DecryptUpdate(c->gcm, c->plain, &n, h->payload + pn_len, (int)body_len) != 1 ||
	    EVP_CIPHER_CTX_ctrl(c->gcm, EVP_CTRL_GCM_SET_TAG, 16,
	        (void *)(uintptr_t)(h->payload + pn_len + body_len)) != 1 ||
	    EVP_DecryptFinal_ex(c->gcm, c->plain + n, &last) != 1)
		return 0;
	return body_len;
}

/* CRYPTO frames of a decrypted Initial into the stream of the handshake. */
static void
frames(struct dpi_view *v, const uint8_t *plain, uint32_t len)
{
	struct dpi_stream *s = &v->f->udp.crypto;
	struct pk_wire w = pk_wire_from(plain, len);

	while (pk_wire_left(&w) > 0 && pk_wire_ok(&w)) {
		uint64_t type = varint(&w), off, n;
		const uint8_t *data;

		switch (type) {
		case 0: /* PADDING */
		case 1: /* PING */
			break;
		case 2: /* ACK */
		case 3:
			(void)varint(&w);
			(void)varint(&w);
			n = varint(&w);
			(void)varint(&w);
			for (n = PK_MIN(n, (uint64_t)len); n > 0 && pk_wire_ok(&w); n--) {
				(void)varint(&w);
				(void)varint(&w);
			}
			for (int i = 0; i < 3 && type == 3; i++)
				(void)varint(&w);
			break;
		case 6: /* CRYPTO */
			off = varint(&w);
			n = varint(&w);
			data = pk_wire_bytes(&w, (size_t)n);
			if (data == NULL || off >= DPI_STREAM_MAX)
				return;
			if (!s->started)
				dpi_stream_start(s, 0);
			(void)dpi_stream_add(
			    s, dpi_pool_of(v), (uint32_t)off, data, (uint16_t)PK_MIN(n, 8192u));
			break;
		default:
			return;
		}
	}
}

/* Google's hello: "CHLO", a count, then tags with the offsets at which their values end. */
static bool
describe_google(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	const uint8_t *p = dpi_find(b, "CHLO", 4);
	uint32_t left = p != NULL ? b.len - (uint32_t)(p - b.at) : 0, nb, from = 0;

	if (left < 8)
		return true;
	nb = dpi_le16(p + 4);
	if (nb == 0 || nb > 128 || left < 8 + 8 * nb)
		return true;
	for (uint32_t i = 0; i < nb; i++) {
		const uint8_t *tag = p + 8 + 8 * i;
		uint32_t end = dpi_le32(tag + 4);

		if (end < from || end > left - 8 - 8 * nb)
			break;
		if (memcmp(tag, "SNI", 4) == 0)
			dpi_say(v, DPI_FIELD_SNI, 0, p + 8 + 8 * nb + from, end - from);
		from = end;
	}
	return true;
}

static bool
describe_quic(struct dpi_view *v)
{
	struct dpi_crypt *c = dpi_crypt_of(v);
	struct dpi_flow *f = v->f;
	struct dpi_bytes b = v->side[0];
	struct header h;
	const uint8_t *hello;
	uint32_t n;

	if (is_google(b))
		return describe_google(v);
	/* Packets of a datagram lie one behind the other (RFC 9000 section 12.2). */
	while (b.len > 0) {
		enum kind kind = read_header(b, &h);

		if (kind != INITIAL && kind != OTHER_LONG)
			break;
		if (kind == INITIAL) {
			if (f->udp.dcid_len == 0) {
				memcpy(f->udp.dcid, h.dcid, h.dcid_len);
				f->udp.dcid_len = (uint8_t)h.dcid_len;
				f->udp.version = h.version;
			}
			n = decrypt(c, &h, b.at, f->udp.dcid, f->udp.dcid_len);
			if (n == 0) /* after a Retry the keys are others */
				n = decrypt(c, &h, b.at, h.dcid, h.dcid_len);
			if (n > 0)
				frames(v, c->plain, n);
		}
		if (packet_type(b.at[0], h.version) == 3)
			break;
		b.at += h.end;
		b.len -= h.end;
	}
	if (f->udp.crypto.len >= 4) {
		hello = dpi_stream_bytes(&f->udp.crypto, dpi_pool_of(v), dpi_room(v));
		n = (uint32_t)hello[1] << 16 | dpi_be16(hello + 2);
		if (hello[0] != 1)
			return true;
		if (f->udp.crypto.len >= 4 + n) {
			(void)dpi_client_hello(v, -1, hello + 4, n, 'q');
			return true;
		}
	}
	return f->packets > 6;
}

static const struct dpi_proto table[] = {
	{ DPI_APP_QUIC, DPI_UDP, { DPI_FIRST("\x09\x3f\x80\xff"), DPI_ANY }, parse_quic,
	    describe_quic },
};
DPI_FAMILY_OF(quic, table);
