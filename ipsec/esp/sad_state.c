#include <errno.h>

#include "ipsec/esp/esp_priv.h"
#include "ipsec/esp/sad_priv.h"

#define TOLD_SOFT (1u << 0)
#define TOLD_HARD (1u << 1)

#define LOAD(a) atomic_load_explicit(&(a), memory_order_relaxed)

/* What an SA has carried.  Numbers that were taken and not sent, at the very end, are left out. */
static void
carried(const struct esp_sad *sad, uint32_t i, uint64_t *packets, uint64_t *bytes, uint64_t *seq)
{
	const struct esp_sa *sa = &sad->sa[i];

	*bytes = PK_MIN(LOAD(sa->bytes), sa->hard_bytes);
	if ((sa->flags & ESP_SA_OUT) != 0) {
		*seq = PK_MIN(LOAD(sa->seq), sa->seq_max);
		*packets = *seq - sad->cold[i].start_seq;
	} else {
		*seq = LOAD(sa->replay.top);
		*packets = LOAD(sa->packets);
	}
}

int
esp_sad_query(struct esp_sad *sad, const struct pk_sadb_id *id, uint64_t now_ns,
    struct pk_sadb_answer *out, struct pk_diag *diag)
{
	uint32_t i = esp_sad_find(sad, id);
	uint64_t used;

	if (i == ESP_SA_NONE || LOAD(sad->sa[i].state) == ESP_STATE_LARVAL)
		return esp_sad_no_such(id, diag);
	carried(sad, i, &out->packets, &out->bytes, &out->seq);
	used = LOAD(sad->sa[i].used_ns);
	out->idle_ns = used == 0 ? UINT64_MAX : now_ns > used ? now_ns - used : 0;
	return 0;
}

int
esp_sad_next(const struct esp_sad *sad, uint32_t *cursor, uint64_t now_ns, struct esp_sa_info *out)
{
	for (uint32_t i = PK_MAX(*cursor, 1u); i < sad->fresh; i++) {
		const struct esp_sa *sa = &sad->sa[i];
		const struct cold *c = &sad->cold[i];
		uint32_t state = LOAD(sa->state);
		const struct esp_sa *current;
		uint64_t used = LOAD(sa->used_ns);

		if (state == ESP_STATE_FREE)
			continue;
		*cursor = i + 1;
		current = esp_sad_tunnel_sa(sad, sa->tunnel);
		*out = (struct esp_sa_info){ .id = c->id,
			.index = i,
			.reqid = c->reqid,
			.state = state,
			.wire = sa->wire,
			.vrf = sa->vrf,
			.direction = c->direction,
			.mode = (sa->flags & ESP_SA_TUNNEL) != 0 ? PK_SADB_TUNNEL
			                                         : PK_SADB_TRANSPORT,
			.alg = sa->alg,
			.esn = (sa->flags & ESP_SA_ESN) != 0,
			.encap = (sa->flags & ESP_SA_ENCAP) != 0,
			.current = current == sa,
			.sport = c->sport,
			.dport = c->dport,
			.replay_window = c->window,
			.mtu = LOAD(sa->mtu),
			.refused = LOAD(sa->refused),
			.idle_ns = used == 0 ? UINT64_MAX
			    : now_ns > used  ? now_ns - used
			                     : 0,
			.age_ns = now_ns - c->born_ns,
			.life = c->life };
		if (state != ESP_STATE_LARVAL)
			carried(sad, i, &out->packets, &out->bytes, &out->seq);
		return 0;
	}
	return -ENOENT;
}

uint32_t
esp_sad_count(const struct esp_sad *sad)
{
	return sad->nb_used;
}

uint32_t
esp_sad_capacity(const struct esp_sad *sad)
{
	return sad->nb - 1;
}

size_t
esp_sad_bytes(const struct esp_sad *sad)
{
	return sad->sa_bytes + sad->cold_bytes + sad->tunnel_bytes + ipsec_keys_bytes(sad->keys);
}

/* ---- lifetimes ---- */

/* The end that has come, soft (hard false) or hard; 0: none. */
static enum pk_sadb_expire_what
over(const struct esp_sad *sad, uint32_t i, bool hard, uint64_t now_ns)
{
	const struct esp_sa *sa = &sad->sa[i];
	const struct cold *c = &sad->cold[i];
	const struct pk_sadb_life *l = &c->life;
	uint64_t ns = hard ? l->hard_ns : l->soft_ns, bytes = hard ? l->hard_bytes : l->soft_bytes;
	uint64_t packets = hard ? l->hard_packets : l->soft_packets, has;
	bool out = (sa->flags & ESP_SA_OUT) != 0;

	if (ns != 0 && now_ns - c->born_ns >= ns)
		return PK_SADB_EXPIRE_TIME;
	if (bytes != 0 && LOAD(sa->bytes) >= bytes)
		return PK_SADB_EXPIRE_BYTES;
	has = out ? LOAD(sa->seq) - c->start_seq : LOAD(sa->packets);
	if (packets != 0 && has >= packets)
		return PK_SADB_EXPIRE_PACKETS;
	if (out) {
		uint64_t last = (sa->flags & ESP_SA_ESN) != 0 ? UINT64_MAX : UINT32_MAX;

		if (LOAD(sa->seq) >= (hard ? last : last / 4 * 3))
			return PK_SADB_EXPIRE_SEQ;
	}
	return 0;
}

