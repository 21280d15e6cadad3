#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "policy/map.h"
#include "policy/server/issuer.h"
#include "policy/server/policyd_priv.h"

/*
 * Identities: who is given an X.509-SVID, and which of those given are refused from now on.
 *
 *   DPU --SvidRequest--> may it?  --job--> signed by the issuer's thread --> may it still?  --Svid--> DPU
 *
 * A DPU may ask for the workloads that live behind it, as long as its host is trusted and its evidence fresh, and
 * for itself as long as it is.  That is asked twice, for while a request was being signed the host may have fallen;
 * what was signed for it then is thrown away.
 *
 * When a host loses its trust, or a DPU its own, everything issued until that second is revoked: one entry, sent at once
 * to every DPU, and kept (state-dir/revoked) until the last of it would have expired.  What is issued later is issued
 * on new evidence, in a later second.  So is a workload's when it leaves the DPU it was issued to: the DPU wipes the key,
 * and whoever has kept a copy of it has nothing.
 */
#define JOBS_MAX 4096 /* being signed at a time */
#define GATHER_MS \
	20 /* what is revoked within this time after something else goes out, and to disk, as one */
#define RETRY_MS    5000
#define SKEW_S      600 /* certificates are taken for valid by clocks that are a little behind */
#define TRUST_BATCH 512 /* revocations in a message: below 100 KiB */
#define LINE_FORMAT "%d %llu %llu %127s"

struct given {
	char *workload;
	uint64_t until_s;
};

struct identities {
	struct server_issuer *issuer;
	struct pk_helper *helper;
	struct pk_svid_trust *revoked; /* without a bundle: the list alone */
	char path[4096];
	uint64_t ttl_s;
	bool host_any;
	size_t nb_jobs;
	uint64_t issued, refused;
	struct event *flush, *gather;
	struct pk_svid_revocation *news; /* not sent yet */
	size_t nb_news, room_news;
	uint64_t flushed_ns;
	/* Workloads that have been given an SVID, so that only these are revoked when they move. */
	struct policy_map given_index; /* workload -> index in given */
	POLICY_VECTOR(struct given) given;
	uint64_t opened_s; /* what was given before is not known */
};

struct issue_job {
	struct pk_job job;
	struct policyd *p;
	uint64_t id;
	char dpu[PK_SPIFFE_NAME_MAX], workload[PK_SVID_WORKLOAD_MAX];
	struct pk_svid_binding binding;
	uint8_t csr[SERVER_CSR_MAX];
	size_t csr_len;
	uint8_t *der;
	size_t der_len;
	int err;
	struct pk_diag diag;
};

/* ---- what a DPU is told ---- */

static void
refuse(struct policyd *p, const char *dpu, uint64_t id, const char *workload, bool gone,
    uint64_t retry_ms, const char *why)
{
	Picket__V1__ServerMessage m = PICKET__V1__SERVER_MESSAGE__INIT;
	Picket__V1__Svid s = PICKET__V1__SVID__INIT;

	p->identities->refused++;
	s.id = id;
	s.workload = admin_borrow(workload);
	s.reason = admin_borrow(why);
	s.gone = gone;
	s.retry_ms = retry_ms;
	m.body_case = PICKET__V1__SERVER_MESSAGE__BODY_SVID;
	m.svid = &s;
	(void)server_dpus_say(p->dpus, dpu, &m);
	pk_info("dpu %s: no SVID for %s: %s", dpu, workload[0] != '\0' ? workload : "itself", why);
}

static void
fill(Picket__V1__Revocation *out, const struct pk_svid_revocation *r)
{
	picket__v1__revocation__init(out);
	out->kind = (Picket__V1__RevokedKind)r->kind;
	out->name = admin_borrow(r->name);
	out->issued_until_s = r->issued_until_s;
	out->forget_s = r->forget_s;
}

