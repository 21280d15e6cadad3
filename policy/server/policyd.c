#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "policy/server/policyd_priv.h"

#define O(member) offsetof(struct server_conf, member)

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
	{ "run-dir", PK_CONF_STRING, NULL, PK_RUNDIR, 0, 0, NULL, false,
	  "Directory of the control socket.", O(run_dir) },
	{ "user", PK_CONF_STRING, NULL, "", 0, 0, NULL, false,
	  "Run as this user when started by root.  Empty: stay.", O(user) },
	{ "keepalive", PK_CONF_DURATION, NULL, "20s", PK_NS_PER_S, 3600 * PK_NS_PER_S, NULL, false,
	  "Ask a silent DPU for a sign of life after this long, and give it up after as long again.",
	  O(keepalive_ns) },
	{ "attest-grace", PK_CONF_DURATION, NULL, "60s", 0, 86400 * PK_NS_PER_S, NULL, false,
	  "So long after a DPU has gone its host stays attested to other DPUs, if it was.", O(attest_grace_ns) },
	{ "message-max", PK_CONF_SIZE, "bytes", "64m", 1 << 20, 1 << 30, NULL, false,
	  "Largest message taken from a client; bounds what one apply can bring.", O(message_max) },
	{ "streams-max", PK_CONF_NUMBER, "streams", "128", 1, 65536, NULL, false,
	  "Calls and streams at a time on one connection.", O(streams_max) },
};
/* clang-format on */
const size_t server_nb_options = PK_COUNT(server_options);

/* ---- the helper's side: from texts to a catalogue in the store ---- */

static int
add_texts(struct policy_model *m, const struct server_texts *texts, const char *prefix,
    struct policy_findings *f)
{
	int err = 0;

	for (size_t i = 0; i < texts->nb; i++) {
		const struct server_text *t = &texts->item[i];
		char name[512];
		int one;

		snprintf(name, sizeof(name), "%s%s", prefix, t->name);
		one = policy_model_add_text(m, name, t->text, t->len, f);
		if (one == -ENOMEM)
			return one;
		if (one != 0)
			err = one; /* go on: all mistakes are reported at once */
	}
	return err;
}

/*
 * Inline tests speak for what an operator is about to do.  They have no say in going back to what was
 * in force before, in taking up the store after a restart, or in the coming and going of workloads.
 */
enum tests {
	TESTS_NONE,
	TESTS_TOLD,
	TESTS_REFUSE
};

/* Returns 0, -EINVAL with findings, or -ENOMEM. */
static int
compile(struct policyd *p, enum tests tests, const struct server_texts *sources,
    const struct server_texts *inventory, struct policy_findings *f, struct policy_model **model,
    struct policy_table **out, unsigned int *passed, unsigned int *failed)
{
	struct policy_model *m;
	int err = policy_model_create(&m);

	*out = NULL;
	*model = NULL;
	if (err != 0)
		return err;
	err = add_texts(m, sources, "", f);
	if (err != -ENOMEM) {
		int second = add_texts(m, inventory, "workload/", f);

		err = second != 0 ? second : err;
	}
	policy_model_set_attested(m, server_is_attested, p->attested);
	if (err == 0)
		err = policy_compile(m, p->ids, out, f);
	if (err == 0 && tests != TESTS_NONE) {
		err = policy_run_tests(m, *out, f, passed, failed);
		if (err == -EINVAL && tests == TESTS_TOLD)
			err = 0;
	}
	if (err != 0) {
		policy_table_destroy(*out);
		*out = NULL;
		policy_model_destroy(m);
		return err;
	}
	*model = m;
	return 0;
}

struct new_ids {
	struct server_identity *item;
	size_t nb, room;
	bool failed;
};

static void
collect_id(void *arg, const char *key, uint32_t id)
{
	struct new_ids *n = arg;

	if (n->nb == n->room) {
		size_t room = n->room != 0 ? n->room * 2 : 64;
		struct server_identity *wider = realloc(n->item, room * sizeof(n->item[0]));

		if (wider == NULL) {
			n->failed = true;
			return;
		}
		n->item = wider;
		n->room = room;
	}
	n->item[n->nb++] = (struct server_identity){ .key = key, .id = id };
}

