#include "ipsec/ike/peers.h"

#include <collections/array.h>
#include <collections/hashtable.h>
#include <config/backend.h>
#include <control/controller.h>
#include <processing/jobs/callback_job.h>
#include <threading/mutex.h>
#include <threading/rwlock.h>

#include "ipsec/ike/convert.h"
#include "ipsec/ike/creds.h"

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

#define SWAP(a, b) ({ typeof(a) c = (a); (a) = (b); (b) = c; })

typedef struct private_peers_t private_peers_t;

struct private_peers_t {
	peers_t public;
	backend_t backend;
	char *dir;
	/** one replacement at a time */
	mutex_t *replacing;
	/** guards all below */
	rwlock_t *lock;
	hashtable_t *by_name;		/* char* => peer_t */
	linked_list_t *peers;		/* peer_t, owned, in order of the text */
	creds_t *creds;
};

/**
 * A peer as libcharon has it, and how its children begin
 */
typedef struct {
	peer_cfg_t *cfg;
	array_t *starts;		/* start_t */
} peer_t;

typedef struct {
	child_cfg_t *cfg;
	enum policy_ike_start start;
} start_t;

static void destroy_start(void *data, int idx, void *user)
{
	start_t *start = data;

	start->cfg->destroy(start->cfg);
	free(start);
}

static void destroy_peer(peer_t *peer)
{
	array_destroy_function(peer->starts, destroy_start, NULL);
	peer->cfg->destroy(peer->cfg);
	free(peer);
}

/* ---- from documents to libcharon's objects ------------------------------------------------------------ */

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

static peer_t *create_peer(creds_t *creds, const struct policy_ike_peer *doc, struct pk_diag *diag)
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
		destroy_peer(peer);
		return NULL;
	}
	return peer;
}

/**
 * Whether SAs of one may go on as those of the other
 */
static bool same_peer(peer_t *a, peer_t *b)
{
	ike_cfg_t *ike_a = a->cfg->get_ike_cfg(a->cfg), *ike_b = b->cfg->get_ike_cfg(b->cfg);
	start_t *child_a, *child_b;
	int i;

	if (!a->cfg->equals(a->cfg, b->cfg) || !ike_a->equals(ike_a, ike_b) ||
		array_count(a->starts) != array_count(b->starts))
	{
		return FALSE;
	}
	for (i = 0; i < array_count(a->starts); i++)
	{
		array_get(a->starts, i, &child_a);
		array_get(b->starts, i, &child_b);
		if (child_a->start != child_b->start ||
			!streq(child_a->cfg->get_name(child_a->cfg), child_b->cfg->get_name(child_b->cfg)) ||
			!child_a->cfg->equals(child_a->cfg, child_b->cfg))
		{
			return FALSE;
		}
	}
	return TRUE;
}

/* ---- SAs of peers that go ----------------------------------------------------------------------------- */

static void uninstall_traps(peer_t *peer)
{
	start_t *start;
	int i;

	for (i = 0; i < array_count(peer->starts); i++)
	{
		array_get(peer->starts, i, &start);
		if (start->start == POLICY_IKE_START_TRAP)
		{
			charon->traps->uninstall(charon->traps, peer->cfg->get_name(peer->cfg),
									 start->cfg->get_name(start->cfg));
		}
	}
}

/**
 * End the IKE SAs of all peers whose names are in a table
 */
static void terminate(hashtable_t *names)
{
	array_t *ids = array_create(sizeof(uint32_t), 0);
	enumerator_t *enumerator;
	ike_sa_t *ike_sa;
	uint32_t id;

	enumerator = charon->controller->create_ike_sa_enumerator(charon->controller, TRUE);
	while (enumerator->enumerate(enumerator, &ike_sa))
	{
		if (names->get(names, ike_sa->get_name(ike_sa)))
		{
			id = ike_sa->get_unique_id(ike_sa);
			array_insert(ids, ARRAY_TAIL, &id);
		}
	}
	enumerator->destroy(enumerator);
	while (array_remove(ids, ARRAY_HEAD, &id))
	{
		charon->controller->terminate_ike(charon->controller, id, FALSE, NULL, NULL, 0);
	}
	array_destroy(ids);
}

