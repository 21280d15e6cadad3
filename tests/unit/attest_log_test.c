/*
 * Event logs and IMA lists made here, then changed in one place: groups 6 and 7 of the attacks, and what
 * of group 9 (a log that moved between quote and reading) is the library's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attest/appraise.h"
#include "tests/unit/test.h"

struct buf {
	uint8_t bytes[8192];
	size_t len;
};

static void
put(struct buf *b, const void *bytes, size_t len)
{
	assert_true(b->len + len <= sizeof(b->bytes));
	if (len > 0)
		memcpy(b->bytes + b->len, bytes, len);
	b->len += len;
}

static void
le(struct buf *b, uint64_t v, unsigned int bytes)
{
	for (; bytes > 0; bytes--, v >>= 8)
		put(b, &(uint8_t){ (uint8_t)v }, 1);
}

/* ---- event logs ------------------------------------------------------------------------------- */

static void
head(struct buf *b, uint32_t nb_algs)
{
	b->len = 0;
	le(b, 0, 4);
	le(b, ATTEST_EV_NO_ACTION, 4);
	put(b, (const uint8_t[20]){ 0 }, 20);
	le(b, 16 + 8 + 4 + 4 * 2 + 1, 4);
	put(b, "Spec ID Event03", 16);
	le(b, 0, 4);
	le(b, 0x02000200, 4);
	le(b, nb_algs, 4);
	le(b, ATTEST_ALG_SHA256, 2);
	le(b, 32, 2);
	le(b, 0x7777, 2); /* an algorithm of the future */
	le(b, 10, 2);
	le(b, 0, 1);
}

/* `measured` NULL: the data itself. */
static void
event(
    struct buf *b, uint32_t pcr, uint32_t type, const void *data, size_t len, const char *measured)
{
	struct attest_bytes part = { data, len };
	uint8_t h[ATTEST_DIGEST_MAX];

	if (measured != NULL)
		part = (struct attest_bytes){ (const uint8_t *)measured, strlen(measured) };
	attest_hash(NULL, ATTEST_ALG_SHA256, &part, 1, h);
	le(b, pcr, 4);
	le(b, type, 4);
	le(b, 2, 4);
	le(b, ATTEST_ALG_SHA256, 2);
	put(b, h, 32);
	le(b, 0x7777, 2);
	put(b, h, 10);
	le(b, len, 4);
	put(b, data, len);
}

static void
variable(struct buf *b, uint32_t pcr, const char *name, uint8_t value)
{
	static const uint8_t guid[16] = { 0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa,
		0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c };
	struct buf v = { .len = 0 };

	put(&v, guid, 16);
	le(&v, strlen(name), 8);
	le(&v, 1, 8);
	for (const char *c = name; *c != '\0'; c++)
		le(&v, (uint8_t)*c, 2);
	le(&v, value, 1);
	event(b, pcr, ATTEST_EV_EFI_VARIABLE_DRIVER_CONFIG, v.bytes, v.len, NULL);
}

static void
separators(struct buf *b, uint32_t except)
{
	for (uint32_t pcr = 0; pcr < 8; pcr++)
		if (pcr != except)
			event(b, pcr, ATTEST_EV_SEPARATOR, "\0\0\0", 4, NULL);
}

static void
cmdline(struct buf *b, const char *measured)
{
	static const char text[] = "kernel_cmdline: /vmlinuz quiet";

	event(b, 8, ATTEST_EV_IPL, text, sizeof(text), measured);
}

static void
good_log(struct buf *b)
{
	head(b, 2);
	event(b, 0, ATTEST_EV_S_CRTM_VERSION, "v1", 2, NULL);
	variable(b, 7, "SecureBoot", 1);
	separators(b, 99);
	cmdline(b, "/vmlinuz quiet");
}