/* What the texts are to be.  Returns 0 or negative errno with a->diag. */
static int
intend(struct apply *a, struct server_texts *sources, struct server_texts *inventory)
{
	struct policyd *p = a->p;
	int err;

	memset(sources, 0, sizeof(*sources));
	err = server_texts_copy(inventory, &p->inventory);
	if (err != 0)
		return err;
	if (a->kind == SERVER_KIND_ROLLBACK)
		return server_store_sources(p->store, a->rollback->generation, sources, &a->diag);
	if (a->kind != SERVER_KIND_APPLY || !a->request->replace)
		err = server_texts_copy(sources, &p->sources);
	if (a->kind == SERVER_KIND_APPLY) {
		for (size_t i = 0; err == 0 && i < a->request->n_remove; i++) {
			err = server_texts_remove(sources, a->request->remove[i]);
			if (err == -ENOENT)
				pk_diag_set(&a->diag, "there is no source \"%s\" to remove",
				    a->request->remove[i]);
		}
		for (size_t i = 0; err == 0 && i < a->request->n_sources; i++) {
			const Picket__V1__Source *s = a->request->sources[i];

			err = server_texts_put(sources, s->name, s->text.data, s->text.len);
		}
		return err;
	}
	if (a->kind == SERVER_KIND_POSTURE)
		return err;
	for (size_t i = 0; err == 0 && i < a->workloads->n_remove; i++) {
		err = server_texts_remove(inventory, a->workloads->remove[i]);
		if (err == -ENOENT)
			pk_diag_set(&a->diag, "there is no workload \"%s\" to remove",
			    a->workloads->remove[i]);
	}
	for (size_t i = 0; err == 0 && i < a->workloads->n_workloads; i++) {
		const Picket__V1__Workload *w = a->workloads->workloads[i];

		err = server_texts_put(inventory, w->name, w->text.data, w->text.len);
	}
	return err;
}

static int
commit(struct apply *a, const struct server_texts *sources, const struct server_texts *inventory)
{
	struct policyd *p = a->p;
	struct server_generation g = { .kind = a->kind, .at_unix_ns = pk_clock_wall_ns() };
	struct new_ids ids = { 0 };
	const char *message = "";
	int err = -ENOMEM;

	if (a->kind == SERVER_KIND_APPLY)
		message = a->request->message;
	else if (a->kind == SERVER_KIND_ROLLBACK)
		message = a->rollback->message;
	snprintf(g.author, sizeof(g.author), "%s", a->author);
	snprintf(g.message, sizeof(g.message), "%s", message);
	if (a->kind == SERVER_KIND_INVENTORY)
		snprintf(g.message, sizeof(g.message), "%zu changed, %zu removed",
		    a->workloads->n_workloads, a->workloads->n_remove);
	if (a->kind == SERVER_KIND_POSTURE)
		snprintf(g.message, sizeof(g.message), "%zu hosts attested", p->attested->nb);
	if (a->kind == SERVER_KIND_ROLLBACK)
		g.of = a->rollback->generation;
	policy_ids_each(p->ids, p->next_id, collect_id, &ids);
	if (!ids.failed)
		err = server_store_commit(p->store, &g,
		    a->kind == SERVER_KIND_APPLY ? sources : NULL,
		    a->kind == SERVER_KIND_INVENTORY ? inventory : NULL, ids.item, ids.nb,
		    &a->diag);
	if (err == 0) {
		if (ids.nb != 0)
			p->next_id = ids.item[ids.nb - 1].id + 1;
		a->generation = g.generation;
	}
	free(ids.item);
	return err;
}

/* Whether any workload is somebody else when its host is not attested. */
static bool
posture_matters(const struct policyd *p)
{
	const struct policy_table *t = p->latest != NULL ? server_catalogue_table(p->latest) : NULL;

	for (uint32_t i = 0; t != NULL && i < t->nb_endpoints; i++)
		if (t->endpoints[i].attested != t->endpoints[i].unattested)
			return true;
	return false;
}

/*
 * Context: helper.  The state it leaves: either everything as before, or the new texts, the new
 * catalogue and the new generation, on disk and in memory.
 */
