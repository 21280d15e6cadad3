#include "attest/daemon/dpu.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/pem.h>

#include "attest/daemon/dpu_priv.h"
#include "attest/daemon/logs.h"
#include "attest/statement.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/spiffe.h"

#define REFERENCE_MAX (64u << 20)
#define NUDGE_PAUSE_MAX \
	(50 * PK_NS_PER_MS) /* a nudge is not answered sooner after the last round */

static void ask(struct attest_dpu *d);

/* ---- the reference -------------------------------------------------------------------------------- */

static uint8_t *
read_beside(void *arg, const char *path, size_t *len, struct pk_diag *diag)
{
	char whole[4096];
	const char *slash = strrchr(arg, '/');
	uint8_t *bytes;
	int n = path[0] == '/' || slash == NULL
	    ? snprintf(whole, sizeof(whole), "%s", path)
	    : snprintf(
	          whole, sizeof(whole), "%.*s/%s", (int)(slash - (char *)arg), (char *)arg, path);

	if (n < 0 || (size_t)n >= sizeof(whole)) {
		pk_diag_set(diag, "%s: too long a name", path);
		return NULL;
	}
	return attest_file_read(whole, REFERENCE_MAX, &bytes, len, diag) == 0 ? bytes : NULL;
}

/* Values with a statement are believed by it; those without, where the operator has put them there himself. */
static int
check_statement(struct attest_dpu *d, const uint8_t *bytes, size_t len,
    struct attest_statement *out, struct pk_diag *diag)
{
	char path[4096];
	X509 *ca = NULL;
	FILE *f;
	int rc;

	memset(out, 0, sizeof(*out));
	if (!attest_statement_is(bytes, len)) {
		if (!d->conf->reference_signed)
			return 0;
		pk_diag_set(diag, "it is not signed, and reference-signed is set");
		return -EINVAL;
	}
	snprintf(path, sizeof(path), "%s/ca.crt", d->conf->identity);
	f = fopen(path, "re");
	if (f != NULL) {
		ca = PEM_read_X509(f, NULL, NULL, NULL);
		fclose(f);
	}
	if (ca == NULL) {
		pk_diag_set(diag, "%s: holds no certificate in PEM form", path);
		return -EINVAL;
	}
	rc = attest_statement_check(out, bytes, len, X509_get0_pubkey(ca), "host", d->name,
	    d->record.reference_generation, diag);
	X509_free(ca);
	return rc;
}

/* A quote over nothing would be about nothing. */
static bool
asks_for_something(const struct attest_reference *ref)
{
	for (unsigned int i = 0; i < ref->require.nb_banks; i++)
		if (ref->require.bank[i].mask == 0)
			return false;
	return ref->require.nb_banks > 0;
}

static void
name_reference(struct attest_dpu *d, const struct attest_statement *s)
{
	char hex[17];

	attest_hex(d->reference_hash, 8, hex);
	if (s->generation == 0)
		snprintf(d->reference_name, sizeof(d->reference_name), "file %s", hex);
	else
		snprintf(d->reference_name, sizeof(d->reference_name), "%.42s@%llu", s->name,
		    (unsigned long long)s->generation);
	d->reference_told = false;
}

