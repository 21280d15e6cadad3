#include "fw/dns.h"

#include <ctype.h>
#include <string.h>

#include "lib/wire.h"

#define HEADER_LEN  12
#define TYPE_A      1
#define TYPE_CNAME  5
#define TYPE_AAAA   28
#define CLASS_IN    1
#define RECORDS_MAX 256 /* of the answer section, read at most */

/* RFC 1035 section 4.1.1: an answer, to a standard query, that is whole and no error. */
#define FLAG_QR     0x8000
#define FLAG_TC     0x0200
#define OPCODE_MASK 0x7800
#define RCODE_MASK  0x000f

/*
 * A name at *at, as text in lower case; *at moves behind it.  A pointer leads backwards only (RFC 1035 section
 * 4.1.4), so this ends.  Characters that no host's name has become '?', which no pattern matches.
 */
static bool
read_name(const uint8_t *m, size_t len, size_t *at, char out[PK_NAME_TEXT])
{
	size_t i = *at, limit = *at, n = 0;
	bool jumped = false;

	for (;;) {
		uint8_t l;

		if (i >= len)
			return false;
		l = m[i];
		if ((l & 0xc0) == 0xc0) {
			size_t to;

			if (i + 1 >= len)
				return false;
			to = (size_t)(l & 0x3f) << 8 | m[i + 1];
			if (to >= limit)
				return false;
			if (!jumped)
				*at = i + 2;
			jumped = true;
			i = limit = to;
			continue;
		}
		if ((l & 0xc0) != 0)
			return false;
		i++;
		if (l == 0)
			break;
		if (i + l > len || n + l + 1 >= PK_NAME_TEXT)
			return false;
		if (n > 0)
			out[n++] = '.';
		for (unsigned int k = 0; k < l; k++) {
			uint8_t c = m[i + k];

			out[n++] = isalnum(c) || c == '-' || c == '_' ? (char)tolower(c) : '?';
		}
		i += l;
	}
	out[n] = '\0';
	if (!jumped)
		*at = i;
	return true;
}

/* How far the chain has got: a name's place in it, or nb_names. */
static unsigned int
place_of(const struct fw_dns *d, const char *name)
{
	unsigned int i = 0;

	while (i < d->nb_names && strcmp(d->name[i], name) != 0)
		i++;
	return i;
}

struct record {
	char owner[PK_NAME_TEXT];
	uint16_t type, class;
	uint32_t ttl_s;
	size_t data, len; /* where in the message */
};

static bool
read_record(const uint8_t *m, size_t len, size_t *at, struct record *r)
{
	struct pk_wire w;

	if (!read_name(m, len, at, r->owner))
		return false;
	w = pk_wire_from(m + *at, len - *at);
	r->type = pk_wire_be16(&w);
	r->class = pk_wire_be16(&w);
	r->ttl_s = pk_wire_be32(&w);
	r->len = pk_wire_be16(&w);
	r->data = *at + 10;
	pk_wire_skip(&w, r->len);
	*at = r->data + r->len;
	/* RFC 2181 section 8: a TTL with its highest bit set is 0. */
	if (r->ttl_s > INT32_MAX)
		r->ttl_s = 0;
	return pk_wire_ok(&w);
}

static void
take_addr(const uint8_t *m, const struct record *r, uint32_t ttl_s, struct fw_dns *out)
{
	struct pk_addr *a = &out->at[out->nb_addrs].addr;
	size_t want = r->type == TYPE_A ? 4 : 16;

	if (r->len != want || out->nb_addrs == FW_DNS_ADDRS)
		return;
	*a = (struct pk_addr){ .family = r->type == TYPE_A ? 4 : 6 };
	memcpy(a->bytes, m + r->data, want);
	out->at[out->nb_addrs++].ttl_s = PK_MIN(r->ttl_s, ttl_s);
}

bool
fw_dns_read(const uint8_t *message, size_t len, struct fw_dns *out)
{
	struct pk_wire w = pk_wire_from(message, len);
	uint32_t ttl_s[FW_DNS_CHAIN] = { UINT32_MAX }; /* the least so far, by name */
	uint16_t flags, nb_questions, nb_answers, type;
	size_t at = HEADER_LEN, answers;
	struct record r;

	out->nb_names = out->nb_addrs = 0;
	out->id = pk_wire_be16(&w);
	flags = pk_wire_be16(&w);
	nb_questions = pk_wire_be16(&w);
	nb_answers = pk_wire_be16(&w);
	pk_wire_skip(&w, 4);
	if (!pk_wire_ok(&w) ||
	    (flags & (FLAG_QR | OPCODE_MASK | RCODE_MASK | FLAG_TC)) != FLAG_QR ||
	    nb_questions != 1 || nb_answers == 0 || nb_answers > RECORDS_MAX)
		return false;
	if (!read_name(message, len, &at, out->name[0]) || len - at < 4)
		return false;
	type = (uint16_t)(message[at] << 8 | message[at + 1]);
	if ((type != TYPE_A && type != TYPE_AAAA) || message[at + 2] != 0 ||
	    message[at + 3] != CLASS_IN)
		return false;
	at += 4;
	out->nb_names = 1;
	/* The chain first, which need not come in order (RFC 1034 section 3.6.2). */
	answers = at;
	for (unsigned int before = 0; before != out->nb_names;) {
		before = out->nb_names;
		at = answers;
		for (unsigned int i = 0; i < nb_answers; i++) {
			char to[PK_NAME_TEXT];
			unsigned int from;
			size_t data;

			if (!read_record(message, len, &at, &r))
				return false;
			from = place_of(out, r.owner);
			if (r.type != TYPE_CNAME || r.class != CLASS_IN || from == out->nb_names ||
			    out->nb_names == FW_DNS_CHAIN)
				continue;
			data = r.data;
			if (!read_name(message, len, &data, to) || data != r.data + r.len)
				return false;
			if (place_of(out, to) < out->nb_names)
				continue;
			ttl_s[out->nb_names] = PK_MIN(ttl_s[from], r.ttl_s);
			memcpy(out->name[out->nb_names++], to, sizeof(to));
		}
	}
	at = answers;
	for (unsigned int i = 0; i < nb_answers; i++) {
		unsigned int from;

		if (!read_record(message, len, &at, &r))
			return false;
		from = place_of(out, r.owner);
		if (from < out->nb_names && r.class == CLASS_IN && r.type == type)
			take_addr(message, &r, ttl_s[from], out);
	}
	return out->nb_addrs != 0;
}
