#include "lib/mesh.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include <event2/event.h>
#include <uthash.h>

#include "lib/clock.h"
#include "lib/grant.h"
#include "lib/log.h"
#include "policy/mesh.h"
#include "policy/server/policyd_priv.h"

/*
 * Keys of mesh mode: who has which device keys, and the generation of the key from each DPU to each other.
 *
 * For a pair, `gen` is what its sender sends by, and gen + 1 what it will send by next; the receiver has both, so
 * senders are moved on without a gap.  They are moved on:
 *
 *      when time is over            the receiver's next device key becomes the current one, and a new one is made
 *      when the sender starts anew  since its numbers begin again, the key may not be the same (gen + 1)
 *      when the receiver does       since it has forgotten what has come (gen + 2), and gets new device keys
 *      when they are a pair again   which they have not been for a while (gen + 1)
 *
 * All this is in a file, mode 0600, and nothing is sent before it is there: a server that was restarted says the same
 * again, so its end is no event for any DPU, and no key is given away a second time for other packets.
 */
#define PATIENCE        10 /* periods that a receiver's keys wait for a sender that is not connected */
#define GENERATION_ROOM (PK_MESH_GENERATIONS - 8) /* of a pair, under one device key */
#define HEX_KEY         (2 * PK_MESH_DEVICE_KEY)

struct mesh_dpu {
	char name[PK_SPIFFE_NAME_MAX];
	uint32_t number;
	uint64_t boot; /* of its data plane; 0: it has not told */
	struct pk_addr addr;
	uint8_t key[PK_MESH_DEVICE_KEYS][PK_MESH_DEVICE_KEY];
	uint8_t now; /* the current one of these */
	uint8_t waited;
	UT_hash_handle hh, by_number;
};

struct pair_key {
	uint32_t from, to; /* numbers */
};

struct mesh_pair {
	struct pair_key key;
	uint32_t gen, used; /* under the current device keys */
	uint8_t device;     /* key of `gen`; that of gen + 1 is the receiver's next */
	bool active;
	uint64_t round; /* of mesh_follow(), when it was wanted last */
	UT_hash_handle hh;
};

struct mesh {
	struct policyd *p;
	char path[4096];
	struct mesh_dpu *dpus, *by_number;
	struct mesh_pair *pairs;
	uint32_t next_number;
	struct policy_mesh *now, *canary;
	struct event *rekey;
	uint64_t round;
	bool dirty, saving, stopping;
};

/* ---- the file ---- */

struct save_job {
	struct pk_job job;
	struct policyd *p;
	char path[4096];
	char *text;
	size_t len;
	int err;
};

static void save(struct mesh *m);

static void
save_work(struct pk_job *job)
{
	struct save_job *s = (struct save_job *)job;
	char beside[4096 + 8];
	int fd;

	snprintf(beside, sizeof(beside), "%s.new", s->path);
	fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || write(fd, s->text, s->len) != (ssize_t)s->len || fsync(fd) != 0)
		s->err = errno != 0 ? -errno : -EIO;
	if (fd >= 0)
		close(fd);
	if (s->err == 0 && rename(beside, s->path) != 0)
		s->err = -errno;
}

static void
send_one(void *arg, const struct server_dpu_status *s)
{
	if (s->connected)
		grant_send(arg, s->name);
}

static void
save_done(struct pk_job *job)
{
	struct save_job *s = (struct save_job *)job;
	struct mesh *m = s->p->mesh;

	if (s->err != 0)
		pk_error("%s: not written: %s; keys of mesh mode are not sent", s->path,
		    strerror(-s->err));
	if (m != NULL) {
		m->saving = false;
		m->dirty |= s->err != 0;
		if (s->err == 0 && m->dirty)
			save(m);
		else if (s->err == 0 && !m->stopping)
			server_dpus_each(m->p->dpus, send_one, m->p);
	}
	pk_wipe(s->text, s->len);
	free(s->text);
	free(s);
}

static void
put_hex(FILE *f, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fprintf(f, "%02x", bytes[i]);
}

