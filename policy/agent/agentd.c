#include "policy/agent/agentd.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "config.h"
#include "lib/clock.h"
#include "lib/control.h"
#include "lib/helper.h"
#include "lib/log.h"
#include "lib/posture.h"
#include "lib/rpc.h"
#include "lib/secret.h"
#include "lib/spiffe.h"
#include "policy/agent/evidence.h"
#include "policy/agent/grants.h"
#include "policy/agent/identity.h"
#include "policy/agent/plane.h"
#include "policy/agent/state.h"
#include "policy/proto/picket.pb-c.h"

#define PROTOCOL   1
#define HELD_BATCH 8192 /* resources in one Held message: below 512 KiB */
#define O(member)  offsetof(struct agent_conf, member)

static const char *const svid_keys[] = { "p256", "sm2", NULL };

/* clang-format off */
const struct pk_conf_option agent_options[] = {
	{ "server", PK_CONF_STRING, NULL, "localhost:7443", 0, 0, NULL, false,
	  "The policy server, host:port, as it is named in its certificate; several that share a store with commas between: one "
	  "of them serves, and when it is lost the next.", O(server) },
	{ "identity", PK_CONF_STRING, NULL, PK_SYSCONFDIR "/dpu", 0, 0, NULL, false,
	  "Directory of this DPU's identity: identity.crt, identity.key and ca.crt, as picket-policyd issue "
	  "makes them.  Renewed files are taken up without a restart.", O(identity) },
	{ "instance", PK_CONF_STRING, NULL, "", 0, 0, NULL, false,
	  "Name of this DPU.  Empty: as in the certificate, which must agree in any case.", O(instance) },
	{ "state-dir", PK_CONF_STRING, NULL, PK_LOCALSTATEDIR "/agentd", 0, 0, NULL, false,
	  "Directory of the last accepted generation.", O(state) },
	{ "run-dir", PK_CONF_STRING, NULL, PK_RUNDIR, 0, 0, NULL, false,
	  "Directory of the local sockets.", O(run_dir) },
	{ "plane", PK_CONF_STRING, NULL, "", 0, 0, NULL, false,
	  "Socket of the data plane.  Empty: picketd.sock in run-dir.", O(plane) },
	{ "user", PK_CONF_STRING, NULL, "", 0, 0, NULL, false,
	  "Run as this user when started by root.  Empty: stay.", O(user) },
	{ "svid-keys", PK_CONF_WORD, NULL, "p256", 0, 0, svid_keys, false,
	  "Keys of the SVIDs of this DPU and the workloads behind it: p256 is ECDSA on P-256; sm2 wants an authority for SM2 "
	  "on the server, and programs that can use such keys, which TLS by OpenSSL 3.0 cannot.", O(svid_keys) },
	{ "keepalive", PK_CONF_DURATION, NULL, "20s", PK_NS_PER_S, 3600 * PK_NS_PER_S, NULL, false,
	  "Ask a silent server for a sign of life after this long, and give it up after as long again.",
	  O(keepalive_ns) },
	{ "heartbeat", PK_CONF_DURATION, NULL, "10s", 100 * PK_NS_PER_MS, 3600 * PK_NS_PER_S, NULL, false,
	  "Tell the server this often what is held, so that a difference is found and mended.",
	  O(heartbeat_ns) },
	{ "reconnect-min", PK_CONF_DURATION, NULL, "200ms", PK_NS_PER_MS, 60 * PK_NS_PER_S, NULL, false,
	  "First wait before connecting again.  It doubles with every failure; half of it is by chance, so "
	  "that many DPUs do not come back at once.", O(reconnect_min_ns) },
	{ "reconnect-max", PK_CONF_DURATION, NULL, "30s", PK_NS_PER_MS, 3600 * PK_NS_PER_S, NULL, false,
	  "Longest wait before connecting again.", O(reconnect_max_ns) },
};
/* clang-format on */
const size_t agent_nb_options = PK_COUNT(agent_options);

/*
 * The stream:
 *
 *   DOWN     not connected, waiting to try again
 *   OPEN     hello is sent; nothing is being received
 *   STAGING  between Begin and Commit
 */
enum state {
	S_DOWN,
	S_OPEN,
	S_STAGING,
	S_COUNT,
	S_NONE = S_COUNT
};
enum stream_event {
	E_UP,
	E_LOST,
	E_WANT_HELD,
	E_BEGIN,
	E_CHANGES,
	E_COMMIT,
	E_IN_SYNC,
	E_COUNT
};

static const char *const state_names[] = { "down", "open", "staging", "none" };
static const char *const event_names[] = { "up", "lost", "want-held", "begin", "changes", "commit",
	"in-sync" };

/* clang-format off */
/* Where it says NONE the server has broken the protocol, and the stream ends. */
static const uint8_t next[S_COUNT][E_COUNT] = {
	/*              UP      LOST    WANT_HELD BEGIN      CHANGES    COMMIT  IN_SYNC */
	[S_DOWN]    = { S_OPEN, S_DOWN, S_NONE,   S_NONE,    S_NONE,    S_NONE, S_NONE },
	[S_OPEN]    = { S_NONE, S_DOWN, S_OPEN,   S_STAGING, S_NONE,    S_NONE, S_OPEN },
	[S_STAGING] = { S_NONE, S_DOWN, S_NONE,   S_NONE,    S_STAGING, S_OPEN, S_NONE },
};
/* clang-format on */

/* A resource that comes in parts. */
struct parts {
	unsigned int type;
	uint8_t key[POLICY_KEY_MAX];
	size_t key_len;
	uint64_t version;
	uint8_t *body;
	uint32_t have, size;
};