void
identity_trust(struct policyd *p, const char *dpu)
{
	struct identities *ids = p->identities;
	size_t n = pk_svid_trust_count(ids->revoked), at = 0, len;
	const uint8_t *bundle = server_issuer_bundle(ids->issuer, &len);
	static Picket__V1__Revocation item[TRUST_BATCH], *list[TRUST_BATCH];
	ProtobufCBinaryData roots = { .len = len, .data = (uint8_t *)(uintptr_t)bundle };
	bool whole = true;

	/* The roots are one after the other in one piece of bytes: nothing is said about each by itself. */
	do {
		Picket__V1__ServerMessage m = PICKET__V1__SERVER_MESSAGE__INIT;
		Picket__V1__Trust t = PICKET__V1__TRUST__INIT;
		size_t take = PK_MIN(n - at, (size_t)TRUST_BATCH);

		for (size_t i = 0; i < take; i++) {
			fill(&item[i], pk_svid_trust_get(ids->revoked, at + i));
			list[i] = &item[i];
		}
		t.whole = whole;
		if (whole) {
			t.domain = p->self.domain;
			t.roots = &roots;
			t.n_roots = len != 0;
		}
		t.revoked = list;
		t.n_revoked = take;
		t.more = at + take < n;
		m.body_case = PICKET__V1__SERVER_MESSAGE__BODY_TRUST;
		m.trust = &t;
		(void)server_dpus_say(p->dpus, dpu, &m);
		at += take;
		whole = false;
	} while (at < n);
}

/* ---- revocation ---- */

static void
save(struct identities *ids)
{
	char beside[4096 + 8];
	FILE *f;
	int ok;

	pk_svid_trust_expire(ids->revoked, (time_t)(pk_clock_wall_ns() / PK_NS_PER_S));
	snprintf(beside, sizeof(beside), "%s.new", ids->path);
	f = fopen(beside, "we");
	if (f == NULL) {
		pk_error(
		    "%s: %s: revocations would not outlast a restart", beside, strerror(errno));
		return;
	}
	for (size_t i = 0; i < pk_svid_trust_count(ids->revoked); i++) {
		const struct pk_svid_revocation *r = pk_svid_trust_get(ids->revoked, i);

		fprintf(f, "%d %llu %llu %s\n", (int)r->kind, (unsigned long long)r->issued_until_s,
		    (unsigned long long)r->forget_s, r->name);
	}
	ok = fflush(f) == 0 && fsync(fileno(f)) == 0;
	if (fclose(f) != 0 || !ok || rename(beside, ids->path) < 0)
		pk_error(
		    "%s: %s: revocations would not outlast a restart", ids->path, strerror(errno));
}

static void
on_gather(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	save(arg);
}

static int
load(struct identities *ids, struct pk_diag *diag)
{
	FILE *f = fopen(ids->path, "re");
	unsigned long long until, forget;
	int err = 0, kind, n = 0;
	char name[PK_SVID_WORKLOAD_MAX], line[512];

	if (f == NULL && errno == ENOENT)
		return 0;
	if (f == NULL) {
		pk_diag_set(diag, "%s: %s", ids->path, strerror(errno));
		return -errno;
	}
	while (err == 0 && fgets(line, sizeof(line), f) != NULL) {
		struct pk_svid_revocation r = { 0 };

		n++;
		if (sscanf(line, LINE_FORMAT, &kind, &until, &forget, name) != 4 ||
		    kind <= PK_SVID_REVOKED_NONE || kind >= PK_SVID_REVOKED_COUNT) {
			/* What is revoked and not known to be would be believed. */
			pk_diag_set(diag,
			    "%s:%d: is no revocation; mend the line, or take the file away once every SVID of before has expired",
			    ids->path, n);
			err = -EINVAL;
			break;
		}
		r.kind = (enum pk_svid_revoked)kind;
		r.issued_until_s = until;
		r.forget_s = forget;
		snprintf(r.name, sizeof(r.name), "%s", name);
		err = pk_svid_trust_revoke(ids->revoked, &r);
	}
	fclose(f);
	return err;
}