static struct attest_eventlog *
parse(const struct buf *b)
{
	struct attest_eventlog *log = NULL;
	struct pk_diag why = { .text = "" };

	if (attest_eventlog_parse(&log, b->bytes, b->len, &why) < 0)
		assert_non_null(strstr(why.text, "event log: "));
	return log;
}

/* Parse and check; returns whether `code` is found, or whether nothing is for ATTEST_NB_CODES. */
static int
found(const struct buf *b, enum attest_code code, struct attest_boot *boot)
{
	struct attest_reasons *r = calloc(1, sizeof(*r));
	struct attest_eventlog *log = parse(b);
	struct attest_boot mine;
	int rc;

	assert_non_null(log);
	attest_eventlog_check(log, ATTEST_ALG_SHA256, 0xffffff, boot != NULL ? boot : &mine, r);
	rc = code == ATTEST_NB_CODES ? r->nb == 0 : attest_reasons_have(r, code);
	attest_eventlog_destroy(log);
	free(r);
	return rc;
}

static void
test_log_good(void **state)
{
	struct attest_boot boot;
	struct buf b;

	(void)state;
	good_log(&b);
	assert_true(found(&b, ATTEST_NB_CODES, &boot));
	assert_int_equal(boot.secure_boot, 1);
	assert_int_equal(boot.cmdline.len, strlen("/vmlinuz quiet"));
	/* A fixed area filled up with ones; other rubbish is none. */
	memset(b.bytes + b.len, 0xff, 100);
	b.len += 100;
	assert_true(found(&b, ATTEST_NB_CODES, NULL));
	b.bytes[b.len - 1] = 0;
	assert_null(parse(&b));
}

/* Cut anywhere but between events, a log is refused; and no byte of it can crash us. */
static void
test_log_cut(void **state)
{
	struct attest_eventlog *log;
	struct buf b, whole;
	size_t full = 0;

	(void)state;
	good_log(&whole);
	for (b = whole; b.len > 0; b.len--) {
		log = parse(&b);
		full += log != NULL;
		attest_eventlog_destroy(log);
	}
	assert_int_equal(full, 12); /* its events */
}

static void
test_log_lengths(void **state)
{
	static const uint32_t counts[] = { 0, 1, 3, 8, 0xffffffff };
	static const uint32_t sizes[] = { 1000, 0x7fffffff, 0xc0000000, 0xffffffff };
	struct attest_eventlog *log;
	struct buf b;
	size_t at;

	(void)state;
	for (size_t i = 0; i < PK_COUNT(counts); i++) {
		head(&b, counts[i]); /* says so, and brings two */
		assert_null(parse(&b));
	}
	for (size_t i = 0; i < PK_COUNT(sizes); i++) {
		head(&b, 2);
		event(&b, 0, ATTEST_EV_ACTION, "x", 1, NULL);
		at = b.len - 5;
		b.len = at;
		le(&b, sizes[i], 4);
		put(&b, "x", 1);
		assert_null(parse(&b));
	}
	head(&b, 2);
	event(&b, 24, ATTEST_EV_ACTION, "x", 1, NULL); /* no such PCR */
	assert_null(parse(&b));
	head(&b, 2);
	event(&b, 0xffffffff, ATTEST_EV_NO_ACTION, "x", 1, NULL); /* which extends nothing */
	log = parse(&b);
	assert_non_null(log);
	attest_eventlog_destroy(log);
	b.bytes[32 + 37 + 12] = ATTEST_ALG_SHA384; /* a digest the head does not know */
	assert_null(parse(&b));
	b.len = 0;
	assert_null(parse(&b));
}

