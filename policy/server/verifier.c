#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attest/daemon/channel.h"
#include "attest/daemon/dpu.h"
#include "attest/state.h"
#include "lib/log.h"
#include "lib/msg.h"
#include "policy/server/policyd_priv.h"
#include "policy/server/posture.h"

/*
 * The DPUs themselves: each proves by its own TPM what it booted, to the verifier that a DPU is to its host
 * (attest/daemon/dpu.h), here as a part of the server.  The program that holds the DPU's TPM is connected to the agent,
 * which passes its messages on over the discovery stream.
 *
 * Whether a DPU has to is for policy to say: where a Reference with subject `dpu` names it, neither it nor the workloads
 * behind it are given SVIDs unless it is trusted, and those it has are revoked when it is not any more.
 */
struct own {
	struct policyd *p;
	char dpu[PK_SPIFFE_NAME_MAX];
	char dir[4096], reference[4096 + 32];
	char sha256[65]; /* of what stands in `reference` */
	struct attestd_conf conf;
	struct attest_dpu *v;
	struct attest_channel *channel; /* NULL: nobody is there */
	struct server_posture said;     /* by the verifier */
	struct own *next;
};

struct verifiers {
	struct pk_helper *helper;
	char dir[4096];
	uint64_t interval_ns;
	struct own *first;
};

static struct own *
find(const struct policyd *p, const char *dpu)
{
	struct own *o = p->verifiers->first;

	while (o != NULL && strcmp(o->dpu, dpu) != 0)
		o = o->next;
	return o;
}

/* ---- what goes to the DPU ---- */

static int
carry(void *arg, const uint8_t *bytes, size_t len)
{
	Picket__V1__ServerMessage m = PICKET__V1__SERVER_MESSAGE__INIT;
	Picket__V1__Challenge c = PICKET__V1__CHALLENGE__INIT;
	struct own *o = arg;

	c.message.data = (uint8_t *)(uintptr_t)bytes;
	c.message.len = len;
	m.body_case = PICKET__V1__SERVER_MESSAGE__BODY_CHALLENGE;
	m.challenge = &c;
	return server_dpus_say(o->p->dpus, o->dpu, &m);
}

static void
hang_up(void *arg)
{
	Picket__V1__ServerMessage m = PICKET__V1__SERVER_MESSAGE__INIT;
	Picket__V1__Challenge c = PICKET__V1__CHALLENGE__INIT;
	struct own *o = arg;

	o->channel = NULL;
	c.end = true;
	m.body_case = PICKET__V1__SERVER_MESSAGE__BODY_CHALLENGE;
	m.challenge = &c;
	(void)server_dpus_say(o->p->dpus, o->dpu, &m);
}

static void
on_posture(void *arg, const struct pk_msg_posture *s)
{
	struct own *o = arg;
	bool lost = o->said.attested && !s->attested;

	o->said.attested = s->attested != 0;
	o->said.fresh = s->fresh != 0;
	o->said.state = s->state;
	snprintf(
	    o->said.text, sizeof(o->said.text), "%.*s", (int)sizeof(o->said.text) - 1, s->text);
	snprintf(o->said.reference, sizeof(o->said.reference), "%s", s->reference);
	pk_notice("dpu %s: it is itself %s%s%s", o->dpu, attest_state_name(s->state),
	    o->said.text[0] != '\0' ? ": " : "", o->said.text);
	if (o->said.attested && o->said.fresh)
		grant_send(o->p, o->dpu);
	if (lost && o->p->identities != NULL)
		identity_revoke(o->p, PK_SVID_REVOKED_DPU, o->dpu, "the server's verifier",
		    o->said.text[0] != '\0' ? o->said.text : "it has not proved what it is");
}

/* ---- the values it is judged by ---- */

/* The verifier reads a file, and takes a new one up by itself. */
static int
write_reference(struct own *o, const struct policy_reference *r)
{
	char beside[sizeof(o->reference) + 8];
	FILE *f;
	bool ok;

	if (strcmp(o->sha256, r->sha256) == 0)
		return 0;
	snprintf(beside, sizeof(beside), "%s.new", o->reference);
	f = fopen(beside, "we");
	ok = f != NULL && fwrite(r->values, 1, r->len, f) == r->len;
	if (f != NULL && fclose(f) != 0)
		ok = false;
	if (!ok || rename(beside, o->reference) != 0) {
		pk_error("%s: %s", o->reference, strerror(errno));
		return -EIO;
	}
	memcpy(o->sha256, r->sha256, sizeof(o->sha256));
	return 0;
}

