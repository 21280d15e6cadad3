#include "fw/mesh_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <openssl/sha.h>
#include <uthash.h>

#include "fw/dpus.h"
#include "ipsec/esp/mesh.h"
#include "lib/grant.h"
#include "lib/log.h"

#define INBOUND 4 /* SAs of a peer: this one, the next, and those before that are let run out */
#define TICK_S  1

struct inbound {
	uint32_t spi; /* 0: none */
	uint32_t index;
	uint64_t device;   /* fingerprint of the device key that its key was derived from */
	uint64_t until_ns; /* let run out; 0: in the set */
};

struct peer {
	char name[PK_GRANT_NAME_MAX];
	struct esp_mesh_peer way;
	struct inbound in[INBOUND];
	uint32_t out_spi, out;   /* SPI, SA */
	uint64_t out_print;      /* fingerprint of its key */
	uint32_t before;         /* SA that was sent by, until the switch is everywhere */
	uint32_t dpu;            /* fw_dpu_number() */
	uint64_t set;            /* the last one that had it */
	struct pk_mesh_peer now; /* what that one said */
	uint8_t key[PK_MESH_SA_KEY];
	UT_hash_handle hh, by_number;
};

struct fw_mesh_link {
	struct fw_esp *esp;
	uint64_t epoch;
	uint64_t (*now_ns)(void);
	struct pk_grant_source *source;
	struct event *tick;
	struct peer *peers, *by_number;
	uint64_t device[PK_MESH_DEVICE_KEYS]; /* fingerprints */
	struct fw_mesh_status status;
};

/* A server that had to begin anew may give an SPI another key. */
static uint64_t
fingerprint(const uint8_t *key, size_t len)
{
	uint8_t sum[SHA256_DIGEST_LENGTH];
	uint64_t v;

	SHA256(key, len, sum);
	memcpy(&v, sum, sizeof(v));
	pk_wipe(sum, sizeof(sum));
	return v;
}

/* ---- what lcores see ---- */

static void
show_tunnel(struct fw_mesh_link *l, const struct peer *p)
{
	atomic_store_explicit(&l->esp->mesh[p->dpu], esp_mesh_tunnel(l->esp->sad, p->way.number),
	    memory_order_release);
}

static void
end_sa(struct fw_mesh_link *l, uint32_t *index)
{
	if (*index == ESP_SA_NONE)
		return;
	esp_mesh_end(l->esp->sad, *index);
	*index = ESP_SA_NONE;
	l->status.ended++;
}

static void
end_inbound(struct fw_mesh_link *l, struct inbound *in)
{
	end_sa(l, &in->index);
	memset(in, 0, sizeof(*in));
}

static void
end_peer(struct fw_mesh_link *l, struct peer *p)
{
	atomic_store_explicit(&l->esp->mesh[p->dpu], ESP_TUNNEL_NONE, memory_order_release);
	for (unsigned int k = 0; k < INBOUND; k++)
		end_inbound(l, &p->in[k]);
	end_sa(l, &p->out);
	end_sa(l, &p->before);
	pk_notice("mesh: %s: ended", p->name);
	HASH_DEL(l->peers, p);
	HASH_DELETE(by_number, l->by_number, p);
	pk_wipe(p, sizeof(*p));
	free(p);
}

/* ---- a set ---- */

/* Our end of the way to it: an address of its family. */
static const struct fw_local *
our_end(const struct fw_mesh_link *l, uint8_t family)
{
	for (unsigned int i = 0; i < l->esp->nb_locals; i++)
		if (l->esp->local[i].addr.family == family)
			return &l->esp->local[i];
	return NULL;
}

/* One grant: who it is of, and what is said.  Nothing changes yet. */
static struct peer *
read_peer(struct fw_mesh_link *l, const struct pk_grant *g)
{
	const struct fw_local *us;
	struct pk_mesh_peer said;
	struct pk_diag diag;
	struct peer *p, *same;

	if (pk_mesh_peer_parse(&said, g->settings, &diag) != 0) {
		pk_warn("mesh: %s: %s", g->name, diag.text);
		return NULL;
	}
	us = our_end(l, said.addr.family);
	if (us == NULL || (said.out != 0 && g->secret_len != PK_MESH_SA_KEY)) {
		pk_warn("mesh: %s: %s", g->name,
		    us == NULL ? "we have no ipsec-address of its family" : "no key of 36 bytes");
		return NULL;
	}
	HASH_FIND_STR(l->peers, g->name, p);
	/* Another number, or another place, is another peer. */
	if (p != NULL &&
	    (p->way.number != said.number || pk_addr_compare(&p->way.addr, &said.addr) != 0)) {
		end_peer(l, p);
		p = NULL;
	}
	if (p == NULL) {
		HASH_FIND(by_number, l->by_number, &said.number, sizeof(said.number), same);
		if (same != NULL)
			end_peer(l, same);
		p = calloc(1, sizeof(*p));
		if (p == NULL)
			return NULL;
		snprintf(p->name, sizeof(p->name), "%s", g->name);
		p->dpu = fw_dpu_number(g->name);
		p->way = (struct esp_mesh_peer){ .number = said.number,
			.us = us->addr,
			.addr = said.addr,
			.wire = us->wire,
			.vrf = us->vrf };
		HASH_ADD_STR(l->peers, name, p);
		HASH_ADD(by_number, l->by_number, way.number, sizeof(p->way.number), p);
		pk_notice("mesh: %s: number %u", p->name, said.number);
	}
	p->now = said;
	if (said.out != 0)
		memcpy(p->key, g->secret, PK_MESH_SA_KEY);
	p->set = l->status.sets;
	return p;
}

