#include "policy/terms.h"

#include <stdio.h>

static const char *const keys[] = { "encryption", "inspect", "fail" };

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
	char part[2][64] = { "", "" };
	const char *words[2];
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
