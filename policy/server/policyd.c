#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "lib/chain.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "policy/server/policyd_priv.h"

#define O(member) offsetof(struct server_conf, member)

static const char *const svid_hosts[] = { "attested", "any", NULL };

/* clang-format off */
const struct pk_conf_option server_options[] = {
	{ "listen", PK_CONF_STRING, NULL, "[::]:7443", 0, 0, NULL, false,
	  "Address and port for DPUs and operators.", O(listen) },
	{ "state-dir", PK_CONF_STRING, NULL, PK_LOCALSTATEDIR "/policyd", 0, 0, NULL, false,
	  "Directory of the store, policy.db, which is made at the first start.", O(state) },
	{ "ca-dir", PK_CONF_STRING, NULL, "", 0, 0, NULL, false,
	  "Directory of the certificate authority that init makes and issue signs with.  Empty: ca in "
	  "state-dir.", O(ca_dir) },
	{ "certificate", PK_CONF_STRING, NULL, "", 0, 0, NULL, false,
	  "The server's certificate, PEM.  A renewed file is taken up without a restart.  Empty: "
	  "server.crt in ca-dir.", O(cert) },
	{ "key", PK_CONF_STRING, NULL, "", 0, 0, NULL, false,
	  "Its private key, PEM.  Empty: server.key in ca-dir.", O(key) },
	{ "ca", PK_CONF_STRING, NULL, "", 0, 0, NULL, false,
	  "The authority whose certificates DPUs and operators show, PEM.  Empty: ca.crt in ca-dir.",
	  O(ca) },
	{ "secrets-dir", PK_CONF_STRING, NULL, "", 0, 0, NULL, false,
	  "Directory of the secrets that documents name (kind Link), which the command secret makes: a file of mode 0600 "
	  "each.  Empty: secrets in state-dir.", O(secrets_dir) },
	{ "run-dir", PK_CONF_STRING, NULL, PK_RUNDIR, 0, 0, NULL, false,
	  "Directory of the control socket.", O(run_dir) },
	{ "user", PK_CONF_STRING, NULL, "", 0, 0, NULL, false,
	  "Run as this user when started by root.  Empty: stay.", O(user) },
	{ "keepalive", PK_CONF_DURATION, NULL, "20s", PK_NS_PER_S, 3600 * PK_NS_PER_S, NULL, false,
	  "Ask a silent DPU for a sign of life after this long, and give it up after as long again.",
	  O(keepalive_ns) },
	{ "attest-grace", PK_CONF_DURATION, NULL, "60s", 0, 86400 * PK_NS_PER_S, NULL, false,
	  "So long after a DPU has gone its host stays attested to other DPUs, if it was.", O(attest_grace_ns) },
	{ "svid-ttl", PK_CONF_DURATION, NULL, "30m", 2 * PK_NS_PER_S, 86400 * PK_NS_PER_S, NULL, false,
	  "How long an X.509-SVID lasts.  DPUs renew theirs halfway.", O(svid_ttl_ns) },
	{ "svid-host", PK_CONF_WORD, NULL, "attested", 0, 0, svid_hosts, false,
	  "Whose workloads are given SVIDs: attested, those of hosts that are trusted at the time; any: also those of hosts whose "
	  "DPU has no verifier.", O(svid_host) },
	{ "dpu-interval", PK_CONF_DURATION, NULL, "30s", 100 * PK_NS_PER_MS, 3600 * PK_NS_PER_S, NULL, false,
	  "How often a DPU that a Reference with subject dpu names is asked to prove what it is; it may take twice that to "
	  "answer, and good evidence lasts four times as long.", O(dpu_interval_ns) },
	{ "message-max", PK_CONF_SIZE, "bytes", "64m", 1 << 20, 1 << 30, NULL, false,
	  "Largest message taken from a client; bounds what one apply can bring.", O(message_max) },
	{ "streams-max", PK_CONF_NUMBER, "streams", "128", 1, 65536, NULL, false,
	  "Calls and streams at a time on one connection.", O(streams_max) },
};
/* clang-format on */
const size_t server_nb_options = PK_COUNT(server_options);

/* ---- start and stop ---- */

static int
restore_id(void *arg, const char *key, uint32_t id)
{
	struct policyd *p = arg;

	p->next_id = id + 1;
	return policy_ids_restore(p->ids, key, id);
}

static int
restore_dpu(void *arg, const char *name, uint64_t at_unix_ns)
{
	struct policyd *p = arg;

	return server_dpus_known(p->dpus, name, at_unix_ns);
}

