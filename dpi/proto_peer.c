/* Between peers: BitTorrent, Gnutella, Bitcoin, Syncthing, Dropbox on the local network, Rx (AFS). */
#include "dpi/proto.h"

/* BEP 3: 19 and "BitTorrent protocol". */
static enum dpi_match
parse_bittorrent(struct dpi_view *v)
{
	enum dpi_match best = DPI_MORE;

	for (int i = 0; i < 2; i++) {
		enum dpi_match m = v->side[i].len > 0 ? DPI_FRONT(v->side[i],
		                                            "\x13"
		                                            "BitTorrent protocol")
		                                      : DPI_MORE;

		if (m == DPI_NO)
			return m;
		best = PK_MAX(best, m);
	}
	return best;
}

/* BEP 29: version 1, type 0 to 4, extension; two packets of a connection id. */
static bool
utp(const uint8_t *p, uint32_t len)
{
	return len >= 20 && (p[0] & 15) == 1 && p[0] >> 4 <= 4 && p[1] <= 3 &&
	    (p[0] >> 4 != 4 || dpi_be16(p + 18) == 0);
}

static enum dpi_match
parse_bittorrent_udp(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	/* BEP 5: a dictionary with a transaction, a type and a version or answer. */
	if (b.len > 20 && b.at[0] == 'd' && b.at[b.len - 1] == 'e')
		return dpi_find(b, "1:t", 3) != NULL &&
		        (dpi_find(b, "1:y1:q", 6) != NULL || dpi_find(b, "1:y1:r", 6) != NULL ||
		            dpi_find(b, "1:y1:e", 6) != NULL)
		    ? DPI_MATCH
		    : DPI_NO;
	/* Cut short by the capture. */
	if (b.len > 20 && b.at[0] == 'd' &&
	    (DPI_FRONT(b, "d1:ad2:id20:") == DPI_MATCH ||
	        DPI_FRONT(b, "d1:rd2:id20:") == DPI_MATCH))
		return DPI_MATCH;
	/* BEP 15: the tracker's protocol id. */
	if (b.len == 16 && memcmp(b.at, "\0\0\4\x17\x27\x10\x19\x80\0\0\0\0", 12) == 0)
		return DPI_MATCH;
	/* BEP 14: local peers. */
	if (DPI_FRONT(b, "BT-SEARCH * HTTP/1.1\r\n") == DPI_MATCH)
		return DPI_MATCH;
	if (dpi_find(b,
	        "\x13"
	        "BitTorrent protocol",
	        20) != NULL)
		return DPI_MATCH;
	if (!utp(b.at, b.len))
		return DPI_NO;
	for (int i = v->nb_past - 1; i >= 0; i--) {
		const struct dpi_past *p = &v->past[i];
		int32_t apart;

		if (p->kept < 20 || !utp(p->head, p->kept))
			continue;
		/* Ids of the two directions differ by one; the answer acknowledges what was sent. */
		apart = (int32_t)dpi_be16(p->head + 2) - dpi_be16(b.at + 2);
		if (p->dir != v->dir && apart >= -1 && apart <= 1 &&
		    dpi_be16(b.at + 18) == dpi_be16(p->head + 16))
			return DPI_MATCH;
		/* A SYN said again. */
		if (p->dir == v->dir && b.at[0] == 0x41 && p->head[0] == 0x41 && apart == 0 &&
		    p->len == b.len && dpi_be16(b.at + 16) == dpi_be16(p->head + 16))
			return DPI_LIKELY;
	}
	return DPI_MORE;
}

/* Stratum: JSON in lines, with methods of mining, of Monero's "login" or of Ethereum. */
static enum dpi_match
parse_mining(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (b.len > 2048 || (b.len > 0 && b.at[0] != '{'))
		return DPI_NO;
	if (dpi_find(b, "\"method\"", 8) == NULL)
		return DPI_MORE;
	return dpi_find(b, "\"mining.", 8) != NULL || dpi_find(b, "\"eth_submit", 11) != NULL ||
	        dpi_find(b, "\"eth_getWork\"", 13) != NULL ||
	        (dpi_find(b, "\"login\"", 7) != NULL && dpi_find(b, "\"pass\"", 6) != NULL)
	    ? DPI_MATCH
	    : DPI_MORE;
}

