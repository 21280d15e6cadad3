#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "policy/server/policyd_priv.h"

/*
 * From a candidate on its canary to everybody, or back.  policyd_priv.h has the states.
 *
 * What is newly denied on a DPU: the sessions that the candidate has ended, and the packets it has refused
 * beyond what that DPU refused before in as much time.  The first is exact; the second counts each try of
 * a client, and takes yesterday's scanner for usual.  The numbers are the data plane's since its start;
 * where they stood when the candidate went out is in the record, so a restart of the server loses none.
 */

#define RETRY_S 1

struct watch {                     /* of record->dpus[i] */
	uint64_t refused, revoked; /* as told last */
	bool told;
	uint64_t carried_refused, carried_revoked; /* of planes that have restarted since */
};

struct rollout {
	struct policyd *p;
	Picket__V1__Rollout *record;
	struct watch *watch;
	struct event *timer;
	bool ending; /* the change that ends it is on its way */
};

static const char *
name_of(const struct rollout *r)
{
	static char text[32];

	snprintf(text, sizeof(text), "generation %llu", (unsigned long long)r->record->generation);
	return text;
}

/* ---- the record on disk -------------------------------------------------------------------------- */

struct save_job {
	struct pk_job job;
	struct policyd *p;
	uint8_t *bytes;
	size_t len;
};

static void
save_work(struct pk_job *job)
{
	struct save_job *s = (struct save_job *)job;
	struct pk_diag diag;

	/* It may have ended meanwhile; the end is not written over. */
	if (s->p->candidate != NULL &&
	    server_store_put_rollout(s->p->store, s->bytes, s->len, &diag) != 0)
		pk_warn("rollout: not written: %s", diag.text);
}

static void
save_done(struct pk_job *job)
{
	struct save_job *s = (struct save_job *)job;

	free(s->bytes);
	free(s);
}

static void
save(struct rollout *r)
{
	struct save_job *s = calloc(1, sizeof(*s));

	if (s == NULL || r->p->helper == NULL ||
	    (s->bytes = candidate_pack(r->record, &s->len)) == NULL) {
		free(s);
		return;
	}
	s->job.work = save_work;
	s->job.done = save_done;
	s->p = r->p;
	pk_helper_give(r->p->helper, &s->job);
}

/* ---- what is newly denied ------------------------------------------------------------------------ */

static uint64_t
since(uint64_t now, uint64_t base)
{
	return now >= base ? now - base : now; /* a plane that has restarted counts from 0 */
}

static void
figure(const struct rollout *r, size_t i)
{
	Picket__V1__RolloutDpu *d = r->record->dpus[i];
	const struct watch *w = &r->watch[i];
	uint64_t age_ns = pk_clock_wall_ns() - r->record->started_unix_ns;

	if (!w->told)
		return;
	d->counted = true;
	d->refused = w->carried_refused + since(w->refused, d->base_refused);
	d->revoked = w->carried_revoked + since(w->revoked, d->base_revoked);
	d->usual = (uint64_t)(d->usual_per_s * ((double)age_ns / (double)PK_NS_PER_S) + 0.5);
	d->denied = d->revoked + (d->refused > d->usual ? d->refused - d->usual : 0);
}

static uint64_t
newly_denied(const struct rollout *r)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < r->record->n_dpus; i++) {
		figure(r, i);
		sum += r->record->dpus[i]->denied;
	}
	return sum;
}

/* ---- its life ------------------------------------------------------------------------------------ */

static void
end(struct rollout *r, enum server_kind kind, const char *reason)
{
	pk_notice("rollout of %s: %s: %s", name_of(r), server_kind_name(kind), reason);
	r->ending = true;
	apply_end_rollout(r->p, kind, reason);
}

static void
wake(struct rollout *r, uint64_t after_ns)
{
	struct timeval tv = { .tv_sec = (time_t)(after_ns / PK_NS_PER_S),
		.tv_usec = (suseconds_t)(after_ns % PK_NS_PER_S / 1000) };

	(void)evtimer_add(r->timer, &tv);
}

/* How the connected ones stand.  False: none of them is. */
static bool
look(struct rollout *r, uint64_t reported_after_ns, bool *all_realised, bool *all_reported)
{
	bool any = false;

	*all_realised = *all_reported = true;
	for (size_t i = 0; i < r->record->n_dpus; i++) {
		Picket__V1__RolloutDpu *d = r->record->dpus[i];
		struct server_dpu_counts c = { 0 };
		struct server_dpu_status s;

		d->connected = server_dpus_status(r->p->dpus, d->dpu, &s) == 0 && s.connected;
		if (!d->connected)
			continue;
		any = true;
		(void)server_dpus_counts(r->p->dpus, d->dpu, &c);
		d->realised = s.wanted != 0 && s.realised >= s.wanted;
		*all_realised &= d->realised;
		*all_reported &= c.known && c.at_ns >= reported_after_ns;
	}
	return any;
}

