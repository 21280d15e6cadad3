#pragma once

#include "lib/base.h"

/* Octets of text[0 .. len - 1] in hexadecimal, as out[]; no branch or index depends on what they are but for -1.  Returns
 * how many, or -1: not hexadecimal, nothing, half an octet, or more than max. */
static inline int
pk_unhex(const char *text, size_t len, uint8_t *out, size_t max)
{
	if (len == 0 || len % 2 != 0 || len / 2 > max)
		return -1;
	for (size_t i = 0; i < len; i++) {
		unsigned int c = (unsigned char)text[i], digit = c - '0', letter = (c | 32) - 'a';
		/* All ones where it is one of ten, or of six. */
		unsigned int is_digit = -(unsigned int)(digit < 10);
		unsigned int is_letter = -(unsigned int)(letter < 6);

		if ((is_digit | is_letter) == 0)
			return -1;
		c = (is_digit & digit) | (is_letter & (letter + 10));
		out[i / 2] = (uint8_t)(i % 2 == 0 ? c << 4 : out[i / 2] | c);
	}
	return (int)(len / 2);
}