struct agentd {
	struct event_base *base;
	const struct agent_conf *conf;
	char path[4096]; /* of the state on disk */
	char cert[4096], key[4096], ca[4096];
	char plane_path[4096];
	char dpu[PK_SPIFFE_NAME_MAX];
	struct pk_rpc *rpc;
	struct pk_rpc_client *client; /* of: */
	char server[300];
	unsigned int nb_servers, server_at;
	struct pk_rpc_stream *stream;
	struct pk_helper *helper;
	struct agent_plane *plane;
	struct event *reconnect, *heartbeat;
	enum state state;
	uint64_t wait_ns;
	bool heard;  /* the server has answered on this stream */
	bool synced; /* it has said InSync since */
	uint64_t since_unix_ns;
	char why[PK_DIAG_MAX + 64]; /* the connection was lost, or could not be made */
	/* what was received whole */
	struct policy_state *wanted;
	uint64_t wanted_generation;
	uint64_t wanted_nonce;
	/* what the plane could enforce */
	struct policy_state *accepted;
	uint64_t accepted_generation;
	uint64_t saved_generation; /* on disk */
	bool saving;
	bool stopping;
	uint64_t realised_generation;
	bool plane_up;
	struct pk_msg_policy_counts counts; /* as the plane said last, if it did */
	bool counted;
	/* of the host behind us, as the verifier says, until its lease runs out */
	struct pk_posture_ear *ear;
	struct event *lease;
	struct pk_msg_posture posture;
	bool has_posture;
	struct agent_identities *identities;
	struct agent_evidence *evidence;
	struct agent_grants *grants;
	char *reference; /* that is being received: the statement, a newline, values */
	size_t reference_len;
	/* what is being received */
	struct policy_state *staged;
	uint64_t staged_generation;
	struct parts parts;
	bool bad;    /* it will be rejected */
	bool resync; /* because we disagree about what we hold */
	struct pk_diag why_bad;
	uint64_t nb_resources; /* received, ever */
};

static void move(struct agentd *a, enum stream_event event);

/* ---- what we say ---- */

static void
say(struct agentd *a, const Picket__V1__AgentMessage *m)
{
	struct pk_rpc_buffer *b;
	uint8_t *bytes;
	int err;

	if (a->stream == NULL)
		return;
	b = pk_rpc_buffer_create(picket__v1__agent_message__get_packed_size(m), &bytes);
	if (b != NULL)
		picket__v1__agent_message__pack(m, bytes);
	err = b != NULL ? pk_rpc_stream_send(a->stream, b) : -ENOMEM;
	if (err != 0)
		pk_warn("server: message not sent: %s", strerror(-err));
}

/* How far `wanted` has come. */
static Picket__V1__Stage
stage_of_wanted(const struct agentd *a)
{
	if (a->wanted_generation == 0)
		return PICKET__V1__STAGE__STAGE_NONE;
	if (a->plane_up && a->realised_generation == a->wanted_generation)
		return PICKET__V1__STAGE__STAGE_REALISED;
	if (a->saved_generation == a->wanted_generation)
		return PICKET__V1__STAGE__STAGE_ACCEPTED;
	return PICKET__V1__STAGE__STAGE_RECEIVED;
}

static void
say_hello(struct agentd *a)
{
	Picket__V1__AgentMessage m = PICKET__V1__AGENT_MESSAGE__INIT;
	Picket__V1__Hello body = PICKET__V1__HELLO__INIT;

	body.protocol = PROTOCOL;
	body.software = (char *)(uintptr_t) "picket-agentd " PK_VERSION;
	body.generation = a->wanted_generation;
	body.state_hash = policy_state_hash(a->wanted);
	body.stage = stage_of_wanted(a);
	body.plane = a->plane_up;
	body.counted = a->plane_up && a->counted;
	body.refused = a->counts.refused;
	body.revoked = a->counts.revoked;
	m.body_case = PICKET__V1__AGENT_MESSAGE__BODY_HELLO;
	m.hello = &body;
	say(a, &m);
}

static void
say_status(struct agentd *a, uint64_t generation, uint64_t nonce, Picket__V1__Stage stage,
    const char *reason, bool resync)
{
	Picket__V1__AgentMessage m = PICKET__V1__AGENT_MESSAGE__INIT;
	Picket__V1__Status body = PICKET__V1__STATUS__INIT;

	body.generation = generation;
	body.nonce = nonce;
	body.stage = stage;
	body.reason = (char *)(uintptr_t)reason;
	body.resync = resync;
	body.at_unix_ns = pk_clock_wall_ns();
	m.body_case = PICKET__V1__AGENT_MESSAGE__BODY_STATUS;
	m.status = &body;
	say(a, &m);
}

/* Others have to know as well.  The plane needs nobody for it, and has acted already. */
static void
say_posture(struct agentd *a)
{
	Picket__V1__AgentMessage m = PICKET__V1__AGENT_MESSAGE__INIT;
	Picket__V1__Posture body = PICKET__V1__POSTURE__INIT;

	if (!a->has_posture || a->stream == NULL)
		return;
	body.attested = a->posture.attested;
	body.fresh = a->posture.fresh;
	body.state = a->posture.state;
	body.epoch = a->posture.epoch;
	body.host = a->posture.host;
	body.text = a->posture.text;
	body.reference = a->posture.reference;
	m.body_case = PICKET__V1__AGENT_MESSAGE__BODY_POSTURE;
	m.posture = &body;
	say(a, &m);
}

/* Keys between data planes are of one run of both. */
static void
say_plane(struct agentd *a)
{
	Picket__V1__AgentMessage m = PICKET__V1__AGENT_MESSAGE__INIT;
	Picket__V1__Plane body = PICKET__V1__PLANE__INIT;
	struct agent_plane_status s;

	agent_plane_status(a->plane, &s);
	if (!a->plane_up || a->stream == NULL || a->state == S_DOWN)
		return;
	body.epoch = s.epoch;
	body.tunnel.data = s.tunnel.bytes;
	body.tunnel.len = s.tunnel.family == 4 ? 4 : s.tunnel.family == 6 ? 16 : 0;
	m.body_case = PICKET__V1__AGENT_MESSAGE__BODY_DATA_PLANE;
	m.data_plane = &body;
	say(a, &m);
}

