/* Identity and management: Kerberos, LDAP, SNMP, RADIUS, IPMI, Zabbix, Munin, Checkmk, collectd. */
#include "dpi/proto.h"

/* RFC 4120 section 5.10: an APPLICATION tag that is the message type, a SEQUENCE, pvno 5, the type again. */
static enum dpi_match
kerberos(struct dpi_bytes b, bool whole)
{
	struct pk_wire w = dpi_cursor(b);
	uint32_t len;
	uint8_t tag = dpi_ber(&w, &len), type;

	if (b.len > 0 &&
	    ((b.at[0] & 0xe0) != 0x60 || (b.at[0] & 0x1f) < 10 || (b.at[0] & 0x1f) > 30))
		return DPI_NO;
	type = tag & 0x1f;
	if (tag != 0 &&
	    (len < 8 || len > 1 << 17 || (whole && len > pk_wire_left(&w) + 64 && len < 1200)))
		return DPI_NO;
	if (dpi_ber(&w, &len) != 0x30 && pk_wire_ok(&w))
		return DPI_NO;
	/* Requests number their fields from 1, all else from 0. */
	tag = dpi_ber(&w, &len);
	if (!pk_wire_ok(&w) || pk_wire_left(&w) < 8)
		return whole ? DPI_NO : DPI_MORE;
	/* A field is missing in front, but lengths nest to the byte. */
	if (whole && tag > 0xa1 && tag <= 0xae && b.len == b.at[1] + 2u && b.at[2] == 0x30 &&
	    b.at[3] + 2u == b.at[1] && memcmp(w.at, "\2\1", 2) == 0)
		return DPI_LIKELY;
	if (tag != (type == 10 || type == 12 ? 0xa1 : 0xa0) || len != 3 ||
	    memcmp(w.at, "\2\1\5", 3) != 0)
		return DPI_NO;
	return w.at[3] == tag + 1 && w.at[4] == 3 && w.at[5] == 2 && w.at[6] == 1 && w.at[7] == type
	    ? DPI_MATCH
	    : DPI_NO;
}

static enum dpi_match
parse_kerberos_udp(struct dpi_view *v)
{
	return kerberos(v->side[0], true);
}

static enum dpi_match
parse_kerberos(struct dpi_view *v)
{
	enum dpi_match best = DPI_MORE;

	for (int i = 0; i < 2; i++) {
		struct dpi_bytes b = v->side[i];
		enum dpi_match m;

		if (b.len < 5)
			continue;
		if (dpi_be32(b.at) > 1 << 17 || dpi_be32(b.at) < 16)
			return DPI_NO;
		m = kerberos((struct dpi_bytes){ b.at + 4, b.len - 4 }, false);
		if (m == DPI_NO)
			return m;
		best = PK_MAX(best, m);
	}
	return best;
}

