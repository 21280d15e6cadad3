#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "attest/eventlog.h"
#include "lib/wire.h"

/* What single events mean, and whether a log of them can be believed. */

static const struct {
	uint32_t type;
	const char *name;
} types[] = {
	{ 0x00, "EV_PREBOOT_CERT" },
	{ 0x01, "EV_POST_CODE" },
	{ 0x02, "EV_UNUSED" },
	{ 0x03, "EV_NO_ACTION" },
	{ 0x04, "EV_SEPARATOR" },
	{ 0x05, "EV_ACTION" },
	{ 0x06, "EV_EVENT_TAG" },
	{ 0x07, "EV_S_CRTM_CONTENTS" },
	{ 0x08, "EV_S_CRTM_VERSION" },
	{ 0x09, "EV_CPU_MICROCODE" },
	{ 0x0a, "EV_PLATFORM_CONFIG_FLAGS" },
	{ 0x0b, "EV_TABLE_OF_DEVICES" },
	{ 0x0c, "EV_COMPACT_HASH" },
	{ 0x0d, "EV_IPL" },
	{ 0x0e, "EV_IPL_PARTITION_DATA" },
	{ 0x0f, "EV_NONHOST_CODE" },
	{ 0x10, "EV_NONHOST_CONFIG" },
	{ 0x11, "EV_NONHOST_INFO" },
	{ 0x12, "EV_OMIT_BOOT_DEVICE_EVENTS" },
	{ 0x13, "EV_POST_CODE2" },
	{ 0x80000001, "EV_EFI_VARIABLE_DRIVER_CONFIG" },
	{ 0x80000002, "EV_EFI_VARIABLE_BOOT" },
	{ 0x80000003, "EV_EFI_BOOT_SERVICES_APPLICATION" },
	{ 0x80000004, "EV_EFI_BOOT_SERVICES_DRIVER" },
	{ 0x80000005, "EV_EFI_RUNTIME_SERVICES_DRIVER" },
	{ 0x80000006, "EV_EFI_GPT_EVENT" },
	{ 0x80000007, "EV_EFI_ACTION" },
	{ 0x80000008, "EV_EFI_PLATFORM_FIRMWARE_BLOB" },
	{ 0x80000009, "EV_EFI_HANDOFF_TABLES" },
	{ 0x8000000a, "EV_EFI_PLATFORM_FIRMWARE_BLOB2" },
	{ 0x8000000b, "EV_EFI_HANDOFF_TABLES2" },
	{ 0x8000000c, "EV_EFI_VARIABLE_BOOT2" },
	{ 0x8000000d, "EV_EFI_GPT_EVENT2" },
	{ 0x80000010, "EV_EFI_HCRTM_EVENT" },
	{ 0x800000e0, "EV_EFI_VARIABLE_AUTHORITY" },
	{ 0x800000e1, "EV_EFI_SPDM_FIRMWARE_BLOB" },
	{ 0x800000e2, "EV_EFI_SPDM_FIRMWARE_CONFIG" },
	{ 0x800000e3, "EV_EFI_SPDM_DEVICE_POLICY" },
	{ 0x800000e4, "EV_EFI_SPDM_DEVICE_AUTHORITY" },
};

#define LOCALITY        "StartupLocality"
#define GLOBAL_VARIABLE "8be4df61-93ca-11d2-aa0d-00e098032b8c"

const char *
attest_event_name(uint32_t type)
{
	for (size_t i = 0; i < PK_COUNT(types); i++)
		if (types[i].type == type)
			return types[i].name;
	return NULL;
}

static uint64_t
le64(struct pk_wire *w)
{
	uint64_t low = pk_wire_le32(w);

	return low | (uint64_t)pk_wire_le32(w) << 32;
}

int
attest_event_variable(struct attest_bytes data, struct attest_variable *out)
{
	struct pk_wire w = pk_wire_from(data.at, data.len);
	const uint8_t *g = pk_wire_bytes(&w, 16), *name;
	uint64_t nb_chars = le64(&w), len = le64(&w);
	size_t n = 0;

	*out = (struct attest_variable){ 0 };
	if (!pk_wire_ok(&w) || nb_chars > pk_wire_left(&w) / 2 ||
	    len != pk_wire_left(&w) - 2 * nb_chars)
		return -EINVAL;
	snprintf(out->guid, sizeof(out->guid),
	    "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", g[3], g[2],
	    g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9], g[10], g[11], g[12], g[13], g[14],
	    g[15]);
	name = pk_wire_bytes(&w, 2 * (size_t)nb_chars);
	for (uint64_t i = 0; i < nb_chars; i++) {
		uint16_t c = (uint16_t)(name[2 * i] | name[2 * i + 1] << 8);

		if (n == sizeof(out->name) - 1)
			break;
		out->name[n++] = c >= 0x20 && c < 0x7f ? (char)c : '?';
	}
	/* Some firmware counts the final NUL as part of the name. */
	if (n > 0 && n == nb_chars && name[2 * n - 2] == 0 && name[2 * n - 1] == 0)
		out->name[n - 1] = '\0';
	out->value = (struct attest_bytes){ w.at, pk_wire_left(&w) };
	return 0;
}

