#include "attest/daemon/message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "attest/eventlog.h"
#include "attest/ima.h"
#include "lib/spiffe.h"
#include "lib/wire.h"

/* Lengths in bytes, both inclusive; a number has min == max. */
static const struct {
	uint32_t min, max;
} bounds[ATTEST_FIELD_COUNT] = {
	[ATTEST_FIELD_HOST] = { 1, ATTEST_HOST_MAX - 1 },
	[ATTEST_FIELD_EK_PUBLIC] = { 16, 1024 },
	[ATTEST_FIELD_EK_CERT] = { 1, 16384 },
	[ATTEST_FIELD_EK_CHAIN] = { 1, 65536 },
	[ATTEST_FIELD_AK_PUBLIC] = { 16, 1024 },
	[ATTEST_FIELD_ID_OBJECT] = { 4, 1024 },
	[ATTEST_FIELD_ENCRYPTED] = { 4, 1024 },
	[ATTEST_FIELD_SECRET] = { 16, 64 },
	[ATTEST_FIELD_NONCE] = { ATTEST_NONCE_LEN, ATTEST_NONCE_LEN },
	[ATTEST_FIELD_SELECTION] = { 6, ATTEST_SELECTION_MAX },
	[ATTEST_FIELD_IMA_FROM] = { 4, 4 },
	[ATTEST_FIELD_WANT_LOG] = { 1, 1 },
	[ATTEST_FIELD_QUOTE] = { 16, 4096 },
	[ATTEST_FIELD_SIGNATURE] = { 8, 2048 },
	[ATTEST_FIELD_PCR_VALUES] = { 2, 32768 },
	[ATTEST_FIELD_EVENTLOG] = { 1, ATTEST_EVENTLOG_MAX },
	[ATTEST_FIELD_IMA] = { 0, ATTEST_IMA_LIST_MAX },
	[ATTEST_FIELD_STATE] = { 1, 1 },
	[ATTEST_FIELD_EPOCH] = { 8, 8 },
	[ATTEST_FIELD_NEXT_MS] = { 4, 4 },
	[ATTEST_FIELD_TEXT] = { 0, 65536 },
};

#define F(x) (1U << ATTEST_FIELD_##x)

static const struct {
	const char *name;
	uint32_t must, may;
} types[ATTEST_MESSAGE_COUNT] = {
	[ATTEST_MESSAGE_NONE] = { "none", 0, 0 },
	[ATTEST_MESSAGE_HELLO] = { "hello", F(HOST) | F(EK_PUBLIC) | F(AK_PUBLIC),
	    F(EK_CERT) | F(EK_CHAIN) },
	[ATTEST_MESSAGE_ACTIVATE] = { "activate", F(ID_OBJECT) | F(ENCRYPTED), 0 },
	[ATTEST_MESSAGE_ACTIVATED] = { "activated", F(SECRET), 0 },
	[ATTEST_MESSAGE_CHALLENGE] = { "challenge",
	    F(NONCE) | F(SELECTION) | F(IMA_FROM) | F(WANT_LOG), 0 },
	[ATTEST_MESSAGE_EVIDENCE] = { "evidence",
	    F(IMA_FROM) | F(QUOTE) | F(SIGNATURE) | F(PCR_VALUES), F(EVENTLOG) | F(IMA) },
	[ATTEST_MESSAGE_VERDICT] = { "verdict", F(STATE) | F(EPOCH) | F(NEXT_MS), F(TEXT) },
	[ATTEST_MESSAGE_NUDGE] = { "nudge", 0, 0 },
};

const char *
attest_message_name(unsigned int type)
{
	return type < ATTEST_MESSAGE_COUNT ? types[type].name : "unknown";
}

size_t
attest_message_max(unsigned int type)
{
	size_t len = ATTEST_MESSAGE_HEADER;

	if (type == ATTEST_MESSAGE_NONE || type >= ATTEST_MESSAGE_COUNT)
		return 0;
	for (unsigned int f = 0; f < ATTEST_FIELD_COUNT; f++)
		if ((types[type].must | types[type].may) >> f & 1)
			len += 8 + bounds[f].max;
	return len;
}

