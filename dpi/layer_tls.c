#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "dpi/heap.h"
#include "dpi/session.h"
#include "lib/wire.h"

/*
 * TLS (RFC 8446, RFC 5246) as far as it is in the clear: hello messages and certificates.  One transaction
 * for the session.  What is encrypted is not looked at.
 */
#define HANDSHAKE_MAX (1u << 17)

struct tls {
	struct dpi_tx *tx;
	struct dpi_pending record[2], handshake[2];
	bool encrypted[2], failed[2];
	bool sslv2;
};

static bool
is_grease(uint16_t v)
{
	return (v & 0x0f0f) == 0x0a0a && v >> 8 == (v & 0xff);
}

static void
put_hash(struct dpi_tx *tx, enum dpi_buf string, enum dpi_buf hash, unsigned int dir,
    const char *text, size_t len)
{
	uint8_t md[EVP_MAX_MD_SIZE];
	char hex[33];
	unsigned int n = 0;

	if (len == 0)
		return;
	dpi_tx_put(tx, string, dir, text, len);
	if (tx == NULL || !dpi_tx_wants(tx, hash) ||
	    EVP_Digest(text, len, md, &n, EVP_md5(), NULL) != 1 || n != 16)
		return;
	for (unsigned int i = 0; i < 16; i++)
		sprintf(hex + 2 * i, "%02x", md[i]);
	dpi_tx_put(tx, hash, dir, hex, 32);
}

static void
put_version(struct dpi_tx *tx, unsigned int dir, uint16_t version)
{
	static const char *const names[] = { "ssl3", "1.0", "1.1", "1.2", "1.3" };
	char text[8];

	if (version >> 8 == 3 && (version & 0xff) < PK_COUNT(names))
		snprintf(text, sizeof(text), "%s", names[version & 0xff]);
	else
		snprintf(text, sizeof(text), "0x%04x", version);
	dpi_tx_put(tx, DPI_TLS_VERSION, dir, text, strlen(text));
}

static void
put_random(struct dpi_tx *tx, unsigned int dir, const uint8_t *random)
{
	dpi_tx_put(tx, DPI_TLS_RANDOM, dir, random, 32);
	dpi_tx_put(tx, DPI_TLS_RANDOM_TIME, dir, random, 4);
	dpi_tx_put(tx, DPI_TLS_RANDOM_BYTES, dir, random + 4, 28);
}

static bool
hash_wanted(const struct dpi_tx *tx, enum dpi_buf string, enum dpi_buf hash)
{
	return tx != NULL && (dpi_tx_wants(tx, string) || dpi_tx_wants(tx, hash));
}

/* One number of a JA3 list; nothing when there is no room at all. */
static void
ja3_add(char *text, size_t size, size_t *at, bool *first, unsigned int v)
{
	int n;

	if (size == 0)
		return;
	n = snprintf(text + *at, size - *at, "%s%u", *first ? "" : "-", v);

	if (n > 0 && (size_t)n < size - *at)
		*at += (size_t)n;
	*first = false;
}

static void
ja3_comma(char *text, size_t size, size_t *at, bool *first)
{
	if (*at + 1 < size)
		text[(*at)++] = ',';
	*first = true;
}

static void
server_name(struct tls *t, const uint8_t *b, uint32_t len)
{
	struct pk_wire w = pk_wire_from(b, len);
	uint16_t list = pk_wire_be16(&w), n;
	uint8_t type = pk_wire_u8(&w);
	const uint8_t *name;

	if (len == 0)
		return;
	n = pk_wire_be16(&w);
	name = pk_wire_bytes(&w, n);
	if (!pk_wire_ok(&w) || list + 2u > len) {
		dpi_tx_event(t->tx, DPI_EV_TLS_SNI_LEN, 0);
		return;
	}
	if (type != 0) {
		dpi_tx_event(t->tx, DPI_EV_TLS_SNI_TYPE, 0);
		return;
	}
	if (dpi_tx_slot(t->tx, DPI_TLS_SNI, 0) != NULL)
		dpi_tx_event(t->tx, DPI_EV_TLS_SNI_MANY, 0);
	dpi_tx_put(t->tx, DPI_TLS_SNI, 0, name, n);
}