bool
dpu_load_reference(struct attest_dpu *d)
{
	const char *path = d->conf->reference;
	struct attest_reference *ref;
	struct attest_bytes part;
	struct attest_statement statement;
	struct pk_diag diag;
	struct stat st;
	uint8_t *bytes, digest[ATTEST_DIGEST_MAX];
	size_t len;

	/* The helper reads the one in force; it is not changed under a round. */
	if (d->appraising)
		return d->reference != NULL;
	if (stat(path, &st) < 0) {
		if (d->reference == NULL)
			pk_warn(
			    "%s: %s; nobody is trusted without a reference", path, strerror(errno));
		return d->reference != NULL;
	}
	if (d->reference_time.tv_sec == st.st_mtim.tv_sec &&
	    d->reference_time.tv_nsec == st.st_mtim.tv_nsec && d->reference_size == st.st_size)
		return d->reference != NULL;
	d->reference_time = st.st_mtim;
	d->reference_size = st.st_size;
	if (attest_file_read(path, REFERENCE_MAX, &bytes, &len, &diag) < 0) {
		pk_error("%s", diag.text);
		return d->reference != NULL;
	}
	if (check_statement(d, bytes, len, &statement, &diag) < 0) {
		pk_error("%s: %s; %s", path, diag.text,
		    d->reference != NULL ? "the one before stays in force" : "nobody is trusted");
		free(bytes);
		return d->reference != NULL;
	}
	part = (struct attest_bytes){ bytes + statement.values_at, len - statement.values_at };
	if (attest_reference_parse(&ref, part.at, part.len,
	        statement.generation == 0 ? read_beside : NULL, d->conf->reference, &diag) < 0) {
		pk_error("%s: %s; %s", path, diag.text,
		    d->reference != NULL ? "the one before stays in force" : "nobody is trusted");
		free(bytes);
		return d->reference != NULL;
	}
	if (!asks_for_something(ref)) {
		pk_error("%s: it requires a bank, and none of its PCRs", path);
		attest_reference_destroy(ref);
		free(bytes);
		return d->reference != NULL;
	}
	if (attest_hash(NULL, ATTEST_ALG_SHA256, &part, 1, digest) == 0)
		memcpy(d->reference_hash, digest, 32);
	free(bytes);
	name_reference(d, &statement);
	/* What was judged good by the one before has to be judged again, from the beginning. */
	attest_ima_judge_destroy(d->judge);
	d->judge = NULL;
	attest_reference_destroy(d->reference);
	d->reference = ref;
	d->want_whole = true;
	if (statement.generation != 0) {
		d->record.reference_generation = statement.generation;
		dpu_save(d);
		pk_notice("%s: reference %s of generation %llu in force", path, statement.name,
		    (unsigned long long)statement.generation);
	} else {
		pk_notice("%s: reference in force", path);
	}
	return true;
}

/* ---- the machine, and everybody who follows it ------------------------------------------------------ */

static void
tell(struct attest_dpu *d, const struct attest_reasons *r)
{
	uint64_t now = pk_clock_mono_ns();
	struct pk_msg_posture p = { .epoch = d->machine.epoch, .state = (uint8_t)d->machine.state };

	p.attested = attest_machine_attested(&d->machine, now);
	p.fresh = attest_machine_fresh(&d->machine, now);
	p.until_mono_ns = p.attested ? d->machine.lease_until_ns : 0;
	snprintf(p.host, sizeof(p.host), "%s", d->record.host);
	strcpy(p.reference, d->reference_name);
	if (r != NULL && r->nb > 0)
		snprintf(p.text, sizeof(p.text), "%s: %.280s", attest_code_name(r->reason[0].code),
		    r->reason[0].text);
	if (d->within.posture != NULL)
		d->within.posture(d->within.arg, &p);
	else
		pk_posture_tell(d->mouth, &p);
}

static void
on_told(void *arg, const char *path, const struct pk_msg_posture_status *s)
{
	struct attest_dpu *d = arg;

	if (d->bad_mono_ns == 0 || s->attested || s->epoch != d->machine.epoch)
		return;
	pk_notice("%s: host cut off %.1f ms after its evidence came (epoch %llu)", path,
	    (double)(s->at_mono_ns - d->bad_mono_ns) / PK_NS_PER_MS, (unsigned long long)s->epoch);
}

struct save_job {
	struct pk_job job;
	const char *dir;
	struct attest_record record;
};

static void
save_work(struct pk_job *job)
{
	struct save_job *s = (struct save_job *)job;
	struct pk_diag diag;

	if (attest_record_save(s->dir, &s->record, &diag) < 0)
		pk_error("%s", diag.text);
}

static void
save_done(struct pk_job *job)
{
	free(job);
}

void
dpu_save(struct attest_dpu *d)
{
	struct save_job *s;

	if (d->stopping)
		return;
	s = calloc(1, sizeof(*s));
	if (s == NULL) {
		pk_error("state not saved: no memory");
		return;
	}
	d->record.state = d->machine.state;
	d->record.epoch = d->machine.epoch;
	d->record.clock_known = d->history.known;
	d->record.clock = d->history.clock;
	s->job.work = save_work;
	s->job.done = save_done;
	s->dir = d->conf->state_dir;
	s->record = d->record;
	pk_helper_give(d->helper, &s->job);
}

static void
forget_checkpoint(struct attest_dpu *d)
{
	attest_ima_judge_destroy(d->judge);
	d->judge = NULL;
	free(d->eventlog);
	d->eventlog = NULL;
	d->eventlog_len = 0;
	d->want_whole = true;
}