int
attest_event_image(struct attest_bytes data, struct attest_image *out)
{
	struct pk_wire w = pk_wire_from(data.at, data.len);
	uint64_t path;

	out->address = le64(&w);
	out->len = le64(&w);
	out->link_address = le64(&w);
	path = le64(&w);
	if (!pk_wire_ok(&w) || path != pk_wire_left(&w))
		return -EINVAL;
	out->device_path = (struct attest_bytes){ w.at, pk_wire_left(&w) };
	return 0;
}

int
attest_event_tag(struct attest_bytes data, struct attest_tag *out)
{
	struct pk_wire w = pk_wire_from(data.at, data.len);
	uint32_t len;

	out->id = pk_wire_le32(&w);
	len = pk_wire_le32(&w);
	if (!pk_wire_ok(&w) || len > pk_wire_left(&w))
		return -EINVAL;
	out->data = (struct attest_bytes){ w.at, len };
	return 0;
}

static int
is_over(struct attest_bytes data, uint16_t alg, const uint8_t *digest)
{
	uint8_t h[ATTEST_DIGEST_MAX];

	return attest_hash(NULL, alg, &data, 1, h) == 0 &&
	    memcmp(h, digest, attest_alg_size(alg)) == 0;
}

/* GRUB logs text with a final NUL and measures it without. */
static struct attest_bytes
without_nuls(struct attest_bytes data)
{
	while (data.len > 0 && data.at[data.len - 1] == '\0')
		data.len--;
	return data;
}

static int
after_prefix(struct attest_bytes *data, const char *prefix)
{
	size_t n = strlen(prefix);

	if (data->len < n || memcmp(data->at, prefix, n) != 0)
		return 0;
	data->at += n;
	data->len -= n;
	return 1;
}

enum attest_self
attest_event_self(const struct attest_eventlog *log, const struct attest_event *e, uint16_t alg)
{
	const uint8_t *digest = attest_event_digest(log, e, alg);
	struct attest_bytes data = e->data;
	struct attest_variable v;
	int good;

	if (digest == NULL || attest_alg_md(alg) == NULL)
		return ATTEST_SELF_NOT_SAID;
	switch (e->type) {
	case ATTEST_EV_ACTION:
	case ATTEST_EV_EFI_ACTION:
	case ATTEST_EV_OMIT_BOOT_DEVICE_EVENTS:
		good = is_over(data, alg, digest) || is_over(without_nuls(data), alg, digest);
		break;
	case ATTEST_EV_SEPARATOR:
	case ATTEST_EV_S_CRTM_VERSION:
	case ATTEST_EV_EFI_VARIABLE_DRIVER_CONFIG:
	case ATTEST_EV_EFI_GPT_EVENT:
		good = is_over(data, alg, digest);
		break;
	case ATTEST_EV_EFI_VARIABLE_BOOT:
	case ATTEST_EV_EFI_VARIABLE_BOOT2:
	case ATTEST_EV_EFI_VARIABLE_AUTHORITY:
		/* Whole structure, or only the value: EDK2 and shim have done either. */
		good = is_over(data, alg, digest) ||
		    (attest_event_variable(data, &v) == 0 && is_over(v.value, alg, digest));
		break;
	case ATTEST_EV_IPL:
		if (e->pcr != 8 ||
		    (!after_prefix(&data, "grub_cmd: ") &&
		        !after_prefix(&data, "kernel_cmdline: ")))
			return ATTEST_SELF_NOT_SAID;
		good = is_over(without_nuls(data), alg, digest);
		break;
	default:
		return ATTEST_SELF_NOT_SAID;
	}
	return good ? ATTEST_SELF_GOOD : ATTEST_SELF_BAD;
}

static int
is_form_bad(const struct attest_event *e)
{
	struct attest_variable v;
	struct attest_image image;
	struct attest_tag tag;

	switch (e->type) {
	case ATTEST_EV_EFI_VARIABLE_DRIVER_CONFIG:
	case ATTEST_EV_EFI_VARIABLE_AUTHORITY:
		return attest_event_variable(e->data, &v) < 0;
	case ATTEST_EV_EFI_BOOT_SERVICES_APPLICATION:
	case ATTEST_EV_EFI_BOOT_SERVICES_DRIVER:
	case ATTEST_EV_EFI_RUNTIME_SERVICES_DRIVER:
		return attest_event_image(e->data, &image) < 0;
	case ATTEST_EV_EVENT_TAG:
		return attest_event_tag(e->data, &tag) < 0;
	default:
		return 0;
	}
}