/* Hosts seldom fall alone: the first is told of at once, and what follows shortly after as one message. */
static void
on_flush(evutil_socket_t fd, short what, void *arg)
{
	struct policyd *p = arg;
	struct identities *ids = p->identities;
	size_t at = 0;

	(void)fd;
	(void)what;
	ids->flushed_ns = pk_clock_mono_ns();
	while (at < ids->nb_news) {
		static Picket__V1__Revocation item[TRUST_BATCH], *list[TRUST_BATCH];
		Picket__V1__ServerMessage m = PICKET__V1__SERVER_MESSAGE__INIT;
		Picket__V1__Trust t = PICKET__V1__TRUST__INIT;
		struct pk_rpc_buffer *b;
		uint8_t *bytes;

		for (; t.n_revoked < TRUST_BATCH && at < ids->nb_news; t.n_revoked++) {
			fill(&item[t.n_revoked], &ids->news[at++]);
			list[t.n_revoked] = &item[t.n_revoked];
		}
		t.revoked = list;
		m.body_case = PICKET__V1__SERVER_MESSAGE__BODY_TRUST;
		m.trust = &t;
		b = pk_rpc_buffer_create(picket__v1__server_message__get_packed_size(&m), &bytes);
		if (b == NULL) {
			pk_error("DPUs are not told of %zu revocations: no memory", t.n_revoked);
			continue;
		}
		picket__v1__server_message__pack(&m, bytes);
		server_dpus_say_all(p->dpus, b);
	}
	ids->nb_news = 0;
}

static int
add_news(struct identities *ids, const struct pk_svid_revocation *r)
{
	uint64_t now = pk_clock_mono_ns(), due = ids->flushed_ns + GATHER_MS * PK_NS_PER_MS;
	struct timeval tv = { .tv_usec =
		                  (suseconds_t)(due > now ? (due - now) / PK_NS_PER_US : 0) };

	if (ids->nb_news == ids->room_news) {
		size_t room = ids->room_news != 0 ? ids->room_news * 2 : 64;
		struct pk_svid_revocation *wider = realloc(ids->news, room * sizeof(*wider));

		if (wider == NULL)
			return -ENOMEM;
		ids->news = wider;
		ids->room_news = room;
	}
	ids->news[ids->nb_news++] = *r;
	if (!evtimer_pending(ids->flush, NULL))
		evtimer_add(ids->flush, &tv);
	return 0;
}

void
identity_revoke(struct policyd *p, enum pk_svid_revoked kind, const char *name, const char *who,
    const char *why)
{
	static const struct timeval soon = { .tv_usec = GATHER_MS * 1000 };
	static const char *const what[PK_SVID_REVOKED_COUNT] = { "", "dpu", "host", "workload" };
	struct identities *ids = p->identities;
	uint64_t now = pk_clock_wall_ns() / PK_NS_PER_S;
	struct pk_svid_revocation r = {
		.kind = kind, .issued_until_s = now, .forget_s = now + ids->ttl_s + SKEW_S
	};
	char text[400];

	snprintf(r.name, sizeof(r.name), "%s", name);
	if (pk_svid_trust_revoke(ids->revoked, &r) != 0 || add_news(ids, &r) != 0) {
		pk_error("identities of %s %s are not revoked: no memory", what[kind], name);
		return;
	}
	snprintf(text, sizeof(text), "%s %s", what[kind], name);
	pk_notice("identities of %s %s revoked by %s: %s", what[kind], name, who, why);
	audit_note(p, who, "revoke", "done", text, why);
	evtimer_add(ids->gather, &soon);
}

/* ---- who has been given one ---- */

