#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "attest/daemon/dpu_priv.h"
#include "lib/clock.h"
#include "lib/log.h"

/*
 * Who is there?  A connection says which TPM it speaks for and shows it by credential activation, each
 * time anew: so nobody who merely knows the host's public keys can take the host's place here.
 *
 * The first to come with an EK that may enrol becomes the host; from then on only the same EK is taken.
 * All of this happens on the one control thread, so two who come at once come one after the other.
 */
#define GUEST_PATIENCE_NS (30 * PK_NS_PER_S) /* to become the host; a TPM takes a second or two */

static struct pk_log_limit limit = PK_LOG_LIMIT(1, 10);

int
dpu_copy_message(struct attest_message *out, uint8_t **bytes, const struct attest_message *m)
{
	struct pk_diag diag;
	size_t len;
	int rc = attest_message_pack(bytes, &len, m, &diag);

	if (rc == 0)
		rc = attest_message_parse(out, *bytes, len, &diag);
	return rc;
}

void
guest_end(struct guest *g)
{
	if (g->channel == NULL)
		return;
	attest_channel_destroy(g->channel);
	g->channel = NULL;
	event_del(g->deadline);
	pk_secret_fini(&g->secret);
	free(g->hello_bytes);
	g->hello_bytes = NULL;
	if (g->d->host == g) {
		g->d->host = NULL;
		dpu_host_went(g->d);
	}
	g->phase = GUEST_NEW;
}

/* Somebody who is not let in is told why, in the log and the audit; the host itself hears nothing. */
static void
turn_away(struct guest *g, const char *what, const struct attest_reasons *r)
{
	struct attest_dpu *d = g->d;
	uint32_t suppressed;

	d->refused++;
	if (pk_log_limit(&limit, pk_clock_mono_ns(), &suppressed)) {
		pk_warn("host \"%s\": not let in: %s%s%s", g->binding.host, what,
		    r != NULL && r->nb > 0 ? ": " : "",
		    r != NULL && r->nb > 0 ? r->reason[0].text : "");
		attest_audit_note(d->audit, what, g->binding.host, NULL, r);
	}
	guest_end(g);
}

/* Whether this EK may enrol: by the reference, or because it is the first. */
static bool
may_enrol(struct guest *g, const struct attest_public *ek, struct attest_reasons *r)
{
	const struct attest_dpu *d = g->d;
	const struct attest_reference *ref = d->reference;
	static const struct attest_bytes none;
	struct attest_bytes cert = g->hello.field[ATTEST_FIELD_EK_CERT];
	struct attest_bytes chain = g->hello.field[ATTEST_FIELD_EK_CHAIN];
	struct pk_diag why;

	if (!attest_ek_public_ok(ek, &why))
		attest_reason(r, ATTEST_EK_ATTRIBUTES, "%s", why.text);
	if (d->record.host[0] != '\0') {
		if (CRYPTO_memcmp(g->ek_hash, d->record.ek, 32) != 0)
			attest_reason(r, ATTEST_EK_NOT_ALLOWED,
			    "another TPM is enrolled for this host; if it was exchanged, say `picketctl attest forget`");
		if (d->conf->enrol == ATTESTD_ENROL_FIRST)
			return r->nb == 0;
	} else if (d->conf->enrol == ATTESTD_ENROL_FIRST) {
		return r->nb == 0;
	}
	if (ref == NULL) {
		attest_reason(r, ATTEST_EK_NOT_ALLOWED, "there is no reference to enrol by");
	} else if (ref->roots != NULL && cert.at == NULL) {
		attest_reason(r, ATTEST_EVIDENCE_MISSING, "its TPM holds no EK certificate");
	} else if (ref->roots != NULL) {
		attest_ek_check(cert, chain.at != NULL ? chain : none, ek, ref->roots,
		    (const uint8_t(*)[32])ref->ek_allow, ref->nb_ek_allow, time(NULL), r);
	} else if (ref->nb_ek_allow > 0) {
		bool listed = false;

		for (size_t i = 0; i < ref->nb_ek_allow; i++)
			listed |= memcmp(ref->ek_allow[i], g->ek_hash, 32) == 0;
		if (!listed)
			attest_reason(r, ATTEST_EK_NOT_ALLOWED, "this EK is not on the list");
	} else {
		attest_reason(r, ATTEST_EK_NOT_ALLOWED,
		    "the reference names neither ek_roots nor ek_allow, so nobody may enrol");
	}
	return r->nb == 0;
}

