/*
 * Peers found by the identity or the address of the other end.
 *
 * An IKE_SA_INIT and an IKE_AUTH each look for their peer, so going through all of them is what thousands of peers cannot
 * afford.  Those whose identity or address is a pattern match whoever comes, and are always looked at.
 */
#ifndef PEER_INDEX_H_
#define PEER_INDEX_H_

#include "ipsec/ike/swan.h"

#include <collections/linked_list.h>

typedef struct peer_index_t peer_index_t;

/**
 * Make an index of peers, which stay the caller's, longer than the index.
 *
 * @param peers		peer_t
 */
peer_index_t *peer_index_create(linked_list_t *peers);

/**
 * Enumerate the peers that may have this identity, or address, over peer_t*: exact ones first.
 */
enumerator_t *peer_index_by_identity(peer_index_t *index, identification_t *other);
enumerator_t *peer_index_by_address(peer_index_t *index, host_t *other);

void peer_index_destroy(peer_index_t *index);

#endif /* PEER_INDEX_H_ */