/* ---- peers_t ------------------------------------------------------------------------------------------ */

static hashtable_t *create_names()
{
	return hashtable_create(hashtable_hash_str, hashtable_equals_str, 64);
}

METHOD(peers_t, replace, bool,
	private_peers_t *this, const struct policy_ike *ike, peers_change_t *change, struct pk_diag *diag)
{
	hashtable_t *by_name = create_names(), *ending = create_names();
	linked_list_t *peers = linked_list_create();
	creds_t *creds = creds_create(this->dir);
	const struct policy_ike_peer *doc;
	enumerator_t *enumerator;
	peer_t *peer, *other;
	struct pk_diag why;
	bool ok = TRUE;
	char *name;
	size_t i;

	memset(change, 0, sizeof(*change));
	for (i = 0; ok && i < policy_ike_count(ike); i++)
	{
		doc = policy_ike_get(ike, i);
		peer = create_peer(creds, doc, &why);
		if (!peer)
		{
			pk_diag_set(diag, "peer \"%s\": %s", doc->name, why.text);
			ok = FALSE;
			break;
		}
		peers->insert_last(peers, peer);
		by_name->put(by_name, peer->cfg->get_name(peer->cfg), peer);
	}
	this->replacing->lock(this->replacing);
	if (ok)
	{
		creds->enable(creds, TRUE);
		this->lock->write_lock(this->lock);
		enumerator = this->peers->create_enumerator(this->peers);
		while (enumerator->enumerate(enumerator, &other))
		{
			name = other->cfg->get_name(other->cfg);
			peer = by_name->get(by_name, name);
			if (peer && same_peer(other, peer))
			{	/* the old object goes on, since its SAs point to it */
				change->kept++;
				this->peers->remove_at(this->peers, enumerator);
				peers->remove(peers, peer, NULL);
				by_name->remove(by_name, name);
				destroy_peer(peer);
				peers->insert_last(peers, other);
				by_name->put(by_name, name, other);
				continue;
			}
			*(peer ? &change->changed : &change->removed) += 1;
			ending->put(ending, name, other);
		}
		enumerator->destroy(enumerator);
		change->added = policy_ike_count(ike) - change->kept - change->changed;
		/* what was in force is in our hands now, and to be undone */
		SWAP(this->by_name, by_name);
		SWAP(this->peers, peers);
		SWAP(this->creds, creds);
		this->lock->unlock(this->lock);

		enumerator = peers->create_enumerator(peers);
		while (enumerator->enumerate(enumerator, &other))
		{
			uninstall_traps(other);
		}
		enumerator->destroy(enumerator);
		if (ending->get_count(ending))
		{
			terminate(ending);
		}
	}
	this->replacing->unlock(this->replacing);
	ending->destroy(ending);
	by_name->destroy(by_name);
	peers->destroy_function(peers, (void*)destroy_peer);
	if (creds)
	{
		creds->destroy(creds);
	}
	return ok;
}

/**
 * Configurations that have an IKE SA, of whatever state.  Those of peers that have just been changed are others than the
 * ones in force now, though of the same name.
 */
static hashtable_t *configs_with_sa()
{
	hashtable_t *configs = hashtable_create(hashtable_hash_ptr, hashtable_equals_ptr, 64);
	enumerator_t *enumerator;
	ike_sa_t *ike_sa;
	peer_cfg_t *cfg;

	enumerator = charon->controller->create_ike_sa_enumerator(charon->controller, TRUE);
	while (enumerator->enumerate(enumerator, &ike_sa))
	{
		cfg = ike_sa->get_peer_cfg(ike_sa);
		if (cfg)
		{
			configs->put(configs, cfg, cfg);
		}
	}
	enumerator->destroy(enumerator);
	return configs;
}

/**
 * A peer to begin with, on one of libcharon's threads
 */