static void
check(struct rollout *r)
{
	Picket__V1__Rollout *m = r->record;
	uint64_t now = pk_clock_wall_ns(), until, denied;
	bool realised, reported;
	char why[160];

	if (r->ending)
		return;
	denied = newly_denied(r);
	if (m->canary->abort && denied > m->canary->abort_denied) {
		snprintf(why, sizeof(why), "%llu newly denied; at most %llu may be",
		    (unsigned long long)denied, (unsigned long long)m->canary->abort_denied);
		end(r, SERVER_KIND_ABORT, why);
		return;
	}
	if (m->state == PICKET__V1__ROLLOUT_STATE__ROLLOUT_SENDING) {
		if (!look(r, 0, &realised, &reported) || !realised)
			return;
		m->state = PICKET__V1__ROLLOUT_STATE__ROLLOUT_BAKING;
		m->baking_unix_ns = now;
		pk_notice("rollout of %s: its canary has realised it; it bakes for %u s",
		    name_of(r), m->canary->bake_s);
		save(r);
	}
	until = m->baking_unix_ns + m->canary->bake_s * PK_NS_PER_S;
	if (now < until) {
		wake(r, until - now);
		return;
	}
	/* The last word on what it denies is younger than the end of its time. */
	if (!look(r, pk_clock_mono_ns() - (now - until), &realised, &reported) || !realised ||
	    (m->canary->abort && !reported)) {
		wake(r, RETRY_S * PK_NS_PER_S);
		return;
	}
	snprintf(why, sizeof(why), "it has baked for %u s", m->canary->bake_s);
	end(r, SERVER_KIND_PROMOTE, why);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	check(arg);
}

static struct rollout *
adopt(struct policyd *p, Picket__V1__Rollout *record)
{
	struct rollout *r = calloc(1, sizeof(*r));

	rollout_destroy(p);
	if (r != NULL)
		r->watch = calloc(record->n_dpus + 1, sizeof(r->watch[0]));
	if (r == NULL || r->watch == NULL ||
	    (r->timer = evtimer_new(p->base, on_timer, r)) == NULL) {
		/* Its canary keeps the candidate until the server restarts. */
		pk_error("no memory to watch a rollout; restart the server");
		if (r != NULL)
			free(r->watch);
		free(r);
		picket__v1__rollout__free_unpacked(record, NULL);
		return NULL;
	}
	r->p = p;
	r->record = record;
	p->rollout = r;
	return r;
}

void
rollout_destroy(struct policyd *p)
{
	struct rollout *r = p->rollout;

	if (r == NULL)
		return;
	event_free(r->timer);
	picket__v1__rollout__free_unpacked(r->record, NULL);
	free(r->watch);
	free(r);
	p->rollout = NULL;
}

static int
send_candidate(struct rollout *r, struct server_change *whole,
    void (*concerned)(void *arg, const char *dpu), void (*away)(void *arg, const char *dpu),
    void *arg)
{
	const char **names = calloc(r->record->n_dpus + 1, sizeof(names[0]));
	int err = -ENOMEM;

	for (size_t i = 0; names != NULL && i < r->record->n_dpus; i++)
		names[i] = r->record->dpus[i]->dpu;
	if (names != NULL)
		err = server_dpus_canary_begin(r->p->dpus, whole, names, r->record->n_dpus,
		    PK_MAX(r->record->generation, r->p->generation), concerned, away, arg);
	free(names);
	return err;
}

void
rollout_begin(struct policyd *p, Picket__V1__Rollout *record, struct server_change *whole,
    void (*concerned)(void *arg, const char *dpu), void (*away)(void *arg, const char *dpu),
    void *arg)
{
	struct rollout *r = adopt(p, record);

	if (r == NULL)
		return;
	/* Where the counts stand before the first DPU hears of it. */
	for (size_t i = 0; i < record->n_dpus; i++) {
		struct server_dpu_counts c = { 0 };

		if (server_dpus_counts(p->dpus, record->dpus[i]->dpu, &c) != 0 || !c.known)
			continue;
		record->dpus[i]->base_refused = r->watch[i].refused = c.refused;
		record->dpus[i]->base_revoked = r->watch[i].revoked = c.revoked;
		record->dpus[i]->usual_per_s = c.usual_per_s;
		r->watch[i].told = true;
	}
	pk_notice(
	    "rollout of %s by %s: to %zu DPUs first", name_of(r), record->author, record->n_dpus);
	save(r);
	if (send_candidate(r, whole, concerned, away, arg) != 0)
		end(r, SERVER_KIND_ABORT, "no memory for its canary");
	else
		check(r);
}

void
rollout_restore(struct policyd *p, Picket__V1__Rollout *record, struct server_change *whole)
{
	struct rollout *r = adopt(p, record);

	if (r == NULL || whole == NULL)
		return;
	pk_notice("rollout of %s goes on", name_of(r));
	(void)send_candidate(r, whole, NULL, NULL, NULL);
	wake(r, RETRY_S * PK_NS_PER_S);
}

