/*
 * Many agents in one process, speaking the real protocol over mutual TLS, each with a certificate and a
 * connection of its own.  They hold versions instead of bodies, check every commit's hash, and say at
 * once that they have realised what they are sent.
 *
 *   sim_agents issue CADIR DIR N             identities of dpu0 .. dpu(N-1) in DIR, signed by CADIR
 *   sim_agents run ADDRESS DIR N [SECONDS [again]]
 *         connect N agents, at most ADMIT handshakes at a time, and stay for SECONDS; with `again`,
 *         lose all connections after everybody is in sync, and come back by chance within 20 s.
 *         Prints a JSON line when all are in sync, one when they are again, and one at the end:
 *         {"agents":N,"in_sync_s":…,"resource_bytes":…,"updates":…,"bytes_max":…}
 *   sim_agents attest ADDRESS DIR N
 *         connect N agents; then each says that its host is trusted and asks for the SVID of workload sim/w<its
 *         number>; then TURNS hosts in turn, and a tenth of them at once, lose their trust, and every other DPU has to hear
 *         of the revocation.  Prints {"svids_per_s":...,"revoke_p99_ms":...,"revoke_max_ms":...,"tenth_ms":...}
 *   sim_agents update ADDRESS OPERATOR N RATE SECONDS
 *         as an operator: RATE relabels a second of workloads w0 .. w(N-1) of tenant "sim", one call at
 *         a time with all that are due; prints what was asked, and how late the last answer came.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>
#include <openssl/x509.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/rpc.h"
#include "policy/proto/picket.pb-c.h"
#include "policy/resource.h"
#include "policy/server/ca.h"

#define TURNS 20
#define ADMIT 100 /* handshakes at a time: twenty thousand at once would all time out */

struct agent {
	struct sim *sim;
	int number;
	struct pk_rpc_client *client;
	struct pk_rpc_stream *stream;
	struct policy_state *held;
	uint64_t generation;
	uint64_t staged;
	uint64_t bytes_in_update;
	bool heard, synced;
};

struct sim {
	struct event_base *base;
	struct pk_rpc *rpc;
	struct agent *agent;
	int nb, nb_open, nb_synced, next;
	bool again, came_again;
	bool attest;
	uint8_t *csr;
	size_t csr_len;
	int nb_svids, nb_refused, turn, falling;
	uint64_t heard, want; /* revocations, over all agents, in this turn */
	double *took;         /* ms, of each agent in each turn but the last */
	size_t nb_took;
	uint64_t asked_ns;
	double svids_s;
	int *order;
	uint64_t started_ns, resource_bytes, updates, bytes_max, wrong;
	struct event *tick, *end, *comeback;
};

static double
since(uint64_t ns)
{
	return (double)(pk_clock_mono_ns() - ns) / (double)PK_NS_PER_S;
}

/* ---- one agent ---- */

static void
say(struct agent *a, const Picket__V1__AgentMessage *m)
{
	uint8_t *bytes;
	struct pk_rpc_buffer *b =
	    pk_rpc_buffer_create(picket__v1__agent_message__get_packed_size(m), &bytes);

	PK_ASSERT(b != NULL);
	picket__v1__agent_message__pack(m, bytes);
	if (a->stream != NULL)
		(void)pk_rpc_stream_send(a->stream, b);
	else
		pk_rpc_buffer_put(b);
}

static void
say_stage(struct agent *a, uint64_t nonce, Picket__V1__Stage stage)
{
	Picket__V1__AgentMessage m = PICKET__V1__AGENT_MESSAGE__INIT;
	Picket__V1__Status s = PICKET__V1__STATUS__INIT;

	s.generation = a->generation;
	s.nonce = nonce;
	s.stage = stage;
	m.body_case = PICKET__V1__AGENT_MESSAGE__BODY_STATUS;
	m.status = &s;
	say(a, &m);
}

