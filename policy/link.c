#include <ctype.h>
#include <string.h>

#include "policy/govern_priv.h"

/* Reading a Link: ports of DPUs that are one link, or a group of links, and what MACsec between them is agreed on with. */

#define CKN_MAX  32 /* octets; IEEE 802.1X-2020, 9.3.1 */
#define KEYS_MAX 4  /* at a time: the one in use, the next one, and some to spare */

static const struct policy_range wires = { 0, 63 };

static void
read_dpu(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	(void)arg;
	if (n->kind != POLICY_SCALAR || policy_node_is_null(n) || n->text[0] == '\0')
		policy_reader_mismatch(r, n);
	else
		*(const char **)out = n->text;
}

static void
read_ckn(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	size_t len = n->kind == POLICY_SCALAR && !policy_node_is_null(n) ? strlen(n->text) : 0;
	char *ckn;

	(void)arg;
	if (len == 0 || len % 2 != 0 || len > 2 * CKN_MAX ||
	    strspn(n->text, "0123456789abcdefABCDEF") != len) {
		policy_reader_mismatch(r, n);
		return;
	}
	ckn = policy_reader_alloc(r, len + 1, 1);
	for (size_t i = 0; ckn != NULL && i < len; i++)
		ckn[i] = (char)tolower((unsigned char)n->text[i]);
	*(const char **)out = ckn;
}

static const struct policy_field port_fields[] = {
	{ "dpu", "the name of a DPU, in which * and ? stand for any", read_dpu, NULL,
	    offsetof(struct policy_link_port, dpu), 1 },
	{ "wire", "a whole number from 0 to 63", policy_read_uint, &wires,
	    offsetof(struct policy_link_port, wire), 0 },
};
static const struct policy_schema port_schema = POLICY_SCHEMA("a port", port_fields);

static const struct policy_field key_fields[] = {
	{ "ckn", "the name of a key: 1 to 32 octets in hexadecimal", read_ckn, NULL,
	    offsetof(struct policy_link_key, ckn), 1 },
	{ "secret", "the name of a secret of the policy server", policy_read_name, NULL,
	    offsetof(struct policy_link_key, secret), 1 },
};
static const struct policy_schema key_schema = POLICY_SCHEMA("a key", key_fields);

static void
read_ports(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_link_def *d = out;

	(void)arg;
	if (n->kind != POLICY_LIST || n->nb == 0) {
		policy_reader_mismatch(r, n);
		return;
	}
	d->ports.at = policy_reader_alloc(r, n->nb, sizeof(d->ports.at[0]));
	for (uint32_t i = 0; d->ports.at != NULL && i < n->nb; i++)
		policy_schema_read(r, n->items[i], &port_schema, &d->ports.at[d->ports.nb++]);
}

static void
read_keys(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_link_def *d = out;

	(void)arg;
	if (n->kind != POLICY_LIST || n->nb == 0 || n->nb > KEYS_MAX) {
		policy_reader_mismatch(r, n);
		return;
	}
	d->keys.at = policy_reader_alloc(r, n->nb, sizeof(d->keys.at[0]));
	for (uint32_t i = 0; d->keys.at != NULL && i < n->nb; i++) {
		struct policy_link_key *k = &d->keys.at[i];

		policy_schema_read(r, n->items[i], &key_schema, k);
		d->keys.nb++;
		for (uint32_t j = 0; k->ckn != NULL && j < i; j++)
			if (d->keys.at[j].ckn != NULL && strcmp(d->keys.at[j].ckn, k->ckn) == 0)
				policy_reader_error(r, n->items[i], "duplicate-name",
				    "there is a key with ckn %s already; each has a name of its own",
				    k->ckn);
	}
}

static const struct policy_field macsec_fields[] = {
	{ "keys", "a list of 1 to 4 keys, each with ckn and secret", read_keys, NULL, 0, 1 },
};
static const struct policy_schema macsec_schema = POLICY_SCHEMA("macsec", macsec_fields);

static const struct policy_field link_fields[] = {
	{ "ports", "a list of ports, each with dpu and wire", read_ports, NULL, 0, 1 },
	{ "macsec", "a map with keys", policy_read_schema, &macsec_schema, 0, 1 },
};
const struct policy_schema policy_link_schema = POLICY_SCHEMA("a link's spec", link_fields);
