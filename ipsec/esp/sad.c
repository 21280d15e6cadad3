#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "ipsec/esp/esp_priv.h"
#include "ipsec/esp/sad_priv.h"
#include "ipsec/memory.h"
#include "lib/secret.h"

#define MTU 1500 /* of the path, until somebody says otherwise */

int
esp_sad_create(struct esp_sad **out, const struct esp_sad_conf *conf, struct pk_diag *diag)
{
	struct esp_sad *sad;
	int rc = -ENOMEM;

	if (conf->nb_sas == 0 || conf->nb_sas >= 1u << ESP_INDEX_BITS) {
		pk_diag_set(diag, "%u SAs: want 1 to %u", conf->nb_sas, (1u << ESP_INDEX_BITS) - 1);
		return -EINVAL;
	}
	sad = calloc(1, sizeof(*sad));
	if (sad == NULL)
		return -ENOMEM;
	sad->conf = *conf;
	sad->nb = conf->nb_sas + 1;
	sad->fresh = 1;
	sad->sa_bytes = (size_t)sad->nb * sizeof(sad->sa[0]);
	sad->cold_bytes = (size_t)sad->nb * sizeof(sad->cold[0]);
	sad->sa = ipsec_map(&sad->sa_bytes);
	sad->cold = ipsec_map(&sad->cold_bytes);
	if (sad->sa == NULL || sad->cold == NULL)
		goto fail;
	rc = ipsec_keys_create(&sad->keys, sad->nb, diag);
	if (rc == -ENOTSUP) {
		esp_sad_destroy(sad);
		return rc;
	}
	if (rc < 0)
		goto fail;
	sad->key_base = ipsec_keys_base(sad->keys);
	rc = esp_spd_init(sad);
	if (rc < 0)
		goto fail;
	*out = sad;
	return 0;
fail:
	pk_diag_set(diag, "no memory for %u SAs", conf->nb_sas);
	esp_sad_destroy(sad);
	return rc;
}

void
esp_sad_destroy(struct esp_sad *sad)
{
	if (sad == NULL)
		return;
	sad->conf.wait = NULL;
	if (sad->bucket != NULL) {
		esp_sad_flush(sad, PK_SADB_FLUSH_SAS | PK_SADB_FLUSH_POLICIES);
		esp_sad_settle(sad);
	}
	esp_spd_fini(sad);
	ipsec_keys_destroy(sad->keys);
	ipsec_unmap(sad->sa, sad->sa_bytes);
	ipsec_unmap(sad->cold, sad->cold_bytes);
	free(sad);
}

/* ---- entries ---- */

/* One that nobody uses, not published; ESP_SA_NONE: there is no room. */
static uint32_t
take_entry(struct esp_sad *sad)
{
	uint32_t i;

	/* Those that have been used wait as long as there are others. */
	if (sad->fresh < sad->nb) {
		i = sad->fresh++;
	} else {
		i = sad->free_first;
		if (i == ESP_SA_NONE)
			return ESP_SA_NONE;
		sad->free_first = sad->cold[i].next;
		if (sad->free_first == ESP_SA_NONE)
			sad->free_last = ESP_SA_NONE;
	}
	sad->nb_used++;
	return i;
}

static void
free_entry(struct esp_sad *sad, uint32_t i)
{
	struct cold *c = &sad->cold[i];
	uint8_t gen = (uint8_t)(c->gen + 1);

	free((void *)c->words);
	ipsec_key_clear(sad->keys, i);
	memset((void *)&sad->sa[i], 0, sizeof(sad->sa[i]));
	memset(c, 0, sizeof(*c));
	c->gen = gen;
	if (sad->free_last != ESP_SA_NONE)
		sad->cold[sad->free_last].next = i;
	else
		sad->free_first = i;
	sad->free_last = i;
	sad->nb_used--;
}

static uint32_t
spi_of(const struct esp_sad *sad, uint32_t i)
{
	return ESP_SPI_BASE | (uint32_t)sad->cold[i].gen << ESP_INDEX_BITS | i;
}