static void
client_hello(struct tls *t, const uint8_t *b, uint32_t len)
{
	struct pk_wire w = pk_wire_from(b, len), ext = pk_wire_from(b, 0), groups = ext,
	               points = ext;
	uint16_t version = pk_wire_be16(&w), n;
	const uint8_t *random = pk_wire_bytes(&w, 32), *ciphers, *exts = NULL;
	char ja3[4096];
	size_t at = 0, room = hash_wanted(t->tx, DPI_JA3_STRING, DPI_JA3_HASH) ? sizeof(ja3) : 0;
	bool first = true;

	pk_wire_skip(&w, pk_wire_u8(&w));
	n = pk_wire_be16(&w);
	ciphers = pk_wire_bytes(&w, n);
	if (room > 0)
		at = (size_t)snprintf(ja3, room, "%u", version);
	ja3_comma(ja3, room, &at, &first);
	for (unsigned int i = 0; ciphers != NULL && i + 1 < n; i += 2) {
		uint16_t c = (uint16_t)(ciphers[i] << 8 | ciphers[i + 1]);

		if (!is_grease(c))
			ja3_add(ja3, room, &at, &first, c);
	}
	pk_wire_skip(&w, pk_wire_u8(&w));
	if (!pk_wire_ok(&w)) {
		dpi_tx_event(t->tx, DPI_EV_TLS_HANDSHAKE, 0);
		return;
	}
	put_random(t->tx, 0, random);
	ja3_comma(ja3, room, &at, &first);
	if (pk_wire_left(&w) >= 2) {
		n = pk_wire_be16(&w);
		exts = pk_wire_bytes(&w, n);
		if (exts == NULL)
			dpi_tx_event(t->tx, DPI_EV_TLS_HANDSHAKE, 0);
		else
			ext = pk_wire_from(exts, n);
	}
	while (pk_wire_left(&ext) >= 4) {
		uint16_t type = pk_wire_be16(&ext), elen = pk_wire_be16(&ext);
		const uint8_t *body = pk_wire_bytes(&ext, elen);

		if (body == NULL) {
			dpi_tx_event(t->tx, DPI_EV_TLS_HANDSHAKE, 0);
			break;
		}
		if (!is_grease(type))
			ja3_add(ja3, room, &at, &first, type);
		if (type == 0)
			server_name(t, body, elen);
		else if (type == 10)
			groups = pk_wire_from(body, elen);
		else if (type == 11)
			points = pk_wire_from(body, elen);
	}
	ja3_comma(ja3, room, &at, &first);
	pk_wire_skip(&groups, PK_MIN(pk_wire_left(&groups), (size_t)2));
	while (pk_wire_left(&groups) >= 2) {
		uint16_t g = pk_wire_be16(&groups);

		if (!is_grease(g))
			ja3_add(ja3, room, &at, &first, g);
	}
	ja3_comma(ja3, room, &at, &first);
	pk_wire_skip(&points, PK_MIN(pk_wire_left(&points), (size_t)1));
	while (pk_wire_left(&points) >= 1)
		ja3_add(ja3, room, &at, &first, pk_wire_u8(&points));
	put_hash(t->tx, DPI_JA3_STRING, DPI_JA3_HASH, 0, ja3, at);
}

