#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "attest/appraise.h"
#include "attest/learn.h"
#include "ctl/ctl.h"

/* Attestation without a daemon: what is in a log, and whether a directory of evidence convinces. */

#define PATH_BYTES 4096

static void
print_row(json_t *row)
{
	json_dumpf(row, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
	putchar('\n');
	json_decref(row);
}

/* The whole of a file of at most `max` bytes, to be freed; or NULL with the sentence in `d`. */
static uint8_t *
read_whole(const char *path, size_t max, size_t *len, struct pk_diag *d)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t room = 65536, n = 0;
	uint8_t *bytes = fd >= 0 ? malloc(room) : NULL;
	ssize_t got = 0;

	/* Files below /sys say nothing true about their length, so read to the end. */
	while (bytes != NULL && (got = read(fd, bytes + n, room - n)) > 0) {
		n += (size_t)got;
		if (n > max)
			break;
		if (n == room) {
			uint8_t *more = realloc(bytes, room *= 2);

			if (more == NULL)
				free(bytes);
			bytes = more;
		}
	}
	if (bytes == NULL || got < 0 || n > max) {
		pk_diag_set(d, "%s: %s", path, n > max ? "too large" : strerror(errno));
		free(bytes);
		bytes = NULL;
	}
	if (fd >= 0)
		close(fd);
	*len = n;
	return bytes;
}

static json_t *
hex_string(const uint8_t *bytes, size_t len)
{
	char *text = malloc(2 * len + 1);
	json_t *out;

	if (text == NULL)
		return json_null();
	attest_hex(bytes, len, text);
	out = json_string(text);
	free(text);
	return out;
}

/* Bytes of a host as text: what is not printable ASCII becomes \xNN, and '\' itself too. */
static json_t *
safe_string(const uint8_t *bytes, size_t len)
{
	char *text = malloc(4 * len + 1), *out = text;
	json_t *s;

	if (text == NULL)
		return json_null();
	for (size_t i = 0; i < len; i++)
		if (bytes[i] >= 0x20 && bytes[i] < 0x7f && bytes[i] != '\\')
			*out++ = (char)bytes[i];
		else
			out += sprintf(out, "\\x%02x", bytes[i]);
	*out = '\0';
	s = json_string(text);
	free(text);
	return s;
}

/* ---- attest eventlog -------------------------------------------------------------------------- */

static void
add_details(json_t *row, const struct attest_event *e)
{
	struct attest_variable v;
	struct attest_image image;
	struct attest_tag tag;

	switch (e->type) {
	case ATTEST_EV_EFI_VARIABLE_DRIVER_CONFIG:
	case ATTEST_EV_EFI_VARIABLE_BOOT:
	case ATTEST_EV_EFI_VARIABLE_BOOT2:
	case ATTEST_EV_EFI_VARIABLE_AUTHORITY:
		if (attest_event_variable(e->data, &v) < 0)
			break;
		json_object_set_new(row, "variable",
		    json_pack("{s:s, s:s, s:o}", "guid", v.guid, "name", v.name, "data",
		        hex_string(v.value.at, v.value.len)));
		return;
	case ATTEST_EV_EFI_BOOT_SERVICES_APPLICATION:
	case ATTEST_EV_EFI_BOOT_SERVICES_DRIVER:
	case ATTEST_EV_EFI_RUNTIME_SERVICES_DRIVER:
		if (attest_event_image(e->data, &image) < 0)
			break;
		json_object_set_new(row, "image",
		    json_pack("{s:I, s:I, s:I, s:o}", "address", (json_int_t)image.address,
		        "length", (json_int_t)image.len, "link_address",
		        (json_int_t)image.link_address, "device_path",
		        hex_string(image.device_path.at, image.device_path.len)));
		return;
	case ATTEST_EV_EVENT_TAG:
		if (attest_event_tag(e->data, &tag) < 0)
			break;
		json_object_set_new(row, "tag",
		    json_pack("{s:I, s:o}", "id", (json_int_t)tag.id, "data",
		        safe_string(tag.data.at, tag.data.len)));
		return;
	case ATTEST_EV_IPL:
	case ATTEST_EV_ACTION:
	case ATTEST_EV_EFI_ACTION:
	case ATTEST_EV_POST_CODE:
		json_object_set_new(row, "text", safe_string(e->data.at, e->data.len));
		return;
	default:
		break;
	}
	json_object_set_new(row, "data", hex_string(e->data.at, e->data.len));
}