static void
on_posture(void *arg, const struct pk_msg_posture *p)
{
	struct agentd *a = arg;
	uint64_t now = pk_clock_mono_ns();
	bool news = !a->has_posture || a->posture.attested != p->attested ||
	    a->posture.fresh != p->fresh || a->posture.epoch != p->epoch ||
	    strcmp(a->posture.reference, p->reference) != 0;

	a->posture = *p;
	a->has_posture = true;
	agent_identities_posture(a->identities, p);
	event_del(a->lease);
	if (p->attested) {
		uint64_t left = p->until_mono_ns > now ? p->until_mono_ns - now : 0;
		struct timeval tv = { .tv_sec = (time_t)(left / PK_NS_PER_S),
			.tv_usec = (suseconds_t)(left % PK_NS_PER_S / PK_NS_PER_US) };

		event_add(a->lease, &tv);
	}
	if (news)
		say_posture(a);
}

static void
on_lease(evutil_socket_t fd, short what, void *arg)
{
	struct agentd *a = arg;

	(void)fd;
	(void)what;
	pk_warn("host %s: its lease has run out: it is not attested any more", a->posture.host);
	a->posture.attested = a->posture.fresh = 0;
	a->posture.until_mono_ns = 0;
	snprintf(a->posture.text, sizeof(a->posture.text), "the lease has run out");
	agent_identities_posture(a->identities, &a->posture);
	say_posture(a);
}

static void
say_heartbeat(struct agentd *a)
{
	Picket__V1__AgentMessage m = PICKET__V1__AGENT_MESSAGE__INIT;
	Picket__V1__Heartbeat body = PICKET__V1__HEARTBEAT__INIT;

	/* Between Begin and Commit the two ends differ by intent. */
	if (a->state != S_OPEN || !a->synced)
		return;
	body.generation = a->wanted_generation;
	body.state_hash = policy_state_hash(a->wanted);
	body.stage = stage_of_wanted(a);
	body.plane = a->plane_up;
	body.counted = a->plane_up && a->counted;
	body.refused = a->counts.refused;
	body.revoked = a->counts.revoked;
	m.body_case = PICKET__V1__AGENT_MESSAGE__BODY_HEARTBEAT;
	m.heartbeat = &body;
	say(a, &m);
}

static void
say_held(struct agentd *a)
{
	size_t n = policy_state_count(a->wanted), at = 0;
	Picket__V1__HeldResource *item = calloc(HELD_BATCH, sizeof(*item));
	Picket__V1__HeldResource **list = calloc(HELD_BATCH, sizeof(*list));

	if (item == NULL || list == NULL) {
		pk_warn("server: no memory to say what is held");
		n = 0;
	}
	do {
		Picket__V1__AgentMessage m = PICKET__V1__AGENT_MESSAGE__INIT;
		Picket__V1__Held body = PICKET__V1__HELD__INIT;
		size_t take = PK_MIN(n, (size_t)HELD_BATCH);

		for (size_t i = 0; i < take; i++) {
			struct policy_resource *r = policy_state_next(a->wanted, &at);

			picket__v1__held_resource__init(&item[i]);
			item[i].type = (Picket__V1__ResourceType)r->type;
			item[i].key.data = r->key;
			item[i].key.len = r->key_len;
			item[i].version = r->version;
			list[i] = &item[i];
		}
		n -= take;
		body.resources = list;
		body.n_resources = take;
		body.last = n == 0;
		body.generation = a->wanted_generation;
		m.body_case = PICKET__V1__AGENT_MESSAGE__BODY_HELD;
		m.held = &body;
		say(a, &m);
	} while (n != 0);
	free(item);
	free(list);
}

/* ---- the disk ---- */

struct save_job {
	struct pk_job job;
	struct agentd *a;
	struct agent_saved what;
	int err;
};

static void save_accepted(struct agentd *a);

static void
save_work(struct pk_job *job)
{
	struct save_job *s = (struct save_job *)job;
	struct pk_diag diag;

	s->err = agent_state_save(s->a->path, &s->what, &diag);
	if (s->err != 0)
		pk_error("%s", diag.text);
}

/* Now, and not before, the generation is accepted: a power cut does not bring an older one back. */
static void
save_done(struct pk_job *job)
{
	struct save_job *s = (struct save_job *)job;
	struct agentd *a = s->a;

	a->saving = false;
	if (s->err == 0) {
		a->saved_generation = s->what.generation;
		say_status(a, s->what.generation, a->wanted_nonce,
		    PICKET__V1__STAGE__STAGE_ACCEPTED, "", false);
		if (a->plane_up && a->realised_generation == s->what.generation)
			say_status(a, s->what.generation, a->wanted_nonce,
			    PICKET__V1__STAGE__STAGE_REALISED, "", false);
		if (a->saved_generation != a->accepted_generation)
			save_accepted(a);
	}
	policy_state_destroy(s->what.state);
	free(s);
}

/* One at a time; what has been accepted meanwhile is saved after it, skipping what lies between. */
static void
save_accepted(struct agentd *a)
{
	struct agent_plane_status plane;
	struct save_job *s;

	if (a->saving || a->stopping)
		return;
	s = calloc(1, sizeof(*s));
	if (s == NULL || (s->what.state = policy_state_clone(a->accepted)) == NULL) {
		free(s);
		pk_error("generation %llu not saved: no memory",
		    (unsigned long long)a->accepted_generation);
		return;
	}
	agent_plane_status(a->plane, &plane);
	s->job.work = save_work;
	s->job.done = save_done;
	s->a = a;
	s->what.generation = a->accepted_generation;
	s->what.epoch = plane.epoch;
	snprintf(s->what.dpu, sizeof(s->what.dpu), "%s", a->dpu);
	a->saving = true;
	pk_helper_give(a->helper, &s->job);
}

/* ---- the plane ---- */