static void
test_log_lies(void **state)
{
	struct attest_boot boot;
	struct buf b;

	(void)state;
	/* The text edited, the digest kept. */
	good_log(&b);
	b.bytes[b.len - 3] ^= 1;
	assert_true(found(&b, ATTEST_EVENT_DATA_DIGEST, &boot));
	assert_null(boot.cmdline.at);
	/* A type we do not know, in a PCR that counts. */
	good_log(&b);
	event(&b, 4, 0x12345678, "x", 1, NULL);
	assert_true(found(&b, ATTEST_EVENT_UNKNOWN, NULL));
	/* Separators: none, two, and one that tells of an error. */
	head(&b, 2);
	event(&b, 3, ATTEST_EV_ACTION, "x", 1, NULL);
	separators(&b, 3);
	assert_true(found(&b, ATTEST_EVENTLOG_SEPARATOR, NULL));
	good_log(&b);
	event(&b, 3, ATTEST_EV_SEPARATOR, "\0\0\0", 4, NULL);
	assert_true(found(&b, ATTEST_EVENTLOG_SEPARATOR, NULL));
	head(&b, 2);
	event(&b, 3, ATTEST_EV_SEPARATOR, "\1\0\0", 4, NULL);
	separators(&b, 3);
	assert_true(found(&b, ATTEST_EVENTLOG_SEPARATOR, NULL));
	head(&b, 2);
	event(&b, 3, ATTEST_EV_SEPARATOR, "\xff\xff\xff\xff", 4, NULL); /* BIOS does so */
	separators(&b, 3);
	assert_true(found(&b, ATTEST_NB_CODES, NULL));
	/* Secure Boot said to be on, by somebody who came after the firmware; and said twice. */
	head(&b, 2);
	separators(&b, 99);
	variable(&b, 7, "SecureBoot", 1);
	assert_true(found(&b, ATTEST_NB_CODES, &boot));
	assert_int_equal(boot.secure_boot, -1);
	head(&b, 2);
	variable(&b, 7, "SecureBoot", 0);
	variable(&b, 7, "SecureBoot", 1);
	separators(&b, 99);
	assert_true(found(&b, ATTEST_NB_CODES, &boot));
	assert_int_equal(boot.secure_boot, 0);
	/* Measured into another PCR, or retyped: it says nothing. */
	head(&b, 2);
	variable(&b, 6, "SecureBoot", 1);
	separators(&b, 99);
	assert_true(found(&b, ATTEST_NB_CODES, &boot));
	assert_int_equal(boot.secure_boot, -1);
	/* Two command lines. */
	good_log(&b);
	cmdline(&b, "/vmlinuz quiet");
	assert_true(found(&b, ATTEST_CMDLINE_NOT_ALLOWED, NULL));
}

static void
test_log_locality(void **state)
{
	static const uint8_t localities[] = { 0, 3, 4 };
	struct attest_eventlog *log;
	struct attest_bank bank;
	uint8_t value[32] = { 0 }, h[ATTEST_DIGEST_MAX];
	char text[18] = "StartupLocality\0";
	struct buf b;

	(void)state;
	for (size_t i = 0; i < PK_COUNT(localities); i++) {
		text[16] = (char)localities[i];
		head(&b, 2);
		event(&b, 0, ATTEST_EV_NO_ACTION, text, 17, NULL);
		event(&b, 0, ATTEST_EV_SEPARATOR, "\0\0\0", 4, NULL);
		log = parse(&b);
		assert_int_equal(attest_eventlog_replay(log, ATTEST_ALG_SHA256, &bank), 0);
		assert_int_equal(attest_eventlog_replay(log, ATTEST_ALG_SHA1, &bank), -ENOENT);
		assert_int_equal(attest_eventlog_replay(log, ATTEST_ALG_SHA256, &bank), 0);
		memset(value, 0, 32);
		value[31] = localities[i];
		attest_hash(NULL, ATTEST_ALG_SHA256,
		    &(struct attest_bytes){ (const uint8_t *)"\0\0\0", 4 }, 1, h);
		attest_extend(NULL, ATTEST_ALG_SHA256, value, h);
		assert_memory_equal(bank.value[0], value, 32);
		assert_int_equal(bank.mask, 1);
		assert_true(found(&b, ATTEST_NB_CODES, NULL));
		attest_eventlog_destroy(log);
	}
	event(&b, 0, ATTEST_EV_NO_ACTION, text, 17, NULL); /* again, and too late */
	assert_true(found(&b, ATTEST_EVENTLOG_LOCALITY, NULL));
	text[16] = 2;
	head(&b, 2);
	event(&b, 0, ATTEST_EV_NO_ACTION, text, 17, NULL);
	assert_true(found(&b, ATTEST_EVENTLOG_LOCALITY, NULL));
}

