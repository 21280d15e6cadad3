#include "ipsec/ike/swan.h"

#include "ipsec/ike/resync.h"

#include <collections/array.h>
#include <control/controller.h>

#include "ipsec/ike/kernel_sadb.h"

/**
 * Rekey all CHILD SAs, since picketd has forgotten them, and they cannot go on with numbers used before
 */
static void rekey_all()
{
	typedef struct {
		uint32_t ike, spi;
	} child_id_t;
	array_t *ids = array_create(sizeof(child_id_t), 0);
	enumerator_t *enumerator, *children;
	child_sa_t *child;
	ike_sa_t *ike_sa;
	child_id_t id;

	enumerator = charon->controller->create_ike_sa_enumerator(charon->controller, TRUE);
	while (enumerator->enumerate(enumerator, &ike_sa))
	{
		children = ike_sa->create_child_sa_enumerator(ike_sa);
		while (children->enumerate(children, &child))
		{
			id = (child_id_t){ ike_sa->get_unique_id(ike_sa), child->get_spi(child, TRUE) };
			array_insert(ids, ARRAY_TAIL, &id);
		}
		children->destroy(children);
	}
	enumerator->destroy(enumerator);
	while (array_remove(ids, ARRAY_HEAD, &id))
	{
		ike_sa = charon->ike_sa_manager->checkout_by_id(charon->ike_sa_manager, id.ike);
		if (ike_sa && ike_sa->rekey_child_sa(ike_sa, PROTO_ESP, id.spi) == DESTROY_ME)
		{
			charon->ike_sa_manager->checkin_and_destroy(charon->ike_sa_manager, ike_sa);
		}
		else if (ike_sa)
		{
			charon->ike_sa_manager->checkin(charon->ike_sa_manager, ike_sa);
		}
	}
	array_destroy(ids);
}

void resync()
{
	kernel_sadb_resync();
	rekey_all();
}
