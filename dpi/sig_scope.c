#include "dpi/sig_scope.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dpi/sig_net.h"

#define GROUPS_MAX 64 /* of addresses that are told apart: those that most rules name */
#define SLOTS      (2 * DPI_SCOPES_MAX)

/* Rules of one header, and what they need of a session. */
struct header {
	const struct dpi_nets *src, *dst;
	const struct dpi_ports *sport, *dport;
	uint8_t protos, family;
	bool both_ways;
	uint32_t nb;
	bool raw;
	uint32_t layers;
	struct dpi_bufs wanted;
	uint64_t group[DPI_NB_DIRS][(DPI_NB_GROUPS + 63) / 64];
	uint8_t dirs; /* enum dpi_dirs: that any of them can match in */
};

struct counted {
	const void *what;
	uint32_t nb;
};

/* What of a session decides which headers fit. */
struct key {
	uint64_t nets[2];  /* bit i: the address is in group i */
	uint16_t ports[2]; /* class */
	uint8_t proto, family;
	uint8_t pad[2];
};

struct entry {
	struct key key;
	struct dpi_scope *scope;
};

struct dpi_scopes {
	const struct dpi_set *set;
	struct dpi_bufs told;
	struct header *header;
	uint32_t nb_headers;
	const struct dpi_nets *nets[GROUPS_MAX];
	unsigned int nb_nets;
	const struct dpi_ports **ports;
	uint32_t nb_ports;
	uint16_t *class_of; /* by port */
	uint16_t *like;     /* by class: a port of it */
	uint32_t nb_classes;
	struct dpi_scope all;
	struct entry slot[SLOTS];
	uint32_t nb;
};

static uint8_t
proto_bit(uint8_t proto)
{
	return proto == 6  ? 1
	    : proto == 17  ? 2
	    : proto == 1   ? 4
	    : proto == 58  ? 8
	    : proto == 132 ? 16
	                   : 32;
}

/* ---- headers ---- */

static bool
same_header(const struct header *h, const struct dpi_sig *g)
{
	return h->src == g->src && h->dst == g->dst && h->sport == g->sport &&
	    h->dport == g->dport && h->protos == g->protos && h->family == g->family &&
	    h->both_ways == ((g->flags & DPI_SIG_BOTH_WAYS) != 0);
}

static uint32_t
hash_header(const struct dpi_sig *g)
{
	uint64_t h = (uintptr_t)g->src * UINT64_C(0x9e3779b97f4a7c15);

	h = (h ^ (uintptr_t)g->dst) * UINT64_C(0x9e3779b97f4a7c15);
	h = (h ^ (uintptr_t)g->sport) * UINT64_C(0x9e3779b97f4a7c15);
	h = (h ^ (uintptr_t)g->dport) * UINT64_C(0x9e3779b97f4a7c15);
	h = (h ^ g->protos ^ (uint64_t)g->family << 8) * UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t)(h >> 32);
}

static uint32_t
layers_of(const struct dpi_sig *g)
{
	uint32_t layers = g->layers != 0 ? (uint32_t)g->layers : UINT32_MAX;

	if (!(g->flags & DPI_SIG_TX))
		return 0;
	if (g->layer == DPI_LAYER_DCERPC)
		return 1u << DPI_LAYER_DCERPC | 1u << DPI_LAYER_SMB;
	return g->layer != DPI_LAYER_NONE ? 1u << g->layer : layers;
}

/* What a rule needs beside its header's. */
static void
header_add(struct header *h, const struct dpi_sig *g)
{
	unsigned int group[DPI_GROUPS_OF_MAX], nb = dpi_set_groups_of(g, group),
	                                       dirs = dpi_set_dirs_of(g);

	h->nb++;
	h->layers |= layers_of(g);
	h->raw |= !(g->flags & DPI_SIG_TX);
	for (unsigned int i = 0; i < g->nb_lists; i++)
		dpi_bufs_add(&h->wanted, g->list[i].buf);
	for (unsigned int d = 0; d < DPI_NB_DIRS; d++)
		for (unsigned int i = 0; i < nb; i++)
			if (dirs >> d & 1)
				h->group[d][group[i] / 64] |= UINT64_C(1) << (group[i] % 64);
	/* One whose pattern is in one direction may look for more in the other. */
	h->dirs |= g->flow & DPI_FLOW_TO_SERVER ? DPI_TO_SERVER
	    : g->flow & DPI_FLOW_TO_CLIENT      ? DPI_TO_CLIENT
	                                        : DPI_BOTH;
}