static int
send_credential(struct guest *g, const struct attest_public *ek)
{
	struct attest_message m = { .type = ATTEST_MESSAGE_ACTIVATE };
	size_t len = attest_alg_size(ek->name_alg);
	struct attest_credential *cred = malloc(sizeof(*cred));
	struct pk_secret seed = { 0 };
	struct pk_diag diag;
	int rc = cred != NULL ? 0 : -ENOMEM;

	if (rc == 0)
		rc = pk_secret_random(&g->secret, PK_MIN(len, (size_t)32));
	if (rc == 0)
		rc = pk_secret_random(&seed, len);
	if (rc == 0)
		rc = attest_credential_make(
		    cred, ek, g->binding.ak_name, g->binding.ak_name_len, &seed, &g->secret, &diag);
	if (rc == 0) {
		m.field[ATTEST_FIELD_ID_OBJECT] =
		    (struct attest_bytes){ cred->id_object, cred->id_object_len };
		m.field[ATTEST_FIELD_ENCRYPTED] =
		    (struct attest_bytes){ cred->encrypted, cred->encrypted_len };
		rc = attest_channel_send(g->channel, &m);
	}
	pk_secret_fini(&seed);
	free(cred);
	return rc;
}

static void
take_hello(struct guest *g, const struct attest_message *m, struct attest_reasons *r)
{
	struct attest_dpu *d = g->d;
	struct attest_bytes host = m->field[ATTEST_FIELD_HOST];
	struct attest_public ek, ak;
	struct pk_diag why;
	EVP_PKEY *key;
	int rc;

	memcpy(g->binding.host, host.at, host.len);
	g->binding.host[host.len] = '\0';
	if (dpu_copy_message(&g->hello, &g->hello_bytes, m) < 0) {
		turn_away(g, "no memory", NULL);
		return;
	}
	m = &g->hello;
	if ((d->conf->host[0] != '\0' && strcmp(d->conf->host, g->binding.host) != 0) ||
	    (d->record.host[0] != '\0' && strcmp(d->record.host, g->binding.host) != 0)) {
		turn_away(g, "another host belongs here", NULL);
		return;
	}
	if (attest_public_parse(&ek, m->field[ATTEST_FIELD_EK_PUBLIC].at,
	        m->field[ATTEST_FIELD_EK_PUBLIC].len, &why) < 0 ||
	    attest_public_parse(&ak, m->field[ATTEST_FIELD_AK_PUBLIC].at,
	        m->field[ATTEST_FIELD_AK_PUBLIC].len, &why) < 0) {
		attest_reason(r, ATTEST_AK_MALFORMED, "%s", why.text);
		turn_away(g, "its keys cannot be read", r);
		return;
	}
	attest_ak_check(&ak, r);
	g->binding.ak_name_len = attest_public_name(&ak, g->binding.ak_name);
	key = attest_public_key(&ek, &why);
	rc = key != NULL ? attest_spki_hash(key, g->ek_hash) : -EINVAL;
	EVP_PKEY_free(key);
	if (rc < 0 || g->binding.ak_name_len == 0)
		attest_reason(r, ATTEST_EK_ATTRIBUTES, "EK or AK: no usable key");
	(void)dpu_load_reference(d);
	if (r->nb > 0 || !may_enrol(g, &ek, r)) {
		turn_away(g, "enrolment refused", r);
		return;
	}
	g->phase = GUEST_ACTIVATING;
	if (send_credential(g, &ek) < 0)
		turn_away(g, "its EK cannot be sent a credential", NULL);
}