static void
on_plane_connected(void *arg, bool up)
{
	struct agentd *a = arg;

	a->plane_up = up;
	a->realised_generation = 0; /* it will say */
	a->counted = false;
	say_plane(a);
	say_heartbeat(a);
}

/* They ride on the next heartbeat. */
static void
on_plane_counts(void *arg, const struct pk_msg_policy_counts *c)
{
	struct agentd *a = arg;

	a->counts = *c;
	a->counted = true;
}

static void
on_rejected(struct agentd *a, uint64_t generation, const char *text)
{
	struct policy_state *back;

	pk_error(
	    "generation %llu rejected by the data plane: %s", (unsigned long long)generation, text);
	say_status(a, generation, a->wanted_nonce, PICKET__V1__STAGE__STAGE_REJECTED, text, false);
	if (generation != a->wanted_generation)
		return; /* a newer one waits already */
	back = policy_state_clone(a->accepted);
	if (back == NULL) {
		pk_error("no memory to fall back to generation %llu",
		    (unsigned long long)a->accepted_generation);
		return;
	}
	policy_state_destroy(a->wanted);
	a->wanted = back;
	agent_identities_workloads(a->identities, a->wanted);
	a->wanted_generation = a->accepted_generation;
	if (a->wanted_generation != 0 &&
	    agent_plane_want(a->plane, a->wanted_generation, a->wanted) != 0)
		pk_error(
		    "no memory to keep generation %llu", (unsigned long long)a->wanted_generation);
}

static void
on_plane_stage(void *arg, uint64_t generation, enum pk_stage stage,
    const struct policy_state *state, const char *text)
{
	struct agentd *a = arg;
	struct policy_state *copy;

	switch (stage) {
	case PK_STAGE_ACCEPTED:
		if (generation == a->accepted_generation && generation == a->saved_generation)
			break; /* a plane that came back takes up what is on disk already */
		copy = policy_state_clone(state);
		if (copy == NULL) {
			pk_error(
			    "generation %llu not saved: no memory", (unsigned long long)generation);
			break;
		}
		policy_state_destroy(a->accepted);
		a->accepted = copy;
		a->accepted_generation = generation;
		save_accepted(a);
		break;
	case PK_STAGE_REALISED:
		a->realised_generation = generation;
		pk_notice("generation %llu realised", (unsigned long long)generation);
		if (generation == a->saved_generation)
			say_status(a, generation, a->wanted_nonce,
			    PICKET__V1__STAGE__STAGE_REALISED, "", false);
		break;
	case PK_STAGE_REJECTED:
		on_rejected(a, generation, text);
		break;
	default:
		break;
	}
}

static const struct agent_plane_ops plane_ops = {
	.connected = on_plane_connected,
	.stage = on_plane_stage,
	.counts = on_plane_counts,
};

/* ---- what the server says ---- */

static void
spoil(struct agentd *a, bool resync, const char *text)
{
	if (a->bad)
		return; /* the first reason is the one to tell */
	a->bad = true;
	a->resync = resync;
	pk_diag_set(&a->why_bad, "%s", text);
}

static void
parts_fini(struct parts *p)
{
	free(p->body);
	memset(p, 0, sizeof(*p));
}

static void
stage_begin(struct agentd *a, const Picket__V1__Begin *m)
{
	policy_state_destroy(a->staged);
	a->staged = m->base_generation != 0 ? policy_state_clone(a->wanted) : policy_state_create();
	a->staged_generation = m->generation;
	a->bad = a->resync = false;
	parts_fini(&a->parts);
	if (a->staged == NULL)
		spoil(a, false, "no memory");
	else if (m->generation == 0)
		spoil(a, false, "generation 0 cannot be enforced");
	else if (m->base_generation != 0 && m->base_generation != a->wanted_generation)
		spoil(a, true, "the changes are based on a generation that is not held");
}

static void
stage_body(struct agentd *a, const Picket__V1__Resource *m, const uint8_t *body, size_t len)
{
	struct policy_resource *r;
	struct pk_diag diag = { "no memory" };

	if (policy_resource_create(
	        &r, (unsigned int)m->type, m->key.data, m->key.len, body, len, &diag) != 0) {
		spoil(a, false, diag.text);
		return;
	}
	if (r->version != m->version)
		spoil(a, true, "a resource is not the version it is said to be");
	else if (policy_state_put(a->staged, r) != 0)
		spoil(a, false, "no memory");
	policy_resource_put(r);
	a->nb_resources++;
}

static bool
same_key(const struct parts *p, const Picket__V1__Resource *m)
{
	return p->type == (unsigned int)m->type && p->key_len == m->key.len &&
	    memcmp(p->key, m->key.data, m->key.len) == 0 && p->version == m->version &&
	    p->size == m->size;
}

/* Parts come in order and nothing comes between them. */
static void
stage_resource(struct agentd *a, const Picket__V1__Resource *m)
{
	struct parts *p = &a->parts;

	if (m->key.len > POLICY_KEY_MAX || m->size > POLICY_RESOURCE_MAX || m->body.len > m->size ||
	    m->offset > m->size - m->body.len) {
		spoil(a, false, "a resource of impossible size");
		return;
	}
	if (p->body == NULL && m->offset == 0 && m->body.len == m->size) {
		stage_body(a, m, m->body.data, m->body.len);
		return;
	}
	if (p->body == NULL && m->offset == 0) {
		p->type = (unsigned int)m->type;
		p->key_len = m->key.len;
		memcpy(p->key, m->key.data, m->key.len);
		p->version = m->version;
		p->size = m->size;
		p->body = malloc(m->size);
		if (p->body == NULL) {
			spoil(a, false, "no memory");
			return;
		}
	}
	if (p->body == NULL || !same_key(p, m) || m->offset != p->have) {
		spoil(a, false, "a part of a resource is missing");
		return;
	}
	memcpy(p->body + p->have, m->body.data, m->body.len);
	p->have += (uint32_t)m->body.len;
	if (p->have == p->size) {
		stage_body(a, m, p->body, p->size);
		parts_fini(p);
	}
}