void
esp_sad_retire(struct esp_sad *sad, uint32_t i)
{
	struct cold *c = &sad->cold[i];
	struct tunnel *t = esp_tunnel_find(sad, c->reqid);
	uint32_t state = atomic_load_explicit(&sad->sa[i].state, memory_order_relaxed);

	atomic_store_explicit(&sad->sa[i].state, ESP_STATE_FREE, memory_order_release);
	if (c->direction == PK_SADB_OUT)
		HASH_DELETE(by_name, sad->by_name, c);
	if (t != NULL && state != ESP_STATE_LARVAL) {
		if (atomic_load_explicit(&t->out, memory_order_relaxed) == i)
			atomic_store_explicit(&t->out, ESP_SA_NONE, memory_order_release);
		t->nb_sas--;
		t->nb_in -= c->direction == PK_SADB_IN;
		esp_tunnel_put(sad, t);
	}
	c->next = sad->retired;
	sad->retired = i;
}

void
esp_sad_settle(struct esp_sad *sad)
{
	if (sad->retired == ESP_SA_NONE && sad->retired_selectors == NULL &&
	    sad->retired_shapes == NULL && sad->tunnel_retired == 0)
		return;
	if (sad->conf.wait != NULL)
		sad->conf.wait(sad->conf.arg);
	while (sad->retired != ESP_SA_NONE) {
		uint32_t i = sad->retired;

		sad->retired = sad->cold[i].next;
		free_entry(sad, i);
	}
	esp_spd_settle(sad);
}

/* ---- names ---- */

static struct name
name_of(const struct pk_addr *dst, uint32_t spi)
{
	struct name n;

	memset(&n, 0, sizeof(n));
	n.dst = *dst;
	n.spi = spi;
	return n;
}

/* dst and spi are neighbours in struct pk_sadb_id, so they are a key as they lie there. */
_Static_assert(offsetof(struct pk_sadb_id, spi) ==
            offsetof(struct pk_sadb_id, dst) + offsetof(struct name, spi) &&
        sizeof(struct name) == 24,
    "a name is the end of an id");

uint32_t
esp_sad_find_out(const struct esp_sad *sad, const struct pk_addr *dst, uint32_t spi)
{
	struct name n = name_of(dst, spi);
	struct cold *c;

	HASH_FIND(by_name, sad->by_name, &n, sizeof(n), c);
	return c != NULL ? (uint32_t)(c - sad->cold) : ESP_SA_NONE;
}

uint32_t
esp_sad_find(const struct esp_sad *sad, const struct pk_sadb_id *id)
{
	uint32_t i = esp_sad_find_out(sad, &id->dst, id->spi);

	if (i != ESP_SA_NONE || id->spi < ESP_SPI_BASE)
		return i;
	i = id->spi & ((1u << ESP_INDEX_BITS) - 1);
	if (i == 0 || i >= sad->nb || sad->cold[i].direction != PK_SADB_IN ||
	    spi_of(sad, i) != id->spi || pk_addr_compare(&sad->cold[i].id.dst, &id->dst) != 0)
		return ESP_SA_NONE;
	return atomic_load_explicit(&sad->sa[i].state, memory_order_relaxed) != ESP_STATE_FREE
	    ? i
	    : ESP_SA_NONE;
}

int
esp_sad_no_such(const struct pk_sadb_id *id, struct pk_diag *diag)
{
	char dst[PK_ADDR_TEXT];

	pk_diag_set(
	    diag, "there is no SA to %s with SPI 0x%08x", pk_addr_text(&id->dst, dst), id->spi);
	return -ENOENT;
}

static int
no_room(const struct esp_sad *sad, struct pk_diag *diag)
{
	pk_diag_set(diag, "there are %u SAs, and no more fit; see ipsec-sas", sad->nb - 1);
	return -ENOSPC;
}

/* ---- requests ---- */

