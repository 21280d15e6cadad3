/* Helpers of parsers: lines, literals, BER. */
#include "dpi/proto.h"

struct dpi_bytes
dpi_line(struct dpi_bytes b, uint32_t *next)
{
	const uint8_t *nl = b.len > 0 ? memchr(b.at, '\n', b.len) : NULL;
	struct dpi_bytes line = { b.at, UINT32_MAX };

	if (nl == NULL)
		return line;
	line.len = (uint32_t)(nl - b.at);
	*next = line.len + 1;
	if (line.len > 0 && nl[-1] == '\r')
		line.len--;
	return line;
}

bool
dpi_text(struct dpi_bytes b)
{
	for (uint32_t i = 0; i < b.len; i++)
		if (!dpi_is_print(b.at[i]) && b.at[i] != '\t')
			return false;
	return true;
}

const uint8_t *
dpi_find(struct dpi_bytes b, const char *literal, size_t len)
{
	return b.len > 0 ? memmem(b.at, b.len, literal, len) : NULL;
}

bool
dpi_equal_nocase(const uint8_t *a, const char *upper, size_t len)
{
	return dpi_front_nocase((struct dpi_bytes){ a, (uint32_t)len }, upper, len) == DPI_MATCH;
}

uint8_t
dpi_ber(struct pk_wire *w, uint32_t *len)
{
	uint8_t tag = pk_wire_u8(w), first = pk_wire_u8(w);

	*len = 0;
	if (!pk_wire_ok(w) || tag == 0 || (tag & 0x1f) == 0x1f)
		return 0;
	if (first < 0x80) {
		*len = first;
		return tag;
	}
	if (first == 0x80 || first > 0x84)
		return 0;
	for (int i = 0; i < (first & 0x7f); i++)
		*len = *len << 8 | pk_wire_u8(w);
	return pk_wire_ok(w) ? tag : 0;
}