/* All of it in one message: there are some hundreds at most. */
static void
say_held(struct agent *a)
{
	Picket__V1__AgentMessage m = PICKET__V1__AGENT_MESSAGE__INIT;
	Picket__V1__Held h = PICKET__V1__HELD__INIT;
	size_t n = policy_state_count(a->held), at = 0;
	Picket__V1__HeldResource *item = calloc(n + 1, sizeof(*item));
	Picket__V1__HeldResource **list = calloc(n + 1, sizeof(*list));

	PK_ASSERT(item != NULL && list != NULL);
	for (size_t i = 0; i < n; i++) {
		struct policy_resource *r = policy_state_next(a->held, &at);

		picket__v1__held_resource__init(&item[i]);
		item[i].type = (Picket__V1__ResourceType)r->type;
		item[i].key.data = r->key;
		item[i].key.len = r->key_len;
		item[i].version = r->version;
		list[i] = &item[i];
	}
	h.resources = list;
	h.n_resources = n;
	h.last = 1;
	h.generation = a->generation;
	m.body_case = PICKET__V1__AGENT_MESSAGE__BODY_HELD;
	m.held = &h;
	say(a, &m);
	free(item);
	free(list);
}

static void
hold(struct agent *a, unsigned int type, const ProtobufCBinaryData *key, uint64_t version)
{
	struct policy_resource *r = calloc(1, sizeof(*r));

	PK_ASSERT(r != NULL && key->len <= sizeof(r->key));
	atomic_init(&r->refs, 1);
	r->type = (uint8_t)type;
	r->key_len = (uint8_t)key->len;
	memcpy(r->key, key->data, key->len);
	r->version = version;
	PK_ASSERT(policy_state_put(a->held, r) == 0);
	policy_resource_put(r);
}

static void
stage(struct agent *a, const Picket__V1__Begin *b)
{
	a->staged = b->generation;
	if (b->base_generation == 0) {
		policy_state_destroy(a->held);
		a->held = policy_state_create();
	}
}

static void
take(struct agent *a, const Picket__V1__Changes *c)
{
	for (size_t i = 0; i < c->n_resources; i++)
		hold(a, (unsigned int)c->resources[i]->type, &c->resources[i]->key,
		    c->resources[i]->version);
	for (size_t i = 0; i < c->n_deltas; i++)
		hold(a, POLICY_RESOURCE_SET, &c->deltas[i]->key, c->deltas[i]->version);
	for (size_t i = 0; i < c->n_removed; i++)
		(void)policy_state_remove(a->held, (unsigned int)c->removed[i]->type,
		    c->removed[i]->key.data, c->removed[i]->key.len);
	a->sim->resource_bytes += picket__v1__changes__get_packed_size(c);
}

static void
commit(struct agent *a, const Picket__V1__Commit *c, uint64_t nonce)
{
	a->sim->wrong += c->generation != a->staged || c->state_hash != policy_state_hash(a->held);
	a->generation = c->generation;
	a->sim->updates++;
	a->sim->bytes_max = PK_MAX(a->sim->bytes_max, a->bytes_in_update);
	say_stage(a, nonce, PICKET__V1__STAGE__STAGE_RECEIVED);
	say_stage(a, nonce, PICKET__V1__STAGE__STAGE_ACCEPTED);
	say_stage(a, nonce, PICKET__V1__STAGE__STAGE_REALISED);
}

static void open_more(struct sim *s);
static void in_sync(struct sim *s);

/* ---- attestation ---- */

static void
say_posture(struct agent *a, bool attested)
{
	Picket__V1__AgentMessage m = PICKET__V1__AGENT_MESSAGE__INIT;
	Picket__V1__Posture p = PICKET__V1__POSTURE__INIT;

	p.attested = p.fresh = attested;
	p.state = attested ? 2 : 4; /* trusted, quarantined */
	p.epoch = attested ? 1 : 2;
	p.host = (char *)(uintptr_t) "host";
	m.body_case = PICKET__V1__AGENT_MESSAGE__BODY_POSTURE;
	m.posture = &p;
	say(a, &m);
}

