#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "attest/daemon/dpu_priv.h"
#include "attest/learn.h"
#include "lib/clock.h"
#include "lib/control.h"
#include "lib/log.h"

/* What the control socket is asked: the host's state, the reasons, the token, and what operators decide. */

static void
row(struct pk_control_request *r, json_t *o)
{
	char *text = o != NULL ? json_dumps(o, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;

	if (text != NULL)
		pk_control_row(r, text);
	free(text);
	json_decref(o);
}

void
attest_dpu_show(struct attest_dpu *d, struct pk_control_request *r)
{
	uint64_t now = pk_clock_wall_ns(), mono = pk_clock_mono_ns();
	char ek[65] = "", reference[65] = "";
	const struct attest_reasons *reasons = d->last != NULL ? &d->last->result.reasons : NULL;
	json_t *o;

	if (d->record.host[0] != '\0')
		attest_hex(d->record.ek, 32, ek);
	if (d->reference != NULL)
		attest_hex(d->reference_hash, 32, reference);
	o = json_pack("{s:s, s:s, s:s, s:I, s:b, s:b, s:I, s:s, s:s}", "host", d->record.host,
	    "dpu", d->name, "state", attest_state_name(d->machine.state), "epoch",
	    (json_int_t)d->machine.epoch, "attested", attest_machine_attested(&d->machine, mono),
	    "connected", d->host != NULL, "since_s",
	    (json_int_t)((now - d->since_wall_ns) / PK_NS_PER_S), "ek", ek, "reference", reference);
	json_object_set_new(o, "by", json_string(d->reference_name));
	json_object_set_new(o, "lease_ms",
	    json_integer(mono < d->machine.lease_until_ns
	            ? (json_int_t)((d->machine.lease_until_ns - mono) / PK_NS_PER_MS)
	            : 0));
	json_object_set_new(o, "good_s_ago",
	    d->last_good_wall_ns != 0
	        ? json_integer((json_int_t)((now - d->last_good_wall_ns) / PK_NS_PER_S))
	        : json_null());
	json_object_set_new(o, "rounds", json_integer((json_int_t)d->rounds));
	json_object_set_new(o, "good", json_integer((json_int_t)d->good));
	json_object_set_new(o, "bad", json_integer((json_int_t)d->bad));
	json_object_set_new(o, "missed", json_integer((json_int_t)d->missed));
	json_object_set_new(o, "refused", json_integer((json_int_t)d->refused));
	json_object_set_new(o, "ima_entries",
	    json_integer(d->history.known ? (json_int_t)d->history.ima.entries : 0));
	json_object_set_new(o, "why",
	    json_string(reasons != NULL && reasons->nb > 0 ? reasons->reason[0].text : ""));
	row(r, o);
	pk_control_done(r);
}

void
attest_dpu_show_reasons(struct attest_dpu *d, struct pk_control_request *r)
{
	const struct attest_reasons *reasons = d->last != NULL ? &d->last->result.reasons : NULL;

	for (unsigned int i = 0; reasons != NULL && i < reasons->nb; i++)
		row(r,
		    json_pack("{s:s, s:s, s:s}", "code", attest_code_name(reasons->reason[i].code),
		        "text", reasons->reason[i].text, "meaning",
		        attest_code_meaning(reasons->reason[i].code)));
	pk_control_done(r);
}

void
attest_dpu_show_ear(struct attest_dpu *d, struct pk_control_request *r)
{
	if (d->ear == NULL) {
		pk_control_refuse(r, "there is no result yet");
		return;
	}
	row(r, json_pack("{s:s}", "ear", d->ear));
	pk_control_done(r);
}

void
attest_dpu_release(struct attest_dpu *d, struct pk_control_request *r)
{
	if (!attest_machine_release(&d->machine)) {
		pk_control_refuse(r, "the host is %s; only a recovering one can be released",
		    attest_state_name(d->machine.state));
		return;
	}
	attest_audit_note(d->audit, "released by an operator", d->record.host, NULL, NULL);
	pk_control_done(r);
}

void
attest_dpu_forget(struct attest_dpu *d, struct pk_control_request *r)
{
	if (d->appraising) {
		pk_control_refuse(r, "evidence is being judged; try again");
		return;
	}
	attest_audit_note(d->audit, "forgotten by an operator", d->record.host, NULL, NULL);
	if (d->host != NULL)
		guest_end(d->host);
	d->asked = false;
	dpu_step(d, ATTEST_STEP_FORGET, NULL);
	/* What the server has said last is not about this TPM. */
	d->record =
	    (struct attest_record){ .reference_generation = d->record.reference_generation };
	memset(&d->history, 0, sizeof(d->history));
	d->want_whole = true;
	dpu_save(d);
	pk_control_done(r);
}

/* Of the last evidence whole, judged or not: what it takes to be trusted is that it holds together. */
void
attest_dpu_learn(struct attest_dpu *d, struct pk_control_request *r, const char *const *excludes,
    size_t nb_excludes)
{
	const struct round_job *j = d->last;
	struct attest_reasons *reasons;
	struct attest_evidence ev;
	json_t *ref = NULL;
	int rc, fd = pk_control_fd(r);

	if (fd < 0) {
		pk_control_refuse(r, "want a file to write to");
		return;
	}
	if (j == NULL || !j->whole || d->appraising) {
		d->want_whole = true;
		dpu_nudge(d);
		pk_control_refuse(r, "%s; all logs are being asked for, try again in a moment",
		    j == NULL ? "no evidence has come yet" : "the last evidence was a piece");
		return;
	}
	reasons = calloc(1, sizeof(*reasons));
	ev = j->evidence;
	ev.eventlog = j->m.field[ATTEST_FIELD_EVENTLOG];
	rc = reasons == NULL
	    ? -ENOMEM
	    : attest_learn(&ev, ATTEST_ALG_SHA256, (struct attest_bytes){ j->qualifying, 32 },
	          excludes, nb_excludes, (time_t)(pk_clock_wall_ns() / PK_NS_PER_S), &ref, reasons);
	if (rc == 0 && json_dumpfd(ref, fd, JSON_INDENT(1)) != 0)
		rc = -EIO;
	if (rc == -EINVAL)
		pk_control_refuse(r, "nothing is learnt from %s: %s: %s", d->record.host,
		    attest_code_name(reasons->reason[0].code), reasons->reason[0].text);
	else if (rc != 0)
		pk_control_refuse(r, "%s", strerror(-rc));
	else
		pk_control_done(r);
	json_decref(ref);
	free(reasons);
}

static int
put(const char *dir, const char *name, struct attest_bytes b)
{
	char path[4096];
	int fd, ok;

	if (b.at == NULL)
		return 0;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	ok = write(fd, b.at, b.len) == (ssize_t)b.len;
	close(fd);
	return ok ? 0 : -EIO;
}

void
attest_dpu_save_evidence(struct attest_dpu *d, struct pk_control_request *r, const char *dir)
{
	const struct round_job *j = d->last;
	char hex[65];
	int rc = 0;

	if (j == NULL || !j->whole) {
		/* A list that begins in the middle can be judged by nobody else. */
		d->want_whole = true;
		dpu_nudge(d);
		pk_control_refuse(r, "%s; all logs are being asked for, try again in a moment",
		    j == NULL ? "no evidence has come yet" : "the last evidence was a piece");
		return;
	}
	attest_hex(j->qualifying, 32, hex);
	rc |= put(dir, "ak.pub", j->evidence.ak_public);
	rc |= put(dir, "ek.pub", j->evidence.ek_public);
	rc |= put(dir, "ek-rsa2048.crt.der", j->evidence.ek_cert);
	rc |= put(dir, "quote.msg", j->evidence.quote);
	rc |= put(dir, "quote.sig", j->evidence.signature);
	rc |= put(dir, "pcrs.json", j->evidence.pcrs);
	rc |= put(dir, "eventlog.bin", j->m.field[ATTEST_FIELD_EVENTLOG]);
	rc |= put(dir, "ima.bin", j->evidence.ima);
	rc |= put(dir, "nonce.hex", (struct attest_bytes){ (const uint8_t *)hex, 64 });
	if (rc != 0)
		pk_control_refuse(r, "%s: evidence could not be written there", dir);
	else
		pk_control_done(r);
}
