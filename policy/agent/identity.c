#include "policy/agent/identity.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <event2/event.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include "lib/clock.h"
#include "lib/control.h"
#include "lib/log.h"
#include "policy/agent/identity_priv.h"

#define RETRY_MIN_NS (500 * PK_NS_PER_MS)
#define RETRY_MAX_NS (150 * PK_NS_PER_S)
#define ASK_PATIENCE (30 * PK_NS_PER_S) /* after this long an answer does not come any more */
#define ASKED_MAX    32                 /* requests with the server at a time */
#define LOOK_MS      200                /* workloads are looked for at most this often */

static void plan(struct agent_identities *a);

/* ---- keys ---- */

/* Empty the memory file: whoever has it open has an empty one as well. */
static void
wipe(struct identity *i)
{
	if (i->key_map != NULL) {
		pk_wipe(i->key_map, i->key_len);
		munmap(i->key_map, i->key_len);
	}
	if (i->key_fd >= 0)
		close(i->key_fd);
	i->key_map = NULL;
	i->key_fd = -1;
	free(i->chain);
	i->chain = NULL;
	i->chain_len = 0;
	i->not_after_s = 0;
}

static void
drop_request(struct identity *i)
{
	EVP_PKEY_free(i->asked_key);
	i->asked_key = NULL;
	i->asked_id = 0;
}

