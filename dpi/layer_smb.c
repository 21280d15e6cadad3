#include <stdlib.h>
#include <string.h>

#include "dpi/heap.h"
#include "dpi/session.h"

/*
 * SMB 1 and 2 ([MS-CIFS], [MS-SMB2]) over the session service (RFC 1002), and DCE/RPC (C706) on top of it or of
 * TCP: as far as files that are read or written, shares, and the calls of interfaces.
 */
#define PDU_MAX (1u << 20)

struct rpc {
	uint8_t iface[64][16];
	uint16_t context[64];
	unsigned int nb;
	struct dpi_pending stub; /* of a request in fragments */
};

struct smb {
	struct dpi_tx *tx; /* files */
	struct dpi_pending side[2];
	struct rpc rpc;
};

static uint16_t
le16(const uint8_t *p)
{
	return (uint16_t)(p[1] << 8 | p[0]);
}

static uint32_t
le32(const uint8_t *p)
{
	return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

/* A UUID in the order it is written in. */
static void
uuid(uint8_t *to, const uint8_t *from, bool little)
{
	static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };

	for (unsigned int i = 0; i < 16; i++)
		to[i] = from[little ? order[i] : i];
}

/* One PDU of len bytes, header included. */
static void
rpc_pdu(struct dpi_session *s, struct rpc *r, enum dpi_layer layer, unsigned int dir,
    const uint8_t *p, uint32_t len)
{
	bool little = p[4] & 0x10;
	struct dpi_tx *tx;

	if (len < 24)
		return;
	if ((p[2] == 11 || p[2] == 14) && dir == 0 && len >= 28) { /* bind, alter context */
		uint32_t at = 28;

		for (unsigned int n = p[24]; n > 0 && at + 24 <= len && r->nb < 64; n--) {
			unsigned int syntaxes = p[at + 2];

			r->context[r->nb] = little ? le16(p + at)
			                           : (uint16_t)(p[at] << 8 | p[at + 1]);
			uuid(r->iface[r->nb++], p + at + 4, little);
			at += 24 + syntaxes * 20;
		}
	} else if (p[2] == 0 && dir == 0) { /* request */
		uint32_t skip = 24 + (p[3] & 0x80 ? 16 : 0);
		uint16_t context = little ? le16(p + 20) : (uint16_t)(p[20] << 8 | p[21]);
		uint16_t auth = little ? le16(p + 10) : (uint16_t)(p[10] << 8 | p[11]);

		if (p[3] & 1)
			r->stub.len = 0;
		if (auth != 0 && len > auth + 8u + skip)
			len -= auth + 8u;
		if (len > skip)
			dpi_pending_add(&r->stub, p + skip, len - skip, PDU_MAX);
		if (!(p[3] & 2))
			return;
		tx = dpi_tx_new(s, layer);
		if (tx == NULL)
			return;
		tx->dce.has_opnum = true;
		tx->dce.opnum = little ? le16(p + 22) : (uint16_t)(p[22] << 8 | p[23]);
		for (unsigned int i = 0; i < r->nb; i++) {
			if (r->context[i] == context) {
				tx->dce.has_iface = true;
				memcpy(tx->dce.iface, r->iface[i], 16);
			}
		}
		dpi_tx_put(tx, DPI_DCE_STUB, 0, r->stub.bytes, r->stub.len);
		dpi_tx_done(tx, 0);
		dpi_tx_done(tx, 1);
		tx->touched[1] = false;
	} else if (p[2] == 2 && dir == 1) { /* response */
		tx = dpi_tx_new(s, layer);
		if (tx == NULL)
			return;
		dpi_tx_put(tx, DPI_DCE_STUB, 1, p + 24, len - 24);
		dpi_tx_done(tx, 0);
		dpi_tx_done(tx, 1);
		tx->touched[0] = false;
	}
}

static uint32_t
rpc_len(const uint8_t *p)
{
	return p[4] & 0x10 ? le16(p + 8) : (uint32_t)(p[8] << 8 | p[9]);
}