int
attest_message_length(const uint8_t *head, size_t limit, size_t *len, struct pk_diag *d)
{
	struct pk_wire w = pk_wire_from(head, ATTEST_MESSAGE_HEADER);
	uint32_t rest = pk_wire_be32(&w);
	uint8_t version = pk_wire_u8(&w), type = pk_wire_u8(&w);
	uint16_t zero = pk_wire_be16(&w);

	if (version != ATTEST_MESSAGE_VERSION || zero != 0) {
		pk_diag_set(d, "a message of version %u; this is version %d", version,
		    ATTEST_MESSAGE_VERSION);
		return -EPROTO;
	}
	if (type == ATTEST_MESSAGE_NONE || type >= ATTEST_MESSAGE_COUNT) {
		pk_diag_set(d, "a message of unknown type %u", type);
		return -EPROTO;
	}
	if (rest < ATTEST_MESSAGE_HEADER - 4 || rest + (size_t)4 > attest_message_max(type) ||
	    rest + (size_t)4 > limit) {
		pk_diag_set(d, "%s of %u bytes; the limit is %zu", types[type].name, rest,
		    PK_MIN(limit, attest_message_max(type)));
		return -EPROTO;
	}
	*len = rest + (size_t)4;
	return 0;
}

/* Returns 0, or -EPROTO for what no DPU asks for. */
static int
parse_selection(struct attest_bytes b, struct attest_selection *out)
{
	struct pk_wire w = pk_wire_from(b.at, b.len);

	memset(out, 0, sizeof(*out));
	while (pk_wire_left(&w) > 0) {
		uint16_t alg = pk_wire_be16(&w);
		uint32_t mask = pk_wire_be32(&w);

		if (!pk_wire_ok(&w) || out->nb_banks == ATTEST_BANKS_MAX ||
		    attest_alg_size(alg) == 0 || mask == 0 || mask >> ATTEST_NB_PCRS != 0 ||
		    attest_selection_mask(out, alg) != 0)
			return -EPROTO;
		out->bank[out->nb_banks].alg = alg;
		out->bank[out->nb_banks++].mask = mask;
	}
	return 0;
}

/* What the table cannot say of a field. */
static int
field_ok(enum attest_field f, struct attest_bytes b)
{
	struct attest_selection selection;
	char name[ATTEST_HOST_MAX];

	if (f == ATTEST_FIELD_WANT_LOG)
		return b.at[0] <= 1;
	if (f == ATTEST_FIELD_SELECTION)
		return parse_selection(b, &selection) == 0;
	if (f != ATTEST_FIELD_HOST)
		return 1;
	memcpy(name, b.at, b.len);
	name[b.len] = '\0';
	return strlen(name) == b.len && pk_spiffe_name_ok(name);
}

static int
fields_ok(const struct attest_message *m, struct pk_diag *d)
{
	for (unsigned int f = 0; f < ATTEST_FIELD_COUNT; f++) {
		struct attest_bytes b = m->field[f];
		const char *what = NULL;

		if (b.at == NULL && types[m->type].must >> f & 1)
			what = "is lacking";
		else if (b.at != NULL && ((types[m->type].must | types[m->type].may) >> f & 1) == 0)
			what = "does not belong there";
		else if (b.at != NULL && (b.len < bounds[f].min || b.len > bounds[f].max))
			what = "has a length it cannot have";
		else if (b.at != NULL && !field_ok((enum attest_field)f, b))
			what = "has a value it cannot have";
		if (what != NULL) {
			pk_diag_set(d, "%s: field %u %s", types[m->type].name, f + 1, what);
			return -EPROTO;
		}
	}
	return 0;
}

int
attest_message_parse(
    struct attest_message *out, const uint8_t *bytes, size_t len, struct pk_diag *d)
{
	struct pk_wire w = pk_wire_from(bytes, len);
	unsigned int last = 0;
	size_t said;
	int rc;

	memset(out, 0, sizeof(*out));
	if (len < ATTEST_MESSAGE_HEADER) {
		pk_diag_set(d, "a message of %zu bytes", len);
		return -EPROTO;
	}
	rc = attest_message_length(bytes, len, &said, d);
	if (rc < 0)
		return rc;
	out->type = (enum attest_message_type)bytes[5];
	pk_wire_skip(&w, ATTEST_MESSAGE_HEADER);
	while (said == len && pk_wire_ok(&w) && pk_wire_left(&w) > 0) {
		unsigned int tag = pk_wire_be16(&w), zero = pk_wire_be16(&w);
		uint32_t n = pk_wire_be32(&w);
		const uint8_t *at = pk_wire_bytes(&w, n);

		if (at == NULL || zero != 0 || tag <= last || tag > ATTEST_FIELD_COUNT) {
			w.failed = 1;
			break;
		}
		last = tag;
		out->field[tag - 1] = (struct attest_bytes){ at, n };
	}
	if (said != len || !pk_wire_ok(&w)) {
		pk_diag_set(d, "%s: not made of fields in ascending order", types[out->type].name);
		return -EPROTO;
	}
	return fields_ok(out, d);
}

