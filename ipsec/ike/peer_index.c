#include "ipsec/ike/peer_index.h"

#include <collections/hashtable.h>

#include "ipsec/ike/convert.h"
#include "ipsec/ike/peer_make.h"

typedef struct index_t index_t;

/**
 * Peers by one kind of key
 */
struct index_t {
	hashtable_t *exact;		/* key => linked_list_t of peer_t */
	linked_list_t *patterns;	/* peer_t */
	array_t *keys;			/* of exact, owned */
	void (*destroy_key)(void *key);
};

struct peer_index_t {
	index_t *by_identity, *by_address;
};

static u_int identity_hash(const void *key)
{
	identification_t *id = (identification_t*)key;

	return id->hash(id, 0);
}

static bool identity_equals(const void *a, const void *b)
{
	identification_t *id = (identification_t*)a;

	return id->equals(id, (identification_t*)b);
}

static u_int address_hash(const void *key)
{
	return chunk_hash(chunk_create((u_char*)key, sizeof(struct pk_addr)));
}

static bool address_equals(const void *a, const void *b)
{
	return memeq(a, b, sizeof(struct pk_addr));
}

static void destroy_identity(void *key)
{
	identification_t *id = key;

	id->destroy(id);
}

static index_t *index_create(hashtable_hash_t hash, hashtable_equals_t equals,
							 void (*destroy_key)(void *key))
{
	index_t *index;

	INIT(index,
		.exact = hashtable_create(hash, equals, 64),
		.patterns = linked_list_create(),
		.keys = array_create(0, 0),
		.destroy_key = destroy_key,
	);
	return index;
}

/**
 * Add a peer under a key, which is taken
 */
static void index_add(index_t *index, void *key, peer_t *peer)
{
	linked_list_t *list = index->exact->get(index->exact, key);

	array_insert(index->keys, ARRAY_TAIL, key);
	if (!list)
	{
		list = linked_list_create();
		index->exact->put(index->exact, key, list);
	}
	list->insert_last(list, peer);
}

static void index_destroy(index_t *index)
{
	enumerator_t *enumerator;
	linked_list_t *list;
	void *key;

	enumerator = index->exact->create_enumerator(index->exact);
	while (enumerator->enumerate(enumerator, NULL, &list))
	{
		list->destroy(list);
	}
	enumerator->destroy(enumerator);
	index->exact->destroy(index->exact);
	index->patterns->destroy(index->patterns);
	while (array_remove(index->keys, ARRAY_HEAD, &key))
	{
		index->destroy_key(key);
	}
	array_destroy(index->keys);
	free(index);
}

static void append_all(array_t *peers, linked_list_t *list)
{
	enumerator_t *enumerator;
	peer_t *peer;

	enumerator = list->create_enumerator(list);
	while (enumerator->enumerate(enumerator, &peer))
	{
		array_insert(peers, ARRAY_TAIL, peer);
	}
	enumerator->destroy(enumerator);
}

/**
 * Peers of a key, then those of patterns
 */
static enumerator_t *index_enumerate(index_t *index, const void *key)
{
	linked_list_t *list = index->exact->get(index->exact, key);
	array_t *peers = array_create(0, 0);

	if (list)
	{
		append_all(peers, list);
	}
	append_all(peers, index->patterns);
	return enumerator_create_cleaner(array_create_enumerator(peers), (void*)array_destroy, peers);
}

/**
 * Enter a peer by what its configuration says of the other end
 */
static void index_peer(index_t *by_identity, index_t *by_address, peer_t *peer)
{
	ike_cfg_t *ike = peer->cfg->get_ike_cfg(peer->cfg);
	enumerator_t *enumerator;
	identification_t *id;
	struct pk_addr *addr;
	auth_cfg_t *auth;
	char *all, *text;
	host_t *host;
	bool pattern = FALSE;

	enumerator = peer->cfg->create_auth_cfg_enumerator(peer->cfg, FALSE);
	if (enumerator->enumerate(enumerator, &auth))
	{
		id = auth->get(auth, AUTH_RULE_IDENTITY);
		if (!id || id->contains_wildcards(id))
		{
			by_identity->patterns->insert_last(by_identity->patterns, peer);
		}
		else
		{
			index_add(by_identity, id->clone(id), peer);
		}
	}
	enumerator->destroy(enumerator);

	all = ike->get_other_addr(ike);
	enumerator = enumerator_create_token(all, ",", " ");
	while (enumerator->enumerate(enumerator, &text))
	{
		host = strchr(text, '/') ? NULL : host_create_from_string(text, 0);
		if (host && !host->is_anyaddr(host))
		{
			addr = malloc_thing(struct pk_addr);
			*addr = convert_host(host);
			index_add(by_address, addr, peer);
		}
		else
		{
			pattern = TRUE;
		}
		DESTROY_IF(host);
	}
	enumerator->destroy(enumerator);
	if (pattern)
	{
		by_address->patterns->insert_last(by_address->patterns, peer);
	}
}

peer_index_t *peer_index_create(linked_list_t *peers)
{
	enumerator_t *enumerator;
	peer_index_t *this;
	peer_t *peer;

	INIT(this,
		.by_identity = index_create(identity_hash, identity_equals, destroy_identity),
		.by_address = index_create(address_hash, address_equals, free),
	);
	enumerator = peers->create_enumerator(peers);
	while (enumerator->enumerate(enumerator, &peer))
	{
		index_peer(this->by_identity, this->by_address, peer);
	}
	enumerator->destroy(enumerator);
	return this;
}

enumerator_t *peer_index_by_identity(peer_index_t *this, identification_t *other)
{
	return index_enumerate(this->by_identity, other);
}

enumerator_t *peer_index_by_address(peer_index_t *this, host_t *other)
{
	struct pk_addr addr = convert_host(other);

	return index_enumerate(this->by_address, &addr);
}

void peer_index_destroy(peer_index_t *this)
{
	index_destroy(this->by_identity);
	index_destroy(this->by_address);
	free(this);
}
