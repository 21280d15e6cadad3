/* What picket-attestd's two roles say to each other, the machine, what is kept on disk, and results. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include <jansson.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>

#include "attest/daemon/logs.h"
#include "attest/daemon/record.h"
#include "lib/clock.h"
#include "tests/unit/test.h"

#define S PK_NS_PER_S

/* ---- messages ----------------------------------------------------------------------------------- */

static void
fill(struct attest_message *m, enum attest_message_type type, uint8_t *bytes, uint8_t store[8])
{
	memset(m, 0, sizeof(*m));
	memset(bytes, 'h', 64);
	m->type = type;
	switch (type) {
	case ATTEST_MESSAGE_HELLO:
		m->field[ATTEST_FIELD_HOST] = (struct attest_bytes){ bytes, 5 };
		m->field[ATTEST_FIELD_EK_PUBLIC] = (struct attest_bytes){ bytes, 40 };
		m->field[ATTEST_FIELD_AK_PUBLIC] = (struct attest_bytes){ bytes, 50 };
		break;
	case ATTEST_MESSAGE_ACTIVATE:
		m->field[ATTEST_FIELD_ID_OBJECT] = (struct attest_bytes){ bytes, 30 };
		m->field[ATTEST_FIELD_ENCRYPTED] = (struct attest_bytes){ bytes, 40 };
		break;
	case ATTEST_MESSAGE_ACTIVATED:
		m->field[ATTEST_FIELD_SECRET] = (struct attest_bytes){ bytes, 32 };
		break;
	case ATTEST_MESSAGE_EVIDENCE:
		attest_message_set_number(m, ATTEST_FIELD_IMA_FROM, 0x01020304, store);
		m->field[ATTEST_FIELD_QUOTE] = (struct attest_bytes){ bytes, 60 };
		m->field[ATTEST_FIELD_SIGNATURE] = (struct attest_bytes){ bytes, 60 };
		m->field[ATTEST_FIELD_PCR_VALUES] = (struct attest_bytes){ bytes, 9 };
		m->field[ATTEST_FIELD_IMA] = (struct attest_bytes){ bytes, 0 };
		break;
	default:
		break;
	}
}

static void
test_message(void **state)
{
	uint8_t bytes[64], store[8];

	(void)state;
	for (unsigned int type = 1; type < ATTEST_MESSAGE_COUNT; type++) {
		struct attest_message m, got;
		struct pk_diag diag;
		uint8_t *packed;
		size_t len, said;
		int rc;

		fill(&m, (enum attest_message_type)type, bytes, store);
		rc = attest_message_pack(&packed, &len, &m, &diag);
		if (type == ATTEST_MESSAGE_CHALLENGE || type == ATTEST_MESSAGE_VERDICT) {
			assert_int_equal(rc, -EPROTO); /* fields are lacking */
			continue;
		}
		assert_int_equal(rc, 0);
		assert_int_equal(attest_message_length(packed, 1 << 20, &said, &diag), 0);
		assert_int_equal(said, len);
		assert_int_equal(attest_message_length(packed, len - 1, &said, &diag), -EPROTO);
		assert_int_equal(attest_message_parse(&got, packed, len, &diag), 0);
		assert_int_equal(got.type, type);
		for (unsigned int f = 0; f < ATTEST_FIELD_COUNT; f++) {
			assert_int_equal(got.field[f].len, m.field[f].len);
			assert_int_equal(got.field[f].at != NULL, m.field[f].at != NULL);
		}
		if (type == ATTEST_MESSAGE_EVIDENCE)
			assert_int_equal(
			    attest_message_number(&got, ATTEST_FIELD_IMA_FROM), 0x01020304);
		/* Cut anywhere, or with a byte more, it is no message. */
		for (size_t cut = 0; cut < len; cut++) {
			uint8_t *copy = malloc(cut + 1);

			memcpy(copy, packed, cut);
			assert_int_equal(attest_message_parse(&got, copy, cut, &diag), -EPROTO);
			free(copy);
		}
		packed = realloc(packed, len + 1);
		packed[len] = 0;
		assert_int_equal(attest_message_parse(&got, packed, len + 1, &diag), -EPROTO);
		free(packed);
	}
}