static void
check_separator(
    const struct attest_event *e, uint32_t number, uint32_t *seen, struct attest_reasons *r)
{
	static const uint8_t ones[4] = { 0xff, 0xff, 0xff, 0xff };
	static const uint8_t zeroes[4] = { 0 };

	if (e->data.len != 4 ||
	    (memcmp(e->data.at, zeroes, 4) != 0 && memcmp(e->data.at, ones, 4) != 0))
		attest_reason(r, ATTEST_EVENTLOG_SEPARATOR,
		    "event %u: the separator of PCR %u tells of a firmware error", number, e->pcr);
	if (e->pcr > 7)
		return;
	if ((*seen >> e->pcr & 1) != 0)
		attest_reason(r, ATTEST_EVENTLOG_SEPARATOR,
		    "event %u: a second separator in PCR %u", number, e->pcr);
	*seen |= UINT32_C(1) << e->pcr;
}

/* PFP section 10.4.5.3: 0, 3 or 4, once, and before PCR 0 is extended by anything but the H-CRTM. */
static void
check_locality(const struct attest_event *e, uint32_t number, int late, struct attest_reasons *r)
{
	uint8_t locality = e->data.len > sizeof(LOCALITY) ? e->data.at[sizeof(LOCALITY)] : 0xff;

	if (e->data.len != sizeof(LOCALITY) + 1 ||
	    (locality != 0 && locality != 3 && locality != 4))
		attest_reason(r, ATTEST_EVENTLOG_LOCALITY,
		    "event %u: a TPM starts at locality 0, 3 or 4, not %u", number, locality);
	if (late)
		attest_reason(r, ATTEST_EVENTLOG_LOCALITY,
		    "event %u: the startup locality comes twice or after the first measurement",
		    number);
}

static void
learn(const struct attest_event *e, uint32_t separated, uint32_t number, struct attest_boot *boot,
    struct attest_reasons *r)
{
	struct attest_bytes data = e->data;
	struct attest_variable v;

	/* Only what firmware measured before the separator is its own statement: an event of the
	 * same looks can be appended by anybody afterwards. */
	if (e->type == ATTEST_EV_EFI_VARIABLE_DRIVER_CONFIG && e->pcr == 7 &&
	    (separated >> 7 & 1) == 0 && attest_event_variable(data, &v) == 0 &&
	    strcmp(v.name, "SecureBoot") == 0 && strcmp(v.guid, GLOBAL_VARIABLE) == 0) {
		int on = v.value.len == 1 && v.value.at[0] == 1;

		boot->secure_boot = boot->secure_boot == -1 ? on : boot->secure_boot & on;
	}
	if (e->type == ATTEST_EV_IPL && e->pcr == 8 && after_prefix(&data, "kernel_cmdline: ")) {
		if (boot->cmdline.at != NULL)
			attest_reason(r, ATTEST_CMDLINE_NOT_ALLOWED,
			    "event %u: a second kernel command line", number);
		boot->cmdline = without_nuls(data);
	}
}

void
attest_eventlog_check(const struct attest_eventlog *log, uint16_t alg, uint32_t mask,
    struct attest_boot *boot, struct attest_reasons *r)
{
	uint32_t touched = 0, separated = 0;
	int localities = 0;

	*boot = (struct attest_boot){ .secure_boot = -1 };
	for (uint32_t i = 0; i < log->nb_events; i++) {
		const struct attest_event *e = &log->event[i];
		const char *name = attest_event_name(e->type);
		enum attest_self self;

		if (e->type == ATTEST_EV_NO_ACTION) {
			if (e->data.len >= sizeof(LOCALITY) &&
			    memcmp(e->data.at, LOCALITY, sizeof(LOCALITY)) == 0 && (mask & 1) != 0)
				check_locality(e, i, localities++ > 0 || (touched & 1) != 0, r);
			continue;
		}
		if ((mask >> e->pcr & 1) == 0)
			continue;
		if (name == NULL) {
			attest_reason(r, ATTEST_EVENT_UNKNOWN,
			    "event %u in PCR %u is of unknown type 0x%x", i, e->pcr, e->type);
			continue;
		}
		if (e->type == ATTEST_EV_SEPARATOR)
			check_separator(e, i, &separated, r);
		if (is_form_bad(e))
			attest_reason(r, ATTEST_EVENT_MALFORMED,
			    "event %u in PCR %u: not the form of %s", i, e->pcr, name);
		self = attest_event_self(log, e, alg);
		if (self == ATTEST_SELF_BAD)
			attest_reason(r, ATTEST_EVENT_DATA_DIGEST,
			    "event %u in PCR %u: the data of this %s is not what was measured", i,
			    e->pcr, name);
		if (self == ATTEST_SELF_GOOD)
			learn(e, separated, i, boot, r);
		if (e->type != ATTEST_EV_EFI_HCRTM_EVENT)
			touched |= UINT32_C(1) << e->pcr;
	}
	for (unsigned int pcr = 0; pcr <= 7; pcr++)
		if ((touched >> pcr & 1) != 0 && (separated >> pcr & 1) == 0)
			attest_reason(r, ATTEST_EVENTLOG_SEPARATOR,
			    "PCR %u has measurements and no separator", pcr);
}