static void
make_ear(struct attest_dpu *d)
{
	uint64_t now = pk_clock_wall_ns() / PK_NS_PER_S;
	const struct round_job *last = d->last;
	struct pk_diag diag;
	struct attest_ear e = { .dpu = d->name,
		.host = d->record.host,
		.state = d->machine.state,
		.epoch = d->machine.epoch,
		.nonce = last != NULL ? last->nonce : NULL,
		.reference = d->reference != NULL ? d->reference_hash : NULL,
		.reasons = last != NULL ? &last->result.reasons : NULL,
		.unchecked = last != NULL ? last->result.unchecked : 0,
		.judged = last != NULL,
		.iat = now,
		.exp = now + PK_MAX(2 * d->conf->interval_ns / PK_NS_PER_S, UINT64_C(1)) };

	free(d->ear);
	d->ear = d->key != NULL ? attest_ear_make(&e, d->key, &diag) : NULL;
	if (d->ear == NULL)
		pk_error("%s", diag.text);
}

/* Order matters: first those who act, then the disk, then the people. */
void
dpu_step(struct attest_dpu *d, enum attest_step step, const struct attest_reasons *r)
{
	/* A lease counts from the challenge: what came after it may be newer, but never older. */
	uint64_t at = step == ATTEST_STEP_GOOD ? d->asked_mono_ns : pk_clock_mono_ns();
	struct attest_transition t;
	bool moved = attest_machine_step(&d->machine, &d->machine_conf, step, at, &t);

	/* By a new reference a host may be as bad as by the one before, and it is told all the same. */
	if (moved || step == ATTEST_STEP_GOOD || !d->reference_told)
		tell(d, r);
	d->reference_told = true;
	if (step == ATTEST_STEP_GOOD && d->machine.lease_until_ns != 0)
		dpu_later(d->lease,
		    d->machine.lease_until_ns > pk_clock_mono_ns()
		        ? d->machine.lease_until_ns - pk_clock_mono_ns()
		        : 0);
	if (!moved)
		return;
	d->since_wall_ns = pk_clock_wall_ns();
	/* Out of quarantine leads only the whole way. */
	if (t.to == ATTEST_STATE_QUARANTINED)
		forget_checkpoint(d);
	dpu_save(d);
	pk_log(t.to == ATTEST_STATE_QUARANTINED || t.to == ATTEST_STATE_SUSPECT ? PK_LOG_WARN
	                                                                        : PK_LOG_NOTICE,
	    "host %s: %s -> %s: %s (epoch %llu)%s%s", d->record.host, attest_state_name(t.from),
	    attest_state_name(t.to), attest_step_name(t.step), (unsigned long long)t.epoch,
	    r != NULL && r->nb > 0 ? ": " : "", r != NULL && r->nb > 0 ? r->reason[0].text : "");
	attest_audit_note(d->audit, attest_step_name(t.step), d->record.host, &t, r);
	make_ear(d);
}

static void
send_verdict(struct attest_dpu *d, const struct attest_reasons *r)
{
	struct attest_message m = { .type = ATTEST_MESSAGE_VERDICT };
	uint8_t store[3][8];
	char *text = NULL;
	size_t len = 0;
	FILE *f;

	if (d->host == NULL)
		return;
	attest_message_set_number(&m, ATTEST_FIELD_STATE, d->machine.state, store[0]);
	attest_message_set_number(&m, ATTEST_FIELD_EPOCH, d->machine.epoch, store[1]);
	attest_message_set_number(
	    &m, ATTEST_FIELD_NEXT_MS, d->conf->interval_ns / PK_NS_PER_MS, store[2]);
	f = open_memstream(&text, &len);
	if (f != NULL) {
		for (unsigned int i = 0; r != NULL && i < r->nb; i++)
			fprintf(f, "%s%s: %s", i > 0 ? "\n" : "",
			    attest_code_name(r->reason[i].code), r->reason[i].text);
		fclose(f);
	}
	if (text != NULL && len > 0)
		m.field[ATTEST_FIELD_TEXT] = (struct attest_bytes){ (uint8_t *)text, len };
	(void)attest_channel_send(d->host->channel, &m);
	free(text);
}

/* ---- a round ---------------------------------------------------------------------------------------- */

static uint64_t
jittered(uint64_t ns)
{
	uint32_t by_chance = 0;

	(void)!getrandom(&by_chance, sizeof(by_chance), 0);
	return ns - ns / 10 + ns / 5 * (by_chance & 0xffff) / 0x10000;
}