/* RFC 4511 section 4.1.1: SEQUENCE, message id, an operation with its APPLICATION tag. */
static enum dpi_match
ldap(struct dpi_bytes b, bool *is_request)
{
	struct pk_wire w = dpi_cursor(b);
	uint32_t len, n, id_len;
	uint8_t op;

	if (dpi_ber(&w, &len) != 0x30)
		return pk_wire_ok(&w) ? DPI_NO : DPI_MORE;
	if (dpi_ber(&w, &id_len) != 0x02)
		return pk_wire_ok(&w) ? DPI_NO : DPI_MORE;
	if (id_len < 1 || id_len > 4 || len < id_len + 4 || len > 1 << 22)
		return DPI_NO;
	pk_wire_skip(&w, id_len);
	op = dpi_ber(&w, &n);
	if (!pk_wire_ok(&w))
		return DPI_MORE;
	*is_request = false;
	switch (op) {
	case 0x60: /* bind: version 3 or 2 */
		*is_request = true;
		if (pk_wire_left(&w) < 3)
			return DPI_MORE;
		return memcmp(w.at, "\2\1", 2) == 0 && w.at[2] >= 2 && w.at[2] <= 3 ? DPI_MATCH
		                                                                    : DPI_NO;
	case 0x42: /* unbind */
		*is_request = true;
		return n == 0 ? DPI_LIKELY : DPI_NO;
	case 0x63: /* search: a name, then scope */
		*is_request = true;
		if (dpi_ber(&w, &n) != 0x04)
			return pk_wire_ok(&w) ? DPI_NO : DPI_MORE;
		pk_wire_skip(&w, n);
		if (pk_wire_left(&w) < 2 || !pk_wire_ok(&w))
			return DPI_MORE;
		return memcmp(w.at, "\12\1", 2) == 0 ? DPI_MATCH : DPI_NO;
	case 0x77: /* extended: an OID in text */
		*is_request = true;
		if (pk_wire_left(&w) < 4)
			return DPI_MORE;
		return w.at[0] == 0x80 && dpi_is_digit(w.at[2]) && w.at[3] == '.' ? DPI_MATCH
		                                                                  : DPI_NO;
	case 0x61: /* results: a code */
	case 0x65:
	case 0x67:
	case 0x69:
	case 0x6b:
	case 0x6d:
	case 0x6f:
	case 0x78:
		if (pk_wire_left(&w) < 3)
			return DPI_MORE;
		return memcmp(w.at, "\12\1", 2) == 0 ? DPI_MATCH : DPI_NO;
	case 0x64: /* entry: a name, attributes */
		if (dpi_ber(&w, &n) != 0x04)
			return pk_wire_ok(&w) ? DPI_NO : DPI_MORE;
		pk_wire_skip(&w, n);
		if (!pk_wire_ok(&w) || pk_wire_left(&w) < 1)
			return DPI_MORE;
		return w.at[0] == 0x30 ? DPI_MATCH : DPI_NO;
	case 0x66: /* modify, add, delete, rename, compare, abandon */
	case 0x68:
	case 0x4a:
	case 0x6c:
	case 0x6e:
	case 0x50:
		*is_request = true;
		return DPI_LIKELY;
	default:
		return DPI_NO;
	}
}

static enum dpi_match
parse_ldap(struct dpi_view *v)
{
	bool r;
	enum dpi_match best = DPI_MORE;

	for (int i = 0; i < 2; i++) {
		enum dpi_match m = v->side[i].len > 0 ? ldap(v->side[i], &r) : DPI_MORE;

		if (m == DPI_NO)
			return m;
		best = PK_MAX(best, m);
	}
	return best;
}

static enum dpi_match
parse_cldap(struct dpi_view *v)
{
	bool r;
	enum dpi_match m = ldap(v->side[0], &r);

	return m == DPI_MORE ? DPI_NO : m;
}

/* RFC 1157, 3416, 3412: SEQUENCE, version 0, 1 or 3, community or header, a PDU tag. */
static enum dpi_match
parse_snmp(struct dpi_view *v)
{
	struct pk_wire w = dpi_cursor(v->side[0]);
	uint32_t len, n;
	uint8_t version, tag;

	if (dpi_ber(&w, &len) != 0x30 || len > pk_wire_left(&w))
		return DPI_NO;
	if (dpi_ber(&w, &n) != 0x02 || n != 1)
		return DPI_NO;
	version = pk_wire_u8(&w);
	tag = dpi_ber(&w, &n);
	if (!pk_wire_ok(&w))
		return DPI_NO;
	if (version == 3)
		return tag == 0x30 && w.at < w.end && w.at[0] == 0x02 ? DPI_MATCH : DPI_NO;
	if (version > 1 || tag != 0x04)
		return DPI_NO;
	pk_wire_skip(&w, n);
	tag = dpi_ber(&w, &n);
	return pk_wire_ok(&w) && tag >= 0xa0 && tag <= 0xa8 ? DPI_MATCH : DPI_NO;
}