/* ---- IMA -------------------------------------------------------------------------------------- */

static void
field(struct buf *b, const void *bytes, size_t len)
{
	le(b, len, 4);
	put(b, bytes, len);
}

/* ima-ng entry of a file with content `text`; extends the three banks as a kernel does. */
static void
entry(struct buf *list, uint8_t pcr[3][ATTEST_DIGEST_MAX], const char *path, const char *text,
    int violation)
{
	struct buf d = { .len = 0 }, digest = { .len = 0 };
	struct attest_bytes part = { (const uint8_t *)text, strlen(text) };
	uint8_t h[ATTEST_DIGEST_MAX], sha1[ATTEST_DIGEST_MAX] = { 0 };

	attest_hash(NULL, ATTEST_ALG_SHA256, &part, 1, h);
	put(&digest, "sha256:", 8);
	put(&digest, violation ? (const uint8_t[32]){ 0 } : h, 32);
	field(&d, digest.bytes, digest.len);
	field(&d, path, strlen(path) + 1);
	part = (struct attest_bytes){ d.bytes, d.len };
	attest_hash(NULL, ATTEST_ALG_SHA1, &part, 1, sha1);
	le(list, 10, 4);
	put(list, violation ? (const uint8_t[20]){ 0 } : sha1, 20);
	field(list, "ima-ng", 6);
	field(list, d.bytes, d.len);
	/* SHA-1, SHA-256 with its own hash, SHA-384 as a kernel without that hash. */
	if (violation)
		memset(sha1, 0xff, sizeof(sha1));
	attest_extend(NULL, ATTEST_ALG_SHA1, pcr[0], sha1);
	attest_hash(NULL, ATTEST_ALG_SHA256, &part, 1, h);
	if (violation)
		memset(h, 0xff, sizeof(h));
	attest_extend(NULL, ATTEST_ALG_SHA256, pcr[1], h);
	if (!violation)
		memset(sha1 + 20, 0, sizeof(sha1) - 20);
	attest_extend(NULL, ATTEST_ALG_SHA384, pcr[2], sha1);
}

static void
test_ima_banks(void **state)
{
	static const uint16_t algs[3] = { ATTEST_ALG_SHA1, ATTEST_ALG_SHA256, ATTEST_ALG_SHA384 };
	uint8_t pcr[3][ATTEST_DIGEST_MAX] = { { 0 } };
	struct attest_ima_state st;
	struct buf list = { .len = 0 };
	struct pk_diag why;
	uint32_t used;
	size_t quoted;

	(void)state;
	entry(&list, pcr, "boot_aggregate", "agg", 0);
	entry(&list, pcr, "/bin/sh", "sh", 0);
	entry(&list, pcr, "/v", "", 1);
	quoted = list.len;
	for (int i = 0; i < 3; i++) {
		attest_ima_state_init(&st, algs[i]);
		assert_int_equal(
		    attest_ima_replay(&st, list.bytes, list.len, pcr[i], &used, &why), 0);
		assert_int_equal(used, 3);
		assert_int_equal(st.entries, 3);
	}
	/* Group 9: read after the quote, so longer than it; then nothing new; then the next piece. */
	attest_ima_state_init(&st, ATTEST_ALG_SHA256);
	{
		uint8_t then[3][ATTEST_DIGEST_MAX];

		memcpy(then, pcr, sizeof(then));
		entry(&list, pcr, "/bin/late", "late", 0);
		assert_int_equal(
		    attest_ima_replay(&st, list.bytes, list.len, then[1], &used, &why), 0);
		assert_int_equal(used, 3);
		assert_int_equal(attest_ima_replay(&st, list.bytes, 0, then[1], &used, &why), 0);
		assert_int_equal(used, 0);
		/* Stuck: the PCR has moved and the list has not. */
		assert_int_equal(
		    attest_ima_replay(&st, list.bytes, 0, pcr[1], &used, &why), -ENOENT);
		assert_int_equal(attest_ima_replay(&st, list.bytes + quoted, list.len - quoted,
		                     pcr[1], &used, &why),
		    0);
		assert_int_equal(st.entries, 4);
	}
	/* Shorter than the PCR. */
	attest_ima_state_init(&st, ATTEST_ALG_SHA256);
	assert_int_equal(attest_ima_replay(&st, list.bytes, quoted, pcr[1], &used, &why), -ENOENT);
	assert_int_equal(st.entries, 0);
	/* Cut within an entry. */
	for (size_t len = quoted + 1; len < list.len; len++)
		assert_int_equal(
		    attest_ima_replay(&st, list.bytes, len, NULL, &used, &why), -EINVAL);
}

