/* Files and blocks over the network: SMB, DCE/RPC, NetBIOS, ONC RPC (NFS), iSCSI, NVMe/TCP, Ceph, Lustre, AFP, TFTP. */
#include <stdio.h>

#include "dpi/proto.h"

bool
dpi_smb_header(const uint8_t *p, uint32_t len)
{
	return len >= 4 && (p[0] == 0xff || p[0] == 0xfe || p[0] == 0xfd || p[0] == 0xfc) &&
	    memcmp(p + 1, "SMB", 3) == 0;
}

/* MS-SMB2 section 2.1 and RFC 1001: a type, a length, then the message; sessions begin with type 0x81. */
static enum dpi_match
smb_side(struct dpi_bytes b, uint8_t *app)
{
	uint32_t len;

	if (b.len < 4)
		return b.len > 1 && b.at[0] == 0x81 && b.at[1] > 1 ? DPI_NO : DPI_MORE;
	len = (uint32_t)b.at[1] << 16 | dpi_be16(b.at + 2);
	switch (b.at[0]) {
	case 0x81: /* two encoded names of 34 bytes */
		if (len < 68 || len > 512)
			return DPI_NO;
		if (b.len < 39)
			return DPI_MORE;
		*app = DPI_APP_NETBIOS;
		return b.at[4] == 32 && b.at[37] == 0 ? DPI_MATCH : DPI_NO;
	case 0x82:
	case 0x83:
		*app = DPI_APP_NETBIOS;
		return len <= 1 ? (b.len == 4 + len ? DPI_LIKELY : DPI_MORE) : DPI_NO;
	case 0x00:
		if (len < 32)
			return DPI_NO;
		if (b.len < 8)
			return DPI_MORE;
		return dpi_smb_header(b.at + 4, b.len - 4) ? DPI_MATCH : DPI_NO;
	default:
		return DPI_NO;
	}
}

static enum dpi_match
parse_smb(struct dpi_view *v)
{
	enum dpi_match c = smb_side(v->side[0], &v->app), s;
	uint8_t app = DPI_APP_SMB;

	if (c == DPI_NO || c == DPI_MATCH)
		return c;
	s = smb_side(v->side[1], &app);
	if (s == DPI_NO)
		return DPI_NO;
	v->app = app;
	return PK_MAX(c, s);
}

/* RFC 1002 section 4.4: datagram service; what it carries is SMB most often. */
static enum dpi_match
parse_nbdgm(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (b.len < 14 || b.at[0] < 0x10 || b.at[0] > 0x16 || (b.at[1] & 0xf0) != 0)
		return DPI_NO;
	if (b.at[0] >= 0x13)
		return b.at[0] == 0x13 ? (b.len == 11 ? DPI_LIKELY : DPI_NO) : DPI_NO;
	if (b.len < 14 + 68 || dpi_be16(b.at + 10) < 68 || b.at[14] != 32)
		return DPI_NO;
	for (int i = 0; i < 32; i++)
		if (b.at[15 + i] < 'A' || b.at[15 + i] > 'P')
			return DPI_NO;
	return DPI_MATCH;
}

/* C706 section 12.6: version 5.0 or 5.1, type, flags, data representation, fragment length. */
static enum dpi_match
dcerpc_side(struct dpi_bytes b)
{
	uint32_t len;

	if (b.len < 3)
		return b.len > 1 && b.at[1] > 1 ? DPI_NO : DPI_MORE;
	if (b.at[0] != 5 || b.at[1] > 1 || b.at[2] > 20)
		return DPI_NO;
	if (b.len < 16)
		return DPI_MORE;
	if ((b.at[4] & 0xef) != 0 || b.at[5] > 3 || b.at[6] != 0 || b.at[7] != 0)
		return DPI_NO;
	len = (b.at[4] & 0x10) != 0 ? dpi_le16(b.at + 8) : dpi_be16(b.at + 8);
	return len >= 16 ? DPI_MATCH : DPI_NO;
}

static enum dpi_match
parse_dcerpc(struct dpi_view *v)
{
	enum dpi_match c = dcerpc_side(v->side[0]), s;

	if (c == DPI_NO || c == DPI_MATCH)
		return c;
	s = dcerpc_side(v->side[1]);
	return s == DPI_NO ? DPI_NO : PK_MAX(c, s);
}

