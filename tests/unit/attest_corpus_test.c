/*
 * The training corpus of attestation data, made by others: every log, list, quote and certificate has
 * to be judged as its manifest says.  It lies outside the tree: PICKET_CORPORA, or ../shared/corpora
 * beside the sources.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "attest/appraise.h"
#include "tests/unit/corpora.h"
#include "tests/unit/test.h"

static char base[2048];

static int
is_there(const char *what)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", base, what);
	return access(path, R_OK) == 0;
}

static uint8_t *
load(const char *dir, const char *name, size_t *len)
{
	char path[4096];
	uint8_t *bytes = malloc(4 << 20);
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "rb");
	if (f == NULL || bytes == NULL) {
		free(bytes);
		if (f != NULL)
			fclose(f);
		*len = 0;
		return NULL;
	}
	*len = fread(bytes, 1, 4 << 20, f);
	fclose(f);
	/* Exactly as long as it is, so that a sanitizer sees the first byte read beyond. */
	return realloc(bytes, *len > 0 ? *len : 1);
}

static json_t *
load_json(const char *dir, const char *name)
{
	size_t len;
	uint8_t *bytes = load(dir, name, &len);
	json_t *root = bytes != NULL ? json_loadb((char *)bytes, len, 0, NULL) : NULL;

	free(bytes);
	return root;
}

static const char *
text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "";
}

static void
report(const char *what, unsigned int good, unsigned int all)
{
	print_message("# %s: %u of %u\n", what, good, all);
	assert_int_equal(good, all);
}

/* ---- event logs ------------------------------------------------------------------------------- */

static int
replay_as_said(const struct attest_eventlog *log, const json_t *replay)
{
	const json_t *pcrs, *value;
	const char *bank, *key;
	struct attest_bank got;

	json_object_foreach((json_t *)replay, bank, pcrs)
	{
		uint32_t mask = 0;
		uint16_t alg = attest_alg_find(bank, strlen(bank));

		if (attest_eventlog_replay(log, alg, &got) < 0)
			return 0;
		json_object_foreach((json_t *)pcrs, key, value)
		{
			unsigned int pcr = (unsigned int)atoi(key);
			char hex[2 * ATTEST_DIGEST_MAX + 1];

			attest_hex(got.value[pcr], attest_alg_size(alg), hex);
			if (strcmp(hex, json_string_value(value)) != 0)
				return 0;
			mask |= 1U << pcr;
		}
		if (mask != got.mask)
			return 0;
	}
	return 1;
}

/* The listing of tpm2_eventlog: as many events, of the same PCR, type, size and digests. */
static int
listed_as_said(const struct attest_eventlog *log, const char *dir, const char *file)
{
	char name[512], *line, *save = NULL;
	size_t len;
	uint8_t *yaml;
	long n = -1, bad = 0;

	snprintf(name, sizeof(name), "%s.yaml", file);
	if ((yaml = load(dir, name, &len)) == NULL)
		return 1;
	yaml = realloc(yaml, len + 1);
	yaml[len] = '\0';
	for (line = strtok_r((char *)yaml, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save)) {
		const struct attest_event *e;
		char word[160];
		unsigned long v;
		int found = 0;

		if (strncmp(line, "pcrs:", 5) == 0)
			break;
		if (strncmp(line, "  PCRIndex:", 11) == 0)
			n++;
		if (n < 0)
			continue;
		if (n >= (long)log->nb_events)
			break;
		e = &log->event[n];
		if (sscanf(line, "  PCRIndex: %lu", &v) == 1)
			bad += v != e->pcr;
		else if (sscanf(line, "  EventSize: %lu", &v) == 1)
			bad += v != e->data.len;
		else if (sscanf(line, "  EventType: EV_%150s", word + 3) == 1) {
			memcpy(word, "EV_", 3);
			bad += attest_event_name(e->type) == NULL ||
			    strcmp(word, attest_event_name(e->type)) != 0;
		} else if (strncmp(line, "    Digest: \"", 13) == 0) {
			for (unsigned int b = 0; b < log->nb_banks; b++) {
				char hex[2 * 128 + 1];

				if (e->digest[b] == NULL)
					continue;
				attest_hex(e->digest[b], log->bank[b].size, hex);
				found |= strncmp(line + 13, hex, strlen(hex)) == 0;
			}
			bad += !found;
		}
	}
	free(yaml);
	return bad == 0 && n + 1 == (long)log->nb_events;
}

