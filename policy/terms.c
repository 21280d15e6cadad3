#include "policy/terms.h"

static const char *const keys[] = { "encryption" };

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

void
policy_terms_check(struct policy_reader *r, const struct policy_node *n, unsigned int verdict)
{
	if (n->kind != POLICY_MAP || verdict == PK_VERDICT_ALLOW)
		return;
	for (size_t i = 0; i < PK_COUNT(keys); i++)
		if (policy_node_get(n, keys[i]) != NULL)
			policy_reader_error(r, policy_node_get(n, keys[i]), "bad-terms",
			    "\"%s\" stands in rules that allow", keys[i]);
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
