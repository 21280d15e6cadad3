#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipsec/mka/mkad_priv.h"
#include "lib/clock.h"
#include "lib/control.h"
#include "lib/hex.h"
#include "lib/secret.h"

/*
 * CAKs of ports: those of a file, and those that the policy server grants (policy/grant.c).  To pass from one to the
 * next without a gap, all ends have both for a while; the last one gone, the port closes.
 */

static bool
same_name(const struct mka_cak *a, const struct mka_cak *b)
{
	return a->ckn_len == b->ckn_len && memcmp(a->ckn, b->ckn, a->ckn_len) == 0;
}

static bool
has(const struct mkad_keys *keys, const struct mka_cak *one)
{
	for (int i = 0; i < keys->nb; i++)
		if (same_name(&keys->cak[i], one) && keys->cak[i].cak_len == one->cak_len &&
		    memcmp(keys->cak[i].cak, one->cak, one->cak_len) == 0)
			return true;
	return false;
}

/* Those of `from` too, unless there are as many as there can be, or one of that name. */
static int
join(struct mkad_keys *to, const struct mkad_keys *from, struct pk_diag *diag)
{
	int rc = 0;

	for (int i = 0; i < from->nb; i++) {
		bool taken = false;

		for (int k = 0; k < to->nb; k++)
			taken |= same_name(&to->cak[k], &from->cak[i]);
		if (has(to, &from->cak[i]))
			continue;
		if (taken || to->nb == MKA_PARTICIPANTS_MAX) {
			pk_diag_set(diag,
			    taken ? "two CAKs have the same CKN; the first counts"
			          : "a port has at most %d CAKs; the first count",
			    MKA_PARTICIPANTS_MAX);
			rc = taken ? -EEXIST : -ENOSPC;
			continue;
		}
		to->cak[to->nb++] = from->cak[i];
	}
	return rc;
}

int
mkad_keys_follow(struct mkad_port *p, struct pk_diag *diag)
{
	struct mkad_keys keys = { .nb = 0 };
	uint64_t now = pk_clock_mono_ns();
	int rc = join(&keys, &p->file, diag), more = join(&keys, &p->granted, diag);
	bool had = p->keys.nb > 0;

	rc = rc < 0 ? rc : more;
	for (int k = 0; p->kay != NULL && k < p->keys.nb; k++)
		if (!has(&keys, &p->keys.cak[k]))
			(void)mka_kay_remove(
			    p->kay, p->keys.cak[k].ckn, p->keys.cak[k].ckn_len, now);
	for (int k = 0; p->kay != NULL && k < keys.nb; k++) {
		const struct mka_cak *c = &keys.cak[k];

		more = has(&p->keys, c)
		    ? 0
		    : mka_kay_add(p->kay, c->cak, c->cak_len, c->ckn, c->ckn_len, now, diag);
		rc = rc < 0 ? rc : more;
	}
	p->keys = keys;
	pk_wipe(&keys, sizeof(keys));
	if (had != (p->keys.nb > 0))
		mkad_begin_anew(p);
	return rc;
}

/* ---- from a file ---- */

void
mkad_reload(struct pk_control_request *r, int argc, char **argv, void *arg)
{
	struct mkad *d = arg;
	struct pk_diag diag;

	(void)argc;
	(void)argv;
	for (unsigned int i = 0; i < d->nb_ports; i++) {
		struct mkad_port *p = &d->port[i];
		struct mkad_keys keys;
		int rc;

		if (p->key_file == NULL)
			continue;
		keys.nb = rc = mka_keyfile_read(p->key_file, keys.cak, &diag);
		if (rc < 0) {
			pk_control_refuse(r, "%s", diag.text);
			return;
		}
		p->file = keys;
		pk_wipe(&keys, sizeof(keys));
		rc = mkad_keys_follow(p, &diag);
		if (rc < 0) {
			pk_control_refuse(r, "wire %u: %s", p->wire, diag.text);
			return;
		}
	}
	mkad_wake(d);
	pk_control_done(r);
}

/* ---- from the policy server ---- */

/* "WIRE CKN", the CKN in hexadecimal. */
static bool
read_grant(const struct pk_grant *g, uint16_t *wire, struct mka_cak *out)
{
	char *end;
	unsigned long n = strtoul(g->settings, &end, 10);
	int ckn = end != g->settings && *end == ' '
	    ? pk_unhex(end + 1, strlen(end + 1), out->ckn, sizeof(out->ckn))
	    : -1;

	if (ckn <= 0 || n >= MACSEC_PORTS_MAX || (g->secret_len != 16 && g->secret_len != 32))
		return false;
	*wire = (uint16_t)n;
	out->ckn_len = (uint8_t)ckn;
	out->cak_len = (uint8_t)g->secret_len;
	memcpy(out->cak, g->secret, g->secret_len);
	return true;
}

void
mkad_keys_take(void *arg, const struct pk_grant *g, size_t nb)
{
	struct mkad *d = arg;

	/* Ports that have nothing now. */
	for (unsigned int i = 0; i < d->nb_ports; i++)
		d->port[i].granted.nb = 0;
	for (size_t i = 0; i < nb; i++) {
		struct mka_cak one;
		struct mkad_port *p = NULL;
		uint16_t wire = 0;

		if (read_grant(&g[i], &wire, &one)) {
			p = mkad_port_of(d, wire);
			p = p != NULL ? p : mkad_port_add(d, wire);
		}
		if (p == NULL)
			pk_error("%s: not understood: its settings are \"%s\"", g[i].name,
			    g[i].settings);
		else if (p->granted.nb == MKA_PARTICIPANTS_MAX)
			pk_error("%s: left out: a port has at most %d CAKs", g[i].name,
			    MKA_PARTICIPANTS_MAX);
		else
			p->granted.cak[p->granted.nb++] = one;
		pk_wipe(&one, sizeof(one));
	}
	d->granted = true;
	for (unsigned int i = 0; i < d->nb_ports; i++) {
		struct mkad_port *p = &d->port[i];
		struct pk_diag diag;

		if (mkad_keys_follow(p, &diag) < 0)
			pk_error("wire %u: %s", p->wire, diag.text);
		/* It has waited for this. */
		if (p->known && p->kay == NULL && !p->asked)
			mkad_begin_anew(p);
	}
	pk_notice("%zu CAKs from the policy server", nb);
	mkad_wake(d);
}