static void
rpc_try(struct dpi_session *s, struct rpc *r, enum dpi_layer layer, unsigned int dir,
    const uint8_t *p, uint32_t len)
{
	while (len >= 16 && p[0] == 5 && p[1] <= 1) {
		uint32_t n = rpc_len(p);

		if (n < 16 || n > len)
			break;
		rpc_pdu(s, r, layer, dir, p, n);
		p += n;
		len -= n;
	}
}

/* UTF-16 to bytes: the low halves, which is all that ASCII needs. */
static void
put_utf16(struct dpi_tx *tx, enum dpi_buf buf, unsigned int dir, const uint8_t *p, uint32_t len)
{
	uint8_t text[512];
	uint32_t n = 0;

	for (uint32_t i = 0; i + 1 < len && n < sizeof(text); i += 2) {
		if (p[i] == 0 && p[i + 1] == 0)
			break;
		text[n++] = p[i];
	}
	dpi_tx_put(tx, buf, dir, text, n);
}

/* Bytes of a file or of a pipe. */
static void
content(struct dpi_session *s, struct smb *m, unsigned int dir, const uint8_t *p, uint32_t len)
{
	if (len >= 16 && p[0] == 5 && p[1] == 0 && p[2] <= 19 && rpc_len(p) >= 16 &&
	    rpc_len(p) <= len)
		rpc_try(s, &m->rpc, DPI_LAYER_SMB, dir, p, len);
	else
		dpi_tx_grow(m->tx, DPI_FILE_DATA, dir, p, len, DPI_BODY_MAX);
}

static void
smb2(struct dpi_session *s, struct smb *m, unsigned int dir, const uint8_t *p, uint32_t len)
{
	uint32_t next = 0;

	do {
		const uint8_t *b;
		uint16_t command;
		uint32_t at, n;

		p += next;
		len -= next;
		if (len < 64 + 8 || memcmp(p, "\xfeSMB", 4) != 0)
			return;
		command = le16(p + 12);
		next = le32(p + 20);
		b = p + 64;
		if (command == 9 && dir == 0 && len >= 64 + 48) { /* write */
			at = le16(b + 2);
			n = le32(b + 4);
			if (at <= len && n <= len - at)
				content(s, m, 0, p + at, n);
		} else if (command == 8 && dir == 1 && len >= 64 + 16) { /* read */
			at = b[2];
			n = le32(b + 4);
			if (at <= len && n <= len - at)
				content(s, m, 1, p + at, n);
		} else if (command == 11 && len >= 64 + 48) { /* ioctl: pipe transceive */
			at = dir == 0 ? le32(b + 24) : le32(b + 32);
			n = dir == 0 ? le32(b + 28) : le32(b + 36);
			if (at <= len && n <= len - at)
				rpc_try(s, &m->rpc, DPI_LAYER_SMB, dir, p + at, n);
		} else if (command == 3 && dir == 0) { /* tree connect */
			at = le16(b + 4);
			n = le16(b + 6);
			if (at <= len && n <= len - at)
				put_utf16(m->tx, DPI_SMB_SHARE, 0, p + at, n);
		} else if (command == 5 && dir == 0 && len >= 64 + 56) { /* create */
			at = le16(b + 44);
			n = le16(b + 46);
			if (at <= len && n <= len - at && n > 0)
				put_utf16(m->tx, DPI_FILE_NAME, 0, p + at, n);
		}
	} while (next >= 64 && next < len);
}