/* A bind names its interface: abstract syntax at a fixed place. */
static bool
describe_dcerpc(struct dpi_view *v)
{
	const uint8_t *p = v->side[0].at;
	char uuid[40];
	int n;

	if (v->side[0].len < 52 || p[2] != 11 || (p[4] & 0x10) == 0)
		return true;
	p += 32;
	n = snprintf(uuid, sizeof(uuid), "%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x",
	    dpi_le32(p), dpi_le16(p + 4), dpi_le16(p + 6), p[8], p[9], p[10], p[11], p[12], p[13],
	    p[14], p[15]);
	dpi_say(v, DPI_FIELD_SERVICE, -1, uuid, (size_t)n);
	return true;
}

/* The connectionless form: version 4, types, and a header of 80 bytes whose length field agrees. */
static enum dpi_match
parse_dcerpc_udp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	uint32_t len;

	if (b.len < 80 || b.at[0] != 4 || b.at[1] > 10 || (b.at[3] & 0xfc) != 0 ||
	    (b.at[4] & 0xef) != 0 || b.at[5] > 3 || b.at[6] != 0)
		return DPI_NO;
	len = (b.at[4] & 0x10) != 0 ? dpi_le16(b.at + 74) : dpi_be16(b.at + 74);
	return len != 0 && 80 + len <= b.len && b.len - 80 - len <= 32 ? DPI_MATCH
	    : len == 0 && b.len == 80                                  ? DPI_LIKELY
	                                                               : DPI_NO;
}

/* RFC 5531: a call has version 2 and names a program; replies are short of constants. */
static enum dpi_match
rpc_message(struct dpi_bytes b)
{
	uint32_t program;

	if (b.len < 24)
		return DPI_MORE;
	if (dpi_be32(b.at + 4) == 0) {
		program = dpi_be32(b.at + 12);
		if (dpi_be32(b.at + 8) != 2)
			return DPI_NO;
		/* Sun's range, and what administrators may choose (RFC 5531 section 13). */
		if (program < 100000 || program >= 0x60000000 || dpi_be32(b.at + 16) > 10 ||
		    dpi_be32(b.at + 20) > 255)
			return DPI_NO;
		return DPI_MATCH;
	}
	if (dpi_be32(b.at + 4) != 1 || dpi_be32(b.at + 8) > 1)
		return DPI_NO;
	if (dpi_be32(b.at + 8) == 0 && (dpi_be32(b.at + 12) > 6 || dpi_be32(b.at + 16) > 400))
		return DPI_NO;
	return DPI_LIKELY;
}

/* portmapper 100000 to NFS 100003 and the mount and lock family. */
static enum dpi_match
parse_rpc_udp(struct dpi_view *v)
{
	enum dpi_match m = rpc_message(v->side[0]);

	/* A reply to a call remembered. */
	for (unsigned int i = 0; i < v->nb_past && m == DPI_LIKELY; i++)
		if (v->past[i].dir != v->dir && v->past[i].kept >= 8 &&
		    memcmp(v->past[i].head, v->side[0].at, 4) == 0 &&
		    dpi_be32(v->past[i].head + 4) == 0)
			return DPI_MATCH;
	return m == DPI_MORE ? DPI_NO : m;
}

static enum dpi_match
rpc_side(struct dpi_bytes b)
{
	if (b.len < 4)
		return DPI_MORE;
	if ((dpi_be32(b.at) & 0x7fffffff) < 24 || (dpi_be32(b.at) & 0x7fffffff) > 1 << 22)
		return DPI_NO;
	return rpc_message((struct dpi_bytes){ b.at + 4, b.len - 4 });
}

static enum dpi_match
parse_rpc(struct dpi_view *v)
{
	enum dpi_match c = rpc_side(v->side[0]), s = rpc_side(v->side[1]);

	if (c == DPI_NO || s == DPI_NO)
		return DPI_NO;
	return PK_MAX(c, s);
}

static bool
describe_rpc(struct dpi_view *v)
{
	uint32_t off = v->f->transport == DPI_TCP ? 4 : 0, program;
	char text[16];
	int n;

	if (v->side[0].len < off + 24 || dpi_be32(v->side[0].at + off + 4) != 0)
		return true;
	program = dpi_be32(v->side[0].at + off + 12);
	n = snprintf(text, sizeof(text), "rpc/%u", program);
	dpi_say(v, DPI_FIELD_SERVICE, -1, text, (size_t)n);
	return true;
}