/* RFC 2865 section 3: code, id, length, authenticator, attributes that fill it. */
static enum dpi_match
parse_radius(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	uint32_t len, off = 20, bits = 14; /* code and length */

	if (b.len < 20)
		return DPI_NO;
	len = dpi_be16(b.at + 2);
	if (len < 20 || len > b.len || b.len - len > 8 ||
	    !((b.at[0] >= 1 && b.at[0] <= 5) || (b.at[0] >= 11 && b.at[0] <= 13) ||
	        (b.at[0] >= 40 && b.at[0] <= 45)))
		return DPI_NO;
	while (len - off >= 2) {
		uint8_t type = b.at[off], n = b.at[off + 1];

		if (type == 0 || n < 2 || n > len - off)
			return DPI_NO;
		/* Numbers and addresses are of four bytes; a vendor's number has a zero in front. */
		if (type == 4 || type == 5 || type == 6 || type == 7 || type == 8 || type == 12 ||
		    type == 27 || type == 40 || type == 42 || type == 43 || type == 45 ||
		    type == 46 || type == 61) {
			if (n != 6)
				return DPI_NO;
			bits += 8;
		} else if (type == 26) {
			if (n < 7 || b.at[off + 2] != 0)
				return DPI_NO;
			bits += 8;
		} else if (type == 80) {
			if (n != 18)
				return DPI_NO;
			bits += 16;
		} else if (type == 1) {
			for (uint32_t i = 2; i < n; i++)
				if (b.at[off + i] < 0x20)
					return DPI_NO;
			bits += 4;
		} else {
			bits += type <= 200;
		}
		off += n;
	}
	if (off != len)
		return DPI_NO;
	/* An answer has the identifier of what was asked. */
	for (unsigned int i = 0; i < v->nb_past; i++)
		if (v->past[i].kept >= 20 && v->past[i].head[1] == b.at[1] &&
		    dpi_be16(v->past[i].head + 2) == v->past[i].len)
			bits += v->past[i].dir != v->dir ? 20 : 12;
	return bits >= 24 ? DPI_MATCH : bits >= 16 ? DPI_LIKELY : DPI_MORE;
}

/* RMCP (ASF 2.0): version 6, 0, sequence, class; IPMI: auth type and session. */
static enum dpi_match
parse_ipmi(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (b.len < 4 || b.at[0] != 6 || b.at[1] != 0)
		return DPI_NO;
	if (b.at[3] == 7)
		return b.len >= 14 && b.at[2] == 0xff &&
		        (b.at[4] <= 2 || b.at[4] == 4 || b.at[4] == 6)
		    ? DPI_MATCH
		    : DPI_NO;
	return (b.at[3] & 0x7f) == 6 && b.len >= 12 && dpi_be32(b.at + 4) == 4542 ? DPI_MATCH
	                                                                          : DPI_NO;
}

/* "ZBXD", flags, length. */
static enum dpi_match
parse_zabbix(struct dpi_view *v)
{
	const struct dpi_bytes *b = &v->side[v->side[0].len == 0];
	enum dpi_match m = DPI_FRONT(*b, "ZBXD");

	if (m != DPI_MATCH || b->len < 5)
		return m == DPI_NO ? m : DPI_MORE;
	return b->at[4] >= 1 && b->at[4] <= 7 ? DPI_MATCH : DPI_NO;
}

static enum dpi_match
parse_munin(struct dpi_view *v)
{
	return DPI_FRONT(v->side[1], "# munin node at ");
}

static enum dpi_match
parse_checkmk(struct dpi_view *v)
{
	if (v->side[1].len == 0)
		return v->side[0].len > 0 ? DPI_NO : DPI_MORE;
	return DPI_FRONT(v->side[1], "<<<check_mk>>>\nVersion:");
}