static void
save(struct mesh *m)
{
	struct save_job *s;
	FILE *f;

	m->dirty = true;
	if (m->saving || m->stopping || m->p->helper == NULL)
		return;
	s = calloc(1, sizeof(*s));
	f = s != NULL ? open_memstream(&s->text, &s->len) : NULL;
	if (f == NULL) {
		free(s);
		pk_error("%s: not written: no memory", m->path);
		return;
	}
	fprintf(f, "picket mesh 1\n");
	for (struct mesh_dpu *d = m->dpus; d != NULL; d = d->hh.next) {
		char addr[PK_ADDR_TEXT] = "-";

		if (d->addr.family != 0)
			pk_addr_text(&d->addr, addr);
		fprintf(f, "dpu %s %u %016" PRIx64 " %s %u ", d->name, d->number, d->boot, addr,
		    d->now);
		for (unsigned int k = 0; k < PK_MESH_DEVICE_KEYS; k++)
			put_hex(f, d->key[k], PK_MESH_DEVICE_KEY);
		fputc('\n', f);
	}
	for (struct mesh_pair *o = m->pairs; o != NULL; o = o->hh.next)
		fprintf(f, "pair %u %u %u %u %u %u\n", o->key.from, o->key.to, o->gen, o->used,
		    o->device, o->active);
	if (fclose(f) != 0) {
		free(s->text);
		free(s);
		return;
	}
	s->job.work = save_work;
	s->job.done = save_done;
	s->p = m->p;
	strcpy(s->path, m->path);
	m->dirty = false;
	m->saving = true;
	pk_helper_give(m->p->helper, &s->job);
}

/* ---- DPUs and pairs ---- */

static void
new_key(struct mesh_dpu *d, unsigned int k)
{
	PK_ASSERT(getrandom(d->key[k], PK_MESH_DEVICE_KEY, 0) == PK_MESH_DEVICE_KEY);
}

static struct mesh_dpu *
add_dpu(struct mesh *m, const char *name, uint32_t number)
{
	struct mesh_dpu *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return NULL;
	snprintf(d->name, sizeof(d->name), "%s", name);
	d->number = number;
	m->next_number = PK_MAX(m->next_number, number + 1);
	HASH_ADD_STR(m->dpus, name, d);
	HASH_ADD(by_number, m->by_number, number, sizeof(d->number), d);
	return d;
}

static struct mesh_dpu *
find_dpu(const struct mesh *m, const char *name)
{
	struct mesh_dpu *d;

	HASH_FIND_STR(m->dpus, name, d);
	return d;
}

static struct mesh_dpu *
find_number(const struct mesh *m, uint32_t number)
{
	struct mesh_dpu *d;

	HASH_FIND(by_number, m->by_number, &number, sizeof(number), d);
	return d;
}

static struct mesh_pair *
get_pair(struct mesh *m, uint32_t from, uint32_t to)
{
	struct pair_key key = { from, to };
	struct mesh_pair *o;

	HASH_FIND(hh, m->pairs, &key, sizeof(key), o);
	if (o != NULL || (o = calloc(1, sizeof(*o))) == NULL)
		return o;
	o->key = key;
	HASH_ADD(hh, m->pairs, key, sizeof(o->key), o);
	return o;
}

static void rotate(struct mesh *m, struct mesh_dpu *to);

/* Its sender is to send by another key from now on; `steps` 2: and by none that the receiver has had. */
static void
move_on(struct mesh *m, struct mesh_pair *o, unsigned int steps)
{
	struct mesh_dpu *to = find_number(m, o->key.to);

	o->gen += steps;
	o->used += steps;
	o->device = (uint8_t)!to->now;
	if (o->used >= GENERATION_ROOM)
		rotate(m, to);
}

/* The next device key of a receiver is the current one, and there is another next. */
static void
rotate(struct mesh *m, struct mesh_dpu *to)
{
	to->now = !to->now;
	to->waited = 0;
	new_key(to, !to->now);
	for (struct mesh_pair *o = m->pairs; o != NULL; o = o->hh.next) {
		if (o->key.to != to->number)
			continue;
		o->gen++;
		o->used = 1;
		o->device = to->now;
	}
}

static bool
connected(const struct mesh *m, const struct mesh_dpu *d)
{
	struct server_dpu_status s;

	return server_dpus_status(m->p->dpus, d->name, &s) == 0 && s.connected;
}