static int
gather_headers(struct dpi_scopes *k)
{
	uint32_t nb = dpi_set_nb(k->set), size = 16, *table;

	while (size < 2 * nb)
		size *= 2;
	table = calloc(size, sizeof(*table));
	k->header = calloc(nb + 1u, sizeof(*k->header));
	if (table == NULL || k->header == NULL) {
		free(table);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < nb; i++) {
		const struct dpi_sig *g = dpi_set_sig(k->set, i);
		uint32_t at = hash_header(g) & (size - 1);
		struct header *h;

		while (table[at] != 0 && !same_header(&k->header[table[at] - 1], g))
			at = (at + 1) & (size - 1);
		if (table[at] == 0) {
			h = &k->header[k->nb_headers++];
			*h = (struct header){ .src = g->src,
				.dst = g->dst,
				.sport = g->sport,
				.dport = g->dport,
				.protos = g->protos,
				.family = g->family,
				.both_ways = (g->flags & DPI_SIG_BOTH_WAYS) != 0 };
			table[at] = k->nb_headers;
		}
		header_add(&k->header[table[at] - 1], g);
	}
	free(table);
	return 0;
}

/* ---- classes ---- */

static int
by_use(const void *a, const void *b)
{
	const struct counted *p = a, *q = b;

	return p->nb > q->nb ? -1 : p->nb < q->nb;
}

static uint32_t
count(struct counted *c, uint32_t nb, const void *what, uint32_t rules)
{
	for (uint32_t i = 0; i < nb; i++) {
		if (c[i].what == what) {
			c[i].nb += rules;
			return nb;
		}
	}
	c[nb] = (struct counted){ what, rules };
	return nb + 1;
}

static bool
is_all(const struct dpi_nets *n)
{
	return n->any && n->nb == 0;
}

static int
number_groups(struct dpi_scopes *k)
{
	struct counted *nets = calloc(2 * k->nb_headers + 1u, sizeof(*nets));
	struct counted *ports = calloc(2 * k->nb_headers + 1u, sizeof(*ports));
	uint32_t nb_nets = 0;

	if (nets == NULL || ports == NULL) {
		free(nets);
		free(ports);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < k->nb_headers; i++) {
		const struct header *h = &k->header[i];

		if (!is_all(h->src))
			nb_nets = count(nets, nb_nets, h->src, h->nb);
		if (!is_all(h->dst))
			nb_nets = count(nets, nb_nets, h->dst, h->nb);
		if (!h->sport->any)
			k->nb_ports = count(ports, k->nb_ports, h->sport, h->nb);
		if (!h->dport->any)
			k->nb_ports = count(ports, k->nb_ports, h->dport, h->nb);
	}
	if (nb_nets > 0)
		qsort(nets, nb_nets, sizeof(*nets), by_use);
	k->nb_nets = PK_MIN(nb_nets, (uint32_t)GROUPS_MAX);
	for (unsigned int i = 0; i < k->nb_nets; i++)
		k->nets[i] = nets[i].what;
	k->ports = calloc(k->nb_ports + 1u, sizeof(*k->ports));
	for (uint32_t i = 0; k->ports != NULL && i < k->nb_ports; i++)
		k->ports[i] = ports[i].what;
	free(nets);
	free(ports);
	return k->ports != NULL ? 0 : -ENOMEM;
}