static void
ask(struct attest_dpu *d)
{
	struct attest_message m = { .type = ATTEST_MESSAGE_CHALLENGE };
	uint8_t store[2][8], selected[ATTEST_SELECTION_MAX];
	struct attest_selection s;
	uint32_t from = 0;

	if (d->host == NULL || d->asked || d->appraising)
		return;
	dpu_later(d->due, jittered(d->conf->interval_ns));
	if (!dpu_load_reference(d))
		return;
	/* 32 bytes never used before or again; without them there is no challenge. */
	if (getrandom(d->nonce, sizeof(d->nonce), 0) != (ssize_t)sizeof(d->nonce)) {
		pk_error("no random numbers for a challenge");
		return;
	}
	d->whole = d->want_whole || d->judge == NULL;
	if (!d->whole)
		from = d->history.ima.entries;
	m.field[ATTEST_FIELD_NONCE] = (struct attest_bytes){ d->nonce, sizeof(d->nonce) };
	/* Boot and IMA hang together through the PCRs below 16, whatever the reference has a say on. */
	s = d->reference->require;
	for (unsigned int i = 0; i < s.nb_banks; i++)
		if (d->reference->superset_ok && s.bank[i].alg == d->reference->bank)
			s.bank[i].mask |= 0xffff;
	attest_message_set_selection(&m, &s, selected);
	attest_message_set_number(&m, ATTEST_FIELD_IMA_FROM, from, store[0]);
	/* Also where the reference has no say on it: whoever learns from this machine wants all of it. */
	attest_message_set_number(&m, ATTEST_FIELD_WANT_LOG, d->whole, store[1]);
	d->asked = true;
	d->again = false;
	d->asked_mono_ns = pk_clock_mono_ns();
	dpu_later(d->answer, d->conf->answer_ns);
	d->rounds++;
	(void)attest_channel_send(d->host->channel, &m);
}

static void
on_due(evutil_socket_t fd, short what, void *arg)
{
	struct attest_dpu *d = arg;

	(void)fd;
	(void)what;
	/* Nobody there to be asked is a deadline missed like any other. */
	if (d->host == NULL) {
		dpu_later(d->due, jittered(d->conf->interval_ns));
		if (d->machine.state != ATTEST_STATE_NEW) {
			d->missed++;
			dpu_step(d, ATTEST_STEP_MISSED, NULL);
		}
		return;
	}
	ask(d);
}

static void
on_answer(evutil_socket_t fd, short what, void *arg)
{
	struct attest_dpu *d = arg;

	(void)fd;
	(void)what;
	if (!d->asked)
		return;
	/* What comes now answers a challenge that is no more. */
	d->asked = false;
	pk_wipe(d->nonce, sizeof(d->nonce));
	d->missed++;
	dpu_step(d, ATTEST_STEP_MISSED, NULL);
	send_verdict(d, NULL);
}

static void
on_lease(evutil_socket_t fd, short what, void *arg)
{
	struct attest_dpu *d = arg;
	uint64_t now = pk_clock_mono_ns();

	(void)fd;
	(void)what;
	if (now < d->machine.lease_until_ns)
		dpu_later(d->lease, d->machine.lease_until_ns - now);
	else if (d->machine.state == ATTEST_STATE_TRUSTED ||
	    d->machine.state == ATTEST_STATE_SUSPECT)
		dpu_step(d, ATTEST_STEP_SILENT, NULL);
}

static void
free_round(struct round_job *j)
{
	if (j == NULL)
		return;
	free(j->bytes);
	free(j->hello_bytes);
	free(j->eventlog);
	free(j);
}

static void
appraise_work(struct pk_job *job)
{
	struct round_job *j = (struct round_job *)job;

	attest_appraise(&j->evidence, j->reference, (struct attest_bytes){ j->qualifying, 32 },
	    j->history.known ? &j->history : NULL, j->judge, time(NULL), &j->result);
}

/* A quote that is the enrolled TPM's own answer to this challenge, whatever else it says. */
static bool
is_genuine(const struct attest_reasons *r)
{
	for (unsigned int i = 0; i < r->nb; i++)
		if ((r->reason[i].code > ATTEST_EVIDENCE_MISSING &&
		        r->reason[i].code <= ATTEST_CLOCK_REGRESSED) ||
		    r->reason[i].code == ATTEST_INTERNAL)
			return false;
	return r->lost == 0;
}

/* Nothing against it but that its list does not reach the quoted PCR yet. */
static bool
is_lag(const struct attest_reasons *r)
{
	return r->nb == 1 && r->lost == 0 && r->reason[0].code == ATTEST_IMA_REPLAY;
}

