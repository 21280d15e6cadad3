#include "lib/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

int
pk_addr_parse(struct pk_addr *out, const char *text, struct pk_diag *diag)
{
	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, text, out->bytes) == 1) {
		out->family = 4;
		return 0;
	}
	memset(out->bytes, 0, sizeof(out->bytes));
	if (inet_pton(AF_INET6, text, out->bytes) == 1) {
		out->family = 6;
		return 0;
	}
	memset(out, 0, sizeof(*out));
	pk_diag_set(diag, "\"%.64s\" is not an IPv4 or IPv6 address", text);
	return -EINVAL;
}

static void
mask(struct pk_addr *a, unsigned int len)
{
	for (unsigned int i = 0; i < sizeof(a->bytes); i++) {
		if (len >= (i + 1) * 8)
			continue;
		a->bytes[i] &= len <= i * 8 ? 0 : (uint8_t)(0xff << (8 - len % 8));
	}
}

int
pk_prefix_parse(struct pk_prefix *out, const char *text, struct pk_diag *diag)
{
	char addr[PK_ADDR_TEXT], canonical[PK_PREFIX_TEXT];
	const char *slash = strchr(text, '/');
	size_t n = slash != NULL ? (size_t)(slash - text) : strlen(text);
	struct pk_addr masked;
	unsigned long len;
	char *end;

	memset(out, 0, sizeof(*out));
	if (n >= sizeof(addr)) {
		pk_diag_set(diag, "\"%.64s\" is not an IPv4 or IPv6 prefix", text);
		return -EINVAL;
	}
	memcpy(addr, text, n);
	addr[n] = '\0';
	if (pk_addr_parse(&out->addr, addr, NULL) < 0) {
		pk_diag_set(
		    diag, "\"%.64s\" is not an IPv4 or IPv6 prefix such as 192.0.2.0/24", text);
		return -EINVAL;
	}
	if (slash == NULL) {
		out->len = (uint8_t)pk_addr_bits(&out->addr);
		return 0;
	}
	len = strtoul(slash + 1, &end, 10);
	if (slash[1] < '0' || slash[1] > '9' || *end != '\0' || len > pk_addr_bits(&out->addr)) {
		pk_diag_set(diag, "\"%.64s\": prefix length must be a number from 0 to %u", text,
		    pk_addr_bits(&out->addr));
		memset(out, 0, sizeof(*out));
		return -EINVAL;
	}
	out->len = (uint8_t)len;
	masked = out->addr;
	mask(&masked, out->len);
	if (memcmp(&masked, &out->addr, sizeof(masked)) != 0) {
		out->addr = masked;
		pk_diag_set(diag, "\"%.64s\" has bits set beyond its length; did you mean %s?",
		    text, pk_prefix_text(out, canonical));
		memset(out, 0, sizeof(*out));
		return -EINVAL;
	}
	return 0;
}

const char *
pk_addr_text(const struct pk_addr *a, char buf[PK_ADDR_TEXT])
{
	if (a->family != 4 && a->family != 6)
		snprintf(buf, PK_ADDR_TEXT, "none");
	else if (inet_ntop(a->family == 4 ? AF_INET : AF_INET6, a->bytes, buf, PK_ADDR_TEXT) ==
	    NULL)
		buf[0] = '\0';
	return buf;
}

const char *
pk_prefix_text(const struct pk_prefix *p, char buf[PK_PREFIX_TEXT])
{
	char addr[PK_ADDR_TEXT];

	snprintf(buf, PK_PREFIX_TEXT, "%s/%u", pk_addr_text(&p->addr, addr), p->len);
	return buf;
}

int
pk_prefix_contains(const struct pk_prefix *p, const struct pk_addr *a)
{
	struct pk_addr masked = *a;

	if (a->family != p->addr.family)
		return 0;
	mask(&masked, p->len);
	return memcmp(&masked, &p->addr, sizeof(masked)) == 0;
}

/* Bits at the end of an address that are zero: as many as a prefix that begins there may leave open. */
static unsigned int
trailing_zeros(const uint8_t *bytes, unsigned int len)
{
	unsigned int bits = 0;

	for (unsigned int i = len; i-- > 0; bits += 8)
		if (bytes[i] != 0)
			return bits + (unsigned int)__builtin_ctz(bytes[i]);
	return bits;
}

static void
set_low_bits(uint8_t *bytes, unsigned int len, unsigned int bits)
{
	for (unsigned int i = len; i-- > 0 && bits > 0; bits -= PK_MIN(bits, 8))
		bytes[i] |= (uint8_t)((1u << PK_MIN(bits, 8)) - 1);
}

/* The next address; 0 behind the last. */
static int
increment(uint8_t *bytes, unsigned int len)
{
	for (unsigned int i = len; i-- > 0;)
		if (++bytes[i] != 0)
			return 1;
	return 0;
}

unsigned int
pk_prefixes_of_range(
    struct pk_prefix *out, unsigned int max, const struct pk_addr *low, const struct pk_addr *high)
{
	unsigned int len = low->family == 4 ? 4 : 16, n = 0;
	struct pk_addr at = *low;

	if (low->family != high->family || low->family == 0)
		return 0;
	while (memcmp(at.bytes, high->bytes, len) <= 0) {
		unsigned int open = trailing_zeros(at.bytes, len);
		struct pk_addr last;

		/* The largest that begins here and does not end too late. */
		for (;; open--) {
			last = at;
			set_low_bits(last.bytes, len, open);
			if (memcmp(last.bytes, high->bytes, len) <= 0)
				break;
		}
		if (n == max)
			return 0;
		out[n++] = (struct pk_prefix){ .addr = at, .len = (uint8_t)(len * 8 - open) };
		at = last;
		if (!increment(at.bytes, len))
			break;
	}
	return n;
}