/* Split the ports by one group after another: two stay together that no group separates. */
static int
class_ports(struct dpi_scopes *k)
{
	uint16_t *half;

	k->class_of = calloc(65536, sizeof(*k->class_of));
	k->like = calloc(65536, sizeof(*k->like));
	half = calloc(
	    65536, sizeof(*half)); /* by class: the new one of its members that are in the group */
	if (k->class_of == NULL || k->like == NULL || half == NULL) {
		free(half);
		return -ENOMEM;
	}
	k->nb_classes = 1;
	for (uint32_t g = 0; g < k->nb_ports; g++) {
		memset(half, 0, k->nb_classes * sizeof(*half));
		for (uint32_t port = 0; port < 65536; port++) {
			uint16_t c = k->class_of[port];

			if (!dpi_ports_has(k->ports[g], (uint16_t)port))
				continue;
			if (half[c] == 0)
				half[c] = (uint16_t)k->nb_classes++;
			k->class_of[port] = half[c];
		}
	}
	free(half);
	for (uint32_t port = 65536; port-- > 0;)
		k->like[k->class_of[port]] = (uint16_t)port;
	return 0;
}

/* ---- scopes ---- */

/* Rules of a header with a group of addresses that is not numbered are taken to fit. */
static bool
may_be_in(const struct dpi_scopes *k, const struct dpi_nets *n, uint64_t in)
{
	if (is_all(n))
		return true;
	for (unsigned int i = 0; i < k->nb_nets; i++)
		if (k->nets[i] == n)
			return in >> i & 1;
	return true;
}

static bool
fits_one_way(const struct dpi_scopes *k, const struct dpi_nets *src, const struct dpi_ports *sport,
    const struct dpi_nets *dst, const struct dpi_ports *dport, const struct key *key,
    unsigned int from)
{
	return dpi_ports_has(sport, k->like[key->ports[from]]) &&
	    dpi_ports_has(dport, k->like[key->ports[!from]]) &&
	    may_be_in(k, src, key->nets[from]) && may_be_in(k, dst, key->nets[!from]);
}

/* Directions in which a header fits: enum dpi_dirs. */
static unsigned int
fits(const struct dpi_scopes *k, const struct dpi_nets *src, const struct dpi_ports *sport,
    const struct dpi_nets *dst, const struct dpi_ports *dport, bool both_ways,
    const struct key *key)
{
	unsigned int dirs = 0;

	for (unsigned int d = 0; d < 2; d++)
		if (fits_one_way(k, src, sport, dst, dport, key, d) ||
		    (both_ways && fits_one_way(k, src, sport, dst, dport, key, !d)))
			dirs |= 1u << d;
	return dirs;
}

static int
rules_copy(struct dpi_rules *to, const struct dpi_scopes *k, const struct dpi_rules *from,
    const struct key *key)
{
	to->nb = 0;
	to->at = NULL;
	if (from->nb == 0)
		return 0;
	to->at = malloc(from->nb * sizeof(*to->at));
	if (to->at == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < from->nb; i++) {
		const struct dpi_sig *g = dpi_set_sig(k->set, from->at[i]);

		if (key == NULL ||
		    ((g->protos & proto_bit(key->proto)) &&
		        (g->family == 0 || g->family == key->family) &&
		        fits(k, g->src, g->sport, g->dst, g->dport,
		            (g->flags & DPI_SIG_BOTH_WAYS) != 0, key) != 0))
			to->at[to->nb++] = from->at[i];
	}
	return 0;
}

static void
scope_fini(struct dpi_scope *s)
{
	free(s->packet.at);
	for (unsigned int l = 0; l < DPI_NB_LAYERS; l++)
		free(s->tx[l].at);
}

