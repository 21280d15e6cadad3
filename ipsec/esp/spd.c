#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "ipsec/esp/esp_priv.h"
#include "ipsec/esp/sad_priv.h"
#include "ipsec/memory.h"

int
esp_spd_init(struct esp_sad *sad)
{
	struct shapes *shapes = calloc(1, sizeof(*shapes));
	uint32_t nb = 64;

	while (nb < sad->nb)
		nb *= 2;
	sad->bucket = calloc(nb, sizeof(sad->bucket[0]));
	sad->bucket_mask = nb - 1;
	sad->tunnel_bytes = (size_t)sad->nb * sizeof(sad->tunnel[0]);
	sad->tunnel = ipsec_map(&sad->tunnel_bytes);
	sad->tunnel_fresh = 1;
	atomic_store(&sad->shapes, shapes);
	return shapes != NULL && sad->bucket != NULL && sad->tunnel != NULL ? 0 : -ENOMEM;
}

void
esp_spd_fini(struct esp_sad *sad)
{
	free((void *)sad->bucket);
	free(atomic_load(&sad->shapes));
	ipsec_unmap(sad->tunnel, sad->tunnel_bytes);
}

/* ---- tunnels ---- */

struct tunnel *
esp_tunnel_find(struct esp_sad *sad, uint32_t reqid)
{
	struct tunnel *t;

	HASH_FIND(by_reqid, sad->by_reqid, &reqid, sizeof(reqid), t);
	return t;
}

struct tunnel *
esp_tunnel_get(struct esp_sad *sad, uint32_t reqid)
{
	struct tunnel *t = esp_tunnel_find(sad, reqid);
	uint32_t i;

	if (t != NULL)
		return t;
	if (sad->tunnel_fresh < sad->nb) {
		i = sad->tunnel_fresh++;
	} else {
		i = sad->tunnel_free;
		if (i == 0)
			return NULL;
		sad->tunnel_free = sad->tunnel[i].next;
	}
	t = &sad->tunnel[i];
	t->index = i;
	t->key = reqid;
	atomic_store_explicit(&t->reqid, reqid, memory_order_release);
	HASH_ADD(by_reqid, sad->by_reqid, key, sizeof(t->key), t);
	sad->nb_tunnels++;
	return t;
}

void
esp_tunnel_put(struct esp_sad *sad, struct tunnel *t)
{
	if (t->nb_sas != 0 || t->nb_selectors != 0)
		return;
	/* A new generation: numbers that are still kept somewhere find nothing. */
	atomic_store_explicit(&t->gen,
	    (atomic_load_explicit(&t->gen, memory_order_relaxed) + 1) &
	        ((1u << (32 - TUNNEL_GEN_SHIFT)) - 1),
	    memory_order_release);
	atomic_store_explicit(&t->reqid, 0, memory_order_release);
	HASH_DELETE(by_reqid, sad->by_reqid, t);
	sad->nb_tunnels--;
	t->next = sad->tunnel_retired;
	sad->tunnel_retired = t->index;
}

static struct tunnel *
tunnel_of(const struct esp_sad *sad, uint32_t number)
{
	uint32_t i = number & ((1u << ESP_INDEX_BITS) - 1);
	struct tunnel *t;

	if (number == ESP_TUNNEL_NONE || i >= sad->nb)
		return NULL;
	t = &sad->tunnel[i];
	return atomic_load_explicit(&t->gen, memory_order_acquire) == number >> TUNNEL_GEN_SHIFT
	    ? t
	    : NULL;
}

struct esp_sa *
esp_sad_tunnel_sa(const struct esp_sad *sad, uint32_t number)
{
	const struct tunnel *t = tunnel_of(sad, number);
	uint32_t i;

	if (t == NULL)
		return NULL;
	i = atomic_load_explicit(&t->out, memory_order_acquire);
	return i != ESP_SA_NONE ? &sad->sa[i] : NULL;
}