static void
tell_expired(const struct esp_sad *sad, uint32_t i, bool hard, enum pk_sadb_expire_what what,
    const struct esp_sad_events *events)
{
	const struct cold *c = &sad->cold[i];
	struct pk_sadb_expire e = { .id = c->id,
		.reqid = c->reqid,
		.hard = hard,
		.direction = c->direction,
		.what = (uint8_t)what };

	if (events != NULL && events->expired != NULL)
		events->expired(events->arg, &e);
}

static void
tell_moved(const struct esp_sad *sad, uint32_t i, const struct esp_sad_events *events)
{
	struct esp_sa *sa = &sad->sa[i];
	struct pk_sadb_mapping m = { .id = sad->cold[i].id, .reqid = sad->cold[i].reqid };

	if (atomic_load_explicit(&sa->moved_state, memory_order_acquire) != ESP_MOVED_YES)
		return;
	m.src.family = m.id.src.family;
	memcpy(m.src.bytes, sa->moved, m.src.family == 4 ? 4 : 16);
	m.sport = __builtin_bswap16(sa->moved_port_be);
	atomic_store_explicit(&sa->moved_state, ESP_MOVED_NO, memory_order_relaxed);
	if (events != NULL && events->moved != NULL)
		events->moved(events->arg, &m);
}

void
esp_sad_tick(struct esp_sad *sad, uint64_t now_ns, const struct esp_sad_events *events)
{
	for (uint32_t i = 1; i < sad->fresh; i++) {
		struct esp_sa *sa = &sad->sa[i];
		struct cold *c = &sad->cold[i];
		uint32_t state = LOAD(sa->state);
		enum pk_sadb_expire_what what;

		if (state == ESP_STATE_LARVAL && now_ns - c->born_ns >= LARVAL_NS)
			esp_sad_retire(sad, i);
		if (state != ESP_STATE_ALIVE)
			continue;
		if (LOAD(sa->moved_state) != ESP_MOVED_NO)
			tell_moved(sad, i, events);
		what = over(sad, i, true, now_ns);
		if (what != 0) {
			atomic_store_explicit(&sa->state, ESP_STATE_DEAD, memory_order_release);
			c->told |= TOLD_SOFT | TOLD_HARD;
			tell_expired(sad, i, true, what, events);
			continue;
		}
		if ((c->told & TOLD_SOFT) != 0 || (what = over(sad, i, false, now_ns)) == 0)
			continue;
		c->told |= TOLD_SOFT;
		tell_expired(sad, i, false, what, events);
	}
	esp_sad_settle(sad);
}

/* ---- lcores ---- */

struct esp_sa *
esp_sad_by_spi(const struct esp_sad *sad, uint32_t spi_be)
{
	uint32_t i = __builtin_bswap32(spi_be) & ((1u << ESP_INDEX_BITS) - 1);
	struct esp_sa *sa;

	if (pk_mesh_is_spi(__builtin_bswap32(spi_be)))
		i = atomic_load_explicit(
		    esp_mesh_slot(sad, __builtin_bswap32(spi_be)), memory_order_acquire);
	if (i >= sad->nb || i == 0)
		return NULL;
	sa = &sad->sa[i];
	/* The name of an entry that comes or goes may be half written, and then is not this one. */
	if (atomic_load_explicit(&sa->state, memory_order_acquire) < ESP_STATE_ALIVE ||
	    sa->spi_be != spi_be || (sa->flags & ESP_SA_OUT) != 0)
		return NULL;
	return sa;
}

struct esp_sa *
esp_sad_at(const struct esp_sad *sad, uint32_t index)
{
	return &sad->sa[index];
}

uint32_t
esp_sad_index(const struct esp_sad *sad, const struct esp_sa *sa)
{
	return (uint32_t)(sa - sad->sa);
}

const void *
esp_sad_key(const struct esp_sad *sad, const struct esp_sa *sa)
{
	return ipsec_key_at(sad->key_base, (uint32_t)(sa - sad->sa));
}

void
esp_sa_learn_mtu(struct esp_sa *sa, uint16_t mtu)
{
	uint16_t least = (sa->flags & ESP_SA_OUTER6) != 0 ? 1280 : 576;
	uint16_t was = LOAD(sa->mtu);

	/* RFC 8201, section 4: nobody has to believe less than every link can do. */
	mtu = PK_MAX(mtu, least);
	while (mtu < was &&
	    !atomic_compare_exchange_weak_explicit(
	        &sa->mtu, &was, mtu, memory_order_relaxed, memory_order_relaxed))
		;
}
