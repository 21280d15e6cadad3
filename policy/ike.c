#include "policy/ike.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/conf.h"
#include "policy/schema.h"

#define API_VERSION "picket.io/v1"
#define LIST_MAX    64   /* addresses, selectors, proposals, authorities */
#define CHILD_MAX   1024 /* children of one peer */

struct policy_ike {
	struct policy_arena texts, arena;
	POLICY_VECTOR(struct policy_ike_peer) peers;
};

/* ---- values ------------------------------------------------------------------------------------ */

static const char *const truth_words[] = { "false", "true" };
static const struct policy_words truths = { truth_words, PK_COUNT(truth_words), NULL };
static const char *const auth_words[] = { "psk", "certificate" };
static const uint8_t auth_values[] = { POLICY_IKE_AUTH_PSK, POLICY_IKE_AUTH_CERTIFICATE };
static const struct policy_words auths = { auth_words, PK_COUNT(auth_words), auth_values };
static const char *const start_words[] = { "none", "trap", "start" };
static const struct policy_words starts = { start_words, PK_COUNT(start_words), NULL };
static const char *const fragmentation_words[] = { "no", "accept", "yes", "false", "true" };
static const uint8_t fragmentation_values[] = { POLICY_IKE_FRAGMENTATION_NO,
	POLICY_IKE_FRAGMENTATION_ACCEPT, POLICY_IKE_FRAGMENTATION_YES, POLICY_IKE_FRAGMENTATION_NO,
	POLICY_IKE_FRAGMENTATION_YES };
static const struct policy_words fragmentations = { fragmentation_words,
	PK_COUNT(fragmentation_words), fragmentation_values };
static const char *const unique_words[] = { "never", "replace", "keep" };
static const struct policy_words uniques = { unique_words, PK_COUNT(unique_words), NULL };
static const char *const mode_words[] = { "tunnel", "transport" };
static const struct policy_words modes = { mode_words, PK_COUNT(mode_words), NULL };
static const char *const copy_words[] = { "no", "out", "in", "both" };
static const struct policy_words copies = { copy_words, PK_COUNT(copy_words), NULL };
static const struct policy_range any_number = { 0, UINT32_MAX };
static const struct policy_range tfc_range = { 0, 9000 };
static const struct policy_range window_range = { 0, 4096 };

static void
read_duration(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	(void)arg;
	if (n->kind != POLICY_SCALAR || policy_node_is_null(n))
		policy_reader_mismatch(r, n);
	else if (strcmp(n->text, "0") == 0)
		*(uint64_t *)out = 0;
	else if (pk_conf_parse_duration(n->text, out) < 0 || *(uint64_t *)out < PK_NS_PER_S ||
	    *(uint64_t *)out > UINT32_MAX * PK_NS_PER_S)
		policy_reader_mismatch(r, n);
}

static void
read_size(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	(void)arg;
	if (n->kind != POLICY_SCALAR || policy_node_is_null(n) ||
	    pk_conf_parse_size(n->text, out) < 0)
		policy_reader_mismatch(r, n);
}

static void
read_texts(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_ike_texts *texts = out;

	(void)arg;
	if (n->kind != POLICY_LIST || n->nb == 0) {
		policy_reader_mismatch(r, n);
		return;
	}
	if (n->nb > LIST_MAX) {
		policy_reader_error(r, n, "too-large", "%u are more than \"%s\" may have (%d)",
		    n->nb, r->key, LIST_MAX);
		return;
	}
	texts->at = policy_reader_alloc(r, n->nb, sizeof(texts->at[0]));
	for (uint32_t i = 0; texts->at != NULL && i < n->nb; i++)
		policy_read_text(r, n->items[i], &texts->at[texts->nb++], NULL);
}

/* An address, a network, or "any". */
static void
read_addresses(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_ike_texts *texts = out;
	unsigned int errors = r->errors;
	struct pk_prefix prefix;
	struct pk_diag diag;

	if (n->kind == POLICY_SCALAR && strcmp(n->text, "any") == 0)
		return;
	read_texts(r, n, out, arg);
	for (size_t i = 0; r->errors == errors && !r->nomem && i < texts->nb; i++)
		if (pk_prefix_parse(&prefix, texts->at[i], &diag) < 0)
			policy_reader_error(r, n->items[i], "bad-address", "%s", diag.text);
}

/* ---- selectors: "192.0.2.0/24", "192.0.2.0/24 tcp/443", "2001:db8::/32 udp/500-600", "dynamic" ------- */