uint32_t
esp_sad_tunnel_reqid(const struct esp_sad *sad, uint32_t number)
{
	const struct tunnel *t = tunnel_of(sad, number);

	return t != NULL ? atomic_load_explicit(&t->reqid, memory_order_relaxed) : 0;
}

int
esp_sad_next_tunnel(const struct esp_sad *sad, uint32_t *cursor, struct esp_tunnel_info *out)
{
	for (uint32_t i = PK_MAX(*cursor, 1u); i < sad->tunnel_fresh; i++) {
		const struct tunnel *t = &sad->tunnel[i];
		uint32_t reqid = atomic_load_explicit(&t->reqid, memory_order_relaxed);

		if (reqid == 0)
			continue;
		*cursor = i + 1;
		memset(out, 0, sizeof(*out));
		out->tunnel = esp_tunnel_number(t);
		out->reqid = reqid;
		out->nb_in = t->nb_in;
		out->out = atomic_load_explicit(&t->out, memory_order_relaxed);
		for (const struct selector *s = t->all; s != NULL; s = s->all_next) {
			if (s->p.direction != PK_SADB_POLICY_OUT)
				continue;
			out->first = s->p;
			out->nb_selectors++;
		}
		return 0;
	}
	return -ENOENT;
}

/* ---- selectors ---- */

static void
cut(struct pk_addr *a, unsigned int len)
{
	unsigned int bytes = pk_addr_bits(a) / 8;

	for (unsigned int i = 0; i < bytes; i++) {
		unsigned int keep = len >= 8 * (i + 1) ? 8 : len > 8 * i ? len - 8 * i : 0;

		a->bytes[i] &= (uint8_t)(0xff00 >> keep);
	}
}

static uint32_t
hash_pair(const struct pk_addr *src, const struct pk_addr *dst, uint32_t vrf)
{
	uint64_t h = vrf * UINT64_C(0x9e3779b97f4a7c15), w[4];

	memcpy(w, src->bytes, 16);
	memcpy(w + 2, dst->bytes, 16);
	for (unsigned int i = 0; i < 4; i++) {
		h = (h ^ w[i]) * UINT64_C(0xff51afd7ed558ccd);
		h ^= h >> 32;
	}
	return (uint32_t)h;
}

static bool
matches(const struct pk_sadb_policy *p, const struct esp_flow *f)
{
	return p->vrf == f->vrf && (p->proto == 0 || p->proto == f->proto) &&
	    f->sport >= p->sport_low && f->sport <= p->sport_high && f->dport >= p->dport_low &&
	    f->dport <= p->dport_high;
}

uint32_t
esp_sad_tunnel_out(const struct esp_sad *sad, const struct esp_flow *flow)
{
	const struct shapes *shapes =
	    atomic_load_explicit(&((struct esp_sad *)(uintptr_t)sad)->shapes, memory_order_acquire);
	uint32_t best = ESP_TUNNEL_NONE;
	uint64_t priority = UINT64_MAX;

	for (unsigned int i = 0; i < shapes->nb; i++) {
		const struct shape *shape = &shapes->shape[i];
		struct pk_addr src = flow->src, dst = flow->dst;
		struct selector *s;

		if (shape->family != src.family)
			continue;
		cut(&src, shape->src);
		cut(&dst, shape->dst);
		s = atomic_load_explicit(
		    &sad->bucket[hash_pair(&src, &dst, flow->vrf) & sad->bucket_mask],
		    memory_order_acquire);
		for (; s != NULL; s = atomic_load_explicit(&s->next, memory_order_acquire)) {
			if (s->p.priority >= priority || s->p.src.len != shape->src ||
			    s->p.dst.len != shape->dst || !matches(&s->p, flow) ||
			    pk_addr_compare(&s->p.src.addr, &src) != 0 ||
			    pk_addr_compare(&s->p.dst.addr, &dst) != 0)
				continue;
			priority = s->p.priority;
			best = s->tunnel;
		}
	}
	return best;
}