/* A rollout that was under way goes on; of one that is over the record is kept. */
static int
restore_rollout(struct policyd *p, struct policy_findings *f)
{
	Picket__V1__Rollout *r = NULL;
	struct server_change whole = { 0 };
	struct pk_diag diag;
	uint8_t *bytes;
	size_t len;
	int err = server_store_rollout(p->store, &bytes, &len, &diag);

	if (err != 0 || bytes == NULL)
		return err;
	r = picket__v1__rollout__unpack(NULL, len, bytes);
	free(bytes);
	if (r == NULL || r->canary == NULL) {
		pk_error("the record of the last rollout cannot be read");
		if (r != NULL)
			picket__v1__rollout__free_unpacked(r, NULL);
		return 0;
	}
	if (r->state == PICKET__V1__ROLLOUT_STATE__ROLLOUT_PROMOTED ||
	    r->state == PICKET__V1__ROLLOUT_STATE__ROLLOUT_ABORTED || r->request == NULL) {
		rollout_restore(p, r, NULL);
		return 0;
	}
	err = generation_candidate(p, r->request, f);
	if (err == 0)
		err = candidate_keep(p, &whole);
	if (err == -EINVAL) {
		/* It has compiled once; whatever is the matter, nobody is left with half of it. */
		policy_findings_first(f, &diag);
		pk_error("the candidate does not compile any more: %s", diag.text);
		picket__v1__rollout__free_unpacked(r, NULL);
		return 0;
	}
	if (err == 0)
		rollout_restore(p, r, &whole);
	server_change_fini(&whole);
	return err;
}

/* Take up what the store holds.  Policy that no longer compiles leaves the DPUs with what they have. */
static int
restore(struct policyd *p, struct pk_diag *diag)
{
	struct server_change change = { 0 };
	struct policy_references *refs = NULL, *canary = NULL;
	struct policy_findings *f = NULL;
	struct pk_diag why;
	int err;

	p->next_id = 1;
	if ((err = server_store_identities(p->store, restore_id, p, diag)) != 0 ||
	    (err = server_store_dpus(p->store, restore_dpu, p, diag)) != 0 ||
	    (err = server_store_load(
	         p->store, &p->latest_generation, &p->sources, &p->inventory, diag)) != 0)
		return err;
	p->generation = p->latest_generation;
	if (p->generation == 0)
		return 0;
	err = policy_findings_create(&f);
	if (err == 0)
		err = policyd_compile_store(p, &change, f);
	if (err == -EINVAL) {
		policy_findings_first(f, &why);
		pk_error(
		    "generation %llu in the store does not compile: %s; DPUs keep what they have "
		    "until the next apply",
		    (unsigned long long)p->generation, why.text);
		/* Who may what is not known either. */
		err = policy_roles_create(&p->roles, NULL);
		p->latest_roles = p->roles;
	} else if (err == 0) {
		err = server_dpus_target(p->dpus, &change, NULL, p->generation, NULL, NULL, NULL);
		if (err == 0)
			err = policy_roles_create(&p->roles, policy_compiler_model(p->compiler));
		p->latest_roles = p->roles;
		if (err == 0)
			err = policy_references_create(&refs, policy_compiler_model(p->compiler));
		if (err == 0)
			err = restore_rollout(p, f);
		if (err == 0 && p->candidate != NULL)
			err = candidate_references(p, &canary);
		reference_follow(p, refs, canary, p->latest_generation);
		if (err == 0) {
			(void)generation_grants(p, policy_compiler_model(p->compiler), &p->grants);
			if (p->candidate != NULL)
				(void)candidate_grants(p, &p->canary_grants);
		}
	}
	server_change_fini(&change);
	policy_findings_destroy(f);
	if (err != 0)
		pk_diag_set(diag, "generation %llu could not be taken up: %s",
		    (unsigned long long)p->generation, strerror(-err));
	return err;
}

struct seen_job {
	struct pk_job job;
	struct policyd *p;
	char name[PK_SPIFFE_NAME_MAX];
};

static void
seen_work(struct pk_job *job)
{
	struct seen_job *s = (struct seen_job *)job;
	struct pk_diag diag;

	if (server_store_dpu_seen(s->p->store, s->name, pk_clock_wall_ns(), &diag) != 0)
		pk_warn("dpu %s: not remembered: %s", s->name, diag.text);
}

static void
seen_done(struct pk_job *job)
{
	free(job);
}

static void
on_seen(void *arg, const char *dpu)
{
	struct policyd *p = arg;
	struct seen_job *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return; /* it is only missed by name should it never come back */
	s->job.work = seen_work;
	s->job.done = seen_done;
	s->p = p;
	snprintf(s->name, sizeof(s->name), "%s", dpu);
	pk_helper_give(p->helper, &s->job);
}

static void
on_progress(
    void *arg, const char *dpu, uint64_t generation, enum server_stage stage, const char *text)
{
	struct policyd *p = arg;

	if (stage == SERVER_STAGE_NONE)
		server_postures_gone(p->postures, dpu);
	apply_progress(p, dpu, generation, stage, text);
	rollout_progress(p, dpu, generation, stage, text);
}

static void
on_counted(void *arg, const char *dpu, const struct server_dpu_counts *c)
{
	rollout_counted(arg, dpu, c);
}

static void
on_posture(void *arg, const char *dpu, const struct server_posture *s)
{
	struct policyd *p = arg;

	server_postures_say(p->postures, dpu, s);
}

static void
on_trust(void *arg, const char *dpu)
{
	identity_trust(arg, dpu);
	reference_send(arg, dpu);
	grant_send(arg, dpu);
}