static enum dpi_match
parse_gnutella(struct dpi_view *v)
{
	enum dpi_match m = DPI_FRONT(v->side[0], "GNUTELLA CONNECT/");

	return m != DPI_NO ? m : DPI_FRONT(v->side[0], "GNUTELLA/0.");
}

/* Bitcoin: magic of a network, then "version" padded. */
static enum dpi_match
parse_bitcoin(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[v->side[0].len < 12];

	if (b.len < 16)
		return DPI_MORE;
	return (memcmp(b.at, "\xf9\xbe\xb4\xd9", 4) == 0 ||
	           memcmp(b.at, "\x0b\x11\x09\x07", 4) == 0) &&
	        dpi_is_alpha(b.at[4]) && b.at[15] == 0
	    ? DPI_MATCH
	    : DPI_NO;
}

static enum dpi_match
parse_syncthing(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	return b.len >= 16 && (dpi_be32(b.at) == 0x2ea7d90b || dpi_be32(b.at) == 0x9d79bc40)
	    ? DPI_MATCH
	    : DPI_NO;
}

static enum dpi_match
parse_dropbox(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	return b.at[0] == '{' && dpi_find(b, "\"host_int\"", 10) != NULL &&
	        dpi_find(b, "\"namespaces\"", 12) != NULL
	    ? DPI_MATCH
	    : DPI_NO;
}

/* Rx: epoch, connection, call, sequence, serial, type 1 to 13, flags, status, security, checksum, service. */
static enum dpi_match
parse_rx(struct dpi_view *v)
{
	struct dpi_bytes b = v->side[0];

	if (b.len < 28 || b.at[20] < 1 || b.at[20] > 13 || b.at[23] > 5 || (b.at[21] & 0xc0) != 0 ||
	    dpi_be32(b.at + 16) > 65536 || dpi_be32(b.at + 8) > 65536 ||
	    dpi_be32(b.at + 12) > 65536 || dpi_be32(b.at) == 0)
		return DPI_NO;
	for (unsigned int i = 0; i < v->nb_past; i++)
		if (v->past[i].kept >= 28 && v->past[i].dir != v->dir &&
		    memcmp(v->past[i].head, b.at, 12) == 0 &&
		    memcmp(v->past[i].head + 26, b.at + 26, 2) == 0)
			return DPI_MATCH;
	return DPI_MORE;
}

static const struct dpi_proto table[] = {
	{ DPI_APP_BITTORRENT, DPI_TCP, { DPI_FIRST("\x13\x13"), DPI_FIRST("\x13\x13") },
	    parse_bittorrent, NULL },
	{ DPI_APP_BITTORRENT, DPI_UDP, { DPI_ANY, DPI_ANY }, parse_bittorrent_udp, NULL },
	{ DPI_APP_MINING, DPI_TCP, { DPI_FIRST("{{"), DPI_FIRST("{{") }, parse_mining, NULL },
	{ DPI_APP_GNUTELLA, DPI_TCP, { DPI_FIRST("GG"), DPI_FIRST("GG") }, parse_gnutella, NULL },
	{ DPI_APP_BITCOIN, DPI_TCP,
	    { DPI_FIRST("\x0b\x0b\xf9\xf9"), DPI_FIRST("\x0b\x0b\xf9\xf9") }, parse_bitcoin, NULL },
	{ DPI_APP_SYNCTHING, DPI_UDP, { DPI_FIRST("\x2e\x2e\x9d\x9d"), DPI_ANY }, parse_syncthing,
	    NULL },
	{ DPI_APP_DROPBOX_LAN, DPI_UDP, { DPI_FIRST("{{"), DPI_ANY }, parse_dropbox, NULL },
	{ DPI_APP_RX_AFS, DPI_UDP, { DPI_ANY, DPI_ANY }, parse_rx, NULL },
};
DPI_FAMILY_OF(peer, table);