static void
ask_svid(struct agent *a)
{
	Picket__V1__AgentMessage m = PICKET__V1__AGENT_MESSAGE__INIT;
	Picket__V1__SvidRequest q = PICKET__V1__SVID_REQUEST__INIT;
	char name[32];

	snprintf(name, sizeof(name), "sim/w%d", a->number);
	q.id = 1;
	q.workload = name;
	q.csr.data = a->sim->csr;
	q.csr.len = a->sim->csr_len;
	q.epoch = 1;
	m.body_case = PICKET__V1__AGENT_MESSAGE__BODY_SVID_REQUEST;
	m.svid_request = &q;
	say(a, &m);
}

static int
by_ms(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The next host falls; in the last turn a tenth of them. */
static void
next_turn(struct sim *s)
{
	int many = s->turn < TURNS ? 1 : s->nb / 10;

	s->heard = 0;
	s->want = (uint64_t)many * (uint64_t)s->nb;
	s->asked_ns = pk_clock_mono_ns();
	for (int i = 0; i < many; i++)
		say_posture(&s->agent[s->falling++], false);
}

static void
heard_revoked(struct agent *a, size_t n)
{
	struct sim *s = a->sim;

	if (s->want == 0)
		return;
	s->heard += n;
	if (s->turn < TURNS)
		s->took[s->nb_took++] = since(s->asked_ns) * 1e3;
	if (s->heard < s->want)
		return;
	if (s->turn++ < TURNS) {
		next_turn(s);
		return;
	}
	qsort(s->took, s->nb_took, sizeof(s->took[0]), by_ms);
	printf(
	    "{\"agents\":%d,\"svids_per_s\":%.0f,\"refused\":%d,\"revoke_p99_ms\":%.1f,\"revoke_max_ms\":%.1f,"
	    "\"tenth_ms\":%.0f}\n",
	    s->nb, s->nb / s->svids_s, s->nb_refused, s->took[s->nb_took * 99 / 100],
	    s->took[s->nb_took - 1], since(s->asked_ns) * 1e3);
	fflush(stdout);
	s->want = 0;
}

static void
take_svid(struct agent *a, const Picket__V1__Svid *m)
{
	struct sim *s = a->sim;

	if (m->leaf.len == 0) {
		/* The server has taken the request before the posture was everybody's. */
		s->nb_refused++;
		ask_svid(a);
		return;
	}
	if (++s->nb_svids == s->nb) {
		s->svids_s = since(s->asked_ns);
		next_turn(s);
	}
}

static void
begin_attest(struct sim *s)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	X509_REQ *req = X509_REQ_new();
	int len;

	PK_ASSERT(key != NULL && req != NULL && X509_REQ_set_pubkey(req, key) == 1 &&
	    X509_REQ_sign(req, key, EVP_sha256()) > 0);
	len = i2d_X509_REQ(req, &s->csr);
	PK_ASSERT(len > 0);
	s->csr_len = (size_t)len;
	s->took = calloc((size_t)s->nb * TURNS, sizeof(s->took[0]));
	PK_ASSERT(s->took != NULL);
	s->asked_ns = pk_clock_mono_ns();
	for (int i = 0; i < s->nb; i++) {
		say_posture(&s->agent[i], true);
		ask_svid(&s->agent[i]);
	}
	X509_REQ_free(req);
	EVP_PKEY_free(key);
}