/* RFC 7143 section 11.12: Login Request, immediate, with keys in text. */
static enum dpi_match
parse_iscsi(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0], s = v->side[1];
	uint32_t len;

	if (b.len == 0)
		return s.len > 0 && s.at[0] != 0x23 ? DPI_NO : DPI_MORE;
	if ((b.at[0] & 0xbf) != 0x03)
		return DPI_NO;
	if (b.len < 48)
		return b.len > 3 && (b.at[2] > 1 || b.at[3] > 1) ? DPI_NO : DPI_MORE;
	len = (uint32_t)b.at[5] << 16 | dpi_be16(b.at + 6);
	if (b.at[2] > 1 || b.at[3] > 1 || b.at[4] != 0 || (b.at[1] & 0x30) != 0 || len > 8192 ||
	    len < 8)
		return DPI_NO;
	if (b.len < 48 + 14)
		return DPI_MORE;
	return dpi_find((struct dpi_bytes){ b.at + 48, PK_MIN(b.len - 48, len) }, "=iqn.", 5) !=
	            NULL ||
	        dpi_find((struct dpi_bytes){ b.at + 48, PK_MIN(b.len - 48, len) }, "Name=", 5) !=
	            NULL ||
	        dpi_find((struct dpi_bytes){ b.at + 48, PK_MIN(b.len - 48, len) },
	            "AuthMethod=", 11) != NULL
	    ? DPI_MATCH
	    : b.len < 48 + len ? DPI_MORE
	                       : DPI_NO;
}

/* NVMe/TCP transport 1.0 section 3.6.2: ICReq and ICResp, 128 bytes each. */
static enum dpi_match
nvme_side(struct dpi_bytes b, uint8_t type)
{
	uint8_t want[8] = { type, 0, 128, 0, 128, 0, 0, 0 };
	enum dpi_match m = dpi_front(b, want, sizeof(want));

	if (m != DPI_MATCH || b.len < 12)
		return m == DPI_NO ? DPI_NO : DPI_MORE;
	return b.at[8] <= 1 && b.at[9] == 0 && b.at[10] <= 31 && b.at[11] <= 3 ? DPI_MATCH : DPI_NO;
}

static enum dpi_match
parse_nvme(struct dpi_view *v)
{
	enum dpi_match c = nvme_side(v->side[0], 0), s = nvme_side(v->side[1], 1);

	if (c == DPI_NO || s == DPI_NO)
		return DPI_NO;
	return PK_MAX(c, s);
}

static enum dpi_match
parse_ceph(struct dpi_view *v)
{
	enum dpi_match c = DPI_FRONT(v->side[0], "ceph v"), s = DPI_FRONT(v->side[1], "ceph v");

	if (c == DPI_NO || s == DPI_NO)
		return DPI_NO;
	return PK_MAX(c, s);
}

/* LNet: acceptor request with its magic, or socklnd's hello, in either byte order. */
static enum dpi_match
parse_lustre(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (DPI_FRONT(b, "\x27\x80\x50\x71") == DPI_NO &&
	    DPI_FRONT(b, "\x71\x50\x80\x27") == DPI_NO &&
	    DPI_FRONT(b, "\x00\x00\x07\x61") == DPI_NO &&
	    DPI_FRONT(b, "\x61\x07\x00\x00") == DPI_NO &&
	    DPI_FRONT(b, "\xee\xbc\x0d\xed") == DPI_NO &&
	    DPI_FRONT(b, "\xed\x0d\xbc\xee") == DPI_NO &&
	    DPI_FRONT(b, "\xac\xce\x71\x00") == DPI_NO &&
	    DPI_FRONT(b, "\x00\x71\xce\xac") == DPI_NO &&
	    DPI_FRONT(b, "\xee\x7f\x7e\xac") == DPI_NO)
		return DPI_NO;
	return b.len >= 8 ? DPI_MATCH : DPI_MORE;
}

/* AFP over DSI: flags, command, id, offset, length, reserved zero. */
static enum dpi_match
parse_afp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0], s = v->side[1];

	if (b.len < 16)
		return (b.len > 0 && b.at[0] != 0) || (b.len > 1 && b.at[1] != 3 && b.at[1] != 4)
		    ? DPI_NO
		    : DPI_MORE;
	/* DSIGetStatus or DSIOpenSession opens a session. */
	if (b.at[0] != 0 || (b.at[1] != 3 && b.at[1] != 4) || dpi_be32(b.at + 4) != 0 ||
	    dpi_be32(b.at + 8) > 64 || dpi_be32(b.at + 12) != 0)
		return DPI_NO;
	if (s.len < 16)
		return DPI_LIKELY;
	return s.at[0] == 1 && s.at[1] == b.at[1] && memcmp(s.at + 2, b.at + 2, 2) == 0 &&
	        dpi_be32(s.at + 12) == 0
	    ? DPI_MATCH
	    : DPI_NO;
}