static struct own *
create(struct policyd *p, const char *dpu, const struct policy_reference *r)
{
	struct verifiers *all = p->verifiers;
	struct own *o = calloc(1, sizeof(*o));
	struct attest_dpu_within within = {
		.helper = all->helper, .posture = on_posture, .arg = o
	};
	struct pk_diag diag;

	if (o == NULL)
		return NULL;
	o->p = p;
	snprintf(o->dpu, sizeof(o->dpu), "%s", dpu);
	snprintf(o->dir, sizeof(o->dir), "%.4000s/%s", all->dir, dpu);
	snprintf(o->reference, sizeof(o->reference), "%s/reference.json", o->dir);
	if ((mkdir(all->dir, 0700) != 0 && errno != EEXIST) ||
	    (mkdir(o->dir, 0700) != 0 && errno != EEXIST) || write_reference(o, r) != 0) {
		pk_error("dpu %s: %s: cannot be judged: %s", dpu, o->dir, strerror(errno));
		free(o);
		return NULL;
	}
	o->conf = (struct attestd_conf){ .state_dir = o->dir,
		.host = o->dpu,
		.reference = o->reference,
		.enrol = ATTESTD_ENROL_LISTED,
		.interval_ns = all->interval_ns,
		.answer_ns = all->interval_ns * 2,
		.lease_ns = all->interval_ns * 4,
		.missed_max = 3,
		.recover_rounds = 2,
		.evidence_max = 64u << 20 };
	within.name = o->dpu;
	if (attest_dpu_create_within(&o->v, p->base, &o->conf, &within, &diag) != 0) {
		pk_error("dpu %s: cannot be judged: %s", dpu, diag.text);
		free(o);
		return NULL;
	}
	o->next = all->first;
	all->first = o;
	return o;
}

/* ---- what comes from the DPU ---- */

void
verifier_evidence(struct policyd *p, const char *dpu, const Picket__V1__Evidence *m)
{
	static const struct attest_carrier carrier = { .carry = carry, .hang_up = hang_up };
	const struct policy_reference *r;
	struct attest_carrier by = carrier;
	struct attest_binding b = { 0 };
	struct own *o;

	if (p->verifiers == NULL || p->verifiers->helper == NULL)
		return; /* stopping */
	o = find(p, dpu);
	if (m == NULL || m->gone) {
		if (o != NULL && o->channel != NULL)
			attest_dpu_went(o->v, o->channel);
		return;
	}
	r = reference_of(p, POLICY_REFERENCE_DPU, dpu);
	if (m->exporter.len != 0) {
		if (r == NULL) {
			/* Nobody asks it to: it may come back when somebody does. */
			struct own nobody = { .p = p };

			snprintf(nobody.dpu, sizeof(nobody.dpu), "%s", dpu);
			hang_up(&nobody);
			return;
		}
		if (o == NULL)
			o = create(p, dpu, r);
		if (o == NULL || m->exporter.len != sizeof(b.exporter) ||
		    m->dpu_key.len != sizeof(b.dpu_key))
			return;
		if (o->channel != NULL)
			attest_dpu_went(o->v, o->channel);
		(void)write_reference(o, r);
		memcpy(b.exporter, m->exporter.data, sizeof(b.exporter));
		memcpy(b.dpu_key, m->dpu_key.data, sizeof(b.dpu_key));
		by.arg = o;
		o->channel = attest_dpu_carried(o->v, &by, &b);
		return;
	}
	if (o == NULL || o->channel == NULL)
		return;
	if (r != NULL)
		(void)write_reference(o, r);
	attest_channel_deliver(o->channel, m->message.data, m->message.len);
}

bool
verifier_allows(const struct policyd *p, const char *dpu, char *why, size_t size)
{
	const struct own *o;

	if (reference_of(p, POLICY_REFERENCE_DPU, dpu) == NULL)
		return true;
	o = p->verifiers != NULL ? find(p, dpu) : NULL;
	if (o != NULL && o->said.attested && o->said.fresh)
		return true;
	snprintf(why, size, "the DPU itself is %s%s%s",
	    o != NULL ? attest_state_name(o->said.state) : "unproven",
	    o != NULL && o->said.text[0] != '\0' ? ": " : "", o != NULL ? o->said.text : "");
	return false;
}

const struct server_posture *
verifier_show(const struct policyd *p, const char *dpu)
{
	static const struct server_posture unproven;
	const struct own *o = p->verifiers != NULL ? find(p, dpu) : NULL;

	if (reference_of(p, POLICY_REFERENCE_DPU, dpu) == NULL)
		return NULL;
	return o != NULL ? &o->said : &unproven;
}

/* ---- beginning and end ---- */

int
verifier_open(struct policyd *p, const struct server_conf *conf, struct pk_diag *diag)
{
	struct verifiers *all = calloc(1, sizeof(*all));

	if (all == NULL) {
		pk_diag_set(diag, "no memory to start with");
		return -ENOMEM;
	}
	p->verifiers = all;
	snprintf(all->dir, sizeof(all->dir), "%s/dpus", conf->state);
	all->interval_ns = conf->dpu_interval_ns;
	return pk_helper_create(&all->helper, p->base, "verifier", diag);
}

void
verifier_stop(struct policyd *p)
{
	if (p->verifiers == NULL)
		return;
	for (struct own *o = p->verifiers->first; o != NULL; o = o->next)
		attest_dpu_stop(o->v);
	pk_helper_destroy(p->verifiers->helper);
	p->verifiers->helper = NULL;
}

void
verifier_destroy(struct policyd *p)
{
	struct own *o;

	if (p->verifiers == NULL)
		return;
	while ((o = p->verifiers->first) != NULL) {
		p->verifiers->first = o->next;
		attest_dpu_destroy(o->v);
		free(o);
	}
	free(p->verifiers);
	p->verifiers = NULL;
}