static void
on_message(struct pk_rpc_stream *stream, const uint8_t *bytes, size_t len, void *state)
{
	struct agent *a = state;
	Picket__V1__ServerMessage *m = picket__v1__server_message__unpack(NULL, len, bytes);

	(void)stream;
	PK_ASSERT(m != NULL);
	if (!a->heard) {
		a->heard = true;
		a->sim->nb_open--;
		open_more(a->sim);
	}
	/* With the five bytes gRPC puts before a message; HTTP/2 and TLS add some 40 to a packet. */
	a->bytes_in_update += len + 5;
	switch (m->body_case) {
	case PICKET__V1__SERVER_MESSAGE__BODY_WANT_HELD:
		say_held(a);
		break;
	case PICKET__V1__SERVER_MESSAGE__BODY_BEGIN:
		a->bytes_in_update = len + 5;
		stage(a, m->begin);
		break;
	case PICKET__V1__SERVER_MESSAGE__BODY_CHANGES:
		take(a, m->changes);
		break;
	case PICKET__V1__SERVER_MESSAGE__BODY_COMMIT:
		commit(a, m->commit, m->nonce);
		break;
	case PICKET__V1__SERVER_MESSAGE__BODY_UPDATE:
		a->bytes_in_update = len + 5;
		stage(a, m->update->begin);
		if (m->update->changes != NULL)
			take(a, m->update->changes);
		commit(a, m->update->commit, m->nonce);
		break;
	case PICKET__V1__SERVER_MESSAGE__BODY_SVID:
		take_svid(a, m->svid);
		break;
	case PICKET__V1__SERVER_MESSAGE__BODY_TRUST:
		if (!m->trust->whole)
			heard_revoked(a, m->trust->n_revoked);
		break;
	case PICKET__V1__SERVER_MESSAGE__BODY_IN_SYNC:
		if (!a->synced) {
			a->synced = true;
			a->sim->nb_synced++;
			in_sync(a->sim);
		}
		break;
	default:
		break;
	}
	picket__v1__server_message__free_unpacked(m, NULL);
}

static void
gone(struct agent *a)
{
	a->stream = NULL;
	if (!a->heard)
		a->sim->nb_open--;
	if (a->synced)
		a->sim->nb_synced--;
	a->heard = a->synced = false;
}

static void open_one(struct agent *a);

static void
on_closed(struct pk_rpc_stream *stream, unsigned int status, const char *text, void *state)
{
	struct agent *a = state;

	(void)stream;
	fprintf(stderr, "dpu%d: %s: %s\n", a->number, pk_rpc_status_name(status), text);
	gone(a);
	open_one(a);
}

static void
open_one(struct agent *a)
{
	static const struct pk_rpc_stream_ops ops = { .message = on_message, .closed = on_closed };
	Picket__V1__AgentMessage m = PICKET__V1__AGENT_MESSAGE__INIT;
	Picket__V1__Hello hello = PICKET__V1__HELLO__INIT;

	a->sim->nb_open++;
	PK_ASSERT(pk_rpc_client_stream(
	              &a->stream, a->client, "/picket.v1.PolicyDiscovery/Stream", &ops, a) == 0);
	hello.protocol = 1;
	hello.software = (char *)(uintptr_t) "sim";
	hello.generation = a->generation;
	hello.state_hash = policy_state_hash(a->held);
	hello.stage = a->generation != 0 ? PICKET__V1__STAGE__STAGE_REALISED
	                                 : PICKET__V1__STAGE__STAGE_NONE;
	hello.plane = 1;
	m.body_case = PICKET__V1__AGENT_MESSAGE__BODY_HELLO;
	m.hello = &hello;
	say(a, &m);
}

/* ---- all of them ---- */

static void
open_more(struct sim *s)
{
	while (s->nb_open < ADMIT && s->next < s->nb)
		open_one(&s->agent[s->next++]);
}

static void
report(struct sim *s)
{
	printf("{\"agents\":%d,\"in_sync_s\":%.2f,\"resource_bytes\":%llu,\"updates\":%llu,"
	       "\"bytes_max\":%llu,\"wrong\":%llu}\n",
	    s->nb_synced, since(s->started_ns), (unsigned long long)s->resource_bytes,
	    (unsigned long long)s->updates, (unsigned long long)s->bytes_max,
	    (unsigned long long)s->wrong);
	fflush(stdout);
	s->resource_bytes = s->updates = s->bytes_max = 0;
}

static void
in_sync(struct sim *s)
{
	static const struct timeval now;

	if (s->nb_synced < s->nb)
		return;
	report(s);
	if (s->attest && s->csr == NULL)
		begin_attest(s);
	if (!s->again)
		return;
	s->again = false;
	evtimer_add(s->comeback, &now);
}

static void
on_comeback(evutil_socket_t fd, short what, void *arg)
{
	struct sim *s = arg;

	(void)fd;
	(void)what;
	for (int i = 0; i < s->nb; i++) {
		pk_rpc_stream_close(s->agent[i].stream, PK_RPC_CANCELLED, "");
		gone(&s->agent[i]);
	}
	s->started_ns = pk_clock_mono_ns();
	s->next = s->nb_open = 0;
	open_more(s);
}