/* Go on from here, unless the checkpoint was given up while this was being judged. */
static void
keep_checkpoint(struct attest_dpu *d, struct round_job *j)
{
	if (!j->whole && d->want_whole)
		return;
	d->history = j->result.history;
	d->judge = j->judge;
	j->judge = NULL;
	/* After a boot keys that the list loads were judged, but not kept: once more, then they are. */
	d->want_whole = j->whole && j->result.rebooted;
	free(d->eventlog);
	d->eventlog = j->eventlog;
	d->eventlog_len = j->eventlog_len;
	j->eventlog = NULL;
}

static void
appraise_done(struct pk_job *job)
{
	struct round_job *j = (struct round_job *)job;
	struct attest_dpu *d = j->d;
	struct attest_result *res = &j->result;
	bool current = j->guest_serial == d->host_serial && d->host == j->guest;

	d->appraising = false;
	if (d->stopping) {
		attest_ima_judge_destroy(j->judge);
		free_round(j);
		return;
	}
	/* Booted since: not bad in itself, but all that was known of it is void. */
	if (!j->whole && res->rebooted && !d->reasked && current && is_genuine(&res->reasons)) {
		pk_notice("host %s: it has booted; asking for all of its logs", d->record.host);
		d->history = (struct attest_history){ .known = 1, .clock = res->history.clock };
		attest_ima_state_init(&d->history.ima, d->reference->bank);
		attest_ima_judge_destroy(j->judge);
		forget_checkpoint(d);
		d->reasked = true;
		free_round(j);
		ask(d);
		return;
	}
	d->reasked = false;
	/*
	 * A list that is behind the quote may catch up; one with an entry left out never does.  So it is asked for all of it
	 * shortly after, once, and is suspect until then: whoever hides an entry has to show it in the next round or fall.
	 */
	if (res->verdict != ATTEST_TRUSTED && current && !d->lagged && is_lag(&res->reasons)) {
		pk_notice("host %s: its list of measurements is behind its quote; asking again",
		    d->record.host);
		d->lagged = true;
		d->history.clock = res->history.clock;
		d->history.known = 1;
		attest_ima_judge_destroy(j->judge);
		forget_checkpoint(d);
		free_round(j);
		d->missed++;
		dpu_step(d, ATTEST_STEP_MISSED, NULL);
		dpu_later(d->due, PK_MIN(d->conf->interval_ns / 5, 4 * NUDGE_PAUSE_MAX));
		return;
	}
	d->lagged = false;
	/* A host that has gone meanwhile was bad all the same; only its good word expires with it. */
	if (res->verdict == ATTEST_TRUSTED && current) {
		d->good++;
		d->last_good_wall_ns = pk_clock_wall_ns();
		keep_checkpoint(d, j);
		attest_ima_judge_destroy(j->judge);
		dpu_step(d, ATTEST_STEP_GOOD, NULL);
	} else if (res->verdict != ATTEST_TRUSTED) {
		d->bad++;
		d->bad_mono_ns = j->came_mono_ns;
		attest_ima_judge_destroy(j->judge);
		/* A quote of the TPM's own moves its clock on, and an old one stays refused. */
		if (is_genuine(&res->reasons))
			d->history.clock = res->history.clock, d->history.known = 1;
		forget_checkpoint(d);
		dpu_step(d, ATTEST_STEP_BAD, &res->reasons);
		d->bad_mono_ns = d->machine.state == ATTEST_STATE_QUARANTINED ? d->bad_mono_ns : 0;
	} else {
		attest_ima_judge_destroy(j->judge);
		forget_checkpoint(d);
	}
	free_round(d->last);
	d->last = j;
	j->judge = NULL;
	j->reference = NULL;
	make_ear(d);
	if (current)
		send_verdict(d, &res->reasons);
	if (d->again)
		dpu_nudge(d);
}