/* A receiver that is away would not hear of its new keys, and a sender that is away would go on with an old one. */
static bool
may_rotate(const struct mesh *m, struct mesh_dpu *to)
{
	if (to->boot == 0 || !connected(m, to))
		return false;
	if (to->waited >= PATIENCE)
		return true;
	for (const struct mesh_pair *o = m->pairs; o != NULL; o = o->hh.next) {
		const struct mesh_dpu *from =
		    o->key.to == to->number && o->active ? find_number(m, o->key.from) : NULL;

		if (from != NULL && from->boot != 0 && !connected(m, from)) {
			to->waited++;
			return false;
		}
	}
	return true;
}

static void
on_rekey(evutil_socket_t fd, short what, void *arg)
{
	struct mesh *m = arg;
	unsigned int nb = 0;

	(void)fd;
	(void)what;
	for (struct mesh_dpu *d = m->dpus; d != NULL; d = d->hh.next) {
		if (!may_rotate(m, d))
			continue;
		rotate(m, d);
		nb++;
	}
	if (nb == 0)
		return;
	pk_info("mesh: new device keys for %u DPUs", nb);
	save(m);
}

/* ---- edges ---- */

static void
want(struct mesh *m, const char *from, const char *to)
{
	struct mesh_dpu *a = find_dpu(m, from), *b = find_dpu(m, to);
	struct mesh_pair *o;
	char why[128];

	if (a == NULL || b == NULL || !verifier_allows(m->p, from, why, sizeof(why)) ||
	    !verifier_allows(m->p, to, why, sizeof(why)) ||
	    (o = get_pair(m, a->number, b->number)) == NULL)
		return;
	o->round = m->round;
	if (o->active)
		return;
	o->active = true;
	move_on(m, o, 1);
	m->dirty = true;
}

static void
want_all(struct mesh *m, const struct policy_mesh *edges)
{
	for (size_t i = 0; i < policy_mesh_count(edges); i++) {
		struct policy_mesh_pair e = policy_mesh_get(edges, i);

		want(m, e.a, e.b);
		want(m, e.b, e.a);
	}
}

static void
follow(struct mesh *m)
{
	m->round++;
	want_all(m, m->now);
	want_all(m, m->canary);
	for (struct mesh_pair *o = m->pairs; o != NULL; o = o->hh.next) {
		if (!o->active || o->round == m->round)
			continue;
		o->active = false;
		m->dirty = true;
	}
	if (m->dirty)
		save(m);
}

void
mesh_plane(struct policyd *p, const char *dpu, uint64_t boot, const struct pk_addr *addr)
{
	struct mesh *m = p->mesh;
	struct mesh_dpu *d = find_dpu(m, dpu);

	if (d == NULL &&
	    (addr->family == 0 || m->next_number >= PK_MESH_NUMBERS ||
	        (d = add_dpu(m, dpu, m->next_number)) == NULL))
		return;
	if (d->boot == boot && pk_addr_compare(&d->addr, addr) == 0)
		return;
	if (d->boot != boot) {
		new_key(d, 0);
		new_key(d, 1);
		for (struct mesh_pair *o = m->pairs; o != NULL; o = o->hh.next) {
			if (o->key.to == d->number) {
				o->gen += 2;
				o->used = 1;
				o->device = (uint8_t)!d->now;
			} else if (o->key.from == d->number) {
				move_on(m, o, 1);
			}
		}
	}
	/* Without an address it has no ESP any more. */
	d->boot = addr->family != 0 ? boot : 0;
	d->addr = *addr;
	pk_notice("mesh: dpu %s: another data plane, number %u", dpu, d->number);
	m->dirty = true;
	follow(m);
}

void
mesh_follow(struct policyd *p, struct policy_mesh *now, struct policy_mesh *canary)
{
	struct mesh *m = p->mesh;

	if (now != NULL) {
		policy_mesh_destroy(m->now);
		m->now = now;
	}
	if (canary != NULL) {
		policy_mesh_destroy(m->canary);
		m->canary = canary;
	}
	follow(m);
}

void
mesh_canary_end(struct policyd *p)
{
	policy_mesh_destroy(p->mesh->canary);
	p->mesh->canary = NULL;
	follow(p->mesh);
}