int
esp_sad_get_spi(struct esp_sad *sad, const struct pk_sadb_get_spi *m, uint64_t now_ns,
    uint32_t *spi, struct pk_diag *diag)
{
	uint32_t i = take_entry(sad);
	struct cold *c = &sad->cold[i];

	if (i == ESP_SA_NONE)
		return no_room(sad, diag);
	c->id = m->id;
	c->id.spi = *spi = spi_of(sad, i);
	c->reqid = m->reqid;
	c->direction = PK_SADB_IN;
	c->born_ns = now_ns;
	atomic_store_explicit(&sad->sa[i].state, ESP_STATE_LARVAL, memory_order_release);
	return 0;
}

/* The entry for an inbound SA: that of GET_SPI, or any with keys made by hand, whose SPI has to name one. */
static int
inbound_entry(
    struct esp_sad *sad, const struct pk_sadb_add_sa *m, uint32_t *out, struct pk_diag *diag)
{
	uint32_t i = m->id.spi & ((1u << ESP_INDEX_BITS) - 1);
	uint32_t state;

	if (m->id.spi < ESP_SPI_BASE || m->id.spi - ESP_SPI_BASE >= 1u << (8 + ESP_INDEX_BITS) ||
	    i == 0 || i >= sad->nb) {
		pk_diag_set(diag,
		    "SPI 0x%08x: those of inbound SAs are ours, 0xc0000001 to 0x%08x, or come of get-spi",
		    m->id.spi, ESP_SPI_BASE + sad->nb - 1);
		return -EINVAL;
	}
	state = atomic_load_explicit(&sad->sa[i].state, memory_order_relaxed);
	if (state == ESP_STATE_LARVAL && spi_of(sad, i) == m->id.spi) {
		*out = i;
		return 0;
	}
	if (state != ESP_STATE_FREE) {
		pk_diag_set(diag, "SPI 0x%08x is in use", m->id.spi);
		return -EEXIST;
	}
	/* Made by hand.  Everything in between becomes free ones. */
	if (i >= sad->fresh) {
		sad->nb_used++;
		while (sad->fresh < i) {
			uint32_t skip = sad->fresh++;

			sad->nb_used++;
			free_entry(sad, skip);
			sad->cold[skip].gen = 0;
		}
		sad->fresh = i + 1;
	} else {
		uint32_t before = ESP_SA_NONE, at = sad->free_first;

		for (; at != ESP_SA_NONE && at != i; at = sad->cold[at].next)
			before = at;
		if (at == ESP_SA_NONE) {
			pk_diag_set(diag, "SPI 0x%08x has just been deleted", m->id.spi);
			return -EEXIST;
		}
		if (before == ESP_SA_NONE)
			sad->free_first = sad->cold[i].next;
		else
			sad->cold[before].next = sad->cold[i].next;
		if (sad->free_last == i)
			sad->free_last = before;
		sad->nb_used++;
	}
	sad->cold[i].gen = (uint8_t)(m->id.spi >> ESP_INDEX_BITS);
	*out = i;
	return 0;
}

/* Headers that outbound packets begin with, with the sum of the IPv4 header's words in its checksum. */
static void
make_outer(struct esp_sa *sa, const struct pk_addr *src, const struct pk_addr *dst, uint16_t sport,
    uint16_t dport)
{
	bool tunnel = (sa->flags & ESP_SA_TUNNEL) != 0, encap = (sa->flags & ESP_SA_ENCAP) != 0;
	uint8_t *o = sa->outer, *udp = o;

	memset(o, 0, sizeof(sa->outer));
	if (tunnel && src->family == 4) {
		o[0] = 0x45;
		o[8] = 64;
		o[9] = encap ? IPPROTO_UDP : IPPROTO_ESP;
		memcpy(o + 12, src->bytes, 4);
		memcpy(o + 16, dst->bytes, 4);
		put16(o + 10, sum_fold(sum_words(o, 20)));
		udp = o + 20;
	} else if (tunnel) {
		o[0] = 0x60;
		o[6] = encap ? IPPROTO_UDP : IPPROTO_ESP;
		o[7] = 64;
		memcpy(o + 8, src->bytes, 16);
		memcpy(o + 24, dst->bytes, 16);
		udp = o + 40;
	}
	if (encap) {
		/* RFC 3948, section 2.1: the UDP checksum SHOULD be 0, as it may in IPv6 (RFC 6935). */
		put16(udp, sport);
		put16(udp + 2, dport);
		udp += UDP_HEADER;
	}
	sa->outer_len = (uint8_t)(udp - o);
}