static void
note_given(struct identities *ids, const char *workload, uint64_t until_s)
{
	uint32_t i = policy_map_get_text(&ids->given_index, workload);
	struct given *g;

	if (i == POLICY_MAP_NONE) {
		i = (uint32_t)ids->given.nb;
		g = POLICY_PUSH(&ids->given);
		if (g != NULL && (g->workload = strdup(workload)) == NULL) {
			ids->given.nb--;
			g = NULL;
		}
		if (g != NULL && policy_map_put_text(&ids->given_index, g->workload, i) != 0) {
			free(g->workload);
			ids->given.nb--;
			g = NULL;
		}
		if (g == NULL) {
			/* Then as after a restart: all that moves is revoked, needed or not. */
			ids->opened_s = until_s - ids->ttl_s;
			return;
		}
	}
	ids->given.at[i].until_s = until_s;
}

/* Returns whether an SVID that has been given out is still valid. */
static bool
take_given(struct identities *ids, const char *workload, uint64_t now_s)
{
	uint32_t i = policy_map_remove_text(&ids->given_index, workload);
	struct given gone, *last;

	if (i == POLICY_MAP_NONE)
		return false;
	gone = ids->given.at[i];
	last = &ids->given.at[--ids->given.nb];
	if (i != ids->given.nb) {
		(void)policy_map_remove_text(&ids->given_index, last->workload);
		ids->given.at[i] = *last;
		/* There is room: two keys have just been taken out. */
		(void)policy_map_put_text(&ids->given_index, last->workload, i);
	}
	free(gone.workload);
	return now_s < gone.until_s;
}

void
identity_left(struct policyd *p, const char *dpu, const char *workload)
{
	struct identities *ids = p->identities;
	uint64_t now = pk_clock_wall_ns() / PK_NS_PER_S;
	char why[300];

	if (ids == NULL ||
	    (!take_given(ids, workload, now) && now >= ids->opened_s + ids->ttl_s + SKEW_S))
		return;
	snprintf(why, sizeof(why), "it does not live behind %s any more", dpu);
	identity_revoke(p, PK_SVID_REVOKED_WORKLOAD, workload, "the inventory", why);
}

/* ---- requests ---- */

/* Whether `dpu` may have an SVID of `workload` now.  If not, why, and whether one it had falls too. */
static bool
may(struct policyd *p, const char *dpu, const char *workload, uint64_t epoch, bool *gone, char *why,
    size_t size)
{
	const struct server_posture *s = server_postures_find(p->postures, dpu);

	*gone = false;
	if (!verifier_allows(p, dpu, why, size)) {
		*gone = true;
		return false;
	}
	if (workload[0] == '\0')
		return true;
	if (!server_dpus_lives(p->dpus, dpu, workload)) {
		snprintf(why, size, "it does not live behind this DPU");
		*gone = true;
		return false;
	}
	if (s == NULL && p->identities->host_any)
		return true;
	if (s == NULL || !s->attested) {
		snprintf(why, size, "its host is not attested%s%s",
		    s != NULL && s->text[0] != '\0' ? ": " : "", s != NULL ? s->text : "");
		*gone = true;
		return false;
	}
	if (!s->fresh || s->epoch != epoch) {
		snprintf(why, size, "the evidence of its host is not fresh (epoch %llu)",
		    (unsigned long long)s->epoch);
		return false;
	}
	return true;
}

static void
issue_work(struct pk_job *job)
{
	struct issue_job *j = (struct issue_job *)job;
	struct identities *ids = j->p->identities;

	j->err = server_issuer_sign(ids->issuer, j->csr, j->csr_len, j->workload, &j->binding,
	    ids->ttl_s, &j->der, &j->der_len, &j->diag);
}