static void
test_event_logs(void **state)
{
	unsigned int good = 0, all = 0;
	char dir[4096];
	json_t *manifest, *item;
	size_t i;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/eventlog", base);
	manifest = load_json(dir, "MANIFEST.json");
	json_array_foreach(manifest, i, item)
	{
		const char *file = text(item, "file");
		int want_ok = strcmp(text(item, "parse"), "ok") == 0, ok = 1, rc, free_choice;
		struct attest_eventlog *log;
		struct pk_diag why = { .text = "" };
		size_t len;
		uint8_t *bytes = load(dir, file, &len);

		all++;
		rc = attest_eventlog_parse(&log, bytes, len, &why);
		/* Where the oracle crashed, and for one log broken on purpose, either answer is fine. */
		free_choice = json_integer_value(json_object_get(
		                  json_object_get(item, "tpm2_eventlog_5.4"), "rc")) == -11 ||
		    strstr(file, "specid-vendordata") != NULL;
		if (rc < 0) {
			ok = !want_ok || free_choice;
		} else {
			ok = want_ok || free_choice;
			if (want_ok) {
				const json_t *algs = json_object_get(item, "algs");

				ok = json_integer_value(json_object_get(item, "events")) ==
				        log->nb_events &&
				    strcmp(text(item, "format"),
				        log->format == ATTEST_EVENTLOG_SHA1
				            ? "sha1-tcg12"
				            : "crypto-agile") == 0 &&
				    json_array_size(algs) == log->nb_banks &&
				    replay_as_said(log, json_object_get(item, "replay")) &&
				    listed_as_said(log, dir, file);
			}
			attest_eventlog_destroy(log);
		}
		if (!ok)
			print_message("# event log %s: wrong (%s)\n", file, why.text);
		good += (unsigned int)ok;
		free(bytes);
	}
	json_decref(manifest);
	report("event logs", good, all);
}

/* ---- IMA -------------------------------------------------------------------------------------- */

/* Returns whether the list is accepted. */
static int
judge_list(const uint8_t *bytes, size_t len, uint16_t alg, const uint8_t *start,
    const uint8_t *want, struct attest_ima_policy *policy, struct attest_ima_state *st,
    struct attest_reasons *r)
{
	uint32_t used, trailing;

	memset(r, 0, sizeof(*r));
	attest_ima_state_init(st, alg);
	if (start != NULL) {
		memcpy(st->value, start, attest_alg_size(alg));
		/* Not the first piece, unless it starts from zero. */
		for (size_t i = 0; i < attest_alg_size(alg); i++)
			st->entries |= start[i] != 0;
	}
	attest_appraise_ima(
	    (struct attest_bytes){ bytes, len }, st, want, NULL, policy, NULL, &used, &trailing, r);
	return r->nb == 0;
}