/* Bytes that say what no message of ours says. */
static void
test_message_bad(void **state)
{
	static const struct {
		const char *what;
		uint8_t bytes[64];
		size_t len;
	} cases[] = {
		{ "version 2", { 0, 0, 0, 4, 2, 7, 0, 0 }, 8 },
		{ "type 0", { 0, 0, 0, 4, 1, 0, 0, 0 }, 8 },
		{ "type 8", { 0, 0, 0, 4, 1, 8, 0, 0 }, 8 },
		{ "zero is not", { 0, 0, 0, 4, 1, 7, 0, 1 }, 8 },
		{ "4 GiB", { 0xff, 0xff, 0xff, 0xff, 1, 5, 0, 0 }, 8 },
		{ "shorter than itself", { 0, 0, 0, 3, 1, 7, 0, 0 }, 8 },
		{ "field a nudge has not", { 0, 0, 0, 12, 1, 7, 0, 0, 0, 21, 0, 0, 0, 0, 0, 0 },
		    16 },
		{ "tag 0", { 0, 0, 0, 12, 1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 16 },
		{ "tag 99", { 0, 0, 0, 12, 1, 7, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0 }, 16 },
		{ "a length that wraps",
		    { 0, 0, 0, 12, 1, 3, 0, 0, 0, 8, 0, 0, 0xff, 0xff, 0xff, 0xff }, 16 },
		{ "secret too short", { 0, 0, 0, 13, 1, 3, 0, 0, 0, 8, 0, 0, 0, 0, 0, 1, 7 }, 17 },
	};
	struct attest_message m;
	struct pk_diag diag;

	(void)state;
	for (size_t i = 0; i < PK_COUNT(cases); i++)
		if (attest_message_parse(&m, cases[i].bytes, cases[i].len, &diag) != -EPROTO)
			fail_msg("%s was taken for a message", cases[i].what);
}

static void
test_message_order(void **state)
{
	uint8_t bytes[64], store[8], *packed, swapped[256];
	struct attest_message m;
	struct pk_diag diag;
	size_t len;

	(void)state;
	fill(&m, ATTEST_MESSAGE_ACTIVATE, bytes, store);
	assert_int_equal(attest_message_pack(&packed, &len, &m, &diag), 0);
	/* The same two fields, the other way round; and the first one twice. */
	memcpy(swapped, packed, 8);
	memcpy(swapped + 8, packed + 8 + 38, 48);
	memcpy(swapped + 8 + 48, packed + 8, 38);
	assert_int_equal(attest_message_parse(&m, swapped, len, &diag), -EPROTO);
	memcpy(swapped, packed, len);
	swapped[8 + 38 + 1] = swapped[8 + 1];
	assert_int_equal(attest_message_parse(&m, swapped, len, &diag), -EPROTO);
	free(packed);
	/* A host's name is one, and nothing else. */
	fill(&m, ATTEST_MESSAGE_HELLO, bytes, store);
	bytes[2] = '/';
	assert_int_equal(attest_message_pack(&packed, &len, &m, &diag), -EPROTO);
	bytes[2] = '\0';
	assert_int_equal(attest_message_pack(&packed, &len, &m, &diag), -EPROTO);
}

/* Which PCRs of which banks a DPU asks for. */
static void
test_selection(void **state)
{
	static const struct {
		const char *what;
		uint8_t bytes[18];
		size_t len;
	} bad[] = {
		{ "no bank", { 0 }, 0 },
		{ "half a bank", { 0, 11, 0, 0, 0 }, 5 },
		{ "a bank and a half", { 0, 11, 0, 0, 4, 0, 0, 4, 0 }, 9 },
		{ "no hash", { 0, 0, 0, 0, 0, 1 }, 6 },
		{ "no PCR", { 0, 11, 0, 0, 0, 0 }, 6 },
		{ "PCR 24", { 0, 11, 1, 0, 0, 1 }, 6 },
		{ "one bank twice", { 0, 11, 0, 0, 0, 1, 0, 4, 0, 0, 0, 1, 0, 11, 0, 0, 0, 2 },
		    18 },
	};
	static const struct attest_selection wanted = { .nb_banks = 3,
		.bank = { { ATTEST_ALG_SHA256, 0xffff }, { ATTEST_ALG_SHA1, 1 },
		    { ATTEST_ALG_SM3, 0x800000 } } };
	uint8_t nonce[ATTEST_NONCE_LEN] = { 1 }, store[2][8], selected[ATTEST_SELECTION_MAX],
	        *packed;
	struct attest_message m = { .type = ATTEST_MESSAGE_CHALLENGE }, got;
	struct attest_selection back;
	struct pk_diag diag;
	size_t len;

	(void)state;
	m.field[ATTEST_FIELD_NONCE] = (struct attest_bytes){ nonce, sizeof(nonce) };
	attest_message_set_number(&m, ATTEST_FIELD_IMA_FROM, 0, store[0]);
	attest_message_set_number(&m, ATTEST_FIELD_WANT_LOG, 1, store[1]);
	attest_message_set_selection(&m, &wanted, selected);
	assert_int_equal(attest_message_pack(&packed, &len, &m, &diag), 0);
	assert_int_equal(attest_message_parse(&got, packed, len, &diag), 0);
	attest_message_selection(&got, &back);
	assert_int_equal(back.nb_banks, wanted.nb_banks);
	for (unsigned int i = 0; i < wanted.nb_banks; i++) {
		assert_int_equal(back.bank[i].alg, wanted.bank[i].alg);
		assert_int_equal(back.bank[i].mask, wanted.bank[i].mask);
	}
	free(packed);
	for (size_t i = 0; i < PK_COUNT(bad); i++) {
		m.field[ATTEST_FIELD_SELECTION] = (struct attest_bytes){ bad[i].bytes, bad[i].len };
		if (attest_message_pack(&packed, &len, &m, &diag) != -EPROTO)
			fail_msg("%s is asked for", bad[i].what);
	}
}

/* What the TPM signs is about this nonce, these two, this connection and these keys, and no other. */
static void
test_qualifying(void **state)
{
	struct attest_binding b = { .dpu = "dpu1", .host = "host1", .ak_name_len = 34 }, o;
	uint8_t nonce[32] = { 1 }, want[32], got[32];

	(void)state;
	assert_int_equal(attest_qualifying_data(&b, nonce, want), 0);
	assert_int_equal(attest_qualifying_data(&b, nonce, got), 0);
	assert_memory_equal(want, got, 32);
	nonce[31] ^= 1;
	assert_int_equal(attest_qualifying_data(&b, nonce, got), 0);
	assert_memory_not_equal(want, got, 32);
	nonce[31] ^= 1;
	for (unsigned int i = 0; i < 6; i++) {
		o = b;
		if (i == 0)
			strcpy(o.dpu, "dpu2");
		else if (i == 1)
			strcpy(o.host, "host2");
		else if (i == 2)
			o.exporter[0] ^= 1;
		else if (i == 3)
			o.dpu_key[31] ^= 1;
		else if (i == 4)
			o.ak_name[33] ^= 1;
		else /* "dpu1" "host1" is not "dpu1h" "ost1" */
			strcpy(o.dpu, "dpu1h"), strcpy(o.host, "ost1");
		assert_int_equal(attest_qualifying_data(&o, nonce, got), 0);
		assert_memory_not_equal(want, got, 32);
	}
}

/* ---- the machine ---------------------------------------------------------------------------------- */

static const struct attest_machine_conf conf = {
	.missed_max = 3, .recover_rounds = 2, .lease_ns = 15 * PK_NS_PER_S
};

static void
step(struct attest_machine *m, enum attest_step s, uint64_t now, enum attest_state want)
{
	struct attest_machine before = *m;
	struct attest_transition t;
	bool moved = attest_machine_step(m, &conf, s, now, &t);

	if (m->state != want)
		fail_msg("%s after %s: %s, want %s", attest_state_name(before.state),
		    attest_step_name(s), attest_state_name(m->state), attest_state_name(want));
	assert_int_equal(moved, before.state != want);
	assert_int_equal(m->epoch, before.epoch + moved);
	if (moved) {
		assert_int_equal(t.from, before.state);
		assert_int_equal(t.to, want);
		assert_int_equal(t.epoch, m->epoch);
	}
}

static void
test_machine(void **state)
{
	struct attest_machine m = { 0 };

	(void)state;
	/* Nothing but enrolment leads out of NEW. */
	for (unsigned int s = ATTEST_STEP_GOOD; s < ATTEST_STEP_COUNT; s++)
		step(&m, (enum attest_step)s, 0, ATTEST_STATE_NEW);
	m = (struct attest_machine){ 0 };
	step(&m, ATTEST_STEP_ENROL, 1 * S, ATTEST_STATE_ENROLLED);
	assert_false(attest_machine_attested(&m, 1 * S));
	step(&m, ATTEST_STEP_GOOD, 1 * S, ATTEST_STATE_TRUSTED);
	assert_true(attest_machine_attested(&m, 15 * S));
	assert_true(attest_machine_fresh(&m, 15 * S));
	assert_false(
	    attest_machine_attested(&m, 16 * S)); /* the lease has ended, whatever the state */
	/* Good evidence renews; silence does not. */
	step(&m, ATTEST_STEP_GOOD, 6 * S, ATTEST_STATE_TRUSTED);
	assert_true(attest_machine_attested(&m, 20 * S));
	step(&m, ATTEST_STEP_MISSED, 11 * S, ATTEST_STATE_SUSPECT);
	assert_true(attest_machine_attested(&m, 20 * S));
	assert_false(attest_machine_fresh(&m, 12 * S));
	assert_false(attest_machine_attested(&m, 21 * S));
	step(&m, ATTEST_STEP_GOOD, 12 * S, ATTEST_STATE_TRUSTED);
	/* Three in a row. */
	step(&m, ATTEST_STEP_MISSED, 13 * S, ATTEST_STATE_SUSPECT);
	step(&m, ATTEST_STEP_MISSED, 14 * S, ATTEST_STATE_SUSPECT);
	step(&m, ATTEST_STEP_MISSED, 15 * S, ATTEST_STATE_QUARANTINED);
	assert_false(attest_machine_attested(&m, 15 * S));
	/* Back by good evidence only, and not by the first; bad or no evidence begins again. */
	step(&m, ATTEST_STEP_ENROL, 16 * S, ATTEST_STATE_QUARANTINED);
	step(&m, ATTEST_STEP_RESTART, 16 * S, ATTEST_STATE_QUARANTINED);
	step(&m, ATTEST_STEP_GOOD, 17 * S, ATTEST_STATE_RECOVERING);
	step(&m, ATTEST_STEP_GOOD, 18 * S, ATTEST_STATE_RECOVERING);
	assert_false(attest_machine_attested(&m, 18 * S));
	step(&m, ATTEST_STEP_BAD, 19 * S, ATTEST_STATE_QUARANTINED);
	step(&m, ATTEST_STEP_GOOD, 20 * S, ATTEST_STATE_RECOVERING);
	step(&m, ATTEST_STEP_GOOD, 21 * S, ATTEST_STATE_RECOVERING);
	step(&m, ATTEST_STEP_MISSED, 22 * S, ATTEST_STATE_RECOVERING);
	step(&m, ATTEST_STEP_GOOD, 23 * S, ATTEST_STATE_RECOVERING);
	step(&m, ATTEST_STEP_GOOD, 24 * S, ATTEST_STATE_TRUSTED);
	assert_true(attest_machine_attested(&m, 24 * S));
	step(&m, ATTEST_STEP_RESTART, 25 * S, ATTEST_STATE_SUSPECT);
	step(&m, ATTEST_STEP_BAD, 26 * S, ATTEST_STATE_QUARANTINED);
	step(&m, ATTEST_STEP_FORGET, 27 * S, ATTEST_STATE_NEW);
}

static void
test_machine_by_hand(void **state)
{
	struct attest_machine_conf by_hand = conf;
	struct attest_machine m = { .state = ATTEST_STATE_RECOVERING };

	(void)state;
	by_hand.recover_by_hand = true;
	for (int i = 0; i < 5; i++)
		assert_false(attest_machine_step(&m, &by_hand, ATTEST_STEP_GOOD, S, NULL));
	assert_true(attest_machine_release(&m));
	assert_true(attest_machine_step(&m, &by_hand, ATTEST_STEP_GOOD, S, NULL));
	assert_int_equal(m.state, ATTEST_STATE_TRUSTED);
	assert_false(attest_machine_release(&m));
}

/* Whatever happens, in whatever order: attested only within a lease that good evidence gave. */
static void
test_machine_random(void **state)
{
	struct attest_machine m = { 0 };
	uint64_t now = S, good = 0;

	(void)state;
	srandom(1);
	for (int i = 0; i < 100000; i++) {
		enum attest_step s = (enum attest_step)(random() % ATTEST_STEP_COUNT);

		if (s == ATTEST_STEP_PROVEN)
			continue;
		now += (uint64_t)(random() % 4) * S;
		(void)attest_machine_step(&m, &conf, s, now, NULL);
		if (s == ATTEST_STEP_GOOD)
			good = now;
		if (attest_machine_attested(&m, now))
			assert_true(good != 0 && now < good + conf.lease_ns);
		if (s == ATTEST_STEP_BAD || s == ATTEST_STEP_FORGET)
			assert_false(attest_machine_attested(&m, now));
	}
}

/* ---- the disk ------------------------------------------------------------------------------------- */

static char dir[64];

static int
make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/attest-test-XXXXXX");
	return mkdtemp(dir) != NULL ? 0 : -1;
}