/* `key` NULL: of everybody. */
static int
scope_init(struct dpi_scope *s, const struct dpi_scopes *k, const struct key *key)
{
	int rc;

	memset(s, 0, sizeof(*s));
	for (uint32_t i = 0; i < k->nb_headers; i++) {
		const struct header *h = &k->header[i];
		unsigned int dirs = DPI_BOTH;

		if (key != NULL) {
			if (!(h->protos & proto_bit(key->proto)) ||
			    (h->family != 0 && h->family != key->family))
				continue;
			dirs = h->dirs &
			    fits(k, h->src, h->sport, h->dst, h->dport, h->both_ways, key);
			if (dirs == 0)
				continue;
		}
		s->nb += h->nb;
		s->raw |= h->raw;
		s->layers |= h->layers;
		for (size_t j = 0; j < PK_COUNT(s->wanted.bit); j++)
			s->wanted.bit[j] |= h->wanted.bit[j];
		for (unsigned int d = 0; d < DPI_NB_DIRS; d++)
			for (size_t j = 0; j < PK_COUNT(s->group[d]) && dirs >> d & 1; j++)
				s->group[d][j] |= h->group[d][j];
	}
	for (unsigned int b = 0; b < DPI_NB_BUFS; b++)
		if (dpi_bufs_has(&k->told, b) &&
		    (dpi_buf_info[b].layer == DPI_LAYER_NONE ||
		        s->layers >> dpi_buf_info[b].layer & 1))
			dpi_bufs_add(&s->wanted, b);
	rc = rules_copy(&s->packet, k, dpi_set_packet_rules(k->set), key);
	for (unsigned int l = 0; l < DPI_NB_LAYERS && rc == 0; l++)
		rc = rules_copy(&s->tx[l], k, dpi_set_tx_rules(k->set, l), key);
	if (rc < 0)
		scope_fini(s);
	return rc;
}

int
dpi_scopes_create(struct dpi_scopes **out, const struct dpi_set *set, const struct dpi_bufs *told)
{
	struct dpi_scopes *k = calloc(1, sizeof(*k));
	int rc;

	if (k == NULL)
		return -ENOMEM;
	k->set = set;
	if (told != NULL)
		k->told = *told;
	rc = gather_headers(k);
	if (rc == 0)
		rc = number_groups(k);
	if (rc == 0)
		rc = class_ports(k);
	if (rc == 0)
		rc = scope_init(&k->all, k, NULL);
	if (rc < 0) {
		dpi_scopes_destroy(k);
		return rc;
	}
	*out = k;
	return 0;
}

void
dpi_scopes_destroy(struct dpi_scopes *k)
{
	if (k == NULL)
		return;
	for (unsigned int i = 0; i < SLOTS; i++) {
		if (k->slot[i].scope != NULL) {
			scope_fini(k->slot[i].scope);
			free(k->slot[i].scope);
		}
	}
	scope_fini(&k->all);
	free(k->header);
	free(k->ports);
	free(k->class_of);
	free(k->like);
	free(k);
}

const struct dpi_scope *
dpi_scope_all(const struct dpi_scopes *k)
{
	return &k->all;
}

static uint32_t
hash_key(const struct key *key)
{
	uint64_t h = key->nets[0] * UINT64_C(0x9e3779b97f4a7c15);

	h = (h ^ h >> 32 ^ key->nets[1]) * UINT64_C(0x9e3779b97f4a7c15);
	h ^= h >> 32 ^ (uint64_t)key->ports[0] << 32 ^ (uint64_t)key->ports[1] << 16 ^
	    (uint64_t)key->proto << 8 ^ key->family;
	h *= UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t)(h >> 40) % SLOTS;
}

const struct dpi_scope *
dpi_scope_of(
    struct dpi_scopes *k, const struct pk_addr addr[2], const uint16_t port[2], uint8_t proto)
{
	struct key key;
	struct entry *e;
	uint32_t at;

	memset(&key, 0, sizeof(key));
	key.proto = proto;
	key.family = addr[0].family;
	for (unsigned int d = 0; d < 2; d++) {
		key.ports[d] = k->class_of[proto == 6 || proto == 17 || proto == 132 ? port[d] : 0];
		for (unsigned int i = 0; i < k->nb_nets; i++)
			key.nets[d] |= (uint64_t)dpi_nets_has(k->nets[i], &addr[d]) << i;
	}
	for (at = hash_key(&key);; at = (at + 1) % SLOTS) {
		e = &k->slot[at];
		if (e->scope == NULL)
			break;
		if (memcmp(&e->key, &key, sizeof(key)) == 0)
			return e->scope;
	}
	if (k->nb == DPI_SCOPES_MAX || (e->scope = malloc(sizeof(*e->scope))) == NULL)
		return &k->all;
	if (scope_init(e->scope, k, &key) < 0) {
		free(e->scope);
		e->scope = NULL;
		return &k->all;
	}
	e->key = key;
	k->nb++;
	return e->scope;
}