static void
make_from(struct esp_sa *sa, const struct pk_addr *src, const struct pk_addr *dst, uint16_t sport)
{
	unsigned int len = src->family == 4 ? 4 : 16;

	memset(&sa->from, 0, sizeof(sa->from));
	memcpy(sa->from.addr, src->bytes, len);
	memcpy(sa->from.addr + len, dst->bytes, len);
	sa->from.sport_be = __builtin_bswap16(sport);
}

/* What checksums lack when packets have gone through NAT: the addresses of here less those of there. */
static uint16_t
nat_delta(const struct pk_sadb_add_sa *m)
{
	uint32_t sum = 0;

	for (unsigned int k = 0; k < 2; k++) {
		const struct pk_addr *is = k == 0 ? &m->id.src : &m->id.dst;
		const struct pk_addr *was = k == 0 ? &m->original_src : &m->original_dst;

		if (was->family != is->family)
			continue;
		for (unsigned int i = 0; i < 16; i += 2)
			sum += get16(is->bytes + i) + (uint32_t)(uint16_t)~get16(was->bytes + i);
	}
	sum = sum_fold(sum);
	return sum == 0xffff ? 0 : (uint16_t)sum;
}

static uint64_t
or_never(uint64_t limit)
{
	return limit != 0 ? limit : UINT64_MAX;
}

int
esp_sad_add(
    struct esp_sad *sad, const struct pk_sadb_add_sa *m, uint64_t now_ns, struct pk_diag *diag)
{
	enum ipsec_alg alg = ipsec_alg_from_ike(m->encr, m->encr_bits, m->integ, diag);
	const struct ipsec_alg_info *info = ipsec_alg_info(alg);
	bool out = m->direction == PK_SADB_OUT, esn = (m->flags & PK_SADB_ESN) != 0;
	uint32_t window = (m->replay_window + 63) / 64 * 64, i = ESP_SA_NONE, words;
	_Atomic uint64_t *far_words = NULL;
	struct tunnel *t;
	struct esp_sa *sa;
	struct cold *c;
	uint64_t last;
	int rc;