static unsigned int
judge(const struct buf *list, const uint8_t *want, const char *policy_text, enum attest_code code)
{
	struct attest_reasons *r = calloc(1, sizeof(*r));
	struct attest_ima_policy *policy = NULL;
	struct attest_ima_state st;
	struct pk_diag why;
	uint32_t used, trailing;
	unsigned int rc;

	if (policy_text != NULL)
		assert_int_equal(attest_ima_policy_parse(&policy, (const uint8_t *)policy_text,
		                     strlen(policy_text), &why),
		    0);
	attest_ima_state_init(&st, ATTEST_ALG_SHA256);
	attest_appraise_ima((struct attest_bytes){ list->bytes, list->len }, &st, want, NULL,
	    policy, NULL, &used, &trailing, r);
	rc = code == ATTEST_NB_CODES ? r->nb : (unsigned int)attest_reasons_have(r, code);
	attest_ima_policy_destroy(policy);
	free(r);
	return rc;
}

static void
test_ima_policy(void **state)
{
	/* SHA-256 of "sh", "agg" */
	static const char sums[] =
	    "49a49fdf1b9ecbb2ebe8d4a5ff56c6b4bc0af0f0dc70d0f4b5ad5a1fb3e5ee35  /bin/other\n";
	uint8_t pcr[3][ATTEST_DIGEST_MAX] = { { 0 } };
	struct attest_ima_policy *policy;
	struct buf list = { .len = 0 };
	struct pk_diag why;

	(void)state;
	entry(&list, pcr, "/opt/a/tool", "x", 0);
	assert_int_equal(judge(&list, pcr[1], NULL, ATTEST_NB_CODES), 0);
	assert_int_equal(judge(&list, pcr[1], sums, ATTEST_IMA_UNKNOWN_FILE), 1);
	assert_int_equal(judge(&list, pcr[1], "{\"digests\":{\"/opt/a/tool\":[\"00\"]}}",
	                     ATTEST_IMA_FILE_DIGEST),
	    1);
	/* An exclude has to match from the first character to the last. */
#define GLOB(g) "{\"digests\":{},\"exclude_globs\":[\"" g "\"]}"
	assert_int_equal(judge(&list, pcr[1], GLOB("/opt/**"), ATTEST_NB_CODES), 0);
	assert_int_equal(judge(&list, pcr[1], GLOB("/opt/?/t*l"), ATTEST_NB_CODES), 0);
	assert_int_equal(judge(&list, pcr[1], GLOB("/opt/*"), ATTEST_NB_CODES), 1);
	assert_int_equal(judge(&list, pcr[1], GLOB("/a/tool"), ATTEST_NB_CODES), 1);
	assert_int_equal(judge(&list, pcr[1], GLOB("/opt/a"), ATTEST_NB_CODES), 1);
	assert_int_equal(judge(&list, pcr[1], "{\"digests\":{},\"excludes\":[\"/opt/[a-b]/.*\"]}",
	                     ATTEST_NB_CODES),
	    0);
	assert_int_equal(
	    judge(&list, pcr[1], "{\"digests\":{},\"excludes\":[\"a/.*\"]}", ATTEST_NB_CODES), 1);
	assert_true(attest_ima_policy_parse(
	                &policy, (const uint8_t *)"{\"excludes\":[\"(?!x)\"]}", 21, &why) < 0);
	/* Violations are refused unless the policy says otherwise, and cannot stand for a file. */
	entry(&list, pcr, "/v", "", 1);
	assert_int_equal(judge(&list, pcr[1], NULL, ATTEST_IMA_VIOLATION), 1);
	assert_int_equal(judge(&list, pcr[1], "{\"violations\":\"allow\"}", ATTEST_NB_CODES), 0);
	memset(list.bytes + 4, 0, 20);
	assert_int_equal(judge(&list, pcr[1], NULL, ATTEST_IMA_REPLAY), 1);
	/* File edited and the template digest kept; PCR index changed. */
	list.len = 0;
	memset(pcr, 0, sizeof(pcr));
	entry(&list, pcr, "/opt/a/tool", "x", 0);
	list.bytes[60] ^= 1;
	assert_int_equal(judge(&list, pcr[1], NULL, ATTEST_IMA_TEMPLATE_DIGEST), 1);
	assert_int_equal(judge(&list, pcr[1], NULL, ATTEST_IMA_REPLAY), 1);
	list.bytes[60] ^= 1;
	list.bytes[0] = 11;
	assert_int_equal(judge(&list, pcr[1], NULL, ATTEST_IMA_PCR), 1);
}

