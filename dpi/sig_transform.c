#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "dpi/sig_inspect.h"

/* Transforms: what a rule makes of a buffer before it looks.  Each reads from one room and writes to the other. */

static bool
is_space(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static int
nibble(uint8_t c)
{
	return c >= '0' && c <= '9'              ? c - '0'
	    : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
	                                         : -1;
}

static uint8_t *
room(struct dpi_look *k, unsigned int which, size_t len)
{
	if (k->room_len[which] < len) {
		size_t want = PK_MAX(len, (size_t)4096);
		uint8_t *more = realloc(k->room[which], want);

		if (more == NULL)
			return NULL;
		k->room[which] = more;
		k->room_len[which] = want;
	}
	return k->room[which];
}

static uint32_t
digest(const EVP_MD *md, const uint8_t *from, uint32_t len, uint8_t *to)
{
	unsigned int n = 0;

	return EVP_Digest(from, len, to, &n, md, NULL) == 1 ? n : 0;
}

static uint32_t
url_decode(const uint8_t *from, uint32_t len, uint8_t *to)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < len; i++) {
		if (from[i] == '%' && i + 2 < len && nibble(from[i + 1]) >= 0 &&
		    nibble(from[i + 2]) >= 0) {
			to[n++] = (uint8_t)(nibble(from[i + 1]) << 4 | nibble(from[i + 2]));
			i += 2;
		} else {
			to[n++] = from[i] == '+' ? ' ' : from[i];
		}
	}
	return n;
}

/* Lines of a header block: names in lower case, or without those that begin with a colon. */
static uint32_t
header_lines(uint8_t kind, const uint8_t *from, uint32_t len, uint8_t *to)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < len;) {
		const uint8_t *end = memchr(from + i, '\n', len - i);
		uint32_t line = end != NULL ? (uint32_t)(end - from) + 1 - i : len - i;
		bool name = true;

		if (kind == DPI_TR_STRIP_PSEUDO && from[i] == ':') {
			i += line;
			continue;
		}
		for (uint32_t j = 0; j < line; j++, i++) {
			name &= from[i] != ':' || j == 0;
			to[n++] = name && kind == DPI_TR_HEADER_LOWERCASE ? dpi_lower[from[i]]
			                                                  : from[i];
		}
	}
	return n;
}

static bool
apply(struct dpi_look *k, const struct dpi_transform *t, const uint8_t **bytes, uint32_t *len,
    uint8_t *to)
{
	const uint8_t *from = *bytes;
	uint32_t n = 0, match[2], group[2];

	switch (t->kind) {
	case DPI_TR_DOTPREFIX:
		to[0] = '.';
		memcpy(to + 1, from, *len);
		n = *len + 1;
		break;
	case DPI_TR_MD5:
		n = digest(EVP_md5(), from, *len, to);
		break;
	case DPI_TR_SHA1:
		n = digest(EVP_sha1(), from, *len, to);
		break;
	case DPI_TR_SHA256:
		n = digest(EVP_sha256(), from, *len, to);
		break;
	case DPI_TR_COMPRESS_WHITESPACE:
		for (uint32_t i = 0; i < *len; i++)
			if (!is_space(from[i]) || i == 0 || !is_space(from[i - 1]))
				to[n++] = from[i];
		break;
	case DPI_TR_STRIP_WHITESPACE:
		for (uint32_t i = 0; i < *len; i++)
			if (!is_space(from[i]))
				to[n++] = from[i];
		break;
	case DPI_TR_URL_DECODE:
		n = url_decode(from, *len, to);
		break;
	case DPI_TR_XOR:
		for (; n < *len; n++)
			to[n] = from[n] ^ t->key[n % t->key_len];
		break;
	case DPI_TR_PCRE:
		if (!dpi_pcre_match(
		        t->pcre, k->pcre, from, *len, 0, match, group, &k->counts.pcre_exceeded))
			return false;
		*bytes = from + group[0];
		*len = group[1] - group[0];
		return true;
	case DPI_TR_TO_LOWERCASE:
		for (; n < *len; n++)
			to[n] = dpi_lower[from[n]];
		break;
	case DPI_TR_TO_UPPERCASE:
		for (; n < *len; n++)
			to[n] = from[n] >= 'a' && from[n] <= 'z' ? (uint8_t)(from[n] - 32)
			                                         : from[n];
		break;
	default:
		n = header_lines(t->kind, from, *len, to);
	}
	*bytes = to;
	*len = n;
	return true;
}

bool
dpi_transform(struct dpi_look *k, const struct dpi_list *l, const uint8_t **bytes, uint32_t *len)
{
	for (unsigned int i = 0; i < l->nb_transforms; i++) {
		uint8_t *to = room(k, i & 1, (size_t)*len + 64);

		if (to == NULL || !apply(k, &l->transform[i], bytes, len, to))
			return false;
	}
	return true;
}