static void
on_svid(void *arg, const char *dpu, const Picket__V1__SvidRequest *m)
{
	identity_asked(arg, dpu, m);
}

static void
on_evidence(void *arg, const char *dpu, const Picket__V1__Evidence *m)
{
	verifier_evidence(arg, dpu, m);
}

static void
on_left(void *arg, const char *dpu, const char *workload)
{
	identity_left(arg, dpu, workload);
}

static void
on_host_lost(void *arg, const char *dpu, const struct server_posture *s)
{
	identity_revoke(arg, PK_SVID_REVOKED_HOST, dpu, "the verifiers",
	    s->text[0] != '\0' ? s->text : "its host is not attested any more");
}

static void
on_postures_changed(void *arg)
{
	apply_posture(arg);
}

static const struct server_dpus_ops dpus_ops = {
	.progress = on_progress,
	.seen = on_seen,
	.counted = on_counted,
	.posture = on_posture,
	.trust = on_trust,
	.svid = on_svid,
	.evidence = on_evidence,
	.left = on_left,
};

int
policyd_create(struct policyd **out, struct event_base *base, const struct server_conf *conf,
    struct pk_diag *diag)
{
	const struct pk_rpc_tls tls = { .cert = conf->cert, .key = conf->key, .ca = conf->ca };
	const struct pk_rpc_limits limits = {
		.keepalive_ns = conf->keepalive_ns,
		.keepalive_timeout_ns = conf->keepalive_ns,
		.message_max = (uint32_t)conf->message_max,
		.streams_max = (uint32_t)conf->streams_max,
	};
	struct policyd *p = calloc(1, sizeof(*p));
	char path[4096];
	int err = -ENOMEM;

	if (p == NULL || server_dpus_create(&p->dpus, &dpus_ops, p) != 0 ||
	    policy_ids_create(&p->ids) != 0 || policy_compiler_create(&p->compiler, p->ids) != 0 ||
	    (p->shadow = server_shadow_create()) == NULL) {
		pk_diag_set(diag, "no memory to start with");
		goto fail;
	}
	p->base = base;
	p->queue_end = &p->queue;
	snprintf(p->secrets_dir, sizeof(p->secrets_dir), "%s", conf->secrets_dir);
	err = pk_spiffe_check_files(conf->cert, conf->key, conf->ca, &p->self, diag);
	if (err != 0)
		goto fail;
	snprintf(path, sizeof(path), "%s/policy.db", conf->state);
	if ((err = server_store_open(&p->store, path, diag)) != 0)
		goto fail;
	snprintf(path, sizeof(path), "%s/attested", conf->state);
	err = server_postures_create(&p->postures, base, path, conf->attest_grace_ns,
	    on_postures_changed, on_host_lost, p, diag);
	if (err == 0)
		err = identity_open(p, conf, diag);
	if (err == 0)
		err = verifier_open(p, conf, diag);
	if (err != 0)
		goto fail;
	p->attested = server_postures_attested(p->postures);
	if (p->attested == NULL) {
		pk_diag_set(diag, "no memory to start with");
		err = -ENOMEM;
		goto fail;
	}
	policy_compiler_set_attested(p->compiler, server_is_attested, p->attested);
	if ((err = restore(p, diag)) != 0 || (err = audit_open(p, conf->state, diag)) != 0 ||
	    (err = pk_helper_create(&p->helper, base, "helper", diag)) != 0 ||
	    (err = pk_rpc_create(&p->rpc, base, diag)) != 0 ||
	    (err = pk_rpc_server_create(
	         &p->server, p->rpc, conf->listen, &tls, &limits, policyd_methods, p, diag)) != 0)
		goto fail;
	*out = p;
	return 0;
fail:
	policyd_destroy(p);
	return err;
}

void
policyd_destroy(struct policyd *p)
{
	if (p == NULL)
		return;
	/* Jobs first: they end by answering, and need the calls for that. */
	identity_stop(p);
	verifier_stop(p);
	pk_helper_destroy(p->helper);
	p->helper = NULL;
	apply_stop(p);
	rollout_destroy(p);
	candidate_destroy(p);
	pk_rpc_server_destroy(p->server);
	pk_rpc_destroy(p->rpc);
	verifier_destroy(p);
	server_dpus_destroy(p->dpus);
	server_postures_destroy(p->postures);
	identity_destroy(p);
	reference_destroy(p);
	grant_canary_end(p);
	grant_destroy(p->grants);
	policy_compiler_destroy(p->compiler);
	server_shadow_destroy(p->shadow);
	policy_touched_fini(&p->touched);
	server_attested_free(p->attested);
	server_texts_fini(&p->sources);
	server_texts_fini(&p->inventory);
	policy_roles_destroy(p->roles);
	pk_chain_close(p->audit);
	policy_ids_destroy(p->ids);
	server_store_close(p->store);
	free(p);
}

unsigned int
policyd_port(const struct policyd *p)
{
	return pk_rpc_server_port(p->server);
}