static void
on_end(evutil_socket_t fd, short what, void *arg)
{
	struct sim *s = arg;

	(void)fd;
	(void)what;
	report(s);
	event_base_loopbreak(s->base);
}

static int
run(const char *address, const char *dir, int nb, int for_s, bool again, bool attest)
{
	const struct pk_rpc_limits limits = { .keepalive_ns = 120 * PK_NS_PER_S,
		.keepalive_timeout_ns = 120 * PK_NS_PER_S };
	struct timeval end = { .tv_sec = for_s };
	struct sim s = { .nb = nb, .again = again, .attest = attest };
	struct pk_diag diag;

	s.base = event_base_new();
	s.agent = calloc((size_t)nb, sizeof(s.agent[0]));
	PK_ASSERT(s.base != NULL && s.agent != NULL);
	if (pk_rpc_create(&s.rpc, s.base, &diag) != 0)
		goto fail;
	for (int i = 0; i < nb; i++) {
		struct agent *a = &s.agent[i];
		char cert[512], key[512], ca[512];
		const struct pk_rpc_tls tls = { cert, key, ca, true };

		snprintf(cert, sizeof(cert), "%s/dpu%d/identity.crt", dir, i);
		snprintf(key, sizeof(key), "%s/dpu%d/identity.key", dir, i);
		snprintf(ca, sizeof(ca), "%s/dpu%d/ca.crt", dir, i);
		a->sim = &s;
		a->number = i;
		a->held = policy_state_create();
		if (pk_rpc_client_create(&a->client, s.rpc, address, &tls, &limits, &diag) != 0)
			goto fail;
	}
	s.end = evtimer_new(s.base, on_end, &s);
	s.comeback = evtimer_new(s.base, on_comeback, &s);
	evtimer_add(s.end, &end);
	s.started_ns = pk_clock_mono_ns();
	open_more(&s);
	event_base_dispatch(s.base);
	_exit(s.wrong != 0); /* ten thousand polite goodbyes would take longer than the test */
fail:
	fprintf(stderr, "sim_agents: %s\n", diag.text);
	return 1;
}

/* ---- the operator ---- */

/* One of several addresses with commas between, in turn. */
static const char *
address_at(const char *list, unsigned int at)
{
	static char one[256];
	unsigned int nb = 1;

	for (const char *c = list; *c != '\0'; c++)
		nb += *c == ',';
	for (at %= nb; at > 0; at--)
		list += strcspn(list, ",") + 1;
	snprintf(one, sizeof(one), "%.*s", (int)strcspn(list, ","), list);
	return one;
}