static void
test_ima_lists(void **state)
{
	struct attest_reasons *r = calloc(1, sizeof(*r));
	unsigned int good = 0, all = 0;
	struct dirent *entry;
	char dir[4096];
	DIR *d;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/ima", base);
	d = opendir(dir);
	while ((entry = readdir(d)) != NULL) {
		size_t n = strlen(entry->d_name), i;
		json_t *cases, *c;

		if (n < 11 || strcmp(entry->d_name + n - 11, "-cases.json") != 0 ||
		    strncmp(entry->d_name, "keylime", 7) == 0)
			continue;
		cases = load_json(dir, entry->d_name);
		json_array_foreach(cases, i, c)
		{
			struct attest_ima_policy *policy = NULL;
			struct attest_ima_state st;
			struct pk_diag why;
			uint8_t want[32], *list, *bytes;
			size_t len, policy_len;
			int accepted = 1;

			all++;
			list = load(dir, text(c, "list"), &len);
			assert_non_null(list);
			assert_int_equal(attest_unhex(text(c, "pcr10_sha256"), 64, want, 32), 0);
			if (json_is_string(json_object_get(c, "policy"))) {
				bytes = load(dir, text(c, "policy"), &policy_len);
				assert_non_null(bytes);
				accepted =
				    attest_ima_policy_parse(&policy, bytes, policy_len, &why) == 0;
				free(bytes);
			}
			accepted = accepted &&
			    judge_list(list, len, ATTEST_ALG_SHA256, NULL, want, policy, &st, r);
			if (accepted == (strcmp(text(c, "expect"), "accept") == 0))
				good++;
			else
				print_message("# IMA %s: %s (%s)\n", text(c, "id"),
				    accepted ? "accepted" : "rejected",
				    r->nb > 0 ? r->reason[0].text : "");
			attest_ima_policy_destroy(policy);
			free(list);
		}
		json_decref(cases);
	}
	closedir(d);
	free(r);
	report("IMA lists", good, all);
}

static void
test_ima_keylime(void **state)
{
	struct attest_reasons *r = calloc(1, sizeof(*r));
	unsigned int good = 0, all = 0;
	char dir[4096];
	json_t *cases, *c;
	size_t i;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/ima", base);
	cases = load_json(dir, "keylime-unit-cases.json");
	json_array_foreach(cases, i, c)
	{
		const json_t *rule = json_object_get(c, "policy"), *lines, *line, *expect;
		const json_t *keys = json_object_get(c, "keyrings");
		uint16_t alg = attest_alg_find(text(c, "pcr_bank"), strlen(text(c, "pcr_bank")));
		size_t size = attest_alg_size(alg), len = 0, k;
		uint8_t start[ATTEST_DIGEST_MAX], want[ATTEST_DIGEST_MAX];
		struct attest_ima_policy *policy = NULL;
		struct attest_ima_state st = { 0 };
		struct pk_diag why = { .text = "" };
		char *list = malloc(1 << 20), hex[2 * ATTEST_DIGEST_MAX + 1] = "";
		int accepted = 1, has_start, has_want, ok;

		all++;
		lines = json_object_get(c, "lines");
		json_array_foreach(lines, k, line) if (json_string_length(line) > 0 &&
		    strcmp(json_string_value(line), "\n") != 0)
		    len += (size_t)sprintf(list + len, "%s%s", json_string_value(line),
		        strchr(json_string_value(line), '\n') != NULL ? "" : "\n");
		has_start = attest_unhex(text(c, "start_pcr10"), strlen(text(c, "start_pcr10")),
		                start, size) == 0;
		has_want = attest_unhex(text(c, "pcrval"), strlen(text(c, "pcrval")), want, size) ==
		    0;
		if (json_is_object(rule) || (keys != NULL && !json_is_null(keys))) {
			json_t *p = json_is_object(rule) ? json_deep_copy(rule) : json_object();

			if (keys != NULL && !json_is_null(keys))
				json_object_set(p, "verification-keys", (json_t *)keys);
			accepted = attest_ima_policy_load(&policy, p, &why) == 0;
			json_decref(p);
		}
		accepted = accepted &&
		    judge_list((uint8_t *)list, len, alg, has_start ? start : NULL,
		        has_want ? want : NULL, policy, &st, r);
		expect = json_object_get(c, "expect");
		attest_hex(st.value, size, hex);
		ok = accepted == json_is_true(json_object_get(expect, "pass")) &&
		    (policy == NULL || strcmp(hex, text(expect, "final_pcr10")) == 0);
		if (!ok)
			print_message("# IMA %s: %s, PCR 10 %s (%s %s)\n", text(c, "id"),
			    accepted ? "accepted" : "rejected", hex, why.text,
			    r->nb > 0 ? r->reason[0].text : "");
		good += (unsigned int)ok;
		attest_ima_policy_destroy(policy);
		free(list);
	}
	json_decref(cases);
	free(r);
	report("IMA cases of Keylime's", good, all);
}