static int
parse_service(struct policy_ike_selector *s, const char *text)
{
	static const struct {
		const char *name;
		uint8_t proto;
		uint8_t ports;
	} protocols[] = { { "tcp", IPPROTO_TCP, 1 }, { "udp", IPPROTO_UDP, 1 },
		{ "sctp", IPPROTO_SCTP, 1 }, { "icmp", IPPROTO_ICMP, 0 },
		{ "icmpv6", IPPROTO_ICMPV6, 0 }, { "esp", IPPROTO_ESP, 0 } };
	size_t len = strcspn(text, "/");
	unsigned int low, high;
	int used = 0;

	for (size_t i = 0; i < PK_COUNT(protocols); i++) {
		if (strlen(protocols[i].name) != len || strncmp(text, protocols[i].name, len) != 0)
			continue;
		s->proto = protocols[i].proto;
		if (text[len] == '\0')
			return 0;
		if (!protocols[i].ports)
			return -EINVAL;
		text += len + 1;
		if (sscanf(text, "%5u-%5u%n", &low, &high, &used) != 2 || text[used] != '\0') {
			if (sscanf(text, "%5u%n", &low, &used) != 1 || text[used] != '\0')
				return -EINVAL;
			high = low;
		}
		if (low > high || high > UINT16_MAX)
			return -EINVAL;
		s->low = (uint16_t)low;
		s->high = (uint16_t)high;
		return 0;
	}
	return -EINVAL;
}

static void
read_selector(struct policy_reader *r, const struct policy_node *n, struct policy_ike_selector *s)
{
	char address[PK_PREFIX_TEXT];
	struct pk_diag diag;
	size_t len;

	s->high = UINT16_MAX;
	if (n->kind != POLICY_SCALAR || policy_node_is_null(n)) {
		policy_reader_mismatch(r, n);
		return;
	}
	len = strcspn(n->text, " ");
	if (n->text[len] == ' ' && parse_service(s, n->text + len + 1) < 0) {
		policy_reader_error(r, n, "bad-selector",
		    "\"%.64s\" names no service; want a network, and tcp, udp/53, sctp/1000-2000 or the like behind it",
		    n->text);
		return;
	}
	if (len == strlen("dynamic") && strncmp(n->text, "dynamic", len) == 0)
		return;
	snprintf(address, sizeof(address), "%.*s", (int)PK_MIN(len, sizeof(address) - 1), n->text);
	if (pk_prefix_parse(&s->prefix, address, &diag) < 0)
		policy_reader_error(r, n, "bad-selector", "%s", diag.text);
}

static void
read_selectors(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_ike_selectors *selectors = out;

	(void)arg;
	if (n->kind != POLICY_LIST || n->nb == 0) {
		policy_reader_mismatch(r, n);
		return;
	}
	if (n->nb > LIST_MAX) {
		policy_reader_error(r, n, "too-large", "%u are more than \"%s\" may have (%d)",
		    n->nb, r->key, LIST_MAX);
		return;
	}
	selectors->at = policy_reader_alloc(r, n->nb, sizeof(selectors->at[0]));
	for (uint32_t i = 0; selectors->at != NULL && i < n->nb; i++)
		read_selector(r, n->items[i], &selectors->at[selectors->nb++]);
}

/* ---- children ---------------------------------------------------------------------------------- */

#define CHILD(key, want, decode, arg, member, required)                                     \
	{                                                                                   \
		key, want, decode, arg, offsetof(struct policy_ike_child, member), required \
	}