bool
esp_sad_tunnel_in(const struct esp_sad *sad, uint32_t number, const struct esp_flow *flow)
{
	struct tunnel *t = tunnel_of(sad, number);
	struct selector *s;

	if (t == NULL)
		return false;
	for (s = atomic_load_explicit(&t->first_in, memory_order_acquire); s != NULL;
	     s = atomic_load_explicit(&s->next, memory_order_acquire))
		if (matches(&s->p, flow) && pk_prefix_contains(&s->p.src, &flow->src) &&
		    pk_prefix_contains(&s->p.dst, &flow->dst))
			return true;
	return false;
}

/* One more, or one less, selector of a shape: a new list of them takes the place of the old. */
static int
count_shape(struct esp_sad *sad, const struct pk_sadb_policy *p, bool more, struct pk_diag *diag)
{
	struct shapes *old = atomic_load_explicit(&sad->shapes, memory_order_relaxed), *new;
	unsigned int i;

	for (i = 0; i < old->nb; i++)
		if (old->shape[i].family == p->src.addr.family && old->shape[i].src == p->src.len &&
		    old->shape[i].dst == p->dst.len)
			break;
	if (i < old->nb && (more || old->shape[i].nb > 1)) {
		/* lcores do not look at the number */
		old->shape[i].nb += more ? 1 : UINT32_MAX;
		return 0;
	}
	if (more && old->nb == ESP_SHAPES_MAX) {
		pk_diag_set(diag, "selectors of more than %d different pairs of prefix lengths",
		    ESP_SHAPES_MAX);
		return -ENOSPC;
	}
	new = malloc(sizeof(*new));
	if (new == NULL)
		return -ENOMEM;
	*new = *old;
	if (more) {
		new->shape[new->nb++] =
		    (struct shape){ p->src.addr.family, p->src.len, p->dst.len, 1 };
	} else {
		new->nb--;
		new->shape[i] = new->shape[new->nb];
	}
	atomic_store_explicit(&sad->shapes, new, memory_order_release);
	old->retired = sad->retired_shapes;
	sad->retired_shapes = old;
	return 0;
}

static _Atomic(struct selector *) *
head_of(struct esp_sad *sad, struct tunnel *t, const struct pk_sadb_policy *p)
{
	if (p->direction == PK_SADB_POLICY_IN)
		return &t->first_in;
	return &sad->bucket[hash_pair(&p->src.addr, &p->dst.addr, p->vrf) & sad->bucket_mask];
}

/* Whether two are the same pair of selectors. */
static bool
same(const struct pk_sadb_policy *a, const struct pk_sadb_policy *b)
{
	return a->direction == b->direction && a->proto == b->proto && a->vrf == b->vrf &&
	    memcmp(&a->src, &b->src, sizeof(a->src)) == 0 &&
	    memcmp(&a->dst, &b->dst, sizeof(a->dst)) == 0 && a->sport_low == b->sport_low &&
	    a->sport_high == b->sport_high && a->dport_low == b->dport_low &&
	    a->dport_high == b->dport_high;
}

static struct selector *
find_selector(struct tunnel *t, const struct pk_sadb_policy *p)
{
	struct selector *s = t->all;

	while (s != NULL && !same(&s->p, p))
		s = s->all_next;
	return s;
}

static void
unlink_selector(struct esp_sad *sad, struct tunnel *t, struct selector *s)
{
	_Atomic(struct selector *) *at = head_of(sad, t, &s->p);
	struct selector *i;

	while ((i = atomic_load_explicit(at, memory_order_relaxed)) != s)
		at = &i->next;
	atomic_store_explicit(
	    at, atomic_load_explicit(&s->next, memory_order_relaxed), memory_order_release);
	if (s->all_prev != NULL)
		s->all_prev->all_next = s->all_next;
	else
		t->all = s->all_next;
	if (s->all_next != NULL)
		s->all_next->all_prev = s->all_prev;
	t->nb_selectors--;
	if (s->p.direction == PK_SADB_POLICY_OUT)
		(void)count_shape(sad, &s->p, false, NULL);
	s->retired = sad->retired_selectors;
	sad->retired_selectors = s;
}