static void
test_ima_tss(void **state)
{
	unsigned int good = 0, all = 0;
	char dir[4096];
	json_t *cases, *c;
	size_t i;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/ima", base);
	cases = load_json(dir, "tss-binary-expected.json");
	json_array_foreach(cases, i, c)
	{
		const json_t *digests = json_object_get(c, "template_digests");
		json_t *named = json_object_get(c, "upstream_expected_prefix");
		struct attest_ima_reader rd;
		struct attest_ima_entry e;
		struct pk_diag why = { .text = "" };
		size_t len, n = 0, violations = 0;
		uint8_t *list = load(dir, text(c, "file"), &len);
		int rc, ok = 1;

		all++;
		assert_non_null(list);
		assert_int_equal(attest_ima_init(&rd, list, len, &why), 0);
		while ((rc = attest_ima_next(&rd, &e, &why)) > 0) {
			const char *name = text(json_array_get(named, n), "name");
			char hex[2 * ATTEST_DIGEST_MAX + 1];

			attest_hex(e.shown.at, e.shown.len, hex);
			ok &= strcmp(hex, json_string_value(json_array_get(digests, n))) == 0;
			ok &= strcmp(text(c, "template"), attest_ima_template_name(e.template)) ==
			    0;
			ok &= name[0] == '\0' ||
			    (strlen(name) == e.path.len &&
			        memcmp(name, e.path.at, e.path.len) == 0);
			ok &= attest_ima_digest_ok(NULL, &e);
			violations += (size_t)e.violation;
			n++;
		}
		ok &= (rc < 0) == (strncmp(text(c, "parse"), "error", 5) == 0);
		ok &= violations == (size_t)json_integer_value(json_object_get(c, "violations"));
		/* The cut-off last entry of a list that ends early may be counted or not. */
		ok &= n == json_array_size(digests) ||
		    (rc < 0 && n + 1 == json_array_size(digests));
		if (!ok)
			print_message("# IMA %s: %zu entries, %s\n", text(c, "file"), n, why.text);
		good += (unsigned int)ok;
		attest_ima_fini(&rd);
		free(list);
	}
	json_decref(cases);
	report("binary IMA lists", good, all);
}

/* ASCII and binary of the same moment are the same list, and lead to the PCR in every bank. */
static void
test_ima_twins(void **state)
{
	unsigned int good = 0, all = 0;
	struct dirent *entry, *vm;
	char dir[4096];
	DIR *d, *top;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/ima", base);
	top = opendir(dir);
	while ((vm = readdir(top)) != NULL) {
		if (strncmp(vm->d_name, "vm", 2) != 0 || strchr(vm->d_name, '.') != NULL)
			continue;
		snprintf(dir, sizeof(dir), "%s/ima/%s", base, vm->d_name);
		d = opendir(dir);
		while ((entry = readdir(d)) != NULL) {
			size_t n = strlen(entry->d_name), len[2];
			struct attest_ima_reader rd[2];
			struct attest_ima_entry e[2];
			struct pk_diag why;
			char other[300];
			uint8_t *list[2];
			int ok = 1, rc[2];

			if (n < 5 || strcmp(entry->d_name + n - 4, ".bin") != 0)
				continue;
			snprintf(other, sizeof(other), "%.*s.ascii", (int)n - 4, entry->d_name);
			list[0] = load(dir, entry->d_name, &len[0]);
			list[1] = load(dir, other, &len[1]);
			all++;
			for (int i = 0; i < 2; i++)
				assert_int_equal(attest_ima_init(&rd[i], list[i], len[i], &why), 0);
			do {
				for (int i = 0; i < 2; i++)
					rc[i] = attest_ima_next(&rd[i], &e[i], &why);
				ok &= rc[0] == rc[1] && rc[0] >= 0;
				if (ok && rc[0] > 0)
					ok &= e[0].data.len == e[1].data.len &&
					    memcmp(e[0].data.at, e[1].data.at, e[0].data.len) ==
					        0 &&
					    attest_ima_digest_ok(NULL, &e[0]);
			} while (ok && rc[0] > 0);
			good += (unsigned int)ok;
			for (int i = 0; i < 2; i++) {
				attest_ima_fini(&rd[i]);
				free(list[i]);
			}
		}
		closedir(d);
	}
	closedir(top);
	report("binary lists equal to ASCII ones", good, all);
}