static const struct policy_field child_fields[] = {
	CHILD("name", "a name", policy_read_name, NULL, name, 1),
	CHILD("mode", "tunnel or transport", policy_read_word, &modes, mode, 0),
	CHILD("local", "a list of networks such as 192.0.2.0/24", read_selectors, NULL, local, 1),
	CHILD("remote", "a list of networks such as 192.0.2.0/24", read_selectors, NULL, remote, 1),
	CHILD("proposals", "a list of proposals such as aes256gcm16-x25519", read_texts, NULL,
	    proposals, 0),
	CHILD("start", "none, trap or start", policy_read_word, &starts, start, 0),
	CHILD("onDpd", "none, trap or start", policy_read_word, &starts, on_dpd, 0),
	CHILD("onClose", "none, trap or start", policy_read_word, &starts, on_close, 0),
	CHILD("rekey", "a time from 1s, or 0", read_duration, NULL, rekey_ns, 0),
	CHILD("life", "a time from 1s, or 0", read_duration, NULL, life_ns, 0),
	CHILD("rekeyBytes", "a size such as 64g, or 0", read_size, NULL, rekey_bytes, 0),
	CHILD("lifeBytes", "a size such as 64g, or 0", read_size, NULL, life_bytes, 0),
	CHILD("rekeyPackets", "a number", policy_read_uint, &any_number, rekey_packets, 0),
	CHILD("lifePackets", "a number", policy_read_uint, &any_number, life_packets, 0),
	CHILD("inactivity", "a time from 1s, or 0", read_duration, NULL, inactivity_ns, 0),
	CHILD("replayWindow", "a number of packets, 0 to 4096", policy_read_uint, &window_range,
	    replay_window, 0),
	CHILD("tfc", "a number of bytes, 0 to 9000", policy_read_uint, &tfc_range, tfc, 0),
	CHILD("copyDf", "true or false", policy_read_word, &truths, copy_df, 0),
	CHILD("copyEcn", "true or false", policy_read_word, &truths, copy_ecn, 0),
	CHILD("copyDscp", "no, out, in or both", policy_read_word, &copies, copy_dscp, 0),
};
static const struct policy_schema child_schema = POLICY_SCHEMA("a child", child_fields);

static void
check_child(struct policy_reader *r, const struct policy_node *n, const struct policy_ike_child *c)
{
	if (c->life_ns != 0 && c->rekey_ns != 0 && c->life_ns <= c->rekey_ns)
		policy_reader_error(r, n, "bad-value",
		    "child \"%s\": \"life\" must be longer than \"rekey\"", c->name);
	if ((c->life_bytes != 0 && c->life_bytes <= c->rekey_bytes) ||
	    (c->life_packets != 0 && c->life_packets <= c->rekey_packets))
		policy_reader_error(r, n, "bad-value",
		    "child \"%s\": what ends it must be more than what rekeys it", c->name);
	/* RFC 4303, section 3.4.3: 32 is the least a window may be. */
	if (c->replay_window != 0 && c->replay_window < 32)
		policy_reader_error(r, n, "bad-value",
		    "child \"%s\": \"replayWindow\" is 0 or from 32 packets on", c->name);
}

static void
read_children(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	struct policy_ike_peer *peer = out;

	(void)arg;
	if (n->kind != POLICY_LIST || n->nb == 0) {
		policy_reader_mismatch(r, n);
		return;
	}
	if (n->nb > CHILD_MAX) {
		policy_reader_error(r, n, "too-large",
		    "%u are more children than a peer may have (%d)", n->nb, CHILD_MAX);
		return;
	}
	peer->children = policy_reader_alloc(r, n->nb, sizeof(peer->children[0]));
	for (uint32_t i = 0; peer->children != NULL && i < n->nb; i++) {
		struct policy_ike_child *c = &peer->children[peer->nb_children++];
		unsigned int errors = r->errors;

		*c = (struct policy_ike_child){ .rekey_ns = 3600 * PK_NS_PER_S,
			.copy_df = 1,
			.copy_ecn = 1,
			.copy_dscp = POLICY_IKE_COPY_OUT,
			.replay_window = 1024 };
		r->want = "a list of children, each a map";
		policy_schema_read(r, n->items[i], &child_schema, c);
		if (r->errors != errors)
			continue;
		check_child(r, n->items[i], c);
		for (size_t j = 0; j + 1 < peer->nb_children; j++)
			if (peer->children[j].name != NULL &&
			    strcmp(peer->children[j].name, c->name) == 0)
				policy_reader_error(r, n->items[i], "duplicate-name",
				    "there is a child \"%s\" already", c->name);
	}
}

/* ---- peers ------------------------------------------------------------------------------------- */

#define END(key, want, decode, arg, member, required)                                     \
	{                                                                                 \
		key, want, decode, arg, offsetof(struct policy_ike_end, member), required \
	}
#define BOTH_ENDS                                                                               \
	END("addresses", "\"any\" or a list of addresses", read_addresses, NULL, addresses, 0), \
	    END("identity", "an identity such as gw.example.org", policy_read_text, NULL,       \
	        identity, 1),                                                                   \
	    END("auth", "psk or certificate", policy_read_word, &auths, auth, 1)