static void
test_ima_text(void **state)
{
	static const char *const bad[] = { "\n", "10\n", "10 ab ima-ng sha256:00 /x\n",
		"24 0000000000000000000000000000000000000000 ima-ng sha1:"
		"0000000000000000000000000000000000000000 /x\n",
		"10 0000000000000000000000000000000000000000 ima-xyz sha1:"
		"0000000000000000000000000000000000000000 /x\n",
		"10 1000000000000000000000000000000000000000 ima-ng sha1:"
		"00000000000000000000000000000000000000 /x\n",
		"10 0000000000000000000000000000000000000000 ima-ng sha1:"
		"0000000000000000000000000000000000000000\n",
		"10 0000000000000000000000000000000000000000 ima-ng sha1:"
		"0000000000000000000000000000000000000000 /x\r\n",
		"10 0000000000000000000000000000000000000000 ima-sig sha1:"
		"0000000000000000000000000000000000000000 /x zz\n",
		"10 0000000000000000000000000000000000000000 ima-ng sha1:"
		"0000000000000000000000000000000000000000 /x\n\n" };

	(void)state;
	for (size_t i = 0; i < PK_COUNT(bad); i++) {
		struct buf list = { .len = 0 };

		put(&list, bad[i], strlen(bad[i]));
		assert_int_equal(judge(&list, NULL, NULL, ATTEST_IMA_MALFORMED), 1);
	}
}

/* One entry under a template: as the kernel shows it in text, and the same bytes as it hashes them. */
struct shown {
	const char *template;
	const char *text; /* digest and name in it are those of digest_field() */
	const char *data[16];
	size_t len[16]; /* of fields whose bytes may be NUL */
	const char *path;
};

#define D32 "11223344556677889900112233445566778899001122334455667788990011aa"
#define D32_BYTES                                                                                  \
	"\x11\x22\x33\x44\x55\x66\x77\x88\x99\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\x00\x11\x22" \
	"\x33\x44\x55\x66\x77\x88\x99\x00\x11\xaa"