static void
stage_delta(struct agentd *a, const Picket__V1__SetDelta *m)
{
	struct policy_resource *old, *r;
	struct pk_diag diag = { "no memory" };

	old = m->key.len <= POLICY_KEY_MAX
	    ? policy_state_find(a->staged, POLICY_RESOURCE_SET, m->key.data, m->key.len)
	    : NULL;
	if (policy_resource_patch(&r, old, m, &diag) != 0) {
		spoil(a, true, diag.text);
		return;
	}
	if (policy_state_put(a->staged, r) != 0)
		spoil(a, false, "no memory");
	policy_resource_put(r);
	a->nb_resources++;
}

static void
stage_changes(struct agentd *a, const Picket__V1__Changes *m)
{
	for (size_t i = 0; i < m->n_resources && !a->bad; i++)
		stage_resource(a, m->resources[i]);
	for (size_t i = 0; i < m->n_deltas && !a->bad; i++)
		stage_delta(a, m->deltas[i]);
	for (size_t i = 0; i < m->n_removed && !a->bad; i++) {
		const Picket__V1__ResourceKey *k = m->removed[i];

		if (k->key.len > POLICY_KEY_MAX ||
		    policy_state_remove(
		        a->staged, (unsigned int)k->type, k->key.data, k->key.len) != 0)
			spoil(a, true, "a resource to be removed is not held");
	}
}

static void
stage_commit(struct agentd *a, const Picket__V1__Commit *m, uint64_t nonce)
{
	if (m->generation != a->staged_generation)
		spoil(a, true, "the commit is of another generation");
	if (!a->bad && a->parts.body != NULL)
		spoil(a, false, "a resource ends before its last part");
	if (!a->bad && policy_state_hash(a->staged) != m->state_hash)
		spoil(a, true, "what is held would not be what the server means");
	if (!a->bad && agent_plane_want(a->plane, a->staged_generation, a->staged) != 0)
		spoil(a, false, "no memory");
	if (!a->bad)
		agent_plane_confirm(a->plane);
	parts_fini(&a->parts);
	if (a->bad) {
		pk_warn("server: generation %llu rejected: %s", (unsigned long long)m->generation,
		    a->why_bad.text);
		say_status(a, m->generation, nonce, PICKET__V1__STAGE__STAGE_REJECTED,
		    a->why_bad.text, a->resync);
		policy_state_destroy(a->staged);
		a->staged = NULL;
		return;
	}
	policy_state_destroy(a->wanted);
	a->wanted = a->staged;
	a->staged = NULL;
	a->wanted_generation = m->generation;
	a->wanted_nonce = nonce;
	agent_identities_workloads(a->identities, a->wanted);
	pk_notice("generation %llu received: %zu resources", (unsigned long long)m->generation,
	    policy_state_count(a->wanted));
	say_status(a, m->generation, nonce, PICKET__V1__STAGE__STAGE_RECEIVED, "", false);
}

/* ---- what the host has to look like: for the verifier, which judges by itself whether to believe it ---- */

struct reference_job {
	struct pk_job job;
	struct agentd *a;
	char *bytes; /* statement, newline, values */
	size_t len;
	int err;
};

static void
reference_work(struct pk_job *job)
{
	struct reference_job *r = (struct reference_job *)job;
	char path[4096 + 16], beside[4096 + 32];
	FILE *f;
	int ok;

	snprintf(path, sizeof(path), "%s/reference", r->a->conf->state);
	snprintf(beside, sizeof(beside), "%s.new", path);
	f = fopen(beside, "we");
	ok = f != NULL && fwrite(r->bytes, 1, r->len, f) == r->len && fflush(f) == 0 &&
	    fsync(fileno(f)) == 0;
	r->err = ok ? 0 : -errno;
	if (f != NULL && fclose(f) != 0)
		r->err = -errno;
	if (r->err == 0 && rename(beside, path) != 0)
		r->err = -errno;
}

static void
reference_done(struct pk_job *job)
{
	struct reference_job *r = (struct reference_job *)job;

	if (r->err != 0)
		pk_error("reference not kept: %s", strerror(-r->err));
	else
		pk_notice("reference taken to %s/reference for the verifier", r->a->conf->state);
	free(r->bytes);
	free(r);
}

static void
take_reference(struct agentd *a, const Picket__V1__Reference *m)
{
	struct reference_job *r;
	size_t statement = strlen(m->statement) + 1;

	if (m->offset == 0) {
		free(a->reference);
		a->reference = m->size <= POLICY_RESOURCE_MAX ? malloc(statement + m->size) : NULL;
		a->reference_len = 0;
		if (a->reference != NULL) {
			memcpy(a->reference, m->statement, statement - 1);
			a->reference[statement - 1] = '\n';
		}
	}
	if (a->reference == NULL || m->offset != a->reference_len ||
	    m->size > POLICY_RESOURCE_MAX || m->values.len > m->size - m->offset) {
		pk_error("reference not taken: no memory, or a part is missing");
		return;
	}
	memcpy(a->reference + statement + m->offset, m->values.data, m->values.len);
	a->reference_len += m->values.len;
	if (a->reference_len < m->size)
		return;
	r = calloc(1, sizeof(*r));
	if (r == NULL)
		return;
	r->job.work = reference_work;
	r->job.done = reference_done;
	r->a = a;
	r->bytes = a->reference;
	r->len = statement + m->size;
	a->reference = NULL;
	pk_helper_give(a->helper, &r->job);
}

static bool
allowed(struct agentd *a, enum stream_event event)
{
	if (next[a->state][event] != S_NONE)
		return true;
	pk_warn("server: unexpected %s in state %s", event_names[event], state_names[a->state]);
	pk_rpc_stream_close(a->stream, PK_RPC_FAILED_PRECONDITION, "message out of order");
	a->stream = NULL;
	snprintf(a->why, sizeof(a->why), "the server said something out of order");
	move(a, E_LOST);
	return false;
}