static const struct policy_field local_fields[] = {
	BOTH_ENDS,
	END("certificate", "PEM, or the name of a file with it", policy_read_text, NULL,
	    certificate, 0),
	END("key", "PEM, or the name of a file with it", policy_read_text, NULL, key, 0),
};
static const struct policy_schema local_schema = POLICY_SCHEMA("\"local\"", local_fields);
static const struct policy_field remote_fields[] = {
	BOTH_ENDS,
	END("authorities", "a list of PEM, or of names of files with it", read_texts, NULL,
	    authorities, 0),
};
static const struct policy_schema remote_schema = POLICY_SCHEMA("\"remote\"", remote_fields);

/* A word, or a map with the name of a file. */
static void
read_secret(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	static const struct policy_field fields[] = {
		{ "file", "the name of a file", policy_read_text, NULL,
		    offsetof(struct policy_ike_peer, secret_file), 1 },
	};
	static const struct policy_schema schema = POLICY_SCHEMA("\"secret\"", fields);
	struct policy_ike_peer *peer = out;

	(void)arg;
	if (n->kind == POLICY_MAP)
		policy_schema_read(r, n, &schema, peer);
	else if (n->kind == POLICY_LIST || policy_node_is_null(n) || n->text[0] == '\0')
		/* Not as other mismatches are reported: the sentence must not repeat a secret. */
		policy_reader_error(
		    r, n, "wrong-type", "\"secret\" must be a word or a map with \"file\"");
	else
		peer->secret = n->text;
}

#define PEER(key, want, decode, arg, member, required)                                     \
	{                                                                                  \
		key, want, decode, arg, offsetof(struct policy_ike_peer, member), required \
	}

static const struct policy_field spec_fields[] = {
	PEER("local", "a map with identity and auth", policy_read_schema, &local_schema, local, 1),
	PEER("remote", "a map with addresses, identity and auth", policy_read_schema,
	    &remote_schema, remote, 1),
	{ "secret", "a word or a map with \"file\"", read_secret, NULL, 0, 0 },
	PEER("proposals", "a list of proposals such as aes256gcm16-prfsha384-ecp384", read_texts,
	    NULL, proposals, 0),
	PEER("rekey", "a time from 1s, or 0", read_duration, NULL, rekey_ns, 0),
	PEER("reauthenticate", "a time from 1s, or 0", read_duration, NULL, reauth_ns, 0),
	PEER("dpd", "a time from 1s, or 0", read_duration, NULL, dpd_ns, 0),
	PEER("keyingTries", "a number, 0 for ever", policy_read_uint, &any_number, keying_tries, 0),
	PEER("fragmentation", "no, accept or yes", policy_read_word, &fragmentations, fragmentation,
	    0),
	PEER("unique", "never, replace or keep", policy_read_word, &uniques, unique, 0),
	PEER("mobike", "true or false", policy_read_word, &truths, mobike, 0),
	PEER("encapsulate", "true or false", policy_read_word, &truths, encapsulate, 0),
	{ "children", "a list of children", read_children, NULL, 0, 1 },
};
static const struct policy_schema spec_schema = POLICY_SCHEMA("a peer's spec", spec_fields);

static const struct policy_field meta_fields[] = {
	PEER("name", "a name", policy_read_name, NULL, name, 1),
	{ "annotations", "a map of words", policy_read_ignore, NULL, 0, 0 },
};
static const struct policy_schema meta_schema = POLICY_SCHEMA("metadata", meta_fields);

static void
read_constant(struct policy_reader *r, const struct policy_node *n, void *out, const void *arg)
{
	(void)out;
	if (n->kind != POLICY_SCALAR || strcmp(n->text, arg) != 0)
		policy_reader_mismatch(r, n);
}

static const struct policy_field document_fields[] = {
	{ "apiVersion", "\"" API_VERSION "\"", read_constant, API_VERSION, 0, 1 },
	{ "kind", "IkePeer", read_constant, "IkePeer", 0, 1 },
	{ "metadata", "a map with name", policy_read_schema, &meta_schema, 0, 1 },
	{ "spec", "a map with local, remote and children", policy_read_schema, &spec_schema, 0, 1 },
};
static const struct policy_schema document_schema = POLICY_SCHEMA("a peer", document_fields);

