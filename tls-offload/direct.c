#include "tls-offload/direct.h"

#include <errno.h>
#include <string.h>

#include "lib/wire.h"

enum field {
	FIELD_DESTINATION = 1,
	FIELD_SOURCE,
	FIELD_TRACE,
	FIELD_IGNORABLE = 128,
};

static uint8_t *
put_endpoint(uint8_t *p, enum field type, const struct pk_addr *addr, uint16_t port)
{
	uint8_t len = addr->family == 4 ? 4 : 16;

	*p++ = (uint8_t)type;
	*p++ = (uint8_t)(2 + len);
	*p++ = (uint8_t)(port >> 8);
	*p++ = (uint8_t)port;
	memcpy(p, addr->bytes, len);
	return p + len;
}

size_t
tlso_direct_pack(uint8_t *out, const struct tlso_direct *d)
{
	uint8_t *p = out + TLSO_DIRECT_FIXED;
	size_t trace = strnlen(d->trace, sizeof(d->trace) - 1), len;

	if (d->dst.family != d->src.family || (d->dst.family != 4 && d->dst.family != 6))
		return 0;
	p = put_endpoint(p, FIELD_DESTINATION, &d->dst, d->dport);
	p = put_endpoint(p, FIELD_SOURCE, &d->src, d->sport);
	if (trace > 0) {
		*p++ = FIELD_TRACE;
		*p++ = (uint8_t)trace;
		memcpy(p, d->trace, trace);
		p += trace;
	}
	len = (size_t)(p - out) - TLSO_DIRECT_FIXED;
	memcpy(out,
	    (uint8_t[]){ 'P', 'K', TLSO_DIRECT_VERSION, 0, (uint8_t)(len >> 8), (uint8_t)len },
	    TLSO_DIRECT_FIXED);
	return TLSO_DIRECT_FIXED + len;
}

static const char *
get_endpoint(const uint8_t *p, size_t len, struct pk_addr *addr, uint16_t *port)
{
	if (len != 6 && len != 18)
		return "a port and an address";
	memset(addr, 0, sizeof(*addr));
	*port = (uint16_t)(p[0] << 8 | p[1]);
	addr->family = len == 6 ? 4 : 6;
	memcpy(addr->bytes, p + 2, len - 2);
	return *port != 0 ? NULL : "a port other than 0";
}

static const char *
get_trace(const uint8_t *p, size_t len, char *out)
{
	if (len == 0 || len >= TLSO_TRACE_MAX)
		return "a trace of 1 to 64 characters";
	for (size_t i = 0; i < len; i++)
		if (p[i] <= ' ' || p[i] > '~')
			return "a trace of printable characters";
	memcpy(out, p, len);
	return NULL;
}

/* NULL, or what would have been right. */
static const char *
get_fields(struct tlso_direct *out, struct pk_wire *w)
{
	unsigned int last = 0;

	while (pk_wire_left(w) > 0) {
		unsigned int type = pk_wire_u8(w), len = pk_wire_u8(w);
		const uint8_t *p = pk_wire_bytes(w, len);
		const char *want = NULL;

		if (p == NULL)
			return "fields that end where the header does";
		if (type <= last)
			return "each field once, in the order of their types";
		last = type;
		if (type == FIELD_DESTINATION)
			want = get_endpoint(p, len, &out->dst, &out->dport);
		else if (type == FIELD_SOURCE)
			want = get_endpoint(p, len, &out->src, &out->sport);
		else if (type == FIELD_TRACE)
			want = get_trace(p, len, out->trace);
		else if (type < FIELD_IGNORABLE)
			want = "fields that version 1 has";
		if (want != NULL)
			return want;
	}
	if (out->dst.family == 0 || out->src.family == 0)
		return "a destination and a source";
	return out->dst.family == out->src.family ? NULL : "addresses of one family";
}

int
tlso_direct_parse(struct tlso_direct *out, const uint8_t *bytes, size_t len, struct pk_diag *diag)
{
	static const uint8_t begin[4] = { 'P', 'K', TLSO_DIRECT_VERSION, 0 };
	struct pk_wire w;
	const char *want;
	size_t fields;

	memset(out, 0, sizeof(*out));
	/* What is wrong at its first byte is refused at its first byte. */
	if (memcmp(bytes, begin, PK_MIN(len, sizeof(begin))) != 0) {
		pk_diag_set(
		    diag, "direct header: want \"PK\", version %u and a zero", TLSO_DIRECT_VERSION);
		return -EPROTO;
	}
	if (len < TLSO_DIRECT_FIXED)
		return 0;
	fields = (size_t)bytes[4] << 8 | bytes[5];
	if (fields > TLSO_DIRECT_MAX - TLSO_DIRECT_FIXED) {
		pk_diag_set(diag, "direct header: %zu bytes of fields; want at most %d", fields,
		    TLSO_DIRECT_MAX - TLSO_DIRECT_FIXED);
		return -EPROTO;
	}
	if (len < TLSO_DIRECT_FIXED + fields)
		return 0;
	w = pk_wire_from(bytes + TLSO_DIRECT_FIXED, fields);
	want = get_fields(out, &w);
	if (want != NULL) {
		pk_diag_set(diag, "direct header: want %s", want);
		return -EPROTO;
	}
	return (int)(TLSO_DIRECT_FIXED + fields);
}