uint64_t
attest_message_number(const struct attest_message *m, enum attest_field f)
{
	uint64_t v = 0;

	PK_ASSERT(m->field[f].at != NULL && m->field[f].len <= 8);
	for (size_t i = 0; i < m->field[f].len; i++)
		v = v << 8 | m->field[f].at[i];
	return v;
}

void
attest_message_selection(const struct attest_message *m, struct attest_selection *out)
{
	int rc = parse_selection(m->field[ATTEST_FIELD_SELECTION], out);

	PK_ASSERT(rc == 0 && out->nb_banks > 0);
}

void
attest_message_set_selection(
    struct attest_message *m, const struct attest_selection *s, uint8_t store[ATTEST_SELECTION_MAX])
{
	PK_ASSERT(s->nb_banks <= ATTEST_BANKS_MAX);
	for (unsigned int i = 0; i < s->nb_banks; i++) {
		store[6 * i] = (uint8_t)(s->bank[i].alg >> 8);
		store[6 * i + 1] = (uint8_t)s->bank[i].alg;
		for (unsigned int k = 0; k < 4; k++)
			store[6 * i + 2 + k] = (uint8_t)(s->bank[i].mask >> (8 * (3 - k)));
	}
	m->field[ATTEST_FIELD_SELECTION] = (struct attest_bytes){ store, 6 * (size_t)s->nb_banks };
}

void
attest_message_set_number(
    struct attest_message *m, enum attest_field f, uint64_t value, uint8_t store[8])
{
	size_t n = bounds[f].max;

	PK_ASSERT(bounds[f].min == n && n <= 8);
	for (size_t i = 0; i < n; i++)
		store[i] = (uint8_t)(value >> (8 * (n - 1 - i)));
	m->field[f] = (struct attest_bytes){ store, n };
}

static uint8_t *
put(uint8_t *p, uint64_t value, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(value >> (8 * (n - 1 - i)));
	return p + n;
}

int
attest_message_pack(uint8_t **out, size_t *len, const struct attest_message *m, struct pk_diag *d)
{
	size_t n = ATTEST_MESSAGE_HEADER;
	uint8_t *p;
	int rc;

	if (m->type == ATTEST_MESSAGE_NONE || m->type >= ATTEST_MESSAGE_COUNT) {
		pk_diag_set(d, "no message has type %u", (unsigned int)m->type);
		return -EPROTO;
	}
	rc = fields_ok(m, d);
	if (rc < 0)
		return rc;
	for (unsigned int f = 0; f < ATTEST_FIELD_COUNT; f++)
		n += m->field[f].at != NULL ? 8 + m->field[f].len : 0;
	*out = p = malloc(n);
	if (p == NULL)
		return -ENOMEM;
	*len = n;
	p = put(p, n - 4, 4);
	p = put(p, ATTEST_MESSAGE_VERSION, 1);
	p = put(p, m->type, 1);
	p = put(p, 0, 2);
	for (unsigned int f = 0; f < ATTEST_FIELD_COUNT; f++) {
		if (m->field[f].at == NULL)
			continue;
		p = put(p, f + 1, 2);
		p = put(p, 0, 2);
		p = put(p, m->field[f].len, 4);
		memcpy(p, m->field[f].at, m->field[f].len);
		p += m->field[f].len;
	}
	return 0;
}

int
attest_qualifying_data(
    const struct attest_binding *b, const uint8_t nonce[ATTEST_NONCE_LEN], uint8_t out[32])
{
	static const uint8_t label[] = "picket-attest-v1"; /* with its NUL */
	uint8_t len[3][2], digest[ATTEST_DIGEST_MAX];
	size_t dpu = strlen(b->dpu), host = strlen(b->host);
	const struct attest_bytes parts[] = {
		{ label, sizeof(label) },
		{ nonce, ATTEST_NONCE_LEN },
		{ len[0], 2 },
		{ (const uint8_t *)b->dpu, dpu },
		{ len[1], 2 },
		{ (const uint8_t *)b->host, host },
		{ b->exporter, sizeof(b->exporter) },
		{ b->dpu_key, sizeof(b->dpu_key) },
		{ len[2], 2 },
		{ b->ak_name, b->ak_name_len },
	};
	int rc;

	put(len[0], dpu, 2);
	put(len[1], host, 2);
	put(len[2], b->ak_name_len, 2);
	rc = attest_hash(NULL, ATTEST_ALG_SHA256, parts, PK_COUNT(parts), digest);
	if (rc == 0)
		memcpy(out, digest, 32);
	return rc;
}
