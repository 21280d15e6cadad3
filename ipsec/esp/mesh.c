#include "ipsec/esp/mesh.h"

#include <errno.h>

#include "ipsec/esp/sad_priv.h"
#include "lib/secret.h"

#define BATCH 32

static void
describe(struct pk_sadb_add_sa *a, const struct esp_mesh_peer *peer, bool out, uint32_t spi)
{
	a->id.src = out ? peer->us : peer->addr;
	a->id.dst = out ? peer->addr : peer->us;
	a->id.spi = spi;
	a->reqid = ESP_MESH_REQID | peer->number;
	a->direction = out ? PK_SADB_OUT : PK_SADB_IN;
	a->replay_window = out ? 0 : ESP_MESH_WINDOW;
	a->wire = peer->wire;
	a->vrf = peer->vrf;
}

static void
begin(struct pk_sadb_add_sa *a)
{
	memset(a, 0, sizeof(*a));
	a->mode = PK_SADB_TUNNEL;
	a->flags = PK_SADB_ESN;
	a->encr = 20; /* ENCR_AES_GCM_16 */
	a->encr_bits = 256;
	a->encr_key_len = PK_MESH_SA_KEY;
}

int
esp_mesh_receive(struct esp_sad *sad, struct pk_mesh_kdf *kdf,
    const struct esp_mesh_peer *const *peer, const uint32_t *spi, uint32_t *index, unsigned int n,
    uint64_t now_ns, struct pk_diag *diag)
{
	uint8_t key[BATCH][PK_MESH_SA_KEY];
	struct pk_sadb_add_sa a;
	struct pk_diag why;
	int rc = 0;

	begin(&a);
	for (unsigned int at = 0; at < n; at += BATCH) {
		unsigned int nb = PK_MIN(n - at, (unsigned int)BATCH);

		pk_mesh_kdf_derive(kdf, spi + at, nb, key);
		for (unsigned int i = 0; i < nb; i++) {
			int error;

			describe(&a, peer[at + i], false, spi[at + i]);
			memcpy(a.encr_key, key[i], PK_MESH_SA_KEY);
			error = esp_sad_add(sad, &a, now_ns, rc == 0 ? diag : &why);
			index[at + i] = error == 0
			    ? atomic_load_explicit(
			          esp_mesh_slot(sad, spi[at + i]), memory_order_relaxed)
			    : ESP_SA_NONE;
			rc = rc != 0 ? rc : error;
		}
	}
	pk_wipe(key, sizeof(key));
	pk_wipe(&a, sizeof(a));
	return rc;
}

int
esp_mesh_send(struct esp_sad *sad, const struct esp_mesh_peer *peer, uint32_t spi,
    const uint8_t key[PK_MESH_SA_KEY], uint64_t now_ns, uint32_t *index, struct pk_diag *diag)
{
	struct pk_sadb_add_sa a;
	int rc;

	begin(&a);
	describe(&a, peer, true, spi);
	memcpy(a.encr_key, key, PK_MESH_SA_KEY);
	rc = esp_sad_add(sad, &a, now_ns, diag);
	pk_wipe(&a, sizeof(a));
	*index = rc == 0 ? esp_sad_find_out(sad, &peer->addr, spi) : ESP_SA_NONE;
	return rc;
}

void
esp_mesh_switch(struct esp_sad *sad, uint32_t number, uint32_t index)
{
	struct tunnel *t = esp_tunnel_find(sad, ESP_MESH_REQID | number);

	if (t != NULL)
		atomic_store_explicit(&t->out, index, memory_order_release);
}

void
esp_mesh_end(struct esp_sad *sad, uint32_t index)
{
	PK_ASSERT(index < sad->nb && sad->cold[index].reqid >= ESP_MESH_REQID);
	esp_sad_retire(sad, index);
}

uint32_t
esp_mesh_tunnel(struct esp_sad *sad, uint32_t number)
{
	const struct tunnel *t = esp_tunnel_find(sad, ESP_MESH_REQID | number);

	return t != NULL ? esp_tunnel_number(t) : ESP_TUNNEL_NONE;
}