	if (alg == IPSEC_ALG_NONE)
		return -ENOTSUP;
	if (m->encr_key_len != info->encr_len + info->salt_len ||
	    m->integ_key_len != info->integ_len) {
		pk_diag_set(diag, "%s: keys of %u and %u bytes: want %u and %u", info->name,
		    m->encr_key_len, m->integ_key_len, info->encr_len + info->salt_len,
		    info->integ_len);
		return -EINVAL;
	}
	if (!out && esn && window == 0) {
		pk_diag_set(
		    diag, "numbers of 64 bits want a replay window (RFC 4303, section 3.3.3)");
		return -EINVAL;
	}
	if ((m->flags & PK_SADB_ESN) == 0 && m->seq >= UINT32_MAX) {
		pk_diag_set(diag, "a number of 32 bits without ESN");
		return -EINVAL;
	}
	if (out && esp_sad_find_out(sad, &m->id.dst, m->id.spi) != ESP_SA_NONE) {
		pk_diag_set(diag, "SPI 0x%08x to this address is in use", m->id.spi);
		return -EEXIST;
	}
	words = esp_replay_words(window);
	if (!out && words > PK_COUNT(sa->near_word)) {
		far_words = aligned_alloc(PK_CACHE_LINE,
		    (words * sizeof(*far_words) + PK_CACHE_LINE - 1) &
		        ~(size_t)(PK_CACHE_LINE - 1));
		if (far_words == NULL)
			return no_room(sad, diag);
		memset((void *)far_words, 0, words * sizeof(*far_words));
	}
	t = esp_tunnel_get(sad, m->reqid);
	if (t == NULL) {
		free((void *)far_words);
		return no_room(sad, diag);
	}
	rc = 0;
	if (!out)
		rc = inbound_entry(sad, m, &i, diag);
	else if ((i = take_entry(sad)) == ESP_SA_NONE)
		rc = no_room(sad, diag);
	if (rc < 0) {
		free((void *)far_words);
		esp_tunnel_put(sad, t);
		return rc;
	}
	sa = &sad->sa[i];
	c = &sad->cold[i];
	/* A larval one has been seen by lcores, which look no further than its state. */
	sa->spi_be = __builtin_bswap32(m->id.spi);
	sa->salt = 0;
	memcpy(&sa->salt, m->encr_key + info->encr_len, info->salt_len);
	sa->flags =
	    (uint16_t)((out ? ESP_SA_OUT : 0) | (m->mode == PK_SADB_TUNNEL ? ESP_SA_TUNNEL : 0) |
	        (esn ? ESP_SA_ESN : 0) | ((m->flags & PK_SADB_ENCAP) != 0 ? ESP_SA_ENCAP : 0) |
	        (m->id.src.family == 6 ? ESP_SA_OUTER6 : 0) |
	        ((m->flags & PK_SADB_NO_ECN) != 0 ? ESP_SA_NO_ECN : 0) |
	        ((m->flags & PK_SADB_NO_DSCP_COPY) != 0 ? ESP_SA_NO_DSCP_COPY : 0) |
	        ((m->flags & PK_SADB_DSCP_DECAP) != 0 ? ESP_SA_DSCP_DECAP : 0));
	sa->alg = (uint8_t)alg;
	sa->kind = info->kind;
	sa->iv_len = info->iv_len;
	sa->icv_len = info->icv_len;
	sa->block = info->block;
	sa->df = m->df;
	sa->dscp = (uint8_t)(m->dscp << 2);
	sa->wire = m->wire;
	sa->vrf = m->vrf;
	sa->tfc = m->tfc;
	atomic_store_explicit(&sa->mtu, MTU, memory_order_relaxed);
	sa->tunnel = esp_tunnel_number(t);
	last = esn ? UINT64_MAX : UINT32_MAX;
	if (out)
		sa->seq_max = m->life.hard_packets != 0 && m->life.hard_packets < last - m->seq
		    ? m->seq + m->life.hard_packets
		    : last;
	else
		sa->seq_max = or_never(m->life.hard_packets);
	sa->hard_ns = m->life.hard_ns != 0 ? now_ns + m->life.hard_ns : UINT64_MAX;
	sa->hard_bytes = or_never(m->life.hard_bytes);
	if (out) {
		atomic_store_explicit(&sa->seq, m->seq, memory_order_relaxed);
		make_outer(sa, &m->id.src, &m->id.dst, m->sport, m->dport);
	} else {
		atomic_store_explicit(&sa->replay.top, m->seq, memory_order_relaxed);
		sa->replay.word = far_words != NULL ? far_words : sa->near_word;
		sa->replay.mask = words - 1;
		sa->replay.window = window;
		/* Keys made by hand, and taken up again: what has come is not known, so it counts as having come. */
		for (uint64_t b = m->seq / 32, k = 0; m->seq != 0 && k < words; k++) {
			uint64_t block = b >= k ? b - k : 0;

			atomic_store_explicit(&sa->replay.word[block & sa->replay.mask],
			    (block & UINT32_MAX) << 32 |
			        (k == 0 ? (UINT64_C(2) << (m->seq & 31)) - 1 : UINT32_MAX),
			    memory_order_relaxed);
			if (block == 0)
				break;
		}
		make_from(sa, &m->id.src, &m->id.dst, m->sport);
		if (m->mode == PK_SADB_TRANSPORT)
			sa->from.nat_delta = nat_delta(m);
	}
	c->id = m->id;
	c->reqid = m->reqid;
	c->direction = m->direction;
	c->window = window;
	c->born_ns = now_ns;
	c->start_seq = m->seq;
	c->life = m->life;
	c->sport = m->sport;
	c->dport = m->dport;
	c->words = far_words;
	rc = ipsec_key_set(
	    sad->keys, i, alg, m->encr_key, info->encr_len, m->integ_key, info->integ_len, diag);
	PK_ASSERT(rc == 0); /* lengths have been looked at */
	if (out)
		HASH_ADD(by_name, sad->by_name, id.dst, sizeof(struct name), c);
	t->nb_sas++;
	t->nb_in += !out;
	atomic_store_explicit(&sa->state, ESP_STATE_ALIVE, memory_order_release);
	return 0;
}