static json_t *
event_row(const struct attest_eventlog *log, uint32_t i)
{
	const struct attest_event *e = &log->event[i];
	const char *name = attest_event_name(e->type);
	json_t *row = json_object(), *digests = json_object();
	char number[16];

	snprintf(number, sizeof(number), "0x%x", e->type);
	for (unsigned int b = 0; b < log->nb_banks; b++) {
		enum attest_self self = attest_event_self(log, e, log->bank[b].alg);

		if (e->digest[b] == NULL)
			continue;
		json_object_set_new(digests, attest_alg_name(log->bank[b].alg),
		    hex_string(e->digest[b], log->bank[b].size));
		if (self == ATTEST_SELF_BAD)
			json_object_set_new(row, "data_is_measured", json_false());
	}
	json_object_set_new(row, "event", json_integer(i));
	json_object_set_new(row, "offset", json_integer((json_int_t)e->off));
	json_object_set_new(row, "pcr", json_integer(e->pcr));
	json_object_set_new(row, "type", json_string(name != NULL ? name : number));
	json_object_set_new(row, "digests", digests);
	json_object_set_new(row, "size", json_integer((json_int_t)e->data.len));
	add_details(row, e);
	return row;
}

static json_t *
replay_object(const struct attest_eventlog *log)
{
	struct attest_bank *bank = malloc(sizeof(*bank));
	json_t *out = json_object();

	for (unsigned int b = 0; bank != NULL && b < log->nb_banks; b++) {
		json_t *pcrs;

		if (attest_eventlog_replay(log, log->bank[b].alg, bank) < 0)
			continue;
		pcrs = json_object();
		for (unsigned int pcr = 0; pcr < ATTEST_NB_PCRS; pcr++) {
			char key[4];

			if ((bank->mask >> pcr & 1) == 0)
				continue;
			snprintf(key, sizeof(key), "%u", pcr);
			json_object_set_new(
			    pcrs, key, hex_string(bank->value[pcr], log->bank[b].size));
		}
		json_object_set_new(out, attest_alg_name(bank->alg), pcrs);
	}
	free(bank);
	return out;
}

static json_t *reasons_array(const struct attest_reasons *r);

/* What appraisal would hold against the log, judged in its best bank. */
static json_t *
findings(const struct attest_eventlog *log)
{
	struct attest_reasons *r = calloc(1, sizeof(*r));
	struct attest_boot boot;
	uint16_t alg = log->bank[0].alg;
	json_t *list;

	if (r == NULL)
		return json_null();
	for (unsigned int b = 0; b < log->nb_banks; b++)
		if (log->bank[b].alg == ATTEST_ALG_SHA256)
			alg = ATTEST_ALG_SHA256;
	attest_eventlog_check(log, alg, 0xffffff, &boot, r);
	list = reasons_array(r);
	free(r);
	return list;
}

static json_t *
log_summary(const struct attest_eventlog *log)
{
	json_t *row = json_object(), *algs = json_array();

	for (unsigned int b = 0; b < log->nb_banks; b++)
		json_array_append_new(algs, json_string(attest_alg_name(log->bank[b].alg)));
	json_object_set_new(row, "parse", json_string("ok"));
	json_object_set_new(row, "format",
	    json_string(log->format == ATTEST_EVENTLOG_SHA1 ? "sha1-tcg12" : "crypto-agile"));
	json_object_set_new(row, "algs", algs);
	json_object_set_new(row, "events", json_integer(log->nb_events));
	if (log->padding > 0)
		json_object_set_new(row, "padding", json_integer((json_int_t)log->padding));
	json_object_set_new(row, "replay", replay_object(log));
	/* Of a log alone the verdict is that it can be read; only a quote could say more. */
	json_object_set_new(row, "verdict", json_string("trusted"));
	json_object_set_new(row, "reasons", json_array());
	json_object_set_new(row, "findings", findings(log));
	return row;
}