static void
on_message(struct pk_rpc_stream *stream, const uint8_t *bytes, size_t len, void *arg)
{
	struct agentd *a = arg;
	Picket__V1__ServerMessage *m = picket__v1__server_message__unpack(NULL, len, bytes);

	(void)stream;
	if (m == NULL) {
		pk_warn("server: a message that cannot be decoded");
		pk_rpc_stream_close(a->stream, PK_RPC_INVALID_ARGUMENT, "undecodable");
		a->stream = NULL;
		snprintf(
		    a->why, sizeof(a->why), "the server said something that cannot be decoded");
		move(a, E_LOST);
		return;
	}
	if (!a->heard) {
		a->heard = true;
		a->since_unix_ns = pk_clock_wall_ns();
		a->why[0] = '\0';
		pk_notice("server %s: connected", a->server);
	}
	switch (m->body_case) {
	case PICKET__V1__SERVER_MESSAGE__BODY_WANT_HELD:
		if (!allowed(a, E_WANT_HELD))
			break;
		move(a, E_WANT_HELD);
		say_held(a);
		break;
	case PICKET__V1__SERVER_MESSAGE__BODY_BEGIN:
		if (!allowed(a, E_BEGIN))
			break;
		stage_begin(a, m->begin);
		move(a, E_BEGIN);
		break;
	case PICKET__V1__SERVER_MESSAGE__BODY_CHANGES:
		if (!allowed(a, E_CHANGES))
			break;
		stage_changes(a, m->changes);
		move(a, E_CHANGES);
		break;
	case PICKET__V1__SERVER_MESSAGE__BODY_COMMIT:
		if (!allowed(a, E_COMMIT))
			break;
		move(a, E_COMMIT);
		stage_commit(a, m->commit, m->nonce);
		break;
	case PICKET__V1__SERVER_MESSAGE__BODY_UPDATE:
		if (!allowed(a, E_BEGIN) || m->update->begin == NULL || m->update->commit == NULL)
			break;
		stage_begin(a, m->update->begin);
		move(a, E_BEGIN);
		if (m->update->changes != NULL)
			stage_changes(a, m->update->changes);
		move(a, E_COMMIT);
		stage_commit(a, m->update->commit, m->nonce);
		break;
	case PICKET__V1__SERVER_MESSAGE__BODY_IN_SYNC:
		if (!allowed(a, E_IN_SYNC))
			break;
		move(a, E_IN_SYNC);
		if (!a->synced) {
			agent_identities_connected(a->identities, true);
			agent_evidence_connected(a->evidence, true);
		}
		a->synced = true;
		agent_plane_confirm(a->plane);
		a->wait_ns = a->conf->reconnect_min_ns;
		say_heartbeat(a);
		break;
	case PICKET__V1__SERVER_MESSAGE__BODY_SVID:
		agent_identities_svid(a->identities, m->svid);
		break;
	case PICKET__V1__SERVER_MESSAGE__BODY_REFERENCE:
		take_reference(a, m->reference);
		break;
	case PICKET__V1__SERVER_MESSAGE__BODY_GRANTS:
		agent_grants_part(a->grants, m->grants);
		pk_wipe(m->grants->set.data, m->grants->set.len);
		break;
	case PICKET__V1__SERVER_MESSAGE__BODY_CHALLENGE:
		agent_evidence_challenge(a->evidence, m->challenge);
		break;
	case PICKET__V1__SERVER_MESSAGE__BODY_TRUST:
		agent_identities_trust(a->identities, m->trust);
		break;
	default:
		/* From a newer server, which must not rely on our understanding it. */
		break;
	}
	picket__v1__server_message__free_unpacked(m, NULL);
}

static void
on_closed(struct pk_rpc_stream *stream, unsigned int status, const char *text, void *arg)
{
	struct agentd *a = arg;

	(void)stream;
	a->stream = NULL;
	snprintf(a->why, sizeof(a->why), "%s: %s", pk_rpc_status_name(status), text);
	move(a, E_LOST);
}

static const struct pk_rpc_stream_ops stream_ops = { .message = on_message, .closed = on_closed };

/* ---- the connection ---- */

/* Half of the wait is by chance: ten thousand DPUs that lost one server must not return as one. */
static void
retry_later(struct agentd *a)
{
	uint64_t chance = 0, wait;
	struct timeval tv;

	(void)!getrandom(&chance, sizeof(chance), 0);
	wait = a->wait_ns / 2 + chance % (a->wait_ns / 2 + 1);
	a->wait_ns = PK_MIN(a->wait_ns * 2, a->conf->reconnect_max_ns);
	tv.tv_sec = (time_t)(wait / PK_NS_PER_S);
	tv.tv_usec = (suseconds_t)(wait % PK_NS_PER_S / PK_NS_PER_US);
	event_add(a->reconnect, &tv);
}

/* Which of those configured is asked: number `at`. */
static void
choose_server(struct agentd *a, unsigned int at)
{
	const char *s = a->conf->server;

	for (unsigned int i = 0; i < at; i++)
		s += strcspn(s, ",") + 1;
	s += strspn(s, " ");
	snprintf(a->server, sizeof(a->server), "%.*s", (int)strcspn(s, ", "), s);
	a->server_at = at;
}

/* The wait before it grows as with one: only who has been connected waits for little. */
static void
next_server(struct agentd *a)
{
	if (a->nb_servers < 2)
		return;
	pk_rpc_client_destroy(a->client);
	a->client = NULL;
	choose_server(a, (a->server_at + 1) % a->nb_servers);
}

