#include "ipsec/ike/peers.h"

#include <collections/array.h>
#include <collections/hashtable.h>
#include <config/backend.h>
#include <control/controller.h>
#include <processing/jobs/callback_job.h>
#include <threading/mutex.h>
#include <threading/rwlock.h>

#include "ipsec/ike/creds.h"
#include "ipsec/ike/peer_index.h"
#include "ipsec/ike/peer_make.h"

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
	peer_index_t *index;
	creds_t *creds;
};

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
		peer = peer_make(creds, doc, &why);
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
		peer_index_destroy(this->index);
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
				peer_destroy(peer);
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
		this->index = peer_index_create(this->peers);
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
	peers->destroy_function(peers, (void*)peer_destroy);
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

static private_peers_t *of_backend(backend_t *backend)
{
	return (private_peers_t*)((char*)backend - offsetof(private_peers_t, backend));
}

/**
 * Over what a filter makes of peers; the lock, which is held, goes with the enumerator
 */
static enumerator_t *enumerate(private_peers_t *this, enumerator_t *peers, void *filter)
{
	return enumerator_create_filter(peers, filter, this->lock, (void*)this->lock->unlock);
}

METHOD(backend_t, create_ike_cfg_enumerator, enumerator_t*,
	backend_t *backend, host_t *me, host_t *other)
{
	private_peers_t *this = of_backend(backend);

	this->lock->read_lock(this->lock);
	return enumerate(this, other ? peer_index_by_address(this->index, other) :
						this->peers->create_enumerator(this->peers), ike_filter);
}

METHOD(backend_t, create_peer_cfg_enumerator, enumerator_t*,
	backend_t *backend, identification_t *me, identification_t *other)
{
	private_peers_t *this = of_backend(backend);
	bool known = other && other->get_type(other) != ID_ANY;

	this->lock->read_lock(this->lock);
	return enumerate(this, known ? peer_index_by_identity(this->index, other) :
						this->peers->create_enumerator(this->peers), peer_filter);
}

METHOD(backend_t, get_peer_cfg_by_name, peer_cfg_t*,
	backend_t *backend, char *name)
{
	private_peers_t *this = of_backend(backend);
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
	peer_index_destroy(this->index);
	this->peers->destroy_function(this->peers, (void*)peer_destroy);
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
	this->index = peer_index_create(this->peers);
	charon->backends->add_backend(charon->backends, &this->backend);
	return &this->public;
}