static void
server_hello(struct tls *t, const uint8_t *b, uint32_t len)
{
	struct pk_wire w = pk_wire_from(b, len), ext = pk_wire_from(b, 0);
	uint16_t version = pk_wire_be16(&w), real = version, cipher, n;
	const uint8_t *random = pk_wire_bytes(&w, 32), *exts;
	char ja3[2048];
	size_t at = 0, room = hash_wanted(t->tx, DPI_JA3S_STRING, DPI_JA3S_HASH) ? sizeof(ja3) : 0;
	bool first = true;

	pk_wire_skip(&w, pk_wire_u8(&w));
	cipher = pk_wire_be16(&w);
	pk_wire_u8(&w);
	if (!pk_wire_ok(&w)) {
		dpi_tx_event(t->tx, DPI_EV_TLS_HANDSHAKE, 1);
		return;
	}
	put_random(t->tx, 1, random);
	if (room > 0)
		at = (size_t)snprintf(ja3, room, "%u,%u,", version, cipher);
	if (pk_wire_left(&w) >= 2) {
		n = pk_wire_be16(&w);
		exts = pk_wire_bytes(&w, n);
		if (exts != NULL)
			ext = pk_wire_from(exts, n);
	}
	while (pk_wire_left(&ext) >= 4) {
		uint16_t type = pk_wire_be16(&ext), elen = pk_wire_be16(&ext);
		const uint8_t *body = pk_wire_bytes(&ext, elen);

		if (body == NULL)
			break;
		ja3_add(ja3, room, &at, &first, type);
		if (type == 43 && elen == 2)
			real = (uint16_t)(body[0] << 8 | body[1]);
	}
	put_hash(t->tx, DPI_JA3S_STRING, DPI_JA3S_HASH, 1, ja3, at);
	put_version(t->tx, 1, real);
	put_version(t->tx, 0, real);
}

/* ---- certificates: X.690 DER, RFC 5280 ---- */

/* One element: its tag, value in *v, and the cursor behind it.  0: broken. */
static unsigned int
der(struct pk_wire *w, struct pk_wire *v, const uint8_t **whole)
{
	const uint8_t *from = w->at;
	unsigned int tag = pk_wire_u8(w);
	uint32_t len = pk_wire_u8(w);
	const uint8_t *p;

	if (len & 0x80) {
		unsigned int n = len & 0x7f;

		if (n == 0 || n > 4)
			return 0;
		for (len = 0; n > 0; n--)
			len = len << 8 | pk_wire_u8(w);
	}
	p = pk_wire_bytes(w, len);
	if (p == NULL)
		return 0;
	*v = pk_wire_from(p, len);
	if (whole != NULL)
		*whole = from;
	return tag;
}

/* A Name as "C=US, O=Example, CN=www.example.org". */
static void
put_name(struct tls *t, enum dpi_buf buf, struct pk_wire name)
{
	static const struct {
		uint8_t len;
		uint8_t oid[10];
		const char *text;
	} known[] = { { 3, { 0x55, 4, 3 }, "CN" }, { 3, { 0x55, 4, 6 }, "C" },
		{ 3, { 0x55, 4, 7 }, "L" }, { 3, { 0x55, 4, 8 }, "ST" },
		{ 3, { 0x55, 4, 10 }, "O" }, { 3, { 0x55, 4, 11 }, "OU" },
		{ 3, { 0x55, 4, 5 }, "serialNumber" }, { 3, { 0x55, 4, 4 }, "SN" },
		{ 3, { 0x55, 4, 12 }, "title" }, { 3, { 0x55, 4, 9 }, "street" },
		{ 3, { 0x55, 4, 17 }, "postalCode" }, { 3, { 0x55, 4, 42 }, "GN" },
		{ 3, { 0x55, 4, 13 }, "description" }, { 3, { 0x55, 4, 15 }, "businessCategory" },
		{ 9, { 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1 }, "emailAddress" },
		{ 10, { 0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25 }, "DC" },
		{ 10, { 0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1 }, "UID" } };
	char text[2048];
	size_t at = 0;

	if (t->tx == NULL || !dpi_tx_wants(t->tx, buf))
		return;
	while (pk_wire_left(&name) > 0) {
		struct pk_wire set, attribute, oid, value;
		const char *label = "UNKNOWN";
		size_t vlen;

		if (der(&name, &set, NULL) != 0x31 || der(&set, &attribute, NULL) != 0x30 ||
		    der(&attribute, &oid, NULL) != 6 || der(&attribute, &value, NULL) == 0)
			break;
		for (size_t i = 0; i < PK_COUNT(known); i++)
			if (pk_wire_left(&oid) == known[i].len &&
			    memcmp(oid.at, known[i].oid, known[i].len) == 0)
				label = known[i].text;
		vlen = pk_wire_left(&value);
		if (at + strlen(label) + vlen + 4 > sizeof(text))
			break;
		at += (size_t)sprintf(text + at, "%s%s=", at > 0 ? ", " : "", label);
		memcpy(text + at, value.at, vlen);
		at += vlen;
	}
	dpi_tx_put(t->tx, buf, 1, text, at);
}