void
policyd_apply_work(struct pk_job *job)
{
	struct apply *a = (struct apply *)job;
	struct policyd *p = a->p;
	struct server_texts sources = { 0 }, inventory = { 0 };
	struct server_catalogue *catalogue = NULL;
	struct policy_table *table = NULL;
	struct policy_model *model = NULL;
	enum tests tests = TESTS_NONE;
	bool dry = a->kind == SERVER_KIND_APPLY && a->request->dry_run;
	int err;

	a->generation = p->latest_generation;
	if (a->kind == SERVER_KIND_POSTURE) {
		server_attested_free(p->attested);
		p->attested = a->attested;
		a->attested = NULL;
		if (!posture_matters(p)) {
			a->unchanged = true;
			return;
		}
	}
	if (a->kind == SERVER_KIND_APPLY)
		tests = a->request->despite_tests ? TESTS_TOLD : TESTS_REFUSE;
	err = intend(a, &sources, &inventory);
	if (err != 0)
		goto out;
	/* A server that could not compile what it had is mended even by applying the same again. */
	a->unchanged = a->kind != SERVER_KIND_POSTURE && p->latest != NULL &&
	    server_texts_equal(&sources, &p->sources) &&
	    server_texts_equal(&inventory, &p->inventory);
	if (a->unchanged)
		goto out;
	err = compile(
	    p, tests, &sources, &inventory, a->findings, &model, &table, &a->passed, &a->failed);
	if (err != 0 || dry) {
		policy_table_destroy(table);
		policy_model_destroy(model);
		goto out;
	}
	err = server_catalogue_create(&catalogue, model, table, p->latest, &a->diag);
	if (err == 0)
		err = commit(a, &sources, &inventory);
	if (err != 0) {
		server_catalogue_put(catalogue);
		goto out;
	}
	server_catalogue_put(p->latest);
	p->latest = catalogue;
	p->latest_generation = a->generation;
	a->catalogue = server_catalogue_get(catalogue);
	server_texts_fini(&p->sources);
	server_texts_fini(&p->inventory);
	p->sources = sources;
	p->inventory = inventory;
	return;
out:
	a->refused = err != 0;
	if (err != 0 && a->diag.text[0] == '\0' &&
	    policy_findings_count(a->findings, POLICY_ERROR) == 0)
		pk_diag_set(&a->diag, "%s", strerror(-err));
	server_texts_fini(&sources);
	server_texts_fini(&inventory);
}

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

/* Take up what the store holds.  Policy that no longer compiles leaves the DPUs with what they have. */
static int
restore(struct policyd *p, struct pk_diag *diag)
{
	struct policy_findings *f = NULL;
	struct policy_table *table;
	struct policy_model *model;
	unsigned int passed, failed;
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
		err = compile(
		    p, TESTS_NONE, &p->sources, &p->inventory, f, &model, &table, &passed, &failed);
	if (err == 0)
		err = server_catalogue_create(&p->latest, model, table, NULL, &why);
	if (err == -EINVAL) {
		policy_findings_first(f, &why);
		pk_error(
		    "generation %llu in the store does not compile: %s; DPUs keep what they have "
		    "until the next apply",
		    (unsigned long long)p->generation, why.text);
		err = 0;
	} else if (err == 0) {
		p->catalogue = server_catalogue_get(p->latest);
		err = server_dpus_target(p->dpus, p->catalogue, p->generation, NULL, NULL, NULL);
	}
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
	admin_progress(p, dpu, generation, stage, text);
}

static void
on_posture(void *arg, const char *dpu, const struct server_posture *s)
{
	struct policyd *p = arg;

	server_postures_say(p->postures, dpu, s);
}

static void
on_postures_changed(void *arg)
{
	admin_posture(arg);
}

static const struct server_dpus_ops dpus_ops = {
	.progress = on_progress,
	.seen = on_seen,
	.posture = on_posture,
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
	    policy_ids_create(&p->ids) != 0) {
		pk_diag_set(diag, "no memory to start with");
		goto fail;
	}
	p->base = base;
	err = pk_spiffe_check_files(conf->cert, conf->key, conf->ca, &p->self, diag);
	if (err != 0)
		goto fail;
	snprintf(path, sizeof(path), "%s/policy.db", conf->state);
	if ((err = server_store_open(&p->store, path, diag)) != 0)
		goto fail;
	snprintf(path, sizeof(path), "%s/attested", conf->state);
	err = server_postures_create(
	    &p->postures, base, path, conf->attest_grace_ns, on_postures_changed, p, diag);
	if (err != 0)
		goto fail;
	p->attested = server_postures_attested(p->postures);
	if ((err = restore(p, diag)) != 0 ||
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
	pk_helper_destroy(p->helper);
	p->helper = NULL;
	admin_stop(p);
	pk_rpc_server_destroy(p->server);
	pk_rpc_destroy(p->rpc);
	server_dpus_destroy(p->dpus);
	server_postures_destroy(p->postures);
	server_attested_free(p->attested);
	server_catalogue_put(p->catalogue);
	server_catalogue_put(p->latest);
	server_texts_fini(&p->sources);
	server_texts_fini(&p->inventory);
	policy_ids_destroy(p->ids);
	server_store_close(p->store);
	free(p);
}

unsigned int
policyd_port(const struct policyd *p)
{
	return pk_rpc_server_port(p->server);
}