typedef struct {
	peer_cfg_t *cfg;
	array_t *children;		/* child_cfg_t */
	/** whether an IKE SA may be there; looking for it goes through all there are */
	bool reuse;
} begin_t;

static void destroy_child(void *data, int idx, void *user)
{
	child_cfg_t *child = data;

	child->destroy(child);
}

CALLBACK(destroy_begin, void,
	begin_t *this)
{
	array_destroy_function(this->children, destroy_child, NULL);
	this->cfg->destroy(this->cfg);
	free(this);
}

/**
 * All children of a peer on one IKE SA: the first begins it, the others wait for it to be established
 */
CALLBACK(begin_peer, job_requeue_t,
	begin_t *this)
{
	ike_sa_manager_t *manager = charon->ike_sa_manager;
	child_cfg_t *child;
	ike_sa_t *ike_sa;

	if (this->reuse)
	{
		ike_sa = manager->checkout_by_config(manager, this->cfg);
	}
	else
	{
		ike_sa = manager->create_new(manager, IKEV2, TRUE);
		if (ike_sa)
		{
			ike_sa->set_peer_cfg(ike_sa, this->cfg);
			manager->checkout_new(manager, ike_sa);
			charon->bus->set_sa(charon->bus, ike_sa);
		}
	}
	if (!ike_sa)
	{
		return JOB_REQUEUE_NONE;
	}
	while (array_remove(this->children, ARRAY_HEAD, &child))
	{
		if (ike_sa->initiate(ike_sa, child, NULL) != SUCCESS)
		{
			manager->checkin_and_destroy(manager, ike_sa);
			return JOB_REQUEUE_NONE;
		}
	}
	manager->checkin(manager, ike_sa);
	return JOB_REQUEUE_NONE;
}

/**
 * Queue the beginning of those children of a peer that a function names; read lock held.  Returns how many.
 */
static int queue_begin(peer_t *peer, bool (*wanted)(start_t *start, const char *name),
					   const char *name, bool reuse)
{
	child_cfg_t *child;
	begin_t *begin;
	start_t *start;
	int i, count;

	INIT(begin,
		.cfg = peer->cfg->get_ref(peer->cfg),
		.children = array_create(0, 0),
		.reuse = reuse,
	);
	for (i = 0; i < array_count(peer->starts); i++)
	{
		array_get(peer->starts, i, &start);
		if (wanted(start, name))
		{
			child = start->cfg->get_ref(start->cfg);
			array_insert(begin->children, ARRAY_TAIL, child);
		}
	}
	count = array_count(begin->children);
	if (!count)
	{
		destroy_begin(begin);
		return 0;
	}
	lib->processor->queue_job(lib->processor,
						(job_t*)callback_job_create(begin_peer, begin, destroy_begin, NULL));
	return count;
}

static bool starts_now(start_t *start, const char *unused)
{
	return start->start == POLICY_IKE_START_NOW;
}

static bool is_named(start_t *start, const char *name)
{
	return !name || streq(name, start->cfg->get_name(start->cfg));
}

METHOD(peers_t, start, void,
	private_peers_t *this)
{
	hashtable_t *busy = configs_with_sa();
	enumerator_t *enumerator;
	start_t *start;
	peer_t *peer;
	int i;

	this->lock->read_lock(this->lock);
	enumerator = this->peers->create_enumerator(this->peers);
	while (enumerator->enumerate(enumerator, &peer))
	{
		for (i = 0; i < array_count(peer->starts); i++)
		{
			array_get(peer->starts, i, &start);
			if (start->start == POLICY_IKE_START_TRAP)
			{	/* says FALSE if it is there already */
				charon->traps->install(charon->traps, peer->cfg, start->cfg);
			}
		}
		if (!busy->get(busy, peer->cfg))
		{
			queue_begin(peer, starts_now, NULL, FALSE);
		}
	}
	enumerator->destroy(enumerator);
	this->lock->unlock(this->lock);
	busy->destroy(busy);
}