/* RFC 1350: requests are two strings, the second one a mode. */
static enum dpi_match
parse_tftp(struct dpi_view *v)
{
	static const char *const modes[] = { "OCTET", "NETASCII", "MAIL" };
	struct dpi_bytes b = v->side[0];
	const uint8_t *end;

	if (b.len < 4 || b.at[0] != 0 || b.at[1] == 0 || b.at[1] > 6)
		return DPI_NO;
	if (b.at[1] <= 2) {
		end = memchr(b.at + 2, 0, b.len - 2);
		if (end == NULL || end == b.at + 2)
			return DPI_NO;
		for (const uint8_t *p = b.at + 2; p < end; p++)
			if (*p < 0x20)
				return DPI_NO;
		for (size_t i = 0; i < PK_COUNT(modes); i++) {
			size_t n = strlen(modes[i]);

			if ((size_t)(b.at + b.len - end) > n + 1 &&
			    dpi_equal_nocase(end + 1, modes[i], n) && end[1 + n] == 0)
				return DPI_MATCH;
		}
		return DPI_NO;
	}
	/* The transfer goes between ports of its own: numbered blocks of 512 bytes, each acknowledged. */
	if (b.at[1] == 4 && b.len == 4 && v->nb_past > 0) {
		const struct dpi_past *p = &v->past[v->nb_past - 1];

		return p->dir != v->dir && p->kept >= 4 && p->head[1] == 3 &&
		        memcmp(p->head + 2, b.at + 2, 2) == 0 && v->nb_past >= 3
		    ? DPI_MATCH
		    : DPI_MORE;
	}
	return b.at[1] == 3              ? (b.len <= 516 ? DPI_MORE : DPI_NO)
	    : b.at[1] == 4 && b.len != 4 ? DPI_NO
	                                 : DPI_MORE;
}

static const struct dpi_proto table[] = {
	{ DPI_APP_SMB, DPI_TCP, { DPI_FIRST("\x00\x00\x81\x83"), DPI_FIRST("\x00\x00\x81\x83") },
	    parse_smb, NULL },
	{ DPI_APP_NETBIOS, DPI_UDP, { DPI_FIRST("\x10\x16"), DPI_ANY }, parse_nbdgm, NULL },
	{ DPI_APP_DCERPC, DPI_TCP, { DPI_FIRST("\x05\x05"), DPI_FIRST("\x05\x05") }, parse_dcerpc,
	    describe_dcerpc },
	{ DPI_APP_DCERPC, DPI_UDP, { DPI_FIRST("\x04\x04"), DPI_ANY }, parse_dcerpc_udp, NULL },
	{ DPI_APP_NFS, DPI_TCP, { DPI_FIRST("\x80\x80"), DPI_FIRST("\x80\x80") }, parse_rpc,
	    describe_rpc },
	{ DPI_APP_NFS, DPI_UDP, { DPI_ANY, DPI_ANY }, parse_rpc_udp, describe_rpc },
	{ DPI_APP_ISCSI, DPI_TCP, { DPI_FIRST("\x03\x03\x43\x43"), DPI_FIRST("\x23\x23") },
	    parse_iscsi, NULL },
	{ DPI_APP_NVME_TCP, DPI_TCP, { DPI_FIRST("\0\0"), DPI_FIRST("\1\1") }, parse_nvme, NULL },
	{ DPI_APP_CEPH, DPI_TCP, { DPI_FIRST("cc"), DPI_FIRST("cc") }, parse_ceph, NULL },
	{ DPI_APP_LUSTRE, DPI_TCP, { DPI_ANY, DPI_ANY }, parse_lustre, NULL },
	{ DPI_APP_AFP, DPI_TCP, { DPI_FIRST("\0\0"), DPI_FIRST("\1\1") }, parse_afp, NULL },
	{ DPI_APP_TFTP, DPI_UDP, { DPI_FIRST("\0\0"), DPI_ANY }, parse_tftp, NULL },
};
DPI_FAMILY_OF(file, table);