static int
malformed(const struct ctl_context *ctx, const char *file, const struct pk_diag *why)
{
	if (ctx->json)
		print_row(json_pack("{s:s, s:s, s:[{s:s, s:s}]}", "parse", "error", "verdict",
		    "rejected", "reasons", "code", attest_code_name(ATTEST_EVENTLOG_MALFORMED),
		    "text", why->text));
	return ctl_refused(ctx, "%s: %s", file, why->text);
}

static void
print_event(const struct attest_eventlog *log, uint32_t i)
{
	const struct attest_event *e = &log->event[i];
	const char *name = attest_event_name(e->type);
	char hex[2 * ATTEST_DIGEST_MAX + 1] = "-";
	json_t *text = safe_string(e->data.at, PK_MIN(e->data.len, (size_t)48));
	unsigned int b = log->nb_banks;

	while (b-- > 0)
		if (e->digest[b] != NULL) {
			attest_hex(e->digest[b], PK_MIN((size_t)8, (size_t)log->bank[b].size), hex);
			break;
		}
	printf("%4u  pcr %-10d  %-33s  %-16s  %5zu  %s%s\n", i, (int)e->pcr,
	    name != NULL ? name : "unknown", hex, e->data.len, json_string_value(text),
	    b < log->nb_banks && attest_event_self(log, e, log->bank[b].alg) == ATTEST_SELF_BAD
	        ? "  (not what was measured)"
	        : "");
	json_decref(text);
}

static int
run_eventlog(struct ctl_context *ctx, int argc, char **argv)
{
	struct attest_eventlog *log;
	struct pk_diag why;
	uint8_t *bytes;
	size_t len;
	json_t *row, *bank, *value;
	const char *alg, *pcr;

	if (argc != 1)
		return ctl_usage(ctx, "attest eventlog takes one file");
	if ((bytes = read_whole(argv[0], ATTEST_EVENTLOG_MAX, &len, &why)) == NULL)
		return ctl_refused(ctx, "%s", why.text);
	if (attest_eventlog_parse(&log, bytes, len, &why) < 0) {
		free(bytes);
		return malformed(ctx, argv[0], &why);
	}
	for (uint32_t i = 0; i < log->nb_events; i++)
		if (ctx->json)
			print_row(event_row(log, i));
		else
			print_event(log, i);
	row = log_summary(log);
	if (ctx->json) {
		print_row(row);
	} else {
		json_object_foreach(json_object_get(row, "replay"), alg, bank) json_object_foreach(
		    bank, pcr, value) printf("%s:%s  %s\n", alg, pcr, json_string_value(value));
		json_decref(row);
	}
	attest_eventlog_destroy(log);
	free(bytes);
	return CTL_DONE;
}

/* ---- reasons ---------------------------------------------------------------------------------- */

static json_t *
reasons_array(const struct attest_reasons *r)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < r->nb; i++)
		json_array_append_new(list,
		    json_pack("{s:s, s:s}", "code", attest_code_name(r->reason[i].code), "text",
		        r->reason[i].text));
	return list;
}

static void
print_reasons(const struct attest_reasons *r)
{
	for (unsigned int i = 0; i < r->nb; i++)
		printf("  %-25s  %s\n", attest_code_name(r->reason[i].code), r->reason[i].text);
	if (r->lost > 0)
		printf("  and %u more\n", r->lost);
}

/* ---- attest ima ------------------------------------------------------------------------------- */