int
esp_sad_update(struct esp_sad *sad, const struct pk_sadb_update_sa *m, struct pk_diag *diag)
{
	uint32_t i = esp_sad_find(sad, &m->id);
	struct esp_sa *sa = &sad->sa[i];
	struct cold *c = &sad->cold[i];

	if (i == ESP_SA_NONE ||
	    atomic_load_explicit(&sa->state, memory_order_relaxed) != ESP_STATE_ALIVE)
		return esp_sad_no_such(&m->id, diag);
	if (c->direction == PK_SADB_IN && pk_addr_compare(&m->dst, &c->id.dst) != 0 &&
	    m->dst.family != c->id.dst.family) {
		pk_diag_set(diag, "an SA keeps the family of its addresses");
		return -EINVAL;
	}
	/* What lcores read may not change under them, so for a moment it is not there. */
	atomic_store_explicit(&sa->state, ESP_STATE_LARVAL, memory_order_release);
	if (sad->conf.wait != NULL)
		sad->conf.wait(sad->conf.arg);
	if (c->direction == PK_SADB_OUT)
		HASH_DELETE(by_name, sad->by_name, c);
	sa->flags = (uint16_t)((sa->flags & ~(ESP_SA_ENCAP | ESP_SA_OUTER6)) |
	    (m->encap ? ESP_SA_ENCAP : 0) | (m->src.family == 6 ? ESP_SA_OUTER6 : 0));
	c->id.src = m->src;
	c->id.dst = m->dst;
	c->sport = m->sport;
	c->dport = m->dport;
	if (c->direction == PK_SADB_OUT) {
		make_outer(sa, &m->src, &m->dst, m->sport, m->dport);
		atomic_store_explicit(&sa->mac_to, 0, memory_order_relaxed);
		HASH_ADD(by_name, sad->by_name, id.dst, sizeof(struct name), c);
		atomic_store_explicit(&sa->mtu, MTU, memory_order_relaxed);
	} else {
		make_from(sa, &m->src, &m->dst, m->sport);
		atomic_store_explicit(&sa->moved_state, ESP_MOVED_NO, memory_order_relaxed);
	}
	atomic_store_explicit(&sa->state, ESP_STATE_ALIVE, memory_order_release);
	return 0;
}

int
esp_sad_delete(struct esp_sad *sad, const struct pk_sadb_id *id, struct pk_diag *diag)
{
	uint32_t i = esp_sad_find(sad, id);

	if (i == ESP_SA_NONE)
		return esp_sad_no_such(id, diag);
	esp_sad_retire(sad, i);
	return 0;
}

void
esp_sad_flush(struct esp_sad *sad, uint32_t what)
{
	for (uint32_t i = 1; (what & PK_SADB_FLUSH_SAS) != 0 && i < sad->fresh; i++)
		if (atomic_load_explicit(&sad->sa[i].state, memory_order_relaxed) != ESP_STATE_FREE)
			esp_sad_retire(sad, i);
	if ((what & PK_SADB_FLUSH_POLICIES) != 0)
		esp_spd_flush(sad);
}

void
esp_sad_set_mac(struct esp_sad *sad, uint32_t i, const uint8_t mac[12])
{
	struct esp_sa *sa = &sad->sa[i];
	uint64_t to = 0, from = 0;

	if (atomic_load_explicit(&sa->state, memory_order_relaxed) != ESP_STATE_ALIVE)
		return;
	if (mac != NULL) {
		memcpy(&to, mac, 6);
		memcpy(&from, mac + 6, 6);
		atomic_store_explicit(&sa->mac_from, from, memory_order_relaxed);
	}
	atomic_store_explicit(&sa->mac_to, to, memory_order_release);
}
