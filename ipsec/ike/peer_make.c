#include "ipsec/ike/peer_make.h"

#include <config/child_cfg.h>

#include "ipsec/ike/convert.h"

/** Which IKE is offered where a peer says nothing: RFC 8247 and RFC 8221, without what they only allow */
#define IKE_PROPOSALS { \
	"aes256gcm16-aes128gcm16-chacha20poly1305-prfsha384-prfsha256-x25519-ecp384-ecp256", \
	"aes256-aes128-sha384-sha256-x25519-ecp384-ecp256", \
}
#define ESP_PROPOSALS { \
	"aes256gcm16-aes128gcm16-chacha20poly1305-x25519-ecp384-ecp256-esn-noesn", \
	"aes256-aes128-sha384-sha256-x25519-ecp384-ecp256-esn-noesn", \
}
#define JITTER_SHARE 10		/* lifetimes are cut by up to a tenth, so that ends do not rekey at once */

static void destroy_start(void *data, int idx, void *user)
{
	start_t *start = data;

	start->cfg->destroy(start->cfg);
	free(start);
}

void peer_destroy(peer_t *peer)
{
	array_destroy_function(peer->starts, destroy_start, NULL);
	peer->cfg->destroy(peer->cfg);
	free(peer);
}

static uint32_t seconds(uint64_t ns)
{
	return (uint32_t)(ns / PK_NS_PER_S);
}

static action_t to_action(uint8_t start)
{
	switch (start)
	{
		case POLICY_IKE_START_TRAP:
			return ACTION_TRAP;
		case POLICY_IKE_START_NOW:
			return ACTION_START;
		default:
			return ACTION_NONE;
	}
}

static dscp_copy_t to_copy(uint8_t copy)
{
	switch (copy)
	{
		case POLICY_IKE_COPY_OUT:
			return DSCP_COPY_OUT_ONLY;
		case POLICY_IKE_COPY_IN:
			return DSCP_COPY_IN_ONLY;
		case POLICY_IKE_COPY_BOTH:
			return DSCP_COPY_YES;
		default:
			return DSCP_COPY_NO;
	}
}

static fragmentation_t to_fragmentation(uint8_t fragmentation)
{
	switch (fragmentation)
	{
		case POLICY_IKE_FRAGMENTATION_YES:
			return FRAGMENTATION_YES;
		case POLICY_IKE_FRAGMENTATION_ACCEPT:
			return FRAGMENTATION_ACCEPT;
		default:
			return FRAGMENTATION_NO;
	}
}

static unique_policy_t to_unique(uint8_t unique)
{
	switch (unique)
	{
		case POLICY_IKE_UNIQUE_REPLACE:
			return UNIQUE_REPLACE;
		case POLICY_IKE_UNIQUE_KEEP:
			return UNIQUE_KEEP;
		default:
			return UNIQUE_NEVER;
	}
}

/**
 * Read proposals and hand each to add(), which takes it
 */
static bool add_proposals(const struct policy_ike_texts *texts, const struct policy_ike_texts *defaults,
						  protocol_id_t protocol, void *cfg, void (*add)(void *cfg, proposal_t *p),
						  struct pk_diag *diag)
{
	proposal_t *proposal;
	size_t i;

	if (!texts->nb)
	{
		texts = defaults;
	}
	for (i = 0; i < texts->nb; i++)
	{
		proposal = proposal_create_from_string(protocol, texts->at[i]);
		if (!proposal)
		{
			pk_diag_set(diag, "\"%.128s\" is no proposal for %s", texts->at[i],
						protocol == PROTO_IKE ? "IKE" : "ESP");
			return FALSE;
		}
		add(cfg, proposal);
	}
	return TRUE;
}

static void add_ike_proposal(void *cfg, proposal_t *proposal)
{
	((ike_cfg_t*)cfg)->add_proposal(cfg, proposal);
}

static void add_esp_proposal(void *cfg, proposal_t *proposal)
{
	((child_cfg_t*)cfg)->add_proposal(cfg, proposal);
}

static void add_selectors(child_cfg_t *cfg, const struct policy_ike_selectors *selectors, bool local)
{
	const struct policy_ike_selector *s;
	traffic_selector_t *ts;
	host_t *net;
	size_t i;

	for (i = 0; i < selectors->nb; i++)
	{
		s = &selectors->at[i];
		if (s->prefix.addr.family == 0)
		{
			ts = traffic_selector_create_dynamic(s->proto, s->low, s->high);
		}
		else
		{
			net = convert_addr(&s->prefix.addr, 0);
			ts = traffic_selector_create_from_subnet(net, s->prefix.len, s->proto, s->low, s->high);
		}
		cfg->add_traffic_selector(cfg, local, ts);
	}
}