static json_t *
ima_row(const struct attest_ima_entry *e)
{
	json_t *row = json_object();

	json_object_set_new(row, "entry", json_integer(e->number));
	json_object_set_new(row, "offset", json_integer((json_int_t)e->off));
	json_object_set_new(row, "pcr", json_integer(e->pcr));
	json_object_set_new(row, "template", json_string(attest_ima_template_name(e->template)));
	json_object_set_new(row, "template_digest", hex_string(e->shown.at, e->shown.len));
	json_object_set_new(row, "violation", json_boolean(e->violation));
	json_object_set_new(row, "alg", json_string(e->file_alg));
	json_object_set_new(row, "digest", hex_string(e->file.at, e->file.len));
	json_object_set_new(row, "path", safe_string(e->path.at, e->path.len));
	if (e->sig.len > 0)
		json_object_set_new(row, "sig", hex_string(e->sig.at, e->sig.len));
	if (e->modsig.len > 0)
		json_object_set_new(row, "modsig", hex_string(e->modsig.at, e->modsig.len));
	if (e->buf.len > 0)
		json_object_set_new(row, "buf", hex_string(e->buf.at, e->buf.len));
	return row;
}

/* Prints the entries.  Returns 0 or -EINVAL with what is wrong with the list. */
static int
list_ima(const struct ctl_context *ctx, struct attest_bytes list, uint32_t *entries,
    uint32_t *violations, struct pk_diag *why)
{
	struct attest_ima_reader rd;
	struct attest_ima_entry e;
	char hex[17];
	int rc;

	if ((rc = attest_ima_init(&rd, list.at, list.len, why)) < 0)
		return rc;
	while ((rc = attest_ima_next(&rd, &e, why)) > 0) {
		++*entries;
		*violations += (uint32_t)e.violation;
		if (ctx->json) {
			print_row(ima_row(&e));
		} else {
			json_t *path = safe_string(e.path.at, e.path.len);

			attest_hex(e.file.at, PK_MIN(e.file.len, (size_t)8), hex);
			printf("%6u  %-10s  %s:%s  %s%s\n", e.number,
			    attest_ima_template_name(e.template), e.file_alg, hex,
			    json_string_value(path), e.violation ? "  (violation)" : "");
			json_decref(path);
		}
	}
	attest_ima_fini(&rd);
	return rc;
}

/* "sha256:hex" */
static int
read_pcr(const char *text, uint16_t *alg, uint8_t *value)
{
	const char *colon = strchr(text, ':');

	if (colon == NULL || (*alg = attest_alg_find(text, (size_t)(colon - text))) == 0)
		return -EINVAL;
	return attest_unhex(colon + 1, strlen(colon + 1), value, attest_alg_size(*alg));
}

static int
judge_ima(struct ctl_context *ctx, struct attest_bytes list, uint16_t alg, const uint8_t *want,
    const struct attest_ima_policy *policy)
{
	struct attest_reasons *r = calloc(1, sizeof(*r));
	struct attest_ima_state state;
	uint32_t entries = 0, violations = 0, used = 0, trailing = 0;
	struct pk_diag why;
	int rc, refused;
	json_t *row;

	if (r == NULL || attest_ima_state_init(&state, alg) < 0) {
		free(r);
		return ctl_refused(ctx, "this OpenSSL cannot compute %s", attest_alg_name(alg));
	}
	rc = list_ima(ctx, list, &entries, &violations, &why);
	attest_appraise_ima(list, &state, want, NULL, policy, NULL, &used, &trailing, r);
	refused = r->nb > 0;
	row = json_pack("{s:s, s:i, s:i, s:i, s:i, s:s, s:o, s:s, s:o}", "parse",
	    rc < 0 ? "error" : "ok", "entries", (int)entries, "violations", (int)violations,
	    "attested", (int)used, "trailing", (int)trailing, "bank", attest_alg_name(alg), "pcr10",
	    hex_string(state.value, attest_alg_size(alg)), "verdict",
	    refused ? "rejected" : "trusted", "reasons", reasons_array(r));
	if (ctx->json) {
		print_row(row);
	} else {
		printf("%u entries, %u violations; PCR 10 %s:%s\n", entries, violations,
		    attest_alg_name(alg), json_string_value(json_object_get(row, "pcr10")));
		print_reasons(r);
		json_decref(row);
	}
	if (rc < 0)
		fprintf(stderr, "picketctl: %s\n", why.text);
	free(r);
	return refused ? CTL_REFUSED : CTL_DONE;
}

