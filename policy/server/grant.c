#include "lib/grant.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "lib/log.h"
#include "policy/findings.h"
#include "policy/server/policyd_priv.h"
#include "policy/server/secret.h"

/*
 * What DPUs are granted, on its way to them: that of the generation in force, and for the DPUs of a canary that of the
 * candidate.  Secrets are read once a generation, by the helper, and what cannot be read refuses the change.  A DPU is
 * sent its set when it says hello, and when it has changed; it has to have proved what it is, if it is asked to.
 * What a server that could not compile its store, or read a secret, does not know it does not send: DPUs keep what they
 * have.
 */
#define PART_MAX (1u << 20) /* bytes in one message */

struct secret {
	const char *name; /* in the grants */
	uint8_t form;
	struct pk_secret bytes;
};

struct grant_set {
	struct policy_grants *grants;
	uint32_t *secret_of; /* of each grant, its place in secret[] */
	struct secret *secret;
	size_t nb_secrets;
};

/* ---- made by the helper ---- */

void
grant_destroy(struct grant_set *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->nb_secrets; i++)
		pk_secret_fini(&s->secret[i].bytes);
	free(s->secret);
	free(s->secret_of);
	policy_grants_destroy(s->grants);
	free(s);
}

/* Its place, or negative errno with *diag. */
static int
find_or_read(
    struct grant_set *s, const char *dir, const struct policy_grant *g, struct pk_diag *diag)
{
	struct secret *o;
	int err;

	for (size_t i = 0; i < s->nb_secrets; i++)
		if (s->secret[i].form == g->form && strcmp(s->secret[i].name, g->secret) == 0)
			return (int)i;
	o = &s->secret[s->nb_secrets];
	err = server_secret_read(&o->bytes, dir, g->secret, (enum policy_secret_form)g->form, diag);
	if (err != 0)
		return err;
	o->name = g->secret;
	o->form = g->form;
	return (int)s->nb_secrets++;
}

int
grant_make(struct grant_set **out, const struct policyd *p, const struct policy_model *m,
    struct policy_findings *f)
{
	struct grant_set *s = calloc(1, sizeof(*s));
	size_t n;
	int err = s != NULL ? policy_grants_create(&s->grants, m) : -ENOMEM;

	if (err == 0) {
		n = policy_grants_count(s->grants);
		s->secret = calloc(n + 1, sizeof(s->secret[0]));
		s->secret_of = calloc(n + 1, sizeof(s->secret_of[0]));
		if (s->secret == NULL || s->secret_of == NULL)
			err = -ENOMEM;
		for (size_t i = 0; err != -ENOMEM && i < n; i++) {
			const struct policy_grant *g = policy_grants_get(s->grants, i);
			struct pk_diag diag = { "no memory" };
			int at = find_or_read(s, p->secrets_dir, g, &diag);

			if (at >= 0) {
				s->secret_of[i] = (uint32_t)at;
				continue;
			}
			err = -EINVAL;
			policy_findings_add(f, POLICY_ERROR, g->file, g->line, g->column,
			    "no-secret", "%s: secret \"%s\": %s; picket-policyd secret makes one",
			    g->name, g->secret, diag.text);
		}
	}
	if (err != 0) {
		grant_destroy(s);
		return err;
	}
	*out = s;
	return 0;
}

/* ---- and sent ---- */

/* What a DPU is given, as bytes.  Returns how many grants, or negative errno. */
static int
pack_for(struct pk_secret *out, const struct grant_set *s, const char *dpu)
{
	size_t n = policy_grants_count(s->grants), nb = 0;
	struct pk_grant *list = calloc(n + 1, sizeof(list[0]));
	int err;

	if (list == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const struct policy_grant *g = policy_grants_get(s->grants, i);
		const struct pk_secret *secret = &s->secret[s->secret_of[i]].bytes;
		bool again = false;

		if (fnmatch(g->dpu, dpu, 0) != 0)
			continue;
		/* Two patterns of one document may name the same DPU. */
		for (size_t k = 0; k < nb && !again; k++)
			again = strcmp(list[k].program, g->program) == 0 &&
			    strcmp(list[k].name, g->name) == 0 &&
			    strcmp(list[k].settings, g->settings) == 0;
		if (!again)
			list[nb++] = (struct pk_grant){ .program = g->program,
				.name = g->name,
				.settings = g->settings,
				.secret = secret->bytes,
				.secret_len = secret->len };
	}
	err = pk_grants_pack(out, list, nb);
	free(list);
	return err == 0 ? (int)nb : err;
}

static void
send_parts(struct policyd *p, const char *dpu, const struct pk_secret *set)
{
	for (size_t at = 0; at < set->len;) {
		Picket__V1__ServerMessage m = PICKET__V1__SERVER_MESSAGE__INIT;
		Picket__V1__Grants part = PICKET__V1__GRANTS__INIT;

		part.set.data = set->bytes + at;
		part.set.len = PK_MIN(set->len - at, (size_t)PART_MAX);
		part.offset = at;
		part.size = set->len;
		at += part.set.len;
		m.body_case = PICKET__V1__SERVER_MESSAGE__BODY_GRANTS;
		m.grants = &part;
		(void)server_dpus_say(p->dpus, dpu, &m);
	}
}

void
grant_send(struct policyd *p, const char *dpu)
{
	const struct grant_set *s = p->canary_grants != NULL && server_dpus_candidate(p->dpus, dpu)
	    ? p->canary_grants
	    : p->grants;
	struct pk_secret set = { 0 };
	char why[256];
	uint8_t hash[EVP_MAX_MD_SIZE];
	int nb;

	if (s == NULL)
		return;
	if (!verifier_allows(p, dpu, why, sizeof(why))) {
		pk_info("dpu %s: no grants are sent: %s", dpu, why);
		return;
	}
	nb = pack_for(&set, s, dpu);
	if (nb < 0 || EVP_Digest(set.bytes, set.len, hash, NULL, EVP_sha256(), NULL) != 1) {
		pk_error(
		    "dpu %s: its grants cannot be sent: %s", dpu, strerror(nb < 0 ? -nb : ENOMEM));
	} else if (server_dpus_grants(p->dpus, dpu, hash) == 0) {
		pk_info("dpu %s: %d grants sent", dpu, nb);
		send_parts(p, dpu, &set);
	}
	pk_secret_fini(&set);
}

static void
send_one(void *arg, const struct server_dpu_status *s)
{
	if (s->connected)
		grant_send(arg, s->name);
}

void
grant_follow(struct policyd *p, struct grant_set *now, struct grant_set *canary)
{
	if (now != NULL) {
		grant_destroy(p->grants);
		p->grants = now;
	}
	if (canary != NULL) {
		grant_destroy(p->canary_grants);
		p->canary_grants = canary;
	}
	server_dpus_each(p->dpus, send_one, p);
}

void
grant_canary_end(struct policyd *p)
{
	grant_destroy(p->canary_grants);
	p->canary_grants = NULL;
}