static struct inbound *
find_inbound(struct peer *p, uint32_t spi)
{
	for (unsigned int k = 0; k < INBOUND; k++)
		if (p->in[k].spi == spi)
			return &p->in[k];
	return NULL;
}

/* What is to be received by `kdf`, side by side. */
struct wanted {
	struct pk_mesh_kdf *kdf;
	const struct esp_mesh_peer **peer;
	uint32_t *spi, *index;
	struct inbound **to;
	unsigned int nb;
};

/* The place for an SPI: a free one, or that of the oldest, which shares the SPI's slot in the SAD. */
static struct inbound *
place(struct fw_mesh_link *l, struct peer *p, uint32_t spi)
{
	struct inbound *in = &p->in[(spi >> 20) % INBOUND];

	if (in->spi != 0)
		end_inbound(l, in);
	in->spi = spi;
	return in;
}

static void
want_inbound(struct fw_mesh_link *l, struct peer *p, struct wanted w[PK_MESH_DEVICE_KEYS])
{
	uint64_t until_ns = l->now_ns() + FW_MESH_OVERLAP_NS;

	for (unsigned int k = 0; k < INBOUND; k++)
		if (p->in[k].spi != 0 && p->in[k].until_ns == 0)
			p->in[k].until_ns = until_ns;
	for (uint32_t k = 0; k < p->now.nb_in; k++) {
		struct inbound *in = find_inbound(p, p->now.in[k]);
		struct wanted *to = &w[p->now.in_key[k]];

		uint64_t device = l->device[p->now.in_key[k]];

		if (in == NULL || in->device != device) {
			in = place(l, p, p->now.in[k]);
			to->peer[to->nb] = &p->way;
			to->spi[to->nb] = in->spi;
			to->to[to->nb++] = in;
			in->device = device;
		}
		in->until_ns = 0;
	}
}

static void
receive(struct fw_mesh_link *l, struct wanted *w)
{
	struct pk_diag diag;

	if (w->nb == 0)
		return;
	if (esp_mesh_receive(
	        l->esp->sad, w->kdf, w->peer, w->spi, w->index, w->nb, l->now_ns(), &diag) != 0)
		pk_error("mesh: %s", diag.text);
	for (unsigned int i = 0; i < w->nb; i++) {
		if (w->index[i] == ESP_SA_NONE) {
			memset(w->to[i], 0, sizeof(*w->to[i]));
			continue;
		}
		w->to[i]->index = w->index[i];
		l->status.installed++;
	}
}

/* The SA it is sent by from now on; *waits: the one before is to go when lcores have let go of it. */
static void
send_by(struct fw_mesh_link *l, struct peer *p, bool *waits)
{
	uint64_t print = fingerprint(p->key, sizeof(p->key));
	bool same = p->now.out == p->out_spi && print == p->out_print;
	struct pk_diag diag;
	uint32_t index;

	/* Its name is taken as long as there is another of it. */
	if (!same && p->now.out == p->out_spi) {
		end_sa(l, &p->out);
		esp_sad_settle(l->esp->sad);
	}
	if (!same && p->now.out != 0 &&
	    esp_mesh_send(l->esp->sad, &p->way, p->now.out, p->key, l->now_ns(), &index, &diag) !=
	        0) {
		pk_error("mesh: %s: %s", p->name, diag.text);
	} else if (!same) {
		p->before = p->out;
		p->out = p->now.out != 0 ? index : ESP_SA_NONE;
		p->out_spi = p->now.out;
		p->out_print = print;
		*waits |= p->before != ESP_SA_NONE;
		l->status.installed += p->out != ESP_SA_NONE;
	}
	pk_wipe(p->key, sizeof(p->key));
	esp_mesh_switch(l->esp->sad, p->way.number, p->out);
	show_tunnel(l, p);
}

static bool
make_room(struct wanted *w, size_t nb, const uint8_t *device_key)
{
	w->peer = calloc(nb, sizeof(w->peer[0]));
	w->spi = calloc(nb, sizeof(w->spi[0]));
	w->index = calloc(nb, sizeof(w->index[0]));
	w->to = calloc(nb, sizeof(w->to[0]));
	return w->peer != NULL && w->spi != NULL && w->index != NULL && w->to != NULL &&
	    pk_mesh_kdf_create(&w->kdf, device_key) == 0;
}

static void
wanted_fini(struct wanted *w)
{
	free(w->peer);
	free(w->spi);
	free(w->index);
	free(w->to);
	pk_mesh_kdf_destroy(w->kdf);
}