static void
issue_done(struct pk_job *job)
{
	struct issue_job *j = (struct issue_job *)job;
	struct policyd *p = j->p;
	struct identities *ids = p->identities;
	Picket__V1__ServerMessage m = PICKET__V1__SERVER_MESSAGE__INIT;
	Picket__V1__Svid s = PICKET__V1__SVID__INIT;
	struct pk_svid_peer peer = { .binding = j->binding };
	char id[PK_SVID_ID_MAX];
	bool gone;

	ids->nb_jobs--;
	snprintf(peer.workload, sizeof(peer.workload), "%s", j->workload);
	if (j->err != 0) {
		refuse(p, j->dpu, j->id, j->workload, false, 60000, j->diag.text);
	} else if (!may(p, j->dpu, j->workload, j->binding.epoch, &gone, j->diag.text,
	               sizeof(j->diag.text))) {
		refuse(p, j->dpu, j->id, j->workload, gone, RETRY_MS, j->diag.text);
	} else if (pk_svid_is_revoked(ids->revoked, &peer)) {
		refuse(p, j->dpu, j->id, j->workload, false, 1000,
		    "something was revoked in the same second");
	} else if (pk_svid_id(id, p->self.domain, j->workload, j->dpu) == 0) {
		ids->issued++;
		if (j->workload[0] != '\0')
			note_given(ids, j->workload, j->binding.issued_s + ids->ttl_s + SKEW_S);
		s.id = j->id;
		s.workload = j->workload;
		s.spiffe_id = id;
		s.leaf.data = j->der;
		s.leaf.len = j->der_len;
		s.not_after_s = j->binding.issued_s + ids->ttl_s;
		m.body_case = PICKET__V1__SERVER_MESSAGE__BODY_SVID;
		m.svid = &s;
		(void)server_dpus_say(p->dpus, j->dpu, &m);
		pk_info("dpu %s: SVID %s issued for %llu s (epoch %llu)", j->dpu, id,
		    (unsigned long long)ids->ttl_s, (unsigned long long)j->binding.epoch);
	}
	free(j->der);
	free(j);
}

void
identity_asked(struct policyd *p, const char *dpu, const Picket__V1__SvidRequest *m)
{
	struct identities *ids = p->identities;
	struct issue_job *j;
	char why[PK_DIAG_MAX];
	bool gone;

	if (p->helper == NULL)
		return; /* stopping */
	if (m->csr.len == 0 || m->csr.len > SERVER_CSR_MAX ||
	    strlen(m->workload) >= PK_SVID_WORKLOAD_MAX) {
		refuse(p, dpu, m->id, "", false, 60000, "the request is empty or too long");
		return;
	}
	if (!may(p, dpu, m->workload, m->epoch, &gone, why, sizeof(why))) {
		refuse(p, dpu, m->id, m->workload, gone, RETRY_MS, why);
		return;
	}
	j = ids->nb_jobs < JOBS_MAX ? calloc(1, sizeof(*j)) : NULL;
	if (j == NULL) {
		refuse(p, dpu, m->id, m->workload, false, 1000, "too many are being signed");
		return;
	}
	j->job.work = issue_work;
	j->job.done = issue_done;
	j->p = p;
	j->id = m->id;
	snprintf(j->dpu, sizeof(j->dpu), "%s", dpu);
	snprintf(j->workload, sizeof(j->workload), "%s", m->workload);
	snprintf(j->binding.dpu, sizeof(j->binding.dpu), "%s", dpu);
	j->binding.epoch = m->workload[0] != '\0' ? m->epoch : 0;
	j->binding.issued_s = pk_clock_wall_ns() / PK_NS_PER_S;
	memcpy(j->csr, m->csr.data, m->csr.len);
	j->csr_len = m->csr.len;
	ids->nb_jobs++;
	pk_helper_give(ids->helper, &j->job);
}

/* ---- operators ---- */

void
identity_on_identities(
    struct pk_rpc_call *c, const char *peer, const uint8_t *bytes, size_t len, void *arg)
{
	struct policyd *p = arg;
	struct identities *ids = p->identities;
	Picket__V1__IdentitiesReply m = PICKET__V1__IDENTITIES_REPLY__INIT;
	Picket__V1__IdentitiesRequest *q;
	Picket__V1__Revocation *item, **list;
	struct pk_spiffe who;
	size_t n;