bool
rollout_under_way(const struct policyd *p)
{
	return p->rollout != NULL &&
	    (p->rollout->record->state == PICKET__V1__ROLLOUT_STATE__ROLLOUT_SENDING ||
	        p->rollout->record->state == PICKET__V1__ROLLOUT_STATE__ROLLOUT_BAKING);
}

uint64_t
rollout_generation(const struct policyd *p)
{
	return rollout_under_way(p) ? p->rollout->record->generation : 0;
}

/* ---- what DPUs say ------------------------------------------------------------------------------- */

static size_t
index_of(const struct rollout *r, const char *dpu)
{
	size_t i = 0;

	while (i < r->record->n_dpus && strcmp(r->record->dpus[i]->dpu, dpu) != 0)
		i++;
	return i;
}

void
rollout_progress(struct policyd *p, const char *dpu, uint64_t generation, enum server_stage stage,
    const char *text)
{
	struct rollout *r = p->rollout;
	char why[320];

	if (!rollout_under_way(p) || r->ending || index_of(r, dpu) == r->record->n_dpus)
		return;
	if (stage == SERVER_STAGE_REJECTED && generation >= r->record->generation) {
		snprintf(why, sizeof(why), "%s rejects it: %.200s", dpu, text);
		end(r, SERVER_KIND_ABORT, why);
	} else if (stage == SERVER_STAGE_REALISED) {
		/* The caller is not done with the DPU yet. */
		wake(r, 0);
	}
}

void
rollout_counted(struct policyd *p, const char *dpu, const struct server_dpu_counts *c)
{
	struct rollout *r = p->rollout;
	Picket__V1__RolloutDpu *d;
	struct watch *w;
	size_t i;

	if (!rollout_under_way(p) || (i = index_of(r, dpu)) == r->record->n_dpus)
		return;
	d = r->record->dpus[i];
	w = &r->watch[i];
	if (w->told && (c->refused < w->refused || c->revoked < w->revoked)) {
		w->carried_refused += since(w->refused, d->base_refused);
		w->carried_revoked += since(w->revoked, d->base_revoked);
		d->base_refused = d->base_revoked = 0;
	} else if (!w->told && d->base_refused == 0 && d->base_revoked == 0 && !d->realised) {
		/* It had told nothing before: what it says before it realises the candidate. */
		d->base_refused = c->refused;
		d->base_revoked = c->revoked;
	}
	w->refused = c->refused;
	w->revoked = c->revoked;
	w->told = true;
	wake(r, 0);
}

void
rollout_lost(struct policyd *p, const char *why)
{
	if (rollout_under_way(p) && !p->rollout->ending)
		end(p->rollout, SERVER_KIND_ABORT, why);
}

/* ---- the end ------------------------------------------------------------------------------------- */

Picket__V1__Rollout *
rollout_end_record(const struct policyd *p, enum server_kind kind, const char *reason)
{
	Picket__V1__Rollout copy, *out = NULL;
	uint8_t *bytes;
	size_t len;

	if (!rollout_under_way(p))
		return NULL;
	(void)newly_denied(p->rollout);
	copy = *p->rollout->record;
	copy.state = kind == SERVER_KIND_PROMOTE ? PICKET__V1__ROLLOUT_STATE__ROLLOUT_PROMOTED
	                                         : PICKET__V1__ROLLOUT_STATE__ROLLOUT_ABORTED;
	copy.ended_unix_ns = pk_clock_wall_ns();
	copy.reason = admin_borrow(reason);
	bytes = candidate_pack(&copy, &len);
	if (bytes != NULL)
		out = picket__v1__rollout__unpack(NULL, len, bytes);
	free(bytes);
	return out;
}

void
rollout_ended(
    struct policyd *p, enum server_kind kind, Picket__V1__Rollout *record, const char *why)
{
	struct rollout *r = p->rollout;

	if (record != NULL) {
		(void)adopt(p, record);
		return;
	}
	if (!rollout_under_way(p))
		return;
	pk_error("rollout of %s: %s is not possible: %s", name_of(r), server_kind_name(kind), why);
	r->ending = false;
	if (kind == SERVER_KIND_PROMOTE)
		end(r, SERVER_KIND_ABORT, why);
	else
		wake(r, RETRY_S * PK_NS_PER_S);
}

/* ---- for operators ------------------------------------------------------------------------------- */

void
rollout_on_rollout(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg)
{
	Picket__V1__RolloutReply m = PICKET__V1__ROLLOUT_REPLY__INIT;
	struct policyd *p = arg;
	Picket__V1__Rollout told;
	struct pk_spiffe who;
	bool realised, reported;

	(void)bytes;
	(void)len;
	if (!admin_authorise_call(p, c, peer, POLICY_MAY_READ, &who))
		return;
	if (p->rollout != NULL) {
		if (rollout_under_way(p)) {
			(void)newly_denied(p->rollout);
			(void)look(p->rollout, 0, &realised, &reported);
		}
		told = *p->rollout->record;
		told.request = NULL;
		m.rollout = &told;
	}
	admin_reply(c, &m.base);
}