/* Bytes of the round's own: the host may hang up, and the checkpoint be given up, while it is judged. */
static int
fill_round(struct attest_dpu *d, struct round_job *j, const struct attest_message *m)
{
	const struct guest *g = d->host;
	struct attest_message hello;
	struct attest_bytes log;
	int rc = dpu_copy_message(&j->m, &j->bytes, m);

	if (rc == 0)
		rc = dpu_copy_message(&hello, &j->hello_bytes, &g->hello);
	if (rc == 0 && (j->whole || d->judge == NULL)) {
		attest_ima_judge_destroy(d->judge);
		d->judge = NULL;
		rc = attest_ima_judge_create(&d->judge, d->reference->ima);
	}
	if (rc == 0)
		rc = attest_qualifying_data(&g->binding, j->nonce, j->qualifying);
	if (rc < 0)
		return rc;
	log = j->m.field[ATTEST_FIELD_EVENTLOG];
	if (j->whole && log.at != NULL) {
		j->eventlog = malloc(log.len);
		if (j->eventlog == NULL)
			return -ENOMEM;
		memcpy(j->eventlog, log.at, log.len);
		j->eventlog_len = log.len;
	} else if (!j->whole) {
		j->eventlog = d->eventlog;
		j->eventlog_len = d->eventlog_len;
		d->eventlog = NULL;
	}
	memcpy(j->ak_name, d->record.ak_name, d->record.ak_name_len);
	j->evidence = (struct attest_evidence){
		.ek_cert = hello.field[ATTEST_FIELD_EK_CERT],
		.ek_chain = hello.field[ATTEST_FIELD_EK_CHAIN],
		.ek_public = hello.field[ATTEST_FIELD_EK_PUBLIC],
		.ak_public = hello.field[ATTEST_FIELD_AK_PUBLIC],
		.ak_name = { j->ak_name, d->record.ak_name_len },
		/* That the credential was activated, on this very connection, guest.c has seen. */
		.secret = { j->nonce, sizeof(j->nonce) },
		.activated = { j->nonce, sizeof(j->nonce) },
		.quote = j->m.field[ATTEST_FIELD_QUOTE],
		.signature = j->m.field[ATTEST_FIELD_SIGNATURE],
		.pcrs = j->m.field[ATTEST_FIELD_PCR_VALUES],
		.eventlog = { j->eventlog, j->eventlog_len },
		.ima = j->m.field[ATTEST_FIELD_IMA],
	};
	j->reference = d->reference;
	j->history = d->history;
	if (j->whole)
		attest_ima_state_init(&j->history.ima, d->reference->bank);
	j->judge = d->judge;
	d->judge = NULL;
	return 0;
}

void
dpu_evidence(struct attest_dpu *d, const struct attest_message *m)
{
	struct round_job *j;

	if (!d->asked) {
		pk_info("host %s: evidence that nobody waits for", d->record.host);
		return;
	}
	d->asked = false;
	event_del(d->answer);
	j = calloc(1, sizeof(*j));
	if (j != NULL) {
		j->job.work = appraise_work;
		j->job.done = appraise_done;
		j->d = d;
		j->guest = d->host;
		j->guest_serial = d->host_serial;
		j->came_mono_ns = pk_clock_mono_ns();
		j->whole = d->whole;
		memcpy(j->nonce, d->nonce, sizeof(j->nonce));
	}
	pk_wipe(d->nonce, sizeof(d->nonce));
	if (j == NULL || fill_round(d, j, m) < 0) {
		pk_error("host %s: evidence not judged: no memory", d->record.host);
		free_round(j);
		d->missed++;
		dpu_step(d, ATTEST_STEP_MISSED, NULL);
		return;
	}
	d->appraising = true;
	pk_helper_give(d->helper, &j->job);
}

void
dpu_nudge(struct attest_dpu *d)
{
	uint64_t now = pk_clock_mono_ns(),
	         pause = PK_MIN(d->conf->interval_ns / 5, NUDGE_PAUSE_MAX);

	if (d->asked || d->appraising) {
		d->again = true;
		return;
	}
	/* At most so often, however the host pushes. */
	if (now < d->asked_mono_ns + pause)
		dpu_later(d->due, d->asked_mono_ns + pause - now);
	else
		ask(d);
}

/* ---- who is there ------------------------------------------------------------------------------------- */

void
dpu_host_came(struct attest_dpu *d, struct guest *g)
{
	bool rekeyed = d->record.ak_name_len != g->binding.ak_name_len ||
	    memcmp(d->record.ak_name, g->binding.ak_name, g->binding.ak_name_len) != 0;

	if (d->host != NULL && d->host != g)
		guest_end(d->host);
	d->host = g;
	d->host_serial++;
	d->asked = d->reasked = false;
	if (d->record.host[0] == '\0' || rekeyed) {
		/* The same TPM with another AK has no history with this one. */
		strcpy(d->record.host, g->binding.host);
		memcpy(d->record.ek, g->ek_hash, sizeof(d->record.ek));
		memcpy(d->record.ak_name, g->binding.ak_name, g->binding.ak_name_len);
		d->record.ak_name_len = g->binding.ak_name_len;
		attest_audit_note(d->audit, "key enrolled", d->record.host, NULL, NULL);
		forget_checkpoint(d);
		dpu_save(d);
	}
	pk_notice("host %s: connected, %s", d->record.host, attest_state_name(d->machine.state));
	dpu_step(d, ATTEST_STEP_ENROL, NULL);
	d->want_whole = true;
	ask(d);
}