static int
run_ima(struct ctl_context *ctx, int argc, char **argv)
{
	const char *file = NULL, *policy_file = NULL, *pcr = NULL;
	struct attest_ima_policy *policy = NULL;
	uint8_t want[ATTEST_DIGEST_MAX], *bytes = NULL, *policy_bytes = NULL;
	uint16_t alg = ATTEST_ALG_SHA256;
	struct pk_diag why;
	size_t len, n;
	int rc;

	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--policy") == 0 && i + 1 < argc)
			policy_file = argv[++i];
		else if (strcmp(argv[i], "--pcr") == 0 && i + 1 < argc)
			pcr = argv[++i];
		else if (argv[i][0] == '-' || file != NULL)
			return ctl_usage(ctx, "attest ima: \"%s\" is not understood", argv[i]);
		else
			file = argv[i];
	}
	if (file == NULL)
		return ctl_usage(ctx, "attest ima takes a file");
	if (pcr != NULL && read_pcr(pcr, &alg, want) < 0)
		return ctl_usage(ctx, "attest ima: --pcr takes BANK:HEX");
	if (policy_file != NULL &&
	    ((policy_bytes = read_whole(policy_file, ATTEST_IMA_LIST_MAX, &n, &why)) == NULL ||
	        attest_ima_policy_parse(&policy, policy_bytes, n, &why) < 0)) {
		free(policy_bytes);
		return ctl_refused(ctx, "%s", why.text);
	}
	free(policy_bytes);
	if ((bytes = read_whole(file, ATTEST_IMA_LIST_MAX, &len, &why)) == NULL)
		rc = ctl_refused(ctx, "%s", why.text);
	else
		rc = judge_ima(ctx, (struct attest_bytes){ bytes, len }, alg,
		    pcr != NULL ? want : NULL, policy);
	free(bytes);
	attest_ima_policy_destroy(policy);
	return rc;
}

/* ---- attest check ----------------------------------------------------------------------------- */

/* Where each part of the evidence may lie; the first file that is there is taken. */
static const struct {
	size_t member;
	const char *names[8];
} parts[] = {
#define PART(m, ...)                                 \
	{                                            \
		offsetof(struct attest_evidence, m), \
		{                                    \
			__VA_ARGS__, NULL            \
		}                                    \
	}
	PART(ek_public, "ek.pub", "ek.tpm2b"),
	PART(ek_chain, "ek-chain.pem", "intermediate.pem", "issuercert.pem"),
	PART(ak_public, "ak.pub", "ak.tpm2b", "../ak.pub", "../ak.tpm2b"),
	PART(ak_name, "ak.name", "../ak.name"),
	PART(secret, "cred.secret"),
	PART(activated, "activated.bin"),
	PART(quote, "quote.msg"),
	PART(signature, "quote.sig"),
	PART(pcrs, "quote.pcrs", "pcrs.json"),
	PART(eventlog, "eventlog.bin", "eventlog", "binary_bios_measurements"),
	PART(ima, "ima.bin", "ima.ascii", "ima.txt", "binary_runtime_measurements",
	    "ascii_runtime_measurements"),
};

static const char *const rsa_certs[] = { "ek-rsa2048.crt.der", "ek-rsa-cert.der", "ek.crt.der",
	"ek-cert.der", "ek.der" };
static const char *const ecc_certs[] = { "ek-eccp384.crt.der", "ek-ecc384-cert.der",
	"ek-eccp256.crt.der", "ek.crt.der", "ek-cert.der", "ek.der" };

static void
load_file(const char *dir, const char *name, struct attest_bytes *out)
{
	char path[PATH_BYTES];
	struct pk_diag why;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path) ||
	    access(path, F_OK) != 0)
		return;
	out->at = read_whole(path, ATTEST_IMA_LIST_MAX, &out->len, &why);
}

static struct attest_bytes *
part_of(struct attest_evidence *ev, size_t member)
{
	return (struct attest_bytes *)((char *)ev + member);
}