/* ---- quotes ----------------------------------------------------------------------------------- */

/* The public area beside a PEM file: ak.pem -> ak.tpm2b or ak.pub. */
static uint8_t *
load_ak(const char *dir, const char *pem, size_t *len)
{
	static const char *const ends[] = { "tpm2b", "pub" };
	char name[512];

	for (size_t i = 0; i < PK_COUNT(ends); i++) {
		const char *dot = strrchr(pem, '.');
		uint8_t *bytes;

		snprintf(name, sizeof(name), "%.*s.%s",
		    (int)(dot != NULL ? dot - pem : (long)strlen(pem)), pem, ends[i]);
		if ((bytes = load(dir, name, len)) != NULL)
			return bytes;
	}
	return NULL;
}

static void
relabel(struct attest_pcrs *pcrs, const json_t *map)
{
	const json_t *to;
	const char *from;

	json_object_foreach((json_t *)map, from, to) for (unsigned int b = 0; b < pcrs->nb_banks;
	                                                  b++)
	{
		unsigned int i = (unsigned int)atoi(from),
		             k = (unsigned int)atoi(json_string_value(to));

		memcpy(pcrs->bank[b].value[k], pcrs->bank[b].value[i], ATTEST_DIGEST_MAX);
		pcrs->bank[b].mask |= 1U << k;
		pcrs->bank[b].mask &= ~(1U << i);
	}
}