/* ---- what a DPU is told ---- */

bool
mesh_ready(const struct policyd *p)
{
	return p->mesh == NULL || (!p->mesh->dirty && !p->mesh->saving);
}

struct told {
	char text[PK_MESH_TEXT];
	uint8_t key[PK_MESH_DEVICE_KEYS * PK_MESH_DEVICE_KEY];
};

static void
tell_key(const struct mesh_dpu *to, unsigned int device, uint32_t spi, uint8_t *out)
{
	uint8_t key[1][PK_MESH_SA_KEY];
	struct pk_mesh_kdf *kdf;

	PK_ASSERT(pk_mesh_kdf_create(&kdf, to->key[device]) == 0);
	pk_mesh_kdf_derive(kdf, &spi, 1, key);
	pk_mesh_kdf_destroy(kdf);
	memcpy(out, key[0], sizeof(key[0]));
	pk_wipe(key, sizeof(key));
}

/* What `d` is told of another; false: nothing. */
static bool
tell_peer(struct mesh *m, const struct mesh_dpu *d, const struct mesh_dpu *other, struct told *t)
{
	struct pair_key in_key = { other->number, d->number },
	                out_key = { d->number, other->number };
	struct pk_mesh_peer peer = { .number = other->number, .addr = other->addr };
	struct mesh_pair *in, *out;

	HASH_FIND(hh, m->pairs, &in_key, sizeof(in_key), in);
	HASH_FIND(hh, m->pairs, &out_key, sizeof(out_key), out);
	if (in == NULL || out == NULL || !in->active || !out->active ||
	    other->addr.family != d->addr.family)
		return false;
	peer.nb_in = 2;
	peer.in[0] = pk_mesh_spi(other->number, in->gen);
	peer.in[1] = pk_mesh_spi(other->number, in->gen + 1);
	peer.in_key[0] = in->device;
	peer.in_key[1] = !d->now;
	peer.out = pk_mesh_spi(d->number, out->gen);
	tell_key(other, out->device, peer.out, t->key);
	pk_mesh_peer_text(t->text, &peer);
	return true;
}

int
mesh_grants(struct policyd *p, const char *dpu, struct mesh_grants *g)
{
	struct mesh *m = p->mesh;
	const struct mesh_dpu *d = m != NULL ? find_dpu(m, dpu) : NULL;
	struct told *t;

	memset(g, 0, sizeof(*g));
	if (d == NULL || d->boot == 0)
		return 0;
	g->room = HASH_COUNT(m->dpus) + 1;
	g->at = calloc(g->room, sizeof(g->at[0]));
	g->told = t = calloc(g->room, sizeof(*t));
	if (g->at == NULL || t == NULL) {
		mesh_grants_fini(g);
		return -ENOMEM;
	}
	pk_mesh_self_text(t->text, d->boot);
	memcpy(t->key, d->key, sizeof(d->key));
	g->at[g->nb++] = (struct pk_grant){
		.program = "mesh",
		.name = d->name,
		.settings = t->text,
		.secret = t->key,
		.secret_len = sizeof(t->key),
	};
	for (const struct mesh_dpu *other = m->dpus; other != NULL; other = other->hh.next) {
		t = &g->told[g->nb];
		if (other == d || other->boot == 0 || !tell_peer(m, d, other, t))
			continue;
		g->at[g->nb++] = (struct pk_grant){
			.program = "mesh",
			.name = other->name,
			.settings = t->text,
			.secret = t->key,
			.secret_len = PK_MESH_SA_KEY,
		};
	}
	return 0;
}

void
mesh_grants_fini(struct mesh_grants *g)
{
	if (g->told != NULL)
		pk_wipe(g->told, g->room * sizeof(g->told[0]));
	free(g->told);
	free(g->at);
}

/* ---- beginning and end ---- */

static bool
get_hex(uint8_t *out, size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++)
		if (sscanf(text + 2 * i, "%2hhx", &out[i]) != 1)
			return false;
	return true;
}