static void
load_evidence(const char *dir, struct attest_evidence *ev)
{
	const char *const *certs = rsa_certs;
	size_t nb_certs = PK_COUNT(rsa_certs);
	struct attest_public ek;
	struct pk_diag why;

	for (size_t i = 0; i < PK_COUNT(parts); i++) {
		struct attest_bytes *part = part_of(ev, parts[i].member);

		for (size_t n = 0; part->at == NULL && parts[i].names[n] != NULL; n++)
			load_file(dir, parts[i].names[n], part);
	}
	if (ev->ek_public.at != NULL &&
	    attest_public_parse(&ek, ev->ek_public.at, ev->ek_public.len, &why) == 0 &&
	    ek.type == ATTEST_ALG_ECC) {
		certs = ecc_certs;
		nb_certs = PK_COUNT(ecc_certs);
	}
	for (size_t i = 0; ev->ek_cert.at == NULL && i < nb_certs; i++)
		load_file(dir, certs[i], &ev->ek_cert);
}

static void
free_evidence(struct attest_evidence *ev)
{
	for (size_t i = 0; i < PK_COUNT(parts); i++)
		free((void *)(uintptr_t)part_of(ev, parts[i].member)->at);
	free((void *)(uintptr_t)ev->ek_cert.at);
}

/* Files that a reference names lie beside it. */
static uint8_t *
read_beside(void *arg, const char *path, size_t *len, struct pk_diag *d)
{
	const char *reference = arg, *slash = strrchr(reference, '/');
	char full[PATH_BYTES];

	if (path[0] == '/' || slash == NULL)
		snprintf(full, sizeof(full), "%s", path);
	else
		snprintf(full, sizeof(full), "%.*s/%s", (int)(slash - reference), reference, path);
	return read_whole(full, ATTEST_IMA_LIST_MAX, len, d);
}

/* Hex, as on the command line or in a file with a final newline. */
static int
read_hex(const char *text, size_t len, uint8_t *out, size_t *out_len)
{
	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
		len--;
	*out_len = len / 2;
	return len / 2 <= ATTEST_NAME_MAX ? attest_unhex(text, len, out, len / 2) : -EINVAL;
}

static void
print_result(const struct ctl_context *ctx, const char *dir, const struct attest_result *res)
{
	static const struct {
		unsigned int layer;
		const char *name;
	} layers[] = {
		{ ATTEST_LAYER_ENROLMENT, "enrolment" },
		{ ATTEST_LAYER_EVENTLOG, "eventlog" },
		{ ATTEST_LAYER_IMA, "ima" },
	};
	const char *verdict = res->verdict == ATTEST_TRUSTED ? "trusted" : "rejected";
	json_t *row, *unchecked = json_array();

	for (size_t i = 0; i < PK_COUNT(layers); i++)
		if ((res->unchecked & layers[i].layer) != 0)
			json_array_append_new(unchecked, json_string(layers[i].name));
	if (!ctx->json) {
		printf("%s: %s\n", dir, verdict);
		print_reasons(&res->reasons);
		for (size_t i = 0; i < json_array_size(unchecked); i++)
			printf("  the reference has no say on: %s\n",
			    json_string_value(json_array_get(unchecked, i)));
		json_decref(unchecked);
		return;
	}
	row = json_pack("{s:s, s:o, s:o, s:i, s:i}", "verdict", verdict, "reasons",
	    reasons_array(&res->reasons), "unchecked", unchecked, "ima_attested",
	    (int)res->ima_entries, "ima_trailing", (int)res->ima_trailing);
	if (res->reasons.lost > 0)
		json_object_set_new(row, "more_reasons", json_integer(res->reasons.lost));
	if (res->boot.secure_boot >= 0)
		json_object_set_new(row, "secureboot", json_boolean(res->boot.secure_boot));
	if (res->boot.cmdline.at != NULL)
		json_object_set_new(
		    row, "cmdline", safe_string(res->boot.cmdline.at, res->boot.cmdline.len));
	print_row(row);
}