/* One step: `c` may take what it lacks from `outer`.  Returns whether it is accepted. */
static int
judge_quote(const char *dir, const json_t *c, const json_t *outer, struct attest_clock *clock,
    int *has_clock, struct attest_reasons *r)
{
	const json_t *require = json_object_get(c, "require"), *list, *item;
	struct attest_challenge challenge = { .last = *has_clock ? clock : NULL };
	struct attest_pcrs *pcrs = calloc(1, sizeof(*pcrs));
	const char *nonce = text(c, "nonce"), *ak_name = text(c, "ak"), *bank;
	const char *sub = json_is_string(c) ? json_string_value(c) : text(c, "dir");
	uint8_t *message, *sig, *values, *ak_bytes, raw[64];
	size_t len[4], i;
	struct attest_public ak;
	struct attest_quote quote;
	struct pk_diag why;
	char path[4096];

	memset(r, 0, sizeof(*r));
	if (json_object_get(c, "nonce") == NULL)
		nonce = text(outer, "nonce");
	if (require == NULL)
		require = json_object_get(outer, "require");
	if (ak_name[0] == '\0')
		ak_name = text(outer, "ak");
	snprintf(path, sizeof(path), "%s/%s", dir, sub);
	message = load(path, "quote.msg", &len[0]);
	sig = load(path, "quote.sig", &len[1]);
	/* pcrs.json was read a moment later, when PCR 10 had moved on. */
	if ((values = load(path, "quote.pcrs", &len[2])) == NULL)
		values = load(path, "pcrs.json", &len[2]);
	ak_bytes = load_ak(dir, ak_name, &len[3]);
	if (ak_bytes == NULL || attest_public_parse(&ak, ak_bytes, len[3], &why) < 0) {
		attest_reason(r, ATTEST_AK_MALFORMED, "no public area of %s", ak_name);
	} else {
		challenge.nonce = (struct attest_bytes){ raw, strlen(nonce) / 2 };
		assert_int_equal(attest_unhex(nonce, strlen(nonce), raw, strlen(nonce) / 2), 0);
		json_object_foreach((json_t *)require, bank, list)
		{
			unsigned int n = challenge.require.nb_banks++;

			challenge.require.bank[n].alg = attest_alg_find(bank, strlen(bank));
			json_array_foreach(list, i, item) challenge.require.bank[n].mask |= 1U
			    << json_integer_value(item);
		}
		if (values == NULL || attest_pcrs_parse(pcrs, values, len[2], &why) < 0)
			attest_reason(r, ATTEST_PCR_VALUES_MALFORMED, "%s", why.text);
		relabel(pcrs, json_object_get(c, "relabel"));
		attest_ak_check(&ak, r);
		attest_quote_check((struct attest_bytes){ message, len[0] },
		    (struct attest_bytes){ sig, len[1] }, &ak, &challenge, pcrs, &quote, r);
		if (r->nb == 0) {
			*clock = quote.attest.clock;
			*has_clock = 1;
		}
	}
	free(message);
	free(sig);
	free(values);
	free(ak_bytes);
	free(pcrs);
	return r->nb == 0;
}

static void
test_quotes(void **state)
{
	struct attest_reasons *r = calloc(1, sizeof(*r));
	unsigned int good = 0, all = 0;
	struct dirent *vm;
	char dir[4096];
	DIR *top;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/quote", base);
	top = opendir(dir);
	while ((vm = readdir(top)) != NULL) {
		json_t *cases, *c, *step;
		size_t i, k;

		snprintf(dir, sizeof(dir), "%s/quote/%s", base, vm->d_name);
		if (vm->d_name[0] == '.' || (cases = load_json(dir, "cases.json")) == NULL)
			continue;
		json_array_foreach(cases, i, c)
		{
			json_t *sequence = json_object_get(c, "sequence");
			struct attest_clock clock = { 0 };
			int has_clock = 0, accepted = 1, ok = 1;

			all++;
			if (sequence == NULL)
				sequence = json_object_get(c, "steps");
			if (!json_is_array(sequence))
				accepted = judge_quote(dir, c, c, &clock, &has_clock, r);
			json_array_foreach(sequence, k, step)
			{
				accepted = judge_quote(dir, step, c, &clock, &has_clock, r);
				if (json_object_get(step, "expect") != NULL)
					ok &= accepted ==
					    (strcmp(text(step, "expect"), "accept") == 0);
			}
			if (json_object_get(c, "expect") != NULL)
				ok &= accepted == (strcmp(text(c, "expect"), "accept") == 0);
			if (!ok)
				print_message("# quote %s: %s (%s)\n", text(c, "id"),
				    accepted ? "accepted" : "rejected",
				    r->nb > 0 ? r->reason[0].text : "");
			good += (unsigned int)ok;
		}
		json_decref(cases);
	}
	closedir(top);
	free(r);
	report("quotes", good, all);
}

/* ---- EK certificates -------------------------------------------------------------------------- */