static int
remove_dir(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static void
test_record(void **state)
{
	struct attest_record r = { .host = "host1",
		.ek = { 1, 2, 3 },
		.ak_name = { 0, 11, 5 },
		.ak_name_len = 34,
		.state = ATTEST_STATE_QUARANTINED,
		.epoch = UINT64_C(1) << 40,
		.clock_known = 1,
		.clock = { .clock = 123456, .reset_count = 7, .restart_count = 2, .safe = 1 } };
	struct attest_record got;
	struct pk_diag diag;
	char path[128];
	FILE *f;

	(void)state;
	assert_int_equal(attest_record_load(dir, &got, &diag), -ENOENT);
	assert_int_equal(attest_record_save(dir, &r, &diag), 0);
	assert_int_equal(attest_record_load(dir, &got, &diag), 0);
	assert_string_equal(got.host, "host1");
	assert_memory_equal(got.ek, r.ek, 32);
	assert_int_equal(got.ak_name_len, 34);
	assert_memory_equal(got.ak_name, r.ak_name, 34);
	assert_int_equal(got.state, ATTEST_STATE_QUARANTINED);
	assert_int_equal(got.epoch, r.epoch);
	assert_int_equal(got.clock.reset_count, 7);
	/* Damaged: nothing is believed of anybody. */
	snprintf(path, sizeof(path), "%s/host.json", dir);
	f = fopen(path, "w");
	fputs("{\"version\":1,\"host\":\"host1\",\"state\":\"trusted\"", f);
	fclose(f);
	assert_int_equal(attest_record_load(dir, &got, &diag), -EBADMSG);
}

static void
count_lines(void *arg, uint64_t i, const char *line)
{
	json_t *o = json_loads(line, 0, NULL);

	assert_non_null(o);
	assert_int_equal(i, (*(unsigned int *)arg)++);
	if (i == 1) {
		assert_string_equal(json_string_value(json_object_get(o, "to")), "quarantined");
		assert_string_equal(json_string_value(json_object_get(
		                        json_array_get(json_object_get(o, "reasons"), 0), "code")),
		    "IMA_UNKNOWN_FILE");
	}
	json_decref(o);
}

/* A chain (lib/chain.h) that goes on over a restart, whatever is noted. */
static void
test_audit(void **state)
{
	struct attest_transition t = { ATTEST_STATE_TRUSTED, ATTEST_STATE_QUARANTINED,
		ATTEST_STEP_BAD, 4 };
	struct attest_reasons *r = calloc(1, sizeof(*r));
	struct pk_chain_state s;
	struct pk_chain *a;
	struct pk_diag diag;
	unsigned int n = 0;
	char path[128];

	(void)state;
	assert_int_equal(attest_audit_open(&a, dir, &diag), 0);
	attest_audit_note(a, "started", "", NULL, NULL);
	/* As many and as long as reasons can be, and all that JSON has to escape. */
	for (unsigned int i = 0; i < ATTEST_REASONS_MAX; i++)
		attest_reason(r, ATTEST_IMA_UNKNOWN_FILE, "%0400d", 0);
	for (unsigned int i = 0; i < r->nb; i++)
		memset(r->reason[i].text, '"', ATTEST_REASON_TEXT - 1);
	attest_audit_note(a, "bad evidence", "host1", &t, r);
	pk_chain_close(a);
	assert_int_equal(attest_audit_open(&a, dir, &diag), 0);
	attest_audit_note(a, "started", "host1", NULL, NULL);
	pk_chain_close(a);
	snprintf(path, sizeof(path), "%s/audit.log", dir);
	assert_int_equal(pk_chain_check(path, NULL, &s, count_lines, &n, &diag), 0);
	assert_false(s.broken);
	assert_int_equal(n, 3);
	free(r);
}

/* The list is read as it grows; an entry that is being written is left for later. */
static void
test_ima_file(void **state)
{
	struct attest_ima_file ima = { 0 };
	/* PCR 10, a digest, "ima-ng", then 55 bytes: sha256 of a file, its name. */
	static const char head[] = "\6\0\0\0ima-ng\x37\0\0\0\x28\0\0\0sha256:";
	static const char name[] = "\7\0\0\0/bin/a";
	uint8_t entry[93] = { 10 };
	const size_t len = sizeof(entry);
	struct pk_diag diag;
	char path[128];
	FILE *f;

	(void)state;
	memcpy(entry + 24, head, sizeof(head));
	memset(entry + 24 + sizeof(head), 7, 32);
	memcpy(entry + len - sizeof(name), name, sizeof(name));
	snprintf(path, sizeof(path), "%s/ima", dir);
	assert_int_equal(attest_ima_file_read(&ima, path, &diag), -ENOENT);
	f = fopen(path, "w");
	fwrite(entry, 1, len, f);
	fwrite(entry, 1, len / 2, f);
	fflush(f);
	assert_int_equal(attest_ima_file_read(&ima, path, &diag), 0);
	assert_int_equal(ima.entries, 1);
	assert_int_equal(attest_ima_file_from(&ima, 0).len, len);
	assert_int_equal(attest_ima_file_from(&ima, 1).len, 0);
	assert_non_null(attest_ima_file_from(&ima, 1).at);
	fwrite(entry + len / 2, 1, len - len / 2, f);
	fwrite(entry, 1, len, f);
	fclose(f);
	assert_int_equal(attest_ima_file_read(&ima, path, &diag), 0);
	assert_int_equal(ima.entries, 3);
	assert_int_equal(attest_ima_file_from(&ima, 1).len, 2 * len);
	/* More than there is: the DPU knows of another boot; it gets all, and sees for itself. */
	assert_int_equal(attest_ima_file_from(&ima, 9).len, 3 * len);
	/* Another boot. */
	entry[4] = 1;
	f = fopen(path, "w");
	fwrite(entry, 1, len, f);
	fclose(f);
	assert_int_equal(attest_ima_file_read(&ima, path, &diag), 0);
	assert_int_equal(ima.entries, 1);
	attest_ima_file_fini(&ima);
}

/* ---- results -------------------------------------------------------------------------------------- */

static size_t
unbase64(const char *text, size_t len, uint8_t *out)
{
	static const char digits[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	size_t n = 0, bits = 0;
	uint32_t v = 0;

	for (size_t i = 0; i < len; i++) {
		const char *at = strchr(digits, text[i]);

		assert_non_null(at);
		v = v << 6 | (uint32_t)(at - digits);
		if ((bits += 6) >= 8)
			out[n++] = (uint8_t)(v >> (bits -= 8));
	}
	return n;
}

static void
test_ear(void **state)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256"),
	         *other = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
	struct attest_reasons *r = calloc(1, sizeof(*r));
	uint8_t nonce[32] = { 9 }, body[4096], raw[64], der[80], *p = der;
	struct attest_ear e = { .dpu = "dpu1",
		.host = "host1",
		.state = ATTEST_STATE_QUARANTINED,
		.epoch = 3,
		.nonce = nonce,
		.reasons = r,
		.judged = 1,
		.iat = 1000,
		.exp = 1010 };
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	ECDSA_SIG *sig = ECDSA_SIG_new();
	struct pk_diag diag;
	char *token, *dot, *dot2;
	const json_t *host;
	json_t *o;
	int der_len;

	(void)state;
	attest_reason(r, ATTEST_IMA_UNKNOWN_FILE, "x");
	token = attest_ear_make(&e, key, &diag);
	assert_non_null(token);
	dot = strchr(token, '.');
	dot2 = strchr(dot + 1, '.');
	assert_int_equal(unbase64(dot2 + 1, strlen(dot2 + 1), raw), 64);
	ECDSA_SIG_set0(sig, BN_bin2bn(raw, 32, NULL), BN_bin2bn(raw + 32, 32, NULL));
	der_len = i2d_ECDSA_SIG(sig, &p);
	assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key), 1);
	assert_int_equal(
	    EVP_DigestVerify(ctx, der, (size_t)der_len, (uint8_t *)token, (size_t)(dot2 - token)),
	    1);
	o = json_loadb((char *)body, unbase64(dot + 1, (size_t)(dot2 - dot - 1), body), 0, NULL);
	assert_non_null(o);
	host = json_object_get(json_object_get(o, "submods"), "host1");
	assert_string_equal(
	    json_string_value(json_object_get(host, "ear.status")), "contraindicated");
	assert_int_equal(json_integer_value(json_object_get(
	                     json_object_get(host, "ear.trustworthiness-vector"), "executables")),
	    96);
	assert_int_equal(json_integer_value(json_object_get(o, "exp")), 1010);
	assert_null(attest_ear_make(&e, other, &diag));
	json_decref(o);
	free(token);
	free(r);
	ECDSA_SIG_free(sig);
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	EVP_PKEY_free(other);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_message),
		cmocka_unit_test(test_message_bad),
		cmocka_unit_test(test_message_order),
		cmocka_unit_test(test_selection),
		cmocka_unit_test(test_qualifying),
		cmocka_unit_test(test_machine),
		cmocka_unit_test(test_machine_by_hand),
		cmocka_unit_test(test_machine_random),
		cmocka_unit_test_setup_teardown(test_record, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_audit, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_ima_file, make_dir, remove_dir),
		cmocka_unit_test(test_ear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