#define D20       "112233445566778899001122334455667788aabb"
#define D20_BYTES "\x11\x22\x33\x44\x55\x66\x77\x88\x99\x00\x11\x22\x33\x44\x55\x66\x77\x88\xaa\xbb"

static const struct shown templates[] = {
	{ "ima-ng", "sha256:" D32 " /a_b", { "sha256:\0" D32_BYTES, "/a_b" }, { 40, 5 }, "/a_b" },
	{ "ima-ng", "sm3:" D32 " /a", { "sm3:\0" D32_BYTES, "/a" }, { 37, 3 }, "/a" },
	{ "ima-ngv2", "verity:sha256:" D32 " /a", { "verity:sha256:\0" D32_BYTES, "/a" }, { 47, 3 },
	    "/a" },
	{ "ima-sig", "sha1:" D20 " /a 0302", { "sha1:\0" D20_BYTES, "/a", "\3\2" }, { 26, 3, 2 },
	    "/a" },
	{ "ima-sig", "sha1:" D20 " /a ", { "sha1:\0" D20_BYTES, "/a", "" }, { 26, 3, 0 }, "/a" },
	{ "ima-sigv2", "ima:sha1:" D20 " /a 03", { "ima:sha1:\0" D20_BYTES, "/a", "\3" },
	    { 30, 3, 1 }, "/a" },
	{ "ima-buf", "sha1:" D20 " kexec-cmdline 6162",
	    { "sha1:\0" D20_BYTES, "kexec-cmdline", "ab" }, { 26, 14, 2 }, "kexec-cmdline" },
	{ "ima-modsig", "sha1:" D20 " /m.ko  sha256:" D32 " 3082",
	    { "sha1:\0" D20_BYTES, "/m.ko", "", "sha256:\0" D32_BYTES, "\x30\x82" },
	    { 26, 6, 0, 40, 2 }, "/m.ko" },
	{ "ima-modsig", "sha1:" D20 " /m.ko   ", { "sha1:\0" D20_BYTES, "/m.ko", "", "", "" },
	    { 26, 6, 0, 0, 0 }, "/m.ko" },
	{ "evm-sig", "sha1:" D20 " /a 05 security.ima|security.evm 0a000000 0102 1000 100 33261",
	    { "sha1:\0" D20_BYTES, "/a", "\5", "security.ima|security.evm", "\x0a\0\0\0", "\1\2",
	        "\xe8\3\0\0", "\x64\0\0\0", "\xed\x81" },
	    { 26, 3, 1, 26, 4, 2, 4, 4, 2 }, "/a" },
	{ "evm-sig", "sha1:" D20 " /a       ",
	    { "sha1:\0" D20_BYTES, "/a", "", "", "", "", "", "", "" },
	    { 26, 3, 0, 0, 0, 0, 0, 0, 0 }, "/a" },
	/* ima_template_fmt= */
	{ "n-ng|d-ng|sig", "/a sha1:" D20 " 03", { "/a", "sha1:\0" D20_BYTES, "\3" }, { 3, 26, 1 },
	    "/a" },
	{ "d|n", D20 " /a", { D20_BYTES, "/a" }, { 20, 3 }, "/a" },
	{ "iuid|imode|d-ng|n-ng", "0 420 sha1:" D20 " /a b",
	    { "\0\0\0\0", "\xa4\1", "sha1:\0" D20_BYTES, "/a b" }, { 4, 2, 26, 5 }, "/a b" },
};