static void
test_ek(void **state)
{
	struct attest_reasons *r = calloc(1, sizeof(*r));
	unsigned int good = 0, all = 0;
	struct dirent *vm;
	char dir[4096];
	DIR *top;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/ek", base);
	top = opendir(dir);
	while ((vm = readdir(top)) != NULL) {
		struct attest_roots *roots = NULL;
		struct attest_public ek;
		struct pk_diag why;
		uint8_t *cert, *ecc, *pub, *root, *chain;
		size_t len[5];

		snprintf(dir, sizeof(dir), "%s/ek/%s", base, vm->d_name);
		if (vm->d_name[0] == '.' || (pub = load(dir, "ek.pub", &len[0])) == NULL)
			continue;
		cert = load(dir, "ek-rsa-cert.der", &len[1]);
		ecc = load(dir, "ek-ecc384-cert.der", &len[2]);
		root = load(dir, "swtpm-localca-rootca-cert.pem", &len[3]);
		chain = load(dir, "issuercert.pem", &len[4]);
		assert_int_equal(attest_public_parse(&ek, pub, len[0], &why), 0);
		assert_int_equal(attest_roots_parse(&roots, root, len[3], &why), 0);
		memset(r, 0, sizeof(*r));
		attest_ek_check((struct attest_bytes){ cert, len[1] },
		    (struct attest_bytes){ chain, len[4] }, &ek, roots, NULL, 0, 1800000000, r);
		all++;
		good += r->nb == 0;
		if (r->nb > 0)
			print_message("# EK %s: %s\n", vm->d_name, r->reason[0].text);
		/* The other certificate of the same TPM is for the other key. */
		memset(r, 0, sizeof(*r));
		attest_ek_check((struct attest_bytes){ ecc, len[2] },
		    (struct attest_bytes){ chain, len[4] }, &ek, roots, NULL, 0, 1800000000, r);
		all++;
		good += (unsigned int)attest_reasons_have(r, ATTEST_EK_KEY_MISMATCH);
		/* Without the intermediate there is no chain. */
		memset(r, 0, sizeof(*r));
		attest_ek_check((struct attest_bytes){ cert, len[1] },
		    (struct attest_bytes){ NULL, 0 }, &ek, roots, NULL, 0, 1800000000, r);
		all++;
		good += (unsigned int)attest_reasons_have(r, ATTEST_EK_CERT_UNTRUSTED);
		attest_roots_destroy(roots);
		free(cert);
		free(ecc);
		free(pub);
		free(root);
		free(chain);
	}
	closedir(top);
	free(r);
	report("EK certificates", good, all);
}

/* ---- whole evidence --------------------------------------------------------------------------- */

enum {
	QUOTE,
	SIG,
	AK,
	VALUES,
	LOG,
	LIST,
	NAME,
	SECRET,
	BACK,
	NB_FILES
};

static enum attest_verdict
appraise(const uint8_t *const *file, const size_t *len, const struct attest_reference *ref,
    const uint8_t *nonce, struct attest_result *res)
{
	struct attest_evidence ev = {
		.quote = { file[QUOTE], len[QUOTE] },
		.signature = { file[SIG], len[SIG] },
		.ak_public = { file[AK], len[AK] },
		.pcrs = { file[VALUES], len[VALUES] },
		.eventlog = { file[LOG], len[LOG] },
		.ima = { file[LIST], len[LIST] },
		.ak_name = { file[NAME], len[NAME] },
		.secret = { file[SECRET], len[SECRET] },
		.activated = { file[BACK], len[BACK] },
	};

	attest_appraise(&ev, ref, (struct attest_bytes){ nonce, 32 }, NULL, NULL, 1800000000, res);
	return res->verdict;
}

