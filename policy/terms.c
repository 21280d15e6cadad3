#include "policy/terms.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const keys[] = { "encryption", "inspect", "fail", "dscp", "limit" };

static const char *const encryption_words[] = { "required", "ipsec", "mtls" };
static const uint8_t encryption_values[] = { PK_ENCRYPTION_REQUIRED, PK_ENCRYPTION_IPSEC,
	PK_ENCRYPTION_MTLS };
static const struct policy_words encryptions = { encryption_words, PK_COUNT(encryption_words),
	encryption_values };

void
policy_read_encryption(
    struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct pk_rule_terms *t = out;

	(void)arg;
	policy_read_word(r, n, &t->encryption, &encryptions);
}

static const char *const inspect_words[] = { "standard", "strict" };
static const uint8_t inspect_values[] = { PK_INSPECT_STANDARD, PK_INSPECT_STRICT };
static const struct policy_words inspections = { inspect_words, PK_COUNT(inspect_words),
	inspect_values };

void
policy_read_inspect(
    struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct pk_rule_terms *t = out;

	(void)arg;
	policy_read_word(r, n, &t->inspect, &inspections);
}

static const char *const fail_words[] = { "closed", "open" };
static const struct policy_words fails = { fail_words, PK_COUNT(fail_words), NULL };

void
policy_read_fail(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct pk_rule_terms *t = out;

	(void)arg;
	policy_read_word(r, n, &t->fail_open, &fails);
}

/* ---- dscp ---- */

/* RFC 2474 (CS), RFC 2597 (AF), RFC 3246 (EF), RFC 5865 (VOICE-ADMIT), RFC 8622 (LE). */
static const char *const dscp_words[] = { "DF", "CS1", "CS2", "CS3", "CS4", "CS5", "CS6", "CS7",
	"AF11", "AF12", "AF13", "AF21", "AF22", "AF23", "AF31", "AF32", "AF33", "AF41", "AF42",
	"AF43", "EF", "VOICE-ADMIT", "LE" };
static const uint8_t dscp_values[] = { 0, 8, 16, 24, 32, 40, 48, 56, 10, 12, 14, 18, 20, 22, 26, 28,
	30, 34, 36, 38, 46, 44, 1 };
_Static_assert(PK_COUNT(dscp_words) == PK_COUNT(dscp_values), "one for each");
static const struct policy_words dscps = { dscp_words, PK_COUNT(dscp_words), dscp_values };
static const struct policy_range codepoints = { 0, PK_DSCP_MAX };

void
policy_read_dscp(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct pk_rule_terms *t = out;
	unsigned int errors = r->errors;
	uint32_t value = 0;

	(void)arg;
	if (n->kind == POLICY_SCALAR && n->text[0] >= '0' && n->text[0] <= '9') {
		policy_read_uint(r, n, &value, &codepoints);
		t->dscp = (uint8_t)value;
	} else {
		policy_read_word(r, n, &t->dscp, &dscps);
	}
	if (r->errors == errors)
		t->dscp |= PK_DSCP;
}

static const char *
dscp_text(uint8_t dscp, char buf[16])
{
	for (size_t i = 0; i < PK_COUNT(dscp_values); i++)
		if (dscp_values[i] == (dscp & PK_DSCP_MAX))
			return dscp_words[i];
	snprintf(buf, 16, "%u", dscp & PK_DSCP_MAX);
	return buf;
}

/* ---- limit ---- */

/* A unit, and what it multiplies by.  Decimal, as rates are: RFC 2330 knows no others. */
struct unit {
	const char *word;
	uint32_t times;
};

static const struct unit counts[] = { { "", 1 }, { "k", 1000 }, { "M", 1000000 }, { NULL, 0 } };
static const struct unit sizes[] = { { "", 1 }, { "B", 1 }, { "kB", 1000 }, { "MB", 1000000 },
	{ "GB", 1000000000 }, { NULL, 0 } };

/* "20/s", "10MB/s": 0 if it is none. */
static uint64_t
parse_rate(const char *text, const struct unit *units, uint64_t max)
{
	size_t digits = strspn(text, "0123456789");
	const char *slash = strchr(text, '/');
	uint64_t value = 0;

	if (digits == 0 || digits > 12 || text[0] == '0' || slash == NULL ||
	    strcmp(slash, "/s") != 0)
		return 0;
	for (size_t i = 0; i < digits; i++)
		value = value * 10 + (uint64_t)(text[i] - '0');
	for (; units->word != NULL; units++)
		if (strlen(units->word) == (size_t)(slash - text) - digits &&
		    strncmp(units->word, text + digits, strlen(units->word)) == 0)
			return value <= max / units->times ? value * units->times : 0;
	return 0;
}

#define BYTES_MAX UINT64_C(1000000000000) /* 8 Tbit/s */