/* collectd's binary protocol: parts of type, length, value that fill the datagram; host comes first. */
static enum dpi_match
parse_collectd(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];
	uint32_t off = 0, text = 0;
	int n = 0;

	if (b.len < 16)
		return DPI_NO;
	while (b.len - off >= 4) {
		uint16_t type = dpi_be16(b.at + off), len = dpi_be16(b.at + off + 2);

		if ((type > 9 && type != 0x100 && type != 0x101 && type != 0x200 &&
		        type != 0x210) ||
		    len < 5 || len > b.len - off ||
		    ((type == 1 || (type >= 7 && type <= 9)) && len != 12) ||
		    ((type == 0 || (type >= 2 && type <= 5)) && b.at[off + len - 1] != 0))
			return DPI_NO;
		/* Names: host, plugin, type and their instances. */
		if (type == 0 || (type >= 2 && type <= 5))
			for (uint32_t i = 4; i + 1 < len; i++) {
				if (!dpi_is_print(b.at[off + i]))
					return DPI_NO;
				text++;
			}
		off += len;
		n++;
	}
	return off == b.len && n >= 2 && text >= 4 ? DPI_MATCH : DPI_NO;
}

/* SMPP 3.4: length, command, status, sequence; a bind opens. */
static enum dpi_match
parse_smpp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (b.len < 16)
		return b.len > 4 && b.at[4] != 0 && b.at[4] != 0x80 ? DPI_NO : DPI_MORE;
	return dpi_be32(b.at) >= 16 && dpi_be32(b.at) < 1024 &&
	        (b.len == 16 || dpi_is_print(b.at[16])) &&
	        (dpi_be32(b.at + 4) == 1 || dpi_be32(b.at + 4) == 2 || dpi_be32(b.at + 4) == 9) &&
	        dpi_be32(b.at + 8) == 0 && dpi_be32(b.at) >= 23 && dpi_be32(b.at + 12) < 0x80000000
	    ? DPI_MATCH
	    : DPI_NO;
}

static const struct dpi_proto table[] = {
	{ DPI_APP_KERBEROS, DPI_UDP, { DPI_FIRST("\x6a\x7e"), DPI_ANY }, parse_kerberos_udp, NULL },
	{ DPI_APP_KERBEROS, DPI_TCP, { DPI_FIRST("\0\0"), DPI_FIRST("\0\0") }, parse_kerberos,
	    NULL },
	{ DPI_APP_LDAP, DPI_TCP, { DPI_FIRST("00"), DPI_FIRST("00") }, parse_ldap, NULL },
	{ DPI_APP_SNMP, DPI_UDP, { DPI_FIRST("00"), DPI_ANY }, parse_snmp, NULL },
	{ DPI_APP_LDAP, DPI_UDP, { DPI_FIRST("00"), DPI_ANY }, parse_cldap, NULL },
	{ DPI_APP_RADIUS, DPI_UDP, { DPI_FIRST("\1\55"), DPI_ANY }, parse_radius, NULL },
	{ DPI_APP_IPMI, DPI_UDP, { DPI_FIRST("\6\6"), DPI_ANY }, parse_ipmi, NULL },
	{ DPI_APP_ZABBIX, DPI_TCP, { DPI_FIRST("ZZ"), DPI_FIRST("ZZ") }, parse_zabbix, NULL },
	{ DPI_APP_MUNIN, DPI_TCP, { DPI_ANY, DPI_FIRST("##") }, parse_munin, NULL },
	{ DPI_APP_CHECKMK, DPI_TCP, { DPI_ANY, DPI_FIRST("<<") }, parse_checkmk, NULL },
	{ DPI_APP_COLLECTD, DPI_UDP, { DPI_FIRST("\0\2"), DPI_ANY }, parse_collectd, NULL },
	{ DPI_APP_SMPP, DPI_TCP, { DPI_FIRST("\0\0"), DPI_FIRST("\0\0") }, parse_smpp, NULL },
};
DPI_FAMILY_OF(manage, table);