static void
put_hex(struct tls *t, enum dpi_buf buf, const uint8_t *b, size_t len, const char *format)
{
	char text[256];
	size_t at = 0;

	if (t->tx == NULL || !dpi_tx_wants(t->tx, buf))
		return;
	for (size_t i = 0; i < len && at + 4 < sizeof(text); i++)
		at += (size_t)sprintf(text + at, format, b[i]);
	dpi_tx_put(t->tx, buf, 1, text, at > 0 ? at - 1 : 0); /* without the last colon */
}

static void
certificate(struct tls *t, const uint8_t *b, uint32_t len, bool leaf)
{
	struct pk_wire w = pk_wire_from(b, len), cert, tbs, v;
	uint8_t md[EVP_MAX_MD_SIZE];
	unsigned int n = 0, tag;

	dpi_tx_put(t->tx, DPI_TLS_CERTS, 1, b, len);
	if (!leaf)
		return;
	tag = der(&w, &cert, NULL);
	if (tag == 0x30)
		tag = der(&cert, &tbs, NULL);
	if (tag != 0x30) {
		/* Nothing there to read: a length reaches beyond its certificate. */
		dpi_tx_event(t->tx, tag == 0 ? DPI_EV_TLS_CERT_LEN : DPI_EV_TLS_CERTIFICATE, 1);
		return;
	}
	if (t->tx != NULL && dpi_tx_wants(t->tx, DPI_TLS_FINGERPRINT) &&
	    EVP_Digest(b, len, md, &n, EVP_sha1(), NULL) == 1)
		put_hex(t, DPI_TLS_FINGERPRINT, md, n, "%02x:");
	tag = der(&tbs, &v, NULL);
	if (tag == 0xa0) /* version */
		tag = der(&tbs, &v, NULL);
	if (tag != 2) {
		dpi_tx_event(t->tx, DPI_EV_TLS_CERTIFICATE, 1);
		return;
	}
	put_hex(t, DPI_TLS_SERIAL, v.at, pk_wire_left(&v), "%02X:");
	if (der(&tbs, &v, NULL) != 0x30 || der(&tbs, &v, NULL) != 0x30) {
		dpi_tx_event(t->tx, DPI_EV_TLS_CERTIFICATE, 1);
		return;
	}
	put_name(t, DPI_TLS_ISSUER, v);
	if (der(&tbs, &v, NULL) != 0x30 || der(&tbs, &v, NULL) != 0x30) {
		dpi_tx_event(t->tx, DPI_EV_TLS_CERTIFICATE, 1);
		return;
	}
	put_name(t, DPI_TLS_SUBJECT, v);
}

static void
certificates(struct tls *t, const uint8_t *b, uint32_t len)
{
	struct pk_wire w = pk_wire_from(b, len);
	bool leaf = true;

	pk_wire_skip(&w, 3);
	while (pk_wire_left(&w) >= 3) {
		uint32_t n = (uint32_t)pk_wire_u8(&w) << 16;
		const uint8_t *p;

		n |= pk_wire_be16(&w);
		p = pk_wire_bytes(&w, n);
		if (p == NULL) {
			dpi_tx_event(t->tx, DPI_EV_TLS_HANDSHAKE, 1);
			dpi_tx_event(t->tx, DPI_EV_TLS_CERT_LEN, 1);
			break;
		}
		certificate(t, p, n, leaf);
		leaf = false;
	}
}