static void
test_ima_templates(void **state)
{
	static const char *const unknown[] = { "ima-xyz", "d-ng", "d-ng|", "|d-ng|n-ng",
		"d-ng|n-ng|", "d-ng|n-ng|what", "d-ng|sig", "n-ng|sig", "d-ng|d|n-ng",
		"d-ng|n-ng|n", "d-ng|n-ng|sig|sig", "D-NG|n-ng" };

	(void)state;
	for (size_t i = 0; i < PK_COUNT(templates); i++) {
		const struct shown *t = &templates[i];
		uint8_t sha1[ATTEST_DIGEST_MAX], pcr[2][ATTEST_DIGEST_MAX] = { { 0 } };
		char text[1024], hex[2 * ATTEST_DIGEST_MAX + 1];
		struct buf d = { .len = 0 }, list = { .len = 0 };
		struct attest_ima_reader rd;
		struct attest_ima_entry e;
		struct attest_bytes part;
		struct pk_diag why = { .text = "" };

		for (size_t k = 0; k < PK_COUNT(t->data) && t->data[k] != NULL; k++)
			field(&d, t->data[k], t->len[k]);
		part = (struct attest_bytes){ d.bytes, d.len };
		attest_hash(NULL, ATTEST_ALG_SHA1, &part, 1, sha1);
		le(&list, 10, 4);
		put(&list, sha1, 20);
		field(&list, t->template, strlen(t->template));
		field(&list, d.bytes, d.len);
		attest_hex(sha1, 20, hex);
		snprintf(text, sizeof(text), "10 %s %s %s\n", hex, t->template, t->text);
		for (int ascii = 0; ascii < 2; ascii++) {
			struct attest_ima_state st;
			const uint8_t *at = ascii ? (const uint8_t *)text : list.bytes;
			size_t len = ascii ? strlen(text) : list.len;
			uint32_t used;

			assert_int_equal(attest_ima_init(&rd, at, len, &why), 0);
			if (attest_ima_next(&rd, &e, &why) != 1)
				print_message("# %s: %s\n", t->template, why.text);
			assert_int_equal(e.data.len, d.len);
			assert_memory_equal(e.data.at, d.bytes, d.len);
			assert_int_equal(e.path.len, strlen(t->path));
			assert_memory_equal(e.path.at, t->path, e.path.len);
			assert_true(e.file.len == 20 || e.file.len == 32);
			assert_true(attest_ima_digest_ok(NULL, &e));
			assert_int_equal(attest_ima_next(&rd, &e, &why), 0);
			attest_ima_fini(&rd);
			attest_ima_state_init(&st, ATTEST_ALG_SHA256);
			assert_int_equal(attest_ima_replay(&st, at, len, NULL, &used, &why), 0);
			memcpy(pcr[ascii], st.value, 32);
		}
		assert_memory_equal(pcr[0], pcr[1], 32);
		/* Another field too many or too few is none of this template. */
		le(&list, 10, 4);
		put(&list, sha1, 20);
		field(&list, t->template, strlen(t->template));
		field(&d, "x", 1);
		field(&list, d.bytes, d.len);
		assert_int_equal(judge(&list, NULL, NULL, ATTEST_IMA_MALFORMED), 1);
	}
	for (size_t i = 0; i < PK_COUNT(unknown); i++) {
		struct buf d = { .len = 0 }, list = { .len = 0 };

		field(&d, "sha1:\0" D20_BYTES, 26);
		field(&d, "/a", 3);
		le(&list, 10, 4);
		put(&list, D20_BYTES, 20);
		field(&list, unknown[i], strlen(unknown[i]));
		field(&list, d.bytes, d.len);
		assert_int_equal(judge(&list, NULL, NULL, ATTEST_IMA_MALFORMED), 1);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_log_good),
		cmocka_unit_test(test_log_cut),
		cmocka_unit_test(test_log_lengths),
		cmocka_unit_test(test_log_lies),
		cmocka_unit_test(test_log_locality),
		cmocka_unit_test(test_ima_banks),
		cmocka_unit_test(test_ima_policy),
		cmocka_unit_test(test_ima_text),
		cmocka_unit_test(test_ima_templates),
	};

	return cmocka_run_group_tests_name("attest_log", tests, NULL, NULL);
}