void
dpu_host_went(struct attest_dpu *d)
{
	/* Silence begins; the deadlines tell how long it may last.  A challenge that is out stays out, so
	 * that hanging up is no way around its deadline. */
	d->host_serial++;
}

static void
on_accept(evutil_socket_t fd, short what, void *arg)
{
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)what;
	if (client >= 0)
		guest_accept(arg, client);
}

/* ---- beginning and end ------------------------------------------------------------------------------- */

static int
load_identity(struct attest_dpu *d, struct pk_diag *diag)
{
	char cert[4096], key[4096], ca[4096];
	struct pk_spiffe id;
	FILE *f;
	int rc;

	snprintf(cert, sizeof(cert), "%s/identity.crt", d->conf->identity);
	snprintf(key, sizeof(key), "%s/identity.key", d->conf->identity);
	snprintf(ca, sizeof(ca), "%s/ca.crt", d->conf->identity);
	rc = pk_spiffe_check_files(cert, key, ca, &id, diag);
	if (rc < 0)
		return rc;
	if (strcmp(id.kind, "dpu") != 0) {
		pk_diag_set(
		    diag, "%s: it is the identity of a %s; want that of a dpu", cert, id.kind);
		return -EINVAL;
	}
	snprintf(d->name, sizeof(d->name), "%s", id.name);
	d->tls = attest_channel_server_tls(cert, key, diag);
	if (d->conf->result_key != NULL && d->conf->result_key[0] != '\0')
		snprintf(key, sizeof(key), "%s", d->conf->result_key);
	f = fopen(key, "re");
	d->key = f != NULL ? PEM_read_PrivateKey(f, NULL, NULL, NULL) : NULL;
	if (f != NULL)
		fclose(f);
	if (d->key == NULL && d->tls != NULL)
		pk_diag_set(diag, "%s: cannot be read", key);
	return d->tls != NULL && d->key != NULL ? 0 : -EINVAL;
}

static int
load_record(struct attest_dpu *d, struct pk_diag *diag)
{
	int rc = attest_record_load(d->conf->state_dir, &d->record, diag);

	if (rc == -ENOENT) {
		memset(&d->record, 0, sizeof(d->record));
		return 0;
	}
	if (rc < 0)
		return rc;
	d->machine.state = d->record.state;
	d->machine.epoch = d->record.epoch;
	d->history.known = d->record.clock_known;
	d->history.clock = d->record.clock;
	/* Whoever holds a lease of ours keeps it to its end.  We believe nothing until we see it again. */
	if (attest_machine_step(
	        &d->machine, &d->machine_conf, ATTEST_STEP_RESTART, pk_clock_mono_ns(), NULL))
		dpu_save(d);
	if (d->machine.state == ATTEST_STATE_SUSPECT)
		dpu_later(d->lease, d->conf->lease_ns);
	return 0;
}

static int
listen_all(struct attest_dpu *d, struct pk_diag *diag)
{
	const struct pk_conf_list *l = &d->conf->listen;

	if (l->nb == 0) {
		pk_diag_set(diag, "no `listen` address: want one such as listen = vsock:2:7444");
		return -EINVAL;
	}
	d->listener = calloc(l->nb, sizeof(d->listener[0]));
	if (d->listener == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < l->nb; i++) {
		int fd = attest_address_listen(l->item[i], diag);

		if (fd < 0)
			return fd;
		d->listener[i] = event_new(d->base, fd, EV_READ | EV_PERSIST, on_accept, d);
		if (d->listener[i] == NULL) {
			close(fd);
			return -ENOMEM;
		}
		d->nb_listeners++;
		event_add(d->listener[i], NULL);
	}
	return 0;
}