static int
check(struct ctl_context *ctx, const char *dir, const struct attest_reference *ref,
    const char *ak_file, const char *nonce_text, time_t now)
{
	struct attest_evidence ev = { 0 };
	struct attest_result *res = calloc(1, sizeof(*res));
	struct attest_bytes file = { NULL, 0 };
	uint8_t nonce[ATTEST_NAME_MAX] = { 0 };
	size_t nonce_len = 0;
	struct pk_diag why;
	int rc = 0;

	if (res == NULL)
		return ctl_refused(ctx, "out of memory");
	if (ak_file != NULL &&
	    (ev.ak_public.at = read_whole(ak_file, 65536, &ev.ak_public.len, &why)) == NULL) {
		free(res);
		return ctl_refused(ctx, "%s", why.text);
	}
	load_evidence(dir, &ev);
	if (ref->nonce_given && nonce_text == NULL) {
		memcpy(nonce, ref->nonce, sizeof(nonce));
		nonce_len = ref->nonce_len;
	} else if (nonce_text != NULL) {
		rc = read_hex(nonce_text, strlen(nonce_text), nonce, &nonce_len);
	} else {
		load_file(dir, "nonce.hex", &file);
		if (file.at != NULL)
			rc = read_hex((const char *)file.at, file.len, nonce, &nonce_len);
		free((void *)(uintptr_t)file.at);
	}
	if (rc < 0)
		nonce_len = 0; /* which matches nothing */
	attest_appraise(&ev, ref, (struct attest_bytes){ nonce, nonce_len }, NULL, NULL, now, res);
	print_result(ctx, dir, res);
	rc = res->verdict == ATTEST_TRUSTED ? CTL_DONE : CTL_REFUSED;
	free(res);
	free_evidence(&ev);
	return rc;
}

static int
run_check(struct ctl_context *ctx, int argc, char **argv)
{
	const char *dir = NULL, *reference = NULL, *ak = NULL, *nonce = NULL, *roots = NULL;
	struct attest_reference *ref = NULL;
	struct pk_diag why = { .text = "" };
	uint8_t *bytes;
	struct stat st;
	size_t len;
	int rc;

	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--reference") == 0 && i + 1 < argc)
			reference = argv[++i];
		else if (strcmp(argv[i], "--ak") == 0 && i + 1 < argc)
			ak = argv[++i];
		else if (strcmp(argv[i], "--nonce") == 0 && i + 1 < argc)
			nonce = argv[++i];
		else if (strcmp(argv[i], "--roots") == 0 && i + 1 < argc)
			roots = argv[++i];
		else if (argv[i][0] == '-' || dir != NULL)
			return ctl_usage(ctx, "attest check: \"%s\" is not understood", argv[i]);
		else
			dir = argv[i];
	}
	if (dir == NULL || reference == NULL)
		return ctl_usage(ctx, "attest check takes a directory and --reference FILE");
	if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode))
		return ctl_refused(ctx, "%s: not a directory of evidence", dir);
	if ((bytes = read_whole(reference, ATTEST_IMA_LIST_MAX, &len, &why)) == NULL)
		return ctl_refused(ctx, "%s", why.text);
	rc = attest_reference_parse(
	    &ref, bytes, len, read_beside, (void *)(uintptr_t)reference, &why);
	free(bytes);
	if (rc == 0 && roots != NULL) {
		attest_roots_destroy(ref->roots);
		ref->roots = NULL;
		if ((bytes = read_whole(roots, 1U << 20, &len, &why)) != NULL)
			rc = attest_roots_parse(&ref->roots, bytes, len, &why);
		else
			rc = -EINVAL;
		free(bytes);
	}
	if (rc < 0)
		rc = ctl_refused(ctx, "%s: %s", reference, why.text);
	else
		rc = check(ctx, dir, ref, ak, nonce, time(NULL));
	attest_reference_destroy(ref);
	return rc;
}

/* ---- attest learn ----------------------------------------------------------------------------- */

#define EXCLUDES_MAX 60