/* Real boots are trusted; one bit changed in what is signed, or in a file's absence, and they are not. */
static void
test_samples(void **state)
{
	static const char *const names[NB_FILES] = { "quote.msg", "quote.sig", "ak.pub",
		"quote.pcrs", "eventlog.bin", "ima.bin", "ak.name", "cred.secret",
		"activated.bin" };
	struct attest_result *res = calloc(1, sizeof(*res));
	unsigned int good = 0, all = 0;
	struct dirent *entry;
	char dir[4096];
	DIR *top;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/../../samples/attest", base);
	top = opendir(dir);
	while ((entry = readdir(top)) != NULL) {
		struct attest_reference *ref;
		uint8_t *file[NB_FILES], *golden, *hex, nonce[32];
		size_t len[NB_FILES], n, hex_len;
		struct pk_diag why;

		snprintf(dir, sizeof(dir), "%s/../../samples/attest/%s", base, entry->d_name);
		if (entry->d_name[0] == '.' || (golden = load(dir, "golden.json", &n)) == NULL)
			continue;
		assert_int_equal(attest_reference_parse(&ref, golden, n, NULL, NULL, &why), 0);
		hex = load(dir, "nonce.hex", &hex_len);
		assert_int_equal(attest_unhex((char *)hex, 64, nonce, 32), 0);
		for (int i = 0; i < NB_FILES; i++)
			file[i] = load(dir, names[i], &len[i]);
		all++;
		good += appraise((const uint8_t *const *)file, len, ref, nonce, res) ==
		    ATTEST_TRUSTED;
		if (res->reasons.nb > 0)
			print_message(
			    "# sample %s: %s\n", entry->d_name, res->reasons.reason[0].text);
		/* Every byte of what is signed, signs, or is hashed into either. */
		for (int i = QUOTE; i <= AK; i++)
			for (size_t k = 0; k < len[i]; k += 3) {
				file[i][k] ^= 0x10;
				all++;
				good += appraise((const uint8_t *const *)file, len, ref, nonce,
				            res) == ATTEST_REJECTED;
				file[i][k] ^= 0x10;
			}
		/* Every length of the logs but the whole, and each file missing. */
		for (int i = LOG; i <= LIST; i++)
			for (size_t whole = len[i], cut = 1; cut < 200 && cut < whole; cut += 7) {
				len[i] = whole - cut;
				all++;
				good += appraise((const uint8_t *const *)file, len, ref, nonce,
				            res) == ATTEST_REJECTED;
				len[i] = whole;
			}
		for (int i = 0; i < NB_FILES; i++) {
			uint8_t *kept = file[i];
			size_t kept_len = len[i];

			if (i == NAME)
				continue;
			file[i] = NULL;
			len[i] = 0;
			all++;
			good += appraise((const uint8_t *const *)file, len, ref, nonce, res) ==
			    ATTEST_REJECTED;
			file[i] = kept;
			len[i] = kept_len;
		}
		for (int i = 0; i < NB_FILES; i++)
			free(file[i]);
		attest_reference_destroy(ref);
		free(golden);
		free(hex);
	}
	closedir(top);
	free(res);
	report("whole evidence, good and changed", good, all);
}

int
main(void)
{
	static const struct {
		const char *needs;
		struct CMUnitTest test;
	} all[] = {
		{ "eventlog/MANIFEST.json", cmocka_unit_test(test_event_logs) },
		{ "ima", cmocka_unit_test(test_ima_lists) },
		{ "ima/keylime-unit-cases.json", cmocka_unit_test(test_ima_keylime) },
		{ "ima/tss-binary-expected.json", cmocka_unit_test(test_ima_tss) },
		{ "ima", cmocka_unit_test(test_ima_twins) },
		{ "quote", cmocka_unit_test(test_quotes) },
		{ "ek", cmocka_unit_test(test_ek) },
		{ "../../samples/attest", cmocka_unit_test(test_samples) },
	};
	struct CMUnitTest tests[PK_COUNT(all)];
	size_t n = 0;

	(void)corpora_find("attest", base, sizeof(base));
	for (size_t i = 0; i < PK_COUNT(all); i++)
		if (is_there(all[i].needs))
			tests[n++] = all[i].test;
		else
			printf("# left out, not there: %s/%s\n", base, all[i].needs);
	if (n == 0) {
		printf("1..0 # SKIP no attestation corpus at %s; set PICKET_CORPORA\n", base);
		return 0;
	}
	return _cmocka_run_group_tests("attest_corpus", tests, n, NULL, NULL);
}
