#pragma once

#include "attest/pcr.h"
#include "attest/reason.h"
#include "lib/diag.h"

/*
 * The log of a measured boot (TCG PC Client Platform Firmware Profile, section 10): what firmware
 * and boot loaders extended into the PCRs, in order.
 *
 * Only the digests are vouched for, and only once the log has been replayed to quoted PCRs.  Types,
 * texts and the events that extend nothing are whatever the host says, unless the digest is that of
 * the data; attest_eventlog_check() tells where that should be so and is not.
 *
 * Parsing is strict about structure and generous about meaning: a log that a real machine wrote is
 * read to its end, unknown types and algorithms included, and judging them is for appraisal.
 */
enum {
	ATTEST_EV_PREBOOT_CERT = 0x00,
	ATTEST_EV_POST_CODE = 0x01,
	ATTEST_EV_NO_ACTION = 0x03,
	ATTEST_EV_SEPARATOR = 0x04,
	ATTEST_EV_ACTION = 0x05,
	ATTEST_EV_EVENT_TAG = 0x06,
	ATTEST_EV_S_CRTM_VERSION = 0x08,
	ATTEST_EV_IPL = 0x0d,
	ATTEST_EV_OMIT_BOOT_DEVICE_EVENTS = 0x12,
	ATTEST_EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001,
	ATTEST_EV_EFI_VARIABLE_BOOT = 0x80000002,
	ATTEST_EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003,
	ATTEST_EV_EFI_BOOT_SERVICES_DRIVER = 0x80000004,
	ATTEST_EV_EFI_RUNTIME_SERVICES_DRIVER = 0x80000005,
	ATTEST_EV_EFI_GPT_EVENT = 0x80000006,
	ATTEST_EV_EFI_ACTION = 0x80000007,
	ATTEST_EV_EFI_PLATFORM_FIRMWARE_BLOB = 0x80000008,
	ATTEST_EV_EFI_HCRTM_EVENT = 0x80000010,
	ATTEST_EV_EFI_VARIABLE_BOOT2 = 0x8000000c,
	ATTEST_EV_EFI_VARIABLE_AUTHORITY = 0x800000e0,
};

#define ATTEST_EVENTLOG_MAX (16U << 20) /* bytes; real logs stay below 1 MiB */
#define ATTEST_EVENTS_MAX   65536

enum attest_eventlog_format {
	ATTEST_EVENTLOG_SHA1,         /* TCG_PCR_EVENT only */
	ATTEST_EVENTLOG_CRYPTO_AGILE, /* TCG_PCR_EVENT2 after a "Spec ID Event03" */
};

struct attest_event {
	size_t off; /* of its first byte in the log */
	uint32_t pcr;
	uint32_t type;
	uint32_t banks; /* bit i: it has a digest for eventlog->bank[i] */
	const uint8_t *digest[ATTEST_BANKS_MAX];
	struct attest_bytes data;
};

struct attest_eventlog {
	enum attest_eventlog_format format;
	unsigned int nb_banks;
	struct {
		uint16_t alg;
		uint16_t size; /* as the log says; equal to the registry's for those we know */
	} bank[ATTEST_BANKS_MAX];
	uint32_t nb_events; /* the Spec ID event is the first of them */
	size_t padding;     /* bytes 0xff after the last event */
	struct attest_event event[];
};

/*
 * Read a whole log.  bytes[0 .. len - 1] are borrowed as long as the result.  The caller owns *out.
 * Returns 0, -EINVAL with event and byte in `d`, or -ENOMEM.  Context: any.
 */
int attest_eventlog_parse(
    struct attest_eventlog **out, const uint8_t *bytes, size_t len, struct pk_diag *d);
void attest_eventlog_destroy(struct attest_eventlog *log);

/*
 * What the log makes of the PCRs in the bank of `alg`; the mask tells which it touched.  EV_NO_ACTION
 * extends nothing; StartupLocality, or an H-CRTM event, decides what PCR 0 starts from.
 * Returns 0, -ENOENT if the log has no such bank, -ENOTSUP if OpenSSL lacks the hash, or -ENOMEM.
 */
int attest_eventlog_replay(
    const struct attest_eventlog *log, uint16_t alg, struct attest_bank *out);

/* The digest of an event in a bank, or NULL. */
const uint8_t *attest_event_digest(
    const struct attest_eventlog *log, const struct attest_event *e, uint16_t alg);

/* "EV_SEPARATOR", or NULL for a type that no specification we know lists. */
const char *attest_event_name(uint32_t type);

/* UEFI_VARIABLE_DATA: little-endian GUID, name in UTF-16 made ASCII ('?' for the rest), value. */
struct attest_variable {
	char guid[37];
	char name[128];
	struct attest_bytes value;
};

/* Returns 0 or -EINVAL.  Lengths that do not add up to exactly the event are refused. */
int attest_event_variable(struct attest_bytes data, struct attest_variable *out);

/* UEFI_IMAGE_LOAD_EVENT: where the image was, and its device path in binary. */
struct attest_image {
	uint64_t address, len, link_address;
	struct attest_bytes device_path;
};
int attest_event_image(struct attest_bytes data, struct attest_image *out);

/* TCG_PCClientTaggedEvent; Linux's EFI stub uses 0x8f3b22ec (initrd) and ..ed (load options). */
struct attest_tag {
	uint32_t id;
	struct attest_bytes data;
};
int attest_event_tag(struct attest_bytes data, struct attest_tag *out);

/* Whether the digest in `alg` is over the event's data, for the types where it has to be. */
enum attest_self {
	ATTEST_SELF_NOT_SAID, /* this type's digest is over something else */
	ATTEST_SELF_BAD,
	ATTEST_SELF_GOOD,
};
enum attest_self attest_event_self(
    const struct attest_eventlog *log, const struct attest_event *e, uint16_t alg);

/* What a checked log tells about the boot.  `cmdline` is borrowed from the log. */
struct attest_boot {
	int secure_boot;             /* 1 on, 0 off, -1 not told */
	struct attest_bytes cmdline; /* .at NULL when not told */
};

/*
 * Everything about the log itself that makes it unfit to be believed, as reasons: unknown types,
 * data that is not what was measured, separators, locality.  PCRs outside `mask` are not judged,
 * for no quote vouches for them.  What can be believed comes back in *boot.
 */
void attest_eventlog_check(const struct attest_eventlog *log, uint16_t alg, uint32_t mask,
    struct attest_boot *boot, struct attest_reasons *r);