static int
learn_from(struct ctl_context *ctx, const char *dir, uint16_t bank, const char *const *excludes,
    size_t nb_excludes)
{
	struct attest_reasons *r = calloc(1, sizeof(*r));
	struct attest_evidence ev = { 0 };
	struct attest_bytes file = { NULL, 0 };
	uint8_t nonce[ATTEST_NAME_MAX];
	size_t nonce_len = 0;
	json_t *ref;
	int rc;

	if (r == NULL)
		return ctl_refused(ctx, "out of memory");
	load_evidence(dir, &ev);
	load_file(dir, "nonce.hex", &file);
	if (file.at == NULL || read_hex((const char *)file.at, file.len, nonce, &nonce_len) < 0)
		nonce_len = 0;
	free((void *)(uintptr_t)file.at);
	rc = attest_learn(&ev, bank, (struct attest_bytes){ nonce, nonce_len }, excludes,
	    nb_excludes, time(NULL), &ref, r);
	if (rc == 0) {
		json_dumpf(ref, stdout, ctx->json ? JSON_COMPACT : JSON_INDENT(1));
		putchar('\n');
		json_decref(ref);
	} else {
		for (unsigned int i = 0; i < r->nb; i++)
			fprintf(stderr, "  %-25s  %s\n", attest_code_name(r->reason[i].code),
			    r->reason[i].text);
		(void)ctl_refused(ctx, "%s: nothing is learnt from it%s", dir,
		    rc == -ENOMEM ? ": out of memory" : "");
	}
	free_evidence(&ev);
	free(r);
	return rc == 0 ? CTL_DONE : CTL_REFUSED;
}

/* From the host behind this DPU: its verifier has evidence, and we have somewhere to write to. */
static int
learn_live(struct ctl_context *ctx, int argc, char **argv)
{
	int fd = memfd_create("reference", MFD_CLOEXEC), status;
	char bytes[65536];
	ssize_t n = 0;

	if (fd < 0)
		return ctl_refused(ctx, "%s", strerror(errno));
	status = ctl_ask(ctx, "picket-attestd", "attest learn", argc, argv, fd, NULL, NULL);
	if (status == CTL_DONE) {
		if (lseek(fd, 0, SEEK_SET) == 0)
			while ((n = read(fd, bytes, sizeof(bytes))) > 0)
				if (fwrite(bytes, 1, (size_t)n, stdout) != (size_t)n)
					break;
		putchar('\n');
		if (n != 0 || fflush(stdout) != 0)
			status = ctl_refused(ctx, "standard output: %s", strerror(errno));
	}
	close(fd);
	return status;
}

static int
run_learn(struct ctl_context *ctx, int argc, char **argv)
{
	const char *dir = NULL, *excludes[EXCLUDES_MAX];
	uint16_t bank = ATTEST_ALG_SHA256;
	size_t nb = 0;
	struct stat st;

	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--exclude") == 0 && i + 1 < argc && nb < EXCLUDES_MAX)
			excludes[nb++] = argv[++i];
		else if (strcmp(argv[i], "--bank") == 0 && i + 1 < argc &&
		    (bank = attest_alg_find(argv[i + 1], strlen(argv[i + 1]))) != 0)
			i++;
		else if (argv[i][0] == '-' || dir != NULL)
			return ctl_usage(ctx, "attest learn: \"%s\" is not understood", argv[i]);
		else
			dir = argv[i];
	}
	if (dir == NULL && bank != ATTEST_ALG_SHA256)
		return ctl_usage(ctx, "attest learn: --bank goes with a directory");
	if (dir == NULL)
		return learn_live(ctx, (int)nb, (char **)(uintptr_t)excludes);
	if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode))
		return ctl_refused(ctx, "%s: not a directory of evidence", dir);
	return learn_from(ctx, dir, bank, excludes, nb);
}

const struct ctl_command ctl_attest_commands[] = {
	{ "attest eventlog", "FILE", "show the event log of a boot, and the PCRs it leads to",
	    run_eventlog },
	{ "attest ima", "FILE [--pcr BANK:HEX] [--policy FILE]",
	    "show an IMA list; judge it by a quoted PCR 10 and a runtime policy", run_ima },
	{ "attest check", "DIR --reference FILE [--nonce HEX] [--ak FILE] [--roots FILE]",
	    "judge a directory of evidence, and give every reason against it", run_check },
	{ "attest learn", "[DIR [--bank BANK]] [--exclude GLOB]...",
	    "a reference from a machine that is good: from evidence, or of the host behind this DPU",
	    run_learn },
	{ NULL, NULL, NULL, NULL },
};