/* A key in a sealed memory file, which the agent alone can write, through its own mapping. */
static int
keep_key(struct identity *i, EVP_PKEY *key)
{
	uint8_t *der = NULL;
	int len = i2d_PrivateKey(key, &der), fd = -1;
	void *map = MAP_FAILED;

	if (len > 0 && len <= PK_SVID_KEY_MAX)
		fd = memfd_create("picket-svid-key", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd >= 0 && ftruncate(fd, len) == 0)
		map = mmap(NULL, (size_t)len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED ||
	    fcntl(fd, F_ADD_SEALS,
	        F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0) {
		if (map != MAP_FAILED)
			munmap(map, (size_t)len);
		if (fd >= 0)
			close(fd);
		OPENSSL_clear_free(der, len > 0 ? (size_t)len : 0);
		return -ENOMEM;
	}
	(void)mlock(map, (size_t)len);
	(void)madvise(map, (size_t)len, MADV_DONTDUMP);
	memcpy(map, der, (size_t)len);
	OPENSSL_clear_free(der, (size_t)len);
	i->key_fd = fd;
	i->key_map = map;
	i->key_len = (size_t)len;
	return 0;
}

static bool
sign_request(X509_REQ *req, EVP_PKEY *key, bool sm2)
{
	EVP_PKEY_CTX *by = NULL;
	EVP_MD_CTX *ctx;
	bool ok;

	if (!sm2)
		return X509_REQ_sign(req, key, EVP_sha256()) != 0;
	ctx = EVP_MD_CTX_new();
	by = EVP_PKEY_CTX_new(key, NULL);
	ok = ctx != NULL && by != NULL &&
	    EVP_PKEY_CTX_set1_id(by, PK_SVID_SM2_ID, (int)strlen(PK_SVID_SM2_ID)) == 1;
	if (ok) {
		EVP_MD_CTX_set_pkey_ctx(ctx, by);
		ok = EVP_DigestSignInit(ctx, NULL, EVP_sm3(), NULL, key) == 1 &&
		    X509_REQ_sign_ctx(req, ctx) > 0;
	}
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_CTX_free(by);
	return ok;
}

/* ---- what users are told ---- */

static void
tell_svid(struct agent_identities *a, const struct identity *i, struct svid_user *only)
{
	struct pk_svid_message m = { .type = PK_SVID_MESSAGE_SVID,
		.not_after_s = i->not_after_s,
		.epoch = i->epoch,
		.bytes = i->chain,
		.len = i->chain_len };

	snprintf(m.workload, sizeof(m.workload), "%s", i->workload);
	snprintf(m.id, sizeof(m.id), "%s", i->id);
	svid_users_tell(a->users, &m, i->key_fd, only);
}

static void
tell(struct agent_identities *a, const struct identity *i, uint8_t type, const char *why,
    struct svid_user *only)
{
	struct pk_svid_message m = { .type = type };

	snprintf(m.workload, sizeof(m.workload), "%s", i->workload);
	snprintf(m.text, sizeof(m.text), "%s", why);
	svid_users_tell(a->users, &m, -1, only);
}

static void
tell_trust(struct agent_identities *a, bool bundle, struct svid_user *only)
{
	struct pk_svid_message m = { .type = PK_SVID_MESSAGE_BUNDLE };
	size_t at = 0, n = pk_svid_trust_count(a->trust);
	static uint8_t bytes[PK_SVID_BYTES_MAX];

	if (a->bundle_len == 0)
		return;
	if (bundle) {
		snprintf(m.text, sizeof(m.text), "%s", pk_svid_trust_domain(a->trust));
		m.bytes = a->bundle;
		m.len = a->bundle_len;
		svid_users_tell(a->users, &m, -1, only);
	}
	do {
		struct pk_svid_message r = { .type = PK_SVID_MESSAGE_REVOKED, .bytes = bytes };

		r.len = pk_svid_revocations_pack(bytes, a->trust, &at);
		if (at == n)
			r.flags |= PK_SVID_LAST;
		svid_users_tell(a->users, &r, -1, only);
	} while (at < n);
}

/* Its key is gone, here and for all who read it again. */
static void
end_use(struct agent_identities *a, struct identity *i, const char *why)
{
	drop_request(i);
	snprintf(i->why, sizeof(i->why), "%s", why);
	if (i->not_after_s == 0)
		return;
	wipe(i);
	pk_notice("identity %s: gone: %s", i->id, why);
	tell(a, i, PK_SVID_MESSAGE_GONE, why, NULL);
}

/* ---- asking ---- */

static void
retry_later(struct identity *i, uint64_t at_least_ns)
{
	uint64_t chance = 0, wait = PK_MAX(i->wait_ns, at_least_ns);

	(void)!getrandom(&chance, sizeof(chance), GRND_NONBLOCK);
	i->wait_ns = PK_MIN(PK_MAX(i->wait_ns * 2, RETRY_MIN_NS), RETRY_MAX_NS);
	i->due_ns = pk_clock_mono_ns() + wait - wait / 5 + chance % (wait * 2 / 5 + 1);
}

static bool
may_ask(const struct agent_identities *a, const struct identity *i)
{
	return a->up && (i->workload[0] == '\0' || !a->has_posture || a->posture.fresh);
}

static void
ask(struct agent_identities *a, struct identity *i)
{
	Picket__V1__AgentMessage m = PICKET__V1__AGENT_MESSAGE__INIT;
	Picket__V1__SvidRequest q = PICKET__V1__SVID_REQUEST__INIT;
	bool sm2 = a->keys == AGENT_SVID_SM2;
	X509_REQ *req = X509_REQ_new();
	uint8_t *der = NULL;
	int len = 0;

	drop_request(i);
	/* A new key with every SVID: what one of them was used for ends with it. */
	i->asked_key = sm2 ? EVP_PKEY_Q_keygen(NULL, NULL, "SM2")
	                   : EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	if (req == NULL || i->asked_key == NULL ||
	    X509_REQ_set_version(req, X509_REQ_VERSION_1) != 1 ||
	    X509_REQ_set_pubkey(req, i->asked_key) != 1 || !sign_request(req, i->asked_key, sm2) ||
	    (len = i2d_X509_REQ(req, &der)) <= 0) {
		ERR_clear_error();
		snprintf(i->why, sizeof(i->why), "no key could be made%s", sm2 ? " on SM2" : "");
		pk_error("identity %s: %s", i->workload, i->why);
		drop_request(i);
		retry_later(i, RETRY_MAX_NS);
	} else {
		i->asked_id = ++a->next_id;
		i->due_ns = pk_clock_mono_ns() + ASK_PATIENCE;
		q.id = i->asked_id;
		q.workload = i->workload;
		q.csr.data = der;
		q.csr.len = (size_t)len;
		q.epoch = a->has_posture ? a->posture.epoch : 0;
		m.body_case = PICKET__V1__AGENT_MESSAGE__BODY_SVID_REQUEST;
		m.svid_request = &q;
		a->ops->say(a->arg, &m);
	}
	OPENSSL_free(der);
	X509_REQ_free(req);
}

static size_t
nb_asked(const struct agent_identities *a)
{
	size_t n = 0;

	for (size_t k = 0; k < a->nb; k++)
		n += a->item[k]->asked_id != 0;
	return n;
}

static void
on_due(evutil_socket_t fd, short what, void *arg)
{
	struct agent_identities *a = arg;
	uint64_t now = pk_clock_mono_ns(), wall = pk_clock_wall_ns() / PK_NS_PER_S;
	size_t asked = nb_asked(a);

	(void)fd;
	(void)what;
	for (size_t k = 0; k < a->nb; k++) {
		struct identity *i = a->item[k];

		if (i->not_after_s != 0 && i->not_after_s <= wall)
			end_use(a, i, "it has expired, and no other was issued");
		if (i->due_ns > now)
			continue;
		if (i->asked_id != 0) {
			drop_request(i);
			asked--;
			retry_later(i, RETRY_MIN_NS);
		} else if (may_ask(a, i) && asked < ASKED_MAX) {
			ask(a, i);
			asked++;
		}
	}
	plan(a);
}

/* Wake up when the first of them is due. */
static void
plan(struct agent_identities *a)
{
	uint64_t now = pk_clock_mono_ns(), wall = pk_clock_wall_ns() / PK_NS_PER_S;
	uint64_t first = now + 60 * PK_NS_PER_S, wait;
	size_t asked = nb_asked(a);
	struct timeval tv;

	for (size_t k = 0; k < a->nb; k++) {
		const struct identity *i = a->item[k];

		if (i->not_after_s != 0)
			first = PK_MIN(first,
			    now +
			        (i->not_after_s > wall ? i->not_after_s - wall : 0) * PK_NS_PER_S);
		if (i->asked_id != 0 || (may_ask(a, i) && asked < ASKED_MAX))
			first = PK_MIN(first, i->due_ns);
	}
	wait = first > now ? first - now : 0;
	tv.tv_sec = (time_t)(wait / PK_NS_PER_S);
	tv.tv_usec = (suseconds_t)(wait % PK_NS_PER_S / PK_NS_PER_US);
	evtimer_add(a->due, &tv);
}

/* What was refused may be had now. */
static void
ask_anew(struct agent_identities *a)
{
	for (size_t k = 0; k < a->nb; k++) {
		struct identity *i = a->item[k];

		if (i->asked_id == 0 && i->not_after_s == 0) {
			i->due_ns = 0;
			i->wait_ns = RETRY_MIN_NS;
		}
	}
	plan(a);
}

/* ---- which there are ---- */

static struct identity *
find(const struct agent_identities *a, const char *workload)
{
	for (size_t k = 0; k < a->nb; k++)
		if (strcmp(a->item[k]->workload, workload) == 0)
			return a->item[k];
	return NULL;
}

static struct identity *
add(struct agent_identities *a, const char *workload)
{
	struct identity **wider = realloc(a->item, (a->nb + 1) * sizeof(*wider));
	struct identity *i = wider != NULL ? calloc(1, sizeof(*i)) : NULL;

	if (wider != NULL)
		a->item = wider;
	if (i == NULL)
		return NULL;
	snprintf(i->workload, sizeof(i->workload), "%s", workload);
	snprintf(i->why, sizeof(i->why), "it has not been asked for yet");
	i->key_fd = -1;
	i->wait_ns = RETRY_MIN_NS;
	a->item[a->nb++] = i;
	return i;
}

static void
take_out(struct agent_identities *a, size_t k, const char *why)
{
	struct identity *i = a->item[k];

	end_use(a, i, why);
	wipe(i);
	free(i);
	a->item[k] = a->item[--a->nb];
}

/* Those that live here and are watched are wanted; others are not. */
static void
look(struct agent_identities *a)
{
	const struct policy_resource *r;
	size_t at = 0;

	for (size_t k = 0; k < a->nb; k++)
		a->item[k]->seen = a->item[k]->workload[0] == '\0';
	while (a->state != NULL && svid_users_watch_any(a->users) &&
	    (r = policy_state_next(a->state, &at)) != NULL) {
		Picket__V1__Endpoint *e;
		struct identity *i;

		if (r->type != POLICY_RESOURCE_ENDPOINT)
			continue;
		e = picket__v1__endpoint__unpack(NULL, r->len, r->body);
		if (e != NULL && strcmp(e->dpu, a->dpu) == 0 &&
		    strlen(e->name) < PK_SVID_WORKLOAD_MAX && svid_users_watch(a->users, e->name)) {
			i = find(a, e->name);
			if (i == NULL)
				i = add(a, e->name);
			if (i != NULL)
				i->seen = true;
		}
		if (e != NULL)
			picket__v1__endpoint__free_unpacked(e, NULL);
	}
	for (size_t k = a->nb; k-- > 0;)
		if (!a->item[k]->seen)
			take_out(
			    a, k, "it does not live behind this DPU any more, or nobody uses it");
	plan(a);
}

static void
on_look(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	look(arg);
}

static void
look_soon(struct agent_identities *a)
{
	static const struct timeval soon = { .tv_usec = LOOK_MS * 1000 };

	if (!evtimer_pending(a->look, NULL))
		evtimer_add(a->look, &soon);
}

void
identities_user_came(struct agent_identities *a, struct svid_user *u)
{
	tell_trust(a, true, u);
}

void
identities_user_watches(struct agent_identities *a, struct svid_user *u, const char *workload)
{
	bool all = strcmp(workload, PK_SVID_ALL) == 0;

	look(a);
	for (size_t k = 0; k < a->nb; k++) {
		const struct identity *i = a->item[k];

		if (all ? i->workload[0] == '\0' : strcmp(i->workload, workload) != 0)
			continue;
		if (i->not_after_s != 0)
			tell_svid(a, i, u);
		else
			tell(a, i, PK_SVID_MESSAGE_WAITING, i->why, u);
	}
	if (!all && find(a, workload) == NULL) {
		struct pk_svid_message m = { .type = PK_SVID_MESSAGE_WAITING };

		snprintf(m.workload, sizeof(m.workload), "%s", workload);
		snprintf(m.text, sizeof(m.text), "no such workload lives behind DPU %s", a->dpu);
		svid_users_tell(a->users, &m, -1, u);
	}
}

void
identities_user_went(struct agent_identities *a)
{
	look_soon(a);
}

/* ---- what comes from elsewhere ---- */

void
agent_identities_connected(struct agent_identities *a, bool up)
{
	a->up = up;
	for (size_t k = 0; k < a->nb; k++)
		if (a->item[k]->asked_id != 0) {
			drop_request(a->item[k]);
			a->item[k]->due_ns = 0;
		}
	if (up)
		ask_anew(a);
	else
		plan(a);
}

void
agent_identities_posture(struct agent_identities *a, const struct pk_msg_posture *p)
{
	bool news = !a->has_posture || a->posture.fresh != p->fresh || a->posture.epoch != p->epoch;

	a->posture = *p;
	a->has_posture = true;
	for (size_t k = 0; k < a->nb && !p->attested; k++)
		if (a->item[k]->workload[0] != '\0')
			end_use(a, a->item[k],
			    p->text[0] != '\0' ? p->text : "the host is not attested any more");
	/* Requests by an older posture are refused: those that follow are by this one. */
	for (size_t k = 0; k < a->nb && news; k++)
		if (a->item[k]->asked_id != 0 && a->item[k]->workload[0] != '\0') {
			drop_request(a->item[k]);
			a->item[k]->due_ns = 0;
		}
	if (news)
		ask_anew(a);
}

void
agent_identities_workloads(struct agent_identities *a, const struct policy_state *state)
{
	a->state = state;
	look_soon(a);
}

void
agent_identities_svid(struct agent_identities *a, const Picket__V1__Svid *m)
{
	struct identity *i = find(a, m->workload);
	const uint8_t *p = m->leaf.data;
	uint64_t wall = pk_clock_wall_ns() / PK_NS_PER_S;
	size_t len = m->leaf.len;
	EVP_PKEY *key;
	X509 *leaf;

	if (i == NULL || m->id == 0 || i->asked_id != m->id)
		return; /* it was given up meanwhile */
	key = i->asked_key;
	i->asked_key = NULL;
	i->asked_id = 0;
	if (m->leaf.len == 0) {
		EVP_PKEY_free(key);
		if (m->gone)
			end_use(a, i, m->reason);
		if (strcmp(i->why, m->reason) != 0 || i->not_after_s == 0)
			tell(a, i, PK_SVID_MESSAGE_WAITING, m->reason, NULL);
		if (strcmp(i->why, m->reason) != 0)
			pk_notice("identity of %s: refused: %s",
			    i->workload[0] != '\0' ? i->workload : a->dpu, m->reason);
		snprintf(i->why, sizeof(i->why), "%s", m->reason);
		retry_later(i, m->retry_ms * PK_NS_PER_MS);
		plan(a);
		return;
	}
	for (size_t k = 0; k < m->n_chain; k++)
		len += m->chain[k].len;
	leaf = d2i_X509(NULL, &p, (long)m->leaf.len);
	if (leaf == NULL || p != m->leaf.data + m->leaf.len || len > PK_SVID_BYTES_MAX ||
	    X509_check_private_key(leaf, key) != 1 || strlen(m->spiffe_id) >= sizeof(i->id)) {
		ERR_clear_error();
		pk_error("identity of %s: the server's SVID is not for our key", i->workload);
		retry_later(i, RETRY_MAX_NS);
	} else {
		wipe(i);
		i->chain = malloc(len);
		if (i->chain == NULL || keep_key(i, key) != 0) {
			pk_error("identity of %s: no memory", i->workload);
			wipe(i);
			retry_later(i, RETRY_MIN_NS);
		} else {
			memcpy(i->chain, m->leaf.data, m->leaf.len);
			i->chain_len = m->leaf.len;
			for (size_t k = 0; k < m->n_chain; k++) {
				memcpy(i->chain + i->chain_len, m->chain[k].data, m->chain[k].len);
				i->chain_len += m->chain[k].len;
			}
			strcpy(i->id, m->spiffe_id);
			i->not_after_s = m->not_after_s;
			i->epoch = a->has_posture && i->workload[0] != '\0' ? a->posture.epoch : 0;
			i->why[0] = '\0';
			i->wait_ns = RETRY_MIN_NS;
			i->issued++;
			/* Halfway, a little earlier or later, so that those made together do not stay
			 * together. */
			i->due_ns = 0;
			retry_later(i,
			    m->not_after_s > wall ? (m->not_after_s - wall) * PK_NS_PER_S / 2 : 0);
			i->wait_ns = RETRY_MIN_NS;
			pk_info(
			    "identity %s: until %llu", i->id, (unsigned long long)i->not_after_s);
			tell_svid(a, i, NULL);
		}
	}
	X509_free(leaf);
	EVP_PKEY_free(key);
	plan(a);
}

void
agent_identities_trust(struct agent_identities *a, const Picket__V1__Trust *m)
{
	struct pk_diag diag;

	if (m->whole && m->n_roots != 0) {
		size_t len = 0;
		uint8_t *der;

		for (size_t k = 0; k < m->n_roots; k++)
			len += m->roots[k].len;
		der = len <= PK_SVID_BYTES_MAX ? malloc(len + 1) : NULL;
		len = 0;
		for (size_t k = 0; k < m->n_roots && der != NULL; k++) {
			memcpy(der + len, m->roots[k].data, m->roots[k].len);
			len += m->roots[k].len;
		}
		if (der == NULL ||
		    pk_svid_trust_set_bundle(a->trust, m->domain, der, len, &diag) != 0) {
			pk_error(
			    "trust bundle not taken: %s", der != NULL ? diag.text : "too long");
			free(der);
		} else {
			a->new_bundle |= a->bundle_len != len || memcmp(a->bundle, der, len) != 0;
			free(a->bundle);
			a->bundle = der;
			a->bundle_len = len;
		}
	}
	/* Nothing that was revoked ever comes back: what a server says whole adds to what is known. */
	for (size_t k = 0; k < m->n_revoked; k++) {
		struct pk_svid_revocation r = { .kind = (enum pk_svid_revoked)m->revoked[k]->kind,
			.issued_until_s = m->revoked[k]->issued_until_s,
			.forget_s = m->revoked[k]->forget_s };

		if ((int)r.kind <= 0 || r.kind >= PK_SVID_REVOKED_COUNT ||
		    strlen(m->revoked[k]->name) >= sizeof(r.name)) {
			pk_error("a revocation that cannot be understood");
			continue;
		}
		strcpy(r.name, m->revoked[k]->name);
		if (pk_svid_trust_revoke(a->trust, &r) != 0)
			pk_error("revocation of %s not kept: no memory", r.name);
	}
	pk_svid_trust_expire(a->trust, (time_t)(pk_clock_wall_ns() / PK_NS_PER_S));
	if (m->more)
		return;
	tell_trust(a, a->new_bundle, NULL);
	a->new_bundle = false;
}

/* ---- beginning and end ---- */

int
agent_identities_create(struct agent_identities **out, struct event_base *base, const char *path,
    const char *dpu, enum agent_svid_keys keys, const struct agent_identity_ops *ops, void *arg,
    struct pk_diag *diag)
{
	struct agent_identities *a = calloc(1, sizeof(*a));
	int err = -ENOMEM;

	pk_diag_set(diag, "no memory to start with");
	if (a == NULL)
		return -ENOMEM;
	a->ops = ops;
	a->arg = arg;
	a->keys = keys;
	snprintf(a->dpu, sizeof(a->dpu), "%s", dpu);
	a->due = evtimer_new(base, on_due, a);
	a->look = evtimer_new(base, on_look, a);
	if (a->due == NULL || a->look == NULL || pk_svid_trust_create(&a->trust) != 0 ||
	    add(a, "") == NULL || (err = svid_users_create(&a->users, base, path, a, diag)) != 0) {
		agent_identities_destroy(a);
		return err;
	}
	*out = a;
	return 0;
}

void
agent_identities_destroy(struct agent_identities *a)
{
	if (a == NULL)
		return;
	svid_users_destroy(a->users);
	for (size_t k = 0; k < a->nb; k++) {
		drop_request(a->item[k]);
		/* Those who have the key go on with it: an agent that starts anew is no reason to stop. */
		if (a->item[k]->key_map != NULL)
			munmap(a->item[k]->key_map, a->item[k]->key_len);
		if (a->item[k]->key_fd >= 0)
			close(a->item[k]->key_fd);
		free(a->item[k]->chain);
		free(a->item[k]);
	}
	if (a->due != NULL)
		event_free(a->due);
	if (a->look != NULL)
		event_free(a->look);
	pk_svid_trust_destroy(a->trust);
	free(a->bundle);
	free(a->item);
	free(a);
}

void
agent_identities_show(struct agent_identities *a, struct pk_control_request *r)
{
	uint64_t wall = pk_clock_wall_ns() / PK_NS_PER_S;

	for (size_t k = 0; k < a->nb; k++) {
		const struct identity *i = a->item[k];
		char workload[300], id[PK_SVID_ID_MAX + 8], why[600];

		pk_control_rowf(r,
		    "{\"workload\":%s,\"id\":%s,\"state\":\"%s\",\"left_s\":%llu,\"epoch\":%llu,\"issued\":%llu,"
		    "\"why\":%s}",
		    pk_json_string(i->workload, workload, sizeof(workload)),
		    pk_json_string(i->not_after_s != 0 ? i->id : "", id, sizeof(id)),
		    i->not_after_s != 0    ? "served"
		        : i->asked_id != 0 ? "asked"
		                           : "wanted",
		    (unsigned long long)(i->not_after_s > wall ? i->not_after_s - wall : 0),
		    (unsigned long long)i->epoch, (unsigned long long)i->issued,
		    pk_json_string(i->why, why, sizeof(why)));
	}
	pk_control_done(r);
}