static void
move(struct agentd *a, enum stream_event event)
{
	enum state old = a->state, now = (enum state)next[old][event];

	PK_ASSERT(now != S_NONE); /* allowed() was asked */
	if (old != now)
		pk_debug(
		    "server: %s: %s -> %s", state_names[old], event_names[event], state_names[now]);
	a->state = now;
	if (event == E_UP) {
		a->heard = a->synced = false;
		say_hello(a);
		say_posture(a);
		say_plane(a);
	} else if (event == E_LOST) {
		policy_state_destroy(a->staged);
		a->staged = NULL;
		parts_fini(&a->parts);
		if (a->heard)
			a->since_unix_ns = pk_clock_wall_ns();
		a->heard = a->synced = false;
		agent_identities_connected(a->identities, false);
		agent_evidence_connected(a->evidence, false);
		pk_notice("server %s: not connected: %s", a->server, a->why);
		next_server(a);
		retry_later(a);
	}
}

static void
on_reconnect(evutil_socket_t fd, short what, void *arg)
{
	struct agentd *a = arg;
	const struct pk_rpc_tls tls = { .cert = a->cert, .key = a->key, .ca = a->ca };
	const struct pk_rpc_limits limits = { .keepalive_ns = a->conf->keepalive_ns,
		.keepalive_timeout_ns = a->conf->keepalive_ns };
	struct pk_diag diag = { "no memory" };

	(void)fd;
	(void)what;
	if (a->client == NULL &&
	    pk_rpc_client_create(&a->client, a->rpc, a->server, &tls, &limits, &diag) != 0) {
		snprintf(a->why, sizeof(a->why), "%s", diag.text);
		move(a, E_LOST);
		return;
	}
	if (pk_rpc_client_stream(
	        &a->stream, a->client, "/picket.v1.PolicyDiscovery/Stream", &stream_ops, a) != 0) {
		snprintf(a->why, sizeof(a->why), "no memory");
		move(a, E_LOST);
		return;
	}
	move(a, E_UP);
}

static void
say_for(void *arg, const Picket__V1__AgentMessage *m)
{
	say(arg, m);
}

static const struct agent_identity_ops identity_ops = { .say = say_for };

static void
on_heartbeat(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	say_heartbeat(arg);
}

/* ---- start and stop ---- */

static int
load(struct agentd *a, struct pk_diag *diag)
{
	struct agent_saved saved;
	struct pk_spiffe self;
	int err, named;

	named = pk_spiffe_check_files(a->cert, a->key, a->ca, &self, diag);
	err = agent_state_load(a->path, &saved, named == 0 ? diag : &(struct pk_diag){ "" });
	if (err == 0 && named != 0) {
		/* An expired certificate cuts the channel, not the enforcement. */
		pk_error("%s; going on with generation %llu of %s from disk", diag->text,
		    (unsigned long long)saved.generation, saved.dpu);
		snprintf(a->dpu, sizeof(a->dpu), "%s", saved.dpu);
	} else if (named != 0) {
		return named;
	} else {
		snprintf(a->dpu, sizeof(a->dpu), "%s", self.name);
		if (strcmp(self.kind, "dpu") != 0) {
			pk_diag_set(diag, "%s: is the certificate of %s \"%s\": want that of a dpu",
			    a->cert, self.kind, self.name);
			err = -EINVAL;
			goto out;
		}
		if (a->conf->instance != NULL && a->conf->instance[0] != '\0' &&
		    strcmp(a->conf->instance, self.name) != 0) {
			pk_diag_set(diag,
			    "%s: is the certificate of DPU \"%s\", and instance is \"%s\"", a->cert,
			    self.name, a->conf->instance);
			err = -EINVAL;
			goto out;
		}
	}
	if (err == 0 && strcmp(saved.dpu, a->dpu) != 0) {
		pk_warn("%s: is the state of DPU \"%s\", and this is \"%s\": not used", a->path,
		    saved.dpu, a->dpu);
		policy_state_destroy(saved.state);
		saved.state = NULL;
		err = -ENOENT;
	}
	if (err == -EBADMSG) {
		pk_error("%s", diag->text);
		err = -ENOENT;
	}
	if (err == -ENOENT) {
		a->wanted = policy_state_create();
		a->accepted = policy_state_create();
		return a->wanted != NULL && a->accepted != NULL ? 0 : -ENOMEM;
	}
	if (err != 0)
		return err;
	a->wanted = policy_state_clone(saved.state);
	a->accepted = policy_state_clone(saved.state);
	a->wanted_generation = a->accepted_generation = a->saved_generation = saved.generation;
	if (a->wanted == NULL || a->accepted == NULL ||
	    agent_plane_create(&a->plane, a->base, a->plane_path, a->dpu, &plane_ops, a) != 0 ||
	    agent_plane_known(a->plane, saved.generation, saved.epoch, saved.state) != 0 ||
	    agent_plane_want(a->plane, saved.generation, saved.state) != 0) {
		pk_diag_set(diag, "no memory to start with");
		err = -ENOMEM;
	}
out:
	policy_state_destroy(saved.state);
	return err;
}

int
agentd_create(struct agentd **out, struct event_base *base, const struct agent_conf *conf,
    struct pk_diag *diag)
{
	struct agentd *a = calloc(1, sizeof(*a));
	static const struct timeval at_once;
	char posture[512], path[512], file[4096 + 16];
	struct timeval beat = { .tv_sec = (time_t)(conf->heartbeat_ns / PK_NS_PER_S),
		.tv_usec = (suseconds_t)(conf->heartbeat_ns % PK_NS_PER_S / PK_NS_PER_US) };
	int err = -ENOMEM;