/* The grant about ourselves, if the set is one for this run. */
static const struct pk_grant *
find_self(const struct fw_mesh_link *l, const struct pk_grant *g, size_t nb)
{
	struct pk_diag diag;
	uint64_t boot;

	for (size_t i = 0; i < nb; i++) {
		if (strncmp(g[i].settings, "boot=", 5) != 0)
			continue;
		if (pk_mesh_self_parse(&boot, g[i].settings, &diag) == 0 && boot == l->epoch &&
		    g[i].secret_len == PK_MESH_DEVICE_KEYS * (size_t)PK_MESH_DEVICE_KEY)
			return &g[i];
		pk_info("mesh: keys for another run of picketd are not taken");
	}
	return NULL;
}

static void
on_grants(void *arg, const struct pk_grant *g, size_t nb)
{
	struct fw_mesh_link *l = arg;
	const struct pk_grant *self = find_self(l, g, nb);
	struct wanted w[PK_MESH_DEVICE_KEYS] = { 0 };
	struct peer *p, *next;
	bool waits = false, room = true;

	l->status.sets++;
	for (unsigned int k = 0; self != NULL && k < PK_MESH_DEVICE_KEYS; k++) {
		const uint8_t *key = self->secret + (size_t)k * PK_MESH_DEVICE_KEY;

		room = room && make_room(&w[k], 2 * nb, key);
		l->device[k] = fingerprint(key, PK_MESH_DEVICE_KEY);
	}
	if (!room)
		pk_error("mesh: no memory for a set of %zu", nb);
	for (size_t i = 0; self != NULL && room && i < nb; i++)
		if (&g[i] != self)
			(void)read_peer(l, &g[i]);
	HASH_ITER(hh, l->peers, p, next)
	{
		if (p->set != l->status.sets)
			end_peer(l, p);
		else
			want_inbound(l, p, w);
	}
	for (unsigned int k = 0; k < PK_MESH_DEVICE_KEYS; k++)
		receive(l, &w[k]);
	HASH_ITER(hh, l->peers, p, next)
	{
		send_by(l, p, &waits);
	}
	/* The SAs that were sent by before may still be in lcores' hands: not an instant longer than this. */
	esp_sad_settle(l->esp->sad);
	if (waits)
		esp_sad_wait(l->esp->sad);
	HASH_ITER(hh, l->peers, p, next)
	{
		end_sa(l, &p->before);
	}
	esp_sad_settle(l->esp->sad);
	for (unsigned int k = 0; k < PK_MESH_DEVICE_KEYS; k++)
		wanted_fini(&w[k]);
	l->status.nb_peers = HASH_COUNT(l->peers);
}

/* ---- time ---- */

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct fw_mesh_link *l = arg;
	uint64_t now_ns = l->now_ns();
	struct peer *p, *next;

	(void)fd;
	(void)what;
	HASH_ITER(hh, l->peers, p, next)
	{
		for (unsigned int k = 0; k < INBOUND; k++)
			if (p->in[k].until_ns != 0 && now_ns >= p->in[k].until_ns)
				end_inbound(l, &p->in[k]);
	}
	esp_sad_settle(l->esp->sad);
}

int
fw_mesh_link_create(struct fw_mesh_link **out, struct event_base *base, const char *path,
    struct fw_esp *esp, uint64_t epoch, uint64_t (*now_ns)(void))
{
	static const struct timeval period = { .tv_sec = TICK_S };
	struct fw_mesh_link *l = calloc(1, sizeof(*l));
	int rc;

	if (l == NULL)
		return -ENOMEM;
	l->esp = esp;
	l->epoch = epoch;
	l->now_ns = now_ns;
	l->tick = event_new(base, -1, EV_PERSIST, on_tick, l);
	rc = l->tick != NULL && event_add(l->tick, &period) == 0
	    ? pk_grant_source_create(&l->source, base, path, "mesh", on_grants, l)
	    : -ENOMEM;
	if (rc < 0) {
		fw_mesh_link_destroy(l);
		return rc;
	}
	*out = l;
	return 0;
}

void
fw_mesh_link_destroy(struct fw_mesh_link *l)
{
	struct peer *p, *next;

	if (l == NULL)
		return;
	pk_grant_source_destroy(l->source);
	if (l->tick != NULL)
		event_free(l->tick);
	HASH_ITER(hh, l->peers, p, next)
	{
		end_peer(l, p);
	}
	free(l);
}

void
fw_mesh_link_status(const struct fw_mesh_link *l, struct fw_mesh_status *out)
{
	*out = l->status;
	out->connected = pk_grant_source_connected(l->source);
}

const char *
fw_mesh_link_peer(const struct fw_mesh_link *l, uint32_t reqid)
{
	uint32_t number = reqid & ~ESP_MESH_REQID;
	struct peer *p;

	if (l == NULL || reqid < ESP_MESH_REQID)
		return NULL;
	HASH_FIND(by_number, l->by_number, &number, sizeof(number), p);
	return p != NULL ? p->name : NULL;
}