static int
update(const char *address, const char *operator, int nb, int rate, int for_s)
{
	char cert[512], key[512], ca[512];
	const struct pk_rpc_tls tls = { cert, key, ca, true };
	uint64_t start = pk_clock_mono_ns();
	unsigned long asked = 0, calls = 0, failed = 0;
	unsigned int server = 0;
	double worst = 0;

	snprintf(cert, sizeof(cert), "%s/identity.crt", operator);
	snprintf(key, sizeof(key), "%s/identity.key", operator);
	snprintf(ca, sizeof(ca), "%s/ca.crt", operator);
	while (since(start) < for_s) {
		unsigned long due = (unsigned long)(since(start) * rate), n = due - asked;
		Picket__V1__UpdateWorkloadsRequest m = PICKET__V1__UPDATE_WORKLOADS_REQUEST__INIT;
		Picket__V1__Workload *item = calloc(n + 1, sizeof(*item)), **list;
		uint8_t *bytes, *answer;
		size_t len, answer_len;
		unsigned int status;
		struct pk_diag diag;
		uint64_t before = pk_clock_mono_ns();
		double took;

		list = calloc(n + 1, sizeof(*list));
		PK_ASSERT(item != NULL && list != NULL);
		for (unsigned long i = 0; i < n; i++) {
			int w = (int)((asked + i) % (unsigned long)nb);
			char *text, *name;

			PK_ASSERT(asprintf(&name, "sim/w%d", w) > 0 &&
			    asprintf(&text,
			        "apiVersion: picket.io/v1\nkind: Workload\n"
			        "metadata: {name: w%d, tenant: sim, labels: {app: a%lu}}\n"
			        "spec: {addresses: [10.%d.%d.%d], dpu: dpu%d}\n",
			        w, (asked + i) / (unsigned long)nb % 4, w >> 16, w >> 8 & 255,
			        w & 255, w) > 0);
			picket__v1__workload__init(&item[i]);
			item[i].name = name;
			item[i].text.data = (uint8_t *)text;
			item[i].text.len = strlen(text);
			list[i] = &item[i];
		}
		m.workloads = list;
		m.n_workloads = n;
		len = picket__v1__update_workloads_request__get_packed_size(&m);
		bytes = malloc(len + 1);
		PK_ASSERT(bytes != NULL);
		picket__v1__update_workloads_request__pack(&m, bytes);
		/* Until one of the servers says that it has taken them, and while there are others. */
		while (n > 0 &&
		    pk_rpc_ask(address_at(address, server), &tls,
		        "/picket.v1.PolicyAdmin/UpdateWorkloads", bytes, len, 20 * PK_NS_PER_S,
		        &answer, &answer_len, &status, &diag) != 0) {
			fprintf(stderr, "sim_agents: %s\n", diag.text);
			if (strchr(address, ',') == NULL || since(before) > 40)
				return 1;
			server++;
			failed++;
			usleep(50000);
		}
		if (n > 0) {
			Picket__V1__ApplyReply *r =
			    picket__v1__apply_reply__unpack(NULL, answer_len, answer);

			free(answer);
			if (r == NULL || r->refused) {
				fprintf(stderr, "sim_agents: the workloads are refused: %s\n",
				    r != NULL && r->n_findings > 0 ? r->findings[0]->text : "?");
				return 1;
			}
			picket__v1__apply_reply__free_unpacked(r, NULL);
		}
		took = since(before);
		worst = PK_MAX(worst, took);
		calls += n > 0;
		asked = due;
		free(bytes);
		for (unsigned long i = 0; i < n; i++) {
			free(item[i].name);
			free(item[i].text.data);
		}
		free(item);
		free(list);
		if (took < 0.005)
			usleep(5000);
	}
	printf("{\"updates\":%lu,\"calls\":%lu,\"failed\":%lu,\"per_s\":%.0f,\"worst_ms\":%.1f}\n",
	    asked, calls, failed, (double)asked / since(start), worst * 1e3);
	return 0;
}

int
main(int argc, char **argv)
{
	struct pk_diag diag;

	pk_log_init("sim_agents", PK_LOG_ERROR);
	if (argc == 5 && strcmp(argv[1], "issue") == 0) {
		(void)mkdir(argv[3], 0700);
		for (int i = 0; i < atoi(argv[4]); i++) {
			char name[32], out[512];

			snprintf(name, sizeof(name), "dpu%d", i);
			snprintf(out, sizeof(out), "%s/%s", argv[3], name);
			if (server_ca_issue(argv[2], "dpu", name, out, &diag) != 0) {
				fprintf(stderr, "sim_agents: %s\n", diag.text);
				return 1;
			}
		}
		return 0;
	}
	if (argc >= 5 && strcmp(argv[1], "run") == 0)
		return run(argv[2], argv[3], atoi(argv[4]), argc > 5 ? atoi(argv[5]) : 10,
		    argc > 6 && strcmp(argv[6], "again") == 0, false);
	if (argc == 5 && strcmp(argv[1], "attest") == 0)
		return run(argv[2], argv[3], atoi(argv[4]), 170, false, true);
	if (argc == 7 && strcmp(argv[1], "update") == 0)
		return update(argv[2], argv[3], atoi(argv[4]), atoi(argv[5]), atoi(argv[6]));
	fprintf(stderr, "usage: sim_agents issue|run|update ...: see the head of its source\n");
	return 2;
}