static void
read_count(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	uint64_t rate = n->kind == POLICY_SCALAR ? parse_rate(n->text, counts, UINT32_MAX) : 0;

	(void)arg;
	if (rate == 0)
		policy_reader_mismatch(r, n);
	*(uint32_t *)out = (uint32_t)rate;
}

static void
read_size(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	uint64_t rate = n->kind == POLICY_SCALAR ? parse_rate(n->text, sizes, BYTES_MAX) : 0;

	(void)arg;
	if (rate == 0)
		policy_reader_mismatch(r, n);
	*(uint64_t *)out = rate;
}

void
policy_read_limit(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	static const struct policy_field fields[] = {
		{ "newConnections", "a rate such as 20/s or 5k/s", read_count, NULL,
		    offsetof(struct pk_rule_terms, sessions_per_s), 0 },
		{ "packets", "a rate such as 1000/s or 50k/s", read_count, NULL,
		    offsetof(struct pk_rule_terms, packets_per_s), 0 },
		{ "bytes", "a rate such as 500kB/s or 10MB/s", read_size, NULL,
		    offsetof(struct pk_rule_terms, bytes_per_s), 0 },
	};
	static const struct policy_schema schema = POLICY_SCHEMA("a limit", fields);

	(void)arg;
	if (n->kind == POLICY_MAP && n->nb == 0)
		policy_reader_error(r, n, "bad-terms",
		    "\"limit\" has newConnections, packets or bytes, and this has none");
	else
		policy_schema_read(r, n, &schema, out);
}

/* ---- a rule ---- */

void
policy_terms_settle(struct policy_reader *r, const struct policy_node *n, unsigned int verdict,
    struct pk_rule_terms *t)
{
	const struct policy_node *fail;

	if (n->kind != POLICY_MAP)
		return;
	for (size_t i = 0; i < PK_COUNT(keys) && verdict != PK_VERDICT_ALLOW; i++)
		if (policy_node_get(n, keys[i]) != NULL)
			policy_reader_error(r, policy_node_get(n, keys[i]), "bad-terms",
			    "\"%s\" stands in rules that allow", keys[i]);
	fail = policy_node_get(n, "fail");
	if (fail != NULL && policy_node_get(n, "inspect") == NULL)
		policy_reader_error(r, fail, "bad-terms",
		    "\"fail\" goes with \"inspect\": it says what becomes of what cannot be inspected");
	else if (fail == NULL)
		t->fail_open = t->inspect == PK_INSPECT_STANDARD;
}

const char *
policy_terms_text(char *buf, size_t size, const struct pk_rule_terms *t)
{
	char part[4][128], name[16];
	const char *words[4];
	size_t nb = 0;

	if (t->encryption != PK_ENCRYPTION_NONE) {
		snprintf(
		    part[nb], sizeof(part[nb]), "encryption %s", pk_encryption_name(t->encryption));
		nb++;
	}
	if (t->inspect != PK_INSPECT_NONE) {
		snprintf(part[nb], sizeof(part[nb]), "inspect %s, fail %s",
		    pk_inspect_name(t->inspect), t->fail_open ? "open" : "closed");
		nb++;
	}
	if (t->dscp != 0) {
		snprintf(part[nb], sizeof(part[nb]), "dscp %s", dscp_text(t->dscp, name));
		nb++;
	}
	if (t->sessions_per_s != 0 || t->packets_per_s != 0 || t->bytes_per_s != 0) {
		size_t used = (size_t)snprintf(part[nb], sizeof(part[nb]), "limit");

		if (t->sessions_per_s != 0)
			used += (size_t)snprintf(part[nb] + used, sizeof(part[nb]) - used,
			    " %u connections/s", t->sessions_per_s);
		if (t->packets_per_s != 0)
			used += (size_t)snprintf(part[nb] + used, sizeof(part[nb]) - used,
			    " %u packets/s", t->packets_per_s);
		if (t->bytes_per_s != 0)
			snprintf(part[nb] + used, sizeof(part[nb]) - used, " %" PRIu64 " B/s",
			    t->bytes_per_s);
		nb++;
	}
	for (size_t i = 0; i < nb; i++)
		words[i] = part[i];
	return policy_words_text(buf, size, words, nb);
}

unsigned int
policy_encryption_merge(unsigned int a, unsigned int b)
{
	if (a == b || b == PK_ENCRYPTION_NONE)
		return a;
	if (a == PK_ENCRYPTION_NONE || a == PK_ENCRYPTION_REQUIRED)
		return b;
	return b == PK_ENCRYPTION_REQUIRED ? a : PK_ENCRYPTION_COUNT;
}

const char *
policy_encryption_text(unsigned int encryption)
{
	return encryption == PK_ENCRYPTION_COUNT ? "conflict" : pk_encryption_name(encryption);
}