static bool
load_line(struct mesh *m, const char *line)
{
	char name[PK_SPIFFE_NAME_MAX], addr[64], key[PK_MESH_DEVICE_KEYS * HEX_KEY + 1];
	unsigned int number, now, from, to, gen, used, device, active;
	struct pk_diag diag;
	struct mesh_pair *o;
	struct mesh_dpu *d;
	uint64_t boot;

	if (sscanf(line, "dpu %63s %u %16" SCNx64 " %63s %u %128s", name, &number, &boot, addr,
	        &now, key) == 6) {
		if (number == 0 || number >= PK_MESH_NUMBERS || now > 1 ||
		    strlen(key) != PK_MESH_DEVICE_KEYS * HEX_KEY || find_dpu(m, name) != NULL ||
		    find_number(m, number) != NULL || (d = add_dpu(m, name, number)) == NULL)
			return false;
		d->boot = boot;
		d->now = (uint8_t)now;
		return get_hex(d->key[0], PK_MESH_DEVICE_KEY, key) &&
		    get_hex(d->key[1], PK_MESH_DEVICE_KEY, key + HEX_KEY) &&
		    (strcmp(addr, "-") == 0 || pk_addr_parse(&d->addr, addr, &diag) == 0);
	}
	if (sscanf(line, "pair %u %u %u %u %u %u", &from, &to, &gen, &used, &device, &active) !=
	        6 ||
	    find_number(m, from) == NULL || find_number(m, to) == NULL || device > 1 ||
	    active > 1 || (o = get_pair(m, from, to)) == NULL)
		return false;
	o->gen = gen;
	o->used = used;
	o->device = (uint8_t)device;
	o->active = active != 0;
	return true;
}

static int
load(struct mesh *m, struct pk_diag *diag)
{
	char line[512];
	FILE *f = fopen(m->path, "re");
	unsigned int at = 1;
	bool good;

	if (f == NULL && errno == ENOENT)
		return 0;
	if (f == NULL) {
		pk_diag_set(diag, "%s: %s", m->path, strerror(errno));
		return -errno;
	}
	good = fgets(line, sizeof(line), f) != NULL && strcmp(line, "picket mesh 1\n") == 0;
	while (good && fgets(line, sizeof(line), f) != NULL) {
		at++;
		good = load_line(m, line);
	}
	fclose(f);
	pk_wipe(line, sizeof(line));
	if (good)
		return 0;
	pk_diag_set(diag,
	    "%s:%u: not as it was written; without the file all DPUs get new keys, once they have reconnected",
	    m->path, at);
	return -EPROTO;
}

int
mesh_open(struct policyd *p, const char *path, uint64_t rekey_ns, struct pk_diag *diag)
{
	struct timeval period = { .tv_sec = (time_t)(rekey_ns / PK_NS_PER_S),
		.tv_usec = (suseconds_t)(rekey_ns % PK_NS_PER_S / PK_NS_PER_US) };
	struct mesh *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return -ENOMEM;
	p->mesh = m;
	m->p = p;
	m->next_number = 1;
	snprintf(m->path, sizeof(m->path), "%s", path);
	m->rekey = event_new(p->base, -1, EV_PERSIST, on_rekey, m);
	if (m->rekey == NULL || event_add(m->rekey, &period) != 0)
		return -ENOMEM;
	return load(m, diag);
}

void
mesh_start(struct policyd *p)
{
	if (p->mesh->dirty)
		save(p->mesh);
}

void
mesh_stop(struct policyd *p)
{
	if (p->mesh != NULL)
		p->mesh->stopping = true;
}

void
mesh_close(struct policyd *p)
{
	struct mesh *m = p->mesh;
	struct mesh_dpu *d, *next_dpu;
	struct mesh_pair *o, *next;

	if (m == NULL)
		return;
	p->mesh = NULL;
	HASH_ITER(hh, m->pairs, o, next)
	{
		HASH_DEL(m->pairs, o);
		free(o);
	}
	HASH_CLEAR(by_number, m->by_number);
	HASH_ITER(hh, m->dpus, d, next_dpu)
	{
		HASH_DEL(m->dpus, d);
		pk_wipe(d, sizeof(*d));
		free(d);
	}
	policy_mesh_destroy(m->now);
	policy_mesh_destroy(m->canary);
	if (m->rekey != NULL)
		event_free(m->rekey);
	free(m);
}