	q = admin_unpack(&picket__v1__identities_request__descriptor, c, bytes, len);
	if (q == NULL)
		return;
	if (!admin_authorise_call(p, c, peer,
	        q->revoke != PICKET__V1__REVOKED_KIND__REVOKED_NONE ? POLICY_MAY_GOVERN
	                                                            : POLICY_MAY_READ,
	        &who))
		goto out;
	if (q->revoke != PICKET__V1__REVOKED_KIND__REVOKED_NONE) {
		if ((int)q->revoke < 0 || (int)q->revoke >= PK_SVID_REVOKED_COUNT ||
		    q->name[0] == '\0' || strlen(q->name) >= PK_SVID_WORKLOAD_MAX ||
		    strpbrk(q->name, " \t\r\n") != NULL) {
			pk_rpc_refuse(c, PK_RPC_INVALID_ARGUMENT,
			    "want the name of a DPU, or of a workload as TENANT/NAME");
			goto out;
		}
		identity_revoke(p, (enum pk_svid_revoked)q->revoke, q->name, who.name, q->message);
	}
	pk_svid_trust_expire(ids->revoked, (time_t)(pk_clock_wall_ns() / PK_NS_PER_S));
	n = pk_svid_trust_count(ids->revoked);
	item = calloc(n + 1, sizeof(*item));
	list = calloc(n + 1, sizeof(*list));
	if (item == NULL || list == NULL) {
		pk_rpc_refuse(c, PK_RPC_RESOURCE_EXHAUSTED, "no memory for the answer");
	} else {
		for (size_t i = 0; i < n; i++) {
			fill(&item[i], pk_svid_trust_get(ids->revoked, i));
			list[i] = &item[i];
		}
		m.revoked = list;
		m.n_revoked = n;
		m.issued = ids->issued;
		m.refused = ids->refused;
		m.domain = p->self.domain;
		admin_reply(c, &m.base);
	}
	free(item);
	free(list);
out:
	picket__v1__identities_request__free_unpacked(q, NULL);
}

/* ---- beginning and end ---- */

int
identity_open(struct policyd *p, const struct server_conf *conf, struct pk_diag *diag)
{
	struct identities *ids = calloc(1, sizeof(*ids));
	int err;

	pk_diag_set(diag, "no memory to start with");
	if (ids == NULL)
		return -ENOMEM;
	p->identities = ids;
	ids->ttl_s = conf->svid_ttl_ns / PK_NS_PER_S;
	ids->host_any = conf->svid_host == 1;
	ids->opened_s = pk_clock_wall_ns() / PK_NS_PER_S;
	snprintf(ids->path, sizeof(ids->path), "%s/revoked", conf->state);
	if ((ids->gather = evtimer_new(p->base, on_gather, ids)) == NULL ||
	    (ids->flush = evtimer_new(p->base, on_flush, p)) == NULL ||
	    pk_svid_trust_create(&ids->revoked) != 0)
		return -ENOMEM;
	if ((err = load(ids, diag)) != 0 ||
	    (err = server_issuer_open(
	         &ids->issuer, conf->ca_dir, conf->ca, p->self.domain, diag)) != 0)
		return err;
	return pk_helper_create(&ids->helper, p->base, "issuer", diag);
}

EVP_PKEY *
identity_signing_key(const struct policyd *p)
{
	return server_issuer_key(p->identities->issuer);
}

void
identity_stop(struct policyd *p)
{
	if (p->identities == NULL)
		return;
	pk_helper_destroy(p->identities->helper);
	p->identities->helper = NULL;
}

void
identity_destroy(struct policyd *p)
{
	struct identities *ids = p->identities;

	if (ids == NULL)
		return;
	if (ids->gather != NULL) {
		if (evtimer_pending(ids->gather, NULL))
			save(ids);
		event_free(ids->gather);
	}
	if (ids->flush != NULL)
		event_free(ids->flush);
	free(ids->news);
	for (size_t i = 0; i < ids->given.nb; i++)
		free(ids->given.at[i].workload);
	free(ids->given.at);
	policy_map_fini(&ids->given_index);
	server_issuer_close(ids->issuer);
	pk_svid_trust_destroy(ids->revoked);
	free(ids);
	p->identities = NULL;
}