METHOD(peers_t, initiate, int,
	private_peers_t *this, const char *name, const char *child)
{
	int begun = 0;
	peer_t *peer;

	this->lock->read_lock(this->lock);
	peer = this->by_name->get(this->by_name, name);
	if (peer)
	{
		begun = queue_begin(peer, is_named, child, TRUE);
	}
	this->lock->unlock(this->lock);
	return begun;
}

METHOD(peers_t, get_count, size_t,
	private_peers_t *this)
{
	size_t count;

	this->lock->read_lock(this->lock);
	count = this->peers->get_count(this->peers);
	this->lock->unlock(this->lock);
	return count;
}

/* ---- backend_t ---------------------------------------------------------------------------------------- */

CALLBACK(ike_filter, bool,
	void *unused, enumerator_t *orig, va_list args)
{
	ike_cfg_t **out;
	peer_t *peer;

	VA_ARGS_VGET(args, out);
	if (!orig->enumerate(orig, &peer))
	{
		return FALSE;
	}
	*out = peer->cfg->get_ike_cfg(peer->cfg);
	return TRUE;
}

CALLBACK(peer_filter, bool,
	void *unused, enumerator_t *orig, va_list args)
{
	peer_cfg_t **out;
	peer_t *peer;

	VA_ARGS_VGET(args, out);
	if (!orig->enumerate(orig, &peer))
	{
		return FALSE;
	}
	*out = peer->cfg;
	return TRUE;
}

static enumerator_t *enumerate(backend_t *backend, void *filter)
{
	private_peers_t *this = (private_peers_t*)((char*)backend - offsetof(private_peers_t, backend));

	this->lock->read_lock(this->lock);
	return enumerator_create_filter(this->peers->create_enumerator(this->peers), filter,
									this->lock, (void*)this->lock->unlock);
}

METHOD(backend_t, create_ike_cfg_enumerator, enumerator_t*,
	backend_t *this, host_t *me, host_t *other)
{
	return enumerate(this, ike_filter);
}

METHOD(backend_t, create_peer_cfg_enumerator, enumerator_t*,
	backend_t *this, identification_t *me, identification_t *other)
{
	return enumerate(this, peer_filter);
}

METHOD(backend_t, get_peer_cfg_by_name, peer_cfg_t*,
	backend_t *backend, char *name)
{
	private_peers_t *this = (private_peers_t*)((char*)backend - offsetof(private_peers_t, backend));
	peer_cfg_t *cfg = NULL;
	peer_t *peer;

	this->lock->read_lock(this->lock);
	peer = this->by_name->get(this->by_name, name);
	if (peer)
	{
		cfg = peer->cfg->get_ref(peer->cfg);
	}
	this->lock->unlock(this->lock);
	return cfg;
}

METHOD(peers_t, destroy, void,
	private_peers_t *this)
{
	charon->backends->remove_backend(charon->backends, &this->backend);
	this->by_name->destroy(this->by_name);
	this->peers->destroy_function(this->peers, (void*)destroy_peer);
	if (this->creds)
	{
		this->creds->destroy(this->creds);
	}
	this->replacing->destroy(this->replacing);
	this->lock->destroy(this->lock);
	free(this->dir);
	free(this);
}

peers_t *peers_create(const char *dir)
{
	private_peers_t *this;

	INIT(this,
		.public = {
			.replace = _replace,
			.start = _start,
			.initiate = _initiate,
			.get_count = _get_count,
			.destroy = _destroy,
		},
		.backend = {
			.create_ike_cfg_enumerator = _create_ike_cfg_enumerator,
			.create_peer_cfg_enumerator = _create_peer_cfg_enumerator,
			.get_peer_cfg_by_name = _get_peer_cfg_by_name,
		},
		.dir = strdup(dir),
		.replacing = mutex_create(MUTEX_TYPE_DEFAULT),
		.lock = rwlock_create(RWLOCK_TYPE_DEFAULT),
		.by_name = create_names(),
		.peers = linked_list_create(),
	);
	charon->backends->add_backend(charon->backends, &this->backend);
	return &this->public;
}