static void
smb1(struct dpi_session *s, struct smb *m, unsigned int dir, const uint8_t *p, uint32_t len)
{
	uint32_t at = 32, words, data, n;
	uint8_t command;

	if (len < 33)
		return;
	command = p[4];
	/* Commands may be chained (AndX): each names the next and where it begins. */
	for (unsigned int hops = 0; hops < 8 && at < len; hops++) {
		const uint8_t *w = p + at + 1;

		words = p[at];
		if (at + 1 + words * 2 + 2 > len)
			return;
		if (command == 0x2f && dir == 0 && words >= 12) { /* write */
			n = (uint32_t)le16(w + 18) << 16 | le16(w + 20);
			data = le16(w + 22);
			if (data <= len)
				content(s, m, 0, p + data, PK_MIN(n, len - data));
		} else if (command == 0x2e && dir == 1 && words >= 12) { /* read */
			n = le16(w + 10);
			data = le16(w + 12);
			if (data <= len)
				content(s, m, 1, p + data, PK_MIN(n, len - data));
		} else if (command == 0x25) { /* transaction: calls over a pipe */
			if (dir == 0 && words >= 14) {
				n = le16(w + 22);
				data = le16(w + 24);
			} else if (dir == 1 && words >= 10) {
				n = le16(w + 12);
				data = le16(w + 14);
			} else {
				return;
			}
			if (data <= len)
				rpc_try(s, &m->rpc, DPI_LAYER_SMB, dir, p + data,
				    PK_MIN(n, len - data));
			return;
		}
		if (words < 2 || command == 0x25 ||
		    (command != 0x2e && command != 0x2f && command != 0x2d && command != 0x24 &&
		        command != 0x73 && command != 0x75 && command != 0x74 && command != 0xa2))
			return;
		command = w[0];
		if (command == 0xff || le16(w + 2) <= at)
			return;
		at = le16(w + 2);
	}
}

static int
smb_open(struct dpi_session *s)
{
	struct smb *m = dpi_calloc(1, sizeof(*m));

	if (m == NULL || (m->tx = dpi_tx_new(s, s->layer)) == NULL) {
		dpi_free(m);
		return -1;
	}
	s->state = m;
	return 0;
}

static void
smb_bytes(struct dpi_session *s, unsigned int dir, const uint8_t *bytes, uint32_t len, bool end)
{
	struct smb *m = s->state;
	struct dpi_pending *p = &m->side[dir];

	if (end) {
		dpi_tx_done(m->tx, dir);
		return;
	}
	if (!dpi_pending_add(p, bytes, len, 2 * PDU_MAX))
		return;
	while (p->len >= 4) {
		uint32_t n = (uint32_t)p->bytes[1] << 16 | (uint32_t)p->bytes[2] << 8 | p->bytes[3];

		if (n > PDU_MAX) {
			p->len = 0;
			return;
		}
		if (p->len < n + 4)
			return;
		if (n >= 4 && memcmp(p->bytes + 4, "\xfeSMB", 4) == 0)
			smb2(s, m, dir, p->bytes + 4, n);
		else if (n >= 4 && memcmp(p->bytes + 4, "\xffSMB", 4) == 0)
			smb1(s, m, dir, p->bytes + 4, n);
		dpi_pending_eat(p, n + 4);
	}
}

static void
smb_close(struct dpi_session *s)
{
	struct smb *m = s->state;

	dpi_free(m->side[0].bytes);
	dpi_free(m->side[1].bytes);
	dpi_free(m->rpc.stub.bytes);
	dpi_free(m);
}

const struct dpi_layer_ops dpi_smb_ops = {
	.open = smb_open, .bytes = smb_bytes, .close = smb_close
};

static void
dcerpc_bytes(struct dpi_session *s, unsigned int dir, const uint8_t *bytes, uint32_t len, bool end)
{
	struct smb *m = s->state;
	struct dpi_pending *p = &m->side[dir];

	if (end) {
		dpi_tx_done(m->tx, dir);
		return;
	}
	if (!dpi_pending_add(p, bytes, len, PDU_MAX))
		return;
	while (p->len >= 16) {
		uint32_t n = rpc_len(p->bytes);

		if (p->bytes[0] != 5 || n < 16) {
			p->len = 0;
			return;
		}
		if (p->len < n)
			return;
		rpc_pdu(s, &m->rpc, DPI_LAYER_DCERPC, dir, p->bytes, n);
		dpi_pending_eat(p, n);
	}
}

const struct dpi_layer_ops dpi_dcerpc_ops = {
	.open = smb_open, .bytes = dcerpc_bytes, .close = smb_close
};