int
esp_sad_add_policy(struct esp_sad *sad, const struct pk_sadb_policy *m, struct pk_diag *diag)
{
	bool out = m->direction == PK_SADB_POLICY_OUT;
	uint32_t sa = ESP_SA_NONE;
	struct selector *s, *old;
	struct tunnel *t;
	int rc;

	if (m->spi != 0) {
		sa = esp_sad_find_out(sad, &m->sa_dst, m->spi);
		if (sa == ESP_SA_NONE || sad->cold[sa].reqid != m->reqid) {
			pk_diag_set(
			    diag, "reqid %u has no outbound SA with SPI 0x%08x", m->reqid, m->spi);
			return -ENOENT;
		}
	}
	t = esp_tunnel_get(sad, m->reqid);
	s = calloc(1, sizeof(*s));
	if (t == NULL || s == NULL) {
		pk_diag_set(diag, "no room for another tunnel");
		free(s);
		return -ENOSPC;
	}
	s->p = *m;
	s->tunnel = esp_tunnel_number(t);
	old = find_selector(t, m);
	if (out && (rc = count_shape(sad, m, true, diag)) < 0) {
		free(s);
		esp_tunnel_put(sad, t);
		return rc;
	}
	/* In front of the old one, so that there is no moment without. */
	atomic_store_explicit(&s->next,
	    atomic_load_explicit(head_of(sad, t, m), memory_order_relaxed), memory_order_relaxed);
	atomic_store_explicit(head_of(sad, t, m), s, memory_order_release);
	s->all_next = t->all;
	if (t->all != NULL)
		t->all->all_prev = s;
	t->all = s;
	t->nb_selectors++;
	if (old != NULL)
		unlink_selector(sad, t, old);
	/* The switch: make before break (RFC 7296, section 2.8). */
	if (out)
		atomic_store_explicit(&t->out, sa, memory_order_release);
	return 0;
}

int
esp_sad_delete_policy(struct esp_sad *sad, const struct pk_sadb_policy *m, struct pk_diag *diag)
{
	struct tunnel *t = esp_tunnel_find(sad, m->reqid);
	struct selector *s = t != NULL ? find_selector(t, m) : NULL;
	bool more = false;

	if (s == NULL) {
		pk_diag_set(diag, "reqid %u has no such selectors", m->reqid);
		return -ENOENT;
	}
	unlink_selector(sad, t, s);
	for (s = t->all; s != NULL; s = s->all_next)
		more |= s->p.direction == PK_SADB_POLICY_OUT;
	if (m->direction == PK_SADB_POLICY_OUT && !more)
		atomic_store_explicit(&t->out, ESP_SA_NONE, memory_order_release);
	esp_tunnel_put(sad, t);
	return 0;
}

void
esp_spd_flush(struct esp_sad *sad)
{
	for (uint32_t i = 1; i < sad->tunnel_fresh; i++) {
		struct tunnel *t = &sad->tunnel[i];

		uint32_t reqid = atomic_load_explicit(&t->reqid, memory_order_relaxed);

		if (reqid == 0 || reqid >= ESP_MESH_REQID)
			continue;
		while (t->all != NULL)
			unlink_selector(sad, t, t->all);
		atomic_store_explicit(&t->out, ESP_SA_NONE, memory_order_release);
		esp_tunnel_put(sad, t);
	}
}

void
esp_spd_settle(struct esp_sad *sad)
{
	while (sad->retired_selectors != NULL) {
		struct selector *s = sad->retired_selectors;

		sad->retired_selectors = s->retired;
		free(s);
	}
	while (sad->retired_shapes != NULL) {
		struct shapes *s = sad->retired_shapes;

		sad->retired_shapes = s->retired;
		free(s);
	}
	while (sad->tunnel_retired != 0) {
		uint32_t i = sad->tunnel_retired;

		sad->tunnel_retired = sad->tunnel[i].next;
		sad->tunnel[i].next = sad->tunnel_free;
		sad->tunnel_free = i;
	}
}