static child_cfg_t *create_child(const struct policy_ike_child *child, struct pk_diag *diag)
{
	static const char *const defaults[] = ESP_PROPOSALS;
	const struct policy_ike_texts fallback = { (const char**)defaults, countof(defaults) };
	uint64_t life = child->life_ns ?: child->rekey_ns + child->rekey_ns / JITTER_SHARE;
	child_cfg_create_t data = {
		.mode = child->mode == POLICY_IKE_TRANSPORT ? MODE_TRANSPORT : MODE_TUNNEL,
		.tfc = child->tfc,
		.lifetime = {
			.time = {
				.rekey = seconds(child->rekey_ns),
				.life = seconds(life),
				.jitter = seconds(child->rekey_ns) / JITTER_SHARE,
			},
			.bytes = {
				.rekey = child->rekey_bytes,
				.life = child->life_bytes ?: child->rekey_bytes + child->rekey_bytes / JITTER_SHARE,
				.jitter = child->rekey_bytes / JITTER_SHARE,
			},
			.packets = {
				.rekey = child->rekey_packets,
				.life = child->life_packets ?:
								child->rekey_packets + child->rekey_packets / JITTER_SHARE,
				.jitter = child->rekey_packets / JITTER_SHARE,
			},
		},
		.inactivity = seconds(child->inactivity_ns),
		.dpd_action = to_action(child->on_dpd),
		.close_action = to_action(child->on_close),
		.copy_dscp = to_copy(child->copy_dscp),
	};
	child_cfg_t *cfg;

	if (!child->copy_df)
	{
		data.options |= OPT_NO_COPY_DF;
	}
	if (!child->copy_ecn)
	{
		data.options |= OPT_NO_COPY_ECN;
	}
	cfg = child_cfg_create((char*)child->name, &data);
	cfg->set_replay_window(cfg, child->replay_window);
	if (!add_proposals(&child->proposals, &fallback, PROTO_ESP, cfg, add_esp_proposal, diag))
	{
		cfg->destroy(cfg);
		return NULL;
	}
	add_selectors(cfg, &child->local, TRUE);
	add_selectors(cfg, &child->remote, FALSE);
	return cfg;
}

/**
 * "192.0.2.1, 198.51.100.0/24", or "%any"
 */
static void join_addresses(const struct policy_ike_texts *texts, char *buf, size_t len)
{
	size_t i, used = 0;

	snprintf(buf, len, "%%any");
	for (i = 0; i < texts->nb && used < len; i++)
	{
		used += snprintf(buf + used, len - used, "%s%s", i ? "," : "", texts->at[i]);
	}
}

static ike_cfg_t *create_ike(const struct policy_ike_peer *peer, struct pk_diag *diag)
{
	static const char *const defaults[] = IKE_PROPOSALS;
	const struct policy_ike_texts fallback = { (const char**)defaults, countof(defaults) };
	char local[64 * PK_PREFIX_TEXT], remote[64 * PK_PREFIX_TEXT];
	ike_cfg_create_t data = {
		.version = IKEV2,
		.local = local,
		.local_port = IKEV2_UDP_PORT,
		.remote = remote,
		.remote_port = IKEV2_UDP_PORT,
		.no_certreq = peer->remote.auth != POLICY_IKE_AUTH_CERTIFICATE,
		.force_encap = peer->encapsulate,
		.fragmentation = to_fragmentation(peer->fragmentation),
		.childless = CHILDLESS_ALLOW,
	};
	ike_cfg_t *cfg;

	join_addresses(&peer->local.addresses, local, sizeof(local));
	join_addresses(&peer->remote.addresses, remote, sizeof(remote));
	cfg = ike_cfg_create(&data);
	if (!add_proposals(&peer->proposals, &fallback, PROTO_IKE, cfg, add_ike_proposal, diag))
	{
		cfg->destroy(cfg);
		return NULL;
	}
	return cfg;
}

static auth_cfg_t *create_auth(const struct policy_ike_end *end)
{
	auth_cfg_t *auth = auth_cfg_create();

	auth->add(auth, AUTH_RULE_AUTH_CLASS, end->auth == POLICY_IKE_AUTH_CERTIFICATE ?
										AUTH_CLASS_PUBKEY : AUTH_CLASS_PSK);
	auth->add(auth, AUTH_RULE_IDENTITY, identification_create_from_string((char*)end->identity));
	return auth;
}

peer_t *peer_make(creds_t *creds, const struct policy_ike_peer *doc, struct pk_diag *diag)
{
	peer_cfg_create_t data = {
		.cert_policy = CERT_SEND_IF_ASKED,
		.unique = to_unique(doc->unique),
		.keyingtries = doc->keying_tries,
		.rekey_time = seconds(doc->rekey_ns),
		.reauth_time = seconds(doc->reauth_ns),
		.jitter_time = seconds(doc->rekey_ns ?: doc->reauth_ns) / JITTER_SHARE,
		.over_time = seconds(doc->rekey_ns ?: doc->reauth_ns) / JITTER_SHARE,
		.no_mobike = !doc->mobike,
		.dpd = seconds(doc->dpd_ns),
	};
	auth_cfg_t *local, *remote;
	child_cfg_t *child;
	ike_cfg_t *ike;
	start_t *start;
	peer_t *peer;
	size_t i;
	bool ok;

	ike = create_ike(doc, diag);
	if (!ike)
	{
		return NULL;
	}
	INIT(peer,
		.cfg = peer_cfg_create((char*)doc->name, ike, &data),
		.starts = array_create(0, 0),
	);
	local = create_auth(&doc->local);
	remote = create_auth(&doc->remote);
	ok = creds->add(creds, doc, local, remote, diag);
	peer->cfg->add_auth_cfg(peer->cfg, local, TRUE);
	peer->cfg->add_auth_cfg(peer->cfg, remote, FALSE);
	for (i = 0; ok && i < doc->nb_children; i++)
	{
		child = create_child(&doc->children[i], diag);
		if (!child)
		{
			ok = FALSE;
			break;
		}
		INIT(start,
			.cfg = child->get_ref(child),
			.start = doc->children[i].start,
		);
		array_insert(peer->starts, ARRAY_TAIL, start);
		peer->cfg->add_child_cfg(peer->cfg, child);
	}
	if (!ok)
	{
		peer_destroy(peer);
		return NULL;
	}
	return peer;
}