static void
take_activated(struct guest *g, const struct attest_message *m)
{
	struct attest_dpu *d = g->d;
	struct attest_bytes got = m->field[ATTEST_FIELD_SECRET];
	struct pk_secret back = { 0 };
	int same;

	if (pk_secret_init(&back, got.at, got.len) < 0) {
		turn_away(g, "no memory", NULL);
		return;
	}
	same = pk_secret_equal(&back, &g->secret);
	pk_secret_fini(&back);
	if (!same) {
		turn_away(g, "its TPM did not open the credential", NULL);
		return;
	}
	/* Between HELLO and now somebody else may have enrolled. */
	if (d->record.host[0] != '\0' &&
	    (strcmp(d->record.host, g->binding.host) != 0 ||
	        CRYPTO_memcmp(d->record.ek, g->ek_hash, 32) != 0)) {
		turn_away(g, "another TPM has enrolled meanwhile", NULL);
		return;
	}
	event_del(g->deadline);
	g->phase = GUEST_HOST;
	attest_channel_limit(g->channel, (size_t)d->conf->evidence_max);
	dpu_host_came(d, g);
}

static void
on_ready(struct attest_channel *c, void *arg)
{
	struct guest *g = arg;

	strcpy(g->binding.dpu, g->d->name);
	if (attest_channel_bind(c, &g->binding) < 0)
		turn_away(g, "the connection cannot be bound", NULL);
}

static void
on_message(struct attest_channel *c, const struct attest_message *m, void *arg)
{
	struct guest *g = arg;
	struct attest_reasons *r;

	(void)c;
	if (g->phase == GUEST_NEW && m->type == ATTEST_MESSAGE_HELLO) {
		r = calloc(1, sizeof(*r));
		if (r != NULL)
			take_hello(g, m, r);
		else
			guest_end(g);
		free(r);
	} else if (g->phase == GUEST_ACTIVATING && m->type == ATTEST_MESSAGE_ACTIVATED) {
		take_activated(g, m);
	} else if (g->phase == GUEST_HOST && m->type == ATTEST_MESSAGE_EVIDENCE) {
		dpu_evidence(g->d, m);
	} else if (g->phase == GUEST_HOST && m->type == ATTEST_MESSAGE_NUDGE) {
		dpu_nudge(g->d);
	} else {
		turn_away(g, "it speaks out of turn", NULL);
	}
}

static void
on_closed(struct attest_channel *c, const char *why, void *arg)
{
	struct guest *g = arg;

	(void)c;
	if (g->phase == GUEST_HOST) {
		pk_warn("host %s: connection ended: %s", g->binding.host, why);
		guest_end(g);
	} else {
		turn_away(g, why, NULL);
	}
}

static const struct attest_channel_ops ops = { on_ready, on_message, on_closed };

static void
on_deadline(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	turn_away(arg, "it did not show who it is in time", NULL);
}

/* A free place for somebody new, or NULL. */
static struct guest *
take_place(struct attest_dpu *d)
{
	struct guest *g = NULL;

	for (size_t i = 0; i < GUESTS_MAX && g == NULL; i++)
		if (d->guest[i].channel == NULL)
			g = &d->guest[i];
	if (g == NULL) {
		d->refused++;
		return NULL;
	}
	memset(&g->binding, 0, sizeof(g->binding));
	g->d = d;
	g->phase = GUEST_NEW;
	if (g->deadline == NULL)
		g->deadline = evtimer_new(d->base, on_deadline, g);
	return g->deadline != NULL ? g : NULL;
}

struct guest *
guest_accept_carried(
    struct attest_dpu *d, const struct attest_carrier *by, const struct attest_binding *b)
{
	struct guest *g = take_place(d);

	if (g == NULL)
		return NULL;
	if (attest_channel_carried(&g->channel, by, b, &ops, g) < 0) {
		g->channel = NULL;
		return NULL;
	}
	dpu_later(g->deadline, GUEST_PATIENCE_NS);
	on_ready(g->channel, g);
	return g->channel != NULL ? g : NULL;
}

void
guest_accept(struct attest_dpu *d, int fd)
{
	struct guest *g = take_place(d);

	if (g == NULL) {
		close(fd);
		return;
	}
	if (attest_channel_create(
	        &g->channel, d->base, d->tls, fd, NULL, d->conf->answer_ns, &ops, g) < 0) {
		g->channel = NULL;
		return;
	}
	dpu_later(g->deadline, GUEST_PATIENCE_NS);
}