static int
create(struct attest_dpu **out, struct event_base *base, const struct attestd_conf *conf,
    const struct attest_dpu_within *within, struct pk_diag *diag)
{
	struct attest_dpu *d = calloc(1, sizeof(*d));
	int rc;

	pk_diag_set(diag, "no memory");
	if (d == NULL)
		return -ENOMEM;
	d->base = base;
	d->conf = conf;
	d->machine_conf = (struct attest_machine_conf){ .missed_max = (uint32_t)conf->missed_max,
		.recover_rounds = (uint32_t)conf->recover_rounds,
		.recover_by_hand = conf->recover == 1,
		.lease_ns = conf->lease_ns };
	d->want_whole = true;
	d->since_wall_ns = pk_clock_wall_ns();
	d->due = evtimer_new(base, on_due, d);
	d->answer = evtimer_new(base, on_answer, d);
	d->lease = evtimer_new(base, on_lease, d);
	rc = d->due != NULL && d->answer != NULL && d->lease != NULL ? 0 : -ENOMEM;
	if (rc == 0 && conf->answer_ns >= conf->lease_ns) {
		pk_diag_set(diag, "answer has to be shorter than lease");
		rc = -EINVAL;
	}
	if (within != NULL) {
		d->within = *within;
		d->helper = within->helper;
		snprintf(d->name, sizeof(d->name), "%s", within->name);
	}
	if (rc == 0 && within == NULL)
		rc = load_identity(d, diag);
	if (rc == 0 && within == NULL)
		rc = pk_helper_create(&d->helper, base, "appraisal", diag);
	if (rc == 0)
		rc = attest_audit_open(&d->audit, conf->state_dir, diag);
	if (rc == 0)
		rc = load_record(d, diag);
	if (rc == 0 && within == NULL)
		rc = pk_posture_mouth_create(
		    &d->mouth, base, conf->tell.item, conf->tell.nb, on_told, d);
	if (rc == 0 && within == NULL)
		rc = listen_all(d, diag);
	if (rc < 0) {
		attest_dpu_destroy(d);
		return rc;
	}
	*out = d;
	(void)dpu_load_reference(d);
	dpu_later(d->due, conf->interval_ns);
	attest_audit_note(d->audit, "verifier started", d->record.host, NULL, NULL);
	make_ear(d);
	*out = d;
	return 0;
}

int
attest_dpu_create(struct attest_dpu **out, struct event_base *base, const struct attestd_conf *conf,
    struct pk_diag *diag)
{
	return create(out, base, conf, NULL, diag);
}

int
attest_dpu_create_within(struct attest_dpu **out, struct event_base *base,
    const struct attestd_conf *conf, const struct attest_dpu_within *within, struct pk_diag *diag)
{
	return create(out, base, conf, within, diag);
}

void
attest_dpu_stop(struct attest_dpu *d)
{
	d->stopping = true;
}

struct attest_channel *
attest_dpu_carried(
    struct attest_dpu *d, const struct attest_carrier *by, const struct attest_binding *b)
{
	struct guest *g = guest_accept_carried(d, by, b);

	return g != NULL ? g->channel : NULL;
}

void
attest_dpu_went(struct attest_dpu *d, struct attest_channel *c)
{
	for (size_t i = 0; i < GUESTS_MAX; i++)
		if (c != NULL && d->guest[i].channel == c)
			guest_end(&d->guest[i]);
}

void
attest_dpu_destroy(struct attest_dpu *d)
{
	if (d == NULL)
		return;
	d->stopping = true;
	if (d->within.name == NULL)
		pk_helper_destroy(d->helper);
	for (size_t i = 0; i < d->nb_listeners; i++) {
		close(event_get_fd(d->listener[i]));
		event_free(d->listener[i]);
	}
	free(d->listener);
	for (size_t i = 0; i < GUESTS_MAX; i++) {
		attest_channel_destroy(d->guest[i].channel);
		pk_secret_fini(&d->guest[i].secret);
		free(d->guest[i].hello_bytes);
		if (d->guest[i].deadline != NULL)
			event_free(d->guest[i].deadline);
	}
	pk_posture_mouth_destroy(d->mouth);
	if (d->due != NULL)
		event_free(d->due);
	if (d->answer != NULL)
		event_free(d->answer);
	if (d->lease != NULL)
		event_free(d->lease);
	free_round(d->last);
	attest_ima_judge_destroy(d->judge);
	attest_reference_destroy(d->reference);
	pk_chain_close(d->audit);
	SSL_CTX_free(d->tls);
	EVP_PKEY_free(d->key);
	free(d->eventlog);
	free(d->ear);
	free(d);
}