	if (a == NULL) {
		pk_diag_set(diag, "no memory to start with");
		return -ENOMEM;
	}
	a->base = base;
	a->conf = conf;
	a->nb_servers = 1;
	for (const char *c = conf->server; *c != '\0'; c++)
		a->nb_servers += *c == ',';
	choose_server(a, 0);
	a->wait_ns = conf->reconnect_min_ns;
	a->since_unix_ns = pk_clock_wall_ns();
	snprintf(a->path, sizeof(a->path), "%s/policy.state", conf->state);
	snprintf(a->cert, sizeof(a->cert), "%s/identity.crt", conf->identity);
	snprintf(a->key, sizeof(a->key), "%s/identity.key", conf->identity);
	snprintf(a->ca, sizeof(a->ca), "%s/ca.crt", conf->identity);
	if (conf->plane != NULL && conf->plane[0] != '\0')
		snprintf(a->plane_path, sizeof(a->plane_path), "%s", conf->plane);
	else
		snprintf(a->plane_path, sizeof(a->plane_path), "%s/picketd.sock", conf->run_dir);
	if (mkdir(conf->state, 0700) != 0 && errno != EEXIST)
		pk_warn("%s: %s", conf->state, strerror(errno)); /* reading and saving say more */
	err = pk_helper_create(&a->helper, base, "helper", diag);
	if (err == 0)
		err = load(a, diag);
	if (err != 0)
		goto fail;
	pk_notice(
	    "dpu %s: generation %llu on disk", a->dpu, (unsigned long long)a->saved_generation);
	if (a->plane == NULL &&
	    (err = agent_plane_create(&a->plane, base, a->plane_path, a->dpu, &plane_ops, a)) !=
	        0) {
		pk_diag_set(
		    diag, "%s: want the path of a socket: %s", a->plane_path, strerror(-err));
		goto fail;
	}
	a->lease = evtimer_new(base, on_lease, a);
	snprintf(posture, sizeof(posture), "%s/picket-agentd.posture", conf->run_dir);
	if (a->lease == NULL ||
	    pk_posture_listen(&a->ear, base, posture, on_posture, a, diag) != 0) {
		err = -EIO;
		goto fail;
	}
	snprintf(path, sizeof(path), "%s/picket-agentd.svid", conf->run_dir);
	err = agent_identities_create(&a->identities, base, path, a->dpu,
	    (enum agent_svid_keys)conf->svid_keys, &identity_ops, a, diag);
	if (err != 0)
		goto fail;
	agent_identities_workloads(a->identities, a->wanted);
	snprintf(path, sizeof(path), "%s/picket-agentd.attest", conf->run_dir);
	err = agent_evidence_create(&a->evidence, base, path, a->cert, a->key, say_for, a, diag);
	if (err != 0)
		goto fail;
	snprintf(path, sizeof(path), "%s/picket-agentd.grants", conf->run_dir);
	snprintf(file, sizeof(file), "%s/grants", conf->state);
	err = agent_grants_create(&a->grants, base, path, file, a->dpu, a->helper, diag);
	if (err != 0)
		goto fail;
	err = pk_rpc_create(&a->rpc, base, diag);
	if (err != 0)
		goto fail;
	a->reconnect = evtimer_new(base, on_reconnect, a);
	a->heartbeat = event_new(base, -1, EV_PERSIST, on_heartbeat, a);
	if (a->reconnect == NULL || a->heartbeat == NULL ||
	    event_add(a->reconnect, &at_once) != 0 || event_add(a->heartbeat, &beat) != 0) {
		pk_diag_set(diag, "no memory to start with");
		err = -ENOMEM;
		goto fail;
	}
	*out = a;
	return 0;
fail:
	agentd_destroy(a);
	return err;
}

void
agentd_destroy(struct agentd *a)
{
	if (a == NULL)
		return;
	/* What is being saved is saved; after that nothing new begins. */
	a->stopping = true;
	pk_helper_destroy(a->helper);
	if (a->stream != NULL)
		pk_rpc_stream_close(a->stream, PK_RPC_CANCELLED, "the agent is stopping");
	a->stream = NULL;
	pk_rpc_client_destroy(a->client);
	pk_rpc_destroy(a->rpc);
	agent_plane_destroy(a->plane);
	pk_posture_ear_destroy(a->ear);
	agent_identities_destroy(a->identities);
	agent_evidence_destroy(a->evidence);
	agent_grants_destroy(a->grants);
	if (a->lease != NULL)
		event_free(a->lease);
	if (a->reconnect != NULL)
		event_free(a->reconnect);
	if (a->heartbeat != NULL)
		event_free(a->heartbeat);
	policy_state_destroy(a->wanted);
	policy_state_destroy(a->accepted);
	policy_state_destroy(a->staged);
	parts_fini(&a->parts);
	free(a->reference);
	free(a);
}

void
agentd_show_identities(struct agentd *a, struct pk_control_request *r)
{
	agent_identities_show(a->identities, r);
}

void
agentd_show_grants(struct agentd *a, struct pk_control_request *r)
{
	agent_grants_show(a->grants, r);
	pk_control_done(r);
}

void
agentd_show_status(struct agentd *a, struct pk_control_request *r)
{
	char why[1200], server[300], dpu[160];
	struct agent_plane_status p;

	agent_plane_status(a->plane, &p);
	pk_control_rowf(r,
	    "{\"dpu\":%s,\"server\":%s,\"connected\":%s,\"in_sync\":%s,\"since\":%llu,\"reason\":%s,"
	    "\"received\":%llu,\"accepted\":%llu,\"saved\":%llu,\"realised\":%llu,\"resources\":%zu,"
	    "\"resources_received\":%llu,\"state_hash\":\"%016llx\",\"plane\":%s,\"plane_state\":\"%s\","
	    "\"plane_messages\":%llu,\"plane_full\":%llu,\"plane_changes\":%llu}",
	    pk_json_string(a->dpu, dpu, sizeof(dpu)),
	    pk_json_string(a->server, server, sizeof(server)), a->heard ? "true" : "false",
	    a->synced ? "true" : "false", (unsigned long long)a->since_unix_ns,
	    pk_json_string(a->why, why, sizeof(why)), (unsigned long long)a->wanted_generation,
	    (unsigned long long)a->accepted_generation, (unsigned long long)a->saved_generation,
	    (unsigned long long)a->realised_generation, policy_state_count(a->wanted),
	    (unsigned long long)a->nb_resources, (unsigned long long)policy_state_hash(a->wanted),
	    p.connected ? "true" : "false", p.state, (unsigned long long)p.nb_messages,
	    (unsigned long long)p.full, (unsigned long long)p.delta);
}
