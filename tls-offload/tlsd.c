#include "tls-offload/tlsd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/svid.h"
#include "tls-offload/plane.h"
#include "tls-offload/tlsd_priv.h"

static void
tell_workers(struct tlso *t, unsigned int what)
{
	for (unsigned int i = 0; i < t->nb_workers; i++)
		tlso_worker_tell(t->worker[i], what);
}

struct tlso_trust *
tlso_trust_now(struct tlso *all)
{
	struct tlso_trust *trust;

	pthread_mutex_lock(&all->trust_lock);
	trust = all->trust != NULL ? tlso_trust_get(all->trust) : NULL;
	pthread_mutex_unlock(&all->trust_lock);
	return trust;
}

const struct tlso_wire *
tlso_wire(const struct tlso *all, uint16_t wire)
{
	for (unsigned int i = 0; i < all->nb_wires; i++)
		if (all->wire[i].wire == wire)
			return &all->wire[i];
	pk_bug(__FILE__, __LINE__, "a wire that has no port");
}

/* ---- what the agent says ---- */

static void
on_svid(void *arg, const struct pk_svid *s)
{
	struct tlso *t = arg;
	struct pk_diag diag;

	if (tlso_identities_put(t->identities, s, &diag) < 0)
		pk_error("%s", diag.text);
	else
		pk_info("%s: has an SVID", s->workload);
}

static void
on_gone(void *arg, const char *workload, const char *why)
{
	struct tlso *t = arg;

	pk_notice("%s: identity is gone: %s", workload, why);
	tlso_identities_remove(t->identities, workload);
	tell_workers(t, TLSO_RECHECK_TRUST);
}

static void
on_trust(void *arg, const struct pk_svid_trust *trust)
{
	struct tlso *t = arg;
	struct tlso_trust *fresh, *old;

	if (tlso_trust_create(&fresh, trust) < 0) {
		/* Better nobody than those who may have been revoked. */
		pk_error("no memory for a new trust bundle: nobody is believed until the next");
		fresh = NULL;
	}
	pthread_mutex_lock(&t->trust_lock);
	old = t->trust;
	t->trust = fresh;
	pthread_mutex_unlock(&t->trust_lock);
	tlso_trust_put(old);
	tell_workers(t, TLSO_RECHECK_TRUST);
}

static const struct pk_svid_ops svid_ops = { .svid = on_svid, .gone = on_gone, .trust = on_trust };

/* ---- beginning and end ---- */

static int
parse_ports(struct tlso *t, struct pk_diag *diag)
{
	const struct pk_conf_list *ports = &t->conf->ports;

	if (ports->nb == 0 || ports->nb > TLSO_WIRES_MAX) {
		pk_diag_set(diag,
		    "%zu ports are configured; want 1 to %d lines such as port = 0 tls0", ports->nb,
		    TLSO_WIRES_MAX);
		return -EINVAL;
	}
	for (size_t i = 0; i < ports->nb; i++) {
		struct tlso_wire *w = &t->wire[i];
		unsigned int number;
		char rest;

		if (sscanf(ports->item[i], "%u %15s %c", &number, w->iface, &rest) != 2 ||
		    number >= TLSO_WIRES_MAX) {
			pk_diag_set(diag,
			    "port = %s: want the number of a wire, below %d, and an interface",
			    ports->item[i], TLSO_WIRES_MAX);
			return -EINVAL;
		}
		w->wire = (uint16_t)number;
		for (size_t k = 0; k < i; k++)
			if (t->wire[k].wire == w->wire) {
				pk_diag_set(diag, "port = %s: wire %u has another one",
				    ports->item[i], number);
				return -EINVAL;
			}
		t->nb_wires++;
	}
	return 0;
}

int
tlso_create(
    struct tlso **out, struct event_base *base, const struct tlso_conf *conf, struct pk_diag *diag)
{
	struct tlso *t = calloc(1, sizeof(*t));
	int rc;

	if (t == NULL)
		return -ENOMEM;
	t->conf = conf;
	t->base = base;
	t->box.fd = -1;
	pthread_mutex_init(&t->trust_lock, NULL);
	rc = parse_ports(t, diag);
	if (rc == 0)
		rc = tlso_box_init(&t->box);
	if (rc == 0)
		rc = tlso_identities_create(&t->identities, (enum tlso_mode)conf->mode);
	if (rc < 0) {
		tlso_destroy(t);
		return rc;
	}
	*out = t;
	return 0;
}

int
tlso_start(struct tlso *t, struct pk_diag *diag)
{
	int rc = 0;

	for (unsigned int i = 0; rc == 0 && i < t->conf->handshake_workers; i++) {
		rc = tlso_handshaker_start(&t->handshaker[i], t, diag);
		t->nb_handshakers++;
	}
	for (unsigned int i = 0; rc == 0 && i < t->conf->workers; i++) {
		struct tlso_worker *w = calloc(1, sizeof(*w));

		if (w == NULL)
			return -ENOMEM;
		t->worker[t->nb_workers++] = w;
		rc = tlso_worker_start(w, t, i, diag);
	}
	if (rc == 0)
		rc = tlso_plane_create(&t->plane, t, diag);
	if (rc == 0)
		rc = pk_svid_source_create(&t->source, t->base, t->conf->agent, &svid_ops, t, diag);
	if (rc == 0)
		rc = pk_svid_source_watch(t->source, PK_SVID_ALL);
	return rc;
}

static unsigned int
count_flows(struct tlso *t)
{
	unsigned int nb = 0;

	for (unsigned int i = 0; i < t->nb_workers; i++) {
		pthread_mutex_lock(&t->worker[i]->lock);
		nb += t->worker[i]->nb_flows;
		pthread_mutex_unlock(&t->worker[i]->lock);
	}
	return nb;
}

void
tlso_stop(struct tlso *t)
{
	uint64_t until = pk_clock_mono_ns() + t->conf->drain_ns;
	unsigned int nb;

	if (t->plane == NULL)
		return;
	tlso_plane_leave(t->plane);
	tell_workers(t, TLSO_RECHECK_DRAIN);
	nb = count_flows(t);
	if (nb > 0)
		pk_notice("draining: %u flows", nb);
	/* Revocations are heeded to the end. */
	while (count_flows(t) > 0 && pk_clock_mono_ns() < until) {
		event_base_loop(t->base, EVLOOP_NONBLOCK);
		usleep(10000);
	}
}

void
tlso_destroy(struct tlso *t)
{
	if (t == NULL)
		return;
	/* Handshakes come back to the workers' boxes, answers as well; then nobody writes to them. */
	for (unsigned int i = 0; i < t->nb_handshakers; i++)
		tlso_handshaker_stop(&t->handshaker[i]);
	for (unsigned int i = 0; i < t->nb_workers; i++)
		tlso_worker_join(t->worker[i]);
	tlso_plane_destroy(t->plane);
	for (unsigned int i = 0; i < t->nb_workers; i++)
		tlso_worker_destroy(t->worker[i]);
	pk_svid_source_destroy(t->source);
	tlso_identities_destroy(t->identities);
	tlso_trust_put(t->trust);
	if (t->box.fd >= 0)
		tlso_box_fini(&t->box);
	pthread_mutex_destroy(&t->trust_lock);
	free(t);
}