static void
handshake(struct tls *t, unsigned int dir)
{
	struct dpi_pending *p = &t->handshake[dir];

	while (p->len >= 4) {
		uint32_t n = (uint32_t)p->bytes[1] << 16 | (uint32_t)p->bytes[2] << 8 | p->bytes[3];

		if (n > HANDSHAKE_MAX) {
			dpi_tx_event(t->tx, DPI_EV_TLS_HANDSHAKE, dir);
			t->encrypted[dir] = true;
			return;
		}
		if (p->len < n + 4)
			return;
		switch (p->bytes[0]) {
		case 1:
			client_hello(t, p->bytes + 4, n);
			break;
		case 2:
			server_hello(t, p->bytes + 4, n);
			break;
		case 11:
			if (dir == 1)
				certificates(t, p->bytes + 4, n);
			break;
		case 0:
		case 3:
		case 4:
		case 5:
		case 8:
		case 12:
		case 13:
		case 14:
		case 15:
		case 16:
		case 20:
		case 21:
		case 22:
		case 23:
		case 24:
		case 67:
		case 254:
			break;
		default:
			dpi_tx_event(t->tx, DPI_EV_TLS_HANDSHAKE, dir);
			dpi_tx_event(t->tx, DPI_EV_TLS_SSL_RECORD, dir);
			t->encrypted[dir] = true;
			return;
		}
		dpi_pending_eat(p, n + 4);
	}
}

static int
tls_open(struct dpi_session *s)
{
	struct tls *t = dpi_calloc(1, sizeof(*t));

	if (t == NULL || (t->tx = dpi_tx_new(s, DPI_LAYER_TLS)) == NULL) {
		dpi_free(t);
		return -1;
	}
	s->state = t;
	return 0;
}

/* An SSLv2 hello that offers TLS (RFC 5246, appendix E.2) stands before the first record. */
static bool
sslv2(struct tls *t, struct dpi_pending *p)
{
	uint32_t n;

	if (p->len < 3 || !(p->bytes[0] & 0x80) || p->bytes[2] != 1)
		return false;
	n = (uint32_t)(p->bytes[0] & 0x7f) << 8 | p->bytes[1];
	if (p->len < n + 2)
		return false;
	dpi_pending_eat(p, n + 2);
	t->sslv2 = true;
	return true;
}

static void
tls_bytes(struct dpi_session *s, unsigned int dir, const uint8_t *bytes, uint32_t len, bool end)
{
	struct tls *t = s->state;
	struct dpi_pending *p = &t->record[dir];

	if (end) {
		dpi_tx_done(t->tx, dir);
		return;
	}
	if (t->failed[dir] || (t->encrypted[0] && t->encrypted[1]) ||
	    !dpi_pending_add(p, bytes, len, 1u << 18))
		return;
	if (dir == 0 && !t->sslv2)
		sslv2(t, p);
	while (p->len >= 5) {
		uint32_t n = (uint32_t)(p->bytes[3] << 8 | p->bytes[4]);
		uint8_t type = p->bytes[0];

		if (type < 0x14 || type > 0x18) {
			dpi_tx_event(t->tx,
			    t->encrypted[dir] ? DPI_EV_TLS_RECORD_TYPE : DPI_EV_TLS_HEADER, dir);
			t->failed[dir] = true;
			break;
		}
		if (p->bytes[1] != 3) {
			dpi_tx_event(t->tx, DPI_EV_TLS_RECORD_VERSION, dir);
			t->failed[dir] = true;
			break;
		}
		/* What is encrypted is told by its first bytes; other records are read when they are whole. */
		t->encrypted[dir] |= type == 0x17;
		if (p->len < n + 5)
			break;
		if (type == 0x16 && !t->encrypted[dir]) {
			if (dpi_pending_add(&t->handshake[dir], p->bytes + 5, n, HANDSHAKE_MAX))
				handshake(t, dir);
		} else if (type == 0x14) {
			t->encrypted[dir] = true;
		}
		dpi_pending_eat(p, n + 5);
	}
	s->finished = t->encrypted[0] && t->encrypted[1];
}

static void
tls_close(struct dpi_session *s)
{
	struct tls *t = s->state;

	for (unsigned int d = 0; d < 2; d++) {
		dpi_free(t->record[d].bytes);
		dpi_free(t->handshake[d].bytes);
	}
	dpi_free(t);
}

const struct dpi_layer_ops dpi_tls_ops = {
	.open = tls_open, .bytes = tls_bytes, .close = tls_close
};