static void
check_peer(struct policy_reader *r, const struct policy_node *n, const struct policy_ike_peer *p)
{
	const bool psk = p->local.auth == POLICY_IKE_AUTH_PSK ||
	    p->remote.auth == POLICY_IKE_AUTH_PSK;
	const bool secret = p->secret != NULL || p->secret_file != NULL;

	if (psk != secret)
		policy_reader_error(r, n, "bad-value", "peer \"%s\": %s", p->name,
		    psk ? "\"auth: psk\" wants a \"secret\""
		        : "a \"secret\" is for \"auth: psk\" alone");
	if ((p->local.auth == POLICY_IKE_AUTH_CERTIFICATE) !=
	    (p->local.certificate != NULL && p->local.key != NULL))
		policy_reader_error(r, n, "bad-value", "peer \"%s\": local: %s", p->name,
		    p->local.auth == POLICY_IKE_AUTH_PSK
		        ? "\"certificate\" and \"key\" are for \"auth: certificate\" alone"
		        : "\"auth: certificate\" wants \"certificate\" and \"key\"");
	if ((p->remote.auth == POLICY_IKE_AUTH_CERTIFICATE) != (p->remote.authorities.nb > 0))
		policy_reader_error(r, n, "bad-value", "peer \"%s\": remote: %s", p->name,
		    p->remote.auth == POLICY_IKE_AUTH_PSK
		        ? "\"authorities\" are for \"auth: certificate\" alone"
		        : "\"auth: certificate\" wants \"authorities\"");
	if (p->remote.addresses.nb == 0)
		for (size_t i = 0; i < p->nb_children; i++)
			if (p->children[i].start != POLICY_IKE_START_NONE)
				policy_reader_error(r, n, "bad-value",
				    "peer \"%s\": child \"%s\" cannot start towards addresses \"any\"",
				    p->name, p->children[i].name);
}

static void
read_document(struct policy_reader *r, const struct policy_node *doc, struct policy_ike *ike)
{
	struct policy_ike_peer peer = { .rekey_ns = 4 * 3600 * PK_NS_PER_S,
		.dpd_ns = 30 * PK_NS_PER_S,
		.keying_tries = 0,
		.fragmentation = POLICY_IKE_FRAGMENTATION_YES,
		.unique = POLICY_IKE_UNIQUE_REPLACE,
		.mobike = 1,
		.line = doc->line };
	unsigned int errors = r->errors;
	struct policy_ike_peer *new;

	r->key = "document";
	r->want = "a map with apiVersion, kind, metadata and spec";
	policy_schema_read(r, doc, &document_schema, &peer);
	if (r->errors == errors && !r->nomem)
		check_peer(r, doc, &peer);
	for (size_t i = 0; r->errors == errors && i < ike->peers.nb; i++)
		if (strcmp(ike->peers.at[i].name, peer.name) == 0)
			policy_reader_error(r, doc, "duplicate-name",
			    "there is a peer \"%s\" already, in line %u", peer.name,
			    ike->peers.at[i].line);
	if (r->errors != errors || r->nomem)
		return;
	new = POLICY_PUSH(&ike->peers);
	if (new == NULL)
		r->nomem = 1;
	else
		*new = peer;
}

int
policy_ike_read(struct policy_ike **out, const char *name, const char *text, size_t len,
    struct policy_findings *f)
{
	struct policy_ike *ike = calloc(1, sizeof(*ike));
	struct policy_arena nodes = { 0 };
	struct policy_reader r = { .findings = f, .file = name };
	struct policy_docs docs;
	int rc;

	if (ike == NULL)
		return -ENOMEM;
	r.arena = &ike->arena;
	rc = policy_yaml_parse(&ike->texts, &nodes, name, text, len, f, &docs);
	for (size_t i = 0; rc == 0 && i < docs.nb; i++)
		read_document(&r, docs.at[i], ike);
	policy_arena_fini(&nodes);
	if (rc == 0)
		rc = r.nomem ? -ENOMEM : r.errors > 0 ? -EINVAL : 0;
	if (rc == 0)
		*out = ike;
	else
		policy_ike_destroy(ike);
	return rc;
}

void
policy_ike_destroy(struct policy_ike *ike)
{
	if (ike == NULL)
		return;
	policy_arena_wipe(&ike->texts); /* secrets and keys may be among them */
	free(ike->peers.at);
	policy_arena_fini(&ike->arena);
	policy_arena_fini(&ike->texts);
	free(ike);
}

size_t
policy_ike_count(const struct policy_ike *ike)
{
	return ike->peers.nb;
}

const struct policy_ike_peer *
policy_ike_get(const struct policy_ike *ike, size_t i)
{
	PK_ASSERT(i < ike->peers.nb);
	return &ike->peers.at[i];
}
